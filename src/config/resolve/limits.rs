//! What a listener and a route take: connections, addresses, bodies, requests.

use super::super::problem::At;
use super::super::raw;
use super::Resolver;
use crate::domain::access::Access;
use crate::domain::clients::ClientRule;
use crate::net::ConnectionLimits;
use crate::proxy::pace::REMEMBERED_FOR;
use crate::proxy::settings::{Per, RateSettings, RouteLimits};
use ipnet::IpNet;
use std::net::IpAddr;

impl Resolver<'_> {
    pub(super) fn connections(&mut self, raw: Option<&raw::Connections>, at: &At) -> ConnectionLimits {
        let Some(raw) = raw else { return ConnectionLimits::default() };
        let ConnectionLimits { max, max_per_client } =
            ConnectionLimits { max: raw.max, max_per_client: raw.max_per_client };
        if let (Some(max), Some(of_one)) = (max, max_per_client)
            && of_one > max
        {
            let wrong = format!("is more than the listener has in all ({max})");
            let remedy = format!("write at most {max}, and less if one client may not take them all");
            self.notes.problem(&at.key("max_per_client"), &of_one.to_string(), wrong, remedy);
        }
        ConnectionLimits { max, max_per_client }
    }

    /// Whether connections begin with a proxy's header.
    pub(super) fn proxy_protocol(&mut self, raw: Option<bool>, at: &At) -> bool {
        let is_on = raw == Some(true);
        if is_on && self.raw.trusted_proxies.as_ref().is_none_or(Vec::is_empty) {
            let wrong = "is read from `trusted_proxies` alone, and there are none";
            let remedy = "write the addresses of the proxies there, or leave it out";
            self.notes.problem(at, "proxy_protocol", wrong, remedy);
        }
        is_on
    }

    /// An address, or a network whose address has nothing beyond its prefix.
    pub(super) fn network(&mut self, text: &str, at: &At) -> Option<IpNet> {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(network) = network else {
            let remedy = "write an IP address or a network: `10.0.0.7` or `10.0.0.0/24`";
            self.notes.problem(at, text, "is not an address", remedy);
            return None;
        };
        if network.trunc() != network {
            let remedy = format!("write `{}`, or `{}` for the one address", network.trunc(), network.addr());
            self.notes.problem(at, text, "is an address inside a network", remedy);
            return None;
        }
        Some(network)
    }

    fn networks(&mut self, raw: &[Option<String>], at: &At) -> Box<[IpNet]> {
        let texts = raw.iter().enumerate().filter_map(|(index, text)| Some((index, text.as_ref()?)));
        texts.filter_map(|(index, text)| self.network(text, &at.item(index))).collect()
    }

    pub(super) fn route_limits(
        &mut self,
        route: &raw::Route,
        access: Option<&Access>,
        at: &At,
    ) -> RouteLimits {
        let clients = route.clients.as_ref().and_then(|raw| self.clients(raw, &at.key("clients")));
        let raw = route.limits.as_ref();
        let body = raw.and_then(|limits| limits.body.as_ref());
        let body = body.or_else(|| self.raw.limits.as_ref()?.body.as_ref()).map(|body| body.bytes);
        let rate = raw.and_then(|limits| limits.rate.as_ref());
        let rate = rate.and_then(|rate| self.rate(rate, access, &at.key("limits").key("rate")));
        RouteLimits { clients, body_bytes_max: body, rate }
    }

    fn clients(&mut self, raw: &raw::Clients, at: &At) -> Option<ClientRule> {
        if raw.allow.is_none() && raw.deny.as_ref().is_none_or(Vec::is_empty) {
            let remedy = "write `allow:` or `deny:` with addresses, or leave it out";
            self.notes.problem(at, "clients", "says nothing", remedy);
            return None;
        }
        if raw.allow.as_ref().is_some_and(Vec::is_empty) {
            let remedy = "write addresses or networks, or leave `allow` out for all";
            self.notes.problem(&at.key("allow"), "allow", "is empty: nobody could come", remedy);
        }
        let allow = raw.allow.as_ref().map(|allow| self.networks(allow, &at.key("allow")));
        let deny = self.networks(raw.deny.as_deref().unwrap_or_default(), &at.key("deny"));
        Some(ClientRule { allow, deny })
    }

    fn rate(&mut self, raw: &raw::Rate, access: Option<&Access>, at: &At) -> Option<RateSettings> {
        let (per, limit) = (raw.per?, raw.limit.as_ref()?);
        if limit.times == 0 {
            let remedy = "write one request or more, or remove the route";
            self.notes.problem(&at.key("limit"), &limit.text, "lets nothing pass", remedy);
            return None;
        }
        let burst = raw.burst.unwrap_or(limit.times);
        let per = match per {
            raw::Per::Session => Per::Session,
            raw::Per::Subject => Per::Subject,
            raw::Per::ClientIp => Per::ClientIp,
        };
        let settings = RateSettings { per, times: limit.times, span: limit.span, burst };
        if settings.rate().whole_in() > REMEMBERED_FOR {
            let at = if raw.burst.is_some() { at.key("burst") } else { at.key("limit") };
            let culprit = raw.burst.map_or(limit.text.clone(), |burst| burst.to_string());
            let wrong = format!("takes more than a day to be given back at {}", limit.text);
            self.notes.problem(&at, &culprit, wrong, "write a smaller `burst`, or a higher `limit`");
        }
        if per != Per::ClientIp && matches!(access, Some(Access::Public)) {
            let wrong = "counts client addresses here: the route is public and looks at no credential";
            self.notes.warn(&at.key("per"), "per", wrong, "write `client_ip`");
        }
        Some(settings)
    }
}
