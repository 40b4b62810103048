//! What a server says of a token (RFC 7662 §2.2), checked.
//!
//! `active` must be a boolean; everything else may be missing, and counts where it stands. A server that knows a token may still
//! mean another service, or another kind of token, by it.

use crate::auth::JwtSettings;
use crate::auth::facts;
use crate::auth::issuer::introspection::AskSettings;
use crate::auth::json::object;
use crate::auth::jwt::{Refusal, Verified, Verifier, instant};
use crate::domain::time::Timestamp;
use serde_json::{Map, Value};

/// Members about the answer and the token, not about the subject.
const ABOUT_THE_ANSWER: [&str; 4] = ["active", "token_type", "token_use", "cnf"];
/// `token_type` values of access tokens (RFC 6750 §4, RFC 9449 §5). A refresh token is none.
const TYPES: [&str; 2] = ["bearer", "dpop"];
/// `token_use` values of access tokens, where a server tells them from others.
const USES: [&str; 2] = ["access_token", "access"];

/// What came of an answer.
#[derive(Debug)]
pub(super) enum Heard {
    /// The token is believed until `expires_at`.
    Believed(Box<Verified>),
    /// It is not.
    Refused(Refusal),
    /// The answer is none.
    Unusable,
}

/// Reads an answer with status 200. `until` is how long a token is believed that has no `exp`.
pub(super) fn heard(
    body: &[u8],
    reader: &Verifier,
    asked: (&JwtSettings, &AskSettings),
    wall: Timestamp,
    until: Timestamp,
) -> Heard {
    let Ok(claims) = object(body) else { return Heard::Unusable };
    match claims.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Heard::Refused(Refusal::Inactive),
        _ => return Heard::Unusable,
    }
    match check(claims, reader, asked, wall, until) {
        Ok(verified) => Heard::Believed(Box::new(verified)),
        Err(why) => Heard::Refused(why),
    }
}

fn check(
    mut claims: Map<String, Value>,
    reader: &Verifier,
    (settings, asked): (&JwtSettings, &AskSettings),
    wall: Timestamp,
    until: Timestamp,
) -> Result<Verified, Refusal> {
    let one_of = |name: &str, known: &[&str]| {
        let is_known = |value: &Value| {
            value.as_str().is_some_and(|value| known.iter().any(|known| value.eq_ignore_ascii_case(known)))
        };
        claims.get(name).is_none_or(is_known)
    };
    if !one_of("token_type", &TYPES) || !one_of("token_use", &USES) {
        return Err(Refusal::Type);
    }
    if let Some(issuer) = &asked.issuer
        && claims.get("iss").is_some_and(|said| said.as_str() != Some(issuer))
    {
        return Err(Refusal::Issuer);
    }
    check_audience(claims.get("aud"), &settings.audience)?;
    let said =
        |name: &str| claims.get(name).map(|value| instant(value).ok_or(Refusal::Malformed)).transpose();
    // The server judges by its own clock; ours need not be later than it says.
    let expires_at = said("exp")?.unwrap_or(until);
    if wall >= expires_at {
        return Err(Refusal::Expired);
    }
    if said("nbf")?.is_some_and(|begins_at| wall.plus(settings.leeway) < begins_at) {
        return Err(Refusal::NotYet);
    }
    let token = facts::facts(&claims)?;
    claims.retain(|name, _| !ABOUT_THE_ANSWER.contains(&name.as_str()));
    Ok(Verified { identity: reader.identity(&claims)?, expires_at, token })
}

/// Where the file names audiences, one of them must stand in the answer.
fn check_audience(said: Option<&Value>, ours: &[String]) -> Result<(), Refusal> {
    if ours.is_empty() {
        return Ok(());
    }
    let is_ours = |one: &Value| one.as_str().is_some_and(|one| ours.iter().any(|own| own == one));
    let for_us = match said {
        Some(one @ Value::String(_)) => is_ours(one),
        Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(is_ours),
        _ => false,
    };
    if for_us { Ok(()) } else { Err(Refusal::Audience) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::JwtKeys;
    use crate::auth::forge::settings;
    use crate::auth::issuer::client::IssuerAccess;
    use crate::auth::issuer::client_auth::{Client, ClientProof};
    use crate::auth::issuer::url::IssuerUrl;
    use crate::domain::identity::{Claim, SCOPE};
    use crate::domain::secret::Secret;
    use crate::domain::token_facts::Confirmation;
    use serde_json::json;
    use std::time::Duration;

    /// What is heard when a server says this at that time, by an entry that names this issuer and audience.
    fn hear(answer: &Value, at: u64, issuer: Option<&str>, audience: &[&str]) -> Heard {
        let access = IssuerAccess {
            authorities: None,
            certificate: None,
            timeout: Duration::from_secs(1),
            idle_max: 0,
        };
        let asking = AskSettings {
            url: IssuerUrl::parse("https://server.example.com/introspect").expect("a URL"),
            issuer: issuer.map(str::to_owned),
            client: Client { id: "gw".to_owned(), proof: ClientProof::Basic(Secret::new("s".to_owned())) },
            cache: Duration::from_secs(30),
            parallel: 1,
            access,
        };
        let mut entry = settings(&[], JwtKeys::Asked(Box::new(asking.clone())));
        entry.audience = audience.iter().map(|&one| one.to_owned()).collect();
        let wall = Timestamp::from_secs(at);
        let reader = Verifier::reader(&entry);
        heard(answer.to_string().as_bytes(), &reader, (&entry, &asking), wall, wall.plus(asking.cache))
    }

    fn believed(heard: Heard) -> Verified {
        match heard {
            Heard::Believed(verified) => *verified,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(heard: &Heard) -> Refusal {
        match heard {
            Heard::Refused(why) => *why,
            other => panic!("{other:?}"),
        }
    }

    /// RFC 7662 §2.2, both answers.
    #[test]
    fn the_answers_of_the_rfc_are_understood() {
        let answer = json!({
            "active": true, "client_id": "l238j323ds-23ij4", "username": "jdoe", "scope": "read write dolphin",
            "sub": "Z5O3upPC88QrAjx00dis", "aud": "https://protected.example.net/resource",
            "iss": "https://server.example.com/", "exp": 1_419_356_238, "iat": 1_419_350_238,
            "extension_field": "twenty-seven",
        });
        let (issuer, audience) =
            (Some("https://server.example.com/"), "https://protected.example.net/resource");
        let verified = believed(hear(&answer, 1_419_350_300, issuer, &[audience]));
        assert_eq!(verified.expires_at, Timestamp::from_secs(1_419_356_238));
        assert_eq!(verified.token.issued_at, Some(Timestamp::from_secs(1_419_350_238)));
        let identity = verified.identity.as_ref();
        assert_eq!(identity.subject(), "Z5O3upPC88QrAjx00dis");
        assert_eq!(
            identity.claim(SCOPE).map(|scope| scope.header_form().to_owned()).as_deref(),
            Some("read,write,dolphin")
        );
        assert_eq!(identity.claim("extension_field"), Some(Claim::Text("twenty-seven")));
        for name in ["active", "exp", "aud", "iss"] {
            assert_eq!(identity.claim(name), None, "{name} says nothing about the subject");
        }
        for (at, issuer, audience, expected) in [
            (1_419_356_238, issuer, audience, Refusal::Expired),
            (1_419_350_300, Some("https://server.example.com"), audience, Refusal::Issuer),
            (1_419_350_300, issuer, "https://protected.example.net/", Refusal::Audience),
        ] {
            assert_eq!(refusal(&hear(&answer, at, issuer, &[audience])), expected);
        }
        assert_eq!(refusal(&hear(&json!({ "active": false }), 1_419_350_300, None, &[])), Refusal::Inactive);
    }

    /// RFC 9449 §6.2 and RFC 8705 §3.2: what the presenter must hold is heard.
    #[test]
    fn an_answer_says_what_a_token_is_bound_to() {
        let server = Some("https://server.example.com");
        let to_key = json!({
            "active": true, "sub": "someone@example.com", "iss": "https://server.example.com",
            "nbf": 1_562_262_611, "exp": 1_562_266_216, "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" },
        });
        let verified = believed(hear(&to_key, 1_562_262_618, server, &[]));
        assert!(matches!(verified.token.confirmation, Some(Confirmation::Jkt(_))), "{verified:?}");
        assert_eq!(refusal(&hear(&to_key, 1_562_262_000, server, &[])), Refusal::NotYet);
        let to_certificate = json!({
            "active": true, "iss": "https://server.example.com", "sub": "ty.webb@example.com",
            "exp": 1_493_726_400, "nbf": 1_493_722_800,
            "cnf": { "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" },
        });
        let verified = believed(hear(&to_certificate, 1_493_722_800, server, &[]));
        assert!(
            matches!(verified.token.confirmation, Some(Confirmation::CertificateS256(_))),
            "{verified:?}"
        );
        assert_eq!(verified.identity.as_ref().claim("cnf"), None);
    }

    #[test]
    fn an_answer_with_one_thing_wrong_is_none_or_refuses() {
        let changed = |name: &str, value: Value| {
            let mut answer = json!({ "active": true, "sub": "alice", "exp": 2_000 });
            answer[name] = value;
            hear(&answer, 1_000, Some("https://server.example.com"), &[])
        };
        believed(changed("username", json!("x")));
        for active in [json!("true"), json!(1), json!(null), json!({})] {
            assert!(matches!(changed("active", active.clone()), Heard::Unusable), "{active}");
        }
        for (name, value, expected) in [
            ("token_type", json!("refresh_token"), Refusal::Type),
            ("token_type", json!(7), Refusal::Type),
            ("token_use", json!("id"), Refusal::Type),
            ("iss", json!("https://evil.example"), Refusal::Issuer),
            ("iss", json!(["https://server.example.com"]), Refusal::Issuer),
            ("exp", json!(1_000), Refusal::Expired),
            ("exp", json!("2000"), Refusal::Malformed),
            ("nbf", json!(1_031), Refusal::NotYet),
            ("nbf", json!(null), Refusal::Malformed),
            ("cnf", json!({ "kid": "a" }), Refusal::Confirmation),
            ("sub", json!(""), Refusal::Subject),
            ("sub", json!(7), Refusal::Subject),
        ] {
            assert_eq!(refusal(&changed(name, value.clone())), expected, "{name} {value}");
        }
        let forever = believed(hear(&json!({ "active": true, "sub": "alice" }), 1_000, None, &[]));
        assert_eq!(forever.expires_at, Timestamp::from_secs(1_030), "as long as it may be held");
        for audience in
            [json!(null), json!([]), json!(["other"]), json!(["wiki", 7]), json!({ "wiki": true })]
        {
            let answer = json!({ "active": true, "sub": "alice", "aud": audience });
            assert_eq!(refusal(&hear(&answer, 1_000, None, &["wiki"])), Refusal::Audience, "{answer}");
        }
    }
}
