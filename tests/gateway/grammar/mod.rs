//! Conversations grown from a grammar and then damaged, and two readers of each: the gateway and a strict reference. What the
//! gateway passes on, the reference must have read likewise: the same requests, in the same order, with the same bodies, and none
//! that it refuses.
//!
//! Most cases run inside this process, over a socket pair: the gateway's own reading of the wire and pingora's parser behind it, which
//! are what decides where a message ends. The rest go through the built gateway between real sockets. `PROPTEST_CASES` sets how
//! many in all; a failure prints the seed, and `VESTIBULE_SEED` runs it again.

mod generate;
mod inside;
mod outside;
mod reference;

use generate::{Conversation, conversation};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use reference::{End, Request};
use std::cell::Cell;

/// So many in a run that says nothing else.
const CASES: u32 = 100_000;
/// One of so many goes through the built gateway.
const OUTSIDE: u32 = 20;

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

/// Runs so many conversations past `check`, and says the seed if one fails.
fn run(cases: u32, check: impl Fn(&Conversation) -> Result<(), TestCaseError>) {
    let seed = match std::env::var("VESTIBULE_SEED") {
        Ok(seed) => seed.parse().expect("VESTIBULE_SEED is a number"),
        Err(_) => rand_seed(),
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let outcome =
        TestRunner::new_with_rng(config, rng).run(&conversation(), |conversation| check(&conversation));
    if let Err(failure) = outcome {
        panic!("VESTIBULE_SEED={seed} PROPTEST_CASES={}\n{failure}", self::cases());
    }
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Why the gateway may stop where the reference goes on: not for what a message is, but for what it asks.
const POLICY: [&str; 8] = [
    "connect",
    "expectation",
    "upgrade",
    "authorization_twice",
    "target_form",
    "host_empty",
    "host_differs",
    "user_info",
];

#[test]
fn the_wire_reads_what_a_strict_reader_reads() {
    let runtime = inside::runtime();
    let totals = [const { Cell::new(0_u64) }; 3];
    let count = |total: usize, more: usize| totals[total].set(totals[total].get() + more as u64);
    run(cases() - cases() / OUTSIDE, |conversation| {
        let (expected, end) = reference::read(&conversation.bytes);
        let seen = runtime.block_on(inside::read(conversation));
        let explained =
            || format!("{}\nexpected {expected:?} then {end:?}\nseen {seen:?}", shown(&conversation.bytes));
        let fail = |what: &str| Err(TestCaseError::fail(format!("{what}: {}", explained())));
        if !expected.starts_with(&seen.requests) {
            return fail("a request was read otherwise");
        }
        if conversation.is_valid && (end != End::Clean || seen.requests.is_empty()) {
            return fail("a valid request was not read");
        }
        // A connection of HTTP/1.0 may be closed whatever the client wants.
        let is_over = seen.refusal.is_none() && seen.requests.last().is_some_and(|last| last.is_10);
        let is_policy = seen.refusal.is_some_and(|reason| POLICY.contains(&reason));
        if seen.requests.len() < expected.len() && !is_over && !is_policy {
            return fail("a good request was refused");
        }
        if seen.refusal == Some("parser") {
            return fail("the parser refused what the check let pass");
        }
        if seen.requests.len() == expected.len() && !is_over {
            match end {
                End::Refused if seen.refusal.is_none() => return fail("a bad head was not refused"),
                End::Broken if seen.refusal.is_none() => return fail("a bad body was not refused"),
                _ => {}
            }
        }
        count(0, expected.len());
        count(1, usize::from(matches!(end, End::Refused | End::Broken)));
        count(2, usize::from(end == End::Incomplete));
        Ok(())
    });
    let [read, refused, incomplete] = totals.map(Cell::into_inner);
    println!("{read} requests read alike; {refused} conversations refused, {incomplete} incomplete");
    // A grammar that nobody can fail, or nobody can pass, would prove nothing.
    assert!(read > 0 && refused > 0 && incomplete > 0);
}

#[test]
fn the_upstream_reads_what_a_strict_reader_reads() {
    let outside = outside::Outside::new();
    run(cases() / OUTSIDE, |conversation| {
        let (expected, end) = reference::read(&conversation.bytes);
        let seen = outside.send(&conversation.bytes, expected.len(), end);
        outside::agrees(&expected, end, &seen, conversation.is_valid)
            .map_err(|what| TestCaseError::fail(format!("{what}: {}\n{seen:?}", shown(&conversation.bytes))))
    });
}

/// Whether the method, the target and the body are the same.
fn is_same(one: &Request, method: &str, target: &str, body: &[u8]) -> bool {
    one.method == method.as_bytes() && one.target == target.as_bytes() && one.body == body
}
