//! The users file is read again when it changes: who is gone or has a new password loses the sessions.

use crate::support::users::{self, User, argon2id, password_of};
use crate::support::wait::{self, until};
use crate::support::{Gateway, Message, SESSION, Setup, Upstream};
use std::time::Duration;

#[test]
fn a_user_who_is_gone_loses_the_sessions_and_others_keep_theirs() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    let without_alice: Vec<User> = users::usual().into_iter().filter(|user| user.name != "alice").collect();
    gateway.folder().write("users.yaml", &users::file(&without_alice));
    until("alice is out", || (!alice.is_signed_in()).then_some(()));
    assert!(bob.is_signed_in());
    let line = gateway.wait_for_line("about the end", |line| {
        line["event"] == "session_ended" && line["subject"] == "alice"
    });
    assert_eq!(line["reason"], "credential");
    assert_eq!(alice.try_sign_in("alice", &password_of("alice"), "/").status(), 403);
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let mut changed = users::usual();
    "a-new-password-8812".clone_into(&mut changed[0].password);
    gateway.folder().write("users.yaml", &users::file(&changed));
    until("the old session is out", || (!alice.is_signed_in()).then_some(()));
    assert_eq!(alice.try_sign_in("alice", &password_of("alice"), "/").status(), 403);
    assert_eq!(alice.try_sign_in("alice", "a-new-password-8812", "/").status(), 303);
}

#[test]
fn new_groups_and_claims_count_from_the_next_request() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(bob.get("/ops").send().status(), 403);
    let with = |groups: &str| {
        let mut changed = users::usual();
        changed[1].lines = vec!["email: bob@new.example".to_owned(), format!("groups: {groups}")];
        gateway.folder().write("users.yaml", &users::file(&changed));
    };
    with("[dev, ops]");
    until("bob may", || (bob.get("/ops").send().status() == 200).then_some(()));
    assert_eq!(upstream.last().header("x-auth-groups").as_deref(), Some("dev,ops"));
    assert_eq!(upstream.last().header("x-auth-email").as_deref(), Some("bob@new.example"));
    with("[dev]");
    until("bob may not any more", || (bob.get("/ops").send().status() == 403).then_some(()));
    assert!(bob.is_signed_in(), "the session goes on");
}

#[test]
fn a_broken_users_file_changes_nothing_and_is_told() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    for broken in ["", "alice: [", "alice:\n  password: plain-text-password\n"] {
        gateway.folder().write("users.yaml", broken);
        let answer = gateway.admin("POST", "/reload", "");
        // An empty file names nobody, which may be meant; what cannot be read is refused.
        if !broken.is_empty() {
            assert_eq!(answer.status(), 422, "{broken}: {}", answer.text());
            assert!(answer.text().contains("users.yaml"), "{}", answer.text());
            assert!(!answer.text().contains("plain-text-password"), "{}", answer.text());
        }
        gateway.folder().write("users.yaml", &users::file(&users::usual()));
        until("it is whole again", || (gateway.admin("POST", "/reload", "").status() == 200).then_some(()));
    }
    gateway.secrets().note("a password in a users file", "plain-text-password");
    assert_eq!(gateway.browser().try_sign_in("alice", &password_of("alice"), "/").status(), 303);
}

#[test]
fn htpasswd_files_are_understood() {
    let upstream = Upstream::recording();
    // bcrypt of `alice-knows-this-9f3c` at cost 4, made by the crate that reads it.
    let bcrypt = bcrypt::hash(password_of("alice"), 4).expect("a hash is made");
    let carol = argon2id(&password_of("carol"));
    let gateway = Setup::before(&upstream)
        .access("{ sign_in: [local], allow: everyone }")
        .file("users.yaml", &format!("alice:{bcrypt}\ncarol:{carol}\n"))
        .start();
    for user in ["alice", "carol"] {
        let browser = gateway.browser();
        browser.sign_in(user);
        assert!(browser.is_signed_in());
    }
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("carol"));
    assert_eq!(gateway.browser().try_sign_in("alice", "not-alices-password", "/").status(), 403);
}

#[test]
fn a_form_that_dawdles_over_two_reloads_is_judged_by_the_last() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    let form_token = alice.form_token("/_vestibule/login");
    let old = password_of("alice");
    gateway.secrets().note_ours("the password of alice", &old);
    let fields = [("user", "alice"), ("password", old.as_str()), ("form_token", form_token.as_str())];
    let request = alice.own_post("/_vestibule/login").form(&fields).bytes();
    let (head, body) = request.split_at(request.len() - 10);
    let mut wire = gateway.connect();
    wire.write(head);
    wait::pause(Duration::from_millis(200));
    // The first reload gives the way of that exchange a successor, which alone hears of what comes then.
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
    let mut changed = users::usual();
    "a-new-password-8812".clone_into(&mut changed[0].password);
    gateway.folder().write("users.yaml", &users::file(&changed));
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
    wire.write(body);
    assert_eq!(wire.response().status(), 403, "the password is an old one");
    assert_eq!(gateway.admin("GET", "/sessions", "").json()["sessions"], serde_json::json!([]));
}

/// Bob with these further lines, in force when this returns.
fn bob_becomes(gateway: &Gateway, lines: &[&str]) {
    let mut changed = users::usual();
    changed[1].lines = lines.iter().map(|&line| line.to_owned()).collect();
    gateway.folder().write("users.yaml", &users::file(&changed));
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
}

/// The session cookie that an answer sets.
fn offered(answer: &Message) -> Option<String> {
    let line = answer.all("set-cookie").into_iter().find(|line| line.starts_with(SESSION))?;
    line.split(';').next().map(str::to_owned)
}

#[test]
fn what_is_taken_away_counts_at_once_and_needs_no_new_token() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    bob_becomes(&gateway, &["groups: [dev, ops]", "email: bob@example.org"]);
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(bob.get("/ops").send().status(), 200);
    bob_becomes(&gateway, &["groups: [dev]"]);
    assert_eq!(bob.get("/ops").send().status(), 403);
    let answer = bob.get("/page").send();
    assert_eq!((answer.status(), offered(&answer)), (200, None), "nothing was gained");
    let seen = upstream.last();
    assert_eq!((seen.header("x-auth-groups").as_deref(), seen.header("x-auth-email")), (Some("dev"), None));
}

#[test]
fn what_is_gained_counts_once_the_new_token_was_presented() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let bob = gateway.browser();
    bob.sign_in("bob");
    let old = bob.stolen_cookie();
    let with = |cookie: &str, path: &str| gateway.get(path).header("Cookie", cookie).send();
    bob_becomes(&gateway, &["groups: [dev, ops]", "email: bob@new.example"]);
    // Who copied the token before gains nothing by it, however often it is shown.
    let offers: Vec<String> = (0..3)
        .map(|_| {
            let answer = with(&old, "/page");
            assert_eq!(answer.status(), 200);
            let seen = upstream.last();
            assert_eq!(seen.header("x-auth-groups").as_deref(), Some("dev"));
            assert_eq!(
                seen.header("x-auth-email"),
                None,
                "the old address is gone, the new one not yet there"
            );
            offered(&answer).expect("a newer token is offered")
        })
        .collect();
    let refused = with(&old, "/ops");
    assert_eq!(refused.status(), 403);
    assert_eq!(offered(&refused).as_ref(), Some(&offers[0]), "a refusal offers it too");
    assert!(offers.iter().all(|offer| *offer == offers[0] && *offer != old), "and it is the same each time");
    gateway
        .secrets()
        .note_ours("the newer token", offers[0].split_once('=').expect("a cookie has a value").1);

    assert_eq!(with(&offers[0], "/ops").status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-auth-groups").as_deref(), Some("dev,ops"));
    assert_eq!(seen.header("x-auth-email").as_deref(), Some("bob@new.example"));
    // What was on its way goes on for a moment, without the gain.
    assert_eq!(with(&old, "/page").status(), 200);
    assert_eq!(upstream.last().header("x-auth-groups").as_deref(), Some("dev"));
    let late = with(&old, "/ops");
    assert_eq!((late.status(), offered(&late)), (403, None));
    let sessions = gateway.admin("GET", "/sessions", "").json();
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(1), "it is one session all along");
}

#[test]
fn what_was_gained_and_taken_back_before_it_counted_never_counts() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let bob = gateway.browser();
    bob.sign_in("bob");
    let old = bob.stolen_cookie();
    bob_becomes(&gateway, &["groups: [dev, ops]"]);
    let answer = gateway.get("/page").header("Cookie", &old).send();
    let new = offered(&answer).expect("a newer token is offered");
    gateway.secrets().note_ours("the newer token", new.split_once('=').expect("a cookie has a value").1);
    bob_becomes(&gateway, &["groups: [dev]"]);
    for cookie in [&new, &old] {
        assert_eq!(gateway.get("/ops").header("Cookie", cookie).send().status(), 403);
        assert_eq!(gateway.get("/page").header("Cookie", cookie).send().status(), 200);
    }
}

#[test]
fn a_session_of_an_earlier_password_ends_on_every_device() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ remember_me: { idle_timeout: 7d, absolute_lifetime: 30d } }")
        .start();
    let [first, second] = [gateway.browser(), gateway.browser()];
    first.sign_in("bob");
    let (form_token, password) = (second.form_token("/_vestibule/login"), password_of("bob"));
    let fields = [
        ("user", "bob"),
        ("password", password.as_str()),
        ("remember", "1"),
        ("form_token", form_token.as_str()),
    ];
    assert_eq!(second.own_post("/_vestibule/login").form(&fields).send().status(), 303);
    let mut changed = users::usual();
    "another-password-4417".clone_into(&mut changed[1].password);
    gateway.folder().write("users.yaml", &users::file(&changed));
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
    assert!(!first.is_signed_in() && !second.is_signed_in(), "remembered or not");
    until("both ends are told", || {
        let ended = gateway.lines().into_iter().filter(|line| line["event"] == "session_ended");
        (ended.filter(|line| line["reason"] == "credential").count() == 2).then_some(())
    });
}
