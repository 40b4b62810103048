//! What a listener is for, besides bringing requests: TLS, HSTS, sending everybody to https.

use crate::domain::decision::Rejection;
use crate::domain::target::Host;
use crate::net::tls::{Secured, TlsTerms};
use crate::proxy::settings::RedirectSettings;
use http::HeaderValue;
use std::net::IpAddr;

/// One listener, compiled.
#[derive(Clone, Debug)]
pub struct Front {
    /// What its connections are accepted with; absent: without TLS.
    pub tls: Option<TlsTerms>,
    /// `Strict-Transport-Security` in every answer.
    pub hsts: Option<HeaderValue>,
    /// It sends everybody to https.
    pub redirect: Option<RedirectSettings>,
}

impl Front {
    /// Whether the connection proves what this configuration asks of its client: its certificate was verified by the
    /// authorities that count now. Another connection may.
    pub(crate) fn still_believes(&self, secured: Option<&Secured>) -> bool {
        let asked = self.tls.as_ref().and_then(TlsTerms::clients);
        asked == secured.and_then(|secured| secured.clients)
    }

    /// Whether a request for this host may come over this connection.
    ///
    /// Where clients show certificates, they do so for the host that they asked for in the handshake (SNI); a request for
    /// another one gets 421 (RFC 9110 §15.5.20), and no name at all stands for an address alone.
    pub(crate) fn takes(&self, secured: Option<&Secured>, host: &Host<'_>) -> Result<(), Rejection> {
        if !self.still_believes(secured) {
            return Err(Rejection::Misdirected);
        }
        let Some(secured) = secured.filter(|secured| secured.clients.is_some()) else { return Ok(()) };
        let asked_for = match &secured.server_name {
            Some(name) => **name == *host.name(),
            None => is_address(host.name()),
        };
        if asked_for { Ok(()) } else { Err(Rejection::Misdirected) }
    }
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(server_name: Option<&str>, clients: Option<u64>) -> Secured {
        let server_name = server_name.map(Into::into);
        Secured { version: "1.3", server_name, protocol: None, certificate: None, clients }
    }

    #[test]
    fn where_nobody_is_asked_for_a_certificate_any_host_may_come() {
        let front = Front { tls: None, hsts: None, redirect: None };
        let host = Host::parse(b"wiki.example.com").expect("a host");
        let other = secured(Some("other.example.com"), None);
        assert!(front.takes(None, &host).is_ok());
        assert!(front.takes(Some(&other), &host).is_ok());
        let proved = secured(Some("wiki.example.com"), Some(1));
        assert!(front.takes(Some(&proved), &host).is_err(), "it was asked by rules of earlier");
    }

    #[test]
    fn an_address_is_one() {
        for (host, expected) in [("127.0.0.1", true), ("[::1]", true), ("wiki.example.com", false)] {
            assert_eq!(is_address(host), expected, "{host}");
        }
    }
}
