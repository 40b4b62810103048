//! From an accepted socket to a connection that yields requests, step by step: the proxy's header, a place for the client.

use crate::domain::clients;
use crate::domain::proxy_header::BadProxyHeader;
use crate::net::Timeouts;
use crate::net::connection::Link;
use crate::net::listener::Accepted;
use crate::net::places::{ClientPlace, Place, Places};
use crate::net::proxy_header::{self, NoHeader};
use crate::net::streams::Streams;
use crate::net::wire::Wire;
use ipnet::IpNet;
use pingora::server::ShutdownWatch;
use std::net::IpAddr;
use std::sync::Arc;

/// What every connection of a listener goes through before its first request.
#[derive(Debug)]
pub struct Entrance {
    /// The listener's number.
    pub number: usize,
    /// Its connections' clocks.
    pub timeouts: Timeouts,
    /// A connection begins with a header in which a proxy names its client.
    pub proxy_protocol: bool,
    /// How many connections there may be.
    pub places: Arc<Places>,
}

/// A connection that requests may come over, with the places that it holds.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub wire: Box<Wire>,
    /// Given back when the connection is over.
    pub places: (Place, Option<ClientPlace>),
}

/// Why a connection was closed before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is to begin with a proxy's header, and the peer is no trusted proxy.
    Stranger,
    /// It does not begin with a header that we take.
    BadHeader(BadProxyHeader),
    /// The header did not arrive in time.
    LateHeader,
    /// The connection broke, or the server stopped, before it had begun.
    Broken,
    /// The client has as many connections as it may.
    ClientFull,
}

impl Refused {
    /// A word for the log and the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Stranger => "proxy_header_stranger",
            Self::BadHeader(BadProxyHeader::Start) => "proxy_header_missing",
            Self::BadHeader(BadProxyHeader::TooLong) => "proxy_header_long",
            Self::BadHeader(BadProxyHeader::Malformed) => "proxy_header_bad",
            Self::LateHeader => "proxy_header_late",
            Self::Broken => "broken",
            Self::ClientFull => "client_full",
        }
    }
}

impl Entrance {
    /// Opens a connection; `trusted`: the proxies whose word counts, and who are not counted as clients themselves. Once
    /// `stop` turns true, nobody waits for a header.
    ///
    /// # Errors
    ///
    /// Why it is to be closed without a word.
    pub async fn open(
        &self,
        accepted: Accepted,
        trusted: &[IpNet],
        streams: &Arc<Streams>,
        stop: &ShutdownWatch,
    ) -> Result<Opened, Refused> {
        let Accepted { mut transport, mut peer, place } = accepted;
        let is_trusted = |address: IpAddr| clients::holds(trusted, address);
        if self.proxy_protocol {
            if !peer.is_some_and(|peer| is_trusted(peer.ip())) {
                return Err(Refused::Stranger);
            }
            let mut stop = stop.clone();
            let header = tokio::select! {
                biased;
                header = proxy_header::read(&mut transport, self.timeouts.head) => header,
                _ = stop.wait_for(|stopped| *stopped) => Err(NoHeader::Broken),
            };
            match header {
                // Where the proxy speaks for itself, its own address stays.
                Ok(client) => peer = client.or(peer),
                Err(NoHeader::Bad(bad)) => return Err(Refused::BadHeader(bad)),
                Err(NoHeader::Late) => return Err(Refused::LateHeader),
                Err(NoHeader::Broken) => return Err(Refused::Broken),
            }
        }
        let client = match peer {
            Some(peer) if !is_trusted(peer.ip()) => {
                self.places.of_client(peer.ip()).map_err(|_| Refused::ClientFull)?
            }
            // Behind a proxy, or on a Unix socket, are many.
            _ => None,
        };
        let link = Arc::new(Link::new(self.number, peer, streams.clone()));
        let wire = Wire::new(transport, link, self.timeouts.write).map_err(|_| Refused::Broken)?;
        Ok(Opened { wire: Box::new(wire), places: (place, client) })
    }
}
