//! One HTTP/2 connection's life: many exchanges at once, each with a [`Link`] of its own.
//!
//! pingora and the h2 crate read frames; what is ours are the bounds: a connection has to say hello in time, may not stay open
//! without exchanges, may not send malformed requests for ever, and no body may come to a stop. Exchanges beside the
//! first take slots like connections, for each may need one to an upstream.

use crate::net::Timeouts;
use crate::net::connection::{Link, Refusal, RefusedHeads};
use crate::net::streams::Cut;
use crate::net::transport::Transport;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// What a client that knows beforehand that HTTP/2 is spoken sends first (RFC 9113 §3.4), up to its blank line: it looks like the
/// head of a request, so that who reads heads need not look for it elsewhere.
pub(crate) const PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Exchanges at once on one connection.
const STREAMS_MAX: u32 = 100;
/// What one exchange may have written that the client has not yet taken.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// What a client may send ahead on one exchange, and on all of them together.
const WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
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
    /// One for each exchange beside the first.
    pub(crate) slots: &'a Arc<Semaphore>,
}

impl<A: HttpServerApp + Send + Sync + 'static, R: RefusedHeads + 'static> Serving<'_, A, R> {
    /// Serves until the client closes, nothing runs for the `keep_alive` of the listener, or all is done after `stop` or `max_age`.
    pub(crate) async fn serve(&self, transport: Transport, ahead: BytesMut, link: &Arc<Link>) {
        let socket = Arc::new(SocketDigest::from_raw_fd(transport.as_raw_fd()));
        let stream = Box::new(Preread { transport, ahead, link: link.clone() });
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
        let (mut malformed, mut closing) = (0, false);
        let old = tokio::time::sleep(self.timeouts.max_age);
        tokio::pin!(old);
        loop {
            let (exchange, digest) = next.get_or_insert_with(|| beside(link, &socket));
            let patience = if closing { CLOSE_MAX } else { self.timeouts.keep_alive };
            let is_idle = running.is_empty();
            // Accepting is what moves every byte of the connection: nothing else is awaited here.
            let accepted = tokio::select! {
                biased;
                () = &mut stopped, if !closing => {
                    connection.graceful_shutdown();
                    closing = true;
                    continue;
                }
                () = &mut old, if !closing => {
                    connection.graceful_shutdown();
                    closing = true;
                    continue;
                }
                Some(_) = running.join_next() => continue,
                accepted = HttpSession::from_h2_conn(&mut connection, digest.clone()) => accepted,
                () = tokio::time::sleep(patience), if is_idle => {
                    if closing {
                        return;
                    }
                    connection.graceful_shutdown();
                    closing = true;
                    continue;
                }
            };
            match accepted {
                Ok(Some(H2Accept::Session(mut session))) => {
                    let slot = if is_idle { None } else { self.slots.clone().try_acquire_owned().ok() };
                    if slot.is_none() && !is_idle {
                        session.shutdown_with_reason(REFUSED_STREAM.into());
                        continue;
                    }
                    let exchange = exchange.clone();
                    next = None;
                    running.spawn(self.exchange(session, exchange, slot));
                }
                Ok(Some(H2Accept::Rejected)) => {
                    self.refused.refused(link, Refusal::Http2);
                    malformed += 1;
                    if malformed >= MALFORMED_MAX {
                        return;
                    }
                }
                // Closed, or broken: both sides know.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// One exchange; nothing of it outlives its session, and no body may come to a stop in it.
    fn exchange(
        &self,
        session: HttpSession,
        link: Arc<Link>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = ()> + Send + 'static {
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
                () = body_stops(&link, pause), if has_body => link.cut(Cut::Late),
            }
            drop(exchange);
            if !link.is_taken() {
                refused.refused(&link, Refusal::Http2);
            }
            drop(slot);
        }
    }
}

/// Ends when nothing of a body that is still awaited has come for so long.
async fn body_stops(link: &Link, pause: Duration) {
    loop {
        let heard = link.heard();
        tokio::time::sleep(pause).await;
        if link.is_done_hearing() {
            return std::future::pending().await;
        }
        if link.heard() == heard {
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

/// A transport of which some bytes were read already.
#[derive(Debug)]
struct Preread {
    transport: Transport,
    ahead: BytesMut,
    link: Arc<Link>,
}

impl AsyncRead for Preread {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.transport).poll_read(cx, buf);
        }
        let ready = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..ready]);
        self.ahead.advance(ready);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Preread {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Preread {
    async fn shutdown(&mut self) {
        // The connection is being given up; that it was gone already is no news.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Preread {
    fn id(&self) -> UniqueIDType {
        self.transport.as_raw_fd()
    }
}

impl Ssl for Preread {}

impl GetTimingDigest for Preread {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Preread {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.link.digest())
    }
}

impl GetSocketDigest for Preread {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Preread {}
