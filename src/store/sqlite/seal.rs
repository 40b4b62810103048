//! What lies in the file is sealed with keys derived from the ring: who takes the file reads no name and opens no session.
//!
//! A sealed value is the short name of its key, a random nonce, and what AES-256-GCM-SIV (RFC 8452) makes of the value.
//! Authenticated with it are its place: each column has keys of its own, and the row stands in the associated data, so that no
//! value passes at another place. Any key of the ring opens; the newest one seals.
//!
//! SIV, because a busy gateway writes 2³² last uses within weeks, which is where random nonces of plain GCM begin to
//! repeat (NIST SP 800-38D §8.3). Here a repeated nonce tells no more than whether two equal values were sealed, and the bound
//! lies far above what a disk can write (RFC 8452 §9).

use crate::domain::token::KeyRing;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

const KEY_NAME_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;
const HEAD_BYTES: usize = KEY_NAME_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;

/// A column whose values are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// `sessions.record`
    Record,
    /// `sessions.used`
    Used,
    /// `data.value`
    Data,
    /// `revocations.record`
    Revocation,
}

impl Column {
    const ALL: [Self; 4] = [Self::Record, Self::Used, Self::Data, Self::Revocation];

    /// The name under which its keys are derived.
    const fn label(self) -> &'static str {
        match self {
            Self::Record => "sqlite sessions.record",
            Self::Used => "sqlite sessions.used",
            Self::Data => "sqlite data.value",
            Self::Revocation => "sqlite revocations.record",
        }
    }
}

/// Why a value was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// The ring has no key of that name.
    UnknownKey,
    /// It is not what was sealed at this place.
    Damaged,
}

/// The keys of a ring, newest first.
pub(super) struct SealKeys(Vec<SealKey>);

struct SealKey {
    name: [u8; KEY_NAME_BYTES],
    columns: [RandomizedNonceKey; Column::ALL.len()],
    subjects: hmac::Key,
}

impl SealKeys {
    /// Derives them.
    pub(super) fn of(ring: &KeyRing) -> Self {
        let columns = Column::ALL.map(|column| ring.derive(column.label()));
        let names = ring.derive("sqlite key name");
        let subjects = ring.derive("sqlite sessions.subject");
        let keys = names.iter().zip(subjects).enumerate().map(|(at, (name, subjects))| SealKey {
            name: *name.expose().first_chunk().expect("4 of 32 bytes"),
            columns: Column::ALL.map(|column| {
                RandomizedNonceKey::new(&AES_256_GCM_SIV, columns[column as usize][at].expose())
                    .expect("the key is as long as the algorithm's")
            }),
            subjects: hmac::Key::new(hmac::HMAC_SHA256, subjects.expose()),
        });
        Self(keys.collect())
    }

    fn newest(&self) -> &SealKey {
        self.0.first().expect("a ring has at least one key")
    }

    /// Seals `plain` for a column of a row that `place` names.
    pub(super) fn seal(&self, column: Column, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let key = self.newest();
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        sealed.extend_from_slice(&key.name);
        sealed.extend_from_slice(&[0; NONCE_BYTES]);
        sealed.extend_from_slice(plain);
        let (nonce, tag) = key.columns[column as usize]
            .seal_in_place_separate_tag(Aad::from(place), &mut sealed[HEAD_BYTES..])
            .expect("a record is shorter than the algorithm's bound, and the system gives random bytes");
        sealed[KEY_NAME_BYTES..HEAD_BYTES].copy_from_slice(nonce.as_ref());
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens in place what [`SealKeys::seal`] gave for the same column and place.
    pub(super) fn open<'a>(
        &self,
        column: Column,
        place: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Unopened> {
        let (name, rest) = sealed.split_first_chunk_mut().ok_or(Unopened::Damaged)?;
        let key = self.0.iter().find(|key| key.name == *name).ok_or(Unopened::UnknownKey)?;
        let (nonce, rest) = rest.split_first_chunk_mut().ok_or(Unopened::Damaged)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.columns[column as usize].open_in_place(nonce, Aad::from(place), rest);
        opened.map(|plain| &*plain).map_err(|_| Unopened::Damaged)
    }

    /// Whether the newest key sealed this.
    pub(super) fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.newest().name)
    }

    /// Whether a key of the ring sealed this.
    pub(super) fn knows(&self, sealed: &[u8]) -> bool {
        self.0.iter().any(|key| sealed.starts_with(&key.name))
    }

    /// Whether every key of `others` is among these.
    pub(super) fn covers(&self, others: &Self) -> bool {
        others.0.iter().all(|key| self.knows(&key.name))
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// By what the file lets a subject's sessions be found without telling whose they are: a keyed hash, by the newest key.
    /// Short, so that it finds candidates and proves nothing.
    pub(super) fn blind(&self, subject: &str) -> i64 {
        self.newest().blind(subject)
    }

    /// The same by every key.
    pub(super) fn blinds(&self, subject: &str) -> Vec<i64> {
        self.0.iter().map(|key| key.blind(subject)).collect()
    }
}

impl SealKey {
    fn blind(&self, subject: &str) -> i64 {
        let hash = hmac::sign(&self.subjects, subject.as_bytes());
        i64::from_be_bytes(*hash.as_ref().first_chunk().expect("8 of 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    fn keys(ring: &[u8]) -> SealKeys {
        let ring = KeyRing::new(ring.iter().map(|&key| Secret::new([key; 32])).collect());
        SealKeys::of(&ring.expect("the tests name a key"))
    }

    #[test]
    fn a_sealed_value_opens_at_its_place_and_nowhere_else() {
        let keys = keys(&[1]);
        let sealed = keys.seal(Column::Record, b"row 1", b"alice");
        assert!(!sealed.windows(5).any(|window| window == b"alice"));
        let open = |column, place: &[u8]| keys.open(column, place, &mut sealed.clone()).map(<[u8]>::to_vec);
        assert_eq!(open(Column::Record, b"row 1"), Ok(b"alice".to_vec()));
        assert_eq!(open(Column::Record, b"row 2"), Err(Unopened::Damaged));
        assert_eq!(open(Column::Data, b"row 1"), Err(Unopened::Damaged));
        assert_ne!(sealed, keys.seal(Column::Record, b"row 1", b"alice"), "no two nonces are the same");
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let keys = keys(&[1]);
        let sealed = keys.seal(Column::Used, b"row", &[7; 8]);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(Column::Used, b"row", &mut changed).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(keys.open(Column::Used, b"row", &mut sealed.clone()[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn every_key_of_the_ring_opens_and_the_newest_seals() {
        let (old, both, new) = (keys(&[1]), keys(&[2, 1]), keys(&[2]));
        let sealed = old.seal(Column::Data, b"row", b"{}");
        assert!(both.open(Column::Data, b"row", &mut sealed.clone()).is_ok());
        assert_eq!(new.open(Column::Data, b"row", &mut sealed.clone()), Err(Unopened::UnknownKey));
        assert_eq!((old.is_newest(&sealed), both.is_newest(&sealed)), (true, false));
        assert_eq!((both.knows(&sealed), new.knows(&sealed)), (true, false));
        let sealed = both.seal(Column::Data, b"row", b"{}");
        assert!(new.open(Column::Data, b"row", &mut sealed.clone()).is_ok());
        assert_eq!(both.blinds("alice"), [new.blind("alice"), old.blind("alice")]);
        assert_ne!(both.blind("alice"), both.blind("bob"));
    }
}
