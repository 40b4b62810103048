//! `WWW-Authenticate`: what a client is told that it lacks (RFC 6750 §3, RFC 9470 §3).
//!
//! Who sent no credential gets no error code. Of a token that is not believed nothing is told but whether it has expired, which
//! only one whose signature holds can be found to have; why, stands in the log.

use crate::domain::decision::Rejection;
use http::HeaderValue;

/// The challenge of a 401, which RFC 9110 §11.6.1 demands with each, or of a 403 for a scope that lacks.
pub(crate) fn of(rejection: &Rejection, takes_tokens: bool) -> HeaderValue {
    let invalid = |description| format!("error=\"invalid_token\", error_description=\"{description}\"");
    let error = match rejection {
        Rejection::BadBearer("token_expired") => invalid("the access token has expired"),
        Rejection::BadBearer(_) => invalid("the access token is not valid"),
        Rejection::StaleToken(most) => format!(
            "error=\"insufficient_user_authentication\", error_description=\"a more recent sign-in is needed\", max_age=\"{}\"",
            most.as_secs()
        ),
        Rejection::Scope(scopes) => format!("error=\"insufficient_scope\", scope=\"{scopes}\""),
        _ if takes_tokens => return HeaderValue::from_static("Bearer realm=\"vestibule\""),
        _ => return HeaderValue::from_static("Session realm=\"vestibule\""),
    };
    // Scopes come from a file that was checked: they have no quotes.
    HeaderValue::from_str(&format!("Bearer realm=\"vestibule\", {error}"))
        .unwrap_or(HeaderValue::from_static("Bearer realm=\"vestibule\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::Cause;
    use std::time::Duration;

    #[test]
    fn a_challenge_says_what_the_rfcs_allow_and_no_more() {
        for (rejection, takes_tokens, expected) in [
            (Rejection::Unauthenticated(Cause::Absent), true, "Bearer realm=\"vestibule\""),
            (Rejection::Unauthenticated(Cause::Absent), false, "Session realm=\"vestibule\""),
            (
                Rejection::BadBearer("token_expired"),
                true,
                "Bearer realm=\"vestibule\", error=\"invalid_token\", error_description=\"the access token has expired\"",
            ),
            (
                Rejection::BadBearer("token_revoked"),
                true,
                "Bearer realm=\"vestibule\", error=\"invalid_token\", error_description=\"the access token is not valid\"",
            ),
            (
                Rejection::Scope("read write".into()),
                true,
                "Bearer realm=\"vestibule\", error=\"insufficient_scope\", scope=\"read write\"",
            ),
            (
                Rejection::StaleToken(Duration::from_mins(15)),
                true,
                "Bearer realm=\"vestibule\", error=\"insufficient_user_authentication\", \
                 error_description=\"a more recent sign-in is needed\", max_age=\"900\"",
            ),
        ] {
            assert_eq!(of(&rejection, takes_tokens), expected, "{rejection:?}");
        }
    }
}
