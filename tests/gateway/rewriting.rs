//! The front of the path, where an application has it otherwise than visitors: decided on one, sent as the other.

use crate::support::{Answer, Gateway, HOST, Setup, Upstream};

fn gateway(upstream: &Upstream, host: &str) -> Gateway {
    Setup::before(upstream)
        .set("upstreams", &format!("{{ app: {{ servers: [\"http://{}\"], host: {host} }} }}", upstream.address()))
        .routes(&[
            &format!(
                "{{ name: admin, host: {HOST}, path: /app/admin, access: {{ sign_in: [local], allow: {{ groups: [ops] }} }},
                    prefix: {{ strip: /app }}, upstream: app }}"
            ),
            &format!("{{ name: app, host: {HOST}, path: /app, access: public, prefix: {{ strip: /app }}, upstream: app }}"),
            &format!(
                "{{ name: new, host: {HOST}, path: /new, access: public, prefix: {{ strip: /new, add: /base/v2 }}, upstream: app }}"
            ),
            &format!("{{ name: rest, host: {HOST}, path: /, access: public, prefix: {{ add: /site }}, upstream: app }}"),
        ])
        .start()
}

#[test]
fn the_application_gets_the_path_without_what_visitors_see_before_it() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, "keep");
    for (asked, sent, prefix) in [
        ("/app", "/", Some("/app")),
        ("/app/", "/", Some("/app")),
        ("/app/x/y?q=/app/%zz", "/x/y?q=/app/%zz", Some("/app")),
        ("/app;v=1/x;y=2", "/x;y=2", Some("/app")),
        ("/%61pp/%7Ex%2c", "/~x%2C", Some("/app")),
        ("/new", "/base/v2", Some("/new")),
        ("/new/x/", "/base/v2/x/", Some("/new")),
        ("/", "/site/", None),
        ("/apple?x", "/site/apple?x", None),
    ] {
        let answer = gateway.get(asked).header("X-Forwarded-Prefix", "/evil").send();
        assert_eq!(answer.status(), 200, "{asked}");
        let request = upstream.last();
        assert_eq!(request.target(), sent, "{asked}");
        assert_eq!(request.header("x-forwarded-prefix").as_deref(), prefix, "{asked}");
    }
    let line = gateway.wait_for_line("of the page", |line| line["path"] == "/new/x/");
    assert_eq!(line["route"], "new", "the log tells what the visitor asked for");
}

#[test]
fn the_decision_is_taken_on_what_the_visitor_asked_for() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, "keep");
    for path in ["/app/admin", "/app/admin/x", "/app/%61dmin", "/app;x/admin;y"] {
        assert_eq!(gateway.get(path).send().status(), 401, "{path}");
    }
    for path in
        ["/app/x/../admin", "/app//admin", "/app/./admin", "/app/%2e%2e/admin", "/app%2fadmin", "/app/..;/x"]
    {
        assert_eq!(gateway.get(path).send().status(), 400, "{path}");
    }
    assert!(upstream.requests().is_empty());
    let alice = gateway.browser();
    alice.sign_in("alice");
    assert_eq!(alice.get("/app/admin/x").send().status(), 200);
    assert_eq!(upstream.last().target(), "/admin/x");
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
}

#[test]
fn a_target_that_would_grow_too_long_goes_nowhere() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, "keep");
    let longest = 8 * 1024;
    for (length, status) in [(longest - "/site".len(), 200), (longest - "/site".len() + 1, 400)] {
        let path = format!("/{}", "a".repeat(length - 1));
        assert_eq!(gateway.get(&path).send().status(), status, "{length}");
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn visitors_are_led_to_paths_as_they_see_them() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, "wiki.internal");
    for (asked, told, seen) in [
        ("/app/x", "/login?next=/x#top", "/app/login?next=/x#top"),
        ("/app/x", "/app/login", "/app/login"),
        ("/app/x", "login", "login"),
        ("/app/x", "http://wiki.internal/login", "/app/login"),
        ("/app/x", "http://wiki.example.com/login", "http://wiki.example.com/app/login"),
        ("/app/x", "https://wiki.example.com:8443/login", "https://wiki.example.com:8443/login"),
        ("/app/x", "https://elsewhere.example/login", "https://elsewhere.example/login"),
        ("/app/x", "//elsewhere.example/login", "//elsewhere.example/login"),
        ("/new/x", "/base/v2/y", "/new/y"),
        ("/new/x", "/other", "/other"),
        ("/x", "/site/y", "/y"),
        ("/x", "/site//elsewhere.example/", "/site//elsewhere.example/"),
    ] {
        upstream.next(Answer::new("302 Found", &[("Location", told)], ""));
        let answer = gateway.get(asked).send();
        assert_eq!(answer.header("location").as_deref(), Some(seen), "{asked} {told}");
        assert_eq!(upstream.last().header("host").as_deref(), Some("wiki.internal"));
    }
    upstream.next(Answer::ok(&[
        ("Content-Location", "/x.en"),
        ("Refresh", "5; url=/y"),
        ("Set-Cookie", "a=b; Path=/; HttpOnly"),
        ("Set-Cookie", "__Host-c=d; Path=/; Secure"),
    ]));
    let answer = gateway.get("/app/x").send();
    assert_eq!(answer.header("content-location").as_deref(), Some("/app/x.en"));
    assert_eq!(answer.header("refresh").as_deref(), Some("5; url=/app/y"));
    assert_eq!(answer.all("set-cookie"), ["a=b; Path=/app; HttpOnly", "__Host-c=d; Path=/; Secure"]);
}

#[test]
fn a_websocket_finds_its_way_too() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, "keep");
    let mut wire = gateway.connect();
    let answer = gateway
        .get("/app/socket?x")
        .headers(&[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ])
        .send_over(&mut wire);
    assert_eq!(answer.status(), 101);
    assert_eq!(upstream.last().target(), "/socket?x");
    wire.write(b"\x81\x80\x01\x02\x03\x04");
    assert_eq!(wire.read_exactly(6), b"\x81\x80\x01\x02\x03\x04");
}

#[test]
fn who_has_to_sign_in_comes_back_to_the_path_that_was_asked_for() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, "keep");
    let answer = gateway.get("/app/admin/x?y").headers(&crate::support::client::NAVIGATION).send();
    assert_eq!(answer.status(), 302);
    assert_eq!(
        answer.header("location").as_deref(),
        Some("/_vestibule/login?return_to=%2Fapp%2Fadmin%2Fx%3Fy")
    );
}
