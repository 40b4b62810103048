//! A session: a visitor's memory here, and as a rule one subject's right to pass, from its opening to its end.
//!
//! It ends by pausing longer than the idle timeout, by reaching its absolute lifetime, or by decision. Deadlines are
//! half-open: at the deadline itself the session is over. Terms as in the OWASP Session Management Cheat Sheet,
//! "Session Expiration".
//!
//! A [`Session`] is a cheap clone around one allocation: a fixed head, then the packed identity, the name of the way
//! to sign in, the client's address and its browser. The last use and the end share one atomic word, its life: whoever
//! ends the session wins against every touch that has not been written yet, and nothing brings it back.
//!
//! A session that gets other claims or another token gets another allocation, which takes over life and data. The former
//! one is marked as moved and points forward; whoever still holds it keeps the claims and the token that it saw, and reads,
//! touches, patches and ends the one that took over. So a session is one allocation again as soon as nobody holds the former.
//!
//! What few sessions have (data, a gain that waits, a predecessor's token) lies behind the session's cell, a mutex.
//! Ends and moves are written under it too, so that under the cell a live session stays one. Only touches are not.
//!
//! The token is not here: a session knows its digest only.

use crate::domain::access::EntryId;
use crate::domain::identity::{Identity, IdentityRef};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use triomphe::ThinArc;

mod data;
#[cfg(test)]
mod fixtures;
mod life;
mod rest;
mod stored;
mod succession;

pub use stored::{Predecessor, Restored};

use rest::Rest;

/// A session's public name: random, safe to log, good for nothing but naming it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The name made of these bytes, which the caller draws at random.
    pub const fn from_bytes(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
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

/// A fingerprint of the name under which upstreams keep data in sessions; the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u64);

impl SpaceId {
    /// The space of that name.
    pub fn of(name: &str) -> Self {
        let mut hasher = SipHasher24::new();
        hasher.write(name.as_bytes());
        Self(hasher.finish())
    }
}

/// What a session stands for; each kind has clocks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A subject that signed in.
    SignedIn,
    /// A subject that signed in and asked to be remembered.
    Remembered,
    /// Nobody: it holds data of a visitor who has not signed in.
    Anonymous,
}

impl Kind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::SignedIn, Self::Remembered, Self::Anonymous];
}

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The longest pause between two uses.
    pub idle_timeout: Duration,
    /// The longest life, however busy.
    pub absolute_lifetime: Duration,
}

/// The clocks of all kinds, as the file in force says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Of [`Kind::SignedIn`].
    pub signed_in: Lifetimes,
    /// Of [`Kind::Remembered`].
    pub remembered: Lifetimes,
    /// Of [`Kind::Anonymous`].
    pub anonymous: Lifetimes,
    /// The age at which a token is to be replaced by a successor.
    pub renew_after: Duration,
}

impl Clocks {
    /// The lifetimes of a kind.
    pub const fn of(&self, kind: Kind) -> Lifetimes {
        match kind {
            Kind::SignedIn => self.signed_in,
            Kind::Remembered => self.remembered,
            Kind::Anonymous => self.anonymous,
        }
    }
}

/// How long a token serves on after its successor was first presented.
pub const SUPERSEDED_GRACE: Duration = Duration::from_secs(10);
/// The idle timeout of an anonymous session until its cookie came back once.
pub const ANONYMOUS_FIRST: Duration = Duration::from_mins(5);
/// In how many spaces one session keeps data.
pub const SPACES_MAX: usize = 16;
/// The entry of anonymous sessions: no way to sign in has it.
pub const NO_ENTRY: EntryId = EntryId(0);

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
    /// The visitor signed in longer ago than this route takes.
    Stale,
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
            Self::Stale => "auth_age",
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
    /// What it stands for.
    pub kind: Kind,
    /// Who signed in; nobody where it is anonymous.
    pub identity: Option<&'a Identity>,
    /// The entry of `sign_in` that vouched for them.
    pub entry: EntryId,
    /// The cookie scope on which it counts.
    pub scope: ScopeId,
    /// A fingerprint of the credential that was presented, by which a changed one is known; 0 where there is none.
    pub stamp: u64,
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

/// Why a patch of a session's data did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchError<E> {
    /// The session has ended.
    Ended(End),
    /// It holds data in [`SPACES_MAX`] other spaces.
    Crowded,
    /// The caller refused it.
    Refused(E),
}

/// One session. Clones are cheap and share its life.
#[derive(Clone)]
pub struct Session(ThinArc<Head, u8>);

struct Head {
    /// Milliseconds of the last use, shifted left by [`CODE_BITS`], and below them how it ended or that it moved; 0 while
    /// it lives.
    life: AtomicU64,
    /// Milliseconds of the first presentation of the token, shifted left by [`CODE_BITS`], and below them [`FIRST`],
    /// [`GAIN`] and [`KEPT`]. Written under the cell.
    standing: AtomicU64,
    cell: Mutex<Option<Box<Rest>>>,
    opened_at: Timestamp,
    token_issued_at: Timestamp,
    idle_timeout_ms: u64,
    absolute_lifetime_ms: u64,
    stamp: u64,
    entry: EntryId,
    scope: ScopeId,
    digest: TokenDigest,
    id: SessionId,
    generation: u32,
    /// How the bytes behind the head divide; the browser is what remains.
    identity_len: u16,
    sign_in_len: u8,
    address_len: u8,
    kind: Kind,
}

const CODE_BITS: u32 = 8;
const CODE_MASK: u64 = (1 << CODE_BITS) - 1;
/// In a life: another allocation took over.
const MOVED: u64 = CODE_MASK;
/// In a standing: the token, which a successor or an anonymous session has, was never presented.
const FIRST: u64 = 1;
/// In a standing: a gain waits for the next token.
const GAIN: u64 = 2;
/// In a standing, beside [`FIRST`]: the token is as durable as it gets, and may be sent without another word to a store.
const KEPT: u64 = 4;
/// A use is written down only when the last one is at least this fraction of the idle timeout old.
const TOUCHES_PER_IDLE_TIMEOUT: u32 = 20;

const SIGN_IN_BYTES_MAX: usize = 255;
const ADDRESS_BYTES_MAX: usize = 64;
const USER_AGENT_BYTES_MAX: usize = 200;

impl Session {
    /// Opens a session, live from now on. One allocation that stays.
    pub fn open(opening: Opening<'_>) -> Self {
        // Who signs in holds the token from the answer on; an anonymous visitor's cookie may never come back.
        let standing = if opening.kind == Kind::Anonymous { FIRST } else { at_millis(opening.now) };
        let head = Head {
            life: AtomicU64::new(at_millis(opening.now)),
            standing: AtomicU64::new(standing),
            cell: Mutex::default(),
            opened_at: opening.now,
            token_issued_at: opening.now,
            idle_timeout_ms: millis(opening.lifetimes.idle_timeout),
            absolute_lifetime_ms: millis(opening.lifetimes.absolute_lifetime),
            stamp: opening.stamp,
            entry: opening.entry,
            scope: opening.scope,
            digest: opening.digest,
            id: opening.id,
            generation: 0,
            identity_len: 0,
            sign_in_len: 0,
            address_len: 0,
            kind: opening.kind,
        };
        let packed = opening.identity.map(Identity::packed).unwrap_or_default();
        Self::pack(head, packed, [opening.sign_in, opening.client_address, opening.user_agent])
    }

    fn pack(mut head: Head, identity: &[u8], texts: [&str; 3]) -> Self {
        // `Identity` bounds itself well below 64 KiB; what a store gives back is what it was given.
        let identity = &identity[..identity.len().min(usize::from(u16::MAX))];
        let [sign_in, address, user_agent] = texts;
        let texts = [
            cut(sign_in, SIGN_IN_BYTES_MAX),
            cut(address, ADDRESS_BYTES_MAX),
            cut(user_agent, USER_AGENT_BYTES_MAX),
        ];
        head.identity_len = identity.len() as u16;
        head.sign_in_len = texts[0].len() as u8;
        head.address_len = texts[1].len() as u8;
        let mut tail =
            Vec::with_capacity(identity.len() + texts.iter().map(|text| text.len()).sum::<usize>());
        tail.extend_from_slice(identity);
        for text in texts {
            tail.extend_from_slice(text.as_bytes());
        }
        Self(ThinArc::from_header_and_slice(head, &tail))
    }

    /// The head of another allocation of this session, with nothing in its cell and no use yet.
    fn copied_head(&self) -> Head {
        let head = self.head();
        Head {
            life: AtomicU64::new(0),
            standing: AtomicU64::new(head.standing.load(Ordering::Acquire)),
            cell: Mutex::default(),
            opened_at: head.opened_at,
            token_issued_at: head.token_issued_at,
            idle_timeout_ms: head.idle_timeout_ms,
            absolute_lifetime_ms: head.absolute_lifetime_ms,
            stamp: head.stamp,
            entry: head.entry,
            scope: head.scope,
            digest: head.digest,
            id: head.id,
            generation: head.generation,
            identity_len: 0,
            sign_in_len: 0,
            address_len: 0,
            kind: head.kind,
        }
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

    /// What it stands for.
    pub fn kind(&self) -> Kind {
        self.head().kind
    }

    /// Whether it stands for nobody: then subject and source are empty, and no route believes it.
    pub fn is_anonymous(&self) -> bool {
        self.kind() == Kind::Anonymous
    }

    /// The entry of `sign_in` by which it was opened.
    pub fn entry(&self) -> EntryId {
        self.head().entry
    }

    /// The cookie scope on which it counts.
    pub fn scope(&self) -> ScopeId {
        self.head().scope
    }

    /// The fingerprint of the credential that was presented; 0 where there is none.
    pub fn stamp(&self) -> u64 {
        self.head().stamp
    }

    /// How many tokens it had before this one.
    pub fn generation(&self) -> u32 {
        self.head().generation
    }

    /// When this token was made.
    pub fn token_issued_at(&self) -> Timestamp {
        self.head().token_issued_at
    }

    /// Whether it is this very session, as it is held in memory.
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.0.ptr(), other.0.ptr())
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

/// An instant above a code of 0: the life of a session that was used then. Years past two million are cut.
fn at_millis(at: Timestamp) -> u64 {
    at.as_millis().min(u64::MAX >> CODE_BITS) << CODE_BITS
}

fn instant_in(word: u64) -> Timestamp {
    Timestamp::from_millis(word >> CODE_BITS)
}

fn code_in(word: u64) -> u64 {
    word & CODE_MASK
}

fn code_of(end: End) -> u64 {
    end as u64 + 1
}

fn end_in(life: u64) -> Option<End> {
    End::ALL.get((code_in(life) as usize).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;

    #[test]
    fn what_it_was_opened_with_can_be_read_and_is_bounded() {
        let session = session();
        assert_eq!(session.identity().subject(), "alice");
        assert_eq!((session.sign_in(), session.client_address()), ("local", "192.0.2.7"));
        assert_eq!(format!("{session:?}"), "Session(CQkJCQkJCQkJCQkJCQkJCQ)");

        let long = opened_with(CLOCKS, &"é".repeat(150));
        assert_eq!(long.user_agent(), "é".repeat(100));
        let odd = opened_with(CLOCKS, &format!("x{}", "é".repeat(150)));
        assert_eq!(odd.user_agent().len(), 199, "cut between characters");
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
