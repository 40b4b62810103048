//! Where sessions live.

mod directory;
pub mod table;
