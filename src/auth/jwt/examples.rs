//! The RFCs' own examples, each by its section: it verifies or fails as the RFC says, or is of a kind that we do not accept.

use super::*;
use crate::auth::JwtKeys;
use crate::auth::forge::*;
use crate::domain::secret::Secret;
use serde_json::json;

/// RFC 7515 Appendix A.1.1: `{"iss":"joe", "exp":1300819380, "http://example.com/is_root":true}`, with its line breaks.
const PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn set(jwks: &[Value], algorithms: &[Algorithm]) -> Verifier {
    let settings = settings(algorithms, JwtKeys::JwksFile("jwks.json".into()));
    verifier(&settings, &json!({ "keys": jwks }).to_string()).expect("a good set")
}

fn flip(first: &str) -> &'static str {
    if first == "A" { "B" } else { "A" }
}

/// RFC 7515 Appendix A.1–A.3 and RFC 8037 Appendix A.4: the signatures hold. The payloads lack what we ask of a
/// token, so the check behind the signature is the one that refuses.
#[test]
fn the_signatures_of_the_rfcs_hold() {
    let a1 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let secret =
        decoded("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .expect("base64url");
    let a2 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-\
         0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjt\
         QBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUT\
         I8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let rsa = json!({ "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp\
        -Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHS\
        XndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmo\
        udF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" });
    let a3 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.\
         DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" });
    let a4 = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
        hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });

    let shared = settings(&[Algorithm::HS256], JwtKeys::Secret(Secret::new(secret)));
    for (name, verifier, token, behind) in [
        ("RFC 7515 A.1", verifier(&shared, "").expect("a good secret"), &*a1, Refusal::Issuer),
        ("RFC 7515 A.2", set(&[rsa], &[Algorithm::RS256]), &*a2, Refusal::Issuer),
        ("RFC 7515 A.3", set(&[ec], &[Algorithm::ES256]), &*a3, Refusal::Issuer),
        ("RFC 8037 A.4", set(&[ed], &[Algorithm::EdDSA]), a4, Refusal::Malformed),
    ] {
        assert_eq!(verifier.verify(token, NOON).err(), Some(behind), "{name}");
        let (message, signature) = token.rsplit_once('.').expect("two dots");
        let changed = format!("{message}.{}{}", flip(&signature[..1]), &signature[1..]);
        assert_eq!(verifier.verify(&changed, NOON).err(), Some(Refusal::Signature), "{name}");
    }
}

/// Unsecured, encrypted, in another serialisation, with an algorithm that is not ours: none of them is a token here.
#[test]
fn examples_of_kinds_that_are_not_accepted_are_refused_for_what_they_are() {
    let es512 = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34X\
        O0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    let critical = URL_SAFE_NO_PAD.encode(
        "{\"alg\":\"none\",\r\n \"crit\":[\"http://example.com/UNDEFINED\"],\r\n \"http://example.com/UNDEFINED\":true\r\n}",
    );
    let unencoded = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#);
    let flattened =
        json!({ "payload": PAYLOAD, "protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "AA" }).to_string();
    let verifier = set(&[jwk(Algorithm::ES256, &json!({}))], &[Algorithm::ES256]);
    for (name, token, expected) in [
        ("RFC 7515 A.4", es512.to_owned(), Refusal::Algorithm),
        ("RFC 7515 A.5", format!("eyJhbGciOiJub25lIn0.{PAYLOAD}."), Refusal::Algorithm),
        ("RFC 7515 A.7", flattened, Refusal::Malformed),
        ("RFC 7515 E", format!("{critical}.RkFJTA."), Refusal::Critical),
        ("RFC 7519 6.1", format!("eyJhbGciOiJub25lIn0.{PAYLOAD}."), Refusal::Algorithm),
        (
            "RFC 7519 A.1, in form",
            "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.AA.AA.AA.AA".to_owned(),
            Refusal::Encrypted,
        ),
        (
            "RFC 7797 4.2",
            format!("{unencoded}.JC4wMg.A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"),
            Refusal::Critical,
        ),
    ] {
        assert_eq!(verifier.verify(&token, NOON).err(), Some(expected), "{name}");
    }
}

/// The set of RFC 7517 Appendix A.1: its P-256 key is for encryption, so the RSA key alone verifies.
#[test]
fn the_public_keys_of_rfc_7517_serve_what_they_are_for() {
    let ec = json!({ "kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use": "enc", "kid": "1" });
    let rsa = json!({ "kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6\
        tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
        KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-c\
        sFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
    let both = json!({ "keys": [ec, rsa] }).to_string();
    let reads = |algorithm| {
        verifier(&settings(&[algorithm], JwtKeys::JwksFile("jwks.json".into())), &both).map(drop).is_ok()
    };
    assert!(reads(Algorithm::RS256));
    assert!(!reads(Algorithm::ES256), "`use` says enc");
    assert!(!reads(Algorithm::PS256), "`alg` says RS256");
}

/// RFC 7517 Appendix A.2 and A.3: private and symmetric keys have no place in a set that anybody may read.
#[test]
fn secret_keys_in_a_set_verify_nothing() {
    let symmetric = json!({ "kty": "oct", "kid": "HMAC key used in JWS spec Appendix A.1 example",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" });
    let set = json!({ "keys": [symmetric] }).to_string();
    let read = verifier(&settings(&[Algorithm::HS256], JwtKeys::JwksFile("jwks.json".into())), &set);
    assert!(read.is_err());
}

/// RFC 9068 §2.2 and §3: the example's claims pass where only access tokens do, signed by a key that we hold.
#[test]
fn the_access_token_of_rfc_9068_is_one() {
    let mut settings = settings(&[Algorithm::RS256], JwtKeys::JwksFile("jwks.json".into()));
    settings.issuer = "https://authorization-server.example.com/".into();
    settings.audience = vec!["https://rs.example.com/".into()];
    (settings.types, settings.access_tokens_only) = (vec!["at+jwt".into()], true);
    let set = json!({ "keys": [jwk(Algorithm::RS256, &json!({}))] }).to_string();
    let ours = verifier(&settings, &set).expect("a good set");
    let claims = json!({
        "iss": "https://authorization-server.example.com/", "sub": "5ba552d67", "aud": "https://rs.example.com/",
        "exp": 1_639_528_912, "iat": 1_618_354_090, "jti": "dbe39bf3a3ba4238a513f51d6e1691c4", "client_id": "s6BhdRkqt3",
        "scope": "openid profile reademail",
    });
    let then = Timestamp::from_secs(1_618_354_100);
    let token = signed_by(Algorithm::RS256, r#"{"typ":"at+JWT","alg":"RS256"}"#, &claims.to_string());
    let believed = ours.verify(&token, then).expect("an access token");
    let scope = believed.identity.as_ref().claim(SCOPE).expect("scopes");
    assert_eq!(scope.header_form(), "openid,profile,reademail");
    let other = signed_by(Algorithm::RS256, r#"{"typ":"JWT","alg":"RS256"}"#, &claims.to_string());
    assert_eq!(ours.verify(&other, then).err(), Some(Refusal::Type));
}
