//! A client's certificate, as far as rules and applications look at it.

use crate::domain::identity::encode_text;
use aws_lc_rs::constant_time::verify_slices_are_equal;

/// What an identity header may carry of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateClaim {
    /// [`ClientCertificate::subject`].
    Subject,
    /// [`ClientCertificate::fingerprint`].
    Fingerprint,
}

impl CertificateClaim {
    /// The claim of this name, whatever a user file or a token has under it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "client_certificate_subject" => Some(Self::Subject),
            "client_certificate_fingerprint" => Some(Self::Fingerprint),
            _ => None,
        }
    }
}

/// A certificate that a client has shown and proved to hold, issued by an authority that the listener trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    subject: String,
    /// In the form of header values.
    encoded_subject: String,
    fingerprint: String,
}

impl ClientCertificate {
    /// `subject` as RFC 4514 writes it; `fingerprint` is the SHA-256 of the whole certificate.
    pub fn new(subject: String, fingerprint: &[u8]) -> Self {
        Self { encoded_subject: encode_text(&subject), subject, fingerprint: hex(fingerprint) }
    }

    /// The subject as RFC 4514 writes it, the most specific part first: `CN=alice,O=Example`. May be empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of the certificate (DER): 64 lower-case hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether this is its SHA-256; compared in constant time.
    pub fn has_hash(&self, sha256: &[u8; 32]) -> bool {
        verify_slices_are_equal(hex(sha256).as_bytes(), self.fingerprint.as_bytes()).is_ok()
    }

    /// What a header says of it, encoded like other claims; an empty subject says nothing.
    pub fn claim(&self, claim: CertificateClaim) -> Option<&str> {
        let value = match claim {
            CertificateClaim::Subject => &self.encoded_subject,
            CertificateClaim::Fingerprint => &self.fingerprint,
        };
        (!value.is_empty()).then_some(value)
    }
}

/// What must hold of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateRule {
    /// There is one.
    Any,
    /// Its subject is one of these, letter for letter.
    Subject(Vec<String>),
    /// Its fingerprint is one of these: lower-case hex digits.
    Fingerprint(Vec<String>),
}

impl CertificateRule {
    /// Whether it holds; without a certificate it never does.
    pub fn holds(&self, certificate: Option<&ClientCertificate>) -> bool {
        let Some(certificate) = certificate else { return false };
        match self {
            Self::Any => true,
            Self::Subject(listed) => listed.iter().any(|subject| subject == certificate.subject()),
            Self::Fingerprint(listed) => listed.iter().any(|print| print == certificate.fingerprint()),
        }
    }
}

/// Lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Reads a fingerprint as tools print it: 32 bytes in hex, in either case, with or without colons.
pub fn parse_fingerprint(text: &str) -> Option<String> {
    let bare: String = text.chars().filter(|c| *c != ':').collect();
    let whole = bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| bare.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_of_a_certificate_and_never_without_one() {
        let alice = ClientCertificate::new("CN=alice,O=Über".to_owned(), &[0xAB; 32]);
        let listed = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        for (rule, expected) in [
            (CertificateRule::Any, true),
            (CertificateRule::Subject(listed(&["CN=bob", "CN=alice,O=Über"])), true),
            (CertificateRule::Subject(listed(&["CN=alice"])), false),
            (CertificateRule::Subject(listed(&["cn=alice,o=über"])), false),
            (CertificateRule::Fingerprint(vec!["ab".repeat(32)]), true),
            (CertificateRule::Fingerprint(vec!["ab".repeat(31)]), false),
        ] {
            assert_eq!(rule.holds(Some(&alice)), expected, "{rule:?}");
            assert!(!rule.holds(None), "{rule:?}");
        }
        assert_eq!(alice.claim(CertificateClaim::Subject), Some("CN=alice,O=%C3%9Cber"));
        let nameless = ClientCertificate::new(String::new(), &[0; 32]);
        assert_eq!(nameless.claim(CertificateClaim::Subject), None);
    }

    #[test]
    fn fingerprints_are_read_as_tools_print_them() {
        let plain = "0a".repeat(32);
        let with_colons = ["0A"; 32].join(":");
        for (text, expected) in [
            (plain.as_str(), Some(plain.clone())),
            (&with_colons, Some(plain.clone())),
            (&plain[2..], None),
            ("", None),
            (&"0g".repeat(32), None),
        ] {
            assert_eq!(parse_fingerprint(text), expected, "{text}");
        }
    }
}
