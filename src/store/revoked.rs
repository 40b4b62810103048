//! Bearer tokens that were revoked: by name, all of a subject, or all of a source, issued by some instant.
//!
//! A token is asked about with every request that it comes with, whatever is remembered of it. Where nothing is revoked that
//! costs a load. An entry lives until no token can that it speaks of; there is a bound to them, and a full table refuses
//! another, for one that is forgotten lets a token in again. A durable store keeps them too ([`SqliteStore`]), and a process that
//! takes over has them as well.

mod travel;

use crate::domain::decision::Believed;
use crate::domain::fingerprint::{Fingerprint, Fingerprints};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::store::journal::{Commit, Journal};
use crate::store::sqlite::SqliteStore;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// So many entries there may be; some 10 MiB.
pub const ENTRIES_MAX: usize = 100_000;
const SHARDS: usize = 16;

/// Which tokens of a source are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of this `jti`.
    Named(String),
    /// Those of this subject, in header form.
    Of(String),
    /// All.
    All,
}

/// A decision that tokens count no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Of which source, in header form.
    pub source: String,
    /// Which of them.
    pub which: Which,
    /// Those that were issued until then, this instant included; one that does not say when counts as issued before. It says
    /// nothing about a token that is named.
    pub issued_by: Timestamp,
    /// When none of them can live any more, by the wall clock.
    pub ends_at: Timestamp,
}

impl Revocation {
    /// Whether it speaks of a token of its source and its kind that was issued then.
    fn covers(issued_by: Option<Timestamp>, issued_at: Option<Timestamp>) -> bool {
        issued_by.is_none_or(|by| issued_at.is_none_or(|at| at <= by))
    }
}

/// There are as many entries as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "as many revocations are remembered as may be (100000); revoke the tokens of a subject, or all issued before an instant: \
     that takes one entry for any number of tokens. Entries end with `tokens.NAME.max_lifetime`"
)]
pub struct Full;

#[derive(Clone, Copy)]
struct Entry {
    /// `None`: whenever it was issued.
    issued_by: Option<Timestamp>,
    ends_at: Timestamp,
}

/// What was revoked: one object for the life of the process.
pub struct RevokedTokens {
    shards: [RwLock<HashMap<Fingerprint, Entry>>; SHARDS],
    own: Fingerprints,
    /// Those of the process that this one took over from, whose entries these are.
    adopted: OnceLock<Fingerprints>,
    /// How many entries there are; none are looked for where there are none.
    count: AtomicUsize,
    /// Milliseconds since 1970 at which the first of them ends, or earlier.
    next_end: AtomicU64,
    store: OnceLock<Arc<SqliteStore>>,
    /// One change at a time; another process hears of each by this.
    writing: Mutex<Option<Arc<dyn Journal>>>,
}

impl Default for RevokedTokens {
    fn default() -> Self {
        Self::new()
    }
}

impl RevokedTokens {
    /// Nothing is revoked.
    ///
    /// # Panics
    ///
    /// If the operating system has no random bytes to give.
    pub fn new() -> Self {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self {
            shards: Default::default(),
            own: Fingerprints::new(Secret::new(key)),
            adopted: OnceLock::new(),
            count: AtomicUsize::new(0),
            next_end: AtomicU64::new(u64::MAX),
            store: OnceLock::new(),
            writing: Mutex::new(None),
        }
    }

    /// From now on this store keeps them too, and what it has kept is in force again. To be called once, before anybody asks.
    pub fn keep_in(&self, store: Arc<SqliteStore>, kept: &[Revocation]) {
        for revocation in kept {
            // As many as the file holds: it got no more than there was room for, by one key or another.
            self.take(revocation, usize::MAX);
        }
        // Set once: a second store of a process is a mistake of the caller's, and changes nothing.
        let _ = self.store.set(store);
    }

    /// Puts a revocation in force, at once; durable where a store keeps them when the commit says so. If it cannot be written,
    /// it is in force all the same, and written as soon as that is possible.
    ///
    /// # Errors
    ///
    /// There is no room; nothing has changed.
    pub fn add(&self, revocation: Revocation, wall: Timestamp) -> Result<Commit, Full> {
        let relay = self.writing.lock();
        self.sweep_now(wall);
        let Entry { issued_by, ends_at } = self.take(&revocation, ENTRIES_MAX).ok_or(Full)?;
        let issued_by = issued_by.unwrap_or(revocation.issued_by);
        let revocation = Revocation { issued_by, ends_at, ..revocation };
        if let Some(relay) = relay.as_ref().filter(|relay| relay.follows()) {
            return Ok(relay.revoked(revocation));
        }
        let told = relay.as_ref().map(|relay| relay.revoked(revocation.clone()));
        let kept = self.store.get().map_or_else(Commit::ready, |store| store.revoke(revocation));
        Ok(kept.and(told.unwrap_or(Commit::ready())))
    }

    /// Whether the token was revoked. One load where nothing is; else a hash and a read lock of a shard for each of three
    /// entries that could speak of it.
    pub fn covers(&self, token: &Believed) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let identity = token.identity.as_ref();
        let (source, subject) = (identity.source().as_bytes(), identity.subject().as_bytes());
        let issued_at = token.token.issued_at;
        let named = token.token.jti.as_deref().map(|jti| self.key(b"jti", source, jti.as_bytes()));
        let keys = [Some(self.key(b"all", source, b"")), Some(self.key(b"sub", source, subject)), named];
        keys.into_iter().flatten().any(|key| {
            let entry = self.shard(key).read().get(&key).copied();
            entry.is_some_and(|entry| Revocation::covers(entry.issued_by, issued_at))
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops entries whose tokens are all dead by themselves. Cheap where there are none.
    pub fn sweep(&self, wall: Timestamp) {
        if wall.as_millis() >= self.next_end.load(Ordering::Relaxed) {
            let _one_at_a_time = self.writing.lock();
            self.sweep_now(wall);
        }
    }

    fn sweep_now(&self, wall: Timestamp) {
        if wall.as_millis() < self.next_end.load(Ordering::Relaxed) {
            return;
        }
        let (mut count, mut next_end) = (0, u64::MAX);
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|_, entry| entry.ends_at > wall);
            count += shard.len();
            next_end = shard.values().map(|entry| entry.ends_at.as_millis()).fold(next_end, u64::min);
        }
        self.count.store(count, Ordering::Release);
        self.next_end.store(next_end, Ordering::Relaxed);
    }

    /// Takes an entry in if there are fewer than `max`, or one for the same tokens, which then reaches as far as both: that one.
    fn take(&self, revocation: &Revocation, max: usize) -> Option<Entry> {
        let Revocation { source, which, issued_by, ends_at } = revocation;
        let (kind, name, issued_by): (&[u8], &str, _) = match which {
            Which::Named(jti) => (b"jti", jti, None),
            Which::Of(subject) => (b"sub", subject, Some(*issued_by)),
            Which::All => (b"all", "", Some(*issued_by)),
        };
        let key = self.key(kind, source.as_bytes(), name.as_bytes());
        self.insert(key, Entry { issued_by, ends_at: *ends_at }, max)
    }

    fn insert(&self, key: Fingerprint, entry: Entry, max: usize) -> Option<Entry> {
        let mut shard = self.shard(key).write();
        match shard.get_mut(&key) {
            Some(held) => {
                held.issued_by = held.issued_by.max(entry.issued_by);
                held.ends_at = held.ends_at.max(entry.ends_at);
                Some(*held)
            }
            None if self.count.load(Ordering::Relaxed) >= max => None,
            None => {
                shard.insert(key, entry);
                self.next_end.fetch_min(entry.ends_at.as_millis(), Ordering::Relaxed);
                self.count.fetch_add(1, Ordering::Release);
                Some(entry)
            }
        }
    }

    fn key(&self, kind: &[u8], source: &[u8], name: &[u8]) -> Fingerprint {
        self.fingerprints().of_parts([kind, source, name])
    }

    fn fingerprints(&self) -> &Fingerprints {
        self.adopted.get().unwrap_or(&self.own)
    }

    fn shard(&self, key: Fingerprint) -> &RwLock<HashMap<Fingerprint, Entry>> {
        &self.shards[key.index(SHARDS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::identity::{Claims, Identity};
    use crate::domain::token_facts::TokenFacts;
    use std::time::Duration;

    pub(super) const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    pub(super) fn noon(after: u64) -> Timestamp {
        NOON.plus(Duration::from_secs(after))
    }

    pub(super) fn token(source: &str, subject: &str, jti: Option<&str>, issued_at: Option<u64>) -> Believed {
        Believed {
            identity: Identity::new(subject, source, &Claims::new()).expect("it packs"),
            expires_at: noon(3600),
            entry: EntryId(1),
            verified_at: NOON,
            token: TokenFacts {
                jti: jti.map(Into::into),
                issued_at: issued_at.map(noon),
                ..TokenFacts::default()
            },
        }
    }

    pub(super) fn revocation(source: &str, which: Which, issued_by: u64, ends_at: u64) -> Revocation {
        Revocation { source: source.to_owned(), which, issued_by: noon(issued_by), ends_at: noon(ends_at) }
    }

    fn add(revoked: &RevokedTokens, revocation: Revocation) {
        revoked.add(revocation, NOON).expect("there is room").forget();
    }

    #[test]
    fn each_kind_of_revocation_reaches_so_far_and_no_farther() {
        let revoked = RevokedTokens::new();
        let tokens = [
            token("a", "alice", Some("1"), Some(10)),
            token("a", "alice", Some("2"), Some(20)),
            token("a", "alice", None, None),
            token("a", "bob", Some("3"), Some(10)),
            token("b", "alice", Some("1"), Some(10)),
            token("aa", "lice", Some("1"), Some(10)),
        ];
        let covered = || tokens.iter().map(|token| u8::from(revoked.covers(token))).collect::<Vec<_>>();
        assert_eq!(covered(), [0; 6]);
        add(&revoked, revocation("a", Which::Named("2".to_owned()), 0, 99));
        assert_eq!(covered(), [0, 1, 0, 0, 0, 0]);
        add(&revoked, revocation("a", Which::Of("alice".to_owned()), 10, 99));
        assert_eq!(covered(), [1, 1, 1, 0, 0, 0], "who does not say when was issued before");
        add(&revoked, revocation("a", Which::All, 9, 99));
        assert_eq!(covered(), [1, 1, 1, 0, 0, 0], "bob's was issued later");
        add(&revoked, revocation("a", Which::All, 10, 99));
        assert_eq!(covered(), [1, 1, 1, 1, 0, 0]);
        add(&revoked, revocation("a", Which::All, 0, 50));
        assert_eq!(covered(), [1, 1, 1, 1, 0, 0], "a narrower one takes nothing back");
        assert_eq!(revoked.len(), 3);
    }

    #[test]
    fn an_entry_ends_when_no_token_of_it_can_live() {
        let revoked = RevokedTokens::new();
        let alice = token("a", "alice", Some("1"), Some(0));
        add(&revoked, revocation("a", Which::Named("1".to_owned()), 0, 50));
        add(&revoked, revocation("a", Which::Named("2".to_owned()), 0, 60));
        for (now, held, covered) in [(49, 2, true), (50, 1, false), (60, 0, false)] {
            revoked.sweep(noon(now));
            assert_eq!((revoked.len(), revoked.covers(&alice)), (held, covered), "{now}");
        }
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nothing() {
        let revoked = RevokedTokens::new();
        for number in 0..ENTRIES_MAX {
            add(&revoked, revocation("a", Which::Named(number.to_string()), 0, 50));
        }
        let more = revocation("a", Which::Named("more".to_owned()), 0, 90);
        assert_eq!(revoked.add(more.clone(), noon(49)).err(), Some(Full));
        assert!(revoked.covers(&token("a", "alice", Some("0"), None)));
        add(&revoked, revocation("a", Which::Named("7".to_owned()), 0, 50));
        assert!(revoked.add(more, noon(50)).is_ok(), "the others have ended");
        assert_eq!(revoked.len(), 1);
    }
}
