//! One connection's life: head, exchange, head, exchange … until somebody closes.
//!
//! The loop that pingora runs for its own listeners is ours here, because three promises hang on it: a head has one
//! deadline as a whole, what a head looks like is decided on its raw bytes, and a connection whose request was
//! refused before any filter still shows in log and counters.

use crate::domain::chunked::ChunkRejection;
use crate::domain::head::HeadRejection;
use crate::net::Timeouts;
use crate::net::wire::{HeadEnd, Wire};
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::apps::HttpServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::server::ShutdownWatch;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

/// How long one side of a WebSocket may be silent. Many only listen, so that the clocks of bodies and answers do not fit;
/// a peer that is gone without a word must still end some time.
pub const TUNNEL_PAUSE_MAX: Duration = Duration::from_hours(1);

/// What a connection and the filters of its exchanges know of each other.
#[derive(Debug)]
pub struct Link {
    listener: usize,
    peer: Option<SocketAddr>,
    /// [`Link::address`] as a header value, made once for all requests of the connection.
    shown: HeaderValue,
    taken: AtomicBool,
    tunnel: AtomicBool,
    reader: Mutex<Option<Waker>>,
    refused_body: Mutex<Option<ChunkRejection>>,
}

impl Link {
    /// A fresh connection of the listener with this number; a Unix socket has no peer address.
    pub fn new(listener: usize, peer: Option<SocketAddr>) -> Self {
        Self {
            listener,
            peer,
            shown: HeaderValue::from_str(&address_of(peer).to_string()).expect("an address is visible ASCII"),
            taken: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            reader: Mutex::new(None),
            refused_body: Mutex::new(None),
        }
    }

    /// The link of the connection that an exchange came over.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Self>> {
        digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// The number of the listener.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// The address at the other end; none on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The address to judge and log by; a Unix peer counts as loopback.
    pub fn address(&self) -> IpAddr {
        address_of(self.peer)
    }

    /// [`Link::address`], ready for a header.
    pub fn address_value(&self) -> &HeaderValue {
        &self.shown
    }

    /// The filters have the exchange: from now on they log it.
    pub fn take(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// From the next read on, bytes pass as they come: the response was a 101.
    pub fn open_tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
        if let Some(reader) = self.reader.lock().take() {
            reader.wake();
        }
    }

    /// Whether the tunnel is open; if not, its opening wakes the reader.
    pub(crate) fn is_tunnel(&self, cx: &Context<'_>) -> bool {
        if self.tunnel.load(Ordering::Acquire) {
            return true;
        }
        let mut reader = self.reader.lock();
        if !reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
        drop(reader);
        self.tunnel.load(Ordering::Acquire)
    }

    pub(crate) fn refuse_body(&self, rejection: ChunkRejection) {
        *self.refused_body.lock() = Some(rejection);
    }

    /// Why the body could not be read, if its framing was the reason.
    pub fn refused_body(&self) -> Option<ChunkRejection> {
        *self.refused_body.lock()
    }

    /// The form in which pingora carries the link to the filters.
    pub(crate) fn digest(self: &Arc<Self>) -> Arc<ProxyDigest> {
        let response = ResponseHeader::build(200, Some(0)).expect("200 is a status");
        Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(self.clone()))))
    }
}

fn address_of(peer: Option<SocketAddr>) -> IpAddr {
    peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical())
}

/// Who answers for requests that no filter ever saw.
pub trait RefusedHeads: Send + Sync {
    /// Notes the refusal and gives the whole answer to write, or nothing to close silently.
    fn refused(&self, link: &Link, refusal: Refusal) -> Option<Vec<u8>>;
}

/// Why a request never reached the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head is not one that we accept.
    Head(HeadRejection),
    /// The head did not arrive in time.
    Late,
    /// The connection broke inside the head.
    Broken,
    /// The proxy's own parser refused what our check had passed.
    Parser,
}

/// Serves requests on `wire` until it closes, `stop` turns true between two of them, or one was refused.
pub async fn serve<A: HttpServerApp + Send + Sync>(
    mut wire: Box<Wire>,
    app: &Arc<A>,
    timeouts: Timeouts,
    stop: &ShutdownWatch,
    refused: &dyn RefusedHeads,
) {
    let mut watch = stop.clone();
    let stopped = async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = watch.wait_for(|stopped| *stopped).await;
    };
    tokio::pin!(stopped);
    let link = wire.link().clone();
    let mut wait = timeouts.head;
    loop {
        let refusal = match wire.read_head(wait, timeouts.head, stopped.as_mut()).await {
            Ok((head, framing)) => {
                link.taken.store(false, Ordering::Relaxed);
                let mut exchange = ServerSession::new_http1(wire);
                exchange.set_keepalive(framing.keep_alive.then_some(timeouts.keep_alive.as_secs()));
                exchange.set_read_timeout(Some(if framing.upgrade {
                    TUNNEL_PAUSE_MAX
                } else {
                    timeouts.body
                }));
                exchange.set_write_timeout(Some(timeouts.body));
                exchange.set_pipelined_prefix(head);
                let reusable = app.process_new_http(exchange, stop).await;
                if !link.taken.load(Ordering::Relaxed) {
                    refused.refused(&link, Refusal::Parser);
                }
                let next = reusable.and_then(|reusable| reusable.consume().0.into_any().downcast().ok());
                match next {
                    Some(next) if framing.keep_alive && !framing.upgrade => {
                        wire = next;
                        wait = timeouts.keep_alive;
                        continue;
                    }
                    _ => return,
                }
            }
            Err(HeadEnd::Idle) => return,
            Err(HeadEnd::Broken) => Refusal::Broken,
            Err(HeadEnd::Late) => Refusal::Late,
            Err(HeadEnd::Refused(rejection)) => Refusal::Head(rejection),
        };
        if let Some(answer) = refused.refused(&link, refusal) {
            wire.answer_and_close(&answer).await;
        }
        return;
    }
}
