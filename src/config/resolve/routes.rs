//! `routes`: what goes where, and what the table as a whole must keep.

use super::super::problem::At;
use super::super::raw;
use super::super::scalar::Entries;
use super::super::suggest;
use super::Resolver;
use super::access::{PUBLIC, Policies, Rights};
use super::changes::Reserved;
use crate::auth::{JwtSettings, SignInSettings};
use crate::domain::access::Access;
use crate::domain::identity::SOURCE;
use crate::domain::policy::Rule;
use crate::domain::route::{HostPattern, PathPattern, PatternError, RouteTable};
use crate::domain::session::SpaceId;
use crate::proxy::settings::{External, NO_UPSTREAM, RouteSession, RouteSettings, UpstreamSettings};
use http::Method;
use std::collections::{BTreeSet, HashSet};

/// The gateway's own paths.
const OWN_PATHS: &str = "/_vestibule";

/// Methods that a slip of the hand may have meant.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"];

impl Resolver<'_> {
    pub(super) fn routes(
        &mut self,
        policies: &Policies,
        sign_in: &[SignInSettings],
        tokens: &[JwtSettings],
        upstreams: &[UpstreamSettings],
        external_url: Option<&(String, External)>,
        reserved: &Reserved,
    ) -> Vec<RouteSettings> {
        let root = At::root().key("routes");
        let Some(raw) = &self.raw.routes else { return Vec::new() };
        if raw.is_empty() {
            self.notes.problem(
                &root,
                "routes",
                "is empty: every request would get 404",
                "write at least one route",
            );
        }
        let mut routes: Vec<(At, RouteSettings)> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        for (index, route) in raw.iter().enumerate() {
            let Some(route) = route else { continue };
            let at = root.item(index);
            if let Some(name) = &route.name {
                self.check_name(name, &at.key("name"));
                if names.contains(name) {
                    let remedy = "write another name: logs and metrics tell routes by it";
                    self.notes.problem(&at.key("name"), name, "is the name of two routes", remedy);
                }
            }
            let rights =
                route.access.as_ref().and_then(|access| self.access(access, &at, policies, sign_in, tokens));
            let upstream = route.upstream.as_deref().and_then(|name| self.upstream(name, &at, upstreams));
            let hosts = self.hosts(route, &at);
            let path = route.path.as_deref().and_then(|text| self.path(text, &at.key("path")));
            let methods = self.methods(route, &at.key("methods"));
            let changes = self.changes(route, &at, path.as_ref(), reserved);
            self.one_destination(route, changes.as_deref(), &at);
            let redirect = route
                .redirect
                .as_ref()
                .and_then(|redirect| self.redirect(redirect, &at.key("redirect"), path.as_ref()));
            if let (Some(rights), Some(upstream)) = (&rights, upstream) {
                self.people_are_told_apart(rights, &upstreams[upstream], &at);
            }
            if let Some(rights) = &rights
                && !rights.ways.is_empty()
                && route.host.is_none()
                && external_url.is_none()
                && !self.notes.spoilt(&At::root().key("external_url"))
            {
                let wrong = "is missing, and sign-in needs a host for its addresses";
                self.notes.missing(
                    &at,
                    "host",
                    wrong,
                    "write it here, or `external_url:` at the top of the file",
                );
            }
            let (Some(name), Some(rights), Some(path)) = (route.name.clone(), rights, path) else { continue };
            // A broken upstream was said where it stands; the table can be looked at all the same.
            let upstream = upstream.unwrap_or(NO_UPSTREAM);
            let forward_authorization = route.forward_authorization.unwrap_or(false);
            let session = self.route_session(route, &at.key("session"));
            let limits = self.route_limits(route, Some(&rights.access), &at);
            let Rights { access, ways: sign_in, .. } = rights;
            let settings = RouteSettings {
                name,
                hosts,
                path,
                methods,
                access,
                sign_in,
                forward_authorization,
                session,
                limits,
                changes,
                redirect,
                upstream,
            };
            names.insert(settings.name.clone());
            routes.push((at, settings));
        }
        self.whole_table(&routes, upstreams, external_url);
        routes.into_iter().map(|(_, route)| route).collect()
    }

    fn access(
        &mut self,
        raw: &raw::Access,
        route: &At,
        policies: &Policies,
        sign_in: &[SignInSettings],
        tokens: &[JwtSettings],
    ) -> Option<Rights> {
        let at = route.key("access");
        match raw {
            raw::Access::Named(name) if name == PUBLIC => Some(Rights::public()),
            raw::Access::Named(name) => {
                if let Some(policy) = policies.get(name) {
                    self.use_name("policies", name);
                    return policy.clone();
                }
                let known = policies.keys().map(String::as_str).chain([PUBLIC]);
                let remedy = if policies.is_empty() && suggest::nearest(name, [PUBLIC]).is_none() {
                    format!("write the policy `policies.{name}`, or `public`")
                } else {
                    suggest::remedy(name, known)
                };
                self.notes.problem(&at, name, "is no policy", remedy);
                None
            }
            raw::Access::Written(written) => Some(self.access_written(written, &at, sign_in, tokens)),
        }
    }

    fn upstream(&mut self, name: &str, route: &At, upstreams: &[UpstreamSettings]) -> Option<usize> {
        let known: Vec<&str> = self.raw.upstreams.iter().flat_map(Entries::names).collect();
        if known.contains(&name) {
            self.use_name("upstreams", name);
            return upstreams.iter().position(|upstream| upstream.name == name);
        }
        if !self.notes.spoilt(&At::root().key("upstreams")) || !known.is_empty() {
            let remedy = if known.is_empty() {
                format!("write the entry `upstreams.{name}`")
            } else {
                suggest::remedy(name, known.iter().copied())
            };
            self.notes.problem(&route.key("upstream"), name, "is no entry of `upstreams`", remedy);
        }
        None
    }

    fn route_session(&mut self, route: &raw::Route, at: &At) -> RouteSession {
        let raw = route.session.as_ref();
        let data = match raw.and_then(|session| session.data.as_ref()) {
            None | Some(raw::RouteData::Own(false)) => None,
            // Neither kind of name can stand for the other.
            Some(raw::RouteData::Own(true)) => {
                route.upstream.as_deref().map(|name| SpaceId::of(&format!("upstream {name}")))
            }
            Some(raw::RouteData::Shared(name)) => {
                self.space_name(name, &at.key("data"));
                Some(SpaceId::of(&format!("shared {name}")))
            }
        };
        let counts_activity = raw.and_then(|session| session.activity) != Some(raw::Activity::Ignore);
        RouteSession { data, counts_activity }
    }

    fn space_name(&mut self, name: &str, at: &At) {
        match name.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => {
                self.notes.problem(at, name, "is text", "write `true`, or the name of a space");
            }
            "no" | "off" | "n" | "false" => {
                self.notes.problem(at, name, "is text", "write `false`, or the name of a space");
            }
            _ => self.check_name(name, at),
        }
        if self.raw.upstreams.iter().flat_map(Entries::names).any(|upstream| upstream == name) {
            let wrong = "is the name of an upstream, whose own space (`data: true`) is another one";
            self.notes.warn(at, name, wrong, "write another name in each of the routes that are to share it");
            return;
        }
        // A name that only one upstream uses shares nothing: it may be a slip.
        let of = |route: &raw::Route| match route.session.as_ref().and_then(|session| session.data.as_ref()) {
            Some(raw::RouteData::Shared(space)) => Some((space.clone(), route.upstream.clone())),
            _ => None,
        };
        let shared: Vec<_> = self.raw.routes.iter().flatten().flatten().filter_map(of).collect();
        let upstreams: BTreeSet<_> =
            shared.iter().filter(|(space, _)| space == name).map(|(_, upstream)| upstream).collect();
        if upstreams.len() < 2 {
            let others = shared.iter().map(|(space, _)| space.as_str()).filter(|space| *space != name);
            let remedy = match suggest::nearest(name, others) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "write `true`, or the same name in a route to another one".to_owned(),
            };
            self.notes.warn(at, name, "is a space that only one upstream uses", remedy);
        }
    }

    fn hosts(&mut self, route: &raw::Route, at: &At) -> Vec<HostPattern> {
        let at = at.key("host");
        let Some(raw) = &route.host else { return Vec::new() };
        if raw.is_empty() {
            self.notes.problem(&at, "host", "is an empty list", "write a host, or leave it out for any");
        }
        let mut hosts: Vec<HostPattern> = Vec::new();
        for (index, text) in raw.iter() {
            let at = index.map_or(at.clone(), |index| at.item(index));
            match HostPattern::parse(text) {
                Ok(host) if hosts.contains(&host) => {
                    self.notes.problem(&at, text, "stands twice", "keep one of them");
                }
                Ok(host) => hosts.push(host),
                Err(error) => self.pattern_problem(&at, text, "host", &error),
            }
        }
        hosts
    }

    pub(super) fn path(&mut self, text: &str, at: &At) -> Option<PathPattern> {
        match PathPattern::parse(text) {
            Err(error) => {
                self.pattern_problem(at, text, "path", &error);
                None
            }
            Ok(path) => {
                let first = path.path().split('/').nth(1).unwrap_or_default();
                if first.eq_ignore_ascii_case(&OWN_PATHS[1..]) {
                    self.notes.problem(
                        at,
                        text,
                        "is where the gateway's own pages are",
                        "write another path",
                    );
                }
                Some(path)
            }
        }
    }

    /// The pattern's own error says what to write after its `;`.
    pub(super) fn pattern_problem(&mut self, at: &At, text: &str, noun: &str, error: &PatternError) {
        let said = error.to_string();
        let (wrong, remedy) = said.split_once("; ").unwrap_or((&said, "mend it"));
        self.notes.problem(at, text, format!("is not a {noun} ({wrong})"), remedy);
    }

    fn methods(&mut self, route: &raw::Route, at: &At) -> Vec<Method> {
        let Some(raw) = &route.methods else { return Vec::new() };
        if raw.is_empty() {
            self.notes.problem(at, "methods", "is empty", "write methods, or leave it out for any");
        }
        let mut methods: Vec<Method> = Vec::new();
        for (index, text) in raw.iter().enumerate() {
            let Some(text) = text else { continue };
            let at = at.item(index);
            let upper = text.to_ascii_uppercase();
            match Method::from_bytes(text.as_bytes()) {
                Ok(method) if methods.contains(&method) => {
                    self.notes.problem(&at, text, "stands twice", "keep one of them");
                }
                Ok(Method::CONNECT) => {
                    self.notes.problem(&at, text, "never passes a gateway", "leave it out");
                }
                Ok(_) if upper != *text => {
                    self.notes.problem(
                        &at,
                        text,
                        "is not in capitals, and methods differ by case",
                        format!("write `{upper}`"),
                    );
                }
                Ok(method) => {
                    if !METHODS.contains(&text.as_str())
                        && let Some(nearest) = suggest::nearest(text, METHODS)
                    {
                        self.notes.warn(
                            &at,
                            text,
                            "is a method that few know",
                            format!("did you mean `{nearest}`?"),
                        );
                    }
                    methods.push(method);
                }
                Err(_) => self.notes.problem(&at, text, "is not a method", "write it like `GET`"),
            }
        }
        methods
    }

    /// `alice` of one source and `alice` of another must not look the same to the application, unless they are.
    fn people_are_told_apart(&mut self, rights: &Rights, upstream: &UpstreamSettings, at: &At) {
        let only_asserted = upstream.assertion && upstream.identity.is_empty();
        let told = only_asserted || upstream.identity.iter().any(|header| header.claim == SOURCE);
        if rights.sources.len() > 1 && !rights.same_people && !told {
            let sources: Vec<String> = rights.sources.iter().map(|source| format!("`{source}`")).collect();
            let wrong = format!("admits subjects of {}, who may share names", sources.join(" and "));
            let remedy =
                "write `same_people: true` if one name is one person, or send the claim `source` in a header";
            self.notes.problem(&at.key("access"), "access", wrong, remedy);
        }
    }

    fn whole_table(
        &mut self,
        routes: &[(At, RouteSettings)],
        upstreams: &[UpstreamSettings],
        external_url: Option<&(String, External)>,
    ) {
        let folds = |route: &RouteSettings| {
            upstreams.get(route.upstream).is_some_and(|upstream| upstream.case_insensitive)
        };
        let table = RouteTable::new(
            routes
                .iter()
                .map(|(_, route)| {
                    (route.hosts.clone(), route.path.clone(), folds(route), route.methods.clone())
                })
                .collect(),
        );
        self.redirects_lead_away(routes, &table);
        self.prefixes_open_no_side_door(routes, &table, upstreams);
        for (hidden, by) in table.unreachable() {
            let (at, route) = &routes[hidden];
            let (_, by) = &routes[by];
            let wrong =
                format!("is never reached: `{}` stands before it and takes all its requests", by.name);
            self.notes.problem(&at.key("path"), &route.path.to_string(), wrong, "move it up, or remove it");
        }
        // Who wrote `paths` has thought about it, and is told no more.
        let has_said = |route: &RouteSettings| {
            let name = upstreams.get(route.upstream).map(|upstream| upstream.name.as_str());
            let raw = self.raw.upstreams.iter().flat_map(Entries::sound);
            raw.into_iter().any(|(raw, entry)| Some(raw) == name && entry.paths.is_some())
        };
        let stricter = |inner: usize, outer: usize| {
            let (inner, outer) = (&routes[inner].1, &routes[outer].1);
            inner.upstream == outer.upstream
                && inner.redirect.is_none()
                && strictness(&inner.access) > strictness(&outer.access)
                && !has_said(inner)
        };
        for (inner, outer) in table.stricter_under(stricter) {
            let (at, route) = &routes[inner];
            let outer = &routes[outer].1;
            let wrong = format!(
                "is stricter than `{}` ({}) above it, which admits what the application may take for the same path in other letters",
                outer.name, outer.path
            );
            let remedy = "write `paths: case_insensitive` for the upstream if case does not matter to it, `case_sensitive` if it does";
            self.notes.warn(&at.key("path"), &route.path.to_string(), wrong, remedy);
        }
        if let Some((host, _)) = external_url
            && !routes.is_empty()
            && !self.notes.spoilt(&At::root().key("routes"))
            && !table.knows_host(host)
        {
            let text = self.raw.external_url.clone().unwrap_or_default();
            let wrong = "has a host that no route has";
            let at = At::root().key("external_url");
            self.notes.problem(&at, &text, wrong, "write the host of a route, or leave `host` out of one");
        }
    }
}

/// How much a route asks of a visitor; rules of equal rank cannot be compared.
pub(super) fn strictness(access: &Access) -> u8 {
    match access {
        Access::Public => 0,
        Access::Protected(protected) if protected.optional => 1,
        Access::Protected(protected) if protected.allow == Rule::Everyone => 2,
        Access::Protected(_) => 3,
    }
}
