//! Nonces for proofs (RFC 9449 §9): an instant and its keyed tag. Nothing is kept of them, and only this process makes them.

use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip128::SipHasher24;
use std::time::Duration;

/// How long a nonce may be used.
const NONCE_FOR: Duration = Duration::from_mins(5);
/// When a client that uses one is given the next.
const NEXT_AFTER: Duration = Duration::from_mins(2);
const INSTANT_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

pub(super) struct Nonces(Secret<[u8; 16]>);

impl Nonces {
    /// Under a key that nobody else will ever have.
    pub(super) fn new() -> Self {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self(Secret::new(key))
    }

    /// 32 characters of base64url. All of one second are the same.
    pub(super) fn issue(&self, now: Timestamp) -> String {
        let mut nonce = [0; INSTANT_BYTES + TAG_BYTES];
        let (instant, tag) = nonce.split_at_mut(INSTANT_BYTES);
        instant.copy_from_slice(&now.as_secs().to_be_bytes());
        tag.copy_from_slice(&self.tag(instant));
        URL_SAFE_NO_PAD.encode(nonce)
    }

    /// Whether it was issued here, not too long ago.
    pub(super) fn is_good(&self, nonce: &str, now: Timestamp) -> bool {
        let issued_at = self.issued_at(nonce);
        issued_at.is_some_and(|issued_at| (issued_at..issued_at.plus(NONCE_FOR)).contains(&now))
    }

    /// Whether it is time to use another.
    pub(super) fn is_ageing(&self, nonce: &str, now: Timestamp) -> bool {
        self.issued_at(nonce).is_none_or(|issued_at| now >= issued_at.plus(NEXT_AFTER))
    }

    /// When it was issued, if it was issued here.
    fn issued_at(&self, nonce: &str) -> Option<Timestamp> {
        let mut bytes = [0; INSTANT_BYTES + TAG_BYTES + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes).ok()?;
        let (instant, tag) = bytes[..length].split_first_chunk::<INSTANT_BYTES>()?;
        verify_slices_are_equal(tag, &self.tag(instant)).ok()?;
        Some(Timestamp::from_secs(u64::from_be_bytes(*instant)))
    }

    fn tag(&self, instant: &[u8]) -> [u8; TAG_BYTES] {
        SipHasher24::new_with_key(self.0.expose()).hash(instant).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_counts_for_five_minutes_where_it_was_issued() {
        let (ours, other) = (Nonces::new(), Nonces::new());
        let noon = Timestamp::from_secs(1_795_348_800);
        let nonce = ours.issue(noon);
        assert_eq!(nonce.len(), 32);
        for (after, good, ageing) in
            [(0, true, false), (119, true, false), (120, true, true), (299, true, true), (300, false, true)]
        {
            let now = noon.plus(Duration::from_secs(after));
            assert_eq!(ours.is_good(&nonce, now), good, "after {after} s");
            assert_eq!(ours.is_ageing(&nonce, now), ageing, "after {after} s");
        }
        assert!(!ours.is_good(&nonce, noon.minus(Duration::from_secs(1))));
        assert!(!other.is_good(&nonce, noon));
        for broken in
            ["", "AAAA", &nonce[..31], &format!("{nonce}A"), &nonce.replace(&nonce[30..], "__"), "💥"]
        {
            assert!(!ours.is_good(broken, noon), "{broken}");
        }
    }
}
