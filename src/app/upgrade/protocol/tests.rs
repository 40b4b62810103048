//! Every message there and back, and bytes that are none.

use super::*;
use crate::domain::access::EntryId;
use crate::domain::identity::{Claims, Identity};
use crate::domain::session::{Kind, Lifetimes, Predecessor, ScopeId};
use proptest::prelude::*;
use std::time::Duration;

pub(in crate::app::upgrade) fn session(n: u8) -> Restored {
    let identity = Identity::new("alice", "local", &Claims::new()).expect("a plain identity packs");
    Restored {
        digest: TokenDigest::of(&[n; 32]),
        id: SessionId::from_bytes([n; 16]),
        kind: Kind::Remembered,
        identity: identity.packed().into(),
        gain: Some(identity.packed().into()),
        entry: EntryId(7),
        scope: ScopeId(3),
        stamp: 4,
        sign_in: "local".to_owned(),
        client_address: "192.0.2.7".to_owned(),
        user_agent: "curl/8".to_owned(),
        opened_at: Timestamp::from_micros(1_000_001),
        issued_at: Timestamp::from_micros(1_000_002),
        presented_at: Some(Timestamp::from_millis(1_002)),
        last_used_at: Timestamp::from_millis(2_000),
        lifetimes: Lifetimes {
            idle_timeout: Duration::from_mins(1),
            absolute_lifetime: Duration::from_hours(1),
        },
        generation: 7,
        predecessor: Some(Predecessor {
            digest: TokenDigest::of(&[n + 1; 32]),
            identity: identity.packed().into(),
        }),
        data: vec![(SpaceId(1), HeaderValue::from_static("{\"a\":1}"))],
    }
}

fn revocation(which: Which) -> Revocation {
    let [issued_by, ends_at] = [5, 6].map(Timestamp::from_secs);
    Revocation { source: "https://id.example.com".to_owned(), which, issued_by, ends_at }
}

fn messages() -> Vec<Message> {
    let (id, end) = (SessionId::from_bytes([9; 16]), End::Superseded);
    let value = Some(HeaderValue::from_static("{}"));
    vec![
        Message::Hello { version: VERSION, wish: Wish::Start },
        Message::Hello { version: 77, wish: Wish::Take },
        Message::Refused("no".to_owned()),
        Message::Wait,
        Message::Welcome { process: 7, clock: -5, store: "memory".to_owned() },
        Message::Listener("127.0.0.1:80".to_owned()),
        Message::Go,
        Message::Sessions(vec![session(1), Restored { data: Vec::new(), gain: None, ..session(2) }]),
        Message::Ends(vec![(TokenDigest::of(&[1; 32]), end, id); 3]),
        Message::Cut,
        Message::Taken,
        Message::Outcome { ok: true, text: "done".to_owned() },
        Message::Open { number: 1, session: Box::new(session(3)), ended: vec![(id, end); 2] },
        Message::Put { number: 2, session: Box::new(session(4)) },
        Message::End { number: u64::MAX, ended: vec![(id, end)] },
        Message::Data { number: 4, id, space: SpaceId(8), former: None, value: value.clone() },
        Message::Data { number: 5, id, space: SpaceId(8), former: value, value: None },
        Message::Use { id, at: Timestamp::from_micros(77) },
        Message::Done { number: 9, ok: false },
        Message::Revoked(vec![7; 49]),
        Message::Revoke { number: 6, revocation: revocation(Which::Named("jti".to_owned())) },
        Message::Revoke { number: 7, revocation: revocation(Which::Of("alice".to_owned())) },
        Message::Revoke { number: 8, revocation: revocation(Which::All) },
    ]
}

fn read(frame: &[u8]) -> Result<Message, Malformed> {
    let (head, body) = frame.split_first_chunk().ok_or(Malformed)?;
    let (length, kind) = Message::head(*head)?;
    if length != body.len() {
        return Err(Malformed);
    }
    Message::read(kind, body)
}

#[test]
fn a_message_comes_back_as_it_was() {
    for message in messages() {
        assert_eq!(read(&message.frame()).as_ref(), Ok(&message), "{message:?}");
    }
}

#[test]
fn a_message_that_breaks_off_or_goes_on_is_none() {
    for message in messages() {
        let frame = message.frame();
        let (kind, body) = (frame[4], &frame[HEAD_BYTES..]);
        let several = matches!(
            message,
            Message::Sessions(_)
                | Message::Ends(_)
                | Message::Revoked(_)
                | Message::Open { .. }
                | Message::End { .. }
        );
        for length in 0..body.len() {
            let told = Message::read(kind, &body[..length]);
            assert!(told.is_err() || several && told != Ok(message.clone()), "{message:?} at {length}");
        }
        let longer = [body, &[0]].concat();
        let may_go_on = matches!(message, Message::Hello { .. } | Message::Revoked(_));
        assert_eq!(Message::read(kind, &longer).is_ok(), may_go_on, "{message:?}");
    }
    assert_eq!(Message::head([0xFF, 0xFF, 0xFF, 0, 1]), Err(Malformed), "too long");
    let too_many = Restored { data: vec![(SpaceId(1), HeaderValue::from_static("{}")); 17], ..session(1) };
    assert_eq!(read(&Message::Sessions(vec![too_many]).frame()), Err(Malformed));
}

#[test]
fn a_hello_is_known_in_every_version() {
    let frame = Message::Hello { version: 2, wish: Wish::Take }.frame();
    let mut expected = vec![22, 0, 0, 0, 1];
    expected.extend_from_slice(b"vestibule upgrade\x02\0\0\0\0");
    assert_eq!(frame, expected);
    assert_eq!(Message::Refused("no".to_owned()).frame(), [6, 0, 0, 0, 2, 2, 0, 0, 0, b'n', b'o']);
}

proptest! {
    #[test]
    fn no_bytes_bring_the_reader_down(kind in 0_u8..22, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = Message::read(kind, &bytes) {
            prop_assert!(message.frame()[4] == kind);
        }
    }
}
