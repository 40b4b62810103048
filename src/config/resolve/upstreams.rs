//! `upstreams`: the applications and how to reach them.

use super::super::problem::At;
use super::super::raw::{self, BalanceWord, OneOrMany, OneServer, Paths, UpstreamTimeouts as RawTimeouts};
use super::Resolver;
use super::edges::Placed;
use crate::domain::target::Host;
use crate::proxy::settings::{
    Balance, HashBy, IdentityHeader, Place, Protocol, Server, UpstreamHost, UpstreamSettings,
    UpstreamTimeouts,
};
use http::HeaderValue;
use std::net::IpAddr;
use std::time::Duration;

const TIMEOUTS: UpstreamTimeouts = UpstreamTimeouts {
    connect: Duration::from_secs(2),
    read: Duration::from_mins(1),
    write: Duration::from_mins(1),
    idle: Duration::from_secs(90),
    websocket: Duration::from_hours(1),
};

/// Further servers for a request that one did not answer.
const RETRIES: u8 = 1;
/// Servers of one upstream.
const SERVERS_MAX: usize = 64;

impl Resolver<'_> {
    pub(super) fn upstreams(
        &mut self,
        headers: &[IdentityHeader],
        listeners: &[Placed],
    ) -> Vec<UpstreamSettings> {
        let root = At::root().key("upstreams");
        let mut upstreams = Vec::new();
        let Some(raw) = &self.raw.upstreams else { return upstreams };
        for (name, entry) in &raw.0 {
            let at = root.key(name);
            self.check_name(name, &at);
            let Some(entry) = entry else { continue };
            self.servers_or_another_proxy(entry, &at);
            let servers = self.servers(entry, &at.key("servers"), listeners);
            let tls = self.upstream_tls(entry.tls.as_ref(), &servers, &at.key("tls"));
            let health = self.health(entry.health.as_ref(), &at.key("health"));
            let timeouts = self.upstream_timeouts(entry.timeouts.as_ref(), &at.key("timeouts"));
            let host = self.upstream_host(entry.host.as_deref(), &at.key("host"));
            let own = entry.identity.as_ref().and_then(|identity| identity.headers.as_ref());
            let mut identity = match own {
                Some(own) => self.identity_headers(own, &at.key("identity").key("headers")),
                None => headers.to_vec(),
            };
            let assertion = self.takes_assertion(entry.identity.as_ref(), &mut identity, &at.key("identity"));
            let case_insensitive = entry.paths == Some(Paths::CaseInsensitive);
            upstreams.push(UpstreamSettings {
                name: name.clone(),
                servers: servers.into_iter().map(|(_, server)| server).collect(),
                balance: balance(entry.balance.as_ref()),
                health,
                slow_start: entry.slow_start.as_ref().map_or(Duration::ZERO, |span| span.length),
                retries: entry.retries.unwrap_or(RETRIES),
                max_requests: entry.max_requests,
                tls,
                timeouts,
                host,
                case_insensitive,
                identity,
                assertion,
            });
        }
        upstreams
    }

    fn servers(&mut self, entry: &raw::Upstream, at: &At, listeners: &[Placed]) -> Vec<(At, Server)> {
        let mut servers: Vec<(At, Server)> = Vec::new();
        for (index, server) in entry.servers.iter().flat_map(OneOrMany::iter) {
            let at = index.map_or(at.clone(), |index| at.item(index));
            let (text, at, weight) = match server {
                OneServer::Url(text) => (text, at, 1),
                OneServer::Written(written) => match &written.url {
                    Some(text) => (text, at.key("url"), written.weight.unwrap_or(1)),
                    None => continue,
                },
            };
            let Some(place) = self.place_of_server(text, &at, listeners) else { continue };
            if servers.iter().any(|(_, server)| server.place == place) {
                self.notes.problem(&at, text, "stands twice", "keep one of them");
            }
            servers.push((at, Server { place, weight }));
        }
        if entry.servers.as_ref().is_some_and(OneOrMany::is_empty) {
            let remedy = "write at least one: `[http://127.0.0.1:3000]`";
            self.notes.problem(at, "servers", "is empty", remedy);
        }
        if servers.len() > SERVERS_MAX {
            let remedy = "write at most 64, or put a balancer of its own before them";
            self.notes.problem(at, "servers", "has too many", remedy);
        }
        servers
    }

    fn upstream_timeouts(&mut self, raw: Option<&RawTimeouts>, at: &At) -> UpstreamTimeouts {
        let Some(raw) = raw else { return TIMEOUTS };
        UpstreamTimeouts {
            connect: self.positive(raw.connect.as_ref(), TIMEOUTS.connect, &at.key("connect")),
            read: self.positive(raw.read.as_ref(), TIMEOUTS.read, &at.key("read")),
            write: self.positive(raw.write.as_ref(), TIMEOUTS.write, &at.key("write")),
            idle: self.positive(raw.idle.as_ref(), TIMEOUTS.idle, &at.key("idle")),
            websocket: self.positive(raw.websocket.as_ref(), TIMEOUTS.websocket, &at.key("websocket")),
        }
    }

    fn upstream_host(&mut self, text: Option<&str>, at: &At) -> UpstreamHost {
        let text = text.unwrap_or("keep");
        if text == "keep" {
            return UpstreamHost::Keep;
        }
        match HeaderValue::from_str(text) {
            Ok(value) if Host::parse(text.as_bytes()).is_ok() => UpstreamHost::Send(value),
            _ => {
                self.notes.problem(
                    at,
                    text,
                    "is not a host",
                    "write `keep`, or a name such as `wiki.internal`",
                );
                UpstreamHost::Keep
            }
        }
    }

    fn place_of_server(&mut self, text: &str, at: &At, listeners: &[Placed]) -> Option<Place> {
        if let Some(path) = text.strip_prefix("unix:") {
            let place = self.place(path);
            if path.is_empty() || path.starts_with("//") || place.as_os_str().len() > 107 {
                self.notes.problem(at, text, "is not a socket's path", "write it like `unix:/run/wiki.sock`");
            }
            return Some(Place::Unix(place));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let remedy = format!("write `http://{text}`");
            self.notes.problem(at, text, "has no scheme", remedy);
            return None;
        };
        let known = Protocol::ALL.into_iter().find(|(_, known, _)| *known == scheme);
        let Some((protocol, _, usual_port)) = known else {
            let remedy = match scheme {
                "h2" | "grpc" | "http2" => "write `h2c://`, or `https://` with `tls: { http2: true }`",
                "grpcs" => "write `https://` with `tls: { http2: true }`",
                _ => "write `http://HOST:PORT`, `https://HOST:PORT`, `h2c://HOST:PORT` or `unix:/PATH`",
            };
            self.notes.problem(at, text, "has a scheme that is not known", remedy);
            return None;
        };
        let bare = rest.strip_suffix('/').unwrap_or(rest);
        let Ok(host) = Host::parse(bare.as_bytes()) else {
            let (wrong, remedy) = if bare.contains('@') {
                ("has a user name", "write host and port alone".to_owned())
            } else if let Some((host, _)) = bare.split_once(['/', '?', '#']) {
                ("has a path", format!("write `{scheme}://{host}`: the path of the request is sent as it is"))
            } else {
                ("is not a host with a port", format!("write it like `{scheme}://10.0.0.5:3000`"))
            };
            self.notes.problem(at, text, wrong, remedy);
            return None;
        };
        let (name, port) = (host.name().to_owned(), host.port().unwrap_or(usual_port));
        self.no_loop(&name, port, text, at, listeners);
        Some(Place::Net { protocol, host: name, port })
    }

    /// A gateway that forwards to itself does so until its sockets are gone.
    fn no_loop(&mut self, host: &str, port: u16, text: &str, at: &At, listeners: &[Placed]) {
        let local = host == "localhost";
        let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let ours = listeners.iter().find(|(_, listener)| {
            let listening = listener.address.ip();
            let reached = match literal {
                Some(ip) => ip == listening || (listening.is_unspecified() && ip.is_loopback()),
                None => local && (listening.is_loopback() || listening.is_unspecified()),
            };
            port == listener.address.port() && reached
        });
        if let Some((listener, _)) = ours {
            let wrong = format!("is this gateway itself ({listener})");
            self.notes.problem(at, text, wrong, "write the application's address");
        }
    }
}

fn balance(raw: Option<&raw::Balance>) -> Balance {
    match raw {
        None | Some(raw::Balance::Word(BalanceWord::RoundRobin)) => Balance::RoundRobin,
        Some(raw::Balance::Word(BalanceWord::LeastRequests)) => Balance::LeastRequests,
        Some(raw::Balance::Hash(by)) => match by.hash {
            None | Some(raw::HashBy::Session) => Balance::Hash(HashBy::Session),
            Some(raw::HashBy::ClientIp) => Balance::Hash(HashBy::ClientIp),
        },
    }
}
