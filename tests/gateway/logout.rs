//! Signing out means it: the session is dead at once, for whoever holds its cookie.

use crate::support::client::{NAVIGATION, OWN_FORM, hidden_field};
use crate::support::users::password_of;
use crate::support::wait::pause;
use crate::support::{Answer, Gateway, SESSION, Upstream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn after_signing_out_a_copied_cookie_is_dead_at_once() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let copied = alice.stolen_cookie();
    // On a connection that was open before, too.
    let mut open = gateway.connect();
    assert_eq!(gateway.get("/page").header("Cookie", &copied).send_over(&mut open).status(), 200);

    let answer = alice.sign_out(false);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("clear-site-data").as_deref(), Some("\"cache\""));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert!(alice.cookie(SESSION).is_none(), "the browser's cookie is cleared");
    assert_eq!(gateway.get("/page").header("Cookie", &copied).send_over(&mut open).status(), 401);
    assert_eq!(gateway.get("/page").header("Cookie", &copied).send().status(), 401);
    assert_eq!(gateway.audit("sign_out")["subject"], "alice");
}

#[test]
fn signing_out_here_leaves_other_browsers_alone_and_everywhere_does_not() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (desk, phone, tablet, bob) =
        (gateway.browser(), gateway.browser(), gateway.browser(), gateway.browser());
    for browser in [&desk, &phone, &tablet] {
        browser.sign_in("alice");
    }
    bob.sign_in("bob");
    desk.sign_out(false);
    assert!(!desk.is_signed_in());
    assert!(phone.is_signed_in() && tablet.is_signed_in());
    phone.sign_out(true);
    assert!(!phone.is_signed_in() && !tablet.is_signed_in());
    assert!(bob.is_signed_in(), "bob is not concerned");
}

#[test]
fn signing_out_beside_a_planted_session_cookie_ends_both() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, mallory) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    mallory.sign_in("bob");
    let (own, planted) = (alice.stolen_cookie(), mallory.stolen_cookie());
    let form = alice.cookie("__Host-vestibule-form").expect("the login page set it");
    let cookies = format!("{planted}; {own}; __Host-vestibule-form={form}");
    let page = gateway.get("/_vestibule/logout").headers(&NAVIGATION).header("Cookie", &cookies).send();
    let token = hidden_field(&page.text(), "form_token");
    let answer = gateway
        .post("/_vestibule/logout")
        .headers(&OWN_FORM)
        .header("Cookie", &cookies)
        .form(&[("form_token", token.as_str())])
        .send();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    for cookie in [&own, &planted] {
        assert_eq!(gateway.get("/page").header("Cookie", cookie).send().status(), 401);
    }
}

#[test]
fn signing_in_beside_a_planted_session_cookie_ends_both() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, mallory) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    mallory.sign_in("bob");
    let (own, planted) = (alice.stolen_cookie(), mallory.stolen_cookie());
    let token = alice.form_token("/_vestibule/login");
    let form = alice.cookie("__Host-vestibule-form").expect("the login page set it");
    let answer = gateway
        .post("/_vestibule/login")
        .headers(&OWN_FORM)
        .header("Cookie", &format!("{planted}; {own}; __Host-vestibule-form={form}"))
        .form(&[
            ("user", "alice"),
            ("password", password_of("alice").as_str()),
            ("form_token", token.as_str()),
        ])
        .send();
    assert_eq!(answer.status(), 303, "{}", answer.text());
    for cookie in [&own, &planted] {
        assert_eq!(gateway.get("/page").header("Cookie", cookie).send().status(), 401);
    }
}

#[test]
fn nobody_is_signed_out_by_another_site() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let token = alice.form_token("/_vestibule/logout");
    for (name, fields, form_token) in [
        (
            "of another site",
            &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")][..],
            token.as_str(),
        ),
        (
            "of a sibling",
            &[("Origin", "https://blog.example.com"), ("Sec-Fetch-Site", "same-site")],
            token.as_str(),
        ),
        ("without a token", &[("Origin", "https://wiki.example.com")], ""),
        ("with a wrong token", &[("Origin", "https://wiki.example.com")], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        let answer =
            alice.post("/_vestibule/logout").headers(fields).form(&[("form_token", form_token)]).send();
        assert_eq!(answer.status(), 403, "a form {name}");
        assert!(alice.is_signed_in(), "a form {name}");
    }
    // A picture on another page can only GET, and GET only asks.
    assert_eq!(alice.get("/_vestibule/logout").send().status(), 200);
    assert!(alice.is_signed_in());
}

#[test]
fn the_question_names_who_would_be_signed_out() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    let stranger = alice.get("/_vestibule/logout").headers(&NAVIGATION).send();
    assert_eq!(stranger.status(), 200);
    assert!(!stranger.text().contains("form_token"), "there is nothing to end");
    alice.sign_in("alice");
    assert!(alice.get("/_vestibule/logout").headers(&NAVIGATION).send().text().contains("alice"));
}

#[test]
fn signing_out_without_a_session_is_no_error() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.browser().own_post("/_vestibule/logout").form(&[("form_token", "")]).send();
    assert_eq!(answer.status(), 200);
}

#[test]
fn after_the_answer_to_a_sign_out_nothing_is_served() {
    // The application says of each answer whether the visitor knew by then that the session was over.
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let count = AtomicU64::new(0);
    let upstream = Upstream::answering(move |_| {
        pause(Duration::from_millis(count.fetch_add(7, Ordering::Relaxed) % 60));
        Answer::ok(&[("X-Late", if told.load(Ordering::SeqCst) { "yes" } else { "no" })])
    });
    let gateway = Gateway::before(&upstream);
    for round in 0..10 {
        over.store(false, Ordering::SeqCst);
        let alice = gateway.browser();
        alice.sign_in("alice");
        let cookie = alice.stolen_cookie();
        let arrived = upstream.requests().len();
        let served = AtomicU64::new(0);
        thread::scope(|scope| {
            for number in 0..200 {
                let (gateway, over, cookie, served) = (&gateway, &over, &cookie, &served);
                scope.spawn(move || {
                    pause(Duration::from_millis(number % 40));
                    let sent_late = over.load(Ordering::SeqCst);
                    let answer = gateway.get("/page").header("Cookie", cookie).send();
                    let answered_late = answer.header("x-late").as_deref() == Some("yes");
                    if answer.status() == 200 {
                        assert!(
                            !sent_late,
                            "round {round}: a request was sent after the sign-out, and served"
                        );
                        assert!(
                            !answered_late,
                            "round {round}: an answer that came after the sign-out was passed on"
                        );
                        served.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(answer.status(), 401);
                    }
                });
            }
            upstream.wait_for(arrived + 20);
            let answer = gateway.request("DELETE", "/_vestibule/session").header("Cookie", &cookie).send();
            over.store(true, Ordering::SeqCst);
            assert_eq!(answer.status(), 204);
        });
        let refused = 200 - served.into_inner();
        assert!(refused > 0, "round {round}: the race was over before it began");
        assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 401);
    }
}
