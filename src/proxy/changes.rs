//! What a route changes in the heads that pass: headers of requests and answers, and the front of the path.
//!
//! Requests are changed after everything that a client may not say was removed and before ours is set; answers before they are
//! made private, so that no change undoes that. The names that only the gateway may set never get here: the configuration
//! refuses them. Answers of our own are not changed.

use crate::domain::fold::Guard;
use crate::domain::prefix::Prefix;
use crate::domain::target::{Host, Target, TargetRejection};
use http::header::{
    CONTENT_LOCATION, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, REFRESH, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The changes of one route; a route without any has none of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In requests.
    pub request: HeaderChanges,
    /// In the final answers of the application; interim ones stay as they are.
    pub response: HeaderChanges,
    /// Answers get the headers by which browsers are told to be strict, where the application says nothing itself.
    pub security: bool,
    /// The front of the path.
    pub prefix: Option<Prefix>,
}

/// Changes of header fields; a name stands in one of them alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Every field of these names goes.
    pub remove: Vec<HeaderName>,
    /// One field of each name, whatever there was.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// One more field of each name.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// The names of `remove` and `set`, for requests: there some application reads `X_Stage` as `X-Stage`.
    pub spellings: Guard,
}

/// Both hosts that an absolute reference in an answer may mean us by.
pub(crate) struct Hosts<'a> {
    /// The one that the visitor asked for.
    pub(crate) visitor: Host<'a>,
    /// The one that the application was told.
    pub(crate) sent: Host<'a>,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes a request's fields.
    pub(crate) fn dress_request(&self, headers: &mut HeaderMap) {
        while let Some(name) = headers.keys().find(|name| self.request.spellings.covers(name)).cloned() {
            headers.remove(name);
        }
        self.request.apply(headers);
        if let Some(prefix) = &self.prefix
            && let Ok(stripped) = HeaderValue::from_str(prefix.stripped())
            && !stripped.is_empty()
        {
            headers.insert(FORWARDED_PREFIX, stripped);
        }
    }

    /// The target that the application gets, from the canonical one; nothing if it stays.
    ///
    /// # Errors
    ///
    /// What the log is to say: the target becomes too long, or is not read as it is written.
    pub(crate) fn target(&self, uri: &Uri) -> Result<Option<Uri>, &'static str> {
        let Some(prefix) = &self.prefix else { return Ok(None) };
        let canonical = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = Target::parse(canonical.as_bytes()).map_err(TargetRejection::reason)?;
        let sent = prefix.forward(&target).map_err(TargetRejection::reason)?;
        let read: PathAndQuery = sent.parse().map_err(|_| "target")?;
        if read.as_str() != sent {
            return Err("target");
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(read);
        Uri::from_parts(parts).map(Some).map_err(|_| "target")
    }

    /// Changes the fields of an application's final answer.
    pub(crate) fn dress_answer(&self, headers: &mut HeaderMap, hosts: &Hosts<'_>) {
        if let Some(prefix) = &self.prefix {
            show_prefix(headers, prefix, hosts);
        }
        self.response.apply(headers);
        if self.security {
            secure(headers);
        }
    }
}

impl HeaderChanges {
    /// Knows every spelling of what is removed and set.
    #[must_use]
    pub fn with_spellings(self) -> Self {
        let spellings = Guard::new(self.remove.iter().chain(self.set.iter().map(|(name, _)| name)));
        Self { spellings, ..self }
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// What `security: true` says, and the reason of each:
///
/// a text is not run as a script because it looks like one; links to other sites tell them the origin and no path; pages of
/// other sites cannot frame this one or reach into its window; no plug-in takes the host's data elsewhere.
pub const SECURITY: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "strict-origin-when-cross-origin"),
    (X_FRAME_OPTIONS, "SAMEORIGIN"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin-allow-popups"),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
];

fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        // Who writes `frame-ancestors` has decided about frames, and older browsers would heed the other field instead.
        let is_said = headers.contains_key(&name) || (name == X_FRAME_OPTIONS && decides_frames(headers));
        if !is_said {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn decides_frames(headers: &HeaderMap) -> bool {
    let policies = headers.get_all(CONTENT_SECURITY_POLICY).iter().filter_map(|value| value.to_str().ok());
    let mut directives = policies.flat_map(|policy| policy.split([';', ',']));
    directives.any(|directive| {
        directive.split_whitespace().next().is_some_and(|name| name.eq_ignore_ascii_case("frame-ancestors"))
    })
}

/// Tells visitors the paths as they see them.
fn show_prefix(headers: &mut HeaderMap, prefix: &Prefix, hosts: &Hosts<'_>) {
    let Hosts { visitor, sent } = hosts;
    change(headers, &LOCATION, |value| prefix.reference(value, visitor, sent));
    change(headers, &CONTENT_LOCATION, |value| prefix.reference(value, visitor, sent));
    change(headers, &REFRESH, |value| prefix.refresh(value, visitor, sent));
    change(headers, &SET_COOKIE, |value| prefix.set_cookie(value));
}

/// Puts another value in place of each one that `changed` has something for.
fn change(headers: &mut HeaderMap, name: &HeaderName, changed: impl Fn(&str) -> Option<String>) {
    let http::header::Entry::Occupied(mut entry) = headers.entry(name) else { return };
    for value in entry.iter_mut() {
        let new = value.to_str().ok().and_then(&changed).and_then(|new| HeaderValue::try_from(new).ok());
        if let Some(new) = new {
            *value = new;
        }
    }
}

const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().expect("a header name")
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(text, value): &(&str, &str)| (name(text), value.parse().expect("a header value"));
        fields.iter().map(field).collect()
    }

    fn hosts() -> Hosts<'static> {
        let host = |text: &'static str| Host::parse(text.as_bytes()).expect("a host");
        Hosts { visitor: host("wiki.example.com"), sent: host("wiki.internal") }
    }

    #[test]
    fn fields_are_removed_replaced_and_added() {
        let value = HeaderValue::from_static;
        let changes = HeaderChanges {
            remove: vec![name("a"), name("none")],
            set: vec![(name("b"), value("ours")), (name("c"), value("ours"))],
            add: vec![(name("d"), value("ours")), (name("e"), value("ours"))],
            spellings: Guard::default(),
        };
        let mut headers = map(&[("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("d", "1"), ("f", "1")]);
        changes.apply(&mut headers);
        let expected =
            map(&[("b", "ours"), ("c", "ours"), ("d", "1"), ("d", "ours"), ("e", "ours"), ("f", "1")]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn in_requests_every_spelling_is_meant() {
        let request = HeaderChanges {
            remove: vec![name("x-debug")],
            set: vec![(name("x-stage"), HeaderValue::from_static("ours"))],
            ..HeaderChanges::default()
        };
        let changes = Changes { request: request.with_spellings(), ..Changes::default() };
        let mut headers =
            map(&[("x_debug", "1"), ("x.stage", "theirs"), ("x-stages", "theirs"), ("xdebug", "1")]);
        changes.dress_request(&mut headers);
        assert_eq!(headers, map(&[("x-stages", "theirs"), ("x-stage", "ours")]));
    }

    #[test]
    fn what_the_application_says_of_its_safety_stays() {
        let secured = |fields: &[(&str, &str)]| {
            let mut headers = map(fields);
            secure(&mut headers);
            headers
        };
        assert_eq!(secured(&[]).len(), SECURITY.len());
        let own = secured(&[("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")]);
        assert_eq!(
            (&own["referrer-policy"], &own["x-frame-options"]),
            (&"no-referrer".parse().expect("a value"), &"DENY".parse().expect("a value"))
        );
        for (policy, frames) in [
            ("default-src 'self'", true),
            ("default-src 'self'; Frame-Ancestors https://portal.example.com", false),
            ("default-src 'self', frame-ancestors 'none'", false),
            ("frame-src 'none'; report-uri /frame-ancestors", true),
        ] {
            let headers = secured(&[("content-security-policy", policy)]);
            assert_eq!(headers.contains_key(X_FRAME_OPTIONS), frames, "{policy}");
        }
    }

    #[test]
    fn every_field_that_leads_somewhere_is_told_as_visitors_see_it() {
        let changes = Changes { prefix: Some(Prefix::new("/app", "/")), ..Changes::default() };
        let mut headers = map(&[
            ("location", "http://wiki.internal/x"),
            ("content-location", "/y"),
            ("refresh", "1; url=/z"),
            ("set-cookie", "a=b; Path=/"),
            ("set-cookie", "c=d; Path=/app"),
            ("link", "</style.css>; rel=preload"),
        ]);
        changes.dress_answer(&mut headers, &hosts());
        let expected = map(&[
            ("location", "/app/x"),
            ("content-location", "/app/y"),
            ("refresh", "1; url=/app/z"),
            ("set-cookie", "a=b; Path=/app"),
            ("set-cookie", "c=d; Path=/app"),
            ("link", "</style.css>; rel=preload"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn the_target_is_read_as_it_is_written_or_refused() {
        let changes = Changes { prefix: Some(Prefix::new("/app", "/base")), ..Changes::default() };
        let sent = |uri: &str| {
            changes.target(&uri.parse().expect("a URI")).map(|uri| uri.map(|uri| uri.to_string()))
        };
        assert_eq!(sent("/app/x?q=%zz|"), Ok(Some("/base/x?q=%zz|".to_owned())));
        let whole = sent("https://wiki.example.com/app/x");
        assert_eq!(whole, Ok(Some("https://wiki.example.com/base/x".to_owned())), "as HTTP/2 has it");
        assert_eq!(sent("/app/../x"), Err("dot_segment"));
        let long = format!("/app/{}", "a".repeat(8 * 1024 - 5));
        assert_eq!(sent(&long), Err("target_too_long"));
        assert_eq!(Changes::default().target(&"/app".parse().expect("a URI")), Ok(None));
    }
}
