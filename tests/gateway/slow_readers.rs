//! A client that does not take its answer holds nothing for long.

use crate::support::wait::{now, pause};
use crate::support::{Answer, HOST, Setup, Upstream};
use std::io::Write;
use std::time::Duration;

/// More than the kernel keeps for a client that does not read.
const MEGABYTES: usize = 32;

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { write: 1s, keep_alive: 20s }")
}

#[test]
fn a_client_that_stops_reading_is_given_up() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let (gone, is_gone) = std::sync::mpsc::channel();
    upstream.next(Answer::talk(move |stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MEGABYTES << 20);
        let mut written = stream.write_all(head.as_bytes());
        let part = vec![b'x'; 1 << 16];
        for _ in 0..MEGABYTES << 4 {
            written = written.and_then(|()| stream.write_all(&part));
        }
        gone.send(written.is_err()).expect("the test waits");
    }));
    let mut wire = gateway.connect();
    let started = now();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let broken = is_gone.recv_timeout(Duration::from_secs(20)).expect("the upstream is let go");
    assert!(broken, "the gateway went on to take what nobody reads");
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    let line = gateway.wait_for_line("about it", |line| line["path"] == "/public");
    assert_eq!(line["reason"], "write_timeout", "{line}");
    assert!(wire.rest().len() < MEGABYTES << 20, "the answer is not whole");
}

#[test]
fn a_client_that_reads_slowly_but_steadily_gets_all() {
    let upstream = Upstream::answering(|_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 8 << 20);
        Answer::Bytes([head.into_bytes(), vec![b'x'; 8 << 20]].concat())
    });
    let gateway = setup(&upstream).start();
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.head().status(), 200);
    for _ in 0..8 {
        pause(Duration::from_millis(250));
        assert_eq!(wire.read_exactly(1 << 20).len(), 1 << 20);
    }
}

#[test]
fn a_client_that_asks_and_asks_and_reads_nothing_is_given_up_as_well() {
    // Small answers, each of which waits in our own buffer rather than in the kernel's.
    let upstream = Upstream::answering(|_| Answer::new("200 OK", &[], &"x".repeat(3000)));
    let gateway = setup(&upstream).start();
    let mut wire = gateway.connect();
    let requests = format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n").repeat(200);
    let started = now();
    let ended = loop {
        if let Err(error) = wire.try_write(&requests) {
            break error;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "it goes on and on");
    };
    assert!(started.elapsed() > Duration::from_millis(900), "{ended}: {:?}", started.elapsed());
    gateway.wait_for_line("about it", |line| line["reason"] == "write_timeout");
}
