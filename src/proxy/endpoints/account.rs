//! `account`: one's own sessions; end one, end all others. Own are those of the same subject of the same source.

use super::form::{self, Form, Recipient};
use super::{LISTED_MAX, current_session, end_session, kept, login, logout};
use crate::domain::decision::Rejection;
use crate::domain::session::{End, Session, State};
use crate::proxy::context::Context;
use crate::proxy::pages::{Account, Listed, Page, field};
use crate::proxy::parts::Parts;
use crate::proxy::respond::Answer;
use http::StatusCode;
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use std::cmp::Reverse;

/// The page's own path.
const ACCOUNT: &str = "/_vestibule/account";

/// Shows the sessions; who is not signed in is sent to do so.
pub(super) fn ask(parts: &Parts, head: &RequestHeader, ctx: &mut Context) -> Result<Answer, Rejection> {
    let Some(own) = own_session(parts, head, ctx) else { return Ok(sign_in_first(StatusCode::FOUND)) };
    let recipient = Recipient::of(head, ctx)?;
    let all = of_same_subject(parts, &own, ctx);
    let listed: Vec<Listed> =
        all.iter().take(LISTED_MAX).map(|session| Listed::of(session, session.id() == own.id())).collect();
    let subject = crate::domain::identity::decode(own.identity().subject());
    let account = Account {
        subject: &subject,
        sessions: &listed,
        more: all.len() - listed.len(),
        form_token: &recipient.token(&purpose(&own), ctx),
    };
    let page = Answer::page(StatusCode::OK, ctx, head, &Page::Account(account));
    Ok(recipient.send(page))
}

/// Ends what the form names.
pub(super) async fn answer(
    parts: &Parts,
    exchange: &mut Exchange,
    ctx: &mut Context,
) -> Result<Answer, Rejection> {
    let form = Form::read(exchange, ctx).await?;
    let head = exchange.req_header();
    let Some(own) = own_session(parts, head, ctx) else { return Ok(sign_in_first(StatusCode::SEE_OTHER)) };
    if !form::is_proved(head, ctx, &purpose(&own), form.field(field::FORM_TOKEN)) {
        return Err(Rejection::BadForm("form_token"));
    }
    let others = form.field(field::OTHERS) == "1";
    let named = form.field(field::END).parse().ok();
    if !others && named.is_none() {
        return Err(Rejection::BadForm("end"));
    }
    if !others && named == Some(own.id()) {
        kept(vec![logout::end(parts, ctx, &own, false)]).await?;
        return Ok(logout::signed_out(parts, head, ctx));
    }
    let mut meant = of_same_subject(parts, &own, ctx);
    meant.retain(|session| if others { session.id() != own.id() } else { named == Some(session.id()) });
    kept(meant.iter().map(|session| end_session(parts, ctx, session, End::Revoked)).collect()).await?;
    // Reloading the page that follows must not send the form again.
    Ok(Answer::redirect(StatusCode::SEE_OTHER, ACCOUNT))
}

/// The signed-in session that the request came with.
fn own_session(parts: &Parts, head: &RequestHeader, ctx: &Context) -> Option<Session> {
    current_session(parts, head, ctx).ok().filter(|session| !session.is_anonymous())
}

/// The live sessions of this one's subject: this one first, then by last use, the latest first.
fn of_same_subject(parts: &Parts, own: &Session, ctx: &Context) -> Vec<Session> {
    let (identity, clocks) = (own.identity(), parts.sessions.clocks());
    let mut all = parts.sessions.of_subject(identity.source(), identity.subject());
    all.retain(|session| session.state(ctx.now, &clocks) == State::Live);
    all.sort_by_cached_key(|session| {
        (session.id() != own.id(), Reverse(session.last_used_at()), session.id())
    });
    all
}

fn sign_in_first(status: StatusCode) -> Answer {
    Answer::redirect(status, &login::url(ACCOUNT))
}

/// What the form token is good for: ending sessions from this very one.
fn purpose(own: &Session) -> String {
    format!("account {}", own.id())
}
