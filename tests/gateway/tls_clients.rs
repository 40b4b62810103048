//! Certificates of clients: who is asked, who gets in, and what applications are told.

use crate::support::gateway::tls_listener;
use crate::support::tls::{Authority, Client, Pair};
use crate::support::wait::until;
use crate::support::{Gateway, HOST, Setup, Upstream, Wire};
use std::io;

const HEADERS: &str = "{ headers: { X-Auth-User: subject, X-Client-Subject: client_certificate_subject,
    X-Client-Fingerprint: client_certificate_fingerprint } }";

/// Everything that takes part.
struct Scene {
    upstream: Upstream,
    servers: Authority,
    /// Of ours, and of somebody else's.
    clients: [Authority; 2],
}

impl Scene {
    fn new() -> Self {
        let upstream = Upstream::recording();
        let clients = ["partners", "strangers"].map(Authority::new);
        Self { upstream, servers: Authority::new("ours"), clients }
    }

    fn setup(&self, tls: &str) -> Setup {
        Setup::before(&self.upstream)
            .with_tls(&self.servers)
            .file("partners.pem", self.clients[0].pem())
            .file("strangers.pem", self.clients[1].pem())
            .tls_listener(tls, "")
            .set("identity", HEADERS)
    }

    fn showing(&self, own: &Pair) -> Client {
        Client::showing(&self.servers, own)
    }

    fn nobody(&self) -> Client {
        Client::trusting(&self.servers)
    }
}

/// The status of a public page; an error where the gateway takes no connection of this client.
fn status(gateway: &Gateway, client: &Client) -> io::Result<u16> {
    let mut wire = Wire::over(client.connect(gateway.address())?);
    wire.try_write(gateway.get("/public").bytes())?;
    let answer = wire.try_response_to("GET")?;
    answer.map(|answer| answer.status()).ok_or(io::ErrorKind::ConnectionReset.into())
}

#[test]
fn without_an_authority_nobody_is_asked_and_nothing_is_told() {
    let scene = Scene::new();
    let gateway = scene.setup("").start();
    let alice = scene.clients[0].client("alice");
    assert_eq!(status(&gateway, &scene.showing(&alice)).expect("it is taken"), 200);
    assert_eq!(scene.upstream.last().header("x-client-subject"), None);
}

#[test]
fn who_is_asked_may_come_without_one_and_what_is_shown_is_told() {
    let scene = Scene::new();
    let gateway = scene.setup("client_ca: partners.pem, client_certificate: ask").start();
    let alice = scene.clients[0].client("alice, of Ü");
    assert_eq!(status(&gateway, &scene.nobody()).expect("it is taken"), 200);
    assert_eq!(scene.upstream.last().header("x-client-subject"), None);
    assert_eq!(status(&gateway, &scene.showing(&alice)).expect("it is taken"), 200);
    let request = scene.upstream.last();
    assert_eq!(request.header("x-client-subject").as_deref(), Some("CN=alice\\, of %C3%9C,O=Example"));
    assert_eq!(request.header("x-client-fingerprint"), Some(alice.fingerprint()));
    assert_eq!(request.header("x-auth-user"), None, "a certificate is no identity");
    let stranger = scene.clients[1].client("alice");
    assert!(status(&gateway, &scene.showing(&stranger)).is_err(), "shown, and not believed");
}

#[test]
fn where_one_is_required_nobody_gets_a_connection_without() {
    let scene = Scene::new();
    let gateway = scene.setup("client_ca: partners.pem").start();
    let alice = scene.clients[0].client("alice");
    assert_eq!(status(&gateway, &scene.showing(&alice)).expect("it is taken"), 200);
    let stranger = scene.clients[1].client("alice");
    for client in [scene.nobody(), scene.showing(&stranger)] {
        assert!(status(&gateway, &client).is_err());
    }
    assert_eq!(scene.upstream.requests().len(), 1);
    until("both are counted", || {
        let counted = gateway.metric("vestibule_tls_handshakes_failed_total{reason=\"client_certificate\"}");
        (counted > 1.5).then_some(())
    });
}

#[test]
fn a_client_cannot_say_itself_what_its_certificate_says() {
    let scene = Scene::new();
    let gateway = scene.setup("client_ca: partners.pem, client_certificate: ask").start();
    let alice = scene.showing(&scene.clients[0].client("alice"));
    for client in [scene.nobody(), alice] {
        let mut wire = gateway.connect_as(&client);
        let request = gateway
            .get("/public")
            .header("X-Client-Subject", "CN=root")
            .header("x_client.subject", "CN=root")
            .header("X-Client-Fingerprint", &"00".repeat(32));
        assert_eq!(request.send_over(&mut wire).status(), 200);
        let head = String::from_utf8_lossy(&scene.upstream.last().head).into_owned();
        assert!(!head.contains("CN=root") && !head.contains("0000"), "{head}");
    }
    assert_eq!(scene.upstream.last().header("x-client-subject").as_deref(), Some("CN=alice,O=Example"));
}

#[test]
fn a_rule_may_ask_for_a_certificate_besides_the_session() {
    let scene = Scene::new();
    let (alice, bob) = (scene.clients[0].client("alice"), scene.clients[0].client("bob"));
    // As tools print it.
    let digits = bob.fingerprint().to_ascii_uppercase();
    let pairs: Vec<&str> = (0..32).map(|at| &digits[2 * at..2 * at + 2]).collect();
    let fingerprint = pairs.join(":");
    let route = |path: &str, rule: &str| {
        format!(
            "{{ name: {path}, host: {HOST}, path: /{path}, upstream: app,
               access: {{ sign_in: [local], allow: {{ client_certificate: {rule} }} }} }}"
        )
    };
    let routes = [
        route("any", "any"),
        route("subject", "{ subject: \"CN=alice,O=Example\" }"),
        route("fingerprint", &format!("{{ fingerprint: \"{fingerprint}\" }}")),
        format!("{{ name: rest, host: {HOST}, path: /, upstream: app, access: public }}"),
    ];
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let gateway = scene.setup("client_ca: partners.pem, client_certificate: ask").routes(&routes).start();
    let visitor = gateway.browser();
    visitor.sign_in("alice");
    for (client, expected) in [
        (scene.nobody(), [403, 403, 403]),
        (scene.showing(&alice), [200, 200, 403]),
        (scene.showing(&bob), [200, 403, 200]),
    ] {
        let mut wire = gateway.connect_as(&client);
        for (path, expected) in ["/any", "/subject", "/fingerprint"].into_iter().zip(expected) {
            assert_eq!(visitor.get(path).send_over(&mut wire).status(), expected, "{path}");
        }
    }
    let mut wire = gateway.connect_as(&scene.showing(&alice));
    assert_eq!(gateway.get("/any").send_over(&mut wire).status(), 401, "a certificate opens no session");
}

#[test]
fn a_request_for_another_host_than_the_handshakes_is_misdirected() {
    let scene = Scene::new();
    let routes = ["wiki", "other"].map(|name| {
        format!("{{ name: {name}, host: {name}.example.com, path: /, access: public, upstream: app }}")
    });
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let gateway = scene
        .setup("client_ca: partners.pem, client_certificate: ask")
        .pair("server", &scene.servers.server(&[HOST, "other.example.com"]))
        .routes(&routes)
        .start();
    let alice = scene.showing(&scene.clients[0].client("alice"));
    for client in [scene.nobody(), alice] {
        for (asked_for, host, expected) in [
            (HOST, HOST, 200),
            (HOST, "WIKI.example.com:443", 200),
            (HOST, "other.example.com", 421),
            ("other.example.com", "other.example.com", 200),
            ("other.example.com", HOST, 421),
        ] {
            let mut wire = gateway.connect_as(&client.clone().asking_for(asked_for));
            let answer = gateway.get("/").host(host).send_over(&mut wire);
            assert_eq!(answer.status(), expected, "{asked_for} {host}");
            if expected == 421 {
                assert_eq!(gateway.access_line(&answer)["reason"], "misdirected");
                assert_eq!(wire.rest(), b"", "the next one comes over another connection");
            }
        }
    }
    let plain = Setup::before(&scene.upstream).with_tls(&scene.servers).routes(&routes).start();
    let answer = plain.get("/").host("other.example.com").send();
    assert_eq!(answer.status(), 200, "where nobody is asked, one connection serves all hosts");
}

#[test]
fn a_connection_that_was_opened_by_other_rules_proves_nothing() {
    let scene = Scene::new();
    let mut gateway = scene.setup("client_ca: partners.pem, client_certificate: ask").start();
    let alice = scene.showing(&scene.clients[0].client("alice"));
    for tls in [
        "client_ca: partners.pem, client_certificate: require",
        "client_ca: strangers.pem, client_certificate: ask",
        "",
    ] {
        let mut wire = gateway.connect_as(&alice);
        assert_eq!(gateway.get("/public").send_over(&mut wire).status(), 200);
        gateway.reload_with("listeners", &tls_listener(tls, ""));
        assert_eq!(gateway.get("/public").send_over(&mut wire).status(), 421, "{tls}");
        gateway
            .reload_with("listeners", &tls_listener("client_ca: partners.pem, client_certificate: ask", ""));
    }
}
