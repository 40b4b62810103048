//! One address of one server: how it is, what is under way there, and the seat that a request takes.

use super::budget::Budget;
use super::health::{Change, Health, PAUSE_FIRST, Standing};
use crate::telemetry::upstreams::{Delivery, ServerMetrics};
use parking_lot::Mutex;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What outlives configurations: two files that name the same address of the same server of an upstream share it.
#[derive(Debug)]
pub(super) struct State {
    under_way: AtomicUsize,
    /// Nothing speaks against it: its health need not be asked.
    is_settled: AtomicBool,
    health: Mutex<Health>,
}

impl Default for State {
    fn default() -> Self {
        Self { under_way: AtomicUsize::new(0), is_settled: AtomicBool::new(true), health: Mutex::default() }
    }
}

impl State {
    /// Reads or changes the health, and notes whether there is anything left to ask.
    pub(super) fn health<T>(&self, look: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.health.lock();
        let seen = look(&mut health);
        self.is_settled.store(health.is_settled(), Ordering::Relaxed);
        seen
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

/// One address that requests may go to.
pub(super) struct Endpoint {
    /// Number of the server in the file.
    pub(super) server: usize,
    /// What the log calls it.
    pub(super) name: String,
    /// What tells it from others, whatever their number and order.
    pub(super) id: u64,
    pub(super) weight: u16,
    /// How to connect; cloned for each request.
    pub(super) peer: HttpPeer,
    pub(super) state: Arc<State>,
    pub(super) metrics: ServerMetrics,
    pub(super) shared: Arc<Shared>,
}

/// What all endpoints of an upstream share.
pub(super) struct Shared {
    /// The upstream's name.
    pub(super) upstream: String,
    /// The most requests under way at one endpoint.
    pub(super) max_requests: usize,
    pub(super) slow_start: Duration,
    pub(super) budget: Arc<Budget>,
}

impl Endpoint {
    pub(super) fn is_settled(&self) -> bool {
        self.state.is_settled.load(Ordering::Relaxed)
    }

    /// What may be sent there; `now` is asked for only where it matters.
    pub(super) fn standing(&self, now: impl FnOnce() -> Duration) -> Standing {
        if self.is_settled() {
            return Standing::Share(super::health::FULL);
        }
        let now = now();
        self.state.health(|health| health.standing(now, self.shared.slow_start))
    }

    /// Takes a place for a request, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let before = self.state.under_way.fetch_add(1, Ordering::Relaxed);
        if before >= self.shared.max_requests {
            self.state.under_way.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Seat { endpoint: self.clone(), is_counted: false })
    }

    /// Takes the place of the one request that finds out whether a server is back; `early` where there is no other.
    pub(super) fn take_probe(self: &Arc<Self>, now: Duration, early: bool) -> Option<Seat> {
        let wait = if early { PAUSE_FIRST } else { Duration::MAX };
        if self.state.health(|health| health.take_probe(now, wait)) { self.take() } else { None }
    }

    /// Says in the log that the server went or came back.
    pub(super) fn tell(&self, change: Option<Change>, cause: &str) {
        let (upstream, server) = (&self.shared.upstream, &self.name);
        match change {
            Some(Change::Down) => {
                tracing::warn!(upstream = %upstream, server = %server, cause, "an upstream server is down");
            }
            Some(Change::Up) => {
                tracing::info!(upstream = %upstream, server = %server, "an upstream server is up again");
            }
            None => {}
        }
    }
}

/// A request's place at a server, from the choice to the end of the exchange.
pub(crate) struct Seat {
    endpoint: Arc<Endpoint>,
    is_counted: bool,
}

impl Seat {
    /// How to connect. Boxed, as pingora wants it: it is large.
    pub(crate) fn peer(&self) -> Box<HttpPeer> {
        Box::new(self.endpoint.peer.clone())
    }

    /// A new connection is there: the server takes them. `now` is asked for only where it matters.
    pub(crate) fn connected(&self, now: impl FnOnce() -> Duration) {
        if !self.endpoint.is_settled() {
            let now = now();
            let change = self.endpoint.state.health(|health| health.succeeded(now));
            self.endpoint.tell(change, "");
        }
    }

    /// The head of an answer is here; later ones say nothing new.
    pub(crate) fn answered(&mut self, now: impl FnOnce() -> Duration) {
        if !self.is_counted {
            self.count(Delivery::Answered);
            self.endpoint.shared.budget.answered();
            // It may have come over an old connection.
            self.connected(now);
        }
    }

    /// The server took no connection; `cause` is for the log.
    pub(crate) fn not_connected(&mut self, delivery: Delivery, now: Duration, cause: &dyn std::fmt::Display) {
        self.count(delivery);
        let change = self.endpoint.state.health(|health| health.failed(now));
        if change.is_some() {
            self.endpoint.tell(change, &cause.to_string());
        } else if delivery == Delivery::Tls {
            // What mostly is a mistake in a file, here or there, and says nothing to the visitor.
            let Endpoint { shared, name, .. } = &*self.endpoint;
            tracing::warn!(upstream = %shared.upstream, server = %name, %cause, "TLS to an upstream server failed");
        }
    }

    /// The exchange failed after that.
    pub(crate) fn broke_off(&mut self, delivery: Delivery) {
        if !self.is_counted {
            self.count(delivery);
        }
    }

    fn count(&mut self, delivery: Delivery) {
        self.is_counted = true;
        self.endpoint.metrics.delivered(delivery);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.endpoint.state.under_way.fetch_sub(1, Ordering::Relaxed);
        if !self.is_counted {
            self.count(Delivery::Dropped);
        }
    }
}
