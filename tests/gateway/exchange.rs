//! A bearer token is traded for a session, which is good for no more than the token and dies with it.

use crate::support::proofs::{Holder, outcome};
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{unix_now, until};
use crate::support::{Browser, Gateway, Message, ORIGIN, SESSION, Setup, Upstream};
use serde_json::{Value, json};

/// `/app` takes sessions that tokens of `api` were traded for, `/both` the tokens too, `/wiki` those of the form alone.
/// Tokens of `plain` are not traded.
fn setup(upstream: &Upstream, issuer: &Key) -> Setup {
    let entry = |audience: &str, exchange: bool| {
        format!(
            "{{ jwt: {{ issuer: \"{ISSUER}\", audience: [{audience}], algorithms: [ES256], keys: {{ public_key: token.key }} }}, exchange: {exchange} }}"
        )
    };
    let route = |name: &str, access: &str| {
        format!(
            "{{ name: {name}, host: wiki.example.com, path: /{name}, upstream: app, access: {{ allow: everyone, {access} }} }}"
        )
    };
    Setup::before(upstream)
        .set("tokens", &format!("{{ api: {}, plain: {} }}", entry(AUDIENCE, true), entry("plain", false)))
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Groups: groups } }")
        .routes(&[
            &route("app", "sign_in: [api]"),
            &route("both", "sign_in: [api], tokens: [api, plain]"),
            &route("wiki", "sign_in: [local]"),
        ])
        .file("token.key", &issuer.file())
}

fn token(issuer: &Key, subject: &str, jti: &str) -> String {
    issuer.token(subject, |_, claims| {
        claims["jti"] = json!(jti);
        claims["iat"] = json!(unix_now() - 5);
    })
}

/// As a script on one of our pages does it.
fn trade(browser: &Browser<'_>, token: &str) -> Message {
    browser
        .request("POST", "/_vestibule/session")
        .header("Origin", ORIGIN)
        .header("Sec-Fetch-Site", "same-origin")
        .bearer(token)
        .send()
}

fn revoke(gateway: &Gateway, body: &Value) -> Value {
    let answer = gateway.admin("POST", "/tokens/revoke", &body.to_string());
    assert_eq!(answer.status(), 200, "{body}: {}", answer.text());
    answer.json()
}

#[test]
fn a_token_opens_a_session_where_routes_take_it_and_nowhere_else() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer).start();
    let browser = gateway.browser();
    let answer = trade(&browser, &token(&issuer, "alice", "1"));
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let told = answer.json();
    assert_eq!((told["subject"].as_str(), told["source"].as_str()), (Some("alice"), Some(ISSUER)));
    assert_eq!(told["sign_in"], "api");
    let cookie =
        answer.all("set-cookie").into_iter().find(|line| line.starts_with(SESSION)).expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("Secure"), "{cookie}");
    for (target, expected) in [("/app", 200), ("/both", 200), ("/wiki", 401)] {
        assert_eq!(browser.get(target).send().status(), expected, "{target}");
    }
    let seen = upstream.requests();
    assert_eq!(seen[0].header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(seen[0].header("x-auth-groups").as_deref(), Some("ops"), "what the token said of her");
    assert!(seen.iter().all(|request| request.header("cookie").is_none()));
    assert_eq!(browser.get("/_vestibule/session").send().json()["subject"], "alice");
    let line = gateway.audit("sign_in");
    assert_eq!((line["sign_in"].as_str(), line["subject"].as_str()), (Some("api"), Some("alice")));
    // By curl, without a word of any site.
    let bare = gateway.post("/_vestibule/session").bearer(&token(&issuer, "bob", "2")).send();
    assert_eq!(bare.status(), 201);
    // And out again.
    let out = browser.request("DELETE", "/_vestibule/session").header("Origin", ORIGIN).send();
    assert_eq!(out.status(), 204);
    assert_eq!(browser.get("/app").send().status(), 401);
}

#[test]
fn nothing_else_than_a_believed_unbound_token_of_an_entry_that_says_so_is_traded() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer).start();
    let browser = gateway.browser();
    let holder = Holder::new();
    let bound = holder.token(&issuer, "alice");
    let certified = issuer.token("alice", |_, claims| {
        claims["cnf"] = json!({ "x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" });
    });
    let plain = issuer.token("alice", |_, claims| claims["aud"] = json!("plain"));
    let expired = issuer.token("alice", |_, claims| claims["exp"] = json!(unix_now() - 100));
    for (token, reason) in [
        (&bound, "token_bound"),
        (&certified, "token_bound"),
        (&plain, "token_audience"),
        (&expired, "token_expired"),
        (&Key::es256().good("alice"), "token_signature"),
    ] {
        let answer = trade(&browser, token);
        assert_eq!(outcome(&gateway, &answer), (401, json!(reason)));
        assert!(answer.all("set-cookie").is_empty(), "{reason}");
    }
    // With a proof as well.
    let request = holder.ask(&gateway, ("POST", "/_vestibule/session"), &bound, |_, _| {});
    assert_eq!(outcome(&gateway, &request.send()), (401, json!("token_bound")));
    assert_eq!(gateway.post("/_vestibule/session").send().status(), 401);
    let basic = gateway.post("/_vestibule/session").header("Authorization", "Basic YWxpY2U6YQ==").send();
    assert_eq!(basic.status(), 401);
    // Another site's page.
    let good = token(&issuer, "alice", "1");
    for (name, value) in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        let answer = gateway.post("/_vestibule/session").bearer(&good).header(name, value).send();
        assert_eq!(answer.status(), 403, "{name}");
    }
    assert!(gateway.admin("GET", "/sessions", "").json()["sessions"].as_array().expect("a list").is_empty());
    // A file without `exchange` has no such call.
    let gateway = Gateway::before(&upstream);
    let answer = gateway.post("/_vestibule/session").bearer(&good).send();
    assert_eq!((answer.status(), answer.header("allow")), (405, Some("GET, HEAD, DELETE".to_owned())));
}

#[test]
fn a_session_ends_with_its_token() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer)
        .set("tokens", &format!("{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], leeway: 0s, keys: {{ public_key: token.key }} }}, exchange: true }} }}"))
        .routes(&["{ name: app, host: wiki.example.com, path: /app, upstream: app, access: { sign_in: [api], allow: everyone } }"])
        .start();
    let browser = gateway.browser();
    let short = issuer.token("alice", |_, claims| claims["exp"] = json!(unix_now() + 3));
    let told = trade(&browser, &short).json();
    let ends_at = humantime::parse_rfc3339(told["ends_at"].as_str().expect("an instant")).expect("RFC 3339");
    let ends_at = ends_at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(i64::try_from(ends_at).expect("it fits") <= unix_now() + 3, "{told}");
    assert_eq!(browser.get("/app").send().status(), 200);
    until("it ends", || (browser.get("/app").send().status() == 401).then_some(()));
    // The lifetimes of the file bound it as well.
    let long = issuer.token("alice", |_, claims| claims["exp"] = json!(unix_now() + 30 * 86_400));
    let told = trade(&browser, &long).json();
    let ends_at = humantime::parse_rfc3339(told["ends_at"].as_str().expect("an instant")).expect("RFC 3339");
    let ends_at = ends_at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(i64::try_from(ends_at).expect("it fits") <= unix_now() + 12 * 3600, "{told}");
}

#[test]
fn a_session_ends_when_its_token_is_revoked_and_over_a_restart_no_other_does() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let mut gateway = setup(&upstream, &issuer).set("sessions", "{ store: { sqlite: sessions.db } }").start();
    let cookie_of = |gateway: &Gateway, subject: &str, jti: &str, age: i64| {
        let token = issuer.token(subject, |_, claims| {
            claims["jti"] = json!(jti);
            claims["iat"] = json!(unix_now() - age);
        });
        let browser = gateway.browser();
        assert_eq!(trade(&browser, &token).status(), 201);
        browser.cookie(SESSION).expect("a cookie")
    };
    let cookies =
        [("alice", "1", 5), ("alice", "2", 5), ("bob", "3", 5), ("carol", "4", 5000), ("dave", "5", 5)]
            .map(|(subject, jti, age)| cookie_of(&gateway, subject, jti, age));
    let local = {
        let browser = gateway.browser();
        browser.sign_in("alice");
        browser.cookie(SESSION).expect("a cookie")
    };
    let live = |gateway: &Gateway| {
        cookies.each_ref().map(|cookie| {
            let browser = gateway.browser();
            browser.set_cookie(SESSION, cookie);
            u8::from(browser.get("/app").send().status() == 200)
        })
    };
    assert_eq!(live(&gateway), [1, 1, 1, 1, 1]);
    assert_eq!(revoke(&gateway, &json!({ "jti": "1" }))["sessions_ended"], 1);
    assert_eq!(live(&gateway), [0, 1, 1, 1, 1]);
    // What each session remembers of its token is in the store.
    gateway.kill();
    gateway.start_again();
    assert_eq!(live(&gateway), [0, 1, 1, 1, 1]);
    assert_eq!(revoke(&gateway, &json!({ "subject": "alice" }))["sessions_ended"], 1);
    assert_eq!(live(&gateway), [0, 0, 1, 1, 1]);
    let before = humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + std::time::Duration::from_secs((unix_now() - 1000).unsigned_abs()),
    );
    assert_eq!(revoke(&gateway, &json!({ "issued_before": before.to_string() }))["sessions_ended"], 1);
    assert_eq!(live(&gateway), [0, 0, 1, 0, 1]);
    assert_eq!(revoke(&gateway, &json!({ "jti": "5" }))["sessions_ended"], 1);
    gateway.kill();
    gateway.start_again();
    assert_eq!(live(&gateway), [0, 0, 1, 0, 0]);
    let browser = gateway.browser();
    browser.set_cookie(SESSION, &local);
    assert_eq!(
        browser.get("/wiki").send().status(),
        200,
        "her session of the form has nothing to do with it"
    );
    // And a revoked token opens no other.
    let again = trade(&gateway.browser(), &token(&issuer, "zoe", "1"));
    assert_eq!(outcome(&gateway, &again), (401, json!("token_revoked")));
}

#[test]
fn a_token_may_be_traded_again_and_a_subject_has_as_many_sessions_as_it_may() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer).set("sessions", "{ per_subject: { max: 2 } }").start();
    let one = token(&issuer, "alice", "1");
    let browsers = [gateway.browser(), gateway.browser(), gateway.browser()];
    for browser in &browsers {
        assert_eq!(trade(browser, &one).status(), 201);
    }
    let live = || gateway.admin("GET", "/sessions", "").json()["sessions"].as_array().expect("a list").len();
    assert_eq!(live(), 2);
    assert_eq!(browsers[0].get("/app").send().status(), 401, "the one longest unused");
    // In the same browser the new one takes the place of the old.
    let former = browsers[1].cookie(SESSION).expect("a cookie");
    assert_eq!(trade(&browsers[1], &one).status(), 201);
    assert_eq!(live(), 2);
    let thief = gateway.browser();
    thief.set_cookie(SESSION, &former);
    assert_eq!(thief.get("/app").send().status(), 401);
    assert_eq!(browsers[2].get("/app").send().status(), 200);
}
