//! A token that is bound to a client's certificate counts only on a connection that has shown it (RFC 8705).

use crate::support::proofs::{Holder, outcome};
use crate::support::tls::{Authority, Client, Pair};
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::{Gateway, Setup, Upstream};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

struct Scene {
    upstream: Upstream,
    servers: Authority,
    clients: Authority,
    issuer: Key,
}

impl Scene {
    fn new() -> Self {
        let (servers, clients) = (Authority::new("ours"), Authority::new("partners"));
        Self { upstream: Upstream::recording(), servers, clients, issuer: Key::es256() }
    }

    /// `/api` takes tokens as they are, `/bound` only those that are bound to a certificate, `/either` to anything.
    fn start(&self) -> Gateway {
        let route = |name: &str, more: &str| {
            format!(
                "{{ name: {name}, host: wiki.example.com, path: /{name}, upstream: app, access: {{ tokens: [api], allow: everyone, {more} }} }}"
            )
        };
        Setup::before(&self.upstream)
            .with_tls(&self.servers)
            .file("partners.pem", self.clients.pem())
            .tls_listener("client_ca: partners.pem, client_certificate: ask", "")
            .set("tokens", &format!("{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {{ public_key: token.key }} }} }} }}"))
            .routes(&[&route("api", ""), &route("bound", "proof: [certificate]"), &route("either", "proof: [certificate, dpop]")])
            .file("token.key", &self.issuer.file())
            .start()
    }

    fn token(&self, cnf: Value) -> String {
        self.issuer.token("alice", |_, claims| claims["cnf"] = cnf)
    }
}

fn hash(pair: &Pair) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &pair.der()))
}

/// The status, and what the log says, of a request with this token on a connection of this client.
fn ask(gateway: &Gateway, client: &Client, target: &str, authorization: &str) -> (u16, Value) {
    gateway.secrets().note("a bound token", authorization.rsplit(' ').next().expect("a token"));
    let request = gateway.get(target).header("Authorization", authorization);
    let answer = request.send_over(&mut gateway.connect_as(client));
    if answer.status() == 401 {
        let challenges = answer.all("www-authenticate").join(", ");
        assert!(challenges.contains("error=\"invalid_token\""), "{challenges}");
    }
    outcome(gateway, &answer)
}

#[test]
fn a_token_counts_on_a_connection_with_its_certificate_and_on_no_other() {
    let scene = Scene::new();
    let gateway = scene.start();
    let (ours, other) = (scene.clients.client("app"), scene.clients.client("other"));
    let showing = |pair: &Pair| Client::showing(&scene.servers, pair);
    let nobody = Client::trusting(&scene.servers);
    let token = format!("Bearer {}", scene.token(json!({ "x5t#S256": hash(&ours) })));
    // The right one first: what is remembered of the token says nothing about the connection.
    for _ in 0..2 {
        for target in ["/api", "/bound", "/either"] {
            assert_eq!(ask(&gateway, &showing(&ours), target, &token).0, 200, "{target}");
            assert_eq!(ask(&gateway, &showing(&other), target, &token), (401, json!("certificate_other")));
            assert_eq!(
                ask(&gateway, &nobody, target, &token),
                (401, json!("certificate_missing")),
                "{target}"
            );
        }
    }
    assert_eq!(scene.upstream.requests().len(), 6);
    // By the scheme of keys it does not count either.
    let scheme = token.replace("Bearer", "DPoP");
    assert_eq!(ask(&gateway, &showing(&ours), "/api", &scheme), (401, json!("token_not_bound")));
    for cnf in [json!({ "x5t#S256": "AAAA" }), json!({ "x5t#S256": 7 }), json!({ "x5t": hash(&ours) })] {
        let token = format!("Bearer {}", scene.token(cnf));
        assert_eq!(ask(&gateway, &showing(&ours), "/api", &token), (401, json!("token_confirmation")));
    }
}

#[test]
fn a_route_that_asks_for_certificates_takes_no_token_that_is_bound_to_nothing_or_a_key() {
    let scene = Scene::new();
    let gateway = scene.start();
    let ours = Client::showing(&scene.servers, &scene.clients.client("app"));
    let plain = format!("Bearer {}", scene.issuer.good("alice"));
    assert_eq!(ask(&gateway, &ours, "/api", &plain).0, 200);
    for target in ["/bound", "/either"] {
        assert_eq!(ask(&gateway, &ours, target, &plain), (401, json!("token_not_bound")), "{target}");
    }
}

#[test]
fn a_token_that_is_bound_to_both_needs_both() {
    let scene = Scene::new();
    let gateway = scene.start();
    let pair = scene.clients.client("app");
    let (ours, nobody) = (Client::showing(&scene.servers, &pair), Client::trusting(&scene.servers));
    let holder = Holder::new();
    let token = scene.token(json!({ "jkt": holder.thumbprint(), "x5t#S256": hash(&pair) }));
    holder.greet(&gateway, "/api", &token);
    let ask_with_proof = |client: &Client| {
        let request = holder.ask(&gateway, ("GET", "/api"), &token, |_, _| {});
        let answer = request.send_over(&mut gateway.connect_as(client));
        outcome(&gateway, &answer)
    };
    assert_eq!(ask_with_proof(&ours).0, 200);
    assert_eq!(ask_with_proof(&nobody), (401, json!("certificate_missing")));
    assert_eq!(ask(&gateway, &ours, "/api", &format!("Bearer {token}")), (401, json!("token_bound")));
}
