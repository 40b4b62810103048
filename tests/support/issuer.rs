//! Issuers of tokens: servers that publish keys and say what they know of a token, in plain text or over TLS.

use super::async_upstream::server_config;
use super::authority::{Authority, Signed};
use super::message::{Message, read_body, read_head, request_body};
use super::wait;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What an issuer does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, fields and a body.
    Says(&'static str, Vec<(String, String)>, String),
    /// Nothing, as long as the test lasts.
    Silence,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Says("200 OK", Vec::new(), value.to_string())
    }

    pub(crate) fn status(status: &'static str) -> Self {
        Self::Says(status, Vec::new(), "{}".to_owned())
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Says(status, mut fields, body) => {
                fields.push((name.to_owned(), value.to_owned()));
                Self::Says(status, fields, body)
            }
            Self::Silence => Self::Silence,
        }
    }
}

type Behaviour = dyn Fn(&Message) -> Option<Reply> + Send + Sync;

/// Shared by an issuer's connections.
struct State {
    /// Answers by path.
    pages: Mutex<BTreeMap<String, Reply>>,
    /// Answers that are made when they are asked for; they come first.
    behaviour: Option<Box<Behaviour>>,
    requests: Mutex<Vec<Message>>,
    /// Requests under way, and the most there ever were.
    under_way: Mutex<(usize, usize)>,
    tls: Option<Arc<ServerConfig>>,
}

/// The server; its threads end with the test's process.
pub(crate) struct Issuer {
    address: SocketAddr,
    state: Arc<State>,
    /// What is silent is so until this is gone.
    _quiet: Sender<()>,
}

impl Issuer {
    /// Knows nothing yet.
    pub(crate) fn new() -> Self {
        Self::start(None, None)
    }

    /// Answers as `behaviour` says, where it says something.
    pub(crate) fn answering(behaviour: impl Fn(&Message) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::start(Some(Box::new(behaviour)), None)
    }

    /// Over TLS, with this certificate; asks clients for one of `clients`.
    pub(crate) fn with_tls(
        signed: &Signed,
        clients: Option<&Authority>,
        behaviour: impl Fn(&Message) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(Box::new(behaviour)), Some(Arc::new(server_config(signed, clients, &[]))))
    }

    fn start(behaviour: Option<Box<Behaviour>>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            pages: Mutex::default(),
            behaviour,
            requests: Mutex::default(),
            under_way: Mutex::default(),
            tls,
        });
        let (quiet, over) = channel();
        let over = Arc::new(Mutex::new(over));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, over) = (shared.clone(), over.clone());
                std::thread::spawn(move || serve(stream, &state, &over));
            }
        });
        Self { address, state, _quiet: quiet }
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port` and this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on this lies at `path`.
    pub(crate) fn says(&self, path: &str, reply: Reply) {
        self.state.pages.lock().expect("no panic under the lock").insert(path.to_owned(), reply);
    }

    /// From now on these keys lie at `/jwks`.
    pub(crate) fn publishes(&self, keys: &[Value]) {
        self.says("/jwks", Reply::json(&json!({ "keys": keys })));
    }

    /// Everything that was asked.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.state.requests.lock().expect("no panic under the lock").clone()
    }

    /// How often something was asked at `path`.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.target() == path).count()
    }

    /// Waits until something was asked at `path` so many times.
    pub(crate) fn wait_for(&self, path: &str, count: usize) {
        wait::until(&format!("`{path}` was asked for {count} times"), || {
            (self.asked(path) >= count).then_some(())
        });
    }

    /// The most requests that were under way at once.
    pub(crate) fn most_under_way(&self) -> usize {
        self.state.under_way.lock().expect("no panic under the lock").1
    }
}

impl State {
    fn reply(&self, request: &Message) -> Reply {
        let made = self.behaviour.as_ref().and_then(|behaviour| behaviour(request));
        let page = || self.pages.lock().expect("no panic under the lock").get(&request.target()).cloned();
        made.or_else(page).unwrap_or(Reply::status("404 Not Found"))
    }

    fn begin(&self) {
        let (now, most) = &mut *self.under_way.lock().expect("no panic under the lock");
        *now += 1;
        *most = (*most).max(*now);
    }

    fn end(&self) {
        self.under_way.lock().expect("no panic under the lock").0 -= 1;
    }
}

fn serve(stream: TcpStream, state: &State, over: &Mutex<Receiver<()>>) {
    stream.set_nodelay(true).expect("a socket takes it");
    match &state.tls {
        None => talk(stream, state, over),
        Some(config) => {
            let connection = ServerConnection::new(config.clone()).expect("a good configuration");
            talk(StreamOwned::new(connection, stream), state, over);
        }
    }
}

fn talk(mut stream: impl Read + Write, state: &State, over: &Mutex<Receiver<()>>) {
    let mut ahead = Vec::new();
    // Whoever is not believed is left in the middle of it.
    while let Ok(Some(head)) = read_head(&mut stream, &mut ahead) {
        let mut request = Message { head, ..Message::default() };
        let body = request_body(&request);
        if read_body(&mut stream, &mut ahead, &mut request, body).is_err() {
            return;
        }
        state.requests.lock().expect("no panic under the lock").push(request.clone());
        state.begin();
        let reply = state.reply(&request);
        state.end();
        let Reply::Says(status, fields, body) = reply else {
            // Held open, without a word, until the test is over.
            drop(over.lock().map(|over| over.recv()));
            return;
        };
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
        let body = if status.starts_with("304") { String::new() } else { body };
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}
