//! Names of servers → addresses, away from requests.
//!
//! The system's resolver is asked (hosts file, search domains and all). It tells no time to live, so a name's own servers are
//! asked for that ([`ttl`]), and each name is looked up again at its own pace. The resolver blocks: each look-up has a thread
//! of the runtime's pool, few at once.

use super::{Upstream, literal, ttl};
use crate::proxy::settings::Place;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The longest wait for names that nothing is known of yet, at a start or a reload.
const FIRST_MAX: Duration = Duration::from_secs(5);
/// The longest wait for a name after that.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// So many names are looked up at once, at a start or a reload.
const AT_ONCE_MAX: usize = 8;

/// The shortest pause before a name is looked up again, whatever its time to live.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// The longest, and that of a name of which nobody tells its time to live: what changed in spite of it is seen then.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Names that the system knows without asking anybody, and whom it asks for others.
const HOSTS: &str = "/etc/hosts";
const SERVERS: &str = "/etc/resolv.conf";
/// Bytes that are read of them.
const FILE_MAX: u64 = 1 << 20;

/// A name and a port.
type Name = (String, u16);

/// What a look-up of a name brought, with port 0, and whom to ask how long it counts.
type Found = (Vec<SocketAddr>, Option<ttl::Servers>);

/// Looks all names of these upstreams up again and again, each at its own pace, for as long as it is awaited. A failure keeps
/// the addresses known before; it is logged. `few` bounds the threads that wait for a resolver, those of look-ups that were
/// given up included.
pub(crate) async fn look_up_always(upstreams: &[Upstream], few: &Arc<Semaphore>) {
    let names = upstreams.iter().flat_map(Upstream::names).map(str::to_owned).collect();
    let look_up = |name: String| {
        let few = few.clone();
        async move {
            let (addresses, servers) = look_up(name.clone(), few).await.unwrap_or_default();
            (addresses, time_to_live(name, servers))
        }
    };
    let take_up = |name: &str, addresses: &[SocketAddr]| {
        for upstream in upstreams.iter().filter(|upstream| upstream.names().any(|known| known == name)) {
            upstream.hear(name, addresses);
        }
    };
    follow(names, look_up, take_up).await;
}

async fn look_up(name: String, few: Arc<Semaphore>) -> Option<Found> {
    let place = few.acquire_owned().await.ok()?;
    let asking = tokio::task::spawn_blocking(move || {
        let addresses = ask(&name, 0);
        // What the system knows by itself has no time to live; what it does not find is asked for at the slowest pace.
        let is_untimed = addresses.is_empty() || read(HOSTS).is_some_and(|hosts| is_in_hosts(&hosts, &name));
        let servers = if is_untimed { None } else { read(SERVERS).map(|text| ttl::Servers::read(&text)) };
        drop(place);
        (addresses, servers)
    });
    tokio::time::timeout(LOOKUP_MAX, asking).await.ok()?.ok()
}

async fn time_to_live(name: String, servers: Option<ttl::Servers>) -> Option<Duration> {
    let servers = servers?;
    // In a task of its own: whatever comes over the network and however it is read, the name is looked up again.
    tokio::spawn(async move { servers.time_to_live(&name).await }).await.ok().flatten()
}

/// Looks each name up at once, tells what was found, and does so again when its time to live has passed, or what stands for it.
async fn follow<Looked, Lasting>(
    names: BTreeSet<String>,
    look_up: impl Fn(String) -> Looked,
    mut tell: impl FnMut(&str, &[SocketAddr]),
) where
    Looked: Future<Output = (Vec<SocketAddr>, Lasting)> + Send + 'static,
    Lasting: Future<Output = Option<Duration>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for name in names {
        let looked = look_up(name.clone());
        under_way.spawn(async move { (name, looked.await) });
    }
    while let Some(done) = under_way.join_next().await {
        // None panics: what might is in tasks of its own.
        let Ok((name, (addresses, lasting))) = done else { continue };
        tell(&name, &addresses);
        let looked = look_up(name.clone());
        under_way.spawn(async move {
            tokio::time::sleep(pause(lasting.await)).await;
            (name, looked.await)
        });
    }
}

/// How long to wait before a name is looked up again.
fn pause(time_to_live: Option<Duration>) -> Duration {
    time_to_live.map_or(AGAIN_MAX, |lasts| lasts.clamp(AGAIN_MIN, AGAIN_MAX))
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Whether a hosts file has a name: an address and its names on each line, `#` before remarks.
fn is_in_hosts(hosts: &[u8], name: &str) -> bool {
    hosts.split(|byte| *byte == b'\n').any(|line| {
        let said = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = said.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.next().is_some() && words.any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    })
}

impl Upstream {
    /// The names of its servers.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().filter_map(|server| match &server.place {
            Place::Net { host, .. } if literal(&server.place).is_none() => Some(host.as_str()),
            _ => None,
        })
    }

    /// Takes up what a name stands for; none: it could not be looked up.
    fn hear(&self, name: &str, addresses: &[SocketAddr]) {
        if addresses.is_empty() {
            self.note_unknown(name);
            return;
        }
        let field = self.field.load_full();
        let found = self.servers.iter().map(|server| match (&server.place, literal(&server.place)) {
            (_, Some(address)) => vec![address],
            (Place::Net { host, port, .. }, None) if host == name => {
                // With the link of an address that has one.
                let mut there = addresses.to_vec();
                for address in &mut there {
                    address.set_port(*port);
                }
                there
            }
            (place, None) => self.known(&field, place),
        });
        let found: Vec<Vec<SocketAddr>> = found.collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_pause_has_a_floor_and_a_ceiling() {
        for (time_to_live, expected) in [
            (None, 30_000),
            (Some(0), 1000),
            (Some(999), 1000),
            (Some(5000), 5000),
            (Some(86_400_000), 30_000),
        ] {
            let pause = pause(time_to_live.map(Duration::from_millis));
            assert_eq!(pause, Duration::from_millis(expected), "{time_to_live:?}");
        }
    }

    #[test]
    fn a_hosts_file_is_read_as_the_system_does() {
        let hosts =
            b"127.0.0.1 localhost\n# 10.0.0.1 gone\n10.0.0.2\twiki.example Wiki # forum\r\n10.0.0.3\nlone";
        for (name, expected) in [
            ("localhost", true),
            ("wiki", true),
            ("WIKI.example", true),
            ("gone", false),
            ("forum", false),
            ("10.0.0.3", false),
            ("lone", false),
            ("wiki.exam", false),
        ] {
            assert_eq!(is_in_hosts(hosts, name), expected, "{name}");
        }
    }

    /// Each name has its own pace, one whose time to live nobody tells (or not yet) holds up no other, and what is found is told
    /// before anybody asks how long it counts.
    #[tokio::test]
    async fn each_name_has_its_own_pace() {
        let counts: Arc<[AtomicUsize; 3]> = Arc::default();
        let number = |name: &str| ["brief", "lasting", "silent"].iter().position(|known| *known == name);
        let told = counts.clone();
        let look_up = |name: String| async move {
            let lasting = async move {
                match name.as_str() {
                    "brief" => Some(Duration::ZERO),
                    "lasting" => Some(Duration::from_secs(25)),
                    _ => std::future::pending().await,
                }
            };
            (vec![SocketAddr::from(([127, 0, 0, 1], 0))], lasting)
        };
        let tell = move |name: &str, addresses: &[SocketAddr]| {
            assert_eq!(addresses.len(), 1);
            told[number(name).expect("a name of ours")].fetch_add(1, Ordering::Relaxed);
        };
        let names = ["brief", "lasting", "silent"].map(str::to_owned).into();
        let following = follow(names, look_up, tell);
        let thrice = async {
            while counts[0].load(Ordering::Relaxed) < 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = following => panic!("there are names"),
            () = thrice => {}
        }
        let seen = [1, 2].map(|at: usize| counts[at].load(Ordering::Relaxed));
        assert_eq!(seen, [1, 1], "looked up once, and not yet again");
    }
}
