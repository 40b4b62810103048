//! What outlives a configuration, and what is done with it: sessions opened and ended, with their audit lines.

use crate::auth::dpop::DpopMemory;
use crate::domain::access::EntryId;
use crate::domain::decision::Rejection;
use crate::domain::identity::Identity;
use crate::domain::secret::Secret;
use crate::domain::session::{End, Kind, Lifetimes, NO_ENTRY, Opening, ScopeId, Session, SessionId};
use crate::domain::time::{Clock, Timestamp};
use crate::domain::token::{SessionToken, TokenDigest};
use crate::net::opening;
use crate::proxy::pace::{Pace, Tally};
use crate::proxy::snapshot::Snapshot;
use crate::store::journal::{Commit, Unavailable};
use crate::store::revoked::RevokedTokens;
use crate::store::table::{Opened, Refused, Table};
use crate::telemetry::{AuditEvent, AuditLine, Logs, Metrics};
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Everything that exchanges share.
pub struct Parts {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Where sessions live.
    pub sessions: Table,
    /// Bearer tokens that count no more.
    pub revoked: Arc<RevokedTokens>,
    /// Which `DPoP` proofs were used.
    pub proofs: Arc<DpopMemory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Access and audit log.
    pub logs: Arc<Logs>,
    /// How often what a visitor causes may happen.
    pub paces: Paces,
    /// The server is about to stop.
    pub draining: AtomicBool,
}

/// How often what visitors cause may happen. Kept over reloads.
pub struct Paces {
    /// Anonymous sessions opened, by the client's network.
    pub openings: Pace,
    /// Audit lines of one kind about one thing: who repeats what causes one does not fill the log.
    pub lines: Pace,
    /// Requests, by the rates that routes have.
    pub rates: Tally,
}

impl Default for Paces {
    /// Thirty openings at once, then one every two seconds; one line a minute.
    fn default() -> Self {
        Self {
            openings: Pace::new(30, Duration::from_secs(2)),
            lines: Pace::new(1, Duration::from_mins(1)),
            rates: Tally::default(),
        }
    }
}

/// Whence of an anonymous session that is to be opened.
pub struct NewVisitor<'a> {
    /// The scope on which its cookie counts.
    pub scope: ScopeId,
    /// The client's address.
    pub client: IpAddr,
    /// The browser, as it calls itself.
    pub user_agent: &'a str,
}

/// Who and whence of a session that is to be opened.
pub struct NewSession<'a> {
    /// The entry that vouches for them.
    pub entry: EntryId,
    /// Its name in the file.
    pub sign_in: &'a str,
    /// It lives no longer than so, whatever the lifetimes are.
    pub within: Option<Duration>,
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
    /// What it is for.
    pub kind: Kind,
    /// A fingerprint of the credential that was proved.
    pub stamp: u64,
    /// The sessions that the browser came with: they end, and data that may move does.
    pub instead_of: &'a [Session],
}

/// A session that was opened a moment ago.
pub struct NewlyOpened {
    /// The session.
    pub session: Session,
    /// The token for its cookie: the only time that anybody sees it.
    pub token: Secret<String>,
    /// Resolves when it is durable; if it cannot be, [`Parts::withdraw`] ends it.
    pub commit: Commit,
}

/// Why a session was not opened.
pub enum NotOpened {
    /// No key makes tokens.
    NoKeys,
    /// The table is full.
    Full,
    /// The store cannot write now; nothing has ended for it.
    Unavailable,
    /// The subject has as many sessions as it may have; these.
    SubjectFull(Vec<Session>),
}

impl From<NotOpened> for Rejection {
    fn from(not_opened: NotOpened) -> Self {
        match not_opened {
            NotOpened::NoKeys => Self::Internal("no_keys"),
            NotOpened::Full => Self::SessionsFull,
            NotOpened::Unavailable => Self::StoreUnavailable,
            NotOpened::SubjectFull(_) => Self::SubjectFull,
        }
    }
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

    /// Opens a session and gives the token for its cookie. In force at once, durable when the commit says so.
    pub fn open_session(
        &self,
        snapshot: &Snapshot,
        new: &NewSession<'_>,
        now: Timestamp,
    ) -> Result<NewlyOpened, NotOpened> {
        let (token, digest, id) = fresh_names(snapshot)?;
        let lifetimes = self.sessions.clocks().of(new.kind);
        let within = |span: Duration| new.within.map_or(span, |within| span.min(within));
        let session = Session::open(Opening {
            digest,
            id,
            kind: new.kind,
            identity: Some(new.identity),
            entry: new.entry,
            scope: new.scope,
            stamp: new.stamp,
            sign_in: new.sign_in,
            client_address: &new.client.to_string(),
            user_agent: new.user_agent,
            now,
            lifetimes: Lifetimes {
                idle_timeout: within(lifetimes.idle_timeout),
                absolute_lifetime: within(lifetimes.absolute_lifetime),
            },
        });
        let mut line = Self::line_about(&session, AuditEvent::SignIn, now);
        let client = Some(new.client);
        let Opened { ended, commit } = match self.sessions.open(session.clone(), new.instead_of, now) {
            Ok(opened) => opened,
            Err(Refused::Unavailable) => return Err(NotOpened::Unavailable),
            Err(Refused::SubjectFull(held)) => {
                line.event = AuditEvent::SubjectFull;
                line.session = None;
                self.logs.audit(&AuditLine { client, request_id: Some(new.request_id), ..line });
                return Err(NotOpened::SubjectFull(held));
            }
            Err(Refused::Full) => {
                line.event = AuditEvent::TableFull;
                line.session = None;
                self.logs.audit(&AuditLine { client, request_id: Some(new.request_id), ..line });
                self.metrics.sessions_refused.inc();
                return Err(NotOpened::Full);
            }
        };
        self.logs.audit(&AuditLine { client, request_id: Some(new.request_id), ..line });
        self.metrics.session_started(new.sign_in);
        for (former, end) in ended {
            self.note_ended(&[former], end, client, Some(new.request_id), now);
        }
        Ok(NewlyOpened { session: session.clone(), token: token.encode(), commit })
    }

    /// Opens a session for a visitor who has not signed in, like [`Parts::open_session`].
    ///
    /// No audit line tells of it: it is counted, and every first visit to a shop would be one.
    pub fn open_anonymous(
        &self,
        snapshot: &Snapshot,
        new: &NewVisitor<'_>,
        now: Timestamp,
    ) -> Result<NewlyOpened, NotOpened> {
        let (token, digest, id) = fresh_names(snapshot)?;
        let session = Session::open(Opening {
            digest,
            id,
            kind: Kind::Anonymous,
            identity: None,
            entry: NO_ENTRY,
            scope: new.scope,
            stamp: 0,
            sign_in: "",
            client_address: &new.client.to_string(),
            user_agent: new.user_agent,
            now,
            lifetimes: self.sessions.clocks().of(Kind::Anonymous),
        });
        let Opened { commit, .. } =
            self.sessions.open(session.clone(), &[], now).map_err(|refused| match refused {
                Refused::Unavailable => NotOpened::Unavailable,
                Refused::Full | Refused::SubjectFull(_) => NotOpened::Full,
            })?;
        Ok(NewlyOpened { session, token: token.encode(), commit })
    }

    /// Waits until a session is durable, and gives it with its token.
    ///
    /// # Errors
    ///
    /// The store cannot keep it; nothing of it is left.
    pub async fn settle(&self, opened: NewlyOpened) -> Result<(Session, Secret<String>), Rejection> {
        let NewlyOpened { session, token, commit } = opened;
        if durable(commit).await.is_err() {
            self.withdraw(&session);
            return Err(Rejection::StoreUnavailable);
        }
        Ok((session, token))
    }

    /// Ends a session that was opened a moment ago and could not be made durable: nobody has its token.
    pub fn withdraw(&self, session: &Session) {
        let ended = self.sessions.end(session.digest(), End::Revoked);
        self.note_ended(&ended.sessions, End::Revoked, None, None, self.clock.now());
        ended.commit.forget();
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
            self.metrics.sessions_ended(end, 1);
            if session.is_anonymous() && matches!(end, End::Idle | End::Lifetime) {
                // Visitors who went their way; their coming was no line either.
                continue;
            }
            let event = if end == End::SignOut { AuditEvent::SignOut } else { AuditEvent::SessionEnded };
            let line = Self::line_about(session, event, now);
            self.logs.audit(&AuditLine { client, request_id, reason: Some(end.as_str()), ..line });
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

    /// Notes that a connection was closed before its first request; the log has one line a minute for each reason. Of those
    /// that were given up by their peer, as health checks of balancers are, there is none.
    pub fn note_refused_connection(&self, refused: opening::Refused, peer: Option<SocketAddr>) {
        let reason = refused.reason();
        self.metrics.connection_refused(reason);
        if refused != opening::Refused::Broken
            && self.paces.lines.allows(("connection", reason), self.clock.now())
        {
            let peer = peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
            tracing::warn!(
                reason,
                peer,
                "connections are closed before their first request ({reason}), one from {peer}"
            );
        }
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

/// How long an answer waits for a change to be durable: a disk that hangs for longer is one that cannot write.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Waits until a change is durable, five seconds at most. One that takes longer may still become so; whoever waited is told
/// that it did not. An answer that is there already takes no timer.
pub async fn durable(commit: Commit) -> Result<(), Unavailable> {
    durable_within(COMMIT_WAIT_MAX, commit).await
}

/// [`durable`] with another bound.
pub(crate) async fn durable_within(wait_max: Duration, commit: Commit) -> Result<(), Unavailable> {
    tokio::time::timeout(wait_max, commit.done()).await.unwrap_or(Err(Unavailable))
}

/// A fresh token with its digest, and a fresh public name.
fn fresh_names(snapshot: &Snapshot) -> Result<(SessionToken, TokenDigest, SessionId), NotOpened> {
    let tokens = snapshot.session_tokens.as_ref().ok_or(NotOpened::NoKeys)?;
    let mut bits = [0; 32];
    random(&mut bits);
    let (token, digest) = tokens.ring().issue(bits);
    let mut id = [0; 16];
    random(&mut id);
    Ok((token, digest, SessionId::from_bytes(id)))
}

/// Fills `bytes` from the operating system's generator.
///
/// # Panics
///
/// If the system has none to give: without unguessable tokens nothing may be served.
pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let (ack, commit) = Commit::pair();
        let waits = durable_within(Duration::from_millis(10), commit);
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), waits).await, Ok(Err(Unavailable)));
        ack.send(Ok(()));
        let (ack, commit) = Commit::pair();
        ack.send(Ok(()));
        assert_eq!(durable_within(Duration::ZERO, commit).await, Ok(()), "what is there is heard");
    }
}
