//! Looking after upstreams: names are looked up again, servers are asked whether they are well.
//!
//! Each configuration has tasks of its own, which end when the next one is in force; what they found lives on in the servers'
//! states.

use crate::domain::time::Clock;
use crate::proxy::parts::Parts;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::upstream::{names, trust};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Threads that wait for the resolver; reloads need some of the same pool.
const LOOK_UPS_MAX: usize = 2;
/// How often it is looked whether another configuration is in force.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after the upstreams of whatever configuration is in force, to the end of the process. `trusts_system`: some of them
/// is proved by what the system trusts.
pub(super) async fn care(parts: Arc<Parts>, trusts_system: bool) {
    let mut connector: Option<Arc<Connector>> = None;
    let few = Arc::new(Semaphore::new(LOOK_UPS_MAX));
    loop {
        let snapshot = parts.snapshot.load_full();
        let mut tasks = JoinSet::new();
        tasks.spawn(look_up(snapshot.clone(), few.clone()));
        let watched = snapshot.upstreams.iter().enumerate().filter(|(_, upstream)| upstream.is_watched());
        for (number, _) in watched {
            let connector = connector.get_or_insert_with(|| connect(trusts_system));
            tasks.spawn(watch(snapshot.clone(), number, connector.clone(), parts.clock.clone()));
        }
        while parts.snapshot.load().generation == snapshot.generation {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn connect(trusts_system: bool) -> Arc<Connector> {
    let options =
        ConnectorOptions { ca_file: trust::authorities_file(trusts_system), ..ConnectorOptions::new(0) };
    Arc::new(Connector::new(Some(options)))
}

async fn look_up(snapshot: Arc<Snapshot>, few: Arc<Semaphore>) {
    names::look_up_always(&snapshot.upstreams, &few).await;
}

async fn watch(snapshot: Arc<Snapshot>, number: usize, connector: Arc<Connector>, clock: Arc<dyn Clock>) {
    snapshot.upstreams[number].watch(&connector, &clock).await;
}
