//! What counts as use of a session, which clocks it moves, and what applications are told of them.

use crate::support::tokens::Key;
use crate::support::wait::{now, pause, until};
use crate::support::{Gateway, Setup, Upstream};
use std::time::Duration;

/// Pages that count, and others that poll.
const ROUTES: [&str; 4] = [
    "{ name: poll, host: wiki.example.com, path: /poll, upstream: app, session: { activity: ignore, data: true },
       access: { sign_in: [local], allow: everyone } }",
    "{ name: ticker, host: wiki.example.com, path: /ticker, access: public, upstream: app, session: { activity: ignore, data: true } }",
    "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
    "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
       access: { sign_in: [local], allow: everyone } }",
];

fn instant(gateway: &Gateway, cookie: &str, name: &str) -> String {
    let told = gateway.get("/_vestibule/session").header("Cookie", cookie).send().json();
    told[name].as_str().unwrap_or_else(|| panic!("{name} in {told}")).to_owned()
}

#[test]
fn polling_keeps_no_session_and_a_page_does() {
    let upstream = Upstream::prompted();
    let gateway = Setup::before(&upstream)
        .routes(&ROUTES)
        .set("sessions", "{ idle_timeout: 2s, absolute_lifetime: 1h }")
        .start();
    let [polls, ticks, buys, reads] = [(); 4].map(|()| {
        let browser = gateway.browser();
        browser.sign_in("alice");
        browser.stolen_cookie()
    });
    let began = now();
    let get = |path: &str, cookie: &str| gateway.get(path).header("Cookie", cookie).patch("{\"n\":1}").send();
    while began.elapsed() < Duration::from_millis(3500) {
        get("/poll", &polls);
        gateway.get("/_vestibule/session").header("Cookie", &polls).send();
        get("/ticker", &ticks);
        assert_eq!(get("/shop", &buys).status(), 200);
        assert_eq!(get("/page", &reads).status(), 200, "after {:?}", began.elapsed());
        pause(Duration::from_millis(100));
    }
    assert_eq!(get("/page", &polls).status(), 401, "polling, patching and asking are no use");
    assert_eq!(get("/page", &ticks).status(), 401);
    assert_eq!(get("/page", &buys).status(), 200, "a public page that looks at the session uses it");
    assert_eq!(get("/page", &reads).status(), 200);
}

#[test]
fn asking_who_one_is_extends_nothing() {
    let upstream = Upstream::prompted();
    let gateway = Setup::before(&upstream)
        .routes(&ROUTES)
        .set("sessions", "{ idle_timeout: 20s, absolute_lifetime: 1h }")
        .start();
    let browser = gateway.browser();
    browser.sign_in("alice");
    let cookie = browser.stolen_cookie();
    let before = instant(&gateway, &cookie, "idle_until");
    pause(Duration::from_millis(2100));
    assert_eq!(instant(&gateway, &cookie, "idle_until"), before);
    gateway.get("/poll").header("Cookie", &cookie).send();
    assert_eq!(instant(&gateway, &cookie, "idle_until"), before);
    gateway.get("/page").header("Cookie", &cookie).send();
    assert!(instant(&gateway, &cookie, "idle_until") > before, "RFC 3339 in UTC sorts as text");
}

#[test]
fn an_application_is_told_the_deadlines_where_it_asks_for_them() {
    let upstream = Upstream::recording();
    let key = Key::eddsa();
    let gateway = Setup::before(&upstream)
        .set(
            "identity",
            "{ headers: { X-Auth-User: subject, X-Session-Ends-At: ends_at, X-Idle-Until: idle_until } }",
        )
        .set(
            "tokens",
            "{ api: { jwt: { issuer: \"https://id.example.com\", audience: [wiki], algorithms: [EdDSA], keys: { public_key: token.key } } } }",
        )
        .file("token.key", &key.file())
        .routes(&[
            "{ name: public, host: wiki.example.com, path: /public, access: public, upstream: app }",
            "{ name: wiki, host: wiki.example.com, path: /, upstream: app,
               access: { sign_in: [local], tokens: [api], allow: everyone, same_people: true } }",
        ])
        .start();
    let browser = gateway.browser();
    browser.sign_in("alice");
    let cookie = browser.stolen_cookie();
    let lies = [("X-Session-Ends-At", "2999-01-01T00:00:00Z"), ("x_idle_until", "2999-01-01T00:00:00Z")];
    let answer = gateway.get("/page").header("Cookie", &cookie).headers(&lies).send();
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert_eq!(request.header("x-session-ends-at"), Some(instant(&gateway, &cookie, "ends_at")));
    assert_eq!(request.header("x-idle-until"), Some(instant(&gateway, &cookie, "idle_until")));
    assert_eq!(request.header("x_idle_until"), None);
    let bearer = key.token("alice", |_, claims| claims["ends_at"] = "2999-01-01T00:00:00Z".into());
    assert_eq!(gateway.get("/page").bearer(&bearer).headers(&lies).send().status(), 200);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    let bearers = upstream.last();
    gateway.get("/public").header("Cookie", &cookie).headers(&lies).send();
    for request in [bearers, upstream.last()] {
        assert_eq!(
            request.header("x-session-ends-at"),
            None,
            "no session was believed, so no deadline is told"
        );
        assert_eq!(request.header("x-idle-until"), None);
    }
}

#[test]
fn shorter_lifetimes_reach_living_sessions_and_longer_ones_do_not() {
    let upstream = Upstream::prompted();
    let mut gateway = Setup::before(&upstream)
        .routes(&ROUTES)
        .set("sessions", "{ idle_timeout: 10m, absolute_lifetime: 1h, anonymous: {} }")
        .start();
    let [busy, idle] = [(); 2].map(|()| {
        let browser = gateway.browser();
        browser.sign_in("alice");
        browser.stolen_cookie()
    });
    let visitor = gateway.browser();
    visitor.keep("/shop", "{\"a\":1}");
    let visitor = visitor.stolen_cookie();
    let ends_at = instant(&gateway, &busy, "ends_at");
    gateway.reload_with("sessions", "{ idle_timeout: 10m, absolute_lifetime: 2h, anonymous: {} }");
    assert_eq!(instant(&gateway, &busy, "ends_at"), ends_at, "what was promised at the start is the most");

    let data = |gateway: &Gateway| gateway.get("/shop").header("Cookie", &visitor).send().text();
    assert_eq!(data(&gateway), "{\"a\":1}");
    gateway.reload_with(
        "sessions",
        "{ idle_timeout: 2s, absolute_lifetime: 1h, anonymous: { idle_timeout: 1s } }",
    );
    let get = |gateway: &Gateway, cookie: &str| gateway.get("/page").header("Cookie", cookie).send().status();
    let began = now();
    while began.elapsed() < Duration::from_millis(2600) {
        assert_eq!(get(&gateway, &busy), 200);
        pause(Duration::from_millis(100));
    }
    assert_eq!(get(&gateway, &idle), 401);
    assert_eq!(data(&gateway), "none");
    gateway.reload_with("sessions", "{ idle_timeout: 1s, absolute_lifetime: 1s }");
    until("the lifetime is over", || (get(&gateway, &busy) == 401).then_some(()));
    gateway.wait_for_line("about the lifetime", |line| line["reason"] == "lifetime");
}

#[test]
fn where_anonymous_sessions_are_switched_off_the_living_ones_are_over() {
    let upstream = Upstream::prompted();
    let mut gateway = Setup::before(&upstream).routes(&ROUTES).set("sessions", "{ anonymous: {} }").start();
    let visitor = gateway.browser();
    visitor.keep("/shop", "{\"a\":1}");
    let cookie = visitor.stolen_cookie();
    let data = |gateway: &Gateway| gateway.get("/shop").header("Cookie", &cookie).send().text();
    assert_eq!(data(&gateway), "{\"a\":1}");
    gateway.reload_with("sessions", "{ idle_timeout: 10m }");
    assert_eq!(data(&gateway), "none");
}
