//! Claims that are made of others, as written.

use super::super::scalar::{Entries, Plain};
use super::OneOrMany;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a claim comes from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Claim {
    /// The path alone.
    From(String),
    /// Written out.
    Written(ClaimWritten),
}

/// A claim that is made of another.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["from"]))]
pub(in crate::config) struct ClaimWritten {
    /// `realm_access.roles`: a dot leads into an object. A list of names where a name has a dot itself:
    /// `["https://example.com/groups"]`.
    #[schemars(example = &"realm_access.roles")]
    pub(in crate::config) from: Option<ClaimFrom>,
    /// What is told where nothing is found.
    pub(in crate::config) default: Option<OneOrMany<Plain>>,
    /// A token in which nothing is found is refused.
    #[schemars(extend("default" = false))]
    pub(in crate::config) required: Option<bool>,
    /// Only values that begin so count.
    #[schemars(example = &"wiki-")]
    pub(in crate::config) prefix: Option<String>,
    /// They count without their `prefix`.
    #[schemars(extend("default" = false))]
    pub(in crate::config) strip: Option<bool>,
    /// `VALUE: OTHER`, or a list of others: only values that stand here count, and as what stands beside them.
    pub(in crate::config) table: Option<Entries<OneOrMany<Plain>>>,
}

/// Names of members, from the outermost object inward.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum ClaimFrom {
    /// With dots between.
    Path(String),
    /// One by one, each as it stands.
    Names(Vec<String>),
}

/// What a token must be besides signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(in crate::config) enum Profile {
    /// Nothing else.
    #[serde(rename = "jwt")]
    Jwt,
    /// An access token by RFC 9068.
    #[serde(rename = "at+jwt")]
    AccessToken,
}
