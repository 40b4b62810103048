//! Proof that a form was sent from the page that we gave to this very browser.
//!
//! A double submit: the browser holds a random value in a `__Host-` cookie, sealed with a tag so that only we can make
//! one; each form carries a token, an HMAC-SHA256 (RFC 2104) over its purpose, the instant and that value. Another site
//! can neither read the cookie nor write one, so it cannot make the pair. A token is good for [`VALID_FOR`] and for one
//! purpose; what acts on a session puts the session's id into the purpose.

use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;

/// The label under which [`FormTokens::new`] wants its keys derived.
pub const KEY_LABEL: &str = "form token";
/// How long a page may stay open before its form is sent.
pub const VALID_FOR: Duration = Duration::from_hours(2);

const RANDOM_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// What a browser's form cookie holds. [`FormTokens`] alone makes one, new or from a cookie.
#[derive(Clone)]
pub struct BrowserSecret(Secret<[u8; RANDOM_BYTES]>);

/// Issues and checks form tokens.
pub struct FormTokens {
    keys: Vec<hmac::Key>,
}

impl FormTokens {
    /// Takes the keys derived under [`KEY_LABEL`], newest first; there must be one.
    pub fn new(keys: &[Secret<[u8; 32]>]) -> Self {
        Self { keys: keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose())).collect() }
    }

    /// A new value for a browser that has none, and the cookie to set.
    ///
    /// # Errors
    ///
    /// The system's random generator failed.
    pub fn new_browser(&self) -> Result<(BrowserSecret, Secret<String>), getrandom::Error> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let mut cookie = random.to_vec();
        cookie.extend_from_slice(&self.tag(&[b"browser", &random]));
        Ok((BrowserSecret(Secret::new(random)), Secret::new(URL_SAFE_NO_PAD.encode(cookie))))
    }

    /// Reads the cookie that [`Self::new_browser`] gave.
    pub fn browser(&self, cookie_value: &[u8]) -> Option<BrowserSecret> {
        let (random, tag) = Self::split::<RANDOM_BYTES>(cookie_value)?;
        self.verifies(&[b"browser", &random], &tag).then(|| BrowserSecret(Secret::new(random)))
    }

    /// The hidden field of a form.
    pub fn issue(&self, browser: &BrowserSecret, purpose: &str, now: Timestamp) -> String {
        let issued_at = now.as_millis().to_be_bytes();
        let mut token = issued_at.to_vec();
        token.extend_from_slice(&self.tag(&[b"form", &issued_at, browser.0.expose(), purpose.as_bytes()]));
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether `token` was issued to this browser, for this purpose, less than [`VALID_FOR`] ago.
    pub fn check(&self, token: &str, browser: &BrowserSecret, purpose: &str, now: Timestamp) -> bool {
        self.check_within(VALID_FOR, token, browser, purpose, now)
    }

    /// The same for a token that counts for a shorter while.
    pub fn check_within(
        &self,
        valid_for: Duration,
        token: &str,
        browser: &BrowserSecret,
        purpose: &str,
        now: Timestamp,
    ) -> bool {
        let Some((issued_at, tag)) = Self::split::<8>(token.as_bytes()) else { return false };
        let age = now.since(Timestamp::from_millis(u64::from_be_bytes(issued_at)));
        self.verifies(&[b"form", &issued_at, browser.0.expose(), purpose.as_bytes()], &tag) && age < valid_for
    }

    /// Tags with the newest key. Without any the tag is empty, and nothing verifies.
    fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        self.keys.first().map(|key| sign(key, parts).as_ref().to_vec()).unwrap_or_default()
    }

    fn verifies(&self, parts: &[&[u8]], tag: &[u8; TAG_BYTES]) -> bool {
        self.keys.iter().any(|key| {
            aws_lc_rs::constant_time::verify_slices_are_equal(sign(key, parts).as_ref(), tag).is_ok()
        })
    }

    /// A value of `N` bytes and its tag. Other lengths are not ours, and not decoded.
    fn split<const N: usize>(encoded: &[u8]) -> Option<([u8; N], [u8; TAG_BYTES])> {
        if encoded.len() != ((N + TAG_BYTES) * 4).div_ceil(3) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (value, tag) = bytes.split_first_chunk::<N>()?;
        Some((*value, tag.try_into().ok()?))
    }
}

/// Every part is preceded by its length: no two lists of parts read the same.
fn sign(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    fn forms(keys: &[u8]) -> FormTokens {
        FormTokens::new(&keys.iter().map(|&key| Secret::new([key; 32])).collect::<Vec<_>>())
    }

    #[test]
    fn a_token_is_good_for_one_browser_one_purpose_and_two_hours() {
        let forms = forms(&[1]);
        let (browser, _) = forms.new_browser().expect("random bytes");
        let (other, _) = forms.new_browser().expect("random bytes");
        let token = forms.issue(&browser, "login", NOON);
        let end = NOON.plus(VALID_FOR);
        for (browser, purpose, now, good) in [
            (&browser, "login", NOON, true),
            (&browser, "login", end.minus(Duration::from_millis(1)), true),
            (&browser, "login", end, false),
            (&browser, "logout", NOON, false),
            (&browser, "", NOON, false),
            (&other, "login", NOON, false),
        ] {
            assert_eq!(forms.check(&token, browser, purpose, now), good, "{purpose} {now}");
        }
    }

    #[test]
    fn a_token_may_count_for_a_shorter_while() {
        let forms = forms(&[1]);
        let (browser, _) = forms.new_browser().expect("random bytes");
        let token = forms.issue(&browser, "proof", NOON);
        let short = Duration::from_mins(5);
        for (now, good) in [
            (NOON, true),
            (NOON.plus(short).minus(Duration::from_millis(1)), true),
            (NOON.plus(short), false),
        ] {
            assert_eq!(forms.check_within(short, &token, &browser, "proof", now), good, "{now}");
        }
    }

    #[test]
    fn the_cookie_gives_the_browser_back() {
        let forms = forms(&[1]);
        let (browser, cookie) = forms.new_browser().expect("random bytes");
        let token = forms.issue(&browser, "login", NOON);
        let read = forms.browser(cookie.expose().as_bytes()).expect("our own cookie");
        assert!(forms.check(&token, &read, "login", NOON));
    }

    #[test]
    fn a_cookie_that_we_did_not_seal_is_no_browser() {
        let ours = forms(&[1]);
        let (_, theirs) = forms(&[9]).new_browser().expect("random bytes");
        assert!(ours.browser(theirs.expose().as_bytes()).is_none());
        assert!(ours.browser(URL_SAFE_NO_PAD.encode([0; 48]).as_bytes()).is_none());
        assert!(ours.browser(b"").is_none());
    }

    #[test]
    fn pages_shown_before_a_key_was_added_stay_good() {
        let (browser, cookie) = forms(&[1]).new_browser().expect("random bytes");
        let token = forms(&[1]).issue(&browser, "login", NOON);
        let rotated = forms(&[2, 1]);
        let browser = rotated.browser(cookie.expose().as_bytes()).expect("the old key reads");
        assert!(rotated.check(&token, &browser, "login", NOON));
        assert!(!forms(&[2]).check(&token, &browser, "login", NOON), "its key is gone");
    }

    #[test]
    fn without_a_key_nothing_passes() {
        let none = forms(&[]);
        let (browser, cookie) = none.new_browser().expect("random bytes");
        assert!(none.browser(cookie.expose().as_bytes()).is_none());
        assert!(!none.check(&none.issue(&browser, "login", NOON), &browser, "login", NOON));
    }

    proptest! {
        #[test]
        fn a_changed_token_does_not_pass(at in 0..54_usize, to in "[A-Za-z0-9_-]") {
            let forms = forms(&[1]);
            let (browser, _) = forms.new_browser().expect("random bytes");
            let token = forms.issue(&browser, "login", NOON);
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(forms.check(&changed, &browser, "login", NOON), changed == token);
        }
    }
}
