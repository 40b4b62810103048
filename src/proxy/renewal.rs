//! A newer token for a session that goes on: by age, or because a file has given its subject more.
//!
//! The successor is derived from the token that the request came with, so that answers given at the same time, and other
//! processes with the same keys, offer the same one. It is offered until it comes back; then the old one serves a moment longer.

use crate::domain::cookie::{self, Found};
use crate::domain::session::Session;
use crate::proxy::context::Context;
use crate::proxy::endpoints::session_cookie;
use crate::proxy::parts::{Parts, durable_within};
use crate::proxy::remember::audit;
use crate::store::table::NotLive;
use crate::telemetry::AuditEvent;
use http::HeaderValue;
use http::header::COOKIE;
use pingora::http::RequestHeader;
use std::time::Duration;

/// How long an answer waits for its offer to be durable.
const OFFER_WAIT_MAX: Duration = Duration::from_secs(1);

/// The session that admitted the request, if its token is to be followed by a newer one; or that which a rule has refused:
/// what a file has added since counts with the newer token, and may be what the rule asks for.
pub(crate) fn due(parts: &Parts, ctx: &Context) -> Option<Session> {
    let session = ctx.admitting().or(ctx.forbidden.as_ref())?;
    session.wants_renewal(ctx.now, parts.sessions.renew_after()).then(|| session.clone())
}

/// Offers the successor of the token that the request came with; its cookie. If the store cannot keep the offer, the page goes
/// on with the token as it is.
pub(crate) async fn offer(
    parts: &Parts,
    request: &RequestHeader,
    ctx: &Context,
    session: &Session,
) -> Option<HeaderValue> {
    let tokens = ctx.snapshot.session_tokens.as_ref()?;
    let presented = presented(request, ctx)?;
    let (token, digest) = tokens.ring().successor(presented, session.generation())?;
    let offered = parts.sessions.offer(session, digest, parts.clock.now())?;
    // A renewal can wait for the next answer; the visitor should not wait for a disk.
    durable_within(OFFER_WAIT_MAX, offered).await.ok()?;
    parts.sessions.offer_kept(session, &digest);
    Some(session_cookie(parts, ctx, Some((&token.encode(), session))).1)
}

/// The one value that the request's session cookie has.
fn presented<'a>(request: &'a RequestHeader, ctx: &Context) -> Option<&'a [u8]> {
    let fields = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    match cookie::find(fields, ctx.snapshot.cookie_name(ctx.outside())) {
        Found::One(value) => Some(value),
        Found::None | Found::Several(_) | Found::TooMany => None,
    }
}

/// Tells that a token came after its successor had taken its place: late, or copied. Once a minute for each session.
pub(crate) fn note_superseded(parts: &Parts, request: &RequestHeader, ctx: &Context) {
    let tokens = ctx.snapshot.session_tokens.as_ref();
    let digest = tokens.zip(presented(request, ctx)).and_then(|(tokens, value)| tokens.ring().digest(value));
    let Some(Err(NotLive::Ended(end, id))) = digest.map(|digest| parts.sessions.find(&digest, ctx.now))
    else {
        return;
    };
    if parts.paces.lines.allows(("superseded", id), ctx.now) {
        audit(parts, ctx, AuditEvent::TokenRefused, end.as_str(), Some(id));
    }
}
