//! How one server is, from how its requests and its checks went: a state machine that is told the time.
//!
//! Two things take a server out. Checks do, where the file asks for them, until checks bring it back. And connections that
//! cannot be opened do, three in a row: then it gets no request for a second, then one as a probe; each further
//! failure doubles the pause up to half a minute. What goes wrong later does not count here: a visitor could cause it. Whoever
//! comes back gets its full share over the slow start.
//!
//! Instants are spans since some fixed one, as [`crate::domain::time::Clock::ticks`] gives them.

use std::time::Duration;

/// So many failures in a row take a server out.
const FAILURES_MAX: u32 = 3;
/// The first pause of a server that was taken out. Where all are out, each is asked again after so long.
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The full share of requests.
pub(super) const FULL: u32 = 1000;
/// The share with which a slow start begins: enough to be seen, little enough to warm up on.
const SHARE_MIN: u32 = 100;

/// What may be sent to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// So much of its weight, in thousandths: 1 to [`FULL`].
    Share(u32),
    /// One request, to see.
    Probe,
    /// Nothing.
    Out,
}

/// What became of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Down,
    Up,
}

/// How one server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Checks have taken it out.
    down_by_check: bool,
    /// Bad and good checks in a row.
    bad: u32,
    good: u32,
    /// Failures in a row.
    failures: u32,
    /// How long it gets nothing after a failure or a probe; zero: it was not taken out by failures.
    pause: Duration,
    /// The latest failure, or the probe that was let through.
    asked_at: Duration,
    is_probed: bool,
    /// When it came back, until the slow start is over.
    back_at: Option<Duration>,
    /// When it was checked last.
    pub(super) checked_at: Option<Duration>,
}

impl Health {
    /// Whether requests may go there as far as is known: what the gauge shows.
    pub(super) fn is_up(&self) -> bool {
        !self.down_by_check && self.pause.is_zero()
    }

    /// Whether there is nothing to remember: requests need not ask.
    pub(super) fn is_settled(&self) -> bool {
        self.is_up() && self.failures == 0 && self.back_at.is_none()
    }

    /// What may be sent now.
    pub(super) fn standing(&mut self, now: Duration, slow_start: Duration) -> Standing {
        if self.down_by_check {
            return Standing::Out;
        }
        if !self.pause.is_zero() {
            return if now >= self.asked_at + self.pause { Standing::Probe } else { Standing::Out };
        }
        let Some(back_at) = self.back_at else { return Standing::Share(FULL) };
        let since = now.saturating_sub(back_at);
        if since >= slow_start {
            self.back_at = None;
            return Standing::Share(FULL);
        }
        let share = since.as_millis() * u128::from(FULL) / slow_start.as_millis().max(1);
        Standing::Share((share as u32).clamp(SHARE_MIN, FULL))
    }

    /// Lets one request through to a server that is out because of failures, if `wait` (at most its pause) has passed since
    /// it was last asked.
    pub(super) fn take_probe(&mut self, now: Duration, wait: Duration) -> bool {
        let may = !self.down_by_check && !self.pause.is_zero() && now >= self.asked_at + self.pause.min(wait);
        if may {
            self.asked_at = now;
            self.is_probed = true;
        }
        may
    }

    /// A connection could not be opened.
    pub(super) fn failed(&mut self, now: Duration) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        self.back_at = None;
        if self.pause.is_zero() {
            if self.failures < FAILURES_MAX {
                return None;
            }
            let was_up = self.is_up();
            self.pause = PAUSE_FIRST;
            self.asked_at = now;
            return was_up.then_some(Change::Down);
        }
        // Others that were under way when it was taken out say nothing new.
        if self.is_probed || now >= self.asked_at + self.pause {
            self.is_probed = false;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.asked_at = now;
        }
        None
    }

    /// One was opened.
    pub(super) fn succeeded(&mut self, now: Duration) -> Option<Change> {
        let was_up = self.is_up();
        self.failures = 0;
        self.is_probed = false;
        self.pause = Duration::ZERO;
        self.came_back(was_up, now)
    }

    /// A check was answered well or badly.
    pub(super) fn checked(
        &mut self,
        is_good: bool,
        now: Duration,
        unhealthy_after: u32,
        healthy_after: u32,
    ) -> Option<Change> {
        let was_up = self.is_up();
        if !is_good {
            self.good = 0;
            self.bad = self.bad.saturating_add(1);
            if self.down_by_check || self.bad < unhealthy_after {
                return None;
            }
            self.down_by_check = true;
            self.back_at = None;
            return was_up.then_some(Change::Down);
        }
        self.bad = 0;
        self.good = self.good.saturating_add(1);
        if was_up || self.good < healthy_after {
            return None;
        }
        // A server that answers its checks again need not wait for the end of a pause.
        self.down_by_check = false;
        self.failures = 0;
        self.is_probed = false;
        self.pause = Duration::ZERO;
        self.came_back(was_up, now)
    }

    /// Checks are not asked for any more: what they said does not count.
    pub(super) fn forget_checks(&mut self) {
        self.down_by_check = false;
        (self.bad, self.good) = (0, 0);
        self.checked_at = None;
    }

    fn came_back(&mut self, was_up: bool, now: Duration) -> Option<Change> {
        if was_up || !self.is_up() {
            return None;
        }
        self.back_at = Some(now);
        Some(Change::Up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(10);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn three_failures_in_a_row_take_a_server_out_and_a_success_between_them_does_not() {
        let mut health = Health::default();
        assert_eq!((health.failed(ms(0)), health.failed(ms(1))), (None, None));
        assert_eq!(health.succeeded(ms(2)), None);
        assert!(health.is_settled());
        assert_eq!((health.failed(ms(3)), health.failed(ms(4))), (None, None));
        assert_eq!(health.standing(ms(4), SLOW), Standing::Share(FULL));
        assert!(!health.is_settled() && health.is_up());
        assert_eq!(health.failed(ms(5)), Some(Change::Down));
        assert_eq!(health.standing(ms(5), SLOW), Standing::Out);
    }

    #[test]
    fn each_probe_that_fails_doubles_the_pause_up_to_half_a_minute() {
        let mut health = Health::default();
        for _ in 0..3 {
            health.failed(ms(0));
        }
        // Others that were on their way change nothing.
        health.failed(ms(10));
        let mut now = ms(0);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let almost = now + ms(pause * 1000 - 1);
            assert_eq!(health.standing(almost, SLOW), Standing::Out, "a pause of {pause} s");
            now += Duration::from_secs(pause);
            assert_eq!(health.standing(now, SLOW), Standing::Probe, "a pause of {pause} s");
            assert!(health.take_probe(now, Duration::MAX));
            assert!(!health.take_probe(now, Duration::MAX), "one probe at a time");
            assert_eq!(health.standing(now, SLOW), Standing::Out);
            assert_eq!(health.failed(now), None);
        }
    }

    #[test]
    fn where_all_are_out_each_is_asked_once_a_second() {
        let mut health = Health::default();
        for now in [0, 0, 0, 1000, 3000, 7000] {
            health.failed(ms(now));
        }
        assert_eq!(health.standing(ms(7999), SLOW), Standing::Out);
        assert!(!health.take_probe(ms(7999), PAUSE_FIRST));
        assert!(health.take_probe(ms(8000), PAUSE_FIRST), "though its pause is longer");
        assert!(
            !health.take_probe(ms(8999), PAUSE_FIRST),
            "a probe that nobody hears of holds the place for a second"
        );
        assert!(health.take_probe(ms(9000), PAUSE_FIRST));
    }

    #[test]
    fn who_comes_back_starts_slowly() {
        let mut health = Health::default();
        for _ in 0..3 {
            health.failed(ms(0));
        }
        assert_eq!(health.succeeded(ms(2000)), Some(Change::Up));
        for (now, share) in [(2000, 100), (2500, 100), (7000, 500), (11_999, 999), (12_000, FULL)] {
            assert_eq!(health.standing(ms(now), SLOW), Standing::Share(share), "at {now}");
        }
        assert!(health.is_settled());
        for _ in 0..3 {
            health.failed(ms(20_000));
        }
        health.succeeded(ms(21_000));
        assert_eq!(health.standing(ms(21_000), Duration::ZERO), Standing::Share(FULL));
    }

    #[test]
    fn checks_take_out_and_bring_back_after_so_many_in_a_row() {
        let mut health = Health::default();
        let mut check = |is_good, now| health.checked(is_good, ms(now), 3, 2);
        assert_eq!((check(false, 0), check(false, 1), check(true, 2)), (None, None, None));
        assert_eq!((check(false, 3), check(false, 4)), (None, None));
        assert_eq!(check(false, 5), Some(Change::Down));
        assert_eq!((check(true, 6), check(false, 7), check(true, 8)), (None, None, None));
        assert_eq!(check(true, 9), Some(Change::Up));
        assert_eq!(health.standing(ms(10), SLOW), Standing::Share(SHARE_MIN));
    }

    #[test]
    fn what_checks_say_is_stronger_than_a_success_and_ends_a_pause() {
        let mut health = Health::default();
        health.checked(false, ms(0), 1, 2);
        assert_eq!(health.succeeded(ms(1)), None);
        assert_eq!(health.standing(ms(1), SLOW), Standing::Out);
        assert!(!health.take_probe(ms(99_000), PAUSE_FIRST), "checks ask, visitors need not");
        let mut health = Health::default();
        for _ in 0..3 {
            health.failed(ms(0));
        }
        assert_eq!(
            (health.checked(true, ms(1), 1, 2), health.checked(true, ms(2), 1, 2)),
            (None, Some(Change::Up))
        );
        let mut health = Health::default();
        health.checked(false, ms(0), 1, 2);
        health.forget_checks();
        assert!(health.is_settled());
    }
}
