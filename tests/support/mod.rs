//! The harness of the black-box tests: the real binary between sockets that these modules hold at both ends.
//!
//! An [`Upstream`] records what reaches it, byte for byte. A [`Gateway`] is one process of the binary with a folder and
//! ports of its own; a [`Browser`] keeps its cookies. Nothing here sleeps for a fixed time: whatever is awaited has a condition
//! and a deadline. When a gateway is dropped, everything that it logged is searched for every secret that the test used.

pub(crate) mod async_upstream;
pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod gateway;
pub(crate) mod http2;
pub(crate) mod issuer;
pub(crate) mod message;
pub(crate) mod proofs;
pub(crate) mod secrets;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod upstream;
pub(crate) mod users;
pub(crate) mod wait;

pub(crate) use client::{Browser, HOST, ORIGIN, Request, SESSION, Wire};
pub(crate) use gateway::{Gateway, Setup};
pub(crate) use message::Message;
pub(crate) use upstream::{Answer, Upstream};
