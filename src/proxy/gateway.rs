//! The phases of an exchange in the order in which pingora runs them, a few lines each.
//!
//! `early_request_filter` and `request_filter` read, route and decide; a request that is not admitted is answered there and
//! never comes near an upstream. `upstream_request_filter` prepares what is forwarded, and asks for the [`Admission`] by
//! type. `response_filter` takes out what visitors must not see. The access line is written when the [`Context`] is dropped,
//! so that an exchange which breaks off half-way is told as well.
//!
//! [`Admission`]: crate::domain::decision::Admission

use crate::auth::upstream_claim;
use crate::domain::answer::{self, Topics};
use crate::domain::decision::{Admission, Credential, Rejection};
use crate::domain::session::{Cause, End};
use crate::net::connection::Link;
use crate::proxy::admit::{self, Asking, Way};
use crate::proxy::assertion;
use crate::proxy::context::Context;
use crate::proxy::endpoints;
use crate::proxy::forward::{self, Forwarding};
use crate::proxy::forward_auth;
use crate::proxy::hops;
use crate::proxy::http2;
use crate::proxy::lending::Lending;
use crate::proxy::limits;
use crate::proxy::observe::Record;
use crate::proxy::parts::Parts;
use crate::proxy::possession;
use crate::proxy::reach::{self, Reach};
use crate::proxy::read::{self, Reading};
use crate::proxy::redirect;
use crate::proxy::remember;
use crate::proxy::renewal;
use crate::proxy::respond::{self, Answer, Audience};
use crate::proxy::stream;
use crate::proxy::tunnel;
use crate::proxy::upstream_sign_in;
use crate::proxy::visit::{self, Patches};
use crate::telemetry::metrics::Outcome;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{SET_COOKIE, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session as Exchange};
use pingora::upstreams::peer::{ALPN, HttpPeer, Peer};
use pingora::{Error, ErrorSource, ErrorType};
use std::sync::Arc;
use std::time::Duration;

/// pingora's `true` of `request_filter`: we have answered.
const ANSWERED: bool = true;
/// pingora's `false` of `request_filter`: go on to the upstream.
const CONTINUE: bool = false;

/// The proxy application.
pub struct Gateway {
    parts: Arc<Parts>,
}

impl Gateway {
    /// A gateway over the parts that outlive configurations.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// Reads, routes and decides; what comes back as an error is shown to the client.
    async fn walk(&self, exchange: &mut Exchange, ctx: &mut Context) -> Result<Option<Answer>, Rejection> {
        let snapshot = ctx.snapshot.clone();
        http2::reshape(exchange.req_header_mut())?;
        if snapshot.forward_auth.is_some()
            && ctx.front().redirect.is_none()
            && forward_auth::question(exchange.req_header()).is_some()
        {
            // As it came: what another proxy asks about is not brought into another form.
            return Ok(Some(Box::pin(forward_auth::answer(&self.parts, exchange.req_header(), ctx)).await));
        }
        let (host, target) = match read::read(exchange.req_header())? {
            Reading::Canonical(host, target) => (host, target),
            Reading::Other(rewriting) => {
                ctx.lending = Lending::Never;
                rewriting.apply(exchange.req_header_mut())?;
                read::again(exchange.req_header())?
            }
        };
        ctx.record.canonical = true;
        let head = exchange.req_header();
        ctx.head_only = head.method == Method::HEAD;
        let secured = ctx.link.as_ref().and_then(|link| link.secured()).cloned();
        ctx.front().takes(secured.as_deref(), &host)?;
        if ctx.front().redirect.is_some() {
            ctx.record.outcome = Some(Outcome::Own);
            return Box::pin(redirect::answer(head, ctx)).await.map(Some);
        }
        let outside = ctx.outside();
        let route = match admit::way(&snapshot, &host, &target, &head.method)? {
            Way::Route(route) => route,
            Way::Own(path) => {
                let path = path.to_owned();
                ctx.record.outcome = Some(Outcome::Own);
                // Boxed: its state is many times that of a request which is forwarded.
                return Box::pin(endpoints::answer(&self.parts, exchange, ctx, &path)).await.map(Some);
            }
        };
        ctx.route = Some(route);
        ctx.record.route = Some(route);
        let limits = snapshot.route[route].limits.as_deref();
        if let Some(limits) = limits {
            limits.at_the_door(&self.parts, ctx)?;
        }
        let link = ctx.link.clone();
        let asking = Asking {
            snapshot: &snapshot,
            sessions: &self.parts.sessions,
            outside,
            host: &host,
            link: link.as_deref(),
            secured: secured.as_deref(),
            now: ctx.now,
            wall: &|| self.parts.clock.wall(),
        };
        let timed = ctx.record.is_sampled().then(|| self.parts.clock.ticks());
        let decided = admit::admit(&asking, route, head);
        if let Some(began) = timed {
            let span = self.parts.clock.ticks().saturating_sub(began);
            self.parts.metrics.look_up_seconds.observe(span.as_secs_f64());
        }
        let decided = match decided {
            Ok(decided) => decided,
            // Boxed: its state is for one request in many.
            Err(question) => Box::pin(admit::admit_once_answered(&asking, route, head, question)).await,
        };
        let admission = decided.map_err(|refused| {
            if let Some(credential) = &refused.credential {
                ctx.record.identify(credential);
                ctx.forbidden = credential.session().cloned();
            }
            if refused.rejection == Rejection::Unauthenticated(Cause::Ended(End::Superseded)) {
                renewal::note_superseded(&self.parts, head, ctx);
            }
            refused.rejection
        })?;
        let counts_activity = snapshot.route[route].counts_activity;
        if let Some(credential) = admission.credential() {
            ctx.record.identify(credential);
            tie(ctx, credential, counts_activity);
        }
        if let Some(limits) = limits {
            limits.once_admitted(&self.parts, ctx, &admission, &head.headers)?;
        }
        let visit = visit::find(&asking, &snapshot.route[route], head, &admission);
        if visit.superseded {
            renewal::note_superseded(&self.parts, head, ctx);
        }
        let used = admission.credential().and_then(Credential::session).or(visit.session.as_ref());
        if let Some(session) = used
            && counts_activity
        {
            self.parts.sessions.touch(session, ctx.now);
        }
        (ctx.visitor, ctx.patches) = (visit.session, visit.patches);
        ctx.record.outcome = Some(outcome(&admission, snapshot.route[route].is_protected()));
        ctx.admission = Some(admission);
        let answer = snapshot.route[route].redirect.as_ref().map(|redirect| {
            // What we answer ourselves is short.
            ctx.link.iter().for_each(|link| link.untie());
            Answer::redirect(redirect.status, &redirect.location(&target))
        });
        Ok(answer)
    }

    /// What is to be done before the head of an answer goes on; gives the session cookie that goes with it.
    async fn conclude(
        &self,
        exchange: &mut Exchange,
        answer: &ResponseHeader,
        topics: Topics,
        ctx: &mut Context,
    ) -> Result<Option<HeaderValue>, Rejection> {
        ctx.still_admitted()?;
        // Boxed: their state is for one answer in many.
        let patch = if topics.session { remember::patch_of(&self.parts, answer, ctx)? } else { None };
        let says_something = topics.session && upstream_claim::says_something(&answer.headers);
        if patch.is_none() && !says_something && renewal::due(&self.parts, ctx).is_none() {
            return Ok(None);
        }
        ctx.lending.give_back(exchange.req_header_mut());
        let request = exchange.req_header();
        let spoken = if says_something {
            Box::pin(upstream_sign_in::heed(&self.parts, request, answer, ctx)).await?
        } else {
            None
        };
        let has_patch = patch.is_some();
        let opened = match patch {
            Some(patch) => {
                let kept = Box::pin(remember::keep(&self.parts, request, ctx, patch)).await;
                if kept.is_err()
                    && spoken.is_some()
                    && let Some(session) = &ctx.visitor
                {
                    // The answer does not go on, and with it the cookie: nobody would ever hold this session.
                    self.parts.withdraw(session);
                }
                kept?
            }
            None => None,
        };
        if spoken.is_some() {
            // The session that admitted the request may have ended by this very answer.
            return Ok(spoken);
        }
        let aging = renewal::due(&self.parts, ctx).filter(|_| !answer.status.is_informational());
        let renewed = match &aging {
            Some(session) => Box::pin(renewal::offer(&self.parts, request, ctx, session)).await,
            None => None,
        };
        if has_patch || aging.is_some() {
            // The store took its time.
            ctx.still_admitted()?;
        }
        Ok(opened.or(renewed))
    }

    async fn reject(
        &self,
        exchange: &mut Exchange,
        ctx: &mut Context,
        rejection: &Rejection,
    ) -> pingora::Result<()> {
        if *rejection == Rejection::Misdirected {
            // Another connection may do.
            exchange.set_keepalive(None);
        }
        // What we answer ourselves is short.
        if let Some(link) = &ctx.link {
            link.untie();
        }
        ctx.lending.give_back(exchange.req_header_mut());
        ctx.record.reject(rejection);
        ctx.record.detail(rejection, exchange.req_header());
        let mut answer = respond::rejection(exchange.req_header(), ctx, rejection);
        if *rejection == Rejection::Forbidden
            && let Some(session) = renewal::due(&self.parts, ctx)
            && let Some(cookie) =
                Box::pin(renewal::offer(&self.parts, exchange.req_header(), ctx, &session)).await
        {
            answer = answer.with("Set-Cookie", cookie);
        }
        if answer.is_redirect() {
            ctx.record.outcome = Some(Outcome::SignIn);
        }
        respond::send(exchange, ctx, answer).await
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: pingora moves it through several futures.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Self::CTX {
        let now = self.parts.clock.now();
        let snapshot = self.parts.snapshot.load_full();
        Box::new(Context {
            now,
            link: None,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            record: Record::new(self.parts.clone(), snapshot.clone(), now, Parts::request_id()),
            snapshot,
            admission: None,
            visitor: None,
            forbidden: None,
            patches: Patches::Unread,
            route: None,
            fault: None,
            reach: Reach::default(),
            quota: None,
            body_left: None,
            interims: 0,
            strips_hops: false,
            lending: Lending::Never,
            head_only: false,
        })
    }

    /// No modules: compression and the rest of pingora's defaults have no business here.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        exchange: &mut Exchange,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        if let Some(link) = Link::of(exchange.digest()).cloned() {
            ctx.lending = Lending::of(link.take(exchange.req_header_mut())?);
            ctx.client =
                read::client_address(link.address(), exchange.req_header(), &ctx.snapshot.trusted_proxies);
            ctx.record.begin(&link, ctx.client);
            ctx.link = Some(link);
        }
        if exchange.req_header().version == http::Version::HTTP_10 {
            // It knows no interim answers (RFC 9110 §15.2).
            exchange.set_ignore_info_resp(true);
        }
        if self.parts.is_draining() || ctx.link.as_ref().is_some_and(|link| link.is_last()) {
            exchange.set_keepalive(None);
        }
        Ok(())
    }

    async fn request_filter(&self, exchange: &mut Exchange, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        let walked = self.walk(exchange, ctx).await;
        ctx.record.read_head(exchange.req_header());
        match walked {
            Ok(None) => Ok(CONTINUE),
            // Boxed: their state is for those requests that go no further.
            Ok(Some(answer)) => Box::pin(respond::send(exchange, ctx, answer)).await.map(|()| ANSWERED),
            Err(rejection) => Box::pin(self.reject(exchange, ctx, &rejection)).await.map(|()| ANSWERED),
        }
    }

    async fn upstream_peer(
        &self,
        exchange: &mut Exchange,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Box<HttpPeer>> {
        let (Some(route), Some(_)) = (ctx.route, &ctx.admission) else {
            return Err(fault(ctx, Rejection::Internal("no_admission")));
        };
        ctx.lending.give_back(exchange.req_header_mut());
        let upstream = ctx.snapshot.route[route].upstream;
        let is_plain = ctx.lending.is_home();
        let is_tunnel = !is_plain && asks_for_websocket(exchange.req_header());
        match reach::choose(&self.parts, ctx, upstream, is_tunnel) {
            Ok(mut peer) => {
                if is_tunnel {
                    let pause = ctx.snapshot.upstreams[upstream].websocket_pause();
                    tunnel::prepare(exchange, &mut peer, pause, &ctx.record.request_id);
                }
                ctx.strips_hops = hops::take_over(&mut peer.options, exchange.req_header(), is_plain);
                Ok(peer)
            }
            Err(rejection) => Err(fault(ctx, rejection)),
        }
    }

    async fn upstream_request_filter(
        &self,
        exchange: &mut Exchange,
        head: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        let lent = ctx.lending.take();
        let (Some(route), Some(admission), Some(link)) = (ctx.route, &ctx.admission, &ctx.link) else {
            return Err(fault(ctx, Rejection::Internal("no_admission")));
        };
        if let Err(rejection) = ctx.still_admitted() {
            return Err(fault(ctx, rejection));
        }
        let assertion = match assertion::of(&self.parts, ctx, ctx.snapshot.route[route].upstream) {
            Ok(assertion) => assertion,
            Err(rejection) => return Err(fault(ctx, rejection)),
        };
        let forwarding = Forwarding {
            snapshot: &ctx.snapshot,
            route: &ctx.snapshot.route[route],
            admission,
            outside: ctx.outside(),
            link,
            strips_hops: ctx.strips_hops,
            request_id: &ctx.record.request_id,
            assertion,
            data: remember::data(ctx),
            sessions: &self.parts.sessions,
        };
        forward::prepare(head, lent, &forwarding).map_err(|rejection| fault(ctx, rejection))?;
        reach::let_go_on(exchange, head).await
    }

    /// Counts a body that a route bounds; what is beyond never reaches the upstream, which sees the request break off.
    async fn request_body_filter(
        &self,
        exchange: &mut Exchange,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        // On a connection of HTTP/1 the wire hears.
        if let Some(link) = &ctx.link
            && exchange.req_header().version == http::Version::HTTP_2
        {
            link.hear(body.as_ref().map_or(0, Bytes::len));
            if is_end {
                link.hear_all();
            }
        }
        let (Some(left), Some(bytes)) = (ctx.body_left, &body) else { return Ok(()) };
        match left.checked_sub(bytes.len() as u64) {
            Some(left) => {
                ctx.body_left = Some(left);
                Ok(())
            }
            None => Err(fault(ctx, Rejection::TooLarge)),
        }
    }

    async fn connected_to_upstream(
        &self,
        exchange: &mut Exchange,
        is_reused: bool,
        peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        ctx.reach.connected(&self.parts, is_reused);
        ctx.record.upstream = Some(peer.address().clone());
        ctx.record.upstream_began = Some(self.parts.clock.ticks());
        if ctx.strips_hops && peer.options.alpn == ALPN::H1 {
            // From the clone that pingora makes now it has nothing more to take out or to read.
            ctx.lending.lend(exchange.req_header_mut());
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _exchange: &mut Exchange,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let upstream = ctx.route.map(|route| ctx.snapshot.route[route].upstream);
        error.set_retry(
            upstream.is_some_and(|upstream| reach::not_connected(&self.parts, ctx, upstream, &error)),
        );
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
        ctx: &mut Self::CTX,
        is_reused: bool,
    ) -> Box<Error> {
        let upstream = ctx.route.map(|route| ctx.snapshot.route[route].upstream);
        error.set_retry(
            upstream.is_some_and(|upstream| reach::broken(exchange, ctx, upstream, &error, is_reused)),
        );
        error
    }

    async fn response_filter(
        &self,
        exchange: &mut Exchange,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        ctx.record.answered();
        let topics = match readable(head, ctx) {
            Ok(topics) => topics,
            Err(rejection) => return Err(fault(ctx, rejection)),
        };
        ctx.reach.answered(&self.parts);
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switches && !asks_for_websocket(exchange.req_header()) {
            return Err(fault(ctx, Rejection::Upstream("unasked_101")));
        }
        let cookie = match self.conclude(exchange, head, topics, ctx).await {
            Ok(cookie) => cookie,
            Err(rejection) => return Err(fault(ctx, rejection)),
        };
        ctx.record.answering(head.status);
        stream::answered(&self.parts, exchange, head, topics.length, ctx);
        if let Some(link) = &ctx.link {
            if switches {
                // What follows is no body.
                ctx.body_left = None;
                link.open_tunnel();
            } else {
                link.tell(1);
            }
        }
        if exchange.req_header().version == http::Version::HTTP_10
            && head.remove_header(&TRANSFER_ENCODING).is_some()
        {
            // HTTP/1.0 knows no chunks (RFC 9112 §6.1): such a body ends with the connection.
            exchange.set_keepalive(None);
        }
        let is_protected = ctx.route.is_some_and(|route| ctx.snapshot.route[route].is_protected());
        let audience = match ctx.patches {
            _ if is_protected || ctx.visitor.is_some() || cookie.is_some() => Audience::Visitor,
            Patches::Unread => Audience::Everybody,
            Patches::Taken(_) | Patches::Opening(_) | Patches::Dropped(_) => Audience::Strangers,
        };
        if ctx.route.is_some_and(|route| ctx.snapshot.route[route].changes.is_some()) {
            ctx.lending.give_back(exchange.req_header_mut());
        }
        let changes = respond::changes(exchange.req_header(), ctx);
        respond::clean(head, topics, &ctx.snapshot, ctx.outside(), audience, changes)?;
        if let Some(hsts) = &ctx.front().hsts {
            head.insert_header(STRICT_TRANSPORT_SECURITY, hsts.clone())?;
        }
        if ctx.quota.is_some() && !head.status.is_informational() {
            for (name, value) in limits::fields(ctx) {
                head.append_header(name, value)?;
            }
        }
        if let Some(nonce) = possession::next_nonce(exchange, ctx) {
            head.insert_header(possession::DPOP_NONCE, nonce)?;
        }
        match cookie {
            Some(cookie) => head.append_header(SET_COOKIE, cookie).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Counts for the exchanges that never get to `logging`, because they are cut.
    fn response_body_filter(
        &self,
        _exchange: &mut Exchange,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Option<Duration>> {
        let bytes = body.as_ref().map_or(0, Bytes::len);
        ctx.record.passed(bytes);
        if let Some(link) = &ctx.link {
            link.tell(bytes);
        }
        if is_end {
            ctx.reach.release();
        }
        Ok(None)
    }

    /// Only answers of HTTP/2 servers have trailers here.
    async fn response_trailer_filter(
        &self,
        _exchange: &mut Exchange,
        trailers: &mut HeaderMap,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Option<Bytes>> {
        respond::clean_trailers(trailers, &ctx.snapshot, ctx.outside());
        ctx.reach.release();
        Ok(None)
    }

    async fn logging(&self, exchange: &mut Exchange, error: Option<&Error>, ctx: &mut Self::CTX) {
        ctx.record.finish(
            exchange.response_written().map(|head| head.status.as_u16()),
            exchange.body_bytes_read(),
            exchange.body_bytes_sent(),
            error.is_some(),
        );
    }

    async fn fail_to_proxy(
        &self,
        exchange: &mut Exchange,
        error: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        let refused_body = ctx.link.as_ref().and_then(|link| link.refused_body());
        let rejection = match (ctx.fault.take(), refused_body) {
            (Some(rejection), _) => Some(rejection),
            (None, Some(refused)) => Some(Rejection::BadRequest(refused.reason())),
            (None, None) => reach::explain(error),
        };
        let mut error_code = 0;
        match rejection {
            Some(rejection) if exchange.response_written().is_none_or(is_interim) => {
                // The rest of the body is not read: the connection ends with this answer.
                exchange.set_keepalive(None);
                error_code = respond::status(&rejection).as_u16();
                // The connection may be gone already; the record says what happened either way.
                let _ = self.reject(exchange, ctx, &rejection).await;
            }
            Some(rejection) => ctx.record.reject(&rejection),
            None if ctx.link.as_ref().is_some_and(|link| link.is_stalled()) || is_late_write(error) => {
                ctx.record.stall();
            }
            // The visitor is gone; the record says that the exchange broke off.
            None => {}
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// Our own line says it, without path and query.
    fn suppress_error_log(&self, _exchange: &Exchange, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _exchange: &Exchange,
        _ctx: &Self::CTX,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, _exchange: &Exchange, ctx: &Self::CTX) -> String {
        ctx.record.request_id.to_str().unwrap_or_default().to_owned()
    }
}

/// Whether the visitor took too long to take a part of the answer.
fn is_late_write(error: &Error) -> bool {
    *error.esource() == ErrorSource::Downstream && *error.etype() == ErrorType::WriteTimedout
}

/// What a request that passes counts as.
fn outcome(admission: &Admission, is_protected: bool) -> Outcome {
    match (admission.credential(), is_protected) {
        (Some(_), _) => Outcome::Admitted,
        (None, true) => Outcome::Anonymous,
        (None, false) => Outcome::Public,
    }
}

/// Whether another head may follow this one.
fn is_interim(head: &ResponseHeader) -> bool {
    head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
}

/// What an answer speaks of that has one reading, and is not one interim answer too many.
fn readable(head: &ResponseHeader, ctx: &mut Context) -> Result<Topics, Rejection> {
    if head.status.is_informational() {
        ctx.interims += 1;
        if ctx.interims > answer::INTERIMS_MAX {
            return Err(Rejection::Upstream("answer_interims"));
        }
    }
    answer::check(head.status, head.version, &head.headers).map_err(|flaw| Rejection::Upstream(flaw.reason()))
}

/// The exchange is cut when the session ends, or the token is revoked, that admits it.
fn tie(ctx: &Context, credential: &Credential, counts_activity: bool) {
    match (credential, &ctx.link) {
        (Credential::Session(session), Some(link)) => link.tie(session.clone(), counts_activity),
        (Credential::Token(token), Some(link)) => link.tie_token(token.clone(), ctx.snapshot.revoked.clone()),
        (_, None) => {}
    }
}

/// Whether the head, which the wire has checked, asks for the one protocol that a connection may switch to.
fn asks_for_websocket(head: &RequestHeader) -> bool {
    head.version == http::Version::HTTP_11
        && head
            .headers
            .get(UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora's errors are boxed")]
fn fault(ctx: &mut Context, rejection: Rejection) -> Box<Error> {
    ctx.fault = Some(rejection);
    Error::explain(ErrorType::InternalError, "see the access log")
}

impl Context {
    /// What browsers see of the listener that this exchange came over.
    pub(crate) fn outside(&self) -> crate::proxy::settings::External {
        let number = self.link.as_ref().map_or(0, |link| link.listener());
        self.snapshot.outside[number]
    }

    /// The request id as text.
    pub(crate) fn request_id_text(&self) -> &str {
        self.record.request_id.to_str().unwrap_or_default()
    }

    /// A header value for [`Self::request_id_text`].
    pub(crate) fn request_id_value(&self) -> HeaderValue {
        self.record.request_id.clone()
    }
}
