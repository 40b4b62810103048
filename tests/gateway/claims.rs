//! What a token says becomes what the application is told and what `allow` reads, as the file has it.

use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::unix_now;
use crate::support::{Gateway, Setup, Upstream};
use serde_json::{Value, json};

/// A gateway with routes of these `allow`s under `/0`, `/1`, …, and `/both` for sessions too by the first.
fn start(upstream: &Upstream, key: &Key, jwt: &str, claims: &str, allow: &[&str]) -> Gateway {
    let algorithm = key.algorithm();
    let routes: Vec<String> = allow
        .iter()
        .enumerate()
        .map(|(number, allow)| format!("{{ name: r{number}, host: wiki.example.com, path: /{number}, access: {{ tokens: [api], allow: {allow} }}, upstream: app }}"))
        .chain([format!("{{ name: both, host: wiki.example.com, path: /both, access: {{ sign_in: [local], tokens: [api], same_people: true, allow: {} }}, upstream: app }}", allow[0])])
        .collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    Setup::before(upstream)
        .set(
            "tokens",
            &format!("{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [{algorithm}], keys: {{ public_key: token.key }}{jwt} }}, claims: {claims} }} }}"),
        )
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Groups: groups, X-Auth-Team: team, X-Auth-Level: level, X-Auth-Scope: scope, X-Auth-Email: email } }")
        .routes(&routes)
        .file("token.key", &key.file())
        .start()
}

#[test]
fn claims_are_told_as_the_file_maps_them() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let claims = "{ groups: { from: realm_access.roles, prefix: wiki-, strip: true }, \
        team: { from: [\"https://example.com/team\"], table: { \"it/ops\": operators, \"it/dev\": [developers, staff] } }, \
        level: { from: profile.level, default: 0 } }";
    let gateway = start(&upstream, &key, "", claims, &["{ groups: [ops] }"]);
    let token = key.token("alice", |_, claims| {
        claims["realm_access"] = json!({ "roles": ["wiki-ops", "blog-root", "wiki-a,b"] });
        claims["https://example.com/team"] = json!(["it/dev", "it/ops", "hr"]);
        claims["profile"] = json!({ "level": 7 });
    });
    for _ in 0..2 {
        assert_eq!(gateway.get("/0").bearer(&token).send().status(), 200);
        let seen = upstream.last();
        assert_eq!(seen.header("x-auth-groups").as_deref(), Some("ops,a%2Cb"));
        assert_eq!(seen.header("x-auth-team").as_deref(), Some("developers,staff,operators"));
        assert_eq!(seen.header("x-auth-level").as_deref(), Some("7"));
    }
    let bare = key.token("bob", |_, claims| claims["realm_access"] = json!({ "roles": "wiki-ops" }));
    assert_eq!(gateway.get("/0").bearer(&bare).send().status(), 200);
    assert_eq!(upstream.last().header("x-auth-team"), None);
    assert_eq!(upstream.last().header("x-auth-level").as_deref(), Some("0"), "the default");
    // The token's own `groups`, which says ops, does not count where the file makes them of something else.
    let own = key.good("mallory");
    assert_eq!(gateway.get("/0").bearer(&own).send().status(), 403);
}

#[test]
fn a_token_without_a_required_claim_is_refused() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key, "", "{ team: { from: org.id, required: true } }", &["everyone"]);
    for (org, status) in [
        (json!({ "id": "a" }), 200),
        (json!({ "id": 7 }), 200),
        (json!({ "id": "" }), 401),
        (json!({ "id": null }), 401),
        (json!({ "id": { "x": 1 } }), 401),
        (json!({}), 401),
        (json!("a"), 401),
    ] {
        let token = key.token("alice", |_, claims| claims["org"] = org.clone());
        assert_eq!(gateway.get("/0").bearer(&token).send().status(), status, "{org}");
    }
}

#[test]
fn a_scope_that_lacks_is_named_in_the_challenge() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let rules = ["{ scope: [write, admin] }", "{ all: [{ scope: read }, { groups: [board] }] }"];
    let gateway = start(&upstream, &key, "", "{}", &rules);
    let with = |name: &'static str, value: Value| key.token("alice", move |_, claims| claims[name] = value);
    for (token, status) in [
        (with("scope", json!("read write")), 200),
        (with("scp", json!(["write"])), 200),
        (with("scp", json!("admin")), 200),
        (with("scope", json!("read writes")), 403),
        (with("scope", json!("WRITE")), 403),
        (with("scope", json!("")), 403),
        (with("scope", json!(["write", 7])), 403),
        (key.good("alice"), 403),
    ] {
        let answer = gateway.get("/0").bearer(&token).send();
        assert_eq!(answer.status(), status);
        let challenge = answer.header("www-authenticate");
        let expected = (status == 403).then(|| {
            "Bearer realm=\"vestibule\", error=\"insufficient_scope\", scope=\"write admin\"".to_owned()
        });
        assert_eq!(challenge, expected);
    }
    // Where more than a scope lacks, asking for one would not help.
    let answer = gateway.get("/1").bearer(&with("scope", json!("write"))).send();
    assert_eq!((answer.status(), answer.header("www-authenticate")), (403, None));
}

#[test]
fn an_authentication_that_is_too_old_is_asked_for_anew() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key, "", "{}", &["{ auth_age: 15m }"]);
    let at = |auth_time: Value| key.token("alice", move |_, claims| claims["auth_time"] = auth_time);
    let now = unix_now();
    for (name, token, status) in [
        ("just now", at(json!(now)), 200),
        ("in time", at(json!(now - 800)), 200),
        ("long ago", at(json!(now - 1000)), 401),
        ("before 1970", at(json!(-5)), 401),
        ("as text", at(json!("now")), 401),
        ("far ahead", at(json!(now + 600)), 401),
        ("in a list", at(json!([now])), 401),
        ("never", key.good("alice"), 401),
    ] {
        let answer = gateway.get("/0").bearer(&token).send();
        assert_eq!(answer.status(), status, "{name}");
        if status == 401 {
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(
                challenge.starts_with("Bearer ")
                    && challenge.contains("error=\"insufficient_user_authentication\"")
                    && challenge.contains("max_age=\"900\""),
                "{challenge}"
            );
        }
    }
}

#[test]
fn a_session_that_is_too_old_leads_to_sign_in_and_a_new_one_passes() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key, "", "{}", &["{ auth_age: 1s }"]);
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(bob.get("/both").send().status(), 200);
    crate::support::wait::until("the sign-in is too long ago", || {
        (bob.get("/both").send().status() == 401).then_some(())
    });
    let page = bob.get("/both").header("Sec-Fetch-Mode", "navigate").send();
    assert_eq!(page.status(), 302);
    assert!(page.header("location").expect("a place").starts_with("/_vestibule/login?"));
    bob.sign_in("bob");
    assert_eq!(bob.get("/both").send().status(), 200, "signing in anew helps");
}

#[test]
fn only_access_tokens_pass_where_the_file_says_so() {
    type Change = fn(&mut Value, &mut Value);
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key, ", profile: at+jwt", "{}", &["everyone"]);
    let good = |header: &mut Value, claims: &mut Value| {
        header["typ"] = json!("at+jwt");
        claims["client_id"] = json!("app");
        claims["jti"] = json!("1");
    };
    let changes: [(&str, Change, u16); 9] = [
        ("as it is", |_, _| {}, 200),
        ("typ in full", |header, _| header["typ"] = json!("application/AT+JWT"), 200),
        ("typ JWT", |header, _| header["typ"] = json!("JWT"), 401),
        ("no typ", |header, _| drop(header.as_object_mut().expect("an object").remove("typ")), 401),
        ("no client_id", |_, claims| claims["client_id"] = json!(null), 401),
        ("an empty client_id", |_, claims| claims["client_id"] = json!(""), 401),
        ("no jti", |_, claims| drop(claims.as_object_mut().expect("an object").remove("jti")), 401),
        ("no iat", |_, claims| drop(claims.as_object_mut().expect("an object").remove("iat")), 401),
        ("no sub", |_, claims| drop(claims.as_object_mut().expect("an object").remove("sub")), 401),
    ];
    for (name, change, status) in changes {
        let token = key.token("alice", |header, claims| {
            good(header, claims);
            change(header, claims);
        });
        assert_eq!(gateway.get("/0").bearer(&token).send().status(), status, "{name}");
    }
}

#[test]
fn the_challenge_tells_little_and_the_log_the_value_that_was_wrong() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key, "", "{}", &["everyone"]);
    let ask = |token: Option<&str>| {
        let request = gateway.get("/0");
        let answer = match token {
            Some(token) => request.bearer(token).send(),
            None => request.send(),
        };
        let detail = gateway.access_line(&answer)["detail"].as_str().map(str::to_owned);
        (answer.header("www-authenticate").expect("a challenge"), detail)
    };
    let told = |text: &str| {
        format!("Bearer realm=\"vestibule\", error=\"invalid_token\", error_description=\"{text}\"")
    };
    assert_eq!(
        ask(None),
        ("Bearer realm=\"vestibule\"".to_owned(), None),
        "no code where no credential came"
    );
    let expired = key.token("alice", |_, claims| claims["exp"] = json!(unix_now() - 40));
    let (challenge, detail) = ask(Some(&expired));
    assert_eq!(challenge, told("the access token has expired"));
    assert!(detail.is_some_and(|detail| detail.starts_with("expired 4") && detail.ends_with(" s ago")));
    let other = |header: &'static str| {
        key.token("alice", move |head, claims| {
            head["kid"] = json!(header);
            claims["aud"] = json!("blog");
        })
    };
    let invalid = told("the access token is not valid");
    assert_eq!(ask(Some(&other("a"))), (invalid.clone(), Some("aud \"blog\"".to_owned())));
    let forged = Key::es256().token("alice", |head, _| head["kid"] = json!("a\nb"));
    assert_eq!(ask(Some(&forged)), (invalid.clone(), Some(r#"kid "a\nb""#.to_owned())));
    assert_eq!(ask(Some("x")), (invalid, None));
    for line in gateway.everything() {
        for token in [&expired, &forged] {
            let signature = token.rsplit('.').next().expect("a signature");
            assert!(!line.contains(signature), "{line}");
        }
    }
}
