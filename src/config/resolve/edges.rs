//! Where connections come in: listeners, the admin address, probes, and what browsers see of them.

use super::super::problem::At;
use super::super::raw::{self, Scheme};
use super::Resolver;
use crate::admin::{AdminSettings, ProbeSettings};
use crate::domain::origin::Origin;
use crate::domain::secret::Secret;
use crate::domain::target::Host;
use crate::net::{Address, Timeouts};
use crate::proxy::settings::{External, ListenerSettings};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// An admin token is guessed over a network, so 16 bytes are plenty and fewer are not.
const ADMIN_TOKEN_BYTES_MIN: usize = 16;

/// A listener and its place in the file.
pub(super) type Placed = (At, ListenerSettings);

impl Resolver<'_> {
    pub(super) fn external_url(&mut self) -> Option<(String, External)> {
        let text = self.raw.external_url.as_deref()?;
        let at = At::root().key("external_url");
        let bare = text.strip_suffix('/').unwrap_or(text);
        if let Ok(Origin { https, host, port }) = Origin::parse(bare) {
            return Some((host, External { https, port }));
        }
        let remedy =
            "write scheme and host, and a port if it is not the usual one: `https://wiki.example.com`";
        self.notes.problem(&at, text, "is not an address that browsers see", remedy);
        None
    }

    pub(super) fn listeners(&mut self, external_url: Option<&(String, External)>) -> Vec<Placed> {
        let root = At::root().key("listeners");
        let Some(raw) = &self.raw.listeners else { return Vec::new() };
        if raw.is_empty() {
            let remedy = "write at least one: `- address: 127.0.0.1:8080`";
            self.notes.problem(&root, "listeners", "is empty", remedy);
        }
        let mut listeners: Vec<Placed> = Vec::new();
        for (index, listener) in raw.iter().enumerate() {
            let at = root.item(index);
            let Some(listener) = listener else { continue };
            let address = listener.address.as_deref().and_then(|text| self.socket(text, &at.key("address")));
            let timeouts = self.listener_timeouts(listener.timeouts.as_ref(), &at.key("timeouts"));
            let tls = listener.tls.as_ref().and_then(|tls| self.tls(tls, &at.key("tls")));
            let redirect = self.redirect_listener(listener, &at);
            let connections = self.connections(listener.connections.as_ref(), &at.key("connections"));
            let proxy_protocol = self.proxy_protocol(listener.proxy_protocol, &at.key("proxy_protocol"));
            let external = listener.external.as_ref().and_then(external);
            if let (Some(_), Some(External { https: false, .. })) = (&listener.tls, external) {
                let wrong = "is not what browsers see of a listener that speaks TLS";
                let remedy = "write `https`, or leave `external` out";
                self.notes.problem(&at.key("external").key("scheme"), "http", wrong, remedy);
            }
            let Some(address) = address else { continue };
            if let Some((other, _)) = listeners.iter().find(|(_, other)| overlap(other.address, address)) {
                let wrong = format!("is taken by {other} already");
                self.notes.problem(
                    &at.key("address"),
                    &address.to_string(),
                    wrong,
                    "write another port, or remove one",
                );
            }
            let external = match &listener.tls {
                Some(_) => external.or(Some(External { https: true, port: address.port() })),
                None => external.or(external_url.map(|(_, external)| *external)),
            };
            if let (Some(_), None, Some((_, outside))) = (&listener.tls, &listener.external, external_url) {
                self.port_is_as_seen(address.port(), *outside, &at.key("address"));
            }
            let is_https = external.is_some_and(|external| external.https);
            let hsts = listener.hsts.as_ref();
            let hsts = hsts.and_then(|hsts| self.hsts(hsts, is_https || redirect.is_some(), &at.key("hsts")));
            let settings = ListenerSettings {
                address,
                external,
                tls,
                hsts,
                redirect,
                timeouts,
                connections,
                proxy_protocol,
            };
            listeners.push((at, settings));
        }
        self.redirects_lead_somewhere(&mut listeners, external_url.map(|(_, external)| *external));
        listeners
    }

    fn listener_timeouts(&mut self, raw: Option<&raw::ListenerTimeouts>, at: &At) -> Timeouts {
        let default = Timeouts::default();
        let Some(raw) = raw else { return default };
        Timeouts {
            head: self.positive(raw.head.as_ref(), default.head, &at.key("head")),
            body: self.positive(raw.body.as_ref(), default.body, &at.key("body")),
            write: self.positive(raw.write.as_ref(), default.write, &at.key("write")),
            keep_alive: self.positive(raw.keep_alive.as_ref(), default.keep_alive, &at.key("keep_alive")),
            max_age: self.positive(raw.max_age.as_ref(), default.max_age, &at.key("max_age")),
        }
    }

    /// An IP address with a port.
    fn socket(&mut self, text: &str, at: &At) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let port: Option<u16> = port.parse().ok();
        let (wrong, remedy) = match (host, port) {
            ("" | "*", Some(port)) => {
                ("has no IP address", format!("write `0.0.0.0:{port}` for all, or one address"))
            }
            ("localhost", Some(port)) => ("is a name", format!("write `127.0.0.1:{port}`")),
            (_, None) if text.parse::<IpAddr>().is_err() && text.contains(':') => {
                ("has no port from 1 to 65535", "write it like `127.0.0.1:8080` or `[::1]:8080`".into())
            }
            (_, Some(_)) => {
                ("is not an IP address with a port", "write it like `127.0.0.1:8080` or `[::1]:8080`".into())
            }
            (_, None) => {
                ("has no port", format!("write `{}:8080`", if text.is_empty() { "127.0.0.1" } else { text }))
            }
        };
        self.notes.problem(at, text, wrong, remedy);
        None
    }

    /// An IP address with a port, or a Unix socket.
    fn address(&mut self, text: &str, at: &At, listeners: &[Placed]) -> Option<Address> {
        if let Some(path) = text.strip_prefix("unix:") {
            let place = self.place(path);
            // sun_path holds 108 bytes with its final NUL.
            if path.is_empty() || place.as_os_str().len() > 107 {
                self.notes.problem(at, text, "is not a socket's path", "write `unix:` and at most 107 bytes");
            }
            return Some(Address::Unix(place));
        }
        let address = self.socket(text, at)?;
        if let Some((other, _)) = listeners.iter().find(|(_, other)| overlap(other.address, address)) {
            let wrong = format!("is the address of {other}, which is public");
            self.notes.problem(at, text, wrong, "write another port");
        }
        Some(Address::Tcp(address))
    }

    pub(super) fn admin(&mut self, listeners: &[Placed]) -> Option<AdminSettings> {
        let raw = self.raw.admin.as_ref()?;
        let root = At::root().key("admin");
        let at = root.key("address");
        let address = raw.address.as_deref().and_then(|text| self.address(text, &at, listeners));
        let token = raw.token.as_ref().and_then(|token| self.admin_token(token, &root.key("token")));
        if let Some(Address::Tcp(address)) = address {
            if raw.token.is_none() {
                let remedy = "write `token: { file: admin.token }`, or listen on `unix:PATH`";
                self.notes.missing(
                    &root,
                    "token",
                    "is missing: whoever can connect could end every session",
                    remedy,
                );
            }
            if !address.ip().is_loopback() {
                let wrong = "can be reached from other machines, and speaks plain http";
                self.notes.warn(&at, &address.to_string(), wrong, "listen on 127.0.0.1 or on `unix:PATH`");
            }
        }
        let mut hosts = Vec::new();
        for (index, host) in raw.hosts.iter().flatten().enumerate() {
            let Some(host) = host else { continue };
            match Host::parse(host.as_bytes()) {
                Ok(parsed) if parsed.port().is_none() => hosts.push(parsed.name().to_owned()),
                _ => {
                    let at = root.key("hosts").item(index);
                    self.notes.problem(
                        &at,
                        host,
                        "is not a host name",
                        "write a name without scheme and port",
                    );
                }
            }
        }
        if raw.hosts.is_none() {
            hosts.push("localhost".to_owned());
        }
        Some(AdminSettings { address: address?, token, hosts })
    }

    fn admin_token(&mut self, reference: &raw::SecretRef, at: &At) -> Option<Secret<String>> {
        let bytes = self.secret(reference, at)?;
        let bytes = bytes.expose();
        let remedy = "write one that `vestibule keys generate` made";
        if bytes.len() < ADMIN_TOKEN_BYTES_MIN {
            self.notes.problem(at, "token", "is shorter than 16 bytes", remedy);
        }
        if !bytes.iter().all(u8::is_ascii_graphic) {
            self.notes.problem(at, "token", "has other characters than visible ASCII", remedy);
        }
        Some(Secret::new(String::from_utf8_lossy(bytes).into_owned()))
    }

    pub(super) fn probes(&mut self, listeners: &[Placed]) -> Option<ProbeSettings> {
        let raw = self.raw.probes.as_ref()?;
        let at = At::root().key("probes").key("address");
        let text = raw.address.as_deref()?;
        let address = self.address(text, &at, listeners)?;
        if let Some(admin) = self.raw.admin.as_ref().and_then(|admin| admin.address.as_deref()) {
            let same = match (&address, admin.parse()) {
                (Address::Tcp(ours), Ok(admin)) => overlap(*ours, admin),
                _ => text == admin,
            };
            if same {
                let remedy = "write another port, or leave `probes` out: the admin address answers them too";
                self.notes.problem(&at, text, "is the admin address", remedy);
            }
        }
        Some(ProbeSettings { address })
    }

    pub(super) fn trusted_proxies(&mut self) -> Vec<IpNet> {
        let root = At::root().key("trusted_proxies");
        let mut networks = Vec::new();
        for (index, text) in self.raw.trusted_proxies.iter().flatten().enumerate() {
            let Some(text) = text else { continue };
            let at = root.item(index);
            match self.network(text, &at) {
                Some(network) if network.prefix_len() == 0 => {
                    let wrong = "trusts everybody's word on who asks";
                    self.notes.problem(&at, text, wrong, "write the addresses of your own proxies");
                }
                network => networks.extend(network),
            }
        }
        networks
    }

    /// Session cookies travel over https, or stay on this machine.
    pub(super) fn plain_http_stays_at_home(
        &mut self,
        listeners: &[Placed],
        external_url: Option<&(String, External)>,
    ) {
        let remedy = "write `tls: { certificates: … }`, or behind a TLS terminator `external: { scheme: https }`, or listen on 127.0.0.1";
        for (at, listener) in listeners {
            let https = listener.external.is_some_and(|external| external.https);
            if !https && !listener.address.ip().is_loopback() {
                let wrong = "would send session cookies over plain http";
                self.notes.problem(&at.key("address"), &listener.address.to_string(), wrong, remedy);
            }
        }
        if let Some((host, External { https: false, .. })) = external_url
            && !is_loopback_name(host)
        {
            let text = self.raw.external_url.clone().unwrap_or_default();
            let wrong = "would send session cookies over plain http";
            self.notes.problem(&At::root().key("external_url"), &text, wrong, "write `https://`");
        }
    }
}

fn external(raw: &raw::External) -> Option<External> {
    let https = raw.scheme? == Scheme::Https;
    Some(External { https, port: raw.port.unwrap_or(if https { 443 } else { 80 }) })
}

/// Whether two sockets cannot both be bound.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_family && (a.ip() == b.ip() || any)
}

/// Names that lead to this machine alone (RFC 6761 §6.3).
pub(super) fn is_loopback_name(host: &str) -> bool {
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || literal.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_overlap_where_the_system_would_refuse_the_second() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[::1]:80", "127.0.0.1:80", false),
        ] {
            let socket = |text: &str| text.parse().expect("a socket address");
            assert_eq!(overlap(socket(a), socket(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn localhost_is_this_machine_and_a_look_alike_is_not() {
        for (host, expected) in [
            ("localhost", true),
            ("wiki.localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback_name(host), expected, "{host}");
        }
    }
}
