//! Tokens grow old and get successors; nobody is signed out by that, and the old one is worth nothing soon.

use crate::support::users::{User, password_of, usual};
use crate::support::wait::{now, pause, until};
use crate::support::{Answer, Gateway, Message, SESSION, Setup, Upstream};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// Tokens are old after a second.
fn aging(upstream: &Upstream) -> Setup {
    Setup::before(upstream).set("sessions", "{ renew_after: 1s }")
}

/// What an answer sets under our name: the value alone.
fn renewed(answer: &Message) -> Option<String> {
    let ours = answer.all("set-cookie").into_iter().filter(|line| line.starts_with(&format!("{SESSION}=")));
    let values: Vec<String> = ours
        .map(|line| {
            line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair").1.to_owned()
        })
        .collect();
    assert!(values.len() < 2, "{values:?}");
    values.into_iter().next()
}

fn get(gateway: &Gateway, target: &str, cookie: &str) -> Message {
    gateway.get(target).header("Cookie", &format!("{SESSION}={cookie}")).send()
}

/// A signed-in session whose token is old by now; the token.
fn old_token(gateway: &Gateway) -> String {
    let browser = gateway.browser();
    browser.sign_in("alice");
    let token = browser.cookie(SESSION).expect("a session cookie");
    assert_eq!(renewed(&get(gateway, "/page", &token)), None, "a fresh token is not renewed");
    pause(Duration::from_millis(1100));
    token
}

/// Waits until the moment is over in which a token serves beside its successor.
fn until_refused(gateway: &Gateway, token: &str) {
    until("the old token is refused", || (get(gateway, "/page", token).status() == 401).then_some(()));
}

#[test]
fn an_old_token_gets_a_successor_which_signs_nobody_out() {
    let upstream = Upstream::recording();
    let gateway = aging(&upstream).start();
    let first = old_token(&gateway);
    let answer = get(&gateway, "/page", &first);
    let line = answer.header("set-cookie").expect("a successor is offered");
    assert!(line.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/"), "as it was at sign-in: {line}");
    let second = renewed(&answer).expect("a successor");
    gateway.secrets().note_ours("the successor", &second);
    assert_ne!(first, second);
    // Answers get lost. Until the successor comes back it is offered again, the very same.
    for _ in 0..3 {
        assert_eq!(renewed(&get(&gateway, "/page", &first)).as_ref(), Some(&second));
    }
    let began = now();
    assert_eq!(get(&gateway, "/page", &second).status(), 200);
    // What was on its way with the old one is still served, and gains nothing.
    let late = get(&gateway, "/page", &first);
    assert_eq!((late.status(), renewed(&late)), (200, None));
    until_refused(&gateway, &first);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(14), "{took:?}");
    let line = gateway.audit("token_refused");
    assert_eq!((&line["reason"], &line["detail"]), (&json!("superseded"), &json!("route wiki")));
    assert!(line["session"].is_string());
    assert_eq!(get(&gateway, "/page", &second).status(), 200);
    assert_eq!(gateway.admin("GET", "/sessions", "").json()["sessions"].as_array().map(Vec::len), Some(1));
    for _ in 0..5 {
        get(&gateway, "/page", &first);
    }
    assert_eq!(gateway.lines_of("token_refused"), 1, "who repeats it does not fill the log");
}

#[test]
fn parallel_answers_offer_the_same_successor() {
    let upstream = Upstream::recording();
    let gateway = aging(&upstream).start();
    let first = old_token(&gateway);
    let offered: Vec<Option<String>> = thread::scope(|scope| {
        let tabs: Vec<_> =
            (0..50).map(|_| scope.spawn(|| renewed(&get(&gateway, "/page", &first)))).collect();
        tabs.into_iter().map(|tab| tab.join().expect("no tab panics")).collect()
    });
    let second = offered[0].clone().expect("a successor");
    gateway.secrets().note_ours("the successor", &second);
    assert!(offered.iter().all(|offer| offer.as_ref() == Some(&second)), "{offered:?}");
    assert_eq!(get(&gateway, "/page", &second).status(), 200);
}

#[test]
fn two_tabs_that_never_pause_stay_signed_in() {
    let upstream = Upstream::recording();
    let gateway = aging(&upstream).start();
    let browser = gateway.browser();
    browser.sign_in("alice");
    let jar = Mutex::new(browser.cookie(SESSION).expect("a session cookie"));
    let seen = Mutex::new(BTreeSet::new());
    let began = now();
    // Both read the jar before each request and write what they are given after it, as tabs do. While an old token still serves
    // no further one is made, so that two successors take more than ten seconds.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while began.elapsed() < Duration::from_secs(13) {
                    let cookie = jar.lock().expect("no panic under the lock").clone();
                    let answer = get(&gateway, "/page", &cookie);
                    assert_eq!(answer.status(), 200, "{:?}", began.elapsed());
                    if let Some(successor) = renewed(&answer) {
                        gateway.secrets().note_ours("a successor", &successor);
                        seen.lock().expect("no panic under the lock").insert(successor.clone());
                        *jar.lock().expect("no panic under the lock") = successor;
                    }
                    pause(Duration::from_millis(20));
                }
            });
        }
    });
    assert_eq!(seen.into_inner().expect("no panic under the lock").len(), 2);
}

#[test]
fn only_answers_of_the_application_renew() {
    let upstream = Upstream::recording();
    let gateway = aging(&upstream).start();
    let first = old_token(&gateway);
    for own in ["/_vestibule/session", "/_vestibule/login", "/_vestibule/account"] {
        assert_eq!(renewed(&get(&gateway, own, &first)), None, "{own}");
    }
    assert_eq!(renewed(&get(&gateway, "/public/x", &first)), None, "no session was asked for");
    // Nor an interim answer; the application's own cookies stay.
    upstream.next(Answer::Bytes(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: theme=dark\r\nCache-Control: public\r\n\r\nok"
            .to_vec(),
    ));
    let mut wire = gateway.connect();
    wire.write(gateway.get("/page").header("Cookie", &format!("{SESSION}={first}")).bytes());
    let mut answer = wire.response();
    while answer.status() == 103 {
        assert_eq!(answer.all("set-cookie"), Vec::<String>::new());
        answer = wire.response();
    }
    let set = answer.all("set-cookie");
    assert_eq!((set.len(), set[0].as_str()), (2, "theme=dark"), "{set:?}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("private"));
    gateway.secrets().note_ours("the successor", &renewed(&answer).expect("a successor"));
    for status in ["304 Not Modified", "500 Internal Server Error"] {
        upstream.next(Answer::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()));
        assert!(renewed(&get(&gateway, "/page", &first)).is_some(), "{status}");
    }
}

#[test]
fn a_renewal_lengthens_nothing() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set(
            "sessions",
            "{ renew_after: 1s, idle_timeout: 4s, absolute_lifetime: 4s, cookie: { persistent: true } }",
        )
        .start();
    let browser = gateway.browser();
    browser.sign_in("alice");
    let began = now();
    let ends_at = browser.get("/_vestibule/session").send().json()["ends_at"].clone();
    let mut renewals = 0;
    let mut was_in = Duration::ZERO;
    while began.elapsed() < Duration::from_millis(4500) {
        let left = Duration::from_secs(4).saturating_sub(began.elapsed());
        let answer = browser.get("/page").send();
        if let Some(line) = answer.all("set-cookie").into_iter().find(|line| line.starts_with(SESSION)) {
            renewals += 1;
            let max_age = line.split("Max-Age=").nth(1).and_then(|rest| rest.parse::<u64>().ok());
            let max_age = u128::from(max_age.expect("persistent"));
            assert!((1..=left.as_millis().div_ceil(1000)).contains(&max_age), "{line} with {left:?} left");
            assert_eq!(browser.get("/_vestibule/session").send().json()["ends_at"], ends_at);
        }
        if answer.status() == 200 {
            was_in = began.elapsed();
        }
        pause(Duration::from_millis(50));
    }
    assert!(renewals >= 1, "{renewals} renewals");
    assert!(was_in > Duration::from_secs(3) && was_in <= Duration::from_millis(4100), "{was_in:?}");
    gateway.wait_for_line("about the lifetime", |line| line["reason"] == "lifetime");
}

#[test]
fn the_data_is_the_session_s_and_not_the_token_s() {
    let upstream = Upstream::prompted();
    let gateway = aging(&upstream)
        .routes(&["{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
                     access: { sign_in: [local], allow: everyone } }"])
        .start();
    let first = old_token(&gateway);
    let kept = |cookie: &str, patch: &str| {
        let request = gateway.get("/page").header("Cookie", &format!("{SESSION}={cookie}"));
        request.patch(patch).send()
    };
    // One answer brings both: the patch is kept, and a successor comes.
    let second = renewed(&kept(&first, "{\"a\":1}")).expect("a successor");
    gateway.secrets().note_ours("the successor", &second);
    kept(&second, "{\"b\":2}");
    kept(&first, "{\"c\":3}");
    assert_eq!(get(&gateway, "/page", &second).json(), json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(get(&gateway, "/page", &first).json(), json!({"a": 1, "b": 2, "c": 3}));
}

#[test]
fn signing_out_by_either_token_ends_both() {
    let upstream = Upstream::recording();
    let gateway = aging(&upstream).start();
    for by_second in [false, true] {
        let first = old_token(&gateway);
        let second = renewed(&get(&gateway, "/page", &first)).expect("a successor");
        gateway.secrets().note_ours("the successor", &second);
        let token = if by_second { &second } else { &first };
        let answer = gateway
            .request("DELETE", "/_vestibule/session")
            .header("Cookie", &format!("{SESSION}={token}"))
            .send();
        assert_eq!(answer.status(), 204);
        assert_eq!(get(&gateway, "/page", &first).status(), 401);
        assert_eq!(get(&gateway, "/page", &second).status(), 401);
    }
}

#[test]
fn what_a_file_adds_counts_with_the_successor_and_what_it_takes_counts_at_once() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).start();
    let browser = gateway.browser();
    browser.sign_in("alice");
    let first = browser.cookie(SESSION).expect("a session cookie");
    assert_eq!(get(&gateway, "/ops", &first).status(), 200);
    let with_groups = |groups: &str| {
        let mut users = usual();
        for user in &mut users {
            if user.name == "alice" {
                let password = user.password.clone();
                *user = User::new("alice", &["email: alice@example.com", &format!("groups: [{groups}]")])
                    .with_password(&password);
            }
        }
        gateway.folder().write("users.yaml", &crate::support::users::file(&users));
    };
    with_groups("dev");
    until("the group is gone", || (get(&gateway, "/ops", &first).status() == 403).then_some(()));
    // `dev` is more than the token was given: it counts once the successor has come back.
    let answer = get(&gateway, "/page", &first);
    assert_eq!(upstream.last().header("x-auth-groups"), None);
    let second = renewed(&answer).expect("a successor, though the token is young");
    gateway.secrets().note_ours("the successor", &second);
    get(&gateway, "/page", &second);
    assert_eq!(upstream.last().header("x-auth-groups").as_deref(), Some("dev"));
    get(&gateway, "/page", &first);
    assert_eq!(upstream.last().header("x-auth-groups"), None, "the old one gains nothing");
    assert_eq!(renewed(&get(&gateway, "/page", &second)), None, "nothing more is due");
}

#[test]
fn signing_in_as_somebody_else_kills_the_old_token_at_once() {
    let upstream = Upstream::recording();
    let gateway = aging(&upstream).start();
    let browser = gateway.browser();
    browser.sign_in("alice");
    let first = browser.cookie(SESSION).expect("a session cookie");
    let answer = browser.try_sign_in("bob", &password_of("bob"), "/");
    assert_eq!(answer.status(), 303);
    let refused = get(&gateway, "/page", &first);
    assert_eq!((refused.status(), renewed(&refused)), (401, None));
    assert!(browser.is_signed_in());
}

#[test]
fn a_new_key_renews_nobody_out() {
    let upstream = Upstream::recording();
    let mut gateway = aging(&upstream)
        .file("new.key", &format!("{}\n", crate::support::gateway::session_key("the second")))
        .start();
    let first = old_token(&gateway);
    let second = renewed(&get(&gateway, "/page", &first)).expect("a successor");
    gateway.secrets().note_ours("the successor", &second);
    gateway.reload_with("keys", "[{ file: new.key }, { file: session.key }]");
    // Under the new ring the offer reads otherwise, and leads nowhere else; the one that was made stays good.
    assert_eq!(get(&gateway, "/page", &first).status(), 200);
    assert_eq!(get(&gateway, "/page", &second).status(), 200);
    let third = until("it gets a successor of its own", || renewed(&get(&gateway, "/page", &second)));
    gateway.secrets().note_ours("the next successor", &third);
    assert_eq!(get(&gateway, "/page", &third).status(), 200);
    gateway.reload_with("keys", "[{ file: new.key }]");
    assert_eq!(get(&gateway, "/page", &third).status(), 200, "made by the key that stays");
    assert_eq!(get(&gateway, "/page", &second).status(), 401);
}

#[test]
fn an_offer_outlives_a_crash_and_one_that_cannot_be_kept_is_not_made() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream)
        .set("sessions", "{ renew_after: 1s, store: { sqlite: sessions.db } }")
        .start();
    let first = old_token(&gateway);
    gateway.limit_file_bytes(Some(4096));
    let answer = get(&gateway, "/page", &first);
    assert_eq!((answer.status(), renewed(&answer)), (200, None), "the page goes on with the token as it is");
    gateway.limit_file_bytes(None);
    let second = until("the store takes an offer again", || renewed(&get(&gateway, "/page", &first)));
    gateway.secrets().note_ours("the successor", &second);
    gateway.kill();
    gateway.start_again();
    assert_eq!(renewed(&get(&gateway, "/page", &first)).as_ref(), Some(&second), "the very same");
    assert_eq!(get(&gateway, "/page", &second).status(), 200);
    until_refused(&gateway, &first);
    assert_eq!(get(&gateway, "/page", &second).status(), 200);
}
