//! `upgrade` of the file.

use super::Resolver;
use crate::config::problem::At;
use crate::net::Address;
use std::path::PathBuf;

impl Resolver<'_> {
    /// Where the process listens for the one that takes over; `admin` is another socket.
    pub(super) fn upgrade(&mut self, admin: Option<&Address>) -> Option<PathBuf> {
        let text = self.raw.upgrade.as_ref()?.socket.as_deref()?;
        let at = At::root().key("upgrade").key("socket");
        let place = self.place(text);
        // sun_path holds 108 bytes with its final NUL.
        if text.is_empty() || text.ends_with('/') || place.as_os_str().len() > 107 {
            let remedy = "write a path of at most 107 bytes, such as `/run/vestibule/upgrade.sock`";
            self.notes.problem(&at, text, "is not a socket's path", remedy);
        } else if place.is_dir() {
            let remedy = "write the path of a socket in there, such as `/run/vestibule/upgrade.sock`";
            self.notes.problem(&at, text, "is a folder", remedy);
        } else if matches!(admin, Some(Address::Unix(admin)) if *admin == place) {
            self.notes.problem(&at, text, "is the socket of admin.address", "write another path");
        }
        Some(place)
    }
}
