//! `POST /tokens/revoke`: bearer tokens that count no more. Subjects and sources are plain text here.

use super::answer::{json, problem};
use super::{Control, Reply};
use crate::domain::time::Timestamp;
use crate::store::journal::Commit;
use http::StatusCode;
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// Clocks of issuers differ by less: an instant farther ahead would refuse tokens that nobody has yet.
const AHEAD_MAX: Duration = Duration::from_mins(2);

/// Which tokens an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeRequest {
    /// Of which source; may be left out where there is one.
    pub source: Option<String>,
    /// Which of them.
    pub which: RevokeWhich,
    /// The caller's address.
    pub client: Option<IpAddr>,
}

/// See [`RevokeRequest::which`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeWhich {
    /// The one of this `jti`.
    Named(String),
    /// Those of this subject, issued until then.
    Of(String, Timestamp),
    /// All, issued until then.
    All(Timestamp),
}

/// What was revoked.
pub struct RevokedView {
    /// Of which source.
    pub source: String,
    /// Until when that is remembered: no such token lives longer.
    pub until: Timestamp,
    /// Sessions that such tokens were traded for, and that ended.
    pub sessions_ended: usize,
    /// Resolve when it is durable.
    pub commits: Vec<Commit>,
}

/// Why nothing was revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// The request names what is not there or leaves open what it must say; the text says which.
    #[error("{0}")]
    Unfit(String),
    /// There is no room; the text says what to do.
    #[error("{0}")]
    Full(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    issued_before: Option<String>,
}

impl Body {
    /// `wall` is the clock by which issuers write `iat`.
    fn into_request(self, client: Option<IpAddr>, wall: Timestamp) -> Result<RevokeRequest, String> {
        let given = [&self.source, &self.jti, &self.subject];
        if given.into_iter().flatten().any(String::is_empty) {
            return Err(
                "`source`, `jti` and `subject` are not empty; give a value, or leave it out".to_owned()
            );
        }
        let before = self.issued_before.map(|text| text.parse::<Timestamp>()).transpose();
        let before = before.map_err(|cause| format!("`issued_before` is {cause}"))?;
        if before.is_some_and(|before| before > wall.plus(AHEAD_MAX)) {
            return Err(
                "`issued_before` lies ahead, where tokens are not issued yet; write at most the present"
                    .to_owned(),
            );
        }
        // Before an instant, not at it.
        let by = before.map(|before| before.minus(Duration::from_micros(1)));
        let which = match (self.jti, self.subject, by) {
            (Some(jti), None, None) => RevokeWhich::Named(jti),
            (None, Some(subject), by) => RevokeWhich::Of(subject, by.unwrap_or(wall)),
            (None, None, Some(by)) => RevokeWhich::All(by),
            _ => {
                let detail = "say which: `jti` alone, `subject` (with `issued_before` if you like), or `issued_before`";
                return Err(detail.to_owned());
            }
        };
        Ok(RevokeRequest { source: self.source, which, client })
    }
}

/// `POST /tokens/revoke`.
pub(super) fn revoke(control: &dyn Control, body: &[u8], client: Option<IpAddr>, wall: Timestamp) -> Reply {
    let request = serde_json::from_slice::<Body>(body)
        .map_err(|cause| format!("the body is not the JSON of this call: {cause}"))
        .and_then(|body| body.into_request(client, wall));
    let request = match request {
        Ok(request) => request,
        Err(detail) => return problem(StatusCode::BAD_REQUEST, &detail).into(),
    };
    match control.revoke_tokens(request) {
        Ok(RevokedView { source, until, sessions_ended, commits }) => {
            let told = serde_json::json!({ "source": source, "sessions_ended": sessions_ended, "remembered_until": until });
            Reply { further: commits, ..json(StatusCode::OK, &told).into() }
        }
        Err(error @ RevokeError::Unfit(_)) => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()).into()
        }
        Err(error @ RevokeError::Full(_)) => {
            problem(StatusCode::INSUFFICIENT_STORAGE, &error.to_string()).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    fn read(body: &str) -> Result<RevokeRequest, String> {
        let body: Body = serde_json::from_str(body).map_err(|cause| cause.to_string())?;
        body.into_request(None, NOON)
    }

    #[test]
    fn a_call_says_which_tokens_it_means() {
        let before = NOON.minus(Duration::from_micros(1));
        for (body, which) in [
            (r#"{"jti":"a"}"#, RevokeWhich::Named("a".to_owned())),
            (r#"{"subject":"alice"}"#, RevokeWhich::Of("alice".to_owned(), NOON)),
            (
                r#"{"subject":"alice","issued_before":"2026-11-22T12:00:00Z"}"#,
                RevokeWhich::Of("alice".to_owned(), before),
            ),
            (r#"{"issued_before":"2026-11-22T12:00:00Z"}"#, RevokeWhich::All(before)),
        ] {
            assert_eq!(read(body).map(|request| request.which), Ok(which), "{body}");
        }
        for body in [
            "{}",
            r#"{"source":"a"}"#,
            r#"{"jti":""}"#,
            r#"{"jti":"a","subject":"b"}"#,
            r#"{"jti":"a","issued_before":"2026-11-22T12:00:00Z"}"#,
            r#"{"subject":""}"#,
            r#"{"source":"","subject":"alice"}"#,
            r#"{"issued_before":"yesterday"}"#,
            r#"{"issued_before":"2026-11-22T12:03:00Z"}"#,
            r#"{"subjects":"alice"}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
