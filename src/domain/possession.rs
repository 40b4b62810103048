//! Proof of possession: what a token and a route ask of whoever presents the token, and why a proof does not count.
//!
//! A token that names what its presenter must hold (`cnf`, RFC 7800) admits nobody without it, whatever the route asks:
//! [`weigh`] is asked by [`decide`](crate::domain::decision::decide) about every token, so no way around it leads to an
//! admission.

use crate::domain::certificate::ClientCertificate;
use crate::domain::token_facts::{Confirmation, TokenFacts};
use aws_lc_rs::constant_time::verify_slices_are_equal;

/// What a route asks of every token: that it be bound, and by which of these means. Neither: what the token itself says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// To a key that signs `DPoP` proofs (RFC 9449) will do.
    pub dpop: bool,
    /// To a client's certificate (RFC 8705) will do.
    pub certificate: bool,
}

impl Bindings {
    fn are_met_by(self, confirmation: Option<&Confirmation>) -> bool {
        let Some(confirmation) = confirmation else { return self == Self::default() };
        self == Self::default()
            || (self.dpop && confirmation.jkt().is_some())
            || (self.certificate && confirmation.certificate().is_some())
    }
}

/// Why a token was not proved to be its presenter's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// A token that is bound to a key came with the scheme `Bearer` (RFC 9449 §7.2).
    Scheme,
    /// The scheme `DPoP`, or the route, asks for a bound token and this one is not bound so.
    Unbound,
    /// There is no `DPoP` field.
    Missing,
    /// There are several (RFC 9449 §4.3, check 1).
    Several,
    /// It is no signed JWT with the members that a proof has.
    Malformed,
    /// Its `typ` is not `dpop+jwt`.
    Type,
    /// Its `alg` is not one that proofs may be signed with.
    Algorithm,
    /// Its `jwk` is no public key that fits `alg`.
    Key,
    /// It was signed by another key than its `jwk`, or changed.
    Signature,
    /// `htm` is another method.
    Method,
    /// `htu` is another address.
    Address,
    /// `iat` is too old, or ahead of the clock.
    Time,
    /// `ath` is the hash of another token.
    OtherToken,
    /// It was signed by another key than the token is bound to.
    OtherKey,
    /// This proof was used before.
    Replayed,
    /// More proofs of this client are within their time than are remembered.
    Full,
    /// A nonce of ours has to be in it, and none that counts is.
    Nonce,
    /// The token is bound to a certificate, and the connection has shown none.
    NoCertificate,
    /// The connection has shown another certificate.
    OtherCertificate,
}

impl Unproved {
    /// A word for the log and the counter.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Scheme => "token_bound",
            Self::Unbound => "token_not_bound",
            Self::Missing => "dpop_missing",
            Self::Several => "dpop_several",
            Self::Malformed => "dpop_malformed",
            Self::Type => "dpop_type",
            Self::Algorithm => "dpop_algorithm",
            Self::Key => "dpop_key",
            Self::Signature => "dpop_signature",
            Self::Method => "dpop_htm",
            Self::Address => "dpop_htu",
            Self::Time => "dpop_iat",
            Self::OtherToken => "dpop_ath",
            Self::OtherKey => "dpop_other_key",
            Self::Replayed => "dpop_replayed",
            Self::Full => "dpop_full",
            Self::Nonce => "dpop_nonce",
            Self::NoCertificate => "certificate_missing",
            Self::OtherCertificate => "certificate_other",
        }
    }

    /// The `error` that the client is told (RFC 9449 §7.1 and §9, RFC 6750 §3.1).
    pub const fn error(self) -> &'static str {
        match self {
            Self::Scheme | Self::Unbound | Self::OtherKey | Self::NoCertificate | Self::OtherCertificate => {
                "invalid_token"
            }
            Self::Nonce => "use_dpop_nonce",
            _ => "invalid_dpop_proof",
        }
    }

    /// Whether it is about a certificate: the client is told by the scheme `Bearer` then.
    pub const fn is_of_certificates(self) -> bool {
        matches!(self, Self::NoCertificate | Self::OtherCertificate)
    }
}

/// Weighs what a request has proved to hold against what its token and the route ask.
///
/// `key` is the thumbprint of the key that has signed a proof for this very request; `certificate` is what the connection
/// has shown. Compared in constant time.
pub fn weigh(
    token: &TokenFacts,
    asked: Bindings,
    key: Option<&[u8; 32]>,
    certificate: Option<&ClientCertificate>,
) -> Result<(), Unproved> {
    let confirmation = token.confirmation.as_ref();
    match (confirmation.and_then(Confirmation::jkt), key) {
        (None, None) => {}
        (None, Some(_)) => return Err(Unproved::Unbound),
        (Some(_), None) => return Err(Unproved::Missing),
        (Some(jkt), Some(key)) => {
            verify_slices_are_equal(jkt, key).map_err(|_| Unproved::OtherKey)?;
        }
    }
    if let Some(bound_to) = confirmation.and_then(Confirmation::certificate) {
        let certificate = certificate.ok_or(Unproved::NoCertificate)?;
        if !certificate.has_hash(bound_to) {
            return Err(Unproved::OtherCertificate);
        }
    }
    if asked.are_met_by(confirmation) { Ok(()) } else { Err(Unproved::Unbound) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_token_needs_every_proof_that_it_names_and_no_other_counts() {
        let certificate = |hash: u8| ClientCertificate::new("CN=app".to_owned(), &[hash; 32]);
        let (ours, other) = (certificate(7), certificate(8));
        let (dpop, mutual) =
            (Bindings { dpop: true, certificate: false }, Bindings { dpop: false, certificate: true });
        let either = Bindings { dpop: true, certificate: true };
        let none = Bindings::default();
        let (jkt, hash) = (Some(Confirmation::Jkt([1; 32])), Some(Confirmation::CertificateS256([7; 32])));
        let both = Some(Confirmation::Both { jkt: [1; 32], certificate: [7; 32] });
        let (key, other_key) = (Some([1; 32]), Some([2; 32]));
        for (confirmation, asked, key, certificate, expected) in [
            (None, none, None, None, Ok(())),
            (None, none, None, Some(&ours), Ok(())),
            (None, none, key, None, Err(Unproved::Unbound)),
            (None, dpop, None, None, Err(Unproved::Unbound)),
            (None, mutual, None, Some(&ours), Err(Unproved::Unbound)),
            (None, either, None, Some(&ours), Err(Unproved::Unbound)),
            (jkt, none, key, None, Ok(())),
            (jkt, none, None, None, Err(Unproved::Missing)),
            (jkt, none, other_key, None, Err(Unproved::OtherKey)),
            (jkt, none, None, Some(&ours), Err(Unproved::Missing)),
            (jkt, dpop, key, None, Ok(())),
            (jkt, mutual, key, Some(&ours), Err(Unproved::Unbound)),
            (jkt, either, key, None, Ok(())),
            (hash, none, None, Some(&ours), Ok(())),
            (hash, none, None, None, Err(Unproved::NoCertificate)),
            (hash, none, None, Some(&other), Err(Unproved::OtherCertificate)),
            (hash, none, key, Some(&ours), Err(Unproved::Unbound)),
            (hash, dpop, None, Some(&ours), Err(Unproved::Unbound)),
            (hash, mutual, None, Some(&ours), Ok(())),
            (hash, either, None, Some(&ours), Ok(())),
            (both, none, key, Some(&ours), Ok(())),
            (both, none, key, None, Err(Unproved::NoCertificate)),
            (both, none, None, Some(&ours), Err(Unproved::Missing)),
            (both, none, key, Some(&other), Err(Unproved::OtherCertificate)),
            (both, dpop, key, None, Err(Unproved::NoCertificate)),
            (both, mutual, key, Some(&ours), Ok(())),
        ] {
            let token = TokenFacts { confirmation, ..TokenFacts::default() };
            let weighed = weigh(&token, asked, key.as_ref(), certificate);
            assert_eq!(weighed, expected, "{confirmation:?} {asked:?} {key:?} {certificate:?}");
        }
    }
}
