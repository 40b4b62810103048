//! `identity.assertion` as written, and what an upstream takes of it.

use super::super::scalar::Span;
use super::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

/// A signed statement about who asks, for applications that want proof: a JWT. Its keys are published under
/// `/_vestibule/jwks.json`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["issuer", "keys"]))]
pub(in crate::config) struct Assertion {
    /// The header that carries it.
    #[schemars(extend("default" = "X-Auth-Assertion"))]
    pub(in crate::config) header: Option<String>,
    /// `iss`: what applications know this gateway by.
    #[schemars(example = &"https://gw.example.com")]
    pub(in crate::config) issuer: Option<String>,
    /// Private keys in PEM (PKCS#8) of P-256 (ES256) or Ed25519 (`EdDSA`), made by `vestibule keys generate --assertion`. The first
    /// signs, all are published: a new one comes second for ten minutes, then first.
    #[schemars(extend("examples" = [[{ "file": "assertion.pem" }]]))]
    pub(in crate::config) keys: Option<Vec<Option<SecretRef>>>,
    /// How long one is good for, never longer than the session or token; 2s to 1h. An application that looks at nothing else
    /// believes it for so long after a sign-out.
    #[schemars(extend("default" = "60s"))]
    pub(in crate::config) lifetime: Option<Span>,
}

/// What an upstream takes of the assertion.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum AssertionTaken {
    /// `true`: beside the identity headers. `false`: not.
    Beside(bool),
    /// `only`: instead of every identity header.
    Only(Only),
}

/// Instead of every identity header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Only {
    Only,
}
