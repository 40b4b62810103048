//! What one exchange has learnt so far; only moves forward.

use crate::domain::decision::{Admission, Rejection};
use crate::domain::time::Timestamp;
use crate::net::connection::Link;
use crate::proxy::observe::Record;
use crate::proxy::snapshot::Snapshot;
use http::HeaderValue;
use std::net::IpAddr;
use std::sync::Arc;

/// The state of one exchange, from its head to its access line.
pub struct Context {
    /// The configuration that this exchange runs under, from start to end.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The one reading of the clock for every decision of this exchange.
    pub(crate) now: Timestamp,
    /// The connection.
    pub(crate) link: Option<Arc<Link>>,
    /// Who asks, as far as trusted proxies tell.
    pub(crate) client: IpAddr,
    /// `X-Request-Id`: 128 random bits in hex.
    pub(crate) request_id: HeaderValue,
    /// The proof that the request may pass; none until the decision.
    pub(crate) admission: Option<Admission>,
    /// The route, once one was found.
    pub(crate) route: Option<usize>,
    /// What the visitor is told if the proxying fails for a reason that a filter knows better.
    pub(crate) fault: Option<Rejection>,
    /// The upstream's turn that fell on this exchange.
    pub(crate) turn: usize,
    /// How many servers were tried.
    pub(crate) tries: usize,
    /// Everything that the access line says; written when the exchange is dropped, however it ends.
    pub(crate) record: Record,
}
