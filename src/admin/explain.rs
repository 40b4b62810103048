//! `POST /explain`: what the configuration in force would do with a request. Nothing is asked of anybody for it, and nothing
//! changed.

use super::Control;
use super::answer::{Answer, json, problem};
use super::api;
use crate::domain::identity::Claims;
use crate::net::tls::Shown;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request that is only supposed.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// Its method.
    pub method: Method,
    /// Its address, as a browser sees it.
    pub url: String,
    /// Who sends it; absent: nobody who is known.
    pub who: Option<Claimed>,
    /// The certificate that its sender shows; absent: none.
    pub certificate: Option<Shown>,
}

/// Somebody who is supposed to have proved this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The subject.
    pub subject: String,
    /// The way or issuer that it comes from; absent: that of the route's first way.
    pub source: Option<String>,
    /// Everything else, `email` and `groups` among it.
    pub claims: Claims,
}

/// Facts in the order in which the gateway finds them. `Display` writes one a line, names padded to the same width.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    explanation: Vec<Fact>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fact {
    name: String,
    value: String,
}

impl Explanation {
    /// Adds a fact.
    pub fn say(&mut self, name: &str, value: impl fmt::Display) {
        self.explanation.push(Fact { name: name.to_owned(), value: value.to_string() });
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Fact { name, value } in &self.explanation {
            let name = format!("{name}:");
            writeln!(f, "{name:<10} {value}")?;
        }
        Ok(())
    }
}

/// The body of the call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    method: String,
    url: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    claims: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    client_certificate: Option<String>,
}

impl Body {
    fn into_request(self) -> Result<ExplainRequest, String> {
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| "`method` is not a method; write it like `GET`".to_owned())?;
        let says_more =
            self.source.is_some() || self.email.is_some() || self.groups.is_some() || !self.claims.is_empty();
        let who = match self.subject {
            None if says_more => {
                return Err("`subject` is missing; say who has these claims, or leave them out".to_owned());
            }
            None => None,
            Some(subject) => {
                let claims = api::claims(self.claims, self.email, self.groups)?;
                Some(Claimed { subject, source: self.source, claims })
            }
        };
        let certificate = self.client_certificate.map(|pem| Shown::read(pem.as_bytes())).transpose();
        let certificate = certificate.map_err(|error| format!("`client_certificate` {error}"))?;
        Ok(ExplainRequest { method, url: self.url, who, certificate })
    }
}

/// `POST /explain`.
pub(super) fn explain(control: &dyn Control, body: &[u8]) -> Answer {
    let request = serde_json::from_slice::<Body>(body)
        .map_err(|cause| format!("the body is not the JSON of this call: {cause}"))
        .and_then(Body::into_request);
    match request {
        Ok(request) => json(StatusCode::OK, &control.explain(&request)),
        Err(detail) => problem(StatusCode::BAD_REQUEST, &detail),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Behind;
    use super::*;

    #[test]
    fn a_body_says_what_is_supposed() {
        let behind = Behind::new();
        let ask = |body: &str| {
            let answer = explain(&behind, body.as_bytes());
            (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
        };
        let (status, body) =
            ask(r#"{"method":"GET","url":"https://a.example/x","subject":"alice","groups":["ops"]}"#);
        assert_eq!(status, 200, "{body}");
        let told: Explanation = serde_json::from_str(&body).expect("the client reads what the door writes");
        assert_eq!(told.to_string(), "request:   GET https://a.example/x\nwho:       alice\n");
        for (body, part) in [
            (r#"{"url":"https://a.example/"}"#, "method"),
            (r#"{"method":"G T","url":"/"}"#, "`method` is not a method"),
            (r#"{"method":"GET","url":"/","groups":["ops"]}"#, "`subject` is missing"),
            (r#"{"method":"GET","url":"/","subject":"a","claims":{"groups":"x"}}"#, "has a place of its own"),
            (r#"{"method":"GET","url":"/","client_certificate":"x"}"#, "holds no certificate in PEM"),
            (r#"{"method":"GET","url":"/","token":"x"}"#, "unknown field"),
        ] {
            let (status, told) = ask(body);
            assert!(status == 400 && told.contains(part), "{body}: {told}");
        }
    }
}
