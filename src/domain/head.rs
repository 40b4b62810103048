//! The head of an HTTP/1 request, checked byte for byte before any parser sees it.
//!
//! Parsers are kind: they take a bare line feed for a line end, repair a target with a space in it, prefer one of two lengths.
//! Two kind readers in a row disagree, and the disagreement is how a request is smuggled past the first. So whatever could be
//! read in two ways is refused here, and the connection with it. What passes has exactly one reading (RFC 9112), and
//! [`Framing`] says where its message ends.
//!
//! It keeps no field, decodes nothing and does not judge the path (`target.rs` does). Who wants the fields is told them on the
//! way ([`check_each`]), so that nobody reads a head a second time.

pub mod http2;

use crate::domain::target::TARGET_BYTES_MAX;
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};
use std::sync::LazyLock;

/// Longest head in bytes, the blank line included.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most field lines in a head.
pub const FIELDS_MAX: usize = 100;
/// Most bytes in all Cookie values together.
pub const COOKIE_BYTES_MAX: usize = 16 * 1024;

/// How the message after a head is delimited, and what becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read in another place")]
pub struct Framing {
    /// Where the body ends.
    pub body: Body,
    /// The client asks to speak WebSocket; only after a 101 do other bytes follow.
    pub upgrade: bool,
    /// The client wants to send another request afterwards.
    pub keep_alive: bool,
    /// HTTP/1.0.
    pub version_10: bool,
    /// The client waits for a 100 before it sends its body.
    pub expect_continue: bool,
    /// A field speaks of this connection: Upgrade, whatever it asks for, or a Connection that names more than `close` and `keep-alive`.
    pub names_hops: bool,
}

impl Framing {
    /// A request of HTTP/1.1 without a body, which gets one answer and asks for no other protocol: nothing of its fields is looked at any more
    /// once it is decided.
    pub const fn is_plain(&self) -> bool {
        matches!(self.body, Body::None) && !self.names_hops && !self.version_10 && !self.expect_continue
    }
}

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none, or it is empty.
    None,
    /// After so many bytes, never zero.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
}

/// Why a head was refused. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadRejection {
    /// More than [`HEAD_BYTES_MAX`] bytes.
    #[error("the request's head is too long")]
    HeadTooLong,
    /// More than [`FIELDS_MAX`] field lines.
    #[error("the request has too many fields")]
    TooManyFields,
    /// More than [`COOKIE_BYTES_MAX`] bytes of cookies.
    #[error("the request's cookies are too long")]
    CookiesTooLong,
    /// A target of more than [`TARGET_BYTES_MAX`] bytes.
    #[error("the request's target is too long")]
    TargetTooLong,
    /// The head does not end with its blank line.
    #[error("the request's head is incomplete")]
    Incomplete,
    /// A line feed without its carriage return.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// A carriage return without its line feed.
    #[error("a carriage return stands alone")]
    BareCarriageReturn,
    /// NUL or another control byte.
    #[error("the head holds a control byte")]
    ControlByte,
    /// Not `METHOD SP target SP HTTP/x.y`.
    #[error("the request line is malformed")]
    RequestLine,
    /// CONNECT.
    #[error("this is not a forward proxy")]
    Connect,
    /// A version other than 1.0 and 1.1.
    #[error("the HTTP version is not supported here")]
    Version,
    /// A target that is neither a path, nor an http URL, nor `*` with OPTIONS; or one with a fragment or bytes outside visible ASCII.
    #[error("the request's target is malformed")]
    TargetForm,
    /// `user@` before a host.
    #[error("the authority names a user")]
    UserInfo,
    /// A field line that continues the one before.
    #[error("a field is folded over lines")]
    Folded,
    /// A field name that is empty, is no token, or is followed by a space.
    #[error("a field's name is malformed")]
    FieldName,
    /// A field value with a space at its edge, where the protocol has none (RFC 9113 §8.2.1).
    #[error("a field's value is malformed")]
    FieldValue,
    /// A field that speaks of a connection of HTTP/1, in HTTP/2 (RFC 9113 §8.2.2).
    #[error("a field has no place in HTTP/2")]
    ConnectionField,
    /// HTTP/1.1 without Host.
    #[error("the request has no Host")]
    HostMissing,
    /// Two Host fields.
    #[error("the request has two Hosts")]
    HostTwice,
    /// A Host without a value.
    #[error("the request's Host is empty")]
    HostEmpty,
    /// Host and the target's authority differ.
    #[error("the Host differs from the target's")]
    HostDiffers,
    /// Two Content-Length fields, equal or not.
    #[error("the request has two lengths")]
    LengthTwice,
    /// A Content-Length that is not one number.
    #[error("the request's length is malformed")]
    LengthMalformed,
    /// Content-Length and Transfer-Encoding.
    #[error("the request has a length and a transfer encoding")]
    LengthAndEncoding,
    /// Two Transfer-Encoding fields.
    #[error("the request has two transfer encodings")]
    EncodingTwice,
    /// A Transfer-Encoding other than `chunked`.
    #[error("the transfer encoding is not supported; send `chunked` alone")]
    EncodingUnknown,
    /// Transfer-Encoding in HTTP/1.0.
    #[error("HTTP/1.0 has no transfer encoding")]
    EncodingIn10,
    /// Two Authorization fields.
    #[error("the request has two Authorization fields")]
    AuthorizationTwice,
    /// An Expect other than `100-continue`.
    #[error("the expectation is not supported")]
    Expectation,
    /// WebSocket asked for with a body, by a method other than GET, beside another protocol, or without `Connection: upgrade`.
    #[error("the upgrade is malformed")]
    Upgrade,
}

impl HeadRejection {
    /// For logs and counters.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::HeadTooLong => "head_too_long",
            Self::TooManyFields => "too_many_fields",
            Self::CookiesTooLong => "cookies_too_long",
            Self::TargetTooLong => "target_too_long",
            Self::Incomplete => "incomplete_head",
            Self::BareLineFeed => "bare_line_feed",
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::ControlByte => "control_byte",
            Self::RequestLine => "request_line",
            Self::Connect => "connect",
            Self::Version => "version",
            Self::TargetForm => "target_form",
            Self::UserInfo => "user_info",
            Self::Folded => "folded_field",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::ConnectionField => "connection_field",
            Self::HostMissing => "host_missing",
            Self::HostTwice => "host_twice",
            Self::HostEmpty => "host_empty",
            Self::HostDiffers => "host_differs",
            Self::LengthTwice => "length_twice",
            Self::LengthMalformed => "length_malformed",
            Self::LengthAndEncoding => "length_and_encoding",
            Self::EncodingTwice => "encoding_twice",
            Self::EncodingUnknown => "encoding_unknown",
            Self::EncodingIn10 => "encoding_in_http_10",
            Self::AuthorizationTwice => "authorization_twice",
            Self::Expectation => "expectation",
            Self::Upgrade => "upgrade",
        }
    }

    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::Connect => 405,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLong | Self::TooManyFields | Self::CookiesTooLong => 431,
            Self::EncodingUnknown => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

/// Where the head at the start of `buf` ends: the index after its blank line.
///
/// The first `from` bytes were searched by an earlier call. Where there is no proper end, a blank line made of bare line feeds counts,
/// so that [`check`] refuses it at once instead of the reader waiting for a better one.
pub fn find_end(buf: &[u8], from: usize) -> Option<usize> {
    // The last bytes before `from` may be the first half of an end.
    let start = from.saturating_sub(2).min(buf.len());
    let new = &buf[start..];
    let after = |finder: &Finder<'_>, length: usize| finder.find(new).map(|at| start + at + length);
    after(&BLANK_LINE, 3).or_else(|| after(&BARE_BLANK_LINE, 2))
}

/// Prepared once: a head is searched on every request, in steps of many bytes.
static BLANK_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n\r\n"));
static BARE_BLANK_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n\n"));

/// Takes an absolute-form target (RFC 9112 §3.2.2) apart: its authority, and the origin form that is left.
/// `None` for every other target.
pub fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let rest = &target[scheme.len()..];
    match rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')) {
        Some(end) => Some((&rest[..end], &rest[end..])),
        None => Some((rest, b"/")),
    }
}

/// Checks a whole head, from its first byte up to and including its blank line. Allocates nothing.
///
/// One blank line before the request line is skipped (RFC 9112 §2.2).
pub fn check(head: &[u8]) -> Result<Framing, HeadRejection> {
    check_each(head, &mut Nobody)
}

/// Whether these are one request line of HTTP/1.1 with its end, whose target names no host: beside it, field lines mean what they have meant
/// beside another such line.
pub fn is_usual_start(line: &[u8]) -> bool {
    line.strip_suffix(b"\r\n").is_some_and(|line| {
        matches!(RequestLine::read(line), Ok(RequestLine { authority: None, version_10: false, .. }))
    })
}

/// Where in a field line its name ends, and where its value lies without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    colon: u16,
    value: (u16, u16),
}

impl Place {
    /// The name in that line.
    pub fn name(self, line: &[u8]) -> &[u8] {
        &line[..usize::from(self.colon)]
    }

    /// The value in that line.
    pub fn value(self, line: &[u8]) -> &[u8] {
        &line[usize::from(self.value.0)..usize::from(self.value.1)]
    }
}

/// Who is told the fields of a head while it is checked. What was told counts only if the head as a whole passes.
pub trait Listener {
    /// Where name and value are in this very line, if it was told before and its place found then. It is not told again.
    fn knows(&mut self, line: &[u8]) -> Option<Place>;

    /// Hears a line whose name is a token; control bytes in its value are still to be looked for.
    fn hear(&mut self, line: &[u8], place: Place);
}

struct Nobody;

impl Listener for Nobody {
    fn knows(&mut self, _line: &[u8]) -> Option<Place> {
        None
    }

    fn hear(&mut self, _line: &[u8], _place: Place) {}
}

/// [`check`], telling each field on its way.
pub fn check_each(head: &[u8], listener: &mut impl Listener) -> Result<Framing, HeadRejection> {
    if head.len() > HEAD_BYTES_MAX {
        return Err(HeadRejection::HeadTooLong);
    }
    let (framing, lines) = match read(head, listener) {
        Ok(read) => read,
        // A control byte is the better reason, whatever line it broke.
        Err(rejection) => return look_closely(head).and(Err(rejection)),
    };
    // Every line brought its own carriage return and line feed. If the head has no more control bytes than those, there
    // is no other.
    if count_controls(head) == 2 * lines { Ok(framing) } else { look_closely(head).map(|()| framing) }
}

/// Reads the lines; control bytes inside them are not looked for. Also tells how many lines there were.
fn read(head: &[u8], listener: &mut impl Listener) -> Result<(Framing, usize), HeadRejection> {
    let mut lines = Lines(head);
    let mut count = 1;
    let mut line = lines.next()?;
    if line.is_empty() {
        count += 1;
        line = lines.next()?;
    }
    let request_line = RequestLine::read(line)?;
    let mut fields = Fields::default();
    for _ in 0..=FIELDS_MAX {
        count += 1;
        line = lines.next()?;
        if line.is_empty() {
            break;
        }
        if let Some(place) = listener.knows(line) {
            fields.take(place.name(line), place.value(line))?;
        } else {
            let place = split(line)?;
            fields.take(place.name(line), place.value(line))?;
            listener.hear(line, place);
        }
    }
    if !line.is_empty() {
        return Err(HeadRejection::TooManyFields);
    }
    if !lines.0.is_empty() {
        // The blank line came earlier than the caller thought.
        return Err(HeadRejection::Incomplete);
    }
    Ok((fields.framing(&request_line)?, count))
}

/// Counting has no branch in it, so the compiler makes wide instructions of it: a fraction of what a decision at each
/// byte would cost.
fn count_controls(head: &[u8]) -> usize {
    // Short enough for a counter of a byte.
    let of_chunk =
        |chunk: &[u8]| chunk.iter().fold(0_u8, |count, byte| count + u8::from(byte.is_ascii_control()));
    head.chunks(240).map(|chunk| usize::from(of_chunk(chunk))).sum()
}

/// Rare: there are tabs, or something to refuse.
#[cold]
fn look_closely(head: &[u8]) -> Result<(), HeadRejection> {
    for (at, &byte) in head.iter().enumerate() {
        match byte {
            b'\n' if at == 0 || head[at - 1] != b'\r' => return Err(HeadRejection::BareLineFeed),
            b'\r' if head.get(at + 1) != Some(&b'\n') => return Err(HeadRejection::BareCarriageReturn),
            b'\n' | b'\r' | b'\t' => {}
            0..b' ' | 0x7F => return Err(HeadRejection::ControlByte),
            _ => {}
        }
    }
    Ok(())
}

/// What is left of a head, taken line by line.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The next line without its end.
    fn next(&mut self) -> Result<&'a [u8], HeadRejection> {
        let feed = memchr(b'\n', self.0).ok_or(HeadRejection::Incomplete)?;
        let line = self.0[..feed].strip_suffix(b"\r").ok_or(HeadRejection::BareLineFeed)?;
        self.0 = &self.0[feed + 1..];
        Ok(line)
    }
}

/// What the request line says.
struct RequestLine<'a> {
    is_get: bool,
    /// Of an absolute-form target.
    authority: Option<&'a [u8]>,
    version_10: bool,
}

impl<'a> RequestLine<'a> {
    fn read(line: &'a [u8]) -> Result<Self, HeadRejection> {
        let first = memchr(b' ', line).ok_or(HeadRejection::RequestLine)?;
        let last = memrchr(b' ', line).filter(|&last| last > first).ok_or(HeadRejection::RequestLine)?;
        let (method, target, version) = (&line[..first], &line[first + 1..last], &line[last + 1..]);
        if method.is_empty() || token_length(method) != method.len() {
            return Err(HeadRejection::RequestLine);
        }
        let version_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(HeadRejection::Version);
            }
            _ => return Err(HeadRejection::RequestLine),
        };
        if method == b"CONNECT" {
            return Err(HeadRejection::Connect);
        }
        let authority = check_target(method, target)?;
        Ok(Self { is_get: method == b"GET", authority, version_10 })
    }
}

/// Checks a target's form and bytes; returns the authority of an absolute one.
#[expect(clippy::needless_bitwise_bool, reason = "without a branch per byte the loop runs on whole vectors")]
fn check_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<&'a [u8]>, HeadRejection> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadRejection::TargetTooLong);
    }
    // A second space in the request line shows up here as well. Most targets have none of the bytes that need a closer look.
    let is_plain = target.iter().fold(true, |plain, &byte| {
        let is_special = (byte == b'"') | (byte == b'#') | (byte == b'<') | (byte == b'>') | (byte == b'`');
        plain & byte.is_ascii_graphic() & !is_special
    });
    if !is_plain && !has_uri_bytes(target) {
        return Err(if target.contains(&b' ') {
            HeadRejection::RequestLine
        } else {
            HeadRejection::TargetForm
        });
    }
    if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let (authority, rest) = split_absolute(target).ok_or(HeadRejection::TargetForm)?;
    if authority.is_empty() || rest[0] != b'/' {
        return Err(HeadRejection::TargetForm);
    }
    if authority.contains(&b'@') { Err(HeadRejection::UserInfo) } else { Ok(Some(authority)) }
}

/// Whether the parser behind takes these bytes as they are. It drops a fragment silently, and of the bytes that are in no URI
/// (RFC 3986 §2) it takes those that browsers leave as they are: one set in a path, another in a query.
#[cold]
fn has_uri_bytes(target: &[u8]) -> bool {
    let query = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    target.iter().enumerate().all(|(at, byte)| match byte {
        b'#' | b'<' | b'>' => false,
        b'`' => at > query,
        b'"' => at < query,
        _ => byte.is_ascii_graphic(),
    })
}

/// Finds name and value of a field line, which is no longer than a head ([`HEAD_BYTES_MAX`]).
fn split(line: &[u8]) -> Result<Place, HeadRejection> {
    let colon = token_length(line);
    if colon == 0 || line.get(colon) != Some(&b':') {
        let is_folded = matches!(line[0], b' ' | b'\t');
        return Err(if is_folded { HeadRejection::Folded } else { HeadRejection::FieldName });
    }
    let value = line[colon + 1..].trim_ascii_start();
    let (start, length) = (line.len() - value.len(), value.trim_ascii_end().len());
    Ok(Place { colon: colon as u16, value: (start as u16, (start + length) as u16) })
}

/// What the field lines have said so far.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether its field, or an item of it, was there")]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    encoding: bool,
    cookie_bytes: usize,
    authorization: bool,
    expect: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    names_hops: bool,
    protocols: usize,
    websocket: bool,
}

impl<'a> Fields<'a> {
    /// Takes one field in. Most names are passed after a look at their length.
    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), HeadRejection> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => self.host(value)?,
            6 if is(b"cookie") => self.cookie(value)?,
            6 if is(b"expect") => self.expect(value)?,
            7 if is(b"upgrade") => self.upgrade(value),
            10 if is(b"connection") => self.connection(value),
            13 if is(b"authorization") => self.authorization()?,
            14 if is(b"content-length") => self.length(value)?,
            17 if is(b"transfer-encoding") => self.encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn host(&mut self, value: &'a [u8]) -> Result<(), HeadRejection> {
        if value.is_empty() {
            return Err(HeadRejection::HostEmpty);
        }
        if value.contains(&b'@') {
            return Err(HeadRejection::UserInfo);
        }
        if self.host.replace(value).is_some() { Err(HeadRejection::HostTwice) } else { Ok(()) }
    }

    fn cookie(&mut self, value: &[u8]) -> Result<(), HeadRejection> {
        self.cookie_bytes += value.len();
        if self.cookie_bytes > COOKIE_BYTES_MAX { Err(HeadRejection::CookiesTooLong) } else { Ok(()) }
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), HeadRejection> {
        if self.expect || !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadRejection::Expectation);
        }
        self.expect = true;
        Ok(())
    }

    fn upgrade(&mut self, value: &[u8]) {
        self.names_hops = true;
        self.protocols += items(value).count();
        self.websocket |= items(value).any(|item| item.eq_ignore_ascii_case(b"websocket"));
    }

    fn connection(&mut self, value: &[u8]) {
        for item in items(value) {
            let (close, keep_alive) =
                (item.eq_ignore_ascii_case(b"close"), item.eq_ignore_ascii_case(b"keep-alive"));
            self.close |= close;
            self.keep_alive |= keep_alive;
            self.connection_upgrade |= item.eq_ignore_ascii_case(b"upgrade");
            self.names_hops |= !close && !keep_alive && !item.is_empty();
        }
    }

    fn authorization(&mut self) -> Result<(), HeadRejection> {
        if std::mem::replace(&mut self.authorization, true) {
            Err(HeadRejection::AuthorizationTwice)
        } else {
            Ok(())
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), HeadRejection> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(HeadRejection::LengthMalformed);
        }
        let digits = str::from_utf8(value).expect("digits are ASCII");
        let length = digits.parse().map_err(|_| HeadRejection::LengthMalformed)?;
        if self.length.replace(length).is_some() { Err(HeadRejection::LengthTwice) } else { Ok(()) }
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), HeadRejection> {
        if std::mem::replace(&mut self.encoding, true) {
            return Err(HeadRejection::EncodingTwice);
        }
        if value.eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err(HeadRejection::EncodingUnknown) }
    }

    /// Weighs the fields against each other and against the request line.
    fn framing(&self, line: &RequestLine<'_>) -> Result<Framing, HeadRejection> {
        match (self.host, line.authority) {
            (None, _) if !line.version_10 => return Err(HeadRejection::HostMissing),
            // Byte for byte, as the parser behind compares them.
            (Some(host), Some(authority)) if host != authority => {
                return Err(HeadRejection::HostDiffers);
            }
            _ => {}
        }
        let body = match (self.encoding, self.length) {
            (true, _) if line.version_10 => return Err(HeadRejection::EncodingIn10),
            (true, Some(_)) => return Err(HeadRejection::LengthAndEncoding),
            (true, None) => Body::Chunked,
            (false, None | Some(0)) => Body::None,
            (false, Some(length)) => Body::Length(length),
        };
        // The proxy opens a tunnel for WebSocket alone; other protocols are passed over (RFC 9110 §7.8).
        let upgrade = self.websocket && !line.version_10;
        if upgrade && (!line.is_get || body != Body::None || self.protocols != 1 || !self.connection_upgrade)
        {
            return Err(HeadRejection::Upgrade);
        }
        Ok(Framing {
            body,
            upgrade,
            keep_alive: !self.close && (!line.version_10 || self.keep_alive),
            version_10: line.version_10,
            expect_continue: self.expect && !line.version_10 && body != Body::None,
            names_hops: self.names_hops,
        })
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// How many bytes at the start are of a token.
fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len())
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Without spaces and tabs at the edges (RFC 9110 §5.6.3); other white space was refused.
fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// The items of a list (RFC 9110 §5.6.1).
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Framing = Framing {
        body: Body::None,
        upgrade: false,
        keep_alive: true,
        version_10: false,
        expect_continue: false,
        names_hops: false,
    };

    /// `line` and a Host, then `fields`, which bring their own line ends.
    fn with_host(line: &str, fields: &str) -> Result<Framing, HeadRejection> {
        check(format!("{line}\r\nHost: a\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn heads_with_one_reading_pass() {
        let length = |length| Framing { body: Body::Length(length), ..PLAIN };
        let chunked = Framing { body: Body::Chunked, ..PLAIN };
        let closing = Framing { keep_alive: false, ..PLAIN };
        let v10 = Framing { version_10: true, ..closing };
        for (line, fields, expected) in [
            ("GET / HTTP/1.1", "", PLAIN),
            ("GET /a?b=c&d={[|]} HTTP/1.1", "Accept:*/*\r\nX-Empty:\r\nX:  a\tb \t\r\n", PLAIN),
            ("GET / HTTP/1.1", "X-Latin: caf\u{e9}\r\n", PLAIN),
            ("get! / HTTP/1.1", "", PLAIN),
            ("OPTIONS * HTTP/1.1", "", PLAIN),
            ("GET http://a/x HTTP/1.1", "", PLAIN),
            ("GET /\"{}|^[]?`{}|^[]\\ HTTP/1.1", "", PLAIN),
            ("GET HTTPS://a HTTP/1.1", "", PLAIN),
            ("POST / HTTP/1.1", "content-LENGTH: \t12 \r\n", length(12)),
            ("POST / HTTP/1.1", "Content-Length: 18446744073709551615\r\n", length(u64::MAX)),
            ("POST / HTTP/1.1", "Content-Length: 0\r\n", PLAIN),
            ("POST / HTTP/1.1", "Transfer-Encoding: Chunked\r\n", chunked),
            ("GET / HTTP/1.1", "Connection: x, CLOSE\r\n", Framing { names_hops: true, ..closing }),
            ("GET / HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", closing),
            ("GET / HTTP/1.0", "", v10),
            ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", Framing { keep_alive: true, ..v10 }),
            ("GET / HTTP/1.0", "Connection: keep-alive, close\r\n", v10),
            ("GET / HTTP/1.1", "Expect: 100-continue\r\n", PLAIN),
            (
                "PUT / HTTP/1.0",
                "Expect: 100-continue\r\nContent-Length: 1\r\n",
                Framing { body: Body::Length(1), ..v10 },
            ),
            (
                "PUT / HTTP/1.1",
                "Expect: 100-Continue\r\nContent-Length: 1\r\n",
                Framing { expect_continue: true, ..length(1) },
            ),
            (
                "GET / HTTP/1.1",
                "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n",
                Framing { upgrade: true, names_hops: true, ..PLAIN },
            ),
            (
                "POST / HTTP/1.1",
                "Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n",
                Framing { names_hops: true, ..length(1) },
            ),
            ("GET / HTTP/1.1", "Connection: \"close\"\r\n", Framing { names_hops: true, ..PLAIN }),
            ("GET / HTTP/1.0", "Upgrade: websocket\r\n", Framing { names_hops: true, ..v10 }),
        ] {
            assert_eq!(with_host(line, fields), Ok(expected), "{line} {fields}");
        }
        assert_eq!(check(b"OPTIONS / HTTP/1.0\r\n\r\n"), Ok(v10));
        assert_eq!(check(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(PLAIN));
    }

    #[test]
    fn request_lines_with_two_readings_are_refused() {
        use HeadRejection as R;
        for (line, expected) in [
            ("GET  / HTTP/1.1", R::RequestLine),
            ("GET /  HTTP/1.1", R::RequestLine),
            (" GET / HTTP/1.1", R::RequestLine),
            ("GET / HTTP/1.1 ", R::RequestLine),
            ("GET /a b HTTP/1.1", R::RequestLine),
            ("GET / HTTP/1.1 HTTP/1.1", R::RequestLine),
            ("GET /", R::RequestLine),
            ("GET HTTP/1.1", R::RequestLine),
            ("G(T / HTTP/1.1", R::RequestLine),
            ("GET / http/1.1", R::RequestLine),
            ("GET / HTTP/11", R::RequestLine),
            ("GET\t/\tHTTP/1.1", R::RequestLine),
            ("GET / HTTP/1.2", R::Version),
            ("GET / HTTP/2.0", R::Version),
            ("GET / HTTP/0.9", R::Version),
            ("CONNECT a:443 HTTP/1.1", R::Connect),
            ("GET admin HTTP/1.1", R::TargetForm),
            ("GET * HTTP/1.1", R::TargetForm),
            ("GET ftp://a/ HTTP/1.1", R::TargetForm),
            ("GET http:///x HTTP/1.1", R::TargetForm),
            ("GET http://a?x HTTP/1.1", R::TargetForm),
            ("GET http://a\\x HTTP/1.1", R::TargetForm),
            ("GET /\u{e9} HTTP/1.1", R::TargetForm),
            ("GET /\t HTTP/1.1", R::TargetForm),
            ("GET /a#b HTTP/1.1", R::TargetForm),
            ("GET /a?b#c HTTP/1.1", R::TargetForm),
            ("GET /a<b HTTP/1.1", R::TargetForm),
            ("GET /a?b>c HTTP/1.1", R::TargetForm),
            ("GET /a`b HTTP/1.1", R::TargetForm),
            ("GET /a?\"b\" HTTP/1.1", R::TargetForm),
            ("GET /\x7f HTTP/1.1", R::ControlByte),
            ("GET /\0 HTTP/1.1", R::ControlByte),
            ("GET /\r HTTP/1.1", R::BareCarriageReturn),
            ("GET http://u@a/ HTTP/1.1", R::UserInfo),
            ("GET http://b/ HTTP/1.1", R::HostDiffers),
            ("GET http://a:80/ HTTP/1.1", R::HostDiffers),
            ("GET http://A/ HTTP/1.1", R::HostDiffers),
        ] {
            assert_eq!(with_host(line, ""), Err(expected), "{line:?}");
        }
    }

    #[test]
    fn fields_with_two_readings_are_refused() {
        use HeadRejection as R;
        for (fields, expected) in [
            ("Host: a\r\n", R::HostTwice),
            ("Host: b\r\n", R::HostTwice),
            ("Host:\r\n", R::HostEmpty),
            ("Host: u@a\r\n", R::UserInfo),
            (" folded\r\n", R::Folded),
            ("X: 1\r\n\tfolded\r\n", R::Folded),
            ("X : 1\r\n", R::FieldName),
            ("X\t: 1\r\n", R::FieldName),
            (": 1\r\n", R::FieldName),
            ("X\r\n", R::FieldName),
            ("X(: 1\r\n", R::FieldName),
            ("\u{e9}: 1\r\n", R::FieldName),
            ("X: 1\nY: 2\r\n", R::BareLineFeed),
            ("X: 1\rY: 2\r\n", R::BareCarriageReturn),
            ("X: 1\r\r\n", R::BareCarriageReturn),
            ("X: \0\r\n", R::ControlByte),
            ("X: \x0b\r\n", R::ControlByte),
            ("X: \x7f\t\r\n", R::ControlByte),
            ("X: \0\0\nY: 2\r\n", R::ControlByte),
            ("X: 1\nY: \0\r\n", R::BareLineFeed),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", R::LengthTwice),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", R::LengthTwice),
            ("Content-Length: 1, 1\r\n", R::LengthMalformed),
            ("Content-Length: +1\r\n", R::LengthMalformed),
            ("Content-Length: -1\r\n", R::LengthMalformed),
            ("Content-Length: 0x1\r\n", R::LengthMalformed),
            ("Content-Length: 1 1\r\n", R::LengthMalformed),
            ("Content-Length:\r\n", R::LengthMalformed),
            ("Content-Length: 18446744073709551616\r\n", R::LengthMalformed),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", R::LengthAndEncoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", R::LengthAndEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", R::EncodingTwice),
            ("Transfer-Encoding: chunked, chunked\r\n", R::EncodingUnknown),
            ("Transfer-Encoding: gzip, chunked\r\n", R::EncodingUnknown),
            ("Transfer-Encoding: chunked,\r\n", R::EncodingUnknown),
            ("Transfer-Encoding: identity\r\n", R::EncodingUnknown),
            ("Transfer-Encoding: \"chunked\"\r\n", R::EncodingUnknown),
            ("Transfer-Encoding:\r\n", R::EncodingUnknown),
            ("Authorization: a\r\nauthorization: a\r\n", R::AuthorizationTwice),
            ("Expect: 200-ok\r\n", R::Expectation),
            ("Expect: 100-continue\r\nExpect: 100-continue\r\n", R::Expectation),
            ("Upgrade: websocket\r\n", R::Upgrade),
            ("Upgrade: websocket, h2c\r\nConnection: upgrade\r\n", R::Upgrade),
            ("Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: upgrade\r\n", R::Upgrade),
            ("Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", R::Upgrade),
            ("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n", R::Upgrade),
            ("Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n", R::Upgrade),
        ] {
            assert_eq!(with_host("GET / HTTP/1.1", fields), Err(expected), "{fields:?}");
        }
        assert_eq!(
            with_host("POST / HTTP/1.1", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
            Err(R::Upgrade)
        );
        assert_eq!(with_host("GET / HTTP/1.0", "Transfer-Encoding: chunked\r\n"), Err(R::EncodingIn10));
        for (head, expected) in [
            ("", R::Incomplete),
            ("\r\n", R::Incomplete),
            ("\r\n\r\n", R::RequestLine),
            ("GET / HTTP/1.1\r\n\r\n", R::HostMissing),
            ("GET http://a/ HTTP/1.1\r\n\r\n", R::HostMissing),
            ("GET / HTTP/1.1\r\nHost: a\r\n", R::Incomplete),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nX", R::Incomplete),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", R::BareLineFeed),
            ("GET / HTTP/1.1\nHost: a\n\n", R::BareLineFeed),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", R::BareLineFeed),
        ] {
            assert_eq!(check(head.as_bytes()), Err(expected), "{head:?}");
        }
    }

    #[test]
    fn budgets_are_kept_to_the_byte() {
        use HeadRejection as R;
        let fields = |count: usize| "X: 1\r\n".repeat(count);
        assert_eq!(with_host("GET / HTTP/1.1", &fields(FIELDS_MAX - 1)), Ok(PLAIN));
        assert_eq!(with_host("GET / HTTP/1.1", &fields(FIELDS_MAX)), Err(R::TooManyFields));
        let cookies =
            |bytes: usize| format!("Cookie: {}\r\nCookie: {}\r\n", "a".repeat(100), "a".repeat(bytes - 100));
        assert_eq!(with_host("GET / HTTP/1.1", &cookies(COOKIE_BYTES_MAX)), Ok(PLAIN));
        assert_eq!(with_host("GET / HTTP/1.1", &cookies(COOKIE_BYTES_MAX + 1)), Err(R::CookiesTooLong));
        let line = |bytes: usize| format!("GET /{} HTTP/1.1", "a".repeat(bytes - 1));
        assert_eq!(with_host(&line(TARGET_BYTES_MAX), ""), Ok(PLAIN));
        assert_eq!(with_host(&line(TARGET_BYTES_MAX + 1), ""), Err(R::TargetTooLong));
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let field = |bytes: usize| format!("X: {}\r\n", "a".repeat(bytes));
        assert_eq!(with_host("GET / HTTP/1.1", &field(HEAD_BYTES_MAX - rest)), Ok(PLAIN));
        assert_eq!(with_host("GET / HTTP/1.1", &field(HEAD_BYTES_MAX - rest + 1)), Err(R::HeadTooLong));
        let statuses = [
            (R::TooManyFields, 431),
            (R::TargetTooLong, 414),
            (R::Connect, 405),
            (R::Version, 505),
            (R::EncodingUnknown, 501),
            (R::LengthTwice, 400),
        ];
        for (rejection, status) in statuses {
            assert_eq!(rejection.status(), status, "{}", rejection.reason());
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_the_reads_break() {
        for (text, expected) in [
            ("", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", Some(27)),
            ("a\n\nb", Some(3)),
            ("a\r\n\nb", Some(4)),
            ("a\n\r\nb", Some(4)),
            ("\r\n\r\n", Some(4)),
            ("\r\nGET", None),
        ] {
            let buf = text.as_bytes();
            assert_eq!(find_end(buf, 0), expected, "{text:?}");
            for split in 0..buf.len() {
                let found = find_end(&buf[..split], 0).or_else(|| find_end(buf, split));
                assert_eq!(found, expected, "{text:?} read in two at {split}");
            }
        }
    }

    #[test]
    fn absolute_targets_are_taken_apart() {
        for (target, expected) in [
            ("http://a:1/b?c", Some(("a:1", "/b?c"))),
            ("HTTPS://a", Some(("a", "/"))),
            ("http://a?b", Some(("a", "?b"))),
            ("/http://a", None),
            ("ftp://a/", None),
            ("http:/a", None),
        ] {
            let expected =
                expected.map(|(authority, rest): (&str, &str)| (authority.as_bytes(), rest.as_bytes()));
            assert_eq!(split_absolute(target.as_bytes()), expected, "{target}");
        }
    }

    const GOOD: [&str; 3] = [
        "POST /a/b?c HTTP/1.1\r\nHost: a.example\r\nContent-Length: 12\r\nCookie: a=b; c=d\r\nX:\tv\r\n\r\n",
        "PUT http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ];

    /// A second reader, slow and plain: the lines of a head, if it has only one reading as far as bytes and lines go.
    fn lines_of(head: &[u8]) -> Option<Vec<Vec<u8>>> {
        let text: String = head.iter().map(|&byte| char::from(byte)).collect();
        let lines: Vec<&str> = text.strip_suffix("\r\n\r\n")?.split("\r\n").collect();
        let lines = if lines[0].is_empty() { &lines[1..] } else { &lines[..] };
        let clean =
            |line: &&str| !line.is_empty() && line.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'));
        let all = !lines.is_empty() && lines.iter().all(clean);
        all.then(|| lines.iter().map(|line| line.chars().map(|c| c as u8).collect()).collect())
    }

    proptest! {
        #[test]
        fn a_mutated_head_passes_only_with_one_reading(
            good in prop::sample::select(&GOOD[..]),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3, prop::sample::select(vec![
                "\r", "\n", "\r\n", "\0", " ", "\t", ":", ",", "1", "+", "é", "\x7f", "X", "/", "Host: b\r\n",
                "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "\r\n\r\n",
            ])), 1..4),
        ) {
            let mut head = good.as_bytes().to_vec();
            for (at, kind, piece) in edits {
                let at = at.index(head.len());
                let removed = usize::from(kind != 0);
                head.splice(at..at + removed, if kind == 2 { Vec::new() } else { piece.as_bytes().to_vec() });
            }
            if let Ok(framing) = check(&head) {
                prop_assert_eq!(find_end(&head, 0), Some(head.len()));
                let lines = lines_of(&head);
                prop_assert!(lines.is_some(), "{:?}", String::from_utf8_lossy(&head));
                let lines = lines.unwrap_or_default();
                prop_assert_eq!(lines[0].split(|&byte| byte == b' ').count(), 3);
                let values = |name: &str| -> Vec<String> {
                    lines[1..].iter().filter_map(|line| {
                        let line = String::from_utf8_lossy(line);
                        let (key, value) = line.split_once(':').expect("a field line has a colon");
                        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                    }).collect()
                };
                prop_assert_eq!(values("host").len(), usize::from(!values("host").is_empty()));
                let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
                let expected = match (&lengths[..], &encodings[..]) {
                    ([], []) => Body::None,
                    ([length], []) => match length.parse() {
                        Ok(0) => Body::None,
                        Ok(length) => Body::Length(length),
                        Err(error) => return Err(TestCaseError::fail(format!("{length}: {error}"))),
                    },
                    ([], [_]) => Body::Chunked,
                    _ => return Err(TestCaseError::fail("two ways to delimit")),
                };
                prop_assert_eq!(framing.body, expected);
            }
        }

        #[test]
        fn no_bytes_panic(head in prop::collection::vec(any::<u8>(), 0..200), from in 0_usize..300) {
            let _ = check(&head);
            let _ = find_end(&head, from);
            let _ = split_absolute(&head);
        }
    }
}
