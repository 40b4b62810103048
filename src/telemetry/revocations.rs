//! Counters of revoked bearer tokens.

use super::metrics::{counter, gauge};
use prometheus::{IntCounter, IntGauge, Registry};

/// What operators revoke, and what is remembered of it.
pub struct RevocationMetrics {
    /// Revocations, each of one token or many.
    pub made: IntCounter,
    /// Those that are remembered; set before the registry is rendered.
    pub held: IntGauge,
}

impl RevocationMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let made = "Revocations of bearer tokens, each of one token or many";
        let held = "Revocations of bearer tokens that are remembered; at 100000 no more are taken";
        Self {
            made: counter(registry, "token_revocations_total", made),
            held: gauge(registry, "token_revocations_held", held),
        }
    }
}
