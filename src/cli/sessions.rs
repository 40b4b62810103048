//! `sessions list`, `show` and `end`, through the admin address; `end --offline` is in `offline.rs`.

use super::{AdminArgs, EndArgs, Failure, FilterArgs, ListArgs, SessionsCommand, ShowArgs, offline, print};
use crate::admin::client::{Client, Reply};
use crate::config;
use crate::domain::secret::Secret;
use crate::net::Address;
use serde_json::Value;
use std::fmt::Write;

/// Sessions of one call; the API's longest page.
const PAGE: usize = 500;

pub(super) fn sessions(command: &SessionsCommand) -> Result<(), Failure> {
    match command {
        SessionsCommand::List(args) => list(args),
        SessionsCommand::Show(args) => show(args),
        SessionsCommand::End(args) => end(args),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let client = connect(&args.admin)?;
    let mut sessions = Vec::new();
    let mut cursor = None;
    while sessions.len() < args.limit {
        let limit = PAGE.min(args.limit - sessions.len()).to_string();
        let target = target(&args.filters, &[("limit", Some(&limit)), ("cursor", cursor.as_deref())]);
        let mut page = expect(&call(&client, "GET", &target)?, 200)?;
        match page["sessions"].take() {
            Value::Array(page) => sessions.extend(page),
            _ => return Err(Failure::failed("the admin address answered without a list of sessions")),
        }
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    if args.json {
        print(&sessions.iter().fold(String::new(), |text, session| text + &session.to_string() + "\n"))?;
    } else {
        print(&table(&sessions))?;
    }
    if cursor.is_some() {
        eprintln!("there are more than {}; filter them (--subject …), or raise --limit", args.limit);
    }
    Ok(())
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let client = connect(&args.admin)?;
    let session = expect(&call(&client, "GET", &one(&args.id)?)?, 200)?;
    print(&if args.json { format!("{session}\n") } else { details(&session) })
}

fn end(args: &EndArgs) -> Result<(), Failure> {
    if args.offline {
        return offline::end(args);
    }
    let client = connect(&args.admin)?;
    let ended = if let Some(id) = &args.id {
        expect(&call(&client, "DELETE", &one(id)?)?, 204)?;
        1
    } else {
        let answer = expect(&call(&client, "DELETE", &target(&args.filters, &[]))?, 200)?;
        answer["ended"].as_u64().unwrap_or(0)
    };
    let sessions = if ended == 1 { "session" } else { "sessions" };
    print(&if args.json { format!("{{\"ended\":{ended}}}\n") } else { format!("ended {ended} {sessions}\n") })
}

/// The admin address by the file or by the arguments.
pub(super) fn connect(args: &AdminArgs) -> Result<Client, Failure> {
    if let Some(file) = &args.config {
        let (config, _) = config::load(file, &|name| std::env::var(name).ok()).map_err(Failure::refused)?;
        let admin = config.admin.ok_or_else(|| {
            Failure::refused(format!("`{}` has no admin address; add `admin` to it", file.display()))
        })?;
        return Ok(Client::new(admin.address, admin.token));
    }
    let address = address(args.admin.as_deref().unwrap_or_default())?;
    let token = match &args.token_file {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file).map(Secret::new).map_err(|cause| {
                Failure::refused(format!("--token-file `{}` cannot be read: {cause}", file.display()))
            })?;
            let token = text.expose();
            let token = token.strip_suffix('\n').unwrap_or(token);
            Some(Secret::new(token.strip_suffix('\r').unwrap_or(token).to_owned()))
        }
    };
    Ok(Client::new(address, token))
}

/// `127.0.0.1:9901`, `unix:/path`; a scheme and `localhost` are understood, for they are what people type.
fn address(text: &str) -> Result<Address, Failure> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.into()));
    }
    let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let plain = plain.strip_prefix("localhost:").map_or(plain.to_owned(), |port| format!("127.0.0.1:{port}"));
    plain.parse().map(Address::Tcp).map_err(|_| {
        Failure::refused(format!(
            "--admin `{text}` is no address; write `127.0.0.1:9901`, or `unix:/run/vestibule/admin.sock`"
        ))
    })
}

/// `/sessions` with the filters and parameters that are there.
fn target(filters: &FilterArgs, parameters: &[(&str, Option<&str>)]) -> String {
    let filters = [
        ("subject", filters.subject.as_deref()),
        ("source", filters.source.as_deref()),
        ("sign_in", filters.sign_in.as_deref()),
        ("client", filters.client.as_deref()),
        ("idle_for", filters.idle_for.as_deref()),
        ("opened_before", filters.opened_before.as_deref()),
        ("anonymous", filters.anonymous.then_some("true")),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in filters.iter().chain(parameters) {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("/sessions?{}", query.finish())
}

/// `/sessions/ID`, where the id is what ids look like: anything else would be another path.
fn one(id: &str) -> Result<String, Failure> {
    let id: crate::domain::session::SessionId = id.parse().map_err(|_| {
        Failure::refused(format!("`{id}` is no session id; copy it from `sessions list` or a log line"))
    })?;
    Ok(format!("/sessions/{id}"))
}

fn call(client: &Client, method: &str, target: &str) -> Result<Reply, Failure> {
    client.call(method, target).map_err(Failure::failed)
}

/// The JSON of an answer with the wanted status; else what the problem document says.
pub(super) fn expect(reply: &Reply, status: u16) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    if reply.status == status {
        return Ok(body);
    }
    let detail = clean(body["detail"].as_str().unwrap_or("no reason was given"), 500);
    let hint = if reply.status == 401 { "; with --admin, name the token with --token-file" } else { "" };
    Err(Failure::failed(format!("refused ({}): {detail}{hint}", reply.status)))
}

/// Columns: title, the field, the most characters shown.
const COLUMNS: [(&str, &str, usize); 7] = [
    ("ID", "/id", 22),
    ("SUBJECT", "/subject", 32),
    ("SOURCE", "/source", 24),
    ("STARTED", "/started_at", 20),
    ("LAST USED", "/last_used_at", 20),
    ("ADDRESS", "/client/address", 39),
    ("BROWSER", "/client/user_agent", 40),
];

fn table(sessions: &[Value]) -> String {
    let title = COLUMNS.map(|(title, ..)| title.to_owned());
    let row = |session: &Value| COLUMNS.map(|(_, field, chars_max)| cell(session, field, chars_max));
    let rows: Vec<[String; 7]> = std::iter::once(title).chain(sessions.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ").expect("a String takes every write");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn details(session: &Value) -> String {
    const FIELDS: [&str; 12] = [
        "/id",
        "/subject",
        "/source",
        "/sign_in",
        "/remembered",
        "/anonymous",
        "/started_at",
        "/last_used_at",
        "/idle_until",
        "/ends_at",
        "/client/address",
        "/client/user_agent",
    ];
    FIELDS.iter().fold(String::new(), |text, field| {
        let name = field.trim_start_matches("/client/").trim_start_matches('/').replace('_', " ");
        text + &format!("{name:<13} {}\n", cell(session, field, 300))
    })
}

fn cell(session: &Value, field: &str, chars_max: usize) -> String {
    match session.pointer(field) {
        Some(Value::String(text)) => clean(text, chars_max),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        _ => String::new(),
    }
}

/// Cuts a text, and takes out what could drive a terminal: a user agent is whatever a visitor sent.
fn clean(text: &str, chars_max: usize) -> String {
    let unsafe_char = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |c| if unsafe_char(c) { '\u{FFFD}' } else { c };
    if text.chars().count() <= chars_max {
        return text.chars().map(shown).collect();
    }
    text.chars().take(chars_max.saturating_sub(1)).map(shown).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(subject: &str, user_agent: &str) -> Value {
        serde_json::json!({
            "id": "AQEBAQEBAQEBAQEBAQEBAQ", "subject": subject, "source": "local", "sign_in": "local",
            "remembered": true, "anonymous": false,
            "started_at": "2026-11-22T12:00:00Z", "last_used_at": "2026-11-22T12:05:00Z",
            "idle_until": "2026-11-22T12:35:00Z", "ends_at": "2026-11-23T00:00:00Z",
            "client": { "address": "192.0.2.1", "user_agent": user_agent },
        })
    }

    #[test]
    fn sessions_stand_in_aligned_columns() {
        let sessions =
            [session("alice", "curl/8"), session("somebody-with-a-name-of-forty-letters-xx", "\x1b[2Jx")];
        assert_eq!(
            table(&sessions),
            "\
ID                      SUBJECT                           SOURCE  STARTED               LAST USED             ADDRESS    BROWSER
AQEBAQEBAQEBAQEBAQEBAQ  alice                             local   2026-11-22T12:00:00Z  2026-11-22T12:05:00Z  192.0.2.1  curl/8
AQEBAQEBAQEBAQEBAQEBAQ  somebody-with-a-name-of-forty-l…  local   2026-11-22T12:00:00Z  2026-11-22T12:05:00Z  192.0.2.1  \u{FFFD}[2Jx
"
        );
        assert_eq!(table(&[]).lines().count(), 1);
    }

    #[test]
    fn one_session_is_shown_line_by_line() {
        let shown = details(&session("alice", "curl/8"));
        assert!(shown.starts_with("id            AQEBAQEBAQEBAQEBAQEBAQ\nsubject       alice\n"), "{shown}");
        assert!(shown.contains("\nremembered    yes\nanonymous     no\n"), "{shown}");
        assert!(shown.ends_with("address       192.0.2.1\nuser agent    curl/8\n"), "{shown}");
    }

    #[test]
    fn an_address_is_what_people_type() {
        let local = Address::Tcp(([127, 0, 0, 1], 9901).into());
        for text in ["127.0.0.1:9901", "http://127.0.0.1:9901/", "localhost:9901", "http://localhost:9901"] {
            assert_eq!(address(text).ok(), Some(local.clone()), "{text}");
        }
        assert_eq!(address("unix:/run/admin.sock").ok(), Some(Address::Unix("/run/admin.sock".into())));
        for text in ["", "9901", "https://127.0.0.1:9901", "gw.example.com:9901"] {
            assert!(matches!(address(text), Err(Failure::Refused(_))), "{text}");
        }
    }

    #[test]
    fn an_id_cannot_become_another_path() {
        assert_eq!(one("AQEBAQEBAQEBAQEBAQEBAQ").ok().as_deref(), Some("/sessions/AQEBAQEBAQEBAQEBAQEBAQ"));
        for id in ["", "..", "?subject=alice", "AQEBAQEBAQEBAQEBAQEBAQ/x"] {
            assert!(one(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let reply = |status, body: &str| Reply { status, body: body.as_bytes().to_vec() };
        assert!(expect(&reply(204, ""), 204).is_ok());
        for (reply, text) in [
            (reply(404, r#"{"detail":"there is none"}"#), "refused (404): there is none"),
            (reply(500, "oops"), "refused (500): no reason was given"),
            (
                reply(401, "{}"),
                "refused (401): no reason was given; with --admin, name the token with --token-file",
            ),
        ] {
            assert_eq!(expect(&reply, 200).map_err(|failure| failure.to_string()), Err(text.to_owned()));
        }
    }

    #[test]
    fn a_filter_is_encoded() {
        let filters = FilterArgs {
            subject: Some("a&b=c".to_owned()),
            client: Some("10.0.0.0/8".to_owned()),
            anonymous: true,
            ..FilterArgs::default()
        };
        assert_eq!(
            target(&filters, &[("cursor", None), ("limit", Some("5"))]),
            "/sessions?subject=a%26b%3Dc&client=10.0.0.0%2F8&anonymous=true&limit=5"
        );
        assert_eq!(target(&FilterArgs::default(), &[]), "/sessions?");
    }
}
