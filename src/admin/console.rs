//! The console: one page that lists sessions and ends them. It works without JavaScript.

use super::answer::{self, Answer, empty, problem};
use super::api::{self, Query, View};
use super::{Control, ServerState};
use crate::domain::identity::decode;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use http::StatusCode;
use http::header::LOCATION;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
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
    /// The query of the next page.
    next: Option<String>,
    subject: String,
    source: String,
    state: ServerState,
    live: usize,
}

/// `GET /`.
pub(super) fn page(control: &dyn Control, query: &str, now: Timestamp) -> Answer {
    let query = match Query::parse(query, &["subject", "source", "cursor"]) {
        Ok(query) => query,
        Err(answer) => return *answer,
    };
    let subject = query.subject.as_deref().map(decode).unwrap_or_default();
    let source = query.source.as_deref().map(decode).unwrap_or_default();
    let (sessions, next) = api::page(control, &query, now);
    let next = next.map(|next| {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("subject", &subject)
            .append_pair("source", &source)
            .append_pair("cursor", &next.to_string())
            .finish()
    });
    let page =
        Page { sessions, next, subject, source, state: control.state(), live: control.sessions().live() };
    let html = PAGES
        .get_template("console.html")
        .and_then(|template| template.render(Serde(&page)))
        .expect("the built-in template is given all it names");
    answer::page(StatusCode::OK, html)
}

/// `POST /`: the button of one row.
pub(super) fn form(control: &dyn Control, body: &[u8], client: Option<IpAddr>, now: Timestamp) -> Answer {
    let mut fields = form_urlencoded::parse(body);
    let id: Option<SessionId> = match (fields.next(), fields.next()) {
        (Some((name, value)), None) if name == "end" => value.parse().ok(),
        _ => None,
    };
    let Some(id) = id else {
        return problem(StatusCode::BAD_REQUEST, "the form names no session; reload the console page");
    };
    // Whether it was still there makes no difference to the page that follows.
    api::end_one(control, id, client, now);
    let mut answer = empty(StatusCode::SEE_OTHER);
    answer::set(&mut answer, LOCATION, "/");
    answer
}
