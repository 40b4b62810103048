//! Bodies stream through in both directions, and the small print of answers holds.

use crate::support::{Answer, Gateway, HOST, Upstream};
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

const MEGABYTES: usize = 24;

#[test]
fn a_large_upload_and_a_large_download_arrive_whole() {
    let upstream = Upstream::answering(|_| {
        Answer::Bytes(
            [b"HTTP/1.1 200 OK\r\nContent-Length: 25165824\r\n\r\n".to_vec(), pattern(MEGABYTES << 20)]
                .concat(),
        )
    });
    let gateway = Gateway::before(&upstream);
    let body = pattern(MEGABYTES << 20);
    let answer = gateway.post("/public").body(body.clone()).send();
    assert_eq!(answer.status(), 200);
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
    assert!(upstream.last().body == body, "{} bytes arrived", upstream.last().body.len());
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[test]
fn an_upload_streams_and_is_not_gathered_first() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (seen, first_part) = mpsc::channel();
    upstream.next(Answer::talk(move |stream| {
        let mut part = [0; 5];
        stream.read_exact(&mut part).expect("the first part comes before the last");
        seen.send(part).expect("the test waits");
        stream.read_exact(&mut part).expect("the rest comes");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the gateway reads");
    }));
    let mut wire = gateway.connect();
    wire.write(format!("POST /public HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nfirst"));
    assert_eq!(&first_part.recv_timeout(Duration::from_secs(20)).expect("it streams"), b"first");
    wire.write("again");
    assert_eq!(wire.response().status(), 200);
}

#[test]
fn a_client_that_waits_for_a_100_hears_the_upstreams() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /public HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    ));
    assert_eq!(wire.response().status(), 100);
    wire.write("hello");
    assert_eq!(wire.response().status(), 200);
    assert_eq!(upstream.last().text(), "hello");
}

#[test]
fn a_stranger_who_waits_for_a_100_is_turned_away_without_one() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /page HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    ));
    assert_eq!(wire.response().status(), 401);
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_head_has_no_body_and_the_next_answer_is_its_own() {
    let upstream = Upstream::answering(|request| {
        if request.method() == "HEAD" {
            Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec())
        } else {
            Answer::ok(&[])
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    for _ in 0..2 {
        wire.write(format!(
            "HEAD /public HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        ));
        let head = wire.response_to("HEAD");
        assert_eq!((head.status(), head.header("content-length").as_deref()), (200, Some("1000")));
        assert_eq!(wire.response().text(), "hello from the application");
    }
    // Of ours too.
    for path in ["/page", "/_vestibule/login", "/_vestibule/session", "/_vestibule/nothing"] {
        wire.write(format!(
            "HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        ));
        let head = wire.response_to("HEAD");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}");
        assert_eq!(wire.response().text(), "hello from the application", "after {path}");
    }
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    for (status, field) in [("204 No Content", ""), ("304 Not Modified", "ETag: \"a\"\r\n")] {
        upstream.next(Answer::Bytes(format!("HTTP/1.1 {status}\r\n{field}\r\n").into_bytes()));
        assert_eq!(gateway.get("/public").send_over(&mut wire).first_line(), format!("HTTP/1.1 {status}"));
        assert_eq!(gateway.get("/public").send_over(&mut wire).text(), "hello from the application");
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::ThenClose(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_vec()));
    assert_eq!(gateway.get("/public").send().text(), "until the end");
}

#[test]
fn connections_to_the_upstream_are_used_again() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    for _ in 0..20 {
        assert_eq!(gateway.get("/public").send_over(&mut wire).status(), 200);
    }
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
}
