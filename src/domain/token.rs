//! The session token a browser holds, the digest we hold, and the keys between them.
//!
//! A token is 32 random bytes and a short keyed tag, together 54 characters of base64url. The randomness is the
//! secret; the tag only lets junk be refused without a look-up: a forged tag buys a look-up that finds nothing.
//! The newest key of the ring makes tags, all keys verify them, so that adding a key signs nobody out.
//!
//! The store knows tokens by [`TokenDigest`], the SHA-256 of the random part: who reads the store cannot present one.

use crate::domain::secret::Secret;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::{Hash, Hasher};
use zeroize::Zeroizing;

const RANDOM_BYTES: usize = 32;
const TAG_BYTES: usize = 8;
const TOKEN_BYTES: usize = RANDOM_BYTES + TAG_BYTES;
/// Characters of an encoded token.
pub const TOKEN_CHARS: usize = 54;
/// The decoder asks for room in whole groups of four characters.
const DECODE_BYTES: usize = TOKEN_CHARS.div_ceil(4) * 3;

/// What the store knows a session token by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token's random part.
    pub fn of(random: &[u8; RANDOM_BYTES]) -> Self {
        let digest = digest::digest(&digest::SHA256, random);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The digest of these bytes, which [`TokenDigest::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes: evenly spread, so that a table may take them as they are.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first eight bytes, which are as good a hash as any made of them.
    pub fn hash64(&self) -> u64 {
        let first = self.0.first_chunk().expect("8 of 32 bytes");
        u64::from_le_bytes(*first)
    }
}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

/// Logs name sessions by their id.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// The secret that a browser holds.
#[derive(Clone, Debug)]
pub struct SessionToken(Secret<[u8; TOKEN_BYTES]>);

impl SessionToken {
    /// The cookie's value.
    pub fn encode(&self) -> Secret<String> {
        Secret::new(URL_SAFE_NO_PAD.encode(self.0.expose()))
    }
}

/// The keys of the file, newest first, and what is derived from each.
///
/// No key serves two uses: each use has keys of its own, derived by HMAC-SHA256 (RFC 2104) under its name.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Secret<[u8; 32]>>,
    tags: Vec<TagKey>,
}

impl KeyRing {
    /// Makes a ring of keys, newest first. `None` without any key: such a gateway opens no sessions.
    pub fn new(keys: Vec<Secret<[u8; 32]>>) -> Option<Self> {
        let tags = keys.iter().map(TagKey::from_key).collect();
        (!keys.is_empty()).then_some(Self { keys, tags })
    }

    /// Makes a token of 32 bytes that the caller drew from the operating system, and its digest.
    pub fn issue(&self, random: [u8; RANDOM_BYTES]) -> (SessionToken, TokenDigest) {
        let random = Zeroizing::new(random);
        let newest = self.tags.first().expect("a ring has at least one key");
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        token[..RANDOM_BYTES].copy_from_slice(&*random);
        token[RANDOM_BYTES..].copy_from_slice(&newest.tag(&random));
        (SessionToken(Secret::new(*token)), TokenDigest::of(&random))
    }

    /// The digest of a presented cookie value, if it is a token that one of the keys made.
    ///
    /// One spelling per token: other lengths, padding, other alphabets and stray last bits are refused. Every key is
    /// tried, in constant time. Costs a `SipHash` per key and, for a good tag, one SHA-256; allocates nothing.
    pub fn digest(&self, presented: &[u8]) -> Option<TokenDigest> {
        let (token, _) = self.verify(presented)?;
        Some(TokenDigest::of(random_part(&token)))
    }

    /// The token that follows a presented one of a session's `generation`, and its digest. Every process with the key that
    /// made the presented one derives the same, so that answers that run side by side offer one successor. `None`: the
    /// value is not a token that one of the keys made.
    pub fn successor(&self, presented: &[u8], generation: u32) -> Option<(SessionToken, TokenDigest)> {
        let (token, key) = self.verify(presented)?;
        let key = derive(&self.keys[key], "session successor");
        let mut message = Zeroizing::new([0; RANDOM_BYTES + size_of::<u32>()]);
        message[..RANDOM_BYTES].copy_from_slice(random_part(&token));
        message[RANDOM_BYTES..].copy_from_slice(&generation.to_le_bytes());
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), &*message);
        Some(self.issue(derived.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")))
    }

    /// A token, decoded once and wiped once, and which key made its tag.
    fn verify(&self, presented: &[u8]) -> Option<(Zeroizing<[u8; DECODE_BYTES]>, usize)> {
        if presented.len() != TOKEN_CHARS {
            return None;
        }
        let mut token = Zeroizing::new([0; DECODE_BYTES]);
        let decoded = URL_SAFE_NO_PAD.decode_slice(presented, &mut token[..]).ok()?;
        let (random, tag) = token[..decoded].split_first_chunk::<RANDOM_BYTES>()?;
        let matches = |key: &TagKey| verify_slices_are_equal(&key.tag(random), tag).is_ok();
        // No early exit: how long this takes does not tell which key fits.
        let tried = self.tags.iter().enumerate();
        let key = tried.fold(None, |found, (at, key)| if matches(key) { Some(at) } else { found })?;
        Some((token, key))
    }

    /// Keys for another use, one per key of the ring and newest first; `label` names the use.
    pub fn derive(&self, label: &str) -> Vec<Secret<[u8; 32]>> {
        self.keys.iter().map(|key| derive(key, label)).collect()
    }
}

fn random_part(token: &[u8; DECODE_BYTES]) -> &[u8; RANDOM_BYTES] {
    token.first_chunk().expect("a token begins with 32 random bytes")
}

struct TagKey(Secret<[u8; 16]>);

impl TagKey {
    fn from_key(key: &Secret<[u8; 32]>) -> Self {
        let derived = derive(key, "session token tag");
        Self(Secret::new(*derived.expose().first_chunk().expect("16 of 32 bytes")))
    }

    fn tag(&self, random: &[u8; RANDOM_BYTES]) -> [u8; TAG_BYTES] {
        SipHasher24::new_with_key(self.0.expose()).hash(random).to_le_bytes()
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(…)")
    }
}

fn derive(key: &Secret<[u8; 32]>, label: &str) -> Secret<[u8; 32]> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let derived = hmac::sign(&key, label.as_bytes());
    Secret::new(derived.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(keys: &[u8]) -> KeyRing {
        KeyRing::new(keys.iter().map(|&key| Secret::new([key; 32])).collect()).expect("the tests name a key")
    }

    fn cookie(keys: &[u8], random: [u8; 32]) -> String {
        ring(keys).issue(random).0.encode().expose().clone()
    }

    #[test]
    fn a_token_leads_to_its_digest_and_nothing_prints_it() {
        let (token, digest) = ring(&[1]).issue([5; 32]);
        assert_eq!(token.encode().expose().len(), TOKEN_CHARS);
        assert_eq!(ring(&[1]).digest(token.encode().expose().as_bytes()), Some(digest));
        assert_eq!(digest, TokenDigest::of(&[5; 32]));
        assert_eq!(format!("{token:?} {digest:?}"), "SessionToken(Secret(…)) TokenDigest(…)");
        assert!(!format!("{:?}", ring(&[1])).contains('1'));
    }

    #[test]
    fn a_new_key_signs_nobody_out_and_a_dropped_one_does() {
        let old = cookie(&[1], [5; 32]);
        assert!(ring(&[2, 1]).digest(old.as_bytes()).is_some());
        assert!(ring(&[2]).digest(old.as_bytes()).is_none());
        let new = cookie(&[2, 1], [6; 32]);
        assert!(ring(&[2]).digest(new.as_bytes()).is_some(), "the newest key makes the tag");
        assert!(ring(&[1]).digest(new.as_bytes()).is_none());
        assert!(KeyRing::new(Vec::new()).is_none());
    }

    #[test]
    fn only_the_one_spelling_of_a_token_is_taken() {
        let good = cookie(&[1], [0xFB; 32]);
        let last = good.chars().last().expect("54 characters");
        let stray_bits = char::from(last as u8 + 1);
        let mut long = good.clone();
        long.push('A');
        for bad in [
            String::new(),
            good[..53].to_owned(),
            long,
            format!("{}{stray_bits}", &good[..53]),
            format!("{}==", &good[..52]),
            good.replace('-', "+"),
            format!(" {}", &good[..53]),
            format!("\"{}\"", &good[..52]),
            "A".repeat(TOKEN_CHARS),
        ] {
            assert_eq!(ring(&[1]).digest(bad.as_bytes()), None, "{bad}");
        }
        assert!(good.contains('-'), "the replacement above replaced something");
    }

    #[test]
    fn a_successor_is_the_same_wherever_the_key_is_and_for_nobody_else() {
        let old = cookie(&[1], [5; 32]);
        let follow = |keys: &[u8], generation| {
            let (token, digest) = ring(keys).successor(old.as_bytes(), generation)?;
            Some((token.encode().expose().clone(), digest))
        };
        let (token, digest) = follow(&[1], 0).expect("its key is in the ring");
        assert_eq!(ring(&[1]).digest(token.as_bytes()), Some(digest));
        let (rotated, same) = follow(&[2, 1], 0).expect("its key is in the ring");
        assert_eq!(same, digest, "a new key changes the tag, not the session's secret");
        assert_eq!(ring(&[2]).digest(rotated.as_bytes()), Some(digest), "the newest key makes the tag");
        assert_eq!(follow(&[2], 0), None);
        assert_ne!(follow(&[1], 1).expect("its key is in the ring").1, digest);
        let other =
            ring(&[1]).successor(cookie(&[1], [6; 32]).as_bytes(), 0).expect("its key is in the ring");
        assert_ne!(other.1, digest);
        assert!(ring(&[1]).successor(b"junk", 0).is_none());
    }

    #[test]
    fn each_use_has_keys_of_its_own() {
        let ring = ring(&[2, 1]);
        let forms = ring.derive("forms");
        let devices = ring.derive("devices");
        assert_eq!(forms.len(), 2);
        assert_ne!(forms[0].expose(), devices[0].expose());
        assert_ne!(forms[0].expose(), forms[1].expose());
        assert_ne!(forms[0].expose(), &[2; 32]);
        assert_eq!(forms[0].expose(), super::tests::ring(&[2]).derive("forms")[0].expose(), "newest first");
    }

    proptest! {
        #[test]
        fn a_token_changed_in_one_character_is_junk(random: [u8; 32], at in 0..TOKEN_CHARS, byte: u8) {
            let good = cookie(&[1, 2], random);
            let mut changed = good.clone().into_bytes();
            changed[at] = byte;
            prop_assert_eq!(ring(&[1, 2]).digest(&changed).is_some(), changed == good.as_bytes());
        }

        #[test]
        fn arbitrary_bytes_are_junk(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(ring(&[1]).digest(&bytes), None);
        }
    }
}
