//! The HTTP client for issuers: one question, one answer, both bounded.
//!
//! HTTP/1.1 over TLS with the one crypto library, or in plain text to this machine ([`IssuerUrl`] sees to it). No redirect is
//! followed, no proxy of the environment is asked, no cookie is kept, nothing is decompressed. Errors name no header, no body and
//! no address: what was sent may be a secret.

use crate::auth::issuer::names::Names;
use crate::auth::issuer::url::IssuerUrl;
use crate::domain::secret::Secret;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

/// The longest time to open a connection to one address.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Idle connections are closed before most servers would.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most fields of an answer's head.
const HEAD_FIELDS_MAX: usize = 100;

/// A chain of certificates in PEM, and the key of the first.
pub type OwnCertificate = (Vec<u8>, Secret<Vec<u8>>);

/// How a server is reached and proved.
#[derive(Clone, Debug)]
pub struct IssuerAccess {
    /// Certificates in PEM that its own must come from; absent: what the system trusts.
    pub authorities: Option<Vec<u8>>,
    /// What we show of ourselves (RFC 8705).
    pub certificate: Option<OwnCertificate>,
    /// The longest time for a whole question, from look-up to the answer's last byte.
    pub timeout: Duration,
    /// Idle connections that are kept.
    pub idle_max: usize,
}

/// Why the files for an [`IssuerClient`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The authorities are no certificates in PEM.
    #[error("has no certificate in PEM that can be an authority")]
    Authorities,
    /// What we would show is no certificate in PEM.
    #[error("has no certificate in PEM")]
    Certificate,
    /// Its key is none, or another one's.
    #[error("is not the private key of the certificate, in PEM")]
    Key,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// No connection could be opened.
    #[error("it cannot be reached")]
    Unreachable,
    /// TLS could not be settled; what the library says of it.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The answer is longer than it may be.
    #[error("its answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The answer broke off or is no HTTP.
    #[error("its answer broke off or is no HTTP")]
    Broken,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status; never an interim one.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// Asks one issuer.
pub struct IssuerClient {
    inner: Client<HttpsConnector<HttpConnector<Names>>, Full<Bytes>>,
    timeout: Duration,
}

impl IssuerClient {
    /// A client that has not asked anybody yet. Blocks while the system's authorities are read, if it needs them.
    ///
    /// # Errors
    ///
    /// [`AccessError`]: a file of `access` is not what it should be.
    pub fn new(access: &IssuerAccess) -> Result<Self, AccessError> {
        let roots = match &access.authorities {
            Some(pem) => authorities(pem)?,
            None => system_authorities(),
        };
        let mut tcp = HttpConnector::new_with_resolver(Names);
        // https comes through here as well.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_MAX.min(access.timeout)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(access, roots)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let inner = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(access.idle_max)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEAD_FIELDS_MAX)
            .build(connector);
        Ok(Self { inner, timeout: access.timeout })
    }

    /// Asks, and reads the answer to its end. Must run on a runtime that outlives the connection.
    ///
    /// # Errors
    ///
    /// [`AskError`]: there is no whole answer of at most `bytes_max`. A status that refuses is an answer.
    pub async fn ask(
        &self,
        url: &IssuerUrl,
        mut request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<Reply, AskError> {
        *request.uri_mut() = url.uri().clone();
        let headers = request.headers_mut();
        headers.remove(HOST);
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("vestibule/", env!("CARGO_PKG_VERSION"))));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let whole = async {
            let answer = self.inner.request(request).await.map_err(|error| reason(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { AskError::TooLarge(bytes_max) } else { AskError::Broken }
            })?;
            Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(self.timeout, whole).await.map_err(|_| AskError::Late)?
    }
}

/// Checks the files without asking anybody: what would fail at the first question fails now.
pub fn check(access: &IssuerAccess) -> Result<(), AccessError> {
    let roots = match &access.authorities {
        Some(pem) => authorities(pem)?,
        None => RootCertStore::empty(),
    };
    tls(access, roots).map(drop)
}

fn tls(access: &IssuerAccess, roots: RootCertStore) -> Result<ClientConfig, AccessError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the library has suites for both")
        .with_root_certificates(roots);
    let Some((chain, key)) = &access.certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(chain).ok_or(AccessError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| AccessError::Key)?;
    builder.with_client_auth_cert(chain, key).map_err(|_| AccessError::Key)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, AccessError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).ok_or(AccessError::Authorities)? {
        roots.add(certificate).map_err(|_| AccessError::Authorities)?;
    }
    Ok(roots)
}

/// At least one.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!read.is_empty()).then_some(read)
}

fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    match rustls_native_certs::load_native_certs() {
        Ok(found) => drop(roots.add_parsable_certificates(found)),
        Err(error) => {
            tracing::warn!(%error, "the certificates that the system trusts cannot be read; no issuer is believed by them");
        }
    }
    roots
}

/// What went wrong, without what the library tells of the request.
fn reason(error: &hyper_util::client::legacy::Error) -> AskError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return AskError::Tls(tls.to_string());
        }
        // What TLS says is wrapped as an error of the socket, perhaps twice, and such a one passes over what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|wrapped| wrapped as &dyn std::error::Error).or_else(|| error.source());
    }
    if error.is_connect() { AskError::Unreachable } else { AskError::Broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> IssuerAccess {
        IssuerAccess {
            authorities: Some(Vec::new()),
            certificate: None,
            timeout: Duration::from_secs(1),
            idle_max: 0,
        }
    }

    #[test]
    fn files_that_are_none_are_said_before_anybody_is_asked() {
        assert_eq!(check(&access()), Err(AccessError::Authorities));
        let garbage = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_vec();
        let other = IssuerAccess { authorities: Some(garbage.clone()), ..access() };
        assert_eq!(check(&other), Err(AccessError::Authorities));
        let other = IssuerAccess {
            authorities: None,
            certificate: Some((garbage, Secret::new(vec![1]))),
            ..access()
        };
        assert_eq!(check(&other), Err(AccessError::Key));
        let other = IssuerAccess {
            authorities: None,
            certificate: Some((Vec::new(), Secret::new(vec![1]))),
            ..access()
        };
        assert_eq!(check(&other), Err(AccessError::Certificate));
    }
}
