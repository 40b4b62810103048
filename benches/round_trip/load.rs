//! Both ends of the measurement: an upstream that answers 1 KiB, and clients on keep-alive connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Starts the upstream and gives its port.
pub(crate) fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1024, b'x');
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer_all(stream, &answer));
        }
    });
    port
}

fn answer_all(mut stream: TcpStream, answer: &[u8]) {
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        seen.extend_from_slice(&part[..read]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// Sends `requests` times `request` over so many connections at once; each answer must be a 200.
pub(crate) fn send(port: u16, request: &[u8], requests: u64, connections: u64) {
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the contender listens");
                stream.set_nodelay(true).expect("a TCP socket");
                for _ in 0..requests / connections {
                    stream.write_all(request).expect("the contender reads");
                    read_answer(&mut stream);
                }
            });
        }
    });
}

fn read_answer(stream: &mut TcpStream) {
    let mut seen = Vec::with_capacity(4096);
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).expect("the contender answers");
        assert!(read > 0, "the contender closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
        if let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n")
            && seen.len() >= end + 4 + 1024
        {
            assert!(seen.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&seen[..end]));
            return;
        }
        assert!(
            seen.starts_with(b"HTTP/1.1 200") || seen.len() <= 12,
            "not a 200: {}",
            String::from_utf8_lossy(&seen)
        );
    }
}
