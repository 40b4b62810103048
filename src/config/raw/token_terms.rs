//! What is asked of tokens once an entry believes them, as written.

use super::super::scalar::Span;
use schemars::JsonSchema;
use serde::Deserialize;

/// What is asked of `DPoP` proofs (RFC 9449), which come with every token that is bound to a key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Dpop {
    /// How old a proof may be, besides the difference of clocks; at most 10m. Each is remembered for so long.
    #[schemars(extend("default" = "1m"))]
    pub(in crate::config) max_age: Option<Span>,
    /// Every proof needs a nonce of ours, which a client gets with a 401 and uses for five minutes: then none can be made ahead.
    #[schemars(extend("default" = false))]
    pub(in crate::config) nonce: Option<bool>,
}

/// What a token may be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Binding {
    /// A key that signs `DPoP` proofs (RFC 9449).
    Dpop,
    /// The client's certificate (RFC 8705).
    Certificate,
}
