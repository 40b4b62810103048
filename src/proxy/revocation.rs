//! Revoked bearer tokens: what is asked of one that is believed, and how an operator revokes.

use crate::domain::decision::Believed;
use crate::domain::identity::encode_text;
use crate::domain::session::{End, Session};
use crate::domain::time::Timestamp;
use crate::domain::token_facts::TokenFacts;
use crate::proxy::parts::Parts;
use crate::proxy::snapshot::Snapshot;
use crate::store::journal::Commit;
use crate::store::revoked::{Full, Revocation, Which};
use crate::store::table::{Ended, Filter};
use crate::telemetry::{AuditEvent, AuditLine};
use aws_lc_rs::digest::{SHA256, digest};
use std::net::IpAddr;
use std::time::Duration;

/// How much longer a revocation is remembered than its tokens can live: clocks differ, and are set back.
const LONGER: Duration = Duration::from_hours(24);

/// Why a believed token does not count, if it does not: it was revoked, or could outlive the memory of that.
pub(crate) fn refusal(snapshot: &Snapshot, token: &Believed, wall: Timestamp) -> Option<&'static str> {
    // Settings and verifiers are of one configuration: an entry that believes has terms.
    let terms = snapshot.token_terms.iter().find(|terms| terms.id == token.entry);
    if terms.is_none_or(|terms| terms.are_outlived_by(token, wall)) {
        return Some("token_lifetime");
    }
    snapshot.revoked.covers(token).then_some("token_revoked")
}

/// What a session remembers of the token that it was traded for: when that was issued, in seconds since 1970, and a hash of its
/// name, 0 where it has none. So much fits beside an entry's id, and survives what the session does.
pub(crate) fn stamp(token: &TokenFacts) -> u64 {
    let issued_at = token.issued_at.map_or(0, Timestamp::as_secs);
    let issued_at = u64::from(u32::try_from(issued_at).unwrap_or(u32::MAX));
    issued_at << 32 | u64::from(token.jti.as_deref().map_or(0, name_hash))
}

/// Never 0. Of four thousand million names two may share one: then more sessions end than were meant, and none too few.
fn name_hash(jti: &str) -> u32 {
    let hash = digest(&SHA256, jti.as_bytes());
    let first = hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    u32::from_le_bytes(*first).max(1)
}

/// Whether a session was traded for a token that the revocation speaks of.
fn is_traded_for(session: &Session, revocation: &Revocation) -> bool {
    let (issued_at, name) = (session.stamp() >> 32, session.stamp() & u64::from(u32::MAX));
    match &revocation.which {
        Which::Named(jti) => name == u64::from(name_hash(jti)),
        Which::Of(_) | Which::All => issued_at <= revocation.issued_by.as_secs(),
    }
}

/// What was revoked.
pub struct Revoked {
    /// Resolve when all of it is durable.
    pub commits: Vec<Commit>,
    /// Sessions that ended with it: those that such tokens were traded for.
    pub sessions_ended: usize,
    /// Until when it is remembered.
    pub until: Timestamp,
}

impl Parts {
    /// Ends the sessions that such tokens were traded for, and counts them.
    fn end_traded(
        &self,
        snapshot: &Snapshot,
        revocation: &Revocation,
        client: Option<IpAddr>,
        commits: &mut Vec<Commit>,
    ) -> usize {
        let traded = |session: &Session| {
            let entry = snapshot.token_terms.iter().find(|terms| terms.id == session.entry());
            entry.is_some() && is_traded_for(session, revocation)
        };
        let subject = match &revocation.which {
            Which::Of(subject) => Some(subject.as_str()),
            Which::Named(_) | Which::All => None,
        };
        let filter = Filter { subject, source: Some(&revocation.source), ..Filter::default() };
        let now = self.clock.now();
        let (sessions, _) = self.sessions.list(filter, None, usize::MAX, now);
        let mut count = 0;
        for session in sessions.iter().filter(|session| traded(session)) {
            let Ended { sessions, commit } = self.sessions.end_by_id(&session.id(), End::Revoked);
            self.note_ended(&sessions, End::Revoked, client, None, now);
            count += sessions.len();
            commits.push(commit);
        }
        count
    }

    /// Revokes tokens of a source: in force with the return, for what is remembered of them and for running exchanges too.
    /// The source is one of the configuration's, a subject is in header form.
    ///
    /// # Errors
    ///
    /// There is no room; nothing has changed.
    pub fn revoke_tokens(
        &self,
        snapshot: &Snapshot,
        (source, which): (&str, Which),
        issued_by: Timestamp,
        client: Option<IpAddr>,
    ) -> Result<Revoked, Full> {
        let of_source = snapshot.token_terms.iter().filter(|terms| terms.source == source);
        let longest = of_source.map(|terms| terms.lifetime_max + 2 * terms.dpop.leeway).max();
        let (wall, now) = (self.clock.wall(), self.clock.now());
        let until = wall.max(now).max(issued_by).plus(longest.unwrap_or_default()).plus(LONGER);
        let encoded = encode_text(source);
        let revocation = Revocation { source: encoded.clone(), which, issued_by, ends_at: until };
        let detail = match &revocation.which {
            Which::Named(_) => "one by its jti".to_owned(),
            Which::Of(_) | Which::All => format!("all issued by {issued_by}"),
        };
        let subject = match &revocation.which {
            Which::Of(subject) => Some(subject.clone()),
            Which::Named(_) | Which::All => None,
        };
        let meant = revocation.clone();
        let mut commits = vec![self.revoked.add(revocation, wall)?];
        let sessions_ended = self.end_traded(snapshot, &meant, client, &mut commits);
        self.metrics.revocations.made.inc();
        self.logs.audit(&AuditLine {
            subject: subject.as_deref(),
            source: Some(&encoded),
            client,
            detail: Some(&detail),
            ..AuditLine::new(now, AuditEvent::TokensRevoked)
        });
        Ok(Revoked { commits, sessions_ended, until })
    }
}
