//! Tokens that are believed, held while there is room: the verdicts over signatures and the answers of servers alike.

use crate::domain::decision::Believed;
use crate::domain::fingerprint::ByFingerprint;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::hash::Hash;
use std::sync::Arc;

/// What moka and the key take beside the claims.
const ENTRY_BYTES: u32 = 400;

/// Under keys that begin with a fingerprint.
pub(super) type Held<K> = Cache<K, Arc<Believed>, ByFingerprint>;

/// A cache of so many bytes. Whether a verdict still holds is for whoever finds it to say.
pub(super) fn cache<K: Hash + Eq + Send + Sync + 'static>(bytes_max: u64) -> Held<K> {
    // LRU: moka's default policy refuses newcomers when it is full.
    Cache::builder()
        .weigher(|_, believed: &Arc<Believed>| bytes(believed))
        .max_capacity(bytes_max)
        .eviction_policy(EvictionPolicy::lru())
        .build_with_hasher(ByFingerprint::default())
}

fn bytes(believed: &Believed) -> u32 {
    let jti = believed.token.jti.as_ref().map_or(0, |jti| jti.len());
    let told = u32::try_from(believed.identity.packed().len() + jti).unwrap_or(u32::MAX);
    told.saturating_add(ENTRY_BYTES)
}
