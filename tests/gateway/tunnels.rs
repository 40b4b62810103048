//! What goes through a `WebSocket`'s tunnel (RFC 6455): every byte, both ways, whoever ends it.

use crate::support::{Answer, Gateway, HOST, Setup, Upstream, Wire, wait};
use std::io::{Read, Write};
use std::time::Duration;

const AGREES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

fn open(gateway: &Gateway) -> Wire {
    let mut wire = gateway.connect();
    wire.write(format!(
        "GET /public HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: chat, mail\r\n\r\n"
    ));
    let answer = wire.head();
    assert_eq!(answer.status(), 101);
    wire
}

/// A frame with a mask of zeroes, so that both directions look alike but for one bit.
fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..126 => bytes.push(mask | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(mask | 0x7E);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(mask | 0x7F);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend([0; 4]);
    }
    [&bytes, payload].concat()
}

const CLOSE: u8 = 0x88;

#[test]
fn what_both_sides_agree_on_is_theirs() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::talk(|talk| talk.write_all(AGREES).expect("the gateway reads")));
    let mut wire = gateway.connect();
    wire.write(format!(
        "GET /public HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat, mail\r\n\r\n"
    ));
    let answer = wire.head();
    for (name, value) in [
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=10"),
        ("sec-websocket-protocol", "chat"),
        ("upgrade", "websocket"),
    ] {
        assert_eq!(answer.header(name).as_deref(), Some(value), "{name}");
    }
    let request = upstream.last();
    for (name, value) in [
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "chat, mail"),
    ] {
        assert_eq!(request.header(name).as_deref(), Some(value), "{name}");
    }
    assert!(request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    assert!(request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
}

#[test]
fn frames_of_every_kind_pass_untouched() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = open(&gateway);
    for (name, bytes) in [
        ("text", frame(0x81, true, b"hello")),
        ("compressed", frame(0xC1, true, b"\xf2\x48\xcd\xc9\xc9\x07\x00")),
        ("a ping", frame(0x89, true, b"are you there")),
        ("an empty ping", frame(0x89, true, b"")),
        ("a pong that nobody asked for", frame(0x8A, true, b"")),
        ("the first of three", frame(0x01, true, b"one")),
        ("a ping in between", frame(0x89, true, b"?")),
        ("the second", frame(0x00, true, b"two")),
        ("the last", frame(0x80, true, b"three")),
        ("a kind that nobody knows", frame(0x8B, true, b"?")),
        ("a length in two bytes", frame(0x82, true, &[0x88; 300])),
        ("a length in eight bytes", frame(0x82, true, &vec![0x88; 70_000])),
        ("a length in too many bytes", b"\x82\xff\0\0\0\0\0\0\0\x01\0\0\0\0a".to_vec()),
        ("no mask, which a client must set", frame(0x81, false, b"hello")),
    ] {
        wire.write(&bytes);
        assert!(wire.read_exactly(bytes.len()) == bytes, "{name}");
    }
    // Byte by byte, each of them alone.
    for byte in frame(0x81, true, b"slowly") {
        wire.write([byte]);
        assert_eq!(wire.read_exactly(1), [byte]);
    }
}

#[test]
fn a_message_of_ten_megabytes_and_twenty_thousand_small_ones_pass() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let large: Vec<u8> = (0..10_u32 << 20).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let small: Vec<u8> =
        (0..20_000_u32).flat_map(|number| frame(0x82, true, &number.to_be_bytes())).collect();
    for sent in [frame(0x82, true, &large), small] {
        // Applications take a message in before they answer it.
        let length = sent.len();
        upstream.next(Answer::talk(move |talk| {
            talk.write_all(AGREES).expect("the gateway reads");
            let mut message = vec![0; length];
            talk.read_exact(&mut message).expect("all of it comes");
            talk.write_all(&message).expect("the gateway reads");
        }));
        let mut wire = open(&gateway);
        wire.write(&sent);
        assert!(wire.read_exactly(sent.len()) == sent);
    }
}

#[test]
fn either_side_may_say_goodbye() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    // The client first.
    upstream.next(Answer::talk(|talk| {
        talk.write_all(AGREES).expect("the gateway reads");
        let mut goodbye = [0; 8];
        talk.read_exact(&mut goodbye).expect("the client's close frame comes");
        talk.write_all(&frame(CLOSE, false, &goodbye[6..])).expect("the gateway reads");
    }));
    let mut wire = open(&gateway);
    wire.write(frame(CLOSE, true, &1000_u16.to_be_bytes()));
    assert_eq!(wire.rest(), frame(CLOSE, false, &1000_u16.to_be_bytes()));
    // The application first.
    let (tell, told) = std::sync::mpsc::channel();
    upstream.next(Answer::talk(move |talk| {
        talk.write_all(AGREES).expect("the gateway reads");
        talk.write_all(&frame(CLOSE, false, &1001_u16.to_be_bytes())).expect("the gateway reads");
        let mut goodbye = [0; 8];
        talk.read_exact(&mut goodbye).expect("the client's close frame comes");
        tell.send(goodbye.to_vec()).expect("the test waits");
    }));
    let mut wire = open(&gateway);
    assert_eq!(wire.read_exactly(4), frame(CLOSE, false, &1001_u16.to_be_bytes()));
    wire.write(frame(CLOSE, true, &1001_u16.to_be_bytes()));
    let goodbye = told.recv_timeout(wait::PATIENCE).expect("it arrives");
    assert_eq!(goodbye, frame(CLOSE, true, &1001_u16.to_be_bytes()));
    assert!(wire.rest().is_empty());
}

#[test]
fn what_was_said_before_the_end_arrives() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let last_words = frame(0x82, false, &vec![7; 200_000]);
    // The application closes right behind its last words, without a close frame.
    let words = last_words.clone();
    upstream.next(Answer::talk(move |talk| {
        talk.write_all(&[AGREES, &words].concat()).expect("the gateway reads");
    }));
    let mut wire = open(&gateway);
    assert!(wire.rest() == last_words);
    // The client does, and the application hears all of it and then the end.
    let (tell, told) = std::sync::mpsc::channel();
    upstream.next(Answer::talk(move |talk| {
        talk.write_all(AGREES).expect("the gateway reads");
        let mut heard = Vec::new();
        talk.read_to_end(&mut heard).expect("the end comes without a reset");
        tell.send(heard).expect("the test waits");
    }));
    let mut wire = open(&gateway);
    wire.write(&last_words);
    wire.finish_writing();
    assert!(told.recv_timeout(wait::PATIENCE).expect("it arrives") == last_words);
    assert!(wire.rest().is_empty());
}

fn with_pause(upstream: &Upstream, pause: &str) -> Gateway {
    let timeouts = format!("timeouts: {{ websocket: {pause}, read: 100ms, write: 1s }}");
    let servers = format!("servers: [\"http://{}\"]", upstream.address());
    Setup::before(upstream)
        .set("upstreams", &format!("{{ app: {{ {servers}, {timeouts} }} }}"))
        .listener("external: { scheme: https, port: 443 }, timeouts: { body: 100ms }")
        .start()
}

#[test]
fn a_tunnel_in_which_nobody_speaks_ends_by_its_own_clock() {
    let upstream = Upstream::recording();
    let gateway = with_pause(&upstream, "1s");
    let mut wire = open(&gateway);
    wire.write("still here");
    assert_eq!(wire.read_exactly(10), b"still here");
    assert!(!wire.closes_within(Duration::from_millis(500)), "the other clocks do not count");
    assert!(wire.closes_within(wait::PATIENCE));
    gateway.wait_for_line("of the tunnel", |line| line["status"] == 101);
}

#[test]
fn a_tunnel_in_which_one_side_speaks_goes_on() {
    let upstream = Upstream::recording();
    let gateway = with_pause(&upstream, "2s");
    // The client only listens, for longer than the pause.
    upstream.next(Answer::talk(|talk| {
        talk.write_all(AGREES).expect("the gateway reads");
        for _ in 0..12 {
            talk.write_all(&frame(0x81, false, b"news")).expect("the tunnel stands");
            wait::pause(Duration::from_millis(250));
        }
    }));
    let mut wire = open(&gateway);
    assert_eq!(wire.rest(), frame(0x81, false, b"news").repeat(12));
    // The application only listens.
    let (tell, told) = std::sync::mpsc::channel();
    upstream.next(Answer::talk(move |talk| {
        talk.write_all(AGREES).expect("the gateway reads");
        let mut heard = Vec::new();
        talk.read_to_end(&mut heard).expect("the end comes without a reset");
        tell.send(heard).expect("the test waits");
    }));
    let mut wire = open(&gateway);
    for _ in 0..12 {
        wire.write("news");
        wait::pause(Duration::from_millis(250));
    }
    drop(wire);
    assert_eq!(told.recv_timeout(wait::PATIENCE).expect("it arrives"), b"news".repeat(12));
}
