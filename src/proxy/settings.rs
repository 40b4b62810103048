//! The settings that the walk of a request obeys.

use crate::domain::access::Access;
use crate::domain::route::HostPattern;
use crate::domain::session::SpaceId;
pub use crate::proxy::upstream::settings::{
    Balance, HashBy, HealthSettings, Place, Protocol, Server, TlsSettings, UpstreamSettings, UpstreamTimeouts,
};
use http::{HeaderName, Method};
use std::net::SocketAddr;

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
    /// Its connections' clocks.
    pub timeouts: crate::net::Timeouts,
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
    /// Position in `upstreams`.
    pub upstream: usize,
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
