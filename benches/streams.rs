//! What open connections cost their worker several times a second: the look for streams whose session has ended. And what
//! every request of a session pays for being among them.

mod support;
#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{Criterion, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use support::{NOON, Sequence, filled, session};
use thread_time::ThreadTime;
use vestibule::domain::session::Session;
use vestibule::net::connection::Link;
use vestibule::net::streams::Streams;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 10_000;

fn connections(streams: &Arc<Streams>) -> Vec<Arc<Link>> {
    (0..CONNECTIONS).map(|_| Arc::new(Link::new(0, None, streams.clone()))).collect()
}

fn look(c: &mut Criterion<ThreadTime>) {
    let (streams, table) = (Arc::new(Streams::default()), filled(1, &mut Sequence(2)));
    let links = connections(&streams);
    let later = NOON.plus(Duration::from_mins(1));
    c.bench_function("streams/look/10k idle connections", |b| b.iter(|| streams.look(&table, 1, later)));
    let mut random = Sequence(1);
    let sessions: Vec<Session> = (0..CONNECTIONS).map(|n| session(n, &mut random)).collect();
    for (link, session) in links.iter().zip(&sessions) {
        link.tie(session.clone(), true);
    }
    streams.look(&table, 1, later);
    assert!(links.iter().all(|link| link.cut_by().is_none()), "every session lives");
    c.bench_function("streams/look/10k open streams", |b| b.iter(|| streams.look(&table, 1, later)));
    streams.look(&table, 1, NOON.plus(Duration::from_hours(24)));
    assert!(links.iter().all(|link| link.cut_by().is_some()), "every session is over");
    for link in &links {
        link.untie();
    }
}

fn tie(c: &mut Criterion<ThreadTime>) {
    let streams = Arc::new(Streams::default());
    let links = connections(&streams);
    let session = session(1, &mut Sequence(1));
    c.bench_function("streams/tie and untie", |b| {
        b.iter(|| {
            links[17].tie(session.clone(), true);
            links[17].untie();
        });
    });
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = look, tie
}
criterion_main!(benches);
