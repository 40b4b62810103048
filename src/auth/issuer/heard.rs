//! What a server says of a token (RFC 7662 §2.2), checked.
//!
//! `active` must be a boolean; everything else may be missing, and counts where it stands. A server that knows a token may still
//! mean another service, or another kind of token, by it.

use crate::auth::JwtSettings;
use crate::auth::facts;
use crate::auth::issuer::introspection::AskSettings;
use crate::auth::json::object;
use crate::auth::jwt::{Refusal, Verified, Verifier, instant};
use crate::domain::time::Timestamp;
use serde_json::{Map, Value};

/// Members about the answer and the token, not about the subject.
const ABOUT_THE_ANSWER: [&str; 4] = ["active", "token_type", "token_use", "cnf"];
/// `token_type` values of access tokens (RFC 6750 §4, RFC 9449 §5). A refresh token is none.
const TYPES: [&str; 2] = ["bearer", "dpop"];
/// `token_use` values of access tokens, where a server tells them from others.
const USES: [&str; 2] = ["access_token", "access"];

/// What came of an answer.
#[derive(Debug)]
pub(super) enum Heard {
    /// The token is believed until `expires_at`.
    Believed(Box<Verified>),
    /// It is not.
    Refused(Refusal),
    /// The answer is none.
    Unusable,
}

/// Reads an answer with status 200. `until` is how long a token is believed that has no `exp`.
pub(super) fn heard(
    body: &[u8],
    reader: &Verifier,
    asked: (&JwtSettings, &AskSettings),
    wall: Timestamp,
    until: Timestamp,
) -> Heard {
    let Ok(claims) = object(body) else { return Heard::Unusable };
    match claims.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Heard::Refused(Refusal::Inactive),
        _ => return Heard::Unusable,
    }
    match check(claims, reader, asked, wall, until) {
        Ok(verified) => Heard::Believed(Box::new(verified)),
        Err(why) => Heard::Refused(why),
    }
}

fn check(
    mut claims: Map<String, Value>,
    reader: &Verifier,
    (settings, asked): (&JwtSettings, &AskSettings),
    wall: Timestamp,
    until: Timestamp,
) -> Result<Verified, Refusal> {
    let one_of = |name: &str, known: &[&str]| {
        let is_known = |value: &Value| {
            value.as_str().is_some_and(|value| known.iter().any(|known| value.eq_ignore_ascii_case(known)))
        };
        claims.get(name).is_none_or(is_known)
    };
    if !one_of("token_type", &TYPES) || !one_of("token_use", &USES) {
        return Err(Refusal::Type);
    }
    if let Some(issuer) = &asked.issuer
        && claims.get("iss").is_some_and(|said| said.as_str() != Some(issuer))
    {
        return Err(Refusal::Issuer);
    }
    check_audience(claims.get("aud"), &settings.audience)?;
    let said =
        |name: &str| claims.get(name).map(|value| instant(value).ok_or(Refusal::Malformed)).transpose();
    // The server judges by its own clock; ours need not be later than it says.
    let expires_at = said("exp")?.unwrap_or(until);
    if wall >= expires_at {
        return Err(Refusal::Expired);
    }
    if said("nbf")?.is_some_and(|begins_at| wall.plus(settings.leeway) < begins_at) {
        return Err(Refusal::NotYet);
    }
    let token = facts::facts(&claims)?;
    claims.retain(|name, _| !ABOUT_THE_ANSWER.contains(&name.as_str()));
    Ok(Verified { identity: reader.identity(&claims)?, expires_at, token })
}

/// Where the file names audiences, one of them must stand in the answer.
fn check_audience(said: Option<&Value>, ours: &[String]) -> Result<(), Refusal> {
    if ours.is_empty() {
        return Ok(());
    }
    let is_ours = |one: &Value| one.as_str().is_some_and(|one| ours.iter().any(|own| own == one));
    let for_us = match said {
        Some(one @ Value::String(_)) => is_ours(one),
        Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(is_ours),
        _ => false,
    };
    if for_us { Ok(()) } else { Err(Refusal::Audience) }
}
