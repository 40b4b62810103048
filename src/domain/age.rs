//! How long ago somebody was authenticated, and what a credential lacks that a rule does not admit.
//!
//! A session counts from its sign-in; one that was traded for a token, and a token itself, from their `auth_time`
//! (`OpenID` Connect Core §2), which is a claim like others. Where nobody says when, no age is short enough.

use crate::domain::access::{EntryId, Protected};
use crate::domain::decision::{Credential, Rejection};
use crate::domain::identity::{AUTH_TIME, Claim, IdentityRef};
use crate::domain::policy::Circumstances;
use crate::domain::session::Cause;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// An `auth_time` may lie so far ahead: clocks differ.
const AHEAD_MAX: Duration = Duration::from_mins(2);

/// How long ago whom `credential` names was authenticated; nothing where nobody knows. Of two instants the older counts.
pub fn authenticated_ago(
    credential: &Credential,
    dated: &[EntryId],
    now: Timestamp,
    wall: Option<Timestamp>,
) -> Option<Duration> {
    match credential {
        Credential::Token(token) => said(token.identity.as_ref(), wall?),
        Credential::Session(session) => {
            let opened = now.since(session.opened_at());
            if dated.contains(&session.entry()) {
                said(session.identity(), wall?).map(|said| said.max(opened))
            } else {
                Some(opened)
            }
        }
    }
}

/// By `auth_time`, in whole seconds: a fraction is passed over.
fn said(identity: IdentityRef<'_>, wall: Timestamp) -> Option<Duration> {
    let Some(Claim::Text(text)) = identity.claim(AUTH_TIME) else { return None };
    let seconds = text.split_once('.').map_or(text, |(whole, _)| whole);
    let at = Timestamp::from_secs(seconds.parse().ok()?);
    (at <= wall.plus(AHEAD_MAX)).then(|| wall.since(at))
}

/// What to tell whom the rule does not admit: that signing in anew would do, that scopes are all that lacks, or that nothing
/// would help.
pub(super) fn lacking(
    protected: &Protected,
    credential: &Credential,
    circumstances: Circumstances<'_>,
) -> Rejection {
    let identity = credential.identity();
    let fresh = Circumstances { authenticated_ago: Some(Duration::ZERO), ..circumstances };
    if let Some(most) = protected.auth_age.filter(|_| protected.allow.holds(identity, &fresh)) {
        return match credential {
            Credential::Session(_) => Rejection::Unauthenticated(Cause::Stale),
            Credential::Token(_) => Rejection::StaleToken(most),
        };
    }
    let is_token = matches!(credential, Credential::Token(_));
    let with_scopes = Circumstances { with_every_scope: true, ..circumstances };
    if is_token && protected.allow.holds(identity, &with_scopes) {
        return Rejection::Scope(protected.allow.lacking_scopes(identity).into());
    }
    Rejection::Forbidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{ClaimValue, Claims, Identity};

    #[test]
    fn an_authentication_is_as_old_as_the_token_says_and_unknown_where_it_says_nothing() {
        let wall = Timestamp::from_secs(10_000);
        for (said_at, expected) in [
            (Some(ClaimValue::Number("9100".into())), Some(900)),
            (Some(ClaimValue::Number("9100.9".into())), Some(900)),
            (Some(ClaimValue::Number("10120".into())), Some(0)),
            (Some(ClaimValue::Number("10121".into())), None),
            (Some(ClaimValue::Number("-5".into())), None),
            (Some(ClaimValue::Number("1e9".into())), None),
            (Some(ClaimValue::Text("yesterday".into())), None),
            (Some(ClaimValue::Bool(true)), None),
            (Some(ClaimValue::List(vec!["9100".into()])), None),
            (None, None),
        ] {
            let claims: Claims =
                said_at.clone().map(|value| (AUTH_TIME.to_owned(), value)).into_iter().collect();
            let identity = Identity::new("alice", "api", &claims).expect("it packs");
            let ago = said(identity.as_ref(), wall);
            assert_eq!(ago, expected.map(Duration::from_secs), "{said_at:?}");
        }
    }
}
