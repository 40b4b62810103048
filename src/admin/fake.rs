//! A process behind the door, for tests: a real table, and a note of what was reported.

use super::{Control, Door, OpenError, OpenRequest, Opened, ServerState};
use crate::domain::access::EntryId;
use crate::domain::identity::{Claims, Identity};
use crate::domain::secret::Secret;
use crate::domain::session::{End, Lifetimes, Opening, ScopeId, Session, SessionId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::token::TokenDigest;
use crate::net::Address;
use crate::store::table::Table;
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

impl Behind {
    pub(super) fn new() -> Self {
        let lifetimes =
            Lifetimes { idle_timeout: Duration::from_mins(30), absolute_lifetime: Duration::from_hours(12) };
        Self {
            table: Table::new(100, lifetimes),
            reload: Ok("in force".to_owned()),
            ended: Mutex::default(),
            refused: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Opens a session whose id is `number` repeated.
    pub(super) fn open(&self, number: u8, subject: &str, source: &str) -> Session {
        let session = Session::open(Opening {
            digest: TokenDigest::of(&[number; 32]),
            id: SessionId::from_bytes([number; 16]),
            identity: &Identity::new(subject, source, &Claims::new()).expect("a plain identity packs"),
            entry: EntryId(1),
            scope: ScopeId(1),
            sign_in: source,
            client_address: "192.0.2.1",
            user_agent: "<b>Browser</b>",
            now: NOON,
            lifetimes: self.table.lifetimes(),
        });
        self.table.open(session.clone(), NOON).expect("the table has room");
        session
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
            subject => Ok(Opened {
                session: self.open(200, subject, "local"),
                cookie_name: "__Host-session".to_owned(),
                cookie_value: Secret::new("the-token".to_owned()),
            }),
        }
    }

    fn reload(&self) -> Result<String, String> {
        self.reload.clone()
    }

    fn state(&self) -> ServerState {
        ServerState { draining: false, in_force_since: NOON, rejected_since: None }
    }

    fn metrics(&self) -> String {
        "vestibule_sessions_live 0\n".to_owned()
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
