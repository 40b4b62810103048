//! The running server: threads, listeners, housekeeping, and how it stops.
//!
//! Each worker thread has a runtime of its own and accepts from the shared sockets: nothing migrates between threads
//! while it is served. One more thread carries the operator's door, the signals and everything that happens now and
//! then. Stopping is ours, not pingora's: it ends as soon as nothing runs any more.

use crate::app::care;
use crate::app::clock::SystemClock;
use crate::app::fronts;
use crate::app::reload::Reloader;
use crate::app::supervisor;
use crate::app::upgrade::Former;
use crate::net::connection;
use crate::net::listener::{Accepted, Bound};
use crate::net::opening::{Entrance, Opened};
use crate::net::places::{ClientPlace, Places, Room};
use crate::net::streams::Streams;
use crate::net::tls::{self, HandshakeEnd, SPEAKS_TLS, TlsTerms};
use crate::net::wire::Wire;
use crate::net::{ConnectionLimits, Timeouts};
use crate::proxy::gateway::Gateway;
use crate::proxy::parts::Parts;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::upstream::trust;
use pingora::apps::HttpServerApp;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// Idle connections to upstreams that are kept, all upstreams together; fewer than the peak of concurrent requests costs
/// a new connection for each one above.
const UPSTREAM_POOL: usize = 1024;
/// Tries of one request, first included; each needs another server.
const TRIES_MAX: usize = 8;
/// How often ended sessions are dropped and the clocks compared.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often a worker looks for streams whose session has ended; they have to be cut within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Connections that an inner door takes at once.
const INNER_MAX: usize = 64;
/// Descriptors that are not connections: files, sockets, runtimes.
const DESCRIPTORS_RESERVED: u64 = 128;
/// More are of no use to one process.
const DESCRIPTORS_MAX: u64 = 1 << 20;
/// How long those who idle may take to hear that a process ends whose work another one does.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A bound listener and whom it serves.
pub(crate) struct Door {
    pub(crate) bound: Bound,
    pub(crate) timeouts: Timeouts,
    pub(crate) connections: ConnectionLimits,
    pub(crate) proxy_protocol: bool,
}

impl Door {
    /// The way in, as the listener of this number, with places out of `all`.
    fn entrance(&self, number: usize, all: &Arc<Semaphore>, all_max: usize) -> Arc<Entrance> {
        let ConnectionLimits { max, max_per_client } = self.connections;
        let own_max = max.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
        if let Some(asked) = own_max.filter(|asked| *asked > all_max) {
            tracing::warn!(
                asked,
                room = all_max,
                "listeners[{number}].connections.max ({asked}) is more than there is room for ({all_max}); raise the hard limit of open files"
            );
        }
        let half = own_max.unwrap_or(all_max).min(all_max).div_ceil(2);
        let half = u32::try_from(half).unwrap_or(u32::MAX);
        let places = Places::new(all.clone(), own_max, Some(max_per_client.unwrap_or(half)));
        Arc::new(Entrance {
            number,
            timeouts: self.timeouts,
            proxy_protocol: self.proxy_protocol,
            places: Arc::new(places),
        })
    }
}

/// The signals of the process, and the runtime that hears them.
///
/// Made before the first address is bound: until then a signal ends the process, and afterwards none may, least of all a
/// SIGHUP that an operator sends as soon as the gateway answers.
pub(crate) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    rotated: Signal,
}

impl Signals {
    /// From now on signals wait to be read.
    pub(crate) fn listen() -> io::Result<Self> {
        let runtime = runtime()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let rotated = signal(SignalKind::user_defined1())?;
        // Somebody listens, and so a write beyond a limit of the system fails instead of ending the process.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        drop(inside);
        Ok(Self { runtime, terminate, interrupt, hangup, rotated })
    }
}

impl Signals {
    /// The runtime of everything that happens now and then. What is spawned there starts with [`Server::run`].
    pub(crate) fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }
}

/// Everything that `run` needs; all of it is checked and bound.
pub(crate) struct Server<A> {
    pub(crate) signals: Signals,
    pub(crate) parts: Arc<Parts>,
    pub(crate) clock: Arc<SystemClock>,
    /// Public listeners, by number.
    pub(crate) public: Vec<Door>,
    /// The operator's door and the probes, each with its application.
    pub(crate) inner: Vec<(Door, Arc<A>)>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) drain: Duration,
    pub(crate) drain_delay: Duration,
    pub(crate) workers: usize,
    /// Where another process may take over: the socket on which it asks.
    pub(crate) upgrade: Option<(Arc<Former>, UnixListener)>,
    /// Some upstream is proved by what the system trusts.
    pub(crate) trusts_system: bool,
}

impl<A: HttpServerApp + Send + Sync + 'static> Server<A> {
    /// Serves until a signal ends it; returns once everything has stopped.
    pub(crate) fn run(self) -> io::Result<()> {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let slots_max = raise_descriptor_limit();
        let slots = Arc::new(Semaphore::new(slots_max));
        let entrances: Vec<Arc<Entrance>> = self
            .public
            .iter()
            .enumerate()
            .map(|(number, door)| door.entrance(number, &slots, slots_max))
            .collect();
        let proxy = Arc::new(proxy(&self.parts, self.workers, self.trusts_system));
        for number in 0..self.workers {
            let doors: io::Result<Vec<(Bound, Arc<Entrance>)>> = self
                .public
                .iter()
                .zip(&entrances)
                .map(|(door, entrance)| Ok((door.bound.try_clone()?, entrance.clone())))
                .collect();
            let worker = Worker {
                doors: doors?,
                proxy: proxy.clone(),
                parts: self.parts.clone(),
                stopped: stopped.clone(),
                ended: ended.clone(),
            };
            let runtime = runtime()?;
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker.run(&runtime))?;
        }
        drop(self.public);
        let Self {
            parts, clock, inner, reloader, drain, drain_delay, signals, trusts_system, upgrade, ..
        } = self;
        let Signals { runtime, mut terminate, mut interrupt, mut hangup, mut rotated } = signals;
        let served = runtime.block_on(async move {
            // The operator's door stays open to the end: readyz tells that the rest drains.
            let (_open, open) = watch::channel(false);
            let mut accepting = tokio::task::JoinSet::new();
            let mut former = None;
            if let Some((giving, socket)) = upgrade {
                former = Some(giving.clone());
                accepting.spawn(giving.listen(socket));
            }
            for (number, (door, app)) in inner.into_iter().enumerate() {
                let entrance = door.entrance(number, &Arc::new(Semaphore::new(INNER_MAX)), INNER_MAX);
                let serving = Serving {
                    app,
                    parts: parts.clone(),
                    entrance: entrance.clone(),
                    // Nothing in here is admitted by a session.
                    streams: Arc::new(Streams::default()),
                    stopped: open.clone(),
                    ended: open.clone(),
                    is_public: false,
                };
                accepting.spawn(door.bound.accept(entrance.places.clone(), move |accepted| {
                    serving.clone().start(accepted);
                }));
            }
            tokio::spawn(housekeeping(parts.clone(), clock));
            tokio::spawn(care::care(parts.clone(), trusts_system));
            tokio::spawn(reloader.clone().watch());
            supervisor::ready();
            let given_to = loop {
                tokio::select! {
                    process = given(former.as_deref()) => break Some(process),
                    _ = terminate.recv() => break None,
                    _ = interrupt.recv() => break None,
                    _ = hangup.recv() => {
                        let reloader = reloader.clone();
                        // What went wrong stands in the log, in readyz and in a metric.
                        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
                    }
                    _ = rotated.recv() => {
                        let reloader = reloader.clone();
                        // What went wrong stands in the log that is still open.
                        let _ = tokio::task::spawn_blocking(move || reloader.reopen_logs()).await;
                    }
                }
            };
            parts.draining.store(true, Ordering::Relaxed);
            let ending = Ending { stop, end, slots, slots_max, drain, terminate, interrupt };
            match (given_to, former) {
                (Some(process), Some(former)) => {
                    tracing::info!(process, "another process has taken over; this one finishes what runs");
                    former.keep();
                    supervisor::given_to(process);
                    // Of the other process from now on, the operator's door too.
                    drop(accepting);
                    ending.after_an_upgrade(&former).await;
                }
                (_, former) => {
                    if let Some(former) = former {
                        former.keep();
                    }
                    supervisor::stopping();
                    ending.after_a_signal(drain_delay).await;
                }
            }
            Ok(())
        });
        // A name that is being looked up, or a file that does not come, keeps nobody here.
        runtime.shutdown_background();
        served
    }
}

/// What ends the process in good order.
struct Ending {
    stop: watch::Sender<bool>,
    end: watch::Sender<bool>,
    slots: Arc<Semaphore>,
    slots_max: usize,
    drain: Duration,
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    async fn after_a_signal(mut self, drain_delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(drain_delay) => {}
            // A second signal waits for nobody.
            _ = self.terminate.recv() => return,
            _ = self.interrupt.recv() => return,
        }
        // Nobody is left to receive this only if nobody runs any more.
        let _ = self.stop.send(true);
        let _ = self.end.send(true);
        tokio::select! {
            is_done = drained(&self.slots, self.slots_max, self.drain) => note_cut(is_done),
            // A second signal waits for nobody.
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn after_an_upgrade(mut self, former: &Former) {
        let _ = self.stop.send(true);
        tokio::select! {
            // Who idles is served until the next answer: a connection that closes meets a request on its way.
            is_done = drained(&self.slots, self.slots_max, self.drain) => note_cut(is_done),
            // What is known here may be wrong now.
            () = former.lost() => return,
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        let _ = self.end.send(true);
        drained(&self.slots, self.slots_max, GOODBYE_MAX).await;
        former.settle();
    }
}

/// One worker thread.
struct Worker {
    doors: Vec<(Bound, Arc<Entrance>)>,
    proxy: Arc<HttpProxy<Gateway>>,
    parts: Arc<Parts>,
    stopped: watch::Receiver<bool>,
    ended: watch::Receiver<bool>,
}

impl Worker {
    fn run(self, runtime: &Runtime) {
        let Self { doors, proxy, parts, stopped, ended } = self;
        runtime.block_on(async move {
            let streams = Arc::new(Streams::default());
            tokio::spawn(watch(streams.clone(), parts.clone()));
            let mut accepting = tokio::task::JoinSet::new();
            for (bound, entrance) in doors {
                let places = entrance.places.clone();
                let serving = Serving {
                    app: proxy.clone(),
                    parts: parts.clone(),
                    entrance,
                    streams: streams.clone(),
                    stopped: stopped.clone(),
                    ended: ended.clone(),
                    is_public: true,
                };
                accepting.spawn(bound.accept(places, move |accepted| serving.clone().start(accepted)));
            }
            let mut stopping = stopped.clone();
            let _ = stopping.wait_for(|stopped| *stopped).await;
            drop(accepting);
            // The thread lives on for what still runs; the process ends it.
            std::future::pending::<()>().await;
        });
    }
}

/// What every connection of a listener is served with.
struct Serving<A> {
    app: Arc<A>,
    parts: Arc<Parts>,
    entrance: Arc<Entrance>,
    streams: Arc<Streams>,
    /// Nothing new is taken on: what runs is finished.
    stopped: watch::Receiver<bool>,
    /// Connections on which nothing runs are closed.
    ended: watch::Receiver<bool>,
    /// Its number is one of the file's `listeners`; clients may speak HTTP/2.
    is_public: bool,
}

impl<A> Clone for Serving<A> {
    fn clone(&self) -> Self {
        Self {
            app: self.app.clone(),
            parts: self.parts.clone(),
            entrance: self.entrance.clone(),
            streams: self.streams.clone(),
            stopped: self.stopped.clone(),
            ended: self.ended.clone(),
            is_public: self.is_public,
        }
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Serving<A> {
    fn start(self, accepted: Accepted) {
        tokio::spawn(async move {
            self.parts.metrics.connections.inc();
            let snapshot = self.parts.snapshot.load_full();
            let peer = accepted.peer();
            let trusted = &snapshot.trusted_proxies;
            let opened = self.entrance.open(accepted, trusted, &self.streams, &self.ended).await;
            let terms = self.terms(&snapshot);
            // A connection may last longer than any configuration.
            drop(snapshot);
            match opened {
                Ok(Opened { wire, places }) => {
                    self.serve(wire, terms, places.1.as_ref()).await;
                    drop(places);
                }
                Err(refused) => self.parts.note_refused_connection(refused, peer),
            }
            self.parts.metrics.connections.dec();
        });
    }

    async fn serve(&self, wire: Box<Wire>, terms: Option<TlsTerms>, client: Option<&ClientPlace>) {
        let wire = match terms {
            // Boxed: connections without TLS need no room for a handshake.
            Some(terms) => Box::pin(self.secure(wire, &terms)).await,
            None => Some(wire),
        };
        if let Some(wire) = wire {
            let room = self.is_public.then(|| Room { places: &self.entrance.places, client });
            let Self { app, parts, entrance, stopped, ended, .. } = self;
            connection::serve(wire, app, entrance.timeouts, [stopped, ended], parts, room).await;
        }
    }

    /// What this listener accepts connections with.
    fn terms(&self, snapshot: &Snapshot) -> Option<TlsTerms> {
        if !self.is_public {
            return None;
        }
        snapshot.fronts.get(self.entrance.number)?.tls.clone()
    }

    /// Settles TLS. It may take as long as a head; a connection on which it fails is closed, counted, and told of now and then.
    async fn secure(&self, mut wire: Box<Wire>, terms: &TlsTerms) -> Option<Box<Wire>> {
        let mut watch = self.ended.clone();
        let stopped = async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = watch.wait_for(|stopped| *stopped).await;
        };
        tokio::pin!(stopped);
        let end = match wire.secure(terms, self.entrance.timeouts.head, stopped).await {
            Ok(()) => return Some(wire),
            Err(end) => end,
        };
        if let Some(reason) = end.reason() {
            self.parts.note_failed_handshake(wire.link(), reason);
        }
        if end == HandshakeEnd::PlainText {
            wire.answer_and_close(SPEAKS_TLS).await;
        }
        None
    }
}

fn proxy(parts: &Arc<Parts>, workers: usize, trusts_system: bool) -> HttpProxy<Gateway> {
    let settings = ServerConf {
        threads: workers,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: TRIES_MAX,
        ca_file: trust::authorities_file(trusts_system),
        ..ServerConf::default()
    };
    tls::install();
    http_proxy(&Arc::new(settings), Gateway::new(parts.clone()))
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()
}

/// Raises the soft limit of open files to the hard one and gives the number of connections that fit: each may need a second
/// one to an upstream.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
    let raised = Rlimit { current: Some(maximum), maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => limit.current.unwrap_or(1024),
    };
    let connections = (current.saturating_sub(DESCRIPTORS_RESERVED) / 2).max(16);
    tracing::info!(
        descriptors = current,
        descriptors_before = limit.current.unwrap_or(current),
        connections,
        "the limit of open files is {current}: room for {connections} connections"
    );
    usize::try_from(connections).unwrap_or(16)
}

/// Cuts a worker's streams whose session has ended, or that the configuration in force refuses.
async fn watch(streams: Arc<Streams>, parts: Arc<Parts>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let generation = parts.snapshot.load().generation;
        streams.look(&parts.sessions, generation, parts.clock.now());
    }
}

/// What happens now and then.
async fn housekeeping(parts: Arc<Parts>, clock: Arc<SystemClock>) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        sweep.tick().await;
        // Where another process decides, it also says when a deadline has passed.
        if !parts.sessions.follows() {
            parts.sweep(parts.clock.now());
        }
        parts.revoked.sweep(parts.clock.wall());
        fronts::look_at_staples(&parts.snapshot.load().fronts, parts.clock.wall());
        if let Some(step) = clock.step() {
            parts.note_clock_step(step);
        }
    }
}

/// Waits until every connection is gone or `drain` has passed; whether they are gone.
async fn drained(slots: &Semaphore, slots_max: usize, drain: Duration) -> bool {
    let all = u32::try_from(slots_max).unwrap_or(u32::MAX);
    tokio::time::timeout(drain, slots.acquire_many(all)).await.is_ok()
}

fn note_cut(is_done: bool) {
    if !is_done {
        tracing::warn!("exchanges still run after `drain`; they are cut");
    }
}

/// Resolves once another process has taken over, where one may: which.
async fn given(former: Option<&Former>) -> i32 {
    match former {
        Some(former) => former.given().await,
        None => std::future::pending().await,
    }
}
