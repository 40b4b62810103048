//! Bound tokens at a request: whether it brings the proof that its token asks for, and what a client is told that it lacks.

use crate::auth::bearer;
use crate::auth::dpop::{ALGORITHMS, Request};
use crate::domain::decision::{Believed, Credential, Rejection};
use crate::domain::possession::Unproved;
use crate::domain::target::Target;
use crate::proxy::admit::Asking;
use crate::proxy::context::Context;
use crate::proxy::snapshot::Route;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Exchange;

/// The field with the proof (RFC 9449 §4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The field with a nonce of ours (RFC 9449 §8).
pub(crate) const DPOP_NONCE: &str = "DPoP-Nonce";

/// Whether the scheme is right for the token, and if it is `DPoP`, checks the proof; gives the thumbprint of the key that has
/// signed it. A token that is bound to nothing costs a comparison.
///
/// Proofs are for one request each: nothing of this is remembered with the token.
pub(crate) fn prove(
    asking: &Asking<'_>,
    head: &RequestHeader,
    authorization: &[u8],
    believed: &Believed,
) -> Result<Option<[u8; 32]>, Unproved> {
    let jkt = believed.token.confirmation.as_ref().and_then(|confirmation| confirmation.jkt());
    let jkt = match (bearer::is_dpop(authorization), jkt) {
        (false, None) => return Ok(None),
        (false, Some(_)) => return Err(Unproved::Scheme),
        (true, None) => return Err(Unproved::Unbound),
        (true, Some(jkt)) => jkt,
    };
    let mut proofs = head.headers.get_all(&DPOP).iter();
    let proof = match (proofs.next(), proofs.next()) {
        (Some(proof), None) => proof,
        (None, _) => return Err(Unproved::Missing),
        (Some(_), Some(_)) => return Err(Unproved::Several),
    };
    let token = bearer::token(authorization).map_err(|_| Unproved::Malformed)?;
    let target = Target::parse(head.raw_path()).map_err(|_| Unproved::Address)?;
    let request = Request {
        method: head.method.as_str(),
        https: asking.outside.https,
        host: asking.host.name(),
        port: asking.outside.port,
        path: target.path(),
        token,
    };
    let instants = ((asking.wall)(), asking.now);
    asking.snapshot.dpop.check(proof.as_bytes(), &request, (believed.entry, jkt), instants)?;
    Ok(Some(*jkt))
}

/// The challenges for a token whose proof does not count (RFC 9449 §7.1 and §9, RFC 6750 §3): error and algorithms, and a nonce
/// where one is asked for.
pub(crate) fn challenges(ctx: &Context, why: Unproved) -> Vec<(&'static str, HeaderValue)> {
    if why.is_of_certificates() {
        let challenge = HeaderValue::from_static("Bearer realm=\"vestibule\", error=\"invalid_token\"");
        return vec![("WWW-Authenticate", challenge)];
    }
    let mut fields = vec![("WWW-Authenticate", challenge(Some(why.error())))];
    if why == Unproved::Nonce
        && let Ok(nonce) = HeaderValue::from_str(&ctx.snapshot.dpop.nonce(ctx.now))
    {
        fields.push((DPOP_NONCE, nonce));
    }
    fields
}

/// The nonce for the client's next proof, if the one that admitted this request is no longer new (RFC 9449 §8.2).
pub(crate) fn next_nonce(exchange: &mut Exchange, ctx: &mut Context) -> Option<HeaderValue> {
    let Credential::Token(believed) = ctx.admission.as_ref()?.credential()? else { return None };
    believed.token.confirmation.as_ref()?.jkt()?;
    if !ctx.snapshot.dpop.asks_for_nonces(believed.entry) {
        return None;
    }
    ctx.lending.give_back(exchange.req_header_mut());
    let proof = exchange.req_header().headers.get(&DPOP)?;
    let nonce = ctx.snapshot.dpop.next_nonce(proof.as_bytes(), ctx.now)?;
    HeaderValue::from_str(&nonce).ok()
}

/// The challenge beside that of `Bearer`, where the route asks for tokens that are bound to a key, or the client sent one.
pub(crate) fn further_challenge(
    head: &RequestHeader,
    route: Option<&Route>,
    rejection: &Rejection,
) -> Option<HeaderValue> {
    let route = route.filter(|route| route.takes_tokens())?;
    let sent = head.headers.get(AUTHORIZATION).is_some_and(|field| bearer::is_dpop(field.as_bytes()));
    let error = (sent && matches!(rejection, Rejection::BadBearer(_))).then_some("invalid_token");
    (sent || route.asks_for_dpop()).then(|| challenge(error))
}

fn challenge(error: Option<&str>) -> HeaderValue {
    let error = error.map_or_else(String::new, |error| format!("error=\"{error}\", "));
    HeaderValue::from_str(&format!("DPoP realm=\"vestibule\", {error}algs=\"{ALGORITHMS}\""))
        .expect("words and names of algorithms are a header value")
}
