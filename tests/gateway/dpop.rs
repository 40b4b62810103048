//! A token that is bound to a key counts only with a proof for this very request (RFC 9449), wherever it turns up.

use crate::support::proofs::{Holder, outcome};
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::unix_now;
use crate::support::{Gateway, Message, Setup, Upstream};
use serde_json::{Value, json};

/// `/api` takes tokens as they are, `/bound` only bound ones, `/partner` those of another entry for the same tokens; `/kept`
/// passes them on, `/both` takes sessions too.
fn setup(upstream: &Upstream, issuer: &Key, dpop: &str) -> Setup {
    let entry = |audience: &str| {
        format!(
            "{{ jwt: {{ issuer: \"{ISSUER}\", audience: [{audience}], algorithms: [ES256], keys: {{ public_key: token.key }} }}, dpop: {dpop} }}"
        )
    };
    let route = |name: &str, more: &str| {
        format!(
            "{{ name: {name}, host: wiki.example.com, path: /{name}, upstream: app, access: {{ allow: everyone, {more} }} }}"
        )
    };
    Setup::before(upstream)
        .set("tokens", &format!("{{ api: {}, partner: {} }}", entry(AUDIENCE), entry("partner")))
        .set("identity", "{ headers: { X-Auth-User: subject } }")
        .routes(&[
            &route("api", "tokens: [api]"),
            &route("bound", "tokens: [api], proof: [dpop]"),
            &route("certified", "tokens: [api], proof: [dpop, certificate]"),
            &route("partner", "tokens: [partner]"),
            &route("both", "tokens: [api], sign_in: [local], same_people: true"),
            &route("maybe", "tokens: [api], optional: true"),
            "{ name: kept, host: wiki.example.com, path: /kept, upstream: app, forward_authorization: true,
               access: { allow: everyone, tokens: [api] } }",
        ])
        .file("token.key", &issuer.file())
}

fn start(upstream: &Upstream, issuer: &Key) -> Gateway {
    setup(upstream, issuer, "{}").start()
}

/// An issuer, a gateway that believes it, and a client with a key.
fn begin(upstream: &Upstream) -> (Key, Gateway, Holder) {
    let issuer = Key::es256();
    let gateway = start(upstream, &issuer);
    (issuer, gateway, Holder::new())
}

fn challenges(answer: &Message) -> String {
    answer.all("www-authenticate").join(", ")
}

#[test]
fn a_bound_token_passes_with_its_proof_and_neither_goes_on() {
    let upstream = Upstream::recording();
    let (issuer, gateway, holder) = begin(&upstream);
    let token = holder.token(&issuer, "alice");
    holder.greet(&gateway, "/api", &token);
    for target in ["/api", "/api/x?y=1", "/bound", "/certified", "/both", "/maybe", "/api"] {
        let answer = holder.ask(&gateway, ("GET", target), &token, |_, _| {}).send();
        assert_eq!(answer.status(), 200, "{target}: {}", answer.text());
        let request = upstream.last();
        assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
        assert_eq!((request.header("authorization"), request.header("dpop")), (None, None), "{target}");
    }
    let answer = holder.ask(&gateway, ("POST", "/api"), &token, |_, _| {}).body("x").send();
    assert_eq!(answer.status(), 200);
    let answer = holder.ask(&gateway, ("GET", "/kept"), &token, |_, _| {}).send();
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert!(
        request.header("dpop").is_some() && request.header("authorization").is_some(),
        "as the file says"
    );
    // A proof beside a token that asks for none is the application's business.
    let plain = issuer.good("bob");
    assert_eq!(gateway.get("/api").bearer(&plain).header("DPoP", "x").send().status(), 200);
    assert_eq!(upstream.last().header("dpop").as_deref(), Some("x"));
}

#[test]
fn a_bound_token_without_its_proof_is_refused_on_every_route() {
    let upstream = Upstream::recording();
    let (issuer, gateway, holder) = begin(&upstream);
    let token = holder.token(&issuer, "alice");
    holder.greet(&gateway, "/api", &token);
    // Believed, and remembered.
    assert_eq!(holder.ask(&gateway, ("GET", "/api"), &token, |_, _| {}).send().status(), 200);
    let seen = upstream.requests().len();
    let browser = gateway.browser();
    browser.sign_in("alice");
    for target in ["/api", "/bound", "/certified", "/both", "/maybe", "/kept"] {
        for scheme in ["Bearer", "bearer"] {
            let answer = browser.get(target).header("Authorization", &format!("{scheme} {token}")).send();
            assert_eq!(answer.status(), 401, "{target} {scheme}");
            let challenge = challenges(&answer);
            assert!(
                challenge.starts_with("DPoP ") && challenge.contains("error=\"invalid_token\""),
                "{challenge}"
            );
        }
        let answer = browser.get(target).header("Authorization", &format!("DPoP {token}")).send();
        assert_eq!(answer.status(), 401, "{target} without a proof");
        let challenge = challenges(&answer);
        assert!(challenge.contains("error=\"invalid_dpop_proof\""), "{challenge}");
        assert!(challenge.contains("algs=\"ES256 "), "{challenge}");
        let proof = holder.proof(("GET", target), &token, |_, _| {});
        let twice = holder.ask(&gateway, ("GET", target), &token, |_, _| {}).header("DPoP", &proof);
        assert_eq!(twice.send().status(), 401, "{target} with two proofs");
    }
    assert_eq!(upstream.requests().len(), seen, "nothing went on");
    let answer = gateway.get("/api").header("Authorization", &format!("DPoP {token}")).send();
    assert_eq!(gateway.access_line(&answer)["reason"], "dpop_missing");
}

#[test]
fn a_token_that_is_not_bound_passes_by_no_proof_and_not_where_a_bound_one_is_asked_for() {
    let upstream = Upstream::recording();
    let (issuer, gateway, holder) = begin(&upstream);
    let plain = issuer.good("alice");
    for target in ["/api", "/bound"] {
        let answer = holder.ask(&gateway, ("GET", target), &plain, |_, _| {}).send();
        assert_eq!(answer.status(), 401, "{target}");
        assert!(challenges(&answer).contains("error=\"invalid_token\""));
    }
    assert_eq!(gateway.get("/api").bearer(&plain).send().status(), 200);
    for target in ["/bound", "/certified"] {
        let answer = gateway.get(target).bearer(&plain).send();
        assert_eq!(answer.status(), 401, "{target}");
        assert!(challenges(&answer).contains("error=\"invalid_token\""), "{}", challenges(&answer));
        assert_eq!(gateway.access_line(&answer)["reason"], "token_not_bound");
    }
    let nobody = gateway.get("/bound").send();
    assert!(challenges(&nobody).contains("DPoP realm=\"vestibule\", algs="), "{}", challenges(&nobody));
    let nobody = gateway.get("/api").send();
    assert!(!challenges(&nobody).contains("DPoP"), "{}", challenges(&nobody));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn what_a_token_is_bound_to_must_be_known() {
    let upstream = Upstream::recording();
    let (issuer, gateway, holder) = begin(&upstream);
    let jkt = holder.thumbprint();
    for cnf in [
        json!({}),
        json!(null),
        json!({ "jkt": 7 }),
        json!({ "jwk": holder.jwk() }),
        json!({ "kid": "a" }),
        json!({ "jkt": jkt, "kid": "a" }),
        json!({ "jkt": format!("{jkt}=") }),
    ] {
        let token = issuer.token("alice", |_, claims| claims["cnf"] = cnf.clone());
        assert_eq!(gateway.get("/api").bearer(&token).send().status(), 401, "{cnf}");
        let answer = holder.ask(&gateway, ("GET", "/api"), &token, |_, _| {}).send();
        assert_eq!(answer.status(), 401, "{cnf}");
        assert_eq!(gateway.access_line(&answer)["reason"], "token_confirmation", "{cnf}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_proof_with_one_thing_wrong_is_refused_and_told_as_one() {
    type Change = fn(&mut Value, &mut Value);
    let upstream = Upstream::recording();
    let (issuer, gateway, holder) = begin(&upstream);
    let token = holder.token(&issuer, "alice");
    holder.greet(&gateway, "/api", &token);
    let wrong: [(&str, Change); 14] = [
        ("dpop_type", |header, _| header["typ"] = json!("JWT")),
        ("dpop_algorithm", |header, _| header["alg"] = json!("none")),
        ("dpop_algorithm", |header, _| header["alg"] = json!("HS256")),
        ("dpop_algorithm", |header, _| header["alg"] = json!("RS256")),
        ("dpop_key", |header, _| header["jwk"]["d"] = json!("AAAA")),
        ("dpop_other_key", |header, _| header["jwk"] = Holder::new().jwk()),
        ("dpop_htm", |_, claims| claims["htm"] = json!("POST")),
        ("dpop_htu", |_, claims| claims["htu"] = json!("https://wiki.example.com/ap")),
        ("dpop_htu", |_, claims| claims["htu"] = json!("http://wiki.example.com/api")),
        ("dpop_htu", |_, claims| claims["htu"] = json!("https://evil.example/api")),
        ("dpop_iat", |_, claims| claims["iat"] = json!(unix_now() - 100)),
        ("dpop_iat", |_, claims| claims["iat"] = json!(unix_now() + 100)),
        ("dpop_ath", |_, claims| claims["ath"] = json!("AAAA")),
        ("dpop_malformed", |_, claims| claims["jti"] = json!("")),
    ];
    for (reason, change) in wrong {
        let answer = holder.ask(&gateway, ("GET", "/api"), &token, change).send();
        assert_eq!(answer.status(), 401, "{reason}");
        assert_eq!(gateway.access_line(&answer)["reason"], reason);
        let error = if reason == "dpop_other_key" { "invalid_token" } else { "invalid_dpop_proof" };
        assert!(challenges(&answer).contains(error), "{reason}: {}", challenges(&answer));
    }
    let proof = holder.proof(("GET", "/api"), &token, |_, _| {});
    let (head, _) = proof.rsplit_once('.').expect("a signature");
    let unsigned = gateway.get("/api").header("Authorization", &format!("DPoP {token}"));
    let answer = unsigned.header("DPoP", &format!("{head}.{}", "A".repeat(86))).send();
    assert_eq!(answer.status(), 401);
    assert_eq!(gateway.access_line(&answer)["reason"], "dpop_signature");
    assert!(upstream.requests().is_empty());
    // The address as a browser may write it.
    for htu in ["HTTPS://WIKI.example.com:443/%61pi", "https://wiki.example.com./api?x#y"] {
        let change = |_: &mut Value, claims: &mut Value| claims["htu"] = json!(htu);
        assert_eq!(holder.ask(&gateway, ("GET", "/api"), &token, change).send().status(), 200, "{htu}");
    }
}

#[test]
fn a_proof_counts_once_and_for_its_own_token_alone() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = start(&upstream, &issuer);
    let (alice, bob) = (Holder::new(), Holder::new());
    let (hers, his) = (alice.token(&issuer, "alice"), bob.token(&issuer, "bob"));
    alice.greet(&gateway, "/api", &hers);
    bob.greet(&gateway, "/api", &his);
    let proof = alice.proof(("GET", "/api"), &hers, |_, _| {});
    let ask = |token: &str, proof: &str| {
        let request = gateway.get("/api").header("Authorization", &format!("DPoP {token}"));
        let answer = request.header("DPoP", proof).send();
        outcome(&gateway, &answer)
    };
    assert_eq!(ask(&hers, &proof).0, 200);
    assert_eq!(ask(&hers, &proof), (401, json!("dpop_replayed")));
    assert_eq!(ask(&his, &proof), (401, json!("dpop_ath")));
    // Somebody who has stolen a token signs with a key of his own.
    let stolen = bob.proof(("GET", "/api"), &hers, |_, _| {});
    assert_eq!(ask(&hers, &stolen), (401, json!("dpop_other_key")));
    // Another token for the same key needs another proof too.
    let second = issuer.token("alice", |_, claims| {
        claims["cnf"] = json!({ "jkt": alice.thumbprint() });
        claims["jti"] = json!("second");
    });
    let proof = alice.proof(("GET", "/api"), &hers, |_, _| {});
    assert_eq!(ask(&second, &proof), (401, json!("dpop_ath")));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_remembered_verdict_of_one_route_or_entry_is_none_of_another() {
    let upstream = Upstream::recording();
    let (issuer, gateway, holder) = begin(&upstream);
    let plain = issuer.token("alice", |_, claims| claims["aud"] = json!([AUDIENCE, "partner"]));
    let bound = issuer.token("alice", |_, claims| {
        claims["aud"] = json!([AUDIENCE, "partner"]);
        claims["cnf"] = json!({ "jkt": holder.thumbprint() });
    });
    holder.greet(&gateway, "/api", &bound);
    for _ in 0..2 {
        for (target, expected) in [("/api", 200), ("/partner", 200), ("/bound", 401)] {
            assert_eq!(gateway.get(target).bearer(&plain).send().status(), expected, "{target}");
        }
        for target in ["/api", "/partner", "/bound"] {
            let answer = holder.ask(&gateway, ("GET", target), &bound, |_, _| {}).send();
            assert_eq!(answer.status(), 200, "{target}");
            assert_eq!(gateway.get(target).bearer(&bound).send().status(), 401, "{target}");
            // A proof for another route.
            let proof = holder.proof(("GET", "/elsewhere"), &bound, |_, _| {});
            let request = gateway.get(target).header("Authorization", &format!("DPoP {bound}"));
            assert_eq!(request.header("DPoP", &proof).send().status(), 401, "{target}");
        }
    }
}

#[test]
fn no_proof_of_before_a_restart_counts_after_it() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let mut gateway = start(&upstream, &issuer);
    let holder = Holder::new();
    let token = holder.token(&issuer, "alice");
    holder.greet(&gateway, "/api", &token);
    let proof = holder.proof(("GET", "/api"), &token, |_, _| {});
    let without = Holder::new();
    let ask = |gateway: &Gateway| {
        let request = gateway.get("/api").header("Authorization", &format!("DPoP {token}"));
        request.header("DPoP", &proof).send()
    };
    assert_eq!(ask(&gateway).status(), 200);
    gateway.kill();
    gateway.start_again();
    let answer = ask(&gateway);
    assert_eq!(answer.status(), 401);
    assert!(challenges(&answer).contains("error=\"use_dpop_nonce\""), "{}", challenges(&answer));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    holder.take_nonce(&answer);
    assert_eq!(holder.ask(&gateway, ("GET", "/api"), &token, |_, _| {}).send().status(), 200);
    // A nonce that nobody issued.
    let other = without.token(&issuer, "alice");
    let answer = without.ask(&gateway, ("GET", "/api"), &other, |_, claims| claims["nonce"] = json!("x"));
    assert!(challenges(&answer.send()).contains("error=\"use_dpop_nonce\""));
}

#[test]
fn where_the_file_says_so_every_proof_needs_a_nonce() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, "{ max_age: 30s, nonce: true }").start();
    let holder = Holder::new();
    let token = holder.token(&issuer, "alice");
    holder.greet(&gateway, "/api", &token);
    let drop_nonce = |_: &mut Value, claims: &mut Value| {
        claims.as_object_mut().expect("an object").remove("nonce");
        claims["iat"] = json!(unix_now() + 29);
    };
    let answer = holder.ask(&gateway, ("GET", "/api"), &token, drop_nonce).send();
    assert!(challenges(&answer).contains("error=\"use_dpop_nonce\""), "{}", challenges(&answer));
    let answer = holder.ask(&gateway, ("GET", "/api"), &token, |_, _| {}).send();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("dpop-nonce"), None, "the one that it has is new");
}
