//! Cookies: reading ours from a request, taking ours out before the upstream sees it, and writing `Set-Cookie`.
//!
//! Names are compared byte for byte and nothing is decoded: a reader that decodes or trims more than spaces and tabs takes a
//! foreign cookie for one with our prefix. Reading works on raw fields, because pingora leaves several Cookie fields
//! of one request apart. Syntax as in RFC 6265bis §4.

use crate::domain::head::is_token_byte;
use crate::domain::secret::Secret;
use ::cookie::{Cookie, Expiration, SameSite, time};
use http::HeaderValue;
use memchr::memchr;
use std::time::Duration;

/// Most different values of one name that are told apart.
const VALUES_MAX: usize = 8;

/// What a request's Cookie fields hold under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nothing.
    None,
    /// One value, once or several times.
    One(&'a [u8]),
    /// Different values, two to eight: somebody else may have planted one.
    Several(Vec<&'a [u8]>),
    /// More different values than any browser has reason to send.
    TooMany,
}

/// Collects the values under `name` from all Cookie fields of a request, as they stand there: quotes are part of a value.
///
/// Allocates only when values differ.
pub fn find<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Found<'a> {
    let mut found = Found::None;
    for value in fields.flat_map(crumbs).filter_map(|crumb| value_of(crumb, name)) {
        found = match found {
            Found::None => Found::One(value),
            Found::One(first) if first == value => Found::One(first),
            Found::One(first) => Found::Several(vec![first, value]),
            Found::Several(values) if values.contains(&value) => Found::Several(values),
            Found::Several(values) if values.len() == VALUES_MAX => return Found::TooMany,
            Found::Several(mut values) => {
                values.push(value);
                Found::Several(values)
            }
            Found::TooMany => return Found::TooMany,
        };
    }
    found
}

/// A Cookie field without the crumbs of these names; `None` if it holds none of them.
///
/// The other crumbs stay byte for byte, and so do the separators between them. An empty result means that nothing is left
/// and the field is to be dropped.
pub fn without(field: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let mut kept: Option<Vec<u8>> = None;
    let mut start = 0;
    for crumb in crumbs(field) {
        if names.iter().any(|name| value_of(crumb, name).is_some()) {
            kept.get_or_insert_with(|| {
                // Up to the separator before this crumb, nothing was ours.
                let mut before = Vec::with_capacity(field.len());
                before.extend_from_slice(&field[..start.max(1) - 1]);
                before
            });
        } else if let Some(kept) = &mut kept {
            if kept.is_empty() {
                // The space belonged to the separator that is gone.
                kept.extend_from_slice(trim_start(crumb));
            } else {
                kept.push(b';');
                kept.extend_from_slice(crumb);
            }
        }
        start += crumb.len() + 1;
    }
    if let Some(kept) = &mut kept
        && kept.iter().all(|byte| matches!(byte, b';' | b' ' | b'\t'))
    {
        kept.clear();
    }
    kept
}

/// An upstream's `Set-Cookie` sets the cookie of this name.
///
/// A browser may store a nameless cookie `=NAME=x` and send it as `NAME=x`, so that counts. It compares names exactly,
/// except that it enforces the prefixes `__Host-`, `__Secure-` and `__Http-` without regard to case; so do we for such names.
pub fn sets(name: &str, set_cookie: &[u8]) -> bool {
    let pair = &set_cookie[..memchr(b';', set_cookie).unwrap_or(set_cookie.len())];
    let mut pair = trim(pair);
    while let Some(rest) = pair.strip_prefix(b"=") {
        pair = trim_start(rest);
    }
    let Some(equals) = memchr(b'=', pair) else { return false };
    let theirs = trim(&pair[..equals]);
    let has_prefix = ["__Host-", "__Secure-", "__Http-"]
        .iter()
        .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    if has_prefix { theirs.eq_ignore_ascii_case(name.as_bytes()) } else { theirs == name.as_bytes() }
}

/// A cookie name may be this: a token (RFC 6265bis §4.1.1, RFC 9110 §5.6.2).
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token_byte)
}

/// The attributes of a cookie that we set or clear. Always `Path=/` and `HttpOnly`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieLine<'a> {
    /// Its name, a token.
    pub name: &'a str,
    /// Sent over https alone.
    pub secure: bool,
    /// Whether requests that other sites cause carry it.
    pub same_site: SameSite,
    /// How long the browser keeps it; absent: until it is closed.
    pub max_age: Option<Duration>,
    /// Kept apart for each site that embeds us.
    pub partitioned: bool,
    /// A domain that shares it; absent: this host alone.
    pub domain: Option<&'a str>,
}

/// A `Set-Cookie` value that gives the visitor this value, marked sensitive.
///
/// The value consists of cookie octets: ours are base64url. Name and domain were checked with the configuration.
pub fn set_cookie(line: &CookieLine<'_>, value: &Secret<String>) -> HeaderValue {
    let mut cookie = build(line, value.expose());
    if let Some(max_age) = line.max_age {
        let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        cookie.set_max_age(time::Duration::seconds(seconds));
    }
    written(&cookie)
}

/// A `Set-Cookie` value that makes the browser forget the cookie: the same attributes, an empty value, and an end in the past.
pub fn clear_cookie(line: &CookieLine<'_>) -> HeaderValue {
    let mut cookie = build(line, "");
    cookie.set_max_age(time::Duration::ZERO);
    cookie.set_expires(Expiration::from(time::OffsetDateTime::UNIX_EPOCH));
    written(&cookie)
}

fn build<'a>(line: &CookieLine<'a>, value: &'a str) -> Cookie<'a> {
    debug_assert!(is_name(line.name), "cookie names are checked with the configuration");
    let mut cookie = Cookie::new(line.name, value);
    cookie.set_path("/");
    cookie.set_http_only(true);
    cookie.set_secure(line.secure);
    cookie.set_same_site(line.same_site);
    cookie.set_partitioned(line.partitioned);
    if let Some(domain) = line.domain {
        cookie.set_domain(domain);
    }
    cookie
}

fn written(cookie: &Cookie<'_>) -> HeaderValue {
    let mut value = HeaderValue::try_from(cookie.to_string())
        .expect("the name is a token, the value base64url, the domain a host");
    value.set_sensitive(true);
    value
}

/// The pieces of a Cookie field between its semicolons, spaces included.
fn crumbs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let field = rest?;
        let end = memchr(b';', field);
        rest = end.map(|end| &field[end + 1..]);
        Some(&field[..end.unwrap_or(field.len())])
    })
}

/// The value of a crumb, if it has this name.
fn value_of<'a>(crumb: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let crumb = trim_start(crumb);
    if crumb.first() != name.as_bytes().first() {
        // Most crumbs end here, without a comparison of strings.
        return None;
    }
    let rest = crumb.strip_prefix(name.as_bytes())?;
    trim_start(rest).strip_prefix(b"=").map(trim)
}

/// Without spaces and tabs at the edges; other white space belongs to the name or value.
fn trim(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
    trim_start(&bytes[..end])
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "__Host-session";

    fn find_in<'a>(fields: &[&'a str]) -> Found<'a> {
        find(fields.iter().map(|field| field.as_bytes()), NAME)
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        for (fields, expected) in [
            (&[][..], Found::None),
            (&["", "a=b"], Found::None),
            (&["__Host-session=x"], Found::One(b"x")),
            (&["a=b; __Host-session=x; c=d"], Found::One(b"x")),
            (&["a=b", "c=d;__Host-session=x"], Found::One(b"x")),
            (&["a=b;\t __Host-session \t= x\t;c"], Found::One(b"x")),
            (&["__Host-session=\"x\""], Found::One(b"\"x\"")),
            (&["__Host-session=x=y"], Found::One(b"x=y")),
            (&["__Host-session="], Found::One(b"")),
            (&["__Host-session=x", "__Host-session=x; __Host-session=x"], Found::One(b"x")),
            (&["__Host-session=x; __Host-session=y", "__Host-session=x"], Found::Several(vec![b"x", b"y"])),
            (&["__host-session=x"], Found::None),
            (&["__Host-session"], Found::None),
            (&["__Host-sessions=x; __Host-sessio=x; x__Host-session=x"], Found::None),
            (&["__%48ost-session=x"], Found::None),
            (&["\u{2000}__Host-session=x", "\u{a0}__Host-session=x", "\x0b__Host-session=x"], Found::None),
            (&["=__Host-session=x"], Found::None),
            (&["a=b,__Host-session=x"], Found::None),
            (&["a=\"b; __Host-session=x; c\""], Found::One(b"x")),
        ] {
            assert_eq!(find_in(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_flood_of_values_is_cut_short() {
        let values = |count: usize| (0..count).map(|n| format!("{NAME}={n}")).collect::<Vec<_>>().join("; ");
        assert!(matches!(find_in(&[&values(8)]), Found::Several(values) if values.len() == 8));
        assert_eq!(find_in(&[&values(9)]), Found::TooMany);
    }

    #[test]
    fn our_crumbs_are_taken_out_and_the_others_stay() {
        for (field, expected) in [
            ("a=b; c=d", None),
            ("", None),
            ("__host-session=x", None),
            ("__Host-session", None),
            ("__Host-session=x", Some("")),
            (" __Host-session=x ; ; ", Some("")),
            ("__Host-session=x; a=b", Some("a=b")),
            ("a=b; __Host-session=x", Some("a=b")),
            ("a=b; __Host-session=x; c=d", Some("a=b; c=d")),
            ("a=b;__Host-session =x;c=d", Some("a=b;c=d")),
            ("a=b;  __Host-session=x;\tc=d;", Some("a=b;\tc=d;")),
            ("__Host-session=x; __Host-session=y; a=\"b c\";d", Some("a=\"b c\";d")),
            ("a=b; other=1; c=d", Some("a=b; c=d")),
            (" a=b; other=1", Some(" a=b")),
        ] {
            let got = without(field.as_bytes(), &[NAME, "other"]);
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{field:?}");
        }
    }

    #[test]
    fn an_upstream_that_sets_our_cookie_is_seen() {
        for (name, line, expected) in [
            (NAME, "__Host-session=x", true),
            (NAME, "  __Host-session\t = x; Path=/", true),
            (NAME, "__HOST-Session=; Max-Age=0", true),
            (NAME, "=__Host-session=x", true),
            (NAME, " = =__host-session=x", true),
            (NAME, "__Host-session", false),
            (NAME, "__Host-session;a=b", false),
            (NAME, "other=__Host-session=x", false),
            (NAME, "other=1; __Host-session=x", false),
            ("session", "session=x", true),
            ("session", "Session=x", false),
            ("session", "sessions=x", false),
            ("session", "", false),
            ("session", "===", false),
        ] {
            assert_eq!(sets(name, line.as_bytes()), expected, "{name} {line:?}");
        }
    }

    #[test]
    fn set_cookie_lines_carry_their_attributes_and_are_sensitive() {
        let host = CookieLine {
            name: NAME,
            secure: true,
            same_site: SameSite::Lax,
            max_age: None,
            partitioned: false,
            domain: None,
        };
        let shared = CookieLine {
            name: "session",
            secure: false,
            same_site: SameSite::None,
            max_age: Some(Duration::from_mins(1)),
            partitioned: true,
            domain: Some("example.com"),
        };
        let value = Secret::new("a-b_c".to_owned());
        let set = set_cookie(&host, &value);
        assert!(set.is_sensitive());
        assert_eq!(set, "__Host-session=a-b_c; HttpOnly; SameSite=Lax; Secure; Path=/");
        assert_eq!(
            set_cookie(&shared, &value),
            "session=a-b_c; HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Domain=example.com; Max-Age=60"
        );
        let clear = clear_cookie(&host);
        assert_eq!(
            clear,
            "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
        assert!(sets(NAME, set.as_bytes()) && sets(NAME, clear.as_bytes()));
        let forever = CookieLine { max_age: Some(Duration::MAX), ..host };
        assert!(set_cookie(&forever, &value).to_str().is_ok_and(|line| line.contains("Max-Age=")));
    }

    #[test]
    fn cookie_names_are_tokens() {
        for (name, expected) in [
            (NAME, true),
            ("a", true),
            ("", false),
            ("a b", false),
            ("a=b", false),
            ("a;b", false),
            ("é", false),
        ] {
            assert_eq!(is_name(name), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn taking_ours_out_keeps_every_other_crumb(
            crumbs in prop::collection::vec(prop::sample::select(vec![
                "__Host-session=x", "__Host-session= y", " __Host-session=z", "a=b", " c=d", "  e", "", " ", "f=\"g\"",
                " __Host-sessions=1", "=h",
            ]), 0..8),
        ) {
            let field = crumbs.join(";");
            let is_ours = |crumb: &&&str| crumb.trim().starts_with("__Host-session=");
            let others: Vec<&str> = crumbs.iter().filter(|crumb| !is_ours(crumb)).copied().collect();
            match without(field.as_bytes(), &[NAME]) {
                None => prop_assert_eq!(others.len(), crumbs.len()),
                Some(kept) => {
                    prop_assert!(others.len() < crumbs.len());
                    let kept = String::from_utf8(kept).expect("the field was text");
                    let solid = |crumbs: Vec<&str>| -> Vec<String> {
                        crumbs.iter().map(|crumb| crumb.trim().to_owned()).filter(|crumb| !crumb.is_empty()).collect()
                    };
                    prop_assert_eq!(solid(kept.split(';').collect()), solid(others));
                    prop_assert_eq!(find_in(&[&kept]), Found::None);
                    prop_assert_eq!(without(kept.as_bytes(), &[NAME]), None);
                }
            }
        }

        #[test]
        fn what_stands_between_others_is_untouched(
            before in "[a-z]=[!-:<-~]{0,9}",
            after in "[a-z]=[!-:<-~]{0,9}",
            value in "[A-Za-z0-9_-]{0,9}",
        ) {
            let field = format!("{before}; {NAME}={value}; {after}");
            prop_assert_eq!(find_in(&[&field]), Found::One(value.as_bytes()));
            prop_assert_eq!(without(field.as_bytes(), &[NAME]), Some(format!("{before}; {after}").into_bytes()));
        }

        #[test]
        fn no_bytes_panic(field in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = find(std::iter::once(&field[..]), NAME);
            let _ = without(&field, &[NAME]);
            let _ = sets(NAME, &field);
        }
    }
}
