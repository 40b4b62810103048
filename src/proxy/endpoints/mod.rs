//! The gateway's own paths, under `/_vestibule` on every host that some route matches.

mod account;
mod choose;
mod exchange;
mod form;
mod jwks;
mod login;
pub(crate) mod logout;
mod session;

use crate::domain::cookie::{self, CookieLine, Found};
use crate::domain::decision::Rejection;
use crate::domain::secret::Secret;
use crate::domain::session::{Cause, End, Kind, Session};
use crate::proxy::admit::{self, Asking};
use crate::proxy::context::Context;
use crate::proxy::parts::{Parts, durable};
use crate::proxy::read;
use crate::proxy::respond::Answer;
use crate::store::journal::Commit;
use crate::store::table::Ended;
use http::header::{COOKIE, ORIGIN, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use std::borrow::Cow;
use std::time::Duration;

/// More sessions than these a page counts and does not show.
const LISTED_MAX: usize = 100;
/// Where to sign in.
const LOGIN: &str = "/_vestibule/login";

/// Answers the own path `path`: what follows `/_vestibule/`.
pub(crate) async fn answer(
    parts: &Parts,
    exchange: &mut Exchange,
    ctx: &mut Context,
    path: &str,
) -> Result<Answer, Rejection> {
    let method = exchange.req_header().method.clone();
    let allowed: &[Method] = match path {
        "login" | "logout" | "account" => &[Method::GET, Method::HEAD, Method::POST],
        "jwks.json" => &[Method::GET, Method::HEAD],
        "session" if ctx.snapshot.trades_tokens() => {
            &[Method::GET, Method::HEAD, Method::POST, Method::DELETE]
        }
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
        ("account", true) => account::ask(parts, exchange.req_header(), ctx),
        ("account", false) => account::answer(parts, exchange, ctx).await,
        ("jwks.json", _) => jwks::tell(exchange.req_header(), ctx),
        (_, false) if method == Method::POST => exchange::trade(parts, exchange.req_header(), ctx).await,
        (_, true) => session::tell(parts, exchange.req_header(), ctx),
        (_, false) => session::end(parts, exchange.req_header(), ctx).await,
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
        link: None,
        secured: None,
        now: ctx.now,
        wall: &|| parts.clock.wall(),
    };
    admit::session(&asking, &head.headers)
}

/// Every live session that this request's cookies open: one, unless somebody planted another beside it. Such a request
/// counts as nobody's, but signing out, or in anew, has to end them all.
///
/// # Errors
///
/// More cookies of our name than anybody looks at: then nobody can say that all sessions were ended.
pub(crate) fn presented_sessions(
    parts: &Parts,
    head: &RequestHeader,
    ctx: &Context,
) -> Result<Vec<Session>, Rejection> {
    let Some(tokens) = &ctx.snapshot.session_tokens else { return Ok(Vec::new()) };
    let fields = head.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let values = match cookie::find(fields, ctx.snapshot.cookie_name(ctx.outside())) {
        Found::One(value) => vec![value],
        Found::Several(values) => values,
        Found::None => Vec::new(),
        Found::TooMany => return Err(Rejection::BadRequest("session_cookies")),
    };
    let scope = ctx.snapshot.scope(ctx.outside(), read::host_of(head).name());
    let live = |value| tokens.look_up(&parts.sessions, value, scope, ctx.now).ok();
    Ok(values.into_iter().filter_map(live).collect())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// Whether a form or script on one of our own pages sent this (design: "Forms demand same-origin proof").
pub(crate) fn is_own_form(head: &RequestHeader, ctx: &Context) -> bool {
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

/// What the browser calls itself.
pub(crate) fn user_agent(head: &RequestHeader) -> Cow<'_, str> {
    String::from_utf8_lossy(header(&head.headers, USER_AGENT.as_str()).unwrap_or_default())
}

/// Ends a session and notes it; the answer has to wait until it is [`kept`].
fn end_session(parts: &Parts, ctx: &Context, session: &Session, end: End) -> Commit {
    note_ended(parts, ctx, parts.sessions.end_by_id(&session.id(), end), end)
}

/// Notes what this exchange has ended.
fn note_ended(parts: &Parts, ctx: &Context, ended: Ended, end: End) -> Commit {
    parts.note_ended(&ended.sessions, end, Some(ctx.client), Some(ctx.request_id_text()), ctx.now);
    ended.commit
}

/// Waits until the store has the ends.
///
/// # Errors
///
/// It cannot keep one of them now. They are in force all the same, and the store goes on trying.
pub(crate) async fn kept(ends: Vec<Commit>) -> Result<(), Rejection> {
    for end in ends {
        // Not for the others too: each would take as long.
        durable(end).await.map_err(|_| Rejection::StoreUnavailable)?;
    }
    Ok(())
}

/// The session cookie of this session, with its configured attributes; `value` absent clears it.
///
/// Where it outlives the browser, then no longer than the session can; an anonymous one does not.
pub(crate) fn session_cookie(
    parts: &Parts,
    ctx: &Context,
    value: Option<(&Secret<String>, &Session)>,
) -> (&'static str, HeaderValue) {
    let settings = &ctx.snapshot.cookie;
    let https = ctx.outside().https;
    let line = CookieLine {
        name: ctx.snapshot.cookie_name(ctx.outside()),
        secure: https,
        same_site: ctx.snapshot.same_site(ctx.outside()),
        max_age: value.and_then(|(_, session)| {
            let outlives_the_browser = match session.kind() {
                Kind::SignedIn => settings.persistent,
                Kind::Remembered => true,
                Kind::Anonymous => false,
            };
            let left = session.ends_at(&parts.sessions.clocks()).since(parts.clock.now());
            // Up to the next second: 0 would clear the cookie of a session that still lives.
            outlives_the_browser.then(|| Duration::from_secs(left.as_millis().div_ceil(1000) as u64))
        }),
        partitioned: https && settings.partitioned,
        domain: settings.unsafe_domain.as_deref(),
    };
    (
        "Set-Cookie",
        value.map_or_else(|| cookie::clear_cookie(&line), |(value, _)| cookie::set_cookie(&line, value)),
    )
}
