//! The bare pingora proxy of `round_trip`, as a contender among the peers: `peers_bare LISTEN UPSTREAM`.

#[path = "../round_trip/bare.rs"]
mod bare;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, upstream] = arguments.as_slice() else {
        panic!("usage: peers_bare LISTEN UPSTREAM");
    };
    bare::serve(listen, upstream, bare::settings());
}
