//! Sessions in memory: open, find, end, list, sweep.
//!
//! Two structures hold the same sessions. The *shards* lead from a token's digest to its session: many small raw
//! tables, each behind a lock of its own, eight bytes and a tag byte an entry. The *directory* holds them in the order
//! of their ids and of their subjects, for everything that is not a request's look-up.
//!
//! Whatever opens, replaces or removes a session holds the directory's lock from the first check to the last
//! write, so that the count is exact and both structures agree. A look-up takes one shard's read lock and nothing
//! else. **Lock order: directory, then one shard, then `swept`; never the other way, never two shards.**
//!
//! The table never evicts a live session: a full one refuses. A session past its deadline is refused by
//! [`Table::find`] from that instant on, and keeps its place until a sweep takes it.

use crate::domain::identity::Identity;
use crate::domain::session::{End, Lifetimes, Session, SessionId, State};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::store::directory::Directory;
use hashbrown::HashTable;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// One byte of a digest chooses the shard. With a million sessions one holds about 4,000.
const SHARDS: usize = 256;
/// How many sessions a sweep removes, or a listing looks at, before it lets others to the directory.
const STEP: usize = 512;
/// How many sessions an [`Table::open`] on a full table looks at to find one that is over.
const LOOKED_AT_WHEN_FULL: usize = 32 * 1024;
/// How many ends are remembered; then the least recently asked for are forgotten and read as unknown.
const REMEMBERED_ENDS: u64 = 16 * 1024;

/// The table is full of live sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session table is full; raise sessions.capacity or end sessions")]
pub struct Full;

/// Why a digest leads to no live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLive {
    /// Never opened here, or ended so long ago that nobody remembers.
    Unknown,
    /// Ended, and by what.
    Ended(End),
}

/// Whom a listing shows; both in header form, as [`crate::domain::identity::IdentityRef`] gives them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only this subject's sessions.
    pub subject: Option<&'a str>,
    /// Only sessions of this source.
    pub source: Option<&'a str>,
}

impl Filter<'_> {
    fn admits(&self, session: &Session) -> bool {
        let identity = session.identity();
        self.subject.is_none_or(|subject| subject == identity.subject())
            && self.source.is_none_or(|source| source == identity.source())
    }
}

/// Every session of this process.
pub struct Table {
    shards: Box<[Shard]>,
    directory: RwLock<Directory>,
    /// Removed by a deadline, and not yet handed to the caller of [`Table::sweep`].
    swept: Mutex<Vec<(Session, End)>>,
    ended: Cache<TokenDigest, End>,
    capacity: AtomicUsize,
    idle_timeout_ms: AtomicU64,
    absolute_lifetime_ms: AtomicU64,
}

/// Part of the sessions. A line of cache each: two threads that look up different sessions do not slow each other.
#[repr(align(64))]
struct Shard {
    sessions: RwLock<HashTable<Session>>,
    /// No session in here reaches a deadline before this instant: uses only move deadlines away from it.
    due_at: AtomicU64,
}

impl Table {
    /// An empty table.
    pub fn new(capacity: usize, lifetimes: Lifetimes) -> Self {
        let table = Self {
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            directory: RwLock::default(),
            swept: Mutex::default(),
            // LRU: the default policy would refuse newcomers, and the newest end is the likeliest to be asked for.
            ended: Cache::builder()
                .max_capacity(REMEMBERED_ENDS)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            capacity: AtomicUsize::new(capacity),
            idle_timeout_ms: AtomicU64::default(),
            absolute_lifetime_ms: AtomicU64::default(),
        };
        table.set_lifetimes(lifetimes);
        table
    }

    /// Changes how many sessions may live at once. A smaller number ends none; it refuses until enough have ended.
    pub fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// How many sessions may live at once.
    pub fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Changes the lifetimes; shorter ones apply to living sessions at once.
    pub fn set_lifetimes(&self, lifetimes: Lifetimes) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.idle_timeout_ms.store(millis(lifetimes.idle_timeout), Ordering::Relaxed);
        self.absolute_lifetime_ms.store(millis(lifetimes.absolute_lifetime), Ordering::Relaxed);
        // Under the directory's lock no sweep is at work, which would write down what it computed from the former.
        let _directory = self.directory.write();
        self.shards.iter().for_each(Shard::may_be_due_now);
    }

    /// The lifetimes in force.
    pub fn lifetimes(&self) -> Lifetimes {
        let millis = |span: &AtomicU64| Duration::from_millis(span.load(Ordering::Relaxed));
        Lifetimes {
            idle_timeout: millis(&self.idle_timeout_ms),
            absolute_lifetime: millis(&self.absolute_lifetime_ms),
        }
    }

    /// How many sessions are held: the live ones, and those past a deadline that no sweep has taken yet.
    pub fn live(&self) -> usize {
        self.directory.read().len()
    }

    /// Takes a session in.
    ///
    /// A full table first drops sessions that are past a deadline, looking at a bounded number of them, and then
    /// refuses; it never ends a live one. A session that stands under the same digest or id is superseded.
    pub fn open(&self, session: Session, now: Timestamp) -> Result<(), Full> {
        let mut directory = self.directory.write();
        if directory.len() >= self.capacity() {
            self.make_room(&mut directory, now)?;
        }
        let same_digest = self.shard(session.digest()).held(session.digest());
        let same_id = directory.held(&session.id()).cloned();
        for former in same_digest.into_iter().chain(same_id) {
            former.finish(End::Superseded);
            self.remove(&mut directory, &former);
        }
        self.shard(session.digest()).insert(session.clone(), &self.lifetimes());
        directory.insert(session);
        Ok(())
    }

    /// Finds the live session under a digest.
    ///
    /// Digests are compared as they are: they are no secret, and who can choose one cannot choose the token to it.
    /// An end by deadline that is told here is final: a use that happened before, and is written down later, does
    /// not bring the session back. Costs one shard's read lock; hashes nothing, allocates nothing.
    pub fn find(&self, digest: &TokenDigest, now: Timestamp) -> Result<Session, NotLive> {
        let shard = self.shard(digest);
        let Some(session) = shard.held(digest) else {
            return Err(self.ended.get(digest).map_or(NotLive::Unknown, NotLive::Ended));
        };
        match session.settle(now, &self.lifetimes()) {
            State::Live => Ok(session),
            State::Ended(end) => {
                // The next sweep looks here, whatever lifetimes it goes by.
                shard.may_be_due_now();
                Err(NotLive::Ended(end))
            }
        }
    }

    /// Finds a live session by its public name.
    pub fn find_by_id(&self, id: &SessionId, now: Timestamp) -> Option<Session> {
        let digest = *self.directory.read().held(id)?.digest();
        self.find(&digest, now).ok()
    }

    /// Ends the session under a digest, at once and for all who hold a clone. `None`: there is none, or it had
    /// ended before; then it keeps its reason.
    pub fn end(&self, digest: &TokenDigest, end: End) -> Option<Session> {
        let mut directory = self.directory.write();
        let session = self.shard(digest).held(digest)?;
        self.end_held(&mut directory, session, end)
    }

    /// Ends the session of that public name, like [`Table::end`].
    pub fn end_by_id(&self, id: &SessionId, end: End) -> Option<Session> {
        let mut directory = self.directory.write();
        let session = directory.held(id)?.clone();
        self.end_held(&mut directory, session, end)
    }

    /// Ends all sessions of a subject and returns them. One that is opened meanwhile is not among them.
    pub fn end_subject(&self, source: &str, subject: &str, end: End) -> Vec<Session> {
        let held = self.of_subject(source, subject);
        held.iter().filter_map(|session| self.end(session.digest(), end)).collect()
    }

    /// The sessions of a subject, by id. One past its deadline is among them until a sweep takes it.
    pub fn of_subject(&self, source: &str, subject: &str) -> Vec<Session> {
        let filter = Filter { subject: Some(subject), source: Some(source) };
        self.list(filter, None, usize::MAX).0
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
                if filter.admits(session) {
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

    /// Gives a session other claims; whoever finds it from now on sees them.
    ///
    /// `None`, and nothing changes: it has ended meanwhile, or the identity is another subject's or source's, which
    /// would be another session.
    pub fn replace_identity(&self, session: &Session, identity: &Identity) -> Option<Session> {
        let mut directory = self.directory.write();
        let held = self.shard(session.digest()).held(session.digest())?;
        let (old, new) = (held.identity(), identity.as_ref());
        if held.end().is_some() || old.subject() != new.subject() || old.source() != new.source() {
            return None;
        }
        // The life is shared, so an end by deadline that is settled right now holds for the successor too.
        let successor = held.with_identity(identity);
        self.shard(held.digest()).replace(successor.clone());
        directory.remove(&held);
        directory.insert(successor.clone());
        Some(successor)
    }

    /// Drops the sessions that are past a deadline, and returns them with the deadline they missed, together with
    /// those that made room for others since the last sweep.
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

    fn make_room(&self, directory: &mut Directory, now: Timestamp) -> Result<(), Full> {
        let mut looked_at = 0;
        for shard in &self.shards {
            if shard.is_due(now) && looked_at < LOOKED_AT_WHEN_FULL {
                looked_at += self.sweep_step(directory, shard, now);
            }
            if directory.len() < self.capacity() {
                return Ok(());
            }
        }
        Err(Full)
    }

    /// Removes up to [`STEP`] sessions that are past a deadline from one shard; tells how many it looked at.
    fn sweep_step(&self, directory: &mut Directory, shard: &Shard, now: Timestamp) -> usize {
        let (over, looked_at) = shard.take_stock(now, &self.lifetimes());
        for (session, end) in over {
            self.remove(directory, &session);
            self.swept.lock().push((session, end));
        }
        looked_at
    }

    fn end_held(&self, directory: &mut Directory, session: Session, end: End) -> Option<Session> {
        // One that a deadline ended is left to the sweep, which tells its reason.
        session.finish(end).then(|| {
            self.remove(directory, &session);
            session
        })
    }

    /// Takes an ended session out. Its reason is remembered first, so that no look-up in between reads "unknown".
    fn remove(&self, directory: &mut Directory, session: &Session) {
        if let Some(end) = session.end() {
            self.ended.insert(*session.digest(), end);
        }
        self.shard(session.digest()).remove(session.digest());
        directory.remove(session);
    }
}

impl Shard {
    fn new() -> Self {
        Self { sessions: RwLock::new(HashTable::new()), due_at: AtomicU64::new(u64::MAX) }
    }

    fn held(&self, digest: &TokenDigest) -> Option<Session> {
        self.sessions.read().find(digest.hash64(), |held| held.digest() == digest).cloned()
    }

    fn insert(&self, session: Session, lifetimes: &Lifetimes) {
        let due_at = session.idle_until(lifetimes).as_millis();
        let mut sessions = self.sessions.write();
        sessions.insert_unique(session.digest().hash64(), session, |held| held.digest().hash64());
        self.due_at.fetch_min(due_at, Ordering::Relaxed);
    }

    fn replace(&self, session: Session) {
        let digest = *session.digest();
        let mut sessions = self.sessions.write();
        if let Some(held) = sessions.find_mut(digest.hash64(), |held| *held.digest() == digest) {
            *held = session;
        }
    }

    fn remove(&self, digest: &TokenDigest) {
        let mut sessions = self.sessions.write();
        if let Ok(entry) = sessions.find_entry(digest.hash64(), |held| held.digest() == digest) {
            entry.remove();
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.due_at.load(Ordering::Relaxed) <= now.as_millis()
    }

    fn may_be_due_now(&self) {
        self.due_at.store(0, Ordering::Relaxed);
    }

    /// Up to [`STEP`] sessions that are over, and how many were looked at. The caller holds the directory's lock and
    /// removes them, then asks again if there may be more.
    fn take_stock(&self, now: Timestamp, lifetimes: &Lifetimes) -> (Vec<(Session, End)>, usize) {
        let sessions = self.sessions.read();
        // Raised first and lowered at the end, so that a look-up that finds an end meanwhile is not overwritten.
        self.due_at.store(u64::MAX, Ordering::Relaxed);
        let mut over = Vec::new();
        let mut looked_at = 0;
        let mut due_at = u64::MAX;
        for session in sessions.iter() {
            looked_at += 1;
            match session.settle(now, lifetimes) {
                State::Live => due_at = due_at.min(session.idle_until(lifetimes).as_millis()),
                State::Ended(_) if over.len() == STEP => {
                    due_at = 0;
                    break;
                }
                State::Ended(end) => over.push((session.clone(), end)),
            }
        }
        self.due_at.fetch_min(due_at, Ordering::Relaxed);
        (over, looked_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::identity::{ClaimValue, Claims, EMAIL};
    use crate::domain::session::{Opening, ScopeId};
    use std::sync::atomic::AtomicBool;

    const LIFETIMES: Lifetimes =
        Lifetimes { idle_timeout: Duration::from_secs(10), absolute_lifetime: Duration::from_secs(30) };

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn identity(subject: &str, source: &str, email: &str) -> Identity {
        let claims = Claims::from([(EMAIL.to_owned(), ClaimValue::Text(email.to_owned()))]);
        Identity::new(subject, source, &claims).expect("a plain identity packs")
    }

    /// The `n`th session of all, of `subject` in `source`; ids are in the order of `n`.
    fn session_of(n: u64, source: &str, subject: &str, now: Timestamp) -> Session {
        let mut random = [0; 32];
        random[..8].copy_from_slice(&n.to_be_bytes());
        Session::open(Opening {
            digest: TokenDigest::of(&random),
            id: SessionId::from_bytes(*random.first_chunk().expect("16 of 32 bytes")),
            identity: &identity(subject, source, "first@example.com"),
            entry: EntryId(1),
            scope: ScopeId(1),
            sign_in: source,
            client_address: "192.0.2.7",
            user_agent: "curl/8.5.0",
            now,
            lifetimes: LIFETIMES,
        })
    }

    fn session(n: u64) -> Session {
        session_of(n, "local", "alice", secs(0))
    }

    fn table_of(count: u64) -> (Table, Vec<Session>) {
        let table = Table::new(count as usize, LIFETIMES);
        let sessions: Vec<Session> = (0..count).map(session).collect();
        for session in &sessions {
            table.open(session.clone(), secs(0)).expect("there is room");
        }
        (table, sessions)
    }

    fn state(table: &Table, session: &Session, now: Timestamp) -> Result<SessionId, NotLive> {
        table.find(session.digest(), now).map(|found| found.id())
    }

    fn ids(sessions: &[Session]) -> Vec<SessionId> {
        sessions.iter().map(Session::id).collect()
    }

    /// Both structures hold the same sessions.
    fn assert_whole(table: &Table) {
        let (by_id, _) = table.list(Filter::default(), None, usize::MAX);
        let in_shards: usize = table.shards.iter().map(|shard| shard.sessions.read().len()).sum();
        assert_eq!((by_id.len(), in_shards), (table.live(), table.live()));
        for held in by_id {
            let identity = held.identity();
            let of_subject = table.of_subject(identity.source(), identity.subject());
            assert!(ids(&of_subject).contains(&held.id()), "{held:?}");
            assert!(table.shard(held.digest()).held(held.digest()).is_some(), "{held:?}");
        }
    }

    #[test]
    fn a_session_is_found_until_its_deadline_and_then_says_why_not() {
        let (table, sessions) = table_of(2);
        assert_eq!(state(&table, &session(9), secs(0)), Err(NotLive::Unknown));
        assert_eq!(state(&table, &sessions[0], secs(9)), Ok(sessions[0].id()));
        assert_eq!(state(&table, &sessions[0], secs(10)), Err(NotLive::Ended(End::Idle)));
        assert_eq!(
            table.find_by_id(&sessions[1].id(), secs(9)).map(|found| found.id()),
            Some(sessions[1].id())
        );
        assert!(table.find_by_id(&sessions[1].id(), secs(10)).is_none());
        assert_eq!(table.sweep(secs(10)).len(), 2);
        assert_eq!(
            state(&table, &sessions[0], secs(10)),
            Err(NotLive::Ended(End::Idle)),
            "remembered when swept"
        );
        assert!(table.find_by_id(&sessions[1].id(), secs(10)).is_none());
    }

    #[test]
    fn an_end_that_was_told_is_not_undone_by_a_use_written_late() {
        let (table, sessions) = table_of(1);
        let exchange = table.find(sessions[0].digest(), secs(9)).expect("live");
        assert_eq!(state(&table, &sessions[0], secs(10)), Err(NotLive::Ended(End::Idle)));
        assert!(!exchange.touch(secs(9), &LIFETIMES));
        let other_claims = identity("alice", "local", "second@example.com");
        assert!(table.replace_identity(&exchange, &other_claims).is_none());
        assert!(
            table.end(sessions[0].digest(), End::SignOut).is_none(),
            "it had ended, and the sweep tells of it"
        );
        assert_eq!(state(&table, &sessions[0], secs(9)), Err(NotLive::Ended(End::Idle)));
        assert_eq!(table.sweep(secs(10)).len(), 1);
    }

    #[test]
    fn an_end_holds_at_once_for_everybody_and_only_the_first_counts() {
        let (table, sessions) = table_of(2);
        let exchange = table.find(sessions[0].digest(), secs(1)).expect("live");
        assert!(table.end(sessions[0].digest(), End::SignOut).is_some());
        assert_eq!(exchange.end(), Some(End::SignOut));
        assert_eq!(state(&table, &sessions[0], secs(1)), Err(NotLive::Ended(End::SignOut)));
        assert!(table.end(sessions[0].digest(), End::Revoked).is_none());
        assert!(table.end_by_id(&sessions[0].id(), End::Revoked).is_none());
        assert_eq!(table.live(), 1);

        assert!(table.end_by_id(&sessions[1].id(), End::Revoked).is_some());
        assert_eq!(state(&table, &sessions[1], secs(1)), Err(NotLive::Ended(End::Revoked)));

        table.open(exchange, secs(1)).expect("there is room");
        assert_eq!(
            state(&table, &sessions[0], secs(1)),
            Err(NotLive::Ended(End::SignOut)),
            "not even by opening it"
        );
    }

    #[test]
    fn a_full_table_refuses_and_never_evicts() {
        let (table, sessions) = table_of(3);
        assert_eq!(table.open(session(3), secs(9)), Err(Full));
        assert!(sessions.iter().all(|session| state(&table, session, secs(9)).is_ok()));

        table.end(sessions[0].digest(), End::SignOut);
        assert_eq!(table.open(session(3), secs(9)), Ok(()));
        assert_eq!(table.open(session(4), secs(9)), Err(Full));

        table.set_capacity(1);
        assert_eq!(table.live(), 3, "a smaller capacity ends nobody");
        table.end(session(3).digest(), End::SignOut);
        assert_eq!(table.open(session(4), secs(9)), Err(Full));
        table.set_capacity(3);
        assert_eq!(table.open(session(4), secs(9)), Ok(()));
        assert_whole(&table);
    }

    #[test]
    fn what_is_past_its_deadline_makes_room_and_the_next_sweep_tells_of_it() {
        let (table, sessions) = table_of(2);
        assert!(sessions[1].touch(secs(5), &LIFETIMES));
        assert_eq!(table.open(session_of(2, "local", "bob", secs(10)), secs(10)), Ok(()));
        assert_eq!(table.open(session_of(3, "local", "bob", secs(10)), secs(10)), Err(Full));
        assert_eq!(state(&table, &sessions[0], secs(10)), Err(NotLive::Ended(End::Idle)));
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
                assert!(sessions[n].touch(secs(used), &LIFETIMES));
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
        table.open(session_of(9, "local", "alice", secs(30)), secs(30)).expect("there is room");
        assert_eq!(swept(40), [(session(9).id(), End::Idle)], "one that came after the last sweep");
    }

    #[test]
    fn a_sweep_of_very_many_takes_all_of_them() {
        let count = (SHARDS * STEP / 2) as u64;
        let (table, sessions) = table_of(count);
        assert!(sessions[7].touch(secs(1), &LIFETIMES));
        // All in one shard, more than a step of it, besides those spread evenly.
        let crowd: Vec<Session> = (count..)
            .map(session)
            .filter(|session| session.digest().as_bytes()[31] == 0)
            .take(STEP * 2)
            .collect();
        table.set_capacity(usize::MAX);
        for session in &crowd {
            table.open(session.clone(), secs(0)).expect("there is room");
        }
        assert_eq!(table.sweep(secs(10)).len(), sessions.len() - 1 + crowd.len());
        assert_eq!(table.live(), 1);
    }

    #[test]
    fn a_reload_with_shorter_lifetimes_ends_living_sessions() {
        let (table, sessions) = table_of(1);
        assert!(table.sweep(secs(5)).is_empty());
        table.set_lifetimes(Lifetimes { idle_timeout: Duration::from_secs(4), ..LIFETIMES });
        assert_eq!(table.sweep(secs(5)).len(), 1);
        assert_eq!(state(&table, &sessions[0], secs(5)), Err(NotLive::Ended(End::Idle)));
    }

    #[test]
    fn a_subject_is_one_only_within_its_source() {
        let table = Table::new(10, LIFETIMES);
        let people = [
            ("local", "alice"),
            ("local", "alice"),
            ("staff", "alice"),
            ("local", "alic"),
            ("local", "alicea"),
        ];
        for (n, (source, subject)) in (0..).zip(people) {
            table.open(session_of(n, source, subject, secs(0)), secs(0)).expect("there is room");
        }
        assert_eq!(ids(&table.of_subject("local", "alice")), [session(0).id(), session(1).id()]);
        let any_source = Filter { subject: Some("alice"), source: None };
        assert_eq!(table.list(any_source, None, 9).0.len(), 3);
        let any_subject = Filter { subject: None, source: Some("local") };
        assert_eq!(table.list(any_subject, None, 9).0.len(), 4);

        let ended = table.end_subject("local", "alice", End::Revoked);
        assert_eq!(ids(&ended), [session(0).id(), session(1).id()]);
        assert_eq!(state(&table, &session(2), secs(0)), Ok(session(2).id()));
        assert_eq!(table.live(), 3);
        assert_whole(&table);
    }

    #[test]
    fn pages_are_stable_while_sessions_come_and_go() {
        let count = STEP as u64 * 2 + 10;
        let (table, sessions) = table_of(count);
        for filter in [Filter::default(), Filter { subject: Some("alice"), source: Some("local") }] {
            let (first, next) = table.list(filter, None, 5);
            assert_eq!(ids(&first), ids(&sessions[..5]));
            // The cursor's own session goes: the next page begins behind where it was.
            table.end(sessions[4].digest(), End::SignOut);
            let (second, _) = table.list(filter, next, 5);
            assert_eq!(ids(&second), ids(&sessions[5..10]));
            table.open(session(4), secs(0)).expect("there is room");

            let (all, end) = table.list(filter, None, count as usize);
            assert_eq!((all.len() as u64, end), (count, None), "a full last page is the last");
            let (all_but_one, next) = table.list(filter, None, count as usize - 1);
            assert_eq!(next, all_but_one.last().map(Session::id));
            assert_eq!(ids(&table.list(filter, next, 5).0), [sessions[count as usize - 1].id()]);
        }
    }

    #[test]
    fn other_claims_apply_to_whoever_finds_the_session_next() {
        let (table, sessions) = table_of(2);
        let exchange = table.find(sessions[0].digest(), secs(1)).expect("live");
        let moved = identity("alice", "local", "second@example.com");
        assert!(table.replace_identity(&exchange, &moved).is_some());
        let found = table.find(sessions[0].digest(), secs(1)).expect("live");
        let email =
            |session: &Session| session.identity().claim(EMAIL).map(|claim| claim.header_form().to_owned());
        assert_eq!(email(&found).as_deref(), Some("second@example.com"));
        assert_eq!(email(&table.of_subject("local", "alice")[0]).as_deref(), Some("second@example.com"));
        assert_eq!(email(&exchange).as_deref(), Some("first@example.com"));

        table.end(sessions[0].digest(), End::Credential);
        assert!(table.replace_identity(&exchange, &moved).is_none(), "it brings nothing back");
        assert_eq!(state(&table, &sessions[0], secs(1)), Err(NotLive::Ended(End::Credential)));
        assert_eq!((exchange.end(), found.end()), (Some(End::Credential), Some(End::Credential)));

        for other in [identity("bob", "local", ""), identity("alice", "staff", "")] {
            assert!(table.replace_identity(&sessions[1], &other).is_none());
        }
        assert_whole(&table);
    }

    #[test]
    fn a_session_under_the_same_digest_or_id_is_superseded() {
        let (table, sessions) = table_of(1);
        table.set_capacity(2);
        table.open(session(0), secs(1)).expect("there is room");
        assert_eq!(sessions[0].end(), Some(End::Superseded));
        assert_eq!(state(&table, &sessions[0], secs(1)), Ok(sessions[0].id()));
        assert_eq!(table.live(), 1);
        assert_whole(&table);
    }

    #[test]
    fn the_capacity_is_exact_whatever_threads_do() {
        let table = Table::new(100, LIFETIMES);
        let opened = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (table, opened) = (&table, &opened);
                scope.spawn(move || {
                    for n in 0..100 {
                        if table.open(session(thread * 1000 + n), secs(0)).is_ok() {
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
        table.set_capacity(usize::MAX);
        let done = AtomicBool::new(false);
        let (ended, swept) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let other_claims = identity("alice", "local", "second@example.com");
        // Used and unused sessions are ended, swept and given other claims, while the used ones are touched and found.
        let (used, idle) = sessions.split_at(sessions.len() / 2);
        std::thread::scope(|scope| {
            let workers = [
                scope.spawn(|| {
                    for session in idle.iter().chain(used).step_by(2) {
                        if table.end(session.digest(), End::SignOut).is_some() {
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
                        table.replace_identity(session, &other_claims);
                    }
                }),
            ];
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for session in used {
                        session.touch(secs(8), &LIFETIMES);
                        let over = state(&table, session, secs(9)).is_err();
                        session.touch(secs(9), &LIFETIMES);
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
}
