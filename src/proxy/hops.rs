//! Fields that speak of one connection and not of the message (RFC 9110 §7.6.1): they end at a proxy.
//!
//! pingora looks each of them up in every request. Where a request names no more of them than every other does, the one walk over
//! the names that takes out ours ([`crate::proxy::forward`]) takes these along, and pingora is told to leave them to it.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, Version};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::{HttpUpstreamRequestPolicy, PeerOptions};

/// Tells pingora to leave the fields of this request's connection to us, if they are the usual ones. Whether they are ours then.
///
/// What nominates other fields or asks for another protocol is pingora's: it has more to weigh there. `is_plain`: it is known that this
/// request does neither.
pub(crate) fn take_over(options: &mut PeerOptions, head: &RequestHeader, is_plain: bool) -> bool {
    let ours = is_plain || (head.version <= Version::HTTP_11 && are_usual(&head.headers));
    if ours {
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    }
    ours
}

/// No other protocol is asked for, and no field nominated.
fn are_usual(headers: &HeaderMap) -> bool {
    let is_usual = |item: &[u8]| {
        let item = item.trim_ascii();
        item.is_empty() || item.eq_ignore_ascii_case(b"keep-alive") || item.eq_ignore_ascii_case(b"close")
    };
    let mut connection = headers.get_all(CONNECTION).iter();
    !headers.contains_key(UPGRADE)
        && connection.all(|value| value.as_bytes().split(|byte| *byte == b',').all(is_usual))
}

/// Whether a field of this name ends here. The framing is made anew by pingora.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nominates_nothing_is_taken_over() {
        for (fields, usual) in [
            (&[("accept", "x")][..], true),
            (&[("connection", "Keep-Alive")], true),
            (&[("connection", "close ,, keep-alive"), ("connection", "")], true),
            (&[("connection", "keep-alive, x-auth-user")], false),
            (&[("connection", "keep-alive"), ("connection", "te")], false),
            (&[("connection", "\"close\"")], false),
            (&[("connection", "Upgrade"), ("upgrade", "websocket")], false),
            (&[("upgrade", "h2c")], false),
        ] {
            let mut head = RequestHeader::build("GET", b"/", None).expect("the target parses");
            head.set_version(Version::HTTP_11);
            for (name, value) in fields {
                head.append_header(*name, *value).expect("a header value");
            }
            let mut options = PeerOptions::new();
            assert_eq!(take_over(&mut options, &head, false), usual, "{fields:?}");
            let left = options.http_upstream_request_policy == HttpUpstreamRequestPolicy::preserve();
            assert_eq!(left, usual, "{fields:?}");
            head.set_version(Version::HTTP_2);
            assert!(!take_over(&mut PeerOptions::new(), &head, false), "HTTP/2 has none of them");
        }
    }
}
