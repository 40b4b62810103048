//! What outlives a configuration, and what is done with it: sessions opened and ended, with their audit lines.

use crate::domain::decision::Rejection;
use crate::domain::identity::Identity;
use crate::domain::secret::Secret;
use crate::domain::session::{End, Opening, ScopeId, Session, SessionId};
use crate::domain::time::{Clock, Timestamp};
use crate::proxy::snapshot::Snapshot;
use crate::store::table::Table;
use crate::telemetry::{AuditEvent, AuditLine, Logs, Metrics};
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything that exchanges share.
pub struct Parts {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Where sessions live.
    pub sessions: Table,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Access and audit log.
    pub logs: Arc<Logs>,
    /// The server is about to stop.
    pub draining: AtomicBool,
}

/// Who and whence of a session that is to be opened.
pub struct NewSession<'a> {
    /// Number of the way in, in the snapshot's `ways`.
    pub way: usize,
    /// Whom it names.
    pub identity: &'a Identity,
    /// The scope on which its cookie counts.
    pub scope: ScopeId,
    /// The client's address.
    pub client: IpAddr,
    /// The browser, as it calls itself.
    pub user_agent: &'a str,
    /// The exchange that opens it.
    pub request_id: &'a str,
}

impl Parts {
    /// Whether the server is about to stop: connections are not kept any longer.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// 128 random bits in hex, the client's have no say.
    ///
    /// The operating system is asked for a block at a time: a system call for each request would cost more than the
    /// rest of its admission.
    pub(crate) fn request_id() -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        thread_local! {
            static POOL: RefCell<(usize, [u8; 4096])> = const { RefCell::new((4096, [0; 4096])) };
        }
        let bits: [u8; 16] = POOL.with_borrow_mut(|(used, block)| {
            if *used + 16 > block.len() {
                random(&mut block[..]);
                *used = 0;
            }
            let mut bits = [0; 16];
            bits.copy_from_slice(&block[*used..*used + 16]);
            block[*used..*used + 16].fill(0);
            *used += 16;
            bits
        });
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bits) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        HeaderValue::from_bytes(&text).expect("hex digits are a header value")
    }

    /// Opens a session and gives the token for its cookie, the only time that anybody sees it.
    pub fn open_session(
        &self,
        snapshot: &Snapshot,
        new: &NewSession<'_>,
        now: Timestamp,
    ) -> Result<(Session, Secret<String>), Rejection> {
        let tokens = snapshot.session_tokens.as_ref().ok_or(Rejection::Internal("no_keys"))?;
        let mut bits = [0; 32];
        random(&mut bits);
        let (token, digest) = tokens.ring().issue(bits);
        let mut id = [0; 16];
        random(&mut id);
        let settings = snapshot.ways[new.way].settings();
        let session = Session::open(Opening {
            digest,
            id: SessionId::from_bytes(id),
            identity: new.identity,
            entry: settings.id,
            scope: new.scope,
            sign_in: &settings.name,
            client_address: &new.client.to_string(),
            user_agent: new.user_agent,
            now,
            lifetimes: self.sessions.lifetimes(),
        });
        let mut line = Self::line_about(&session, AuditEvent::SignIn, now);
        let client = Some(new.client);
        if self.sessions.open(session.clone(), now).is_err() {
            line.event = AuditEvent::TableFull;
            line.session = None;
            self.logs.audit(&AuditLine { client, request_id: Some(new.request_id), ..line });
            self.metrics.sessions_refused.inc();
            return Err(Rejection::SessionsFull);
        }
        self.logs.audit(&AuditLine { client, request_id: Some(new.request_id), ..line });
        self.metrics.session_started(&settings.name);
        Ok((session.clone(), token.encode()))
    }

    /// Notes that sessions have ended; they are out of the table already.
    pub fn note_ended(
        &self,
        ended: &[Session],
        end: End,
        client: Option<IpAddr>,
        request_id: Option<&str>,
        now: Timestamp,
    ) {
        for session in ended {
            let event = if end == End::SignOut { AuditEvent::SignOut } else { AuditEvent::SessionEnded };
            let line = Self::line_about(session, event, now);
            self.logs.audit(&AuditLine { client, request_id, reason: Some(end.as_str()), ..line });
            self.metrics.sessions_ended(end, 1);
        }
    }

    /// Notes that the wall clock was stepped; no session moves.
    pub fn note_clock_step(&self, millis: i64) {
        let detail = format!("by {millis} ms; session deadlines do not move");
        self.logs.audit(&AuditLine {
            detail: Some(&detail),
            ..AuditLine::new(self.clock.now(), AuditEvent::ClockStepped)
        });
    }

    /// Drops the sessions whose deadline has passed.
    pub fn sweep(&self, now: Timestamp) {
        for (session, end) in self.sessions.sweep(now) {
            self.note_ended(&[session], end, None, None, now);
        }
    }

    fn line_about(session: &Session, event: AuditEvent, now: Timestamp) -> AuditLine<'_> {
        let identity = session.identity();
        AuditLine {
            subject: Some(identity.subject()),
            source: Some(identity.source()),
            session: Some(session.id()),
            sign_in: Some(session.sign_in()),
            ..AuditLine::new(now, event)
        }
    }
}

/// Fills `bytes` from the operating system's generator.
///
/// # Panics
///
/// If the system has none to give: without unguessable tokens nothing may be served.
pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}
