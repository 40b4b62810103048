//! A process behind the door, for tests: a real table, and a note of what was reported.

use super::{
    Control, Door, ExplainRequest, Explanation, OpenError, OpenRequest, Opened, RevokeError, RevokeRequest,
    RevokedView, ServerState,
};
use crate::domain::access::EntryId;
use crate::domain::identity::{Claims, Identity};
use crate::domain::secret::Secret;
use crate::domain::session::{Clocks, End, Kind, Lifetimes, Opening, ScopeId, Session, SessionId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::token::TokenDigest;
use crate::net::Address;
use crate::store::journal::{Change, Commit, Journal, Unavailable};
use crate::store::table::{Limits, Table};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
pub(super) const TOKEN: &str = "Bearer operator-token-0123456789abcdef";

pub(super) struct Behind {
    pub(super) table: Table,
    pub(super) reload: Result<String, String>,
    pub(super) ended: Mutex<Vec<String>>,
    pub(super) refused: Mutex<Vec<&'static str>>,
    pub(super) asked: Mutex<Vec<OpenRequest>>,
}

/// A store that cannot write.
struct Stuck;

impl Journal for Stuck {
    fn write(&self, _: Change) -> Commit {
        let (ack, commit) = Commit::pair();
        ack.send(Err(Unavailable));
        commit
    }

    fn can_write(&self) -> bool {
        // It learns of it only when it writes.
        true
    }

    fn touched(&self, _: &Session) {}
}

impl Behind {
    pub(super) fn new() -> Self {
        Self::over(None)
    }

    /// Over a store that cannot write.
    pub(super) fn stuck() -> Self {
        Self::over(Some(Arc::new(Stuck)))
    }

    fn over(journal: Option<Arc<dyn Journal>>) -> Self {
        let lifetimes =
            Lifetimes { idle_timeout: Duration::from_mins(30), absolute_lifetime: Duration::from_hours(12) };
        Self {
            table: Table::new(
                Limits { capacity: 100, anonymous_capacity: 0, per_subject: None },
                Clocks {
                    signed_in: lifetimes,
                    remembered: lifetimes,
                    anonymous: lifetimes,
                    renew_after: Duration::from_hours(3),
                },
                journal,
            ),
            reload: Ok("in force".to_owned()),
            ended: Mutex::default(),
            refused: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Opens a session whose id is `number` repeated.
    pub(super) fn open(&self, number: u8, subject: &str, source: &str) -> Session {
        let (session, commit) = self.opened(number, subject, source);
        commit.forget();
        session
    }

    fn opened(&self, number: u8, subject: &str, source: &str) -> (Session, Commit) {
        let session = Session::open(Opening {
            digest: TokenDigest::of(&[number; 32]),
            id: SessionId::from_bytes([number; 16]),
            kind: Kind::SignedIn,
            identity: Some(&Identity::new(subject, source, &Claims::new()).expect("a plain identity packs")),
            entry: EntryId(1),
            scope: ScopeId(1),
            stamp: 0,
            sign_in: source,
            client_address: "192.0.2.1",
            user_agent: "<b>Browser</b>",
            now: NOON,
            lifetimes: self.table.clocks().signed_in,
        });
        let opened = self.table.open(session.clone(), &[], NOON).expect("the table has room");
        (session, opened.commit)
    }
}

impl Control for Behind {
    fn sessions(&self) -> &Table {
        &self.table
    }

    fn open_session(&self, request: OpenRequest, _: Timestamp) -> Result<Opened, OpenError> {
        self.asked.lock().push(request.clone());
        match request.subject.as_str() {
            "nobody" => Err(OpenError::Unfit("`nobody` does not stand in users.yaml".to_owned())),
            "one-too-many" => Err(OpenError::Full),
            "often-enough" => Err(OpenError::SubjectFull),
            subject => {
                let (session, commit) = self.opened(200, subject, "local");
                let cookie_name = "__Host-session".to_owned();
                let cookie_value = Secret::new("the-token".to_owned());
                Ok(Opened { session, cookie_name, cookie_value, commit })
            }
        }
    }

    fn revoke_tokens(&self, request: RevokeRequest) -> Result<RevokedView, RevokeError> {
        let source = request.source.unwrap_or_else(|| "https://id.example.com".to_owned());
        Ok(RevokedView { source, until: NOON, sessions_ended: 0, commits: Vec::new() })
    }

    fn reload(&self) -> Result<String, String> {
        self.reload.clone()
    }

    fn explain(&self, request: &ExplainRequest) -> Explanation {
        let mut told = Explanation::default();
        told.say("request", format!("{} {}", request.method, request.url));
        told.say("who", request.who.as_ref().map_or("nobody", |who| &who.subject));
        told
    }

    fn state(&self) -> ServerState {
        ServerState { draining: false, in_force_since: NOON, rejected_since: None, store_down_since: None }
    }

    fn metrics(&self) -> String {
        "vestibule_sessions_live 0\n".to_owned()
    }

    fn withdraw(&self, session: &Session) {
        self.table.end(session.digest(), End::Revoked).commit.forget();
    }

    fn ended(&self, sessions: &[Session], end: End, _: Option<IpAddr>) {
        let subjects =
            sessions.iter().map(|session| format!("{} {}", session.identity().subject(), end.as_str()));
        self.ended.lock().extend(subjects);
    }

    fn refused(&self, reason: &'static str, _: Option<IpAddr>) {
        self.refused.lock().push(reason);
    }
}

/// Always noon.
pub(super) struct Stopped;

impl Clock for Stopped {
    fn ticks(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn now(&self) -> Timestamp {
        NOON
    }

    fn wall(&self) -> Timestamp {
        NOON
    }
}

fn settings(address: Address, token: bool) -> super::AdminSettings {
    let token = token.then(|| Secret::new(TOKEN["Bearer ".len()..].to_owned()));
    super::AdminSettings { address, token, hosts: vec!["localhost".to_owned()] }
}

/// A door on TCP, with a token.
pub(super) fn door(behind: Arc<Behind>) -> Door {
    Door::admin(&settings(Address::Tcp(([127, 0, 0, 1], 9901).into()), true), behind, Arc::new(Stopped))
}

/// A door on a Unix socket, without one.
pub(super) fn unix_door(behind: Arc<Behind>) -> Door {
    Door::admin(&settings(Address::Unix("admin.sock".into()), false), behind, Arc::new(Stopped))
}

/// A door on TCP whose token got lost.
pub(super) fn tokenless_door(behind: Arc<Behind>) -> Door {
    Door::admin(&settings(Address::Tcp(([127, 0, 0, 1], 9901).into()), false), behind, Arc::new(Stopped))
}

/// The door of the probes address.
pub(super) fn probes(behind: Arc<Behind>) -> Door {
    Door::probes(behind, Arc::new(Stopped))
}
