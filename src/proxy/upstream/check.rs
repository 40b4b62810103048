//! Asking servers whether they are well: one small request each, over a connection of its own, spoken as the traffic is.

use super::{Endpoint, Upstream};
use crate::domain::time::Clock;
use crate::proxy::settings::{HealthSettings, Place, UpstreamHost};
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Method, Version};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// So many servers of one upstream are asked at once.
const AT_ONCE_MAX: usize = 16;
/// By how much a pause between two questions is made longer or shorter, so that several gateways do not ask together: a
/// tenth.
const JITTER: u32 = 10;
/// The shortest pause between two looks at what is due.
const LOOK_MIN: Duration = Duration::from_millis(10);

impl Upstream {
    /// Whether its servers are asked how they are.
    pub(crate) fn is_watched(&self) -> bool {
        self.health.is_some()
    }

    /// Asks the servers again and again; ends at once where the file does not say so.
    pub(crate) async fn watch(&self, connector: &Arc<Connector>, clock: &Arc<dyn Clock>) {
        let Some(health) = &self.health else { return };
        let health = Arc::new(health.clone());
        loop {
            let now = clock.ticks();
            let endpoints = self.field.load().endpoints.clone();
            let mut asking = JoinSet::new();
            let mut next = health.interval;
            for endpoint in endpoints {
                let due =
                    endpoint.state.health(|state| state.checked_at).map(|at| at + spread(health.interval));
                match due {
                    Some(due) if due > now => next = next.min(due.saturating_sub(now)),
                    _ => {
                        if asking.len() >= AT_ONCE_MAX {
                            asking.join_next().await;
                        }
                        endpoint.state.health(|state| state.checked_at = Some(now));
                        asking.spawn(self.ask(endpoint, health.clone(), connector.clone(), clock.clone()));
                    }
                }
            }
            while asking.join_next().await.is_some() {}
            let passed = clock.ticks().saturating_sub(now);
            tokio::time::sleep(next.saturating_sub(passed).max(LOOK_MIN)).await;
        }
    }

    fn ask(
        &self,
        endpoint: Arc<Endpoint>,
        health: Arc<HealthSettings>,
        connector: Arc<Connector>,
        clock: Arc<dyn Clock>,
    ) -> impl Future<Output = ()> + use<> {
        let host = self.host_for_checks(&endpoint, &health);
        async move {
            let asked = tokio::time::timeout(health.timeout, question(&endpoint, &health, host, &connector));
            let cause = match asked.await {
                Ok(Ok(())) => None,
                Ok(Err(cause)) => Some(cause),
                Err(_) => Some("no answer in time".to_owned()),
            };
            let now = clock.ticks();
            let change = endpoint.state.health(|state| {
                state.checked(cause.is_none(), now, health.unhealthy_after, health.healthy_after)
            });
            endpoint.tell(change, &cause.unwrap_or_default());
        }
    }

    fn host_for_checks(&self, endpoint: &Endpoint, health: &HealthSettings) -> HeaderValue {
        let of_server = || match &self.servers[endpoint.server].place {
            Place::Net { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        };
        let text = match (&health.host, &self.host) {
            (Some(host), _) => host.clone(),
            (None, UpstreamHost::Send(host)) => return host.clone(),
            (None, UpstreamHost::Keep) => of_server(),
        };
        // Hosts of the file were checked; they have no other characters.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

/// One question; the error says why the answer is not a good one.
async fn question(
    endpoint: &Endpoint,
    health: &HealthSettings,
    host: HeaderValue,
    connector: &Connector,
) -> Result<(), String> {
    let told = |error: Box<pingora::Error>| error.to_string();
    let mut peer = endpoint.peer.clone();
    // Then pingora keeps no connection for the next question.
    peer.options.max_h2_streams = 1;
    let (mut session, _) = connector.get_http_session(&peer).await.map_err(told)?;
    let mut head = RequestHeader::build(Method::GET, health.path.as_bytes(), Some(4)).map_err(told)?;
    head.insert_header(USER_AGENT, concat!("vestibule/", env!("CARGO_PKG_VERSION"))).map_err(told)?;
    if let HttpSession::H2(_) = session {
        let scheme = if endpoint.peer.is_tls() { "https" } else { "http" };
        let uri = format!("{scheme}://{}{}", host.to_str().unwrap_or_default(), health.path);
        head.set_uri(uri.parse().map_err(|_| "the path of `health` makes no target".to_owned())?);
        head.set_version(Version::HTTP_2);
    } else {
        head.insert_header(HOST, host).map_err(told)?;
        head.insert_header(CONNECTION, "close").map_err(told)?;
    }
    session.write_request_header(Box::new(head)).await.map_err(told)?;
    session.finish_request_body().await.map_err(told)?;
    loop {
        session.read_response_header().await.map_err(told)?;
        let Some(answer) = session.response_header() else { return Err("no answer".to_owned()) };
        if !answer.status.is_informational() {
            return if health.accepts(answer.status) {
                Ok(())
            } else {
                Err(format!("status {}", answer.status.as_u16()))
            };
        }
    }
}

/// A span a tenth longer or shorter by chance.
fn spread(span: Duration) -> Duration {
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    let part = span / JITTER;
    let more = part * 2 * (chance >> 16) / (1 << 16);
    span.saturating_sub(part) + more
}
