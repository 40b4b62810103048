//! Revoked bearer tokens: what is asked of one that is believed, and how an operator revokes.

use crate::domain::decision::Believed;
use crate::domain::identity::encode_text;
use crate::domain::time::Timestamp;
use crate::proxy::parts::Parts;
use crate::proxy::snapshot::Snapshot;
use crate::store::journal::Commit;
use crate::store::revoked::{Full, Revocation, Which};
use crate::telemetry::{AuditEvent, AuditLine};
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
        let commits = vec![self.revoked.add(revocation, wall)?];
        self.metrics.revocations.made.inc();
        self.logs.audit(&AuditLine {
            subject: subject.as_deref(),
            source: Some(&encoded),
            client,
            detail: Some(&detail),
            ..AuditLine::new(now, AuditEvent::TokensRevoked)
        });
        Ok(Revoked { commits, sessions_ended: 0, until })
    }
}
