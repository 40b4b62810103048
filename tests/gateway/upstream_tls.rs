//! TLS and HTTP/2 to application servers: who is believed, what is shown, and that every promise holds there too.

use crate::support::async_upstream::{H2Upstream, TlsUpstream};
use crate::support::authority::Authority;
use crate::support::wait::until;
use crate::support::{Answer, Gateway, HOST, Setup, Upstream};

const NAME: &str = "wiki.internal";

fn entry(address: std::net::SocketAddr, settings: &str) -> String {
    format!("{{ app: {{ servers: [\"https://{address}\"], {settings} }} }}")
}

fn setup(authority: &Authority) -> Setup {
    // Its address is not used: every test says where its server is.
    Setup::before(&Upstream::recording()).file("ca.pem", &authority.pem)
}

#[test]
fn a_server_is_believed_by_the_authority_and_the_name_of_the_file() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::showing(&authority.signs(NAME), None);
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal }";
    let gateway = setup(&authority).set("upstreams", &entry(upstream.address, settings)).start();
    let mut wire = gateway.connect();
    for _ in 0..5 {
        let request = gateway.get("/public/x?y=1").header("X-Auth-User", "root");
        let answer = request.send_over(&mut wire);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "secret"));
    }
    let seen = upstream.seen();
    assert_eq!(seen[0].server_name.as_deref(), Some(NAME));
    assert!(!seen[0].has_certificate);
    assert_eq!(seen[0].head.first_line(), "GET /public/x?y=1 HTTP/1.1");
    assert_eq!(seen[0].head.header("host").as_deref(), Some(HOST));
    assert_eq!(seen[0].head.header("x-auth-user"), None);
    assert_eq!(upstream.connections(), 1, "connections are kept");
}

#[test]
fn a_server_that_is_not_proved_gets_nothing() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let right = "tls: { ca: ca.pem, server_name: wiki.internal }";
    for (what, signed, settings) in [
        ("another name", authority.signs("forum.internal"), right),
        ("another authority", other.signs(NAME), right),
        ("too old", authority.signed_long_ago(NAME), right),
        ("the system does not know it", authority.signs(NAME), "tls: { server_name: wiki.internal }"),
        ("by its address", authority.signs(NAME), "tls: { ca: ca.pem, server_name: 127.0.0.1 }"),
    ] {
        let upstream = TlsUpstream::showing(&signed, None);
        let gateway = setup(&authority).set("upstreams", &entry(upstream.address, settings)).start();
        let answer = gateway.get("/public").send();
        assert_eq!(answer.status(), 502, "{what}");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
        assert!(
            !answer.text().contains("certificate") && !answer.text().contains("TLS"),
            "{}",
            answer.text()
        );
        assert_eq!(gateway.access_line(&answer)["reason"], "tls", "{what}");
        assert_eq!(upstream.seen().len(), 0, "{what}");
        let failures = format!(
            "vestibule_upstream_requests_total{{outcome=\"tls\",server=\"https://{}\",upstream=\"app\"}}",
            upstream.address
        );
        assert_eq!(gateway.metric(&failures).to_string(), "1", "{what}");
        until("the log says why", || {
            gateway
                .everything()
                .iter()
                .any(|line| line.contains("TLS to an upstream server failed"))
                .then_some(())
        });
    }
}

#[test]
fn a_server_without_tls_gets_nothing_either() {
    let authority = Authority::new("ours");
    let upstream = Upstream::recording();
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal }, timeouts: { connect: 1s }";
    let gateway = setup(&authority).set("upstreams", &entry(upstream.address(), settings)).start();
    let answer = gateway.get("/public").send();
    assert!([502, 504].contains(&answer.status()));
    assert!(upstream.requests().iter().all(|request| !request.text().contains("GET")));
}

#[test]
fn a_server_that_takes_no_part_in_the_handshake_is_504() {
    let authority = Authority::new("ours");
    // The kernel opens the connection; nobody ever reads from it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("a bound socket has an address");
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal }, timeouts: { connect: 200ms }";
    let gateway = setup(&authority).set("upstreams", &entry(address, settings)).start();
    let answer = gateway.get("/public").send();
    assert_eq!(answer.status(), 504);
    assert_eq!(gateway.access_line(&answer)["reason"], "connect_timeout");
}

#[test]
fn a_server_that_asks_for_our_certificate_gets_it() {
    let (authority, clients) = (Authority::new("ours"), Authority::new("for clients"));
    let upstream = TlsUpstream::showing(&authority.signs(NAME), Some(&clients));
    let ours = clients.signs("gateway");
    let with = "tls: { ca: ca.pem, server_name: wiki.internal,
                       client_certificate: { certificate: our.crt, key: { file: our.key } } }";
    let mut gateway = setup(&authority)
        .file("our.crt", &ours.certificate)
        .file("our.key", &ours.key)
        .set("upstreams", &entry(upstream.address, with))
        .start();
    assert_eq!(gateway.get("/public").send().status(), 200);
    assert!(upstream.seen()[0].has_certificate);
    gateway.reload_with(
        "upstreams",
        &entry(upstream.address, "tls: { ca: ca.pem, server_name: wiki.internal }"),
    );
    assert_eq!(gateway.get("/public").send().status(), 502, "an old connection is not used without it");
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_reload_with_another_authority_uses_no_connection_of_before() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let upstream = TlsUpstream::showing(&authority.signs(NAME), None);
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal }";
    let gateway = setup(&authority).set("upstreams", &entry(upstream.address, settings)).start();
    assert_eq!(gateway.get("/public").send().status(), 200);
    gateway.folder().write("ca.pem", &other.pem);
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
    assert_eq!(gateway.get("/public").send().status(), 502);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn whom_the_system_trusts_is_believed_where_the_file_names_nobody() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::showing(&authority.signs(NAME), None);
    let plain = Upstream::recording();
    let trusting = entry(upstream.address, "tls: { server_name: wiki.internal }");
    let http = format!("{{ app: {{ servers: [\"http://{}\"] }} }}", plain.address());
    // From the start, and by a reload of a process that has not needed them.
    for first in [&trusting, &http] {
        let mut gateway =
            setup(&authority).environment("SSL_CERT_FILE", "ca.pem").set("upstreams", first).start();
        gateway.reload_with("upstreams", &trusting);
        assert_eq!(gateway.get("/public").send().text(), "secret");
    }
    let gateway =
        setup(&authority).environment("SSL_CERT_FILE", "absent.pem").set("upstreams", &trusting).start();
    assert_eq!(gateway.get("/public").send().status(), 502, "nobody is trusted, and nothing falls over");
}

#[test]
fn a_key_of_another_certificate_is_refused_with_the_file() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::showing(&authority.signs(NAME), None);
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal }";
    let mut gateway = setup(&authority)
        .file("our.crt", &authority.signs("gateway").certificate)
        .file("our.key", &authority.signs("gateway").key)
        .set("upstreams", &entry(upstream.address, settings))
        .start();
    let mixed = "tls: { ca: ca.pem, server_name: wiki.internal,
                        client_certificate: { certificate: our.crt, key: { file: our.key } } }";
    gateway.change("upstreams", &entry(upstream.address, mixed));
    let answer = gateway.admin("POST", "/reload", "");
    assert_eq!(answer.status(), 422);
    assert!(answer.text().contains("is not the key of the certificate"), "{}", answer.text());
    assert_eq!(gateway.get("/public").send().status(), 200);
}

#[test]
fn checks_are_spoken_as_the_traffic_is() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::showing(&authority.signs(NAME), None);
    let checks = "health: { path: /healthz, interval: 50ms, unhealthy_after: 1, healthy_after: 1 }";
    let right = format!("tls: {{ ca: ca.pem, server_name: wiki.internal }}, {checks}");
    let mut gateway = setup(&authority).set("upstreams", &entry(upstream.address, &right)).start();
    until("a check has come", || (!upstream.seen().is_empty()).then_some(()));
    let check = &upstream.seen()[0];
    assert_eq!((check.server_name.as_deref(), check.head.target().as_str()), (Some(NAME), "/healthz"));
    let wrong = format!("tls: {{ ca: ca.pem, server_name: forum.internal }}, {checks}");
    gateway.reload_with("upstreams", &entry(upstream.address, &wrong));
    until("it is down", || {
        let answer = gateway.get("/public").send();
        (answer.status() == 503 && gateway.access_line(&answer)["reason"] == "servers_down").then_some(())
    });
}

fn promises_hold(gateway: &Gateway, upstream: &H2Upstream, scheme: &str) {
    let browser = gateway.browser();
    browser.sign_in("alice");
    let answer = browser
        .request("POST", "/page?a=b")
        .headers(&[
            ("Origin", crate::support::ORIGIN),
            ("X-Auth-User", "root"),
            ("X_Auth.User", "root"),
            ("X-Nominated", "gone"),
            ("Connection", "X-Nominated, X-Request-Id"),
            ("TE", "trailers"),
            ("Keep-Alive", "timeout=5"),
        ])
        .body("a body")
        .send();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "by h2"));
    let asked = upstream.asked().pop().expect("a request has come");
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str(), asked.body.as_slice()),
        ("POST", "/page?a=b", &b"a body"[..])
    );
    assert_eq!((asked.authority.as_deref(), asked.scheme.as_deref()), (Some(HOST), Some(scheme)));
    let all = |name: &str| -> Vec<String> {
        asked
            .fields
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    assert_eq!(all("x-auth-user"), ["alice"]);
    assert_eq!(all("x-forwarded-host"), [HOST]);
    assert_eq!(all("x-request-id").len(), 1, "nominated, and still ours");
    for gone in ["x_auth.user", "x-nominated", "keep-alive", "connection", "host", "transfer-encoding", "te"]
    {
        assert_eq!(all(gone), [""; 0], "{gone}");
    }
    assert!(all("cookie").iter().all(|cookie| !cookie.contains("session")), "{:?}", all("cookie"));
}

#[test]
fn http2_without_tls_keeps_every_promise() {
    let upstream = H2Upstream::start(None);
    let gateway = Setup::before(&Upstream::recording())
        .set("upstreams", &format!("{{ app: {{ servers: [\"h2c://{}\"] }} }}", upstream.address))
        .start();
    promises_hold(&gateway, &upstream, "http");
    // A request that comes by another worker while the one before it is just being put by may open a second connection. On one
    // connection of the client's each is put by before the next is read.
    let mut wire = gateway.connect();
    let mut ask = || assert_eq!(gateway.get("/public").send_over(&mut wire).status(), 200);
    ask();
    let connections = upstream.connections();
    assert!(connections <= 2, "{connections}");
    for _ in 0..10 {
        ask();
    }
    assert_eq!(upstream.connections(), connections, "connections are kept");
}

#[test]
fn a_client_that_waits_for_a_100_gets_one_before_a_server_that_speaks_http2() {
    let upstream = H2Upstream::start(None);
    let gateway = Setup::before(&Upstream::recording())
        .set("upstreams", &format!("{{ app: {{ servers: [\"h2c://{}\"] }} }}", upstream.address))
        .start();
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /public HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    ));
    assert_eq!(wire.head().status(), 100);
    wire.write("body");
    assert_eq!(wire.response().text(), "by h2");
    let asked = upstream.asked().pop().expect("a request has come");
    assert_eq!((asked.body.as_slice(), asked.fields.get("expect")), (&b"body"[..], None));
}

#[test]
fn what_an_http2_server_says_of_sessions_stays_here() {
    let upstream = H2Upstream::start(None);
    let gateway = Setup::before(&Upstream::recording())
        .set("upstreams", &format!("{{ app: {{ servers: [\"h2c://{}\"] }} }}", upstream.address))
        .start();
    let answer = gateway.get("/public").send();
    assert_eq!(answer.status(), 200);
    assert_eq!((answer.header("x-session-data"), answer.header("x-kept").as_deref()), (None, Some("yes")));
}

#[test]
fn a_tunnel_is_asked_for_over_http1_although_http2_is_offered() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::rather_http2(&authority.signs(NAME));
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal, http2: true }";
    let gateway = setup(&authority).set("upstreams", &entry(upstream.address, settings)).start();
    let mut wire = gateway.connect();
    wire.write(format!(
        "GET /public/socket HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(wire.response().text(), "secret");
    let seen = upstream.seen().pop().expect("a request has come");
    assert_eq!(seen.head.first_line(), "GET /public/socket HTTP/1.1");
    assert_eq!(seen.head.header("upgrade").as_deref(), Some("websocket"));
}

#[test]
fn a_server_that_speaks_no_http2_where_the_file_says_so_is_502() {
    let upstream = Upstream::answering(|_| Answer::ThenClose(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let gateway = Setup::before(&Upstream::recording())
        .set("upstreams", &format!("{{ app: {{ servers: [\"h2c://{}\"] }} }}", upstream.address()))
        .start();
    let answer = gateway.get("/public").send();
    assert_eq!(answer.status(), 502);
    let reason = gateway.access_line(&answer)["reason"].clone();
    assert!(["bad_answer", "reset"].contains(&reason.as_str().unwrap_or_default()), "{reason}");
}

#[test]
fn http2_over_tls_keeps_every_promise() {
    let authority = Authority::new("ours");
    let upstream = H2Upstream::start(Some(&authority.signs(NAME)));
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal, http2: true }";
    let gateway = setup(&authority).set("upstreams", &entry(upstream.address, settings)).start();
    promises_hold(&gateway, &upstream, "https");
}

#[test]
fn a_server_that_speaks_http1_alone_is_spoken_to_so() {
    let authority = Authority::new("ours");
    let upstream = TlsUpstream::showing(&authority.signs(NAME), None);
    let settings = "tls: { ca: ca.pem, server_name: wiki.internal, http2: true }";
    let gateway = setup(&authority).set("upstreams", &entry(upstream.address, settings)).start();
    assert_eq!(gateway.get("/public").send().status(), 200);
    assert_eq!(upstream.seen()[0].head.first_line(), "GET /public HTTP/1.1");
}
