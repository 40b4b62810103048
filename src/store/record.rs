//! A session as bytes: the fields one after the other, numbers little-endian, texts behind their length.
//!
//! Id, instant of the opening, last use and data are not in there: whoever keeps records has them beside.

use crate::domain::access::EntryId;
use crate::domain::session::{Kind, Lifetimes, Predecessor, Restored, ScopeId, SessionId};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use std::time::Duration;

const HAS_GAIN: u8 = 1;
const HAS_PREDECESSOR: u8 = 2;

/// The record of a session.
pub(crate) fn encode(session: &Restored) -> Vec<u8> {
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

/// The session of that id, opened then. `None`: these bytes are no record.
pub(crate) fn decode(id: SessionId, opened_at: Timestamp, record: &[u8]) -> Option<Restored> {
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
    rest.is_empty().then_some(Restored {
        digest,
        id,
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
