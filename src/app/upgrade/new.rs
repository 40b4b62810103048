//! The process that becomes the gateway: it asks the old one, takes listeners, clock and sessions, and decides from then on.

use super::channel::{Broken, Channel};
use super::protocol::{Message, VERSION, Wish};
use super::relay::{Relay, Side};
use super::{UpgradeError, private_folder};
use crate::domain::session::{End, Restored, SessionId};
use crate::net::listener::Bound;
use crate::proxy::parts::Parts;
use crate::store::journal::{Both, Commit, Journal};
use crate::store::sqlite::SqliteStore;
use crate::store::table::{Ended, Opened};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::watch;

/// How long the old process may take for a message; while it waits itself it says so.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the former process may take to read what it is told.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// How long an operator waits for a sign of life of the process that upgrades.
const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(20);
/// Changes of the former process that wait to be durable.
const UNANSWERED_MAX: usize = 64 * 1024;

/// A process that would give itself away.
pub(crate) struct Offer {
    channel: Channel,
    process: u32,
    /// Its clock's origin.
    pub(crate) clock: i64,
    /// Whatever listens.
    pub(crate) listeners: Vec<Bound>,
}

/// What was copied, and may have to be held against the files of today.
pub(crate) struct Copied {
    offer: Offer,
    /// Sessions that differ from what the files say, or may.
    pub(crate) others: Vec<SessionId>,
}

/// The sessions are here, and nowhere else: but for the word of this.
pub(crate) struct Successor {
    channel: Channel,
    sender: Channel,
    relay: Arc<Relay>,
    process: u32,
}

/// Asks the process that listens on `socket` to start another one, and waits for what comes of that.
pub(crate) fn wish(socket: &Path) -> Result<String, UpgradeError> {
    let channel = connect(socket, SIGN_OF_LIFE_WITHIN, Wish::Start)?;
    match channel.receive_patiently() {
        Ok((Message::Outcome { ok: true, text }, _)) => Ok(text),
        Ok((Message::Outcome { ok: false, text }, _)) => Err(UpgradeError::CameToNothing(text)),
        Ok(_) => Err(Broken::OutOfTurn.into()),
        Err(broken) => Err(broken.into()),
    }
}

/// Asks the process that listens on `socket` for everything. `place`: where sessions live, in words.
pub(crate) fn ask(socket: &Path, place: &str) -> Result<Offer, UpgradeError> {
    private_folder(socket)?;
    let channel = connect(socket, PATIENCE, Wish::Take)?;
    // Whoever made the socket that is listened on; it goes from process to process.
    let peer = channel.peer().map_err(Broken::System)?;
    if peer.user != rustix::process::geteuid().as_raw() {
        return Err(UpgradeError::Stranger(peer.user));
    }
    let (Message::Welcome { process, clock, store }, _) = channel.receive_patiently()? else {
        return Err(Broken::OutOfTurn.into());
    };
    if store != place {
        return Err(UpgradeError::OtherStore { theirs: store, ours: place.to_owned() });
    }
    let mut offer = Offer { channel, process, clock, listeners: Vec::new() };
    loop {
        match offer.channel.receive()? {
            (Message::Listener(name), Some(socket)) => {
                // The name tells what the descriptor is; that it is so is looked at when it is used.
                let bound = if name.starts_with("unix:") {
                    Bound::Unix(socket.into())
                } else {
                    Bound::Tcp(socket.into())
                };
                bound.set_nonblocking().map_err(Broken::System)?;
                offer.listeners.push(bound);
            }
            (Message::Go, _) => return Ok(offer),
            _ => return Err(Broken::OutOfTurn.into()),
        }
    }
}

fn connect(socket: &Path, patience: Duration, wish: Wish) -> Result<Channel, UpgradeError> {
    let nobody = |error| UpgradeError::Nobody { socket: socket.to_owned(), error };
    let channel = UnixStream::connect(socket).map_err(nobody)?;
    let channel = Channel::new(channel, patience).map_err(Broken::System)?;
    channel.send(&Message::Hello { version: VERSION, wish })?;
    Ok(channel)
}

impl Offer {
    /// Takes a copy of every session into the empty table. `differs` tells which are to be held against the files.
    ///
    /// # Errors
    ///
    /// The old process goes on.
    pub(crate) fn copy(
        self,
        parts: &Parts,
        differs: impl Fn(&Restored) -> bool,
    ) -> Result<Copied, UpgradeError> {
        let (channel, table) = (&self.channel, &parts.sessions);
        channel.send(&Message::Go)?;
        let (mut others, mut ends, mut broken) = (Vec::new(), Vec::new(), None);
        let mut ahead = Vec::new().into_iter();
        let sessions = std::iter::from_fn(|| {
            loop {
                if let Some(session) = ahead.next() {
                    return Some(session);
                }
                match channel.receive() {
                    Ok((Message::Sessions(sessions), _)) => ahead = sessions.into_iter(),
                    Ok((Message::Ends(more), _)) => ends.extend(more),
                    Ok((Message::Go, _)) => return None,
                    Ok(_) => broken = Some(Broken::OutOfTurn),
                    Err(error) => broken = Some(error),
                }
                if broken.is_some() {
                    return None;
                }
            }
        });
        table.restore(sessions.inspect(|session| {
            if differs(session) {
                others.push(session.id);
            }
        }));
        if let Some(broken) = broken {
            return Err(broken.into());
        }
        for (digest, end, id) in ends {
            table.remember_end(digest, end, id);
        }
        // What has changed while that came, until nothing more does.
        loop {
            match channel.receive()? {
                (Message::Sessions(sessions), _) => {
                    for session in sessions {
                        table.follow(&session, true);
                        if differs(&session) {
                            others.push(session.id);
                        }
                    }
                }
                (Message::Ends(ends), _) => {
                    for (digest, end, id) in ends {
                        table.follow_end(&id, end);
                        table.remember_end(digest, end, id);
                    }
                }
                (Message::Revoked(piece), _) => {
                    parts.revoked.restore(&piece).ok_or(Broken::OutOfTurn)?;
                }
                (Message::Cut, _) => return Ok(Copied { offer: self, others }),
                _ => return Err(Broken::OutOfTurn.into()),
            }
        }
    }
}

impl Copied {
    /// Says that the sessions are here. Everything that can go wrong has to be behind this.
    ///
    /// # Errors
    ///
    /// They are not, and this process serves nobody.
    pub(crate) fn take(
        self,
        parts: &Parts,
        store: Option<&Arc<SqliteStore>>,
    ) -> Result<Successor, UpgradeError> {
        let Offer { channel, process, .. } = self.offer;
        channel.wait_for_ever(HEARD_WITHIN).map_err(Broken::System)?;
        let sender = channel.try_clone().map_err(Broken::System)?;
        let relay = Relay::new(Side::Successor, parts.clock.clone());
        let journal: Arc<dyn Journal> = match store {
            Some(store) => Arc::new(Both(store.clone(), relay.clone())),
            None => relay.clone(),
        };
        parts.sessions.set_journal(Some(journal));
        parts.revoked.relay(Some(relay.clone()));
        // Proofs of until now may have been used there.
        parts.proofs.begin(parts.clock.wall());
        channel.send(&Message::Taken)?;
        Ok(Successor { channel, sender, relay, process })
    }
}

impl Successor {
    /// Decides about what the old process asks, and tells it of everything, for as long as it lives. `alone` is told when it is gone.
    pub(crate) fn decide(
        self,
        parts: Arc<Parts>,
        store: Option<Arc<SqliteStore>>,
        alone: watch::Sender<bool>,
    ) -> io::Result<()> {
        let Self { channel, sender, relay, process } = self;
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let sending = relay.clone();
        thread("relay").spawn(move || {
            if !sending.send_all(&sender) {
                end(process);
            }
        })?;
        let (waiting, waits) = sync_channel(UNANSWERED_MAX);
        let answering = relay.clone();
        thread("answers").spawn(move || answer_all(&answering, &waits))?;
        thread("upgrade").spawn(move || {
            let broken = hear(&channel, &relay, &parts, &waiting);
            tracing::info!(process, "the former process is gone ({broken}); its upgrade is done");
            // First what waits for its word, then nobody waits for it any more.
            relay.close();
            channel.shut();
            parts.revoked.relay(None);
            parts.sessions.set_journal(store.map(|store| store as Arc<dyn Journal>));
            alone.send_replace(true);
        })?;
        Ok(())
    }
}

/// Ends the former process, which has not said for too long whether it has heard what ended: it may still let somebody pass. Its
/// connection was open a moment ago, and so it is no other that has its number.
fn end(process: u32) {
    let number = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let ended = number.map(|number| rustix::process::kill_process(number, rustix::process::Signal::KILL));
    tracing::error!(
        process,
        ?ended,
        "the former process does not answer, and is ended with what still ran in it"
    );
}

/// A change of the former process, and what has to be durable before it hears that it counts. Nothing: it does not.
type Asked = (u64, Option<Vec<Commit>>);

/// Answers in the order in which was asked.
fn answer_all(relay: &Relay, waits: &Receiver<Asked>) {
    for (number, commits) in waits {
        let ok = commits.is_some_and(|commits| commits.into_iter().all(|commit| commit.wait().is_ok()));
        relay.answer(number, ok);
    }
}

/// Does what the former process asks, where that can be, until it is gone.
fn hear(channel: &Channel, relay: &Relay, parts: &Parts, waiting: &SyncSender<Asked>) -> Broken {
    loop {
        let message = match channel.receive() {
            Ok((message, _)) => message,
            Err(broken) => return broken,
        };
        let asked = match message {
            Message::Open { number, session, ended } => (number, open(parts, *session, &ended)),
            Message::Put { number, session } => (number, put(parts, &session)),
            Message::End { number, ended } => {
                let end = |(id, end): &(SessionId, End)| parts.sessions.end_by_id(id, *end).commit;
                (number, Some(ended.iter().map(end).collect()))
            }
            Message::Data { number, id, space, former, value } => {
                let now = parts.clock.now();
                let patched = parts.sessions.held(&id).and_then(|session| {
                    // Made from something else than what there is: it is to be made again.
                    let apply = |held: Option<&_>| if held == former.as_ref() { Ok(value) } else { Err(()) };
                    parts.sessions.patch(&session, space, now, apply).ok()
                });
                (number, patched.map(|commit| vec![commit]))
            }
            Message::Revoke { number, revocation } => {
                let commit = parts.revoked.add(revocation, parts.clock.wall());
                (number, commit.ok().map(|commit| vec![commit]))
            }
            Message::Use { id, at } => {
                if let Some(session) = parts.sessions.held(&id) {
                    parts.sessions.touch(&session, at);
                }
                continue;
            }
            Message::Done { number, ok } => {
                relay.answered(number, ok);
                continue;
            }
            _ => return Broken::OutOfTurn,
        };
        if waiting.send(asked).is_err() {
            return Broken::Closed;
        }
    }
}

/// Opens a session that the former process has opened.
fn open(parts: &Parts, mut session: Restored, ended: &[(SessionId, End)]) -> Option<Vec<Commit>> {
    let (table, now) = (&parts.sessions, parts.clock.now());
    let mut commits = Vec::new();
    let mut instead_of = Vec::new();
    for (id, end) in ended {
        match end {
            // Its data may go over, as it is here.
            End::Superseded => instead_of.extend(table.held(id)),
            end => commits.push(table.end_by_id(id, *end).commit),
        }
    }
    session.data.clear();
    let Ok(Opened { ended: all, commit }) = table.open(session.revive().0, &instead_of, now) else {
        for session in &instead_of {
            let Ended { commit, .. } = table.end_by_id(&session.id(), End::Superseded);
            commit.forget();
        }
        return None;
    };
    // The former process tells of those that it knows of.
    for (session, end) in all {
        if ended.iter().all(|(id, _)| *id != session.id()) {
            parts.note_ended(&[session], end, None, None, now);
        }
    }
    commits.push(commit);
    Some(commits)
}

/// Gives a session the successor token that the former process offers, or notes that it was presented.
fn put(parts: &Parts, session: &Restored) -> Option<Vec<Commit>> {
    let (table, now) = (&parts.sessions, parts.clock.now());
    let held = table.held(&session.id)?;
    let mut commits = Vec::new();
    if *held.digest() != session.digest {
        let before = session.predecessor.as_ref()?;
        if before.digest != *held.digest() {
            return None;
        }
        commits.push(table.offer(&held, session.digest, now)?);
    }
    if session.presented_at.is_some() {
        // To look it up is to present it.
        table.find(&session.digest, now).ok()?;
    }
    Some(commits)
}
