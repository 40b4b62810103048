//! A token, check by check, for people: what `explain --token` prints, and what the log says beside a refusal's reason.
//!
//! Nothing is decided here. [`Verifier::verify`] is the judge, stops at the first check that fails, and has the last line of
//! an examination; these go on, for who reads them wants to see everything that is wrong.

use super::{LEEWAY_MAX, Parts, Refusal, TOKEN_BYTES_MAX, Verifier, decoded, instant, is_access_token};
use crate::auth::claims::{self, Mapping};
use crate::auth::facts;
use crate::auth::json::object;
use crate::auth::jwks;
use crate::domain::identity::Claims;
use crate::domain::time::Timestamp;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// So much of one value of a token is told.
const TOLD_CHARS_MAX: usize = 80;

/// One check of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub outcome: Outcome,
    /// What was found.
    pub told: String,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it must be.
    Holds,
    /// It is not.
    Fails,
    /// That can be said only where somebody is asked.
    Open,
}

impl Outcome {
    fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Open => "open",
        })
    }
}

impl Verifier {
    /// Every check of a token with its result, the verdict last.
    pub fn examine(&self, token: &str, wall: Timestamp) -> Vec<Check> {
        let mut checks = Vec::new();
        self.look_at(token, wall, &mut checks);
        let verdict = self.verify(token, wall);
        let told = verdict.as_ref().map_or_else(|why| why.reason(), |_| "believed").to_owned();
        let outcome = match verdict {
            Err(Refusal::NoKeys) if checks.iter().all(|check| check.outcome != Outcome::Fails) => {
                Outcome::Open
            }
            verdict => Outcome::of(verdict.is_ok()),
        };
        checks.push(Check { name: "verdict", outcome, told });
        checks
    }

    /// Why exactly a token was refused: one value of it, bounded, and never its signature. For the log.
    pub fn detail(&self, token: &str, why: Refusal, wall: Timestamp) -> Option<String> {
        let parts = Parts::of(token).ok()?;
        let part = |part| decoded(part).ok().and_then(|bytes| object(&bytes).ok());
        let (header, claims) = (|| part(parts.header), || part(parts.payload));
        let member = |name: &str, object: Option<Map<String, Value>>| {
            let value =
                object.as_ref().and_then(|object| object.get(name)).map_or("absent".to_owned(), shown);
            Some(format!("{name} {value}"))
        };
        match why {
            Refusal::Critical => member("crit", header()),
            Refusal::Type => member("typ", header()),
            Refusal::Algorithm => member("alg", header()),
            Refusal::UnknownKey | Refusal::Signature => member("kid", header()),
            Refusal::Issuer => member("iss", claims()),
            Refusal::Audience => member("aud", claims()),
            Refusal::NoExpiry => member("exp", claims()),
            Refusal::Expired => Some(ago("expired", wall.since(claims()?.get("exp").and_then(instant)?))),
            Refusal::NotYet => {
                Some(format!("begins in {}", seconds(claims()?.get("nbf").and_then(instant)?.since(wall))))
            }
            _ => None,
        }
    }

    fn look_at(&self, token: &str, wall: Timestamp, checks: &mut Vec<Check>) {
        let mut say = |name, outcome, told: String| checks.push(Check { name, outcome, told });
        let length = token.len();
        let size = Outcome::of(length <= TOKEN_BYTES_MAX);
        say("size", size, format!("{length} bytes of at most {TOKEN_BYTES_MAX}"));
        let parts = match Parts::of(token) {
            Ok(parts) => parts,
            Err(Refusal::TooLong) => return,
            Err(Refusal::Encrypted) => {
                return say("form", Outcome::Fails, "five parts: an encrypted token".to_owned());
            }
            Err(_) => return say("form", Outcome::Fails, "not three parts with dots between".to_owned()),
        };
        let read = |part| decoded(part).and_then(|bytes| object(&bytes).map_err(Refusal::from));
        let (header, claims) = (read(parts.header), read(parts.payload));
        for (name, part) in [("header", &header), ("payload", &claims)] {
            let told = match part {
                Ok(object) => format!("an object with {} members", object.len()),
                Err(Refusal::Duplicate) => "a name stands twice".to_owned(),
                Err(_) => "no JSON object in base64url without padding".to_owned(),
            };
            say(name, Outcome::of(part.is_ok()), told);
        }
        if let Ok(header) = &header {
            let member = |name| header.get(name).map_or_else(|| "absent".to_owned(), shown);
            for name in ["crit", "b64"].into_iter().filter(|name| header.contains_key(*name)) {
                say(name, Outcome::Fails, format!("{}: such tokens are not accepted", member(name)));
            }
            let checked = self.check_header(header);
            let typ = format!("{}; accepted: {}", member("typ"), self.settings.types.join(", "));
            say("typ", Outcome::of(checked != Err(Refusal::Type)), typ);
            let accepted: Vec<String> =
                self.settings.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
            let algorithm = header.get("alg").and_then(Value::as_str).and_then(jwks::algorithm);
            let is_accepted = algorithm.is_some_and(|one| self.settings.algorithms.contains(&one));
            let alg = Outcome::of(is_accepted);
            say("alg", alg, format!("{}; accepted: {}", member("alg"), accepted.join(", ")));
            if let Ok((algorithm, kid)) = checked {
                let signature = self.check_signature(&parts, algorithm, kid);
                let told = match signature {
                    Ok(()) => "by a key of this entry".to_owned(),
                    Err(Refusal::UnknownKey) => {
                        "no key of this entry has this `kid` and fits `alg`".to_owned()
                    }
                    Err(Refusal::NoKeys) => "the issuer's keys are fetched by a running gateway".to_owned(),
                    Err(Refusal::Issuer) => "not looked at: the token is another issuer's".to_owned(),
                    Err(_) => "by no key of this entry, or the token was changed".to_owned(),
                };
                let outcome = match signature {
                    Err(Refusal::NoKeys | Refusal::Issuer) => Outcome::Open,
                    signature => Outcome::of(signature.is_ok()),
                };
                say("signature", outcome, format!("{told}; kid {}", member("kid")));
            }
        }
        if let Ok(claims) = &claims {
            let mut weigh = |name, holds, told| say(name, Outcome::of(holds), told);
            self.look_at_claims(claims, wall, &mut weigh);
        }
    }

    fn look_at_claims(
        &self,
        claims: &Map<String, Value>,
        wall: Timestamp,
        say: &mut dyn FnMut(&'static str, bool, String),
    ) {
        let settings = &self.settings;
        let member = |name: &str| claims.get(name).map_or_else(|| "absent".to_owned(), shown);
        let is_issuer = claims.get("iss").and_then(Value::as_str) == Some(&*settings.issuer);
        say("iss", is_issuer, format!("{}; accepted: {}", member("iss"), settings.issuer));
        let audience = format!("{}; accepted: {}", member("aud"), settings.audience.join(", "));
        say("aud", self.is_for_us(claims), audience);
        let leeway = settings.leeway.min(LEEWAY_MAX);
        match claims.get("exp").and_then(instant) {
            Some(at) if wall < at => say("exp", true, format!("{at}, in {}", seconds(at.since(wall)))),
            Some(at) => {
                let told = format!("{at}, {}; leeway {}", ago("", wall.since(at)).trim(), seconds(leeway));
                say("exp", wall < at.plus(leeway), told);
            }
            None => say("exp", false, format!("{}: no instant", member("exp"))),
        }
        if claims.contains_key("nbf") {
            match claims.get("nbf").and_then(instant) {
                Some(at) => say("nbf", wall.plus(leeway) >= at, at.to_string()),
                None => say("nbf", false, format!("{}: no instant", member("nbf"))),
            }
        }
        if settings.access_tokens_only {
            let told = "sub, client_id and jti are text, iat a number (RFC 9068)".to_owned();
            say("profile", is_access_token(claims), told);
        }
        let subject = claims.get(&settings.subject).and_then(Value::as_str);
        let is_told = subject.is_some_and(|subject| !subject.is_empty());
        say("subject", is_told, format!("{} {}", settings.subject, member(&settings.subject)));
        if let Ok(told) = self.told(claims) {
            let names: Vec<&str> = told.keys().map(String::as_str).collect();
            say("claims", true, if names.is_empty() { "none".to_owned() } else { cut(&names.join(", ")) });
        } else {
            let may_tell_email = self.is_email_verified(claims);
            let lacks = |mapping: &&Mapping| {
                let alone = std::slice::from_ref(*mapping);
                claims::map(alone, claims, may_tell_email, &mut Claims::new()).is_err()
            };
            let missing: Vec<&str> =
                settings.claims.iter().filter(lacks).map(|mapping| &*mapping.name).collect();
            say("claims", false, format!("required and not found: {}", cut(&missing.join(", "))));
        }
        match facts::facts(claims) {
            Ok(facts) if facts.confirmation.is_some() => {
                say("cnf", true, "bound: every request needs the proof".to_owned());
            }
            Ok(_) => {}
            Err(_) => say("facts", false, "jti, iat or cnf is of a kind that is not known here".to_owned()),
        }
    }
}

/// A value as it stands, cut; other scripts and control characters escaped.
fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    let escaped = text.chars().flat_map(|char| {
        let plain = (' '..='~').contains(&char);
        let escaped = (!plain).then(|| char.escape_unicode());
        plain.then_some(char).into_iter().chain(escaped.into_iter().flatten())
    });
    let mut kept: String = escaped.take(TOLD_CHARS_MAX + 1).collect();
    if kept.len() > TOLD_CHARS_MAX {
        kept.truncate(TOLD_CHARS_MAX);
        kept.push('…');
    }
    kept
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

fn ago(what: &str, span: Duration) -> String {
    format!("{what} {} ago", seconds(span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::forge::{NOON, claims_with, hs256, symmetric, verifier};
    use serde_json::json;

    const HS256: &str = r#"{"alg":"HS256","kid":"one"}"#;

    #[test]
    fn an_examination_names_what_fails_and_agrees_with_the_verdict() {
        let verifier = verifier(&symmetric(), "").expect("a good secret");
        let noon = NOON.as_secs();
        let token = |changed| hs256(HS256, &claims_with(&changed));
        let good = token(json!({}));
        let (message, _) = good.rsplit_once('.').expect("two dots");
        for (token, failing) in [
            (good.clone(), &[][..]),
            (token(json!({ "exp": noon - 33 })), &["exp"]),
            (token(json!({ "aud": "other", "iss": "x" })), &["iss", "aud"]),
            (token(json!({ "nbf": noon + 100 })), &["nbf"]),
            (token(json!({ "sub": 7 })), &["subject"]),
            (token(json!({ "cnf": {} })), &["facts"]),
            (hs256(r#"{"alg":"none"}"#, "{}"), &["alg", "iss", "aud", "exp", "subject"]),
            (format!("{message}.AAAA"), &["signature"]),
            ("a.b".to_owned(), &["form"]),
            ("a.b.c".to_owned(), &["header", "payload"]),
            ("x".repeat(9000), &["size"]),
        ] {
            let checks = verifier.examine(&token, NOON);
            let (verdict, checks) = checks.split_last().expect("a verdict");
            let failed: Vec<&str> = checks
                .iter()
                .filter(|check| check.outcome != Outcome::Holds)
                .map(|check| check.name)
                .collect();
            assert_eq!(failed, failing, "{token:.80}");
            assert_eq!(verdict.outcome == Outcome::Holds, failing.is_empty(), "{token:.80}");
            assert_eq!(verdict.outcome, Outcome::of(verifier.verify(&token, NOON).is_ok()), "{token:.80}");
        }
    }

    #[test]
    fn the_log_gets_the_value_that_was_wrong_and_no_more() {
        let verifier = verifier(&symmetric(), "").expect("a good secret");
        let noon = NOON.as_secs();
        for (changed, expected) in [
            (json!({ "exp": noon - 33 }), Some("expired 33 s ago")),
            (json!({ "nbf": noon + 90 }), Some("begins in 90 s")),
            (json!({ "aud": ["blog"] }), Some(r#"aud ["blog"]"#)),
            (json!({ "iss": "https://evil.example\n" }), Some(r#"iss "https://evil.example\n""#)),
            (json!({ "iss": null }), Some("iss absent")),
            (json!({ "sub": "" }), None),
        ] {
            let token = hs256(HS256, &claims_with(&changed));
            let why = verifier.verify(&token, NOON).expect_err("something is wrong");
            assert_eq!(verifier.detail(&token, why, NOON).as_deref(), expected, "{changed}");
        }
        let long = hs256(HS256, &claims_with(&json!({ "aud": "é".repeat(500) })));
        let told = verifier.detail(&long, Refusal::Audience, NOON).expect("a detail");
        assert!(told.chars().count() <= TOLD_CHARS_MAX + 5 && told.contains("\\u{e9}"), "{told}");
    }
}
