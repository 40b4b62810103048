//! The socket below a connection, with TLS on it or without.

use crate::net::rewound::Rewound;
use bytes::BytesMut;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A connected socket.
#[derive(Debug)]
pub enum Transport {
    /// TCP, without TLS.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP with TLS. Boxed: its state is many times that of a socket.
    Tls(Box<TlsStream<Rewound<TcpStream>>>),
}

impl Transport {
    /// Small writes leave at once; only TCP would hold them back.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.get_ref().0.stream.set_nodelay(true),
        }
    }

    /// Whether bytes that were written still wait in here for the socket.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Reads once, up to `most` bytes or what `into` has room for; room is made only when there is something to read.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                poll_into(stream, cx, into, most)
            }
            Self::Unix(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                poll_into(stream, cx, into, most)
            }
            Self::Tls(stream) => poll_decrypted(Pin::new(stream), cx, into, most),
        }
    }
}

/// [`Transport::poll_fill`] of a socket that seems readable; if it is not, an empty `into` keeps no room. After a short read tokio takes it
/// that nothing is left, which its `try_read` would have to find out by a system call. Where a sender's urgent byte cut the read short,
/// more may be left, and is read when something comes.
fn poll_into(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    into: &mut BytesMut,
    most: usize,
) -> Poll<io::Result<usize>> {
    into.reserve(most);
    let read = pin!(stream.read_buf(into)).poll(cx);
    if read.is_pending() && into.is_empty() {
        *into = BytesMut::new();
    }
    read
}

/// [`Transport::poll_fill`] of what came encrypted.
fn poll_decrypted(
    mut stream: Pin<&mut TlsStream<Rewound<TcpStream>>>,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
    most: usize,
) -> Poll<io::Result<usize>> {
    let read = match ready!(stream.as_mut().poll_fill_buf(cx)) {
        Ok(bytes) => {
            let read = bytes.len().min(most);
            into.extend_from_slice(&bytes[..read]);
            read
        }
        Err(error) if is_rude(&error) => 0,
        Err(error) => return Poll::Ready(Err(error)),
    };
    stream.consume(read);
    Poll::Ready(Ok(read))
}

/// The client closed without saying so in TLS, as many do. Every message tells its own length, so that this is an end like any
/// other, and one in the middle of a message shows as such.
fn is_rude(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().0.stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buf)) {
                Err(error) if is_rude(&error) => Poll::Ready(Ok(())),
                other => Poll::Ready(other),
            },
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
