//! The part of a path that visitors see and an application does not, or the other way round.
//!
//! The route is decided on the canonical target, and the target that is sent is computed from that one string alone: so many
//! whole segments are taken off at the front, and a path of the file's is put before the rest. What comes out is in normal form
//! again, for segments are never taken apart. Segments are counted, not compared: the route has matched them, in whatever
//! letters and with whatever `;parameters` they came, and these go with them.
//!
//! Answers are mapped back where they name the application's space on the same host: the fields that redirect (Location,
//! Content-Location, Refresh) and the path of cookies. Nothing in a body is, nor Link, nor a reference relative to the page.

use crate::domain::target::{Host, TARGET_BYTES_MAX, Target, TargetRejection};

/// What is taken off and what is put before the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// As visitors see it: empty, or a path in normal form without a slash at its end.
    strip: String,
    /// How many segments that is.
    segments: usize,
    /// The same for the application's side.
    add: String,
}

impl Prefix {
    /// Takes two paths in normal form; `/` stands for nothing.
    pub fn new(strip: &str, add: &str) -> Self {
        let bare = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
        let strip = bare(strip);
        Self { segments: segments(&strip), strip, add: bare(add) }
    }

    /// What visitors see before the application's own paths; empty if nothing is taken off.
    pub fn stripped(&self) -> &str {
        &self.strip
    }

    /// The target that the application gets.
    ///
    /// # Errors
    ///
    /// [`TargetRejection::TooLong`]: with what was put before it, it is longer than a target may be.
    pub fn forward(&self, target: &Target<'_>) -> Result<String, TargetRejection> {
        let rest = behind(target.path(), self.segments);
        let query = target.query();
        let length = self.add.len() + rest.len() + query.map_or(0, |query| query.len() + 1);
        if length > TARGET_BYTES_MAX {
            return Err(TargetRejection::TooLong);
        }
        let mut sent = String::with_capacity(length + 1);
        sent.push_str(&self.add);
        sent.push_str(rest);
        if sent.is_empty() {
            sent.push('/');
        }
        if let Some(query) = query {
            sent.push('?');
            sent.push_str(query);
        }
        Ok(sent)
    }

    /// The path that visitors would ask for to have `sent`, a path in normal form, sent; nothing where none leads there.
    pub fn asked(&self, sent: &str) -> Option<String> {
        let rest = sent.strip_prefix(&self.add).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let asked = format!("{}{rest}", self.strip);
        Some(if asked.is_empty() { "/".to_owned() } else { asked })
    }

    /// A URI reference in an answer, as visitors have to be told it; nothing where it stays as it is.
    ///
    /// `visitor` is the host that the visitor asked for, `sent` the one that the application was told. An absolute reference to
    /// the former keeps its scheme and host, one to the latter loses them: visitors may not know that name.
    pub fn reference(&self, value: &str, visitor: &Host<'_>, sent: &Host<'_>) -> Option<String> {
        let (scheme, rest) = match value.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
            _ => match value.strip_prefix("//") {
                Some(rest) => ("", rest),
                None => return self.visible(value),
            },
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let named = Host::parse(authority.as_bytes()).ok()?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let seen = self.visible(&path)?;
        let is_same = |host: &Host<'_>| {
            let usual = |port: &u16| (scheme == "http" && *port == 80) || (scheme == "https" && *port == 443);
            let port = |host: &Host<'_>| host.port().filter(|port| !usual(port));
            host.name() == named.name() && port(host) == port(&named)
        };
        if is_same(visitor) {
            let before = value.len() - rest.len();
            Some(format!("{}{authority}{seen}", &value[..before]))
        } else {
            is_same(sent).then_some(seen)
        }
    }

    /// A `Refresh` value (`5; url=/x`), as visitors have to be told it; nothing where it stays as it is.
    pub fn refresh(&self, value: &str, visitor: &Host<'_>, sent: &Host<'_>) -> Option<String> {
        let at = value.to_ascii_lowercase().find("url=")? + "url=".len();
        let reference = value[at..].trim_matches(['"', '\'', ' ']);
        let seen = self.reference(reference, visitor, sent)?;
        Some(value[..at].to_owned() + &seen)
    }

    /// A `Set-Cookie` value whose `Path` is what visitors see; nothing where it stays as it is.
    ///
    /// Without `Path` the browser takes the path that it asked for. A `__Host-` cookie has to stay at `/`.
    pub fn set_cookie(&self, value: &str) -> Option<String> {
        if value.trim_start().get(.."__Host-".len()).is_some_and(|name| name.eq_ignore_ascii_case("__host-"))
        {
            return None;
        }
        let mut changed = false;
        let parts = value.split(';').enumerate().map(|(number, part)| {
            let path = part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("path"));
            let Some((name, path)) = path.filter(|_| number > 0) else { return part.to_owned() };
            let Some(seen) = self.visible(path.trim()) else { return part.to_owned() };
            changed = true;
            // `/app/` would not be sent to `/app` (RFC 6265 §5.1.4).
            let bare = seen.strip_suffix('/').filter(|bare| !bare.is_empty()).unwrap_or(&seen);
            format!("{name}={bare}")
        });
        let parts: Vec<String> = parts.collect();
        changed.then(|| parts.join(";"))
    }

    /// A path of the application's, with what follows it, as visitors see it.
    ///
    /// Nothing where it lies outside the application's space, where it lies in the visitors' already (the application has heeded
    /// X-Forwarded-Prefix), and where what came out would be another host to a browser.
    fn visible(&self, path: &str) -> Option<String> {
        let is_below = |space: &str| {
            path.strip_prefix(space).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
        };
        if !path.starts_with('/') || path.starts_with("//") {
            return None;
        }
        let rest = if self.add.is_empty() {
            if !self.strip.is_empty() && is_below(&self.strip).is_some() {
                return None;
            }
            path
        } else {
            is_below(&self.add)?
        };
        let root = if self.strip.is_empty() && !rest.starts_with('/') { "/" } else { &*self.strip };
        let seen = format!("{root}{rest}");
        // Browsers take tabs and the like out before they read the rest.
        let elsewhere =
            seen.starts_with("//") || seen.starts_with("/\\") || seen.bytes().any(|byte| byte < b'!');
        (!elsewhere && seen != path).then_some(seen)
    }
}

/// The segments of a path without a slash at its end.
pub(super) fn segments(path: &str) -> usize {
    path.bytes().filter(|&byte| byte == b'/').count()
}

/// What follows the first `count` segments of a path in normal form: empty, or from a slash on.
pub(super) fn behind(path: &str, count: usize) -> &str {
    let start = path.bytes().enumerate().filter(|&(_, byte)| byte == b'/').nth(count);
    start.map_or("", |(start, _)| &path[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Host<'_> {
        Host::parse(text.as_bytes()).expect("a host")
    }

    #[test]
    fn whole_segments_are_taken_off_and_the_rest_stays() {
        for (strip, add, asked, sent) in [
            ("/app", "/", "/app", "/"),
            ("/app", "/", "/app/", "/"),
            ("/app", "/", "/app/x/?q=/app", "/x/?q=/app"),
            ("/app", "/", "/app;v=1/x;y", "/x;y"),
            ("/app", "/", "/APP/x", "/x"),
            ("/app", "/", "/app?q", "/?q"),
            ("/app", "/base", "/app", "/base"),
            ("/app", "/base", "/app/", "/base/"),
            ("/app", "/base/v2", "/app/x", "/base/v2/x"),
            ("/a/b", "/c", "/a/b/d%20e", "/c/d%20e"),
            ("/", "/base", "/", "/base/"),
            ("/", "/base", "/x?", "/base/x?"),
        ] {
            let target = Target::parse(asked.as_bytes()).expect("a target");
            let prefix = Prefix::new(strip, add);
            assert_eq!(prefix.forward(&target).as_deref(), Ok(sent), "{strip} {add} {asked}");
        }
    }

    #[test]
    fn what_would_be_too_long_is_refused() {
        let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX - 1));
        let target = Target::parse(long.as_bytes()).expect("as long as may be");
        assert_eq!(Prefix::new("/", "/b").forward(&target), Err(TargetRejection::TooLong));
    }

    #[test]
    fn a_reference_into_the_applications_space_is_told_as_visitors_see_it() {
        let (visitor, sent) = (host("wiki.example.com"), host("wiki.internal:3000"));
        for (strip, add, told, seen) in [
            ("/app", "/", "/login", Some("/app/login")),
            ("/app", "/", "/", Some("/app/")),
            ("/app", "/", "/?a=/b#c", Some("/app/?a=/b#c")),
            ("/app", "/", "/app/login", None),
            ("/app", "/", "/app?x", None),
            ("/app", "/", "/apple", Some("/app/apple")),
            ("/app", "/", "login", None),
            ("/app", "/", "../login", None),
            ("/app", "/", "?page=2", None),
            ("/app", "/", "", None),
            ("/app", "/", "http://wiki.example.com/x", Some("http://wiki.example.com/app/x")),
            ("/app", "/", "HTTPS://WIKI.example.com:443/x", Some("HTTPS://WIKI.example.com:443/app/x")),
            ("/app", "/", "https://wiki.example.com:8443/x", None),
            ("/app", "/", "//wiki.example.com/x", Some("//wiki.example.com/app/x")),
            ("/app", "/", "http://wiki.internal:3000/x", Some("/app/x")),
            ("/app", "/", "http://wiki.internal:3000", Some("/app/")),
            ("/app", "/", "http://wiki.internal/x", None),
            ("/app", "/", "https://elsewhere.example/x", None),
            ("/app", "/", "https://wiki.example.com@evil.example/x", None),
            ("/app", "/", "//evil.example/x", None),
            ("/app", "/", "javascript://wiki.example.com/x", None),
            ("/app", "/base", "/base/x", Some("/app/x")),
            ("/app", "/base", "/base", Some("/app")),
            ("/app", "/base", "/basement", None),
            ("/app", "/base", "/other", None),
            ("/app", "/app/v2", "/app/v2/x", Some("/app/x")),
            ("/app", "/app/v2", "/app/x", None),
            ("/", "/base", "/base/x", Some("/x")),
            ("/", "/base", "/base?x", Some("/?x")),
            ("/", "/base", "/base", Some("/")),
            ("/", "/base", "/base//evil.example", None),
            ("/", "/base", "/base/\t/evil.example", None),
            ("/", "/base", "/base/\\evil.example", None),
            ("/", "/base", "http://wiki.internal:3000/base//evil.example", None),
        ] {
            let prefix = Prefix::new(strip, add);
            assert_eq!(prefix.reference(told, &visitor, &sent).as_deref(), seen, "{strip} {add} {told}");
        }
    }

    #[test]
    fn refresh_and_cookies_are_told_alike() {
        let prefix = Prefix::new("/app", "/base");
        let (visitor, sent) = (host("wiki.example.com"), host("wiki.example.com"));
        for (told, seen) in [
            ("5; url=/base/x", Some("5; url=/app/x")),
            ("0;URL='/base/x'", Some("0;URL=/app/x")),
            ("5", None),
            ("5; url=https://elsewhere.example/base", None),
        ] {
            assert_eq!(prefix.refresh(told, &visitor, &sent).as_deref(), seen, "{told}");
        }
        for (told, seen) in [
            ("a=b; Path=/base; HttpOnly", Some("a=b; Path=/app; HttpOnly")),
            ("a=b;path=/base/", Some("a=b;path=/app")),
            ("a=b; Path=/base/x; Path=/base", Some("a=b; Path=/app/x; Path=/app")),
            ("a=b; Path=/", None),
            ("path=/base; Secure", None),
            ("a=b", None),
            ("__Host-a=b; Path=/base", None),
        ] {
            assert_eq!(prefix.set_cookie(told).as_deref(), seen, "{told}");
        }
        let whole = Prefix::new("/app", "/");
        assert_eq!(whole.set_cookie("a=b; Path=/").as_deref(), Some("a=b; Path=/app"));
        assert_eq!(whole.set_cookie("__Host-a=b; Path=/; Secure"), None, "it would not be taken elsewhere");
    }

    /// Paths of the file's: in normal form, without parameters.
    fn path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "app", "b.c", "%40x", "@x", "%20", "~u", "..."]);
        prop::collection::vec(segment, 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        #[test]
        fn what_is_sent_is_canonical_whatever_came(
            strip in path(),
            add in path(),
            asked in "/[ab.;%2Ff5c@~?/ ]{0,24}",
        ) {
            prop_assume!(Target::parse(asked.as_bytes()).is_ok());
            let asked = Target::parse(asked.as_bytes()).expect("it was just read");
            let prefix = Prefix::new(&strip, &add);
            let sent = prefix.forward(&asked).expect("it is short");
            let read = Target::parse(sent.as_bytes());
            prop_assert!(read.is_ok(), "{sent}: {read:?}");
            let read = read.expect("it was just looked at");
            prop_assert!(read.is_as_sent() && read.to_string() == sent, "{sent}");
            prop_assert!(!read.path().contains("//"), "{sent}");
            prop_assert_eq!(read.query(), asked.query());
        }

        #[test]
        fn what_is_sent_comes_back_as_what_was_asked(
            strip in path(),
            add in path(),
            rest in "(/[a-c]{1,3}){0,3}/?",
        ) {
            let prefix = Prefix::new(&strip, &add);
            let asked = format!("{}{rest}", strip.strip_suffix('/').unwrap_or(&strip));
            prop_assume!(!asked.is_empty());
            let target = Target::parse(asked.as_bytes()).expect("a path in normal form");
            let sent = prefix.forward(&target).expect("it is short");
            let (visitor, other) = (host("a.example"), host("b.example"));
            let again = prefix.asked(&sent).expect("something was asked for it");
            let again = Target::parse(again.as_bytes()).expect("a path in normal form");
            prop_assert_eq!(prefix.forward(&again), Ok(sent.clone()));
            // Without a path of its own an application in the visitors' space is taken for one that knows it.
            let knows = prefix.add.is_empty() && Prefix::new("/", &strip).visible(&sent).is_some();
            if !knows {
                let seen = prefix.reference(&sent, &visitor, &other).unwrap_or(sent.clone());
                let bare = |path: &str| path.trim_end_matches('/').to_owned();
                prop_assert_eq!(bare(&seen), bare(&asked), "by {}", sent);
            }
        }

        #[test]
        fn no_reference_leads_to_another_host_than_before(
            strip in path(),
            add in path(),
            told in "[/\\\\a.b:@?#-]{0,12}",
        ) {
            let prefix = Prefix::new(&strip, &add);
            let told = format!("{add}{told}");
            if let Some(seen) = prefix.reference(&told, &host("a.example"), &host("b.example")) {
                let is_path = |text: &str| {
                    text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\")
                };
                prop_assert!(is_path(&seen) || seen.contains("a.example"), "{} became {}", told, seen);
            }
        }
    }
}
