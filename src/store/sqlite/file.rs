//! The file itself: opened by one process at a time, for nobody else to read, and refused in words that say what to do.

use super::schema;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a write waits for somebody else's lock, such as that of a backup that begins.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(1);
/// Pages of the log before they are taken over into the file: 16 MiB.
const LOG_PAGES: i64 = 4096;
/// What the log keeps of the disk once all of it was taken over.
const LOG_BYTES_KEPT: i64 = 64 * 1024 * 1024;
/// Pages that a connection keeps in memory, in KiB.
const CACHE_KIB: i64 = 16 * 1024;

/// Why a file was not opened: which, and what is wrong with it. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
#[error("sessions.store: `{}` {problem}", path.display())]
pub struct OpenError {
    path: PathBuf,
    problem: Problem,
}

impl OpenError {
    /// Whether another process has the file.
    pub fn is_in_use(&self) -> bool {
        matches!(self.problem, Problem::InUse)
    }
}

/// What is wrong with a file, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(
        "cannot be opened ({0}); it, and the folder it lies in, must be writable for the user that runs vestibule"
    )]
    System(#[from] io::Error),
    #[error("is no file; name one in `sessions.store.sqlite`")]
    NoFile,
    #[error("is not there; name the file that the gateway used")]
    Missing,
    #[error("is in use by another process; stop that one, or give this one a file of its own")]
    InUse,
    #[error(
        "is not a session store of vestibule, or its beginning is damaged; name another file in \
         `sessions.store.sqlite`, or restore a backup"
    )]
    NotOurs,
    #[error(
        "was written by a newer vestibule (schema {found}, this one knows {known}); start that version again"
    )]
    Newer { found: i64, known: usize },
    #[error(
        "lies on a file system that takes no write-ahead log (`{0}` instead); name a file on a local disk"
    )]
    NoLog(String),
    #[error(
        "is damaged ({0}); restore a backup of it, or move it away with its `-wal` and `-shm`, which signs everybody out"
    )]
    Damaged(rusqlite::Error),
    #[error(
        "cannot be used ({0}); it, the folder it lies in, and its `-wal` and `-shm` must be writable for the user that runs \
         vestibule"
    )]
    Unwritable(#[source] rusqlite::Error),
    #[error("could not be read to its end; the log says why")]
    Unread,
    #[error("cannot be used: {0}")]
    Sql(#[source] rusqlite::Error),
}

impl Problem {
    /// Says of which file.
    pub(super) fn of(self, path: &Path) -> OpenError {
        OpenError { path: path.to_owned(), problem: self }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(error),
            // Another kind of file, or one whose first bytes are gone: which of both, the caller may know.
            Some(ErrorCode::NotADatabase) => Self::NotOurs,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::Unwritable(error)
            }
            _ => Self::Sql(error),
        }
    }
}

/// The file, locked for this process and ready to be read and written.
pub(super) struct Database {
    // Closed before the lock goes.
    pub(super) connection: Connection,
    pub(super) lock: Lock,
}

/// Holds the file for this process.
///
/// The lock is one of the whole file (flock), which `SQLite`'s own do not meet; the descriptor stays open as long as a
/// connection is, for closing any descriptor of a file drops `SQLite`'s locks in it.
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Whether the path still leads to the file that was opened.
    pub(super) fn is_in_place(&self) -> bool {
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(ours), Ok(there)) => same(&ours, &there),
            _ => false,
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({})", self.path.display())
    }
}

impl Database {
    /// Opens a file that is there.
    pub(super) fn open_existing(path: &Path) -> Result<Self, OpenError> {
        if path.try_exists().is_ok_and(|exists| !exists) {
            return Err(Problem::Missing.of(path));
        }
        Self::open(path)
    }

    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        open(path).map_err(|problem| problem.of(path))
    }
}

fn open(path: &Path) -> Result<Database, Problem> {
    // Made here and not by SQLite: with this mode from the first instant on, whatever the umask. SQLite gives its log and
    // index the mode of the file.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => Problem::NoFile,
        _ => Problem::System(error),
    })?;
    if !file.metadata()?.is_file() {
        return Err(Problem::NoFile);
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => Problem::InUse,
        error => Problem::System(error.into()),
    })?;
    let is_empty = file.metadata()?.len() == 0;
    let lock = Lock { path: path.to_owned(), file };
    let connection = connect(path)?;
    // Somebody else's file stays as it is, its mode too. What a write makes beside ours gets the mode of the file.
    let version = schema::version(&connection)?;
    keep_private(path, &lock.file)?;
    schema::prepare(&connection, version)?;
    if is_empty {
        // The name in the folder is durable too, before the first session is.
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(Database { connection, lock })
}

/// A restored copy may have come with the mode of a backup. Of a file that is known to be ours.
fn keep_private(path: &Path, file: &File) -> Result<(), Problem> {
    file.set_permissions(Permissions::from_mode(0o600))?;
    for ending in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match std::fs::set_permissions(&name, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// A connection to a file that this process holds.
pub(super) fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    // FULL: a commit has reached the disk when it returns. Checked cells: a damaged page is found where it is read.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    Ok(connection)
}

/// What keeps a running store from writing, and what to do about it.
pub(super) fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "make room on its file system",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "end the program that holds it locked",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged: stop the gateway, restore a backup, start it again"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "make the file and its folder writable for the user that runs vestibule"
        }
        _ => "look at the disk, its free space and its quota",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::scratch::Scratch;

    fn refusal(path: &Path) -> String {
        Database::open(path).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_file_and_what_lies_beside_it_are_private_whatever_mode_they_had() {
        let scratch = Scratch::new();
        std::fs::write(scratch.file(), "").expect("the folder takes files");
        std::fs::set_permissions(scratch.file(), Permissions::from_mode(0o644)).expect("a mode can be set");
        let database = Database::open(scratch.file()).expect("an empty file");
        database.connection.execute_batch("UPDATE clock SET latest = 1").expect("it takes writes");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(scratch.folder()).expect("a folder") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
            names.push((entry.file_name().into_string().expect("ASCII"), mode));
        }
        names.sort();
        let names: Vec<(&str, u32)> = names.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
        assert_eq!(names, [("sessions.db", 0o600), ("sessions.db-shm", 0o600), ("sessions.db-wal", 0o600)]);
    }

    #[test]
    fn one_process_has_the_file_and_gives_it_back() {
        let scratch = Scratch::new();
        let first = Database::open(scratch.file()).expect("a new file");
        let told = refusal(scratch.file());
        assert!(told.contains("is in use by another process; stop that one"), "{told}");
        drop(first);
        assert_eq!(refusal(scratch.file()), "");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_a_remedy_and_left_as_it_is() {
        let scratch = Scratch::new();
        drop(Database::open(scratch.file()).expect("a new file"));
        let good = std::fs::read(scratch.file()).expect("it is there");
        let mut newer = good.clone();
        newer[60..64].copy_from_slice(&9_u32.to_be_bytes());
        let mut foreign = good.clone();
        foreign[68..72].copy_from_slice(&9_u32.to_be_bytes());
        let mode = |mode| std::fs::set_permissions(scratch.file(), Permissions::from_mode(mode));
        let mode_of =
            |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        for (bytes, told) in [
            (newer, "was written by a newer vestibule (schema 9, this one knows 2)"),
            (foreign, "is not a session store of vestibule"),
            (b"name,email\nalice,alice@example.com\n".repeat(200), "is not a session store of vestibule"),
            (good[..good.len() - 4096].to_vec(), "is damaged"),
        ] {
            std::fs::write(scratch.file(), &bytes).expect("the folder takes files");
            mode(0o644).expect("a mode can be set");
            let refusal = refusal(scratch.file());
            assert!(refusal.contains(told), "{refusal}");
            // What cannot be read may be anybody's.
            let is_ours = told.contains("newer vestibule");
            assert_eq!(mode_of(scratch.file()), if is_ours { 0o600 } else { 0o644 }, "{refusal}");
            assert!(std::fs::read(scratch.file()).expect("it is there") == bytes, "{refusal}");
        }
        for (path, told) in [
            (scratch.folder().to_owned(), "is no file"),
            (scratch.folder().join("none/sessions.db"), "cannot be opened (No such file or directory"),
            ("/dev/null".into(), "is no file"),
        ] {
            let refusal = refusal(&path);
            assert!(refusal.contains(told), "{refusal}");
        }
    }

    #[test]
    fn what_may_not_be_written_beside_the_file_is_told_with_the_remedy() {
        let scratch = Scratch::new();
        drop(Database::open(scratch.file()).expect("a new file"));
        // Stands for a folder that takes no files, which it would all the same if these tests run as root.
        std::fs::create_dir(scratch.folder().join("sessions.db-wal")).expect("the folder takes folders");
        let refusal = refusal(scratch.file());
        assert!(refusal.contains("must be writable for the user that runs vestibule"), "{refusal}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_noticed() {
        let scratch = Scratch::new();
        let database = Database::open(scratch.file()).expect("a new file");
        assert!(database.lock.is_in_place());
        let aside = scratch.folder().join("aside.db");
        std::fs::rename(scratch.file(), &aside).expect("a file can be renamed");
        assert!(!database.lock.is_in_place());
        std::fs::copy(&aside, scratch.file()).expect("a file can be copied");
        assert!(!database.lock.is_in_place());
    }
}
