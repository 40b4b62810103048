//! Tables and sessions to try things on.

use super::*;
use crate::domain::access::EntryId;
use crate::domain::identity::{ClaimValue, Claims, GROUPS, Identity};
use crate::domain::session::{Kind, Lifetimes, Opening, PatchError, ScopeId, SpaceId};
use http::HeaderValue;

pub(super) const LIFETIMES: Lifetimes =
    Lifetimes { idle_timeout: Duration::from_secs(10), absolute_lifetime: Duration::from_secs(30) };

pub(super) fn clocks() -> Clocks {
    clocks_of(LIFETIMES)
}

pub(super) fn clocks_of(lifetimes: Lifetimes) -> Clocks {
    let renew_after = Duration::from_secs(8);
    Clocks { signed_in: lifetimes, remembered: lifetimes, anonymous: lifetimes, renew_after }
}

pub(super) fn limits(capacity: usize) -> Limits {
    Limits { capacity, anonymous_capacity: 100, per_subject: None }
}

pub(super) fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(super) fn member(subject: &str, source: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let claims = Claims::from([(GROUPS.to_owned(), ClaimValue::List(groups))]);
    Identity::new(subject, source, &claims).expect("a plain identity packs")
}

/// The `n`th session of all, of `subject` in `source`; ids are in the order of `n`.
pub(super) fn session_of(n: u64, source: &str, subject: &str, now: Timestamp) -> Session {
    let mut random = [0; 32];
    random[..8].copy_from_slice(&n.to_be_bytes());
    Session::open(Opening {
        digest: TokenDigest::of(&random),
        id: SessionId::from_bytes(*random.first_chunk().expect("16 of 32 bytes")),
        kind: Kind::SignedIn,
        identity: Some(&member(subject, source, &["ops", "dev"])),
        entry: EntryId(1),
        scope: ScopeId(1),
        stamp: 0,
        sign_in: source,
        client_address: "192.0.2.7",
        user_agent: "curl/8.5.0",
        now,
        lifetimes: LIFETIMES,
    })
}

/// The `n`th session of all, of nobody.
pub(super) fn anonymous(n: u64, now: Timestamp) -> Session {
    let like = session_of(n, "local", "alice", now);
    Session::open(Opening {
        digest: *like.digest(),
        id: like.id(),
        kind: Kind::Anonymous,
        identity: None,
        entry: crate::domain::session::NO_ENTRY,
        scope: ScopeId(1),
        stamp: 0,
        sign_in: "",
        client_address: "192.0.2.7",
        user_agent: "curl/8.5.0",
        now,
        lifetimes: LIFETIMES,
    })
}

/// Puts a value into a space, as an upstream does.
pub(super) fn keep(table: &Table, session: &Session, text: &'static str, at: u64) -> Result<(), End> {
    let apply =
        |_: Option<&HeaderValue>| Ok::<_, std::convert::Infallible>(Some(HeaderValue::from_static(text)));
    match table.patch(session, SpaceId(1), secs(at), apply) {
        Ok(commit) => commit.wait().map_err(|_| End::Superseded),
        Err(PatchError::Ended(end)) => Err(end),
        Err(error) => panic!("{error:?}"),
    }
}

pub(super) fn kept(session: &Session) -> Option<HeaderValue> {
    session.data(SpaceId(1))
}

pub(super) fn open(table: &Table, session: Session, at: u64) {
    table.open(session, &[], secs(at)).expect("there is room").commit.wait().expect("memory is ready");
}

pub(super) fn is_full(table: &Table, session: Session, at: u64) -> bool {
    matches!(table.open(session, &[], secs(at)), Err(Refused::Full))
}

pub(super) fn has_ended(ended: &Ended) -> bool {
    ended.sessions.len() == 1
}

pub(super) fn end(table: &Table, digest: &TokenDigest, end: End) {
    table.end(digest, end).commit.wait().expect("memory is ready");
}

pub(super) fn session(n: u64) -> Session {
    session_of(n, "local", "alice", secs(0))
}

pub(super) fn table_of(count: u64) -> (Table, Vec<Session>) {
    let table = Table::new(limits(count as usize), clocks(), None);
    let sessions: Vec<Session> = (0..count).map(session).collect();
    for session in &sessions {
        open(&table, session.clone(), 0);
    }
    (table, sessions)
}

pub(super) fn over(session: &Session, end: End) -> NotLive {
    NotLive::Ended(end, session.id())
}

pub(super) fn state(table: &Table, session: &Session, now: Timestamp) -> Result<SessionId, NotLive> {
    table.find(session.digest(), now).map(|found| found.id())
}

pub(super) fn ids(sessions: &[Session]) -> Vec<SessionId> {
    sessions.iter().map(Session::id).collect()
}

/// Both structures hold the same sessions.
pub(super) fn assert_whole(table: &Table) {
    let (by_id, _) = table.list(Filter::default(), None, usize::MAX, secs(0));
    assert_eq!(by_id.len(), table.live());
    assert_eq!(table.directory.read().in_order_of_subjects(), table.live(), "nobody is no subject");
    let (mut newest, mut former) = (0, 0);
    for shard in &table.shards {
        for session in shard.sessions.read().iter() {
            let current = session.current();
            let of_former = current.predecessor().is_some_and(|before| before.digest == *session.digest());
            assert!(of_former || current.digest() == session.digest(), "{session:?} leads nowhere");
            *if of_former { &mut former } else { &mut newest } += 1;
        }
    }
    assert_eq!(newest, table.live() + table.anonymous_live());
    assert_eq!(former, by_id.iter().filter(|held| held.predecessor().is_some()).count());
    for held in by_id {
        let identity = held.identity();
        let of_subject = table.of_subject(identity.source(), identity.subject());
        assert!(ids(&of_subject).contains(&held.id()), "{held:?}");
        assert!(table.shard(held.digest()).held(held.digest()).is_some(), "{held:?}");
    }
}

pub(super) fn groups(session: &Session) -> Option<String> {
    session.identity().claim(GROUPS).map(|claim| claim.header_form().to_owned())
}
