//! vestibule: a reverse proxy session gateway.
//!
//! Floors, from the roof down; imports run downward only (`tests/tidy.rs` checks it):
//!
//! 5. [`app`], [`cli`]: configuration → parts → a running server; arguments in, exit code out
//! 4. [`config`]: the YAML file → the settings of the floors below, or a list of problems
//! 3. [`proxy`], [`admin`]: the walk of a request; the operator's door
//! 2. [`auth`], [`net`]: ways to prove who you are; accepting connections and delimiting messages
//! 1. [`store`], [`telemetry`]: where sessions live; logs and metrics
//! 0. [`domain`]: values and decisions: no I/O, no clock, no async

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod net;
pub mod proxy;
pub mod store;
pub mod telemetry;
