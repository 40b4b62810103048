//! `explain --client-certificate`: what a certificate does for a request is what it does in a handshake and in a rule.

use crate::support::command::{Outcome, vestibule};
use crate::support::tls::{Authority, Pair};
use crate::support::{Gateway, Setup, Upstream};

const HEADERS: &str = "{ headers: { X-Auth-User: subject, X-Client-Subject: client_certificate_subject } }";
const ASKING: &str = "client_ca: partners.pem, client_certificate: ask";

/// Routes for whoever shows any certificate, one of this subject, one of this fingerprint; and one without a rule.
fn routes(fingerprint: &str) -> Vec<String> {
    let guarded = |name: &str, rule: &str| {
        format!(
            "{{ name: {name}, host: wiki.example.com, path: /{name}, upstream: app,
                access: {{ sign_in: [local], allow: {{ all: [{{ groups: [ops] }}, {{ {rule} }}] }} }} }}"
        )
    };
    vec![
        guarded("any", "client_certificate: any"),
        guarded("subject", "client_certificate: { subject: [\"CN=alice,O=Example\"] }"),
        guarded("fingerprint", &format!("client_certificate: {{ fingerprint: [\"{fingerprint}\"] }}")),
        "{ name: open, host: wiki.example.com, path: /open, access: public, upstream: app }".to_owned(),
    ]
}

struct Scene {
    gateway: Gateway,
    _upstream: Upstream,
}

impl Scene {
    /// A gateway that believes `authority` of clients, and these certificates in its folder.
    fn new(tls: &str, authority: &Authority, alice: &Pair, others: &[(&str, &Pair)]) -> Self {
        let upstream = Upstream::recording();
        let routes = routes(&alice.fingerprint());
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let mut setup = Setup::before(&upstream)
            .with_tls(&Authority::new("ours"))
            .file("partners.pem", authority.pem())
            .tls_listener(tls, "")
            .set("identity", HEADERS)
            .routes(&routes)
            // As tools keep it: the key beside the certificate.
            .file("alice.pem", &format!("{}{}", alice.key, alice.certificate));
        for (name, pair) in others {
            setup = setup.file(name, &pair.certificate);
        }
        Self { gateway: setup.start(), _upstream: upstream }
    }

    /// What the file and the running gateway say alike, to somebody in the right group.
    fn explained(&self, path: &str, certificate: Option<&str>) -> String {
        let url = format!("https://wiki.example.com{path}");
        let mut question = vec!["GET", &url, "--subject", "alice", "--groups", "ops"];
        question.extend(certificate.map(|file| ["--client-certificate", file]).into_iter().flatten());
        let by_file = self.run(&[&["explain", "-c", "vestibule.yaml"], &question[..]].concat());
        let live = self.run(&[&["explain", "--live", "-c", "vestibule.yaml"], &question[..]].concat());
        assert_eq!((live.code, live.err.as_str()), (0, ""), "{question:?}");
        assert_eq!(live.out, by_file.out, "{question:?}");
        live.out
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        vestibule(self.gateway.folder().path(), arguments, "")
    }
}

#[test]
fn rules_about_certificates_are_weighed_with_the_one_that_is_shown() {
    let partners = Authority::new("partners");
    let (alice, bob) = (partners.client("alice"), partners.client("bob"));
    let scene = Scene::new(ASKING, &partners, &alice, &[("bob.pem", &bob)]);
    for (path, shown, part) in [
        ("/any", Some("alice.pem"), "decision:  passes"),
        ("/any", Some("bob.pem"), "decision:  passes"),
        ("/any", None, "decision:  403 forbidden"),
        ("/subject", Some("alice.pem"), "decision:  passes"),
        ("/subject", Some("bob.pem"), "decision:  403 forbidden"),
        ("/subject", None, "(here none is shown)"),
        ("/fingerprint", Some("alice.pem"), "decision:  passes"),
        ("/fingerprint", Some("bob.pem"), "decision:  403 forbidden"),
        ("/fingerprint", None, "decision:  403 forbidden"),
    ] {
        let told = scene.explained(path, shown);
        assert!(told.contains(part), "`{part}` is missing for {path} with {shown:?}:\n{told}");
        let outcome = if told.contains("403") { "fails" } else { "holds" };
        let is_it = |line: &&str| line.starts_with("rule:") && line.contains("client_certificate");
        let rule = told.lines().find(is_it).unwrap_or_default();
        assert!(rule.contains(outcome), "{told}");
        assert_eq!(told.contains("(here none is shown)"), shown.is_none(), "{told}");
    }
    let told = scene.explained("/any", Some("alice.pem"));
    assert!(told.contains(&format!("CN=alice,O=Example (SHA-256 {})", alice.fingerprint())), "{told}");
    // Applications are told of it on every route.
    for (path, shown, header) in [
        ("/any", Some("alice.pem"), "x-client-subject: CN=alice,O=Example"),
        ("/open", Some("bob.pem"), "x-client-subject: CN=bob,O=Example"),
        ("/open", None, "x-client-subject: (of the client's certificate, where there is one)"),
    ] {
        let told = scene.explained(path, shown);
        assert!(told.contains(header), "{told}");
    }
}

#[test]
fn a_certificate_that_no_listener_believes_gets_no_connection() {
    let partners = Authority::new("partners");
    let (alice, stranger) = (partners.client("alice"), Authority::new("strangers").client("alice"));
    let scene = Scene::new(ASKING, &partners, &alice, &[("stranger.pem", &stranger)]);
    let told = scene.explained("/open", Some("stranger.pem"));
    assert!(told.contains("decision:  no connection") && told.contains("no listener believes"), "{told}");
    assert!(scene.explained("/open", Some("alice.pem")).contains("decision:  passes"));

    let unreadable = ["explain", "-c", "vestibule.yaml", "GET", "https://wiki.example.com/open"];
    for (file, wrong) in [("none.pem", "cannot be read"), ("users.yaml", "holds no certificate in PEM")] {
        for more in [&["--client-certificate", file][..], &["--live", "--client-certificate", file]] {
            let told = scene.run(&[&unreadable, more].concat());
            assert_eq!((told.code, told.out.as_str()), (1, ""), "{told:?}");
            assert!(told.err.contains(&format!("`{file}` {wrong}")), "{told:?}");
        }
    }
}

#[test]
fn where_nobody_is_asked_for_one_none_is_seen() {
    let upstream = Upstream::recording();
    let alice = Authority::new("partners").client("alice");
    let route = "{ name: open, host: wiki.example.com, path: /open, access: public, upstream: app }";
    let setup = Setup::before(&upstream).set("identity", HEADERS).routes(&[route]);
    let gateway = setup.file("alice.pem", &format!("{}{}", alice.key, alice.certificate)).start();
    let scene = Scene { gateway, _upstream: upstream };
    let told = scene.explained("/open", Some("alice.pem"));
    assert!(
        told.contains("no listener asks for a certificate") && told.contains("decision:  passes"),
        "{told}"
    );
    assert!(!told.contains("x-client-subject: CN=alice"), "{told}");
}
