//! A new process takes over from the one that serves: nobody is refused, nobody signed out, and whatever ended stays so.

use crate::support::command::vestibule;
use crate::support::wait::{PATIENCE, pause, until};
use crate::support::{Answer, Browser, Gateway, HOST, Message, SESSION, Setup, Upstream, Wire};
use rustix::process::Signal;
use serde_json::json;
use std::io;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const MEMORY: &str = "{ per_subject: { max: 100000 }, anonymous: {} }";
const SQLITE: &str = "{ store: { sqlite: sessions.db }, per_subject: { max: 100000 }, anonymous: {} }";

/// A gateway that another process may take over from.
fn replaceable(upstream: &Upstream, sessions: &str) -> Setup {
    Setup::before(upstream).set("upgrade", "{ socket: run/upgrade.sock }").set("sessions", sessions).routes(&[
        "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
        "{ name: public, host: wiki.example.com, path: /public, access: public, upstream: app }",
        "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
           access: { sign_in: [local], allow: everyone } }",
    ])
}

/// A browser with this session.
fn with_cookie<'a>(gateway: &'a Gateway, cookie: &str) -> Browser<'a> {
    let browser = gateway.browser();
    browser.set_cookie(SESSION, cookie);
    browser
}

fn signed_in(gateway: &Gateway, user: &str) -> String {
    let browser = gateway.browser();
    browser.sign_in(user);
    browser.cookie(SESSION).expect("who is signed in has a cookie")
}

/// The id of a session, as its owner is told.
fn id_of(gateway: &Gateway, user: &str) -> String {
    let listed = gateway.admin("GET", &format!("/sessions?subject={user}"), "").json();
    listed["sessions"][0]["id"].as_str().unwrap_or_else(|| panic!("{user} has none: {listed}")).to_owned()
}

fn ask(wire: &mut Wire, method: &str, target: &str, cookie: &str, fields: &str) -> Message {
    wire.write(format!(
        "{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {SESSION}={cookie}\r\n{fields}\r\n"
    ));
    wire.response_to(method)
}

#[test]
fn sessions_their_data_and_their_ends_go_over() {
    for sessions in [MEMORY, SQLITE] {
        let upstream = Upstream::prompted();
        let mut gateway = replaceable(&upstream, sessions).start();
        let (alice, visitor, stolen) = {
            let (alice, bob, visitor) = (gateway.browser(), gateway.browser(), gateway.browser());
            alice.sign_in("alice");
            alice.keep("/page", "{\"cart\": [1, 2]}");
            bob.sign_in("bob");
            visitor.keep("/shop", "{\"seen\": 1}");
            let stolen = bob.stolen_cookie();
            assert_eq!(bob.sign_out(false).status(), 200);
            (alice.cookie(SESSION).expect("a cookie"), visitor.cookie(SESSION).expect("a cookie"), stolen)
        };
        let before = gateway.admin("GET", "/sessions?subject=alice", "").json();
        for _ in 0..2 {
            gateway.upgrade();
            assert_eq!(gateway.former_end(PATIENCE), Some(()));
            let browser = with_cookie(&gateway, &alice);
            assert_eq!(browser.data("/page"), Some(json!({ "cart": [1, 2] })));
            assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
            assert_eq!(with_cookie(&gateway, &visitor).data("/shop"), Some(json!({ "seen": 1 })));
            let after = gateway.admin("GET", "/sessions?subject=alice", "").json();
            for part in ["id", "started_at", "ends_at", "sign_in", "client"] {
                assert_eq!(after["sessions"][0][part], before["sessions"][0][part], "{after}");
            }
            let bob = gateway.get("/page").header("Cookie", &stolen).send();
            assert_eq!(bob.status(), 401);
            assert_eq!(gateway.access_line(&bob)["reason"], "sign_out", "the reason is known still");
        }
        let alice = with_cookie(&gateway, &alice);
        alice.keep("/page", "{\"cart\": null, \"more\": true}");
        assert_eq!(alice.data("/page"), Some(json!({ "more": true })));
        assert_eq!(alice.sign_out(false).status(), 200);
        assert!(!alice.is_signed_in());
    }
}

#[test]
fn what_happens_at_the_former_process_counts_at_the_new_one_and_the_other_way_round() {
    for sessions in [MEMORY, SQLITE] {
        let upstream = Upstream::prompted();
        let mut gateway = replaceable(&upstream, sessions).start();
        let names = ["alice", "bob"];
        let [alice, bob] = names.map(|user| signed_in(&gateway, user));
        // Connections of the former process, each good for one more request.
        let mut kept: Vec<Wire> = (0..6).map(|_| gateway.connect()).collect();
        for wire in &mut kept {
            assert_eq!(ask(wire, "GET", "/public", "none", "").status(), 200);
        }
        let mut next = || kept.pop().expect("there is one more");
        gateway.upgrade();

        // A patch here is seen there, and the other way round.
        let patch = |patch: &str| format!("Say-X-Session-Patch: {patch}\r\n");
        assert_eq!(ask(&mut next(), "GET", "/page", &alice, &patch("{\"a\": 1}")).status(), 200);
        let browser = with_cookie(&gateway, &alice);
        assert_eq!(browser.data("/page"), Some(json!({ "a": 1 })));
        browser.keep("/page", "{\"b\": 2}");
        let mut wire = next();
        assert_eq!(ask(&mut wire, "GET", "/page", &alice, &patch("{\"c\": 3}")).status(), 200);
        assert!(wire.closes_within(PATIENCE), "it was told that this is the last answer");
        assert_eq!(browser.data("/page"), Some(json!({ "a": 1, "b": 2, "c": 3 })));

        // A sign-in there is one here, on the spot.
        let late = signed_in(&gateway, "alice");
        assert_eq!(ask(&mut next(), "GET", "/page", &late, "").status(), 200);

        // A sign-out there is one here.
        assert_eq!(with_cookie(&gateway, &bob).sign_out(false).status(), 200);
        assert_eq!(ask(&mut next(), "GET", "/page", &bob, "").status(), 401);

        // A sign-out here is one there.
        let script = "Sec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n";
        let gone = ask(&mut next(), "DELETE", "/_vestibule/session", &late, script);
        assert!(gone.status() < 300, "{}", gone.text());
        assert!(!with_cookie(&gateway, &late).is_signed_in());

        // A sign-in here is one there.
        let opened = {
            let page = with_cookie(&gateway, "none").get("/_vestibule/login").send();
            assert_eq!(page.status(), 200);
            let form_token = crate::support::client::hidden_field(&page.text(), "form_token");
            let form_cookie = page.all("set-cookie")[0].split(';').next().unwrap_or_default().to_owned();
            let password = crate::support::users::password_of("bob");
            gateway.secrets().note_ours("the password of bob", &password);
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs([("user", "bob"), ("password", &password), ("form_token", &form_token)]);
            let form = form.finish();
            let mut wire = next();
            wire.write(format!(
                "POST /_vestibule/login HTTP/1.1\r\nHost: {HOST}\r\nCookie: {form_cookie}\r\nOrigin: https://{HOST}\r\n\
                 Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                form.len()
            ));
            let answer = wire.response_to("POST");
            assert_eq!(answer.status(), 303, "{}", answer.text());
            let cookies = answer.all("set-cookie");
            let prefix = format!("{SESSION}=");
            let found = cookies.iter().find_map(|line| line.strip_prefix(&prefix));
            found.and_then(|value| value.split(';').next()).expect("a session").to_owned()
        };
        gateway.secrets().note_ours("a session", &opened);
        assert!(with_cookie(&gateway, &opened).is_signed_in());
        assert_eq!(gateway.former_end(PATIENCE), Some(()), "nothing runs there any more");
        assert!(with_cookie(&gateway, &opened).is_signed_in());
    }
}

/// An answer that goes on until the other end is gone.
fn endless() -> Answer {
    Answer::talk(|stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        drop(stream.write_all(format!("{head}5\r\nhello\r\n").as_bytes()));
        drop(stream.read(&mut [0; 1]));
    })
}

#[test]
fn a_stream_of_the_former_process_goes_on_and_is_cut_when_its_session_ends_at_the_new_one() {
    let upstream = Upstream::recording();
    let mut gateway = replaceable(&upstream, MEMORY).start();
    let [alice, bob] = ["alice", "bob"].map(|user| signed_in(&gateway, user));
    let mut streams = Vec::new();
    for cookie in [&alice, &bob] {
        upstream.next(endless());
        let mut wire = gateway.connect();
        wire.write(format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nCookie: {SESSION}={cookie}\r\n\r\n"));
        assert_eq!(wire.head().status(), 200);
        assert_eq!(wire.read_exactly(10), b"5\r\nhello\r\n");
        streams.push(wire);
    }
    gateway.upgrade();
    let ended = gateway.admin("DELETE", &format!("/sessions/{}", id_of(&gateway, "alice")), "");
    assert_eq!(ended.status(), 204);
    assert!(
        streams[0].closes_within(Duration::from_millis(1500)),
        "within a second, and some for a busy machine"
    );
    assert!(!streams[1].closes_or_answers(Duration::from_millis(300)), "nobody else's");
    assert!(gateway.former_end(Duration::from_millis(100)).is_none(), "a stream runs there");
    // Whoever takes over next waits until there is only one process.
    gateway.start_upgrade();
    assert!(!streams[1].closes_or_answers(Duration::from_millis(500)));
    gateway.signal_former(Signal::TERM);
    assert!(streams[1].closes_within(PATIENCE));
    until("the third process serves", || (gateway.started() == 3).then_some(()));
    assert!(with_cookie(&gateway, &bob).is_signed_in());
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
}

/// What a process says that was to take over and did not.
fn refused(gateway: &mut Gateway, code: i32) -> String {
    gateway.start_upgrade();
    assert_eq!(gateway.upgrade_failed().code(), Some(code));
    gateway.everything().join("\n")
}

/// Half of an upgrade, which the process has begun: it may not have noticed yet that the one before is gone.
fn welcomed(gateway: &Gateway) -> UnixStream {
    until("it listens again", || {
        let mut socket = half_way(gateway, VERSION);
        let (kind, _) = message(&mut socket).ok()?;
        (kind != REFUSED).then_some(socket)
    })
}

/// Everything goes on: reads, writes, newcomers.
fn serves(gateway: &Gateway, cookie: &str) {
    let alice = with_cookie(gateway, cookie);
    assert!(alice.is_signed_in());
    let count = alice.data("/page").and_then(|data| data["count"].as_u64()).unwrap_or(0) + 1;
    alice.keep("/page", &format!("{{\"count\": {count}}}"));
    assert_eq!(alice.data("/page"), Some(json!({ "count": count })));
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert!(bob.is_signed_in());
    assert_eq!(bob.sign_out(false).status(), 200);
    assert!(!bob.is_signed_in());
    assert_eq!(gateway.admin("GET", "/readyz", "").status(), 200);
}

/// Takes part in a hand-over up to some point: says hello in this version, and reads what comes until the listeners are through.
fn half_way(gateway: &Gateway, version: u8) -> UnixStream {
    let mut socket =
        UnixStream::connect(gateway.folder().path().join("run/upgrade.sock")).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let hello = [&[22, 0, 0, 0, 1][..], b"vestibule upgrade", &[version, 0, 0, 0, 0]].concat();
    socket.write_all(&hello).expect("it reads");
    socket
}

/// The next message: its kind and its body.
fn message(socket: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    socket.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body)?;
    Ok((head[4], body))
}

/// Reads until a message of this kind.
fn up_to(socket: &mut UnixStream, kind: u8) {
    while message(socket).expect("the process goes on speaking").0 != kind {}
}

/// Of the hand-over.
const VERSION: u8 = 2;
const REFUSED: u8 = 2;
const GO: u8 = 6;
const CUT: u8 = 9;
const GO_FRAME: [u8; 5] = [0, 0, 0, 0, GO];

#[test]
fn a_hand_over_that_fails_changes_nothing() {
    for sessions in [MEMORY, SQLITE] {
        let upstream = Upstream::prompted();
        let mut gateway = replaceable(&upstream, sessions).start();
        let cookie = signed_in(&gateway, "alice");
        let mut kept = gateway.connect();
        assert_eq!(ask(&mut kept, "GET", "/page", &cookie, "").status(), 200);

        // Another version is told so.
        let (kind, body) = message(&mut half_way(&gateway, 77)).expect("it answers");
        let told = String::from_utf8_lossy(&body[4..]).into_owned();
        assert!(kind == REFUSED && told.contains("speaks version 77") && told.contains("restart"), "{told}");
        serves(&gateway, &cookie);

        // Gone after the hello, while it loads, while sessions come, and after the cut.
        drop(half_way(&gateway, VERSION));
        let mut loading = welcomed(&gateway);
        up_to(&mut loading, GO);
        let (kind, _) = message(&mut half_way(&gateway, VERSION)).expect("it answers");
        assert_eq!(kind, REFUSED, "there is one at a time");
        drop(loading);
        for last in [GO, CUT] {
            let mut socket = welcomed(&gateway);
            up_to(&mut socket, GO);
            socket.write_all(&GO_FRAME).expect("it reads");
            up_to(&mut socket, last);
            drop(socket);
            serves(&gateway, &cookie);
        }

        // A process that is there, and does not take.
        let mut silent = welcomed(&gateway);
        up_to(&mut silent, GO);
        silent.write_all(&GO_FRAME).expect("it reads");
        up_to(&mut silent, CUT);
        serves(&gateway, &cookie);
        assert!(silent.write_all(&[0, 0, 0, 0, 10]).is_err(), "it is too late to take");

        // A file with a mistake, and one that means other sessions.
        let routes = gateway.section("routes");
        gateway.change("routes", "[{ name: broken }]");
        assert!(refused(&mut gateway, 2).contains("routes"));
        gateway.change("routes", &routes);
        let other = if sessions == MEMORY { SQLITE } else { MEMORY };
        gateway.change("sessions", other);
        assert!(refused(&mut gateway, 1).contains("that needs a restart"));
        gateway.change("sessions", sessions);
        // An address that somebody has.
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = taken.local_addr().expect("it is bound");
        gateway.change("probes", &format!("{{ address: \"{address}\" }}"));
        assert!(refused(&mut gateway, 1).contains("is another process listening there?"));

        assert_eq!(
            ask(&mut kept, "GET", "/page", &cookie, "").status(),
            200,
            "its connection was left alone"
        );
        serves(&gateway, &cookie);
        drop((taken, kept));
        gateway.upgrade();
        assert_eq!(gateway.former_end(PATIENCE), Some(()), "and now it goes");
        serves(&gateway, &cookie);
    }
}

#[test]
fn a_former_process_that_does_not_answer_lets_nobody_pass_any_more() {
    let upstream = Upstream::recording();
    let mut gateway = replaceable(&upstream, MEMORY).start();
    let alice = signed_in(&gateway, "alice");
    let mut kept = gateway.connect();
    assert_eq!(ask(&mut kept, "GET", "/page", &alice, "").status(), 200);
    gateway.upgrade();
    gateway.signal_former(Signal::STOP);
    // It cannot hear of this; whoever ends the session is answered all the same.
    assert_eq!(with_cookie(&gateway, &alice).sign_out(false).status(), 200);
    assert!(kept.closes_within(PATIENCE), "it is ended");
    assert!(!with_cookie(&gateway, &alice).is_signed_in());
}

#[test]
fn a_former_process_ends_when_the_new_one_does() {
    let upstream = Upstream::recording();
    let mut gateway = replaceable(&upstream, MEMORY).start();
    let alice = signed_in(&gateway, "alice");
    let mut kept = gateway.connect();
    assert_eq!(ask(&mut kept, "GET", "/page", &alice, "").status(), 200);
    gateway.upgrade();
    gateway.kill();
    let told = || gateway.everything().join("\n");
    assert!(kept.closes_within(PATIENCE), "what it knows may be wrong by now:\n{}", told());
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
}

#[test]
fn listeners_are_those_of_the_new_file() {
    let upstream = Upstream::recording();
    let mut gateway = replaceable(&upstream, MEMORY).start();
    gateway.change(
        "listeners",
        "[{ address: \"127.0.0.1:{second}\", external: { scheme: https } }, { address: \"127.0.0.1:{public}\", external: { scheme: https } }]",
    );
    gateway.upgrade();
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
    for port in ["public", "second"] {
        assert_eq!(
            ask(&mut Wire::to(gateway.port(port)), "GET", "/public", "none", "").status(),
            200,
            "{port}"
        );
    }
    gateway.change("listeners", "[{ address: \"127.0.0.1:{second}\", external: { scheme: https } }]");
    gateway.upgrade();
    assert_eq!(gateway.former_end(PATIENCE), Some(()));
    assert!(TcpStream::connect(gateway.port("public")).is_err(), "it is gone with the file that named it");
    assert_eq!(ask(&mut Wire::to(gateway.port("second")), "GET", "/public", "none", "").status(), 200);
}

#[test]
fn a_folder_that_lets_others_in_is_refused() {
    let upstream = Upstream::recording();
    let folder = replaceable(&upstream, MEMORY).write();
    std::fs::create_dir(folder.path().join("run")).expect("the folder takes folders");
    std::fs::set_permissions(folder.path().join("run"), std::fs::Permissions::from_mode(0o755))
        .expect("it is ours");
    let started = vestibule(folder.path(), &["run", "-c", "vestibule.yaml"], "");
    assert!(started.code == 1 && started.err.contains("lets other users in"), "{started:?}");
    assert!(started.err.contains("0700"), "{started:?}");
    std::fs::set_permissions(folder.path().join("run"), std::fs::Permissions::from_mode(0o700))
        .expect("it is ours");
    let started = vestibule(folder.path(), &["run", "--upgrade", "-c", "vestibule.yaml"], "");
    assert!(started.code == 1 && started.err.contains("start without `--upgrade`"), "{started:?}");
    let asked = vestibule(folder.path(), &["upgrade", "-c", "vestibule.yaml"], "");
    assert!(asked.code == 1 && asked.err.contains("nobody answers"), "{asked:?}");
}

/// What visitors meet with in the loop.
#[derive(Default)]
struct Met {
    requests: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Met {
    fn fails(&self, what: &str) {
        self.failures.lock().expect("no panic under the lock").push(what.to_owned());
    }
}

/// One request over a connection that may be the last answer's; why it failed, if it did.
fn one(stream: &mut Option<TcpStream>, address: SocketAddr, request: &str) -> Result<u16, String> {
    let mut fresh = match stream.take() {
        Some(kept) => kept,
        None => TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?,
    };
    fresh.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    fresh.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut ahead = Vec::new();
    let head = crate::support::message::read_head(&mut fresh, &mut ahead)
        .map_err(|error| format!("read: {error}"))?
        .ok_or("closed without an answer")?;
    let mut message = Message { head, ..Message::default() };
    let body = crate::support::message::response_body(&message, "GET");
    crate::support::message::read_body(&mut fresh, &mut ahead, &mut message, body)
        .map_err(|error| format!("body: {error}"))?;
    if message.header("connection").as_deref() != Some("close") {
        *stream = Some(fresh);
    }
    Ok(message.status())
}

fn visiting(
    address: SocketAddr,
    request: String,
    expected: u16,
    keeps: bool,
    stop: &Arc<AtomicBool>,
    met: &Arc<Met>,
) -> JoinHandle<()> {
    let (stop, met) = (stop.clone(), met.clone());
    std::thread::spawn(move || {
        let mut kept = None;
        while !stop.load(Ordering::Relaxed) {
            match one(&mut kept, address, &request) {
                Ok(status) if status == expected => {}
                Ok(status) => met.fails(&format!("{status} for {request}")),
                Err(error) => met.fails(&error),
            }
            met.requests.fetch_add(1, Ordering::Relaxed);
            if !keeps {
                kept = None;
            }
            pause(Duration::from_millis(2));
        }
    })
}

fn twenty_upgrades(sessions: &str) {
    let upstream = Upstream::prompted();
    let mut gateway = replaceable(&upstream, sessions).start();
    let (alice, counted) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let ended = signed_in(&gateway, "bob");
    assert_eq!(with_cookie(&gateway, &ended).sign_out(false).status(), 200);
    let (stop, met) = (Arc::new(AtomicBool::new(false)), Arc::new(Met::default()));
    let get = |target: &str, cookie: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {SESSION}={cookie}\r\n\r\n")
    };
    let address = gateway.address();
    let mut visitors = Vec::new();
    for keeps in [true, false] {
        for (request, expected) in
            [(get("/page", &alice), 200), (get("/public", "none"), 200), (get("/page", &ended), 401)]
        {
            visitors.push(visiting(address, request, expected, keeps, &stop, &met));
        }
    }
    // Counts up in a session's data, by turns over connections that stay and that do not.
    let acknowledged = Arc::new(AtomicUsize::new(0));
    visitors.push({
        let (stop, met, acknowledged) = (stop.clone(), met.clone(), acknowledged.clone());
        let counted = counted.clone();
        std::thread::spawn(move || {
            let mut kept = None;
            while !stop.load(Ordering::Relaxed) {
                let number = acknowledged.load(Ordering::Relaxed) + 1;
                let request = format!(
                    "GET /page HTTP/1.1\r\nHost: {HOST}\r\nCookie: {SESSION}={counted}\r\nSay-X-Session-Patch: {{\"n\":{number}}}\r\n\r\n"
                );
                match one(&mut kept, address, &request) {
                    Ok(200) => acknowledged.store(number, Ordering::Relaxed),
                    Ok(status) => met.fails(&format!("{status} for a patch")),
                    Err(error) => met.fails(&error),
                }
                if number % 3 == 0 {
                    kept = None;
                }
                pause(Duration::from_millis(2));
            }
        })
    });
    let mut late = Vec::new();
    let mut gone = Vec::new();
    for _ in 0..20 {
        let opened = gateway.admin("POST", "/sessions", "{\"subject\": \"bob\"}");
        assert_eq!(opened.status(), 201, "{}", opened.text());
        let cookie = opened.json()["cookie"]["value"].as_str().expect("a value").to_owned();
        gateway.secrets().note_ours("a session", &cookie);
        late.push(cookie);
        gateway.upgrade();
        if late.len() % 2 == 0 {
            let cookie = late.pop().expect("there is one");
            assert_eq!(with_cookie(&gateway, &cookie).sign_out(false).status(), 200);
            gone.push(cookie);
        }
        assert_eq!(gateway.former_end(PATIENCE), Some(()));
        let told = acknowledged.load(Ordering::Relaxed);
        let data = with_cookie(&gateway, &counted).data("/page").expect("it keeps data");
        let kept = data["n"].as_u64().unwrap_or(0);
        assert!(kept >= told as u64, "{told} patches were acknowledged, the last one is {kept}");
        assert_eq!(*met.failures.lock().expect("no panic under the lock"), [] as [String; 0]);
    }
    stop.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.join().expect("visitors do not panic");
    }
    assert_eq!(*met.failures.lock().expect("no panic under the lock"), [] as [String; 0]);
    assert!(met.requests.load(Ordering::Relaxed) > 500);
    let data = with_cookie(&gateway, &counted).data("/page").expect("it keeps data");
    assert_eq!(data["n"].as_u64(), Some(acknowledged.load(Ordering::Relaxed) as u64), "no patch was lost");
    assert!(late.iter().all(|cookie| with_cookie(&gateway, cookie).is_signed_in()), "no sign-in was lost");
    assert!(gone.iter().all(|cookie| !with_cookie(&gateway, cookie).is_signed_in()), "no session came back");
}

#[test]
fn twenty_upgrades_under_load_in_memory() {
    twenty_upgrades(MEMORY);
}

#[test]
fn twenty_upgrades_under_load_with_a_store_on_disk() {
    twenty_upgrades(SQLITE);
}
