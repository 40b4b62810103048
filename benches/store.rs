//! What every request with a session cookie pays: the tag check, and one look-up among all live sessions.
//!
//! Keys come in random order, so that at a million sessions each look-up misses the caches as it does in service.
//! The runs on two threads time one while the other looks up sessions of the same table as fast as it can. Time is
//! the processor time of the measuring thread: a neighbour that takes the processor away does not show, waiting for a
//! line of cache does.

mod support;
#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{NOON, Sequence, filled, session};
use thread_time::ThreadTime;
use vestibule::domain::secret::Secret;
use vestibule::domain::token::{KeyRing, TokenDigest};
use vestibule::store::table::{Filter, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn find(c: &mut Criterion<ThreadTime>) {
    for (count, size) in [(1_000, "1k"), (1_000_000, "1M")] {
        let table = filled(count, &mut Sequence(1));
        let digests = shuffled_digests(&table, &mut Sequence(2));
        let mut keys = digests.iter().cycle();
        let mut hit = || table.find(black_box(keys.next().expect("a cycle does not end")), NOON);
        c.bench_function(&format!("store/find/hit/{size}/1 thread"), |b| b.iter(&mut hit));
        beside_another(&table, &digests, || {
            c.bench_function(&format!("store/find/hit/{size}/2 threads"), |b| b.iter(&mut hit));
        });
        let unknown = TokenDigest::of(&[0; 32]);
        c.bench_function(&format!("store/find/unknown/{size}"), |b| {
            b.iter(|| table.find(black_box(&unknown), NOON));
        });
    }
}

/// Runs `measured` while another thread looks up sessions too.
fn beside_another(table: &Table, digests: &[TokenDigest], measured: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut keys = digests.iter().rev().cycle();
            while !done.load(Ordering::Relaxed) {
                black_box(table.find(keys.next().expect("a cycle does not end"), NOON).is_ok());
            }
        });
        measured();
        done.store(true, Ordering::Relaxed);
    });
}

fn shuffled_digests(table: &Table, random: &mut Sequence) -> Vec<TokenDigest> {
    let (sessions, _) = table.list(Filter::default(), None, usize::MAX);
    let mut digests: Vec<TokenDigest> = sessions.iter().map(|session| *session.digest()).collect();
    for at in (1..digests.len()).rev() {
        digests.swap(at, random.next() as usize % (at + 1));
    }
    digests
}

fn check_tag(c: &mut Criterion<ThreadTime>) {
    let ring = KeyRing::new(vec![Secret::new([1; 32]), Secret::new([2; 32])]).expect("two keys");
    let (token, _) = ring.issue([3; 32]);
    let good = token.encode().expose().clone().into_bytes();
    let mut junk = good.clone();
    junk[..22].rotate_left(7);
    c.bench_function("token/digest/good", |b| b.iter(|| ring.digest(black_box(&good))));
    c.bench_function("token/digest/junk", |b| b.iter(|| ring.digest(black_box(&junk))));
}

fn open(c: &mut Criterion<ThreadTime>) {
    for (count, size) in [(1_000, "1k"), (1_000_000, "1M")] {
        let mut random = Sequence(1);
        let table = filled(count, &mut random);
        table.set_capacity(usize::MAX);
        let mut n = count;
        let mut next = || {
            n += 1;
            session(n, &mut random)
        };
        c.bench_function(&format!("store/open/{size}"), |b| {
            b.iter_batched(&mut next, |session| table.open(session, NOON), BatchSize::SmallInput);
        });
    }
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = find, check_tag, open
}
criterion_main!(benches);
