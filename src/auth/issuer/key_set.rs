//! The keys that an issuer publishes, kept fresh in the background.
//!
//! A [`KeySet`] is fetched before anybody needs it, and again as its answers say; each set that differs has a number of its own,
//! under which verdicts are remembered, so that a key that is gone takes its verdicts with it. While the issuer cannot be asked the
//! last good set counts, up to [`KeyTerms::max_stale`]. A token that names an unknown key makes us ask out of turn, once in
//! [`KeyTerms::cool_down`] however many such tokens come. Nobody who decides waits here.

use crate::auth::issuer::Surroundings;
use crate::auth::issuer::client::{IssuerAccess, IssuerClient};
use crate::auth::issuer::fetch::{self, FetchError, Fetched, Location};
use crate::auth::issuer::freshness::{self, Refresh};
use crate::auth::issuer::question::{Asked, Question};
use crate::auth::issuer::url::IssuerUrl;
use crate::auth::jwks::{Key, Published};
use crate::auth::jwt::Verifier;
use crate::domain::time::Timestamp;
use crate::telemetry::issuers::{FetchResult, KeySeries};
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The longest that a request waits for keys.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a document about an issuer counts.
const LOCATED_FOR: Duration = Duration::from_hours(1);

/// Numbers of sets, of all issuers together; zero is none's.
static REVISIONS: AtomicU64 = AtomicU64::new(1);

/// Where keys are published, and how they are looked after.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    /// Where they lie.
    pub location: Location,
    /// How the issuer is reached.
    pub access: IssuerAccess,
    /// When they are asked for again.
    pub terms: KeyTerms,
}

/// When keys are asked for again, and how long old ones count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// Between these bounds by the answer's own words.
    pub refresh: Refresh,
    /// Out of turn at most once in so long.
    pub cool_down: Duration,
    /// So long the last good set counts while there is no newer one.
    pub max_stale: Duration,
}

impl PublishedKeys {
    /// Whether keys that were fetched for `other` may be used for this: same place, proved by the same authorities.
    fn is_like(&self, other: &Self) -> bool {
        self.location == other.location && self.access.authorities == other.access.authorities
    }

    /// Whether they are looked after in the same way too.
    fn is_same(&self, other: &Self) -> bool {
        self.is_like(other) && self.terms == other.terms && self.access.timeout == other.access.timeout
    }
}

/// A set as it was fetched.
struct Held {
    keys: Arc<[Key]>,
    revision: u64,
    /// A digest of the text.
    text: [u8; 32],
    /// When the issuer last said that it is good.
    at: Timestamp,
    /// The tag that it was given with, and by which address.
    tag: Option<(IssuerUrl, HeaderValue)>,
}

/// The keys of one issuer.
pub struct KeySet {
    settings: PublishedKeys,
    held: ArcSwapOption<Held>,
    /// The number of `held`, or of its absence: what verdicts are remembered under.
    revision: AtomicU64,
    asking: Mutex<Asking>,
    wake: Arc<Notify>,
    series: Mutex<Vec<KeySeries>>,
    task: Mutex<Option<AbortHandle>>,
    surroundings: Option<Surroundings>,
}

/// What is asked at the moment.
#[derive(Default)]
struct Asking {
    /// A fetch is under way, or about to be.
    flight: Option<Question>,
    /// It was ordered out of turn and has not begun.
    ordered: Option<Asked>,
    /// When one was last ordered out of turn.
    forced_at: Option<Timestamp>,
}

impl KeySet {
    /// A set that nobody looks after: it has no keys, and never will.
    pub fn idle(settings: PublishedKeys) -> Arc<Self> {
        Arc::new(Self::new(settings, None, None))
    }

    fn new(settings: PublishedKeys, surroundings: Option<Surroundings>, before: Option<&Self>) -> Self {
        let held = before.and_then(|before| before.held.load_full());
        let revision = held.as_ref().map_or_else(next_revision, |held| held.revision);
        // Whoever comes before the first fetch has begun waits for it as well.
        let (asked, question) = Question::new(WAIT_MAX);
        let asking = match surroundings {
            Some(_) => Asking { flight: Some(question), ordered: Some(asked), forced_at: None },
            None => Asking::default(),
        };
        Self {
            settings,
            held: ArcSwapOption::new(held),
            revision: AtomicU64::new(revision),
            asking: Mutex::new(asking),
            wake: Arc::default(),
            series: Mutex::default(),
            task: Mutex::default(),
            surroundings,
        }
    }

    /// The number of what is held: another one whenever keys come or go.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The keys; none before the first set, and none when the last good one is too old.
    pub(in crate::auth) fn keys(&self) -> Option<Arc<[Key]>> {
        self.held.load().as_ref().map(|held| held.keys.clone())
    }

    /// A fetch that is under way.
    pub(in crate::auth) fn under_way(&self) -> Option<Question> {
        self.asking.lock().flight.clone()
    }

    /// Asks for keys out of turn, for a token names one that is not held. Nothing, if that was done a moment ago.
    pub(in crate::auth) fn ask(&self) -> Option<Question> {
        let now = self.surroundings.as_ref()?.clock.now();
        let mut asking = self.asking.lock();
        if let Some(flight) = &asking.flight {
            return Some(flight.clone());
        }
        if asking.forced_at.is_some_and(|at| now < at.plus(self.settings.terms.cool_down)) {
            return None;
        }
        let (asked, question) = Question::new(WAIT_MAX);
        *asking = Asking { flight: Some(question.clone()), ordered: Some(asked), forced_at: Some(now) };
        drop(asking);
        self.count(KeySeries::forced);
        self.wake.notify_one();
        Some(question)
    }

    /// A fetch begins: what was ordered, or one whose turn it is.
    fn begin(&self) -> Asked {
        let mut asking = self.asking.lock();
        asking.ordered.take().unwrap_or_else(|| {
            let (asked, question) = Question::new(WAIT_MAX);
            asking.flight = Some(question);
            asked
        })
    }

    /// It has ended; whoever waits goes on.
    fn end(&self, asked: Asked) {
        self.asking.lock().flight = None;
        drop(asked);
    }

    fn is_ordered(&self) -> bool {
        self.asking.lock().ordered.is_some()
    }

    /// Takes an answer in.
    fn take(&self, url: &IssuerUrl, fetched: Fetched, now: Timestamp) {
        let before = self.held.load_full();
        let tag = fetched.tag().map(|tag| (url.clone(), tag));
        let (text, keys) = match fetched {
            Fetched::Unchanged(_) => (None, None),
            Fetched::Set { published, body, .. } => {
                let text = digest(&SHA256, &body);
                (Some(*text.as_ref().first_chunk::<32>().expect("SHA-256 has 32 bytes")), Some(published))
            }
        };
        let same = before.as_ref().filter(|before| text.is_none_or(|text| before.text == text));
        let (held, result) = match (same, keys, text) {
            (Some(before), ..) => {
                let tag = tag.or_else(|| before.tag.clone());
                (Held { keys: before.keys.clone(), at: now, tag, ..**before }, FetchResult::Unchanged)
            }
            (None, Some(published), Some(text)) => {
                tell(url, &published);
                let keys = published.keys.into();
                (Held { keys, revision: next_revision(), text, at: now, tag }, FetchResult::New)
            }
            // They became too old while the answer was on its way.
            (None, ..) => return,
        };
        self.count(|series| series.fetched(result));
        let revision = held.revision;
        self.count(|series| series.holds(held.keys.len()));
        // The keys first: a verdict by newer keys under the older number is one that nobody finds.
        self.held.store(Some(Arc::new(held)));
        self.revision.store(revision, Ordering::Release);
    }

    fn failed(&self, error: &FetchError) {
        self.count(|series| series.fetched(FetchResult::Failed));
        let place = match &self.settings.location {
            Location::Url(url) | Location::Discovery(url, _) => url,
        };
        if self.held.load().is_some() {
            tracing::warn!(url = %place, "keys cannot be fetched: {error}; the last good set counts");
        } else {
            tracing::warn!(url = %place, "keys cannot be fetched: {error}; tokens are answered with 503 until there are some");
        }
    }

    /// For how long what is held still counts; nothing is held: for ever.
    fn counts_for(&self, now: Timestamp) -> Duration {
        let held = self.held.load();
        held.as_ref().map_or(Duration::MAX, |held| held.at.plus(self.settings.terms.max_stale).since(now))
    }

    fn drop_if_stale(&self, now: Timestamp) {
        if self.counts_for(now).is_zero() {
            self.held.store(None);
            self.revision.store(next_revision(), Ordering::Release);
            self.count(|series| series.holds(0));
            tracing::error!("the last good keys of an issuer are older than `max_stale`; they count no more");
        }
    }

    fn count(&self, what: impl Fn(&KeySeries)) {
        self.series.lock().iter().for_each(what);
    }

    /// Sets the gauge of its age.
    fn note_age(&self, now: Timestamp) {
        let age = self.held.load().as_ref().map(|held| now.since(held.at));
        self.count(|series| series.is_old(age));
    }
}

impl Drop for KeySet {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

fn tell(url: &IssuerUrl, published: &Published) {
    let keys = published.keys.len();
    tracing::info!(%url, keys, "new keys of an issuer are in force");
    for skipped in &published.skipped {
        tracing::warn!(%url, "a published key is not used: {skipped}");
    }
    if keys == 0 {
        tracing::warn!(%url, "an issuer publishes no key that could be used; its tokens are refused");
    }
}

fn next_revision() -> u64 {
    REVISIONS.fetch_add(1, Ordering::Relaxed)
}

/// The published keys of all entries: one object for the life of the process.
pub struct KeySets {
    surroundings: Surroundings,
    held: Mutex<Vec<Arc<KeySet>>>,
}

impl KeySets {
    /// None yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, held: Mutex::default() }
    }

    /// Gives the verifiers of a configuration their keys, and forgets those that none of them needs any more. What was fetched
    /// for the same place stays in force; what is new is fetched in the background. `series` are those of an entry.
    pub fn look_after<'a>(
        &self,
        verifiers: impl IntoIterator<Item = &'a mut Verifier>,
        series: &dyn Fn(&str) -> KeySeries,
    ) {
        let mut held = self.held.lock();
        let mut kept: Vec<Arc<KeySet>> = Vec::new();
        for verifier in verifiers {
            let name = verifier.name().to_owned();
            let Some(published) = verifier.published_mut() else { continue };
            let settings = &published.settings;
            let same = |set: &&Arc<KeySet>| set.settings.is_same(settings);
            let set = if let Some(shared) = kept.iter().find(same) {
                shared.clone()
            } else {
                let set = held.iter().find(same).cloned().unwrap_or_else(|| {
                    let before = held.iter().find(|set| set.settings.is_like(settings));
                    self.start(settings.clone(), before)
                });
                set.series.lock().clear();
                kept.push(set.clone());
                set
            };
            let series = series(&name);
            series.holds(set.keys().map_or(0, |keys| keys.len()));
            set.series.lock().push(series);
            *published = set;
        }
        *held = kept;
    }

    /// Sets the gauges of ages.
    pub fn note_ages(&self) {
        let now = self.surroundings.clock.now();
        for set in self.held.lock().iter() {
            set.note_age(now);
        }
    }

    fn start(&self, settings: PublishedKeys, before: Option<&Arc<KeySet>>) -> Arc<KeySet> {
        let set = KeySet::new(settings, Some(self.surroundings.clone()), before.map(Arc::as_ref));
        let set = Arc::new(set);
        let keeper = Keeper {
            set: Arc::downgrade(&set),
            access: set.settings.access.clone(),
            surroundings: self.surroundings.clone(),
            client: None,
            located: None,
            failures: 0,
        };
        let task = self.surroundings.runtime.spawn(keeper.keep());
        *set.task.lock() = Some(task.abort_handle());
        set
    }
}

/// Fetches a set again and again, until nobody needs it.
struct Keeper {
    set: Weak<KeySet>,
    access: IssuerAccess,
    surroundings: Surroundings,
    client: Option<Arc<IssuerClient>>,
    /// Where the keys lie, and since when that is known.
    located: Option<(IssuerUrl, Timestamp)>,
    failures: u32,
}

impl Keeper {
    async fn keep(mut self) {
        while let Some(set) = self.set.upgrade() {
            let asked = set.begin();
            let pause = self.fetch_once(&set).await;
            set.end(asked);
            let wake = set.wake.clone();
            drop(set);
            self.pause(pause, &wake).await;
        }
    }

    /// Fetches, and says after how long again.
    async fn fetch_once(&mut self, set: &KeySet) -> Duration {
        let bounds = set.settings.terms.refresh;
        let Some(client) = self.client().await else { return freshness::pause(u32::MAX, bounds) };
        match self.fetch(&client, set).await {
            Ok((url, fetched)) => {
                self.failures = 0;
                let lifetime = freshness::lifetime(fetched.headers(), bounds);
                set.take(&url, fetched, self.surroundings.clock.now());
                lifetime
            }
            Err(error) => {
                // Perhaps they lie elsewhere by now.
                self.located = None;
                self.failures = self.failures.saturating_add(1);
                set.failed(&error);
                freshness::pause(self.failures, bounds)
            }
        }
    }

    async fn fetch(
        &mut self,
        client: &IssuerClient,
        set: &KeySet,
    ) -> Result<(IssuerUrl, Fetched), FetchError> {
        let now = self.surroundings.clock.now();
        let known = self.located.as_ref().filter(|(_, at)| now < at.plus(LOCATED_FOR));
        let url = if let Some((url, _)) = known {
            url.clone()
        } else {
            let url = fetch::locate(client, &set.settings.location).await?;
            self.located = Some((url.clone(), now));
            url
        };
        let held = set.held.load_full();
        let tag = held.as_ref().and_then(|held| held.tag.as_ref()).filter(|(from, _)| *from == url);
        let fetched = fetch::fetch(client, &url, tag.map(|(_, tag)| tag)).await?;
        Ok((url, fetched))
    }

    /// The client, made when it is first needed: reading what the system trusts takes its time, and none of ours.
    async fn client(&mut self) -> Option<Arc<IssuerClient>> {
        if self.client.is_none() {
            let access = self.access.clone();
            let made = self.surroundings.runtime.spawn_blocking(move || IssuerClient::new(&access)).await;
            self.client = made.ok().and_then(Result::ok).map(Arc::new);
        }
        self.client.clone()
    }

    /// Waits for the next turn, or until a fetch is ordered; sees to it that old keys do not count for ever.
    async fn pause(&self, pause: Duration, wake: &Notify) {
        let turn = tokio::time::sleep(pause);
        tokio::pin!(turn);
        loop {
            let Some(set) = self.set.upgrade() else { return };
            let now = self.surroundings.clock.now();
            set.drop_if_stale(now);
            if set.is_ordered() {
                return;
            }
            let stale = tokio::time::sleep(set.counts_for(now).min(LOCATED_FOR));
            drop(set);
            tokio::select! {
                () = &mut turn => return,
                () = wake.notified() => {}
                () = stale => {}
            }
        }
    }
}
