//! `forward_auth`: for which other proxy the gateway answers, and which applications only that one reaches.

use super::super::problem::At;
use super::super::raw;
use super::Resolver;
use crate::domain::forwarded::Dialect;
use crate::proxy::settings::ForwardAuthSettings;

impl Resolver<'_> {
    /// Whom the gateway answers for; what is wrong is noted.
    pub(super) fn forward_auth(&mut self) -> Option<ForwardAuthSettings> {
        let raw = self.raw.forward_auth.as_ref()?;
        let at = At::root().key("forward_auth").key("from");
        let mut from = Vec::new();
        if raw.from.as_ref().is_some_and(Vec::is_empty) {
            let remedy = "write the address of the proxy that asks, or leave `forward_auth` out";
            self.notes.problem(&at, "from", "is empty: nobody could ask", remedy);
        }
        for (index, text) in raw.from.iter().flatten().enumerate() {
            let Some(text) = text else { continue };
            let at = at.item(index);
            match self.network(text, &at) {
                Some(network) if network.prefix_len() == 0 => {
                    let wrong = "lets everybody ask, who then says who asks";
                    self.notes.problem(&at, text, wrong, "write the address of the proxy that asks");
                }
                network => from.extend(network),
            }
        }
        let dialect = match raw.dialect? {
            raw::Dialect::Nginx => Dialect::Nginx,
            raw::Dialect::Traefik => Dialect::Traefik,
            raw::Dialect::Caddy => Dialect::Caddy,
            raw::Dialect::Envoy => Dialect::Envoy,
            raw::Dialect::Haproxy => Dialect::Haproxy,
        };
        Some(ForwardAuthSettings { dialect, from })
    }

    /// An upstream without servers is one that another proxy reaches, after it has asked.
    pub(super) fn servers_or_another_proxy(&mut self, entry: &raw::Upstream, at: &At) {
        let is_asked = self.raw.forward_auth.is_some() || self.notes.spoilt(&At::root().key("forward_auth"));
        if entry.servers.is_none() && !is_asked && !self.notes.spoilt(&at.key("servers")) {
            let remedy =
                "write `servers: [http://127.0.0.1:3000]`; only with `forward_auth` may it be left out";
            self.notes.missing(at, "servers", "is missing", remedy);
        }
    }
}
