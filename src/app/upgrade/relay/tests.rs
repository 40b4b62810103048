//! Who is told what, in which order, and what becomes of it when the other process is late, deaf or gone.

use super::*;
use crate::app::upgrade::protocol::HEAD_BYTES;
use crate::domain::time::Timestamp;
use crate::store::revoked::Which;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shows the seconds it was set to.
#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn ticks(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

fn relay(side: Side) -> Arc<Relay> {
    Relay::new(side, Arc::new(HandClock::default()))
}

fn pair() -> (Channel, Channel) {
    let (one, other) = UnixStream::pair().expect("the system gives sockets");
    let channel = |socket| Channel::new(socket, Duration::from_millis(500)).expect("it can be set up");
    (channel(one), channel(other))
}

fn revocation(name: &str) -> Revocation {
    let [issued_by, ends_at] = [5, 6].map(Timestamp::from_secs);
    Revocation { source: "local".to_owned(), which: Which::Named(name.to_owned()), issued_by, ends_at }
}

fn revoke(number: u64, name: &str) -> Message {
    Message::Revoke { number, revocation: revocation(name) }
}

#[test]
fn changes_are_told_in_order_and_count_when_the_other_says_so() {
    let (relay, (here, there)) = (relay(Side::Former), pair());
    let first = relay.revoked(revocation("first"));
    relay.answer(77, true);
    relay.answer(0, true);
    let second = relay.revoked(revocation("second"));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| relay.send_all(&here));
        let next = || there.receive().expect("it is sent").0;
        assert_eq!(next(), revoke(1, "first"));
        assert_eq!(next(), Message::Done { number: 77, ok: true }, "and nothing for a part of a change");
        assert_eq!(next(), revoke(3, "second"));
        relay.settle(Duration::from_millis(1));
        relay.answered(3, false);
        relay.answered(3, true);
        relay.answered(99, true);
        assert_eq!(second.wait(), Err(Unavailable), "the first word counts");
        relay.answered(1, true);
        assert_eq!(first.wait(), Ok(()));
        relay.settle(Duration::from_mins(1));
        relay.close();
        assert!(sending.join().expect("it ends"), "the other has heard everything");
    });
    assert!(matches!(there.receive(), Err(Broken::Closed)));
}

#[test]
fn when_the_other_is_gone_a_former_process_promises_nothing_and_a_successor_goes_on() {
    for (side, said) in [(Side::Former, Err(Unavailable)), (Side::Successor, Ok(()))] {
        let (relay, (here, there)) = (relay(side), pair());
        let told = relay.revoked(revocation("told"));
        let refused = relay.revoked(revocation("refused"));
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| relay.send_all(&here));
            assert_eq!(there.receive().expect("it is sent").0, revoke(1, "told"));
            relay.answered(2, false);
            let waiting = relay.revoked(revocation("waiting"));
            assert!(relay.can_write());
            relay.close();
            assert!(sending.join().expect("it ends"));
            assert_eq!((told.wait(), waiting.wait()), (said, said), "{side:?}");
        });
        refused.forget();
        assert_eq!(relay.revoked(revocation("late")).wait(), said, "{side:?}");
        assert_eq!(relay.can_write(), side == Side::Successor);
        assert_eq!((relay.follows(), relay.keeps()), (side == Side::Former, false));
        relay.settle(Duration::from_mins(1));
    }
}

#[test]
fn a_successor_waits_for_a_former_process_so_long_and_no_longer() {
    let clock = Arc::new(HandClock::default());
    let relay = Relay::new(Side::Successor, clock.clone());
    let (here, there) = pair();
    let commit = relay.revoked(revocation("unheard"));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| relay.send_all(&here));
        assert_eq!(there.receive().expect("it is sent").0, revoke(1, "unheard"));
        clock.0.store(HEARD_WITHIN.as_secs() + 1, Ordering::Relaxed);
        assert!(!sending.join().expect("it ends"), "it is to be ended");
    });
    assert_eq!(commit.wait(), Ok(()), "whoever waited is answered");
    assert!(matches!(there.receive(), Err(Broken::Closed)));
}

#[test]
fn a_process_that_does_not_read_is_taken_for_dead() {
    let (relay, (here, _there)) = (relay(Side::Former), pair());
    let long = "x".repeat(4096);
    let commits: Vec<Commit> = (0..1024).map(|_| relay.revoked(revocation(&long))).collect();
    assert!(!relay.send_all(&here));
    assert!(commits.into_iter().all(|commit| commit.wait() == Err(Unavailable)));
}

#[test]
fn more_changes_than_may_wait_end_the_connection() {
    let (relay, (here, there)) = (relay(Side::Former), pair());
    for _ in 0..CHANGES_MAX {
        relay.answer(1, true);
    }
    assert!(relay.can_write());
    let commit = relay.revoked(revocation("one more"));
    assert!(!relay.can_write());
    assert!(relay.send_all(&here));
    assert_eq!(commit.wait(), Err(Unavailable));
    assert!(matches!(there.receive(), Err(Broken::Closed)));
}

#[test]
fn what_nobody_took_is_given_back_in_order() {
    let relay = relay(Side::Former);
    let commits = ["first", "second"].map(|name| relay.revoked(revocation(name)));
    relay.answer(5, true);
    let back = relay.give_back();
    let names: Vec<Revocation> = back
        .iter()
        .filter_map(|(back, _)| match back {
            Back::Revocation(revocation) => Some(revocation.clone()),
            Back::Change(_) => None,
        })
        .collect();
    assert_eq!(names, ["first", "second"].map(revocation));
    assert_eq!(relay.revoked(revocation("late")).wait(), Err(Unavailable));
    for (_, ack) in back {
        ack.send(Ok(()));
    }
    assert!(commits.into_iter().all(|commit| commit.wait().is_ok()));
}

#[test]
fn many_ends_are_told_in_parts_of_which_the_last_is_answered() {
    let mut frames = Vec::new();
    put(Change::End { sessions: Vec::new() }, 7, &mut frames);
    assert!(frames.is_empty(), "none ended");
    let session = crate::app::upgrade::protocol::tests::session(1).revive().0;
    let sessions = vec![(session, End::Idle); ENDS_MAX + 1];
    put(Change::End { sessions }, 7, &mut frames);
    let mut told = Vec::new();
    let mut rest = &frames[..];
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let (length, kind) = Message::head(*head).expect("a head");
        let (body, after) = after.split_at(length);
        match Message::read(kind, body) {
            Ok(Message::End { number, ended }) => told.push((number, ended.len())),
            other => panic!("{other:?}"),
        }
        rest = after;
    }
    assert_eq!(told, [(0, ENDS_MAX), (7, 1)]);
}
