//! What a durable store is told of the table, and how it says that it has written.
//!
//! The table is what answers; a store behind it hears of every change in the order in which it happened to a session, and
//! acknowledges it by a [`Commit`]. Whoever answers a visitor waits for that first.

use crate::domain::session::{End, Session, SpaceId};
use crate::store::revoked::Revocation;
use http::HeaderValue;
use parking_lot::{Condvar, Mutex};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

pub use crate::domain::session::Restored;

/// The store cannot write at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session store cannot write")]
pub struct Unavailable;

/// A store that keeps what the table holds.
///
/// Called under the table's locks, so that the order of the calls is the order of what happened: it never blocks, and never
/// asks a session for its data or its parts in there. It queues the change, and reads the session later, from a thread of
/// its own; then it may find it newer than the change, and is told of that by another one.
///
/// Of one session the store hears [`Change::Open`] first. After [`Change::End`] nothing counts any more: it removes what it
/// keeps, and brings nothing back, whatever a change that was on its way says. An end that could not be written is in force
/// all the same, and is written as soon as that is possible.
pub trait Journal: Send + Sync + 'static {
    /// Writes a change down.
    fn write(&self, change: Change) -> Commit;

    /// Whether a change is likely to be written now. Asked before anything ends for an opening, and before data changes: where
    /// it says no, nothing is begun. A yes is no promise. Cheap; called under the table's locks too.
    fn can_write(&self) -> bool;

    /// Notes that a session was used, to be written down some time; the store asks it for the instant then.
    fn touched(&self, session: &Session);

    /// Hears that bearer tokens were revoked. Of those a store that keeps them hears otherwise.
    fn revoked(&self, _revocation: Revocation) -> Commit {
        Commit::ready()
    }

    /// Whether it keeps data itself: then it says of each value by [`Session::data_written`] what came of it.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether another process decides, which this one follows. What that refused for its state was another one may be tried
    /// again.
    fn follows(&self) -> bool {
        false
    }
}

/// Two stores that hear of the same: what the first says counts, and both have written when a commit is done.
pub struct Both(pub Arc<dyn Journal>, pub Arc<dyn Journal>);

impl Journal for Both {
    fn write(&self, change: Change) -> Commit {
        let second = self.1.write(change.clone());
        self.0.write(change).and(second)
    }

    fn can_write(&self) -> bool {
        self.0.can_write() && self.1.can_write()
    }

    fn touched(&self, session: &Session) {
        self.0.touched(session);
        self.1.touched(session);
    }

    fn keeps(&self) -> bool {
        self.0.keeps()
    }

    fn follows(&self) -> bool {
        self.0.follows()
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Change {
    /// A session was opened, with the data that it has; others ended in the same step. One transaction.
    Open {
        /// The new one.
        session: Session,
        /// Whose place it took, and by what they ended; they have even where the opening cannot be written.
        ended: Vec<(Session, End)>,
    },
    /// Sessions ended. Very many may be written in several steps; acknowledged with the last.
    End {
        /// Which, and by what.
        sessions: Vec<(Session, End)>,
    },
    /// Token, predecessor, identity, stamp or a gain that waits are other than before: all but its data is written anew.
    Put {
        /// Which.
        session: Session,
    },
    /// A space has another value. Before it is written the store asks [`Session::data_stands`] whether it was taken back
    /// meanwhile, and if so refuses it; what came of it, it tells [`Session::data_written`] before the commit.
    Data {
        /// Of which session.
        session: Session,
        /// Which space.
        space: SpaceId,
        /// What it held before, which the value was made from.
        former: Option<HeaderValue>,
        /// What it holds now; `None`: nothing.
        value: Option<HeaderValue>,
        /// The failures in that space before it.
        epoch: u32,
    },
}

/// Resolves when a change is durable, or could not be made so.
#[must_use = "who answers before the change is durable promises what a crash may break"]
#[derive(Debug)]
pub struct Commit {
    slot: Option<Arc<Slot>>,
    /// Another store's.
    other: Option<Arc<Slot>>,
}

/// The store's end of a [`Commit`]. Dropped without a word it says [`Unavailable`].
#[derive(Debug)]
pub struct Ack(Arc<Slot>);

#[derive(Debug, Default)]
struct Slot {
    answer: Mutex<Answer>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Answer {
    result: Option<Result<(), Unavailable>>,
    waker: Option<Waker>,
}

impl Commit {
    /// A change that is as durable as it ever gets.
    pub const fn ready() -> Self {
        Self { slot: None, other: None }
    }

    /// Resolves when both do. A commit of two is not joined with a third.
    pub(crate) fn and(self, other: Self) -> Self {
        let (slot, other) = match (self.slot, other.slot) {
            (None, other) => (other, None),
            pair => pair,
        };
        Self { slot, other }
    }

    /// A change that was not made, for the store cannot write.
    pub fn refused() -> Self {
        let (ack, commit) = Self::pair();
        ack.send(Err(Unavailable));
        commit
    }

    /// One that resolves when its other half says so.
    pub fn pair() -> (Ack, Self) {
        let slot = Arc::new(Slot::default());
        (Ack(slot.clone()), Self { slot: Some(slot), other: None })
    }

    /// Waits until the change is durable, however long that takes: whoever answers a visitor bounds it.
    pub async fn done(self) -> Result<(), Unavailable> {
        for slot in [self.slot, self.other].into_iter().flatten() {
            poll_fn(|context| {
                let mut answer = slot.answer.lock();
                if let Some(result) = answer.result {
                    Poll::Ready(result)
                } else {
                    answer.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            })
            .await?;
        }
        Ok(())
    }

    /// For changes that nobody waits for.
    pub fn forget(self) {}

    /// Waits until the change is durable, and blocks the thread: not for one that carries exchanges.
    pub fn wait(self) -> Result<(), Unavailable> {
        for slot in [self.slot, self.other].into_iter().flatten() {
            let mut answer = slot.answer.lock();
            while answer.result.is_none() {
                slot.answered.wait(&mut answer);
            }
            answer.result.unwrap_or(Err(Unavailable))?;
        }
        Ok(())
    }
}

impl Ack {
    /// Says what came of the change.
    pub fn send(self, result: Result<(), Unavailable>) {
        self.0.say(result);
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.0.say(Err(Unavailable));
    }
}

impl Slot {
    /// The first word counts.
    fn say(&self, result: Result<(), Unavailable>) {
        let waker = {
            let mut answer = self.answer.lock();
            answer.result.get_or_insert(result);
            answer.waker.take()
        };
        self.answered.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_says_what_its_other_half_said() {
        assert_eq!(Commit::ready().wait(), Ok(()));
        assert_eq!(Commit::refused().wait(), Err(Unavailable));
        for said in [Ok(()), Err(Unavailable)] {
            let (ack, commit) = Commit::pair();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| commit.wait());
                ack.send(said);
                assert_eq!(waiting.join().expect("nobody panics"), said);
            });
        }
        let (ack, commit) = Commit::pair();
        drop(ack);
        assert_eq!(commit.wait(), Err(Unavailable), "a store that is gone has not written");
    }

    #[tokio::test]
    async fn a_commit_of_two_waits_for_both() {
        for (first, second) in [(Ok(()), Ok(())), (Err(Unavailable), Ok(())), (Ok(()), Err(Unavailable))] {
            let ((one, commit), (two, other)) = (Commit::pair(), Commit::pair());
            two.send(second);
            let waiting = tokio::spawn(commit.and(other).done());
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            one.send(first);
            assert_eq!(waiting.await.expect("nobody panics"), first.and(second));
        }
        let (ack, commit) = Commit::pair();
        ack.send(Err(Unavailable));
        assert_eq!(Commit::ready().and(commit).wait(), Err(Unavailable));
    }

    #[tokio::test]
    async fn a_commit_is_awaited_until_its_other_half_speaks() {
        assert_eq!(Commit::ready().done().await, Ok(()));
        let (ack, commit) = Commit::pair();
        let waiting = tokio::spawn(commit.done());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        ack.send(Ok(()));
        assert_eq!(waiting.await.expect("nobody panics"), Ok(()));
    }
}
