//! The examples of RFC 9449, each by its section; the clock stands where they were made.

use super::*;
use serde_json::json;

const ENTRY: EntryId = EntryId(7);
const SETTINGS: DpopSettings =
    DpopSettings { max_age: Duration::from_mins(1), leeway: Duration::from_secs(5), nonce: false };

/// The header of every proof of the RFC, whose key is that of §6.1's `jkt`.
const HEADER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZ\
    OXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6\
    IlAtMjU2In19";
const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

fn jkt() -> [u8; 32] {
    sha256(&json!(JKT)).expect("a hash")
}

fn dpop(started_at: Timestamp) -> Dpop {
    Dpop::new(vec![(ENTRY, SETTINGS)], Arc::new(DpopMemory::new(started_at)))
}

/// §7.1, figures 13 and 14: the proof counts with its request, once, and nothing else does for it.
#[test]
fn the_proof_for_a_resource_counts_once() {
    let claims = "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9w\
        cm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtz\
        bVFFbyJ9";
    let signature = "2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let proof = format!("{HEADER}.{claims}.{signature}");
    let request = Request {
        method: "GET",
        https: true,
        host: "resource.example.org",
        port: 443,
        path: "/protectedresource",
        token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
    };
    let made_at = Timestamp::from_secs(1_562_262_618);
    let dpop = dpop(made_at.minus(Duration::from_mins(1)));
    let check = |proof: &str, request: &Request<'_>, jkt: &[u8; 32], wall| {
        dpop.check(proof.as_bytes(), request, (ENTRY, jkt), (wall, wall))
    };
    assert_eq!(check(&proof, &request, &[0; 32], made_at), Err(Unproved::OtherKey));
    assert_eq!(check(&proof, &request, &jkt(), made_at.plus(Duration::from_secs(65))), Err(Unproved::Time));
    for (other, expected) in [
        (Request { method: "POST", ..request }, Unproved::Method),
        (Request { https: false, ..request }, Unproved::Address),
        (Request { path: "/protectedresource/", ..request }, Unproved::Address),
        (Request { token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxV", ..request }, Unproved::OtherToken),
    ] {
        assert_eq!(check(&proof, &other, &jkt(), made_at), Err(expected));
    }
    let changed = proof.replace("plemAgR6", "plemAgR7");
    assert_eq!(check(&changed, &request, &jkt(), made_at), Err(Unproved::Signature));
    assert_eq!(check(&proof, &request, &jkt(), made_at), Ok(()));
    assert_eq!(check(&proof, &request, &jkt(), made_at), Err(Unproved::Replayed));
}

/// §5, figure 2: the proof for the token endpoint is one, but names no token, and so is worth nothing before a resource.
#[test]
fn the_proof_for_the_token_endpoint_is_none_for_a_resource() {
    let claims = "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2Vu\
        IiwiaWF0IjoxNTYyMjYyNjE2fQ";
    let signature = "2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let proof = format!("{HEADER}.{claims}.{signature}");
    let read = Proof::read(proof.as_bytes()).expect("a proof");
    let key = read.key(&jkt()).expect("the key of the example");
    let message = read.signed.as_bytes();
    assert!(
        jsonwebtoken::crypto::verify(signature, message, &key.verifies, read.algorithm)
            .expect("it can be said")
    );
    let request = Request {
        method: "POST",
        https: true,
        host: "server.example.com",
        port: 443,
        path: "/token",
        token: "a",
    };
    let made_at = Timestamp::from_secs(1_562_262_616);
    let outcome = dpop(made_at.minus(Duration::from_mins(1))).check(
        proof.as_bytes(),
        &request,
        (ENTRY, &jkt()),
        (made_at, made_at),
    );
    assert_eq!(outcome, Err(Unproved::OtherToken));
}

/// RFC 7638 §3.1: the thumbprint of an RSA key. Its `alg` and `kid` play no part.
#[test]
fn the_thumbprint_of_the_example_is_reckoned() {
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3\
            oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA\
            ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-\
            kEgU8awapJzKnqDKgw",
    });
    let expected = sha256(&json!("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    assert_eq!(thumbprint(rsa.as_object().expect("an object")), expected);
}
