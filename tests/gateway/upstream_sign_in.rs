//! Sign-in by the upstream: believed in its place, once, fresh; worthless in every other way that it can be said.

use crate::support::client::{NAVIGATION, OWN_FORM, hidden_field};
use crate::support::{Answer, Browser, Gateway, Message, ORIGIN, SESSION, Setup, Upstream};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// Says what the test asks for: `X-Say` is a list of header lines divided by `|`, in which `ID` stands for the request's id.
/// `X-Say-Before` comes in a 103 before, `X-Say-Behind` in trailers. `X-Say-Endlessly` makes an answer that lasts.
fn talkative() -> Upstream {
    Upstream::answering(|request| {
        let id = request.header("x-request-id").expect("every request has an id");
        let slowly = if request.header("x-say-slowly").is_some() { "Connection: close\r\n" } else { "" };
        let lines = |name: &str| {
            let said = request.header(name).unwrap_or_default();
            said.split('|').filter(|line| !line.is_empty()).fold(String::new(), |mut lines, line| {
                write!(lines, "{}\r\n", line.replace("ID", &id)).expect("a string takes all");
                lines
            })
        };
        let (before, said, behind) = (lines("x-say-before"), lines("x-say"), lines("x-say-behind"));
        if request.header("x-say-endlessly").is_some() {
            return Answer::talk(move |stream| {
                let head = format!("HTTP/1.1 200 OK\r\n{said}Transfer-Encoding: chunked\r\n\r\n");
                let mut written = stream.write_all(head.as_bytes());
                // Endless for whoever looks for a few seconds.
                for _ in 0..500 {
                    if written.is_err() {
                        return;
                    }
                    crate::support::wait::pause(Duration::from_millis(20));
                    written = stream.write_all(b"6\r\ndata:1\r\n");
                }
            });
        }
        let mut answer = String::new();
        if !before.is_empty() {
            write!(answer, "HTTP/1.1 103 Early Hints\r\n{before}\r\n").expect("a string takes all");
        }
        if request.method() == "HEAD" {
            write!(answer, "HTTP/1.1 303 See Other\r\nLocation: /forum\r\n{said}Content-Length: 5\r\n\r\n")
        } else if behind.is_empty() {
            write!(answer, "HTTP/1.1 303 See Other\r\nLocation: /forum\r\n{slowly}{said}Content-Length: 5\r\n\r\nhello")
        } else {
            write!(
                answer,
                "HTTP/1.1 303 See Other\r\nLocation: /forum\r\n{said}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{behind}\r\n"
            )
        }
        .expect("a string takes all");
        if slowly.is_empty() {
            return Answer::Bytes(answer.into_bytes());
        }
        Answer::talk(move |stream| {
            let (head, body) = answer.split_at(answer.len() - 5);
            // The visitor may be gone by then.
            drop(stream.write_all(head.as_bytes()));
            // Longer than a stream may outlive its session.
            crate::support::wait::pause(Duration::from_millis(1500));
            drop(stream.write_all(body.as_bytes()));
        })
    })
}

const ALICE: &str = r#"X-Session-Sign-In: {"request":"ID","subject":"alice","groups":["member","admin"],"claims":{"email":"a@example.com","level":3}}"#;

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .set(
            "sign_in",
            "{ local: { password: { users: users.yaml } },
               forum: { upstream: { name: app, paths: [\"= /login\", /gate], groups: [member, editor] } } }",
        )
        .set(
            "upstreams",
            &format!("{{ app: {{ servers: [\"http://{0}\"] }}, other: {{ servers: [\"http://{0}\"] }} }}", upstream.address()),
        )
        .routes(&[
            "{ name: other, host: other.example.com, path: /, access: public, upstream: other }",
            "{ name: door, host: wiki.example.com, path: /login, access: public, upstream: app }",
            "{ name: gate, host: wiki.example.com, path: /gate, access: public, upstream: app }",
            "{ name: elsewhere, host: wiki.example.com, path: /elsewhere, access: public, upstream: app }",
            "{ name: forum, host: wiki.example.com, path: /forum, access: { sign_in: [forum], allow: everyone }, upstream: app }",
            "{ name: page, host: wiki.example.com, path: /page, access: { sign_in: [local, forum], allow: everyone, same_people: true }, upstream: app }",
            "{ name: wiki, host: wiki.example.com, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }",
        ])
}

fn say(browser: &Browser<'_>, path: &str, said: &str) -> Message {
    let answer = browser.own_post(path).header("X-Say", said).body("").send();
    nothing_of_ours_is_seen(&answer);
    answer
}

/// No visitor ever sees one of the session headers, however it was spelt.
fn nothing_of_ours_is_seen(answer: &Message) {
    let head = String::from_utf8_lossy(&answer.head).to_lowercase();
    let tail = String::from_utf8_lossy(&answer.raw_body).to_lowercase();
    for text in [head, tail] {
        let folded: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        assert!(!folded.contains("xsessionsign"), "{text}");
    }
}

/// The reasons of the audit lines about headers that were ignored.
fn reasons(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.lines().into_iter().filter(|line| line["event"] == "upstream_ignored");
    lines.filter_map(|line| line["reason"].as_str().map(str::to_owned)).collect()
}

/// How often a header was ignored for this reason.
fn ignored(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("vestibule_upstream_ignored_total{{reason=\"{reason}\"}}"))
}

#[test]
fn the_application_signs_a_visitor_in() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let alice = gateway.browser();
    let answer = say(&alice, "/login", ALICE);
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (303, "hello"),
        "the answer itself is the application's"
    );
    assert_eq!(answer.header("location").as_deref(), Some("/forum"));
    assert!(
        answer.header("cache-control").expect("it is said").contains("private"),
        "a cookie in a shared cache is everybody's"
    );
    let line = answer.header("set-cookie").expect("a session cookie");
    assert!(
        line.starts_with(SESSION)
            && line.contains("HttpOnly")
            && line.contains("Secure")
            && !line.contains("Max-Age")
    );
    assert_eq!(alice.get("/forum").send().status(), 303);
    let seen = upstream.last();
    assert_eq!(
        ["x-auth-user", "x-auth-groups", "x-auth-email"].map(|name| seen.header(name)),
        ["alice", "member", "a@example.com"].map(|value| Some(value.to_owned())),
        "groups that the file does not list are dropped"
    );
    let told = alice.get("/_vestibule/session").send().json();
    assert_eq!((told["source"].as_str(), told["sign_in"].as_str()), (Some("forum"), Some("forum")));
    let line = gateway.audit("sign_in");
    assert_eq!((line["subject"].as_str(), line["source"].as_str()), (Some("alice"), Some("forum")));
    assert_eq!(alice.get("/").send().status(), 401, "a route that does not list the way does not take it");
    assert!(reasons(&gateway).is_empty());
}

#[test]
fn what_is_said_in_any_other_way_signs_nobody_in() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let twice = format!("{ALICE}|{ALICE}");
    let spelt = |name: &str| ALICE.replace("X-Session-Sign-In", name);
    let beside = format!("{ALICE}|{}", spelt("X_Session_Sign.In"));
    let aged = format!("{ALICE}|Age: 0");
    let both = format!("{ALICE}|X-Session-Sign-Out: this");
    let long = format!(
        r#"X-Session-Sign-In: {{"request":"ID","subject":"alice","claims":{{"a":"{}"}}}}"#,
        "a".repeat(8200)
    );
    for (what, said, reason) in [
        ("twice", twice.as_str(), "twice"),
        ("beside another spelling", &beside, "twice"),
        ("in another spelling alone", &spelt("X_Session_Sign_In"), "twice"),
        ("from a store", &aged, "aged"),
        ("with a sign-out", &both, "both"),
        ("without a request", r#"X-Session-Sign-In: {"subject":"alice"}"#, "malformed"),
        (
            "with another request",
            r#"X-Session-Sign-In: {"request":"00112233445566778899aabbccddeeff","subject":"alice"}"#,
            "other_request",
        ),
        (
            "with too much of a request",
            r#"X-Session-Sign-In: {"request":"IDID","subject":"alice"}"#,
            "other_request",
        ),
        (
            "with two subjects",
            r#"X-Session-Sign-In: {"request":"ID","subject":"bob","subject":"alice"}"#,
            "malformed",
        ),
        (
            "with groups among the claims",
            r#"X-Session-Sign-In: {"request":"ID","subject":"alice","claims":{"groups":["admin"]}}"#,
            "malformed",
        ),
        (
            "with a source of its own",
            r#"X-Session-Sign-In: {"request":"ID","subject":"alice","claims":{"source":"local"}}"#,
            "malformed",
        ),
        ("of nobody", r#"X-Session-Sign-In: {"request":"ID","subject":""}"#, "subject"),
        ("at length", &long, "too_long"),
        ("as text", "X-Session-Sign-In: alice", "malformed"),
    ] {
        let browser = gateway.browser();
        let before = ignored(&gateway, reason);
        let answer = say(&browser, "/login", said);
        assert_eq!((answer.status(), answer.text().as_str()), (303, "hello"), "{what}");
        assert!(browser.cookie(SESSION).is_none(), "{what}");
        assert!(answer.all("set-cookie").is_empty(), "{what}");
        assert!((0.5..1.5).contains(&(ignored(&gateway, reason) - before)), "{what}: not {reason}");
        crate::support::wait::until("it is audited", || {
            reasons(&gateway).iter().any(|told| told == reason).then_some(())
        });
    }
    let mut told = reasons(&gateway);
    told.sort();
    told.dedup();
    assert_eq!(reasons(&gateway).len(), told.len(), "who repeats it does not fill the log");
    let sessions = gateway.admin("GET", "/sessions", "").json();
    assert_eq!(sessions["sessions"], serde_json::json!([]));
}

#[test]
fn what_is_said_elsewhere_signs_nobody_in() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let foreign: [(&str, &str); 2] = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")];
    let sibling: [(&str, &str); 2] =
        [("Origin", "https://blog.example.com"), ("Sec-Fetch-Site", "same-site")];
    for (method, path, host, fields, reason) in [
        ("POST", "/elsewhere", "wiki.example.com", &OWN_FORM[..], "elsewhere"),
        ("POST", "/login/more", "wiki.example.com", &OWN_FORM, "elsewhere"),
        ("POST", "/login/", "wiki.example.com", &OWN_FORM, "elsewhere"),
        ("POST", "/gateway", "wiki.example.com", &OWN_FORM, "elsewhere"),
        ("POST", "/login", "other.example.com", &[], "elsewhere"),
        ("GET", "/login", "wiki.example.com", &OWN_FORM, "safe_method"),
        ("HEAD", "/login", "wiki.example.com", &OWN_FORM, "safe_method"),
        ("OPTIONS", "/login", "wiki.example.com", &OWN_FORM, "safe_method"),
        ("POST", "/login", "wiki.example.com", &foreign, "foreign"),
        ("POST", "/login", "wiki.example.com", &sibling, "foreign"),
        ("POST", "/login", "wiki.example.com", &[("Origin", "null")], "foreign"),
        ("POST", "/login", "wiki.example.com", &[("Origin", "http://wiki.example.com")], "foreign"),
    ] {
        let before = ignored(&gateway, reason);
        let mut request = gateway.request(method, path).host(host).headers(fields).header("X-Say", ALICE);
        if method == "POST" {
            request = request.body("");
        }
        let answer = request.send();
        nothing_of_ours_is_seen(&answer);
        if path != "/gateway" {
            assert!(answer.all("set-cookie").is_empty(), "{method} {path} {fields:?}");
            let counted = ignored(&gateway, reason) - before;
            assert!((0.5..1.5).contains(&counted), "{method} {path} {host} {fields:?}: not {reason}");
        }
    }
    let browser = gateway.browser();
    assert_eq!(say(&browser, "/gate/of/members", ALICE).status(), 303);
    assert!(browser.cookie(SESSION).is_some(), "below a prefix it counts");
    let sessions = gateway.admin("GET", "/sessions", "").json();
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_answer_that_was_overheard_or_kept_is_worth_nothing_again() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let alice = gateway.browser();
    say(&alice, "/login", ALICE);
    let id = upstream.last().header("x-request-id").expect("an id");
    // The very bytes of a good answer, in the answer to another request.
    let kept = ALICE.replace("ID", &id);
    let mallory = gateway.browser();
    say(&mallory, "/login", &kept);
    assert!(mallory.cookie(SESSION).is_none());
    // A client has no say in the id.
    let answer = mallory
        .own_post("/login")
        .headers(&[("X-Say", &kept), ("X-Request-Id", &id), ("X_Request_Id", &id)])
        .body("")
        .send();
    nothing_of_ours_is_seen(&answer);
    assert!(mallory.cookie(SESSION).is_none());
    let seen = upstream.last();
    assert_ne!(seen.header("x-request-id").as_deref(), Some(id.as_str()));
    assert!(seen.header("x_request_id").is_none());
    assert!((1.5..2.5).contains(&ignored(&gateway, "other_request")), "both are counted");
    let told = crate::support::wait::until("one line tells of them", || {
        Some(reasons(&gateway)).filter(|reasons| !reasons.is_empty())
    });
    assert_eq!(told, ["other_request"]);
}

#[test]
fn a_client_cannot_say_it_itself() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let mallory = gateway.browser();
    let value = r#"{"request":"00112233445566778899aabbccddeeff","subject":"alice"}"#;
    for name in ["X-Session-Sign-In", "x_session_sign_in", "X-Session-Sign-Out", "X.Session.Sign-Out"] {
        let answer = mallory.own_post("/login").header(name, value).body("").send();
        assert_eq!(answer.status(), 303);
        assert!(mallory.cookie(SESSION).is_none());
        let folded =
            String::from_utf8_lossy(&upstream.last().head).to_lowercase().replace(['-', '_', '.'], "");
        assert!(!folded.contains("xsessionsign"), "{name} reached the application");
    }
    assert!(reasons(&gateway).is_empty(), "the application said nothing");
}

#[test]
fn neither_an_interim_answer_nor_a_trailer_signs_anybody_in() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    for name in ["X-Say-Before", "X-Say-Behind"] {
        let browser = gateway.browser();
        let request = browser.own_post("/login").header(name, ALICE).body("");
        let mut wire = gateway.connect();
        wire.write(request.bytes());
        let mut answer = wire.response_to("POST");
        nothing_of_ours_is_seen(&answer);
        while answer.status() < 200 {
            assert!(answer.all("set-cookie").is_empty(), "{name}");
            answer = wire.response_to("POST");
            nothing_of_ours_is_seen(&answer);
        }
        assert_eq!((answer.status(), answer.text().as_str()), (303, "hello"), "{name}");
        assert!(answer.all("set-cookie").is_empty(), "{name}");
    }
    assert_eq!(gateway.admin("GET", "/sessions", "").json()["sessions"], serde_json::json!([]));
    let told = crate::support::wait::until("it is audited", || {
        Some(reasons(&gateway)).filter(|reasons| !reasons.is_empty())
    });
    assert_eq!(told, ["interim"], "a trailer is not even looked at");
    // An interim answer before does not spoil the final one.
    let alice = gateway.browser();
    let both = [("X-Say-Before", "Link: </style.css>"), ("X-Say", ALICE)];
    let request = alice.own_post("/login").headers(&both).body("");
    let mut wire = gateway.connect();
    wire.write(request.bytes());
    let mut answer = wire.response_to("POST");
    while answer.status() < 200 {
        answer = wire.response_to("POST");
    }
    assert!(answer.header("set-cookie").expect("a cookie").starts_with(SESSION));
}

#[test]
fn a_sign_in_ends_what_the_browser_came_with() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("bob");
    let bobs = alice.stolen_cookie();
    say(&alice, "/login", ALICE);
    let first = alice.stolen_cookie();
    assert_ne!(first, bobs);
    say(&alice, "/login", ALICE);
    for old in [&bobs, &first] {
        assert_eq!(
            gateway.get("/page").header("Cookie", old).send().status(),
            401,
            "the old one is dead at once"
        );
    }
    assert_eq!(alice.get("/forum").send().status(), 303);
    // Fixation: a planted token is never taken over.
    let victim = gateway.browser();
    victim.set_cookie(SESSION, &"A".repeat(54));
    say(&victim, "/login", ALICE);
    assert_ne!(victim.cookie(SESSION), Some("A".repeat(54)));
}

#[test]
fn values_of_an_anonymous_visitor_move_along_and_anothers_never() {
    let upstream = talkative();
    let gateway = setup(&upstream)
        .set("sessions", "{ anonymous: { capacity: 10, idle_timeout: 1h } }")
        .set(
            "sign_in",
            "{ local: { password: { users: users.yaml } }, forum: { upstream: { name: app, paths: [\"= /login\"], groups: [] } } }",
        )
        .routes(&[
            "{ name: door, host: wiki.example.com, path: /login, access: public, upstream: app }",
            "{ name: shop, host: wiki.example.com, path: /shop, access: public, session: { data: true }, upstream: app }",
            "{ name: page, host: wiki.example.com, path: /, access: { sign_in: [forum, local], allow: everyone, same_people: true }, upstream: app }",
        ])
        .start();
    let visitor = gateway.browser();
    let patch = |text: &str| format!("X-Session-Patch: {text}");
    say(&visitor, "/shop", &patch(r#"{"cart":["tea"]}"#));
    let anonymous = visitor.cookie(SESSION).expect("an anonymous session");
    say(&visitor, "/login", ALICE);
    assert_ne!(visitor.cookie(SESSION), Some(anonymous.clone()));
    visitor.get("/shop").send();
    assert_eq!(upstream.last().header("x-session-data").as_deref(), Some(r#"{"cart":["tea"]}"#));
    gateway.get("/shop").header("Cookie", &format!("{SESSION}={anonymous}")).send();
    assert_eq!(upstream.last().header("x-session-data"), None, "the old token is dead");
    // Signed in as another: nothing of alice's stays.
    say(&visitor, "/login", &ALICE.replace("alice", "carol"));
    visitor.get("/shop").send();
    assert_eq!(upstream.last().header("x-session-data").as_deref(), Some("{}"));
}

#[test]
fn the_application_signs_out_what_it_signed_in() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let [alice, phone] = [gateway.browser(), gateway.browser()];
    say(&alice, "/login", ALICE);
    say(&phone, "/login", ALICE);
    let copied = alice.stolen_cookie();
    let answer = say(&alice, "/login", "X-Session-Sign-Out: this");
    assert_eq!((answer.status(), answer.text().as_str()), (303, "hello"), "the exchange itself goes on");
    assert!(alice.cookie(SESSION).is_none(), "the cookie is cleared");
    assert_eq!(gateway.get("/forum").header("Cookie", &copied).send().status(), 401);
    assert_eq!(phone.get("/forum").send().status(), 303);
    assert_eq!(gateway.audit("sign_out")["subject"], "alice");

    say(&alice, "/login", ALICE);
    say(&alice, "/login", "X-Session-Sign-Out: everywhere");
    assert!(alice.cookie(SESSION).is_none());
    assert_eq!(phone.get("/forum").send().status(), 401);
    assert!(reasons(&gateway).is_empty());
}

#[test]
fn the_exchange_that_ends_its_own_session_is_not_cut_and_another_is() {
    let upstream = talkative();
    let gateway = setup(&upstream)
        .set("sign_in", "{ forum: { upstream: { name: app, paths: [\"= /login\"], groups: [] } } }")
        .routes(&["{ name: forum, host: wiki.example.com, path: /, upstream: app,
               access: { sign_in: [forum], allow: everyone, optional: true } }"])
        .start();
    for said in ["X-Session-Sign-Out: this", ALICE] {
        let alice = gateway.browser();
        say(&alice, "/login", ALICE);
        assert!(alice.cookie(SESSION).is_some());
        let before = upstream.requests().len();
        let mut other = gateway.connect();
        other.write(alice.own_post("/login").header("X-Say-Slowly", "1").body("").bytes());
        upstream.wait_for(before + 1);
        let answer =
            alice.own_post("/login").headers(&[("X-Say", said), ("X-Say-Slowly", "1")]).body("").send();
        assert_eq!((answer.status(), answer.text().as_str()), (303, "hello"), "{said}");
        let cut = other.try_response_to("POST");
        let is_whole = cut.ok().flatten().is_some_and(|answer| answer.is_whole && answer.status() == 303);
        assert!(!is_whole, "another exchange of the session is cut: {said}");
    }
}

#[test]
fn an_answer_that_lasts_ends_with_the_session_that_it_opened() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let alice = gateway.browser();
    // With the session of the first round the browser comes again; the answer outlives that one.
    for round in 0..2 {
        let request =
            alice.own_post("/login").headers(&[("X-Say", ALICE), ("X-Say-Endlessly", "1")]).body("");
        let mut wire = gateway.connect();
        wire.write(request.bytes());
        let head = wire.head();
        assert_eq!(head.status(), 200);
        let line = head.header("set-cookie").expect("a session cookie");
        let value = line.split(['=', ';']).nth(1).expect("a pair");
        gateway.secrets().note_ours("a session cookie", value);
        alice.set_cookie(SESSION, value);
        // Long enough for a look at every stream.
        crate::support::wait::pause(Duration::from_millis(700));
        assert_eq!(wire.read_exactly(11), b"6\r\ndata:1\r\n", "round {round}");
        assert_eq!(alice.get("/forum").send().status(), 303);
        if round == 1 {
            assert_eq!(gateway.admin("DELETE", "/sessions?subject=alice", "").status(), 200);
            let since = crate::support::wait::now();
            let (rest, _) = wire.until_closed();
            assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
            assert!(!rest.ends_with(b"0\r\n\r\n"), "it looks whole");
            let line = gateway.wait_for_line("of the cut answer", |line| line["decision"] == "cut");
            assert_eq!((&line["reason"], &line["method"]), (&"revoked".into(), &"POST".into()));
        }
    }
}

#[test]
fn a_sign_out_in_any_other_way_ends_nothing() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let alice = gateway.browser();
    say(&alice, "/login", ALICE);
    let out = "X-Session-Sign-Out: this";
    for (path, said) in [
        ("/elsewhere", out),
        ("/login", "X-Session-Sign-Out: This"),
        ("/login", "X_Session_Sign_Out: this"),
        ("/login", "X-Session-Sign-Out: this|X-Session-Sign-Out: this"),
        ("/login", "X-Session-Sign-Out: this|Age: 1"),
    ] {
        say(&alice, path, said);
        assert_eq!(alice.get("/forum").send().status(), 303, "{path} {said}");
    }
    for fields in
        [&[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")][..], &[("Origin", "null")]]
    {
        alice.post("/login").headers(fields).header("X-Say", out).body("").send();
        assert_eq!(alice.get("/forum").send().status(), 303, "{fields:?}");
    }
    alice.get("/login").header("X-Say", out).send();
    assert_eq!(alice.get("/forum").send().status(), 303);
    // Another way's session is not the application's to end.
    let bob = gateway.browser();
    bob.sign_in("bob");
    say(&bob, "/login", out);
    assert_eq!(bob.get("/").send().status(), 303);
    crate::support::wait::until("it is audited", || {
        reasons(&gateway).contains(&"other_way".to_owned()).then_some(())
    });
}

#[test]
fn where_there_is_no_room_the_answer_says_so() {
    let upstream = talkative();
    let gateway = setup(&upstream).set("sessions", "{ capacity: 1 }").start();
    say(&gateway.browser(), "/login", ALICE);
    let late = gateway.browser();
    let answer = say(&late, "/login", &ALICE.replace("alice", "bob"));
    assert_eq!(answer.status(), 503);
    assert!(!answer.text().contains("hello"), "what the application says to somebody signed in is not shown");
    assert!(late.cookie(SESSION).is_none() && answer.header("retry-after").is_some());
}

#[test]
fn a_subject_has_no_more_sessions_than_it_may() {
    let upstream = talkative();
    let gateway = setup(&upstream).set("sessions", "{ per_subject: { max: 1, when_full: refuse } }").start();
    let [first, second] = [gateway.browser(), gateway.browser()];
    say(&first, "/login", ALICE);
    let answer = say(&second, "/login", ALICE);
    assert_eq!(answer.status(), 403);
    assert!(second.cookie(SESSION).is_none());
    assert_eq!(first.get("/forum").send().status(), 303, "the other one stays");
    // The same browser signs in anew: its old session makes room in the same step.
    assert_eq!(say(&first, "/login", ALICE).status(), 303);
    assert_eq!(first.get("/forum").send().status(), 303);
}

#[test]
fn the_login_page_leads_to_the_applications_own() {
    let upstream = talkative();
    let gateway = setup(&upstream).start();
    let stranger = gateway.browser();
    let sent = stranger.get("/forum").headers(&NAVIGATION).send();
    assert_eq!(sent.status(), 302);
    let login = sent.header("location").expect("a location");
    let only = stranger.get(&login).headers(&NAVIGATION).send();
    assert_eq!((only.status(), only.header("location").as_deref()), (302, Some("/login")));
    assert_eq!(only.header("cache-control").as_deref(), Some("no-store"));
    let page = stranger.get("/_vestibule/login?return_to=/page").headers(&NAVIGATION).send();
    assert_eq!(page.status(), 200);
    assert!(page.text().contains("href=\"&#x2f;login\"") && page.text().contains("forum"), "{}", page.text());
    assert_eq!(hidden_field(&page.text(), "way"), "local");
    // The form is for passwords: another way is none of its choices.
    let form_token = stranger.form_token("/_vestibule/login?return_to=/page");
    let fields = [
        ("user", "alice"),
        ("password", "x"),
        ("way", "forum"),
        ("return_to", "/page"),
        ("form_token", &form_token),
    ];
    let answer = stranger.post("/_vestibule/login").header("Origin", ORIGIN).form(&fields).send();
    assert_eq!(answer.status(), 403);
}
