//! `vestibule demo`: what a visitor of the first five minutes sees.

use crate::support::{Browser, Gateway, Setup, Upstream};

/// The password that the greeting names.
fn password(gateway: &Gateway, user: &str) -> String {
    let greeting = crate::support::wait::until("the greeting names the users", || {
        gateway.everything().into_iter().find(|line| line.split_whitespace().next() == Some(user))
    });
    greeting.split_whitespace().nth(1).expect("a password stands behind the name").to_owned()
}

#[test]
fn a_stranger_signs_in_looks_round_and_signs_out() {
    let gateway = Setup::demonstration().start();
    let host = format!("localhost:{}", gateway.address().port());
    let browser = || Browser::at(&gateway, &host, &format!("http://{host}"));
    let (alice, bob) = (browser(), browser());
    assert_eq!(alice.get("/public/").send().status(), 200);
    assert_eq!(alice.get("/").send().status(), 401);
    for (visitor, name, status) in [(&alice, "alice", 200), (&bob, "bob", 403)] {
        let answer = visitor.try_sign_in(name, &password(&gateway, name), "/");
        assert_eq!(answer.status(), 303, "{}", answer.text());
        assert!(visitor.get("/").send().text().contains(name));
        assert_eq!(visitor.get("/ops/").send().status(), status, "{name}");
    }
    alice.get("/visits").send();
    assert!(alice.get("/visits").send().text().contains('2'), "the application's own cookie comes and goes");
    assert_eq!(alice.sign_out(false).status(), 200);
    assert_eq!(alice.get("/").send().status(), 401);
    assert_eq!(bob.get("/").send().status(), 200);
}

#[test]
fn its_files_can_be_kept_and_pass_the_check() {
    let gateway = Setup::demonstration().start();
    password(&gateway, "alice");
    let checked = crate::support::command::vestibule(
        &gateway.folder().path().join("demo"),
        &["check", "-c", "vestibule.yaml"],
        "",
    );
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn an_operators_pages_replace_ours() {
    let upstream = Upstream::recording();
    let setup = Setup::before(&upstream).set("pages", "looks");
    let gateway = setup.file("looks/style.css", "body { color: teal }").start();
    let page = gateway.get("/_vestibule/login").header("Accept", "text/html").send();
    assert!(page.text().contains("color: teal"), "{}", page.text());
}
