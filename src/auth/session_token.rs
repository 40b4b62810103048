//! A session token, from the cookie.
//!
//! The cookie's value is checked without a look-up first; then the table says whether the session lives, and the
//! session whether it counts on the scope of this request. Which cookie it was, and what several of them mean, is the
//! caller's: [`Cause::Absent`] and [`Cause::Several`] are decided where the Cookie header is read.

use crate::domain::fingerprint::{Fingerprint, Fingerprints};
use crate::domain::secret::Secret;
use crate::domain::session::{Cause, ScopeId, Session};
use crate::domain::time::Timestamp;
use crate::domain::token::{KeyRing, TokenDigest};
use crate::store::table::{NotLive, Table};
use parking_lot::Mutex;

/// How many cookie values are remembered; some 250 KiB.
const REMEMBERED_MAX: usize = 4096;

/// What was verified under a fingerprint.
type Place = Mutex<Option<(Fingerprint, TokenDigest)>>;

/// Believes session tokens of one key ring.
pub struct SessionTokens {
    ring: KeyRing,
    fingerprints: Fingerprints,
    /// Values whose tag was found right, each in the one place that its fingerprint has, with their digests. A value that the ring
    /// refuses takes nobody's place; other keys come with an object of their own.
    remembered: Box<[Place]>,
}

impl SessionTokens {
    /// Believes tokens that a key of the ring made.
    pub fn new(ring: KeyRing) -> Self {
        let newest = ring.derive("session token fingerprint").swap_remove(0);
        let key = Secret::new(*newest.expose().first_chunk().expect("16 of 32 bytes"));
        let remembered = (0..REMEMBERED_MAX).map(|_| Mutex::new(None)).collect();
        Self { ring, fingerprints: Fingerprints::new(key), remembered }
    }

    /// The keys, to issue tokens and to derive keys for other uses.
    pub const fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Finds the live session that a cookie's value opens on this scope.
    ///
    /// Notes no use: whether this request counts as one is known after routing. Costs a `SipHash`, for a value that is not
    /// remembered one more per key and one SHA-256, and one shard's read lock; allocates nothing.
    pub fn look_up(
        &self,
        table: &Table,
        cookie_value: &[u8],
        scope: ScopeId,
        now: Timestamp,
    ) -> Result<Session, Cause> {
        let digest = self.digest(cookie_value).ok_or(Cause::Malformed)?;
        Self::find(table, digest, scope, now)
    }

    /// [`SessionTokens::look_up`] where the digest is at hand, found under the same keys.
    ///
    /// # Errors
    ///
    /// Why there is no live session.
    pub fn find(
        table: &Table,
        digest: TokenDigest,
        scope: ScopeId,
        now: Timestamp,
    ) -> Result<Session, Cause> {
        let session = table.find(&digest, now).map_err(|not_live| match not_live {
            NotLive::Unknown => Cause::Unknown,
            NotLive::Ended(end, _) => Cause::Ended(end),
        })?;
        if session.scope() == scope { Ok(session) } else { Err(Cause::OtherScope) }
    }

    /// [`KeyRing::digest`], mostly from memory.
    pub fn digest(&self, cookie_value: &[u8]) -> Option<TokenDigest> {
        let fingerprint = self.fingerprints.of(cookie_value);
        let place = &self.remembered[fingerprint.index(REMEMBERED_MAX)];
        let held = *place.lock();
        if let Some((_, digest)) = held.filter(|(held, _)| *held == fingerprint) {
            return Some(digest);
        }
        let digest = self.ring.digest(cookie_value)?;
        *place.lock() = Some((fingerprint, digest));
        Some(digest)
    }
}

impl std::fmt::Debug for SessionTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionTokens").field("ring", &self.ring).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::identity::{Claims, Identity};
    use crate::domain::secret::Secret;
    use crate::domain::session::{Clocks, End, Kind, Lifetimes, Opening, SessionId};
    use crate::store::table::Limits;
    use std::time::Duration;

    const LIFETIMES: Lifetimes =
        Lifetimes { idle_timeout: Duration::from_secs(10), absolute_lifetime: Duration::from_secs(30) };

    fn table() -> Table {
        let clocks = Clocks {
            signed_in: LIFETIMES,
            remembered: LIFETIMES,
            anonymous: LIFETIMES,
            renew_after: LIFETIMES.absolute_lifetime,
        };
        Table::new(Limits { capacity: 10, anonymous_capacity: 0, per_subject: None }, clocks, None)
    }

    fn tokens(key: u8) -> SessionTokens {
        SessionTokens::new(KeyRing::new(vec![Secret::new([key; 32])]).expect("one key"))
    }

    #[test]
    fn a_cookie_opens_a_live_session_on_its_own_scope_and_nothing_else_does() {
        let (ours, table) = (tokens(1), table());
        let (token, digest) = ours.ring().issue([5; 32]);
        let cookie = token.encode().expose().clone();
        let opening = Opening {
            digest,
            id: SessionId::from_bytes([1; 16]),
            kind: Kind::SignedIn,
            identity: Some(&Identity::new("alice", "local", &Claims::new()).expect("a plain identity packs")),
            entry: EntryId(1),
            scope: ScopeId(1),
            stamp: 0,
            sign_in: "local",
            client_address: "",
            user_agent: "",
            now: Timestamp::from_secs(0),
            lifetimes: LIFETIMES,
        };
        let look_up = |tokens: &SessionTokens, value: &str, scope, secs| {
            let now = Timestamp::from_secs(secs);
            tokens
                .look_up(&table, value.as_bytes(), ScopeId(scope), now)
                .map(|session| session.id().to_string())
        };

        assert_eq!(look_up(&ours, &cookie, 1, 0), Err(Cause::Unknown), "not opened yet");
        table.open(Session::open(opening), &[], Timestamp::from_secs(0)).expect("there is room");
        assert_eq!(look_up(&ours, &cookie, 1, 9), Ok(opening.id.to_string()));
        assert_eq!(look_up(&ours, &cookie, 2, 9), Err(Cause::OtherScope));
        assert_eq!(look_up(&tokens(2), &cookie, 1, 9), Err(Cause::Malformed), "a key that is not ours");
        assert_eq!(look_up(&ours, "junk", 1, 9), Err(Cause::Malformed));
        assert_eq!(look_up(&ours, &cookie, 1, 10), Err(Cause::Ended(End::Idle)), "nothing above was a use");
    }

    #[test]
    fn what_is_remembered_is_what_the_ring_says() {
        let tokens = tokens(1);
        let cookies: Vec<String> =
            (0..200).map(|byte| tokens.ring().issue([byte; 32]).0.encode().expose().clone()).collect();
        for _ in 0..2 {
            for cookie in &cookies {
                assert_eq!(tokens.digest(cookie.as_bytes()), tokens.ring().digest(cookie.as_bytes()));
                // The last character has two bits of no meaning: one spelling counts.
                let other = format!("{}{}", &cookie[..53], if cookie.ends_with('A') { 'B' } else { 'A' });
                assert_eq!(tokens.digest(other.as_bytes()), None);
            }
        }
        let held = tokens.remembered.iter().filter(|place| place.lock().is_some()).count();
        assert!((180..=200).contains(&held), "{held}");
    }

    #[test]
    fn every_cause_has_a_word_of_its_own() {
        let mut words: Vec<&str> = End::ALL.map(|end| Cause::Ended(end).reason()).to_vec();
        words.extend(
            [Cause::Absent, Cause::Malformed, Cause::Unknown, Cause::OtherScope, Cause::Several]
                .map(Cause::reason),
        );
        words.sort_unstable();
        let count = words.len();
        words.dedup();
        assert_eq!(words.len(), count);
    }
}
