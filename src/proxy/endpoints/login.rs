//! `login`: the page with every way in, and the form's answer.
//!
//! The form is bound to the browser by a random cookie and a token made from it, so that no other site can sign a visitor
//! in (login CSRF). A sign-in always opens a new session under a new token; the one that the browser came with is dead at once.

use super::form::{self, Form};
use super::{header, host_cookie, is_own_form, own_cookie, presented_sessions, session_cookie};
use crate::auth::password::Refused;
use crate::auth::throttle::Network;
use crate::domain::decision::Rejection;
use crate::domain::return_to::ReturnTo;
use crate::domain::session::End;
use crate::domain::target::Target;
use crate::proxy::context::Context;
use crate::proxy::pages::{Login, Message, Page, Way, field};
use crate::proxy::parts::{NewSession, Parts};
use crate::proxy::read;
use crate::proxy::respond::Answer;
use crate::proxy::snapshot::Snapshot;
use crate::telemetry::{AuditEvent, AuditLine};
use http::header::USER_AGENT;
use http::{HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use std::time::Duration;

/// What the form token is good for.
const PURPOSE: &str = "login";
/// How long a browser counts as one that has signed in here before.
const DEVICE_MAX_AGE: Duration = Duration::from_hours(24 * 90);

/// Shows the form.
pub(super) fn ask(head: &RequestHeader, ctx: &mut Context) -> Result<Answer, Rejection> {
    let query = head.uri.query().unwrap_or_default();
    let return_to = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == field::RETURN_TO)
        .map_or_else(|| ReturnTo::parse("/"), |(_, value)| ReturnTo::parse(&value));
    let shown = Shown { return_to: &return_to, user: "", way: None, message: None, status: StatusCode::OK };
    page(head, ctx, &shown)
}

/// What the page is to show.
struct Shown<'a> {
    return_to: &'a ReturnTo,
    user: &'a str,
    way: Option<usize>,
    message: Option<Message>,
    status: StatusCode,
}

fn page(head: &RequestHeader, ctx: &Context, shown: &Shown<'_>) -> Result<Answer, Rejection> {
    let ways = ways_of(&ctx.snapshot, head, shown.return_to);
    let forms = ctx.snapshot.forms.as_ref().filter(|_| !ways.is_empty()).ok_or(Rejection::NoRoute)?;
    let (browser, fresh) = form::browser_of(forms, head, ctx)?;
    let form_token = forms.issue(&browser, PURPOSE, ctx.now);
    let chosen = shown.way.filter(|way| ways.contains(way)).unwrap_or(ways[0]);
    let listed: Vec<Way<'_>> = ways
        .iter()
        .map(|&way| Way { name: &ctx.snapshot.ways[way].settings().name, chosen: way == chosen })
        .collect();
    let login = Login {
        ways: &listed,
        return_to: shown.return_to.as_str(),
        form_token: &form_token,
        user: shown.user,
        message: shown.message,
    };
    let mut answer = Answer::page(shown.status, ctx, head, &Page::Login(login));
    if let Some((name, value)) = fresh {
        answer = answer.with(name, value);
    }
    Ok(answer)
}

/// The ways in of the route that `return_to` falls on; where it has none, all ways of this host's routes.
fn ways_of(snapshot: &Snapshot, head: &RequestHeader, return_to: &ReturnTo) -> Vec<usize> {
    let host = read::host_of(head);
    let path = return_to.as_str();
    let route = Target::parse(path.as_bytes()).ok().and_then(|target| {
        // A route of another method is none for the page that the browser will open.
        snapshot.routes.find(host.name(), &target, &Method::GET).ok()
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

/// Takes the form: a session and a redirect, or the form again with what went wrong.
pub(super) async fn answer(
    parts: &Parts,
    exchange: &mut Exchange,
    ctx: &mut Context,
) -> Result<Answer, Rejection> {
    if !is_own_form(exchange.req_header(), ctx) {
        return Err(Rejection::BadForm("other_origin"));
    }
    let form = Form::read(exchange).await?;
    let head = exchange.req_header();
    let return_to = ReturnTo::parse(form.field(field::RETURN_TO));
    let user = form.field(field::USER);
    let ways = ways_of(&ctx.snapshot, head, &return_to);
    let named = form.field(field::WAY);
    let way = match ways.iter().copied().find(|&way| ctx.snapshot.ways[way].settings().name == named) {
        Some(way) => way,
        None if named.is_empty() && ways.len() == 1 => ways[0],
        None => return Err(Rejection::BadForm("way")),
    };
    let again = |ctx: &Context, message, status| {
        page(
            head,
            ctx,
            &Shown { return_to: &return_to, user, way: Some(way), message: Some(message), status },
        )
    };
    let forms = ctx.snapshot.forms.as_ref().ok_or(Rejection::NoRoute)?;
    if !form::is_proved(forms, head, ctx, PURPOSE, form.field(field::FORM_TOKEN)) {
        return again(ctx, Message::Expired, StatusCode::FORBIDDEN);
    }
    let password_way = ctx.snapshot.ways[way].clone();
    let device_name = Snapshot::device_cookie(ctx.outside());
    let device = own_cookie(&head.headers, device_name).map(str::to_owned);
    let password = form.secret(field::PASSWORD);
    let tried =
        password_way.sign_in(user, password, Network::of(ctx.client), device.as_deref(), ctx.now).await;
    let found = match tried {
        Ok(found) => found,
        Err(refused) => {
            note_failure(parts, ctx, &password_way.settings().name, refused);
            return match refused {
                Refused::Wrong => again(ctx, Message::Wrong, StatusCode::FORBIDDEN),
                Refused::Throttled(wait) => {
                    let seconds = wait.as_secs().max(1);
                    again(ctx, Message::Wait(seconds), StatusCode::TOO_MANY_REQUESTS)
                        .map(|answer| answer.with("Retry-After", HeaderValue::from(seconds)))
                }
                Refused::Busy => again(ctx, Message::Busy, StatusCode::SERVICE_UNAVAILABLE)
                    .map(|answer| answer.with("Retry-After", HeaderValue::from_static("5"))),
            };
        }
    };
    let scope = ctx.snapshot.scope(ctx.outside(), read::host_of(head).name());
    let user_agent = String::from_utf8_lossy(header(&head.headers, USER_AGENT.as_str()).unwrap_or_default());
    let new = NewSession {
        way,
        identity: found.identity(),
        scope,
        client: ctx.client,
        user_agent: &user_agent,
        request_id: ctx.request_id_text(),
    };
    // The hash took its time; the session begins now, not when the form arrived.
    let now = parts.clock.now();
    let (session, token) = match parts.open_session(&ctx.snapshot, &new, now) {
        Ok(opened) => opened,
        Err(Rejection::SessionsFull) => {
            return again(ctx, Message::Full, StatusCode::SERVICE_UNAVAILABLE)
                .map(|answer| answer.with("Retry-After", HeaderValue::from_static("60")));
        }
        Err(rejection) => return Err(rejection),
    };
    // The users file may have changed in between; its sessions were ended before this one stood in the table. The way of
    // this exchange is told of the next reload only, so it is the one in force that counts.
    let in_force = parts.snapshot.load();
    let entry = password_way.settings().id;
    let still = in_force.ways.iter().find(|way| way.settings().id == entry).map(|way| way.users());
    if still.as_deref().and_then(|users| users.find(user)) != Some(&found) {
        let ended = parts.sessions.end(session.digest(), End::Credential);
        parts.note_ended(
            ended.as_slice(),
            End::Credential,
            Some(ctx.client),
            Some(ctx.request_id_text()),
            now,
        );
        return again(ctx, Message::Wrong, StatusCode::FORBIDDEN);
    }
    for before in presented_sessions(parts, head, ctx) {
        if let Some(ended) = parts.sessions.end(before.digest(), End::Superseded) {
            parts.note_ended(&[ended], End::Superseded, Some(ctx.client), Some(ctx.request_id_text()), now);
        }
    }
    let (name, value) = session_cookie(parts, ctx, Some(&token));
    let mut answer = Answer::redirect(StatusCode::SEE_OTHER, return_to.as_str()).with(name, value);
    if let Some(devices) = &ctx.snapshot.devices {
        let identity = session.identity();
        // A browser without the mark signs in as a stranger would; no reason to refuse this one now.
        if let Ok(sealed) = devices.seal(identity.source(), identity.subject(), now) {
            let (name, value) = host_cookie(ctx, device_name, Some(&sealed), Some(DEVICE_MAX_AGE));
            answer = answer.with(name, value);
        }
    }
    Ok(answer)
}

fn note_failure(parts: &Parts, ctx: &Context, way: &str, refused: Refused) {
    parts.metrics.sign_in_failed(refused.reason());
    parts.logs.audit(&AuditLine {
        sign_in: Some(way),
        client: Some(ctx.client),
        request_id: Some(ctx.request_id_text()),
        reason: Some(refused.reason()),
        ..AuditLine::new(ctx.now, AuditEvent::SignInFailed)
    });
}
