//! How many connections there are, of whom, and for how long.

use crate::support::client::Wire;
use crate::support::wait::{pause, until};
use crate::support::{Gateway, Setup, Upstream};
use std::time::Duration;

const GET: &str = "GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n";

fn limited(upstream: &Upstream, settings: &str) -> Setup {
    Setup::before(upstream).listener(&format!("external: {{ scheme: https, port: 443 }}, {settings}"))
}

/// Waits until nothing of those who looked whether the gateway answers is left.
fn settle(gateway: &Gateway) {
    // The operator's own connection, which asks, counts too.
    until("no connection is open", || (gateway.metric("vestibule_connections") <= 1.0).then_some(()));
}

fn answers(wire: &mut Wire) -> bool {
    wire.try_write(GET).is_ok()
        && matches!(wire.try_response_to("GET"), Ok(Some(answer)) if answer.status() == 200)
}

#[test]
fn a_client_has_so_many_connections_and_nobody_else_notices() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "connections: { max_per_client: 2 }").start();
    settle(&gateway);
    let (mut first, mut second) = (gateway.connect(), gateway.connect());
    assert!(answers(&mut first) && answers(&mut second));
    let mut third = gateway.connect();
    assert!(!answers(&mut third), "it is closed");
    let refused = "vestibule_refused_connections_total{reason=\"client_full\"}";
    until("it is counted", || (gateway.metric(refused) >= 1.0).then_some(()));
    assert!(answers(&mut first) && answers(&mut second), "those that are open stay");
    assert!(answers(&mut Wire::from([127, 0, 0, 2], gateway.address())), "another client");
    drop(first);
    until("the place is free", || answers(&mut gateway.connect()).then_some(()));
}

#[test]
fn behind_a_trusted_proxy_are_many_and_with_its_header_each_is_counted() {
    let upstream = Upstream::recording();
    let setup =
        limited(&upstream, "connections: { max_per_client: 1 }").set("trusted_proxies", "[127.0.0.1]");
    let gateway = setup.start();
    let mut many: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
    assert!(many.iter_mut().all(answers), "the proxy itself is not a client");

    let setup = limited(&upstream, "connections: { max_per_client: 1 }, proxy_protocol: true");
    let gateway = setup.set("trusted_proxies", "[127.0.0.1]").start();
    let from = |client: &str| {
        let mut wire = gateway.connect();
        wire.write(format!("PROXY TCP4 {client} 10.0.0.1 50000 443\r\n"));
        let answered = answers(&mut wire);
        (wire, answered)
    };
    let (_first, answered) = from("203.0.113.7");
    assert!(answered);
    let (_second, answered) = from("203.0.113.7");
    assert!(!answered, "one client, one connection");
    let (_other, answered) = from("203.0.113.8");
    assert!(answered, "another client of the same proxy");
}

#[test]
fn where_all_places_are_taken_the_next_connection_waits() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "connections: { max: 2, max_per_client: 2 }").start();
    settle(&gateway);
    let (mut first, mut second) = (gateway.connect(), gateway.connect());
    assert!(answers(&mut first) && answers(&mut second));
    let mut third = gateway.connect();
    third.write(GET);
    assert!(!third.closes_or_answers(Duration::from_millis(300)), "it waits, and is not closed");
    drop(first);
    assert_eq!(third.response().status(), 200);
    assert!(answers(&mut second));
}

#[test]
fn an_old_connection_closes_with_its_next_answer() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "timeouts: { max_age: 1s }").start();
    let mut wire = gateway.connect();
    wire.write(GET);
    assert_eq!(wire.response().header("connection").as_deref(), Some("keep-alive"));
    pause(Duration::from_millis(1200));
    wire.write(GET);
    let last = wire.response();
    assert_eq!((last.status(), last.header("connection").as_deref()), (200, Some("close")));
    assert!(wire.closes_within(Duration::from_secs(2)));
}

#[test]
fn what_a_reload_cannot_change_of_a_listener_it_names() {
    let upstream = Upstream::recording();
    let mut gateway = limited(&upstream, "connections: { max_per_client: 2 }").start();
    let listener = "address: \"127.0.0.1:{public}\", external: { scheme: https, port: 443 }";
    for changed in
        ["connections: { max_per_client: 3 }", "timeouts: { write: 2s }", "timeouts: { max_age: 2h }"]
    {
        gateway.change("listeners", &format!("[{{ {listener}, {changed} }}]"));
        let answer = gateway.admin("POST", "/reload", "");
        assert_eq!(answer.status(), 200);
        let told = answer.json()["message"].to_string();
        assert!(told.contains("needs a restart: listeners[0]"), "{changed}: {told}");
    }
}

#[test]
fn the_limit_of_open_files_is_said_at_the_start() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let line = until("the log says it", || {
        gateway.everything().into_iter().find(|line| line.contains("the limit of open files"))
    });
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
    let number =
        |name: &str| line[name].as_str().and_then(|text| text.parse::<u64>().ok()).expect("a number");
    let (descriptors, connections) = (number("descriptors"), number("connections"));
    assert!(connections >= 16 && connections * 2 <= descriptors.max(32), "{line}");
}

#[test]
fn more_connections_than_there_is_room_for_are_warned_of() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "connections: { max: 1000000 }").start();
    until("the log says it", || {
        gateway.everything().into_iter().find(|line| line.contains("listeners[0].connections.max (1000000)"))
    });
}
