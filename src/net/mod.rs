//! Accepting connections and delimiting the messages on them.

pub mod connection;
pub mod fields;
mod http2;
mod known;
pub mod listener;
pub mod opening;
mod outgoing;
mod parting;
pub mod places;
mod proxy_header;
pub mod recall;
pub mod rewound;
pub mod stopping;
pub mod streams;
pub mod tls;
pub mod transport;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
}

/// As the file spells it.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The clocks of a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From a head's first byte, or the connection's start, to its last.
    pub head: Duration,
    /// The longest pause inside a request's body.
    pub body: Duration,
    /// The longest pause in which a client takes nothing of an answer, and the longest time for one part of it.
    pub write: Duration,
    /// The longest pause between two requests.
    pub keep_alive: Duration,
    /// The age from which a connection closes with its next answer.
    pub max_age: Duration,
}

/// How many connections a listener has at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all; absent: as many as the process has descriptors for.
    pub max: Option<u32>,
    /// Of one client address, or /64; absent: half of all.
    pub max_per_client: Option<u32>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_mins(1),
            write: Duration::from_mins(1),
            keep_alive: Duration::from_secs(75),
            max_age: Duration::from_hours(1),
        }
    }
}
