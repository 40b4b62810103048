//! How many sessions a subject may have: who gives way, and how a visitor chooses.

use crate::support::client::{NAVIGATION, hidden_field};
use crate::support::users::{self, User, password_of};
use crate::support::wait::{pause, until};
use crate::support::{Browser, Gateway, Message, SESSION, Setup, Upstream};
use std::time::Duration;

const LOGIN: &str = "/_vestibule/login";

fn limited(upstream: &Upstream, limit: &str) -> Gateway {
    // Uses are written down at most once in a twentieth of the idle timeout: here half a second.
    Setup::before(upstream).set("sessions", &format!("{{ idle_timeout: 10s, per_subject: {limit} }}")).start()
}

fn signed_in<'a>(gateway: &'a Gateway, user: &str) -> Browser<'a> {
    let browser = gateway.browser();
    browser.sign_in(user);
    browser
}

#[test]
fn the_session_that_was_used_least_recently_gives_way() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "{ max: 2, when_full: end_least_recent }");
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    pause(Duration::from_millis(700));
    assert!(first.is_signed_in(), "a use");
    let third = signed_in(&gateway, "alice");
    assert!(first.is_signed_in() && !second.is_signed_in() && third.is_signed_in());
    let line = gateway.audit("session_ended");
    assert_eq!((line["reason"].as_str(), line["subject"].as_str()), (Some("revoked"), Some("alice")));
    let bob = signed_in(&gateway, "bob");
    assert!(first.is_signed_in() && third.is_signed_in() && bob.is_signed_in(), "bob is not concerned");
}

#[test]
fn the_oldest_session_gives_way() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "{ max: 2, when_full: end_oldest }");
    let first = signed_in(&gateway, "alice");
    pause(Duration::from_millis(5));
    let second = signed_in(&gateway, "alice");
    pause(Duration::from_millis(700));
    assert!(first.is_signed_in(), "a use");
    let third = signed_in(&gateway, "alice");
    assert!(!first.is_signed_in() && second.is_signed_in() && third.is_signed_in());
    assert_eq!(gateway.audit("session_ended")["reason"], "revoked");
}

#[test]
fn a_browser_that_signs_in_anew_takes_nobodys_place() {
    let upstream = Upstream::recording();
    let gateway = limited(&upstream, "{ max: 2, when_full: end_least_recent }");
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    for _ in 0..3 {
        first.sign_in("alice");
    }
    assert!(first.is_signed_in() && second.is_signed_in());
}

/// A page on which alice chooses, from a third browser.
fn full(upstream: &Upstream) -> Gateway {
    Setup::before(upstream).set("sessions", "{ per_subject: { max: 2, when_full: refuse }, remember_me: { idle_timeout: 7d, absolute_lifetime: 30d } }").start()
}

fn ids(page: &str) -> Vec<String> {
    page.split("name=\"end\" value=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or("").to_owned())
        .collect()
}

/// Sends the page's form with these sessions checked.
fn choose(browser: &Browser<'_>, page: &str, chosen: &[&str]) -> Message {
    let hidden = ["proof", "way", "user", "return_to"].map(|name| (name, hidden_field(page, name)));
    let mut fields: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.extend(chosen.iter().map(|id| ("end", *id)));
    browser.own_post(LOGIN).form(&fields).send()
}

#[test]
fn who_has_too_many_chooses_and_need_not_type_the_password_again() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    signed_in(&gateway, "bob");
    let third =
        gateway.browser().called("Mozilla/5.0 (Windows NT 10.0; rv:146.0) Gecko/20100101 Firefox/146.0");
    let page = third.try_sign_in("alice", &password_of("alice"), "/page?a=1");
    assert_eq!(page.status(), 409, "{}", page.text());
    assert_eq!(page.header("cache-control").as_deref(), Some("no-store"));
    assert!(third.cookie(SESSION).is_none());
    let page = page.text();
    assert!(!page.contains(&password_of("alice")));
    assert_eq!(ids(&page).len(), 2, "alice's, and not bob's: {page}");
    let account = first.get("/_vestibule/account").headers(&NAVIGATION).send().text();
    let of_first = ids(&account)[0].clone();

    let none = choose(&third, &page, &[]);
    assert_eq!(none.status(), 409);
    assert!(none.text().contains("at least 1"), "{}", none.text());
    assert!(first.is_signed_in() && second.is_signed_in());

    let answer = choose(&third, &none.text(), &[&of_first]);
    assert_eq!(
        (answer.status(), answer.header("location").as_deref()),
        (303, Some("/page?a=1")),
        "{}",
        answer.text()
    );
    assert!(!first.is_signed_in() && second.is_signed_in() && third.is_signed_in());
    let line = gateway.audit("session_ended");
    assert_eq!(
        (line["reason"].as_str(), line["session"].as_str()),
        (Some("revoked"), Some(of_first.as_str()))
    );
}

#[test]
fn the_proof_is_used_once_and_not_after_signing_out() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (first, _second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let third = gateway.browser();
    let page = third.try_sign_in("alice", &password_of("alice"), "/").text();
    let of = ids(&page);
    assert_eq!(choose(&third, &page, &[&of[0]]).status(), 303);
    // The next person at the same computer goes back in the history and sends the form again.
    assert_eq!(choose(&third, &page, &[&of[1]]).status(), 403, "also while signed in");
    third.sign_out(false);
    for chosen in [&of[..1], &of[1..], &of[..]] {
        let chosen: Vec<&str> = chosen.iter().map(String::as_str).collect();
        let again = choose(&third, &page, &chosen);
        assert_eq!(again.status(), 403);
        assert!(again.text().contains("name=\"password\""), "the password is asked for: {}", again.text());
        assert!(third.cookie(SESSION).is_none());
    }
    drop(first);
    let line = gateway.wait_for_line("about the proof", |line| line["event"] == "sign_in_failed");
    assert_eq!(line["reason"], "proof");
}

#[test]
fn of_many_at_once_one_uses_the_proof() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (_first, _second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let third = gateway.browser();
    let page = third.try_sign_in("alice", &password_of("alice"), "/").text();
    let of = ids(&page);
    let hidden = ["proof", "way", "user", "return_to"].map(|name| (name, hidden_field(&page, name)));
    let mut fields: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.extend(of.iter().map(|id| ("end", id.as_str())));
    let request = third.own_post(LOGIN).form(&fields).bytes();
    let signed_in = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let (request, mut wire) = (&request, gateway.connect());
                scope.spawn(move || {
                    wire.write(request);
                    wire.response_to("POST").status()
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().expect("no panic")).filter(|status| *status == 303).count()
    });
    assert_eq!(signed_in, 1);
}

#[test]
fn the_proof_is_good_for_one_browser_way_and_user() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ per_subject: { max: 1, when_full: refuse } }")
        .set(
            "sign_in",
            "{ local: { password: { users: users.yaml } }, other: { password: { users: users.yaml } } }",
        )
        .access("{ sign_in: [local, other], allow: everyone, same_people: true }")
        .start();
    let sign_in = |browser: &Browser<'_>, user: &str| {
        let (form_token, password) = (browser.form_token(LOGIN), password_of(user));
        gateway.secrets().note_ours("a password", &password);
        let fields = [
            ("user", user),
            ("password", password.as_str()),
            ("way", "local"),
            ("form_token", form_token.as_str()),
        ];
        browser.own_post(LOGIN).form(&fields).send()
    };
    let (alice, bob, third) = (gateway.browser(), gateway.browser(), gateway.browser());
    assert_eq!(sign_in(&alice, "alice").status(), 303);
    assert_eq!(sign_in(&bob, "bob").status(), 303);
    let page = sign_in(&third, "alice").text();
    let (proof, id) = (hidden_field(&page, "proof"), ids(&page)[0].clone());
    let of_bob = ids(&bob.get("/_vestibule/account").headers(&NAVIGATION).send().text())[0].clone();
    let form_token = third.form_token(LOGIN);
    let mut bent = proof.clone().into_bytes();
    bent[20] = if bent[20] == b'A' { b'B' } else { b'A' };
    let bent = String::from_utf8(bent).expect("ASCII");
    let stranger = gateway.browser();
    stranger.form_token(LOGIN);
    let send = |browser: &Browser<'_>, proof: &str, way: &str, user: &str, end: &str| {
        let fields =
            [("proof", proof), ("way", way), ("user", user), ("end", end), ("form_token", &form_token)];
        browser.own_post(LOGIN).form(&fields).send().status()
    };
    for (what, browser, proof, way, user, end, status) in [
        ("in another browser", &stranger, proof.as_str(), "local", "alice", id.as_str(), 403),
        ("as another user", &third, &proof, "local", "bob", &of_bob, 403),
        ("as nobody", &third, &proof, "local", "", &id, 403),
        ("by another way", &third, &proof, "other", "alice", &id, 403),
        ("bent", &third, &bent, "local", "alice", &id, 403),
        ("with the token of the form before", &third, &form_token, "local", "alice", &id, 403),
        ("for another's session", &third, &proof, "local", "alice", &of_bob, 409),
        ("for no session", &third, &proof, "local", "alice", "x", 409),
    ] {
        assert_eq!(send(browser, proof, way, user, end), status, "{what}");
        assert!(alice.is_signed_in() && bob.is_signed_in(), "{what}");
        assert!(browser.cookie(SESSION).is_none(), "{what}");
    }
    let foreign = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")];
    let fields = [("proof", proof.as_str()), ("way", "local"), ("user", "alice"), ("end", &id)];
    assert_eq!(third.post(LOGIN).headers(&foreign).form(&fields).send().status(), 403);
    assert!(alice.is_signed_in());
    assert_eq!(send(&third, &proof, "local", "alice", &id), 303);
    assert!(!alice.is_signed_in() && third.is_signed_in());
}

#[test]
fn the_proof_ends_with_the_password() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (_first, _second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let third = gateway.browser();
    let page = third.try_sign_in("alice", &password_of("alice"), "/").text();
    for users in
        [vec![User::new("alice", &[]).with_password("a-new-password-8812")], vec![User::new("bob", &[])]]
    {
        gateway.folder().write("users.yaml", &users::file(&users));
        assert_eq!(gateway.admin("POST", "/reload", "").status(), 200);
        assert_eq!(choose(&third, &page, &[&ids(&page)[0]]).status(), 403);
        assert!(third.cookie(SESSION).is_none());
    }
}

#[test]
fn whoever_asked_to_be_remembered_is() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (_first, _second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let third = gateway.browser();
    let (form_token, password) = (third.form_token(LOGIN), password_of("alice"));
    let fields = [
        ("user", "alice"),
        ("password", password.as_str()),
        ("remember", "1"),
        ("form_token", form_token.as_str()),
    ];
    let page = third.own_post(LOGIN).form(&fields).send().text();
    let hidden = ["proof", "way", "user", "remember"].map(|name| (name, hidden_field(&page, name)));
    let id = ids(&page)[0].clone();
    let mut fields: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("end", &id));
    let answer = third.own_post(LOGIN).form(&fields).send();
    let line = answer.all("set-cookie").into_iter().find(|line| line.starts_with(SESSION)).expect("a cookie");
    assert!(line.contains("Max-Age=2592000"), "{answer:?}");
}

#[test]
fn whoever_does_not_want_to_choose_ends_them_all() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let bob = signed_in(&gateway, "bob");
    let third = gateway.browser();
    let page = third.try_sign_in("alice", &password_of("alice"), "/").text();
    let hidden = ["proof", "way", "user", "return_to"].map(|name| (name, hidden_field(&page, name)));
    let mut fields: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fields.push(("others", "1"));
    assert_eq!(third.own_post(LOGIN).form(&fields).send().status(), 303);
    assert!(!first.is_signed_in() && !second.is_signed_in() && third.is_signed_in() && bob.is_signed_in());
}

#[test]
fn a_place_that_became_free_needs_no_choice() {
    let upstream = Upstream::recording();
    let gateway = full(&upstream);
    let (first, second) = (signed_in(&gateway, "alice"), signed_in(&gateway, "alice"));
    let third = gateway.browser();
    let page = third.try_sign_in("alice", &password_of("alice"), "/").text();
    first.sign_out(false);
    until("it has ended", || (!first.is_signed_in()).then_some(()));
    assert_eq!(choose(&third, &page, &[]).status(), 303, "there is room by now");
    assert!(second.is_signed_in() && third.is_signed_in());
}
