//! The session API: list, show, open, end. Subjects and sources are plain text here; the table keeps header form.

use super::answer::{Answer, empty, full, json, problem, unavailable};
use super::query::{FILTERS, PAGING, Query};
use super::{Control, OpenError, OpenRequest, Reply};
use crate::domain::identity::{ClaimValue, Claims, EMAIL, GROUPS, SOURCE, SUBJECT, decode};
use crate::domain::session::{Clocks, End, Kind, Session, SessionId, State};
use crate::domain::time::Timestamp;
use crate::store::journal::Commit;
use crate::store::table::Ended;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Sessions of one page where the caller names no number.
const PAGE_DEFAULT: usize = 100;

/// One session as the API shows it. An anonymous one has no subject, source or way: these are empty.
#[derive(Serialize)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) subject: String,
    pub(super) source: String,
    pub(super) sign_in: String,
    pub(super) remembered: bool,
    pub(super) anonymous: bool,
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
    pub(super) fn of(session: &Session, clocks: &Clocks) -> Self {
        Self {
            id: session.id().to_string(),
            subject: decode(session.identity().subject()),
            source: decode(session.identity().source()),
            sign_in: session.sign_in().to_owned(),
            remembered: session.kind() == Kind::Remembered,
            anonymous: session.is_anonymous(),
            started_at: session.opened_at(),
            last_used_at: session.last_used_at(),
            idle_until: session.idle_until(clocks),
            ends_at: session.ends_at(clocks),
            client: Client {
                address: session.client_address().to_owned(),
                user_agent: session.user_agent().to_owned(),
            },
        }
    }
}

/// One page of live sessions, and where the next one starts.
pub(super) fn page(control: &dyn Control, query: &Query, now: Timestamp) -> (Vec<View>, Option<SessionId>) {
    let table = control.sessions();
    let clocks = table.clocks();
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    let (sessions, next) = table.list(query.filter(), query.cursor, limit, now);
    let live = sessions.iter().filter(|session| session.state(now, &clocks) == State::Live);
    (live.map(|session| View::of(session, &clocks)).collect(), next)
}

/// `GET /sessions`.
pub(super) fn list(control: &dyn Control, query: &str, now: Timestamp) -> Answer {
    let query = match Query::parse(query, &[&FILTERS[..], &PAGING].concat()) {
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
        Some(session) => json(StatusCode::OK, &View::of(&session, &table.clocks())),
        None => no_session(),
    }
}

/// Ends one session, if there is one that lives.
pub(super) fn end_one(
    control: &dyn Control,
    id: SessionId,
    client: Option<IpAddr>,
    now: Timestamp,
) -> Option<Commit> {
    let table = control.sessions();
    // One whose deadline has passed ended by that, and is not ours to end any more.
    table.find_by_id(&id, now)?;
    let Ended { sessions, commit } = table.end_by_id(&id, End::Revoked);
    control.ended(&sessions, End::Revoked, client);
    (!sessions.is_empty()).then_some(commit)
}

/// `DELETE /sessions/ID`.
pub(super) fn end(control: &dyn Control, id: SessionId, client: Option<IpAddr>, now: Timestamp) -> Reply {
    match end_one(control, id, client, now) {
        Some(commit) => Reply { commit, ..empty(StatusCode::NO_CONTENT).into() },
        None => no_session().into(),
    }
}

/// `DELETE /sessions?…`: all that the filters name; at least one filter must say which.
pub(super) fn end_where(control: &dyn Control, text: &str, client: Option<IpAddr>, now: Timestamp) -> Reply {
    let query = match Query::parse(text, &FILTERS) {
        Ok(query) => query,
        Err(answer) => return (*answer).into(),
    };
    // A script whose variable is unset must not end the sessions of everybody else's choice.
    if let Some((name, _)) = form_urlencoded::parse(text.as_bytes()).find(|(_, value)| value.is_empty()) {
        let detail = format!("`{name}` is empty; give it a value, or leave it out");
        return problem(StatusCode::BAD_REQUEST, &detail).into();
    }
    if query.names_nobody() {
        let detail = format!("say which, with at least one of {}", FILTERS.join(", "));
        return problem(StatusCode::BAD_REQUEST, &detail).into();
    }
    let Ended { sessions, commit } = control.sessions().end_where(&query.filter(), End::Revoked, now);
    control.ended(&sessions, End::Revoked, client);
    Reply { commit, ..json(StatusCode::OK, &serde_json::json!({ "ended": sessions.len() })).into() }
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
    #[serde(default)]
    remember_me: bool,
}

impl Body {
    fn into_request(self, client: Option<IpAddr>) -> Result<OpenRequest, String> {
        if self.subject.is_empty() {
            return Err("`subject` is empty; say whose session it is".to_owned());
        }
        let claims = claims(self.claims, self.email, self.groups)?;
        Ok(OpenRequest {
            subject: self.subject,
            claims,
            sign_in: self.sign_in,
            host: self.host,
            remember_me: self.remember_me,
            client,
        })
    }
}

/// What a body says of somebody besides the subject; an error names what is no claim.
pub(super) fn claims(
    further: serde_json::Map<String, serde_json::Value>,
    email: Option<String>,
    groups: Option<Vec<String>>,
) -> Result<Claims, String> {
    let mut claims = Claims::new();
    for (name, value) in further {
        if [SUBJECT, SOURCE, EMAIL, GROUPS].contains(&name.as_str()) {
            return Err(format!(
                "`claims.{name}` has a place of its own; write it beside `claims`, or leave it out"
            ));
        }
        let Some(value) = claim(value) else {
            return Err(format!("`claims.{name}` is a string, a number, true, false, or a list of strings"));
        };
        claims.insert(name, value);
    }
    claims.extend(email.map(|email| (EMAIL.to_owned(), ClaimValue::Text(email))));
    claims.extend(groups.map(|groups| (GROUPS.to_owned(), ClaimValue::List(groups))));
    Ok(claims)
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
pub(super) fn open(control: &dyn Control, body: &[u8], client: Option<IpAddr>, now: Timestamp) -> Reply {
    let request = serde_json::from_slice::<Body>(body)
        .map_err(|cause| format!("the body is not the JSON of this call: {cause}"))
        .and_then(|body| body.into_request(client));
    let request = match request {
        Ok(request) => request,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, &detail).into(),
    };
    let opened = match control.open_session(request, now) {
        Ok(opened) => opened,
        Err(error @ OpenError::Unfit(_)) => {
            return problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()).into();
        }
        Err(error @ OpenError::Unavailable) => return unavailable(&error.to_string()).into(),
        Err(error @ OpenError::Full) => return full(&error.to_string()).into(),
        Err(error @ OpenError::SubjectFull) => {
            return problem(StatusCode::CONFLICT, &error.to_string()).into();
        }
    };
    let session = View::of(&opened.session, &control.sessions().clocks());
    let location = HeaderValue::try_from(format!("/sessions/{}", session.id)).expect("an id is base64url");
    // The one place where the value of a cookie is shown: the caller holds the admin token and asked for it.
    let cookie = CookieView { name: &opened.cookie_name, value: opened.cookie_value.expose() };
    let mut answer = json(StatusCode::CREATED, &OpenedView { session, cookie });
    answer.headers_mut().insert(http::header::LOCATION, location);
    Reply { answer, commit: opened.commit, further: Vec::new(), opened: Some(opened.session) }
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
