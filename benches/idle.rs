//! What connections cost on which nothing happens: resident size, and what they do to the others.
//!
//! Not a criterion bench: what is measured is another process, by the system's accounting. Browsers keep connections open for as
//! long as they may, so most connections of a gateway are such.

#[expect(dead_code, reason = "this bench asks for a part of it")]
mod whole;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;
use whole::clients::{Connection, steadily};
use whole::gateway::{Gateway, request};
use whole::upstream;

const CONNECTIONS: usize = 10_000;
/// Two descriptors a connection in the gateway, one in here, and some.
const DESCRIPTORS: u64 = 24_000;
const PER_SECOND: u32 = 2_000;
/// Less than those that say nothing have for their first head.
const STEADILY_FOR: Duration = Duration::from_secs(5);

fn main() {
    let room = raise_limits();
    let count = CONNECTIONS.min(room);
    let gateway = Gateway::start(upstream::start(), "");
    let cookie = format!("Cookie: {}", gateway.open(1, 1)[0]);
    let ask = request("/page", &cookie);
    let steadily = || steadily(gateway.port, &|_| ask.clone(), 200, PER_SECOND, STEADILY_FOR);
    let alone = steadily();
    let empty = gateway.resident_bytes();
    let mut silent: Vec<Connection> = (0..count / 2).map(|_| Connection::open(gateway.port)).collect();
    std::thread::park_timeout(Duration::from_secs(1));
    let with_silent = gateway.resident_bytes();
    let mut kept: Vec<Connection> = (0..count / 2).map(|_| Connection::open(gateway.port)).collect();
    for connection in &mut kept {
        assert_eq!(connection.exchange(&ask).status, 200);
    }
    let with_kept = gateway.resident_bytes();
    let beside = steadily();
    let each = |bytes: f64| bytes / (count / 2) as f64 / 1024.0;
    println!("{count} connections on which nothing happens");
    println!("{:<42} {:>6.1} KiB each", "connected, and nothing said yet", each(with_silent - empty));
    println!("{:<42} {:>6.1} KiB each", "answered once, and kept", each(with_kept - with_silent));
    println!(
        "{:<42} p50 {:>5.0} µs   p99 {:>5.0} µs",
        "2,000 requests a second without them",
        alone.p50(),
        alone.p99()
    );
    println!("{:<42} p50 {:>5.0} µs   p99 {:>5.0} µs", "beside them", beside.p50(), beside.p99());
    for connection in silent.iter_mut().chain(&mut kept).step_by(97) {
        assert_eq!(connection.exchange(&ask).status, 200, "all of them are alive");
    }
}

/// Makes room for descriptors here and in the gateway; how many connections there may be.
fn raise_limits() -> usize {
    let held = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let raised = |hard: u64| setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) });
    let hard = held.max(DESCRIPTORS);
    // Only root may have more than the hard limit.
    let hard = if raised(hard).is_ok() { hard } else { held };
    raised(hard).expect("the soft limit may be the hard one");
    usize::try_from(hard.saturating_sub(512) / 2).expect("a count")
}
