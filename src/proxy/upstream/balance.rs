//! Which of several servers gets a request: arithmetic over weights.
//!
//! A weight of zero stands for a server that may not be chosen. Weights are in any unit, the same for all.

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// 2⁶⁴ divided by the golden ratio: its multiples lie evenly on a circle, however many are taken.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The order in which servers take turns, each as often as its weight says and as evenly spread as can be (the smooth
/// weighted round robin that nginx made known). Numbers of servers; as long as the weights' sum over their common divisor.
pub(super) fn schedule(weights: &[u16]) -> Box<[u8]> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut owed = vec![0; weights.len()];
    let turns = (0..total).map(|_| {
        for (owed, weight) in owed.iter_mut().zip(&weights) {
            *owed += weight;
        }
        // The first of those to which most is owed.
        let next = (0..owed.len()).rev().max_by_key(|&at| owed[at]).unwrap_or_default();
        owed[next] -= total;
        u8::try_from(next).unwrap_or(u8::MAX)
    });
    turns.collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The server that falls to this turn where weights change as requests come: over many turns each gets its share.
pub(super) fn draw(weights: &[u32], turn: usize) -> Option<usize> {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let fraction = (turn as u64).wrapping_mul(GOLDEN);
    let mut point = ((u128::from(fraction) * u128::from(total)) >> 64) as u64;
    weights.iter().position(|&weight| {
        let here = point < u64::from(weight);
        point = point.saturating_sub(u64::from(weight));
        here
    })
}

/// The server with the fewest requests under way for its weight; among equals the one whose turn it is.
pub(super) fn least(weights: &[u32], under_way: impl Fn(usize) -> usize, turn: usize) -> Option<usize> {
    let count = weights.len();
    let rotated = (0..count).map(|step| (turn.wrapping_add(step)) % count);
    let open = rotated.filter(|&at| weights[at] > 0);
    open.map(|at| (at, under_way(at) as u64 + 1))
        .reduce(|best, next| {
            // next / weight(next) < best / weight(best), without dividing.
            let fewer = next.1 * u64::from(weights[best.0]) < best.1 * u64::from(weights[next.0]);
            if fewer { next } else { best }
        })
        .map(|(at, _)| at)
}

/// The server to which `key` belongs (weighted rendezvous hashing: Thaler and Ravishankar 1998). Where a server leaves, only
/// its keys move; where one comes, only those that become its own.
pub(super) fn rendezvous(weights: &[u32], ids: impl Fn(usize) -> u64, key: u64) -> Option<usize> {
    let open = (0..weights.len()).filter(|&at| weights[at] > 0);
    let scored = open.map(|at| {
        let mut hasher = SipHasher24::new_with_keys(key, ids(at));
        hasher.write_u8(0);
        // In (0, 1): 53 bits and a half.
        let unit = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (at, -f64::from(weights[at]) / unit.ln())
    });
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: usize, choose: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
        let mut shares = vec![0; count];
        for turn in 0..10_000 {
            shares[choose(turn).expect("one is open")] += 1;
        }
        shares
    }

    #[test]
    fn turns_are_taken_evenly_and_as_often_as_weights_say() {
        for (weights, expected) in [
            (&[1, 1][..], &[0, 1][..]),
            (&[7, 7, 7], &[0, 1, 2]),
            (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
            (&[2, 4], &[1, 0, 1]),
            (&[9], &[0]),
        ] {
            assert_eq!(&*schedule(weights), expected, "{weights:?}");
        }
        assert!(schedule(&[]).is_empty());
    }

    #[test]
    fn a_draw_gives_each_its_share_and_none_to_those_who_are_out() {
        for (weights, expected) in [
            (&[1000, 1000][..], &[5000, 5000][..]),
            (&[3000, 1000], &[7500, 2500]),
            (&[1000, 0, 1000, 2000], &[2500, 0, 2500, 5000]),
            (&[1000, 100], &[9091, 909]),
        ] {
            let got = shares(weights.len(), |turn| draw(weights, turn));
            for (got, expected) in got.iter().zip(expected) {
                assert!(got.abs_diff(*expected) <= 5, "{weights:?}: {got} is not {expected}");
            }
        }
        assert_eq!((draw(&[0, 0], 7), draw(&[], 7)), (None, None));
    }

    #[test]
    fn the_server_with_least_to_do_for_its_weight_is_next() {
        for (weights, under_way, turn, expected) in [
            (&[1, 1][..], &[3, 2][..], 0, Some(1)),
            (&[1, 1], &[2, 2], 0, Some(0)),
            (&[1, 1], &[2, 2], 1, Some(1)),
            (&[3, 1], &[2, 0], 0, Some(0)),
            (&[3, 1], &[3, 0], 0, Some(1)),
            (&[0, 1], &[0, 90], 0, Some(1)),
            (&[0, 0], &[0, 0], 0, None),
        ] {
            assert_eq!(
                least(weights, |at| under_way[at], turn),
                expected,
                "{weights:?} {under_way:?} {turn}"
            );
        }
    }

    #[test]
    fn only_the_keys_of_a_server_that_leaves_move() {
        let ids = |at: usize| 0xA5A5 + at as u64 * 977;
        let before = [1000, 1000, 1000];
        let after = [1000, 0, 1000];
        let counted = shares(3, |key| rendezvous(&before, ids, key as u64));
        assert!(counted.iter().all(|count| count.abs_diff(3333) < 250), "{counted:?}");
        for key in 0..10_000 {
            let (was, is) = (rendezvous(&before, ids, key), rendezvous(&after, ids, key));
            assert!(was == is || was == Some(1), "key {key} moved from {was:?} to {is:?}");
        }
        let weighted = shares(2, |key| rendezvous(&[3000, 1000], ids, key as u64));
        assert!(weighted[0].abs_diff(7500) < 250, "{weighted:?}");
        assert_eq!(rendezvous(&[0], ids, 1), None);
    }

    #[test]
    fn a_server_that_grows_takes_keys_and_gives_none_back() {
        let ids = |at: usize| at as u64 + 1;
        for key in 0..2_000 {
            let mut had = false;
            for weight in [0, 100, 400, 700, 1000] {
                let has = rendezvous(&[1000, weight], ids, key) == Some(1);
                assert!(has || !had, "key {key} left a server that grew");
                had = has;
            }
        }
    }
}
