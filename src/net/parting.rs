//! The end of a connection whose exchange was cut, or answered before its request was read: as clean as the place allows.

use crate::net::outgoing::Outgoing;
use crate::net::transport::Transport;
use bytes::BytesMut;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a cut connection may take to send its last bytes and to see the peer close.
const LINGER_MAX: Duration = Duration::from_millis(500);
/// How long a visitor may go on sending a request that is answered already. Many read the answer only when all is sent.
const UNREAD_LINGER_MAX: Duration = Duration::from_secs(10);
/// The longest pause in there.
const UNREAD_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A close frame (RFC 6455 §5.5.1): status 1008, policy violation, and a reason.
const CLOSE_FRAME: &[u8] = b"\x88\x0E\x03\xF0access ended";

/// What is left of a connection once its exchange is gone.
#[derive(Debug)]
pub(crate) struct Parting {
    pub(crate) transport: Transport,
    /// Passed on by the exchange, and not sent yet.
    pub(crate) unsent: BytesMut,
    pub(crate) outgoing: Outgoing,
    /// The exchange was cut; else its request was not read to the end.
    pub(crate) is_cut: bool,
}

impl Parting {
    /// Tells the visitor what can still be told, and closes.
    ///
    /// Where no answer had begun `answer` is one. Between two frames of a `WebSocket` a close frame follows. Everywhere else
    /// the message just stops: a chunked body lacks its last chunk, one with a length comes short.
    pub(crate) async fn close(self, answer: &[u8], in_haste: bool) {
        let Self { mut transport, mut unsent, outgoing, is_cut } = self;
        let (in_all, pause) =
            if is_cut || in_haste { (LINGER_MAX, LINGER_MAX) } else { (UNREAD_LINGER_MAX, UNREAD_PAUSE_MAX) };
        unsent.extend_from_slice(match outgoing {
            Outgoing::Nothing => answer,
            Outgoing::Frames(frames) if frames.takes_another() => CLOSE_FRAME,
            Outgoing::Answer | Outgoing::Frames(_) => &[],
        });
        let closing = async {
            tokio::time::timeout(pause, transport.write_all(&unsent)).await??;
            transport.shutdown().await?;
            // Closing over unread bytes would reset the connection, and take from the visitor what is still on its way.
            let mut rest = BytesMut::with_capacity(4096);
            while tokio::time::timeout(pause, transport.read_buf(&mut rest)).await?? > 0 {
                rest.clear();
            }
            io::Result::Ok(())
        };
        // Whatever happens to a connection that is being closed, it is closed.
        let _ = tokio::time::timeout(in_all, closing).await;
    }
}
