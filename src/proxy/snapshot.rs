//! One configuration, compiled: everything that requests read and a reload replaces in one step.
//!
//! An exchange loads it once and keeps it to its end. What outlives a configuration (the session table, the caches, the
//! counters) is not in here.

use crate::auth::bearer::Bearer;
use crate::auth::device::DeviceCookies;
use crate::auth::form::FormTokens;
use crate::auth::password::PasswordWay;
use crate::auth::session_token::SessionTokens;
use crate::domain::access::Access;
use crate::domain::fold::Guard;
use crate::domain::route::RouteTable;
use crate::domain::session::{Lifetimes, ScopeId};
use crate::proxy::admit::scope_of;
pub use crate::proxy::forward::GUARDED;
use crate::proxy::pages::Pages;
use crate::proxy::settings::{CookieSettings, External};
use crate::proxy::upstream::Upstream;
use crate::telemetry::metrics::RouteMetrics;
use ipnet::IpNet;
use std::sync::Arc;

/// A compiled configuration.
pub struct Snapshot {
    /// Counts configurations since the start.
    pub generation: u64,
    /// Host, path and method → number of the route.
    pub routes: RouteTable,
    /// Every host that a route names whole.
    pub hosts: Vec<String>,
    /// Routes by number, in file order.
    pub route: Vec<Route>,
    /// Applications by number.
    pub upstreams: Vec<Upstream>,
    /// Header names that only we may set.
    pub guard: Guard,
    /// What browsers see, by number of the listener.
    pub outside: Vec<External>,
    /// Host and port of `external_url`.
    pub external_url: Option<(String, External)>,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Reads session cookies; absent where no key is configured.
    pub session_tokens: Option<SessionTokens>,
    /// Believes bearer tokens.
    pub bearer: Bearer,
    /// Ways to sign in, in file order.
    pub ways: Vec<Arc<PasswordWay>>,
    /// The session cookie.
    pub cookie: CookieSettings,
    /// The clocks of new sessions.
    pub lifetimes: Lifetimes,
    /// What visitors read.
    pub pages: Pages,
    /// Proof that a form is ours; absent where no key is configured.
    pub forms: Option<FormTokens>,
    /// The sealed cookie of browsers that signed in before.
    pub devices: Option<Arc<DeviceCookies>>,
    /// The listeners' addresses as the access log names them, by number.
    pub listener_names: Vec<String>,
    /// Counters of decisions, by number of the route.
    pub decisions: RouteMetrics,
}

/// One route, compiled.
pub struct Route {
    /// Its name in the file.
    pub name: String,
    /// Who may pass.
    pub access: Access,
    /// Numbers of its ways to sign in, in `ways`.
    pub ways: Vec<usize>,
    /// Leave a consumed Authorization header in place.
    pub forward_authorization: bool,
    /// Number of its upstream.
    pub upstream: usize,
    /// It names hosts: then the request's canonical host may stand in URLs, else that of `external_url`.
    pub names_hosts: bool,
}

impl Route {
    /// Whether an identity may be asked for.
    pub(crate) fn is_protected(&self) -> bool {
        matches!(self.access, Access::Protected(_))
    }

    /// Whether bearer tokens are looked at.
    pub(crate) fn takes_tokens(&self) -> bool {
        matches!(&self.access, Access::Protected(protected) if !protected.tokens.is_empty())
    }
}

/// The cookie that ties a form to a browser.
const FORM_COOKIE: [&str; 2] = ["__Host-vestibule-form", "vestibule-form"];
/// The cookie that marks a browser which has signed in before.
const DEVICE_COOKIE: [&str; 2] = ["__Host-vestibule-device", "vestibule-device"];
/// The session cookie on loopback without https.
const PLAIN_SESSION_COOKIE: &str = "session";

impl Snapshot {
    /// The session cookie's name: as configured over https, `session` on loopback without.
    pub(crate) fn cookie_name(&self, outside: External) -> &str {
        if outside.https { &self.cookie.name } else { PLAIN_SESSION_COOKIE }
    }

    /// The form cookie's name.
    pub(crate) fn form_cookie(outside: External) -> &'static str {
        FORM_COOKIE[usize::from(!outside.https)]
    }

    /// The known-device cookie's name.
    pub(crate) fn device_cookie(outside: External) -> &'static str {
        DEVICE_COOKIE[usize::from(!outside.https)]
    }

    /// Every cookie of ours: no upstream sees or sets one.
    pub(crate) fn own_cookies(&self, outside: External) -> [&str; 3] {
        [self.cookie_name(outside), Self::form_cookie(outside), Self::device_cookie(outside)]
    }

    /// The scope on which a session opened here counts.
    pub(crate) fn scope(&self, outside: External, host: &str) -> ScopeId {
        scope_of(outside.https, self.cookie.unsafe_domain.as_deref().unwrap_or(host))
    }
}
