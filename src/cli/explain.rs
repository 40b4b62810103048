//! `vestibule explain`: what the gateway would do with a request, by the file, or by what a running gateway has in force.

use super::sessions::{connect, expect};
use super::{ExplainArgs, Failure, print};
use crate::admin::{Claimed, Explanation};
use crate::app::build::{self, Loaded};
use crate::app::explain::{Said, Supposed, Who, explain};
use crate::app::wall_clock;
use crate::auth::JwtKeys;
use crate::auth::bearer::{self, BearerRefusal};
use crate::auth::jwt::{Check, Outcome, TOKEN_BYTES_MAX};
use crate::domain::identity::{ClaimValue, EMAIL, GROUPS};
use crate::domain::secret::Secret;
use crate::net::tls::Shown;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;

/// A chain in PEM is some kilobytes long.
const CERTIFICATE_BYTES_MAX: u64 = 48 * 1024;

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
            let (who, checks) = judged(&loaded)?;
            print(&checks)?;
            who
        }
        (None, None) => Who::Nobody,
    };
    let certificate = certificate(args)?;
    let supposed =
        Supposed { method: &args.method, url: &args.url, who: &who, certificate: certificate.as_ref() };
    print(&explain(&loaded.config, &supposed).to_string())
}

/// The certificate that is supposed to be shown.
fn certificate(args: &ExplainArgs) -> Result<Option<Shown>, Failure> {
    let Some(file) = &args.client_certificate else { return Ok(None) };
    let wrong = |what: String| Failure::failed(format!("`{}` {what}", file.display()));
    let mut pem = Vec::new();
    File::open(file)
        .and_then(|open| open.take(CERTIFICATE_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    Shown::read(&pem).map(Some).map_err(|error| wrong(error.to_string()))
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
    // The certificates alone: a key that stands beside them stays here.
    say("client_certificate", certificate(args)?.map(|shown| json!(shown.pem())));
    say("claims", (!claims.is_empty()).then_some(Value::Object(claims)));
    let client = connect(&args.admin)?;
    let reply = client.post("/explain", &Value::Object(body).to_string()).map_err(Failure::failed)?;
    serde_json::from_value(expect(&reply, 200)?)
        .map_err(|_| Failure::failed("the admin address answered without an explanation"))
}

/// What every entry says of a token from standard input, and each check that led there; where all refuse it, that is the failure.
fn judged(loaded: &Loaded) -> Result<(Who, String), Failure> {
    let mut token = Secret::new(String::new());
    std::io::stdin()
        .take(TOKEN_BYTES_MAX as u64 + 2)
        .read_to_string(token.expose_mut())
        .map_err(Failure::failed)?;
    let (token, wall) = (token.expose().trim(), wall_clock());
    if let Err(BearerRefusal::Malformed) = bearer::token(format!("Bearer {token}").as_bytes()) {
        return Err(Failure::failed("standard input holds no token; write it alone, without `Bearer`"));
    }
    let (mut lines, mut said) = (Explanation::default(), Vec::new());
    for settings in &loaded.config.tokens {
        let entry = settings.name.clone();
        lines.say("token", format!("as one of `{entry}`"));
        let verifier = loaded.verifiers.iter().find(|verifier| verifier.id() == settings.id);
        let checks = match (verifier, &settings.keys) {
            (Some(verifier), _) => verifier.examine(token, wall),
            (None, JwtKeys::Asked(asking)) => vec![Check {
                name: "active",
                outcome: Outcome::Open,
                told: format!("a running gateway asks {}, unless a signature proves the token", asking.url),
            }],
            (None, _) => continue,
        };
        for Check { name, outcome, told } in &checks {
            lines.say("check", format!("{outcome:<5}  {name:<10} {told}"));
        }
        let whom = match (checks.last(), verifier) {
            (Some(Check { outcome: Outcome::Open, told, .. }), None) => Err(told.clone()),
            (Some(Check { outcome: Outcome::Open, .. }), Some(_)) => {
                Err("a running gateway verifies the signature, by keys that it fetched".to_owned())
            }
            (_, Some(verifier)) => match verifier.verify(token, wall) {
                Ok(believed) => Ok(believed.identity),
                Err(_) => continue,
            },
            _ => continue,
        };
        said.push(Said { entry, whom });
    }
    let told = lines.to_string();
    if said.is_empty() {
        return Err(Failure::Failed(format!(
            "no entry of `tokens` believes this token\n{}",
            told.trim_end()
        )));
    }
    Ok((Who::Token(said), told))
}
