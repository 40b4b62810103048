//! TLS on our listeners: which certificate, which versions, how it begins, how it ends, and what browsers may rely on.

use crate::support::client::NAVIGATION;
use crate::support::gateway::tls_listener;
use crate::support::tls::{Authority, Client, Pair, connect};
use crate::support::wait::{now, until};
use crate::support::{Gateway, HOST, SESSION, Setup, Upstream, Wire, command};
use rustix::process::Signal;
use rustls::HandshakeKind;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// The certificate that a client sees.
fn seen(client: &Client, address: SocketAddr) -> Vec<u8> {
    let line = client.connect(address).expect("TLS is settled");
    line.session().peer_certificates().expect("a server shows one")[0].to_vec()
}

/// A page over a connection that is open.
fn page(gateway: &Gateway, wire: &mut Wire) -> u16 {
    gateway.get("/public").send_over(wire).status()
}

#[test]
fn a_visitor_signs_in_over_tls_and_the_cookie_is_for_https_alone() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).with_tls(&Authority::new("ours")).start();
    let alice = gateway.browser();
    let answer = alice.get("/page").headers(&NAVIGATION).send();
    assert_eq!(answer.status(), 302);
    alice.sign_in("alice");
    assert!(alice.cookie(SESSION).is_some(), "a __Host- cookie");
    let answer = alice.get("/page").send();
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(request.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(answer.header("strict-transport-security"), None, "not unless the file says so");
    let line = gateway.access_line(&answer_of_ours(&gateway));
    assert_eq!(line["tls"], "1.3");
    assert_eq!(alice.sign_out(false).status(), 200);
    assert!(!alice.is_signed_in());
}

fn answer_of_ours(gateway: &Gateway) -> crate::support::Message {
    gateway.get("/_vestibule/session").send()
}

#[test]
fn browsers_see_https_on_the_listeners_own_port_unless_the_file_says_otherwise() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let listener = "[{ address: \"127.0.0.1:{public}\",
        tls: { certificates: [{ certificate: server.crt, key: server.key }] } }]";
    let gateway = Setup::before(&upstream).with_tls(&authority).set("listeners", listener).start();
    let answer = gateway.get("/page").send();
    assert_eq!(answer.status(), 401);
    let port = gateway.address().port();
    let login = answer.json()["login"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(login.starts_with(&format!("https://{HOST}:{port}/_vestibule/login")), "{login}");
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let pairs: Vec<Pair> = [&[HOST, "a.example.com"][..], &["*.example.org"], &["b.example.org"]]
        .iter()
        .map(|names| authority.server(names))
        .collect();
    let mut setup = Setup::before(&upstream);
    for (number, pair) in pairs.iter().enumerate() {
        setup = setup.pair(&number.to_string(), pair);
    }
    let gateway = setup
        .set(
            "listeners",
            "[{ address: \"127.0.0.1:{public}\", tls: { certificates: [
               { certificate: 0.crt, key: 0.key }, { certificate: 1.crt, key: 1.key }, { certificate: 2.crt, key: 2.key }] } }]",
        )
        .start();
    for (name, expected) in
        [(HOST, 0), ("a.example.com", 0), ("x.example.org", 1), ("B.Example.org", 2), ("b.example.org", 2)]
    {
        let client = Client::trusting(&authority).asking_for(name);
        assert_eq!(seen(&client, gateway.address()), pairs[expected].der().to_vec(), "{name}");
    }
    let other = Client::trusting(&authority).asking_for("other.example.net").connect(gateway.address());
    let refused = other.err().expect("the default is for other names").to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[test]
fn new_certificates_are_taken_up_and_no_connection_ends_for_it() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway = Setup::before(&upstream).with_tls(&authority).start();
    let client = Client::trusting(&authority);
    let mut wire = gateway.connect();
    assert_eq!(page(&gateway, &mut wire), 200);
    let next = authority.server(&[HOST]);
    let folder = gateway.folder();
    folder.write("server.key", &next.key);
    folder.write("server.crt", &next.certificate);
    until("the new certificate is shown", || {
        (seen(&client, gateway.address()) == next.der().to_vec()).then_some(())
    });
    assert_eq!(page(&gateway, &mut wire), 200, "the connection of before goes on");
    assert!(gateway.metric("vestibule_tls_certificate_ends_seconds{certificate=\"server.crt\"}") > 1e9);
    gateway.audit("config_loaded");

    // What is broken changes nothing, and is said.
    folder.write("server.crt", "no certificate");
    let line = gateway.audit("config_rejected");
    let detail = line["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`server.crt` holds no certificate in PEM"), "{detail}");
    assert!(gateway.metric("vestibule_config_rejected_since_seconds") > 0.0);
    assert_eq!(seen(&client, gateway.address()), next.der().to_vec());
    let other = authority.server(&[HOST]);
    folder.write("server.crt", &other.certificate);
    let answer = gateway.admin("POST", "/reload", "");
    assert_eq!(answer.status(), 422, "the key of before does not fit");
    assert!(answer.text().contains("`server.key` belongs to another certificate"), "{}", answer.text());
    assert_eq!(page(&gateway, &mut wire), 200);
}

#[test]
fn a_broken_staple_is_told_and_tls_goes_on_without() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway = Setup::before(&upstream).with_tls(&authority).file("server.crt.ocsp", "not one").start();
    let told = |wrong: &str| {
        until(wrong, || {
            let wrong = format!("`server.crt.ocsp` {wrong}, and is not handed out");
            gateway.everything().iter().any(|line| line.contains(&wrong)).then_some(())
        });
        let line = Client::trusting(&authority).connect(gateway.address()).expect("TLS is settled");
        assert_eq!(page(&gateway, &mut Wire::over(line)), 200);
    };
    told("is no OCSP response in DER");
    // The shortest answer that a responder may give: try later.
    gateway.folder().write("server.crt.ocsp", "\u{30}\u{3}\u{a}\u{1}\u{3}");
    told("says that the responder could not answer");
    gateway.folder().write("server.crt.ocsp", &"0".repeat(65 * 1024));
    told("is longer than 64 KiB");
}

#[test]
fn a_listener_begins_or_ceases_to_speak_tls_with_a_restart_alone() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).with_tls(&Authority::new("ours")).start();
    gateway.change("listeners", "[{ address: \"127.0.0.1:{public}\", external: { scheme: https } }]");
    let answer = gateway.admin("POST", "/reload", "");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.text().contains("needs a restart: listeners[0]"), "{}", answer.text());
    assert_eq!(gateway.get("/public").send().status(), 200, "over TLS");
}

#[test]
fn clients_come_back_without_a_full_handshake_also_after_a_reload() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway = Setup::before(&upstream).with_tls(&authority).start();
    for client in [Client::trusting(&authority), Client::of_1_2(&authority)] {
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut wire = gateway.connect_as(&client);
            // Tickets come after the handshake.
            assert_eq!(page(&gateway, &mut wire), 200);
            let kind = wire.line().session().handshake_kind();
            let full = |kind| matches!(kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest);
            assert_eq!(kind.map(full), Some(full(expected)));
            assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
        }
    }
}

#[test]
fn nothing_older_than_tls_1_2_is_spoken() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway = Setup::before(&upstream).with_tls(&authority).start();
    let mut wire = gateway.connect_as(&Client::of_1_2(&authority));
    assert_eq!(page(&gateway, &mut wire), 200);
    for minor in [1, 2] {
        let mut socket = connect(gateway.address());
        socket.write_all(&client_hello(minor)).expect("the gateway reads");
        let mut answer = Vec::new();
        // A reset after the alert is a close too.
        drop(socket.read_to_end(&mut answer));
        assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
        // handshake_failure or protocol_version: such a client lacks more than the version.
        assert!(matches!(answer[5..], [2, 40 | 70]), "fatal: {answer:?}");
    }
    until("both are counted", || {
        let counted = gateway.metric("vestibule_tls_handshakes_failed_total{reason=\"version\"}");
        (counted > 1.5).then_some(())
    });
}

/// The first message of a client that knows no newer version than 1.0 or 1.1 (RFC 4346 §7.4.1.2).
fn client_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xC0, 0x13, 0x00, 0x2F, 1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn a_handshake_has_a_deadline_of_its_own() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway =
        Setup::before(&upstream).with_tls(&authority).tls_listener("", "timeouts: { head: 700ms }").start();
    let since = now();
    let mut silent = connect(gateway.address());
    let mut slow = connect(gateway.address());
    slow.write_all(&client_hello(3)[..20]).expect("the gateway reads");
    for socket in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest));
        assert_eq!(rest, b"");
    }
    let took = since.elapsed();
    assert!(took > Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
    until("both are counted", || {
        let counted = gateway.metric("vestibule_tls_handshakes_failed_total{reason=\"late\"}");
        (counted > 1.5).then_some(())
    });
    until("and gone", || (gateway.metric("vestibule_connections") < 1.5).then_some(()));
    let told = || gateway.everything().iter().filter(|line| line.contains("a TLS handshake failed")).count();
    until("it is told", || (told() > 0).then_some(()));
    assert_eq!(told(), 1, "a line for the first, none for the second");
    assert_eq!(gateway.get("/public").send().status(), 200);
}

#[test]
fn a_connection_that_has_asked_nothing_keeps_no_stop_waiting() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).with_tls(&Authority::new("ours")).start();
    let silent = connect(gateway.address());
    let mut settled = gateway.connect();
    assert_eq!(page(&gateway, &mut settled), 200);
    gateway.signal(Signal::TERM);
    let ended = gateway.wait_for_end(Duration::from_secs(6));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    let (rest, end) = settled.until_closed();
    assert!(rest.is_empty() && end.is_ok(), "a goodbye: {end:?}");
    drop(silent);
}

#[test]
fn plain_text_on_a_port_that_speaks_tls_is_told_so() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).with_tls(&Authority::new("ours")).start();
    let mut wire = Wire::to(gateway.address());
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let answer = wire.response();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.text(), "This port speaks TLS; ask for an https:// address");
    assert_eq!(wire.rest(), b"");
    let mut noise = Wire::to(gateway.address());
    noise.write([0; 100]);
    assert_eq!(noise.rest(), b"");
    assert!(upstream.requests().is_empty());
    until("it is counted", || {
        let counted = gateway.metric("vestibule_tls_handshakes_failed_total{reason=\"plain_text\"}");
        (counted > 0.5).then_some(())
    });
}

#[test]
fn http_1_1_is_agreed_upon_and_what_we_do_not_speak_is_refused() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway = Setup::before(&upstream).with_tls(&authority).start();
    let wire = gateway.connect_as(&Client::trusting(&authority).offering(&[b"unheard-of", b"http/1.1"]));
    assert_eq!(wire.line().session().alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = Client::trusting(&authority).offering(&[b"unheard-of"]).connect(gateway.address());
    assert!(refused.is_err());
}

#[test]
fn a_large_download_and_a_large_upload_pass_whole() {
    let upstream = Upstream::prompted();
    let gateway = Setup::before(&upstream).with_tls(&Authority::new("ours")).start();
    let mut wire = gateway.connect();
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let answer = gateway.post("/public").body(body.clone()).send_over(&mut wire);
    assert_eq!(answer.status(), 200);
    assert!(upstream.last().body == body, "the upload differs");
    upstream.next(crate::support::Answer::new("200 OK", &[], &"0123456789abcdef".repeat(200_000)));
    let answer = gateway.get("/public").send_over(&mut wire);
    assert!(answer.is_whole && answer.text() == "0123456789abcdef".repeat(200_000), "the download differs");
}

#[test]
fn an_idle_connection_ends_with_a_goodbye_that_tls_knows() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .with_tls(&Authority::new("ours"))
        .tls_listener("", "timeouts: { keep_alive: 300ms }")
        .start();
    let mut wire = gateway.connect();
    assert_eq!(page(&gateway, &mut wire), 200);
    let (rest, end) = wire.until_closed();
    assert!(rest.is_empty() && end.is_ok(), "{end:?}");
}

#[test]
fn hsts_is_in_every_answer_ours_and_the_applications() {
    let upstream = Upstream::prompted();
    let hsts = "hsts: { max_age: 365d, include_subdomains: true, preload: true }";
    let mut gateway =
        Setup::before(&upstream).with_tls(&Authority::new("ours")).tls_listener("", hsts).start();
    let expected = Some("max-age=31536000; includeSubDomains; preload");
    let answers = [
        gateway.get("/public").say("Strict-Transport-Security", "max-age=1").send(),
        gateway.get("/page").send(),
        gateway.get("/_vestibule/login").headers(&NAVIGATION).send(),
        gateway.get("/%zz").send(),
    ];
    for answer in answers {
        assert_eq!(answer.header("strict-transport-security").as_deref(), expected, "{}", answer.status());
    }
    let refused = gateway.raw("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(refused.contains("\r\nStrict-Transport-Security: max-age=31536000; "), "{refused}");
    // A reload takes it.
    gateway.reload_with("listeners", &tls_listener("", "hsts: { max_age: 0s }"));
    let answer = gateway.get("/public").send();
    assert_eq!(answer.header("strict-transport-security").as_deref(), Some("max-age=0"));
}

#[test]
fn check_warns_of_certificates_that_end_and_of_keys_that_everybody_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let folder = Setup::before(&upstream)
        .with_tls(&authority)
        .pair("server", &authority.server_until(&[HOST], (2024, 2, 29)))
        .write();
    let key = folder.path().join("server.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).expect("a mode can be set");
    let told = command::vestibule(folder.path(), &["check", "-c", "vestibule.yaml"], "");
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    let told = told.out;
    assert!(told.contains("`server.crt` has expired on 2024-02-29: browsers refuse it; renew it"), "{told}");
    assert!(told.contains("`server.key` can be read by every user of this machine"), "{told}");
}
