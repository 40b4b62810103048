//! Answers of an upstream that is broken, or abused: the visitor gets one answer, whole, or cut so that it shows, or a 502. The
//! connection it came over is never used again where its end could be in doubt, and no byte of it reaches anybody else.

use crate::support::message::Message;
use crate::support::{Answer, Gateway, HOST, Upstream, wait};
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What the visitor gets of an answer.
#[derive(Clone, Copy, Debug)]
enum Gets {
    /// 502, and this word in the log.
    Refused(&'static str),
    /// This status and this body, whole.
    Whole(u16, &'static str),
    /// A head, and then less than it promised.
    Cut,
}

use Gets::{Cut, Refused, Whole};

/// A whole answer that nobody asked for, wherever it stands.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";

/// One row, one line: `(what it shows, the upstream's bytes, whether it closes after them, what the visitor gets)`; `POISON` stands for [`POISON`].
#[rustfmt::skip]
const TABLE: &[(&str, &str, Ends, Gets)] = &[
    // The status line.
    ("no answer at all", "", Closes, Refused("reset")),
    ("half a status line", "HTTP/1.", Closes, Refused("reset")),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Closes, Refused("reset")),
    ("no status line", "hello\r\n\r\n", Stays, Refused("bad_answer")),
    ("a body without a head, as HTTP/0.9 had it", "<html>hello</html>", Stays, Refused("bad_answer")),
    ("another protocol", "ICY 200 OK\r\n\r\n", Stays, Refused("bad_answer")),
    ("another version", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a version with a sign", "HTTP/1.+1 200 OK\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a status below all", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a status with a sign", "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("no phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nokPOISON", Stays, Whole(200, "ok")),
    ("a switch that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\n\r\nPOISON", Stays, Refused("unasked_101")),
    // Lengths.
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nokok", Stays, Refused("bad_answer")),
    ("one length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("answer_length_twice")),
    ("one length in a list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", Stays, Refused("answer_length_twice")),
    ("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a length below nothing", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a length in C's way", "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a length with something behind", "HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok", Stays, Refused("bad_answer")),
    ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a length beyond all lengths", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", Stays, Refused("bad_answer")),
    ("less than its length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", Closes, Cut),
    ("more than its length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokPOISON", Stays, Whole(200, "ok")),
    ("nothing by its length, and something", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nPOISON", Stays, Whole(200, "")),
    ("no length, until the end", "HTTP/1.1 200 OK\r\n\r\nall of this", Closes, Whole(200, "all of this")),
    ("HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nokPOISON", Stays, Whole(200, "ok")),
    ("HTTP/1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nall of this", Closes, Whole(200, "all of this")),
    // Transfer codings. RFC 9112 §6.3: the coding counts where both are there.
    ("a length beside chunks", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nPOISON", Stays, Whole(200, "ok")),
    ("a length beside chunks that are none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\nwikiPOISON", Stays, Cut),
    ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stays, Refused("answer_encoding")),
    ("another coding before chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stays, Refused("answer_encoding")),
    ("chunks twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stays, Refused("answer_encoding")),
    ("chunks in two fields", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stays, Refused("answer_encoding")),
    ("chunks, then something else", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\nokPOISON", Stays, Refused("answer_encoding")),
    ("a coding that nobody knows", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nokPOISON", Stays, Refused("answer_encoding")),
    ("identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nokPOISON", Stays, Refused("answer_encoding")),
    ("upper case is no flaw", "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\nPOISON", Stays, Whole(200, "ok")),
    // Chunks.
    ("a size in C's way", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", Stays, Cut),
    ("a size with a sign", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", Stays, Cut),
    ("a size beyond all sizes", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n", Stays, Cut),
    ("a size of nothing but letters", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n", Stays, Cut),
    ("a space behind the size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\nPOISON", Stays, Whole(200, "ok")),
    ("a bare line feed behind the size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", Stays, Cut),
    ("no size ends the body, whatever is behind it", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n\r\nPOISON", Stays, Whole(200, "ok")),
    ("no line end behind the data", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokok\r\n0\r\n\r\n", Stays, Cut),
    ("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Closes, Cut),
    ("half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly", Closes, Cut),
    ("no end behind the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", Closes, Cut),
    ("something behind the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nPOISON", Stays, Whole(200, "ok")),
    ("trailers go no further", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Session-Patch: {}\r\n\r\nPOISON", Stays, Whole(200, "ok")),
    // Fields.
    // One reading only, and what the visitor gets is written anew (RFC 9112 §5.2 for the folded ones).
    ("a folded field", "HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 2\r\n\r\nokPOISON", Stays, Whole(200, "ok")),
    ("a folded field of spaces", "HTTP/1.1 200 OK\r\nX-A: one\r\n\t \r\n two\r\nContent-Length: 2\r\n\r\nokPOISON", Stays, Whole(200, "ok")),
    ("a control byte in a field", "HTTP/1.1 200 OK\r\nX-A: o\x00ne\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a bare carriage return in a field", "HTTP/1.1 200 OK\r\nX-A: o\rne\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a field without a name", "HTTP/1.1 200 OK\r\n: one\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("a field without a colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok", Stays, Refused("bad_answer")),
    ("bare line feeds", "HTTP/1.1 200 OK\nX-A: one\nContent-Length: 2\n\nokPOISON", Stays, Whole(200, "ok")),
    ("a space before a colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nokPOISON", Stays, Whole(200, "ok")),
    // Statuses without a body.
    ("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 60\r\n\r\nPOISON", Stays, Refused("answer_body_not_allowed")),
    ("204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Stays, Refused("answer_body_not_allowed")),
    ("204 with a length of nothing", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\nPOISON", Stays, Whole(204, "")),
    ("204 with something behind it", "HTTP/1.1 204 No Content\r\n\r\nPOISON", Stays, Whole(204, "")),
    ("304 with the length that a 200 would have", "HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\nPOISON", Stays, Whole(304, "")),
    ("an interim answer with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 60\r\n\r\nPOISON", Stays, Refused("answer_body_not_allowed")),
];

/// What the upstream does with its connection after the row's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Closes,
    Stays,
}

use Ends::{Closes, Stays};

fn mirror() -> Upstream {
    Upstream::answering(|request| Answer::new("200 OK", &[], &format!("answer to {}", request.target())))
}

/// Answers the next request with these bytes. What is told afterwards is every byte that the gateway still sends over that
/// connection.
fn answer_and_listen(upstream: &Upstream, bytes: Vec<u8>, ends: Ends) -> Receiver<Vec<u8>> {
    let (tell, told) = channel();
    upstream.next(Answer::talk(move |talk| {
        // The gateway may have seen enough before the end.
        drop(talk.write_all(&bytes));
        if ends == Closes {
            return;
        }
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = talk.read(&mut part) {
            // The test may have seen enough as well.
            drop(tell.send(part[..read].to_vec()));
        }
    }));
    told
}

fn ask(gateway: &Gateway, method: &str, target: &str) -> (Option<Message>, Vec<u8>) {
    let mut wire = gateway.connect();
    wire.write(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"));
    let answer = wire.try_response_to("GET").ok().flatten();
    (answer, wire.rest())
}

fn check(gateway: &Gateway, upstream: &Upstream, name: &str, bytes: Vec<u8>, ends: Ends, gets: Gets) {
    let used_again = answer_and_listen(upstream, bytes, ends);
    // A GET may be sent again if a connection that was kept turns out to be closed.
    let (answer, rest) = ask(gateway, "POST", "/public/first");
    match (gets, &answer) {
        (Refused(reason), Some(answer)) => {
            assert_eq!((answer.status(), answer.is_whole), (502, true), "{name}: {answer:?}");
            assert_eq!(answer.json()["status"], 502, "{name}");
            let line = gateway.access_line(answer);
            assert_eq!(line["reason"], reason, "{name}: {line}");
        }
        (Whole(status, body), Some(answer)) => {
            assert_eq!(
                (answer.status(), answer.text().as_str(), answer.is_whole),
                (status, body, true),
                "{name}: {answer:?}"
            );
            let lengths = answer.all("content-length").len() + answer.all("transfer-encoding").len();
            let expected = usize::from(![204, 304].contains(&status));
            assert!(
                status == 304 || lengths == expected,
                "{name}: {}",
                String::from_utf8_lossy(&answer.head)
            );
            assert_eq!(answer.header("x-session-patch"), None, "{name}");
        }
        (Cut, answer) => {
            assert!(!answer.as_ref().is_some_and(|answer| answer.is_whole), "{name}: {answer:?}");
        }
        (_, None) => panic!("{name}: no answer"),
    }
    let seen =
        [answer.map(|answer| [answer.head, answer.raw_body].concat()).unwrap_or_default(), rest].concat();
    assert!(!String::from_utf8_lossy(&seen).contains("poisoned"), "{name}: {}", seen.escape_ascii());
    for number in 0..4 {
        let target = format!("/public/after/{number}");
        let (answer, rest) = ask(gateway, "GET", &target);
        let answer = answer.unwrap_or_else(|| panic!("{name}: {target} was not answered"));
        assert_eq!(answer.text(), format!("answer to {target}"), "{name}");
        assert!(rest.is_empty(), "{name}");
    }
    let again: Vec<u8> = used_again.try_iter().flatten().collect();
    assert!(again.is_empty(), "{name}: the connection was used again: {}", again.escape_ascii());
}

#[test]
fn what_an_upstream_says_wrongly_stays_with_it() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    for &(name, bytes, ends, gets) in TABLE {
        check(&gateway, &upstream, name, bytes.replace("POISON", POISON).into_bytes(), ends, gets);
    }
}

#[test]
fn a_head_without_end_is_not_read_to_its_end() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
    for (name, head, reason) in [
        ("many fields", format!("{start}{}\r\nok", "X-A: 1\r\n".repeat(300)), "bad_answer"),
        ("a long field", format!("{start}X-A: {}\r\n\r\nok", "a".repeat(3 << 20)), "bad_answer"),
        ("a head that never ends", format!("{start}X-A: {}", "a".repeat(3 << 20)), "bad_answer"),
        ("interim answers without end", "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000), "answer_interims"),
    ] {
        let used_again = answer_and_listen(&upstream, head.into_bytes(), Stays);
        let mut wire = gateway.connect();
        wire.write(format!("POST /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let mut interims = 0;
        let answer = loop {
            let answer = wire.response();
            if answer.status() >= 200 {
                break answer;
            }
            interims += 1;
        };
        assert!(interims <= 100, "{name}: {interims}");
        assert_eq!(answer.status(), 502, "{name}");
        assert_eq!(gateway.access_line(&answer)["reason"], reason, "{name}");
        assert_eq!(gateway.get("/public/after").send().text(), "answer to /public/after", "{name}");
        assert_eq!(used_again.try_iter().count(), 0, "{name}");
    }
}

#[test]
fn surplus_bytes_that_come_late_reach_nobody() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
    ] {
        let (go, gate) = channel::<()>();
        let (tell, told) = channel();
        upstream.next(Answer::talk(move |talk| {
            talk.write_all(bytes.as_bytes()).expect("the gateway reads");
            crate::support::upstream::wait_for_gate(&gate);
            // The answer was over, and the gateway keeps the connection for others.
            drop(talk.write_all(POISON.as_bytes()));
            let mut rest = Vec::new();
            drop(talk.read_to_end(&mut rest));
            drop(tell.send(rest));
        }));
        let answer = gateway.get("/public/first").send();
        assert!([200, 204, 304].contains(&answer.status()));
        go.send(()).expect("the upstream waits");
        let rest =
            told.recv_timeout(wait::PATIENCE).expect("the gateway closes what says more than it was asked");
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
        for number in 0..4 {
            let target = format!("/public/{number}");
            assert_eq!(gateway.get(&target).send().text(), format!("answer to {target}"), "{bytes}");
        }
    }
}

#[test]
fn a_client_of_http_10_gets_no_interim_answers() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::Bytes(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec(),
    ));
    let mut wire = gateway.connect();
    wire.write(format!("GET /public HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
    let answer = wire.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert!(wire.closes_within(Duration::from_secs(10)));
}

#[test]
fn a_body_behind_the_answer_to_a_head_reaches_nobody() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    for bytes in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{POISON}", POISON.len()),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{POISON}\r\n0\r\n\r\n",
            POISON.len()
        ),
        format!("HTTP/1.1 200 OK\r\n\r\n{POISON}"),
    ] {
        let used_again = answer_and_listen(&upstream, bytes.clone().into_bytes(), Stays);
        let mut wire = gateway.connect();
        wire.write(format!("HEAD /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(wire.response_to("HEAD").status(), 200, "{bytes}");
        for number in 0..4 {
            let target = format!("/public/{number}");
            assert_eq!(
                gateway.get(&target).send_over(&mut wire).text(),
                format!("answer to {target}"),
                "{bytes}"
            );
        }
        assert_eq!(used_again.try_iter().count(), 0, "{bytes}");
    }
}

#[test]
fn an_application_that_dies_after_a_hint_leaves_the_visitor_an_answer() {
    let upstream = mirror();
    let gateway = Gateway::before(&upstream);
    upstream.next(Answer::ThenClose(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".to_vec()));
    let mut wire = gateway.connect();
    wire.write(format!("POST /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(wire.response().status(), 103);
    let answer = wire.response();
    assert_eq!((answer.status(), answer.is_whole), (502, true));
    assert_eq!(gateway.access_line(&answer)["reason"], "reset");
    assert!(wire.rest().is_empty());
}
