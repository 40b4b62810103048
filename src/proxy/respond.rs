//! Answers of our own: a rejection → status, headers, text. No other file picks a status for a rejection.
//!
//! Browsers that navigate get a page, everybody else a problem document (RFC 9457). Every answer from here that does not say
//! otherwise is `no-store`. [`clean`] is the other direction: what an upstream's answer must lose before a visitor sees it.

use crate::domain::answer::{Topics, is_session_header};
use crate::domain::caching;
use crate::domain::cookie;
use crate::domain::decision::{Navigation, Rejection};
use crate::domain::possession::Unproved;
use crate::domain::session::{Cause, Session};
use crate::domain::target::{Host, Target};
use crate::proxy::admit;
use crate::proxy::challenge;
use crate::proxy::changes::{Changes, Hosts};
use crate::proxy::context::Context;
use crate::proxy::http2;
use crate::proxy::limits;
use crate::proxy::pages::{Language, Page};
use crate::proxy::possession;
use crate::proxy::read;
use crate::proxy::settings::{External, UpstreamHost};
use crate::proxy::snapshot::{Front, Snapshot};
use bytes::Bytes;
use http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, SET_COOKIE, STRICT_TRANSPORT_SECURITY,
    TRANSFER_ENCODING, VARY,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session as Exchange;
use serde_json::json;

/// An answer of our own.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, HeaderValue)>,
    /// Fields whose names the file says.
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), fields: Vec::new(), body: Bytes::new() }
    }

    /// A page of ours, in the visitor's language.
    pub(crate) fn page(status: StatusCode, ctx: &Context, head: &RequestHeader, page: &Page<'_>) -> Self {
        let language = Language::choose(head.headers.get(ACCEPT_LANGUAGE).map(HeaderValue::as_bytes));
        let pages = &ctx.snapshot.pages;
        let mut answer = Self::new(status)
            .with("Content-Type", HeaderValue::from_static("text/html; charset=utf-8"))
            .with("Content-Security-Policy", pages.content_security_policy().clone());
        answer.body = pages.render(page, language, ctx.request_id_text()).into();
        answer
    }

    /// A JSON document.
    pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        let mut answer = Self::new(status).with("Content-Type", HeaderValue::from_static("application/json"));
        answer.body = value.to_string().into();
        answer
    }

    /// Sends the browser elsewhere: a path of this host, or where the file says.
    pub(crate) fn redirect(status: StatusCode, location: &str) -> Self {
        let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
        Self::new(status).with("Location", location)
    }

    /// Whether it sends the browser elsewhere.
    pub(crate) fn is_redirect(&self) -> bool {
        self.status.is_redirection()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn with_field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// Writes an answer; a HEAD request gets the head alone.
pub(crate) async fn send(exchange: &mut Exchange, ctx: &mut Context, answer: Answer) -> pingora::Result<()> {
    let Answer { status, headers, fields, body } = answer;
    let head_only = exchange.req_header().method == Method::HEAD;
    let mut head = ResponseHeader::build(status, Some(headers.len() + fields.len() + 6))?;
    for (name, value) in fields {
        head.append_header(name, value)?;
    }
    for (name, value) in headers {
        head.append_header(name, value)?;
    }
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    if !head.headers.contains_key(CACHE_CONTROL) {
        head.insert_header(CACHE_CONTROL, "no-store")?;
    }
    head.insert_header("X-Content-Type-Options", "nosniff")?;
    head.insert_header("Referrer-Policy", "same-origin")?;
    head.insert_header("X-Request-Id", ctx.request_id_value())?;
    if let Some(hsts) = &ctx.front().hsts {
        head.insert_header(STRICT_TRANSPORT_SECURITY, hsts.clone())?;
    }
    let bare = head_only || body.is_empty();
    if bare && exchange.req_header().version == Version::HTTP_2 {
        // pingora would end it with an empty frame of data, which gRPC does not take for the end of a refusal ("Trailers-Only").
        return exchange.write_response_tasks(vec![HttpTask::Header(Box::new(head), true)]).await.map(drop);
    }
    exchange.write_response_header(Box::new(head), bare).await?;
    if !bare {
        exchange.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// The status of a rejection.
pub(crate) fn status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::BadRequest(_) => StatusCode::BAD_REQUEST,
        Rejection::Head(rejection) => {
            StatusCode::from_u16(rejection.status()).unwrap_or(StatusCode::BAD_REQUEST)
        }
        Rejection::NoRoute => StatusCode::NOT_FOUND,
        Rejection::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        Rejection::SessionsFull
        | Rejection::StoreUnavailable
        | Rejection::NoServer(_)
        | Rejection::Unjudged(_)
        | Rejection::Unproved(Unproved::Full) => StatusCode::SERVICE_UNAVAILABLE,
        Rejection::Unauthenticated(_)
        | Rejection::BadBearer(_)
        | Rejection::StaleToken(_)
        | Rejection::Unproved(_) => StatusCode::UNAUTHORIZED,
        Rejection::Forbidden
        | Rejection::Scope(_)
        | Rejection::ClientAddress
        | Rejection::Foreign
        | Rejection::BadForm(_)
        | Rejection::SubjectFull => StatusCode::FORBIDDEN,
        Rejection::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        Rejection::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Rejection::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Rejection::LengthRequired => StatusCode::LENGTH_REQUIRED,
        Rejection::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Rejection::Upstream(_) => StatusCode::BAD_GATEWAY,
        Rejection::UpstreamLate(_) => StatusCode::GATEWAY_TIMEOUT,
        Rejection::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a request that was turned away.
pub(crate) fn rejection(head: &RequestHeader, ctx: &Context, rejection: &Rejection) -> Answer {
    let navigation = admit::navigation(head);
    let route = ctx.route.map(|route| &ctx.snapshot.route[route]);
    let login = route.filter(|route| !route.ways.is_empty()).map(|_| login_path(head));
    if http2::is_grpc(head) {
        return grpc(rejection);
    }
    let mut answer = match (rejection, navigation, &login) {
        (Rejection::Unauthenticated(_), Navigation::Page, Some(login)) => {
            return Answer::redirect(StatusCode::FOUND, login);
        }
        (_, Navigation::None, _) => problem(head, ctx, rejection, login.as_deref()),
        (_, Navigation::Page | Navigation::Form, _) => {
            let subject = ctx.record.session_subject();
            let page = page_for(rejection, navigation, subject.as_deref(), login.as_deref());
            Answer::page(status(rejection), ctx, head, &page)
        }
    };
    match rejection {
        Rejection::Unauthenticated(_)
        | Rejection::BadBearer(_)
        | Rejection::StaleToken(_)
        | Rejection::Scope(_) => {
            let takes_tokens = route.is_some_and(crate::proxy::snapshot::Route::takes_tokens);
            answer = answer.with("WWW-Authenticate", challenge::of(rejection, takes_tokens));
            if let Some(further) = possession::further_challenge(head, route, rejection) {
                answer = answer.with("WWW-Authenticate", further);
            }
        }
        Rejection::Unproved(why) if *why != Unproved::Full => {
            for (name, value) in possession::challenges(ctx, *why) {
                answer = answer.with(name, value);
            }
        }
        Rejection::Method(allowed) => answer = answer.with("Allow", allow(allowed)),
        Rejection::StoreUnavailable | Rejection::Unjudged(_) => {
            answer = answer.with("Retry-After", HeaderValue::from_static("5"));
        }
        Rejection::TooMany(wait) => {
            answer = answer.with("Retry-After", HeaderValue::from(limits::seconds(*wait)));
            for (name, value) in limits::fields(ctx) {
                answer = answer.with(name, value);
            }
        }
        Rejection::SessionsFull | Rejection::NoServer(_) | Rejection::Unproved(_) => {
            answer = answer.with("Retry-After", HeaderValue::from_static("10"));
        }
        _ => {}
    }
    answer
}

fn page_for<'a>(
    rejection: &Rejection,
    navigation: Navigation,
    subject: Option<&'a str>,
    login: Option<&'a str>,
) -> Page<'a> {
    match (rejection, login) {
        (Rejection::Unauthenticated(_), Some(login_url)) if navigation == Navigation::Form => {
            Page::SignInAgain { login_url }
        }
        (
            Rejection::SessionsFull
            | Rejection::StoreUnavailable
            | Rejection::NoServer(_)
            | Rejection::Unjudged(_)
            | Rejection::Unproved(Unproved::Full),
            _,
        ) => Page::Unavailable,
        (
            Rejection::Unauthenticated(_)
            | Rejection::BadBearer(_)
            | Rejection::StaleToken(_)
            | Rejection::Unproved(_),
            _,
        ) => Page::Unauthorized,
        (Rejection::NoRoute, _) => Page::NotFound,
        (Rejection::Method(_), _) => Page::MethodNotAllowed,
        (
            Rejection::Forbidden
            | Rejection::Scope(_)
            | Rejection::Foreign
            | Rejection::BadForm(_)
            | Rejection::SubjectFull,
            _,
        ) => Page::Forbidden { subject },
        // Another sign-in would not help.
        (Rejection::ClientAddress, _) => Page::Forbidden { subject: None },
        (Rejection::TooMany(wait), _) => Page::TooManyRequests { seconds: limits::seconds(*wait) },
        (Rejection::TooLarge, _) => Page::TooLarge,
        (
            Rejection::BadRequest(_)
            | Rejection::Head(_)
            | Rejection::Misdirected
            | Rejection::LengthRequired
            | Rejection::TooSlow,
            _,
        ) => Page::BadRequest,
        (Rejection::Upstream(_), _) => Page::BadGateway,
        (Rejection::UpstreamLate(_), _) => Page::GatewayTimeout,
        (Rejection::Internal(_), _) => Page::Internal,
    }
}

/// A problem document (RFC 9457); a refused sign-in names the login URL.
fn problem(head: &RequestHeader, ctx: &Context, rejection: &Rejection, login: Option<&str>) -> Answer {
    let status = status(rejection);
    let mut document = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": rejection.to_string(),
        "request_id": ctx.request_id_text(),
    });
    if let (Rejection::Unauthenticated(_), Some(login)) = (rejection, login) {
        document["login"] = json!(format!("{}{login}", base_url(head, ctx)));
    }
    let mut answer = Answer::json(status, &document);
    answer.headers.clear();
    answer.with("Content-Type", HeaderValue::from_static("application/problem+json"))
}

/// A refusal in the words of gRPC: a head alone, whose status says nothing (gRPC over HTTP/2, "Trailers-Only").
fn grpc(rejection: &Rejection) -> Answer {
    let message = HeaderValue::from_str(&rejection.to_string()).unwrap_or(HeaderValue::from_static(""));
    Answer::new(StatusCode::OK)
        .with("Content-Type", HeaderValue::from_static("application/grpc"))
        .with("Grpc-Status", HeaderValue::from_static(http2::grpc_status(status(rejection))))
        .with("Grpc-Message", message)
}

/// `scheme://host[:port]` as browsers see it: the canonical host where the route names hosts, else that of `external_url`.
pub(crate) fn base_url(head: &RequestHeader, ctx: &Context) -> String {
    let request_host = read::host_of(head);
    let route_names_hosts = ctx.route.is_some_and(|route| ctx.snapshot.route[route].names_hosts);
    let (host, outside) = match &ctx.snapshot.external_url {
        Some((host, outside)) if !route_names_hosts => (host.as_str(), *outside),
        _ => (request_host.name(), ctx.outside()),
    };
    origin_url(host, outside)
}

/// `scheme://host[:port]`; the usual port is left out.
pub(crate) fn origin_url(host: &str, outside: External) -> String {
    let (scheme, usual) = if outside.https { ("https", 443) } else { ("http", 80) };
    if outside.port == usual {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}:{}", outside.port)
    }
}

/// The login page's path, with the page that was asked for as `return_to`.
pub(crate) fn login_path(head: &RequestHeader) -> String {
    const LOGIN: &str = "/_vestibule/login?";
    let mut query = form_urlencoded::Serializer::for_suffix(String::from(LOGIN), LOGIN.len());
    let target = Target::parse(head.raw_path()).map(|target| target.to_string()).unwrap_or_default();
    // A form's target is not a page to come back to.
    let return_to = if head.method.is_safe() { target.as_str() } else { "/" };
    query.append_pair("return_to", return_to);
    query.finish()
}

pub(crate) fn allow(methods: &[Method]) -> HeaderValue {
    let listed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    HeaderValue::from_str(&listed.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// The whole answer, as bytes, to a head that no filter saw; the connection ends with it.
pub(crate) fn raw(status: u16, request_id: &str, front: Option<&Front>) -> Vec<u8> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    write(status, &Rejection::BadRequest("head"), &hsts_line(front), request_id, false)
}

/// `Strict-Transport-Security` as a line of a head.
fn hsts_line(front: Option<&Front>) -> String {
    let value = front.and_then(|front| front.hsts.as_ref()?.to_str().ok());
    value.map_or_else(String::new, |value| format!("Strict-Transport-Security: {value}\r\n"))
}

/// The whole answer, as bytes, to a request whose session ended while it waited for its answer.
pub(crate) fn ended(ctx: &Context) -> Vec<u8> {
    let rejection = Rejection::Unauthenticated(Cause::Absent);
    let takes_tokens = ctx.route.is_some_and(|route| ctx.snapshot.route[route].takes_tokens());
    let challenge = challenge::of(&rejection, takes_tokens);
    let hsts = hsts_line(Some(ctx.front()));
    let fields = format!("WWW-Authenticate: {}\r\n{hsts}", challenge.to_str().unwrap_or_default());
    write(status(&rejection), &rejection, &fields, ctx.request_id_text(), ctx.head_only)
}

fn write(
    status: StatusCode,
    rejection: &Rejection,
    fields: &str,
    request_id: &str,
    head_only: bool,
) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or("Refused");
    let status = status.as_u16();
    let body = json!({
        "type": "about:blank",
        "title": reason,
        "status": status,
        "detail": rejection.to_string(),
        "request_id": request_id,
    })
    .to_string();
    let length = body.len();
    let body = if head_only { "" } else { &body };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n\
         {fields}Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: {request_id}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Whom an upstream's answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Whoever asks gets the same.
    Everybody,
    /// Those without a session: others would be told of their data.
    Strangers,
    /// This visitor alone.
    Visitor,
}

/// What the route changes in the answer, and what that is told by.
pub(crate) fn changes<'a>(request: &'a RequestHeader, ctx: &'a Context) -> Option<(&'a Changes, Hosts<'a>)> {
    let route = &ctx.snapshot.route[ctx.route?];
    let changes = route.changes.as_deref()?;
    let visitor = read::host_of(request);
    let sent = match &ctx.snapshot.upstreams.get(route.upstream)?.host {
        UpstreamHost::Keep => visitor.clone(),
        UpstreamHost::Send(name) => Host::parse(name.as_bytes()).ok()?,
    };
    Some((changes, Hosts { visitor, sent }))
}

/// Fields that join an answer: Cache-Control and Vary of ours, Date and Connection of pingora's. A map that grows by one is made anew
/// each time.
const ADDED: usize = 4;

/// Takes out of an upstream's answer what is not for visitors, and keeps it out of shared caches where it depends on who asks.
///
/// The spelling of names is forgotten here as in requests; a phrase of the upstream's own
/// behind the status stays.
pub(crate) fn clean(
    head: &mut ResponseHeader,
    topics: Topics,
    snapshot: &Snapshot,
    outside: External,
    audience: Audience,
    changes: Option<(&Changes, Hosts<'_>)>,
) -> pingora::Result<()> {
    let phrase = head.get_reason_phrase();
    let phrase = phrase.filter(|phrase| Some(*phrase) != head.status.canonical_reason()).map(str::to_owned);
    let (empty, ()) = http::Response::new(()).into_parts();
    let mut parts = Parts::from(std::mem::replace(head, ResponseHeader::from(empty)));
    if topics.connection && parts.status != StatusCode::SWITCHING_PROTOCOLS {
        if topics.hops {
            drop_hop_by_hop(&mut parts.headers);
        } else {
            parts.headers.remove(CONNECTION);
        }
    }
    if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
        // Of nothing, as `answer::check` has seen, and yet it may not be there (RFC 9110 §8.6).
        parts.headers.remove(CONTENT_LENGTH);
    }
    if topics.session {
        strip_session_headers(&mut parts.headers);
    }
    if topics.cookies {
        strip_own_cookies(&mut parts.headers, snapshot, outside);
    }
    let is_changed = changes.is_some();
    if is_changed || audience != Audience::Everybody {
        parts.headers.reserve(ADDED);
    }
    if let Some((changes, hosts)) = changes
        && !parts.status.is_informational()
    {
        changes.dress_answer(&mut parts.headers, &hosts);
    }
    match audience {
        Audience::Everybody => {}
        Audience::Strangers => {
            parts.headers.append(VARY, HeaderValue::from_static("Cookie"));
        }
        Audience::Visitor => make_private(&mut parts.headers, topics.caching || is_changed),
    }
    *head = ResponseHeader::from(parts);
    match phrase {
        Some(phrase) => head.set_reason_phrase(Some(&phrase)),
        None => Ok(()),
    }
}

/// The same for the fields that follow an upstream's answer.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap, snapshot: &Snapshot, outside: External) {
    drop_hop_by_hop(trailers);
    strip_session_headers(trailers);
    strip_own_cookies(trailers, snapshot, outside);
}

/// Removes session headers in every spelling.
fn strip_session_headers(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_session_header(name)).cloned() {
        headers.remove(name);
    }
}

/// Removes cookies that only we may set.
fn strip_own_cookies(headers: &mut HeaderMap, snapshot: &Snapshot, outside: External) {
    let own = snapshot.own_cookies(outside);
    let sets_ours = |value: &HeaderValue| own.iter().any(|name| cookie::sets(name, value.as_bytes()));
    if !headers.get_all(SET_COOKIE).iter().any(sets_ours) {
        return;
    }
    let all: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for value in all.into_iter().filter(|value| !sets_ours(value)) {
        headers.append(SET_COOKIE, value);
    }
}

/// Keeps an answer that depends on who asks out of shared caches. `may_speak`: it may say something of caches itself.
fn make_private(headers: &mut HeaderMap, may_speak: bool) {
    let private = HeaderValue::from_static("private");
    let directives = if may_speak && headers.contains_key(CACHE_CONTROL) {
        let fields = headers.get_all(CACHE_CONTROL).iter();
        let directives: Vec<&str> = fields.filter_map(|value| value.to_str().ok()).collect();
        HeaderValue::try_from(caching::make_private(&directives.join(", "))).unwrap_or(private)
    } else {
        private
    };
    headers.insert(CACHE_CONTROL, directives);
    headers.append(VARY, HeaderValue::from_static("Cookie, Authorization"));
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What an upstream says of its own connection (RFC 9110 §7.6.1). A 101 keeps its fields: they are the agreement. Fields that
/// delimit the message stay, nominated or not: without them it would have another end.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    headers.remove(KEEP_ALIVE);
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let nominations = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let nominated: Vec<HeaderName> = nominations
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING)
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
}

/// What `GET session` tells.
pub(crate) fn session_document(
    session: &Session,
    clocks: &crate::domain::session::Clocks,
) -> serde_json::Value {
    use crate::domain::identity::{Claim, EMAIL, GROUPS, decode};
    let identity = session.identity();
    let groups: Vec<String> = match identity.claim(GROUPS) {
        Some(Claim::List(items)) => items.split(',').map(decode).collect(),
        Some(Claim::Text(item)) => vec![decode(item)],
        None => Vec::new(),
    };
    json!({
        "subject": decode(identity.subject()),
        "source": decode(identity.source()),
        "email": identity.claim(EMAIL).map(|email| decode(email.header_form())),
        "groups": groups,
        "sign_in": session.sign_in(),
        "started_at": session.opened_at(),
        "idle_until": session.idle_until(clocks),
        "ends_at": session.ends_at(clocks),
    })
}
