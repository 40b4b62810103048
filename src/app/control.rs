//! What the operator's door may do with the process.

use crate::admin::{Control, OpenError, OpenRequest, Opened, ServerState};
use crate::app::reload::Reloader;
use crate::domain::decision::Rejection;
use crate::domain::session::{End, Session};
use crate::domain::target::Host;
use crate::domain::time::Timestamp;
use crate::proxy::parts::{NewSession, Parts};
use crate::proxy::settings::External;
use crate::proxy::snapshot::Snapshot;
use crate::store::table::Table;
use crate::telemetry::{AuditEvent, AuditLine};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Implements [`Control`] over the running parts.
pub(super) struct OperatorControl {
    parts: Arc<Parts>,
    reloader: Arc<Reloader>,
}

impl OperatorControl {
    pub(super) fn new(parts: Arc<Parts>, reloader: Arc<Reloader>) -> Self {
        Self { parts, reloader }
    }
}

impl Control for OperatorControl {
    fn sessions(&self) -> &Table {
        &self.parts.sessions
    }

    fn open_session(&self, request: OpenRequest, now: Timestamp) -> Result<Opened, OpenError> {
        let snapshot = self.parts.snapshot.load_full();
        let way = way_of(&snapshot, request.sign_in.as_deref())?;
        let users = snapshot.ways[way].users();
        // For a password way what stands in its file counts, not what the request claims.
        let user = users.find(&request.subject).ok_or_else(|| {
            OpenError::Unfit(format!("`{}` is not in the users file of this way to sign in", request.subject))
        })?;
        let (host, outside) = host_of(&snapshot, request.host.as_deref())?;
        let new = NewSession {
            way,
            identity: user.identity(),
            scope: snapshot.scope(outside, &host),
            client: request.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            user_agent: "",
            request_id: "",
        };
        match self.parts.open_session(&snapshot, &new, now) {
            Ok((session, cookie_value)) => {
                Ok(Opened { session, cookie_name: snapshot.cookie_name(outside).to_owned(), cookie_value })
            }
            Err(Rejection::SessionsFull) => Err(OpenError::Full),
            Err(rejection) => Err(OpenError::Unfit(rejection.to_string())),
        }
    }

    fn reload(&self) -> Result<String, String> {
        self.reloader.reload()
    }

    fn state(&self) -> ServerState {
        self.reloader.server_state()
    }

    fn metrics(&self) -> String {
        let metrics = &self.parts.metrics;
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.sessions_live.set(gauge(self.parts.sessions.live()));
        metrics.sessions_capacity.set(gauge(self.parts.sessions.capacity()));
        metrics.password_queue.set(gauge(self.reloader.password_queue()));
        metrics.render()
    }

    fn ended(&self, sessions: &[Session], end: End, client: Option<IpAddr>) {
        self.parts.note_ended(sessions, end, client, None, self.parts.clock.now());
    }

    fn refused(&self, reason: &'static str, client: Option<IpAddr>) {
        let line = AuditLine::new(self.parts.clock.now(), AuditEvent::AdminRefused);
        self.parts.logs.audit(&AuditLine { client, reason: Some(reason), ..line });
    }
}

fn way_of(snapshot: &Snapshot, name: Option<&str>) -> Result<usize, OpenError> {
    match (name, snapshot.ways.len()) {
        (Some(name), _) => snapshot
            .ways
            .iter()
            .position(|way| way.settings().name == name)
            .ok_or_else(|| OpenError::Unfit(format!("`{name}` is not a way to sign in"))),
        (None, 1) => Ok(0),
        (None, _) => Err(OpenError::Unfit(
            "there is more than one way to sign in, or none; name it in `sign_in`".into(),
        )),
    }
}

/// The host that the cookie is for, and what browsers see of it.
fn host_of(snapshot: &Snapshot, named: Option<&str>) -> Result<(String, External), OpenError> {
    let first = snapshot.outside.first().copied().unwrap_or(External { https: true, port: 443 });
    if let Some(named) = named {
        let host = Host::parse(named.as_bytes())
            .map_err(|_| OpenError::Unfit(format!("`{named}` is not a host name")))?;
        if !snapshot.routes.knows_host(host.name()) {
            return Err(OpenError::Unfit(format!("no route matches the host `{named}`")));
        }
        return Ok((host.name().to_owned(), first));
    }
    if let Some((host, outside)) = &snapshot.external_url {
        return Ok((host.clone(), *outside));
    }
    match snapshot.hosts.as_slice() {
        [host] => Ok((host.clone(), first)),
        _ => Err(OpenError::Unfit("routes have more than one host, or none; name one in `host`".into())),
    }
}
