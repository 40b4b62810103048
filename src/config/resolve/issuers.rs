//! Keys that are fetched, and servers that are asked: what the file says of them. Nobody is asked here.

use super::super::problem::At;
use super::super::raw::{self, ClientAuth, OneOrMany};
use super::super::scalar::Span;
use super::Resolver;
use super::ways::{LEEWAY, entry_id};
use crate::auth::issuer::client::{self, AccessError, IssuerAccess, OwnCertificate};
use crate::auth::issuer::client_auth::{AssertionKey, Client, ClientProof};
use crate::auth::issuer::fetch::Location;
use crate::auth::issuer::freshness::Refresh;
use crate::auth::issuer::introspection::AskSettings;
use crate::auth::issuer::key_set::{KeyTerms, PublishedKeys};
use crate::auth::issuer::url::{IssuerUrl, UrlProblem};
use crate::auth::{JwtKeys, JwtSettings};
use crate::domain::secret::Secret;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A request waits so long at most; whoever needs longer answers nobody.
const TIMEOUT_MAX: Duration = Duration::from_mins(1);
const REFRESH: Refresh = Refresh { min: Duration::from_mins(1), max: Duration::from_hours(1) };
const COOL_DOWN: Duration = Duration::from_secs(30);
const MAX_STALE: Duration = Duration::from_hours(24);
const CACHE: Duration = Duration::from_secs(30);
/// Below it the answer would be too old for those who waited for it; above, a token that is taken back passes for too long.
const CACHE_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
const PARALLEL: u32 = 32;

impl Resolver<'_> {
    /// Keys at a URL, or where the issuer's own document says.
    pub(super) fn published_keys(
        &mut self,
        raw: &raw::JwtKeys,
        issuer: Option<&str>,
        at: &At,
    ) -> Option<JwtKeys> {
        let location = if let Some(url) = &raw.jwks_url {
            self.issuer_url(url, &at.key("jwks_url")).map(Location::Url)
        } else {
            // A document about the issuer lies at its own address.
            let issuer = issuer.filter(|issuer| !issuer.is_empty())?;
            let url = self.issuer_url(issuer, &at.key("discovery"));
            url.map(|url| Location::Discovery(url, issuer.to_owned()))
        };
        let none = raw::Fetch::default();
        let (raw, at) = (raw.fetch.as_ref().unwrap_or(&none), at.key("fetch"));
        let min = self.positive(raw.refresh_min.as_ref(), REFRESH.min, &at.key("refresh_min"));
        let max = self.positive(raw.refresh_max.as_ref(), REFRESH.max.max(min), &at.key("refresh_max"));
        if let Some(written) = raw.refresh_max.as_ref().filter(|_| max < min) {
            let wrong = "is shorter than refresh_min";
            let remedy = format!("write at least `{}`", Span::default(min).text);
            self.notes.problem(&at.key("refresh_max"), &written.text, wrong, remedy);
        }
        let max_stale = self.positive(raw.max_stale.as_ref(), MAX_STALE.max(max), &at.key("max_stale"));
        if let Some(written) = raw.max_stale.as_ref().filter(|_| max_stale < max) {
            let wrong = "is over before the keys are fetched again";
            let remedy = format!("write at least `{}`", Span::default(max).text);
            self.notes.problem(&at.key("max_stale"), &written.text, wrong, remedy);
        }
        let cool_down = self.positive(raw.cool_down.as_ref(), COOL_DOWN, &at.key("cool_down"));
        let authorities = self.authorities(raw.ca.as_deref(), &at.key("ca"));
        let timeout = self.issuer_timeout(raw.timeout.as_ref(), &at.key("timeout"));
        // Between two fetches lies longer than any server waits.
        let access = IssuerAccess { authorities, certificate: None, timeout, idle_max: 0 };
        let terms = KeyTerms { refresh: Refresh { min, max }, cool_down, max_stale };
        Some(JwtKeys::Published(Box::new(PublishedKeys { location: location?, access, terms })))
    }

    /// An entry whose server is asked about tokens.
    pub(super) fn introspection(
        &mut self,
        name: &str,
        raw: &raw::Introspection,
        at: &At,
    ) -> Option<JwtSettings> {
        let url = raw.url.as_deref().and_then(|url| self.issuer_url(url, &at.key("url")));
        for (key, value) in
            [("client_id", &raw.client_id), ("issuer", &raw.issuer), ("subject", &raw.subject)]
        {
            if value.as_deref() == Some("") {
                self.notes.problem(
                    &at.key(key),
                    "",
                    "is empty",
                    "write a name, or leave it out where it may be",
                );
            }
        }
        let audience: Vec<String> =
            raw.audience.iter().flat_map(OneOrMany::iter).map(|(_, value)| value.clone()).collect();
        if raw.audience.is_some() && (audience.is_empty() || audience.iter().any(String::is_empty)) {
            let remedy = "write the names that may stand in `aud`, or leave it out";
            self.notes.problem(&at.key("audience"), "audience", "is empty", remedy);
        }
        let cache = raw.cache.as_ref().map_or(CACHE, |span| span.length);
        let (least, most) = CACHE_BOUNDS;
        if let Some(written) = raw.cache.as_ref().filter(|_| cache < least || cache > most) {
            let wrong = "is no time to believe an answer for";
            self.notes.problem(&at.key("cache"), &written.text, wrong, "write `1s` to `5m`");
        }
        let timeout = self.issuer_timeout(raw.timeout.as_ref(), &at.key("timeout"));
        let authorities = self.authorities(raw.ca.as_deref(), &at.key("ca"));
        let parallel = raw.parallel.unwrap_or(PARALLEL) as usize;
        let asked_at = raw.issuer.clone().or_else(|| raw.url.clone()).unwrap_or_default();
        let (proof, certificate) = self.client_proof(raw, asked_at, at)?;
        let access = IssuerAccess { authorities, certificate, timeout, idle_max: parallel };
        if access.certificate.is_some()
            && let Err(error @ (AccessError::Certificate | AccessError::Key)) = client::check(&access)
        {
            let key = if error == AccessError::Key { "key" } else { "certificate" };
            let remedy = "name PEM files: the certificate and those that signed it, and its own key";
            self.notes.problem(&at.key("client_certificate").key(key), key, error.to_string(), remedy);
        }
        let (url, client_id) = (url?, raw.client_id.clone()?);
        let subject = raw.subject.clone().unwrap_or_else(|| "sub".to_owned());
        let issuer = raw.issuer.clone();
        let source = issuer.clone().unwrap_or_else(|| name.to_owned());
        let place = url.to_string();
        let mut definition = vec!["introspection", &place, &client_id, &source, &subject];
        definition.extend(audience.iter().map(String::as_str));
        let id = entry_id(name, &definition);
        let client = Client { id: client_id, proof };
        let asking = AskSettings { url, issuer, client, cache, parallel, access };
        Some(JwtSettings {
            name: name.to_owned(),
            id,
            issuer: source,
            audience,
            keys: JwtKeys::Asked(Box::new(asking)),
            algorithms: Vec::new(),
            subject,
            types: Vec::new(),
            leeway: LEEWAY,
            trust_email: raw.trust_email.unwrap_or(false),
            access_tokens_only: false,
            claims: Vec::new(),
        })
    }

    /// What proves us to the server: what stands beside `auth` must be what it asks for, and nothing else.
    fn client_proof(
        &mut self,
        raw: &raw::Introspection,
        audience: String,
        at: &At,
    ) -> Option<(ClientProof, Option<OwnCertificate>)> {
        let auth = raw.auth.unwrap_or(ClientAuth::Basic);
        let (needed, remedy) = match auth {
            ClientAuth::Basic | ClientAuth::Post => {
                ("client_secret", "write `client_secret: { file: introspection.secret }`")
            }
            ClientAuth::PrivateKeyJwt => ("client_key", "write `client_key: { file: gateway.pem }`"),
            ClientAuth::Mtls => (
                "client_certificate",
                "write `client_certificate: { certificate: gateway.crt, key: { file: gateway.key } }`",
            ),
        };
        for (key, stands) in [
            ("client_secret", raw.client_secret.is_some()),
            ("client_key", raw.client_key.is_some()),
            ("client_certificate", raw.client_certificate.is_some()),
            ("key_id", raw.key_id.is_some()),
        ] {
            let fits = key == needed || (key == "key_id" && auth == ClientAuth::PrivateKeyJwt);
            if stands && !fits {
                let wrong = "is not used by this `auth`";
                self.notes.problem(&at.key(key), key, wrong, "leave it out, or write another `auth`");
            }
            if !stands && key == needed {
                self.notes.missing(at, key, "is missing: nothing proves who asks", remedy);
            }
        }
        match auth {
            ClientAuth::Basic | ClientAuth::Post => {
                let at = at.key("client_secret");
                let bytes = self.secret(raw.client_secret.as_ref()?, &at)?;
                let Ok(secret) = String::from_utf8(bytes.expose().clone()) else {
                    self.notes.problem(
                        &at,
                        "client_secret",
                        "is not UTF-8",
                        "write the secret as the server gave it",
                    );
                    return None;
                };
                let secret = Secret::new(secret);
                let is_basic = auth == ClientAuth::Basic;
                let proof = if is_basic { ClientProof::Basic(secret) } else { ClientProof::Post(secret) };
                Some((proof, None))
            }
            ClientAuth::PrivateKeyJwt => {
                let at = at.key("client_key");
                let pem = self.secret(raw.client_key.as_ref()?, &at)?;
                let Some(key) = AssertionKey::read(pem.expose(), raw.key_id.clone(), audience) else {
                    let remedy =
                        "write one of RSA, P-256, P-384 or Ed25519 (`openssl genpkey -algorithm ed25519`)";
                    self.notes.problem(&at, "client_key", "is no private key in PEM that can sign", remedy);
                    return None;
                };
                Some((ClientProof::Assertion(Box::new(key)), None))
            }
            ClientAuth::Mtls => {
                let (raw, at) = (raw.client_certificate.as_ref()?, at.key("client_certificate"));
                let chain = self.read_file(raw.certificate.as_deref()?, &at.key("certificate"))?;
                let key = self.secret(raw.key.as_ref()?, &at.key("key"))?;
                Some((ClientProof::Certificate, Some((chain, key))))
            }
        }
    }

    fn issuer_url(&mut self, text: &str, at: &At) -> Option<IssuerUrl> {
        let problem = match IssuerUrl::parse(text) {
            Ok(url) => return Some(url),
            Err(problem) => problem,
        };
        let remedy = match problem {
            UrlProblem::PlainHttp => "write `https://`; plain http is for this machine alone",
            UrlProblem::User => "leave it out; `client_id` and its proof say who asks",
            UrlProblem::Fragment => "leave it out: it is never sent",
            UrlProblem::NotAUrl | UrlProblem::Scheme => "write it like `https://id.example.com/path`",
        };
        // What stands before the `@` may be a password.
        let culprit = if problem == UrlProblem::User { "URL" } else { text };
        self.notes.problem(at, culprit, problem.to_string(), remedy);
        None
    }

    fn issuer_timeout(&mut self, raw: Option<&Span>, at: &At) -> Duration {
        let timeout = self.positive(raw, TIMEOUT, at);
        if let Some(written) = raw.filter(|_| timeout > TIMEOUT_MAX) {
            self.notes.problem(at, &written.text, "is longer than requests may wait", "write at most `1m`");
        }
        timeout
    }

    fn authorities(&mut self, path: Option<&str>, at: &At) -> Option<Vec<u8>> {
        let path = path?;
        let pem = self.read_file(path, at)?;
        let access =
            IssuerAccess { authorities: Some(pem.clone()), certificate: None, timeout: TIMEOUT, idle_max: 0 };
        if let Err(error) = client::check(&access) {
            let remedy = "name a PEM file with the certificates of authorities";
            self.notes.problem(at, path, error.to_string(), remedy);
        }
        Some(pem)
    }
}
