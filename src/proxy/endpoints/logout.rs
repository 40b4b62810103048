//! `logout`: asks on GET, ends on POST. `everywhere=1` ends all of the subject's sessions.

use super::form::{self, Form, Recipient};
use super::{LOGIN, end_session, kept, note_ended, presented_sessions, session_cookie};
use crate::domain::decision::Rejection;
use crate::domain::session::{End, Session};
use crate::proxy::context::Context;
use crate::proxy::pages::{Logout, Page, field};
use crate::proxy::parts::Parts;
use crate::proxy::respond::Answer;
use crate::store::journal::Commit;
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;

/// Asks whether to sign out; who is not signed in is told so.
pub(super) fn ask(parts: &Parts, head: &RequestHeader, ctx: &mut Context) -> Result<Answer, Rejection> {
    let sessions = presented_sessions(parts, head, ctx)?;
    let Some(session) = sessions.iter().find(|session| !session.is_anonymous()) else {
        return Ok(Answer::page(StatusCode::OK, ctx, head, &Page::SignedOut { login_url: Some(LOGIN) }));
    };
    let recipient = Recipient::of(head, ctx)?;
    let subject = crate::domain::identity::decode(session.identity().subject());
    let form_token = recipient.token(&purpose(session), ctx);
    let logout = Logout { subject: &subject, sign_in: session.sign_in(), form_token: &form_token };
    let page = Answer::page(StatusCode::OK, ctx, head, &Page::Logout(logout));
    Ok(recipient.send(page))
}

/// Ends this session, or all of its subject.
pub(super) async fn answer(
    parts: &Parts,
    exchange: &mut Exchange,
    ctx: &mut Context,
) -> Result<Answer, Rejection> {
    let form = Form::read(exchange, ctx).await?;
    let head = exchange.req_header();
    let sessions = presented_sessions(parts, head, ctx)?;
    if sessions.iter().any(|session| !session.is_anonymous()) {
        let token = form.field(field::FORM_TOKEN);
        if !sessions.iter().any(|session| form::is_proved(head, ctx, &purpose(session), token)) {
            return Err(Rejection::BadForm("form_token"));
        }
    }
    let everywhere = form.field(field::EVERYWHERE) == "1";
    kept(sessions.iter().map(|session| end(parts, ctx, session, everywhere)).collect()).await?;
    Ok(signed_out(parts, head, ctx))
}

/// The page that ends a sign-out: no cookie, and nothing of before in the browser's cache.
pub(super) fn signed_out(parts: &Parts, head: &RequestHeader, ctx: &Context) -> Answer {
    let (name, value) = session_cookie(parts, ctx, None);
    Answer::page(StatusCode::OK, ctx, head, &Page::SignedOut { login_url: Some(LOGIN) })
        .with(name, value)
        .with("Clear-Site-Data", HeaderValue::from_static("\"cache\""))
}

/// Ends `session`, or everywhere: all sessions of its subject. The answer has to wait until it is [`super::kept`].
pub(crate) fn end(parts: &Parts, ctx: &Context, session: &Session, everywhere: bool) -> Commit {
    // Of a way in that is gone or leads elsewhere, the subject may be another person's by now.
    if !everywhere || session.is_anonymous() || !ctx.snapshot.knows_entry(session) {
        return end_session(parts, ctx, session, End::SignOut);
    }
    let identity = session.identity();
    let ended = parts.sessions.end_subject(identity.source(), identity.subject(), End::SignOut);
    note_ended(parts, ctx, ended, End::SignOut)
}

/// What the form token is good for: ending this very session.
fn purpose(session: &Session) -> String {
    format!("logout {}", session.id())
}
