//! What is asked of issuers over the network: their keys, and what they say of a token.
//!
//! A [`client::IssuerClient`] asks one question, bounded in time and bytes. [`key_set::KeySets`] keep published keys fresh in
//! the background; an [`introspection::Introspection`] asks about single tokens. Whoever decides about a request never waits in
//! here: it gets a [`question::Question`], and whoever carries the request waits for that, for a bounded while.

pub mod client;
pub mod client_auth;
pub mod fetch;
pub mod freshness;
pub mod heard;
pub mod introspection;
pub mod key_set;
mod names;
pub mod question;
pub mod url;

use crate::domain::time::Clock;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where questions to issuers are asked from, and by which clock their answers age.
#[derive(Clone)]
pub struct Surroundings {
    /// The runtime that carries the questions, whatever thread they come from. It must live as long as the process.
    pub runtime: Handle,
    /// Ages of answers, and instants in what we sign.
    pub clock: Arc<dyn Clock>,
}
