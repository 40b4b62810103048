//! Ways to prove who you are, one file each.

pub mod assertion;
pub mod authority;
pub mod bearer;
mod believed;
pub mod claims;
pub mod device;
pub mod dpop;
mod facts;
#[cfg(test)]
mod forge;
pub mod form;
pub mod hash;
pub mod hashing;
pub mod issuer;
mod json;
pub mod jwks;
pub mod jwt;
pub mod password;
pub mod proof;
pub mod refusals;
pub mod session_token;
pub mod terms;
pub mod throttle;
pub mod upstream_claim;
pub mod upstream_way;
pub mod users;

use crate::auth::claims::Mapping;
use crate::auth::issuer::introspection::AskSettings;
use crate::auth::issuer::key_set::PublishedKeys;
use crate::domain::access::EntryId;
use crate::domain::route::PathPattern;
use crate::domain::secret::Secret;
use std::path::PathBuf;
use std::time::Duration;

/// One entry of `sign_in`.
#[derive(Clone, Debug)]
pub struct SignInSettings {
    /// Its name in the file.
    pub name: String,
    /// The fingerprint of its name and definition.
    pub id: EntryId,
    /// The name space of its subjects: for a user file and for an upstream, the entry's name.
    pub source: String,
    /// How it proves who somebody is.
    pub kind: SignInKind,
}

/// What an entry of `sign_in` asks.
#[derive(Clone, Debug)]
pub enum SignInKind {
    /// A form of ours, against a user file.
    Password {
        /// The file with the users and their password hashes: YAML, or htpasswd lines.
        users: PathBuf,
    },
    /// An upstream's own form: its answer names who signed in.
    Upstream(UpstreamSignIn),
}

/// A sign-in by an upstream's answers.
#[derive(Clone, Debug)]
pub struct UpstreamSignIn {
    /// Its name in `upstreams`.
    pub upstream: String,
    /// Where its answers count.
    pub paths: Vec<PathPattern>,
    /// Groups that it may put somebody in; others are dropped.
    pub groups: Vec<String>,
}

impl UpstreamSignIn {
    /// Where visitors are sent for the form: the first path that stands for itself alone, else the first of all.
    pub fn form_path(&self) -> &str {
        let exact = self.paths.iter().find(|path| matches!(path, PathPattern::Exact(_)));
        exact.or(self.paths.first()).map_or("/", PathPattern::path)
    }
}

/// One entry of `tokens`: a `jwt`, or an `introspection`.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Its name in the file.
    pub name: String,
    /// The fingerprint of its name and definition.
    pub id: EntryId,
    /// The one `iss` that is believed (RFC 7519 §4.1.1); also the source of its subjects. Of an `introspection` that names no
    /// issuer it is the entry's name, and no `iss` is asked for.
    pub issuer: String,
    /// Values of `aud` of which one must be present (RFC 7519 §4.1.3). Empty for an `introspection` alone: none is asked for.
    pub audience: Vec<String>,
    /// Where the verification keys come from.
    pub keys: JwtKeys,
    /// The algorithms believed (RFC 7518 §3.1); each must fit the keys.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    /// The claim that names the subject.
    pub subject: String,
    /// The accepted `typ` header values, lower case, without `application/`; a token without `typ` passes.
    pub types: Vec<String>,
    /// Allowed difference of clocks for `exp` and `nbf`; at most two minutes.
    pub leeway: Duration,
    /// Believe `email` without `email_verified: true`.
    pub trust_email: bool,
    /// Only access tokens by RFC 9068: `typ` stands and says so, and so do the claims that its §2.2 requires.
    pub access_tokens_only: bool,
    /// Claims that are made of others.
    pub claims: Vec<Mapping>,
}

/// The keys of a `jwt` entry.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// A shared secret, for HS256, HS384 and HS512: 32 bytes or more.
    Secret(Secret<Vec<u8>>),
    /// A public key in PEM (RFC 7468), read again when the file changes.
    PublicKey(PathBuf),
    /// A JWK Set (RFC 7517 §5), read again when the file changes.
    JwksFile(PathBuf),
    /// A JWK Set that the issuer publishes, fetched in the background.
    Published(Box<PublishedKeys>),
    /// None at all: a server is asked about each token (RFC 7662).
    Asked(Box<AskSettings>),
}
