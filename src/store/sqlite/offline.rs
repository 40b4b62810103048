//! Ending sessions in a file that no gateway has open, such as a backup that was restored.

use super::file::{Database, OpenError, Problem};
use super::load::{blob, place};
use super::row::{self, Place};
use super::seal::{SealKeys, Unopened};
use crate::domain::identity::IdentityRef;
use crate::domain::session::{End, SessionId};
use crate::domain::time::Timestamp;
use crate::domain::token::{KeyRing, TokenDigest};
use rusqlite::{Connection, params};
use std::path::Path;

/// Whose sessions end, in header form; a subject of any source, or of one.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The subject.
    pub subject: &'a str,
    /// Its source.
    pub source: Option<&'a str>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedOffline {
    /// So many sessions are gone from the file.
    pub ended: usize,
    /// So many were left, because no key of the ring tells whose they are.
    pub unopened: usize,
}

/// Ends every session of the file that was opened before an instant; durable when this returns. With `whose`, only
/// sessions of that subject.
///
/// # Errors
///
/// There is no such file, a gateway runs on it, or it cannot be used; nothing was changed.
pub fn end_opened_before(
    path: &Path,
    ring: &KeyRing,
    before: Timestamp,
    whose: Option<Whose<'_>>,
) -> Result<EndedOffline, OpenError> {
    let Database { connection, lock } = Database::open_existing(path)?;
    let end = || {
        let transaction = connection.unchecked_transaction()?;
        let ended = end(&connection, &SealKeys::of(ring), before, whose)?;
        transaction.commit()?;
        Ok(ended)
    };
    let ended = end().map_err(|error: rusqlite::Error| Problem::from(error).of(path));
    // Before the lock goes: closing takes the log over into the file.
    drop(connection);
    drop(lock);
    ended
}

fn end(
    connection: &Connection,
    keys: &SealKeys,
    before: Timestamp,
    whose: Option<Whose<'_>>,
) -> rusqlite::Result<EndedOffline> {
    let candidates = whose.map(|whose| keys.blinds(whose.subject));
    let mut rows = connection.prepare(
        "SELECT number, id, opened_at, ends_at, subject, record FROM sessions WHERE opened_at < ?1",
    )?;
    let mut rows = rows.query([row::micros(before)])?;
    let mut over: Vec<(i64, SessionId, Option<TokenDigest>)> = Vec::new();
    let mut unopened = 0;
    let mut sealed = Vec::new();
    while let Some(found) = rows.next()? {
        let Some(place) = place(found)? else { continue };
        blob(found, 5, &mut sealed)?;
        let record = match &candidates {
            // The keyed hash is by the key that sealed the record.
            Some(candidates) if keys.knows(&sealed) && !candidates.contains(&place.subject) => continue,
            _ => row::open_record(keys, &place, &mut sealed),
        };
        let digest = match (record, whose) {
            (Ok(record), whose) if whose.is_none_or(|whose| whose.admits(&record.identity)) => {
                Some(record.digest)
            }
            (Ok(_), _) => continue,
            (Err(_), None) => None,
            (Err(Unopened::UnknownKey | Unopened::Damaged), Some(_)) => {
                unopened += 1;
                continue;
            }
        };
        let Place { id, .. } = place;
        over.push((found.get(0)?, id, digest));
    }
    let mut delete_data = connection.prepare("DELETE FROM data WHERE session = ?1")?;
    let mut delete = connection.prepare("DELETE FROM sessions WHERE number = ?1")?;
    let mut insert = connection.prepare("INSERT INTO ends (digest, id, reason) VALUES (?1, ?2, ?3)")?;
    for (number, id, digest) in &over {
        delete_data.execute([number])?;
        delete.execute([number])?;
        if let Some(digest) = digest {
            insert.execute(params![digest.as_bytes(), id.as_bytes(), End::Revoked.as_str()])?;
        }
    }
    Ok(EndedOffline { ended: over.len(), unopened })
}

impl Whose<'_> {
    fn admits(&self, identity: &[u8]) -> bool {
        let identity = IdentityRef::from_packed(identity);
        self.subject == identity.subject() && self.source.is_none_or(|source| source == identity.source())
    }
}
