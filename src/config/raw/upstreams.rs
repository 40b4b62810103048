//! `upstreams` as written.

use super::super::scalar::{Entries, Span};
use super::{AssertionTaken, HeaderSource, OneOrMany, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

/// An application.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// Where it runs: `http://host:port`, `https://…`, `h2c://…` (HTTP/2 without TLS) or `unix:/path`, or a mapping with `url`
    /// and `weight`. A name may have several addresses; each counts as a server. Only with `forward_auth` may it be left out: the
    /// application is then reached by the proxy that asks, and nobody is led there from here.
    #[schemars(example = ["http://127.0.0.1:3000"])]
    pub(in crate::config) servers: Option<OneOrMany<OneServer>>,
    /// Which server a request goes to: `round_robin`, `least_requests`, or `{ hash: session }` or `{ hash: client_ip }`, which
    /// send a visitor to the same server as long as it is up.
    #[schemars(extend("default" = "round_robin"))]
    pub(in crate::config) balance: Option<Balance>,
    /// How its servers are asked whether they are well. Absent: only connections that do not open take one out.
    pub(in crate::config) health: Option<Health>,
    /// How long a server that comes back takes to get its full share of requests.
    #[schemars(extend("default" = "0s"))]
    pub(in crate::config) slow_start: Option<Span>,
    /// Further servers that a request may be sent to if one did not answer it; only methods for which twice is the same as
    /// once, without a body, and at most a fifth of all requests. Where no connection could be opened, another server is
    /// tried in any case.
    #[schemars(range(min = 0, max = 5), extend("default" = 1))]
    pub(in crate::config) retries: Option<u8>,
    /// The most requests under way at one server; beyond it the others get them, or 503 says so. Absent: no such bound.
    #[schemars(range(min = 1, max = 1_000_000), example = 500)]
    pub(in crate::config) max_requests: Option<u32>,
    /// How https servers are spoken to.
    pub(in crate::config) tls: Option<UpstreamTls>,
    /// Clocks of its connections.
    #[schemars(extend("default" = {}))]
    pub(in crate::config) timeouts: Option<UpstreamTimeouts>,
    /// `keep` sends the Host that the request came with; else the name to send.
    #[schemars(extend("default" = "keep"))]
    pub(in crate::config) host: Option<String>,
    /// Whether routes to it match paths with regard to case; `case_insensitive` for servers like IIS.
    #[schemars(extend("default" = "case_sensitive"))]
    pub(in crate::config) paths: Option<Paths>,
    /// Identity headers of its own, instead of those of `identity`.
    pub(in crate::config) identity: Option<UpstreamIdentity>,
}

/// One server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum OneServer {
    /// Where it listens.
    Url(String),
    /// That with more.
    Written(ServerWritten),
}

/// One server, written out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(in crate::config) struct ServerWritten {
    /// `http://host:port`, `https://…`, `h2c://…` or `unix:/path`.
    #[schemars(example = &"http://127.0.0.1:3000")]
    pub(in crate::config) url: Option<String>,
    /// Its share of the requests beside those of the others.
    #[schemars(range(min = 1, max = 100), extend("default" = 1))]
    pub(in crate::config) weight: Option<u16>,
}

/// Which server a request goes to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Balance {
    /// By what the servers do.
    Word(BalanceWord),
    /// By who asks.
    Hash(BalanceHash),
}

/// By what the servers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum BalanceWord {
    RoundRobin,
    LeastRequests,
}

/// By who asks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["hash"]))]
pub(in crate::config) struct BalanceHash {
    /// `session` (the client's address without one) or `client_ip`.
    #[schemars(example = &"session")]
    pub(in crate::config) hash: Option<HashBy>,
}

/// By what visitors are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum HashBy {
    Session,
    ClientIp,
}

/// How servers are asked whether they are well: `GET`, over a connection of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(in crate::config) struct Health {
    /// The path to ask for; it should cost little and need no sign-in.
    #[schemars(example = &"/healthz")]
    pub(in crate::config) path: Option<String>,
    /// The Host to send. Default: `host` of the upstream, or that of the server.
    pub(in crate::config) host: Option<String>,
    /// From one question to the next.
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) interval: Option<Span>,
    /// The longest wait for the answer, opening the connection included.
    #[schemars(extend("default" = "2s"))]
    pub(in crate::config) timeout: Option<Span>,
    /// So many bad answers in a row take a server out.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub(in crate::config) unhealthy_after: Option<u32>,
    /// So many good ones bring it back.
    #[schemars(range(min = 1, max = 100), extend("default" = 2))]
    pub(in crate::config) healthy_after: Option<u32>,
    /// Statuses that count as good. Default: 200 to 399.
    #[schemars(example = [200])]
    pub(in crate::config) status: Option<Vec<Option<u16>>>,
}

/// How https servers are spoken to. Their certificate is always verified.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamTls {
    /// PEM file of the authorities whose signature counts, instead of those that the system trusts.
    #[schemars(example = &"internal-ca.pem")]
    pub(in crate::config) ca: Option<String>,
    /// The name that must stand in the certificate. Default: the host of the server's URL; a must where that is an address.
    #[schemars(example = &"wiki.internal")]
    pub(in crate::config) server_name: Option<String>,
    /// The certificate that we show.
    pub(in crate::config) client_certificate: Option<ClientCertificate>,
    /// Whether HTTP/2 is offered; the server chooses. A tunnel (`WebSocket`) goes over HTTP/1.1 in any case.
    #[schemars(extend("default" = false))]
    pub(in crate::config) http2: Option<bool>,
}

/// A certificate of ours and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "key"]))]
pub(in crate::config) struct ClientCertificate {
    /// PEM file: the certificate, then those that signed it.
    #[schemars(example = &"gateway.crt")]
    pub(in crate::config) certificate: Option<String>,
    /// Its private key, PEM (PKCS#8, PKCS#1 or SEC1).
    #[schemars(example = &serde_json::json!({ "file": "gateway.key" }))]
    pub(in crate::config) key: Option<SecretRef>,
}

/// Clocks of the connections to an upstream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamTimeouts {
    /// To open a connection.
    #[schemars(extend("default" = "2s"))]
    pub(in crate::config) connect: Option<Span>,
    /// The longest pause while reading.
    #[schemars(extend("default" = "60s"))]
    pub(in crate::config) read: Option<Span>,
    /// The longest pause while writing.
    #[schemars(extend("default" = "60s"))]
    pub(in crate::config) write: Option<Span>,
    /// How long an unused connection is kept.
    #[schemars(extend("default" = "90s"))]
    pub(in crate::config) idle: Option<Span>,
    /// How long neither side of a `WebSocket` may send anything, pings included.
    #[schemars(extend("default" = "1h"))]
    pub(in crate::config) websocket: Option<Span>,
}

/// Whether case counts in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Paths {
    CaseSensitive,
    CaseInsensitive,
}

/// Identity headers of one upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamIdentity {
    /// `Header: claim`, or `Header: { claim: NAME, encoding: utf8 }`. Absent: those of `identity`.
    pub(in crate::config) headers: Option<Entries<HeaderSource>>,
    /// `true`: it gets the assertion beside its identity headers; `false`: it does not; `only`: it gets nothing else. Default: `true`
    /// where there is an `identity.assertion`.
    pub(in crate::config) assertion: Option<AssertionTaken>,
}
