//! `vestibule explain`: which route a request would take, which rule decides, and how.
//!
//! It reads the same table and the same rules as the gateway does, and asks nobody: no upstream, no store, no issuer.

use super::{ExplainArgs, Failure, check, print};
use crate::app::build::{self, Loaded};
use crate::app::wall_clock;
use crate::auth::SignInKind;
use crate::auth::jwt::TOKEN_BYTES_MAX;
use crate::auth::upstream_way::UpstreamWay;
use crate::config::Config;
use crate::domain::access::{Access, EntryId, Protected};
use crate::domain::identity::{
    Claim, ClaimValue, Claims, EMAIL, GROUPS, Identity, IdentityError, IdentityRef,
};
use crate::domain::origin::Origin;
use crate::domain::policy::Rule;
use crate::domain::route::{Miss, RouteTable};
use crate::domain::secret::Secret;
use crate::domain::target::{Host, Target};
use crate::proxy::settings::{Deadline, Encoding, RouteSettings};
use http::Method;
use std::fmt::Write;
use std::io::Read;

/// The gateway's own paths.
const OWN_PATHS: &str = "/_vestibule";

/// What becomes of a request without a credential that counts.
const SIGN_IN: &str = "302 to sign-in for a page, 401 for a script";

/// Explains one request.
pub(super) fn explain_request(args: &ExplainArgs) -> Result<(), Failure> {
    let loaded = build::load(&args.config.config).map_err(Failure::refused)?;
    let who = match (&args.subject, &args.token) {
        (Some(subject), _) => Who::Claims(Claimed {
            subject: subject.clone(),
            source: args.source.clone(),
            email: args.email.clone(),
            groups: args.groups.clone(),
            claims: Vec::new(),
        }),
        (None, Some(_)) => believed(&loaded)?,
        (None, None) => Who::Nobody,
    };
    print(&explain(&loaded.config, &args.method, &args.url, &who))
}

/// Who a token from standard input proves; where nobody, what each entry holds against it.
fn believed(loaded: &Loaded) -> Result<Who, Failure> {
    let mut token = Secret::new(String::new());
    std::io::stdin()
        .take(TOKEN_BYTES_MAX as u64 + 2)
        .read_to_string(token.expose_mut())
        .map_err(Failure::failed)?;
    let mut refusals = String::from("no entry of `tokens` believes this token");
    for verifier in &loaded.verifiers {
        match verifier.verify(token.expose().trim_end(), wall_clock()) {
            Ok(verified) => {
                return Ok(Who::Believed { entry: verifier.name().to_owned(), identity: verified.identity });
            }
            Err(refusal) => {
                write!(refusals, "\n  {}: {}", verifier.name(), refusal.reason())
                    .expect("a String takes all");
            }
        }
    }
    Err(Failure::Failed(refusals))
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub enum Who {
    /// Nobody: no credential.
    #[default]
    Nobody,
    /// Somebody with these claims, by whichever way of the route has this source.
    Claims(Claimed),
    /// Somebody whose token was believed by this entry of `tokens`.
    Believed {
        /// Its name in the file.
        entry: String,
        /// What the token says.
        identity: Identity,
    },
}

/// Claims as the command line gives them.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// `--subject`.
    pub subject: String,
    /// `--source`; absent: that of the route's first way.
    pub source: Option<String>,
    /// `--email`.
    pub email: Option<String>,
    /// `--groups`.
    pub groups: Vec<String>,
    /// Further ones by name.
    pub claims: Vec<(String, String)>,
}

impl Claimed {
    fn identity(&self, source: &str) -> Result<Identity, IdentityError> {
        let mut claims = Claims::new();
        let email = self.email.iter().map(|email| (EMAIL.to_owned(), ClaimValue::Text(email.clone())));
        let further = self.claims.iter().map(|(name, value)| (name.clone(), ClaimValue::Text(value.clone())));
        claims.extend(further.chain(email));
        if !self.groups.is_empty() {
            claims.insert(GROUPS.to_owned(), ClaimValue::List(self.groups.clone()));
        }
        Identity::new(&self.subject, source, &claims)
    }
}

/// The explanation, a fact a line. A `url` that no request could have is explained too: it is refused, and why.
pub fn explain(config: &Config, method: &Method, url: &str, who: &Who) -> String {
    let mut lines = Lines::default();
    walk(config, method, url, who, &mut lines);
    lines.0
}

/// `name: value`, names padded to the same width.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn say(&mut self, name: &str, value: impl std::fmt::Display) {
        let name = format!("{name}:");
        writeln!(self.0, "{name:<10} {value}").expect("a String takes all");
    }

    fn decide(&mut self, decision: &str, why: impl std::fmt::Display) {
        self.say("decision", decision);
        self.say("because", why);
    }
}

fn walk(config: &Config, method: &Method, url: &str, who: &Who, lines: &mut Lines) {
    lines.say("request", format!("{method} {}", url.escape_default()));
    let Some((authority, target)) = split(url) else {
        return lines
            .decide("refused", "this is no URL; write it whole, such as `https://wiki.example.com/x`");
    };
    let host = match Host::parse(authority.as_bytes()) {
        Ok(host) => host,
        Err(error) => return lines.decide("400 bad request", error),
    };
    let target = match Target::parse(target.as_bytes()) {
        Ok(target) => target,
        Err(error) => return lines.decide("400 bad request", error),
    };
    if !target.is_as_sent() {
        lines.say("read as", target.path());
    }
    let table = table(config);
    if is_own(target.path()) && table.knows_host(host.name()) {
        return lines.decide("answered here", "this is one of the gateway's own pages");
    }
    let route = match table.find(host.name(), &target, method) {
        Ok(index) => &config.routes[index],
        Err(Miss::NoRoute) if !table.knows_host(host.name()) => {
            return lines.decide("404 not found", format!("no route has the host `{}`", host.name()));
        }
        Err(Miss::NoRoute) => {
            return lines.decide("404 not found", "no route of this host has this path");
        }
        Err(Miss::Method(methods)) => {
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let why = format!("the routes of this host and path take {} alone", methods.join(", "));
            return lines.decide("405 method not allowed", why);
        }
    };
    lines.say("route", format!("{} ({})", route.name, route.path));
    lines.say("access", check::who(config, &route.access));
    if decide(config, method, route, who, lines) == Some(Passes) {
        say_session(config, method, &target, route, lines);
    }
}

/// The request goes to the application.
#[derive(PartialEq, Eq)]
struct Passes;

fn decide(
    config: &Config,
    method: &Method,
    route: &RouteSettings,
    who: &Who,
    lines: &mut Lines,
) -> Option<Passes> {
    let upstream = check::upstream(config, route);
    let protected = match &route.access {
        Access::Public => {
            lines.decide("passes", "the route is public");
            lines.say("upstream", upstream);
            lines.say("headers", "none: a public route passes no identity");
            return Some(Passes);
        }
        Access::Protected(protected) => protected,
    };
    let (identity, by_cookie) = match credential(config, protected, who) {
        Credential::None(_) if protected.optional => {
            lines.decide("passes", "no credential is needed here (`optional: true`)");
            lines.say("upstream", upstream);
            lines.say("headers", "none: nobody is known");
            return Some(Passes);
        }
        Credential::None(why) if !protected.sign_in.is_empty() => {
            lines.decide(SIGN_IN, why);
            return None;
        }
        Credential::None(why) | Credential::Refused(why) => {
            lines.decide("401 unauthorized", why);
            return None;
        }
        Credential::Good { identity, by_cookie } => (identity, by_cookie),
    };
    let identity = identity.as_ref();
    if !protected.allow.holds(identity, None) {
        lines.decide("403 forbidden", "the rule does not hold");
        say_parts(&protected.allow, identity, 0, lines);
        return None;
    }
    lines.decide("passes", "the rule holds");
    say_parts(&protected.allow, identity, 0, lines);
    lines.say("upstream", upstream);
    say_headers(config, route, identity, by_cookie, lines);
    if by_cookie && !method.is_safe() {
        let listed: Vec<String> = protected.cross_origin.iter().map(Origin::to_string).collect();
        let besides = if listed.is_empty() { String::new() } else { format!(" or of {}", listed.join(", ")) };
        lines.say("note", format!("with a cookie, 403 unless a page of this host{besides} sent it"));
    }
    Some(Passes)
}

/// What the exchange has to do with the visitor's session besides the decision.
fn say_session(
    config: &Config,
    method: &Method,
    target: &Target<'_>,
    route: &RouteSettings,
    lines: &mut Lines,
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

enum Credential {
    /// None that counts on the route, and what it takes.
    None(String),
    /// One that the route looks at and does not believe.
    Refused(String),
    Good {
        identity: Identity,
        by_cookie: bool,
    },
}

fn credential(config: &Config, protected: &Protected, who: &Who) -> Credential {
    let entry = |id: &EntryId| check::entry(config, *id);
    let nothing = || Credential::None(format!("it takes {}", check::ways(config, protected)));
    let mut ways =
        protected.sign_in.iter().map(|id| (id, true)).chain(protected.tokens.iter().map(|id| (id, false)));
    match who {
        Who::Nobody => nothing(),
        Who::Believed { entry: name, identity } => {
            if protected.tokens.iter().filter_map(entry).any(|(listed, _)| listed == name) {
                Credential::Good { identity: identity.clone(), by_cookie: false }
            } else if protected.tokens.is_empty() {
                // Where no tokens are taken, the Authorization header is the application's business.
                nothing()
            } else {
                Credential::Refused(format!("the route does not list `{name}`, which believed the token"))
            }
        }
        Who::Claims(claimed) => {
            let wanted = claimed.source.as_deref();
            let found = ways.find_map(|(id, by_cookie)| {
                let (_, source) = entry(id)?;
                (wanted.is_none() || wanted == Some(source)).then_some((source, by_cookie))
            });
            match found {
                None => Credential::None(format!(
                    "no way of this route has the source `{}`",
                    wanted.unwrap_or("")
                )),
                Some((source, by_cookie)) => match claimed.identity(source) {
                    Ok(identity) => Credential::Good { identity, by_cookie },
                    Err(error) => Credential::Refused(error.to_string()),
                },
            }
        }
    }
}

/// Each part of a rule with its outcome, indented by depth.
fn say_parts(rule: &Rule, identity: IdentityRef<'_>, depth: usize, lines: &mut Lines) {
    let outcome = if rule.holds(identity, None) { "holds" } else { "fails" };
    let (text, parts): (String, &[Rule]) = match rule {
        Rule::All(parts) => ("all of".to_owned(), parts),
        Rule::Any(parts) => ("any of".to_owned(), parts),
        Rule::Not(part) => ("not".to_owned(), std::slice::from_ref(part)),
        Rule::Certificate(_) => (format!("{rule} (here none is shown)"), &[]),
        other => (other.to_string(), &[]),
    };
    lines.say("rule", format!("{}{outcome}  {text}", "  ".repeat(depth)));
    for part in parts {
        say_parts(part, identity, depth + 1, lines);
    }
}

fn say_headers(
    config: &Config,
    route: &RouteSettings,
    identity: IdentityRef<'_>,
    by_cookie: bool,
    lines: &mut Lines,
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
        if header.certificate.is_some() {
            lines
                .say("header", format!("{}: (of the client's certificate, where there is one)", header.name));
            continue;
        }
        let Some(claim) = identity.claim(&header.claim) else { continue };
        let encoded = Claim::header_form(claim);
        let value = match header.encoding {
            Encoding::Percent => encoded.to_owned(),
            Encoding::Utf8 => crate::domain::identity::decode(encoded),
        };
        lines.say("header", format!("{}: {value}", header.name));
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
