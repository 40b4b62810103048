//! The other side of the door: the calls of the command line.
//!
//! HTTP/1.1 by hand, one request a connection: the commands talk to our own door alone, which always answers
//! with a Content-Length, over TCP or a Unix socket, without TLS. A client crate that speaks all of that would be the
//! largest dependency of the tree for these hundred lines. Everything read is bounded, every wait too.

use crate::domain::secret::Secret;
use crate::net::Address;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long to wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long to wait for each part of the answer; a reload is the slowest call.
const READ_TIME: Duration = Duration::from_secs(30);
/// The longest answer: a page of five hundred sessions is a tenth of it.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens, or something broke on the way.
    #[error("`{address}` cannot be reached: {cause}; is the gateway running, and is this its admin address?")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        cause: io::Error,
    },
    /// Something else than our door answered.
    #[error("`{address}` does not answer like an admin address; check `admin.address`")]
    Strange {
        /// Where.
        address: String,
    },
    /// A token holds what no header can.
    #[error("the admin token holds a control character; write it as one line of visible characters")]
    Token,
}

/// What the door said.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body, whole.
    pub body: Vec<u8>,
}

/// Calls one admin address.
#[derive(Debug)]
pub struct Client {
    address: Address,
    token: Option<Secret<String>>,
}

impl Client {
    /// Nothing is connected yet.
    pub fn new(address: Address, token: Option<Secret<String>>) -> Self {
        Self { address, token }
    }

    /// Sends one request without a body. `target` is a path with its query, already encoded.
    pub fn call(&self, method: &str, target: &str) -> Result<Reply, CallError> {
        self.send(method, target, "")
    }

    /// Posts JSON.
    pub fn post(&self, target: &str, json: &str) -> Result<Reply, CallError> {
        self.send("POST", target, json)
    }

    fn send(&self, method: &str, target: &str, body: &str) -> Result<Reply, CallError> {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host());
        if let Some(token) = &self.token {
            if token.expose().bytes().any(|byte| byte.is_ascii_control()) {
                return Err(CallError::Token);
            }
            request.extend(["Authorization: Bearer ", token.expose(), "\r\n"]);
        }
        if method != "GET" {
            // Without a body too: then this says that there is none.
            request.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        if !body.is_empty() {
            request.push_str("Content-Type: application/json\r\n");
        }
        request.extend(["\r\n", body]);
        let request = Secret::new(request);
        let answer = self.exchange(request.expose().as_bytes());
        let answer = answer.map_err(|cause| CallError::Unreachable { address: self.name(), cause })?;
        parse(&answer).ok_or_else(|| CallError::Strange { address: self.name() })
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT_TIME)?;
                stream.set_read_timeout(Some(READ_TIME))?;
                stream.set_write_timeout(Some(READ_TIME))?;
                send(stream, request)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(READ_TIME))?;
                stream.set_write_timeout(Some(READ_TIME))?;
                send(stream, request)
            }
        }
    }

    fn host(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    fn name(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

fn send(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Takes an answer apart; one that is cut short, too long or framed otherwise is none.
fn parse(answer: &[u8]) -> Option<Reply> {
    let head_len = answer.windows(4).take(HEAD_BYTES_MAX).position(|end| end == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..head_len]).ok()?;
    let body = &answer[head_len + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse::<usize>().ok())?;
    (body.len() == length).then(|| Reply { status, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Answers one connection with `answer`; gives back what was asked.
    fn serve(answer: &'static [u8]) -> (Address, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("the client sends a head");
                asked.push(byte[0]);
            }
            stream.write_all(answer).expect("the client reads");
            String::from_utf8(asked).expect("a head is ASCII")
        });
        (Address::Tcp(address), served)
    }

    #[test]
    fn a_call_is_one_plain_request() {
        let (address, served) = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        let client = Client::new(address.clone(), Some(Secret::new("s3cret".to_owned())));
        let reply = client.call("GET", "/sessions?subject=alice").expect("the door answers");
        assert_eq!(reply, Reply { status: 200, body: b"{}".to_vec() });
        let Address::Tcp(address) = address else { unreachable!("it was bound as TCP") };
        assert_eq!(
            served.join().expect("it served"),
            format!(
                "GET /sessions?subject=alice HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
                 Authorization: Bearer s3cret\r\n\r\n"
            )
        );
    }

    #[test]
    fn an_answer_that_is_not_whole_is_none() {
        for (answer, expected) in [
            (&b"HTTP/1.1 204 No Content\r\n\r\n"[..], Some((204, &b""[..]))),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc", Some((404, b"abc"))),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", None),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", None),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"SSH-2.0-OpenSSH\r\n\r\n", None),
            (b"", None),
        ] {
            let parsed = parse(answer);
            let parsed = parsed.as_ref().map(|reply| (reply.status, &reply.body[..]));
            assert_eq!(parsed, expected, "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn nobody_there_is_said_with_the_address() {
        let free =
            TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it is bound");
        let error = Client::new(Address::Tcp(free), None).call("GET", "/").expect_err("nobody listens");
        assert!(error.to_string().starts_with(&format!("`{free}` cannot be reached")), "{error}");
    }

    #[test]
    fn a_token_cannot_bring_a_field_of_its_own() {
        let (address, _) = serve(b"");
        let client = Client::new(address, Some(Secret::new("a\r\nX-Evil: 1".to_owned())));
        assert!(matches!(client.call("GET", "/"), Err(CallError::Token)));
    }
}
