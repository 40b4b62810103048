//! `login`: the page with every way in, and the form's answer.
//!
//! The form is bound to the browser by a random cookie and a token made from it, so that no other site can sign a visitor
//! in (login CSRF). A sign-in always opens a new session under a new token; the one that the browser came with is dead in
//! the same step. Whoever has as many sessions as are allowed chooses which to end ([`super::choose`]).

use super::form::{self, Form, Recipient};
use super::{
    LOGIN, choose, end_session, host_cookie, kept, own_cookie, presented_sessions, session_cookie, user_agent,
};
use crate::auth::password::{PasswordWay, Refused};
use crate::auth::throttle::Network;
use crate::auth::users::User;
use crate::domain::decision::Rejection;
use crate::domain::return_to::ReturnTo;
use crate::domain::session::{End, Kind, Session};
use crate::domain::target::Target;
use crate::proxy::admit;
use crate::proxy::context::Context;
use crate::proxy::pages::{Link, Login, Message, Page, Way, field};
use crate::proxy::parts::{NewSession, NotOpened, Parts};
use crate::proxy::read;
use crate::proxy::respond::Answer;
use crate::proxy::snapshot::{self, Snapshot};
use crate::telemetry::{AuditEvent, AuditLine};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use std::sync::Arc;
use std::time::Duration;

/// What the form token is good for.
const PURPOSE: &str = "login";
/// How long a browser counts as one that has signed in here before.
const DEVICE_MAX_AGE: Duration = Duration::from_hours(24 * 90);

/// What a visitor asked for in the form.
pub(super) struct Asked {
    pub(super) return_to: ReturnTo,
    pub(super) user: String,
    /// The box to be remembered was checked.
    pub(super) remember: bool,
    /// Number of the way in, in the snapshot's `ways`.
    pub(super) number: usize,
    pub(super) way: Arc<PasswordWay>,
}

/// Shows the form, or goes where the only way in begins.
pub(super) fn ask(head: &RequestHeader, ctx: &mut Context) -> Result<Answer, Rejection> {
    let query = head.uri.query().unwrap_or_default();
    let return_to = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == field::RETURN_TO)
        .map_or_else(|| ReturnTo::parse("/"), |(_, value)| ReturnTo::parse(&value));
    let ways = ways_of(&ctx.snapshot, head, &return_to);
    if let [only] = ways[..]
        && let snapshot::Way::Upstream(way) = &ctx.snapshot.ways[only]
    {
        return Ok(Answer::redirect(StatusCode::FOUND, way.form_path()));
    }
    let shown = Shown {
        return_to: &return_to,
        user: "",
        way: None,
        remember: false,
        message: None,
        status: StatusCode::OK,
    };
    page(head, ctx, &shown)
}

/// What the page is to show.
struct Shown<'a> {
    return_to: &'a ReturnTo,
    user: &'a str,
    way: Option<usize>,
    remember: bool,
    message: Option<Message>,
    status: StatusCode,
}

fn page(head: &RequestHeader, ctx: &Context, shown: &Shown<'_>) -> Result<Answer, Rejection> {
    let ways = ways_of(&ctx.snapshot, head, shown.return_to);
    if ways.is_empty() {
        return Err(Rejection::NoRoute);
    }
    let recipient = Recipient::of(head, ctx)?;
    let (mut listed, mut links) = (Vec::new(), Vec::new());
    for &number in &ways {
        match &ctx.snapshot.ways[number] {
            snapshot::Way::Password(way) => {
                listed.push(Way { name: &way.settings().name, chosen: shown.way == Some(number) });
            }
            snapshot::Way::Upstream(way) => {
                links.push(Link { name: &way.settings().name, url: way.form_path() });
            }
        }
    }
    if let Some(first) = listed.first_mut().filter(|_| !shown.way.is_some_and(|way| ways.contains(&way))) {
        first.chosen = true;
    }
    let login = Login {
        ways: &listed,
        links: &links,
        remember: ctx.snapshot.rules.remember_me.then_some(shown.remember),
        return_to: shown.return_to.as_str(),
        form_token: &recipient.token(PURPOSE, ctx),
        user: shown.user,
        message: shown.message,
    };
    Ok(recipient.send(Answer::page(shown.status, ctx, head, &Page::Login(login))))
}

/// The form again, with what went wrong.
pub(super) fn again(
    head: &RequestHeader,
    ctx: &Context,
    asked: &Asked,
    message: Message,
    status: StatusCode,
) -> Result<Answer, Rejection> {
    let shown = Shown {
        return_to: &asked.return_to,
        user: &asked.user,
        way: Some(asked.number),
        remember: asked.remember,
        message: Some(message),
        status,
    };
    page(head, ctx, &shown)
}

/// The ways in of the route that `return_to` falls on; where it has none, all ways of this host's routes.
fn ways_of(snapshot: &Snapshot, head: &RequestHeader, return_to: &ReturnTo) -> Vec<usize> {
    let host = read::host_of(head);
    let path = return_to.as_str();
    let route = Target::parse(path.as_bytes()).ok().and_then(|target| {
        // A route of another method is none for the page that the browser will open; an own path falls on no route.
        match admit::way(snapshot, &host, &target, &Method::GET) {
            Ok(admit::Way::Route(route)) => Some(route),
            Ok(admit::Way::Own(_)) | Err(_) => None,
        }
    });
    let ways = route.map(|route| snapshot.route[route].ways.clone()).unwrap_or_default();
    if !ways.is_empty() {
        return ways;
    }
    let mut all: Vec<usize> = snapshot
        .routes
        .routes_of_host(host.name())
        .into_iter()
        .flat_map(|route| snapshot.route[route].ways.iter().copied())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The login page for `return_to`.
pub(super) fn url(return_to: &str) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix(format!("{LOGIN}?"), LOGIN.len() + 1);
    query.append_pair(field::RETURN_TO, return_to).finish()
}

/// Takes the form: a session and a redirect, or the form again with what went wrong.
pub(super) async fn answer(
    parts: &Parts,
    exchange: &mut Exchange,
    ctx: &mut Context,
) -> Result<Answer, Rejection> {
    let form = Form::read(exchange, ctx).await?;
    let head = exchange.req_header();
    let asked = asked(&form, head, ctx)?;
    if !form.field(field::PROOF).is_empty() {
        return choose::answer(parts, head, ctx, &form, &asked).await;
    }
    if !form::is_proved(head, ctx, PURPOSE, form.field(field::FORM_TOKEN)) {
        return again(head, ctx, &asked, Message::Expired, StatusCode::FORBIDDEN);
    }
    let device = own_cookie(&head.headers, Snapshot::device_cookie(ctx.outside())).map(str::to_owned);
    let password = form.secret(field::PASSWORD);
    let network = Network::of(ctx.client);
    let tried = asked.way.sign_in(&asked.user, password, network, device.as_deref(), ctx.now).await;
    let found = match tried {
        Ok(found) => found,
        Err(refused) => {
            note_failure(parts, ctx, &asked.way.settings().name, refused.reason());
            return match refused {
                Refused::Wrong => again(head, ctx, &asked, Message::Wrong, StatusCode::FORBIDDEN),
                Refused::Throttled(wait) => {
                    let seconds = wait.as_secs().max(1);
                    again(head, ctx, &asked, Message::Wait(seconds), StatusCode::TOO_MANY_REQUESTS)
                        .map(|answer| answer.with("Retry-After", HeaderValue::from(seconds)))
                }
                Refused::Busy => again(head, ctx, &asked, Message::Busy, StatusCode::SERVICE_UNAVAILABLE)
                    .map(|answer| answer.with("Retry-After", HeaderValue::from_static("5"))),
            };
        }
    };
    match enter(parts, head, ctx, &asked, &found).await? {
        Entered::Answer(answer) => Ok(answer),
        Entered::SubjectFull(sessions) => choose::ask(head, ctx, &asked, &found, &sessions),
    }
}

fn asked(form: &Form, head: &RequestHeader, ctx: &Context) -> Result<Asked, Rejection> {
    let return_to = ReturnTo::parse(form.field(field::RETURN_TO));
    let ways: Vec<(usize, &Arc<PasswordWay>)> = ways_of(&ctx.snapshot, head, &return_to)
        .into_iter()
        .filter_map(|number| Some((number, ctx.snapshot.ways[number].password()?)))
        .collect();
    let named = form.field(field::WAY);
    let found = ways.iter().find(|(_, way)| way.settings().name == named);
    let only = || ways.first().filter(|_| named.is_empty() && ways.len() == 1);
    let &(number, way) = found.or_else(only).ok_or(Rejection::BadForm("way"))?;
    Ok(Asked {
        return_to,
        user: form.field(field::USER).to_owned(),
        remember: form.field(field::REMEMBER) == "1" && ctx.snapshot.rules.remember_me,
        number,
        way: way.clone(),
    })
}

/// What came of a sign-in whose password was right.
pub(super) enum Entered {
    /// It is done, or something else stands in the way.
    Answer(Answer),
    /// One of these has to end before.
    SubjectFull(Vec<Session>),
}

/// Opens the session of a user whose password was right, and leads to where the visitor wanted to go.
pub(super) async fn enter(
    parts: &Parts,
    head: &RequestHeader,
    ctx: &Context,
    asked: &Asked,
    found: &User,
) -> Result<Entered, Rejection> {
    let presented = presented_sessions(parts, head, ctx)?;
    let user_agent = user_agent(head);
    let new = NewSession {
        entry: asked.way.settings().id,
        sign_in: &asked.way.settings().name,
        within: None,
        kind: if asked.remember { Kind::Remembered } else { Kind::SignedIn },
        identity: found.identity(),
        stamp: found.password().stamp(),
        scope: ctx.snapshot.scope(ctx.outside(), read::host_of(head).name()),
        client: ctx.client,
        user_agent: &user_agent,
        request_id: ctx.request_id_text(),
        instead_of: &presented,
    };
    // The hash took its time; the session begins now, not when the form arrived.
    let now = parts.clock.now();
    let opened = match parts.open_session(&ctx.snapshot, &new, now) {
        Ok(opened) => opened,
        Err(NotOpened::Full) => {
            return again(head, ctx, asked, Message::Full, StatusCode::SERVICE_UNAVAILABLE)
                .map(|answer| answer.with("Retry-After", HeaderValue::from_static("60")))
                .map(Entered::Answer);
        }
        Err(NotOpened::SubjectFull(sessions)) => return Ok(Entered::SubjectFull(sessions)),
        Err(not_opened) => return Err(not_opened.into()),
    };
    let (session, token) = parts.settle(opened).await?;
    // The users file may have changed in between; its sessions were ended before this one stood in the table. The way of
    // this exchange is told of the next reload only, so it is the one in force that counts.
    if !parts.snapshot.load().knows(asked.way.settings().id, &asked.user, found) {
        kept(vec![end_session(parts, ctx, &session, End::Credential)]).await?;
        return again(head, ctx, asked, Message::Wrong, StatusCode::FORBIDDEN).map(Entered::Answer);
    }
    let (name, value) = session_cookie(parts, ctx, Some((&token, &session)));
    let mut answer = Answer::redirect(StatusCode::SEE_OTHER, asked.return_to.as_str()).with(name, value);
    if let Some(devices) = &ctx.snapshot.devices {
        let identity = session.identity();
        // A browser without the mark signs in as a stranger would; no reason to refuse this one now.
        if let Ok(sealed) = devices.seal(identity.source(), identity.subject(), now) {
            let device_name = Snapshot::device_cookie(ctx.outside());
            let (name, value) = host_cookie(ctx, device_name, Some(&sealed), Some(DEVICE_MAX_AGE));
            answer = answer.with(name, value);
        }
    }
    Ok(Entered::Answer(answer))
}

/// Notes that nobody was signed in.
pub(super) fn note_failure(parts: &Parts, ctx: &Context, way: &str, reason: &'static str) {
    parts.metrics.sign_in_failed(reason);
    parts.logs.audit(&AuditLine {
        sign_in: Some(way),
        client: Some(ctx.client),
        request_id: Some(ctx.request_id_text()),
        reason: Some(reason),
        ..AuditLine::new(ctx.now, AuditEvent::SignInFailed)
    });
}
