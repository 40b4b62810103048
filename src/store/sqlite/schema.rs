//! The tables of the file, and how an older file becomes one of today.

use super::file::Problem;
use rusqlite::Connection;

/// `vstb`: says that a `SQLite` file is ours.
const APPLICATION_ID: i64 = 0x7673_7462;

/// Each step leads from the version before it to the next; the first makes an empty file ours. Only ever added to.
const STEPS: &[&str] = &["
    -- One row a session. `number` is the first half of `id`, so that a row is found, written and deleted in one place.
    -- Everything that says whose it is lies in `record`; `used`, the last use, apart from it, for that alone changes often.
    CREATE TABLE sessions (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        opened_at INTEGER NOT NULL, -- microseconds since 1970
        ends_at INTEGER NOT NULL,   -- the absolute end
        subject INTEGER NOT NULL,   -- a keyed hash; 0 for nobody
        record BLOB NOT NULL,       -- sealed
        used BLOB NOT NULL          -- sealed
    ) STRICT;
    -- What applications keep, one row a session and space.
    CREATE TABLE data (
        session INTEGER NOT NULL,
        space INTEGER NOT NULL,
        value BLOB NOT NULL,        -- sealed
        PRIMARY KEY (session, space)
    ) STRICT, WITHOUT ROWID;
    -- How the last sessions ended, oldest first.
    CREATE TABLE ends (
        number INTEGER PRIMARY KEY,
        digest BLOB NOT NULL,
        id BLOB NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    -- The latest instant that was ever written, in microseconds since 1970: no process after it lives in an earlier time.
    CREATE TABLE clock (latest INTEGER NOT NULL) STRICT;
    INSERT INTO clock VALUES (0);
", "
    -- Bearer tokens that were revoked.
    CREATE TABLE revocations (
        number INTEGER PRIMARY KEY, -- a keyed hash of what it speaks of
        ends_at INTEGER NOT NULL,   -- when none of them can live any more
        record BLOB NOT NULL        -- sealed
    ) STRICT;
"];

/// Which version a file of ours has; 0: nothing is in it yet. Only reads.
pub(super) fn version(connection: &Connection) -> Result<i64, Problem> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application_id, found) = (pragma("application_id")?, pragma("user_version")?);
    if application_id != APPLICATION_ID {
        let is_new = application_id == 0
            && found == 0
            && connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?
                == 0;
        if !is_new {
            return Err(Problem::NotOurs);
        }
    }
    Ok(found)
}

/// Makes a file of this version one of today, in one transaction. A newer one is left as it is.
pub(super) fn prepare(connection: &Connection, found: i64) -> Result<(), Problem> {
    upgrade(connection, found, STEPS)
}

fn upgrade(connection: &Connection, found: i64, steps: &[&str]) -> Result<(), Problem> {
    let version = usize::try_from(found).unwrap_or(usize::MAX);
    if version > steps.len() {
        return Err(Problem::Newer { found, known: steps.len() });
    }
    // Tells at once whether another file system object, such as a log of an earlier crash, can be used.
    let mut mode = String::new();
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| {
        mode = row.get(0)?;
        Ok(())
    })?;
    if mode != "wal" {
        return Err(Problem::NoLog(mode));
    }
    if version == steps.len() {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    for step in &steps[version..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::scratch::Scratch;

    fn version_of(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number")
    }

    fn upgrade(connection: &Connection, steps: &[&str]) -> Result<(), Problem> {
        super::upgrade(connection, version(connection)?, steps)
    }

    fn file() -> (Scratch, Connection) {
        let scratch = Scratch::new();
        let connection = Connection::open(scratch.file()).expect("the folder takes files");
        (scratch, connection)
    }

    #[test]
    fn an_empty_file_becomes_ours_and_an_older_one_goes_on_where_it_was() {
        let (_scratch, connection) = file();
        upgrade(&connection, &STEPS[..1]).expect("an empty file");
        connection.execute_batch("UPDATE clock SET latest = 7").expect("ours");
        let newer = [STEPS[0], "ALTER TABLE clock ADD COLUMN more INTEGER NOT NULL DEFAULT 1"];
        upgrade(&connection, &newer).expect("an older file");
        assert_eq!(version_of(&connection), 2);
        let held = connection.query_row("SELECT latest + more FROM clock", [], |row| row.get::<_, i64>(0));
        assert_eq!(held, Ok(8));
        assert!(matches!(upgrade(&connection, &STEPS[..1]), Err(Problem::Newer { found: 2, known: 1 })));
    }

    #[test]
    fn a_step_that_fails_leaves_the_older_file_as_it_was() {
        let (_scratch, connection) = file();
        upgrade(&connection, &STEPS[..1]).expect("an empty file");
        let broken = [STEPS[0], "CREATE TABLE half (a) STRICT; nonsense"];
        assert!(upgrade(&connection, &broken).is_err());
        assert_eq!(version_of(&connection), 1);
        upgrade(&connection, &STEPS[..1]).expect("still whole");
    }

    #[test]
    fn a_file_of_somebody_else_is_not_touched() {
        let (scratch, connection) = file();
        connection.execute_batch("CREATE TABLE photos (a)").expect("any table");
        let before = std::fs::read(scratch.file()).expect("the file is there");
        assert!(matches!(upgrade(&connection, STEPS), Err(Problem::NotOurs)));
        assert_eq!(std::fs::read(scratch.file()).expect("the file is there"), before);
    }
}
