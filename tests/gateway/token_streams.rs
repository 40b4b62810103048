//! What a token admitted ends with it, where it has no end of its own.

use crate::support::issuer::{Issuer, Reply};
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{pause, unix_now};
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
/// Longer than from one look of the gateway to the next, and soon enough to count.
const LATE: Duration = Duration::from_millis(300);

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

const TOKENS_ONLY: &str = "{ tokens: [api], allow: everyone }";

/// The audit's word for why the one stream was cut.
fn cut_for(gateway: &Gateway) -> String {
    let line = gateway.wait_for_line("the cut is logged", |line| line["decision"] == "cut");
    line["reason"].as_str().expect("a word").to_owned()
}

#[test]
fn what_a_server_said_of_a_token_counts_for_its_streams_until_its_entry_is_written_otherwise() {
    let upstream = Upstream::recording();
    let server = Issuer::answering(|_| {
        let exp = unix_now() + 600;
        Some(Reply::json(&json!({ "active": true, "sub": "alice", "exp": exp, "groups": ["ops"] })))
    });
    let tokens = |more: &str| {
        let url = server.url("/introspect");
        format!(
            "{{ api: {{ introspection: {{ url: \"{url}\", client_id: gw, client_secret: {{ file: asking.secret }} }}, {more} }} }}"
        )
    };
    let mut gateway = Setup::before(&upstream)
        .set("tokens", &tokens("max_lifetime: 30d"))
        .access(TOKENS_ONLY)
        .file("asking.secret", "a secret of ours")
        .start();
    let mut stream = events(&gateway, &upstream, "opaque");
    gateway.reload_with("identity", "{ headers: { X-Auth-User: email } }");
    assert!(!stream.closes_within(2 * AT_ONCE), "nothing of its entry has changed");
    assert_eq!(server.asked("/introspect"), 1, "nor is the server asked again for its sake");
    // The entry's name, address and audience are the same.
    gateway.reload_with("tokens", &tokens("claims: { groups: { from: groups, table: { ops: guest } } }"));
    assert!(stream.closes_within(2 * AT_ONCE));
    assert_eq!(cut_for(&gateway), "other_entry");
}

#[test]
fn a_token_that_lives_longer_than_tokens_may_by_now_loses_its_streams() {
    let upstream = Upstream::recording();
    let issuer = Key::es256();
    let mut gateway = start(&upstream, &issuer);
    let mut stream = events(&gateway, &upstream, &lasting(&issuer, 7200));
    let jwt = format!(
        "jwt: {{ issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {{ public_key: token.key }}, leeway: 0s }}"
    );
    gateway.reload_with("tokens", &format!("{{ api: {{ {jwt}, max_lifetime: 1h }} }}"));
    assert!(stream.closes_within(2 * AT_ONCE));
    assert_eq!(cut_for(&gateway), "token_lifetime");
}

/// Keys from elsewhere are not there yet when the new file comes into force.
#[test]
fn where_keys_lie_elsewhere_by_now_those_decide_about_streams() {
    let (upstream, key) = (Upstream::recording(), Key::es256());
    let published = |keys: &[&Key]| {
        let issuer = Issuer::new();
        let keys: Vec<_> = keys.iter().map(|key| key.jwk("a")).collect();
        issuer.publishes(&keys);
        issuer
    };
    let [first, others] = [published(&[&key]), published(&[&Key::es256()])];
    let set = json!({ "keys": [key.jwk("a")] });
    let same = Issuer::answering(move |_| {
        pause(LATE);
        Some(Reply::json(&set))
    });
    let tokens = |url: &str| {
        let jwt = format!(
            "issuer: \"{ISSUER}\", audience: [{AUDIENCE}], algorithms: [ES256], keys: {{ jwks_url: \"{url}\" }}"
        );
        format!("{{ api: {{ jwt: {{ {jwt} }} }} }}")
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr();
    let nobody = format!("http://{}/jwks", nobody.expect("an address"));
    for (what, url, reasons) in [
        ("the same key", same.url("/jwks"), &[][..]),
        ("another key of that name", others.url("/jwks"), &["token_signature"]),
        ("nobody answers there", nobody, &["token_keys_unavailable", "token_not_known_yet"]),
    ] {
        let mut gateway =
            Setup::before(&upstream).set("tokens", &tokens(&first.url("/jwks"))).access(TOKENS_ONLY).start();
        let token = key.token("alice", |header, claims| {
            (header["kid"], claims["exp"]) = (json!("a"), json!(unix_now() + 600));
        });
        let mut stream = events(&gateway, &upstream, &token);
        gateway.reload_with("identity", "{ headers: { X-Auth-User: email } }");
        assert!(!stream.closes_within(AT_ONCE), "{what}: nothing of its entry has changed");
        gateway.reload_with("tokens", &tokens(&url));
        assert_eq!(stream.closes_within(3 * AT_ONCE), !reasons.is_empty(), "{what}");
        if !reasons.is_empty() {
            let told = cut_for(&gateway);
            assert!(reasons.contains(&&*told), "{what}: {told}");
        }
    }
}
