//! The door on pingora: reads head and body of an exchange, bounded, and hands them to the walk.

use super::Reply;
use super::answer::{Answer, problem, unavailable};
use super::door::{Call, Door, Head};
use crate::net::connection::Link;
use crate::store::journal::Unavailable;
use async_trait::async_trait;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Version};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession as Exchange;
use std::sync::Arc;
use std::time::Duration;

/// How long a body may take in all.
const BODY_TIME: Duration = Duration::from_secs(5);
/// How long an answer waits for the store; visitors wait as long.
const COMMIT_TIME: Duration = Duration::from_secs(5);

#[async_trait]
impl ServeHttp for Door {
    async fn response(&self, exchange: &mut Exchange) -> Answer {
        if let Some(link) = Link::of(exchange.digest()).cloned()
            && link.take(exchange.req_header_mut()).is_err()
        {
            exchange.set_keepalive(None);
            return problem(StatusCode::BAD_REQUEST, "the request's target is malformed");
        }
        let is_head = exchange.req_header().method == Method::HEAD;
        let mut answer = self.answer(exchange).await;
        if is_head {
            answer.body_mut().clear();
        }
        answer
    }
}

impl Door {
    async fn answer(&self, exchange: &mut Exchange) -> Answer {
        let client =
            exchange.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
        // The head is read while the body is read from the same exchange; it is small, and this is no hot path.
        let request = exchange.req_header().as_owned_parts();
        let field = |name: HeaderName| request.headers.get(name).map(http::HeaderValue::as_bytes);
        let head = Head {
            method: &request.method,
            path: request.uri.path(),
            query: request.uri.query().unwrap_or(""),
            host: field(HOST).or(request.uri.authority().map(|authority| authority.as_str().as_bytes())),
            authorization: field(AUTHORIZATION),
            sec_fetch_site: field(HeaderName::from_static("sec-fetch-site")),
            origin: field(ORIGIN),
            client,
        };
        let call = match self.enter(&head) {
            Ok(call) => call,
            Err(answer) => {
                // Its body stays unread, and so the connection cannot carry another request.
                exchange.set_keepalive(None);
                return *answer;
            }
        };
        if call == Call::Reload {
            let control = Arc::clone(&self.control);
            let reloaded = tokio::task::spawn_blocking(move || control.reload()).await;
            return super::api::reloaded(reloaded.unwrap_or_else(|_| {
                Err("the reload broke off; the configuration in force stays, the log says more".to_owned())
            }));
        }
        match read_body(exchange, &request.headers, call.body_bytes_max()).await {
            Ok(body) => {
                let Reply { answer, commit, further, opened } =
                    self.act(call, &head, &body, self.clock.now());
                let all = async {
                    for commit in further {
                        commit.done().await?;
                    }
                    commit.done().await
                };
                let kept = tokio::time::timeout(COMMIT_TIME, all).await;
                match (kept.unwrap_or(Err(Unavailable)), opened) {
                    (Ok(()), _) => answer,
                    (Err(cause), Some(session)) => {
                        self.control.withdraw(&session);
                        unavailable(&format!("{cause}; no session was opened"))
                    }
                    (Err(cause), None) => {
                        unavailable(&format!("{cause}; what was to end has ended, and is written down later"))
                    }
                }
            }
            Err(status) => {
                exchange.set_keepalive(None);
                let detail = format!(
                    "the body is longer than {} bytes, or was not sent in time",
                    call.body_bytes_max()
                );
                problem(status, &detail)
            }
        }
    }
}

/// Reads a body whole; one that is too long, too slow or broken is none.
async fn read_body(
    exchange: &mut Exchange,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<Vec<u8>, StatusCode> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    // An HTTP/1.0 client knows no interim answer (RFC 9110 §10.1.1).
    if exchange.req_header().version != Version::HTTP_10 && headers.contains_key(EXPECT) {
        exchange.write_continue_response().await.map_err(|_| StatusCode::BAD_REQUEST)?;
    }
    let read = async {
        let mut body = Vec::new();
        while let Some(part) = exchange.read_request_body().await.map_err(|_| StatusCode::BAD_REQUEST)? {
            if body.len() + part.len() > bytes_max {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    };
    tokio::time::timeout(BODY_TIME, read).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Behind, TOKEN, door};
    use super::*;
    use pingora::apps::ServerApp;
    use pingora::protocols::l4::stream::Stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A connection to a door of its own.
    async fn connect() -> TcpStream {
        let behind = Arc::new(Behind::new());
        behind.open(1, "alice", "local");
        connect_to(behind).await
    }

    async fn connect_to(behind: Arc<Behind>) -> TcpStream {
        let door = Arc::new(door(behind));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("the client comes");
            let (_stop, shutdown) = tokio::sync::watch::channel(false);
            let mut next: Option<pingora::protocols::Stream> = Some(Box::new(Stream::from(stream)));
            while let Some(stream) = next {
                next = door.process_new(stream, &shutdown).await;
            }
        });
        TcpStream::connect(address).await.expect("it listens")
    }

    /// Sends bytes to a door and reads until it closes.
    async fn converse(request: &[u8]) -> String {
        let mut client = connect().await;
        client.write_all(request).await.expect("it reads");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("it answers");
        String::from_utf8(answer).expect("answers are UTF-8")
    }

    /// Reads one answer of a connection that stays open.
    async fn read_one(client: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        loop {
            answer.push(client.read_u8().await.expect("it answers"));
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase().split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.lines().next().expect("a line has text").parse().expect("a length is a number")
            });
            if body.len() == length {
                return text.into_owned();
            }
        }
    }

    fn request(line: &str, more: &str, body: &str) -> Vec<u8> {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {TOKEN}\r\n{more}\r\n{body}")
            .into_bytes()
    }

    const CLOSE: &str = "Connection: close\r\n";

    #[tokio::test]
    async fn a_list_arrives_whole() {
        let answer = converse(&request("GET /sessions?subject=alice", CLOSE, "")).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("there is a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(body.contains(r#""subject":"alice""#), "{body}");
    }

    #[tokio::test]
    async fn a_connection_carries_several_requests() {
        let mut client = connect().await;
        let end = "DELETE /sessions/AQEBAQEBAQEBAQEBAQEBAQ";
        for (asked, status) in [("GET /healthz", "200"), (end, "204"), (end, "404"), ("GET /readyz", "200")] {
            client.write_all(&request(asked, "", "")).await.expect("it reads");
            let answer = read_one(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{asked}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_write_is_said_and_nothing_is_pretended() {
        let behind = Arc::new(Behind::stuck());
        for number in 1..=3 {
            behind.open(number, "alice", "local");
        }
        let mut client = connect_to(Arc::clone(&behind)).await;
        let body = r#"{"subject":"bob"}"#;
        let length = format!("Content-Length: {}\r\n", body.len());
        for (asked, more, body, live) in [
            ("DELETE /sessions/AQEBAQEBAQEBAQEBAQEBAQ", "", "", 2),
            ("POST /sessions", length.as_str(), body, 2),
            ("DELETE /sessions?subject=alice", "", "", 0),
        ] {
            client.write_all(&request(asked, more, body)).await.expect("it reads");
            let answer = read_one(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{asked}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: 5\r\n"), "{asked}: {answer}");
            assert!(!answer.contains("the-token"), "{asked}: {answer}");
            assert_eq!(behind.table.live(), live, "{asked}");
        }
        client.write_all(&request("GET /sessions", "", "")).await.expect("it reads");
        assert!(read_one(&mut client).await.starts_with("HTTP/1.1 200 "), "what is only read goes on");
    }

    #[tokio::test]
    async fn head_is_get_without_the_body() {
        let answer = converse(&request("HEAD /healthz", CLOSE, "")).await;
        assert!(answer.to_ascii_lowercase().contains("content-length: 6\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_session_is_opened_by_a_body_of_either_framing() {
        let body = r#"{"subject":"bob"}"#;
        let length = format!("{CLOSE}Content-Length: {}\r\n", body.len());
        let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        for answer in [
            converse(&request("POST /sessions", &length, body)).await,
            converse(&request("POST /sessions", &format!("{CLOSE}Transfer-Encoding: chunked\r\n"), &chunked))
                .await,
        ] {
            assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_however_it_is_announced() {
        let big = "x".repeat(64 * 1024 + 1);
        let chunked = format!("{:x}\r\n{big}\r\n0\r\n\r\n", big.len());
        for answer in [
            converse(&request("POST /sessions", "Content-Length: 65537\r\n", "")).await,
            converse(&request("POST /sessions", "Transfer-Encoding: chunked\r\n", &chunked)).await,
            converse(&request("GET /sessions", "Content-Length: 1\r\n", "x")).await,
        ] {
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_stranger_is_answered_before_the_body_is_read() {
        let head = "POST /sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n";
        let answer = converse(head.as_bytes()).await; // the body never comes
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
    }

    #[tokio::test]
    async fn a_reload_answers() {
        let answer = converse(&request("POST /reload", &format!("{CLOSE}Content-Length: 0\r\n"), "")).await;
        assert!(answer.ends_with(r#"{"message":"in force"}"#), "{answer}");
    }

    /// The real bridge: pingora speaks through `log`, and quotes the head that it could not parse.
    #[tokio::test]
    async fn what_pingora_says_of_a_broken_head_holds_none_of_it() {
        use crate::telemetry::{Format, LogSettings, Logs, LogsSettings, Metrics, Sink, events};
        let path = std::env::temp_dir().join(format!("vestibule-broken-head-{}", std::process::id()));
        let off = LogSettings { format: None, to: Sink::Off };
        let to_file = LogSettings { format: Some(Format::Json), to: Sink::File(path.clone()) };
        let settings = LogsSettings { access: off.clone(), audit: off, events: to_file };
        let logs =
            Arc::new(Logs::start(&settings, &Metrics::new()).expect("the temporary folder is writable"));
        // Once a process: no other test installs.
        events::install(&logs, Arc::new(super::super::fake::Stopped)).expect("nothing is installed yet");
        converse(b"GET /?code=s3cr3t HTTP/1.1\r\nHost: a\r\nCookie: id=s3cr3t\r\nno colon\r\n\r\n").await;
        assert!(logs.flush(Duration::from_secs(10)));
        let text = std::fs::read_to_string(&path).expect("the log is there");
        std::fs::remove_file(path).expect("the log is ours");
        assert!(text.contains("pingora_core"), "pingora did speak: {text}");
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}
