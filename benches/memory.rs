//! What a million live sessions cost in resident memory, everything counted, and which part of them costs what.
//!
//! Not a criterion bench: the answer is a size, and does not vary. Linux only, where `/proc` tells the resident size. Each
//! case is measured in a process of its own, for an allocator does not give back all that it took.

mod support;

use http::HeaderValue;
use std::convert::Infallible;
use std::process::Command;
use support::{NOON, Sequence, filled, session_of_kind, table};
use vestibule::domain::session::{Kind, SpaceId};
use vestibule::store::table::Filter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSIONS: usize = 1_000_000;
/// What an upstream keeps: a cart with two things in it, 101 bytes.
const DATA: &str =
    r#"{"cart":[{"article":"4711","count":2},{"article":"0815","count":1}],"name":"pure","locale":"en-GB"}"#;

fn main() {
    let case = std::env::args().nth(1).filter(|word| !word.starts_with('-'));
    if let Some(case) = case {
        let grown = match case.as_str() {
            "alone" => alone(),
            "anonymous" => held(Kind::Anonymous),
            _ => held(Kind::SignedIn),
        };
        println!("{} {}", grown[0], grown[1]);
        return;
    }
    let [alone, _] = measured("alone");
    let [nobodys, _] = measured("anonymous");
    let [whole, data] = measured("signed in");
    // An anonymous one is as large, and stands in all but the order of subjects.
    let by_subject = whole.saturating_sub(nobodys);
    println!("store/memory/1M: {whole} bytes a session");
    println!("  {alone} its one allocation");
    println!("  {by_subject} its place in the order of subjects, and as much in the order of ids");
    println!("  {} the way from its digest", nobodys.saturating_sub(alone + by_subject));
    println!("store/memory/1M/with data: {data} bytes more for {} bytes of JSON", DATA.len());
}

/// Bytes a session, measured by a process of its own.
fn measured(case: &str) -> [usize; 2] {
    let program = std::env::current_exe().expect("this program has a file");
    let output = Command::new(program).arg(case).output().expect("this program starts again");
    let text = String::from_utf8(output.stdout).expect("numbers are ASCII");
    let mut numbers = text.split_whitespace().map(|number| number.parse().expect("a number of bytes"));
    std::array::from_fn(|_| numbers.next().expect("two numbers"))
}

/// Sessions in no table.
fn alone() -> [usize; 2] {
    let mut random = Sequence(1);
    // Filled, so that its pages are there before the first measurement.
    let mut sessions = vec![session_of_kind(0, Kind::SignedIn, &mut random); SESSIONS];
    let before = resident_bytes();
    for (n, place) in sessions.iter_mut().enumerate() {
        *place = session_of_kind(n, Kind::SignedIn, &mut random);
    }
    [(resident_bytes() - before) / sessions.len(), 0]
}

/// Sessions in a table: what they take, and what data adds.
fn held(kind: Kind) -> [usize; 2] {
    let before = resident_bytes();
    let mut random = Sequence(1);
    let table = if kind == Kind::Anonymous { table(SESSIONS) } else { filled(SESSIONS, &mut random) };
    for n in table.live()..SESSIONS {
        table.open(session_of_kind(n, kind, &mut random), &[], NOON).expect("there is room");
    }
    let without_data = resident_bytes();
    let filter = Filter { anonymous: kind == Kind::Anonymous, ..Filter::default() };
    let mut cursor = None;
    loop {
        let (page, next) = table.list(filter, cursor, 1_000, NOON);
        for session in page {
            let keep = |_: Option<&HeaderValue>| Ok::<_, Infallible>(HeaderValue::try_from(DATA).ok());
            table.patch(&session, SpaceId(1), NOON, keep).expect("it lives").forget();
        }
        if next.is_none() {
            break;
        }
        cursor = next;
    }
    let with_data = resident_bytes();
    [without_data - before, with_data - without_data].map(|grown| grown / SESSIONS)
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
