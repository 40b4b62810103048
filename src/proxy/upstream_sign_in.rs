//! Sign-in by the upstream: what an answer says of it is judged, and done before the answer goes on.
//!
//! The judgement is [`crate::auth::upstream_claim`]'s. Here a believed sign-in opens a session, which is durable before the visitor
//! sees the answer, and a believed sign-out ends one. The headers themselves are taken out with all other session headers.

use crate::auth::upstream_claim::{Answered, Said, judge};
use crate::auth::upstream_way::UpstreamWay;
use crate::domain::decision::Rejection;
use crate::domain::identity::Identity;
use crate::domain::session::{Kind, Session};
use crate::domain::target::Target;
use crate::proxy::context::Context;
use crate::proxy::endpoints::{is_own_form, kept, logout, presented_sessions, session_cookie, user_agent};
use crate::proxy::parts::{NewSession, Parts};
use crate::proxy::read;
use crate::proxy::remember;
use crate::proxy::snapshot::Way;
use crate::telemetry::{AuditEvent, AuditLine};
use http::HeaderValue;
use pingora::http::{RequestHeader, ResponseHeader};

/// Heeds an answer in which [`crate::auth::upstream_claim::says_something`]; the session cookie to set, if one is due.
///
/// # Errors
///
/// There is no room for the session, or the store cannot keep it: this is shown instead of the answer, which was written for
/// somebody who is signed in.
pub(crate) async fn heed(
    parts: &Parts,
    request: &RequestHeader,
    answer: &ResponseHeader,
    ctx: &mut Context,
) -> Result<Option<HeaderValue>, Rejection> {
    let snapshot = ctx.snapshot.clone();
    let place = place_of(&snapshot.ways, request, ctx);
    let answered = Answered {
        place: place.map(|(_, way)| way),
        method: &request.method,
        own_form: is_own_form(request, ctx),
        request_id: ctx.record.request_id.as_bytes(),
        status: answer.status,
        headers: &answer.headers,
    };
    match (judge(&answered), place) {
        (Ok(Said::SignIn(identity)), Some((number, _))) => {
            sign_in(parts, request, ctx, number, &identity).await.map(Some)
        }
        (Ok(Said::SignOut { everywhere }), Some((_, way))) => {
            sign_out(parts, request, ctx, way, everywhere).await
        }
        (Ok(_), None) => Ok(None),
        (Err(ignored), _) => {
            note_ignored(parts, ctx, place.map(|(_, way)| way), ignored.reason());
            Ok(None)
        }
    }
}

/// The entry, with its number, that lets this exchange's upstream sign visitors in on this path.
fn place_of<'a>(ways: &'a [Way], request: &RequestHeader, ctx: &Context) -> Option<(usize, &'a UpstreamWay)> {
    let upstream = ctx.snapshot.route[ctx.route?].upstream;
    let target = Target::parse(request.raw_path()).ok()?;
    ways.iter().enumerate().find_map(|(number, way)| match way {
        Way::Upstream(way) if way.upstream() == upstream && way.takes(&target) => Some((number, &**way)),
        Way::Upstream(_) | Way::Password(_) => None,
    })
}

async fn sign_in(
    parts: &Parts,
    request: &RequestHeader,
    ctx: &mut Context,
    way: usize,
    identity: &Identity,
) -> Result<HeaderValue, Rejection> {
    let presented = presented_sessions(parts, request, ctx)?;
    let user_agent = user_agent(request);
    let snapshot = ctx.snapshot.clone();
    let settings = snapshot.ways[way].settings();
    let new = NewSession {
        entry: settings.id,
        sign_in: &settings.name,
        within: None,
        kind: Kind::SignedIn,
        identity,
        stamp: 0,
        scope: ctx.snapshot.scope(ctx.outside(), read::host_of(request).name()),
        client: ctx.client,
        user_agent: &user_agent,
        request_id: ctx.request_id_text(),
        instead_of: &presented,
    };
    spare(ctx);
    // The application took its time; the session begins now.
    let opened = parts.open_session(&ctx.snapshot, &new, parts.clock.now())?;
    let (session, token) = parts.settle(opened).await?;
    let (_, cookie) = session_cookie(parts, ctx, Some((&token, &session)));
    if let (Some(link), Some(route)) = (&ctx.link, ctx.route) {
        // From here on the answer is this session's: if it lasts, it ends with it.
        link.tie(session.clone(), ctx.snapshot.route[route].counts_activity);
    }
    remember::signed_in(ctx, session);
    Ok(cookie)
}

/// Ends the visitor's session, if it was opened by this way; another is not the application's to end.
async fn sign_out(
    parts: &Parts,
    request: &RequestHeader,
    ctx: &mut Context,
    way: &UpstreamWay,
    everywhere: bool,
) -> Result<Option<HeaderValue>, Rejection> {
    let mut presented = presented_sessions(parts, request, ctx)?;
    presented.retain(|session| !session.is_anonymous());
    let before = presented.len();
    presented.retain(|session: &Session| session.entry() == way.settings().id);
    if presented.is_empty() {
        if before > 0 {
            note_ignored(parts, ctx, Some(way), "other_way");
        }
        return Ok(None);
    }
    spare(ctx);
    kept(presented.iter().map(|session| logout::end(parts, ctx, session, everywhere)).collect()).await?;
    Ok(Some(session_cookie(parts, ctx, None).1))
}

/// The exchange that ends its own session tells how: it is not cut.
fn spare(ctx: &Context) {
    if let Some(link) = &ctx.link {
        link.untie();
    }
}

/// Notes that a header did not count, with a line once a minute for each reason and route.
fn note_ignored(parts: &Parts, ctx: &Context, way: Option<&UpstreamWay>, reason: &'static str) {
    parts.metrics.upstream_ignored(reason);
    if !parts.paces.lines.allows(("ignored", reason, ctx.route), ctx.now) {
        return;
    }
    let route = ctx.route.map(|route| format!("route {}", ctx.snapshot.route[route].name));
    parts.logs.audit(&AuditLine {
        sign_in: way.map(|way| &*way.settings().name),
        client: Some(ctx.client),
        request_id: Some(ctx.request_id_text()),
        reason: Some(reason),
        detail: route.as_deref(),
        ..AuditLine::new(ctx.now, AuditEvent::UpstreamIgnored)
    });
}
