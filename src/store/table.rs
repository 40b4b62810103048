//! Sessions in memory: open, find, end, list, renew, patch, sweep.
//!
//! Two structures hold the same sessions. The *shards* lead from a token's digest to its session: many small raw
//! tables, each behind a lock of its own, eight bytes and a tag byte an entry. The *directory* holds them in the order
//! of their ids and of their subjects, for everything that is not a request's look-up. While a token has a successor and
//! still serves, a shard leads from it too, to an allocation that points to the one that took over.
//!
//! Whatever opens, replaces or removes a session holds the directory's lock from the first check to the last
//! write, so that the counts are exact and both structures agree. A look-up takes one shard's read lock and nothing
//! else. **Lock order: directory, then one shard, then a session's cell, then `swept`, the ends or the journal; never the other way,
//! never two shards, of cells only those of one session.**
//!
//! The table never evicts a live session: a full one refuses. A session past its deadline is refused by
//! [`Table::find`] from that instant on, and keeps its place until a sweep takes it.
//!
//! A durable store behind the table, if there is one, is told of every change through [`Journal`]: of an opening before
//! anybody can find the session, of other changes under the session's cell, of an end after it is in force.

use crate::domain::session::{Clocks, End, Restored, Session, SessionId, State};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::store::directory::Directory;
use crate::store::journal::{Change, Commit, Journal};
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

mod changes;
mod ends;
#[cfg(test)]
mod fixtures;
mod limits;
mod shard;
mod travel;

pub use limits::{Limits, PerSubject, WhenFull};

use ends::Ends;
use limits::InForce;
use shard::Shard;

/// One byte of a digest chooses the shard. With a million sessions one holds about 4,000.
const SHARDS: usize = 256;
/// How many sessions a sweep removes, or a listing looks at, before it lets others to the directory.
const STEP: usize = 512;
/// How many sessions an [`Table::open`] on a full table looks at to find one that is over.
const LOOKED_AT_WHEN_FULL: usize = 32 * 1024;

/// A session that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Which ones ended for it: those whose place it took, and those beyond their subject's limit.
    pub ended: Vec<(Session, End)>,
    /// When it is durable. Where that fails the caller ends it.
    pub commit: Commit,
}

/// Why a session was not opened; then nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The table is full of live sessions.
    #[error("the session table is full; raise sessions.capacity or end sessions")]
    Full,
    /// The store cannot write now.
    #[error("the session store cannot write")]
    Unavailable,
    /// Its subject has as many sessions as it may: these.
    #[error("the subject has as many sessions as sessions.per_subject allows")]
    SubjectFull(Vec<Session>),
}

/// Sessions that were ended, at once and for all who hold a clone.
#[derive(Debug)]
#[must_use = "the end is in force, but not durable before the commit says so"]
pub struct Ended {
    /// Which; none where there was none, or it had ended before.
    pub sessions: Vec<Session>,
    /// When that is durable.
    pub commit: Commit,
}

/// Why a digest leads to no live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLive {
    /// Never opened here, or ended so long ago that nobody remembers.
    Unknown,
    /// Ended, by what, and which. [`End::Superseded`] is said of the token too, where the session lives on under another.
    Ended(End, SessionId),
}

/// Which sessions are meant; texts in header form, as [`crate::domain::identity::IdentityRef`] gives them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only this subject's.
    pub subject: Option<&'a str>,
    /// Only those of this source.
    pub source: Option<&'a str>,
    /// Only those opened by the way to sign in of this name.
    pub sign_in: Option<&'a str>,
    /// Only those opened from here.
    pub client: Option<IpNet>,
    /// Only those that were not used for so long.
    pub idle_for: Option<Duration>,
    /// Only those opened before.
    pub opened_before: Option<Timestamp>,
    /// Anonymous ones instead of subjects'.
    pub anonymous: bool,
}

impl Filter<'_> {
    /// Whether a session is meant.
    pub fn admits(&self, session: &Session, now: Timestamp) -> bool {
        let identity = session.identity();
        let client = || session.client_address().parse::<IpAddr>();
        self.anonymous == session.is_anonymous()
            && self.subject.is_none_or(|subject| subject == identity.subject())
            && self.source.is_none_or(|source| source == identity.source())
            && self.sign_in.is_none_or(|sign_in| sign_in == session.sign_in())
            && self.opened_before.is_none_or(|before| session.opened_at() < before)
            && self.idle_for.is_none_or(|span| now.since(session.last_used_at()) >= span)
            && self.client.is_none_or(|net| client().is_ok_and(|client| net.contains(&client)))
    }
}

/// Every session of this process.
pub struct Table {
    shards: Box<[Shard]>,
    directory: RwLock<Directory>,
    /// Removed by a deadline, and not yet handed to the caller of [`Table::sweep`].
    swept: Mutex<Vec<(Session, End)>>,
    ended: Ends,
    limits: RwLock<Limits>,
    clocks: InForce,
    journal: RwLock<Option<Arc<dyn Journal>>>,
}

impl Table {
    /// An empty table; `journal` hears of every change.
    pub fn new(limits: Limits, clocks: Clocks, journal: Option<Arc<dyn Journal>>) -> Self {
        let table = Self {
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            directory: RwLock::default(),
            swept: Mutex::default(),
            ended: Ends::default(),
            limits: RwLock::new(limits),
            clocks: InForce::default(),
            journal: RwLock::new(journal),
        };
        table.clocks.set(&clocks);
        table
    }

    /// Changes how many sessions may live at once. Smaller numbers end none; they refuse until enough have ended.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    /// How many sessions may live at once.
    pub fn limits(&self) -> Limits {
        *self.limits.read()
    }

    /// Changes the clocks; shorter ones apply to living sessions at once.
    pub fn set_clocks(&self, clocks: &Clocks) {
        self.clocks.set(clocks);
        // Under the directory's lock no sweep is at work, which would write down what it computed from the former.
        let _directory = self.directory.write();
        self.shards.iter().for_each(Shard::may_be_due_now);
    }

    /// The clocks in force.
    pub fn clocks(&self) -> Clocks {
        self.clocks.all()
    }

    /// How old a token grows before a newer one is offered.
    pub fn renew_after(&self) -> Duration {
        self.clocks.renew_after()
    }

    /// How many subjects' sessions are held: the live ones, and those past a deadline that no sweep has taken yet.
    pub fn live(&self) -> usize {
        self.directory.read().signed_in()
    }

    /// How many anonymous sessions are held, counted like [`Table::live`].
    pub fn anonymous_live(&self) -> usize {
        self.directory.read().anonymous()
    }

    /// Takes in what a durable store kept, before anybody asks. What is past its deadline goes with the next sweep.
    pub fn restore(&self, kept: impl IntoIterator<Item = Restored>) {
        let mut directory = self.directory.write();
        let mut sessions = Vec::new();
        for restored in kept {
            let (session, before) = restored.revive();
            for entry in before.into_iter().chain([session.clone()]) {
                self.shard(entry.digest()).insert(entry, 0);
            }
            sessions.push(session);
        }
        directory.fill(&sessions);
    }

    /// Remembers how a session ended that an earlier process had.
    pub fn remember_end(&self, digest: TokenDigest, end: End, id: SessionId) {
        self.ended.insert(digest, end, id);
    }

    /// Takes a session in.
    ///
    /// What the browser presented, `instead_of`, ends in the same step, by [`End::Superseded`]. What the first of them holds
    /// that is anonymous or of the same subject and source goes over to the new one; another subject's data never does. The
    /// caller has looked all of them up on the scope of the new one.
    ///
    /// Where the subject has as many sessions as it may, others of it end, by [`End::Revoked`], or the opening is refused. A
    /// full table first drops sessions that are past a deadline, looking at a bounded number of them, and then
    /// refuses; it never ends a live one for another subject's. A session that stands under the same digest or id is superseded.
    ///
    /// A store that cannot write is asked first: then nobody loses a session, or data, for one that cannot be kept. The opening
    /// that meets the first failure is told only when what it replaces has ended, and the data that moved is lost with it. To
    /// end that only after the commit would leave a while in which both live: a patch that the former takes then is
    /// acknowledged and lost, a second opening takes the same place again, and an end of one of them is none of the other's.
    pub fn open(&self, session: Session, instead_of: &[Session], now: Timestamp) -> Result<Opened, Refused> {
        if !self.can_write() {
            return Err(Refused::Unavailable);
        }
        let limits = self.limits();
        let clocks = self.clocks();
        let mut directory = self.directory.write();
        let same_digest = self.shard(session.digest()).held(session.digest());
        let mut leaving: Vec<(Session, End)> = Vec::new();
        for id in instead_of.iter().chain(&same_digest).chain([&session]).map(Session::id) {
            let held =
                directory.held(&id).filter(|held| leaving.iter().all(|(other, _)| other.id() != held.id()));
            leaving.extend(held.map(|held| (held.clone(), End::Superseded)));
        }
        if let Some(limit) = limits.per_subject
            && !session.is_anonymous()
        {
            let beyond = Self::beyond(&directory, &session, &leaving, limit, now, &clocks)?;
            leaving.extend(beyond.into_iter().map(|held| (held, End::Revoked)));
        }
        self.make_room(&mut directory, session.is_anonymous(), &leaving, now)?;
        let mut inherited = false;
        let (mut ended, mut told) = (Vec::new(), Vec::new());
        for (former, end) in leaving {
            if directory.held(&former.id()).is_none() {
                // Past its deadline, and it has made room.
                continue;
            }
            let presented = instead_of.iter().any(|presented| presented.id() == former.id());
            let bequeaths =
                presented && may_inherit(&session, &former) && former.state(now, &clocks) == State::Live;
            if former.finish(end) {
                // From here on nothing is patched into it.
                if bequeaths && !inherited {
                    inherited = true;
                    session.adopt(former.all_data());
                }
                ended.push((former.clone(), end));
            } else if let Some(end) = former.end() {
                // By a deadline, a moment ago.
                self.swept.lock().push((former.clone(), end));
            }
            told.extend(former.end().map(|end| (former.clone(), end)));
            self.remove(&mut directory, &former);
        }
        let commit = self.write(|| Change::Open { session: session.clone(), ended: told });
        self.shard(session.digest()).insert(session.clone(), session.idle_until(&clocks).as_millis());
        directory.insert(session);
        Ok(Opened { ended, commit })
    }

    /// Finds the live session under a digest that a request presents.
    ///
    /// Digests are compared as they are: they are no secret, and who can choose one cannot choose the token to it.
    /// An end by deadline that is told here is final: a use that happened before, and is written down later, does
    /// not bring the session back. The first look-up of a successor's digest, or of an anonymous session's, is noted: the
    /// token before serves for [`SUPERSEDED_GRACE`] from then on. Costs one shard's read lock; hashes nothing, allocates
    /// nothing.
    pub fn find(&self, digest: &TokenDigest, now: Timestamp) -> Result<Session, NotLive> {
        let shard = self.shard(digest);
        let Some(session) = shard.held(digest) else {
            return Err(self.ended.get(digest).map_or(NotLive::Unknown, |(end, id)| NotLive::Ended(end, id)));
        };
        if !session.is_plain() {
            return self.find_with_care(session, now);
        }
        self.settle(&session, now).map(|()| session)
    }

    /// [`Table::find`] where the token has a successor, or is one that was never presented.
    fn find_with_care(&self, found: Session, now: Timestamp) -> Result<Session, NotLive> {
        let newest = found.current();
        self.settle(&newest, now)?;
        if newest.digest() == found.digest() {
            if newest.is_first() {
                self.present(&newest, now);
            }
            return Ok(newest);
        }
        match found.serves_until(&newest) {
            Some(until) if now >= until => Err(NotLive::Ended(End::Superseded, found.id())),
            _ => Ok(found),
        }
    }

    fn settle(&self, session: &Session, now: Timestamp) -> Result<(), NotLive> {
        let (state, is_new) = session.settle_by(now, &self.clocks.of(session.kind()));
        let State::Ended(end) = state else { return Ok(()) };
        if is_new {
            // Once told it is final: after a crash too, whatever the file says then. The sweep tells of it again.
            self.write(|| Change::End { sessions: vec![(session.clone(), end)] }).forget();
        }
        // The next sweep looks here, whatever lifetimes it goes by.
        self.shard(session.digest()).may_be_due_now();
        Err(NotLive::Ended(end, session.id()))
    }

    /// Finds a live session by its public name. Its token does not count as presented.
    pub fn find_by_id(&self, id: &SessionId, now: Timestamp) -> Option<Session> {
        let session = self.directory.read().held(id)?.clone();
        self.settle(&session, now).is_ok().then_some(session)
    }

    /// Ends the session under a digest. One that had ended before keeps its reason.
    pub fn end(&self, digest: &TokenDigest, end: End) -> Ended {
        let mut directory = self.directory.write();
        let held = self.shard(digest).held(digest).map(|held| held.current());
        self.end_held(&mut directory, held, end)
    }

    /// Ends the session of that public name, like [`Table::end`].
    pub fn end_by_id(&self, id: &SessionId, end: End) -> Ended {
        let mut directory = self.directory.write();
        let held = directory.held(id).cloned();
        self.end_held(&mut directory, held, end)
    }

    /// Ends all sessions of a subject. One that is opened meanwhile is not among them.
    pub fn end_subject(&self, source: &str, subject: &str, end: End) -> Ended {
        self.end_all(&self.of_subject(source, subject), end)
    }

    /// Ends all sessions that a filter admits. One that is opened meanwhile is not among them.
    pub fn end_where(&self, filter: &Filter<'_>, end: End, now: Timestamp) -> Ended {
        self.end_all(&self.list(*filter, None, usize::MAX, now).0, end)
    }

    /// Others get to the table between one and the next; the store hears of all at once.
    fn end_all(&self, sessions: &[Session], end: End) -> Ended {
        let finish = |session: &Session| {
            let mut directory = self.directory.write();
            let held = directory.held(&session.id())?.clone();
            held.finish(end).then(|| {
                self.remove(&mut directory, &held);
                held
            })
        };
        let sessions: Vec<Session> = sessions.iter().filter_map(finish).collect();
        self.tell_of(sessions, end)
    }

    /// The sessions of a subject, by id. One past its deadline is among them until a sweep takes it.
    pub fn of_subject(&self, source: &str, subject: &str) -> Vec<Session> {
        let filter = Filter { subject: Some(subject), source: Some(source), ..Filter::default() };
        self.list(filter, None, usize::MAX, Timestamp::default()).0
    }

    /// One page of sessions in the order of their ids, and where the next page goes on, if there is one.
    ///
    /// A session that is there from the first page to the last is shown once, whatever is opened or ended meanwhile.
    /// One past its deadline is shown until a sweep takes it. Without a subject the whole table is walked, in steps
    /// that let others in between. A `limit` of 0 counts as 1.
    pub fn list(
        &self,
        filter: Filter<'_>,
        cursor: Option<SessionId>,
        limit: usize,
        now: Timestamp,
    ) -> (Vec<Session>, Option<SessionId>) {
        let limit = limit.max(1);
        let mut page: Vec<Session> = Vec::new();
        let mut after = cursor;
        loop {
            let directory = self.directory.read();
            let mut looked_at = 0;
            for session in directory.walk(filter.subject, after).take(STEP) {
                looked_at += 1;
                after = Some(session.id());
                if filter.admits(session, now) {
                    if page.len() == limit {
                        let last = page.last().map(Session::id);
                        return (page, last);
                    }
                    page.push(session.clone());
                }
            }
            if looked_at < STEP {
                return (page, None);
            }
        }
    }

    /// Drops the sessions that are past a deadline, and returns them with the deadline they missed, together with
    /// those that made room for others since the last sweep. Tokens whose successor took over for good go too.
    ///
    /// Looks only into shards where one may be due. Others get to the table between steps of a shard.
    pub fn sweep(&self, now: Timestamp) -> Vec<(Session, End)> {
        for shard in &self.shards {
            while shard.is_due(now) {
                self.sweep_step(&mut self.directory.write(), shard, now);
            }
        }
        std::mem::take(&mut self.swept.lock())
    }

    fn shard(&self, digest: &TokenDigest) -> &Shard {
        // The last byte: the first eight are the hash inside the shard.
        &self.shards[usize::from(digest.as_bytes()[31])]
    }

    fn write(&self, change: impl FnOnce() -> Change) -> Commit {
        self.journal.read().as_ref().map_or(Commit::ready(), |journal| journal.write(change()))
    }

    /// Whether a change is likely to become durable; see [`Journal::can_write`].
    pub fn can_write(&self) -> bool {
        self.journal.read().as_ref().is_none_or(|journal| journal.can_write())
    }

    /// Which sessions of the subject of `session` have to end for it, besides those that leave anyway.
    fn beyond(
        directory: &Directory,
        session: &Session,
        leaving: &[(Session, End)],
        limit: PerSubject,
        now: Timestamp,
        clocks: &Clocks,
    ) -> Result<Vec<Session>, Refused> {
        if directory.signed_in() < limit.max {
            // Not even all of them together are too many.
            return Ok(Vec::new());
        }
        let identity = session.identity();
        let counts = |held: &&Session| {
            held.identity().source() == identity.source()
                && held.state(now, clocks) == State::Live
                && leaving.iter().all(|(other, _)| other.id() != held.id())
        };
        let mut held: Vec<Session> =
            directory.walk(Some(identity.subject()), None).filter(counts).cloned().collect();
        let beyond = (held.len() + 1).saturating_sub(limit.max.max(1));
        match limit.when_full {
            WhenFull::Refuse if beyond > 0 => return Err(Refused::SubjectFull(held)),
            WhenFull::Refuse | WhenFull::EndOldest => held.sort_by_key(Session::opened_at),
            WhenFull::EndLeastRecent => held.sort_by_key(|held| (held.last_used_at(), held.opened_at())),
        }
        held.truncate(beyond);
        Ok(held)
    }

    /// Makes room for one more in the place of those that are leaving.
    fn make_room(
        &self,
        directory: &mut Directory,
        anonymous: bool,
        leaving: &[(Session, End)],
        now: Timestamp,
    ) -> Result<(), Refused> {
        let limits = self.limits();
        let has_room = |directory: &Directory| {
            let (held, capacity) = if anonymous {
                (directory.anonymous(), limits.anonymous_capacity)
            } else {
                (directory.signed_in(), limits.capacity)
            };
            let leaves = |session: &Session| {
                session.is_anonymous() == anonymous && directory.held(&session.id()).is_some()
            };
            let leaving = leaving.iter().filter(|(session, _)| leaves(session)).count();
            held - leaving < capacity
        };
        if has_room(directory) {
            return Ok(());
        }
        let mut looked_at = 0;
        for shard in &self.shards {
            if shard.is_due(now) && looked_at < LOOKED_AT_WHEN_FULL {
                looked_at += self.sweep_step(directory, shard, now);
            }
            if has_room(directory) {
                return Ok(());
            }
        }
        Err(Refused::Full)
    }

    /// Removes up to [`STEP`] sessions that are past a deadline from one shard; tells how many it looked at.
    fn sweep_step(&self, directory: &mut Directory, shard: &Shard, now: Timestamp) -> usize {
        let stock = shard.take_stock(now, &self.clocks());
        for token in stock.superseded {
            self.remember_end(*token.digest(), End::Superseded, token.id());
            shard.remove(token.digest());
            token.current().forget_predecessor();
        }
        if !stock.over.is_empty() {
            for (session, _) in &stock.over {
                self.remove(directory, session);
            }
            // Nobody waits for it: a deadline that has passed is one after a restart too.
            self.write(|| Change::End { sessions: stock.over.clone() }).forget();
            self.swept.lock().extend(stock.over);
        }
        stock.looked_at
    }

    fn end_held(&self, directory: &mut Directory, held: Option<Session>, end: End) -> Ended {
        // One that a deadline ended is left to the sweep, which tells its reason.
        let finished = held.filter(|held| held.finish(end));
        if let Some(session) = &finished {
            self.remove(directory, session);
        }
        self.tell_of(finished.into_iter().collect(), end)
    }

    fn tell_of(&self, sessions: Vec<Session>, end: End) -> Ended {
        let ended = || sessions.iter().map(|session| (session.clone(), end)).collect();
        let commit = if sessions.is_empty() {
            Commit::ready()
        } else {
            self.write(|| Change::End { sessions: ended() })
        };
        Ended { sessions, commit }
    }

    /// Takes an ended session out. Its reason is remembered first, so that no look-up in between reads "unknown".
    fn remove(&self, directory: &mut Directory, session: &Session) {
        if let Some(end) = session.end() {
            self.remember_end(*session.digest(), end, session.id());
        }
        self.retire_predecessor(session);
        self.shard(session.digest()).remove(session.digest());
        directory.remove(session);
    }

    /// Takes the token before out, if there is one.
    fn retire_predecessor(&self, session: &Session) {
        if let Some(before) = session.predecessor() {
            self.remember_end(before.digest, session.end().unwrap_or(End::Superseded), session.id());
            self.shard(&before.digest).remove(&before.digest);
            session.forget_predecessor();
        }
    }
}

/// Data moves from a visitor who was nobody yet, or from the same subject; never from another.
///
/// The same words of another entry are another subject: that entry's file, or its application, may mean somebody else.
fn may_inherit(session: &Session, former: &Session) -> bool {
    let (new, old) = (session.identity(), former.identity());
    former.is_anonymous()
        || (former.entry() == session.entry()
            && new.subject() == old.subject()
            && new.source() == old.source())
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;
    use crate::domain::session::Lifetimes;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn a_session_is_found_until_its_deadline_and_then_says_why_not() {
        let (table, sessions) = table_of(2);
        assert_eq!(state(&table, &session(9), secs(0)), Err(NotLive::Unknown));
        assert_eq!(state(&table, &sessions[0], secs(9)), Ok(sessions[0].id()));
        assert_eq!(state(&table, &sessions[0], secs(10)), Err(over(&sessions[0], End::Idle)));
        assert_eq!(
            table.find_by_id(&sessions[1].id(), secs(9)).map(|found| found.id()),
            Some(sessions[1].id())
        );
        assert!(table.find_by_id(&sessions[1].id(), secs(10)).is_none());
        assert_eq!(table.sweep(secs(10)).len(), 2);
        assert_eq!(
            state(&table, &sessions[0], secs(10)),
            Err(over(&sessions[0], End::Idle)),
            "remembered when swept"
        );
        assert!(table.find_by_id(&sessions[1].id(), secs(10)).is_none());
    }

    #[test]
    fn an_end_that_was_told_is_not_undone_by_a_use_written_late() {
        let (table, sessions) = table_of(1);
        let exchange = table.find(sessions[0].digest(), secs(9)).expect("live");
        assert_eq!(state(&table, &sessions[0], secs(10)), Err(over(&sessions[0], End::Idle)));
        assert!(!exchange.touch(secs(9), &clocks()));
        let other_claims = member("alice", "local", &["dev"]);
        assert!(table.change_identity(&exchange, &other_claims, 0, secs(1)).is_none());
        assert!(
            !has_ended(&table.end(sessions[0].digest(), End::SignOut)),
            "it had ended, and the sweep tells of it"
        );
        assert_eq!(state(&table, &sessions[0], secs(9)), Err(over(&sessions[0], End::Idle)));
        assert_eq!(table.sweep(secs(10)).len(), 1);
    }

    #[test]
    fn an_end_holds_at_once_for_everybody_and_only_the_first_counts() {
        let (table, sessions) = table_of(2);
        let exchange = table.find(sessions[0].digest(), secs(1)).expect("live");
        assert!(has_ended(&table.end(sessions[0].digest(), End::SignOut)));
        assert_eq!(exchange.end(), Some(End::SignOut));
        assert_eq!(state(&table, &sessions[0], secs(1)), Err(over(&sessions[0], End::SignOut)));
        assert!(!has_ended(&table.end(sessions[0].digest(), End::Revoked)));
        assert!(!has_ended(&table.end_by_id(&sessions[0].id(), End::Revoked)));
        assert_eq!(table.live(), 1);

        assert!(has_ended(&table.end_by_id(&sessions[1].id(), End::Revoked)));
        assert_eq!(state(&table, &sessions[1], secs(1)), Err(over(&sessions[1], End::Revoked)));

        open(&table, exchange, 1);
        assert_eq!(
            state(&table, &sessions[0], secs(1)),
            Err(over(&sessions[0], End::SignOut)),
            "not even by opening it"
        );
    }

    #[test]
    fn a_full_table_refuses_and_never_evicts() {
        let (table, sessions) = table_of(3);
        assert!(is_full(&table, session(3), 9));
        assert!(sessions.iter().all(|session| state(&table, session, secs(9)).is_ok()));

        end(&table, sessions[0].digest(), End::SignOut);
        open(&table, session(3), 9);
        assert!(is_full(&table, session(4), 9));

        table.set_limits(limits(1));
        assert_eq!(table.live(), 3, "a smaller capacity ends nobody");
        end(&table, session(3).digest(), End::SignOut);
        assert!(is_full(&table, session(4), 9));
        table.set_limits(limits(3));
        open(&table, session(4), 9);
        assert_whole(&table);
    }

    #[test]
    fn what_is_past_its_deadline_makes_room_and_the_next_sweep_tells_of_it() {
        let (table, sessions) = table_of(2);
        assert!(sessions[1].touch(secs(5), &clocks()));
        open(&table, session_of(2, "local", "bob", secs(10)), 10);
        assert!(is_full(&table, session_of(3, "local", "bob", secs(10)), 10));
        assert_eq!(state(&table, &sessions[0], secs(10)), Err(over(&sessions[0], End::Idle)));
        assert!(state(&table, &sessions[1], secs(10)).is_ok());

        let swept = table.sweep(secs(10));
        assert_eq!(
            swept.iter().map(|(session, end)| (session.id(), *end)).collect::<Vec<_>>(),
            [(sessions[0].id(), End::Idle)]
        );
        assert!(table.sweep(secs(10)).is_empty());
        assert_whole(&table);
    }

    #[test]
    fn a_sweep_takes_what_is_over_with_its_reason_and_nothing_else() {
        let (table, sessions) = table_of(4);
        for (n, uses) in [(0, &[9, 18, 25][..]), (1, &[9, 18]), (2, &[9])] {
            for &used in uses {
                assert!(sessions[n].touch(secs(used), &clocks()));
            }
        }
        let swept = |now| {
            let mut swept = table.sweep(secs(now));
            swept.sort_by_key(|(session, _)| session.id());
            swept.into_iter().map(|(session, end)| (session.id(), end)).collect::<Vec<_>>()
        };
        assert_eq!(swept(9), []);
        assert_eq!(swept(20), [(sessions[2].id(), End::Idle), (sessions[3].id(), End::Idle)]);
        assert_eq!(swept(29), [(sessions[1].id(), End::Idle)]);
        assert_eq!(swept(30), [(sessions[0].id(), End::Lifetime)]);
        assert_eq!(table.live(), 0);
        open(&table, session_of(9, "local", "alice", secs(30)), 30);
        assert_eq!(swept(40), [(session(9).id(), End::Idle)], "one that came after the last sweep");
    }

    #[test]
    fn a_sweep_of_very_many_takes_all_of_them() {
        let count = (SHARDS * STEP / 2) as u64;
        let (table, sessions) = table_of(count);
        assert!(sessions[7].touch(secs(1), &clocks()));
        // All in one shard, more than a step of it, besides those spread evenly.
        let crowd: Vec<Session> = (count..)
            .map(session)
            .filter(|session| session.digest().as_bytes()[31] == 0)
            .take(STEP * 2)
            .collect();
        table.set_limits(limits(usize::MAX));
        for session in &crowd {
            open(&table, session.clone(), 0);
        }
        assert_eq!(table.sweep(secs(10)).len(), sessions.len() - 1 + crowd.len());
        assert_eq!(table.live(), 1);
    }

    #[test]
    fn a_reload_with_shorter_lifetimes_ends_living_sessions() {
        let (table, sessions) = table_of(1);
        assert!(table.sweep(secs(5)).is_empty());
        table.set_clocks(&clocks_of(Lifetimes { idle_timeout: Duration::from_secs(4), ..LIFETIMES }));
        assert_eq!(table.sweep(secs(5)).len(), 1);
        assert_eq!(state(&table, &sessions[0], secs(5)), Err(over(&sessions[0], End::Idle)));
    }

    #[test]
    fn a_subject_is_one_only_within_its_source() {
        let table = Table::new(limits(10), clocks(), None);
        let people = [
            ("local", "alice"),
            ("local", "alice"),
            ("staff", "alice"),
            ("local", "alic"),
            ("local", "alicea"),
        ];
        for (n, (source, subject)) in (0..).zip(people) {
            open(&table, session_of(n, source, subject, secs(0)), 0);
        }
        assert_eq!(ids(&table.of_subject("local", "alice")), [session(0).id(), session(1).id()]);
        let any_source = Filter { subject: Some("alice"), ..Filter::default() };
        assert_eq!(table.list(any_source, None, 9, secs(0)).0.len(), 3);
        let any_subject = Filter { source: Some("local"), ..Filter::default() };
        assert_eq!(table.list(any_subject, None, 9, secs(0)).0.len(), 4);

        let ended = table.end_subject("local", "alice", End::Revoked);
        assert_eq!(ids(&ended.sessions), [session(0).id(), session(1).id()]);
        assert_eq!(state(&table, &session(2), secs(0)), Ok(session(2).id()));
        assert_eq!(table.live(), 3);
        assert_whole(&table);
    }

    #[test]
    fn pages_are_stable_while_sessions_come_and_go() {
        let count = STEP as u64 * 2 + 10;
        let (table, sessions) = table_of(count);
        for filter in
            [Filter::default(), Filter { subject: Some("alice"), source: Some("local"), ..Filter::default() }]
        {
            let (first, next) = table.list(filter, None, 5, secs(0));
            assert_eq!(ids(&first), ids(&sessions[..5]));
            // The cursor's own session goes: the next page begins behind where it was.
            end(&table, sessions[4].digest(), End::SignOut);
            let (second, _) = table.list(filter, next, 5, secs(0));
            assert_eq!(ids(&second), ids(&sessions[5..10]));
            open(&table, session(4), 0);

            let (all, end) = table.list(filter, None, count as usize, secs(0));
            assert_eq!((all.len() as u64, end), (count, None), "a full last page is the last");
            let (all_but_one, next) = table.list(filter, None, count as usize - 1, secs(0));
            assert_eq!(next, all_but_one.last().map(Session::id));
            assert_eq!(ids(&table.list(filter, next, 5, secs(0)).0), [sessions[count as usize - 1].id()]);
        }
    }

    #[test]
    fn a_session_under_the_same_digest_or_id_is_superseded() {
        let (table, sessions) = table_of(1);
        table.set_limits(limits(2));
        open(&table, session(0), 1);
        assert_eq!(sessions[0].end(), Some(End::Superseded));
        assert_eq!(state(&table, &sessions[0], secs(1)), Ok(sessions[0].id()));
        assert_eq!(table.live(), 1);
        assert_whole(&table);
    }

    #[test]
    fn the_capacity_is_exact_whatever_threads_do() {
        let table = Table::new(limits(100), clocks(), None);
        let opened = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (table, opened) = (&table, &opened);
                scope.spawn(move || {
                    for n in 0..100 {
                        if table.open(session(thread * 1000 + n), &[], secs(0)).is_ok() {
                            opened.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(table.live() <= 100);
                    }
                });
            }
        });
        assert_eq!((opened.into_inner(), table.live()), (100, 100));
        assert_whole(&table);
    }

    #[test]
    fn ended_sessions_stay_ended_and_the_count_stays_exact_while_all_happens_at_once() {
        let count = 2_000;
        let (table, sessions) = table_of(count);
        table.set_limits(limits(usize::MAX));
        let done = AtomicBool::new(false);
        let (ended, swept) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let other_claims = member("alice", "local", &["dev"]);
        // Used and unused sessions are ended, swept, renewed and given other claims, while the used ones are touched and
        // found.
        let (used, idle) = sessions.split_at(sessions.len() / 2);
        std::thread::scope(|scope| {
            let workers = [
                scope.spawn(|| {
                    for session in idle.iter().chain(used).step_by(2) {
                        if has_ended(&table.end(session.digest(), End::SignOut)) {
                            ended.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(state(&table, session, secs(9)).is_err(), "{session:?}");
                    }
                }),
                scope.spawn(|| {
                    for now in [9, 11, 12] {
                        swept.fetch_add(table.sweep(secs(now)).len(), Ordering::Relaxed);
                    }
                }),
                scope.spawn(|| {
                    for session in idle.iter().chain(used) {
                        table.change_identity(session, &other_claims, 0, secs(1));
                    }
                }),
                scope.spawn(|| {
                    for (n, session) in (0..).zip(used.iter().chain(idle)) {
                        let successor = session_of(count + n, "local", "alice", secs(0));
                        let offered = table.offer(session, *successor.digest(), secs(9));
                        if n % 2 == 0 && offered.is_some() && state(&table, &successor, secs(9)).is_ok() {
                            assert!(session.generation() < session.current().generation());
                        }
                    }
                }),
            ];
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for session in used {
                        session.touch(secs(8), &clocks());
                        let over = state(&table, session, secs(9)).is_err();
                        session.touch(secs(9), &clocks());
                        assert!(!over || state(&table, session, secs(9)).is_err(), "{session:?} came back");
                    }
                }
            });
            for worker in workers {
                worker.join().expect("no worker panics");
            }
            done.store(true, Ordering::Relaxed);
        });
        swept.fetch_add(table.sweep(secs(12)).len(), Ordering::Relaxed);
        assert_eq!(ended.into_inner() + swept.into_inner() + table.live(), sessions.len());
        let found = sessions.iter().filter(|session| state(&table, session, secs(12)).is_ok()).count();
        assert_eq!(found, table.live());
        assert_whole(&table);
    }

    #[test]
    fn a_sign_in_takes_the_place_of_what_the_browser_brings() {
        let (table, sessions) = table_of(2);
        let other = session_of(2, "local", "bob", secs(1));
        let Opened { ended, .. } = table
            .open(other.clone(), &sessions[..1], secs(1))
            .expect("one goes, one comes, although it is full");
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].0.id(), ended[0].1), (sessions[0].id(), End::Superseded));
        assert_eq!(state(&table, &sessions[0], secs(1)), Err(over(&sessions[0], End::Superseded)));
        assert_eq!(table.live(), 2);
        assert!(is_full(&table, session(3), 1));
        let gone = sessions[..1].to_vec();
        assert!(
            matches!(table.open(session(3), &gone, secs(1)), Err(Refused::Full)),
            "what ended before makes no room"
        );
        assert_eq!(other.end(), None);
        assert_whole(&table);
    }

    #[test]
    fn what_the_browser_brings_makes_room_once() {
        let (table, sessions) = table_of(2);
        assert!(table.touch(&sessions[1], secs(5)));
        table.set_limits(limits(1));
        let late = session_of(2, "local", "alice", secs(10));
        let opened = table.open(late.clone(), &sessions[..1], secs(10));
        assert!(matches!(opened, Err(Refused::Full)), "its deadline has passed, and another is one too many");
        assert_eq!((table.live(), table.sweep(secs(10)).len()), (1, 1));
        table.set_limits(limits(2));
        let opened = table.open(late, &sessions[..1], secs(10)).expect("there is room");
        assert!(opened.ended.is_empty(), "nothing takes the place of what is over");
    }

    #[test]
    fn data_goes_along_to_the_same_subject_and_from_nobody_never_to_another() {
        for (who, goes_along) in [("alice", true), ("bob", false)] {
            let (table, sessions) = table_of(1);
            table.set_limits(limits(10));
            keep(&table, &sessions[0], "hers", 1).expect("live");
            let next = session_of(1, "local", who, secs(2));
            table.open(next.clone(), &sessions, secs(2)).expect("there is room");
            assert_eq!(kept(&next).is_some(), goes_along, "to {who}");
        }
        let table = Table::new(limits(10), clocks(), None);
        let visitors: Vec<Session> = (0..2).map(|n| anonymous(n, secs(0))).collect();
        for (visitor, text) in visitors.iter().zip(["first", "second"]) {
            open(&table, visitor.clone(), 0);
            keep(&table, visitor, text, 1).expect("live");
        }
        let stranger = session_of(2, "local", "bob", secs(0));
        open(&table, stranger.clone(), 0);
        keep(&table, &stranger, "his", 1).expect("live");
        let brought = [stranger, visitors[0].clone(), visitors[1].clone()];
        table.open(session(3), &brought, secs(2)).expect("there is room");
        let found = table.find(session(3).digest(), secs(2)).expect("live");
        assert_eq!(kept(&found), Some(http::HeaderValue::from_static("first")));
        assert_eq!((table.live(), table.anonymous_live()), (1, 0));
        assert_eq!(keep(&table, &brought[1], "late", 2), Err(End::Superseded));
    }

    #[test]
    fn anonymous_sessions_have_a_budget_and_clocks_of_their_own() {
        let table = Table::new(Limits { anonymous_capacity: 2, ..limits(1) }, clocks(), None);
        for n in 0..2 {
            open(&table, anonymous(n, secs(0)), 0);
        }
        assert!(is_full(&table, anonymous(2, secs(0)), 0));
        open(&table, session(3), 0);
        assert!(is_full(&table, session(4), 0));
        assert_eq!((table.live(), table.anonymous_live()), (1, 2));
        assert_eq!(ids(&table.of_subject("local", "alice")), [session(3).id()]);
        assert_whole(&table);
        let listed =
            |anonymous| ids(&table.list(Filter { anonymous, ..Filter::default() }, None, 9, secs(0)).0);
        assert_eq!(listed(false), [session(3).id()]);
        assert_eq!(listed(true), [anonymous(0, secs(0)).id(), anonymous(1, secs(0)).id()]);
        let bob = member("bob", "local", &[]);
        assert!(table.change_identity(&anonymous(0, secs(0)), &bob, 0, secs(1)).is_none());

        // Ten minutes, but five until the cookie came back.
        let long = Lifetimes { idle_timeout: Duration::from_mins(10), ..LIFETIMES };
        let forever = Lifetimes { absolute_lifetime: Duration::from_mins(150), ..long };
        let table = Table::new(limits(9), clocks_of(forever), None);
        let sessions: Vec<Session> = (0..2)
            .map(|n| {
                let mut kept = Restored::of(&anonymous(n, secs(0)));
                kept.lifetimes = forever;
                kept.revive().0
            })
            .collect();
        for session in &sessions {
            open(&table, session.clone(), 0);
        }
        assert!(table.find_by_id(&sessions[1].id(), secs(299)).is_some(), "an operator's look is no return");
        assert!(state(&table, &sessions[0], secs(299)).is_ok());
        assert_eq!(state(&table, &sessions[1], secs(300)), Err(over(&sessions[1], End::Idle)));
        assert_eq!(table.sweep(secs(599)).len(), 1);
        assert!(state(&table, &sessions[0], secs(599)).is_ok());
        assert_eq!(state(&table, &sessions[0], secs(600)), Err(over(&sessions[0], End::Idle)));
    }

    #[test]
    fn a_subject_has_as_many_sessions_as_it_may_and_the_file_says_which_go() {
        // Three sessions, opened at 0, 1 and 2 s; the first one is used last. Who goes where two may be.
        for (when_full, leaves) in [
            (WhenFull::EndLeastRecent, Some([1, 2])),
            (WhenFull::EndOldest, Some([0, 1])),
            (WhenFull::Refuse, None),
        ] {
            let table = Table::new(limits(10), clocks(), None);
            let sessions: Vec<Session> = (0..3).map(|n| session_of(n, "local", "alice", secs(n))).collect();
            for (at, session) in (0..).zip(&sessions) {
                open(&table, session.clone(), at);
            }
            open(&table, session_of(7, "staff", "alice", secs(0)), 0);
            assert!(table.touch(&sessions[0], secs(5)));
            table.set_limits(Limits { per_subject: Some(PerSubject { max: 2, when_full }), ..limits(10) });
            let fourth = session_of(3, "local", "alice", secs(6));
            let opened = table.open(fourth.clone(), &[], secs(6));
            match (opened, leaves) {
                (Ok(Opened { ended, .. }), Some(leaves)) => {
                    let mut left: Vec<_> = ended.iter().map(|(left, end)| (left.id(), *end)).collect();
                    left.sort_by_key(|(left, _)| *left);
                    let leaves = leaves.map(|n: usize| (sessions[n].id(), End::Revoked));
                    assert_eq!(left, leaves, "{when_full:?}");
                    assert_eq!(table.live(), 3, "another source is another subject");
                }
                (Err(Refused::SubjectFull(held)), None) => {
                    assert_eq!(ids(&held), ids(&sessions));
                    assert_eq!(table.live(), 4, "nothing has changed");
                    let all = table.open(fourth, &sessions[1..], secs(6)).expect("two go for it");
                    assert_eq!(all.ended.len(), 2);
                }
                (opened, _) => panic!("{when_full:?}: {opened:?}"),
            }
            assert_whole(&table);
        }
    }

    #[test]
    fn a_filter_admits_what_meets_all_that_it_says() {
        let table = Table::new(limits(10), clocks(), None);
        for (n, source, subject, at) in [
            (0, "local", "alice", 0),
            (1, "local", "bob", 1),
            (2, "staff", "alice", 2),
            (3, "local", "alice", 3),
        ] {
            open(&table, session_of(n, source, subject, secs(at)), at);
        }
        table.touch(&table.find_by_id(&session(0).id(), secs(4)).expect("live"), secs(4));
        let net = |text: &str| Some(text.parse().expect("a network"));
        let any = Filter::default();
        for (filter, admitted) in [
            (any, &[0, 1, 2, 3][..]),
            (Filter { subject: Some("alice"), ..any }, &[0, 2, 3]),
            (Filter { source: Some("local"), ..any }, &[0, 1, 3]),
            (Filter { sign_in: Some("staff"), ..any }, &[2]),
            (Filter { client: net("192.0.2.0/24"), ..any }, &[0, 1, 2, 3]),
            (Filter { client: net("198.51.100.0/24"), ..any }, &[]),
            (Filter { idle_for: Some(Duration::from_secs(3)), ..any }, &[1, 2]),
            (Filter { opened_before: Some(secs(2)), ..any }, &[0, 1]),
            (Filter { opened_before: Some(secs(2)), subject: Some("alice"), ..any }, &[0]),
            (Filter { anonymous: true, ..any }, &[]),
        ] {
            let expected: Vec<SessionId> = admitted.iter().map(|n| session(*n).id()).collect();
            assert_eq!(ids(&table.list(filter, None, 9, secs(5)).0), expected, "{filter:?}");
        }
        let filter = Filter { idle_for: Some(Duration::from_secs(3)), ..any };
        let Ended { sessions, commit } = table.end_where(&filter, End::Revoked, secs(5));
        assert_eq!(commit.wait(), Ok(()));
        assert_eq!(ids(&sessions), [session(1).id(), session(2).id()]);
        assert_eq!(ids(&table.list(any, None, 9, secs(5)).0), [session(0).id(), session(3).id()]);
        assert_whole(&table);
    }

    #[test]
    fn what_a_store_kept_is_there_again_with_tokens_claims_and_data() {
        let (former, sessions) = table_of(3);
        former.touch(&sessions[0], secs(8));
        let successor = TokenDigest::of(&[8; 32]);
        assert!(former.offer(&sessions[0], successor, secs(8)).is_some());
        former.find(&successor, secs(9)).expect("live");
        keep(&former, &sessions[0], "{}", 9).expect("live");
        let visitor = anonymous(3, secs(0));
        open(&former, visitor.clone(), 0);
        let (mut kept_sessions, _) = former.list(Filter::default(), None, 9, secs(9));
        kept_sessions.push(visitor.clone());
        let rows: Vec<Restored> = kept_sessions.iter().map(Restored::of).collect();

        let table = Table::new(limits(3), clocks(), None);
        table.restore(rows);
        assert_eq!((table.live(), table.anonymous_live()), (3, 1));
        assert_whole(&table);
        assert!(is_full(&table, session(9), 0));
        let found = |digest: &TokenDigest, at| table.find(digest, secs(at));
        assert_eq!(found(&successor, 10).map(|found| kept(&found).is_some()), Ok(true));
        assert!(table.touch(&found(&successor, 17).expect("live"), secs(17)));
        assert_eq!(found(sessions[0].digest(), 18).map(|found| found.generation()), Ok(0), "in its grace");
        assert_eq!(found(sessions[0].digest(), 19).err(), Some(over(&sessions[0], End::Superseded)));
        assert_eq!(state(&table, &sessions[1], secs(9)), Ok(sessions[1].id()));
        assert_eq!(ids(&table.of_subject("local", "alice")), ids(&sessions));
        let swept = table.sweep(secs(17));
        let mut swept: Vec<SessionId> = swept.iter().map(|(session, _)| session.id()).collect();
        swept.sort();
        assert_eq!(swept, [sessions[1].id(), sessions[2].id(), visitor.id()], "deadlines go on");
        table.remember_end(*session(9).digest(), End::Revoked, session(9).id());
        assert_eq!(state(&table, &session(9), secs(1)), Err(over(&session(9), End::Revoked)));
        assert_whole(&table);
    }
}
