//! `forward_auth` as written.

use schemars::JsonSchema;
use serde::Deserialize;

/// Answers for another proxy: whether a request may pass, under `/_vestibule/auth`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["dialect", "from"]))]
pub(in crate::config) struct ForwardAuth {
    /// By which headers that proxy tells of the request; no others are looked at.
    #[schemars(example = &"nginx")]
    pub(in crate::config) dialect: Option<Dialect>,
    /// Addresses or networks of that proxy, as connections come from there. Others get 404.
    #[schemars(example = ["10.0.0.7/32"])]
    pub(in crate::config) from: Option<Vec<Option<String>>>,
}

/// A proxy that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Dialect {
    Nginx,
    Traefik,
    Caddy,
    Envoy,
    Haproxy,
}
