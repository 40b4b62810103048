//! A session: one subject's right to pass, from sign-in to its end.
//!
//! It ends by pausing longer than the idle timeout, by reaching its absolute lifetime, or by decision. Deadlines are
//! half-open: at the deadline itself the session is over. Terms as in the OWASP Session Management Cheat Sheet,
//! "Session Expiration".
//!
//! A [`Session`] is a cheap clone around one allocation: a fixed head, then the packed identity, the name of the way
//! to sign in, the client's address and its browser. The last use and the end share one atomic word, its life: whoever
//! ends the session wins against every touch that has not been written yet, and nothing brings it back. All clones
//! share that life, also those with other claims ([`Session::with_identity`]).
//!
//! The token is not here: a session knows its digest only.

use crate::domain::access::EntryId;
use crate::domain::identity::{Identity, IdentityRef};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use triomphe::ThinArc;

/// A session's public name: random, safe to log, good for nothing but naming it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The name made of these bytes, which the caller draws at random.
    pub const fn from_bytes(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The least name of all, where a walk in order begins.
    pub const FIRST: Self = Self([0; 16]);
}

/// 22 characters of base64url.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 22];
        let len =
            URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).expect("16 bytes are 22 characters of base64");
        f.write_str(std::str::from_utf8(&text[..len]).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl serde::Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not the name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session id; it is 22 characters of base64url, as `vestibule sessions list` prints them")]
pub struct NotASessionId;

impl FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        // One spelling per name: padding, other lengths and stray last bits are refused by the engine.
        let mut bytes = [0; 18];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(std::array::from_fn(|at| bytes[at]))),
            _ => Err(NotASessionId),
        }
    }
}

/// A fingerprint of the cookie scope on which a session was opened: scheme, and host or shared domain.
///
/// A token that turns up on another scope was carried there by somebody else than the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScopeId(pub u64);

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The longest pause between two uses.
    pub idle_timeout: Duration,
    /// The longest life, however busy.
    pub absolute_lifetime: Duration,
}

/// By what a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The subject signed out.
    SignOut,
    /// It was not used for the idle timeout.
    Idle,
    /// It reached its absolute lifetime.
    Lifetime,
    /// An operator, the subject or a provider ended it.
    Revoked,
    /// The subject's credential is gone or new: user removed, password changed.
    Credential,
    /// A successor took its place.
    Superseded,
}

impl End {
    /// The reason as logs and counters spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignOut => "sign_out",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Revoked => "revoked",
            Self::Credential => "credential",
            Self::Superseded => "superseded",
        }
    }

    /// Every reason, in the order of their codes in a session's life.
    pub const ALL: [Self; 6] =
        [Self::SignOut, Self::Idle, Self::Lifetime, Self::Revoked, Self::Credential, Self::Superseded];
}

/// What a session is at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It passes.
    Live,
    /// It never passes again.
    Ended(End),
}

/// Why a request's cookie opens no session. All lead to sign-in; the client is told none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is no cookie of ours.
    Absent,
    /// The value is not a token that one of our keys made.
    Malformed,
    /// A token of ours, but no such session: swept long ago, or opened by a process that is gone.
    Unknown,
    /// The session was opened on another cookie scope.
    OtherScope,
    /// The session ended, and by what.
    Ended(End),
    /// Several different values under our name: one of them was planted.
    Several,
    /// The session was opened by a way that this route does not take, or that is no longer what it was.
    OtherWay,
}

impl Cause {
    /// The cause as logs and counters spell it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::OtherScope => "other_scope",
            Self::Ended(end) => end.as_str(),
            Self::Several => "several",
            Self::OtherWay => "other_way",
        }
    }
}

/// What a session is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Under which the table finds it.
    pub digest: TokenDigest,
    /// Its public name.
    pub id: SessionId,
    /// Who signed in.
    pub identity: &'a Identity,
    /// The entry of `sign_in` that vouched for them.
    pub entry: EntryId,
    /// The cookie scope on which it counts.
    pub scope: ScopeId,
    /// The entry's name in the file; cut to 255 bytes.
    pub sign_in: &'a str,
    /// Where from, for the list of sessions; cut to 64 bytes.
    pub client_address: &'a str,
    /// By which browser, for the list of sessions; cut to 200 bytes.
    pub user_agent: &'a str,
    /// When.
    pub now: Timestamp,
    /// The lifetimes in force, which also bound it when the file's grow later.
    pub lifetimes: Lifetimes,
}

/// One session. Clones are cheap and share its life.
#[derive(Clone)]
pub struct Session(ThinArc<Head, u8>);

struct Head {
    /// Milliseconds of the last use, shifted left by [`CODE_BITS`], and below them the end's code; 0 while it lives.
    life: AtomicU64,
    opened_at: Timestamp,
    idle_timeout_ms: u64,
    absolute_lifetime_ms: u64,
    entry: EntryId,
    scope: ScopeId,
    /// Whose `life` counts, where the claims were replaced; never more than one step away.
    origin: Option<Session>,
    digest: TokenDigest,
    id: SessionId,
    /// How the bytes behind the head divide; the browser is what remains.
    identity_len: u16,
    sign_in_len: u8,
    address_len: u8,
}

const CODE_BITS: u32 = 8;
const CODE_MASK: u64 = (1 << CODE_BITS) - 1;
/// A use is written down only when the last one is at least this fraction of the idle timeout old.
const TOUCHES_PER_IDLE_TIMEOUT: u32 = 20;

const SIGN_IN_BYTES_MAX: usize = 255;
const ADDRESS_BYTES_MAX: usize = 64;
const USER_AGENT_BYTES_MAX: usize = 200;

impl Session {
    /// Opens a session, live from now on. One allocation that stays.
    pub fn open(opening: Opening<'_>) -> Self {
        let sign_in = cut(opening.sign_in, SIGN_IN_BYTES_MAX);
        let address = cut(opening.client_address, ADDRESS_BYTES_MAX);
        let user_agent = cut(opening.user_agent, USER_AGENT_BYTES_MAX);
        let head = Head {
            life: AtomicU64::new(life_of(opening.now)),
            opened_at: opening.now,
            idle_timeout_ms: millis(opening.lifetimes.idle_timeout),
            absolute_lifetime_ms: millis(opening.lifetimes.absolute_lifetime),
            entry: opening.entry,
            scope: opening.scope,
            origin: None,
            digest: opening.digest,
            id: opening.id,
            identity_len: 0,
            sign_in_len: sign_in.len() as u8,
            address_len: address.len() as u8,
        };
        Self::pack(head, opening.identity, [sign_in, address, user_agent])
    }

    /// The same session with other claims: they count for whoever finds it from now on, and clones of the former keep
    /// the claims they saw. Token, id, deadlines and life are shared.
    #[must_use]
    pub fn with_identity(&self, identity: &Identity) -> Self {
        let former = self.head();
        let head =
            Head { life: AtomicU64::new(0), origin: Some(self.origin().clone()), identity_len: 0, ..*former };
        Self::pack(head, identity, [self.sign_in(), self.client_address(), self.user_agent()])
    }

    fn pack(mut head: Head, identity: &Identity, texts: [&str; 3]) -> Self {
        let packed = identity.packed();
        head.identity_len = u16::try_from(packed.len()).expect("`Identity` bounds itself well below 64 KiB");
        let mut tail = Vec::with_capacity(packed.len() + texts.iter().map(|text| text.len()).sum::<usize>());
        tail.extend_from_slice(packed);
        for text in texts {
            tail.extend_from_slice(text.as_bytes());
        }
        Self(ThinArc::from_header_and_slice(head, &tail))
    }

    /// Under which the table finds it.
    pub fn digest(&self) -> &TokenDigest {
        &self.head().digest
    }

    /// Its public name.
    pub fn id(&self) -> SessionId {
        self.head().id
    }

    /// Its public name, where it lies: an index orders sessions by it.
    pub(crate) fn id_ref(&self) -> &SessionId {
        &self.head().id
    }

    /// The entry of `sign_in` by which it was opened.
    pub fn entry(&self) -> EntryId {
        self.head().entry
    }

    /// The cookie scope on which it counts.
    pub fn scope(&self) -> ScopeId {
        self.head().scope
    }

    /// Whose it is.
    pub fn identity(&self) -> IdentityRef<'_> {
        IdentityRef::from_packed(&self.0.slice[..usize::from(self.head().identity_len)])
    }

    /// The name of the way to sign in.
    pub fn sign_in(&self) -> &str {
        self.texts()[0]
    }

    /// Where it was opened from.
    pub fn client_address(&self) -> &str {
        self.texts()[1]
    }

    /// The browser that opened it, as it called itself.
    pub fn user_agent(&self) -> &str {
        self.texts()[2]
    }

    /// When it was opened.
    pub fn opened_at(&self) -> Timestamp {
        self.head().opened_at
    }

    /// The last use that was written down; up to a twentieth of the idle timeout behind the last use.
    pub fn last_used_at(&self) -> Timestamp {
        used_at(self.life().load(Ordering::Acquire))
    }

    /// Until when it lives if it is not used again; never later than [`Session::ends_at`].
    pub fn idle_until(&self, current: &Lifetimes) -> Timestamp {
        self.idle_until_after(self.last_used_at(), current)
    }

    /// Until when it lives however busy.
    ///
    /// The shorter of the lifetime it was opened with and the current one: a file that shortens lifetimes applies to
    /// living sessions, one that lengthens them does not.
    pub fn ends_at(&self, current: &Lifetimes) -> Timestamp {
        let opened_with = Duration::from_millis(self.head().absolute_lifetime_ms);
        self.head().opened_at.plus(opened_with.min(current.absolute_lifetime))
    }

    /// By what it was ended for good, if it was. A deadline that has passed counts once somebody settled it.
    pub fn end(&self) -> Option<End> {
        end_in(self.life().load(Ordering::Acquire))
    }

    /// What it is at `now`: the end it was given, else what the first of its deadlines says.
    pub fn state(&self, now: Timestamp, current: &Lifetimes) -> State {
        self.state_in(self.life().load(Ordering::Acquire), now, current)
    }

    /// Like [`Session::state`], and makes an end by deadline final: no touch that lags behind revives a session which
    /// somebody was already told is over.
    pub fn settle(&self, now: Timestamp, current: &Lifetimes) -> State {
        let mut life = self.life().load(Ordering::Acquire);
        loop {
            match self.state_in(life, now, current) {
                State::Ended(end) if end_in(life).is_none() => match self.write(life, life | code_of(end)) {
                    Ok(()) => return State::Ended(end),
                    Err(changed) => life = changed,
                },
                state => return state,
            }
        }
    }

    /// Notes a use, at most once per twentieth of the idle timeout; tells whether it wrote.
    ///
    /// Never moves the last use backward, never revives: a session that ended, or whose deadline had passed at `now`,
    /// stays as it is. One load as a rule, and one compare-and-swap where it writes.
    pub fn touch(&self, now: Timestamp, current: &Lifetimes) -> bool {
        let step = self.idle_timeout(current) / TOUCHES_PER_IDLE_TIMEOUT;
        let mut life = self.life().load(Ordering::Relaxed);
        loop {
            let used_at = used_at(life);
            let due = now > used_at && now.since(used_at) >= step;
            if !due || self.state_in(life, now, current) != State::Live {
                return false;
            }
            match self.write(life, life_of(now)) {
                Ok(()) => return true,
                Err(changed) => life = changed,
            }
        }
    }

    /// Ends it by decision. Only the first end counts; `false`: it had one already, and keeps that.
    pub(crate) fn finish(&self, end: End) -> bool {
        let mut life = self.life().load(Ordering::Acquire);
        while end_in(life).is_none() {
            match self.write(life, life | code_of(end)) {
                Ok(()) => return true,
                Err(changed) => life = changed,
            }
        }
        false
    }

    fn state_in(&self, life: u64, now: Timestamp, current: &Lifetimes) -> State {
        if let Some(end) = end_in(life) {
            return State::Ended(end);
        }
        let idle_until = self.idle_until_after(used_at(life), current);
        if now < idle_until {
            State::Live
        } else if idle_until == self.ends_at(current) {
            State::Ended(End::Lifetime)
        } else {
            State::Ended(End::Idle)
        }
    }

    fn idle_until_after(&self, used_at: Timestamp, current: &Lifetimes) -> Timestamp {
        used_at.plus(self.idle_timeout(current)).min(self.ends_at(current))
    }

    fn idle_timeout(&self, current: &Lifetimes) -> Duration {
        Duration::from_millis(self.head().idle_timeout_ms).min(current.idle_timeout)
    }

    fn write(&self, seen: u64, life: u64) -> Result<(), u64> {
        self.life().compare_exchange_weak(seen, life, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }

    fn life(&self) -> &AtomicU64 {
        &self.origin().head().life
    }

    fn origin(&self) -> &Self {
        self.head().origin.as_ref().unwrap_or(self)
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    fn texts(&self) -> [&str; 3] {
        let head = self.head();
        let (_, texts) = self.0.slice.split_at(usize::from(head.identity_len));
        let (sign_in, texts) = texts.split_at(usize::from(head.sign_in_len));
        let (address, user_agent) = texts.split_at(usize::from(head.address_len));
        [sign_in, address, user_agent]
            .map(|text| std::str::from_utf8(text).expect("packed from whole strings"))
    }
}

/// Names the session and nothing else; claims are personal data.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.id())
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The life of a session that was used at an instant and has not ended. Years past two million are cut.
fn life_of(used_at: Timestamp) -> u64 {
    used_at.as_millis().min(u64::MAX >> CODE_BITS) << CODE_BITS
}

fn used_at(life: u64) -> Timestamp {
    Timestamp::from_millis(life >> CODE_BITS)
}

fn code_of(end: End) -> u64 {
    end as u64 + 1
}

fn end_in(life: u64) -> Option<End> {
    let code = (life & CODE_MASK) as usize;
    End::ALL.get(code.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{Claims, GROUPS};

    const LIFETIMES: Lifetimes =
        Lifetimes { idle_timeout: Duration::from_secs(10), absolute_lifetime: Duration::from_secs(30) };
    const FOREVER: Lifetimes = Lifetimes { idle_timeout: Duration::MAX, absolute_lifetime: Duration::MAX };

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn identity(groups: &[&str]) -> Identity {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let claims = Claims::from([(GROUPS.to_owned(), crate::domain::identity::ClaimValue::List(groups))]);
        Identity::new("alice", "local", &claims).expect("a plain identity packs")
    }

    fn opened_with(lifetimes: Lifetimes, user_agent: &str) -> Session {
        Session::open(Opening {
            digest: TokenDigest::of(&[7; 32]),
            id: SessionId::from_bytes([9; 16]),
            identity: &identity(&["ops"]),
            entry: EntryId(3),
            scope: ScopeId(4),
            sign_in: "local",
            client_address: "192.0.2.7",
            user_agent,
            now: secs(0),
            lifetimes,
        })
    }

    fn session() -> Session {
        opened_with(LIFETIMES, "curl/8.5.0")
    }

    #[test]
    fn a_session_ends_at_the_first_of_its_deadlines() {
        // Opened at 0 s, idle timeout 10 s, absolute lifetime 30 s: uses, asked at, expected.
        for (uses, now, expected) in [
            (&[][..], 0, State::Live),
            (&[], 9, State::Live),
            (&[], 10, State::Ended(End::Idle)),
            (&[9, 15], 24, State::Live),
            (&[9, 15], 25, State::Ended(End::Idle)),
            (&[9, 15], 99, State::Ended(End::Idle)),
            (&[9, 18, 25], 29, State::Live),
            (&[9, 18, 25], 30, State::Ended(End::Lifetime)),
            (&[9, 18, 20], 30, State::Ended(End::Lifetime)),
        ] {
            let session = session();
            for &used in uses {
                assert!(session.touch(secs(used), &LIFETIMES), "used {used}");
            }
            assert_eq!(session.state(secs(now), &LIFETIMES), expected, "used {uses:?}, asked {now}");
            assert_eq!(session.settle(secs(now), &LIFETIMES), expected, "used {uses:?}, settled {now}");
            assert_eq!(
                session.state(secs(0), &LIFETIMES),
                expected,
                "once settled, an earlier instant says the same"
            );
        }
    }

    #[test]
    fn shorter_lifetimes_apply_to_living_sessions_and_longer_ones_do_not() {
        let shorter =
            Lifetimes { idle_timeout: Duration::from_secs(5), absolute_lifetime: Duration::from_secs(20) };
        assert_eq!(session().state(secs(5), &shorter), State::Ended(End::Idle));
        assert_eq!(session().ends_at(&shorter), secs(20));
        assert_eq!(session().state(secs(10), &FOREVER), State::Ended(End::Idle));
        assert_eq!(session().ends_at(&FOREVER), secs(30));
        assert_eq!(session().idle_until(&FOREVER), secs(10));
    }

    #[test]
    fn a_touch_writes_at_most_once_per_twentieth_of_the_idle_timeout_and_never_backward() {
        let session = session();
        for (millis, written) in [(499, false), (500, true), (999, false), (1000, true), (400, false)] {
            assert_eq!(session.touch(Timestamp::from_millis(millis), &LIFETIMES), written, "at {millis} ms");
        }
        assert_eq!(session.last_used_at(), secs(1));
    }

    #[test]
    fn a_late_touch_revives_nothing() {
        let settled = session();
        assert_eq!(settled.settle(secs(10), &LIFETIMES), State::Ended(End::Idle));
        assert!(!settled.touch(secs(9), &LIFETIMES), "the use came first, but the end was already told");
        assert_eq!(settled.state(secs(9), &LIFETIMES), State::Ended(End::Idle));

        let ended = session();
        assert!(ended.finish(End::SignOut));
        assert!(!ended.touch(secs(5), &LIFETIMES));
        assert!(!ended.finish(End::Revoked), "the first end counts");
        assert_eq!(ended.end(), Some(End::SignOut));

        assert!(
            !session().touch(secs(10), &LIFETIMES),
            "a deadline that nobody settled is a deadline all the same"
        );
    }

    #[test]
    fn every_end_survives_its_code() {
        for end in End::ALL {
            let session = session();
            session.finish(end);
            assert_eq!(session.state(secs(1), &LIFETIMES), State::Ended(end));
            assert_eq!(session.last_used_at(), secs(0));
        }
    }

    #[test]
    fn other_claims_share_the_life_of_the_session() {
        let former = session();
        let between = former.with_identity(&identity(&["dev"]));
        let current = between.with_identity(&identity(&["dev", "night"]));
        let groups =
            |session: &Session| session.identity().claim(GROUPS).map(|claim| claim.header_form().to_owned());
        assert_eq!(groups(&former).as_deref(), Some("ops"));
        assert_eq!(groups(&current).as_deref(), Some("dev,night"));
        assert_eq!((current.id(), current.digest()), (former.id(), former.digest()));
        assert_eq!((current.entry(), current.scope()), (EntryId(3), ScopeId(4)));
        assert_eq!(current.user_agent(), "curl/8.5.0");

        assert!(former.touch(secs(5), &LIFETIMES), "an exchange that began before the change");
        assert_eq!(current.last_used_at(), secs(5));
        current.finish(End::Revoked);
        assert_eq!((former.end(), between.end()), (Some(End::Revoked), Some(End::Revoked)));
    }

    #[test]
    fn what_it_was_opened_with_can_be_read_and_is_bounded() {
        let session = session();
        assert_eq!(session.identity().subject(), "alice");
        assert_eq!((session.sign_in(), session.client_address()), ("local", "192.0.2.7"));
        assert_eq!(format!("{session:?}"), "Session(CQkJCQkJCQkJCQkJCQkJCQ)");

        let long = opened_with(LIFETIMES, &"é".repeat(150));
        assert_eq!(long.user_agent(), "é".repeat(100));
        let odd = opened_with(LIFETIMES, &format!("x{}", "é".repeat(150)));
        assert_eq!(odd.user_agent().len(), 199, "cut between characters");
    }

    #[test]
    fn an_end_wins_against_touches_from_other_threads() {
        for round in 0..200 {
            let session = opened_with(FOREVER, "");
            // So short an idle timeout that every touch writes.
            let hasty = Lifetimes { idle_timeout: Duration::from_millis(19), ..FOREVER };
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for ms in 1..500 {
                            session.touch(Timestamp::from_millis(ms), &hasty);
                        }
                    });
                }
                assert!(session.finish(End::SignOut), "round {round}");
            });
            assert_eq!(session.end(), Some(End::SignOut), "round {round}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = SessionId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in
            ["", "AAAA", "MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2RlZh", "MDEyMzQ1Njc4OWFiY2RlZgA"]
        {
            assert_eq!(text.parse::<SessionId>(), Err(NotASessionId), "{text}");
        }
    }
}
