//! What an exchange came to: one access line and a few counters, however it ended.
//!
//! A [`Record`] gathers as the exchange goes and speaks when it is dropped. So a visitor who leaves half-way, and a future
//! that is cut, leave the same trace as a request that was served.

use crate::domain::access::Access;
use crate::domain::decision::{Credential, Rejection};
use crate::domain::identity;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use crate::net::connection::{Link, Refusal, RefusedHeads};
use crate::net::streams::Cut;
use crate::proxy::parts::Parts;
use crate::proxy::respond;
use crate::proxy::snapshot::Snapshot;
use crate::telemetry::AccessLine;
use crate::telemetry::metrics::Outcome;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One exchange in sixteen has its look-up timed: often enough for a histogram, and the others pay nothing.
const SAMPLE: u8 = 0x0F;

/// The head's parts that the access line names; kept only where that log is on.
struct Head {
    method: http::Method,
    host: Option<HeaderValue>,
    path: String,
    version: http::Version,
    user_agent: Option<HeaderValue>,
}

/// Gathers what the access line and the counters say about one exchange.
pub(crate) struct Record {
    parts: Arc<Parts>,
    snapshot: Arc<Snapshot>,
    began: Timestamp,
    /// `X-Request-Id`: 128 random bits in hex.
    pub(crate) request_id: HeaderValue,
    listener: usize,
    tls: Option<&'static str>,
    client: Option<IpAddr>,
    head: Option<Head>,
    /// The head is in normal form; before that nothing of it is told but its method.
    pub(crate) canonical: bool,
    /// None until the decision: the exchange was cut before.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) route: Option<usize>,
    reason: Option<&'static str>,
    detail: Option<String>,
    credential: Option<Credential>,
    status: Option<u16>,
    bytes: (u64, u64),
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) upstream_began: Option<Duration>,
    upstream_time: Option<Duration>,
    broken: bool,
}

impl Record {
    pub(crate) fn new(
        parts: Arc<Parts>,
        snapshot: Arc<Snapshot>,
        began: Timestamp,
        request_id: HeaderValue,
    ) -> Self {
        parts.metrics.exchanges_in_flight.inc();
        Self {
            parts,
            snapshot,
            began,
            request_id,
            listener: 0,
            tls: None,
            client: None,
            head: None,
            canonical: false,
            outcome: None,
            route: None,
            reason: None,
            detail: None,
            credential: None,
            status: None,
            bytes: (0, 0),
            upstream: None,
            upstream_began: None,
            upstream_time: None,
            broken: false,
        }
    }

    pub(crate) fn begin(&mut self, link: &Link, client: IpAddr) {
        self.listener = link.listener();
        self.tls = link.secured().map(|secured| secured.version);
        self.client = link.peer().map(|_| client);
    }

    /// Whether this exchange is one of those whose look-up is timed.
    pub(crate) fn is_sampled(&self) -> bool {
        // The last hex digit of a random id: uniform, and known without asking anybody.
        self.request_id.as_bytes().last().is_some_and(|digit| digit & SAMPLE == 0)
    }

    pub(crate) fn read_head(&mut self, head: &RequestHeader) {
        // Where it was asked about another request, that one is told.
        if self.head.is_none() && self.parts.logs.access_is_on() {
            self.head = Some(Head {
                method: head.method.clone(),
                host: head.headers.get(HOST).cloned(),
                path: head.uri.path().to_owned(),
                version: head.version,
                user_agent: head.headers.get(USER_AGENT).cloned(),
            });
        }
    }

    pub(crate) fn identify(&mut self, credential: &Credential) {
        self.credential = Some(credential.clone());
    }

    /// Whom a session names, once the request has proved one: plain text.
    pub(crate) fn session_subject(&self) -> Option<String> {
        let session = self.credential.as_ref()?.session()?;
        Some(identity::decode(session.identity().subject()))
    }

    pub(crate) fn reject(&mut self, rejection: &Rejection) {
        self.reason = Some(rejection.reason());
        self.outcome = Some(match rejection {
            Rejection::Unauthenticated(_) | Rejection::BadBearer(_) | Rejection::StaleToken(_) => {
                Outcome::Unauthenticated
            }
            Rejection::Forbidden
            | Rejection::Scope(_)
            | Rejection::ClientAddress
            | Rejection::Foreign
            | Rejection::BadForm(_)
            | Rejection::SubjectFull => Outcome::Forbidden,
            Rejection::TooLarge => Outcome::TooLarge,
            Rejection::TooMany(_) => Outcome::TooMany,
            Rejection::SessionsFull | Rejection::StoreUnavailable | Rejection::Unjudged(_) => {
                Outcome::Unavailable
            }
            // The decision was to pass; that the upstream failed stands in the reason and the status.
            Rejection::NoServer(_)
            | Rejection::Upstream(_)
            | Rejection::UpstreamLate(_)
            | Rejection::Internal(_) => self.outcome.unwrap_or(Outcome::Refused),
            _ => Outcome::Refused,
        });
    }

    /// What exactly was wrong with the token, once it is refused; reckoned only where somebody reads it.
    pub(crate) fn detail(&mut self, rejection: &Rejection, head: &RequestHeader) {
        let Rejection::BadBearer(reason) = rejection else { return };
        if let Some(Access::Protected(protected)) = self.route.map(|route| &self.snapshot.route[route].access)
            && let Some(field) = head.headers.get(AUTHORIZATION)
            && self.parts.logs.access_is_on()
        {
            let wall = self.parts.clock.wall();
            self.detail = self.snapshot.bearer.detail(field.as_bytes(), &protected.tokens, reason, wall);
        }
    }

    /// The visitor took nothing of the answer for too long.
    pub(crate) fn stall(&mut self) {
        self.reason = Some("write_timeout");
    }

    /// The head of the upstream's answer is here.
    pub(crate) fn answered(&mut self) {
        if let Some(began) = self.upstream_began.take() {
            let span = self.parts.clock.ticks().saturating_sub(began);
            self.parts.metrics.upstream_seconds.observe(span.as_secs_f64());
            self.upstream_time = Some(span);
        }
    }

    /// The head of an answer goes to the visitor; interim ones count too, until the last.
    pub(crate) fn answering(&mut self, status: http::StatusCode) {
        self.status = Some(status.as_u16());
    }

    /// So much more of the upstream's answer goes to the visitor.
    pub(crate) fn passed(&mut self, bytes: usize) {
        self.bytes.1 += bytes as u64;
    }

    /// The exchange was cut; `bytes_in` came from the visitor. Tells whether an answer had begun.
    pub(crate) fn cut(&mut self, cut: Cut, bytes_in: u64) -> bool {
        self.parts.metrics.exchange_cut(cut.reason());
        self.outcome = Some(Outcome::Cut);
        self.reason = Some(cut.reason());
        self.bytes.0 = bytes_in;
        let answered = self.status.is_some_and(|status| status >= 200 || status == 101);
        if !answered {
            self.status = Some(if cut == Cut::Late { 408 } else { 401 });
        }
        answered
    }

    pub(crate) fn finish(&mut self, status: Option<u16>, bytes_in: usize, bytes_out: usize, broken: bool) {
        self.status = status;
        self.bytes = (bytes_in as u64, bytes_out as u64);
        self.broken = broken;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self { parts, snapshot, .. } = &*self;
        parts.metrics.exchanges_in_flight.dec();
        parts.metrics.exchange_done(self.status);
        if let Some(outcome) = self.outcome {
            snapshot.decisions.decided(self.route, outcome);
        }
        if !parts.logs.access_is_on() {
            return;
        }
        let reason = self.reason.or(self.broken.then_some("broken_off"));
        let upstream = self.upstream.as_ref().map(ToString::to_string);
        let head = self.head.as_ref();
        parts.logs.access(&AccessLine {
            at: self.began,
            request_id: self.request_id.to_str().unwrap_or_default(),
            client: self.client,
            listener: snapshot.listener_names.get(self.listener).map_or("", String::as_str),
            method: head.map_or("-", |head| head.method.as_str()),
            host: head.and_then(|head| head.host.as_ref()?.to_str().ok()).filter(|_| self.canonical),
            path: head.map_or("-", |head| head.path.as_str()),
            version: match head.map(|head| head.version) {
                Some(http::Version::HTTP_10) => "1.0",
                Some(http::Version::HTTP_2) => "2",
                _ => "1.1",
            },
            tls: self.tls,
            status: self.status,
            bytes_in: self.bytes.0,
            bytes_out: self.bytes.1,
            subject: self.credential.as_ref().map(|credential| credential.identity().subject()),
            session: self.credential.as_ref().and_then(|credential| credential.session()).map(Session::id),
            route: self.route.map(|route| snapshot.route[route].name.as_str()),
            decision: self.outcome.map_or("none", Outcome::as_str),
            reason,
            detail: self.detail.as_deref(),
            upstream: upstream.as_deref(),
            upstream_time: self.upstream_time,
            total_time: parts.clock.now().since(self.began),
            user_agent: head.and_then(|head| head.user_agent.as_ref()).map(HeaderValue::as_bytes),
        });
    }
}

impl Parts {
    /// A handshake failed: it is counted, and one a minute of each kind is told. Whoever knocks at every port fills no log.
    pub fn note_failed_handshake(&self, link: &Link, reason: &'static str) {
        self.metrics.handshake_failed(reason);
        if self.paces.lines.allows(("tls", reason), self.clock.now()) {
            tracing::info!(
                reason,
                client = %link.address(),
                "a TLS handshake failed; others like it are only counted for a minute"
            );
        }
    }
}

impl RefusedHeads for Parts {
    /// A head that no filter ever saw still gets its line, its count and a problem document.
    fn refused(&self, link: &Link, refusal: Refusal) -> Option<Vec<u8>> {
        let (status, reason) = match refusal {
            Refusal::Head(rejection) => (Some(rejection.status()), rejection.reason()),
            Refusal::Late => (Some(408), "head_late"),
            Refusal::Broken => (None, "head_broken"),
            Refusal::Parser => (Some(400), "head_parser"),
            Refusal::Http2 => (None, "http2_protocol"),
            Refusal::NoPlace => (None, "no_place"),
        };
        let snapshot = self.snapshot.load();
        self.metrics.head_refused(reason);
        self.metrics.exchange_done(status);
        let request_id = Self::request_id();
        let request_id = request_id.to_str().unwrap_or_default();
        let now = self.clock.now();
        self.logs.access(&AccessLine {
            at: now,
            request_id,
            client: link.peer().map(|_| link.address()),
            listener: snapshot.listener_names.get(link.listener()).map_or("", String::as_str),
            method: "-",
            host: None,
            path: "-",
            version: if matches!(refusal, Refusal::Http2 | Refusal::NoPlace) { "2" } else { "1.1" },
            tls: link.secured().map(|secured| secured.version),
            status,
            bytes_in: 0,
            bytes_out: 0,
            subject: None,
            session: None,
            route: None,
            decision: Outcome::Refused.as_str(),
            reason: Some(reason),
            detail: None,
            upstream: None,
            upstream_time: None,
            total_time: Duration::ZERO,
            user_agent: None,
        });
        match (refusal, status) {
            (Refusal::Head(_) | Refusal::Late, Some(status)) => {
                Some(respond::raw(status, request_id, snapshot.fronts.get(link.listener())))
            }
            _ => None,
        }
    }
}
