//! `vestibule explain`: what the gateway would do with a request, by the file, or by what a running gateway has in force.

use super::sessions::{connect, expect};
use super::{ExplainArgs, Failure, print};
use crate::admin::{Claimed, Explanation};
use crate::app::build::{self, Loaded};
use crate::app::explain::{Who, explain};
use crate::app::wall_clock;
use crate::auth::jwt::{Check, TOKEN_BYTES_MAX};
use crate::domain::identity::{ClaimValue, EMAIL, GROUPS};
use crate::domain::secret::Secret;
use serde_json::{Map, Value, json};
use std::io::Read;

/// Explains one request.
pub(super) fn explain_request(args: &ExplainArgs) -> Result<(), Failure> {
    if args.live {
        return print(&ask_running(args)?.to_string());
    }
    let Some(file) = &args.admin.config else {
        return Err(Failure::refused(
            "--admin asks a running gateway; write --live too, or a file with --config",
        ));
    };
    let loaded = build::load(file).map_err(Failure::refused)?;
    let who = match (&args.subject, &args.token) {
        (Some(subject), _) => Who::Claims(claimed(subject, args)),
        (None, Some(_)) => {
            let (who, checks) = believed(&loaded)?;
            print(&checks)?;
            who
        }
        (None, None) => Who::Nobody,
    };
    print(&explain(&loaded.config, &args.method, &args.url, &who).to_string())
}

fn claimed(subject: &str, args: &ExplainArgs) -> Claimed {
    let text = |name: &str, value: &str| (name.to_owned(), ClaimValue::Text(value.to_owned()));
    let further = args.claims.iter().map(|(name, value)| text(name, value));
    let email = args.email.iter().map(|email| text(EMAIL, email));
    let groups =
        (!args.groups.is_empty()).then(|| (GROUPS.to_owned(), ClaimValue::List(args.groups.clone())));
    let claims = further.chain(email).chain(groups).collect();
    Claimed { subject: subject.to_owned(), source: args.source.clone(), claims }
}

/// The same question at the admin address of a running gateway.
fn ask_running(args: &ExplainArgs) -> Result<Explanation, Failure> {
    let mut body = Map::new();
    let mut say = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    say("method", Some(json!(args.method.as_str())));
    say("url", Some(json!(args.url)));
    say("subject", args.subject.as_ref().map(|subject| json!(subject)));
    say("source", args.source.as_ref().map(|source| json!(source)));
    say("email", args.email.as_ref().map(|email| json!(email)));
    say("groups", (!args.groups.is_empty()).then(|| json!(args.groups)));
    let claims: Map<String, Value> =
        args.claims.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    say("claims", (!claims.is_empty()).then_some(Value::Object(claims)));
    let client = connect(&args.admin)?;
    let reply = client.post("/explain", &Value::Object(body).to_string()).map_err(Failure::failed)?;
    serde_json::from_value(expect(&reply, 200)?)
        .map_err(|_| Failure::failed("the admin address answered without an explanation"))
}

/// Who a token from standard input proves, with every check of the entries up to the one that believes it; where nobody, all
/// that each holds against it.
fn believed(loaded: &Loaded) -> Result<(Who, String), Failure> {
    let mut token = Secret::new(String::new());
    std::io::stdin()
        .take(TOKEN_BYTES_MAX as u64 + 2)
        .read_to_string(token.expose_mut())
        .map_err(Failure::failed)?;
    let (token, wall) = (token.expose().trim_end(), wall_clock());
    let mut told = String::new();
    for verifier in &loaded.verifiers {
        let name = verifier.name();
        let mut lines = Explanation::default();
        lines.say("token", format!("as one of `{name}`"));
        for Check { name, holds, told } in verifier.examine(token, wall) {
            let outcome = if holds { "holds" } else { "fails" };
            lines.say("check", format!("{outcome}  {name:<10} {told}"));
        }
        told.push_str(&lines.to_string());
        if let Ok(verified) = verifier.verify(token, wall) {
            return Ok((Who::Believed { entry: name.to_owned(), identity: verified.identity }, told));
        }
    }
    Err(Failure::Failed(format!("no entry of `tokens` believes this token\n{}", told.trim_end())))
}
