//! The gateway's own paths, under `/_vestibule` on every host that some route matches.

mod form;
mod login;
mod logout;
mod session;

use crate::domain::cookie::{self, CookieLine, Found};
use crate::domain::decision::Rejection;
use crate::domain::secret::Secret;
use crate::domain::session::{Cause, Session};
use crate::proxy::admit::{self, Asking};
use crate::proxy::context::Context;
use crate::proxy::parts::Parts;
use crate::proxy::read;
use crate::proxy::respond::Answer;
use http::header::{COOKIE, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use std::time::Duration;

/// Answers the own path `path`: what follows `/_vestibule/`.
pub(crate) async fn answer(
    parts: &Parts,
    exchange: &mut Exchange,
    ctx: &mut Context,
    path: &str,
) -> Result<Answer, Rejection> {
    let method = exchange.req_header().method.clone();
    let allowed: &[Method] = match path {
        "login" | "logout" => &[Method::GET, Method::HEAD, Method::POST],
        "session" => &[Method::GET, Method::HEAD, Method::DELETE],
        _ => return Err(Rejection::NoRoute),
    };
    if !allowed.contains(&method) {
        return Err(Rejection::Method(allowed.to_vec()));
    }
    match (path, method.is_safe()) {
        ("login", true) => login::ask(exchange.req_header(), ctx),
        ("login", false) => login::answer(parts, exchange, ctx).await,
        ("logout", true) => logout::ask(parts, exchange.req_header(), ctx),
        ("logout", false) => logout::answer(parts, exchange, ctx).await,
        (_, true) => session::tell(parts, exchange.req_header(), ctx),
        (_, false) => session::end(parts, exchange.req_header(), ctx),
    }
}

/// The live session that this request's cookie opens. Its use here does not count as one.
fn current_session(parts: &Parts, head: &RequestHeader, ctx: &Context) -> Result<Session, Cause> {
    let host = read::host_of(head);
    let asking = Asking {
        snapshot: &ctx.snapshot,
        sessions: &parts.sessions,
        outside: ctx.outside(),
        host: &host,
        now: ctx.now,
        wall: &|| parts.clock.wall(),
    };
    admit::session(&asking, &head.headers)
}

/// Every live session that this request's cookies open: one, unless somebody planted another beside it. Such a request
/// counts as nobody's, but signing out, or in anew, has to end them all.
fn presented_sessions(parts: &Parts, head: &RequestHeader, ctx: &Context) -> Vec<Session> {
    let Some(tokens) = &ctx.snapshot.session_tokens else { return Vec::new() };
    let fields = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let values = match cookie::find(fields, ctx.snapshot.cookie_name(ctx.outside())) {
        Found::One(value) => vec![value],
        Found::Several(values) => values,
        Found::None | Found::TooMany => Vec::new(),
    };
    let scope = ctx.snapshot.scope(ctx.outside(), read::host_of(head).name());
    values
        .into_iter()
        .filter_map(|value| tokens.look_up(&parts.sessions, value, scope, ctx.now).ok())
        .collect()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// Whether a form or script on one of our own pages sent this (design: "Forms demand same-origin proof").
fn is_own_form(head: &RequestHeader, ctx: &Context) -> bool {
    let ours = admit::own_origin(ctx.outside(), &read::host_of(head));
    let origin = head.headers.get(ORIGIN).map(HeaderValue::as_bytes);
    crate::domain::origin::is_own_form(header(&head.headers, "sec-fetch-site"), origin, &ours)
}

/// The one value of a cookie of ours; none if it is absent or comes with different values.
fn own_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    match cookie::find(headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes), name) {
        Found::One(value) => std::str::from_utf8(value).ok(),
        Found::None | Found::Several(_) | Found::TooMany => None,
    }
}

/// A cookie of ours for this host alone; `value` absent clears it.
fn host_cookie(
    ctx: &Context,
    name: &str,
    value: Option<&Secret<String>>,
    max_age: Option<Duration>,
) -> (&'static str, HeaderValue) {
    let line = CookieLine {
        name,
        secure: ctx.outside().https,
        same_site: ::cookie::SameSite::Lax,
        max_age,
        partitioned: false,
        domain: None,
    };
    (
        "Set-Cookie",
        value.map_or_else(|| cookie::clear_cookie(&line), |value| cookie::set_cookie(&line, value)),
    )
}

/// The session cookie with its configured attributes; `value` absent clears it.
fn session_cookie(
    parts: &Parts,
    ctx: &Context,
    value: Option<&Secret<String>>,
) -> (&'static str, HeaderValue) {
    let settings = &ctx.snapshot.cookie;
    let https = ctx.outside().https;
    let line = CookieLine {
        name: ctx.snapshot.cookie_name(ctx.outside()),
        secure: https,
        // Without https a browser takes no SameSite=None cookie.
        same_site: if https { settings.same_site } else { ::cookie::SameSite::Lax },
        max_age: settings.persistent.then(|| parts.sessions.lifetimes().absolute_lifetime),
        partitioned: https && settings.partitioned,
        domain: settings.unsafe_domain.as_deref(),
    };
    (
        "Set-Cookie",
        value.map_or_else(|| cookie::clear_cookie(&line), |value| cookie::set_cookie(&line, value)),
    )
}
