//! Every wait for a client has an end: for a head as a whole, between two requests, inside a body.

use crate::support::wait::{now, pause};
use crate::support::{Setup, Upstream};
use std::time::Duration;

const HEAD: &str = "GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n";

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { head: 1s, body: 1s, keep_alive: 2s }")
}

#[test]
fn a_head_has_one_deadline_as_a_whole() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for first in [true, false] {
        let mut wire = gateway.connect();
        if !first {
            // On a connection that is kept the promise is the same.
            wire.write(format!("{HEAD}\r\n"));
            assert_eq!(wire.response().status(), 200);
        }
        let started = now();
        wire.write(HEAD);
        // A byte now and then does not help.
        for _ in 0..40 {
            if wire.try_write("X").is_err() || wire.closes_or_answers(Duration::from_millis(100)) {
                break;
            }
        }
        let took = started.elapsed();
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(took < Duration::from_millis(2500), "first: {first}, took {took:?}");
        assert!(took > Duration::from_millis(900), "first: {first}, took {took:?}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    gateway
        .wait_for_line("about the late head", |line| line["reason"] == "head_late" && line["status"] == 408);
    assert!(gateway.metric("vestibule_refused_heads_total{reason=\"head_late\"}") >= 2.0);
}

#[test]
fn empty_lines_do_not_put_the_deadline_off() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let mut wire = gateway.connect();
    let started = now();
    for _ in 0..40 {
        if wire.try_write("\r\n").is_err() || wire.closes_or_answers(Duration::from_millis(100)) {
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
}

#[test]
fn a_connection_on_which_nothing_is_asked_is_closed() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let mut silent = gateway.connect();
    let started = now();
    assert!(silent.closes_within(Duration::from_secs(4)));
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
}

#[test]
fn a_kept_connection_is_closed_after_its_pause_and_not_before() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let mut wire = gateway.connect();
    for _ in 0..2 {
        wire.write(format!("{HEAD}\r\n"));
        assert_eq!(wire.response().status(), 200);
        // Longer than a head may take, shorter than a pause may last.
        pause(Duration::from_millis(1300));
    }
    wire.write(format!("{HEAD}\r\n"));
    assert_eq!(wire.response().status(), 200);
    let started = now();
    assert!(wire.closes_within(Duration::from_secs(5)));
    assert!(started.elapsed() > Duration::from_millis(1800), "{:?}", started.elapsed());
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let mut wire = gateway.connect();
    let started = now();
    wire.write("POST /public HTTP/1.1\r\nHost: wiki.example.com\r\nContent-Length: 100\r\n\r\nonly this");
    let answer = wire.rest();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    gateway.wait_for_line("about the body", |line| line["path"] == "/public" && line["reason"].is_string());
    assert!(!upstream.wait_for(1)[0].is_whole);
}

#[test]
fn a_form_that_stops_coming_is_given_up() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let mut wire = gateway.connect();
    let started = now();
    wire.write(
        "POST /_vestibule/login HTTP/1.1\r\nHost: wiki.example.com\r\nOrigin: https://wiki.example.com\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nuser=alice",
    );
    drop(wire.rest());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    gateway.wait_for_line("about the form", |line| {
        line["path"] == "/_vestibule/login" && line["reason"].is_string()
    });
}

#[test]
fn slow_connections_keep_nobody_out() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let mut slow: Vec<_> = (0..64).map(|_| gateway.connect()).collect();
    for wire in &mut slow {
        wire.write("GET /pub");
    }
    assert_eq!(gateway.get("/public").send().status(), 200);
}
