//! Canonical request → route → credential → decision.
//!
//! Everything here is answered from memory; where somebody must be asked about a token, that is said, and the caller waits. The credential of a route is looked at only after the route is known, and
//! only the kinds that the route takes.

use crate::auth::bearer::BearerRefusal;
use crate::auth::issuer::question::Question;
use crate::auth::session_token::SessionTokens;
use crate::domain::access::{Access, Protected};
use crate::domain::cookie::{self, Found};
use crate::domain::decision::{
    Admission, Believed, Credential, Facts, Navigation, Presented, Refused, Rejection, decide,
};
use crate::domain::origin::{self, Origin};
use crate::domain::route::Miss;
use crate::domain::session::{Cause, ScopeId};
use crate::domain::target::{Host, Target};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::net::connection::Link;
use crate::net::recall::Seen;
use crate::net::tls::Secured;
use crate::proxy::possession;
use crate::proxy::revocation;
use crate::proxy::settings::External;
use crate::proxy::snapshot::Snapshot;
use crate::store::table::Table;
use http::header::{ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, COOKIE, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use std::sync::Arc;

/// The first segment of every own path.
const OWN_SEGMENT: &str = "_vestibule";

/// Fetch metadata, which browsers add and scripts cannot forge.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Where a canonical request goes.
pub(crate) enum Way<'a> {
    /// To an own path: what follows the prefix, without its slash.
    Own(&'a str),
    /// To this route.
    Route(usize),
}

/// Finds the way of a request by host and path alone.
pub(crate) fn way<'a>(
    snapshot: &Snapshot,
    host: &Host<'_>,
    target: &'a Target<'a>,
    method: &Method,
) -> Result<Way<'a>, Rejection> {
    // Segments without their parameters, as routes are matched: no spelling of our prefix belongs to an application.
    if target.segments().next() == Some(OWN_SEGMENT) {
        return if snapshot.routes.knows_host(host.name()) {
            let path = target.path();
            Ok(Way::Own(path[1..].split_once('/').map_or("", |(_, rest)| rest)))
        } else {
            Err(Rejection::NoRoute)
        };
    }
    snapshot.routes.find(host.name(), target, method).map(Way::Route).map_err(|miss| match miss {
        Miss::NoRoute => Rejection::NoRoute,
        Miss::Method(allowed) => Rejection::Method(allowed),
    })
}

/// What the decision needs besides the head.
pub(crate) struct Asking<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) sessions: &'a Table,
    pub(crate) outside: External,
    pub(crate) host: &'a Host<'a>,
    /// The connection, if this is about a request of it.
    pub(crate) link: Option<&'a Link>,
    /// What TLS has settled about the connection.
    pub(crate) secured: Option<&'a Secured>,
    /// The instant for session deadlines.
    pub(crate) now: Timestamp,
    /// The instant for `exp` and `nbf`; read only where a token is to be verified.
    pub(crate) wall: &'a (dyn Fn() -> Timestamp + Sync),
}

/// Questions that one request may make us ask, one after the other: of its route's token entries each may need one.
pub(crate) const QUESTIONS_MAX: usize = 4;

/// Decides about a request on a route; or says what must be answered first.
pub(crate) fn admit(
    asking: &Asking<'_>,
    route: usize,
    head: &RequestHeader,
) -> Result<Result<Admission, Refused>, Question> {
    let access = &asking.snapshot.route[route].access;
    let (presented, proved_key) = match access {
        Access::Public => (Presented::Nothing(Cause::Absent), None),
        Access::Protected(protected) => present(asking, protected, head)?,
    };
    let facts = facts(asking, access, &head.method, &head.headers);
    Ok(decide(access, Facts { proved_key, ..facts }, presented))
}

/// The same once `question` is answered, and whatever must be answered then.
pub(crate) async fn admit_once_answered(
    asking: &Asking<'_>,
    route: usize,
    head: &RequestHeader,
    mut question: Question,
) -> Result<Admission, Refused> {
    for _ in 0..QUESTIONS_MAX {
        if !question.answered().await {
            break;
        }
        match admit(asking, route, head) {
            Ok(decided) => return decided,
            Err(next) => question = next,
        }
    }
    Err(Rejection::Unjudged("token_not_known_yet").into())
}

/// The facts about a request besides its credential.
pub(crate) fn facts<'a>(
    asking: &Asking<'a>,
    access: &Access,
    method: &'a Method,
    headers: &HeaderMap,
) -> Facts<'a> {
    let upgrade = headers.contains_key(UPGRADE);
    let foreign = match access {
        // Where another site could do no harm, nobody asks where the request comes from.
        Access::Protected(protected) if upgrade || !method.is_safe() => {
            is_foreign(asking, &protected.cross_origin, headers)
        }
        _ => false,
    };
    Facts {
        method,
        upgrade,
        foreign,
        preflight: *method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        certificate: asking.secured.and_then(|secured| secured.certificate.as_ref()),
        now: asking.now,
        wall: match access {
            Access::Protected(protected) if protected.auth_age.is_some() => Some((asking.wall)()),
            _ => None,
        },
        proved_key: None,
    }
}

/// The fields that [`facts`] looks at in such a request; mostly none.
pub(crate) fn decisive(method: &Method, headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    if !method.is_safe() || *method == Method::OPTIONS || headers.contains_key(UPGRADE) {
        for name in [UPGRADE, ORIGIN, SEC_FETCH_SITE, ACCESS_CONTROL_REQUEST_METHOD] {
            if let Some(value) = headers.get(&name) {
                kept.insert(name, value.clone());
            }
        }
    }
    kept
}

/// What the request brings, and the key that it has proved to hold with it; or what must be answered before that can be said.
fn present(
    asking: &Asking<'_>,
    protected: &Protected,
    head: &RequestHeader,
) -> Result<(Presented, Option<[u8; 32]>), Question> {
    let headers = &head.headers;
    let without_key = |presented| Ok((presented, None));
    if !protected.tokens.is_empty()
        && let Some(authorization) = headers.get(AUTHORIZATION)
    {
        let wall = (asking.wall)();
        match believe(asking, authorization, protected, wall) {
            Ok(believed) => {
                if let Some(reason) = revocation::refusal(asking.snapshot, &believed, wall) {
                    return without_key(Presented::BadBearer(reason));
                }
                return match possession::prove(asking, head, authorization.as_bytes(), &believed) {
                    Ok(key) => Ok((Presented::Credential(Credential::Token(believed)), key)),
                    Err(why) => without_key(Presented::Unproved(why)),
                };
            }
            // Another scheme is the application's own business, not a credential of ours.
            Err(BearerRefusal::OtherScheme) => {}
            Err(BearerRefusal::Ask(question)) => return Err(question),
            Err(BearerRefusal::Unavailable(reason)) => return without_key(Presented::Unjudged(reason)),
            Err(refusal) => return without_key(Presented::BadBearer(refusal.reason())),
        }
    }
    if protected.sign_in.is_empty() {
        return without_key(Presented::Nothing(Cause::Absent));
    }
    without_key(match session(asking, headers) {
        Ok(session) => Presented::Credential(Credential::Session(session)),
        Err(cause) => Presented::Nothing(cause),
    })
}

/// Who an Authorization field proves; the connection knows what was found out about the token that came last.
fn believe(
    asking: &Asking<'_>,
    authorization: &HeaderValue,
    protected: &Protected,
    wall: Timestamp,
) -> Result<Arc<Believed>, BearerRefusal> {
    let bearer = &asking.snapshot.bearer;
    let accepted = &protected.tokens;
    let known = asking.link.and_then(|link| link.last_token().seen(authorization).cloned());
    let fingerprint = match known {
        Some(Seen { believed: Some((under, believed)), .. })
            if bearer.still_believes(&believed, under, accepted, wall) =>
        {
            return Ok(believed);
        }
        Some(Seen { fingerprint, .. }) => fingerprint,
        None => bearer.fingerprint(authorization.as_bytes())?,
    };
    // Read before: where keys change meanwhile, what is believed now is not believed again by these numbers.
    let under = bearer.under(accepted);
    let believed = bearer.believe_as(fingerprint, authorization.as_bytes(), accepted, wall)?;
    if let Some(link) = asking.link
        && link.may_remember(authorization)
    {
        let believed = under.map(|under| (under, Arc::clone(&believed)));
        link.last_token().remember(authorization.clone(), Seen { fingerprint, believed });
    }
    Ok(believed)
}

/// The live session that the request's cookie opens, on this scheme and host.
pub(crate) fn session(
    asking: &Asking<'_>,
    headers: &HeaderMap,
) -> Result<crate::domain::session::Session, Cause> {
    let digest = digest(asking, headers)?;
    let scope = asking.snapshot.scope(asking.outside, asking.host.name());
    let session = SessionTokens::find(asking.sessions, digest, scope, asking.now)?;
    // Where the way in is gone or leads elsewhere, what it said of anybody is worth nothing, to no page of ours either.
    if session.is_anonymous() || asking.snapshot.knows_entry(&session) {
        Ok(session)
    } else {
        Err(Cause::OtherWay)
    }
}

/// The digest of the request's one session token; the connection knows that of the cookies that came last.
fn digest(asking: &Asking<'_>, headers: &HeaderMap) -> Result<TokenDigest, Cause> {
    let generation = asking.snapshot.generation;
    let mut fields = headers.get_all(COOKIE).iter();
    let only = fields.next().filter(|_| fields.next().is_none()).zip(asking.link);
    if let Some((only, link)) = only
        && let Some(digest) = link.last_session().digest(only, generation)
    {
        return Ok(digest);
    }
    let name = asking.snapshot.cookie_name(asking.outside);
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let value = match cookie::find(fields, name) {
        Found::None => return Err(Cause::Absent),
        Found::One(value) => value,
        Found::Several(_) | Found::TooMany => return Err(Cause::Several),
    };
    let tokens = asking.snapshot.session_tokens.as_ref().ok_or(Cause::Unknown)?;
    let digest = tokens.digest(value).ok_or(Cause::Malformed)?;
    if let Some((only, link)) = only
        && link.may_remember(only)
    {
        link.last_session().remember(only.clone(), generation, digest);
    }
    Ok(digest)
}

/// Whether a browser says that a page of another origin caused this, which is not `listed` either.
pub(crate) fn is_foreign(asking: &Asking<'_>, listed: &[Origin], headers: &HeaderMap) -> bool {
    let site = headers.get(&SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    if site.is_none() && origin.is_none() {
        return false;
    }
    origin::is_foreign(site, origin, &own_origin(asking.outside, asking.host), listed)
}

/// The origin that browsers see this host under.
pub(crate) fn own_origin(outside: External, host: &Host<'_>) -> Origin {
    Origin { https: outside.https, host: host.name().to_owned(), port: outside.port }
}

/// A fingerprint of the cookie scope: scheme and host, or the shared domain.
pub(crate) fn scope_of(https: bool, name: &str) -> ScopeId {
    use siphasher::sip::SipHasher24;
    use std::hash::Hasher;
    let mut hasher = SipHasher24::new();
    hasher.write_u8(u8::from(https));
    hasher.write(name.as_bytes());
    ScopeId(hasher.finish())
}

/// How a refusal of this request is best shown.
pub(crate) fn navigation(head: &RequestHeader) -> Navigation {
    let wants_page = match head.headers.get(&SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => head
            .headers
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html")),
    };
    match (wants_page, head.method.is_safe()) {
        (false, _) => Navigation::None,
        (true, true) => Navigation::Page,
        (true, false) => Navigation::Form,
    }
}
