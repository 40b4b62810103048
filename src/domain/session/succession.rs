//! Who takes a session over: the same one with other claims, or with another token.
//!
//! The one that takes over gets life and data in one step; from then on the former points to it, and everything that is
//! asked of the former is answered by the newest. A successor token serves from the moment it is offered, and so does the
//! token before it, until [`SUPERSEDED_GRACE`] after the successor was first presented.

use super::rest::{Rest, edit};
use super::stored::Predecessor;
use super::{FIRST, GAIN, Head, KEPT, MOVED, SUPERSEDED_GRACE, Session, at_millis, code_in, instant_in};
use crate::domain::identity::Identity;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

impl Session {
    /// Whether nothing has to be looked after when its token is presented: it has not moved, and the token was presented
    /// before.
    pub(crate) fn is_plain(&self) -> bool {
        code_in(self.head().life.load(Ordering::Acquire)) != MOVED && !self.is_first()
    }

    /// Whether its token, a successor's or that of an anonymous session, was never presented.
    pub(crate) fn is_first(&self) -> bool {
        self.head().standing.load(Ordering::Acquire) & FIRST != 0
    }

    /// Whether another allocation took over.
    pub(crate) fn is_moved(&self) -> bool {
        code_in(self.head().life.load(Ordering::Acquire)) == MOVED
    }

    /// When its token was first presented, if that was needed and happened.
    pub(crate) fn first_presented_at(&self) -> Option<Timestamp> {
        let standing = self.head().standing.load(Ordering::Acquire);
        (standing & FIRST == 0).then(|| instant_in(standing))
    }

    /// Until when this token, which `newest` replaced, serves on; `None`: until that was presented.
    pub(crate) fn serves_until(&self, newest: &Self) -> Option<Timestamp> {
        if newest.generation() != self.generation().wrapping_add(1) {
            return Some(Timestamp::default());
        }
        newest.first_presented_at().map(|at| at.plus(SUPERSEDED_GRACE))
    }

    /// The allocation that has life and data of this session.
    #[must_use]
    pub fn current(&self) -> Self {
        let mut newest = self.clone();
        let mut steps = 0;
        while let Some(next) = newest.moved_to() {
            newest = next;
            steps += 1;
        }
        if steps > 1 {
            // What lies between is needed by nobody else.
            *self.head().cell.lock() = Some(Rest::moved_to(newest.clone()));
        }
        newest
    }

    fn moved_to(&self) -> Option<Self> {
        self.is_moved().then(|| {
            let cell = self.head().cell.lock();
            cell.as_ref().and_then(|rest| rest.moved_to.clone()).expect("what has moved says where to")
        })
    }

    /// The newest allocation and its life, without a clone where that is this one.
    pub(super) fn current_life(&self) -> (Newest<'_>, u64) {
        let life = self.head().life.load(Ordering::Acquire);
        if code_in(life) != MOVED {
            return (Newest::This(self), life);
        }
        loop {
            let newest = self.current();
            let life = newest.head().life.load(Ordering::Acquire);
            if code_in(life) != MOVED {
                return (Newest::Other(newest), life);
            }
        }
    }

    /// Does something with the newest allocation under its cell: meanwhile it neither ends nor moves.
    pub(super) fn held<T>(&self, act: impl FnOnce(&Self, &mut MutexGuard<'_, Option<Box<Rest>>>) -> T) -> T {
        loop {
            let newest = self.current();
            let mut cell = newest.head().cell.lock();
            if !newest.is_moved() {
                return act(&newest, &mut cell);
            }
        }
    }

    /// Whether this token is to be replaced by a successor: it is the newest that was presented, and it is old, or a gain
    /// waits, or a successor is offered already. One or two loads as a rule.
    pub fn wants_renewal(&self, now: Timestamp, renew_after: Duration) -> bool {
        if self.is_anonymous() {
            return false;
        }
        if self.is_moved() {
            let newest = self.current();
            return if newest.digest() == self.digest() {
                newest.wants_renewal(now, renew_after)
            } else {
                newest.offers_to(self.digest())
            };
        }
        let standing = self.head().standing.load(Ordering::Acquire);
        let due = standing & GAIN != 0 || now.since(self.token_issued_at()) >= renew_after;
        // One predecessor at a time: while one has its grace, none is added.
        let settled = self.generation() == 0 || now >= instant_in(standing).plus(SUPERSEDED_GRACE);
        due && settled && standing & FIRST == 0
    }

    /// Whether it is the successor, not presented yet, of the token of that digest.
    pub(crate) fn offers_to(&self, digest: &TokenDigest) -> bool {
        self.is_first() && self.predecessor().is_some_and(|before| before.digest == *digest)
    }

    /// Notes that this successor, which an answer offered, is as durable as it gets.
    pub(crate) fn offer_kept(&self, successor: &TokenDigest) {
        self.held(|session, _| {
            if session.digest() == successor {
                session.head().standing.fetch_or(KEPT, Ordering::AcqRel);
            }
        });
    }

    /// Whether `successor` is offered to the token of `digest`, and durable.
    pub(crate) fn is_kept_offer(&self, digest: &TokenDigest, successor: &TokenDigest) -> bool {
        self.digest() == successor
            && self.head().standing.load(Ordering::Acquire) & KEPT != 0
            && self.offers_to(digest)
    }

    /// The token before, while it may still serve.
    pub(crate) fn predecessor(&self) -> Option<Predecessor> {
        self.held(|_, rest| rest.as_ref()?.predecessor.as_deref().cloned())
    }

    /// Forgets the token before.
    pub(crate) fn forget_predecessor(&self) {
        self.held(|_, rest| edit(rest, |rest| rest.predecessor = None));
    }

    /// Notes that its token is presented, and tells of it where that is the first time.
    pub(crate) fn present<T>(&self, now: Timestamp, told: impl FnOnce(&Self) -> T) -> Option<T> {
        self.held(|session, _| {
            let standing = session.head().standing.load(Ordering::Acquire);
            if standing & FIRST == 0 || session.digest() != self.digest() || session.is_over() {
                return None;
            }
            session.head().standing.store(at_millis(now) | (standing & GAIN), Ordering::Release);
            Some(told(session))
        })
    }

    /// Tells of it, unless it has ended.
    pub(crate) fn while_live<T>(&self, told: impl FnOnce(&Self) -> T) -> Option<T> {
        self.held(|session, _| (!session.is_over()).then(|| told(session)))
    }

    /// Gives the session a successor token, under which what waits to be gained counts. This allocation stays for whoever
    /// holds it, and for the former token.
    ///
    /// `told` runs before anybody sees the new one. `None`: it has ended, or moved already.
    pub(crate) fn succeed<T>(
        &self,
        digest: TokenDigest,
        now: Timestamp,
        told: impl FnOnce(&Self) -> T,
    ) -> Option<(Self, T)> {
        let make = |former: &Self, rest: &mut Rest| {
            let gain = rest.gain.take();
            rest.predecessor = Some(Box::new(Predecessor::of(former)));
            let head = Head {
                standing: AtomicU64::new(FIRST),
                cell: Mutex::new(Some(Box::new(std::mem::take(rest)))),
                digest,
                generation: former.generation().wrapping_add(1),
                token_issued_at: now,
                ..former.copied_head()
            };
            let packed = gain.as_ref().map_or(former.identity().as_packed(), Identity::packed);
            Some(Self::pack(head, packed, former.texts()))
        };
        self.hand_over(make, told)
    }

    /// Gives the session other claims, under the same token. What they take away counts at once, for a token before this one
    /// too; what they add waits for the next token, unless this one was never presented.
    ///
    /// `told` runs before anybody sees the new one. `None`: it has ended, moved already, or all is as it was.
    pub(crate) fn reclaim<T>(
        &self,
        identity: &Identity,
        stamp: u64,
        told: impl FnOnce(&Self) -> T,
    ) -> Option<(Self, T)> {
        let make = |former: &Self, rest: &mut Rest| {
            let (old, new) = (former.identity(), identity.as_ref());
            let standing = former.head().standing.load(Ordering::Acquire);
            let counts = if standing & FIRST == 0 { new.common(old) } else { identity.clone() };
            let gain = (counts != *identity).then(|| identity.clone());
            let mut predecessor = rest.predecessor.clone();
            if let Some(predecessor) = &mut predecessor {
                predecessor.keep_common(identity);
            }
            let same = counts.packed() == old.as_packed() && gain == rest.gain && stamp == former.stamp();
            if same && predecessor == rest.predecessor {
                return None;
            }
            let gain_waits = if gain.is_some() { GAIN } else { 0 };
            let rest = Rest { gain, predecessor, ..std::mem::take(rest) };
            let head = Head {
                standing: AtomicU64::new(standing & !GAIN | gain_waits),
                cell: Mutex::new((!rest.is_empty()).then(|| Box::new(rest))),
                stamp,
                ..former.copied_head()
            };
            Some(Self::pack(head, counts.packed(), former.texts()))
        };
        self.hand_over(make, told)
    }

    pub(super) fn hand_over<T>(
        &self,
        make: impl FnOnce(&Self, &mut Rest) -> Option<Self>,
        told: impl FnOnce(&Self) -> T,
    ) -> Option<(Self, T)> {
        let mut cell = self.head().cell.lock();
        let mut life = self.head().life.load(Ordering::Acquire);
        if code_in(life) != 0 {
            return None;
        }
        let next = edit(&mut cell, |rest| make(self, rest))?;
        // Only touches come in between: all else is written under the cell.
        loop {
            next.head().life.store(life, Ordering::Relaxed);
            match self.write(life, life | MOVED) {
                Ok(()) => break,
                Err(changed) => life = changed,
            }
        }
        let told = told(&next);
        *cell = Some(Rest::moved_to(next.clone()));
        Some((next, told))
    }
}

/// This allocation, or the one that took over.
pub(super) enum Newest<'a> {
    This(&'a Session),
    Other(Session),
}

impl std::ops::Deref for Newest<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Newest::This(session) => session,
            Newest::Other(session) => session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{End, ScopeId, SpaceId, State};
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::identity::{GROUPS, IdentityRef};
    use http::HeaderValue;
    use std::convert::Infallible;
    use triomphe::ThinArc;

    fn reclaimed(session: &Session, groups: &[&str]) -> Session {
        session.reclaim(&identity(groups), 5, |_| ()).expect("it lives, and that is new").0
    }

    fn succeeded(session: &Session, byte: u8, at: u64) -> Session {
        session.succeed(TokenDigest::of(&[byte; 32]), secs(at), |_| ()).expect("it lives").0
    }

    fn groups(identity: IdentityRef<'_>) -> String {
        identity.claim(GROUPS).map(|claim| claim.header_form().to_owned()).unwrap_or_default()
    }

    #[test]
    fn whoever_holds_a_former_allocation_reads_and_changes_the_newest() {
        let former = session();
        let between = reclaimed(&former, &["ops", "dev"]);
        let current = succeeded(&between, 8, 1);
        assert_eq!((current.id(), current.entry(), current.scope()), (former.id(), EntryId(3), ScopeId(4)));
        assert_eq!((current.user_agent(), current.stamp()), ("curl/8.5.0", 5));

        let space = SpaceId::of("wiki");
        let value = HeaderValue::from_static("{}");
        let set = |_: Option<&HeaderValue>| Ok::<_, Infallible>(Some(value.clone()));
        let told = former.patch(space, secs(1), &CLOCKS.signed_in, false, set, |_, _, _| ());
        assert_eq!(told, Ok(Some(())));
        assert_eq!(current.data(space), Some(value.clone()));
        assert!(former.touch(secs(5), &CLOCKS), "an exchange that began before");
        assert_eq!((current.last_used_at(), former.last_used_at()), (secs(5), secs(5)));
        assert_eq!(between.idle_until(&CLOCKS), secs(15));
        assert!(former.finish(End::Revoked));
        assert!(!current.finish(End::SignOut));
        for session in [&former, &between, &current] {
            assert_eq!(session.end(), Some(End::Revoked));
            assert_eq!(session.state(secs(1), &CLOCKS), State::Ended(End::Revoked));
            assert!(!session.touch(secs(9), &CLOCKS));
            assert!(session.succeed(TokenDigest::of(&[9; 32]), secs(1), |_| ()).is_none(), "it has ended");
            assert!(session.reclaim(&identity(&[]), 5, |_| ()).is_none());
        }
    }

    #[test]
    fn nothing_is_left_of_what_lay_between() {
        let former = session();
        let between = reclaimed(&former, &["ops", "dev"]);
        let last = reclaimed(&reclaimed(&between, &["dev"]), &["ops"]);
        assert_eq!(ThinArc::strong_count(&between.0), 2, "held here and by the first");
        assert_eq!(former.current().digest(), last.digest());
        assert_eq!(ThinArc::strong_count(&between.0), 1, "the first points to the last now");
        drop(between);
        assert_eq!(ThinArc::strong_count(&last.0), 2);
    }

    #[test]
    fn claims_that_are_added_wait_for_the_next_token() {
        let first = session();
        assert!(first.reclaim(&identity(&["ops"]), 5, |_| ()).is_none(), "all is as it was");
        // Claims in the file, what counts of them at once, whether more waits.
        for (claims, counts, waits) in [
            (&["ops", "dev"][..], "ops", true),
            (&["dev"], "", true),
            (&["ops"], "ops", false),
            (&[], "", false),
        ] {
            let now = reclaimed(&session(), &["ops", "dev"]);
            let now = now.reclaim(&identity(claims), 5, |_| ()).map_or(now, |(next, ())| next);
            assert_eq!(groups(now.identity()), counts, "{claims:?}");
            assert_eq!(now.wants_renewal(secs(0), CLOCKS.renew_after), waits, "{claims:?}");
            if waits {
                let next = succeeded(&now, 8, 1);
                assert_eq!(groups(next.identity()), claims.join(","));
                assert_eq!(groups(now.identity()), counts, "the former token never gains");
            }
        }
        let other_credential =
            first.reclaim(&identity(&["ops"]), 6, |_| ()).expect("another stamp is news").0;
        assert_eq!(other_credential.stamp(), 6);
        assert!(!other_credential.wants_renewal(secs(0), CLOCKS.renew_after));
    }

    #[test]
    fn a_successor_that_nobody_presented_takes_all_claims_and_the_former_loses_some() {
        let former = session();
        let offered = succeeded(&former, 8, 1);
        let offered = reclaimed(&offered, &["ops", "dev"]);
        assert_eq!(groups(offered.identity()), "ops,dev");
        assert!(offered.is_first(), "claims change nothing about that");
        let before = offered.predecessor().expect("it was not presented");
        assert_eq!(groups(IdentityRef::from_packed(&before.identity)), "ops");
        let offered = reclaimed(&offered, &["dev"]);
        let before = offered.predecessor().expect("it was not presented");
        assert_eq!(groups(IdentityRef::from_packed(&before.identity)), "");
        assert!(offered.present(secs(2), |_| ()).is_some());
        let presented = reclaimed(&offered, &["dev", "night"]);
        assert_eq!(groups(presented.identity()), "dev");
    }

    #[test]
    fn a_token_wants_a_successor_when_it_is_old_and_until_that_was_presented() {
        let former = session();
        let wants = |session: &Session, at| session.wants_renewal(secs(at), CLOCKS.renew_after);
        assert_eq!((wants(&former, 7), wants(&former, 8)), (false, true));
        let successor = succeeded(&former, 8, 8);
        assert_eq!((successor.generation(), successor.token_issued_at()), (1, secs(8)));
        assert!(wants(&former, 9), "parallel answers offer it as well");
        assert!(successor.offers_to(former.digest()));
        assert_eq!(former.serves_until(&successor), None);
        assert!(!wants(&successor, 99), "who brings it has presented it first");

        assert!(successor.present(secs(9), |_| ()).is_some());
        assert!(successor.present(secs(10), |_| ()).is_none(), "once");
        assert!(!wants(&former, 9), "the former renews no more");
        assert!(!successor.offers_to(former.digest()));
        assert_eq!(former.serves_until(&successor), Some(secs(19)));
        assert_eq!(
            (wants(&successor, 18), wants(&successor, 19)),
            (false, true),
            "old, and the grace is over"
        );

        let third = succeeded(&successor, 9, 20);
        assert_eq!(former.serves_until(&third), Some(secs(0)), "two tokens later it never serves");
        assert_eq!(successor.serves_until(&third), None);
        assert_eq!(third.predecessor().map(|before| before.digest), Some(*successor.digest()));
    }

    #[test]
    fn an_end_is_one_end_whoever_takes_over_meanwhile() {
        for round in 0..200 {
            let first = opened_with(FOREVER, "");
            let hasty = clocks(std::time::Duration::from_millis(19), std::time::Duration::MAX);
            let ended: usize = std::thread::scope(|scope| {
                let touching = scope.spawn(|| {
                    (1..300).for_each(|ms| {
                        first.touch(Timestamp::from_millis(ms), &hasty);
                    });
                });
                let moving = scope.spawn(|| {
                    let mut newest = first.clone();
                    for byte in 0..20 {
                        match newest.succeed(TokenDigest::of(&[byte; 32]), secs(1), |_| ()) {
                            Some((next, ())) => newest = next,
                            None => break,
                        }
                    }
                    newest
                });
                let ends = [End::SignOut, End::Revoked].map(|end| {
                    let first = &first;
                    scope.spawn(move || usize::from(first.finish(end)))
                });
                touching.join().expect("no thread panics");
                let newest = moving.join().expect("no thread panics");
                let ended = ends.map(|ending| ending.join().expect("no thread panics")).iter().sum();
                assert_eq!(newest.end(), first.end(), "round {round}");
                ended
            });
            assert_eq!(ended, 1, "round {round}");
            assert!(first.end().is_some(), "round {round}");
            assert!(first.current().succeed(TokenDigest::of(&[99; 32]), secs(1), |_| ()).is_none());
        }
    }
}
