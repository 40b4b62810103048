//! PEM files for TLS to upstreams → what pingora takes, checked.
//!
//! pingora panics on a certificate that it cannot read, and finds out with the first connection that a key is not the
//! certificate's: both are looked at here, while the file is checked.

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, WrappedX509TryBuilder};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a file cannot be used: what is wrong, for a message that has named the file.
pub type Unfit = &'static str;

/// The authorities of a PEM file.
pub fn authorities(pem: &[u8]) -> Result<Arc<CaType>, Unfit> {
    let certificates = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|_| "has a certificate that cannot be an authority")?;
    }
    let wrapped: Result<Vec<WrappedX509>, Unfit> = certificates.iter().map(wrap).collect();
    Ok(wrapped?.into())
}

/// What we show of ourselves.
pub type ClientCertificate = CertKey;

/// Which of the two files of a client certificate cannot be used, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProblem {
    /// The certificate's.
    Certificate(Unfit),
    /// The key's.
    Key(Unfit),
}

/// A client certificate with its chain, leaf first, and its key.
pub fn client(chain: &[u8], key: &[u8]) -> Result<Arc<ClientCertificate>, ClientProblem> {
    let chain = certificates(chain).map_err(ClientProblem::Certificate)?;
    for certificate in &chain {
        wrap(certificate).map_err(ClientProblem::Certificate)?;
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| ClientProblem::Key("is no private key in PEM that can be read"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|_| {
        ClientProblem::Key("is not the key of the certificate, or of a kind that is not known")
    })?;
    let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
    Ok(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
}

/// Where pingora's connectors are to read authorities from.
///
/// Reading the system's takes longer than all the rest of a start, so that is only done where an upstream needs them. They
/// may be unreadable as well, at which pingora would panic: then none counts, and upstreams without a `ca` of their own are not
/// believed.
pub(crate) fn authorities_file(are_needed: bool) -> Option<String> {
    const NONE: &str = "/dev/null";
    if !are_needed {
        return Some(NONE.to_owned());
    }
    let read = pingora::tls::load_platform_certs_incl_env_into_store(&mut RootCertStore::empty());
    read.err().map(|error| {
        tracing::warn!(%error, "the certificates that the system trusts cannot be read; none of them counts");
        NONE.to_owned()
    })
}

/// The system's authorities, for an upstream that came with a reload into a process that had read none.
pub(crate) fn system_authorities() -> Arc<CaType> {
    let found = pingora::tls::load_native_certs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the certificates that the system trusts cannot be read; none of them counts");
        Vec::new()
    });
    found.iter().filter_map(|certificate| wrap(certificate).ok()).collect::<Vec<_>>().into()
}

/// Whether a name can stand in a certificate, and is what pingora looks for there: it would take a `_` for a `-`.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok() && !name.contains('_')
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|_| "is not PEM")?;
    if certificates.is_empty() {
        return Err("has no certificate in PEM");
    }
    Ok(certificates)
}

fn wrap(certificate: &CertificateDer<'static>) -> Result<WrappedX509, Unfit> {
    let builder = WrappedX509TryBuilder {
        raw_cert: certificate.to_vec(),
        cert_builder: |raw: &Vec<u8>| X509Certificate::from_der(raw).map(|(_, certificate)| certificate),
    };
    builder.try_build().map_err(|_| "has a certificate that cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_certificates_are_plain() {
        for (name, expected) in [
            ("wiki.internal", true),
            ("10.0.0.5", true),
            ("::1", true),
            ("", false),
            ("wiki_1.internal", false),
            ("https://wiki.internal", false),
            ("wiki.internal:443", false),
            ("*.internal", false),
        ] {
            assert_eq!(is_server_name(name), expected, "`{name}`");
        }
    }

    #[test]
    fn what_is_no_certificate_is_said_and_nothing_panics() {
        let torn = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for (pem, wrong) in [
            ("", "has no certificate in PEM"),
            ("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n", "is not PEM"),
            (torn, "has a certificate that cannot be an authority"),
        ] {
            assert_eq!(authorities(pem.as_bytes()).err(), Some(wrong));
        }
        let client = client(torn.as_bytes(), b"").err();
        assert_eq!(client, Some(ClientProblem::Certificate("has a certificate that cannot be read")));
    }
}
