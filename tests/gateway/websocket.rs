//! `WebSocket`: authentication comes before the upgrade, and afterwards bytes pass as they are.

use crate::support::{Answer, Gateway, HOST, Setup, Upstream};
use std::time::Duration;

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

#[test]
fn an_upgrade_without_a_session_is_refused_before_the_upstream_hears_of_it() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.get("/page").headers(&HANDSHAKE).send();
    assert_eq!(answer.status(), 401);
    assert!(upstream.requests().is_empty());
}

#[test]
fn bytes_pass_both_ways_once_the_upstream_has_agreed() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let mut wire = gateway.connect();
    let answer = alice
        .get("/page")
        .headers(&HANDSHAKE)
        .header("Origin", "https://wiki.example.com")
        .header("x_auth.user", "root")
        .send_over(&mut wire);
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let request = upstream.last();
    assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(request.header("x_auth.user"), None);
    assert_eq!(request.header("cookie"), None);
    for message in [
        &b"\x81\x85\x01\x02\x03\x04abcde"[..],
        &vec![0; 70_000],
        b"GET /ops HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
    ] {
        wire.write(message);
        assert!(wire.read_exactly(message.len()) == message, "the echo differs");
    }
    assert_eq!(upstream.requests().len(), 1, "nothing in a tunnel is a request");
    wire.finish_writing();
    assert!(wire.closes_within(Duration::from_secs(10)));
    gateway.wait_for_line("of the tunnel", |line| line["status"] == 101 && line["subject"] == "alice");
}

#[test]
fn what_comes_before_the_101_is_not_a_tunnel() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    // The upstream does not agree: it answers like any page, and bytes sent ahead never reach it unread.
    upstream.next(Answer::ok(&[]));
    let mut wire = gateway.connect();
    let smuggled = format!("GET /ops HTTP/1.1\r\nHost: {HOST}\r\nX-Auth-User: root\r\n\r\n");
    let handshake: Vec<String> =
        HANDSHAKE.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let handshake = handshake.concat();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n{handshake}\r\n{smuggled}"));
    assert_eq!(wire.response().status(), 200);
    let rest = String::from_utf8_lossy(&wire.rest()).into_owned();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 401"), "{rest}");
    assert_eq!(upstream.requests().len(), 1);
    assert!(!upstream.requests().iter().any(|request| request.target() == "/ops"));
}

#[test]
fn an_upgrade_that_is_not_a_websockets_goes_no_further() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for fields in [
        &[
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ][..],
        &[("Connection", "Upgrade"), ("Upgrade", "foo")],
    ] {
        let answer = gateway.get("/public").headers(fields).send();
        // Refused, or answered as if it had not been asked for.
        assert!([200, 400].contains(&answer.status()), "{fields:?}: {}", answer.status());
        if answer.status() == 200 {
            assert_eq!(upstream.last().header("upgrade"), None, "{fields:?}");
            assert_eq!(upstream.last().header("http2-settings"), None, "{fields:?}");
        }
    }
    for request in [
        format!(
            "POST /public HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"
        ),
        format!(
            "GET /public HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
    ] {
        let answer = gateway.raw(&request);
        assert!(answer.starts_with("HTTP/1.1 400"), "{request}\n{answer}");
    }
}

#[test]
fn a_quiet_tunnel_outlives_the_clocks_of_requests() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { head: 1s, body: 1s, keep_alive: 1s }")
        .set(
            "upstreams",
            &format!(
                "{{ app: {{ servers: [\"http://{}\"], timeouts: {{ read: 1s, write: 1s }} }} }}",
                upstream.address()
            ),
        )
        .start();
    let mut wire = gateway.connect();
    assert_eq!(gateway.get("/public").headers(&HANDSHAKE).send_over(&mut wire).status(), 101);
    assert!(!wire.closes_within(Duration::from_millis(2500)), "a pause is not an end");
    wire.write("still here");
    assert_eq!(wire.read_exactly(10), b"still here");
}

#[test]
fn a_101_that_nobody_asked_for_opens_nothing() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for request in
        ["GET /public HTTP/1.1", "GET /public HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket"]
    {
        upstream.next(Answer::new(
            "101 Switching Protocols",
            &[("Upgrade", "websocket"), ("Connection", "upgrade")],
            "",
        ));
        let mut wire = gateway.connect();
        wire.write(format!("{request}\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(wire.response().status(), 502, "{request}");
        assert!(wire.closes_within(Duration::from_secs(5)));
    }
}
