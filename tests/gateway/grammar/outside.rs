//! The same conversations through the built gateway, and what its upstream gets.

use super::is_same;
use super::reference::{End, Request};
use crate::support::{Answer, Gateway, HOST, Message, Setup, Upstream};

/// A gateway before an upstream that records.
pub(crate) struct Outside {
    upstream: Upstream,
    gateway: Gateway,
}

/// What came out at both ends.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Message>,
    pub(crate) statuses: Vec<u16>,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let upstream = Upstream::answering(|_| Answer::new("200 OK", &[], "fine"));
        let gateway = Setup::before(&upstream)
            .routes(&["{ name: all, path: /, access: public, upstream: app }"])
            .listener("external: { scheme: https, port: 443 }, timeouts: { head: 5s, body: 5s }")
            .set("external_url", "https://wiki.example.com")
            .start();
        Self { upstream, gateway }
    }

    /// Sends the bytes over a connection of their own, with a last request behind them where they come to an end.
    pub(crate) fn send(&self, bytes: &[u8], requests: usize, end: End) -> Seen {
        let mut wire = self.gateway.connect();
        // What is refused half-way is not read to its end.
        drop(wire.try_write(bytes));
        let mut statuses = Vec::new();
        if end == End::Incomplete {
            // The client leaves once it has its answers.
            while statuses.len() < requests
                && let Ok(Some(answer)) = wire.try_response_to("GET")
            {
                statuses.push(answer.status());
            }
            drop(wire.try_finish_writing());
        } else {
            let last = format!("GET {LAST} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
            drop(wire.try_write(last));
        }
        while let Ok(Some(answer)) = wire.try_response_to("GET") {
            statuses.push(answer.status());
        }
        // What broke off is told late, maybe during another conversation; nobody could take it for a request.
        let mut requests = self.upstream.take_requests();
        requests.retain(|request| request.is_whole);
        Seen { requests, statuses }
    }
}

const LAST: &str = "/public/last";

/// Whether the upstream got what the reference has read, as far as the gateway wanted it to get it.
pub(crate) fn agrees(expected: &[Request], end: End, seen: &Seen, is_valid: bool) -> Result<(), String> {
    let mut left = expected.iter();
    for request in &seen.requests {
        let (method, target) = (request.method(), request.target());
        if target == LAST && end == End::Clean {
            continue;
        }
        // Requests that the gateway answers itself never arrive; none arrives twice, out of order, or changed.
        if !left.any(|expected| {
            is_same(expected, &method, &target, &request.body) || is_rewritten(expected, request)
        }) {
            return Err(format!("{method} {target} was never sent"));
        }
    }
    let answers = seen.statuses.len();
    if answers > expected.len() + 1 {
        return Err(format!("{answers} answers to {} requests", expected.len()));
    }
    let has_10 = expected.iter().any(|request| request.is_10);
    if is_valid
        && !has_10
        && seen.requests.iter().filter(|request| request.target() != LAST).count() != expected.len()
    {
        return Err("a valid request did not arrive".to_owned());
    }
    Ok(())
}

/// The gateway writes a path in its normal form; everything else is as it was.
fn is_rewritten(expected: &Request, request: &Message) -> bool {
    let changes =
        |byte: &u8| matches!(byte, b'%' | b'"' | b':' | b'{' | b'}' | b'|' | b'^' | b'[' | b']' | b'\\');
    expected.target.iter().any(changes)
        && expected.method == request.method().as_bytes()
        && expected.body == request.body
}
