//! The sessions in the order of their ids and of their subjects, for whatever is not a request's look-up.
//!
//! Two ordered sets of eight bytes and a share of a node an entry. Anonymous sessions, which have no subject, stand in the
//! first alone. Ordered rather than hashed, for two reasons: a page
//! of a listing goes on behind an id although sessions come and go meanwhile, and a subject with very many sessions
//! costs no more per session than any other.

use crate::domain::session::{Session, SessionId};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Every session of a table, in both orders.
#[derive(Default)]
pub(super) struct Directory {
    by_id: BTreeSet<ById>,
    by_subject: BTreeSet<BySubject>,
    anonymous: usize,
}

impl Directory {
    /// How many subjects' sessions there are.
    pub(super) fn signed_in(&self) -> usize {
        self.by_id.len() - self.anonymous
    }

    /// How many anonymous ones there are.
    pub(super) fn anonymous(&self) -> usize {
        self.anonymous
    }

    /// How many stand in the order of subjects, for tests.
    #[cfg(test)]
    pub(super) fn in_order_of_subjects(&self) -> usize {
        self.by_subject.len()
    }

    /// The one of that id.
    pub(super) fn held(&self, id: &SessionId) -> Option<&Session> {
        self.by_id.get(id).map(|held| &held.0)
    }

    /// Puts one in whose id is not there.
    pub(super) fn insert(&mut self, session: Session) {
        if session.is_anonymous() {
            self.anonymous += 1;
        } else {
            self.by_subject.insert(BySubject(session.clone()));
        }
        self.by_id.insert(ById(session));
    }

    /// Puts another allocation of a session that is there in its place.
    pub(super) fn replace(&mut self, session: Session) {
        if !session.is_anonymous() {
            self.by_subject.replace(BySubject(session.clone()));
        }
        self.by_id.replace(ById(session));
    }

    /// Takes it out.
    pub(super) fn remove(&mut self, session: &Session) {
        if !self.by_id.remove(&session.id()) {
            return;
        }
        if session.is_anonymous() {
            self.anonymous -= 1;
        } else {
            self.by_subject.remove(&(session.identity().subject(), session.id()) as &dyn Place);
        }
    }

    /// Takes all of these in at once; there was none before. Where two have one id, the latter stays.
    pub(super) fn fill(&mut self, sessions: &[Session]) {
        // A set is built from an iterator in order many times faster than one by one.
        self.by_id = sessions.iter().cloned().map(ById).collect();
        self.anonymous = self.by_id.iter().filter(|held| held.0.is_anonymous()).count();
        let of_subjects = self.by_id.iter().filter(|held| !held.0.is_anonymous());
        // Sorted beforehand by the beginning of the name, which lies in the row: to look into the sessions at each
        // comparison would take most of the start of a process with very many.
        let beginning = |session: &Session| {
            let mut bytes = [0; 16];
            let name = session.identity().subject().as_bytes();
            let len = name.len().min(16);
            bytes[..len].copy_from_slice(&name[..len]);
            u128::from_be_bytes(bytes)
        };
        let mut rows: Vec<(u128, BySubject)> =
            of_subjects.map(|held| (beginning(&held.0), BySubject(held.0.clone()))).collect();
        rows.sort_unstable_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.cmp(&other.1)));
        self.by_subject = rows.into_iter().map(|(_, session)| session).collect();
    }

    /// Sessions in the order of their ids, behind `after`; of one subject, or all.
    pub(super) fn walk<'a>(
        &'a self,
        subject: Option<&'a str>,
        after: Option<SessionId>,
    ) -> Box<dyn Iterator<Item = &'a Session> + 'a> {
        let Some(subject) = subject else {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            return Box::new(self.by_id.range((from, Bound::Unbounded)).map(|held| &held.0));
        };
        let from = (subject, after.unwrap_or(SessionId::FIRST));
        let from: &dyn Place = &from;
        let from = if after.is_some() { Bound::Excluded(from) } else { Bound::Included(from) };
        let behind = self.by_subject.range::<dyn Place, _>((from, Bound::Unbounded));
        Box::new(behind.map(|held| &held.0).take_while(move |held| held.identity().subject() == subject))
    }
}

/// A session in the order of ids.
struct ById(Session);

impl Borrow<SessionId> for ById {
    fn borrow(&self) -> &SessionId {
        self.0.id_ref()
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id().cmp(&other.0.id())
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ById {}

/// A session in the order of subjects, and of ids within one. The source is not part of it: the same name in two
/// sources is rare, and a filter tells them apart.
struct BySubject(Session);

/// Where a session stands in the order of subjects. A trait, so that a pair of borrowed values can be searched for
/// among sessions without making one.
trait Place {
    fn place(&self) -> (&str, SessionId);
}

impl Place for BySubject {
    fn place(&self) -> (&str, SessionId) {
        (self.0.identity().subject(), self.0.id())
    }
}

impl Place for (&str, SessionId) {
    fn place(&self) -> (&str, SessionId) {
        *self
    }
}

impl<'a> Borrow<dyn Place + 'a> for BySubject {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl Ord for BySubject {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for BySubject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BySubject {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySubject {}
