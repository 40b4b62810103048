//! Headers that a route changes: what the file says, and never what the gateway itself says.

use crate::support::{Answer, Gateway, HOST, SESSION, Setup, Upstream};

const CHANGES: &str = "{
    request: { remove: [X-Debug, User-Agent], set: { X-Stage: test, Accept-Encoding: identity }, add: { X-Via: edge } },
    response: { remove: [Server, X-Powered-By], set: { X-Stage: test, Cache-Control: \"public, s-maxage=60\" }, add: { X-Via: edge } } }";

fn gateway(upstream: &Upstream, headers: &str) -> Gateway {
    Setup::before(upstream)
        .routes(&[
            &format!(
                "{{ name: public, host: {HOST}, path: /public, access: public, headers: {headers}, upstream: app }}"
            ),
            &format!(
                "{{ name: wiki, host: {HOST}, path: /, access: {{ sign_in: [local] }}, headers: {headers}, upstream: app }}"
            ),
        ])
        .start()
}

#[test]
fn a_route_changes_headers_both_ways() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, CHANGES);
    upstream.next(Answer::ok(&[
        ("Server", "old/1.0"),
        ("x-powered-by", "old"),
        ("X-Stage", "a"),
        ("X-Stage", "b"),
        ("X-Via", "app"),
        ("ETag", "\"1\""),
    ]));
    let answer = gateway
        .get("/public")
        .headers(&[
            ("X-Debug", "1"),
            ("x-debug", "2"),
            ("X_Debug", "3"),
            ("x.stage", "theirs"),
            ("User-Agent", "curl"),
            ("X-Stage", "production"),
            ("X-Via", "client"),
            ("X-Other", "1"),
        ])
        .send();
    let sent = upstream.last();
    assert_eq!((sent.header("x-debug"), sent.header("x_debug")), (None, None));
    assert_eq!(sent.header("x.stage"), None, "some application reads it as X-Stage");
    assert_eq!(sent.header("user-agent"), None);
    assert_eq!(sent.header("x-stage").as_deref(), Some("test"));
    assert_eq!(sent.header("accept-encoding").as_deref(), Some("identity"));
    assert_eq!(sent.all("x-via"), ["client", "edge"]);
    assert_eq!(sent.header("x-other").as_deref(), Some("1"));
    assert_eq!(answer.header("server"), None);
    assert_eq!(answer.header("x-powered-by"), None);
    assert_eq!(answer.header("x-stage").as_deref(), Some("test"));
    assert_eq!(answer.all("x-via"), ["app", "edge"]);
    assert_eq!(answer.header("etag").as_deref(), Some("\"1\""));
    assert_eq!(answer.header("cache-control").as_deref(), Some("public, s-maxage=60"));
}

#[test]
fn what_the_file_says_never_makes_an_answer_for_one_visitor_public() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, CHANGES);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let answer = alice.get("/page").header("X-Auth-User", "root").send();
    assert_eq!(answer.header("cache-control").as_deref(), Some("private"));
    assert_eq!(answer.header("vary").as_deref(), Some("Cookie, Authorization"));
    assert_eq!(answer.header("x-stage").as_deref(), Some("test"));
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"), "ours is set last");
}

#[test]
fn answers_of_the_gateway_itself_stay_as_they_are() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream, CHANGES);
    let answer = gateway.get("/page").send();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.header("x-stage"), None);
}

#[test]
fn cookies_are_taken_away_whole_and_ours_stay_with_the_visitor() {
    let upstream = Upstream::recording();
    let gateway = gateway(
        &upstream,
        "{ request: { remove: [Cookie, Authorization] }, response: { remove: [Set-Cookie, Vary] } }",
    );
    let alice = gateway.browser();
    alice.sign_in("alice");
    assert!(alice.cookie(SESSION).is_some());
    alice.set_cookie("theme", "dark");
    upstream.next(Answer::ok(&[("Set-Cookie", "theme=light"), ("Vary", "Accept")]));
    let answer = alice.get("/page").header("Authorization", "Basic YTpi").send();
    assert_eq!((answer.status(), answer.header("set-cookie")), (200, None));
    assert_eq!(answer.all("vary"), ["Cookie, Authorization"]);
    let sent = upstream.last();
    assert_eq!((sent.header("cookie"), sent.header("authorization")), (None, None));
    assert_eq!(sent.header("x-auth-user").as_deref(), Some("alice"));
}

#[test]
fn security_headers_fill_in_what_the_application_leaves_out() {
    let upstream = Upstream::recording();
    let gateway =
        gateway(&upstream, "{ response: { set: { Referrer-Policy: no-referrer }, security: true } }");
    let told = |answer: &crate::support::Message| {
        [
            "x-content-type-options",
            "x-frame-options",
            "referrer-policy",
            "cross-origin-opener-policy",
            "x-permitted-cross-domain-policies",
        ]
        .map(|name| answer.header(name).unwrap_or_default())
    };
    let strict = ["nosniff", "SAMEORIGIN", "no-referrer", "same-origin-allow-popups", "none"];
    assert_eq!(told(&gateway.get("/public").send()), strict);
    upstream.next(Answer::new("404 Not Found", &[("X-Frame-Options", "DENY")], ""));
    assert_eq!(told(&gateway.get("/public").send())[1], "DENY");
    upstream.next(Answer::ok(&[("Content-Security-Policy", "frame-ancestors https://portal.example.com")]));
    assert_eq!(told(&gateway.get("/public").send())[1], "", "the application has decided about frames");
    upstream.next(Answer::Bytes(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
    ));
    let mut wire = gateway.connect();
    wire.write(gateway.get("/public").bytes());
    let interim = wire.response();
    if interim.status() == 103 {
        assert_eq!(told(&interim), [""; 5]);
        assert_eq!(told(&wire.response()), strict);
    } else {
        assert_eq!(told(&interim), strict);
    }
}

#[test]
fn a_reload_takes_up_other_headers() {
    let upstream = Upstream::recording();
    let mut gateway = gateway(&upstream, CHANGES);
    gateway.reload_with(
        "routes",
        "[{ name: all, host: wiki.example.com, path: /, access: public, upstream: app, headers: { request: { set: { X-Stage: other } } } }]",
    );
    assert_eq!(gateway.get("/public").send().header("x-stage"), None);
    assert_eq!(upstream.last().header("x-stage").as_deref(), Some("other"));
}
