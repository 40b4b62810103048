//! Which certificate a client sees: by the name that it asks for (SNI, RFC 6066 §3).

use super::certificate::ServerCertificate;
use super::staple::Staple;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a listener by name. The first one is for whoever asks for no name, or for one that none has.
#[derive(Debug)]
pub(super) struct Choice {
    keys: Vec<(Arc<CertifiedKey>, Option<Arc<Staple>>)>,
    /// Whole names, and what stands behind the `*.` of others, each to its certificates in the file's order.
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
}

impl Choice {
    pub(super) fn new(certificates: &[ServerCertificate]) -> Self {
        let mut choice = Self { keys: Vec::new(), exact: HashMap::new(), below: HashMap::new() };
        for (number, certificate) in certificates.iter().enumerate() {
            choice.keys.push((certificate.key.clone(), certificate.staple.clone()));
            for name in &certificate.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut choice.below, parent),
                    None => (&mut choice.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(number);
            }
        }
        choice
    }

    /// The numbers of those that have this name; a whole name goes before a wildcard.
    fn for_name(&self, name: &str) -> &[usize] {
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let whole = self.exact.get(&*name);
        // A wildcard stands for exactly one label (RFC 9525 §6.3).
        let wild = || self.below.get(name.split_once('.')?.1);
        whole.or_else(wild).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().map_or(&[][..], |name| self.for_name(name));
        // Of several for one name the first whose kind of key the client knows.
        let fits =
            |number: &&usize| self.keys[**number].0.key.choose_scheme(hello.signature_schemes()).is_some();
        let chosen = named.iter().find(fits).or(named.first()).copied().unwrap_or(0);
        let (plain, staple) = self.keys.get(chosen)?;
        Some(staple.as_deref().and_then(Staple::stapled).unwrap_or(plain).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn certificate(names: &[&str]) -> ServerCertificate {
        let key = KeyPair::generate().expect("a key can be made");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = CertificateParams::new(names).expect("plain names").self_signed(&key);
        let chain = made.expect("a certificate can be made").pem();
        ServerCertificate::new("a.crt", chain.as_bytes(), key.serialize_pem().as_bytes())
            .expect("it is sound")
    }

    #[test]
    fn a_whole_name_goes_before_a_wildcard_and_a_wildcard_stands_for_one_label() {
        let choice = Choice::new(&[
            certificate(&["default.example.com"]),
            certificate(&["*.example.com", "example.org"]),
            certificate(&["wiki.example.com"]),
            certificate(&["wiki.example.com"]),
        ]);
        for (name, expected) in [
            ("default.example.com", &[0][..]),
            ("other.example.com", &[1]),
            ("OTHER.Example.com", &[1]),
            ("example.org", &[1]),
            ("wiki.example.com", &[2, 3]),
            ("a.wiki.example.com", &[]),
            ("example.com", &[]),
            ("www.example.org", &[]),
            ("", &[]),
        ] {
            assert_eq!(choice.for_name(name), expected, "{name}");
        }
    }
}
