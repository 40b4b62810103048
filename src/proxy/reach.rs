//! An exchange and the servers of its upstream: which one it goes to, how that went, and whether another may have it.

use crate::domain::decision::Rejection;
use crate::proxy::context::Context;
use crate::proxy::parts::Parts;
use crate::proxy::settings::{Balance, HashBy};
use crate::proxy::upstream::{Nowhere, Seat, Tried, Upstream};
use crate::telemetry::upstreams::Delivery;
use http::Version;
use http::header::EXPECT;
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use pingora::{Error, ErrorSource, ErrorType, RetryType};
use siphasher::sip::SipHasher24;
use std::hash::{Hash, Hasher};

/// What one exchange has to do with servers.
#[derive(Default)]
pub(crate) struct Reach {
    tried: Tried,
    /// How often a request that may have been seen was sent again.
    retries: u8,
    /// The place at the server that has the request.
    seat: Option<Seat>,
    /// Why the latest try failed.
    failure: Option<Rejection>,
}

impl Reach {
    /// The head of an answer is here.
    pub(crate) fn answered(&mut self, parts: &Parts) {
        if let Some(seat) = &mut self.seat {
            seat.answered(|| parts.clock.ticks());
        }
    }

    /// The answer has come to its end: the server has nothing more to do with it.
    pub(crate) fn release(&mut self) {
        self.seat = None;
    }

    /// A connection is there; `is_reused`: it was before.
    pub(crate) fn connected(&mut self, parts: &Parts, is_reused: bool) {
        if let Some(seat) = self.seat.as_ref().filter(|_| !is_reused) {
            seat.connected(|| parts.clock.ticks());
        }
    }
}

/// The server that gets the request now; a second try of the same exchange goes elsewhere.
pub(crate) fn choose(
    parts: &Parts,
    ctx: &mut Context,
    upstream: usize,
    is_tunnel: bool,
) -> Result<Box<HttpPeer>, Rejection> {
    let mut tried = ctx.reach.tried;
    // The place of an earlier try is free.
    ctx.reach.seat = None;
    let upstream = &ctx.snapshot.upstreams[upstream];
    let picked = upstream.pick(&mut tried, || key(upstream, ctx), || parts.clock.ticks());
    ctx.reach.tried = tried;
    match picked {
        Ok(seat) => {
            let mut peer = seat.peer();
            if is_tunnel && peer.options.alpn == ALPN::H2H1 {
                // Only HTTP/1.1 switches protocols.
                peer.options.alpn = ALPN::H1;
            }
            ctx.reach.seat = Some(seat);
            Ok(peer)
        }
        // Another proxy reaches it, after it has asked us.
        Err(Nowhere::Unknown) if upstream.is_elsewhere() => Err(Rejection::NoRoute),
        Err(Nowhere::Unknown) => Err(Rejection::NoServer("name_unknown")),
        // Where one was tried, that is what went wrong.
        Err(Nowhere::Down | Nowhere::Busy) if ctx.reach.failure.is_some() => {
            Err(ctx.reach.failure.take().unwrap_or(Rejection::NoServer("servers_down")))
        }
        Err(Nowhere::Down) => Err(Rejection::NoServer("servers_down")),
        Err(Nowhere::Busy) => Err(Rejection::NoServer("servers_busy")),
    }
}

/// Whom a visitor's requests have in common.
fn key(upstream: &Upstream, ctx: &Context) -> u64 {
    let mut hasher = SipHasher24::new();
    let by_session = upstream.balance == Balance::Hash(HashBy::Session);
    match ctx.admitting().or(ctx.visitor.as_ref()).filter(|_| by_session) {
        Some(session) => session.id().hash(&mut hasher),
        None => ctx.client.hash(&mut hasher),
    }
    hasher.finish()
}

/// A connection could not be opened. Nothing was sent yet: another server may have the request, whatever its method; tells
/// whether there is one.
pub(crate) fn not_connected(parts: &Parts, ctx: &mut Context, upstream: usize, error: &Error) -> bool {
    let delivery = delivery(error.etype());
    if let Some(seat) = &mut ctx.reach.seat {
        seat.not_connected(delivery, parts.clock.ticks(), error);
    }
    ctx.reach.failure = Some(rejection(delivery));
    ctx.snapshot.upstreams[upstream].has_others(ctx.reach.tried)
}

/// The exchange failed after a connection was there. Tells whether it may be sent again: if it was not answered, asking twice
/// is the same as asking once (RFC 9110 §9.2.2), nothing of a body has gone, and the upstream's budget has room.
///
/// It does not count against the server: who knows a request that breaks it could take it from everybody else.
pub(crate) fn broken(
    exchange: &Exchange,
    ctx: &mut Context,
    upstream: usize,
    error: &Error,
    is_reused: bool,
) -> bool {
    if *error.esource() != ErrorSource::Upstream {
        return false;
    }
    // pingora marks so what ended before a byte of the answer had come, or was refused without being looked at.
    let is_unanswered = matches!(error.retry, RetryType::ReusedOnly | RetryType::Decided(true))
        || (is_reused && *error.etype() == ErrorType::WriteError);
    let delivery = delivery(error.etype());
    if let Some(seat) = &mut ctx.reach.seat {
        seat.broke_off(delivery);
    }
    ctx.reach.failure = Some(rejection(delivery));
    let upstream = &ctx.snapshot.upstreams[upstream];
    let may = is_unanswered
        && exchange.response_written().is_none()
        && exchange.req_header().method.is_idempotent()
        && exchange.body_bytes_read() == 0
        && ctx.reach.retries < upstream.retries
        && (is_reused || upstream.has_others(ctx.reach.tried))
        && upstream.may_retry();
    if may {
        ctx.reach.retries += 1;
        if is_reused {
            ctx.reach.tried.forget();
        }
    }
    may
}

/// Lets a client go on that waits for `100 Continue` (RFC 9110 §10.1.1) where the server speaks HTTP/2: pingora does not pass
/// that one's interim answers on.
pub(crate) async fn let_go_on(exchange: &mut Exchange, head: &mut RequestHeader) -> pingora::Result<()> {
    let waits = head.version == Version::HTTP_2 && exchange.req_header().version == Version::HTTP_11;
    if waits && head.remove_header(&EXPECT).is_some() {
        exchange.write_continue_response().await?;
    }
    Ok(())
}

/// What an error of pingora's says of the server.
fn delivery(error: &ErrorType) -> Delivery {
    use ErrorType as E;
    match error {
        E::ConnectRefused => Delivery::ConnectRefused,
        E::ConnectTimedout | E::TLSHandshakeTimedout => Delivery::ConnectTimeout,
        E::ConnectNoRoute | E::ConnectError | E::SocketError | E::BindError | E::HandshakeError => {
            Delivery::Connect
        }
        E::TLSHandshakeFailure | E::InvalidCert | E::TLSWantX509Lookup => Delivery::Tls,
        E::ReadTimedout => Delivery::ReadTimeout,
        E::WriteTimedout => Delivery::WriteTimeout,
        E::InvalidHTTPHeader | E::H2Error | E::InvalidH2 | E::H2Downgrade => Delivery::BadAnswer,
        E::ConnectionClosed | E::ReadError | E::WriteError => Delivery::Reset,
        _ => Delivery::Other,
    }
}

/// What the visitor is told.
fn rejection(delivery: Delivery) -> Rejection {
    match delivery {
        Delivery::ConnectTimeout | Delivery::ReadTimeout | Delivery::WriteTimeout => {
            Rejection::UpstreamLate(delivery.as_str())
        }
        _ => Rejection::Upstream(delivery.as_str()),
    }
}

/// What a failure of the proxying means to the visitor; nothing if the visitor is gone.
pub(crate) fn explain(error: &Error) -> Option<Rejection> {
    use ErrorType as E;
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, etype) => Some(rejection(delivery(etype))),
        (ErrorSource::Downstream, E::ReadTimedout) => Some(Rejection::TooSlow),
        (ErrorSource::Downstream, E::InvalidHTTPHeader) => Some(Rejection::BadRequest("header")),
        (ErrorSource::Downstream, _) => None,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Rejection::Internal("proxy")),
    }
}
