//! What a guarded request costs over a bare pingora proxy with the same settings and allocator.
//!
//! Two figures for each job. Instructions per request are counted by callgrind in user space: the difference of two runs
//! that differ only in the number of requests, so that start and stop cancel out; the median of three such differences, over one
//! connection, for with several it depends on the neighbours how many events one wake-up finds. CPU time per
//! request is read from the process accounting, user and system, in interleaved rounds; its median stands beside the
//! spread. Run with `cargo bench --bench round_trip`; `-- --cpu` or `-- --instructions` for one of both.

#[path = "round_trip/bare.rs"]
mod bare;
#[path = "round_trip/contender.rs"]
mod contender;
#[path = "round_trip/load.rs"]
mod load;

use contender::{Contender, Job};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests of the two runs under callgrind, beyond the warm-up.
const COUNTED: (u64, u64) = (400, 1_600);
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
        bare::serve(listen, upstream);
    }
    let upstream = load::upstream();
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
        let count = |requests| {
            let mut contender = Contender::start(job, upstream, true);
            contender.load(200, 1);
            contender.load(requests, 1);
            contender.instructions() as f64
        };
        let mut differences = [(); 3].map(|()| count(COUNTED.1) - count(COUNTED.0));
        differences.sort_by(f64::total_cmp);
        let per_request = differences[1] / (COUNTED.1 - COUNTED.0) as f64;
        if job == Job::Bare {
            bare = per_request;
        }
        println!("{:<28} {per_request:>9.0} {:>7.3}", job.name(), per_request / bare);
    }
    println!();
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
