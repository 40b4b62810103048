//! HTTP/2, by clients that know of it beforehand or settle on it with TLS: many exchanges on one connection, each held to the
//! same rules as a request of HTTP/1.

use crate::support::http2::{HELLO, Http2, Reply, frame, headers, next_frame};
use crate::support::tls::{Authority, Client};
use crate::support::wait::{now, until};
use crate::support::{Answer, Browser, Gateway, HOST, SESSION, Setup, Upstream, Wire};
use bytes::Bytes;
use h2::Reason;
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::Duration;

/// The promise is one second; the rest is for a busy machine.
const CUT_WITHIN: Duration = Duration::from_millis(1500);
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

fn connect(gateway: &Gateway) -> Http2 {
    Http2::to(gateway.address())
}

fn cookie_of(browser: &Browser<'_>) -> String {
    browser.stolen_cookie()
}

fn signed_in(gateway: &Gateway) -> Browser<'_> {
    let browser = gateway.browser();
    browser.sign_in("alice");
    browser
}

#[test]
fn a_page_is_guarded_as_over_http_1() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = signed_in(&gateway);
    let http2 = connect(&gateway);
    let reply = http2.get("/ops/%7Ex?q=%7e", &[("cookie", &cookie_of(&alice)), ("x_auth.user", "root")]);
    assert_eq!(reply.status, 200);
    let request = upstream.last();
    assert_eq!((request.method().as_str(), request.target().as_str()), ("GET", "/ops/~x?q=%7e"));
    assert_eq!(request.header("host").as_deref(), Some(HOST));
    assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));
    assert_eq!(request.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(request.header("cookie"), None, "our cookie stays here");
    assert!(!request.text().contains("root") && !request.first_line().contains("HTTP/2"));
    let line = gateway.wait_for_line("the page", |line| line["path"] == "/ops/~x");
    assert_eq!((line["version"].as_str(), line["subject"].as_str()), (Some("2"), Some("alice")));

    let stranger = http2.get("/ops", &[("sec-fetch-mode", "navigate")]);
    assert_eq!(stranger.status, 302);
    let program = http2.get("/ops", &[]);
    assert_eq!(program.status, 401);
    assert_eq!(program.header("content-type"), Some("application/problem+json"));
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(http2.get("/ops", &[("cookie", &cookie_of(&bob))]).status, 403);
    assert_eq!(upstream.requests().iter().filter(|request| request.target().starts_with("/ops")).count(), 1);
}

#[test]
fn cookies_in_several_fields_are_one() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = signed_in(&gateway);
    let ours = cookie_of(&alice);
    let http2 = connect(&gateway);
    let crumbs =
        [("cookie", "a=1"), ("cookie", ours.as_str()), ("cookie", "b=\"2 3\""), ("cookie", "c=4; d=5")];
    assert_eq!(http2.get("/page", &crumbs).status, 200);
    let request = upstream.last();
    assert_eq!(request.all("cookie"), ["a=1; b=\"2 3\"; c=4; d=5"]);
    assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"));

    assert_eq!(http2.get("/public", &[("cookie", "a=1"), ("cookie", "b=2")]).status, 200);
    assert_eq!(upstream.last().all("cookie"), ["a=1; b=2"]);

    // Two different sessions are nobody's, however they are spread.
    let other = cookie_of(&signed_in(&gateway));
    assert_eq!(http2.get("/page", &[("cookie", &ours), ("cookie", &other)]).status, 401);
}

#[test]
fn many_requests_run_at_once_and_each_gets_its_own_answer() {
    let upstream = Upstream::answering(|request| Answer::new("200 OK", &[], &request.target()));
    let gateway = Gateway::before(&upstream);
    let http2 = connect(&gateway);
    let running: Vec<_> =
        (0..60).map(|number| http2.begin("GET", &format!("/public/{number}"), &[], true).response).collect();
    for (number, response) in running.into_iter().enumerate() {
        let reply = http2.finish(response).expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.text()), (200, format!("/public/{number}")));
    }
}

#[test]
fn signing_in_and_out_works() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let http2 = connect(&gateway);
    let page = http2.get("/_vestibule/login?return_to=/page", &[("sec-fetch-mode", "navigate")]);
    let form_token = crate::support::client::hidden_field(&page.text(), "form_token");
    let device = page.header("set-cookie").expect("the form has a cookie").split(';').next().expect("one");
    let password = crate::support::users::password_of("alice");
    gateway.secrets().note_ours("a password", &password);
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("user", "alice"), ("password", &password), ("way", "local")])
        .extend_pairs([("form_token", form_token.as_str()), ("return_to", "/page")])
        .finish();
    let own = [
        ("cookie", device),
        ("origin", "https://wiki.example.com"),
        ("sec-fetch-site", "same-origin"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", &body.len().to_string()),
    ];
    let reply = http2.send("POST", "/_vestibule/login", &own, body.as_bytes());
    assert_eq!(reply.status, 303, "{}", reply.text());
    let session = reply.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let session = session.filter_map(|value| value.split(';').next()).find(|pair| pair.starts_with(SESSION));
    let session = session.expect("a session").to_owned();
    gateway.secrets().note("a session token", session.split_once('=').expect("a value").1);
    assert_eq!(http2.get("/page", &[("cookie", &session)]).status, 200);
    let out = [
        ("cookie", session.as_str()),
        ("origin", "https://wiki.example.com"),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(http2.ask("DELETE", "/_vestibule/session", &out).status, 204);
    assert_eq!(http2.get("/page", &[("cookie", &session)]).status, 401);
}

#[test]
fn what_has_two_readings_is_refused_and_its_neighbours_live() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/public"), (":authority", HOST)];
    let with = |fields: &[(&'static str, &'static str)]| [&usual[..], fields].concat();
    let instead = |name: &str, value: &'static str| {
        usual.map(|(held, old)| if held == name { (held, value) } else { (held, old) }).to_vec()
    };
    let cases = [
        with(&[("connection", "x-auth-user")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("keep-alive", "1")]),
        with(&[("te", "gzip")]),
        with(&[("host", "other.example.com")]),
        with(&[("host", HOST), ("host", HOST)]),
        with(&[("content-length", "3")]),
        with(&[("content-length", "0"), ("content-length", "1")]),
        with(&[("X-Upper", "a")]),
        with(&[("x y", "a")]),
        with(&[("x", "a\r\nx-auth-user: root")]),
        with(&[("x", "a\0b")]),
        with(&[("x", " a")]),
        with(&[(":path", "/ops")]),
        with(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]),
        instead(":path", "/public/../ops"),
        instead(":path", "/public/%2e%2e/ops"),
        instead(":path", "/a b"),
        instead(":path", "/a\r\nx-auth-user: root"),
        instead(":path", "http://other.example.com/"),
        instead(":path", "ops"),
        instead(":path", ""),
        instead(":authority", "root@wiki.example.com"),
        instead(":authority", ""),
        instead(":method", "CONNECT"),
        instead(":method", "G ET"),
        usual[..3].to_vec(),
    ];
    for fields in cases {
        let mut wire = gateway.connect();
        wire.write([HELLO, &headers(1, &fields), &headers(3, &usual)].concat());
        let (mut refused, mut answered) = (false, false);
        while !(refused && answered) {
            match next_frame(&mut wire) {
                // The whole connection was refused.
                None | Some((GOAWAY, ..)) => (refused, answered) = (true, true),
                Some((RST_STREAM, 1, _)) => refused = true,
                // A 400 has a number in the table of RFC 7541, appendix A; others are spelt.
                Some((HEADERS, 1, block)) => {
                    let is_405 = block.windows(3).any(|code| code == b"405" || code == [0x82, 0x68, 0x0F]);
                    assert!(block[0] == 0x8C || is_405, "{block:x?} to {fields:?}");
                    refused = true;
                }
                Some((HEADERS, 3, block)) => assert_eq!(block[0], 0x88, "a 200 beside {fields:?}"),
                Some((DATA, 3, _)) => answered = true,
                Some(_) => {}
            }
        }
    }
    for request in upstream.requests() {
        assert_eq!((request.target().as_str(), request.header("x-auth-user")), ("/public", None));
    }
}

#[test]
fn the_bounds_are_those_of_http_1() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let http2 = connect(&gateway);
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "a")).collect();
    assert_eq!(http2.get("/public", &many).status, 431);
    let long = "a".repeat(9000);
    assert_eq!(http2.get(&format!("/public?{long}"), &[]).status, 414);
    let crumbs = [("cookie", long.as_str()), ("cookie", long.as_str())];
    assert_eq!(http2.get("/public", &crumbs).status, 431);
    let huge = "a".repeat(11_000);
    let fields = [("a", huge.as_str()), ("b", huge.as_str()), ("c", huge.as_str())];
    assert_eq!(http2.get("/public", &fields).status, 431);
    assert_eq!(http2.get("/public", &[]).status, 200, "the connection goes on");
    assert_eq!(upstream.requests().len(), 1);
    gateway.wait_for_line("a long target", |line| line["reason"] == "target_too_long");
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    let body: String = (0..3_000_000_u32).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let download = body.clone();
    let upstream = Upstream::answering(move |_| Answer::new("200 OK", &[], &download));
    let gateway = Gateway::before(&upstream);
    let http2 = connect(&gateway);
    for fields in [&[][..], &[("content-length", "3000000")]] {
        let reply = http2.send("PUT", "/public/file", fields, body.as_bytes());
        assert_eq!((reply.status.as_u16(), reply.reset), (200, None));
        assert!(reply.text() == body, "{} bytes came back", reply.body.len());
        assert!(upstream.last().text() == body, "{} bytes arrived", upstream.last().body.len());
    }
    assert_eq!(http2.send("POST", "/public/file", &[], b"").status, 200);
    assert!(upstream.last().body.is_empty());
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_reaches_nobody_whole() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let http2 = connect(&gateway);
    for (length, body) in [("5", "123"), ("3", "12345")] {
        let mut exchange = http2.begin("PUT", "/public/file", &[("content-length", length)], false);
        let sent =
            http2.wait(async { exchange.request.send_data(Bytes::from_static(body.as_bytes()), true) });
        drop(sent);
        let reply = http2.finish(exchange.response);
        assert!(
            reply.as_ref().is_err() || reply.as_ref().is_ok_and(|reply| reply.status != 200),
            "{reply:?}"
        );
    }
    assert!(upstream.requests().iter().all(|request| !request.is_whole), "no end is feigned");
}

#[test]
fn a_stream_ends_with_its_session_and_its_neighbour_goes_on() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, bob) = (signed_in(&gateway), gateway.browser());
    bob.sign_in("bob");
    let http2 = connect(&gateway);
    let (closed, sees_close) = channel();
    let (more, asked) = channel::<()>();
    upstream.next(events(move |talk| {
        let mut rest = Vec::new();
        let _ = talk.read_to_end(&mut rest);
        closed.send(now()).expect("the test waits");
    }));
    let hers = http2.begin("GET", "/events", &[("cookie", &cookie_of(&alice))], true).response;
    let (head, mut of_alice) = http2.wait(hers).expect("an answer begins").into_parts();
    assert_eq!(head.status, 200);
    http2.wait(of_alice.data()).expect("an event").expect("an event");
    upstream.next(events(move |talk| {
        asked.recv().expect("the test asks");
        talk.write_all(b"5\r\nmore\n\r\n0\r\n\r\n").expect("the gateway reads");
    }));
    let his = http2.begin("GET", "/events", &[("cookie", &cookie_of(&bob))], true).response;
    let mut of_bob = http2.wait(his).expect("an answer begins").into_body();
    http2.wait(of_bob.data()).expect("an event").expect("an event");

    assert_eq!(gateway.admin("DELETE", "/sessions?subject=alice", "").status(), 200);
    let ended = now();
    let error = http2.wait(of_alice.data()).expect("it breaks off").expect_err("no end is feigned");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert!(
        sees_close.recv_timeout(CUT_WITHIN).expect("the application is told").duration_since(ended)
            < CUT_WITHIN
    );
    more.send(()).expect("the application waits");
    assert_eq!(&http2.wait(of_bob.data()).expect("an event").expect("an event")[..], b"more\n");
    let line = gateway.wait_for_line("the cut", |line| line["decision"] == "cut");
    assert_eq!((line["reason"].as_str(), line["status"].as_u64()), (Some("revoked"), Some(200)));
}

/// One event in a chunk, then what the closure does.
fn events(then: impl FnOnce(&mut crate::support::upstream::Talk) + Send + 'static) -> Answer {
    Answer::talk(move |talk| {
        talk.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\none.\n\r\n")
            .expect("the gateway reads");
        then(talk);
    })
}

#[test]
fn a_body_that_stops_is_not_waited_for() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { body: 1s }")
        .start();
    let http2 = connect(&gateway);
    let mut exchange = http2.begin("PUT", "/public/file", &[("content-length", "100")], false);
    http2.wait(async { exchange.request.send_data(Bytes::from_static(b"0123456789"), false) }).expect("room");
    let error = http2.finish(exchange.response).expect_err("it is given up");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    let line = gateway.wait_for_line("the body", |line| line["reason"] == "body_late");
    assert_eq!((line["status"].as_u64(), line["bytes_in"].as_u64()), (Some(408), Some(10)));
    assert_eq!(http2.get("/public", &[]).status, 200, "the connection goes on");
}

#[test]
fn an_answer_does_not_hold_an_exchange_whose_body_has_no_end() {
    let upstream = Upstream::prompted();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { body: 1s }")
        .start();
    let http2 = connect(&gateway);
    upstream.next(Answer::talk(|talk| {
        talk.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").expect("the gateway reads");
        let _ = talk.read_to_end(&mut Vec::new());
    }));
    let exchange = http2.begin("POST", "/public/file", &[], false);
    let answer = http2.wait(exchange.response).expect("an answer begins");
    assert_eq!(answer.status(), 200);
    let line = gateway.wait_for_line("the end", |line| line["path"] == "/public/file");
    assert_eq!((line["reason"].as_str(), line["status"].as_u64()), (Some("body_late"), Some(200)));
    drop(exchange.request);
}

#[test]
fn the_streams_of_a_client_count_as_its_connections() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, connections: { max_per_client: 3 }")
        .start();
    let http2 = connect(&gateway);
    let held = |http2: &Http2| {
        let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        upstream.next(answer);
        let before = upstream.requests().len();
        let response = http2.begin("GET", "/public/held", &[], true).response;
        until("the application has it", || (upstream.requests().len() > before).then_some(()));
        (response, gate)
    };
    // The first goes with the connection; two more are three in all.
    let running = [held(&http2), held(&http2), held(&http2)];
    let exchange = http2.begin("GET", "/public/more", &[], true);
    let refused = http2.finish(exchange.response).expect_err("there is no place");
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
    gateway.wait_for_line("the refusal", |line| line["reason"] == "no_place");
    for (response, gate) in running {
        gate.open();
        assert_eq!(http2.finish(response).expect("an answer").status, 200);
    }
    assert_eq!(http2.get("/public/more", &[]).status, 200);
}

#[test]
fn a_connection_that_is_over_takes_nothing_new() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { max_age: 1s }")
        .start();
    // It hears that the connection is over, and asks on without a word about it.
    let mut wire = gateway.connect();
    wire.write(HELLO);
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/public"), (":authority", HOST)];
    let started = now();
    let mut stream = 1;
    while wire.try_write(headers(stream, &fields)).is_ok() && started.elapsed() < Duration::from_secs(15) {
        stream += 2;
        crate::support::wait::pause(Duration::from_millis(100));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // A connect of the tunnel kind counts among what is malformed.
    let mut wire = gateway.connect();
    wire.write(HELLO);
    for number in 0..200 {
        let connect = headers(2 * number + 1, &[(":method", "CONNECT"), (":authority", HOST)]);
        if wire.try_write(connect).is_err() {
            break;
        }
    }
    wire.rest();
}

#[test]
fn a_visitor_who_takes_nothing_is_not_written_to_for_ever() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { write: 1s }")
        .start();
    let http2 = connect(&gateway);
    let large = Answer::new("200 OK", &[], &"a".repeat(3_000_000));
    upstream.next(large);
    let response = http2.begin("GET", "/public/file", &[], true).response;
    // Nothing of it is ever acknowledged: the window closes after 64 KiB.
    let _unread = http2.wait(response).expect("an answer begins").into_body();
    let line = gateway.wait_for_line("the end", |line| line["path"] == "/public/file");
    assert_eq!(line["reason"], "write_timeout");
    assert!(line["bytes_out"].as_u64().is_some_and(|bytes| bytes < 300_000), "{line}");
    assert_eq!(http2.get("/public", &[]).status, 200, "the connection goes on");
}

#[test]
fn a_connection_without_exchanges_ends() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .listener("external: { scheme: https, port: 443 }, timeouts: { keep_alive: 1s, head: 1s }")
        .start();
    let http2 = connect(&gateway);
    assert_eq!(http2.get("/public", &[]).status, 200);
    assert!(http2.ends());
    // One that never asks, one that never greets to the end, one that never ends a head.
    let unfinished = frame(1, 0, 1, b"\0\x01a\x01b");
    for bytes in [HELLO, &HELLO[..20], &HELLO[..24], &[HELLO, &unfinished].concat()] {
        let mut wire = gateway.connect();
        wire.write(bytes);
        wire.rest();
    }
}

#[test]
fn a_short_request_that_is_no_preface_is_answered_at_once() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    // Shorter than the preface of HTTP/2.
    let answer = gateway.raw("GET / HTTP/1.0\r\nHost:a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    for preface in ["PRI * HTTP/2.0\r\nHost: a\r\n\r\n", "PRI / HTTP/2.0\r\n\r\n", "GET * HTTP/2.0\r\n\r\n"] {
        let answer = gateway.raw(preface);
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"), "{answer}");
    }
    // HTTP/2 begins a connection or does not come at all.
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.response().status(), 200);
    wire.write(HELLO);
    assert!(String::from_utf8_lossy(&wire.rest()).starts_with("HTTP/1.1 505"));
}

#[test]
fn whoever_sends_rubbish_for_ever_is_left() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    wire.write(HELLO);
    let twice = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/public"),
        (":authority", HOST),
        ("host", "other.example.com"),
    ];
    for number in 0..1000 {
        if wire.try_write(headers(2 * number + 1, &twice)).is_err() {
            break;
        }
    }
    wire.rest();
    assert!(upstream.requests().is_empty());
    assert!(gateway.metric("vestibule_refused_heads_total{reason=\"http2_protocol\"}") >= 32.0);
    // Requests that are taken back as soon as they are sent.
    let mut wire = gateway.connect();
    wire.write(HELLO);
    for number in 0..5000 {
        let stream = 2 * number + 1;
        let asked = headers(stream, &twice[..4]);
        if wire.try_write([asked, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()).is_err() {
            break;
        }
    }
    wire.rest();
    assert_eq!(connect(&gateway).get("/public", &[]).status, 200);
}

#[test]
fn a_stop_lets_what_runs_end_and_takes_nothing_new() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let http2 = connect(&gateway);
    let (answer, gate) = Answer::held(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    upstream.next(answer);
    let running = http2.begin("GET", "/public/slow", &[], true).response;
    until("the application has it", || (!upstream.requests().is_empty()).then_some(()));
    gateway.signal(rustix::process::Signal::TERM);
    until("it drains", || (gateway.admin("GET", "/readyz", "").status() == 503).then_some(()));
    gate.open();
    let reply = http2.finish(running).expect("it is finished");
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "late"));
    assert!(http2.ends());
    assert!(gateway.wait_for_end(Duration::from_secs(5)).is_some_and(|status| status.success()));
}

fn grpc_status(reply: &Reply) -> Option<&str> {
    reply.header("grpc-status")
}

#[test]
fn a_program_that_speaks_grpc_is_refused_in_its_words() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let bob = gateway.browser();
    bob.sign_in("bob");
    let http2 = connect(&gateway);
    let call = |target: &str, fields: &[(&str, &str)]| {
        let fields = [&[("content-type", "application/grpc+proto"), ("te", "trailers")][..], fields].concat();
        http2.send("POST", target, &fields, b"\0\0\0\0\0")
    };
    let stranger = call("/ops/pkg.Service/Do", &[]);
    assert_eq!((stranger.status.as_u16(), grpc_status(&stranger)), (200, Some("16")));
    assert_eq!(stranger.header("content-type"), Some("application/grpc"));
    assert!(stranger.body.is_empty());
    let forbidden = call("/ops/pkg.Service/Do", &[("cookie", &cookie_of(&bob))]);
    assert_eq!((forbidden.status.as_u16(), grpc_status(&forbidden)), (200, Some("7")));
    let line = gateway.wait_for_line("the refusal", |line| line["reason"] == "not_allowed");
    assert_eq!(line["subject"], "bob");
    assert!(upstream.requests().iter().all(|request| !request.target().contains("pkg")));
}

#[test]
fn the_operators_door_speaks_http_1_alone() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = Wire::to(gateway.port("admin"));
    wire.write(HELLO);
    assert!(String::from_utf8_lossy(&wire.rest()).starts_with("HTTP/1.1 505"));
}

#[test]
fn over_tls_the_handshake_settles_on_it() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let gateway = Setup::before(&upstream).with_tls(&authority).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = cookie_of(&alice);
    let both = Client::trusting(&authority).offering(&[b"http/1.1", b"h2"]);
    let line = both.connect(gateway.address()).expect("TLS is settled");
    assert_eq!(line.session().alpn_protocol(), Some(&b"h2"[..]), "the better one is chosen");
    let mut wire = Wire::over(line);
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/ops/x"),
        (":authority", HOST),
        ("cookie", cookie.as_str()),
    ];
    wire.write([HELLO, &headers(1, &fields)].concat());
    let answered = |wire: &mut Wire| loop {
        match next_frame(wire).expect("the connection lasts") {
            (HEADERS, 1, block) => return block[0],
            (RST_STREAM | GOAWAY, ..) => panic!("it is refused"),
            _ => {}
        }
    };
    assert_eq!(answered(&mut wire), 0x88, "200");
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    let line = gateway.wait_for_line("the page", |line| line["path"] == "/ops/x");
    assert_eq!((line["version"].as_str(), line["tls"].as_str()), (Some("2"), Some("1.3")));

    // Where the handshake did not settle on it, nobody speaks it.
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let line = Client::trusting(&authority).offering(protocols).connect(gateway.address());
        let mut wire = Wire::over(line.expect("TLS is settled"));
        wire.write(HELLO);
        assert!(String::from_utf8_lossy(&wire.rest()).starts_with("HTTP/1.1 505"));
    }
}
