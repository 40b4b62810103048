//! The fields of a request's head, read once.
//!
//! pingora would read every field into two maps, the second of them for its spelling, which nobody here wants. So it is
//! handed a head of its own to parse, the [`opening`]: the request line as it came, Host, and what delimits the message. The
//! fields themselves are made while [`head::check_each`] goes through the bytes, and join the parsed head before the first filter looks
//! at it ([`complete`]). Both come out of the one reading that the check has passed.

use crate::domain::head::{self, Body, Framing, HeadRejection, Listener, Place};
use crate::net::known::Known;
use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, ORIGIN, PRAGMA, REFERER,
    UPGRADE_INSECURE_REQUESTS, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;
use pingora::http::RequestHeader;

/// Room for the fields that browsers send and those that are set on the way, so that the map need not grow.
const USUAL_FIELDS: usize = 24;

/// A checked head.
pub struct Head {
    /// What pingora parses.
    pub opening: BytesMut,
    /// All of the head's fields, Host and the others of the opening among them.
    pub fields: HeaderMap,
    /// How the message is delimited.
    pub framing: Framing,
    /// What the fields were read from, and can be read from again ([`read_again`]); their values share it.
    pub bytes: Bytes,
}

/// Checks a head, from its first byte up to and including its blank line, and takes it apart. The values share its bytes, or
/// those of the lines that are `known` of the connection.
pub(crate) fn read(head: &Bytes, known: &mut Known) -> Result<Head, HeadRejection> {
    let (fields, framing) = match known.again(head) {
        Some(again) => again,
        None => read_lines(head, known)?,
    };
    Ok(Head { opening: opening(head, fields.get(HOST), framing), fields, framing, bytes: head.clone() })
}

fn read_lines(head: &Bytes, known: &mut Known) -> Result<(HeaderMap, Framing), HeadRejection> {
    known.begin();
    let fields = HeaderMap::with_capacity(USUAL_FIELDS);
    let mut reading = Reading { head, known, fields, whole: true };
    let framing = head::check_each(head, &mut reading)?;
    let Reading { fields, whole, .. } = reading;
    // What the check passes fits the types; a head that lost a field must not go on.
    if !whole {
        return Err(HeadRejection::FieldName);
    }
    known.keep(head, &fields, framing);
    Ok((fields, framing))
}

/// The fields of a head that was read before. No field, which no caller takes for a request, if the bytes are of another one.
pub fn read_again(bytes: &Bytes) -> HeaderMap {
    read(bytes, &mut Known::default()).map_or_else(|_| HeaderMap::new(), |head| head.fields)
}

/// The fields of a head that is being checked.
struct Reading<'a> {
    head: &'a Bytes,
    known: &'a mut Known,
    fields: HeaderMap,
    /// No field was lost.
    whole: bool,
}

impl Listener for Reading<'_> {
    fn knows(&mut self, line: &[u8]) -> Option<Place> {
        let (place, name, value) = self.known.find(line)?;
        self.whole &= self.fields.try_append(name, value).is_ok();
        Some(place)
    }

    fn hear(&mut self, line: &[u8], place: Place) {
        let name = place.name(line);
        let value = HeaderValue::from_maybe_shared(self.head.slice_ref(place.value(line)));
        match (usual_name(name).or_else(|| HeaderName::from_bytes(name).ok()), value) {
            (Some(name), Ok(value)) => {
                self.known.learn(line, place, &name);
                self.whole &= self.fields.try_append(name, value).is_ok();
            }
            _ => self.whole = false,
        }
    }
}

/// The names that browsers send with nearly every request, as they spell them: found by a look at their length first, where the way over
/// [`HeaderName::from_bytes`] folds every letter and copies each name that `http` has no constant for.
fn usual_name(name: &[u8]) -> Option<HeaderName> {
    const DNT: HeaderName = HeaderName::from_static("dnt");
    const PRIORITY: HeaderName = HeaderName::from_static("priority");
    const SEC_CH_UA: HeaderName = HeaderName::from_static("sec-ch-ua");
    const SEC_CH_UA_MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");
    const SEC_CH_UA_PLATFORM: HeaderName = HeaderName::from_static("sec-ch-ua-platform");
    const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
    const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    const SEC_FETCH_USER: HeaderName = HeaderName::from_static("sec-fetch-user");
    Some(match name.len() {
        3 if name == b"DNT" => DNT,
        4 if name == b"Host" => HOST,
        6 => match name {
            b"Accept" => ACCEPT,
            b"Cookie" => COOKIE,
            b"Origin" => ORIGIN,
            b"Pragma" => PRAGMA,
            _ => return None,
        },
        7 if name == b"Referer" => REFERER,
        8 if name == b"Priority" => PRIORITY,
        9 if name == b"sec-ch-ua" => SEC_CH_UA,
        10 => match name {
            b"Connection" => CONNECTION,
            b"User-Agent" => USER_AGENT,
            _ => return None,
        },
        12 if name == b"Content-Type" => CONTENT_TYPE,
        13 => match name {
            b"Authorization" => AUTHORIZATION,
            b"Cache-Control" => CACHE_CONTROL,
            b"If-None-Match" => IF_NONE_MATCH,
            _ => return None,
        },
        14 => match name {
            b"Content-Length" => CONTENT_LENGTH,
            b"Sec-Fetch-Dest" => SEC_FETCH_DEST,
            b"Sec-Fetch-Mode" => SEC_FETCH_MODE,
            b"Sec-Fetch-Site" => SEC_FETCH_SITE,
            b"Sec-Fetch-User" => SEC_FETCH_USER,
            _ => return None,
        },
        15 => match name {
            b"Accept-Encoding" => ACCEPT_ENCODING,
            b"Accept-Language" => ACCEPT_LANGUAGE,
            _ => return None,
        },
        16 if name == b"sec-ch-ua-mobile" => SEC_CH_UA_MOBILE,
        17 if name == b"If-Modified-Since" => IF_MODIFIED_SINCE,
        18 if name == b"sec-ch-ua-platform" => SEC_CH_UA_PLATFORM,
        25 if name == b"Upgrade-Insecure-Requests" => UPGRADE_INSECURE_REQUESTS,
        _ => return None,
    })
}

/// The head that says no more than what frames the message, in one spelling whatever the client's was.
fn opening(head: &[u8], host: Option<&HeaderValue>, framing: Framing) -> BytesMut {
    // The check has passed over an empty line before it (RFC 9112 §2.2).
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let line = &head[..memchr(b'\n', head).map_or(0, |feed| feed + 1)];
    let mut opening = BytesMut::with_capacity(line.len() + host.map_or(0, HeaderValue::len) + 64);
    opening.extend_from_slice(line);
    if let Some(host) = host {
        opening.extend_from_slice(b"Host: ");
        opening.extend_from_slice(host.as_bytes());
        opening.extend_from_slice(b"\r\n");
    }
    match framing.body {
        Body::None => {}
        Body::Length(length) => {
            opening.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        Body::Chunked => opening.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    match (framing.keep_alive, framing.version_10) {
        (true, false) => {}
        (true, true) => opening.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, _) => opening.extend_from_slice(b"Connection: close\r\n"),
    }
    opening.extend_from_slice(b"\r\n");
    opening
}

/// Puts the fields into the head that pingora has made of their opening. The spelling of their names is forgotten, which
/// means nothing (RFC 9110 §5.1): the upstream gets the usual spelling of known names, lower case otherwise.
///
/// The target stays as it was sent, absolute form included.
///
/// # Errors
///
/// None in practice: the target was parsed before.
pub fn complete(head: &mut RequestHeader, fields: HeaderMap) -> pingora::Result<()> {
    let parsed = head.uri.path_and_query().map(|target| target.as_str().as_bytes());
    let verbatim = (parsed != Some(head.raw_path())).then(|| head.raw_path().to_vec());
    exchange(head, fields);
    verbatim.map_or(Ok(()), |target| head.set_raw_path(&target))
}

/// Puts fields into a head, and gives those that were there. A target that is kept beside the parsed one is lost with it.
pub fn exchange(head: &mut RequestHeader, fields: HeaderMap) -> HeaderMap {
    let (empty, ()) = http::Request::new(()).into_parts();
    let mut parts = Parts::from(std::mem::replace(head, RequestHeader::from(empty)));
    let before = std::mem::replace(&mut parts.headers, fields);
    *head = RequestHeader::from(parts);
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_str(head: &str) -> Head {
        read(&Bytes::copy_from_slice(head.as_bytes()), &mut Known::default()).expect("the head is fine")
    }

    #[test]
    fn pingora_gets_what_frames_the_message_and_nothing_else() {
        for (head, opening) in [
            (
                "GET /a?b HTTP/1.1\r\nCookie: c=d\r\nhOST:  A.example \r\nTE: x\r\n\r\n",
                "GET /a?b HTTP/1.1\r\nHost: A.example\r\n\r\n",
            ),
            (
                "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n",
                "GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-auth-user\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 007\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n",
                "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            ("GET / HTTP/1.0\r\nX: y\r\n\r\n", "GET / HTTP/1.0\r\nConnection: close\r\n\r\n"),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            ),
        ] {
            assert_eq!(read_str(head).opening, opening.as_bytes(), "{head}");
        }
    }

    #[test]
    fn every_field_joins_the_head_again_in_its_place() {
        let sent = "GET /x HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nX-Empty:\r\ncookie:\t c=\u{e9} d\t\r\nX_Odd!: 1\t2\r\n\r\n";
        let Head { fields, .. } = read_str(sent);
        let mut head = RequestHeader::build("GET", b"/x", None).expect("the target parses");
        head.insert_header("X-Old", "gone").expect("a header value");
        complete(&mut head, fields).expect("the target parsed before");
        let told: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 5] = [
            ("host", b"a"),
            ("cookie", b"a=b"),
            ("cookie", "c=\u{e9} d".as_bytes()),
            ("x-empty", b""),
            ("x_odd!", b"1\t2"),
        ];
        assert_eq!(told, expected);
        assert!(!head.has_case());
    }

    #[test]
    fn usual_names_mean_what_they_say() {
        let names = "Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Length Content-Type \
                     Cookie DNT Host If-Modified-Since If-None-Match Origin Pragma Priority Referer Sec-Fetch-Dest \
                     Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform \
                     Upgrade-Insecure-Requests User-Agent";
        for name in names.split_ascii_whitespace() {
            let parsed = HeaderName::from_bytes(name.as_bytes()).expect("a token");
            assert_eq!(usual_name(name.as_bytes()), Some(parsed));
        }
    }

    #[test]
    fn an_absolute_target_stays_what_it_is() {
        for target in ["/a?b", "*", "http://a.example/b?c", "HTTP://a.example"] {
            let mut head =
                RequestHeader::build("OPTIONS", target.as_bytes(), None).expect("the target parses");
            complete(&mut head, HeaderMap::new()).expect("the target parsed before");
            assert_eq!(head.raw_path(), target.as_bytes());
        }
    }

    #[test]
    fn a_refused_head_leaves_nothing() {
        for (head, rejection) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n", HeadRejection::ControlByte),
            ("GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", HeadRejection::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n\r\n", HeadRejection::BareLineFeed),
        ] {
            assert_eq!(
                read(&Bytes::copy_from_slice(head.as_bytes()), &mut Known::default()).err(),
                Some(rejection),
                "{head:?}"
            );
        }
    }

    /// Opening, framing, and the fields in their order.
    type Told = (Vec<u8>, Framing, Vec<(String, Vec<u8>)>);

    /// What a reading came to.
    fn told(read: Result<Head, HeadRejection>) -> Result<Told, HeadRejection> {
        read.map(|Head { opening, fields, framing, .. }| {
            let fields = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            (opening.to_vec(), framing, fields.collect())
        })
    }

    const STARTS: [&str; 8] = [
        "GET / HTTP/1.1",
        "GET /a?b HTTP/1.1",
        "POST /c HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "GET http://b/ HTTP/1.1",
        "GET / HTTP/1.0",
        "GET /\u{7f} HTTP/1.1",
    ];
    const LINES: [&str; 10] = [
        "Accept: */*",
        "Cookie: a=b",
        "Cookie: c=d",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Expect: 100-continue",
    ];

    proptest! {
        /// Whatever a connection has sent before, a head means what it means on a fresh one.
        #[test]
        fn what_is_known_changes_no_meaning(
            lines in proptest::collection::vec(proptest::sample::subsequence(LINES.to_vec(), 0..5), 1..4),
            heads in proptest::collection::vec((0..STARTS.len(), 0..4_usize), 1..24),
        ) {
            let mut known = Known::default();
            for (start, which) in heads {
                // Mostly one set of lines, so that it becomes known.
                let lines = &lines[if which < lines.len() { which } else { 0 }];
                let mut head = format!("{}\r\nHost: a\r\nUser-Agent: b\r\n", STARTS[start]);
                for line in lines {
                    head.push_str(line);
                    head.push_str("\r\n");
                }
                head.push_str("\r\n");
                let head = Bytes::from(head);
                prop_assert_eq!(told(read(&head, &mut known)), told(read(&head, &mut Known::default())));
            }
        }
    }
}
