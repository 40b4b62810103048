//! One HTTP/2 connection's life: many exchanges at once, each with a [`Link`] of its own.
//!
//! pingora and the h2 crate read frames; what is ours are the bounds: a connection has to say hello in time, may not stay open
//! without exchanges, may not send malformed requests for ever, and no exchange whose body is awaited may come to a stop. Exchanges
//! beside the first take places like connections, the client's own among them, for each may need one to an upstream.

use crate::net::Timeouts;
use crate::net::connection::{Link, Refusal, RefusedHeads};
use crate::net::places::{Beside, Room};
use crate::net::rewound::Rewound;
use crate::net::streams::Cut;
use crate::net::transport::Transport;
use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a client that knows beforehand that HTTP/2 is spoken sends first (RFC 9113 §3.4), up to its blank line: it looks like the
/// head of a request, so that who reads heads need not look for it elsewhere.
pub(crate) const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Exchanges at once on one connection.
const STREAMS_MAX: u32 = 100;
/// What one exchange may have written that the client has not yet taken.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// What a client may send ahead on one exchange, and on all of them together.
const WINDOW_BYTES: u32 = 64 * 1024;
/// Room for every exchange: one that is not read stops none of the others.
const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * WINDOW_BYTES;
/// Malformed requests on one connection.
const MALFORMED_MAX: usize = 32;
/// RFC 9113 §7: the request was not processed and may be sent again.
const REFUSED_STREAM: u32 = 0x7;
/// How long a connection that is over may take to say so.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What exchanges are served with.
pub(crate) struct Serving<'a, A, R> {
    pub(crate) app: &'a Arc<A>,
    pub(crate) timeouts: Timeouts,
    pub(crate) stop: &'a ShutdownWatch,
    pub(crate) refused: &'a Arc<R>,
    /// For the exchanges beside the first.
    pub(crate) room: Room<'a>,
}

impl<A: HttpServerApp + Send + Sync + 'static, R: RefusedHeads + 'static> Serving<'_, A, R> {
    /// Serves until the client closes, nothing runs for the `keep_alive` of the listener, or all is done after `stop` or `max_age`.
    pub(crate) async fn serve(&self, transport: Transport, ahead: BytesMut, link: &Arc<Link>) {
        let socket = Arc::new(SocketDigest::from_raw_fd(transport.as_raw_fd()));
        let stream = Box::new(Spoken { stream: Rewound::new(ahead, transport), link: link.clone() });
        let hello = tokio::time::timeout(self.timeouts.head, handshake(stream, Some(options()))).await;
        let Ok(Ok(mut connection)) = hello else {
            self.refused.refused(link, Refusal::Http2);
            return;
        };
        let mut stop = self.stop.clone();
        let stopped = async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        tokio::pin!(stopped);
        let mut running = JoinSet::new();
        let mut next = None;
        let mut malformed = 0;
        let mut closing: Option<Instant> = None;
        let old = tokio::time::sleep(self.timeouts.max_age);
        tokio::pin!(old);
        while malformed < MALFORMED_MAX {
            let (exchange, digest) = next.get_or_insert_with(|| beside(link, &socket));
            let is_idle = running.is_empty();
            // Whoever was told that it is over has a moment to hear it.
            let is_over = closing.is_some_and(|since| since.elapsed() > CLOSE_MAX);
            if is_over && is_idle {
                return;
            }
            let patience = if closing.is_some() { CLOSE_MAX } else { self.timeouts.keep_alive };
            // Accepting is what moves every byte of the connection: nothing else is awaited here.
            let accepted = tokio::select! {
                biased;
                () = &mut stopped, if closing.is_none() => {
                    connection.graceful_shutdown();
                    closing = Some(Instant::now());
                    continue;
                }
                () = &mut old, if closing.is_none() => {
                    connection.graceful_shutdown();
                    closing = Some(Instant::now());
                    continue;
                }
                Some(taken) = running.join_next() => {
                    malformed += usize::from(matches!(taken, Ok(false)));
                    continue;
                }
                accepted = HttpSession::from_h2_conn(&mut connection, digest.clone()) => accepted,
                () = tokio::time::sleep(patience), if is_idle => {
                    if closing.is_some() {
                        return;
                    }
                    connection.graceful_shutdown();
                    closing = Some(Instant::now());
                    continue;
                }
            };
            match accepted {
                Ok(Some(H2Accept::Session(mut session))) => {
                    let place = if is_idle { None } else { self.room.take() };
                    if is_over || (place.is_none() && !is_idle) {
                        session.shutdown_with_reason(REFUSED_STREAM.into());
                        if !is_over {
                            self.refused.refused(link, Refusal::NoPlace);
                        }
                        continue;
                    }
                    let exchange = exchange.clone();
                    next = None;
                    running.spawn(self.exchange(session, exchange, place));
                }
                Ok(Some(H2Accept::Rejected)) => {
                    self.refused.refused(link, Refusal::Http2);
                    malformed += 1;
                }
                // Closed, or broken: both sides know.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// One exchange; nothing of it outlives its session. Tells whether the filters have had it.
    fn exchange(
        &self,
        session: HttpSession,
        link: Arc<Link>,
        place: Option<Beside>,
    ) -> impl Future<Output = bool> + Send + 'static {
        let (app, stop, refused) = (self.app.clone(), self.stop.clone(), self.refused.clone());
        let Timeouts { body: pause, write, .. } = self.timeouts;
        async move {
            let mut session = ServerSession::new_http2(session);
            session.set_write_timeout(Some(write));
            let has_body = !session.is_body_empty();
            let mut exchange = app.process_new_http(session, &stop);
            let mut known = None;
            tokio::select! {
                biased;
                _ = link.run(exchange.as_mut(), &mut known) => {}
                () = stands_still(&link, pause), if has_body => link.cut(Cut::Late),
            }
            drop(exchange);
            if !link.is_taken() {
                refused.refused(&link, Refusal::Http2);
            }
            drop(place);
            link.is_taken()
        }
    }
}

/// Ends when nothing has passed for so long, in either direction, while more of the body is awaited: an answer that is there does not
/// end an exchange whose request has no end.
async fn stands_still(link: &Link, pause: Duration) {
    loop {
        let passed = (link.heard(), link.told());
        tokio::time::sleep(pause).await;
        if link.has_heard_all() {
            return std::future::pending().await;
        }
        if (link.heard(), link.told()) == passed {
            return;
        }
    }
}

fn options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buffer_size(UNSENT_BYTES_MAX)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    options
}

/// The link of another exchange, and the form in which pingora carries it to the filters.
fn beside(link: &Link, socket: &Arc<SocketDigest>) -> (Arc<Link>, Arc<Digest>) {
    let exchange = Arc::new(link.beside());
    let digest = Digest {
        ssl_digest: None,
        timing_digest: Vec::new(),
        proxy_digest: Some(exchange.digest()),
        socket_digest: Some(socket.clone()),
    };
    (exchange, Arc::new(digest))
}

/// What HTTP/2 is spoken over, as pingora wants it.
#[derive(Debug)]
struct Spoken {
    stream: Rewound<Transport>,
    link: Arc<Link>,
}

impl AsyncRead for Spoken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Spoken {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Spoken {
    async fn shutdown(&mut self) {
        // The connection is being given up; that it was gone already is no news.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Spoken {
    fn id(&self) -> UniqueIDType {
        self.stream.stream.as_raw_fd()
    }
}

impl Ssl for Spoken {}

impl GetTimingDigest for Spoken {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Spoken {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.link.digest())
    }
}

impl GetSocketDigest for Spoken {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Spoken {}
