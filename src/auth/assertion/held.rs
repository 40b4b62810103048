//! Assertions that were signed a moment ago.
//!
//! Each has one set in which it may lie, chosen by whom it speaks of; a set has a few places and a few kilobytes, and takes out
//! the oldest for a newer one. So memory is bounded, nothing has to be swept, and a look-up is one lock that hardly anybody else
//! wants. What fits is compared in full, claims and all: another is never given out, whatever falls on the same set.

use crate::domain::access::EntryId;
use crate::domain::decision::Credential;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use http::HeaderValue;
use parking_lot::Mutex;
use std::sync::Arc;

const SET_BITS: u32 = 12;
/// Of one set; 32 MiB in all sets together.
const SET_BYTES_MAX: usize = 8 * 1024;
const SET_PLACES: usize = 4;
/// What an entry takes beside claims and value.
const ENTRY_BYTES: usize = 160;

/// For whom, and to whom, an assertion was signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// The session's token of this generation.
    Session(SessionId, u32),
    /// A token of this entry with this end, as it was verified then.
    Token(EntryId, Timestamp, Timestamp),
}

/// What an assertion must have been signed for.
pub(super) struct Fits<'a> {
    holder: Holder,
    audience: usize,
    identity: &'a [u8],
    set: usize,
}

impl<'a> Fits<'a> {
    pub(super) fn new(credential: &'a Credential, audience: usize) -> Self {
        // Ids are random, and addresses of tokens differ: enough to spread by.
        let (holder, spread) = match credential {
            Credential::Session(session) => {
                let id = session.id();
                let (first, _) = id.as_bytes().split_first_chunk().expect("an id has sixteen bytes");
                (Holder::Session(id, session.generation()), u64::from_le_bytes(*first))
            }
            Credential::Token(token) => (
                Holder::Token(token.entry, token.expires_at, token.verified_at),
                Arc::as_ptr(token).addr() as u64,
            ),
        };
        let spread = spread.wrapping_add(audience as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            holder,
            audience,
            identity: credential.identity().as_packed(),
            set: (spread >> (u64::BITS - SET_BITS)) as usize,
        }
    }
}

struct Entry {
    holder: Holder,
    audience: usize,
    identity: Box<[u8]>,
    signed_at: Timestamp,
    /// Half of its life is over.
    stale_at: Timestamp,
    value: HeaderValue,
}

impl Entry {
    fn fits(&self, fits: &Fits<'_>) -> bool {
        self.holder == fits.holder && self.audience == fits.audience && *self.identity == *fits.identity
    }

    fn bytes(&self) -> usize {
        self.identity.len() + self.value.len() + ENTRY_BYTES
    }
}

/// All that are remembered.
pub(super) struct Held(Box<[Mutex<Vec<Entry>>]>);

impl Default for Held {
    fn default() -> Self {
        Self((0..1 << SET_BITS).map(|_| Mutex::default()).collect())
    }
}

impl Held {
    /// The one that fits and is fresh.
    pub(super) fn find(&self, fits: &Fits<'_>, wall: Timestamp) -> Option<HeaderValue> {
        let set = self.0[fits.set].lock();
        let entry = set.iter().find(|entry| entry.fits(fits))?;
        (entry.signed_at..entry.stale_at).contains(&wall).then(|| entry.value.clone())
    }

    /// Remembers one that was signed at `wall`, until half-way to `ends_at`.
    pub(super) fn keep(&self, fits: &Fits<'_>, value: HeaderValue, wall: Timestamp, ends_at: Timestamp) {
        let stale_at = wall.plus(ends_at.since(wall) / 2);
        let Fits { holder, audience, .. } = *fits;
        let entry =
            Entry { holder, audience, identity: fits.identity.into(), signed_at: wall, stale_at, value };
        if entry.bytes() > SET_BYTES_MAX {
            return;
        }
        let mut set = self.0[fits.set].lock();
        set.retain(|held| !held.fits(fits) && held.stale_at > wall);
        while set.len() >= SET_PLACES
            || set.iter().map(Entry::bytes).sum::<usize>() + entry.bytes() > SET_BYTES_MAX
        {
            // In the order in which they were signed.
            set.remove(0);
        }
        set.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::Believed;
    use crate::domain::identity::{ClaimValue, Claims, Identity};
    use crate::domain::token_facts::TokenFacts;

    fn token(subject: &str, claim: &str) -> Credential {
        let claims = Claims::from([("note".to_owned(), ClaimValue::Text(claim.to_owned()))]);
        Credential::Token(Arc::new(Believed {
            token: TokenFacts::default(),
            identity: Identity::new(subject, "api", &claims).expect("an identity"),
            expires_at: Timestamp::from_secs(100),
            entry: EntryId(1),
            verified_at: Timestamp::from_secs(1),
        }))
    }

    /// Whatever is kept, a set stays within its places and its bytes.
    #[test]
    fn memory_has_a_bound() {
        let held = Held::default();
        let now = Timestamp::from_secs(10);
        for (number, length) in (0..200).zip([10, 3000, 7000, 9000].into_iter().cycle()) {
            let credential = token(&format!("user {number}"), &"x".repeat(length));
            let fits = Fits { set: 0, ..Fits::new(&credential, 0) };
            held.keep(&fits, HeaderValue::from_static("signed"), now, Timestamp::from_secs(70));
            let set = held.0[0].lock();
            assert!(set.len() <= SET_PLACES);
            assert!(set.iter().map(Entry::bytes).sum::<usize>() <= SET_BYTES_MAX);
            drop(set);
            assert_eq!(held.find(&fits, now).is_some(), length < 8000, "{length}");
        }
    }

    #[test]
    fn neighbours_in_a_set_are_told_apart() {
        let held = Held::default();
        let (alice, mallory) = (token("alice", "a"), token("mallory", "a"));
        let of = |credential| Fits { set: 0, ..Fits::new(credential, 0) };
        let now = Timestamp::from_secs(10);
        held.keep(&of(&alice), HeaderValue::from_static("alice"), now, Timestamp::from_secs(70));
        assert_eq!(held.find(&of(&mallory), now), None);
        held.keep(&of(&mallory), HeaderValue::from_static("mallory"), now, Timestamp::from_secs(70));
        assert_eq!(held.find(&of(&alice), now), Some(HeaderValue::from_static("alice")));
        assert_eq!(held.find(&of(&mallory), now), Some(HeaderValue::from_static("mallory")));
    }
}
