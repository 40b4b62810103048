//! The store with a table before it, as the gateway has it.

use super::scratch::Scratch;
use super::*;
use crate::domain::access::EntryId;
use crate::domain::identity::{ClaimValue, Claims, Identity};
use crate::domain::secret::Secret;
use crate::domain::session::{Clocks, End, Kind, Lifetimes, Opening, PatchError, ScopeId, SpaceId};
use crate::domain::token::TokenDigest;
use crate::store::journal::Unavailable;
use crate::store::table::{Limits, NotLive, Refused, Table};
use http::HeaderValue;
use rusqlite::Connection;
use std::sync::atomic::{AtomicU64, Ordering};

const LIFETIMES: Lifetimes =
    Lifetimes { idle_timeout: Duration::from_secs(1000), absolute_lifetime: Duration::from_secs(10_000) };
const CLOCKS: Clocks = Clocks {
    signed_in: LIFETIMES,
    remembered: LIFETIMES,
    anonymous: LIFETIMES,
    renew_after: Duration::from_secs(2_000),
};
const LIMITS: Limits = Limits { capacity: 10_000, anonymous_capacity: 100, per_subject: None };
const SPACE: SpaceId = SpaceId(7);

/// A clock that is moved by hand.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn ticks(&self) -> Duration {
        Duration::ZERO
    }
}

fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn ring(keys: &[u8]) -> KeyRing {
    KeyRing::new(keys.iter().map(|&key| Secret::new([key; 32])).collect()).expect("the tests name a key")
}

/// A table over a store, as a process has it.
struct Process {
    table: Table,
    store: Arc<SqliteStore>,
    clock: Arc<HandClock>,
    loaded: Loaded,
    latest: Timestamp,
    told: Arc<Mutex<Vec<Health>>>,
}

impl Process {
    fn start(scratch: &Scratch, keys: &[u8], now: u64) -> Self {
        Self::try_start(scratch, keys, now).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_start(scratch: &Scratch, keys: &[u8], now: u64) -> Result<Self, OpenError> {
        let file = SqliteFile::open(scratch.file(), &ring(keys))?;
        let latest = file.latest();
        let clock = Arc::new(HandClock(AtomicU64::new(now)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = told.clone();
            move |health: &Health| told.lock().push(health.clone())
        };
        let store = file.start(clock.clone(), tell).expect("the system gives a thread");
        let table = Table::new(LIMITS, CLOCKS, Some(store.clone()));
        let loaded = store.load(|kept| table.restore(kept))?;
        for (digest, end, id) in &loaded.ends {
            table.remember_end(*digest, *end, *id);
        }
        Ok(Self { table, store, clock, loaded, latest, told })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn open(&self, session: &Session) -> Result<(), Unavailable> {
        let opened = self.table.open(session.clone(), &[], self.now()).expect("there is room");
        opened.commit.wait()
    }

    fn find(&self, session: &Session) -> Result<Session, NotLive> {
        self.table.find(session.digest(), self.now())
    }

    fn patch(&self, session: &Session, value: &'static str) -> Result<(), Unavailable> {
        let value = (value != "{}").then(|| HeaderValue::from_static(value));
        let commit = self.table.patch(session, SPACE, self.now(), |_| Ok::<_, ()>(value));
        commit.expect("it is live").wait()
    }

    /// Waits until the store is what it should be.
    fn wait_until_up(&self, is_up: bool) {
        for _ in 0..4000 {
            if self.store.health().trouble.is_none() == is_up {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("the store should be {}: {:?}", if is_up { "up" } else { "down" }, self.store.health());
    }
}

fn identity(subject: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let claims = Claims::from([
        ("email".to_owned(), ClaimValue::Text(format!("{subject}@example.com"))),
        ("groups".to_owned(), ClaimValue::List(groups)),
    ]);
    Identity::new(subject, "local", &claims).expect("a plain identity packs")
}

fn random(n: u64) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_le_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The `n`th session of all, of `subject`.
fn session_of(n: u64, subject: &str, now: Timestamp) -> Session {
    let random = random(n);
    Session::open(Opening {
        digest: TokenDigest::of(&random),
        id: SessionId::from_bytes(*random.first_chunk().expect("16 of 32 bytes")),
        kind: Kind::SignedIn,
        identity: Some(&identity(subject, &["ops"])),
        entry: EntryId(1),
        scope: ScopeId(1),
        stamp: 5,
        sign_in: "local",
        client_address: "192.0.2.7",
        user_agent: "a-browser/1.0",
        now,
        lifetimes: LIFETIMES,
    })
}

fn session(n: u64) -> Session {
    session_of(n, "alice", secs(10))
}

/// What a commit says without being waited for.
fn at_once(commit: Commit) -> Option<Result<(), Unavailable>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(commit.done()).poll(&mut context) {
        std::task::Poll::Ready(said) => Some(said),
        std::task::Poll::Pending => None,
    }
}

fn count(scratch: &Scratch, table: &str) -> i64 {
    let connection = Connection::open(scratch.file()).expect("the file is there");
    connection
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .expect("the table is there")
}

fn change(scratch: &Scratch, sql: &str) {
    let connection = Connection::open(scratch.file()).expect("the file is there");
    connection.execute_batch(sql).expect("it takes the change");
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_and_what_ended_is_not() {
    let scratch = Scratch::new();
    let (stays, ends, moves) = (session(1), session(2), session(3));
    let first = Process::start(&scratch, &[1], 10);
    for session in [&stays, &ends, &moves] {
        first.open(session).expect("durable");
    }
    first.patch(&stays, "{\"a\":1}").expect("durable");
    first.patch(&stays, "{\"a\":2}").expect("durable");
    first.patch(&ends, "{\"b\":1}").expect("durable");
    first.table.end(ends.digest(), End::SignOut).commit.wait().expect("durable");
    let next = session(4);
    first.patch(&moves, "{\"c\":1}").expect("durable");
    let opened =
        first.table.open(next.clone(), std::slice::from_ref(&moves), secs(10)).expect("there is room");
    opened.commit.wait().expect("durable");
    first.store.crash();

    let second = Process::start(&scratch, &[1], 20);
    let found = second.find(&stays).expect("it was acknowledged");
    assert_eq!(found.data(SPACE), Some(HeaderValue::from_static("{\"a\":2}")));
    let told =
        (found.id(), found.identity().as_packed(), found.stamp(), found.user_agent(), found.opened_at());
    let was =
        (stays.id(), stays.identity().as_packed(), stays.stamp(), stays.user_agent(), stays.opened_at());
    assert_eq!(told, was);
    assert_eq!(second.find(&ends).err(), Some(NotLive::Ended(End::SignOut, ends.id())));
    assert_eq!(second.find(&moves).err(), Some(NotLive::Ended(End::Superseded, moves.id())));
    let data = second.find(&next).expect("it was acknowledged").data(SPACE);
    assert_eq!(data, Some(HeaderValue::from_static("{\"c\":1}")));
    assert_eq!((second.table.live(), second.latest), (2, secs(10)));
    second.patch(&second.find(&stays).expect("live"), "{}").expect("durable");
    drop(second);
    assert_eq!((count(&scratch, "sessions"), count(&scratch, "data")), (2, 1), "no row is left behind");
}

#[test]
fn last_uses_are_written_now_and_then_and_when_the_process_ends() {
    let scratch = Scratch::new();
    let first = Process::start(&scratch, &[1], 10);
    let (one, other) = (session(1), session(2));
    first.open(&one).expect("durable");
    first.open(&other).expect("durable");
    first.clock.0.store(500, Ordering::Relaxed);
    assert!(first.table.touch(&one, first.now()));
    let used = || {
        let second = SqliteFile::open(scratch.file(), &ring(&[1]));
        second.err().map(|error| error.to_string())
    };
    assert!(used().is_some_and(|told| told.contains("in use")));
    for _ in 0..1000 {
        if first.store.shared.touched.lock().is_empty() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert!(first.store.shared.touched.lock().is_empty(), "after a second they are written");
    first.clock.0.store(900, Ordering::Relaxed);
    assert!(first.table.touch(&other, first.now()));
    drop(first);

    let second = Process::start(&scratch, &[1], 900);
    let at = |session| second.find(session).expect("live").last_used_at();
    assert_eq!((at(&one), at(&other)), (secs(500), secs(900)));
    assert_eq!(second.latest, secs(900));
}

#[test]
fn a_renewal_survives_with_both_tokens() {
    let scratch = Scratch::new();
    let first = Process::start(&scratch, &[1], 10);
    let old = session(1);
    first.open(&old).expect("durable");
    first.patch(&old, "{\"a\":1}").expect("durable");
    first.clock.0.store(900, Ordering::Relaxed);
    let old = first.find(&old).expect("live");
    let more = identity("alice", &["ops", "admin"]);
    first.table.change_identity(&old, &more, 6, first.now()).expect("it changes").wait().expect("durable");
    let successor = TokenDigest::of(&random(100));
    first.table.offer(&old, successor, first.now()).expect("a gain waits").wait().expect("durable");
    first.store.crash();

    let second = Process::start(&scratch, &[1], 901);
    let before = second.find(&old).expect("the browser may not have heard of the successor");
    assert_eq!(before.identity().as_packed(), identity("alice", &["ops"]).packed());
    assert!(before.wants_renewal(secs(901), CLOCKS.renew_after), "it is offered again");
    let after = second.table.find(&successor, secs(901)).expect("it was acknowledged");
    assert_eq!(after.identity().as_packed(), more.packed());
    assert_eq!((after.stamp(), after.generation()), (6, 1));
    assert_eq!(after.data(SPACE), before.data(SPACE));
    assert_eq!(second.table.live(), 1);
    second.store.stop();

    let third = Process::start(&scratch, &[1], 912);
    let gone = third.find(&old).err();
    assert_eq!(
        gone,
        Some(NotLive::Ended(End::Superseded, old.id())),
        "the successor is in use, and that was written"
    );
    assert!(third.table.find(&successor, secs(912)).is_ok());
}

#[test]
fn nothing_that_says_who_it_is_lies_in_the_file() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let session = session_of(1, "somebody-special", secs(10));
    process.open(&session).expect("durable");
    process.patch(&session, "{\"cart\":\"a-book\"}").expect("durable");
    let look = |when: &str| {
        for entry in std::fs::read_dir(scratch.folder()).expect("a folder") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("it can be read");
            for secret in ["somebody", "example.com", "ops", "local", "192.0.2.7", "a-browser", "a-book"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "`{secret}` lies in {} {when}", path.display());
            }
        }
    };
    look("while it runs");
    process.store.stop();
    look("when it has stopped");
}

#[test]
fn rotating_the_key_loses_nothing_and_a_dropped_one_only_what_it_sealed() {
    let scratch = Scratch::new();
    let (old, renewed, new) = (session(1), session(2), session(3));
    let first = Process::start(&scratch, &[1], 10);
    first.open(&old).expect("durable");
    first.open(&renewed).expect("durable");
    first.patch(&renewed, "{\"a\":1}").expect("durable");
    assert_eq!(first.store.set_keys(&ring(&[2, 1])).expect("no key is gone"), 0);
    first.open(&new).expect("durable");
    let more = identity("alice", &["ops", "admin"]);
    let changed = first.table.change_identity(&renewed, &more, 5, secs(10)).expect("it changes");
    changed.wait().expect("durable");
    assert_eq!(first.store.set_keys(&ring(&[2])).expect("the rows can be counted"), 1);
    drop(first);

    let both = Process::start(&scratch, &[2, 1], 20);
    assert_eq!((both.table.live(), both.loaded.unopened, both.loaded.damaged), (3, 0, 0));
    drop(both);
    let dropped = Process::start(&scratch, &[2], 20);
    assert_eq!((dropped.table.live(), dropped.loaded.unopened, dropped.loaded.damaged), (2, 1, 0));
    assert_eq!(dropped.find(&old).err(), Some(NotLive::Unknown));
    assert!(dropped.find(&new).is_ok());
    let data = dropped.find(&renewed).expect("sealed anew").data(SPACE);
    assert_eq!(data, Some(HeaderValue::from_static("{\"a\":1}")));
    drop(dropped);
    let back = Process::start(&scratch, &[2, 1], 20);
    assert!(back.find(&old).is_ok(), "who puts the key back has the sessions back");
    drop(back);
    drop(Process::start(&scratch, &[3], 11_000));
    assert_eq!(count(&scratch, "sessions"), 0, "past their absolute end they go");
}

#[test]
fn a_value_that_was_changed_or_moved_is_left_out_and_the_others_are_there() {
    let scratch = Scratch::new();
    let first = Process::start(&scratch, &[1], 10);
    let sessions: Vec<Session> = (1..=8).map(session).collect();
    for session in &sessions {
        first.open(session).expect("durable");
        first.patch(session, "{\"a\":1}").expect("durable");
    }
    drop(first);
    let number = |at: usize| row::number_of(&sessions[at].id());
    let (one, two) = (number(1), number(2));
    change(
        &scratch,
        &format!(
            "UPDATE sessions SET record = (SELECT record FROM sessions WHERE number = {one}) WHERE number = {two};
             UPDATE sessions SET used = (SELECT used FROM sessions WHERE number = {one}) WHERE number = {};
             UPDATE sessions SET ends_at = ends_at + 1 WHERE number = {};
             UPDATE sessions SET id = zeroblob(3) WHERE number = {};
             UPDATE data SET value = (SELECT value FROM data WHERE session = {one}) WHERE session = {};
             UPDATE data SET space = 8 WHERE session = {};",
            number(3),
            number(4),
            number(5),
            number(6),
            number(7),
        ),
    );
    let second = Process::start(&scratch, &[1], 20);
    let live: Vec<bool> = sessions.iter().map(|session| second.find(session).is_ok()).collect();
    assert_eq!(live, [true, true, false, false, false, false, true, true]);
    let data = |at: usize| second.find(&sessions[at]).expect("live").all_data().len();
    assert_eq!((data(0), data(6), data(7)), (1, 0, 0));
    assert_eq!(second.loaded.damaged, 6);
}

#[test]
fn a_store_that_cannot_write_refuses_keeps_what_is_in_force_and_recovers_by_itself() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let (stays, ends, moves) = (session(1), session(2), session(3));
    for session in [&stays, &ends, &moves] {
        process.open(session).expect("durable");
    }
    process.patch(&stays, "{\"a\":1}").expect("durable");
    let aside = scratch.folder().join("aside.db");
    std::fs::rename(scratch.file(), &aside).expect("a file can be renamed");

    assert_eq!(process.patch(&stays, "{\"a\":2}"), Err(Unavailable));
    process.wait_until_up(false);
    let trouble = process.store.health().trouble.expect("it is down");
    assert!(trouble.contains("was moved or replaced under the running gateway; start it again"), "{trouble}");
    let held = process.find(&stays).expect("what is known goes on");
    assert_eq!(held.data(SPACE), Some(HeaderValue::from_static("{\"a\":1}")), "the patch was taken back");
    let lost = session(4);
    let opened = process.table.open(lost.clone(), std::slice::from_ref(&moves), secs(10));
    assert!(matches!(opened, Err(Refused::Unavailable)), "{opened:?}");
    assert!(process.find(&moves).is_ok(), "nothing ends for what cannot be kept");
    assert_eq!(process.table.end(ends.digest(), End::SignOut).commit.wait(), Err(Unavailable));
    assert!(process.find(&ends).is_err(), "in force all the same");
    let fewer = identity("alice", &[]);
    let changed = process.table.change_identity(&stays, &fewer, 9, secs(10)).expect("it changes");
    assert_eq!(changed.wait(), Err(Unavailable));
    assert_eq!(process.store.backlog(), 2);
    process.store.hold(true);
    let late = Change::Open { session: session(5), ended: vec![(session(6), End::Superseded)] };
    assert_eq!(
        at_once(process.store.write(late)),
        Some(Err(Unavailable)),
        "nobody waits for the next attempt"
    );
    process.store.settle();
    assert_eq!(process.store.backlog(), 3, "an attempt that fails loses nothing");
    process.store.hold(false);

    std::fs::rename(&aside, scratch.file()).expect("a file can be renamed");
    process.wait_until_up(true);
    process.patch(&stays, "{\"a\":3}").expect("it takes writes again");
    let told: Vec<bool> = process.told.lock().iter().map(|health| health.trouble.is_none()).collect();
    assert_eq!(told, [false, true], "told once each");
    process.store.crash();

    let second = Process::start(&scratch, &[1], 20);
    let found = second.find(&stays).expect("it was acknowledged");
    assert_eq!((found.identity().as_packed(), found.stamp()), (fewer.packed(), 9));
    assert_eq!(found.data(SPACE), Some(HeaderValue::from_static("{\"a\":3}")));
    assert!(second.find(&moves).is_ok());
    for over in [&ends, &lost] {
        assert!(second.find(over).is_err());
    }
    assert_eq!(second.table.live(), 2);
}

#[test]
fn a_full_queue_refuses_at_once_and_still_keeps_ends() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let early = session(1);
    process.open(&early).expect("durable");
    process.patch(&early, "{\"a\":1}").expect("durable");
    let other = Connection::open(scratch.file()).expect("the file is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");

    let open = |n| process.table.open(session(n), &[], secs(10)).map_or(Commit::refused(), |one| one.commit);
    let waiting: Vec<Commit> = (2..2 + 3 * queue::JOBS_MAX as u64).map(open).collect();
    let refused = process.patch(&early, "{\"a\":2}");
    assert_eq!(refused, Err(Unavailable), "while the lock is held");
    let end = process.table.end(early.digest(), End::SignOut).commit;
    other.execute_batch("ROLLBACK").expect("it was begun");

    let answers: Vec<_> = waiting.into_iter().map(Commit::wait).collect();
    // As many as the queue holds may be with the writer, and as many wait.
    assert!(answers.iter().filter(|answer| answer.is_err()).count() >= queue::JOBS_MAX);
    let _ = end.wait();
    process.wait_until_up(true);
    assert_eq!(process.open(&session(9_999)), Ok(()));
    drop(process);
    let second = Process::start(&scratch, &[1], 20);
    assert!(second.find(&early).is_err());
}

#[test]
fn an_end_of_very_many_is_written_in_steps_and_answered_with_the_last() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let count_of = 2 * queue::ROWS_PER_BATCH as u64 + 3;
    let commits: Vec<Commit> = (0..count_of)
        .filter_map(|n| {
            let opened = process.table.open(session(n), &[], secs(10)).expect("there is room");
            // In pieces that the queue takes.
            if n % 1000 == 999 {
                opened.commit.wait().expect("durable");
                return None;
            }
            Some(opened.commit)
        })
        .collect();
    for commit in commits {
        commit.wait().expect("durable");
    }
    let ended = process.table.end_subject("local", "alice", End::Revoked);
    assert_eq!(ended.sessions.len() as u64, count_of);
    ended.commit.wait().expect("durable");
    process.store.crash();
    assert_eq!(count(&scratch, "sessions"), 0);
}

#[test]
fn everybody_who_opens_at_once_is_answered_and_found_again() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let process = &process;
            scope.spawn(move || {
                for n in 0..50 {
                    let session = session(1000 * thread + n);
                    process.open(&session).expect("durable");
                    if n % 5 == 0 {
                        process.table.end(session.digest(), End::SignOut).commit.wait().expect("durable");
                    }
                }
            });
        }
    });
    process.store.crash();
    let second = Process::start(&scratch, &[1], 20);
    assert_eq!(second.table.live(), 8 * 40);
    assert_eq!(second.loaded.ends.len(), 8 * 10);
}

#[test]
fn sessions_of_a_file_without_a_gateway_end_by_age_and_subject() {
    let scratch = Scratch::new();
    let refused = end_opened_before(scratch.file(), &ring(&[1]), secs(10), None);
    assert!(refused.is_err_and(|error| error.to_string().contains("is not there")), "and none is made");
    let people = [("alice", 10), ("alice", 20), ("bob", 10), ("bob", 20), ("carol", 10)];
    let sessions: Vec<Session> =
        (1..).zip(people).map(|(n, (subject, at))| session_of(n, subject, secs(at))).collect();
    let first = Process::start(&scratch, &[1], 30);
    for session in &sessions[..4] {
        first.open(session).expect("durable");
        first.patch(session, "{\"a\":1}").expect("durable");
    }
    first.store.set_keys(&ring(&[2, 1])).expect("no key is gone");
    first.open(&sessions[4]).expect("durable");
    let refused = end_opened_before(scratch.file(), &ring(&[1]), secs(20), None);
    assert!(refused.is_err_and(|error| error.to_string().contains("in use by another process")));
    drop(first);

    let end = |keys: &[u8], before, subject: Option<&str>, source| {
        let whose = subject.map(|subject| Whose { subject, source });
        let EndedOffline { ended, unopened } =
            end_opened_before(scratch.file(), &ring(keys), secs(before), whose).expect("nobody has the file");
        (ended, unopened)
    };
    assert_eq!(end(&[2, 1], 20, Some("alice"), Some("staff")), (0, 0));
    assert_eq!(end(&[2, 1], 20, Some("alice"), Some("local")), (1, 0));
    assert_eq!(end(&[1], 30, Some("alice"), None), (1, 1), "one row is of a key that is not in this ring");
    assert_eq!(end(&[2, 1], 30, Some("carol"), None), (1, 0));
    assert_eq!(end(&[3], 20, None, None), (1, 0), "by age alone, no key is needed");
    let second = Process::start(&scratch, &[2, 1], 30);
    let live: Vec<bool> = sessions.iter().map(|session| second.find(session).is_ok()).collect();
    assert_eq!(live, [false, false, false, true, false]);
    assert_eq!(second.find(&sessions[0]).err(), Some(NotLive::Ended(End::Revoked, sessions[0].id())));
    assert_eq!(count(&scratch, "data"), 1);
}

#[test]
fn a_patch_that_comes_after_the_end_is_dropped() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let session = session(1);
    process.open(&session).expect("durable");
    process.patch(&session, "{\"a\":0}").expect("durable");
    process.table.end(session.digest(), End::SignOut).commit.wait().expect("durable");
    let late = Change::Data {
        session: session.clone(),
        space: SPACE,
        former: None,
        value: Some(HeaderValue::from_static("{\"a\":1}")),
        epoch: 0,
    };
    process.store.write(late).wait().expect("nothing is wrong with the file");
    process.store.write(Change::Put { session: session.clone() }).wait().expect("as above");
    process.table.touch(&session, secs(500));
    let patched = process.table.patch(&session, SPACE, secs(10), |_| Ok::<_, ()>(None));
    assert!(matches!(patched, Err(PatchError::Ended(End::SignOut))));
    drop(process);
    assert_eq!((count(&scratch, "sessions"), count(&scratch, "data")), (0, 0));
}

#[test]
fn of_a_batch_that_fails_half_way_nothing_is_written() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let (known, ends) = (session(1), session(2));
    process.open(&known).expect("durable");
    process.open(&ends).expect("durable");
    change(
        &scratch,
        "CREATE TRIGGER full BEFORE INSERT ON data BEGIN SELECT RAISE(ABORT, 'no room for that'); END",
    );
    process.store.hold(true);
    let opened = process.table.open(session(3), &[], secs(10)).expect("there is room").commit;
    let ended = process.table.end(ends.digest(), End::SignOut).commit;
    let value = HeaderValue::from_static("{\"a\":1}");
    let patched =
        process.table.patch(&known, SPACE, secs(10), |_| Ok::<_, ()>(Some(value))).expect("it lives");
    process.store.settle();
    for commit in [opened, ended, patched] {
        assert_eq!(at_once(commit), Some(Err(Unavailable)));
    }
    assert_eq!((count(&scratch, "sessions"), count(&scratch, "ends")), (2, 0));
    assert_eq!(process.find(&known).expect("it lives").data(SPACE), None);
    process.table.end(session(3).digest(), End::Revoked).commit.forget();
    process.store.settle();
    assert_eq!(
        (count(&scratch, "sessions"), count(&scratch, "ends")),
        (1, 1),
        "the end is written without the patch"
    );
    change(&scratch, "DROP TRIGGER full");
    process.store.hold(false);
    process.patch(&known, "{\"a\":2}").expect("it takes writes again");
}

#[test]
fn half_an_id_that_is_there_already_costs_one_opening_and_no_other_session() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let [one, twin, other] = [1, 2, 3].map(|n| {
        let mut id = [7; 16];
        id[8..].fill(n);
        id[0] = if n == 3 { 1 } else { 7 };
        let random = random(n.into());
        Session::open(Opening {
            digest: TokenDigest::of(&random),
            id: SessionId::from_bytes(id),
            kind: Kind::Anonymous,
            identity: None,
            entry: EntryId(0),
            scope: ScopeId(1),
            stamp: 0,
            sign_in: "",
            client_address: "",
            user_agent: "",
            now: secs(10),
            lifetimes: LIFETIMES,
        })
    });
    process.open(&one).expect("durable");
    process.patch(&one, "{\"a\":1}").expect("durable");
    process.store.hold(true);
    let opened = [&twin, &other]
        .map(|session| process.table.open(session.clone(), &[], secs(10)).expect("there is room").commit);
    process.store.settle();
    assert_eq!(opened.map(at_once), [Some(Err(Unavailable)), Some(Ok(()))]);
    process.table.end(twin.digest(), End::Revoked).commit.forget();
    process.store.settle();
    process.store.crash();
    let second = Process::start(&scratch, &[1], 20);
    assert!(second.find(&one).expect("it lives").data(SPACE).is_some());
    assert!(second.find(&twin).is_err() && second.find(&other).is_ok());
}

#[test]
fn a_patch_that_was_made_from_a_refused_one_is_not_written() {
    let scratch = Scratch::new();
    let process = Process::start(&scratch, &[1], 10);
    let session = session(1);
    process.open(&session).expect("durable");
    process.store.hold(true);
    let patch = |value| {
        let value = Some(HeaderValue::from_static(value));
        process.table.patch(&session, SPACE, secs(10), |_| Ok::<_, ()>(value)).expect("it lives")
    };
    let made = [patch("{\"a\":1}"), patch("{\"a\":2}")];
    // What they were made from could not be written, and that is told while they wait.
    session.data_written(SPACE, 0, None, false);
    process.store.settle();
    assert_eq!(made.map(at_once), [Some(Err(Unavailable)), Some(Err(Unavailable))]);
    assert_eq!((session.data(SPACE), count(&scratch, "data")), (None, 0));
    let stands = patch("{\"a\":3}");
    process.store.settle();
    assert_eq!((at_once(stands), count(&scratch, "data")), (Some(Ok(())), 1));
}
