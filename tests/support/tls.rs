//! Certificates of the tests' own making, and a client's end of TLS.

use super::wait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provided};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// SHA-256 of the certificate in hex.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der());
        digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// The certificate as it stands on the wire.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it is one")
    }
}

/// An authority that issues certificates.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(&[], &[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("a certificate can be made").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server of these names.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        self.issue(&params(names, &[(DnType::CommonName, "a server")]))
    }

    /// One whose last day is this.
    pub(crate) fn server_until(&self, names: &[&str], (year, month, day): (i32, u8, u8)) -> Pair {
        let mut params = params(names, &[]);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        self.issue(&params)
    }

    /// A certificate for somebody of this name.
    pub(crate) fn client(&self, name: &str) -> Pair {
        self.issue(&params(&[], &[(DnType::OrganizationName, "Example"), (DnType::CommonName, name)]))
    }

    fn issue(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key can be made");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        Pair { certificate: made.pem(), key: key.serialize_pem() }
    }
}

fn params(names: &[&str], subject: &[(DnType, &str)]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("plain names");
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(provided::default_provider())
}

/// How a client speaks TLS.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl Client {
    /// One that believes this authority and asks for the usual host; it comes back without a full handshake if it may.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::built(authority, None, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// The same with a certificate of its own.
    pub(crate) fn showing(authority: &Authority, own: &Pair) -> Self {
        Self::built(authority, Some(own), &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// The same that speaks TLS 1.2 alone.
    pub(crate) fn of_1_2(authority: &Authority) -> Self {
        Self::built(authority, None, &[&rustls::version::TLS12])
    }

    fn built(
        authority: &Authority,
        own: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("it is one");
        roots.add(trusted).expect("it is an authority's");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the library knows them")
            .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("it is one");
                builder.with_client_auth_cert(vec![own.der()], key).expect("the key fits")
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(16);
        let server_name = ServerName::try_from(super::HOST).expect("a name");
        Self { config: Arc::new(config), server_name }
    }

    /// The same that asks for another host.
    pub(crate) fn asking_for(self, name: &str) -> Self {
        let server_name = ServerName::try_from(name.to_owned()).expect("a name");
        Self { server_name, ..self }
    }

    /// The same that offers these protocols.
    pub(crate) fn offering(self, protocols: &[&[u8]]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { config: Arc::new(config), ..self }
    }

    /// What another library needs to speak TLS in the same way.
    pub(crate) fn parts(self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (self.config, self.server_name)
    }

    /// Connects and settles TLS. Whether the gateway takes the client's certificate shows with the first read.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Line> {
        let socket = connect(address);
        let mut session = ClientConnection::new(self.config.clone(), self.server_name.clone())
            .expect("the configuration is sound");
        let mut socket = socket;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Line::Tls(Box::new(StreamOwned::new(session, socket))))
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    prepared(TcpStream::connect(address).expect("the gateway listens"))
}

/// With the bounds and options that every connection of the tests has.
pub(crate) fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("an option can be set");
    stream
}

/// A connection, with TLS or without.
pub(crate) enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// What TLS has settled; there must be some.
    pub(crate) fn session(&self) -> &ClientConnection {
        match self {
            Self::Plain(_) => panic!("this connection has no TLS"),
            Self::Tls(stream) => &stream.conn,
        }
    }

    pub(crate) fn set_read_timeout(&self, span: Option<Duration>) -> io::Result<()> {
        self.socket().set_read_timeout(span)
    }

    /// Tells the other side that nothing more comes.
    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
