//! The keys that verify signed tokens, and for which algorithms each may be used.
//!
//! A key brings its own list of algorithms: those of the configuration that fit its type, and no other than its `alg`
//! (RFC 7517 §4.4) where it names one. So what a token's header asks for never decides how a key is used
//! (RFC 8725 §3.1). Weak keys are refused when they are read. In a JWK Set what we do not understand is skipped
//! (RFC 7517 §5); symmetric keys in it are too, for a set is public. Nothing here reads a file: the caller hands it in.

use crate::auth::issuer::key_set::KeySet;
use crate::auth::json::object;
use crate::auth::{JwtKeys, JwtSettings};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// The most keys that one set may have.
pub const KEYS_MAX: usize = 100;
/// The largest key file.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The least bytes of a shared secret: the output of SHA-256 (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// The least bits of an RSA modulus (RFC 7518 §3.3).
pub const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why the keys of a `jwt` entry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("`{0}` cannot be read: {1}; write the path of a file that this process may read")]
    Unreadable(PathBuf, io::Error),
    /// The file exceeds [`FILE_BYTES_MAX`].
    #[error("`{0}` is larger than 1 MiB; write the path of a file that holds keys and nothing else")]
    TooLarge(PathBuf),
    /// A shared secret that can be guessed.
    #[error("the secret has {0} bytes; write one of 32 or more, as `vestibule keys generate` prints")]
    WeakSecret(usize),
    /// An RSA key that can be factored, or is too large to verify with.
    #[error("the RSA key {0} has {1} bits; write one of 2048 to 8192")]
    RsaSize(String, usize),
    /// Not one PEM block, or none that holds a public key.
    #[error("`{0}` is no public key in PEM; write a file with one `BEGIN PUBLIC KEY` block")]
    NotPem(PathBuf),
    /// A private key has no place here.
    #[error("`{0}` holds a private key; write its public part alone (`openssl pkey -in KEY -pubout`)")]
    Private(PathBuf),
    /// A certificate instead of its key.
    #[error(
        "`{0}` holds a certificate; write its public key (`openssl x509 -in CERTIFICATE -pubkey -noout`)"
    )]
    Certificate(PathBuf),
    /// A key of a type or curve that we do not verify with, or a broken one.
    #[error(
        "`{0}` holds a key that is broken or of a kind not known here; write one of RSA, P-256, P-384 or Ed25519"
    )]
    Unsupported(PathBuf),
    /// Not a JWK Set.
    #[error("`{0}` is no JWK Set; write a JSON object with a list `keys`, and every name once")]
    NotAJwkSet(PathBuf),
    /// The set exceeds [`KEYS_MAX`].
    #[error("`{0}` holds {1} keys; write at most 100")]
    TooMany(PathBuf, usize),
    /// Everything in the set was skipped.
    #[error(
        "`{0}` holds no key for signatures that fits `algorithms`; write a set with one, or another algorithm"
    )]
    NoKey(PathBuf),
    /// The configuration wants an algorithm that its key cannot serve.
    #[error("algorithm `{0:?}` does not fit the key; write one of {1}")]
    Misfit(Algorithm, String),
    /// The configuration lists none.
    #[error("`algorithms` is empty; write those that the issuer signs with")]
    NoAlgorithm,
}

/// One key with what it may be used for.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) verifies: DecodingKey,
}

/// The keys of an entry.
pub(super) enum Keys {
    /// Those of the configuration.
    Fixed(Vec<Key>),
    /// Those that the issuer publishes at the moment.
    Published(Arc<KeySet>),
    /// None: a server is asked about each token.
    Asked,
}

/// All keys of an entry; `read` gives the bytes of a file. Published ones are none yet, and nobody is asked.
pub(super) fn keys(
    settings: &JwtSettings,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Keys, KeyError> {
    if let JwtKeys::Published(published) = &settings.keys {
        if settings.algorithms.is_empty() {
            return Err(KeyError::NoAlgorithm);
        }
        all_fit(&settings.algorithms, &asymmetric())?;
        return Ok(Keys::Published(KeySet::idle((**published).clone())));
    }
    if let JwtKeys::Asked(_) = settings.keys {
        return Ok(Keys::Asked);
    }
    fixed(settings, read).map(Keys::Fixed)
}

/// The algorithm that a header or a key names. `Ed25519` (RFC 9864 §2.2) says what `EdDSA` means here, where no other curve is known.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    if name == "Ed25519" { Some(Algorithm::EdDSA) } else { Algorithm::from_str(name).ok() }
}

fn asymmetric() -> Vec<Algorithm> {
    [RSA, &[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]].concat()
}

fn fixed(settings: &JwtSettings, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Vec<Key>, KeyError> {
    if settings.algorithms.is_empty() {
        return Err(KeyError::NoAlgorithm);
    }
    let file = |path: &Path| {
        let bytes = read(path).map_err(|error| KeyError::Unreadable(path.into(), error))?;
        if bytes.len() > FILE_BYTES_MAX { Err(KeyError::TooLarge(path.into())) } else { Ok(bytes) }
    };
    match &settings.keys {
        JwtKeys::Secret(secret) => {
            let secret = secret.expose();
            if secret.len() < SECRET_BYTES_MIN {
                return Err(KeyError::WeakSecret(secret.len()));
            }
            all_fit(&settings.algorithms, HMAC)?;
            let (algorithms, key) = (settings.algorithms.clone(), DecodingKey::from_secret(secret));
            Ok(vec![Key { kid: None, algorithms, verifies: key }])
        }
        JwtKeys::PublicKey(path) => {
            let (key, fits) = public_key(path, &file(path)?)?;
            all_fit(&settings.algorithms, fits)?;
            Ok(vec![Key { kid: None, algorithms: settings.algorithms.clone(), verifies: key }])
        }
        JwtKeys::JwksFile(path) => {
            all_fit(&settings.algorithms, &asymmetric())?;
            jwk_set(path, &file(path)?, &settings.algorithms)
        }
        JwtKeys::Published(_) | JwtKeys::Asked(_) => Ok(Vec::new()),
    }
}

fn all_fit(wanted: &[Algorithm], fits: &[Algorithm]) -> Result<(), KeyError> {
    match wanted.iter().find(|algorithm| !fits.contains(algorithm)) {
        None => Ok(()),
        Some(misfit) => {
            let names: Vec<String> = fits.iter().map(|algorithm| format!("{algorithm:?}")).collect();
            Err(KeyError::Misfit(*misfit, names.join(", ")))
        }
    }
}

/// One public key in PEM (RFC 7468 §13).
fn public_key(path: &Path, pem: &[u8]) -> Result<(DecodingKey, &'static [Algorithm]), KeyError> {
    let text = str::from_utf8(pem).map_err(|_| KeyError::NotPem(path.into()))?;
    let mut labels =
        text.lines().filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    match (labels.next(), labels.next()) {
        (Some("PUBLIC KEY" | "RSA PUBLIC KEY"), None) => {}
        (Some(label), _) if label.ends_with("PRIVATE KEY") => return Err(KeyError::Private(path.into())),
        (Some("CERTIFICATE"), _) => return Err(KeyError::Certificate(path.into())),
        _ => return Err(KeyError::NotPem(path.into())),
    }
    let unsupported = || KeyError::Unsupported(path.into());
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        let Ok(Jwk { algorithm: AlgorithmParameters::RSA(parts), .. }) = Jwk::from_decoding_key(&key, None)
        else {
            return Err(unsupported());
        };
        let (n, e) = decoded(&parts.n).zip(decoded(&parts.e)).ok_or_else(unsupported)?;
        return Ok((rsa(&n, &e, &format!("of `{}`", path.display()))?.ok_or_else(unsupported)?, RSA));
    }
    let bytes = |key: &DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec).unwrap_or_default();
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        return point(&bytes(&key)).ok_or_else(unsupported);
    }
    let key = DecodingKey::from_ed_pem(pem).map_err(|_| unsupported())?;
    edwards(&bytes(&key)).ok_or_else(unsupported)
}

/// A JWK Set (RFC 7517 §5).
fn jwk_set(path: &Path, text: &[u8], wanted: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
    let set = object(text).map_err(|_| KeyError::NotAJwkSet(path.into()))?;
    let Some(Value::Array(jwks)) = set.get("keys") else { return Err(KeyError::NotAJwkSet(path.into())) };
    if jwks.len() > KEYS_MAX {
        return Err(KeyError::TooMany(path.into(), jwks.len()));
    }
    let mut keys = Vec::new();
    for (at, jwk) in jwks.iter().enumerate() {
        let Value::Object(jwk) = jwk else { return Err(KeyError::NotAJwkSet(path.into())) };
        if is_asymmetric(jwk) && jwk.contains_key("d") {
            return Err(KeyError::Private(path.into()));
        }
        if let Some(key) = self::jwk(path, at, jwk, wanted)? {
            keys.push(key);
        }
    }
    if keys.is_empty() { Err(KeyError::NoKey(path.into())) } else { Ok(keys) }
}

/// What an issuer publishes, as far as it serves.
pub(super) struct Published {
    /// For all algorithms that each may be used with; the entry's own list narrows that down.
    pub(super) keys: Vec<Key>,
    /// What was passed over, by its place, and why. Keys for other purposes are not told.
    pub(super) skipped: Vec<String>,
}

/// Why a text is no JWK Set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetError {
    #[error("it is no JWK Set (a JSON object with a list `keys`, and every name once)")]
    NotASet,
    #[error("the set holds {0} keys, more than 100")]
    TooMany(usize),
}

/// Reads a JWK Set (RFC 7517 §5) that came over the network. One bad key does not spoil the others.
pub(super) fn published(text: &[u8]) -> Result<Published, SetError> {
    let set = object(text).map_err(|_| SetError::NotASet)?;
    let Some(Value::Array(jwks)) = set.get("keys") else { return Err(SetError::NotASet) };
    if jwks.len() > KEYS_MAX {
        return Err(SetError::TooMany(jwks.len()));
    }
    let wanted = asymmetric();
    let mut published = Published { keys: Vec::new(), skipped: Vec::new() };
    for (at, one) in jwks.iter().enumerate() {
        let why = match one {
            Value::Object(one) if !is_for_verifying(one) => continue,
            Value::Object(one) if is_asymmetric(one) && one.contains_key("d") => {
                "is private: whoever reads the set can sign with it".to_owned()
            }
            Value::Object(one) => match jwk(Path::new(""), at, one, &wanted) {
                Ok(Some(key)) => {
                    published.keys.push(key);
                    continue;
                }
                Ok(None) => "is broken, or of a kind, curve or algorithm that is not known here".to_owned(),
                Err(KeyError::RsaSize(_, bits)) => {
                    format!("has {bits} bits, and an RSA key needs 2048 to 8192")
                }
                Err(_) => "cannot be used".to_owned(),
            },
            _ => "is no object".to_owned(),
        };
        published.skipped.push(format!("keys[{at}] {why}"));
    }
    Ok(published)
}

fn is_asymmetric(jwk: &Map<String, Value>) -> bool {
    matches!(text(jwk, "kty"), Some("RSA" | "EC" | "OKP"))
}

/// One JWK (RFC 7517 §4), or nothing if it is not for us.
fn jwk(
    path: &Path,
    at: usize,
    jwk: &Map<String, Value>,
    wanted: &[Algorithm],
) -> Result<Option<Key>, KeyError> {
    if !is_for_verifying(jwk) {
        return Ok(None);
    }
    let part = |name| text(jwk, name).and_then(decoded);
    let found = match (text(jwk, "kty"), text(jwk, "crv")) {
        (Some("RSA"), _) => match part("n").zip(part("e")) {
            None => None,
            Some((n, e)) => {
                let name = text(jwk, "kid").map_or_else(|| format!("keys[{at}]"), |kid| format!("`{kid}`"));
                rsa(&n, &e, &format!("{name} of `{}`", path.display()))?.map(|key| (key, RSA))
            }
        },
        (Some("EC"), Some(curve @ ("P-256" | "P-384"))) => part("x")
            .zip(part("y"))
            .and_then(|(x, y)| {
                let len = if curve == "P-256" { 32 } else { 48 };
                (x.len() == len && y.len() == len).then(|| [&[4], &*x, &*y].concat())
            })
            .and_then(|bytes| point(&bytes)),
        (Some("OKP"), Some("Ed25519")) => part("x").and_then(|x| edwards(&x)),
        _ => None,
    };
    let Some((key, fits)) = found else { return Ok(None) };
    // An `alg` that we do not know, or that does not fit the key, leaves the list empty.
    let own = match jwk.get("alg") {
        None => fits.to_vec(),
        Some(alg) => alg.as_str().and_then(algorithm).into_iter().collect(),
    };
    let algorithms: Vec<Algorithm> =
        fits.iter().copied().filter(|fit| own.contains(fit) && wanted.contains(fit)).collect();
    let kid = text(jwk, "kid").map(str::to_owned);
    Ok((!algorithms.is_empty()).then_some(Key { kid, algorithms, verifies: key }))
}

/// The public key that somebody brings along (RFC 7515 §4.1.3), held to the same rules; none if it breaks one.
pub(super) fn embedded(jwk: &Map<String, Value>) -> Option<Key> {
    self::jwk(Path::new("jwk"), 0, jwk, &asymmetric()).ok().flatten()
}

/// `use` (§4.2) and `key_ops` (§4.3), where they stand, must name verification.
fn is_for_verifying(jwk: &Map<String, Value>) -> bool {
    let by_use = jwk.get("use").is_none_or(|value| value == "sig");
    let by_operations = jwk.get("key_ops").is_none_or(|value| {
        value.as_array().is_some_and(|operations| operations.iter().any(|one| one == "verify"))
    });
    by_use && by_operations
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name)?.as_str()
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A checked RSA key. A modulus of a bad size is an error, a broken key is none.
fn rsa(n: &[u8], e: &[u8], name: &str) -> Result<Option<DecodingKey>, KeyError> {
    let trimmed =
        |bytes: &'_ [u8]| bytes.iter().position(|&byte| byte != 0).map(|start| bytes[start..].to_vec());
    let Some((n, e)) = trimmed(n).zip(trimmed(e)) else { return Ok(None) };
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(KeyError::RsaSize(name.into(), bits));
    }
    let key = DecodingKey::from_rsa_raw_components(&n, &e);
    let sound =
        e != [1] && RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok();
    Ok(sound.then_some(key))
}

/// An uncompressed point that lies on its curve.
fn point(bytes: &[u8]) -> Option<(DecodingKey, &'static [Algorithm])> {
    let (curve, fits): (&'static dyn VerificationAlgorithm, &'static [Algorithm]) = match bytes.len() {
        65 => (&ECDSA_P256_SHA256_FIXED, &[Algorithm::ES256]),
        97 => (&ECDSA_P384_SHA384_FIXED, &[Algorithm::ES384]),
        _ => return None,
    };
    ParsedPublicKey::new(curve, bytes).ok()?;
    Some((DecodingKey::from_ec_der(bytes), fits))
}

fn edwards(bytes: &[u8]) -> Option<(DecodingKey, &'static [Algorithm])> {
    ParsedPublicKey::new(&ED25519, bytes).ok()?;
    (bytes.len() == 32).then(|| (DecodingKey::from_ed_der(bytes), &[Algorithm::EdDSA] as &[Algorithm]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::forge::{RSA as RSA_PAIR, jwk, pem, pem_block, rsa_jwk, settings};
    use crate::domain::secret::Secret;
    use serde_json::json;

    fn set(text: &str) -> Result<Vec<Key>, KeyError> {
        let wanted = [RSA, &[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]].concat();
        let settings = settings(&wanted, JwtKeys::JwksFile("jwks.json".into()));
        fixed(&settings, &|_| Ok(text.as_bytes().to_vec()))
    }

    fn one(jwk: &Value) -> Result<Vec<Key>, KeyError> {
        set(&json!({ "keys": [jwk] }).to_string())
    }

    fn pem_file(text: &str, algorithms: &[Algorithm]) -> Result<Vec<Key>, KeyError> {
        let settings = settings(algorithms, JwtKeys::PublicKey("key.pem".into()));
        fixed(&settings, &|_| Ok(text.as_bytes().to_vec()))
    }

    fn message(result: Result<Vec<Key>, KeyError>) -> String {
        result.err().expect("it is refused").to_string()
    }

    #[test]
    fn a_jwk_serves_what_its_type_use_operations_and_algorithm_allow() {
        for (more, expected) in [
            (json!({}), RSA),
            (json!({ "use": "sig", "key_ops": ["verify"], "kid": "a" }), RSA),
            (json!({ "alg": "PS384" }), &[Algorithm::PS384]),
            (json!({ "use": "enc" }), &[]),
            (json!({ "use": 7 }), &[]),
            (json!({ "key_ops": ["encrypt"] }), &[]),
            (json!({ "key_ops": [] }), &[]),
            (json!({ "key_ops": "verify" }), &[]),
            (json!({ "alg": "RSA-OAEP" }), &[]),
            (json!({ "alg": "ES256" }), &[]),
            (json!({ "alg": "HS256" }), &[]),
            (json!({ "alg": 7 }), &[]),
        ] {
            match one(&jwk(Algorithm::RS256, &more)) {
                Ok(keys) => assert_eq!(keys[0].algorithms, expected, "{more}"),
                Err(why) => assert!(matches!(why, KeyError::NoKey(_)) && expected.is_empty(), "{more} {why}"),
            }
        }
    }

    #[test]
    fn keys_of_other_kinds_and_broken_ones_are_skipped() {
        let p256 = jwk(Algorithm::ES256, &json!({}));
        let off_curve = jwk(Algorithm::ES256, &json!({ "y": p256["x"] }));
        let skipped = [
            json!({}),
            json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }),
            json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 64]) }),
            json!({ "kty": "EC", "crv": "secp256k1", "x": p256["x"], "y": p256["y"] }),
            json!({ "kty": "EC", "crv": "P-384", "x": p256["x"], "y": p256["y"] }),
            json!({ "kty": "OKP", "crv": "Ed448", "x": URL_SAFE_NO_PAD.encode([1; 57]) }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
            json!({ "kty": "RSA", "n": "AAAA" }),
            json!({ "kty": "RSA", "n": rsa_jwk(&RSA_PAIR)["n"], "e": "AQ" }),
            json!({ "kty": "RSA", "n": rsa_jwk(&RSA_PAIR)["n"], "e": "AA" }),
            off_curve,
        ];
        for jwk in skipped {
            let alone = one(&jwk);
            assert!(matches!(alone, Err(KeyError::NoKey(_))), "{jwk}");
            let beside = set(&json!({ "keys": [jwk, p256] }).to_string()).expect("one key is good");
            assert_eq!(beside.len(), 1, "{jwk}");
        }
    }

    #[test]
    fn weak_keys_are_refused_with_what_to_write() {
        let mut modulus = [0xC5; 128];
        let weak = json!({ "kty": "RSA", "kid": "old", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus) });
        assert_eq!(
            message(one(&weak)),
            "the RSA key `old` of `jwks.json` has 1024 bits; write one of 2048 to 8192"
        );
        // Padded with zeros it is no longer.
        modulus[0] = 0;
        let padded = [vec![0; 200], modulus.to_vec()].concat();
        let padded = json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(padded) });
        assert_eq!(
            message(one(&padded)),
            "the RSA key keys[0] of `jwks.json` has 1016 bits; write one of 2048 to 8192"
        );
        let huge = json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xC5; 1025]) });
        assert!(matches!(one(&huge), Err(KeyError::RsaSize(_, 8200))));

        for (len, good) in [(0, false), (31, false), (32, true)] {
            let keys = JwtKeys::Secret(Secret::new(vec![7; len]));
            let result = fixed(&settings(&[Algorithm::HS512], keys), &|_| unreachable!("no file is read"));
            assert_eq!(result.is_ok(), good, "{len}");
        }
    }

    #[test]
    fn a_set_has_bounds_and_one_meaning() {
        let ed = jwk(Algorithm::EdDSA, &json!({}));
        assert_eq!(
            set(&json!({ "keys": vec![ed.clone(); KEYS_MAX] }).to_string()).expect("at the bound").len(),
            KEYS_MAX
        );
        assert!(matches!(
            set(&json!({ "keys": vec![ed; KEYS_MAX + 1] }).to_string()),
            Err(KeyError::TooMany(_, 101))
        ));
        assert!(matches!(set(&" ".repeat(FILE_BYTES_MAX + 1)), Err(KeyError::TooLarge(_))));
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(matches!(set(text), Err(KeyError::NotAJwkSet(_))), "{text}");
        }
        assert!(matches!(set(r#"{"keys":[]}"#), Err(KeyError::NoKey(_))));
        assert!(matches!(one(&jwk(Algorithm::RS256, &json!({ "d": "AAAA" }))), Err(KeyError::Private(_))));
    }

    #[test]
    fn a_bad_key_in_a_published_set_does_not_spoil_the_others() {
        let good = jwk(Algorithm::ES256, &json!({ "kid": "good" }));
        let weak = json!({ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xC5; 128]) });
        let private = jwk(Algorithm::RS256, &json!({ "d": "AAAA" }));
        let other_curve = json!({ "kty": "EC", "crv": "secp256k1", "x": good["x"], "y": good["y"] });
        let secret = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 64]) });
        let encrypts = jwk(Algorithm::RS256, &json!({ "use": "enc" }));
        let text = json!({ "keys": [weak, private, other_curve, 7, secret, encrypts, good] }).to_string();
        let published = super::published(text.as_bytes()).expect("a set");
        assert_eq!(published.keys.len(), 1);
        assert_eq!(published.keys[0].kid.as_deref(), Some("good"));
        let kinds = "is broken, or of a kind, curve or algorithm that is not known here";
        let expected = [
            "keys[0] has 1024 bits, and an RSA key needs 2048 to 8192".to_owned(),
            "keys[1] is private: whoever reads the set can sign with it".to_owned(),
            format!("keys[2] {kinds}"),
            "keys[3] is no object".to_owned(),
            format!("keys[4] {kinds}"),
        ];
        assert_eq!(published.skipped, expected);
        let empty = super::published(br#"{"keys":[]}"#).expect("an issuer may take all its keys back");
        assert!(empty.keys.is_empty() && empty.skipped.is_empty());
        for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(super::published(text.as_bytes()).err(), Some(SetError::NotASet), "{text}");
        }
        let many = json!({ "keys": vec![jwk(Algorithm::EdDSA, &json!({})); KEYS_MAX + 1] }).to_string();
        assert_eq!(super::published(many.as_bytes()).err(), Some(SetError::TooMany(101)));
    }

    #[test]
    fn a_pem_file_holds_one_public_key() {
        let rsa = pem(Algorithm::RS256);
        assert!(pem_file(&rsa, &[Algorithm::RS256, Algorithm::PS512]).is_ok());
        assert!(pem_file(&rsa.replace('\n', "\r\n"), &[Algorithm::RS256]).is_ok());
        for (text, expected) in [
            (rsa.replace("PUBLIC", "PRIVATE"), "holds a private key"),
            (pem_block("EC PRIVATE KEY", b"x"), "holds a private key"),
            (pem_block("CERTIFICATE", b"x"), "holds a certificate"),
            (format!("{rsa}{rsa}"), "is no public key in PEM"),
            ("hello".into(), "is no public key in PEM"),
            (String::new(), "is no public key in PEM"),
            (pem_block("PUBLIC KEY", b"x"), "broken or of a kind not known"),
        ] {
            let shown = message(pem_file(&text, &[Algorithm::RS256]));
            assert!(shown.contains(expected), "{shown}");
        }
    }

    #[test]
    fn an_algorithm_that_the_key_cannot_serve_is_refused() {
        let shown = message(pem_file(&pem(Algorithm::ES256), &[Algorithm::ES256, Algorithm::ES384]));
        assert_eq!(shown, "algorithm `ES384` does not fit the key; write one of ES256");
        let secret = JwtKeys::Secret(Secret::new(vec![7; 32]));
        let shown =
            message(fixed(&settings(&[Algorithm::RS256], secret), &|_| unreachable!("no file is read")));
        assert_eq!(shown, "algorithm `RS256` does not fit the key; write one of HS256, HS384, HS512");
        let public = settings(&[Algorithm::HS256], JwtKeys::JwksFile("jwks.json".into()));
        assert!(matches!(fixed(&public, &|_| Ok(b"{}".to_vec())), Err(KeyError::Misfit(..))));
        assert!(matches!(pem_file("", &[]), Err(KeyError::NoAlgorithm)));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let settings = settings(&[Algorithm::RS256], JwtKeys::PublicKey("gone.pem".into()));
        let shown = message(fixed(&settings, &|_| Err(io::ErrorKind::NotFound.into())));
        assert!(shown.starts_with("`gone.pem` cannot be read: "), "{shown}");
    }
}
