//! Every way of writing a request that servers are known to read differently, and what becomes of it: it is refused and the
//! connection closed, or the upstream gets it in the one form that has one reading. Behind each stands a second request,
//! which is answered in its turn or not at all; whatever the upstream gets is recorded byte for byte.
//!
//! Paths have a table of their own in `canonical.rs`, and answers in `answers.rs`.

use crate::support::{Answer, Gateway, HOST, Message, Upstream};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Becomes {
    /// This status, this word in the log, and nothing to the upstream.
    Refused(u16, &'static str),
    /// The same, but it has one reading, and the connection goes on.
    TurnedAway(u16, &'static str),
    /// This request line and this body at the upstream.
    Sent(&'static str, &'static str),
    /// The head was good, so the upstream may have it; it never gets a whole body.
    BrokenOff(&'static str),
}

use Becomes::{BrokenOff, Refused, Sent, TurnedAway};

/// Starts a request that is fine so far.
macro_rules! get {
    ($($fields:literal),*) => { concat!("GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n", $($fields),*) };
}
macro_rules! post {
    ($($rest:literal),*) => { concat!("POST /public HTTP/1.1\r\nHost: wiki.example.com\r\n", $($rest),*) };
}
macro_rules! chunked {
    ($body:literal) => {
        concat!(
            "POST /public HTTP/1.1\r\nHost: wiki.example.com\r\nTransfer-Encoding: chunked\r\n\r\n",
            $body
        )
    };
}

const GET: Becomes = Sent("GET /public HTTP/1.1", "");
const POST: Becomes = Sent("POST /public HTTP/1.1", "");
const WIKI: Becomes = Sent("POST /public HTTP/1.1", "wiki");

/// One row, one line: `(what it shows, the bytes, what becomes of it)`. `\u{e9}` and the like are two bytes on the wire.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Becomes)] = &[
    // The request line.
    ("nothing special", get!("\r\n"), GET),
    ("an empty line before it", "\r\nGET /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", GET),
    ("two empty lines before it", "\r\n\r\nGET /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", GET),
    ("two spaces before the target", "GET  /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("two spaces behind the target", "GET /public  HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a space in the target", "GET /pub lic HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a space before the method", " GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a space behind the version", "GET /public HTTP/1.1 \r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("tabs for spaces", "GET\t/public\tHTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a vertical tab for a space", "GET\x0b/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "control_byte")),
    ("two versions", "GET /public HTTP/1.1 HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("no version, as HTTP/0.9 had it", "GET /public\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("no target", "GET HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a version in lower case", "GET /public http/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a version of one number", "GET /public HTTP/1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a version of two digits", "GET /public HTTP/1.10\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("HTTP/0.9", "GET /public HTTP/0.9\r\nHost: wiki.example.com\r\n\r\n", Refused(505, "version")),
    ("HTTP/1.2", "GET /public HTTP/1.2\r\nHost: wiki.example.com\r\n\r\n", Refused(505, "version")),
    ("HTTP/2.0", "GET /public HTTP/2.0\r\nHost: wiki.example.com\r\n\r\n", Refused(505, "version")),
    ("the preface of HTTP/2 with a field", "PRI * HTTP/2.0\r\nHost: wiki.example.com\r\n\r\n", Refused(505, "version")),
    ("a method that is no token", "GE(T /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a method of bytes above ASCII", "G\u{e9}T /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "request_line")),
    ("a method that nobody knows", "BREW /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Sent("BREW /public HTTP/1.1", "")),
    ("a method in lower case is another", "get /public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Sent("get /public HTTP/1.1", "")),
    ("CONNECT", "CONNECT wiki.example.com:443 HTTP/1.1\r\nHost: wiki.example.com:443\r\n\r\n", Refused(405, "connect")),
    // The target's form and bytes.
    ("no slash", "GET admin HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("an asterisk without OPTIONS", "GET * HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("another scheme", "GET ftp://wiki.example.com/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("an authority alone", "GET wiki.example.com:80 HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("a URL", "GET http://wiki.example.com/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", GET),
    ("a URL with its scheme in upper case", "GET HTTP://wiki.example.com/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", GET),
    ("a URL with its host in other letters", "GET http://Wiki.example.com/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "host_differs")),
    ("a URL of another host", "GET http://evil.example/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "host_differs")),
    ("a URL with a user", "GET http://u@wiki.example.com/public HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "user_info")),
    ("a URL without a path", "GET http://wiki.example.com?x HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("a fragment", "GET /public#top HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("a fragment behind a query", "GET /public?a#top HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("NUL in the target", "GET /public\0 HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "control_byte")),
    ("a bare carriage return in the target", "GET /public\r HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "bare_carriage_return")),
    ("DEL in the target", "GET /public\x7f HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "control_byte")),
    ("raw UTF-8 in the target", "GET /public/\u{e9} HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("bytes that URLs escape", "GET /public/<\"> HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("bytes that browsers escape in a query", "GET /public?<\"> HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Refused(400, "target_form")),
    ("bytes that browsers leave in a query", "GET /public?{}|\\^`[]' HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n", Sent("GET /public?{}|\\^`[]' HTTP/1.1", "")),
    // Line ends.
    ("bare line feeds", "GET /public HTTP/1.1\nHost: wiki.example.com\n\n", Refused(400, "bare_line_feed")),
    ("a bare line feed in the first line", "GET /public HTTP/1.1\nHost: wiki.example.com\r\n\r\n", Refused(400, "bare_line_feed")),
    ("a bare line feed among others", get!("X: 1\n\r\n"), Refused(400, "bare_line_feed")),
    ("a bare line feed at the end", "GET /public HTTP/1.1\r\nHost: wiki.example.com\r\n\n", Refused(400, "bare_line_feed")),
    ("a request behind a bare line feed", get!("X: 1\n\nGET /ops HTTP/1.1\r\n\r\n"), Refused(400, "bare_line_feed")),
    ("a bare carriage return in a value", get!("X: a\rb\r\n\r\n"), Refused(400, "bare_carriage_return")),
    ("two carriage returns", get!("X: a\r\r\n\r\n"), Refused(400, "bare_carriage_return")),
    ("a field behind a bare carriage return", get!("X: a\rContent-Length: 9\r\n\r\n"), Refused(400, "bare_carriage_return")),
    // Fields.
    ("NUL in a value", get!("X: a\0b\r\n\r\n"), Refused(400, "control_byte")),
    ("a vertical tab in a value", get!("X: a\x0bb\r\n\r\n"), Refused(400, "control_byte")),
    ("DEL in a value", get!("X: a\x7fb\r\n\r\n"), Refused(400, "control_byte")),
    ("a tab in a value", get!("X: a\tb\r\n\r\n"), GET),
    ("bytes above ASCII in a value", get!("X: \u{e9}\r\n\r\n"), GET),
    ("no space behind the colon", get!("X:1\r\n\r\n"), GET),
    ("much space around the value", get!("X: \t  1 \t \r\n\r\n"), GET),
    ("a folded field", get!("X: a\r\n b\r\n\r\n"), Refused(400, "folded_field")),
    ("a folded length", "POST /public HTTP/1.1\r\nHost: wiki.example.com\r\nContent-Length:\r\n 4\r\n\r\nwiki", Refused(400, "length_malformed")),
    ("a folded first field", "GET /public HTTP/1.1\r\n Host: wiki.example.com\r\n\r\n", Refused(400, "folded_field")),
    ("a space before the colon", "GET /public HTTP/1.1\r\nHost : wiki.example.com\r\n\r\n", Refused(400, "field_name")),
    ("a tab before the colon", get!("Transfer-Encoding\t: chunked\r\n\r\n"), Refused(400, "field_name")),
    ("an empty name", get!(": empty\r\n\r\n"), Refused(400, "field_name")),
    ("no colon", get!("no colon\r\n\r\n"), Refused(400, "field_name")),
    ("a name that is no token", get!("X(y): 1\r\n\r\n"), Refused(400, "field_name")),
    ("a name of bytes above ASCII", get!("X\u{e9}: 1\r\n\r\n"), Refused(400, "field_name")),
    ("a control byte in a name", get!("Content-Length\x00: 4\r\n\r\n"), Refused(400, "control_byte")),
    // Host.
    ("no Host", "GET /public HTTP/1.1\r\n\r\n", Refused(400, "host_missing")),
    ("an empty Host", "GET /public HTTP/1.1\r\nHost:\r\n\r\n", Refused(400, "host_empty")),
    ("two Hosts", get!("Host: evil.example\r\n\r\n"), Refused(400, "host_twice")),
    ("one Host twice", get!("Host: wiki.example.com\r\n\r\n"), Refused(400, "host_twice")),
    ("a Host with a user", "GET /public HTTP/1.1\r\nHost: u@wiki.example.com\r\n\r\n", Refused(400, "user_info")),
    ("two Hosts in one", "GET /public HTTP/1.1\r\nHost: wiki.example.com, evil.example\r\n\r\n", TurnedAway(400, "host_not_a_name")),
    // Lengths.
    ("a length", post!("Content-Length: 4\r\n\r\nwiki"), WIKI),
    ("a length with zeroes before it", post!("Content-Length: 0004\r\n\r\nwiki"), WIKI),
    ("a length of nothing", post!("Content-Length: 0\r\n\r\n"), POST),
    ("a body with a GET", get!("Content-Length: 4\r\n\r\nwiki"), Sent("GET /public HTTP/1.1", "wiki")),
    ("one length twice", post!("Content-Length: 4\r\nContent-Length: 4\r\n\r\nwiki"), Refused(400, "length_twice")),
    ("two lengths", post!("Content-Length: 4\r\nContent-Length: 0\r\n\r\nwiki"), Refused(400, "length_twice")),
    ("one length in a list", post!("Content-Length: 4, 4\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a list of one length", post!("Content-Length: 4,\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length with a plus", post!("Content-Length: +4\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length with a minus", post!("Content-Length: -1\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length in C's way", post!("Content-Length: 0x4\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length with a point", post!("Content-Length: 4.0\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length with a space in it", post!("Content-Length: 4 4\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("an empty length", post!("Content-Length:\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length in other digits", post!("Content-Length: \u{0664}\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a length beyond all lengths", post!("Content-Length: 18446744073709551616\r\n\r\nwiki"), Refused(400, "length_malformed")),
    ("a field that looks like a length", post!("Content_Length: 9\r\nContent-Length: 4\r\n\r\nwiki"), WIKI),
    // Transfer codings.
    ("chunks", chunked!("4\r\nwiki\r\n0\r\n\r\n"), WIKI),
    ("chunks in upper case", post!("TRANSFER-ENCODING: Chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n"), WIKI),
    ("a length before chunks", post!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Refused(400, "length_and_encoding")),
    ("a length behind chunks", post!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"), Refused(400, "length_and_encoding")),
    ("a length that Connection names, and chunks", post!("Connection: content-length\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Refused(400, "length_and_encoding")),
    ("chunks that Connection names", post!("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n"), WIKI),
    ("a length that Connection names", post!("Connection: content-length\r\nContent-Length: 4\r\n\r\nwiki"), WIKI),
    ("another coding before chunks", post!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("another coding behind chunks", post!("Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("chunks twice", post!("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("chunks in two fields", post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Refused(400, "encoding_twice")),
    ("chunks and identity in two fields", post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"), Refused(400, "encoding_twice")),
    ("identity", post!("Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nwiki"), Refused(501, "encoding_unknown")),
    ("nearly chunks", post!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("chunks in quotes", post!("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("chunks with a parameter", post!("Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("chunks behind a comma", post!("Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("no coding", post!("Transfer-Encoding:\r\n\r\n0\r\n\r\n"), Refused(501, "encoding_unknown")),
    ("a vertical tab before chunks", post!("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"), Refused(400, "control_byte")),
    ("chunks in HTTP/1.0", "POST /public HTTP/1.0\r\nHost: wiki.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(400, "encoding_in_http_10")),
    // Chunks.
    ("two chunks", chunked!("2\r\nwi\r\n2\r\nki\r\n0\r\n\r\n"), WIKI),
    ("sizes in any case with zeroes before them", chunked!("0000000000000004\r\nwiki\r\n000\r\n\r\n"), WIKI),
    ("an extension", chunked!("4;a=b;c=\"d\"\r\nwiki\r\n0;x\r\n\r\n"), WIKI),
    ("trailers, which go no further", chunked!("4\r\nwiki\r\n0\r\nX-Auth-User: root\r\nContent-Length: 9\r\n\r\n"), WIKI),
    ("no chunk but the last", chunked!("0\r\n\r\n"), POST),
    ("a size in C's way", chunked!("0x4\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a size with a plus", chunked!("+4\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a size with a minus", chunked!("-4\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a size with an underscore", chunked!("0_4\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a space before the size", chunked!(" 4\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a space behind the size", chunked!("4 \r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("no size", chunked!("\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("an extension without a size", chunked!(";a\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a size beyond all sizes", chunked!("00000000000000004\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("the size of a wrap-around", chunked!("10000000000000004\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a bare line feed behind the size", chunked!("4\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_size")),
    ("a bare carriage return behind the size", chunked!("4\rwiki\r\n0\r\n\r\n"), BrokenOff("chunk_line_end")),
    ("a bare line feed in an extension", chunked!("4;a\nb\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_extension")),
    ("a bare carriage return in an extension", chunked!("4;a\rb\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_line_end")),
    ("NUL in an extension", chunked!("4;a\0\r\nwiki\r\n0\r\n\r\n"), BrokenOff("chunk_extension")),
    ("a bare line feed behind the data", chunked!("4\r\nwiki\n0\r\n\r\n"), BrokenOff("chunk_line_end")),
    ("data beyond the size", chunked!("4\r\nwikipedia\r\n0\r\n\r\n"), BrokenOff("chunk_line_end")),
    ("a last chunk that ends with a bare line feed", chunked!("4\r\nwiki\r\n0\n\r\n"), BrokenOff("chunk_size")),
    ("an end that is a bare line feed", chunked!("4\r\nwiki\r\n0\r\n\n"), BrokenOff("trailer")),
    ("a folded trailer", chunked!("4\r\nwiki\r\n0\r\nX: 1\r\n 2\r\n\r\n"), BrokenOff("trailer")),
    ("a trailer without a colon", chunked!("4\r\nwiki\r\n0\r\nGET /ops HTTP/1.1\r\n\r\n"), BrokenOff("trailer")),
    // What else has two readings.
    ("two Authorization fields", get!("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"), Refused(400, "authorization_twice")),
    ("another expectation", post!("Expect: coffee\r\nContent-Length: 4\r\n\r\nwiki"), Refused(417, "expectation")),
    ("two expectations", post!("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nwiki"), Refused(417, "expectation")),
    ("an upgrade with a body", get!("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nwiki"), Refused(400, "upgrade")),
    ("an upgrade by POST", post!("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"), Refused(400, "upgrade")),
    ("an upgrade to two protocols", get!("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"), Refused(400, "upgrade")),
    ("an upgrade that Connection does not name", get!("Upgrade: websocket\r\n\r\n"), Refused(400, "upgrade")),
    ("an upgrade to h2c is not heard", get!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"), GET),
];

/// Heads too long for a line, with the same columns.
fn long() -> Vec<(&'static str, String, Becomes)> {
    let get = |fields: String| format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    let chunked = |body: String| {
        format!("POST /public HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    vec![
        ("100 fields", get("X: 1\r\n".repeat(99)), GET),
        ("101 fields", get("X: 1\r\n".repeat(100)), Refused(431, "too_many_fields")),
        ("300 fields", get("X: 1\r\n".repeat(299)), Refused(431, "too_many_fields")),
        ("a head of 32 KiB", get(format!("X: {}\r\n", "a".repeat(32 * 1024))), Refused(431, "head_too_long")),
        ("a head of 2 MiB", get(format!("X: {}\r\n", "a".repeat(2 << 20))), Refused(431, "head_too_long")),
        (
            "cookies of 17 KiB",
            get(format!("Cookie: a={}\r\n", "a".repeat(17_000))),
            Refused(431, "cookies_too_long"),
        ),
        (
            "a target of 9,000 bytes",
            get(String::new()).replace("/public", &format!("/public/{}", "a".repeat(9000))),
            Refused(414, "target_too_long"),
        ),
        (
            "extensions of 9 KiB",
            chunked(format!("4;{}\r\nwiki\r\n0\r\n\r\n", "a".repeat(9 << 10))),
            BrokenOff("chunk_extensions_too_long"),
        ),
        (
            "trailers of 65 KiB",
            chunked(format!("4\r\nwiki\r\n0\r\nX: {}\r\n\r\n", "a".repeat(65 << 10))),
            BrokenOff("trailers_too_long"),
        ),
    ]
}

#[test]
fn a_request_with_two_readings_is_refused_and_every_other_one_arrives_in_one() {
    let mirror = || {
        Upstream::answering(|request| Answer::new("200 OK", &[], &format!("answer to {}", request.target())))
    };
    // What breaks off may reach an upstream late: those rows have one of their own.
    let (upstream, other) = (mirror(), mirror());
    let (gateway, other_gateway) = (Gateway::before(&upstream), Gateway::before(&other));
    let rows = TABLE.iter().map(|&(name, bytes, becomes)| (name, bytes.to_owned(), becomes));
    for (name, bytes, becomes) in rows.chain(long()) {
        match becomes {
            BrokenOff(_) => check(&other_gateway, &other, name, bytes.as_bytes(), becomes),
            _ => check(&gateway, &upstream, name, bytes.as_bytes(), becomes),
        }
    }
}

fn check(gateway: &Gateway, upstream: &Upstream, name: &str, bytes: &[u8], becomes: Becomes) {
    let before = upstream.requests().len();
    let mut wire = gateway.connect();
    let second = format!("GET /public/second HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    // A refusal may come, and the connection close, before all is written.
    drop(wire.try_write([bytes, second.as_bytes()].concat()));
    let said = String::from_utf8_lossy(&wire.rest()).into_owned();
    let shown = || format!("{name}: {}\n{said}", bytes[..bytes.len().min(400)].escape_ascii());
    let got = upstream.requests().split_off(before);
    match becomes {
        Refused(status, reason) => {
            assert!(got.is_empty(), "{}", shown());
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{}", shown());
            assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{}", shown());
            assert!(said.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{}", shown());
            // Such heads never reach a filter; they stand in the log all the same.
            gateway.wait_for_line(reason, |line| line["reason"] == reason && line["status"] == status);
        }
        TurnedAway(status, reason) => {
            let [second] = &got[..] else { panic!("{} requests arrived: {}", got.len(), shown()) };
            assert_eq!(second.first_line(), "GET /public/second HTTP/1.1", "{}", shown());
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{}", shown());
            assert_eq!(said.matches("HTTP/1.1 ").count(), 2, "{}", shown());
            assert!(said.ends_with("answer to /public/second"), "{}", shown());
            gateway.wait_for_line(reason, |line| line["reason"] == reason && line["status"] == status);
        }
        Sent(line, body) => {
            let [first, second] = &got[..] else { panic!("{} requests arrived: {}", got.len(), shown()) };
            assert_eq!((first.first_line(), first.text()), (line.to_owned(), body.to_owned()), "{}", shown());
            assert_eq!(second.first_line(), "GET /public/second HTTP/1.1", "{}", shown());
            assert!(second.body.is_empty(), "{}", shown());
            for request in [first, second] {
                has_one_reading(request, name);
            }
            let target = line.split(' ').nth(1).unwrap_or_default();
            let (one, two) = (format!("answer to {target}"), "answer to /public/second".to_owned());
            let order = said.find(&one).zip(said.find(&two));
            assert!(order.is_some_and(|(one, two)| one < two), "{}", shown());
            assert_eq!(said.matches("HTTP/1.1 ").count(), 2, "{}", shown());
        }
        BrokenOff(reason) => {
            assert!(got.iter().all(|request| !request.is_whole), "{}", shown());
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{}", shown());
            assert!(said.matches("HTTP/1.1 ").count() <= 1, "{}", shown());
            gateway.wait_for_line(reason, |line| line["reason"] == reason);
        }
    }
}

/// Read as strictly as anybody might: one framing, one Host, lines that end with CRLF, and no trailers.
fn has_one_reading(request: &Message, name: &str) {
    let head = String::from_utf8_lossy(&request.head).into_owned();
    let lines: Vec<&str> = head.trim_end_matches("\r\n").split("\r\n").collect();
    for line in &lines {
        assert!(!line.contains(|byte: char| byte.is_ascii_control() && byte != '\t'), "{name}: {line:?}");
        assert!(!line.is_empty() && !line.starts_with([' ', '\t']), "{name}: {line:?}");
    }
    for line in &lines[1..] {
        let field = line.split_once(": ").unwrap_or_else(|| panic!("{name}: {line:?}"));
        assert!(!field.0.contains([' ', '\t']), "{name}: {line:?}");
    }
    assert_eq!(request.header("host").as_deref(), Some(HOST), "{name}");
    let framings = [request.all("content-length"), request.all("transfer-encoding")].concat();
    assert!(framings.len() <= 1, "{name}: {framings:?}");
    for gone in ["connection", "upgrade", "http2-settings", "te", "trailer", "keep-alive", "content_length"] {
        assert!(gone == "content_length" || request.header(gone).is_none(), "{name}: {gone} went on");
    }
    let raw = String::from_utf8_lossy(&request.raw_body).into_owned();
    assert!(!raw.contains("X-Auth-User") && !raw.contains(';'), "{name}: {raw}");
    assert!(request.is_whole, "{name}");
}
