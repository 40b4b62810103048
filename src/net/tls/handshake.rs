//! One handshake: a socket, maybe with bytes that were read before, → TLS on it, or why not.

use super::{Secured, TlsTerms, shown};
use crate::domain::certificate::ClientCertificate;
use crate::net::rewound::Rewound;
use rustls::server::ServerConnection;
use rustls::{Error, PeerIncompatible, ProtocolVersion};
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of every client's first message (RFC 8446 §5.1): a record with a handshake.
const HANDSHAKE: u8 = 22;

/// The whole answer to a request that came without TLS.
pub const SPEAKS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 49\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n\
    This port speaks TLS; ask for an https:// address";

/// Why there is no TLS on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeEnd {
    /// The connection ended before a byte came, or the server stops.
    Idle,
    /// The client speaks HTTP without TLS.
    PlainText,
    /// The handshake did not end in time.
    Late,
    /// It failed; why, is a word for the counter.
    Failed(&'static str),
}

impl HandshakeEnd {
    /// A word for log and counter; none where nothing was asked.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Idle => None,
            Self::PlainText => Some("plain_text"),
            Self::Late => Some("late"),
            Self::Failed(reason) => Some(reason),
        }
    }
}

/// What the first byte says before anybody else looks at it.
pub(crate) fn begins(first: u8) -> Result<(), HandshakeEnd> {
    match first {
        HANDSHAKE => Ok(()),
        // A method.
        b'A'..=b'Z' => Err(HandshakeEnd::PlainText),
        _ => Err(HandshakeEnd::Failed("no_tls")),
    }
}

/// Settles TLS.
pub(crate) async fn settle(
    socket: Rewound<TcpStream>,
    terms: &TlsTerms,
) -> Result<(Box<TlsStream<Rewound<TcpStream>>>, Secured), HandshakeEnd> {
    let acceptor = TlsAcceptor::from(terms.config.clone());
    let stream = acceptor.accept(socket).await.map_err(|error| HandshakeEnd::Failed(word(&error)))?;
    let session = stream.get_ref().1;
    let secured = Secured {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        server_name: session.server_name().map(|name| name.to_ascii_lowercase().into()),
        protocol: session.alpn_protocol().map(Into::into),
        certificate: certificate_of(session)?,
        clients: terms.clients,
    };
    Ok((Box::new(stream), secured))
}

/// The certificate that the client has proved to hold; it was verified before the handshake came to its end.
fn certificate_of(session: &ServerConnection) -> Result<Option<ClientCertificate>, HandshakeEnd> {
    let Some(der) = session.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    shown::certificate_of(der).map(Some).ok_or(HandshakeEnd::Failed("client_certificate"))
}

fn word(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => "closed",
        // The last: an extension that every client of TLS 1.2 and newer sends (RFC 5246 §7.4.1.4.1, RFC 8446 §4.2.3).
        Some(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        )) => "version",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => "client_certificate",
        Some(Error::NoApplicationProtocol) => "protocol",
        Some(Error::AlertReceived(_)) => "alert",
        Some(_) => "malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_text_is_as_long_as_it_says() {
        let text = std::str::from_utf8(SPEAKS_TLS).expect("it is ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }

    #[test]
    fn the_first_byte_tells_who_speaks() {
        for (first, expected) in [
            (22, Ok(())),
            (b'G', Err(HandshakeEnd::PlainText)),
            (0, Err(HandshakeEnd::Failed("no_tls"))),
            (b'\r', Err(HandshakeEnd::Failed("no_tls"))),
        ] {
            assert_eq!(begins(first), expected, "{first}");
        }
    }
}
