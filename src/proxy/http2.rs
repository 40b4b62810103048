//! A request of HTTP/2 → the one shape that everything behind reads: a Host, and a target without authority.
//!
//! Cookies may come in several fields (RFC 9113 §8.2.3); whoever reads them reads all, and `forward` sends one.

use crate::domain::decision::Rejection;
use crate::domain::head::http2;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, StatusCode, Uri, Version};
use pingora::http::RequestHeader;

/// Checks the head and reshapes it. Heads of HTTP/1 were checked by the wire and have this shape.
pub(crate) fn reshape(head: &mut RequestHeader) -> Result<(), Rejection> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    let authority = head.uri.authority().cloned();
    let name = authority.as_ref().map(http::uri::Authority::as_str);
    http2::check(&head.method, head.raw_path(), name, &head.headers).map_err(Rejection::Head)?;
    if let Some(name) = name {
        let host = HeaderValue::from_str(name).map_err(|_| Rejection::BadRequest("host"))?;
        head.insert_header(HOST, host).map_err(|_| Rejection::BadRequest("host"))?;
    }
    // What speaks of one connection ends here (RFC 9110 §7.6.1); pingora takes it out for HTTP/1 alone.
    for name in ["http2-settings", "proxy-authenticate", "proxy-authorization", "trailer"] {
        head.remove_header(name);
    }
    if let Some(target) = head.uri.path_and_query().cloned() {
        head.set_uri(Uri::from(target));
    }
    Ok(())
}

/// Whether a program that speaks gRPC asks: it reads no page and no problem document. Never for a path of ours, where whoever asks reads
/// the status: refusals of gRPC have one of success.
pub(crate) fn is_grpc(head: &RequestHeader) -> bool {
    head.version == Version::HTTP_2
        && !head.raw_path().starts_with(b"/_vestibule")
        && head.headers.get(CONTENT_TYPE).is_some_and(|kind| {
            let rest = kind.as_bytes().strip_prefix(b"application/grpc");
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        })
}

/// The code of gRPC for a status of HTTP, as gRPC's own mapping has it; what ran out (a bound, a wait) has a code of its own.
pub(crate) fn grpc_status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "8",
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "4",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
        _ => "13",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.uri, parts.version) = (uri.parse().expect("a URI"), Version::HTTP_2);
        for (name, value) in fields {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        RequestHeader::from(parts)
    }

    #[test]
    fn authority_becomes_host() {
        let mut head = head("https://Wiki.example.com:8443/a?b", &[]);
        reshape(&mut head).expect("the request is fine");
        assert_eq!(head.headers[HOST], "Wiki.example.com:8443");
        assert_eq!((head.uri.authority(), head.raw_path()), (None, &b"/a?b"[..]));
    }

    #[test]
    fn heads_of_http_1_are_left_alone() {
        let mut head = head("/a", &[("connection", "close")]);
        head.set_version(Version::HTTP_11);
        assert_eq!(reshape(&mut head), Ok(()));
    }

    #[test]
    fn grpc_is_known_by_its_type() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&head("https://a.example/", &[("content-type", kind)])), is, "{kind}");
        }
    }
}
