//! The head of an upstream's answer: what could be read in two ways goes no further.
//!
//! The parser before this is as kind to applications as those of requests are: it takes one length twice for one length and looks
//! at the last transfer coding only. A visitor's client need not read such an answer as the gateway did. So the visitor gets a 502, and the connection to the upstream is closed before anything behind that head could be
//! taken for an answer to somebody else.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};
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

/// Checks the head of an answer, interim ones too. Costs two look-ups.
pub fn check(status: StatusCode, version: Version, headers: &HeaderMap) -> Result<(), AnswerFlaw> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map(http::HeaderValue::as_bytes);
    if lengths.next().is_some() || length.is_some_and(|length| memchr(b',', length).is_some()) {
        return Err(AnswerFlaw::LengthTwice);
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let encoding = encodings.next();
    if let Some(encoding) = encoding
        && (encodings.next().is_some()
            || version == Version::HTTP_10
            || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(AnswerFlaw::Encoding);
    }
    // A length of nothing is usual with a 204, and harmless.
    let announces_body = encoding.is_some() || length.is_some_and(|length| length != b"0");
    if announces_body && (status.is_informational() || status == StatusCode::NO_CONTENT) {
        return Err(AnswerFlaw::BodyNotAllowed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn verdict(
        status: u16,
        version: Version,
        fields: &[(&'static str, &'static str)],
    ) -> Result<(), AnswerFlaw> {
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
}
