//! What applications keep for a visitor: session data on the way up, patches on the way back.
//!
//! Whose session that is was decided with the request ([`crate::proxy::visit`]).
//! A patch is durable, as far as the store promises, before the answer's head goes on, so that the visitor's next request
//! sees it. One that cannot be taken is refused whole and the visitor gets 502: the page was written as if it had been kept.
//! One that nobody is there for is dropped, and the page goes on.

use crate::domain::clients::visitor_network;
use crate::domain::decision::Rejection;
use crate::domain::fold;
use crate::domain::merge_patch::{self, Patch};
use crate::domain::session::{PatchError, Session, SessionId, SpaceId};
use crate::proxy::context::Context;
use crate::proxy::endpoints::{session_cookie, user_agent};
use crate::proxy::parts::{NewVisitor, NewlyOpened, NotOpened, Parts, durable};
use crate::proxy::read;
use crate::proxy::visit::Patches;
use crate::telemetry::{AuditEvent, AuditLine};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

/// The data that goes up.
pub(crate) const SESSION_DATA: HeaderName = HeaderName::from_static("x-session-data");
/// The patch that comes back.
const SESSION_PATCH: HeaderName = HeaderName::from_static("x-session-patch");
/// The same, as [`fold::fold`] writes every spelling of it.
const FOLDED_PATCH: &str = "xsessionpatch";
/// The data that the upstream is told; absent without a session.
pub(crate) fn data(ctx: &Context) -> Option<HeaderValue> {
    let Patches::Taken(space) = ctx.patches else { return None };
    let session = ctx.visitor.as_ref().filter(|session| session.end().is_none())?;
    Some(session.data(space).unwrap_or(HeaderValue::from_static("{}")))
}

/// The visitor has signed in with this very answer: what it keeps is for the new session.
pub(crate) fn signed_in(ctx: &mut Context, session: Session) {
    let space = ctx.route.and_then(|route| ctx.snapshot.route[route].data);
    ctx.patches = space.map_or(Patches::Unread, Patches::Taken);
    ctx.visitor = Some(session);
}

/// The patch in an answer of a route that keeps data.
///
/// # Errors
///
/// There is more than one, or it is none: the answer must not go on, whoever it is for.
pub(crate) fn patch_of(
    parts: &Parts,
    answer: &ResponseHeader,
    ctx: &Context,
) -> Result<Option<Patch>, Rejection> {
    if ctx.patches == Patches::Unread || named(&answer.headers).next().is_none() {
        return Ok(None);
    }
    if answer.status.is_informational() && answer.status != StatusCode::SWITCHING_PROTOCOLS {
        // Only the last head is the answer; whatever comes before may be made up on the way.
        note_dropped(parts, ctx, "interim");
        return Ok(None);
    }
    let read = the_one(&answer.headers).and_then(|text| {
        text.map(|text| Patch::parse(text.as_bytes())).transpose().map_err(merge_patch::Refused::reason)
    });
    match read {
        Ok(None) => {
            note_dropped(parts, ctx, "misspelt");
            Ok(None)
        }
        read => read.map_err(|reason| note_refused(parts, ctx, reason)),
    }
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, _)| fold::folds_to(name, FOLDED_PATCH))
}

/// Does what a patch asks; gives the cookie of a session that it opened.
///
/// # Errors
///
/// The answer must not go on: the patch cannot be taken, or the store cannot keep it.
pub(crate) async fn keep(
    parts: &Parts,
    request: &RequestHeader,
    ctx: &mut Context,
    patch: Patch,
) -> Result<Option<HeaderValue>, Rejection> {
    match (ctx.patches, &ctx.visitor) {
        (Patches::Taken(space), Some(session)) => {
            change(parts, ctx, session, space, patch).await.map(|()| None)
        }
        (Patches::Opening(space), _) => open(parts, request, ctx, space, patch).await,
        (Patches::Dropped(reason), _) => {
            note_dropped(parts, ctx, reason);
            Ok(None)
        }
        (Patches::Taken(_) | Patches::Unread, _) => Ok(None),
    }
}

/// The patch, where there is one under its name and nothing that a reader could take for another.
fn the_one(headers: &HeaderMap) -> Result<Option<&HeaderValue>, &'static str> {
    let mut named = named(headers);
    match (named.next(), named.next()) {
        (Some(_), Some(_)) => Err("patch_twice"),
        (Some((name, value)), None) if name == SESSION_PATCH => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// How often a patch is made while another process decides, and has changed the same data.
const PATCH_TRIES: u32 = 5;

async fn change(
    parts: &Parts,
    ctx: &Context,
    session: &Session,
    space: SpaceId,
    patch: Patch,
) -> Result<(), Rejection> {
    if patch.is_empty() {
        return Ok(());
    }
    let bytes_max = ctx.snapshot.rules.data_max_bytes;
    let (mut next, mut tries_left) = (Some(patch), PATCH_TRIES);
    while let Some(patch) = next.take() {
        tries_left -= 1;
        let again = (tries_left > 0 && parts.sessions.follows()).then(|| patch.clone());
        // The application may have taken its time: what counts is whether the session lives now.
        let now = parts.clock.now();
        let commit = match parts.sessions.patch(session, space, now, |data| patch.apply(data, bytes_max)) {
            Ok(commit) => commit,
            Err(PatchError::Ended(end)) => {
                note_dropped(parts, ctx, end.as_str());
                return Ok(());
            }
            Err(PatchError::Crowded) => return Err(note_refused(parts, ctx, "patch_spaces")),
            Err(PatchError::Refused(refused)) => return Err(note_refused(parts, ctx, refused.reason())),
        };
        match durable(commit).await {
            Ok(()) => break,
            // The process that decides had another value, which is here by now.
            Err(_) if again.is_some() => next = again,
            Err(_) => return Err(Rejection::StoreUnavailable),
        }
    }
    parts.metrics.session_patch("stored");
    Ok(())
}

/// Opens an anonymous session around the first data; its cookie.
///
/// Of several requests that a new visitor sends at once each may open one; the browser keeps the cookie that comes last.
async fn open(
    parts: &Parts,
    request: &RequestHeader,
    ctx: &mut Context,
    space: SpaceId,
    patch: Patch,
) -> Result<Option<HeaderValue>, Rejection> {
    let data = patch
        .apply(None, ctx.snapshot.rules.data_max_bytes)
        .map_err(|refused| note_refused(parts, ctx, refused.reason()))?;
    let Some(data) = data else { return Ok(None) };
    let now = parts.clock.now();
    if !parts.paces.openings.allows(visitor_network(ctx.client), now) {
        note_dropped(parts, ctx, "pace");
        return Ok(None);
    }
    let user_agent = user_agent(request);
    let new = NewVisitor {
        scope: ctx.snapshot.scope(ctx.outside(), read::host_of(request).name()),
        client: ctx.client,
        user_agent: &user_agent,
    };
    let NewlyOpened { session, token, commit } = match parts.open_anonymous(&ctx.snapshot, &new, now) {
        Ok(opened) => opened,
        Err(NotOpened::Full | NotOpened::SubjectFull(_)) => {
            note_full(parts, ctx);
            return Ok(None);
        }
        Err(not_opened @ (NotOpened::NoKeys | NotOpened::Unavailable)) => return Err(not_opened.into()),
    };
    let kept = parts.sessions.patch(&session, space, now, |_| Ok::<_, ()>(Some(data)));
    let kept = match kept {
        Ok(written) => durable(written).await.is_ok() && durable(commit).await.is_ok(),
        Err(_) => false,
    };
    if !kept {
        parts.withdraw(&session);
        return Err(Rejection::StoreUnavailable);
    }
    parts.metrics.session_patch("opened");
    let (_, cookie) = session_cookie(parts, ctx, Some((&token, &session)));
    ctx.visitor = Some(session);
    Ok(Some(cookie))
}

fn note_dropped(parts: &Parts, ctx: &Context, reason: &'static str) {
    parts.metrics.session_patch(reason);
    let session = ctx.visitor.as_ref().map(Session::id);
    // Where nobody has a session, that is how the route is meant.
    if reason != "no_session" && parts.paces.lines.allows((reason, ctx.route, session), ctx.now) {
        audit(parts, ctx, AuditEvent::PatchDropped, reason, session);
    }
}

fn note_full(parts: &Parts, ctx: &Context) {
    parts.metrics.session_patch("full");
    if parts.paces.lines.allows("full", ctx.now) {
        audit(parts, ctx, AuditEvent::TableFull, "anonymous", None);
    }
}

/// Notes a patch that the application must not send; the access line says so too, but that log may be off.
fn note_refused(parts: &Parts, ctx: &Context, reason: &'static str) -> Rejection {
    parts.metrics.session_patch(reason);
    if parts.paces.lines.allows((reason, ctx.route), ctx.now) {
        audit(parts, ctx, AuditEvent::PatchRefused, reason, ctx.visitor.as_ref().map(Session::id));
    }
    Rejection::Upstream(reason)
}

/// Notes what an exchange met with on its route.
pub(super) fn audit(
    parts: &Parts,
    ctx: &Context,
    event: AuditEvent,
    reason: &str,
    session: Option<SessionId>,
) {
    let route = ctx.route.map(|route| format!("route {}", ctx.snapshot.route[route].name));
    parts.logs.audit(&AuditLine {
        session,
        client: Some(ctx.client),
        request_id: Some(ctx.request_id_text()),
        reason: Some(reason),
        detail: route.as_deref(),
        ..AuditLine::new(ctx.now, event)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_patch_or_none() {
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&[("X-Session-Patch", "{}")], Ok(Some("{}"))),
            (&[("x-session-patch", "a"), ("X-Session-Data", "b"), ("X-Session-Patches", "c")], Ok(Some("a"))),
            (&[("X-Session-Patch", "{}"), ("X-Session-Patch", "{}")], Err("patch_twice")),
            (&[("X-Session-Patch", "{}"), ("X_Session_Patch", "{}")], Err("patch_twice")),
            (&[("X.Session.Patch", "{}"), ("_x-session-patch", "{}")], Err("patch_twice")),
            (&[("X_Session_Patch", "{}")], Ok(None)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
            }
            let got = the_one(&map).map(|value| value.map(|value| value.to_str().expect("text").to_owned()));
            assert_eq!(got, expected.map(|value| value.map(str::to_owned)), "{fields:?}");
        }
    }
}
