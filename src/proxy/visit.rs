//! Whose visit a request is: the session whose data the application may see and change, and whether one may be opened.
//!
//! It is the session that admitted the request, or on public and optional routes the one that its cookie opens, although no
//! identity is passed on there. A bearer token brings no session with it, and what another site's page makes a browser do is
//! no visit: it gets no data and changes none.

use crate::domain::decision::{Admission, Credential};
use crate::domain::session::{Cause, End, Session, SpaceId};
use crate::proxy::admit::{self, Asking};
use crate::proxy::snapshot::Route;
use cookie::SameSite;
use http::header::UPGRADE;
use http::{HeaderMap, HeaderName, Method};
use pingora::http::RequestHeader;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// What becomes of a patch in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patches {
    /// The route keeps no data: nobody looks for one.
    Unread,
    /// It changes what the visitor's session holds.
    Taken(SpaceId),
    /// There is no session; the first data that is kept opens one.
    Opening(SpaceId),
    /// There is nobody to keep it for; why.
    Dropped(&'static str),
}

/// The visitor of a request.
pub(crate) struct Visit {
    /// The live session whose data the upstream may see and change.
    pub(crate) session: Option<Session>,
    pub(crate) patches: Patches,
    /// The cookie was a token that a younger one has replaced.
    pub(crate) superseded: bool,
}

/// Finds whose data a request on this route is about.
pub(crate) fn find(asking: &Asking<'_>, route: &Route, head: &RequestHeader, admission: &Admission) -> Visit {
    let without = |patches| Visit { session: None, patches, superseded: false };
    let Some(space) = route.data else { return without(Patches::Unread) };
    match admission.credential() {
        Some(Credential::Token(_)) => return without(Patches::Dropped("bearer")),
        Some(Credential::Session(session)) => {
            let session = Some(session.clone());
            return Visit { session, patches: Patches::Taken(space), superseded: false };
        }
        None => {}
    }
    let harmful = !head.method.is_safe() || head.headers.contains_key(UPGRADE);
    if harmful && admit::is_foreign(asking, route.cross_origin(), &head.headers) {
        return without(Patches::Dropped("cross_origin"));
    }
    match admit::session(asking, &head.headers) {
        Ok(session) => Visit { session: Some(session), patches: Patches::Taken(space), superseded: false },
        Err(cause) => {
            let is_foreign = admit::is_foreign(asking, &[], &head.headers);
            let same_site = asking.snapshot.same_site(asking.outside);
            let may_open = asking.snapshot.rules.anonymous
                && is_replaceable(cause)
                && shows_all_cookies(&head.method, &head.headers, is_foreign, same_site);
            let patches = if may_open { Patches::Opening(space) } else { Patches::Dropped("no_session") };
            Visit { superseded: cause == Cause::Ended(End::Superseded), ..without(patches) }
        }
    }
}

/// Whether a cookie that opens no session, for this cause, may be replaced by that of a new anonymous one.
///
/// Not where a younger token has taken its place: the request was on its way while the visitor signed in, or had the token
/// renewed, and its answer would take the new token away. Not where several values came: nobody knows whose they are, and
/// one more would not tell. A dead, unknown or malformed one is worth nothing to anybody.
fn is_replaceable(cause: Cause) -> bool {
    !matches!(cause, Cause::Several | Cause::OtherWay | Cause::Ended(End::Superseded))
}

/// Whether a browser that holds a session cookie would have sent it with this request.
///
/// If it would not, "no cookie" does not mean "no session", and a cookie in the answer could take a signed-in visitor's token
/// away: another site's form, sent by POST to us, carries no `SameSite` cookie, and yet its answer may set one. So a request
/// that another origin caused counts only where browsers send the cookie along with it (RFC 6265bis §5.6.7, §8.8):
///
/// - `strict`: never with what another site caused; a browser that does not say who caused it may be following a link.
/// - `lax`: with safe top-level navigations alone; a frame is none.
/// - `none`: with all, but what is no navigation may be a background request that the visitor never sees.
fn shows_all_cookies(method: &Method, headers: &HeaderMap, is_foreign: bool, same_site: SameSite) -> bool {
    let says = |name: &HeaderName, word: &str| headers.get(name).is_some_and(|value| value == word);
    if !is_foreign {
        return same_site != SameSite::Strict || headers.contains_key(&SEC_FETCH_SITE);
    }
    let navigates = method.is_safe() && says(&SEC_FETCH_MODE, "navigate");
    match same_site {
        SameSite::Strict => false,
        SameSite::Lax => navigates && says(&SEC_FETCH_DEST, "document"),
        SameSite::None => navigates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
        });
        fields.collect()
    }

    #[test]
    fn a_cookie_is_set_only_where_one_that_is_held_would_have_been_sent() {
        use SameSite::{Lax, None, Strict};
        const LINK: &[(&str, &str)] = &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        const FRAME: &[(&str, &str)] =
            &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")];
        const IMAGE: &[(&str, &str)] = &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
        const OWN: &[(&str, &str)] = &[("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")];
        for (fields, is_foreign, method, same_site, expected) in [
            (OWN, false, Method::GET, Lax, true),
            (OWN, false, Method::POST, Lax, true),
            (OWN, false, Method::POST, Strict, true),
            (&[], false, Method::GET, Lax, true),
            (&[], false, Method::POST, None, true),
            (&[], false, Method::GET, Strict, false),
            (LINK, true, Method::GET, Lax, true),
            (LINK, true, Method::HEAD, None, true),
            (LINK, true, Method::GET, Strict, false),
            (LINK, true, Method::POST, Lax, false),
            (LINK, true, Method::POST, None, false),
            (FRAME, true, Method::GET, Lax, false),
            (FRAME, true, Method::GET, None, true),
            (IMAGE, true, Method::GET, Lax, false),
            (IMAGE, true, Method::GET, None, false),
            (&[], true, Method::GET, Lax, false),
        ] {
            let got = shows_all_cookies(&method, &headers(fields), is_foreign, same_site);
            assert_eq!(got, expected, "{method} {fields:?} {same_site}");
        }
    }

    #[test]
    fn a_token_that_is_being_replaced_is_not_replaced_by_an_anonymous_one() {
        for (cause, expected) in [
            (Cause::Absent, true),
            (Cause::Unknown, true),
            (Cause::Malformed, true),
            (Cause::OtherScope, true),
            (Cause::Ended(End::Idle), true),
            (Cause::Ended(End::SignOut), true),
            (Cause::Ended(End::Superseded), false),
            (Cause::Several, false),
        ] {
            assert_eq!(is_replaceable(cause), expected, "{}", cause.reason());
        }
    }
}
