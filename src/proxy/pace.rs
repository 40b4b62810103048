//! How often something may happen, per whatever it is counted by; what is not remembered is allowed.
//!
//! A [`Tally`] keeps one instant per key ([`crate::domain::rate`]), for a bounded number of keys, and forgets one that was not asked
//! about for a day: whoever floods it with keys is forgotten first-come, and what then gets through too often has another
//! bound. A [`Pace`] is a tally for one rate of ours; the rates that the file sets for routes share one.

use crate::domain::rate::{Rate, Rested, Taken, Wait};
use crate::domain::time::Timestamp;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many keys are remembered.
const KEYS_MAX: u64 = 100_000;
/// A rate may take no longer than this until a key has all its times back, for longer nothing is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_hours(24);

/// What has happened lately, by key.
#[derive(Debug)]
pub struct Tally {
    keys: RandomState,
    /// When the key has all its times back. The instant is changed in place: counting writes nothing into the cache.
    rested: Cache<u64, Arc<AtomicU64>>,
}

impl Default for Tally {
    fn default() -> Self {
        // LRU: moka's default policy would drop the newest keys of a full cache first.
        let rested = Cache::builder()
            .max_capacity(KEYS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(REMEMBERED_FOR)
            .build();
        Self { keys: RandomState::new(), rested }
    }
}

impl Tally {
    /// Counts one time for `key`, whose rate must be a part of it.
    ///
    /// # Errors
    ///
    /// [`Wait`]: the rate allows no more now. A refusal counts for nothing.
    pub fn take(&self, rate: Rate, key: impl Hash, now: Timestamp) -> Result<Taken, Wait> {
        let rested = self.rested.get_with(self.keys.hash_one(key), Arc::default);
        let mut held = rested.load(Ordering::Relaxed);
        loop {
            let taken = rate.take(Rested(held), now)?;
            match rested.compare_exchange_weak(held, taken.rested.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(taken),
                Err(newer) => held = newer,
            }
        }
    }
}

/// One pace for many keys.
#[derive(Debug)]
pub struct Pace {
    tally: Tally,
    rate: Rate,
}

impl Pace {
    /// `burst` times at once, and one more after every `step`.
    pub fn new(burst: u32, step: Duration) -> Self {
        Self { tally: Tally::default(), rate: Rate::every(step, burst) }
    }

    /// Whether it may happen once more now; then it counts. A refusal counts for nothing.
    pub fn allows(&self, key: impl Hash, now: Timestamp) -> bool {
        self.tally.take(self.rate, key, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + secs)
    }

    #[test]
    fn a_key_has_some_times_at_once_and_then_one_a_step() {
        let pace = Pace::new(3, Duration::from_secs(2));
        let times = |key: &str, now| (0..5).filter(|_| pace.allows(key, now)).count();
        for (now, expected) in [(0, 3), (1, 0), (2, 1), (3, 0), (5, 1), (9, 2), (100, 3)] {
            assert_eq!(times("a", secs(now)), expected, "at {now} s");
        }
        assert_eq!(times("b", secs(100)), 3, "another key has its own");
        assert_eq!(times("b", secs(99)), 0, "a reading of the clock that is late gives nothing back");
    }

    #[test]
    fn one_a_minute_is_one_a_minute() {
        let pace = Pace::new(1, Duration::from_mins(1));
        let allowed: Vec<u64> = (0..200).filter(|now| pace.allows((), secs(*now))).collect();
        assert_eq!(allowed, [0, 60, 120, 180]);
    }

    #[test]
    fn of_many_at_once_no_more_pass_than_may() {
        let (tally, rate) = (Tally::default(), Rate::of(1, Duration::from_mins(1), 100));
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..100).filter(|_| tally.take(rate, "key", secs(0)).is_ok()).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 100);
    }
}
