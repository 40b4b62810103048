//! Streams that a session opened end with it, in both directions; nobody else's do.

use crate::support::tls::Authority;
use crate::support::upstream::Talk;
use crate::support::users::{self, User};
use crate::support::wait::{now, pause, until};
use crate::support::{Answer, Browser, Gateway, HOST, SESSION, Setup, Upstream, Wire};
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The promise is one second; the rest is for a busy machine.
const CUT_WITHIN: Duration = Duration::from_millis(1500);
/// A close frame with status 1008, as the gateway ends a `WebSocket`.
const CLOSE_FRAME: &[u8] = b"\x88\x0E\x03\xF0access ended";

const WEBSOCKET: [(&str, &str); 5] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Origin", "https://wiki.example.com"),
];
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const HELLO: &[u8] = b"\x81\x05hello";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A `WebSocket` on which nothing happens.
    Idle,
    /// One on which the application sends small frames without end.
    Busy,
    /// One that stands in the middle of a frame.
    InFrame,
    /// One whose application has sent its close frame, and waits for the visitor's.
    Closing,
    /// Server-sent events: one, then silence.
    Events,
    /// A download in chunks as fast as it goes, of which the visitor reads nothing.
    Download,
    /// A download with a length, which has stopped.
    Length,
    /// An upload whose body comes slowly.
    Upload,
    /// A request that the application thinks about.
    Waiting,
}

const KINDS: [Kind; 9] = [
    Kind::Idle,
    Kind::Busy,
    Kind::InFrame,
    Kind::Closing,
    Kind::Events,
    Kind::Download,
    Kind::Length,
    Kind::Upload,
    Kind::Waiting,
];

/// An open stream.
struct Stream {
    kind: Kind,
    wire: Wire,
    /// When the application saw its connection end.
    upstream_closed: Receiver<Instant>,
}

impl Stream {
    /// Opens one; it is running when this returns.
    fn open(kind: Kind, path: &str, visitor: &Browser<'_>, gateway: &Gateway, upstream: &Upstream) -> Self {
        let (closed, upstream_closed) = channel();
        let (start, started) = channel();
        upstream.next(Answer::talk(move |talk| {
            start.send(()).expect("the test waits");
            drop(play(kind, talk));
            // The test may be over.
            let _ = closed.send(now());
        }));
        let mut wire = gateway.connect();
        let request = match kind {
            Kind::Idle | Kind::Busy | Kind::InFrame | Kind::Closing => visitor.get(path).headers(&WEBSOCKET),
            Kind::Upload => {
                visitor.post(path).header("Origin", crate::support::ORIGIN).body(vec![b'u'; 100_000])
            }
            _ => visitor.get(path),
        };
        let mut bytes = request.bytes();
        if kind == Kind::Upload {
            bytes.truncate(bytes.len() - 50_000);
        }
        wire.write(bytes);
        started.recv_timeout(Duration::from_secs(20)).expect("the request reaches the upstream");
        match kind {
            Kind::Upload | Kind::Waiting => {}
            _ => {
                let status = wire.head().status();
                assert!([101, 200].contains(&status), "{kind:?}: {status}");
            }
        }
        match kind {
            Kind::Busy => assert_eq!(wire.read_exactly(HELLO.len()), HELLO),
            Kind::InFrame => assert_eq!(wire.read_exactly(10), b"\x81\x7E\x01\x00partly"),
            Kind::Closing => assert_eq!(wire.read_exactly(4), b"\x88\x02\x03\xE8"),
            Kind::Events => assert_eq!(wire.read_exactly(11), b"6\r\ndata:1\r\n"),
            Kind::Length => assert_eq!(wire.read_exactly(5), b"start"),
            _ => {}
        }
        Self { kind, wire, upstream_closed }
    }

    /// Sees the stream end within the promised time of `since`, on both sides and as its kind should.
    fn sees_its_end(mut self, since: Instant) {
        let kind = self.kind;
        let (rest, end) = self.wire.until_closed();
        let took = since.elapsed();
        let closed =
            self.upstream_closed.recv_timeout(Duration::from_secs(20)).expect("the upstream sees it too");
        let upstream_took = closed.saturating_duration_since(since);
        println!("{kind:?}: visitor {took:?}, upstream {upstream_took:?}");
        assert!(took < CUT_WITHIN && upstream_took < CUT_WITHIN, "{kind:?}: {took:?}, {upstream_took:?}");
        let text = String::from_utf8_lossy(&rest).into_owned();
        match kind {
            Kind::Idle => assert_eq!(rest, CLOSE_FRAME),
            Kind::Busy => {
                let frames =
                    rest.strip_suffix(CLOSE_FRAME).unwrap_or_else(|| panic!("no close frame ends {text}"));
                assert!(frames.chunks(HELLO.len()).all(|frame| frame == HELLO), "{text}");
            }
            Kind::InFrame | Kind::Closing | Kind::Events | Kind::Length => assert_eq!(text, "", "{kind:?}"),
            Kind::Download => assert!(!text.ends_with("0\r\n\r\n"), "{kind:?} looks whole"),
            Kind::Upload | Kind::Waiting => {
                assert!(text.starts_with("HTTP/1.1 401 "), "{kind:?}: {text}");
                assert!(text.contains("\r\nWWW-Authenticate: Session "), "{kind:?}: {text}");
                assert!(text.contains("\r\nConnection: close\r\n"), "{kind:?}: {text}");
                let (_, body) = text.split_once("\r\n\r\n").expect("a head ends");
                let problem: serde_json::Value =
                    serde_json::from_str(body).expect("a whole problem document");
                assert_eq!(problem["detail"], "please sign in");
                assert!(!text.to_ascii_lowercase().contains("set-cookie"), "{text}");
            }
        }
        // Nothing was lost by a reset; the one exception is a visitor who did not read.
        assert!(end.is_ok() || kind == Kind::Download, "{kind:?}: {end:?}");
    }

    /// Sees that it goes on: neither side has ended.
    fn goes_on(&mut self) {
        assert!(self.upstream_closed.try_recv().is_err(), "{:?} was cut", self.kind);
        if self.kind == Kind::Idle {
            self.wire.write(HELLO);
            assert_eq!(self.wire.read_exactly(HELLO.len()), HELLO);
        }
    }
}

/// The application's side; returns when its connection ends.
fn play(kind: Kind, talk: &mut Talk) -> std::io::Result<()> {
    match kind {
        Kind::Idle | Kind::Busy | Kind::InFrame | Kind::Closing => talk.write_all(SWITCHING)?,
        Kind::Events | Kind::Download => talk.write_all(CHUNKED)?,
        Kind::Length => talk.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nstart")?,
        Kind::Upload | Kind::Waiting => {}
    }
    match kind {
        Kind::InFrame => talk.write_all(b"\x81\x7E\x01\x00partly")?,
        Kind::Closing => talk.write_all(b"\x88\x02\x03\xE8")?,
        Kind::Events => talk.write_all(b"6\r\ndata:1\r\n")?,
        _ => {}
    }
    let mut part = [0; 4096];
    loop {
        match kind {
            Kind::Busy => {
                talk.write_all(HELLO)?;
                pause(Duration::from_millis(5));
            }
            Kind::Download => talk.write_all(&[&b"1000\r\n"[..], &[b'd'; 4096], b"\r\n"].concat())?,
            _ => match talk.read(&mut part)? {
                0 => return Ok(()),
                read if kind == Kind::Idle => talk.write_all(&part[..read])?,
                _ => {}
            },
        }
    }
}

fn open_all(path: &str, visitor: &Browser<'_>, gateway: &Gateway, upstream: &Upstream) -> Vec<Stream> {
    KINDS.iter().map(|kind| Stream::open(*kind, path, visitor, gateway, upstream)).collect()
}

#[test]
fn a_sign_out_in_another_tab_cuts_every_kind_of_stream_and_nobody_elses() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    let alices = open_all("/page", &alice, &gateway, &upstream);
    let mut others = open_all("/page", &bob, &gateway, &upstream);
    // Nobody's session admits to a public page, whatever cookie comes along.
    others.extend(open_all("/public", &alice, &gateway, &upstream));
    assert_eq!(alice.sign_out(false).status(), 200);
    let since = now();
    for stream in alices {
        stream.sees_its_end(since);
    }
    pause(Duration::from_millis(300));
    others.iter_mut().for_each(Stream::goes_on);

    let line =
        gateway.wait_for_line("of a cut exchange", |line| line["decision"] == "cut" && line["status"] == 101);
    assert_eq!((line["reason"].as_str(), line["subject"].as_str()), (Some("sign_out"), Some("alice")));
    let line = gateway
        .wait_for_line("of a cut upload", |line| line["decision"] == "cut" && line["method"] == "POST");
    assert_eq!((line["status"].as_u64(), line["bytes_in"].as_u64()), (Some(401), Some(50_000)));
    let line = gateway.wait_for_line("of a cut download", |line| {
        line["decision"] == "cut" && line["bytes_out"].as_u64() > Some(4096)
    });
    assert_eq!(line["status"], 200);
    for metric in
        ["exchanges_cut_total{reason=\"sign_out\"}", "decisions_total{outcome=\"cut\",route=\"wiki\"}"]
    {
        let counted = gateway.metric(&format!("vestibule_{metric}"));
        assert!((counted - KINDS.len() as f64).abs() < 0.5, "{metric}: {counted}");
    }
    drop(others);
    until("nothing is left open", || (gateway.metric("vestibule_exchanges_in_flight") < 0.5).then_some(()));
}

#[test]
fn an_answer_that_was_given_a_visitors_data_ends_with_that_session_on_public_pages_too() {
    const LASTING: [Kind; 5] = [Kind::Idle, Kind::Busy, Kind::InFrame, Kind::Events, Kind::Download];
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .routes(&[
            "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app,
               session: { data: true } }",
            "{ name: wiki, host: wiki.example.com, path: /, upstream: app,
               access: { sign_in: [local], allow: everyone } }",
        ])
        .start();
    let (alice, stranger) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    let open = |kind: &Kind, visitor| Stream::open(*kind, "/shop", visitor, &gateway, &upstream);
    let alices: Vec<Stream> = LASTING.iter().map(|kind| open(kind, &alice)).collect();
    let mut others: Vec<Stream> = LASTING.iter().map(|kind| open(kind, &stranger)).collect();
    // What has no answer yet is for everybody; and what comes with a short length is over soon.
    others.extend([Kind::Waiting, Kind::Upload, Kind::Length].iter().map(|kind| open(kind, &alice)));
    alice.sign_out(false);
    let since = now();
    for stream in alices {
        stream.sees_its_end(since);
    }
    pause(Duration::from_millis(300));
    others.iter_mut().for_each(Stream::goes_on);
}

#[test]
fn an_operators_hand_cuts_streams() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let streams = open_all("/page", &alice, &gateway, &upstream);
    assert_eq!(gateway.admin("DELETE", "/sessions?subject=alice", "").status(), 200);
    let since = now();
    for stream in streams {
        stream.sees_its_end(since);
    }
    gateway
        .wait_for_line("of a cut exchange", |line| line["decision"] == "cut" && line["reason"] == "revoked");
}

#[test]
fn under_tls_streams_end_like_any_other_and_tls_says_so() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).with_tls(&Authority::new("ours")).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let streams = open_all("/page", &alice, &gateway, &upstream);
    assert_eq!(alice.sign_out(false).status(), 200);
    let since = now();
    for stream in streams {
        stream.sees_its_end(since);
    }
    until("nothing is left open", || (gateway.metric("vestibule_exchanges_in_flight") < 0.5).then_some(()));
}

#[test]
fn a_user_who_is_gone_loses_the_streams_too() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let streams = open_all("/page", &alice, &gateway, &upstream);
    let without_alice: Vec<User> = users::usual().into_iter().filter(|user| user.name != "alice").collect();
    gateway.folder().write("users.yaml", &users::file(&without_alice));
    gateway.audit("session_ended");
    let since = now();
    for stream in streams {
        stream.sees_its_end(since);
    }
    gateway.wait_for_line("of a cut exchange", |line| {
        line["decision"] == "cut" && line["reason"] == "credential"
    });
}

#[test]
fn a_stream_ends_with_the_absolute_lifetime_however_busy() {
    let upstream = Upstream::recording();
    let gateway =
        Setup::before(&upstream).set("sessions", "{ idle_timeout: 3s, absolute_lifetime: 3s }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let opened = now();
    let streams = open_all("/page", &alice, &gateway, &upstream);
    // Nothing is told when a lifetime is over: the sign-in lies a little before `opened`.
    for stream in streams {
        stream.sees_its_end(opened + Duration::from_secs(3));
    }
    gateway
        .wait_for_line("of a cut exchange", |line| line["decision"] == "cut" && line["reason"] == "lifetime");
}

#[test]
fn on_an_open_stream_only_the_visitors_bytes_count_as_use() {
    let upstream = Upstream::recording();
    let gateway =
        Setup::before(&upstream).set("sessions", "{ idle_timeout: 2s, absolute_lifetime: 1h }").start();
    let (listening, talking) = (gateway.browser(), gateway.browser());
    listening.sign_in("alice");
    talking.sign_in("bob");
    let mut echo = Stream::open(Kind::Idle, "/page", &talking, &gateway, &upstream);
    let used = now();
    let busy = Stream::open(Kind::Busy, "/page", &listening, &gateway, &upstream);
    let events = Stream::open(Kind::Events, "/page", &listening, &gateway, &upstream);
    let last_used = now();
    while used.elapsed() < Duration::from_secs(5) {
        echo.goes_on();
        pause(Duration::from_millis(200));
    }
    assert!(talking.is_signed_in(), "what is sent through the stream is use of the session");
    for mut stream in [busy, events] {
        let closed =
            stream.upstream_closed.try_recv().expect("it was cut meanwhile, whatever the application sent");
        let after = closed.saturating_duration_since(used);
        println!("{:?}: {after:?} after the last use", stream.kind);
        assert!(after > Duration::from_millis(1800), "{after:?}");
        assert!(
            closed.saturating_duration_since(last_used) < Duration::from_secs(2) + CUT_WITHIN,
            "{after:?}"
        );
        drop(stream.wire.until_closed());
    }
    let line = gateway.wait_for_line("of a cut exchange", |line| line["decision"] == "cut");
    assert_eq!((line["reason"].as_str(), line["subject"].as_str()), (Some("idle"), Some("alice")));
    // Silence ends it as well.
    let since = now();
    echo.sees_its_end(since + Duration::from_secs(2));
}

#[test]
fn where_the_route_ignores_activity_neither_requests_nor_a_streams_bytes_are_use() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ idle_timeout: 2s, absolute_lifetime: 1h }")
        .routes(&[
            "{ name: poll, host: wiki.example.com, path: /poll, upstream: app, session: { activity: ignore },
               access: { sign_in: [local], allow: everyone } }",
            "{ name: wiki, host: wiki.example.com, path: /, upstream: app,
               access: { sign_in: [local], allow: everyone } }",
        ])
        .start();
    let (polling, talking, working) = (gateway.browser(), gateway.browser(), gateway.browser());
    for browser in [&polling, &talking, &working] {
        browser.sign_in("alice");
    }
    let mut stream = Stream::open(Kind::Idle, "/poll", &talking, &gateway, &upstream);
    let opened = now();
    while opened.elapsed() < Duration::from_millis(1500) {
        stream.goes_on();
        assert_eq!(polling.get("/poll").send().status(), 200);
        assert_eq!(working.get("/poll").send().status(), 200);
        assert!(working.is_signed_in());
        pause(Duration::from_millis(100));
    }
    // The sign-in lies a little before `opened`.
    stream.sees_its_end(opened + Duration::from_secs(2));
    assert_eq!(polling.get("/poll").send().status(), 401);
    assert!(working.is_signed_in(), "other routes count as before");
    let line = gateway.wait_for_line("of the cut stream", |line| line["decision"] == "cut");
    assert_eq!(line["reason"], "idle");
}

#[test]
fn the_exchange_that_ends_the_session_is_answered_whole() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for number in 0..20 {
        let alice = gateway.browser();
        alice.sign_in("alice");
        let mut wire = gateway.connect();
        assert_eq!(alice.get("/page").send_over(&mut wire).status(), 200);
        let cookie = alice.stolen_cookie();
        let form_token = alice.form_token("/_vestibule/logout");
        let form = [("form_token", form_token.as_str()), ("everywhere", "1")];
        let answer = if number % 2 == 0 {
            alice.own_post("/_vestibule/logout").form(&form).send_over(&mut wire)
        } else {
            let request =
                alice.request("DELETE", "/_vestibule/session").header("Sec-Fetch-Site", "same-origin");
            request.send_over(&mut wire)
        };
        assert!(answer.is_whole && [200, 204].contains(&answer.status()), "{}", answer.first_line());
        pause(Duration::from_millis(20 * number));
        // The connection serves on: nothing on it was the session's.
        wire.write(format!("GET /page HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n"));
        assert_eq!(wire.response().status(), 401);
    }
    assert!(gateway.metric("vestibule_exchanges_cut_total{reason=\"sign_out\"}") < 0.5);
}

#[test]
fn a_head_request_that_is_cut_gets_no_body() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let (held, _gate) = Answer::held(b"");
    upstream.next(held);
    let mut wire = gateway.connect();
    wire.write(alice.request("HEAD", "/page").bytes());
    upstream.wait_for(1);
    alice.sign_out(true);
    let (rest, end) = wire.until_closed();
    let text = String::from_utf8_lossy(&rest).into_owned();
    assert!(text.starts_with("HTTP/1.1 401 ") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(end.is_ok(), "{end:?}");
}

#[test]
fn bytes_that_nobody_will_read_do_not_take_the_last_answer_away() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let mut waiting = Stream::open(Kind::Waiting, "/page", &alice, &gateway, &upstream);
    // More than is read ahead. Closing over it would be a reset, which overtakes what was sent before.
    waiting.wire.write(vec![b'x'; 200_000]);
    alice.sign_out(false);
    let since = now();
    // The visitor looks when the gateway has long closed.
    pause(Duration::from_secs(1));
    let closed =
        waiting.upstream_closed.recv_timeout(Duration::from_secs(20)).expect("the upstream sees its end");
    assert!(closed.saturating_duration_since(since) < CUT_WITHIN);
    let (rest, end) = waiting.wire.until_closed();
    let text = String::from_utf8_lossy(&rest).into_owned();
    assert!(text.starts_with("HTTP/1.1 401 ") && text.ends_with('}'), "{text}");
    assert!(end.is_ok(), "{end:?}");
}

#[test]
fn requests_that_wait_in_line_behind_a_cut_one_are_not_served() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let (held, _gate) = Answer::held(b"");
    upstream.next(held);
    let mut wire = gateway.connect();
    let request = alice.get("/page").bytes();
    wire.write(
        [&request[..], &request, format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()].concat(),
    );
    upstream.wait_for(1);
    alice.sign_out(false);
    let (rest, end) = wire.until_closed();
    let text = String::from_utf8_lossy(&rest).into_owned();
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_reload_decides_again_about_open_streams_and_cuts_what_it_refuses() {
    const LASTING: [Kind; 4] = [Kind::Idle, Kind::Busy, Kind::Events, Kind::Download];
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let wiki = |allow: &str| {
        format!(
            "[{{ name: public, host: wiki.example.com, path: /public, access: public, upstream: app }},
              {{ name: wiki, host: wiki.example.com, path: /, upstream: app,
                 access: {{ sign_in: [local], allow: {allow} }} }}]"
        )
    };
    gateway.reload_with("routes", &wiki("everyone"));
    let cookie_of = |user: &str| {
        let browser = gateway.browser();
        browser.sign_in(user);
        browser.cookie(SESSION).expect("who is signed in has a cookie")
    };
    let (alices, bobs) = (cookie_of("alice"), cookie_of("bob"));
    let open = |gateway: &Gateway, path: &str, cookie: &str| -> Vec<Stream> {
        let visitor = gateway.browser();
        visitor.set_cookie(SESSION, cookie);
        LASTING.iter().map(|kind| Stream::open(*kind, path, &visitor, gateway, &upstream)).collect()
    };
    let (mut of_alice, of_bob) = (open(&gateway, "/page", &alices), open(&gateway, "/page", &bobs));
    let mut public = open(&gateway, "/public", &bobs);
    gateway.reload_with("routes", &wiki("{ groups: [ops] }"));
    let since = now();
    for stream in of_bob {
        stream.sees_its_end(since);
    }
    let line = gateway.wait_for_line("of a cut exchange", |line| line["decision"] == "cut");
    assert_eq!((line["reason"].as_str(), line["subject"].as_str()), (Some("not_allowed"), Some("bob")));
    pause(Duration::from_millis(300));
    of_alice.iter_mut().chain(&mut public).for_each(Stream::goes_on);

    let mut changed = users::usual();
    changed[0].lines = vec!["groups: [dev]".to_owned()];
    gateway.folder().write("users.yaml", &users::file(&changed));
    until("alice may not any more", || {
        let visitor = gateway.browser();
        visitor.set_cookie(SESSION, &alices);
        (visitor.get("/page").send().status() == 403).then_some(())
    });
    let since = now();
    for stream in of_alice {
        stream.sees_its_end(since);
    }
    public.iter_mut().for_each(Stream::goes_on);
}
