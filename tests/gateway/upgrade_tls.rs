//! A new process takes over while visitors speak TLS and HTTP/2: their connections get what they were promised, and new ones are taken.

use crate::support::http2::Http2;
use crate::support::tls::{Authority, Client};
use crate::support::wait::{PATIENCE, now, pause};
use crate::support::{Answer, Gateway, HOST, SESSION, Setup, Upstream, Wire};
use h2::Reason;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const UPGRADES: usize = 6;
/// The promise is one second; the rest is for a busy machine.
const CUT_WITHIN: Duration = Duration::from_millis(1500);

/// A gateway with TLS that another process may take over from; on its second port it speaks without.
fn replaceable(upstream: &Upstream, authority: &Authority) -> Gateway {
    Setup::before(upstream)
        .with_tls(authority)
        .set(
            "listeners",
            "[{ address: \"127.0.0.1:{public}\", external: { scheme: https, port: 443 },
                tls: { certificates: [{ certificate: server.crt, key: server.key }] } },
              { address: \"127.0.0.1:{second}\", external: { scheme: https, port: 443 } }]",
        )
        .set("upgrade", "{ socket: run/upgrade.sock }")
        .start()
}

fn get(target: &str, cookie: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {SESSION}={cookie}\r\n\r\n")
}

/// Says so much, waits for the other end or the gate, and says the rest.
fn in_two_parts() -> (Answer, std::sync::mpsc::Sender<()>) {
    let (open, opened) = std::sync::mpsc::channel();
    let answer = Answer::talk(move |stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"));
        let _ = opened.recv_timeout(PATIENCE);
        drop(stream.write_all(b" last"));
        drop(stream.read(&mut [0; 1]));
    });
    (answer, open)
}

#[test]
fn what_runs_over_tls_and_http_2_runs_to_its_end_and_kept_connections_are_good_for_one_more() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let mut gateway = replaceable(&upstream, &authority);
    let client = Client::trusting(&authority);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.cookie(SESSION).expect("who is signed in has a cookie");
    drop(alice);
    let field = format!("{SESSION}={cookie}");
    let fields = [("cookie", field.as_str())];

    let mut kept = gateway.connect_as(&client);
    kept.write(get("/page", &cookie));
    assert_eq!(kept.response().status(), 200);
    let (answer, rest_over_tls) = in_two_parts();
    upstream.next(answer);
    let mut running = gateway.connect_as(&client);
    running.write(get("/page", &cookie));
    assert_eq!(running.head().status(), 200);
    assert_eq!(running.read_exactly(5), b"first");

    let second = gateway.port("second");
    let mut others = Vec::new();
    for over_tls in [true, false] {
        let http2 = if over_tls {
            Http2::with_tls(gateway.address(), &client).expect("TLS settles on HTTP/2")
        } else {
            Http2::to(second)
        };
        assert_eq!(http2.get("/page", &fields).status, 200);
        let (answer, rest) = in_two_parts();
        upstream.next(answer);
        let before = upstream.requests().len();
        let exchange = http2.begin("GET", "/page", &fields, true);
        upstream.wait_for(before + 1);
        others.push((http2, exchange, rest));
    }

    gateway.upgrade();
    assert!(gateway.former_end(Duration::from_millis(300)).is_none(), "answers run there");
    kept.write(get("/page", &cookie));
    let last = kept.response();
    assert_eq!((last.status(), last.header("connection").as_deref()), (200, Some("close")));
    assert!(kept.closes_within(PATIENCE));
    // The new process knows certificate and session.
    let mut fresh = gateway.connect_as(&client);
    fresh.write(get("/page", &cookie));
    assert_eq!(fresh.response().status(), 200);
    let http2 = Http2::with_tls(gateway.address(), &client).expect("TLS settles on HTTP/2");
    assert_eq!(http2.get("/page", &fields).status, 200);

    rest_over_tls.send(()).expect("the application waits");
    assert_eq!(running.read_exactly(5), b" last");
    for (http2, exchange, rest) in others {
        rest.send(()).expect("the application waits");
        let reply = http2.finish(exchange.response).expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.text().as_str(), reply.reset), (200, "first last", None));
        assert!(http2.ends(), "the former process says goodbye");
    }
    drop(running);
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
    assert_eq!(http2.get("/page", &fields).status, 200, "the new one goes on");
}

#[test]
fn an_end_at_the_new_process_cuts_what_runs_over_tls_and_http_2_at_the_former() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let mut gateway = replaceable(&upstream, &authority);
    let client = Client::trusting(&authority);
    let running = ["alice", "bob"].map(|user| {
        let browser = gateway.browser();
        browser.sign_in(user);
        let cookie = browser.cookie(SESSION).expect("who is signed in has a cookie");
        let (answer, rest_over_tls) = in_two_parts();
        upstream.next(answer);
        let mut wire = gateway.connect_as(&client);
        wire.write(get("/events", &cookie));
        assert_eq!(wire.head().status(), 200);
        assert_eq!(wire.read_exactly(5), b"first");
        let (answer, rest) = in_two_parts();
        upstream.next(answer);
        let before = upstream.requests().len();
        let http2 = Http2::with_tls(gateway.address(), &client).expect("TLS settles on HTTP/2");
        let field = format!("{SESSION}={cookie}");
        let exchange = http2.begin("GET", "/events", &[("cookie", &field)], true);
        upstream.wait_for(before + 1);
        (wire, http2, exchange, [rest_over_tls, rest])
    });
    gateway.upgrade();
    let listed = gateway.admin("GET", "/sessions?subject=alice", "").json();
    let id = listed["sessions"][0]["id"].as_str().expect("alice has a session").to_owned();
    assert_eq!(gateway.admin("DELETE", &format!("/sessions/{id}"), "").status(), 204);
    let ended = now();
    let [(mut wire, http2, exchange, gates), (mut others_wire, others_http2, others_exchange, others_gates)] =
        running;
    assert!(wire.closes_within(CUT_WITHIN), "the stream over TLS goes on");
    let reply = http2.finish(exchange.response);
    assert!(reply.as_ref().map_or(true, |reply| reply.reset.is_some()), "{reply:?}");
    assert!(ended.elapsed() < 2 * CUT_WITHIN, "the stream of HTTP/2 went on");
    assert!(!others_wire.closes_or_answers(Duration::from_millis(300)), "nobody else's");
    for gate in gates.iter().chain(others_gates.iter()) {
        // Where the stream was cut nobody waits any more.
        let _ = gate.send(());
    }
    assert_eq!(others_wire.read_exactly(5), b" last");
    let reply = others_http2.finish(others_exchange.response).expect("an answer");
    assert_eq!((reply.text().as_str(), reply.reset), ("first last", None));
    drop((wire, http2, others_wire, others_http2));
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
}

/// Why a request of HTTP/2 failed, unless it was told to come again: by GOAWAY, or `REFUSED_STREAM` (RFC 9113 §8.7).
fn failure(error: &h2::Error) -> Option<String> {
    let again = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    (!again && error.reason() != Some(Reason::REFUSED_STREAM)).then(|| error.to_string())
}

/// Asks over connections of HTTP/2, a new one where the last has said goodbye.
fn over_http2(
    open: impl Fn() -> io::Result<Http2>,
    cookie: &str,
    stop: &AtomicBool,
    count: &AtomicUsize,
) -> Result<(), String> {
    let field = format!("{SESSION}={cookie}");
    let mut http2: Option<Http2> = None;
    while !stop.load(Ordering::Relaxed) {
        let connection = match http2.take() {
            Some(kept) => kept,
            None => open().map_err(|error| format!("connect: {error}"))?,
        };
        let uri = format!("http://{HOST}/page");
        let begun = connection.try_begin(&uri, "GET", &[("cookie", &field)], true);
        match begun.and_then(|exchange| connection.finish(exchange.response)) {
            Ok(reply) if reply.status == 200 && reply.reset.is_none() => {
                count.fetch_add(1, Ordering::Relaxed);
                http2 = Some(connection);
            }
            Ok(reply) => return Err(format!("{reply:?}")),
            Err(error) => {
                if let Some(why) = failure(&error) {
                    return Err(why);
                }
            }
        }
        pause(Duration::from_millis(2));
    }
    Ok(())
}

/// Asks over TLS, each time over a new connection or over one that stays while it may.
fn over_tls(
    address: SocketAddr,
    client: &Client,
    keeps: bool,
    cookie: &str,
    stop: &AtomicBool,
    count: &AtomicUsize,
) -> Result<(), String> {
    let mut kept: Option<Wire> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut wire = match kept.take() {
            Some(wire) => wire,
            None => Wire::over(client.connect(address).map_err(|error| format!("handshake: {error}"))?),
        };
        wire.try_write(get("/page", cookie)).map_err(|error| format!("write: {error}"))?;
        let answer = wire.try_response_to("GET").map_err(|error| format!("read: {error}"))?;
        let answer = answer.ok_or("closed without an answer")?;
        if answer.status() != 200 {
            return Err(answer.text());
        }
        count.fetch_add(1, Ordering::Relaxed);
        if keeps && answer.header("connection").as_deref() != Some("close") {
            kept = Some(wire);
        }
        pause(Duration::from_millis(2));
    }
    Ok(())
}

/// Tells the visitors that it is over, also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_refused_or_cut_off_in_a_loop_of_upgrades() {
    let upstream = Upstream::answering(|_| Answer::ok(&[]));
    let authority = Authority::new("ours");
    let mut gateway = replaceable(&upstream, &authority);
    let client = Client::trusting(&authority);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.cookie(SESSION).expect("who is signed in has a cookie");
    drop(alice);
    let (address, second) = (gateway.address(), gateway.port("second"));
    let (stop, counts) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 4]);
    std::thread::scope(|scope| {
        let visitors = [
            scope.spawn(|| over_tls(address, &client, true, &cookie, &stop, &counts[0])),
            scope.spawn(|| over_tls(address, &client, false, &cookie, &stop, &counts[1])),
            scope.spawn(|| over_http2(|| Http2::with_tls(address, &client), &cookie, &stop, &counts[2])),
            scope.spawn(|| over_http2(|| Ok(Http2::to(second)), &cookie, &stop, &counts[3])),
        ];
        let over = Over(&stop);
        for _ in 0..UPGRADES {
            gateway.upgrade();
            assert_eq!(gateway.former_end(PATIENCE), Some(()));
        }
        drop(over);
        for visitor in visitors {
            assert_eq!(visitor.join().expect("visitors do not panic"), Ok(()));
        }
    });
    for count in counts {
        assert!(count.into_inner() > 2 * UPGRADES, "each kind of visitor was there all the time");
    }
}
