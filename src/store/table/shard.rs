//! Part of a table: digest → session.

use super::STEP;
use crate::domain::session::{Clocks, End, Session, State};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use hashbrown::HashTable;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Part of the sessions. A line of cache each: two threads that look up different sessions do not slow each other.
#[repr(align(64))]
pub(super) struct Shard {
    pub(super) sessions: RwLock<HashTable<Session>>,
    /// No session in here reaches a deadline before this instant: uses only move deadlines away from it.
    due_at: AtomicU64,
}

/// What a look at every session of a shard gave.
#[derive(Default)]
pub(super) struct Stock {
    /// Sessions that are over, up to [`STEP`].
    pub(super) over: Vec<(Session, End)>,
    /// Tokens that serve no longer.
    pub(super) superseded: Vec<Session>,
    pub(super) looked_at: usize,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { sessions: RwLock::new(HashTable::new()), due_at: AtomicU64::new(u64::MAX) }
    }

    pub(super) fn held(&self, digest: &TokenDigest) -> Option<Session> {
        self.sessions.read().find(digest.hash64(), |held| held.digest() == digest).cloned()
    }

    pub(super) fn insert(&self, session: Session, due_at_millis: u64) {
        let mut sessions = self.sessions.write();
        sessions.insert_unique(session.digest().hash64(), session, |held| held.digest().hash64());
        self.due_at.fetch_min(due_at_millis, Ordering::Relaxed);
    }

    pub(super) fn replace(&self, session: Session) {
        let digest = *session.digest();
        let mut sessions = self.sessions.write();
        if let Some(held) = sessions.find_mut(digest.hash64(), |held| *held.digest() == digest) {
            *held = session;
        }
    }

    pub(super) fn remove(&self, digest: &TokenDigest) {
        let mut sessions = self.sessions.write();
        if let Ok(entry) = sessions.find_entry(digest.hash64(), |held| held.digest() == digest) {
            entry.remove();
        }
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due_at.load(Ordering::Relaxed) <= now.as_millis()
    }

    pub(super) fn may_be_due_now(&self) {
        self.due_at.store(0, Ordering::Relaxed);
    }

    pub(super) fn may_be_due_at(&self, at: Timestamp) {
        self.due_at.fetch_min(at.as_millis(), Ordering::Relaxed);
    }

    /// Which of its sessions are over. The caller holds the directory's lock and removes them, then asks again if there may
    /// be more.
    pub(super) fn take_stock(&self, now: Timestamp, clocks: &Clocks) -> Stock {
        let sessions = self.sessions.read();
        // Raised first and lowered at the end, so that a look-up that finds an end meanwhile is not overwritten.
        self.due_at.store(u64::MAX, Ordering::Relaxed);
        let mut stock = Stock::default();
        let mut due_at = u64::MAX;
        for session in sessions.iter() {
            stock.looked_at += 1;
            if session.is_moved() {
                match session.serves_until(&session.current()) {
                    Some(until) if now >= until => stock.superseded.push(session.clone()),
                    Some(until) => due_at = due_at.min(until.as_millis()),
                    None => {}
                }
                continue;
            }
            match session.settle(now, clocks) {
                State::Live => due_at = due_at.min(session.idle_until(clocks).as_millis()),
                State::Ended(_) if stock.over.len() == STEP => {
                    due_at = 0;
                    break;
                }
                State::Ended(end) => stock.over.push((session.clone(), end)),
            }
        }
        self.due_at.fetch_min(due_at, Ordering::Relaxed);
        stock
    }
}
