//! The head of an HTTP/2 request, checked after its parser.
//!
//! The framing of HTTP/2 leaves nothing to read in two ways, but behind this gateway the same request is often written as
//! HTTP/1.1, where much does. So it is held to the same rules and bounds as a head of HTTP/1 ([`super::check`]), and to those of
//! its own protocol (RFC 9113 §8.2, §8.3) that a parser may have let pass.

use super::{FIELDS_MAX, Fields, HEAD_BYTES_MAX, HeadRejection, check_target};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE};
use http::{HeaderMap, HeaderName, Method};

/// What a field costs besides its letters (RFC 9113 §6.5.2): many empty ones are long as well.
const FIELD_OVERHEAD: usize = 32;

/// Checks target and fields; `authority` is the `:authority` field.
pub fn check(
    method: &Method,
    target: &[u8],
    authority: Option<&str>,
    fields: &HeaderMap,
) -> Result<(), HeadRejection> {
    if method == Method::CONNECT {
        return Err(HeadRejection::Connect);
    }
    if check_target(method.as_str().as_bytes(), target)?.is_some() {
        return Err(HeadRejection::TargetForm);
    }
    if fields.len() > FIELDS_MAX {
        return Err(HeadRejection::TooManyFields);
    }
    let mut seen = Fields::default();
    let mut bytes = target.len() + authority.map_or(0, str::len);
    for (name, value) in fields {
        let value = value.as_bytes();
        bytes += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        if is_edge(value.first()) || is_edge(value.last()) {
            return Err(HeadRejection::FieldValue);
        }
        match name {
            &HOST => seen.host(value),
            &COOKIE => seen.cookie(value),
            &AUTHORIZATION => seen.authorization(),
            &CONTENT_LENGTH => seen.length(value),
            &EXPECT => seen.expect(value),
            &TE if !value.eq_ignore_ascii_case(b"trailers") => Err(HeadRejection::ConnectionField),
            name if is_of_connection(name) => Err(HeadRejection::ConnectionField),
            _ => Ok(()),
        }?;
    }
    if bytes > HEAD_BYTES_MAX {
        return Err(HeadRejection::HeadTooLong);
    }
    match (authority, seen.host) {
        (None, None) => Err(HeadRejection::HostMissing),
        (Some(""), _) => Err(HeadRejection::HostEmpty),
        (Some(authority), _) if authority.contains('@') => Err(HeadRejection::UserInfo),
        (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(authority.as_bytes()) => {
            Err(HeadRejection::HostDiffers)
        }
        _ => Ok(()),
    }
}

/// RFC 9113 §8.2.1: a value neither starts nor ends with one of these.
fn is_edge(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b' ' | b'\t'))
}

/// RFC 9113 §8.2.2: what speaks of a connection of HTTP/1.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "proxy-connection" | "keep-alive" | "transfer-encoding" | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        map
    }

    fn asked(lines: &[(&'static str, &str)]) -> Result<(), HeadRejection> {
        check(&Method::GET, b"/a?b", Some("wiki.example.com"), &fields(lines))
    }

    #[test]
    fn what_http_1_would_refuse_is_refused() {
        use HeadRejection as R;
        for (lines, rejection) in [
            (&[("host", "other.example.com")][..], R::HostDiffers),
            (&[("host", "wiki.example.com"), ("host", "wiki.example.com")], R::HostTwice),
            (&[("host", "")], R::HostEmpty),
            (&[("content-length", "1"), ("content-length", "1")], R::LengthTwice),
            (&[("content-length", "1, 1")], R::LengthMalformed),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], R::AuthorizationTwice),
            (&[("expect", "200-ok")], R::Expectation),
            (&[("te", "gzip")], R::ConnectionField),
            (&[("connection", "x-auth-user")], R::ConnectionField),
            (&[("transfer-encoding", "chunked")], R::ConnectionField),
            (&[("upgrade", "websocket")], R::ConnectionField),
            (&[("keep-alive", "1")], R::ConnectionField),
            (&[("proxy-connection", "close")], R::ConnectionField),
            (&[("a", " b")], R::FieldValue),
            (&[("a", "b\t")], R::FieldValue),
        ] {
            assert_eq!(asked(lines), Err(rejection), "{lines:?}");
        }
        assert_eq!(asked(&[("te", "trailers"), ("host", "Wiki.example.com"), ("a", "")]), Ok(()));
    }

    #[test]
    fn authority_and_target_have_one_reading() {
        use HeadRejection as R;
        let none = HeaderMap::new();
        let of =
            |method: &Method, target: &str, authority| check(method, target.as_bytes(), authority, &none);
        assert_eq!(of(&Method::GET, "/", None), Err(R::HostMissing));
        assert_eq!(of(&Method::GET, "/", Some("")), Err(R::HostEmpty));
        assert_eq!(of(&Method::GET, "/", Some("user@a.example")), Err(R::UserInfo));
        assert_eq!(of(&Method::GET, "http://b.example/", Some("a.example")), Err(R::TargetForm));
        assert_eq!(of(&Method::GET, "*", Some("a.example")), Err(R::TargetForm));
        assert_eq!(of(&Method::OPTIONS, "*", Some("a.example")), Ok(()));
        assert_eq!(of(&Method::CONNECT, "/", Some("a.example")), Err(R::Connect));
        assert_eq!(of(&Method::GET, "/\u{e4}", Some("a.example")), Err(R::TargetForm));
    }

    #[test]
    fn the_bounds_are_those_of_http_1() {
        use HeadRejection as R;
        let many = |count: usize, value: &str| {
            let mut map = HeaderMap::new();
            for number in 0..count {
                let name = HeaderName::from_bytes(format!("a{number}").as_bytes()).expect("a name");
                map.append(name, HeaderValue::from_str(value).expect("a value"));
            }
            check(&Method::GET, b"/", Some("a.example"), &map)
        };
        assert_eq!(many(FIELDS_MAX, "a"), Ok(()));
        assert_eq!(many(FIELDS_MAX + 1, "a"), Err(R::TooManyFields));
        assert_eq!(many(FIELDS_MAX, &"a".repeat(400)), Err(R::HeadTooLong));
        let crumb = "a".repeat(super::super::COOKIE_BYTES_MAX / 2 + 1);
        assert_eq!(asked(&[("cookie", &crumb), ("cookie", &crumb)]), Err(R::CookiesTooLong));
    }
}
