//! Another proxy asks whether a request may pass: the same rules decide, and only that proxy is answered, by its own words.

use crate::support::client::{NAVIGATION, Wire};
use crate::support::http2::Http2;
use crate::support::tokens::{self, Key};
use crate::support::users::{User, usual};
use crate::support::wait::pause;
use crate::support::{Gateway, Message, SESSION, Setup, Upstream};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

const DIALECTS: [&str; 5] = ["nginx", "traefik", "caddy", "haproxy", "envoy"];
/// What the subrequests of other proxies name as Host: no host of ours.
const BACKEND: &str = "vestibule.internal:8080";

fn asked(upstream: &Upstream, dialect: &str) -> Setup {
    Setup::before(upstream)
        .users(&[usual(), vec![User::new("carol", &[])]].concat())
        .set("forward_auth", &format!("{{ dialect: {dialect}, from: [127.0.0.1] }}"))
}

/// The target and the fields by which a proxy of this dialect asks about a request.
fn question(dialect: &str, method: &str, target: &str) -> (String, String, Vec<(&'static str, String)>) {
    let fields = match dialect {
        "nginx" => vec![
            ("Host", BACKEND.to_owned()),
            ("X-Original-URL", format!("https://wiki.example.com{target}")),
            ("X-Original-Method", method.to_owned()),
        ],
        "envoy" => {
            let fields =
                vec![("Host", "wiki.example.com".to_owned()), ("X-Forwarded-Proto", "https".to_owned())];
            return (method.to_owned(), format!("/_vestibule/auth{target}"), fields);
        }
        _ => vec![
            ("Host", BACKEND.to_owned()),
            ("X-Forwarded-Method", method.to_owned()),
            ("X-Forwarded-Proto", "https".to_owned()),
            ("X-Forwarded-Host", "wiki.example.com".to_owned()),
            ("X-Forwarded-Uri", target.to_owned()),
        ],
    };
    ("GET".to_owned(), "/_vestibule/auth?redirect=1".to_owned(), fields)
}

/// The bytes of a question with further fields.
fn bytes(dialect: &str, method: &str, target: &str, more: &[(&str, &str)]) -> (String, String) {
    let (own, path, fields) = question(dialect, method, target);
    let mut text = format!("{own} {path} HTTP/1.1\r\n");
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in fields.into_iter().chain(more) {
        write!(text, "{name}: {value}\r\n").expect("a string takes all");
    }
    (own, text + "\r\n")
}

/// What the gateway says to a question.
fn ask(gateway: &Gateway, dialect: &str, method: &str, target: &str, more: &[(&str, &str)]) -> Message {
    let (own, text) = bytes(dialect, method, target, more);
    let mut wire = gateway.connect();
    wire.write(text);
    let answer = wire.response_to(&own);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.all("set-cookie"), [""; 0], "nothing is ever set");
    answer
}

fn cookie_of(gateway: &Gateway, user: &str) -> String {
    let browser = gateway.browser();
    browser.sign_in(user);
    browser.stolen_cookie()
}

#[test]
fn every_dialect_is_told_who_asks_and_every_header_is_there() {
    let upstream = Upstream::recording();
    for dialect in DIALECTS {
        let gateway = asked(&upstream, dialect).set("identity", "{ remove: [Remote-User] }").start();
        let alice = cookie_of(&gateway, "alice");
        let forged = [
            ("X-Auth-User", "root"),
            ("X-Auth-Email", "root@example.com"),
            ("X-Auth-Groups", "admin"),
            ("Remote-User", "root"),
        ];
        let told = |answer: &Message| {
            ["x-auth-user", "x-auth-email", "x-auth-groups", "remote-user"].map(|name| answer.header(name))
        };
        let some = |values: [&str; 4]| values.map(|value| Some(value.to_owned()));
        let yes = ask(
            &gateway,
            dialect,
            "POST",
            "/ops/x?y",
            &[&[("Cookie", alice.as_str())], &forged[..]].concat(),
        );
        assert_eq!((yes.status(), yes.text().as_str()), (200, ""), "{dialect}");
        assert_eq!(told(&yes), some(["alice", "alice@example.com", "ops,a%2Cb", ""]), "{dialect}");
        let line = gateway.access_line(&yes);
        for (name, expected) in [
            ("method", "POST"),
            ("host", "wiki.example.com"),
            ("path", "/ops/x"),
            ("route", "ops"),
            ("subject", "alice"),
            ("decision", "admitted"),
        ] {
            assert_eq!(line[name], expected, "{dialect}");
        }
        let carol = cookie_of(&gateway, "carol");
        let yes =
            ask(&gateway, dialect, "GET", "/page", &[&[("Cookie", carol.as_str())], &forged[..]].concat());
        assert_eq!(told(&yes), some(["carol", "", "", ""]), "{dialect}: what is not known is empty");
        let public =
            ask(&gateway, dialect, "GET", "/public", &[&[("Cookie", alice.as_str())], &forged[..]].concat());
        assert_eq!((public.status(), told(&public)), (200, some(["", "", "", ""])), "{dialect}");
    }
    assert!(upstream.requests().is_empty(), "no application was asked");
}

#[test]
fn a_no_is_one_that_the_other_proxy_understands() {
    let upstream = Upstream::recording();
    for dialect in DIALECTS {
        let gateway = asked(&upstream, dialect).start();
        let bob = cookie_of(&gateway, "bob");
        let redirects = dialect != "nginx";
        let sign_in = "https://wiki.example.com/_vestibule/login?return_to=%2Fpage%3Fa%3D1%26b%3D2";

        let page = ask(&gateway, dialect, "GET", "/page?a=1&b=2", &NAVIGATION);
        assert_eq!(page.status(), if redirects { 302 } else { 401 }, "{dialect}");
        assert_eq!(page.header("location").as_deref(), Some(sign_in), "{dialect}");
        let script = ask(&gateway, dialect, "GET", "/page", &[("Sec-Fetch-Mode", "cors"), ("Accept", "*/*")]);
        assert_eq!((script.status(), script.header("location")), (401, None), "{dialect}");
        assert!(script.header("www-authenticate").is_some(), "{dialect}");
        let form = ask(&gateway, dialect, "POST", "/page", &NAVIGATION);
        assert_eq!((form.status(), form.header("location")), (401, None), "{dialect}: a form would be lost");
        let forbidden =
            ask(&gateway, dialect, "GET", "/ops", &[&[("Cookie", bob.as_str())], &NAVIGATION[..]].concat());
        assert_eq!((forbidden.status(), forbidden.header("x-auth-user")), (403, None), "{dialect}");
        assert_eq!(gateway.access_line(&forbidden)["reason"], "not_allowed");
        let unknown = ask(&gateway, dialect, "GET", "/page", &[("Cookie", "__Host-session=junk")]);
        assert_eq!(unknown.status(), 401, "{dialect}");
        let own = ask(&gateway, dialect, "GET", "/_vestibule/login", &[]);
        assert_eq!(own.status(), if redirects { 400 } else { 403 }, "{dialect}");
        assert_eq!(gateway.access_line(&own)["reason"], "forwarded_own_path");
    }
}

#[test]
fn without_being_asked_to_it_redirects_nobody() {
    let upstream = Upstream::recording();
    let gateway = asked(&upstream, "traefik").start();
    let (_, text) = bytes("traefik", "GET", "/page", &NAVIGATION);
    for path in ["/_vestibule/auth", "/_vestibule/auth/any/thing", "/_vestibule/auth?redirect=0"] {
        let mut wire = gateway.connect();
        wire.write(text.replace("/_vestibule/auth?redirect=1", path));
        let answer = wire.response();
        assert_eq!((answer.status(), answer.header("location")), (401, None), "{path}");
    }
}

#[test]
fn nobody_else_is_answered() {
    let upstream = Upstream::recording();
    let mut gateway = asked(&upstream, "traefik").start();
    let alice = cookie_of(&gateway, "alice");
    let (_, text) = bytes("traefik", "GET", "/page", &[("Cookie", &alice)]);
    let from = |gateway: &Gateway, address, text: &str| {
        let mut wire = Wire::from(address, gateway.address());
        wire.write(text);
        wire.response().status()
    };
    assert_eq!(from(&gateway, [127, 0, 0, 1], &text), 200);
    assert_eq!(from(&gateway, [127, 0, 0, 2], &text), 404, "a stranger");
    let claims_to_be =
        text.replace("Cookie:", "X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nCookie:");
    assert_eq!(from(&gateway, [127, 0, 0, 2], &claims_to_be), 404, "whatever it says of itself");
    // What may send X-Forwarded-For is another question than who may ask.
    gateway.reload_with("trusted_proxies", "[127.0.0.2]");
    assert_eq!(from(&gateway, [127, 0, 0, 2], &claims_to_be), 404);
    gateway.reload_with("forward_auth", "{ dialect: traefik, from: [127.0.0.2/32] }");
    assert_eq!(from(&gateway, [127, 0, 0, 1], &text), 404, "a reload takes it");
    assert_eq!(from(&gateway, [127, 0, 0, 2], &text), 200);
    gateway.reload_with("forward_auth", "{ dialect: nginx, from: [127.0.0.1] }");
    assert_eq!(from(&gateway, [127, 0, 0, 1], &text), 403, "the words of another dialect");
    let gateway = Gateway::before(&upstream);
    assert_eq!(from(&gateway, [127, 0, 0, 1], &text), 404, "nobody is, where nothing is configured");
}

#[test]
fn what_may_be_read_in_two_ways_is_refused() {
    let upstream = Upstream::recording();
    for dialect in DIALECTS {
        let gateway = asked(&upstream, dialect).start();
        let bob = cookie_of(&gateway, "bob");
        let status = if dialect == "nginx" { 403 } else { 400 };
        for (target, reason) in [
            ("/public/../ops", "dot_segment"),
            ("/public/%2e%2e/ops", "dot_segment"),
            ("/public/..;/ops", "dot_segment_with_parameters"),
            ("/public%2f..%2fops", "encoded_slash"),
            ("/public/%5c../ops", "encoded_backslash"),
            ("/public/%252e%252e/ops", "double_encoded"),
            ("//ops", "empty_segment"),
            ("/%6fps", "forwarded_not_normal"),
            ("/ops%20/", "ok"),
        ] {
            let answer = ask(&gateway, dialect, "GET", target, &[("Cookie", &bob)]);
            if reason == "ok" {
                // Another page than the one for `ops`, and in normal form.
                assert_eq!(answer.status(), 200, "{dialect} {target}");
                continue;
            }
            assert_eq!(answer.status(), status, "{dialect} {target}");
            assert_eq!(gateway.access_line(&answer)["reason"], reason, "{dialect} {target}");
        }
        let twice: &[(&str, &str)] = match dialect {
            "nginx" => &[("X-Original-URL", "https://wiki.example.com/public"), ("X-Original-Method", "GET")],
            "envoy" => &[("X-Forwarded-Proto", "https")],
            _ => &[
                ("X-Forwarded-Uri", "/public"),
                ("X-Forwarded-Host", "wiki.example.com"),
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Method", "GET"),
            ],
        };
        for copy in twice {
            let answer = ask(&gateway, dialect, "GET", "/page", &[("Cookie", &bob), *copy]);
            assert_eq!(answer.status(), status, "{dialect} {copy:?}");
            let reason = gateway.access_line(&answer)["reason"].to_string();
            assert!(reason.contains("_twice"), "{dialect} {copy:?} {reason}");
        }
        // Words of other dialects are no words here.
        let foreign: &[(&str, &str)] = if dialect == "nginx" {
            &[
                ("X-Forwarded-Uri", "/public"),
                ("X-Forwarded-Method", "GET"),
                ("X-Forwarded-Host", "other.example.com"),
            ]
        } else {
            &[
                ("X-Original-URL", "https://wiki.example.com/public"),
                ("X-Original-Method", "GET"),
                ("X-Rewrite-URL", "/public"),
            ]
        };
        let answer = ask(&gateway, dialect, "GET", "/ops", &[&[("Cookie", bob.as_str())], foreign].concat());
        assert_eq!(answer.status(), 403, "{dialect}");
    }
}

#[test]
fn the_scheme_and_the_host_are_those_of_the_visitor() {
    let upstream = Upstream::recording();
    let gateway = asked(&upstream, "traefik").start();
    let alice = cookie_of(&gateway, "alice");
    let (_, text) = bytes("traefik", "GET", "/page", &[("Cookie", &alice)]);
    for (from, to, status, reason) in [
        ("-Proto: https", "-Proto: http", 400, Some("forwarded_other_scheme")),
        ("-Host: wiki.example.com", "-Host: other.example.com", 404, Some("no_route")),
        ("-Host: wiki.example.com", "-Host: WIKI.example.com.:443", 200, None),
        ("Host: vestibule.internal:8080", "Host: wiki.example.com", 200, None),
    ] {
        let mut wire = gateway.connect();
        wire.write(text.replacen(from, to, 1));
        let answer = wire.response();
        assert_eq!(answer.status(), status, "{to}");
        if let Some(reason) = reason {
            assert_eq!(gateway.access_line(&answer)["reason"], reason, "{to}");
        }
    }
}

#[test]
fn another_sites_request_is_refused_as_ever() {
    let upstream = Upstream::recording();
    for dialect in DIALECTS {
        let gateway = asked(&upstream, dialect).start();
        let alice = cookie_of(&gateway, "alice");
        let foreign = [
            ("Cookie", alice.as_str()),
            ("Origin", "https://evil.example.com"),
            ("Sec-Fetch-Site", "cross-site"),
        ];
        let own = [
            ("Cookie", alice.as_str()),
            ("Origin", "https://wiki.example.com"),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        // What is left of an upgrade where the proxy keeps the field itself.
        let upgrade = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")];
        assert_eq!(ask(&gateway, dialect, "POST", "/page", &foreign).status(), 403, "{dialect}");
        assert_eq!(ask(&gateway, dialect, "POST", "/page", &own).status(), 200, "{dialect}");
        assert_eq!(
            ask(&gateway, dialect, "GET", "/page", &foreign).status(),
            200,
            "{dialect}: it does no harm"
        );
        let hijack = ask(&gateway, dialect, "GET", "/page", &[&foreign[..], &upgrade[..]].concat());
        assert_eq!(hijack.status(), 403, "{dialect}");
        assert_eq!(gateway.access_line(&hijack)["reason"], "cross_origin");
        assert_eq!(ask(&gateway, dialect, "GET", "/page", &[&own[..], &upgrade[..]].concat()).status(), 200);
    }
}

#[test]
fn it_counts_as_use_and_renews_nothing() {
    let upstream = Upstream::recording();
    let gateway = asked(&upstream, "nginx").set("sessions", "{ idle_timeout: 4s, renew_after: 1s }").start();
    let alice = cookie_of(&gateway, "alice");
    for _ in 0..6 {
        pause(Duration::from_secs(1));
        // `ask` looks for Set-Cookie.
        assert_eq!(ask(&gateway, "nginx", "GET", "/page", &[("Cookie", &alice)]).status(), 200);
    }
    let answer = gateway.get("/page").header("Cookie", &alice).send();
    assert!(
        answer.all("set-cookie").iter().any(|line| line.starts_with(SESSION)),
        "an exchange of ours does"
    );
}

#[test]
fn bearer_tokens_and_addresses_are_the_visitors() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = asked(&upstream, "traefik")
        .file("issuer.pem", &issuer.file())
        .set("tokens", &format!("{{ api: {{ jwt: {{ issuer: \"{}\", audience: [wiki], algorithms: [ES256], keys: {{ public_key: issuer.pem }} }} }} }}", tokens::ISSUER))
        .routes(&[
            "{ name: api, host: wiki.example.com, path: /api, access: { tokens: [api], allow: everyone }, upstream: app }",
            "{ name: office, host: wiki.example.com, path: /office, access: public, clients: { allow: [198.51.100.0/24] }, upstream: app }",
            "{ name: home, host: wiki.example.com, path: /, access: { sign_in: [local] }, upstream: app }",
        ])
        .start();
    let good = issuer.good("carol");
    gateway.secrets().note("a bearer token", &good);
    let bearer = |token: &str| format!("Bearer {token}");
    let yes = ask(&gateway, "traefik", "POST", "/api", &[("Authorization", &bearer(&good))]);
    assert_eq!((yes.status(), yes.header("x-auth-user").as_deref()), (200, Some("carol")));
    assert_eq!(
        ask(&gateway, "traefik", "POST", "/api", &[("Authorization", &bearer("x.y.z"))]).status(),
        401
    );
    assert_eq!(ask(&gateway, "traefik", "GET", "/api", &NAVIGATION).status(), 401, "no way in, no redirect");
    for (forwarded_for, status) in [
        ("198.51.100.7", 200),
        ("203.0.113.9", 403),
        ("198.51.100.7, 203.0.113.9", 403),
        ("203.0.113.9, 198.51.100.7", 200),
        ("203.0.113.9, 198.51.100.7, 127.0.0.1", 200),
    ] {
        let answer = ask(&gateway, "traefik", "GET", "/office", &[("X-Forwarded-For", forwarded_for)]);
        assert_eq!(answer.status(), status, "{forwarded_for}");
    }
    let answer = ask(&gateway, "traefik", "GET", "/office", &[("X-Forwarded-For", "198.51.100.7")]);
    assert_eq!(gateway.access_line(&answer)["client"], "198.51.100.7");
}

#[test]
fn the_assertion_goes_with_the_answer_or_is_empty() {
    let upstream = Upstream::recording();
    let made = std::process::Command::new(crate::support::gateway::BINARY)
        .args(["keys", "generate", "--assertion"])
        .output()
        .expect("the binary runs");
    let gateway = asked(&upstream, "caddy")
        .file("assertion.pem", &String::from_utf8(made.stdout).expect("PEM"))
        .set(
            "identity",
            "{ assertion: { issuer: \"https://gw.example.com\", keys: [{ file: assertion.pem }] } }",
        )
        // The application is reached by the other proxy alone.
        .set("upstreams", "{ app: { identity: { assertion: only } } }")
        .start();
    let alice = cookie_of(&gateway, "alice");
    let yes = ask(&gateway, "caddy", "GET", "/page", &[("Cookie", &alice), ("X-Auth-Assertion", "forged")]);
    let token = yes.header("x-auth-assertion").expect("it is there");
    assert_eq!(token.split('.').count(), 3);
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    assert_eq!(header.typ.as_deref(), Some("vestibule-assertion+jwt"));
    assert_eq!(yes.header("x-auth-user").as_deref(), Some(""), "this application takes the assertion alone");
    let public = ask(&gateway, "caddy", "GET", "/public", &[("X-Auth-Assertion", "forged")]);
    assert_eq!(public.header("x-auth-assertion").as_deref(), Some(""));

    assert_eq!(gateway.get("/public").send().status(), 404, "nothing is reached past the other proxy");
    assert_eq!(gateway.get("/page").header("Cookie", &alice).send().status(), 404);
    assert_eq!(gateway.get("/page").send().status(), 401);
    assert_eq!(gateway.get("/_vestibule/session").header("Cookie", &alice).send().status(), 200);
}

/// Refusals in words of gRPC have status 200, which the other proxy would take for a yes.
#[test]
fn no_refusal_over_http2_looks_like_a_yes() {
    let upstream = Upstream::recording();
    let gateway = asked(&upstream, "envoy").start();
    let plain = Gateway::before(&upstream);
    for (gateway, expected) in [(&gateway, 401), (&plain, 404)] {
        let fields = [("x-forwarded-proto", "https"), ("content-type", "application/grpc")];
        let reply = Http2::to(gateway.address()).ask("POST", "/_vestibule/auth/page", &fields);
        assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (expected, None));
    }
}

#[test]
fn a_line_of_a_refusal_says_what_was_asked() {
    let upstream = Upstream::recording();
    let gateway = asked(&upstream, "traefik").start();
    let answer =
        ask(&gateway, "traefik", "DELETE", "/page/1?secret=x", &[("X-Forwarded-For", "198.51.100.7")]);
    assert_eq!(answer.status(), 401);
    let line: Value = gateway.access_line(&answer);
    assert_eq!(
        (&line["method"], &line["path"], &line["client"]),
        (&"DELETE".into(), &"/page/1".into(), &"198.51.100.7".into())
    );
    assert_eq!(line["reason"], "absent");
}
