//! The walk of a request, from its canonical form to the upstream and back.

pub mod gateway;
mod hops;
pub mod pace;
pub mod pages;
pub mod parts;
pub mod settings;
pub mod snapshot;
mod stream;
pub mod upstream;

mod admit;
mod context;
mod endpoints;
mod forward;
mod observe;
mod read;
mod remember;
mod renewal;
mod respond;
mod upstream_sign_in;
mod visit;
