//! The guard of `make test`: what a live session costs over bare pingora must not grow unseen.
//!
//! Instructions of the unoptimised build, which the tests have built already, so that this takes a minute and not a release build.
//! They are ten times as many as in a release and no figures to publish; but what is added to the path of a request is added here
//! too. Both proxies are counted, so that a new compiler or pingora weighs on both sides.

use super::contender::Job;
use super::instructions_of;
use std::process::ExitCode;

/// Instructions of a live session over those of bare pingora when they were last looked at. A change that is meant to
/// cost more, or that saves, writes the new one here.
const RATIO: f64 = 0.955;
/// By how much it may differ: beside other work one build was counted 0.03 apart.
const TOLERANCE: f64 = 0.05;
/// Requests of the two runs that are compared.
const COUNTED: (u64, u64) = (100, 300);

/// Counts, and fails if the ratio is above what it may be.
pub(crate) fn check(upstream: u16) -> ExitCode {
    let count = |job| move || instructions_of(job, upstream, COUNTED);
    let (bare, session) = std::thread::scope(|scope| {
        let bare = scope.spawn(count(Job::Bare));
        let session = count(Job::Session)();
        (bare.join().expect("it is counted"), session)
    });
    let ratio = session / bare;
    println!("instructions a request, unoptimised: bare pingora {bare:.0}, live session {session:.0}");
    println!("ratio {ratio:.3}, known {RATIO:.3}, tolerance {TOLERANCE:.3}");
    if ratio > RATIO + TOLERANCE {
        println!(
            "a live session costs more than it did: mend that, or write the new ratio and why in {}",
            file!()
        );
        return ExitCode::FAILURE;
    }
    if ratio < RATIO - TOLERANCE {
        println!("a live session costs less than it did: write the new ratio in {}", file!());
    }
    ExitCode::SUCCESS
}
