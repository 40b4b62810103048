//! A bearer token is believed only if every check passes, and never longer than it says.

use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{unix_now, until};
use crate::support::{Gateway, SESSION, Setup, Upstream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A gateway whose `/api` takes tokens signed by `key`, `/both` tokens and sessions, the rest sessions.
fn setup(upstream: &Upstream, key: &Key, keys: &str, more: &str) -> Setup {
    let algorithm = key.algorithm();
    Setup::before(upstream)
        .set(
            "tokens",
            &format!("{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [{algorithm}], keys: {keys}{more} }} }} }}"),
        )
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Email: email, X-Auth-Groups: groups, X-Auth-Source: source } }")
        .routes(&[
            "{ name: api, host: wiki.example.com, path: /api, access: { tokens: [api], allow: everyone }, upstream: app }",
            "{ name: kept, host: wiki.example.com, path: /kept, access: { tokens: [api], allow: everyone }, forward_authorization: true, upstream: app }",
            "{ name: ops, host: wiki.example.com, path: /ops, access: { tokens: [api], allow: { groups: [ops] } }, upstream: app }",
            "{ name: maybe, host: wiki.example.com, path: /maybe, access: { tokens: [api], allow: everyone, optional: true }, upstream: app }",
            "{ name: both, host: wiki.example.com, path: /both, access: { sign_in: [local], tokens: [api], allow: everyone }, upstream: app }",
            "{ name: wiki, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .file("token.key", &key.file())
        .file("token.jwks", &json!({ "keys": [key.jwk("first")] }).to_string())
}

fn start(upstream: &Upstream, key: &Key) -> Gateway {
    setup(upstream, key, "{ public_key: token.key }", "").start()
}

#[test]
fn a_good_token_of_every_kind_of_key_is_believed() {
    for (key, keys) in [
        (Key::hs256(), "{ secret: { file: token.key } }"),
        (Key::es256(), "{ public_key: token.key }"),
        (Key::eddsa(), "{ public_key: token.key }"),
        (Key::rs256(), "{ public_key: token.key }"),
        (Key::es256(), "{ jwks_file: token.jwks }"),
        (Key::eddsa(), "{ jwks_file: token.jwks }"),
        (Key::rs256(), "{ jwks_file: token.jwks }"),
    ] {
        let upstream = Upstream::recording();
        let gateway = setup(&upstream, &key, keys, "").start();
        let token = if keys.contains("jwks") {
            key.token("alice", |header, _| header["kid"] = json!("first"))
        } else {
            key.good("alice")
        };
        // Twice: the second time from the cache.
        for _ in 0..2 {
            let answer = gateway.get("/api").bearer(&token).send();
            assert_eq!(answer.status(), 200, "{} by {keys}: {}", key.algorithm(), answer.text());
            let request = upstream.last();
            assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
            assert_eq!(request.header("x-auth-source").as_deref(), Some(ISSUER));
            assert_eq!(request.header("x-auth-email").as_deref(), Some("alice@example.com"));
            assert_eq!(request.header("x-auth-groups").as_deref(), Some("ops"));
            assert_eq!(request.header("authorization"), None, "the token was for us");
        }
        assert_eq!(gateway.get("/kept").bearer(&token).send().status(), 200);
        assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {token}")));
    }
}

type Change = fn(&mut Value, &mut Value);

#[test]
fn a_token_with_one_thing_wrong_is_refused() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let changes: [(&str, Change); 27] = [
        ("expired", |_, claims| claims["exp"] = json!(unix_now() - 31)),
        ("without exp", |_, claims| drop(claims.as_object_mut().expect("an object").remove("exp"))),
        ("with exp as text", |_, claims| claims["exp"] = json!("4102444800")),
        ("with exp null", |_, claims| claims["exp"] = json!(null)),
        ("not yet valid", |_, claims| claims["nbf"] = json!(unix_now() + 300)),
        ("with nbf as text", |_, claims| claims["nbf"] = json!("0")),
        ("of another issuer", |_, claims| claims["iss"] = json!("https://evil.example")),
        ("of an issuer with a slash more", |_, claims| claims["iss"] = json!(format!("{ISSUER}/"))),
        ("of a list of issuers", |_, claims| claims["iss"] = json!([ISSUER])),
        ("without issuer", |_, claims| drop(claims.as_object_mut().expect("an object").remove("iss"))),
        ("for another audience", |_, claims| claims["aud"] = json!("blog")),
        ("for no audience", |_, claims| drop(claims.as_object_mut().expect("an object").remove("aud"))),
        ("for an empty audience", |_, claims| claims["aud"] = json!([])),
        ("for half an audience", |_, claims| claims["aud"] = json!("wik")),
        ("without subject", |_, claims| drop(claims.as_object_mut().expect("an object").remove("sub"))),
        ("with an empty subject", |_, claims| claims["sub"] = json!("")),
        ("with a subject of another type", |_, claims| claims["sub"] = json!({ "name": "alice" })),
        ("with crit", |header, _| header["crit"] = json!(["exp"])),
        ("with an empty crit", |header, _| header["crit"] = json!([])),
        ("with b64", |header, _| header["b64"] = json!(false)),
        ("of another type", |header, _| header["typ"] = json!("dpop+jwt")),
        ("that says HS256", |header, _| header["alg"] = json!("HS256")),
        ("that says none", |header, _| header["alg"] = json!("none")),
        ("that says RS256", |header, _| header["alg"] = json!("RS256")),
        ("that says es256", |header, _| header["alg"] = json!("es256")),
        ("without algorithm", |header, _| drop(header.as_object_mut().expect("an object").remove("alg"))),
        ("too large", |_, claims| claims["padding"] = json!("x".repeat(9000))),
    ];
    for (name, change) in changes {
        let token = key.token("alice", change);
        // Twice: the second time from the memory of refused ones.
        for _ in 0..2 {
            let answer = gateway.get("/api").bearer(&token).send();
            assert_eq!(answer.status(), 401, "a token {name}");
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer") && challenge.contains("invalid_token"), "{challenge}");
        }
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(
        gateway.get("/api").bearer(&key.good("alice")).send().status(),
        200,
        "the right one still passes"
    );
}

#[test]
fn what_only_looks_like_a_token_is_refused() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let good = key.good("alice");
    let parts: Vec<&str> = good.split('.').collect();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url")).expect("text");
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[0]).expect("base64url")).expect("text");
    let other = Key::es256();
    let symmetric = Key::Hs256(key.file());
    let doubled = claims.replacen('{', "{\"sub\":\"root\",", 1);
    let doubled_header = header.replacen('{', "{\"alg\":\"ES256\",", 1);
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for (name, token) in [
        ("of another key", other.good("alice")),
        ("signed with our public key as a secret", symmetric.good("alice")),
        ("without a signature", format!("{}.{}.", parts[0], parts[1])),
        ("unsigned by its own word", format!("{none}.{}.", parts[1])),
        ("unsigned with somebody's signature", format!("{none}.{}.{}", parts[1], parts[2])),
        ("of two parts", format!("{}.{}", parts[0], parts[1])),
        ("of four parts", format!("{good}.x")),
        (
            "with other claims",
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.replace("alice", "root")), parts[2]),
        ),
        ("with padding", format!("{good}=")),
        (
            "with a signature of zeroes",
            format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
        ),
        ("with two subjects", key.sign_text(&header, &doubled)),
        ("with two algorithms", key.sign_text(&doubled_header, &claims)),
        ("that is no JSON", key.sign_text(&header, "alice")),
        ("that is a list", key.sign_text(&header, "[]")),
        ("that is empty", String::new()),
        ("that is dots", "..".to_owned()),
    ] {
        let answer = gateway.get("/api").bearer(&token).send();
        assert_eq!(answer.status(), 401, "a token {name}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn times_have_their_leeway_and_no_more() {
    let upstream = Upstream::recording();
    let key = Key::eddsa();
    let gateway = setup(&upstream, &key, "{ public_key: token.key }", ", leeway: 1m").start();
    for (name, exp, nbf, status) in [
        ("inside the leeway after exp", -40, -100, 200),
        ("beyond the leeway after exp", -70, -100, 401),
        ("inside the leeway before nbf", 300, 40, 200),
        ("beyond the leeway before nbf", 300, 90, 401),
    ] {
        let token = key.token("alice", |_, claims| {
            claims["exp"] = json!(unix_now() + exp);
            claims["nbf"] = json!(unix_now() + nbf);
        });
        assert_eq!(gateway.get("/api").bearer(&token).send().status(), status, "{name}");
    }
}

#[test]
fn a_believed_token_is_not_believed_beyond_its_end() {
    let upstream = Upstream::recording();
    let key = Key::eddsa();
    let gateway = setup(&upstream, &key, "{ public_key: token.key }", ", leeway: 1s").start();
    let token = key.token("alice", |_, claims| claims["exp"] = json!(unix_now() + 2));
    assert_eq!(gateway.get("/api").bearer(&token).send().status(), 200);
    until("the token is over", || (gateway.get("/api").bearer(&token).send().status() == 401).then_some(()));
    let late = unix_now();
    let exp: Value = serde_json::from_slice(
        &URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64url"),
    )
    .expect("JSON");
    assert!(late <= exp["exp"].as_i64().expect("a number") + 3, "it ends with its leeway");
}

#[test]
fn an_email_counts_only_if_it_was_verified() {
    let upstream = Upstream::recording();
    let key = Key::eddsa();
    for (more, unverified) in [("", None), (", trust_email: true", Some("alice@example.com"))] {
        let gateway = setup(&upstream, &key, "{ public_key: token.key }", more).start();
        for (verified, email) in [
            (Some(json!(true)), Some("alice@example.com")),
            (None, unverified),
            (Some(json!("true")), None),
            (Some(json!(1)), None),
            (Some(json!(null)), None),
            // Trust is for issuers that say nothing; one that says no is not overruled.
            (Some(json!(false)), None),
        ] {
            let token = key.token("alice", |_, claims| match &verified {
                Some(verified) => claims["email_verified"] = verified.clone(),
                None => drop(claims.as_object_mut().expect("an object").remove("email_verified")),
            });
            assert_eq!(gateway.get("/api").bearer(&token).send().status(), 200);
            let seen = upstream.last().header("x-auth-email");
            assert_eq!(seen.as_deref(), email, "email_verified: {verified:?}{more}");
        }
    }
}

#[test]
fn a_bearer_decides_alone_where_tokens_are_taken() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let bob = gateway.browser();
    bob.sign_in("bob");
    let (good, bad) = (key.good("alice"), Key::es256().good("alice"));
    let get = |path: &str, token: Option<&str>| {
        let mut request = bob.get(path);
        if let Some(token) = token {
            request = request.bearer(token);
        }
        let status = request.send().status();
        (status, (status == 200).then(|| upstream.last().header("x-auth-user")).flatten())
    };
    assert_eq!(get("/both", None), (200, Some("bob".to_owned())));
    assert_eq!(
        get("/both", Some(&good)),
        (200, Some("alice".to_owned())),
        "never two identities in one request"
    );
    assert_eq!(get("/both", Some(&bad)), (401, None), "a bad bearer is 401 even beside a live cookie");
    assert_eq!(get("/api", None), (401, None), "a cookie does not pass where only tokens are taken");
    assert_eq!(get("/api", Some(&good)), (200, Some("alice".to_owned())));
    // Where tokens are not taken they are not looked at, and stay the application's.
    assert_eq!(get("/page", Some(&bad)), (200, Some("bob".to_owned())));
    assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {bad}")));
    assert_eq!(gateway.get("/page").bearer(&good).send().status(), 401, "a token opens no session route");
}

#[test]
fn an_optional_route_passes_without_a_token_but_not_with_a_bad_one() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    assert_eq!(gateway.get("/maybe").send().status(), 200);
    assert_eq!(upstream.last().header("x-auth-user"), None);
    assert_eq!(gateway.get("/maybe").bearer(&key.good("alice")).send().status(), 200);
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(gateway.get("/maybe").bearer(&Key::es256().good("alice")).send().status(), 401);
}

#[test]
fn a_token_without_the_right_is_403_and_its_groups_count() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let outsider = key.token("bob", |_, claims| claims["groups"] = json!(["dev", "ops2", "OPS"]));
    assert_eq!(gateway.get("/ops").bearer(&outsider).send().status(), 403);
    assert_eq!(gateway.get("/ops").bearer(&key.good("alice")).send().status(), 200);
}

#[test]
fn other_authorization_schemes_are_the_applications() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(bob.get("/both").header("Authorization", "Basic Ym9iOmJvYg==").send().status(), 200);
    assert_eq!(upstream.last().header("authorization").as_deref(), Some("Basic Ym9iOmJvYg=="));
    assert_eq!(gateway.get("/api").header("Authorization", "Basic Ym9iOmJvYg==").send().status(), 401);
    for scheme in ["bearer", "BEARER"] {
        let value = format!("{scheme} {}", key.good("alice"));
        assert_eq!(gateway.get("/api").header("Authorization", &value).send().status(), 200, "{scheme}");
    }
}

#[test]
fn a_token_is_no_matter_of_other_sites() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let fields = [("Origin", "https://other.example"), ("Sec-Fetch-Site", "cross-site")];
    let answer = gateway.post("/both").headers(&fields).bearer(&key.good("alice")).body("x").send();
    assert_eq!(answer.status(), 200, "no browser sends a token by itself");
}

#[test]
fn new_keys_count_after_a_reload_and_old_verdicts_do_not() {
    let upstream = Upstream::recording();
    let (old, new) = (Key::es256(), Key::es256());
    let gateway = setup(&upstream, &old, "{ jwks_file: token.jwks }", "").start();
    let with_kid = |key: &Key, kid: &'static str| key.token("alice", |header, _| header["kid"] = json!(kid));
    let (old_token, new_token) = (with_kid(&old, "first"), with_kid(&new, "second"));
    assert_eq!(gateway.get("/api").bearer(&old_token).send().status(), 200);
    assert_eq!(gateway.get("/api").bearer(&new_token).send().status(), 401);
    gateway.folder().write("token.jwks", &json!({ "keys": [new.jwk("second")] }).to_string());
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
    assert_eq!(
        gateway.get("/api").bearer(&old_token).send().status(),
        401,
        "the key is gone, and with it the cached verdict"
    );
    assert_eq!(
        gateway.get("/api").bearer(&new_token).send().status(),
        200,
        "the cached refusal is gone, too"
    );
}

#[test]
fn a_key_of_a_set_is_chosen_by_its_id_and_its_algorithm() {
    let upstream = Upstream::recording();
    let (first, second) = (Key::es256(), Key::rs256());
    let set = json!({ "keys": [first.jwk("first"), second.jwk("second")] }).to_string();
    let gateway = setup(&upstream, &first, "{ jwks_file: token.jwks }", "")
        .set(
            "tokens",
            &format!("{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256, RS256], keys: {{ jwks_file: token.jwks }} }} }} }}"),
        )
        .file("token.jwks", &set)
        .start();
    for (name, key, kid, status) in [
        ("the first", &first, Some("first"), 200),
        ("the second", &second, Some("second"), 200),
        ("the first under the second's id", &first, Some("second"), 401),
        ("the second under the first's id", &second, Some("first"), 401),
        ("an id that is not in the set", &first, Some("third"), 401),
    ] {
        let token = key.token("alice", |header, _| {
            if let Some(kid) = kid {
                header["kid"] = json!(kid);
            }
        });
        assert_eq!(gateway.get("/api").bearer(&token).send().status(), status, "{name}");
    }
}

#[test]
fn a_session_cookie_is_no_bearer_token() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let gateway = start(&upstream, &key);
    let bob = gateway.browser();
    bob.sign_in("bob");
    let value = bob.cookie(SESSION).expect("a session cookie");
    assert_eq!(gateway.get("/both").bearer(&value).send().status(), 401);
    assert_eq!(
        gateway.get(&format!("/both?access_token={}", key.good("alice"))).send().status(),
        401,
        "not from the query"
    );
}
