//! Exchanges that outlast the configuration they were decided under.
//!
//! A request is decided once, and an exchange keeps its configuration to its end. Where the answer lasts (a `WebSocket`, server-sent
//! events, a long download) each newer configuration decides about it again, by what the request asked and what the session
//! is by then, or what its bearer token says to the entries of today; one that it refuses is cut. Short answers are over before that could matter, and keep nothing.
//!
//! What a bearer token admits ends when that is revoked; an answer that has no end of its own also ends with the token. A download
//! that says how long it is goes on: clients get tokens for minutes, and renew them between requests.
//!
//! On public routes nothing is decided by a session; but where the application was given what a visitor's session holds, the
//! answer is that visitor's, and if it lasts, it ends with the session too.

use crate::auth::authority::Authority;
use crate::auth::bearer::BearerRefusal;
use crate::domain::access::{Access, EntryId, Protected};
use crate::domain::decision::{Admission, Believed, Credential, Facts, Presented, Rejection, decide};
use crate::domain::session::Cause;
use crate::domain::target::{Host, Target};
use crate::domain::time::Timestamp;
use crate::net::streams::{Standing, Verdict};
use crate::net::tls::Secured;
use crate::proxy::admit::{self, Asking, Way};
use crate::proxy::context::Context;
use crate::proxy::parts::Parts;
use crate::proxy::revocation;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::visit::Patches;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session as Exchange;
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An answer longer than this may last.
const SHORT_BYTES_MAX: u64 = 1 << 20;

/// So long an exchange goes on while keys are fetched that its token may be verified by; with the looks before and after that, no
/// longer than a second.
const PENDING_MAX: Duration = Duration::from_millis(600);

/// What a request asked, as far as decisions depend on it.
struct Asked {
    /// What it was admitted by.
    credential: Credential,
    /// The field that proved it, where that was a bearer token.
    authorization: Option<HeaderValue>,
    /// Who said that the token counts.
    authority: Option<Authority>,
    /// Since when a configuration cannot decide, and its number.
    pending: Cell<Option<(u64, Timestamp)>>,
    listener: usize,
    secured: Option<Arc<Secured>>,
    client: IpAddr,
    host: HeaderValue,
    /// The canonical target.
    target: Box<[u8]>,
    method: Method,
    headers: HeaderMap,
}

/// If the answer with this head, and a body of this `length` in bytes if it is known, may last, sees to it that it ends with the session whose data it may tell, or that newer
/// configurations decide about the exchange again.
pub(crate) fn answered(
    parts: &Arc<Parts>,
    exchange: &mut Exchange,
    answer: &ResponseHeader,
    length: Option<u64>,
    ctx: &mut Context,
) {
    if !may_last(answer, length, ctx) {
        return;
    }
    ctx.lending.give_back(exchange.req_header_mut());
    let request = exchange.req_header();
    let (Some(link), Some(host)) = (&ctx.link, request.headers.get(HOST)) else { return };
    if let Some(Credential::Token(token)) = ctx.admission.as_ref().and_then(Admission::credential) {
        // It is tied already. What says nothing of an end is believed for as long as an answer is kept, which is no end.
        if token.token.ends && length.is_none() {
            let left = token.expires_at.since(parts.clock.wall());
            link.end_token_at(parts.clock.now().plus(left));
        }
    } else if ctx.admitting().is_none() {
        if let (Patches::Taken(_), Some(visitor), Some(route)) = (ctx.patches, &ctx.visitor, ctx.route) {
            link.tie(visitor.clone(), ctx.snapshot.route[route].counts_activity);
        }
        return;
    }
    let Some(credential) = ctx.admission.as_ref().and_then(Admission::credential).cloned() else { return };
    let authority = match &credential {
        Credential::Session(_) => None,
        Credential::Token(token) => ctx.snapshot.bearer.authority(token.entry),
    };
    let asked = Asked {
        credential,
        authorization: request.headers.get(AUTHORIZATION).cloned(),
        authority,
        pending: Cell::new(None),
        listener: link.listener(),
        secured: link.secured().cloned(),
        client: ctx.client,
        host: host.clone(),
        target: request.raw_path().into(),
        method: request.method.clone(),
        headers: admit::decisive(&request.method, &request.headers),
    };
    let parts = parts.clone();
    let standing: Standing = Box::new(move || match asked.stands(&parts) {
        Ok(()) => Verdict::Stands,
        Err(NotNow::Refused(reason)) => Verdict::Refused(reason),
        Err(NotNow::Pending) => Verdict::Pending,
    });
    link.decide_again(ctx.snapshot.generation, standing);
}

fn may_last(answer: &ResponseHeader, length: Option<u64>, ctx: &Context) -> bool {
    if answer.status.is_informational() {
        return answer.status == StatusCode::SWITCHING_PROTOCOLS;
    }
    if ctx.head_only || matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return false;
    }
    length.is_none_or(|length| length > SHORT_BYTES_MAX)
}

/// Why an exchange does not go on for good.
enum NotNow {
    Refused(&'static str),
    Pending,
}

impl From<&'static str> for NotNow {
    fn from(reason: &'static str) -> Self {
        Self::Refused(reason)
    }
}

impl Asked {
    /// What the configuration in force says to the same request: why not, if it refuses.
    fn stands(&self, parts: &Parts) -> Result<(), NotNow> {
        let snapshot = parts.snapshot.load_full();
        let (Ok(host), Ok(target)) = (Host::parse(self.host.as_bytes()), Target::parse(&self.target)) else {
            return Err("no_route".into());
        };
        if !snapshot.fronts[self.listener].still_believes(self.secured.as_deref()) {
            return Err(Rejection::Misdirected.reason().into());
        }
        let route = match admit::way(&snapshot, &host, &target, &self.method) {
            Ok(Way::Route(route)) => route,
            Ok(Way::Own(_)) => return Err("no_route".into()),
            Err(rejection) => return Err(rejection.reason().into()),
        };
        let asking = Asking {
            snapshot: &snapshot,
            sessions: &parts.sessions,
            outside: snapshot.outside[self.listener],
            host: &host,
            link: None,
            secured: self.secured.as_deref(),
            now: parts.clock.now(),
            wall: &|| parts.clock.wall(),
        };
        if let Some(limits) = &snapshot.route[route].limits
            && !limits.admits(self.client)
        {
            return Err(Rejection::ClientAddress.reason().into());
        }
        let access = &snapshot.route[route].access;
        let Access::Protected(protected) = access else { return Ok(()) };
        let (credential, proved_key) = self.presented(&snapshot, protected, asking.now)?;
        let facts = Facts { proved_key, ..admit::facts(&asking, access, &self.method, &self.headers) };
        match decide(access, facts, Presented::Credential(credential)) {
            Ok(admission) if admission.credential().is_some() => Ok(()),
            // Where the route is open to all by now, the identity that the stream was opened with still is not believed.
            Ok(_) => Err(Cause::OtherWay.reason().into()),
            Err(refused) => Err(refused.rejection.reason().into()),
        }
    }

    /// The credential as it is today, and the key that the request has proved to hold with it.
    fn presented(
        &self,
        snapshot: &Snapshot,
        protected: &Protected,
        now: Timestamp,
    ) -> Result<(Credential, Option<[u8; 32]>), NotNow> {
        let token = match &self.credential {
            // With the claims of today, not those that the stream was opened with.
            Credential::Session(session) => return Ok((Credential::Session(session.current()), None)),
            Credential::Token(held) => self.believed(snapshot, protected, held, now)?,
        };
        if let Some(reason) = revocation::refusal(snapshot, &token, token.verified_at) {
            return Err(reason.into());
        }
        // The proof was for the request, and the token is the same.
        let proved_key = token.token.confirmation.as_ref().and_then(|bound| bound.jkt()).copied();
        Ok((Credential::Token(token), proved_key))
    }

    /// What the entries of today make of the token, as of when it was believed: a download that goes on when its token has ended is
    /// not this file's business.
    fn believed(
        &self,
        snapshot: &Snapshot,
        protected: &Protected,
        held: &Arc<Believed>,
        now: Timestamp,
    ) -> Result<Arc<Believed>, NotNow> {
        let is_listed = protected.tokens.contains(&held.entry);
        let today = snapshot.bearer.authority(held.entry);
        let is_same =
            is_listed && self.authority.as_ref().zip(today).is_some_and(|(before, today)| before.is(&today));
        if self.authority.as_ref().is_some_and(Authority::is_server) {
            // What a server said counts as long as its entry is what it was. Else each reload would ask about every stream.
            return if is_same { Ok(held.clone()) } else { Err("other_entry".into()) };
        }
        let is_asked = |entry: EntryId| snapshot.bearer.authority(entry).is_some_and(|one| one.is_server());
        let entries = protected.tokens.iter().copied().filter(|&entry| !is_asked(entry));
        let entries: Vec<EntryId> = entries.collect();
        let authorization = self.authorization.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        match snapshot.bearer.believe(authorization, &entries, held.verified_at) {
            Ok(token) => Ok(token),
            Err(why @ (BearerRefusal::Ask(_) | BearerRefusal::Unavailable(_))) => {
                let (number, since) = self.pending.get().unwrap_or((snapshot.generation, now));
                let since = if number == snapshot.generation { since } else { now };
                self.pending.set(Some((snapshot.generation, since)));
                if now.since(since) < PENDING_MAX {
                    Err(NotNow::Pending)
                } else if is_same {
                    // Nobody can say, and the file says what it said.
                    Ok(held.clone())
                } else {
                    Err(why.reason().into())
                }
            }
            Err(why) => Err(why.reason().into()),
        }
    }
}
