//! What the benches of a whole gateway share: the built program on loopback, its upstream, and clients that are counted.

pub(crate) mod clients;
pub(crate) mod gateway;

#[path = "../round_trip/upstream.rs"]
pub(crate) mod upstream;

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time on a clock that nobody sets.
pub(crate) fn ticks() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).expect("no clock of the system is negative")
}

/// Whether a part of a bench is to run: all do, unless some are named behind `--`.
pub(crate) fn is_asked(parts: &[&str], part: &str) -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let is_named = |part: &str| arguments.iter().any(|argument| argument == part);
    is_named(part) || !parts.iter().any(|part| is_named(part))
}

/// When a token of now ends, in seconds since 1970: within the day that the gateway lets one live by default.
pub(crate) fn expiry() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec + 12 * 3_600
}

/// What a figure was in several rounds: its median, and the lowest and the highest beside it.
pub(crate) fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures[0], figures[figures.len() - 1]);
    format!("{:.1} ({low:.1}–{high:.1})", median(&figures))
}

/// The middle one of sorted figures.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
