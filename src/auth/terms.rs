//! What is asked of the tokens of an entry once it believes them: the same for every kind of token.

use crate::auth::dpop::DpopSettings;
use crate::domain::access::EntryId;

/// The terms of one entry of `tokens`.
#[derive(Clone, Debug)]
pub struct TokenTerms {
    /// The entry.
    pub id: EntryId,
    /// What proofs of possession must be like.
    pub dpop: DpopSettings,
}
