//! A simple model of the sessions' life, and histories that a table and the store behind it must live through as it does.
//!
//! A history is a list of steps: sign-ins, requests, patches, renewals, ends, time that passes, a file that changes, a store
//! that fails, a process that dies. After each step everything that can be seen of the table is compared with the model. What
//! the store has acknowledged must be there when the process is back; what has ended must not.
//!
//! Any store can be put to it: see [`Behind`]. A history that fails is printed, shortened, and its seed is written to
//! `proptest-regressions/store/model.txt`, where the next run begins.

use crate::domain::access::EntryId;
use crate::domain::identity::{ClaimValue, Claims, GROUPS, Identity};
use crate::domain::session::{
    ANONYMOUS_FIRST, Clocks, End, Kind, Lifetimes, Opening, PatchError, Restored, SUPERSEDED_GRACE, ScopeId,
    Session, SessionId, SpaceId, State,
};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::store::journal::{Ack, Change, Commit, Journal, Unavailable};
use crate::store::table::{Filter, Limits, NotLive, Opened, PerSubject, Refused, Table, WhenFull};
use http::HeaderValue;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A store behind a table, as far as histories deal with it.
pub(crate) trait Behind {
    /// What the table tells it; none where nothing is durable.
    fn journal(&self) -> Option<Arc<dyn Journal>>;

    /// Writes all that it was told, touches too, and answers; comes back when that is done.
    fn settle(&self);

    /// From here on it cannot write (`true`), or can again. `false` comes back if it cannot be made to fail.
    fn fail(&self, failing: bool) -> bool;

    /// The process dies and comes back: what was not settled is lost, unless the store was quicker.
    fn crash(&mut self) -> Vec<Restored>;

    /// Whether nothing becomes durable before [`Behind::settle`].
    fn waits_for_settle(&self) -> bool;

    /// Whether a session whose new token or claims could not be written is written as soon as that is possible.
    fn catches_up(&self) -> bool {
        false
    }
}

/// No store: a crash takes everything.
pub(crate) struct Nothing;

impl Behind for Nothing {
    fn journal(&self) -> Option<Arc<dyn Journal>> {
        None
    }

    fn settle(&self) {}

    fn fail(&self, _: bool) -> bool {
        false
    }

    fn crash(&mut self) -> Vec<Restored> {
        Vec::new()
    }

    fn waits_for_settle(&self) -> bool {
        true
    }
}

/// A store in memory that keeps what a durable one would.
#[derive(Default)]
pub(crate) struct Rows {
    shared: Arc<RowsShared>,
}

#[derive(Default)]
struct RowsShared {
    told: Mutex<Vec<(Change, Ack)>>,
    touched: Mutex<Vec<Session>>,
    failing: Mutex<bool>,
    /// Ends that could not be written.
    owed: Mutex<Vec<SessionId>>,
    rows: Mutex<BTreeMap<SessionId, Restored>>,
}

impl Journal for RowsShared {
    fn write(&self, change: Change) -> Commit {
        let (ack, commit) = Commit::pair();
        self.told.lock().push((change, ack));
        commit
    }

    fn can_write(&self) -> bool {
        !*self.failing.lock()
    }

    fn touched(&self, session: &Session) {
        self.touched.lock().push(session.clone());
    }
}

impl RowsShared {
    fn settle(&self) {
        let told = std::mem::take(&mut *self.told.lock());
        let failing = *self.failing.lock();
        if !failing {
            let mut rows = self.rows.lock();
            for id in self.owed.lock().drain(..) {
                rows.remove(&id);
            }
        }
        for (change, ack) in told {
            ack.send(if failing {
                Err(self.refuse(change))
            } else {
                self.take(change);
                Ok(())
            });
        }
        if !failing {
            let mut rows = self.rows.lock();
            for session in self.touched.lock().drain(..) {
                if let Some(row) = rows.get_mut(&session.id()) {
                    row.last_used_at = session.last_used_at();
                }
            }
        }
    }

    fn take(&self, change: Change) {
        let mut rows = self.rows.lock();
        match change {
            Change::Open { session, ended } => {
                for (ended, _) in &ended {
                    rows.remove(&ended.id());
                }
                rows.insert(session.id(), Restored::of(&session));
            }
            Change::End { sessions } => {
                for (ended, _) in &sessions {
                    rows.remove(&ended.id());
                }
            }
            Change::Put { session } => {
                if let Some(row) = rows.get_mut(&session.id()) {
                    let (data, last_used_at) = (std::mem::take(&mut row.data), row.last_used_at);
                    *row = Restored { last_used_at, data, ..Restored::of(&session) };
                }
            }
            Change::Data { session, space, value, epoch, .. } => {
                if let Some(row) = rows.get_mut(&session.id()) {
                    assert!(session.data_stands(space, epoch), "nothing failed before it");
                    row.data.retain(|(held, _)| *held != space);
                    row.data.extend(value.clone().map(|value| (space, value)));
                }
                session.data_written(space, epoch, value.as_ref(), true);
            }
        }
    }

    fn refuse(&self, change: Change) -> Unavailable {
        match change {
            Change::Open { ended: sessions, .. } | Change::End { sessions } => {
                self.owed.lock().extend(sessions.iter().map(|(ended, _)| ended.id()));
            }
            Change::Put { .. } => {}
            Change::Data { session, space, value, epoch, .. } => {
                session.data_written(space, epoch, value.as_ref(), false);
            }
        }
        Unavailable
    }
}

impl Behind for Rows {
    fn journal(&self) -> Option<Arc<dyn Journal>> {
        Some(self.shared.clone())
    }

    fn settle(&self) {
        self.shared.settle();
    }

    fn fail(&self, failing: bool) -> bool {
        *self.shared.failing.lock() = failing;
        true
    }

    fn crash(&mut self) -> Vec<Restored> {
        let rows = self.shared.rows.lock().clone();
        let kept = rows.values().cloned().collect();
        self.shared = Arc::new(RowsShared { rows: Mutex::new(rows), ..RowsShared::default() });
        kept
    }

    fn waits_for_settle(&self) -> bool {
        true
    }
}

/// One thing that happens. A number picks among what there is at that moment, counted round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A browser that brings these tokens (0: none) gets a session: somebody signs in, or an upstream keeps data for nobody.
    Open {
        kind: Kind,
        subject: u8,
        brings: [u8; 2],
    },
    /// A request brings a token.
    Find {
        token: u8,
    },
    /// An exchange counts as use.
    Touch {
        held: u8,
    },
    /// An upstream sets a space; 0 takes out what is in it.
    Patch {
        held: u8,
        space: u8,
        value: u8,
    },
    /// An answer offers a successor.
    Offer {
        held: u8,
    },
    /// The visitor brings what was offered last.
    Present {
        session: u8,
    },
    /// The file says other groups of a session's subject; each bit is one.
    Change {
        session: u8,
        groups: u8,
    },
    /// A request signs out with a token that is good.
    SignOut {
        token: u8,
    },
    /// An operator ends one.
    EndById {
        session: u8,
    },
    /// Everywhere.
    EndSubject {
        subject: u8,
    },
    /// All that were not used for so long.
    EndIdle {
        secs: u8,
    },
    /// Time passes.
    Forward {
        millis: u16,
    },
    /// Long time passes.
    Leap {
        secs: u16,
    },
    Sweep,
    /// A reload with other clocks.
    Clocks {
        which: u8,
    },
    /// A reload with other limits.
    Limits {
        which: u8,
    },
    /// The store gets slow: nothing becomes durable until it is quick again.
    Slow,
    Quick,
    /// The store cannot write, and then can again.
    Break,
    Repair,
    /// The process dies and comes back.
    Crash,
}

/// Histories of up to so many steps.
pub(crate) fn histories(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        3 => Just(Kind::SignedIn),
        1 => Just(Kind::Remembered),
        2 => Just(Kind::Anonymous),
    ];
    let small = 0..4_u8;
    let step = prop_oneof![
        12 => (kind, small.clone(), any::<[u8; 2]>())
            .prop_map(|(kind, subject, brings)| Step::Open { kind, subject, brings }),
        12 => any::<u8>().prop_map(|token| Step::Find { token }),
        8 => any::<u8>().prop_map(|held| Step::Touch { held }),
        10 => (any::<u8>(), 0..2_u8, small.clone())
            .prop_map(|(held, space, value)| Step::Patch { held, space, value }),
        10 => any::<u8>().prop_map(|held| Step::Offer { held }),
        8 => any::<u8>().prop_map(|session| Step::Present { session }),
        8 => (any::<u8>(), 0..8_u8).prop_map(|(session, groups)| Step::Change { session, groups }),
        3 => any::<u8>().prop_map(|token| Step::SignOut { token }),
        2 => any::<u8>().prop_map(|session| Step::EndById { session }),
        2 => small.clone().prop_map(|subject| Step::EndSubject { subject }),
        1 => any::<u8>().prop_map(|secs| Step::EndIdle { secs }),
        10 => (0..12_000_u16).prop_map(|millis| Step::Forward { millis }),
        4 => (0..400_u16).prop_map(|secs| Step::Leap { secs }),
        4 => Just(Step::Sweep),
        2 => small.clone().prop_map(|which| Step::Clocks { which }),
        2 => small.prop_map(|which| Step::Limits { which }),
        2 => Just(Step::Slow),
        2 => Just(Step::Quick),
        2 => Just(Step::Break),
        2 => Just(Step::Repair),
        4 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..steps)
}

/// Lives through a history with a store behind the table; panics where table and model part.
pub(crate) fn live_through(history: &[Step], behind: impl Behind) {
    let mut life = Life::new(behind);
    for (at, step) in history.iter().enumerate() {
        life.take(*step);
        life.compare(&format!("after step {at}, {step:?}"));
    }
    life.take(Step::Sweep);
    life.compare("after the last sweep");
}

const SOURCE: &str = "local";
const SUBJECTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const GROUP: [&str; 3] = ["dev", "night", "ops"];
const NO_CLIENT: &str = "192.0.2.7";

fn clocks(which: u8) -> Clocks {
    let lifetimes = |idle, absolute| Lifetimes {
        idle_timeout: Duration::from_secs(idle),
        absolute_lifetime: Duration::from_secs(absolute),
    };
    let usual = Clocks {
        signed_in: lifetimes(60, 240),
        remembered: lifetimes(300, 1200),
        anonymous: lifetimes(600, 900),
        renew_after: Duration::from_secs(30),
    };
    match which {
        0 | 1 => usual,
        2 => Clocks { signed_in: lifetimes(20, 90), renew_after: Duration::from_secs(5), ..usual },
        _ => Clocks { anonymous: lifetimes(10, 60), signed_in: lifetimes(600, 600), ..usual },
    }
}

fn limits(which: u8) -> Limits {
    let of = |max, when_full| Some(PerSubject { max, when_full });
    let usual = Limits { capacity: 6, anonymous_capacity: 3, per_subject: None };
    match which {
        0 => usual,
        1 => Limits { per_subject: of(2, WhenFull::EndLeastRecent), ..usual },
        2 => Limits { per_subject: of(1, WhenFull::EndOldest), capacity: 2, anonymous_capacity: 1 },
        _ => Limits { per_subject: of(2, WhenFull::Refuse), ..usual },
    }
}

fn identity(subject: u8, groups: u8) -> Identity {
    let of = GROUP.iter().enumerate().filter(|(bit, _)| groups & (1 << bit) != 0);
    let groups = of.map(|(_, group)| (*group).to_owned()).collect();
    let claims = Claims::from([(GROUPS.to_owned(), ClaimValue::List(groups))]);
    Identity::new(SUBJECTS[usize::from(subject)], SOURCE, &claims).expect("a plain identity packs")
}

fn groups_of(session: &Session) -> u8 {
    let held = session.identity().claim(GROUPS).map_or("", |claim| claim.header_form());
    (0..3).filter(|bit| held.split(',').any(|group| group == GROUP[*bit])).map(|bit| 1 << bit).sum()
}

fn id_of(number: usize) -> SessionId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    SessionId::from_bytes(bytes)
}

fn digest_of(number: usize, generation: u32) -> TokenDigest {
    let mut random = [0; 32];
    random[..8].copy_from_slice(&(number as u64).to_be_bytes());
    random[8..12].copy_from_slice(&generation.to_be_bytes());
    TokenDigest::of(&random)
}

fn space_of(number: u8) -> SpaceId {
    SpaceId(u64::from(number))
}

fn value_of(number: u8) -> Option<HeaderValue> {
    (number > 0).then(|| HeaderValue::from(u16::from(number)))
}

/// Token and claims of a session: what is written in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// Of the newest token.
    generation: u32,
    issued_at: Timestamp,
    /// Since when the newest token is known to have arrived.
    presented_at: Option<Timestamp>,
    groups: u8,
    gain: Option<u8>,
    /// What counts for the token before.
    before: Option<u8>,
}

/// What a store has of a session.
#[derive(Clone, Debug)]
struct Kept {
    standing: Standing,
    data: BTreeMap<u8, u8>,
}

/// A session, as simple as it can be said.
#[derive(Clone, Debug)]
struct One {
    kind: Kind,
    subject: u8,
    opened_at: Timestamp,
    opened_with: Lifetimes,
    used_at: Timestamp,
    standing: Standing,
    data: BTreeMap<u8, u8>,
    ended: Option<End>,
    /// It was said to be over, and takes no place any more.
    gone: bool,
    /// A sweep has yet to say that a deadline ended it.
    owes_sweep: bool,
    /// The process that knew how it ended is no more.
    forgotten: bool,
    kept: Option<Kept>,
}

impl One {
    fn is_anonymous(&self) -> bool {
        self.kind == Kind::Anonymous
    }

    fn lifetimes(&self, clocks: &Clocks) -> Lifetimes {
        let current = clocks.of(self.kind);
        let mut idle_timeout = self.opened_with.idle_timeout.min(current.idle_timeout);
        if self.is_anonymous() && self.standing.presented_at.is_none() {
            idle_timeout = idle_timeout.min(ANONYMOUS_FIRST);
        }
        let absolute_lifetime = self.opened_with.absolute_lifetime.min(current.absolute_lifetime);
        Lifetimes { idle_timeout, absolute_lifetime }
    }

    /// What ended it, if anything has.
    fn over(&self, now: Timestamp, clocks: &Clocks) -> Option<End> {
        let Lifetimes { idle_timeout, absolute_lifetime } = self.lifetimes(clocks);
        let (idle, end) = (self.used_at.plus(idle_timeout), self.opened_at.plus(absolute_lifetime));
        self.ended
            .or_else(|| (now >= idle.min(end)).then_some(if end <= idle { End::Lifetime } else { End::Idle }))
    }

    fn is_live(&self, now: Timestamp, clocks: &Clocks) -> bool {
        !self.gone && self.over(now, clocks).is_none()
    }

    /// Whether the newest token was never brought.
    fn is_offered(&self) -> bool {
        !self.is_anonymous() && self.standing.presented_at.is_none()
    }

    fn in_grace(&self, now: Timestamp) -> bool {
        self.standing.generation > 0
            && self.standing.presented_at.is_none_or(|at| now < at.plus(SUPERSEDED_GRACE))
    }

    fn wants_renewal(&self, generation: u32, now: Timestamp, clocks: &Clocks) -> bool {
        let Standing { generation: newest, issued_at, gain, .. } = self.standing;
        if self.is_anonymous() {
            false
        } else if generation == newest {
            let due = gain.is_some() || now.since(issued_at) >= clocks.renew_after;
            due && !self.in_grace(now)
        } else {
            generation + 1 == newest && self.is_offered()
        }
    }
}

/// What was told to the store and not settled.
#[derive(Clone, Copy, Debug)]
enum Told {
    Open(usize),
    Put(usize),
    Data(usize, u8),
    End(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Quick,
    Slow,
    Failing,
}

struct Life<B> {
    behind: B,
    table: Table,
    now: Timestamp,
    clocks: Clocks,
    limits: Limits,
    mode: Mode,
    all: Vec<One>,
    /// What exchanges hold, of any age.
    held: Vec<Session>,
    told: Vec<Told>,
    /// Ends that the store owes.
    owed: Vec<usize>,
    /// Sessions that it has to write anew.
    behindhand: Vec<usize>,
    /// Commits that a slow store has not answered.
    unanswered: Vec<Commit>,
}

impl<B: Behind> Life<B> {
    fn new(behind: B) -> Self {
        let (clocks, limits) = (clocks(0), limits(0));
        Self {
            table: Table::new(limits, clocks, behind.journal()),
            behind,
            now: Timestamp::from_secs(1_000_000),
            clocks,
            limits,
            mode: Mode::Quick,
            all: Vec::new(),
            held: Vec::new(),
            told: Vec::new(),
            owed: Vec::new(),
            behindhand: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open { kind, subject, brings } => self.open(kind, subject, brings),
            Step::Find { token } => {
                if let Some((number, generation)) = self.token(token) {
                    self.find(number, generation);
                }
            }
            Step::Touch { held } => self.touch(held),
            Step::Patch { held, space, value } => self.patch(held, space, value),
            Step::Offer { held } => self.offer(held),
            Step::Present { session } => {
                if let Some(number) = pick(session, self.all.len()) {
                    self.find(number, self.all[number].standing.generation);
                }
            }
            Step::Change { session, groups } => self.change(session, groups),
            Step::SignOut { token } => {
                if let Some((number, generation)) = self.token(token)
                    && self.find(number, generation).is_some()
                {
                    let ended = self.table.end(&digest_of(number, generation), End::SignOut);
                    self.ended(&BTreeSet::from([number]), &ended.sessions, End::SignOut, ended.commit);
                }
            }
            Step::EndById { session } => {
                if let Some(number) = pick(session, self.all.len()) {
                    let ended = self.table.end_by_id(&id_of(number), End::Revoked);
                    self.ended(&BTreeSet::from([number]), &ended.sessions, End::Revoked, ended.commit);
                }
            }
            Step::EndSubject { subject } => {
                let ended = self.table.end_subject(SOURCE, SUBJECTS[usize::from(subject)], End::Credential);
                let meant = self.which(|one| !one.is_anonymous() && one.subject == subject);
                self.ended(&meant, &ended.sessions, End::Credential, ended.commit);
            }
            Step::EndIdle { secs } => {
                let span = Duration::from_secs(secs.into());
                let filter = Filter { idle_for: Some(span), ..Filter::default() };
                let ended = self.table.end_where(&filter, End::Revoked, self.now);
                let now = self.now;
                let meant = self.which(|one| !one.is_anonymous() && now.since(one.used_at) >= span);
                self.ended(&meant, &ended.sessions, End::Revoked, ended.commit);
            }
            Step::Forward { millis } => self.now = self.now.plus(Duration::from_millis(millis.into())),
            Step::Leap { secs } => self.now = self.now.plus(Duration::from_secs(secs.into())),
            Step::Sweep => self.sweep(),
            Step::Clocks { which } => {
                self.clocks = clocks(which);
                self.table.set_clocks(&self.clocks);
            }
            Step::Limits { which } => {
                self.limits = limits(which);
                self.table.set_limits(self.limits);
            }
            Step::Slow if self.mode == Mode::Quick && self.behind.waits_for_settle() => {
                self.mode = Mode::Slow;
            }
            Step::Quick if self.mode == Mode::Slow => self.mode = Mode::Quick,
            Step::Break if self.mode == Mode::Quick && self.behind.fail(true) => self.mode = Mode::Failing,
            Step::Repair if self.mode == Mode::Failing => {
                self.behind.fail(false);
                self.mode = Mode::Quick;
            }
            Step::Crash => self.crash(),
            Step::Slow | Step::Quick | Step::Break | Step::Repair => {}
        }
        self.settle();
    }

    /// A token that was made at some time: whose, and of which generation.
    fn token(&self, pick_of: u8) -> Option<(usize, u32)> {
        let tokens: Vec<(usize, u32)> = (0..self.all.len())
            .flat_map(|number| (0..=self.all[number].standing.generation).map(move |at| (number, at)))
            .collect();
        pick(pick_of, tokens.len()).map(|at| tokens[at])
    }

    fn which(&self, meant: impl Fn(&One) -> bool) -> BTreeSet<usize> {
        (0..self.all.len()).filter(|number| meant(&self.all[*number])).collect()
    }

    fn number_of(session: &Session) -> usize {
        (0..10_000).find(|number| id_of(*number) == session.id()).expect("ids are counted")
    }

    #[expect(clippy::too_many_lines, reason = "one step of the model, told in the order of its rules")]
    fn open(&mut self, kind: Kind, subject: u8, brings: [u8; 2]) {
        let number = self.all.len();
        let opened_with = self.clocks.of(kind);
        let groups = u8::from(kind != Kind::Anonymous);
        let mut brought: Vec<Session> = Vec::new();
        for token in brings {
            // As many bring none.
            if let Some((number, generation)) = (token % 2 == 1).then(|| self.token(token / 2)).flatten() {
                brought.extend(self.find(number, generation));
            }
        }
        let identity = identity(subject, groups);
        let session = Session::open(Opening {
            digest: digest_of(number, 0),
            id: id_of(number),
            kind,
            identity: (kind != Kind::Anonymous).then_some(&identity),
            entry: EntryId(u64::from(kind != Kind::Anonymous)),
            scope: ScopeId(1),
            stamp: 7,
            sign_in: SOURCE,
            client_address: NO_CLIENT,
            user_agent: "",
            now: self.now,
            lifetimes: opened_with,
        });
        let mut one = One {
            kind,
            subject,
            opened_at: self.now,
            opened_with,
            used_at: self.now,
            standing: Standing {
                generation: 0,
                issued_at: self.now,
                presented_at: (kind != Kind::Anonymous).then_some(self.now),
                groups,
                gain: None,
                before: None,
            },
            data: BTreeMap::new(),
            ended: None,
            gone: false,
            owes_sweep: false,
            forgotten: false,
            kept: None,
        };
        let (now, clocks) = (self.now, self.clocks);
        let mut leaving: Vec<usize> = Vec::new();
        for number in brought.iter().map(Self::number_of) {
            if !leaving.contains(&number) {
                leaving.push(number);
            }
        }
        let brought_count = leaving.len();
        let mut refused = None;
        if let (Some(PerSubject { max, when_full }), false) = (self.limits.per_subject, one.is_anonymous()) {
            let mut theirs: Vec<usize> = self
                .which(|other| {
                    other.subject == subject && !other.is_anonymous() && other.is_live(now, &clocks)
                })
                .into_iter()
                .filter(|number| !leaving.contains(number))
                .collect();
            let beyond = (theirs.len() + 1).saturating_sub(max);
            match when_full {
                WhenFull::Refuse if beyond > 0 => refused = Some(theirs.clone()),
                WhenFull::EndLeastRecent => {
                    theirs.sort_by_key(|n| (self.all[*n].used_at, self.all[*n].opened_at));
                }
                WhenFull::EndOldest | WhenFull::Refuse => theirs.sort_by_key(|n| self.all[*n].opened_at),
            }
            leaving.extend(theirs.into_iter().take(beyond));
        }
        let capacity = if one.is_anonymous() { self.limits.anonymous_capacity } else { self.limits.capacity };
        let live =
            self.which(|other| other.is_anonymous() == one.is_anonymous() && other.is_live(now, &clocks));
        let full = live.iter().filter(|number| !leaving.contains(number)).count() >= capacity;
        let came = self.table.open(session.clone(), &brought, now);
        let Opened { ended, commit } = match (came, refused) {
            (Err(Refused::SubjectFull(held)), Some(theirs)) => {
                assert_eq!(held.iter().map(Self::number_of).collect::<Vec<_>>(), theirs);
                return self.note_swept(&[]);
            }
            // The first failure shows when it is written, the next ones before.
            (Err(Refused::Unavailable), _) => {
                assert_eq!(self.mode, Mode::Failing);
                return self.note_swept(&[]);
            }
            (Err(Refused::Full), None) => {
                assert!(full, "{live:?} leave room beside {leaving:?} for {capacity}");
                return self.note_swept(&[]);
            }
            (Ok(opened), None) => opened,
            (came, refused) => panic!("{came:?} where the model says {refused:?}"),
        };
        assert!(!full, "{live:?} without {leaving:?} fill {capacity}");
        let heir_of = leaving[..brought_count].iter().find(|former| {
            let former = &self.all[**former];
            former.is_anonymous() || (!one.is_anonymous() && former.subject == one.subject)
        });
        if let Some(former) = heir_of {
            one.data = self.all[*former].data.clone();
        }
        self.note_swept(&leaving);
        self.all.push(one);
        self.told.extend(leaving.iter().map(|former| Told::End(*former)));
        self.told.push(Told::Open(number));
        let expected: Vec<(usize, End)> = leaving
            .iter()
            .enumerate()
            .map(|(at, number)| (*number, if at < brought_count { End::Superseded } else { End::Revoked }))
            .collect();
        let ended: Vec<(usize, End)> =
            ended.iter().map(|(former, end)| (Self::number_of(former), *end)).collect();
        assert_eq!(ended, expected);
        for (former, end) in expected {
            self.all[former].ended = Some(end);
            self.all[former].gone = true;
        }
        if self.answer(commit) == Some(false) {
            let ended = self.table.end(session.digest(), End::Revoked);
            self.ended(&BTreeSet::from([number]), &ended.sessions, End::Revoked, ended.commit);
        }
        self.held.push(session);
    }

    /// A request brings a token; the session, if it opens one.
    fn find(&mut self, number: usize, generation: u32) -> Option<Session> {
        let found = self.table.find(&digest_of(number, generation), self.now);
        let (now, clocks, id) = (self.now, self.clocks, id_of(number));
        let one = &mut self.all[number];
        let newest = one.standing.generation;
        let told = |found: &Result<Session, NotLive>| found.as_ref().err().copied();
        if let Some(end) = one.over(now, &clocks) {
            let gone = [Some(NotLive::Ended(End::Superseded, id)), Some(NotLive::Unknown)];
            let former = generation < newest && gone.contains(&told(&found));
            let forgotten = one.forgotten && told(&found) == Some(NotLive::Unknown);
            assert!(
                former || forgotten || told(&found) == Some(NotLive::Ended(end, id)),
                "{found:?}, not {end:?}"
            );
            // A token that is gone says nothing of its session.
            if one.ended.is_none() && !former {
                one.ended = Some(end);
                one.owes_sweep = true;
                self.told.push(Told::End(number));
            }
            return None;
        }
        assert!(!one.forgotten, "what lives is known");
        let serves = generation == newest || (generation + 1 == newest && one.in_grace(now));
        if !serves {
            let superseded = NotLive::Ended(End::Superseded, id);
            // A process that came back has not heard of tokens that were gone.
            let known = told(&found) == Some(superseded) || told(&found) == Some(NotLive::Unknown);
            assert!(known, "{found:?} of generation {generation} beside {newest}");
            return None;
        }
        if generation == newest && one.standing.presented_at.is_none() {
            one.standing.presented_at = Some(now);
            self.told.push(Told::Put(number));
        }
        let session = found.expect("it lives, and its token serves");
        let one = &self.all[number];
        assert_eq!((session.id(), session.generation()), (id, generation));
        let counts = if generation == newest { Some(one.standing.groups) } else { one.standing.before };
        assert_eq!(Some(groups_of(&session)), counts);
        self.held.push(session.clone());
        Some(session)
    }

    fn touch(&mut self, held: u8) {
        let Some(session) = pick(held, self.held.len()).map(|at| self.held[at].clone()) else { return };
        let one = &mut self.all[Self::number_of(&session)];
        let step = one.lifetimes(&self.clocks).idle_timeout / 20;
        let due = self.now > one.used_at && self.now.since(one.used_at) >= step;
        let writes = due && one.is_live(self.now, &self.clocks);
        assert_eq!(self.table.touch(&session, self.now), writes);
        if writes {
            one.used_at = self.now;
        }
    }

    fn patch(&mut self, held: u8, space: u8, value: u8) {
        let Some(session) = pick(held, self.held.len()).map(|at| self.held[at].clone()) else { return };
        let number = Self::number_of(&session);
        let one = &mut self.all[number];
        let former = one.data.get(&space).copied().unwrap_or_default();
        let mut saw = None;
        let apply = |held: Option<&HeaderValue>| {
            saw = Some(held.cloned());
            Ok::<_, Infallible>(value_of(value))
        };
        let patched = self.table.patch(&session, space_of(space), self.now, apply);
        if let Some(end) = one.over(self.now, &self.clocks) {
            assert_eq!(patched.err(), Some(PatchError::Ended(end)));
            return;
        }
        assert_eq!(saw, Some(value_of(former)), "a patch sees what the one before left");
        let commit = patched.expect("it lives and has room");
        if value == 0 {
            one.data.remove(&space);
        } else {
            one.data.insert(space, value);
        }
        if value != former || self.mode == Mode::Slow {
            self.told.push(Told::Data(number, space));
        }
        let durable = self.answer(commit);
        assert!(durable != Some(false) || value != former, "what changed nothing cannot fail");
    }

    fn offer(&mut self, held: u8) {
        let Some(session) = pick(held, self.held.len()).map(|at| self.held[at].clone()) else { return };
        let number = Self::number_of(&session);
        let one = &mut self.all[number];
        let wants = one.wants_renewal(session.generation(), self.now, &self.clocks);
        let live = one.is_live(self.now, &self.clocks);
        assert!(!live || session.wants_renewal(self.now, self.clocks.renew_after) == wants, "{session:?}");
        let successor = digest_of(number, session.generation() + 1);
        let offered = self.table.offer(&session, successor, self.now);
        assert_eq!(offered.is_some(), wants && live);
        let Some(commit) = offered else { return };
        if one.standing.generation == session.generation() {
            one.standing = Standing {
                generation: session.generation() + 1,
                issued_at: self.now,
                presented_at: None,
                groups: one.standing.gain.unwrap_or(one.standing.groups),
                gain: None,
                before: Some(one.standing.groups),
            };
        }
        self.told.push(Told::Put(number));
        self.answer(commit);
    }

    fn change(&mut self, session: u8, groups: u8) {
        let Some(number) = pick(session, self.all.len()) else { return };
        let Some(session) = self.held.iter().find(|held| held.id() == id_of(number)).cloned() else { return };
        let one = &mut self.all[number];
        let changed = self.table.change_identity(&session, &identity(one.subject, groups), 7, self.now);
        let former = one.standing;
        let next = if one.is_offered() {
            Standing { groups, gain: None, ..former }
        } else {
            let common = former.groups & groups;
            Standing { groups: common, gain: (common != groups).then_some(groups), ..former }
        };
        let next = Standing { before: former.before.map(|before| before & groups), ..next };
        // A token before that serves no longer may be forgotten already.
        let same = Standing { before: None, ..next } == Standing { before: None, ..former };
        let same_before = next.before == former.before || !one.in_grace(self.now);
        let live = one.is_live(self.now, &self.clocks) && !one.is_anonymous();
        let differs = !same || !same_before;
        if (same && !same_before) || (live && differs) {
            assert_eq!(changed.is_some(), live);
        } else {
            assert!(changed.is_none() || live && former.before.is_some(), "{former:?} to {next:?}");
        }
        let Some(commit) = changed else { return };
        one.standing = next;
        self.told.push(Told::Put(number));
        self.answer(commit);
    }

    /// Sessions that were meant are said to have ended: those that had not, and are still there.
    fn ended(&mut self, meant: &BTreeSet<usize>, ended: &[Session], end: End, commit: Commit) {
        let ended: BTreeSet<usize> = ended.iter().map(Self::number_of).collect();
        let there = |number: &&usize| self.all[**number].ended.is_none() && !self.all[**number].gone;
        let expected: BTreeSet<usize> = meant.iter().filter(there).copied().collect();
        assert_eq!(ended, expected);
        for number in ended {
            self.all[number].ended = Some(end);
            self.all[number].gone = true;
            self.told.push(Told::End(number));
        }
        self.answer(commit);
    }

    fn sweep(&mut self) {
        let swept = self.table.sweep(self.now);
        let mut told = BTreeSet::new();
        for (session, end) in &swept {
            let number = Self::number_of(session);
            assert!(told.insert(number), "{session:?} is told of twice");
            let one = &mut self.all[number];
            assert_eq!(one.over(self.now, &self.clocks), Some(*end));
            one.ended = Some(*end);
            self.told.push(Told::End(number));
        }
        for (number, one) in self.all.iter_mut().enumerate() {
            let due = one.owes_sweep || !one.gone && one.over(self.now, &self.clocks).is_some();
            assert_eq!(told.contains(&number), due, "{number} {one:?}");
            one.owes_sweep = false;
            one.gone |= due;
        }
    }

    /// A full table may have swept some that were past their deadline.
    fn note_swept(&mut self, leaving: &[usize]) {
        let there = self.listed();
        for (number, one) in self.all.iter_mut().enumerate() {
            if !one.gone && !there.contains_key(&number) && !leaving.contains(&number) {
                let end = one.over(self.now, &self.clocks).expect("nothing that lives makes room");
                one.ended = Some(end);
                one.gone = true;
                one.owes_sweep = true;
                self.told.push(Told::End(number));
            }
        }
    }

    fn listed(&self) -> BTreeMap<usize, Session> {
        let of = |anonymous| {
            let filter = Filter { anonymous, ..Filter::default() };
            self.table.list(filter, None, usize::MAX, self.now).0
        };
        [of(false), of(true)]
            .into_iter()
            .flatten()
            .map(|session| (Self::number_of(&session), session))
            .collect()
    }

    /// Waits for a commit as whoever answers a visitor does; `None`: the store is slow, and so is the answer.
    fn answer(&mut self, commit: Commit) -> Option<bool> {
        if self.mode == Mode::Slow {
            self.unanswered.push(commit);
            return None;
        }
        self.behind.settle();
        let durable = commit.wait().is_ok();
        let waits = self.behind.journal().is_some() && self.mode == Mode::Failing;
        assert!(durable || waits, "a store that can write has written");
        Some(durable)
    }

    /// What the store was told is durable, or refused.
    fn settle(&mut self) {
        if self.mode == Mode::Slow {
            return;
        }
        self.behind.settle();
        if self.mode == Mode::Quick {
            for number in self.owed.drain(..) {
                self.all[number].kept = None;
            }
            for number in self.behindhand.drain(..) {
                let one = &mut self.all[number];
                one.kept.iter_mut().for_each(|kept| kept.standing = one.standing);
            }
        }
        for commit in self.unanswered.drain(..) {
            assert!(commit.wait().is_ok(), "a slow store writes in the end");
        }
        let durable = self.behind.journal().is_some();
        for told in self.told.drain(..) {
            let (Told::Open(number) | Told::Put(number) | Told::Data(number, _) | Told::End(number)) = told;
            let one = &mut self.all[number];
            match (told, self.mode) {
                (Told::End(number), Mode::Failing) => self.owed.push(number),
                (Told::Put(number), Mode::Failing) if self.behind.catches_up() => {
                    self.behindhand.push(number);
                }
                (Told::End(_), _) => one.kept = None,
                (Told::Open(_), Mode::Quick) if durable && one.ended.is_none() => {
                    one.kept = Some(Kept { standing: one.standing, data: one.data.clone() });
                }
                (Told::Put(_), Mode::Quick) => {
                    one.kept.iter_mut().for_each(|kept| kept.standing = one.standing);
                }
                (Told::Data(_, space), Mode::Quick) => {
                    if let Some(kept) = &mut one.kept {
                        kept.data.remove(&space);
                        kept.data.extend(one.data.get(&space).map(|value| (space, *value)));
                    }
                }
                (Told::Data(_, space), Mode::Failing) if durable => {
                    one.data.remove(&space);
                    let kept = one.kept.as_ref().and_then(|kept| kept.data.get(&space));
                    one.data.extend(kept.map(|value| (space, *value)));
                }
                _ => {}
            }
        }
    }

    fn crash(&mut self) {
        self.held.clear();
        self.told.clear();
        self.owed.clear();
        self.behindhand.clear();
        self.unanswered.clear();
        let kept = self.behind.crash();
        self.mode = Mode::Quick;
        self.table = Table::new(self.limits, self.clocks, self.behind.journal());
        self.table.restore(kept);
        let there = self.listed();
        for (number, one) in self.all.iter_mut().enumerate() {
            one.owes_sweep = false;
            assert_eq!(there.contains_key(&number), one.kept.is_some(), "{number} {one:?}");
            let (Some(kept), Some(session)) = (&one.kept, there.get(&number)) else {
                one.ended.get_or_insert(End::Revoked);
                one.gone = true;
                one.forgotten = true;
                continue;
            };
            // Its end, if it had one, was never acknowledged.
            one.ended = None;
            one.gone = false;
            one.forgotten = false;
            one.standing = kept.standing;
            one.data.clone_from(&kept.data);
            let used_at = session.last_used_at();
            assert!(one.opened_at <= used_at && used_at <= one.used_at, "uses are written late, never early");
            one.used_at = used_at;
            self.held.push(session.clone());
        }
    }

    /// All that can be seen of the table, beside the model.
    fn compare(&mut self, when: &str) {
        let listed = self.listed();
        let mut counts = [0; 2];
        for (number, one) in self.all.iter().enumerate() {
            let Some(session) = listed.get(&number) else {
                assert!(one.gone, "{when}: {number} is lost: {one:?}");
                continue;
            };
            assert!(!one.gone, "{when}: {number} is back: {one:?}");
            counts[usize::from(one.is_anonymous())] += 1;
            let expected = one.over(self.now, &self.clocks).map_or(State::Live, State::Ended);
            assert_eq!(session.state(self.now, &self.clocks), expected, "{when}: {number} {one:?}");
            assert_eq!(session.last_used_at(), one.used_at, "{when}: {number}");
            let Standing { generation, groups, .. } = one.standing;
            assert_eq!((session.generation(), groups_of(session)), (generation, groups), "{when}: {number}");
            assert_eq!(*session.digest(), digest_of(number, generation), "{when}: {number}");
            let data: BTreeMap<SpaceId, HeaderValue> = session.all_data().into_iter().collect();
            let expected =
                one.data.iter().filter_map(|(space, value)| Some((space_of(*space), value_of(*value)?)));
            assert_eq!(data, expected.collect(), "{when}: {number}");
            let Lifetimes { idle_timeout, absolute_lifetime } = one.lifetimes(&self.clocks);
            let ends_at = one.opened_at.plus(absolute_lifetime);
            assert_eq!(session.ends_at(&self.clocks), ends_at, "{when}: {number}");
            let idle_until = one.used_at.plus(idle_timeout).min(ends_at);
            assert_eq!(session.idle_until(&self.clocks), idle_until, "{when}: {number}");
        }
        assert_eq!([self.table.live(), self.table.anonymous_live()], counts, "{when}");
        for session in &self.held {
            let one = &self.all[Self::number_of(session)];
            assert_eq!(session.end(), one.ended, "{when}: {session:?} {one:?}");
        }
        for (subject, name) in (0..).zip(SUBJECTS) {
            let of_subject = self.table.of_subject(SOURCE, name);
            let of_subject: BTreeSet<usize> = of_subject.iter().map(Self::number_of).collect();
            let expected = self.which(|one| !one.gone && !one.is_anonymous() && one.subject == subject);
            assert_eq!(of_subject, expected, "{when}: {name}");
        }
    }
}

fn pick(number: u8, count: usize) -> Option<usize> {
    // From the end: what came last is where most can go wrong.
    (count > 0).then(|| count - 1 - usize::from(number) % count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 7_000, ..ProptestConfig::default() })]

    #[test]
    fn a_table_over_a_durable_store_lives_as_the_model_does(history in histories(40)) {
        live_through(&history, Rows::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_table_in_memory_lives_as_the_model_does(history in histories(40)) {
        live_through(&history, Nothing);
    }
}
