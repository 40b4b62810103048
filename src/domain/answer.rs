//! The head of an upstream's answer: what could be read in two ways goes no further.
//!
//! The parser before this is as kind to applications as those of requests are: it takes one length twice for one length and looks
//! at the last transfer coding only. A visitor's client need not read such an answer as the gateway did. So the visitor gets a 502, and the connection to the upstream is closed before anything behind that head could be
//! taken for an answer to somebody else.

use crate::domain::fold;
use http::{HeaderMap, HeaderName, StatusCode, Version};
use memchr::memchr;

/// Most interim answers (1xx) to one request. One application sends a few hints, another says every now and then that it still
/// works (102); none says so for ever.
pub const INTERIMS_MAX: u8 = 100;

/// Why an answer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFlaw {
    /// Two Content-Length fields, or two lengths in one, equal or not.
    LengthTwice,
    /// A Transfer-Encoding other than `chunked` alone, or one in HTTP/1.0 (RFC 9112 §6.1).
    Encoding,
    /// A status that has no body, and a field that announces one (RFC 9110 §8.6, RFC 9112 §6.1).
    BodyNotAllowed,
}

impl AnswerFlaw {
    /// For the log and the counter.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::LengthTwice => "answer_length_twice",
            Self::Encoding => "answer_encoding",
            Self::BodyNotAllowed => "answer_body_not_allowed",
        }
    }
}

/// What the fields of an answer speak of. One walk over their names tells it, where each reader would look up its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read in another place")]
pub struct Topics {
    /// The body's length in bytes, if it is said and is a number.
    pub length: Option<u64>,
    /// The connection to the upstream: `Connection` or `Keep-Alive`.
    pub connection: bool,
    /// More of it than `Connection: close` or `keep-alive` says: other fields go with it.
    pub hops: bool,
    /// `Set-Cookie`.
    pub cookies: bool,
    /// `Cache-Control`.
    pub caching: bool,
    /// Sessions: a header of ours, in any spelling ([`is_session_header`]).
    pub session: bool,
}

/// Checks the head of an answer, interim ones too, and tells what it speaks of.
pub fn check(status: StatusCode, version: Version, headers: &HeaderMap) -> Result<Topics, AnswerFlaw> {
    let mut topics = Topics::default();
    let (mut length, mut encoding): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    for (name, value) in headers {
        match name.as_str() {
            "content-length" => {
                if length.replace(value.as_bytes()).is_some() || memchr(b',', value.as_bytes()).is_some() {
                    return Err(AnswerFlaw::LengthTwice);
                }
            }
            "transfer-encoding" => {
                let is_plain = value.as_bytes().eq_ignore_ascii_case(b"chunked");
                if encoding.replace(value.as_bytes()).is_some() || version == Version::HTTP_10 || !is_plain {
                    return Err(AnswerFlaw::Encoding);
                }
            }
            "connection" => {
                let value = value.as_bytes();
                let is_usual =
                    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
                topics.hops |= !is_usual;
                topics.connection = true;
            }
            "keep-alive" => (topics.connection, topics.hops) = (true, true),
            "set-cookie" => topics.cookies = true,
            "cache-control" => topics.caching = true,
            _ => topics.session = topics.session || is_session_header(name),
        }
    }
    // A length of nothing is usual with a 204, and harmless.
    let announces_body = encoding.is_some() || length.is_some_and(|length| length != b"0");
    if announces_body && (status.is_informational() || status == StatusCode::NO_CONTENT) {
        return Err(AnswerFlaw::BodyNotAllowed);
    }
    topics.length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
    Ok(topics)
}

/// Begins like a session header in some server's reading of it: `X-Session-Data`, `x_session.data`, `_X-Session-Data`.
pub fn is_session_header(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Nearly every name starts with a letter that is its own fold.
    let may_be = name.starts_with('x') || !name.starts_with(|first: char| first.is_ascii_alphanumeric());
    may_be && fold::fold(name).starts_with("xsession")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn verdict(
        status: u16,
        version: Version,
        fields: &[(&'static str, &'static str)],
    ) -> Result<(), AnswerFlaw> {
        topics(status, version, fields).map(drop)
    }

    fn topics(
        status: u16,
        version: Version,
        fields: &[(&'static str, &'static str)],
    ) -> Result<Topics, AnswerFlaw> {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(StatusCode::from_u16(status).expect("a status"), version, &headers)
    }

    #[test]
    fn an_answer_with_one_reading_passes() {
        for (status, fields) in [
            (200, &[][..]),
            (200, &[("content-length", "2")]),
            (200, &[("transfer-encoding", "Chunked"), ("x-a", "a, b\tc")]),
            (204, &[("content-length", "0")]),
            (304, &[("content-length", "60")]),
            (304, &[("transfer-encoding", "chunked")]),
            (101, &[("upgrade", "websocket"), ("connection", "upgrade")]),
            (103, &[("link", "</a.css>")]),
        ] {
            assert_eq!(verdict(status, Version::HTTP_11, fields), Ok(()), "{status} {fields:?}");
        }
        assert_eq!(verdict(200, Version::HTTP_10, &[("content-length", "2")]), Ok(()));
    }

    #[test]
    fn an_answer_with_two_readings_does_not() {
        use AnswerFlaw as F;
        for (status, fields, flaw) in [
            (200, &[("content-length", "2"), ("content-length", "2")][..], F::LengthTwice),
            (200, &[("content-length", "2, 2")], F::LengthTwice),
            (200, &[("transfer-encoding", "gzip, chunked")], F::Encoding),
            (200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], F::Encoding),
            (200, &[("transfer-encoding", "")], F::Encoding),
            (204, &[("content-length", "2")], F::BodyNotAllowed),
            (204, &[("content-length", "00")], F::BodyNotAllowed),
            (204, &[("transfer-encoding", "chunked")], F::BodyNotAllowed),
            (103, &[("content-length", "2")], F::BodyNotAllowed),
        ] {
            assert_eq!(verdict(status, Version::HTTP_11, fields), Err(flaw), "{status} {fields:?}");
        }
        assert_eq!(verdict(200, Version::HTTP_10, &[("transfer-encoding", "chunked")]), Err(F::Encoding));
    }

    #[test]
    fn what_an_answer_speaks_of_is_told() {
        let of = |fields: &[(&'static str, &'static str)]| topics(200, Version::HTTP_11, fields);
        let none = Topics::default();
        for (fields, told) in [
            (&[][..], none),
            (&[("content-length", "12"), ("vary", "a"), ("x-a", "b")], Topics { length: Some(12), ..none }),
            (&[("content-length", "+x")], none),
            (&[("connection", "close")], Topics { connection: true, ..none }),
            (&[("connection", "Keep-Alive")], Topics { connection: true, ..none }),
            (
                &[("connection", "close"), ("connection", "x-a")],
                Topics { connection: true, hops: true, ..none },
            ),
            (&[("connection", "keep-alive, x-a")], Topics { connection: true, hops: true, ..none }),
            (&[("connection", "")], Topics { connection: true, hops: true, ..none }),
            (&[("keep-alive", "timeout=5")], Topics { connection: true, hops: true, ..none }),
            (
                &[("keep-alive", "timeout=5"), ("connection", "close")],
                Topics { connection: true, hops: true, ..none },
            ),
            (&[("set-cookie", "a=b"), ("set-cookie", "c=d")], Topics { cookies: true, ..none }),
            (&[("cache-control", "private")], Topics { caching: true, ..none }),
            (&[("x-session-patch", "{}"), ("x-a", "b")], Topics { session: true, ..none }),
            (&[("_x_session.sign-in", "{}")], Topics { session: true, ..none }),
        ] {
            assert_eq!(of(fields), Ok(told), "{fields:?}");
        }
    }
}
