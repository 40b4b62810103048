//! What the number of sessions, routes and tokens does to a running gateway: processor time a request, how long answers
//! take, resident size.
//!
//! Not a criterion bench: what is measured is another process, by the system's accounting. Each request comes with another
//! cookie or token, so that nothing is warm but what a gateway keeps warm. `SESSIONS=1000,5000000` chooses numbers of sessions.

mod whole;

use std::time::Duration;
use whole::clients::{Connection, Latencies, hurry, steadily};
use whole::gateway::{self, Gateway, call, request, token};
use whole::{is_asked, median, spread, ticks, upstream};

/// What can be asked for alone: `cargo bench --bench scale -- tokens`.
const PARTS: [&str; 4] = ["sessions", "sweep", "routes", "tokens"];
const ROUNDS: usize = 5;
/// Requests in each of the rounds in which processor time is taken.
const REQUESTS: usize = 20_000;
const CONNECTIONS: usize = 4;
/// A fifth or so of what one core of the gateway serves.
const PER_SECOND: u32 = 2_000;
const STEADILY_FOR: Duration = Duration::from_secs(4);
/// Sessions that the sweep ends, as fast as they were opened, and after how long a pause.
const SWEPT: usize = 300_000;
const IDLE: Duration = Duration::from_mins(1);
/// Cookies that take turns: more than any cache of a processor keeps.
const COOKIES: usize = 100_000;

fn main() {
    let numbers = std::env::var("SESSIONS").unwrap_or_else(|_| "1000,100000,1000000".to_owned());
    let upstream = upstream::start();
    if is_asked(&PARTS, "sessions") {
        println!(
            "sessions      µs a request        p50 µs   p99 µs   while reloading                ratio   bytes a session"
        );
        for sessions in numbers.split(',').map(|number| number.parse().expect("a number of sessions")) {
            by_sessions(upstream, sessions);
        }
    }
    if is_asked(&PARTS, "sweep") {
        by_sweep(upstream);
    }
    if is_asked(&PARTS, "routes") {
        println!("\nroutes        µs a request        ready after");
        for routes in [10, 1_000, 10_000] {
            by_routes(upstream, routes);
        }
    }
    if is_asked(&PARTS, "tokens") {
        println!("\ntokens        µs a request, first / again   bytes a token");
        for tokens in [100, 10_000, 100_000] {
            by_tokens(upstream, tokens);
        }
    }
}

/// Processor time a request, in several rounds.
fn cost(gateway: &Gateway, request: &(dyn Fn(usize) -> Vec<u8> + Sync)) -> String {
    let round = |_| {
        let before = gateway.cpu_micros();
        hurry(gateway.port, request, 200, REQUESTS, CONNECTIONS);
        (gateway.cpu_micros() - before) / REQUESTS as f64
    };
    round(0);
    spread((0..ROUNDS).map(round).collect())
}

fn by_sessions(upstream: u16, sessions: usize) {
    let gateway = Gateway::start(upstream, "");
    let before = gateway.resident_bytes();
    let cookies = gateway.open(sessions, (sessions / COOKIES).max(1));
    let bytes = (gateway.resident_bytes() - before) / sessions as f64;
    // A stride that has no factor in common with their number: each is used once before any is used again.
    let ask = |n: usize| request("/page", &format!("Cookie: {}", cookies[n * 7_919 % cookies.len()]));
    let cost = cost(&gateway, &ask);
    // Every reload has all sessions looked at once more, for their clocks may have changed: a second's sweep at its dearest. Quiet
    // and busy times take turns, so that a neighbour's work falls on both.
    let pairs = [(); ROUNDS].map(|()| {
        let quiet = steadily(gateway.port, &ask, 200, PER_SECOND, STEADILY_FOR);
        (quiet, while_reloading(&gateway, &ask))
    });
    let of = |figure: &dyn Fn(&(Latencies, Latencies)) -> f64| {
        let mut figures: Vec<f64> = pairs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        median(&figures)
    };
    println!(
        "{sessions:<13} {cost:<19} {:>6.0} {:>8.0} {:>17.0} {:>20} {bytes:>17.0}",
        of(&|(quiet, _)| quiet.p50()),
        of(&|(quiet, _)| quiet.p99()),
        of(&|(_, reloading)| reloading.p99()),
        spread(pairs.iter().map(|(quiet, reloading)| reloading.p99() / quiet.p99()).collect())
    );
}

fn while_reloading(gateway: &Gateway, ask: &(dyn Fn(usize) -> Vec<u8> + Sync)) -> Latencies {
    std::thread::scope(|scope| {
        let load = scope.spawn(|| steadily(gateway.port, ask, 200, PER_SECOND, STEADILY_FOR));
        while !load.is_finished() {
            assert_eq!(Connection::open(gateway.admin).exchange(&call("POST", "/reload", "")).status, 200);
            std::thread::park_timeout(Duration::from_secs(1));
        }
        load.join().expect("every request is answered")
    })
}

/// How many sessions live, by `/metrics`.
fn live(gateway: &Gateway) -> usize {
    let mut door = Connection::open(gateway.admin);
    let text = String::from_utf8_lossy(door.exchange(&call("GET", "/metrics", "")).body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix("vestibule_sessions_live "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number of sessions in {text}"))
}

/// The sweep at its dearest: it ends as many sessions a second as the operator's door had opened, when nobody has used them.
fn by_sweep(upstream: u16) {
    let gateway = Gateway::start_with(upstream, "", &format!("{}s", IDLE.as_secs()));
    let began = ticks();
    gateway.open(SWEPT, SWEPT);
    let opened_in = ticks().saturating_sub(began);
    let cookies = gateway.open(100, 1);
    let ask = |n: usize| request("/page", &format!("Cookie: {}", cookies[n % cookies.len()]));
    // Those that ask are used all the time, and stay.
    let measured = || steadily(gateway.port, &ask, 200, PER_SECOND, Duration::from_secs(2));
    let (mut quiet, mut sweeping) = (Vec::new(), Vec::new());
    while ticks() + Duration::from_secs(3) < began + IDLE {
        quiet.push(measured().p99());
    }
    assert_eq!(live(&gateway), SWEPT + cookies.len(), "nothing has ended yet");
    while live(&gateway) > SWEPT / 20 + cookies.len() {
        let latencies = measured();
        // What began before the first end, and the last bit, are neither.
        if live(&gateway) < SWEPT - SWEPT / 20 {
            sweeping.push(latencies.p99());
        }
    }
    for times in [&mut quiet, &mut sweeping] {
        times.sort_by(f64::total_cmp);
    }
    println!(
        "\nsweep: p99 {:.0} µs while {:.0} sessions a second end ({} times), {:.0} µs before ({} times), ratio {:.2}",
        median(&sweeping),
        SWEPT as f64 / opened_in.as_secs_f64(),
        sweeping.len(),
        median(&quiet),
        quiet.len(),
        median(&sweeping) / median(&quiet)
    );
}

fn by_routes(upstream: u16, routes: usize) {
    let gateway = Gateway::start(upstream, &gateway::routes(routes));
    let asks: Vec<Vec<u8>> = (0..routes.min(1_000))
        .map(|n| {
            let n = n * 7_919 % routes;
            let host = format!("Host: h{}.example.com", n % 100);
            let ask = String::from_utf8(request(&format!("/part{n}/page"), "Cookie: theme=dark"));
            ask.expect("ASCII").replace("Host: localhost", &host).into_bytes()
        })
        .collect();
    let cost = cost(&gateway, &|n| asks[n % asks.len()].clone());
    println!("{routes:<13} {cost:<19} {:>8} ms", gateway.started_in.as_millis());
}

fn by_tokens(upstream: u16, tokens: usize) {
    let gateway = Gateway::start(upstream, "");
    let tokens: Vec<String> = (0..tokens).map(token).collect();
    let ask = |n: usize| request("/api/page", &format!("Authorization: Bearer {}", tokens[n % tokens.len()]));
    let warm = |requests| {
        let before = gateway.cpu_micros();
        hurry(gateway.port, &ask, 200, requests, CONNECTIONS);
        (gateway.cpu_micros() - before) / requests as f64
    };
    let before = gateway.resident_bytes();
    let first = warm(tokens.len());
    let bytes = (gateway.resident_bytes() - before) / tokens.len() as f64;
    let again = warm(tokens.len().max(REQUESTS));
    println!("{:<13} {first:>6.1} / {again:<6.1} {bytes:>28.0}", tokens.len());
}
