//! Sessions of visitors who have not signed in: opened by the first data that is kept, and by nothing else.

use crate::support::client::{NAVIGATION, OWN_FORM};
use crate::support::users::password_of;
use crate::support::wait::until;
use crate::support::{Browser, Gateway, Message, SESSION, Setup, Upstream};
use serde_json::json;

const ROUTES: [&str; 4] = [
    "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
    "{ name: plain, host: wiki.example.com, path: /plain, access: public, upstream: app }",
    "{ name: maybe, host: wiki.example.com, path: /maybe, upstream: app, session: { data: true },
       access: { sign_in: [local], allow: everyone, optional: true } }",
    "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
       access: { sign_in: [local], allow: everyone } }",
];
const CART: &str = "{\"cart\":[7]}";
/// A click on another site's link.
const LINK: [(&str, &str); 3] =
    [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];

fn shop(upstream: &Upstream, sessions: &str) -> Setup {
    Setup::before(upstream).routes(&ROUTES).set("sessions", sessions)
}

/// The session cookie that an answer sets, with its attributes.
fn session_cookie(answer: &Message) -> Option<String> {
    let mut ours = answer.all("set-cookie");
    ours.retain(|line| line.starts_with(&format!("{SESSION}=")));
    assert!(ours.len() < 2, "{ours:?}");
    ours.pop()
}

/// What a browser without cookies gets when the application keeps something.
fn first_visit(gateway: &Gateway, fields: &[(&str, &str)]) -> Message {
    let answer = gateway.get("/shop").headers(fields).patch(CART).send();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
}

#[test]
fn a_visit_alone_opens_nothing_and_the_first_data_does() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    let visitor = gateway.browser();
    for (target, patch) in
        [("/shop", None), ("/maybe", None), ("/shop", Some("{}")), ("/shop", Some("{\"a\":null}"))]
    {
        let request = visitor.get(target);
        let answer = if let Some(patch) = patch { request.patch(patch) } else { request }.send();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "none"), "{target} {patch:?}");
        assert_eq!(answer.all("set-cookie"), Vec::<String>::new(), "{target} {patch:?}");
    }
    // Where nothing is kept, nothing opens.
    assert_eq!(visitor.get("/plain").patch(CART).send().all("set-cookie"), Vec::<String>::new());
    assert_eq!(visitor.get("/page").patch(CART).send().status(), 401);
    assert!(visitor.cookie(SESSION).is_none());

    let answer = visitor.get("/shop").patch(CART).say("Cache-Control", "public").send();
    let cookie = session_cookie(&answer).expect("the answer brings a cookie");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/"), "{cookie}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("private"));
    assert_eq!(visitor.data("/shop"), Some(json!({"cart": [7]})));
    assert_eq!(visitor.data("/maybe"), Some(json!({"cart": [7]})), "the same application");
    visitor.keep("/shop", "{\"name\":\"pure\"}");
    assert_eq!(visitor.data("/shop"), Some(json!({"cart": [7], "name": "pure"})));
    assert!(session_cookie(&visitor.get("/shop").patch("{\"a\":1}").send()).is_none(), "the cookie stays");
    assert!((0.5..1.5).contains(&gateway.metric("vestibule_session_patches_total{result=\"opened\"}")));
}

#[test]
fn an_anonymous_visitor_is_nobody() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    let visitor = gateway.browser();
    visitor.keep("/shop", CART);
    assert_eq!(visitor.get("/page").send().status(), 401);
    assert_eq!(visitor.get("/page").headers(&NAVIGATION).send().status(), 302);
    assert_eq!(visitor.get("/_vestibule/session").send().status(), 401);
    visitor.get("/maybe").send();
    assert_eq!(upstream.last().header("x-auth-user"), None);
    let listed = gateway.admin("GET", "/sessions", "").json();
    assert_eq!(listed["sessions"], json!([]), "those who signed in are listed");
}

#[test]
fn its_cookie_goes_with_the_browser_whatever_the_file_says_of_others() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {}, cookie: { persistent: true } }").start();
    let cookie = session_cookie(&first_visit(&gateway, &[])).expect("a cookie");
    assert!(
        !cookie.to_lowercase().contains("max-age") && !cookie.to_lowercase().contains("expires"),
        "{cookie}"
    );
}

#[test]
fn it_is_opened_with_any_status() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    for (method, status) in [
        ("GET", "304 Not Modified"),
        ("HEAD", "200 OK"),
        ("POST", "302 Found"),
        ("POST", "422 Unprocessable"),
        ("GET", "500 Internal Server Error"),
    ] {
        let visitor = gateway.browser();
        let answer = visitor.request(method, "/shop").say("Status", status).patch(CART).send();
        assert!(session_cookie(&answer).is_some(), "{method} {status}");
        assert_eq!(visitor.data("/shop"), Some(json!({"cart": [7]})), "{method} {status}");
    }
    // A bad patch opens nothing, and the visitor is not told that all went well.
    let answer = gateway.get("/shop").patch("[]").send();
    assert_eq!((answer.status(), session_cookie(&answer)), (502, None));
}

#[test]
fn the_data_moves_along_at_sign_in_and_the_old_token_is_dead() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    let visitor = gateway.browser();
    visitor.keep("/shop", CART);
    let before = visitor.stolen_cookie();
    visitor.sign_in("alice");
    assert_ne!(visitor.stolen_cookie(), before);
    assert_eq!(visitor.data("/page"), Some(json!({"cart": [7]})));
    let copied = gateway.get("/shop").header("Cookie", &before).patch("{\"stolen\":1}").send();
    assert_eq!(copied.text(), "none");
    assert!(session_cookie(&copied).is_none(), "an answer to the old token must not replace the new one");
    assert_eq!(visitor.data("/page"), Some(json!({"cart": [7]})));

    // Signing in as somebody else takes nothing along.
    let answer = visitor.try_sign_in("bob", &password_of("bob"), "/");
    assert_eq!(answer.status(), 303, "{}", answer.text());
    assert_eq!(visitor.data("/page"), Some(json!({})));
}

#[test]
fn another_site_never_takes_a_visitor_s_cookie_away() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    // What a browser that is signed in sends without its cookie, and whose answer may set one all the same.
    for (method, fields) in [
        ("POST", &[&LINK[..], &[("Origin", "https://evil.example")]].concat()[..]),
        ("POST", &[("Origin", "null")]),
        (
            "GET",
            &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        ),
        (
            "GET",
            &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
        ),
        (
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "cors"),
                ("Origin", "https://evil.example"),
            ],
        ),
    ] {
        let answer = gateway.request(method, "/shop").headers(fields).patch(CART).send();
        assert_eq!((answer.status(), session_cookie(&answer)), (200, None), "{method} {fields:?}");
    }
    // What it would send with the cookie, had it one.
    for fields in [
        &LINK[..],
        &[("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        &[
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Mode", "cors"),
            ("Origin", "https://wiki.example.com"),
        ],
        &[],
    ] {
        assert!(session_cookie(&first_visit(&gateway, fields)).is_some(), "{fields:?}");
    }
    let strict = shop(&upstream, "{ anonymous: {}, cookie: { same_site: strict } }").start();
    for (fields, expected) in [
        (&LINK[..], false),
        (&[], false),
        (&[("Sec-Fetch-Site", "none")], true),
        (&[("Sec-Fetch-Site", "same-origin")], true),
    ] {
        assert_eq!(session_cookie(&first_visit(&strict, fields)).is_some(), expected, "strict, {fields:?}");
    }
}

#[test]
fn a_dead_cookie_is_replaced_and_a_doubtful_one_is_not() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let ended = alice.stolen_cookie();
    alice.sign_out(false);
    let one = gateway.browser();
    one.keep("/shop", CART);
    let (one, junk) = (one.stolen_cookie(), format!("{SESSION}={}", "A".repeat(54)));
    for (cookie, expected) in [
        (ended, true),
        (junk.clone(), true),
        (format!("{SESSION}=x"), true),
        (format!("{one}; {junk}"), false),
        (one, false),
    ] {
        let answer = first_visit(&gateway, &[("Cookie", &cookie)]);
        assert_eq!(session_cookie(&answer).is_some(), expected, "{cookie}");
    }
}

#[test]
fn one_client_opens_only_so_many_and_its_pages_go_on() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").set("trusted_proxies", "[127.0.0.1/32]").start();
    let opened = |address: &str, times: usize| {
        let visits = (0..times)
            .filter(|_| session_cookie(&first_visit(&gateway, &[("X-Forwarded-For", address)])).is_some());
        visits.count()
    };
    let flood = opened("203.0.113.7", 100);
    assert!((30..50).contains(&flood), "{flood} sessions for one client");
    assert_eq!(opened("203.0.113.8", 1), 1, "another client is not concerned");
    let flood: usize = (0..100).map(|n| opened(&format!("2001:db8:1:2::{n}"), 1)).sum();
    assert!((30..50).contains(&flood), "{flood} sessions for one /64");
    assert_eq!(opened("2001:db8:1:3::1", 1), 1);
    assert_eq!(gateway.audit("patch_dropped")["reason"], "pace");
    assert!(gateway.metric("vestibule_session_patches_total{result=\"pace\"}") >= 100.0);
    assert!(gateway.lines_of("patch_dropped") <= 2);
}

#[test]
fn a_flood_of_visitors_pushes_nobody_out() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: { capacity: 40 }, capacity: 2 }")
        .set("trusted_proxies", "[127.0.0.1/32]")
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let early = gateway.browser();
    early.keep("/shop", CART);
    let visits: Vec<bool> = (0..2_000)
        .map(|n| {
            let address = format!("10.{}.{}.1", n / 250, n % 250);
            session_cookie(&first_visit(&gateway, &[("X-Forwarded-For", &address)])).is_some()
        })
        .collect();
    assert_eq!(visits.iter().filter(|opened| **opened).count(), 39, "so many as there was room for");
    assert!(visits[..39].iter().all(|opened| *opened), "the first of them");
    assert_eq!(early.data("/shop"), Some(json!({"cart": [7]})));
    early.keep("/shop", "{\"more\":1}");
    assert!(alice.is_signed_in());
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert!(bob.is_signed_in(), "those who sign in have room of their own");
    let line = gateway.audit("table_full");
    assert_eq!(line["reason"], "anonymous");
    assert!(gateway.metric("vestibule_session_patches_total{result=\"full\"}") >= 1_900.0);
    assert!(gateway.lines_of("table_full") <= 2);
}

/// Hits of the test below; `make soak` asks for 100,000.
fn hits() -> u32 {
    std::env::var("HITS").ok().and_then(|hits| hits.parse().ok()).unwrap_or(3_000)
}

#[test]
fn hits_without_a_cookie_cost_nothing() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: { capacity: 4 } }").start();
    let (alice, early) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    early.keep("/shop", CART);
    let mut wire = gateway.connect();
    for _ in 0..hits() {
        let answer = gateway.get("/shop").send_over(&mut wire);
        assert_eq!((answer.status(), answer.all("set-cookie").len()), (200, 0));
    }
    assert!(session_cookie(&first_visit(&gateway, &[])).is_some(), "there is room for who keeps something");
    assert!(alice.is_signed_in(), "nobody was pushed out");
    assert_eq!(early.data("/shop"), Some(json!({"cart": [7]})));
}

#[test]
fn without_the_setting_there_are_none() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ idle_timeout: 10m }").start();
    assert!(session_cookie(&first_visit(&gateway, &[])).is_none());
    let visitor: Browser<'_> = gateway.browser();
    assert_eq!(visitor.data("/shop"), None);
    assert!((0.5..1.5).contains(&gateway.metric("vestibule_session_patches_total{result=\"no_session\"}")));
}

#[test]
fn it_ends_when_its_visitor_pauses() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: { idle_timeout: 1s } }").start();
    let visitor = gateway.browser();
    visitor.keep("/shop", CART);
    let before = visitor.stolen_cookie();
    // Looking would be a use: the counter tells.
    until("the session has ended", || {
        (gateway.metric("vestibule_sessions_ended_total{reason=\"idle\"}") >= 1.0).then_some(())
    });
    assert_eq!(visitor.data("/shop"), None);
    visitor.keep("/shop", "{\"new\":1}");
    assert_ne!(visitor.stolen_cookie(), before);
    assert_eq!(visitor.data("/shop"), Some(json!({"new": 1})));
    assert_eq!(gateway.lines_of("session_ended"), 0, "no line for each passer-by");
}

#[test]
fn signing_out_ends_it_too() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {} }").start();
    let visitor = gateway.browser();
    visitor.keep("/shop", CART);
    let cookie = visitor.stolen_cookie();
    let answer = visitor.request("DELETE", "/_vestibule/session").headers(&OWN_FORM).send();
    assert_eq!(answer.status(), 204, "{}", answer.text());
    assert_eq!(gateway.get("/shop").header("Cookie", &cookie).send().text(), "none");
    assert!(visitor.cookie(SESSION).is_none());
}

#[test]
fn what_the_store_cannot_keep_opens_nothing() {
    let upstream = Upstream::prompted();
    let gateway = shop(&upstream, "{ anonymous: {}, store: { sqlite: sessions.db } }").start();
    let early = gateway.browser();
    early.keep("/shop", CART);
    gateway.limit_file_bytes(Some(4096));
    let answer = gateway.get("/shop").patch(CART).send();
    assert_eq!((answer.status(), session_cookie(&answer)), (503, None));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(gateway.get("/shop").send().status(), 200, "a visit needs no store");
    assert_eq!(early.data("/shop"), Some(json!({"cart": [7]})), "nor does reading");
    gateway.limit_file_bytes(None);
    until("the store can be written again", || {
        session_cookie(&gateway.get("/shop").patch(CART).send()).map(drop)
    });
}

#[test]
fn what_is_kept_with_a_sign_in_or_a_sign_out_is_kept_for_whoever_is_there_then() {
    let upstream = Upstream::prompted();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ anonymous: {} }")
        .set(
            "sign_in",
            "{ local: { password: { users: users.yaml } }, forum: { upstream: { name: app, paths: [\"= /shop/login\"] } } }",
        )
        .routes(&[
            "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
            "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
               access: { sign_in: [local, forum], allow: everyone, same_people: true } }",
        ])
        .start();
    let said = |browser: &Browser<'_>, name: &str, value: &str, patch: &str| {
        browser.own_post("/shop/login").body("").say(name, value).patch(patch).send()
    };
    let alice = "{\"request\":\"REQUEST-ID\",\"subject\":\"alice\"}";
    let fresh = gateway.browser();
    let visitor = gateway.browser();
    visitor.keep("/shop", CART);
    for (browser, after) in
        [(&fresh, json!({"greeted": true})), (&visitor, json!({"cart": [7], "greeted": true}))]
    {
        let answer = said(browser, "X-Session-Sign-In", alice, "{\"greeted\":true}");
        assert_eq!(answer.status(), 200);
        assert!(session_cookie(&answer).is_some(), "one cookie, that of the session");
        assert_eq!(browser.data("/page"), Some(after));
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    }
    // A bad patch is refused before anything is done.
    let answer = said(&fresh, "X-Session-Sign-Out", "this", "[]");
    assert_eq!((answer.status(), session_cookie(&answer)), (502, None));
    assert_eq!(fresh.data("/page"), Some(json!({"greeted": true})));
    // Nobody is there any more after a sign-out: no session is opened for what comes with it.
    let answer = said(&visitor, "X-Session-Sign-Out", "this", "{\"left\":true}");
    assert!(session_cookie(&answer).is_some_and(|line| line.contains("Max-Age=0")), "the cookie is cleared");
    assert_eq!(visitor.data("/shop"), None);
    let opened = gateway.metric("vestibule_session_patches_total{result=\"opened\"}");
    assert!((0.5..1.5).contains(&opened), "{opened}");
}
