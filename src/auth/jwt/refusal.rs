//! Why a token is not believed.

use crate::auth::facts::NoFacts;
use crate::auth::json::NotAnObject;

/// Why a token is not believed, in the order of the checks.
///
/// `Display` is for the client and gives nothing away; [`Refusal::reason`] is for the log and the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("the token is not accepted")]
pub enum Refusal {
    /// More than [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX).
    TooLong,
    /// Five parts: a JWE (RFC 7516).
    Encrypted,
    /// Not three parts of base64url with JSON objects in the first two, or a member of the wrong type.
    Malformed,
    /// A member name stands twice.
    Duplicate,
    /// `crit`: something we would have to understand (RFC 7515 §4.1.11).
    Critical,
    /// `b64`: a payload that is not encoded (RFC 7797).
    Unencoded,
    /// `typ` names another kind of token.
    Type,
    /// `alg` is not one that the entry believes.
    Algorithm,
    /// The issuer's keys are not known at the moment: nobody can say.
    NoKeys,
    /// No key has this `kid` and may be used with this `alg`.
    UnknownKey,
    /// Signed by none of the keys, or changed.
    Signature,
    /// The server that was asked about it says that it is not active (RFC 7662 §2.2).
    Inactive,
    /// `iss` is absent, no string, or another.
    Issuer,
    /// `aud` is absent, ill-typed, or names others only.
    Audience,
    /// `exp` is absent or no number.
    NoExpiry,
    /// `exp` has come.
    Expired,
    /// `nbf` has not come.
    NotYet,
    /// A claim that RFC 9068 §2.2 requires of access tokens is absent or of another type.
    Profile,
    /// The subject's claim is absent, empty or no string.
    Subject,
    /// `cnf` asks its presenter for a proof that is not known here (RFC 7800 §3.1).
    Confirmation,
    /// A claim that the entry requires is absent.
    Required,
    /// The claims are longer than an upstream could be told.
    Claims,
}

impl Refusal {
    /// For the log and the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::Encrypted => "token_encrypted",
            Self::Malformed => "token_malformed",
            Self::Duplicate => "token_duplicate_member",
            Self::Critical => "token_crit",
            Self::Unencoded => "token_b64",
            Self::Type => "token_type",
            Self::Algorithm => "token_algorithm",
            Self::NoKeys => "token_keys_unavailable",
            Self::UnknownKey => "token_unknown_key",
            Self::Signature => "token_signature",
            Self::Inactive => "token_inactive",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::NoExpiry => "token_without_expiry",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet_valid",
            Self::Subject => "token_without_subject",
            Self::Confirmation => "token_confirmation",
            Self::Required => "token_claim_required",
            Self::Profile => "token_profile",
            Self::Claims => "token_claims_too_long",
        }
    }
}

impl From<NotAnObject> for Refusal {
    fn from(why: NotAnObject) -> Self {
        match why {
            NotAnObject::Malformed => Self::Malformed,
            NotAnObject::Duplicate => Self::Duplicate,
        }
    }
}

impl From<NoFacts> for Refusal {
    fn from(why: NoFacts) -> Self {
        match why {
            NoFacts::Malformed => Self::Malformed,
            NoFacts::Confirmation => Self::Confirmation,
        }
    }
}
