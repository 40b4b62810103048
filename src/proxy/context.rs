//! What one exchange has learnt so far; only moves forward.

use crate::domain::decision::{Admission, Credential, Rejection};
use crate::domain::session::{Cause, Session};
use crate::domain::time::Timestamp;
use crate::net::connection::Link;
use crate::proxy::lending::Lending;
use crate::proxy::limits::Quota;
use crate::proxy::observe::Record;
use crate::proxy::reach::Reach;
use crate::proxy::respond;
use crate::proxy::snapshot::{Front, Snapshot};
use crate::proxy::visit::Patches;
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
    /// The proof that the request may pass; none until the decision.
    pub(crate) admission: Option<Admission>,
    /// The live session whose data the route's upstream may see and change, whether it admitted the request or not.
    pub(crate) visitor: Option<Session>,
    /// The live session whose identity the route's rule has refused.
    pub(crate) forbidden: Option<Session>,
    /// What becomes of a patch in the answer.
    pub(crate) patches: Patches,
    /// The route, once one was found.
    pub(crate) route: Option<usize>,
    /// What the visitor is told if the proxying fails for a reason that a filter knows better.
    pub(crate) fault: Option<Rejection>,
    /// The servers that were tried, and the place at the one that has the request.
    pub(crate) reach: Reach,
    /// What is left of the route's rate, once it was asked.
    pub(crate) quota: Option<Quota>,
    /// How many more bytes the body may have, where the route says.
    pub(crate) body_left: Option<u64>,
    /// Interim answers (1xx) that the upstream has sent.
    pub(crate) interims: u8,
    /// The fields of the visitor's connection are ours to take out, not pingora's.
    pub(crate) strips_hops: bool,
    /// Where the fields of the request are.
    pub(crate) lending: Lending,
    /// A HEAD request: its answer has no body.
    pub(crate) head_only: bool,
    /// Everything that the access line says; written when the exchange is dropped, however it ends.
    pub(crate) record: Record,
}

impl Context {
    /// What is settled for the listener that this exchange came over.
    pub(crate) fn front(&self) -> &Front {
        let number = self.link.as_ref().map_or(0, |link| link.listener());
        &self.snapshot.fronts[number]
    }

    /// The session that admitted the request, if one did.
    pub(crate) fn admitting(&self) -> Option<&Session> {
        self.admission.as_ref()?.credential()?.session()
    }

    /// The session that admitted the request lives on, and the token was not revoked.
    ///
    /// Asked right before forwarding, and before an answer's head goes to the visitor: what a session served last, it served
    /// before its end was answered. Costs a load.
    pub(crate) fn still_admitted(&self) -> Result<(), Rejection> {
        if let Some(Credential::Token(token)) = self.admission.as_ref().and_then(Admission::credential)
            && self.snapshot.revoked.covers(token)
        {
            return Err(Rejection::BadBearer("token_revoked"));
        }
        match self.admitting().and_then(Session::end) {
            Some(end) => Err(Rejection::Unauthenticated(Cause::Ended(end))),
            None => Ok(()),
        }
    }
}

/// An exchange that is cut ends here and nowhere else: no filter hears of it any more.
impl Drop for Context {
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && let Some(cut) = link.cut_by()
            && !self.record.cut(cut, link.heard())
        {
            link.leave_answer(respond::ended(self));
        }
    }
}
