//! Keys that are fetched, and servers that are asked, as written.

use super::super::scalar::Span;
use super::{ClientCertificate, OneOrMany, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

/// How published keys are fetched: in the background, before anybody needs them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Fetch {
    /// PEM file with the authorities that the issuer's certificate must come from. Absent: those that the system trusts.
    #[schemars(example = &"internal-ca.pem")]
    pub(in crate::config) ca: Option<String>,
    /// The longest time for one fetch, from looking up the name to the last byte.
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) timeout: Option<Span>,
    /// Keys are fetched again when their answer's `Cache-Control` says so, but not sooner than this after the last time.
    #[schemars(extend("default" = "1m"))]
    pub(in crate::config) refresh_min: Option<Span>,
    /// And not later.
    #[schemars(extend("default" = "1h"))]
    pub(in crate::config) refresh_max: Option<Span>,
    /// A token that names an unknown key makes us fetch out of turn, at most once in so long.
    #[schemars(extend("default" = "30s"))]
    pub(in crate::config) cool_down: Option<Span>,
    /// While the issuer cannot be asked the last good keys count, up to this age; after that, 503.
    #[schemars(extend("default" = "24h"))]
    pub(in crate::config) max_stale: Option<Span>,
}

/// Opaque tokens of one issuer: its server is asked about each (RFC 7662).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["url", "client_id"]))]
pub(in crate::config) struct Introspection {
    /// The introspection endpoint: https, or http on this machine.
    #[schemars(example = &"https://id.example.com/introspect")]
    pub(in crate::config) url: Option<String>,
    /// What `iss` must be where the server says one; also the source of the subjects. Absent: the entry's name is their source.
    #[schemars(example = &"https://id.example.com")]
    pub(in crate::config) issuer: Option<String>,
    /// One of these must stand in the `aud` that the server says. Absent: the server alone decides for whom a token is.
    #[schemars(example = ["wiki"])]
    pub(in crate::config) audience: Option<OneOrMany<String>>,
    /// The name under which the server knows this gateway.
    #[schemars(example = &"gateway")]
    pub(in crate::config) client_id: Option<String>,
    /// How that is proved: a secret in a header (`basic`) or in the form (`post`), a signature (`private_key_jwt`), or the
    /// certificate of the connection (`mtls`).
    #[schemars(extend("default" = "basic"))]
    pub(in crate::config) auth: Option<ClientAuth>,
    /// For `basic` and `post`.
    #[schemars(extend("examples" = [{ "file": "introspection.secret" }]))]
    pub(in crate::config) client_secret: Option<SecretRef>,
    /// For `private_key_jwt`: a private key in PEM; RSA signs RS256, P-256 ES256, P-384 ES384, Ed25519 `EdDSA`.
    #[schemars(extend("examples" = [{ "file": "gateway.pem" }]))]
    pub(in crate::config) client_key: Option<SecretRef>,
    /// For `private_key_jwt`: the `kid` under which the server knows the key. Absent: none is sent.
    pub(in crate::config) key_id: Option<String>,
    /// For `mtls`.
    pub(in crate::config) client_certificate: Option<ClientCertificate>,
    /// How long an answer is believed, at most until the token's `exp`; 1s to 5m. A token that is taken back passes for so long.
    #[schemars(extend("default" = "30s"))]
    pub(in crate::config) cache: Option<Span>,
    /// The longest time for one question, from its turn to the answer's last byte; longer waits no request.
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) timeout: Option<Span>,
    /// Questions under way at once; others wait for their turn.
    #[schemars(range(min = 1, max = 1000), extend("default" = 32))]
    pub(in crate::config) parallel: Option<u32>,
    /// PEM file with the authorities that the server's certificate must come from. Absent: those that the system trusts.
    #[schemars(example = &"internal-ca.pem")]
    pub(in crate::config) ca: Option<String>,
    /// The member that names the subject.
    #[schemars(extend("default" = "sub"))]
    pub(in crate::config) subject: Option<String>,
    /// Believe `email` without `email_verified: true`, for servers that never send it.
    #[schemars(extend("default" = false))]
    pub(in crate::config) trust_email: Option<bool>,
}

/// How a client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientAuth {
    Basic,
    Post,
    PrivateKeyJwt,
    Mtls,
}
