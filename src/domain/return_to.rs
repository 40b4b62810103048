//! Where a sign-in or sign-out may send the browser: a path on this host, never elsewhere.
//!
//! Allowed by grammar, not by a list of bad spellings: the string must be a target that the gateway itself would take. Such a
//! one starts with exactly one `/`, is visible ASCII, and has no backslash in its path, so a browser (WHATWG URL Standard)
//! reads it as a path as well.

use crate::domain::target::Target;

/// Longest path in bytes, query included.
pub const RETURN_TO_BYTES_MAX: usize = 2 * 1024;

/// A path on this host, with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Takes what a visitor brought. Anything but a path on this host becomes `/`; so do the pages that sign in and out,
    /// because returning to them would go round in circles.
    pub fn parse(raw: &str) -> Self {
        Self::accept(raw).unwrap_or_else(|| Self("/".to_owned()))
    }

    fn accept(raw: &str) -> Option<Self> {
        // A backslash is refused in the query too, where it would do no harm: readers of URLs differ about it everywhere.
        if raw.len() > RETURN_TO_BYTES_MAX || raw.contains('\\') {
            return None;
        }
        let target = Target::parse(raw.as_bytes()).ok()?;
        let mut segments = target.segments();
        let goes_in_circles =
            segments.next() == Some("_vestibule") && matches!(segments.next(), Some("login" | "logout"));
        if goes_in_circles { None } else { Some(Self(target.to_string())) }
    }

    /// The path in normal form, with its query: for a Location field or a form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_on_this_host_is_kept() {
        for kept in [
            "/",
            "/a",
            "/a/b?c=d&e=%2F%2F",
            "/?next=https://x.example//",
            "/_vestibule/account",
            "/_vestibule",
            "/%20",
            "/@evil.example",
            "/a:b",
            "/:80",
            "/a;b",
        ] {
            assert_eq!(ReturnTo::parse(kept).as_str(), kept);
        }
        assert_eq!(ReturnTo::parse("/%61^").as_str(), "/a%5E");
    }

    #[test]
    fn anything_else_becomes_the_root() {
        let long = format!("/{}", "a".repeat(RETURN_TO_BYTES_MAX));
        for lost in [
            "",
            "a",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "https://evil.example",
            "https:evil.example",
            "javascript:alert(1)",
            "?a",
            "#a",
            "/a#b",
            "/a\\b",
            "/?\\",
            "/a\r\nSet-Cookie: x",
            "/./evil.example",
            "/..//evil.example",
            "/.//evil.example",
            "/%2e//evil.example",
            "/%2F/evil.example",
            "/%5Cevil.example",
            "/é",
            "/\u{2028}",
            "/\0",
            "/a//b",
            "/%09/evil.example",
            "/_vestibule/login",
            "/_vestibule/login?return_to=/",
            "/_vestibule/logout",
            "/_vestibule/logout/",
            "/_vestibule/login/staff",
            "/%5Fvestibule/login",
            "/_vestibule/login;x",
            &long,
        ] {
            assert_eq!(ReturnTo::parse(lost).as_str(), "/", "{lost}");
        }
    }

    /// The host that a browser would go to: the steps of the WHATWG URL Standard that concern a relative reference
    /// on an https page, reduced to what chooses the host. `None`: the page's own.
    fn host_as_browsers_read(reference: &str) -> Option<String> {
        let trimmed = reference.trim_matches(|c: char| c <= ' ');
        let text: String = trimmed.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
        let scheme_end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'));
        if scheme_end.is_some_and(|end| end > 0 && text[end..].starts_with(':')) {
            return Some(text);
        }
        let slashes = text.chars().take_while(|c| matches!(c, '/' | '\\')).count();
        (slashes >= 2).then(|| text.chars().skip(slashes).collect())
    }

    proptest! {
        #[test]
        fn no_input_leaves_the_site(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "/", "\\", "\t", "\n", "\r", " ", ".", "..", "%2f", "%5c", "%09", ":", "@", "evil.example", "http:", "?", "#",
                "\0", "\u{a0}", "é", "a", "%2e", ";",
            ]), 0..8),
        ) {
            let raw = pieces.concat();
            let back = ReturnTo::parse(&raw);
            prop_assert_eq!(host_as_browsers_read(back.as_str()), None);
            prop_assert!(back.as_str().starts_with('/') && back.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(ReturnTo::parse(back.as_str()), back);
        }

        #[test]
        fn no_string_panics_or_breaks_a_header(raw in ".*") {
            prop_assert!(http::HeaderValue::from_str(ReturnTo::parse(&raw).as_str()).is_ok());
        }
    }
}
