//! How often something may happen, per whatever it is counted by; what is not remembered is allowed.
//!
//! A [`Pace`] gives each key some times at once and then one after every step. It keeps one instant per key, for a bounded
//! number of keys: whoever floods it with keys is forgotten first-come, and what then gets through too often has another bound.

use crate::domain::time::Timestamp;
use moka::ops::compute::{CompResult, Op};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// How many keys are remembered.
const KEYS_MAX: u64 = 100_000;

/// One pace for many keys.
#[derive(Debug)]
pub struct Pace {
    keys: RandomState,
    /// When the key has all its times back.
    rested_at: Cache<u64, Timestamp>,
    step: Duration,
    burst: u32,
}

impl Pace {
    /// `burst` times at once, and one more after every `step`.
    pub fn new(burst: u32, step: Duration) -> Self {
        Self {
            keys: RandomState::new(),
            // LRU: moka's default policy would drop the newest keys of a full cache first.
            rested_at: Cache::builder().max_capacity(KEYS_MAX).eviction_policy(EvictionPolicy::lru()).build(),
            step,
            burst,
        }
    }

    /// Whether it may happen once more now; then it counts. A refusal counts for nothing.
    pub fn allows(&self, key: impl Hash, now: Timestamp) -> bool {
        let key = self.keys.hash_one(key);
        let spent_max = self.step.saturating_mul(self.burst.saturating_sub(1));
        let counted = self.rested_at.entry(key).and_compute_with(|held| {
            let rested_at = held.map_or(now, |held| held.into_value().max(now));
            if rested_at.since(now) > spent_max { Op::Nop } else { Op::Put(rested_at.plus(self.step)) }
        });
        !matches!(counted, CompResult::Unchanged(_) | CompResult::StillNone(_))
    }
}

/// What stands for one visitor when openings are counted: the address, or the /64 of IPv6, of which a client has as
/// many addresses as it likes.
pub fn visitor_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
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
    fn a_visitor_is_an_address_or_a_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let [a, b] = [one, other].map(|text| visitor_network(text.parse().expect("an address")));
            assert_eq!(a == b, same, "{one} {other}");
        }
    }
}
