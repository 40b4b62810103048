//! The account page: one's own sessions, told apart, ended one by one or all others at once, and nobody else's.

use crate::support::client::{NAVIGATION, hidden_field};
use crate::support::{Browser, Gateway, Message, SESSION, Setup, Upstream};

const ACCOUNT: &str = "/_vestibule/account";
const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:146.0) Gecko/20100101 Firefox/146.0";

/// Signs in as somebody with this browser name.
fn sign_in_as<'a>(gateway: &'a Gateway, user: &str, user_agent: &str) -> Browser<'a> {
    let browser = gateway.browser().called(user_agent);
    browser.sign_in(user);
    browser
}

fn page(browser: &Browser<'_>) -> String {
    let page = browser.get(ACCOUNT).headers(&NAVIGATION).send();
    assert_eq!(page.status(), 200, "{}", page.text());
    page.text()
}

/// The ids of the page's sessions, in order.
fn ids(page: &str) -> Vec<String> {
    page.split("name=\"end\" value=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or("").to_owned())
        .collect()
}

fn send(browser: &Browser<'_>, fields: &[(&str, &str)]) -> Message {
    let form_token = browser.form_token(ACCOUNT);
    let fields = [fields, &[("form_token", form_token.as_str())]].concat();
    browser.own_post(ACCOUNT).form(&fields).send()
}

#[test]
fn the_page_lists_ones_own_sessions_and_marks_this_one() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = sign_in_as(&gateway, "alice", FIREFOX);
    let script = sign_in_as(&gateway, "alice", "our-script/1 <b>&");
    let bob = sign_in_as(&gateway, "bob", "curl/8.15.0");
    let own = page(&alice);
    assert_eq!(ids(&own).len(), 2, "{own}");
    for text in [
        "alice",
        "Firefox on Windows",
        "this one",
        "127.0.0.1",
        "local",
        "our-script&#x2f;1 &lt;b&gt;&amp;",
        " UTC</time>",
    ] {
        assert!(own.contains(text), "{text} in {own}");
    }
    assert!(!own.contains("curl") && !own.contains("bob"), "{own}");
    let marked = own.find("Firefox on Windows").expect("it is listed");
    assert!(marked < own.find("our-script").expect("it is listed"), "this one comes first");
    assert_eq!(ids(&page(&bob)).len(), 1);
    let chinese = script.get(ACCOUNT).header("Accept-Language", "zh-CN").headers(&NAVIGATION).send().text();
    assert!(chinese.contains("Windows 上的 Firefox") && chinese.contains("您登录的地方"), "{chinese}");
    let token = alice.cookie(SESSION).expect("a session cookie");
    assert!(!own.contains(&token) && !own.contains(&token[..20]), "the page holds ids alone");
    assert!(upstream.requests().is_empty());
}

#[test]
fn who_is_not_signed_in_is_asked_to_and_comes_back() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    let answer = alice.get(ACCOUNT).headers(&NAVIGATION).send();
    assert_eq!(answer.status(), 302);
    let login = answer.header("location").expect("a location");
    assert_eq!(login, "/_vestibule/login?return_to=%2F_vestibule%2Faccount");
    let form = alice.get(&login).headers(&NAVIGATION).send();
    assert_eq!(hidden_field(&form.text(), "return_to"), ACCOUNT);
    let password = crate::support::users::password_of("alice");
    let answer = alice.try_sign_in("alice", &password, ACCOUNT);
    assert_eq!(answer.header("location").as_deref(), Some(ACCOUNT));
    assert_eq!(ids(&page(&alice)).len(), 1);
    let stranger = gateway.browser().own_post(ACCOUNT).form(&[("others", "1")]).send();
    assert_eq!(stranger.status(), 303);
    assert!(stranger.header("location").expect("a location").starts_with("/_vestibule/login"));
}

#[test]
fn one_session_is_ended_and_the_others_go_on() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let [phone, tablet] = [gateway.browser(), gateway.browser()];
    phone.sign_in("alice");
    let of_phone = ids(&page(&phone))[0].clone();
    tablet.sign_in("alice");
    let answer = send(&alice, &[("end", &of_phone)]);
    assert_eq!((answer.status(), answer.header("location").as_deref()), (303, Some(ACCOUNT)));
    assert!(!phone.is_signed_in() && tablet.is_signed_in() && alice.is_signed_in());
    assert_eq!(ids(&page(&alice)).len(), 2);
    let line = gateway.audit("session_ended");
    assert_eq!(
        (line["session"].as_str(), line["reason"].as_str()),
        (Some(of_phone.as_str()), Some("revoked"))
    );
    // It is gone already; that is what was wanted.
    assert_eq!(send(&alice, &[("end", &of_phone)]).status(), 303);
}

#[test]
fn all_others_are_ended_and_this_one_goes_on() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let others: Vec<Browser<'_>> = (0..3).map(|_| gateway.browser()).collect();
    for other in &others {
        other.sign_in("alice");
    }
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(send(&alice, &[("others", "1")]).status(), 303);
    assert!(others.iter().all(|other| !other.is_signed_in()));
    assert!(alice.is_signed_in() && bob.is_signed_in());
    assert_eq!(ids(&page(&alice)).len(), 1);
}

#[test]
fn to_end_this_one_is_to_sign_out() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let copied = alice.stolen_cookie();
    let own = ids(&page(&alice))[0].clone();
    let answer = send(&alice, &[("end", &own)]);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("clear-site-data").as_deref(), Some("\"cache\""));
    assert!(answer.text().contains("You are signed out"), "{}", answer.text());
    assert!(alice.cookie(SESSION).is_none());
    assert_eq!(gateway.get("/page").header("Cookie", &copied).send().status(), 401);
    assert_eq!(gateway.audit("sign_out")["reason"], "sign_out");
}

#[test]
fn nobody_ends_anothers_session() {
    let upstream = Upstream::recording();
    // Two ways that both know an alice: she is two people.
    let gateway = Setup::before(&upstream)
        .set(
            "sign_in",
            "{ local: { password: { users: users.yaml } }, other: { password: { users: users.yaml } } }",
        )
        .access("{ sign_in: [local, other], allow: everyone, same_people: true }")
        .start();
    let [alice, bob, namesake] = [gateway.browser(), gateway.browser(), gateway.browser()];
    let sign_in = |browser: &Browser<'_>, user: &str, way: &str| {
        let (form_token, password) =
            (browser.form_token("/_vestibule/login"), crate::support::users::password_of(user));
        gateway.secrets().note_ours("a password", &password);
        let fields = [
            ("user", user),
            ("password", password.as_str()),
            ("way", way),
            ("form_token", form_token.as_str()),
        ];
        assert_eq!(browser.own_post("/_vestibule/login").form(&fields).send().status(), 303);
    };
    sign_in(&alice, "alice", "local");
    sign_in(&bob, "bob", "local");
    sign_in(&namesake, "alice", "other");
    for other in [&bob, &namesake] {
        let theirs = ids(&page(other))[0].clone();
        assert_eq!(send(&alice, &[("end", &theirs)]).status(), 303);
        assert!(other.is_signed_in());
    }
    assert_eq!(send(&alice, &[("others", "1")]).status(), 303);
    assert!(bob.is_signed_in() && namesake.is_signed_in());
    // Another's form token is none, however it was come by.
    let token = bob.form_token(ACCOUNT);
    let own = ids(&page(&alice))[0].clone();
    let stolen = [("end", own.as_str()), ("form_token", token.as_str())];
    assert_eq!(alice.own_post(ACCOUNT).form(&stolen).send().status(), 403);
    assert!(alice.is_signed_in());
}

#[test]
fn the_form_is_taken_from_our_own_page_alone() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let [alice, phone] = [gateway.browser(), gateway.browser()];
    alice.sign_in("alice");
    phone.sign_in("alice");
    let token = alice.form_token(ACCOUNT);
    let logout = alice.form_token("/_vestibule/logout");
    for (name, fields, token) in [
        (
            "of another site",
            &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")][..],
            &token,
        ),
        ("of a sibling", &[("Origin", "https://blog.example.com"), ("Sec-Fetch-Site", "same-site")], &token),
        ("of an opaque origin", &[("Origin", "null")], &token),
        ("without a token", &[], &String::new()),
        ("with the token of another form", &[], &logout),
    ] {
        let form = [("others", "1"), ("form_token", token.as_str())];
        let answer = alice.post(ACCOUNT).headers(fields).form(&form).send();
        assert_eq!(answer.status(), 403, "a form {name}");
        assert!(phone.is_signed_in(), "a form {name}");
    }
    for fields in [&[][..], &[("end", "")], &[("end", "not-an-id")], &[("others", "0")]] {
        assert_eq!(send(&alice, fields).status(), 403, "{fields:?}");
    }
    assert_eq!(alice.request("DELETE", ACCOUNT).send().status(), 405);
    assert!(phone.is_signed_in() && alice.is_signed_in());
}

#[test]
fn the_page_is_no_use_of_a_session_and_in_no_cache() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let answer = alice.get(ACCOUNT).headers(&NAVIGATION).send();
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert!(answer.header("content-security-policy").expect("a policy").contains("default-src 'none'"));
    let logout = alice.get("/_vestibule/logout").headers(&NAVIGATION).send();
    assert!(logout.text().contains("href=\"/_vestibule/account\""), "the way there is shown");
}
