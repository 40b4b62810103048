//! What a supervisor such as systemd tells us and is told: sockets that were opened for us, and how far we are.
//!
//! A process without one notices nothing: there are no sockets and nobody listens.

use crate::app::StartError;
use crate::net::Address;
use crate::net::listener::{self, Bound};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::io;
use std::os::unix::fs::PermissionsExt;

/// Sockets that are open already, each to be taken once: passed by the supervisor (`sd_listen_fds(3)`), or by the process that
/// this one takes over from.
pub(super) struct Sockets {
    passed: Vec<Bound>,
    handed_over: Vec<Bound>,
}

impl Sockets {
    /// Those of the process. To be called before there is a second thread, once: the environment forgets them.
    pub(super) fn of_process() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..passed.len() {
            // Of another kind than asked for is an error of that question; the socket stays.
            let bound = match passed.take_tcp_listener(number) {
                Ok(Some(socket)) => Bound::Tcp(socket),
                _ => match passed.take_unix_listener(number)? {
                    Some(socket) => Bound::Unix(socket),
                    None => continue,
                },
            };
            bound.set_nonblocking()?;
            sockets.push(bound);
        }
        Ok(Self { passed: sockets, handed_over: Vec::new() })
    }

    /// Those of the process before.
    pub(super) fn hand_over(&mut self, sockets: Vec<Bound>) {
        self.handed_over = sockets;
    }

    /// The socket that was passed for this address; a fresh one where none was.
    pub(super) fn bind(&mut self, address: &Address) -> Result<Bound, StartError> {
        let passed = [&mut self.handed_over, &mut self.passed].into_iter().find_map(|sockets| {
            let at = sockets.iter().position(|socket| is_at(socket, address))?;
            Some(sockets.swap_remove(at))
        });
        let Some(passed) = passed else {
            return listener::bind(address)
                .map_err(|error| StartError::Bind { address: address.to_string(), error });
        };
        if let Address::Unix(path) = address
            && std::fs::metadata(path).is_ok_and(|held| held.permissions().mode() & 0o077 != 0)
        {
            return Err(StartError::OpenSocket { address: address.to_string() });
        }
        Ok(passed)
    }

    /// Those that the file has no use for.
    pub(super) fn warn_of_unused(&self) {
        for socket in &self.handed_over {
            tracing::info!(
                ?socket,
                "a socket of the process before is at no address of the file, and is closed"
            );
        }
        for socket in &self.passed {
            tracing::warn!(
                ?socket,
                "a socket that was passed to this process is at no address of the file; make both the same"
            );
        }
    }
}

fn is_at(socket: &Bound, address: &Address) -> bool {
    match (socket, address) {
        (Bound::Tcp(socket), Address::Tcp(address)) => socket.local_addr().is_ok_and(|held| held == *address),
        (Bound::Unix(socket), Address::Unix(path)) => {
            let held = socket.local_addr().ok();
            let held = held.as_ref().and_then(|held| held.as_pathname()?.canonicalize().ok());
            held.is_some() && held == path.canonicalize().ok()
        }
        _ => false,
    }
}

/// Everything is loaded and bound: whoever waits for us may go on.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The file is being read again; [`ready`] follows, whatever comes of it.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Another process has taken over: it is the one to watch and to signal from now on. Nothing may be told after this.
pub(super) fn given_to(process: i32) {
    if let Ok(process) = u32::try_from(process) {
        tell(&[NotifyState::MainPid(process)]);
    }
}

/// Nothing new is taken on.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor named by NOTIFY_SOCKET cannot be told how far this process is");
    }
}
