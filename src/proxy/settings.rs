//! The settings that the walk of a request obeys.

use crate::domain::access::Access;
use crate::domain::certificate::CertificateClaim;
use crate::domain::clients::ClientRule;
use crate::domain::forwarded::Dialect;
use crate::domain::rate::Rate;
use crate::domain::redirect::Redirect;
use crate::domain::route::HostPattern;
use crate::domain::session::SpaceId;
use crate::net::tls::TlsSettings;
use crate::proxy::changes::Changes;
pub use crate::proxy::upstream::settings::{
    Balance, HashBy, HealthSettings, Place, Protocol, Server, UpstreamSettings, UpstreamTimeouts, UpstreamTls,
};
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What browsers see of a plain listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// `true` for https.
    pub https: bool,
    /// The port in the browser's address; 443 or 80 are left out of URLs.
    pub port: u16,
}

/// One public listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// What browsers see; absent: plain http on the listener's own port.
    pub external: Option<External>,
    /// How it speaks TLS; absent: it does not.
    pub tls: Option<TlsSettings>,
    /// The value of `Strict-Transport-Security` (RFC 6797 §6.1) in every answer.
    pub hsts: Option<HeaderValue>,
    /// It sends everybody to https, and does nothing else.
    pub redirect: Option<RedirectSettings>,
    /// Its connections' clocks.
    pub timeouts: crate::net::Timeouts,
    /// How many connections it has at once.
    pub connections: crate::net::ConnectionLimits,
    /// Connections begin with a header in which a trusted proxy names its client.
    pub proxy_protocol: bool,
}

/// What a listener does that sends everybody to https. Its [`External`] is where they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectSettings {
    /// The folder in which an ACME client leaves its answers to challenges.
    pub acme_webroot: Option<PathBuf>,
}

/// For which other proxy the gateway answers whether requests may pass.
#[derive(Clone, Debug)]
pub struct ForwardAuthSettings {
    /// By which words it tells of them.
    pub dialect: Dialect,
    /// Where it is; nobody else is answered.
    pub from: Vec<IpNet>,
}

/// How a claim is written into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Percent-encoded, one to one (the default).
    Percent,
    /// Raw UTF-8, for old applications; a value with control characters is left out.
    Utf8,
}

/// An instant at which a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// If it is not used.
    IdleUntil,
    /// However busy.
    EndsAt,
}

/// One identity header.
#[derive(Clone, Debug)]
pub struct IdentityHeader {
    /// Its name as the file spells it.
    pub name: HeaderName,
    /// The claim whose value it carries.
    pub claim: String,
    /// The deadline of the session that it carries instead: a claim of that name is never looked at.
    pub deadline: Option<Deadline>,
    /// What it carries of the connection's client certificate instead: a claim of that name is never looked at either.
    pub certificate: Option<CertificateClaim>,
    /// How.
    pub encoding: Encoding,
}

/// What Host an upstream gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The canonical host of the request, with the port it came with.
    Keep,
    /// This one.
    Send(http::HeaderValue),
}

/// One entry of `routes`, in file order.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Its name in the file.
    pub name: String,
    /// Hosts it stands for; empty: any.
    pub hosts: Vec<HostPattern>,
    /// The path, normal form.
    pub path: crate::domain::route::PathPattern,
    /// Methods; empty: any.
    pub methods: Vec<Method>,
    /// Who may pass.
    pub access: Access,
    /// Names of the ways to sign in, for the login page; in file order.
    pub sign_in: Vec<String>,
    /// Leave the Authorization header in place although its token was consumed.
    pub forward_authorization: bool,
    /// What it has to do with the visitor's session.
    pub session: RouteSession,
    /// What it takes.
    pub limits: RouteLimits,
    /// What it changes in the heads that pass; absent: nothing.
    pub changes: Option<Box<Changes>>,
    /// It answers with this, and asks no upstream.
    pub redirect: Option<Redirect>,
    /// Position in `upstreams`; [`NO_UPSTREAM`] where it redirects.
    pub upstream: usize,
}

/// The position of none.
pub const NO_UPSTREAM: usize = usize::MAX;

/// `clients` and `limits` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// From which addresses it may be used; absent: all.
    pub clients: Option<ClientRule>,
    /// The longest body, in bytes; absent: any.
    pub body_bytes_max: Option<u64>,
    /// How often it may be used; absent: as often as one likes.
    pub rate: Option<RateSettings>,
}

/// `limits.rate` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSettings {
    /// Who is counted.
    pub per: Per,
    /// So many requests
    pub times: u32,
    /// in each such span, evenly.
    pub span: Duration,
    /// So many at once.
    pub burst: u32,
}

impl RateSettings {
    /// The rate itself.
    pub fn rate(&self) -> Rate {
        Rate::of(self.times, self.span, self.burst)
    }
}

/// Who is counted when requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A session; a request without one counts for its client's address.
    Session,
    /// A subject of one source, however many sessions and tokens it has; a request of nobody counts for its client's address.
    Subject,
    /// A client's address, or its /64.
    ClientIp,
}

/// `session` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSession {
    /// The space of session data that the upstream reads and writes; absent: none.
    pub data: Option<SpaceId>,
    /// Requests count as use of the session.
    pub counts_activity: bool,
}

/// What exchanges must know of `sessions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// Visitors may ask to be remembered.
    pub remember_me: bool,
    /// A visitor who has not signed in gets a session with the first data that is kept.
    pub anonymous: bool,
    /// The longest encoded object in one space of session data, in bytes.
    pub data_max_bytes: usize,
}

/// The session cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// Over https; on loopback without https the cookie is named `session`.
    pub name: String,
    /// `lax`, `strict` or `none`.
    pub same_site: cookie::SameSite,
    /// Outlives the browser: `Max-Age` is sent.
    pub persistent: bool,
    /// `Partitioned` is sent.
    pub partitioned: bool,
    /// `Domain` of a cookie that several hosts share; absent: the host alone.
    pub unsafe_domain: Option<String>,
}
