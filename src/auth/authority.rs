//! Who says whether tokens of an entry count, beside the file itself: the set of keys that an issuer publishes, or a server that is
//! asked about each token.
//!
//! Both outlive a configuration where the next one says the same of them. So whether somebody else is asked by now is a comparison.

use crate::auth::issuer::introspection::Introspection;
use crate::auth::issuer::key_set::KeySet;
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub enum Authority {
    /// Keys in the file, or in files that it names.
    File,
    /// The keys that an issuer publishes.
    Keys(Arc<KeySet>),
    /// A server; another one wherever anything of its entry is written otherwise.
    Server(Arc<Introspection>),
}

impl Authority {
    /// Whether it is the very same. Keys in files are never: what they say, they say at once.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Keys(one), Self::Keys(other)) => Arc::ptr_eq(one, other),
            (Self::Server(one), Self::Server(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether it is a server.
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}
