//! `identity.assertion`: the signed statement about who asks, and which upstreams get it.

use super::super::problem::At;
use super::super::raw::{AssertionTaken, SecretRef, UpstreamIdentity};
use super::Resolver;
use crate::auth::assertion::{AssertionKey, AssertionKeyError, AssertionSettings};
use crate::proxy::settings::IdentityHeader;
use std::time::Duration;

/// Where the file names no header.
const HEADER: &str = "X-Auth-Assertion";
const LIFETIME: Duration = Duration::from_mins(1);
/// Whole seconds are counted: of less, nothing may be left on the way.
const LIFETIME_MIN: Duration = Duration::from_secs(2);
/// What was signed cannot be taken back.
const LIFETIME_MAX: Duration = Duration::from_hours(1);
/// One that signs, one before it, one to come, and some more.
const KEYS_MAX: usize = 8;
/// `iss` stands in every assertion.
const ISSUER_BYTES_MAX: usize = 255;

impl Resolver<'_> {
    /// The assertion; what is wrong is noted.
    pub(super) fn assertion(&mut self) -> Option<AssertionSettings> {
        let raw = self.raw.identity.as_ref()?.assertion.as_ref()?;
        let at = At::root().key("identity").key("assertion");
        let header = self.header_name(raw.header.as_deref().unwrap_or(HEADER), &at.key("header"));
        if let Some(issuer) = &raw.issuer
            && (issuer.is_empty()
                || issuer.len() > ISSUER_BYTES_MAX
                || !issuer.bytes().all(|b| b.is_ascii_graphic()))
        {
            let remedy = "write what applications know this gateway by: `https://gw.example.com`";
            self.notes.problem(&at.key("issuer"), issuer, "is not an issuer", remedy);
        }
        let keys = self.assertion_keys(raw.keys.as_deref().unwrap_or_default(), &at.key("keys"));
        let lifetime = raw.lifetime.as_ref().map_or(LIFETIME, |lifetime| lifetime.length);
        if let Some(written) = &raw.lifetime
            && !(LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime)
        {
            let (wrong, remedy) = if lifetime < LIFETIME_MIN {
                ("is over before an application has looked", "write `2s` or more")
            } else {
                ("is how long an application may believe whoever has signed out", "write at most `1h`")
            };
            self.notes.problem(&at.key("lifetime"), &written.text, wrong, remedy);
        }
        Some(AssertionSettings { header: header?, issuer: raw.issuer.clone()?, keys, lifetime })
    }

    fn assertion_keys(&mut self, raw: &[Option<SecretRef>], at: &At) -> Vec<AssertionKey> {
        let remedy = "write `[{ file: assertion.pem }]`, made by `vestibule keys generate --assertion`";
        let is_there =
            self.raw.identity.iter().any(|identity| {
                identity.assertion.as_ref().is_some_and(|assertion| assertion.keys.is_some())
            });
        if raw.is_empty() && is_there {
            self.notes.problem(at, "keys", "is empty: nothing could be signed", remedy);
        }
        if raw.len() > KEYS_MAX {
            self.notes.problem(at, "keys", "holds more than 8 keys", "remove those that sign no more");
        }
        let mut keys: Vec<AssertionKey> = Vec::new();
        for (index, reference) in raw.iter().enumerate() {
            let at = at.item(index);
            let Some(reference) = reference else { continue };
            let Some(pem) = self.secret(reference, &at) else { continue };
            let culprit = reference.file.clone().unwrap_or_else(|| format!("keys[{index}]"));
            match AssertionKey::from_pem(pem.expose()) {
                Err(error) => {
                    let remedy = match error {
                        AssertionKeyError::NoKey | AssertionKeyError::UnfitKey => {
                            "write one that `vestibule keys generate --assertion` made"
                        }
                        AssertionKeyError::Encrypted => {
                            "write it without a passphrase (`openssl pkcs8 -in KEY`)"
                        }
                        AssertionKeyError::OlderForm => {
                            "convert it: `openssl pkcs8 -topk8 -nocrypt -in KEY`, of P-256"
                        }
                    };
                    self.notes.problem(&at, &culprit, error.to_string(), remedy);
                }
                Ok(key) if keys.iter().any(|other| other.id() == key.id()) => {
                    self.notes.problem(&at, &culprit, "is the same key as one before it", "remove it");
                }
                Ok(key) => keys.push(key),
            }
        }
        keys
    }

    /// Whether an upstream gets the assertion. Where it gets nothing else, its identity headers are taken out.
    pub(super) fn takes_assertion(
        &mut self,
        raw: Option<&UpstreamIdentity>,
        headers: &mut Vec<IdentityHeader>,
        at: &At,
    ) -> bool {
        let is_configured = self.raw.identity.as_ref().is_some_and(|identity| identity.assertion.is_some());
        let at = at.key("assertion");
        let Some(raw) = raw else { return is_configured };
        let (shown, wanted) = match &raw.assertion {
            None => return is_configured,
            Some(AssertionTaken::Beside(false)) => return false,
            Some(AssertionTaken::Beside(true)) => ("true", false),
            Some(AssertionTaken::Only(_)) => ("only", true),
        };
        if !is_configured {
            let remedy = "write `identity.assertion` at the top, with `issuer` and `keys`";
            self.notes.problem(&at, shown, "asks for an assertion, and nothing says who signs it", remedy);
        }
        if wanted {
            if raw.headers.is_some() {
                let wrong = "leaves no other header, and `headers` beside it names some";
                self.notes.problem(&at, shown, wrong, "write `true` for both, or leave `headers` out");
            }
            headers.clear();
        }
        is_configured
    }
}
