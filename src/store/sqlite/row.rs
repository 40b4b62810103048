//! A session as a row: what stands in the open, and the record that is sealed.
//!
//! The record's form ([`record`]) belongs to the schema: another form is another version of the file.

use super::seal::{Column, SealKeys, Unopened};
use crate::domain::identity::IdentityRef;
use crate::domain::session::{Restored, SessionId, SpaceId};
use crate::domain::time::Timestamp;
use crate::store::record;
use http::HeaderValue;

/// The number of a session's row: the first half of its id, in the same order.
pub(super) fn number_of(id: &SessionId) -> i64 {
    let half = id.as_bytes().first_chunk().expect("8 of 16 bytes");
    // SQLite's numbers have a sign: with the first bit turned over they are in the order of the bytes.
    (u64::from_be_bytes(*half) ^ (1 << 63)).cast_signed()
}

/// An instant as the file holds it: microseconds since 1970.
pub(super) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// The instant that the file holds.
pub(super) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// What stands in the open in a row; sealed values are bound to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: SessionId,
    pub(super) opened_at: i64,
    pub(super) ends_at: i64,
    pub(super) subject: i64,
}

impl Place {
    /// Where a session stands that the newest key writes.
    pub(super) fn of(session: &Restored, keys: &SealKeys) -> Self {
        let ends_at = session.opened_at.plus(session.lifetimes.absolute_lifetime);
        let subject = IdentityRef::from_packed(&session.identity).subject();
        Self {
            id: session.id,
            opened_at: micros(session.opened_at),
            ends_at: micros(ends_at),
            subject: if subject.is_empty() { 0 } else { keys.blind(subject) },
        }
    }

    fn bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(self.id.as_bytes());
        for (at, number) in [self.opened_at, self.ends_at, self.subject].into_iter().enumerate() {
            bytes[16 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

fn data_place(id: &SessionId, space: SpaceId) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(id.as_bytes());
    bytes[16..].copy_from_slice(&space.0.to_le_bytes());
    bytes
}

/// Seals the last use of a session.
pub(super) fn seal_used(keys: &SealKeys, id: &SessionId, used_at: Timestamp) -> Vec<u8> {
    keys.seal(Column::Used, id.as_bytes(), &used_at.as_millis().to_le_bytes())
}

/// Opens the last use of a session.
pub(super) fn open_used(keys: &SealKeys, id: &SessionId, sealed: &mut [u8]) -> Result<Timestamp, Unopened> {
    let plain = keys.open(Column::Used, id.as_bytes(), sealed)?;
    let millis = plain.try_into().map_err(|_| Unopened::Damaged)?;
    Ok(Timestamp::from_millis(u64::from_le_bytes(millis)))
}

/// Seals what an application keeps.
pub(super) fn seal_data(keys: &SealKeys, id: &SessionId, space: SpaceId, value: &[u8]) -> Vec<u8> {
    keys.seal(Column::Data, &data_place(id, space), value)
}

/// Opens what an application keeps.
pub(super) fn open_data<'a>(
    keys: &SealKeys,
    id: &SessionId,
    space: SpaceId,
    sealed: &'a mut [u8],
) -> Result<&'a [u8], Unopened> {
    keys.open(Column::Data, &data_place(id, space), sealed)
}

/// Opens what an application keeps, as the header value that it is.
pub(super) fn open_value(
    keys: &SealKeys,
    id: &SessionId,
    space: SpaceId,
    sealed: &mut [u8],
) -> Result<HeaderValue, Unopened> {
    let plain = open_data(keys, id, space, sealed)?;
    let mut value = HeaderValue::from_bytes(plain).map_err(|_| Unopened::Damaged)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Seals everything but last use and data.
pub(super) fn seal_record(keys: &SealKeys, place: &Place, session: &Restored) -> Vec<u8> {
    keys.seal(Column::Record, &place.bytes(), &record::encode(session))
}

/// Opens a record: the session, without last use and data.
pub(super) fn open_record(keys: &SealKeys, place: &Place, sealed: &mut [u8]) -> Result<Restored, Unopened> {
    let plain = keys.open(Column::Record, &place.bytes(), sealed)?;
    record::decode(place.id, instant(place.opened_at), plain).ok_or(Unopened::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::identity::{ClaimValue, Claims, Identity};
    use crate::domain::secret::Secret;
    use crate::domain::session::{Kind, Lifetimes, Predecessor, ScopeId};
    use crate::domain::token::{KeyRing, TokenDigest};
    use proptest::prelude::*;
    use std::time::Duration;

    fn keys() -> SealKeys {
        SealKeys::of(&KeyRing::new(vec![Secret::new([1; 32])]).expect("a key"))
    }

    fn packed(subject: &str) -> Box<[u8]> {
        let claims = Claims::from([("email".to_owned(), ClaimValue::Text("a@example.com".to_owned()))]);
        Identity::new(subject, "local", &claims).expect("a plain identity packs").packed().into()
    }

    fn session() -> Restored {
        Restored {
            digest: TokenDigest::of(&[1; 32]),
            id: SessionId::from_bytes([0xA5; 16]),
            kind: Kind::Remembered,
            identity: packed("alice"),
            gain: Some(packed("alice")),
            entry: EntryId(u64::MAX),
            scope: ScopeId(3),
            stamp: 4,
            sign_in: "local".to_owned(),
            client_address: "192.0.2.7".to_owned(),
            user_agent: "curl/8".to_owned(),
            opened_at: Timestamp::from_micros(1_000_001),
            issued_at: Timestamp::from_micros(1_000_002),
            presented_at: Some(Timestamp::from_millis(1_002)),
            last_used_at: Timestamp::from_micros(1_000_001),
            lifetimes: Lifetimes {
                idle_timeout: Duration::from_mins(1),
                absolute_lifetime: Duration::from_hours(1),
            },
            generation: 7,
            predecessor: Some(Predecessor { digest: TokenDigest::of(&[2; 32]), identity: packed("alice") }),
            data: Vec::new(),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let keys = keys();
        let plain = Restored {
            kind: Kind::Anonymous,
            identity: Box::default(),
            gain: None,
            predecessor: None,
            presented_at: None,
            sign_in: String::new(),
            ..session()
        };
        for session in [session(), plain] {
            let place = Place::of(&session, &keys);
            let mut sealed = seal_record(&keys, &place, &session);
            assert!(!sealed.windows(5).any(|window| window == b"alice" || window == b"local"));
            let opened = open_record(&keys, &place, &mut sealed).expect("it is whole");
            assert_eq!(format!("{opened:?}"), format!("{session:?}"));
            assert_eq!(opened.digest, session.digest);
        }
    }

    #[test]
    fn nothing_that_stands_in_the_open_can_be_changed() {
        let (keys, session) = (keys(), session());
        let place = Place::of(&session, &keys);
        let sealed = seal_record(&keys, &place, &session);
        for other in [
            Place { id: SessionId::from_bytes([0; 16]), ..place },
            Place { opened_at: place.opened_at + 1, ..place },
            Place { ends_at: place.ends_at + 1, ..place },
            Place { subject: place.subject ^ 1, ..place },
        ] {
            assert_eq!(open_record(&keys, &other, &mut sealed.clone()).err(), Some(Unopened::Damaged));
        }
    }

    #[test]
    fn uses_and_data_belong_to_their_session_and_space() {
        let keys = keys();
        let (mine, other) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let used = seal_used(&keys, &mine, Timestamp::from_millis(5));
        assert_eq!(open_used(&keys, &mine, &mut used.clone()), Ok(Timestamp::from_millis(5)));
        assert!(open_used(&keys, &other, &mut used.clone()).is_err());
        let data = seal_data(&keys, &mine, SpaceId(1), b"{\"a\":1}");
        let value = open_value(&keys, &mine, SpaceId(1), &mut data.clone()).expect("it is whole");
        assert_eq!(value, "{\"a\":1}");
        for (id, space) in [(mine, SpaceId(2)), (other, SpaceId(1))] {
            assert!(open_data(&keys, &id, space, &mut data.clone()).is_err());
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_ids() {
        let ids = [0x00, 0x01, 0x7F, 0x80, 0xFF].map(|byte| SessionId::from_bytes([byte; 16]));
        let numbers = ids.map(|id| number_of(&id));
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert_eq!((numbers[0], numbers[4] >> 56), (i64::MIN, 0x7F));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let decode = |bytes: &[u8]| record::decode(SessionId::FIRST, Timestamp::default(), bytes);
            let _ = decode(&bytes);
            // Whatever is taken for a record is read to its end.
            let mut record = record::encode(&session());
            record.extend_from_slice(&bytes);
            prop_assert_eq!(decode(&record).is_some(), bytes.is_empty());
        }
    }
}
