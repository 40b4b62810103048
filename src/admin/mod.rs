//! The operator's door: session API, metrics, health, console page.
//!
//! [`Door`] answers one request after the other; what it needs from the rest of the process comes through
//! [`Control`], which the roof implements. Nothing here is reachable through a public listener.
//!
//! Who may do what: the probes need no token. Everything else needs `Authorization: Bearer` with the admin token;
//! a Unix socket, which the file system guards, may do without one. The console page is for browsers, which cannot
//! send a bearer token, so it alone also takes HTTP Basic with the token as the password, and its forms demand
//! proof that they come from that page. On TCP the Host must be an IP literal or one of `hosts`: a name that
//! somebody else can point at this address (DNS rebinding) gets 421.

mod answer;
mod api;
mod auth;
pub mod client;
mod console;
mod door;
mod explain;
#[cfg(test)]
mod fake;
mod probes;
mod query;
mod serve;
mod tokens;

pub use answer::Answer;
pub use door::{Door, Head};
pub use explain::{Claimed, ExplainRequest, Explanation};
pub use tokens::{RevokeError, RevokeRequest, RevokeWhich, RevokedView};

use crate::domain::identity::Claims;
use crate::domain::secret::Secret;
use crate::domain::session::{End, Session};
use crate::domain::time::Timestamp;
use crate::net::Address;
use crate::store::journal::Commit;
use crate::store::table::Table;
use std::net::IpAddr;

/// `admin` of the file.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Loopback or a Unix socket as a rule; never a public listener.
    pub address: Address,
    /// The bearer token that every call but the probes needs; on a Unix socket it may be absent.
    pub token: Option<Secret<String>>,
    /// Host values answered besides IP literals, lower case; others get 421 (DNS rebinding).
    pub hosts: Vec<String>,
}

/// `probes` of the file.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Where healthz, readyz and metrics answer, for any Host.
    pub address: Address,
}

/// What the door needs from the process behind it.
pub trait Control: Send + Sync {
    /// The living sessions.
    fn sessions(&self) -> &Table;

    /// Opens a session for somebody, with the cookie that carries it.
    fn open_session(&self, request: OpenRequest, now: Timestamp) -> Result<Opened, OpenError>;

    /// Revokes bearer tokens, in force with the return.
    fn revoke_tokens(&self, request: RevokeRequest) -> Result<RevokedView, RevokeError>;

    /// Reads the file again and puts it in force: what to tell the operator, or the problems. May take a second.
    fn reload(&self) -> Result<String, String>;

    /// What the configuration in force would do with a request.
    fn explain(&self, request: &ExplainRequest) -> Explanation;

    /// How the process is.
    fn state(&self) -> ServerState;

    /// The metrics as text.
    fn metrics(&self) -> String;

    /// Ends a session that was opened a moment ago and could not be made durable.
    fn withdraw(&self, session: &Session);

    /// Sessions were ended here: to be counted and audited.
    fn ended(&self, sessions: &[Session], end: End, client: Option<IpAddr>);

    /// A call was refused: to be audited.
    fn refused(&self, reason: &'static str, client: Option<IpAddr>);
}

/// `POST /sessions`.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Who.
    pub subject: String,
    /// What is said about them; for a way with a user file, what stands there counts instead.
    pub claims: Claims,
    /// The way of signing in on whose account the session counts; may be left out where there is one.
    pub sign_in: Option<String>,
    /// The host whose cookie it is; may be left out with `external_url` or one host.
    pub host: Option<String>,
    /// It lives by the clocks of remembered sessions.
    pub remember_me: bool,
    /// The caller's address.
    pub client: Option<IpAddr>,
}

/// A session that was opened, with the only copy of its token.
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The cookie's name on the session's host.
    pub cookie_name: String,
    /// The cookie's value.
    pub cookie_value: Secret<String>,
    /// Resolves when it is durable.
    pub commit: Commit,
}

/// An answer that is sent once what it tells is durable.
#[derive(Debug)]
pub(crate) struct Reply {
    answer: Answer,
    commit: Commit,
    /// What else must be durable.
    further: Vec<Commit>,
    /// Opened, and to be ended again if it cannot be made durable.
    opened: Option<Session>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, commit: Commit::ready(), further: Vec::new(), opened: None }
    }
}

/// Why a session was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The request names what is not there or leaves open what it must say; the text says which.
    #[error("{0}")]
    Unfit(String),
    /// The table holds as many live sessions as it may.
    #[error("the session table is full; end sessions or raise sessions.capacity")]
    Full,
    /// The session store cannot write now.
    #[error("the session store cannot write; nothing has changed")]
    Unavailable,
    /// The subject has as many sessions as it may have.
    #[error(
        "the subject has as many sessions as sessions.per_subject allows, which says `when_full: refuse`; end one of them"
    )]
    SubjectFull,
}

/// How the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ServerState {
    /// It was told to end and finishes what runs.
    pub draining: bool,
    /// Since when the configuration is in force.
    pub in_force_since: Timestamp,
    /// Since when a newer file is refused.
    pub rejected_since: Option<Timestamp>,
    /// Since when the session store cannot be written.
    pub store_down_since: Option<Timestamp>,
}
