//! The two journals of a table that is handed over.
//!
//! [`Watch`] notes what changes while all of it is being copied. [`Relay`] tells the other process of each change, in the order
//! in which it happened, and says that it is written once the other has answered. Changes of a table that nobody has taken yet
//! wait in it, so that they can be given back.

#[cfg(test)]
mod tests;

use super::channel::{Broken, Channel};
use super::protocol::{ENDS_MAX, Message, Remembered};
use crate::domain::session::{End, Restored, Session, SessionId, SpaceId};
use crate::domain::time::Clock;
use crate::store::journal::{Ack, Change, Commit, Journal, Unavailable};
use crate::store::revoked::Revocation;
use http::HeaderValue;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Changes that may wait to be sent, or for an answer: then the other process is taken for dead.
const CHANGES_MAX: usize = 128 * 1024;
/// Changes that leave in one piece.
const SENT_AT_ONCE: usize = 256;
/// How often somebody looks whether the other process still answers.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the former process may take to say that it has heard. Who waits for that is answered then.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// Notes which sessions change, beside the journal that they have.
pub(super) struct Watch {
    journal: Option<Arc<dyn Journal>>,
    changed: Mutex<HashMap<SessionId, Option<Remembered>>>,
}

impl Watch {
    pub(super) fn beside(journal: Option<Arc<dyn Journal>>) -> Self {
        Self { journal, changed: Mutex::default() }
    }

    /// What has changed since this was asked last; with their ends those that ended.
    pub(super) fn take(&self) -> Vec<(SessionId, Option<Remembered>)> {
        std::mem::take(&mut *self.changed.lock()).into_iter().collect()
    }

    /// The session as it is now. Where the store has not said yet what came of its data, that may be older than what somebody is
    /// told a moment later: then it is told as changed once more.
    pub(super) fn copy(&self, session: &Session) -> Restored {
        if session.awaits_store() {
            self.note(session, None);
        }
        Restored::of(session)
    }

    fn note_ended(&self, sessions: &[(Session, End)]) {
        for (session, end) in sessions {
            self.note(session, Some(*end));
        }
    }

    fn note(&self, session: &Session, end: Option<End>) {
        let ended = end.map(|end| (*session.digest(), end, session.id()));
        let mut changed = self.changed.lock();
        let noted = changed.entry(session.id()).or_default();
        *noted = ended.or(*noted);
    }
}

impl Journal for Watch {
    fn write(&self, change: Change) -> Commit {
        match &change {
            Change::Open { session, ended } => {
                self.note(session, None);
                self.note_ended(ended);
            }
            Change::End { sessions } => {
                self.note_ended(sessions);
            }
            Change::Put { session } | Change::Data { session, .. } => self.note(session, None),
        }
        self.journal.as_ref().map_or(Commit::ready(), |journal| journal.write(change))
    }

    fn can_write(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.can_write())
    }

    fn touched(&self, session: &Session) {
        self.note(session, None);
        if let Some(journal) = &self.journal {
            journal.touched(session);
        }
    }

    fn keeps(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.keeps())
    }
}

/// On which side of the hand-over this process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It was the gateway: what it changes counts once the other has it.
    Former,
    /// It is the gateway: its changes count, and the former hears of them before anybody is answered.
    Successor,
}

/// Tells the other process of every change.
pub(super) struct Relay {
    side: Side,
    clock: Arc<dyn Clock>,
    outbox: Mutex<Outbox>,
    wake: Condvar,
    /// Everything was answered, or nothing will be.
    settled: Condvar,
}

#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Waiting>,
    /// By number, with the instant by the clock's ticks at which it was sent.
    unanswered: BTreeMap<u64, (Duration, Answer)>,
    last_number: u64,
    is_closed: bool,
}

enum Waiting {
    Change(Change, Ack),
    Revocation(Revocation, Ack),
    Use(Session),
    Done { number: u64, ok: bool },
}

/// What is to be done for those who wait.
enum Next {
    /// These bytes are to be sent.
    Frames(Vec<u8>),
    /// Nothing more.
    Nothing,
    /// The other process has not answered for too long.
    Late,
}

/// What a process has to write itself, since nobody took the table.
pub(super) enum Back {
    Change(Change),
    Revocation(Revocation),
}

/// Who waits for the answer to a change.
struct Answer {
    ack: Ack,
    /// What was sent of its data.
    data: Option<(Session, SpaceId, u32, Option<HeaderValue>)>,
}

impl Answer {
    fn to(change: &Change, ack: Ack) -> Self {
        let data = match change {
            Change::Data { session, space, value, epoch, .. } => {
                Some((session.clone(), *space, *epoch, value.clone()))
            }
            Change::Open { .. } | Change::End { .. } | Change::Put { .. } => None,
        };
        Self { ack, data }
    }

    fn say(self, result: Result<(), Unavailable>) {
        if let Some((session, space, epoch, value)) = self.data {
            session.data_written(space, epoch, value.as_ref(), result.is_ok());
        }
        self.ack.send(result);
    }
}

impl Relay {
    pub(super) fn new(side: Side, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (outbox, wake, settled) = (Mutex::default(), Condvar::new(), Condvar::new());
        Arc::new(Self { side, clock, outbox, wake, settled })
    }

    /// Sends what waits until the connection is closed. `false`: the other process does not answer, or does not read.
    pub(super) fn send_all(&self, channel: &Channel) -> bool {
        let heard = loop {
            let frames = match self.next_frames() {
                Next::Frames(frames) => frames,
                Next::Nothing => break true,
                Next::Late => break false,
            };
            match channel.send_bytes(&frames) {
                Ok(()) => {}
                Err(Broken::Late) => break false,
                Err(_) => break true,
            }
        };
        self.close();
        channel.shut();
        heard
    }

    /// What is to be sent next.
    fn next_frames(&self) -> Next {
        let (waiting, first_number) = {
            let mut outbox = self.outbox.lock();
            loop {
                let now = self.clock.ticks();
                let oldest = outbox.unanswered.first_key_value().map(|(_, (sent, _))| *sent);
                if self.side == Side::Successor
                    && oldest.is_some_and(|sent| now.saturating_sub(sent) > HEARD_WITHIN)
                {
                    return Next::Late;
                }
                if outbox.is_closed {
                    return Next::Nothing;
                }
                if !outbox.waiting.is_empty() {
                    break;
                }
                self.wake.wait_for(&mut outbox, LOOK_EVERY);
            }
            let count = outbox.waiting.len().min(SENT_AT_ONCE);
            let waiting: Vec<Waiting> = outbox.waiting.drain(..count).collect();
            let first_number = outbox.last_number + 1;
            outbox.last_number += count as u64;
            (waiting, first_number)
        };
        let mut frames = Vec::new();
        let mut answers = Vec::new();
        // Sessions are read here: where the change was told their cells were locked.
        for (number, waiting) in (first_number..).zip(waiting) {
            match waiting {
                Waiting::Change(change, ack) => {
                    answers.push((number, Answer::to(&change, ack)));
                    put(change, number, &mut frames);
                }
                Waiting::Revocation(revocation, ack) => {
                    answers.push((number, Answer { ack, data: None }));
                    frames.extend(Message::Revoke { number, revocation }.frame());
                }
                Waiting::Use(session) => {
                    let (id, at) = (session.id(), session.last_used_at());
                    frames.extend(Message::Use { id, at }.frame());
                }
                Waiting::Done { number, ok } => frames.extend(Message::Done { number, ok }.frame()),
            }
        }
        let now = self.clock.ticks();
        let mut outbox = self.outbox.lock();
        if outbox.is_closed {
            drop(outbox);
            for (_, answer) in answers {
                answer.say(self.verdict());
            }
            return Next::Nothing;
        }
        outbox.unanswered.extend(answers.into_iter().map(|(number, answer)| (number, (now, answer))));
        Next::Frames(frames)
    }

    /// The other process has answered.
    pub(super) fn answered(&self, number: u64, ok: bool) {
        let answer = {
            let mut outbox = self.outbox.lock();
            let answer = outbox.unanswered.remove(&number);
            if outbox.is_settled() {
                self.settled.notify_all();
            }
            answer
        };
        if let Some((_, answer)) = answer {
            answer.say(if ok { Ok(()) } else { self.verdict() });
        }
    }

    /// Answers a change of the other process.
    pub(super) fn answer(&self, number: u64, ok: bool) {
        // The number of a part of a change, whose last part is answered.
        if number != 0 {
            self.push(Waiting::Done { number, ok });
        }
    }

    /// What becomes of a change that the other process does not take.
    fn verdict(&self) -> Result<(), Unavailable> {
        match self.side {
            Side::Former => Err(Unavailable),
            Side::Successor => Ok(()),
        }
    }

    /// The other process is gone: whoever waits is told, and whoever comes.
    pub(super) fn close(&self) {
        let (waiting, unanswered) = {
            let mut outbox = self.outbox.lock();
            outbox.is_closed = true;
            (std::mem::take(&mut outbox.waiting), std::mem::take(&mut outbox.unanswered))
        };
        self.wake.notify_all();
        self.settled.notify_all();
        for waiting in waiting {
            match waiting {
                Waiting::Change(change, ack) => Answer::to(&change, ack).say(self.verdict()),
                Waiting::Revocation(_, ack) => ack.send(self.verdict()),
                Waiting::Use(_) | Waiting::Done { .. } => {}
            }
        }
        for (_, answer) in unanswered.into_values() {
            answer.say(self.verdict());
        }
    }

    /// Nobody took the table: its changes so far, to be written here.
    pub(super) fn give_back(&self) -> Vec<(Back, Ack)> {
        let waiting = {
            let mut outbox = self.outbox.lock();
            outbox.is_closed = true;
            std::mem::take(&mut outbox.waiting)
        };
        let change = |waiting| match waiting {
            Waiting::Change(change, ack) => Some((Back::Change(change), ack)),
            Waiting::Revocation(revocation, ack) => Some((Back::Revocation(revocation), ack)),
            Waiting::Use(_) | Waiting::Done { .. } => None,
        };
        waiting.into_iter().filter_map(change).collect()
    }

    /// Waits until everything was sent and answered, or the other process is gone, or `patience` is over.
    pub(super) fn settle(&self, patience: Duration) {
        let mut outbox = self.outbox.lock();
        if !outbox.is_settled() {
            self.settled.wait_for(&mut outbox, patience);
        }
    }

    fn push(&self, waiting: Waiting) {
        let mut outbox = self.outbox.lock();
        if outbox.is_closed {
            drop(outbox);
            if let Waiting::Change(_, ack) | Waiting::Revocation(_, ack) = waiting {
                ack.send(self.verdict());
            }
            return;
        }
        outbox.waiting.push_back(waiting);
        if outbox.waiting.len() + outbox.unanswered.len() > CHANGES_MAX {
            // Whoever sends finds it closed, and closes the connection.
            outbox.is_closed = true;
        }
        drop(outbox);
        self.wake.notify_one();
    }
}

impl Outbox {
    fn is_settled(&self) -> bool {
        self.is_closed || (self.waiting.is_empty() && self.unanswered.is_empty())
    }
}

impl Journal for Relay {
    fn write(&self, change: Change) -> Commit {
        let (ack, commit) = Commit::pair();
        self.push(Waiting::Change(change, ack));
        commit
    }

    fn can_write(&self) -> bool {
        self.side == Side::Successor || !self.outbox.lock().is_closed
    }

    fn touched(&self, session: &Session) {
        self.push(Waiting::Use(session.clone()));
    }

    fn revoked(&self, revocation: Revocation) -> Commit {
        let (ack, commit) = Commit::pair();
        self.push(Waiting::Revocation(revocation, ack));
        commit
    }

    fn keeps(&self) -> bool {
        false
    }

    fn follows(&self) -> bool {
        self.side == Side::Former
    }
}

/// Appends the messages that tell of a change.
fn put(change: Change, number: u64, frames: &mut Vec<u8>) {
    let named = |sessions: &[(Session, End)]| -> Vec<(SessionId, End)> {
        sessions.iter().map(|(session, end)| (session.id(), *end)).collect()
    };
    match change {
        Change::Open { session, ended } => {
            let session = Box::new(Restored::of(&session));
            frames.extend(Message::Open { number, session, ended: named(&ended) }.frame());
        }
        Change::Put { session } => {
            let session = Box::new(Restored::of(&session));
            frames.extend(Message::Put { number, session }.frame());
        }
        Change::End { sessions } => {
            let ended = named(&sessions);
            let parts = ended.chunks(ENDS_MAX).len();
            for (at, part) in ended.chunks(ENDS_MAX).enumerate() {
                let number = if at + 1 == parts { number } else { 0 };
                frames.extend(Message::End { number, ended: part.to_vec() }.frame());
            }
        }
        Change::Data { session, space, former, value, .. } => {
            frames.extend(Message::Data { number, id: session.id(), space, former, value }.frame());
        }
    }
}
