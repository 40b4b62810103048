//! What a session holds for upstreams: in each space the JSON of one object, or nothing.

use super::rest::{Space, edit};
use super::{Lifetimes, PatchError, SPACES_MAX, Session, SpaceId, State};
use crate::domain::time::Timestamp;
use http::HeaderValue;
use std::sync::atomic::Ordering;

impl Session {
    /// What it holds in a space: the JSON of an object, ASCII; `None`: nothing.
    pub fn data(&self, space: SpaceId) -> Option<HeaderValue> {
        self.held(|_, rest| rest.as_ref()?.space(space)?.value.clone())
    }

    /// What it holds, space by space, as the next request sees it.
    pub fn all_data(&self) -> Vec<(SpaceId, HeaderValue)> {
        self.held(|_, rest| {
            let spaces = rest.as_ref().map(|rest| &*rest.spaces).unwrap_or_default().iter();
            spaces.filter_map(|space| Some((space.id, space.value.clone()?))).collect()
        })
    }

    /// Takes in what another session held, before anybody sees this one.
    pub(crate) fn adopt(&self, data: Vec<(SpaceId, HeaderValue)>) {
        self.held(|_, rest| {
            for (space, value) in data {
                edit(rest, |rest| rest.edit(space, |space| space.set(Some(value), false)));
            }
        });
    }

    /// Takes in what another process says that it holds in a space.
    pub(crate) fn follow_data(&self, space: SpaceId, value: Option<HeaderValue>) {
        self.held(|session, rest| {
            if !session.is_over() {
                edit(rest, |rest| rest.edit(space, |space| space.set(value, false)));
            }
        });
    }

    /// Replaces what it holds in a space by what `apply` makes of it; nobody else comes in between.
    ///
    /// `durable`: a store is told of it, and says by [`Session::data_written`] what came of that. `told` runs before
    /// anybody sees the new value, with the value and its epoch; it does not run where nothing changes and nothing is on
    /// its way.
    pub(crate) fn patch<T, E>(
        &self,
        space: SpaceId,
        now: Timestamp,
        current: &Lifetimes,
        durable: bool,
        apply: impl FnOnce(Option<&HeaderValue>) -> Result<Option<HeaderValue>, E>,
        told: impl FnOnce(&Self, Option<HeaderValue>, u32) -> T,
    ) -> Result<Option<T>, PatchError<E>> {
        self.held(|session, rest| {
            let life = session.head().life.load(Ordering::Acquire);
            if let State::Ended(end) = session.state_in(life, now, current) {
                return Err(PatchError::Ended(end));
            }
            let held = rest.as_ref().and_then(|rest| rest.space(space));
            let former = held.and_then(|held| held.value.as_ref());
            let value = apply(former).map_err(PatchError::Refused)?;
            if value.as_ref() == former && held.is_none_or(Space::is_settled) {
                return Ok(None);
            }
            let held = rest.as_ref().map_or(0, |rest| rest.held());
            if former.is_none() && value.is_some() && held >= SPACES_MAX {
                return Err(PatchError::Crowded);
            }
            let epoch = edit(rest, |rest| {
                rest.edit(space, |space| {
                    space.set(value.clone(), durable);
                    space.epoch
                })
            });
            Ok(Some(told(session, value, epoch)))
        })
    }

    /// The store's answer about a value of the data: `value`, of that epoch. One that could not be written takes those back
    /// that were made from it; the data is then what the store surely holds.
    pub fn data_written(&self, space: SpaceId, epoch: u32, value: Option<&HeaderValue>, ok: bool) {
        self.held(|_, rest| {
            if rest.as_ref().is_some_and(|rest| rest.space(space).is_some()) {
                edit(rest, |rest| rest.edit(space, |space| space.answered(epoch, value, ok)));
            }
        });
    }

    /// Whether values of its data are on their way to a store: then [`Restored`](super::Restored) has what the store surely holds.
    pub(crate) fn awaits_store(&self) -> bool {
        self.held(|_, rest| {
            rest.as_ref().is_some_and(|rest| rest.spaces.iter().any(|space| !space.is_settled()))
        })
    }

    /// Whether a value of that epoch is still to be written: it was not taken back with one before it.
    pub fn data_stands(&self, space: SpaceId, epoch: u32) -> bool {
        self.held(|_, rest| {
            rest.as_ref().and_then(|rest| rest.space(space)).is_some_and(|space| space.epoch == epoch)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::End;
    use super::super::fixtures::*;
    use super::*;
    use std::convert::Infallible;

    const WIKI: SpaceId = SpaceId(1);

    fn value(text: &'static str) -> Option<HeaderValue> {
        (!text.is_empty()).then(|| HeaderValue::from_static(text))
    }

    /// Sets a space; the epoch that a store would be told, if there is news for it.
    fn set(
        session: &Session,
        space: SpaceId,
        text: &'static str,
        durable: bool,
    ) -> Result<Option<u32>, PatchError<Infallible>> {
        let apply = |_: Option<&HeaderValue>| Ok(value(text));
        session.patch(space, secs(1), &CLOCKS.signed_in, durable, apply, |_, _, epoch| epoch)
    }

    #[test]
    fn a_patch_sees_what_the_one_before_left_and_a_refused_one_leaves_nothing() {
        let session = session();
        assert_eq!(set(&session, WIKI, "{}", false), Ok(Some(0)));
        let mut seen = None;
        let refuse = |held: Option<&HeaderValue>| {
            seen = held.cloned();
            Err("no")
        };
        let refused = session.patch(WIKI, secs(1), &CLOCKS.signed_in, false, refuse, |_, _, _| ());
        assert_eq!(refused, Err(PatchError::Refused("no")));
        assert_eq!((seen, session.data(WIKI)), (value("{}"), value("{}")));
        assert_eq!(set(&session, WIKI, "{}", false), Ok(None), "no news");
        assert_eq!(set(&session, WIKI, "", false), Ok(Some(0)));
        assert_eq!((session.data(WIKI), session.all_data()), (None, vec![]));
        assert!(session.head().cell.lock().is_none(), "nothing held takes no memory");

        let late = |_: Option<&HeaderValue>| Ok::<_, Infallible>(None);
        let patch = |at| session.patch(WIKI, secs(at), &CLOCKS.signed_in, false, late, |_, _, _| ());
        assert_eq!(
            patch(10),
            Err(PatchError::Ended(End::Idle)),
            "a deadline is one although nobody settled it"
        );
        session.finish(End::SignOut);
        assert_eq!(patch(1), Err(PatchError::Ended(End::SignOut)));
    }

    #[test]
    fn a_session_holds_data_in_so_many_spaces_and_no_more() {
        let session = session();
        for space in 0..SPACES_MAX as u64 {
            assert_eq!(set(&session, SpaceId(space), "{}", false), Ok(Some(0)));
        }
        assert_eq!(set(&session, SpaceId(99), "{}", false), Err(PatchError::Crowded));
        assert_eq!(set(&session, SpaceId(99), "", false), Ok(None), "nothing in it is as before");
        assert_eq!(set(&session, WIKI, r#"{"a":1}"#, false), Ok(Some(0)), "those that are there can change");
        assert_eq!(set(&session, WIKI, "", false), Ok(Some(0)));
        assert_eq!(set(&session, SpaceId(99), "{}", false), Ok(Some(0)), "there is room again");
    }

    /// Values are set (the text) and answered (`ok` or `failed`, the oldest first); what the next request sees.
    #[test]
    fn what_could_not_be_written_goes_with_all_that_was_made_from_it() {
        for (history, seen) in [
            (&["1", "ok"][..], "1"),
            (&["1", "failed"], ""),
            (&["1", "ok", "2", "failed"], "1"),
            (&["1", "2", "ok", "ok"], "2"),
            (&["1", "2", "ok", "failed"], "1"),
            (&["1", "2", "failed", "failed"], ""),
            (&["1", "2", "3", "ok", "failed", "failed"], "1"),
            (&["1", "2", "failed", "3", "failed", "ok"], "3"),
            (&["1", "2", "failed", "3", "failed", "failed"], ""),
            (&["1", "ok", "", "failed"], "1"),
            (&["1", "ok", "", "ok"], ""),
            (&["1", "failed", "1", "ok", "", "ok", "2", "failed"], ""),
        ] {
            let session = session();
            let mut on_their_way = std::collections::VecDeque::new();
            for step in history {
                let ok = *step == "ok";
                if !ok && *step != "failed" {
                    let epoch = set(&session, WIKI, step, true).expect("it lives").expect("that is news");
                    on_their_way.push_back((epoch, value(step)));
                    continue;
                }
                let (epoch, value) = on_their_way.pop_front().expect("each answer is to a value");
                // A store writes nothing that was taken back.
                let ok = ok && session.data_stands(WIKI, epoch);
                session.data_written(WIKI, epoch, value.as_ref(), ok);
            }
            assert_eq!(session.data(WIKI), value(seen), "{history:?}");
            assert!(on_their_way.is_empty());
        }
    }

    #[test]
    fn patches_of_different_members_by_a_thousand_threads_are_all_there() {
        let session = session();
        let (text, count) = (|n: usize| format!("<{n}>"), 1_000);
        std::thread::scope(|scope| {
            for n in 0..count {
                let (session, text) = (&session, &text);
                scope.spawn(move || {
                    let append = |held: Option<&HeaderValue>| {
                        let held = held.map_or("", |held| held.to_str().expect("ASCII"));
                        Ok::<_, Infallible>(HeaderValue::try_from(format!("{held}{}", text(n))).ok())
                    };
                    session
                        .patch(WIKI, secs(1), &CLOCKS.signed_in, false, append, |_, _, _| ())
                        .expect("it lives");
                });
                if n % 100 == 0 {
                    let digest = crate::domain::token::TokenDigest::of(&[n as u8; 32]);
                    session.current().succeed(digest, secs(1), |_| ()).expect("it lives");
                }
            }
        });
        let held = session.data(WIKI).expect("something was set");
        let held = held.to_str().expect("ASCII");
        assert!((0..count).all(|n| held.contains(&text(n))), "{held}");
    }
}
