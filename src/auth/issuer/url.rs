//! Addresses at issuers: https, or plain http to this machine itself.

use http::Uri;
use std::fmt;
use std::net::IpAddr;

/// Longer addresses are nobody's.
const URL_BYTES_MAX: usize = 2048;

/// Why a text is no address to ask at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// No absolute URL in plain ASCII, or one longer than 2048 bytes.
    #[error("is not a URL")]
    NotAUrl,
    /// Another scheme than http and https.
    #[error("has a scheme that is not known")]
    Scheme,
    /// A user name or password before the host.
    #[error("has a user name")]
    User,
    /// A fragment, which is never sent.
    #[error("has a fragment")]
    Fragment,
    /// Plain http to another machine: anybody on the way could answer.
    #[error("is asked over plain http")]
    PlainHttp,
}

/// An address that may be asked: with a host, without user and fragment, over TLS unless it is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(Uri);

impl IssuerUrl {
    /// Reads an absolute URL.
    ///
    /// # Errors
    ///
    /// [`UrlProblem`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlProblem> {
        if text.contains('#') {
            return Err(UrlProblem::Fragment);
        }
        let uri: Uri = text.parse().map_err(|_| UrlProblem::NotAUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(UrlProblem::NotAUrl);
        };
        let is_tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(UrlProblem::Scheme),
        };
        if authority.as_str().contains('@') {
            return Err(UrlProblem::User);
        }
        let has_port = authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain
            || text.len() > URL_BYTES_MAX
            || authority.host().is_empty()
            || (has_port && authority.port_u16().is_none_or(|port| port == 0))
        {
            return Err(UrlProblem::NotAUrl);
        }
        let url = Self(uri);
        if is_tls || url.is_loopback() { Ok(url) } else { Err(UrlProblem::PlainHttp) }
    }

    /// An address that an issuer names. One that is not on this machine itself may not make us ask there in plain text.
    pub fn named_by(&self, text: &str) -> Result<Self, UrlProblem> {
        let url = Self::parse(text)?;
        if url.is_tls() || self.is_loopback() { Ok(url) } else { Err(UrlProblem::PlainHttp) }
    }

    /// Whether its host is this machine, by name or number.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default().to_ascii_lowercase();
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        is_own_name(&host) || literal.is_ok_and(|address| address.is_loopback())
    }

    fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// As requests take it.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Where a document about the issuer with this identifier lies, the likelier place first: `OpenID` Connect Discovery 1.0 §4
    /// appends to the path, RFC 8414 §3.1 puts its name between host and path.
    pub(super) fn well_known(&self) -> [String; 2] {
        let path = self.0.path().trim_end_matches('/');
        let origin = format!(
            "{}://{}",
            self.0.scheme_str().unwrap_or("https"),
            self.0.authority().map_or("", http::uri::Authority::as_str)
        );
        [
            format!("{origin}{path}/.well-known/openid-configuration"),
            format!("{origin}/.well-known/oauth-authorization-server{path}"),
        ]
    }
}

/// Whether a name, in small letters, is this machine's wherever it is asked for (RFC 6761 §6.3).
pub(super) fn is_own_name(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_over_tls_or_on_this_machine() {
        for (text, expected) in [
            ("https://id.example.com/jwks", None),
            ("https://id.example.com", None),
            ("https://id.example.com:8443/a?b=c", None),
            ("http://127.0.0.1:8080/jwks", None),
            ("http://[::1]:8080/jwks", None),
            ("http://localhost/jwks", None),
            ("http://id.localhost/jwks", None),
            ("http://id.example.com/jwks", Some(UrlProblem::PlainHttp)),
            ("http://127.0.0.1.example.com/", Some(UrlProblem::PlainHttp)),
            ("http://10.0.0.1/", Some(UrlProblem::PlainHttp)),
            ("ftp://id.example.com/", Some(UrlProblem::Scheme)),
            ("file:///etc/passwd", Some(UrlProblem::NotAUrl)),
            ("https://user:pass@id.example.com/", Some(UrlProblem::User)),
            ("https://id.example.com/#x", Some(UrlProblem::Fragment)),
            ("id.example.com/jwks", Some(UrlProblem::NotAUrl)),
            ("/jwks", Some(UrlProblem::NotAUrl)),
            ("https://", Some(UrlProblem::NotAUrl)),
            ("https://:443/", Some(UrlProblem::NotAUrl)),
            ("https://id.example.com:0/", Some(UrlProblem::NotAUrl)),
            ("https://id.example.com:99999/", Some(UrlProblem::NotAUrl)),
            ("https://id.example.com/a b", Some(UrlProblem::NotAUrl)),
            ("https://id.example.com/ä", Some(UrlProblem::NotAUrl)),
            ("", Some(UrlProblem::NotAUrl)),
        ] {
            assert_eq!(IssuerUrl::parse(text).err(), expected, "{text}");
        }
        let long = format!("https://id.example.com/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(IssuerUrl::parse(&long).err(), Some(UrlProblem::NotAUrl));
    }

    #[test]
    fn an_issuer_elsewhere_cannot_make_us_ask_this_machine_in_plain_text() {
        let far = IssuerUrl::parse("https://id.example.com").expect("a good URL");
        let near = IssuerUrl::parse("http://127.0.0.1:1").expect("a good URL");
        assert_eq!(far.named_by("http://127.0.0.1:1/jwks").err(), Some(UrlProblem::PlainHttp));
        assert!(near.named_by("http://127.0.0.1:2/jwks").is_ok());
        assert!(far.named_by("https://keys.example.com/jwks").is_ok());
    }

    #[test]
    fn documents_lie_where_the_standards_say() {
        for (issuer, openid, oauth) in [
            (
                "https://id.example.com",
                "https://id.example.com/.well-known/openid-configuration",
                "https://id.example.com/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example.com:8443/realms/one/",
                "https://id.example.com:8443/realms/one/.well-known/openid-configuration",
                "https://id.example.com:8443/.well-known/oauth-authorization-server/realms/one",
            ),
        ] {
            let url = IssuerUrl::parse(issuer).expect("a good URL");
            assert_eq!(url.well_known(), [openid, oauth]);
        }
    }
}
