//! A signed statement to an application about who a request comes from: what an identity header says, with a proof.
//!
//! A JWT (RFC 7519) with `iss` from the file, `aud` the upstream's name, `sub`, `source`, `email`, `groups`, `sid` (the public id of a
//! session; a bearer token has none), `iat`, `exp` and `jti`. It is good for `lifetime`, and never longer than the session or
//! the token that it speaks of. An application that checks it need not trust the network between.
//!
//! Signing costs more than the rest of an admission. So each assertion is kept ([`held`]) until half of its life is over, and signed
//! anew for whom it does not fit any more: other claims, another token, another upstream, another configuration.

mod held;
mod key;

pub use key::{AssertionKey, AssertionKeyError, KeyKind, TYPE, generate};

use crate::domain::decision::Credential;
use crate::domain::identity::{Claim, EMAIL, GROUPS, IdentityRef, decode};
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use held::{Fits, Held};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// `identity.assertion` of the file.
#[derive(Clone, Debug)]
pub struct AssertionSettings {
    /// The header that carries it.
    pub header: HeaderName,
    /// `iss`.
    pub issuer: String,
    /// The first signs; the public halves of all are published.
    pub keys: Vec<AssertionKey>,
    /// From `iat` to `exp`, at the longest.
    pub lifetime: Duration,
}

/// Why there is no assertion about somebody of whom there should be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no assertion could be signed")]
pub struct Unsigned;

/// Signs assertions of one configuration, and remembers them.
pub struct Assertions {
    settings: AssertionSettings,
    held: Held,
    published: Published,
}

/// The public halves of the keys, as anybody may fetch them.
#[derive(Clone, Debug)]
pub struct Published {
    /// A JWK Set (RFC 7517 §5).
    pub set: Bytes,
    /// The entity tag of the set, strong (RFC 9110 §8.8.3).
    pub tag: HeaderValue,
}

/// To whom an assertion speaks.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    /// The upstream's name: `aud`.
    pub name: &'a str,
    /// Its number in the configuration.
    pub number: usize,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    iat: u64,
    exp: u64,
    jti: String,
}

impl Assertions {
    /// Signs as the settings say. Make a new one whenever they change: what was signed before is forgotten with the old.
    pub fn new(settings: AssertionSettings) -> Self {
        let keys: Vec<&Value> = settings.keys.iter().map(AssertionKey::public).collect();
        let set = Bytes::from(json!({ "keys": keys }).to_string());
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest(&SHA256, &set)));
        let tag = HeaderValue::from_str(&tag).expect("base64 between quotes is a header value");
        Self { settings, held: Held::default(), published: Published { set, tag } }
    }

    /// The header that carries them.
    pub fn header(&self) -> &HeaderName {
        &self.settings.header
    }

    /// What verifies them.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The assertion about whoever holds `credential`, mostly from memory: then it costs a lock of its own and a comparison of the
    /// claims, and allocates nothing. `left` says how long the credential still counts; it is asked only where one is signed.
    ///
    /// The wall clock decides, as it does for whoever checks `exp`. One that was set back forgets what was signed later.
    pub fn about(
        &self,
        credential: &Credential,
        audience: Audience<'_>,
        wall: Timestamp,
        left: impl FnOnce() -> Duration,
    ) -> Result<HeaderValue, Unsigned> {
        let fits = Fits::new(credential, audience.number);
        if let Some(value) = self.held.find(&fits, wall) {
            return Ok(value);
        }
        let (value, ends_at) = self.sign(credential, audience.name, wall, left())?;
        self.held.keep(&fits, value.clone(), wall, ends_at);
        Ok(value)
    }

    fn sign(
        &self,
        credential: &Credential,
        audience: &str,
        wall: Timestamp,
        left: Duration,
    ) -> Result<(HeaderValue, Timestamp), Unsigned> {
        let identity = credential.identity();
        // NumericDate in whole seconds; down, so that it is never beyond the end.
        let iat = wall.as_millis() / 1000;
        let exp = wall.plus(self.settings.lifetime.min(left)).as_millis() / 1000;
        let mut jti = [0; 16];
        getrandom::fill(&mut jti).map_err(|_| Unsigned)?;
        let claims = Claims {
            iss: &self.settings.issuer,
            aud: audience,
            sub: decode(identity.subject()),
            source: decode(identity.source()),
            email: identity.claim(EMAIL).map(|email| decode(email.header_form())),
            groups: groups(identity),
            sid: credential.session().map(crate::domain::session::Session::id),
            iat,
            exp,
            jti: URL_SAFE_NO_PAD.encode(jti),
        };
        let claims = serde_json::to_vec(&claims).map_err(|_| Unsigned)?;
        let key = self.settings.keys.first().ok_or(Unsigned)?;
        let token = key.sign(&claims).map_err(|_| Unsigned)?;
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(token)).map_err(|_| Unsigned)?;
        value.set_sensitive(true);
        Ok((value, Timestamp::from_secs(exp)))
    }
}

fn groups(identity: IdentityRef<'_>) -> Vec<String> {
    match identity.claim(GROUPS) {
        Some(Claim::List(items)) => items.split(',').map(decode).collect(),
        Some(Claim::Text(item)) => vec![decode(item)],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::decision::Believed;
    use crate::domain::identity::{ClaimValue, Claims as IdentityClaims, Identity};
    use crate::domain::token_facts::TokenFacts;
    use std::sync::Arc;

    const WIKI: Audience<'_> = Audience { name: "wiki", number: 0 };

    fn assertions() -> Assertions {
        let key = generate(KeyKind::EdDsa).expect("randomness");
        Assertions::new(AssertionSettings {
            header: HeaderName::from_static("x-auth-assertion"),
            issuer: "https://gw.example.com".to_owned(),
            keys: vec![AssertionKey::from_pem(key.as_bytes()).expect("a key")],
            lifetime: Duration::from_mins(1),
        })
    }

    fn token(groups: &[&str], expires_at: u64) -> Credential {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let claims = IdentityClaims::from([
            (GROUPS.to_owned(), ClaimValue::List(groups)),
            (EMAIL.to_owned(), ClaimValue::Text("zoë@example.com".to_owned())),
        ]);
        Credential::Token(Arc::new(Believed {
            token: TokenFacts::default(),
            identity: Identity::new("Zoë, %41", "https://id.example.com", &claims).expect("an identity"),
            expires_at: Timestamp::from_secs(expires_at),
            entry: EntryId(7),
            verified_at: Timestamp::from_secs(1),
        }))
    }

    fn claims(value: &HeaderValue) -> Value {
        let text = value.to_str().expect("ASCII").split('.').nth(1).expect("claims");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
    }

    #[test]
    fn it_says_who_in_plain_text_and_for_how_long() {
        let (assertions, wall) = (assertions(), Timestamp::from_millis(1_000_900));
        let zoe = token(&["ops", "a,b"], 2000);
        let value = assertions.about(&zoe, WIKI, wall, || Duration::from_hours(1)).expect("signed");
        let claims = claims(&value);
        assert_eq!(claims["iss"], "https://gw.example.com");
        assert_eq!(claims["aud"], "wiki");
        assert_eq!(claims["sub"], "Zoë, %41");
        assert_eq!(claims["source"], "https://id.example.com");
        assert_eq!(claims["email"], "zoë@example.com");
        assert_eq!(claims["groups"], json!(["ops", "a,b"]));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1000), &json!(1060)));
        assert_eq!(claims.get("sid"), None, "a bearer token has no session");
        assert!(format!("{value:?}").contains("Sensitive"));
    }

    #[test]
    fn it_never_outlives_what_it_speaks_of() {
        let wall = Timestamp::from_secs(1000);
        for (left, exp) in [(3_600_000, 1060), (60_000, 1060), (10_999, 1010), (999, 1000)] {
            let value = assertions().about(&token(&[], 2000), WIKI, wall, || Duration::from_millis(left));
            assert_eq!(claims(&value.expect("signed"))["exp"], exp, "{left} ms left");
        }
    }

    #[test]
    fn one_is_kept_for_half_of_its_life_and_for_nobody_else() {
        let assertions = assertions();
        let ask = |credential: &Credential, audience, secs| {
            let wall = Timestamp::from_secs(secs);
            assertions.about(credential, audience, wall, || Duration::from_hours(1)).expect("signed")
        };
        let zoe = token(&["ops"], 5000);
        let first = ask(&zoe, WIKI, 1000);
        assert_eq!(ask(&zoe, WIKI, 1029), first);
        assert_ne!(ask(&zoe, Audience { name: "shop", number: 1 }, 1000), first, "another upstream");
        assert_ne!(ask(&token(&["ops", "admin"], 5000), WIKI, 1000), first, "other claims");
        assert_ne!(ask(&token(&["ops"], 5001), WIKI, 1000), first, "another token");
        let second = ask(&zoe, WIKI, 1030);
        assert_ne!(second, first, "half of its life is over");
        assert_ne!(ask(&zoe, WIKI, 1029), second, "the clock was set back");
    }

    #[test]
    fn the_set_has_a_tag_that_is_new_with_the_keys() {
        let (one, other) = (assertions(), assertions());
        let set: Value = serde_json::from_slice(&one.published().set).expect("JSON");
        assert_eq!(set["keys"][0]["kid"], one.settings.keys[0].id());
        assert_eq!(set["keys"][0].get("d"), None, "no private half");
        assert_ne!(one.published().tag, other.published().tag);
    }
}
