//! Application servers: used in turn, left out when down, and what visitors see when none answers.

use crate::support::client::NAVIGATION;
use crate::support::{Answer, Gateway, HOST, Setup, Upstream};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixListener;

#[test]
fn a_server_that_does_not_listen_is_502() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("upstreams", &format!("{{ app: {{ servers: [\"http://{}\"] }} }}", Upstream::nobody()))
        .start();
    let answer = gateway.get("/public").send();
    assert_eq!(
        (answer.status(), answer.header("content-type").as_deref()),
        (502, Some("application/problem+json"))
    );
    let line = gateway.access_line(&answer);
    assert_eq!((line["reason"].as_str(), line["route"].as_str()), (Some("connect_refused"), Some("public")));
    let page = gateway.get("/public").headers(&NAVIGATION).send();
    assert_eq!(page.status(), 502);
    assert!(
        page.text().starts_with("<!doctype html") || page.text().starts_with("<!DOCTYPE html"),
        "{}",
        page.text()
    );
    let address = "127.0.0.1:";
    assert!(!page.text().contains(address), "inner addresses are nobody's business");
}

#[test]
fn a_server_that_is_too_slow_is_504() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set(
            "upstreams",
            &format!(
                "{{ app: {{ servers: [\"http://{}\"], timeouts: {{ read: 1s }} }} }}",
                upstream.address()
            ),
        )
        .start();
    let (answer, _gate) = Answer::held(b"");
    upstream.next(answer);
    let answer = gateway.get("/public").send();
    assert_eq!(answer.status(), 504);
    assert_eq!(gateway.access_line(&answer)["reason"], "read_timeout");
    assert_eq!(gateway.get("/public").send().status(), 200);
}

#[test]
fn several_servers_are_used_in_turn_and_one_that_is_down_is_passed_over() {
    let upstreams = [Upstream::recording(), Upstream::recording()];
    let servers = |list: &[std::net::SocketAddr]| {
        let list: Vec<String> = list.iter().map(|address| format!("\"http://{address}\"")).collect();
        format!("{{ app: {{ servers: [{}] }} }}", list.join(", "))
    };
    let both = [upstreams[0].address(), upstreams[1].address()];
    let gateway = Setup::before(&upstreams[0]).set("upstreams", &servers(&both)).start();
    for _ in 0..10 {
        assert_eq!(gateway.get("/public").send().status(), 200);
    }
    assert_eq!(upstreams.each_ref().map(|upstream| upstream.requests().len()), [5, 5]);
    let (up, down) = (upstreams[0].address(), Upstream::nobody());
    for list in [[down, up], [up, down]] {
        let gateway = Setup::before(&upstreams[0]).set("upstreams", &servers(&list)).start();
        for method in ["GET", "POST"] {
            for _ in 0..4 {
                let answer = gateway.request(method, "/public").body("x").send();
                assert_eq!(answer.status(), 200, "{method}: nothing was sent to the one that is down");
            }
        }
    }
}

#[test]
fn a_request_that_an_upstream_has_seen_is_not_sent_twice() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.get("/public/warm").send().status(), 200);
    for _ in 0..3 {
        upstream.next(Answer::ThenClose(Vec::new()));
    }
    let before = upstream.requests().len();
    let answer = gateway.post("/public/order").body("one").send();
    assert_eq!(answer.status(), 502);
    let orders =
        upstream.requests()[before..].iter().filter(|request| request.target() == "/public/order").count();
    assert_eq!(orders, 1, "an order is placed once");
}

#[test]
fn a_unix_socket_is_a_server_too() {
    let upstream = Upstream::recording();
    let gateway =
        Setup::before(&upstream).set("upstreams", "{ app: { servers: [\"unix:app.sock\"] } }").start();
    assert_eq!(gateway.get("/public").send().status(), 502, "nobody listens yet");
    let listener =
        UnixListener::bind(gateway.folder().path().join("app.sock")).expect("the folder takes sockets");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        let mut ahead = Vec::new();
        drop(crate::support::message::read_head(&mut stream, &mut ahead));
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix"));
    });
    assert_eq!(gateway.get("/public").send().text(), "unix");
}

#[test]
fn what_is_sent_is_what_the_client_sent_but_for_what_is_ours() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    gateway
        .request("PATCH", "/public/x?y=z")
        .headers(&[
            ("X-Mixed-Case", "kept"),
            ("Accept-Language", "en"),
            ("TE", "trailers"),
            ("Proxy-Connection", "keep-alive"),
            ("Keep-Alive", "timeout=5"),
            ("Connection", "keep-alive"),
        ])
        .body("body")
        .send();
    let request = upstream.last();
    assert_eq!(request.first_line(), "PATCH /public/x?y=z HTTP/1.1");
    assert_eq!(request.text(), "body");
    // Names mean the same in every case (RFC 9110 §5.1), and the gateway sends them in its own.
    let fields: BTreeMap<String, String> =
        request.fields().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let id = request.header("x-request-id").expect("an id");
    let expected = [
        ("Host", HOST),
        ("X-Mixed-Case", "kept"),
        ("Accept-Language", "en"),
        ("Content-Length", "4"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", HOST),
        ("X-Forwarded-Port", "443"),
        ("X-Request-Id", id.as_str()),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|&(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    assert_eq!(fields, expected);
}
