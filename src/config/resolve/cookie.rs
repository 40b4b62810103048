//! `sessions.cookie`: its name, who sends it, which hosts share it.

use super::super::problem::At;
use super::super::raw;
use super::Resolver;
use super::edges::Placed;
use crate::domain::route::HostPattern;
use crate::proxy::settings::{CookieSettings, RouteSettings};
use cookie::SameSite;

const COOKIE_NAME: &str = "__Host-session";

impl Resolver<'_> {
    /// The cookie; `routes` are those whose visitors get one.
    pub(super) fn cookie(
        &mut self,
        raw: Option<&raw::Cookie>,
        at: &At,
        listeners: &[Placed],
        routes: &[&RouteSettings],
    ) -> CookieSettings {
        let default = raw::Cookie::default();
        let raw = raw.unwrap_or(&default);
        let name = raw.name.clone().unwrap_or_else(|| COOKIE_NAME.to_owned());
        self.cookie_name(&name, raw, at);
        let same_site = match raw.same_site.unwrap_or(raw::SameSite::Lax) {
            raw::SameSite::Lax => SameSite::Lax,
            raw::SameSite::Strict => SameSite::Strict,
            raw::SameSite::None => SameSite::None,
        };
        let partitioned = raw.partitioned.unwrap_or(false);
        let plain =
            listeners.iter().find(|(_, listener)| !listener.external.is_some_and(|external| external.https));
        if let (Some((plain, _)), false) = (plain, routes.is_empty()) {
            let remedy = format!("write `external: {{ scheme: https }}` for {plain}, or leave this out");
            if same_site == SameSite::None {
                let wrong = format!("needs https, and {plain} is plain http to browsers");
                self.notes.problem(&at.key("same_site"), "none", wrong, remedy.clone());
            }
            if partitioned {
                let wrong = format!("needs https, and {plain} is plain http to browsers");
                self.notes.problem(&at.key("partitioned"), "true", wrong, remedy);
            }
        }
        if partitioned && same_site != SameSite::None {
            let wrong = "has no effect: embedded pages get the cookie with `same_site: none` alone";
            self.notes.warn(
                &at.key("partitioned"),
                "true",
                wrong,
                "write `same_site: none`, or leave it out",
            );
        }
        let unsafe_domain = raw
            .unsafe_domain
            .as_ref()
            .and_then(|domain| self.cookie_domain(domain, &at.key("unsafe_domain"), routes));
        CookieSettings {
            name,
            same_site,
            persistent: raw.persistent.unwrap_or(false),
            partitioned,
            unsafe_domain,
        }
    }

    fn cookie_name(&mut self, name: &str, raw: &raw::Cookie, at: &At) {
        let name_at = at.key("name");
        let lower = name.to_ascii_lowercase();
        if !is_token(name) || name.len() > 128 {
            let remedy = "write letters, digits, `-`, `_` and `.`, such as `__Host-session`";
            self.notes.problem(&name_at, name, "is not a cookie's name", remedy);
        } else if lower.contains("_vestibule") || lower.starts_with("__host-vestibule") {
            self.notes.problem(
                &name_at,
                name,
                "is a name that the gateway keeps for its forms",
                "write another one",
            );
        } else if raw.unsafe_domain.is_some() && lower.starts_with("__host-") {
            // Browsers drop a `__Host-` cookie that has a Domain: nobody could ever sign in.
            let place = if raw.name.is_some() { name_at } else { at.key("unsafe_domain") };
            let wrong = "cannot be shared among hosts: browsers refuse `__Host-` with a domain";
            self.notes.problem(&place, name, wrong, "write `name: __Secure-session`");
        } else if ["__host-", "__secure-"].iter().any(|prefix| lower.starts_with(prefix))
            && !name.starts_with("__Host-")
            && !name.starts_with("__Secure-")
        {
            let wrong = "has a prefix that some browsers take for a safe one and others do not";
            self.notes.problem(&name_at, name, wrong, "write `__Host-` or `__Secure-`");
        } else if !name.starts_with("__Host-") && raw.unsafe_domain.is_none() {
            let wrong = "can be set by other hosts under the same domain";
            self.notes.warn(
                &name_at,
                name,
                wrong,
                format!("write `__Host-{}`", name.trim_start_matches("__Secure-")),
            );
        }
    }

    fn cookie_domain(&mut self, domain: &str, at: &At, routes: &[&RouteSettings]) -> Option<String> {
        let Ok(HostPattern::Exact(name)) = HostPattern::parse(domain) else {
            let remedy = "write the domain alone, such as `example.com`";
            self.notes.problem(at, domain, "is not a domain", remedy);
            return None;
        };
        let literal = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
        if literal || !name.contains('.') {
            let remedy = "write a domain of your own with a dot in it, such as `example.com`";
            self.notes.problem(at, domain, "is not a domain that can share cookies", remedy);
            return None;
        }
        for route in routes {
            let outside = route.hosts.iter().find_map(|host| match host {
                HostPattern::Exact(host) | HostPattern::Suffix(host) => {
                    let below =
                        host.strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                    (!below).then_some(host)
                }
            });
            if let Some(host) = outside {
                let wrong = format!(
                    "does not cover `{host}` of route `{}`: browsers would refuse the cookie",
                    route.name
                );
                self.notes.problem(at, domain, wrong, "write a domain above all hosts, or leave it out");
            }
        }
        Some(name)
    }
}

/// `token` of RFC 9110 §5.6.2, which cookie names are (RFC 6265 §4.1.1).
fn is_token(name: &str) -> bool {
    let other = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || other.contains(&byte))
}
