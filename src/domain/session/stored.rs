//! A session as a store keeps it: everything that outlives a process, in the open.

use super::{
    FIRST, GAIN, Head, KEPT, Kind, Lifetimes, MOVED, Rest, SPACES_MAX, ScopeId, Session, SessionId, SpaceId,
    at_millis, instant_in, millis,
};
use crate::domain::access::EntryId;
use crate::domain::identity::{Identity, IdentityRef};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use http::HeaderValue;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Everything of a session that outlives a process.
#[derive(Clone, PartialEq, Eq)]
pub struct Restored {
    /// Under which the table finds it.
    pub digest: TokenDigest,
    /// Its public name.
    pub id: SessionId,
    /// What it stands for.
    pub kind: Kind,
    /// Its claims, packed as [`Identity::packed`] gives them; empty for an anonymous one.
    pub identity: Box<[u8]>,
    /// All claims, packed, where some wait for a successor of the token.
    pub gain: Option<Box<[u8]>>,
    /// The entry of `sign_in` by which it was opened.
    pub entry: EntryId,
    /// The cookie scope on which it counts.
    pub scope: ScopeId,
    /// The fingerprint of its credential.
    pub stamp: u64,
    /// The entry's name in the file.
    pub sign_in: String,
    /// Where from.
    pub client_address: String,
    /// By which browser.
    pub user_agent: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its token was made.
    pub issued_at: Timestamp,
    /// When its token was first presented, whole milliseconds; that of a sign-in counts as presented when it is made.
    pub presented_at: Option<Timestamp>,
    /// The last use that was written down, whole milliseconds.
    pub last_used_at: Timestamp,
    /// The lifetimes that it was opened with, whole milliseconds.
    pub lifetimes: Lifetimes,
    /// How many tokens it had before this one.
    pub generation: u32,
    /// The token before, while it may still serve.
    pub predecessor: Option<Predecessor>,
    /// What it holds for upstreams; in the row of a store what that surely has already, or got with the opening.
    pub data: Vec<(SpaceId, HeaderValue)>,
}

/// A token that has a successor.
#[derive(Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// Under which the table finds it.
    pub digest: TokenDigest,
    /// What counts for requests with it, packed: it never gains.
    pub identity: Box<[u8]>,
}

/// Names the session and nothing else; claims and data are personal.
impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Restored({})", self.id)
    }
}

impl fmt::Debug for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predecessor(…)")
    }
}

impl Restored {
    /// What there is to keep of a session, all of one moment.
    ///
    /// Waits for whoever changes the session at this moment: not to be called while the table calls the journal.
    pub fn of(session: &Session) -> Self {
        session.held(|session, rest| {
            let head = session.head();
            let standing = head.standing.load(Ordering::Acquire);
            let rest = rest.as_deref();
            let spaces = rest.map(|rest| &*rest.spaces).unwrap_or_default().iter();
            Self {
                digest: head.digest,
                id: head.id,
                kind: head.kind,
                identity: session.identity().as_packed().into(),
                gain: rest.and_then(|rest| rest.gain.as_ref()).map(|gain| gain.packed().into()),
                entry: head.entry,
                scope: head.scope,
                stamp: head.stamp,
                sign_in: session.sign_in().to_owned(),
                client_address: session.client_address().to_owned(),
                user_agent: session.user_agent().to_owned(),
                opened_at: head.opened_at,
                issued_at: head.token_issued_at,
                presented_at: (standing & FIRST == 0).then(|| instant_in(standing)),
                last_used_at: instant_in(head.life.load(Ordering::Acquire)),
                lifetimes: Lifetimes {
                    idle_timeout: Duration::from_millis(head.idle_timeout_ms),
                    absolute_lifetime: Duration::from_millis(head.absolute_lifetime_ms),
                },
                generation: head.generation,
                predecessor: rest.and_then(|rest| rest.predecessor.as_deref().cloned()),
                data: spaces.filter_map(|space| Some((space.id, space.durable()?.clone()))).collect(),
            }
        })
    }

    /// The session, live as it was, and an allocation for the token before it, which the table finds it by too.
    pub(crate) fn revive(&self) -> (Session, Option<Session>) {
        let mut rest = Rest {
            gain: self.gain.as_deref().map(|gain| IdentityRef::from_packed(gain).to_owned()),
            predecessor: self.predecessor.clone().map(Box::new),
            ..Rest::default()
        };
        for (space, value) in self.data.iter().take(SPACES_MAX) {
            rest.edit(*space, |space| space.set(Some(value.clone()), false));
        }
        let gain = if self.gain.is_some() { GAIN } else { 0 };
        let head = Head {
            life: AtomicU64::new(at_millis(self.last_used_at)),
            standing: AtomicU64::new(self.presented_at.map_or(FIRST | KEPT, at_millis) | gain),
            cell: Mutex::new((!rest.is_empty()).then(|| Box::new(rest))),
            opened_at: self.opened_at,
            token_issued_at: self.issued_at,
            idle_timeout_ms: millis(self.lifetimes.idle_timeout),
            absolute_lifetime_ms: millis(self.lifetimes.absolute_lifetime),
            stamp: self.stamp,
            entry: self.entry,
            scope: self.scope,
            digest: self.digest,
            id: self.id,
            generation: self.generation,
            identity_len: 0,
            sign_in_len: 0,
            address_len: 0,
            kind: self.kind,
        };
        let texts = [&*self.sign_in, &*self.client_address, &*self.user_agent];
        let session = Session::pack(head, &self.identity, texts);
        let before = self.predecessor.as_ref().map(|before| session.of_predecessor(before));
        (session, before)
    }
}

impl Session {
    /// Becomes what another process says that it is; its life goes on, as long as it lives. The one that took over, and what
    /// the table finds it by besides. `None`: it has ended, moved already, or is that.
    pub(crate) fn follow(&self, kept: &Restored) -> Option<(Self, Option<Self>)> {
        if Restored::of(self) == *kept {
            return None;
        }
        let (next, ()) = self.hand_over(|_, _| Some(kept.revive().0), |_| ())?;
        let before = next.predecessor().map(|before| next.of_predecessor(&before));
        Some((next, before))
    }

    /// The token that the session had before, as an allocation of its own for the table to find: it has moved already.
    pub(crate) fn of_predecessor(&self, before: &Predecessor) -> Self {
        let head = Head {
            life: AtomicU64::new(MOVED),
            cell: Mutex::new(Some(Rest::moved_to(self.clone()))),
            digest: before.digest,
            generation: self.generation().wrapping_sub(1),
            ..self.copied_head()
        };
        Self::pack(head, &before.identity, self.texts())
    }
}

impl Predecessor {
    /// Makes a note of a token that gets a successor.
    pub(super) fn of(session: &Session) -> Self {
        Self { digest: *session.digest(), identity: session.identity().as_packed().into() }
    }

    /// Takes claims from it that the subject has no longer.
    pub(crate) fn keep_common(&mut self, identity: &Identity) {
        let kept = identity.as_ref().common(IdentityRef::from_packed(&self.identity));
        self.identity = kept.packed().into();
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;
    use crate::domain::session::{End, State};

    #[test]
    fn a_session_survives_a_store_with_everything_that_it_has() {
        let plain = session();
        let aged = {
            let session = session();
            session.touch(secs(5), &CLOCKS);
            session.adopt(vec![(SpaceId(3), HeaderValue::from_static("{}"))]);
            session.reclaim(&identity(&["dev"]), 6, |_| ()).expect("it lives").0
        };
        let offered = aged.succeed(TokenDigest::of(&[8; 32]), secs(6), |_| ()).expect("it lives").0;
        let offered_kept = Restored::of(&offered);
        offered.present(secs(7), |_| ());
        for kept in [Restored::of(&plain), offered_kept, Restored::of(&offered)] {
            let (session, before) = kept.revive();
            assert_eq!(Restored::of(&session), kept);
            assert_eq!(session.state(secs(8), &CLOCKS), State::Live);
            assert_eq!(before.is_some(), kept.predecessor.is_some());
            if let Some(before) = before {
                assert_eq!(before.digest(), plain.digest());
                assert_eq!(before.serves_until(&session), kept.presented_at.map(|_| secs(17)));
                assert_eq!(before.data(SpaceId(3)), Some(HeaderValue::from_static("{}")));
                before.finish(End::SignOut);
                assert_eq!(session.end(), Some(End::SignOut));
            }
        }
        let gains = session().reclaim(&identity(&["ops", "dev"]), 5, |_| ()).expect("it lives").0;
        let (revived, _) = Restored::of(&gains).revive();
        assert!(revived.wants_renewal(secs(0), CLOCKS.renew_after), "a gain waits on");
        assert_eq!(Restored::of(&revived), Restored::of(&gains));
    }

    #[test]
    fn a_store_is_given_what_it_surely_holds() {
        let session = session();
        let space = SpaceId(3);
        session.adopt(vec![(space, HeaderValue::from_static("1"))]);
        let set = |_: Option<&HeaderValue>| Ok::<_, ()>(Some(HeaderValue::from_static("2")));
        let patched = session.patch(space, secs(1), &CLOCKS.signed_in, true, set, |_, _, epoch| epoch);
        assert_eq!(Restored::of(&session).data, [(space, HeaderValue::from_static("1"))]);
        let epoch = patched.expect("it lives").expect("that is news");
        session.data_written(space, epoch, Some(&HeaderValue::from_static("2")), true);
        assert_eq!(Restored::of(&session).data, [(space, HeaderValue::from_static("2"))]);
    }
}
