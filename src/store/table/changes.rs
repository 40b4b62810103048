//! What happens to a session between its opening and its end: uses, data, other claims, other tokens.

use super::Table;
use crate::domain::identity::Identity;
use crate::domain::session::{PatchError, SUPERSEDED_GRACE, Session, SpaceId, State};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::store::journal::{Change, Commit};
use http::HeaderValue;
use std::cell::Cell;

impl Table {
    /// Notes a use of a session, like [`Session::touch`], and tells whether it wrote.
    pub fn touch(&self, session: &Session, now: Timestamp) -> bool {
        let wrote = session.touch_by(now, &self.clocks.of(session.kind()));
        if wrote && let Some(journal) = &*self.journal.read() {
            journal.touched(session);
        }
        wrote
    }

    /// Replaces what a session holds in a space by what `apply` makes of it. Patches of one session follow each other, each
    /// sees what the one before left. Where the store cannot write, nothing changes, and the commit says so at once.
    ///
    /// # Errors
    ///
    /// Nothing has changed. [`PatchError::Ended`]: the session is over. [`PatchError::Crowded`]: it holds data in
    /// [`crate::domain::session::SPACES_MAX`] other spaces. [`PatchError::Refused`]: what `apply` said.
    pub fn patch<E>(
        &self,
        session: &Session,
        space: SpaceId,
        now: Timestamp,
        apply: impl FnOnce(Option<&HeaderValue>) -> Result<Option<HeaderValue>, E>,
    ) -> Result<Commit, PatchError<E>> {
        let lifetimes = self.clocks.of(session.kind());
        let before = Cell::new(None);
        let told = |session: &Session, value, epoch| {
            let former = before.take();
            self.write(|| Change::Data { session: session.clone(), space, former, value, epoch })
        };
        // `None`: there is news, and the store cannot take it.
        let apply = |former: Option<&HeaderValue>| {
            let value = apply(former).map_err(Some)?;
            before.set(former.cloned());
            if value.as_ref() == former || self.can_write() { Ok(value) } else { Err(None) }
        };
        let keeps = self.journal.read().as_ref().is_some_and(|journal| journal.keeps());
        match session.patch(space, now, &lifetimes, keeps, apply, told) {
            Ok(patched) => Ok(patched.unwrap_or(Commit::ready())),
            Err(PatchError::Refused(None)) => Ok(Commit::refused()),
            Err(PatchError::Refused(Some(refused))) => Err(PatchError::Refused(refused)),
            Err(PatchError::Ended(end)) => Err(PatchError::Ended(end)),
            Err(PatchError::Crowded) => Err(PatchError::Crowded),
        }
    }

    /// Offers a successor for the token of a session that a request found. From the commit on the successor may be sent; the
    /// token serves until the successor was presented, and [`SUPERSEDED_GRACE`] longer.
    ///
    /// Parallel requests with one token offer the same successor, and all may send it. `None`: no renewal is due (any more),
    /// or another successor is offered already. Each offer is written, until [`Table::offer_kept`] has said of one that it was;
    /// from then on neither the directory nor the store hears of it.
    pub fn offer(&self, session: &Session, successor: TokenDigest, now: Timestamp) -> Option<Commit> {
        let clocks = self.clocks();
        let newest = session.current();
        if newest.is_kept_offer(session.digest(), &successor) && newest.state(now, &clocks) == State::Live {
            return Some(Commit::ready());
        }
        let mut directory = self.directory.write();
        let held = directory.held(&session.id())?.clone();
        if held.state(now, &clocks) != State::Live {
            return None;
        }
        if held.digest() != session.digest() {
            if *held.digest() != successor || !held.offers_to(session.digest()) {
                return None;
            }
            // Written anew: whether the first time could be written is not known here.
            return held.while_live(|held| self.write(|| Change::Put { session: held.clone() }));
        }
        if !held.wants_renewal(now, clocks.renew_after) || self.shard(&successor).held(&successor).is_some() {
            return None;
        }
        self.retire_predecessor(&held);
        let put = |next: &Session| self.write(|| Change::Put { session: next.clone() });
        let (next, commit) = held.succeed(successor, now, put)?;
        let due_at = next.idle_until(&clocks);
        self.shard(&successor).insert(next.clone(), due_at.as_millis());
        directory.replace(next);
        Some(commit)
    }

    /// Notes that the commit of an offer has succeeded.
    pub fn offer_kept(&self, session: &Session, successor: &TokenDigest) {
        session.offer_kept(successor);
    }

    /// Gives a session other claims. What they take away counts at once, for whoever finds the session from now on; what they
    /// add counts with the next token. A claim with another value is both.
    ///
    /// `None`, and nothing changes: it has ended meanwhile, all is as it was, or the identity is another subject's or
    /// source's, which would be another session.
    pub fn change_identity(
        &self,
        session: &Session,
        identity: &Identity,
        stamp: u64,
        now: Timestamp,
    ) -> Option<Commit> {
        let mut directory = self.directory.write();
        let held = directory.held(&session.id())?.clone();
        let (old, new) = (held.identity(), identity.as_ref());
        let same_subject = old.subject() == new.subject() && old.source() == new.source();
        if held.is_anonymous() || !same_subject || held.state(now, &self.clocks()) != State::Live {
            return None;
        }
        let put = |next: &Session| self.write(|| Change::Put { session: next.clone() });
        let (next, commit) = held.reclaim(identity, stamp, put)?;
        self.shard(next.digest()).replace(next.clone());
        if let Some(before) = next.predecessor() {
            self.shard(&before.digest).replace(next.of_predecessor(&before));
        }
        directory.replace(next);
        Some(commit)
    }

    /// Notes that a token was presented for the first time: the one before it has a moment left.
    pub(super) fn present(&self, session: &Session, now: Timestamp) {
        let told = session.present(now, |session| self.write(|| Change::Put { session: session.clone() }));
        if let Some(commit) = told {
            // Nobody waits for it: should it be lost, the token before serves until this one comes again.
            commit.forget();
        }
        if let Some(before) = session.predecessor() {
            self.shard(&before.digest).may_be_due_at(now.plus(SUPERSEDED_GRACE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::super::{Limits, NotLive, PerSubject, Refused, WhenFull};
    use super::*;
    use crate::domain::session::{End, Lifetimes, Restored, SessionId};
    use crate::store::journal::Journal;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn what_claims_take_away_counts_at_once_and_what_they_add_counts_with_the_next_token() {
        let (table, sessions) = table_of(2);
        let exchange = table.find(sessions[0].digest(), secs(1)).expect("live");
        let change = |groups: &[&str]| {
            table.change_identity(&exchange, &member("alice", "local", groups), 0, secs(1)).is_some()
        };
        let found = |digest: &TokenDigest| table.find(digest, secs(1)).expect("live");
        assert!(change(&["dev", "night"]));
        assert_eq!(groups(&found(sessions[0].digest())).as_deref(), Some("dev"));
        assert_eq!(groups(&exchange).as_deref(), Some("ops,dev"), "an exchange keeps the claims it saw");
        assert!(!change(&["dev", "night"]), "all is as it was");
        assert_eq!(table.of_subject("local", "alice").len(), 2);

        let current = found(sessions[0].digest());
        assert!(current.wants_renewal(secs(1), clocks().renew_after), "a gain waits");
        let successor = TokenDigest::of(&[9; 32]);
        assert!(table.offer(&current, successor, secs(1)).is_some());
        assert_eq!(groups(&found(sessions[0].digest())).as_deref(), Some("dev"));
        assert_eq!(groups(&found(&successor)).as_deref(), Some("dev,night"));
        assert!(change(&["night"]), "what is taken away counts for the token before too");
        assert_eq!(groups(&found(sessions[0].digest())), None);
        assert_eq!(groups(&found(&successor)).as_deref(), Some("night"));

        end(&table, &successor, End::Credential);
        assert!(!change(&["dev"]), "it brings nothing back");
        assert_eq!(state(&table, &sessions[0], secs(1)), Err(over(&sessions[0], End::Credential)));
        assert_eq!((exchange.end(), current.end()), (Some(End::Credential), Some(End::Credential)));

        for other in [member("bob", "local", &[]), member("alice", "staff", &[])] {
            assert!(table.change_identity(&sessions[1], &other, 0, secs(1)).is_none());
        }
        assert_whole(&table);
    }

    #[test]
    fn a_successor_takes_over_gently() {
        let (table, sessions) = table_of(1);
        let old = *sessions[0].digest();
        let new = TokenDigest::of(&[8; 32]);
        let found = |digest: &TokenDigest, at| table.find(digest, secs(at)).map(|found| found.generation());
        let exchange = table.find(&old, secs(1)).expect("live");
        assert!(table.offer(&exchange, new, secs(7)).is_none(), "it is not old enough");
        assert!(table.touch(&exchange, secs(7)));
        assert!(table.offer(&exchange, new, secs(8)).is_some());
        assert!(
            table.offer(&exchange, new, secs(8)).is_some(),
            "answers that run side by side offer the same one"
        );
        assert!(table.offer(&exchange, TokenDigest::of(&[9; 32]), secs(8)).is_none());
        assert_eq!((found(&old, 9), table.live()), (Ok(0), 1), "the answer may have been lost");
        assert!(table.find_by_id(&exchange.id(), secs(9)).is_some());
        assert!(exchange.wants_renewal(secs(9), clocks().renew_after), "a look by name presents nothing");

        assert_eq!(keep(&table, &exchange, "{}", 9), Ok(()));
        assert_eq!(found(&new, 10), Ok(1));
        assert!(table.touch(&exchange, secs(15)), "in ten seconds more it may do all");
        assert_eq!(found(&old, 19), Ok(0));
        assert!(table.offer(&exchange, new, secs(15)).is_none(), "but renew");
        let superseded = over(&sessions[0], End::Superseded);
        assert_eq!(found(&old, 20), Err(superseded));
        assert_eq!((found(&new, 20), kept(&exchange)), (Ok(1), Some(HeaderValue::from_static("{}"))));
        assert_whole(&table);
        assert!(table.sweep(secs(20)).is_empty(), "the session goes on");
        assert_eq!((found(&old, 20), found(&new, 20)), (Err(superseded), Ok(1)));
        assert!(exchange.current().predecessor().is_none());
        assert_whole(&table);

        let (table, sessions) = table_of(1);
        assert!(table.touch(&sessions[0], secs(8)));
        assert!(table.offer(&sessions[0], new, secs(8)).is_some());
        assert!(has_ended(&table.end(&old, End::SignOut)), "the former token signs the session out");
        let signed_out = Err(NotLive::Ended(End::SignOut, sessions[0].id()));
        for digest in [&old, &new] {
            assert_eq!(table.find(digest, secs(8)).map(|found| found.id()), signed_out);
        }
        assert!(table.offer(&sessions[0], new, secs(8)).is_none());
        assert_whole(&table);
    }

    #[test]
    fn an_offer_is_written_until_it_is_durable_and_costs_nobody_anything_from_then_on() {
        let notes = Arc::new(Notes::default());
        let table = Table::new(limits(10), clocks(), Some(notes.clone()));
        open(&table, session(0), 0);
        let exchange = table.find(session(0).digest(), secs(1)).expect("live");
        table.touch(&exchange, secs(8));
        let (new, other) = (TokenDigest::of(&[8; 32]), TokenDigest::of(&[9; 32]));
        let offer = |successor| table.offer(&exchange, successor, secs(8)).is_some();
        let puts = || notes.told.lock().iter().filter(|(_, what)| *what == "put").count();
        assert!(offer(new) && offer(new));
        assert_eq!(puts(), 2, "whether the first could be written nobody knows yet");
        table.offer_kept(&exchange, &other);
        assert!(offer(new) && !offer(other));
        assert_eq!(puts(), 3, "that was another one");
        table.offer_kept(&exchange, &new);
        let directory = table.directory.write();
        let offered = std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            scope.spawn(move || tell.send(offer(new)));
            let offered = told.recv_timeout(Duration::from_secs(5));
            drop(directory);
            offered
        });
        assert_eq!((offered, puts()), (Ok(true), 3), "nobody holds it up, and nothing is written");
        assert!(!offer(other));
        // What a start reads was written.
        let (revived, before) = Restored::of(&exchange).revive();
        assert!(revived.is_kept_offer(exchange.digest(), &new) && before.is_some());

        assert_eq!(table.find(&new, secs(9)).map(|found| found.generation()), Ok(1));
        assert!(!offer(new), "it has been presented");
        end(&table, &new, End::SignOut);
        assert!(!offer(new) && puts() == 4);
    }

    #[test]
    fn an_end_waits_for_the_patch_that_came_first() {
        let notes = Arc::new(Notes::default());
        let table = Table::new(limits(10), clocks(), Some(notes.clone()));
        open(&table, session(0), 0);
        let exchange = table.find(session(0).digest(), secs(1)).expect("live");
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let patch = |_: Option<&HeaderValue>| {
                scope.spawn(|| {
                    let _ = tell.send(has_ended(&table.end_by_id(&exchange.id(), End::SignOut)));
                });
                assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "the end does not wait");
                assert_eq!(exchange.end(), None, "the end is in force already");
                Ok::<_, ()>(Some(HeaderValue::from_static("{}")))
            };
            let patched = table.patch(&exchange, SpaceId(1), secs(1), patch);
            assert!(patched.is_ok(), "it was there before");
            assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(true));
        });
        assert_eq!(keep(&table, &exchange, "{}", 1), Err(End::SignOut));
        let notes: Vec<&str> = notes.told.lock().iter().map(|(_, what)| *what).collect();
        assert_eq!(notes, ["open", "data", "end"]);
    }

    #[test]
    fn fifty_answers_at_once_offer_one_successor() {
        let (table, sessions) = table_of(1);
        table.touch(&sessions[0], secs(8));
        let new = TokenDigest::of(&[8; 32]);
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    let exchange = table.find(sessions[0].digest(), secs(9)).expect("it serves on");
                    assert!(table.offer(&exchange, new, secs(9)).is_some());
                });
            }
        });
        assert_eq!(table.find(&new, secs(9)).map(|found| found.generation()), Ok(1));
        assert_whole(&table);
    }

    /// Notes what it is told, in order.
    #[derive(Default)]
    struct Notes {
        told: Mutex<Vec<(SessionId, &'static str)>>,
        is_down: AtomicBool,
    }

    impl Journal for Notes {
        fn write(&self, change: Change) -> Commit {
            let mut notes = self.told.lock();
            match change {
                Change::Open { session, ended } => {
                    notes.extend(ended.iter().map(|(ended, _)| (ended.id(), "end")));
                    notes.push((session.id(), "open"));
                }
                Change::End { sessions } => {
                    notes.extend(sessions.iter().map(|(ended, _)| (ended.id(), "end")));
                }
                Change::Put { session } => notes.push((session.id(), "put")),
                Change::Data { session, .. } => notes.push((session.id(), "data")),
            }
            Commit::ready()
        }

        fn can_write(&self) -> bool {
            !self.is_down.load(Ordering::Relaxed)
        }

        fn touched(&self, _: &Session) {}
    }

    #[test]
    fn while_the_store_cannot_write_nobody_loses_a_session_or_data() {
        let notes = Arc::new(Notes::default());
        let limits =
            Limits { per_subject: Some(PerSubject { max: 1, when_full: WhenFull::EndOldest }), ..limits(10) };
        let table = Table::new(limits, clocks(), Some(notes.clone()));
        let visitor = anonymous(0, secs(0));
        open(&table, visitor.clone(), 0);
        open(&table, session(1), 0);
        keep(&table, &visitor, "{}", 1).expect("live");
        // The value stands as if it were written.
        visitor.data_written(SpaceId(1), 0, kept(&visitor).as_ref(), true);
        notes.is_down.store(true, Ordering::Relaxed);
        let told = notes.told.lock().len();

        let refused = table.open(session(2), std::slice::from_ref(&visitor), secs(1));
        assert!(matches!(refused, Err(Refused::Unavailable)));
        assert_eq!(keep(&table, &visitor, "{\"a\":1}", 1), Err(End::Superseded));
        assert_eq!(keep(&table, &visitor, "{}", 1), Ok(()), "that is no news");
        assert_eq!((table.live(), table.anonymous_live()), (1, 1));
        assert_eq!((visitor.end(), kept(&visitor)), (None, Some(HeaderValue::from_static("{}"))));
        assert_eq!(notes.told.lock().len(), told, "the store hears nothing of it");

        notes.is_down.store(false, Ordering::Relaxed);
        let opened = table.open(session(2), std::slice::from_ref(&visitor), secs(1)).expect("it can again");
        assert_eq!(opened.ended.len(), 2);
        assert_eq!(kept(&session_at(&table, 2)), Some(HeaderValue::from_static("{}")));
    }

    fn session_at(table: &Table, n: u64) -> Session {
        table.find(session(n).digest(), secs(1)).expect("live")
    }

    #[test]
    fn an_end_wins_against_all_that_is_on_its_way_and_is_the_last_that_the_store_hears() {
        for round in 0..100_u8 {
            let notes = Arc::new(Notes::default());
            let long =
                Lifetimes { idle_timeout: Duration::from_mins(1), absolute_lifetime: Duration::from_mins(1) };
            let table = Table::new(limits(10), clocks_of(long), Some(notes.clone()));
            let lasting = Restored { lifetimes: long, ..Restored::of(&session(0)) };
            open(&table, lasting.revive().0, 0);
            let exchange = table.find(session(0).digest(), secs(1)).expect("live");
            table.touch(&exchange, secs(8));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _ = keep(&table, &exchange, if round % 2 == 0 { "1" } else { "2" }, 9);
                        let _ = keep(&table, &exchange, "3", 9);
                        table.touch(&exchange, secs(9));
                    }
                });
                scope.spawn(|| {
                    let mut current = exchange.clone();
                    for n in 1..5 {
                        let successor = TokenDigest::of(&[n; 32]);
                        let at = secs(u64::from(n) * 10);
                        table.touch(&current, at);
                        let offered = table.offer(&current, successor, at);
                        current = match table.find(&successor, at) {
                            Ok(found) => found,
                            Err(_) => break,
                        };
                        assert!(offered.is_some(), "round {round}");
                    }
                });
                scope.spawn(|| {
                    for groups in [&["ops"][..], &["dev"], &["ops", "dev"], &[]].repeat(3) {
                        table.change_identity(&exchange, &member("alice", "local", groups), 0, secs(9));
                    }
                });
                let ended = table.end_by_id(&exchange.id(), End::SignOut);
                assert!(has_ended(&ended), "round {round}");
                // From here on, whatever the others do.
                assert_eq!(keep(&table, &exchange, "4", 9), Err(End::SignOut));
                assert!(!table.touch(&exchange, secs(9)));
                assert!(state(&table, &exchange, secs(9)).is_err());
                assert_ne!(kept(&exchange), Some(HeaderValue::from_static("4")));
            });
            for successor in (1..5).map(|n| TokenDigest::of(&[n; 32])).chain([*exchange.digest()]) {
                assert!(table.find(&successor, secs(9)).is_err(), "round {round}");
            }
            assert_eq!((exchange.end(), table.live()), (Some(End::SignOut), 0));
            assert_whole(&table);
            let notes: Vec<&str> = notes.told.lock().iter().map(|(_, what)| *what).collect();
            assert_eq!(
                (notes.first(), notes.last()),
                (Some(&"open"), Some(&"end")),
                "round {round}: {notes:?}"
            );
            assert_eq!(notes.iter().filter(|what| **what == "end").count(), 1, "round {round}: {notes:?}");
        }
    }

    #[test]
    fn a_deadline_that_was_told_is_written_down_at_once() {
        let notes = Arc::new(Notes::default());
        let table = Table::new(limits(10), clocks(), Some(notes.clone()));
        open(&table, session(0), 0);
        for _ in 0..3 {
            assert_eq!(state(&table, &session(0), secs(10)), Err(over(&session(0), End::Idle)));
        }
        assert_eq!(*notes.told.lock(), [(session(0).id(), "open"), (session(0).id(), "end")]);
    }
}
