//! Reading the file at the start: two threads read and decode while the table takes in.
//!
//! They take turns at ranges of rows, and what they found is handed over in the order of ids, which the table builds its
//! directory from fastest.

use super::file::{OpenError, Problem, connect};
use super::row::{self, Place};
use super::seal::{SealKeys, Unopened};
use crate::domain::session::{End, Restored, SessionId, SpaceId};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use rusqlite::{Connection, Row, Statement};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Sessions that are handed over at a time.
const CHUNK: usize = 512;
/// Chunks that may wait.
const CHUNKS_MAX: usize = 16;
/// Threads that read.
const READERS: usize = 2;
/// Ranges of rows, by the first byte of their ids: ids are random, so one range is as long as another.
const RANGES: u64 = 256;

/// The rows whose ids begin with this byte.
fn range(first: u64) -> RangeInclusive<i64> {
    let number = |begin: [u8; 8]| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&begin);
        row::number_of(&SessionId::from_bytes(id))
    };
    number((first << 56).to_be_bytes())..=number(((first << 56) | ((1 << 56) - 1)).to_be_bytes())
}

/// Sessions in the order of their ids, from readers that take turns. An empty chunk ends a range.
struct InOrder {
    readers: [Receiver<Vec<Restored>>; READERS],
    range: usize,
    ahead: std::vec::IntoIter<Restored>,
}

impl Iterator for InOrder {
    type Item = Restored;

    fn next(&mut self) -> Option<Restored> {
        loop {
            if let Some(session) = self.ahead.next() {
                return Some(session);
            }
            // A reader that is gone has read all its ranges, or says why not.
            let chunk = self.readers[self.range % READERS].recv().ok()?;
            self.range += usize::from(chunk.is_empty());
            self.ahead = chunk.into_iter();
        }
    }
}

/// What a file held besides its sessions.
#[derive(Debug, Default)]
pub struct Loaded {
    /// How the last sessions of earlier processes ended, oldest first.
    pub ends: Vec<(TokenDigest, End, SessionId)>,
    /// Live sessions that no key of the ring opens. They are left out, and stay in the file until their absolute end.
    pub unopened: u64,
    /// Values that are not what was written at their place. Their sessions, or their data, are left out.
    pub damaged: u64,
    /// There are rows that nobody will delete by ending a session.
    pub(super) has_leftovers: bool,
}

/// What one thread found.
#[derive(Default)]
struct Counts {
    unopened: u64,
    damaged: u64,
    has_leftovers: bool,
}

pub(super) fn load(
    path: &Path,
    keys: &SealKeys,
    now: Timestamp,
    take: impl FnOnce(&mut dyn Iterator<Item = Restored>),
) -> Result<Loaded, OpenError> {
    let mut loaded = Loaded::default();
    let read = || {
        std::thread::scope(|scope| {
            let (mut senders, mut receivers) = (Vec::new(), Vec::new());
            for _ in 0..READERS {
                let (sender, receiver) = sync_channel(CHUNKS_MAX);
                senders.push(sender);
                receivers.push(receiver);
            }
            let readers: Vec<_> = (0..)
                .zip(senders)
                .map(|(first, sender)| scope.spawn(move || read(&connect(path)?, first, keys, now, &sender)))
                .collect();
            let readers_of = receivers.try_into().expect("as many as there are readers");
            take(&mut InOrder { readers: readers_of, range: 0, ahead: Vec::new().into_iter() });
            for reader in readers {
                // A panic has told what happened; what is missing is missing.
                let counts = reader.join().map_err(|_| Problem::Unread)??;
                loaded.unopened += counts.unopened;
                loaded.damaged += counts.damaged;
                loaded.has_leftovers |= counts.has_leftovers;
            }
            loaded.ends = ends(&connect(path)?)?;
            Ok(())
        })
    };
    read().map_err(|problem: Problem| problem.of(path))?;
    Ok(loaded)
}

/// Counts the live sessions that no key opens.
pub(super) fn unopened(path: &Path, keys: &SealKeys, now: Timestamp) -> Result<u64, OpenError> {
    let count = |connection: &Connection| {
        let mut groups = connection
            .prepare("SELECT substr(record, 1, 4), count(*) FROM sessions WHERE ends_at > ?1 GROUP BY 1")?;
        let groups = groups.query_map([row::micros(now)], |row| {
            let known = keys.knows(row.get_ref(0)?.as_blob()?);
            Ok(if known { 0 } else { row.get::<_, i64>(1)?.cast_unsigned() })
        })?;
        groups.sum::<rusqlite::Result<u64>>()
    };
    connect(path).and_then(|connection| count(&connection)).map_err(|error| Problem::from(error).of(path))
}

/// Reads every [`READERS`]th range from `first` on.
fn read(
    connection: &Connection,
    first: u64,
    keys: &SealKeys,
    now: Timestamp,
    sender: &SyncSender<Vec<Restored>>,
) -> rusqlite::Result<Counts> {
    let mut reader = Reader {
        sessions: connection.prepare(
            "SELECT number, id, opened_at, ends_at, subject, record, used
             FROM sessions WHERE number BETWEEN ?1 AND ?2 ORDER BY number",
        )?,
        data: connection.prepare(
            "SELECT session, space, value FROM data WHERE session BETWEEN ?1 AND ?2 ORDER BY session, space",
        )?,
        counts: Counts::default(),
        keys,
        now,
    };
    for at in (first..RANGES).step_by(READERS) {
        // Where nobody takes it, nobody wants the rest.
        if !reader.read(&range(at), sender)? || sender.send(Vec::new()).is_err() {
            break;
        }
    }
    Ok(reader.counts)
}

struct Reader<'c, 'k> {
    sessions: Statement<'c>,
    data: Statement<'c>,
    counts: Counts,
    keys: &'k SealKeys,
    now: Timestamp,
}

impl Reader<'_, '_> {
    /// Reads a range of rows with their data, which lie in the same order, side by side. `false`: nobody takes them.
    fn read(
        &mut self,
        range: &RangeInclusive<i64>,
        sender: &SyncSender<Vec<Restored>>,
    ) -> rusqlite::Result<bool> {
        let Self { sessions, data, counts, keys, now } = self;
        let mut sessions = sessions.query([range.start(), range.end()])?;
        let mut data = data.query([range.start(), range.end()])?;
        let mut ahead = data.next()?;
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut sealed = Vec::new();
        while let Some(found) = sessions.next()? {
            let number: i64 = found.get(0)?;
            let mut session = match session(found, keys, &mut sealed)? {
                Ok(session) => session,
                Err(unopened) => {
                    counts.has_leftovers = true;
                    match unopened {
                        Unopened::Damaged => counts.damaged += 1,
                        Unopened::UnknownKey => {
                            counts.unopened += u64::from(found.get::<_, i64>(3)? > row::micros(*now));
                        }
                    }
                    continue;
                }
            };
            while let Some(held) = ahead {
                let owner: i64 = held.get(0)?;
                if owner > number {
                    break;
                }
                if owner == number {
                    let space = SpaceId(held.get::<_, i64>(1)?.cast_unsigned());
                    blob(held, 2, &mut sealed)?;
                    match row::open_value(keys, &session.id, space, &mut sealed) {
                        Ok(value) => session.data.push((space, value)),
                        Err(_) => counts.damaged += 1,
                    }
                }
                ahead = data.next()?;
            }
            chunk.push(session);
            if chunk.len() == CHUNK {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                if sender.send(full).is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(chunk.is_empty() || sender.send(chunk).is_ok())
    }
}

/// Opens a row: the session without its data.
fn session(
    found: &Row<'_>,
    keys: &SealKeys,
    sealed: &mut Vec<u8>,
) -> rusqlite::Result<Result<Restored, Unopened>> {
    let Some(place) = place(found)? else { return Ok(Err(Unopened::Damaged)) };
    blob(found, 5, sealed)?;
    let mut session = match row::open_record(keys, &place, sealed) {
        Ok(session) => session,
        Err(unopened) => return Ok(Err(unopened)),
    };
    blob(found, 6, sealed)?;
    match row::open_used(keys, &place.id, sealed) {
        Ok(used_at) => session.last_used_at = used_at.max(session.opened_at),
        // Written by a key that came and went while the older one stayed: as if it had not been used since.
        Err(Unopened::UnknownKey) => {}
        Err(Unopened::Damaged) => return Ok(Err(Unopened::Damaged)),
    }
    Ok(Ok(session))
}

/// What stands in the open, from the columns 1 to 4. `None`: the id is none.
pub(super) fn place(found: &Row<'_>) -> rusqlite::Result<Option<Place>> {
    let Ok(id) = found.get_ref(1)?.as_blob()?.try_into() else { return Ok(None) };
    Ok(Some(Place {
        id: SessionId::from_bytes(id),
        opened_at: found.get(2)?,
        ends_at: found.get(3)?,
        subject: found.get(4)?,
    }))
}

/// Copies a blob to where it can be opened in place.
pub(super) fn blob(found: &Row<'_>, column: usize, into: &mut Vec<u8>) -> rusqlite::Result<()> {
    into.clear();
    into.extend_from_slice(found.get_ref(column)?.as_blob()?);
    Ok(())
}

/// Ends that were remembered; those that cannot be read are only words, and left out.
fn ends(connection: &Connection) -> rusqlite::Result<Vec<(TokenDigest, End, SessionId)>> {
    let mut ends = connection.prepare("SELECT digest, id, reason FROM ends ORDER BY number")?;
    let ends = ends.query_map([], |row| {
        let digest = row.get_ref(0)?.as_blob()?.try_into().ok().map(TokenDigest::from_bytes);
        let id = row.get_ref(1)?.as_blob()?.try_into().ok().map(SessionId::from_bytes);
        let reason = row.get_ref(2)?.as_str()?;
        let end = End::ALL.into_iter().find(|end| end.as_str() == reason);
        Ok(digest.zip(end).zip(id).map(|((digest, end), id)| (digest, end, id)))
    })?;
    ends.filter_map(Result::transpose).collect()
}
