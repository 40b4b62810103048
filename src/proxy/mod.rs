//! The walk of a request, from its canonical form to the upstream and back.

mod challenge;
pub mod changes;
pub mod forward_auth;
pub mod gateway;
mod hops;
mod lending;
pub mod limits;
pub mod pace;
pub mod pages;
pub mod parts;
pub mod settings;
pub mod snapshot;
mod stream;
mod tunnel;
pub mod upstream;

mod admit;
mod assertion;
mod context;
mod endpoints;
mod forward;
mod front;
mod http2;
mod observe;
mod possession;
mod reach;
mod read;
mod redirect;
mod remember;
mod renewal;
mod respond;
pub mod revocation;
mod upstream_sign_in;
mod visit;
