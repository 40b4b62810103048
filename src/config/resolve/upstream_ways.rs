//! `sign_in` by an upstream: where its answers count, and whether anybody could get there.

use super::super::problem::At;
use super::super::raw;
use super::super::scalar::Entries;
use super::super::suggest;
use super::Resolver;
use super::ways::entry_id;
use crate::auth::{SignInKind, SignInSettings, UpstreamSignIn};
use crate::domain::access::{Access, EntryId};
use crate::domain::route::{HostPattern, PathPattern, RouteTable};
use crate::domain::target::Target;
use crate::proxy::settings::{RouteSettings, UpstreamSettings};
use http::Method;

/// Methods that forms and scripts send a sign-in with.
const UNSAFE: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl Resolver<'_> {
    /// One entry; whether its paths lead anywhere, only the routes can tell.
    pub(super) fn upstream_way(
        &mut self,
        name: &str,
        raw: &raw::SignInUpstream,
        at: &At,
    ) -> Option<(EntryId, SignInKind)> {
        let paths = self.sign_in_paths(raw.paths.as_deref(), &at.key("paths"));
        let groups = self.sign_in_groups(raw.groups.as_deref(), &at.key("groups"));
        let upstream = raw.name.clone()?;
        let known: Vec<&str> = self.raw.upstreams.iter().flat_map(Entries::names).collect();
        if !known.contains(&upstream.as_str()) {
            let remedy = if known.is_empty() {
                format!("write the entry `upstreams.{upstream}`")
            } else {
                suggest::remedy(&upstream, known.iter().copied())
            };
            self.notes.problem(&at.key("name"), &upstream, "is no entry of `upstreams`", remedy);
        }
        // Who was put into a group that is believed no longer has to sign in anew.
        let mut believed: Vec<&str> = groups.iter().map(String::as_str).collect();
        believed.sort_unstable();
        let definition = [&["upstream", upstream.as_str()], &believed[..]].concat();
        let id = entry_id(name, &definition);
        Some((id, SignInKind::Upstream(UpstreamSignIn { upstream, paths, groups })))
    }

    fn sign_in_paths(&mut self, raw: Option<&[Option<String>]>, at: &At) -> Vec<PathPattern> {
        if raw.is_some_and(<[_]>::is_empty) {
            let wrong = "is empty: no answer would sign anybody in";
            self.notes.problem(at, "paths", wrong, "write where the form is sent, such as `[= /login]`");
        }
        let mut paths = Vec::new();
        for (index, text) in raw.into_iter().flatten().enumerate() {
            let Some(text) = text else { continue };
            let at = at.item(index);
            let Some(path) = self.path(text, &at) else { continue };
            if paths.contains(&path) {
                self.notes.problem(&at, text, "stands twice", "keep one of them");
            } else if path == PathPattern::Prefix("/".to_owned()) {
                let wrong = "lets every answer of the application sign visitors in";
                self.notes.warn(&at, text, wrong, "write where the form is sent, such as `= /login`");
            }
            paths.push(path);
        }
        paths
    }

    fn sign_in_groups(&mut self, raw: Option<&[Option<String>]>, at: &At) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for (index, group) in raw.into_iter().flatten().enumerate() {
            let Some(group) = group else { continue };
            if group.is_empty() {
                self.notes.problem(&at.item(index), "groups", "has an empty name", "write a group's name");
            } else if groups.contains(group) {
                self.notes.problem(&at.item(index), group, "stands twice", "keep one of them");
            }
            groups.push(group.clone());
        }
        groups
    }

    /// Whether the answers of each such way can be reached by somebody who has not signed in, and serve the routes that
    /// list the way.
    pub(super) fn upstream_ways_lead_somewhere(
        &mut self,
        sign_in: &[SignInSettings],
        routes: &[RouteSettings],
        upstreams: &[UpstreamSettings],
    ) {
        // Where routes or upstreams themselves are broken, nobody can say what leads where.
        if ["routes", "upstreams"].iter().any(|section| self.notes.spoilt(&At::root().key(section))) {
            return;
        }
        let map = Map::new(routes, upstreams);
        let mut before: Vec<(&SignInSettings, &UpstreamSignIn)> = Vec::new();
        for way in sign_in {
            let SignInKind::Upstream(settings) = &way.kind else { continue };
            let at = At::root().key("sign_in").key(&way.name).key("upstream");
            if self.notes.spoilt(&at) {
                continue;
            }
            for (index, path) in settings.paths.iter().enumerate() {
                let at = at.key("paths").item(index);
                self.path_is_open(&map, settings, path, &at);
                let taken = before.iter().find(|(_, other)| {
                    other.upstream == settings.upstream
                        && other.paths.iter().any(|theirs| map.overlap(&settings.upstream, theirs, path))
                });
                if let Some((other, _)) = taken {
                    let wrong =
                        format!("is a path of sign_in.{} too: one answer opens one session", other.name);
                    self.notes.problem(&at, &path.to_string(), wrong, "leave it to one of them");
                }
            }
            if !self.notes.spoilt(&at) {
                self.form_is_at_hand(&map, way, settings);
            }
            before.push((way, settings));
        }
    }

    fn path_is_open(&mut self, map: &Map<'_>, settings: &UpstreamSignIn, path: &PathPattern, at: &At) {
        let text = path.to_string();
        let upstream = &settings.upstream;
        let reached = map.routes_to(upstream, path, &UNSAFE);
        if reached.iter().any(|route| is_open(route)) {
            return;
        }
        let (wrong, remedy) = if let Some(route) = reached.first() {
            (
                format!("is on route `{}`, which lets nobody in who is to sign in there", route.name),
                "write `access: public` or `optional: true` for it, or a route of its own before it"
                    .to_owned(),
            )
        } else if let Some(route) = map.routes_to(upstream, path, &[Method::GET, Method::HEAD]).first() {
            (
                format!("is on route `{}`, which takes no form", route.name),
                "add `POST` to its `methods`".to_owned(),
            )
        } else {
            (
                format!("is on no route to `{upstream}`"),
                format!("write a route with this path, `access: public` and `upstream: {upstream}`"),
            )
        };
        self.notes.problem(at, &text, wrong, remedy);
    }

    /// A visitor of a route that lists the way is sent to its form on the host of the route: there it must be open, or the
    /// visitor is sent in a circle.
    fn form_is_at_hand(&mut self, map: &Map<'_>, way: &SignInSettings, settings: &UpstreamSignIn) {
        let form = settings.form_path();
        // Where nobody has to sign in, nobody is sent.
        let sends = |route: &RouteSettings| route.sign_in.contains(&way.name) && !is_open(route);
        for (index, route) in map.routes.iter().enumerate().filter(|(_, route)| sends(route)) {
            let is_shut = |host: &String| !map.form_is_open(settings, host, form);
            let Some(host) = sample_hosts(&route.hosts).into_iter().find(is_shut) else { continue };
            let host = if route.hosts.is_empty() { "any host".to_owned() } else { format!("`{host}`") };
            let upstream = &settings.upstream;
            let wrong = format!(
                "lists `{}`, whose form `{form}` visitors of {host} cannot open: they would be sent in a circle",
                way.name
            );
            let remedy = format!(
                "write a route for `= {form}` there, with `access: public` and `upstream: {upstream}`, or leave that way out"
            );
            self.notes.problem(&At::root().key("routes").item(index).key("access"), "access", wrong, remedy);
        }
    }
}

/// Which requests go where.
struct Map<'a> {
    routes: &'a [RouteSettings],
    upstreams: &'a [UpstreamSettings],
    table: RouteTable,
}

impl<'a> Map<'a> {
    fn new(routes: &'a [RouteSettings], upstreams: &'a [UpstreamSettings]) -> Self {
        let folds =
            |route: &RouteSettings| upstreams.get(route.upstream).is_some_and(|it| it.case_insensitive);
        let entry = |route: &RouteSettings| {
            (route.hosts.clone(), route.path.clone(), folds(route), route.methods.clone())
        };
        Self { routes, upstreams, table: RouteTable::new(routes.iter().map(entry).collect()) }
    }

    /// The routes to an upstream that get some request of one of these methods on a path of the pattern.
    fn routes_to(&self, upstream: &str, path: &PathPattern, methods: &[Method]) -> Vec<&'a RouteSettings> {
        let is_reached = |(index, route): &(usize, &RouteSettings)| {
            let to_it = self.upstreams.get(route.upstream).is_some_and(|to| to.name == upstream);
            let paths = if to_it { self.common_paths(upstream, path, &route.path) } else { Vec::new() };
            let hosts = sample_hosts(&route.hosts);
            paths.iter().any(|path| {
                let Ok(target) = Target::parse(path.as_bytes()) else { return false };
                hosts.iter().any(|host| {
                    methods.iter().any(|method| self.table.find(host, &target, method) == Ok(*index))
                })
            })
        };
        self.routes.iter().enumerate().filter(is_reached).map(|(_, route)| route).collect()
    }

    /// Whether anybody gets the form of this way by GET on this host.
    fn form_is_open(&self, settings: &UpstreamSignIn, host: &str, form: &str) -> bool {
        let Ok(target) = Target::parse(form.as_bytes()) else { return false };
        let route = self.table.find(host, &target, &Method::GET).ok().map(|index| &self.routes[index]);
        route.is_some_and(|route| {
            let to_it = self.upstreams.get(route.upstream).is_some_and(|to| to.name == settings.upstream);
            to_it && is_open(route)
        })
    }

    fn overlap(&self, upstream: &str, a: &PathPattern, b: &PathPattern) -> bool {
        !self.common_paths(upstream, a, b).is_empty()
    }

    /// Some paths that both patterns take, if there are any: the path itself, and for a prefix one below it, for another
    /// route may take the first.
    fn common_paths(&self, upstream: &str, a: &PathPattern, b: &PathPattern) -> Vec<String> {
        let folds = self.upstreams.iter().any(|it| it.name == upstream && it.case_insensitive);
        let takes = |pattern: &PathPattern, path: &str| {
            let table = RouteTable::new(vec![(Vec::new(), pattern.clone(), folds, Vec::new())]);
            Target::parse(path.as_bytes()).is_ok_and(|target| table.find("", &target, &Method::POST).is_ok())
        };
        let paths = [a, b].into_iter().flat_map(samples);
        paths.filter(|path| takes(a, path) && takes(b, path)).collect()
    }
}

fn samples(pattern: &PathPattern) -> Vec<String> {
    let path = pattern.path();
    match pattern {
        PathPattern::Exact(_) => vec![path.to_owned()],
        PathPattern::Prefix(_) => vec![path.to_owned(), format!("{}/~", path.trim_end_matches('/'))],
    }
}

/// A host for each pattern; for no pattern one that no other route names.
fn sample_hosts(hosts: &[HostPattern]) -> Vec<String> {
    let sample = |host: &HostPattern| match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(name) => format!("host.{name}"),
    };
    if hosts.is_empty() { vec!["host.invalid".to_owned()] } else { hosts.iter().map(sample).collect() }
}

/// Whoever has not signed in may pass.
fn is_open(route: &RouteSettings) -> bool {
    match &route.access {
        Access::Public => true,
        Access::Protected(protected) => protected.optional,
    }
}
