//! One line per exchange.
//!
//! It never holds a query string, a cookie, a token or a claim other than the subject and the one for which a token was refused; a session is named by its
//! public id.

use super::Format;
use super::line::Line;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use std::net::IpAddr;
use std::time::Duration;

/// What an exchange came to. Borrowed throughout: nothing is built for a log that is off.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the exchange began.
    pub at: Timestamp,
    /// The `X-Request-Id` of ours.
    pub request_id: &'a str,
    /// The client, as trusted proxies name it; absent on a Unix socket.
    pub client: Option<IpAddr>,
    /// The listener's address.
    pub listener: &'a str,
    /// As sent; for a head that was refused what could be read of it.
    pub method: &'a str,
    /// Canonical host; absent when there was none to read.
    pub host: Option<&'a str>,
    /// Canonical path, never with the query.
    pub path: &'a str,
    /// `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// `1.2` or `1.3`; absent without TLS of ours.
    pub tls: Option<&'static str>,
    /// Absent when the exchange was dropped before an answer.
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The subject in header form.
    pub subject: Option<&'a str>,
    /// The session's public id.
    pub session: Option<SessionId>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// What was decided: `admit`, `sign_in`, …
    pub decision: &'static str,
    /// Why, for everything but a plain admission.
    pub reason: Option<&'static str>,
    /// Of a token that was refused, the value that was wrong.
    pub detail: Option<&'a str>,
    /// The server that answered.
    pub upstream: Option<&'a str>,
    /// From choosing the server to the end of its answer's head.
    pub upstream_time: Option<Duration>,
    /// The whole exchange.
    pub total_time: Duration,
    /// As sent.
    pub user_agent: Option<&'a [u8]>,
}

impl AccessLine<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>, format: Format) {
        let mut line = Line::start(out, format, self.at);
        if line.is_human() {
            self.write_lead(&mut line);
        } else {
            self.write_request(&mut line);
        }
        line.maybe("subject", self.subject, 256);
        line.plain("session", self.session.as_ref().map(|id| id as _));
        line.maybe("route", self.route, 128);
        line.text("decision", self.decision, 32);
        line.maybe("reason", self.reason, 64);
        line.maybe("detail", self.detail, 128);
        line.maybe("upstream", self.upstream, 128);
        if let Some(span) = self.upstream_time {
            line.millis("upstream_ms", span);
        }
        line.millis("total_ms", self.total_time);
        line.number("bytes_in", self.bytes_in);
        line.number("bytes_out", self.bytes_out);
        line.text("listener", self.listener, 128);
        line.text("request_id", self.request_id, 64);
        if let Some(user_agent) = self.user_agent {
            line.bytes("user_agent", user_agent, 256);
        }
        line.end();
    }

    /// `200 GET wiki.example.com/page client=192.0.2.1`: what an eye looks for first.
    fn write_lead(&self, line: &mut Line<'_>) {
        match self.status {
            Some(status) => line.word(&status.to_string(), 3),
            None => line.word("---", 3),
        }
        line.word(self.method, 16);
        let mut page = String::with_capacity(64);
        page.push_str(self.host.unwrap_or("-"));
        page.push_str(self.path);
        line.word(&page, 1024);
        line.plain("client", self.client.as_ref().map(|ip| ip as _));
    }

    fn write_request(&self, line: &mut Line<'_>) {
        line.plain("client", self.client.as_ref().map(|ip| ip as _));
        line.text("method", self.method, 16);
        line.maybe("host", self.host, 255);
        line.text("path", self.path, 1024);
        line.text("version", self.version, 8);
        line.maybe("tls", self.tls, 8);
        if let Some(status) = self.status {
            line.number("status", u64::from(status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> AccessLine<'static> {
        AccessLine {
            at: Timestamp::from_secs(1_795_334_400),
            request_id: "0123456789abcdef0123456789abcdef",
            client: Some(IpAddr::from([192, 0, 2, 1])),
            listener: "0.0.0.0:8443",
            method: "GET",
            host: Some("wiki.example.com"),
            path: "/page",
            version: "1.1",
            tls: Some("1.3"),
            status: Some(200),
            bytes_in: 0,
            bytes_out: 512,
            subject: Some("alice"),
            session: None,
            route: Some("wiki"),
            decision: "admit",
            reason: None,
            detail: None,
            upstream: Some("10.0.0.5:3000"),
            upstream_time: Some(Duration::from_micros(1_234)),
            total_time: Duration::from_micros(2_005),
            user_agent: Some(b"curl/8\n"),
        }
    }

    fn written(line: &AccessLine<'_>, format: Format) -> String {
        let mut out = Vec::new();
        line.write(&mut out, format);
        String::from_utf8(out).expect("a line is UTF-8")
    }

    #[test]
    fn an_exchange_is_one_json_object() {
        let parsed: serde_json::Value =
            serde_json::from_str(&written(&line(), Format::Json)).expect("the line is JSON");
        assert_eq!(
            parsed,
            serde_json::json!({
                "at": "2026-11-22T08:00:00.000Z", "client": "192.0.2.1", "method": "GET",
                "host": "wiki.example.com", "path": "/page", "version": "1.1", "tls": "1.3", "status": 200,
                "subject": "alice", "route": "wiki", "decision": "admit", "upstream": "10.0.0.5:3000",
                "upstream_ms": 1.234, "total_ms": 2.005, "bytes_in": 0, "bytes_out": 512,
                "listener": "0.0.0.0:8443", "request_id": "0123456789abcdef0123456789abcdef",
                "user_agent": "curl/8\n",
            })
        );
    }

    #[test]
    fn people_see_the_answer_first() {
        let seen = written(&line(), Format::Human);
        assert_eq!(
            seen,
            "2026-11-22T08:00:00.000Z 200 GET wiki.example.com/page client=192.0.2.1 subject=alice route=wiki \
             decision=admit upstream=10.0.0.5:3000 upstream_ms=1.234 total_ms=2.005 bytes_in=0 bytes_out=512 \
             listener=0.0.0.0:8443 request_id=0123456789abcdef0123456789abcdef user_agent=curl/8\\u000a\n"
        );
        let dropped = AccessLine { status: None, host: None, path: "", method: "G ET", ..line() };
        assert!(written(&dropped, Format::Human).starts_with("2026-11-22T08:00:00.000Z --- G ET - client="));
    }
}
