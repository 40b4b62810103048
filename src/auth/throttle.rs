//! How fast passwords may be guessed, and by whom: decisions over counts that may be forgotten.
//!
//! Three counts slow strangers: those of a network against one subject, of everybody against one subject, of a network
//! against anybody. Each gives some attempts free; then the pause between attempts doubles up to a bound, and half of
//! the count is forgotten every ten minutes of peace. A network never waits longer than [`OWN_PAUSE_MAX`], and the
//! subject-wide pause never exceeds [`SUBJECT_PAUSE_MAX`], however many attack.
//!
//! Nobody can be locked out by others: a known device is not slowed by any of the three, nor is a network from which
//! the subject signed in lately slowed by the subject-wide one. A known device that fails [`DEVICE_FAILURES_MAX`] times
//! is a stranger until its count has faded: a stolen cookie is no way around.
//!
//! An attempt counts as failed from its admission, so that parallel ones do not slip through; success, or no place in
//! the queue, takes it back. An entry that stays has therefore cost its maker one hash: the caches cannot be
//! flushed for less. They hold fingerprints, not names.

use crate::auth::hashing::fingerprint;
use crate::domain::time::Timestamp;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::hash::{Hash, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// The longest pause of a network that failed against one subject again and again.
pub const OWN_PAUSE_MAX: Duration = Duration::from_mins(5);
/// The longest pause between any two strangers' attempts on one subject.
pub const SUBJECT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// So often may a known device fail before it counts as a stranger.
pub const DEVICE_FAILURES_MAX: u32 = 10;

const ENTRIES_MAX: u64 = 100_000;
const FADES_BY_HALF: Duration = Duration::from_mins(10);
/// How long a network stays familiar after a sign-in.
const FAMILIAR_FOR: Duration = Duration::from_hours(30 * 24);

const OWN: Slope = Slope { free: 5, first: Duration::from_secs(1), max: OWN_PAUSE_MAX };
const SUBJECT: Slope = Slope { free: 20, first: Duration::from_secs(1), max: SUBJECT_PAUSE_MAX };
const NETWORK: Slope = Slope { free: 50, first: Duration::from_millis(500), max: Duration::from_secs(10) };

/// The part of a client's address that stands for the client: /24 of IPv4, /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// The first three bytes.
    V4([u8; 3]),
    /// The first four groups.
    V6([u16; 4]),
}

impl Network {
    /// The network of an address. An IPv4 address written in IPv6 is the same client as in IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// The number that a known-device cookie carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(pub [u8; 8]);

/// Too early: when to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts; try again in {} s", .0.as_secs().max(1))]
pub struct RetryAfter(pub Duration);

/// An admitted attempt; tell the throttle how it ended.
#[derive(Clone, Copy, Debug)]
#[must_use = "an attempt that is not reported stays a failure"]
pub struct Attempt {
    own: u64,
    subject: u64,
    network: u64,
    device: Option<u64>,
}

impl Attempt {
    /// Whether the attempt came from a known device in good standing.
    pub fn is_known(&self) -> bool {
        self.device.is_some()
    }

    /// A fingerprint of source and subject.
    pub fn subject(&self) -> u64 {
        self.subject
    }

    /// A fingerprint of the client's network.
    pub fn network(&self) -> u64 {
        self.network
    }
}

/// The counts. One object for the life of the process: a reload forgives nobody.
pub struct Throttle {
    keys: RandomState,
    /// Held from the look at the counts until the attempt is counted: of many at the same instant each sees those before it.
    admitting: Mutex<()>,
    counts: Cache<u64, Failures>,
    familiar: Cache<u64, Timestamp>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// No counts yet.
    pub fn new() -> Self {
        fn cache<V: Clone + Send + Sync + 'static>() -> Cache<u64, V> {
            // LRU: moka's default policy would drop the newest counts of a full cache first.
            Cache::builder().max_capacity(ENTRIES_MAX).eviction_policy(EvictionPolicy::lru()).build()
        }
        Self { keys: RandomState::new(), admitting: Mutex::new(()), counts: cache(), familiar: cache() }
    }

    /// Admits an attempt to sign in as `subject`, or says when to come again. A name that no file knows counts like
    /// any other, else the pause would tell which names exist.
    ///
    /// # Errors
    ///
    /// [`RetryAfter`]: the attempt is refused and not counted.
    pub fn admit(
        &self,
        source: &str,
        subject: &str,
        network: Network,
        device: Option<DeviceId>,
        now: Timestamp,
    ) -> Result<Attempt, RetryAfter> {
        let device = device.map(|device| self.key("device", device));
        let _admitting = self.admitting.lock();
        let attempt = Attempt {
            own: self.key("own", (source, subject, network)),
            subject: self.key("subject", (source, subject)),
            network: self.key("network", network),
            device: device.filter(|&device| self.failures(device).faded(now) < DEVICE_FAILURES_MAX),
        };
        if let Some(device) = attempt.device {
            self.count(device, now);
            return Ok(attempt);
        }
        let familiar = self.familiar.get(&attempt.own).is_some_and(|at| now.since(at) < FAMILIAR_FOR);
        let wait = [
            (attempt.own, OWN, true),
            (attempt.subject, SUBJECT, !familiar),
            (attempt.network, NETWORK, true),
        ]
        .into_iter()
        .filter(|(_, _, applies)| *applies)
        .map(|(key, slope, _)| self.failures(key).wait(slope, now))
        .max()
        .unwrap_or_default();
        if !wait.is_zero() {
            return Err(RetryAfter(wait));
        }
        for key in attempt.stranger_keys() {
            self.count(key, now);
        }
        Ok(attempt)
    }

    /// The password was right. What the network failed before against this subject is forgiven; what others failed
    /// is not.
    pub fn succeeded(&self, attempt: &Attempt, now: Timestamp) {
        self.take_back(attempt);
        self.counts.invalidate(&attempt.own);
        if let Some(device) = attempt.device {
            self.counts.invalidate(&device);
        }
        self.familiar.insert(attempt.own, now);
    }

    /// The attempt was not made after all: the queue had no place.
    pub fn take_back(&self, attempt: &Attempt) {
        match attempt.device {
            Some(device) => self.uncount(device),
            None => attempt.stranger_keys().into_iter().for_each(|key| self.uncount(key)),
        }
    }

    fn key(&self, kind: &str, of: impl Hash) -> u64 {
        fingerprint(&self.keys, (kind, of))
    }

    fn failures(&self, key: u64) -> Failures {
        self.counts.get(&key).unwrap_or_default()
    }

    fn count(&self, key: u64, now: Timestamp) {
        self.counts.entry(key).and_upsert_with(|held| {
            let held = held.map_or(Failures::default(), moka::Entry::into_value);
            Failures { count: held.faded(now).saturating_add(1), last_at: now }
        });
    }

    fn uncount(&self, key: u64) {
        self.counts.entry(key).and_compute_with(|held| match held.map(moka::Entry::into_value) {
            None => Op::Nop,
            Some(Failures { count: 0 | 1, .. }) => Op::Remove,
            Some(Failures { count, last_at }) => Op::Put(Failures { count: count - 1, last_at }),
        });
    }
}

impl Attempt {
    fn stranger_keys(&self) -> [u64; 3] {
        [self.own, self.subject, self.network]
    }
}

/// How many attempts are free, and how the pause grows after them.
#[derive(Clone, Copy)]
struct Slope {
    free: u32,
    first: Duration,
    max: Duration,
}

#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    last_at: Timestamp,
}

impl Failures {
    /// What is left of the count at `now`.
    fn faded(self, now: Timestamp) -> u32 {
        let halvings = now.since(self.last_at).as_secs() / FADES_BY_HALF.as_secs();
        self.count.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// How long the next attempt has to wait.
    fn wait(self, slope: Slope, now: Timestamp) -> Duration {
        let Some(over) = self.faded(now).checked_sub(slope.free) else { return Duration::ZERO };
        let pause = slope.first.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX)).min(slope.max);
        self.last_at.plus(pause).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(n: u32) -> Network {
        Network::of(IpAddr::from((n << 8).to_be_bytes()))
    }

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    const LAPTOP: DeviceId = DeviceId([1; 8]);

    /// Every second each of the networks tries; gives how many attempts passed.
    fn attack(throttle: &Throttle, networks: std::ops::Range<u32>, seconds: std::ops::Range<u64>) -> usize {
        let mut admitted = 0;
        for second in seconds {
            for n in networks.clone() {
                admitted +=
                    usize::from(throttle.admit("local", "alice", network(n), None, secs(second)).is_ok());
            }
        }
        admitted
    }

    #[test]
    fn a_client_is_its_24_or_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.255", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("192.0.2.1", "::ffff:192.0.2.9", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ] {
            let [a, b] = [one, other].map(|text| Network::of(text.parse().expect("an address")));
            assert_eq!(a == b, same, "{one} {other}");
        }
    }

    #[test]
    fn of_many_at_the_same_instant_no_more_pass_than_one_after_the_other() {
        let start = std::sync::Barrier::new(4);
        for round in 0..3_000 {
            let throttle = Throttle::new();
            let attempt = |now| throttle.admit("local", "alice", network(1), None, now).is_ok();
            for _ in 1..OWN.free {
                assert!(attempt(secs(0)));
            }
            let passed: usize = std::thread::scope(|scope| {
                let tries: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            usize::from(attempt(secs(0)))
                        })
                    })
                    .collect();
                tries.into_iter().map(|one| one.join().expect("nobody panics")).sum()
            });
            assert_eq!(passed, 1, "round {round}");
        }
    }

    #[test]
    fn a_stranger_waits_longer_with_each_failure_up_to_the_bound() {
        let throttle = Throttle::new();
        let mut now = secs(0);
        let mut waits = Vec::new();
        for _ in 0..20 {
            if let Err(RetryAfter(wait)) = throttle.admit("local", "alice", network(1), None, now) {
                waits.push(wait.as_secs());
                now = now.plus(wait);
                let _ = throttle.admit("local", "alice", network(1), None, now).expect("the wait is over");
            }
        }
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300], "{waits:?}");
        assert!(waits.iter().all(|&wait| wait <= OWN_PAUSE_MAX.as_secs()));
    }

    #[test]
    fn attackers_flooding_a_subject_do_not_slow_its_known_device() {
        let throttle = Throttle::new();
        attack(&throttle, 0..200, 0..60);
        let stranger = throttle.admit("local", "alice", network(999), None, secs(60));
        assert!(stranger.is_err(), "a stranger is slowed");
        let owner = throttle.admit("local", "alice", network(999), Some(LAPTOP), secs(60));
        assert!(owner.expect("the known device passes").is_known());
    }

    #[test]
    fn attackers_flooding_a_subject_do_not_slow_the_network_it_signed_in_from() {
        let throttle = Throttle::new();
        let home = throttle.admit("local", "alice", network(999), None, secs(0)).expect("nobody has failed");
        throttle.succeeded(&home, secs(0));
        attack(&throttle, 0..200, 0..60);
        assert!(throttle.admit("local", "alice", network(999), None, secs(60)).is_ok());
        assert!(throttle.admit("local", "alice", network(998), None, secs(60)).is_err());
    }

    #[test]
    fn however_many_networks_attack_a_subject_the_guesses_are_few() {
        let throttle = Throttle::new();
        let hour = attack(&throttle, 0..60, 0..3600);
        // Twenty are free, then the pause grows to half a minute.
        assert!((120..160).contains(&hour), "{hour} in an hour");
    }

    #[test]
    fn others_are_not_slowed_by_an_attack_on_one_subject() {
        let throttle = Throttle::new();
        attack(&throttle, 0..200, 0..60);
        assert!(throttle.admit("local", "bob", network(999), None, secs(60)).is_ok());
        assert!(
            throttle.admit("other", "alice", network(999), None, secs(60)).is_ok(),
            "another source's alice"
        );
    }

    #[test]
    fn one_network_guessing_at_many_names_is_slowed_too() {
        let throttle = Throttle::new();
        let admitted = (0..10_000)
            .filter(|n| throttle.admit("local", &format!("user{n}"), network(1), None, secs(n / 100)).is_ok())
            .count();
        assert!((50..80).contains(&admitted), "{admitted} in a hundred seconds");
    }

    #[test]
    fn a_known_device_that_keeps_failing_is_a_stranger_until_that_fades() {
        let throttle = Throttle::new();
        for _ in 0..DEVICE_FAILURES_MAX {
            let attempt = throttle.admit("local", "alice", network(1), Some(LAPTOP), secs(0)).expect("known");
            assert!(attempt.is_known());
        }
        let demoted =
            throttle.admit("local", "alice", network(1), Some(LAPTOP), secs(0)).expect("strangers pass too");
        assert!(!demoted.is_known());
        let later = secs(FADES_BY_HALF.as_secs());
        assert!(throttle.admit("local", "alice", network(1), Some(LAPTOP), later).expect("faded").is_known());
    }

    #[test]
    fn success_forgives_the_network_but_not_the_attackers() {
        let throttle = Throttle::new();
        let _ = attack(&throttle, 0..1, 0..10);
        let home = throttle.admit("local", "alice", network(0), None, secs(500)).expect("its pause is over");
        throttle.succeeded(&home, secs(500));
        assert!(throttle.admit("local", "alice", network(0), None, secs(500)).is_ok(), "forgiven");

        attack(&throttle, 1..200, 500..560);
        let device = throttle.admit("local", "alice", network(999), Some(LAPTOP), secs(560)).expect("known");
        throttle.succeeded(&device, secs(560));
        assert!(
            throttle.admit("local", "alice", network(77), None, secs(560)).is_err(),
            "attackers still wait"
        );
    }

    #[test]
    fn an_attempt_taken_back_never_was() {
        let throttle = Throttle::new();
        for n in 0..1000 {
            let attempt =
                throttle.admit("local", "alice", network(n % 3), None, secs(0)).expect("none counts");
            throttle.take_back(&attempt);
        }
        throttle.counts.run_pending_tasks();
        assert_eq!(throttle.counts.entry_count(), 0, "and leaves no entry");
    }

    #[test]
    fn peace_makes_the_count_fade() {
        let throttle = Throttle::new();
        attack(&throttle, 0..200, 0..60);
        assert!(throttle.admit("local", "alice", network(999), None, secs(60)).is_err());
        let _ =
            throttle.admit("local", "alice", network(999), None, secs(60 + 3600)).expect("an hour of peace");
    }
}
