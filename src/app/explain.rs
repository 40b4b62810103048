//! Which route a request would take, which rule decides, and how: for `explain`, and for whoever asks a running gateway.
//!
//! It reads the table that the gateway looks routes up in, and puts the request to the gateway's own [`decide`]; it asks nobody: no
//! upstream, no store, no issuer.

mod certificates;

use crate::admin::{Claimed, Explanation};
use crate::app::{wall_clock, wording};
use crate::auth::upstream_way::UpstreamWay;
use crate::auth::{JwtKeys, SignInKind};
use crate::config::Config;
use crate::domain::access::{Access, EntryId, Protected};
use crate::domain::age;
use crate::domain::certificate::ClientCertificate;
use crate::domain::decision::{Believed, Credential, Facts, Presented, Rejection, decide};
use crate::domain::identity::{Claim, Identity, IdentityRef};
use crate::domain::origin::Origin;
use crate::domain::policy::{Circumstances, Rule};
use crate::domain::possession::Bindings;
use crate::domain::route::{Miss, RouteTable};
use crate::domain::session::{Cause, Kind, Opening, ScopeId, Session, SessionId};
use crate::domain::target::{Host, Target};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::domain::token_facts::TokenFacts;
use crate::net::tls::Shown;
use crate::proxy::changes::HeaderChanges;
use crate::proxy::settings::{
    Deadline, Encoding, IdentityHeader, Per, RateSettings, RouteLimits, RouteSettings,
};
use http::Method;
use std::sync::Arc;

/// The gateway's own paths.
const OWN_PATHS: &str = "/_vestibule";

/// What becomes of a request without a credential that counts.
const SIGN_IN: &str = "302 to sign-in for a page, 401 for a script";

/// When supposed sessions were opened: now.
const OPENED_AT: Timestamp = Timestamp::from_secs(0);

/// Who asks.
#[derive(Clone, Debug, Default)]
pub enum Who {
    /// Nobody: no credential.
    #[default]
    Nobody,
    /// Somebody with these claims, by whichever way of the route has this source.
    Claims(Claimed),
    /// Somebody with a token, and the entries of `tokens` that do not refuse it.
    Token(Vec<Said>),
}

/// What an entry of `tokens` says of a token.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its name in the file.
    pub entry: String,
    /// Whom the token proves; or, where only a running gateway can say that, what it would do to learn it.
    pub whom: Result<Identity, String>,
}

/// A request that nobody has sent.
#[derive(Clone, Copy, Debug)]
pub struct Supposed<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its address, as a browser sees it.
    pub url: &'a str,
    /// Who sends it.
    pub who: &'a Who,
    /// What the client shows when the connection is opened.
    pub certificate: Option<&'a Shown>,
}

/// The explanation, a fact a line. A `url` that no request could have is explained too: it is refused, and why.
pub fn explain(config: &Config, supposed: &Supposed<'_>) -> Explanation {
    let mut lines = Explanation::default();
    walk(config, supposed, &mut lines);
    lines
}

fn decision(lines: &mut Explanation, decision: impl std::fmt::Display, why: impl std::fmt::Display) {
    lines.say("decision", decision);
    lines.say("because", why);
}

fn walk(config: &Config, supposed: &Supposed<'_>, lines: &mut Explanation) {
    let Supposed { method, url, .. } = *supposed;
    lines.say("request", format!("{method} {}", url.escape_default()));
    let Some((authority, target)) = split(url) else {
        let why = "this is no URL; write it whole, such as `https://wiki.example.com/x`";
        return decision(lines, "refused", why);
    };
    let host = match Host::parse(authority.as_bytes()) {
        Ok(host) => host,
        Err(error) => return decision(lines, "400 bad request", error),
    };
    let target = match Target::parse(target.as_bytes()) {
        Ok(target) => target,
        Err(error) => return decision(lines, "400 bad request", error),
    };
    if !target.is_as_sent() {
        lines.say("read as", target.path());
    }
    let certificate = match certificates::shown(config, supposed.certificate, lines) {
        Ok(certificate) => certificate,
        Err(why) => return decision(lines, "no connection", why),
    };
    let table = table(config);
    if is_own(target.path()) && table.knows_host(host.name()) {
        return decision(lines, "answered here", "this is one of the gateway's own pages");
    }
    let route = match table.find(host.name(), &target, method) {
        Ok(index) => &config.routes[index],
        Err(Miss::NoRoute) if !table.knows_host(host.name()) => {
            return decision(lines, "404 not found", format!("no route has the host `{}`", host.name()));
        }
        Err(Miss::NoRoute) => {
            return decision(lines, "404 not found", "no route of this host has this path");
        }
        Err(Miss::Method(methods)) => {
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let why = format!("the routes of this host and path take {} alone", methods.join(", "));
            return decision(lines, "405 method not allowed", why);
        }
    };
    lines.say("route", format!("{} ({})", route.name, route.path));
    lines.say("access", wording::who(config, &route.access));
    if let Some(bound) = wording::bound_of(&route.access) {
        lines.say("proof", format!("401 for a token that is not bound to {bound}"));
    }
    say_limits(&route.limits, lines);
    let Some(admitted) = weigh(config, supposed, certificate, route, lines) else { return };
    let decided = match &route.redirect {
        Some(redirect) => format!("{} to {}", redirect.status.as_u16(), redirect.location(&target)),
        None => "passes".to_owned(),
    };
    decision(lines, decided, admitted.why);
    say_rule(route, &admitted, lines);
    if route.redirect.is_none() {
        say_forwarding(config, &target, route, &admitted, lines);
    }
    say_cross_origin(method, route, &admitted, lines);
    say_session(config, method, &target, route, lines);
}

/// A request that passes.
struct Admitted<'a> {
    why: &'static str,
    /// Whom the upstream is told of.
    credential: Option<Credential>,
    certificate: Option<&'a ClientCertificate>,
}

/// What the gateway decides; a refusal is said here.
fn weigh<'a>(
    config: &Config,
    supposed: &Supposed<'_>,
    certificate: Option<&'a ClientCertificate>,
    route: &RouteSettings,
    lines: &mut Explanation,
) -> Option<Admitted<'a>> {
    let Supposed { method, who, .. } = *supposed;
    if let (Access::Protected(protected), Who::Token(said)) = (&route.access, who)
        && let Some((_, Said { entry, whom: Err(would) })) = first_said(config, protected, said)
    {
        let why =
            format!("for `{entry}` {would}; once the token is believed, this decides: {}", protected.allow);
        decision(lines, "not to be said here", why);
        return None;
    }
    let (presented, told) = match &route.access {
        Access::Public => (Presented::Nothing(Cause::Absent), String::new()),
        Access::Protected(protected) => present(config, protected, who),
    };
    // Other sites are a matter of browsers, and told beside the decision.
    let facts = Facts {
        method,
        upgrade: false,
        foreign: false,
        preflight: false,
        certificate,
        now: OPENED_AT,
        wall: Some(wall_clock()),
        proved_key: None,
    };
    let refused = match decide(&without_bindings(&route.access), facts, presented) {
        Ok(admission) => {
            let credential = admission.credential().cloned();
            let why = match (&route.access, &credential) {
                (Access::Public, _) => "the route is public",
                (_, None) => "no credential is needed here (`optional: true`)",
                (_, Some(_)) => "the rule holds",
            };
            return Some(Admitted { why, credential, certificate });
        }
        Err(refused) => refused,
    };
    let Access::Protected(protected) = &route.access else { return None };
    match refused.rejection {
        Rejection::Unauthenticated(_) if has_way(config, protected) => decision(lines, SIGN_IN, told),
        Rejection::Unauthenticated(_) | Rejection::BadBearer(_) => decision(lines, "401 unauthorized", told),
        Rejection::StaleToken(_) => {
            decision(lines, "401 unauthorized", "the sign-in is too long ago, or nobody knows when");
        }
        Rejection::Scope(scopes) => {
            decision(lines, "403 forbidden", format!("the token lacks a scope of: {scopes}"));
        }
        Rejection::Forbidden => decision(lines, "403 forbidden", "the rule does not hold"),
        other => decision(lines, "refused", other),
    }
    if let Some(credential) = &refused.credential {
        let circumstances = circumstances(protected, credential, certificate);
        say_parts(&protected.allow, credential.identity(), &circumstances, 0, lines);
    }
    None
}

/// Whether a page can lead to a sign-in; a token that is traded for a session has none.
fn has_way(config: &Config, protected: &Protected) -> bool {
    config.sign_in.iter().any(|way| protected.sign_in.contains(&way.id))
}

/// The access, as it is to whoever brings the proof that it asks for: that comes with each request, and is told beside the
/// decision.
fn without_bindings(access: &Access) -> Access {
    match access {
        Access::Public => Access::Public,
        Access::Protected(protected) => {
            Access::Protected(Protected { bindings: Bindings::default(), ..protected.clone() })
        }
    }
}

fn say_rule(route: &RouteSettings, admitted: &Admitted<'_>, lines: &mut Explanation) {
    if let (Access::Protected(protected), Some(credential)) = (&route.access, &admitted.credential) {
        let circumstances = circumstances(protected, credential, admitted.certificate);
        say_parts(&protected.allow, credential.identity(), &circumstances, 0, lines);
    }
}

/// What the application gets.
fn say_forwarding(
    config: &Config,
    target: &Target<'_>,
    route: &RouteSettings,
    admitted: &Admitted<'_>,
    lines: &mut Explanation,
) {
    lines.say("upstream", wording::upstream(config, route));
    if let Some(prefix) = route.changes.as_ref().and_then(|changes| changes.prefix.as_ref()) {
        match prefix.forward(target) {
            Ok(sent) => lines.say("sent as", sent),
            Err(error) => lines.say("note", format!("400 all the same: {error} once it is rewritten")),
        }
    }
    match (&route.access, &admitted.credential) {
        (Access::Public, _) => lines.say("headers", "none: a public route passes no identity"),
        (_, None) => lines.say("headers", "none: nobody is known"),
        (_, Some(credential)) => {
            let by_cookie = credential.session().is_some();
            say_headers(config, route, credential.identity(), by_cookie, lines);
        }
    }
    certificates::say_headers(config, route, admitted.certificate, lines);
    if let Some(changes) = &route.changes {
        say_changes("request", &changes.request, lines);
        say_changes("answer", &changes.response, lines);
        if changes.security {
            lines.say("change", "answer with security headers, where the application says nothing itself");
        }
    }
}

fn say_changes(message: &str, changes: &HeaderChanges, lines: &mut Explanation) {
    for name in &changes.remove {
        lines.say("change", format!("{message} without {name}"));
    }
    for (word, fields) in [("with", &changes.set), ("with one more", &changes.add)] {
        for (name, value) in fields {
            lines.say("change", format!("{message} {word} {name}: {}", value.to_str().unwrap_or_default()));
        }
    }
}

fn say_cross_origin(
    method: &Method,
    route: &RouteSettings,
    admitted: &Admitted<'_>,
    lines: &mut Explanation,
) {
    let Access::Protected(protected) = &route.access else { return };
    if admitted.credential.as_ref().and_then(Credential::session).is_some() && !method.is_safe() {
        let listed: Vec<String> = protected.cross_origin.iter().map(Origin::to_string).collect();
        let besides = if listed.is_empty() { String::new() } else { format!(" or of {}", listed.join(", ")) };
        lines.say("note", format!("with a cookie, 403 unless a page of this host{besides} sent it"));
    }
}

/// What the exchange has to do with the visitor's session besides the decision.
fn say_session(
    config: &Config,
    method: &Method,
    target: &Target<'_>,
    route: &RouteSettings,
    lines: &mut Explanation,
) {
    if route.session.data.is_some() {
        lines.say("session", "the application gets and changes what it keeps for the visitor");
    }
    if !route.session.counts_activity {
        lines.say("session", "the request does not count as a use");
    }
    let upstream = config.upstreams.get(route.upstream);
    for way in config.sign_in.iter().filter(|_| !method.is_safe()) {
        let SignInKind::Upstream(asked) = &way.kind else { continue };
        if let Some(upstream) = upstream.filter(|upstream| upstream.name == asked.upstream)
            && UpstreamWay::new(way.clone(), asked.clone(), route.upstream, upstream.case_insensitive)
                .takes(target)
        {
            lines.say("session", format!("the answer may sign the visitor in or out, by {}", way.name));
        }
    }
}

/// What the request brings to the decision, and what to say where that is not enough.
fn present(config: &Config, protected: &Protected, who: &Who) -> (Presented, String) {
    let nothing = |told: String| (Presented::Nothing(Cause::Absent), told);
    let takes = || nothing(format!("it takes {}", wording::ways(config, protected)));
    match who {
        Who::Nobody => takes(),
        Who::Token(said) => match first_said(config, protected, said) {
            Some((id, Said { whom: Ok(identity), .. })) => {
                (Presented::Credential(token(id, identity.clone())), String::new())
            }
            // Where no tokens are taken, the Authorization header is the application's business.
            _ if protected.tokens.is_empty() => takes(),
            _ => {
                let names: Vec<&str> = said.iter().map(|said| said.entry.as_str()).collect();
                let told = format!(
                    "the route does not list `{}`, and no other entry believes the token",
                    names.join("`, `")
                );
                (Presented::BadBearer("other_entry"), told)
            }
        },
        Who::Claims(claimed) => {
            let wanted = claimed.source.as_deref();
            let ids = protected.sign_in.iter().map(|id| (*id, true));
            let mut ids = ids.chain(protected.tokens.iter().map(|id| (*id, false)));
            let found = ids.find_map(|(id, by_cookie)| {
                let (name, source) = wording::entry(config, id)?;
                (wanted.is_none() || wanted == Some(source)).then_some((id, by_cookie, name, source))
            });
            let Some((id, by_cookie, name, source)) = found else {
                return nothing(format!("no way of this route has the source `{}`", wanted.unwrap_or("")));
            };
            match Identity::new(&claimed.subject, source, &claimed.claims) {
                Err(error) => (Presented::BadBearer("identity"), error.to_string()),
                Ok(identity) if by_cookie => {
                    (Presented::Credential(session(config, id, name, &identity)), String::new())
                }
                Ok(identity) => (Presented::Credential(token(id, identity)), String::new()),
            }
        }
    }
}

/// What counts of what entries say of a token: the word of the route's first, and that of servers only where no signature proves
/// it, as [`Bearer::believe`](crate::auth::bearer::Bearer::believe) has it.
fn first_said<'a>(config: &Config, protected: &Protected, said: &'a [Said]) -> Option<(EntryId, &'a Said)> {
    let asks = |id: EntryId| {
        config.tokens.iter().any(|token| token.id == id && matches!(token.keys, JwtKeys::Asked(_)))
    };
    let of = |id: EntryId| {
        let (name, _) = wording::entry(config, id)?;
        said.iter().find(|said| said.entry == name).map(|said| (id, said))
    };
    let listed = || protected.tokens.iter().copied();
    listed().filter(|id| !asks(*id)).find_map(of).or_else(|| listed().filter(|id| asks(*id)).find_map(of))
}

/// What else a request must keep to; nothing is said where nothing is limited.
fn say_limits(limits: &RouteLimits, lines: &mut Explanation) {
    if let Some(clients) = &limits.clients {
        lines.say("clients", format!("403 unless from {clients}"));
    }
    if let Some(most) = limits.body_bytes_max {
        lines.say("body", format!("413 beyond {most} bytes"));
    }
    if let Some(RateSettings { per, times, span, burst }) = &limits.rate {
        let per = match per {
            Per::Session => "session",
            Per::Subject => "subject",
            Per::ClientIp => "client address",
        };
        let span = span.as_secs();
        lines.say("rate", format!("429 beyond {times} in {span} s for each {per}, {burst} at once"));
    }
}

/// A believed token, as it counts for the decision: when it ends plays no part there.
fn token(entry: EntryId, identity: Identity) -> Credential {
    let at = Timestamp::from_secs(0);
    let token = TokenFacts::default();
    Credential::Token(Arc::new(Believed { identity, expires_at: at, entry, verified_at: at, token }))
}

/// A live session that no table knows, as it counts for the decision.
fn session(config: &Config, entry: EntryId, sign_in: &str, identity: &Identity) -> Credential {
    Credential::Session(Session::open(Opening {
        digest: TokenDigest::of(&[0; 32]),
        id: SessionId::FIRST,
        kind: Kind::SignedIn,
        identity: Some(identity),
        entry,
        scope: ScopeId(0),
        stamp: 0,
        sign_in,
        client_address: "",
        user_agent: "",
        now: OPENED_AT,
        lifetimes: config.sessions.clocks.signed_in,
    }))
}

/// What a rule looks at besides claims, as far as it can be supposed.
fn circumstances<'a>(
    protected: &Protected,
    credential: &Credential,
    certificate: Option<&'a ClientCertificate>,
) -> Circumstances<'a> {
    let ago = age::authenticated_ago(credential, &protected.dated, OPENED_AT, Some(wall_clock()));
    Circumstances { authenticated_ago: ago, certificate, ..Circumstances::default() }
}

/// Each part of a rule with its outcome, indented by depth.
fn say_parts(
    rule: &Rule,
    identity: IdentityRef<'_>,
    circumstances: &Circumstances<'_>,
    depth: usize,
    lines: &mut Explanation,
) {
    let outcome = if rule.holds(identity, circumstances) { "holds" } else { "fails" };
    let (text, parts): (String, &[Rule]) = match rule {
        Rule::All(parts) => ("all of".to_owned(), parts),
        Rule::Any(parts) => ("any of".to_owned(), parts),
        Rule::Not(part) => ("not".to_owned(), std::slice::from_ref(part)),
        Rule::Certificate(_) if circumstances.certificate.is_none() => {
            (format!("{rule} (here none is shown)"), &[])
        }
        Rule::AuthAge(_) => (format!("{rule} (counts from the sign-in, or `auth_time`)"), &[]),
        other => (other.to_string(), &[]),
    };
    lines.say("rule", format!("{}{outcome}  {text}", "  ".repeat(depth)));
    for part in parts {
        say_parts(part, identity, circumstances, depth + 1, lines);
    }
}

fn say_headers(
    config: &Config,
    route: &RouteSettings,
    identity: IdentityRef<'_>,
    by_cookie: bool,
    lines: &mut Explanation,
) {
    let headers = config.upstreams.get(route.upstream).map_or(&[][..], |upstream| &upstream.identity);
    for header in headers {
        if let Some(deadline) = header.deadline {
            let until = match deadline {
                Deadline::IdleUntil => "when the session ends if it is not used",
                Deadline::EndsAt => "when the session ends at the latest",
            };
            if by_cookie {
                lines.say("header", format!("{}: ({until})", header.name));
            }
            continue;
        }
        // What is said of a certificate is said on every route.
        if header.certificate.is_some() {
            continue;
        }
        let Some(claim) = identity.claim(&header.claim) else { continue };
        let value = header_value(header, Claim::header_form(claim));
        lines.say("header", format!("{}: {value}", header.name));
    }
}

/// What the application reads in a header.
fn header_value(header: &IdentityHeader, encoded: &str) -> String {
    match header.encoding {
        Encoding::Percent => encoded.to_owned(),
        Encoding::Utf8 => crate::domain::identity::decode(encoded),
    }
}

/// The routes as the gateway looks them up.
fn table(config: &Config) -> RouteTable {
    let folds = |route: &RouteSettings| {
        config.upstreams.get(route.upstream).is_some_and(|upstream| upstream.case_insensitive)
    };
    let entry = |route: &RouteSettings| {
        (route.hosts.clone(), route.path.clone(), folds(route), route.methods.clone())
    };
    RouteTable::new(config.routes.iter().map(entry).collect())
}

fn is_own(path: &str) -> bool {
    path.strip_prefix(OWN_PATHS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Authority and target of an absolute URL; `/` where it has no path.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    Some((authority, if target.is_empty() { "/" } else { target }))
}
