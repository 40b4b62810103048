//! The bare pingora proxy as it comes, with its own settings and the system's allocator: `peers_bare_default LISTEN UPSTREAM`.

use pingora::server::configuration::ServerConf;

#[path = "../round_trip/bare.rs"]
#[expect(dead_code, reason = "the gateway's settings are the other proxy's")]
mod bare;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, upstream] = arguments.as_slice() else {
        panic!("usage: peers_bare_default LISTEN UPSTREAM");
    };
    bare::serve(listen, upstream, ServerConf::default());
}
