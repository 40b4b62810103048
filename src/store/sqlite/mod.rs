//! Sessions in a file beside the process: `SQLite` with a write-ahead log, written by one process at a time.
//!
//! Memory answers requests; the file is what a restart reads. [`SqliteStore`] hears of every change of the table as its
//! [`Journal`], and answers once the change has reached the disk: a thread of its own writes whatever came since the last
//! commit in one transaction. Last uses are written every second, and nobody waits for them.
//!
//! While the file cannot be written, what memory knows goes on. What needs a write is refused; what is in force all the
//! same, such as an end, is written as soon as that is possible, before anything that comes later.
//!
//! Names, claims, addresses and data are sealed with keys derived from the ring. A row that no key of the ring opens is
//! left out, for the tokens of a dropped key open nothing either; it stays in the file, so that the key can be
//! put back, until the first start after its absolute end.

mod file;
#[cfg(test)]
mod histories;
mod load;
mod offline;
mod queue;
mod revocations;
mod row;
mod schema;
#[cfg(test)]
mod scratch;
mod seal;
#[cfg(test)]
mod tests;
mod writer;

pub use file::OpenError;
pub use load::Loaded;
pub use revocations::LoadedRevocations;

pub use offline::{EndedOffline, Whose, end_opened_before};

use crate::domain::session::{Restored, Session, SessionId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::token::KeyRing;
use crate::store::journal::{Change, Commit, Journal};
use crate::store::revoked::Revocation;
use arc_swap::ArcSwap;
use file::Database;
use parking_lot::{Condvar, Mutex};
use queue::{Batch, Data, Ended, Queue};
use seal::SealKeys;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A file that is opened and held for this process, and that nobody writes yet.
pub struct SqliteFile {
    path: PathBuf,
    database: Database,
    keys: SealKeys,
    latest: Timestamp,
}

impl SqliteFile {
    /// Opens the file, or makes it; an older one becomes one of today.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to do; it is left as it is.
    pub fn open(path: &Path, ring: &KeyRing) -> Result<Self, OpenError> {
        let database = Database::open(path)?;
        let latest = database.connection.query_row("SELECT max(latest) FROM clock", [], |row| row.get(0));
        let latest = latest.map_err(|error| file::Problem::from(error).of(path))?;
        Ok(Self { path: path.to_owned(), database, keys: SealKeys::of(ring), latest: row::instant(latest) })
    }

    /// The latest instant that was ever written: no clock of this process may say less.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Starts the thread that writes. `tell` is called from it whenever the store stops or begins to be writable.
    pub fn start(
        self,
        clock: Arc<dyn Clock>,
        tell: impl Fn(&Health) + Send + Sync + 'static,
    ) -> io::Result<Arc<SqliteStore>> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            touched: Mutex::default(),
            keys: ArcSwap::from_pointee(self.keys),
            health: Mutex::new(Health { since: clock.now(), trouble: None }),
            clock,
            tell: Box::new(tell),
        });
        let Self { path, database, .. } = self;
        let thread = write_to(database, &shared)?;
        Ok(Arc::new(SqliteStore { shared, path, thread: Mutex::new(Some(thread)) }))
    }
}

fn write_to(database: Database, shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let farewell = writer::Farewell(shared.clone());
    std::thread::Builder::new().name("store".into()).spawn(move || {
        writer::run(database, &farewell.0);
    })
}

/// Whether the store can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Since when it is so.
    pub since: Timestamp,
    /// What keeps it from being written, and what to do; `None`: nothing.
    pub trouble: Option<String>,
}

/// The durable store of this process.
pub struct SqliteStore {
    shared: Arc<Shared>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why the writer was woken.
struct Work {
    /// It is time to look after last uses, or to try again.
    is_due: bool,
    /// The process ends.
    is_stopping: bool,
}

/// What the table's threads and the writer share.
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    touched: Mutex<HashMap<SessionId, Session>>,
    keys: ArcSwap<SealKeys>,
    health: Mutex<Health>,
    clock: Arc<dyn Clock>,
    tell: Box<dyn Fn(&Health) + Send + Sync>,
}

impl SqliteStore {
    /// Hands every session of the file to `take`, in the order of ids; those past a deadline are among them. To be called before
    /// the first change. Two threads read and decode while `take` runs, so that a million sessions need seconds.
    ///
    /// # Errors
    ///
    /// The file is damaged; what `take` got is not everything.
    pub fn load(&self, take: impl FnOnce(&mut dyn Iterator<Item = Restored>)) -> Result<Loaded, OpenError> {
        let loaded = load::load(&self.path, &self.shared.keys.load(), self.shared.clock.now(), take)?;
        if loaded.has_leftovers {
            self.shared.queue.lock().purge = true;
            self.shared.wake.notify_one();
        }
        Ok(loaded)
    }

    /// What the file holds of revoked tokens; the newest key seals it from now on.
    ///
    /// # Errors
    ///
    /// The file is damaged.
    pub fn load_revocations(&self) -> Result<LoadedRevocations, OpenError> {
        let loaded = revocations::load(&self.path, &self.shared.keys.load(), self.shared.clock.now())?;
        self.seal_revocations_anew();
        Ok(loaded)
    }

    /// Keeps a revocation that is in force. Like an end it is never refused: if it cannot be written now, it is as soon as that
    /// is possible.
    pub fn revoke(&self, revocation: Revocation) -> Commit {
        let (ack, commit) = Commit::pair();
        self.shared.queue.lock().revoke(revocation, ack);
        self.shared.wake.notify_one();
        commit
    }

    fn seal_revocations_anew(&self) {
        self.shared.queue.lock().seal_anew = true;
        self.shared.wake.notify_one();
    }

    /// From now on the ring's newest key seals. Gives the number of live sessions that no key of the ring opens any more,
    /// if one was dropped: the next start does without them.
    ///
    /// # Errors
    ///
    /// The rows could not be counted; the keys are in force.
    pub fn set_keys(&self, ring: &KeyRing) -> Result<u64, OpenError> {
        let keys = SealKeys::of(ring);
        let dropped = !keys.covers(&self.shared.keys.load());
        self.shared.keys.store(Arc::new(keys));
        self.seal_revocations_anew();
        if !dropped {
            return Ok(0);
        }
        load::unopened(&self.path, &self.shared.keys.load(), self.shared.clock.now())
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be written at the moment.
    pub fn health(&self) -> Health {
        self.shared.health.lock().clone()
    }

    /// Changes that are in force and not yet durable.
    pub fn backlog(&self) -> usize {
        self.shared.queue.lock().backlog()
    }

    /// Writes what waits and ends the thread; gives how many changes that are in force could not be written.
    pub fn stop(&self) -> usize {
        self.shared.queue.lock().is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // A writer that panicked has said so.
            let _ = thread.join();
        }
        self.backlog()
    }
}

impl SqliteStore {
    /// Opens the file again after [`SqliteStore::stop`], and writes on.
    ///
    /// # Errors
    ///
    /// As [`SqliteFile::open`]; the store stays as it was, and cannot be written.
    pub fn resume(&self) -> Result<(), OpenError> {
        let resumed = Database::open(&self.path).and_then(|database| {
            {
                let mut queue = self.shared.queue.lock();
                (queue.is_stopping, queue.is_closed, queue.is_down) = (false, false, false);
            }
            write_to(database, &self.shared).map_err(|error| file::Problem::System(error).of(&self.path))
        });
        match resumed {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => {
                self.shared.note_health(Some(&error.to_string()));
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl SqliteStore {
    /// Ends the thread as a crash does: what it has not begun to write is lost.
    pub(crate) fn crash(&self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            thread.join().expect("the writer does not panic");
        }
    }

    /// Nothing is written but by [`SqliteStore::settle`], or everything again.
    pub(crate) fn hold(&self, is_held: bool) {
        self.shared.queue.lock().reins.is_held = is_held;
        self.shared.wake.notify_one();
    }

    /// Writes all that waits, last uses too, or fails to; comes back when that is done.
    pub(crate) fn settle(&self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.reins = queue::Reins { is_held: false, is_due: true, is_idle: false };
        }
        loop {
            self.shared.wake.notify_one();
            std::thread::yield_now();
            let mut queue = self.shared.queue.lock();
            let queue::Reins { is_due, is_idle, .. } = queue.reins;
            if is_idle && !is_due && queue.refused.is_empty() && (queue.is_down || queue.is_empty()) {
                queue.reins.is_held = true;
                return;
            }
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Journal for SqliteStore {
    fn write(&self, change: Change) -> Commit {
        let (ack, commit) = Commit::pair();
        let ended = |sessions: &[_]| sessions.iter().map(Ended::of).collect();
        // Sessions are read by the writer: here their data is locked, and other threads wait.
        match change {
            Change::Open { session, ended: former } => {
                let former = ended(&former);
                self.shared.queue.lock().open(session, former, ack);
            }
            Change::End { sessions } => {
                let sessions = ended(&sessions);
                self.shared.queue.lock().end(sessions, ack);
            }
            Change::Put { session } => self.shared.queue.lock().put(session, ack),
            Change::Data { session, space, value, epoch, .. } => {
                self.shared.queue.lock().data(Data { session, space, value, epoch, ack });
            }
        }
        self.shared.wake.notify_one();
        commit
    }

    fn can_write(&self) -> bool {
        self.shared.queue.lock().can_write()
    }

    fn touched(&self, session: &Session) {
        self.shared.touched.lock().insert(session.id(), session.clone());
    }
}

impl Shared {
    /// Waits until there is something to write, or until `look_at` by the clock's ticks. While the store is down, nothing is
    /// tried before that instant. `None`: nobody is to write any more.
    fn wait_for_work(&self, look_at: Duration) -> Option<Work> {
        let mut queue = self.queue.lock();
        let mut is_due = false;
        loop {
            if queue.is_closed {
                return None;
            }
            #[cfg(test)]
            if queue.reins.is_held && !queue.is_stopping {
                self.wake.wait(&mut queue);
                continue;
            }
            if !queue.refused.is_empty() {
                let refused = std::mem::take(&mut queue.refused);
                drop(queue);
                refused.into_iter().for_each(Data::refuse);
                queue = self.queue.lock();
                continue;
            }
            let left = look_at.saturating_sub(self.clock.ticks());
            is_due |= left.is_zero();
            #[cfg(test)]
            {
                is_due |= std::mem::take(&mut queue.reins.is_due);
                queue.reins.is_idle = !is_due && (queue.is_down || queue.is_empty());
            }
            if is_due || (!queue.is_down && (queue.is_stopping || !queue.is_empty())) {
                return Some(Work { is_due, is_stopping: queue.is_stopping });
            }
            is_due = self.wake.wait_for(&mut queue, left).timed_out();
        }
    }

    fn take_batch(&self) -> Batch {
        self.queue.lock().take()
    }

    fn take_touched(&self) -> Vec<Session> {
        std::mem::take(&mut *self.touched.lock()).into_values().collect()
    }

    /// Whether nothing waits.
    fn is_done(&self) -> bool {
        let queue = self.queue.lock();
        queue.is_empty() && queue.refused.is_empty() && self.touched.lock().is_empty()
    }

    fn note_written(&self) {
        self.queue.lock().is_down = false;
        self.note_health(None);
    }

    fn note_failed(&self, batch: Batch, trouble: &str) {
        let refused = {
            let mut queue = self.queue.lock();
            queue.is_down = true;
            queue.put_back(batch)
        };
        refused.into_iter().for_each(Data::refuse);
        self.note_health(Some(trouble));
    }

    fn note_health(&self, trouble: Option<&str>) {
        let changed = {
            let mut health = self.health.lock();
            let changed = health.trouble.is_some() != trouble.is_some();
            if changed {
                health.since = self.clock.now();
            }
            if health.trouble.as_deref() != trouble {
                health.trouble = trouble.map(str::to_owned);
            }
            changed.then(|| health.clone())
        };
        if let Some(health) = changed {
            (self.tell)(&health);
        }
    }

    /// Nobody writes any more: whoever waits is told, and whoever comes.
    fn close(&self) {
        let refused = {
            let mut queue = self.queue.lock();
            queue.is_closed = true;
            queue.is_down = true;
            let mut refused = queue.put_back(Batch::default());
            refused.append(&mut queue.refused);
            refused
        };
        refused.into_iter().for_each(Data::refuse);
    }
}
