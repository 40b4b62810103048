//! Servers that go down and come back: checks, failures, and what visitors see when none is left.

use crate::support::client::NAVIGATION;
use crate::support::wait::until;
use crate::support::{Answer, Gateway, Setup, Upstream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CHECKS: &str =
    "health: { path: /healthz, interval: 50ms, timeout: 1s, unhealthy_after: 2, healthy_after: 2 }";

/// A server that can be told that it is ill.
fn patient() -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = is_well.clone();
    let upstream = Upstream::answering(move |request| {
        if request.target() == "/healthz" && !well.load(Ordering::Relaxed) {
            return Answer::new("503 Service Unavailable", &[], "ill");
        }
        Answer::ok(&[])
    });
    (upstream, is_well)
}

fn entry(addresses: &[SocketAddr], settings: &str) -> String {
    let servers: Vec<String> = addresses.iter().map(|address| format!("\"http://{address}\"")).collect();
    format!("{{ app: {{ servers: [{}], {settings} }} }}", servers.join(", "))
}

fn before(upstream: &Upstream, addresses: &[SocketAddr], settings: &str) -> Gateway {
    Setup::before(upstream).set("upstreams", &entry(addresses, settings)).start()
}

fn up(gateway: &Gateway, address: SocketAddr) -> f64 {
    gateway.metric(&format!("vestibule_upstream_server_up{{server=\"http://{address}\",upstream=\"app\"}}"))
}

fn wait_until_up(gateway: &Gateway, address: SocketAddr, expected: bool) {
    until("the gauge says so", || ((up(gateway, address) > 0.5) == expected).then_some(()));
}

/// How many requests of visitors have come.
fn visits(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.target() != "/healthz").count()
}

#[test]
fn a_server_that_answers_its_checks_badly_gets_nothing_until_it_answers_well() {
    let ((ill, is_well), (sound, _)) = (patient(), patient());
    let gateway = before(&ill, &[ill.address(), sound.address()], CHECKS);
    wait_until_up(&gateway, ill.address(), true);
    is_well.store(false, Ordering::Relaxed);
    wait_until_up(&gateway, ill.address(), false);
    let had = visits(&ill);
    for _ in 0..10 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert_eq!(visits(&ill), had);
    is_well.store(true, Ordering::Relaxed);
    wait_until_up(&gateway, ill.address(), true);
    for _ in 0..10 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert!(visits(&ill) > had);
    let check =
        ill.requests().into_iter().find(|request| request.target() == "/healthz").expect("checks came");
    assert_eq!(check.first_line(), "GET /healthz HTTP/1.1");
    assert_eq!(check.header("host"), Some(ill.address().to_string()));
    let told = gateway
        .everything()
        .iter()
        .any(|line| line.contains("an upstream server is down") && line.contains("status 503"));
    assert!(told, "the log says why");
}

#[test]
fn where_all_are_down_503_says_so_at_once() {
    let (ill, is_well) = patient();
    is_well.store(false, Ordering::Relaxed);
    let gateway = before(&ill, &[ill.address()], CHECKS);
    wait_until_up(&gateway, ill.address(), false);
    let answer = gateway.get("/public").send();
    assert_eq!((answer.status(), answer.header("retry-after").as_deref()), (503, Some("10")));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    assert_eq!(gateway.access_line(&answer)["reason"], "servers_down");
    let page = gateway.get("/public").headers(&NAVIGATION).send();
    assert_eq!(page.status(), 503);
    assert!(page.text().to_lowercase().starts_with("<!doctype html"));
    assert_eq!(visits(&ill), 0);
    is_well.store(true, Ordering::Relaxed);
    until("it is served again", || (gateway.get("/public").send().status() == 200).then_some(()));
}

#[test]
fn a_check_says_what_it_expects_and_whom_it_asks_for() {
    let (upstream, _) = patient();
    let settings =
        "host: wiki.internal, health: { path: /moved, interval: 50ms, status: [204], unhealthy_after: 1 }";
    let gateway = before(&upstream, &[upstream.address()], settings);
    wait_until_up(&gateway, upstream.address(), false);
    let check = upstream.requests().remove(0);
    assert_eq!((check.target().as_str(), check.header("host").as_deref()), ("/moved", Some("wiki.internal")));
    assert_eq!(check.header("cookie"), None);
}

#[test]
fn a_server_that_does_not_answer_its_checks_in_time_is_down() {
    let upstream = Upstream::answering(|request| {
        if request.target() != "/healthz" {
            return Answer::ok(&[]);
        }
        let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        // Nobody ever opens it.
        std::mem::forget(gate);
        answer
    });
    let settings = "health: { path: /healthz, interval: 50ms, timeout: 100ms, unhealthy_after: 1 }";
    let gateway = before(&upstream, &[upstream.address()], settings);
    wait_until_up(&gateway, upstream.address(), false);
}

#[test]
fn one_that_cannot_be_reached_is_asked_now_and_then_only() {
    let (sound, _) = patient();
    let dead = Upstream::nobody();
    let gateway = before(&sound, &[dead, sound.address()], "");
    for _ in 0..60 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    let refused = gateway.metric(&format!(
        "vestibule_upstream_requests_total{{outcome=\"connect_refused\",server=\"http://{dead}\",upstream=\"app\"}}"
    ));
    assert!((3.0..20.0).contains(&refused), "{refused} connections were tried for 60 requests");
    wait_until_up(&gateway, dead, false);
    // Somebody starts it.
    let fresh = Upstream::answering_at(dead, |_| Answer::ok(&[]));
    until("it gets requests again", || {
        assert_eq!(gateway.get("/public").send().status(), 200);
        (!fresh.requests().is_empty()).then_some(())
    });
    wait_until_up(&gateway, dead, true);
}

#[test]
fn the_only_server_is_asked_again_every_second() {
    let (other, _) = patient();
    let dead = Upstream::nobody();
    let gateway = before(&other, &[dead], "");
    for _ in 0..3 {
        assert_eq!(gateway.get("/public").send().status(), 502);
    }
    let statuses: Vec<u16> = (0..3).map(|_| gateway.get("/public").send().status()).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    let fresh = Upstream::answering_at(dead, |_| Answer::ok(&[]));
    until("it is served again", || (gateway.get("/public").send().status() == 200).then_some(()));
    assert_eq!(visits(&fresh), 1);
    for _ in 0..5 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
}

#[test]
fn nobody_takes_a_server_from_others_by_requests_that_break_it() {
    let upstream = Upstream::answering(|request| {
        if request.target().contains("poison") { Answer::ThenClose(Vec::new()) } else { Answer::ok(&[]) }
    });
    let gateway = before(&upstream, &[upstream.address()], "timeouts: { read: 200ms }");
    for _ in 0..8 {
        assert_eq!(gateway.post("/public/poison").body("x").send().status(), 502);
    }
    assert_eq!(gateway.get("/public").send().status(), 200);
    for _ in 0..4 {
        upstream.next(Answer::talk(|talk| drop(std::io::Read::read_to_end(talk, &mut Vec::new()))));
        assert_eq!(gateway.get("/public/slow").send().status(), 504);
    }
    assert_eq!(gateway.get("/public").send().status(), 200);
}

#[test]
fn a_reload_knows_how_servers_are() {
    let ((ill, is_well), (sound, _)) = (patient(), patient());
    let addresses = [ill.address(), sound.address()];
    let mut gateway = before(&sound, &addresses, CHECKS);
    is_well.store(false, Ordering::Relaxed);
    wait_until_up(&gateway, ill.address(), false);
    let had = visits(&ill);
    let rarely = "health: { path: /healthz, interval: 1h }, timeouts: { read: 9s }";
    gateway.reload_with("upstreams", &entry(&[sound.address(), ill.address()], rarely));
    for _ in 0..10 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert_eq!(visits(&ill), had, "what the checks before the reload said still counts");
    gateway.reload_with("upstreams", &entry(&addresses, ""));
    for _ in 0..10 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert!(visits(&ill) > had, "without checks it is for requests to tell");
}

#[test]
fn a_server_that_comes_back_starts_slowly() {
    let ((ill, is_well), (sound, _)) = (patient(), patient());
    let gateway = before(&sound, &[ill.address(), sound.address()], &format!("slow_start: 1h, {CHECKS}"));
    is_well.store(false, Ordering::Relaxed);
    wait_until_up(&gateway, ill.address(), false);
    is_well.store(true, Ordering::Relaxed);
    wait_until_up(&gateway, ill.address(), true);
    let had = visits(&ill);
    for _ in 0..60 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    let got = visits(&ill) - had;
    assert!((1..12).contains(&got), "{got} of 60");
}

#[test]
fn names_are_known_before_the_first_request() {
    let (upstream, _) = patient();
    let port = upstream.address().port();
    let of = |name: &str| format!("{{ app: {{ servers: [\"http://{name}:{port}\"] }} }}");
    let mut gateway = Setup::before(&upstream).set("upstreams", &of("localhost")).start();
    assert_eq!(gateway.get("/public").send().status(), 200);
    gateway.reload_with("upstreams", &of("nobody.invalid"));
    let answer = gateway.get("/public").send();
    assert_eq!(answer.status(), 503);
    assert_eq!(gateway.access_line(&answer)["reason"], "name_unknown");
    gateway.reload_with("upstreams", &of("localhost"));
    assert_eq!(gateway.get("/public").send().status(), 200);
}
