//! What a route takes: from which addresses, how often, and how long a body.
//!
//! A route without limits pays for none of it. Addresses, and rates by address, are weighed before any credential is looked
//! at; rates by session or subject, and a body's declared length, once the request is admitted. Nothing of a request that
//! is refused here has reached an upstream. A body without a declared length is counted on its way.
//!
//! The fields `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers-10.

use crate::domain::clients::{ClientRule, visitor_network};
use crate::domain::decision::{Admission, Credential, Rejection};
use crate::domain::rate::{Rate, Taken, Wait};
use crate::proxy::context::Context;
use crate::proxy::parts::Parts;
use crate::proxy::settings::{Per, RouteLimits};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

/// The limits of a route, compiled.
pub struct Limits {
    /// From which addresses it may be used.
    pub clients: Option<ClientRule>,
    /// The longest body, in bytes.
    pub body_bytes_max: Option<u64>,
    rate: Option<RouteRate>,
}

/// How often it may be used.
struct RouteRate {
    rate: Rate,
    per: Per,
    /// Of route and rate: as long as it stays the same, what was counted counts over reloads.
    id: u64,
    /// `RateLimit-Policy`, and its name in `RateLimit`.
    policy: HeaderValue,
    name: String,
}

/// What is left of a rate to whoever asks, for the fields of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    left: u32,
    in_time: Duration,
}

impl Limits {
    /// The limits of the route with this name; nothing if it has none.
    pub fn new(route: &str, settings: &RouteLimits) -> Option<Box<Self>> {
        let RouteLimits { clients, body_bytes_max, rate } = settings;
        let rate = rate.as_ref().map(|rate| {
            let mut id = siphasher::sip::SipHasher24::new();
            id.write(format!("{route} {rate:?}").as_bytes());
            let span = rate.span.as_secs();
            let policy = format!("\"{route}\";q={};w={span}", rate.times);
            RouteRate {
                rate: rate.rate(),
                per: rate.per,
                id: id.finish(),
                policy: HeaderValue::from_str(&policy).expect("names are of letters and digits"),
                name: route.to_owned(),
            }
        });
        let limits = Self { clients: clients.clone(), body_bytes_max: *body_bytes_max, rate };
        let has_some = limits.clients.is_some() || limits.body_bytes_max.is_some() || limits.rate.is_some();
        has_some.then(|| Box::new(limits))
    }

    /// Whether a client with this address may use the route.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        self.clients.as_ref().is_none_or(|rule| rule.admits(client))
    }

    /// What can be said before anybody looks at a credential.
    ///
    /// # Errors
    ///
    /// The client's address is not one of the route's, or has asked too often.
    pub(crate) fn at_the_door(&self, parts: &Parts, ctx: &mut Context) -> Result<(), Rejection> {
        if !self.admits(ctx.client) {
            return Err(Rejection::ClientAddress);
        }
        match &self.rate {
            Some(rate) if rate.per == Per::ClientIp => {
                rate.take(parts, ctx, ("address", visitor_network(ctx.client)))
            }
            _ => Ok(()),
        }
    }

    /// What is left to say once the request is admitted.
    ///
    /// # Errors
    ///
    /// Whoever asks has asked too often, or declares a body that is too long.
    pub(crate) fn once_admitted(
        &self,
        parts: &Parts,
        ctx: &mut Context,
        admission: &Admission,
        headers: &HeaderMap,
    ) -> Result<(), Rejection> {
        if let Some(rate) = &self.rate {
            match (rate.per, admission.credential()) {
                (Per::ClientIp, _) => {}
                (Per::Session, Some(Credential::Session(session))) => {
                    rate.take(parts, ctx, ("session", session.id()))?;
                }
                (Per::Subject, Some(credential)) => {
                    let identity = credential.identity();
                    rate.take(parts, ctx, ("subject", identity.source(), identity.subject()))?;
                }
                // Nobody is known who could be counted.
                (Per::Session | Per::Subject, _) => {
                    rate.take(parts, ctx, ("address", visitor_network(ctx.client)))?;
                }
            }
        }
        if let Some(most) = self.body_bytes_max {
            // The wire has read the length already: it is a number where it stands.
            let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            if length.is_some_and(|length: u64| length > most) {
                return Err(Rejection::TooLarge);
            }
            ctx.body_left = Some(most);
        }
        Ok(())
    }
}

impl RouteRate {
    fn take(&self, parts: &Parts, ctx: &mut Context, who: impl std::hash::Hash) -> Result<(), Rejection> {
        match parts.paces.rates.take(self.rate, (self.id, who), ctx.now) {
            Ok(Taken { left, whole_in, .. }) => {
                ctx.quota = Some(Quota { left, in_time: whole_in });
                Ok(())
            }
            Err(Wait(wait)) => {
                ctx.quota = Some(Quota { left: 0, in_time: wait });
                Err(Rejection::TooMany(wait))
            }
        }
    }
}

/// What an answer says of the route's rate; nothing where it has none, or was not asked.
pub(crate) fn fields(ctx: &Context) -> impl Iterator<Item = (&'static str, HeaderValue)> {
    let rate = ctx.route.and_then(|route| ctx.snapshot.route[route].limits.as_ref()?.rate.as_ref());
    rate.zip(ctx.quota).into_iter().flat_map(|(rate, quota)| {
        let Quota { left, in_time } = quota;
        let limit = format!("\"{}\";r={left};t={}", rate.name, seconds(in_time));
        let limit = HeaderValue::from_str(&limit).expect("names are of letters and digits");
        [("RateLimit-Policy", rate.policy.clone()), ("RateLimit", limit)]
    })
}

/// Whole seconds after which a wait is over, at least one.
pub(crate) fn seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000).max(1)).unwrap_or(u64::MAX)
}
