//! What an assertion costs: signed with each kind of key, and held since.
//!
//! A session with an e-mail address and three groups. The held one lies among those of ten thousand sessions.

#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderName;
use std::hint::black_box;
use std::time::Duration;
use thread_time::ThreadTime;
use vestibule::auth::assertion::{AssertionKey, AssertionSettings, Assertions, Audience, KeyKind, generate};
use vestibule::domain::access::EntryId;
use vestibule::domain::decision::Credential;
use vestibule::domain::identity::{ClaimValue, Claims, Identity};
use vestibule::domain::session::{Kind, Lifetimes, Opening, ScopeId, Session, SessionId};
use vestibule::domain::time::Timestamp;
use vestibule::domain::token::TokenDigest;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
const HOUR: Duration = Duration::from_hours(1);
const WIKI: Audience<'_> = Audience { name: "wiki", number: 0 };
const SESSIONS: u16 = 10_000;

fn signed(c: &mut Criterion<ThreadTime>) {
    let alice = session(0);
    for (name, kind) in [("ES256", KeyKind::Es256), ("EdDSA", KeyKind::EdDsa)] {
        let assertions = assertions(kind);
        // Each an hour after the one before: none is fresh.
        let mut wall = NOON;
        c.bench_function(&format!("assertion/signed/{name}"), |b| {
            b.iter(|| {
                wall = wall.plus(HOUR);
                assertions.about(black_box(&alice), WIKI, wall, || HOUR)
            });
        });
    }
}

fn held(c: &mut Criterion<ThreadTime>) {
    let assertions = assertions(KeyKind::Es256);
    let sessions: Vec<Credential> = (0..SESSIONS).map(session).collect();
    let ask = |at: usize| assertions.about(black_box(&sessions[at]), WIKI, NOON, || HOUR);
    for at in 0..sessions.len() {
        assert!(ask(at).is_ok());
    }
    let again = (0..sessions.len()).filter(|&at| ask(at).ok() == ask(at).ok()).count();
    assert!(again > sessions.len() * 9 / 10, "{again} are held");
    c.bench_function("assertion/held/one", |b| b.iter(|| ask(0)));
}

fn assertions(kind: KeyKind) -> Assertions {
    let key = generate(kind).expect("there is randomness");
    Assertions::new(AssertionSettings {
        header: HeaderName::from_static("x-auth-assertion"),
        issuer: "https://gw.example.com".to_owned(),
        keys: vec![AssertionKey::from_pem(key.as_bytes()).expect("a key")],
        lifetime: Duration::from_mins(1),
    })
}

fn session(number: u16) -> Credential {
    let groups = ["ops", "dev", "support"].map(str::to_owned).to_vec();
    let claims = Claims::from([
        ("email".to_owned(), ClaimValue::Text("alice@example.com".to_owned())),
        ("groups".to_owned(), ClaimValue::List(groups)),
    ]);
    let identity = Identity::new("alice", "https://id.example.com", &claims).expect("it packs");
    // Ids are random; these are spread as such.
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    let spread = TokenDigest::of(&seed);
    let id = spread.as_bytes().first_chunk().expect("sixteen of thirty-two bytes");
    Credential::Session(Session::open(Opening {
        digest: spread,
        id: SessionId::from_bytes(*id),
        kind: Kind::SignedIn,
        identity: Some(&identity),
        entry: EntryId(1),
        scope: ScopeId(1),
        stamp: 0,
        sign_in: "local",
        client_address: "192.0.2.1",
        user_agent: "",
        now: NOON,
        lifetimes: Lifetimes { idle_timeout: HOUR, absolute_lifetime: HOUR },
    }))
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = signed, held
}
criterion_main!(benches);
