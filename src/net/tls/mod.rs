//! TLS on our listeners: what it is set up with, and what a handshake comes to.
//!
//! A listener's [`TlsTerms`] are part of a configuration like its routes: a reload builds another, connections keep
//! the one they began with. Certificates are chosen by name (`choice.rs`), clients may have to show one of theirs.
//! One crypto library does everything: [`install`] says so to whatever else speaks TLS in this process.

mod certificate;
mod choice;
pub(crate) mod handshake;
mod shown;
mod staple;
mod subject;

pub use certificate::{CertificateError, ServerCertificate};
pub use handshake::{HandshakeEnd, SPEAKS_TLS};
pub use shown::Shown;
pub use staple::{Expired, StapleError};

use crate::domain::certificate::ClientCertificate;
use crate::domain::time::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;

/// What is spoken inside, the best first (ALPN, RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// The name of HTTP/2 over TLS (RFC 9113 §3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// The one crypto library.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Makes it that of the whole process: rustls would refuse to choose between this one and the one that pingora brings.
pub fn install() {
    // Fails only where this was called before.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The first is for clients that name none of the others; never empty.
    pub certificates: Vec<ServerCertificate>,
    /// Clients that are asked for a certificate; absent: nobody is.
    pub clients: Option<Clients>,
}

/// Which certificates of clients count.
#[derive(Clone, Debug)]
pub struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    id: u64,
}

impl Clients {
    /// `authorities` are certificates in PEM; `required`: a client without one gets no connection.
    pub fn new(authorities: &[u8], required: bool) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::empty();
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(u8::from(required));
        for der in certificate::read_chain(authorities)? {
            hasher.write(&der);
            roots.add(der).map_err(|_| CertificateError::NoCertificate)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|_| CertificateError::NoCertificate)?;
        Ok(Self { verifier, id: hasher.finish() })
    }

    /// Tells sets of authorities apart.
    fn id(&self) -> u64 {
        self.id
    }
}

impl TlsSettings {
    /// What connections are accepted with.
    ///
    /// `before` is that of the same listener until now: where neither asks for certificates, its tickets stay good, and clients
    /// come back without a full handshake. Where certificates are asked for there are no tickets: each connection proves anew
    /// that its certificate counts.
    pub fn terms(&self, before: Option<&TlsTerms>) -> TlsTerms {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the library has suites for both");
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(choice::Choice::new(&self.certificates)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        if self.clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else if let Some(before) = before.filter(|before| before.clients.is_none()) {
            config.ticketer = before.config.ticketer.clone();
            config.session_storage = before.config.session_storage.clone();
        } else {
            // Keys of its own that change every six hours and are kept nowhere.
            config.ticketer = aws_lc_rs::Ticketer::new().expect("the operating system gives random bytes");
        }
        TlsTerms {
            config: Arc::new(config),
            clients: self.clients.as_ref().map(Clients::id),
            staples: self.certificates.iter().filter_map(|one| one.staple.clone()).collect(),
        }
    }
}

/// What connections of a listener are accepted with.
#[derive(Clone, Debug)]
pub struct TlsTerms {
    config: Arc<ServerConfig>,
    clients: Option<u64>,
    staples: Arc<[Arc<staple::Staple>]>,
}

impl TlsTerms {
    /// Has stapled OCSP responses handed out for as long as they count, by this instant of the wall clock; those that have become too old
    /// since the last look. Asked every second or so, it keeps the clock out of handshakes.
    pub fn look_at_staples(&self, now: Timestamp) -> impl Iterator<Item = Expired<'_>> {
        self.staples.iter().filter_map(move |staple| staple.look(now))
    }

    /// Tells sets of authorities apart: a connection that was opened under another one proves nothing under this one. None:
    /// nobody is asked for a certificate.
    pub fn clients(&self) -> Option<u64> {
        self.clients
    }
}

/// What a handshake has settled about a connection.
#[derive(Debug)]
pub struct Secured {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The name that the client asked for (SNI), in lower case.
    pub server_name: Option<Box<str>>,
    /// What is spoken inside; absent: the client named nothing, and speaks HTTP/1.1.
    pub protocol: Option<Box<[u8]>>,
    /// What the client has proved to hold.
    pub certificate: Option<ClientCertificate>,
    /// [`TlsTerms::clients`] of the terms that it was settled under.
    pub clients: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connection::Link;
    use crate::net::streams::Streams;
    use crate::net::transport::Transport;
    use crate::net::wire::Wire;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, StreamOwned};
    use std::io::Read;
    use std::pin::{Pin, pin};
    use std::sync::mpsc::channel;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWrite};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a server and its clients speak TLS with.
    fn terms() -> (TlsTerms, Arc<ClientConfig>) {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a plain name");
        let made = params.self_signed(&key).expect("a certificate can be made");
        let own = ServerCertificate::new("a.crt", made.pem().as_bytes(), key.serialize_pem().as_bytes())
            .expect("it is sound");
        let mut roots = RootCertStore::empty();
        roots.add(made.der().clone()).expect("it is one");
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the library has suites")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (TlsSettings { certificates: vec![own], clients: None }.terms(None), Arc::new(client))
    }

    /// An exchange that waits for more of an answer only reads: what TLS holds back has to leave all the same.
    #[test]
    fn what_the_socket_did_not_take_leaves_while_the_exchange_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (terms, client) = terms();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let (read_now, told) = channel::<usize>();
            let visitor = std::thread::spawn(move || {
                let socket = std::net::TcpStream::connect(address).expect("somebody listens");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
                let name = ServerName::try_from("localhost").expect("a name");
                let session = ClientConnection::new(client, name).expect("a sound configuration");
                let mut stream = StreamOwned::new(session, socket);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).expect("TLS is settled");
                }
                let expected = told.recv().expect("the test goes on");
                stream.read_exact(&mut vec![0; expected])
            });
            let (socket, _) = listener.accept().await.expect("the visitor comes");
            let link = Arc::new(Link::new(0, None, Arc::new(Streams::default())));
            let mut wire = Wire::new(Transport::Tcp(socket), link, Duration::from_mins(1)).expect("a socket");
            wire.secure(&terms, PATIENCE, pin!(std::future::pending())).await.expect("TLS is settled");

            // Until neither the socket nor TLS takes more.
            let piece = vec![b'x'; 16 * 1024];
            let mut written = 0;
            std::future::poll_fn(|cx| {
                while let Poll::Ready(passed) = Pin::new(&mut wire).poll_write(cx, &piece) {
                    written += passed.expect("the visitor is there");
                }
                Poll::Ready(())
            })
            .await;
            read_now.send(written).expect("the visitor waits");
            let read = tokio::time::timeout(PATIENCE, wire.read(&mut [0; 1])).await;
            let seen = visitor.join().expect("the visitor does not panic");
            assert!(seen.is_ok(), "of {written} bytes the last ones did not come: {seen:?}");
            assert!(matches!(read, Ok(Ok(0))), "{read:?}");
        });
    }
}
