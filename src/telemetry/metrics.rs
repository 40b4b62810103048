//! The registry of counters, and its text for Prometheus.
//!
//! A label's value comes from the configuration or from a word in this code, never from a request: a client
//! cannot make a series. What a request counts is resolved beforehand into an array, so that it costs one atomic
//! addition. Names follow Prometheus' practice: base units, `_total` on counters.

use crate::domain::session::End;
use crate::domain::time::Timestamp;
use crate::telemetry::issuers::{AskSeries, Issuers, KeySeries};
use crate::telemetry::revocations::RevocationMetrics;
use crate::telemetry::upstreams::{UpstreamMetrics, Upstreams};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::collections::BTreeSet;

/// What was decided about an exchange, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// Passed on a public route.
    Public,
    /// Passed with an identity.
    Admitted,
    /// Passed without one where the route says `optional`.
    Anonymous,
    /// Answered by a path of our own.
    Own,
    /// Sent to sign in.
    SignIn,
    /// 401.
    Unauthenticated,
    /// 403.
    Forbidden,
    /// Refused for its form: host, path or method.
    Refused,
    /// 413, before or while the body came.
    TooLarge,
    /// 429.
    TooMany,
    /// 503: we could not say.
    Unavailable,
    /// Passed, and was cut: its session ended, or a newer configuration refuses it.
    Cut,
}

const OUTCOMES: [(Outcome, &str); 12] = [
    (Outcome::Public, "public"),
    (Outcome::Admitted, "admitted"),
    (Outcome::Anonymous, "anonymous"),
    (Outcome::Own, "own"),
    (Outcome::SignIn, "sign_in"),
    (Outcome::Unauthenticated, "unauthenticated"),
    (Outcome::Forbidden, "forbidden"),
    (Outcome::Refused, "refused"),
    (Outcome::TooLarge, "too_large"),
    (Outcome::TooMany, "too_many"),
    (Outcome::Unavailable, "unavailable"),
    (Outcome::Cut, "cut"),
];

impl Outcome {
    /// The word in the access line, as in the label.
    pub fn as_str(self) -> &'static str {
        OUTCOMES[self as usize].1
    }
}

/// Counters of decisions by route and outcome, resolved for one configuration.
pub struct RouteMetrics {
    /// The last row counts exchanges that fell on no route.
    rows: Box<[[IntCounter; OUTCOMES.len()]]>,
}

impl RouteMetrics {
    /// Counts one decision; `route` is the route's number in the file, or none.
    pub fn decided(&self, route: Option<usize>, outcome: Outcome) {
        let none = self.rows.len() - 1;
        self.rows[route.map_or(none, |route| route.min(none))][outcome as usize].inc();
    }
}

/// Every counter of the process. One value, made at the start and kept over reloads.
pub struct Metrics {
    registry: Registry,
    /// Live sessions; set before [`Metrics::render`].
    pub sessions_live: IntGauge,
    /// How many may live.
    pub sessions_capacity: IntGauge,
    sessions_started: IntCounterVec,
    sessions_ended: IntCounterVec,
    /// Sign-ins that a full table refused.
    pub sessions_refused: IntCounter,
    session_patches: IntCounterVec,
    upstream_ignored: IntCounterVec,
    sign_in_failures: IntCounterVec,
    decisions: IntCounterVec,
    /// Names of the routes whose series exist.
    route_names: Mutex<Vec<String>>,
    /// From a credential to its session or believed token, in seconds.
    pub look_up_seconds: Histogram,
    /// From choosing a server to the end of its answer's head, in seconds.
    pub upstream_seconds: Histogram,
    upstreams: Upstreams,
    issuers: Issuers,
    exchanges: [IntCounter; STATUS_CLASSES.len()],
    refused_heads: IntCounterVec,
    failed_handshakes: IntCounterVec,
    refused_connections: IntCounterVec,
    certificate_ends: IntGaugeVec,
    exchanges_cut: IntCounterVec,
    /// Exchanges between their head and their end.
    pub exchanges_in_flight: IntGauge,
    /// Open downstream connections.
    pub connections: IntGauge,
    config_generation: IntGauge,
    config_in_force_since: Gauge,
    config_rejected_since: Gauge,
    pub(super) log_lines_dropped: IntCounterVec,
    /// Passwords that wait to be hashed.
    pub password_queue: IntGauge,
    /// Revocations of bearer tokens.
    pub revocations: RevocationMetrics,
    /// 1 while the session store can be written, or where memory is all there is.
    pub store_up: IntGauge,
    /// Changes that are in force and not durable yet; set before [`Metrics::render`].
    pub store_backlog: IntGauge,
}

const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// A look-up takes a microsecond or less; longer ones are worth seeing.
const LOOK_UP_BUCKETS: [f64; 8] = [2.5e-7, 5e-7, 1e-6, 2.5e-6, 1e-5, 1e-4, 1e-3, 1e-2];
/// Applications answer within milliseconds to seconds.
const UPSTREAM_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

impl Metrics {
    /// A registry of its own, with every series at zero.
    pub fn new() -> Self {
        let r = Registry::new();
        let help = "Exchanges by class of their status; none: dropped unanswered";
        let exchanges = counters(&r, "exchanges_total", help, "class");
        let build_info = gauges(&r, "build_info", "Always 1; the version is the label", "version");
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            sessions_live: gauge(&r, "sessions_live", "Live sessions"),
            sessions_capacity: gauge(&r, "sessions_capacity", "How many sessions may live"),
            sessions_started: counters(
                &r,
                "sessions_started_total",
                "Sessions opened, by way of signing in",
                "sign_in",
            ),
            sessions_ended: counters(&r, "sessions_ended_total", "Sessions ended, by what", "reason"),
            sessions_refused: counter(&r, "sessions_refused_total", "Sign-ins refused by a full table"),
            upstream_ignored: counters(&r, "upstream_ignored_total", "Sign-ins that were ignored", "reason"),
            session_patches: counters(
                &r,
                "session_patches_total",
                "Patches of session data: stored, opened (with a session for it), or why not",
                "result",
            ),
            sign_in_failures: counters(&r, "sign_in_failures_total", "Refused sign-ins, by why", "reason"),
            decisions: several(
                &r,
                "decisions_total",
                "Decisions by route and outcome",
                &["route", "outcome"],
            ),
            route_names: Mutex::new(Vec::new()),
            look_up_seconds: histogram(
                &r,
                "look_up_seconds",
                "From a credential to its session",
                &LOOK_UP_BUCKETS,
            ),
            upstream_seconds: histogram(
                &r,
                "upstream_seconds",
                "From choosing a server to the end of its answer's head",
                &UPSTREAM_BUCKETS,
            ),
            upstreams: Upstreams::new(&r),
            issuers: Issuers::new(&r),
            exchanges: STATUS_CLASSES.map(|class| exchanges.with_label_values(&[class])),
            refused_heads: counters(
                &r,
                "refused_heads_total",
                "Requests refused while their head was read, by why",
                "reason",
            ),
            failed_handshakes: counters(&r, "tls_handshakes_failed_total", "Failed handshakes", "reason"),
            certificate_ends: gauges(&r, "tls_certificate_ends_seconds", "Its last instant", "certificate"),
            refused_connections: counters(
                &r,
                "refused_connections_total",
                "Connections closed before their first request, by why",
                "reason",
            ),
            exchanges_cut: counters(
                &r,
                "exchanges_cut_total",
                "Exchanges cut because their session ended or a reload refused them, by why",
                "reason",
            ),
            exchanges_in_flight: gauge(&r, "exchanges_in_flight", "Exchanges between head and end"),
            connections: gauge(&r, "connections", "Open downstream connections"),
            config_generation: gauge(&r, "config_generation", "Counts the configurations that were in force"),
            config_in_force_since: float(
                &r,
                "config_in_force_since_seconds",
                "Unix time since when the configuration is in force",
            ),
            config_rejected_since: float(
                &r,
                "config_rejected_since_seconds",
                "Unix time since when a newer file is refused; 0: the file is in force",
            ),
            log_lines_dropped: counters(&r, "log_lines_dropped_total", "Log lines lost, by log", "log"),
            password_queue: gauge(&r, "password_queue", "Passwords that wait to be hashed"),
            revocations: RevocationMetrics::new(&r),
            store_up: gauge(
                &r,
                "store_up",
                "1: the session store can be written, or sessions live in memory alone",
            ),
            store_backlog: gauge(
                &r,
                "store_backlog",
                "Changes of sessions that are in force and not durable yet",
            ),
            registry: r,
        };
        metrics.make_series();
        metrics
    }

    /// Series that alarms watch exist before their first event.
    fn make_series(&self) {
        self.store_up.set(1);
        for end in [End::SignOut, End::Idle, End::Lifetime, End::Revoked, End::Credential, End::Superseded] {
            self.sessions_ended.with_label_values(&[end.as_str()]);
        }
    }

    /// Counts a session that was opened; `sign_in` is the entry's name in the file.
    pub fn session_started(&self, sign_in: &str) {
        self.sessions_started.with_label_values(&[sign_in]).inc();
    }

    /// Counts sessions that ended.
    pub fn sessions_ended(&self, end: End, count: u64) {
        self.sessions_ended.with_label_values(&[end.as_str()]).inc_by(count);
    }

    /// Counts a patch of session data; `result` is a word of this code.
    pub fn session_patch(&self, result: &'static str) {
        self.session_patches.with_label_values(&[result]).inc();
    }

    /// Counts what an application said of a sign-in or sign-out in vain.
    pub fn upstream_ignored(&self, reason: &'static str) {
        self.upstream_ignored.with_label_values(&[reason]).inc();
    }

    /// Counts a refused sign-in.
    pub fn sign_in_failed(&self, reason: &'static str) {
        self.sign_in_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a head that was refused before it became an exchange.
    pub fn head_refused(&self, reason: &'static str) {
        self.refused_heads.with_label_values(&[reason]).inc();
    }

    /// Counts a connection on which TLS could not be settled.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.failed_handshakes.with_label_values(&[reason]).inc();
    }

    /// Counts a connection that was closed before its first request; `reason` is a word of this code.
    pub fn connection_refused(&self, reason: &'static str) {
        self.refused_connections.with_label_values(&[reason]).inc();
    }

    /// The certificates that are in force, by file, each with its last instant.
    pub fn certificates<'a>(&self, listed: impl IntoIterator<Item = (&'a str, Timestamp)>) {
        self.certificate_ends.reset();
        for (file, ends_at) in listed {
            let ends_at = i64::try_from(ends_at.as_secs()).unwrap_or(i64::MAX);
            self.certificate_ends.with_label_values(&[file]).set(ends_at);
        }
    }

    /// Counts a finished exchange; `None`: dropped before an answer.
    pub fn exchange_done(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or(0) / 100);
        self.exchanges[class.min(STATUS_CLASSES.len() - 1)].inc();
    }

    /// Counts an exchange that was cut: by what its session ended, or why a newer configuration refuses it.
    pub fn exchange_cut(&self, reason: &'static str) {
        self.exchanges_cut.with_label_values(&[reason]).inc();
    }

    /// Resolves the counters of a configuration's routes, in file order, and forgets those of routes that are gone.
    pub fn routes<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> RouteMetrics {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let kept: BTreeSet<&String> = names.iter().collect();
        let mut known = self.route_names.lock();
        for gone in known.iter().filter(|name| !kept.contains(name)) {
            for (_, outcome) in OUTCOMES {
                // Fails only where the series was never made, and each was.
                drop(self.decisions.remove_label_values(&[gone, outcome]));
            }
        }
        let row =
            |route: &str| OUTCOMES.map(|(_, outcome)| self.decisions.with_label_values(&[route, outcome]));
        let rows = names.iter().map(String::as_str).chain([""]).map(row).collect();
        *known = names;
        RouteMetrics { rows }
    }

    /// Resolves the series of a configuration's upstreams, each with its servers, in file order, and forgets those of servers
    /// that are gone.
    pub fn upstreams(&self, names: &[(String, Vec<String>)]) -> Vec<UpstreamMetrics> {
        self.upstreams.resolve(names)
    }

    /// Forgets what was counted of entries of `tokens` that are not among these.
    pub fn keep_issuers(&self, names: &[&str]) {
        self.issuers.keep(names);
    }

    /// The series of an entry with published keys.
    pub fn key_series(&self, entry: &str) -> KeySeries {
        self.issuers.keys(entry)
    }

    /// The series of an entry that asks about single tokens.
    pub fn ask_series(&self, entry: &str) -> AskSeries {
        self.issuers.asks(entry)
    }

    /// A configuration came into force.
    pub fn config_loaded(&self, generation: u64, at: Timestamp) {
        self.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.config_in_force_since.set(at.as_secs() as f64);
        self.config_rejected_since.set(0.0);
    }

    /// A newer file was refused; the first refusal's instant stays.
    pub fn config_rejected(&self, at: Timestamp) {
        if self.config_rejected_since.get() == 0.0 {
            self.config_rejected_since.set(at.as_secs() as f64);
        }
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("names and labels were checked when made")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels in this file are plain words");
    registry.register(Box::new(collector.clone())).expect("each name stands in this file once");
    collector
}

fn name(short: &str) -> String {
    format!("vestibule_{short}")
}

pub(super) fn counter(registry: &Registry, short: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name(short), help))
}

fn counters(registry: &Registry, short: &str, help: &str, label: &str) -> IntCounterVec {
    several(registry, short, help, &[label])
}

pub(super) fn several(registry: &Registry, short: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name(short), help), labels))
}

pub(super) fn gauge(registry: &Registry, short: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name(short), help))
}

fn gauges(registry: &Registry, short: &str, help: &str, label: &str) -> IntGaugeVec {
    labelled_gauges(registry, short, help, &[label])
}

pub(super) fn labelled_gauges(registry: &Registry, short: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name(short), help), labels))
}

pub(super) fn floats(registry: &Registry, short: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name(short), help), labels))
}

fn float(registry: &Registry, short: &str, help: &str) -> Gauge {
    register(registry, Gauge::new(name(short), help))
}

fn histogram(registry: &Registry, short: &str, help: &str, buckets: &[f64]) -> Histogram {
    register(registry, Histogram::with_opts(HistogramOpts::new(name(short), help).buckets(buckets.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|seen| seen == line)
    }

    #[test]
    fn every_outcome_stands_at_its_own_place() {
        for (place, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, place, "{outcome:?}");
        }
    }

    #[test]
    fn decisions_are_counted_by_route_and_outcome() {
        let metrics = Metrics::new();
        let routes = metrics.routes(["wiki", "health"]);
        routes.decided(Some(0), Outcome::Admitted);
        routes.decided(Some(0), Outcome::Admitted);
        routes.decided(Some(1), Outcome::Public);
        routes.decided(None, Outcome::Refused);
        for line in [
            "vestibule_decisions_total{outcome=\"admitted\",route=\"wiki\"} 2",
            "vestibule_decisions_total{outcome=\"public\",route=\"health\"} 1",
            "vestibule_decisions_total{outcome=\"refused\",route=\"\"} 1",
            "vestibule_decisions_total{outcome=\"forbidden\",route=\"wiki\"} 0",
        ] {
            assert!(has(&metrics, line), "{line}\n{}", metrics.render());
        }
    }

    #[test]
    fn a_reload_keeps_the_counts_of_routes_that_stay_and_forgets_the_others() {
        let metrics = Metrics::new();
        let before = metrics.routes(["wiki", "old"]);
        before.decided(Some(0), Outcome::Admitted);
        let after = metrics.routes(["new", "wiki"]);
        after.decided(Some(1), Outcome::Admitted);
        assert!(has(&metrics, "vestibule_decisions_total{outcome=\"admitted\",route=\"wiki\"} 2"));
        assert!(!metrics.render().contains("route=\"old\""));
        before.decided(Some(1), Outcome::Admitted); // an exchange that began before the reload
    }

    #[test]
    fn a_refused_file_shows_since_when_until_one_is_in_force() {
        let metrics = Metrics::new();
        metrics.config_loaded(1, Timestamp::from_secs(10));
        metrics.config_rejected(Timestamp::from_secs(20));
        metrics.config_rejected(Timestamp::from_secs(30));
        assert!(has(&metrics, "vestibule_config_rejected_since_seconds 20"));
        assert!(has(&metrics, "vestibule_config_in_force_since_seconds 10"));
        metrics.config_loaded(2, Timestamp::from_secs(40));
        assert!(has(&metrics, "vestibule_config_rejected_since_seconds 0"));
        assert!(has(&metrics, "vestibule_config_generation 2"));
    }

    #[test]
    fn exchanges_are_counted_by_class() {
        let metrics = Metrics::new();
        for status in [Some(200), Some(204), Some(503), Some(999), None] {
            metrics.exchange_done(status);
        }
        for line in [
            "vestibule_exchanges_total{class=\"2xx\"} 2",
            "vestibule_exchanges_total{class=\"5xx\"} 2",
            "vestibule_exchanges_total{class=\"none\"} 1",
        ] {
            assert!(has(&metrics, line), "{line}");
        }
    }

    #[test]
    fn what_alarms_watch_is_there_from_the_start() {
        let metrics = Metrics::new();
        metrics.session_started("local");
        metrics.sessions_ended(End::Idle, 3);
        for line in [
            "vestibule_sessions_started_total{sign_in=\"local\"} 1",
            "vestibule_sessions_ended_total{reason=\"idle\"} 3",
            "vestibule_sessions_ended_total{reason=\"revoked\"} 0",
            "vestibule_sessions_refused_total 0",
        ] {
            assert!(has(&metrics, line), "{line}");
        }
    }
}
