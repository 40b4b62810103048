//! What a canonical request pays to learn whether it may pass: its route among few and many, and the decision.
//!
//! Ten routes are one application; 1,000 are a hundred of them, each on a host of its own, or a thousand paths of one
//! host; 10,000 are a hundred hosts with ninety paths more. The session was looked up before; what that costs is `store.rs`'s question.

mod support;
#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use std::hint::black_box;
use support::{Sequence, filled};
use thread_time::ThreadTime;
use vestibule::domain::access::{Access, EntryId, Preflight, Protected};
use vestibule::domain::decision::{Admission, Credential, Facts, Presented, Refused, decide};
use vestibule::domain::identity::{GROUPS, Literal};
use vestibule::domain::policy::Rule;
use vestibule::domain::possession::Bindings;
use vestibule::domain::route::{HostPattern, Miss, PathPattern, RouteTable};
use vestibule::domain::session::Session;
use vestibule::domain::target::Target;
use vestibule::domain::time::Timestamp;
use vestibule::store::table::Filter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FACTS: Facts<'static> = Facts {
    method: &Method::GET,
    upgrade: false,
    foreign: false,
    preflight: false,
    certificate: None,
    now: Timestamp::from_secs(0),
    wall: None,
    proved_key: None,
};

/// The deepest route of the last application, and something below it.
const DEEP: &str = "/reports/2026/pages/17?sort=name&order=asc";

fn find(c: &mut Criterion<ThreadTime>) {
    for (name, routes, host, target) in [
        ("10", on_hosts(1), "app0.example.com", DEEP),
        ("1000", on_hosts(100), "app99.example.com", DEEP),
        ("10000", on_large_hosts(100), "app99.example.com", DEEP),
        ("1000, one host", on_one_host(1_000), "app.example.com", "/team999/pages/17"),
        ("1000, unknown host", on_hosts(100), "elsewhere.example.org", DEEP),
    ] {
        let target = Target::parse(target.as_bytes()).expect("a plain target");
        let is_known = !host.starts_with("elsewhere");
        assert_eq!(routes.find(host, &target, &Method::GET).is_ok(), is_known, "{name}");
        c.bench_function(&format!("route/find/{name}"), |b| {
            b.iter(|| routes.find(black_box(host), black_box(&target), &Method::GET));
        });
    }
}

fn decision(c: &mut Criterion<ThreadTime>) {
    let session = live_session();
    let admits = guarded(&["support", "dev"]);
    let refuses = guarded(&["board"]);
    assert!(ask(&admits, &session).is_ok(), "the session's groups contain `dev`");
    assert!(ask(&refuses, &session).is_err(), "the session's groups do not contain `board`");
    c.bench_function("decide/admitted", |b| b.iter(|| ask(black_box(&admits), &session)));
    c.bench_function("decide/refused", |b| b.iter(|| ask(black_box(&refuses), &session)));
}

fn route_and_decision(c: &mut Criterion<ThreadTime>) {
    let session = live_session();
    let target = Target::parse(DEEP.as_bytes()).expect("a plain target");
    for (size, hosts) in [("10", 1), ("1000", 100)] {
        let routes = on_hosts(hosts);
        let access = vec![guarded(&["support", "dev"]); hosts * PATHS.len()];
        let host = format!("app{}.example.com", hosts - 1);
        let walk = || -> Result<Result<Admission, Refused>, Miss> {
            let route = routes.find(black_box(&host), black_box(&target), &Method::GET)?;
            Ok(ask(&access[route], &session))
        };
        assert!(matches!(walk(), Ok(Ok(_))), "{size}");
        c.bench_function(&format!("route/find and decide/{size}"), |b| b.iter(walk));
    }
}

fn ask(access: &Access, session: &Session) -> Result<Admission, Refused> {
    decide(access, FACTS, Presented::Credential(Credential::Session(session.clone())))
}

/// A live session of somebody in `ops`, `dev` and `wiki-editors`.
fn live_session() -> Session {
    let table = filled(1, &mut Sequence(1));
    let (mut sessions, _) = table.list(Filter::default(), None, 1, support::NOON);
    sessions.pop().expect("one was opened")
}

/// A route for members of one of these groups who signed in by password.
fn guarded(groups: &[&str]) -> Access {
    let any_of = groups.iter().map(|group| Literal::new(group)).collect();
    Access::Protected(Protected {
        sign_in: [EntryId(1)].into(),
        tokens: [EntryId(2)].into(),
        bindings: Bindings::default(),
        allow: Rule::Claim { name: GROUPS.to_owned(), any_of },
        auth_age: None,
        dated: [].into(),
        optional: false,
        cross_origin: [].into(),
        preflight: Preflight::Refuse,
    })
}

/// The routes of one application, the catch-all last.
const PATHS: [&str; 10] = [
    "= /favicon.ico",
    "/static",
    "/public",
    "/health",
    "/api/v1/admin",
    "/api/v1",
    "/admin",
    "/reports/2026/pages",
    "/reports",
    "/",
];

fn on_hosts(count: usize) -> RouteTable {
    let of_host = |n| PATHS.map(|path| route(&format!("app{n}.example.com"), path));
    RouteTable::new((0..count).flat_map(of_host).collect())
}

/// The same with ninety more paths on each host, before the others.
fn on_large_hosts(count: usize) -> RouteTable {
    let of_host = |n| {
        let host = format!("app{n}.example.com");
        let teams = (0..90).map(|team| format!("/team{team}/pages"));
        let paths = teams.chain(PATHS.map(str::to_owned));
        paths.map(|path| route(&host, &path)).collect::<Vec<_>>()
    };
    RouteTable::new((0..count).flat_map(of_host).collect())
}

fn on_one_host(count: usize) -> RouteTable {
    RouteTable::new((0..count).map(|n| route("app.example.com", &format!("/team{n}/pages"))).collect())
}

fn route(host: &str, path: &str) -> (Vec<HostPattern>, PathPattern, bool, Vec<Method>) {
    let host = HostPattern::parse(host).expect("a host name");
    (vec![host], PathPattern::parse(path).expect("a path in normal form"), false, Vec::new())
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = find, decision, route_and_decision
}
criterion_main!(benches);
