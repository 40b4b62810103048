//! One configuration, compiled: everything that requests read and a reload replaces in one step.
//!
//! An exchange loads it once and keeps it to its end. What outlives a configuration (the session table, the caches, the
//! counters) is not in here.

use crate::auth::SignInSettings;
use crate::auth::assertion::Assertions;
use crate::auth::bearer::Bearer;
use crate::auth::device::DeviceCookies;
use crate::auth::dpop::Dpop;
use crate::auth::form::FormTokens;
use crate::auth::password::PasswordWay;
use crate::auth::session_token::SessionTokens;
use crate::auth::terms::TokenTerms;
use crate::auth::upstream_way::UpstreamWay;
use crate::auth::users::User;
use crate::domain::access::{Access, EntryId};
use crate::domain::fold::Guard;
use crate::domain::origin::Origin;
use crate::domain::redirect::Redirect;
use crate::domain::route::RouteTable;
use crate::domain::session::{ScopeId, Session, SpaceId};
use crate::proxy::admit::scope_of;
use crate::proxy::changes::Changes;
pub use crate::proxy::forward::GUARDED;
use crate::proxy::forward_auth::ForwardAuth;
pub use crate::proxy::front::Front;
use crate::proxy::limits::Limits;
use crate::proxy::pages::Pages;
use crate::proxy::settings::{CookieSettings, External, SessionRules};
use crate::proxy::upstream::Upstream;
use crate::store::revoked::RevokedTokens;
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
    /// What else is settled for each listener, by its number.
    pub fronts: Vec<Front>,
    /// Host and port of `external_url`.
    pub external_url: Option<(String, External)>,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Reads session cookies; absent where no key is configured.
    pub session_tokens: Option<SessionTokens>,
    /// Believes bearer tokens.
    pub bearer: Bearer,
    /// Signs who asks, for upstreams that want proof.
    pub assertions: Option<Assertions>,
    /// Answers for another proxy.
    pub forward_auth: Option<ForwardAuth>,
    /// What is asked of bearer tokens that are believed, in file order.
    pub token_terms: Vec<TokenTerms>,
    /// Bearer tokens that count no more; outlives the configuration.
    pub revoked: Arc<RevokedTokens>,
    /// Checks that a bearer token is its presenter's.
    pub dpop: Dpop,
    /// Ways to sign in, in file order.
    pub ways: Vec<Way>,
    /// The session cookie.
    pub cookie: CookieSettings,
    /// What the session cookie was called earlier in this process, the latest last. A browser may still send one with a
    /// token that counts.
    pub former_cookies: Vec<String>,
    /// What exchanges must know of `sessions`.
    pub rules: SessionRules,
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
    /// The space of session data that its upstream reads and writes.
    pub data: Option<SpaceId>,
    /// Requests count as use of the session.
    pub counts_activity: bool,
    /// What it takes; absent: no limits.
    pub limits: Option<Box<Limits>>,
    /// What it changes in the heads that pass.
    pub changes: Option<Box<Changes>>,
    /// It answers with this, and asks no upstream.
    pub redirect: Option<Redirect>,
    /// Number of its upstream; of none where it redirects.
    pub upstream: usize,
    /// It names hosts: then the request's canonical host may stand in URLs, else that of `external_url`.
    pub names_hosts: bool,
}

/// A way to sign in, ready to be asked.
#[derive(Clone)]
pub enum Way {
    /// Our form, against a users file.
    Password(Arc<PasswordWay>),
    /// The answers of an upstream.
    Upstream(Arc<UpstreamWay>),
}

impl Way {
    /// Its name, fingerprint and source.
    pub fn settings(&self) -> &SignInSettings {
        match self {
            Self::Password(way) => way.settings(),
            Self::Upstream(way) => way.settings(),
        }
    }

    /// The way, if it is one with a form of ours.
    pub fn password(&self) -> Option<&Arc<PasswordWay>> {
        match self {
            Self::Password(way) => Some(way),
            Self::Upstream(_) => None,
        }
    }
}

impl Route {
    /// Whether an identity may be asked for.
    pub(crate) fn is_protected(&self) -> bool {
        matches!(self.access, Access::Protected(_))
    }

    /// Origins besides our own whose requests count as the visitor's.
    pub(crate) fn cross_origin(&self) -> &[Origin] {
        match &self.access {
            Access::Public => &[],
            Access::Protected(protected) => &protected.cross_origin,
        }
    }

    /// Whether every token has to be bound, and a key that signs `DPoP` proofs will do.
    pub(crate) fn asks_for_dpop(&self) -> bool {
        matches!(&self.access, Access::Protected(protected) if protected.bindings.dpop)
    }

    /// Whether bearer tokens are looked at.
    pub(crate) fn takes_tokens(&self) -> bool {
        matches!(&self.access, Access::Protected(protected) if !protected.tokens.is_empty())
    }
}

/// So many earlier names of the session cookie are remembered.
const FORMER_COOKIES_MAX: usize = 4;
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

    /// The session cookie's `SameSite`: without https a browser takes no `None`.
    pub(crate) fn same_site(&self, outside: External) -> cookie::SameSite {
        if outside.https { self.cookie.same_site } else { cookie::SameSite::Lax }
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

    /// Whether the users file of the way with this fingerprint says of `name` what `user` is.
    ///
    /// The users are read again while passwords are hashed and sessions opened. Who was signed in by what stood there
    /// before must not keep a session that the reload did not find in the table.
    pub fn knows(&self, entry: EntryId, name: &str, user: &User) -> bool {
        let way = self.ways.iter().filter_map(Way::password).find(|way| way.settings().id == entry);
        way.is_some_and(|way| way.users().find(name) == Some(user))
    }

    /// Whether a way in still is the one by which a session was opened: the entry's fingerprint, not its name.
    pub(crate) fn knows_entry(&self, session: &Session) -> bool {
        self.ways.iter().any(|way| way.settings().id == session.entry())
            || self.token_terms.iter().any(|terms| terms.exchange && terms.id == session.entry())
    }

    /// Whether bearer tokens may be traded for sessions.
    pub(crate) fn trades_tokens(&self) -> bool {
        self.token_terms.iter().any(|terms| terms.exchange)
    }

    /// What this configuration and those before it called the session cookie, for the one that follows it.
    pub fn cookie_names(&self) -> Vec<String> {
        let former = self.former_cookies.iter().filter(|name| **name != self.cookie.name);
        let mut names: Vec<String> = former.chain([&self.cookie.name]).cloned().collect();
        names.drain(..names.len().saturating_sub(FORMER_COOKIES_MAX));
        names
    }

    /// The scope on which a session opened here counts.
    pub(crate) fn scope(&self, outside: External, host: &str) -> ScopeId {
        scope_of(outside.https, self.cookie.unsafe_domain.as_deref().unwrap_or(host))
    }
}
