//! The listener that leads to https: where to, for whom, and what it serves on the way.

use crate::support::tls::Authority;
use crate::support::{Gateway, HOST, Message, Setup, Upstream, Wire};
use std::fs;
use std::os::unix::fs::symlink;

const CHALLENGES: &str = "/.well-known/acme-challenge";

fn started(upstream: &Upstream) -> Gateway {
    let listeners = "[{ address: \"127.0.0.1:{second}\", redirect: https, acme_webroot: webroot },
        { address: \"127.0.0.1:{public}\", tls: { certificates: [{ certificate: server.crt, key: server.key }] } }]";
    Setup::before(upstream)
        .with_tls(&Authority::new("ours"))
        .set("listeners", listeners)
        .file("webroot/.well-known/acme-challenge/token-of_88", "token-of_88.thumbprint")
        .file("webroot/outside", "not for you")
        .start()
}

fn ask(gateway: &Gateway, method: &str, target: &str, host: &str) -> Message {
    let mut wire = Wire::to(gateway.port("second"));
    wire.write(gateway.request(method, target).host(host).bytes());
    wire.response_to(method)
}

#[test]
fn every_request_is_sent_to_the_same_place_over_https() {
    let upstream = Upstream::recording();
    let gateway = started(&upstream);
    let origin = format!("https://{HOST}:{}", gateway.address().port());
    for (method, target, host) in [
        ("GET", "/", HOST),
        ("GET", "/page?a=%2F&b=//c", HOST),
        ("HEAD", "/page", "WIKI.example.com:80"),
        ("POST", "/_vestibule/login", HOST),
        ("GET", "//evil.example.net/x", HOST),
        ("GET", "/.well-known/acme-challenge", HOST),
        ("DELETE", "/.well-known/acme-challenge/token-of_88", HOST),
    ] {
        let answer = ask(&gateway, method, target, host);
        if target.starts_with("//") {
            // Not in normal form: refused or mended, and never a place elsewhere.
            let location = answer.header("location").unwrap_or_default();
            assert!(location.is_empty() || location.starts_with(&format!("{origin}/")), "{location}");
            continue;
        }
        assert_eq!(answer.status(), 308, "{method} {target}");
        assert_eq!(answer.header("location"), Some(format!("{origin}{target}")), "{method} {target}");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(answer.header("strict-transport-security"), None, "nobody heeds it over http");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_host_that_no_route_has_is_sent_nowhere() {
    let upstream = Upstream::recording();
    let gateway = started(&upstream);
    for host in ["evil.example.net", "127.0.0.1", "example.com"] {
        let answer = ask(&gateway, "GET", "/", host);
        assert_eq!(answer.status(), 404, "{host}");
        assert_eq!(answer.header("location"), None, "{host}");
    }
    for host in ["wiki.example.com@evil.example.net", "wiki.example.com/evil"] {
        assert_eq!(ask(&gateway, "GET", "/", host).status(), 400, "{host}");
    }
    let mut wire = Wire::to(gateway.port("second"));
    wire.write(format!("GET http://evil.example.net/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.response().status(), 400, "target and Host differ");
}

#[test]
fn where_routes_are_for_any_host_everybody_is_sent_to_the_one_of_the_file() {
    let upstream = Upstream::recording();
    let listeners = "[{ address: \"127.0.0.1:{second}\", redirect: https },
        { address: \"127.0.0.1:{public}\", external: { scheme: https, port: 8443 } }]";
    let gateway = Setup::before(&upstream)
        .set("listeners", listeners)
        .set("external_url", "https://wiki.example.com")
        .routes(&["{ name: all, path: /, access: public, upstream: app }"])
        .start();
    for host in [HOST, "evil.example.net"] {
        let answer = ask(&gateway, "GET", "/x", host);
        assert_eq!(answer.header("location").as_deref(), Some("https://wiki.example.com/x"), "{host}");
    }
}

#[test]
fn an_authoritys_challenge_is_answered_from_the_webroot_and_nothing_else_is() {
    let upstream = Upstream::recording();
    let gateway = started(&upstream);
    let folder = gateway.folder().path().join("webroot/.well-known/acme-challenge");
    symlink("../../outside", folder.join("link")).expect("a link can be made");
    symlink("/etc/passwd", folder.join("passwd")).expect("a link can be made");
    fs::write(folder.join("long"), "x".repeat(5000)).expect("a file can be written");
    for host in [HOST, "not-yet.example.com"] {
        let answer = ask(&gateway, "GET", &format!("{CHALLENGES}/token-of_88"), host);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "token-of_88.thumbprint"), "{host}");
    }
    let head = ask(&gateway, "HEAD", &format!("{CHALLENGES}/token-of_88"), HOST);
    assert_eq!((head.status(), head.header("content-length").as_deref()), (200, Some("22")));
    for (name, expected) in [
        ("link", 404),
        ("passwd", 404),
        ("long", 404),
        ("absent", 404),
        ("", 404),
        ("a.b", 404),
        ("token-of_88?x", 404),
        ("../../outside", 400),
        ("..%2f..%2foutside", 400),
        ("%2e%2e/outside", 400),
        ("x/../token-of_88", 400),
    ] {
        let answer = ask(&gateway, "GET", &format!("{CHALLENGES}/{name}"), HOST);
        assert_eq!(answer.status(), expected, "{name}");
        assert!(!answer.text().contains("not for you") && !answer.text().contains("root:"), "{name}");
    }
    // Where applications are served it is a path like any other.
    assert_eq!(gateway.get(&format!("{CHALLENGES}/token-of_88")).send().status(), 401);
}
