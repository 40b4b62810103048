//! Short names for long secrets, to find in memory what was decided about them a moment ago.
//!
//! A fingerprint is SipHash-2-4 with 128 bits, a message authentication code: without the key nobody finds a text for a fingerprint
//! but by guessing at it, or two with the same one. It takes a fraction of the instructions of a SHA-256 where the processor has none of its own
//! for that. Fingerprints and their key never leave the process, but for one that takes over from it.

use crate::domain::secret::Secret;
use siphasher::sip128::{Hash128, Hasher128, SipHasher24};
use std::hash::{BuildHasherDefault, Hasher};

/// What a text is found under.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// An index below `length`, evenly spread.
    pub const fn index(self, length: usize) -> usize {
        self.0 as usize % length
    }

    /// As bytes, for who knows the key.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&self.0.to_le_bytes());
        second.copy_from_slice(&self.1.to_le_bytes());
        bytes
    }

    /// What [`Fingerprint::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_le_bytes(bytes);
        Self(whole as u64, (whole >> 64) as u64)
    }
}

/// Finds keys in a table that consist of a [`Fingerprint`] and of what we have counted ourselves.
pub type ByFingerprint = BuildHasherDefault<FingerprintHasher>;

/// Joins the parts of such a key. Nobody outside can choose the bits of a fingerprint, and they are evenly spread: to hash them
/// strongly once more takes 800 instructions and gains nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // An odd factor: 2^64 over the golden ratio.
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Makes fingerprints under one key.
#[derive(Debug)]
pub struct Fingerprints(Secret<[u8; 16]>);

impl Fingerprints {
    /// Under this key, which nobody else knows.
    pub const fn new(key: Secret<[u8; 16]>) -> Self {
        Self(key)
    }

    /// The key, for a process that takes over.
    pub const fn key(&self) -> &Secret<[u8; 16]> {
        &self.0
    }

    /// The fingerprint of a text.
    pub fn of(&self, text: &[u8]) -> Fingerprint {
        let Hash128 { h1, h2 } = SipHasher24::new_with_key(self.0.expose()).hash(text);
        Fingerprint(h1, h2)
    }

    /// The fingerprint of three texts, each with its length, so that no other three are the same.
    pub fn of_parts(&self, parts: [&[u8]; 3]) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(self.0.expose());
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        let Hash128 { h1, h2 } = hasher.finish128();
        Fingerprint(h1, h2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_depends_on_every_byte_and_on_the_key() {
        let [ours, other] = [1, 2].map(|key| Fingerprints::new(Secret::new([key; 16])));
        let text = b"eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl".to_vec();
        assert!(ours.of(&text) == ours.of(&text.clone()));
        assert!(ours.of(&text) != other.of(&text));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(ours.of(&text) != ours.of(&changed), "{at}");
            assert!(ours.of(&text) != ours.of(&text[..at]), "{at}");
        }
        let again = Fingerprints::new(ours.key().clone()).of(&text).to_bytes();
        assert!(Fingerprint::from_bytes(again) == ours.of(&text));
        assert!(ours.of_parts([b"a", b"bc", b""]) != ours.of_parts([b"ab", b"c", b""]));
        assert!(ours.of_parts([b"a", b"b", b"c"]) == ours.of_parts([b"a", b"b", b"c"]));
        assert!((0..1000_u16).all(|n| ours.of(&n.to_le_bytes()).index(7) < 7));
    }

    #[test]
    fn keys_that_differ_in_a_part_are_found_apart() {
        use std::collections::HashSet;
        use std::hash::BuildHasher;
        let fingerprints = Fingerprints::new(Secret::new([7; 16]));
        let table = ByFingerprint::default();
        let mut hashes = HashSet::new();
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for text in 0..1000_u32 {
            let fingerprint = fingerprints.of(&text.to_le_bytes());
            for entry in 0..4_u64 {
                let hash = table.hash_one((fingerprint, entry, 1_u32));
                assert!(hashes.insert(hash), "{text} {entry}");
                low.insert(hash % 1024);
                high.insert(hash >> 54);
            }
        }
        // Of 4,000 thrown into 1,024 places, about 20 are left empty.
        assert!(low.len() > 980 && high.len() > 980, "{} {}", low.len(), high.len());
    }
}
