//! A route may be for some client addresses alone.

use crate::support::client::{NAVIGATION, Wire};
use crate::support::{Answer, Gateway, HOST, Setup, Upstream};
use std::io::{Read, Write};
use std::time::Duration;

const ROUTES: [&str; 3] = [
    "{ name: inside, host: wiki.example.com, path: /inside, access: public, upstream: app,
       clients: { allow: [127.0.0.0/30, \"2001:db8::/32\"], deny: [127.0.0.3] } }",
    "{ name: staff, host: wiki.example.com, path: /staff, upstream: app, access: { sign_in: [local], allow: everyone },
       clients: { allow: [127.0.0.1] } }",
    "{ name: all, host: wiki.example.com, path: /, upstream: app, access: { sign_in: [local], allow: everyone } }",
];

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream).routes(&ROUTES)
}

fn status_from(gateway: &Gateway, source: [u8; 4], path: &str, fields: &str) -> u16 {
    let mut wire = Wire::from(source, gateway.address());
    wire.write(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    wire.response().status()
}

#[test]
fn others_get_403_before_any_credential_is_looked_at() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    for (source, path, status) in [
        ([127, 0, 0, 1], "/inside", 200),
        ([127, 0, 0, 2], "/inside", 200),
        ([127, 0, 0, 3], "/inside", 403),
        ([127, 0, 0, 4], "/inside", 403),
        ([127, 0, 0, 1], "/staff", 302),
        ([127, 0, 0, 2], "/staff", 403),
        ([127, 0, 0, 2], "/page", 302),
    ] {
        let had = upstream.requests().len();
        let navigation = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
        assert_eq!(status_from(&gateway, source, path, navigation), status, "{source:?} {path}");
        assert_eq!(upstream.requests().len() - had, usize::from(status == 200), "{source:?} {path}");
    }
    let line = gateway.wait_for_line("about one", |line| line["status"] == 403);
    assert_eq!((&line["reason"], &line["decision"]), (&"client_address".into(), &"forbidden".into()));
}

#[test]
fn the_address_is_the_one_that_trusted_proxies_tell() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).set("trusted_proxies", "[127.0.0.1]").start();
    for (forwarded, status) in
        [("2001:db8::7", 200), ("2001:db9::7", 403), ("127.0.0.2", 200), ("127.0.0.2, 198.51.100.1", 403)]
    {
        let answer = gateway.get("/inside").header("X-Forwarded-For", forwarded).send();
        assert_eq!(answer.status(), status, "{forwarded}");
    }
    // Of a peer that nobody trusts the header says nothing.
    let forged = "X-Forwarded-For: 127.0.0.1\r\n";
    assert_eq!(status_from(&gateway, [127, 0, 0, 9], "/inside", forged), 403);
}

#[test]
fn a_person_reads_a_page_and_is_not_sent_to_sign_in() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .routes(&["{ name: all, host: wiki.example.com, path: /, upstream: app,
                     access: { sign_in: [local], allow: everyone }, clients: { deny: [127.0.0.0/8] } }"])
        .start();
    let page = gateway.get("/page").headers(&NAVIGATION).send();
    assert_eq!(page.status(), 403);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    let problem = gateway.get("/page").send();
    assert_eq!(problem.json()["detail"], "you may not see this page from where you are");
}

#[test]
fn a_reload_that_shuts_a_client_out_cuts_its_streams() {
    let upstream = Upstream::recording();
    let mut gateway = setup(&upstream).start();
    let (ended, end) = std::sync::mpsc::channel();
    upstream.next(Answer::talk(move |stream| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(&[&head[..], b"6\r\ndata:1\r\n"].concat()).expect("the gateway reads");
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        ended.send(()).expect("the test waits");
    }));
    let browser = gateway.browser();
    browser.sign_in("alice");
    let request = browser.get("/staff/events").bytes();
    let mut wire = gateway.connect();
    wire.write(request);
    assert_eq!(wire.head().status(), 200);
    assert_eq!(wire.read_exactly(11), b"6\r\ndata:1\r\n");
    let denied = format!("[{}]", ROUTES.join(",\n"))
        .replace("clients: { allow: [127.0.0.1] }", "clients: { deny: [127.0.0.1] }");
    drop(browser);
    gateway.reload_with("routes", &denied);
    assert_eq!(wire.rest(), b"", "cut without a last chunk");
    end.recv_timeout(Duration::from_secs(20)).expect("the upstream is let go");
    let line = gateway.wait_for_line("about it", |line| line["path"] == "/staff/events");
    assert_eq!(line["reason"], "client_address");
}
