//! Clients on keep-alive connections: as fast as answers come, or at a rate of their own, whatever comes back when.

use super::ticks;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection that has asked nothing, or whose answers were all read.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Connects to a port of loopback.
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, read: Vec::with_capacity(8 * 1024) }
    }

    /// Asks, and waits for the answer, which must say its length.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Answer<'_> {
        self.stream.write_all(request).expect("it reads");
        self.read.clear();
        let mut part = [0; 8 * 1024];
        let (head, whole) = loop {
            let read = self.stream.read(&mut part).expect("it answers");
            assert!(read > 0, "it closed after {:?}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&part[..read]);
            if let Some(head) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                let whole = head + 4 + length(&self.read[..head + 2]);
                if self.read.len() >= whole {
                    break (head + 4, whole);
                }
            }
        };
        let status = str::from_utf8(&self.read[9..12]).ok().and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head: &self.read[..head], body: &self.read[head..whole] }
    }
}

/// What `Content-Length` says.
fn length(head: &[u8]) -> usize {
    let head = head.to_ascii_lowercase();
    let name = b"\r\ncontent-length: ";
    let at = memchr::memmem::find(&head, name).expect("the answer has a length") + name.len();
    let end = memchr::memchr(b'\r', &head[at..]).expect("a line ends") + at;
    str::from_utf8(&head[at..end]).ok().and_then(|digits| digits.parse().ok()).expect("a number")
}

/// Sends so many requests over so many connections, each as soon as its connection is free; all must be answered `status`.
pub(crate) fn hurry(
    port: u16,
    request: &(dyn Fn(usize) -> Vec<u8> + Sync),
    status: u16,
    requests: usize,
    connections: usize,
) {
    std::thread::scope(|scope| {
        for first in 0..connections {
            scope.spawn(move || {
                let mut connection = Connection::open(port);
                for n in (first..requests).step_by(connections) {
                    let answer = connection.exchange(&request(n));
                    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(answer.head));
                }
            });
        }
    });
}

/// How long answers took, sorted.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// What all but one of a hundred answers took at most, in microseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.at(99)
    }

    /// What half of the answers took at most, in microseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.at(50)
    }

    fn at(&self, percent: usize) -> f64 {
        self.0[self.0.len() * percent / 100].as_secs_f64() * 1e6
    }
}

/// Sends a request every so often over several connections, which take turns, for `span`; all must be answered `status`. An
/// answer's time counts from the instant at which its request was due, so that what waits behind a slow one counts as slow too.
pub(crate) fn steadily(
    port: u16,
    request: &(dyn Fn(usize) -> Vec<u8> + Sync),
    status: u16,
    per_second: u32,
    span: Duration,
) -> Latencies {
    const CONNECTIONS: u32 = 4;
    let pause = Duration::from_secs(1) / per_second;
    let began = ticks();
    let one = |first: u32| {
        let mut connection = Connection::open(port);
        let mut taken = Vec::new();
        for n in (first..).step_by(CONNECTIONS as usize) {
            let due = pause * n;
            if due >= span {
                return taken;
            }
            let due = began + due;
            while let Some(early) = due.checked_sub(ticks()) {
                std::thread::park_timeout(early);
            }
            assert_eq!(connection.exchange(&request(n as usize)).status, status);
            taken.push(ticks().saturating_sub(due));
        }
        taken
    };
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|first| scope.spawn(move || one(first))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("every request is answered")).collect()
    });
    all.sort();
    Latencies(all)
}
