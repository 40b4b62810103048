//! Load at a fixed rate, and both ends of the WebSocket job.
//!
//! `peers_load serve PORT` echoes WebSocket messages (RFC 6455). `peers_load KIND PORT PATH CONNECTIONS SECONDS RATE STATUS
//! CERTIFICATE [FIELD …]` asks over as many connections, a thread each; KIND is `websocket`, `h1`, `tls-h1` or `tls-h2`. Requests
//! are spread evenly, and a latency is counted from the instant for which a request was planned, so that a late answer
//! delays nobody unnoticed. With a rate of 0 each connection asks again as soon as it was answered. It prints one line: answers,
//! seconds, and the latencies in microseconds, sorted.
#![expect(clippy::disallowed_methods, reason = "a load tool measures time and waits for it")]

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Payload of a message: it takes the long form of the length (RFC 6455 §5.2), as most messages of applications do.
const PAYLOAD: usize = 128;
/// Key of every handshake, and the answer that RFC 6455 §1.3 computes from it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port] => serve(number(port)?),
        [kind, port, path, connections, seconds, rate, status, certificate, fields @ ..] => load(&Plan {
            kind: (*kind).to_owned(),
            port: number(port)?,
            path: (*path).to_owned(),
            connections: number(connections)?,
            span: Duration::from_secs(number(seconds)?),
            rate: number(rate)?,
            status: number(status)?,
            certificate: (*certificate).to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        }),
        _ => Err(Error::other("usage: see the head of benches/peers/load.rs")),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| Error::other(format!("`{word}` is no number")))
}

fn serve(port: u16) -> Result<()> {
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let stream = stream?;
        // A client that goes away, as all do at the end of a round, ends its own connection alone.
        std::thread::spawn(move || echo(stream).ok());
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let head = read_head(&mut stream)?;
    if !head.to_ascii_lowercase().contains("upgrade: websocket") {
        return Err(Error::from(ErrorKind::InvalidData));
    }
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )?;
    let mut message = [0; 8 + PAYLOAD];
    let mut reply = [0; 4 + PAYLOAD];
    reply[..4].copy_from_slice(&[0x82, 126, 0, PAYLOAD as u8]);
    loop {
        stream.read_exact(&mut message)?;
        let (head, masked) = message.split_at(8);
        for (at, (byte, masked)) in reply[4..].iter_mut().zip(masked).enumerate() {
            *byte = masked ^ head[4 + at % 4];
        }
        stream.write_all(&reply)?;
    }
}

/// What one load does.
struct Plan {
    kind: String,
    port: u16,
    path: String,
    connections: u32,
    span: Duration,
    /// Requests a second over all connections; 0: as fast as answers come.
    rate: u32,
    status: u16,
    /// The one that is trusted, PEM.
    certificate: String,
    fields: Vec<String>,
}

fn load(plan: &Plan) -> Result<()> {
    let mut askers = Vec::new();
    for _ in 0..plan.connections {
        askers.push(Asker::open(plan)?);
    }
    let start = Instant::now();
    let mut latencies = std::thread::scope(|scope| -> Result<Vec<u64>> {
        let threads: Vec<_> = askers
            .into_iter()
            .enumerate()
            .map(|(at, asker)| scope.spawn(move || ask(asker, plan, at as u32, start)))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| Error::other("a thread panicked"))??);
        }
        Ok(all)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let list: Vec<String> = latencies.iter().map(u64::to_string).collect();
    println!("{} {seconds:.6} {}", latencies.len(), list.join(" "));
    Ok(())
}

/// Asks until the span is over; the latency of each answer in microseconds.
fn ask(mut asker: Asker, plan: &Plan, at: u32, start: Instant) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    for turn in 0.. {
        let mut planned = Instant::now();
        if plan.rate > 0 {
            let place = f64::from(turn) * f64::from(plan.connections) + f64::from(at);
            let due = start + Duration::from_secs_f64(place / f64::from(plan.rate));
            std::thread::sleep(due.saturating_duration_since(planned));
            planned = due;
        }
        if planned >= start + plan.span {
            break;
        }
        asker.ask(plan)?;
        latencies.push(planned.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

/// One connection, and what is sent over it again and again.
struct Asker {
    wire: Box<dyn Wire>,
    request: Vec<u8>,
    /// What was read beyond an answer, which nothing should be.
    seen: Vec<u8>,
    stream: u32,
    /// Bytes of bodies since the server was last given room for more (RFC 9113 §6.9).
    taken: u32,
}

impl Asker {
    fn open(plan: &Plan) -> Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", plan.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut wire: Box<dyn Wire> =
            if plan.kind.starts_with("tls-") { secure(plan, tcp)? } else { Box::new(tcp) };
        let fields: String = plan.fields.iter().flat_map(|field| [field, "\r\n"]).collect();
        let opening = format!("GET {} HTTP/1.1\r\nHost: localhost:{}\r\n{fields}", plan.path, plan.port);
        let request = match plan.kind.as_str() {
            "websocket" => {
                write!(
                    wire,
                    "{opening}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: {KEY}\r\n\r\n"
                )?;
                let head = read_head(&mut *wire)?;
                if !head.starts_with("HTTP/1.1 101") {
                    return Err(Error::other(format!("no WebSocket: {head}")));
                }
                let mut message = vec![0x5a; 8 + PAYLOAD];
                message[..8].copy_from_slice(&[0x82, 0x80 | 0x7e, 0, PAYLOAD as u8, 1, 2, 3, 4]);
                message
            }
            "tls-h2" => {
                wire.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
                wire.write_all(&frame(SETTINGS, 0, 0, &[]))?;
                header_block(plan)
            }
            "h1" | "tls-h1" => format!("{opening}\r\n").into_bytes(),
            kind => return Err(Error::other(format!("`{kind}` is no kind of load"))),
        };
        Ok(Self { wire, request, seen: Vec::new(), stream: 1, taken: 0 })
    }

    fn ask(&mut self, plan: &Plan) -> Result<()> {
        match plan.kind.as_str() {
            "websocket" => self.message(),
            "tls-h2" => self.http2(),
            _ => self.http1(plan.status),
        }
    }

    fn message(&mut self) -> Result<()> {
        self.wire.write_all(&self.request)?;
        let mut reply = [0; 4 + PAYLOAD];
        self.wire.read_exact(&mut reply)?;
        if reply[..4] == [0x82, 126, 0, PAYLOAD as u8] && reply[4] == 0x5a ^ 1 {
            return Ok(());
        }
        Err(Error::other("the echo is another message"))
    }

    /// One answer that tells its length (RFC 9112 §6.2), or comes in chunks.
    fn http1(&mut self, status: u16) -> Result<()> {
        self.wire.write_all(&self.request)?;
        self.seen.clear();
        let mut part = [0; 8192];
        loop {
            let read = self.wire.read(&mut part)?;
            if read == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            self.seen.extend_from_slice(&part[..read]);
            let Some(end) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.seen[..end]).to_ascii_lowercase();
            if !head.starts_with(&format!("http/1.1 {status}")) {
                return Err(Error::other(format!("not a {status}: {head}")));
            }
            let length = head.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next());
            let whole = match length {
                Some(length) => self.seen.len() >= end + 4 + number::<usize>(length.trim())?,
                None => self.seen.ends_with(b"0\r\n\r\n"),
            };
            if whole {
                return Ok(());
            }
        }
    }

    /// One exchange on a stream of its own (RFC 9113 §8.1); frames that say nothing about it are passed over.
    fn http2(&mut self) -> Result<()> {
        self.wire.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, self.stream, &self.request))?;
        loop {
            let mut head = [0; 9];
            self.wire.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.wire.read_exact(&mut payload)?;
            let (kind, flags) = (head[3], head[4]);
            match kind {
                SETTINGS if flags & ACK == 0 => self.wire.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
                PING if flags & ACK == 0 => self.wire.write_all(&frame(PING, ACK, 0, &payload))?,
                DATA => self.taken += length,
                // `:status: 200` is the eighth field of HPACK's table; a change of the table's size may stand before it.
                HEADERS if payload.iter().find(|byte| *byte & 0xe0 != 0x20) != Some(&0x88) => {
                    return Err(Error::other("not a 200"));
                }
                GOAWAY | RST_STREAM => {
                    return Err(Error::other("the server ends the connection or the stream"));
                }
                _ => {}
            }
            if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
                break;
            }
        }
        self.stream += 2;
        if self.taken > 16_384 {
            self.wire.write_all(&frame(WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes()))?;
            self.taken = 0;
        }
        Ok(())
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The request's fields as literals that are not indexed (RFC 7541 §6.2.2), with `:method` and `:scheme` from the table.
fn header_block(plan: &Plan) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    let authority = format!("localhost:{}", plan.port);
    let mut literal = |name: &str, value: &str| {
        block.push(0);
        for text in [name, value] {
            // A length of 127 and more goes on in bytes of seven bits (RFC 7541 §5.1).
            let mut length = text.len();
            if length < 127 {
                block.push(length as u8);
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push((length % 128) as u8 | 128);
                    length /= 128;
                }
                block.push(length as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    };
    literal(":authority", &authority);
    literal(":path", &plan.path);
    for field in &plan.fields {
        if let Some((name, value)) = field.split_once(": ") {
            literal(&name.to_ascii_lowercase(), value);
        }
    }
    block
}

fn secure(plan: &Plan, tcp: TcpStream) -> Result<Box<dyn Wire>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(&plan.certificate).map_err(Error::other)?;
    roots.add(certificate).map_err(Error::other)?;
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![if plan.kind == "tls-h2" { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let name = ServerName::try_from("localhost").map_err(Error::other)?;
    let client = ClientConnection::new(Arc::new(config), name).map_err(Error::other)?;
    Ok(Box::new(StreamOwned::new(client, tcp)))
}

fn read_head(stream: &mut dyn Wire) -> Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > 16 * 1024 {
            return Err(Error::from(ErrorKind::InvalidData));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
