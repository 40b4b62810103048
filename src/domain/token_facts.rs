//! What a bearer token says about itself: how it is called, when it was issued, and who must hold it.
//!
//! None of it is a claim about the subject, so no header and no `allow` reads it. It stays with the verdict on the token,
//! for what is asked anew with every request: the proof of possession, and whether the token was revoked.

use crate::domain::time::Timestamp;

/// Facts of one believed token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// `jti` (RFC 7519 §4.1.7): its name, unique with its issuer.
    pub jti: Option<Box<str>>,
    /// `iat` (RFC 7519 §4.1.6): when it was issued.
    pub issued_at: Option<Timestamp>,
    /// `exp` (RFC 7519 §4.1.4) stands: the token itself says that it ends.
    pub ends: bool,
    /// `cnf` (RFC 7800 §3.1): what its presenter must prove to hold. Such a token without its proof admits nobody.
    pub confirmation: Option<Confirmation>,
}

/// What the presenter of a token must prove to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// `jkt` (RFC 9449 §6.1): the key with this RFC 7638 thumbprint, by a `DPoP` proof.
    Jkt([u8; 32]),
    /// `x5t#S256` (RFC 8705 §3.1): the certificate with this SHA-256, by the TLS connection.
    CertificateS256([u8; 32]),
    /// Both of them.
    Both {
        /// As in [`Confirmation::Jkt`].
        jkt: [u8; 32],
        /// As in [`Confirmation::CertificateS256`].
        certificate: [u8; 32],
    },
}

impl Confirmation {
    /// The thumbprint of the key that a `DPoP` proof must be signed with.
    pub const fn jkt(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Jkt(jkt) | Self::Both { jkt, .. } => Some(jkt),
            Self::CertificateS256(_) => None,
        }
    }

    /// The SHA-256 of the certificate that the connection must have proved.
    pub const fn certificate(&self) -> Option<&[u8; 32]> {
        match self {
            Self::CertificateS256(certificate) | Self::Both { certificate, .. } => Some(certificate),
            Self::Jkt(_) => None,
        }
    }
}
