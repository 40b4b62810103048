//! A new file comes into force in one step, or not at all; nobody is signed out by it.

use crate::support::gateway::session_key;
use crate::support::wait::{pause, until, within};
use crate::support::{Gateway, HOST, Setup, Upstream};
use rustix::process::Signal;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

const PUBLIC: &str = "[{ name: all, host: wiki.example.com, path: /, access: public, upstream: app },
    { name: kept, host: keep.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }]";

fn ready(gateway: &Gateway) -> String {
    let answer = gateway.admin("GET", "/readyz", "");
    assert_eq!(answer.status(), 200);
    answer.text()
}

#[test]
fn a_changed_file_comes_into_force_by_itself() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    assert_eq!(gateway.get("/page").send().status(), 401);
    drop(alice);
    gateway.change("routes", PUBLIC);
    until("the new file is in force", || (gateway.get("/page").send().status() == 200).then_some(()));
    gateway.audit("config_loaded");
    let routes = "[{ name: all, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }]";
    gateway.change("routes", routes);
    until("the newer file is in force", || (gateway.get("/page").send().status() == 401).then_some(()));
    assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 200, "sessions survive");
}

#[test]
fn sighup_reads_the_file_again() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    gateway.change("routes", PUBLIC);
    gateway.signal(Signal::HUP);
    until("the new file is in force", || (gateway.get("/page").send().status() == 200).then_some(()));
}

#[test]
fn a_broken_file_changes_nothing_and_is_seen_everywhere() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    assert!(ready(&gateway).contains("configuration: in force since"));
    for broken in [
        "[{ name: all, path: /, access: nobody, upstream: app }]",
        "[{ name: all, path: /, access: public, upstream: nothing }]",
        "[{ name: all, path: /, acess: public, upstream: app }]",
        "[{ name: all",
    ] {
        gateway.change("routes", broken);
        let answer = gateway.admin("POST", "/reload", "");
        assert_eq!(answer.status(), 422, "{broken}");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("vestibule.yaml")),
            "{}",
            answer.text()
        );
        assert_eq!(gateway.get("/public").send().status(), 200);
        assert_eq!(gateway.get("/page").send().status(), 401);
        assert!(ready(&gateway).contains("the file is refused since"), "{}", ready(&gateway));
    }
    assert!(gateway.metric("vestibule_config_rejected_since_seconds") > 0.0);
    gateway.audit("config_rejected");
    gateway.reload_with("routes", PUBLIC);
    assert!(ready(&gateway).contains("configuration: in force since"));
    assert!(gateway.metric("vestibule_config_rejected_since_seconds") < 1.0);
    assert_eq!(gateway.get("/page").send().status(), 200);
}

#[test]
fn no_request_falls_between_two_configurations() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let address = gateway.address();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let asking = std::thread::spawn(move || {
        let mut wire = crate::support::Wire::to(address);
        let mut count = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            assert_eq!(wire.response().status(), 200);
            count += 1;
        }
        count
    });
    for _ in 0..5 {
        gateway.reload_with("routes", PUBLIC);
        gateway.reload_with("drain", "5s");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(asking.join().expect("every request was answered") > 0);
}

#[test]
fn a_new_key_signs_nobody_out_and_a_key_that_is_gone_does() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).file("new.key", &session_key("the second")).start();
    gateway.secrets().note("the new key", &session_key("the second"));
    let before = gateway.browser();
    before.sign_in("alice");
    let cookie = before.stolen_cookie();
    drop(before);
    gateway.reload_with("keys", "[{ file: new.key }, { file: session.key }]");
    assert_eq!(
        gateway.get("/page").header("Cookie", &cookie).send().status(),
        200,
        "an older key still verifies"
    );
    let after = gateway.browser();
    after.sign_in("bob");
    let newer = after.stolen_cookie();
    drop(after);
    gateway.reload_with("keys", "[{ file: new.key }]");
    assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 401);
    assert_eq!(gateway.get("/page").header("Cookie", &newer).send().status(), 200, "the newest key signs");
}

#[test]
fn a_token_under_a_former_name_of_the_cookie_never_leaves() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    drop(alice);
    let sent = format!("theme=dark; {cookie}; __Host-second=x; a=b");
    for (name, kept) in [
        ("__Host-second", "theme=dark; a=b"),
        ("__Host-third", "theme=dark; a=b"),
        // A file that is read again without a change of the name forgets none.
        ("__Host-third", "theme=dark; a=b"),
        ("__Host-4", "theme=dark; a=b"),
    ] {
        gateway.reload_with("sessions", &format!("{{ cookie: {{ name: {name} }} }}"));
        let answer = gateway.get("/public").header("Cookie", &sent).send();
        assert_eq!(answer.status(), 200);
        assert_eq!(upstream.last().header("cookie").as_deref(), Some(kept), "{name}");
        assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 401, "{name}");
    }
    gateway.reload_with("sessions", "{}");
    assert_eq!(
        gateway.get("/page").header("Cookie", &cookie).send().status(),
        200,
        "it is called that again"
    );
}

#[test]
fn another_store_needs_a_restart_and_says_so() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    drop(alice);
    gateway.change("sessions", "{ store: { sqlite: sessions.db } }");
    let answer = gateway.admin("POST", "/reload", "");
    assert_eq!(answer.status(), 200);
    let told = answer.json()["message"].to_string();
    assert!(
        told.contains("needs a restart: sessions.store (sqlite, ") && told.contains("sessions.db"),
        "{told}"
    );
    assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 200);
    assert!(!gateway.folder().path().join("sessions.db").exists());
}

#[test]
fn shorter_lifetimes_apply_to_living_sessions() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    drop(alice);
    gateway.reload_with("sessions", "{ idle_timeout: 1s, absolute_lifetime: 1s }");
    until("the session has ended", || {
        (gateway.get("/page").header("Cookie", &cookie).send().status() == 401).then_some(())
    });
    gateway.reload_with("sessions", "{ idle_timeout: 1h, absolute_lifetime: 2h }");
    assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 401, "an end is an end");
}

#[test]
fn an_entry_that_is_not_what_it_was_asks_for_a_new_sign_in() {
    let upstream = Upstream::recording();
    let users = crate::support::users::file(&crate::support::users::usual());
    let mut gateway = Setup::before(&upstream).file("others.yaml", &users).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    drop(alice);
    gateway.reload_with("sign_in", "{ local: { password: { users: others.yaml } } }");
    assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 401);
    // The same words mean another person there: no page of ours tells of that person.
    assert_eq!(gateway.get("/_vestibule/session").header("Cookie", &cookie).send().status(), 401);
    let account = gateway.get("/_vestibule/account").header("Cookie", &cookie);
    assert_eq!(account.header("Accept", "text/html").send().status(), 302);
}

#[test]
fn listeners_in_another_order_stay_what_their_addresses_say() {
    const PUBLIC: &str = "{ address: \"127.0.0.1:{public}\", external: { scheme: https, port: 443 } }";
    const PLAIN: &str = "{ address: \"127.0.0.1:{second}\" }";
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).set("listeners", &format!("[{PUBLIC}, {PLAIN}]")).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    drop(alice);
    for listeners in [
        format!("[{PLAIN}, {PUBLIC}]"),
        // An address that is not bound says nothing about one that is.
        format!("[{{ address: \"127.0.0.1:1\" }}, {PLAIN}]"),
    ] {
        gateway.reload_with("listeners", &listeners);
        assert_eq!(gateway.get("/page").header("Cookie", &cookie).send().status(), 200, "{listeners}");
        assert_eq!(upstream.last().header("x-forwarded-proto").as_deref(), Some("https"));
    }
}

#[test]
fn a_file_that_is_touched_without_a_change_is_not_read_again() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    gateway.change("version", "1");
    // Longer than the quiet time after which a change counts.
    pause(Duration::from_millis(600));
    // Looking at the files is no change of them: afterwards it is quiet again, on a busy machine a little later.
    until("it is quiet again, and does not read its files again and again", || {
        let looks = gateway.system_calls_of_reading();
        pause(Duration::from_millis(800));
        (gateway.system_calls_of_reading() - looks < 5).then_some(())
    });
    assert_eq!(gateway.lines().iter().filter(|line| line["event"] == "config_loaded").count(), 0);
    assert_eq!(gateway.get("/public").send().status(), 200);
}

#[test]
fn a_log_that_is_written_beside_the_file_does_not_delay_it() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream)
        .set("logs", "{ access: { format: json, to: access.log }, audit: { format: json, to: stdout } }")
        .start();
    let address = gateway.address();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let asking = std::thread::spawn(move || {
        let mut wire = crate::support::Wire::to(address);
        while stopped
            .recv_timeout(Duration::from_millis(20))
            .is_err_and(|end| end == RecvTimeoutError::Timeout)
        {
            wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            assert_eq!(wire.response().status(), 200);
        }
    });
    gateway.change("routes", PUBLIC);
    let taken =
        within(Duration::from_secs(5), || (gateway.get("/page").send().status() == 200).then_some(()));
    drop(stop);
    asking.join().expect("every request was answered");
    assert!(taken.is_some(), "the change was not taken up");
}
