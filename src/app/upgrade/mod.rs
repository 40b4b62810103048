//! The zero-downtime upgrade: a new process takes over listeners, clock and sessions of the one that serves.
//!
//! The old process listens on `upgrade.socket`, a socket for its own user alone. The new one ([`new`]) loads its file, asks,
//! and is given the listeners and a copy of every session; what changes meanwhile is sent after it. Then comes the cut: changes
//! wait, the rest is sent, the durable store is let go, and the new process says [`protocol::Message::Taken`]. Up to that
//! word the old one ([`old`]) can go on as if nothing had happened, and does whatever goes wrong. From that word on
//! the new one decides: the old one finishes what runs, asks before it answers ([`relay`]), and hears of every change that
//! is made over there before anybody else does.

mod channel;
mod copy;
mod new;
mod old;
mod protocol;
mod relay;

pub(crate) use new::{Copied, Offer, ask, wish};
pub(crate) use old::{Former, Given};

use crate::config::StoreSettings;
use channel::Broken;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why no upgrade came about; then the process that served goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The file has no `upgrade`.
    #[error(
        "upgrade.socket is not in the file; write `upgrade: {{ socket: /run/vestibule/upgrade.sock }}` and restart once"
    )]
    Off,
    /// Nobody is there to take over from.
    #[error("upgrade.socket: nobody answers at `{}` ({error}); start without `--upgrade`", socket.display())]
    Nobody {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The folder of the socket lets others in.
    #[error("upgrade.socket: the folder `{}` {wrong}; name a socket in a folder with mode 0700 of the user that runs vestibule", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
    /// The process that answers belongs to somebody else.
    #[error(
        "the process that answers at upgrade.socket belongs to the user {0}; run as that one, or restart"
    )]
    Stranger(u32),
    /// Sessions live elsewhere.
    #[error(
        "sessions.store: the running process has `{theirs}` and the file says `{ours}`; that needs a restart"
    )]
    OtherStore {
        /// Of the running process.
        theirs: String,
        /// Of the file.
        ours: String,
    },
    /// A new process was started, and did not take over.
    #[error("{0}; the process that serves goes on")]
    CameToNothing(String),
    /// The hand-over broke off.
    #[error("the hand-over came to nothing: {0}; the process that serves goes on")]
    Broken(String),
}

impl From<Broken> for UpgradeError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken.to_string())
    }
}

/// Where sessions live, in words that two processes compare.
pub(crate) fn place_of(store: &StoreSettings) -> String {
    match store {
        StoreSettings::Memory => "memory".to_owned(),
        StoreSettings::Sqlite(file) => {
            let file = file.canonicalize().unwrap_or_else(|_| file.clone());
            format!("sqlite: {}", file.display())
        }
    }
}

/// Makes the folder of a socket, or looks whether it is for this user alone.
pub(crate) fn private_folder(socket: &Path) -> Result<(), UpgradeError> {
    let folder = socket.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let refuse = |wrong: String| Err(UpgradeError::Folder { folder: folder.to_owned(), wrong });
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return refuse(format!("cannot be made ({error})"));
        }
        _ => {}
    }
    let found = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) => return refuse(format!("cannot be read ({error})")),
    };
    let own = rustix::process::geteuid().as_raw();
    match (found.is_dir(), found.uid() == own, found.mode() & 0o077) {
        (true, true, 0) => Ok(()),
        (true, true, _) => refuse("lets other users in".to_owned()),
        (true, false, _) => refuse("belongs to another user".to_owned()),
        (false, ..) => refuse("is none".to_owned()),
    }
}
