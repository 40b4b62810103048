//! The gateway's reading of a connection, without the process around it.

use super::generate::Conversation;
use super::reference::Request;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use vestibule::net::connection::Link;
use vestibule::net::fields::{Head, complete};
use vestibule::net::stopping::Stopping;
use vestibule::net::transport::Transport;
use vestibule::net::wire::{HeadEnd, Wire};

/// What was read, and why no more.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Request>,
    pub(crate) refusal: Option<&'static str>,
}

const LONG: Duration = Duration::from_secs(20);

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

/// Sends the conversation in its pieces and reads it as a connection's loop does.
pub(crate) async fn read(conversation: &Conversation) -> Seen {
    let (mut client, server) = UnixStream::pair().expect("two sockets");
    let bytes = &conversation.bytes;
    let mut ends: Vec<usize> = conversation.cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let sending = async move {
        let mut from = 0;
        for end in ends {
            // A conversation is far shorter than a socket's buffer, and the reader may have closed.
            let _ = client.write_all(&bytes[from..end]).await;
            tokio::task::yield_now().await;
            from = end;
        }
        let _ = client.shutdown().await;
        client
    };
    let link = Arc::new(Link::new(0, None, Arc::default()));
    let wire =
        Box::new(Wire::new(Transport::Unix(server), link.clone(), Duration::from_mins(1)).expect("a socket"));
    let (seen, _client) = tokio::join!(read_all(wire, &link), sending);
    seen
}

async fn read_all(mut wire: Box<Wire>, link: &Link) -> Seen {
    let mut seen = Seen::default();
    let (_never, watch) = tokio::sync::watch::channel(false);
    let mut stopping = Stopping::new(&watch);
    loop {
        let Head { opening, fields, framing, .. } = match wire.read_head(LONG, LONG, &mut stopping).await {
            Ok(read) => read,
            Err(HeadEnd::Refused(rejection)) => {
                seen.refusal = Some(rejection.reason());
                return seen;
            }
            Err(HeadEnd::Idle | HeadEnd::Broken | HeadEnd::Late | HeadEnd::Http2) => return seen,
        };
        let mut exchange = ServerSession::new_http1(wire);
        exchange.set_keepalive(framing.keep_alive.then_some(75));
        exchange.set_pipelined_prefix(opening);
        if !matches!(exchange.read_request().await, Ok(true)) {
            seen.refusal = Some("parser");
            return seen;
        }
        complete(exchange.req_header_mut(), fields).expect("the target was parsed before");
        let head = exchange.req_header();
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
        };
        let mut request = Request {
            method: head.method.as_str().as_bytes().to_vec(),
            target: head.raw_path().to_vec(),
            is_10: framing.version_10,
            fields: head.headers.iter().map(field).collect(),
            body: Vec::new(),
        };
        request.fields.sort_by(|(one, _), (two, _)| one.cmp(two));
        loop {
            match exchange.read_request_body().await {
                Ok(Some(part)) => request.body.extend_from_slice(&part),
                Ok(None) => break,
                Err(_) => {
                    seen.refusal = Some(link.refused_body().map_or("", |rejection| rejection.reason()));
                    return seen;
                }
            }
        }
        seen.requests.push(request);
        if framing.upgrade || !framing.keep_alive {
            return seen;
        }
        let mut answer = ResponseHeader::build(204, None).expect("204 is a status");
        answer.set_version(http::Version::HTTP_11);
        if exchange.write_response_header(Box::new(answer)).await.is_err() {
            return seen;
        }
        let Ok(Some(next)) = exchange.finish().await else { return seen };
        let (stream, surplus) = next.into_parts();
        if surplus.is_some() {
            seen.refusal = Some("the parser got bytes of the next request");
            return seen;
        }
        wire = stream.into_any().downcast().expect("the stream is the wire");
    }
}
