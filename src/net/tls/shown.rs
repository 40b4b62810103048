//! A certificate of a client: as rules look at it, and whether a listener would believe it.

use super::certificate::{CertificateError, read_chain};
use super::{Clients, subject};
use crate::domain::certificate::ClientCertificate;
use crate::domain::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::time::Duration;

/// What rules and applications look at of a certificate on the wire; nothing of one that cannot be read.
pub(super) fn certificate_of(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let (_, read) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(ClientCertificate::new(subject::written(read.subject()), digest(&SHA256, der).as_ref()))
}

/// A certificate that somebody is supposed to show, with its chain.
#[derive(Clone, Debug)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    certificate: ClientCertificate,
}

impl Shown {
    /// Reads PEM, the client's own certificate first, then its issuers; whatever else stands there is passed over.
    pub fn read(pem: &[u8]) -> Result<Self, CertificateError> {
        let chain = read_chain(pem)?;
        let certificate = chain.first().and_then(certificate_of).ok_or(CertificateError::NoCertificate)?;
        Ok(Self { chain, certificate })
    }

    /// What rules look at.
    pub fn certificate(&self) -> &ClientCertificate {
        &self.certificate
    }

    /// The chain in PEM, and nothing that stood beside it.
    pub fn pem(&self) -> String {
        let block = |der: &CertificateDer<'_>| {
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
        };
        self.chain.iter().map(block).collect()
    }
}

impl Clients {
    /// Whether a handshake at this instant of the wall clock would take it, from a client that has the key; else why not.
    pub fn believe(&self, shown: &Shown, now: Timestamp) -> Result<(), String> {
        let Some((own, issuers)) = shown.chain.split_first() else { return Err(String::new()) };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        self.verifier.verify_client_cert(own, issuers, now).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    /// An authority's certificate, and one that it has issued to alice.
    fn issued() -> (String, String) {
        let key = || KeyPair::generate().expect("a key can be made");
        let (authority, own) = (key(), key());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ours = params.self_signed(&authority).expect("a certificate can be made").pem();
        let issuer = Issuer::new(params, authority);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "alice");
        let alice = params.signed_by(&own, &issuer).expect("a certificate can be made");
        (ours, own.serialize_pem() + &alice.pem())
    }

    #[test]
    fn a_listener_believes_what_its_authority_has_issued() {
        let ((ours, alice), (others, _)) = (issued(), issued());
        let shown = Shown::read(alice.as_bytes()).expect("it is one");
        assert_eq!(shown.certificate().subject(), "CN=alice");
        let believe = |authority: &str, now: u64| {
            let clients = Clients::new(authority.as_bytes(), true).expect("it is an authority");
            clients.believe(&shown, Timestamp::from_secs(now))
        };
        assert_eq!(believe(&ours, 1_795_348_800), Ok(()));
        for (authority, now) in [(&others, 1_795_348_800), (&ours, 0)] {
            assert!(believe(authority, now).is_err_and(|why| !why.is_empty()), "{now}");
        }
    }

    #[test]
    fn a_key_that_stands_beside_a_certificate_goes_nowhere() {
        let (_, alice) = issued();
        let shown = Shown::read(alice.as_bytes()).expect("it is one");
        assert!(alice.contains("PRIVATE KEY") && !shown.pem().contains("PRIVATE KEY"));
        let again = Shown::read(shown.pem().as_bytes()).expect("it is one");
        assert_eq!(again.certificate(), shown.certificate());
        for none in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Shown::read(none.as_bytes()).err(), Some(CertificateError::NoCertificate));
        }
    }
}
