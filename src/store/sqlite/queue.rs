//! What waits to be written, and who waits for it.
//!
//! The table's threads put changes in; the writer takes all of it at once, so that whatever came while one commit ran goes
//! into the next. Openings and data wait in order, and there is a bound to them. Ends, and sessions that are to be written
//! anew, are never refused, for what happened to them is in force already; of both there are no more than sessions. Within
//! one batch openings come first and ends last, so that it does not matter which of a session's changes came first: what
//! is ended stays so.

use crate::domain::session::{End, Session, SessionId, SpaceId};
use crate::domain::token::TokenDigest;
use crate::store::journal::{Ack, Unavailable};
use crate::store::revoked::Revocation;
use http::HeaderValue;
use std::collections::{HashMap, VecDeque};

/// Openings and patches that may wait; with the largest data some 64 MiB.
pub(super) const JOBS_MAX: usize = 2048;
/// Ends, and as many last uses, in one commit: few enough that those who came after wait for milliseconds.
pub(super) const ROWS_PER_BATCH: usize = 2048;

/// An opening or a patch.
pub(super) enum Job {
    /// A session was opened.
    Open {
        /// With the data that it opened with.
        session: Session,
        /// Ended in the same step.
        ended: Vec<Ended>,
        ack: Ack,
    },
    /// An application changed its data.
    Data(Data),
}

/// See [`Job::Data`].
pub(super) struct Data {
    pub(super) session: Session,
    pub(super) space: SpaceId,
    pub(super) value: Option<HeaderValue>,
    pub(super) epoch: u32,
    pub(super) ack: Ack,
}

impl Data {
    /// Takes the patch back.
    pub(super) fn refuse(self) {
        self.answer(Err(Unavailable));
    }

    /// Tells the session and whoever waits what came of it.
    pub(super) fn answer(self, result: Result<(), Unavailable>) {
        self.session.data_written(self.space, self.epoch, self.value.as_ref(), result.is_ok());
        self.ack.send(result);
    }
}

/// A session that ended.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) id: SessionId,
    pub(super) digest: TokenDigest,
    pub(super) end: End,
}

impl Ended {
    pub(super) fn of((session, end): &(Session, End)) -> Self {
        Self { id: session.id(), digest: *session.digest(), end: *end }
    }
}

/// Sessions that ended together. Whoever waits is answered with the last of them.
pub(super) struct Ends {
    pub(super) sessions: Vec<Ended>,
    pub(super) ack: Option<Ack>,
}

/// A session that is to be written as it is when that happens.
pub(super) struct Put {
    pub(super) session: Session,
    pub(super) acks: Vec<Ack>,
}

/// Everything that waits.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read in another place")]
pub(super) struct Queue {
    pub(super) jobs: Vec<Job>,
    pub(super) puts: HashMap<SessionId, Put>,
    pub(super) ends: VecDeque<Ends>,
    /// Revocations, with whoever waits for them. Bounded by the table that they are in force in.
    pub(super) revocations: Vec<(Revocation, Option<Ack>)>,
    /// Revocations in the file are to be sealed with the newest key.
    pub(super) seal_anew: bool,
    /// Patches to be taken back. No more than exchanges run.
    pub(super) refused: Vec<Data>,
    /// Rows that no key opens and that are past their absolute end are to go.
    pub(super) purge: bool,
    /// The last attempt to write failed: what can be refused is refused at once.
    pub(super) is_down: bool,
    /// The process ends: what waits is written, nothing new is taken that can be refused.
    pub(super) is_stopping: bool,
    /// The writer is gone.
    pub(super) is_closed: bool,
    #[cfg(test)]
    pub(super) reins: Reins,
}

/// How a test holds the writer.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Reins {
    /// It writes nothing.
    pub(super) is_held: bool,
    /// It is to look after last uses, or to try again, now.
    pub(super) is_due: bool,
    /// It waits.
    pub(super) is_idle: bool,
}

/// What one commit writes.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) puts: HashMap<SessionId, Put>,
    pub(super) ends: Vec<Ends>,
    pub(super) touched: Vec<Session>,
    pub(super) revocations: Vec<(Revocation, Option<Ack>)>,
    pub(super) seal_anew: bool,
    pub(super) purge: bool,
    /// Written even if it is empty, to see whether the file can be.
    pub(super) is_probe: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        let Self { jobs, puts, ends, touched, revocations, seal_anew, purge, is_probe } = self;
        jobs.is_empty()
            && puts.is_empty()
            && ends.is_empty()
            && touched.is_empty()
            && revocations.is_empty()
            && !(*seal_anew || *purge || *is_probe)
    }
}

impl Queue {
    /// Takes an opening; refused at once where there is no room or no hope. The sessions that ended for it have ended.
    pub(super) fn open(&mut self, session: Session, ended: Vec<Ended>, ack: Ack) {
        if self.has_room() {
            self.jobs.push(Job::Open { session, ended, ack });
            return;
        }
        if !ended.is_empty() {
            self.ends.push_back(Ends { sessions: ended, ack: None });
        }
        ack.send(Err(Unavailable));
    }

    /// Takes a patch. One that is refused is answered by the writer, for this is called while the data is locked.
    pub(super) fn data(&mut self, data: Data) {
        if self.has_room() {
            self.jobs.push(Job::Data(data));
        } else if !self.is_closed {
            self.refused.push(data);
        }
    }

    /// Takes a session that is to be written anew.
    pub(super) fn put(&mut self, session: Session, ack: Ack) {
        let ack = self.unless_down(ack);
        let put = self.puts.entry(session.id()).or_insert(Put { session, acks: Vec::new() });
        put.acks.extend(ack);
    }

    /// Takes ends.
    pub(super) fn end(&mut self, sessions: Vec<Ended>, ack: Ack) {
        let ack = self.unless_down(ack);
        self.ends.push_back(Ends { sessions, ack });
    }

    /// Takes a revocation.
    pub(super) fn revoke(&mut self, revocation: Revocation, ack: Ack) {
        let ack = self.unless_down(ack);
        self.revocations.push((revocation, ack));
    }

    /// Whether an opening or a patch would be taken now. Not while a patch is to be taken back: what an opening inherited
    /// could be that.
    pub(super) fn can_write(&self) -> bool {
        self.has_room() && self.refused.is_empty()
    }

    fn has_room(&self) -> bool {
        !self.is_closed && !self.is_down && !self.is_stopping && self.jobs.len() < JOBS_MAX
    }

    fn unless_down(&self, ack: Ack) -> Option<Ack> {
        if self.is_down {
            ack.send(Err(Unavailable));
            return None;
        }
        Some(ack)
    }

    /// Whether anything but refusals waits.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.puts.is_empty()
            && self.ends.is_empty()
            && self.revocations.is_empty()
            && !(self.seal_anew || self.purge)
    }

    /// How many ends and new states wait.
    pub(super) fn backlog(&self) -> usize {
        self.puts.len()
            + self.revocations.len()
            + self.ends.iter().map(|ends| ends.sessions.len()).sum::<usize>()
    }

    /// Takes what the next commit writes: everything, but of the ends no more than [`ROWS_PER_BATCH`].
    pub(super) fn take(&mut self) -> Batch {
        let mut ends = Vec::new();
        let mut room = ROWS_PER_BATCH;
        while let Some(next) = self.ends.front_mut() {
            if next.sessions.len() > room {
                let rest = next.sessions.split_off(room);
                let sessions = std::mem::replace(&mut next.sessions, rest);
                ends.push(Ends { sessions, ack: None });
                break;
            }
            room -= next.sessions.len();
            ends.extend(self.ends.pop_front());
        }
        Batch {
            jobs: std::mem::take(&mut self.jobs),
            puts: std::mem::take(&mut self.puts),
            ends,
            touched: Vec::new(),
            revocations: std::mem::take(&mut self.revocations),
            seal_anew: std::mem::take(&mut self.seal_anew),
            purge: std::mem::take(&mut self.purge),
            is_probe: self.is_down || self.is_stopping,
        }
    }

    /// Takes back what could not be written, and gives the patches that are refused. Everybody is told, also those whose
    /// change came meanwhile; what is in force waits on.
    pub(super) fn put_back(&mut self, batch: Batch) -> Vec<Data> {
        let refuse = |ack: Option<Ack>| ack.into_iter().for_each(|ack| ack.send(Err(Unavailable)));
        let mut refused = Vec::new();
        let mut ends = Vec::new();
        for job in batch.jobs.into_iter().chain(self.jobs.drain(..)) {
            match job {
                Job::Open { ended, ack, .. } => {
                    refuse(Some(ack));
                    ends.extend(ended);
                }
                Job::Data(data) => refused.push(data),
            }
        }
        for waiting in batch.ends.into_iter().chain(self.ends.drain(..)) {
            refuse(waiting.ack);
            ends.extend(waiting.sessions);
        }
        if !ends.is_empty() {
            self.ends.push_back(Ends { sessions: ends, ack: None });
        }
        for put in self.puts.values_mut() {
            put.acks.drain(..).for_each(|ack| refuse(Some(ack)));
        }
        for (id, put) in batch.puts {
            put.acks.into_iter().for_each(|ack| refuse(Some(ack)));
            self.puts.entry(id).or_insert(Put { session: put.session, acks: Vec::new() });
        }
        let came = std::mem::take(&mut self.revocations);
        for (revocation, ack) in batch.revocations.into_iter().chain(came) {
            refuse(ack);
            self.revocations.push((revocation, None));
        }
        self.seal_anew |= batch.seal_anew;
        self.purge |= batch.purge;
        refused
    }
}
