//! A key that signs assertions, and its public half as a JWK (RFC 7517).
//!
//! The file says which kind it is: ECDSA on P-256 signs with ES256 (RFC 7518 §3.4), Ed25519 with `EdDSA` (RFC 8037 §3.1). Its name is
//! the thumbprint of its public half (RFC 7638), so that nobody has to think one up and two keys never share one.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// `typ` of an assertion: no access token, and none of the other tokens of the same issuer (RFC 8725 §3.11).
pub const TYPE: &str = "vestibule-assertion+jwt";

/// Why a file holds no key to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionKeyError {
    /// No PEM block `PRIVATE KEY` (PKCS#8, RFC 5958).
    #[error("holds no private key in PEM")]
    NoKey,
    /// A block that only a passphrase opens.
    #[error("holds a key that is encrypted")]
    Encrypted,
    /// A key in the older form of its kind (`EC PRIVATE KEY`, `RSA PRIVATE KEY`).
    #[error("holds a private key in an older form than PKCS#8")]
    OlderForm,
    /// Neither P-256 nor Ed25519, or broken.
    #[error("holds a key that is neither of P-256 nor of Ed25519")]
    UnfitKey,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A key that signs assertions. Clones are cheap; `Debug` names it and shows nothing.
#[derive(Clone)]
pub struct AssertionKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    id: String,
    public: Value,
    /// The header of what it signs, encoded, with its dot.
    header: String,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl AssertionKey {
    /// Reads a private key: one PEM block of PKCS#8, as `vestibule keys generate --assertion` prints it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AssertionKeyError> {
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| without_key(pem))?;
        let bytes = der.secret_pkcs8_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes)
            .map(Pair::Es256)
            .or_else(|_| Ed25519KeyPair::from_pkcs8(bytes).map(Pair::EdDsa))
            .map_err(|_| AssertionKeyError::UnfitKey);
        der.zeroize();
        Ok(Self::new(pair?))
    }

    fn new(pair: Pair) -> Self {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // Members in the order of their names, and no others: what a thumbprint is made of (RFC 7638 §3.2).
        let (algorithm, required) = match &pair {
            Pair::Es256(pair) => {
                // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                ("ES256", json!({ "crv": "P-256", "kty": "EC", "x": part(x), "y": part(y) }))
            }
            Pair::EdDsa(pair) => {
                let x = part(pair.public_key().as_ref());
                ("EdDSA", json!({ "crv": "Ed25519", "kty": "OKP", "x": x }))
            }
        };
        let id = part(digest(&SHA256, required.to_string().as_bytes()).as_ref());
        let header = json!({ "alg": algorithm, "kid": id, "typ": TYPE }).to_string();
        let mut public = required;
        public["alg"] = json!(algorithm);
        public["kid"] = json!(id);
        public["use"] = json!("sig");
        Self(Arc::new(Inner { pair, id, public, header: part(header.as_bytes()) + "." }))
    }

    /// `kid`: the thumbprint of the public half.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The public half as a JWK.
    pub fn public(&self) -> &Value {
        &self.0.public
    }

    /// A JWT in compact form (RFC 7519 §3.1) over these claims.
    ///
    /// # Errors
    ///
    /// The library could not sign: the system has no random bytes to give.
    pub fn sign(&self, claims: &[u8]) -> Result<String, Unspecified> {
        let mut token = self.0.header.clone();
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = match &self.0.pair {
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), token.as_bytes())?,
            Pair::EdDsa(pair) => pair.try_sign(token.as_bytes())?,
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionKey({})", self.id())
    }
}

/// A new private key in PEM (PKCS#8).
///
/// # Errors
///
/// The system has no random bytes to give.
pub fn generate(kind: KeyKind) -> Result<Zeroizing<String>, Unspecified> {
    const LINE: usize = 64;
    let der = match kind {
        KeyKind::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?,
        KeyKind::EdDsa => Ed25519KeyPair::generate()?.to_pkcs8v1()?,
    };
    // With room for all of it: a string that grows leaves its former bytes behind.
    let mut text = Zeroizing::new(String::with_capacity(512));
    STANDARD.encode_string(der.as_ref(), &mut text);
    let mut pem = Zeroizing::new(String::with_capacity(512));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

/// Why there is no PKCS#8 in a text.
fn without_key(pem: &[u8]) -> AssertionKeyError {
    let text = String::from_utf8_lossy(pem);
    let mut labels =
        text.lines().filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    match labels.find(|label| label.ends_with("PRIVATE KEY")) {
        Some("ENCRYPTED PRIVATE KEY") => AssertionKeyError::Encrypted,
        Some("EC PRIVATE KEY" | "RSA PRIVATE KEY") => AssertionKeyError::OlderForm,
        _ => AssertionKeyError::NoKey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    /// RFC 8037 appendix A.1 and A.3: a key and its thumbprint.
    #[test]
    fn the_name_of_a_key_is_the_thumbprint_of_the_rfc() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url");
        let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20], &seed[..]];
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.concat())
        );
        let key = AssertionKey::from_pem(pem.as_bytes()).expect("a key");
        assert_eq!(key.public()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies() {
        for (kind, algorithm) in [(KeyKind::Es256, Algorithm::ES256), (KeyKind::EdDsa, Algorithm::EdDSA)] {
            let key = AssertionKey::from_pem(generate(kind).expect("randomness").as_bytes()).expect("a key");
            let token = key.sign(br#"{"aud":"wiki","exp":99999999999}"#).expect("a signature");
            let header = jsonwebtoken::decode_header(&token).expect("a header");
            assert_eq!((header.alg, header.kid.as_deref()), (algorithm, Some(key.id())));
            assert_eq!(header.typ.as_deref(), Some(TYPE));
            let jwk: Jwk = serde_json::from_value(key.public().clone()).expect("a JWK");
            let verifies = DecodingKey::from_jwk(&jwk).expect("a public key");
            let mut validation = Validation::new(algorithm);
            validation.set_audience(&["wiki"]);
            let read = jsonwebtoken::decode::<Value>(&token, &verifies, &validation);
            assert_eq!(read.expect("a good signature").claims["aud"], "wiki");
            assert_eq!(format!("{key:?}"), format!("AssertionKey({})", key.id()));
        }
    }

    #[test]
    fn a_file_without_such_a_key_is_told_by_what_it_holds() {
        let block = |label: &str| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        for (text, expected) in [
            (String::new(), AssertionKeyError::NoKey),
            ("secret".to_owned(), AssertionKeyError::NoKey),
            (block("PUBLIC KEY"), AssertionKeyError::NoKey),
            (block("ENCRYPTED PRIVATE KEY"), AssertionKeyError::Encrypted),
            (block("EC PRIVATE KEY"), AssertionKeyError::OlderForm),
            (block("PRIVATE KEY"), AssertionKeyError::UnfitKey),
        ] {
            assert_eq!(AssertionKey::from_pem(text.as_bytes()).err(), Some(expected), "{text}");
        }
    }
}
