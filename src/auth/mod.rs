//! Ways to prove who you are, one file each.

pub mod bearer;
pub mod device;
#[cfg(test)]
mod forge;
pub mod form;
pub mod hash;
pub mod hashing;
mod json;
pub mod jwks;
pub mod jwt;
pub mod password;
pub mod session_token;
pub mod throttle;
pub mod users;

use crate::domain::access::EntryId;
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
    /// The name space of its subjects: for a user file, the entry's name.
    pub source: String,
    /// The file with the users and their password hashes: YAML, or htpasswd lines.
    pub users: PathBuf,
}

/// One entry of `tokens` with a `jwt`.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Its name in the file.
    pub name: String,
    /// The fingerprint of its name and definition.
    pub id: EntryId,
    /// The one `iss` that is believed (RFC 7519 §4.1.1); also the source of its subjects.
    pub issuer: String,
    /// Values of `aud` of which one must be present (RFC 7519 §4.1.3).
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
}
