//! Web origins, and whether a request was made by a page of ours.
//!
//! Browsers say where a request comes from in two fields: `Sec-Fetch-Site` (Fetch Metadata) and `Origin` (RFC 6454). Scripts of pages
//! can set neither. Clients that are no browsers send neither, and hold no visitor's cookies to abuse.

use crate::domain::target::Host;
use std::fmt;

/// A scheme, a host and a port (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `true` for https, `false` for http.
    pub https: bool,
    /// Lower case; IPv6 in brackets.
    pub host: String,
    /// Always a number; the scheme's own where none is written.
    pub port: u16,
}

/// A string is not a serialised origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an origin; write scheme, host and port alone, such as `https://app.example.com`")]
pub struct NotAnOrigin;

impl Origin {
    /// Reads a serialised origin (RFC 6454 §6.2): `https://host` or `http://host:port`, nothing after it.
    pub fn parse(text: &str) -> Result<Self, NotAnOrigin> {
        let (https, host, port) = parts(text.as_bytes()).ok_or(NotAnOrigin)?;
        Ok(Self { https, host: host.name().to_owned(), port })
    }

    /// The value of an Origin field names this origin. `null` names none. Allocates nothing for what browsers send.
    pub fn is(&self, field: &[u8]) -> bool {
        parts(field).is_some_and(|(https, host, port)| {
            https == self.https && port == self.port && host.name() == self.host
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

fn parts(text: &[u8]) -> Option<(bool, Host<'_>, u16)> {
    let (https, rest) = if let Some(rest) = text.strip_prefix(b"https://") {
        (true, rest)
    } else {
        (false, text.strip_prefix(b"http://")?)
    };
    let host = Host::parse(rest).ok()?;
    let port = host.port().unwrap_or(if https { 443 } else { 80 });
    Some((https, host, port))
}

/// A page that is not ours, and not of a `listed` origin, caused the request: an unsafe one must not be admitted by a cookie.
///
/// Foreign is a `Sec-Fetch-Site` other than `same-origin` and `none` (a word that is not known yet counts as foreign), or an
/// `Origin` other than ours; `null` is one. A request with neither field comes from no current browser and passes.
/// Of a field that came twice the caller gives the values joined by `,`, as they read on the wire: that is no origin either.
pub fn is_foreign(
    sec_fetch_site: Option<&[u8]>,
    origin: Option<&[u8]>,
    ours: &Origin,
    listed: &[Origin],
) -> bool {
    let suspicious = !is_own_form(sec_fetch_site, origin, ours);
    suspicious && !origin.is_some_and(|origin| listed.iter().any(|one| one.is(origin)))
}

/// A form of ours sent this: `Sec-Fetch-Site`, if present, is `same-origin` or `none`, and `Origin`, if present, is ours.
///
/// A request with neither passes and still needs the form token. Pages with forms must not be sent with
/// `Referrer-Policy: no-referrer`: browsers then say `Origin: null`.
pub fn is_own_form(sec_fetch_site: Option<&[u8]>, origin: Option<&[u8]>, ours: &Origin) -> bool {
    matches!(sec_fetch_site, None | Some(b"same-origin" | b"none"))
        && origin.is_none_or(|origin| ours.is(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect("an origin")
    }

    #[test]
    fn origins_are_read_and_written() {
        for (text, written) in [
            ("https://a.example", "https://a.example"),
            ("https://A.example:443", "https://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://a.example:80", "http://a.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(origin(text).to_string(), written, "{text}");
        }
        for text in [
            "",
            "null",
            "a.example",
            "https://",
            "https:///",
            "https://a/",
            "https://a/b",
            "https://a?",
            "https://u@a",
            "HTTPS://a",
            "ftp://a",
            "https://a, https://b",
            "https://a:0",
            "https:// a",
            "https://*.a",
            "//a",
        ] {
            assert_eq!(Origin::parse(text), Err(NotAnOrigin), "{text}");
        }
    }

    #[test]
    fn a_request_is_foreign_unless_every_field_speaks_for_it() {
        let ours = origin("https://a.example");
        let listed = [origin("https://partner.example")];
        let of = |site: &str, from: &str| {
            let field = |text: &str| (text != "-").then(|| text.as_bytes().to_vec());
            is_foreign(field(site).as_deref(), field(from).as_deref(), &ours, &listed)
        };
        for (site, from, expected) in [
            ("-", "-", false),
            ("same-origin", "-", false),
            ("none", "-", false),
            ("same-origin", "https://a.example", false),
            ("-", "https://a.example", false),
            ("-", "https://a.example:443", false),
            ("same-site", "-", true),
            ("cross-site", "-", true),
            ("cross-site", "https://a.example", true),
            ("a-word-of-tomorrow", "-", true),
            ("", "-", true),
            ("same-origin", "https://b.example", true),
            ("-", "http://a.example", true),
            ("-", "https://a.example:8443", true),
            ("-", "null", true),
            ("-", "", true),
            ("-", "https://a.example, https://a.example", true),
            ("cross-site", "https://partner.example", false),
            ("-", "https://partner.example", false),
            ("-", "https://evil.partner.example", true),
        ] {
            assert_eq!(of(site, from), expected, "{site} {from}");
        }
    }

    #[test]
    fn a_form_of_ours_proves_it_by_what_it_sends() {
        let ours = origin("http://localhost:8080");
        for (site, from, expected) in [
            (None, None, true),
            (Some("same-origin"), Some("http://localhost:8080"), true),
            (Some("none"), None, true),
            (Some("same-site"), Some("http://localhost:8080"), false),
            (Some("same-origin"), Some("null"), false),
            (None, Some("http://localhost"), false),
        ] {
            let got = is_own_form(site.map(str::as_bytes), from.map(str::as_bytes), &ours);
            assert_eq!(got, expected, "{site:?} {from:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(https: bool, host in "[a-z]{1,8}(\\.[a-z]{1,8})?", port in 1u16..) {
            let one = Origin { https, host, port };
            prop_assert_eq!(Origin::parse(&one.to_string()), Ok(one.clone()));
            prop_assert!(one.is(one.to_string().as_bytes()));
        }
    }
}
