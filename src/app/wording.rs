//! Routes and access in words for operators: `check` and `explain` say the same of the same.

use crate::config::Config;
use crate::domain::access::{Access, EntryId, Protected};
use crate::domain::possession::Bindings;
use crate::proxy::settings::RouteSettings;

/// The upstream of a route with its servers, or where it leads instead.
pub(crate) fn upstream(config: &Config, route: &RouteSettings) -> String {
    if let Some(redirect) = &route.redirect {
        let kept = if redirect.keep_path.is_some() { "…" } else { "" };
        return format!("{} to {}{}{kept}", redirect.status.as_u16(), redirect.origin, redirect.path);
    }
    let Some(upstream) = config.upstreams.get(route.upstream) else { return String::new() };
    let weights = upstream.servers.iter().any(|server| server.weight != 1);
    let servers = upstream.servers.iter().map(|server| {
        if weights { format!("{} ×{}", server.place, server.weight) } else { server.place.to_string() }
    });
    let servers: Vec<String> = servers.collect();
    format!("{} ({})", upstream.name, servers.join(", "))
}

/// Who may pass: the ways in, then what must hold.
pub(crate) fn who(config: &Config, access: &Access) -> String {
    let Access::Protected(protected) = access else { return "everybody, without identity".to_owned() };
    let optional = if protected.optional { "anybody, known " } else { "" };
    format!("{optional}by {}: {}", ways(config, protected), protected.allow)
}

/// The ways in: `session local or staff, or token api`.
pub(crate) fn ways(config: &Config, protected: &Protected) -> String {
    let names = |ids: &[EntryId]| -> String {
        let named: Vec<&str> = ids.iter().filter_map(|id| entry(config, *id)).map(|(name, _)| name).collect();
        named.join(" or ")
    };
    let mut ways = Vec::new();
    if !protected.sign_in.is_empty() {
        ways.push(format!("session {}", names(&protected.sign_in)));
    }
    if !protected.tokens.is_empty() {
        let bound = bound(protected.bindings).map_or_else(String::new, |bound| format!(" bound to {bound}"));
        ways.push(format!("token {}{bound}", names(&protected.tokens)));
    }
    ways.join(", or ")
}

/// What every token of a route must be bound to, if anything.
pub(crate) fn bound_of(access: &Access) -> Option<&'static str> {
    match access {
        Access::Public => None,
        Access::Protected(protected) => bound(protected.bindings),
    }
}

fn bound(bindings: Bindings) -> Option<&'static str> {
    match (bindings.dpop, bindings.certificate) {
        (true, true) => Some("a key (DPoP) or a certificate"),
        (true, false) => Some("a key (DPoP)"),
        (false, true) => Some("a certificate"),
        (false, false) => None,
    }
}

/// Name and source of an entry of `sign_in` or `tokens`.
pub(crate) fn entry(config: &Config, id: EntryId) -> Option<(&str, &str)> {
    let way =
        config.sign_in.iter().find(|way| way.id == id).map(|way| (way.name.as_str(), way.source.as_str()));
    let token = || config.tokens.iter().find(|token| token.id == id);
    way.or_else(|| token().map(|token| (token.name.as_str(), token.issuer.as_str())))
}
