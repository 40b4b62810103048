//! The settings that reaching an upstream obeys.

use crate::proxy::settings::{IdentityHeader, UpstreamHost};
use http::StatusCode;
use pingora::protocols::tls::CaType;
use pingora::utils::tls::CertKey;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One entry of `upstreams`.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Its name in the file.
    pub name: String,
    /// Where it runs; each address that a name has counts as a server of its own. None where another proxy reaches it, which asks
    /// us.
    pub servers: Vec<Server>,
    /// Which server a request goes to.
    pub balance: Balance,
    /// How its servers are asked whether they are well; absent: only requests tell.
    pub health: Option<HealthSettings>,
    /// How long a server that comes back takes to get its full share; zero: it gets it at once.
    pub slow_start: Duration,
    /// Further servers that an idempotent request may be sent to after one did not answer it.
    pub retries: u8,
    /// The most requests under way at one server; absent: no bound of its own.
    pub max_requests: Option<u32>,
    /// How https servers are spoken to.
    pub tls: UpstreamTls,
    /// Its clocks.
    pub timeouts: UpstreamTimeouts,
    /// The Host it gets.
    pub host: UpstreamHost,
    /// Paths are matched without regard to case.
    pub case_insensitive: bool,
    /// The identity headers it gets.
    pub identity: Vec<IdentityHeader>,
    /// It gets the signed assertion, where there is one.
    pub assertion: bool,
}

impl UpstreamSettings {
    /// Whether servers are proved by what the system trusts.
    pub fn trusts_system(&self) -> bool {
        self.tls.authorities.is_none() && self.servers.iter().any(|server| server.place.is_https())
    }
}

/// One application server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub place: Place,
    /// Its share of the requests beside the others'; 1 or more.
    pub weight: u16,
}

/// Where an application server listens. `Display` writes it as the file does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// `http://host:port` and so on, the host an IP literal or a name that is looked up in the background.
    Net {
        /// What is spoken there.
        protocol: Protocol,
        /// IP literal (IPv6 in brackets) or name.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `unix:/path`; HTTP/1.1.
    Unix(PathBuf),
}

/// What is spoken to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS, or HTTP/2 where both sides agree.
    Https,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

impl Protocol {
    /// Every protocol with its scheme in the file and its usual port.
    pub const ALL: [(Self, &'static str, u16); 3] =
        [(Self::Http, "http", 80), (Self::Https, "https", 443), (Self::H2c, "h2c", 80)];

    /// The scheme in the file.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }
}

impl Place {
    /// Whether TLS is spoken there.
    pub fn is_https(&self) -> bool {
        matches!(self, Self::Net { protocol: Protocol::Https, .. })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net { protocol, host, port } => write!(f, "{}://{host}:{port}", protocol.scheme()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which server a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The next in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastRequests,
    /// Always the same one for the same visitor, as long as it is up.
    Hash(HashBy),
}

/// By what visitors are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The session; the client's address without one.
    Session,
    /// The client's address.
    ClientIp,
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// The target of the request; begins with `/`.
    pub path: String,
    /// Its Host; absent: that of the upstream or of the server.
    pub host: Option<String>,
    /// From one question to the next.
    pub interval: Duration,
    /// The longest wait for the answer, opening the connection included.
    pub timeout: Duration,
    /// So many bad answers in a row take a server out.
    pub unhealthy_after: u32,
    /// So many good ones bring it back.
    pub healthy_after: u32,
    /// What counts as good; empty: 200 to 399.
    pub statuses: Vec<StatusCode>,
}

impl HealthSettings {
    /// Whether this answer is a good one.
    pub fn accepts(&self, status: StatusCode) -> bool {
        if self.statuses.is_empty() {
            status.is_success() || status.is_redirection()
        } else {
            self.statuses.contains(&status)
        }
    }
}

/// How https servers are spoken to. Their certificate is always verified.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// The name in their certificate; absent: the host of each server's URL.
    pub server_name: Option<String>,
    /// Whose signatures count; absent: those that the system trusts.
    pub authorities: Option<Arc<CaType>>,
    /// What we show of ourselves.
    pub client: Option<Arc<CertKey>>,
    /// Offer HTTP/2.
    pub http2: bool,
}

/// The clocks of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTimeouts {
    /// To open a connection, TLS included.
    pub connect: Duration,
    /// Longest pause while reading from it.
    pub read: Duration,
    /// Longest pause while writing to it.
    pub write: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// How long neither side of a `WebSocket` may send anything. The other clocks do not fit: many only listen.
    pub websocket: Duration,
}
