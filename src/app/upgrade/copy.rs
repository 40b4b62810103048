//! The table of a process on its way to another one.

use super::channel::{Broken, Channel};
use super::protocol::{ENDS_MAX, FULL_BYTES, Message, Remembered};
use super::relay::Watch;
use crate::domain::session::Restored;
use crate::store::table::Table;

/// Sessions that may have changed while others were copied, when the cut is made.
const CHANGED_AT_CUT: usize = 256;
/// How often what has changed is copied before the cut is made anyway.
const ROUNDS_MAX: usize = 8;

/// Copies every session, and then again and again what has changed meanwhile, until that is little.
pub(super) fn copy_all(channel: &Channel, table: &Table, watch: &Watch) -> Result<(), Broken> {
    let mut after = None;
    loop {
        let page = table.page(after);
        let Some(last) = page.last() else { break };
        after = Some(last.id());
        send_sessions(channel, page.iter().map(|session| watch.copy(session)))?;
    }
    send_ends(channel, &table.remembered_ends())?;
    channel.send(&Message::Go)?;
    for _ in 0..ROUNDS_MAX {
        if send_changed(channel, table, watch)? <= CHANGED_AT_CUT {
            break;
        }
    }
    Ok(())
}

/// What has changed since this was done last; how many sessions did.
pub(super) fn send_changed(channel: &Channel, table: &Table, watch: &Watch) -> Result<usize, Broken> {
    let changed = watch.take();
    let ended: Vec<Remembered> = changed.iter().filter_map(|(_, ended)| *ended).collect();
    let live = changed.iter().filter(|(_, ended)| ended.is_none()).filter_map(|(id, _)| table.held(id));
    send_sessions(channel, live.map(|session| watch.copy(&session)))?;
    send_ends(channel, &ended)?;
    Ok(changed.len())
}

fn send_sessions(channel: &Channel, sessions: impl Iterator<Item = Restored>) -> Result<(), Broken> {
    let mut frame = Vec::new();
    let mut bytes = 0;
    for session in sessions {
        bytes += weight(&session);
        frame.push(session);
        if bytes >= FULL_BYTES {
            bytes = 0;
            channel.send(&Message::Sessions(std::mem::take(&mut frame)))?;
        }
    }
    if frame.is_empty() { Ok(()) } else { channel.send(&Message::Sessions(frame)) }
}

/// About so many bytes it takes.
fn weight(session: &Restored) -> usize {
    let packed = |packed: &Option<Box<[u8]>>| packed.as_ref().map_or(0, |packed| packed.len());
    let data: usize = session.data.iter().map(|(_, value)| value.len() + 12).sum();
    let before = session.predecessor.as_ref().map_or(0, |before| before.identity.len());
    data + before + session.identity.len() + packed(&session.gain) + 512
}

fn send_ends(channel: &Channel, ends: &[Remembered]) -> Result<(), Broken> {
    for part in ends.chunks(ENDS_MAX) {
        channel.send(&Message::Ends(part.to_vec()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::upgrade::protocol::tests::session;
    use crate::domain::session::{Clocks, Lifetimes, Session, SpaceId};
    use crate::domain::time::Timestamp;
    use crate::store::journal::{Ack, Change, Commit, Journal};
    use crate::store::table::Limits;
    use http::HeaderValue;
    use parking_lot::Mutex;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    /// A store that takes its time.
    #[derive(Default)]
    struct Slow(Mutex<Vec<Ack>>);

    impl Journal for Slow {
        fn write(&self, change: Change) -> Commit {
            if !matches!(change, Change::Data { .. }) {
                return Commit::ready();
            }
            let (ack, commit) = Commit::pair();
            self.0.lock().push(ack);
            commit
        }

        fn can_write(&self) -> bool {
            true
        }

        fn touched(&self, _: &Session) {}
    }

    #[test]
    fn data_that_is_being_written_while_it_is_copied_goes_over_all_the_same() {
        let lifetimes =
            Lifetimes { idle_timeout: Duration::from_mins(1), absolute_lifetime: Duration::from_hours(1) };
        let clocks = Clocks {
            signed_in: lifetimes,
            remembered: lifetimes,
            anonymous: lifetimes,
            renew_after: lifetimes.idle_timeout,
        };
        let limits = Limits { capacity: 9, anonymous_capacity: 9, per_subject: None };
        let store = Arc::new(Slow::default());
        let watch = Arc::new(Watch::beside(Some(store.clone())));
        let table = Table::new(limits, clocks, Some(watch.clone()));
        let now = Timestamp::from_secs(2);
        let alice = session(1).revive().0;
        table.open(alice.clone(), &[], now).expect("there is room").commit.forget();
        watch.take();
        let [old, new] = ["{\"a\":1}", "{\"a\":2}"].map(HeaderValue::from_static);
        let commit = table.patch(&alice, SpaceId(1), now, |_| Ok::<_, ()>(Some(new.clone()))).expect("live");

        let (one, other) = UnixStream::pair().expect("the system gives sockets");
        let channel = |socket| Channel::new(socket, Duration::from_secs(1)).expect("it can be set up");
        let (here, there) = (channel(one), channel(other));
        let told = || match there.receive().expect("it is told") {
            (Message::Sessions(sessions), _) => sessions[0].data.clone(),
            other => panic!("{other:?}"),
        };
        for _ in 0..2 {
            assert_eq!(send_changed(&here, &table, &watch).expect("it is sent"), 1);
            assert_eq!(told(), [(SpaceId(1), old.clone())], "nobody has promised the other yet");
        }
        alice.data_written(SpaceId(1), 0, Some(&new), true);
        store.0.lock().pop().expect("it was told").send(Ok(()));
        assert_eq!(commit.wait(), Ok(()));
        assert_eq!(send_changed(&here, &table, &watch).expect("it is sent"), 1);
        assert_eq!(told(), [(SpaceId(1), new)]);
        assert_eq!(send_changed(&here, &table, &watch).expect("it is sent"), 0);
    }
}
