//! One connection's life: head, exchange, head, exchange … until somebody closes.
//!
//! The loop that pingora runs for its own listeners is ours here, because three promises hang on it: a head has one
//! deadline as a whole, what a head looks like is decided on its raw bytes, and a connection whose request was
//! refused before any filter still shows in log and counters.

use crate::domain::chunked::ChunkRejection;
use crate::domain::decision::Believed;
use crate::domain::head::HeadRejection;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use crate::net::Timeouts;
use crate::net::fields::{self, Head};
use crate::net::http2;
use crate::net::parting::Parting;
use crate::net::places::Room;
use crate::net::recall::{LastSession, LastToken, Recall};
use crate::net::stopping::Stopping;
use crate::net::streams::{Cut, Standing, Streams};
use crate::net::tls::{self, Secured};
use crate::net::wire::{HeadEnd, Wire};
use crate::store::revoked::RevokedTokens;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use parking_lot::{Mutex, MutexGuard};
use pingora::apps::HttpServerApp;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::server::ShutdownWatch;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

/// What a connection and the filters of its exchanges know of each other.
pub struct Link {
    listener: usize,
    peer: Option<SocketAddr>,
    /// [`Link::address`] as a header value, made once for all requests of the connection.
    shown: HeaderValue,
    taken: AtomicBool,
    /// Of the request that pingora is about to parse: its fields and, where nothing of them delimits the message or asks for more than
    /// one answer, the bytes that they can be read from again.
    fields: Mutex<Option<(HeaderMap, Option<Bytes>)>>,
    tunnel: AtomicBool,
    heard_all: AtomicBool,
    /// Bytes of the answers. One thread counts: no atomic addition.
    told: AtomicU64,
    reader: Mutex<Option<Waker>>,
    refused_body: Mutex<Option<ChunkRejection>>,
    streams: Arc<Streams>,
    /// Where in `streams`.
    place: usize,
    /// The running exchange is, or was, tied to what admits it.
    tied: AtomicBool,
    /// Bytes of the running exchange's body or tunnel that came from the visitor. One thread counts: no atomic addition.
    heard: AtomicU64,
    cut: OnceLock<Cut>,
    /// Whoever serves the connection; a cut wakes it.
    server: Mutex<Option<Waker>>,
    parting: Mutex<Option<Parting>>,
    /// There is one.
    is_parting: AtomicBool,
    last_answer: Mutex<Vec<u8>>,
    secured: OnceLock<Arc<Secured>>,
    recall: Mutex<Option<Recall>>,
    /// Where in memory the head of the running request lies. One thread writes.
    head: (AtomicUsize, AtomicUsize),
    last_token: Mutex<LastToken>,
    last_session: Mutex<LastSession>,
    /// The connection closes with the answer to the running request.
    last: AtomicBool,
    /// The peer took nothing of an answer for too long.
    stalled: AtomicBool,
}

impl Link {
    /// A fresh connection of the listener with this number; a Unix socket has no peer address.
    pub fn new(listener: usize, peer: Option<SocketAddr>, streams: Arc<Streams>) -> Self {
        Self {
            place: streams.join(),
            streams,
            heard: AtomicU64::new(0),
            cut: OnceLock::new(),
            server: Mutex::new(None),
            parting: Mutex::new(None),
            is_parting: AtomicBool::new(false),
            tied: AtomicBool::new(false),
            last_answer: Mutex::default(),
            secured: OnceLock::new(),
            recall: Mutex::new(None),
            head: (AtomicUsize::new(0), AtomicUsize::new(0)),
            last_token: Mutex::default(),
            last_session: Mutex::default(),
            last: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            listener,
            peer,
            shown: HeaderValue::from_str(&address_of(peer).to_string()).expect("an address is visible ASCII"),
            taken: AtomicBool::new(false),
            fields: Mutex::new(None),
            tunnel: AtomicBool::new(false),
            heard_all: AtomicBool::new(false),
            told: AtomicU64::new(0),
            reader: Mutex::new(None),
            refused_body: Mutex::new(None),
        }
    }

    /// The link of an exchange that runs beside others on the connection of this one.
    pub(crate) fn beside(&self) -> Self {
        let beside = Self::new(self.listener, self.peer, self.streams.clone());
        if let Some(secured) = self.secured.get() {
            // Nothing was set before.
            let _ = beside.secured.set(secured.clone());
        }
        beside
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

    /// TLS is settled.
    pub(crate) fn secure(&self, secured: Secured) {
        // A connection is secured once; it would keep what was settled first.
        let _ = self.secured.set(Arc::new(secured));
    }

    /// What TLS has settled about the connection; nothing without TLS.
    pub fn secured(&self) -> Option<&Arc<Secured>> {
        self.secured.get()
    }

    /// What the last request of the connection was given.
    pub fn recall(&self) -> MutexGuard<'_, Option<Recall>> {
        self.recall.lock()
    }

    /// Whether a field may be remembered: it is a known line's, and no part of the running request's head, all of which it would hold as
    /// long as the connection idles.
    pub fn may_remember(&self, value: &HeaderValue) -> bool {
        let (start, length) = (self.head.0.load(Ordering::Relaxed), self.head.1.load(Ordering::Relaxed));
        length > 0 && !(start..=start + length).contains(&value.as_bytes().as_ptr().addr())
    }

    /// The last bearer token of the connection.
    pub fn last_token(&self) -> MutexGuard<'_, LastToken> {
        self.last_token.lock()
    }

    /// The last session token of the connection.
    pub fn last_session(&self) -> MutexGuard<'_, LastSession> {
        self.last_session.lock()
    }

    /// The filters have the exchange: from now on they log it. Its head becomes whole, for pingora has parsed but the
    /// [`opening`](crate::net::fields). Gives what the fields can be read from again while pingora, which looks only for what
    /// delimits messages, does not miss them.
    pub fn take(&self, head: &mut RequestHeader) -> pingora::Result<Option<Bytes>> {
        self.taken.store(true, Ordering::Relaxed);
        let Some((fields, bytes)) = self.fields.lock().take() else { return Ok(None) };
        fields::complete(head, fields).map(|()| bytes)
    }

    /// Whether the filters have had the exchange.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
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

    /// Whether the connection is as old as it may get: then it closes with this answer.
    pub fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }

    pub(crate) fn note_stall(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was given up because its peer took nothing of an answer for too long.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// The running exchange passes by right of this session, and is cut when that ends; `counts_activity`: what the visitor
    /// sends meanwhile counts as use.
    pub fn tie(self: &Arc<Self>, session: Session, counts_activity: bool) {
        self.tied.store(true, Ordering::Release);
        self.streams.tie(self.place, self, session, counts_activity);
    }

    /// The running exchange passes by right of this bearer token, and is cut when that is revoked.
    pub fn tie_token(self: &Arc<Self>, token: Arc<Believed>, revoked: Arc<RevokedTokens>) {
        self.tied.store(true, Ordering::Release);
        self.streams.tie_token(self.place, self, token, revoked);
    }

    /// The running exchange, which passes by right of a bearer token, is cut at this instant too.
    pub fn end_token_at(&self, until: Timestamp) {
        self.streams.end_token_at(self.place, until);
    }

    /// The running exchange is not cut any more: it is about to end, and its answer tells how the session did.
    pub fn untie(&self) {
        if self.tied.load(Ordering::Acquire) {
            self.tied.store(false, Ordering::Release);
            self.streams.untie(self.place);
        }
    }

    /// Each configuration newer than that of this number decides again whether the running exchange may go on.
    pub fn decide_again(&self, generation: u64, standing: Standing) {
        self.streams.decide_again(self.place, generation, standing);
    }

    /// Cuts the running exchange.
    pub(crate) fn cut(&self, cut: Cut) {
        if self.cut.set(cut).is_ok()
            && let Some(server) = &*self.server.lock()
        {
            server.wake_by_ref();
        }
    }

    /// Why the running exchange was cut, if it was.
    pub fn cut_by(&self) -> Option<Cut> {
        self.cut.get().copied()
    }

    /// The answer to a request that was cut before it had one: all of it, as bytes.
    pub fn leave_answer(&self, answer: Vec<u8>) {
        *self.last_answer.lock() = answer;
    }

    /// The request's body is there, whole.
    pub fn hear_all(&self) {
        self.heard_all.store(true, Ordering::Relaxed);
    }

    /// Whether the request's body is there, whole.
    pub(crate) fn has_heard_all(&self) -> bool {
        self.heard_all.load(Ordering::Relaxed)
    }

    /// So much more of the answer goes to the visitor.
    pub fn tell(&self, bytes: usize) {
        let told = self.told.load(Ordering::Relaxed);
        self.told.store(told.wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    /// How much of the answer went to the visitor.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Bytes from the visitor have reached the exchange.
    pub fn hear(&self, bytes: usize) {
        let heard = self.heard.load(Ordering::Relaxed);
        self.heard.store(heard.wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    /// How many bytes of the running exchange's body or tunnel have come from the visitor.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// What is left of the connection after its exchange.
    pub(crate) fn hand_back(&self, parting: Parting) {
        *self.parting.lock() = Some(parting);
        self.is_parting.store(true, Ordering::Release);
    }

    /// What was left, once. Mostly nothing, which costs no lock.
    fn take_parting(&self) -> Option<Parting> {
        if self.is_parting.load(Ordering::Acquire) { self.parting.lock().take() } else { None }
    }

    /// Runs the exchange to its end; nothing comes of one that is cut. `known`: whom a cut would wake.
    pub(crate) async fn run<T>(
        &self,
        mut exchange: Pin<&mut (dyn Future<Output = Option<T>> + Send)>,
        known: &mut Option<Waker>,
    ) -> Option<T> {
        let _tied = Untie(self);
        std::future::poll_fn(|cx| {
            if !known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *self.server.lock() = Some(cx.waker().clone());
                *known = Some(cx.waker().clone());
            }
            if self.cut_by().is_some() { Poll::Ready(None) } else { exchange.as_mut().poll(cx) }
        })
        .await
    }

    /// The form in which pingora carries the link to the filters.
    pub(crate) fn digest(self: &Arc<Self>) -> Arc<ProxyDigest> {
        let response = ResponseHeader::build(200, Some(0)).expect("200 is a status");
        Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(self.clone()))))
    }
}

/// Its last holder is gone: so is the connection.
impl Drop for Link {
    fn drop(&mut self) {
        self.streams.leave(self.place);
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("listener", &self.listener)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// While it lives, exchanges may be tied; a tie holds the link.
struct Untie<'a>(&'a Link);

impl Drop for Untie<'_> {
    fn drop(&mut self) {
        self.0.untie();
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
    /// A connection or a request of HTTP/2 that is none.
    Http2,
    /// There is no place for one more exchange on a connection of HTTP/2.
    NoPlace,
}

/// Serves requests on `wire` until it closes or one was refused. Once the first of `stop` turns true, HTTP/2 says that it is over;
/// once the second does, nobody waits for another request.
///
/// Where there is `room` for the exchanges beside a connection's first, HTTP/2 is spoken too: if the handshake of TLS settled on it,
/// without TLS if the client begins with it (RFC 9113 §3).
pub async fn serve<A: HttpServerApp + Send + Sync + 'static, R: RefusedHeads + 'static>(
    mut wire: Box<Wire>,
    app: &Arc<A>,
    timeouts: Timeouts,
    [stop, end]: [&ShutdownWatch; 2],
    refused: &Arc<R>,
    room: Option<Room<'_>>,
) {
    let mut stopping = Stopping::new(end);
    let link = wire.link().clone();
    if let Some(room) = room
        && link.secured().is_some_and(|secured| secured.protocol.as_deref() == Some(tls::HTTP2))
    {
        let (transport, ahead) = wire.into_parts();
        let serving = http2::Serving { app, timeouts, stop, refused, room };
        return serving.serve(transport, ahead, &link).await;
    }
    let mut wait = timeouts.head;
    let mut known = None;
    let mut is_first = true;
    loop {
        let refusal = match wire.read_head(wait, timeouts.head, &mut stopping).await {
            Ok(Head { opening, fields, framing, bytes }) => {
                let is_old = wire.age() >= timeouts.max_age;
                let keep_alive = framing.keep_alive && !is_old;
                link.last.store(is_old, Ordering::Relaxed);
                link.head.0.store(bytes.as_ptr().addr(), Ordering::Relaxed);
                link.head.1.store(bytes.len(), Ordering::Relaxed);
                *link.fields.lock() = Some((fields, framing.is_plain().then_some(bytes)));
                link.taken.store(false, Ordering::Relaxed);
                link.heard.store(0, Ordering::Relaxed);
                let mut exchange = ServerSession::new_http1(wire);
                exchange.set_keepalive(keep_alive.then_some(timeouts.keep_alive.as_secs()));
                // A tunnel has another clock, of its upstream; for writing the wire has one.
                exchange.set_read_timeout(Some(timeouts.body));
                exchange.set_pipelined_prefix(opening);
                let mut exchange = app.process_new_http(exchange, stop);
                let reusable = link.run(exchange.as_mut(), &mut known).await;
                // A cut exchange gives the connection back as it is dropped.
                drop(exchange);
                if !link.taken.load(Ordering::Relaxed) && link.cut_by().is_none() {
                    refused.refused(&link, Refusal::Parser);
                }
                if let Some(parting) = link.take_parting() {
                    let answer = std::mem::take(&mut *link.last_answer.lock());
                    // While the server stops, nobody waits long for those who go on sending what is answered.
                    let stops = *stop.borrow();
                    parting.close(&answer, stops).await;
                    return;
                }
                let next = reusable.and_then(|reusable| reusable.consume().0.into_any().downcast().ok());
                match next {
                    Some(next) if keep_alive && !framing.upgrade => {
                        wire = next;
                        wait = timeouts.keep_alive;
                        is_first = false;
                        continue;
                    }
                    _ => return,
                }
            }
            Err(HeadEnd::Idle) => return wire.close().await,
            Err(HeadEnd::Broken) => Refusal::Broken,
            Err(HeadEnd::Late) => Refusal::Late,
            Err(HeadEnd::Refused(rejection)) => Refusal::Head(rejection),
            Err(HeadEnd::Http2) => match room {
                Some(room) if is_first && link.secured().is_none() => {
                    let (transport, rest) = wire.into_parts();
                    let ahead = [http2::PREFACE_HEAD, &rest].concat();
                    let serving = http2::Serving { app, timeouts, stop, refused, room };
                    return serving.serve(transport, BytesMut::from(&*ahead), &link).await;
                }
                _ => Refusal::Head(HeadRejection::Version),
            },
        };
        if let Some(answer) = refused.refused(&link, refusal) {
            wire.answer_and_close(&answer).await;
        }
        return;
    }
}
