//! Which proofs were used, until their time is over: each counts once (RFC 9449 §11.1).
//!
//! A proof is known by the key that signed it and its `jti`, as a keyed fingerprint. There is a bound to what is remembered, and
//! a full place refuses: what is forgotten could be used again. Each place is for the clients whose keys fall into it, so that
//! one client that signs without end fills its own and no other.

use crate::domain::fingerprint::{Fingerprint, Fingerprints};
use crate::domain::possession::Unproved;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;

const SHARDS: usize = 16;
/// With a minute and a half, the time of a proof by default, some 700 requests a second for each place; all of them together take
/// some 50 MiB when they are full.
const PROOFS_PER_SHARD: usize = 64 * 1024;
/// Below so many nothing is looked through.
const SWEEP_MIN: usize = 1024;

pub(super) struct Replays {
    shards: [Mutex<Shard>; SHARDS],
    fingerprints: Fingerprints,
}

struct Shard {
    /// Until which second each may be used.
    used: HashMap<Fingerprint, u32>,
    /// How many there have to be before they are looked through again.
    sweep_at: usize,
    swept_at: u32,
}

impl Default for Shard {
    fn default() -> Self {
        Self { used: HashMap::new(), sweep_at: SWEEP_MIN, swept_at: 0 }
    }
}

impl Replays {
    pub(super) fn new() -> Self {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self { shards: Default::default(), fingerprints: Fingerprints::new(Secret::new(key)) }
    }

    /// Notes that a proof of the key with this thumbprint was used, and could be until `until`; by the process's own time.
    pub(super) fn note(
        &self,
        jkt: &[u8; 32],
        jti: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Unproved> {
        let proof = self.fingerprints.of(&[jkt, jti.as_bytes()].concat());
        let (until, now) = (second(until).saturating_add(1), second(now));
        let mut shard = self.shards[usize::from(jkt[0]) % SHARDS].lock();
        if shard.used.get(&proof).is_some_and(|&until| until > now) {
            return Err(Unproved::Replayed);
        }
        // Looking through costs as much as what was added since; of a full place it is tried once a second.
        if shard.used.len() >= shard.sweep_at && shard.swept_at != now {
            shard.used.retain(|_, until| *until > now);
            shard.swept_at = now;
            shard.sweep_at = (shard.used.len() * 2).clamp(SWEEP_MIN, PROOFS_PER_SHARD);
        }
        if shard.used.len() >= PROOFS_PER_SHARD {
            return Err(Unproved::Full);
        }
        shard.used.insert(proof, until);
        Ok(())
    }
}

/// Seconds since 1970 in four bytes, which last until 2106.
fn second(at: Timestamp) -> u32 {
    u32::try_from(at.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn noon(after: u64) -> Timestamp {
        Timestamp::from_secs(1_795_348_800).plus(Duration::from_secs(after))
    }

    #[test]
    fn a_proof_counts_once_while_it_could_be_used() {
        let replays = Replays::new();
        let key = [7; 32];
        assert_eq!(replays.note(&key, "a", noon(90), noon(0)), Ok(()));
        assert_eq!(replays.note(&key, "a", noon(90), noon(0)), Err(Unproved::Replayed));
        assert_eq!(replays.note(&key, "a", noon(90), noon(90)), Err(Unproved::Replayed));
        assert_eq!(replays.note(&key, "b", noon(90), noon(0)), Ok(()));
        assert_eq!(replays.note(&[8; 32], "a", noon(90), noon(0)), Ok(()), "of another key");
        assert_eq!(replays.note(&key, "a", noon(200), noon(91)), Ok(()), "its time is over");
    }

    #[test]
    fn a_full_place_refuses_until_the_time_of_some_is_over_and_others_go_on() {
        let replays = Replays::new();
        let (busy, other) = ([7; 32], [8; 32]);
        for number in 0..PROOFS_PER_SHARD {
            assert_eq!(replays.note(&busy, &number.to_string(), noon(90), noon(0)), Ok(()), "{number}");
        }
        assert_eq!(replays.note(&busy, "more", noon(90), noon(1)), Err(Unproved::Full));
        assert_eq!(replays.note(&busy, "7", noon(90), noon(1)), Err(Unproved::Replayed), "still known");
        assert_eq!(replays.note(&other, "more", noon(90), noon(1)), Ok(()));
        assert_eq!(replays.note(&busy, "more", noon(200), noon(91)), Ok(()));
        assert_eq!(replays.shards[7].lock().used.len(), 1, "what is over is dropped");
    }
}
