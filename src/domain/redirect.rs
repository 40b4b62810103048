//! Where a route sends visitors instead of asking an application.
//!
//! Scheme, host and the front of the path are the file's. What a request may add is what follows the route's own path, in normal
//! form, and its query: so it leads nowhere that the file does not name.

use crate::domain::prefix::{behind, segments};
use crate::domain::target::Target;
use http::StatusCode;

/// An answer that leads elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `https://host`, or empty for the host that was asked for.
    pub origin: String,
    /// A path in normal form.
    pub path: String,
    /// A query of the file's own.
    pub query: Option<String>,
    /// 301, 302, 303, 307 or 308 (RFC 9110 §15.4).
    pub status: StatusCode,
    /// The path of the route, whose segments what is kept comes behind; absent: nothing of the path is kept.
    pub keep_path: Option<String>,
    /// The request's query is kept, byte for byte.
    pub keep_query: bool,
}

impl Redirect {
    /// The value of Location for a request that took the route.
    pub fn location(&self, target: &Target<'_>) -> String {
        let kept = self
            .keep_path
            .as_deref()
            .map_or("", |route| behind(target.path(), segments(route.strip_suffix('/').unwrap_or(route))));
        let path =
            if kept.is_empty() { &*self.path } else { self.path.strip_suffix('/').unwrap_or(&self.path) };
        let query = if self.keep_query { target.query() } else { self.query.as_deref() };
        let mut location = format!("{}{path}{kept}", self.origin);
        if let Some(query) = query {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redirect(origin: &str, path: &str, keep_path: Option<&str>) -> Redirect {
        Redirect {
            origin: origin.to_owned(),
            path: path.to_owned(),
            query: None,
            status: StatusCode::FOUND,
            keep_path: keep_path.map(str::to_owned),
            keep_query: false,
        }
    }

    fn of(redirect: &Redirect, asked: &str) -> String {
        redirect.location(&Target::parse(asked.as_bytes()).expect("a target"))
    }

    #[test]
    fn what_is_kept_comes_behind_what_the_file_says() {
        const NEW: &str = "https://new.example.com";
        for (path, keep_path, asked, location) in [
            ("/", None, "/old/a?q", "https://new.example.com/"),
            ("/wiki", Some("/old"), "/old", "https://new.example.com/wiki"),
            ("/wiki", Some("/old"), "/old/", "https://new.example.com/wiki/"),
            ("/wiki/", Some("/old"), "/old", "https://new.example.com/wiki/"),
            ("/wiki/", Some("/old"), "/OLD;x/a/b", "https://new.example.com/wiki/a/b"),
            ("/", Some("/"), "/", "https://new.example.com/"),
            ("/", Some("/"), "/a//?q".trim_end_matches("/?q"), "https://new.example.com/a/"),
        ] {
            assert_eq!(of(&redirect(NEW, path, keep_path), asked), location, "{path} {asked}");
        }
        let here = redirect("", "/", Some("/old"));
        assert_eq!(of(&here, "/old/a"), "/a");
        let kept = Redirect { keep_query: true, ..redirect(NEW, "/x", None) };
        assert_eq!(
            of(&kept, "/old?a=https://evil.example"),
            "https://new.example.com/x?a=https://evil.example"
        );
        assert_eq!(of(&kept, "/old"), "https://new.example.com/x");
        let own = Redirect { query: Some("from=old".to_owned()), ..redirect(NEW, "/x", None) };
        assert_eq!(of(&own, "/old?a"), "https://new.example.com/x?from=old");
    }

    proptest! {
        #[test]
        fn a_request_never_chooses_the_host(
            asked in "/[a-c./@:;%2F5C?&=~\\\\-]{0,24}",
            path in prop::sample::select(vec!["/", "/x", "/x/y"]),
            route in prop::sample::select(vec!["/", "/a", "/a/b"]),
            keep_query: bool,
        ) {
            prop_assume!(Target::parse(asked.as_bytes()).is_ok());
            let target = Target::parse(asked.as_bytes()).expect("it was just read");
            let here = Redirect { keep_query, ..redirect("", path, Some(route)) };
            let location = here.location(&target);
            prop_assert!(Target::parse(location.as_bytes()).is_ok_and(|read| read.is_as_sent()), "{}", location);
            let there = Redirect { origin: "https://new.example.com".to_owned(), ..here };
            prop_assert_eq!(there.location(&target), format!("https://new.example.com{location}"));
        }
    }
}
