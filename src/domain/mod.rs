//! Values and decisions. Nothing here reads a clock, does I/O, awaits or knows pingora.

pub mod access;
pub mod answer;
pub mod browser;
pub mod caching;
pub mod certificate;
pub mod chunked;
pub mod clients;
pub mod cookie;
pub mod decision;
pub mod fold;
pub mod head;
pub mod identity;
pub mod merge_patch;
pub mod origin;
pub mod policy;
pub mod prefix;
pub mod proxy_header;
pub mod rate;
pub mod redirect;
pub mod return_to;
pub mod route;
pub mod secret;
pub mod session;
pub mod target;
pub mod time;
pub mod token;
