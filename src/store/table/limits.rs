//! What a table obeys: how many sessions there may be, and how long they live.

use crate::domain::session::{Clocks, Kind, Lifetimes};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many sessions may live at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of subjects, remembered ones included.
    pub capacity: usize,
    /// Anonymous ones.
    pub anonymous_capacity: usize,
    /// Of one subject within its source; absent: as many as there is room for.
    pub per_subject: Option<PerSubject>,
}

/// How many sessions one subject may have, and what a sign-in beyond that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerSubject {
    /// At least 1.
    pub max: usize,
    /// What happens beyond.
    pub when_full: WhenFull,
}

/// What a sign-in does where its subject has as many sessions as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It ends the one that was not used for the longest time.
    EndLeastRecent,
    /// It ends the one that was opened first.
    EndOldest,
    /// It is refused.
    Refuse,
}

/// The clocks in force, in milliseconds. Read one by one on every look-up, and changed by a reload.
#[derive(Default)]
pub(super) struct InForce {
    lifetimes: [[AtomicU64; 2]; Kind::ALL.len()],
    renew_after: AtomicU64,
}

impl InForce {
    pub(super) fn set(&self, clocks: &Clocks) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        for kind in Kind::ALL {
            let Lifetimes { idle_timeout, absolute_lifetime } = clocks.of(kind);
            let [idle, absolute] = &self.lifetimes[kind as usize];
            idle.store(millis(idle_timeout), Ordering::Relaxed);
            absolute.store(millis(absolute_lifetime), Ordering::Relaxed);
        }
        self.renew_after.store(millis(clocks.renew_after), Ordering::Relaxed);
    }

    pub(super) fn of(&self, kind: Kind) -> Lifetimes {
        let [idle, absolute] = self.lifetimes[kind as usize]
            .each_ref()
            .map(|span| Duration::from_millis(span.load(Ordering::Relaxed)));
        Lifetimes { idle_timeout: idle, absolute_lifetime: absolute }
    }

    pub(super) fn all(&self) -> Clocks {
        Clocks {
            signed_in: self.of(Kind::SignedIn),
            remembered: self.of(Kind::Remembered),
            anonymous: self.of(Kind::Anonymous),
            renew_after: self.renew_after(),
        }
    }

    pub(super) fn renew_after(&self) -> Duration {
        Duration::from_millis(self.renew_after.load(Ordering::Relaxed))
    }
}
