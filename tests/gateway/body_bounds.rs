//! A route's bound on bodies: 413 before anything is sent on, or as soon as it is passed.

use crate::support::wait::until;
use crate::support::{Answer, Gateway, HOST, Setup, Upstream};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

fn bounded(upstream: &Upstream) -> Gateway {
    Setup::before(upstream)
        .set("limits", "{ body: 1MiB }")
        .routes(&[
            "{ name: small, host: wiki.example.com, path: /small, access: public, upstream: app, limits: { body: 1KiB } }",
            "{ name: none, host: wiki.example.com, path: /none, access: public, upstream: app, limits: { body: 0B } }",
            "{ name: usual, host: wiki.example.com, path: /, access: public, upstream: app }",
        ])
        .start()
}

fn too_large(gateway: &Gateway, route: &str) -> f64 {
    gateway.metric(&format!("vestibule_decisions_total{{outcome=\"too_large\",route=\"{route}\"}}"))
}

#[test]
fn a_declared_length_beyond_the_bound_is_refused_before_anything_is_sent_on() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    for (path, length, status) in [
        ("/small", 1024, 200),
        ("/small", 1025, 413),
        ("/none", 0, 200),
        ("/none", 1, 413),
        ("/", 1 << 20, 200),
        ("/", (1 << 20) + 1, 413),
    ] {
        let had = upstream.requests().len();
        let answer = gateway.post(path).body(vec![b'x'; length]).send();
        assert_eq!(answer.status(), status, "{path} {length}");
        if status == 413 {
            assert_eq!(upstream.requests().len(), had, "{path} {length}");
            assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
            assert_eq!(answer.json()["status"], 413);
            let line = gateway.access_line(&answer);
            assert_eq!((&line["reason"], &line["decision"]), (&"too_large".into(), &"too_large".into()));
        }
    }
    until("they are counted", || {
        (too_large(&gateway, "small") >= 1.0 && too_large(&gateway, "usual") >= 1.0).then_some(())
    });
}

#[test]
fn who_waits_for_a_100_gets_413_instead() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    let answer = gateway.raw(format!(
        "POST /small HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n"
    ));
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn who_sends_it_all_before_reading_still_sees_the_answer() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    for chunked in [false, true] {
        let mut wire = gateway.connect();
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 33554432" };
        wire.write(format!("POST /small HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n"));
        for _ in 0..512 {
            let part = vec![b'x'; 1 << 16];
            wire.write(if chunked { [b"10000\r\n", &part[..], b"\r\n"].concat() } else { part });
        }
        if chunked {
            wire.write("0\r\n\r\n");
        }
        let (answer, end) = wire.until_closed();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413"), "chunked: {chunked}: {answer}");
        end.expect("no reset takes the answer away");
    }
}

#[test]
fn a_body_without_a_length_is_counted_on_its_way_and_never_passed_as_complete() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    let mut wire = gateway.connect();
    wire.write(format!("POST /small HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    wire.write(["400\r\n", &"x".repeat(1024), "\r\n0\r\n\r\n"].concat());
    assert_eq!(wire.response().status(), 200, "as long as it may be");
    assert!(upstream.last().is_whole && upstream.last().body.len() == 1024);

    wire.write(format!("POST /small HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    wire.write(["400\r\n", &"x".repeat(1024), "\r\n"].concat());
    until("the first part is there", || (upstream.requests().len() == 2).then_some(()));
    wire.write("1\r\nx\r\n0\r\n\r\n");
    let answer = wire.response();
    assert_eq!((answer.status(), answer.header("connection").as_deref()), (413, Some("close")));
    let request = upstream.wait_for(2).pop().expect("two");
    assert!(!request.is_whole, "the upstream sees it break off");
    assert!(request.body.len() <= 1024, "{} bytes", request.body.len());
    until("it is counted", || (too_large(&gateway, "small") >= 1.0).then_some(()));
    assert!(wire.closes_within(Duration::from_secs(5)));
    assert_eq!(gateway.get("/small").send().status(), 200, "the next request is another");
}

#[test]
fn after_a_100_of_the_upstream_a_body_too_long_is_answered_as_well() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /small HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    assert_eq!(wire.response().status(), 100);
    wire.write(["800\r\n", &"x".repeat(2048), "\r\n0\r\n\r\n"].concat());
    assert_eq!(wire.response().status(), 413);
    assert!(!upstream.wait_for(1)[0].is_whole);
}

#[test]
fn an_answer_that_has_begun_breaks_off() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    let (ended, end) = mpsc::channel();
    upstream.next(Answer::talk(move |stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .expect("the gateway reads");
        let mut seen = Vec::new();
        // A reset is an end as well.
        drop(stream.read_to_end(&mut seen));
        ended.send(seen).expect("the test waits");
    }));
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /small HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    ));
    assert_eq!(wire.head().status(), 200);
    assert_eq!(wire.read_exactly(10), b"5\r\nfirst\r\n");
    drop(wire.try_write(["800\r\n", &"x".repeat(2048), "\r\n0\r\n\r\n"].concat()));
    assert_eq!(wire.rest(), b"", "no last chunk, and no second answer");
    let seen = end.recv_timeout(Duration::from_secs(20)).expect("the upstream is let go");
    assert!(!seen.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&seen));
    gateway.wait_for_line("about it", |line| line["reason"] == "too_large");
}

#[test]
fn a_websocket_is_no_body() {
    let upstream = Upstream::recording();
    let gateway = bounded(&upstream);
    let mut wire = gateway.connect();
    wire.write(format!(
        "GET /none HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(wire.head().status(), 101);
    let frames = [b"\x82\x7e\x04\x00".to_vec(), vec![b'x'; 1024]].concat().repeat(3);
    wire.write(&frames);
    assert_eq!(wire.read_exactly(frames.len()), frames);
}
