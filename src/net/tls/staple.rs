//! What may be stapled to a handshake: an OCSP response that says something of the very certificate.
//!
//! Browsers break off a handshake over a response that they cannot read; over none at all they go on. So the form is looked at
//! before it is handed out (RFC 6960 §4.2.1), and so is how long it counts: clients take one that is too old for none (§3.2).
//! Whether signature and verdict are good is for the client to say.

use crate::domain::time::Timestamp;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
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
    /// There has been a newer one since this instant (`nextUpdate`).
    #[error("has expired at {0}")]
    Expired(Timestamp),
}

/// No response is begun with that counts for less than this: it has to last through the handshake, and until somebody looks again.
const LEFT_MIN: Duration = Duration::from_secs(5);

/// A response with the certificate that it is of, for as long as it counts.
#[derive(Debug)]
pub(super) struct Staple {
    /// The file of the response, as an operator knows it.
    file: String,
    stapled: Arc<CertifiedKey>,
    /// Absent: the responder names no end.
    until: Option<Timestamp>,
    is_over: AtomicBool,
}

impl Staple {
    /// `response` for the certificate in `own`, which has this serial number; refused where it counts no longer at `now`, if that is given.
    pub(super) fn new(
        file: String,
        own: &CertifiedKey,
        serial: &[u8],
        response: Vec<u8>,
        now: Option<Timestamp>,
    ) -> Result<Self, StapleError> {
        let until = check(&response, serial)?;
        if let (Some(until), Some(now)) = (until, now)
            && is_over(until, now)
        {
            return Err(StapleError::Expired(until));
        }
        let stapled = Arc::new(CertifiedKey { ocsp: Some(response), ..own.clone() });
        Ok(Self { file, stapled, until, is_over: AtomicBool::new(false) })
    }

    /// The certificate with the response, unless that was found too old.
    pub(super) fn stapled(&self) -> Option<&Arc<CertifiedKey>> {
        (!self.is_over.load(Ordering::Relaxed)).then_some(&self.stapled)
    }

    /// Weighs it against the wall clock: from now on it is handed out or left off. Told is the end that has passed since the last
    /// look; a clock that is set back makes it count again.
    pub(super) fn look(&self, now: Timestamp) -> Option<Expired<'_>> {
        let until = self.until?;
        let is_over = is_over(until, now);
        let was_over = self.is_over.swap(is_over, Ordering::Relaxed);
        (is_over && !was_over).then_some(Expired { file: &self.file, until })
    }
}

/// A response that has just become too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired<'a> {
    /// Its file, as an operator knows it.
    pub file: &'a str,
    /// The last instant at which it counted (`nextUpdate`).
    pub until: Timestamp,
}

fn is_over(until: Timestamp, now: Timestamp) -> bool {
    now.plus(LEFT_MIN) > until
}

/// Looks whether `response` is a successful one of the certificate with this serial number, which is given as it stands on the wire;
/// its `nextUpdate`.
fn check(response: &[u8], serial: &[u8]) -> Result<Option<Timestamp>, StapleError> {
    let mut parts = Parts(response).only(Tag::Sequence).ok_or(StapleError::NoResponse)?;
    match parts.next(Class::Universal, Tag::Enumerated) {
        Some(Parts([0])) => {}
        Some(Parts([_])) => return Err(StapleError::Unsuccessful),
        _ => return Err(StapleError::NoResponse),
    }
    let singles = singles(parts).ok_or(StapleError::NoResponse)?;
    let mut left = singles;
    while !left.0.is_empty() {
        let single = left.single().ok_or(StapleError::NoResponse)?;
        if single.serial == serial {
            return Ok(single.next_update);
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

    /// The next `SingleResponse`.
    fn single(&mut self) -> Option<Single<'a>> {
        let mut single = self.next(Class::Universal, Tag::Sequence)?;
        let mut id = single.next(Class::Universal, Tag::Sequence)?;
        // Which hash, and those of the issuer's name and key.
        id.next(Class::Universal, Tag::Sequence)?;
        id.next(Class::Universal, Tag::OctetString)?;
        id.next(Class::Universal, Tag::OctetString)?;
        let serial = id.next(Class::Universal, Tag::Integer)?.0;
        // Good, revoked or unknown.
        (0..3).find_map(|verdict| single.next(Class::ContextSpecific, Tag(verdict)))?;
        single.next(Class::Universal, Tag::GeneralizedTime)?;
        let next_update = match single.next(Class::ContextSpecific, Tag(0)) {
            Some(inside) => Some(instant(inside.only(Tag::GeneralizedTime)?.0)?),
            None => None,
        };
        Some(Single { serial, next_update })
    }
}

/// What a response says of one certificate, as far as it concerns us.
struct Single<'a> {
    serial: &'a [u8],
    next_update: Option<Timestamp>,
}

/// `20261122120000Z`: the one way to write an instant (RFC 5280 §4.1.2.5.2).
fn instant(text: &[u8]) -> Option<Timestamp> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ([year, month, day], [hour, minute, second]) =
        ([&digits[..4], &digits[4..6], &digits[6..8]], [&digits[8..10], &digits[10..12], &digits[12..]]);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
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
        response_until(serial, &[])
    }

    /// One that has this `nextUpdate`.
    fn response_until(serial: &[u8], next_update: &[u8]) -> Vec<u8> {
        let hash = value(0x30, &[&value(0x06, &[&[0x2B, 0x0E, 0x03, 0x02, 0x1A]])]);
        let id = value(0x30, &[&hash, &value(4, &[&[1; 20]]), &value(4, &[&[2; 20]]), &value(2, &[serial])]);
        let time = value(0x18, &[b"20261122120000Z"]);
        let single = value(0x30, &[&id, &[0x80, 0], &time, next_update]);
        let responder = value(0xA2, &[&value(4, &[&[3; 20]])]);
        let data = value(0x30, &[&responder, &time, &value(0x30, &[&single])]);
        let basic = value(0x30, &[&data, &hash, &value(3, &[&[0, 1]])]);
        let bytes = value(0x30, &[&value(6, &[&BASIC]), &value(4, &[&basic])]);
        value(0x30, &[&[0x0A, 1, 0], &value(0xA0, &[&bytes])])
    }

    #[test]
    fn a_response_is_of_its_certificate_alone() {
        let sound = response(&[0, 0x9A, 7]);
        assert_eq!(check(&sound, &[0, 0x9A, 7]), Ok(None));
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

    fn end(text: &[u8]) -> Vec<u8> {
        value(0xA0, &[&value(0x18, &[text])])
    }

    #[test]
    fn the_end_of_a_response_is_read_in_one_form_only() {
        let noon = "2026-11-22T12:00:00Z".parse().expect("an instant");
        assert_eq!(check(&response_until(&[7], &end(b"20261122120000Z")), &[7]), Ok(Some(noon)));
        for text in [
            &b"20261122120000"[..],
            b"20261122120000.5Z",
            b"20261322120000Z",
            b"2026112212000-Z",
            b"\xFF",
            b"",
        ] {
            let read = check(&response_until(&[7], &end(text)), &[7]);
            assert_eq!(read, Err(StapleError::NoResponse), "{text:?}");
        }
    }

    #[test]
    fn a_response_is_left_off_from_shortly_before_its_end_and_that_is_told_once() {
        let noon: Timestamp = "2026-11-22T12:00:00Z".parse().expect("an instant");
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let own = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &super::super::provider())
            .expect("they belong together");
        let staple = |next_update: &[u8], now: Timestamp| {
            Staple::new("a.ocsp".to_owned(), &own, &[7], response_until(&[7], next_update), Some(now))
        };
        let ending = end(b"20261122120000Z");
        let one = staple(&ending, noon.minus(LEFT_MIN)).expect("it counts");
        assert_eq!(one.look(noon.minus(LEFT_MIN)), None);
        assert!(one.stapled().is_some_and(|key| key.ocsp.is_some()));
        let later = noon.minus(LEFT_MIN).plus(Duration::from_micros(1));
        assert_eq!(one.look(later), Some(Expired { file: "a.ocsp", until: noon }));
        assert!(one.stapled().is_none());
        assert_eq!(one.look(noon), None, "it was told");
        assert_eq!(one.look(noon.minus(Duration::from_hours(1))), None);
        assert!(one.stapled().is_some(), "the clock was set back");
        assert_eq!(staple(&ending, later).err(), Some(StapleError::Expired(noon)));

        let endless = staple(&[], noon).expect("it counts");
        assert_eq!(endless.look(noon.plus(Duration::from_hours(100_000))), None);
        assert!(endless.stapled().is_some());
    }
}
