//! Who may pass: rules over claims, optional sign-in, and requests that other sites cause.

use crate::support::users::{User, password_of};
use crate::support::{Setup, Upstream};

#[test]
fn a_rule_decides_about_everybody() {
    let upstream = Upstream::recording();
    let users = vec![
        User::new("alice", &["email: alice@example.com", "groups: [ops]", "claims: { level: 3 }"]),
        User::new("bob", &["email: bob@sub.example.com", "groups: [dev, ops-readers]"]),
        User::new("carol", &["email: carol@EXAMPLE.com", "groups: []"]),
        User::new("dave", &[]),
    ];
    let rules = [
        ("everyone", [true, true, true, true]),
        ("{ groups: [ops] }", [true, false, false, false]),
        ("{ groups: [ops, dev] }", [true, true, false, false]),
        ("{ subject: [bob, dave] }", [false, true, false, true]),
        ("{ source: local }", [true, true, true, true]),
        ("{ email: alice@example.com }", [true, false, false, false]),
        ("{ email_domain: example.com }", [true, false, true, false]),
        ("{ claims: { level: 3 } }", [true, false, false, false]),
        ("{ not: { subject: bob } }", [true, false, true, true]),
        ("{ all: [ { groups: [ops, dev] }, { not: { subject: alice } } ] }", [false, true, false, false]),
        ("{ any: [ { groups: [dev] }, { email_domain: example.com } ] }", [true, true, true, false]),
        (
            "{ any: [ { subject: dave }, { all: [ { groups: [ops] }, { email_domain: example.com } ] } ] }",
            [true, false, false, true],
        ),
    ];
    let routes: Vec<String> = (0..)
        .zip(&rules)
        .map(|(number, (rule, _))| {
            format!("{{ name: rule-{number}, host: wiki.example.com, path: /{number}, upstream: app, access: {{ sign_in: [local], allow: {rule} }} }}")
        })
        .chain(["{ name: rest, host: wiki.example.com, path: /, upstream: app, access: public }".to_owned()])
        .collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let gateway = Setup::before(&upstream).users(&users).routes(&routes).start();
    for (place, user) in users.iter().enumerate() {
        let browser = gateway.browser();
        assert_eq!(browser.try_sign_in(&user.name, &user.password, "/").status(), 303, "{}", user.name);
        for (number, (rule, expected)) in rules.iter().enumerate() {
            let answer = browser.get(&format!("/{number}")).send();
            assert_eq!(
                answer.status(),
                if expected[place] { 200 } else { 403 },
                "{} under {rule}",
                user.name
            );
        }
    }
    for number in 0..rules.len() {
        assert_eq!(gateway.get(&format!("/{number}")).send().status(), 401, "a stranger passes nowhere");
    }
}

#[test]
fn a_shared_policy_counts_where_it_is_named() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("policies", "{ team: { sign_in: [local], allow: { groups: [ops] } } }")
        .access("team")
        .start();
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    assert_eq!(alice.get("/").send().status(), 200);
    let refused = bob.get("/").send();
    assert_eq!(refused.status(), 403);
    let line = gateway.access_line(&refused);
    assert_eq!((line["subject"].as_str(), line["decision"].as_str()), (Some("bob"), Some("forbidden")));
}

#[test]
fn where_sign_in_is_optional_everybody_passes_and_a_rule_still_refuses() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .access("{ sign_in: [local], allow: { groups: [ops] }, optional: true }")
        .start();
    let stranger = gateway.get("/page").header("X-Auth-User", "root").send();
    assert_eq!(stranger.status(), 200);
    assert_eq!(upstream.last().header("x-auth-user"), None);
    let junk = gateway.get("/page").header("Cookie", "__Host-session=junk").send();
    assert_eq!(junk.status(), 200, "a dead cookie is no credential");
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    assert_eq!(alice.get("/page").send().status(), 200);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    bob.sign_in("bob");
    assert_eq!(bob.get("/page").send().status(), 403);
}

#[test]
fn another_sites_page_cannot_use_a_cookie() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .routes(&[
            "{ name: listed, host: wiki.example.com, path: /listed, upstream: app,
               access: { sign_in: [local], allow: everyone, cross_origin: [\"https://friend.example\"] } }",
            "{ name: all, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cross: &[(&str, &str)] = &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")];
    let friend: &[(&str, &str)] = &[("Origin", "https://friend.example"), ("Sec-Fetch-Site", "cross-site")];
    let upgrade: &[(&str, &str)] = &[
        ("Origin", "https://evil.example"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    for (name, method, path, fields, status) in [
        (
            "a page of ours posts",
            "POST",
            "/page",
            &[("Origin", "https://wiki.example.com"), ("Sec-Fetch-Site", "same-origin")][..],
            200,
        ),
        ("a program posts", "POST", "/page", &[], 200),
        ("somebody typed it", "POST", "/page", &[("Sec-Fetch-Site", "none")], 200),
        ("another site posts", "POST", "/page", cross, 403),
        ("another site puts", "PUT", "/page", cross, 403),
        ("another site deletes", "DELETE", "/page", cross, 403),
        ("another site invents a method", "FROB", "/page", cross, 403),
        ("a sibling posts", "POST", "/page", &[("Sec-Fetch-Site", "same-site")], 403),
        ("a sibling with an origin posts", "POST", "/page", &[("Origin", "https://blog.example.com")], 403),
        ("a sandboxed page posts", "POST", "/page", &[("Origin", "null")], 403),
        ("our host without TLS posts", "POST", "/page", &[("Origin", "http://wiki.example.com")], 403),
        ("another site links", "GET", "/page", cross, 200),
        ("another site opens a WebSocket", "GET", "/page", upgrade, 403),
        ("a listed site posts", "POST", "/listed", friend, 200),
        ("an unlisted site posts there", "POST", "/listed", cross, 403),
        ("a listed site posts elsewhere", "POST", "/page", friend, 403),
    ] {
        let before = upstream.requests().len();
        let answer = alice.request(method, path).headers(fields).send();
        assert_eq!(answer.status(), status, "{name}");
        assert_eq!(upstream.requests().len() - before, usize::from(status == 200), "{name}");
    }
    gateway.wait_for_line("about it", |line| line["reason"] == "cross_origin" && line["status"] == 403);
}

#[test]
fn a_preflight_is_refused_unless_the_application_is_to_answer_it() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .routes(&[
            "{ name: open, host: wiki.example.com, path: /open, upstream: app,
               access: { sign_in: [local], allow: everyone, preflight: forward } }",
            "{ name: all, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .start();
    let preflight = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT")];
    assert_eq!(gateway.request("OPTIONS", "/page").headers(&preflight).send().status(), 401);
    assert!(upstream.requests().is_empty());
    assert_eq!(
        gateway.request("OPTIONS", "/open").headers(&preflight).header("X-Auth-User", "root").send().status(),
        200
    );
    assert_eq!(upstream.last().header("x-auth-user"), None);
    assert_eq!(gateway.request("OPTIONS", "/open").send().status(), 401, "an OPTIONS that is no preflight");
    assert_eq!(
        gateway.request("PUT", "/open").headers(&preflight).send().status(),
        401,
        "only OPTIONS is one"
    );
}

#[test]
fn a_session_of_a_way_that_is_not_listed_is_asked_to_sign_in_by_another() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("sign_in", "{ local: { password: { users: users.yaml } }, staff: { password: { users: staff.yaml } } }")
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Source: source } }")
        .file("staff.yaml", &crate::support::users::file(&[User::new("alice", &["groups: [ops]"])]))
        .routes(&[
            "{ name: staff, host: wiki.example.com, path: /staff, access: { sign_in: [staff], allow: everyone }, upstream: app }",
            "{ name: all, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .start();
    let alice = gateway.browser();
    let token = alice.form_token("/_vestibule/login");
    let password = password_of("alice");
    let form = [
        ("user", "alice"),
        ("password", password.as_str()),
        ("form_token", token.as_str()),
        ("way", "local"),
        ("return_to", "/"),
    ];
    assert_eq!(alice.own_post("/_vestibule/login").form(&form).send().status(), 303);
    assert_eq!(alice.get("/page").send().status(), 200);
    assert_eq!(alice.get("/staff").send().status(), 401, "the same name in another file is somebody else");
}
