//! The one reader of the system's clocks.
//!
//! Session deadlines run on the wall time at start plus the boot time elapsed since (`CLOCK_BOOTTIME`, which counts time
//! spent suspended): a step of the wall clock moves no session, a suspended machine lets them age. Tokens issued
//! elsewhere are judged by the wall clock itself.

use crate::domain::time::{Clock, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A difference between both clocks that grows by more than this at once is a step, not a drift.
const STEP_MIN_MICROS: i64 = 1_000_000;

/// The end of the year 9999: no clock is started later, whatever a file says.
const LATEST_MICROS: i64 = 253_402_300_799_000_000;

/// The system's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    /// What is added to boot time to give the wall time at start; microseconds.
    offset: i64,
    /// The offset between wall clock and session clock when last looked at; microseconds.
    seen: AtomicI64,
}

impl SystemClock {
    /// Starts the session clock at the wall clock's time.
    pub(crate) fn start() -> Self {
        Self::start_after(Timestamp::default())
    }

    /// Starts the session clock at the wall clock's time, or at `latest` if that is later: the instants of a store that
    /// outlives the process must not lie ahead of it.
    pub(crate) fn start_after(latest: Timestamp) -> Self {
        let wall = micros(ClockId::Realtime);
        let latest = i64::try_from(latest.as_micros()).unwrap_or(i64::MAX).min(LATEST_MICROS);
        let ahead = (latest - wall).max(0);
        Self { offset: wall + ahead - micros(ClockId::Boottime), seen: AtomicI64::new(-ahead) }
    }

    /// Goes on with the session clock of another process on this machine: what its [`SystemClock::origin`] gave.
    pub(crate) fn going_on(origin: i64) -> Self {
        let clock = Self { offset: origin, seen: AtomicI64::new(0) };
        // How far both clocks are apart is no step of today.
        clock.step();
        clock
    }

    /// What another process needs to go on with this clock.
    pub(crate) fn origin(&self) -> i64 {
        self.offset
    }

    /// How far the wall clock was stepped since this was asked last, if it was: forward or back, in whole milliseconds.
    pub(crate) fn step(&self) -> Option<i64> {
        let apart = micros(ClockId::Realtime) - (micros(ClockId::Boottime) + self.offset);
        step_between(self.seen.swap(apart, Ordering::Relaxed), apart)
    }
}

fn step_between(before: i64, apart: i64) -> Option<i64> {
    let step = apart - before;
    (step.abs() >= STEP_MIN_MICROS).then_some(step / 1000)
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(micros(ClockId::Boottime) + self.offset).unwrap_or(0))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(u64::try_from(micros(ClockId::Realtime)).unwrap_or(0))
    }

    fn ticks(&self) -> Duration {
        span(ClockId::Boottime)
    }
}

fn span(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn micros(clock: ClockId) -> i64 {
    i64::try_from(span(clock).as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_start_together_and_go_forward() {
        let clock = SystemClock::start();
        let (now, wall) = (clock.now(), clock.wall());
        assert!(wall.since(now) < Duration::from_secs(1) && now.since(wall) < Duration::from_secs(1));
        assert!(clock.now() >= now);
    }

    #[test]
    fn a_clock_never_starts_before_the_latest_instant_of_the_store() {
        let wall = SystemClock::start().wall();
        let hour = Duration::from_hours(1);
        let clock = SystemClock::start_after(wall.plus(hour));
        assert!(clock.now() >= wall.plus(hour) && clock.wall() < wall.plus(hour));
        assert_eq!(clock.step(), None, "that is how it was started, and no step");
        assert!(SystemClock::start_after(wall.minus(hour)).now() >= wall);
        let end = Timestamp::from_micros(u64::MAX);
        assert!(SystemClock::start_after(end).now() < end);
    }

    #[test]
    fn another_process_goes_on_with_the_clock() {
        let first = SystemClock::start_after(SystemClock::start().wall().plus(Duration::from_hours(1)));
        let second = SystemClock::going_on(first.origin());
        let (earlier, later) = (first.now(), second.now());
        assert!(later >= earlier && later.since(earlier) < Duration::from_secs(5));
        assert_eq!(second.step(), None);
    }

    #[test]
    fn a_step_is_told_once_and_a_drift_is_not() {
        assert_eq!(step_between(0, 900_000), None);
        assert_eq!(step_between(0, 3_600_000_000), Some(3_600_000));
        assert_eq!(step_between(3_600_000_000, 3_600_000_100), None);
        assert_eq!(step_between(0, -7_200_000_000), Some(-7_200_000));
    }
}
