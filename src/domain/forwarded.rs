//! A request as another proxy tells of it, when it asks whether that may pass.
//!
//! Each dialect has its own words, and no others are looked at: what a client sends under the words of another dialect means nothing. A
//! word that is missing, or comes twice, leaves open what was asked, and so does a target that is not in normal form: the other proxy
//! sends it on as it is, and the application might read it otherwise than we do. All that is refused.

use crate::domain::target::{Host, Target, TargetRejection};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method};

/// By which words another proxy tells of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `auth_request`: X-Original-URL, X-Original-Method.
    Nginx,
    /// `ForwardAuth`: X-Forwarded-Method, -Proto, -Host, -Uri.
    Traefik,
    /// `forward_auth`: the same.
    Caddy,
    /// `ext_authz` over HTTP: the request's own method and Host, its target behind our path, X-Forwarded-Proto.
    Envoy,
    /// A subrequest of a script or agent: X-Forwarded-Method, -Proto, -Host, -Uri.
    Haproxy,
}

/// A request that another proxy asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The visitor came by https.
    pub https: bool,
    /// The host that was asked for.
    pub host: Host<'a>,
    /// Its method.
    pub method: Method,
    /// Its target, in normal form as it came.
    pub target: Target<'a>,
}

/// Why it cannot be said what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedRejection {
    /// A word of the dialect is missing.
    Missing(Word),
    /// It comes twice.
    Twice(Word),
    /// It is not what it stands for.
    Broken(Word),
    /// The target is one that we refuse from everybody.
    Target(TargetRejection),
    /// The target has another normal form.
    NotNormal,
}

/// What a proxy tells of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// X-Original-URL.
    Url,
    /// X-Forwarded-Proto, or the scheme in X-Original-URL.
    Scheme,
    /// X-Forwarded-Host, Host, or the host in X-Original-URL.
    Host,
    /// X-Original-Method, X-Forwarded-Method.
    Method,
    /// X-Forwarded-Uri, or what stands behind our path.
    Uri,
}

impl ForwardedRejection {
    /// A word for the log and the counter.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing(Word::Url) => "forwarded_url_missing",
            Self::Missing(Word::Scheme) => "forwarded_scheme_missing",
            Self::Missing(Word::Host) => "forwarded_host_missing",
            Self::Missing(Word::Method) => "forwarded_method_missing",
            Self::Missing(Word::Uri) => "forwarded_uri_missing",
            Self::Twice(Word::Url) => "forwarded_url_twice",
            Self::Twice(Word::Scheme) => "forwarded_scheme_twice",
            Self::Twice(Word::Host) => "forwarded_host_twice",
            Self::Twice(Word::Method) => "forwarded_method_twice",
            Self::Twice(Word::Uri) => "forwarded_uri_twice",
            Self::Broken(Word::Url) => "forwarded_url",
            Self::Broken(Word::Scheme) => "forwarded_scheme",
            Self::Broken(Word::Host) => "forwarded_host",
            Self::Broken(Word::Method) => "forwarded_method",
            Self::Broken(Word::Uri) => "forwarded_uri",
            Self::Target(rejection) => rejection.reason(),
            Self::NotNormal => "forwarded_not_normal",
        }
    }
}

impl<'a> Forwarded<'a> {
    /// Reads what a proxy asks about with a request of this method; `behind` is what stands behind our path in its target.
    pub fn read(
        dialect: Dialect,
        method: &Method,
        behind: &'a [u8],
        headers: &'a HeaderMap,
    ) -> Result<Self, ForwardedRejection> {
        let field = |name: &str, word: Word| one(headers, name, word);
        match dialect {
            Dialect::Nginx => {
                let url = field("x-original-url", Word::Url)?;
                let (https, rest) = if let Some(rest) = url.strip_prefix(b"https://") {
                    (true, rest)
                } else if let Some(rest) = url.strip_prefix(b"http://") {
                    (false, rest)
                } else {
                    return Err(ForwardedRejection::Broken(Word::Url));
                };
                let end = rest.iter().position(|&byte| byte == b'/');
                let (host, uri) = rest.split_at(end.ok_or(ForwardedRejection::Broken(Word::Url))?);
                Self::new(https, host, field("x-original-method", Word::Method)?, uri)
            }
            Dialect::Traefik | Dialect::Caddy | Dialect::Haproxy => Self::new(
                scheme(field("x-forwarded-proto", Word::Scheme)?)?,
                field("x-forwarded-host", Word::Host)?,
                field("x-forwarded-method", Word::Method)?,
                field("x-forwarded-uri", Word::Uri)?,
            ),
            Dialect::Envoy => {
                if behind.is_empty() {
                    return Err(ForwardedRejection::Missing(Word::Uri));
                }
                let https = scheme(field("x-forwarded-proto", Word::Scheme)?)?;
                Self::new(https, field(HOST.as_str(), Word::Host)?, method.as_str().as_bytes(), behind)
            }
        }
    }

    fn new(https: bool, host: &'a [u8], method: &[u8], uri: &'a [u8]) -> Result<Self, ForwardedRejection> {
        let host = Host::parse(host).map_err(|_| ForwardedRejection::Broken(Word::Host))?;
        let method = Method::from_bytes(method).map_err(|_| ForwardedRejection::Broken(Word::Method))?;
        if method == Method::CONNECT {
            return Err(ForwardedRejection::Broken(Word::Method));
        }
        let target = Target::parse(uri).map_err(ForwardedRejection::Target)?;
        if !target.is_as_sent() {
            return Err(ForwardedRejection::NotNormal);
        }
        Ok(Self { https, host, method, target })
    }
}

/// The one value of a field.
fn one<'a>(headers: &'a HeaderMap, name: &str, word: Word) -> Result<&'a [u8], ForwardedRejection> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    match (values.next(), values.next()) {
        (None | Some(b""), None) => Err(ForwardedRejection::Missing(word)),
        (Some(value), None) => Ok(value),
        (_, Some(_)) => Err(ForwardedRejection::Twice(word)),
    }
}

fn scheme(text: &[u8]) -> Result<bool, ForwardedRejection> {
    match text {
        b"https" => Ok(true),
        b"http" => Ok(false),
        _ => Err(ForwardedRejection::Broken(Word::Scheme)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    const FORWARDED: [(&str, &str); 4] = [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "Wiki.example.com:8443"),
        ("x-forwarded-uri", "/a;b/%C3%A9?x=/../y"),
    ];
    const ORIGINAL: [(&str, &str); 2] = [
        ("x-original-method", "POST"),
        ("x-original-url", "https://Wiki.example.com:8443/a;b/%C3%A9?x=/../y"),
    ];

    #[test]
    fn every_dialect_tells_the_same() {
        let envoy = headers(&[("host", "Wiki.example.com:8443"), ("x-forwarded-proto", "https")]);
        for (dialect, method, behind, headers) in [
            (Dialect::Nginx, Method::GET, "", headers(&ORIGINAL)),
            (Dialect::Traefik, Method::GET, "", headers(&FORWARDED)),
            (Dialect::Caddy, Method::GET, "/x", headers(&FORWARDED)),
            (Dialect::Haproxy, Method::GET, "", headers(&FORWARDED)),
            (Dialect::Envoy, Method::POST, "/a;b/%C3%A9?x=/../y", envoy),
        ] {
            let read = Forwarded::read(dialect, &method, behind.as_bytes(), &headers).expect("it is told");
            assert!(read.https, "{dialect:?}");
            assert_eq!((read.host.name(), read.host.port()), ("wiki.example.com", Some(8443)), "{dialect:?}");
            assert_eq!(read.method, Method::POST, "{dialect:?}");
            assert_eq!(read.target.to_string(), "/a;b/%C3%A9?x=/../y", "{dialect:?}");
        }
    }

    #[test]
    fn a_dialect_is_deaf_to_the_words_of_the_others() {
        let all = [&FORWARDED[..], &ORIGINAL[..]].concat();
        let read = |dialect, headers: &[(&'static str, &str)]| {
            Forwarded::read(dialect, &Method::GET, b"", &self::headers(headers)).map(|read| read.method)
        };
        assert_eq!(read(Dialect::Nginx, &FORWARDED), Err(ForwardedRejection::Missing(Word::Url)));
        for dialect in [Dialect::Traefik, Dialect::Caddy, Dialect::Haproxy] {
            assert_eq!(read(dialect, &ORIGINAL), Err(ForwardedRejection::Missing(Word::Scheme)));
            assert_eq!(read(dialect, &all), Ok(Method::POST));
        }
        assert_eq!(read(Dialect::Envoy, &all), Err(ForwardedRejection::Missing(Word::Uri)));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use ForwardedRejection::{Broken, Missing, NotNormal, Target, Twice};
        // The field that is left out, and what stands there instead.
        for (name, values, expected) in [
            ("x-forwarded-method", &[][..], Missing(Word::Method)),
            ("x-forwarded-method", &[""], Missing(Word::Method)),
            ("x-forwarded-method", &["GET", "GET"], Twice(Word::Method)),
            ("x-forwarded-method", &["GET, POST"], Broken(Word::Method)),
            ("x-forwarded-method", &["CONNECT"], Broken(Word::Method)),
            ("x-forwarded-proto", &["https,http"], Broken(Word::Scheme)),
            ("x-forwarded-proto", &["HTTPS"], Broken(Word::Scheme)),
            ("x-forwarded-proto", &["https", "http"], Twice(Word::Scheme)),
            ("x-forwarded-host", &["a.example, b.example"], Broken(Word::Host)),
            ("x-forwarded-host", &["user@a.example"], Broken(Word::Host)),
            ("x-forwarded-host", &["a.example", "b.example"], Twice(Word::Host)),
            ("x-forwarded-uri", &["/a", "/b"], Twice(Word::Uri)),
            ("x-forwarded-uri", &["/a/../b"], Target(TargetRejection::DotSegment)),
            ("x-forwarded-uri", &["/a/%2e%2E/b"], Target(TargetRejection::DotSegment)),
            ("x-forwarded-uri", &["/a%2fb"], Target(TargetRejection::EncodedSlash)),
            ("x-forwarded-uri", &["//a"], Target(TargetRejection::EmptySegment)),
            ("x-forwarded-uri", &["/a\\b"], Target(TargetRejection::Backslash)),
            ("x-forwarded-uri", &["/a#b"], Target(TargetRejection::Fragment)),
            ("x-forwarded-uri", &["http://a.example/a"], Target(TargetRejection::NotOriginForm)),
            ("x-forwarded-uri", &["/%61dmin"], NotNormal),
            ("x-forwarded-uri", &["/%c3%a9"], NotNormal),
        ] {
            let rest: Vec<_> = FORWARDED.into_iter().filter(|(held, _)| *held != name).collect();
            let fields: Vec<_> = rest.into_iter().chain(values.iter().map(|value| (name, *value))).collect();
            let read = Forwarded::read(Dialect::Traefik, &Method::GET, b"", &headers(&fields)).map(|_| ());
            assert_eq!(read, Err(expected), "{name} {values:?}");
        }
        for (url, expected) in [
            ("ftp://a.example/", Broken(Word::Url)),
            ("//a.example/", Broken(Word::Url)),
            ("https://a.example", Broken(Word::Url)),
            ("https:///a", Broken(Word::Host)),
            ("https://a.example?/a", Broken(Word::Host)),
            ("https://a.example@b.example/", Broken(Word::Host)),
            ("https://a.example/b/../c", Target(TargetRejection::DotSegment)),
        ] {
            let fields = [("x-original-method", "GET"), ("x-original-url", url)];
            let read = Forwarded::read(Dialect::Nginx, &Method::GET, b"", &headers(&fields)).map(|_| ());
            assert_eq!(read, Err(expected), "{url}");
        }
        let fields = headers(&[("host", "a.example"), ("x-forwarded-proto", "https")]);
        for behind in ["?x=1", "/a/../b", "//a", "/%61"] {
            let read = Forwarded::read(Dialect::Envoy, &Method::GET, behind.as_bytes(), &fields);
            assert!(read.is_err(), "{behind}");
        }
    }
}
