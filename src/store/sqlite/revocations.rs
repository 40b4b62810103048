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

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::super::{SqliteFile, SqliteStore};
    use super::*;
    use crate::domain::secret::Secret;
    use crate::domain::time::Clock;
    use crate::domain::token::KeyRing;
    use crate::store::journal::Unavailable;
    use crate::store::revoked::RevokedTokens;
    use std::sync::Arc;
    use std::time::Duration;

    /// A clock that stands.
    struct At(u64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(self.0)
        }

        fn wall(&self) -> Timestamp {
            self.now()
        }

        fn ticks(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn ring(keys: &[u8]) -> KeyRing {
        KeyRing::new(keys.iter().map(|&key| Secret::new([key; 32])).collect()).expect("the tests name a key")
    }

    fn start(scratch: &Scratch, keys: &[u8], now: u64) -> Arc<SqliteStore> {
        let file = SqliteFile::open(scratch.file(), &ring(keys)).expect("a sound file");
        file.start(Arc::new(At(now)), |_| {}).expect("the system gives a thread")
    }

    fn of(which: Which, issued_by: u64, ends_at: u64) -> Revocation {
        let [issued_by, ends_at] = [issued_by, ends_at].map(Timestamp::from_secs);
        Revocation { source: "https://id.example.com".to_owned(), which, issued_by, ends_at }
    }

    fn kept(store: &SqliteStore) -> Vec<Revocation> {
        let mut loaded = store.load_revocations().expect("a sound file");
        assert_eq!(loaded.lost, 0);
        loaded.kept.sort_by_key(|revocation| revocation.ends_at);
        loaded.kept
    }

    #[test]
    fn what_was_revoked_comes_back_until_it_ends() {
        let scratch = Scratch::new();
        let all = [
            of(Which::Named("jti".to_owned()), 5, 100),
            of(Which::Of("alice".to_owned()), 6, 200),
            of(Which::All, 7, 300),
        ];
        let store = start(&scratch, &[1], 10);
        for revocation in &all {
            assert_eq!(store.revoke(revocation.clone()).wait(), Ok(()));
        }
        store.crash();
        drop(store);
        for (now, expected) in [(10, &all[..]), (100, &all[1..]), (250, &all[2..])] {
            let store = start(&scratch, &[1], now);
            assert_eq!(kept(&store), expected, "{now}");
            store.crash();
        }
    }

    #[test]
    fn a_key_can_be_dropped_once_another_was_there_beside_it() {
        let scratch = Scratch::new();
        let one = of(Which::Of("alice".to_owned()), 5, 100);
        let store = start(&scratch, &[1], 10);
        store.revoke(one.clone()).wait().expect("it is written");
        store.crash();
        drop(store);
        let store = start(&scratch, &[2, 1], 10);
        assert_eq!(kept(&store), std::slice::from_ref(&one));
        // Written behind the sealing anew.
        store.revoke(of(Which::All, 5, 90)).wait().expect("it is written");
        store.set_keys(&ring(&[3, 2])).expect("a sound file");
        store.revoke(of(Which::All, 6, 90)).wait().expect("it is written");
        store.crash();
        drop(store);
        let store = start(&scratch, &[3], 10);
        assert_eq!(kept(&store), [of(Which::All, 6, 90), one]);
        store.crash();
        drop(store);
        let store = start(&scratch, &[4], 10);
        let loaded = store.load_revocations().expect("a sound file");
        assert_eq!((loaded.kept.len(), loaded.lost), (0, 2), "and it is told");
    }

    #[test]
    fn a_wider_one_is_not_narrowed_in_the_file_either() {
        let scratch = Scratch::new();
        let store = start(&scratch, &[1], 10);
        let revoked = RevokedTokens::new();
        revoked.keep_in(store.clone(), &[]);
        for (issued_by, ends_at) in [(9, 200), (5, 100)] {
            let added = revoked.add(of(Which::All, issued_by, ends_at), Timestamp::from_secs(10));
            assert_eq!(added.expect("there is room").wait(), Ok(()));
        }
        store.crash();
        assert_eq!(kept(&store), [of(Which::All, 9, 200)]);
        let late = revoked.add(of(Which::All, 9, 300), Timestamp::from_secs(10)).expect("there is room");
        assert_eq!(late.wait(), Err(Unavailable), "nobody writes any more");
    }
}
