//! Upgrades while much else goes on: an upstream that agrees at once is believed, and its tunnel lives.

use crate::support::{Answer, Gateway, HOST, Message, Upstream, Wire, upstream};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

const VISITORS: usize = 16;
const ROUNDS: usize = 75;

fn upgrade(wire: &mut Wire, target: &str) -> Message {
    wire.write(format!(
        "GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ));
    wire.head()
}

/// Opens a tunnel and sends something through it; tells whether it came back.
fn tunnel_lives(address: SocketAddr) -> bool {
    let mut wire = Wire::to(address);
    let answer = upgrade(&mut wire, "/public/echo");
    assert_eq!(answer.status(), 101);
    wire.try_write("hello").is_ok() && wire.try_read_exactly(5).is_some_and(|echo| echo == b"hello")
}

/// The proxy below takes a tunnel for done if the 101 comes in before it has noted that the request has no body. It can, on a
/// connection that another worker opened: that one's readiness is told by another thread. So the tunnels' connections are
/// never such that were used before, not even by an upgrade that was refused.
#[test]
fn no_tunnel_is_closed_for_an_upstream_that_agrees_at_once() {
    let server = Upstream::answering(|request| match request.target().as_str() {
        "/public/echo" => Answer::talk(upstream::echo),
        _ => Answer::ok(&[]),
    });
    let gateway = Gateway::before(&server);
    let (address, broken) = (gateway.address(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut wire = Wire::to(address);
                    wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
                    assert_eq!(wire.response().status(), 200);
                    let mut wire = Wire::to(address);
                    assert_eq!(upgrade(&mut wire, "/public/refused").status(), 200);
                    if !tunnel_lives(address) {
                        broken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(broken.into_inner(), 0, "of {} tunnels", VISITORS * ROUNDS);
}
