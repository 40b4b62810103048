//! Host, path and method → route: the first in the file whose host and path match.
//!
//! Host patterns are a name, `*.name` (one label or more before it), or none (any host). Path patterns are a prefix by whole
//! segments or, after `= `, one exact path. `methods` chooses only among routes that share a host pattern and a path.
//!
//! Paths are compared by what their segments mean to an application: without `;parameters` and decoded, so that `/%40admin`
//! takes the same route as `/@admin`. The query is never looked at.
//!
//! The table is an index: host → a tree of segments → routes. A look-up costs a hash of the host and a binary search
//! for each segment, whatever the number of routes, and allocates nothing unless a segment holds an escape.

mod overlap;

use crate::domain::target::{Host, HostRejection, Target, TargetRejection};
use http::Method;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

/// Why a pattern of the file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a host.
    #[error("{0}; write a name such as `wiki.example.com`")]
    Host(HostRejection),
    /// A host with a port.
    #[error("a route's host has no port; write the name alone")]
    Port,
    /// A `*` that is not the first label of a name.
    #[error(
        "`*` stands for the first labels of a name alone; write `*.example.com`, or leave `host` out for any host"
    )]
    Wildcard,
    /// Not a path that a request can have.
    #[error("{0}; write a path such as `/wiki`, percent-encoded where needed")]
    Path(TargetRejection),
    /// Not in normal form, so that no request would match as it stands.
    #[error("the path is not in its normal form; write `{0}`")]
    NotNormal(String),
    /// `?` or `;`, which routes do not look at.
    #[error("routes match on the path alone; leave out `?` and `;` and what follows")]
    QueryOrParameters,
}

/// The hosts that a route stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one, in canonical form.
    Exact(String),
    /// Every host that ends with `.` and this, in canonical form.
    Suffix(String),
}

impl HostPattern {
    /// Reads `wiki.example.com` or `*.example.com`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, is_suffix) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        if name.contains('*') {
            return Err(PatternError::Wildcard);
        }
        let host = Host::parse(name.as_bytes()).map_err(PatternError::Host)?;
        if host.port().is_some() {
            return Err(PatternError::Port);
        }
        if is_suffix && host.is_ip_literal() {
            return Err(PatternError::Wildcard);
        }
        let name = host.name().to_owned();
        Ok(if is_suffix { Self::Suffix(name) } else { Self::Exact(name) })
    }

    /// `host`, in canonical form, is one of them.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Suffix(suffix) => is_below(host, suffix),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(name) => write!(f, "*.{name}"),
        }
    }
}

/// `host` has one label or more before `.suffix`. No address has: `suffix` is a name.
fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// The paths that a route stands for, in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path and all below it. Without a slash at its end, `/` alone excepted.
    Prefix(String),
    /// This path alone: `/a` is not `/a/`.
    Exact(String),
}

impl PathPattern {
    /// Reads `/prefix` or `= /exact`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (path, is_exact) = match text.strip_prefix('=') {
            Some(path) => (path.trim_start_matches(' '), true),
            None => (text, false),
        };
        let target = Target::parse(path.as_bytes()).map_err(PatternError::Path)?;
        if target.query().is_some() || path.contains(';') {
            return Err(PatternError::QueryOrParameters);
        }
        if !target.is_as_sent() {
            let marker = if is_exact { "= " } else { "" };
            return Err(PatternError::NotNormal(format!("{marker}{target}")));
        }
        if is_exact {
            return Ok(Self::Exact(path.to_owned()));
        }
        let without_slash = path.strip_suffix('/').filter(|rest| !rest.is_empty());
        Ok(Self::Prefix(without_slash.unwrap_or(path).to_owned()))
    }

    /// The path without its kind.
    pub fn path(&self) -> &str {
        match self {
            Self::Prefix(path) | Self::Exact(path) => path,
        }
    }

    /// The segments to match, decoded; none for the prefix `/`.
    fn segments(&self, fold: bool) -> Vec<Box<[u8]>> {
        match self {
            Self::Prefix(path) if path == "/" => Vec::new(),
            Self::Prefix(path) | Self::Exact(path) => {
                path[1..].split('/').map(|segment| decoded(segment, fold).into_boxed_slice()).collect()
            }
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(path) => f.write_str(path),
            Self::Exact(path) => write!(f, "= {path}"),
        }
    }
}

/// A segment in normal form without its percent-encoding. Folded to lower case where case does not matter; beyond ASCII as well
/// where it is UTF-8, as file systems without case do.
fn decoded(segment: &str, fold: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let byte = u8::from_str_radix(&rest[at + 1..at + 3], 16);
        bytes.push(byte.expect("a path in normal form has two digits after each `%`"));
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    if fold {
        match str::from_utf8(&bytes) {
            Ok(text) => return text.to_lowercase().into_bytes(),
            Err(_) => bytes.make_ascii_lowercase(),
        }
    }
    bytes
}

/// Why no route was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route has this host and path.
    NoRoute,
    /// Routes have this host and path, with these methods, for an Allow field.
    Method(Vec<Method>),
}

/// One route as the table keeps it.
#[derive(Clone, Debug)]
struct Entry {
    hosts: Vec<HostPattern>,
    path: PathPattern,
    case_insensitive: bool,
    methods: Vec<Method>,
}

/// Routes in file order, indexed. A route is named by its position.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    entries: Vec<Entry>,
    exact: HashMap<String, Paths>,
    suffixes: HashMap<String, Paths>,
    any: Paths,
}

impl RouteTable {
    /// Indexes routes: host patterns (none: any host), path, whether case is ignored in the path, methods (none: any).
    pub fn new(entries: Vec<(Vec<HostPattern>, PathPattern, bool, Vec<Method>)>) -> Self {
        let mut table = Self::default();
        for (index, (hosts, path, case_insensitive, methods)) in entries.into_iter().enumerate() {
            if hosts.is_empty() {
                table.any.insert(&path, case_insensitive, index);
            }
            for host in &hosts {
                let paths = match host {
                    HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                    HostPattern::Suffix(name) => table.suffixes.entry(name.clone()).or_default(),
                };
                paths.insert(&path, case_insensitive, index);
            }
            table.entries.push(Entry { hosts, path, case_insensitive, methods });
        }
        table
    }

    /// The first route in the file whose host and path match; among those that share its host pattern and path, the first
    /// that takes the method. `host` is the canonical name, without port.
    pub fn find(&self, host: &str, target: &Target<'_>, method: &Method) -> Result<usize, Miss> {
        let mut best: Option<&[usize]> = None;
        for paths in self.of_host(host) {
            paths.find(target, &mut best);
        }
        let group = best.ok_or(Miss::NoRoute)?;
        let takes = |&&index: &&usize| {
            let methods = &self.entries[index].methods;
            methods.is_empty() || methods.contains(method)
        };
        group.iter().find(takes).copied().ok_or_else(|| Miss::Method(self.methods_of(group)))
    }

    /// Some route matches this host.
    pub fn knows_host(&self, host: &str) -> bool {
        self.of_host(host).any(|paths| !paths.is_empty())
    }

    /// The routes that match this host, in file order.
    pub fn routes_of_host(&self, host: &str) -> Vec<usize> {
        let is_of = |entry: &Entry| entry.hosts.is_empty() || entry.hosts.iter().any(|one| one.matches(host));
        (0..self.entries.len()).filter(|&index| is_of(&self.entries[index])).collect()
    }

    /// The trees of all patterns that match a host.
    fn of_host(&self, host: &str) -> impl Iterator<Item = &Paths> {
        let exact = self.exact.get(host);
        // Only names have domains above them; what stands behind the dots of an address means nothing.
        let is_name = !self.suffixes.is_empty() && !host.starts_with('[');
        let dots = (1..if is_name { host.len() } else { 0 }).filter(|&at| host.as_bytes()[at] == b'.');
        let suffixes = dots.filter_map(|dot| self.suffixes.get(&host[dot + 1..]));
        exact.into_iter().chain(suffixes).chain(std::iter::once(&self.any))
    }

    fn methods_of(&self, group: &[usize]) -> Vec<Method> {
        let mut methods: Vec<Method> = Vec::new();
        for method in group.iter().flat_map(|&index| &self.entries[index].methods) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        methods
    }
}

/// The paths of one host pattern: a tree that minds case, and one that does not.
#[derive(Clone, Debug, Default)]
struct Paths {
    exact_case: Tree,
    any_case: Tree,
}

impl Paths {
    fn insert(&mut self, path: &PathPattern, case_insensitive: bool, index: usize) {
        let tree = if case_insensitive { &mut self.any_case } else { &mut self.exact_case };
        tree.insert(path, path.segments(case_insensitive), index);
    }

    fn is_empty(&self) -> bool {
        self.exact_case.nodes.is_empty() && self.any_case.nodes.is_empty()
    }

    fn find<'a>(&'a self, target: &Target<'_>, best: &mut Option<&'a [usize]>) {
        self.exact_case.find(target, false, best);
        self.any_case.find(target, true, best);
    }
}

/// Path patterns by segment. The root is the first node; without patterns there is none.
#[derive(Clone, Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
}

/// The patterns that end at one place of the tree, and the segments that go on.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Sorted by segment; with the position of its node.
    children: Vec<(Box<[u8]>, usize)>,
    /// Routes with a prefix that ends here, in file order.
    prefix: Vec<usize>,
    /// Routes with an exact path that ends here, in file order.
    exact: Vec<usize>,
}

impl Tree {
    fn insert(&mut self, path: &PathPattern, segments: Vec<Box<[u8]>>, index: usize) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in segments {
            at = match self.nodes[at].children.binary_search_by(|(own, _)| own.cmp(&segment)) {
                Ok(found) => self.nodes[at].children[found].1,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at].children.insert(place, (segment, new));
                    new
                }
            };
        }
        match path {
            PathPattern::Prefix(_) => self.nodes[at].prefix.push(index),
            PathPattern::Exact(_) => self.nodes[at].exact.push(index),
        }
    }

    /// Puts the group with the earliest route into `best`, if it comes before the one that is there.
    fn find<'a>(&'a self, target: &Target<'_>, fold: bool, best: &mut Option<&'a [usize]>) {
        let Some(mut node) = self.nodes.first() else { return };
        prefer(best, &node.prefix);
        for segment in target.segments() {
            let Some(next) = node.child(segment, fold, target.is_plain()) else { return };
            node = &self.nodes[next];
            prefer(best, &node.prefix);
        }
        prefer(best, &node.exact);
    }
}

fn prefer<'a>(best: &mut Option<&'a [usize]>, group: &'a [usize]) {
    if !group.is_empty() && best.is_none_or(|best| group[0] < best[0]) {
        *best = Some(group);
    }
}

impl Node {
    fn child(&self, segment: &str, fold: bool, is_plain: bool) -> Option<usize> {
        let found = if self.children.is_empty() {
            return None;
        } else if !is_plain && segment.contains('%') {
            let segment = decoded(segment, fold);
            self.children.binary_search_by(|(own, _)| own[..].cmp(&segment))
        } else if fold {
            self.children.binary_search_by(|(own, _)| compare_folded(own, segment))
        } else {
            self.children.binary_search_by(|(own, _)| own[..].cmp(segment.as_bytes()))
        };
        found.ok().map(|at| self.children[at].1)
    }
}

fn compare_folded(own: &[u8], segment: &str) -> Ordering {
    own.iter().copied().cmp(segment.bytes().map(|byte| byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) type Written = (Vec<HostPattern>, PathPattern, bool, Vec<Method>);

    /// `host,host path METHOD,METHOD`; `-` for none, `~` before a path that ignores case.
    pub(super) fn entry(text: &str) -> Written {
        let (rest, methods) = text.rsplit_once(' ').expect("hosts, path and methods");
        let (hosts, path) = rest.split_once(' ').expect("hosts and path");
        let list = |text: &str| -> Vec<String> {
            text.split(',').filter(|item| *item != "-").map(ToOwned::to_owned).collect()
        };
        let (path, fold) = path.strip_prefix('~').map_or((path, false), |path| (path, true));
        (
            list(hosts).iter().map(|host| HostPattern::parse(host).expect("a host")).collect(),
            PathPattern::parse(path).expect("a path"),
            fold,
            list(methods).iter().map(|method| method.parse().expect("a method")).collect(),
        )
    }

    fn table(entries: &[&str]) -> RouteTable {
        RouteTable::new(entries.iter().map(|text| entry(text)).collect())
    }

    fn find(table: &RouteTable, request: &str) -> Result<usize, Miss> {
        let mut words = request.split(' ');
        let mut word = || words.next().expect("host, target, method");
        let (host, target, method) = (word(), word(), word());
        let target = Target::parse(target.as_bytes()).expect("a target");
        table.find(host, &target, &method.parse().expect("a method"))
    }

    #[test]
    fn the_first_route_in_the_file_wins() {
        let table = table(&[
            "a.example /health -",             // 0
            "a.example = /exact -",            // 1
            "a.example /api GET,HEAD",         // 2
            "a.example /api POST",             // 3
            "*.example /api/v2 -",             // 4
            "a.example / -",                   // 5
            "a.example /never -",              // 6
            "*.example,b.test /shared -",      // 7
            "- /any -",                        // 8
            "a.example = /slash/ -",           // 9
            "c.test ~/Wiki/GR%C3%96%C3%9FE -", // 10
            "c.test /@admin -",                // 11
            "d.test = / -",                    // 12
        ]);
        for (request, expected) in [
            ("a.example /health GET", 0),
            ("a.example /health/x GET", 0),
            ("a.example /health/ GET", 0),
            ("a.example /health;x=1 GET", 0),
            ("a.example /healthy GET", 5),
            ("a.example /Health GET", 5),
            ("a.example /exact GET", 1),
            ("a.example /exact?x GET", 1),
            ("a.example /exact/ GET", 5),
            ("a.example /exact/x GET", 5),
            ("a.example /api HEAD", 2),
            ("a.example /api POST", 3),
            ("a.example /api/v2 POST", 3),
            ("b.example /api/v2 DELETE", 4),
            ("x.b.example /api/v2 GET", 4),
            ("a.example /never GET", 5),
            ("a.example /slash/ GET", 5),
            ("a.example / GET", 5),
            ("b.test /shared GET", 7),
            ("x.example /shared/y GET", 7),
            ("whatever /any GET", 8),
            ("[::1] /any/x GET", 8),
            ("a.example /any GET", 5),
            ("c.test /wIKI/gr%C3%B6%C3%9Fe/x GET", 10),
            ("c.test /%40admin GET", 11),
            ("c.test /@admin/x GET", 11),
            ("d.test / GET", 12),
        ] {
            assert_eq!(find(&table, request), Ok(expected), "{request}");
        }
        for request in [
            "example /shared GET",
            "b.example /api GET",
            "b.test /api GET",
            "c.test /wiki GET",
            "d.test /x GET",
        ] {
            assert_eq!(find(&table, request), Err(Miss::NoRoute), "{request}");
        }
        let methods = vec![Method::GET, Method::HEAD, Method::POST];
        assert_eq!(find(&table, "a.example /api/v2 PUT"), Err(Miss::Method(methods)));
        assert_eq!(find(&RouteTable::default(), "a / GET"), Err(Miss::NoRoute));
    }

    #[test]
    fn methods_choose_only_among_routes_of_one_host_pattern_and_path() {
        let table = table(&["- /x GET", "a /x POST", "b /x POST", "b = /x PUT", "b /x -"]);
        assert_eq!(find(&table, "a /x POST"), Err(Miss::Method(vec![Method::GET])));
        assert_eq!(find(&table, "b /x POST"), Err(Miss::Method(vec![Method::GET])));
    }

    #[test]
    fn hosts_are_known_by_their_patterns() {
        let named =
            table(&["a.example,b.example / -", "*.c.example /x -", "c.example /y -", "a.example /z -"]);
        for (host, routes) in [
            ("a.example", vec![0, 3]),
            ("b.example", vec![0]),
            ("x.c.example", vec![1]),
            ("x.y.c.example", vec![1]),
            ("c.example", vec![2]),
            ("xc.example", vec![]),
            (".c.example", vec![]),
            ("example", vec![]),
        ] {
            assert_eq!(named.routes_of_host(host), routes, "{host}");
            assert_eq!(named.knows_host(host), !routes.is_empty(), "{host}");
        }
        assert!(table(&["- /x -"]).knows_host("whatever"));
        assert!(!RouteTable::default().knows_host("whatever"));
    }

    #[test]
    fn routes_that_no_request_reaches_are_found() {
        for (entries, expected) in [
            (&["a / -", "a /x -"][..], vec![(1, 0)]),
            (&["a /x -", "a / -"], vec![]),
            (&["a /x GET", "a /x POST"], vec![]),
            (&["a /x GET", "a /x GET"], vec![(1, 0)]),
            (&["a /x GET", "a /x POST", "a /x GET,POST"], vec![(2, 0)]),
            (&["a /x -", "a /x GET"], vec![(1, 0)]),
            (&["a /x GET", "a /x -"], vec![]),
            (&["a /x GET", "a /x/y POST"], vec![(1, 0)]),
            (&["a = /x -", "a /x -"], vec![]),
            (&["a /x -", "a = /x/ -"], vec![(1, 0)]),
            (&["- /x -", "a,b /x/y -"], vec![(1, 0)]),
            (&["a /x -", "a,b /x -"], vec![]),
            (&["a /x -", "b /x -", "a,b /x -"], vec![(2, 0)]),
            (&["*.e /x -", "f.e,*.g.e /x -"], vec![(1, 0)]),
            (&["*.e /x -", "e /x -"], vec![]),
            (&["a /x -", "- /x -"], vec![]),
            (&["a ~/x -", "a /X/y -"], vec![(1, 0)]),
            (&["a /x -", "a ~/x -"], vec![]),
            (&["a / -", "a ~/x -"], vec![(1, 0)]),
            (&["- /x GET", "a /x POST"], vec![(1, 0)]),
            // The later route belongs to a group that starts before the one that would cover it.
            (&["a /x GET", "a / -", "a /x POST"], vec![]),
        ] {
            assert_eq!(table(entries).unreachable(), expected, "{entries:?}");
        }
    }

    #[test]
    fn an_inner_path_is_shown_with_the_outer_one() {
        let table = table(&["a /x/secret -", "a / -", "b / -", "- ~/X -", "a = /x/ -"]);
        assert_eq!(table.stricter_under(|_, _| true), [(0, 1), (0, 3), (3, 1), (3, 2), (4, 1), (4, 3)]);
        assert_eq!(table.stricter_under(|inner, outer| (inner, outer) == (0, 1)), [(0, 1)]);
    }

    #[test]
    fn patterns_are_read_and_bad_ones_refused_with_a_remedy() {
        for (text, written) in
            [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("= /a/", "= /a/"), ("=/a", "= /a"), ("= /", "= /")]
        {
            assert_eq!(PathPattern::parse(text).expect(text).to_string(), written);
        }
        for (text, written) in
            [("A.Example.", "a.example"), ("*.A.example", "*.a.example"), ("[::1]", "[::1]")]
        {
            assert_eq!(HostPattern::parse(text).expect(text).to_string(), written);
        }
        for (text, message) in [
            (
                "a",
                "the target does not start with `/`; write a path such as `/wiki`, percent-encoded where needed",
            ),
            (
                "/é",
                "the target holds a byte outside ASCII; write a path such as `/wiki`, percent-encoded where needed",
            ),
            ("= /%7ea[", "the path is not in its normal form; write `= /~a%5B`"),
            ("/a?b", "routes match on the path alone; leave out `?` and `;` and what follows"),
            ("/a;b", "routes match on the path alone; leave out `?` and `;` and what follows"),
        ] {
            assert_eq!(PathPattern::parse(text).expect_err(text).to_string(), message);
        }
        for (text, expected) in [
            ("a:80", PatternError::Port),
            ("*", PatternError::Wildcard),
            ("a.*", PatternError::Wildcard),
            ("*.*.a", PatternError::Wildcard),
            ("*.127.0.0.1", PatternError::Wildcard),
            ("*.[::1]", PatternError::Wildcard),
            ("", PatternError::Host(HostRejection::Empty)),
            ("a b", PatternError::Host(HostRejection::NotAName)),
        ] {
            assert_eq!(HostPattern::parse(text), Err(expected), "{text}");
        }
    }

    /// The same answer the slow way: from the words of the design, route by route.
    fn plainly(entries: &[Written], host: &str, target: &Target<'_>, method: &Method) -> Result<usize, Miss> {
        let path: Vec<String> = target.segments().map(ToOwned::to_owned).collect();
        let matches_path = |(_, pattern, fold, _): &Written| {
            let case = |text: &str| if *fold { text.to_lowercase() } else { text.to_owned() };
            let path: Vec<String> = path.iter().map(|segment| case(segment)).collect();
            let of =
                |text: &str| -> Vec<String> { case(text)[1..].split('/').map(ToOwned::to_owned).collect() };
            match pattern {
                PathPattern::Prefix(prefix) => prefix == "/" || path.starts_with(&of(prefix)),
                PathPattern::Exact(exact) => path == of(exact),
            }
        };
        let rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => usize::MAX,
            HostPattern::Suffix(suffix) => suffix.len(),
        };
        let chosen = entries.iter().find_map(|entry| {
            let pattern = entry.0.iter().filter(|one| one.matches(host)).max_by_key(|one| rank(one));
            ((entry.0.is_empty() || pattern.is_some()) && matches_path(entry)).then_some((entry, pattern))
        });
        let (first, pattern) = chosen.ok_or(Miss::NoRoute)?;
        let is_mate = |(hosts, path, fold, _): &Written| {
            pattern.map_or(hosts.is_empty(), |pattern| hosts.contains(pattern))
                && (path, fold) == (&first.1, &first.2)
        };
        let takes = |entry: &Written| is_mate(entry) && (entry.3.is_empty() || entry.3.contains(method));
        entries.iter().position(takes).ok_or(Miss::Method(Vec::new()))
    }

    fn entries() -> impl Strategy<Value = Vec<Written>> {
        let host = prop::sample::select(vec!["-", "a", "b.a", "*.a", "*.b.a", "a,*.a", "b.a,c"]);
        let path = prop::sample::select(vec!["/", "/x", "/x/y", "= /x", "= /x/", "= /", "~/x", "~= /x/y"]);
        let methods = prop::sample::select(vec!["-", "GET", "POST", "GET,POST"]);
        let one = (host, path, methods)
            .prop_map(|(host, path, methods)| entry(&format!("{host} {path} {methods}")));
        prop::collection::vec(one, 0..7)
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_the_file_read_line_by_line(entries in entries()) {
            let table = RouteTable::new(entries.clone());
            let hidden: Vec<usize> = table.unreachable().iter().map(|(route, _)| *route).collect();
            for host in ["a", "b.a", "c.b.a", "d.a", "c", "e"] {
                for raw in ["/", "/x", "/x/", "/x/y", "/X", "/x/y/z", "/x;p/%79", "/z"] {
                    let target = Target::parse(raw.as_bytes()).expect("a target");
                    for method in [Method::GET, Method::POST, Method::PUT] {
                        let found = table.find(host, &target, &method);
                        let plain = found.clone().map_err(|miss| match miss {
                            Miss::Method(_) => Miss::Method(Vec::new()),
                            Miss::NoRoute => Miss::NoRoute,
                        });
                        prop_assert_eq!(plain, plainly(&entries, host, &target, &method), "{} {} {}", host, raw, method);
                        if let Ok(index) = found {
                            prop_assert!(!hidden.contains(&index), "{} is called unreachable", index);
                            prop_assert!(table.routes_of_host(host).contains(&index) && table.knows_host(host));
                        }
                    }
                }
            }
        }
    }
}
