//! OCSP responses beside certificates: handed out for as long as they count, and not a moment longer.

use crate::support::tls::{Authority, Client, Pair, connect};
use crate::support::wait::{self, unix_now, until};
use crate::support::{Gateway, HOST, Setup, Upstream, command};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

/// Believes what the usual verifier believes, and notes the response that came with the certificate.
#[derive(Debug)]
struct Noting {
    inner: Arc<WebPkiServerVerifier>,
    response: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.response.lock().expect("no test panics here") = response.to_vec();
        self.inner.verify_server_cert(own, issuers, name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The response that comes with a handshake; empty: none does.
fn stapled(authority: &Authority, gateway: &Gateway) -> Vec<u8> {
    let (config, name) = Client::trusting(authority).parts();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("it is one"))
        .expect("it is an authority's");
    let provider = config.crypto_provider().clone();
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let noting = Arc::new(Noting { inner: inner.expect("it has a root"), response: Mutex::default() });
    let mut config = (*config).clone();
    config.resumption = Resumption::disabled();
    config.dangerous().set_certificate_verifier(noting.clone());
    let mut session = ClientConnection::new(Arc::new(config), name).expect("the configuration is sound");
    let mut socket = connect(gateway.address());
    while session.is_handshaking() {
        session.complete_io(&mut socket).expect("TLS is settled");
    }
    let response = noting.response.lock().expect("no test panics here");
    response.clone()
}

/// One value of DER.
fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).expect("short");
    let length = if length < 128 { vec![length] } else { vec![0x81, length] };
    [vec![tag], length, content].concat()
}

/// That this certificate is good, until then: the shortest response of RFC 6960 §4.2.1. Its signature is none, which is for clients to see.
fn response(pair: &Pair, until: i64) -> Vec<u8> {
    let der = pair.der();
    let (_, read) = x509_parser::parse_x509_certificate(&der).expect("it is one");
    let instant = |unix: i64| {
        let since = Duration::from_secs(u64::try_from(unix).expect("after 1970"));
        let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
        value(0x18, &[text.replace(['-', ':', 'T'], "").as_bytes()])
    };
    let hash = value(0x30, &[&value(0x06, &[&[0x2B, 0x0E, 0x03, 0x02, 0x1A]])]);
    let number = value(2, &[read.raw_serial()]);
    let id = value(0x30, &[&hash, &value(4, &[&[1; 20]]), &value(4, &[&[2; 20]]), &number]);
    let (this, next) = (instant(unix_now() - 3600), value(0xA0, &[&instant(until)]));
    let single = value(0x30, &[&id, &[0x80, 0], &this, &next]);
    let data = value(0x30, &[&value(0xA2, &[&value(4, &[&[3; 20]])]), &this, &value(0x30, &[&single])]);
    let basic = value(0x30, &[&data, &hash, &value(3, &[&[0, 1]])]);
    let kind = value(6, &[&[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01]]);
    value(0x30, &[&[0x0A, 1, 0], &value(0xA0, &[&value(0x30, &[&kind, &value(4, &[&basic])])])])
}

/// How often the log says this of the response.
fn said(gateway: &Gateway, what: &str) -> usize {
    gateway
        .everything()
        .iter()
        .filter(|line| line.contains("`server.crt.ocsp` has expired at ") && line.contains(what))
        .count()
}

const LEFT_OUT: &str = "and is not handed out; write a newer answer";
const TAKEN_OFF: &str = "and is no longer handed out; write a newer answer";

#[test]
fn a_response_is_left_off_when_it_expires_and_that_is_said_once() {
    let upstream = Upstream::recording();
    let authority = Authority::new("ours");
    let pair = authority.server(&[HOST]);
    let gateway = Setup::before(&upstream).with_tls(&authority).pair("server", &pair).start();
    let write = |bytes: &[u8]| {
        let folder = gateway.folder().path();
        let (file, fresh) = (folder.join("server.crt.ocsp"), folder.join("server.crt.ocsp.new"));
        std::fs::write(&fresh, bytes)
            .and_then(|()| std::fs::rename(fresh, file))
            .expect("the folder is ours");
    };
    assert_eq!(stapled(&authority, &gateway), b"");

    // Expired before it came.
    write(&response(&pair, unix_now() - 1));
    until("it is told", || (said(&gateway, LEFT_OUT) == 1).then_some(()));
    assert_eq!(stapled(&authority, &gateway), b"");
    let told = command::vestibule(gateway.folder().path(), &["check", "-c", "vestibule.yaml"], "");
    assert_eq!(
        (told.code, told.out.matches("`server.crt.ocsp` has expired at ").count()),
        (0, 1),
        "{}",
        told.out
    );

    // Another one counts.
    let sound = response(&pair, unix_now() + 86_400);
    write(&sound);
    until("it is handed out", || (stapled(&authority, &gateway) == sound).then_some(()));
    assert_eq!(said(&gateway, TAKEN_OFF), 0);

    // And one expires while it is handed out: no client gets it after that.
    let end = unix_now() + 12;
    let short = response(&pair, end);
    write(&short);
    until("it is handed out", || (stapled(&authority, &gateway) == short).then_some(()));
    until("it is left off", || stapled(&authority, &gateway).is_empty().then_some(()));
    assert!(unix_now() <= end, "a client had one that was too old");
    until("it is told", || (said(&gateway, TAKEN_OFF) == 1).then_some(()));
    until("its end has passed", || (unix_now() > end).then_some(()));
    wait::pause(Duration::from_secs(2));
    assert_eq!(stapled(&authority, &gateway), b"");
    assert_eq!((said(&gateway, TAKEN_OFF), said(&gateway, LEFT_OUT)), (1, 1));
}
