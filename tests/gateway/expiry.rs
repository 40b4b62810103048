//! Both lifetimes end a session; a full table refuses newcomers and pushes nobody out.

use crate::support::users::password_of;
use crate::support::wait::{now, pause, until};
use crate::support::{SESSION, Setup, Upstream};
use std::time::Duration;

#[test]
fn a_session_that_pauses_too_long_ends() {
    let upstream = Upstream::recording();
    let gateway =
        Setup::before(&upstream).set("sessions", "{ idle_timeout: 2s, absolute_lifetime: 1h }").start();
    let (busy, idle) = (gateway.browser(), gateway.browser());
    busy.sign_in("alice");
    idle.sign_in("bob");
    let started = now();
    while started.elapsed() < Duration::from_millis(3500) {
        assert!(busy.is_signed_in(), "use keeps a session, after {:?}", started.elapsed());
        // Asking does not count as a use.
        idle.get("/_vestibule/session").send();
        pause(Duration::from_millis(200));
    }
    assert!(!idle.is_signed_in());
    let line = gateway.wait_for_line("about the pause", |line| {
        line["event"] == "session_ended" && line["reason"] == "idle"
    });
    assert_eq!(line["subject"], "bob");
    assert!(gateway.metric("vestibule_sessions_ended_total{reason=\"idle\"}") >= 1.0);
}

#[test]
fn a_session_ends_at_its_lifetime_however_busy() {
    let upstream = Upstream::recording();
    let gateway =
        Setup::before(&upstream).set("sessions", "{ idle_timeout: 2s, absolute_lifetime: 2s }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let started = now();
    assert!(alice.is_signed_in());
    until("the lifetime is over", || (!alice.is_signed_in()).then_some(()));
    let took = started.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_millis(3500), "{took:?}");
    gateway.wait_for_line("about the lifetime", |line| line["event"] == "session_ended");
}

#[test]
fn a_full_table_refuses_newcomers_and_pushes_nobody_out() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("sessions", "{ capacity: 2 }").start();
    let (first, second, third) = (gateway.browser(), gateway.browser(), gateway.browser());
    first.sign_in("alice");
    second.sign_in("alice");
    let refused = third.try_sign_in("bob", &password_of("bob"), "/");
    assert_eq!(refused.status(), 503);
    assert!(refused.header("retry-after").is_some());
    assert!(third.cookie(SESSION).is_none());
    assert!(first.is_signed_in() && second.is_signed_in());
    gateway.audit("table_full");
    let opened = gateway.admin("POST", "/sessions", r#"{"subject":"bob"}"#);
    assert_eq!(opened.status(), 503, "{}", opened.text());
    assert!(gateway.metric("vestibule_sessions_refused_total") >= 2.0);
    first.sign_out(false);
    third.sign_in("bob");
    assert!(second.is_signed_in() && third.is_signed_in());
}

#[test]
fn a_place_that_a_deadline_has_freed_is_taken() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ capacity: 1, idle_timeout: 1s, absolute_lifetime: 1h }")
        .start();
    let (first, second) = (gateway.browser(), gateway.browser());
    first.sign_in("alice");
    until("the first has ended", || {
        (second.try_sign_in("bob", &password_of("bob"), "/").status() == 303).then_some(())
    });
    assert!(second.is_signed_in());
}

#[test]
fn a_session_in_a_full_table_can_sign_in_again() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("sessions", "{ capacity: 1 }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let again = alice.try_sign_in("alice", &password_of("alice"), "/");
    // Refused or taken: in either case she has a session afterwards.
    assert!([303, 503].contains(&again.status()), "{}", again.status());
    assert!(alice.is_signed_in());
}
