//! A client that speaks HTTP/2 from the first byte on.

use super::client::{HOST, Wire};
use super::tls::Client;
use super::wait;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// The client's connection preface (RFC 9113 §3.4) and an empty SETTINGS frame.
pub(crate) const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One connection and the runtime that moves its bytes.
pub(crate) struct Http2 {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    over: JoinHandle<Result<(), h2::Error>>,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// Why it broke off, if it did.
    pub(crate) reset: Option<Reason>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An exchange whose request has no end yet.
pub(crate) struct Exchange {
    pub(crate) request: SendStream<Bytes>,
    pub(crate) response: ResponseFuture,
}

impl Http2 {
    /// Connects and greets without TLS.
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(async move { tokio::net::TcpStream::connect(address).await })
            .expect("the gateway listens and speaks HTTP/2")
    }

    /// Connects with TLS, which has to settle on HTTP/2, and greets.
    pub(crate) fn with_tls(address: SocketAddr, client: &Client) -> io::Result<Self> {
        let (config, name) = client.clone().offering(&[b"h2"]).parts();
        Self::over(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            Ok(stream)
        })
    }

    fn over<S>(connecting: impl Future<Output = io::Result<S>>) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let (send, over) = runtime.block_on(async {
            let stream = connecting.await?;
            let (send, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((send, tokio::spawn(connection)))
        })?;
        Ok(Self { runtime, send, over })
    }

    /// Runs the connection until `future` is ready.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        let patient = async { tokio::time::timeout(wait::PATIENCE, future).await };
        self.runtime.block_on(patient).expect("the gateway answers in time")
    }

    /// Sends a request's head; `fields` follow in this order.
    pub(crate) fn begin(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        is_all: bool,
    ) -> Exchange {
        self.try_begin(&format!("http://{HOST}{target}"), method, fields, is_all).expect("the stream opens")
    }

    /// The same to any URI.
    pub(crate) fn try_begin(
        &self,
        uri: &str,
        method: &str,
        fields: &[(&str, &str)],
        is_all: bool,
    ) -> Result<Exchange, h2::Error> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        self.wait(async {
            let mut send = self.send.clone().ready().await?;
            let (response, request) = send.send_request(request, is_all)?;
            Ok(Exchange { request, response })
        })
    }

    /// Reads an answer to its end, or to where it breaks off.
    pub(crate) fn finish(&self, response: ResponseFuture) -> Result<Reply, h2::Error> {
        self.wait(async {
            let (head, body) = response.await?.into_parts();
            let mut reply = Reply {
                status: head.status,
                headers: head.headers,
                body: Vec::new(),
                trailers: None,
                reset: None,
            };
            match read_all(body, &mut reply.body).await {
                Ok(trailers) => reply.trailers = trailers,
                Err(error) => reply.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR)),
            }
            Ok(reply)
        })
    }

    /// A request without a body and its answer.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
        let exchange = self.begin(method, target, fields, true);
        self.finish(exchange.response).expect("an answer")
    }

    pub(crate) fn get(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        self.ask("GET", target, fields)
    }

    /// A request with a body, sent as the gateway makes room for it.
    pub(crate) fn send(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let Exchange { mut request, response } = self.begin(method, target, fields, false);
        self.wait(async {
            let mut left = body;
            while !left.is_empty() {
                request.reserve_capacity(left.len());
                // Whoever has been answered already may be told to stop.
                let Some(Ok(room)) = std::future::poll_fn(|cx| request.poll_capacity(cx)).await else {
                    return;
                };
                let room = room.min(left.len());
                if request.send_data(Bytes::copy_from_slice(&left[..room]), room == left.len()).is_err() {
                    return;
                }
                left = &left[room..];
            }
            if body.is_empty() {
                let _ = request.send_data(Bytes::new(), true);
            }
        });
        self.finish(response).expect("an answer")
    }

    /// Whether the gateway ends the connection in time.
    pub(crate) fn ends(self) -> bool {
        let Self { runtime, send, over } = self;
        let _open = send;
        runtime.block_on(async { tokio::time::timeout(wait::PATIENCE, over).await }).is_ok()
    }
}

async fn read_all(mut body: RecvStream, into: &mut Vec<u8>) -> Result<Option<HeaderMap>, h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        into.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    body.trailers().await
}

/// A frame (RFC 9113 §4.1) with everything as the test says.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A HEADERS frame that ends its request: each field as a literal without indexing (RFC 7541 §6.2.2), whatever it says.
pub(crate) fn headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, 0b101, stream, &block)
}

/// The kind, the stream and the payload of the next frame; nothing if the connection ends.
pub(crate) fn next_frame(wire: &mut Wire) -> Option<(u8, u32, Vec<u8>)> {
    let head = wire.try_read_exactly(9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes([head[5] & 0x7F, head[6], head[7], head[8]]);
    Some((head[3], stream, wire.try_read_exactly(length as usize)?))
}
