//! Opaque tokens: the server that issued them is asked, once for all who bring one, and believed no longer than it may be.

use crate::support::authority::Authority;
use crate::support::issuer::{Issuer, Reply};
use crate::support::message::Message;
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{pause, unix_now, until};
use crate::support::{Gateway, Setup, Upstream};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SECRET: &str = "s3cret of +ours: ä";

/// The fields of the form that a question is.
fn form(request: &Message) -> BTreeMap<String, String> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

/// Says of tokens that begin with `good` that they are active; the rest of the name is the subject.
fn server() -> Issuer {
    Issuer::answering(|request| Some(knows(request)))
}

fn knows(request: &Message) -> Reply {
    let token = form(request).remove("token").unwrap_or_default();
    match token.strip_prefix("good-token-of-") {
        Some(subject) => Reply::json(&active(subject)),
        None => Reply::json(&json!({ "active": false })),
    }
}

fn active(subject: &str) -> Value {
    json!({
        "active": true, "sub": subject, "exp": unix_now() + 3600, "token_type": "Bearer", "username": "x",
        "email": "alice@example.com", "email_verified": true, "groups": ["ops", "dev"], "client_id": "app",
    })
}

fn entry(url: &str, more: &str) -> String {
    format!(
        "{{ introspection: {{ url: \"{url}\", client_id: \"g:w\", client_secret: {{ file: asking.secret }}, {more} }} }}"
    )
}

fn setup(upstream: &Upstream, entry: &str) -> Setup {
    Setup::before(upstream)
        .set("tokens", &format!("{{ partner: {entry} }}"))
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Email: email, X-Auth-Groups: groups, X-Auth-Source: source, X-Auth-Active: active } }")
        .access("{ tokens: [partner], allow: everyone }")
        .file("asking.secret", SECRET)
}

fn start(upstream: &Upstream, issuer: &Issuer, more: &str) -> Gateway {
    setup(upstream, &entry(&issuer.url("/introspect"), more)).start()
}

fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.get("/api").bearer(token).send().status()
}

fn asked(gateway: &Gateway, result: &str) -> i64 {
    gateway.metric(&format!("vestibule_introspections_total{{entry=\"partner\",result=\"{result}\"}}")) as i64
}

#[test]
fn a_token_is_asked_about_once_and_its_claims_reach_the_application() {
    let (upstream, issuer) = (Upstream::recording(), server());
    let gateway = start(&upstream, &issuer, "");
    for _ in 0..3 {
        assert_eq!(status(&gateway, "good-token-of-alice"), 200);
        let request = upstream.last();
        for (name, value) in [
            ("x-auth-user", Some("alice")),
            ("x-auth-email", Some("alice@example.com")),
            ("x-auth-groups", Some("ops,dev")),
            ("x-auth-source", Some("partner")),
            ("x-auth-active", None),
            ("authorization", None),
        ] {
            assert_eq!(request.header(name).as_deref(), value, "{name}");
        }
    }
    assert_eq!(issuer.requests().len(), 1);
    let question = issuer.requests().remove(0);
    assert_eq!((question.method(), question.target()), ("POST".into(), "/introspect".into()));
    assert_eq!(question.header("content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    let fields = form(&question);
    assert_eq!(fields["token"], "good-token-of-alice");
    assert_eq!(fields["token_type_hint"], "access_token");
    assert_eq!(fields.len(), 2, "the secret stands in the header: {fields:?}");
    // Encoded like a form before it is encoded again (RFC 6749 §2.3.1).
    let expected = STANDARD.encode("g%3Aw:s3cret+of+%2Bours%3A+%C3%A4");
    assert_eq!(question.header("authorization"), Some(format!("Basic {expected}")));
    assert!(!gateway.everything().join("\n").contains(SECRET));
}

#[test]
fn fifty_requests_with_one_token_ask_once() {
    let (upstream, open) = (Upstream::recording(), Arc::new(AtomicBool::new(false)));
    let gate = open.clone();
    let issuer = Issuer::answering(move |request| {
        until("the gate is open", || gate.load(Ordering::Relaxed).then_some(()));
        Some(knows(request))
    });
    let gateway = start(&upstream, &issuer, "timeout: 20s");
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..50).map(|_| scope.spawn(|| status(&gateway, "good-token-of-alice"))).collect();
        until("all fifty are under way", || {
            (gateway.metric("vestibule_exchanges_in_flight") >= 50.0).then_some(())
        });
        open.store(true, Ordering::Relaxed);
        for one in waiting {
            assert_eq!(one.join().expect("no panic"), 200);
        }
    });
    assert_eq!(issuer.requests().len(), 1);
    assert_eq!(asked(&gateway, "believed"), 1);
}

#[test]
fn what_the_server_does_not_know_is_refused_and_not_asked_about_again() {
    let (upstream, issuer) = (Upstream::recording(), server());
    let gateway = start(&upstream, &issuer, "");
    for _ in 0..3 {
        let answer = gateway.get("/api").bearer("no-token-of-anybody").send();
        assert_eq!(answer.status(), 401);
        assert!(answer.header("www-authenticate").expect("a challenge").contains("invalid_token"));
        assert_eq!(gateway.access_line(&answer)["reason"], "token_inactive");
    }
    assert_eq!(issuer.requests().len(), 1);
    assert_eq!(asked(&gateway, "refused"), 1);
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_answer_must_say_everything_that_the_file_asks_and_nothing_against_it() {
    let (upstream, now) = (Upstream::recording(), unix_now());
    let changes: BTreeMap<&str, (Value, u16)> = [
        ("plain", json!({}), 200),
        ("without-type-and-end", json!({ "token_type": null, "exp": null }), 200),
        ("lower-case-type", json!({ "token_type": "bearer" }), 200),
        ("our-issuer", json!({ "iss": ISSUER }), 200),
        ("our-audience-among-others", json!({ "aud": ["blog", AUDIENCE] }), 200),
        ("begins-about-now", json!({ "nbf": now + 5 }), 200),
        ("inactive", json!({ "active": false }), 401),
        ("other-issuer", json!({ "iss": "https://evil.example" }), 401),
        ("issuer-list", json!({ "iss": [ISSUER] }), 401),
        ("other-audience", json!({ "aud": "blog" }), 401),
        ("no-audience", json!({ "aud": null }), 401),
        ("mixed-audience", json!({ "aud": [AUDIENCE, 7] }), 401),
        ("expired", json!({ "exp": now - 1 }), 401),
        ("end-as-text", json!({ "exp": "soon" }), 401),
        ("not-yet", json!({ "nbf": now + 300 }), 401),
        ("refresh-token", json!({ "token_type": "refresh_token" }), 401),
        ("refresh-use", json!({ "token_use": "refresh_token" }), 401),
        ("type-of-another-kind", json!({ "token_type": 7 }), 401),
        ("no-subject", json!({ "sub": null }), 401),
        ("empty-subject", json!({ "sub": "" }), 401),
        ("bound-to-a-key", json!({ "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } }), 401),
        ("bound-to-who-knows-what", json!({ "cnf": { "kid": "a" } }), 401),
        ("name-of-another-kind", json!({ "jti": 7 }), 401),
        ("active-as-text", json!({ "active": "true" }), 503),
        ("active-as-number", json!({ "active": 1 }), 503),
        ("no-active", json!({ "active": null }), 503),
    ]
    .into_iter()
    .map(|(name, change, status)| (name, (change, status)))
    .collect();
    let table = changes.clone();
    let issuer = Issuer::answering(move |request| {
        let token = form(request).remove("token")?;
        let (change, _) = table.get(token.strip_prefix("token-")?)?;
        let mut answer = active("alice");
        answer["aud"] = json!(AUDIENCE);
        for (member, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => drop(answer.as_object_mut().expect("an object").remove(member)),
                value => answer[member] = value.clone(),
            }
        }
        Some(Reply::json(&answer))
    });
    let gateway = start(&upstream, &issuer, &format!("issuer: \"{ISSUER}\", audience: {AUDIENCE}"));
    for (name, (_, expected)) in &changes {
        assert_eq!(status(&gateway, &format!("token-{name}")), *expected, "{name}");
    }
    assert_eq!(upstream.last().header("x-auth-source").as_deref(), Some(ISSUER));
}

#[test]
fn a_server_that_does_not_answer_well_costs_the_unknown_503_and_the_known_nothing() {
    let upstream = Upstream::recording();
    let issuer = Issuer::new();
    issuer.says("/introspect", Reply::json(&active("alice")));
    let gateway = start(&upstream, &issuer, "timeout: 1s");
    assert_eq!(status(&gateway, "opaque-token-known"), 200);
    let twice = "{\"active\":true,\"active\":true,\"sub\":\"root\"}".to_owned();
    let elsewhere = server();
    for (n, reply) in [
        Reply::status("500 Internal Server Error"),
        Reply::status("401 Unauthorized"),
        Reply::status("302 Found").with("Location", &elsewhere.url("/introspect")),
        Reply::Says("200 OK", Vec::new(), twice),
        Reply::Says("200 OK", Vec::new(), "<html>".to_owned()),
        Reply::json(&json!({ "active": true, "sub": "a", "x": "y".repeat(70 * 1024) })),
        Reply::Silence,
    ]
    .into_iter()
    .enumerate()
    {
        issuer.says("/introspect", reply);
        let answer = gateway.get("/api").bearer(&format!("opaque-token-unknown-{n}")).send();
        assert_eq!(answer.status(), 503, "{n}");
        assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
        assert_eq!(gateway.access_line(&answer)["reason"], "introspection_unavailable", "{n}");
        assert_eq!(status(&gateway, "opaque-token-known"), 200, "what is known still counts");
    }
    assert!(elsewhere.requests().is_empty(), "no redirect is followed, least of all with a secret");
    assert_eq!(asked(&gateway, "failed"), 7);
    issuer.says("/introspect", Reply::json(&active("alice")));
    until("it is asked again", || (status(&gateway, "opaque-token-unknown-0") == 200).then_some(()));
}

#[test]
fn a_server_that_is_gone_is_503() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream, &entry(&format!("http://{}/", Upstream::nobody()), "")).start();
    assert_eq!(gateway.admin("GET", "/readyz", "").status(), 200);
    assert_eq!(status(&gateway, "good-token-of-alice"), 503);
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_answer_is_believed_no_longer_than_the_file_and_the_token_say() {
    let (upstream, end) = (Upstream::recording(), Arc::new(AtomicBool::new(false)));
    let ended = end.clone();
    let issuer = Issuer::answering(move |request| {
        if ended.load(Ordering::Relaxed) {
            return Some(Reply::json(&json!({ "active": false })));
        }
        let mut answer = active("alice");
        if form(request)["token"].contains("short") {
            answer["exp"] = json!(unix_now() + 2);
        }
        Some(Reply::json(&answer))
    });
    let gateway = start(&upstream, &issuer, "cache: 5m");
    assert_eq!(status(&gateway, "short-token"), 200);
    assert_eq!(status(&gateway, "long-token-of-alice"), 200);
    end.store(true, Ordering::Relaxed);
    until("the short one ends", || (status(&gateway, "short-token") == 401).then_some(()));
    assert_eq!(status(&gateway, "long-token-of-alice"), 200);

    end.store(false, Ordering::Relaxed);
    let gateway = start(&upstream, &issuer, "cache: 1s");
    assert_eq!(status(&gateway, "long-token-of-alice"), 200);
    end.store(true, Ordering::Relaxed);
    until("it is asked about again", || (status(&gateway, "long-token-of-alice") == 401).then_some(()));
}

#[test]
fn only_so_many_questions_are_under_way_at_once() {
    let upstream = Upstream::recording();
    let issuer = Issuer::answering(|request| {
        pause(Duration::from_millis(30));
        Some(knows(request))
    });
    let gateway = start(&upstream, &issuer, "parallel: 2, timeout: 20s");
    std::thread::scope(|scope| {
        let gateway = &gateway;
        let asked: Vec<_> =
            (0..20).map(|n| scope.spawn(move || status(gateway, &format!("good-token-of-{n}")))).collect();
        for one in asked {
            assert_eq!(one.join().expect("no panic"), 200);
        }
    });
    assert_eq!(issuer.requests().len(), 20);
    assert!(issuer.most_under_way() <= 2, "{}", issuer.most_under_way());
}

#[test]
fn a_client_proves_itself_as_the_file_says() {
    let upstream = Upstream::recording();
    let issuer = server();
    let url = issuer.url("/introspect");
    let post = format!(
        "{{ introspection: {{ url: \"{url}\", client_id: gw, auth: post, client_secret: {{ file: asking.secret }} }} }}"
    );
    let gateway = setup(&upstream, &post).start();
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    let question = issuer.requests().remove(0);
    assert_eq!(question.header("authorization"), None);
    let fields = form(&question);
    assert_eq!((fields["client_id"].as_str(), fields["client_secret"].as_str()), ("gw", SECRET));

    let issuer = server();
    let url = issuer.url("/introspect");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let signing = format!(
        "{{ introspection: {{ url: \"{url}\", client_id: gw, auth: private_key_jwt, key_id: k1, client_key: {{ file: gateway.pem }} }} }}"
    );
    let gateway = setup(&upstream, &signing).file("gateway.pem", &key.serialize_pem()).start();
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    assert_eq!(status(&gateway, "good-token-of-bob"), 200);
    let made: Vec<String> = issuer
        .requests()
        .iter()
        .map(|question| form(question).remove("client_assertion").expect("one"))
        .collect();
    let parts: Vec<Vec<u8>> =
        made[0].split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url")).collect();
    let header: Value = serde_json::from_slice(&parts[0]).expect("JSON");
    assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &json!("k1")));
    let claims: Value = serde_json::from_slice(&parts[1]).expect("JSON");
    assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("gw"), &json!("gw"), &json!(url)));
    assert!((claims["exp"].as_i64().expect("a number") - unix_now() - 60).abs() < 20);
    let (message, _) = made[0].rsplit_once('.').expect("three parts");
    aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED,
        key.public_key_raw(),
    )
    .verify(message.as_bytes(), &parts[2])
    .expect("it is our key's");
    let id = |assertion: &str| assertion.split('.').nth(1).expect("claims").to_owned();
    assert_ne!(id(&made[0]), id(&made[1]), "each is good for one use");
}

#[test]
fn a_client_proves_itself_by_its_certificate() {
    let (upstream, ours) = (Upstream::recording(), Authority::new("ours"));
    let client = ours.signs("gateway");
    let stranger = Authority::new("others").signs("gateway");
    for (shown, expected) in [(&client, 200), (&stranger, 503)] {
        let issuer = Issuer::with_tls(&ours.signs("localhost"), Some(&ours), |request| Some(knows(request)));
        let url = format!("https://localhost:{}/introspect", issuer.address().port());
        let entry = format!(
            "{{ introspection: {{ url: \"{url}\", client_id: gw, auth: mtls, ca: issuer.pem,
               client_certificate: {{ certificate: gateway.crt, key: {{ file: gateway.key }} }} }} }}"
        );
        let gateway = setup(&upstream, &entry)
            .file("issuer.pem", &ours.pem)
            .file("gateway.crt", &shown.certificate)
            .file("gateway.key", &shown.key)
            .start();
        assert_eq!(status(&gateway, "good-token-of-alice"), expected);
        if expected == 200 {
            assert_eq!(form(&issuer.requests()[0])["client_id"], "gw");
        }
    }
}

#[test]
fn a_token_that_a_signature_proves_is_shown_to_nobody() {
    let (upstream, issuer, key) = (Upstream::recording(), server(), Key::es256());
    let jwt = format!(
        "{{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {{ public_key: token.key }} }} }}"
    );
    let entry = entry(&issuer.url("/introspect"), "");
    let gateway = setup(&upstream, &entry)
        .set("tokens", &format!("{{ partner: {entry}, api: {jwt} }}"))
        .access("{ tokens: [partner, api], same_people: true, allow: everyone }")
        .file("token.key", &key.file())
        .start();
    assert_eq!(status(&gateway, &key.good("alice")), 200);
    assert!(issuer.requests().is_empty());
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    assert_eq!(issuer.requests().len(), 1);
}

#[test]
fn a_verdict_of_one_entry_is_none_of_another() {
    let upstream = Upstream::recording();
    let (one, two) = (server(), Issuer::answering(|_| Some(Reply::json(&json!({ "active": false })))));
    let entries = format!(
        "{{ partner: {}, other: {} }}",
        entry(&one.url("/introspect"), ""),
        entry(&two.url("/introspect"), "")
    );
    let gateway = setup(&upstream, "")
        .set("tokens", &entries)
        .routes(&[
            "{ name: other, host: wiki.example.com, path: /other, access: { tokens: [other], allow: everyone }, upstream: app }",
            "{ name: api, host: wiki.example.com, path: /, access: { tokens: [partner], allow: everyone }, upstream: app }",
        ])
        .start();
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    assert_eq!(gateway.get("/other").bearer("good-token-of-alice").send().status(), 401);
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}

#[test]
fn answers_outlive_a_reload_that_leaves_their_entry_as_it_was() {
    let (upstream, issuer) = (Upstream::recording(), server());
    let mut gateway = start(&upstream, &issuer, "");
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    gateway.reload_with("drain", "2s");
    assert_eq!(status(&gateway, "good-token-of-alice"), 200);
    assert_eq!(issuer.requests().len(), 1);
    let stricter = entry(&issuer.url("/introspect"), "audience: [blog]");
    gateway.reload_with("tokens", &format!("{{ partner: {stricter} }}"));
    assert_eq!(status(&gateway, "good-token-of-alice"), 401);
    assert_eq!(issuer.requests().len(), 2);
}
