//! One request has one reading: it is refused, or it is forwarded in the very form that was decided on.

use crate::support::{Gateway, Upstream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Sends a head and gives the status and whether the gateway closed afterwards; the upstream must not have seen it.
fn refusal(gateway: &Gateway, upstream: &Upstream, bytes: &[u8]) -> Option<u16> {
    let before = upstream.requests().len();
    // A second request behind the refused one must not be answered: the connection is over.
    let follower = b"GET /public/second HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n";
    let answer = gateway.raw([bytes, follower].concat());
    assert_eq!(upstream.requests().len(), before, "reached the upstream: {}", shown(bytes));
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "answered twice: {}\n{answer}", shown(bytes));
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{}\n{answer}", shown(bytes));
    answer.split(' ').nth(1)?.parse().ok()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn a_head_beyond_its_budget_is_refused() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let many = "X-Field: 1\r\n".repeat(101);
    for (head, status) in [
        (format!("GET /public/{} HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", "a".repeat(9000)), 414),
        (format!("GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n{many}\r\n"), 431),
        (format!("GET /public HTTP/1.1\r\nHost: wiki.example.com\r\nX: {}\r\n\r\n", "a".repeat(33_000)), 431),
        (
            format!(
                "GET /public HTTP/1.1\r\nHost: wiki.example.com\r\nCookie: a={}\r\n\r\n",
                "a".repeat(17_000)
            ),
            431,
        ),
    ] {
        assert_eq!(refusal(&gateway, &upstream, head.as_bytes()), Some(status), "{}", &head[..60]);
    }
    // One field less passes: the bound is where it is said to be.
    let fits = "X-Field: 1\r\n".repeat(99);
    let answer = gateway
        .raw(format!("GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n{fits}Connection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431"), "Connection makes 101 fields: {answer}");
    let fits = "X-Field: 1\r\n".repeat(98);
    let answer = gateway
        .raw(format!("GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n{fits}Connection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_target_with_two_meanings_is_refused_whoever_asks() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let before = upstream.requests().len();
    for target in [
        "/public/../ops",
        "/public/./x",
        "/public/..",
        "/..",
        "/.",
        "/public/%2e%2e/ops",
        "/public/%2E%2e/ops",
        "/public/.%2e/ops",
        "/public/%2e",
        "/public/..;/ops",
        "/public/..;a=b/ops",
        "/public/.;/x",
        "/public%2fops",
        "/public%2Fops",
        "/public%5cops",
        "/public\\ops",
        "//public",
        "/public//ops",
        "/public/%00",
        "/public/%0a",
        "/public/%0d%0aX:1",
        "/public/%7f",
        "/public/%252e%252e/ops",
        "/public/%252fops",
        "/public/%255cops",
        "/public/%2561",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "/public/a#b",
        "/public?a=b#c",
        "/public/%c0%ae%c0%ae/",
    ] {
        for answer in [gateway.get(target).send(), alice.get(target).send()] {
            assert_eq!(answer.status(), 400, "{target}");
        }
    }
    assert_eq!(upstream.requests().len(), before);
}

#[test]
fn raw_bytes_outside_ascii_are_no_path() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer =
        gateway.raw(b"GET /public/\xc3\xa9 HTTP/1.1\r\nHost: wiki.example.com\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(upstream.requests().is_empty());
}

#[test]
fn what_was_matched_is_what_is_sent() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for (sent, forwarded) in [
        ("/public", "/public"),
        ("/%70ublic/%7ex", "/public/~x"),
        ("/public/%c3%a9", "/public/%C3%A9"),
        ("/public/a;b=c/d", "/public/a;b=c/d"),
        ("/public/[x]", "/public/%5Bx%5D"),
        ("/public/a%20b", "/public/a%20b"),
        // The query is passed byte for byte and never routed on.
        ("/public?a=%2e%2e%2f&b=/../ops&c=%zz&d=\\{}|[]", "/public?a=%2e%2e%2f&b=/../ops&c=%zz&d=\\{}|[]"),
        ("/public?", "/public?"),
        ("http://wiki.example.com/public?x=1", "/public?x=1"),
    ] {
        let answer = gateway.get(sent).send();
        assert_eq!(answer.status(), 200, "{sent}: {}", answer.text());
        assert_eq!(upstream.last().target(), forwarded, "{sent}");
        assert_eq!(upstream.last().header("host").as_deref(), Some("wiki.example.com"), "{sent}");
    }
}

#[test]
fn a_host_has_one_form() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for (sent, forwarded) in [
        ("WIKI.Example.Com", "wiki.example.com"),
        ("wiki.example.com.", "wiki.example.com"),
        ("wiki.example.com:443", "wiki.example.com:443"),
    ] {
        assert_eq!(gateway.get("/public").host(sent).send().status(), 200, "{sent}");
        assert_eq!(upstream.last().header("host").as_deref(), Some(forwarded), "{sent}");
        assert_eq!(upstream.last().header("x-forwarded-host").as_deref(), Some(forwarded), "{sent}");
    }
    let before = upstream.requests().len();
    for host in [
        "wiki.example.com:",
        "wiki.example.com:x",
        "wiki example.com",
        "wiki.example.com/",
        "a@wiki.example.com",
        "wiki..example.com",
        "wiki.example.com:99999",
        "[::1",
        "%77iki.example.com",
    ] {
        let status = gateway.get("/public").host(host).send().status();
        assert!(status == 400, "{host}: {status}");
    }
    assert_eq!(upstream.requests().len(), before);
}

#[test]
fn http_10_is_answered_once_and_needs_a_host() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.raw("GET /public HTTP/1.0\r\nHost: wiki.example.com\r\n\r\n");
    assert!(answer.contains(" 200 "), "{answer}");
    assert!(upstream.last().first_line().ends_with("HTTP/1.1"));
    let answer = gateway.raw("GET /public HTTP/1.0\r\n\r\n");
    assert!(answer.contains(" 400 "), "{answer}");
    assert_eq!(upstream.requests().len(), 1);
}

/// Pieces that paths of attackers are made of.
fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "//", "public", "ops", "..", ".", "%2e", "%2E%2e", "%2f", "%5c", "\\", ";", "..;", ";a=b",
        "%25", "%252e", "%00", "%7e", "~", "%70ublic", "PUBLIC", "%", "?", "#", "@", ":", "a", "%c3%a9",
        "%c0%af",
    ]);
    prop::collection::vec(piece, 1..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// The reading of the laxest server that one could find: decodes again and again, cuts parameters, resolves dots and backslashes.
fn lax_reading(target: &str) -> String {
    let mut path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    for _ in 0..4 {
        let bytes = path.as_bytes();
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let escape = bytes
                .get(at + 1..at + 3)
                .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            match (bytes[at], escape) {
                (b'%', Some(byte)) => {
                    decoded.push(byte);
                    at += 3;
                }
                (byte, _) => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        path = String::from_utf8_lossy(&decoded).into_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

#[test]
fn no_spelling_leads_a_stranger_past_the_public_path() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    runner
        .run(&hostile_path(), |path| {
            let before = upstream.requests().len();
            let answer = gateway.get(&path).send();
            let arrived = &upstream.requests()[before..];
            prop_assert!(answer.status() != 200 || arrived.len() == 1);
            for request in arrived {
                let seen = lax_reading(&request.target());
                prop_assert!(
                    seen == "public" || seen.starts_with("public/"),
                    "{path} arrived as {}",
                    request.target()
                );
            }
            Ok(())
        })
        .expect("every path is refused, or public in every reading");
}
