//! Signed tokens, right and wrong, made by hand: a library would refuse to make the wrong ones.

use super::wait::unix_now;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Who issues the tokens of these tests, and for whom.
pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const AUDIENCE: &str = "wiki";

/// A key that signs, of one kind.
pub(crate) enum Key {
    Hs256(String),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Key {
    pub(crate) fn hs256() -> Self {
        Self::Hs256("a-shared-secret-of-more-than-32-bytes-71c2".to_owned())
    }

    pub(crate) fn es256() -> Self {
        Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key pair is made"))
    }

    pub(crate) fn eddsa() -> Self {
        Self::EdDsa(Ed25519KeyPair::generate().expect("a key pair is made"))
    }

    pub(crate) fn rs256() -> Self {
        Self::Rs256(rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key pair is made"))
    }

    /// Its name in a token's header.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
            Self::Rs256(_) => "RS256",
        }
    }

    /// The public key as a PEM file, or the secret as it stands in its file.
    pub(crate) fn file(&self) -> String {
        let der = match self {
            Self::Hs256(secret) => return secret.clone(),
            Self::Es256(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("a key has a form")
            }
            Self::EdDsa(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("a key has a form")
            }
            Self::Rs256(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("a key has a form")
            }
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// One key of a JWK Set (RFC 7517).
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Hs256(secret) => json!({ "kty": "oct", "k": part(secret.as_bytes()) }),
            Self::Es256(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                json!({ "kty": "EC", "crv": "P-256", "x": part(&point[..32]), "y": part(&point[32..]) })
            }
            Self::EdDsa(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": part(pair.public_key().as_ref()) })
            }
            Self::Rs256(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({
                    "kty": "RSA",
                    "n": part(n.big_endian_without_leading_zero()),
                    "e": part(e.big_endian_without_leading_zero()),
                })
            }
        };
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hs256(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message).as_ref().to_vec()
            }
            Self::Es256(pair) => pair.sign(&random, message).expect("a key signs").as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a key signs");
                signature
            }
        }
    }

    /// A token with these texts as header and claims, signed.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A token with this header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token that says what it should, but for what `change` does to it.
    pub(crate) fn token(&self, subject: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({ "alg": self.algorithm(), "typ": "JWT" });
        let mut claims = claims(subject);
        change(&mut header, &mut claims);
        self.sign(&header, &claims)
    }

    /// A token that is to be believed.
    pub(crate) fn good(&self, subject: &str) -> String {
        self.token(subject, |_, _| {})
    }
}

/// The claims of a token that is to be believed for an hour.
pub(crate) fn claims(subject: &str) -> Value {
    let now = unix_now();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600,
        "email": format!("{subject}@example.com"), "email_verified": true, "groups": ["ops"],
    })
}
