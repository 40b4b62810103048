//! The operator's door: sessions, probes and metrics, and who may come in.

use crate::support::gateway::ADMIN_TOKEN;
use crate::support::{Browser, Gateway, Setup, Upstream};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn sessions(gateway: &Gateway, query: &str) -> Vec<Value> {
    let answer = gateway.admin("GET", &format!("/sessions{query}"), "");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["sessions"].as_array().expect("a list").clone()
}

#[test]
fn sessions_are_listed_filtered_and_ended() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, again, bob) = (gateway.browser(), gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    again.sign_in("alice");
    bob.sign_in("bob");
    assert_eq!(sessions(&gateway, "").len(), 3);
    assert_eq!(sessions(&gateway, "?subject=alice").len(), 2);
    assert_eq!(sessions(&gateway, "?subject=alice&source=local").len(), 2);
    assert_eq!(sessions(&gateway, "?subject=alice&source=elsewhere").len(), 0);
    assert_eq!(sessions(&gateway, "?subject=carol").len(), 0);

    let bobs = sessions(&gateway, "?subject=bob").remove(0);
    assert_eq!(
        (&bobs["sign_in"], &bobs["source"], &bobs["client"]["address"]),
        (&json!("local"), &json!("local"), &json!("127.0.0.1"))
    );
    for instant in ["started_at", "last_used_at", "idle_until", "ends_at"] {
        assert!(bobs[instant].as_str().is_some_and(|text| text.ends_with('Z')), "{instant} in {bobs}");
    }
    let id = bobs["id"].as_str().expect("an id");
    assert!(!bobs.to_string().contains(&bob.cookie("__Host-session").expect("a cookie")));
    assert_eq!(gateway.admin("GET", &format!("/sessions/{id}"), "").json()["subject"], "bob");
    assert_eq!(gateway.admin("DELETE", &format!("/sessions/{id}"), "").status(), 204);
    assert!(!bob.is_signed_in());
    assert_eq!(gateway.admin("DELETE", &format!("/sessions/{id}"), "").status(), 404);
    let line = gateway
        .wait_for_line("about the end", |line| line["event"] == "session_ended" && line["subject"] == "bob");
    assert_eq!(line["reason"], "revoked");

    assert_eq!(gateway.admin("DELETE", "/sessions", "").status(), 400, "not everybody's by mistake");
    assert_eq!(gateway.admin("DELETE", "/sessions?subjct=alice", "").status(), 400);
    for unset in ["subject=&source=local", "source=local&subject=", "subject=alice&client="] {
        let answer = gateway.admin("DELETE", &format!("/sessions?{unset}"), "");
        assert_eq!(answer.status(), 400, "a script's variable is unset: {unset}");
    }
    assert!(alice.is_signed_in());
    let answer = gateway.admin("DELETE", "/sessions?subject=alice", "");
    assert_eq!((answer.status(), answer.json()), (200, json!({ "ended": 2 })));
    assert!(!alice.is_signed_in() && !again.is_signed_in());
}

#[test]
fn sessions_are_found_and_ended_by_every_filter() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    for (query, expected) in [
        ("?sign_in=local", 2),
        ("?sign_in=elsewhere", 0),
        ("?client=127.0.0.1", 2),
        ("?client=127.0.0.0/8&subject=bob", 1),
        ("?client=10.0.0.0/8", 0),
        ("?client=::/0", 0),
        ("?idle_for=0s", 2),
        ("?idle_for=1h", 0),
        ("?opened_before=9998-01-01T00:00:00Z", 2),
        ("?opened_before=2020-01-01T00:00:00%2B01:00", 0),
        ("?anonymous=true", 0),
        ("?subject=&client=&idle_for=", 2),
    ] {
        assert_eq!(sessions(&gateway, query).len(), expected, "{query}");
        let page = gateway.admin("GET", &format!("/{query}"), "").text();
        assert_eq!(page.matches(">End</button>").count(), expected, "{query}");
    }
    for bad in ["client=wiki", "client=10.0.0.0/40", "idle_for=1", "opened_before=today", "anonymous=1"] {
        for method in ["GET", "DELETE"] {
            let answer = gateway.admin(method, &format!("/sessions?subject=alice&{bad}"), "");
            assert_eq!(answer.status(), 400, "{method} {bad}");
        }
        assert_eq!(gateway.admin("GET", &format!("/?{bad}"), "").status(), 400, "{bad}");
    }
    for nobody in ["", "?", "?anonymous=false", "?subject=", "?limit=5", "?cursor=AQEBAQEBAQEBAQEBAQEBAQ"] {
        assert_eq!(gateway.admin("DELETE", &format!("/sessions{nobody}"), "").status(), 400, "{nobody}");
    }
    let ended = |query: &str| {
        let answer = gateway.admin("DELETE", &format!("/sessions?{query}"), "");
        assert_eq!(answer.status(), 200, "{query}: {}", answer.text());
        answer.json()["ended"].clone()
    };
    assert_eq!(ended("client=10.0.0.0/8"), 0);
    assert_eq!(ended("idle_for=1h"), 0);
    assert_eq!(ended("anonymous=true"), 0);
    assert!(alice.is_signed_in() && bob.is_signed_in());
    assert_eq!(ended("client=127.0.0.0/8&subject=bob"), 1);
    assert!(alice.is_signed_in() && !bob.is_signed_in());
    assert_eq!(ended("opened_before=9998-01-01T00:00:00Z"), 1);
    assert!(!alice.is_signed_in());
}

#[test]
fn a_session_is_opened_remembered_where_the_file_knows_of_it() {
    let upstream = Upstream::recording();
    let mut gateway = Gateway::before(&upstream);
    let open = |gateway: &Gateway| {
        let answer = gateway.admin("POST", "/sessions", r#"{"subject":"alice","remember_me":true}"#);
        if let Some(value) = answer.json()["cookie"]["value"].as_str() {
            gateway.secrets().note_ours("a cookie", value);
        }
        answer
    };
    assert_eq!(open(&gateway).status(), 422);
    gateway.reload_with("sessions", "{ remember_me: { idle_timeout: 7d, absolute_lifetime: 30d } }");
    let opened = open(&gateway);
    assert_eq!(opened.status(), 201, "{}", opened.text());
    let opened = opened.json();
    assert_eq!((&opened["remembered"], &opened["anonymous"]), (&json!(true), &json!(false)));
    let until = |name: &str| opened[name].as_str().expect("an instant").to_owned();
    assert!(until("ends_at") > until("idle_until"));
    assert_eq!(sessions(&gateway, "?subject=alice")[0]["remembered"], true);
    // Without the box it obeys the clocks of all sessions.
    gateway.reload_with("sessions", "{}");
    assert!(sessions(&gateway, "?subject=alice")[0]["idle_until"].as_str() < Some(&until("idle_until")));
}

#[test]
fn a_subject_with_enough_sessions_is_refused_one_more_where_the_file_says_so() {
    let upstream = Upstream::recording();
    let gateway =
        Setup::before(&upstream).set("sessions", "{ per_subject: { max: 2, when_full: refuse } }").start();
    let open = |subject: &str| {
        let answer = gateway.admin("POST", "/sessions", &json!({ "subject": subject }).to_string());
        if let Some(value) = answer.json()["cookie"]["value"].as_str() {
            gateway.secrets().note_ours("a cookie", value);
        }
        answer
    };
    assert_eq!([open("alice").status(), open("alice").status()], [201, 201]);
    let refused = open("alice");
    assert_eq!(refused.status(), 409);
    assert!(refused.json()["detail"].to_string().contains("sessions.per_subject"), "{}", refused.text());
    assert_eq!(open("bob").status(), 201, "others have room");
    assert_eq!(sessions(&gateway, "").len(), 3);
    let id = sessions(&gateway, "?subject=alice")[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(gateway.admin("DELETE", &format!("/sessions/{id}"), "").status(), 204);
    assert_eq!(open("alice").status(), 201);
}

#[test]
fn a_long_list_comes_in_pages_that_miss_nobody() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("sessions", "{ per_subject: { max: 100 } }").start();
    let mut opened = BTreeSet::new();
    for _ in 0..25 {
        let answer = gateway.admin("POST", "/sessions", r#"{"subject":"alice"}"#);
        assert_eq!(answer.status(), 201, "{}", answer.text());
        let document = answer.json();
        gateway.secrets().note_ours("a cookie", document["cookie"]["value"].as_str().expect("a value"));
        opened.insert(document["id"].as_str().expect("an id").to_owned());
    }
    let mut listed = Vec::new();
    let mut target = "/sessions?limit=7".to_owned();
    loop {
        let page = gateway.admin("GET", &target, "").json();
        let sessions = page["sessions"].as_array().expect("a list");
        assert!(sessions.len() <= 7);
        listed.extend(sessions.iter().map(|session| session["id"].as_str().expect("an id").to_owned()));
        // Changes between two pages move nobody.
        if listed.len() == 7 {
            gateway.admin("DELETE", &format!("/sessions/{}", listed[3]), "");
        }
        match page["next"].as_str() {
            Some(cursor) => target = format!("/sessions?limit=7&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), opened);
    assert_eq!(listed.len(), 25, "nobody twice");
    for bad in ["?limit=0", "?limit=x", "?cursor=nonsense", "?unknown=1", "?limit=1&limit=2"] {
        assert_eq!(gateway.admin("GET", &format!("/sessions{bad}"), "").status(), 400, "{bad}");
    }
}

#[test]
fn a_session_can_be_opened_for_somebody_in_the_users_file() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.admin("POST", "/sessions", r#"{"subject":"alice","groups":["root"]}"#);
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let (name, value) = (answer.json()["cookie"]["name"].clone(), answer.json()["cookie"]["value"].clone());
    assert_eq!(name, "__Host-session");
    let browser = Browser::new(&gateway);
    let value = value.as_str().expect("a value").to_owned();
    gateway.secrets().note_ours("the cookie of an opened session", &value);
    browser.set_cookie("__Host-session", &value);
    assert_eq!(browser.get("/ops").send().status(), 200);
    assert_eq!(
        upstream.last().header("x-auth-groups").as_deref(),
        Some("ops,a%2Cb"),
        "what stands in the file counts"
    );
    for (body, status) in [
        (r#"{"subject":"mallory"}"#, 422),
        (r#"{"subject":"alice","sign_in":"nothing"}"#, 422),
        (r#"{"subject":"alice","host":"elsewhere.example"}"#, 422),
        (r#"{"subject":""}"#, 400),
        (r#"{"subjct":"alice"}"#, 400),
        ("{}", 400),
        ("alice", 400),
    ] {
        let answer = gateway.admin("POST", "/sessions", body);
        assert_eq!(answer.status(), status, "{body}: {}", answer.text());
    }
}

#[test]
fn only_the_operators_token_opens_the_door() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let nearly = &ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1];
    for (target, method) in [
        ("/sessions", "GET"),
        ("/sessions", "POST"),
        ("/sessions?subject=alice", "DELETE"),
        ("/reload", "POST"),
        ("/", "GET"),
        ("/nothing", "GET"),
    ] {
        for fields in [
            String::new(),
            format!("Authorization: Bearer {nearly}\r\n"),
            format!("Authorization: Bearer {ADMIN_TOKEN}x\r\n"),
            format!("Authorization: {ADMIN_TOKEN}\r\n"),
            "Authorization: Bearer\r\n".to_owned(),
        ] {
            let answer = gateway.admin_raw(method, target, &fields, "");
            assert_eq!(answer.status(), 401, "{method} {target} with {fields}");
        }
    }
    assert_eq!(gateway.admin("GET", "/nothing", "").status(), 404);
    assert_eq!(gateway.admin("PUT", "/sessions", "").status(), 405);
    gateway.audit("admin_refused");
}

#[test]
fn a_name_that_somebody_else_can_point_here_is_misdirected() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("wiki.example.com", 421),
    ] {
        for target in ["/sessions", "/healthz", "/metrics"] {
            let answer = gateway.admin_raw("GET", target, &format!("Host: {host}\r\n{token}"), "");
            assert_eq!(answer.status(), status, "{host} {target}");
        }
    }
}

#[test]
fn the_door_is_not_on_the_public_side_nor_the_gateway_behind_the_door() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).access("public").start();
    for path in ["/sessions", "/metrics", "/healthz", "/readyz"] {
        assert_eq!(gateway.get(path).send().text(), "hello from the application", "{path}");
    }
    let answer = gateway.admin("GET", "/_vestibule/login", "");
    assert_eq!(answer.status(), 404);
}

#[test]
fn a_socket_needs_no_token_for_the_file_system_guards_it() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("admin", "{ address: \"unix:admin.sock\" }").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let answer = gateway.admin_over_socket("admin.sock", "GET", "/sessions");
    assert_eq!(answer.json()["sessions"][0]["subject"], "alice");
    let mode = std::fs::metadata(gateway.folder().path().join("admin.sock"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn probes_have_an_address_of_their_own_for_any_host_and_nothing_else() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).set("probes", "{ address: \"127.0.0.1:{probes}\" }").start();
    let get = |target: &str| {
        let mut wire = crate::support::Wire::to(gateway.port("probes"));
        wire.write(format!("GET {target} HTTP/1.1\r\nHost: any.example\r\n\r\n"));
        wire.response()
    };
    assert_eq!(get("/healthz").status(), 200);
    let ready = get("/readyz");
    assert_eq!(ready.status(), 200);
    assert!(ready.text().starts_with("ready\n"), "{}", ready.text());
    assert!(get("/metrics").text().contains("# TYPE"));
    for target in ["/sessions", "/", "/reload", "/_vestibule/login"] {
        assert_eq!(get(target).status(), 404, "{target}");
    }
}

#[test]
fn metrics_count_what_happens_and_take_no_label_from_a_request() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    gateway.browser().try_sign_in("alice", "not-alices-password", "/");
    alice.get("/page").send();
    gateway.get("/page").send();
    gateway.get("/public").send();
    gateway
        .request("FROB-4711", "/label-4711")
        .host("host-4711.example")
        .header("User-Agent", "agent-4711")
        .send();
    gateway.raw("nonsense\r\n\r\n");
    for (name, value) in [
        ("vestibule_sessions_live", 1.0),
        ("vestibule_sessions_started_total{sign_in=\"local\"}", 1.0),
        ("vestibule_sign_in_failures_total{reason=\"wrong_password\"}", 1.0),
        ("vestibule_decisions_total{outcome=\"public\",route=\"public\"}", 1.0),
        ("vestibule_decisions_total{outcome=\"admitted\",route=\"wiki\"}", 1.0),
        ("vestibule_decisions_total{outcome=\"unauthenticated\",route=\"wiki\"}", 1.0),
    ] {
        assert_eq!(
            gateway.metric(name).total_cmp(&value),
            std::cmp::Ordering::Equal,
            "{name} in\n{}",
            gateway.admin("GET", "/metrics", "").text()
        );
    }
    let text = gateway.admin("GET", "/metrics", "").text();
    assert!(text.lines().any(|line| line.starts_with("vestibule_refused_heads_total{")), "{text}");
    assert!(!text.contains("4711"), "{text}");
    alice.sign_out(false);
    assert_eq!(gateway.metric("vestibule_sessions_live").total_cmp(&0.0), std::cmp::Ordering::Equal);
    assert!(gateway.metric("vestibule_sessions_ended_total{reason=\"sign_out\"}") >= 1.0);
}
