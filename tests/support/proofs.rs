//! `DPoP` proofs (RFC 9449), right and wrong, made by hand.

use super::tokens::Key;
use super::wait::unix_now;
use super::{Gateway, HOST, Message, Request};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};

/// A client that holds a key, and tokens that are bound to it.
pub(crate) struct Holder {
    key: Key,
    proofs: Cell<u32>,
    nonce: RefCell<Option<String>>,
}

impl Holder {
    pub(crate) fn new() -> Self {
        Self { key: Key::es256(), proofs: Cell::new(0), nonce: RefCell::default() }
    }

    /// The public key as it stands in a proof.
    pub(crate) fn jwk(&self) -> Value {
        let jwk = self.key.jwk("");
        json!({ "kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "y": jwk["y"] })
    }

    /// Its thumbprint (RFC 7638).
    pub(crate) fn thumbprint(&self) -> String {
        // serde_json writes the members in the order of their names, as the thumbprint wants them.
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.jwk().to_string().as_bytes()))
    }

    /// A token of `issuer` that is bound to this key.
    pub(crate) fn token(&self, issuer: &Key, subject: &str) -> String {
        issuer.token(subject, |_, claims| claims["cnf"] = json!({ "jkt": self.thumbprint() }))
    }

    /// A proof for this request, but for what `change` does to it.
    pub(crate) fn proof(
        &self,
        (method, target): (&str, &str),
        token: &str,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> String {
        self.proofs.set(self.proofs.get() + 1);
        let path = target.split('?').next().expect("a first part");
        let mut header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() });
        let mut claims = json!({
            "jti": format!("{}-{}", self.thumbprint(), self.proofs.get()),
            "htm": method,
            "htu": format!("https://{HOST}{path}"),
            "iat": unix_now(),
            "ath": URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())),
        });
        if let Some(nonce) = &*self.nonce.borrow() {
            claims["nonce"] = json!(nonce);
        }
        change(&mut header, &mut claims);
        self.key.sign(&header, &claims)
    }

    /// Takes the nonce that an answer gives, as every client does.
    pub(crate) fn take_nonce(&self, answer: &Message) {
        let nonce = answer.header("dpop-nonce").expect("a nonce");
        self.nonce.replace(Some(nonce));
    }

    /// Learns a nonce: a gateway that has just started asks for one.
    pub(crate) fn greet(&self, gateway: &Gateway, target: &str, token: &str) {
        let answer = self.ask(gateway, ("GET", target), token, |_, _| {}).send();
        assert_eq!(answer.status(), 401, "{}", answer.text());
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(
            challenge.starts_with("DPoP ") && challenge.contains("error=\"use_dpop_nonce\""),
            "{challenge}"
        );
        self.take_nonce(&answer);
    }

    /// A request with the token and a proof, but for what `change` does to that.
    pub(crate) fn ask<'a>(
        &self,
        gateway: &'a Gateway,
        (method, target): (&str, &str),
        token: &str,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> Request<'a> {
        let proof = self.proof((method, target), token, change);
        gateway.secrets().note("a bound token", token);
        gateway.secrets().note("a proof", &proof);
        gateway
            .request(method, target)
            .header("Authorization", &format!("DPoP {token}"))
            .header("DPoP", &proof)
    }
}

/// The status of an answer and, where it is a refusal of ours, what the log says of it.
pub(crate) fn outcome(gateway: &Gateway, answer: &Message) -> (u16, Value) {
    let status = answer.status();
    let reason = if status == 200 { Value::Null } else { gateway.access_line(answer)["reason"].clone() };
    (status, reason)
}
