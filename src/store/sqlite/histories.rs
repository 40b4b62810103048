//! The store put to the histories of [`crate::store::model`], with real files.

use super::scratch::Scratch;
use super::{SqliteFile, SqliteStore};
use crate::domain::secret::Secret;
use crate::domain::session::Restored;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::token::KeyRing;
use crate::store::journal::Journal;
use crate::store::model::{Behind, histories, live_through};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Time is the model's; the store's only says which of two instants is later.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_000_000)
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn ticks(&self) -> Duration {
        Duration::ZERO
    }
}

/// A file and the store on it.
struct OnDisk {
    scratch: Scratch,
    store: Arc<SqliteStore>,
}

impl OnDisk {
    fn new() -> Self {
        let scratch = Scratch::new();
        let store = start(&scratch);
        Self { scratch, store }
    }
}

fn start(scratch: &Scratch) -> Arc<SqliteStore> {
    let ring = KeyRing::new(vec![Secret::new([1; 32])]).expect("a key");
    let file = SqliteFile::open(scratch.file(), &ring).expect("the file can be used");
    // The disk's own promise is not what these histories are about, and there are many of them.
    file.database.connection.pragma_update(None, "synchronous", "OFF").expect("a pragma");
    let store = file.start(Arc::new(Standing), |_| {}).expect("a thread");
    store.hold(true);
    store
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // It may not be able to write what waits.
        self.store.crash();
    }
}

impl Behind for OnDisk {
    fn journal(&self) -> Option<Arc<dyn Journal>> {
        Some(self.store.clone())
    }

    fn settle(&self) {
        self.store.settle();
    }

    fn fail(&self, failing: bool) -> bool {
        let (there, aside) = (self.scratch.file(), self.scratch.folder().join("aside.db"));
        let moved = if failing { std::fs::rename(there, aside) } else { std::fs::rename(aside, there) };
        moved.expect("a file can be renamed");
        true
    }

    fn crash(&mut self) -> Vec<Restored> {
        self.store.crash();
        if !self.scratch.file().exists() {
            self.fail(false);
        }
        self.store = start(&self.scratch);
        let mut kept = Vec::new();
        let loaded = self.store.load(|sessions| kept.extend(sessions)).expect("the file is whole");
        assert_eq!((loaded.damaged, loaded.unopened), (0, 0));
        kept
    }

    fn waits_for_settle(&self) -> bool {
        true
    }

    fn catches_up(&self) -> bool {
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_table_over_sqlite_lives_as_the_model_does(history in histories(40)) {
        live_through(&history, OnDisk::new());
    }
}
