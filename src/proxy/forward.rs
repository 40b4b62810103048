//! Strips what a client may not say, then says it ourselves, last.
//!
//! Called from `upstream_request_filter`, after pingora has removed what `Connection` nominates: a name set earlier could be
//! nominated away by the client. Identity and session headers go by class
//! ([`crate::domain::fold::Guard`]), on every route, signed in or not.

use crate::domain::cookie;
use crate::domain::decision::{Admission, Credential, Rejection};
use crate::domain::identity;
use crate::net::connection::Link;
use crate::net::recall::Recall;
use crate::proxy::hops;
use crate::proxy::possession::DPOP;
use crate::proxy::read;
use crate::proxy::remember::SESSION_DATA;
use crate::proxy::settings::{Deadline, Encoding, External, IdentityHeader, UpstreamHost};
use crate::proxy::snapshot::{Route, Snapshot};
use crate::store::table::Table;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, FORWARDED, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use std::net::IpAddr;

/// What forwarding needs of an exchange.
pub(crate) struct Forwarding<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) route: &'a Route,
    pub(crate) admission: &'a Admission,
    pub(crate) outside: External,
    pub(crate) link: &'a Link,
    /// pingora has left the fields of the visitor's connection in place.
    pub(crate) strips_hops: bool,
    pub(crate) request_id: &'a HeaderValue,
    /// The signed statement about who asks, and its name.
    pub(crate) assertion: Option<(HeaderName, HeaderValue)>,
    /// The session data of the visitor.
    pub(crate) data: Option<HeaderValue>,
    /// Whose clocks deadlines are told by.
    pub(crate) sessions: &'a Table,
}

/// Turns the client's head into the one that the upstream gets.
///
/// Its fields are those that were `lent`, if they were. It takes the [`Admission`] by reference: without one there is nothing to
/// forward.
pub(crate) fn prepare(
    head: &mut RequestHeader,
    lent: Option<HeaderMap>,
    forwarding: &Forwarding<'_>,
) -> Result<(), Rejection> {
    // pingora's own setters keep the spelling of each name beside it; this works on the fields alone.
    let mut parts = Parts::from(read::take(head));
    if let Some(fields) = lent {
        parts.headers = fields;
    }
    let mut prepared = dress(&mut parts.headers, forwarding);
    if let Some(changes) = &forwarding.route.changes {
        match changes.target(&parts.uri) {
            Ok(None) => {}
            Ok(Some(sent)) => parts.uri = sent,
            Err(reason) => prepared = Err(Rejection::BadRequest(reason)),
        }
    }
    *head = RequestHeader::from(parts);
    prepared
}

fn dress(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) -> Result<(), Rejection> {
    let Forwarding { snapshot, route, admission, .. } = forwarding;
    let previous = believed_hops(headers, forwarding.link.address(), &snapshot.trusted_proxies);
    strip(headers, snapshot, forwarding.strips_hops);
    let upstream = &snapshot.upstreams[route.upstream];
    let mut slot = forwarding.link.recall();
    let mut recall = admission.credential().map(|credential| {
        let under = (snapshot.generation, route.upstream);
        recollection(&mut slot, under, credential, &upstream.identity, forwarding.sessions)
    });
    strip_own_cookies(headers, forwarding, recall.as_deref_mut())?;
    if let Some(Credential::Token(believed)) = admission.credential()
        && !route.forward_authorization
    {
        let is_bound_to_key = believed.token.confirmation.is_some_and(|asked| asked.jkt().is_some());
        headers.remove(AUTHORIZATION);
        if is_bound_to_key {
            headers.remove(DPOP);
        }
    }
    if let Some(changes) = &route.changes {
        changes.dress_request(headers);
    }
    let further = usize::from(forwarding.data.is_some()) + usize::from(forwarding.assertion.is_some());
    headers.reserve(SET_EVERYWHERE + upstream.identity.len() + further);
    set_forwarded(headers, forwarding, previous)?;
    if let UpstreamHost::Send(name) = &upstream.host {
        headers.insert(HOST, name.clone());
    }
    headers.insert(REQUEST_ID, forwarding.request_id.clone());
    if let (Some(credential), Some(recall)) = (admission.credential(), recall) {
        for (header, value) in upstream.identity.iter().zip(recall.identity()) {
            let value = if header.deadline.is_some() {
                says(header, credential, forwarding.sessions)
            } else {
                value.clone()
            };
            if let Some(value) = value {
                headers.insert(header.name.clone(), value);
            }
        }
    }
    if let Some(certificate) = forwarding.link.secured().and_then(|secured| secured.certificate.as_ref()) {
        // It says who is connected, not who has signed in: on every route.
        for header in &upstream.identity {
            let claim = header.certificate.and_then(|claim| certificate.claim(claim));
            if let Some(value) = claim.and_then(|claim| value_of(header, claim)) {
                headers.insert(header.name.clone(), value);
            }
        }
    }
    if let Some((name, value)) = &forwarding.assertion {
        headers.insert(name.clone(), value.clone());
    }
    if let Some(data) = &forwarding.data {
        headers.insert(SESSION_DATA, data.clone());
    }
    Ok(())
}

/// What the connection's last request was given, if the same credential has admitted it under the same configuration; anew otherwise.
fn recollection<'a>(
    slot: &'a mut Option<Recall>,
    under: (u64, usize),
    credential: &Credential,
    identity: &[IdentityHeader],
    sessions: &Table,
) -> &'a mut Recall {
    if !slot.as_ref().is_some_and(|recall| recall.is_of(under, credential)) {
        *slot = None;
    }
    slot.get_or_insert_with(|| {
        // A deadline moves with every request.
        let lasting = |header: &IdentityHeader| {
            header.deadline.is_none().then(|| says(header, credential, sessions)).flatten()
        };
        Recall::new(under, credential.clone(), identity.iter().map(lasting).collect())
    })
}

/// What an identity header says of whoever was admitted; of a connection's certificate it says nothing here.
pub(crate) fn says(
    header: &IdentityHeader,
    credential: &Credential,
    sessions: &Table,
) -> Option<HeaderValue> {
    match (header.certificate, header.deadline) {
        (Some(_), _) => None,
        (None, Some(deadline)) => instant(credential, deadline, sessions),
        (None, None) => {
            let claim = credential.identity().claim(&header.claim)?;
            value_of(header, claim.header_form())
        }
    }
}

/// A deadline of the session: RFC 3339 in UTC. A bearer token has none.
fn instant(credential: &Credential, deadline: Deadline, sessions: &Table) -> Option<HeaderValue> {
    let (session, clocks) = (credential.session()?, sessions.clocks());
    let at = match deadline {
        Deadline::IdleUntil => session.idle_until(&clocks),
        Deadline::EndsAt => session.ends_at(&clocks),
    };
    HeaderValue::from_str(&at.to_string()).ok()
}

/// Removes every name of ours, in every spelling that some server folds onto it; and, if they are left to us, the fields of the
/// visitor's connection.
fn strip(headers: &mut HeaderMap, snapshot: &Snapshot, strips_hops: bool) {
    let goes = |name: &&HeaderName| snapshot.guard.covers(name) || (strips_hops && hops::is_hop_by_hop(name));
    while let Some(name) = headers.keys().find(goes).cloned() {
        headers.remove(name);
    }
}

/// Removes our cookies, also under a name of earlier; the others stay byte for byte, several fields joined into one (RFC 9113 §8.2.3).
fn strip_own_cookies(
    headers: &mut HeaderMap,
    forwarding: &Forwarding<'_>,
    recall: Option<&mut Recall>,
) -> Result<(), Rejection> {
    let Forwarding { snapshot, outside, link, .. } = forwarding;
    let mut fields = headers.get_all(COOKIE).iter();
    let Some(first) = fields.next() else { return Ok(()) };
    // Several fields are rare, and one request's.
    let recall = recall.filter(|_| fields.size_hint().1 == Some(0));
    if let Some(kept) = recall.as_ref().and_then(|recall| recall.kept(first)) {
        headers.insert(COOKIE, kept.clone());
        return Ok(());
    }
    let own = snapshot.own_cookies(*outside);
    // Nothing is allocated unless the cookie was renamed while the process ran.
    let with_former: Vec<&str>;
    let names = if snapshot.former_cookies.is_empty() {
        &own[..]
    } else {
        with_former = own.into_iter().chain(snapshot.former_cookies.iter().map(String::as_str)).collect();
        &with_former
    };
    let mut kept = cookie::without(first.as_bytes(), names);
    for field in fields {
        let joined = kept.get_or_insert_with(|| first.as_bytes().to_vec());
        let more = cookie::without(field.as_bytes(), names);
        let more = more.as_deref().unwrap_or(field.as_bytes());
        if !joined.is_empty() && !more.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(more);
    }
    let Some(kept) = kept else { return Ok(()) };
    if kept.is_empty() {
        headers.remove(COOKIE);
        return Ok(());
    }
    let mut value =
        HeaderValue::from_maybe_shared(Bytes::from(kept)).map_err(|_| Rejection::Internal("cookie"))?;
    value.set_sensitive(true);
    let sent = headers.insert(COOKIE, value.clone());
    if let (Some(recall), Some(sent)) = (recall, sent)
        && link.may_remember(&sent)
    {
        recall.keep(sent, value);
    }
    Ok(())
}

/// What a trusted proxy said about the hops before it.
struct Hops {
    forwarded_for: Option<String>,
    forwarded: Option<String>,
}

fn believed_hops(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Hops {
    if trusted.is_empty() || !trusted.iter().any(|net| net.contains(&peer)) {
        return Hops { forwarded_for: None, forwarded: None };
    }
    let joined = |name: &str| {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    Hops { forwarded_for: joined("x-forwarded-for"), forwarded: joined(FORWARDED.as_str()) }
}

/// `X-Forwarded-*`, rebuilt; `Forwarded` (RFC 7239) only where a trusted proxy has begun one.
fn set_forwarded(headers: &mut HeaderMap, forwarding: &Forwarding<'_>, hops: Hops) -> Result<(), Rejection> {
    let Forwarding { link, outside, .. } = forwarding;
    let proto = if outside.https { "https" } else { "http" };
    let host = headers.get(HOST).cloned().ok_or(Rejection::Internal("no_host"))?;
    if let Some(before) = hops.forwarded {
        let peer = link.address();
        let node = if peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer.to_string() };
        let shown = host.to_str().unwrap_or_default();
        headers.insert(FORWARDED, text(&format!("{before}, for={node};host=\"{shown}\";proto={proto}"))?);
    }
    let forwarded_for = match hops.forwarded_for {
        Some(before) => text(&format!("{before}, {}", link.address()))?,
        None => link.address_value().clone(),
    };
    headers.insert(FORWARDED_FOR, forwarded_for);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(FORWARDED_HOST, host);
    headers.insert(FORWARDED_PORT, port_value(outside.port));
    Ok(())
}

fn value_of(header: &IdentityHeader, encoded: &str) -> Option<HeaderValue> {
    match header.encoding {
        Encoding::Percent => HeaderValue::from_str(encoded).ok(),
        // A decoded value with a control character has no safe form in a header.
        Encoding::Utf8 => {
            let plain = identity::decode(encoded);
            (!plain.chars().any(char::is_control)).then(|| HeaderValue::from_bytes(plain.as_bytes()).ok())?
        }
    }
}

/// A port as a header says it. The usual ones take no memory.
fn port_value(port: u16) -> HeaderValue {
    match port {
        80 => HeaderValue::from_static("80"),
        443 => HeaderValue::from_static("443"),
        _ => HeaderValue::from(port),
    }
}

fn text(value: &str) -> Result<HeaderValue, Rejection> {
    HeaderValue::from_str(value).map_err(|_| Rejection::Internal("header_value"))
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// How many fields every request gets.
const SET_EVERYWHERE: usize = 5;

/// The names that a client may never send on, whatever is configured: what we set ourselves, the session headers, and the
/// headers by which some servers let a request rename its own target or client.
pub const GUARDED: [&str; 20] = [
    "x-request-id",
    "x-session-data",
    "x-session-patch",
    "x-session-sign-in",
    "x-session-sign-out",
    "x-session-ends-at",
    "x-session-id",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-user",
    "x-forwarded-server",
    "x-original-url",
    "x-rewrite-url",
    "x-real-ip",
];
