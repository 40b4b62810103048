//! A session's life: used, until it ends.
//!
//! One word holds the last use and the end, so that whoever ends a session wins against every use that was not written yet.

use super::{
    ANONYMOUS_FIRST, Clocks, End, Lifetimes, MOVED, Session, State, TOUCHES_PER_IDLE_TIMEOUT, at_millis,
    code_in, code_of, end_in, instant_in,
};
use crate::domain::time::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Session {
    /// The last use that was written down; up to a twentieth of the idle timeout behind the last use.
    pub fn last_used_at(&self) -> Timestamp {
        instant_in(self.current_life().1)
    }

    /// Until when it lives if it is not used again; never later than [`Session::ends_at`].
    pub fn idle_until(&self, current: &Clocks) -> Timestamp {
        let (session, life) = self.current_life();
        session.idle_until_after(instant_in(life), &current.of(self.kind()))
    }

    /// Until when it lives however busy.
    ///
    /// The shorter of the lifetime it was opened with and the current one: a file that shortens lifetimes applies to
    /// living sessions, one that lengthens them does not.
    pub fn ends_at(&self, current: &Clocks) -> Timestamp {
        self.ends_at_by(&current.of(self.kind()))
    }

    /// By what it was ended for good, if it was. A deadline that has passed counts once somebody settled it.
    pub fn end(&self) -> Option<End> {
        end_in(self.current_life().1)
    }

    /// What it is at `now`: the end it was given, else what the first of its deadlines says.
    pub fn state(&self, now: Timestamp, current: &Clocks) -> State {
        let (session, life) = self.current_life();
        session.state_in(life, now, &current.of(self.kind()))
    }

    /// Like [`Session::state`], and makes an end by deadline final: no touch that lags behind revives a session which
    /// somebody was already told is over.
    pub fn settle(&self, now: Timestamp, current: &Clocks) -> State {
        self.settle_by(now, &current.of(self.kind())).0
    }

    /// [`Session::settle`] by the lifetimes of its kind, and whether this call made it final. One or two loads where it
    /// lives.
    pub(crate) fn settle_by(&self, now: Timestamp, current: &Lifetimes) -> (State, bool) {
        let life = self.head().life.load(Ordering::Acquire);
        if code_in(life) != MOVED && self.state_in(life, now, current) == State::Live {
            return (State::Live, false);
        }
        self.held(|session, _| {
            let mut life = session.head().life.load(Ordering::Acquire);
            loop {
                match session.state_in(life, now, current) {
                    State::Ended(end) if end_in(life).is_none() => {
                        match session.write(life, life | code_of(end)) {
                            Ok(()) => return (State::Ended(end), true),
                            Err(changed) => life = changed,
                        }
                    }
                    state => return (state, false),
                }
            }
        })
    }

    /// Notes a use, at most once per twentieth of the idle timeout; tells whether it wrote.
    ///
    /// Never moves the last use backward, never revives: a session that ended, or whose deadline had passed at `now`,
    /// stays as it is. One load as a rule, and one compare-and-swap where it writes.
    pub fn touch(&self, now: Timestamp, current: &Clocks) -> bool {
        self.touch_by(now, &current.of(self.kind()))
    }

    /// [`Session::touch`] by the lifetimes of its kind.
    pub(crate) fn touch_by(&self, now: Timestamp, current: &Lifetimes) -> bool {
        let mut moved = None;
        let mut life = self.head().life.load(Ordering::Relaxed);
        loop {
            let session = moved.as_ref().unwrap_or(self);
            if code_in(life) == MOVED {
                let newest = session.current();
                life = newest.head().life.load(Ordering::Relaxed);
                moved = Some(newest);
                continue;
            }
            let used_at = instant_in(life);
            let step = session.idle_timeout(current) / TOUCHES_PER_IDLE_TIMEOUT;
            let due = now > used_at && now.since(used_at) >= step;
            if !due || session.state_in(life, now, current) != State::Live {
                return false;
            }
            match session.write(life, at_millis(now)) {
                Ok(()) => return true,
                Err(changed) => life = changed,
            }
        }
    }

    /// Ends it by decision. Only the first end counts; `false`: it had one already, and keeps that.
    pub(crate) fn finish(&self, end: End) -> bool {
        self.held(|session, _| {
            let mut life = session.head().life.load(Ordering::Acquire);
            while end_in(life).is_none() {
                match session.write(life, life | code_of(end)) {
                    Ok(()) => return true,
                    Err(changed) => life = changed,
                }
            }
            false
        })
    }

    pub(super) fn state_in(&self, life: u64, now: Timestamp, current: &Lifetimes) -> State {
        if let Some(end) = end_in(life) {
            return State::Ended(end);
        }
        let idle_until = self.idle_until_after(instant_in(life), current);
        if now < idle_until {
            State::Live
        } else if idle_until == self.ends_at_by(current) {
            State::Ended(End::Lifetime)
        } else {
            State::Ended(End::Idle)
        }
    }

    fn idle_until_after(&self, used_at: Timestamp, current: &Lifetimes) -> Timestamp {
        used_at.plus(self.idle_timeout(current)).min(self.ends_at_by(current))
    }

    fn ends_at_by(&self, current: &Lifetimes) -> Timestamp {
        let opened_with = Duration::from_millis(self.head().absolute_lifetime_ms);
        self.head().opened_at.plus(opened_with.min(current.absolute_lifetime))
    }

    fn idle_timeout(&self, current: &Lifetimes) -> Duration {
        let bounded = Duration::from_millis(self.head().idle_timeout_ms).min(current.idle_timeout);
        if self.is_anonymous() && self.is_first() { bounded.min(ANONYMOUS_FIRST) } else { bounded }
    }

    /// Whether it was ended for good; this allocation alone is looked at.
    pub(super) fn is_over(&self) -> bool {
        end_in(self.head().life.load(Ordering::Acquire)).is_some()
    }

    pub(super) fn write(&self, seen: u64, life: u64) -> Result<(), u64> {
        self.head().life.compare_exchange_weak(seen, life, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;

    #[test]
    fn a_session_ends_at_the_first_of_its_deadlines() {
        // Opened at 0 s, idle timeout 10 s, absolute lifetime 30 s: uses, asked at, expected.
        for (uses, now, expected) in [
            (&[][..], 0, State::Live),
            (&[], 9, State::Live),
            (&[], 10, State::Ended(End::Idle)),
            (&[9, 15], 24, State::Live),
            (&[9, 15], 25, State::Ended(End::Idle)),
            (&[9, 15], 99, State::Ended(End::Idle)),
            (&[9, 18, 25], 29, State::Live),
            (&[9, 18, 25], 30, State::Ended(End::Lifetime)),
            (&[9, 18, 20], 30, State::Ended(End::Lifetime)),
        ] {
            let session = session();
            for &used in uses {
                assert!(session.touch(secs(used), &CLOCKS), "used {used}");
            }
            assert_eq!(session.state(secs(now), &CLOCKS), expected, "used {uses:?}, asked {now}");
            assert_eq!(session.settle(secs(now), &CLOCKS), expected, "used {uses:?}, settled {now}");
            assert_eq!(
                session.state(secs(0), &CLOCKS),
                expected,
                "once settled, an earlier instant says the same"
            );
        }
    }

    #[test]
    fn shorter_lifetimes_apply_to_living_sessions_and_longer_ones_do_not() {
        let shorter = clocks(Duration::from_secs(5), Duration::from_secs(20));
        assert_eq!(session().state(secs(5), &shorter), State::Ended(End::Idle));
        assert_eq!(session().ends_at(&shorter), secs(20));
        assert_eq!(session().state(secs(10), &FOREVER), State::Ended(End::Idle));
        assert_eq!(session().ends_at(&FOREVER), secs(30));
        assert_eq!(session().idle_until(&FOREVER), secs(10));
    }

    #[test]
    fn a_touch_writes_at_most_once_per_twentieth_of_the_idle_timeout_and_never_backward() {
        let session = session();
        for (millis, written) in [(499, false), (500, true), (999, false), (1000, true), (400, false)] {
            assert_eq!(session.touch(Timestamp::from_millis(millis), &CLOCKS), written, "at {millis} ms");
        }
        assert_eq!(session.last_used_at(), secs(1));
    }

    #[test]
    fn a_late_touch_revives_nothing() {
        let settled = session();
        assert_eq!(settled.settle(secs(10), &CLOCKS), State::Ended(End::Idle));
        assert!(!settled.touch(secs(9), &CLOCKS), "the use came first, but the end was already told");
        assert_eq!(settled.state(secs(9), &CLOCKS), State::Ended(End::Idle));

        let ended = session();
        assert!(ended.finish(End::SignOut));
        assert!(!ended.touch(secs(5), &CLOCKS));
        assert!(!ended.finish(End::Revoked), "the first end counts");
        assert_eq!(ended.end(), Some(End::SignOut));

        assert!(
            !session().touch(secs(10), &CLOCKS),
            "a deadline that nobody settled is a deadline all the same"
        );
    }

    #[test]
    fn every_end_survives_its_code() {
        for end in End::ALL {
            let session = session();
            session.finish(end);
            assert_eq!(session.state(secs(1), &CLOCKS), State::Ended(end));
            assert_eq!(session.last_used_at(), secs(0));
        }
    }

    #[test]
    fn an_end_wins_against_touches_from_other_threads() {
        for round in 0..200 {
            let session = opened_with(FOREVER, "");
            // So short an idle timeout that every touch writes.
            let hasty = clocks(Duration::from_millis(19), Duration::MAX);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for ms in 1..500 {
                            session.touch(Timestamp::from_millis(ms), &hasty);
                        }
                    });
                }
                assert!(session.finish(End::SignOut), "round {round}");
            });
            assert_eq!(session.end(), Some(End::SignOut), "round {round}");
        }
    }
}
