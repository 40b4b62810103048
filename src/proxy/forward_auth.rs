//! Answers for another proxy: whether a request that it holds may pass, and whose it is.
//!
//! The same routes and rules decide as over a request that comes here itself, on what that proxy tells of it
//! ([`crate::domain::forwarded`]). What comes back is an answer without a body: 200 with every header that the application believes, the
//! unknown ones empty, so that they take the place of what a client has forged; else a refusal. Nothing is ever renewed, nothing set.
//!
//! Whoever asks takes 2xx for a yes. So no refusal from here has such a status, in no protocol's words.

use crate::domain::decision::{Admission, Credential, Navigation, Rejection};
use crate::domain::forwarded::{Dialect, Forwarded};
use crate::domain::session::{Cause, End};
use crate::domain::target::Target;
use crate::proxy::admit::{self, Asking, Way};
use crate::proxy::assertion;
use crate::proxy::context::Context;
use crate::proxy::forward;
use crate::proxy::parts::Parts;
use crate::proxy::read;
use crate::proxy::renewal;
use crate::proxy::respond::{self, Answer};
use crate::proxy::settings::ForwardAuthSettings;
use crate::telemetry::metrics::Outcome;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use ipnet::IpNet;
use pingora::http::RequestHeader;

/// Where another proxy asks; everything below belongs to it too.
const PATH: &[u8] = b"/_vestibule/auth";
/// Asks for 302 to the sign-in instead of 401, where a browser opens a page.
const REDIRECT: &str = "redirect=1";
/// How a browser fetches; not one that can be sent elsewhere where no redirect is wanted.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// `forward_auth`, compiled.
pub struct ForwardAuth {
    dialect: Dialect,
    from: Vec<IpNet>,
    /// Whose word on a visitor's address is believed here.
    believed: Vec<IpNet>,
    /// Every header that an application may believe.
    names: Vec<HeaderName>,
}

impl ForwardAuth {
    /// `names` are all headers that only we may set by the file.
    pub fn new(settings: &ForwardAuthSettings, trusted: &[IpNet], names: &[HeaderName]) -> Self {
        let ForwardAuthSettings { dialect, from } = settings;
        let believed = from.iter().chain(trusted).copied().collect();
        Self { dialect: *dialect, from: from.clone(), believed, names: names.to_vec() }
    }

    /// Whether navigations are sent to the sign-in. Envoy puts the visitor's own query behind our path, where nothing of ours fits.
    fn redirects(&self, query: &[u8]) -> bool {
        self.dialect == Dialect::Envoy
            || query.split(|&byte| byte == b'&').any(|one| one == REDIRECT.as_bytes())
    }
}

/// Whether a request is such a question, before anything of it is brought into another form: then what stands behind our path, and
/// the query.
pub(crate) fn question(head: &RequestHeader) -> Option<(&[u8], &[u8])> {
    let behind = head.raw_path().strip_prefix(PATH)?;
    if !matches!(behind.first(), None | Some(b'/' | b'?')) {
        return None;
    }
    let query = behind.iter().position(|&byte| byte == b'?').map_or(&b""[..], |at| &behind[at + 1..]);
    Some((behind, query))
}

/// Answers a question.
pub(crate) async fn answer(parts: &Parts, head: &RequestHeader, ctx: &mut Context) -> Answer {
    let (behind, query) = question(head).unwrap_or_default();
    let snapshot = ctx.snapshot.clone();
    let peer = ctx.link.as_ref().map(|link| link.address());
    let asked = snapshot.forward_auth.as_ref().zip(peer);
    let asked = asked.filter(|(asked, peer)| asked.from.iter().any(|network| network.contains(peer)));
    // Where its path says nothing of the visitor's, it is one that could not lead elsewhere: `auth/../login` is no question.
    let asked = asked.filter(|(asked, _)| {
        asked.dialect == Dialect::Envoy
            || Target::parse(head.raw_path()).is_ok_and(|target| target.is_as_sent())
    });
    let Some((settings, peer)) = asked else {
        ctx.record.outcome = Some(Outcome::Own);
        return refusal(&plain(head), ctx, &Rejection::NoRoute);
    };
    ctx.client = read::client_address(peer, head, &settings.believed);
    if let Some(link) = ctx.link.clone() {
        ctx.record.begin(&link, ctx.client);
    }
    let read = Forwarded::read(settings.dialect, &head.method, behind, &head.headers)
        .map_err(|rejection| Rejection::BadRequest(rejection.reason()))
        .and_then(|forwarded| Ok((original(head, &forwarded)?, forwarded)));
    let (original, decided) = match read {
        Ok((original, forwarded)) => {
            ctx.record.canonical = true;
            ctx.record.read_head(&original);
            let decided = decide(parts, &original, &forwarded, ctx).await;
            (original, decided.and_then(|admission| says(parts, ctx, settings, admission)))
        }
        Err(rejection) => (plain(head), Err(rejection)),
    };
    match decided {
        Ok(answer) => answer,
        Err(rejection) => refuse(settings, &original, query, ctx, &rejection),
    }
}

/// The head of the request that is asked about, as far as decisions and refusals look at it.
fn original(head: &RequestHeader, forwarded: &Forwarded<'_>) -> Result<RequestHeader, Rejection> {
    let mut original = plain(head);
    for name in [ACCEPT, SEC_FETCH_MODE] {
        if let Some(value) = head.headers.get(&name) {
            original.insert_header(name, value.clone()).map_err(|_| Rejection::Internal("original"))?;
        }
    }
    original.set_method(forwarded.method.clone());
    let target = forwarded.target.to_string();
    original.set_raw_path(target.as_bytes()).map_err(|_| Rejection::BadRequest("target"))?;
    let host =
        HeaderValue::from_str(&forwarded.host.to_string()).map_err(|_| Rejection::BadRequest("host"))?;
    original.insert_header(HOST, host).map_err(|_| Rejection::Internal("original"))?;
    // Proxies keep `Upgrade` to themselves; what a browser says beside it comes through.
    if [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION].iter().any(|name| head.headers.contains_key(name)) {
        original
            .insert_header(UPGRADE, HeaderValue::from_static("websocket"))
            .map_err(|_| Rejection::Internal("original"))?;
    }
    Ok(original)
}

/// The head as one of a program that reads statuses: no page is shown to it, and nothing is said in words of gRPC.
fn plain(head: &RequestHeader) -> RequestHeader {
    let mut plain = head.clone();
    for name in [ACCEPT, CONTENT_TYPE, CONTENT_LENGTH, SEC_FETCH_MODE] {
        plain.remove_header(&name);
    }
    plain.set_version(Version::HTTP_11);
    plain
}

/// Decides as over a request of our own.
async fn decide(
    parts: &Parts,
    original: &RequestHeader,
    forwarded: &Forwarded<'_>,
    ctx: &mut Context,
) -> Result<Admission, Rejection> {
    let snapshot = ctx.snapshot.clone();
    let outside = ctx.outside();
    if forwarded.https != outside.https {
        // Cookies of one count nothing on the other, and links of ours would lead astray.
        return Err(Rejection::BadRequest("forwarded_other_scheme"));
    }
    let secured = ctx.link.as_ref().and_then(|link| link.secured()).cloned();
    if !ctx.front().still_believes(secured.as_deref()) {
        return Err(Rejection::Misdirected);
    }
    let route = match admit::way(&snapshot, &forwarded.host, &forwarded.target, &forwarded.method)? {
        Way::Route(route) => route,
        // The other proxy passes them on to us and asks nobody.
        Way::Own(_) => return Err(Rejection::BadRequest("forwarded_own_path")),
    };
    ctx.route = Some(route);
    ctx.record.route = Some(route);
    if snapshot.route[route].redirect.is_some() {
        return Err(Rejection::BadRequest("forwarded_redirect_route"));
    }
    let limits = snapshot.route[route].limits.as_deref();
    if let Some(limits) = limits {
        limits.at_the_door(parts, ctx)?;
    }
    let asking = Asking {
        snapshot: &snapshot,
        sessions: &parts.sessions,
        outside,
        host: &forwarded.host,
        // A certificate would be the other proxy's.
        link: None,
        secured: None,
        now: ctx.now,
        wall: &|| parts.clock.wall(),
    };
    let decided = match admit::admit(&asking, route, original) {
        Ok(decided) => decided,
        Err(question) => Box::pin(admit::admit_once_answered(&asking, route, original, question)).await,
    };
    let admission = decided.map_err(|refused| {
        if let Some(credential) = &refused.credential {
            ctx.record.identify(credential);
        }
        if refused.rejection == Rejection::Unauthenticated(Cause::Ended(End::Superseded)) {
            renewal::note_superseded(parts, original, ctx);
        }
        refused.rejection
    })?;
    if let Some(limits) = limits {
        // The body stays with the other proxy.
        limits.once_admitted(parts, ctx, &admission, &HeaderMap::new())?;
    }
    if let Some(credential) = admission.credential() {
        ctx.record.identify(credential);
        if let Credential::Session(session) = credential
            && snapshot.route[route].counts_activity
        {
            parts.sessions.touch(session, ctx.now);
        }
    }
    ctx.record.outcome = Some(match (admission.credential(), snapshot.route[route].is_protected()) {
        (Some(_), _) => Outcome::Admitted,
        (None, true) => Outcome::Anonymous,
        (None, false) => Outcome::Public,
    });
    Ok(admission)
}

/// The yes: every header that an application may believe, with what is known of whoever was admitted.
fn says(
    parts: &Parts,
    ctx: &mut Context,
    settings: &ForwardAuth,
    admission: Admission,
) -> Result<Answer, Rejection> {
    let snapshot = ctx.snapshot.clone();
    ctx.admission = Some(admission);
    let Some(number) = ctx.route.map(|route| snapshot.route[route].upstream) else {
        return Err(Rejection::Internal("no_route"));
    };
    let upstream = &snapshot.upstreams[number];
    let mut known = HeaderMap::new();
    if let Some(credential) = ctx.admission.as_ref().and_then(Admission::credential) {
        for header in &upstream.identity {
            if let Some(value) = forward::says(header, credential, &parts.sessions) {
                known.insert(header.name.clone(), value);
            }
        }
    }
    if let Some((name, value)) = assertion::of(parts, ctx, number)? {
        known.insert(name, value);
    }
    ctx.still_admitted()?;
    let mut answer = Answer::new(StatusCode::OK);
    for name in &settings.names {
        let value = known.remove(name).unwrap_or(HeaderValue::from_static(""));
        answer = answer.with_field(name.clone(), value);
    }
    Ok(answer)
}

/// The no, as the other proxy understands it.
fn refuse(
    settings: &ForwardAuth,
    original: &RequestHeader,
    query: &[u8],
    ctx: &mut Context,
    rejection: &Rejection,
) -> Answer {
    let has_ways = matches!(rejection, Rejection::Unauthenticated(_))
        && ctx.route.is_some_and(|route| !ctx.snapshot.route[route].ways.is_empty());
    let is_page = admit::navigation(original) == Navigation::Page;
    let sign_in = (has_ways && is_page)
        .then(|| format!("{}{}", respond::base_url(original, ctx), respond::login_path(original)));
    let refused = refusal(&plain(original), ctx, rejection);
    match (settings.dialect, sign_in) {
        // It knows 401 and 403 alone, and may send the browser there itself.
        (Dialect::Nginx, sign_in) => {
            let status = refused.status();
            if status.is_client_error() && status != StatusCode::UNAUTHORIZED {
                return refused.with_status(StatusCode::FORBIDDEN);
            }
            let location = sign_in.and_then(|url| HeaderValue::from_str(&url).ok());
            location.into_iter().fold(refused, |refused, url| refused.with("Location", url))
        }
        (_, Some(url)) if settings.redirects(query) => {
            ctx.record.outcome = Some(Outcome::SignIn);
            Answer::redirect(StatusCode::FOUND, &url)
        }
        _ => refused,
    }
}

/// A refusal with its own status, which is never one of success.
fn refusal(original: &RequestHeader, ctx: &mut Context, rejection: &Rejection) -> Answer {
    ctx.record.reject(rejection);
    let answer = respond::rejection(original, ctx, rejection);
    let status = answer.status();
    if status.is_client_error() || status.is_server_error() {
        answer
    } else {
        answer.with_status(StatusCode::FORBIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_known_by_its_path_as_it_came() {
        let question = |target: &str| {
            let head = RequestHeader::build("GET", target.as_bytes(), None).expect("it parses");
            super::question(&head).map(|(behind, query)| {
                (String::from_utf8_lossy(behind).into_owned(), String::from_utf8_lossy(query).into_owned())
            })
        };
        let is = |behind: &str, query: &str| Some((behind.to_owned(), query.to_owned()));
        assert_eq!(question("/_vestibule/auth"), is("", ""));
        assert_eq!(question("/_vestibule/auth?redirect=1"), is("?redirect=1", "redirect=1"));
        assert_eq!(question("/_vestibule/auth/a?b?c"), is("/a?b?c", "b?c"));
        for target in
            ["/_vestibule/authx", "/_vestibule/%61uth", "/_vestibule//auth", "/_Vestibule/auth", "/"]
        {
            assert_eq!(question(target), None, "{target}");
        }
    }
}
