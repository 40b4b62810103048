//! What a store on disk costs: to start with many sessions, to open one durably, and to look one up.
//!
//! Not a criterion bench: a start happens once, and an opening waits for the disk. Wall time, but for the look-up, whose
//! time is that of the processor. The file lies in the temporary folder; `BENCH_FOLDER` names another, on another disk.

mod support;

use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::{NOON, Sequence, filled, limits_and_clocks, session};
use vestibule::domain::secret::Secret;
use vestibule::domain::session::End;
use vestibule::domain::time::{Clock, Timestamp};
use vestibule::domain::token::{KeyRing, TokenDigest};
use vestibule::store::journal::Journal;
use vestibule::store::sqlite::{SqliteFile, SqliteStore};
use vestibule::store::table::{Filter, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that open sessions at the same time.
const WRITERS: usize = 64;
/// How long they do.
const OPENING_FOR: Duration = Duration::from_secs(5);
const LOOK_UPS: usize = 2_000_000;

/// The instants of sessions stand still; spans are measured by the machine.
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        NOON
    }

    fn wall(&self) -> Timestamp {
        NOON
    }

    fn ticks(&self) -> Duration {
        span(ClockId::Monotonic)
    }
}

fn span(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("no clock of the system is negative")
}

fn main() {
    let folder = std::env::var_os("BENCH_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("vestibule-durable-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder takes folders");
    let path = folder.join("sessions.db");
    for count in [100_000, 1_000_000] {
        drop(std::fs::remove_file(&path));
        fill(&path, count);
        start_again(&path, count);
    }
    open(&path);
    look_up(&path);
    open_through_the_door(&folder);
    drop(std::fs::remove_dir_all(&folder));
}

fn process(path: &Path) -> (Table, Arc<SqliteStore>) {
    let ring = KeyRing::new(vec![Secret::new([7; 32])]).expect("a key");
    let file = SqliteFile::open(path, &ring).expect("the file can be used");
    let store = file.start(Arc::new(Noon), |health| println!("{health:?}")).expect("a thread");
    let (limits, clocks) = limits_and_clocks(4_000_000);
    (Table::new(limits, clocks, Some(store.clone() as Arc<dyn Journal>)), store)
}

fn fill(path: &Path, count: usize) {
    let (table, store) = process(path);
    let random = &mut Sequence(1);
    let started = span(ClockId::Monotonic);
    let mut waiting = Vec::new();
    for n in 0..count {
        let opened = table.open(session(n, random), &[], NOON).expect("there is room");
        waiting.push(opened.commit);
        if waiting.len() == 1_000 {
            waiting.drain(..).for_each(|commit| commit.wait().expect("durable"));
        }
    }
    assert_eq!(store.stop(), 0);
    let taken = span(ClockId::Monotonic).saturating_sub(started);
    let bytes = std::fs::metadata(path).expect("it is there").len();
    println!(
        "durable/fill/{count}: {:.1} s, {} bytes a session on disk",
        taken.as_secs_f64(),
        bytes / count as u64
    );
}

fn start_again(path: &Path, count: usize) {
    let started = span(ClockId::Monotonic);
    let (table, store) = process(path);
    let loaded = store.load(|kept| table.restore(kept)).expect("the file is whole");
    let taken = span(ClockId::Monotonic).saturating_sub(started);
    assert_eq!((table.live(), loaded.damaged), (count, 0));
    println!("durable/start/{count}: {:.2} s", taken.as_secs_f64());
}

fn open(path: &Path) {
    let (table, store) = process(path);
    store.load(|kept| table.restore(kept)).expect("the file is whole");
    let over = AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    let ended = AtomicUsize::new(0);
    let started = span(ClockId::Monotonic);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (table, over, opened, ended) = (&table, &over, &opened, &ended);
            scope.spawn(move || {
                let random = &mut Sequence(writer as u64 * 7919 + 13);
                while !over.load(Ordering::Relaxed) {
                    let session = session(writer, random);
                    let opening = table.open(session.clone(), &[], NOON).expect("there is room");
                    opening.commit.wait().expect("durable");
                    if opened.fetch_add(1, Ordering::Relaxed) % 4 == 0 {
                        table.end(session.digest(), End::SignOut).commit.wait().expect("durable");
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while span(ClockId::Monotonic).saturating_sub(started) < OPENING_FOR {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        over.store(true, Ordering::Relaxed);
    });
    let seconds = span(ClockId::Monotonic).saturating_sub(started).as_secs_f64();
    println!(
        "durable/open/{WRITERS} threads, beside 1M: {:.0} openings and {:.0} ends a second, each acknowledged",
        opened.into_inner() as f64 / seconds,
        ended.into_inner() as f64 / seconds
    );
}

fn look_up(path: &Path) {
    let of = |table: &Table| {
        let (sessions, _) = table.list(Filter::default(), None, usize::MAX, NOON);
        let random = &mut Sequence(3);
        let mut digests: Vec<TokenDigest> = sessions.iter().map(|session| *session.digest()).collect();
        for at in (1..digests.len()).rev() {
            digests.swap(at, random.next() as usize % (at + 1));
        }
        drop(sessions);
        let mut keys = digests.iter().cycle();
        let mut look = |times| {
            let started = span(ClockId::ThreadCPUTime);
            for _ in 0..times {
                let key = keys.next().expect("a cycle does not end");
                assert!(black_box(table.find(black_box(key), NOON)).is_ok());
            }
            span(ClockId::ThreadCPUTime).saturating_sub(started).as_nanos() as f64 / times as f64
        };
        look(LOOK_UPS / 4);
        look(LOOK_UPS)
    };
    let memory = of(&filled(1_000_000, &mut Sequence(1)));
    let (table, store) = process(path);
    store.load(|kept| table.restore(kept)).expect("the file is whole");
    println!("durable/find/1M: {:.0} ns, in memory alone {memory:.0} ns", of(&table));
}

const CONFIG: &str = "
version: 1
listeners: [{ address: '127.0.0.1:LISTEN' }]
external_url: http://localhost:LISTEN
admin: { address: '127.0.0.1:ADMIN', token: { file: admin.token } }
keys: [{ file: session.key }]
sessions: { store: { sqlite: gateway.db }, per_subject: { max: 1000000 } }
sign_in: { local: { password: { users: users.yaml } } }
upstreams: { app: { servers: ['http://127.0.0.1:9'] } }
routes: [{ name: app, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }]
logs: { access: { to: 'off' }, audit: { to: 'off' } }
";
const PASSWORD: &str =
    "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4";
/// People with sessions: as many as keep each of them below a hundred or so.
const USERS: usize = 500;
const TOKEN: &str = "a-token-for-the-bench-alone-0123456789";
/// Connections to the operator's door.
const CALLERS: usize = 32;

/// The same through the operator's door of a whole gateway, for which the callers take processor time as well.
fn open_through_the_door(folder: &Path) {
    let (listen, admin) = (free_port(), free_port());
    let config = CONFIG.replace("LISTEN", &listen.to_string()).replace("ADMIN", &admin.to_string());
    let key = "CzBVep/E6Q4zWH2ix+wRNluApcrvFDleg6jN8hc8YYY=";
    let mut users = String::new();
    for n in 0..USERS {
        writeln!(users, "user{n}: {{ password: \"{PASSWORD}\", groups: [ops, dev] }}")
            .expect("a string takes all");
    }
    for (name, text) in
        [("vestibule.yaml", &*config), ("users.yaml", &users), ("admin.token", TOKEN), ("session.key", key)]
    {
        std::fs::write(folder.join(name), text).expect("the folder takes files");
    }
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .arg("run")
        .arg("-c")
        .arg(folder.join("vestibule.yaml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", admin)).is_ok() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let opened = AtomicUsize::new(0);
    let started = span(ClockId::Monotonic);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut door = TcpStream::connect(("127.0.0.1", admin)).expect("the door is open");
                door.set_nodelay(true).expect("a TCP socket");
                while span(ClockId::Monotonic).saturating_sub(started) < OPENING_FOR {
                    open_one(&mut door, opened.fetch_add(1, Ordering::Relaxed) % USERS);
                }
            });
        }
    });
    let seconds = span(ClockId::Monotonic).saturating_sub(started).as_secs_f64();
    let rate = (opened.into_inner() - CALLERS) as f64 / seconds;
    println!("durable/open/POST /sessions, {CALLERS} connections: {rate:.0} a second, each acknowledged");
    gateway.kill().expect("a child can be ended");
    gateway.wait().expect("it ends");
}

fn open_one(door: &mut TcpStream, user: usize) {
    let body = format!("{{\"subject\":\"user{user}\"}}");
    let length = body.len();
    let request = format!(
        "POST /sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    door.write_all(request.as_bytes()).expect("the door reads");
    let mut seen = Vec::with_capacity(2048);
    let mut part = [0; 2048];
    while !seen.ends_with(b"}") {
        let read = door.read(&mut part).expect("the door answers");
        assert!(read > 0, "the door closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&seen));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}
