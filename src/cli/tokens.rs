//! `tokens revoke`, through the admin address.

use super::sessions::{connect, expect};
use super::{Failure, RevokeArgs, TokensCommand, print};
use serde_json::{Map, Value, json};

pub(super) fn tokens(command: &TokensCommand) -> Result<(), Failure> {
    match command {
        TokensCommand::Revoke(args) => revoke(args),
    }
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    for (name, value) in [
        ("source", &args.source),
        ("jti", &args.jti),
        ("subject", &args.subject),
        ("issued_before", &args.issued_before),
    ] {
        body.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
    }
    let client = connect(&args.admin)?;
    let reply = client.post("/tokens/revoke", &Value::Object(body).to_string()).map_err(Failure::failed)?;
    let told = expect(&reply, 200)?;
    if args.json {
        return print(&format!("{told}\n"));
    }
    let sessions = match told["sessions_ended"].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => "; 1 session that was traded for one ended".to_owned(),
        Some(more) => format!("; {more} sessions that were traded for them ended"),
    };
    let until = told["remembered_until"].as_str().unwrap_or_default();
    print(&format!("revoked, and remembered until {until}{sessions}\n"))
}
