//! Revoked tokens in the file: one sealed row each, under a keyed hash of what it speaks of.

use super::file::{OpenError, Problem, connect};
use super::row::{instant, micros};
use super::seal::{Column, SealKeys};
use crate::domain::time::Timestamp;
use crate::store::revoked::{Revocation, Which};
use rusqlite::{Connection, Statement, params};
use std::path::Path;

/// What the file holds of revoked tokens.
#[derive(Debug, Default)]
pub struct LoadedRevocations {
    /// Those in force.
    pub kept: Vec<Revocation>,
    /// So many could not be opened: sealed with a dropped key, or damaged.
    pub lost: usize,
}

/// Writes what is new, and drops what has ended.
pub(super) fn write(
    connection: &Connection,
    revocations: &[Revocation],
    keys: &SealKeys,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut replace = connection
        .prepare("INSERT OR REPLACE INTO revocations (number, ends_at, record) VALUES (?1, ?2, ?3)")?;
    for revocation in revocations {
        put(&mut replace, revocation, keys)?;
    }
    connection.execute("DELETE FROM revocations WHERE ends_at <= ?1", [micros(now)])?;
    Ok(())
}

fn put(statement: &mut Statement<'_>, revocation: &Revocation, keys: &SealKeys) -> rusqlite::Result<()> {
    let (kind, name) = kind_of(&revocation.which);
    let number = keys.blind(&format!("{kind}\0{}\0{name}", revocation.source));
    let ends_at = micros(revocation.ends_at);
    let record = keys.seal(Column::Revocation, &place(number, ends_at), &encode(revocation));
    statement.execute(params![number, ends_at, record])?;
    Ok(())
}

/// Seals with the newest key what an older one has sealed, so that the older one can be dropped.
pub(super) fn seal_anew(connection: &Connection, keys: &SealKeys) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT number, ends_at, record FROM revocations")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, i64, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut anew = Vec::new();
    for (number, ends_at, mut record) in rows {
        if !keys.is_newest(&record) {
            anew.extend(open(keys, number, ends_at, &mut record).map(|revocation| (number, revocation)));
        }
    }
    // What stands under the newest key already was written later, and reaches as far.
    let mut add = connection
        .prepare("INSERT OR IGNORE INTO revocations (number, ends_at, record) VALUES (?1, ?2, ?3)")?;
    for (number, revocation) in anew {
        connection.execute("DELETE FROM revocations WHERE number = ?1", [number])?;
        put(&mut add, &revocation, keys)?;
    }
    Ok(())
}

/// Reads all that have not ended.
pub(super) fn load(path: &Path, keys: &SealKeys, now: Timestamp) -> Result<LoadedRevocations, OpenError> {
    let read = || {
        let connection = connect(path)?;
        let mut select =
            connection.prepare("SELECT number, ends_at, record FROM revocations WHERE ends_at > ?1")?;
        let mut loaded = LoadedRevocations::default();
        let mut rows = select.query([micros(now)])?;
        while let Some(row) = rows.next()? {
            let mut record: Vec<u8> = row.get(2)?;
            match open(keys, row.get(0)?, row.get(1)?, &mut record) {
                Some(revocation) => loaded.kept.push(revocation),
                None => loaded.lost += 1,
            }
        }
        Ok(loaded)
    };
    read().map_err(|error: rusqlite::Error| Problem::from(error).of(path))
}

fn open(keys: &SealKeys, number: i64, ends_at: i64, record: &mut [u8]) -> Option<Revocation> {
    decode(keys.open(Column::Revocation, &place(number, ends_at), record).ok()?, instant(ends_at))
}

/// What stands in the open in a row; a record is bound to it.
fn place(number: i64, ends_at: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&ends_at.to_le_bytes());
    bytes
}

fn kind_of(which: &Which) -> (char, &str) {
    match which {
        Which::Named(jti) => ('j', jti),
        Which::Of(subject) => ('s', subject),
        Which::All => ('a', ""),
    }
}

/// Kind, instant, length of the source, source, name.
fn encode(revocation: &Revocation) -> Vec<u8> {
    let (kind, name) = kind_of(&revocation.which);
    let source = revocation.source.as_bytes();
    let mut record = vec![kind as u8];
    record.extend_from_slice(&revocation.issued_by.as_micros().to_le_bytes());
    record.extend_from_slice(&u32::try_from(source.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(source);
    record.extend_from_slice(name.as_bytes());
    record
}

fn decode(record: &[u8], ends_at: Timestamp) -> Option<Revocation> {
    let (&kind, rest) = record.split_first()?;
    let (issued_by, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (source, name) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let which = match kind {
        b'j' => Which::Named(text(name)?),
        b's' => Which::Of(text(name)?),
        b'a' if name.is_empty() => Which::All,
        _ => return None,
    };
    let issued_by = Timestamp::from_micros(u64::from_le_bytes(*issued_by));
    Some(Revocation { source: text(source)?, which, issued_by, ends_at })
}
