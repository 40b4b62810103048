//! How sessions ended that are no longer held: who presents the token of one is told why it serves no more.
//!
//! A ring of a fixed size, so that no number of ends takes more memory: the newest takes the place of the oldest.

use crate::domain::session::{End, SessionId};
use crate::domain::token::TokenDigest;
use hashbrown::HashTable;
use parking_lot::RwLock;

/// How many ends are remembered; then the oldest are forgotten and read as unknown. Less than a megabyte.
const REMEMBERED_ENDS: usize = 16 * 1024;

#[derive(Clone, Copy)]
struct Told {
    digest: TokenDigest,
    end: End,
    id: SessionId,
}

#[derive(Default)]
struct Ring {
    told: Vec<Told>,
    /// Where the next one goes: behind the last, or where the oldest is.
    next: usize,
    /// Places in `told`, by digest.
    places: HashTable<u32>,
}

/// The ends that are remembered.
#[derive(Default)]
pub(super) struct Ends(RwLock<Ring>);

impl Ends {
    /// How the session with this digest ended, and which it was.
    pub(super) fn get(&self, digest: &TokenDigest) -> Option<(End, SessionId)> {
        let ring = self.0.read();
        let Ring { told, places, .. } = &*ring;
        let place = places.find(digest.hash64(), |place| told[*place as usize].digest == *digest)?;
        let Told { end, id, .. } = told[*place as usize];
        Some((end, id))
    }

    /// Remembers an end; of one digest the last that is told counts.
    pub(super) fn insert(&self, digest: TokenDigest, end: End, id: SessionId) {
        let new = Told { digest, end, id };
        let mut ring = self.0.write();
        let Ring { told, next, places } = &mut *ring;
        if let Some(place) = places.find(digest.hash64(), |place| told[*place as usize].digest == digest) {
            told[*place as usize] = new;
            return;
        }
        let place = *next;
        if let Some(oldest) = told.get_mut(place) {
            if let Ok(gone) = places.find_entry(oldest.digest.hash64(), |held| *held as usize == place) {
                gone.remove();
            }
            *oldest = new;
        } else {
            told.push(new);
        }
        *next = (place + 1) % REMEMBERED_ENDS;
        let place = u32::try_from(place).expect("there are few places");
        places.insert_unique(digest.hash64(), place, |place| told[*place as usize].digest.hash64());
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<(TokenDigest, End, SessionId)> {
        let Ring { told, next, .. } = &*self.0.read();
        let (newer, older) = told.split_at(*next);
        older.iter().chain(newer).map(|Told { digest, end, id }| (*digest, *end, *id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> TokenDigest {
        TokenDigest::of(&std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(0)))
    }

    fn id(number: usize) -> SessionId {
        SessionId::from_bytes((number as u128).to_le_bytes())
    }

    #[test]
    fn the_newest_are_remembered_and_the_oldest_forgotten() {
        let ends = Ends::default();
        let told = REMEMBERED_ENDS * 5 / 2;
        for number in 0..told {
            assert_eq!(ends.get(&digest(number)), None);
            ends.insert(digest(number), End::SignOut, id(number));
        }
        for number in 0..told {
            let expected = (number >= told - REMEMBERED_ENDS).then(|| (End::SignOut, id(number)));
            assert_eq!(ends.get(&digest(number)), expected, "{number} of {told}");
        }
        let oldest_first: Vec<_> = ends.all().into_iter().map(|(_, _, id)| id).collect();
        assert!(oldest_first.into_iter().eq((told - REMEMBERED_ENDS..told).map(id)));
        let ring = ends.0.read();
        assert_eq!((ring.told.len(), ring.places.len()), (REMEMBERED_ENDS, REMEMBERED_ENDS));
        assert!(ring.told.capacity() * size_of::<Told>() + ring.places.allocation_size() < 1024 * 1024);
    }

    #[test]
    fn the_last_that_is_told_of_a_digest_counts() {
        let ends = Ends::default();
        for (number, end) in [(1, End::Superseded), (2, End::Idle), (1, End::Revoked)] {
            ends.insert(digest(number), end, id(number));
        }
        assert_eq!(ends.get(&digest(1)), Some((End::Revoked, id(1))));
        assert_eq!(ends.all().len(), 2);
    }
}
