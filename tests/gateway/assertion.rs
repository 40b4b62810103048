//! An upstream gets a signed statement about who asks, which nobody else can make and which never says more than is true now.

use crate::support::client::NAVIGATION;
use crate::support::tokens::{self, Key};
use crate::support::users::{self, User};
use crate::support::wait::{pause, unix_now, until};
use crate::support::{Gateway, Message, SESSION, Setup, Upstream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const ISSUER: &str = "https://gw.example.com";
const HEADER: &str = "x-auth-assertion";

/// A key as the command makes it.
fn key(kind: &str) -> String {
    let made = Command::new(crate::support::gateway::BINARY)
        .args(["keys", "generate", &format!("--assertion={kind}")])
        .output()
        .expect("the binary runs");
    assert!(made.status.success());
    String::from_utf8(made.stdout).expect("PEM is ASCII")
}

fn identity(keys: &str, more: &str) -> String {
    format!("{{ assertion: {{ issuer: \"{ISSUER}\", keys: [{keys}], {more} }} }}")
}

fn asserting(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .file("first.pem", &key("es256"))
        .file("second.pem", &key("eddsa"))
        .set("identity", &identity("{ file: first.pem }", ""))
}

/// The same with routes that take bearer tokens.
fn with_tokens(setup: Setup, issuer: &Key, access: &str) -> Setup {
    setup
        .file("issuer.pem", &issuer.file())
        .set(
            "tokens",
            &format!(
                "{{ api: {{ jwt: {{ issuer: \"{}\", audience: [wiki], algorithms: [ES256], leeway: 0s, keys: {{ public_key: issuer.pem }} }} }} }}",
                tokens::ISSUER
            ),
        )
        .access(access)
}

/// What applications fetch.
fn published(gateway: &Gateway) -> JwkSet {
    let answer = gateway.get("/_vestibule/jwks.json").send();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("a JWK Set")
}

/// The claims of an assertion, whose signature, `iss`, `aud` and `exp` an application has checked with what is published.
fn checked(gateway: &Gateway, token: &str, audience: &str) -> Result<Value, String> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| error.to_string())?;
    assert_eq!(header.typ.as_deref(), Some("vestibule-assertion+jwt"));
    let set = published(gateway);
    let jwk = set.find(header.kid.as_deref().expect("a kid")).ok_or("no such key")?;
    let key = DecodingKey::from_jwk(jwk).expect("a public key");
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map(|read| read.claims)
        .map_err(|error| error.to_string())
}

/// The claims without any check.
fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// The assertion that goes with a request which passes.
fn sent(upstream: &Upstream, answer: &Message) -> String {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    upstream.last().header(HEADER).expect("an assertion")
}

#[test]
fn an_application_can_check_who_asks() {
    let upstream = Upstream::recording();
    let gateway = asserting(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let token = sent(&upstream, &alice.get("/page").send());
    let said = checked(&gateway, &token, "app").expect("it is sound");
    let session = alice.get("/_vestibule/session").send().json();
    assert_eq!(said["sub"], "alice");
    assert_eq!(said["source"], session["source"]);
    assert_eq!(said["email"], "alice@example.com");
    assert_eq!(said["groups"], json!(["ops", "a,b"]), "as they are, not as headers have them");
    let (iat, exp) = (said["iat"].as_i64().expect("a number"), said["exp"].as_i64().expect("a number"));
    assert!(unix_now() - iat <= 2 && exp - iat == 60, "{said}");
    let listed = gateway.admin("GET", "/sessions?subject=alice", "").json();
    assert_eq!(said["sid"], listed["sessions"][0]["id"], "the public id");
    assert!(!said.to_string().contains(&alice.cookie(SESSION).expect("a cookie")));
    assert!(checked(&gateway, &token, "shop").is_err(), "another application is not meant");
    for _ in 0..20 {
        assert_eq!(sent(&upstream, &alice.get("/page").send()), token, "signed once, sent often");
    }
    let bob = gateway.browser();
    bob.sign_in("bob");
    let other = sent(&upstream, &bob.get("/page").send());
    assert_eq!(checked(&gateway, &other, "app").expect("it is sound")["sub"], "bob");
}

#[test]
fn what_a_client_sends_under_its_name_is_removed_on_every_route() {
    let upstream = Upstream::recording();
    let gateway = asserting(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let own = sent(&upstream, &alice.get("/page").send());
    for name in ["X-Auth-Assertion", "x_auth_assertion", "X.Auth-Assertion", "XAuthAssertion"] {
        for connection in ["keep-alive", "x-auth-assertion"] {
            alice.get("/public").header(name, "forged").header("Connection", connection).send();
            assert_eq!(forms(&upstream.last()), [""; 0], "{name} on a public page");
            alice.get("/page").header(name, "forged").header("Connection", connection).send();
            assert_eq!(forms(&upstream.last()), [own.as_str()], "{name}");
        }
    }
}

/// Every value that a lax server could take for an assertion.
fn forms(request: &Message) -> Vec<String> {
    let folded =
        |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let fields = request.fields().into_iter();
    fields.filter(|(name, _)| folded(name) == "xauthassertion").map(|(_, value)| value).collect()
}

#[test]
fn an_upstream_says_what_it_takes() {
    let upstream = Upstream::recording();
    let server = format!("servers: [\"http://{}\"]", upstream.address());
    let gateway = asserting(&upstream)
        .set(
            "upstreams",
            &format!(
                "{{ both: {{ {server} }}, none: {{ {server}, identity: {{ assertion: false }} }},
                    only: {{ {server}, identity: {{ assertion: only }} }} }}"
            ),
        )
        .routes(&["both", "none", "only"].map(|name| {
            format!("{{ name: {name}, host: wiki.example.com, path: /{name}, access: {{ sign_in: [local], optional: true }}, upstream: {name} }}")
        }).each_ref().map(String::as_str))
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    for (name, has_header, has_assertion) in
        [("both", true, true), ("none", true, false), ("only", false, true)]
    {
        alice.get(&format!("/{name}")).header("X-Auth-User", "root").send();
        let request = upstream.last();
        assert_eq!(request.header("x-auth-user").is_some(), has_header, "{name}");
        assert_eq!(
            request
                .header(HEADER)
                .map(|token| checked(&gateway, &token, name).expect("sound")["sub"].clone()),
            has_assertion.then(|| json!("alice")),
            "{name}"
        );
        assert_ne!(request.header("x-auth-user").as_deref(), Some("root"));
        gateway.get(&format!("/{name}")).header(HEADER, "forged").send();
        assert_eq!(upstream.last().header(HEADER), None, "nobody asks on {name}");
    }
}

#[test]
fn nothing_old_is_said_of_a_session_that_changed() {
    let upstream = Upstream::recording();
    let gateway = asserting(&upstream).set("sessions", "{ renew_after: 1s }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let first = sent(&upstream, &alice.get("/page").send());
    // Groups that the file takes away count at once.
    let fewer = users::file(&[User::new("alice", &["groups: [dev]"])]);
    gateway.folder().write("users.yaml", &fewer);
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
    let second = sent(&upstream, &alice.get("/page").send());
    assert_eq!(claims(&second).get("groups"), None, "{}", claims(&second));
    assert_eq!(claims(&second)["sid"], claims(&first)["sid"]);
    pause(Duration::from_millis(1100));
    alice.get("/page").send();
    let renewed = sent(&upstream, &alice.get("/page").send());
    assert_ne!(claims(&renewed)["jti"], claims(&second)["jti"], "the token is another one");
    assert_eq!(claims(&renewed)["groups"], json!(["dev"]), "what the file adds counts with the new token");
    let cookie = alice.stolen_cookie();
    alice.sign_out(false);
    assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 401);
    alice.sign_in("alice");
    let anew = sent(&upstream, &alice.get("/page").send());
    assert_ne!(claims(&anew)["sid"], claims(&renewed)["sid"]);
}

#[test]
fn no_assertion_outlives_its_session_or_its_token() {
    let upstream = Upstream::recording();
    let gateway = asserting(&upstream)
        .set("sessions", "{ idle_timeout: 20s, absolute_lifetime: 20s }")
        .set("identity", &identity("{ file: first.pem }", "lifetime: 1h"))
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let said = claims(&sent(&upstream, &alice.get("/page").send()));
    assert!(said["exp"].as_i64().expect("a number") <= unix_now() + 20, "{said}");

    let issuer = Key::es256();
    let setup = asserting(&upstream).set("identity", &identity("{ file: first.pem }", "lifetime: 1h"));
    let gateway = with_tokens(setup, &issuer, "{ tokens: [api], allow: everyone }").start();
    let exp = unix_now() + 30;
    let token = issuer.token("carol", |_, claims| claims["exp"] = json!(exp));
    let assertion = sent(&upstream, &gateway.get("/").bearer(&token).send());
    let said = checked(&gateway, &assertion, "app").expect("it is sound");
    assert_eq!((&said["sub"], &said["exp"]), (&json!("carol"), &json!(exp)));
    assert_eq!(said.get("sid"), None, "a token has no session");
    assert_eq!(said["source"], tokens::ISSUER);
    let longer = issuer.good("carol");
    let other = sent(&upstream, &gateway.get("/").bearer(&longer).send());
    assert!(claims(&other)["exp"].as_i64() > Some(exp), "another token has its own");
}

#[test]
fn half_of_its_life_is_served_and_then_comes_another() {
    let upstream = Upstream::recording();
    let gateway =
        asserting(&upstream).set("identity", &identity("{ file: first.pem }", "lifetime: 4s")).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let first = sent(&upstream, &alice.get("/page").send());
    let second = until("another one is signed", || {
        let token = sent(&upstream, &alice.get("/page").send());
        checked(&gateway, &token, "app").expect("what is sent is always good");
        (token != first).then_some(token)
    });
    assert!(claims(&second)["exp"].as_i64() > claims(&first)["exp"].as_i64());
    let now = unix_now();
    assert!(now < claims(&first)["exp"].as_i64().expect("a number"), "before the first has run out");
}

#[test]
fn keys_roll_over_without_a_gap() {
    let upstream = Upstream::recording();
    let mut gateway = asserting(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let kids = |gateway: &Gateway| -> Vec<String> {
        published(gateway).keys.iter().map(|key| key.common.key_id.clone().expect("a kid")).collect()
    };
    let by_first = sent(&upstream, &alice.get("/page").send());
    let before = kids(&gateway);
    assert_eq!(before.len(), 1);
    drop(alice);
    let cookie = {
        let alice = gateway.browser();
        alice.sign_in("alice");
        alice.stolen_cookie()
    };
    let steps = ["{ file: first.pem }, { file: second.pem }", "{ file: second.pem }, { file: first.pem }"];
    let mut signed = Vec::new();
    for keys in steps {
        gateway.reload_with("identity", &identity(keys, ""));
        assert_eq!(kids(&gateway).len(), 2);
        checked(&gateway, &by_first, "app").expect("what was signed before is still good");
        signed.push(sent(&upstream, &gateway.get("/page").header("Cookie", &cookie).send()));
        checked(&gateway, signed.last().expect("just pushed"), "app").expect("so is what is signed now");
    }
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("a header").kid.expect("a kid");
    assert_eq!(kid(&signed[0]), before[0], "the second is published before it signs");
    assert_ne!(kid(&signed[1]), before[0], "the first in the list signs");
    gateway.reload_with("identity", &identity("{ file: second.pem }", ""));
    assert_eq!(kids(&gateway), [kid(&signed[1])]);
    checked(&gateway, &by_first, "app").expect_err("its key is gone");
    gateway.reload_with("identity", "{}");
    assert_eq!(gateway.get("/_vestibule/jwks.json").send().status(), 404);
    gateway.get("/page").header("Cookie", &cookie).send();
    assert_eq!(upstream.last().header(HEADER), None);
}

#[test]
fn the_keys_are_there_for_everybody_and_kept_for_minutes() {
    let upstream = Upstream::recording();
    let gateway = asserting(&upstream).start();
    let answer = gateway.get("/_vestibule/jwks.json").headers(&NAVIGATION).send();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("cache-control").as_deref(), Some("public, max-age=300"));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/jwk-set+json"));
    assert_eq!(answer.all("set-cookie"), [""; 0]);
    let key = &answer.json()["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"), &json!("sig"))
    );
    assert_eq!(key.get("d"), None, "the private half stays here");
    let tag = answer.header("etag").expect("a tag");
    let same = gateway.get("/_vestibule/jwks.json").header("If-None-Match", &tag).send();
    assert_eq!((same.status(), same.text().as_str()), (304, ""));
    assert_eq!((same.header("etag"), same.header("content-length")), (Some(tag), None));
    assert_eq!(gateway.get("/_vestibule/jwks.json").header("If-None-Match", "\"x\"").send().status(), 200);
    let head = gateway.request("HEAD", "/_vestibule/jwks.json").send();
    assert_eq!((head.status(), head.text().as_str()), (200, ""));
    assert_eq!(gateway.post("/_vestibule/jwks.json").body("").send().status(), 405);
    assert_eq!(gateway.get("/_vestibule/jwks.json").host("other.example.com").send().status(), 404);
}

/// Who gets an assertion can read it. It is no access token, not even where an issuer's keys are those of this gateway.
#[test]
fn an_assertion_is_no_bearer_token() {
    let upstream = Upstream::recording();
    let mut gateway = asserting(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let assertion = sent(&upstream, &alice.get("/page").send());
    let set = gateway.get("/_vestibule/jwks.json").send().text();
    drop(alice);
    gateway.folder().write("own.jwks", &set);
    gateway.change("routes", "[{ name: all, host: wiki.example.com, path: /, access: { tokens: [own], allow: everyone }, upstream: app }]");
    gateway.reload_with(
        "tokens",
        &format!("{{ own: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [app], algorithms: [ES256], keys: {{ jwks_file: own.jwks }} }} }} }}"),
    );
    let refused = gateway.get("/").bearer(&assertion).send();
    assert_eq!(refused.status(), 401);
    assert_eq!(gateway.access_line(&refused)["reason"], "token_type");
}

#[test]
fn where_none_is_configured_none_is_published() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.get("/_vestibule/jwks.json").send().status(), 404);
}
