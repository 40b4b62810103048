//! A checked configuration → the compiled snapshot that requests run under.

use crate::app::fronts;
use crate::app::wall_clock;
use crate::auth::assertion::Assertions;
use crate::auth::bearer::{Bearer, BearerCaches};
use crate::auth::device::{self, DeviceCookies};
use crate::auth::dpop::{Dpop, DpopMemory};
use crate::auth::form::{self, FormTokens};
use crate::auth::issuer::Surroundings;
use crate::auth::issuer::introspection::Introspections;
use crate::auth::issuer::key_set::KeySets;
use crate::auth::jwt::Verifier;
use crate::auth::password::{PasswordDesk, PasswordWay};
use crate::auth::session_token::SessionTokens;
use crate::auth::upstream_way::UpstreamWay;
use crate::auth::users::{self, Users};
use crate::auth::{JwtKeys, SignInKind, SignInSettings, UpstreamSignIn};
use crate::config::{self, Config, Warning};
use crate::domain::access::EntryId;
use crate::domain::fold::Guard;
use crate::domain::route::{HostPattern, RouteTable};
use crate::domain::token::KeyRing;
use crate::proxy::forward_auth::ForwardAuth;
use crate::proxy::limits::Limits;
use crate::proxy::pages::Pages;
use crate::proxy::snapshot::{GUARDED, Route, Snapshot, Way};
use crate::proxy::upstream::{Upstream, names, trust};
use crate::store::revoked::RevokedTokens;
use crate::telemetry::Metrics;
use http::HeaderName;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// The largest file with keys.
const KEY_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A configuration with everything that its files hold, read and checked.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) warnings: Vec<Warning>,
    /// What each way needs, in the order of `config.sign_in`.
    ways: Vec<LoadedWay>,
    pub(crate) verifiers: Vec<Verifier>,
    pages: Pages,
}

/// What was read for a way to sign in.
enum LoadedWay {
    /// The text of the users file, and what it says.
    Password(String, Users),
    Upstream(UpstreamSignIn),
}

/// Reads and checks `file` and the files it names; the error lists every problem.
pub(crate) fn load(file: &Path) -> Result<Loaded, String> {
    let environment = |name: &str| std::env::var(name).ok();
    let (config, warnings) =
        config::load_at(file, &environment, Some(wall_clock())).map_err(|problems| problems.to_string())?;
    let mut ways = Vec::new();
    let mut problems = String::new();
    for way in &config.sign_in {
        match &way.kind {
            SignInKind::Upstream(asked) => ways.push(LoadedWay::Upstream(asked.clone())),
            SignInKind::Password { users } => match read_users(users, &way.source) {
                Ok((text, users)) => ways.push(LoadedWay::Password(text, users)),
                Err(text) => problems.push_str(&text),
            },
        }
    }
    let verifiers = verifiers(&config, &mut problems);
    let pages = Pages::load(config.pages.as_deref()).map_err(|found| {
        for problem in found {
            // Writing into a string does not fail.
            let _ = writeln!(problems, "{problem}");
        }
    });
    match pages {
        Ok(pages) if problems.is_empty() => Ok(Loaded { config, warnings, ways, verifiers, pages }),
        _ => Err(problems),
    }
}

fn read_users(path: &Path, source: &str) -> Result<(String, Users), String> {
    let shown = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}\n"))?.len();
    if length > users::FILE_BYTES_MAX as u64 {
        return Err(format!(
            "{shown}: the file is larger than 16 MiB; split it over several ways to sign in\n"
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}\n"))?;
    match Users::parse(&text, source) {
        Ok(users) => Ok((text, users)),
        Err(problems) => {
            let mut told = format!("{shown}: {}\n", counted(problems.len()));
            for problem in problems {
                // Writing into a string does not fail.
                let _ = writeln!(told, "  {problem}");
            }
            Err(told)
        }
    }
}

fn counted(problems: usize) -> String {
    if problems == 1 { "1 problem".into() } else { format!("{problems} problems") }
}

/// What snapshots are built with, and what outlives them.
pub(super) struct Builder {
    desk: Arc<PasswordDesk>,
    caches: Arc<BearerCaches>,
    key_sets: KeySets,
    introspections: Introspections,
    pub(super) proofs: Arc<DpopMemory>,
    pub(super) revoked: Arc<RevokedTokens>,
    metrics: Arc<Metrics>,
    /// The connectors know whom the system trusts.
    trusts_system: bool,
}

impl Builder {
    pub(super) fn start(
        metrics: Arc<Metrics>,
        trusts_system: bool,
        surroundings: Surroundings,
    ) -> io::Result<Self> {
        let desk = Arc::new(PasswordDesk::open()?);
        let (caches, proofs) = (Arc::new(BearerCaches::new()), Arc::new(DpopMemory::new(wall_clock())));
        let key_sets = KeySets::new(surroundings.clone());
        let introspections = Introspections::new(surroundings);
        let revoked = Arc::default();
        Ok(Self { desk, caches, key_sets, introspections, proofs, revoked, metrics, trusts_system })
    }

    /// Sets the gauges of published keys.
    pub(super) fn note_key_ages(&self) {
        self.key_sets.note_ages();
    }

    /// Passwords that wait to be hashed.
    pub(super) fn password_queue(&self) -> usize {
        self.desk.hasher.waiting()
    }

    /// Compiles what was loaded. Nothing outside is changed, but that verdicts on tokens are forgotten.
    pub(super) fn build(&self, loaded: Loaded, before: Option<&Snapshot>, generation: u64) -> Snapshot {
        let Loaded { config, ways, verifiers, pages, .. } = loaded;
        let config = &config;
        let bearer = self.bearer(config, verifiers);
        let ring = KeyRing::new(config.keys.clone());
        let devices = Arc::new(DeviceCookies::new(
            &ring.as_ref().map(|ring| ring.derive(device::KEY_LABEL)).unwrap_or_default(),
        ));
        let ways = config
            .sign_in
            .iter()
            .zip(ways)
            .map(|(settings, loaded)| match loaded {
                LoadedWay::Password(_, users) => Way::Password(Arc::new(PasswordWay::new(
                    settings.clone(),
                    users,
                    self.desk.clone(),
                    devices.clone(),
                ))),
                LoadedWay::Upstream(asked) => Way::Upstream(Arc::new(upstream_way(settings, asked, config))),
            })
            .collect();
        let upstreams = self.upstreams(config, before);
        let bound = fronts::placed(config, before);
        let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let certificates = tls.flat_map(|tls| &tls.certificates);
        self.metrics.certificates(certificates.map(|one| (one.file(), one.not_after())));
        let guarded: Vec<HeaderName> = GUARDED
            .into_iter()
            .map(HeaderName::from_static)
            .chain(config.guarded_headers.iter().cloned())
            .collect();
        Snapshot {
            generation,
            routes: route_table(config),
            hosts: exact_hosts(config),
            route: config.routes.iter().map(|route| compile_route(route, config)).collect(),
            upstreams,
            guard: Guard::new(&guarded),
            outside: bound.iter().map(|listener| listener.outside).collect(),
            fronts: bound.iter().map(|listener| listener.front.clone()).collect(),
            external_url: config.external_url.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            bearer,
            assertions: config.assertion.clone().map(Assertions::new),
            forward_auth: config
                .forward_auth
                .as_ref()
                .map(|settings| ForwardAuth::new(settings, &config.trusted_proxies, &config.guarded_headers)),
            token_terms: config.token_terms.clone(),
            revoked: self.revoked.clone(),
            dpop: self.dpop(config),
            ways,
            cookie: config.sessions.cookie.clone(),
            former_cookies: former_cookies(config, before),
            rules: config.sessions.rules,
            pages,
            forms: ring.as_ref().map(|ring| FormTokens::new(&ring.derive(form::KEY_LABEL))),
            devices: ring.is_some().then_some(devices),
            session_tokens: ring.map(SessionTokens::new),
            listener_names: bound.into_iter().map(|listener| listener.name).collect(),
            decisions: self.metrics.routes(config.routes.iter().map(|route| route.name.as_str())),
        }
    }
}

impl Builder {
    /// The verifiers with keys that were fetched, or are from now on.
    fn bearer(&self, config: &Config, mut verifiers: Vec<Verifier>) -> Bearer {
        let names: Vec<&str> = config.tokens.iter().map(|token| token.name.as_str()).collect();
        self.metrics.keep_issuers(&names);
        self.key_sets.look_after(&mut verifiers, &|entry| self.metrics.key_series(entry));
        let asked = self.introspections.look_after(&config.tokens, &|entry| self.metrics.ask_series(entry));
        Bearer::new(verifiers, self.caches.clone()).asking(asked)
    }

    fn dpop(&self, config: &Config) -> Dpop {
        let entries = config.token_terms.iter().map(|terms| (terms.id, terms.dpop));
        Dpop::new(entries.collect(), self.proofs.clone())
    }

    /// The upstreams with what was known of their servers; names that are new are looked up before anybody can ask for them.
    fn upstreams(&self, config: &Config, before: Option<&Snapshot>) -> Vec<Upstream> {
        let names = config.upstreams.iter().map(|upstream| {
            let servers = upstream.servers.iter().map(|server| server.place.to_string());
            (upstream.name.clone(), servers.collect())
        });
        let metrics = self.metrics.upstreams(&names.collect::<Vec<_>>());
        let before = before.map_or(&[][..], |before| &before.upstreams);
        let made = config.upstreams.iter().zip(metrics);
        let made = made.map(|(settings, metrics)| {
            let mut settings = settings.clone();
            if settings.trusts_system() && !self.trusts_system {
                settings.tls.authorities = Some(trust::system_authorities());
            }
            Upstream::new(settings, metrics, before)
        });
        let upstreams: Vec<Upstream> = made.collect();
        names::look_up_first(&upstreams);
        upstreams
    }
}

fn upstream_way(settings: &SignInSettings, asked: UpstreamSignIn, config: &Config) -> UpstreamWay {
    let number = config.upstreams.iter().position(|upstream| upstream.name == asked.upstream);
    let folds = number.is_some_and(|number| config.upstreams[number].case_insensitive);
    // The number of none, had the check let such a name pass: then no answer counts.
    UpstreamWay::new(settings.clone(), asked, number.unwrap_or(usize::MAX), folds)
}

/// What browsers may still send the session cookie as, besides its name in `config`.
fn former_cookies(config: &Config, before: Option<&Snapshot>) -> Vec<String> {
    let mut names = before.map(Snapshot::cookie_names).unwrap_or_default();
    names.retain(|name| *name != config.sessions.cookie.name);
    names
}

/// The verifiers of all `tokens` entries that have keys, their key files read.
fn verifiers(config: &Config, problems: &mut String) -> Vec<Verifier> {
    let with_keys = config.tokens.iter().filter(|settings| !matches!(settings.keys, JwtKeys::Asked(_)));
    let made = with_keys.filter_map(|settings| match Verifier::new(settings, &read_key_file) {
        Ok(verifier) => Some(verifier),
        Err(error) => {
            // Writing into a string does not fail.
            let _ = writeln!(problems, "tokens.{}: {error}", settings.name);
            None
        }
    });
    made.collect()
}

/// Reads a key file; of a longer one than any can be, only so much that the reader of keys refuses it.
fn read_key_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn route_table(config: &Config) -> RouteTable {
    let entries = config
        .routes
        .iter()
        .map(|route| {
            let upstream = config.upstreams.get(route.upstream);
            let folds = upstream.is_some_and(|upstream| upstream.case_insensitive);
            (route.hosts.clone(), route.path.clone(), folds, route.methods.clone())
        })
        .collect();
    RouteTable::new(entries)
}

fn exact_hosts(config: &Config) -> Vec<String> {
    let named = config.routes.iter().flat_map(|route| &route.hosts);
    let exact = named.filter_map(|host| match host {
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Suffix(_) => None,
    });
    exact.collect::<BTreeSet<_>>().into_iter().collect()
}

fn compile_route(route: &crate::proxy::settings::RouteSettings, config: &Config) -> Route {
    let ways = route
        .sign_in
        .iter()
        .filter_map(|name| config.sign_in.iter().position(|way| way.name == *name))
        .collect();
    Route {
        name: route.name.clone(),
        access: route.access.clone(),
        ways,
        forward_authorization: route.forward_authorization,
        data: route.session.data,
        counts_activity: route.session.counts_activity,
        changes: route.changes.clone(),
        redirect: route.redirect.clone(),
        limits: Limits::new(&route.name, &route.limits),
        upstream: route.upstream,
        names_hosts: !route.hosts.is_empty(),
    }
}

/// Password ways of `new` that are what they were in `old`: the same fingerprint.
pub(super) fn kept_ways<'a>(old: &'a Snapshot, new: &Loaded) -> Vec<(&'a Arc<PasswordWay>, String)> {
    let text_of = |id: EntryId| {
        let at = new.config.sign_in.iter().position(|way| way.id == id)?;
        match &new.ways[at] {
            LoadedWay::Password(text, _) => Some(text.clone()),
            LoadedWay::Upstream(_) => None,
        }
    };
    let ways = old.ways.iter().filter_map(Way::password);
    ways.filter_map(|way| Some((way, text_of(way.settings().id)?))).collect()
}
