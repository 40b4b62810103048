//! The durable store of the process: opened before anything else, loaded before anybody asks, flushed at the end.

use crate::app::clock::SystemClock;
use crate::auth::users::Users;
use crate::config::{Config, StoreSettings};
use crate::domain::access::EntryId;
use crate::domain::identity::{IdentityRef, decode};
use crate::domain::session::{End, Restored, Session, SessionId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::token::KeyRing;
use crate::proxy::parts::Parts;
use crate::proxy::snapshot::{Snapshot, Way};
use crate::store::sqlite::{Health, OpenError, SqliteFile, SqliteStore};
use crate::telemetry::{AuditEvent, AuditLine, Logs, Metrics};
use std::io;
use std::sync::Arc;

/// Opens the file that the configuration names, if it names one.
pub(super) fn open(config: &Config) -> Result<Option<SqliteFile>, OpenError> {
    match (&config.sessions.store, KeyRing::new(config.keys.clone())) {
        (StoreSettings::Sqlite(path), Some(ring)) => SqliteFile::open(path, &ring).map(Some),
        // Without keys there are no sessions to keep.
        (StoreSettings::Sqlite(_), None) | (StoreSettings::Memory, _) => Ok(None),
    }
}

/// Starts the thread that writes. What happens to the store is told in the logs and by a metric.
pub(super) fn start(
    file: SqliteFile,
    clock: &Arc<SystemClock>,
    metrics: &Arc<Metrics>,
    logs: &Arc<Logs>,
) -> io::Result<Arc<SqliteStore>> {
    let ahead = file.latest().since(clock.wall());
    if ahead.as_secs() > 0 {
        tracing::warn!(
            seconds = ahead.as_secs(),
            "the session store holds later instants than the wall clock shows; session deadlines go on from there"
        );
    }
    let tell = {
        let (clock, metrics, logs) = (clock.clone(), metrics.clone(), logs.clone());
        move |health: &Health| told(health, clock.now(), &metrics, &logs)
    };
    file.start(clock.clone(), tell)
}

fn told(health: &Health, now: Timestamp, metrics: &Metrics, logs: &Logs) {
    metrics.store_up.set(i64::from(health.trouble.is_none()));
    let event = match &health.trouble {
        None => {
            tracing::info!("the session store can be written again; nothing that was in force is lost");
            AuditEvent::StoreUp
        }
        Some(trouble) => {
            tracing::error!(
                trouble,
                "the session store cannot be written; known sessions go on, what needs a write is refused"
            );
            AuditEvent::StoreDown
        }
    };
    logs.audit(&AuditLine { detail: health.trouble.as_deref(), ..AuditLine::new(now, event) });
}

/// Fills the table with what the file holds, and ends or changes what the users files say otherwise today: they may have
/// changed while no process ran.
pub(super) fn load(store: &SqliteStore, parts: &Parts) -> Result<(), OpenError> {
    let files = Files::of(&parts.snapshot.load());
    let mut others = Vec::new();
    let loaded = store.load(|kept| {
        parts.sessions.restore(kept.inspect(|session| {
            if !files.say_the_same(session) {
                others.push(session.id);
            }
        }));
    })?;
    for (digest, end, id) in &loaded.ends {
        parts.sessions.remember_end(*digest, *end, *id);
    }
    let file = store.path().display();
    let live = parts.sessions.live() + parts.sessions.anonymous_live();
    tracing::info!(%file, sessions = live, "sessions of earlier processes are loaded");
    if loaded.damaged > 0 {
        tracing::error!(
            %file,
            values = loaded.damaged,
            "values in the session store are not what was written there; their sessions, or data, are left out"
        );
    }
    warn_of_unopened(store, loaded.unopened);
    files.apply(&others, parts);
    Ok(())
}

/// Puts in force again what was revoked before.
pub(super) fn load_revocations(store: &Arc<SqliteStore>, parts: &Parts) -> Result<(), OpenError> {
    let loaded = store.load_revocations()?;
    if loaded.lost > 0 {
        tracing::error!(
            file = %store.path().display(),
            revocations = loaded.lost,
            "revocations of bearer tokens cannot be opened, for their key is no longer in `keys`, or the file is damaged: put \
             the key back, or revoke again"
        );
    }
    parts.revoked.keep_in(store.clone(), &loaded.kept);
    Ok(())
}

/// Says how many sessions a dropped key has cost, or will at the next start.
pub(super) fn warn_of_unopened(store: &SqliteStore, sessions: u64) {
    if sessions > 0 {
        tracing::warn!(
            file = %store.path().display(),
            sessions,
            "live sessions are sealed with a key that is no longer in `keys`: who holds them has to sign in again, \
             unless the key is put back"
        );
    }
}

/// The users files of today, by the fingerprint of their ways.
pub(super) struct Files(Vec<(EntryId, Arc<Users>)>);

impl Files {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let ways = snapshot.ways.iter().filter_map(Way::password);
        Self(ways.map(|way| (way.settings().id, way.users())).collect())
    }

    /// The file of a session's way. `None`: it was opened by a way without one, or by one that is not there any more, and
    /// then it counts for nothing.
    fn file(&self, entry: EntryId) -> Option<&Users> {
        self.0.iter().find(|(id, _)| *id == entry).map(|(_, users)| &**users)
    }

    pub(super) fn say_the_same(&self, session: &Restored) -> bool {
        let Some(users) = self.file(session.entry) else { return true };
        users.find(&name_in(IdentityRef::from_packed(&session.identity))).is_some_and(|user| {
            user.password().stamp() == session.stamp
                && user.identity().packed() == &*session.identity
                && session.gain.is_none()
        })
    }

    /// Ends or changes these sessions as the files say.
    pub(super) fn apply(&self, others: &[SessionId], parts: &Parts) {
        let now = parts.clock.now();
        for session in others.iter().filter_map(|id| parts.sessions.find_by_id(id, now)) {
            self.apply_to(&session, parts, now);
        }
    }

    /// Ends a session whose user is gone or has another password; another gets the claims of today.
    fn apply_to(&self, session: &Session, parts: &Parts, now: Timestamp) {
        let user = self.file(session.entry()).and_then(|users| users.find(&name_in(session.identity())));
        if let Some(user) = user.filter(|user| user.password().stamp() == session.stamp()) {
            let stamp = session.stamp();
            if let Some(commit) = parts.sessions.change_identity(session, user.identity(), stamp, now) {
                commit.forget();
            }
            return;
        }
        let ended = parts.sessions.end(session.digest(), End::Credential);
        parts.note_ended(&ended.sessions, End::Credential, None, None, now);
        // The end is in force; the store writes it when it can.
        ended.commit.forget();
    }
}

/// A subject as its file spells it.
fn name_in(identity: IdentityRef<'_>) -> String {
    decode(identity.subject())
}

/// Writes what waits; to be called when nothing changes sessions any more.
pub(super) fn stop(store: &SqliteStore) {
    let lost = store.stop();
    if lost > 0 {
        tracing::error!(
            file = %store.path().display(),
            changes = lost,
            "the session store could not be written to the end: sessions that ended may be back after the next start; \
             end them with `vestibule sessions end`"
        );
    }
}
