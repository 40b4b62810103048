//! What a bearer token costs: verified for the first time by each algorithm, and remembered since.
//!
//! Keys are made anew for each run; the work does not depend on which. Nothing is remembered in the cold runs.

#[path = "support/thread_time.rs"]
mod thread_time;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::Algorithm;
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use thread_time::ThreadTime;
use vestibule::auth::bearer::{Bearer, BearerCaches};
use vestibule::auth::jwt::Verifier;
use vestibule::auth::{JwtKeys, JwtSettings};
use vestibule::domain::access::EntryId;
use vestibule::domain::secret::Secret;
use vestibule::domain::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
const ENTRY: EntryId = EntryId(1);
const SECRET: [u8; 32] = [0x5A; 32];

fn cold(c: &mut Criterion<ThreadTime>) {
    for (name, verifier, token) in cases() {
        assert!(verifier.verify(&token, NOON).is_ok(), "{name}");
        c.bench_function(&format!("jwt/cold/{name}"), |b| {
            b.iter(|| verifier.verify(black_box(&token), NOON));
        });
    }
}

fn remembered(c: &mut Criterion<ThreadTime>) {
    let (_, verifier, token) =
        cases().into_iter().find(|(name, ..)| *name == "RS256").expect("it is one of them");
    let bearer = Bearer::new(vec![verifier], Arc::new(BearerCaches::new()));
    let (message, _) = token.rsplit_once('.').expect("two dots");
    let believed = format!("Bearer {token}");
    // The same length, signed by nobody.
    let refused = format!("Bearer {}", signed(message, &[0; 256]));
    assert_eq!(believed.len(), refused.len());
    for (name, field, is_believed) in [("believed", believed, true), ("refused", refused, false)] {
        let mut ask = || bearer.believe(black_box(field.as_bytes()), &[ENTRY], NOON);
        assert_eq!(ask().is_ok(), is_believed, "{name}");
        c.bench_function(&format!("jwt/remembered/{name}"), |b| b.iter(&mut ask));
    }
}

/// A verifier and a token for one algorithm.
type Case = (&'static str, Verifier, String);

/// Every algorithm that is believed (RFC 7518 §3.1, RFC 8037 §3.1); the RSA key has 2,048 bits.
fn cases() -> Vec<Case> {
    let rsa = RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("a key is made");
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is made");
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key is made");
    let ed = Ed25519KeyPair::generate().expect("a key is made");
    let ecdsa = |name, algorithm, pair: &EcdsaKeyPair| {
        let public: PublicKeyX509Der = pair.public_key().as_der().expect("it encodes");
        let verifier = of_public_key(algorithm, public.as_ref());
        let sign =
            |message: &[u8]| pair.sign(&SystemRandom::new(), message).expect("it signs").as_ref().to_vec();
        (name, verifier, token(name, sign))
    };
    let public: PublicKeyX509Der = ed.public_key().as_der().expect("it encodes");
    let edwards = of_public_key(Algorithm::EdDSA, public.as_ref());
    vec![
        hmac_case("HS256", Algorithm::HS256, hmac::HMAC_SHA256),
        hmac_case("HS384", Algorithm::HS384, hmac::HMAC_SHA384),
        hmac_case("HS512", Algorithm::HS512, hmac::HMAC_SHA512),
        rsa_case("RS256", Algorithm::RS256, &RSA_PKCS1_SHA256, &rsa),
        rsa_case("RS384", Algorithm::RS384, &RSA_PKCS1_SHA384, &rsa),
        rsa_case("RS512", Algorithm::RS512, &RSA_PKCS1_SHA512, &rsa),
        rsa_case("PS256", Algorithm::PS256, &RSA_PSS_SHA256, &rsa),
        rsa_case("PS384", Algorithm::PS384, &RSA_PSS_SHA384, &rsa),
        rsa_case("PS512", Algorithm::PS512, &RSA_PSS_SHA512, &rsa),
        ecdsa("ES256", Algorithm::ES256, &p256),
        ecdsa("ES384", Algorithm::ES384, &p384),
        ("EdDSA", edwards, token("EdDSA", |message| ed.sign(message).as_ref().to_vec())),
    ]
}

fn hmac_case(name: &'static str, algorithm: Algorithm, hash: hmac::Algorithm) -> Case {
    let key = hmac::Key::new(hash, &SECRET);
    let keys = JwtKeys::Secret(Secret::new(SECRET.to_vec()));
    (name, verifier(algorithm, keys, &[]), token(name, |message| hmac::sign(&key, message).as_ref().to_vec()))
}

fn rsa_case(
    name: &'static str,
    algorithm: Algorithm,
    encoding: &'static dyn RsaEncoding,
    pair: &RsaKeyPair,
) -> Case {
    let public: PublicKeyX509Der = pair.public_key().as_der().expect("it encodes");
    let sign = |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("it signs");
        signature
    };
    (name, of_public_key(algorithm, public.as_ref()), token(name, sign))
}

fn token(algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = unsigned(algorithm);
    let signature = sign(message.as_bytes());
    signed(&message, &signature)
}

fn of_public_key(algorithm: Algorithm, der: &[u8]) -> Verifier {
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    verifier(algorithm, JwtKeys::PublicKey("key.pem".into()), pem.as_bytes())
}

fn verifier(algorithm: Algorithm, keys: JwtKeys, file: &[u8]) -> Verifier {
    let settings = JwtSettings {
        name: "api".into(),
        id: ENTRY,
        issuer: "https://id.example.com".into(),
        audience: vec!["wiki".into()],
        keys,
        algorithms: vec![algorithm],
        subject: "sub".into(),
        types: vec!["jwt".into(), "at+jwt".into()],
        leeway: Duration::from_secs(30),
        trust_email: false,
        access_tokens_only: false,
        claims: Vec::new(),
    };
    Verifier::new(&settings, &|_| Ok(file.to_vec())).expect("the key fits the algorithm")
}

/// What an identity provider puts into an access token.
fn claims() -> String {
    let claims = json!({
        "iss": "https://id.example.com", "aud": ["wiki", "account"],
        "sub": "5f6d1c0e-8a42-4f0b-9d53-2b7c1e9a6f10",
        "iat": NOON.as_secs() - 5, "nbf": NOON.as_secs() - 5, "exp": NOON.as_secs() + 3_600,
        "jti": "d2c1b0a9-3f4e-4d5c-8b7a-69584736251f", "email": "alice@example.com", "email_verified": true,
        "name": "Alice Liddell", "groups": ["ops", "dev", "wiki-editors"],
    });
    claims.to_string()
}

fn unsigned(algorithm: &str) -> String {
    let header = json!({ "alg": algorithm, "typ": "at+jwt" }).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims()))
}

fn signed(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = cold, remembered
}
criterion_main!(benches);
