//! Both ends of the WebSocket job: `peers_websocket serve PORT` echoes, `peers_websocket load PORT PATH CONNECTIONS
//! SECONDS RATE` asks (RFC 6455).
//!
//! The load sends messages of 128 bytes and waits for each echo before the next. With a rate of 0 it sends as fast as
//! echoes come; else so many a second over all connections, each at its planned instant, and a latency is counted from
//! that instant, so that a late answer delays nobody unnoticed. It prints one line: messages echoed, seconds, and the
//! latencies in microseconds, sorted.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Payload of a message: it takes the long form of the length (RFC 6455 §5.2), as most messages of applications do.
const PAYLOAD: usize = 128;
/// Key of every handshake, and the answer that RFC 6455 §1.3 computes from it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["serve", port] => runtime.block_on(serve(number(port)?)),
        ["load", port, path, connections, seconds, rate] => {
            let plan = Plan {
                port: number(port)?,
                path: (*path).to_owned(),
                connections: number(connections)?,
                span: Duration::from_secs(number(seconds)?),
                rate: number(rate)?,
            };
            runtime.block_on(load(plan))
        }
        _ => Err(Error::other("usage: peers_websocket serve PORT | load PORT PATH CONNECTIONS SECONDS RATE")),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| Error::other(format!("`{word}` is no number")))
}

async fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that goes away, as all do at the end of a round, ends its own connection alone.
        tokio::spawn(async move { echo(stream).await.ok() });
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let head = read_head(&mut stream).await?;
    if !head.to_ascii_lowercase().contains("upgrade: websocket") {
        return Err(Error::from(ErrorKind::InvalidData));
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut message = [0; 8 + PAYLOAD];
    let mut reply = [0; 4 + PAYLOAD];
    reply[..4].copy_from_slice(&[0x82, 126, 0, PAYLOAD as u8]);
    loop {
        stream.read_exact(&mut message).await?;
        let (head, masked) = message.split_at(8);
        for (at, (byte, masked)) in reply[4..].iter_mut().zip(masked).enumerate() {
            *byte = masked ^ head[4 + at % 4];
        }
        stream.write_all(&reply).await?;
    }
}

/// What one load does.
#[derive(Clone)]
struct Plan {
    port: u16,
    path: String,
    connections: u32,
    span: Duration,
    /// Messages a second over all connections; 0: as fast as echoes come.
    rate: u32,
}

async fn load(plan: Plan) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        streams.push(open(&plan).await?);
    }
    let start = Instant::now();
    let askers: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(at, stream)| tokio::spawn(ask(stream, plan.clone(), at as u32, start)))
        .collect();
    let mut latencies: Vec<u64> = Vec::new();
    for asker in askers {
        latencies.extend(asker.await.map_err(Error::other)??);
    }
    latencies.sort_unstable();
    let seconds = start.elapsed().as_secs_f64();
    let list: Vec<String> = latencies.iter().map(u64::to_string).collect();
    println!("{} {seconds:.6} {}", latencies.len(), list.join(" "));
    Ok(())
}

async fn open(plan: &Plan) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", plan.port)).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n",
        plan.path, plan.port
    );
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(&mut stream).await?;
    if !head.starts_with("HTTP/1.1 101") {
        return Err(Error::other(format!("no WebSocket: {head}")));
    }
    Ok(stream)
}

/// Asks until the span is over; the latency of each echo in microseconds.
async fn ask(mut stream: TcpStream, plan: Plan, at: u32, start: Instant) -> Result<Vec<u64>> {
    let end = start + plan.span;
    let mut latencies = Vec::new();
    let mut message = [0x5a; 8 + PAYLOAD];
    message[..8].copy_from_slice(&[0x82, 0x80 | 126, 0, PAYLOAD as u8, 1, 2, 3, 4]);
    let mut reply = [0; 4 + PAYLOAD];
    for turn in 0.. {
        let mut planned = Instant::now();
        if plan.rate > 0 {
            let place = f64::from(turn) * f64::from(plan.connections) + f64::from(at);
            planned = start + Duration::from_secs_f64(place / f64::from(plan.rate));
            sleep_until(planned).await;
        }
        if planned >= end {
            break;
        }
        stream.write_all(&message).await?;
        // What is under way at the end has a second more.
        let echoed = timeout_at(end + Duration::from_secs(1), stream.read_exact(&mut reply)).await;
        echoed.map_err(|_| Error::other("an echo did not come"))??;
        if reply[..4] != [0x82, 126, 0, PAYLOAD as u8] || reply[4] != 0x5a ^ 1 {
            return Err(Error::other("the echo is another message"));
        }
        latencies.push(planned.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > 16 * 1024 {
            return Err(Error::from(ErrorKind::InvalidData));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
