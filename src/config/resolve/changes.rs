//! `headers`, `prefix` and `redirect` of a route: what becomes of the messages that pass, or where they are sent.

use super::super::problem::At;
use super::super::raw;
use super::super::raw_routes::{PathPrefix, Redirect as RawRedirect, RequestHeaders, ResponseHeaders};
use super::super::scalar::{Entries, Plain};
use super::Resolver;
use super::routes::strictness;
use crate::domain::fold::{Guard, fold, folds_to};
use crate::domain::prefix::Prefix;
use crate::domain::redirect::Redirect;
use crate::domain::route::{HostPattern, PathPattern, RouteTable};
use crate::domain::target::{Host, Target};
use crate::proxy::changes::{Changes, HeaderChanges};
use crate::proxy::settings::{RouteSettings, UpstreamHost, UpstreamSettings};
use crate::proxy::snapshot::GUARDED;
use http::{HeaderName, HeaderValue, Method, StatusCode};

/// Longest value; servers take some 8 KiB a header.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Fields that delimit a message, belong to a connection or to an upgrade (RFC 9110 §7.6.1, RFC 9112 §6, RFC 6455 §11.3).
const FRAMING: [&str; 17] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields of one value: with a second one a message can be read in two ways (RFC 9110 §5.3).
const SINGLE: [&str; 22] = [
    "age",
    "authorization",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "from",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "retry-after",
    "server",
    "strict-transport-security",
    "user-agent",
];

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

/// What is done to a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Remove,
    Set,
    Add,
}

/// The changes of one direction as the file has them.
struct Written<'a> {
    remove: Option<&'a [Option<String>]>,
    set: Option<&'a Entries<Plain>>,
    add: Option<&'a Entries<Plain>>,
}

impl<'a> Written<'a> {
    fn of_request(raw: &'a RequestHeaders) -> Self {
        Self { remove: raw.remove.as_deref(), set: raw.set.as_ref(), add: raw.add.as_ref() }
    }

    fn of_response(raw: &'a ResponseHeaders) -> Self {
        Self { remove: raw.remove.as_deref(), set: raw.set.as_ref(), add: raw.add.as_ref() }
    }
}

/// Names that no route may change, in every spelling that some application folds onto them.
pub(super) struct Reserved {
    ours: Guard,
    framing: Guard,
}

impl Reserved {
    /// `identity` holds the identity headers of all upstreams and those of `identity.remove`.
    pub(super) fn new(identity: &[HeaderName]) -> Self {
        let fixed = |names: &'static [&'static str]| names.iter().copied().map(HeaderName::from_static);
        let ours: Vec<HeaderName> = fixed(&GUARDED).chain(identity.iter().cloned()).collect();
        let framing: Vec<HeaderName> = fixed(&FRAMING).collect();
        Self { ours: Guard::new(&ours), framing: Guard::new(&framing) }
    }
}

impl Resolver<'_> {
    /// What a route to an application changes; nothing where nothing is written.
    pub(super) fn changes(
        &mut self,
        route: &raw::Route,
        at: &At,
        path: Option<&PathPattern>,
        reserved: &Reserved,
    ) -> Option<Box<Changes>> {
        let at_headers = at.key("headers");
        let headers = route.headers.as_ref();
        let request = headers.and_then(|headers| headers.request.as_ref());
        let response = headers.and_then(|headers| headers.response.as_ref());
        let mut said = |written: Option<Written<'_>>, direction, key| {
            let at = at_headers.key(key);
            written.map(|written| self.header_changes(&written, direction, &at, reserved)).unwrap_or_default()
        };
        let changes = Changes {
            request: said(request.map(Written::of_request), Direction::Request, "request"),
            response: said(response.map(Written::of_response), Direction::Response, "response"),
            security: response.and_then(|response| response.security).unwrap_or(false),
            prefix: route.prefix.as_ref().and_then(|prefix| self.prefix(prefix, &at.key("prefix"), path)),
        };
        (!changes.is_empty()).then(|| Box::new(changes))
    }

    fn header_changes(
        &mut self,
        written: &Written<'_>,
        direction: Direction,
        at: &At,
        reserved: &Reserved,
    ) -> HeaderChanges {
        let mut changes = HeaderChanges::default();
        let mut seen: Vec<HeaderName> = Vec::new();
        for (index, text) in written.remove.into_iter().flatten().enumerate() {
            let at = at.key("remove").item(index);
            let Some(text) = text else { continue };
            if let Some(name) = self.changed_name(text, (direction, Change::Remove), &at, reserved, &mut seen)
            {
                changes.remove.push(name);
            }
        }
        for (key, change, entries, into) in [
            ("set", Change::Set, written.set, &mut changes.set),
            ("add", Change::Add, written.add, &mut changes.add),
        ] {
            for (text, value) in entries.into_iter().flat_map(Entries::sound) {
                let at = at.key(key).key(text);
                let name = self.changed_name(text, (direction, change), &at, reserved, &mut seen);
                let value = self.header_value(&value.0, &at);
                if let (Some(name), Some(value)) = (name, value) {
                    into.push((name, value));
                }
            }
        }
        changes.with_spellings()
    }

    /// A name that the file may change.
    fn changed_name(
        &mut self,
        text: &str,
        (direction, change): (Direction, Change),
        at: &At,
        reserved: &Reserved,
        seen: &mut Vec<HeaderName>,
    ) -> Option<HeaderName> {
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            self.notes.problem(at, text, "is not a header's name", "write letters, digits and `-`");
            return None;
        };
        if seen.iter().any(|known| folds_to(known, &fold(text))) {
            self.notes.problem(at, text, "stands twice", "keep one of them");
            return None;
        }
        seen.push(name.clone());
        let folded = fold(text);
        let is_ours =
            folded.starts_with("xsession") || folded.starts_with("vestibule") || reserved.ours.covers(&name);
        let (wrong, remedy) = if folded.is_empty() {
            ("has no letter or digit", "write a name such as `X-Stage`")
        } else if reserved.framing.covers(&name) {
            ("delimits the message or belongs to its connection", "leave it out")
        } else if folded == "host" {
            ("is what upstreams are told by `upstreams.NAME.host`", "write it there")
        } else if is_ours && (direction, change) == (Direction::Request, Change::Remove) {
            ("is removed from every request already, in every spelling", "leave it out")
        } else if is_ours && change != Change::Remove {
            ("is a header that only the gateway may set", "leave it out, or write another name")
        } else if change == Change::Remove {
            return Some(name);
        } else if matches!(folded.as_str(), "cookie" | "setcookie" | "cookie2" | "setcookie2") {
            ("would come between a visitor and the session", "leave cookies to the application")
        } else if folded == "authorization" && direction == Direction::Request {
            ("would put a secret into the file", "let the application trust the identity headers")
        } else if change == Change::Add && SINGLE.contains(&name.as_str()) {
            ("is a header of one value, and would stand twice", "write it under `set`")
        } else {
            return Some(name);
        };
        self.notes.problem(at, text, wrong, remedy);
        None
    }

    /// A field value of RFC 9110 §5.5, in ASCII.
    fn header_value(&mut self, text: &str, at: &At) -> Option<HeaderValue> {
        let (wrong, remedy) = if text.is_empty() {
            ("is empty", "write a value, or the name under `remove`")
        } else if text.len() > VALUE_BYTES_MAX {
            ("is longer than 4 KiB", "write a shorter one: servers refuse long headers")
        } else if text.trim_matches([' ', '\t']) != text {
            ("begins or ends with a space", "remove it: it would be lost on the way")
        } else if text.bytes().any(|byte| byte != b'\t' && !(b' '..=b'~').contains(&byte)) {
            (
                "holds a line break, a control character or a letter beyond ASCII",
                "write visible ASCII on one line",
            )
        } else {
            return HeaderValue::from_str(text).ok();
        };
        self.notes.problem(at, text, wrong, remedy);
        None
    }

    fn prefix(&mut self, raw: &PathPrefix, at: &At, path: Option<&PathPattern>) -> Option<Prefix> {
        let strip = self.prefix_path(raw.strip.as_deref(), &at.key("strip"))?;
        let add = self.prefix_path(raw.add.as_deref(), &at.key("add"))?;
        let path = path?.path();
        let is_above = strip == "/"
            || path == strip
            || path.strip_prefix(&strip).is_some_and(|rest| rest.starts_with('/'));
        if !is_above {
            let wrong = format!("is not where the route's paths begin (`{path}`)");
            self.notes.problem(&at.key("strip"), &strip, wrong, "write the route's path, or one above it");
            return None;
        }
        if strip == add {
            let remedy = "write what visitors see under `strip`, what the application has under `add`, or leave `prefix` out";
            self.notes.problem(at, "prefix", "changes nothing", remedy);
            return None;
        }
        Some(Prefix::new(&strip, &add))
    }

    fn prefix_path(&mut self, text: Option<&str>, at: &At) -> Option<String> {
        let Some(text) = text else { return Some("/".to_owned()) };
        match self.path(text, at)? {
            PathPattern::Prefix(path) => Some(path),
            PathPattern::Exact(path) => {
                let remedy = format!("write `{path}`");
                self.notes.problem(at, text, "is one exact path, not the front of several", remedy);
                None
            }
        }
    }

    /// A route has an application or leads elsewhere; what is for an application makes no sense without one.
    pub(super) fn one_destination(&mut self, route: &raw::Route, changes: Option<&Changes>, at: &At) {
        if route.redirect.is_none() {
            if route.upstream.is_none() {
                let remedy = "write `upstream: wiki`, or `redirect: { to: https://new.example.com/ }`";
                self.notes.missing(at, "upstream", "is missing", remedy);
            }
            return;
        }
        let data = route.session.as_ref().and_then(|session| session.data.as_ref());
        let needless = [
            ("upstream", route.upstream.is_some()),
            (
                "headers",
                changes.is_some_and(|changes| {
                    *changes != Changes { prefix: changes.prefix.clone(), ..Changes::default() }
                }),
            ),
            ("prefix", route.prefix.is_some()),
            ("session", matches!(data, Some(raw::RouteData::Own(true) | raw::RouteData::Shared(_)))),
            ("forward_authorization", route.forward_authorization == Some(true)),
        ];
        for (key, _) in needless.into_iter().filter(|(_, stands)| *stands) {
            let wrong = "is for an application, and the route has a `redirect`, which asks none";
            self.notes.problem(&at.key(key), key, wrong, "leave out one of the two");
        }
    }

    /// A redirect to a page that the same route answers sends browsers in a circle.
    pub(super) fn redirects_lead_away(&mut self, routes: &[(At, RouteSettings)], table: &RouteTable) {
        for (index, (at, route)) in routes.iter().enumerate() {
            let Some(redirect) = &route.redirect else { continue };
            let named =
                redirect.origin.split_once("://").and_then(|(_, host)| Host::parse(host.as_bytes()).ok());
            let hosts = named.map_or_else(|| hosts_of(route), |host| vec![host.name().to_owned()]);
            let Ok(target) = Target::parse(redirect.path.as_bytes()) else { continue };
            if hosts.iter().any(|host| table.find(host, &target, &Method::GET) == Ok(index)) {
                let to = format!("{}{}", redirect.origin, redirect.path);
                let wrong = "is a page of the same route, which would send browsers in a circle";
                self.notes.problem(
                    &at.key("redirect").key("to"),
                    &to,
                    wrong,
                    "write a page of another route",
                );
            }
        }
    }

    /// Where a prefix is taken off or put before, one page of an application may have two addresses: the one that is asked less
    /// of must not be the way round the other.
    pub(super) fn prefixes_open_no_side_door(
        &mut self,
        routes: &[(At, RouteSettings)],
        table: &RouteTable,
        upstreams: &[UpstreamSettings],
    ) {
        let sent: Vec<String> = routes.iter().map(|(_, route)| PathAt::of(route).sent()).collect();
        let (all, prefixed): (Vec<usize>, Vec<usize>) = (
            (0..routes.len()).collect(),
            (0..routes.len()).filter(|&index| prefix_of(&routes[index].1).is_some()).collect(),
        );
        for (index, (at, lax)) in routes.iter().enumerate() {
            let Some(upstream) = upstreams.get(lax.upstream) else { continue };
            // One of the two has to have a prefix.
            let others = if prefix_of(lax).is_some() { &all } else { &prefixed };
            let is_stricter = |strict: &RouteSettings| {
                strict.upstream == lax.upstream && strictness(&strict.access) > strictness(&lax.access)
            };
            for (strict, guarded) in others.iter().map(|&other| (&routes[other].1, &sent[other])) {
                if !is_stricter(strict) {
                    continue;
                }
                let Some(asked) = PathAt::of(lax).asked(guarded) else { continue };
                let Ok(target) = Target::parse(asked.as_bytes()) else { continue };
                let open = hosts_of(lax).into_iter().any(|host| {
                    let is_shared =
                        strict.hosts.is_empty() || strict.hosts.iter().any(|ours| ours.matches(&host));
                    (is_shared || upstream.host != UpstreamHost::Keep)
                        && table.find(&host, &target, &Method::GET) == Ok(index)
                });
                if open {
                    let wrong = format!(
                        "gets to `{guarded}` of the application by `{asked}`, which `{}` ({}) guards more strictly",
                        strict.name, strict.path
                    );
                    let remedy =
                        format!("write a route for `{asked}` with the same access, or other prefixes");
                    self.notes.warn(&at.key("path"), &lax.path.to_string(), wrong, remedy);
                }
            }
        }
    }

    /// Where a route leads; `None` where that is broken.
    pub(super) fn redirect(
        &mut self,
        raw: &RawRedirect,
        at: &At,
        path: Option<&PathPattern>,
    ) -> Option<Redirect> {
        let text = raw.to.as_deref()?;
        let keep_path = raw.keep_path.unwrap_or(false);
        let keep_query = raw.keep_query.unwrap_or(false);
        let (origin, rest) = self.redirect_origin(text, &at.key("to"))?;
        let target = match Target::parse(if rest.is_empty() { b"/" } else { rest.as_bytes() }) {
            Ok(target) => target,
            Err(error) => {
                let wrong = format!("does not lead to a path ({error})");
                let remedy = "write it like `https://new.example.com/wiki`, percent-encoded where needed";
                self.notes.problem(&at.key("to"), text, wrong, remedy);
                return None;
            }
        };
        if !target.is_as_sent() {
            let remedy = format!("write `{origin}{target}`");
            self.notes.problem(&at.key("to"), text, "is not in its normal form", remedy);
        }
        if keep_query && target.query().is_some() {
            let remedy = "leave out one of them";
            self.notes.problem(&at.key("to"), text, "has a query, and `keep_query` brings another", remedy);
        }
        if keep_path && matches!(path, Some(PathPattern::Exact(_))) {
            let wrong = "keeps what follows the route's path, which is one exact path";
            self.notes.problem(&at.key("keep_path"), "keep_path", wrong, "leave it out");
        }
        Some(Redirect {
            origin,
            path: target.path().to_owned(),
            query: target.query().map(str::to_owned),
            status: raw
                .status
                .and_then(|status| StatusCode::from_u16(status).ok())
                .unwrap_or(StatusCode::FOUND),
            keep_path: keep_path.then(|| path.map(|path| path.path().to_owned())).flatten(),
            keep_query,
        })
    }

    /// `https://host[:port]`, or nothing for the host that was asked for; and what follows.
    fn redirect_origin<'a>(&mut self, text: &'a str, at: &At) -> Option<(String, &'a str)> {
        if text.starts_with('/') {
            return Some((String::new(), text));
        }
        let found =
            ["https://", "http://"].into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)));
        let Some((scheme, rest)) = found else {
            let remedy = "write it like `https://new.example.com/wiki`, or `/wiki` for the same host";
            self.notes.problem(at, text, "is neither an address nor a path", remedy);
            return None;
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let Ok(host) = Host::parse(authority.as_bytes()) else {
            let remedy = "write a host, with its port if need be, and no user name";
            self.notes.problem(at, text, "has no host that browsers could go to", remedy);
            return None;
        };
        if rest.starts_with('?') {
            self.notes.problem(at, text, "has no path before its query", "write `/` before the `?`");
            return None;
        }
        let port = host.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some((format!("{scheme}{}{port}", host.name()), rest))
    }
}

/// The front of a route's paths, on both sides of its prefix.
struct PathAt<'a> {
    path: &'a str,
    is_exact: bool,
    prefix: Option<&'a Prefix>,
}

impl<'a> PathAt<'a> {
    fn of(route: &'a RouteSettings) -> Self {
        let is_exact = matches!(route.path, PathPattern::Exact(_));
        Self { path: route.path.path(), is_exact, prefix: prefix_of(route) }
    }

    /// As the application has it.
    fn sent(&self) -> String {
        let target = Target::parse(self.path.as_bytes()).ok();
        let sent = self.prefix.zip(target).and_then(|(prefix, target)| prefix.forward(&target).ok());
        sent.unwrap_or_else(|| self.path.to_owned())
    }

    /// By which of the route's paths the application would be asked for `sent`.
    fn asked(&self, sent: &str) -> Option<String> {
        let asked = self.prefix.map_or_else(|| Some(sent.to_owned()), |prefix| prefix.asked(sent))?;
        let bare = self.path.strip_suffix('/').unwrap_or(self.path);
        let is_below = asked.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (if self.is_exact { asked == self.path } else { is_below }).then_some(asked)
    }
}

fn prefix_of(route: &RouteSettings) -> Option<&Prefix> {
    route.changes.as_ref()?.prefix.as_ref()
}

/// A host for each pattern of a route: of several that one stands for, one that no other route names.
fn hosts_of(route: &RouteSettings) -> Vec<String> {
    let of_pattern = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Suffix(name) => format!("any.{name}"),
    };
    if route.hosts.is_empty() {
        vec!["any.invalid".to_owned()]
    } else {
        route.hosts.iter().map(of_pattern).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_a_list_is_one_and_stands_once() {
        for list in [&FRAMING[..], &SINGLE] {
            let mut names: Vec<HeaderName> = list.iter().map(|name| HeaderName::from_static(name)).collect();
            names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            names.dedup();
            assert_eq!(names.len(), list.len());
        }
    }
}
