//! `session`, for scripts: who am I and until when, and signing out.

use super::{current_session, header, is_own_form, kept, logout, presented_sessions, session_cookie};
use crate::domain::decision::Rejection;
use crate::domain::session::Cause;
use crate::proxy::context::Context;
use crate::proxy::parts::Parts;
use crate::proxy::respond::{self, Answer};
use http::StatusCode;
use pingora::http::RequestHeader;

/// Tells about the session; asking does not extend it.
pub(super) fn tell(parts: &Parts, head: &RequestHeader, ctx: &mut Context) -> Result<Answer, Rejection> {
    let session = current_session(parts, head, ctx).map_err(Rejection::Unauthenticated)?;
    if session.is_anonymous() {
        return Err(Rejection::Unauthenticated(Cause::OtherWay));
    }
    Ok(Answer::json(StatusCode::OK, &respond::session_document(&session, &parts.sessions.clocks())))
}

/// Signs out. Another site's page cannot: it brings another origin, or none of a browser's proofs at all and no cookie.
pub(super) async fn end(parts: &Parts, head: &RequestHeader, ctx: &mut Context) -> Result<Answer, Rejection> {
    let says_site =
        header(&head.headers, "sec-fetch-site").is_some() || header(&head.headers, "origin").is_some();
    if says_site && !is_own_form(head, ctx) {
        return Err(Rejection::BadForm("other_origin"));
    }
    let sessions = presented_sessions(parts, head, ctx)?;
    if sessions.is_empty() {
        let cause = current_session(parts, head, ctx).err().unwrap_or(Cause::Unknown);
        return Err(Rejection::Unauthenticated(cause));
    }
    kept(sessions.iter().map(|session| logout::end(parts, ctx, session, false)).collect()).await?;
    let (name, value) = session_cookie(parts, ctx, None);
    Ok(Answer::new(StatusCode::NO_CONTENT).with(name, value))
}
