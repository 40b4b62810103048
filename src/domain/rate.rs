//! How often something may happen: some times at once, then evenly; what is left, and when to come again.
//!
//! All that is remembered of a key is one instant: when it will have all its times back (the generic cell rate algorithm of
//! ITU-T I.371). Nothing here reads a clock.

use crate::domain::time::Timestamp;
use std::time::Duration;

/// So many times at once, and one more after every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    burst: u32,
    step_nanos: u64,
}

/// When a key has all its times back, in nanoseconds since the Unix epoch; [`Rested::default`]: long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rested(pub u64);

/// It may happen, and has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What is to be remembered from now on.
    pub rested: Rested,
    /// So many more times at once.
    pub left: u32,
    /// After so long all times are back.
    pub whole_in: Duration,
}

/// It may not happen now; nothing was counted. After so long it may happen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl Rate {
    /// `burst` times at once, and one more after every `step`; at least one, and a nanosecond.
    pub fn every(step: Duration, burst: u32) -> Self {
        Self { burst: burst.max(1), step_nanos: nanos(step).max(1) }
    }

    /// `times` in each `span`, evenly, and `burst` at once.
    pub fn of(times: u32, span: Duration, burst: u32) -> Self {
        Self::every(span / times.max(1), burst)
    }

    /// How long it takes until a key that has nothing left has all its times back.
    pub fn whole_in(self) -> Duration {
        Duration::from_nanos(self.step_nanos.saturating_mul(u64::from(self.burst)))
    }

    /// Counts one time for a key of which `held` is remembered.
    ///
    /// # Errors
    ///
    /// [`Wait`]: all times are used up. A reading of the clock that is late gives nothing back.
    pub fn take(self, held: Rested, now: Timestamp) -> Result<Taken, Wait> {
        let now = now.as_micros().saturating_mul(1000);
        let spent = held.0.saturating_sub(now);
        let spent_max = self.step_nanos.saturating_mul(u64::from(self.burst - 1));
        if let Some(too_early @ 1..) = spent.checked_sub(spent_max) {
            return Err(Wait(Duration::from_nanos(too_early)));
        }
        let spent = spent.saturating_add(self.step_nanos);
        let left = (spent_max.saturating_add(self.step_nanos) - spent) / self.step_nanos;
        Ok(Taken {
            rested: Rested(now.saturating_add(spent)),
            left: u32::try_from(left).unwrap_or(u32::MAX),
            whole_in: Duration::from_nanos(spent),
        })
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_secs(1_790_000_000).plus(Duration::from_micros(micros))
    }

    #[test]
    fn some_pass_at_once_and_then_one_a_step() {
        let rate = Rate::of(50, Duration::from_secs(1), 3);
        let mut held = Rested::default();
        // In milliseconds: when, and what is left, or how long to wait.
        for (now, expected) in [
            (0, Ok(2)),
            (0, Ok(1)),
            (0, Ok(0)),
            (0, Err(20)),
            (5, Err(15)),
            (20, Ok(0)),
            (20, Err(20)),
            (61, Ok(1)),
            (1000, Ok(2)),
            // A reading that is late.
            (900, Err(80)),
        ] {
            let taken = rate.take(held, at(now * 1000));
            let said = taken.map(|taken| taken.left).map_err(|Wait(wait)| wait.as_millis());
            assert_eq!(said, expected, "at {now} ms");
            if let Ok(taken) = taken {
                held = taken.rested;
            }
        }
    }

    #[test]
    fn what_was_used_up_is_back_when_it_says() {
        let rate = Rate::of(60, Duration::from_mins(1), 10);
        assert_eq!(rate.whole_in(), Duration::from_secs(10));
        let mut held = Rested::default();
        for left in (0..10).rev() {
            let taken = rate.take(held, at(0)).expect("ten at once");
            assert_eq!((taken.left, taken.whole_in), (left, Duration::from_secs(10 - u64::from(left))));
            held = taken.rested;
        }
        assert_eq!(rate.take(held, at(0)), Err(Wait(Duration::from_secs(1))));
        assert_eq!(rate.take(held, at(10_000_000)).expect("all are back").left, 9);
    }

    proptest! {
        /// Whatever the times of asking: in no span pass more than the burst and what the span gives back, and who waits as
        /// long as told passes.
        #[test]
        fn no_more_pass_than_the_rate_says(
            times in 1_u32..2000,
            span in 1_u64..100_000_000,
            burst in 1_u32..50,
            pauses in proptest::collection::vec(0_u64..2_000_000, 1..200),
        ) {
            let rate = Rate::of(times, Duration::from_micros(span), burst);
            let (mut now, mut held, mut passed) = (0, Rested::default(), Vec::new());
            for pause in pauses {
                now += pause;
                match rate.take(held, at(now)) {
                    Ok(taken) => {
                        prop_assert!(taken.left < burst);
                        held = taken.rested;
                        passed.push(now);
                    }
                    Err(Wait(wait)) => {
                        let until = at(now).plus(wait + Duration::from_micros(1));
                        prop_assert!(rate.take(held, until).is_ok());
                    }
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, until) in passed.iter().enumerate().skip(first) {
                    let most = u128::from(burst) + u128::from(until - from) * 1000 / u128::from(rate.step_nanos);
                    prop_assert!((last - first + 1) as u128 <= most);
                }
            }
        }

        #[test]
        fn no_number_makes_it_panic(step in 0_u64.., burst in 0_u32.., held in 0_u64.., now in 0_u64..) {
            let rate = Rate::every(Duration::from_nanos(step), burst);
            let _ = rate.take(Rested(held), Timestamp::from_micros(now));
        }
    }
}
