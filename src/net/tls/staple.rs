//! What may be stapled to a handshake: an OCSP response that says something of the very certificate.
//!
//! Browsers break off a handshake over a response that they cannot read; over none at all they go on. So the form is looked at
//! before it is handed out (RFC 6960 §4.2.1). Whether signature, instants and verdict are good is for the client to say.

use x509_parser::der_parser::asn1_rs::{Any, Class, FromDer, Tag};

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1, as it stands on the wire.
const BASIC: [u8; 9] = [0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Why a file is nothing to staple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StapleError {
    /// Not of the form of an OCSP response, cut short, or with something behind it.
    #[error("is no OCSP response in DER")]
    NoResponse,
    /// The responder tells of an error of its own (RFC 6960 §4.2.1, `OCSPResponseStatus`).
    #[error("says that the responder could not answer")]
    Unsuccessful,
    /// It is of other certificates alone.
    #[error("says nothing of this certificate")]
    OtherCertificate,
}

/// Looks whether `response` is a successful one of the certificate with this serial number, which is given as it stands on the wire.
pub(super) fn check(response: &[u8], serial: &[u8]) -> Result<(), StapleError> {
    let mut parts = Parts(response).only(Tag::Sequence).ok_or(StapleError::NoResponse)?;
    match parts.next(Class::Universal, Tag::Enumerated) {
        Some(Parts([0])) => {}
        Some(Parts([_])) => return Err(StapleError::Unsuccessful),
        _ => return Err(StapleError::NoResponse),
    }
    let singles = singles(parts).ok_or(StapleError::NoResponse)?;
    let mut left = singles;
    while !left.0.is_empty() {
        if left.single().ok_or(StapleError::NoResponse)? == serial {
            return Ok(());
        }
    }
    Err(StapleError::OtherCertificate)
}

/// The `responses` of a basic response, from what follows the status.
fn singles(mut parts: Parts<'_>) -> Option<Parts<'_>> {
    let mut bytes = parts.next(Class::ContextSpecific, Tag(0))?.only(Tag::Sequence)?;
    if bytes.next(Class::Universal, Tag::Oid)?.0 != BASIC {
        return None;
    }
    let mut basic = bytes.next(Class::Universal, Tag::OctetString)?.only(Tag::Sequence)?;
    let mut data = basic.next(Class::Universal, Tag::Sequence)?;
    // The version, which is left out where it is 1.
    data.next(Class::ContextSpecific, Tag(0));
    // Who says it: by name or by key.
    data.next(Class::ContextSpecific, Tag(1)).or_else(|| data.next(Class::ContextSpecific, Tag(2)))?;
    data.next(Class::Universal, Tag::GeneralizedTime)?;
    let singles = data.next(Class::Universal, Tag::Sequence)?;
    // The algorithm and the signature.
    basic.next(Class::Universal, Tag::Sequence)?;
    basic.next(Class::Universal, Tag::BitString)?;
    Some(singles)
}

/// Values of DER, one behind the other.
#[derive(Clone, Copy)]
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    /// What the next value holds, if it is of this kind; otherwise it stays the next.
    fn next(&mut self, class: Class, tag: Tag) -> Option<Self> {
        let (rest, value) = Any::from_der(self.0).ok()?;
        if (value.header.class(), value.header.tag()) != (class, tag) {
            return None;
        }
        self.0 = rest;
        Some(Self(value.data))
    }

    /// What the one value holds, with nothing behind it.
    fn only(mut self, tag: Tag) -> Option<Self> {
        let value = self.next(Class::Universal, tag)?;
        self.0.is_empty().then_some(value)
    }

    /// The serial number that the next `SingleResponse` is of.
    fn single(&mut self) -> Option<&'a [u8]> {
        let mut id = self.next(Class::Universal, Tag::Sequence)?.next(Class::Universal, Tag::Sequence)?;
        // Which hash, and those of the issuer's name and key.
        id.next(Class::Universal, Tag::Sequence)?;
        id.next(Class::Universal, Tag::OctetString)?;
        id.next(Class::Universal, Tag::OctetString)?;
        Some(id.next(Class::Universal, Tag::Integer)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value: tag, length, what it holds.
    fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("short");
        let length = if length < 128 { vec![length] } else { vec![0x81, length] };
        [vec![tag], length, content].concat()
    }

    /// The shortest response of one certificate.
    fn response(serial: &[u8]) -> Vec<u8> {
        let hash = value(0x30, &[&value(0x06, &[&[0x2B, 0x0E, 0x03, 0x02, 0x1A]])]);
        let id = value(0x30, &[&hash, &value(4, &[&[1; 20]]), &value(4, &[&[2; 20]]), &value(2, &[serial])]);
        let time = value(0x18, &[b"20261122120000Z"]);
        let single = value(0x30, &[&id, &[0x80, 0], &time]);
        let responder = value(0xA2, &[&value(4, &[&[3; 20]])]);
        let data = value(0x30, &[&responder, &time, &value(0x30, &[&single])]);
        let basic = value(0x30, &[&data, &hash, &value(3, &[&[0, 1]])]);
        let bytes = value(0x30, &[&value(6, &[&BASIC]), &value(4, &[&basic])]);
        value(0x30, &[&[0x0A, 1, 0], &value(0xA0, &[&bytes])])
    }

    #[test]
    fn a_response_is_of_its_certificate_alone() {
        let sound = response(&[0, 0x9A, 7]);
        assert_eq!(check(&sound, &[0, 0x9A, 7]), Ok(()));
        assert_eq!(check(&sound, &[7]), Err(StapleError::OtherCertificate));
        // `tryLater`, as responders say it.
        assert_eq!(check(&[0x30, 3, 0x0A, 1, 3], &[7]), Err(StapleError::Unsuccessful));
        assert_eq!(check(&[0x30, 3, 0x0A, 1, 0], &[7]), Err(StapleError::NoResponse));
        assert_eq!(check(b"an OCSP response", &[7]), Err(StapleError::NoResponse));
    }

    #[test]
    fn what_is_cut_short_or_longer_is_none() {
        let sound = response(&[7]);
        for length in 0..sound.len() {
            assert_eq!(check(&sound[..length], &[7]), Err(StapleError::NoResponse), "{length}");
        }
        assert_eq!(check(&[&sound[..], &[0]].concat(), &[7]), Err(StapleError::NoResponse));
    }
}
