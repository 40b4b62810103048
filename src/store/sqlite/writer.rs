//! The one thread that writes.
//!
//! It takes what waits, writes it in one transaction, and answers everybody when the disk has it. While it cannot write it
//! tries again, more and more slowly; what came meanwhile and is in force, ends above all, is written before anything
//! that comes later.

use super::Shared;
use super::file::{self, Database, Lock};
use super::queue::{Batch, Data, Ended, Ends, Job, Put, ROWS_PER_BATCH};
use super::revocations;
use super::row::{self, Place};
use super::seal::SealKeys;
use crate::domain::session::{Restored, Session, SessionId, SpaceId};
use crate::domain::time::Timestamp;
use crate::store::journal::Unavailable;
use crate::store::revoked::Revocation;
use rusqlite::{Connection, Statement, params};
use std::sync::Arc;
use std::time::Duration;

/// How long a last use may wait in memory.
const TOUCHES_EVERY: Duration = Duration::from_secs(1);
/// The pause after the first attempt that failed; each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Attempts of a process that ends.
const TRIES_AT_STOP: u32 = 5;
/// How many ends are remembered; the table remembers no more either.
const ENDS_KEPT: i64 = 16 * 1024;

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(
        "the file was moved or replaced under the running gateway; start it again to use the one that is there now"
    )]
    Moved,
    #[error("{0}; {remedy}", remedy = file::remedy(.0))]
    Sql(#[from] rusqlite::Error),
}

/// Runs until it is told to stop and nothing waits.
pub(super) fn run(database: Database, shared: &Shared) {
    let mut writer = Writer { connection: &database.connection, lock: &database.lock, statements: None };
    let mut touched: Vec<Session> = Vec::new();
    let mut pause = RETRY_FIRST;
    let mut tries_at_stop = 0;
    let mut look_at = shared.clock.ticks() + TOUCHES_EVERY;
    while let Some(work) = shared.wait_for_work(look_at) {
        if touched.is_empty() && (work.is_due || work.is_stopping) {
            touched = shared.take_touched();
        }
        let mut batch = shared.take_batch();
        batch.touched = touched.split_off(touched.len().saturating_sub(ROWS_PER_BATCH));
        take_fallen(&mut batch.jobs).into_iter().for_each(Data::refuse);
        let written = if batch.is_empty() {
            Ok(Vec::new())
        } else {
            writer.write(&batch, &shared.keys.load(), shared.clock.now())
        };
        match written {
            Ok(unfit) => {
                // Before the answers: who hears of success finds the store up.
                shared.note_written();
                answer(batch, &unfit);
                pause = RETRY_FIRST;
                if !touched.is_empty() {
                    look_at = shared.clock.ticks();
                } else if work.is_due {
                    look_at = shared.clock.ticks() + TOUCHES_EVERY;
                }
                if work.is_stopping && touched.is_empty() && shared.is_done() {
                    break;
                }
            }
            Err(error) => {
                touched.append(&mut batch.touched);
                shared.note_failed(batch, &error.to_string());
                // Somebody waits for a process that ends.
                look_at = shared.clock.ticks() + if work.is_stopping { RETRY_FIRST } else { pause };
                pause = (pause * 2).min(RETRY_MAX);
                tries_at_stop += u32::from(work.is_stopping);
                if tries_at_stop == TRIES_AT_STOP {
                    break;
                }
            }
        }
    }
    drop(writer);
    let Database { connection, lock } = database;
    // Takes the log over into the file; what fails here is done at the next start.
    drop(connection.close());
    drop(lock);
}

/// Takes out the patches that fell with an earlier one.
fn take_fallen(jobs: &mut Vec<Job>) -> Vec<Data> {
    let fallen =
        |job: &mut Job| matches!(job, Job::Data(data) if !data.session.data_stands(data.space, data.epoch));
    let fallen = jobs.extract_if(.., fallen);
    fallen
        .filter_map(|job| match job {
            Job::Data(data) => Some(data),
            Job::Open { .. } => None,
        })
        .collect()
}

/// Answers whoever waits for what was written; `unfit` are the numbers of openings that were not.
fn answer(batch: Batch, unfit: &[usize]) {
    for (at, job) in batch.jobs.into_iter().enumerate() {
        match job {
            Job::Open { ack, .. } => ack.send(if unfit.contains(&at) { Err(Unavailable) } else { Ok(()) }),
            Job::Data(data) => data.answer(Ok(())),
        }
    }
    let puts = batch.puts.into_values().flat_map(|put| put.acks);
    let ends = batch.ends.into_iter().filter_map(|ends| ends.ack);
    let revocations = batch.revocations.into_iter().filter_map(|(_, ack)| ack);
    puts.chain(ends).chain(revocations).for_each(|ack| ack.send(Ok(())));
}

struct Writer<'c> {
    connection: &'c Connection,
    lock: &'c Lock,
    statements: Option<Statements<'c>>,
}

impl Writer<'_> {
    /// Writes a batch, or nothing of it. Gives the numbers of the jobs whose session could not be taken in.
    fn write(&mut self, batch: &Batch, keys: &SealKeys, now: Timestamp) -> Result<Vec<usize>, WriteError> {
        if !self.lock.is_in_place() {
            return Err(WriteError::Moved);
        }
        let statements = match &mut self.statements {
            Some(statements) => statements,
            none => none.insert(Statements::prepare(self.connection)?),
        };
        statements.begin.execute([])?;
        let connection = self.connection;
        let written = statements.write(batch, keys, now).and_then(|unfit| {
            write_revocations(connection, batch, keys, now)?;
            statements.commit.execute([])?;
            Ok(unfit)
        });
        if written.is_err() && !self.connection.is_autocommit() {
            // If that fails too, the next `BEGIN` says so.
            drop(statements.rollback.execute([]));
        }
        Ok(written?)
    }
}

fn write_revocations(
    connection: &Connection,
    batch: &Batch,
    keys: &SealKeys,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if batch.seal_anew {
        revocations::seal_anew(connection, keys)?;
    }
    if batch.revocations.is_empty() {
        return Ok(());
    }
    let new: Vec<Revocation> = batch.revocations.iter().map(|(revocation, _)| revocation.clone()).collect();
    revocations::write(connection, &new, keys, now)
}

struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    insert_session: Statement<'c>,
    update_session: Statement<'c>,
    update_used: Statement<'c>,
    delete_session: Statement<'c>,
    data_of: Statement<'c>,
    insert_data: Statement<'c>,
    delete_data: Statement<'c>,
    delete_data_of: Statement<'c>,
    insert_end: Statement<'c>,
    delete_ends: Statement<'c>,
    purge_data: Statement<'c>,
    purge_sessions: Statement<'c>,
    set_latest: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            insert_session: prepare(
                "INSERT INTO sessions (number, id, opened_at, ends_at, subject, record, used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            // Never brings a row back: what has ended stays away.
            update_session: prepare(
                "UPDATE sessions SET subject = ?3, record = ?4, used = ?5 WHERE number = ?1 AND id = ?2",
            )?,
            update_used: prepare("UPDATE sessions SET used = ?3 WHERE number = ?1 AND id = ?2")?,
            delete_session: prepare("DELETE FROM sessions WHERE number = ?1 AND id = ?2")?,
            data_of: prepare("SELECT space, value FROM data WHERE session = ?1")?,
            insert_data: prepare(
                "INSERT INTO data (session, space, value)
                 SELECT ?1, ?3, ?4 WHERE EXISTS (SELECT 1 FROM sessions WHERE number = ?1 AND id = ?2)
                 ON CONFLICT (session, space) DO UPDATE SET value = excluded.value",
            )?,
            delete_data: prepare("DELETE FROM data WHERE session = ?1 AND space = ?2")?,
            delete_data_of: prepare("DELETE FROM data WHERE session = ?1")?,
            insert_end: prepare("INSERT INTO ends (digest, id, reason) VALUES (?1, ?2, ?3)")?,
            delete_ends: prepare("DELETE FROM ends WHERE number <= (SELECT max(number) FROM ends) - ?1")?,
            purge_data: prepare(
                "DELETE FROM data WHERE session IN (SELECT number FROM sessions WHERE ends_at <= ?1)",
            )?,
            purge_sessions: prepare("DELETE FROM sessions WHERE ends_at <= ?1")?,
            set_latest: prepare("UPDATE clock SET latest = ?1 WHERE latest < ?1")?,
        })
    }

    fn write(&mut self, batch: &Batch, keys: &SealKeys, now: Timestamp) -> rusqlite::Result<Vec<usize>> {
        let mut unfit = Vec::new();
        let mut ends_written = false;
        for (at, job) in batch.jobs.iter().enumerate() {
            match job {
                Job::Open { session, ended, .. } => {
                    ends_written |= !ended.is_empty();
                    self.end(ended)?;
                    if !self.open(&Restored::of(session), keys)? {
                        unfit.push(at);
                    }
                }
                Job::Data(Data { session, space, value, .. }) => {
                    self.set_data(
                        &session.id(),
                        *space,
                        value.as_ref().map(http::HeaderValue::as_bytes),
                        keys,
                    )?;
                }
            }
        }
        for Put { session, .. } in batch.puts.values() {
            self.put(&Restored::of(session), keys)?;
        }
        for Ends { sessions, .. } in &batch.ends {
            ends_written |= !sessions.is_empty();
            self.end(sessions)?;
        }
        if ends_written {
            self.delete_ends.execute([ENDS_KEPT])?;
        }
        for session in &batch.touched {
            let id = session.id();
            let used = row::seal_used(keys, &id, session.last_used_at());
            self.update_used.execute(params![row::number_of(&id), id.as_bytes(), used])?;
        }
        if batch.purge {
            self.purge_data.execute([row::micros(now)])?;
            self.purge_sessions.execute([row::micros(now)])?;
        }
        self.set_latest.execute([row::micros(now)])?;
        Ok(unfit)
    }

    /// `false`: half of its id is that of another session, which will not be seen in the life of this planet.
    fn open(&mut self, session: &Restored, keys: &SealKeys) -> rusqlite::Result<bool> {
        let place = Place::of(session, keys);
        let number = row::number_of(&session.id);
        let record = row::seal_record(keys, &place, session);
        let used = row::seal_used(keys, &session.id, session.last_used_at);
        let Place { id, opened_at, ends_at, subject } = place;
        let inserted = self.insert_session.execute(params![
            number,
            id.as_bytes(),
            opened_at,
            ends_at,
            subject,
            record,
            used
        ]);
        match inserted {
            Ok(_) => {}
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        for (space, value) in &session.data {
            self.set_data(&id, *space, Some(value.as_bytes()), keys)?;
        }
        Ok(true)
    }

    fn put(&mut self, session: &Restored, keys: &SealKeys) -> rusqlite::Result<()> {
        let place = Place::of(session, keys);
        let number = row::number_of(&session.id);
        let record = row::seal_record(keys, &place, session);
        let used = row::seal_used(keys, &session.id, session.last_used_at);
        let changed =
            self.update_session.execute(params![number, place.id.as_bytes(), place.subject, record, used])?;
        // Its data goes with it to the newest key: who drops an older one loses nothing that a newer token leads to.
        if changed == 1 && keys.len() > 1 {
            self.seal_data_anew(&session.id, keys)?;
        }
        Ok(())
    }

    fn seal_data_anew(&mut self, id: &SessionId, keys: &SealKeys) -> rusqlite::Result<()> {
        let rows = self.data_of.query_map([row::number_of(id)], |row| {
            Ok((SpaceId(row.get::<_, i64>(0)?.cast_unsigned()), row.get::<_, Vec<u8>>(1)?))
        })?;
        let rows: Vec<(SpaceId, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
        for (space, mut sealed) in rows {
            if !keys.is_newest(&sealed)
                && let Ok(value) = row::open_data(keys, id, space, &mut sealed)
            {
                self.set_data(id, space, Some(value), keys)?;
            }
        }
        Ok(())
    }

    fn set_data(
        &mut self,
        id: &SessionId,
        space: SpaceId,
        value: Option<&[u8]>,
        keys: &SealKeys,
    ) -> rusqlite::Result<()> {
        let (number, column) = (row::number_of(id), space.0.cast_signed());
        match value {
            Some(value) => {
                let sealed = row::seal_data(keys, id, space, value);
                self.insert_data.execute(params![number, id.as_bytes(), column, sealed])?;
            }
            None => {
                self.delete_data.execute(params![number, column])?;
            }
        }
        Ok(())
    }

    fn end(&mut self, ended: &[Ended]) -> rusqlite::Result<()> {
        for Ended { id, digest, end } in ended {
            let number = row::number_of(id);
            if self.delete_session.execute(params![number, id.as_bytes()])? == 1 {
                self.delete_data_of.execute([number])?;
                self.insert_end.execute(params![digest.as_bytes(), id.as_bytes(), end.as_str()])?;
            }
        }
        Ok(())
    }
}

/// A writer that is gone, for whatever reason, leaves nobody waiting.
pub(super) struct Farewell(pub(super) Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.close();
    }
}
