//! What is asked of the tokens of an entry once it believes them: the same for every kind of token.

use crate::auth::dpop::DpopSettings;
use crate::domain::access::EntryId;
use crate::domain::decision::Believed;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// The terms of one entry of `tokens`.
#[derive(Clone, Debug)]
pub struct TokenTerms {
    /// The entry.
    pub id: EntryId,
    /// The entry's name in the file.
    pub name: String,
    /// The name space of its subjects.
    pub source: String,
    /// The longest life of a token, from `iat` to `exp`: so long revocations are remembered. One that would live longer does
    /// not count.
    pub lifetime_max: Duration,
    /// A token may be traded for a session.
    pub exchange: bool,
    /// What proofs of possession must be like.
    pub dpop: DpopSettings,
}

impl TokenTerms {
    /// Whether a believed token lives longer than tokens may: it could outlive the memory of its revocation. One that does not
    /// say when it was issued has so long from now.
    pub fn are_outlived_by(&self, token: &Believed, wall: Timestamp) -> bool {
        let begins_at = token.token.issued_at.unwrap_or(wall).min(wall);
        token.expires_at > begins_at.plus(self.lifetime_max).plus(self.dpop.leeway)
    }
}
