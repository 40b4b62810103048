//! What two processes say to each other while one takes over from the other: messages as bytes, and back.
//!
//! A frame is the length of its body, the number of its kind, and the body; numbers little-endian. [`Message::Hello`] and
//! [`Message::Refused`] stay as they are for ever: by them other versions are known, and turned away in words. All else
//! belongs to a [`VERSION`].

#[cfg(test)]
pub(super) mod tests;

use crate::domain::session::{End, Restored, SPACES_MAX, SessionId, SpaceId};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenDigest;
use crate::store::record;
use crate::store::revoked::{Revocation, Which};
use http::HeaderValue;

/// The version of all messages; another form of one, or of a session's record, is another version.
pub(super) const VERSION: u32 = 2;
/// The longest body: a session with all the claims and data that it may have is well below.
pub(super) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The bytes before a body.
pub(super) const HEAD_BYTES: usize = 5;
/// A frame of many sessions is closed once it is so long.
pub(super) const FULL_BYTES: usize = 256 * 1024;
/// Ends in one frame.
pub(super) const ENDS_MAX: usize = 4096;
/// What a hello begins with: whoever says something else is no vestibule.
const GREETING: &[u8] = b"vestibule upgrade";

/// An end that is remembered: by which token somebody may still come, what it ended by, and which it was.
pub(super) type Remembered = (TokenDigest, End, SessionId);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// I would take over, and speak this version.
    Hello { version: u32, wish: Wish },
    /// No; why.
    Refused(String),
    /// I am still at it: wait.
    Wait,
    /// This is my process, and these are your clock and the place of your sessions. The listeners follow, then [`Message::Go`].
    Welcome { process: u32, clock: i64, store: String },
    /// The socket that comes with this message listens there.
    Listener(String),
    /// That was all: go on. From the old process: load. From the new one: it has, and takes sessions now.
    Go,
    /// Sessions as they are; one that was told before is so no longer.
    Sessions(Vec<Restored>),
    /// How sessions ended.
    Ends(Vec<Remembered>),
    /// Some of the bearer tokens that are revoked.
    Revoked(Vec<u8>),
    /// From now on the sessions are yours, once you take them.
    Cut,
    /// They are mine. Whoever has sent this serves; whoever has read it writes nothing any more.
    Taken,
    /// What came of an upgrade that was wished for.
    Outcome { ok: bool, text: String },
    /// A session was opened, and these ended for it.
    Open { number: u64, session: Box<Restored>, ended: Vec<(SessionId, End)> },
    /// A session has another token or other claims, or its token was presented.
    Put { number: u64, session: Box<Restored> },
    /// Sessions ended.
    End { number: u64, ended: Vec<(SessionId, End)> },
    /// A space has another value, made from `former`.
    Data {
        number: u64,
        id: SessionId,
        space: SpaceId,
        former: Option<HeaderValue>,
        value: Option<HeaderValue>,
    },
    /// Bearer tokens were revoked.
    Revoke { number: u64, revocation: Revocation },
    /// A session was used.
    Use { id: SessionId, at: Timestamp },
    /// What came of the change of that number.
    Done { number: u64, ok: bool },
}

/// What somebody who says hello wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To take over.
    Take,
    /// That a new process be started, which takes over.
    Start,
}

/// These bytes are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message that is none")]
pub(super) struct Malformed;

impl Message {
    /// The whole frame.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; HEAD_BYTES];
        frame[4] = self.kind();
        self.body(&mut Writer(&mut frame));
        let length = u32::try_from(frame.len() - HEAD_BYTES).expect("bodies are bounded where they are made");
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame
    }

    /// The length of the body that a frame's head tells, and its kind.
    pub(super) fn head(head: [u8; HEAD_BYTES]) -> Result<(usize, u8), Malformed> {
        let [a, b, c, d, kind] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > BODY_BYTES_MAX { Err(Malformed) } else { Ok((length, kind)) }
    }

    /// The message of that kind with this body.
    pub(super) fn read(kind: u8, body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let message = reader.message(kind).ok_or(Malformed)?;
        // A later hello may say more.
        if reader.0.is_empty() || matches!(message, Self::Hello { .. }) {
            Ok(message)
        } else {
            Err(Malformed)
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Refused(_) => 2,
            Self::Wait => 3,
            Self::Welcome { .. } => 4,
            Self::Listener(_) => 5,
            Self::Go => 6,
            Self::Sessions(_) => 7,
            Self::Ends(_) => 8,
            Self::Cut => 9,
            Self::Taken => 10,
            Self::Outcome { .. } => 11,
            Self::Open { .. } => 12,
            Self::Put { .. } => 13,
            Self::End { .. } => 14,
            Self::Data { .. } => 15,
            Self::Use { .. } => 16,
            Self::Done { .. } => 17,
            Self::Revoked(_) => 18,
            Self::Revoke { .. } => 19,
        }
    }

    fn body(&self, to: &mut Writer<'_>) {
        match self {
            Self::Hello { version, wish } => {
                to.0.extend_from_slice(GREETING);
                to.0.extend_from_slice(&version.to_le_bytes());
                to.0.push(u8::from(*wish == Wish::Start));
            }
            Self::Refused(text) | Self::Listener(text) => to.bytes(text.as_bytes()),
            Self::Wait | Self::Go | Self::Cut | Self::Taken => {}
            Self::Welcome { process, clock, store } => {
                to.0.extend_from_slice(&process.to_le_bytes());
                to.number(clock.cast_unsigned());
                to.bytes(store.as_bytes());
            }
            Self::Sessions(sessions) => sessions.iter().for_each(|session| to.session(session)),
            Self::Ends(ends) => {
                for (digest, end, id) in ends {
                    to.0.extend_from_slice(digest.as_bytes());
                    to.end(*id, *end);
                }
            }
            Self::Outcome { ok, text } => {
                to.0.push(u8::from(*ok));
                to.bytes(text.as_bytes());
            }
            Self::Open { number, session, ended } => {
                to.number(*number);
                to.session(session);
                to.ends(ended);
            }
            Self::Put { number, session } => {
                to.number(*number);
                to.session(session);
            }
            Self::End { number, ended } => {
                to.number(*number);
                to.ends(ended);
            }
            Self::Data { number, id, space, former, value } => {
                to.number(*number);
                to.0.extend_from_slice(id.as_bytes());
                to.number(space.0);
                for value in [former, value] {
                    to.0.push(u8::from(value.is_some()));
                    if let Some(value) = value {
                        to.bytes(value.as_bytes());
                    }
                }
            }
            Self::Use { id, at } => {
                to.0.extend_from_slice(id.as_bytes());
                to.number(at.as_micros());
            }
            Self::Done { number, ok } => {
                to.number(*number);
                to.0.push(u8::from(*ok));
            }
            Self::Revoked(piece) => to.0.extend_from_slice(piece),
            Self::Revoke { number, revocation } => {
                to.number(*number);
                to.revocation(revocation);
            }
        }
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("texts, values and records are short");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn end(&mut self, id: SessionId, end: End) {
        self.0.extend_from_slice(id.as_bytes());
        self.0.push(end as u8);
    }

    fn ends(&mut self, ended: &[(SessionId, End)]) {
        for (id, end) in ended {
            self.end(*id, *end);
        }
    }

    fn revocation(&mut self, revocation: &Revocation) {
        let Revocation { source, which, issued_by, ends_at } = revocation;
        self.bytes(source.as_bytes());
        let (kind, name) = match which {
            Which::Named(jti) => (0, jti.as_str()),
            Which::Of(subject) => (1, subject.as_str()),
            Which::All => (2, ""),
        };
        self.0.push(kind);
        self.bytes(name.as_bytes());
        self.number(issued_by.as_micros());
        self.number(ends_at.as_micros());
    }

    fn session(&mut self, session: &Restored) {
        self.0.extend_from_slice(session.id.as_bytes());
        self.number(session.opened_at.as_micros());
        self.number(session.last_used_at.as_micros());
        self.bytes(&record::encode(session));
        self.0.push(u8::try_from(session.data.len()).unwrap_or(u8::MAX));
        for (space, value) in session.data.iter().take(usize::from(u8::MAX)) {
            self.number(space.0);
            self.bytes(value.as_bytes());
        }
    }
}

/// What of a body is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn message(&mut self, kind: u8) -> Option<Message> {
        Some(match kind {
            1 => {
                let greeting = self.take(GREETING.len())?;
                if greeting != GREETING {
                    return None;
                }
                let version = u32::from_le_bytes(*self.chunk()?);
                let wish = if self.flag()? { Wish::Start } else { Wish::Take };
                Message::Hello { version, wish }
            }
            2 => Message::Refused(self.text()?),
            3 => Message::Wait,
            4 => {
                let process = u32::from_le_bytes(*self.chunk()?);
                Message::Welcome { process, clock: self.number()?.cast_signed(), store: self.text()? }
            }
            5 => Message::Listener(self.text()?),
            6 => Message::Go,
            7 => Message::Sessions(self.all(Self::session)?),
            8 => Message::Ends(self.all(|reader| {
                let digest = TokenDigest::from_bytes(*reader.chunk()?);
                let (id, end) = reader.end()?;
                Some((digest, end, id))
            })?),
            9 => Message::Cut,
            10 => Message::Taken,
            11 => Message::Outcome { ok: self.flag()?, text: self.text()? },
            12 => Message::Open {
                number: self.number()?,
                session: Box::new(self.session()?),
                ended: self.all(Self::end)?,
            },
            13 => Message::Put { number: self.number()?, session: Box::new(self.session()?) },
            14 => Message::End { number: self.number()?, ended: self.all(Self::end)? },
            15 => Message::Data {
                number: self.number()?,
                id: SessionId::from_bytes(*self.chunk()?),
                space: SpaceId(self.number()?),
                former: if self.flag()? { Some(self.value()?) } else { None },
                value: if self.flag()? { Some(self.value()?) } else { None },
            },
            16 => Message::Use {
                id: SessionId::from_bytes(*self.chunk()?),
                at: Timestamp::from_micros(self.number()?),
            },
            17 => Message::Done { number: self.number()?, ok: self.flag()? },
            18 => Message::Revoked(std::mem::take(&mut self.0).to_vec()),
            19 => Message::Revoke { number: self.number()?, revocation: self.revocation()? },
            _ => return None,
        })
    }

    /// Everything to the end of the body.
    fn all<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut all = Vec::new();
        while !self.0.is_empty() {
            all.push(one(self)?);
        }
        Some(all)
    }

    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(chunk)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.chunk()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(*self.chunk()?);
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn value(&mut self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.bytes()?).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn end(&mut self) -> Option<(SessionId, End)> {
        let id = SessionId::from_bytes(*self.chunk()?);
        let [end] = *self.chunk()?;
        Some((id, *End::ALL.get(usize::from(end))?))
    }

    fn revocation(&mut self) -> Option<Revocation> {
        let source = self.text()?;
        let [kind] = *self.chunk()?;
        let name = self.text()?;
        let which = match kind {
            0 => Which::Named(name),
            1 => Which::Of(name),
            2 if name.is_empty() => Which::All,
            _ => return None,
        };
        let [issued_by, ends_at] = [self.number()?, self.number()?].map(Timestamp::from_micros);
        Some(Revocation { source, which, issued_by, ends_at })
    }

    fn session(&mut self) -> Option<Restored> {
        let id = SessionId::from_bytes(*self.chunk()?);
        let opened_at = Timestamp::from_micros(self.number()?);
        let last_used_at = Timestamp::from_micros(self.number()?);
        let mut session = record::decode(id, opened_at, self.bytes()?)?;
        session.last_used_at = last_used_at;
        let [spaces] = *self.chunk()?;
        if usize::from(spaces) > SPACES_MAX {
            return None;
        }
        for _ in 0..spaces {
            session.data.push((SpaceId(self.number()?), self.value()?));
        }
        Some(session)
    }
}
