//! Sign-in by an upstream: whose answers count, and where.
//!
//! The upstream has the form and knows the people; what it says in its answer is believed only on the paths that the
//! file names. What an answer must look like is not decided here.

use crate::auth::{SignInSettings, UpstreamSignIn};
use crate::domain::route::RouteTable;
use crate::domain::target::Target;
use http::Method;

/// One way to sign in by the answers of an upstream.
pub struct UpstreamWay {
    settings: SignInSettings,
    asked: UpstreamSignIn,
    /// Number of the upstream, in file order.
    upstream: usize,
    paths: RouteTable,
}

impl UpstreamWay {
    /// The way that `settings` and its part `asked` describe; `upstream` is the number of the one it names, whose routes
    /// mind the case of paths unless `folds`.
    pub fn new(settings: SignInSettings, asked: UpstreamSignIn, upstream: usize, folds: bool) -> Self {
        let entries = asked.paths.iter().map(|path| (Vec::new(), path.clone(), folds, Vec::new())).collect();
        Self { settings, asked, upstream, paths: RouteTable::new(entries) }
    }

    /// Its name, fingerprint and source.
    pub fn settings(&self) -> &SignInSettings {
        &self.settings
    }

    /// Number of the upstream whose answers count.
    pub fn upstream(&self) -> usize {
        self.upstream
    }

    /// Where visitors are sent for its form.
    pub fn form_path(&self) -> &str {
        self.asked.form_path()
    }

    /// Whether the answers to requests for this path count. Paths are compared as those of routes are.
    pub fn takes(&self, target: &Target<'_>) -> bool {
        self.paths.find("", target, &Method::POST).is_ok()
    }

    /// Whether it may put somebody into this group.
    pub fn grants(&self, group: &str) -> bool {
        self.asked.groups.iter().any(|listed| listed == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::SignInKind;
    use crate::domain::access::EntryId;
    use crate::domain::route::PathPattern;

    fn way(paths: &[&str], folds: bool) -> UpstreamWay {
        let asked = UpstreamSignIn {
            upstream: "forum".into(),
            paths: paths.iter().map(|path| PathPattern::parse(path).expect("a good pattern")).collect(),
            groups: vec!["member".into()],
        };
        let kind = SignInKind::Upstream(asked.clone());
        let settings = SignInSettings { name: "forum".into(), id: EntryId(1), source: "forum".into(), kind };
        UpstreamWay::new(settings, asked, 0, folds)
    }

    #[test]
    fn answers_count_on_the_paths_of_the_file_alone() {
        let way = way(&["= /login", "/account/join"], false);
        for (path, expected) in [
            ("/login", true),
            ("/login?next=/x", true),
            ("/%6Cogin", true),
            ("/login/", false),
            ("/Login", false),
            ("/login/x", false),
            ("/account/join", true),
            ("/account/join/now", true),
            ("/account", false),
            ("/", false),
        ] {
            let target = Target::parse(path.as_bytes()).expect("a path");
            assert_eq!(way.takes(&target), expected, "{path}");
        }
        assert_eq!(way.form_path(), "/login");
        let second = self::way(&["/account", "= /account/join", "= /x"], false);
        assert_eq!(second.form_path(), "/account/join");
        assert!(way.grants("member") && !way.grants("admin") && !way.grants(""));
    }

    #[test]
    fn case_counts_as_it_does_for_the_routes_of_the_upstream() {
        let target = Target::parse(b"/LOGIN").expect("a path");
        assert!(way(&["= /login"], true).takes(&target));
    }
}
