//! Identity headers come from the gateway only; what belongs to visitor and gateway stays between them.

use crate::support::client::NAVIGATION;
use crate::support::tokens::Key;
use crate::support::users::{User, usual};
use crate::support::{Answer, Gateway, Message, SESSION, Setup, Upstream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

/// Letters and digits alone, lower case: what the laxest server makes of a header's name.
fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Every value whose header's name a lax server could take for `name`.
fn as_a_lax_server_reads(request: &Message, name: &str) -> Vec<String> {
    let fields = request.fields().into_iter();
    fields.filter(|(held, _)| folded(held) == folded(name)).map(|(_, value)| value).collect()
}

const NAMES: [&str; 3] = ["X-Auth-User", "X-Auth-Email", "X-Auth-Groups"];

#[test]
fn the_upstream_learns_who_asks() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.get("/page").send();
    let request = upstream.last();
    assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(request.header("x-auth-email").as_deref(), Some("alice@example.com"));
    assert_eq!(
        request.header("x-auth-groups").as_deref(),
        Some("ops,a%2Cb"),
        "a group named `a,b` stays one"
    );
}

#[test]
fn no_spelling_of_an_identity_header_gets_through() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Email: email, X-Auth-Groups: groups }, remove: [Remote-User] }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    // Any name that folds onto one of ours, with separators of every kind that a header's name may have.
    let names = prop::sample::select(vec![
        "X-Auth-User",
        "X-Auth-Email",
        "X-Auth-Groups",
        "Remote-User",
        "X-Session-Data",
        "X-Session-Patch",
        "X-Request-Id",
    ]);
    let separator = prop::sample::select(vec![
        "", "-", "_", ".", "--", "!", "#", "$", "%", "&", "'", "*", "+", "^", "`", "|", "~", "_-",
    ]);
    let spelling =
        (names, prop::collection::vec((separator, any::<bool>()), 40)).prop_map(|(name, changes)| {
            let mut spelt = String::new();
            for (letter, (separator, upper)) in folded(name).chars().zip(changes) {
                spelt.push(if upper { letter.to_ascii_uppercase() } else { letter });
                spelt.push_str(separator);
            }
            (name, spelt)
        });
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    runner
        .run(&spelling, |(name, spelt)| {
            for (path, cookie) in [
                ("/public", None),
                ("/page", Some(alice.stolen_cookie())),
                ("/public", Some(alice.stolen_cookie())),
            ] {
                let mut request = gateway
                    .get(path)
                    .header(&spelt, "root")
                    .header("Connection", "keep-alive")
                    .header(&spelt, "root");
                if let Some(cookie) = &cookie {
                    request = request.header("Cookie", cookie);
                }
                let answer = request.send();
                prop_assert_eq!(answer.status(), 200);
                let seen = as_a_lax_server_reads(&upstream.last(), name);
                prop_assert!(!seen.iter().any(|value| value.contains("root")), "{} became {:?}", spelt, seen);
                prop_assert!(seen.len() <= 1, "{} became {:?}", spelt, seen);
            }
            Ok(())
        })
        .expect("every spelling is removed");
}

#[test]
fn a_public_page_and_an_absent_claim_carry_no_identity() {
    let upstream = Upstream::recording();
    let users = [usual(), vec![User::new("carol", &[])]].concat();
    let gateway = Setup::before(&upstream).users(&users).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.get("/public").header("X-Auth-User", "root").send();
    for name in NAMES {
        assert_eq!(
            as_a_lax_server_reads(&upstream.last(), name),
            Vec::<String>::new(),
            "{name} on a public page"
        );
    }
    let carol = gateway.browser();
    carol.sign_in("carol");
    carol.get("/page").header("X-Auth-Email", "root@example.com").header("x_auth_groups", "ops").send();
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("carol"));
    assert_eq!(as_a_lax_server_reads(&upstream.last(), "X-Auth-Email"), Vec::<String>::new());
    assert_eq!(as_a_lax_server_reads(&upstream.last(), "X-Auth-Groups"), Vec::<String>::new());
}

#[test]
fn connection_cannot_nominate_our_headers_away() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    for connection in [
        "X-Auth-User",
        "close, x-auth-user, X-Auth-Groups",
        "keep-alive, X-Request-Id, x-forwarded-for, Host, Cookie",
    ] {
        let answer = alice.get("/page").header("Connection", connection).header("X-Auth-User", "root").send();
        // A nomination that makes no sense may be refused; it may not take anything away.
        if answer.status() == 400 {
            continue;
        }
        assert_eq!(answer.status(), 200, "{connection}");
        let request = upstream.last();
        assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"), "{connection}");
        assert_eq!(request.header("x-auth-groups").as_deref(), Some("ops,a%2Cb"), "{connection}");
        assert!(
            request.header("x-request-id").is_some() && request.header("x-forwarded-for").is_some(),
            "{connection}"
        );
        assert_eq!(request.header("host").as_deref(), Some("wiki.example.com"), "{connection}");
        let nominated = request.all("connection").join(",").to_ascii_lowercase();
        assert!(!nominated.contains("x-auth"), "the next hop would drop it: {nominated}");
    }
}

#[test]
fn values_arrive_one_to_one_and_in_one_line() {
    let upstream = Upstream::recording();
    let key = Key::eddsa();
    let gateway = Setup::before(&upstream)
        .set(
            "tokens",
            "{ api: { jwt: { issuer: \"https://id.example.com\", audience: [wiki], algorithms: [EdDSA], keys: { public_key: token.key } } } }",
        )
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Groups: groups, X-Department: department } }")
        .file("token.key", &key.file())
        .access("{ tokens: [api], allow: everyone }")
        .without("sign_in")
        .without("keys")
        .start();
    let token = key.token(" edge ", |_, claims| {
        claims["groups"] = json!(["a,b", "100%", "zo\u{eb}", " x ", "%2C"]);
        claims["department"] = json!("R&D\r\nX-Evil: 1\0");
    });
    assert_eq!(gateway.get("/page").bearer(&token).send().status(), 200);
    let request = upstream.last();
    assert_eq!(request.header("x-auth-user").as_deref(), Some("%20edge%20"));
    assert_eq!(request.header("x-auth-groups").as_deref(), Some("a%2Cb,100%25,zo%C3%AB,%20x%20,%252C"));
    assert_eq!(request.header("x-department").as_deref(), Some("R&D%0D%0AX-Evil: 1%00"));
    assert_eq!(request.header("x-evil"), None);
    let token = key.token("alice", |_, claims| {
        claims["groups"] = json!([]);
        claims["department"] = json!("");
    });
    assert_eq!(gateway.get("/page").bearer(&token).header("X-Department", "all").send().status(), 200);
    assert_eq!(upstream.last().header("x-auth-groups"), None, "an empty list is no header");
    assert_eq!(upstream.last().header("x-department"), None, "an empty value is no header");
}

#[test]
fn an_old_application_gets_plain_utf_8_where_the_file_says_so() {
    let upstream = Upstream::recording();
    let users = vec![User::new("zoë", &["groups: [\"é,1\"]"])];
    let gateway = Setup::before(&upstream)
        .users(&users)
        .set("identity", "{ headers: { X-Auth-User: { claim: subject, encoding: utf8 } } }")
        .start();
    let browser = gateway.browser();
    assert_eq!(browser.try_sign_in("zoë", &users[0].password, "/").status(), 303);
    browser.get("/page").send();
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("zoë"));
}

#[test]
fn an_upstream_can_have_headers_of_its_own() {
    let (upstream, legacy) = (Upstream::recording(), Upstream::recording());
    let gateway = Setup::before(&upstream)
        .set(
            "upstreams",
            &format!(
                "{{ app: {{ servers: [\"http://{}\"] }}, legacy: {{ servers: \"http://{}\", host: old.internal, identity: {{ headers: {{ Remote-User: subject }} }} }} }}",
                upstream.address(),
                legacy.address()
            ),
        )
        .routes(&[
            "{ name: old, host: wiki.example.com, path: /old, access: { sign_in: [local], allow: everyone }, upstream: legacy }",
            "{ name: wiki, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.get("/old").header("Remote-User", "root").header("X-Auth-User", "root").send();
    let request = legacy.last();
    assert_eq!(request.header("remote-user").as_deref(), Some("alice"));
    assert_eq!(
        as_a_lax_server_reads(&request, "X-Auth-User"),
        Vec::<String>::new(),
        "a name of another upstream is ours too"
    );
    assert_eq!(request.header("host").as_deref(), Some("old.internal"));
    assert_eq!(request.header("x-forwarded-host").as_deref(), Some("wiki.example.com"));
    alice.get("/page").header("Remote-User", "root").send();
    assert_eq!(upstream.last().header("remote-user"), None);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
}

#[test]
fn our_cookies_stay_here_and_the_others_pass_byte_for_byte() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let own = alice.stolen_cookie();
    let device =
        alice.cookie("__Host-vestibule-device").map(|value| format!("__Host-vestibule-device={value}"));
    let device = device.expect("a browser that has signed in is known");
    for (sent, forwarded) in [
        (own.clone(), None),
        (format!("{own}; {device}"), None),
        (format!("sid=\"a b%20\"; {own}; x=1=2"), Some("sid=\"a b%20\"; x=1=2")),
        (format!("{own}; a=1"), Some("a=1")),
        (format!("a=1; {own}"), Some("a=1")),
        ("a=1;b=2 ;  c".to_owned(), Some("a=1;b=2 ;  c")),
        (format!("{SESSION}x=1; {device}"), Some("__Host-sessionx=1")),
    ] {
        assert_eq!(gateway.get("/public").header("Cookie", &sent).send().status(), 200, "{sent}");
        assert_eq!(upstream.last().header("cookie").as_deref(), forwarded, "{sent}");
    }
}

#[test]
fn an_application_cannot_set_our_cookies() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::ok(&[
        ("Set-Cookie", "sid=1; Path=/"),
        ("Set-Cookie", "__Host-session=planted; Secure; Path=/"),
        ("Set-Cookie", " __host-SESSION =planted; Secure; Path=/"),
        ("Set-Cookie", "__Host-vestibule-form=planted; Secure; Path=/"),
        ("set-cookie", "__Host-vestibule-device=planted"),
        ("Set-Cookie", "theme=dark"),
    ]));
    let answer = gateway.get("/public").send();
    assert_eq!(answer.all("set-cookie"), ["sid=1; Path=/", "theme=dark"]);
}

#[test]
fn an_application_cannot_speak_our_session_headers_to_visitors() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::ok(&[
        ("X-Session-Patch", "{}"),
        ("X-Session-Sign-In", "{}"),
        ("X_Session_Data", "{}"),
        ("_X-Session-Data", "{}"),
        ("-x.session-id", "1"),
        ("X-Other", "1"),
    ]));
    let answer = gateway.get("/public").send();
    assert_eq!(answer.header("x-other").as_deref(), Some("1"));
    let names: Vec<String> = answer.fields().into_iter().map(|(name, _)| folded(&name)).collect();
    assert!(!names.iter().any(|name| name.starts_with("xsession")), "{names:?}");
}

#[test]
fn where_a_request_came_from_is_said_by_us() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    gateway
        .get("/public")
        .headers(&[
            ("X-Forwarded-For", "203.0.113.9"),
            ("x_forwarded_for", "203.0.113.9"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Prefix", "/evil"),
            ("X-Forwarded-Uri", "/ops"),
            ("Forwarded", "for=203.0.113.9"),
            ("X-Real-IP", "203.0.113.9"),
            ("X-Original-URL", "/ops"),
            ("X-Rewrite-URL", "/ops"),
            ("X-Request-Id", "of-the-client"),
        ])
        .send();
    let request = upstream.last();
    for (name, value) in [
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", Some("wiki.example.com")),
        ("x-forwarded-port", Some("443")),
        ("x-forwarded-prefix", None),
        ("x-forwarded-uri", None),
        ("forwarded", None),
        ("x-real-ip", None),
        ("x-original-url", None),
        ("x-rewrite-url", None),
    ] {
        assert_eq!(as_a_lax_server_reads(&request, name), value.into_iter().collect::<Vec<_>>(), "{name}");
    }
    let id = request.header("x-request-id").expect("a request id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn a_trusted_proxy_is_believed_about_the_hops_before_it() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("trusted_proxies", "[127.0.0.0/8, 10.0.0.0/8]").start();
    let answer =
        gateway.get("/public").header("X-Forwarded-For", "198.51.100.7, 203.0.113.9, 10.1.2.3").send();
    assert_eq!(
        upstream.last().header("x-forwarded-for").as_deref(),
        Some("198.51.100.7, 203.0.113.9, 10.1.2.3, 127.0.0.1")
    );
    let id = upstream.last().header("x-request-id").expect("a request id");
    assert_eq!(answer.status(), 200);
    let line = gateway.wait_for_line("of the exchange", |line| line["request_id"] == id.as_str());
    assert_eq!(line["client"], "203.0.113.9", "the last that is not one of ours");
}

#[test]
fn a_failing_upstream_gets_no_identity_into_its_error_page() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::ThenClose(Vec::new()));
    let answer = gateway.get("/public").headers(&NAVIGATION).header("X-Auth-User", "mallory").send();
    assert_eq!(answer.status(), 502);
    assert!(!answer.text().contains("mallory"));
}
