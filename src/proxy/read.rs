//! Raw head → canonical request, or a rejection.
//!
//! The wire has refused what is ambiguous in the framing ([`crate::domain::head`]); here target and host get their one normal
//! form, written back into the very head that is forwarded. From here on everybody reads the same strings.

use crate::domain::decision::Rejection;
use crate::domain::target::{Host, Target};
use http::header::HOST;
use http::{HeaderValue, Method};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use std::net::IpAddr;

/// Addresses of an `X-Forwarded-For` that are looked at; a longer list is read from its end.
const FORWARDED_HOPS_MAX: usize = 16;

/// Where a head says that it goes.
pub(crate) enum Reading<'a> {
    /// Both are in normal form, and written so in the head.
    Canonical(Host<'a>, Target<'a>),
    /// They can be brought into it.
    Other(Rewriting),
}

/// What the normal form changes.
pub(crate) struct Rewriting {
    target: Option<String>,
    host: Option<HeaderValue>,
}

/// Reads target and Host.
///
/// Absolute-form (RFC 9112 §3.2.2) becomes origin-form; its authority equals Host, for the wire has checked that.
/// An HTTP/1.0 request without Host has no host that a route could know and is refused.
pub(crate) fn read(head: &RequestHeader) -> Result<Reading<'_>, Rejection> {
    let (target, is_absolute) = target_of(head)?;
    let raw = head.headers.get(HOST).ok_or(Rejection::BadRequest("no_host"))?;
    let host = Host::parse(raw.as_bytes()).map_err(|rejection| Rejection::BadRequest(rejection.reason()))?;
    let is_as_sent = host.is_as_sent(raw.as_bytes());
    if !is_absolute && target.is_as_sent() && is_as_sent {
        // From here on the parsed form alone is kept: it must say the same, byte for byte.
        return if head.uri.path_and_query().map(|target| target.as_str().as_bytes()) == Some(head.raw_path())
        {
            Ok(Reading::Canonical(host, target))
        } else {
            Err(Rejection::BadRequest("target"))
        };
    }
    let host = HeaderValue::from_str(&host.to_string()).map_err(|_| Rejection::BadRequest("host"))?;
    Ok(Reading::Other(Rewriting {
        target: (is_absolute || !target.is_as_sent()).then(|| target.to_string()),
        host: (!is_as_sent).then_some(host),
    }))
}

impl Rewriting {
    /// Writes the normal form into the head.
    pub(crate) fn apply(self, head: &mut RequestHeader) -> Result<(), Rejection> {
        if let Some(target) = self.target {
            head.set_raw_path(target.as_bytes()).map_err(|_| Rejection::BadRequest("target"))?;
        }
        if let Some(host) = self.host {
            head.insert_header(HOST, host).map_err(|_| Rejection::BadRequest("host"))?;
        }
        Ok(())
    }
}

/// Reads target and Host that were brought into normal form.
pub(crate) fn again(head: &RequestHeader) -> Result<(Host<'_>, Target<'_>), Rejection> {
    match read(head)? {
        Reading::Canonical(host, target) => Ok((host, target)),
        Reading::Other(_) => Err(Rejection::BadRequest("target")),
    }
}

/// Takes a head out of its place; what is left there is empty.
pub(crate) fn take(head: &mut RequestHeader) -> RequestHeader {
    let (empty, ()) = http::Request::new(()).into_parts();
    std::mem::replace(head, RequestHeader::from(empty))
}

/// The target, and whether it came in absolute form.
fn target_of(head: &RequestHeader) -> Result<(Target<'_>, bool), Rejection> {
    let raw = head.raw_path();
    if raw == b"*" && head.method == Method::OPTIONS {
        // It asks about the server as a whole, which no route stands for.
        return Err(Rejection::NoRoute);
    }
    let (origin_form, is_absolute) = match strip_authority(raw) {
        Some(rest) => (rest, true),
        None => (raw, false),
    };
    let target = Target::parse(if origin_form.is_empty() { b"/" } else { origin_form })
        .map_err(|rejection| Rejection::BadRequest(rejection.reason()))?;
    Ok((target, is_absolute))
}

/// What follows the authority of an absolute-form target; its path may be empty.
fn strip_authority(raw: &[u8]) -> Option<&[u8]> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| raw.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let rest = &raw[scheme.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(&rest[end..])
}

/// The canonical host name and port of a head that is in normal form.
pub(crate) fn host_of(head: &RequestHeader) -> Host<'_> {
    let raw = head.headers.get(HOST).map_or(&b"invalid"[..], HeaderValue::as_bytes);
    Host::parse(raw).unwrap_or_else(|_| Host::parse(b"invalid").expect("a plain label is a host"))
}

/// Who asks: the peer, or where the peer is a trusted proxy the last address of `X-Forwarded-For` that is not one.
pub(crate) fn client_address(peer: IpAddr, head: &RequestHeader, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let fields: Vec<&str> = head
        .headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = peer;
    for field in fields.into_iter().rev().take(FORWARDED_HOPS_MAX) {
        let Some(address) = parse_hop(field.trim()) else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address as proxies write it: bare, or with a port, or in brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().or_else(|| {
        text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()).or_else(|| {
            text.strip_prefix('[')
                .and_then(|inner| inner.strip_suffix(']'))
                .and_then(|inner| inner.parse().ok())
        })
    })?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, host: Option<&str>) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).expect("the target parses");
        if let Some(host) = host {
            head.insert_header("Host", host).expect("a header value");
        }
        head
    }

    #[test]
    fn target_and_host_get_their_normal_form() {
        for (target, host, path, canonical) in [
            ("/a?b=%7e", "Wiki.Example.COM", "/a?b=%7e", "wiki.example.com"),
            ("/%61/%7Ex", "wiki.example.com.:8443", "/a/~x", "wiki.example.com:8443"),
            ("http://wiki.example.com/x?y", "wiki.example.com", "/x?y", "wiki.example.com"),
            ("http://wiki.example.com", "wiki.example.com", "/", "wiki.example.com"),
        ] {
            let mut head = head(target, Some(host));
            if let Reading::Other(rewriting) = read(&head).expect("the request is fine") {
                rewriting.apply(&mut head).expect("it has a normal form");
            }
            assert!(again(&head).is_ok(), "{target} {host}");
            assert_eq!(head.raw_path(), path.as_bytes(), "{target}");
            assert_eq!(head.headers[HOST], canonical, "{host}");
        }
    }

    #[test]
    fn what_cannot_be_read_one_way_is_refused() {
        for (target, host) in
            [("/a", None), ("/a/../b", Some("a.example")), ("/a", Some("a b")), ("admin", Some("a"))]
        {
            let head = head(target, host);
            assert!(matches!(read(&head), Err(Rejection::BadRequest(_))), "{target} {host:?}");
        }
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a net")];
        let client = |peer: &str, forwarded: &str| {
            let mut head = head("/", Some("a"));
            head.insert_header("X-Forwarded-For", forwarded).expect("a header value");
            client_address(peer.parse().expect("an address"), &head, &trusted).to_string()
        };
        assert_eq!(client("192.0.2.1", "198.51.100.7"), "192.0.2.1", "the peer is a stranger");
        assert_eq!(client("10.0.0.7", "203.0.113.9, 198.51.100.7, 10.1.1.1"), "198.51.100.7");
        assert_eq!(client("10.0.0.7", "unknown"), "10.0.0.7");
        assert_eq!(client("10.0.0.7", "[2001:db8::1]:4711"), "2001:db8::1");
    }
}
