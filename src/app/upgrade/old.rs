//! The process that is the gateway: it starts another one where an operator wishes for it, gives itself away, and follows.
//!
//! Until [`Message::Taken`] has come, nothing is lost by stopping half-way: the table is in here, and changes that nobody has
//! written wait. Whether it has come is decided once, by shutting the connection first and looking then: a process that could
//! not send it never serves.

use super::channel::{Broken, Channel};
use super::copy::{copy_all, send_changed};
use super::protocol::{Message, VERSION, Wish};
use super::relay::{Back, Relay, Side, Watch};
use crate::app::clock::SystemClock;
use crate::app::reload::Reloader;
use crate::net::listener::Bound;
use crate::proxy::parts::Parts;
use crate::store::journal::{Ack, Commit, Journal};
use crate::store::sqlite::SqliteStore;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// Connections to the socket at once: an operator's, and the process that it started.
const VISITORS_MAX: usize = 4;
/// How long a hello may take, and any message for which nothing has to be done.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the new process may take to load everything.
const LOADING_MAX: Duration = Duration::from_mins(2);
/// How long it may take from the cut on: visitors wait meanwhile for what changes sessions, and for no longer than this.
const CUT_MAX: Duration = Duration::from_secs(4);
/// How long a process that was started may take in all.
const START_MAX: Duration = Duration::from_mins(15);
/// How often somebody who waits is told so.
const WAIT_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked what has become of a process that was started.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Attempts to have the store's file back, which the new process may hold for a moment longer.
const RESUMES_MAX: usize = 20;
/// How long this process may take to end once the one that took over is gone.
const LOST_MAX: Duration = Duration::from_secs(5);
/// How long the last changes may take to reach the new process when this one ends.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What a process needs to give itself away.
pub(crate) struct Former {
    pub(crate) parts: Arc<Parts>,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) store: Option<Arc<SqliteStore>>,
    pub(in crate::app) reloader: Arc<Reloader>,
    /// Where sessions live, in words: both processes have to mean the same place.
    pub(crate) place: String,
    /// Whatever listens, by its name; none any more once the process stops.
    pub(crate) listeners: Mutex<Vec<(String, Bound)>>,
    /// How it was started.
    pub(crate) program: io::Result<PathBuf>,
    pub(crate) file: PathBuf,
    /// Turns true once there is no process any more from which this one took over.
    pub(crate) alone: watch::Receiver<bool>,
    pub(crate) given: Given,
}

/// How far giving has come.
pub(crate) struct Given {
    /// To which process.
    to: watch::Sender<Option<i32>>,
    /// That process is gone.
    lost: watch::Sender<bool>,
    relay: OnceLock<Arc<Relay>>,
    busy: Mutex<()>,
    /// Held while somebody waits for what comes of a process that was started.
    starting: Mutex<()>,
    visitors: AtomicUsize,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            to: watch::Sender::new(None),
            lost: watch::Sender::new(false),
            relay: OnceLock::new(),
            busy: Mutex::new(()),
            starting: Mutex::new(()),
            visitors: AtomicUsize::new(0),
        }
    }
}

/// Why the process stays what it is.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("{0}")]
    No(String),
}

impl Former {
    /// Answers on the socket until the future is dropped.
    pub(crate) async fn listen(self: Arc<Self>, socket: std::os::unix::net::UnixListener) -> io::Result<()> {
        let socket = tokio::net::UnixListener::from_std(socket)?;
        loop {
            match socket.accept().await {
                Ok((stream, _)) => self.clone().visit(stream.into_std()?),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the upgrade socket could not be accepted");
                    tokio::time::sleep(WAIT_EVERY).await;
                }
            }
        }
    }

    /// Resolves once another process has taken over: which.
    pub(crate) async fn given(&self) -> i32 {
        let mut to = self.given.to.subscribe();
        let found = to.wait_for(Option::is_some).await.ok().and_then(|to| *to);
        match found {
            Some(process) => process,
            None => std::future::pending().await,
        }
    }

    /// Resolves once the process that took over is gone.
    pub(crate) async fn lost(&self) {
        let mut lost = self.given.lost.subscribe();
        // The sender is in here.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// The process stops: it gives nothing away any more.
    pub(crate) fn keep(&self) {
        self.listeners.lock().clear();
    }

    /// Waits until the process that took over has all that happened here.
    pub(crate) fn settle(&self) {
        if let Some(relay) = self.given.relay.get() {
            relay.settle(SETTLE_MAX);
            relay.close();
        }
        // Whoever wished for it is told before this process is gone.
        drop(self.given.starting.try_lock_for(SETTLE_MAX));
    }

    /// Serves one connection, on a thread of its own.
    fn visit(self: Arc<Self>, socket: UnixStream) {
        if self.given.visitors.fetch_add(1, Ordering::Relaxed) >= VISITORS_MAX {
            self.given.visitors.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let visited = self.clone();
        let spawned = std::thread::Builder::new().name("upgrade".into()).spawn(move || {
            match Channel::new(socket, PATIENCE) {
                Ok(channel) => self.answer(&channel),
                Err(error) => tracing::warn!(%error, "a connection to the upgrade socket cannot be used"),
            }
            self.given.visitors.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            visited.given.visitors.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn answer(&self, channel: &Channel) {
        let refuse = |text: &str| {
            tracing::warn!("an upgrade was refused: {text}");
            // Whoever does not hear it sees the connection closed.
            let _ = channel.send(&Message::Refused(text.to_owned()));
        };
        let Ok(peer) = channel.peer() else { return };
        let own = rustix::process::geteuid().as_raw();
        let wish = match channel.receive() {
            Ok((Message::Hello { version: VERSION, wish }, _)) => wish,
            Ok((Message::Hello { version, .. }, _)) => {
                return refuse(&format!(
                    "it speaks version {version} of the hand-over, and this process version {VERSION}; restart instead"
                ));
            }
            _ => return,
        };
        match wish {
            // The sessions go to nobody but this very user.
            Wish::Take if peer.user != own => {
                refuse("it runs as another user than the process that serves; start it as that one");
            }
            Wish::Start if peer.user != own && peer.user != 0 => {
                refuse("only this user and root may ask for it");
            }
            Wish::Start => self.start(channel),
            Wish::Take => match self.give(channel, peer.process) {
                Ok(()) => {}
                Err(Kept::No(text)) => refuse(&text),
                Err(Kept::Broken(broken)) => {
                    tracing::warn!("an upgrade came to nothing, and this process goes on: {broken}");
                }
            },
        }
    }

    /// Starts another process like this one, and tells whoever wished for it what came of that.
    fn start(&self, channel: &Channel) {
        let Some(_only) = self.given.starting.try_lock() else {
            let text = "another upgrade is under way; wait for its end".to_owned();
            let _ = channel.send(&Message::Refused(text));
            return;
        };
        let (ok, text) = match self.start_another(channel) {
            Ok(process) => (true, format!("process {process} has taken over")),
            Err(text) => (false, text),
        };
        // Whoever does not wait for it reads the log.
        let _ = channel.send(&Message::Outcome { ok, text });
    }

    fn start_another(&self, channel: &Channel) -> Result<i32, String> {
        let program = self.program.as_ref().map_err(|error| format!("this program is not found: {error}"))?;
        let child = Command::new(program)
            .args(["run", "--upgrade", "-c"])
            .arg(&self.file)
            .stdin(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| format!("`{}` does not start: {error}", program.display()))?;
        let (never, mut waited) = (Condvar::new(), Duration::ZERO);
        loop {
            if let Some(process) = *self.given.to.borrow() {
                return Ok(process);
            }
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    return Err(format!(
                        "the new process has ended ({status}) before it took over; what it wrote to its events log \
                         or to standard error says why"
                    ));
                }
                Err(error) => return Err(format!("the new process cannot be watched: {error}")),
            }
            if waited > START_MAX {
                // One that is gone already is what is wanted.
                let _ = child.kill();
                let _ = child.wait();
                return Err("the new process did not take over in time, and was ended".to_owned());
            }
            if waited.as_millis().is_multiple_of(WAIT_EVERY.as_millis()) {
                // Somebody who has gone does not stop what was begun.
                let _ = channel.send(&Message::Wait);
            }
            never.wait_for(&mut Mutex::new(()).lock(), LOOK_EVERY);
            waited += LOOK_EVERY;
        }
    }

    /// Gives everything to the process at the other end.
    fn give(&self, channel: &Channel, process: i32) -> Result<(), Kept> {
        let Some(_only) = self.given.busy.try_lock() else {
            return Err(Kept::No("another upgrade is under way; wait for its end".to_owned()));
        };
        self.wait_until_alone(channel)?;
        let clone = |(name, bound): &(String, Bound)| Ok((name.clone(), bound.try_clone()?));
        let listeners: io::Result<Vec<(String, Bound)>> = self.listeners.lock().iter().map(clone).collect();
        let listeners = listeners.map_err(Broken::System)?;
        if listeners.is_empty() || self.parts.is_draining() {
            return Err(Kept::No("this process is about to stop".to_owned()));
        }
        let (clock, store) = (self.clock.origin(), self.place.clone());
        channel.send(&Message::Welcome { process: std::process::id(), clock, store })?;
        for (name, bound) in &listeners {
            let name = Message::Listener(name.clone());
            match bound {
                Bound::Tcp(socket) => channel.send_with(&name, socket.as_fd())?,
                Bound::Unix(socket) => channel.send_with(&name, socket.as_fd())?,
            }
        }
        channel.send(&Message::Go)?;
        tracing::info!(process, "a new process loads, to take over");
        channel.set_patience(LOADING_MAX).map_err(Broken::System)?;
        channel.expect(&Message::Go)?;
        channel.set_patience(PATIENCE).map_err(Broken::System)?;

        let table = &self.parts.sessions;
        let watch = Arc::new(Watch::beside(self.journal()));
        table.set_journal(Some(watch.clone()));
        if let Err(broken) = copy_all(channel, table, &watch) {
            table.set_journal(self.journal());
            return Err(broken.into());
        }
        let relay = Relay::new(Side::Former, self.clock.clone());
        // From here on changes wait, and whoever caused them.
        table.set_journal(Some(relay.clone()));
        match self.cut(channel, &watch, &relay) {
            Ok(()) => self.follow(channel, &relay, process),
            Err(kept) => {
                self.take_back(&relay);
                return Err(kept);
            }
        }
        Ok(())
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.store.clone().map(|store| store as Arc<dyn Journal>)
    }

    /// While a process still drains that was the gateway before this one, there would be three.
    fn wait_until_alone(&self, channel: &Channel) -> Result<(), Kept> {
        channel.set_patience(WAIT_EVERY).map_err(Broken::System)?;
        while !*self.alone.borrow() {
            channel.send(&Message::Wait)?;
            match channel.receive() {
                Err(Broken::Late) => {}
                Err(broken) => return Err(broken.into()),
                Ok(_) => return Err(Broken::OutOfTurn.into()),
            }
        }
        channel.set_patience(PATIENCE).map_err(Broken::System)?;
        Ok(())
    }

    /// The last of what has changed, and then the other process's word.
    fn cut(&self, channel: &Channel, watch: &Watch, relay: &Arc<Relay>) -> Result<(), Kept> {
        // What is used or revoked here from now on is not copied any more: it is told, or cannot be used there.
        self.parts.proofs.follow(true);
        let revoked = self.parts.revoked.hand_over(relay.clone());
        if let Some(store) = &self.store
            && store.stop() > 0
        {
            return Err(Kept::No("the session store cannot be written at the moment".to_owned()));
        }
        send_changed(channel, &self.parts.sessions, watch)?;
        for piece in revoked {
            channel.send(&Message::Revoked(piece))?;
        }
        channel.send(&Message::Cut)?;
        channel.set_patience(CUT_MAX).map_err(Broken::System)?;
        let heard = channel.expect(&Message::Taken);
        if heard.is_ok() {
            return Ok(());
        }
        channel.shut();
        // It may have come at the last moment; from here on it cannot.
        match channel.receive() {
            Ok((Message::Taken, _)) => Ok(()),
            _ => Ok(heard?),
        }
    }

    /// Nobody took over: what waits is written here.
    fn take_back(&self, relay: &Relay) {
        let (never, mut tries) = (Condvar::new(), 0);
        if let Some(store) = &self.store {
            while let Err(error) = store.resume() {
                tries += 1;
                if tries == RESUMES_MAX {
                    tracing::error!(
                        "{error}; what needs a write is refused until the gateway is started again"
                    );
                    break;
                }
                never.wait_for(&mut Mutex::new(()).lock(), WAIT_EVERY);
            }
        }
        self.parts.proofs.follow(false);
        self.parts.revoked.relay(None);
        let (journal, store) = (self.journal(), self.store.as_ref());
        let write = |(back, ack): (Back, Ack)| {
            let commit = match back {
                Back::Change(change) => journal.as_ref().map(|journal| journal.write(change)),
                Back::Revocation(revocation) => store.map(|store| store.revoke(revocation)),
            };
            (commit.unwrap_or(Commit::ready()), ack)
        };
        let written: Vec<(Commit, Ack)> = self
            .parts
            .sessions
            .set_journal_after(journal.clone(), || relay.give_back().into_iter().map(write).collect());
        for (commit, ack) in written {
            ack.send(commit.wait());
        }
        // A change of the file that came meanwhile was left to the other process.
        self.reloader.reload_if_changed();
    }

    /// From here on the other process decides.
    fn follow(&self, channel: &Channel, relay: &Arc<Relay>, process: i32) {
        // Set once: there is one upgrade of a process.
        let _ = self.given.relay.set(relay.clone());
        let sender = channel.wait_for_ever(PATIENCE).and_then(|()| channel.try_clone());
        self.given.to.send_replace(Some(process));
        let lost = match sender {
            Ok(sender) => {
                let relay = relay.clone();
                let sending = std::thread::Builder::new().name("relay".into());
                sending.spawn(move || relay.send_all(&sender)).map(drop)
            }
            Err(error) => Err(error),
        };
        let broken = match lost {
            Ok(()) => self.hear(channel, relay),
            Err(error) => Broken::System(error),
        };
        tracing::info!("the process that took over is not heard any more: {broken}");
        relay.close();
        self.given.lost.send_replace(true);
        // What is known here may be wrong by now: nobody is served by it for longer, come what may.
        Condvar::new().wait_for(&mut Mutex::new(()).lock(), LOST_MAX);
        tracing::error!("this process does not end, and is ended");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }

    /// Does as the other process says, until it says nothing any more.
    fn hear(&self, channel: &Channel, relay: &Relay) -> Broken {
        let table = &self.parts.sessions;
        loop {
            let message = match channel.receive() {
                Ok((message, _)) => message,
                Err(broken) => return broken,
            };
            match message {
                Message::Open { number, session, ended } => {
                    for (id, end) in &ended {
                        table.follow_end(id, *end);
                    }
                    table.follow(&session, true);
                    relay.answer(number, true);
                }
                Message::Put { number, session } => {
                    table.follow(&session, false);
                    relay.answer(number, true);
                }
                Message::End { number, ended } => {
                    for (id, end) in &ended {
                        table.follow_end(id, *end);
                    }
                    relay.answer(number, true);
                }
                Message::Data { number, id, space, value, .. } => {
                    table.follow_data(&id, space, value);
                    relay.answer(number, true);
                }
                Message::Revoke { number, revocation } => {
                    self.parts.revoked.follow(&revocation);
                    relay.answer(number, true);
                }
                Message::Use { id, at } => table.follow_use(&id, at),
                Message::Done { number, ok } => relay.answered(number, ok),
                _ => return Broken::OutOfTurn,
            }
        }
    }
}
