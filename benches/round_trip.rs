//! What a guarded request costs over a bare pingora proxy with the same settings and allocator.
//!
//! Two figures for each job. Instructions per request are counted by callgrind in user space: the difference of two runs
//! that differ only in the number of requests, so that start and stop cancel out; the median of three such differences, over one
//! connection, for with several it depends on the neighbours how many events one wake-up finds. CPU time per
//! request is read from the process accounting, user and system, in interleaved rounds; its median stands beside the
//! spread. Run with `cargo bench --bench round_trip`; `-- --cpu` or `-- --instructions` for one of both.
//!
//! `cargo test --bench round_trip -- --guard` is for `make test`: it counts in the unoptimised build, which is there anyway,
//! and fails if a live session costs more over bare pingora than it did.

#[path = "round_trip/bare.rs"]
mod bare;
#[path = "round_trip/contender.rs"]
mod contender;
#[path = "round_trip/guard.rs"]
mod guard;
#[path = "round_trip/load.rs"]
mod load;
#[path = "round_trip/upstream.rs"]
mod upstream;

use contender::{Contender, Job};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of the two runs under callgrind: the fewer are what warms up.
const COUNTED: (u64, u64) = (600, 1_800);
/// Connections that ask at the same time while CPU time is measured.
const CONNECTIONS: u64 = 4;
/// Interleaved rounds of the CPU measurement, and requests in each.
const ROUNDS: usize = 7;
const REQUESTS: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, listen, upstream] = arguments.as_slice()
        && role == "bare"
    {
        bare::serve(listen, upstream, bare::settings());
    }
    let upstream = upstream::start();
    if arguments.iter().any(|argument| argument == "--guard") {
        return guard::check(upstream);
    }
    let all = !arguments.iter().any(|argument| argument == "--cpu" || argument == "--instructions");
    if all || arguments.iter().any(|argument| argument == "--instructions") {
        instructions(upstream);
    }
    if all || arguments.iter().any(|argument| argument == "--cpu") {
        cpu(upstream);
    }
    ExitCode::SUCCESS
}

fn instructions(upstream: u16) {
    println!("user-space instructions per request (callgrind)\n");
    let mut bare = 0.0;
    for job in Job::ALL {
        let per_request = instructions_of(job, upstream, COUNTED);
        if job == Job::Bare {
            bare = per_request;
        }
        println!("{:<28} {per_request:>9.0} {:>7.3}", job.name(), per_request / bare);
    }
    println!();
}

/// Instructions of one request: the median of three differences of two runs, which send so many.
fn instructions_of(job: Job, upstream: u16, (fewer, more): (u64, u64)) -> f64 {
    let count = |requests| {
        let mut contender = Contender::start(job, upstream, true);
        contender.load(requests, 1);
        contender.instructions() as f64
    };
    let mut differences = [(); 3].map(|()| count(more) - count(fewer));
    differences.sort_by(f64::total_cmp);
    differences[1] / (more - fewer) as f64
}

fn cpu(upstream: u16) {
    println!("CPU microseconds per request, user and system, {ROUNDS} interleaved rounds\n");
    let mut contenders: Vec<Contender> =
        Job::ALL.into_iter().map(|job| Contender::start(job, upstream, false)).collect();
    let mut spent: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for contender in &mut contenders {
        contender.load(REQUESTS / 4, CONNECTIONS);
    }
    for _ in 0..ROUNDS {
        for (contender, spent) in contenders.iter_mut().zip(&mut spent) {
            let before = contender.cpu_micros();
            contender.load(REQUESTS, CONNECTIONS);
            spent.push((contender.cpu_micros() - before) / REQUESTS as f64);
        }
    }
    for spent in &mut spent {
        spent.sort_by(f64::total_cmp);
    }
    let bare = spent[0][ROUNDS / 2];
    println!("{:<28} {:>9} {:>7} {:>7} {:>7}", "", "median", "ratio", "least", "most");
    for (job, spent) in Job::ALL.into_iter().zip(&spent) {
        let median = spent[ROUNDS / 2];
        let (least, most) = (spent[0], spent[ROUNDS - 1]);
        println!("{:<28} {median:>9.1} {:>7.3} {least:>7.1} {most:>7.1}", job.name(), median / bare);
    }
}
