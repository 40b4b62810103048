//! Opaque bearer tokens: the server that issued them is asked about each (RFC 7662).
//!
//! What it says is believed as long as the file allows, never beyond the token's `exp`; a refusal is remembered for a few seconds,
//! a failure for one. Answers are found under the whole token's fingerprint, in caches of this entry alone. However many requests
//! bring a token, it is asked about once; and only so many questions are under way at once. A server that is down costs those
//! whose tokens nobody knows yet a 503; what was answered before still counts.

use crate::auth::believed::{self, Held};
use crate::auth::issuer::Surroundings;
use crate::auth::issuer::client::{AskError, IssuerAccess, IssuerClient};
use crate::auth::issuer::client_auth::Client;
use crate::auth::issuer::heard::{Heard, heard};
use crate::auth::issuer::question::{Asked, Question};
use crate::auth::issuer::url::IssuerUrl;
use crate::auth::jwt::{Refusal, Verified, Verifier};
use crate::auth::{JwtKeys, JwtSettings};
use crate::domain::access::EntryId;
use crate::domain::decision::Believed;
use crate::domain::fingerprint::Fingerprint;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::telemetry::issuers::{AskResult, AskSeries};
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// How long a token that the server refused is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long after a failure.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// Failures are told once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Whoever waits does so a little longer than the question takes at most, to hear what came of it.
const NOTING_MAX: Duration = Duration::from_millis(250);
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Tokens that are asked about or wait for their turn.
const WAITING_MAX: usize = 1000;
/// Tens of thousands of tokens with everyday claims, in each entry.
const BELIEVED_BYTES_MAX: u64 = 16 * 1024 * 1024;
const REFUSED_MAX: u64 = 20_000;

/// How a server is asked about tokens.
#[derive(Clone, Debug)]
pub struct AskSettings {
    /// Its introspection endpoint.
    pub url: IssuerUrl,
    /// What `iss` must be where the server says one.
    pub issuer: Option<String>,
    /// Who we are to it.
    pub client: Client,
    /// The longest time for which an answer is believed.
    pub cache: Duration,
    /// Questions under way at once.
    pub parallel: usize,
    /// How it is reached.
    pub access: IssuerAccess,
}

/// What is known of a token.
pub(in crate::auth) enum LookUp {
    /// It is believed.
    Believed(Arc<Believed>),
    /// It is not.
    Refused(Refusal),
    /// Nobody knows; this answers it.
    Ask(Question),
    /// Nobody can say at the moment; why, is a word for the log.
    Unavailable(&'static str),
}

/// Why a token is not believed: refused, or, without a reason, not answered.
#[derive(Clone, Copy)]
struct NotBelieved {
    why: Option<Refusal>,
    at: Timestamp,
}

/// One entry whose server is asked.
pub struct Introspection {
    settings: JwtSettings,
    asking: AskSettings,
    /// Makes an identity of what the server says.
    reader: Verifier,
    /// Tells this entry, as it is written, from any other.
    definition: [u8; 32],
    believed: Held<Fingerprint>,
    refused: Cache<Fingerprint, NotBelieved>,
    flights: Mutex<HashMap<Fingerprint, Question>>,
    places: Semaphore,
    client: OnceCell<Option<IssuerClient>>,
    told_at: Mutex<Option<Timestamp>>,
    surroundings: Surroundings,
    series: AskSeries,
}

/// A question under way. However it ends, the next one about the same token may be asked then.
struct Flight {
    of: Arc<Introspection>,
    token: Fingerprint,
    _asked: Asked,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.of.flights.lock().remove(&self.token);
    }
}

/// Why a server gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("its answer has the status {0}; is `client_id` known there, and its proof right?")]
    Unproved(StatusCode),
    #[error("its answer has the status {0}")]
    Status(StatusCode),
    #[error("its answer is no JSON object with a boolean `active`, and every name once")]
    Unusable,
    #[error("the question could not be made")]
    NotAsked,
    #[error("no answer in time")]
    Late,
}

impl Introspection {
    fn new(
        settings: &JwtSettings,
        asking: &AskSettings,
        definition: [u8; 32],
        surroundings: Surroundings,
        series: AskSeries,
    ) -> Self {
        let believed = believed::cache(BELIEVED_BYTES_MAX);
        let refused =
            Cache::builder().max_capacity(REFUSED_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self {
            settings: settings.clone(),
            asking: asking.clone(),
            reader: Verifier::reader(settings),
            definition,
            believed,
            refused,
            flights: Mutex::default(),
            places: Semaphore::new(asking.parallel),
            client: OnceCell::new(),
            told_at: Mutex::default(),
            surroundings,
            series,
        }
    }

    /// The entry's fingerprint.
    pub(in crate::auth) fn id(&self) -> EntryId {
        self.settings.id
    }

    /// What is known of a token; where nothing is, the server is asked.
    pub(in crate::auth) fn look_up(
        self: &Arc<Self>,
        text: &str,
        token: Fingerprint,
        wall: Timestamp,
    ) -> LookUp {
        if let Some(known) = self.known(token, wall) {
            return known;
        }
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&token) {
            return LookUp::Ask(flight.clone());
        }
        // Its flight may have ended between both looks.
        if let Some(known) = self.known(token, wall) {
            return known;
        }
        if flights.len() >= WAITING_MAX {
            drop(flights);
            self.series.asked(AskResult::Busy);
            return LookUp::Unavailable("introspection_busy");
        }
        let (asked, question) = Question::new(self.asking.access.timeout.saturating_add(NOTING_MAX));
        flights.insert(token, question.clone());
        drop(flights);
        let flight = Flight { of: self.clone(), token, _asked: asked };
        self.surroundings.runtime.spawn(flight.run(Secret::new(text.to_owned())));
        LookUp::Ask(question)
    }

    fn known(&self, token: Fingerprint, wall: Timestamp) -> Option<LookUp> {
        // An answer that came while the request was being read is not from the future.
        let is_past = |at: Timestamp| at <= wall.plus(self.asking.access.timeout);
        let holds = |believed: &Arc<Believed>| {
            let ends_at = believed.expires_at.min(believed.verified_at.plus(self.asking.cache));
            is_past(believed.verified_at) && wall < ends_at
        };
        if let Some(believed) = self.believed.get(&token).filter(holds) {
            return Some(LookUp::Believed(believed));
        }
        let NotBelieved { why, at } = self.refused.get(&token)?;
        let ends_at = at.plus(if why.is_some() { REFUSED_FOR } else { FAILED_FOR });
        if !is_past(at) || wall >= ends_at {
            return None;
        }
        Some(why.map_or(LookUp::Unavailable("introspection_unavailable"), LookUp::Refused))
    }

    /// Asks, once it is our turn.
    async fn ask(&self, token: &Secret<String>) -> Result<Result<Box<Verified>, Refusal>, NoAnswer> {
        let _place = self.places.acquire().await.map_err(|_| NoAnswer::NotAsked)?;
        let client = self.client.get_or_init(|| self.make_client()).await.as_ref();
        let client = client.ok_or(NoAnswer::NotAsked)?;
        let request = self.question(token).ok_or(NoAnswer::NotAsked)?;
        let reply = client.ask(&self.asking.url, request, ANSWER_BYTES_MAX).await?;
        match reply.status {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(NoAnswer::Unproved(status));
            }
            status => return Err(NoAnswer::Status(status)),
        }
        let wall = self.surroundings.clock.wall();
        let until = wall.plus(self.asking.cache);
        match heard(&reply.body, &self.reader, (&self.settings, &self.asking), wall, until) {
            Heard::Believed(verified) => Ok(Ok(verified)),
            Heard::Refused(why) => Ok(Err(why)),
            Heard::Unusable => Err(NoAnswer::Unusable),
        }
    }

    /// Reading what the system trusts takes its time, and none of others'.
    async fn make_client(&self) -> Option<IssuerClient> {
        let access = self.asking.access.clone();
        let made = self.surroundings.runtime.spawn_blocking(move || IssuerClient::new(&access)).await;
        made.ok().and_then(Result::ok)
    }

    /// RFC 7662 §2.1.
    fn question(&self, token: &Secret<String>) -> Option<Request<Full<Bytes>>> {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token.expose()).append_pair("token_type_hint", "access_token");
        let wall = self.surroundings.clock.wall();
        let authorization = self.asking.client.prove(&mut form, wall).ok()?;
        let mut request = Request::new(Full::from(form.finish()));
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Some(request)
    }

    /// Remembers what came of a question.
    fn note(&self, token: Fingerprint, answer: Result<Result<Box<Verified>, Refusal>, NoAnswer>) {
        let at = self.surroundings.clock.wall();
        let (result, why) = match answer {
            Ok(Ok(verified)) => {
                let Verified { identity, expires_at, token: facts } = *verified;
                let entry = self.id();
                let believed = Believed { identity, expires_at, entry, verified_at: at, token: facts };
                self.believed.insert(token, Arc::new(believed));
                self.refused.invalidate(&token);
                self.series.asked(AskResult::Believed);
                return;
            }
            Ok(Err(why)) => (AskResult::Refused, Some(why)),
            Err(error) => {
                self.tell(&error, at);
                (AskResult::Failed, None)
            }
        };
        if why.is_some() {
            self.believed.invalidate(&token);
        }
        self.refused.insert(token, NotBelieved { why, at });
        self.series.asked(result);
    }

    fn tell(&self, error: &NoAnswer, at: Timestamp) {
        let mut told_at = self.told_at.lock();
        if told_at.is_none_or(|told| at >= told.plus(TOLD_EVERY) || at < told) {
            *told_at = Some(at);
            let entry = &self.settings.name;
            tracing::warn!(%entry, url = %self.asking.url, "tokens cannot be asked about: {error}; those that nobody knows are answered with 503");
        }
    }
}

impl Flight {
    async fn run(self, token: Secret<String>) {
        let answer = tokio::time::timeout(self.of.asking.access.timeout, self.of.ask(&token)).await;
        // Remembered first; then this is dropped, and whoever waits looks.
        self.of.note(self.token, answer.unwrap_or(Err(NoAnswer::Late)));
    }
}

/// The servers of all entries that ask: one object for the life of the process.
pub struct Introspections {
    surroundings: Surroundings,
    held: Mutex<Vec<Arc<Introspection>>>,
}

impl Introspections {
    /// None yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, held: Mutex::default() }
    }

    /// Those of a configuration. What was answered to an entry that is written as before still counts. `series` are those of an
    /// entry.
    pub fn look_after(
        &self,
        entries: &[JwtSettings],
        series: &dyn Fn(&str) -> AskSeries,
    ) -> Vec<Arc<Introspection>> {
        let mut held = self.held.lock();
        let made = entries.iter().filter_map(|settings| {
            let JwtKeys::Asked(asking) = &settings.keys else { return None };
            let definition = definition(settings, asking);
            let before = held.iter().find(|one| one.definition == definition).cloned();
            Some(before.unwrap_or_else(|| {
                let (surroundings, series) = (self.surroundings.clone(), series(&settings.name));
                Arc::new(Introspection::new(settings, asking, definition, surroundings, series))
            }))
        });
        let made: Vec<_> = made.collect();
        held.clone_from(&made);
        made
    }
}

/// A digest over everything that an answer depends on, secrets included.
fn definition(settings: &JwtSettings, asking: &AskSettings) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    };
    // Everything but secrets shows there.
    part(format!("{settings:?}").as_bytes());
    part(asking.client.secret());
    part(asking.access.certificate.as_ref().map_or(&[][..], |(_, key)| key.expose()));
    let digest = context.finish();
    *digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}
