//! Ways of tokens that meet: opaque ones that are traded, published keys and proofs where another proxy asks, proofs over HTTP/2.

use crate::support::http2::Http2;
use crate::support::issuer::{Issuer, Reply};
use crate::support::message::Message;
use crate::support::proofs::{Holder, outcome};
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{unix_now, until};
use crate::support::{Gateway, HOST, SESSION, Setup, Upstream};
use serde_json::{Value, json};

/// Says of each token what its name promises.
fn server() -> Issuer {
    Issuer::answering(|request: &Message| {
        let form: Vec<(String, String)> =
            form_urlencoded::parse(&request.body).into_owned().filter(|(name, _)| name == "token").collect();
        let answer = match form.first().map(|(_, token)| token.as_str()) {
            Some("good") => {
                json!({ "active": true, "sub": "alice", "exp": unix_now() + 3600, "groups": ["ops"] })
            }
            Some("endless") => json!({ "active": true, "sub": "alice" }),
            Some("bound") => {
                json!({ "active": true, "sub": "alice", "exp": unix_now() + 3600, "cnf": { "jkt": Holder::new().thumbprint() } })
            }
            Some("failing") => return Some(Reply::status("500 Internal Server Error")),
            _ => json!({ "active": false }),
        };
        Some(Reply::json(&answer))
    })
}

fn trade(gateway: &Gateway, token: &str) -> crate::support::Message {
    gateway.post("/_vestibule/session").bearer(token).send()
}

#[test]
fn an_opaque_token_is_traded_once_its_server_has_spoken() {
    let (upstream, issuer) = (Upstream::recording(), server());
    let introspection = format!(
        "introspection: {{ url: \"{}\", client_id: gw, client_secret: {{ file: asking.secret }} }}",
        issuer.url("/introspect")
    );
    let gateway = Setup::before(&upstream)
        .set("tokens", &format!("{{ partner: {{ {introspection}, exchange: true }}, other: {{ {introspection} }} }}"))
        .routes(&[
            "{ name: app, host: wiki.example.com, path: /, upstream: app, access: { sign_in: [partner], allow: { groups: [ops] } } }",
        ])
        .file("asking.secret", "s3cret")
        .start();
    let answer = trade(&gateway, "good");
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let told = answer.json();
    assert_eq!((told["subject"].as_str(), told["source"].as_str()), (Some("alice"), Some("partner")));
    let cookie =
        answer.all("set-cookie").into_iter().find(|line| line.starts_with(SESSION)).expect("a cookie");
    let cookie = cookie.split(';').next().expect("its value").to_owned();
    let ask = || gateway.get("/x").header("Cookie", &cookie).send().status();
    assert_eq!(ask(), 200, "the claims that the server told count");
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(trade(&gateway, "good").status(), 201);
    assert_eq!(issuer.requests().len(), 1, "the server was asked once");
    for (token, expected) in [
        ("unknown", (401, json!("token_inactive"))),
        ("bound", (401, json!("token_bound"))),
        ("endless", (401, json!("token_without_expiry"))),
        ("failing", (503, json!("introspection_unavailable"))),
    ] {
        let answer = trade(&gateway, token);
        assert_eq!(outcome(&gateway, &answer), expected, "{token}");
        assert!(answer.all("set-cookie").is_empty(), "{token}");
    }
    let revoked = gateway.admin(
        "POST",
        "/tokens/revoke",
        &json!({ "source": "partner", "subject": "alice" }).to_string(),
    );
    assert_eq!(revoked.status(), 200, "{}", revoked.text());
    assert_eq!(ask(), 401, "the session ends with what it was traded for");
}

/// What nginx asks about a request, and what it is told.
fn asked_by_nginx(
    gateway: &Gateway,
    method: &str,
    target: &str,
    more: &[(&str, &str)],
) -> crate::support::Message {
    let url = format!("https://{HOST}{target}");
    let own = [("X-Original-URL", url.as_str()), ("X-Original-Method", method)];
    gateway.get("/_vestibule/auth").host("vestibule.internal:8080").headers(&own).headers(more).send()
}

fn entry(keys: &str, dpop: &str) -> String {
    format!(
        "{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {keys} }}, dpop: {dpop} }} }}"
    )
}

fn asked(upstream: &Upstream, tokens: &str) -> Setup {
    Setup::before(upstream)
        .set("tokens", tokens)
        .set("forward_auth", "{ dialect: nginx, from: [127.0.0.1] }")
        .set("identity", "{ headers: { X-Auth-User: subject } }")
        .access("{ tokens: [api], allow: everyone }")
}

#[test]
fn where_another_proxy_asks_keys_are_fetched_as_ever() {
    let (upstream, issuer) = (Upstream::recording(), Issuer::new());
    let (key, next) = (Key::es256(), Key::es256());
    issuer.says("/jwks", Reply::Silence);
    let keys =
        format!("{{ jwks_url: \"{}\", fetch: {{ timeout: 1s, cool_down: 1s }} }}", issuer.url("/jwks"));
    let gateway = asked(&upstream, &entry(&keys, "{}")).start();
    let ask = |key: &Key, kid: &str| {
        let token = key.token("alice", |header, _| header["kid"] = json!(kid));
        asked_by_nginx(&gateway, "GET", "/x", &[("Authorization", &format!("Bearer {token}"))])
    };
    let unknown = ask(&key, "a");
    assert_eq!(unknown.status(), 503, "nobody can say; never a yes");
    issuer.publishes(&[key.jwk("a")]);
    until("the keys are there", || (ask(&key, "a").status() == 200).then_some(()));
    assert_eq!(ask(&key, "a").header("x-auth-user").as_deref(), Some("alice"));
    // A key that the issuer has just begun to use.
    issuer.publishes(&[key.jwk("a"), next.jwk("b")]);
    until("the new key counts", || (ask(&next, "b").status() == 200).then_some(()));
    let forged = ask(&Key::es256(), "a");
    assert_eq!((forged.status(), forged.header("x-auth-user")), (401, None));
    assert!(upstream.requests().is_empty());
}

#[test]
fn where_another_proxy_asks_a_proof_is_for_the_visitors_request() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway =
        asked(&upstream, &entry("{ public_key: token.key }", "{}")).file("token.key", &issuer.file()).start();
    let holder = Holder::new();
    let token = holder.token(&issuer, "alice");
    let ask = |method: &str, target: &str, proof: &str| {
        let authorization = format!("DPoP {token}");
        asked_by_nginx(&gateway, method, target, &[("Authorization", &authorization), ("DPoP", proof)])
    };
    let new = |method: &str, target: &str| holder.proof((method, target), &token, |_, _| {});
    let challenged = ask("GET", "/x", &new("GET", "/x"));
    assert_eq!(challenged.status(), 401);
    holder.take_nonce(&challenged);
    let proof = new("POST", "/x/y");
    let yes = ask("POST", "/x/y?z=1", &proof);
    assert_eq!((yes.status(), yes.header("x-auth-user").as_deref()), (200, Some("alice")));
    for (method, target, proof, reason) in [
        ("POST", "/x/y", proof, "dpop_replayed"),
        ("GET", "/x/y", new("POST", "/x/y"), "dpop_htm"),
        ("POST", "/x/y", new("POST", "/x/z"), "dpop_htu"),
        // Nor is one for the question itself.
        ("POST", "/x/y", new("GET", "/_vestibule/auth"), "dpop_htm"),
        ("GET", "/x/y", new("GET", "/_vestibule/auth"), "dpop_htu"),
    ] {
        let answer = ask(method, target, &proof);
        assert_eq!(outcome(&gateway, &answer), (401, json!(reason)));
        assert_eq!(answer.header("x-auth-user"), None, "{reason}");
    }
    let bearer = asked_by_nginx(&gateway, "GET", "/x", &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!(bearer.status(), 401, "a bound token without its proof");
}

#[test]
fn a_proof_over_http_2_is_held_to_the_same() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = Setup::before(&upstream)
        .set("tokens", &entry("{ public_key: token.key }", "{}"))
        .access("{ tokens: [api], allow: everyone }")
        .file("token.key", &issuer.file())
        .start();
    let holder = Holder::new();
    let token = holder.token(&issuer, "alice");
    let http2 = Http2::to(gateway.address());
    let authorization = format!("DPoP {token}");
    let ask = |method: &str, target: &str, proofs: &[&str]| {
        let mut fields = vec![("authorization", authorization.as_str())];
        fields.extend(proofs.iter().map(|proof| ("dpop", *proof)));
        http2.ask(method, target, &fields)
    };
    let new = |method: &str, target: &str| holder.proof((method, target), &token, |_, _| {});
    let challenged = ask("GET", "/x", &[&new("GET", "/x")]);
    assert_eq!(challenged.status, 401);
    assert!(challenged.header("www-authenticate").expect("a challenge").contains("use_dpop_nonce"));
    let nonce = challenged.header("dpop-nonce").expect("a nonce").to_owned();
    let new = |method: &str, target: &str| {
        holder.proof((method, target), &token, |_, claims: &mut Value| claims["nonce"] = json!(nonce))
    };
    let proof = new("GET", "/x");
    assert_eq!(ask("GET", "/x?y=1", &[&proof]).status, 200);
    let request = upstream.last();
    assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!((request.header("authorization"), request.header("dpop")), (None, None));
    assert_eq!(ask("DELETE", "/x", &[&new("DELETE", "/x")]).status, 200);
    let seen = upstream.requests().len();
    for (name, method, target, proofs) in [
        ("used before", "GET", "/x", vec![proof]),
        ("of another method", "GET", "/x", vec![new("POST", "/x")]),
        ("of another path", "GET", "/x", vec![new("GET", "/y")]),
        ("twice", "GET", "/x", vec![new("GET", "/x"), new("GET", "/x")]),
        ("none", "GET", "/x", vec![]),
    ] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        assert_eq!(ask(method, target, &proofs).status, 401, "{name}");
    }
    assert_eq!(http2.get("/x", &[("authorization", &format!("Bearer {token}"))]).status, 401);
    assert_eq!(upstream.requests().len(), seen, "nothing went on");
}
