//! A session to try things on.

use super::*;
use crate::domain::identity::{ClaimValue, Claims, GROUPS};

pub(super) const CLOCKS: Clocks = clocks(Duration::from_secs(10), Duration::from_secs(30));
pub(super) const FOREVER: Clocks = clocks(Duration::MAX, Duration::MAX);

pub(super) const fn clocks(idle_timeout: Duration, absolute_lifetime: Duration) -> Clocks {
    let lifetimes = Lifetimes { idle_timeout, absolute_lifetime };
    let renew_after = Duration::from_secs(8);
    Clocks { signed_in: lifetimes, remembered: lifetimes, anonymous: lifetimes, renew_after }
}

pub(super) fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(super) fn identity(groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let claims = Claims::from([(GROUPS.to_owned(), ClaimValue::List(groups))]);
    Identity::new("alice", "local", &claims).expect("a plain identity packs")
}

pub(super) fn opened_with(clocks: Clocks, user_agent: &str) -> Session {
    Session::open(Opening {
        digest: TokenDigest::of(&[7; 32]),
        id: SessionId::from_bytes([9; 16]),
        kind: Kind::SignedIn,
        identity: Some(&identity(&["ops"])),
        entry: EntryId(3),
        scope: ScopeId(4),
        stamp: 5,
        sign_in: "local",
        client_address: "192.0.2.7",
        user_agent,
        now: secs(0),
        lifetimes: clocks.signed_in,
    })
}

pub(super) fn session() -> Session {
    opened_with(CLOCKS, "curl/8.5.0")
}
