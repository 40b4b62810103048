//! Session data: a stateless application keeps what it likes in the gateway, and nobody else sees it.

use crate::support::tokens::Key;
use crate::support::upstream::Answer;
use crate::support::{Browser, Gateway, Message, SESSION, Setup, Upstream};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::thread;

/// A shop that anybody may enter, pages for people, and a place where nothing is kept; all may keep data but the last.
const ROUTES: [&str; 4] = [
    "{ name: shop, host: wiki.example.com, path: /shop, access: public, upstream: app, session: { data: true } }",
    "{ name: plain, host: wiki.example.com, path: /plain, access: public, upstream: app }",
    "{ name: maybe, host: wiki.example.com, path: /maybe, upstream: app, session: { data: true },
       access: { sign_in: [local], allow: everyone, optional: true } }",
    "{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
       access: { sign_in: [local], allow: everyone } }",
];
const WEBSOCKET: [(&str, &str); 5] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Origin", "https://wiki.example.com"),
];

fn keeping(upstream: &Upstream) -> Setup {
    Setup::before(upstream).routes(&ROUTES)
}

/// No spelling of a session header stands in the message.
fn assert_silent(message: &Message) {
    let names =
        message.fields().into_iter().map(|(name, _)| name.replace(['-', '_', '.'], "").to_lowercase());
    let spoken: Vec<String> = names.filter(|name| name.starts_with("xsession")).collect();
    assert!(spoken.is_empty(), "{spoken:?} in {}", String::from_utf8_lossy(&message.head));
    let tail = String::from_utf8_lossy(&message.raw_body[message.body.len().min(message.raw_body.len())..]);
    assert!(!tail.to_lowercase().contains("x-session"), "{tail}");
}

#[test]
fn what_an_application_keeps_comes_back_as_it_was() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    assert_eq!(alice.data("/page"), Some(json!({})), "nothing is an empty object");
    for (value, kept) in [
        ("\"pure\"", "\"pure\""),
        ("18", "18"),
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1.0", "1.0"),
        ("-0.5e-7", "-0.5e-7"),
        ("1e400", "1e400"),
        ("true", "true"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("\"\"", "\"\""),
        ("\"刘备 \u{1F600} \\u00fc\"", "\"\\u5218\\u5907 \\ud83d\\ude00 \\u00fc\""),
        (
            "[{\"name\": \"三国\", \"price\": 9.90}, {\"name\": \"西游\", \"price\": 10, \"tags\": [null, []]}]",
            "[{\"name\":\"\\u4e09\\u56fd\",\"price\":9.90},{\"name\":\"\\u897f\\u6e38\",\"price\":10,\"tags\":[null,[]]}]",
        ),
        ("{\"a\": {\"b\": {\"c\": [1, {\"d\": null}]}}}", "{\"a\":{\"b\":{\"c\":[1,{\"d\":null}]}}}"),
    ] {
        alice.keep("/page", "{\"v\": null}");
        alice.keep("/page", &format!("{{\"v\": {value}}}"));
        alice.get("/page").send();
        let told = upstream.last().header("x-session-data").expect("the upstream is told");
        assert_eq!(told, format!("{{\"v\":{kept}}}"), "{value}");
    }
}

#[test]
fn a_patch_sets_deletes_and_merges() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    for (patch, after) in [
        (r#"{"name":"pure","age":18}"#, json!({"name": "pure", "age": 18})),
        (r#"{"age":null}"#, json!({"name": "pure"})),
        (
            r#"{"cart":{"books":[1,2],"note":"x"}}"#,
            json!({"name": "pure", "cart": {"books": [1, 2], "note": "x"}}),
        ),
        (r#"{"cart":{"note":null}}"#, json!({"name": "pure", "cart": {"books": [1, 2]}})),
        (r#"{"cart":{"books":[3]}}"#, json!({"name": "pure", "cart": {"books": [3]}})),
        ("{}", json!({"name": "pure", "cart": {"books": [3]}})),
        (r#"{"absent":null}"#, json!({"name": "pure", "cart": {"books": [3]}})),
        (r#"{"cart":null,"name":null}"#, json!({})),
    ] {
        alice.keep("/page", patch);
        assert_eq!(alice.data("/page/next"), Some(after), "{patch}");
    }
}

#[test]
fn a_patch_counts_with_every_status_and_never_reaches_the_visitor() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    for (number, status) in [
        "200 OK",
        "201 Created",
        "204 No Content",
        "206 Partial Content",
        "302 Found",
        "304 Not Modified",
        "401 Unauthorized",
        "404 Not Found",
        "500 Internal Server Error",
        "599 Whatever",
    ]
    .into_iter()
    .enumerate()
    {
        let patch = format!("{{\"n\":{number}}}");
        let answer = alice.get("/page").say("Status", status).patch(&patch).send();
        assert_eq!(answer.status().to_string(), status[..3]);
        assert_silent(&answer);
        assert_eq!(alice.data("/page"), Some(json!({ "n": number })), "{status}");
    }
    let head = alice.request("HEAD", "/page").patch("{\"n\":\"head\"}").send();
    assert_silent(&head);
    assert_eq!(alice.data("/page"), Some(json!({"n": "head"})));

    let mut wire = gateway.connect();
    let switched = alice.get("/page").headers(&WEBSOCKET).patch("{\"n\":\"socket\"}").send_over(&mut wire);
    assert_eq!(switched.status(), 101);
    assert_silent(&switched);
    assert_eq!(alice.data("/page"), Some(json!({"n": "socket"})));
}

#[test]
fn a_bad_patch_is_refused_whole() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).set("sessions", "{ data: { max_bytes: 1KiB } }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let good = json!({"kept": "from before"});
    alice.keep("/page", &good.to_string());
    let large = format!("{{\"a\":1,\"large\":\"{}\"}}", "x".repeat(1024));
    // 200 letters that are six bytes each when they are sent.
    let wide = format!("{{\"wide\":\"{}\"}}", "中".repeat(200));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    for (fields, reason) in [
        (&[("X-Session-Patch", "{\"a\":1}"), ("X-Session-Patch", "{\"b\":1}")][..], "patch_twice"),
        (&[("X-Session-Patch", "{\"a\":1}"), ("X_Session_Patch", "{\"a\":1}")], "patch_twice"),
        (&[("x.session-PATCH", "{\"a\":1}"), ("X-Session-Patch", "{\"a\":1}")], "patch_twice"),
        (&[("X-Session-Patch", "[1]")], "patch_not_an_object"),
        (&[("X-Session-Patch", "null")], "patch_not_an_object"),
        (&[("X-Session-Patch", "{\"a\":1},{\"b\":1}")], "patch_not_an_object"),
        (&[("X-Session-Patch", "{\"a\":1")], "patch_not_an_object"),
        (&[("X-Session-Patch", "")], "patch_not_an_object"),
        (&[("X-Session-Patch", "{\"a\":1,\"a\":2}")], "patch_member_twice"),
        (&[("X-Session-Patch", &deep)], "patch_too_deep"),
        (&[("X-Session-Patch", &large)], "patch_too_large"),
        (&[("X-Session-Patch", &wide)], "patch_too_large"),
    ] {
        let mut request = alice.get("/page").say("X-Secret", "a page that must not be seen");
        for (name, value) in fields {
            request = request.say(name, value);
        }
        let answer = request.send();
        assert_eq!(answer.status(), 502, "{fields:?}");
        assert_silent(&answer);
        assert_eq!(answer.header("x-secret"), None);
        assert_eq!(gateway.access_line(&answer)["reason"], reason, "{fields:?}");
        assert_eq!(alice.data("/page").as_ref(), Some(&good), "nothing of {fields:?} was taken");
        assert!(gateway.metric(&format!("vestibule_session_patches_total{{result=\"{reason}\"}}")) >= 1.0);
    }
    let line = gateway.audit("patch_refused");
    assert_eq!((&line["reason"], &line["detail"]), (&json!("patch_twice"), &json!("route wiki")));
    // In a spelling of its own it is not a patch; a lax reader of ours may not take it for one.
    alice.get("/page").say("X_Session_Patch", "{\"a\":1}").send();
    assert_eq!(alice.data("/page").as_ref(), Some(&good));
}

#[test]
fn no_session_header_crosses_to_or_from_the_visitor() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/page", "{\"mine\":true}");
    let lies = [
        ("X-Session-Data", "{\"mine\":false}"),
        ("x_session_data", "{\"mine\":false}"),
        ("X-Session-Patch", "{\"mine\":false}"),
        ("X.Session.Patch", "{\"mine\":false}"),
        ("Connection", "keep-alive, X-Session-Data"),
    ];
    for (path, told) in [
        ("/page", vec!["{\"mine\":true}"]),
        ("/shop", vec!["{\"mine\":true}"]),
        ("/maybe", vec!["{\"mine\":true}"]),
        ("/plain", vec![]),
    ] {
        let answer = alice.get(path).headers(&lies).patch("{\"seen\":1}").say("x_session_data", "{}").send();
        assert_eq!(answer.status(), 200);
        assert_silent(&answer);
        let request = upstream.last();
        let named = |folded: &str| -> Vec<String> {
            let fields = request.fields().into_iter();
            let fits = |name: &str| name.replace(['-', '_', '.'], "").eq_ignore_ascii_case(folded);
            fields.filter(|(name, _)| fits(name)).map(|(_, value)| value).collect()
        };
        assert_eq!(named("xsessiondata"), told, "{path}");
        assert_eq!(named("xsessionpatch"), Vec::<String>::new(), "{path}");
        alice.keep("/page", "{\"seen\":null}");
    }
    // Where nothing is kept, nobody reads what is said about it.
    assert_eq!(alice.get("/plain").patch("no patch at all").send().status(), 200);
    let stranger = gateway.browser();
    for path in ["/shop", "/maybe", "/plain"] {
        let answer = stranger.get(path).headers(&lies).patch("{\"a\":1}").send();
        assert_silent(&answer);
        assert_eq!(upstream.last().header("x-session-data"), None, "{path}: no session, no data");
        assert!(stranger.cookie(SESSION).is_none(), "{path}: none is opened unless the file says so");
    }
}

#[test]
fn trailers_say_nothing_either_way() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/page", "{\"a\":1}");
    upstream.next(Answer::Bytes(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Session-Patch\r\n\r\n\
          4\r\nbody\r\n0\r\nX-Session-Patch: {\"a\":2}\r\nX-Session-Data: {}\r\n\r\n"
            .to_vec(),
    ));
    let mut wire = gateway.connect();
    wire.write(format!(
        "POST /page HTTP/1.1\r\nHost: wiki.example.com\r\nCookie: {}\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Session-Data\r\n\r\n4\r\nbody\r\n0\r\nX-Session-Data: {{\"a\":3}}\r\n\r\n",
        alice.stolen_cookie()
    ));
    let answer = wire.response_to("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "body"));
    assert_silent(&answer);
    let request = upstream.last();
    assert_eq!(request.body, b"body");
    let sent = String::from_utf8_lossy(&request.raw_body).to_lowercase();
    assert!(!sent.contains("x-session"), "{sent}");
    assert_eq!(alice.data("/page"), Some(json!({"a": 1})));
}

#[test]
fn an_interim_answer_changes_nothing_and_is_noted() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Session-Patch: {\"a\":\"early\"}\r\n\
                 X_Session_Data: {}\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Session-Patch: {\"b\":1}\r\n\r\nok";
    upstream.next(Answer::Bytes(format!("{hints}{last}").into_bytes()));
    let mut wire = gateway.connect();
    let first = alice.get("/page").send_over(&mut wire);
    assert_silent(&first);
    if first.status() == 103 {
        assert_eq!(first.all("set-cookie"), Vec::<String>::new());
        let second = wire.response();
        assert_eq!(second.status(), 200);
        assert_silent(&second);
    }
    assert_eq!(alice.data("/page"), Some(json!({"b": 1})), "the last head alone is the answer");
    assert_eq!(gateway.audit("patch_dropped")["reason"], "interim");
}

#[test]
fn a_bearer_token_has_no_data() {
    let upstream = Upstream::prompted();
    let key = Key::eddsa();
    let gateway = Setup::before(&upstream)
        .set("sessions", "{ anonymous: {} }")
        .set(
            "tokens",
            "{ api: { jwt: { issuer: \"https://id.example.com\", audience: [wiki], algorithms: [EdDSA], keys: { public_key: token.key } } } }",
        )
        .file("token.key", &key.file())
        .routes(&["{ name: wiki, host: wiki.example.com, path: /, upstream: app, session: { data: true },
                     access: { sign_in: [local], tokens: [api], allow: everyone, same_people: true } }"])
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/page", "{\"a\":1}");
    // Alone, and beside the cookie of a session that has data.
    for cookie in [None, Some(alice.stolen_cookie())] {
        let mut request = gateway.get("/page").bearer(&key.good("alice")).patch("{\"a\":2}");
        if let Some(cookie) = &cookie {
            request = request.header("Cookie", cookie);
        }
        let answer = request.send();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "none"));
        assert_eq!(answer.all("set-cookie"), Vec::<String>::new());
    }
    assert_eq!(gateway.audit("patch_dropped")["reason"], "bearer");
    assert_eq!(alice.data("/page"), Some(json!({"a": 1})));
}

#[test]
fn each_application_has_a_space_of_its_own_unless_they_share_one() {
    let (app, other) = (Upstream::prompted(), Upstream::prompted());
    let gateway = Setup::before(&app)
        .set(
            "upstreams",
            &format!(
                "{{ app: {{ servers: [\"http://{}\"] }}, other: {{ servers: [\"http://{}\"] }} }}",
                app.address(),
                other.address()
            ),
        )
        .routes(&[
            "{ name: a, host: wiki.example.com, path: /a, upstream: app, session: { data: true }, access: { sign_in: [local], allow: everyone } }",
            "{ name: b, host: wiki.example.com, path: /b, upstream: other, session: { data: true }, access: { sign_in: [local], allow: everyone } }",
            "{ name: c, host: wiki.example.com, path: /c, upstream: app, session: { data: common }, access: { sign_in: [local], allow: everyone } }",
            "{ name: d, host: wiki.example.com, path: /d, upstream: other, session: { data: common }, access: { sign_in: [local], allow: everyone } }",
            "{ name: e, host: wiki.example.com, path: /e, upstream: app, session: { data: true }, access: { sign_in: [local], allow: everyone } }",
        ])
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/a", "{\"of\":\"app\"}");
    alice.keep("/b", "{\"of\":\"other\"}");
    alice.keep("/c", "{\"of\":\"both\"}");
    for (path, of) in [("/a", "app"), ("/b", "other"), ("/c", "both"), ("/d", "both"), ("/e", "app")] {
        assert_eq!(alice.data(path), Some(json!({ "of": of })), "{path}");
    }
    let bob = gateway.browser();
    bob.sign_in("bob");
    assert_eq!(bob.data("/a"), Some(json!({})), "another visitor has another session");
}

#[test]
fn public_and_optional_pages_know_the_visitor_s_data_and_not_the_visitor() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/shop", "{\"cart\":[7]}");
    for path in ["/shop", "/maybe", "/page"] {
        assert_eq!(alice.data(path), Some(json!({"cart": [7]})), "{path}");
    }
    alice.get("/shop").send();
    assert_eq!(upstream.last().header("x-auth-user"), None);
    alice.sign_out(false);
    assert_eq!(alice.data("/shop"), None);
    assert_eq!(alice.data("/maybe"), None);
}

#[test]
fn what_another_site_causes_neither_sees_nor_changes_data() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/shop", "{\"cart\":[7]}");
    for fields in [
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Origin", "https://evil.example"),
        ][..],
        &[
            ("Sec-Fetch-Site", "same-site"),
            ("Sec-Fetch-Mode", "cors"),
            ("Origin", "https://blog.example.com"),
        ],
        &[("Origin", "null")],
    ] {
        for method in ["POST", "PUT", "DELETE", "BREW"] {
            let answer =
                alice.request(method, "/shop").headers(fields).body("").patch("{\"cart\":null}").send();
            assert_eq!((answer.status(), answer.text().as_str()), (200, "none"), "{method} {fields:?}");
        }
    }
    let socket = [&WEBSOCKET[..4], &[("Origin", "https://evil.example")]].concat();
    let mut wire = gateway.connect();
    alice.get("/shop").headers(&socket).patch("{\"cart\":null}").send_over(&mut wire);
    assert_eq!(upstream.last().header("x-session-data"), None);
    assert_eq!(alice.data("/shop"), Some(json!({"cart": [7]})));
    assert_eq!(gateway.audit("patch_dropped")["reason"], "cross_origin");
    // A link on another site is a visit.
    let followed = alice
        .get("/shop")
        .headers(&[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")])
        .patch("{\"came\":\"by link\"}")
        .send();
    assert_eq!(followed.json(), json!({"cart": [7]}));
    assert_eq!(alice.data("/shop"), Some(json!({"cart": [7], "came": "by link"})));
}

#[test]
fn answers_that_were_given_data_stay_out_of_shared_caches() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cached = "public, s-maxage=60, max-age=5";
    for (browser, path, control, vary) in [
        (Some(&alice), "/shop", "private, max-age=5", "Cookie, Authorization"),
        (Some(&alice), "/maybe", "private, max-age=5", "Cookie, Authorization"),
        (Some(&alice), "/page", "private, max-age=5", "Cookie, Authorization"),
        (Some(&alice), "/plain", cached, ""),
        // Nobody's data is in it; but who has some gets another.
        (None, "/shop", cached, "Cookie"),
        (None, "/plain", cached, ""),
    ] {
        let request = browser.map_or_else(|| gateway.get(path), |browser| browser.get(path));
        let answer = request.say("Cache-Control", cached).send();
        assert_eq!(answer.header("cache-control").as_deref(), Some(control), "{path}");
        assert_eq!(answer.all("vary").join(", "), vary, "{path}");
    }
}

#[test]
fn a_patch_that_comes_after_the_end_is_dropped() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    let late = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Session-Patch: {\"late\":true}\r\n\r\nok";
    for (path, status) in [("/shop", 200), ("/page", 401)] {
        let alice = gateway.browser();
        alice.sign_in("alice");
        let (held, gate) = Answer::held(late);
        let before = upstream.requests().len();
        upstream.next(held);
        let mut wire = gateway.connect();
        wire.write(alice.get(path).bytes());
        upstream.wait_for(before + 1);
        assert_eq!(gateway.admin("DELETE", "/sessions?subject=alice", "").status(), 200);
        gate.open();
        let answer = wire.response();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.all("set-cookie"), Vec::<String>::new());
    }
    assert_eq!(gateway.audit("patch_dropped")["reason"], "revoked");
    assert_eq!(gateway.get("/shop").header("Cookie", &cookie).send().text(), "none");
}

#[test]
fn session_data_is_in_no_log() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    gateway.secrets().note("session data", "a-value-nobody-logs");
    let alice = gateway.browser();
    alice.sign_in("alice");
    alice.keep("/page", "{\"a\":\"a-value-nobody-logs\"}");
    alice.keep("/page", "{\"b\":1}");
    assert_eq!(alice.get("/page").patch("{\"a\":\"a-value-nobody-logs\"").send().status(), 502);
    gateway.audit("patch_refused");
}

/// So many at once, each on a connection of its own.
fn in_parallel(
    gateway: &Gateway,
    cookie: &str,
    count: usize,
    path: &str,
    patch_of: impl Fn(usize) -> String + Sync,
) {
    let numbers = Mutex::new(0..count);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut wire = gateway.connect();
                loop {
                    let Some(number) = numbers.lock().expect("no panic under the lock").next() else {
                        return;
                    };
                    let request = gateway.get(path).header("Cookie", cookie).patch(&patch_of(number));
                    assert_eq!(request.send_over(&mut wire).status(), 200);
                }
            });
        }
    });
}

#[test]
fn of_a_thousand_parallel_patches_none_is_lost() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).set("sessions", "{ data: { max_bytes: 24KiB } }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    in_parallel(&gateway, &alice.stolen_cookie(), 1000, "/page", |number| {
        format!("{{\"m{number}\":{number},\"nested\":{{\"n{number}\":null}}}}")
    });
    let data = alice.data("/page").expect("there is a session");
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(1001));
    for number in 0..1000 {
        assert_eq!(data[format!("m{number}")], json!(number));
    }
}

#[test]
fn of_patches_to_one_member_the_last_to_arrive_stands() {
    const ANSWERS: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Patch: {\"m\":0,\"a\":0}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Patch: {\"m\":1,\"b\":1}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Patch: {\"m\":2,\"c\":2}\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Session-Patch: {\"m\":3,\"d\":3}\r\n\r\n",
    ];
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    // Asked one after the other, answered in another order.
    let before = upstream.requests().len();
    let mut waiting: Vec<_> = ANSWERS
        .iter()
        .enumerate()
        .map(|(number, bytes)| {
            let (held, gate) = Answer::held(bytes);
            upstream.next(held);
            let mut wire = gateway.connect();
            wire.write(alice.get("/page").bytes());
            upstream.wait_for(before + number + 1);
            Some((wire, gate))
        })
        .collect();
    for number in [2, 0, 3, 1] {
        let (mut wire, gate) = waiting[number].take().expect("each is answered once");
        gate.open();
        assert_eq!(wire.response().status(), 200);
        let data = alice.data("/page").expect("there is a session");
        assert_eq!(data["m"], json!(number), "visible as soon as it is answered");
    }
    assert_eq!(alice.data("/page"), Some(json!({"m": 1, "a": 0, "b": 1, "c": 2, "d": 3})));
}

/// Whether every value of the data is one that was sent: nothing is torn.
fn is_whole(data: &Value) -> bool {
    data["x"] == data["y"]
}

#[test]
fn a_patch_is_seen_whole_or_not_at_all() {
    let upstream = Upstream::prompted();
    let gateway = keeping(&upstream).start();
    let alice: Browser<'_> = gateway.browser();
    alice.sign_in("alice");
    let cookie = alice.stolen_cookie();
    thread::scope(|scope| {
        scope.spawn(|| {
            in_parallel(&gateway, &cookie, 300, "/page", |number| {
                format!("{{\"x\":{number},\"y\":{number}}}")
            });
        });
        let mut wire = gateway.connect();
        for _ in 0..200 {
            let answer = gateway.get("/page").header("Cookie", &cookie).send_over(&mut wire);
            assert!(is_whole(&answer.json()), "{}", answer.text());
        }
    });
}
