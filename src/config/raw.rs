//! The file as written: its keys, their types, and the help that editors show for them.
//!
//! These types are read from the text only after [`super::shape`] has checked it against the schema that they
//! themselves derive, so that editors and the reader cannot disagree. What was wrong in shape has been taken out
//! by then; therefore every field is an `Option`, and [`super::resolve`] says what is missing where it matters. Keys
//! that must stand are listed as `required` for the schema.

use super::frequency::Frequency;
use super::raw_routes::{PathPrefix, Redirect, RouteHeaders};
mod assertion;
mod claims;
mod forward_auth;
mod issuers;
mod token_terms;
mod upstreams;

pub(super) use assertion::{Assertion, AssertionTaken};
pub(super) use claims::{Claim, ClaimFrom, ClaimWritten, Profile};
pub(super) use forward_auth::{Dialect, ForwardAuth};
pub(super) use issuers::{ClientAuth, Fetch, Introspection};
pub(super) use token_terms::{Binding, Dpop};
pub(super) use upstreams::{
    Balance, BalanceWord, ClientCertificate, HashBy, Health, OneServer, Paths, Upstream, UpstreamIdentity,
    UpstreamTimeouts, UpstreamTls,
};

use super::scalar::{Entries, Plain, Size, Span, Version};
use schemars::JsonSchema;
use serde::Deserialize;

/// One value or a list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<Option<T>>),
}

impl<T> OneOrMany<T> {
    /// The values that are sound in shape, each with its place in the list.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<usize>, &T)> {
        let (one, many) = match self {
            Self::One(one) => (Some((None, one)), [].iter()),
            Self::Many(many) => (None, many.iter()),
        };
        let many = many.enumerate().filter_map(|(at, value)| Some((Some(at), value.as_ref()?)));
        one.into_iter().chain(many)
    }

    /// Whether nothing stands there, not even something broken.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Many(many) if many.is_empty())
    }
}

/// The settings of vestibule, a reverse proxy session gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "vestibule.yaml", extend("required" = ["version", "listeners", "upstreams", "routes"]))]
pub(super) struct File {
    /// Version of this format: always 1.
    #[schemars(example = 1)]
    #[expect(dead_code, reason = "there is one, and its type takes no other")]
    pub(super) version: Option<Version>,
    /// Where browsers and other clients connect.
    #[schemars(extend("examples" = [[{ "address": "127.0.0.1:8080" }]]))]
    pub(super) listeners: Option<Vec<Option<Listener>>>,
    /// The operator's door: session API, console, metrics. Absent: none.
    pub(super) admin: Option<Admin>,
    /// healthz, readyz and metrics alone, for any Host. Absent: they answer on the admin address only.
    pub(super) probes: Option<Probes>,
    /// Scheme, host and port that browsers see, where there is one host: short for `external` on every listener. Routes
    /// without `host` need it for sign-in.
    #[schemars(example = &"https://wiki.example.com")]
    pub(super) external_url: Option<String>,
    /// Addresses or networks whose X-Forwarded-* headers, and PROXY protocol headers where a listener takes them, are
    /// believed. Default: nobody's.
    #[schemars(extend("default" = []))]
    pub(super) trusted_proxies: Option<Vec<Option<String>>>,
    /// Keys of session tokens, newest first: 32 random bytes in base64 each (`vestibule keys generate`). The newest
    /// signs, all verify. Needed where a route takes sessions.
    pub(super) keys: Option<Vec<Option<SecretRef>>>,
    /// Sessions: their cookie, their clocks, how many, and what they hold.
    #[schemars(extend("default" = {}))]
    pub(super) sessions: Option<Sessions>,
    /// Ways to open a session, each under a name of yours.
    pub(super) sign_in: Option<Entries<SignIn>>,
    /// Bearer tokens that are believed, each under a name of yours.
    pub(super) tokens: Option<Entries<Token>>,
    /// How upstreams learn who a request comes from.
    #[schemars(extend("default" = {}))]
    pub(super) identity: Option<Identity>,
    /// Applications, each under a name of yours.
    #[schemars(extend("examples" = [{ "wiki": { "servers": ["http://127.0.0.1:3000"] } }]))]
    pub(super) upstreams: Option<Entries<Upstream>>,
    /// Access rules that several routes share, each under a name of yours.
    pub(super) policies: Option<Entries<AccessWritten>>,
    /// What goes where, and who may pass: the first whose host and path match. None: 404.
    #[schemars(extend("examples" = [[{ "name": "wiki", "path": "/", "access": "public", "upstream": "wiki" }]]))]
    pub(super) routes: Option<Vec<Option<Route>>>,
    /// Answers for another proxy that asks whether requests may pass. Absent: nobody is answered.
    pub(super) forward_auth: Option<ForwardAuth>,
    /// What routes take that do not say otherwise.
    pub(super) limits: Option<Limits>,
    /// Logs.
    #[schemars(extend("default" = {}))]
    pub(super) logs: Option<Logs>,
    /// A folder with templates that replace the built-in pages. Absent: the built-in ones.
    pub(super) pages: Option<String>,
    /// How long running exchanges may go on after SIGTERM.
    #[schemars(extend("default" = "30s"))]
    pub(super) drain: Option<Span>,
    /// How long connections are still accepted after SIGTERM, while readyz says 503: for balancers that ask only now and then.
    #[schemars(extend("default" = "0s"))]
    pub(super) drain_delay: Option<Span>,
    /// Lets a new process take over without a closed connection (`vestibule upgrade`). Absent: none may.
    pub(super) upgrade: Option<Upgrade>,
}

/// How a new process takes over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["socket"]))]
pub(super) struct Upgrade {
    /// Over this Unix socket listeners and sessions go over to the new process. In a folder for the user alone that runs
    /// vestibule (mode 0700), which is made where there is none.
    #[schemars(example = &"/run/vestibule/upgrade.sock")]
    pub(super) socket: Option<String>,
}

/// A secret by reference; never the secret itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Secret", extend("x-kind" = "secret"))]
pub(super) struct SecretRef {
    /// The bytes of this file, without one newline at the end. Nobody else should be able to read it.
    pub(super) file: Option<String>,
    /// The value of this environment variable.
    pub(super) env: Option<String>,
}

/// One listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(super) struct Listener {
    /// IP address and port.
    #[schemars(example = &"127.0.0.1:8080")]
    pub(super) address: Option<String>,
    /// TLS with certificates of ours. Absent: plain HTTP.
    pub(super) tls: Option<Tls>,
    /// `Strict-Transport-Security` in every answer: browsers come by https alone from then on. Absent: none.
    pub(super) hsts: Option<Hsts>,
    /// `https`: every request for a host of `routes` is sent to https (308), and nothing is served.
    pub(super) redirect: Option<RedirectTo>,
    /// Beside `redirect`: the webroot of an ACME client; `/.well-known/acme-challenge/TOKEN` answers with the file of that
    /// name in there.
    #[schemars(example = &"/var/www/acme")]
    pub(super) acme_webroot: Option<String>,
    /// What browsers see, if another proxy stands before it. Absent: https with `tls`, else http, on the listener's own port.
    pub(super) external: Option<External>,
    /// Clocks of its connections.
    #[schemars(extend("default" = {}))]
    pub(super) timeouts: Option<ListenerTimeouts>,
    /// Every connection begins with a PROXY protocol header (version 1 or 2), in which one of `trusted_proxies` names its
    /// client; connections of others are closed.
    #[schemars(extend("default" = false))]
    pub(super) proxy_protocol: Option<bool>,
    /// How many connections it has at once.
    pub(super) connections: Option<Connections>,
}

/// How many connections a listener has at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Connections {
    /// In all; at the bound, accepting waits. Default: as many as the limit of open files has room for, each with one to
    /// an upstream; all listeners share those.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max: Option<u32>,
    /// Of one client address, or /64 of IPv6; one more is closed at once. Those of `trusted_proxies` are not counted.
    /// Default: half of all.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_per_client: Option<u32>,
}

/// TLS 1.2 and 1.3 on a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["certificates"]))]
pub(super) struct Tls {
    /// Chosen by the name that a client asks for (SNI); the first is for all others. Taken up when the files change.
    #[schemars(extend("examples" = [[{ "certificate": "wiki.crt", "key": "wiki.key" }]]))]
    pub(super) certificates: Option<Vec<Option<CertificateFiles>>>,
    /// PEM file with the authorities whose certificates of clients count. Absent: no client is asked for one.
    #[schemars(example = &"partners.pem")]
    pub(super) client_ca: Option<String>,
    /// `ask`: a client may come without one; rules and headers tell. `require`: it gets no connection.
    #[schemars(extend("default" = "require"))]
    pub(super) client_certificate: Option<ClientCertificateMode>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "key"]))]
pub(super) struct CertificateFiles {
    /// PEM file: the server's own certificate, then its issuers. An OCSP response (DER) in a file of this name with `.ocsp`
    /// behind it is handed out too.
    #[schemars(example = &"wiki.crt")]
    pub(super) certificate: Option<String>,
    /// PEM file with its private key, without a passphrase. Nobody else should be able to read it.
    #[schemars(example = &"wiki.key")]
    pub(super) key: Option<String>,
}

/// Whether a client may come without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientCertificateMode {
    Ask,
    Require,
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["max_age"]))]
pub(super) struct Hsts {
    /// How long a browser remembers it. Nothing takes it back before; `0s` makes browsers forget.
    #[schemars(example = &"365d")]
    pub(super) max_age: Option<Span>,
    /// For every host below as well.
    #[schemars(extend("default" = false))]
    pub(super) include_subdomains: Option<bool>,
    /// Consent to be built into browsers, which cannot be taken back for months.
    #[schemars(extend("default" = false))]
    pub(super) preload: Option<bool>,
}

/// Where a listener sends everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RedirectTo {
    Https,
}

/// Scheme and port in the browser's address; the host comes from the request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["scheme"]))]
pub(super) struct External {
    /// `https`, or `http` on loopback.
    #[schemars(example = &"https")]
    pub(super) scheme: Option<Scheme>,
    /// Default: 443 for https, 80 for http.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) port: Option<u16>,
}

/// A scheme that browsers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    Https,
    Http,
}

/// Clocks of a listener's connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTimeouts {
    /// From the first byte of a request's head, or the connection's start, to the head's last byte.
    #[schemars(extend("default" = "10s"))]
    pub(super) head: Option<Span>,
    /// The longest pause inside a request's body.
    #[schemars(extend("default" = "60s"))]
    pub(super) body: Option<Span>,
    /// The longest pause in which a client takes nothing of an answer, and the longest time for each 64KiB of it.
    #[schemars(extend("default" = "60s"))]
    pub(super) write: Option<Span>,
    /// The longest pause between two requests.
    #[schemars(extend("default" = "75s"))]
    pub(super) keep_alive: Option<Span>,
    /// The age from which a connection closes with its next answer. What runs goes on.
    #[schemars(extend("default" = "1h"))]
    pub(super) max_age: Option<Span>,
}

/// The operator's door.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(super) struct Admin {
    /// IP address and port, or `unix:` and a path (mode 0600; then no token is needed).
    #[schemars(example = &"127.0.0.1:9901")]
    pub(super) address: Option<String>,
    /// The bearer token that every call but the probes needs; 16 bytes or more.
    pub(super) token: Option<SecretRef>,
    /// Host values that are answered, besides IP literals; others get 421 (DNS rebinding).
    #[schemars(extend("default" = ["localhost"]))]
    pub(super) hosts: Option<Vec<Option<String>>>,
}

/// healthz, readyz and metrics for everybody who can connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(super) struct Probes {
    /// IP address and port, or `unix:` and a path.
    #[schemars(example = &"127.0.0.1:9902")]
    pub(super) address: Option<String>,
}

/// Sessions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sessions {
    /// The session cookie.
    #[schemars(extend("default" = {}))]
    pub(super) cookie: Option<Cookie>,
    /// The longest pause between two uses.
    #[schemars(extend("default" = "30m"))]
    pub(super) idle_timeout: Option<Span>,
    /// The longest life, however busy.
    #[schemars(extend("default" = "12h"))]
    pub(super) absolute_lifetime: Option<Span>,
    /// The age at which a browser is given a new token for the same session; its life is not extended. Default: a quarter
    /// of `absolute_lifetime`.
    #[schemars(example = &"3h")]
    pub(super) renew_after: Option<Span>,
    /// Clocks of sessions whose visitor ticked the box on the login form; their cookie outlives the browser. Absent: no
    /// such box.
    pub(super) remember_me: Option<RememberMe>,
    /// How many sessions one subject may have at once.
    #[schemars(extend("default" = {}))]
    pub(super) per_subject: Option<PerSubject>,
    /// How many may live at once. A full table refuses sign-ins; it never ends a live session.
    #[schemars(range(min = 1, max = 100_000_000), extend("default" = 1_000_000))]
    pub(super) capacity: Option<u64>,
    /// Sessions of visitors who have not signed in, opened when an application first keeps data for one. Absent: none,
    /// and such data is refused.
    pub(super) anonymous: Option<Anonymous>,
    /// What applications keep in sessions.
    #[schemars(extend("default" = {}))]
    pub(super) data: Option<SessionData>,
    /// Where sessions live. Another store needs a restart.
    #[schemars(extend("default" = "memory", "examples" = [{ "sqlite": "sessions.db" }]))]
    pub(super) store: Option<Store>,
}

/// Clocks of remembered sessions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RememberMe {
    /// The longest pause between two uses.
    #[schemars(extend("default" = "7d"))]
    pub(super) idle_timeout: Option<Span>,
    /// The longest life, however busy.
    #[schemars(extend("default" = "30d"))]
    pub(super) absolute_lifetime: Option<Span>,
}

/// How many sessions one subject of one source may have at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PerSubject {
    /// So many live sessions.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 10))]
    pub(super) max: Option<u64>,
    /// What one more sign-in does: `end_least_recent` ends the session that was not used for the longest time,
    /// `end_oldest` the one that was opened first, `refuse` opens nothing until the visitor has chosen one to end.
    #[schemars(extend("default" = "end_least_recent"))]
    pub(super) when_full: Option<WhenFull>,
}

/// What a sign-in beyond the limit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenFull {
    EndLeastRecent,
    EndOldest,
    Refuse,
}

/// Sessions of visitors who have not signed in. However busy, one ends after `sessions.absolute_lifetime`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Anonymous {
    /// How many may live at once, besides `sessions.capacity`. When full, pages go through and what they want kept is
    /// dropped.
    #[schemars(range(min = 1, max = 100_000_000), extend("default" = 100_000))]
    pub(super) capacity: Option<u64>,
    /// The longest pause between two uses; at most 5 minutes until the cookie has come back once.
    #[schemars(extend("default" = "1h"))]
    pub(super) idle_timeout: Option<Span>,
}

/// What applications keep in sessions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionData {
    /// The longest value of X-Session-Data, in each space of its own: what an application wants kept beyond that is
    /// refused. Many servers take 8190 bytes a header; at most 32KiB.
    #[schemars(extend("default" = "6KiB"))]
    pub(super) max_bytes: Option<Size>,
}

/// Where sessions live.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Store {
    /// In the process: sessions survive a reload and no restart.
    Word(Memory),
    /// In a file too.
    Sqlite(Sqlite),
}

/// `memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Memory {
    Memory,
}

/// A file that one process writes; sessions survive a restart and a crash.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["sqlite"]))]
pub(super) struct Sqlite {
    /// The file, made where there is none; its folder must be there. What it holds is sealed with `keys`.
    #[schemars(example = &"sessions.db")]
    pub(super) sqlite: Option<String>,
}

/// The session cookie.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cookie {
    /// Its name over https; on loopback without https it is `session`.
    #[schemars(extend("default" = "__Host-session"))]
    pub(super) name: Option<String>,
    /// Whether requests that other sites cause carry it.
    #[schemars(extend("default" = "lax"))]
    pub(super) same_site: Option<SameSite>,
    /// Whether it outlives the browser, also for visitors who did not ask to be remembered.
    #[schemars(extend("default" = false))]
    pub(super) persistent: Option<bool>,
    /// Whether each embedding site gets a cookie jar of its own (CHIPS).
    #[schemars(extend("default" = false))]
    pub(super) partitioned: Option<bool>,
    /// Shares the cookie among all hosts under this domain: each of them can then take part in a session.
    pub(super) unsafe_domain: Option<String>,
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SameSite {
    Lax,
    Strict,
    None,
}

/// A way to open a session: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// A login form against a user file.
    pub(super) password: Option<Password>,
    /// An application's own login form: its answer names who signed in.
    pub(super) upstream: Option<SignInUpstream>,
}

/// An application whose answers open and end sessions, by X-Session-Sign-In and X-Session-Sign-Out. It is believed whatever
/// subject it names, on every route that lists this way.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["name", "paths"]))]
pub(super) struct SignInUpstream {
    /// A name of `upstreams`.
    #[schemars(example = &"forum")]
    pub(super) name: Option<String>,
    /// Where its answers count, written like the path of a route: `/prefix` or `= /exact`. A route to it that is public or
    /// optional must lead there, on every host whose routes list this way. Visitors are sent to the first exact one for
    /// the form.
    #[schemars(example = ["= /login"])]
    pub(super) paths: Option<Vec<Option<String>>>,
    /// Groups that it may put somebody in; others are dropped.
    #[schemars(extend("default" = []))]
    pub(super) groups: Option<Vec<Option<String>>>,
}

/// A login form against a user file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["users"]))]
pub(super) struct Password {
    /// The users: YAML, or an htpasswd file with bcrypt or Argon2id lines. Read again when it changes.
    #[schemars(example = &"users.yaml")]
    pub(super) users: Option<String>,
}

/// A kind of bearer token that is believed: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    /// Signed tokens (RFC 7519).
    pub(super) jwt: Option<Jwt>,
    /// Opaque tokens, about which their issuer's server is asked (RFC 7662).
    pub(super) introspection: Option<Introspection>,
    /// Claims that are made of others: `NAME: path.to.member`, or written out. A claim of this name that the token has itself
    /// does not count then.
    #[schemars(extend("default" = {}))]
    pub(super) claims: Option<Entries<Claim>>,
    /// The longest life of a token, from `iat` to `exp`; one that would live longer does not count. So long revocations are
    /// remembered.
    #[schemars(extend("default" = "400d"))]
    pub(super) max_lifetime: Option<Span>,
    /// A token may be traded for a session, by `POST /_vestibule/session`: then `sign_in` of routes may list this entry. The session
    /// ends with the token at the latest, and when it is revoked.
    #[schemars(extend("default" = false))]
    pub(super) exchange: Option<bool>,
    /// What is asked of the proofs that come with tokens which are bound to a key (RFC 9449).
    #[schemars(extend("default" = { "max_age": "1m", "nonce": false }))]
    pub(super) dpop: Option<Dpop>,
}

/// Signed tokens of one issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["issuer", "audience", "keys", "algorithms"]))]
pub(super) struct Jwt {
    /// The one `iss` that is believed; also the source of its subjects.
    #[schemars(example = &"https://id.example.com")]
    pub(super) issuer: Option<String>,
    /// One of these must stand in `aud`.
    #[schemars(example = ["wiki"])]
    pub(super) audience: Option<OneOrMany<String>>,
    /// The keys that verify: exactly one of `secret`, `public_key`, `jwks_file`, `jwks_url` and `discovery: true`.
    #[schemars(extend("examples" = [{ "public_key": "issuer.pem" }]))]
    pub(super) keys: Option<JwtKeys>,
    /// The algorithms that are believed; each must fit the keys.
    #[schemars(example = ["RS256"])]
    pub(super) algorithms: Option<Vec<Option<Algorithm>>>,
    /// The claim that names the subject.
    #[schemars(extend("default" = "sub"))]
    pub(super) subject: Option<String>,
    /// The `typ` values that are believed; a token without `typ` passes.
    #[schemars(extend("default" = ["jwt", "at+jwt"]))]
    pub(super) types: Option<Vec<Option<String>>>,
    /// What else a token must be. `at+jwt`: an access token by RFC 9068, which says so in `typ` and has `sub`, `client_id`, `iat`
    /// and `jti`, so that no other token of the issuer passes for one.
    #[schemars(extend("default" = "jwt"))]
    pub(super) profile: Option<Profile>,
    /// Allowed difference of clocks for `exp` and `nbf`; at most 2m.
    #[schemars(extend("default" = "30s"))]
    pub(super) leeway: Option<Span>,
    /// Believe `email` without `email_verified: true`, for issuers that never send it.
    #[schemars(extend("default" = false))]
    pub(super) trust_email: Option<bool>,
}

/// Where verification keys come from: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JwtKeys {
    /// A shared secret for HS256, HS384, HS512: 32 bytes or more, as they stand in the file.
    pub(super) secret: Option<SecretRef>,
    /// A PEM file with a public key.
    pub(super) public_key: Option<String>,
    /// A file with a JWK Set.
    pub(super) jwks_file: Option<String>,
    /// Where the issuer publishes a JWK Set: https, or http on this machine. Fetched in the background; a start never waits for
    /// it, and until it is there these tokens are answered with 503.
    #[schemars(example = &"https://id.example.com/jwks")]
    pub(super) jwks_url: Option<String>,
    /// The same, from where the issuer's own document says: `/.well-known/openid-configuration`, or
    /// `/.well-known/oauth-authorization-server` (RFC 8414).
    #[schemars(extend("default" = false))]
    pub(super) discovery: Option<bool>,
    /// How keys of `jwks_url` and `discovery` are fetched.
    pub(super) fetch: Option<Fetch>,
}

/// An algorithm of RFC 7518 §3.1 or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// How upstreams learn who a request comes from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// `Header: claim`, or `Header: { claim: NAME, encoding: utf8 }`. `idle_until` and `ends_at` are when the session ends
    /// if it is not used, and at the latest (RFC 3339), `client_certificate_subject` and `client_certificate_fingerprint` what
    /// the client has shown on this connection, whatever claims a user file or a token has under these names.
    #[schemars(extend("default" = { "X-Auth-User": "subject", "X-Auth-Email": "email", "X-Auth-Groups": "groups" }))]
    pub(super) headers: Option<Entries<HeaderSource>>,
    /// Further headers that old applications believe; removed from every request.
    #[schemars(extend("default" = []))]
    pub(super) remove: Option<Vec<Option<String>>>,
    /// A signed statement about who asks, for applications that want proof. Absent: none.
    pub(super) assertion: Option<Assertion>,
}

/// What an identity header carries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum HeaderSource {
    /// The claim's name.
    Claim(String),
    /// The claim with an encoding.
    Written(HeaderWritten),
}

/// A claim with an encoding.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["claim"]))]
pub(super) struct HeaderWritten {
    /// The claim's name: `subject`, `source`, `email`, `groups`, `idle_until`, `ends_at` or another.
    #[schemars(example = &"subject")]
    pub(super) claim: Option<String>,
    /// `percent` (default): percent-encoded, one to one. `utf8`: as it is, for old applications.
    #[schemars(extend("default" = "percent"))]
    pub(super) encoding: Option<Encoding>,
}

/// How a value is written into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    Percent,
    Utf8,
}

/// Who may pass, written out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessWritten {
    /// Names of `sign_in`: sessions opened by one of them pass.
    #[schemars(extend("default" = []))]
    pub(super) sign_in: Option<Vec<Option<String>>>,
    /// Names of `tokens`: bearer tokens that one of them believes pass.
    #[schemars(extend("default" = []))]
    pub(super) tokens: Option<Vec<Option<String>>>,
    /// How every token must be bound to whoever presents it, so that a stolen one is worth nothing: `dpop` to a key
    /// (RFC 9449), `certificate` to that of the connection (RFC 8705); listed both, either will do. A token that says itself
    /// what it is bound to needs the proof on every route.
    pub(super) proof: Option<Vec<Option<Binding>>>,
    /// The ways listed mean the same people by the same subject. Needed where their sources differ and no header says which.
    #[schemars(extend("default" = false))]
    pub(super) same_people: Option<bool>,
    /// `everyone`, or a rule. Must stand where `tokens` are listed; else everyone in the user file.
    #[schemars(extend("examples" = [{ "groups": ["ops"] }], "x-default" = "everyone"))]
    pub(super) allow: Option<Allow>,
    /// Without a credential the request passes too, without identity.
    #[schemars(extend("default" = false))]
    pub(super) optional: Option<bool>,
    /// Origins besides our own whose unsafe requests a cookie may admit.
    #[schemars(extend("default" = []))]
    pub(super) cross_origin: Option<Vec<Option<String>>>,
    /// What happens to a CORS preflight, which never carries a credential.
    #[schemars(extend("default" = "refuse"))]
    pub(super) preflight: Option<Preflight>,
}

/// What happens to a CORS preflight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Preflight {
    Refuse,
    Forward,
}

/// `everyone`, or a rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Allow {
    /// Anybody with a credential.
    Word(Everyone),
    /// A rule.
    Rule(Box<Rule>),
}

/// Anybody with a credential that is listed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Everyone {
    Everyone,
}

/// One condition: exactly one of these keys. A list inside a key means any of its values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// All of these must hold.
    pub(super) all: Option<Vec<Option<Rule>>>,
    /// One of these must hold.
    pub(super) any: Option<Vec<Option<Rule>>>,
    /// This must not hold.
    pub(super) not: Option<Box<Rule>>,
    /// The subject is one of these.
    pub(super) subject: Option<OneOrMany<Plain>>,
    /// The source is one of these: an issuer, or a name of `sign_in`.
    pub(super) source: Option<OneOrMany<Plain>>,
    /// The groups contain one of these.
    pub(super) groups: Option<OneOrMany<Plain>>,
    /// The e-mail address is one of these.
    pub(super) email: Option<OneOrMany<Plain>>,
    /// The part of the e-mail address after `@` is one of these, whole.
    pub(super) email_domain: Option<OneOrMany<Plain>>,
    /// The token's `scope` (or `scp`) contains one of these.
    pub(super) scope: Option<OneOrMany<Plain>>,
    /// Whoever it is was authenticated at most so long ago: a session counts from its sign-in, a token by its `auth_time`,
    /// without which it is refused. Not under `not`.
    #[schemars(example = &"15m")]
    pub(super) auth_age: Option<Span>,
    /// `{ CLAIM: VALUE }`: the claim is, or contains, one of these values.
    pub(super) claims: Option<Entries<OneOrMany<Plain>>>,
    /// The client has shown a certificate on this connection: `any`, or one of a subject or a fingerprint. Besides a session or
    /// a token, never instead of one.
    pub(super) client_certificate: Option<CertificateAsked>,
}

/// `any`, or what is asked of a client's certificate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum CertificateAsked {
    /// One that an authority of `client_ca` has issued.
    Word(AnyCertificate),
    /// One of these.
    Written(CertificateWritten),
}

/// Any certificate that counts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AnyCertificate {
    Any,
}

/// What is asked of a client's certificate: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateWritten {
    /// Its subject, letter for letter as RFC 4514 writes it (`openssl x509 -noout -subject -nameopt RFC2253`).
    #[schemars(example = &"CN=alice,O=Example")]
    pub(super) subject: Option<OneOrMany<String>>,
    /// SHA-256 of the certificate in hex.
    pub(super) fingerprint: Option<OneOrMany<String>>,
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["name", "path", "access"]))]
pub(super) struct Route {
    /// Its name in logs and metrics.
    #[schemars(example = &"wiki")]
    pub(super) name: Option<String>,
    /// A host, `*.example.com`, or a list of them. Absent: any host.
    #[schemars(example = &"wiki.example.com")]
    pub(super) host: Option<OneOrMany<String>>,
    /// Prefix by whole segments; `= /exact` for this path alone.
    #[schemars(example = &"/")]
    pub(super) path: Option<String>,
    /// Chooses only among routes of this host and path; no such method: 405. Absent: any.
    #[schemars(example = ["GET", "HEAD"])]
    pub(super) methods: Option<Vec<Option<String>>>,
    /// `public`, the name of a policy, or written out.
    #[schemars(example = &"public")]
    pub(super) access: Option<Access>,
    /// Leave the Authorization header in place although its token was used here.
    #[schemars(extend("default" = false))]
    pub(super) forward_authorization: Option<bool>,
    /// What the route has to do with the visitor's session besides the sign-in.
    #[schemars(extend("default" = {}))]
    pub(super) session: Option<RouteSession>,
    /// From which addresses it may be used; others get 403, before any credential is looked at. Absent: all.
    pub(super) clients: Option<Clients>,
    /// How much it takes.
    pub(super) limits: Option<RouteLimits>,
    /// What is changed in the headers that pass.
    #[schemars(extend("default" = {}))]
    pub(super) headers: Option<RouteHeaders>,
    /// The front of the path, where the application has it otherwise than visitors.
    pub(super) prefix: Option<PathPrefix>,
    /// Leads elsewhere, instead of `upstream`.
    pub(super) redirect: Option<Redirect>,
    /// A name of `upstreams`; must stand unless the route has a `redirect`.
    #[schemars(example = &"wiki")]
    pub(super) upstream: Option<String>,
}

/// What routes take that do not say otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// The longest body of a request; a longer one gets 413. Absent: any.
    #[schemars(example = &"10MiB")]
    pub(super) body: Option<Size>,
}

/// Client addresses, as `trusted_proxies` tell them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Clients {
    /// Only these addresses and networks. Absent: all.
    #[schemars(example = ["10.0.0.0/8"])]
    pub(super) allow: Option<Vec<Option<String>>>,
    /// Never these, even if `allow` has them.
    #[schemars(extend("default" = []))]
    pub(super) deny: Option<Vec<Option<String>>>,
}

/// How much a route takes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteLimits {
    /// The longest body of a request; a longer one gets 413. Default: that of `limits` at the top of the file.
    #[schemars(example = &"10MiB")]
    pub(super) body: Option<Size>,
    /// How often it may be used; more get 429. Absent: as often as one likes.
    #[schemars(extend("examples" = [{ "per": "session", "limit": "50/s" }]))]
    pub(super) rate: Option<Rate>,
}

/// How often a route may be used. What was counted counts over reloads, until the rate itself is another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["per", "limit"]))]
pub(super) struct Rate {
    /// Who is counted: a `session`, a `subject` with all its sessions and tokens, or a `client_ip` (an address, or /64 of
    /// IPv6). Requests of nobody count for their address.
    #[schemars(example = &"session")]
    pub(super) per: Option<Per>,
    /// So many requests in a second, minute, hour or day, evenly: `50/s`, `600/m`.
    #[schemars(example = &"50/s")]
    pub(super) limit: Option<Frequency>,
    /// So many at once. Default: the number in `limit`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) burst: Option<u32>,
}

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Per {
    Session,
    Subject,
    ClientIp,
}

/// Who may pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Access {
    /// `public`, or the name of a policy.
    Named(String),
    /// Written out.
    Written(Box<AccessWritten>),
}

/// What a route has to do with the visitor's session.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteSession {
    /// `true`: the application gets what it keeps for the visitor in X-Session-Data, and changes it with X-Session-Patch,
    /// in a space of its own, which goes by its name under `upstreams`. A name: the space of that name, which every
    /// application whose routes name it reads and writes. On public routes too.
    #[schemars(extend("default" = false))]
    pub(super) data: Option<RouteData>,
    /// `ignore`: requests here do not count as use, for pages that ask again and again by themselves.
    #[schemars(extend("default" = "count"))]
    pub(super) activity: Option<Activity>,
}

/// Whether an application gets session data, and from which space.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RouteData {
    /// `true`: from a space of its own.
    Own(bool),
    /// From the space of this name.
    Shared(String),
}

/// Whether requests count as use of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Activity {
    Count,
    Ignore,
}

/// Logs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    /// One line per exchange.
    #[schemars(extend("default" = { "to": "stdout" }))]
    pub(super) access: Option<Log>,
    /// What changed: sign-ins, ends, refusals, configuration.
    #[schemars(extend("default" = { "to": "stdout" }))]
    pub(super) audit: Option<Log>,
    /// Warnings and errors of the process.
    #[schemars(extend("default" = { "to": "stderr" }))]
    pub(super) events: Option<Log>,
}

/// One log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    /// `json` or `human`. Absent: human on a terminal, else JSON.
    pub(super) format: Option<Format>,
    /// `stdout`, `stderr`, `off`, or a file to append to. Default: stdout; of `events`, stderr.
    #[schemars(example = &"stdout")]
    pub(super) to: Option<String>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Json,
    Human,
}
