//! What a connection's last request brought and was given serves the next one, and never another visitor.

use crate::revocation::{revoke, setup, token};
use crate::support::tokens::{ISSUER, Key};
use crate::support::users::{self, User};
use crate::support::wait::{pause, until};
use crate::support::{Gateway, HOST, Message, SESSION, Setup, Upstream, Wire};
use serde_json::json;
use std::time::Duration;

/// Enough requests for a connection to be learnt and known.
const AGAIN: usize = 6;

/// A request with these further lines, as a browser sends it: most of its lines are the same each time.
fn request(path: &str, fields: &[&str]) -> String {
    let own: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: one\r\nAccept: text/html\r\nAccept-Language: en\r\n{own}Sec-Fetch-Mode: cors\r\n\r\n"
    )
}

fn ask(wire: &mut Wire, path: &str, fields: &[&str]) -> u16 {
    wire.write(request(path, fields));
    wire.response().status()
}

/// Who the upstream was told that its last request came from, and the application's own cookies.
fn told(upstream: &Upstream) -> [String; 3] {
    let request = upstream.last();
    ["x-auth-user", "x-auth-email", "cookie"].map(|name| request.header(name).unwrap_or_default())
}

fn cookies(gateway: &Gateway, who: &str, theme: &str) -> String {
    let browser = gateway.browser();
    browser.sign_in(who);
    format!("Cookie: theme={theme}; {}", browser.stolen_cookie())
}

/// The session cookie that an answer sets, as it is sent back.
fn token_set(answer: &Message) -> Option<String> {
    let pair = answer.header("set-cookie")?.split(';').next()?.to_owned();
    pair.starts_with(SESSION).then_some(pair)
}

#[test]
fn each_request_of_a_connection_is_told_as_what_it_is() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, bob) = (cookies(&gateway, "alice", "dark"), cookies(&gateway, "bob", "pale"));
    let mut wire = gateway.connect();
    // A proxy in front sends everybody's requests over one connection.
    for turn in 0..AGAIN * 6 {
        let (fields, expected) = match turn % 6 {
            4 => (vec!["X-Auth-User: root"], ["", "", ""]),
            5 => (vec!["Cookie: theme=none"], ["", "", "theme=none"]),
            2 | 3 => (vec![bob.as_str()], ["bob", "bob@example.org", "theme=pale"]),
            _ => (vec![alice.as_str()], ["alice", "alice@example.com", "theme=dark"]),
        };
        let path = if turn % 6 < 4 { "/page" } else { "/public" };
        assert_eq!(ask(&mut wire, path, &fields), 200, "turn {turn}");
        assert_eq!(told(&upstream), expected, "turn {turn}");
    }
    for turn in 0..AGAIN {
        let theme = format!("Cookie: theme={turn}; {}", alice.rsplit_once("; ").expect("two cookies").1);
        assert_eq!(ask(&mut wire, "/page", &[&theme]), 200);
        assert_eq!(told(&upstream)[2], format!("theme={turn}"));
    }
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut wire, "/page", &[&alice]), 200);
    }
    let twice = [alice.as_str(), bob.as_str()];
    assert_eq!(ask(&mut wire, "/page", &twice), 401, "two sessions are nobody's");
    assert_eq!(ask(&mut wire, "/page", &[]), 401);
    assert_eq!(ask(&mut wire, "/page", &[&alice]), 200);
}

#[test]
fn fields_that_differ_little_arrive_as_they_were_sent() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    for turn in 0..AGAIN * 4 {
        let tag = if turn < AGAIN { 1 } else { turn % 3 };
        let fields =
            [format!("If-None-Match: \"{tag}\""), "X_Auth.User: root".into(), format!("X-Turn:  {tag}\t")];
        assert_eq!(ask(&mut wire, "/public", &fields.each_ref().map(String::as_str)[..3 - turn % 2]), 200);
        let told = upstream.last();
        assert_eq!(told.header("if-none-match"), Some(format!("\"{tag}\"")), "turn {turn}");
        assert_eq!(told.header("x-turn"), (turn % 2 == 0).then(|| tag.to_string()), "turn {turn}");
        assert!(told.fields().iter().all(|(_, value)| value != "root"), "turn {turn}");
    }
}

#[test]
fn a_session_ends_on_the_connection_that_knows_it() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let alice = cookies(&gateway, "alice", "dark");
    let mut wire = gateway.connect();
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut wire, "/page", &[&alice]), 200);
    }
    gateway.reload_with("identity", "{ headers: { X-Auth-User: email } }");
    assert_eq!(ask(&mut wire, "/page", &[&alice]), 200);
    assert_eq!(told(&upstream), ["alice@example.com", "", "theme=dark"], "the new file counts");
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut wire, "/page", &[&alice]), 200);
    }
    let ended = gateway.admin("DELETE", "/sessions?subject=alice", "");
    assert_eq!(ended.status(), 200, "{}", ended.text());
    let before = upstream.requests().len();
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut wire, "/page", &[&alice]), 401);
    }
    assert_eq!(upstream.requests().len(), before);
}

#[test]
fn tokens_of_a_connection_are_told_apart_and_revoked() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, "").start();
    let [alice, bob] =
        ["alice", "bob"].map(|who| format!("Authorization: Bearer {}", token(&issuer, who, who, 5)));
    // A letter in the midst of the signature.
    let (before, after) = alice.split_at(alice.len() - 20);
    let letter = if after.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{before}{letter}{}", &after[1..]);
    let mut wire = gateway.connect();
    for turn in 0..AGAIN * 4 {
        let (field, who) = if turn % 4 < 2 { (&alice, "alice") } else { (&bob, "bob") };
        assert_eq!(ask(&mut wire, "/api", &[field]), 200, "turn {turn}");
        assert_eq!(told(&upstream)[0], who, "turn {turn}");
    }
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut wire, "/api", &[&alice]), 200);
    }
    assert_eq!(ask(&mut wire, "/api", &[&forged]), 401);
    assert_eq!(ask(&mut wire, "/api", &[&alice]), 200);
    revoke(&gateway, &json!({ "source": ISSUER, "subject": "alice" }));
    assert_eq!(ask(&mut wire, "/api", &[&alice]), 401);
    assert_eq!(ask(&mut wire, "/api", &[&bob]), 200);
}

#[test]
fn a_token_grows_old_on_the_connection_that_knows_it() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("sessions", "{ renew_after: 1s }").start();
    let alice = cookies(&gateway, "alice", "dark");
    let mut wire = gateway.connect();
    let mut asked = |cookies: &str| {
        wire.write(request("/page", &[cookies]));
        let answer = wire.response();
        (answer.status(), token_set(&answer))
    };
    for _ in 0..AGAIN {
        assert_eq!(asked(&alice), (200, None));
    }
    pause(Duration::from_millis(1100));
    let (_, successor) = asked(&alice);
    let second = format!("Cookie: theme=dark; {}", successor.expect("the token is old"));
    for _ in 0..AGAIN {
        assert_eq!(asked(&second).0, 200);
        assert_eq!(told(&upstream), ["alice", "alice@example.com", "theme=dark"]);
    }
    until("the old token is refused", || (asked(&alice).0 == 401).then_some(()));
    assert_eq!(asked(&second).0, 200);
}

#[test]
fn a_connection_that_knows_a_person_hears_of_changes() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let (alice, bob) = (cookies(&gateway, "alice", "dark"), cookies(&gateway, "bob", "pale"));
    let [mut of_alice, mut of_bob] = [gateway.connect(), gateway.connect()];
    for _ in 0..AGAIN {
        assert_eq!([ask(&mut of_alice, "/page", &[&alice]), ask(&mut of_bob, "/page", &[&bob])], [200, 200]);
    }
    let mut changed: Vec<User> = users::usual().into_iter().filter(|user| user.name != "alice").collect();
    changed[0].lines = vec!["email: bob@new.example".to_owned()];
    gateway.folder().write("users.yaml", &users::file(&changed));
    until("alice is out", || (ask(&mut of_alice, "/page", &[&alice]) == 401).then_some(()));
    // What is new counts with a new token, and what is gone does not wait for it.
    of_bob.write(request("/page", &[&bob]));
    let answer = of_bob.response();
    assert_eq!((answer.status(), told(&upstream)), (200, ["bob", "", "theme=pale"].map(str::to_owned)));
    let second = format!("Cookie: theme=pale; {}", token_set(&answer).expect("a successor"));
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut of_bob, "/page", &[&second]), 200);
        assert_eq!(told(&upstream), ["bob", "bob@new.example", "theme=pale"]);
    }
    // The old name is nobody's session any more, and still nothing for the application.
    gateway.reload_with("sessions", "{ cookie: { name: __Host-second } }");
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut of_bob, "/page", &[&second]), 401);
        assert_eq!(ask(&mut of_bob, "/public", &[&second]), 200);
        assert_eq!(told(&upstream), ["", "", "theme=pale"]);
    }
    let renamed = second.replace(SESSION, "__Host-second");
    for _ in 0..AGAIN {
        assert_eq!(ask(&mut of_bob, "/page", &[&renamed]), 200);
        assert_eq!(told(&upstream), ["bob", "bob@new.example", "theme=pale"]);
    }
}

#[test]
fn a_connection_remembers_who_asked_and_not_the_whole_head() {
    const CONNECTIONS: u64 = 400;
    const BODY: &str = "Content-Length: 1";
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let [with_form, with_tokens] = [Gateway::before(&upstream), setup(&upstream, &issuer, "").start()];
    let alice = cookies(&with_form, "alice", "dark");
    let bearer = format!("Authorization: Bearer {}", token(&issuer, "alice", "alice", 5));
    let padding: Vec<String> =
        (0..4).map(|number| format!("X-Padding-{number}: {}", "p".repeat(7_000))).collect();
    let open = |gateway: &Gateway, path: &str, credential: &str, requests: usize| {
        let mut wire = gateway.connect();
        for _ in 0..requests {
            let fields: Vec<&str> = padding.iter().map(String::as_str).chain([credential]).collect();
            let mut bytes = request(path, &fields);
            if credential == BODY {
                // It comes with the head, and lies in memory behind it.
                bytes = format!("{}x", bytes.replacen("GET", "POST", 1));
            }
            wire.write(bytes);
            assert_eq!(wire.response().status(), 200);
        }
        wire
    };
    for (gateway, path, credential) in [
        (&with_form, "/page", alice.as_str()),
        (&with_tokens, "/api", &bearer),
        (&with_form, "/public", BODY),
    ] {
        // What the gateway takes once, whoever asks.
        drop([(); 20].map(|()| open(gateway, path, credential, 1)));
        let before = gateway.resident_bytes();
        let wires: Vec<Wire> =
            (0..CONNECTIONS).map(|number| open(gateway, path, credential, 1 + number as usize % 2)).collect();
        let each = gateway.resident_bytes().saturating_sub(before) / CONNECTIONS;
        assert!(each < 24 * 1024, "{path}: a connection holds {each} bytes after a head of 28 KiB");
        drop(wires);
    }
}
