//! What the benches of the session store share: many realistic sessions, without a clock or a random source.

use std::time::Duration;
use vestibule::domain::access::EntryId;
use vestibule::domain::identity::{ClaimValue, Claims, EMAIL, GROUPS, Identity};
use vestibule::domain::session::{Clocks, Kind, Lifetimes, Opening, ScopeId, Session, SessionId};
use vestibule::domain::time::Timestamp;
use vestibule::domain::token::TokenDigest;
use vestibule::store::table::{Limits, Table};

/// The instant at which every session is opened.
pub(crate) const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

/// So long a life that uses can go on for as long as a bench needs.
const LIFETIMES: Lifetimes =
    Lifetimes { idle_timeout: Duration::from_mins(30), absolute_lifetime: Duration::from_hours(400 * 24) };

const USER_AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";

/// A sequence that looks random and is the same each time (`SplitMix64`, Steele and others 2014).
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// The `n`th person's identity: e-mail, three groups and four small claims.
pub(crate) fn identity(n: usize) -> Identity {
    let text = |value: String| ClaimValue::Text(value);
    let claims = Claims::from([
        (EMAIL.to_owned(), text(format!("person{n}@example.com"))),
        (
            GROUPS.to_owned(),
            ClaimValue::List(vec!["ops".to_owned(), "dev".to_owned(), "wiki-editors".to_owned()]),
        ),
        ("name".to_owned(), text(format!("Person Number {n}"))),
        ("department".to_owned(), text("support".to_owned())),
        ("locale".to_owned(), text("en-GB".to_owned())),
        ("office".to_owned(), text("Lisbon 4.12".to_owned())),
    ]);
    Identity::new(&format!("person{n}"), "https://id.example.com", &claims).expect("a small identity packs")
}

/// The `n`th person's session.
pub(crate) fn session(n: usize, random: &mut Sequence) -> Session {
    session_of_kind(n, Kind::SignedIn, random)
}

/// The same of any kind; whatever the kind, it is as large.
pub(crate) fn session_of_kind(n: usize, kind: Kind, random: &mut Sequence) -> Session {
    Session::open(Opening {
        digest: TokenDigest::of(&random.bytes()),
        id: SessionId::from_bytes(random.bytes()),
        kind,
        identity: Some(&identity(n)),
        entry: EntryId(1),
        scope: ScopeId(1),
        stamp: 0,
        sign_in: "staff",
        client_address: "203.0.113.117",
        user_agent: USER_AGENT,
        now: NOON,
        lifetimes: LIFETIMES,
    })
}

/// Room for `capacity` sessions, and their clocks.
pub(crate) fn limits_and_clocks(capacity: usize) -> (Limits, Clocks) {
    let clocks = Clocks {
        signed_in: LIFETIMES,
        remembered: LIFETIMES,
        anonymous: LIFETIMES,
        renew_after: Duration::from_hours(3),
    };
    (Limits { capacity, anonymous_capacity: capacity, per_subject: None }, clocks)
}

/// An empty table with room for `capacity`.
pub(crate) fn table(capacity: usize) -> Table {
    let (limits, clocks) = limits_and_clocks(capacity);
    Table::new(limits, clocks, None)
}

/// A table with `count` sessions, each of another person.
pub(crate) fn filled(count: usize, random: &mut Sequence) -> Table {
    let table = table(count * 2);
    for n in 0..count {
        table.open(session(n, random), &[], NOON).expect("there is room");
    }
    table
}
