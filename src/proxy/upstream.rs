//! Application servers: where to connect, in turn, and how long to wait.
//!
//! Names are looked up in the background ([`Upstream::resolve`]); a request only ever picks from addresses
//! that are known already. What distinguishes upstreams goes into pingora's `group_key`, so that a connection opened under one
//! configuration is never used under another.

use crate::proxy::settings::{IdentityHeader, Server, UpstreamHost, UpstreamSettings, UpstreamTimeouts};
use arc_swap::ArcSwap;
use pingora::upstreams::peer::{HttpPeer, Peer, PeerOptions};
use siphasher::sip::SipHasher24;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The longest wait for a name look-up.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// One entry of `upstreams`, ready to use.
pub struct Upstream {
    /// Its name in the file.
    pub(crate) name: String,
    /// The Host it gets.
    pub(crate) host: UpstreamHost,
    /// The identity headers it gets.
    pub(crate) identity: Vec<IdentityHeader>,
    servers: Vec<Place>,
    next: AtomicUsize,
    template: PeerOptions,
    websocket_pause: Duration,
    group: u64,
}

/// One server with the addresses it is known to have.
struct Place {
    server: Server,
    peers: ArcSwap<Vec<HttpPeer>>,
}

impl Upstream {
    /// Builds the peers; names have none until [`Self::resolve`] has run.
    pub(crate) fn new(settings: UpstreamSettings) -> Self {
        let UpstreamSettings { name, servers, timeouts, host, identity, .. } = settings;
        let mut hasher = SipHasher24::new();
        (&name, &timeouts).hash(&mut hasher);
        let upstream = Self {
            identity,
            name,
            host,
            servers: Vec::new(),
            next: AtomicUsize::new(0),
            template: options(timeouts),
            websocket_pause: timeouts.websocket,
            group: hasher.finish(),
        };
        let servers = servers.into_iter().map(|server| upstream.place(server)).collect();
        Self { servers, ..upstream }
    }

    fn place(&self, server: Server) -> Place {
        let peers = match &server {
            Server::Http { host, port } => match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(address) => vec![self.peer(SocketAddr::new(address, *port))],
                Err(_) => Vec::new(),
            },
            Server::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map(|peer| vec![self.dress(peer)])
                .unwrap_or_default(),
        };
        Place { server, peers: ArcSwap::from_pointee(peers) }
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        self.dress(HttpPeer::new(address, false, String::new()))
    }

    fn dress(&self, mut peer: HttpPeer) -> HttpPeer {
        peer.options = self.template.clone();
        peer.group_key = self.group;
        peer
    }

    /// Takes the next turn, for an exchange to keep over its tries.
    pub(crate) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The server whose turn it is; a second try of the same exchange adds one to its turn and goes elsewhere.
    pub(crate) fn pick(&self, turn: usize) -> Option<HttpPeer> {
        (0..self.servers.len()).find_map(|step| {
            let place = &self.servers[turn.wrapping_add(step) % self.servers.len()];
            let peers = place.peers.load();
            peers.get((turn / self.servers.len()) % peers.len().max(1)).cloned()
        })
    }

    /// How long neither side of a `WebSocket` may send anything.
    pub(crate) fn websocket_pause(&self) -> Duration {
        self.websocket_pause
    }

    /// How many servers there are to try.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Takes over the addresses that the upstream of the same name knew: a reload starts with what was known.
    pub(crate) fn inherit(&self, before: &[Self]) {
        let Some(before) = before.iter().find(|upstream| upstream.name == self.name) else { return };
        for place in &self.servers {
            let Some(known) = before.servers.iter().find(|known| known.server == place.server) else {
                continue;
            };
            let addresses = known.peers.load();
            if place.peers.load().is_empty() {
                let peers = addresses.iter().filter_map(|peer| peer.address().as_inet().copied());
                place.peers.store(peers.map(|address| self.peer(address)).collect::<Vec<_>>().into());
            }
        }
    }

    /// Looks names up again. A failure keeps the addresses known before; it is logged once a failure begins.
    pub(crate) async fn resolve(&self) {
        for place in &self.servers {
            let Server::Http { host, port } = &place.server else { continue };
            if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
                continue;
            }
            let found =
                tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host.as_str(), *port))).await;
            let mut addresses: Vec<SocketAddr> = match found {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            };
            addresses.sort_unstable();
            addresses.dedup();
            let known = place.peers.load();
            if addresses.is_empty() {
                tracing::warn!(upstream = %self.name, server = %host, "the name of an upstream server cannot be looked up");
            } else if known.iter().map(|peer| peer.address().as_inet()).ne(addresses.iter().map(Some)) {
                place.peers.store(
                    addresses.into_iter().map(|address| self.peer(address)).collect::<Vec<_>>().into(),
                );
            }
        }
    }
}

fn options(timeouts: UpstreamTimeouts) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(timeouts.read);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(timeouts.idle);
    options
}
