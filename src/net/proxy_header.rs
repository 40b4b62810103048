//! Reads the PROXY protocol header with which a connection begins, and not a byte of what follows.
//!
//! What has arrived is looked at where it lies, and only what belongs to the header is taken out: whoever reads next (TLS, or the
//! first request) finds its first byte in front.

use crate::domain::proxy_header::{self, BadProxyHeader, V2_BYTES_MAX};
use crate::net::transport::Transport;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Why a connection has no client.
#[derive(Debug)]
pub(crate) enum NoHeader {
    /// It did not arrive in time.
    Late,
    /// What arrived is no header that we take.
    Bad(BadProxyHeader),
    /// The connection ended, or broke, inside it.
    Broken,
}

/// Reads the header whole within `patience`; gives the client that it names, if it names one.
pub(crate) async fn read(
    transport: &mut Transport,
    patience: Duration,
) -> Result<Option<SocketAddr>, NoHeader> {
    // Listeners with this setting are TCP sockets; on another there is nobody to name.
    let Transport::Tcp(stream) = transport else { return Ok(None) };
    tokio::time::timeout(patience, read_from(stream)).await.map_err(|_| NoHeader::Late)?
}

async fn read_from(stream: &mut TcpStream) -> Result<Option<SocketAddr>, NoHeader> {
    let broken = |_: io::Error| NoHeader::Broken;
    let mut header = Vec::new();
    loop {
        let had = header.len();
        // Small at first: the header comes once in a connection's life, and mostly in one piece of a hundred bytes.
        header.resize(had + if had == 0 { 256 } else { V2_BYTES_MAX }, 0);
        let seen = stream.peek(&mut header[had..]).await.map_err(broken)?;
        header.truncate(had + seen);
        if seen == 0 {
            return Err(NoHeader::Broken);
        }
        let whole = proxy_header::parse(&header).map_err(NoHeader::Bad)?;
        let ours = whole.map_or(header.len(), |whole| whole.length);
        stream.read_exact(&mut header[had..ours]).await.map_err(broken)?;
        if let Some(whole) = whole {
            return Ok(whole.client);
        }
        header.truncate(ours);
    }
}
