//! Accepting connections and delimiting the messages on them.

pub mod connection;
mod fields;
pub mod listener;
mod outgoing;
mod parting;
pub mod streams;
mod transport;
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

/// The clocks of a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From a head's first byte, or the connection's start, to its last.
    pub head: Duration,
    /// The longest pause inside a request's body.
    pub body: Duration,
    /// The longest pause between two requests.
    pub keep_alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_mins(1),
            keep_alive: Duration::from_secs(75),
        }
    }
}
