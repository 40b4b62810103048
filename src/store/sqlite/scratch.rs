//! A folder for a test's file; gone when dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) struct Scratch {
    folder: PathBuf,
    file: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vestibule-store-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        Self { file: folder.join("sessions.db"), folder }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the temporary folder hurts nobody.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
