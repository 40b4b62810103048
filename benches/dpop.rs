//! What a `DPoP` proof costs on the thread that carries the request: all of its checks, with each common kind of key.
//!
//! The proof was used before, which is found out last: everything is done but noting it. One by another key than the token's is
//! refused before its signature is looked at.

#[path = "support/thread_time.rs"]
mod thread_time;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use thread_time::ThreadTime;
use vestibule::auth::dpop::{Dpop, DpopMemory, DpopSettings, Request};
use vestibule::domain::access::EntryId;
use vestibule::domain::possession::Unproved;
use vestibule::domain::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
const ENTRY: EntryId = EntryId(1);
/// As long as an access token with everyday claims; nothing but its hash is looked at.
const TOKEN: &str = match str::from_utf8(&[b'x'; 800]) {
    Ok(token) => token,
    Err(_) => "",
};

fn part(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn request() -> Request<'static> {
    Request {
        method: "GET",
        https: true,
        host: "wiki.example.com",
        port: 443,
        path: "/api/pages/7",
        token: TOKEN,
    }
}

/// A proof with this key, and the thumbprint of that.
fn proof(algorithm: &str, jwk: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> (String, [u8; 32]) {
    let header = json!({ "typ": "dpop+jwt", "alg": algorithm, "jwk": jwk });
    let claims = json!({
        "jti": "0b4c7a52-6d0e-4c39-a1f4-5f0f6a2f5c11", "htm": "GET",
        "htu": "https://wiki.example.com/api/pages/7", "iat": NOON.as_secs(),
        "ath": part(digest(&SHA256, TOKEN.as_bytes()).as_ref()),
    });
    let message = format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
    // serde_json writes members in the order of their names, as a thumbprint wants them.
    let thumbprint = digest(&SHA256, jwk.to_string().as_bytes());
    let signature = part(&sign(message.as_bytes()));
    (format!("{message}.{signature}"), thumbprint.as_ref().try_into().expect("32 bytes"))
}

fn es256() -> (String, [u8; 32]) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is made");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": part(x), "y": part(y) });
    proof("ES256", &jwk, |message| {
        pair.sign(&SystemRandom::new(), message).expect("it signs").as_ref().to_vec()
    })
}

fn eddsa() -> (String, [u8; 32]) {
    let pair = Ed25519KeyPair::generate().expect("a key is made");
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": part(pair.public_key().as_ref()) });
    proof("EdDSA", &jwk, |message| pair.sign(message).as_ref().to_vec())
}

fn rs256() -> (String, [u8; 32]) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key is made");
    let key = pair.public_key();
    let n = part(key.modulus().big_endian_without_leading_zero());
    let e = part(key.exponent().big_endian_without_leading_zero());
    proof("RS256", &json!({ "kty": "RSA", "n": n, "e": e }), |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("it signs");
        signature
    })
}

fn proofs(c: &mut Criterion<ThreadTime>) {
    let settings =
        DpopSettings { max_age: Duration::from_mins(1), leeway: Duration::from_secs(30), nonce: false };
    let memory = Arc::new(DpopMemory::new(NOON.minus(Duration::from_hours(1))));
    let dpop = Dpop::new(vec![(ENTRY, settings)], memory);
    let request = request();
    for (name, (proof, jkt)) in [("ES256", es256()), ("EdDSA", eddsa()), ("RS256", rs256())] {
        let check =
            |jkt: &[u8; 32]| dpop.check(black_box(proof.as_bytes()), &request, (ENTRY, jkt), (NOON, NOON));
        assert_eq!(check(&jkt), Ok(()), "{name}");
        assert_eq!(check(&jkt), Err(Unproved::Replayed), "{name}");
        c.bench_function(&format!("dpop/{name}"), |b| b.iter(|| check(&jkt)));
        if name == "ES256" {
            assert_eq!(check(&[0; 32]), Err(Unproved::OtherKey));
            c.bench_function("dpop/another key's", |b| b.iter(|| check(&[0; 32])));
        }
    }
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = proofs
}
criterion_main!(benches);
