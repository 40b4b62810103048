//! What a token admitted ends with it, where it has no end of its own.

use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::unix_now;
use crate::support::{Answer, Gateway, Setup, Upstream, Wire};
use serde_json::json;
use std::io::{Read, Write};
use std::time::Duration;

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// Long enough for a stream to open by right of a token that ends soon, and for the gateway to look.
const SOON: i64 = 4;
const AT_ONCE: Duration = Duration::from_millis(500);

fn start(upstream: &Upstream, issuer: &Key) -> Gateway {
    let jwt = format!(
        "jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {{ public_key: token.key }}, leeway: 0s }}"
    );
    Setup::before(upstream)
        .set("tokens", &format!("{{ api: {{ {jwt} }} }}"))
        .access("{ tokens: [api], allow: everyone }")
        .file("token.key", &issuer.file())
        .start()
}

fn lasting(issuer: &Key, secs: i64) -> String {
    issuer.token("alice", |_, claims| claims["exp"] = json!(unix_now() + secs))
}

/// Opens an answer with this head by right of the token, of which `part` comes and then nothing more.
fn open(
    gateway: &Gateway,
    upstream: &Upstream,
    token: &str,
    head: &'static str,
    part: &'static [u8],
) -> Wire {
    upstream.next(Answer::talk(move |talk| {
        talk.write_all(&[head.as_bytes(), part].concat()).expect("the gateway reads");
        let _ = talk.read(&mut [0; 16]);
    }));
    let mut wire = gateway.connect();
    wire.write(gateway.get("/api").bearer(token).bytes());
    assert_eq!(wire.head().status(), 200);
    assert_eq!(wire.read_exactly(part.len()), part);
    wire
}

fn events(gateway: &Gateway, upstream: &Upstream, token: &str) -> Wire {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    open(gateway, upstream, token, head, b"6\r\ndata:1\r\n")
}

#[test]
fn a_stream_ends_with_the_token_that_admitted_it() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = start(&upstream, &issuer);
    let (short, long) = (lasting(&issuer, SOON), lasting(&issuer, 600));
    let mut going_on = events(&gateway, &upstream, &long);
    let mut ending = events(&gateway, &upstream, &short);
    let mut socket = gateway.connect();
    let opened = gateway.get("/api").bearer(&short).headers(&HANDSHAKE).send_over(&mut socket);
    assert_eq!(opened.status(), 101);
    assert!(!ending.closes_within(AT_ONCE), "not before the token ends");
    let (rest, _) = ending.until_closed();
    assert_eq!(rest, b"", "no last chunk");
    let frame = socket.read_exactly(4);
    assert_eq!((frame[0], &frame[2..]), (0x88, &1008_u16.to_be_bytes()[..]), "a close frame");
    let line = gateway.wait_for_line("the cut is logged", |line| line["reason"] == "token_expired");
    assert_eq!(line["decision"], "cut", "{line}");
    assert!(!going_on.closes_within(AT_ONCE), "another token's goes on");
}

#[test]
fn a_download_that_says_its_length_is_not_torn() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let gateway = start(&upstream, &issuer);
    let short = lasting(&issuer, SOON);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
    let mut download = open(&gateway, &upstream, &short, head, b"the beginning");
    let mut events = events(&gateway, &upstream, &short);
    let (rest, _) = events.until_closed();
    assert_eq!(rest, b"");
    assert!(!download.closes_within(AT_ONCE), "it ends by itself");
    let answer = gateway.get("/api").bearer(&short).send();
    assert_eq!(answer.status(), 401, "no further request passes");
}

#[test]
fn each_newer_file_decides_about_a_tokens_streams_again() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let tokens = |audience: &str| {
        format!(
            "{{ api: {{ jwt: {{ issuer: \"{ISSUER}\", audience: [{audience}], algorithms: [ES256], keys: {{ public_key: token.key }}, leeway: 0s }} }} }}"
        )
    };
    let routes = |rule: &str| {
        format!(
            "[{{ name: all, host: wiki.example.com, path: /, access: {{ tokens: [api], {rule} }}, upstream: app }}]"
        )
    };
    let (all, ops) = ("allow: everyone", "allow: { groups: [ops] }");
    for (what, key, yaml, reason, stays) in [
        ("another audience", "tokens", tokens("other"), "token_audience", false),
        ("a rule that one of both fulfils", "routes", routes(ops), "not_allowed", true),
        (
            "another kind of way in",
            "routes",
            routes("sign_in: [local], allow: everyone").replace("tokens: [api], ", ""),
            "no_token_entry",
            false,
        ),
    ] {
        let mut gateway = start(&upstream, &issuer);
        gateway.reload_with("routes", &routes(all));
        let token = |group: &str| {
            issuer.token("alice", |_, claims| {
                claims["exp"] = json!(unix_now() + 600);
                claims["groups"] = json!([group]);
            })
        };
        let (of_ops, of_dev) = (token("ops"), token("dev"));
        let mut kept = events(&gateway, &upstream, &of_ops);
        let mut lost = events(&gateway, &upstream, &of_dev);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
        let mut download = open(&gateway, &upstream, &of_dev, head, b"the beginning");
        let mut socket = gateway.connect();
        let opened = gateway.get("/api").bearer(&of_dev).headers(&HANDSHAKE).send_over(&mut socket);
        assert_eq!(opened.status(), 101);
        gateway.reload_with("identity", "{ headers: { X-Auth-User: email } }");
        for stream in [&mut kept, &mut lost, &mut download, &mut socket] {
            assert!(!stream.closes_within(AT_ONCE), "{what}: that change is none of theirs");
        }
        gateway.reload_with(key, &yaml);
        for stream in [&mut lost, &mut download] {
            assert!(stream.closes_within(2 * AT_ONCE), "{what}");
        }
        let frame = socket.read_exactly(4);
        assert_eq!((frame[0], &frame[2..]), (0x88, &1008_u16.to_be_bytes()[..]), "{what}: a close frame");
        let line = gateway.wait_for_line("the cut is logged", |line| line["decision"] == "cut");
        assert_eq!(line["reason"], reason, "{what}: {line}");
        assert_eq!(!kept.closes_within(2 * AT_ONCE), stays, "{what}");
    }
}
