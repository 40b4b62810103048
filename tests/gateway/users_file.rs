//! The users file is read again when it changes: who is gone or has a new password loses the sessions.

use crate::support::users::{self, User, argon2id, password_of};
use crate::support::wait::{self, until};
use crate::support::{Gateway, Setup, Upstream};
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
