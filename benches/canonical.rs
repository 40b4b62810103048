//! What every request pays before anybody looks at it: the check of its raw head, target and host in normal form.

#[path = "support/thread_time.rs"]
mod thread_time;

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use thread_time::ThreadTime;
use vestibule::domain::head;
use vestibule::domain::target::{Host, Target};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Twelve fields as Firefox sends them over HTTP/1.1; four cookies, one of them a session's.
const FIREFOX: &[u8] = b"GET /wiki/Main_Page/History?limit=50&sort=desc HTTP/1.1\r\n\
    Host: wiki.example.com:8443\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://wiki.example.com:8443/wiki/Main_Page\r\n\
    Connection: keep-alive\r\n\
    Cookie: _ga=GA1.1.1823312412.1763800000; theme=dark; \
    __Host-session=AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKA; \
    wiki_last=Main_Page%2FHistory\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\r\n";

const AS_SENT: &[u8] = b"/wiki/Main_Page/History?limit=50&sort=desc";
/// Three characters are escaped in vain, and one with lower-case digits.
const TO_NORMALISE: &[u8] = b"/wiki/%4dain%5FPage/Histor%79%c3%a9?limit=50&sort=desc";

fn raw_head(c: &mut Criterion<ThreadTime>) {
    assert!(head::check(FIREFOX).is_ok(), "a browser's head is fine");
    assert_eq!(FIREFOX.split(|&byte| byte == b'\n').count(), 1 + 12 + 2, "twelve fields");
    c.bench_function("head/find_end/firefox", |b| b.iter(|| head::find_end(black_box(FIREFOX), 0)));
    c.bench_function("head/check/firefox", |b| b.iter(|| head::check(black_box(FIREFOX))));
}

fn target(c: &mut Criterion<ThreadTime>) {
    for (raw, name, is_as_sent) in [(AS_SENT, "as sent", true), (TO_NORMALISE, "to normalise", false)] {
        assert_eq!(Target::parse(raw).expect("a good target").is_as_sent(), is_as_sent, "{name}");
        c.bench_function(&format!("target/parse/{name}"), |b| b.iter(|| Target::parse(black_box(raw))));
    }
}

fn host(c: &mut Criterion<ThreadTime>) {
    let forms: [(&[u8], _); 2] =
        [(b"wiki.example.com:8443", "as sent"), (b"Wiki.Example.COM.:8443", "to normalise")];
    for (raw, name) in forms {
        assert_eq!(Host::parse(raw).expect("a good host").name(), "wiki.example.com", "{name}");
        c.bench_function(&format!("host/parse/{name}"), |b| b.iter(|| Host::parse(black_box(raw))));
    }
}

/// All of it, for a request that needs nothing changed.
fn request(c: &mut Criterion<ThreadTime>) {
    let whole = || {
        let head = black_box(FIREFOX);
        let end = head::find_end(head, 0);
        let framing = head::check(head);
        (end, framing, Target::parse(black_box(AS_SENT)), Host::parse(black_box(b"wiki.example.com:8443")))
    };
    c.bench_function("canonical/firefox", |b| b.iter(whole));
}

criterion_group! {
    name = benches;
    config = thread_time::criterion();
    targets = raw_head, target, host, request
}
criterion_main!(benches);
