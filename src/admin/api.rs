//! The session API: list, show, open, end. Subjects and sources are plain text here; the table keeps header form.

use super::answer::{Answer, empty, full, json, problem};
use super::{Control, OpenError, OpenRequest};
use crate::domain::identity::{ClaimValue, Claims, EMAIL, GROUPS, SOURCE, SUBJECT, decode, encode_text};
use crate::domain::session::{End, Lifetimes, Session, SessionId, State};
use crate::domain::time::Timestamp;
use crate::store::table::Filter;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Sessions of one page where the caller names no number.
const PAGE_DEFAULT: usize = 100;
/// The longest page.
pub(super) const PAGE_MAX: usize = 500;

/// One session as the API shows it.
#[derive(Serialize)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) source: String,
    pub(super) sign_in: String,
    pub(super) started_at: Timestamp,
    pub(super) last_used_at: Timestamp,
    pub(super) idle_until: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) client: Client,
}

#[derive(Serialize)]
pub(super) struct Client {
    pub(super) address: String,
    pub(super) user_agent: String,
}

impl View {
    pub(super) fn of(session: &Session, lifetimes: &Lifetimes) -> Self {
        Self {
            id: session.id().to_string(),
            subject: decode(session.identity().subject()),
            source: decode(session.identity().source()),
            sign_in: session.sign_in().to_owned(),
            started_at: session.opened_at(),
            last_used_at: session.last_used_at(),
            idle_until: session.idle_until(lifetimes),
            ends_at: session.ends_at(lifetimes),
            client: Client {
                address: session.client_address().to_owned(),
                user_agent: session.user_agent().to_owned(),
            },
        }
    }
}

/// What a query may say.
#[derive(Default)]
pub(super) struct Query {
    pub(super) subject: Option<String>,
    pub(super) source: Option<String>,
    pub(super) cursor: Option<SessionId>,
    pub(super) limit: Option<usize>,
}

impl Query {
    /// Reads a query; `known` are the names that the call understands. A name that it does not is refused:
    /// `DELETE /sessions?subjct=alice` must not end everybody's.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, Box<Answer>> {
        let bad = |detail: String| Box::new(problem(StatusCode::BAD_REQUEST, &detail));
        let mut parsed = Self::default();
        let mut seen = BTreeSet::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                return Err(bad(format!(
                    "`{name}` is no parameter of this call; it takes {}",
                    known.join(", ")
                )));
            }
            if !seen.insert(name.to_string()) {
                return Err(bad(format!("`{name}` comes twice; send it once")));
            }
            // A form sends the fields that nobody filled in too.
            if value.is_empty() {
                continue;
            }
            match &*name {
                "subject" => parsed.subject = Some(encode_text(&value)),
                "source" => parsed.source = Some(encode_text(&value)),
                "cursor" => {
                    let cursor = value.parse().map_err(|_| {
                        bad("`cursor` is none of ours; send `next` of the page before".to_owned())
                    })?;
                    parsed.cursor = Some(cursor);
                }
                _ => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                    parsed.limit =
                        Some(limit.ok_or_else(|| bad(format!("`limit` is a number from 1 to {PAGE_MAX}")))?);
                }
            }
        }
        Ok(parsed)
    }

    fn filter(&self) -> Filter<'_> {
        Filter { subject: self.subject.as_deref(), source: self.source.as_deref() }
    }
}

/// One page of live sessions, and where the next one starts.
pub(super) fn page(control: &dyn Control, query: &Query, now: Timestamp) -> (Vec<View>, Option<SessionId>) {
    let table = control.sessions();
    let lifetimes = table.lifetimes();
    let (sessions, next) = table.list(query.filter(), query.cursor, query.limit.unwrap_or(PAGE_DEFAULT));
    let live = sessions.iter().filter(|session| session.state(now, &lifetimes) == State::Live);
    (live.map(|session| View::of(session, &lifetimes)).collect(), next)
}

/// `GET /sessions`.
pub(super) fn list(control: &dyn Control, query: &str, now: Timestamp) -> Answer {
    let query = match Query::parse(query, &["subject", "source", "cursor", "limit"]) {
        Ok(query) => query,
        Err(answer) => return *answer,
    };
    let (sessions, next) = page(control, &query, now);
    let next = next.map(|id| id.to_string());
    json(StatusCode::OK, &serde_json::json!({ "sessions": sessions, "next": next }))
}

/// `GET /sessions/ID`.
pub(super) fn show(control: &dyn Control, id: SessionId, now: Timestamp) -> Answer {
    let table = control.sessions();
    match table.find_by_id(&id, now) {
        Some(session) => json(StatusCode::OK, &View::of(&session, &table.lifetimes())),
        None => no_session(),
    }
}

/// Ends one session; tells whether there was one.
pub(super) fn end_one(control: &dyn Control, id: SessionId, client: Option<IpAddr>, now: Timestamp) -> bool {
    let table = control.sessions();
    // One whose deadline has passed ended by that, and is not ours to end any more.
    let Some(session) = table.find_by_id(&id, now).and_then(|_| table.end_by_id(&id, End::Revoked)) else {
        return false;
    };
    control.ended(&[session], End::Revoked, client);
    true
}

/// `DELETE /sessions/ID`.
pub(super) fn end(control: &dyn Control, id: SessionId, client: Option<IpAddr>, now: Timestamp) -> Answer {
    if end_one(control, id, client, now) { empty(StatusCode::NO_CONTENT) } else { no_session() }
}

/// `DELETE /sessions?subject=…`: all of a subject's, in one source or in all.
pub(super) fn end_subject(control: &dyn Control, query: &str, client: Option<IpAddr>) -> Answer {
    let query = match Query::parse(query, &["subject", "source"]) {
        Ok(query) => query,
        Err(answer) => return *answer,
    };
    let Some(subject) = &query.subject else {
        return problem(
            StatusCode::BAD_REQUEST,
            "say whose: `?subject=alice`, and `&source=` for one source alone",
        );
    };
    let table = control.sessions();
    let sources = match &query.source {
        Some(source) => BTreeSet::from([source.clone()]),
        None => sources_of(control, &query),
    };
    let ended: Vec<Session> =
        sources.iter().flat_map(|source| table.end_subject(source, subject, End::Revoked)).collect();
    control.ended(&ended, End::Revoked, client);
    json(StatusCode::OK, &serde_json::json!({ "ended": ended.len() }))
}

/// The sources in which the query's subject has sessions.
fn sources_of(control: &dyn Control, query: &Query) -> BTreeSet<String> {
    let mut sources = BTreeSet::new();
    let mut cursor = None;
    loop {
        let (sessions, next) = control.sessions().list(query.filter(), cursor, PAGE_MAX);
        sources.extend(sessions.iter().map(|session| session.identity().source().to_owned()));
        if next.is_none() {
            return sources;
        }
        cursor = next;
    }
}

/// The body of `POST /sessions`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    subject: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    claims: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    sign_in: Option<String>,
    #[serde(default)]
    host: Option<String>,
}

impl Body {
    fn into_request(self, client: Option<IpAddr>) -> Result<OpenRequest, String> {
        if self.subject.is_empty() {
            return Err("`subject` is empty; say whose session it is".to_owned());
        }
        let mut claims = Claims::new();
        for (name, value) in self.claims {
            if [SUBJECT, SOURCE, EMAIL, GROUPS].contains(&name.as_str()) {
                return Err(format!(
                    "`claims.{name}` has a place of its own; write it beside `claims`, or leave it out"
                ));
            }
            let Some(value) = claim(value) else {
                return Err(format!(
                    "`claims.{name}` is a string, a number, true, false, or a list of strings"
                ));
            };
            claims.insert(name, value);
        }
        claims.extend(self.email.map(|email| (EMAIL.to_owned(), ClaimValue::Text(email))));
        claims.extend(self.groups.map(|groups| (GROUPS.to_owned(), ClaimValue::List(groups))));
        Ok(OpenRequest { subject: self.subject, claims, sign_in: self.sign_in, host: self.host, client })
    }
}

fn claim(value: serde_json::Value) -> Option<ClaimValue> {
    use serde_json::Value;
    match value {
        Value::String(text) => Some(ClaimValue::Text(text)),
        Value::Number(number) => Some(ClaimValue::Number(number.to_string())),
        Value::Bool(value) => Some(ClaimValue::Bool(value)),
        Value::Array(items) => {
            let texts = items.into_iter().map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            });
            texts.collect::<Option<_>>().map(ClaimValue::List)
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// The answer to `POST /sessions`.
#[derive(Serialize)]
struct OpenedView<'a> {
    #[serde(flatten)]
    session: View,
    cookie: CookieView<'a>,
}

#[derive(Serialize)]
struct CookieView<'a> {
    name: &'a str,
    value: &'a str,
}

/// `POST /sessions`.
pub(super) fn open(control: &dyn Control, body: &[u8], client: Option<IpAddr>, now: Timestamp) -> Answer {
    let request = serde_json::from_slice::<Body>(body)
        .map_err(|cause| format!("the body is not the JSON of this call: {cause}"))
        .and_then(|body| body.into_request(client));
    let request = match request {
        Ok(request) => request,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, &detail),
    };
    let opened = match control.open_session(request, now) {
        Ok(opened) => opened,
        Err(error @ OpenError::Unfit(_)) => {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        }
        Err(error @ OpenError::Full) => return full(&error.to_string()),
    };
    let session = View::of(&opened.session, &control.sessions().lifetimes());
    let location = HeaderValue::try_from(format!("/sessions/{}", session.id)).expect("an id is base64url");
    // The one place where the value of a cookie is shown: the caller holds the admin token and asked for it.
    let cookie = CookieView { name: &opened.cookie_name, value: opened.cookie_value.expose() };
    let mut answer = json(StatusCode::CREATED, &OpenedView { session, cookie });
    answer.headers_mut().insert(http::header::LOCATION, location);
    answer
}

/// What came of `POST /reload`.
pub(super) fn reloaded(result: Result<String, String>) -> Answer {
    match result {
        Ok(message) => json(StatusCode::OK, &serde_json::json!({ "message": message })),
        Err(problems) => problem(StatusCode::UNPROCESSABLE_ENTITY, &problems),
    }
}

fn no_session() -> Answer {
    problem(StatusCode::NOT_FOUND, "there is no live session of this id")
}
