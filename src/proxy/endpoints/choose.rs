//! A sign-in that has to wait until the visitor has ended another session: the page to choose on, and its answer.
//!
//! The password was right and is not asked for again. What the form brings instead is a proof ([`crate::auth::proof`]): of this
//! browser, this way, this user and this credential, five minutes old at most, and good for one session.

use super::form::{Form, Recipient};
use super::login::{self, Asked, Entered};
use super::{LISTED_MAX, end_session, kept, presented_sessions};
use crate::auth::proof::Proved;
use crate::auth::users::User;
use crate::domain::decision::Rejection;
use crate::domain::session::{End, Session, SessionId, State};
use crate::proxy::context::Context;
use crate::proxy::pages::{Choose, Listed, Message, Page, field};
use crate::proxy::parts::Parts;
use crate::proxy::respond::Answer;
use http::StatusCode;
use pingora::http::RequestHeader;

/// Shows the subject's sessions, to choose which to end.
pub(super) fn ask(
    head: &RequestHeader,
    ctx: &Context,
    asked: &Asked,
    found: &User,
    sessions: &[Session],
) -> Result<Answer, Rejection> {
    let recipient = Recipient::of(head, ctx)?;
    let Recipient { forms, browser, .. } = &recipient;
    let proof = asked.way.proofs().issue(forms, browser, &proved(asked, found), ctx.now);
    let page = page(head, ctx, asked, sessions, &Shown { proof: &proof, chosen: &[], at_least: None });
    Ok(recipient.send(page))
}

/// What the page is to show besides the sessions.
struct Shown<'a> {
    proof: &'a str,
    chosen: &'a [SessionId],
    at_least: Option<usize>,
}

fn page(
    head: &RequestHeader,
    ctx: &Context,
    asked: &Asked,
    sessions: &[Session],
    shown: &Shown<'_>,
) -> Answer {
    let mut sessions: Vec<&Session> = sessions.iter().collect();
    // Whoever has to go stands first.
    sessions.sort_by_key(|session| (session.last_used_at(), session.id()));
    let listed: Vec<Listed> = sessions
        .iter()
        .take(LISTED_MAX)
        .map(|session| Listed::of(session, shown.chosen.contains(&session.id())))
        .collect();
    let choose = Choose {
        sessions: &listed,
        more: sessions.len() - listed.len(),
        proof: shown.proof,
        way: &asked.way.settings().name,
        user: &asked.user,
        return_to: asked.return_to.as_str(),
        remember: asked.remember,
        at_least: shown.at_least,
        login_url: &login::url(asked.return_to.as_str()),
    };
    Answer::page(StatusCode::CONFLICT, ctx, head, &Page::Choose(choose))
}

/// Ends what was chosen and signs in; without a good proof the password is asked for again.
pub(super) async fn answer(
    parts: &Parts,
    head: &RequestHeader,
    ctx: &Context,
    form: &Form,
    asked: &Asked,
) -> Result<Answer, Rejection> {
    let proof = form.field(field::PROOF);
    let refused = || {
        login::note_failure(parts, ctx, &asked.way.settings().name, "proof");
        login::again(head, ctx, asked, Message::Expired, StatusCode::FORBIDDEN)
    };
    let Some(found) = asked.way.users().find(&asked.user).cloned() else { return refused() };
    if !is_proved(head, ctx, asked, &found, proof) {
        return refused();
    }
    let sessions = in_the_way(parts, head, ctx, &found)?;
    let named: Vec<SessionId> = form.fields(field::END).filter_map(|id| id.parse().ok()).collect();
    let all = form.field(field::OTHERS) == "1";
    let chosen: Vec<&Session> =
        sessions.iter().filter(|session| all || named.contains(&session.id())).collect();
    let max = parts.sessions.limits().per_subject.map_or(usize::MAX, |limit| limit.max);
    let at_least = (sessions.len() + 1).saturating_sub(max);
    if chosen.len() < at_least {
        let shown = Shown { proof, chosen: &named, at_least: Some(at_least) };
        return Ok(page(head, ctx, asked, &sessions, &shown));
    }
    // Before anything ends for a session that could not be kept.
    if !parts.sessions.can_write() {
        return Err(Rejection::StoreUnavailable);
    }
    // From here on the proof is used, whatever comes of it.
    if !asked.way.proofs().spend(proof) {
        return refused();
    }
    kept(chosen.into_iter().map(|session| end_session(parts, ctx, session, End::Revoked)).collect()).await?;
    match login::enter(parts, head, ctx, asked, &found).await? {
        Entered::Answer(answer) => Ok(answer),
        // Somebody else was quicker to take the place.
        Entered::SubjectFull(_) => refused(),
    }
}

fn is_proved(head: &RequestHeader, ctx: &Context, asked: &Asked, found: &User, proof: &str) -> bool {
    Recipient::known(head, ctx).is_some_and(|Recipient { forms, browser, .. }| {
        asked.way.proofs().is_good(forms, proof, &browser, &proved(asked, found), ctx.now)
    })
}

fn proved<'a>(asked: &'a Asked, found: &User) -> Proved<'a> {
    Proved { entry: asked.way.settings().id, user: &asked.user, stamp: found.password().stamp() }
}

/// The live sessions of the subject, less those that this browser came with: they end anyway.
fn in_the_way(
    parts: &Parts,
    head: &RequestHeader,
    ctx: &Context,
    found: &User,
) -> Result<Vec<Session>, Rejection> {
    let (identity, clocks) = (found.identity().as_ref(), parts.sessions.clocks());
    let presented = presented_sessions(parts, head, ctx)?;
    let mut sessions = parts.sessions.of_subject(identity.source(), identity.subject());
    sessions.retain(|session| {
        session.state(ctx.now, &clocks) == State::Live
            && !presented.iter().any(|presented| presented.id() == session.id())
    });
    Ok(sessions)
}
