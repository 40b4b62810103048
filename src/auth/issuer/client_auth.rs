//! How we prove to an issuer who asks: the ways of RFC 6749 §2.3.1, RFC 7523 §2.2 and RFC 8705 §2.

use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use form_urlencoded::Serializer;
use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// How long what we sign may be used: as long as one question takes, and clocks differ.
const ASSERTION_LIFETIME: Duration = Duration::from_mins(1);
/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who asks, and how that is proved.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// The proof.
    pub proof: ClientProof,
}

/// The proof of a client.
#[derive(Clone, Debug)]
pub enum ClientProof {
    /// A secret in the `Authorization` header.
    Basic(Secret<String>),
    /// A secret in the form.
    Post(Secret<String>),
    /// A signature of ours.
    Assertion(Box<AssertionKey>),
    /// The certificate of the connection; in the form stands the name alone.
    Certificate,
}

/// A proof could not be made: the operating system has no random bytes to give, or the library cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoProof;

/// What we sign with.
#[derive(Clone)]
pub struct AssertionKey {
    key: EncodingKey,
    pem: Secret<Vec<u8>>,
    algorithm: Algorithm,
    /// `kid`, where the issuer knows several keys of ours.
    key_id: Option<String>,
    /// `aud`: the issuer, or the address that is asked.
    audience: String,
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, key_id, audience, .. } = self;
        write!(f, "AssertionKey({algorithm:?}, {key_id:?}, {audience:?})")
    }
}

impl AssertionKey {
    /// Reads a private key in PEM: RSA (RS256), P-256 (ES256), P-384 (ES384) or Ed25519 (`EdDSA`). Nothing, if it is none of these.
    pub fn read(pem: &[u8], key_id: Option<String>, audience: String) -> Option<Self> {
        let candidates = [
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem)),
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem)),
            (Algorithm::ES384, EncodingKey::from_ec_pem(pem)),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem)),
        ];
        // A key's curve shows when it signs.
        let mut fitting = candidates.into_iter().filter_map(|(algorithm, key)| {
            let key = key.ok()?;
            jsonwebtoken::crypto::sign(b"", &key, algorithm).ok()?;
            Some((algorithm, key))
        });
        let (algorithm, key) = fitting.next()?;
        Some(Self { key, pem: Secret::new(pem.to_vec()), algorithm, key_id, audience })
    }

    /// A signed statement that `client` asks now (RFC 7523 §3), good for one minute and one use.
    fn sign(&self, client: &str, wall: Timestamp) -> Option<String> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).ok()?;
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.key_id);
        let claims = json!({
            "iss": client,
            "sub": client,
            "aud": self.audience,
            "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": wall.as_secs(),
            "exp": wall.plus(ASSERTION_LIFETIME).as_secs(),
        });
        jsonwebtoken::encode(&header, &claims, &self.key).ok()
    }
}

impl Client {
    /// What nobody else knows.
    pub(super) fn secret(&self) -> &[u8] {
        match &self.proof {
            ClientProof::Basic(secret) | ClientProof::Post(secret) => secret.expose().as_bytes(),
            ClientProof::Assertion(key) => key.pem.expose(),
            ClientProof::Certificate => &[],
        }
    }

    /// Adds the proof to a form, and gives what belongs into `Authorization`.
    pub(super) fn prove(
        &self,
        form: &mut Serializer<'_, String>,
        wall: Timestamp,
    ) -> Result<Option<HeaderValue>, NoProof> {
        match &self.proof {
            ClientProof::Basic(secret) => {
                let credentials = Secret::new(format!("{}:{}", encoded(&self.id), encoded(secret.expose())));
                let value = Secret::new(format!("Basic {}", STANDARD.encode(credentials.expose())));
                let mut value = HeaderValue::from_str(value.expose()).map_err(|_| NoProof)?;
                value.set_sensitive(true);
                return Ok(Some(value));
            }
            ClientProof::Post(secret) => {
                form.append_pair("client_id", &self.id).append_pair("client_secret", secret.expose());
            }
            ClientProof::Assertion(key) => {
                let assertion = key.sign(&self.id, wall).ok_or(NoProof)?;
                form.append_pair("client_id", &self.id)
                    .append_pair("client_assertion_type", ASSERTION_TYPE)
                    .append_pair("client_assertion", &assertion);
            }
            ClientProof::Certificate => {
                form.append_pair("client_id", &self.id);
            }
        }
        Ok(None)
    }
}

/// As RFC 6749 §2.3.1 has it: form-encoded before it goes into the header.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    fn prove(id: &str, proof: ClientProof) -> (String, Option<HeaderValue>) {
        let mut form = Serializer::new(String::new());
        let header = Client { id: id.into(), proof }.prove(&mut form, NOON).expect("it can be made");
        (form.finish(), header)
    }

    #[test]
    fn id_and_secret_are_encoded_before_they_go_into_the_header() {
        let (form, header) = prove("g:w", ClientProof::Basic(Secret::new("a b+%ä".into())));
        let header = header.expect("a header");
        assert!(header.is_sensitive());
        let value = header.to_str().expect("ASCII").strip_prefix("Basic ").expect("the scheme");
        let value = STANDARD.decode(value).expect("base64");
        assert_eq!(String::from_utf8(value).expect("text"), "g%3Aw:a+b%2B%25%C3%A4");
        assert_eq!(form, "");
    }

    #[test]
    fn secret_and_certificate_stand_in_the_form_as_far_as_they_must() {
        let (form, header) = prove("g&w", ClientProof::Post(Secret::new("a b".into())));
        assert_eq!((form.as_str(), header), ("client_id=g%26w&client_secret=a+b", None));
        let (form, header) = prove("gw", ClientProof::Certificate);
        assert_eq!((form.as_str(), header), ("client_id=gw", None));
    }

    #[test]
    fn a_signature_names_the_client_the_issuer_and_the_hour() {
        for (key, algorithm) in [
            (rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256), "ES256"),
            (rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384), "ES384"),
            (rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519), "EdDSA"),
            (rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048), "RS256"),
        ] {
            let pem = key.expect("a key").serialize_pem();
            let read = AssertionKey::read(pem.as_bytes(), Some("k1".into()), "https://id.example.com".into());
            let key = read.unwrap_or_else(|| panic!("{algorithm}"));
            let (form, _) = prove("gw", ClientProof::Assertion(Box::new(key)));
            let fields: Vec<(String, String)> =
                form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            assert_eq!(fields[0], ("client_id".into(), "gw".into()));
            assert_eq!(fields[1], ("client_assertion_type".into(), ASSERTION_TYPE.into()));
            let parts: Vec<&str> = fields[2].1.split('.').collect();
            let part = |at: usize| -> Value {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[at]).expect("base64url")).expect("JSON")
            };
            assert_eq!((&part(0)["alg"], &part(0)["kid"]), (&json!(algorithm), &json!("k1")));
            let claims = part(1);
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!("gw"), &json!("gw")));
            assert_eq!(claims["aud"], "https://id.example.com");
            assert_eq!(claims["exp"], NOON.as_secs() + 60);
            assert_eq!(claims["jti"].as_str().map(str::len), Some(22));
        }
        assert!(AssertionKey::read(b"hello", None, String::new()).is_none());
    }
}
