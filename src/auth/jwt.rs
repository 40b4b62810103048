//! A signed bearer token: RFC 7519 in the compact serialisation of RFC 7515, by the rules of RFC 8725.
//!
//! Cheap checks come first (size, form, header), then the signature, then the claims; [`Refusal`] lists them in that
//! order. `jsonwebtoken` verifies signatures; everything around them is done here, once and strictly, because its
//! claim checks let an absent or ill-typed `iss` or `aud` pass and read a clock of their own. Every member name must
//! stand once. Not accepted at all: encrypted tokens (JWE), `crit`, `b64`, keys that the token itself brings.

mod examine;
#[cfg(test)]
mod examples;

pub use examine::{Check, Outcome};

use crate::auth::JwtSettings;
use crate::auth::claims::{self, plain};
use crate::auth::facts::{self, NoFacts};
use crate::auth::issuer::key_set::KeySet;
use crate::auth::issuer::question::Question;
use crate::auth::json::{NotAnObject, object};
use crate::auth::jwks::{self, Key, KeyError, Keys};
use crate::domain::access::EntryId;
use crate::domain::identity::{Claims, EMAIL, Identity, SCOPE};
use crate::domain::time::Timestamp;
use crate::domain::token_facts::TokenFacts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer tokens are not looked at.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Clocks may differ by so much at most.
pub const LEEWAY_MAX: Duration = Duration::from_mins(2);
/// So many keys are tried for a token that does not say which one signed it.
const TRIES_MAX: usize = 8;

/// Claims about the token itself (RFC 7519 §4.1, `OpenID` Connect Core §2): they say nothing about the subject.
const ABOUT_THE_TOKEN: [&str; 9] = ["iss", "aud", "exp", "nbf", "iat", "jti", "nonce", "at_hash", "c_hash"];

/// Why a token is not believed, in the order of the checks.
///
/// `Display` is for the client and gives nothing away; [`Refusal::reason`] is for the log and the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("the token is not accepted")]
pub enum Refusal {
    /// More than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// Five parts: a JWE (RFC 7516).
    Encrypted,
    /// Not three parts of base64url with JSON objects in the first two, or a member of the wrong type.
    Malformed,
    /// A member name stands twice.
    Duplicate,
    /// `crit`: something we would have to understand (RFC 7515 §4.1.11).
    Critical,
    /// `b64`: a payload that is not encoded (RFC 7797).
    Unencoded,
    /// `typ` names another kind of token.
    Type,
    /// `alg` is not one that the entry believes.
    Algorithm,
    /// The issuer's keys are not known at the moment: nobody can say.
    NoKeys,
    /// No key has this `kid` and may be used with this `alg`.
    UnknownKey,
    /// Signed by none of the keys, or changed.
    Signature,
    /// The server that was asked about it says that it is not active (RFC 7662 §2.2).
    Inactive,
    /// `iss` is absent, no string, or another.
    Issuer,
    /// `aud` is absent, ill-typed, or names others only.
    Audience,
    /// `exp` is absent or no number.
    NoExpiry,
    /// `exp` has come.
    Expired,
    /// `nbf` has not come.
    NotYet,
    /// A claim that RFC 9068 §2.2 requires of access tokens is absent or of another type.
    Profile,
    /// The subject's claim is absent, empty or no string.
    Subject,
    /// `cnf` asks its presenter for a proof that is not known here (RFC 7800 §3.1).
    Confirmation,
    /// A claim that the entry requires is absent.
    Required,
    /// The claims are longer than an upstream could be told.
    Claims,
}

impl Refusal {
    /// For the log and the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Encrypted => "token_encrypted",
            Self::Malformed => "token_malformed",
            Self::Duplicate => "token_duplicate_member",
            Self::Critical => "token_crit",
            Self::Unencoded => "token_b64",
            Self::Type => "token_type",
            Self::Algorithm => "token_algorithm",
            Self::NoKeys => "token_keys_unavailable",
            Self::UnknownKey => "token_unknown_key",
            Self::Signature => "token_signature",
            Self::Inactive => "token_inactive",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::NoExpiry => "token_without_expiry",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet_valid",
            Self::Subject => "token_without_subject",
            Self::Confirmation => "token_confirmation",
            Self::Required => "token_claim_required",
            Self::Profile => "token_profile",
            Self::Claims => "token_claims_too_long",
        }
    }
}

impl From<NotAnObject> for Refusal {
    fn from(why: NotAnObject) -> Self {
        match why {
            NotAnObject::Malformed => Self::Malformed,
            NotAnObject::Duplicate => Self::Duplicate,
        }
    }
}

impl From<NoFacts> for Refusal {
    fn from(why: NoFacts) -> Self {
        match why {
            NoFacts::Malformed => Self::Malformed,
            NoFacts::Confirmation => Self::Confirmation,
        }
    }
}

/// What a believed token says.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Subject, source (the issuer) and claims.
    pub identity: Identity,
    /// The first instant at which the token is believed no more: `exp` and the leeway.
    pub expires_at: Timestamp,
    /// What it says about itself.
    pub token: TokenFacts,
}

/// Verifies the tokens of one `jwt` entry.
pub struct Verifier {
    settings: JwtSettings,
    keys: Keys,
}

impl Verifier {
    /// Reads and checks the entry's keys; `read` gives the bytes of a file.
    ///
    /// # Errors
    ///
    /// [`KeyError`] names the culprit and what to write.
    pub fn new(
        settings: &JwtSettings,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, KeyError> {
        Ok(Self { settings: settings.clone(), keys: jwks::keys(settings, read)? })
    }

    /// Reads claims by the entry's settings, and verifies no token: its server says who is who.
    pub(super) fn reader(settings: &JwtSettings) -> Self {
        Self { settings: settings.clone(), keys: Keys::Asked }
    }

    /// The entry's fingerprint.
    pub fn id(&self) -> EntryId {
        self.settings.id
    }

    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The number of the keys that are in force: a verdict by others is none.
    pub(super) fn revision(&self) -> u64 {
        match &self.keys {
            Keys::Fixed(_) | Keys::Asked => 0,
            Keys::Published(set) => set.revision(),
        }
    }

    /// The published keys, to be exchanged for such as are looked after.
    pub(super) fn published_mut(&mut self) -> Option<&mut Arc<KeySet>> {
        match &mut self.keys {
            Keys::Fixed(_) | Keys::Asked => None,
            Keys::Published(set) => Some(set),
        }
    }

    /// What to wait for before a token is refused for its key: a fetch of the issuer's keys, if one is under way or may be
    /// ordered, and the token says that it is this issuer's.
    pub(super) fn ask(&self, token: &str, why: Refusal) -> Option<Question> {
        let Keys::Published(set) = &self.keys else { return None };
        match why {
            Refusal::NoKeys => set.under_way(),
            Refusal::UnknownKey => {
                let parts = Parts::of(token).ok()?;
                names_issuer(parts.payload, &self.settings.issuer).then(|| set.ask())?
            }
            _ => None,
        }
    }

    /// Checks everything about a token. Costs 5 µs (HS256) to 100 µs (ES256); the caller caches.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the first check that failed.
    pub fn verify(&self, token: &str, wall: Timestamp) -> Result<Verified, Refusal> {
        let parts = Parts::of(token)?;
        let header = object(&decoded(parts.header)?)?;
        let (algorithm, kid) = self.check_header(&header)?;
        self.check_signature(&parts, algorithm, kid)?;
        let claims = object(&decoded(parts.payload)?)?;
        let expires_at = self.check_claims(&claims, wall)?;
        Ok(Verified { identity: self.identity(&claims)?, expires_at, token: facts::facts(&claims)? })
    }

    /// Whom claims that are believed are about.
    pub(super) fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, Refusal> {
        let subject = claims.get(&self.settings.subject).and_then(Value::as_str);
        let subject = subject.filter(|subject| !subject.is_empty()).ok_or(Refusal::Subject)?;
        let identity = Identity::new(subject, &self.settings.issuer, &self.told(claims)?);
        identity.map_err(|_| Refusal::Claims)
    }

    fn check_header<'a>(
        &self,
        header: &'a Map<String, Value>,
    ) -> Result<(Algorithm, Option<&'a str>), Refusal> {
        if header.contains_key("crit") {
            return Err(Refusal::Critical);
        }
        if header.contains_key("b64") {
            return Err(Refusal::Unencoded);
        }
        let text = |name| header.get(name).map(|value| value.as_str().ok_or(Refusal::Malformed)).transpose();
        let typ = text("typ")?;
        if typ.is_none() && self.settings.access_tokens_only {
            return Err(Refusal::Type);
        }
        if let Some(typ) = typ {
            let typ = typ.to_ascii_lowercase();
            let short = typ.strip_prefix("application/").unwrap_or(&typ);
            if !self.settings.types.iter().any(|accepted| accepted == short) {
                return Err(Refusal::Type);
            }
        }
        let algorithm = text("alg")?.ok_or(Refusal::Malformed)?;
        let algorithm = jwks::algorithm(algorithm).ok_or(Refusal::Algorithm)?;
        if !self.settings.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        Ok((algorithm, text("kid")?))
    }

    /// Tries the key that the token names, and those without a name; all that fit where it names none.
    fn check_signature(&self, parts: &Parts, algorithm: Algorithm, kid: Option<&str>) -> Result<(), Refusal> {
        let named = |key: &&Key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid;
        let published;
        let keys: &[Key] = match &self.keys {
            Keys::Fixed(keys) => keys,
            Keys::Published(set) => {
                // Of a token that is another issuer's it can be said without them.
                let ours = || names_issuer(parts.payload, &self.settings.issuer);
                let nobody_knows = || if ours() { Refusal::NoKeys } else { Refusal::Issuer };
                published = set.keys().ok_or_else(nobody_knows)?;
                &published
            }
            Keys::Asked => &[],
        };
        let mut fitting =
            keys.iter().filter(|key| key.algorithms.contains(&algorithm)).filter(named).peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let signed = fitting.take(TRIES_MAX).any(|key| {
            let message = parts.signed.as_bytes();
            jsonwebtoken::crypto::verify(parts.signature, message, &key.verifies, algorithm).unwrap_or(false)
        });
        if signed { Ok(()) } else { Err(Refusal::Signature) }
    }

    fn check_claims(&self, claims: &Map<String, Value>, wall: Timestamp) -> Result<Timestamp, Refusal> {
        // One string, equal to the byte: a list is no issuer (RFC 7519 §4.1.1).
        if claims.get("iss").and_then(Value::as_str) != Some(&*self.settings.issuer) {
            return Err(Refusal::Issuer);
        }
        if !self.is_for_us(claims) {
            return Err(Refusal::Audience);
        }
        let leeway = self.settings.leeway.min(LEEWAY_MAX);
        let expires_at = claims.get("exp").and_then(instant).ok_or(Refusal::NoExpiry)?.plus(leeway);
        if wall >= expires_at {
            return Err(Refusal::Expired);
        }
        match claims.get("nbf").map(instant) {
            Some(None) => Err(Refusal::Malformed),
            Some(Some(begins_at)) if wall.plus(leeway) < begins_at => Err(Refusal::NotYet),
            _ if self.settings.access_tokens_only && !is_access_token(claims) => Err(Refusal::Profile),
            _ => Ok(expires_at),
        }
    }

    fn is_for_us(&self, claims: &Map<String, Value>) -> bool {
        let ours =
            |one: &Value| one.as_str().is_some_and(|one| self.settings.audience.iter().any(|own| own == one));
        match claims.get("aud") {
            Some(one @ Value::String(_)) => ours(one),
            Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(ours),
            _ => false,
        }
    }

    /// The claims about the subject that fit a header: plain values and lists of them.
    fn told(&self, claims: &Map<String, Value>) -> Result<Claims, Refusal> {
        let mut told = Claims::new();
        let may_tell_email =
            self.is_email_verified(claims) && claims.get(EMAIL).is_some_and(Value::is_string);
        for (name, value) in claims {
            let about_the_token = ABOUT_THE_TOKEN.contains(&&**name) || *name == self.settings.subject;
            // A name beyond a byte's count is no claim that a rule or a header could ask for.
            if about_the_token || name.len() > 255 || name == EMAIL && !may_tell_email {
                continue;
            }
            if let Some(value) = plain(value) {
                told.insert(name.clone(), value);
            }
        }
        match claims::scopes(claims) {
            Some(scopes) => drop(told.insert(SCOPE.to_owned(), scopes)),
            None => drop(told.remove(SCOPE)),
        }
        claims::map(&self.settings.claims, claims, self.is_email_verified(claims), &mut told)
            .map_err(|_| Refusal::Required)?;
        Ok(told)
    }

    /// Where the issuer speaks of verification, its word counts; `trust_email` is for those that never do.
    fn is_email_verified(&self, claims: &Map<String, Value>) -> bool {
        match claims.get("email_verified") {
            Some(value) => *value == Value::Bool(true),
            None => self.settings.trust_email,
        }
    }
}

/// Whether the claims that RFC 9068 §2.2 requires besides `iss`, `aud` and `exp` stand.
fn is_access_token(claims: &Map<String, Value>) -> bool {
    let is_text = |name| claims.get(name).and_then(Value::as_str).is_some_and(|text: &str| !text.is_empty());
    ["sub", "client_id", "jti"].into_iter().all(is_text) && claims.get("iat").is_some_and(Value::is_number)
}

/// Whether a payload that nobody has verified says that it is of this issuer.
fn names_issuer(payload: &str, issuer: &str) -> bool {
    let claims = decoded(payload).ok().and_then(|bytes| object(&bytes).ok());
    claims.is_some_and(|claims| claims.get("iss").and_then(Value::as_str) == Some(issuer))
}

/// The parts of a compact JWS (RFC 7515 §7.1).
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// Header and payload with the dot between.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        match token.bytes().filter(|&byte| byte == b'.').count() {
            2 => {}
            4 => return Err(Refusal::Encrypted),
            _ => return Err(Refusal::Malformed),
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        Ok(Self { header, payload, signature, signed })
    }
}

/// Strict base64url (RFC 7515 §2): no padding, no stray bits, so that a token has one spelling.
fn decoded(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

/// A `NumericDate` (RFC 7519 §2), fractions included; what lies before 1970 counts as 1970.
pub(super) fn instant(value: &Value) -> Option<Timestamp> {
    if let Some(secs) = value.as_u64() {
        return Some(Timestamp::from_secs(secs));
    }
    #[expect(clippy::cast_sign_loss, reason = "casts of floats stop at zero and at the largest value")]
    value.as_f64().map(|secs| Timestamp::from_millis((secs * 1000.0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::JwtKeys;
    use crate::auth::forge::*;
    use crate::domain::identity::Claim;
    use crate::domain::secret::Secret;
    use proptest::prelude::*;
    use serde_json::json;

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const ALL: [Algorithm; 12] = [
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    fn secret() -> JwtKeys {
        JwtKeys::Secret(Secret::new(SECRET.to_vec()))
    }

    fn ask(token: &str) -> Result<Verified, Refusal> {
        verifier(&symmetric(), "").expect("a good secret").verify(token, NOON)
    }

    fn refusal(header: &str, claims: &str) -> Option<Refusal> {
        ask(&hs256(header, claims)).err()
    }

    fn set(jwks: &[Value], algorithms: &[Algorithm]) -> Verifier {
        let settings = settings(algorithms, JwtKeys::JwksFile("jwks.json".into()));
        verifier(&settings, &json!({ "keys": jwks }).to_string()).expect("a good set")
    }

    #[test]
    fn a_token_of_every_algorithm_is_believed_with_its_key_in_every_form() {
        for algorithm in ALL {
            let token = signed(algorithm, None, &claims().to_string());
            let verifiers = if algorithm.family() == jsonwebtoken::AlgorithmFamily::Hmac {
                vec![verifier(&settings(&[algorithm], secret()), "").expect("a good secret")]
            } else {
                let public = settings(&[algorithm], JwtKeys::PublicKey("key.pem".into()));
                vec![
                    verifier(&public, &pem(algorithm)).expect("a good key"),
                    set(&[jwk(algorithm, &json!({}))], &[algorithm]),
                ]
            };
            for verifier in verifiers {
                let outcome =
                    verifier.verify(&token, NOON).unwrap_or_else(|why| panic!("{algorithm:?} {why:?}"));
                assert_eq!(outcome.identity.as_ref().subject(), "alice");
                assert_eq!(outcome.identity.as_ref().source(), ISSUER);
                let dot = token.rfind('.').expect("two dots");
                let changed =
                    format!("{}.{}{}", &token[..dot], flip(&token[dot + 1..dot + 2]), &token[dot + 2..]);
                assert_eq!(verifier.verify(&changed, NOON).err(), Some(Refusal::Signature), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn the_newer_name_of_eddsa_is_the_same_algorithm_with_the_same_key() {
        let token = signed_by(Algorithm::EdDSA, r#"{"alg":"Ed25519"}"#, &claims().to_string());
        for alg in [json!({}), json!({ "alg": "EdDSA" }), json!({ "alg": "Ed25519" })] {
            let ed = set(&[jwk(Algorithm::EdDSA, &alg)], &[Algorithm::EdDSA]);
            assert!(ed.verify(&token, NOON).is_ok(), "{alg}");
            let changed = format!("{}AAAA", &token[..token.len() - 4]);
            assert_eq!(ed.verify(&changed, NOON).err(), Some(Refusal::Signature), "{alg}");
        }
        let other = set(&[jwk(Algorithm::ES256, &json!({}))], &[Algorithm::ES256]);
        assert_eq!(other.verify(&token, NOON).err(), Some(Refusal::Algorithm));
    }

    fn flip(letter: &str) -> &str {
        if letter == "A" { "B" } else { "A" }
    }

    #[test]
    fn the_algorithm_comes_from_the_key_and_never_from_the_token() {
        // The old attack: the public key, as text, used as an HMAC secret (CVE-2015-9235).
        let key = pem(Algorithm::RS256);
        let message = unsigned(r#"{"alg":"HS256"}"#, &claims().to_string());
        let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&hmac, message.as_bytes());
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        let public = settings(&[Algorithm::RS256], JwtKeys::PublicKey("key.pem".into()));
        let verifier = verifier(&public, &key).expect("a good key");
        assert_eq!(verifier.verify(&forged, NOON).err(), Some(Refusal::Algorithm));

        // Good signatures by algorithms that the entry, or the key, does not list.
        let token = |algorithm| signed(algorithm, None, &claims().to_string());
        assert_eq!(verifier.verify(&token(Algorithm::RS384), NOON).err(), Some(Refusal::Algorithm));
        let two = [Algorithm::RS256, Algorithm::PS256];
        let bound = set(&[jwk(Algorithm::RS256, &json!({ "alg": "PS256" }))], &two);
        assert!(bound.verify(&token(Algorithm::PS256), NOON).is_ok());
        assert_eq!(bound.verify(&token(Algorithm::RS256), NOON).err(), Some(Refusal::UnknownKey));
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        for alg in ["none", "None", "NONE", "nOnE", "", "HS257", "ES256K"] {
            let header = json!({ "alg": alg }).to_string();
            assert_eq!(refusal(&header, &claims().to_string()), Some(Refusal::Algorithm), "{alg}");
            let bare = format!("{}.", unsigned(&header, &claims().to_string()));
            assert_eq!(ask(&bare).err(), Some(Refusal::Algorithm), "{alg}");
        }
        let bare = format!("{}.", unsigned(HS256, &claims().to_string()));
        assert_eq!(ask(&bare).err(), Some(Refusal::Signature));
    }

    #[test]
    fn issuer_and_audience_must_be_there_in_the_right_type_and_ours() {
        for (changed, expected) in [
            (json!({ "iss": null }), Some(Refusal::Issuer)),
            (json!({ "iss": "https://evil.example" }), Some(Refusal::Issuer)),
            (json!({ "iss": "https://id.example.com/" }), Some(Refusal::Issuer)),
            (json!({ "iss": [ISSUER] }), Some(Refusal::Issuer)),
            (json!({ "iss": 7 }), Some(Refusal::Issuer)),
            (json!({ "aud": null }), Some(Refusal::Audience)),
            (json!({ "aud": "other" }), Some(Refusal::Audience)),
            (json!({ "aud": [] }), Some(Refusal::Audience)),
            (json!({ "aud": ["other"] }), Some(Refusal::Audience)),
            (json!({ "aud": ["wiki", 7] }), Some(Refusal::Audience)),
            (json!({ "aud": { "wiki": true } }), Some(Refusal::Audience)),
            (json!({ "aud": ["other", "forum"] }), None),
            (json!({ "aud": "forum" }), None),
        ] {
            assert_eq!(refusal(HS256, &claims_with(&changed)), expected, "{changed}");
        }
    }

    #[test]
    fn a_token_ends_at_exp_and_begins_at_nbf_give_or_take_the_leeway() {
        let noon = NOON.as_secs();
        for (changed, expected) in [
            (json!({ "exp": null }), Some(Refusal::NoExpiry)),
            (json!({ "exp": "2099-01-01" }), Some(Refusal::NoExpiry)),
            (json!({ "exp": (noon + 600).to_string() }), Some(Refusal::NoExpiry)),
            (json!({ "exp": noon - 29 }), None),
            (json!({ "exp": noon - 30 }), Some(Refusal::Expired)),
            (json!({ "exp": noon as f64 - 29.5 }), None),
            (json!({ "exp": -1 }), Some(Refusal::Expired)),
            (json!({ "exp": 0 }), Some(Refusal::Expired)),
            (json!({ "exp": u64::MAX }), None),
            (json!({ "exp": 1e300 }), None),
            (json!({ "nbf": noon + 30 }), None),
            (json!({ "nbf": noon + 31 }), Some(Refusal::NotYet)),
            (json!({ "nbf": "soon" }), Some(Refusal::Malformed)),
            (json!({ "nbf": -5 }), None),
            (json!({ "iat": "now" }), Some(Refusal::Malformed)),
            (json!({ "iat": noon }), None),
        ] {
            assert_eq!(refusal(HS256, &claims_with(&changed)), expected, "{changed}");
        }
        let outcome = ask(&hs256(HS256, &claims().to_string())).expect("a good token");
        assert_eq!(outcome.expires_at, Timestamp::from_secs(noon + 630));
    }

    #[test]
    fn no_more_than_two_minutes_of_leeway_are_given() {
        let mut settings = symmetric();
        settings.leeway = Duration::from_hours(24);
        let verifier = verifier(&settings, "").expect("a good secret");
        for (ago, expected) in [(119, None), (120, Some(Refusal::Expired))] {
            let token = hs256(HS256, &claims_with(&json!({ "exp": NOON.as_secs() - ago })));
            assert_eq!(verifier.verify(&token, NOON).err(), expected, "{ago}");
        }
    }

    #[test]
    fn headers_that_ask_for_more_than_we_do_are_refused() {
        for (header, expected) in [
            (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, Some(Refusal::Critical)),
            (r#"{"alg":"HS256","crit":[]}"#, Some(Refusal::Critical)),
            (r#"{"alg":"HS256","crit":null}"#, Some(Refusal::Critical)),
            (r#"{"alg":"HS256","b64":false}"#, Some(Refusal::Unencoded)),
            (r#"{"alg":"HS256","b64":true}"#, Some(Refusal::Unencoded)),
            (r#"{"alg":"HS256","typ":"JWT"}"#, None),
            (r#"{"alg":"HS256"}"#, None),
            (r#"{"alg":"HS256","typ":"at+JWT"}"#, None),
            (r#"{"alg":"HS256","typ":"application/at+jwt"}"#, None),
            (r#"{"alg":"HS256","typ":"logout+jwt"}"#, Some(Refusal::Type)),
            (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, Some(Refusal::Type)),
            (r#"{"alg":"HS256","typ":""}"#, Some(Refusal::Type)),
            (r#"{"alg":"HS256","typ":7}"#, Some(Refusal::Malformed)),
            (r#"{"alg":"HS256","kid":7}"#, Some(Refusal::Malformed)),
            (r#"{"alg":["HS256"]}"#, Some(Refusal::Malformed)),
            (r#"{"typ":"JWT"}"#, Some(Refusal::Malformed)),
            (r#"["HS256"]"#, Some(Refusal::Malformed)),
        ] {
            assert_eq!(refusal(header, &claims().to_string()), expected, "{header}");
        }
    }

    #[test]
    fn a_key_that_the_token_brings_is_not_looked_at() {
        let header = json!({
            "alg": "RS256", "jwk": rsa_jwk(&OTHER_RSA), "jku": "https://evil.example/jwks", "x5u": "https://evil.example"
        });
        let message = unsigned(&header.to_string(), &claims().to_string());
        let mut signature = vec![0; OTHER_RSA.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let encoding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        OTHER_RSA.sign(encoding, &random, message.as_bytes(), &mut signature).expect("it signs");
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        let verifier = set(&[jwk(Algorithm::RS256, &json!({}))], &[Algorithm::RS256]);
        assert_eq!(verifier.verify(&token, NOON).err(), Some(Refusal::Signature));
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_in_header_and_claims() {
        let twice = claims().to_string().replacen('{', r#"{"sub":"root","#, 1);
        assert_eq!(refusal(HS256, &twice), Some(Refusal::Duplicate));
        let nested = claims_with(&json!({ "x": "NESTED" })).replace("\"NESTED\"", r#"{"a":1,"a":2}"#);
        assert_eq!(refusal(HS256, &nested), Some(Refusal::Duplicate));
        let header = r#"{"alg":"HS256","alg":"HS256"}"#;
        assert_eq!(refusal(header, &claims().to_string()), Some(Refusal::Duplicate));
        let disguised = r#"{"alg":"HS256","\u0061lg":"none"}"#;
        assert_eq!(refusal(disguised, &claims().to_string()), Some(Refusal::Duplicate));
    }

    #[test]
    fn what_is_no_compact_jws_is_refused() {
        let good = hs256(HS256, &claims().to_string());
        let long = hs256(HS256, &claims_with(&json!({ "x": "y".repeat(8 * 1024) })));
        for (token, expected) in [
            (String::new(), Refusal::Malformed),
            ("..".into(), Refusal::Malformed),
            ("a.b".into(), Refusal::Malformed),
            ("a.b.c.d".into(), Refusal::Malformed),
            ("a.b.c.d.e".into(), Refusal::Encrypted),
            (long, Refusal::TooLong),
            (format!("{good}="), Refusal::Signature),
            (good.replacen('.', "=.", 1), Refusal::Malformed),
            (format!(" {good}"), Refusal::Malformed),
            (hs256(HS256, "[]"), Refusal::Malformed),
            (hs256(HS256, &good), Refusal::Malformed),
        ] {
            assert_eq!(ask(&token).err(), Some(expected), "{token}");
        }
    }

    #[test]
    fn a_signature_has_one_spelling() {
        // 32 bytes leave four stray bits in the last character: setting one must not make a second token.
        let good = hs256(HS256, &claims().to_string());
        let last = good.chars().last().expect("not empty");
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.find(last).expect("base64url");
        let twin = format!("{}{}", &good[..good.len() - 1], &alphabet[at + 1..at + 2]);
        assert!(ask(&good).is_ok());
        assert_eq!(ask(&twin).err(), Some(Refusal::Signature));
    }

    #[test]
    fn a_subject_must_be_a_string_of_some_characters() {
        for sub in [json!(null), json!(""), json!(7), json!(["alice"]), json!({ "a": 1 })] {
            assert_eq!(refusal(HS256, &claims_with(&json!({ "sub": sub }))), Some(Refusal::Subject), "{sub}");
        }
        let mut settings = symmetric();
        settings.subject = "uid".into();
        let verifier = verifier(&settings, "").expect("a good secret");
        let token = hs256(HS256, &claims_with(&json!({ "uid": "a1" })));
        let outcome = verifier.verify(&token, NOON).expect("a good token");
        assert_eq!(outcome.identity.as_ref().subject(), "a1");
        assert_eq!(outcome.identity.as_ref().claim("sub"), Some(Claim::Text("alice")));
        assert_eq!(verifier.verify(&hs256(HS256, &claims().to_string()), NOON).err(), Some(Refusal::Subject));
    }

    #[test]
    fn plain_claims_are_told_and_nested_ones_and_those_about_the_token_are_not() {
        let token = hs256(
            HS256,
            &claims_with(&json!({
                "groups": ["ops", "a,b", 7, true], "level": 3, "score": 1.5, "admin": true, "name": "李",
                "realm_access": { "roles": ["x"] }, "mixed": ["a", { "b": 1 }], "nothing": null,
                "huge": 1e30, "iat": 1, "nbf": 1, "jti": "j", "nonce": "n", "subject": "root", "source": "other",
            })),
        );
        let outcome = ask(&token).expect("a good token");
        let identity = outcome.identity.as_ref();
        let told: Vec<(&str, &str)> =
            identity.iter().map(|(name, claim)| (name, claim.header_form())).collect();
        assert_eq!(
            told,
            [
                ("subject", "alice"),
                ("source", ISSUER),
                ("admin", "true"),
                ("groups", "ops,a%2Cb,7,true"),
                ("level", "3"),
                ("name", "%E6%9D%8E"),
                ("score", "1.5"),
            ]
        );
    }

    #[test]
    fn an_email_is_told_only_where_it_is_verified_or_trusted() {
        for (trust, changed, told) in [
            (false, json!({ "email": "a@example.com" }), false),
            (false, json!({ "email": "a@example.com", "email_verified": true }), true),
            (false, json!({ "email": "a@example.com", "email_verified": "true" }), false),
            (false, json!({ "email": "a@example.com", "email_verified": 1 }), false),
            (true, json!({ "email": "a@example.com" }), true),
            (true, json!({ "email": "a@example.com", "email_verified": false }), false),
            (true, json!({ "email": ["a@example.com"] }), false),
        ] {
            let mut settings = symmetric();
            settings.trust_email = trust;
            let verifier = verifier(&settings, "").expect("a good secret");
            let outcome = verifier.verify(&hs256(HS256, &claims_with(&changed)), NOON).expect("a good token");
            assert_eq!(outcome.identity.as_ref().claim("email").is_some(), told, "{trust} {changed}");
        }
    }

    #[test]
    fn the_key_is_chosen_by_its_name_where_the_token_has_one() {
        let ours = || jwk(Algorithm::RS256, &json!({ "kid": "new" }));
        let mut other = rsa_jwk(&OTHER_RSA);
        other["kid"] = json!("old");
        let both = set(&[other.clone(), ours()], &[Algorithm::RS256]);
        let token = |kid| signed(Algorithm::RS256, kid, &claims().to_string());
        for (kid, expected) in [
            (None, None),
            (Some("new"), None),
            (Some("old"), Some(Refusal::Signature)),
            (Some("gone"), Some(Refusal::UnknownKey)),
        ] {
            assert_eq!(both.verify(&token(kid), NOON).err(), expected, "{kid:?}");
        }
        let nameless = set(&[other, jwk(Algorithm::RS256, &json!({}))], &[Algorithm::RS256]);
        assert!(nameless.verify(&token(Some("any")), NOON).is_ok(), "a key without a name may be the one");
    }

    #[test]
    fn a_token_without_a_key_name_is_not_tried_on_every_key() {
        let mut jwks = vec![rsa_jwk(&OTHER_RSA); TRIES_MAX];
        jwks.push(jwk(Algorithm::RS256, &json!({})));
        let token = signed(Algorithm::RS256, None, &claims().to_string());
        assert_eq!(set(&jwks, &[Algorithm::RS256]).verify(&token, NOON).err(), Some(Refusal::Signature));
        jwks.remove(0);
        assert!(set(&jwks, &[Algorithm::RS256]).verify(&token, NOON).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_is_believed_or_makes_the_verifier_panic(token in "[A-Za-z0-9_.=-]{0,80}|.{0,40}") {
            prop_assert!(ask(&token).is_err());
        }

        #[test]
        fn no_header_gets_past_a_wrong_signature(header in r#"\{("(alg|typ|kid|crit|b64)":("HS256"|"JWT"|1|\[\]),?){0,4}\}"#) {
            let token = format!("{}.{}", unsigned(&header, &claims().to_string()), "A".repeat(43));
            prop_assert!(ask(&token).is_err());
        }

        #[test]
        fn a_changed_token_is_refused(at in 0..300_usize, to in "[A-Za-z0-9_.-]") {
            let good = hs256(HS256, &claims().to_string());
            let at = at % good.len();
            let mut changed = good.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(ask(&changed).is_ok(), changed == good);
        }
    }
}
