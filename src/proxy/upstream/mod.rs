//! Application servers: which of them a request goes to, how to connect, and how each of them is.
//!
//! Names are looked up in the background ([`names::look_up_always`]); a request only ever picks from addresses that are known
//! already, each of which counts as a server of its own. What distinguishes upstreams goes into pingora's `group_key`, so
//! that a connection opened under one configuration is never used under another.
//!
//! [`balance`] and [`health`] decide, and know nothing of sockets; [`endpoint`] counts; [`names`], [`ttl`] and
//! [`check`] ask the network.

mod balance;
mod budget;
pub(crate) mod check;
mod endpoint;
mod health;
pub(crate) mod names;
pub(crate) mod settings;
pub mod trust;
mod ttl;

pub(crate) use endpoint::Seat;

use crate::proxy::settings::{
    Balance, HealthSettings, IdentityHeader, Place, Protocol, Server, UpstreamHost, UpstreamSettings,
    UpstreamTimeouts, UpstreamTls,
};
use crate::telemetry::upstreams::UpstreamMetrics;
use arc_swap::ArcSwap;
use budget::Budget;
use endpoint::{Endpoint, Shared, State};
use health::Standing;
use pingora::upstreams::peer::{ALPN, HttpPeer, Peer, PeerOptions};
use siphasher::sip::SipHasher24;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Addresses of one upstream, all its servers together. More are left out, and the log says so.
const ENDPOINTS_MAX: usize = 64;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: usize = 100;

/// One entry of `upstreams`, ready to use.
pub struct Upstream {
    /// Its name in the file.
    pub(crate) name: String,
    /// The Host it gets.
    pub(crate) host: UpstreamHost,
    /// The identity headers it gets.
    pub(crate) identity: Vec<IdentityHeader>,
    /// It gets the signed assertion, where there is one.
    pub(crate) assertion: bool,
    /// By what requests are spread.
    pub(crate) balance: Balance,
    /// Further servers that an idempotent request may be sent to.
    pub(crate) retries: u8,
    servers: Vec<Server>,
    health: Option<HealthSettings>,
    field: ArcSwap<Field>,
    next: AtomicUsize,
    template: PeerOptions,
    websocket_pause: Duration,
    tls: UpstreamTls,
    group: u64,
    metrics: UpstreamMetrics,
    shared: Arc<Shared>,
}

/// The addresses that are known now.
struct Field {
    endpoints: Vec<Arc<Endpoint>>,
    /// Numbers of endpoints in the order of turns.
    turns: Box<[u8]>,
}

/// Why no server can have a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nowhere {
    /// No address is known.
    Unknown,
    /// All are down, or have been tried.
    Down,
    /// Those that are not have as many requests as they may.
    Busy,
}

/// What one exchange has tried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// The turn that fell on it.
    turn: Option<usize>,
    /// Endpoints, as bits.
    endpoints: u64,
}

impl Upstream {
    /// Builds the peers. What the upstream of the same name in `before` knew of the same servers is taken over: their
    /// addresses, how they are, what is under way there.
    pub(crate) fn new(settings: UpstreamSettings, metrics: UpstreamMetrics, before: &[Self]) -> Self {
        let before = before.iter().find(|upstream| upstream.name == settings.name);
        let group = group(&settings);
        let UpstreamSettings {
            name,
            servers,
            balance,
            health,
            slow_start,
            retries,
            max_requests,
            tls,
            timeouts,
            host,
            identity,
            assertion,
            case_insensitive: _,
        } = settings;
        let shared = Arc::new(Shared {
            upstream: name.clone(),
            max_requests: max_requests.map_or(usize::MAX, |max| max as usize),
            slow_start,
            budget: before.map_or_else(|| Arc::new(Budget::default()), |before| before.shared.budget.clone()),
        });
        let upstream = Self {
            name,
            host,
            identity,
            assertion,
            balance,
            retries,
            servers,
            health,
            field: ArcSwap::from_pointee(Field { endpoints: Vec::new(), turns: Box::default() }),
            next: AtomicUsize::new(0),
            template: options(timeouts),
            websocket_pause: timeouts.websocket,
            tls,
            group,
            metrics,
            shared,
        };
        let known = before.map(|before| (before, before.field.load_full()));
        let found = upstream.servers.iter().map(|server| match literal(&server.place) {
            Some(address) => vec![address],
            None => {
                known.as_ref().map(|(before, field)| before.known(field, &server.place)).unwrap_or_default()
            }
        });
        let found: Vec<Vec<SocketAddr>> = found.collect();
        upstream.set_addresses(&found, known.as_ref().map(|(before, field)| (*before, &**field)));
        upstream
    }

    /// It has no server here: another proxy reaches it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.servers.is_empty()
    }

    /// The addresses that are known of a server.
    fn known(&self, field: &Field, place: &Place) -> Vec<SocketAddr> {
        let of_server =
            field.endpoints.iter().filter(|endpoint| self.servers[endpoint.server].place == *place);
        of_server.filter_map(|endpoint| endpoint.peer.address().as_inet().copied()).collect()
    }

    /// Puts a field with these addresses in force, one list for each server; Unix sockets need none.
    fn set_addresses(&self, found: &[Vec<SocketAddr>], before: Option<(&Self, &Field)>) {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for (number, (server, addresses)) in self.servers.iter().zip(found).enumerate() {
            let peers: Vec<HttpPeer> = match &server.place {
                Place::Net { protocol, host, .. } => {
                    addresses.iter().map(|address| self.peer(*address, *protocol, host)).collect()
                }
                Place::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                    .map(|peer| vec![self.dress(peer)])
                    .unwrap_or_default(),
            };
            for peer in peers {
                let kept = before.and_then(|(upstream, field)| {
                    let same = |endpoint: &&Arc<Endpoint>| {
                        endpoint.peer.address() == peer.address()
                            && upstream.servers[endpoint.server].place == server.place
                    };
                    field.endpoints.iter().find(same).map(|endpoint| endpoint.state.clone())
                });
                endpoints.push(Arc::new(self.endpoint(number, server, peer, kept.unwrap_or_default())));
            }
        }
        if endpoints.len() > ENDPOINTS_MAX {
            let known = endpoints.len();
            tracing::warn!(upstream = %self.name, known, "an upstream has more than 64 addresses; the rest is not used");
            endpoints.truncate(ENDPOINTS_MAX);
        }
        let weights: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        self.field.store(Arc::new(Field { turns: balance::schedule(&weights), endpoints }));
    }

    fn endpoint(&self, number: usize, server: &Server, peer: HttpPeer, state: Arc<State>) -> Endpoint {
        let place = server.place.to_string();
        let address = peer.address().to_string();
        let name = if literal(&server.place).is_some() || matches!(server.place, Place::Unix(_)) {
            place
        } else {
            format!("{place} ({address})")
        };
        if self.health.is_none() {
            state.health(health::Health::forget_checks);
        }
        let mut id = SipHasher24::new();
        name.hash(&mut id);
        Endpoint {
            server: number,
            name,
            id: id.finish(),
            weight: server.weight,
            peer,
            state,
            metrics: self.metrics.servers[number].clone(),
            shared: self.shared.clone(),
        }
    }

    fn peer(&self, address: SocketAddr, protocol: Protocol, host: &str) -> HttpPeer {
        let is_https = protocol == Protocol::Https;
        let name = match &self.tls.server_name {
            _ if !is_https => String::new(),
            Some(name) => name.clone(),
            None => host.to_owned(),
        };
        let mut peer = self.dress(HttpPeer::new(address, is_https, name));
        match protocol {
            Protocol::Http => {}
            Protocol::H2c => peer.options.alpn = ALPN::H2,
            Protocol::Https => {
                peer.options.alpn = if self.tls.http2 { ALPN::H2H1 } else { ALPN::H1 };
                peer.options.ca.clone_from(&self.tls.authorities);
                peer.client_cert_key.clone_from(&self.tls.client);
            }
        }
        peer
    }

    fn dress(&self, mut peer: HttpPeer) -> HttpPeer {
        peer.options = self.template.clone();
        peer.group_key = self.group;
        peer
    }

    /// A place at a server for a request of the visitor whom `key` names, at none that was tried before. `now` and `key` are
    /// asked for only where they matter.
    pub(crate) fn pick(
        &self,
        tried: &mut Tried,
        key: impl FnOnce() -> u64,
        now: impl Fn() -> Duration,
    ) -> Result<Seat, Nowhere> {
        let field = self.field.load();
        let endpoints = &field.endpoints;
        let first = match (endpoints.len(), self.balance) {
            (0, _) => return Err(Nowhere::Unknown),
            (1, _) => Some(0),
            (_, Balance::RoundRobin) => Some(usize::from(field.turns[self.turn(tried) % field.turns.len()])),
            (_, Balance::LeastRequests | Balance::Hash(_)) => None,
        };
        if let Some(at) = first
            && !tried.has(at)
            && endpoints[at].is_settled()
            && let Some(seat) = endpoints[at].take()
        {
            tried.note(at);
            return Ok(seat);
        }
        self.pick_with_care(endpoints, tried, key, &now)
    }

    fn pick_with_care(
        &self,
        endpoints: &[Arc<Endpoint>],
        tried: &mut Tried,
        key: impl FnOnce() -> u64,
        now: &impl Fn() -> Duration,
    ) -> Result<Seat, Nowhere> {
        let turn = self.turn(tried);
        let mut weights = [0_u32; ENDPOINTS_MAX];
        let weights = &mut weights[..endpoints.len()];
        for (at, endpoint) in endpoints.iter().enumerate().filter(|(at, _)| !tried.has(*at)) {
            match endpoint.standing(now) {
                Standing::Out => {}
                Standing::Share(share) => weights[at] = u32::from(endpoint.weight) * share,
                Standing::Probe => {
                    if let Some(seat) = endpoint.take_probe(now(), false) {
                        tried.note(at);
                        return Ok(seat);
                    }
                }
            }
        }
        let key = if matches!(self.balance, Balance::Hash(_)) { key() } else { 0 };
        let mut is_busy = false;
        loop {
            let chosen = match self.balance {
                Balance::RoundRobin => balance::draw(weights, turn),
                Balance::LeastRequests => balance::least(weights, |at| endpoints[at].state.under_way(), turn),
                Balance::Hash(_) => balance::rendezvous(weights, |at| endpoints[at].id, key),
            };
            let Some(at) = chosen else { break };
            if let Some(seat) = endpoints[at].take() {
                tried.note(at);
                return Ok(seat);
            }
            is_busy = true;
            weights[at] = 0;
        }
        if is_busy {
            return Err(Nowhere::Busy);
        }
        // All are out. Failures alone must not keep a server out for longer than need be.
        for (at, endpoint) in endpoints.iter().enumerate().filter(|(at, _)| !tried.has(*at)) {
            if let Some(seat) = endpoint.take_probe(now(), true) {
                tried.note(at);
                return Ok(seat);
            }
        }
        Err(Nowhere::Down)
    }

    /// The turn of an exchange, the same for all its tries.
    fn turn(&self, tried: &mut Tried) -> usize {
        *tried.turn.get_or_insert_with(|| self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// How long neither side of a `WebSocket` may send anything.
    pub(crate) fn websocket_pause(&self) -> Duration {
        self.websocket_pause
    }

    /// Whether there is a server that was not tried.
    pub(crate) fn has_others(&self, tried: Tried) -> bool {
        let known = self.field.load().endpoints.len();
        (0..known).any(|at| !tried.has(at))
    }

    /// Whether a request may be sent once more, and pays for it.
    pub(crate) fn may_retry(&self) -> bool {
        let may = self.shared.budget.take();
        if may {
            self.metrics.retries.inc();
        }
        may
    }

    /// Brings the gauges up to date.
    pub(crate) fn measure(&self) {
        let field = self.field.load();
        for (number, metrics) in self.metrics.servers.iter().enumerate() {
            let (mut up, mut under_way) = (0, 0);
            for endpoint in field.endpoints.iter().filter(|endpoint| endpoint.server == number) {
                up += i64::from(endpoint.state.health(|health| health.is_up()));
                under_way += i64::try_from(endpoint.state.under_way()).unwrap_or(i64::MAX);
            }
            metrics.up.set(up);
            metrics.under_way.set(under_way);
        }
    }
}

impl Tried {
    fn has(self, at: usize) -> bool {
        self.endpoints & (1 << at) != 0
    }

    fn note(&mut self, at: usize) {
        self.endpoints |= 1 << at;
    }

    /// What was tried may be tried again: it was the connection that was at fault, not the server.
    pub(crate) fn forget(&mut self) {
        self.endpoints = 0;
    }
}

/// The address of a server whose file names one.
fn literal(place: &Place) -> Option<SocketAddr> {
    match place {
        Place::Net { host, port, .. } => {
            let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
            Some(SocketAddr::new(address, *port))
        }
        Place::Unix(_) => None,
    }
}

/// What connections of an upstream have in common beside address and name. pingora's pool tells neither authorities nor keys
/// apart: a connection that was made before a reload changed them must not be used after it.
fn group(settings: &UpstreamSettings) -> u64 {
    let UpstreamSettings { name, timeouts, tls, .. } = settings;
    let mut hasher = SipHasher24::new();
    (name, timeouts, &tls.server_name, tls.http2).hash(&mut hasher);
    for authority in tls.authorities.iter().flat_map(|authorities| authorities.iter()) {
        authority.borrow_raw_cert().hash(&mut hasher);
    }
    tls.authorities.is_some().hash(&mut hasher);
    if let Some(client) = &tls.client {
        client.leaf().borrow_raw_cert().hash(&mut hasher);
        client.key().hash(&mut hasher);
    }
    hasher.finish()
}

fn options(timeouts: UpstreamTimeouts) -> PeerOptions {
    let mut options = PeerOptions::new();
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(timeouts.read);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(timeouts.idle);
    options.max_h2_streams = STREAMS_MAX;
    options
}
