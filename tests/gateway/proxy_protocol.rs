//! A listener behind a balancer learns its clients from the PROXY header that each connection begins with.

use crate::support::client::Wire;
use crate::support::wait::{now, until};
use crate::support::{Gateway, Setup, Upstream};
use std::time::Duration;

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 50000 443\r\n";
const GET: &[u8] = b"GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n";

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .listener(
            "external: { scheme: https, port: 443 }, proxy_protocol: true, timeouts: { head: 1s, keep_alive: 5s }",
        )
        .set("trusted_proxies", "[127.0.0.1]")
}

/// Version 2, for TCP over IPv4, with these further fields.
fn v2(command: u8, further: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + further.len()).expect("short").to_be_bytes();
    let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x01, 0xBB];
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11][..], &length, &addresses, further].concat()
}

/// Whom the access log names for the last request that reached the upstream.
fn client(gateway: &Gateway, upstream: &Upstream) -> serde_json::Value {
    let id = upstream.last().header("x-request-id").expect("every request has an id");
    gateway.wait_for_line("about the request", |line| line["request_id"] == id.as_str())["client"].clone()
}

/// So many connections were closed for this reason.
fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("vestibule_refused_connections_total{{reason=\"{reason}\"}}"))
}

#[test]
fn the_client_that_the_header_names_counts_as_the_peer_everywhere() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for header in [V1.to_vec(), v2(0x21, b""), v2(0x21, &[4, 0, 1, 0])] {
        let mut wire = gateway.connect();
        wire.write([&header, GET].concat());
        assert_eq!(wire.response().status(), 200);
        assert_eq!(client(&gateway, &upstream), "203.0.113.7");
        assert_eq!(upstream.last().header("x-forwarded-for").as_deref(), Some("203.0.113.7"));
        // The name holds for the connection, and a client's own word counts for nothing.
        wire.write("GET /public HTTP/1.1\r\nHost: wiki.example.com\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n");
        assert_eq!(wire.response().status(), 200);
        assert_eq!(client(&gateway, &upstream), "203.0.113.7");
        assert_eq!(upstream.last().header("x-forwarded-for").as_deref(), Some("203.0.113.7"));
        // There is one header to a connection.
        wire.write([V1, GET].concat());
        assert_eq!(wire.response().status(), 400);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for header in [V1.to_vec(), v2(0x21, &[4, 0, 1, 0])] {
        let mut wire = gateway.connect();
        for byte in [&header, GET].concat() {
            wire.write([byte]);
        }
        assert_eq!(wire.response().status(), 200);
        assert_eq!(client(&gateway, &upstream), "203.0.113.7");
    }
}

#[test]
fn where_the_proxy_names_nobody_its_own_address_stays() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, b"")] {
        let mut wire = gateway.connect();
        wire.write([&header, GET].concat());
        assert_eq!(wire.response().status(), 200);
        assert_eq!(client(&gateway, &upstream), "127.0.0.1");
    }
}

#[test]
fn a_stranger_names_nobody_and_is_closed_at_once() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for bytes in [[V1, GET].concat(), GET.to_vec()] {
        let mut wire = Wire::from([127, 0, 0, 2], gateway.address());
        drop(wire.try_write(bytes));
        assert_eq!(wire.rest(), b"");
    }
    until("they are counted", || (refused(&gateway, "proxy_header_stranger") >= 2.0).then_some(()));
    assert!(upstream.requests().is_empty());
    until("the log says it", || {
        gateway
            .everything()
            .into_iter()
            .find(|line| line.contains("proxy_header_stranger") && line.contains("127.0.0.2"))
    });
}

#[test]
fn what_is_no_header_closes_the_connection_without_a_word() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat();
    let longer = v2(0x21, &[4; 4090]);
    for (bytes, reason) in [
        (GET.to_vec(), "proxy_header_missing"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 50000\r\n".to_vec(), "proxy_header_bad"),
        (v2(0x22, b""), "proxy_header_bad"),
        (v2(0x21, &[4, 0]), "proxy_header_bad"),
        (long, "proxy_header_long"),
        (longer, "proxy_header_long"),
    ] {
        let before = refused(&gateway, reason);
        let mut wire = gateway.connect();
        let started = now();
        drop(wire.try_write([&bytes, GET].concat()));
        assert_eq!(wire.rest(), b"", "{reason}");
        assert!(started.elapsed() < Duration::from_millis(900), "{reason}: nobody waits for more");
        until(reason, || (refused(&gateway, reason) > before).then_some(()));
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_header_has_a_deadline_as_a_whole() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for begun in ["", "PROXY TCP4"] {
        let mut wire = gateway.connect();
        let started = now();
        wire.write(begun);
        for _ in 0..40 {
            // A byte now and then does not help; spaces are what this version's fields may end in.
            if wire.closes_or_answers(Duration::from_millis(100))
                || (!begun.is_empty() && wire.try_write("1").is_err())
            {
                break;
            }
        }
        assert_eq!(wire.rest(), b"");
        let took = started.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_millis(2500), "{took:?}");
    }
    until("they are counted", || (refused(&gateway, "proxy_header_late") >= 2.0).then_some(()));
}

#[test]
fn nobody_waits_for_a_header_once_the_server_stops() {
    let upstream = Upstream::recording();
    let mut gateway = setup(&upstream)
        .listener("external: { scheme: https, port: 443 }, proxy_protocol: true, timeouts: { head: 30s }")
        .start();
    let mut silent = gateway.connect();
    silent.write("PROXY TCP4");
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait_for_end(Duration::from_secs(10)).is_some_and(|status| status.success()));
}

#[test]
fn without_the_setting_such_a_header_is_a_bad_request() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.raw([V1, GET].concat());
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(upstream.requests().is_empty());
}
