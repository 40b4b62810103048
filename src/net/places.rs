//! How many connections a listener has at once: in all, and of one client.
//!
//! Where all places are taken, accepting waits and the kernel's queue holds the rest. Where one client has as many as it may,
//! its next connection is closed at once: a wait would be everybody's.

use crate::domain::clients::visitor_network;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one listener.
#[derive(Debug)]
pub struct Places {
    /// Those of this listener, where it has a bound of its own.
    own: Option<Arc<Semaphore>>,
    /// Those of the process.
    all: Arc<Semaphore>,
    /// Absent: nobody counts clients.
    per_client_max: Option<u32>,
    /// Open connections by client; one that has none is not in here.
    clients: Mutex<HashMap<IpAddr, u32>>,
}

/// A place that a connection has taken; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// One of the places that a client may have; given back when dropped.
#[derive(Debug)]
pub struct ClientPlace {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    /// Places out of `all`, at most `max` of them, and `per_client_max` for one client.
    pub fn new(all: Arc<Semaphore>, max: Option<usize>, per_client_max: Option<u32>) -> Self {
        let own = max.map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))));
        Self { own, all, per_client_max, clients: Mutex::default() }
    }

    /// Waits for a free place; nothing if there will be none any more.
    pub async fn wait(&self) -> Option<Place> {
        // The listener's own first: who waits for it takes nothing from others.
        let own = match &self.own {
            Some(own) => Some(own.clone().acquire_owned().await.ok()?),
            None => None,
        };
        Some(Place { _own: own, _all: self.all.clone().acquire_owned().await.ok()? })
    }

    /// A place for one more connection of the client with this address.
    ///
    /// # Errors
    ///
    /// [`ClientFull`]: it has as many as it may.
    pub fn of_client(self: &Arc<Self>, address: IpAddr) -> Result<Option<ClientPlace>, ClientFull> {
        let Some(max) = self.per_client_max else { return Ok(None) };
        let client = visitor_network(address);
        let mut clients = self.clients.lock();
        let count = clients.entry(client).or_default();
        if *count >= max {
            return Err(ClientFull);
        }
        *count += 1;
        drop(clients);
        Ok(Some(ClientPlace { places: self.clone(), client }))
    }
}

/// Where the exchanges take their places that run at once on one connection, beside the first.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// The listener's places.
    pub places: &'a Places,
    /// The connection's own place among its client's, where clients are counted.
    pub client: Option<&'a ClientPlace>,
}

/// The places of one such exchange; given back when dropped.
pub type Beside = (Place, Option<ClientPlace>);

impl Room<'_> {
    /// Places for one more exchange; nothing if there are none now. Nobody waits here: the client may ask again.
    pub fn take(&self) -> Option<Beside> {
        let own = match &self.places.own {
            Some(own) => Some(own.clone().try_acquire_owned().ok()?),
            None => None,
        };
        let place = Place { _own: own, _all: self.places.all.clone().try_acquire_owned().ok()? };
        let client = match self.client {
            Some(held) => held.places.of_client(held.client).ok()?,
            None => None,
        };
        Some((place, client))
    }
}

/// A client has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFull;

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut clients = self.places.clients.lock();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: Option<usize>, per_client_max: Option<u32>) -> Arc<Places> {
        Arc::new(Places::new(Arc::new(Semaphore::new(5)), max, per_client_max))
    }

    #[test]
    fn exchanges_take_places_like_connections() {
        let places = places(Some(4), Some(3));
        let address = "192.0.2.1".parse().expect("an address");
        let held = places.of_client(address).expect("free").expect("clients are counted");
        let room = Room { places: &places, client: Some(&held) };
        let taken = (room.take().expect("free"), room.take().expect("free"));
        assert!(room.take().is_none(), "the client has three");
        let nobodys = Room { places: &places, client: None };
        let others = (nobodys.take().expect("free"), nobodys.take().expect("free"));
        assert!(nobodys.take().is_none(), "the listener has four");
        drop((taken, others));
        assert!(room.take().is_some());
        assert_eq!(places.all.available_permits(), 5);
    }

    #[tokio::test]
    async fn places_come_back_and_a_listener_takes_no_more_than_its_own() {
        let places = places(Some(2), None);
        let first = places.wait().await.expect("free");
        let _second = places.wait().await.expect("free");
        let mut third = Box::pin(places.wait());
        assert!(futures_are_pending(&mut third).await);
        drop(first);
        assert!(third.await.is_some());
        assert_eq!(places.all.available_permits(), 4, "the third gave its place back");
    }

    async fn futures_are_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }

    #[test]
    fn a_client_has_so_many_and_nobody_else_notices() {
        let places = places(None, Some(2));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let take =
            |text: &str| places.of_client(address(text)).map(|place| place.expect("clients are counted"));
        let first = take("2001:db8::1").expect("the first");
        let second = take("2001:db8::2").expect("the second of the same /64");
        assert_eq!(take("2001:db8::3").map(drop), Err(ClientFull));
        let other = take("2001:db8:0:1::1").expect("another client");
        drop(first);
        drop(take("2001:db8::3").expect("one was given back"));
        drop(second);
        drop(other);
        assert!(places.clients.lock().is_empty(), "nobody is remembered who has none");
    }
}
