//! Tokens with one thing wrong, and every algorithm.

use super::*;
use crate::auth::JwtKeys;
use crate::auth::forge::*;
use crate::domain::identity::Claim;
use crate::domain::secret::Secret;
use proptest::prelude::*;
use serde_json::json;

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

fn secret() -> JwtKeys {
    JwtKeys::Secret(Secret::new(SECRET.to_vec()))
}

fn ask(token: &str) -> Result<Verified, Refusal> {
    verifier(&symmetric(), "").expect("a good secret").verify(token, NOON)
}

fn refusal(header: &str, claims: &str) -> Option<Refusal> {
    ask(&hs256(header, claims)).err()
}

fn set(jwks: &[Value], algorithms: &[Algorithm]) -> Verifier {
    let settings = settings(algorithms, JwtKeys::JwksFile("jwks.json".into()));
    verifier(&settings, &json!({ "keys": jwks }).to_string()).expect("a good set")
}

#[test]
fn a_token_of_every_algorithm_is_believed_with_its_key_in_every_form() {
    for algorithm in ALL {
        let token = signed(algorithm, None, &claims().to_string());
        let verifiers = if algorithm.family() == jsonwebtoken::AlgorithmFamily::Hmac {
            vec![verifier(&settings(&[algorithm], secret()), "").expect("a good secret")]
        } else {
            let public = settings(&[algorithm], JwtKeys::PublicKey("key.pem".into()));
            vec![
                verifier(&public, &pem(algorithm)).expect("a good key"),
                set(&[jwk(algorithm, &json!({}))], &[algorithm]),
            ]
        };
        for verifier in verifiers {
            let outcome = verifier.verify(&token, NOON).unwrap_or_else(|why| panic!("{algorithm:?} {why:?}"));
            assert_eq!(outcome.identity.as_ref().subject(), "alice");
            assert_eq!(outcome.identity.as_ref().source(), ISSUER);
            let dot = token.rfind('.').expect("two dots");
            let changed =
                format!("{}.{}{}", &token[..dot], flip(&token[dot + 1..dot + 2]), &token[dot + 2..]);
            assert_eq!(verifier.verify(&changed, NOON).err(), Some(Refusal::Signature), "{algorithm:?}");
        }
    }
}

#[test]
fn the_newer_name_of_eddsa_is_the_same_algorithm_with_the_same_key() {
    let token = signed_by(Algorithm::EdDSA, r#"{"alg":"Ed25519"}"#, &claims().to_string());
    for alg in [json!({}), json!({ "alg": "EdDSA" }), json!({ "alg": "Ed25519" })] {
        let ed = set(&[jwk(Algorithm::EdDSA, &alg)], &[Algorithm::EdDSA]);
        assert!(ed.verify(&token, NOON).is_ok(), "{alg}");
        let changed = format!("{}AAAA", &token[..token.len() - 4]);
        assert_eq!(ed.verify(&changed, NOON).err(), Some(Refusal::Signature), "{alg}");
    }
    let other = set(&[jwk(Algorithm::ES256, &json!({}))], &[Algorithm::ES256]);
    assert_eq!(other.verify(&token, NOON).err(), Some(Refusal::Algorithm));
}

fn flip(letter: &str) -> &str {
    if letter == "A" { "B" } else { "A" }
}

#[test]
fn the_algorithm_comes_from_the_key_and_never_from_the_token() {
    // The old attack: the public key, as text, used as an HMAC secret (CVE-2015-9235).
    let key = pem(Algorithm::RS256);
    let message = unsigned(r#"{"alg":"HS256"}"#, &claims().to_string());
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&hmac, message.as_bytes());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    let public = settings(&[Algorithm::RS256], JwtKeys::PublicKey("key.pem".into()));
    let verifier = verifier(&public, &key).expect("a good key");
    assert_eq!(verifier.verify(&forged, NOON).err(), Some(Refusal::Algorithm));

    // Good signatures by algorithms that the entry, or the key, does not list.
    let token = |algorithm| signed(algorithm, None, &claims().to_string());
    assert_eq!(verifier.verify(&token(Algorithm::RS384), NOON).err(), Some(Refusal::Algorithm));
    let two = [Algorithm::RS256, Algorithm::PS256];
    let bound = set(&[jwk(Algorithm::RS256, &json!({ "alg": "PS256" }))], &two);
    assert!(bound.verify(&token(Algorithm::PS256), NOON).is_ok());
    assert_eq!(bound.verify(&token(Algorithm::RS256), NOON).err(), Some(Refusal::UnknownKey));
}

#[test]
fn an_unsigned_token_is_refused() {
    for alg in ["none", "None", "NONE", "nOnE", "", "HS257", "ES256K"] {
        let header = json!({ "alg": alg }).to_string();
        assert_eq!(refusal(&header, &claims().to_string()), Some(Refusal::Algorithm), "{alg}");
        let bare = format!("{}.", unsigned(&header, &claims().to_string()));
        assert_eq!(ask(&bare).err(), Some(Refusal::Algorithm), "{alg}");
    }
    let bare = format!("{}.", unsigned(HS256, &claims().to_string()));
    assert_eq!(ask(&bare).err(), Some(Refusal::Signature));
}

#[test]
fn issuer_and_audience_must_be_there_in_the_right_type_and_ours() {
    for (changed, expected) in [
        (json!({ "iss": null }), Some(Refusal::Issuer)),
        (json!({ "iss": "https://evil.example" }), Some(Refusal::Issuer)),
        (json!({ "iss": "https://id.example.com/" }), Some(Refusal::Issuer)),
        (json!({ "iss": [ISSUER] }), Some(Refusal::Issuer)),
        (json!({ "iss": 7 }), Some(Refusal::Issuer)),
        (json!({ "aud": null }), Some(Refusal::Audience)),
        (json!({ "aud": "other" }), Some(Refusal::Audience)),
        (json!({ "aud": [] }), Some(Refusal::Audience)),
        (json!({ "aud": ["other"] }), Some(Refusal::Audience)),
        (json!({ "aud": ["wiki", 7] }), Some(Refusal::Audience)),
        (json!({ "aud": { "wiki": true } }), Some(Refusal::Audience)),
        (json!({ "aud": ["other", "forum"] }), None),
        (json!({ "aud": "forum" }), None),
    ] {
        assert_eq!(refusal(HS256, &claims_with(&changed)), expected, "{changed}");
    }
}

#[test]
fn a_token_ends_at_exp_and_begins_at_nbf_give_or_take_the_leeway() {
    let noon = NOON.as_secs();
    for (changed, expected) in [
        (json!({ "exp": null }), Some(Refusal::NoExpiry)),
        (json!({ "exp": "2099-01-01" }), Some(Refusal::NoExpiry)),
        (json!({ "exp": (noon + 600).to_string() }), Some(Refusal::NoExpiry)),
        (json!({ "exp": noon - 29 }), None),
        (json!({ "exp": noon - 30 }), Some(Refusal::Expired)),
        (json!({ "exp": noon as f64 - 29.5 }), None),
        (json!({ "exp": -1 }), Some(Refusal::Expired)),
        (json!({ "exp": 0 }), Some(Refusal::Expired)),
        (json!({ "exp": u64::MAX }), None),
        (json!({ "exp": 1e300 }), None),
        (json!({ "nbf": noon + 30 }), None),
        (json!({ "nbf": noon + 31 }), Some(Refusal::NotYet)),
        (json!({ "nbf": "soon" }), Some(Refusal::Malformed)),
        (json!({ "nbf": -5 }), None),
        (json!({ "iat": "now" }), Some(Refusal::Malformed)),
        (json!({ "iat": noon }), None),
    ] {
        assert_eq!(refusal(HS256, &claims_with(&changed)), expected, "{changed}");
    }
    let outcome = ask(&hs256(HS256, &claims().to_string())).expect("a good token");
    assert_eq!(outcome.expires_at, Timestamp::from_secs(noon + 630));
}

#[test]
fn no_more_than_two_minutes_of_leeway_are_given() {
    let mut settings = symmetric();
    settings.leeway = Duration::from_hours(24);
    let verifier = verifier(&settings, "").expect("a good secret");
    for (ago, expected) in [(119, None), (120, Some(Refusal::Expired))] {
        let token = hs256(HS256, &claims_with(&json!({ "exp": NOON.as_secs() - ago })));
        assert_eq!(verifier.verify(&token, NOON).err(), expected, "{ago}");
    }
}

#[test]
fn headers_that_ask_for_more_than_we_do_are_refused() {
    for (header, expected) in [
        (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, Some(Refusal::Critical)),
        (r#"{"alg":"HS256","crit":[]}"#, Some(Refusal::Critical)),
        (r#"{"alg":"HS256","crit":null}"#, Some(Refusal::Critical)),
        (r#"{"alg":"HS256","b64":false}"#, Some(Refusal::Unencoded)),
        (r#"{"alg":"HS256","b64":true}"#, Some(Refusal::Unencoded)),
        (r#"{"alg":"HS256","typ":"JWT"}"#, None),
        (r#"{"alg":"HS256"}"#, None),
        (r#"{"alg":"HS256","typ":"at+JWT"}"#, None),
        (r#"{"alg":"HS256","typ":"application/at+jwt"}"#, None),
        (r#"{"alg":"HS256","typ":"logout+jwt"}"#, Some(Refusal::Type)),
        (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, Some(Refusal::Type)),
        (r#"{"alg":"HS256","typ":""}"#, Some(Refusal::Type)),
        (r#"{"alg":"HS256","typ":7}"#, Some(Refusal::Malformed)),
        (r#"{"alg":"HS256","kid":7}"#, Some(Refusal::Malformed)),
        (r#"{"alg":["HS256"]}"#, Some(Refusal::Malformed)),
        (r#"{"typ":"JWT"}"#, Some(Refusal::Malformed)),
        (r#"["HS256"]"#, Some(Refusal::Malformed)),
    ] {
        assert_eq!(refusal(header, &claims().to_string()), expected, "{header}");
    }
}

#[test]
fn a_key_that_the_token_brings_is_not_looked_at() {
    let header = json!({
        "alg": "RS256", "jwk": rsa_jwk(&OTHER_RSA), "jku": "https://evil.example/jwks", "x5u": "https://evil.example"
    });
    let message = unsigned(&header.to_string(), &claims().to_string());
    let mut signature = vec![0; OTHER_RSA.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    let encoding = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
    OTHER_RSA.sign(encoding, &random, message.as_bytes(), &mut signature).expect("it signs");
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let verifier = set(&[jwk(Algorithm::RS256, &json!({}))], &[Algorithm::RS256]);
    assert_eq!(verifier.verify(&token, NOON).err(), Some(Refusal::Signature));
}

#[test]
fn a_member_that_stands_twice_is_refused_in_header_and_claims() {
    let twice = claims().to_string().replacen('{', r#"{"sub":"root","#, 1);
    assert_eq!(refusal(HS256, &twice), Some(Refusal::Duplicate));
    let nested = claims_with(&json!({ "x": "NESTED" })).replace("\"NESTED\"", r#"{"a":1,"a":2}"#);
    assert_eq!(refusal(HS256, &nested), Some(Refusal::Duplicate));
    let header = r#"{"alg":"HS256","alg":"HS256"}"#;
    assert_eq!(refusal(header, &claims().to_string()), Some(Refusal::Duplicate));
    let disguised = r#"{"alg":"HS256","\u0061lg":"none"}"#;
    assert_eq!(refusal(disguised, &claims().to_string()), Some(Refusal::Duplicate));
}

#[test]
fn what_is_no_compact_jws_is_refused() {
    let good = hs256(HS256, &claims().to_string());
    let long = hs256(HS256, &claims_with(&json!({ "x": "y".repeat(8 * 1024) })));
    for (token, expected) in [
        (String::new(), Refusal::Malformed),
        ("..".into(), Refusal::Malformed),
        ("a.b".into(), Refusal::Malformed),
        ("a.b.c.d".into(), Refusal::Malformed),
        ("a.b.c.d.e".into(), Refusal::Encrypted),
        (long, Refusal::TooLong),
        (format!("{good}="), Refusal::Signature),
        (good.replacen('.', "=.", 1), Refusal::Malformed),
        (format!(" {good}"), Refusal::Malformed),
        (hs256(HS256, "[]"), Refusal::Malformed),
        (hs256(HS256, &good), Refusal::Malformed),
    ] {
        assert_eq!(ask(&token).err(), Some(expected), "{token}");
    }
}

#[test]
fn a_signature_has_one_spelling() {
    // 32 bytes leave four stray bits in the last character: setting one must not make a second token.
    let good = hs256(HS256, &claims().to_string());
    let last = good.chars().last().expect("not empty");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("base64url");
    let twin = format!("{}{}", &good[..good.len() - 1], &alphabet[at + 1..at + 2]);
    assert!(ask(&good).is_ok());
    assert_eq!(ask(&twin).err(), Some(Refusal::Signature));
}

#[test]
fn a_subject_must_be_a_string_of_some_characters() {
    for sub in [json!(null), json!(""), json!(7), json!(["alice"]), json!({ "a": 1 })] {
        assert_eq!(refusal(HS256, &claims_with(&json!({ "sub": sub }))), Some(Refusal::Subject), "{sub}");
    }
    let mut settings = symmetric();
    settings.subject = "uid".into();
    let verifier = verifier(&settings, "").expect("a good secret");
    let token = hs256(HS256, &claims_with(&json!({ "uid": "a1" })));
    let outcome = verifier.verify(&token, NOON).expect("a good token");
    assert_eq!(outcome.identity.as_ref().subject(), "a1");
    assert_eq!(outcome.identity.as_ref().claim("sub"), Some(Claim::Text("alice")));
    assert_eq!(verifier.verify(&hs256(HS256, &claims().to_string()), NOON).err(), Some(Refusal::Subject));
}

#[test]
fn plain_claims_are_told_and_nested_ones_and_those_about_the_token_are_not() {
    let token = hs256(
        HS256,
        &claims_with(&json!({
            "groups": ["ops", "a,b", 7, true], "level": 3, "score": 1.5, "admin": true, "name": "李",
            "realm_access": { "roles": ["x"] }, "mixed": ["a", { "b": 1 }], "nothing": null,
            "huge": 1e30, "iat": 1, "nbf": 1, "jti": "j", "nonce": "n", "subject": "root", "source": "other",
        })),
    );
    let outcome = ask(&token).expect("a good token");
    let identity = outcome.identity.as_ref();
    let told: Vec<(&str, &str)> = identity.iter().map(|(name, claim)| (name, claim.header_form())).collect();
    assert_eq!(
        told,
        [
            ("subject", "alice"),
            ("source", ISSUER),
            ("admin", "true"),
            ("groups", "ops,a%2Cb,7,true"),
            ("level", "3"),
            ("name", "%E6%9D%8E"),
            ("score", "1.5"),
        ]
    );
}

#[test]
fn an_email_is_told_only_where_it_is_verified_or_trusted() {
    for (trust, changed, told) in [
        (false, json!({ "email": "a@example.com" }), false),
        (false, json!({ "email": "a@example.com", "email_verified": true }), true),
        (false, json!({ "email": "a@example.com", "email_verified": "true" }), false),
        (false, json!({ "email": "a@example.com", "email_verified": 1 }), false),
        (true, json!({ "email": "a@example.com" }), true),
        (true, json!({ "email": "a@example.com", "email_verified": false }), false),
        (true, json!({ "email": ["a@example.com"] }), false),
    ] {
        let mut settings = symmetric();
        settings.trust_email = trust;
        let verifier = verifier(&settings, "").expect("a good secret");
        let outcome = verifier.verify(&hs256(HS256, &claims_with(&changed)), NOON).expect("a good token");
        assert_eq!(outcome.identity.as_ref().claim("email").is_some(), told, "{trust} {changed}");
    }
}

#[test]
fn the_key_is_chosen_by_its_name_where_the_token_has_one() {
    let ours = || jwk(Algorithm::RS256, &json!({ "kid": "new" }));
    let mut other = rsa_jwk(&OTHER_RSA);
    other["kid"] = json!("old");
    let both = set(&[other.clone(), ours()], &[Algorithm::RS256]);
    let token = |kid| signed(Algorithm::RS256, kid, &claims().to_string());
    for (kid, expected) in [
        (None, None),
        (Some("new"), None),
        (Some("old"), Some(Refusal::Signature)),
        (Some("gone"), Some(Refusal::UnknownKey)),
    ] {
        assert_eq!(both.verify(&token(kid), NOON).err(), expected, "{kid:?}");
    }
    let nameless = set(&[other, jwk(Algorithm::RS256, &json!({}))], &[Algorithm::RS256]);
    assert!(nameless.verify(&token(Some("any")), NOON).is_ok(), "a key without a name may be the one");
}

#[test]
fn a_token_without_a_key_name_is_not_tried_on_every_key() {
    let mut jwks = vec![rsa_jwk(&OTHER_RSA); TRIES_MAX];
    jwks.push(jwk(Algorithm::RS256, &json!({})));
    let token = signed(Algorithm::RS256, None, &claims().to_string());
    assert_eq!(set(&jwks, &[Algorithm::RS256]).verify(&token, NOON).err(), Some(Refusal::Signature));
    jwks.remove(0);
    assert!(set(&jwks, &[Algorithm::RS256]).verify(&token, NOON).is_ok());
}

proptest! {
    #[test]
    fn no_text_is_believed_or_makes_the_verifier_panic(token in "[A-Za-z0-9_.=-]{0,80}|.{0,40}") {
        prop_assert!(ask(&token).is_err());
    }

    #[test]
    fn no_header_gets_past_a_wrong_signature(header in r#"\{("(alg|typ|kid|crit|b64)":("HS256"|"JWT"|1|\[\]),?){0,4}\}"#) {
        let token = format!("{}.{}", unsigned(&header, &claims().to_string()), "A".repeat(43));
        prop_assert!(ask(&token).is_err());
    }

    #[test]
    fn a_changed_token_is_refused(at in 0..300_usize, to in "[A-Za-z0-9_.-]") {
        let good = hs256(HS256, &claims().to_string());
        let at = at % good.len();
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assert_eq!(ask(&changed).is_ok(), changed == good);
    }
}
