//! A session as a row: what stands in the open, and the record that is sealed.
//!
//! A record is the fields one after the other, numbers little-endian, texts behind their length. Its form belongs to the
//! schema: another form is another version of the file.

use super::seal::{Column, SealKeys, Unopened};
use crate::domain::access::EntryId;
use crate::domain::identity::IdentityRef;
use crate::domain::session::{Kind, Lifetimes, Predecessor, Restored, ScopeId, SessionId, SpaceId};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use http::HeaderValue;
use std::time::Duration;

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
    keys.seal(Column::Record, &place.bytes(), &encode(session))
}

/// Opens a record: the session, without last use and data.
pub(super) fn open_record(keys: &SealKeys, place: &Place, sealed: &mut [u8]) -> Result<Restored, Unopened> {
    let plain = keys.open(Column::Record, &place.bytes(), sealed)?;
    decode(place, plain).ok_or(Unopened::Damaged)
}

const HAS_GAIN: u8 = 1;
const HAS_PREDECESSOR: u8 = 2;

fn encode(session: &Restored) -> Vec<u8> {
    let mut record = Vec::with_capacity(512);
    record.extend_from_slice(session.digest.as_bytes());
    let has = |present: bool, flag: u8| if present { flag } else { 0 };
    record.push(session.kind as u8);
    record.push(has(session.gain.is_some(), HAS_GAIN) | has(session.predecessor.is_some(), HAS_PREDECESSOR));
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    for number in [
        session.entry.0,
        session.scope.0,
        session.stamp,
        session.issued_at.as_micros(),
        session.presented_at.map_or(0, Timestamp::as_millis),
        millis(session.lifetimes.idle_timeout),
        millis(session.lifetimes.absolute_lifetime),
        u64::from(session.generation),
    ] {
        record.extend_from_slice(&number.to_le_bytes());
    }
    for text in [&session.sign_in, &session.client_address, &session.user_agent] {
        put(&mut record, text.as_bytes());
    }
    put(&mut record, &session.identity);
    if let Some(gain) = &session.gain {
        put(&mut record, gain);
    }
    if let Some(former) = &session.predecessor {
        record.extend_from_slice(former.digest.as_bytes());
        put(&mut record, &former.identity);
    }
    record
}

fn put(record: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("texts and packed claims are well below 64 KiB");
    record.extend_from_slice(&len.to_le_bytes());
    record.extend_from_slice(bytes);
}

/// `None`: the form is another one, which a record that opened never has.
fn decode(place: &Place, record: &[u8]) -> Option<Restored> {
    let mut rest = record;
    let digest = digest(&mut rest)?;
    let [kind, flags] = *chunk(&mut rest)?;
    let mut numbers = [0; 8];
    for number in &mut numbers {
        *number = u64::from_le_bytes(*chunk(&mut rest)?);
    }
    let [entry, scope, stamp, issued_at, presented_at, idle_timeout, absolute_lifetime, generation] = numbers;
    let mut text = || String::from_utf8(take(&mut rest)?.to_vec()).ok();
    let (sign_in, client_address, user_agent) = (text()?, text()?, text()?);
    let identity = take(&mut rest)?.into();
    let gain = if flags & HAS_GAIN != 0 { Some(take(&mut rest)?.into()) } else { None };
    let predecessor = if flags & HAS_PREDECESSOR != 0 {
        Some(Predecessor { digest: self::digest(&mut rest)?, identity: take(&mut rest)?.into() })
    } else {
        None
    };
    let opened_at = instant(place.opened_at);
    rest.is_empty().then_some(Restored {
        digest,
        id: place.id,
        kind: *Kind::ALL.get(usize::from(kind))?,
        identity,
        gain,
        entry: EntryId(entry),
        scope: ScopeId(scope),
        stamp,
        sign_in,
        client_address,
        user_agent,
        opened_at,
        issued_at: Timestamp::from_micros(issued_at),
        presented_at: (presented_at != 0).then(|| Timestamp::from_millis(presented_at)),
        last_used_at: opened_at,
        lifetimes: Lifetimes {
            idle_timeout: Duration::from_millis(idle_timeout),
            absolute_lifetime: Duration::from_millis(absolute_lifetime),
        },
        generation: u32::try_from(generation).ok()?,
        predecessor,
        data: Vec::new(),
    })
}

fn chunk<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (chunk, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(chunk)
}

fn digest(rest: &mut &[u8]) -> Option<TokenDigest> {
    chunk(rest).map(|bytes| TokenDigest::from_bytes(*bytes))
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u16::from_le_bytes(*chunk(rest)?);
    let (bytes, tail) = rest.split_at_checked(usize::from(len))?;
    *rest = tail;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{ClaimValue, Claims, Identity};
    use crate::domain::secret::Secret;
    use crate::domain::token::KeyRing;
    use proptest::prelude::*;

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
            let place = Place { id: SessionId::FIRST, opened_at: 0, ends_at: 0, subject: 0 };
            let _ = decode(&place, &bytes);
            // Whatever is taken for a record is read to its end.
            let mut record = encode(&session());
            record.extend_from_slice(&bytes);
            prop_assert_eq!(decode(&place, &record).is_some(), bytes.is_empty());
        }
    }
}
