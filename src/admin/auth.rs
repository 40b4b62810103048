//! Who is at the door: the Host rule, the admin token, and where a form comes from.

use crate::domain::secret::Secret;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv6Addr};
use zeroize::Zeroizing;

/// Whether a `Host` value is one that only this address has: an IP literal, or a listed name. Ports do not matter.
pub(super) fn host_is_allowed(host: Option<&[u8]>, listed: &[String]) -> bool {
    let Some(host) = host.and_then(|host| std::str::from_utf8(host).ok()) else { return false };
    if let Some(rest) = host.strip_prefix('[') {
        return rest
            .split_once(']')
            .is_some_and(|(ip, port)| ip.parse::<Ipv6Addr>().is_ok() && is_port(port));
    }
    let name_end = host.find(':').unwrap_or(host.len());
    let (name, port) = host.split_at(name_end);
    is_port(port)
        && (name.parse::<IpAddr>().is_ok() || listed.iter().any(|listed| listed.eq_ignore_ascii_case(name)))
}

/// Nothing, or `:` and digits.
fn is_port(port: &str) -> bool {
    port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
}

/// What came of looking at an `Authorization` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is the admin token.
    Token,
    /// There was none.
    Absent,
    /// There was one, and it is another.
    Wrong,
}

/// Compares what was presented with the admin token, in constant time.
///
/// `basic`: HTTP Basic (RFC 7617) counts as well, with the token as its password and any user name. A browser sends it
/// by itself with every request to this address, so it may count only where a foreign page cannot do harm with it.
pub(super) fn prove(authorization: Option<&[u8]>, token: &Secret<String>, basic: bool) -> Proof {
    let Some(value) = authorization else { return Proof::Absent };
    let Some(space) = value.iter().position(|&byte| byte == b' ') else { return Proof::Wrong };
    let (scheme, presented) = value.split_at(space);
    let presented = presented.trim_ascii();
    let equal = |presented: &[u8]| verify_slices_are_equal(presented, token.expose().as_bytes()).is_ok();
    let right = if scheme.eq_ignore_ascii_case(b"bearer") {
        equal(presented)
    } else if basic && scheme.eq_ignore_ascii_case(b"basic") {
        let decoded = Zeroizing::new(STANDARD.decode(presented).unwrap_or_default());
        let password = decoded.iter().position(|&byte| byte == b':').map(|colon| &decoded[colon + 1..]);
        password.is_some_and(equal)
    } else {
        false
    };
    if right { Proof::Token } else { Proof::Wrong }
}

/// Whether a form was sent by our own page: by `Sec-Fetch-Site` where the browser sends it, else by `Origin`.
///
/// A browser sends at least one of them with a form; one that sends neither is refused.
pub(super) fn is_own_form(sec_fetch_site: Option<&[u8]>, origin: Option<&[u8]>, host: Option<&[u8]>) -> bool {
    let own_origin = origin.map(|origin| {
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    });
    match (sec_fetch_site, own_origin) {
        (Some(site), own) => site == b"same-origin" && own != Some(false),
        (None, own) => own == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ip_literals_and_listed_names_are_answered() {
        let listed = ["localhost".to_owned(), "gw.example.com".to_owned()];
        for (host, allowed) in [
            (Some(&b"127.0.0.1:9901"[..]), true),
            (Some(b"127.0.0.1"), true),
            (Some(b"[::1]:9901"), true),
            (Some(b"[::1]"), true),
            (Some(b"localhost"), true),
            (Some(b"LOCALHOST:9901"), true),
            (Some(b"gw.example.com:80"), true),
            (Some(b"evil.example.com"), false),
            (Some(b"localhost.evil.example.com"), false),
            (Some(b"127.0.0.1.evil.example.com"), false),
            (Some(b"localhost:x"), false),
            (Some(b"[::1].evil.example.com"), false),
            (Some(b"[evil]"), false),
            (Some(b"localhost@evil"), false),
            (Some(b""), false),
            (Some(b"\xff"), false),
            (None, false),
        ] {
            let shown = host.map(String::from_utf8_lossy);
            assert_eq!(host_is_allowed(host, &listed), allowed, "{shown:?}");
        }
    }

    #[test]
    fn the_token_is_all_of_it_or_nothing() {
        let token = Secret::new("s3cret:token".to_owned());
        let basic = format!("Basic {}", STANDARD.encode("anybody:s3cret:token"));
        let wrong_basic = format!("Basic {}", STANDARD.encode("s3cret:tokem:"));
        // Value, what counts where Basic counts, what counts where it does not.
        for (value, with_basic, without) in [
            (Some("Bearer s3cret:token"), Proof::Token, Proof::Token),
            (Some("bearer  s3cret:token"), Proof::Token, Proof::Token),
            (Some("Bearer s3cret:toke"), Proof::Wrong, Proof::Wrong),
            (Some("Bearer s3cret:token2"), Proof::Wrong, Proof::Wrong),
            (Some("Bearer "), Proof::Wrong, Proof::Wrong),
            (Some("Bearer"), Proof::Wrong, Proof::Wrong),
            (Some("s3cret:token"), Proof::Wrong, Proof::Wrong),
            (Some(&basic), Proof::Token, Proof::Wrong),
            (Some(&wrong_basic), Proof::Wrong, Proof::Wrong),
            (Some("Basic !!"), Proof::Wrong, Proof::Wrong),
            (None, Proof::Absent, Proof::Absent),
        ] {
            assert_eq!(prove(value.map(str::as_bytes), &token, true), with_basic, "{value:?}");
            assert_eq!(prove(value.map(str::as_bytes), &token, false), without, "{value:?}");
        }
    }

    #[test]
    fn a_form_of_another_site_is_not_ours() {
        let host = Some(&b"127.0.0.1:9901"[..]);
        for (site, origin, own) in [
            (Some(&b"same-origin"[..]), Some(&b"http://127.0.0.1:9901"[..]), true),
            (Some(b"same-origin"), None, true),
            (None, Some(b"http://127.0.0.1:9901"), true),
            (None, Some(b"http://127.0.0.1"), false),
            (None, Some(b"http://evil.example.com"), false),
            (None, Some(b"null"), false),
            (Some(b"cross-site"), Some(b"http://127.0.0.1:9901"), false),
            (Some(b"same-site"), None, false),
            (Some(b"none"), None, false),
            (Some(b"same-origin"), Some(b"null"), false),
            (None, None, false),
        ] {
            assert_eq!(is_own_form(site, origin, host), own, "{site:?} {origin:?}");
        }
    }
}
