//! `jwks.json`: what verifies assertions. The same for everybody, and the one answer of ours that may be kept.

use crate::domain::decision::Rejection;
use crate::proxy::context::Context;
use crate::proxy::respond::Answer;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::RequestHeader;

/// Five minutes: a key that comes second for ten is known everywhere when it signs.
const FRESH: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The public halves of the keys, or that they are still the same.
pub(super) fn tell(head: &RequestHeader, ctx: &Context) -> Result<Answer, Rejection> {
    let published = ctx.snapshot.assertions.as_ref().ok_or(Rejection::NoRoute)?.published();
    let answer = if knows(&head.headers, &published.tag) {
        Answer::new(StatusCode::NOT_MODIFIED)
    } else {
        Answer::new(StatusCode::OK)
            .with("Content-Type", HeaderValue::from_static("application/jwk-set+json"))
            .with_body(published.set.clone())
    };
    Ok(answer.with("ETag", published.tag.clone()).with("Cache-Control", FRESH))
}

/// Whether the client has the representation with this tag (RFC 9110 §13.1.2; the comparison is weak).
fn knows(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let mut tags = fields.flat_map(|field| field.split(',')).map(str::trim);
    tags.any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_knows_what_it_has() {
        let tag = HeaderValue::from_static("\"abc\"");
        for (fields, expected) in [
            (&[][..], false),
            (&["\"abc\""], true),
            (&["W/\"abc\""], true),
            (&["*"], true),
            (&["\"x\", \"abc\""], true),
            (&["\"x\"", "\"abc\""], true),
            (&["abc"], false),
            (&["\"abcd\""], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(IF_NONE_MATCH, HeaderValue::from_static(field));
            }
            assert_eq!(knows(&headers, &tag), expected, "{fields:?}");
        }
    }
}
