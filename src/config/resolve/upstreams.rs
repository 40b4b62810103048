//! `upstreams`: the applications and how to reach them.

use super::super::problem::At;
use super::super::raw::{OneOrMany, Paths, UpstreamTimeouts as RawTimeouts};
use super::Resolver;
use super::edges::Placed;
use crate::domain::target::Host;
use crate::proxy::settings::{IdentityHeader, Server, UpstreamHost, UpstreamSettings, UpstreamTimeouts};
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
            let mut servers: Vec<Server> = Vec::new();
            let servers_at = at.key("servers");
            for (index, text) in entry.servers.iter().flat_map(OneOrMany::iter) {
                let at = index.map_or(servers_at.clone(), |index| servers_at.item(index));
                let Some(server) = self.server(text, &at, listeners) else { continue };
                if servers.contains(&server) {
                    self.notes.problem(&at, text, "stands twice", "keep one of them");
                }
                servers.push(server);
            }
            if entry.servers.as_ref().is_some_and(OneOrMany::is_empty) {
                let remedy = "write at least one: `[http://127.0.0.1:3000]`";
                self.notes.problem(&servers_at, "servers", "is empty", remedy);
            }
            let timeouts = self.upstream_timeouts(entry.timeouts.as_ref(), &at.key("timeouts"));
            let host = self.upstream_host(entry.host.as_deref(), &at.key("host"));
            let own = entry.identity.as_ref().and_then(|identity| identity.headers.as_ref());
            let identity = match own {
                Some(own) => self.identity_headers(own, &at.key("identity").key("headers")),
                None => headers.to_vec(),
            };
            let case_insensitive = entry.paths == Some(Paths::CaseInsensitive);
            let name = name.clone();
            upstreams.push(UpstreamSettings { name, servers, timeouts, host, case_insensitive, identity });
        }
        upstreams
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

    fn server(&mut self, text: &str, at: &At, listeners: &[Placed]) -> Option<Server> {
        if let Some(path) = text.strip_prefix("unix:") {
            let place = self.place(path);
            if path.is_empty() || path.starts_with("//") || place.as_os_str().len() > 107 {
                self.notes.problem(at, text, "is not a socket's path", "write it like `unix:/run/wiki.sock`");
            }
            return Some(Server::Unix(place));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let remedy = format!("write `http://{text}`");
            self.notes.problem(at, text, "has no scheme", remedy);
            return None;
        };
        if scheme != "http" {
            let (wrong, remedy) = match scheme {
                "https" => (
                    "asks for TLS, which upstreams do not speak in this version",
                    "write `http://`; keep the way there private",
                ),
                "h2c" | "h2" | "grpc" => {
                    ("asks for HTTP/2, which upstreams do not speak in this version", "write `http://`")
                }
                _ => ("has a scheme that is not known", "write `http://HOST:PORT` or `unix:/PATH`"),
            };
            self.notes.problem(at, text, wrong, remedy);
            return None;
        }
        let bare = rest.strip_suffix('/').unwrap_or(rest);
        let Ok(host) = Host::parse(bare.as_bytes()) else {
            let (wrong, remedy) = if bare.contains('@') {
                ("has a user name", "write host and port alone".to_owned())
            } else if let Some((host, _)) = bare.split_once(['/', '?', '#']) {
                ("has a path", format!("write `http://{host}`: the path of the request is sent as it is"))
            } else {
                ("is not a host with a port", "write it like `http://10.0.0.5:3000`".to_owned())
            };
            self.notes.problem(at, text, wrong, remedy);
            return None;
        };
        let (name, port) = (host.name().to_owned(), host.port().unwrap_or(80));
        self.no_loop(&name, port, text, at, listeners);
        Some(Server::Http { host: name, port })
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
