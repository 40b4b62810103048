//! The bearer token of a request: from the `Authorization` field to who it is (RFC 6750), mostly from memory.
//!
//! A [`Bearer`] holds the verifiers of one configuration. What they decided is remembered in [`BearerCaches`], which
//! live as long as the process: a believed token until it ends, at most [`BELIEVED_FOR_MAX`]; a refused one for
//! [`REFUSED_FOR`](crate::auth::refusals::REFUSED_FOR). A verdict is found under everything it depended on: the whole token (its fingerprint), the entry, the
//! generation, which is new with every `Bearer`, and the revision of the entry's published keys. So new keys or settings
//! forget all verdicts. Both caches are bounded, may forget at any time, and hold no token. Only what was believed is kept by how
//! recently it was used: a flood of junk pushes out nothing but older junk.

use crate::auth::authority::Authority;
use crate::auth::believed::{self, Held};
use crate::auth::issuer::introspection::{Introspection, LookUp};
use crate::auth::issuer::question::Question;
use crate::auth::jwt::{Refusal, TOKEN_BYTES_MAX, Verified, Verifier};
use crate::auth::refusals::{Key, Refusals};
use crate::domain::access::EntryId;
use crate::domain::decision::Believed;
use crate::domain::fingerprint::{Fingerprint, Fingerprints};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest time for which a token is believed without verifying it again.
pub const BELIEVED_FOR_MAX: Duration = Duration::from_mins(5);

/// Some fifty thousand tokens with everyday claims.
const BELIEVED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Whether a verdict still holds. Not before it was made either: a wall clock that was set back may have moved before `nbf`.
fn holds_at(believed: &Believed, wall: Timestamp) -> bool {
    let ends_at = believed.expires_at.min(believed.verified_at.plus(BELIEVED_FOR_MAX));
    (believed.verified_at..ends_at).contains(&wall)
}

/// Why a bearer token admits nobody.
///
/// `Display` is for the client and gives nothing away; [`BearerRefusal::reason`] is for the log and the counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerRefusal {
    /// The field has another scheme than `Bearer` or `DPoP`.
    #[error("the credential is not a bearer token")]
    OtherScheme,
    /// No token behind the scheme, or characters that no token has (RFC 6750 §2.1).
    #[error("the token is malformed")]
    Malformed,
    /// None of the entries that the route accepts is configured here.
    #[error("the token is not accepted")]
    NoEntry,
    /// No entry believes it; the refusal is that of the entry whose checks went farthest.
    #[error("the token is not accepted")]
    Token(Refusal),
    /// Nobody can say before this is answered: decide again then.
    #[error("the token is not known yet")]
    Ask(Question),
    /// Nobody can say at the moment; why, is a word for the log.
    #[error("the token cannot be judged at the moment")]
    Unavailable(&'static str),
}

impl BearerRefusal {
    /// For the log and the counter.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherScheme => "other_scheme",
            Self::Malformed => "bearer_malformed",
            Self::NoEntry => "no_token_entry",
            Self::Token(refusal) => refusal.reason(),
            Self::Ask(_) => "token_not_known_yet",
            Self::Unavailable(reason) => reason,
        }
    }
}

/// What was decided about tokens: one object for the life of the process.
pub struct BearerCaches {
    believed: Held<Key>,
    refused: Refusals,
    generation: AtomicU64,
    fingerprints: Fingerprints,
}

impl Default for BearerCaches {
    fn default() -> Self {
        Self::new()
    }
}

impl BearerCaches {
    /// Empty caches.
    ///
    /// # Panics
    ///
    /// If the operating system has no random bytes to give: nothing may be remembered then, and no session opened either.
    pub fn new() -> Self {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        let believed = believed::cache(BELIEVED_BYTES_MAX);
        let refused = Refusals::new();
        let fingerprints = Fingerprints::new(Secret::new(key));
        Self { believed, refused, generation: AtomicU64::new(0), fingerprints }
    }

    /// Forgets every verdict; the next use of each token verifies it.
    pub fn forget(&self) {
        self.believed.invalidate_all();
        self.refused.clear();
    }
}

/// All `tokens` entries of one configuration.
pub struct Bearer {
    verifiers: Vec<Verifier>,
    /// Entries whose servers are asked.
    asked: Vec<Arc<Introspection>>,
    caches: Arc<BearerCaches>,
    generation: u64,
}

impl Bearer {
    /// Takes the verifiers, and forgets what others decided. Make a new one whenever settings or keys change.
    pub fn new(verifiers: Vec<Verifier>, caches: Arc<BearerCaches>) -> Self {
        caches.forget();
        let generation = caches.generation.fetch_add(1, Ordering::Relaxed);
        Self { verifiers, asked: Vec::new(), caches, generation }
    }

    /// With entries whose servers are asked about tokens that no verifier believes.
    #[must_use]
    pub fn asking(self, asked: Vec<Arc<Introspection>>) -> Self {
        Self { asked, ..self }
    }

    /// Who the `Authorization` field proves, by one of the `accepted` entries. A token that names what its presenter must hold
    /// is believed here without: whether it is held is asked with every request, and is no part of what is remembered.
    ///
    /// A token that was believed a moment ago costs one `SipHash` and one look-up for each accepted entry up to the one
    /// that believes it; it allocates nothing. Where several entries might believe a token, the first listed does; but no server
    /// is asked about a token that a signature proves, for it is none of that server's business.
    ///
    /// # Errors
    ///
    /// [`BearerRefusal`] says why not. A refused token is not verified again for [`REFUSED_FOR`](crate::auth::refusals::REFUSED_FOR). Nothing here waits: where
    /// somebody must be asked first, that is the refusal.
    pub fn believe(
        &self,
        authorization: &[u8],
        accepted: &[EntryId],
        wall: Timestamp,
    ) -> Result<Arc<Believed>, BearerRefusal> {
        self.believe_as(self.fingerprint(authorization)?, authorization, accepted, wall)
    }

    /// The fingerprint of the token in an `Authorization` field, the same as long as the process lives.
    ///
    /// # Errors
    ///
    /// There is none of our schemes, or no token.
    pub fn fingerprint(&self, authorization: &[u8]) -> Result<Fingerprint, BearerRefusal> {
        token_bytes(authorization).map(|bytes| self.caches.fingerprints.of(bytes))
    }

    /// [`Bearer::believe`] where the fingerprint is at hand.
    pub fn believe_as(
        &self,
        fingerprint: Fingerprint,
        authorization: &[u8],
        accepted: &[EntryId],
        wall: Timestamp,
    ) -> Result<Arc<Believed>, BearerRefusal> {
        // Looked at only where nothing is remembered: what was believed was one.
        let mut token = None;
        let mut farthest = None;
        // One entry after the other: what is remembered of a later one must not come before what an earlier one would say.
        for &entry in accepted {
            let Some(verifier) = self.verifiers.iter().find(|verifier| verifier.id() == entry) else {
                continue;
            };
            let (generation, revision) = (self.generation, verifier.revision());
            let key = Key { token: fingerprint, entry, generation, revision };
            if let Some(held) = self.caches.believed.get(&key).filter(|believed| holds_at(believed, wall)) {
                return Ok(held);
            }
            let token = match token {
                Some(token) => token,
                None => *token.insert(self::token(authorization)?),
            };
            match self.verify(verifier, key, token, wall) {
                Ok(believed) => return Ok(believed),
                Err(why) => {
                    if let Some(question) = verifier.ask(token, why) {
                        return Err(BearerRefusal::Ask(question));
                    }
                    if why == Refusal::NoKeys {
                        return Err(BearerRefusal::Unavailable(why.reason()));
                    }
                    farthest = farthest.max(Some(why));
                }
            }
        }
        let token = token.map_or_else(|| self::token(authorization), Ok)?;
        let asked = |entry: &EntryId| self.asked.iter().find(|one| one.id() == *entry);
        for one in accepted.iter().filter_map(asked) {
            match one.look_up(token, fingerprint, wall) {
                LookUp::Believed(believed) => return Ok(believed),
                LookUp::Refused(why) => farthest = farthest.max(Some(why)),
                LookUp::Ask(question) => return Err(BearerRefusal::Ask(question)),
                LookUp::Unavailable(why) => return Err(BearerRefusal::Unavailable(why)),
            }
        }
        Err(farthest.map_or(BearerRefusal::NoEntry, BearerRefusal::Token))
    }

    /// The numbers of the settings and of the keys by which the first of these entries judges, if it judges by signatures: as long as they stay,
    /// it believes what it has believed, until that ends.
    pub fn under(&self, accepted: &[EntryId]) -> Option<[u64; 2]> {
        let first = accepted.first()?;
        let verifier = self.verifiers.iter().find(|verifier| verifier.id() == *first)?;
        Some([self.generation, verifier.revision()])
    }

    /// Whether a token that was `believed` under these numbers is now, before any other of the accepted entries is asked.
    pub fn still_believes(
        &self,
        believed: &Believed,
        under: [u64; 2],
        accepted: &[EntryId],
        wall: Timestamp,
    ) -> bool {
        accepted.first() == Some(&believed.entry)
            && self.under(accepted) == Some(under)
            && holds_at(believed, wall)
    }

    /// Who says whether tokens of this entry count; nobody where there is no such entry.
    pub fn authority(&self, entry: EntryId) -> Option<Authority> {
        let verifier = self.verifiers.iter().find(|verifier| verifier.id() == entry);
        let server = || self.asked.iter().find(|one| one.id() == entry).cloned().map(Authority::Server);
        verifier.map(Verifier::authority).or_else(server)
    }

    /// What exactly is wrong with a token that was just refused for this reason, for the log.
    pub fn detail(
        &self,
        authorization: &[u8],
        accepted: &[EntryId],
        reason: &str,
        wall: Timestamp,
    ) -> Option<String> {
        let token = token(authorization).ok()?;
        let fingerprint = self.caches.fingerprints.of(token.as_bytes());
        accepted.iter().find_map(|&entry| {
            let verifier = self.verifiers.iter().find(|verifier| verifier.id() == entry)?;
            let (generation, revision) = (self.generation, verifier.revision());
            let key = Key { token: fingerprint, entry, generation, revision };
            let why = self.caches.refused.find(&key, wall)?;
            (why.reason() == reason).then(|| verifier.detail(token, why, wall))?
        })
    }

    fn verify(
        &self,
        verifier: &Verifier,
        key: Key,
        token: &str,
        wall: Timestamp,
    ) -> Result<Arc<Believed>, Refusal> {
        if let Some(why) = self.caches.refused.find(&key, wall) {
            return Err(why);
        }
        match verifier.verify(token, wall) {
            Ok(Verified { identity, expires_at, token }) => {
                let entry = key.entry;
                let believed = Arc::new(Believed { identity, expires_at, entry, verified_at: wall, token });
                self.caches.believed.insert(key, Arc::clone(&believed));
                Ok(believed)
            }
            // Not the token's fault.
            Err(Refusal::NoKeys) => Err(Refusal::NoKeys),
            Err(why) => {
                self.caches.refused.insert(key, why, wall);
                Err(why)
            }
        }
    }
}

/// What stands before the first space (RFC 9110 §11.4).
fn scheme(authorization: &[u8]) -> &[u8] {
    authorization.split(|&byte| byte == b' ').next().unwrap_or_default()
}

/// Whether a field value has the scheme `DPoP`, in whatever case (RFC 9449 §7.1): its token needs a proof.
pub fn is_dpop(authorization: &[u8]) -> bool {
    scheme(authorization).eq_ignore_ascii_case(b"dpop")
}

/// The token of `Bearer TOKEN` (RFC 6750 §2.1) or `DPoP TOKEN` (RFC 9449 §7.1).
pub(crate) fn token(authorization: &[u8]) -> Result<&str, BearerRefusal> {
    token68(token_bytes(authorization)?)
}

/// What stands behind the scheme, if it is one of ours; not empty and not too long.
fn token_bytes(authorization: &[u8]) -> Result<&[u8], BearerRefusal> {
    let scheme = scheme(authorization);
    if !scheme.eq_ignore_ascii_case(b"bearer") && !scheme.eq_ignore_ascii_case(b"dpop") {
        return Err(BearerRefusal::OtherScheme);
    }
    let token = authorization.get(scheme.len()..).unwrap_or_default().trim_ascii();
    match token.len() {
        0 => Err(BearerRefusal::Malformed),
        length if length > TOKEN_BYTES_MAX => Err(BearerRefusal::Token(Refusal::TooLong)),
        _ => Ok(token),
    }
}

/// The bytes as text, if they are such as tokens have (`b64token`, RFC 6750 §2.1).
fn token68(token: &[u8]) -> Result<&str, BearerRefusal> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if !token.iter().all(allowed) {
        return Err(BearerRefusal::Malformed);
    }
    str::from_utf8(token).map_err(|_| BearerRefusal::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::forge::{NOON, claims, claims_with, hs256, symmetric, verifier};
    use crate::auth::refusals::REFUSED_MAX;
    use proptest::prelude::*;
    use serde_json::json;

    const API: EntryId = EntryId(7);
    const PARTNER: EntryId = EntryId(8);
    const HS256: &str = r#"{"alg":"HS256"}"#;

    /// `API` takes tokens for `wiki`, `PARTNER` those for `partner`; they share issuer and key.
    fn bearer(caches: &Arc<BearerCaches>) -> Bearer {
        let mut partner = symmetric();
        (partner.id, partner.audience) = (PARTNER, vec!["partner".into()]);
        let verifiers =
            [symmetric(), partner].map(|settings| verifier(&settings, "").expect("a good secret"));
        Bearer::new(verifiers.into(), Arc::clone(caches))
    }

    fn fresh() -> (Arc<BearerCaches>, Bearer) {
        let caches = Arc::new(BearerCaches::new());
        let bearer = bearer(&caches);
        (caches, bearer)
    }

    fn field(token: &str) -> Vec<u8> {
        format!("Bearer {token}").into_bytes()
    }

    fn good() -> Vec<u8> {
        field(&hs256(HS256, &claims_with(&json!({ "exp": NOON.as_secs() + 86_400 }))))
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_the_token_strictly() {
        let (_, bearer) = fresh();
        let token = hs256(HS256, &claims().to_string());
        for (value, expected) in [
            (format!("Bearer {token}"), None),
            (format!("bearer {token}"), None),
            (format!("BEARER   {token}"), None),
            (format!("Bearer\t{token}"), Some(BearerRefusal::OtherScheme)),
            (format!("Bearer{token}"), Some(BearerRefusal::OtherScheme)),
            ("Basic YWxpY2U6cGFzcw==".into(), Some(BearerRefusal::OtherScheme)),
            (String::new(), Some(BearerRefusal::OtherScheme)),
            ("Bearer".into(), Some(BearerRefusal::Malformed)),
            ("Bearer ".into(), Some(BearerRefusal::Malformed)),
            (format!("Bearer {token} {token}"), Some(BearerRefusal::Malformed)),
            (format!("Bearer {token},x"), Some(BearerRefusal::Malformed)),
            (format!("Bearer {token}\u{e9}"), Some(BearerRefusal::Malformed)),
            (format!("Bearer {}", "a".repeat(8193)), Some(BearerRefusal::Token(Refusal::TooLong))),
        ] {
            assert_eq!(bearer.believe(value.as_bytes(), &[API], NOON).err(), expected, "{value:.40}");
        }
    }

    #[test]
    fn a_believed_token_is_not_verified_again_until_its_verdict_is_five_minutes_old() {
        let (_, bearer) = fresh();
        let first = bearer.believe(&good(), &[API], NOON).expect("a good token");
        assert_eq!((first.identity.as_ref().subject(), first.entry), ("alice", API));
        for (later, again) in [(0, false), (299, false), (300, true), (301, false)] {
            let wall = NOON.plus(Duration::from_secs(later));
            let held = bearer.believe(&good(), &[API], wall).expect("a good token");
            assert_eq!(held.verified_at == wall && later > 0, again, "{later}");
        }
        let before = NOON.minus(Duration::from_secs(1));
        let back = bearer.believe(&good(), &[API], before).expect("a good token");
        assert_eq!(back.verified_at, before, "a clock set back verifies anew");
    }

    #[test]
    fn a_believed_token_ends_when_it_expires() {
        let (_, bearer) = fresh();
        let short = field(&hs256(HS256, &claims_with(&json!({ "exp": NOON.as_secs() + 60 }))));
        let end = NOON.plus(Duration::from_secs(90)); // the leeway is thirty seconds
        assert_eq!(bearer.believe(&short, &[API], NOON).expect("a good token").expires_at, end);
        assert!(bearer.believe(&short, &[API], end.minus(Duration::from_millis(1))).is_ok());
        assert_eq!(bearer.believe(&short, &[API], end).err(), Some(BearerRefusal::Token(Refusal::Expired)));
    }

    #[test]
    fn a_verdict_of_one_entry_is_none_of_another() {
        let (_, bearer) = fresh();
        assert!(bearer.believe(&good(), &[API], NOON).is_ok());
        let wider = bearer.believe(&good(), &[PARTNER], NOON).err();
        assert_eq!(wider, Some(BearerRefusal::Token(Refusal::Audience)));
        assert_eq!(bearer.believe(&good(), &[PARTNER, API], NOON).expect("by the second").entry, API);
        assert_eq!(bearer.believe(&good(), &[], NOON).err(), Some(BearerRefusal::NoEntry));
        assert_eq!(bearer.believe(&good(), &[EntryId(99)], NOON).err(), Some(BearerRefusal::NoEntry));
    }

    #[test]
    fn the_first_entry_that_believes_a_token_does_whatever_is_remembered() {
        let (_, bearer) = fresh();
        let both = json!({ "aud": ["wiki", "partner"], "exp": NOON.as_secs() + 86_400 });
        let both = field(&hs256(HS256, &claims_with(&both)));
        assert_eq!(bearer.believe(&both, &[API], NOON).expect("for both").entry, API);
        assert_eq!(bearer.believe(&both, &[PARTNER, API], NOON).expect("for both").entry, PARTNER);
    }

    #[test]
    fn a_refused_token_is_not_looked_at_again_for_ten_seconds() {
        let (_, bearer) = fresh();
        let early = field(&hs256(HS256, &claims_with(&json!({ "nbf": NOON.as_secs() + 33 }))));
        let refused = Some(BearerRefusal::Token(Refusal::NotYet));
        assert_eq!(bearer.believe(&early, &[API], NOON).err(), refused.clone());
        for (later, expected) in [(9, refused), (10, None)] {
            let wall = NOON.plus(Duration::from_secs(later));
            assert_eq!(bearer.believe(&early, &[API], wall).err(), expected, "{later}");
        }
    }

    #[test]
    fn the_refusal_of_the_entry_that_came_farthest_is_told() {
        let (_, bearer) = fresh();
        let old = field(&hs256(HS256, &claims_with(&json!({ "exp": 1 }))));
        for accepted in [[API, PARTNER], [PARTNER, API]] {
            let refused = bearer.believe(&old, &accepted, NOON).err();
            assert_eq!(refused, Some(BearerRefusal::Token(Refusal::Expired)));
        }
    }

    #[test]
    fn new_keys_forget_every_verdict() {
        let (caches, old) = fresh();
        assert!(old.believe(&good(), &[API], NOON).is_ok());
        let mut settings = symmetric();
        settings.keys = crate::auth::JwtKeys::Secret(crate::domain::secret::Secret::new(vec![1; 32]));
        let new = Bearer::new(vec![verifier(&settings, "").expect("a good secret")], Arc::clone(&caches));
        // A request that still runs on the old configuration writes its verdict; the new one must not read it.
        assert!(old.believe(&good(), &[API], NOON).is_ok());
        assert_eq!(new.believe(&good(), &[API], NOON).err(), Some(BearerRefusal::Token(Refusal::Signature)));
    }

    #[test]
    fn what_was_believed_is_believed_again_under_the_same_numbers_for_its_time() {
        let (caches, bearer) = fresh();
        let under = bearer.under(&[API, PARTNER]).expect("it is judged by signatures");
        let believed = bearer.believe(&good(), &[API], NOON).expect("a good token");
        let still = |bearer: &Bearer, accepted: &[EntryId], wall| {
            bearer.still_believes(&believed, under, accepted, wall)
        };
        assert!(still(&bearer, &[API], NOON) && still(&bearer, &[API, PARTNER], NOON));
        for accepted in [&[PARTNER][..], &[PARTNER, API], &[EntryId(9), API], &[]] {
            assert!(!still(&bearer, accepted, NOON), "{accepted:?}: another is asked first");
        }
        let last = NOON.plus(BELIEVED_FOR_MAX).minus(Duration::from_millis(1));
        assert!(still(&bearer, &[API], last) && !still(&bearer, &[API], NOON.plus(BELIEVED_FOR_MAX)));
        assert!(!still(&bearer, &[API], NOON.minus(Duration::from_millis(1))), "the clock was set back");
        assert!(!bearer.still_believes(&believed, [under[0], under[1] + 1], &[API], NOON), "other keys");
        let new = self::bearer(&caches);
        assert!(!still(&new, &[API], NOON), "other settings");
    }

    #[test]
    fn junk_is_bounded_and_pushes_out_nothing_that_is_believed() {
        let (caches, bearer) = fresh();
        assert!(bearer.believe(&good(), &[API], NOON).is_ok());
        for n in 0..REFUSED_MAX + 5_000 {
            let _ = bearer.believe(&field(&format!("{n}.x.y")), &[API], NOON);
        }
        assert!(caches.refused.len() <= REFUSED_MAX, "{}", caches.refused.len());
        let later = NOON.plus(Duration::from_secs(1));
        assert_eq!(bearer.believe(&good(), &[API], later).expect("still held").verified_at, NOON);
    }

    #[test]
    fn nothing_about_a_token_prints() {
        let (_, bearer) = fresh();
        let believed = bearer.believe(&good(), &[API], NOON).expect("a good token");
        let shown = format!("{believed:?}");
        assert!(!shown.contains("eyJ") && !shown.contains("wiki"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_field_makes_the_reader_panic(value in prop::collection::vec(any::<u8>(), 0..60), scheme in any::<bool>()) {
            let (_, bearer) = fresh();
            let value = if scheme { [b"Bearer ", &*value].concat() } else { value };
            prop_assert!(bearer.believe(&value, &[API], NOON).is_err());
        }
    }
}
