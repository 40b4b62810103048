//! `POST session`: a believed bearer token is traded for a session, so that a browser application keeps no token in scripts.
//!
//! The session lives no longer than the token, and ends with its revocation. A token that is bound to a key or a certificate is
//! never traded: a cookie would let it in without the proof; nor is one that does not say when it ends. One token may be traded again, for another browser or because the
//! former session ended; `sessions.per_subject` bounds how many sessions that gives.

use super::{end_session, header, is_own_form, kept, presented_sessions, session_cookie, user_agent};
use crate::auth::bearer::{self, BearerRefusal};
use crate::auth::jwt::Refusal;
use crate::domain::access::EntryId;
use crate::domain::decision::{Believed, Rejection};
use crate::domain::session::{Cause, End, Kind};
use crate::domain::time::Timestamp;
use crate::proxy::admit;
use crate::proxy::context::Context;
use crate::proxy::parts::{NewSession, Parts};
use crate::proxy::read;
use crate::proxy::respond::{self, Answer};
use crate::proxy::revocation;
use http::StatusCode;
use http::header::AUTHORIZATION;
use pingora::http::RequestHeader;
use std::sync::Arc;

/// Opens a session for whom the token names.
pub(super) async fn trade(
    parts: &Parts,
    head: &RequestHeader,
    ctx: &mut Context,
) -> Result<Answer, Rejection> {
    let says_site =
        header(&head.headers, "sec-fetch-site").is_some() || header(&head.headers, "origin").is_some();
    if says_site && !is_own_form(head, ctx) {
        return Err(Rejection::BadForm("other_origin"));
    }
    let wall = parts.clock.wall();
    let token = believed(head, ctx, wall).await?;
    let terms = ctx.snapshot.token_terms.iter().find(|terms| terms.id == token.entry);
    let name = &terms.ok_or(Rejection::BadBearer("other_entry"))?.name;
    let presented = presented_sessions(parts, head, ctx)?;
    let user_agent = user_agent(head);
    let new = NewSession {
        entry: token.entry,
        sign_in: name,
        within: Some(token.expires_at.since(wall)),
        kind: Kind::SignedIn,
        identity: &token.identity,
        stamp: revocation::stamp(&token.token),
        scope: ctx.snapshot.scope(ctx.outside(), read::host_of(head).name()),
        client: ctx.client,
        user_agent: &user_agent,
        request_id: ctx.request_id_text(),
        instead_of: &presented,
    };
    let opened = parts.open_session(&ctx.snapshot, &new, parts.clock.now())?;
    let (session, cookie) = parts.settle(opened).await?;
    // A revocation or a reload that came in between ended the sessions that stood in the table, and this one did not yet.
    if ctx.snapshot.revoked.covers(&token) || !parts.snapshot.load().knows_entry(&session) {
        kept(vec![end_session(parts, ctx, &session, End::Revoked)]).await?;
        return Err(Rejection::BadBearer("token_revoked"));
    }
    let document = respond::session_document(&session, &parts.sessions.clocks());
    let (name, value) = session_cookie(parts, ctx, Some((&cookie, &session)));
    Ok(Answer::json(StatusCode::CREATED, &document).with(name, value))
}

/// The token of the request, if it may be traded.
async fn believed(head: &RequestHeader, ctx: &Context, wall: Timestamp) -> Result<Arc<Believed>, Rejection> {
    let field = head.headers.get(AUTHORIZATION).ok_or(Rejection::Unauthenticated(Cause::Absent))?;
    let traded = ctx.snapshot.token_terms.iter().filter(|terms| terms.exchange);
    let accepted: Vec<EntryId> = traded.map(|terms| terms.id).collect();
    let mut asked = 0;
    let token = loop {
        match ctx.snapshot.bearer.believe(field.as_bytes(), &accepted, wall) {
            Ok(token) => break token,
            Err(BearerRefusal::OtherScheme) => return Err(Rejection::Unauthenticated(Cause::Absent)),
            Err(BearerRefusal::Unavailable(why)) => return Err(Rejection::Unjudged(why)),
            Err(BearerRefusal::Ask(question)) => {
                asked += 1;
                if asked > admit::QUESTIONS_MAX || !question.answered().await {
                    return Err(Rejection::Unjudged("token_not_known_yet"));
                }
            }
            Err(refusal) => return Err(Rejection::BadBearer(refusal.reason())),
        }
    };
    if token.token.confirmation.is_some() || bearer::is_dpop(field.as_bytes()) {
        return Err(Rejection::BadBearer("token_bound"));
    }
    if !token.token.ends {
        // Only its server knows for how long it is good, and is not asked about sessions.
        return Err(Rejection::BadBearer(Refusal::NoExpiry.reason()));
    }
    match revocation::refusal(&ctx.snapshot, &token, wall) {
        Some(reason) => Err(Rejection::BadBearer(reason)),
        None => Ok(token),
    }
}
