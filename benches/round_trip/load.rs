//! Clients on keep-alive connections.

use std::io::{Read, Write};
use std::net::TcpStream;

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
