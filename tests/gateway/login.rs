//! Signing in: who is let in, who is not, and that nobody is signed in against their will.

use crate::support::client::{NAVIGATION, OWN_FORM, hidden_field};
use crate::support::users::{User, password_of, usual};
use crate::support::{Browser, Gateway, ORIGIN, SESSION, Setup, Upstream};

#[test]
fn the_right_password_opens_a_session_and_leads_back() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    let sent_away = alice.get("/page?a=1&b=2").headers(&NAVIGATION).send();
    assert_eq!(sent_away.status(), 302);
    let login = sent_away.header("location").expect("a redirect has a location");
    assert_eq!(login, "/_vestibule/login?return_to=%2Fpage%3Fa%3D1%26b%3D2");
    let page = alice.get(&login).headers(&NAVIGATION).send();
    assert_eq!(hidden_field(&page.text(), "return_to"), "/page?a=1&b=2");

    let answer = alice.try_sign_in("alice", &password_of("alice"), "/page?a=1&b=2");
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.header("location").as_deref(), Some("/page?a=1&b=2"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert!(alice.is_signed_in());
    let line = gateway.audit("sign_in");
    assert_eq!((line["subject"].as_str(), line["sign_in"].as_str()), (Some("alice"), Some("local")));
}

#[test]
fn the_session_cookie_is_for_this_host_and_the_servers_eyes_alone() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.browser().try_sign_in("alice", &password_of("alice"), "/");
    let line = answer
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with(SESSION))
        .expect("a session cookie");
    let attributes: Vec<&str> = line.split("; ").skip(1).collect();
    for wanted in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(attributes.contains(&wanted), "{wanted} in {attributes:?}");
    }
    assert!(
        !line.contains("Domain") && !line.contains("Max-Age") && !line.contains("Expires"),
        "{attributes:?}"
    );
    let value = line.split(['=', ';']).nth(1).expect("a value");
    assert_eq!(value.len(), 54, "32 random bytes and a tag of 8, in base64url");
}

#[test]
fn the_cookie_has_the_attributes_that_the_file_gives_it() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set(
            "sessions",
            "{ cookie: { name: __Secure-shared, same_site: strict, persistent: true, unsafe_domain: example.com }, \
             idle_timeout: 10m, absolute_lifetime: 1h }",
        )
        .routes(&[
            "{ name: wiki, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
            "{ name: blog, host: blog.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
        .start();
    let alice = gateway.browser();
    let answer = alice.try_sign_in("alice", &password_of("alice"), "/");
    let line = answer
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with("__Secure-shared="))
        .expect("a cookie");
    for wanted in ["SameSite=Strict", "Max-Age=3600", "Domain=example.com", "Secure", "HttpOnly", "Path=/"] {
        assert!(line.split("; ").any(|part| part == wanted), "{wanted} is missing");
    }
    let value = alice.cookie("__Secure-shared").expect("a session cookie");
    gateway.secrets().note_ours("the shared cookie", &value);
    let shared = format!("__Secure-shared={value}");
    for host in ["wiki.example.com", "blog.example.com"] {
        assert_eq!(gateway.get("/page").host(host).header("Cookie", &shared).send().status(), 200, "{host}");
    }
    assert_eq!(alice.sign_out(false).status(), 200);
    assert!(alice.cookie("__Secure-shared").is_none());
}

#[test]
fn on_plain_loopback_the_cookie_has_a_name_that_browsers_take() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("listeners", "[{ address: \"127.0.0.1:{public}\" }]")
        .routes(&["{ name: all, host: localhost, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }"])
        .start();
    let address = gateway.address();
    let host = format!("localhost:{}", address.port());
    let alice = Browser::at(&gateway, &host, &format!("http://{host}"));
    let answer = alice.try_sign_in("alice", &password_of("alice"), "/");
    assert_eq!(answer.status(), 303, "{}", answer.text());
    let line = answer
        .all("set-cookie")
        .into_iter()
        .find(|line| line.starts_with("session="))
        .expect("a session cookie");
    assert!(!line.contains("Secure"), "a browser would not take it");
    assert!(alice.is_signed_in());
    assert_eq!(upstream.last().header("x-forwarded-proto").as_deref(), Some("http"));
}

#[test]
fn a_wrong_password_and_an_unknown_user_read_the_same() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let texts: Vec<String> = [
        ("alice", "not-alices-password"),
        ("mallory", "not-alices-password"),
        ("ALICE", &password_of("alice")),
    ]
    .into_iter()
    .map(|(user, password)| {
        let browser = gateway.browser();
        let answer = browser.try_sign_in(user, password, "/");
        assert_eq!(answer.status(), 403, "{user}");
        assert!(browser.cookie(SESSION).is_none());
        // The name typed, the form's token and the request's id differ; nothing else may.
        let text = answer.text().replace(user, "USER");
        let token = hidden_field(&text, "form_token");
        let id = answer.header("x-request-id").expect("an id");
        text.replace(&token, "TOKEN").replace(&id, "ID")
    })
    .collect();
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
    let line = gateway.audit("sign_in_failed");
    assert_eq!(line["sign_in"], "local");
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_name_that_was_typed_wrongly_is_not_logged() {
    // People type their password into the field for the name.
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    gateway.secrets().note("a password in the wrong field", "hunter2-in-the-name-field");
    let answer = gateway.browser().try_sign_in("hunter2-in-the-name-field", "not-a-password", "/");
    assert_eq!(answer.status(), 403);
    gateway.audit("sign_in_failed");
}

#[test]
fn markup_in_a_name_is_shown_as_text() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer =
        gateway.browser().try_sign_in("\"><script>alert(1)</script>", "not-a-password", "/\"><script>");
    assert!(!answer.text().contains("<script"), "{}", answer.text());
    assert!(answer.header("content-security-policy").expect("a policy").contains("default-src 'none'"));
}

#[test]
fn guessing_is_slowed_and_says_for_how_long() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let browser = gateway.browser();
    let slowed = (0..30)
        .map(|_| browser.try_sign_in("alice", "not-alices-password", "/"))
        .find(|answer| answer.status() != 403);
    let slowed = slowed.expect("guessing is slowed at some point");
    assert_eq!(slowed.status(), 429);
    let seconds: u64 = slowed.header("retry-after").expect("it says when").parse().expect("in seconds");
    assert!((1..=300).contains(&seconds), "{seconds}");
    // While it is slowed the right password says no more than a wrong one.
    assert_eq!(browser.try_sign_in("alice", &password_of("alice"), "/").status(), 429);
    assert_eq!(
        gateway.browser().try_sign_in("bob", &password_of("bob"), "/").status(),
        303,
        "bob is not concerned"
    );
    gateway.wait_for_line("about the throttle", |line| {
        line["event"] == "sign_in_failed" && line["reason"] == "throttled"
    });
}

#[test]
fn a_browser_that_signed_in_before_is_not_slowed_by_strangers() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.sign_out(false);
    let stranger = gateway.browser();
    let slowed = (0..30).any(|_| stranger.try_sign_in("alice", "not-alices-password", "/").status() == 429);
    assert!(slowed, "strangers are slowed");
    assert_eq!(
        alice.try_sign_in("alice", &password_of("alice"), "/").status(),
        303,
        "alice's browser is known"
    );
}

#[test]
fn strangers_from_everywhere_lock_nobody_out() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("trusted_proxies", "[127.0.0.1/32]").start();
    let (known, at_home) = (gateway.browser().behind_proxy("198.51.100.1"), "198.51.100.77");
    known.sign_in("alice");
    known.sign_out(false);
    let guess = |number: usize| {
        let stranger = gateway.browser().behind_proxy(&format!("203.0.{number}.1"));
        stranger.try_sign_in("alice", "not-alices-password", "/")
    };
    let slowed = (0..60).map(guess).find(|answer| answer.status() == 429).expect("together they are slowed");
    let seconds: u64 = slowed.header("retry-after").expect("it says when").parse().expect("in seconds");
    assert!(seconds <= 30, "{seconds}: an honest stranger waits no longer, however many attack");
    assert_eq!(
        known.try_sign_in("alice", &password_of("alice"), "/").status(),
        303,
        "a known browser is let in"
    );
    let fresh = gateway.browser().behind_proxy(at_home);
    assert_eq!(
        fresh.try_sign_in("alice", &password_of("alice"), "/").status(),
        303,
        "so is one from a familiar network"
    );
    let bob = gateway.browser().behind_proxy("203.0.1.9");
    assert_eq!(bob.try_sign_in("bob", &password_of("bob"), "/").status(), 303, "and everybody else");
}

#[test]
fn the_form_is_taken_from_our_own_page_alone() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let password = password_of("alice");
    for (name, fields, with_token, status) in [
        ("as a browser sends it", &OWN_FORM[..], true, 303),
        ("without any header of a browser", &[], true, 303),
        ("typed into the address bar", &[("Sec-Fetch-Site", "none")], true, 303),
        ("without a form token", &OWN_FORM, false, 403),
        (
            "of another origin",
            &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")],
            true,
            403,
        ),
        ("of another origin, by an old browser", &[("Origin", "https://evil.example")], true, 403),
        (
            "of a sibling",
            &[("Origin", "https://blog.example.com"), ("Sec-Fetch-Site", "same-site")],
            true,
            403,
        ),
        ("of another site without an origin", &[("Sec-Fetch-Site", "cross-site")], true, 403),
        ("of an opaque origin", &[("Origin", "null")], true, 403),
        ("of our host without TLS", &[("Origin", "http://wiki.example.com")], true, 403),
        ("of our host on another port", &[("Origin", "https://wiki.example.com:8443")], true, 403),
    ] {
        let browser = gateway.browser();
        let form_token = browser.form_token("/_vestibule/login");
        let form_token = if with_token { form_token } else { String::new() };
        let form = [
            ("user", "alice"),
            ("password", password.as_str()),
            ("return_to", "/"),
            ("form_token", form_token.as_str()),
        ];
        let answer = browser.post("/_vestibule/login").headers(fields).form(&form).send();
        assert_eq!(answer.status(), status, "a form {name}: {}", answer.text());
        assert_eq!(browser.cookie(SESSION).is_some(), status == 303, "a form {name}");
    }
}

#[test]
fn a_form_token_is_worth_nothing_in_another_browser() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let attacker = gateway.browser();
    let token = attacker.form_token("/_vestibule/login");
    let visitor = gateway.browser();
    let own = visitor.form_token("/_vestibule/login");
    assert_ne!(token, own);
    let password = password_of("alice");
    let post = |form_token: &str| {
        let form = [
            ("user", "alice"),
            ("password", password.as_str()),
            ("return_to", "/"),
            ("form_token", form_token),
        ];
        visitor.own_post("/_vestibule/login").form(&form).send()
    };
    let answer = post(&token);
    assert_eq!(answer.status(), 403);
    assert!(visitor.cookie(SESSION).is_none());
    let middle = own.len() / 2;
    let forged = format!(
        "{}{}{}",
        &own[..middle],
        if &own[middle..=middle] == "A" { "B" } else { "A" },
        &own[middle + 1..]
    );
    assert_eq!(post(&forged).status(), 403);
    assert_eq!(post(&own).status(), 303);
}

#[test]
fn nobody_is_led_off_the_site() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for (return_to, location) in [
        ("/page?x=1", "/page?x=1"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("///evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("\\\\evil.example/", "/"),
        ("/\t/evil.example/", "/"),
        ("/\n/evil.example/", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        (" //evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("wiki.example.com", "/"),
        ("@evil.example", "/"),
        ("", "/"),
        ("/_vestibule/logout", "/"),
        ("/_vestibule/login?return_to=/", "/"),
    ] {
        let browser = gateway.browser();
        let answer = browser.try_sign_in("alice", &password_of("alice"), return_to);
        assert_eq!(answer.status(), 303, "{return_to:?}: the sign-in goes on");
        assert_eq!(answer.header("location").as_deref(), Some(location), "{return_to:?}");
        let mut query = form_urlencoded::Serializer::new(String::from("/_vestibule/login?"));
        let page =
            gateway.get(&query.append_pair("return_to", return_to).finish()).headers(&NAVIGATION).send();
        assert_eq!(hidden_field(&page.text(), "return_to"), location, "{return_to:?}");
    }
}

#[test]
fn a_new_sign_in_ends_the_session_before_and_takes_no_token_from_outside() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let browser = gateway.browser();
    // Fixation: a token that somebody planted is never taken over.
    browser.set_cookie(SESSION, &"A".repeat(54));
    browser.sign_in("alice");
    let first = browser.stolen_cookie();
    assert_ne!(browser.cookie(SESSION), Some("A".repeat(54)));
    browser.sign_in("bob");
    assert_ne!(browser.stolen_cookie(), first);
    assert_eq!(
        gateway.get("/page").header("Cookie", &first).send().status(),
        401,
        "the old one is dead at once"
    );
    browser.get("/page").send();
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("bob"));
    gateway.wait_for_line("about the old session", |line| {
        line["event"] == "session_ended" && line["reason"] == "superseded"
    });
}

#[test]
fn a_form_has_a_type_and_a_bounded_length() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let post = |kind: &str, body: String| {
        gateway
            .post("/_vestibule/login")
            .headers(&OWN_FORM[..1])
            .header("Content-Type", kind)
            .body(body)
            .send()
            .status()
    };
    assert_eq!(post("application/json", "{}".to_owned()), 400);
    assert_eq!(post("multipart/form-data; boundary=a", "--a--".to_owned()), 400);
    assert_eq!(post("application/x-www-form-urlencoded", format!("user={}", "a".repeat(9000))), 413);
    let chunked = gateway.raw(format!(
        "POST /_vestibule/login HTTP/1.1\r\nHost: wiki.example.com\r\nOrigin: {ORIGIN}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         4\r\nuser\r\n0\r\n\r\n"
    ));
    assert!(chunked.starts_with("HTTP/1.1 411"), "{chunked}");
}

#[test]
fn a_form_that_waits_for_a_100_gets_one() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let browser = gateway.browser();
    let token = browser.form_token("/_vestibule/login");
    let password = password_of("alice");
    let form = [("user", "alice"), ("password", password.as_str()), ("form_token", token.as_str())];
    let request = browser.own_post("/_vestibule/login").header("Expect", "100-continue").form(&form).bytes();
    let head = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let mut wire = gateway.connect();
    wire.write(&request[..head]);
    assert_eq!(wire.response().status(), 100);
    wire.write(&request[head..]);
    assert_eq!(wire.response().status(), 303);
}

#[test]
fn passwords_of_any_letters_and_of_old_hashes_are_taken() {
    let upstream = Upstream::recording();
    let bcrypt = "$2y$04$";
    let strange = "pässwörd & <+> %41 \u{1F511} with spaces";
    let users = [usual(), vec![User::new("zoë", &["groups: [dev]"]).with_password(strange)]].concat();
    let gateway = Setup::before(&upstream).users(&users).start();
    let browser = gateway.browser();
    assert_eq!(browser.try_sign_in("zoë", strange, "/").status(), 303, "{bcrypt}");
    browser.get("/page").send();
    assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("zo%C3%AB"));
    for wrong in [strange.replace(' ', "+"), strange.to_uppercase(), format!("{strange} "), String::new()] {
        assert_eq!(gateway.browser().try_sign_in("zoë", &wrong, "/").status(), 403, "{wrong}");
    }
}

#[test]
fn the_page_speaks_the_visitors_language() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for (accepted, language) in
        [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB", "en"), ("fr, *;q=0.5", "en"), ("", "en")]
    {
        let page =
            gateway.get("/_vestibule/login").headers(&NAVIGATION).header("Accept-Language", accepted).send();
        assert!(
            page.text().contains(&format!("<html lang=\"{language}")),
            "{accepted}: {}",
            &page.text()[..200]
        );
        assert!(!page.text().contains("<script"), "it works without scripts");
    }
}

#[test]
fn several_ways_in_are_each_taken_by_name() {
    let upstream = Upstream::recording();
    let others = crate::support::users::file(&[User::new("carol", &["groups: [dev]"])]);
    let gateway = Setup::before(&upstream)
        .set("sign_in", "{ local: { password: { users: users.yaml } }, partners: { password: { users: partners.yaml } } }")
        .set("identity", "{ headers: { X-Auth-User: subject, X-Auth-Source: source } }")
        .file("partners.yaml", &others)
        .routes(&[
            "{ name: inner, host: wiki.example.com, path: /inner, access: { sign_in: [local], allow: everyone }, upstream: app }",
            "{ name: all, host: wiki.example.com, path: /, access: { sign_in: [local, partners], allow: everyone }, upstream: app }",
        ])
        .start();
    let carol = gateway.browser();
    let token = carol.form_token("/_vestibule/login");
    let password = password_of("carol");
    let post = |way: &str| {
        let form = [
            ("user", "carol"),
            ("password", password.as_str()),
            ("form_token", token.as_str()),
            ("way", way),
        ];
        carol.own_post("/_vestibule/login").form(&form).send()
    };
    gateway.secrets().note_ours("carol's password", &password);
    assert_eq!(post("local").status(), 403, "carol stands in another file");
    assert_eq!(post("nobody").status(), 403, "there is no such way");
    assert_eq!(post("partners").status(), 303);
    carol.get("/page").send();
    assert_eq!(upstream.last().header("x-auth-source").as_deref(), Some("partners"));
    assert_eq!(carol.get("/inner").send().status(), 401, "a session counts where its entry is listed");
    assert_eq!(carol.get("/page").send().status(), 200);
}

const REMEMBERING: &str =
    "{ idle_timeout: 1s, absolute_lifetime: 1h, remember_me: { idle_timeout: 7d, absolute_lifetime: 30d } }";

fn sign_in_remembered(browser: &Browser<'_>) -> crate::support::Message {
    let (form_token, password) = (browser.form_token("/_vestibule/login"), password_of("alice"));
    let fields = [
        ("user", "alice"),
        ("password", password.as_str()),
        ("remember", "1"),
        ("form_token", form_token.as_str()),
    ];
    browser.own_post("/_vestibule/login").form(&fields).send()
}

fn session_cookie_of(answer: &crate::support::Message) -> String {
    let all = answer.all("set-cookie").into_iter();
    all.into_iter().find(|line| line.starts_with(SESSION)).expect("a session cookie")
}

#[test]
fn who_asks_to_be_remembered_stays_signed_in_over_pauses_and_restarts_of_the_browser() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("sessions", REMEMBERING).start();
    let (alice, bob) = (gateway.browser(), gateway.browser());
    let answer = sign_in_remembered(&alice);
    assert_eq!(answer.status(), 303);
    assert!(
        session_cookie_of(&answer).split("; ").any(|part| part == "Max-Age=2592000"),
        "the cookie outlives the browser"
    );
    let answer = bob.try_sign_in("bob", &password_of("bob"), "/");
    assert!(!session_cookie_of(&answer).contains("Max-Age"), "who does not ask is not remembered");
    crate::support::wait::pause(std::time::Duration::from_millis(1200));
    assert!(!bob.is_signed_in(), "his pause was too long");
    assert!(alice.is_signed_in());
    let page = alice.get("/_vestibule/account").headers(&NAVIGATION).send().text();
    assert!(page.contains("(kept signed in)"), "{page}");
}

#[test]
fn without_the_setting_there_is_no_box_and_nobody_is_remembered() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    let page = alice.get("/_vestibule/login").headers(&NAVIGATION).send().text();
    assert!(!page.contains("name=\"remember\""), "{page}");
    let answer = sign_in_remembered(&alice);
    assert!(!session_cookie_of(&answer).contains("Max-Age"));
    assert!(alice.is_signed_in());
}

#[test]
fn a_persistent_cookie_lasts_as_long_as_its_session_can() {
    let upstream = Upstream::recording();
    let sessions = REMEMBERING.replacen('{', "{ cookie: { persistent: true },", 1);
    let gateway = Setup::before(&upstream).set("sessions", &sessions).start();
    let answer = gateway.browser().try_sign_in("alice", &password_of("alice"), "/");
    assert!(session_cookie_of(&answer).contains("Max-Age=3600"));
    assert!(session_cookie_of(&sign_in_remembered(&gateway.browser())).contains("Max-Age=2592000"));
}

#[test]
fn the_box_stays_checked_when_the_password_was_wrong() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("sessions", REMEMBERING).start();
    let alice = gateway.browser();
    for (remember, checked) in [("1", true), ("", false)] {
        let form_token = alice.form_token("/_vestibule/login");
        let fields =
            [("user", "alice"), ("password", "wrong"), ("remember", remember), ("form_token", &form_token)];
        let page = alice.own_post("/_vestibule/login").form(&fields).send();
        let shown = page.text().contains("name=\"remember\" value=\"1\" checked");
        assert_eq!(shown, checked, "{}", page.text());
    }
}
