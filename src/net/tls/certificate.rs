//! A certificate of ours: read from PEM, its key tried on it, and what it says of itself.

use super::provider;
use super::staple::{Staple, StapleError};
use crate::domain::time::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// A chain is a server's certificate and a few issuers; more helps nobody.
const CHAIN_MAX: usize = 16;

/// Why files do not make a certificate to serve with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM block `CERTIFICATE`, or one that is none inside.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// More certificates than a chain has.
    #[error("holds more than {CHAIN_MAX} certificates")]
    TooLong,
    /// No PEM block with a private key, or one that is encrypted.
    #[error("holds no private key in PEM that is not encrypted")]
    NoKey,
    /// RSA below 2048 bits, or a kind of key that TLS does not know.
    #[error("holds a private key of a kind or size that TLS does not use")]
    UnfitKey,
    /// The key belongs to another certificate.
    #[error("belongs to another certificate")]
    OtherKey,
}

impl CertificateError {
    /// Whether the file with the key is at fault.
    pub fn is_of_key(self) -> bool {
        matches!(self, Self::NoKey | Self::UnfitKey | Self::OtherKey)
    }
}

/// A certificate with its chain and its key, ready to be presented.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    file: String,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) staple: Option<Arc<Staple>>,
    /// DNS names that it is for, in lower case; `*.example.com` for one label more.
    pub(super) names: Vec<String>,
    /// IP addresses that it is for, as URLs write them.
    addresses: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl ServerCertificate {
    /// Reads the chain, the server's own certificate first, and its key, which came from `file` and another one.
    pub fn new(file: &str, chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = read_chain(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let certified = match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(certified) => certified,
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::OtherKey),
            Err(rustls::Error::InvalidCertificate(_)) => return Err(CertificateError::NoCertificate),
            Err(_) => return Err(CertificateError::UnfitKey),
        };
        let own = certified.cert.first().ok_or(CertificateError::NoCertificate)?.clone();
        let (_, read) =
            x509_parser::parse_x509_certificate(&own).map_err(|_| CertificateError::NoCertificate)?;
        let validity = read.validity();
        Ok(Self {
            file: file.to_owned(),
            key: Arc::new(certified),
            staple: None,
            names: alternative_names(&read, |name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            }),
            addresses: alternative_names(&read, |name| match name {
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            }),
            not_before: instant(validity.not_before),
            not_after: instant(validity.not_after),
        })
    }

    /// Hands out this OCSP response (DER), which came from `file`, for as long as it counts. One that clients could not read, or that
    /// counts no longer at `now`, is refused and changes nothing.
    pub fn staple(
        &mut self,
        file: &str,
        response: Vec<u8>,
        now: Option<Timestamp>,
    ) -> Result<(), StapleError> {
        let own = self.key.cert.first().ok_or(StapleError::OtherCertificate)?;
        let (_, read) =
            x509_parser::parse_x509_certificate(own).map_err(|_| StapleError::OtherCertificate)?;
        let staple = Staple::new(file.to_owned(), &self.key, read.raw_serial(), response, now)?;
        self.staple = Some(Arc::new(staple));
        Ok(())
    }

    /// The first instant at which it counts.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last instant at which it counts.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether a browser that asks for this host, an address or a name in lower case, would take it.
    pub fn is_for(&self, host: &str) -> bool {
        let whole = self.names.iter().chain(&self.addresses).any(|name| name == host);
        // A wildcard stands for exactly one label (RFC 9525 §6.3).
        let below = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        whole || below.is_some_and(|pattern| self.names.contains(&pattern))
    }

    /// The file of the chain, as the configuration names it.
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// Certificates in PEM, all of them sound inside.
pub(super) fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX + 1).collect();
    let chain = chain.map_err(|_| CertificateError::NoCertificate)?;
    if chain.is_empty() || chain.iter().any(|der| x509_parser::parse_x509_certificate(der).is_err()) {
        return Err(CertificateError::NoCertificate);
    }
    if chain.len() > CHAIN_MAX { Err(CertificateError::TooLong) } else { Ok(chain) }
}

/// The alternative names alone count (RFC 9525 §2); a common name is what somebody is called.
fn alternative_names(
    read: &X509Certificate<'_>,
    wanted: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let Ok(Some(names)) = read.subject_alternative_name() else { return Vec::new() };
    names.value.general_names.iter().filter_map(wanted).collect()
}

/// An address as URLs write it: IPv6 in brackets.
fn address(bytes: &[u8]) -> Option<String> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => Some(Ipv4Addr::from(v4).to_string()),
        (_, Ok(v6)) => Some(format!("[{}]", Ipv6Addr::from(v6))),
        _ => None,
    }
}

fn instant(time: ASN1Time) -> Timestamp {
    Timestamp::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_certificate_is_for_the_names_and_addresses_in_it() {
        let key = KeyPair::generate().expect("a key can be made");
        let names = ["Wiki.example.com", "*.example.org", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let made = CertificateParams::new(names).expect("plain names").self_signed(&key);
        let chain = made.expect("a certificate can be made").pem();
        let one = ServerCertificate::new("a.crt", chain.as_bytes(), key.serialize_pem().as_bytes())
            .expect("it is sound");
        for (host, expected) in [
            ("wiki.example.com", true),
            ("a.example.org", true),
            ("example.org", false),
            ("a.b.example.org", false),
            ("192.0.2.1", true),
            ("[2001:db8::1]", true),
            ("192.0.2.2", false),
            ("example.com", false),
        ] {
            assert_eq!(one.is_for(host), expected, "{host}");
        }
    }

    #[test]
    fn a_key_is_that_of_the_certificate_or_none_at_all() {
        let [key, other] = [(); 2].map(|()| KeyPair::generate().expect("a key can be made"));
        let made =
            CertificateParams::new(["a.example.com".to_owned()]).expect("a plain name").self_signed(&key);
        let chain = made.expect("a certificate can be made").pem();
        let (own, other) = (key.serialize_pem(), other.serialize_pem());
        let both = format!("{own}{chain}");
        for (certificate, key, expected) in [
            (chain.as_str(), own.as_str(), None),
            (&both, &both, None),
            (&chain, &other, Some(CertificateError::OtherKey)),
            (&chain, &chain, Some(CertificateError::NoKey)),
            (&own, &own, Some(CertificateError::NoCertificate)),
            (&chain[..100], &own, Some(CertificateError::NoCertificate)),
            (&chain.repeat(17), &own, Some(CertificateError::TooLong)),
            ("", "", Some(CertificateError::NoCertificate)),
        ] {
            let read = ServerCertificate::new("a.crt", certificate.as_bytes(), key.as_bytes());
            assert_eq!(read.err(), expected, "{certificate} {key}");
        }
    }
}
