//! What every request with a session cookie pays: the tag check, and one look-up among all live sessions; and what the rest
//! of a session's life costs: its opening, uses, data, its end, and a start with all of them.
//!
//! Keys come in random order, so that at a million sessions each look-up misses the caches as it does in service.
//! The runs on two threads time one while the other does the same with sessions of the same table as fast as it can. Time is
//! the processor time of the measuring thread: a neighbour that takes the processor away does not show, waiting for a
//! line of cache does.

mod support;
#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{NOON, Sequence, filled, session, table};
use thread_time::ThreadTime;
use vestibule::domain::secret::Secret;
use vestibule::domain::session::{End, Restored, Session, SpaceId};
use vestibule::domain::token::{KeyRing, TokenDigest};
use vestibule::store::table::{Filter, Limits, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(usize, &str); 2] = [(1_000, "1k"), (1_000_000, "1M")];

fn find(c: &mut Criterion<ThreadTime>) {
    for (count, size) in SIZES {
        let table = filled(count, &mut Sequence(1));
        let digests: Vec<TokenDigest> = shuffled(&table).iter().map(|session| *session.digest()).collect();
        let mut keys = digests.iter().cycle();
        let mut hit = || table.find(black_box(keys.next().expect("a cycle does not end")), NOON);
        c.bench_function(&format!("store/find/hit/{size}/1 thread"), |b| b.iter(&mut hit));
        let mut others = digests.iter().rev().cycle();
        let other = || {
            black_box(table.find(others.next().expect("a cycle does not end"), NOON).is_ok());
        };
        beside(other, || {
            c.bench_function(&format!("store/find/hit/{size}/2 threads"), |b| b.iter(&mut hit));
        });
        let unknown = TokenDigest::of(&[0; 32]);
        c.bench_function(&format!("store/find/unknown/{size}"), |b| {
            b.iter(|| table.find(black_box(&unknown), NOON));
        });
    }
}

/// Each use is written: a twentieth of the idle timeout passes with every round over all sessions.
fn touch(c: &mut Criterion<ThreadTime>) {
    for (count, size) in SIZES {
        let table = filled(count, &mut Sequence(1));
        let sessions = shuffled(&table);
        let round = |n: usize| NOON.plus(Duration::from_secs(90) * (n / count + 1) as u32);
        let mut n = 0;
        let mut use_one = || {
            let wrote = table.touch(black_box(&sessions[n % count]), round(n));
            n += 1;
            wrote
        };
        assert!(use_one(), "it was opened a while ago");
        c.bench_function(&format!("store/touch/{size}/1 thread"), |b| b.iter(&mut use_one));
        let late = NOON.plus(Duration::from_secs(1));
        let mut others = sessions.iter().rev().cycle();
        let other = || {
            black_box(table.touch(others.next().expect("a cycle does not end"), late));
        };
        beside(other, || {
            c.bench_function(&format!("store/touch/{size}/2 threads"), |b| b.iter(&mut use_one));
        });
    }
}

/// An upstream keeps one of two values of a hundred bytes, in turn.
fn patch(c: &mut Criterion<ThreadTime>) {
    for (count, size) in SIZES {
        let table = filled(count, &mut Sequence(1));
        let sessions = shuffled(&table);
        let values = ["a", "b"].map(|byte| {
            HeaderValue::try_from(format!("{{\"cart\":\"{}\"}}", byte.repeat(90)))
                .expect("ASCII without controls")
        });
        let keep = |session: &Session, value: &HeaderValue| {
            let apply = |_: Option<&HeaderValue>| Ok::<_, Infallible>(Some(value.clone()));
            table.patch(session, SpaceId(1), NOON, apply).is_ok()
        };
        let mut n = 0;
        let mut patch_one = || {
            n += 1;
            keep(black_box(&sessions[n % count]), &values[n / count % 2])
        };
        assert!(patch_one(), "it lives");
        c.bench_function(&format!("store/patch/{size}/1 thread"), |b| b.iter(&mut patch_one));
        let mut others = sessions.iter().rev().cycle();
        let other = || {
            black_box(keep(others.next().expect("a cycle does not end"), &values[0]));
        };
        beside(other, || {
            c.bench_function(&format!("store/patch/{size}/2 threads"), |b| b.iter(&mut patch_one));
        });
    }
}

fn open_and_end(c: &mut Criterion<ThreadTime>) {
    for (count, size) in SIZES {
        let mut random = Sequence(1);
        let table = filled(count, &mut random);
        table.set_limits(Limits { capacity: usize::MAX, ..table.limits() });
        let mut n = count;
        let mut next = || {
            n += 1;
            session(n, &mut random)
        };
        let opened = |session: Session| table.open(session, &[], NOON).is_ok();
        let ended = |digest: TokenDigest| table.end(&digest, End::SignOut).sessions.len() == 1;
        let mut measure = |threads: &str| {
            c.bench_function(&format!("store/open/{size}/{threads}"), |b| {
                b.iter_batched(&mut next, opened, BatchSize::SmallInput);
            });
            let mut lived = || {
                let session = next();
                let digest = *session.digest();
                assert!(opened(session));
                digest
            };
            assert!(ended(lived()));
            c.bench_function(&format!("store/end/{size}/{threads}"), |b| {
                b.iter_batched(&mut lived, ended, BatchSize::SmallInput);
            });
        };
        measure("1 thread");
        let mut random = Sequence(3);
        let mut n = 0;
        let other = || {
            n += 1;
            let session = session(n, &mut random);
            let digest = *session.digest();
            assert!(opened(session) && ended(digest));
        };
        beside(other, || measure("2 threads"));
    }
}

/// A start with all that a durable store kept.
fn restore(c: &mut Criterion<ThreadTime>) {
    let (count, size) = SIZES[1];
    let rows: Vec<Restored> = shuffled(&filled(count, &mut Sequence(1))).iter().map(Restored::of).collect();
    let mut group = c.benchmark_group("store/restore");
    group.sample_size(10);
    group.bench_function(size, |b| {
        let start = || (table(count), rows.clone());
        let restored = |(table, rows): (Table, Vec<Restored>)| {
            table.restore(rows);
            assert_eq!(table.live(), count);
            table
        };
        b.iter_batched(start, restored, BatchSize::PerIteration);
    });
    group.finish();
}

/// Runs `measured` while another thread does `other` again and again.
fn beside(mut other: impl FnMut() + Send, measured: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                other();
            }
        });
        measured();
        done.store(true, Ordering::Relaxed);
    });
}

fn shuffled(table: &Table) -> Vec<Session> {
    let (mut sessions, _) = table.list(Filter::default(), None, usize::MAX, NOON);
    let mut random = Sequence(2);
    for at in (1..sessions.len()).rev() {
        sessions.swap(at, random.next() as usize % (at + 1));
    }
    sessions
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

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = find, touch, patch, check_tag, open_and_end, restore
}
criterion_main!(benches);
