//! What a million live sessions cost in resident memory, everything counted: the sessions, the table, both indexes.
//!
//! Not a criterion bench: the answer is a size, and does not vary. Linux only, where `/proc` tells the resident size.

mod support;

use support::{Sequence, filled};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSIONS: usize = 1_000_000;

fn main() {
    let before = resident_bytes();
    let table = filled(SESSIONS, &mut Sequence(1));
    let grown = resident_bytes() - before;
    println!("store/memory/1M: {} bytes a session ({} MiB)", grown / table.live(), grown / 1024 / 1024);
}

/// `VmRSS`: what `/proc/self/statm` counts in pages, without having to know how large a page is.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("the kernel tells the resident size");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}
