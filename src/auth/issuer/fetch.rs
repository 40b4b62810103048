//! One fetch of published keys: where they lie, and what they are.
//!
//! The place is written in the file, or in a document of the issuer's (`OpenID` Connect Discovery 1.0 §4, RFC 8414 §3). That
//! document must name the issuer exactly as the file does (RFC 8414 §3.3): else one issuer could pass its keys off as
//! another's.

use crate::auth::issuer::client::{AskError, IssuerClient, Reply};
use crate::auth::issuer::url::{IssuerUrl, UrlProblem};
use crate::auth::json::object;
use crate::auth::jwks::{self, Published, SetError};
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// The most bytes of a document about an issuer.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of a set.
const SET_BYTES_MAX: usize = 512 * 1024;
/// Longer tags are not sent back.
const ETAG_BYTES_MAX: usize = 1024;

/// Where the keys of an issuer lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At this address.
    Url(IssuerUrl),
    /// Where the issuer's own document says. The identifier stands beside its URL, for the document must repeat it to the byte.
    Discovery(IssuerUrl, String),
}

/// Why there are no newer keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the keys: {0}")]
    Keys(AskError),
    #[error("the keys: its answer has the status {0}")]
    KeysStatus(StatusCode),
    #[error("the keys: {0}")]
    Set(SetError),
    #[error("the issuer's document: {0}")]
    Document(AskError),
    #[error("the issuer's document: its answer has the status {0}")]
    DocumentStatus(StatusCode),
    #[error("the issuer's document is no JSON object with every name once")]
    NotADocument,
    #[error("the issuer's document names another `issuer` than the file")]
    OtherIssuer,
    #[error("the issuer's document names no `jwks_uri`")]
    NoKeysNamed,
    #[error("the `jwks_uri` in the issuer's document {0}")]
    KeysUrl(UrlProblem),
}

/// An answer with keys.
pub(super) enum Fetched {
    /// The keys are those that the tag was given with.
    Unchanged(HeaderMap),
    /// These.
    Set { published: Published, body: Bytes, headers: HeaderMap },
}

impl Fetched {
    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Unchanged(headers) | Self::Set { headers, .. } => headers,
        }
    }

    /// The tag to ask with the next time (RFC 9110 §8.8.3).
    pub(super) fn tag(&self) -> Option<HeaderValue> {
        self.headers().get(ETAG).filter(|tag| tag.len() <= ETAG_BYTES_MAX).cloned()
    }
}

/// Finds the place of the keys.
pub(super) async fn locate(client: &IssuerClient, location: &Location) -> Result<IssuerUrl, FetchError> {
    let (url, issuer) = match location {
        Location::Url(url) => return Ok(url.clone()),
        Location::Discovery(url, issuer) => (url, issuer),
    };
    let mut refused = StatusCode::NOT_FOUND;
    for place in url.well_known() {
        let place = IssuerUrl::parse(&place).map_err(FetchError::KeysUrl)?;
        let reply = client.ask(&place, get(None), DOCUMENT_BYTES_MAX).await.map_err(FetchError::Document)?;
        if reply.status == StatusCode::OK {
            return keys_named(&reply.body, url, issuer);
        }
        if !reply.status.is_client_error() {
            return Err(FetchError::DocumentStatus(reply.status));
        }
        // Perhaps it has the other document alone.
        refused = reply.status;
    }
    Err(FetchError::DocumentStatus(refused))
}

fn keys_named(document: &[u8], url: &IssuerUrl, issuer: &str) -> Result<IssuerUrl, FetchError> {
    let document = object(document).map_err(|_| FetchError::NotADocument)?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(FetchError::OtherIssuer);
    }
    let named = document.get("jwks_uri").and_then(Value::as_str).ok_or(FetchError::NoKeysNamed)?;
    url.named_by(named).map_err(FetchError::KeysUrl)
}

/// Fetches the keys; `tag` is that of those which are held.
pub(super) async fn fetch(
    client: &IssuerClient,
    url: &IssuerUrl,
    tag: Option<&HeaderValue>,
) -> Result<Fetched, FetchError> {
    let reply = client.ask(url, get(tag), SET_BYTES_MAX).await.map_err(FetchError::Keys)?;
    let Reply { status, headers, body } = reply;
    match status {
        StatusCode::NOT_MODIFIED if tag.is_some() => Ok(Fetched::Unchanged(headers)),
        StatusCode::OK => {
            let published = jwks::published(&body).map_err(FetchError::Set)?;
            Ok(Fetched::Set { published, body, headers })
        }
        status => Err(FetchError::KeysStatus(status)),
    }
}

fn get(tag: Option<&HeaderValue>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    let accepted = HeaderValue::from_static("application/jwk-set+json, application/json");
    request.headers_mut().insert(ACCEPT, accepted);
    if let Some(tag) = tag {
        request.headers_mut().insert(IF_NONE_MATCH, tag.clone());
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_must_name_the_issuer_to_the_byte_and_where_its_keys_lie() {
        let issuer = "https://id.example.com/a";
        let url = IssuerUrl::parse(issuer).expect("a good URL");
        for (document, expected) in [
            (r#"{"issuer":"https://id.example.com/a","jwks_uri":"https://k.example.com/"}"#, None),
            (
                r#"{"issuer":"https://id.example.com/a/","jwks_uri":"https://k.example.com/"}"#,
                Some(FetchError::OtherIssuer),
            ),
            (
                r#"{"issuer":"https://ID.example.com/a","jwks_uri":"https://k.example.com/"}"#,
                Some(FetchError::OtherIssuer),
            ),
            (r#"{"jwks_uri":"https://k.example.com/"}"#, Some(FetchError::OtherIssuer)),
            (r#"{"issuer":["https://id.example.com/a"]}"#, Some(FetchError::OtherIssuer)),
            (r#"{"issuer":"https://id.example.com/a"}"#, Some(FetchError::NoKeysNamed)),
            (r#"{"issuer":"https://id.example.com/a","jwks_uri":7}"#, Some(FetchError::NoKeysNamed)),
            (
                r#"{"issuer":"https://id.example.com/a","jwks_uri":"http://k.example.com/"}"#,
                Some(FetchError::KeysUrl(UrlProblem::PlainHttp)),
            ),
            (
                r#"{"issuer":"https://id.example.com/a","jwks_uri":"http://127.0.0.1/"}"#,
                Some(FetchError::KeysUrl(UrlProblem::PlainHttp)),
            ),
            (
                r#"{"issuer":"https://evil.example","issuer":"https://id.example.com/a","jwks_uri":"https://k.example.com/"}"#,
                Some(FetchError::NotADocument),
            ),
            ("[]", Some(FetchError::NotADocument)),
            ("<html>", Some(FetchError::NotADocument)),
        ] {
            assert_eq!(keys_named(document.as_bytes(), &url, issuer).err(), expected, "{document}");
        }
    }
}
