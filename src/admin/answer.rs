//! Answers of the door: JSON, text, pages and problem documents (RFC 9457). None of them may be stored.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

/// An answer, complete.
pub type Answer = Response<Vec<u8>>;

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("what we answer has string keys and no failing parts");
    with_body(status, "application/json", body)
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    with_body(status, "text/plain; charset=utf-8", body.into().into_bytes())
}

pub(super) fn metrics(body: String) -> Answer {
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body.into_bytes())
}

/// A page that loads nothing, runs nothing and posts only to itself.
pub(super) fn page(status: StatusCode, html: String) -> Answer {
    let mut answer = with_body(status, "text/html; charset=utf-8", html.into_bytes());
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    set(&mut answer, http::header::CONTENT_SECURITY_POLICY, policy);
    // Not `no-referrer`: browsers would then send the page's own form with `Origin: null`.
    set(&mut answer, http::header::REFERRER_POLICY, "same-origin");
    answer
}

pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = status;
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// What went wrong, for a program and for the person who reads its log.
pub(super) fn problem(status: StatusCode, detail: &str) -> Answer {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    with_body(status, "application/problem+json", body.to_string().into_bytes())
}

pub(super) fn unauthenticated(challenge: &'static str) -> Answer {
    let detail = "send `Authorization: Bearer` with the admin token of the configuration";
    let mut answer = problem(StatusCode::UNAUTHORIZED, detail);
    set(&mut answer, WWW_AUTHENTICATE, challenge);
    answer
}

pub(super) fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer =
        problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {allow}; see the Allow header"));
    set(&mut answer, ALLOW, allow);
    answer
}

pub(super) fn full(detail: &str) -> Answer {
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    set(&mut answer, RETRY_AFTER, "60");
    answer
}

/// What needs the store, while it cannot write.
pub(super) fn unavailable(detail: &str) -> Answer {
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    set(&mut answer, RETRY_AFTER, "5");
    answer
}

pub(super) fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn with_body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = empty(status);
    set(&mut answer, CONTENT_TYPE, content_type);
    set(&mut answer, http::header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *answer.body_mut() = body;
    answer
}
