//! What a running gateway pays when much comes at once: sign-ins, junk, a million requests; and what it takes to be there.
//!
//! Not a criterion bench: what is measured is another process, by the system's accounting.

mod whole;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use whole::clients::{Connection, Latencies, hurry, steadily};
use whole::gateway::{Gateway, PASSWORD, request, routes, token};
use whole::{is_asked, median, spread, upstream};

/// What can be asked for alone: `cargo bench --bench storms -- junk`.
const PARTS: [&str; 5] = ["start", "open", "junk", "sign-in", "growth"];
const ROUNDS: usize = 5;
const REQUESTS: usize = 20_000;
const CONNECTIONS: usize = 4;
const OPENINGS: usize = 100_000;
const SIGN_INS: usize = 100;
/// A tenth or so of what one core of the gateway serves: the hashes have the other.
const PER_SECOND: u32 = 1_000;
/// When those who found the queue full come back: in the mean, for each has a patience of their own.
const COMES_BACK_AFTER: Duration = Duration::from_millis(500);
/// Of good requests or of junk, beside those whose times are taken: what is served in half of the processors' time.
const FLOOD_PER_SECOND: u32 = 4_000;
const STEADILY_FOR: Duration = Duration::from_secs(3);
/// So many rounds of two times each, one after the other: a neighbour's work falls on both.
const PAIRS: usize = 9;
const MILLION: usize = 1_000_000;

fn main() {
    let upstream = upstream::start();
    if is_asked(&PARTS, "start") {
        start(upstream);
    }
    let gateway = Gateway::start(upstream, "");
    let cookie = gateway.open(1, 1).remove(0);
    let served = request("/page", &format!("Cookie: {cookie}"));
    let parts: [fn(&Gateway, &[u8]); 4] = [|gateway, _| openings(gateway), junk, sign_ins, growth];
    for (name, part) in PARTS[1..].iter().zip(parts) {
        if is_asked(&PARTS, name) {
            part(&gateway, &served);
        }
    }
}

fn start(upstream: u16) {
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_vestibule")).expect("it is built").len();
    println!("start/binary: {:.1} MB, debug information of lines and all", program as f64 / 1e6);
    let routes = routes(1_000);
    let mut milliseconds = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        let gateway = Gateway::start(upstream, &routes);
        milliseconds.push(gateway.started_in.as_secs_f64() * 1e3);
        resident.push(gateway.resident_bytes() / 1e6);
    }
    println!("start/1,000 routes and users: ready after {} ms", spread(milliseconds));
    println!("start/resident when idle: {} MB", spread(resident));
}

fn openings(gateway: &Gateway) {
    let before = gateway.cpu_micros();
    gateway.open(OPENINGS, OPENINGS);
    println!("open/POST /sessions: {:.1} µs each", (gateway.cpu_micros() - before) / OPENINGS as f64);
}

/// Processor time of requests that get `status`.
fn cost(gateway: &Gateway, request: &(dyn Fn(usize) -> Vec<u8> + Sync), status: u16) -> f64 {
    let before = gateway.cpu_micros();
    hurry(gateway.port, request, status, REQUESTS, CONNECTIONS);
    (gateway.cpu_micros() - before) / REQUESTS as f64
}

fn junk(gateway: &Gateway, served: &[u8]) {
    let good = token(1);
    let (rest, signature) = good.rsplit_once('.').expect("a token has three parts");
    // Of the right length each; no two alike.
    let cookies = |n: usize| request("/page", &format!("Cookie: session={n:0>60}"));
    let tokens = |n: usize| {
        let digits = n.to_string();
        request("/api/page", &format!("Authorization: Bearer {rest}.{digits}{}", &signature[digits.len()..]))
    };
    let mut figures: [Vec<f64>; 3] = Default::default();
    let resident = gateway.resident_bytes();
    for round in 0..ROUNDS {
        let others = round * REQUESTS;
        figures[0].push(cost(gateway, &|_| served.to_vec(), 200));
        figures[1].push(cost(gateway, &|n| cookies(others + n), 401));
        figures[2].push(cost(gateway, &|n| tokens(others + n), 401));
    }
    let grown = (gateway.resident_bytes() - resident) / 1e6;
    let [served_for, cookies_for, tokens_for] = figures.map(spread);
    println!("junk/a served request: {served_for} µs");
    println!("junk/a junk cookie, refused: {cookies_for} µs");
    println!("junk/a junk token, refused: {tokens_for} µs");
    println!("junk/resident size after {} of each: {grown:+.1} MB", ROUNDS * REQUESTS);

    // Whoever asks without end takes processors from everybody, by good requests too. So a flood of junk is compared with one of
    // as many good requests a second, which these processors can serve.
    let others = ROUNDS * REQUESTS;
    let flood = |request: &(dyn Fn(usize) -> Vec<u8> + Sync), status| {
        beside(gateway, served, || {
            steadily(gateway.port, request, status, FLOOD_PER_SECOND, STEADILY_FOR);
        })
    };
    let mut ratios: [Vec<f64>; 2] = Default::default();
    for round in 0..PAIRS {
        let served_flood = flood(&|_| served.to_vec(), 200);
        let first = others + round * FLOOD_PER_SECOND as usize * STEADILY_FOR.as_secs() as usize;
        let cookie_flood = flood(&|n| cookies(first + n), 401);
        let token_flood = flood(&|n| tokens(first + n), 401);
        if round == 0 {
            tell("junk/beside junk cookies", &served_flood, &cookie_flood);
            tell("junk/beside junk tokens", &served_flood, &token_flood);
        }
        ratios[0].push(cookie_flood.p99() / served_flood.p99());
        ratios[1].push(token_flood.p99() / served_flood.p99());
    }
    let [cookies, tokens] = ratios.map(spread);
    println!("junk/ratio of p99 in {PAIRS} rounds: {cookies} beside cookies, {tokens} beside tokens");
}

fn quiet(gateway: &Gateway, served: &[u8]) -> Latencies {
    steadily(gateway.port, &|_| served.to_vec(), 200, PER_SECOND, STEADILY_FOR)
}

/// How long answers take while something else goes on.
fn beside(gateway: &Gateway, served: &[u8], other: impl FnOnce() + Send) -> Latencies {
    std::thread::scope(|scope| {
        scope.spawn(other);
        quiet(gateway, served)
    })
}

fn tell(what: &str, quiet: &Latencies, stormy: &Latencies) {
    println!(
        "{what}: p99 {:.0} µs, otherwise {:.0}, ratio {:.2}; p50 {:.0} and {:.0}",
        stormy.p99(),
        quiet.p99(),
        stormy.p99() / quiet.p99(),
        stormy.p50(),
        quiet.p50()
    );
}

/// Ends the storm, also where what is measured beside it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sign_ins(gateway: &Gateway, served: &[u8]) {
    let form = form(gateway.port);
    let (form, port) = (&form, gateway.port);
    let mut ratios = Vec::new();
    for round in 0..PAIRS {
        let before = quiet(gateway, served);
        let [signed_in, refused] = &[AtomicU64::new(0), AtomicU64::new(0)];
        let over = &AtomicBool::new(false);
        let stormy = std::thread::scope(|scope| {
            for n in 0..SIGN_INS {
                let patience = COMES_BACK_AFTER.mul_f64(0.5 + n as f64 / SIGN_INS as f64);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let status = Connection::open(port).exchange(&form.filled(n)).status;
                        assert!([303, 503].contains(&status), "{status}");
                        let count = if status == 303 { signed_in } else { refused };
                        count.fetch_add(1, Ordering::Relaxed);
                        if status == 503 {
                            std::thread::park_timeout(patience);
                        }
                    }
                });
            }
            // What a hundred new connections at the same instant take from everybody is no question of hashes.
            std::thread::park_timeout(COMES_BACK_AFTER);
            let _ends = Ends(over);
            quiet(gateway, served)
        });
        if round == 0 {
            tell(&format!("sign-in/{SIGN_INS} people who sign in again and again"), &before, &stormy);
            let [signed_in, refused] = [signed_in, refused].map(|count| count.load(Ordering::Relaxed));
            println!("  {signed_in} times somebody was signed in, {refused} times the queue was full");
        }
        ratios.push(stormy.p99() / before.p99());
    }
    println!("sign-in/ratio of p99 in {PAIRS} rounds: {}", spread(ratios));
}

/// The sign-in form as a browser got it.
struct Form {
    cookie: String,
    token: String,
}

fn form(port: u16) -> Form {
    let mut connection = Connection::open(port);
    let page = connection.exchange(&request("/_vestibule/login", "Cookie: theme=dark"));
    let (head, body) = (String::from_utf8_lossy(page.head), String::from_utf8_lossy(page.body));
    let between = |text: &str, before: &str, after: char| {
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before} in {text}"));
        rest.split_once(after).expect("it ends").0.to_owned()
    };
    let cookie =
        head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ").or(line.strip_prefix("set-cookie: ")));
    Form {
        cookie: between(cookie.expect("the form has a cookie"), "", ';'),
        token: between(&body, "name=\"form_token\" value=\"", '"'),
    }
}

impl Form {
    /// The `n`th person's sign-in, from a network of its own: each has one place in the queue.
    fn filled(&self, n: usize) -> Vec<u8> {
        let Self { cookie, token } = self;
        let password = PASSWORD.replace(' ', "+");
        let body = format!("form_token={token}&return_to=%2Fpage&way=local&user=user{n}&password={password}");
        format!(
            "POST /_vestibule/login HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
             X-Forwarded-For: 10.{n}.0.1\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

fn growth(gateway: &Gateway, served: &[u8]) {
    let ask = |_| served.to_vec();
    hurry(gateway.port, &ask, 200, MILLION / 10, CONNECTIONS);
    let before = gateway.resident_bytes();
    let mut most = Vec::new();
    for _ in 0..10 {
        hurry(gateway.port, &ask, 200, MILLION / 10, CONNECTIONS);
        most.push(gateway.resident_bytes() - before);
    }
    most.sort_by(f64::total_cmp);
    println!(
        "growth/resident size over a million requests: {:+.2} MB in the middle, {:+.2} MB at most",
        median(&most) / 1e6,
        most[9] / 1e6
    );
}
