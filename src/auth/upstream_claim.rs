//! What an application's answer says about who is signed in, and whether that is believed: a pure judgement.
//!
//! `X-Session-Sign-In` names a subject, `X-Session-Sign-Out` ends a session. Both count only where the file lets this
//! application say so (upstream and path of an entry), in the final answer to an unsafe request that a page of the same
//! origin sent, once, and fresh from the application. The sign-in repeats the `X-Request-Id` of its own request, 128 random
//! bits that no client chooses: what was stored, cached or injected elsewhere names another. Everything that does not count
//! has a reason, for the audit log; the visitor sees neither header nor reason.

use crate::auth::claims;
use crate::auth::json;
use crate::auth::upstream_way::UpstreamWay;
use crate::auth::users::NAME_BYTES_MAX;
use crate::domain::fold::Guard;
use crate::domain::identity::{ClaimValue, Claims, EMAIL, GROUPS, Identity, SOURCE, SUBJECT};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::AGE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Names who signs in.
pub const SIGN_IN: HeaderName = HeaderName::from_static("x-session-sign-in");
/// Ends the session: `this` or `everywhere`.
pub const SIGN_OUT: HeaderName = HeaderName::from_static("x-session-sign-out");

/// A longer sign-in is not read.
pub const SIGN_IN_BYTES_MAX: usize = 8 * 1024;

/// The headers in every spelling that some reader takes for them.
static SPELLINGS: LazyLock<[Guard; 2]> =
    LazyLock::new(|| [SIGN_IN, SIGN_OUT].map(|name| Guard::new([&name])));

/// An answer of an application, and what is known of its request.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// The entry whose place this is; none where no entry names this upstream and path.
    pub place: Option<&'a UpstreamWay>,
    /// The request's method.
    pub method: &'a Method,
    /// A page of the same origin sent the request ([`crate::domain::origin::is_own_form`]).
    pub own_form: bool,
    /// The `X-Request-Id` that the application was sent.
    pub request_id: &'a [u8],
    /// The answer's status.
    pub status: StatusCode,
    /// The answer's fields.
    pub headers: &'a HeaderMap,
}

/// What the application said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This subject is signed in from now on.
    SignIn(Identity),
    /// The session ends; `everywhere`: all of its subject.
    SignOut {
        /// Not only this one.
        everywhere: bool,
    },
}

/// Why nothing that was said counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// In a 1xx, which anything on the way may add, or in a switch of protocols.
    Interim,
    /// Not the upstream or not the path of an entry.
    Elsewhere,
    /// In the answer to a request that changes nothing.
    SafeMethod,
    /// A page of another site sent the request, or nobody can tell.
    Foreign,
    /// A sign-in and a sign-out in one answer.
    Both,
    /// Several fields, or one in another spelling: another reader may see another one.
    Twice,
    /// The answer was stored somewhere.
    Aged,
    /// Longer than [`SIGN_IN_BYTES_MAX`].
    TooLong,
    /// Not what is to be written.
    Malformed,
    /// It repeats another request's id.
    OtherRequest,
    /// The subject is empty, too long or has control characters.
    Subject,
    /// The claims are more than a session holds.
    Claims,
}

impl Ignored {
    /// A word for the audit log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Interim => "interim",
            Self::Elsewhere => "elsewhere",
            Self::SafeMethod => "safe_method",
            Self::Foreign => "foreign",
            Self::Both => "both",
            Self::Twice => "twice",
            Self::Aged => "aged",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::OtherRequest => "other_request",
            Self::Subject => "subject",
            Self::Claims => "claims",
        }
    }
}

/// Whether an answer has one of the two headers in any spelling; most have none.
pub fn says_something(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| SPELLINGS.iter().any(|guard| guard.covers(name)))
}

/// Judges an answer that [`says_something`].
///
/// # Errors
///
/// Why it does not count.
pub fn judge(answered: &Answered<'_>) -> Result<Said, Ignored> {
    let Answered { status, method, headers, .. } = *answered;
    if status.is_informational() {
        return Err(Ignored::Interim);
    }
    let place = answered.place.ok_or(Ignored::Elsewhere)?;
    if method.is_safe() {
        return Err(Ignored::SafeMethod);
    }
    if !answered.own_form {
        return Err(Ignored::Foreign);
    }
    let signs_in = the_one(headers, &SIGN_IN, &SPELLINGS[0])?;
    let signs_out = the_one(headers, &SIGN_OUT, &SPELLINGS[1])?;
    if headers.contains_key(AGE) {
        return Err(Ignored::Aged);
    }
    match (signs_in, signs_out.map(HeaderValue::as_bytes)) {
        (Some(_), Some(_)) => Err(Ignored::Both),
        (Some(said), None) => sign_in(said.as_bytes(), place, answered.request_id).map(Said::SignIn),
        (None, Some(b"this")) => Ok(Said::SignOut { everywhere: false }),
        (None, Some(b"everywhere")) => Ok(Said::SignOut { everywhere: true }),
        (None, _) => Err(Ignored::Malformed),
    }
}

/// The only field of this name; another beside it, or another spelling, makes it worthless.
fn the_one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    spellings: &Guard,
) -> Result<Option<&'a HeaderValue>, Ignored> {
    let mut found = headers.iter().filter(|(held, _)| spellings.covers(held));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some((held, value)), None) if held == name => Ok(Some(value)),
        _ => Err(Ignored::Twice),
    }
}

fn sign_in(text: &[u8], place: &UpstreamWay, request_id: &[u8]) -> Result<Identity, Ignored> {
    if text.len() > SIGN_IN_BYTES_MAX {
        return Err(Ignored::TooLong);
    }
    let mut said = json::object(text).map_err(|_| Ignored::Malformed)?;
    let Some(Value::String(repeated)) = said.remove("request") else { return Err(Ignored::Malformed) };
    if verify_slices_are_equal(repeated.as_bytes(), request_id).is_err() {
        return Err(Ignored::OtherRequest);
    }
    let Some(Value::String(subject)) = said.remove("subject") else { return Err(Ignored::Malformed) };
    if subject.is_empty() || subject.len() > NAME_BYTES_MAX || subject.chars().any(char::is_control) {
        return Err(Ignored::Subject);
    }
    let mut claims = match said.remove("claims") {
        None | Some(Value::Null) => Claims::new(),
        Some(Value::Object(claims)) => claims_of(&claims)?,
        Some(_) => return Err(Ignored::Malformed),
    };
    let groups = match said.remove("groups") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(groups)) => groups_of(groups, place)?,
        Some(_) => return Err(Ignored::Malformed),
    };
    if !said.is_empty() {
        return Err(Ignored::Malformed);
    }
    claims.insert(GROUPS.to_owned(), ClaimValue::List(groups));
    Identity::new(&subject, &place.settings().source, &claims).map_err(|_| Ignored::Claims)
}

/// The groups that the entry lists, each once.
fn groups_of(said: Vec<Value>, place: &UpstreamWay) -> Result<Vec<String>, Ignored> {
    let mut groups = Vec::new();
    for group in said {
        let Value::String(group) = group else { return Err(Ignored::Malformed) };
        if place.grants(&group) && !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

fn claims_of(said: &Map<String, Value>) -> Result<Claims, Ignored> {
    let mut claims = Claims::new();
    for (name, value) in said {
        // Groups stand beside the claims, where they are compared with the entry's list.
        let is_taken = matches!(&**name, SUBJECT | SOURCE | GROUPS | "");
        if is_taken || name.len() > 255 {
            return Err(Ignored::Malformed);
        }
        if value.is_null() {
            continue;
        }
        if name == EMAIL && !value.as_str().is_some_and(|email| email.contains('@')) {
            return Err(Ignored::Malformed);
        }
        claims.insert(name.clone(), claims::plain(value).ok_or(Ignored::Malformed)?);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{SignInKind, SignInSettings, UpstreamSignIn};
    use crate::domain::access::EntryId;
    use proptest::prelude::*;

    const REQUEST: &str = "4f1d2c3b4a5968778695a4b3c2d1e0ff";

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        headers
    }

    static FORUM: LazyLock<UpstreamWay> = LazyLock::new(|| {
        let asked = UpstreamSignIn {
            upstream: "forum".into(),
            paths: Vec::new(),
            groups: vec!["member".into(), "editor".into()],
        };
        let kind = SignInKind::Upstream(asked.clone());
        let settings = SignInSettings { name: "forum".into(), id: EntryId(1), source: "forum".into(), kind };
        UpstreamWay::new(settings, asked, 0, false)
    });

    /// The usual good answer, changed by `change`.
    fn judged<'a>(fields: &'a HeaderMap, change: impl FnOnce(&mut Answered<'a>)) -> Result<Said, Ignored> {
        let mut answered = Answered {
            place: Some(&FORUM),
            method: &Method::POST,
            own_form: true,
            request_id: REQUEST.as_bytes(),
            status: StatusCode::OK,
            headers: fields,
        };
        change(&mut answered);
        judge(&answered)
    }

    fn said(json: &str) -> Result<Said, Ignored> {
        judged(&fields(&[("x-session-sign-in", &json.replace("REQUEST", REQUEST))]), |_| {})
    }

    fn alice() -> String {
        format!(r#"{{"request":"{REQUEST}","subject":"alice"}}"#)
    }

    #[test]
    fn a_sign_in_names_subject_groups_and_claims() {
        let told = said(
            r#"{"request":"REQUEST","subject":"Zoë","groups":["member","admin","member"],
            "claims":{"email":"z@example.com","level":3,"tags":["a,b","c"],"gone":null,"ok":true}}"#
                .replace('\n', " ")
                .as_str(),
        );
        let Ok(Said::SignIn(identity)) = told else { panic!("{told:?}") };
        let identity = identity.as_ref();
        assert_eq!((identity.subject(), identity.source()), ("Zo%C3%AB", "forum"));
        for (claim, expected) in [
            ("groups", Some("member")),
            ("email", Some("z@example.com")),
            ("level", Some("3")),
            ("tags", Some("a%2Cb,c")),
            ("ok", Some("true")),
            ("gone", None),
            ("request", None),
        ] {
            assert_eq!(
                identity.claim(claim).map(crate::domain::identity::Claim::header_form),
                expected,
                "{claim}"
            );
        }
        assert!(said(r#"{"request":"REQUEST","subject":"alice","groups":null,"claims":null}"#).is_ok());
    }

    #[test]
    fn what_is_not_written_as_it_should_be_does_not_count() {
        use Ignored::{Claims, Malformed, OtherRequest, Subject};
        let long = format!(r#"{{"request":"REQUEST","subject":"{}"}}"#, "a".repeat(257));
        let many = format!(
            r#"{{"request":"REQUEST","subject":"alice","claims":{{"a":"{0}","b":"{0}"}}}}"#,
            "\u{e9}".repeat(1700)
        );
        for (json, reason) in [
            ("", Malformed),
            ("alice", Malformed),
            ("[]", Malformed),
            (r#"{"request":"REQUEST"}"#, Malformed),
            (r#"{"subject":"alice"}"#, Malformed),
            (r#"{"request":null,"subject":"alice"}"#, Malformed),
            (r#"{"request":"","subject":"alice"}"#, OtherRequest),
            (r#"{"request":"4f1d2c3b4a5968778695a4b3c2d1e0fe","subject":"alice"}"#, OtherRequest),
            (r#"{"request":"REQUESTx","subject":"alice"}"#, OtherRequest),
            (r#"{"request":"REQUEST","request":"REQUEST","subject":"alice"}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","subject":"root"}"#, Malformed),
            (r#"{"request":"REQUEST","subject":7}"#, Malformed),
            (r#"{"request":"REQUEST","subject":""}"#, Subject),
            (r#"{"request":"REQUEST","subject":"a\u0000b"}"#, Subject),
            (&long, Subject),
            (r#"{"request":"REQUEST","subject":"alice","source":"local"}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","groups":"member"}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","groups":[1]}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":[]}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"groups":["admin"]}}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"subject":"root"}}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"source":"local"}}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"":"x"}}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"email":"nowhere"}}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"email":["a@b"]}}"#, Malformed),
            (r#"{"request":"REQUEST","subject":"alice","claims":{"deep":{"a":1}}}"#, Malformed),
            (&many, Claims),
        ] {
            assert_eq!(said(json), Err(reason), "{json}");
        }
        let padded = format!("{}{}", alice(), " ".repeat(SIGN_IN_BYTES_MAX));
        assert_eq!(judged(&fields(&[("x-session-sign-in", &padded)]), |_| {}), Err(Ignored::TooLong));
    }

    #[test]
    fn a_sign_in_counts_in_its_place_alone() {
        let headers = fields(&[("x-session-sign-in", &alice())]);
        assert!(judged(&headers, |_| {}).is_ok());
        for status in [100, 101, 102, 103] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(judged(&headers, |it| it.status = status), Err(Ignored::Interim), "{status}");
        }
        for status in [200, 204, 303, 403, 500] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(judged(&headers, |it| it.status = status).is_ok(), "{status}");
        }
        assert_eq!(judged(&headers, |it| it.place = None), Err(Ignored::Elsewhere));
        assert_eq!(judged(&headers, |it| it.own_form = false), Err(Ignored::Foreign));
        for method in &[Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert_eq!(judged(&headers, |it| it.method = method), Err(Ignored::SafeMethod), "{method}");
        }
        for method in &[Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(judged(&headers, |it| it.method = method).is_ok(), "{method}");
        }
    }

    #[test]
    fn a_header_counts_once_and_fresh() {
        let alice = alice();
        for (spelled, reason) in [
            (vec![("x-session-sign-in", &*alice), ("x-session-sign-in", &*alice)], Ignored::Twice),
            (vec![("x-session-sign-in", &alice), ("x_session_sign_in", &alice)], Ignored::Twice),
            (vec![("x-session-sign-in", &alice), ("x.session.sign-in", "")], Ignored::Twice),
            (vec![("x_session_sign_in", &alice)], Ignored::Twice),
            (vec![("-x-sessionsignin", &alice)], Ignored::Twice),
            (vec![("x-session-sign-in", &alice), ("age", "0")], Ignored::Aged),
            (vec![("x-session-sign-out", "this"), ("age", "0")], Ignored::Aged),
            (vec![("x-session-sign-in", &alice), ("x-session-sign-out", "this")], Ignored::Both),
            (vec![("x-session-sign-out", "this"), ("x-session-sign-out", "this")], Ignored::Twice),
            (vec![("x-session-sign-out", "this"), ("x_session_sign_out", "this")], Ignored::Twice),
            (vec![("x-session-sign-out", "This")], Ignored::Malformed),
            (vec![("x-session-sign-out", "this, everywhere")], Ignored::Malformed),
            (vec![("x-session-sign-out", "")], Ignored::Malformed),
        ] {
            let headers = fields(&spelled);
            assert!(says_something(&headers), "{spelled:?}");
            assert_eq!(judged(&headers, |_| {}), Err(reason), "{spelled:?}");
        }
        for (value, everywhere) in [("this", false), ("everywhere", true)] {
            let headers = fields(&[("x-session-sign-out", value)]);
            assert_eq!(judged(&headers, |_| {}), Ok(Said::SignOut { everywhere }));
        }
        for silent in ["x-session-data", "x-session", "session-sign-in", "x-session-sign-ins", "set-cookie"] {
            assert!(!says_something(&fields(&[(silent, &alice)])), "{silent}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_judge_panic_or_believe(text in r#"[\[\]{}:,"a-z0-9 \\]{0,60}"#) {
            prop_assert!(said(&text).is_err());
        }

        #[test]
        fn no_group_that_is_not_listed_gets_through(group in "[a-z]{1,8}") {
            let told = said(&format!(r#"{{"request":"REQUEST","subject":"a","groups":["{group}"]}}"#));
            let Ok(Said::SignIn(identity)) = told else { panic!("{told:?}") };
            let given = identity.as_ref().claim(GROUPS).is_some();
            prop_assert_eq!(given, FORUM.grants(&group));
        }
    }
}
