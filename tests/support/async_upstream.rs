//! Application servers that speak TLS, HTTP/2 or both, and record what reaches them.

use super::authority::{Authority, Signed};
use super::message::{Message, read_head};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};

/// What a TLS server saw of one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: Message,
    /// The name that the client asked for.
    pub(crate) server_name: Option<String>,
    /// It showed a certificate.
    pub(crate) has_certificate: bool,
}

/// HTTP/1.1 over TLS.
pub(crate) struct TlsUpstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl TlsUpstream {
    /// Shows `signed`; asks clients for a certificate of `clients`, if there is one.
    pub(crate) fn showing(signed: &Signed, clients: Option<&Authority>) -> Self {
        Self::with(server_config(signed, clients, &[]))
    }

    /// Would rather speak HTTP/2, and fails at that.
    pub(crate) fn rather_http2(signed: &Signed) -> Self {
        Self::with(server_config(signed, None, &[b"h2", b"http/1.1"]))
    }

    fn with(config: ServerConfig) -> Self {
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (seen, connections) = (Arc::new(Mutex::default()), Arc::new(Mutex::new(0)));
        let upstream = Self { address, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, seen) = (config.clone(), seen.clone());
                *connections.lock().expect("no panic under the lock") += 1;
                // Whom the gateway does not believe it leaves.
                std::thread::spawn(move || drop(serve(stream, config, &seen)));
            }
        });
        upstream
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic under the lock").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().expect("no panic under the lock")
    }
}

pub(crate) fn server_config(
    signed: &Signed,
    clients: Option<&Authority>,
    protocols: &[&[u8]],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the usual versions");
    let builder = match clients {
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.expect("there is an authority"))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(signed.chain(), signed.key()).expect("they belong together");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, seen: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut ahead = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut ahead)? {
        let one = Seen {
            head: Message { head, ..Message::default() },
            server_name: stream.conn.server_name().map(str::to_owned),
            has_certificate: stream.conn.peer_certificates().is_some(),
        };
        seen.lock().expect("no panic under the lock").push(one);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")?;
        stream.flush()?;
    }
    Ok(())
}

/// What an HTTP/2 server saw.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) authority: Option<String>,
    pub(crate) scheme: Option<String>,
    pub(crate) target: String,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// HTTP/2, with or without TLS. It answers with a body and a trailer.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<usize>>,
}

impl H2Upstream {
    pub(crate) fn start(signed: Option<&Signed>) -> Self {
        let tls = signed
            .map(|signed| tokio_rustls::TlsAcceptor::from(Arc::new(server_config(signed, None, &[b"h2"]))));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (asked, connections) = (Arc::new(Mutex::default()), Arc::new(Mutex::new(0)));
        let upstream = Self { address, asked: Arc::clone(&asked), connections: Arc::clone(&connections) };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                listener.set_nonblocking(true).expect("a socket takes it");
                let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
                while let Ok((stream, _)) = listener.accept().await {
                    *connections.lock().expect("no panic under the lock") += 1;
                    let (tls, asked) = (tls.clone(), Arc::clone(&asked));
                    tokio::spawn(async move {
                        match tls {
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    converse(stream, asked).await;
                                }
                            }
                            None => converse(stream, asked).await,
                        }
                    });
                }
            });
        });
        upstream
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic under the lock").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().expect("no panic under the lock")
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, asked: Arc<Mutex<Vec<Asked>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, asked.clone()));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(part)) = stream.data().await {
        // The connection may end while we read.
        drop(stream.flow_control().release_capacity(part.len()));
        body.extend_from_slice(&part);
    }
    asked.lock().expect("no panic under the lock").push(Asked {
        method: head.method.to_string(),
        authority: head.uri.authority().map(ToString::to_string),
        scheme: head.uri.scheme_str().map(str::to_owned),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        fields: head.headers,
        body,
    });
    let head = Response::builder().status(200).header("x-session-data", "{}").header("x-kept", "yes");
    let head = head.body(()).expect("plain");
    if let Ok(mut stream) = respond.send_response(head, false) {
        drop(stream.send_data(Bytes::from_static(b"by h2"), false));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("1"));
        drop(stream.send_trailers(trailers));
    }
}
