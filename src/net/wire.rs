//! One HTTP/1 connection as pingora sees it: exactly one delimited request at a time.
//!
//! [`Wire`] reads a request's head itself, whole and under one deadline, and has it checked and taken apart as it came over the
//! network ([`fields`]); pingora parses what that leaves to it. Of the
//! body it hands on what the head declared and not a byte more; a chunked one is scanned strictly on its way. What follows stays
//! in the wire's own buffer for the next request, so pipelined requests are answered in order and no byte of one request can
//! become part of another.
//!
//! After a `101` the wire becomes a tunnel ([`Link::open_tunnel`]) and passes bytes as they come.

use crate::domain::chunked::ChunkScanner;
use crate::domain::head::{self, Body, HeadRejection};
use crate::net::connection::Link;
use crate::net::fields::{self, Head};
use crate::net::http2::PREFACE_HEAD;
use crate::net::known::Known;
use crate::net::outgoing::Outgoing;
use crate::net::parting::Parting;
use crate::net::rewound::Rewound;
use crate::net::stopping::Stopping;
use crate::net::tls::handshake;
use crate::net::tls::{HandshakeEnd, TlsTerms};
use crate::net::transport::Transport;
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How much is read at once; also the first size of a head's buffer.
const READ_BYTES: usize = 4096;
/// Small writes are gathered up to this size, so that a head and a short body leave in one packet.
const GATHER_BYTES: usize = 4096;
/// How much is read ahead of a request that is still being answered.
const AHEAD_BYTES_MAX: usize = head::HEAD_BYTES_MAX;

/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// Why there is a transport.
const TRANSPORT: &str = "only dropping the wire takes it away, or a handshake that failed";

/// What [`Wire::read_head`] may come to.
#[derive(Debug)]
pub enum HeadEnd {
    /// The connection is over and nothing was asked: closed, idle for too long, or the server stops.
    Idle,
    /// The head did not arrive in time.
    Late,
    /// The connection broke inside a head.
    Broken,
    /// The client has begun to speak HTTP/2: its preface up to [`PREFACE_HEAD`] is read.
    Http2,
    /// The head is not one that we accept; the bytes read so far, for the log's first line.
    Refused(HeadRejection),
}

#[derive(Debug)]
enum Phase {
    /// Between two requests.
    Idle,
    /// Inside a body of so many more bytes.
    Length(u64),
    /// Inside a chunked body.
    Chunked(ChunkScanner),
    /// The request is read; only the connection's end is still told.
    Done,
    /// After a 101.
    Tunnel,
}

/// A connection that yields one request at a time.
pub struct Wire {
    /// There until the wire is dropped, but while TLS is being settled.
    transport: Option<Transport>,
    link: Arc<Link>,
    digest: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
    phase: Phase,
    /// Read, not yet handed on.
    ahead: BytesMut,
    /// The field lines that came before.
    known: Known,
    /// Written, not yet sent.
    gathered: BytesMut,
    /// What was written in answer to the request.
    outgoing: Outgoing,
    /// One timer for the connection's life; armed for later only when it fires early.
    timer: Pin<Box<Sleep>>,
    /// How long the peer may take for a part that it does not take at once.
    write_time_max: Duration,
    /// When that time is over; none while the peer takes each part at once.
    stalled_until: Option<Instant>,
    /// When the connection began, and the latest instant that was read since.
    began: Instant,
    seen: Instant,
}

impl Wire {
    /// Wraps a fresh connection, whose peer has `write_time_max` for each part of what is written.
    pub fn new(transport: Transport, link: Arc<Link>, write_time_max: Duration) -> io::Result<Self> {
        transport.set_nodelay()?;
        let fd = transport.as_raw_fd();
        let now = Instant::now();
        Ok(Self {
            write_time_max,
            stalled_until: None,
            began: now,
            seen: now,
            transport: Some(transport),
            digest: link.digest(),
            link,
            socket: Arc::new(SocketDigest::from_raw_fd(fd)),
            phase: Phase::Idle,
            ahead: BytesMut::new(),
            known: Known::default(),
            gathered: BytesMut::new(),
            outgoing: Outgoing::default(),
            timer: Box::pin(tokio::time::sleep(Duration::from_mins(1))),
        })
    }

    /// What the filters and the connection share.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Settles TLS on a fresh connection; what was read ahead belongs to it. `within` bounds the whole, `stop` ends only the wait
    /// for a first byte.
    pub async fn secure(
        &mut self,
        terms: &TlsTerms,
        within: Duration,
        stop: Pin<&mut (dyn Future<Output = ()> + Send)>,
    ) -> Result<(), HandshakeEnd> {
        let settling = async {
            if self.ahead.is_empty() {
                tokio::select! {
                    read = std::future::poll_fn(|cx| self.poll_fill(cx)) => {
                        read.map_err(|_| HandshakeEnd::Idle)?;
                    }
                    () = stop => {}
                }
            }
            handshake::begins(*self.ahead.first().ok_or(HandshakeEnd::Idle)?)?;
            let Some(Transport::Tcp(socket)) = self.transport.take() else {
                return Err(HandshakeEnd::Failed("no_tls"));
            };
            let socket = Rewound::new(std::mem::take(&mut self.ahead), socket);
            handshake::settle(socket, terms).await
        };
        let settled = tokio::time::timeout(within, settling).await.unwrap_or(Err(HandshakeEnd::Late));
        let (stream, secured) = settled?;
        self.transport = Some(Transport::Tls(stream));
        self.link.secure(secured);
        Ok(())
    }

    /// Says goodbye where that is a thing to say: TLS tells its end from a cut line.
    pub async fn close(mut self: Box<Self>) {
        if let Some(Transport::Tls(stream)) = &mut self.transport {
            // Whatever happens to a connection that is being closed, it is closed.
            let _ = tokio::time::timeout(GOODBYE_MAX, stream.shutdown()).await;
        }
    }

    /// How old the connection is, as of the beginning of the head that was read last.
    pub fn age(&self) -> Duration {
        self.seen - self.began
    }

    /// Reads one request head, whole, and delimits what belongs to it.
    ///
    /// `idle` bounds the wait for its first byte, `head` the time from there to its last; `stop` ends only
    /// the wait for a first byte. Bytes that came along with the request before count as the first.
    pub async fn read_head(
        &mut self,
        idle: Duration,
        head: Duration,
        stop: &mut Stopping,
    ) -> Result<Head, HeadEnd> {
        self.seen = Instant::now();
        let mut has_begun = !self.ahead.is_empty();
        let mut until = self.seen + if has_begun { head } else { idle };
        let (mut scanned, mut has_skipped) = (0, false);
        loop {
            // One empty line before a request line is ignored (RFC 9112 §2.2); more would be a way to say nothing for ever.
            if !has_skipped && self.ahead.starts_with(b"\r\n") {
                self.ahead.advance(2);
                has_skipped = true;
            }
            if let Some(end) = head::find_end(&self.ahead, scanned) {
                let bytes = if end == self.ahead.len() {
                    std::mem::take(&mut self.ahead)
                } else {
                    self.ahead.split_to(end)
                };
                let bytes = bytes.freeze();
                let head = fields::read(&bytes, &mut self.known).map_err(|rejection| {
                    if bytes == PREFACE_HEAD { HeadEnd::Http2 } else { HeadEnd::Refused(rejection) }
                })?;
                self.phase = match head.framing.body {
                    Body::None | Body::Length(0) => Phase::Done,
                    Body::Length(length) => Phase::Length(length),
                    Body::Chunked => Phase::Chunked(ChunkScanner::default()),
                };
                self.outgoing = Outgoing::default();
                return Ok(head);
            }
            if self.ahead.len() >= head::HEAD_BYTES_MAX {
                return Err(HeadEnd::Refused(HeadRejection::HeadTooLong));
            }
            scanned = self.ahead.len().saturating_sub(3);
            let waiting = self.ahead.is_empty();
            if waiting {
                // What the last request came in may have been large, and is held as long as a handle to its end is.
                self.ahead = BytesMut::new();
            }
            let read = std::future::poll_fn(|cx| {
                if let Poll::Ready(read) = self.poll_fill(cx) {
                    return Poll::Ready(
                        read.map_err(|_| if waiting { HeadEnd::Idle } else { HeadEnd::Broken }),
                    );
                }
                if self.poll_deadline(cx, until).is_ready() {
                    return Poll::Ready(Err(if waiting { HeadEnd::Idle } else { HeadEnd::Late }));
                }
                if waiting && stop.poll(cx).is_ready() {
                    return Poll::Ready(Err(HeadEnd::Idle));
                }
                Poll::Pending
            })
            .await?;
            match (read, waiting) {
                (0, true) => return Err(HeadEnd::Idle),
                (0, false) => return Err(HeadEnd::Broken),
                _ if !has_begun => {
                    has_begun = true;
                    self.seen = Instant::now();
                    until = self.seen + head;
                }
                _ => {}
            }
        }
    }

    /// Writes a last answer, then closes gently: the peer has a moment to read it before a reset could take it away.
    pub async fn answer_and_close(mut self: Box<Self>, answer: &[u8]) {
        let lingering = async {
            self.write_all(answer).await?;
            self.flush().await?;
            self.transport().shutdown().await?;
            self.ahead.clear();
            for _ in 0..64 {
                if std::future::poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                    break;
                }
                self.ahead.clear();
            }
            io::Result::Ok(())
        };
        // Whatever happens to a connection that is being closed, it is closed.
        let _ = tokio::time::timeout(Duration::from_secs(2), lingering).await;
    }

    /// Gives up reading heads: the socket, and what was read of it and not handed on.
    pub(crate) fn into_parts(mut self) -> (Transport, BytesMut) {
        (self.transport.take().expect(TRANSPORT), std::mem::take(&mut self.ahead))
    }

    /// The socket below.
    fn transport(&mut self) -> &mut Transport {
        self.transport.as_mut().expect(TRANSPORT)
    }

    /// Reads once into the buffer; the buffer is allocated only when there is something to read.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { transport: Some(transport), ahead, .. } = self else { return Poll::Ready(Ok(0)) };
        transport.poll_fill(cx, ahead, READ_BYTES)
    }

    /// Ready once `until` has passed. The timer is left where it stands while it fires no later than `until`.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        loop {
            if self.timer.deadline() > until {
                self.timer.as_mut().reset(until);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
    }

    fn poll_transport_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.transport()).poll_read(cx, buf)
    }

    /// Writes what the peer takes of a part. One that has not taken all of it in time is given up, whoever waits for the write; one that takes
    /// a byte now and then has no more time for it.
    fn poll_transport_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(self.transport()).poll_write(cx, bytes) {
            if written.as_ref().is_ok_and(|written| *written == bytes.len()) {
                self.stalled_until = None;
            }
            return Poll::Ready(written);
        }
        let until = *self.stalled_until.get_or_insert_with(|| Instant::now() + self.write_time_max);
        ready!(self.poll_deadline(cx, until));
        self.link.note_stall();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + bytes.len() > GATHER_BYTES {
            ready!(self.poll_gathered(cx))?;
            if bytes.len() > GATHER_BYTES {
                return self.poll_transport_write(cx, bytes);
            }
        }
        if self.gathered.capacity() == 0 {
            // At once for the head and what follows it.
            self.gathered.reserve(GATHER_BYTES);
        }
        self.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            let written = self.poll_transport_write(cx, &gathered);
            self.gathered = gathered;
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gathered.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Everything that was written is with the system.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        Pin::new(self.transport()).poll_flush(cx)
    }

    fn read_length(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        let had = buf.filled().len();
        if self.ahead.is_empty() && left >= buf.remaining() as u64 {
            ready!(self.poll_transport_read(cx, buf))?;
        } else {
            // The last part may have the next request behind it, which must not get into `buf`.
            if self.ahead.is_empty() && ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining());
            let ready = most.min(self.ahead.len());
            buf.put_slice(&self.ahead.split_to(ready));
        }
        let read = buf.filled().len() - had;
        let left = left - read as u64;
        self.phase = if left == 0 { Phase::Done } else { Phase::Length(left) };
        Poll::Ready(Ok(()))
    }

    fn read_chunked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() && ready!(self.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let Phase::Chunked(scanner) = &mut self.phase else { return Poll::Ready(Ok(())) };
        let most = self.ahead.len().min(buf.remaining());
        match scanner.feed(&self.ahead[..most]) {
            Ok(fed) => {
                buf.put_slice(&self.ahead.split_to(fed.consumed));
                if fed.done {
                    self.phase = Phase::Done;
                }
                Poll::Ready(Ok(()))
            }
            Err(rejection) => {
                self.link.refuse_body(rejection);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, rejection)))
            }
        }
    }

    /// The request is read: tells the connection's end, and keeps what comes for the next one.
    fn read_after_end(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.link.is_tunnel(cx) {
            self.phase = Phase::Tunnel;
            return self.read_tunnel(cx, buf);
        }
        while self.ahead.len() < AHEAD_BYTES_MAX {
            let had = self.ahead.len();
            if ready!(self.poll_fill(cx))? == 0 {
                // The end is told at once only where nothing waits before it.
                return if had == 0 { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
        Poll::Pending
    }

    fn read_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.poll_transport_read(cx, buf);
        }
        let ready = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(ready));
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        if !wire.gathered.is_empty() || wire.transport().holds_back() {
            // The exchange waits: the head of an answer whose body takes its time does not wait with it. A failure shows
            // again where the next bytes are written.
            let _ = wire.poll_sent(cx);
        }
        let had = buf.filled().len();
        ready!(match wire.phase {
            Phase::Length(left) => wire.read_length(cx, buf, left),
            Phase::Chunked(_) => wire.read_chunked(cx, buf),
            Phase::Idle | Phase::Done => wire.read_after_end(cx, buf),
            Phase::Tunnel => wire.read_tunnel(cx, buf),
        })?;
        wire.link.hear(buf.filled().len() - had);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let passed = ready!(self.poll_gather(cx, bytes))?;
        self.outgoing.passed(&bytes[..passed]);
        Poll::Ready(Ok(passed))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        // An idle connection keeps no buffer.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        Pin::new(self.transport()).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // The connection is being given up; that it was gone already is no news.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.transport.as_ref().expect(TRANSPORT).as_raw_fd()
    }
}

impl Ssl for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

/// Carries the [`Link`] to the filters: the digest is the one thing of a connection that they can see.
impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl Peek for Wire {}

/// The wire of an exchange that was cut, or answered before its request was read, is dropped with it, somewhere inside pingora.
/// What is left goes back through the link, so that whoever serves the connection can close it properly.
impl Drop for Wire {
    fn drop(&mut self) {
        let is_cut = self.link.cut_by().is_some();
        let is_unread = matches!(self.phase, Phase::Length(_) | Phase::Chunked(_));
        if (is_cut || is_unread)
            && let Some(transport) = self.transport.take()
        {
            let unsent = std::mem::take(&mut self.gathered);
            self.link.hand_back(Parting { transport, unsent, outgoing: self.outgoing, is_cut });
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("peer", &self.link.peer())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::streams::Streams;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    const WRITE_TIME: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_peer_that_takes_a_little_now_and_then_is_given_up() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let link = Arc::new(Link::new(0, None, Arc::new(Streams::default())));
        let mut wire = Wire::new(Transport::Unix(ours), link.clone(), WRITE_TIME).expect("a socket");
        let taking = tokio::spawn(async move {
            let mut part = vec![0; 16 * 1024];
            while theirs.read(&mut part).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let began = Instant::now();
        let written = tokio::time::timeout(WRITE_TIME * 20, wire.write_all(&vec![0; 64 << 20])).await;
        let error = written.expect("it is not written on and on").expect_err("it is not taken in time");
        assert_eq!((error.kind(), link.is_stalled()), (io::ErrorKind::TimedOut, true));
        assert!(began.elapsed() >= WRITE_TIME);
        taking.abort();
    }

    #[tokio::test]
    async fn a_peer_that_takes_each_part_in_time_takes_as_long_as_it_likes() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let link = Arc::new(Link::new(0, None, Arc::new(Streams::default())));
        let mut wire = Wire::new(Transport::Unix(ours), link.clone(), WRITE_TIME).expect("a socket");
        let part = vec![0; 1 << 20];
        let taking = tokio::spawn(async move {
            let mut taken = vec![0; 1 << 20];
            for _ in 0..6 {
                tokio::time::sleep(WRITE_TIME / 3).await;
                theirs.read_exact(&mut taken).await.expect("it is written");
            }
        });
        for _ in 0..6 {
            wire.write_all(&part).await.expect("it is taken in time");
        }
        wire.flush().await.expect("it is taken in time");
        taking.await.expect("all of it came");
        assert!(!link.is_stalled());
    }
}
