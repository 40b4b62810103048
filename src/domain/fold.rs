//! Classes of header names that some application may read as one.
//!
//! CGI and its heirs turn every character of a name that is not a letter or digit into `_`, and case is lost as well:
//! `X-Auth-User`, `x_auth_user` and `X.Auth.User` reach such an application as one variable. A name counts as ours if it
//! equals one of ours after both are folded.

use http::HeaderName;

/// The name without its case and without anything but letters and digits. Two names that fold to the same string are
/// one name to some application.
pub fn fold(name: &str) -> String {
    folded(name).map(char::from).collect()
}

/// Whether `name` folds to `folded_name`. Allocates nothing.
pub fn folds_to(name: &HeaderName, folded_name: &str) -> bool {
    folded(name.as_str()).eq(folded_name.bytes())
}

fn folded(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase())
}

/// The names that only the gateway may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    folded: Box<[Box<[u8]>]>,
    /// A bit for each first letter, so that most names are passed after one look.
    first_letters: u64,
}

impl Guard {
    /// Guards these names and all that fold to one of them.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a HeaderName>) -> Self {
        let mut all: Vec<Box<[u8]>> = names.into_iter().map(|name| folded(name.as_str()).collect()).collect();
        all.sort_unstable();
        all.dedup();
        let first_letters = all.iter().fold(0, |bits, name| bits | bit(name.first().copied()));
        Self { folded: all.into_boxed_slice(), first_letters }
    }

    /// `name` folds to a guarded one. Allocates nothing.
    pub fn covers(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        // Nearly every name starts with a letter that is its own fold.
        let first = match name.as_bytes().first() {
            Some(letter @ b'a'..=b'z') => Some(*letter),
            _ => folded(name).next(),
        };
        self.first_letters & bit(first) != 0
            && self
                .folded
                .iter()
                .any(|ours| ours.first() == first.as_ref() && folded(name).eq(ours.iter().copied()))
    }
}

/// A bit for each letter and digit, and one for a name that has neither.
fn bit(first: Option<u8>) -> u64 {
    match first {
        Some(letter @ b'a'..=b'z') => 1 << (letter - b'a'),
        Some(digit) => 1 << (26 + (digit - b'0')),
        None => 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).expect("a header name")
    }

    #[test]
    fn every_spelling_of_a_guarded_name_is_covered() {
        let guard = Guard::new(&[name("X-Auth-User"), name("Remote-User"), name("9lives"), name("___")]);
        for covered in [
            "x-auth-user",
            "X_Auth.User",
            "xauthuser",
            "x--auth__user",
            "_x-auth-user",
            "X-Auth-User-",
            "X!AUTH~USER",
            "remote_user",
            "9-LIVES",
            "-",
            "~",
        ] {
            assert!(guard.covers(&name(covered)), "{covered}");
        }
        for other in
            ["x-auth-users", "x-auth-use", "auth-user", "x-auth", "user-agent", "remote", "9live", "8lives"]
        {
            assert!(!guard.covers(&name(other)), "{other}");
        }
        assert!(!Guard::default().covers(&name("x")));
    }

    #[test]
    fn folding_keeps_letters_and_digits() {
        assert_eq!(fold("X_Auth.User-2"), "xauthuser2");
        assert_eq!(fold("é-_"), "");
        assert!(
            folds_to(&name("_X-Auth.User2"), "xauthuser2") && !folds_to(&name("X-Auth-User"), "xauthuser2")
        );
    }

    proptest! {
        #[test]
        fn a_guard_covers_what_folds_alike_and_nothing_else(
            ours in "[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,12}",
            theirs in "[_.aAbB0-]{1,6}",
        ) {
            let guard = Guard::new(&[name(&ours), name("a-b")]);
            let expected = fold(&theirs) == fold(&ours) || fold(&theirs) == "ab";
            prop_assert_eq!(guard.covers(&name(&theirs)), expected);
            prop_assert!(guard.covers(&name(&ours)));
        }
    }
}
