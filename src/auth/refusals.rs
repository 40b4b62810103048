//! Tokens that were refused a moment ago, so that one that comes again and again is not verified each time.
//!
//! A table of a fixed size: a refusal has [`WAYS`] places, and where all are taken the oldest one goes. So whatever comes,
//! nothing is ever moved, swept or waited for, and the table never takes more than [`BYTES_MAX`]: what is forgotten is verified again.
//! Where a refusal lies depends on the keyed fingerprint of its token, so that nobody can aim. A shard takes
//! its memory when the first refusal falls into it.

use crate::auth::jwt::Refusal;
use crate::domain::access::EntryId;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::time::Timestamp;
use parking_lot::Mutex;
use std::time::Duration;

/// How long a refused token is not verified again.
pub const REFUSED_FOR: Duration = Duration::from_secs(10);
/// What all of them take at most.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests that are refused at the same instant seldom meet in one.
const SHARDS: usize = 64;
const SETS: usize = 256;
const WAYS: usize = 4;

/// What a verdict about a token depended on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) token: Fingerprint,
    pub(super) entry: EntryId,
    /// Of the settings.
    pub(super) generation: u64,
    /// Of the entry's keys.
    pub(super) revision: u64,
}

#[derive(Clone, Copy)]
struct Refused {
    key: Key,
    why: Refusal,
    at: Timestamp,
}

impl Refused {
    /// Not before it was refused either: a wall clock that was set back may have moved before `nbf`.
    fn holds_at(&self, wall: Timestamp) -> bool {
        (self.at..self.at.plus(REFUSED_FOR)).contains(&wall)
    }
}

/// Refusals that are held at most.
#[cfg(test)]
pub(super) const REFUSED_MAX: usize = SHARDS * SETS * WAYS;

type Set = [Option<Refused>; WAYS];

pub(super) struct Refusals {
    /// Without sets until the first refusal.
    shards: [Mutex<Vec<Set>>; SHARDS],
}

const _: () = assert!(size_of::<Set>() * SETS * SHARDS <= BYTES_MAX, "the bound that documents tell");

impl Refusals {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Vec::new())) }
    }

    /// Why this was refused less than [`REFUSED_FOR`] ago.
    pub(super) fn find(&self, key: &Key, wall: Timestamp) -> Option<Refusal> {
        let (shard, set) = place(key);
        let sets = self.shards[shard].lock();
        let mut held = sets.get(set)?.iter().flatten();
        held.find(|held| held.key == *key && held.holds_at(wall)).map(|held| held.why)
    }

    /// Remembers a refusal: in the place of what was known of the same, else in a free one, else in that of what was refused
    /// first.
    pub(super) fn insert(&self, key: Key, why: Refusal, at: Timestamp) {
        let (shard, set) = place(&key);
        let mut sets = self.shards[shard].lock();
        if sets.is_empty() {
            sets.resize(SETS, [None; WAYS]);
        }
        let rank = |held: &Option<Refused>| match held {
            Some(held) if held.key == key => (0, at),
            None => (1, at),
            Some(held) if !held.holds_at(at) => (2, held.at),
            Some(held) => (3, held.at),
        };
        if let Some(held) = sets[set].iter_mut().min_by_key(|held| rank(held)) {
            *held = Some(Refused { key, why, at });
        }
    }

    /// Forgets all, and gives the memory back.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Vec::new();
        }
    }

    /// How many are held, those included whose time is over.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|sets| sets.lock().iter().flatten().flatten().count()).sum()
    }
}

fn place(key: &Key) -> (usize, usize) {
    let at = key.token.index(SHARDS * SETS);
    (at / SETS, at % SETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fingerprint::Fingerprints;
    use crate::domain::secret::Secret;

    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    fn key(text: &str) -> Key {
        let token = Fingerprints::new(Secret::new([7; 16])).of(text.as_bytes());
        Key { token, entry: EntryId(1), generation: 1, revision: 1 }
    }

    fn later(seconds: u64) -> Timestamp {
        NOON.plus(Duration::from_secs(seconds))
    }

    /// So many keys that share one set.
    fn neighbours(count: usize) -> Vec<Key> {
        let wanted = place(&key("0"));
        (0..).map(|n: u32| key(&n.to_string())).filter(|key| place(key) == wanted).take(count).collect()
    }

    #[test]
    fn a_refusal_holds_for_ten_seconds_and_not_before_it_was_made() {
        let refusals = Refusals::new();
        refusals.insert(key("a"), Refusal::NotYet, NOON);
        for (wall, expected) in [
            (NOON, Some(Refusal::NotYet)),
            (later(9), Some(Refusal::NotYet)),
            (later(10), None),
            (NOON.minus(Duration::from_millis(1)), None),
        ] {
            assert_eq!(refusals.find(&key("a"), wall), expected, "{wall:?}");
        }
    }

    #[test]
    fn it_is_found_only_under_all_that_it_depended_on() {
        let refusals = Refusals::new();
        let known = key("a");
        refusals.insert(known, Refusal::Signature, NOON);
        for other in [
            key("b"),
            Key { entry: EntryId(2), ..known },
            Key { generation: 2, ..known },
            Key { revision: 2, ..known },
        ] {
            assert_eq!(refusals.find(&other, NOON), None);
        }
        assert_eq!(refusals.find(&known, NOON), Some(Refusal::Signature));
        refusals.clear();
        assert_eq!((refusals.find(&known, NOON), refusals.len()), (None, 0));
    }

    #[test]
    fn the_oldest_of_a_full_set_goes_and_what_is_over_goes_before() {
        let refusals = Refusals::new();
        let keys = neighbours(WAYS + 3);
        let is_held = |n: usize, wall| refusals.find(&keys[n], wall).is_some();
        for (n, key) in keys[..WAYS].iter().enumerate() {
            refusals.insert(*key, Refusal::Signature, later(n as u64));
        }
        // The first is refused again, and so is the youngest now.
        refusals.insert(keys[0], Refusal::Expired, later(5));
        assert_eq!(refusals.len(), WAYS);
        refusals.insert(keys[WAYS], Refusal::Signature, later(6));
        assert_eq!([0, 1, 2, 3, 4].map(|n| is_held(n, later(6))), [true, false, true, true, true]);
        // A clock that was set back: one from the future is over, and goes though it is the youngest.
        refusals.insert(keys[WAYS + 1], Refusal::Signature, later(5));
        assert_eq!([0, 2, 3, 5].map(|n| is_held(n, later(5))), [true; 4]);
        assert!(!is_held(4, later(6)));
    }

    #[test]
    fn a_flood_takes_no_more_than_the_bound() {
        let refusals = Refusals::new();
        for n in 0..3 * REFUSED_MAX {
            refusals.insert(key(&n.to_string()), Refusal::Signature, NOON);
        }
        assert!((REFUSED_MAX * 9 / 10..=REFUSED_MAX).contains(&refusals.len()), "{}", refusals.len());
    }

    #[test]
    fn threads_refuse_at_the_same_time() {
        let refusals = Refusals::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let refusals = &refusals;
                scope.spawn(move || {
                    for n in 0..2_000 {
                        let key = key(&format!("{thread} {n}"));
                        refusals.insert(key, Refusal::Signature, NOON);
                        assert_eq!(refusals.find(&key, NOON), Some(Refusal::Signature));
                    }
                });
            }
        });
    }
}
