//! Names of servers → addresses, away from requests.
//!
//! The system's resolver is asked (hosts file, search domains and all), and it tells no time to live: names are looked up again
//! at a fixed pace. It blocks, so each look-up has a thread of the runtime's pool, few at once.

use super::{Upstream, literal};
use crate::proxy::settings::Place;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The longest wait for names that nothing is known of yet, at a start or a reload.
const FIRST_MAX: Duration = Duration::from_secs(5);
/// The longest wait for a name after that.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// So many names are looked up at once.
const AT_ONCE_MAX: usize = 8;

/// A name and a port.
type Name = (String, u16);

impl Upstream {
    /// Looks all names up again. A failure keeps the addresses known before; it is logged. `few` bounds the threads that wait for
    /// a resolver, those of look-ups that were given up included.
    pub(crate) async fn look_up(&self, few: &Arc<Semaphore>) {
        let mut found = Vec::new();
        for server in &self.servers {
            let (Place::Net { host, port, .. }, None) = (&server.place, literal(&server.place)) else {
                found.push(literal(&server.place).into_iter().collect());
                continue;
            };
            let (name, port) = (host.clone(), *port);
            let asked = async {
                let place = few.clone().acquire_owned().await.ok()?;
                let asking = tokio::task::spawn_blocking(move || {
                    let addresses = ask(&name, port);
                    drop(place);
                    addresses
                });
                asking.await.ok()
            };
            let addresses = tokio::time::timeout(LOOKUP_MAX, asked).await.ok().flatten().unwrap_or_default();
            if addresses.is_empty() {
                self.note_unknown(host);
                found.push(self.known(&self.field.load(), &server.place));
            } else {
                found.push(addresses);
            }
        }
        self.take_up(&found);
    }

    fn take_up(&self, found: &[Vec<SocketAddr>]) {
        let field = self.field.load_full();
        let known = self.servers.iter().map(|server| self.known(&field, &server.place));
        let is_new = known
            .zip(&self.servers)
            .zip(found)
            .any(|((known, server), found)| literal(&server.place).is_none() && known != *found);
        if is_new {
            self.set_addresses(found, Some((self, &field)));
        }
    }

    fn note_unknown(&self, host: &str) {
        tracing::warn!(upstream = %self.name, server = %host, "the name of an upstream server cannot be looked up");
    }

    /// Names of which no address is known.
    fn unknown(&self) -> impl Iterator<Item = (&str, u16)> {
        let field = self.field.load_full();
        self.servers.iter().filter_map(move |server| match &server.place {
            Place::Net { host, port, .. }
                if literal(&server.place).is_none() && self.known(&field, &server.place).is_empty() =>
            {
                Some((host.as_str(), *port))
            }
            _ => None,
        })
    }
}

/// Looks up the names that nothing is known of yet, all at once, and waits for them for a bounded time. Blocks: for a start or a
/// reload, before requests can meet these upstreams.
pub(crate) fn look_up_first(upstreams: &[Upstream]) {
    let mut names: BTreeMap<Name, Vec<SocketAddr>> = BTreeMap::new();
    for (host, port) in upstreams.iter().flat_map(Upstream::unknown) {
        names.insert((host.to_owned(), port), Vec::new());
    }
    if names.is_empty() {
        return;
    }
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(Mutex::new(names.keys().cloned().collect::<Vec<_>>()));
    for _ in 0..names.len().min(AT_ONCE_MAX) {
        let (sender, waiting) = (sender.clone(), waiting.clone());
        // Where the system refuses a thread, the names that stay unknown are asked for later.
        let _ = std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
            while let Some(name) = next(&waiting) {
                let addresses = ask(&name.0, name.1);
                // Nobody waits any more if it took too long.
                let _ = sender.send((name, addresses));
            }
        });
    }
    drop(sender);
    let awaited = names.len();
    if !gather(awaited, &receiver, &mut names) {
        tracing::warn!("names of upstream servers take long to look up; they are asked for again");
    }
    for upstream in upstreams {
        let field = upstream.field.load_full();
        let found = upstream.servers.iter().map(|server| match &server.place {
            Place::Net { host, port, .. } if literal(&server.place).is_none() => {
                let known = upstream.known(&field, &server.place);
                let fresh = names.get(&(host.clone(), *port)).filter(|_| known.is_empty());
                if fresh.is_some_and(Vec::is_empty) {
                    upstream.note_unknown(host);
                }
                fresh.cloned().unwrap_or(known)
            }
            _ => literal(&server.place).into_iter().collect(),
        });
        let found: Vec<Vec<SocketAddr>> = found.collect();
        upstream.take_up(&found);
    }
}

fn next(waiting: &Mutex<Vec<Name>>) -> Option<Name> {
    waiting.lock().pop()
}

/// Gathers what comes in time; tells whether everything did.
fn gather(
    awaited: usize,
    receiver: &mpsc::Receiver<(Name, Vec<SocketAddr>)>,
    names: &mut BTreeMap<Name, Vec<SocketAddr>>,
) -> bool {
    // No clock is read here: the slices that passed in vain are counted.
    let mut left = FIRST_MAX;
    let slice = Duration::from_millis(50);
    let mut got = 0;
    while got < awaited {
        match receiver.recv_timeout(slice.min(left)) {
            Ok((name, addresses)) => {
                names.insert(name, addresses);
                got += 1;
            }
            Err(mpsc::RecvTimeoutError::Timeout) if left > slice => left -= slice,
            Err(_) => return false,
        }
    }
    true
}

/// The addresses of a name, in order, each once; none if it has none. Blocks.
fn ask(host: &str, port: u16) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
