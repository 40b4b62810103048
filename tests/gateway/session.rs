//! `/_vestibule/session`, for scripts, and what counts as a session cookie at all.

use crate::support::client::OWN_FORM;
use crate::support::{Gateway, SESSION, Setup, Upstream};
use serde_json::json;

#[test]
fn a_script_learns_who_it_is_and_until_when() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    let stranger = alice.get("/_vestibule/session").send();
    assert_eq!(stranger.status(), 401);
    assert!(stranger.header("www-authenticate").is_some());
    alice.sign_in("alice");
    let answer = alice.get("/_vestibule/session").send();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let told = answer.json();
    assert_eq!(
        (&told["subject"], &told["source"], &told["email"], &told["groups"], &told["sign_in"]),
        (
            &json!("alice"),
            &json!("local"),
            &json!("alice@example.com"),
            &json!(["ops", "a,b"]),
            &json!("local")
        )
    );
    for instant in ["started_at", "idle_until", "ends_at"] {
        let text = told[instant].as_str().unwrap_or_else(|| panic!("{instant} in {told}"));
        assert!(text.ends_with('Z') && humantime::parse_rfc3339(text).is_ok(), "{instant}: {text}");
    }
    assert!(upstream.requests().is_empty(), "own paths never reach the upstream");
}

#[test]
fn a_script_signs_out_with_delete_but_another_sites_script_does_not() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    for fields in [
        &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")][..],
        &[("Origin", "https://blog.example.com"), ("Sec-Fetch-Site", "same-site")],
        &[("Origin", "null")],
    ] {
        assert_eq!(
            alice.request("DELETE", "/_vestibule/session").headers(fields).send().status(),
            403,
            "{fields:?}"
        );
    }
    assert!(alice.is_signed_in());
    let copied = alice.stolen_cookie();
    let answer = alice.request("DELETE", "/_vestibule/session").headers(&OWN_FORM).send();
    assert_eq!(answer.status(), 204);
    assert!(alice.cookie(SESSION).is_none());
    assert_eq!(gateway.get("/page").header("Cookie", &copied).send().status(), 401);
    assert_eq!(alice.request("DELETE", "/_vestibule/session").send().status(), 401, "there is none any more");
}

#[test]
fn a_sign_out_ends_every_session_that_was_presented_or_says_that_it_cannot() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let cookies = ["alice", "bob"].map(|name| {
        let browser = gateway.browser();
        browser.sign_in(name);
        browser.stolen_cookie()
    });
    let delete = |cookie: &str| {
        let request = gateway.request("DELETE", "/_vestibule/session").headers(&OWN_FORM);
        request.header("Cookie", cookie).send().status()
    };
    let many: Vec<String> = (0..20).map(|n| format!("{SESSION}={n:054}")).collect();
    assert_eq!(delete(&format!("{}; {}", cookies[0], many.join("; "))), 400, "nobody looks at so many");
    assert_eq!(delete(&cookies.join("; ")), 204);
    for cookie in &cookies {
        assert_eq!(gateway.get("/page").header("Cookie", cookie).send().status(), 401, "{cookie}");
    }
}

#[test]
fn only_the_exact_cookie_counts() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let value = alice.cookie(SESSION).expect("a session cookie");
    let get = |cookie: &str| gateway.get("/page").header("Cookie", cookie).send().status();
    for (cookie, status) in [
        (format!("{SESSION}={value}"), 200),
        (format!("a=b; {SESSION}={value}; c=d"), 200),
        (format!("{SESSION}={value}; {SESSION}={value}"), 200),
        // Two different values: somebody tossed one in, and nobody can say which is whose.
        (format!("{SESSION}={value}; {SESSION}={}", "A".repeat(54)), 401),
        (format!("{SESSION}=x; {SESSION}={value}"), 401),
        (format!("__host-session={value}"), 401),
        (format!("__%48ost-session={value}"), 401),
        (format!("session={value}"), 401),
        (format!("x{SESSION}={value}"), 401),
        (format!("{SESSION}=\"{value}\""), 401),
        (format!("{SESSION}={value}A"), 401),
        (format!("{SESSION}={}", &value[..53]), 401),
        (format!("{SESSION}={}", value.to_uppercase()), 401),
        (format!("{SESSION}="), 401),
        (format!("\u{a0}{SESSION}={value}"), 401),
    ] {
        assert_eq!(get(&cookie), status, "{cookie}");
    }
}

#[test]
fn every_changed_letter_of_a_token_is_noticed() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let value = alice.cookie(SESSION).expect("a session cookie");
    for at in 0..value.len() {
        let mut changed = value.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        let status = gateway.get("/page").header("Cookie", &format!("{SESSION}={changed}")).send().status();
        assert_eq!(status, 401, "letter {at}");
    }
    assert!(alice.is_signed_in());
}

#[test]
fn a_session_counts_on_the_host_that_opened_it() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .routes(&[
            "{ name: wiki, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
            "{ name: blog, host: blog.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let copied = alice.stolen_cookie();
    assert_eq!(gateway.get("/page").header("Cookie", &copied).send().status(), 200);
    assert_eq!(gateway.get("/page").host("blog.example.com").header("Cookie", &copied).send().status(), 401);
    assert_eq!(
        gateway.get("/page").host("wiki.example.com:443").header("Cookie", &copied).send().status(),
        200
    );
}

#[test]
fn several_cookie_fields_are_one() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let own = alice.stolen_cookie();
    let answer =
        gateway.get("/page").headers(&[("Cookie", "a=1; b=2"), ("Cookie", &own), ("Cookie", "c=3")]).send();
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.last().header("cookie").as_deref(), Some("a=1; b=2; c=3"));
}

#[test]
fn two_tabs_share_a_session() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    let mut tabs = [gateway.connect(), gateway.connect()];
    for _ in 0..3 {
        for tab in &mut tabs {
            assert_eq!(gateway.get("/page").header("Cookie", &cookie).send_over(tab).status(), 200);
        }
    }
}
