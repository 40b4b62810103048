//! Binding addresses and accepting connections.
//!
//! Every worker thread accepts from the same socket: an idle one wins. How many connections may be open at once is bounded
//! ([`Places`]); at the bound, accepting waits and the kernel's queue holds the rest.

use crate::net::Address;
use crate::net::places::{Place, Places};
use crate::net::transport::Transport;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long accepting pauses after an error such as too many open files.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// Connections that the kernel may hold before we accept them.
const BACKLOG: i32 = 1024;

/// A bound address, not yet tied to a thread.
#[derive(Debug)]
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket, mode 0600.
    Unix(std::os::unix::net::UnixListener),
}

/// A socket that was accepted a moment ago.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub(crate) transport: Transport,
    /// The address at its other end; none on a Unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// What counts it.
    pub(crate) place: Place,
}

impl Accepted {
    /// The address at its other end; none on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// Binds an address. A Unix socket left by a process that is gone is replaced; one that answers is not.
pub fn bind(address: &Address) -> io::Result<Bound> {
    match address {
        Address::Tcp(address) => {
            // The standard library sets SO_REUSEADDR: a restart finds its address free.
            let socket = std::net::TcpListener::bind(address)?;
            rustix::net::listen(&socket, BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(Bound::Tcp(socket))
        }
        Address::Unix(path) => bind_unix(path).map(Bound::Unix),
    }
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The mask closes the moment between bind and chmod in which others could connect.
    let mask = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(mask);
    let bound = bound?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

impl Bound {
    /// The address as bound: the port is the real one where 0 was asked for.
    pub fn local_address(&self) -> io::Result<Option<std::net::SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }

    /// Accepting does not block: so the runtimes want it.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// A second handle for another thread.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Accepts for ever and hands every socket to `serve`, together with the place that it has taken.
    ///
    /// Must run inside the runtime that is to carry the connections. Dropping the future stops accepting.
    pub async fn accept(self, places: Arc<Places>, serve: impl Fn(Accepted)) -> io::Result<()> {
        enum Socket {
            Tcp(tokio::net::TcpListener),
            Unix(tokio::net::UnixListener),
        }
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener) => Socket::Unix(tokio::net::UnixListener::from_std(listener)?),
        };
        loop {
            let Some(place) = places.wait().await else { return Ok(()) };
            let accepted = match &socket {
                Socket::Tcp(listener) => {
                    listener.accept().await.map(|(stream, peer)| (Transport::Tcp(stream), Some(peer)))
                }
                Socket::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| (Transport::Unix(stream), None))
                }
            };
            match accepted {
                Ok((transport, peer)) => serve(Accepted { transport, peer, place }),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }
}
