//! A request's target and host, in their one normal form.
//!
//! What is matched is what is sent: routes are chosen on the form made here, and the upstream gets the same string.
//! Whatever two servers might read in two ways is refused instead of repaired: dot segments, empty segments, backslashes,
//! encoded separators, a second layer of percent-encoding, overlong UTF-8. The query is checked for its bytes alone, passed on
//! as it came, and never matched.
//!
//! A target already in normal form, and a host already in lower case, are borrowed: the common request allocates nothing.
//! Terms as in RFC 3986 §3.3 and §6.2.2, and RFC 9112 §3.2.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest target in bytes, query included.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Why a target was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRejection {
    /// More than [`TARGET_BYTES_MAX`] bytes.
    #[error("the target is too long")]
    TooLong,
    /// It does not start with `/`.
    #[error("the target does not start with `/`")]
    NotOriginForm,
    /// A control byte or a space, raw.
    #[error("the target holds a control byte or a space")]
    ControlByte,
    /// A byte above 0x7E, raw.
    #[error("the target holds a byte outside ASCII")]
    NonAscii,
    /// `#`, which a client never sends.
    #[error("the target holds a fragment")]
    Fragment,
    /// `\` in the path; some servers take it for `/`.
    #[error("the path holds a backslash")]
    Backslash,
    /// `%2F`.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// `%5C`.
    #[error("the path holds an encoded backslash")]
    EncodedBackslash,
    /// `%00` to `%1F`, or `%7F`.
    #[error("the path holds an encoded control byte")]
    EncodedControl,
    /// `%` without two hexadecimal digits.
    #[error("the path holds a broken percent escape")]
    BadEscape,
    /// `%25` and two hexadecimal digits: an escape to whoever decodes twice.
    #[error("the path is percent-encoded twice")]
    DoubleEncoded,
    /// UTF-8 longer than needed, such as `%C0%AE` for a dot.
    #[error("the path holds overlong UTF-8")]
    Overlong,
    /// `.` or `..` as a segment, raw or encoded.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// `.` or `..` with parameters: a dot segment to whoever cuts them off.
    #[error("the path holds a dot segment with parameters")]
    DotParameter,
    /// `//`, or a segment of parameters alone before another.
    #[error("the path holds an empty segment")]
    EmptySegment,
}

impl TargetRejection {
    /// For logs and counters.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "target_too_long",
            Self::NotOriginForm => "not_origin_form",
            Self::ControlByte => "control_byte",
            Self::NonAscii => "non_ascii",
            Self::Fragment => "fragment",
            Self::Backslash => "backslash",
            Self::EncodedSlash => "encoded_slash",
            Self::EncodedBackslash => "encoded_backslash",
            Self::EncodedControl => "encoded_control",
            Self::BadEscape => "bad_escape",
            Self::DoubleEncoded => "double_encoded",
            Self::Overlong => "overlong_utf8",
            Self::DotSegment => "dot_segment",
            Self::DotParameter => "dot_segment_with_parameters",
            Self::EmptySegment => "empty_segment",
        }
    }
}

/// A target in origin form and normal form.
///
/// Unreserved characters are raw, other escapes have upper-case digits, and characters that a path must not hold raw are
/// encoded. `Display` writes what goes to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    path: Cow<'a, str>,
    query: Option<&'a str>,
    /// No segment has an escape or `;parameters`.
    is_plain: bool,
}

impl<'a> Target<'a> {
    /// Reads a target as it came on the wire. `OPTIONS *` and absolute form are the caller's to take apart.
    pub fn parse(raw: &'a [u8]) -> Result<Self, TargetRejection> {
        if raw.len() > TARGET_BYTES_MAX {
            return Err(TargetRejection::TooLong);
        }
        if raw.first() != Some(&b'/') {
            return Err(TargetRejection::NotOriginForm);
        }
        let text = str::from_utf8(raw).map_err(|_| TargetRejection::NonAscii)?;
        let plain = raw.iter().position(|&byte| !PLAIN[usize::from(byte)]).unwrap_or(raw.len());
        let (path, end) = match raw.get(plain) {
            None | Some(b'?') => (Cow::Borrowed(&text[..plain]), plain),
            Some(_) => normalise(text, plain)?,
        };
        let is_plain = check_normal_form(path.as_bytes())?;
        let query = if end == raw.len() { None } else { Some(&text[end + 1..]) };
        query.map_or(Ok(()), check_query)?;
        Ok(Self { path, query, is_plain })
    }

    /// The path in normal form, percent-encoded; starts with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What followed the first `?`, byte for byte.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The target was in normal form already; nothing was allocated.
    pub fn is_as_sent(&self) -> bool {
        matches!(self.path, Cow::Borrowed(_))
    }

    /// Appends path and query, as [`Display`](fmt::Display) writes them.
    pub fn write_to(&self, out: &mut String) {
        out.push_str(&self.path);
        if let Some(query) = self.query {
            out.push('?');
            out.push_str(query);
        }
    }

    /// No segment has an escape or `;parameters`, so that [`segments`](Self::segments) yields them as they stand.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The segments that routes match on: normal form, cut before `;`. `/` has one empty segment, `/a/` has two.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        // Segments are short: a loop over bytes is cheaper than a search prepared for each.
        let mut rest = Some(&self.path[1..]);
        std::iter::from_fn(move || {
            let text = rest?;
            let end = text.bytes().position(|byte| byte == b'/');
            rest = end.map(|end| &text[end + 1..]);
            let segment = &text[..end.unwrap_or(text.len())];
            let parameters = if self.is_plain { None } else { segment.find(';') };
            Some(&segment[..parameters.unwrap_or(segment.len())])
        })
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        match self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// Bytes of a path that are themselves in normal form: `pchar` without escapes (RFC 3986 §3.3), and `/`.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = is_unreserved(byte as u8)
            || matches!(
                byte as u8,
                b'!' | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
                    | b'/'
            );
        byte += 1;
    }
    table
};

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Rewrites the path of `text`, of which the first `plain` bytes need nothing; also tells where the path ends.
/// Allocates from the first difference on.
fn normalise(text: &str, plain: usize) -> Result<(Cow<'_, str>, usize), TargetRejection> {
    let raw = text.as_bytes();
    let mut rewritten: Option<String> = None;
    let mut at = plain;
    while at < raw.len() && raw[at] != b'?' {
        let (length, normal) = normal_piece(&raw[at..])?;
        if normal.as_bytes() == &raw[at..at + length] {
            if let Some(out) = &mut rewritten {
                out.push_str(normal.as_str());
            }
        } else {
            rewritten.get_or_insert_with(|| text[..at].to_owned()).push_str(normal.as_str());
        }
        at += length;
    }
    Ok((rewritten.map_or(Cow::Borrowed(&text[..at]), Cow::Owned), at))
}

/// One character of a path in normal form: itself, or an escape.
struct Piece([u8; 3], usize);

impl Piece {
    const fn raw(byte: u8) -> Self {
        Self([byte, 0, 0], 1)
    }

    const fn escape(byte: u8) -> Self {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        Self([b'%', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]], 3)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }

    fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("pieces are made of ASCII")
    }
}

/// The normal form of the character at the start of `rest`, and how many bytes it took.
fn normal_piece(rest: &[u8]) -> Result<(usize, Piece), TargetRejection> {
    match rest[0] {
        b'%' => match (rest.get(1).copied().and_then(hex_digit), rest.get(2).copied().and_then(hex_digit)) {
            (Some(high), Some(low)) => Ok((3, normal_escape(high << 4 | low)?)),
            _ => Err(TargetRejection::BadEscape),
        },
        b'\\' => Err(TargetRejection::Backslash),
        b'#' => Err(TargetRejection::Fragment),
        0..=b' ' | 0x7F => Err(TargetRejection::ControlByte),
        0x80.. => Err(TargetRejection::NonAscii),
        byte if PLAIN[usize::from(byte)] => Ok((1, Piece::raw(byte))),
        byte => Ok((1, Piece::escape(byte))),
    }
}

fn normal_escape(byte: u8) -> Result<Piece, TargetRejection> {
    match byte {
        b'/' => Err(TargetRejection::EncodedSlash),
        b'\\' => Err(TargetRejection::EncodedBackslash),
        0..0x20 | 0x7F => Err(TargetRejection::EncodedControl),
        _ if is_unreserved(byte) => Ok(Piece::raw(byte)),
        _ => Ok(Piece::escape(byte)),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Refuses what servers behind us might read in another way. Looks at the normal form, so that no spelling of a dot or
/// a percent sign slips past. Returns whether the path has neither escapes nor parameters.
fn check_normal_form(path: &[u8]) -> Result<bool, TargetRejection> {
    let mut is_plain = true;
    for (at, &byte) in path.iter().enumerate() {
        match byte {
            b'/' => check_segment(&path[at + 1..])?,
            b'%' => {
                is_plain = false;
                check_escape(&path[at + 1..])?;
            }
            b';' => is_plain = false,
            _ => {}
        }
    }
    Ok(is_plain)
}

/// `rest` starts at a segment's first byte. An encoded `;` counts like a raw one: some servers decode before they cut.
fn check_segment(rest: &[u8]) -> Result<(), TargetRejection> {
    if !matches!(rest.first(), Some(b'/' | b'.' | b';' | b'%')) {
        return Ok(());
    }
    let segment = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
    let is_last = segment.len() == rest.len();
    let name_end = segment
        .iter()
        .position(|&byte| byte == b';')
        .unwrap_or(segment.len())
        .min(segment.windows(3).position(|three| three == b"%3B").unwrap_or(segment.len()));
    match &segment[..name_end] {
        b"" if !is_last => Err(TargetRejection::EmptySegment),
        b"." | b".." if name_end == segment.len() => Err(TargetRejection::DotSegment),
        b"." | b".." => Err(TargetRejection::DotParameter),
        _ => Ok(()),
    }
}

/// `rest` starts after a `%`.
fn check_escape(rest: &[u8]) -> Result<(), TargetRejection> {
    match *rest {
        [b'2', b'5', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
            Err(TargetRejection::DoubleEncoded)
        }
        // Lead bytes that stand for less than their length: C0 and C1 always, E0 before 80–9F, F0 before 80–8F.
        [b'C', b'0' | b'1', b'%', b'8' | b'9' | b'A' | b'B', ..]
        | [b'E', b'0', b'%', b'8' | b'9', ..]
        | [b'F', b'0', b'%', b'8', ..] => Err(TargetRejection::Overlong),
        _ => Ok(()),
    }
}

/// Visible ASCII without `#`. Browsers leave `\ { } [ ] |` raw here.
fn check_query(query: &str) -> Result<(), TargetRejection> {
    match query.bytes().find(|&byte| byte == b'#' || !byte.is_ascii_graphic()) {
        None => Ok(()),
        Some(b'#') => Err(TargetRejection::Fragment),
        Some(0x80..) => Err(TargetRejection::NonAscii),
        Some(_) => Err(TargetRejection::ControlByte),
    }
}

/// Why a host was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostRejection {
    /// No characters.
    #[error("the host is empty")]
    Empty,
    /// Neither a DNS name, nor an IPv4 address in its usual form, nor an IPv6 address in brackets.
    #[error("the host is neither a DNS name nor an IP address")]
    NotAName,
    /// What follows the colon is not a number from 1 to 65535.
    #[error("the host's port is not a number from 1 to 65535")]
    BadPort,
}

impl HostRejection {
    /// For logs and counters.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "host_empty",
            Self::NotAName => "host_not_a_name",
            Self::BadPort => "host_bad_port",
        }
    }
}

/// A host in its normal form: lower case, one trailing dot cut off, the port apart.
///
/// `Display` writes it with the port it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    port: Option<u16>,
    is_ip_literal: bool,
}

impl<'a> Host<'a> {
    /// Reads the value of a Host field or an `:authority`.
    ///
    /// Labels are letters, digits, `-` and `_`. A name whose last label is a number must be four decimal octets
    /// (browsers read `0x7f.1` and `2130706433` as addresses; we refuse them).
    pub fn parse(raw: &'a [u8]) -> Result<Self, HostRejection> {
        let text = str::from_utf8(raw).map_err(|_| HostRejection::NotAName)?;
        if let Some(rest) = text.strip_prefix('[') {
            return Self::parse_ipv6(text, rest);
        }
        let (name, port) = match raw.iter().position(|&byte| byte == b':') {
            Some(colon) => (&text[..colon], Some(parse_port(&text[colon + 1..])?)),
            None => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err(HostRejection::Empty);
        }
        let (is_ip_literal, has_upper_case) = check_labels(name.as_bytes())?;
        if is_ip_literal && name.parse::<Ipv4Addr>().is_err() {
            return Err(HostRejection::NotAName);
        }
        let name = if has_upper_case { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
        Ok(Self { name, port, is_ip_literal })
    }

    fn parse_ipv6(text: &'a str, rest: &'a str) -> Result<Self, HostRejection> {
        let (inside, after) = rest.split_once(']').ok_or(HostRejection::NotAName)?;
        let address: Ipv6Addr = inside.parse().map_err(|_| HostRejection::NotAName)?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if after.is_empty() => None,
            None => return Err(HostRejection::NotAName),
        };
        let mut normal = String::with_capacity(text.len());
        write!(normal, "[{address}]").expect("a String takes everything");
        let sent = &text[..inside.len() + 2];
        let name = if normal == sent { Cow::Borrowed(sent) } else { Cow::Owned(normal) };
        Ok(Self { name, port, is_ip_literal: true })
    }

    /// The name, or the IP address; IPv6 in brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if one was written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether `raw`, from which this was read, was in normal form.
    pub fn is_as_sent(&self, raw: &[u8]) -> bool {
        match (raw.strip_prefix(self.name.as_bytes()), self.port) {
            (Some(rest), None) => rest.is_empty(),
            // A port has no second spelling.
            (Some([b':', ..]), Some(_)) => true,
            _ => false,
        }
    }

    /// An IPv4 or IPv6 address.
    pub fn is_ip_literal(&self) -> bool {
        self.is_ip_literal
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Labels of 1 to 63 letters, digits, `-` and `_`. Returns whether the last one is a number (by the WHATWG URL Standard,
/// such a host is an IPv4 address or nothing), and whether some letter is upper case.
fn check_labels(name: &[u8]) -> Result<(bool, bool), HostRejection> {
    let mut label = 0;
    let mut has_upper_case = false;
    for (at, &byte) in name.iter().enumerate() {
        match LABEL[usize::from(byte)] {
            LabelByte::Plain => {}
            LabelByte::UpperCase => has_upper_case = true,
            LabelByte::Dot if (1..=63).contains(&(at - label)) => label = at + 1,
            LabelByte::Dot | LabelByte::Foreign => return Err(HostRejection::NotAName),
        }
    }
    let last = &name[label..];
    if !(1..=63).contains(&last.len()) || name.len() > 253 {
        return Err(HostRejection::NotAName);
    }
    let is_number = match last {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        _ => last.iter().all(u8::is_ascii_digit),
    };
    Ok((is_number, has_upper_case))
}

/// What a byte is in a DNS name.
#[derive(Clone, Copy)]
enum LabelByte {
    Foreign,
    Plain,
    UpperCase,
    Dot,
}

const LABEL: [LabelByte; 256] = {
    let mut table = [LabelByte::Foreign; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => LabelByte::Plain,
            b'A'..=b'Z' => LabelByte::UpperCase,
            b'.' => LabelByte::Dot,
            _ => LabelByte::Foreign,
        };
        byte += 1;
    }
    table
};

fn parse_port(digits: &str) -> Result<u16, HostRejection> {
    // `parse` alone takes a leading `+`, and zeros that hide other digits from a byte-wise comparison.
    if !matches!(digits.bytes().next(), Some(b'1'..=b'9')) {
        return Err(HostRejection::BadPort);
    }
    digits.parse().map_err(|_| HostRejection::BadPort)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(raw: &str) -> Result<String, TargetRejection> {
        Target::parse(raw.as_bytes()).map(|target| target.to_string())
    }

    #[test]
    fn targets_take_their_normal_form() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/a?", "/a?"),
            ("/a?x=%2e%2E%zz//../\\{}[]|", "/a?x=%2e%2E%zz//../\\{}[]|"),
            ("/%61%2d%5F%7e", "/a-_~"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%2eb", "/a.b"),
            ("/[x]{y}|^\"<>`", "/%5Bx%5D%7By%7D%7C%5E%22%3C%3E%60"),
            ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
            ("/%21%40", "/%21%40"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b/..c", "/a..b/..c"),
            ("/100%25", "/100%25"),
            ("/100%25%20x", "/100%25%20x"),
            ("/a;v=1/b;w", "/a;v=1/b;w"),
            ("/;jsessionid=1", "/;jsessionid=1"),
            ("/%C0/%E0%A0", "/%C0/%E0%A0"),
        ] {
            assert_eq!(normal(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        use TargetRejection as R;
        for (raw, expected) in [
            ("", R::NotOriginForm),
            ("a", R::NotOriginForm),
            ("*", R::NotOriginForm),
            ("http://h/", R::NotOriginForm),
            ("/a b", R::ControlByte),
            ("/a\0", R::ControlByte),
            ("/a\r", R::ControlByte),
            ("/a\x7f", R::ControlByte),
            ("/a?b c", R::ControlByte),
            ("/a?\t", R::ControlByte),
            ("/é", R::NonAscii),
            ("/?é", R::NonAscii),
            ("/a#b", R::Fragment),
            ("/a?b#c", R::Fragment),
            ("/a\\b", R::Backslash),
            ("/a%2fb", R::EncodedSlash),
            ("/a%2Fb", R::EncodedSlash),
            ("/a%5cb", R::EncodedBackslash),
            ("/a%00", R::EncodedControl),
            ("/a%0d%0ab", R::EncodedControl),
            ("/a%7f", R::EncodedControl),
            ("/%", R::BadEscape),
            ("/%2", R::BadEscape),
            ("/%g0", R::BadEscape),
            ("/%u002e", R::BadEscape),
            ("/%+1", R::BadEscape),
            ("/%252e", R::DoubleEncoded),
            ("/%252F", R::DoubleEncoded),
            ("/%255c", R::DoubleEncoded),
            ("/%25%32%65", R::DoubleEncoded),
            ("/%2541", R::DoubleEncoded),
            ("/%c0%ae%c0%ae/", R::Overlong),
            ("/%C1%81", R::Overlong),
            ("/%e0%80%af", R::Overlong),
            ("/%f0%80%80%af", R::Overlong),
            ("/.", R::DotSegment),
            ("/..", R::DotSegment),
            ("/a/../b", R::DotSegment),
            ("/a/./b", R::DotSegment),
            ("/%2e%2E/b", R::DotSegment),
            ("/a/.%2e", R::DotSegment),
            ("/..;/b", R::DotParameter),
            ("/a/.;x=1", R::DotParameter),
            ("/%2e.;x", R::DotParameter),
            ("/..%3b/b", R::DotParameter),
            ("//", R::EmptySegment),
            ("//a", R::EmptySegment),
            ("/a//b", R::EmptySegment),
            ("/a//", R::EmptySegment),
            ("/;x/b", R::EmptySegment),
            ("/%3bx/b", R::EmptySegment),
        ] {
            assert_eq!(normal(raw), Err(expected), "{raw}");
        }
        assert_eq!(Target::parse(b"/\xff"), Err(R::NonAscii));
        let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX - 1));
        assert!(Target::parse(long.as_bytes()).is_ok());
        assert_eq!(Target::parse(format!("{long}a").as_bytes()), Err(R::TooLong));
    }

    #[test]
    fn a_target_in_normal_form_is_borrowed() {
        for (raw, expected) in [("/a/b?c", true), ("/%C3%A9%20", true), ("/%c3%a9", false), ("/a^", false)] {
            assert_eq!(
                Target::parse(raw.as_bytes()).map(|target| target.is_as_sent()),
                Ok(expected),
                "{raw}"
            );
        }
    }

    #[test]
    fn segments_are_cut_before_their_parameters() {
        for (raw, expected) in [
            ("/", vec![""]),
            ("/a", vec!["a"]),
            ("/a/", vec!["a", ""]),
            ("/a;v=1/b;w?x/y", vec!["a", "b"]),
            ("/a/;x", vec!["a", ""]),
        ] {
            let target = Target::parse(raw.as_bytes()).expect("a good target");
            assert_eq!(target.segments().collect::<Vec<_>>(), expected, "{raw}");
            let mut written = String::new();
            target.write_to(&mut written);
            assert_eq!(written, raw);
        }
    }

    #[test]
    fn hosts_take_their_normal_form() {
        for (raw, name, port, ip) in [
            ("example.com", "example.com", None, false),
            ("EXAMPLE.com:8443", "example.com", Some(8443), false),
            ("example.com.", "example.com", None, false),
            ("example.com.:80", "example.com", Some(80), false),
            ("my_host", "my_host", None, false),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None, false),
            ("1.example", "1.example", None, false),
            ("127.0.0.1:1", "127.0.0.1", Some(1), true),
            ("[::1]", "[::1]", None, true),
            ("[0:0::0001]:65535", "[::1]", Some(65535), true),
            ("[2001:DB8::1]", "[2001:db8::1]", None, true),
        ] {
            let host = Host::parse(raw.as_bytes()).expect(raw);
            assert_eq!((host.name(), host.port(), host.is_ip_literal()), (name, port, ip), "{raw}");
            assert_eq!(host.is_as_sent(raw.as_bytes()), host.to_string() == raw, "{raw}");
        }
    }

    #[test]
    fn anything_else_is_no_host() {
        use HostRejection as R;
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 4].join(".");
        for (raw, expected) in [
            ("", R::Empty),
            (".", R::Empty),
            (":80", R::Empty),
            ("a..b", R::NotAName),
            (".a", R::NotAName),
            ("a..", R::NotAName),
            ("a b", R::NotAName),
            ("a/b", R::NotAName),
            ("user@a", R::NotAName),
            ("a,b", R::NotAName),
            ("a%41", R::NotAName),
            ("bücher.example", R::NotAName),
            ("*.a", R::NotAName),
            (&long_label, R::NotAName),
            (&long_name, R::NotAName),
            ("127.1", R::NotAName),
            ("2130706433", R::NotAName),
            ("0x7f.1", R::NotAName),
            ("a.0x7f", R::NotAName),
            ("127.0.0.01", R::NotAName),
            ("256.0.0.1", R::NotAName),
            ("[::1", R::NotAName),
            ("[::1]x", R::NotAName),
            ("[::1%25eth0]", R::NotAName),
            ("[127.0.0.1]", R::NotAName),
            ("::1", R::BadPort),
            ("a:", R::BadPort),
            ("a:0", R::BadPort),
            ("a:080", R::BadPort),
            ("a:+80", R::BadPort),
            ("a:65536", R::BadPort),
            ("a:80:80", R::BadPort),
        ] {
            assert_eq!(Host::parse(raw.as_bytes()), Err(expected), "{raw}");
        }
    }

    /// Targets made of the pieces that matter.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "/", "a", "B", ".", "..", "%", "2", "5", "e", "%2e", "%2E", "%25", "%2f", "%5c", "%3b", ";",
            "?", "#", "\\", "[", "^", "%c3%a9", "%C0", "%aE", "%00", " ", "é", "~", "%7e", "%20", "@", "%40",
            "x",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// A path as a server might read it: decoded `times` over, parameters cut off, backslashes taken for slashes.
    fn as_others_read(path: &str, times: u32) -> Vec<Vec<u8>> {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..times {
            let mut decoded = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                let escape = bytes.get(at..at + 3).filter(|three| three[0] == b'%');
                let value = escape.and_then(|three| Some(hex_digit(three[1])? << 4 | hex_digit(three[2])?));
                decoded.push(value.unwrap_or(bytes[at]));
                at += if value.is_some() { 3 } else { 1 };
            }
            bytes = decoded;
        }
        let cut = |segment: &[u8]| segment.split(|&byte| byte == b';').next().unwrap_or_default().to_vec();
        bytes.split(|&byte| byte == b'/' || byte == b'\\').map(cut).collect()
    }

    proptest! {
        #[test]
        fn the_normal_form_is_a_fixed_point_and_decides_alike(raw in pieces()) {
            if let Ok(target) = Target::parse(raw.as_bytes()) {
                let once = target.to_string();
                let again = Target::parse(once.as_bytes());
                prop_assert_eq!(again.as_ref(), Ok(&target));
                prop_assert!(again.is_ok_and(|again| again.is_as_sent()));
                prop_assert_eq!(target.is_as_sent(), once == raw);
            }
        }

        #[test]
        fn no_reader_finds_another_shape_in_an_accepted_path(raw in pieces()) {
            if let Ok(target) = Target::parse(raw.as_bytes()) {
                let count = target.segments().count();
                for times in 0..3 {
                    let read = as_others_read(target.path(), times);
                    prop_assert_eq!(read.len(), count + 1, "decoded {} times", times);
                    for (at, segment) in read.iter().enumerate().skip(1) {
                        prop_assert!(segment != b"." && segment != b"..", "decoded {} times", times);
                        prop_assert!(!segment.is_empty() || at == count, "decoded {} times", times);
                    }
                }
            }
        }

        #[test]
        fn no_bytes_panic_and_accepted_ones_are_visible_ascii(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut slashed = vec![b'/'];
            slashed.extend(&raw);
            if let Ok(target) = Target::parse(&slashed) {
                prop_assert!(target.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
            }
            if let Ok(host) = Host::parse(&raw) {
                let again = host.to_string();
                prop_assert_eq!(Host::parse(again.as_bytes()), Ok(host));
            }
        }

        #[test]
        fn a_host_is_as_sent_if_nothing_of_it_changes(raw in r"(\[(:?:[0-9A-F]){1,8}\]|[a-zA-Z0-9.]{1,8})(:[0-9]{1,5})?") {
            if let Ok(host) = Host::parse(raw.as_bytes()) {
                let again = host.to_string();
                prop_assert_eq!(host.is_as_sent(raw.as_bytes()), again == raw);
                prop_assert_eq!(Host::parse(again.as_bytes()).map(|host| host.is_as_sent(again.as_bytes())), Ok(true));
            }
        }
    }
}
