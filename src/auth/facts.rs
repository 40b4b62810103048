//! From the claims of a token to what it says about itself ([`TokenFacts`]).
//!
//! A member of the wrong type is no member: the token is refused, for what cannot be read cannot be obeyed either. So is a
//! `cnf` with anything in it that we do not check, although RFC 7800 §3.1 would let us pass over it: a token that asks for a
//! proof must not pass without it.

use crate::auth::jwt::instant;
use crate::domain::token_facts::{Confirmation, TokenFacts};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use serde_json::{Map, Value};

/// Base64url as issuers write hashes: RFC 8705 §3.1 shows one with bits left over that count for nothing.
const HASH: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Why nothing can be made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFacts {
    /// `jti` or `iat` has the wrong type.
    Malformed,
    /// `cnf` asks for a proof that is not known here.
    Confirmation,
}

/// Reads `jti`, `iat` and `cnf`, and whether `exp` stands, which others have weighed.
pub(super) fn facts(claims: &Map<String, Value>) -> Result<TokenFacts, NoFacts> {
    let jti = claims.get("jti").map(|jti| jti.as_str().ok_or(NoFacts::Malformed)).transpose()?;
    let issued_at = claims.get("iat").map(|iat| instant(iat).ok_or(NoFacts::Malformed)).transpose()?;
    let confirmation = claims.get("cnf").map(confirmation).transpose()?;
    let ends = claims.contains_key("exp");
    Ok(TokenFacts { jti: jti.map(Into::into), issued_at, ends, confirmation })
}

fn confirmation(cnf: &Value) -> Result<Confirmation, NoFacts> {
    let asked = cnf.as_object().ok_or(NoFacts::Confirmation)?;
    let hash = |name| asked.get(name).map(|value| sha256(value).ok_or(NoFacts::Confirmation)).transpose();
    let (confirmation, known) = match (hash("jkt")?, hash("x5t#S256")?) {
        (Some(jkt), Some(certificate)) => (Confirmation::Both { jkt, certificate }, 2),
        (Some(jkt), None) => (Confirmation::Jkt(jkt), 1),
        (None, Some(certificate)) => (Confirmation::CertificateS256(certificate), 1),
        (None, None) => return Err(NoFacts::Confirmation),
    };
    if asked.len() == known { Ok(confirmation) } else { Err(NoFacts::Confirmation) }
}

/// A SHA-256 in base64url without padding, as thumbprints are written (RFC 7638 §3).
pub(super) fn sha256(value: &Value) -> Option<[u8; 32]> {
    HASH.decode(value.as_str()?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use serde_json::json;

    fn read(claims: &Value) -> Result<TokenFacts, NoFacts> {
        facts(claims.as_object().expect("an object"))
    }

    /// The hash of RFC 9449 §6.1 and that of RFC 8705 §3.1.
    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    const CERTIFICATE: &str = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";

    #[test]
    fn a_token_says_how_it_is_called_and_when_it_was_issued() {
        let facts = read(&json!({ "jti": "a", "iat": 1_562_262_611.5 })).expect("good claims");
        assert_eq!(facts.jti.as_deref(), Some("a"));
        assert_eq!(facts.issued_at, Some(Timestamp::from_millis(1_562_262_611_500)));
        assert_eq!(read(&json!({})), Ok(TokenFacts::default()));
        assert!(read(&json!({ "exp": 1_562_266_216 })).expect("good claims").ends);
        for claims in [json!({ "jti": 7 }), json!({ "jti": null }), json!({ "iat": "1562262611" })] {
            assert_eq!(read(&claims), Err(NoFacts::Malformed), "{claims}");
        }
    }

    #[test]
    fn the_example_of_certificate_bound_tokens_is_bound_to_its_certificate() {
        use crate::domain::certificate::ClientCertificate;
        use crate::domain::possession::{Bindings, Unproved, weigh};
        use base64::engine::general_purpose::STANDARD;
        // RFC 8705, appendix A: the certificate of figure 6, and the hash of figure 5.
        let certificate = "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVow\
            DzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS\
            7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA\
            5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=";
        let der = STANDARD.decode(certificate).expect("base64");
        let shown = |der: &[u8]| {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
            ClientCertificate::new("CN=mtls".to_owned(), hash.as_ref())
        };
        let token = read(&json!({
            "iss": "https://server.example.com", "sub": "ty.webb@example.com", "exp": 1_493_726_400, "nbf": 1_493_722_800,
            "cnf": { "x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" },
        }))
        .expect("good claims");
        let (right, wrong) = (shown(&der), shown(&der[1..]));
        let weigh = |certificate| weigh(&token, Bindings::default(), None, certificate);
        assert_eq!(weigh(Some(&right)), Ok(()));
        assert_eq!(weigh(Some(&wrong)), Err(Unproved::OtherCertificate));
        assert_eq!(weigh(None), Err(Unproved::NoCertificate));
    }

    #[test]
    fn what_a_token_asks_of_its_presenter_is_known_or_it_is_refused() {
        let hash = |text: &str| sha256(&json!(text)).expect("a hash");
        for (cnf, expected) in [
            (json!({ "jkt": JKT }), Some(Confirmation::Jkt(hash(JKT)))),
            (json!({ "x5t#S256": CERTIFICATE }), Some(Confirmation::CertificateS256(hash(CERTIFICATE)))),
            (
                json!({ "jkt": JKT, "x5t#S256": CERTIFICATE }),
                Some(Confirmation::Both { jkt: hash(JKT), certificate: hash(CERTIFICATE) }),
            ),
            (json!(null), None),
            (json!({}), None),
            (json!([]), None),
            (json!(JKT), None),
            (json!({ "jkt": null }), None),
            (json!({ "jkt": "" }), None),
            (json!({ "jkt": format!("{JKT}=") }), None),
            (json!({ "jkt": &JKT[1..] }), None),
            (json!({ "JKT": JKT }), None),
            (json!({ "kid": "a" }), None),
            (json!({ "jwk": { "kty": "EC" } }), None),
            (json!({ "jkt": JKT, "kid": "a" }), None),
            (json!({ "jkt": JKT, "x5t#S256": 1 }), None),
        ] {
            let facts = read(&json!({ "cnf": cnf })).map(|facts| facts.confirmation);
            assert_eq!(facts, expected.map(Some).ok_or(NoFacts::Confirmation), "{cnf}");
        }
    }
}
