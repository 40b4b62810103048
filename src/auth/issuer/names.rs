//! Names of issuers, looked up by the system, one at a time.
//!
//! The system's resolver blocks a thread for as long as it likes, and the few threads for such work also carry reloads: however
//! many questions wait for a name, they take one. Whoever waits does so within the time of its question.

use crate::auth::issuer::url::is_own_name;
use hyper_util::client::legacy::connect::dns::Name;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tower_service::Service;

/// Look-ups under way, of all issuers together.
static PLACES: Semaphore = Semaphore::const_new(1);
/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 16;

/// Asks the system's resolver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names;

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let place = PLACES.acquire().await.map_err(io::Error::other)?;
            let found = tokio::task::spawn_blocking(move || {
                // Held by the thread: whoever asked may be gone long before the resolver answers.
                let _place = place;
                let found = (name.as_str(), 0).to_socket_addrs()?;
                Ok(believed(name.as_str(), found).into_iter())
            });
            found.await.map_err(io::Error::other)?
        })
    }
}

/// The addresses that count. A name of this machine leads nowhere else, whatever a resolver says: it is asked in plain text.
fn believed(name: &str, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let is_own = is_own_name(&name.to_ascii_lowercase());
    found.filter(|address| !is_own || address.ip().is_loopback()).take(ADDRESSES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_this_machine_leads_nowhere_else() {
        let all: Vec<SocketAddr> = ["192.0.2.1:0", "127.0.0.1:0", "[::1]:0", "[2001:db8::1]:0"]
            .map(|text| text.parse().expect("an address"))
            .to_vec();
        for (name, expected) in [
            ("localhost", &all[1..3]),
            ("ID.LocalHost", &all[1..3]),
            ("id.example.com", &all[..]),
            ("localhost.example.com", &all[..]),
        ] {
            assert_eq!(believed(name, all.iter().copied()), expected, "{name}");
        }
        assert_eq!(believed("id.example.com", all.iter().copied().cycle()).len(), ADDRESSES_MAX);
    }
}
