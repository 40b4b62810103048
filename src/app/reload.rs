//! Reload: parse, check, build everything, then swap in one step; on any problem the running configuration stays.
//!
//! A file is read again on SIGHUP, on `POST /reload` and when one of the files that belong to the configuration changes.
//! The folder is watched, not the file: editors and orchestrators replace files by renaming.

use crate::admin::{Door as AdminDoor, ServerState};
use crate::app::build::{self, Builder};
use crate::app::durable;
use crate::app::supervisor;
use crate::auth::users::{Change, ChangeKind};
use crate::config::{Config, StoreSettings};
use crate::domain::session::End;
use crate::domain::time::Timestamp;
use crate::domain::token::KeyRing;
use crate::proxy::parts::Parts;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::{AuditEvent, AuditLine, LogsSettings};
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecursiveMode, Watcher};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// Editors write in several steps: a change counts once it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(200);
/// The longest wait for that.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);

/// What a reload starts from and leaves behind.
struct State {
    generation: u64,
    /// What the process was started with and keeps: listeners, admin, probes, the store, how it stops.
    fixed: Vec<String>,
    files: Vec<PathBuf>,
    logs: LogsSettings,
    /// A digest over the files' contents as last tried.
    seen: Vec<u8>,
    in_force_since: Timestamp,
    rejected_since: Option<Timestamp>,
}

/// Reads the configuration again.
pub(super) struct Reloader {
    file: PathBuf,
    parts: Arc<Parts>,
    builder: Builder,
    /// What the snapshot in force was built from.
    in_force: ArcSwap<Config>,
    state: Mutex<State>,
    store: Option<Arc<SqliteStore>>,
    admin: Mutex<Option<Arc<AdminDoor>>>,
}

impl Reloader {
    /// `seen` is what [`digest`] gave as soon as `config` was read: a change since then is still to be taken up.
    pub(super) fn new(
        file: &Path,
        parts: Arc<Parts>,
        builder: Builder,
        config: &Config,
        seen: Vec<u8>,
        store: Option<Arc<SqliteStore>>,
    ) -> Self {
        let files = config.files.clone();
        let now = parts.clock.now();
        Self {
            file: file.to_owned(),
            parts,
            builder,
            in_force: ArcSwap::from_pointee(config.clone()),
            state: Mutex::new(State {
                generation: 1,
                fixed: fixed(config),
                seen,
                files,
                logs: config.logs.clone(),
                in_force_since: now,
                rejected_since: None,
            }),
            store,
            admin: Mutex::new(None),
        }
    }

    /// The operator's door takes up a changed token and hosts.
    pub(super) fn set_admin(&self, door: Arc<AdminDoor>) {
        *self.admin.lock() = Some(door);
    }

    /// How the process is.
    pub(super) fn server_state(&self) -> ServerState {
        let state = self.state.lock();
        ServerState {
            // Where another process has taken over, the gateway goes on.
            draining: self.parts.draining.load(Ordering::Relaxed) && !self.parts.sessions.follows(),
            in_force_since: state.in_force_since,
            rejected_since: state.rejected_since,
            store_down_since: self.store.as_ref().and_then(|store| {
                let health = store.health();
                health.trouble.map(|_| health.since)
            }),
        }
    }

    /// The configuration in force.
    pub(super) fn in_force(&self) -> Arc<Config> {
        self.in_force.load_full()
    }

    /// Changes of sessions that are in force and not durable yet.
    pub(super) fn store_backlog(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.backlog())
    }

    /// Sets the gauges of published keys.
    pub(super) fn note_key_ages(&self) {
        self.builder.note_key_ages();
    }

    /// Passwords that wait to be hashed.
    pub(super) fn password_queue(&self) -> usize {
        self.builder.password_queue()
    }

    /// Opens the files of the logs anew: they were rotated. On an error they stay as they are.
    pub(super) fn reopen_logs(&self) {
        match self.parts.logs.reopen(&self.state.lock().logs) {
            Ok(()) => tracing::info!("the logs were opened anew"),
            Err(error) => tracing::error!("{error}; the logs stay as they were"),
        }
    }

    /// Puts the file in force: what to tell the operator, or its problems. Blocks while files are read.
    pub(super) fn reload(&self) -> Result<String, String> {
        if self.parts.sessions.follows() {
            return Err("another process has taken over, and reads the file; ask that one\n".to_owned());
        }
        supervisor::reloading();
        let told = self.reload_and_note();
        supervisor::ready();
        told
    }

    fn reload_and_note(&self) -> Result<String, String> {
        let mut state = self.state.lock();
        state.seen = digest(&state.files);
        let now = self.parts.clock.now();
        match self.try_reload(&mut state) {
            Ok(told) => {
                state.in_force_since = now;
                state.rejected_since = None;
                self.parts.metrics.config_loaded(state.generation, now);
                self.audit(AuditEvent::ConfigLoaded, &told, now);
                Ok(told)
            }
            Err(problems) => {
                state.rejected_since.get_or_insert(now);
                self.parts.metrics.config_rejected(now);
                self.audit(AuditEvent::ConfigRejected, &problems, now);
                Err(problems)
            }
        }
    }

    fn audit(&self, event: AuditEvent, detail: &str, now: Timestamp) {
        self.parts.logs.audit(&AuditLine { detail: Some(detail), ..AuditLine::new(now, event) });
    }

    fn try_reload(&self, state: &mut State) -> Result<String, String> {
        let loaded = build::load(&self.file)?;
        let before = self.parts.snapshot.load_full();
        let generation = state.generation + 1;
        let config = Arc::new(loaded.config.clone());
        self.parts.logs.reopen(&config.logs).map_err(|error| format!("{error}\n"))?;
        let kept = build::kept_ways(&before, &loaded);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let snapshot = self.builder.build(loaded, Some(&before), generation);
        self.parts.sessions.set_clocks(&config.sessions.clocks);
        self.parts.sessions.set_limits(config.sessions.limits);
        // Spent before it is seen: what was decided under one configuration is told by its number from what another would decide.
        state.generation = generation;
        self.parts.snapshot.store(Arc::new(snapshot));
        self.in_force.store(config.clone());
        // A sign-in that is under way still runs on the old way: it has to see the new users as well.
        for (way, text) in kept {
            self.apply(&way.reload(&text).unwrap_or_default());
        }
        if let (Some(store), Some(ring)) = (&self.store, KeyRing::new(config.keys.clone())) {
            match store.set_keys(&ring) {
                Ok(sessions) => durable::warn_of_unopened(store, sessions),
                Err(error) => tracing::warn!("{error}; sessions of a dropped key could not be counted"),
            }
        }
        if let (Some(door), Some(settings)) = (&*self.admin.lock(), &config.admin) {
            door.replace(settings);
        }
        state.logs = config.logs.clone();
        if state.files != config.files {
            state.files.clone_from(&config.files);
            state.seen = digest(&state.files);
        }
        let mut told = format!("configuration {generation} is in force");
        for changed in fixed(&config).iter().filter(|now| !state.fixed.contains(now)) {
            told.push_str("; needs a restart: ");
            told.push_str(changed);
        }
        // Bound once, bound until the end: what the snapshot says of them stays (`build::still_bound`).
        let named: Vec<String> =
            config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        for gone in before.listener_names.iter().filter(|name| !named.contains(name)) {
            told.extend(["; needs a restart: ", gone, " is gone from the file, and listens until then"]);
        }
        Ok(told)
    }

    /// Ends the sessions of users who are gone or have another password; others get their new claims.
    fn apply(&self, changes: &[Change]) {
        let now = self.parts.clock.now();
        for Change { source, subject, kind } in changes {
            match kind {
                ChangeKind::Gone | ChangeKind::NewPassword => {
                    let ended = self.parts.sessions.end_subject(source, subject, End::Credential);
                    self.parts.note_ended(&ended.sessions, End::Credential, None, None, now);
                    // The end is in force; the store writes it when it can.
                    ended.commit.forget();
                }
                ChangeKind::NewClaims(identity) => {
                    for session in self.parts.sessions.of_subject(source, subject) {
                        let stamp = session.stamp();
                        if let Some(commit) =
                            self.parts.sessions.change_identity(&session, identity, stamp, now)
                        {
                            commit.forget();
                        }
                    }
                }
            }
        }
    }

    /// Reloads whenever a file of the configuration has changed; runs until the process ends.
    pub(super) async fn watch(self: Arc<Self>) {
        let (sender, mut changes) = mpsc::channel(1);
        let reloader = self.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may mean that events were lost: then it is better to look.
            if event.is_ok_and(|event| !concerns(&event, &reloader.state.lock().files)) {
                return;
            }
            // A full channel means that a change is noted already.
            let _ = sender.try_send(());
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "files cannot be watched; send SIGHUP after a change");
                return;
            }
        };
        let mut folders = BTreeSet::new();
        loop {
            self.watch_folders(&mut watcher, &mut folders);
            let reloader = self.clone();
            // Before the first wait too: a file may have changed before its folder was watched. A panic in there is told by
            // the thread; the watch goes on.
            if tokio::task::spawn_blocking(move || reloader.reload_if_changed())
                .await
                .is_ok_and(|changed| changed)
            {
                continue;
            }
            if changes.recv().await.is_none() {
                return;
            }
            let quiet = async { while tokio::time::timeout(QUIET, changes.recv()).await.is_ok() {} };
            // Where it never gets quiet, the change counts all the same.
            let _ = tokio::time::timeout(QUIET_WAIT_MAX, quiet).await;
        }
    }

    /// Tells whether there was a change, whatever came of it. None is taken up where another process decides.
    pub(super) fn reload_if_changed(&self) -> bool {
        let changed = !self.parts.sessions.follows() && {
            let state = self.state.lock();
            digest(&state.files) != state.seen
        };
        if changed {
            // What went wrong stands in the log, in readyz and in a metric.
            let _ = self.reload();
        }
        changed
    }

    fn watch_folders(&self, watcher: &mut notify::RecommendedWatcher, known: &mut BTreeSet<PathBuf>) {
        let folders: BTreeSet<PathBuf> = {
            let state = self.state.lock();
            state.files.iter().filter_map(|file| absolute(file).parent().map(Path::to_owned)).collect()
        };
        for folder in &folders - known {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    known.insert(folder);
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "a folder cannot be watched; send SIGHUP after a change");
                }
            }
        }
    }
}

/// Whether an event may mean a change of one of `files`.
///
/// Opening and reading is no change: our own look at the files must not wake us again. Nor is what is written into another
/// file beside them, such as a log. All else counts, for editors and orchestrators rename.
fn concerns(event: &Event, files: &[PathBuf]) -> bool {
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {
            event.paths.iter().any(|path| files.iter().any(|file| absolute(file) == *path))
        }
        _ => true,
    }
}

/// Events name absolute paths; the file on the command line may be a relative one.
fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// What only a restart can change, as the file says it.
fn fixed(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().enumerate().map(|(number, listener)| {
        let crate::proxy::settings::ListenerSettings {
            address, timeouts, connections, proxy_protocol, ..
        } = listener;
        let tls = if listener.tls.is_some() { "with" } else { "without" };
        let proxy_protocol = if *proxy_protocol { ", proxy_protocol" } else { "" };
        format!("listeners[{number}] ({address} {tls} TLS, {timeouts:?}, {connections:?}{proxy_protocol})")
    });
    let admin = config.admin.iter().map(|admin| format!("admin.address ({:?})", admin.address));
    let probes = config.probes.iter().map(|probes| format!("probes.address ({:?})", probes.address));
    let store = match &config.sessions.store {
        StoreSettings::Memory => "sessions.store (memory)".to_owned(),
        StoreSettings::Sqlite(file) => format!("sessions.store (sqlite, {})", file.display()),
    };
    let stop = format!("drain ({:?} after {:?})", config.drain, config.drain_delay);
    let upgrade = config.upgrade.iter().map(|socket| format!("upgrade.socket ({})", socket.display()));
    listeners.chain(admin).chain(probes).chain([store, stop]).chain(upgrade).collect()
}

/// A digest over the files' contents; a missing file counts as an empty one.
pub(super) fn digest(files: &[PathBuf]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_default();
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(&bytes);
    }
    context.finish().as_ref().to_vec()
}
