//! Revocations on their way to another process of the gateway, which takes over: those that are in force, and every new one.

use super::{Entry, Revocation, RevokedTokens};
use crate::domain::fingerprint::{Fingerprint, Fingerprints};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::store::journal::Journal;
use std::sync::Arc;

/// Entries in one piece.
const ENTRIES_IN_PIECE: usize = 4096;
/// The key that fingerprints are made with, at the front of each piece.
const KEY_BYTES: usize = 16;
/// Fingerprint, whether it counts by age, that instant, when it ends.
const ENTRY_BYTES: usize = 16 + 1 + 8 + 8;

impl RevokedTokens {
    /// From now on this one hears of every revocation too; where it follows, as one process does another, nobody else does.
    pub fn relay(&self, relay: Option<Arc<dyn Journal>>) {
        *self.writing.lock() = relay;
    }

    /// From now on what is revoked here is another process's to write: it hears of that by `relay`. What is in force until then
    /// comes back, in pieces for [`RevokedTokens::restore`]; their key is for no other eyes.
    pub fn hand_over(&self, relay: Arc<dyn Journal>) -> Vec<Vec<u8>> {
        let mut writing = self.writing.lock();
        *writing = Some(relay);
        let mut entries = Vec::with_capacity(self.len());
        for shard in &self.shards {
            entries.extend(shard.read().iter().map(|(key, entry)| (*key, *entry)));
        }
        entries.chunks(ENTRIES_IN_PIECE).map(|piece| self.piece(piece)).collect()
    }

    fn piece(&self, entries: &[(Fingerprint, Entry)]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(KEY_BYTES + entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(self.fingerprints().key().expose());
        for (fingerprint, Entry { issued_by, ends_at }) in entries {
            bytes.extend_from_slice(&fingerprint.to_bytes());
            bytes.push(u8::from(issued_by.is_some()));
            bytes.extend_from_slice(&issued_by.unwrap_or_default().as_micros().to_le_bytes());
            bytes.extend_from_slice(&ends_at.as_micros().to_le_bytes());
        }
        bytes
    }

    /// Puts in force what another process has told by [`RevokedTokens::hand_over`]. To be called before anything is revoked
    /// here. `None`: it is no such piece; what stands in it before the fault is in force.
    pub fn restore(&self, piece: &[u8]) -> Option<()> {
        let _one_at_a_time = self.writing.lock();
        let (key, mut entries) = piece.split_first_chunk::<KEY_BYTES>()?;
        let theirs = self.adopted.get_or_init(|| Fingerprints::new(Secret::new(*key)));
        if theirs.key().expose() != key {
            return None;
        }
        while !entries.is_empty() {
            let (fingerprint, rest) = entries.split_first_chunk()?;
            let (by_age, rest) = rest.split_first_chunk()?;
            let (issued_by, rest) = rest.split_first_chunk()?;
            let (ends_at, rest) = rest.split_first_chunk()?;
            let instant = |bytes: &[u8; 8]| Timestamp::from_micros(u64::from_le_bytes(*bytes));
            let issued_by = match by_age {
                [0] => None,
                [1] => Some(instant(issued_by)),
                _ => return None,
            };
            // As many as that process had.
            let entry = Entry { issued_by, ends_at: instant(ends_at) };
            self.insert(Fingerprint::from_bytes(*fingerprint), entry, usize::MAX)?;
            entries = rest;
        }
        Some(())
    }

    /// Does as the process that decides: whether there is room was its question.
    pub fn follow(&self, revocation: &Revocation) {
        let _one_at_a_time = self.writing.lock();
        self.take(revocation, usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Which;
    use super::super::tests::{NOON, noon, revocation, token};
    use super::*;
    use crate::domain::session::Session;
    use crate::store::journal::{Change, Commit, Unavailable};
    use parking_lot::Mutex;

    /// Notes what it is told.
    struct Told(Mutex<Vec<Revocation>>, bool);

    impl Journal for Told {
        fn write(&self, _: Change) -> Commit {
            Commit::ready()
        }

        fn can_write(&self) -> bool {
            true
        }

        fn touched(&self, _: &Session) {}

        fn revoked(&self, revocation: Revocation) -> Commit {
            self.0.lock().push(revocation);
            Commit::refused()
        }

        fn follows(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn what_is_revoked_goes_over_and_what_comes_after_is_told() {
        let (old, new) = (RevokedTokens::new(), RevokedTokens::new());
        for number in 0..ENTRIES_IN_PIECE {
            let named = revocation("b", Which::Named(number.to_string()), 0, 99);
            old.add(named, NOON).expect("there is room").forget();
        }
        old.add(revocation("a", Which::Of("alice".to_owned()), 10, 99), NOON).expect("room").forget();
        let told = Arc::new(Told(Mutex::default(), true));
        let pieces = old.hand_over(told.clone());
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|piece| new.restore(piece).is_some()));
        assert_eq!(new.len(), old.len());
        let tokens = [
            (token("a", "alice", Some("1"), Some(10)), true),
            (token("a", "alice", Some("1"), Some(11)), false),
            (token("b", "bob", Some("7"), Some(50)), true),
            (token("b", "bob", Some("seven"), Some(50)), false),
        ];
        for (token, revoked) in &tokens {
            assert_eq!((old.covers(token), new.covers(token)), (*revoked, *revoked), "{token:?}");
        }
        new.sweep(noon(99));
        assert_eq!(new.len(), 0, "they end as they did there");

        let late = revocation("c", Which::All, 20, 99);
        assert_eq!(old.add(late.clone(), NOON).expect("room").wait(), Err(Unavailable), "the other's word");
        assert_eq!(*told.0.lock(), std::slice::from_ref(&late));
        let carol = token("c", "carol", None, Some(20));
        assert!(old.covers(&carol) && !new.covers(&carol));
        new.follow(&late);
        assert!(new.covers(&carol));
        old.relay(None);
        assert_eq!(old.add(late, NOON).expect("room").wait(), Ok(()), "and its own again");
    }

    #[test]
    fn a_piece_that_is_none_is_refused() {
        let old = RevokedTokens::new();
        old.add(revocation("a", Which::All, 10, 99), NOON).expect("there is room").forget();
        let pieces = old.hand_over(Arc::new(Told(Mutex::default(), false)));
        let piece = pieces.first().expect("there is one entry");
        for length in 0..piece.len() {
            let whole = length == KEY_BYTES;
            assert_eq!(RevokedTokens::new().restore(&piece[..length]).is_some(), whole, "{length}");
        }
        let mut wrong = piece.clone();
        wrong[KEY_BYTES + 16] = 2;
        assert!(RevokedTokens::new().restore(&wrong).is_none());
        let new = RevokedTokens::new();
        assert!(new.restore(piece).is_some());
        wrong[0] ^= 1;
        assert!(new.restore(&wrong[..KEY_BYTES]).is_none(), "of a third process");
    }
}
