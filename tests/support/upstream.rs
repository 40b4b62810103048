//! An application server that records every request byte for byte and answers what the test says.

use super::message::{Body, Message, read_body, read_head, request_body};
use super::wait;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest pause while a request arrives.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// What the upstream does with a request.
pub(crate) enum Answer {
    /// Writes these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes.
    ThenClose(Vec<u8>),
    /// Does as it likes, then closes. The request's body is still to be read.
    Talk(Box<dyn FnOnce(&mut Talk) + Send>),
}

impl Answer {
    /// A whole answer with a length.
    pub(crate) fn new(status: &str, fields: &[(&str, &str)], body: &str) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
        Self::Bytes(format!("{head}\r\n{body}").into_bytes())
    }

    /// 200 with these fields.
    pub(crate) fn ok(fields: &[(&str, &str)]) -> Self {
        Self::new("200 OK", fields, "hello from the application")
    }

    /// Says nothing until the gate is opened or dropped; then these bytes.
    pub(crate) fn held(bytes: &'static [u8]) -> (Self, Gate) {
        let (open, opened) = channel();
        let answer = Self::talk(move |stream| {
            wait_for_gate(&opened);
            // The gateway may be gone by then.
            drop(stream.write_all(bytes));
        });
        (answer, Gate(open))
    }

    /// As the closure does.
    pub(crate) fn talk(talk: impl FnOnce(&mut Talk) + Send + 'static) -> Self {
        Self::Talk(Box::new(talk))
    }
}

/// The connection of a request whose head has been read.
pub(crate) struct Talk {
    stream: TcpStream,
    /// Came along with the head.
    ahead: Vec<u8>,
}

impl Read for Talk {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            return self.stream.read(into);
        }
        let count = into.len().min(self.ahead.len());
        into[..count].copy_from_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        Ok(count)
    }
}

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What an answer waits for.
pub(crate) struct Gate(Sender<()>);

impl Gate {
    pub(crate) fn open(self) {
        self.0.send(()).expect("the upstream waits for its gate");
    }
}

/// Returns when the gate is opened, or dropped, or has been forgotten for long.
pub(crate) fn wait_for_gate(opened: &Receiver<()>) {
    let _ = opened.recv_timeout(wait::PATIENCE);
}

type Behaviour = Box<dyn Fn(&Message) -> Answer + Send + Sync>;

/// Everything that connections of the upstream share.
pub(crate) struct State {
    requests: Mutex<Vec<Message>>,
    /// How many were taken out; only looked at under the lock of the others.
    taken: Mutex<usize>,
    next: Mutex<VecDeque<Answer>>,
    usual: Behaviour,
    connections: Mutex<usize>,
}

/// The server; its threads end with the test's process.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
}

impl Upstream {
    /// Answers everything with 200 and a small body; a WebSocket handshake with 101, and then echoes.
    pub(crate) fn recording() -> Self {
        Self::answering(|request| {
            let is_websocket =
                request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
            if is_websocket { Answer::talk(echo) } else { Answer::ok(&[("Content-Type", "text/plain")]) }
        })
    }

    /// Answers what each request asks for: `Say-Status: 404 Not Found` is the status, and every other `Say-NAME: value` comes back
    /// as the field `NAME`. The body is the session data that came along, or `none`.
    pub(crate) fn prompted() -> Self {
        Self::answering(|request| {
            if request.header("upgrade").is_some() {
                return Answer::talk(echo_saying(said(request)));
            }
            let status = request.header("say-status").unwrap_or_else(|| "200 OK".to_owned());
            let data = request.header("x-session-data").unwrap_or_else(|| "none".to_owned());
            let bodiless =
                request.method() == "HEAD" || status.starts_with("304") || status.starts_with("204");
            let mut head = format!("HTTP/1.1 {status}\r\n{}", said(request));
            if !bodiless {
                write!(head, "Content-Length: {}\r\n", data.len()).expect("a string takes all");
            }
            Answer::Bytes(format!("{head}\r\n{}", if bodiless { "" } else { &data }).into_bytes())
        })
    }

    /// Answers as `usual` says.
    pub(crate) fn answering(usual: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        Self::answering_at(SocketAddr::from(([127, 0, 0, 1], 0)), usual)
    }

    /// The same at an address where nobody listened before.
    pub(crate) fn answering_at(
        address: SocketAddr,
        usual: impl Fn(&Message) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            requests: Mutex::default(),
            taken: Mutex::default(),
            next: Mutex::default(),
            usual: Box::new(usual),
            connections: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                *state.connections.lock().expect("no panic under the lock") += 1;
                // A connection that breaks is the gateway's to handle; what was recorded stays.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    /// An address where nobody listens.
    pub(crate) fn nobody() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("a bound socket has an address")
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Answers the next request so.
    pub(crate) fn next(&self, answer: Answer) {
        self.state.next.lock().expect("no panic under the lock").push_back(answer);
    }

    /// Everything that arrived, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.state.requests()
    }

    /// Everything that has arrived since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Message> {
        let mut requests = self.state.requests.lock().expect("no panic under the lock");
        let taken = std::mem::take(&mut *requests);
        *self.state.taken.lock().expect("no panic under the lock") += taken.len();
        taken
    }

    /// The last request that arrived.
    pub(crate) fn last(&self) -> Message {
        self.requests().pop().expect("a request has reached the upstream")
    }

    /// Waits until so many requests have arrived in all.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Message> {
        wait::until(&format!("{count} requests are at the upstream"), || {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        *self.state.connections.lock().expect("no panic under the lock")
    }
}

impl State {
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.requests.lock().expect("no panic under the lock").clone()
    }

    /// Records the head at once, so that a request counts as arrived although its body is still coming.
    fn arrived(&self, message: &Message) -> usize {
        let mut requests = self.requests.lock().expect("no panic under the lock");
        requests.push(message.clone());
        requests.len() - 1 + *self.taken.lock().expect("no panic under the lock")
    }

    /// The rest of one that has arrived; of no use if it was taken out meanwhile.
    fn complete(&self, number: usize, message: &Message) {
        let mut requests = self.requests.lock().expect("no panic under the lock");
        let taken = *self.taken.lock().expect("no panic under the lock");
        if let Some(request) = number.checked_sub(taken).and_then(|number| requests.get_mut(number)) {
            request.clone_from(message);
        }
    }

    fn answer(&self, message: &Message) -> Answer {
        let next = self.next.lock().expect("no panic under the lock").pop_front();
        next.unwrap_or_else(|| (self.usual)(message))
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let mut ahead = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut ahead)? {
        let mut message = Message { head, ..Message::default() };
        let number = state.arrived(&message);
        let body = request_body(&message);
        let answer = state.answer(&message);
        if let Answer::Talk(talk) = answer {
            talk(&mut Talk { stream, ahead });
            return Ok(());
        }
        if message.header("expect").is_some() && body != Body::None {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let read = read_body(&mut stream, &mut ahead, &mut message, body);
        state.complete(number, &message);
        read?;
        if !message.is_whole {
            return Ok(());
        }
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes)?,
            Answer::ThenClose(bytes) => return stream.write_all(&bytes),
            Answer::Talk(_) => {}
        }
    }
    Ok(())
}

/// The fields that a request asks for, as lines; `REQUEST-ID` stands for its id.
fn said(request: &Message) -> String {
    let id = request.header("x-request-id").unwrap_or_default();
    let asked = request.fields().into_iter().filter_map(|(name, value)| {
        let (say, name) = name.split_at_checked(4)?;
        let is_asked = say.eq_ignore_ascii_case("say-") && !name.eq_ignore_ascii_case("status");
        is_asked.then(|| format!("{name}: {}\r\n", value.replace("REQUEST-ID", &id)))
    });
    asked.collect()
}

/// Accepts the handshake with the key of RFC 6455 §1.3 and sends back every byte.
pub(crate) fn echo(talk: &mut Talk) {
    echo_saying(String::new())(talk);
}

/// The same with these lines in the answer's head.
fn echo_saying(fields: String) -> impl FnOnce(&mut Talk) {
    move |talk| {
        let handshake = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{fields}\r\n"
        );
        send_back(talk, handshake.as_bytes());
    }
}

fn send_back(talk: &mut Talk, handshake: &[u8]) {
    let mut part = [0; 16 * 1024];
    let mut echoed = talk.write_all(handshake);
    // The end of the connection, whoever caused it, is the end of the echo.
    while echoed.is_ok() {
        echoed = match talk.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(read) => talk.write_all(&part[..read]),
        };
    }
}
