//! SIGTERM finishes what runs and ends at once when nothing does.

use crate::support::wait::{now, until, within};
use crate::support::{Answer, Gateway, HOST, Setup, Upstream};
use rustix::process::Signal;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn an_idle_gateway_ends_at_once() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let mut kept = gateway.connect();
    assert_eq!(gateway.get("/public").send_over(&mut kept).status(), 200);
    let started = now();
    gateway.signal(Signal::TERM);
    let status = gateway.wait_for_end(Duration::from_secs(10)).expect("it ends");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?} with a kept connection open",
        started.elapsed()
    );
    assert!(status.success(), "{status}");
    assert!(kept.closes_within(Duration::from_secs(1)));
    gateway.audit("stopped");
}

#[test]
fn a_running_exchange_is_finished_and_newcomers_are_refused() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfinished");
    upstream.next(answer);
    let mut wire = gateway.connect();
    wire.write(format!("GET /public/slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    upstream.wait_for(1);
    gateway.signal(Signal::TERM);
    let address = gateway.address();
    let refused = within(Duration::from_secs(5), || TcpStream::connect(address).is_err().then_some(()));
    assert!(refused.is_some(), "it still accepts");
    assert!(gateway.wait_for_end(Duration::from_millis(300)).is_none(), "the exchange still runs");
    gate.open();
    assert_eq!(wire.response().text(), "finished");
    let status = gateway.wait_for_end(Duration::from_secs(2)).expect("it ends once nothing runs");
    assert!(status.success(), "{status}");
    gateway.wait_for_line("of the slow exchange", |line| {
        line["path"] == "/public/slow" && line["status"] == 200
    });
}

#[test]
fn while_it_drains_it_says_so() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    upstream.next(answer);
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    upstream.wait_for(1);
    assert_eq!(gateway.admin("GET", "/readyz", "").status(), 200);
    gateway.signal(Signal::TERM);
    until("readyz is 503", || (gateway.admin("GET", "/readyz", "").status() == 503).then_some(()));
    // Again and again, not only by luck.
    for _ in 0..20 {
        assert_eq!(gateway.admin("GET", "/readyz", "").status(), 503);
    }
    gate.open();
    assert!(gateway.wait_for_end(Duration::from_secs(3)).is_some());
}

#[test]
fn what_does_not_finish_is_cut_after_the_drain() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).set("drain", "1s").start();
    let (answer, _gate) = Answer::held(b"");
    upstream.next(answer);
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    upstream.wait_for(1);
    let started = now();
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_for_end(Duration::from_secs(5)).is_some(), "it does not wait for ever");
    let took = started.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_second_signal_waits_for_nobody() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).set("drain", "30s").start();
    let (answer, _gate) = Answer::held(b"");
    upstream.next(answer);
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    upstream.wait_for(1);
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_for_end(Duration::from_millis(400)).is_none());
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_for_end(Duration::from_secs(2)).is_some());
}

#[test]
fn a_port_that_is_taken_is_said_and_is_a_failure() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let config = gateway.folder().config();
    let second = crate::support::command::vestibule(
        gateway.folder().path(),
        &["run", "-c", config.to_str().expect("a path of ours is text")],
        "",
    );
    assert_eq!(second.code, 1, "{second:?}");
    // The operator's door is bound first.
    assert!(second.err.contains(&gateway.port("admin").to_string()), "{second:?}");
    assert_eq!(gateway.get("/public").send().status(), 200);
}
