//! The running exchanges of one worker thread, each tied to the session that admitted it.
//!
//! An exchange that lasts (a `WebSocket`, an event stream, a slow upload) may outlive its session. So every [`Link`] has a
//! place in the list of its thread, filled while a session's exchange runs on it, and [`Streams::look`] goes through the list
//! several times a second: who has lost the session is cut, and so is whom a newer configuration refuses. An idle connection costs a glance at an empty place, no request
//! registers anywhere, and whatever ends a session, be it a sign-out, an operator or a deadline, need not know of streams.

use crate::domain::decision::Believed;
use crate::domain::session::{Clocks, End, Session, State};
use crate::domain::time::Timestamp;
use crate::net::connection::Link;
use crate::store::revoked::RevokedTokens;
use crate::store::table::Table;
use parking_lot::Mutex;
use std::sync::Arc;

/// Why an exchange was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its session has ended.
    Ended(End),
    /// A newer configuration refuses it; the reason is a word for the log.
    Refused(&'static str),
    /// Its bearer token was revoked.
    TokenRevoked,
    /// Its bearer token has ended.
    TokenExpired,
    /// Nothing more of its body came.
    Late,
}

impl Cut {
    /// The reason as logs and counters spell it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ended(end) => end.as_str(),
            Self::Refused(reason) => reason,
            Self::TokenRevoked => "token_revoked",
            Self::TokenExpired => "token_expired",
            Self::Late => "body_late",
        }
    }
}

/// What the configuration in force says to a lasting exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Stands,
    /// It is cut; the reason is a word for the log.
    Refused(&'static str),
    /// Somebody else is being asked: decide again at the next look.
    Pending,
}

/// Decides about a lasting exchange by the configuration in force.
pub type Standing = Box<dyn Fn() -> Verdict + Send>;

/// What a running exchange hangs on.
struct Tie {
    link: Arc<Link>,
    /// By whose right it runs.
    right: Right,
    /// Bytes from the visitor count as use of the session.
    counts_activity: bool,
    /// How many there were at the last look.
    heard: u64,
    /// Where the exchange lasts: the number of the configuration that decided about it last, and how the next one does.
    standing: Option<(u64, Standing)>,
}

enum Right {
    /// A session's.
    Session(Session),
    /// A bearer token's, with what is revoked.
    Token(Arc<Believed>, Arc<RevokedTokens>),
    /// The same of an exchange that lasts, up to this instant.
    TokenUntil(Arc<Believed>, Arc<RevokedTokens>, Timestamp),
}

/// The places of a thread's connections. Only that thread takes the lock, except in tests.
#[derive(Default)]
pub struct Streams {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    all: Vec<Option<Tie>>,
    free: Vec<usize>,
}

impl Streams {
    /// A place for a connection.
    pub(crate) fn join(&self) -> usize {
        let mut places = self.places.lock();
        places.free.pop().unwrap_or_else(|| {
            places.all.push(None);
            places.all.len() - 1
        })
    }

    /// Gives the place of a closed connection back; nothing is tied there, for a tie would hold the connection's link.
    pub(crate) fn leave(&self, place: usize) {
        self.places.lock().free.push(place);
    }

    pub(crate) fn tie(&self, place: usize, link: &Arc<Link>, session: Session, counts_activity: bool) {
        let right = Right::Session(session);
        self.put(
            place,
            Tie { link: link.clone(), right, counts_activity, heard: link.heard(), standing: None },
        );
    }

    pub(crate) fn tie_token(
        &self,
        place: usize,
        link: &Arc<Link>,
        token: Arc<Believed>,
        revoked: Arc<RevokedTokens>,
    ) {
        let right = Right::Token(token, revoked);
        self.put(place, Tie { link: link.clone(), right, counts_activity: false, heard: 0, standing: None });
    }

    pub(crate) fn end_token_at(&self, place: usize, until: Timestamp) {
        if let Some(tie) = &mut self.places.lock().all[place]
            && let Right::Token(token, revoked) = &tie.right
        {
            tie.right = Right::TokenUntil(token.clone(), revoked.clone(), until);
        }
    }

    fn put(&self, place: usize, tie: Tie) {
        let former = self.places.lock().all[place].replace(tie);
        // Not under the lock: nobody knows here what hangs on what is dropped.
        drop(former);
    }

    pub(crate) fn untie(&self, place: usize) {
        let former = self.places.lock().all[place].take();
        drop(former);
    }

    pub(crate) fn decide_again(&self, place: usize, generation: u64, standing: Standing) {
        if let Some(tie) = &mut self.places.lock().all[place] {
            tie.standing = Some((generation, standing));
        }
    }

    /// Cuts the exchanges whose session has ended or reached a deadline, those whose bearer token was revoked or has ended, and those that the
    /// configuration of this number refuses.
    ///
    /// Where bytes have come from the visitor since the last look, and the route counts them, the session was used: on an
    /// open stream nothing else is use, whatever the application sends.
    pub fn look(&self, sessions: &Table, generation: u64, now: Timestamp) {
        let clocks = sessions.clocks();
        for tie in self.places.lock().all.iter_mut().flatten() {
            if let Some(cut) = tie.lost(sessions, &clocks, now) {
                tie.link.cut(cut);
            } else if let Some((decided, standing)) = &mut tie.standing
                && *decided != generation
            {
                match standing() {
                    Verdict::Stands => *decided = generation,
                    Verdict::Refused(reason) => {
                        *decided = generation;
                        tie.link.cut(Cut::Refused(reason));
                    }
                    Verdict::Pending => {}
                }
            }
        }
    }
}

impl Tie {
    /// Why the right is gone, if it is; of a session, notes its use.
    fn lost(&mut self, sessions: &Table, clocks: &Clocks, now: Timestamp) -> Option<Cut> {
        let session = match &self.right {
            Right::Session(session) => session,
            Right::Token(token, revoked) | Right::TokenUntil(token, revoked, _) if revoked.covers(token) => {
                return Some(Cut::TokenRevoked);
            }
            Right::TokenUntil(_, _, until) => return (now >= *until).then_some(Cut::TokenExpired),
            Right::Token(..) => return None,
        };
        let heard = self.link.heard();
        if std::mem::replace(&mut self.heard, heard) != heard && self.counts_activity {
            sessions.touch(session, now);
        }
        match session.settle(now, clocks) {
            State::Ended(end) => Some(Cut::Ended(end)),
            State::Live => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::EntryId;
    use crate::domain::session::{Kind, Lifetimes, Opening, ScopeId, SessionId};
    use crate::domain::token::TokenDigest;
    use crate::store::table::Limits;
    use std::time::Duration;

    const LIFETIMES: Lifetimes =
        Lifetimes { idle_timeout: Duration::from_secs(10), absolute_lifetime: Duration::from_secs(30) };

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// A table with so many sessions, opened at 0 s.
    fn table_of(count: u8) -> (Table, Vec<Session>) {
        let clocks = Clocks {
            signed_in: LIFETIMES,
            remembered: LIFETIMES,
            anonymous: LIFETIMES,
            renew_after: Duration::from_secs(30),
        };
        let limits = Limits { capacity: 100, anonymous_capacity: 100, per_subject: None };
        let table = Table::new(limits, clocks, None);
        let sessions = (0..count).map(|number| {
            let session = Session::open(Opening {
                digest: TokenDigest::of(&[number; 32]),
                id: SessionId::from_bytes([number; 16]),
                kind: Kind::Anonymous,
                identity: None,
                entry: EntryId(1),
                scope: ScopeId(1),
                stamp: 0,
                sign_in: "local",
                client_address: "192.0.2.1",
                user_agent: "",
                now: secs(0),
                lifetimes: LIFETIMES,
            });
            table.open(session.clone(), &[], secs(0)).expect("there is room");
            session
        });
        let sessions = sessions.collect();
        (table, sessions)
    }

    fn links(streams: &Arc<Streams>, count: usize) -> Vec<Arc<Link>> {
        (0..count).map(|_| Arc::new(Link::new(0, None, streams.clone()))).collect()
    }

    fn cuts(links: &[Arc<Link>]) -> Vec<Option<Cut>> {
        links.iter().map(|link| link.cut_by()).collect()
    }

    #[test]
    fn who_has_lost_the_session_is_cut_and_nobody_else() {
        let streams = Arc::new(Streams::default());
        let (table, sessions) = table_of(3);
        let links = links(&streams, 5);
        for (link, session) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
            links[link].tie(sessions[session].clone(), true);
        }
        // Over before anybody looked.
        links[1].untie();
        streams.look(&table, 1, secs(1));
        assert_eq!(cuts(&links), [None; 5]);
        drop(table.end(sessions[0].digest(), End::SignOut));
        assert!(sessions[1].touch(secs(9), &table.clocks()));
        streams.look(&table, 1, secs(9));
        assert_eq!(cuts(&links), [Some(Cut::Ended(End::SignOut)), None, None, None, None]);
        streams.look(&table, 1, secs(10));
        let idle = Some(Cut::Ended(End::Idle));
        assert_eq!(cuts(&links), [Some(Cut::Ended(End::SignOut)), None, None, idle, None]);
        assert_eq!(sessions[2].end(), Some(End::Idle), "a late touch does not bring it back");
    }

    #[test]
    fn what_the_visitor_sends_counts_as_use_where_the_route_counts_it() {
        let streams = Arc::new(Streams::default());
        let (table, sessions) = table_of(3);
        let links = links(&streams, 3);
        // Heard before the tie: what an earlier exchange of the connection brought.
        links[2].hear(100);
        for (link, counts_activity) in [(0, true), (1, false), (2, true)] {
            links[link].tie(sessions[link].clone(), counts_activity);
        }
        for now in [4, 8, 12] {
            links[0].hear(1);
            links[1].hear(1);
            streams.look(&table, 1, secs(now));
        }
        let idle = Some(Cut::Ended(End::Idle));
        assert_eq!(cuts(&links), [None, idle, idle]);
        for now in 13..31 {
            links[0].hear(1);
            streams.look(&table, 1, secs(now));
        }
        assert_eq!(links[0].cut_by(), Some(Cut::Ended(End::Lifetime)), "however busy");
    }

    #[test]
    fn each_newer_configuration_decides_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let streams = Arc::new(Streams::default());
        let (table, sessions) = table_of(2);
        let links = links(&streams, 2);
        let asked = Arc::new(AtomicUsize::new(0));
        for (link, session) in links.iter().zip(&sessions) {
            link.tie(session.clone(), true);
        }
        let counting = asked.clone();
        links[0].decide_again(
            1,
            Box::new(move || match counting.fetch_add(1, Ordering::Relaxed) {
                0 => Verdict::Pending,
                1 => Verdict::Stands,
                _ => Verdict::Refused("not_allowed"),
            }),
        );
        for (generation, expected) in
            [(1, None), (2, None), (2, None), (2, None), (3, Some(Cut::Refused("not_allowed")))]
        {
            streams.look(&table, generation, secs(1));
            assert_eq!(cuts(&links), [expected, None], "generation {generation}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3, "once more where it had to wait");
        // A connection's next exchange inherits nothing.
        links[1].decide_again(1, Box::new(|| Verdict::Refused("not_allowed")));
        links[1].untie();
        links[1].tie(sessions[1].clone(), true);
        streams.look(&table, 9, secs(1));
        assert_eq!(links[1].cut_by(), None);
    }

    #[test]
    fn places_are_used_again_and_a_tie_outlives_nobody() {
        let streams = Arc::new(Streams::default());
        let (table, sessions) = table_of(1);
        for _ in 0..3 {
            let links = links(&streams, 10);
            for link in &links {
                link.tie(sessions[0].clone(), true);
                link.tie(sessions[0].clone(), true);
            }
            streams.look(&table, 1, secs(1));
            for link in &links {
                link.untie();
                link.untie();
                assert_eq!(Arc::strong_count(link), 1);
            }
        }
        let places = streams.places.lock();
        assert_eq!((places.all.len(), places.free.len()), (10, 10));
    }
}
