//! Keys, settings and signed tokens for the tests of this floor. Keys are made anew in each run.

use crate::auth::jwks::KeyError;
use crate::auth::jwt::Verifier;
use crate::auth::{JwtKeys, JwtSettings};
use crate::domain::access::EntryId;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

pub(super) const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
pub(super) const ISSUER: &str = "https://id.example.com";
pub(super) const SECRET: [u8; 32] = [0x5A; 32];

pub(super) static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key is made"));
pub(super) static OTHER_RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key is made"));
static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is made"));
static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key is made"));
static ED: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().expect("a key is made"));

pub(super) fn settings(algorithms: &[Algorithm], keys: JwtKeys) -> JwtSettings {
    JwtSettings {
        name: "api".into(),
        id: EntryId(7),
        issuer: ISSUER.into(),
        audience: vec!["wiki".into(), "forum".into()],
        keys,
        algorithms: algorithms.to_vec(),
        subject: "sub".into(),
        types: vec!["jwt".into(), "at+jwt".into()],
        leeway: Duration::from_secs(30),
        trust_email: false,
        access_tokens_only: false,
        claims: Vec::new(),
    }
}

/// A verifier for HS256 with [`SECRET`].
pub(super) fn symmetric() -> JwtSettings {
    settings(&[Algorithm::HS256], JwtKeys::Secret(Secret::new(SECRET.to_vec())))
}

pub(super) fn verifier(settings: &JwtSettings, file: &str) -> Result<Verifier, KeyError> {
    Verifier::new(settings, &|_| Ok(file.as_bytes().to_vec()))
}

pub(super) fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "wiki", "sub": "alice", "exp": NOON.as_secs() + 600 })
}

/// The usual claims with some replaced; `null` removes one.
pub(super) fn claims_with(changed: &Value) -> String {
    let mut claims = claims();
    for (name, value) in changed.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims.to_string()
}

pub(super) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

pub(super) fn hs256(header: &str, claims: &str) -> String {
    let message = unsigned(header, claims);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &SECRET);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// A token of the test key of that algorithm.
pub(super) fn signed(algorithm: Algorithm, kid: Option<&str>, claims: &str) -> String {
    let header = match kid {
        Some(kid) => json!({ "alg": algorithm, "kid": kid }),
        None => json!({ "alg": algorithm }),
    };
    signed_by(algorithm, &header.to_string(), claims)
}

/// Header and claims, signed by the test key of that algorithm, whatever the header says.
pub(super) fn signed_by(algorithm: Algorithm, header: &str, claims: &str) -> String {
    let message = unsigned(header, claims);
    let bytes = message.as_bytes();
    let random = SystemRandom::new();
    let rsa = |encoding: &'static dyn sig::RsaEncoding| {
        let mut signature = vec![0; RSA.public_modulus_len()];
        RSA.sign(encoding, &random, bytes, &mut signature).expect("it signs");
        signature
    };
    let hmac = |algorithm| {
        aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(algorithm, &SECRET), bytes).as_ref().to_vec()
    };
    let signature = match algorithm {
        Algorithm::HS256 => hmac(aws_lc_rs::hmac::HMAC_SHA256),
        Algorithm::HS384 => hmac(aws_lc_rs::hmac::HMAC_SHA384),
        Algorithm::HS512 => hmac(aws_lc_rs::hmac::HMAC_SHA512),
        Algorithm::RS256 => rsa(&sig::RSA_PKCS1_SHA256),
        Algorithm::RS384 => rsa(&sig::RSA_PKCS1_SHA384),
        Algorithm::RS512 => rsa(&sig::RSA_PKCS1_SHA512),
        Algorithm::PS256 => rsa(&sig::RSA_PSS_SHA256),
        Algorithm::PS384 => rsa(&sig::RSA_PSS_SHA384),
        Algorithm::PS512 => rsa(&sig::RSA_PSS_SHA512),
        Algorithm::ES256 => P256.sign(&random, bytes).expect("it signs").as_ref().to_vec(),
        Algorithm::ES384 => P384.sign(&random, bytes).expect("it signs").as_ref().to_vec(),
        Algorithm::EdDSA => ED.sign(bytes).as_ref().to_vec(),
        other => unreachable!("{other:?} has no test key"),
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The public JWK of the test key of that algorithm, with more members.
pub(super) fn jwk(algorithm: Algorithm, more: &Value) -> Value {
    let point = |bytes: &[u8]| {
        let (x, y) = bytes[1..].split_at(bytes.len() / 2);
        [URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)]
    };
    let mut jwk = match algorithm {
        Algorithm::ES256 => {
            let [x, y] = point(P256.public_key().as_ref());
            json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
        }
        Algorithm::ES384 => {
            let [x, y] = point(P384.public_key().as_ref());
            json!({ "kty": "EC", "crv": "P-384", "x": x, "y": y })
        }
        Algorithm::EdDSA => {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(ED.public_key()) })
        }
        _ => rsa_jwk(&RSA),
    };
    for (name, value) in more.as_object().expect("an object") {
        jwk[name] = value.clone();
    }
    jwk
}

pub(super) fn rsa_jwk(pair: &RsaKeyPair) -> Value {
    let key = DecodingKey::from_rsa_der(pair.public_key().as_ref());
    serde_json::to_value(Jwk::from_decoding_key(&key, None).expect("a public key")).expect("it serialises")
}

/// The public key of that algorithm in PEM.
pub(super) fn pem(algorithm: Algorithm) -> String {
    let der: Vec<u8> = match algorithm {
        Algorithm::ES256 => P256.public_key().as_der().expect("it encodes").as_ref().to_vec(),
        Algorithm::ES384 => P384.public_key().as_der().expect("it encodes").as_ref().to_vec(),
        Algorithm::EdDSA => ED.public_key().as_der().expect("it encodes").as_ref().to_vec(),
        _ => {
            let der: aws_lc_rs::encoding::PublicKeyX509Der = RSA.public_key().as_der().expect("it encodes");
            der.as_ref().to_vec()
        }
    };
    pem_block("PUBLIC KEY", &der)
}

pub(super) fn pem_block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
