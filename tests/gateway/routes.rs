//! Where a request goes: the first route whose host and path match, and nowhere if there is none.

use crate::support::client::NAVIGATION;
use crate::support::{Answer, Setup, Upstream};

/// A public route that tells its name to the visitor: each has an upstream of its own.
fn table(upstream: &Upstream, routes: &[&str]) -> Setup {
    Setup::before(upstream).routes(routes).without("keys").without("sign_in")
}

fn named(upstream: &Upstream) -> String {
    upstream.last().header("host").unwrap_or_default()
}

#[test]
fn the_first_route_whose_host_and_path_match_takes_the_request() {
    let upstream = Upstream::recording();
    let host = |name: &str| {
        format!("{name}: {{ servers: [\"http://{}\"], host: {name}.internal }}", upstream.address())
    };
    let upstreams: Vec<String> =
        ["exact", "sub", "docs", "list", "wild", "rest"].iter().map(|name| host(name)).collect();
    let gateway = table(
        &upstream,
        &[
            "{ name: exact, host: a.example.com, path: \"= /docs\", access: public, upstream: exact }",
            "{ name: sub, host: a.example.com, path: /docs/sub, access: public, upstream: sub }",
            "{ name: docs, host: a.example.com, path: /docs, access: public, upstream: docs }",
            "{ name: list, host: [b.example.com, c.example.com], path: /, access: public, upstream: list }",
            "{ name: wild, host: \"*.example.com\", path: /w, access: public, upstream: wild }",
            "{ name: rest, path: /any, access: public, upstream: rest }",
        ],
    )
    .set("upstreams", &format!("{{ {} }}", upstreams.join(", ")))
    .start();
    for (host, path, expected) in [
        ("a.example.com", "/docs", "exact"),
        ("a.example.com", "/docs?q=/sub", "exact"),
        ("a.example.com", "/docs/", "docs"),
        ("a.example.com", "/docs/sub", "sub"),
        ("a.example.com", "/docs/sub/x", "sub"),
        ("a.example.com", "/docs/subx", "docs"),
        ("a.example.com", "/docs/x", "docs"),
        ("a.example.com", "/docs;v=1/sub;x=2", "sub"),
        ("A.EXAMPLE.COM", "/docs/%73ub", "sub"),
        ("a.example.com:8443", "/docs/sub", "sub"),
        ("b.example.com", "/", "list"),
        ("c.example.com", "/docs", "list"),
        ("d.example.com", "/w/x", "wild"),
        ("deep.d.example.com", "/w", "wild"),
        ("a.example.com", "/w", "wild"),
        ("d.example.com", "/any", "rest"),
        ("elsewhere.example", "/any/x", "rest"),
        ("192.0.2.1", "/any", "rest"),
        ("[2001:db8::1]", "/any", "rest"),
    ] {
        let answer = gateway.get(path).host(host).send();
        assert_eq!(answer.status(), 200, "{host}{path}");
        assert_eq!(named(&upstream), format!("{expected}.internal"), "{host}{path}");
    }
    let before = upstream.requests().len();
    for (host, path) in [
        ("a.example.com", "/"),
        ("a.example.com", "/docsx"),
        ("a.example.com", "/DOCS"),
        ("example.com", "/w"),
        ("xexample.com", "/w"),
        ("b.example.com.evil.example", "/"),
        ("elsewhere.example", "/"),
        ("elsewhere.example", "/anyx"),
    ] {
        let answer = gateway.get(path).host(host).send();
        assert_eq!(answer.status(), 404, "{host}{path}");
    }
    assert_eq!(upstream.requests().len(), before);
}

#[test]
fn methods_choose_among_routes_of_one_path() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .routes(&[
            "{ name: read, host: wiki.example.com, path: /doc, methods: [GET, HEAD], access: public, upstream: app }",
            "{ name: write, host: wiki.example.com, path: /doc, methods: [POST], access: { sign_in: [local], allow: everyone }, upstream: app }",
            "{ name: rest, host: wiki.example.com, path: /, access: public, upstream: app }",
        ])
        .start();
    assert_eq!(gateway.get("/doc").send().status(), 200);
    assert_eq!(gateway.post("/doc").send().status(), 401);
    for method in ["DELETE", "PUT", "OPTIONS", "get", "FROB"] {
        let answer = gateway.request(method, "/doc").send();
        assert_eq!(answer.status(), 405, "{method}: it does not fall through to a laxer route");
        let allowed = answer.header("allow").expect("405 says what is allowed");
        let mut allowed: Vec<&str> = allowed.split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD", "POST"], "{method}");
    }
    assert_eq!(gateway.request("DELETE", "/other").send().status(), 200);
}

#[test]
fn an_unknown_host_gets_nothing_of_ours_either() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).start();
    for path in ["/", "/_vestibule/login", "/_vestibule/logout", "/_vestibule/session"] {
        let answer = gateway.get(path).host("elsewhere.example").headers(&NAVIGATION).send();
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.all("set-cookie").is_empty());
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn what_lies_under_our_prefix_is_never_the_applications() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).access("public").start();
    for path in [
        "/_vestibule",
        "/_vestibule/",
        "/_vestibule/nothing",
        "/_vestibule/login/x",
        "/_vestibule/login/",
        "/%5fvestibule/nothing",
        "/_vestibule;x/nothing",
        "/_vestibule/admin",
    ] {
        let answer = gateway.get(path).send();
        assert_eq!(answer.status(), 404, "{path}");
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(gateway.get("/_vestibulex").send().status(), 200, "whole segments count");
    for (method, path, allowed) in [
        ("PUT", "/_vestibule/login", "GET, HEAD, POST"),
        ("DELETE", "/_vestibule/logout", "GET, HEAD, POST"),
        ("PATCH", "/_vestibule/session", "GET, HEAD, DELETE"),
    ] {
        let answer = gateway.request(method, path).send();
        assert_eq!(
            (answer.status(), answer.header("allow").as_deref()),
            (405, Some(allowed)),
            "{method} {path}"
        );
    }
}

#[test]
fn paths_fold_case_for_applications_that_do() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("upstreams", &format!("{{ app: {{ servers: [\"http://{}\"], paths: case_insensitive }} }}", upstream.address()))
        .routes(&[
            "{ name: admin, host: wiki.example.com, path: /admin, access: { sign_in: [local], allow: { groups: [ops] } }, upstream: app }",
            "{ name: rest, host: wiki.example.com, path: /, access: public, upstream: app }",
        ])
        .start();
    for path in ["/admin", "/ADMIN", "/Admin/x", "/%41dmin"] {
        assert_eq!(gateway.get(path).send().status(), 401, "{path}");
    }
    assert_eq!(gateway.get("/Other").send().status(), 200);
    assert_eq!(upstream.last().target(), "/Other", "what is sent keeps its case");
}

#[test]
fn a_target_about_the_whole_server_is_for_nobody() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).access("public").start();
    let answer = gateway.raw("OPTIONS * HTTP/1.1\r\nHost: wiki.example.com\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_application_that_says_not_found_is_believed() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).start();
    upstream.next(Answer::new("404 Not Here", &[("X-Mine", "1")], "the application's own page"));
    let answer = gateway.get("/public/x").send();
    assert_eq!((answer.status(), answer.text().as_str()), (404, "the application's own page"));
    assert_eq!(answer.header("x-mine").as_deref(), Some("1"));
}
