//! Reloads while requests run: none fails, none sees half of two files, and streams go on unless the new file refuses them.

use crate::support::client::NAVIGATION;
use crate::support::wait::{PATIENCE, pause, until};
use crate::support::{Answer, Browser, Gateway, HOST, SESSION, Setup, Upstream, Wire};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Enough that a reload takes a while.
const ROUTES: usize = 1_000;
const RELOADS: usize = 15;

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// So many requests at least, over several connections; `REQUESTS` says otherwise.
fn requests() -> usize {
    std::env::var("REQUESTS").ok().and_then(|requests| requests.parse().ok()).unwrap_or(20_000)
}

/// The routes of one file, which calls itself `name` in requests and in answers.
fn routes(name: &str, allow: &str) -> String {
    let headers = format!(
        "headers: {{ request: {{ set: {{ X-File: {name} }} }}, response: {{ set: {{ X-File: {name} }} }} }}"
    );
    let mut routes: Vec<String> = (0..ROUTES)
        .map(|number| {
            format!(
                "{{ name: r{number}, host: h{number}.example.com, path: /, access: public, upstream: app }}"
            )
        })
        .collect();
    routes.push(format!(
        "{{ name: public, host: {HOST}, path: /public, access: public, {headers}, upstream: app }}"
    ));
    routes.push(format!(
        "{{ name: wiki, host: {HOST}, path: /, access: {{ sign_in: [local], allow: {allow} }}, {headers}, upstream: app }}"
    ));
    format!("[{}]", routes.join(",\n"))
}

/// Asks again and again until it is told to stop; each answer belongs to one file.
fn asking(
    address: SocketAddr,
    cookie: String,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    lasting: bool,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut wire = Wire::to(address);
        while !stop.load(Ordering::Relaxed) {
            for request in [
                format!("GET /public/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
                format!("GET /page HTTP/1.1\r\nHost: {HOST}\r\nCookie: {SESSION}={cookie}\r\n\r\n"),
                format!("POST /public HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello"),
            ] {
                if !lasting {
                    wire = Wire::to(address);
                }
                wire.write(request);
                let answer = wire.response();
                assert_eq!(answer.status(), 200, "{}", answer.text());
                let (asked, told) = (answer.header("x-seen"), answer.header("x-file"));
                assert!(
                    told.is_some() && asked == told,
                    "the request was of {asked:?}, the answer of {told:?}"
                );
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

fn websocket(browser: &Browser<'_>, gateway: &Gateway) -> Wire {
    let mut wire = gateway.connect();
    let answer = browser.get("/page").headers(&HANDSHAKE).send_over(&mut wire);
    assert_eq!(answer.status(), 101);
    wire
}

fn echoes(wire: &mut Wire) {
    wire.write(b"\x81\x85\x01\x02\x03\x04abcde");
    assert_eq!(wire.read_exactly(11), b"\x81\x85\x01\x02\x03\x04abcde");
}

#[test]
fn thousands_of_requests_run_through_reloads_and_none_fails() {
    let requests = requests();
    let upstream = Upstream::answering(|request| {
        if request.header("upgrade").is_some() {
            return Answer::talk(crate::support::upstream::echo);
        }
        Answer::ok(&[("X-Seen", &request.header("x-file").unwrap_or_default())])
    });
    let mut gateway = Setup::before(&upstream).set("routes", &routes("a", "everyone")).start();
    let (alice, bob) = ("alice", "bob");
    let cookies = [alice, bob].map(|user| {
        let browser = gateway.browser();
        browser.sign_in(user);
        browser.cookie(SESSION).expect("who is signed in has a cookie")
    });
    let streams = |gateway: &Gateway| {
        cookies.clone().map(|cookie| {
            let browser = gateway.browser();
            browser.set_cookie(SESSION, &cookie);
            websocket(&browser, gateway)
        })
    };
    let [mut of_alice, mut of_bob] = streams(&gateway);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let visitors: Vec<JoinHandle<()>> = (0..4)
        .map(|number| asking(gateway.address(), cookies[0].clone(), stop.clone(), count.clone(), number != 0))
        .collect();
    let mut reloads = 0;
    while reloads < RELOADS || count.load(Ordering::Relaxed) < requests {
        reloads += 1;
        let name = if reloads % 2 == 0 { "a" } else { "b" };
        gateway.reload_with("routes", &routes(name, "everyone"));
        assert!(visitors.iter().all(|visitor| !visitor.is_finished()), "a request has failed");
        // Nobody else keeps them busy, and the application gives up who is silent for long.
        echoes(&mut of_alice);
        echoes(&mut of_bob);
        pause(Duration::from_secs(1));
    }
    // The next file refuses bob; alice goes on as if nothing had happened.
    gateway.reload_with("routes", &routes("c", "{ groups: [ops] }"));
    assert!(of_bob.closes_or_answers(PATIENCE), "bob's stream is cut");
    let line = gateway.wait_for_line("of the cut", |line| line["decision"] == "cut");
    assert_eq!((line["reason"].as_str(), line["subject"].as_str()), (Some("not_allowed"), Some("bob")));
    echoes(&mut of_alice);
    stop.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.join().expect("every request was answered");
    }
    assert!(count.load(Ordering::Relaxed) >= requests);
}

#[test]
fn what_needs_a_restart_is_said_by_name_and_the_rest_is_in_force() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream)
        .set(
            "listeners",
            "[{ address: \"127.0.0.1:{public}\", external: { scheme: https } }, { address: \"127.0.0.1:{second}\", external: { scheme: https } }]",
        )
        .start();
    let (public, second, door) = (gateway.port("public"), gateway.port("second"), gateway.port("admin"));
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    drop(alice);
    gateway.change(
        "listeners",
        "[{ address: \"127.0.0.1:{public}\", external: { scheme: https }, timeouts: { head: 3s } }]",
    );
    gateway.change("admin", "{ address: \"unix:moved.sock\", token: { file: admin.token } }");
    gateway.change("probes", "{ address: \"127.0.0.1:{probes}\" }");
    gateway.change("sessions", "{ store: { sqlite: sessions.db }, idle_timeout: 20m }");
    gateway.change("routes", "[{ name: all, host: wiki.example.com, path: /, access: { sign_in: [local] }, redirect: { to: \"https://new.example.com/\" } }]");
    let answer = gateway.admin("POST", "/reload", "");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let told = answer.json()["message"].as_str().expect("a text").to_owned();
    for part in [
        format!("needs a restart: listeners[0] ({public}"),
        format!("needs a restart: {second} is gone from the file"),
        "needs a restart: admin.address (".to_owned(),
        "needs a restart: probes.address (".to_owned(),
        "needs a restart: sessions.store (sqlite, ".to_owned(),
    ] {
        assert!(told.contains(&part), "`{part}` is missing: {told}");
    }
    // Both listeners and the old door are there, and all of them by the new file.
    for address in [public, second] {
        let mut wire = Wire::to(address);
        wire.write(format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n"));
        let answer = wire.response();
        assert_eq!(answer.header("location").as_deref(), Some("https://new.example.com/"), "{address}");
    }
    assert_eq!(gateway.get("/public").headers(&NAVIGATION).send().status(), 302, "public no more");
    assert_eq!(gateway.port("admin"), door);
    until("the session shows the new clock", || {
        let session = gateway.admin("GET", "/sessions", "").json()["sessions"][0].clone();
        let minutes =
            |name: &str| session[name].as_str().map(|at| at[14..16].parse::<i32>().expect("minutes"));
        let (used, until) = (minutes("last_used_at")?, minutes("idle_until")?);
        ((until - used).rem_euclid(60) == 20).then_some(())
    });
}
