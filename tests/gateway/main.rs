//! What the gateway promises, asked from outside: the real binary between raw sockets, one file per behaviour.

#[path = "../support/mod.rs"]
mod support;

mod account;
mod activity;
mod admin;
mod anonymous;
mod bearer;
mod bodies;
mod canonical;
mod commands;
mod data;
mod deadlines;
mod demonstration;
mod durable;
mod expiry;
mod hops;
mod identity;
mod limits;
mod logging;
mod login;
mod logout;
mod messages;
mod navigation;
mod policies;
mod reload;
mod renewal;
mod routes;
mod session;
mod shutdown;
mod story;
mod streams;
mod upstream_sign_in;
mod upstreams;
mod users_file;
mod websocket;
