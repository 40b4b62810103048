//! What a request's Cookie field costs: our cookie found among six, and taken out before the upstream sees it.

#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::iter::once;
use thread_time::ThreadTime;
use vestibule::domain::cookie::{Found, find, without};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSION: &str = "__Host-session";
/// What is taken out: the session's cookie, that of forms, that of known browsers.
const OURS: [&str; 3] = [SESSION, "__Host-vestibule-form", "__Host-vestibule-device"];

/// Ours stands fourth, behind the analytics and the application's own.
const SIX: &[u8] = b"_ga=GA1.1.1823312412.1763800000; csrftoken=Vd8hQ2mZy5JtK0aPzXw3RbLcNfUe7GiT; \
    theme=dark; __Host-session=AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKA; \
    sessionid=4k2m9x7q1w8e5r3t6y0u2i4o7p9a1s3d; lang=en-GB";
const SIX_OF_OTHERS: &[u8] = b"_ga=GA1.1.1823312412.1763800000; csrftoken=Vd8hQ2mZy5JtK0aPzXw3RbLcNfUe7GiT; \
    theme=dark; last_page=AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKAAAAA; \
    sessionid=4k2m9x7q1w8e5r3t6y0u2i4o7p9a1s3d; lang=en-GB";

fn finding(c: &mut Criterion<ThreadTime>) {
    assert!(matches!(find(once(SIX), SESSION), Found::One(value) if value.len() == 54));
    assert_eq!(find(once(SIX_OF_OTHERS), SESSION), Found::None);
    for (field, case) in [(SIX, "ours"), (SIX_OF_OTHERS, "none ours")] {
        c.bench_function(&format!("cookie/find/6/{case}"), |b| {
            b.iter(|| find(once(black_box(field)), SESSION));
        });
    }
}

fn taking_out(c: &mut Criterion<ThreadTime>) {
    assert_eq!(without(SIX, &OURS).map(|rest| rest.len()), Some(SIX.len() - "; __Host-session=".len() - 54));
    assert_eq!(without(SIX_OF_OTHERS, &OURS), None);
    for (field, case) in [(SIX, "ours"), (SIX_OF_OTHERS, "none ours")] {
        c.bench_function(&format!("cookie/without/6/{case}"), |b| {
            b.iter(|| without(black_box(field), &OURS));
        });
    }
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = finding, taking_out
}
criterion_main!(benches);
