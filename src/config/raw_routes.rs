//! What a route may do with the messages that pass, as the file has it; see [`super::raw`].

use super::scalar::{Entries, Plain};
use schemars::JsonSchema;
use serde::Deserialize;

/// What a route changes in the headers of requests and answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteHeaders {
    /// In requests, before the gateway sets its own.
    #[schemars(extend("default" = {}))]
    pub(super) request: Option<RequestHeaders>,
    /// In the application's answers; those of the gateway itself stay as they are.
    #[schemars(extend("default" = {}))]
    pub(super) response: Option<ResponseHeaders>,
}

/// Changes of requests. A name stands in one of them alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestHeaders {
    /// Names that the application does not get. What old applications take for an identity belongs under
    /// `identity.remove`, which knows every spelling.
    #[schemars(extend("default" = []))]
    pub(super) remove: Option<Vec<Option<String>>>,
    /// `NAME: value`, instead of what the client sent. No secrets: values are printed.
    #[schemars(extend("default" = {}))]
    pub(super) set: Option<Entries<Plain>>,
    /// `NAME: value`, besides what the client sent.
    #[schemars(extend("default" = {}))]
    pub(super) add: Option<Entries<Plain>>,
}

/// Changes of answers. A name stands in one of `remove`, `set` and `add` alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResponseHeaders {
    /// Names that visitors do not get.
    #[schemars(extend("default" = []))]
    pub(super) remove: Option<Vec<Option<String>>>,
    /// `NAME: value`, instead of what the application says.
    #[schemars(extend("default" = {}))]
    pub(super) set: Option<Entries<Plain>>,
    /// `NAME: value`, besides what the application says.
    #[schemars(extend("default" = {}))]
    pub(super) add: Option<Entries<Plain>>,
    /// `true`: where the application says nothing itself, answers get X-Content-Type-Options: nosniff, X-Frame-Options:
    /// SAMEORIGIN, Referrer-Policy: strict-origin-when-cross-origin, Cross-Origin-Opener-Policy: same-origin-allow-popups
    /// and X-Permitted-Cross-Domain-Policies: none.
    #[schemars(extend("default" = false))]
    pub(super) security: Option<bool>,
}

/// The front of the path, where the application has it otherwise than visitors. Location, Content-Location, Refresh and
/// the Path of cookies are told to visitors as they see them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PathPrefix {
    /// Taken off, by whole segments: the route's path, or one above it. The application is told in X-Forwarded-Prefix.
    #[schemars(extend("default" = "/"))]
    pub(super) strip: Option<String>,
    /// Put before what is left.
    #[schemars(extend("default" = "/"))]
    pub(super) add: Option<String>,
}

/// An answer that leads elsewhere, once `access` has let the request pass. Never stored by browsers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["to"]))]
pub(super) struct Redirect {
    /// `https://host/path`, or a path on the same host.
    #[schemars(example = &"https://new.example.com/")]
    pub(super) to: Option<String>,
    /// 307 and 308 keep method and body of a form; 301 and 308 say that it is for good.
    #[schemars(extend("enum" = [301, 302, 303, 307, 308], "default" = 302))]
    pub(super) status: Option<u16>,
    /// What follows the route's path comes behind `to`.
    #[schemars(extend("default" = false))]
    pub(super) keep_path: Option<bool>,
    /// The query comes along, whatever it holds.
    #[schemars(extend("default" = false))]
    pub(super) keep_query: Option<bool>,
}
