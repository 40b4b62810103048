//! One message in is one message out: pipelined requests, bodies and answers never mix.

use crate::support::{Answer, Gateway, HOST, Message, Upstream};
use std::time::Duration;

/// Answers with the target and the body of the request, so that a mixed-up answer shows.
fn mirror() -> Upstream {
    Upstream::answering(|request| Answer::new("200 OK", &[], &format!("answer to {}", request.target())))
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    let all: Vec<String> =
        (0..20).map(|number| format!("GET /public/{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).collect();
    wire.write(all.concat());
    for number in 0..20 {
        let answer = wire.response();
        assert_eq!((answer.status(), answer.text()), (200, format!("answer to /public/{number}")));
    }
    let targets: Vec<String> = upstream.requests().iter().map(Message::target).collect();
    assert_eq!(targets, (0..20).map(|number| format!("/public/{number}")).collect::<Vec<_>>());
}

#[test]
fn a_body_is_never_taken_for_a_request_nor_a_request_for_a_body() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    let inner = format!("GET /ops HTTP/1.1\r\nHost: {HOST}\r\nX-Auth-User: root\r\n\r\n");
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /public/a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{inner}\
         POST /public/b HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n\
         GET /public/c HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        inner.len(),
        inner.len()
    ));
    for name in ["a", "b", "c"] {
        assert_eq!(wire.response().text(), format!("answer to /public/{name}"));
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        (requests[0].text(), requests[1].text(), requests[2].text()),
        (inner.clone(), inner, String::new())
    );
}

#[test]
fn a_body_of_a_request_that_was_turned_away_is_never_read_as_a_request() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    let inner = format!("GET /public/inner HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for (target, framing, body) in [
        ("/page", format!("Content-Length: {}", inner.len()), inner.clone()),
        (
            "/page",
            "Transfer-Encoding: chunked".to_owned(),
            format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
        ),
        ("/_vestibule/nothing", format!("Content-Length: {}", inner.len()), inner.clone()),
        ("/_vestibule/session", format!("Content-Length: {}", inner.len()), inner.clone()),
        ("/public/../x", format!("Content-Length: {}", inner.len()), inner.clone()),
    ] {
        let mut wire = gateway.connect();
        drop(wire.try_write(format!("POST {target} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{body}")));
        drop(
            wire.try_write(format!(
                "GET /public/after HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            )),
        );
        let all = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(!all.contains("answer to /public/inner"), "{target}: {all}");
        assert!(all.matches("HTTP/1.1 ").count() <= 2, "{target}: {all}");
    }
    assert!(upstream.requests().iter().all(|request| request.target() == "/public/after"));
}

#[test]
fn an_answer_that_comes_late_stays_with_its_request() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    upstream.next(answer);
    let mut wire = gateway.connect();
    wire.write(format!("GET /public/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    upstream.wait_for(1);
    // The next one arrives while the first is being answered.
    wire.write(format!("GET /public/2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(gateway.get("/public/3").send().text(), "answer to /public/3");
    gate.open();
    assert_eq!(wire.response().text(), "late");
    assert_eq!(wire.response().text(), "answer to /public/2");
}

#[test]
fn a_connection_is_kept_or_closed_as_the_client_asks() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    for (version, connection, is_kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.0", "", false),
    ] {
        let mut wire = gateway.connect();
        wire.write(format!("GET /public/1 HTTP/{version}\r\nHost: {HOST}\r\n{connection}\r\n"));
        assert_eq!(wire.response().text(), "answer to /public/1", "{version} {connection}");
        assert_eq!(!wire.closes_within(Duration::from_millis(300)), is_kept, "{version} {connection}");
    }
}

#[test]
fn what_an_upstream_says_of_its_own_connection_goes_no_further() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::new(
        "200 OK",
        &[("Connection", "X-Inner"), ("X-Inner", "1"), ("Keep-Alive", "timeout=1"), ("X-Outer", "1")],
        "ok",
    ));
    let mut wire = gateway.connect();
    let answer = gateway.get("/public").send_over(&mut wire);
    assert_eq!(answer.header("x-outer").as_deref(), Some("1"));
    assert_eq!(answer.header("keep-alive"), None);
    let connection = answer.all("connection").join(",").to_ascii_lowercase();
    assert!(!connection.contains("x-inner"), "{connection}");
    assert_eq!(gateway.get("/public/2").send_over(&mut wire).text(), "answer to /public/2");
}

#[test]
fn a_client_of_http_10_gets_no_chunks() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for head in
        ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "Connection: close\r\n\r\nhello"]
    {
        upstream.next(Answer::ThenClose(format!("HTTP/1.1 200 OK\r\n{head}").into_bytes()));
        let mut wire = gateway.connect();
        wire.write(format!("GET /public HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n"));
        let all = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(all.ends_with("\r\n\r\nhello"), "{all}");
        assert!(!all.to_ascii_lowercase().contains("transfer-encoding"), "{all}");
    }
}
