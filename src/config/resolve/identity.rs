//! `identity`: which headers tell an upstream who a request comes from.

use super::super::problem::At;
use super::super::raw::{self, HeaderSource};
use super::super::scalar::Entries;
use super::Resolver;
use crate::auth::assertion::AssertionSettings;
use crate::domain::certificate::CertificateClaim;
use crate::domain::fold::fold;
use crate::domain::identity::{EMAIL, ENDS_AT, GROUPS, IDLE_UNTIL, SUBJECT};
use crate::proxy::settings::{Deadline, Encoding, IdentityHeader, UpstreamSettings};
use http::HeaderName;

/// Headers that carry a message, a connection, a credential or the gateway's own words: an identity in one of
/// them would be dropped, or would break what it is for.
const REFUSED: [&str; 50] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-forwarded-by",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-request-id",
];

/// Of the names that the gateway keeps for sessions, those that may carry a session's deadline; folded.
const DEADLINES: [&str; 2] = ["xsessionendsat", "xsessionidleuntil"];

impl Resolver<'_> {
    /// The identity headers of upstreams that have none of their own.
    pub(super) fn identity(&mut self) -> Vec<IdentityHeader> {
        let headers = self.raw.identity.as_ref().and_then(|identity| identity.headers.as_ref());
        let Some(headers) = headers else {
            let header = |name: &'static str, claim: &str| IdentityHeader {
                name: HeaderName::from_static(name),
                claim: claim.to_owned(),
                deadline: None,
                certificate: None,
                encoding: Encoding::Percent,
            };
            return vec![
                header("x-auth-user", SUBJECT),
                header("x-auth-email", EMAIL),
                header("x-auth-groups", GROUPS),
            ];
        };
        self.identity_headers(headers, &At::root().key("identity").key("headers"))
    }

    /// A `headers` mapping, of `identity` or of an upstream.
    pub(super) fn identity_headers(&mut self, raw: &Entries<HeaderSource>, at: &At) -> Vec<IdentityHeader> {
        let mut headers: Vec<IdentityHeader> = Vec::new();
        for (text, source) in raw.sound() {
            let at = at.key(text);
            let (claim, encoding) = match source {
                HeaderSource::Claim(claim) => (Some(claim), raw::Encoding::Percent),
                HeaderSource::Written(raw) => {
                    (raw.claim.as_ref(), raw.encoding.unwrap_or(raw::Encoding::Percent))
                }
            };
            let deadline = match claim.map(String::as_str) {
                Some(IDLE_UNTIL) => Some(Deadline::IdleUntil),
                Some(ENDS_AT) => Some(Deadline::EndsAt),
                _ => None,
            };
            let name = if deadline.is_some() && DEADLINES.contains(&fold(text).as_str()) {
                HeaderName::from_bytes(text.as_bytes()).ok()
            } else {
                self.header_name(text, &at)
            };
            let (Some(claim), Some(name)) = (claim, name) else { continue };
            if claim.is_empty() || claim.len() > 255 || claim.chars().any(char::is_control) {
                let remedy = "write `subject`, `source`, `email`, `groups` or a claim's name";
                self.notes.problem(&at, claim, "is not a claim's name", remedy);
            }
            let before = raw.names().take_while(|other| *other != text);
            if let Some(other) = before.into_iter().find(|other| fold(other) == fold(text)) {
                self.folds_together(text, other, &at);
            }
            let encoding = match encoding {
                raw::Encoding::Percent => Encoding::Percent,
                raw::Encoding::Utf8 => Encoding::Utf8,
            };
            let certificate = CertificateClaim::named(claim);
            headers.push(IdentityHeader { name, claim: claim.clone(), deadline, certificate, encoding });
        }
        headers
    }

    fn folds_together(&mut self, text: &str, other: &str, at: &At) {
        let wrong =
            format!("is the same header as `{other}` to some applications (case and punctuation folded)");
        self.notes.problem(at, text, wrong, "keep one spelling");
    }

    pub(super) fn header_name(&mut self, text: &str, at: &At) -> Option<HeaderName> {
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            self.notes.problem(at, text, "is not a header's name", "write letters, digits and `-`");
            return None;
        };
        let folded = fold(text);
        let (wrong, remedy) = if folded.is_empty() {
            ("has no letter or digit", "write a name such as `X-Auth-User`")
        } else if REFUSED.iter().any(|refused| fold(refused) == folded) {
            ("is a header with a meaning of its own in HTTP", "write a name such as `X-Auth-User`")
        } else if DEADLINES.contains(&folded.as_str()) {
            (
                "is kept for the claims `idle_until` and `ends_at`",
                "write one of them, or a name such as `X-Auth-User`",
            )
        } else if folded.starts_with("xsession") || folded.starts_with("vestibule") {
            ("is a name that the gateway keeps for itself", "write a name such as `X-Auth-User`")
        } else {
            return Some(name);
        };
        self.notes.problem(at, text, wrong, remedy);
        None
    }

    /// Every header that only the gateway may set, wherever it stands in the file, each once.
    pub(super) fn guarded_headers(
        &mut self,
        general: &[IdentityHeader],
        upstreams: &[UpstreamSettings],
        assertion: Option<&AssertionSettings>,
    ) -> Vec<HeaderName> {
        let mut guarded: Vec<HeaderName> = Vec::new();
        let of_upstreams = upstreams.iter().flat_map(|upstream| {
            let at = At::root().key("upstreams").key(&upstream.name).key("identity").key("headers");
            upstream.identity.iter().map(move |header| (&header.name, at.clone()))
        });
        let general_at = At::root().key("identity").key("headers");
        let general = general.iter().map(|header| (&header.name, general_at.clone()));
        for (name, at) in general.chain(of_upstreams) {
            match guarded.iter().find(|other| fold(other.as_str()) == fold(name.as_str())) {
                None => guarded.push(name.clone()),
                Some(other) if other == name => {}
                Some(other) => {
                    let (name, other) = (self.spelt(name), self.spelt(other));
                    self.folds_together(&name, &other, &at.key(&name));
                }
            }
        }
        if let Some(AssertionSettings { header, .. }) = assertion {
            match guarded.iter().find(|other| fold(other.as_str()) == fold(header.as_str())) {
                None => guarded.push(header.clone()),
                Some(other) => {
                    let other = self.spelt(other);
                    let at = At::root().key("identity").key("assertion").key("header");
                    self.folds_together(&self.spelt(header), &other, &at);
                }
            }
        }
        self.removed_headers(&mut guarded);
        guarded
    }

    /// A name as the file spells it; `HeaderName` is lower-case.
    fn spelt(&self, name: &HeaderName) -> String {
        let general = self.raw.identity.iter().filter_map(|identity| identity.headers.as_ref());
        let upstreams = self.raw.upstreams.iter().flat_map(Entries::sound);
        let own = upstreams.filter_map(|(_, upstream)| upstream.identity.as_ref()?.headers.as_ref());
        let assertion =
            self.raw.identity.iter().filter_map(|identity| identity.assertion.as_ref()?.header.as_deref());
        let mut names = assertion.chain(general.chain(own).flat_map(Entries::names));
        names.find(|text| text.eq_ignore_ascii_case(name.as_str())).unwrap_or(name.as_str()).to_owned()
    }

    fn removed_headers(&mut self, guarded: &mut Vec<HeaderName>) {
        let root = At::root().key("identity").key("remove");
        let remove = self.raw.identity.iter().filter_map(|identity| identity.remove.as_ref()).flatten();
        for (index, text) in remove.enumerate() {
            let at = root.item(index);
            let Some(name) = text.as_ref().and_then(|text| self.header_name(text, &at)) else { continue };
            match guarded.iter().find(|other| fold(other.as_str()) == fold(name.as_str())) {
                None => guarded.push(name),
                Some(other) => {
                    let wrong = format!("is removed already, with every spelling of `{}`", self.spelt(other));
                    self.notes.problem(&at, &self.spelt(&name), wrong, "leave it out");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_header_is_one_and_stands_once() {
        let mut folded: Vec<String> = REFUSED.iter().map(|name| fold(name)).collect();
        folded.sort_unstable();
        folded.dedup();
        assert_eq!(folded.len(), REFUSED.len());
        assert!(REFUSED.iter().all(|name| HeaderName::from_bytes(name.as_bytes()).is_ok()));
    }
}
