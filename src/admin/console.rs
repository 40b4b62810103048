//! The console: one page that lists sessions and ends them. It works without JavaScript.

use super::Reply;
use super::answer::{self, Answer, empty, problem};
use super::api::{self, View};
use super::query::{FILTERS, Query};
use super::{Control, ServerState};
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::store::journal::Commit;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

/// The page's template; the name's ending switches escaping on.
static PAGES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut pages = Environment::new();
    pages.add_template("console.html", include_str!("console.html")).expect("the built-in template parses");
    pages
});

/// What the template names.
#[derive(Serialize)]
struct Page {
    sessions: Vec<View>,
    /// The query of this page, and of the next.
    query: String,
    next: Option<String>,
    /// The filters as they were given.
    given: BTreeMap<&'static str, String>,
    state: ServerState,
    live: usize,
    anonymous_live: usize,
}

/// `GET /`.
pub(super) fn page(control: &dyn Control, query: &str, now: Timestamp) -> Answer {
    let query = match parse(query) {
        Ok(query) => query,
        Err(answer) => return *answer,
    };
    let (sessions, next) = api::page(control, &query, now);
    let page = Page {
        sessions,
        query: query.again(query.cursor),
        next: next.map(|next| query.again(Some(next))),
        given: FILTERS.into_iter().map(|name| (name, query.given(name).to_owned())).collect(),
        state: control.state(),
        live: control.sessions().live(),
        anonymous_live: control.sessions().anonymous_live(),
    };
    let html = PAGES
        .get_template("console.html")
        .and_then(|template| template.render(Serde(&page)))
        .expect("the built-in template is given all it names");
    answer::page(StatusCode::OK, html)
}

fn parse(query: &str) -> Result<Query, Box<Answer>> {
    Query::parse(query, &[&FILTERS[..], &["cursor"]].concat())
}

/// `POST /`: the button of one row. Then the same page again.
pub(super) fn form(
    control: &dyn Control,
    query: &str,
    body: &[u8],
    client: Option<IpAddr>,
    now: Timestamp,
) -> Reply {
    let query = match parse(query) {
        Ok(query) => query,
        Err(answer) => return (*answer).into(),
    };
    let mut fields = form_urlencoded::parse(body);
    let id: Option<SessionId> = match (fields.next(), fields.next()) {
        (Some((name, value)), None) if name == "end" => value.parse().ok(),
        _ => None,
    };
    let Some(id) = id else {
        return problem(StatusCode::BAD_REQUEST, "the form names no session; reload the console page").into();
    };
    // Whether it was still there makes no difference to the page that follows.
    let commit = api::end_one(control, id, client, now).unwrap_or_else(Commit::ready);
    let mut answer = empty(StatusCode::SEE_OTHER);
    let again = query.again(query.cursor);
    let location = if again.is_empty() { "/".to_owned() } else { format!("/?{again}") };
    let location = HeaderValue::try_from(location).expect("a serialised query is ASCII");
    answer.headers_mut().insert(LOCATION, location);
    Reply { commit, ..answer.into() }
}
