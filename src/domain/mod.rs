//! Values and decisions. Nothing here reads a clock, does I/O, awaits or knows pingora.

pub mod access;
pub mod browser;
pub mod caching;
pub mod chunked;
pub mod cookie;
pub mod decision;
pub mod fingerprint;
pub mod fold;
pub mod head;
pub mod identity;
pub mod merge_patch;
pub mod origin;
pub mod policy;
pub mod return_to;
pub mod route;
pub mod secret;
pub mod session;
pub mod target;
pub mod time;
pub mod token;
