//! How often a route may be used: by whom it is counted, what answers say of it, and what a reload keeps.

use crate::support::client::{NAVIGATION, Wire};
use crate::support::wait::until;
use crate::support::{Browser, Gateway, HOST, Message, Setup, Upstream};

/// A route of this access with this rate.
fn route(access: &str, rate: &str) -> String {
    format!(
        "{{ name: all, host: wiki.example.com, path: /, access: {access}, upstream: app, limits: {{ rate: {rate} }} }}"
    )
}

const MEMBERS: &str = "{ sign_in: [local], allow: everyone }";

fn limited(upstream: &Upstream, access: &str, rate: &str) -> Gateway {
    Setup::before(upstream).routes(&[&route(access, rate)]).start()
}

fn signed_in<'a>(gateway: &'a Gateway, user: &str) -> Browser<'a> {
    let browser = gateway.browser();
    browser.sign_in(user);
    browser
}

/// The statuses of so many requests.
fn statuses(times: usize, ask: impl Fn() -> Message) -> Vec<u16> {
    (0..times).map(|_| ask().status()).collect()
}

fn from(gateway: &Gateway, source: [u8; 4]) -> Message {
    let mut wire = Wire::from(source, gateway.address());
    wire.write(format!("GET /page HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    wire.response()
}

#[test]
fn answers_say_what_is_left_and_a_refusal_when_to_come_again() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "public", "{ per: client_ip, limit: 60/h, burst: 2 }");
    let field = |answer: &Message, name: &str| answer.header(name).unwrap_or_default();
    let first = gateway.get("/page").send();
    assert_eq!(first.status(), 200);
    assert_eq!(field(&first, "ratelimit-policy"), "\"all\";q=60;w=3600");
    assert_eq!(field(&first, "ratelimit"), "\"all\";r=1;t=60");
    assert_eq!(field(&gateway.get("/page").send(), "ratelimit"), "\"all\";r=0;t=120");
    let refused = gateway.get("/page").send();
    assert_eq!(refused.status(), 429);
    assert_eq!(field(&refused, "ratelimit-policy"), "\"all\";q=60;w=3600");
    let wait: u64 = field(&refused, "retry-after").parse().expect("seconds");
    assert!((55..=60).contains(&wait), "{wait}");
    assert_eq!(field(&refused, "ratelimit"), format!("\"all\";r=0;t={wait}"));
    assert_eq!(field(&refused, "content-type"), "application/problem+json");
    assert_eq!(field(&refused, "cache-control"), "no-store");
    assert_eq!(refused.json()["detail"], format!("too many requests; try again in {wait} s"));
    let line = gateway.access_line(&refused);
    assert_eq!((&line["reason"], &line["decision"]), (&"rate".into(), &"too_many".into()));
    let counted = "vestibule_decisions_total{outcome=\"too_many\",route=\"all\"}";
    until("it is counted", || (gateway.metric(counted) >= 1.0).then_some(()));
    let page = gateway.get("/page").headers(&NAVIGATION).send();
    assert!(page.status() == 429 && page.text().contains("<html"), "{}", page.text());
    assert_eq!(upstream.requests().len(), 2, "nothing else has reached it");
}

#[test]
fn what_an_application_says_of_its_own_rates_stays() {
    let upstream = Upstream::prompted();
    let gateway = limited(&upstream, "public", "{ per: client_ip, limit: 60/h }");
    let answer = gateway.get("/page").say("RateLimit", "\"search\";r=3;t=9").send();
    let all = answer.all("ratelimit");
    assert!(all.len() == 2 && all.contains(&"\"search\";r=3;t=9".to_owned()), "{all:?}");
}

#[test]
fn what_was_used_up_comes_back() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "public", "{ per: client_ip, limit: 2/s, burst: 1 }");
    assert!(statuses(6, || gateway.get("/page").send()).contains(&429));
    until("one more may pass", || (gateway.get("/page").send().status() == 200).then_some(()));
}

#[test]
fn a_client_address_is_counted_whoever_asks_and_before_anybody_looks_at_who() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, MEMBERS, "{ per: client_ip, limit: 1/h, burst: 3 }");
    let alice = signed_in(&gateway, "alice");
    assert_eq!(alice.get("/page").send().status(), 200);
    assert_eq!(statuses(3, || gateway.get("/page").send()), [401, 401, 429], "refused ones count too");
    assert_eq!(alice.get("/page").send().status(), 429, "the same address");
    assert_eq!(from(&gateway, [127, 0, 0, 2]).status(), 401, "another one");
    assert_eq!(gateway.get("/_vestibule/login").send().status(), 200, "own pages have bounds of their own");
}

#[test]
fn a_session_is_counted_by_itself() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, MEMBERS, "{ per: session, limit: 1/h, burst: 2 }");
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    assert_eq!(statuses(3, || first.get("/page").send()), [200, 200, 429]);
    assert_eq!(statuses(3, || second.get("/page").send()), [200, 200, 429]);
    assert_eq!(gateway.get("/page").send().status(), 401, "nobody is told to slow down");
}

#[test]
fn a_subject_is_counted_over_all_its_sessions() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, MEMBERS, "{ per: subject, limit: 1/h, burst: 3 }");
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    assert_eq!(statuses(2, || first.get("/page").send()), [200, 200]);
    assert_eq!(statuses(2, || second.get("/page").send()), [200, 429]);
    assert_eq!(signed_in(&gateway, "bob").get("/page").send().status(), 200, "another subject");
}

#[test]
fn where_nobody_is_known_the_address_counts() {
    let upstream = Upstream::recording();
    for access in ["public", "{ sign_in: [local], allow: everyone, optional: true }"] {
        let gateway = limited(&upstream, access, "{ per: session, limit: 1/h, burst: 2 }");
        assert_eq!(statuses(3, || gateway.get("/page").send()), [200, 200, 429], "{access}");
        assert_eq!(from(&gateway, [127, 0, 0, 2]).status(), 200, "{access}");
    }
}

#[test]
fn a_reload_forgives_nobody_until_the_rate_is_another() {
    let upstream = Upstream::recording();
    let rate = "{ per: client_ip, limit: 1/h, burst: 2 }";
    let mut gateway = limited(&upstream, "public", rate);
    assert_eq!(statuses(3, || gateway.get("/page").send()), [200, 200, 429]);
    let other = "{ name: new, host: wiki.example.com, path: /new, access: public, upstream: app }";
    gateway.reload_with("routes", &format!("[{other}, {}]", route("public", rate)));
    assert_eq!(gateway.get("/page").send().status(), 429, "the route moved, its rate did not change");
    assert_eq!(gateway.get("/new").send().status(), 200);
    let another = "{ per: client_ip, limit: 1/h, burst: 3 }";
    gateway.reload_with("routes", &format!("[{}]", route("public", another)));
    assert_eq!(statuses(4, || gateway.get("/page").send()), [200, 200, 200, 429]);
}
