//! The cookie of a browser that has signed in before: sealed, so that only we can write one.
//!
//! It says "a sign-in as this subject succeeded here", nothing more: it gives a lane of its own and freedom from the
//! throttle that slows strangers, never a session. It binds source and subject (as a digest, so the cookie names nobody),
//! carries a random number by which failures of this one browser are counted, and counts for [`REMEMBERED_FOR`].
//! AES-256-GCM (RFC 5116) under keys derived from the key ring: the newest seals, all open.

use crate::auth::throttle::DeviceId;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;

/// The label under which [`DeviceCookies::new`] wants its keys derived.
pub const KEY_LABEL: &str = "known device";
/// How long a browser counts as known after its last sign-in; the cookie's `Max-Age`.
pub const REMEMBERED_FOR: Duration = Duration::from_hours(90 * 24);

const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 32;
const PLAIN_BYTES: usize = 8 + 8 + DIGEST_BYTES;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = 1 + NONCE_LEN + PLAIN_BYTES + TAG_BYTES;

/// Seals and opens known-device cookies.
pub struct DeviceCookies {
    keys: Vec<LessSafeKey>,
}

impl DeviceCookies {
    /// Takes the keys derived under [`KEY_LABEL`], newest first.
    pub fn new(keys: &[Secret<[u8; 32]>]) -> Self {
        let key = |key: &Secret<[u8; 32]>| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256 takes 32 bytes"))
        };
        Self { keys: keys.iter().map(key).collect() }
    }

    /// A cookie value for the browser that just signed in as this subject.
    ///
    /// # Errors
    ///
    /// The system's random generator failed, or there is no key.
    pub fn seal(&self, source: &str, subject: &str, now: Timestamp) -> Result<Secret<String>, SealError> {
        let key = self.keys.first().ok_or(SealError::NoKey)?;
        let mut random = [0; 8 + NONCE_LEN];
        getrandom::fill(&mut random)?;
        let (device, nonce) = random.split_at(8);
        let mut sealed = Vec::with_capacity(SEALED_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce);
        let mut plain = Vec::with_capacity(PLAIN_BYTES + TAG_BYTES);
        plain.extend_from_slice(device);
        plain.extend_from_slice(&now.as_millis().to_be_bytes());
        plain.extend_from_slice(&digest(source, subject));
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("the slice has the nonce's length");
        key.seal_in_place_append_tag(nonce, Aad::from([VERSION]), &mut plain)
            .expect("a plain text of some bytes is within the cipher's bound");
        sealed.extend_from_slice(&plain);
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// The browser's number, if `value` was sealed for this subject and still counts.
    pub fn opens_for(&self, value: &str, source: &str, subject: &str, now: Timestamp) -> Option<DeviceId> {
        // Other lengths are not ours: nothing a browser sends makes us decode more.
        if value.len() != (SEALED_BYTES * 4).div_ceil(3) {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (&version, rest) = sealed.split_first()?;
        let (nonce, boxed) = rest.split_first_chunk::<NONCE_LEN>()?;
        if version != VERSION {
            return None;
        }
        let plain = self.keys.iter().find_map(|key| {
            let mut copy = boxed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            key.open_in_place(nonce, Aad::from([version]), &mut copy).ok().map(|plain| plain.to_vec())
        })?;
        let (device, rest) = plain.split_first_chunk::<8>()?;
        let (sealed_at, held) = rest.split_first_chunk::<8>()?;
        let sealed_at = Timestamp::from_millis(u64::from_be_bytes(*sealed_at));
        let theirs = verify_slices_are_equal(held, &digest(source, subject)).is_ok();
        (theirs && now.since(sealed_at) < REMEMBERED_FOR).then_some(DeviceId(*device))
    }
}

/// Why no cookie could be sealed. The sign-in goes on without.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The configuration has no `keys`.
    #[error("there is no key to seal with; `keys` names none")]
    NoKey,
    /// No random bytes.
    #[error("the system's random generator failed: {0}")]
    Random(#[from] getrandom::Error),
}

/// Length first, so that no two pairs read the same.
fn digest(source: &str, subject: &str) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(&(source.len() as u64).to_be_bytes());
    context.update(source.as_bytes());
    context.update(subject.as_bytes());
    context.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    fn cookies(keys: &[u8]) -> DeviceCookies {
        DeviceCookies::new(&keys.iter().map(|&key| Secret::new([key; 32])).collect::<Vec<_>>())
    }

    fn sealed(keys: &[u8]) -> String {
        cookies(keys).seal("local", "alice", NOON).expect("it seals").expose().clone()
    }

    #[test]
    fn a_device_is_known_for_its_own_subject_and_a_while() {
        let value = sealed(&[1]);
        let end = NOON.plus(REMEMBERED_FOR);
        for (source, subject, now, known) in [
            ("local", "alice", NOON, true),
            ("local", "alice", end.minus(Duration::from_millis(1)), true),
            ("local", "alice", end, false),
            ("local", "bob", NOON, false),
            ("other", "alice", NOON, false),
            ("loca", "lalice", NOON, false),
        ] {
            let opened = cookies(&[1]).opens_for(&value, source, subject, now);
            assert_eq!(opened.is_some(), known, "{source} {subject} {now}");
        }
    }

    #[test]
    fn the_newest_key_seals_and_all_open() {
        let old = sealed(&[1]);
        assert!(cookies(&[2, 1]).opens_for(&old, "local", "alice", NOON).is_some());
        assert!(cookies(&[2]).opens_for(&old, "local", "alice", NOON).is_none(), "its key is gone");
        let new = sealed(&[2, 1]);
        assert!(cookies(&[2]).opens_for(&new, "local", "alice", NOON).is_some());
    }

    #[test]
    fn two_browsers_are_told_apart() {
        let [a, b] = [sealed(&[1]), sealed(&[1])]
            .map(|value| cookies(&[1]).opens_for(&value, "local", "alice", NOON).expect("it opens"));
        assert_ne!(a, b);
    }

    #[test]
    fn without_a_key_nothing_is_sealed_or_opened() {
        assert!(matches!(cookies(&[]).seal("local", "alice", NOON), Err(SealError::NoKey)));
        assert!(cookies(&[]).opens_for(&sealed(&[1]), "local", "alice", NOON).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_cookie_does_not_open(at in 0..103_usize, to in "[A-Za-z0-9_-]") {
            let value = sealed(&[1]);
            let at = at % value.len();
            let mut changed = value.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(cookies(&[1]).opens_for(&changed, "local", "alice", NOON).is_some(), changed == value);
        }

        #[test]
        fn junk_does_not_open(junk in ".{0,200}") {
            prop_assert!(cookies(&[1]).opens_for(&junk, "local", "alice", NOON).is_none());
        }
    }
}
