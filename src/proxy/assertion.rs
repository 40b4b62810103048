//! The assertion that goes with a request: to an upstream that takes one, about whoever was admitted.

use crate::auth::assertion::Audience;
use crate::domain::decision::{Credential, Rejection};
use crate::domain::time::Timestamp;
use crate::proxy::context::Context;
use crate::proxy::parts::Parts;
use crate::proxy::upstream::Upstream;
use http::{HeaderName, HeaderValue};
use std::time::Duration;

/// The header and its value; nothing where none is configured, the upstream takes none, or nobody was admitted by name.
///
/// # Errors
///
/// It could not be signed. A request that should bring proof is not sent without.
pub(crate) fn of(
    parts: &Parts,
    ctx: &Context,
    upstream: usize,
) -> Result<Option<(HeaderName, HeaderValue)>, Rejection> {
    let Some(assertions) = &ctx.snapshot.assertions else { return Ok(None) };
    let Upstream { name, assertion: true, .. } = &ctx.snapshot.upstreams[upstream] else { return Ok(None) };
    let Some(credential) = ctx.admission.as_ref().and_then(|admission| admission.credential()) else {
        return Ok(None);
    };
    let wall = parts.clock.wall();
    let audience = Audience { name, number: upstream };
    let value = assertions.about(credential, audience, wall, || left(parts, credential, ctx.now, wall));
    match value {
        Ok(value) => Ok(Some((assertions.header().clone(), value))),
        Err(_) => Err(Rejection::Internal("assertion")),
    }
}

/// How long a credential still counts, if nobody uses it: a session by its own clock, a token by the wall's.
fn left(parts: &Parts, credential: &Credential, now: Timestamp, wall: Timestamp) -> Duration {
    match credential {
        // Never later than its absolute end.
        Credential::Session(session) => session.idle_until(&parts.sessions.clocks()).since(now),
        Credential::Token(token) => token.expires_at.since(wall),
    }
}
