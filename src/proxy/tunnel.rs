//! What a `WebSocket` (RFC 6455) needs of its connections beside what every exchange needs.

use http::HeaderValue;
use pingora::proxy::Session as Exchange;
use pingora::upstreams::peer::HttpPeer;
use siphasher::sip::SipHasher24;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Makes `peer` the peer of an exchange that asks for a tunnel, and gives both sides its clock: it runs while neither sends.
///
/// The connection is nobody else's, before or after. pingora-proxy 0.9.1 takes a tunnel for done if the 101 comes in before
/// it has noted that the request has no body (`proxy_handle_upstream`): both wait at the same moment, and which is looked at
/// first is left to chance. On a fresh connection the 101 cannot be there so early, because this thread itself would have to
/// be told of it. One that was kept may belong to another worker, whose thread tells at any time. So the pool must not know
/// it, not even by an earlier upgrade that was refused.
pub(crate) fn prepare(
    exchange: &mut Exchange,
    peer: &mut HttpPeer,
    pause: Duration,
    request_id: &HeaderValue,
) {
    let mut hasher = SipHasher24::new();
    (peer.group_key, request_id.as_bytes()).hash(&mut hasher);
    peer.group_key = hasher.finish();
    // An upgrade that is refused leaves a connection behind that nobody will ever ask for.
    peer.options.idle_timeout = Some(Duration::ZERO);
    peer.options.read_timeout = Some(pause);
    exchange.set_read_timeout(Some(pause));
}
