//! Which of several servers a request goes to: weights, least requests, and visitors who stay with a server.

use crate::support::wait::until;
use crate::support::{Answer, Gateway, Setup, Upstream};
use std::collections::BTreeMap;

/// Servers that say their number.
fn numbered(count: usize) -> Vec<Upstream> {
    let named = |number: usize| {
        Upstream::answering(move |_| Answer::new("200 OK", &[("X-Server", &number.to_string())], "hello"))
    };
    (0..count).map(named).collect()
}

fn entry(upstreams: &[&Upstream], settings: &str) -> String {
    let servers: Vec<String> =
        upstreams.iter().map(|upstream| format!("\"http://{}\"", upstream.address())).collect();
    format!("{{ app: {{ servers: [{}], {settings} }} }}", servers.join(", "))
}

fn before(upstreams: &[Upstream], settings: &str) -> Setup {
    let all: Vec<&Upstream> = upstreams.iter().collect();
    Setup::before(&upstreams[0]).set("upstreams", &entry(&all, settings))
}

fn counts(upstreams: &[Upstream]) -> Vec<usize> {
    upstreams.iter().map(|upstream| upstream.requests().len()).collect()
}

#[test]
fn a_server_of_three_times_the_weight_gets_three_times_the_requests() {
    let upstreams = numbered(2);
    let servers = format!(
        "{{ app: {{ servers: [{{ url: \"http://{}\", weight: 3 }}, \"http://{}\"] }} }}",
        upstreams[0].address(),
        upstreams[1].address()
    );
    let gateway = Setup::before(&upstreams[0]).set("upstreams", &servers).start();
    for _ in 0..20 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert_eq!(counts(&upstreams), [15, 5]);
    let server = format!("server=\"http://{}\",upstream=\"app\"", upstreams[0].address());
    let answered =
        gateway.metric(&format!("vestibule_upstream_requests_total{{outcome=\"answered\",{server}}}"));
    assert_eq!(answered.to_string(), "15");
}

#[test]
fn a_request_goes_where_the_fewest_are_under_way() {
    let upstreams = numbered(2);
    let gateway = before(&upstreams, "balance: least_requests").start();
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    // Nothing is under way: it is the first one's turn.
    upstreams[0].next(answer);
    let mut wire = gateway.connect();
    wire.write(gateway.get("/public/held").bytes());
    upstreams[0].wait_for(1);
    for _ in 0..6 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert_eq!(counts(&upstreams), [1, 6], "the one that is busy got no more");
    let of_busy = format!("server=\"http://{}\",upstream=\"app\"", upstreams[0].address());
    let under_way = gateway.metric(&format!("vestibule_upstream_requests_in_flight{{{of_busy}}}"));
    assert_eq!(under_way.to_string(), "1");
    gate.open();
    assert_eq!(wire.response().status(), 200);
}

#[test]
fn a_client_stays_with_its_server_and_only_those_of_one_that_is_gone_move() {
    let upstreams = numbered(3);
    let mut gateway =
        before(&upstreams, "balance: { hash: client_ip }").set("trusted_proxies", "[127.0.0.1]").start();
    let ask = |gateway: &Gateway| -> BTreeMap<u8, String> {
        let of = |client: u8| {
            let address = format!("192.0.2.{client}");
            let answer = gateway.get("/public").header("X-Forwarded-For", &address).send();
            (client, answer.header("x-server").expect("a server has answered"))
        };
        (0..60).map(of).collect()
    };
    let first = ask(&gateway);
    assert_eq!(ask(&gateway), first);
    for server in ["0", "1", "2"] {
        let count = first.values().filter(|answered| *answered == server).count();
        assert!((8..=32).contains(&count), "{count} of 60 at server {server}");
    }
    // Another order, and one that is gone.
    gateway.reload_with("upstreams", &entry(&[&upstreams[2], &upstreams[0]], "balance: { hash: client_ip }"));
    for (client, server) in ask(&gateway) {
        let was = &first[&client];
        assert!(server == *was || was == "1", "client {client} moved from {was} to {server}");
    }
}

#[test]
fn a_session_stays_with_its_server_wherever_the_visitor_is() {
    let upstreams = numbered(4);
    let gateway =
        before(&upstreams, "balance: { hash: session }").set("trusted_proxies", "[127.0.0.1]").start();
    let mut servers = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let browser = gateway.browser();
        browser.sign_in("alice");
        let answers: Vec<String> = (1..=5)
            .map(|place| {
                let address = format!("192.0.2.{place}");
                let answer = browser.get("/page").header("X-Forwarded-For", &address).send();
                answer.header("x-server").expect("a server has answered")
            })
            .collect();
        assert!(answers.iter().all(|server| *server == answers[0]), "{answers:?}");
        servers.insert(answers[0].clone());
    }
    assert!(servers.len() > 1, "sessions are spread");
}

#[test]
fn a_server_with_as_much_as_it_may_have_gets_no_more() {
    let upstreams = numbered(1);
    let gateway = before(&upstreams, "max_requests: 1").start();
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    upstreams[0].next(answer);
    let mut wire = gateway.connect();
    wire.write(gateway.get("/public/held").bytes());
    upstreams[0].wait_for(1);
    let refused = gateway.get("/public").send();
    assert_eq!((refused.status(), refused.header("retry-after").as_deref()), (503, Some("10")));
    assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(gateway.access_line(&refused)["reason"], "servers_busy");
    assert_eq!(counts(&upstreams), [1]);
    gate.open();
    assert_eq!(wire.response().status(), 200);
    until("its place is free again", || (gateway.get("/public").send().status() == 200).then_some(()));
}

#[test]
fn what_is_too_much_for_one_server_goes_to_another() {
    let upstreams = numbered(2);
    let gateway = before(&upstreams, "max_requests: 1").start();
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    upstreams[0].next(answer);
    let mut wire = gateway.connect();
    wire.write(gateway.get("/public/held").bytes());
    upstreams[0].wait_for(1);
    for _ in 0..6 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert_eq!(counts(&upstreams), [1, 6]);
    gate.open();
    assert_eq!(wire.response().status(), 200);
}
