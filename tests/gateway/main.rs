//! What the gateway promises, asked from outside: the real binary between raw sockets, one file per behaviour.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod bearer;
mod bodies;
mod canonical;
mod commands;
mod deadlines;
mod demonstration;
mod expiry;
mod identity;
mod logging;
mod login;
mod logout;
mod messages;
mod navigation;
mod policies;
mod reload;
mod routes;
mod session;
mod shutdown;
mod upstreams;
mod users_file;
mod websocket;
