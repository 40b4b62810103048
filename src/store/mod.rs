//! Where sessions live.

mod directory;
pub mod journal;
#[cfg(test)]
pub(crate) mod model;
pub(crate) mod record;
pub mod revoked;
pub mod sqlite;
pub mod table;
