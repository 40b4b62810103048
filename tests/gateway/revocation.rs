//! A revoked token is dead at once, whatever is remembered of it, and stays so where the store does.

use crate::support::command::vestibule;
use crate::support::proofs::outcome;
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{now, unix_now};
use crate::support::{Answer, Gateway, Setup, Upstream, Wire};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::Duration;

const OTHER: &str = "https://other.example.com";
/// The promise is one second; the rest is for a busy machine.
const CUT_WITHIN: Duration = Duration::from_millis(1500);

/// `/api` takes tokens of the one issuer, `/other` those of another with the same key.
pub(crate) fn setup(upstream: &Upstream, issuer: &Key, more: &str) -> Setup {
    let entry = |issuer: &str| {
        format!(
            "{{ jwt: {{ issuer: \"{issuer}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {{ public_key: token.key }} }} {more} }}"
        )
    };
    let route = |name: &str| {
        format!(
            "{{ name: {name}, host: wiki.example.com, path: /{name}, upstream: app, access: {{ tokens: [{name}], allow: everyone }} }}"
        )
    };
    Setup::before(upstream)
        .set("tokens", &format!("{{ api: {}, other: {} }}", entry(ISSUER), entry(OTHER)))
        .routes(&[&route("api"), &route("other")])
        .file("token.key", &issuer.file())
}

pub(crate) fn token(issuer: &Key, subject: &str, jti: &str, age: i64) -> String {
    issuer.token(subject, |_, claims| {
        claims["jti"] = json!(jti);
        claims["iat"] = json!(unix_now() - age);
    })
}

pub(crate) fn ask(gateway: &Gateway, target: &str, token: &str) -> (u16, Value) {
    outcome(gateway, &gateway.get(target).bearer(token).send())
}

pub(crate) fn revoke(gateway: &Gateway, body: &Value) -> Value {
    let answer = gateway.admin("POST", "/tokens/revoke", &body.to_string());
    assert_eq!(answer.status(), 200, "{body}: {}", answer.text());
    answer.json()
}

pub(crate) fn refused() -> (u16, Value) {
    (401, json!("token_revoked"))
}

#[test]
fn a_token_is_revoked_by_its_name_its_subject_or_its_age_and_no_other_with_it() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, "").start();
    let [first, second, third] = [("alice", "1", 5), ("alice", "2", 0), ("bob", "3", 100)]
        .map(|(who, jti, age)| token(&issuer, who, jti, age));
    let elsewhere = issuer.token("alice", |_, claims| {
        claims["iss"] = json!(OTHER);
        claims["jti"] = json!("1");
    });
    let without = issuer.token("carol", |_, claims| {
        claims.as_object_mut().expect("an object").remove("iat");
    });
    let statuses = || {
        let api = [&first, &second, &third, &without].map(|token| ask(&gateway, "/api", token).0);
        [api[0], api[1], api[2], api[3], ask(&gateway, "/other", &elsewhere).0]
    };
    // Believed, and remembered.
    assert_eq!(statuses(), [200; 5]);
    let told = revoke(&gateway, &json!({ "source": ISSUER, "jti": "1" }));
    assert_eq!((&told["source"], &told["sessions_ended"]), (&json!(ISSUER), &json!(0)));
    assert_eq!(ask(&gateway, "/api", &first), refused());
    assert_eq!(statuses(), [401, 200, 200, 200, 200]);
    let before = humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + Duration::from_secs((unix_now() - 50).unsigned_abs()),
    );
    revoke(&gateway, &json!({ "source": ISSUER, "issued_before": before.to_string() }));
    assert_eq!(statuses(), [401, 200, 401, 401, 200], "one without iat was issued before");
    revoke(&gateway, &json!({ "source": ISSUER, "subject": "alice" }));
    assert_eq!(statuses(), [401, 401, 401, 401, 200]);
    let later = token(&issuer, "alice", "4", -2);
    assert_eq!(ask(&gateway, "/api", &later).0, 200, "issued after");
    let audit = gateway.wait_for_line("the last revocation is audited", |line| {
        line["event"] == "tokens_revoked" && line["subject"] == "alice"
    });
    assert_eq!(audit["source"].as_str(), Some(ISSUER));
    for metric in ["vestibule_token_revocations_total", "vestibule_token_revocations_held"] {
        assert!((gateway.metric(metric) - 3.0).abs() < 0.1, "{metric}");
    }
}

#[test]
fn a_call_that_does_not_say_which_revokes_nothing() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, "").start();
    let good = token(&issuer, "alice", "1", 5);
    for (body, expected) in [
        ("", 400),
        ("{}", 400),
        (r#"{"jti":"1"}"#, 422),
        (r#"{"source":"https://id.example.org","jti":"1"}"#, 422),
        (r#"{"source":"https://id.example.com"}"#, 400),
        (r#"{"source":"https://id.example.com","jti":""}"#, 400),
        (r#"{"source":"https://id.example.com","jti":"1","subject":"alice"}"#, 400),
        (r#"{"source":"https://id.example.com","issued_before":"2999-01-01T00:00:00Z"}"#, 400),
        (r#"{"source":"https://id.example.com","everything":true}"#, 400),
    ] {
        assert_eq!(gateway.admin("POST", "/tokens/revoke", body).status(), expected, "{body}");
    }
    assert_eq!(gateway.admin("GET", "/tokens/revoke", "").status(), 405);
    let nobody = gateway.admin_raw("POST", "/tokens/revoke", "Authorization: Bearer wrong\r\n", "{}");
    assert_eq!(nobody.status(), 401);
    assert_eq!(ask(&gateway, "/api", &good).0, 200);
}

#[test]
fn the_command_revokes_too() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, "").start();
    let good = token(&issuer, "alice", "1", 5);
    assert_eq!(ask(&gateway, "/api", &good).0, 200);
    let command = ["tokens", "revoke", "-c", "vestibule.yaml", "--source", ISSUER, "--jti", "1"];
    let done = vestibule(gateway.folder().path(), &command, "");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.starts_with("revoked, and remembered until 2"), "{done:?}");
    assert_eq!(ask(&gateway, "/api", &good), refused());
    let without = vestibule(gateway.folder().path(), &command[..4], "");
    assert_eq!(without.code, 2, "{without:?}");
}

/// Opens an event stream by right of this token.
fn stream(gateway: &Gateway, upstream: &Upstream, token: &str) -> Wire {
    upstream.next(Answer::talk(|talk| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let told = talk.write_all(&[&head[..], b"6\r\ndata:1\r\n"].concat());
        told.expect("the gateway reads");
        // Until it is closed.
        let _ = talk.read(&mut [0; 16]);
    }));
    let mut wire = gateway.connect();
    wire.write(gateway.get("/api").bearer(token).bytes());
    assert_eq!(wire.head().status(), 200);
    assert_eq!(wire.read_exactly(11), b"6\r\ndata:1\r\n");
    wire
}

#[test]
fn what_a_token_admitted_is_cut_when_it_is_revoked() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, "").start();
    let (hers, his) = (token(&issuer, "alice", "1", 5), token(&issuer, "bob", "2", 5));
    let mut alice = stream(&gateway, &upstream, &hers);
    let mut bob = stream(&gateway, &upstream, &his);
    // A request that the application thinks about.
    upstream.next(Answer::talk(|talk| drop(talk.read(&mut [0; 16]))));
    let mut waiting = gateway.connect();
    waiting.write(gateway.get("/api").bearer(&hers).bytes());
    upstream.wait_for(3);
    // An upload of which half is there.
    upstream.next(Answer::talk(|talk| while talk.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}));
    let mut upload = gateway.connect();
    let bytes = gateway.post("/api").bearer(&hers).body(vec![b'u'; 100_000]).bytes();
    upload.write(&bytes[..bytes.len() - 50_000]);
    upstream.wait_for(4);
    let since = now();
    revoke(&gateway, &json!({ "source": ISSUER, "subject": "alice" }));
    let (rest, _) = alice.until_closed();
    assert_eq!(rest, b"", "no last chunk");
    for wire in [&mut waiting, &mut upload] {
        let (rest, _) = wire.until_closed();
        assert!(rest.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&rest));
    }
    assert!(since.elapsed() < CUT_WITHIN, "{:?}", since.elapsed());
    let line = gateway.wait_for_line("the cut is logged", |line| line["reason"] == "token_revoked");
    assert_eq!(line["decision"], "cut", "{line}");
    assert!(!bob.closes_within(Duration::from_millis(500)), "his goes on");
}

#[test]
fn a_revocation_outlives_the_process_where_the_store_does_and_else_not() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    for (sessions, expected) in [("{ store: { sqlite: sessions.db } }", 401), ("{}", 200)] {
        let mut gateway = setup(&upstream, &issuer, "").set("sessions", sessions).start();
        let named = token(&issuer, "alice", "secret-name-7", 5);
        let of_subject = token(&issuer, "bob-the-builder", "8", 5);
        let other = token(&issuer, "carol", "9", 5);
        revoke(&gateway, &json!({ "source": ISSUER, "jti": "secret-name-7" }));
        revoke(&gateway, &json!({ "source": ISSUER, "subject": "bob-the-builder" }));
        for _ in 0..2 {
            gateway.kill();
            gateway.start_again();
            assert_eq!(ask(&gateway, "/api", &named).0, expected, "{sessions}");
            assert_eq!(ask(&gateway, "/api", &of_subject).0, expected, "{sessions}");
            assert_eq!(ask(&gateway, "/api", &other).0, 200);
        }
        if expected == 401 {
            for file in ["sessions.db", "sessions.db-wal"] {
                let held = std::fs::read(gateway.folder().path().join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&held);
                assert!(!text.contains("secret-name") && !text.contains("builder"), "{file} tells a name");
            }
        }
    }
}

#[test]
fn a_token_that_could_outlive_its_revocation_does_not_count() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = setup(&upstream, &issuer, ", max_lifetime: 1h").start();
    for (begins, ends, expected) in [(0, 3600, 200), (0, 3700, 401), (-3000, 500, 200), (-3000, 700, 401)] {
        let token = issuer.token("alice", |_, claims| {
            claims["iat"] = json!(unix_now() + begins);
            claims["exp"] = json!(unix_now() + ends);
        });
        let (status, reason) = ask(&gateway, "/api", &token);
        assert_eq!(status, expected, "{begins} {ends}");
        assert!(status == 200 || reason == "token_lifetime", "{reason}");
    }
}
