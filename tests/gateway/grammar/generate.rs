//! Conversations: valid requests, one behind the other, and what a hostile or broken client makes of them.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What a client sends over one connection, and in which pieces.
#[derive(Clone)]
pub(crate) struct Conversation {
    pub(crate) bytes: Vec<u8>,
    /// Nothing was changed: every request is valid.
    pub(crate) is_valid: bool,
    pub(crate) cuts: Vec<Index>,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" in {} pieces", self.bytes.escape_ascii(), self.cuts.len() + 1)
    }
}

/// One valid request, its lines still apart.
#[derive(Clone, Debug)]
struct Parts {
    method: &'static str,
    target: String,
    version: &'static str,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
/// Bodies that look like something else.
const BODIES: [&str; 8] = [
    "",
    "x",
    "hello",
    "0\r\n\r\n",
    "GET /inside HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
];
/// What is put, repeated or taken for something else anywhere.
const PIECES: [&str; 62] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "\n\r\n",
    "\r\r\n",
    " ",
    "  ",
    "\t",
    "\x0b",
    "\0",
    "\x7f",
    ":",
    ";",
    ",",
    "\u{e9}",
    "\"",
    "#",
    "?",
    "/",
    "%00",
    "<",
    "`",
    "0",
    "00",
    "1",
    "5",
    "a",
    "f",
    "g",
    "x",
    "+",
    "-",
    "_",
    "0x",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/2.0",
    "GET ",
    "POST ",
    "Host: wiki.example.com\r\n",
    "Host: evil.example\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content_Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: Chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Connection: keep-alive\r\n",
    "X: y\r\n",
    "X: y\r\n z\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    ";a=b",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(Index, &'static str),
    Replace(Index, &'static str),
    Remove(Index, u8),
    /// A stretch once more, right behind itself.
    Double(Index, u8),
    /// Two stretches change places.
    Swap(Index, Index, u8),
    FlipCase(Index),
    AddOne(Index),
    /// At the start of a line: where fields stand.
    InsertLine(Index, &'static str),
    RemoveLine(Index),
    DoubleLine(Index),
    CutOff(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let piece = || select(&PIECES[..]);
    prop_oneof![
        4 => (at(), piece()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        4 => (at(), piece()).prop_map(|(at, piece)| Change::Replace(at, piece)),
        2 => (at(), 1_u8..4).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at(), 1_u8..30).prop_map(|(at, count)| Change::Double(at, count)),
        1 => (at(), at(), 1_u8..20).prop_map(|(one, two, count)| Change::Swap(one, two, count)),
        1 => at().prop_map(Change::FlipCase),
        1 => at().prop_map(Change::AddOne),
        6 => (at(), piece()).prop_map(|(at, piece)| Change::InsertLine(at, piece)),
        2 => at().prop_map(Change::RemoveLine),
        2 => at().prop_map(Change::DoubleLine),
        1 => at().prop_map(Change::CutOff),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    let extra = select(vec![
        ("X-A", "1"),
        ("x-b", "a, b;c=\"d\""),
        ("Accept", "*/*"),
        ("X-Empty", ""),
        ("X-Tab", "a\tb"),
        ("TE", "trailers"),
    ]);
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    let fields = prop::collection::vec(extra, 0..3);
    let body = prop::option::of((select(&BODIES[..]), any::<bool>(), 1_usize..9));
    let target =
        (select(vec!["", "/a", "/a/b", "/%41", "/a;b"]), select(vec!["", "?", "?a=b&c=%20", "?/../x"]));
    (select(&METHODS[..]), target, version, fields, body, any::<bool>(), 0_u8..12).prop_map(
        |(method, (path, query), version, extra, body, host_last, closing)| {
            let mut fields: Vec<(String, String)> =
                extra.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let host = ("Host".to_owned(), "wiki.example.com".to_owned());
            let at = if host_last { fields.len() } else { 0 };
            fields.insert(at, host);
            let mut sent = Vec::new();
            if let Some((text, chunked, step)) = body {
                let is_chunked = chunked && version == "HTTP/1.1";
                if is_chunked {
                    fields.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
                    for piece in text.as_bytes().chunks(step) {
                        sent.extend(format!("{:x}\r\n", piece.len()).bytes());
                        sent.extend_from_slice(piece);
                        sent.extend(b"\r\n");
                    }
                    sent.extend(if step == 3 { &b"0\r\nX-Trailer: 1\r\n\r\n"[..] } else { b"0\r\n\r\n" });
                } else {
                    fields.push(("Content-Length".to_owned(), text.len().to_string()));
                    sent.extend(text.bytes());
                }
            }
            match closing {
                0 => fields.push(("Connection".to_owned(), "close".to_owned())),
                1..4 => fields.push(("Connection".to_owned(), "keep-alive".to_owned())),
                _ => {}
            }
            Parts { method, target: format!("/public{path}{query}"), version, fields, body: sent }
        },
    )
}

fn write(parts: &[Parts]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Parts { method, target, version, fields, body } in parts {
        bytes.extend(format!("{method} {target} {version}\r\n").bytes());
        for (name, value) in fields {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body);
    }
    bytes
}

/// Where lines start.
fn lines(bytes: &[u8]) -> Vec<usize> {
    let behind = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind).filter(|&at| at < bytes.len().max(1)).collect()
}

fn line_at(bytes: &[u8], index: Index) -> std::ops::Range<usize> {
    let starts = lines(bytes);
    let number = index.index(starts.len());
    starts[number]..starts.get(number + 1).copied().unwrap_or(bytes.len())
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let stretch = |bytes: &[u8], at: &Index, count: u8| {
        let at = at.index(bytes.len());
        at..(at + usize::from(count)).min(bytes.len())
    };
    match change {
        Change::Insert(at, piece) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, piece.bytes());
        }
        Change::Replace(at, piece) => {
            let at = at.index(bytes.len());
            bytes.splice(at..=at, piece.bytes());
        }
        Change::Remove(at, count) => drop(bytes.drain(stretch(bytes, at, *count))),
        Change::Double(at, count) => {
            let range = stretch(bytes, at, *count);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, copy);
        }
        Change::Swap(one, two, count) => {
            let (one, two) = (one.index(bytes.len()), two.index(bytes.len()));
            let (one, two) = (one.min(two), one.max(two));
            let count = usize::from(*count).min(two - one).min(bytes.len() - two);
            for step in 0..count {
                bytes.swap(one + step, two + step);
            }
        }
        Change::FlipCase(at) => {
            let at = at.index(bytes.len());
            if bytes[at].is_ascii_alphabetic() {
                bytes[at] ^= 0x20;
            }
        }
        Change::AddOne(at) => {
            let at = at.index(bytes.len());
            bytes[at] = bytes[at].wrapping_add(1);
        }
        Change::InsertLine(at, piece) => {
            let at = line_at(bytes, *at).start;
            bytes.splice(at..at, piece.bytes());
        }
        Change::RemoveLine(at) => drop(bytes.drain(line_at(bytes, *at))),
        Change::DoubleLine(at) => {
            let range = line_at(bytes, *at);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, copy);
        }
        Change::CutOff(at) => bytes.truncate(at.index(bytes.len())),
    }
}

/// One to four requests, changed in none to four places.
pub(crate) fn conversation() -> impl Strategy<Value = Conversation> {
    let requests = prop::collection::vec(parts(), 1..4);
    let changes = prop_oneof![1 => Just(Vec::new()), 9 => prop::collection::vec(change(), 1..4)];
    (requests, changes, prop::collection::vec(any::<Index>(), 0..4)).prop_map(|(requests, changes, cuts)| {
        let mut bytes = write(&requests);
        for change in &changes {
            apply(&mut bytes, change);
        }
        Conversation { bytes, is_valid: changes.is_empty(), cuts }
    })
}
