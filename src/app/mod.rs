//! Configuration → parts → a running server.
//!
//! [`start`] loads, checks, builds and binds everything before anything runs; [`Ready::serve`] then runs it. A reload goes the
//! same way through [`reload::Reloader`] and swaps the result in one step.

pub(crate) mod build;
mod care;
mod clock;
mod control;
mod durable;
pub mod explain;
mod fronts;
mod reload;
mod server;
mod supervisor;
pub(crate) mod upgrade;
pub(crate) mod wording;

use crate::admin::Door as AdminDoor;
use crate::app::clock::SystemClock;
use crate::app::control::OperatorControl;
use crate::app::reload::Reloader;
use crate::app::server::{Door, Server, Signals};
use crate::app::supervisor::Sockets;
use crate::app::upgrade::{Copied, Former, Given, Offer, UpgradeError};
use crate::auth::issuer::Surroundings;
use crate::config::Config;
use crate::domain::time::{Clock, Timestamp};
use crate::net::listener::Bound;
use crate::net::{Address, ConnectionLimits, Timeouts, tls};
use crate::proxy::parts::{Paces, Parts};
use crate::proxy::settings::{ListenerSettings, UpstreamSettings};
use crate::store::journal::Journal;
use crate::store::sqlite::{OpenError, SqliteFile, SqliteStore};
use crate::store::table::Table;
use crate::telemetry::{self, AuditEvent, AuditLine, Logs, Metrics};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// How long the last log lines may take to be written.
const LOG_FLUSH_MAX: Duration = Duration::from_secs(2);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file, or a file that it names, has problems; all of them are listed.
    #[error("{0}")]
    Config(String),
    /// An address could not be bound.
    #[error("{address}: {error}; is another process listening there?")]
    Bind {
        /// The address as the file says it.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// A socket that was passed to the process lets others in.
    #[error(
        "{address}: the socket that was passed is open to other users; write SocketMode=0600 in its unit"
    )]
    OpenSocket {
        /// The address as the file says it.
        address: String,
    },
    /// A log could not be opened.
    #[error(transparent)]
    Log(#[from] telemetry::OpenError),
    /// The session store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Nothing could be taken over from the process that serves.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// The system refused a thread or a runtime.
    #[error("the system refused a thread: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// Whether the remedy is in the file: exit code 2.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_))
    }
}

/// A server that has everything it needs and serves nobody yet.
pub struct Ready {
    server: Server<AdminDoor>,
    parts: Arc<Parts>,
    store: Option<Arc<SqliteStore>>,
}

/// The wall clock, for commands that judge a token.
pub(crate) fn wall_clock() -> Timestamp {
    SystemClock::start().wall()
}

/// Where a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody serves yet.
    Nothing,
    /// From the process that serves, which it replaces.
    Running,
}

/// Loads `file`, builds what it says and binds the addresses, or takes them over. When this returns, a process from which it
/// took over serves no more.
pub fn start(file: &Path, origin: Origin) -> Result<Ready, StartError> {
    tls::install();
    let metrics = Arc::new(Metrics::new());
    let mut sockets = Sockets::of_process()?;
    let loaded = build::load(file).map_err(StartError::Config)?;
    let config = loaded.config.clone();
    let place = upgrade::place_of(&config.sessions.store);
    let mut offer = (origin == Origin::Running).then(|| offer(&config, &place)).transpose()?;
    // First of all, for it says how late it is, and is held against a second process. One that is still written is opened last.
    let kept = if offer.is_none() { durable::open(&config)? } else { None };
    let clock = Arc::new(match &offer {
        Some(offer) => SystemClock::going_on(offer.clock),
        None => SystemClock::start_after(kept.as_ref().map(SqliteFile::latest).unwrap_or_default()),
    });
    let seen = reload::digest(&config.files);
    let logs = Arc::new(Logs::start(&config.logs, &metrics)?);
    // Fails only if this process has installed one before; the first stays in force.
    let _ = telemetry::events::install(&logs, clock.clone());
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let signals = Signals::listen()?;
    if let Some(offer) = &mut offer {
        sockets.hand_over(std::mem::take(&mut offer.listeners));
    }
    // The operator's door first: who can reach the gateway can reach it as well.
    let admin = config.admin.as_ref().map(|admin| sockets.bind(&admin.address)).transpose()?;
    let probes = config.probes.as_ref().map(|probes| sockets.bind(&probes.address)).transpose()?;
    let public = bind_public(&config, &mut sockets)?;
    let asked_on =
        config.upgrade.as_ref().map(|socket| bind_for_upgrades(socket, &mut sockets)).transpose()?;
    sockets.warn_of_unused();
    let trusts_system = config.upstreams.iter().any(UpstreamSettings::trusts_system);
    let around = Surroundings { runtime: signals.runtime(), clock: clock.clone() };
    let builder = build::Builder::start(metrics.clone(), trusts_system, around)?;
    let now = clock.now();
    let snapshot = builder.build(loaded, None, 1);
    let store = kept.map(|kept| durable::start(kept, &clock, &metrics, &logs)).transpose()?;
    let journal = store.clone().map(|store| store as Arc<dyn Journal>);
    let parts = Arc::new(Parts {
        paces: Paces::default(),
        snapshot: ArcSwap::from_pointee(snapshot),
        sessions: Table::new(config.sessions.limits, config.sessions.clocks, journal),
        revoked: builder.revoked.clone(),
        proofs: builder.proofs.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        logs,
        draining: AtomicBool::new(false),
    });
    let is_first = offer.is_none();
    let (alone, is_alone) = watch::channel(is_first);
    let store = match offer {
        Some(offer) => take_over(offer, &config, &parts, &clock, alone)?,
        None => store,
    };
    if let Some(store) = store.as_ref().filter(|_| is_first) {
        durable::load(store, &parts)?;
        durable::load_revocations(store, &parts)?;
    }
    metrics.config_loaded(1, now);
    let reloader = Arc::new(Reloader::new(file, parts.clone(), builder, &config, seen, store.clone()));
    let control = Arc::new(OperatorControl::new(parts.clone(), reloader.clone()));
    let inner = inner_doors(&config, (admin, probes), &reloader, control, &clock);
    let upgrade = match asked_on {
        Some(socket) => {
            let listeners = named_listeners(&public, &inner, &socket)?;
            let former = Former {
                parts: parts.clone(),
                clock: clock.clone(),
                store: store.clone(),
                reloader: reloader.clone(),
                place,
                listeners: Mutex::new(listeners),
                program: std::env::current_exe(),
                file: file.to_owned(),
                alone: is_alone,
                given: Given::default(),
            };
            Some((Arc::new(former), socket))
        }
        None => None,
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let server = Server {
        signals,
        parts: parts.clone(),
        clock,
        public,
        inner,
        reloader,
        drain: config.drain,
        drain_delay: config.drain_delay,
        workers,
        upgrade,
        trusts_system,
    };
    Ok(Ready { server, parts, store })
}

/// The operator's door and the probes, where they are bound.
fn inner_doors(
    config: &Config,
    (admin, probes): (Option<Bound>, Option<Bound>),
    reloader: &Reloader,
    control: Arc<OperatorControl>,
    clock: &Arc<SystemClock>,
) -> Vec<(Door, Arc<AdminDoor>)> {
    let mut inner = Vec::new();
    if let (Some(settings), Some(bound)) = (&config.admin, admin) {
        let door = Arc::new(AdminDoor::admin(settings, control.clone(), clock.clone()));
        reloader.set_admin(door.clone());
        inner.push((inner_door(bound), door));
    }
    if let Some(bound) = probes {
        let door = Arc::new(AdminDoor::probes(control, clock.clone()));
        inner.push((inner_door(bound), door));
    }
    inner
}

fn offer(config: &Config, place: &str) -> Result<Offer, UpgradeError> {
    upgrade::ask(config.upgrade.as_ref().ok_or(UpgradeError::Off)?, place)
}

fn bind_public(config: &Config, sockets: &mut Sockets) -> Result<Vec<Door>, StartError> {
    let bind = |listener: &ListenerSettings| {
        let bound = sockets.bind(&Address::Tcp(listener.address))?;
        Ok(Door {
            bound,
            timeouts: listener.timeouts,
            connections: listener.connections,
            proxy_protocol: listener.proxy_protocol,
        })
    };
    config.listeners.iter().map(bind).collect()
}

/// The socket on which a process asks that is to take over.
fn bind_for_upgrades(socket: &Path, sockets: &mut Sockets) -> Result<UnixListener, StartError> {
    upgrade::private_folder(socket)?;
    let address = Address::Unix(socket.to_owned());
    match sockets.bind(&address)? {
        Bound::Unix(bound) => Ok(bound),
        Bound::Tcp(_) => Err(StartError::OpenSocket { address: address.to_string() }),
    }
}

/// Everything that listens, by names that tell what it is.
fn named_listeners(
    public: &[Door],
    inner: &[(Door, Arc<AdminDoor>)],
    upgrade: &UnixListener,
) -> io::Result<Vec<(String, Bound)>> {
    let doors = public.iter().chain(inner.iter().map(|(door, _)| door));
    let named = doors.map(|door| {
        let bound = door.bound.try_clone()?;
        let name = bound.local_address()?.map_or("unix:".to_owned(), |address| address.to_string());
        Ok((name, bound))
    });
    let own = upgrade.try_clone().map(|socket| ("unix:".to_owned(), Bound::Unix(socket)));
    named.chain([own]).collect()
}

/// Takes the sessions over; gives the store that was opened for them. From then on the process before serves no more.
fn take_over(
    offer: Offer,
    config: &Config,
    parts: &Arc<Parts>,
    clock: &Arc<SystemClock>,
    alone: watch::Sender<bool>,
) -> Result<Option<Arc<SqliteStore>>, StartError> {
    let files = durable::Files::of(&parts.snapshot.load());
    let copied: Copied = offer.copy(parts, |session| !files.say_the_same(session))?;
    let kept = durable::open(config)?;
    let store = kept.map(|kept| durable::start(kept, clock, &parts.metrics, &parts.logs)).transpose()?;
    if let Some(store) = &store {
        durable::load_revocations(store, parts)?;
    }
    let others = copied.others.clone();
    let successor = copied.take(parts, store.as_ref())?;
    successor.decide(parts.clone(), store.clone(), alone)?;
    files.apply(&others, parts);
    let sessions = parts.sessions.live() + parts.sessions.anonymous_live();
    tracing::info!(sessions, "sessions, clock and listeners of the process before are taken over");
    Ok(store)
}

impl Ready {
    /// The addresses of the public listeners as bound, in file order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.server.public.iter().map(|door| door.bound.local_address());
        addresses.filter_map(Result::ok).flatten().collect()
    }

    /// Serves until a signal ends it; then flushes the session store and the logs.
    pub fn serve(self) -> io::Result<()> {
        let Self { server, parts, store } = self;
        let note = |event| parts.logs.audit(&AuditLine::new(parts.clock.now(), event));
        note(AuditEvent::Started);
        let served = server.run();
        if let Some(store) = store {
            durable::stop(&store);
        }
        note(AuditEvent::Stopped);
        parts.logs.stop(LOG_FLUSH_MAX);
        served
    }
}

/// A door that no stranger should find.
fn inner_door(bound: Bound) -> Door {
    let connections = ConnectionLimits { max: None, max_per_client: Some(u32::MAX) };
    Door { bound, timeouts: Timeouts::default(), connections, proxy_protocol: false }
}
