//! With a store on disk, sessions outlive the process: what was acknowledged is there, what ended stays away.

use crate::support::command::vestibule;
use crate::support::gateway::{ADMIN_TOKEN, session_key};
use crate::support::message::{read_body, read_head, response_body};
use crate::support::users::{self, User};
use crate::support::wait::{self, until};
use crate::support::{Gateway, HOST, Message, SESSION, Setup, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SESSIONS: &str = "{ store: { sqlite: sessions.db }, per_subject: { max: 100000 }, anonymous: {} }";

/// Every page may keep data; the shop is for anybody.
fn durable(upstream: &Upstream) -> Setup {
    Setup::before(upstream).set("sessions", SESSIONS).routes(&[
        "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
        "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
           access: { sign_in: [local], allow: everyone } }",
    ])
}

/// How many sessions of subjects live.
fn live(gateway: &Gateway) -> usize {
    let listed = gateway.admin("GET", "/sessions", "").json();
    listed["sessions"].as_array().expect("a list").len()
}

/// What the command that starts the gateway says when it does not.
fn refusal(gateway: &Gateway) -> String {
    let outcome = vestibule(gateway.folder().path(), &["run", "-c", "vestibule.yaml"], "");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    outcome.err
}

#[test]
fn a_restart_signs_nobody_out_and_nobody_in() {
    let upstream = Upstream::prompted();
    let mut gateway = durable(&upstream).start();
    let stolen = {
        let bob = gateway.browser();
        bob.sign_in("bob");
        let stolen = bob.stolen_cookie();
        assert_eq!(bob.sign_out(false).status(), 200);
        stolen
    };
    let (cookie, visitor) = {
        let (alice, visitor) = (gateway.browser(), gateway.browser());
        alice.sign_in("alice");
        alice.keep("/page", "{\"cart\": [1, 2]}");
        visitor.keep("/shop", "{\"seen\": 1}");
        let cookie = |browser: &crate::support::Browser<'_>| browser.cookie(SESSION).expect("a cookie");
        (cookie(&alice), cookie(&visitor))
    };
    for crashes in [false, true] {
        if crashes {
            gateway.kill();
            gateway.start_again();
        } else {
            gateway.restart();
        }
        let alice = gateway.browser();
        alice.set_cookie(SESSION, &cookie);
        assert_eq!(alice.data("/page"), Some(json!({ "cart": [1, 2] })));
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
        let listed = gateway.admin("GET", "/sessions?subject=alice", "").json();
        assert_eq!(listed["sessions"][0]["sign_in"], "local", "{listed}");
        let bob = gateway.get("/page").header("Cookie", &stolen).send();
        assert_eq!(bob.status(), 401);
        assert_eq!(gateway.access_line(&bob)["reason"], "sign_out", "the reason is known still");
        let back = gateway.browser();
        back.set_cookie(SESSION, &visitor);
        assert_eq!(back.data("/shop"), Some(json!({ "seen": 1 })));
    }
    assert!(gateway.metric("vestibule_store_up") > 0.5);
    assert_eq!(live(&gateway), 1);
}

#[test]
fn what_the_users_file_took_away_while_nothing_ran_is_gone() {
    let upstream = Upstream::prompted();
    let carol = User::new("carol", &["email: carol@example.com", "groups: [dev, ops]"]);
    let all = [users::usual(), vec![carol]].concat();
    let mut gateway = durable(&upstream).users(&all).start();
    let cookies = ["alice", "bob", "carol"].map(|name| {
        let browser = gateway.browser();
        browser.sign_in(name);
        browser.cookie(SESSION).expect("a cookie")
    });
    gateway.signal(Signal::TERM);
    gateway.wait_for_end(wait::PATIENCE).expect("it ends");
    let mut changed = vec![all[0].clone(), all[2].clone()];
    changed[0] = changed[0].clone().with_password("another-password-77");
    changed[1].lines = vec!["groups: [dev, admin]".to_owned()];
    gateway.folder().write("users.yaml", &users::file(&changed));
    gateway.start_again();
    for (cookie, status) in cookies.iter().zip([401, 401, 200]) {
        let page = gateway.get("/page").header("Cookie", &format!("{SESSION}={cookie}")).send();
        assert_eq!(page.status(), status);
        if status == 401 {
            assert_eq!(gateway.access_line(&page)["reason"], "credential");
        }
    }
    let seen = upstream.last();
    let groups = seen.header("x-auth-groups");
    assert_eq!((groups.as_deref(), seen.header("x-auth-email")), (Some("dev"), None), "taken away at once");
    gateway.kill();
    gateway.start_again();
    let alice = gateway.get("/page").header("Cookie", &format!("{SESSION}={}", cookies[0])).send();
    assert_eq!(gateway.access_line(&alice)["reason"], "credential", "and written down");
}

#[test]
fn a_stolen_file_opens_no_session_and_shows_no_names() {
    let upstream = Upstream::prompted();
    let gateway = durable(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/page", "{\"cart\": \"a-book-of-verse\"}");
    let mut looked_at = 0;
    for entry in fs::read_dir(gateway.folder().path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.to_string_lossy().contains("sessions.db") {
            continue;
        }
        looked_at += 1;
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let bytes = fs::read(&path).expect("it can be read");
        let cookie = alice.cookie(SESSION).expect("a cookie");
        for secret in
            ["alice", "example.com", "ops", "support", "a-book-of-verse", "127.0.0.1", &cookie[..30]]
        {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` lies in {}", path.display());
        }
    }
    assert_eq!(looked_at, 3, "the file, its log and its index");
}

#[test]
fn a_full_disk_refuses_what_needs_a_write_and_nothing_else() {
    let upstream = Upstream::prompted();
    let mut gateway = durable(&upstream).start();
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    alice.keep("/page", "{\"n\": 1}");
    let ours = alice.cookie(SESSION).expect("a cookie");
    gateway.limit_file_bytes(Some(4096));

    let refused = alice.get("/page").patch("{\"n\": 2}").send();
    assert_eq!(refused.status(), 503, "{}", refused.text());
    assert_eq!(refused.header("set-cookie"), None, "the cookie is kept");
    assert_eq!(alice.data("/page"), Some(json!({ "n": 1 })), "who is signed in is served");
    let told = gateway.audit("store_down");
    let detail = told["detail"].as_str().expect("it says why");
    assert!(detail.contains("look at the disk, its free space and its quota"), "{detail}");
    assert!(gateway.metric("vestibule_store_up") < 0.5);
    let ready = gateway.admin("GET", "/readyz", "");
    assert_eq!(ready.status(), 200);
    assert!(ready.text().contains("store: cannot be written since"), "{}", ready.text());
    assert_eq!(gateway.browser().try_sign_in("alice", &users::password_of("alice"), "/").status(), 503);
    let opened = gateway.admin("POST", "/sessions", "{\"subject\": \"alice\"}");
    assert_eq!(opened.status(), 503, "{}", opened.text());
    let out = bob.sign_out(false);
    assert_eq!(out.status(), 503, "{}", out.text());
    assert!(!bob.is_signed_in(), "in force all the same");
    assert!(gateway.metric("vestibule_store_backlog") >= 1.0);

    gateway.limit_file_bytes(None);
    gateway.audit("store_up");
    until("it can be written again", || (gateway.metric("vestibule_store_up") > 0.5).then_some(()));
    assert!(!gateway.admin("GET", "/readyz", "").text().contains("store:"));
    alice.keep("/page", "{\"n\": 3}");
    let stolen = format!("{SESSION}={}", bob.cookie(SESSION).unwrap_or_default());
    let events = gateway.lines().iter().filter(|line| line["event"] == "store_down").count();
    assert_eq!(events, 1, "told when it changes, and not again");
    gateway.kill();
    gateway.start_again();
    let alice = gateway.browser();
    alice.set_cookie(SESSION, &ours);
    assert_eq!(alice.data("/page"), Some(json!({ "n": 3 })));
    assert_eq!(gateway.get("/page").header("Cookie", &stolen).send().status(), 401);
    assert_eq!(live(&gateway), 1, "bob's end was written");
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_remedy_and_stays_as_it_is() {
    let upstream = Upstream::prompted();
    let mut gateway = durable(&upstream).start();
    gateway.browser().sign_in("alice");
    gateway.signal(Signal::TERM);
    gateway.wait_for_end(wait::PATIENCE).expect("it ends");
    let path = gateway.folder().path().join("sessions.db");
    let good = fs::read(&path).expect("the file is there");
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&7_u32.to_be_bytes());
    let mut torn = good.clone();
    torn[4096..].fill(0xAA);
    for (bytes, told) in [
        (newer, "was written by a newer vestibule (schema 7, this one knows 2); start that version again"),
        (torn, "is damaged (database disk image is malformed); restore a backup of it"),
        (good[..4096 * 2].to_vec(), "is damaged"),
        (b"anything else that people keep in files".repeat(100), "is not a session store of vestibule"),
    ] {
        fs::write(&path, &bytes).expect("the folder takes files");
        let refusal = refusal(&gateway);
        assert!(refusal.contains(told) && refusal.contains("sessions.db"), "{refusal}");
        assert!(fs::read(&path).expect("the file is there") == bytes, "{told}");
    }
    fs::write(&path, &good).expect("the folder takes files");
    gateway.start_again();
    assert_eq!(live(&gateway), 1);

    let second = refusal(&gateway);
    assert!(second.contains("is in use by another process; stop that one"), "{second}");
    let end =
        ["sessions", "end", "--offline", "-c", "vestibule.yaml", "--opened-before", "2999-01-01T00:00:00Z"];
    let outcome = vestibule(gateway.folder().path(), &end, "");
    assert_eq!(outcome.code, 1);
    assert!(outcome.err.contains("while the gateway runs, leave --offline out"), "{}", outcome.err);
    gateway.signal(Signal::TERM);
    gateway.wait_for_end(wait::PATIENCE).expect("it ends");
    fs::remove_file(&path).expect("the file is there");
    fs::create_dir(&path).expect("the folder takes folders");
    let outcome = vestibule(gateway.folder().path(), &["run", "-c", "vestibule.yaml"], "");
    assert_eq!(outcome.code, 2, "the path is wrong in the file: {outcome:?}");
}

#[test]
fn sessions_of_a_restored_backup_end_by_age() {
    let upstream = Upstream::prompted();
    let mut gateway = durable(&upstream).start();
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    let cookies = [&alice, &bob].map(super::support::client::Browser::stolen_cookie);
    gateway.signal(Signal::TERM);
    gateway.wait_for_end(wait::PATIENCE).expect("it ends");
    let end = |arguments: &[&str]| {
        let always = ["sessions", "end", "--offline", "-c", "vestibule.yaml"];
        vestibule(gateway.folder().path(), &[&always, arguments].concat(), "")
    };
    for (arguments, told) in [
        (&["--opened-before", "2001-01-01T00:00:00Z"][..], "ended 0 sessions\n"),
        (&["--opened-before", "2999-01-01T00:00:00Z", "--subject", "alice"], "ended 1 session\n"),
        (
            &["--opened-before", "2999-01-01T00:00:00Z", "--subject", "bob", "--source", "x"],
            "ended 0 sessions\n",
        ),
    ] {
        let outcome = end(arguments);
        assert_eq!((outcome.code, outcome.out.as_str()), (0, told), "{}", outcome.err);
    }
    for arguments in
        [&[][..], &["--subject", "alice"], &["--opened-before", "2999-01-01T00:00:00Z", "--source", "x"]]
    {
        assert_eq!(end(arguments).code, 2, "{arguments:?}");
    }
    gateway.start_again();
    for (cookie, status) in cookies.iter().zip([401, 200]) {
        assert_eq!(gateway.get("/page").header("Cookie", cookie).send().status(), status);
    }
}

#[test]
fn a_new_key_signs_nobody_out_and_a_dropped_one_is_told_with_what_it_costs() {
    let upstream = Upstream::prompted();
    let second = session_key("the second");
    let mut gateway = durable(&upstream).file("second.key", &format!("{second}\n")).start();
    let old = gateway.browser();
    old.sign_in("alice");
    let old = old.stolen_cookie();
    gateway.reload_with("keys", "[{ file: second.key }, { file: session.key }]");
    let new = gateway.browser();
    new.sign_in("bob");
    let new = new.stolen_cookie();
    let status =
        |gateway: &Gateway, cookie: &str| gateway.get("/page").header("Cookie", cookie).send().status();
    gateway.restart();
    assert_eq!((status(&gateway, &old), status(&gateway, &new)), (200, 200));
    gateway.reload_with("keys", "[{ file: second.key }]");
    let warned = |gateway: &Gateway| {
        let lines = gateway.everything();
        lines.iter().filter(|line| line.contains("sealed with a key that is no longer in `keys`")).count()
    };
    until("the reload warns", || (warned(&gateway) == 1).then_some(()));
    gateway.restart();
    assert_eq!((status(&gateway, &old), status(&gateway, &new)), (401, 200));
    until("the start warns", || (warned(&gateway) == 2).then_some(()));
    gateway.change("keys", "[{ file: second.key }, { file: session.key }]");
    gateway.restart();
    assert_eq!((status(&gateway, &old), status(&gateway, &new)), (200, 200), "the key is back");
}

/// Rounds of the test below; `make soak` asks for more.
fn kill_rounds() -> u32 {
    std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

/// A session as its owner knows it.
struct Known {
    id: String,
    cookie: String,
    /// The last patch that was acknowledged.
    value: u64,
    /// A patch without an answer.
    asked: Option<u64>,
    end: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Live,
    /// Asked for, without an answer.
    Asked,
    Acknowledged,
}

/// Small numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One exchange on a connection of its own; nothing if the process dies meanwhile.
fn ask(address: SocketAddr, method: &str, target: &str, fields: &str, body: &str) -> Option<Message> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(wait::PATIENCE)).ok()?;
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut ahead = Vec::new();
    let head = read_head(&mut stream, &mut ahead).ok()??;
    let mut message = Message { head, ..Message::default() };
    let body = response_body(&message, method);
    read_body(&mut stream, &mut ahead, &mut message, body).ok()?;
    message.is_whole.then_some(message)
}

struct Doors {
    public: SocketAddr,
    admin: SocketAddr,
}

impl Doors {
    fn operator(&self, method: &str, target: &str, body: &str) -> Option<Message> {
        let fields = format!(
            "Host: {}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Type: application/json\r\n",
            self.admin
        );
        ask(self.admin, method, target, &fields, body)
    }

    fn visitor(&self, cookie: &str, say: &str) -> Option<Message> {
        ask(self.public, "GET", "/page", &format!("Host: {HOST}\r\nCookie: {SESSION}={cookie}\r\n{say}"), "")
    }

    /// Opens, patches and ends sessions until the process dies.
    fn use_until_it_dies(&self, mut dice: Dice, over: &AtomicBool, opened: &AtomicU64) -> Vec<Known> {
        let mut known: Vec<Known> = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let live = known.iter().filter(|session| session.end == Ending::Live).count() as u64;
            let chosen = if live == 0 { 0 } else { dice.below(live) };
            let chosen = known.iter_mut().filter(|session| session.end == Ending::Live).nth(chosen as usize);
            match (dice.below(10), chosen) {
                (5..8, Some(session)) => {
                    let next = session.value + 1;
                    session.asked = Some(next);
                    let say = format!("Say-X-Session-Patch: {{\"n\": {next}}}\r\n");
                    let Some(answer) = self.visitor(&session.cookie, &say) else { return known };
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    (session.value, session.asked) = (next, None);
                }
                (8.., Some(session)) => {
                    session.end = Ending::Asked;
                    let target = format!("/sessions/{}", session.id);
                    let Some(answer) = self.operator("DELETE", &target, "") else { return known };
                    assert_eq!(answer.status(), 204, "{}", answer.text());
                    session.end = Ending::Acknowledged;
                }
                _ => {
                    let body = "{\"subject\": \"alice\"}";
                    let Some(answer) = self.operator("POST", "/sessions", body) else { return known };
                    assert_eq!(answer.status(), 201, "{}", answer.text());
                    let told = answer.json();
                    let text = |value: &Value| value.as_str().expect("a text").to_owned();
                    known.push(Known {
                        id: text(&told["id"]),
                        cookie: text(&told["cookie"]["value"]),
                        value: 0,
                        asked: None,
                        end: Ending::Live,
                    });
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        known
    }

    /// Looks whether a session is what its owner was told.
    fn look(&self, session: &mut Known) {
        let page = self.visitor(&session.cookie, "").expect("the gateway answers");
        let kept = match page.status() {
            200 => page.json()["n"].as_u64().unwrap_or(0),
            401 => {
                assert_ne!(session.end, Ending::Live, "session {} was acknowledged and is lost", session.id);
                session.end = Ending::Acknowledged;
                return;
            }
            status => panic!("{status}: {}", page.text()),
        };
        assert_ne!(session.end, Ending::Acknowledged, "session {} had ended and is back", session.id);
        let fits = kept == session.value || Some(kept) == session.asked;
        assert!(fits, "session {} holds {kept}, acknowledged was {}", session.id, session.value);
        (session.value, session.asked, session.end) = (kept, None, Ending::Live);
    }
}

#[test]
fn whatever_was_acknowledged_survives_being_killed_at_any_moment() {
    let upstream = Upstream::prompted();
    let mut gateway = durable(&upstream).start();
    let doors = Doors { public: gateway.address(), admin: gateway.port("admin") };
    let mut dice = Dice(0x5EED_D1CE);
    let mut known: Vec<Known> = Vec::new();
    let rounds = kill_rounds();
    for round in 1..=rounds {
        let (doors, over, opened) = (&doors, &AtomicBool::new(false), &AtomicU64::new(0));
        let fresh = std::thread::scope(|scope| {
            let seeds: Vec<u64> = (0..6).map(|_| dice.below(u64::MAX - 1) + 1).collect();
            let workers: Vec<_> = seeds
                .into_iter()
                .map(|seed| scope.spawn(move || doors.use_until_it_dies(Dice(seed), over, opened)))
                .collect();
            // Every other time it may die before anything was acknowledged; a slow disk must not make that every time.
            if round % 2 == 0 {
                wait::until("some are open", || (opened.load(Ordering::Relaxed) >= 6).then_some(()));
            }
            wait::pause(Duration::from_millis(dice.below(250)));
            gateway.kill();
            over.store(true, Ordering::Relaxed);
            workers
                .into_iter()
                .flat_map(|worker| worker.join().expect("no worker panics"))
                .collect::<Vec<_>>()
        });
        let first_new = known.len();
        known.extend(fresh);
        // Now and then it dies before it has come up.
        while dice.below(4) == 0 {
            gateway.start_unseen();
            wait::pause(Duration::from_millis(dice.below(60)));
            gateway.kill();
        }
        gateway.start_again();
        // Those of this round, and some of each before.
        let last = round == rounds;
        for (at, session) in known.iter_mut().enumerate() {
            if at >= first_new || last || dice.below(16) == 0 {
                doors.look(session);
            }
        }
    }
    let live = known.iter().filter(|session| session.end == Ending::Live).count();
    println!("{rounds} rounds: {} sessions acknowledged, {live} of them live", known.len());
    assert!(known.len() > rounds as usize && live > 0 && live < known.len(), "the load was none");
}
