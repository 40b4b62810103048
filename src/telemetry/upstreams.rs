//! Counters and gauges of upstreams and their servers. Their labels come from the file alone.

use super::metrics::{labelled_gauges, several};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::collections::BTreeSet;

/// What became of a request at one server, as a label; and the word in the access line where it is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Delivery {
    /// It was answered, whatever the status.
    Answered,
    /// The server does not take connections.
    ConnectRefused,
    /// A connection was not opened in time, TLS included.
    ConnectTimeout,
    /// A connection could not be opened.
    Connect,
    /// The TLS handshake failed: above all, the certificate is not the right one.
    Tls,
    /// No byte of the answer for too long.
    ReadTimeout,
    /// The server does not take the request's bytes.
    WriteTimeout,
    /// The connection ended before the answer did.
    Reset,
    /// What came is no answer.
    BadAnswer,
    /// Something else went wrong on the way.
    Other,
    /// The visitor went, or we gave up.
    Dropped,
}

const DELIVERIES: [(Delivery, &str); 11] = [
    (Delivery::Answered, "answered"),
    (Delivery::ConnectRefused, "connect_refused"),
    (Delivery::ConnectTimeout, "connect_timeout"),
    (Delivery::Connect, "connect"),
    (Delivery::Tls, "tls"),
    (Delivery::ReadTimeout, "read_timeout"),
    (Delivery::WriteTimeout, "write_timeout"),
    (Delivery::Reset, "reset"),
    (Delivery::BadAnswer, "bad_answer"),
    (Delivery::Other, "upstream"),
    (Delivery::Dropped, "dropped"),
];

impl Delivery {
    /// The word in the access line, as in the label.
    pub fn as_str(self) -> &'static str {
        DELIVERIES[self as usize].1
    }
}

/// What is counted of one server, as the file names it.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    deliveries: [IntCounter; DELIVERIES.len()],
    /// How many of its addresses take requests; set before the registry is rendered.
    pub up: IntGauge,
    /// Requests under way there; set before the registry is rendered.
    pub under_way: IntGauge,
}

impl ServerMetrics {
    /// Counts what became of a request.
    pub fn delivered(&self, delivery: Delivery) {
        self.deliveries[delivery as usize].inc();
    }
}

/// What is counted of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// Requests that were sent to another server, or once more.
    pub retries: IntCounter,
    /// Its servers, in file order.
    pub servers: Vec<ServerMetrics>,
}

/// The series of all upstreams.
pub(super) struct Upstreams {
    requests: IntCounterVec,
    retries: IntCounterVec,
    up: IntGaugeVec,
    under_way: IntGaugeVec,
    /// Upstreams and servers whose series exist.
    known: Mutex<BTreeSet<(String, String)>>,
}

impl Upstreams {
    pub(super) fn new(registry: &Registry) -> Self {
        let of_server = ["upstream", "server"];
        Self {
            requests: several(
                registry,
                "upstream_requests_total",
                "Requests by server and by what became of them there",
                &["upstream", "server", "outcome"],
            ),
            retries: several(
                registry,
                "upstream_retries_total",
                "Requests that were sent to another server, or once more",
                &["upstream"],
            ),
            up: labelled_gauges(
                registry,
                "upstream_server_up",
                "Addresses of a server that take requests; 0: it is down",
                &of_server,
            ),
            under_way: labelled_gauges(
                registry,
                "upstream_requests_in_flight",
                "Requests under way at a server",
                &of_server,
            ),
            known: Mutex::default(),
        }
    }

    /// Resolves the series of a configuration, in file order, and forgets those of servers that are gone.
    pub(super) fn resolve(&self, names: &[(String, Vec<String>)]) -> Vec<UpstreamMetrics> {
        let pairs = names
            .iter()
            .flat_map(|(name, servers)| servers.iter().map(move |server| (name.clone(), server.clone())));
        let pairs: BTreeSet<(String, String)> = pairs.collect();
        let kept = |upstream: &str| names.iter().any(|(name, _)| name == upstream);
        let mut known = self.known.lock();
        for (upstream, server) in known.difference(&pairs) {
            // Each fails only where the series was never made, and each was.
            for (_, outcome) in DELIVERIES {
                drop(self.requests.remove_label_values(&[upstream, server, outcome]));
            }
            drop(self.up.remove_label_values(&[upstream, server]));
            drop(self.under_way.remove_label_values(&[upstream, server]));
            if !kept(upstream) {
                drop(self.retries.remove_label_values(&[upstream]));
            }
        }
        *known = pairs;
        let metrics = names.iter().map(|(name, servers)| UpstreamMetrics {
            retries: self.retries.with_label_values(&[name.as_str()]),
            servers: servers.iter().map(|server| self.server(name, server)).collect(),
        });
        metrics.collect()
    }

    fn server(&self, upstream: &str, server: &str) -> ServerMetrics {
        ServerMetrics {
            deliveries: DELIVERIES
                .map(|(_, outcome)| self.requests.with_label_values(&[upstream, server, outcome])),
            up: self.up.with_label_values(&[upstream, server]),
            under_way: self.under_way.with_label_values(&[upstream, server]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn every_delivery_stands_at_its_own_place() {
        for (place, (delivery, _)) in DELIVERIES.iter().enumerate() {
            assert_eq!(*delivery as usize, place, "{delivery:?}");
        }
    }

    #[test]
    fn a_reload_keeps_the_counts_of_servers_that_stay_and_forgets_the_others() {
        let metrics = Metrics::new();
        let file =
            |servers: &[&str]| [("wiki".to_owned(), servers.iter().map(|s| (*s).to_owned()).collect())];
        let before = metrics.upstreams(&file(&["a", "b"]));
        before[0].servers[0].delivered(Delivery::Tls);
        before[0].servers[1].delivered(Delivery::Answered);
        let after = metrics.upstreams(&file(&["c", "a"]));
        after[0].servers[1].delivered(Delivery::Tls);
        let text = metrics.render();
        let tls = "vestibule_upstream_requests_total{outcome=\"tls\",server=\"a\",upstream=\"wiki\"} 2";
        assert!(text.contains(tls), "{text}");
        assert!(!text.contains("server=\"b\""), "{text}");
        metrics.upstreams(&[]);
        assert!(!metrics.render().contains("upstream=\"wiki\""));
    }
}
