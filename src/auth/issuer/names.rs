//! Names of issuers, looked up by the system, one at a time.
//!
//! The system's resolver blocks a thread for as long as it likes, and the few threads for such work also carry reloads: however
//! many questions wait for a name, they take one. Whoever waits does so within the time of its question.

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
                Ok(found.take(ADDRESSES_MAX).collect::<Vec<_>>().into_iter())
            });
            found.await.map_err(io::Error::other)?
        })
    }
}
