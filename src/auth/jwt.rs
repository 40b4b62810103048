//! A signed bearer token: RFC 7519 in the compact serialisation of RFC 7515, by the rules of RFC 8725.
//!
//! Cheap checks come first (size, form, header), then the signature, then the claims; [`Refusal`] lists them in that
//! order. `jsonwebtoken` verifies signatures; everything around them is done here, once and strictly, because its
//! claim checks let an absent or ill-typed `iss` or `aud` pass and read a clock of their own. Every member name must
//! stand once. Not accepted at all: encrypted tokens (JWE), `crit`, `b64`, keys that the token itself brings.

mod examine;
#[cfg(test)]
mod examples;
mod refusal;
#[cfg(test)]
mod tests;

pub use examine::{Check, Outcome};
pub use refusal::Refusal;

use crate::auth::JwtSettings;
use crate::auth::authority::Authority;
use crate::auth::claims::{self, plain};
use crate::auth::facts;
use crate::auth::issuer::key_set::KeySet;
use crate::auth::issuer::question::Question;
use crate::auth::json::object;
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

    /// Who says which keys count.
    pub(super) fn authority(&self) -> Authority {
        match &self.keys {
            Keys::Fixed(_) | Keys::Asked => Authority::File,
            Keys::Published(set) => Authority::Keys(set.clone()),
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

    /// Checks everything about a token. Costs 5 µs (HS256) to 200 µs (ES384); the caller caches.
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
