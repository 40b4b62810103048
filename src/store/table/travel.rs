//! Sessions between two processes: how one gives all of them to another, and follows what becomes of them there.
//!
//! What [`Table::follow`] and its like change is told to no journal: it is the other process that decided it.

use super::{STEP, Table};
use crate::domain::session::{End, Restored, Session, SessionId, SpaceId};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::store::journal::Journal;
use http::HeaderValue;
use std::sync::Arc;

impl Table {
    /// From now on another journal hears of every change. When this returns, whatever the former was told is complete.
    pub fn set_journal(&self, journal: Option<Arc<dyn Journal>>) {
        self.set_journal_after(journal, || ());
    }

    /// The same, once `before` has run: it comes after all that the former was told, and before all that the new one is. While
    /// it runs every change waits, so it may not ask a session for anything.
    pub fn set_journal_after<T>(&self, journal: Option<Arc<dyn Journal>>, before: impl FnOnce() -> T) -> T {
        let mut held = self.journal.write();
        let told = before();
        let former = std::mem::replace(&mut *held, journal);
        drop(held);
        // Not under the lock: nobody knows here what hangs on it.
        drop(former);
        told
    }

    /// Whether another process decides what becomes of sessions; see [`Journal::follows`].
    pub fn follows(&self) -> bool {
        self.journal.read().as_ref().is_some_and(|journal| journal.follows())
    }

    /// Some sessions in the order of their ids, behind `after`: all kinds, and those past a deadline that no sweep has taken.
    /// None: there are no more.
    pub fn page(&self, after: Option<SessionId>) -> Vec<Session> {
        self.directory.read().walk(None, after).take(STEP).cloned().collect()
    }

    /// The session of that id, whatever its deadlines say.
    pub fn held(&self, id: &SessionId) -> Option<Session> {
        self.directory.read().held(id).cloned()
    }

    /// The ends that are remembered, as [`Table::remember_end`] takes them.
    pub fn remembered_ends(&self) -> Vec<(TokenDigest, End, SessionId)> {
        self.ended.all()
    }

    /// Takes a session in as another process has it. One that is not here comes in only where it is `new`, and never one that
    /// ended here: that is on its way to the other.
    pub fn follow(&self, kept: &Restored, new: bool) {
        let mut directory = self.directory.write();
        let Some(held) = directory.held(&kept.id).cloned() else {
            if new && self.ended.get(&kept.digest).is_none() {
                let (session, before) = kept.revive();
                for entry in before.into_iter().chain([session.clone()]) {
                    self.put_in_shard(entry);
                }
                directory.insert(session);
            }
            return;
        };
        let former = held.predecessor().map(|before| before.digest).into_iter().chain([*held.digest()]);
        let Some((next, before)) = held.follow(kept) else { return };
        let entries: Vec<Session> = before.into_iter().chain([next.clone()]).collect();
        // First what is, then what was: nobody looks for a token that serves and finds nothing.
        entries.iter().cloned().for_each(|entry| self.put_in_shard(entry));
        for digest in former.filter(|digest| entries.iter().all(|entry| entry.digest() != digest)) {
            self.remember_end(digest, End::Superseded, kept.id);
            self.shard(&digest).remove(&digest);
        }
        directory.replace(next);
    }

    fn put_in_shard(&self, session: Session) {
        let shard = self.shard(session.digest());
        if shard.held(session.digest()).is_some() {
            shard.replace(session);
            shard.may_be_due_now();
        } else {
            shard.insert(session, 0);
        }
    }

    /// Ends a session as another process did.
    pub fn follow_end(&self, id: &SessionId, end: End) {
        let mut directory = self.directory.write();
        if let Some(held) = directory.held(id).cloned() {
            // One that ended here by another reason goes too: whoever ended it has told of it.
            held.finish(end);
            self.remove(&mut directory, &held);
        }
    }

    /// Takes in what a session holds in a space by another process.
    pub fn follow_data(&self, id: &SessionId, space: SpaceId, value: Option<HeaderValue>) {
        if let Some(held) = self.held(id) {
            held.follow_data(space, value);
        }
    }

    /// Notes that a session was used in another process.
    pub fn follow_use(&self, id: &SessionId, at: Timestamp) {
        if let Some(held) = self.held(id) {
            held.touch_by(at, &self.clocks.of(held.kind()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::store::table::NotLive;

    #[test]
    fn a_table_follows_what_becomes_of_its_sessions_elsewhere_and_brings_nothing_back() {
        let (decides, sessions) = table_of(2);
        let (follows, _) = table_of(0);
        for session in decides.page(None) {
            follows.follow(&Restored::of(&session), true);
        }
        assert_eq!((follows.live(), follows.page(Some(sessions[1].id())).len()), (2, 0));
        let [old, new] = [*sessions[0].digest(), TokenDigest::of(&[8; 32])];
        let found = |digest: &TokenDigest, at| follows.find(digest, secs(at)).map(|found| found.generation());
        let exchange = follows.find(&old, secs(1)).expect("live");

        // A use, data and a successor there are here too, for whoever holds the former view as well.
        decides.touch(&sessions[0], secs(8));
        follows.follow_use(&sessions[0].id(), secs(8));
        assert_eq!(exchange.last_used_at(), secs(8));
        keep(&decides, &sessions[0], "{}", 8).expect("live");
        follows.follow_data(&sessions[0].id(), SpaceId(1), kept(&sessions[0]));
        assert_eq!(kept(&exchange), kept(&sessions[0]));
        assert!(decides.offer(&sessions[0], new, secs(8)).is_some());
        let held = || Restored::of(&decides.held(&sessions[0].id()).expect("live"));
        follows.follow(&held(), false);
        assert_eq!((found(&old, 9), found(&new, 9)), (Ok(0), Ok(1)));
        assert!(Restored::of(&exchange) == Restored::of(&follows.held(&exchange.id()).expect("live")));

        // What ended in either place stays so, whatever is still on its way.
        let late = held();
        follows.follow_end(&exchange.id(), End::SignOut);
        assert_eq!((exchange.end(), follows.live()), (Some(End::SignOut), 1));
        for new in [false, true] {
            follows.follow(&late, new);
        }
        follows.follow_data(&exchange.id(), SpaceId(1), None);
        follows.follow_use(&exchange.id(), secs(9));
        assert_eq!(found(&new, 9), Err(NotLive::Ended(End::SignOut, exchange.id())));
        assert_eq!(follows.live(), 1);
        follows.follow(&Restored::of(&session(7)), false);
        assert_eq!(follows.live(), 1, "only what is opened comes in");
        assert!(
            follows.remembered_ends().iter().any(|(_, end, id)| (*end, *id) == (End::SignOut, exchange.id()))
        );
    }
}
