//! Nothing is gathered: each part goes on before the next one is there, and however long a message is, it takes no memory.

use crate::support::{Answer, Gateway, HOST, Setup, Upstream, wait};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

const EVENTS: usize = 100;
const LONG: u64 = 300 << 20;
/// What the gateway may grow by meanwhile.
const GROWTH_MAX: u64 = 20 << 20;
const PART: usize = 64 * 1024;

/// The framings in which an event stream comes: head, and an event as it looks inside.
type Framing = (&'static str, fn(&str) -> String);

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    let framings: [Framing; 3] = [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", |event| {
            format!("{:X}\r\n{event}\r\n", event.len())
        }),
        ("HTTP/1.1 200 OK\r\n", str::to_owned),
        ("HTTP/1.0 200 OK\r\n", str::to_owned),
    ];
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for (head, framed) in framings {
        let (heard, next) = channel();
        upstream.next(Answer::talk(move |talk| {
            let whole = format!("{head}Content-Type: text/event-stream\r\n\r\n");
            talk.write_all(whole.as_bytes()).expect("the gateway reads");
            for number in 0..EVENTS {
                let event = framed(&format!("data: {number}\n\n"));
                talk.write_all(event.as_bytes()).expect("the gateway reads");
                // The next event happens only once somebody has seen this one.
                next.recv_timeout(wait::PATIENCE).expect("the event arrives while the stream is open");
            }
        }));
        let mut wire = gateway.connect();
        wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n"));
        let answer = wire.head();
        assert_eq!(answer.header("transfer-encoding").as_deref(), Some("chunked"), "{head}");
        for number in 0..EVENTS {
            let event = format!("data: {number}\n\n");
            let framed = format!("{:X}\r\n{event}\r\n", event.len());
            assert_eq!(wire.read_exactly(framed.len()), framed.as_bytes(), "{head}");
            heard.send(()).expect("the upstream waits");
        }
    }
}

#[test]
fn both_sides_may_speak_at_the_same_time() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::talk(|talk| {
        talk.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("the gateway reads");
        let mut chunk = [0; 9];
        for _ in 0..EVENTS {
            talk.read_exact(&mut chunk).expect("a chunk comes before the upload is over");
            talk.write_all(&chunk).expect("the gateway reads");
        }
        let mut last = [0; 5];
        talk.read_exact(&mut last).expect("the upload ends");
        talk.write_all(&last).expect("the gateway reads");
    }));
    let mut wire = gateway.connect();
    wire.write(format!("POST /public HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(wire.head().status(), 200);
    for number in 0..EVENTS {
        let chunk = format!("4\r\n{number:04}\r\n");
        wire.write(&chunk);
        assert_eq!(wire.read_exactly(9), chunk.as_bytes(), "{number}");
    }
    wire.write("0\r\n\r\n");
    assert_eq!(wire.read_exactly(5), b"0\r\n\r\n");
}

#[test]
fn a_long_download_takes_no_memory_however_slowly_it_is_read() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.get("/public").send().status(), 200);
    let before = gateway.resident_bytes();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    upstream.next(Answer::talk(move |talk| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
        talk.write_all(head.as_bytes()).expect("the gateway reads");
        while counter.load(Ordering::Relaxed) < LONG {
            talk.write_all(&vec![7; PART]).expect("the gateway reads");
            counter.fetch_add(PART as u64, Ordering::Relaxed);
        }
    }));
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.head().header("content-length"), Some(LONG.to_string()));
    // The client does not read: the upstream is made to wait, and what is under way lies in the kernel.
    let mut known = u64::MAX;
    let held_back = wait::until("the upstream is made to wait", || {
        let now = sent.load(Ordering::Relaxed);
        wait::pause(std::time::Duration::from_millis(100));
        (std::mem::replace(&mut known, now) == now && now > 0).then_some(now)
    });
    assert!(held_back < LONG / 2, "{held_back} bytes went on without a reader");
    let mut most = gateway.resident_bytes();
    let mut left = LONG;
    while left > 0 {
        let part = wire.read_exactly(PART);
        assert!(part.iter().all(|&byte| byte == 7));
        left -= part.len() as u64;
        if left.is_multiple_of(16 << 20) {
            most = most.max(gateway.resident_bytes());
        }
    }
    assert!(most < before + GROWTH_MAX, "it grew from {before} to {most} bytes");
}

#[test]
fn a_long_upload_takes_no_memory() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.get("/public").send().status(), 200);
    let before = gateway.resident_bytes();
    let (tell, told) = channel();
    upstream.next(Answer::talk(move |talk| {
        let (mut part, mut left) = (vec![0; PART], LONG);
        while left > 0 {
            let read = talk.read(&mut part).expect("the upload comes");
            assert!(read > 0 && part[..read].iter().all(|&byte| byte == 7));
            left -= read as u64;
        }
        tell.send(()).expect("the test waits");
        talk.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("the gateway reads");
    }));
    let mut wire = gateway.connect();
    wire.write(format!("PUT /public HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LONG}\r\n\r\n"));
    let mut most = before;
    for part in 0..LONG / PART as u64 {
        wire.write(vec![7; PART]);
        if part.is_multiple_of(256) {
            most = most.max(gateway.resident_bytes());
        }
    }
    assert_eq!(wire.response().status(), 204);
    told.recv_timeout(wait::PATIENCE).expect("all of it has arrived");
    assert!(most < before + GROWTH_MAX, "it grew from {before} to {most} bytes");
}

#[test]
fn parts_of_a_page_are_asked_for_and_passed_on_as_they_are() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    for (asked, status, fields, body) in [
        ("bytes=0-3", "206 Partial Content", "Content-Range: bytes 0-3/10\r\n", "0123"),
        (
            "bytes=0-0,9-9",
            "206 Partial Content",
            "Content-Type: multipart/byteranges; boundary=B\r\n",
            "--B\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--B\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--B--\r\n",
        ),
        ("bytes=20-", "416 Range Not Satisfiable", "Content-Range: bytes */10\r\n", ""),
        ("lines=1-2", "200 OK", "", "0123456789"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        upstream.next(Answer::Bytes(answer.into_bytes()));
        let request = gateway.get("/public").header("Range", asked).header("If-Range", "\"a\"");
        let answer = request.send_over(&mut wire);
        assert_eq!((answer.first_line(), answer.text()), (format!("HTTP/1.1 {status}"), body.to_owned()));
        let content_range = answer.header("content-range").map(|range| format!("Content-Range: {range}\r\n"));
        assert_eq!(
            content_range.as_deref().unwrap_or_default(),
            if fields.contains("Range") { fields } else { "" }
        );
        let request = upstream.last();
        assert_eq!(request.header("range").as_deref(), Some(asked));
        assert_eq!(request.header("if-range").as_deref(), Some("\"a\""));
    }
}

#[test]
fn hints_go_on_before_the_answer_is_there() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (seen, go) = channel();
    upstream.next(Answer::talk(move |talk| {
        talk.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nSet-Cookie: __Host-session=planted\r\n\r\n")
            .expect("the gateway reads");
        go.recv_timeout(wait::PATIENCE).expect("the hint goes on by itself");
        talk.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").expect("the gateway reads");
        go.recv_timeout(wait::PATIENCE).expect("the next one too");
        talk.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("the gateway reads");
    }));
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let hint = wire.response();
    assert_eq!((hint.status(), hint.header("link").as_deref()), (103, Some("</a.css>; rel=preload")));
    assert!(hint.all("set-cookie").is_empty(), "ours is not set in a 1xx either");
    seen.send(()).expect("the upstream waits");
    assert_eq!(wire.response().status(), 102);
    seen.send(()).expect("the upstream waits");
    let answer = wire.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
}

#[test]
fn an_upstream_may_answer_instead_of_saying_that_it_wants_the_body() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { body: 1s }")
        .start();
    for chunked in [false, true] {
        upstream.next(Answer::talk(|talk| {
            let answer =
                b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n";
            talk.write_all(answer).expect("the gateway reads");
        }));
        let mut wire = gateway.connect();
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 1000000" };
        wire.write(format!(
            "PUT /public HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\n{framing}\r\n\r\n"
        ));
        let answer = wire.response();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "no\n"));
        // The body was never sent, and whatever comes now is not taken for it nor for a request.
        drop(wire.try_write(format!("GET /public/inside HTTP/1.1\r\nHost: {HOST}\r\n\r\n")));
        assert!(!String::from_utf8_lossy(&wire.rest()).contains("HTTP/1.1 200"));
    }
    assert!(upstream.requests().iter().all(|request| request.target() == "/public"));
}

#[test]
fn a_body_that_is_sent_without_waiting_for_a_100_arrives() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /public HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    ));
    let mut answer = wire.response();
    if answer.status() == 100 {
        answer = wire.response();
    }
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.last().text(), "hello");
    assert_eq!(upstream.requests().len(), 1);
    // And the next request on the connection is its own.
    assert_eq!(gateway.get("/public").send_over(&mut wire).status(), 200);
}
