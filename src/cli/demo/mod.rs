//! The demonstration: the gateway before a small application, with two users and nothing else to set up.
//!
//! Its files go into a folder of their own, which is removed at the end unless the person named one. A folder that was
//! written before is used as it is, with the users' old passwords.

pub(crate) mod app;
pub(crate) mod files;

use super::{DemoArgs, Failure, print};
use crate::app as server;
use crate::auth::password;
use crate::proxy::settings::Place as ServerPlace;
use files::{Addresses, FilesError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// The port to open in the browser.
const PORT: u16 = 8080;
/// The operator's door, unless something else is there.
const ADMIN_PORT: u16 = 9901;

/// Serves the demonstration until Ctrl-C.
pub(super) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let folder = Place::of(args)?;
    let config = folder.path().join("vestibule.yaml");
    let upstream = match upstream_of(&config) {
        Some(address) => TcpListener::bind(address).map_err(Failure::failed)?,
        None => bind(0).map_err(Failure::failed)?,
    };
    let port = args.port.unwrap_or(PORT);
    let addresses = Addresses {
        listener: loopback(port),
        admin: bind(ADMIN_PORT)
            .or_else(|_| bind(0))
            .and_then(|free| free.local_addr())
            .map_err(Failure::failed)?,
        upstream: upstream.local_addr().map_err(Failure::failed)?,
    };
    let hash =
        |secret: &_| password::hash(secret).expect("the system gave random bytes for the password itself");
    let greeting = match files::write(folder.path(), addresses, hash) {
        Ok(written) => written.greeting(),
        Err(FilesError::Exists(_)) if config.exists() => {
            format!(
                "\n  The files in {} are used as they are.\n  Ctrl-C ends the demonstration.\n",
                folder.path().display()
            )
        }
        Err(error) => return Err(Failure::failed(error)),
    };
    let ready = server::start(&config, server::Origin::Nothing).map_err(|error| match error {
        server::StartError::Bind { .. } => {
            Failure::failed(format!("{error} Name another port with `--port`."))
        }
        other => Failure::failed(other),
    })?;
    let (stop, stopped) = watch::channel(false);
    let application = std::thread::spawn(move || serve_application(upstream, stopped));
    print(&greeting)?;
    let served = ready.serve().map_err(Failure::failed);
    // The application ends after the gateway; it may have ended by itself.
    let _ = stop.send(true);
    let _ = application.join();
    served
}

fn serve_application(listener: TcpListener, stopped: watch::Receiver<bool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        app::serve(tokio::net::TcpListener::from_std(listener)?, stopped).await;
        Ok(())
    })
}

/// Where the application listens according to a folder that was written before.
fn upstream_of(config: &Path) -> Option<SocketAddr> {
    let (config, _) = crate::config::load(config, &|name| std::env::var(name).ok()).ok()?;
    match &config.upstreams.first()?.servers.first()?.place {
        ServerPlace::Net { host, port, .. } => Some(SocketAddr::new(host.parse().ok()?, *port)),
        ServerPlace::Unix(_) => None,
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(loopback(port))
}

/// The folder, and whether it goes away at the end.
enum Place {
    Kept(PathBuf),
    Passing(PathBuf),
}

impl Place {
    fn of(args: &DemoArgs) -> Result<Self, Failure> {
        if let Some(folder) = &args.folder {
            return Ok(Self::Kept(folder.clone()));
        }
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).map_err(Failure::failed)?;
        let name = format!("vestibule-demo-{:016x}", u64::from_le_bytes(bits));
        Ok(Self::Passing(std::env::temp_dir().join(name)))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Passing(path) => path,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Passing(path) = self {
            // What cannot be removed stays in the system's folder for such things.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
