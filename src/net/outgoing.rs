//! What a visitor was told in answer to a request, read off the bytes on their way out.
//!
//! Whoever cuts an exchange has to know how to end the connection: with an answer if there was none yet, with a close frame
//! between two frames of a `WebSocket`, else by closing. The bytes tell it; pingora's own state is gone by then.

use crate::domain::head;

/// How far the answer to the running request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// Nothing, or only interim heads (RFC 9110 §15.2).
    #[default]
    Nothing,
    /// An answer has begun; it is not a `WebSocket`.
    Answer,
    /// A 101 is out, and so many of the frames behind it.
    Frames(Frames),
}

impl Outgoing {
    /// These bytes are on their way. Costs one comparison once an answer has begun, unless it is a `WebSocket`.
    pub(crate) fn passed(&mut self, bytes: &[u8]) {
        match self {
            Self::Answer => {}
            Self::Frames(frames) => frames.passed(bytes),
            Self::Nothing => *self = Self::after_head(bytes),
        }
    }

    /// pingora writes a head in one piece, and an interim one maybe together with what follows. One in pieces, which only a
    /// very long one is, counts as an answer that has begun: then the connection is just closed.
    fn after_head(mut bytes: &[u8]) -> Self {
        while bytes.starts_with(b"HTTP/1.1 1") {
            let Some(end) = head::find_end(bytes, 0) else { return Self::Answer };
            let switches = bytes.starts_with(b"HTTP/1.1 101");
            bytes = &bytes[end..];
            if switches {
                let mut frames = Frames::default();
                frames.passed(bytes);
                return Self::Frames(frames);
            }
        }
        if bytes.is_empty() { Self::Nothing } else { Self::Answer }
    }
}

const OPCODE: u8 = 0x0F;
const OPCODE_CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
/// The length stands in the next two bytes.
const LENGTH_IN_2: u8 = 0x7E;
/// The length stands in the next eight bytes.
const LENGTH_IN_8: u8 = 0x7F;

/// A place in a sequence of `WebSocket` frames (RFC 6455 §5.2). Reads lengths and nothing else: what a frame means is the
/// application's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    /// Bytes of the frame's head so far; 0 between two frames.
    head: u8,
    /// Bytes that hold its length besides the second one: 0, 2 or 8.
    extended: u8,
    is_masked: bool,
    /// Bytes of its payload still to come.
    payload: u64,
    /// A close frame went by: nothing may follow it.
    is_closed: bool,
}

impl Frames {
    /// Whether a frame of ours may follow.
    pub(crate) fn takes_another(&self) -> bool {
        self.head == 0 && !self.is_closed
    }

    fn passed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.head > 0 && self.head == self.head_length() {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
            } else {
                self.take_head(byte);
                bytes = rest;
            }
            if self.payload == 0 && self.head == self.head_length() {
                self.head = 0;
            }
        }
    }

    /// The first two bytes tell how long the head is.
    fn head_length(&self) -> u8 {
        2 + self.extended + if self.is_masked { 4 } else { 0 }
    }

    fn take_head(&mut self, byte: u8) {
        match self.head {
            0 => {
                self.is_closed |= byte & OPCODE == OPCODE_CLOSE;
                (self.extended, self.is_masked, self.payload) = (0, false, 0);
            }
            1 => {
                self.is_masked = byte & MASKED != 0;
                match byte & LENGTH {
                    LENGTH_IN_2 => self.extended = 2,
                    LENGTH_IN_8 => self.extended = 8,
                    length => self.payload = u64::from(length),
                }
            }
            at if at < 2 + self.extended => self.payload = self.payload << 8 | u64::from(byte),
            _ => {}
        }
        self.head += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a server sends it, or masked as a client would.
    fn frame(opcode: u8, mask: bool, payload: &[u8]) -> Vec<u8> {
        let masked = if mask { MASKED } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..126 => bytes.push(masked | length as u8),
            length @ 126..0x1_0000 => {
                bytes.push(masked | LENGTH_IN_2);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(masked | LENGTH_IN_8);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if mask {
            bytes.extend_from_slice(&[0xFF, 0x00, 0x81, 0x88]);
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    proptest! {
        #[test]
        fn the_boundaries_of_frames_are_found_however_the_bytes_are_split(
            frames in prop::collection::vec(
                (0_u8..16, any::<bool>(), prop_oneof![0_usize..200, Just(125), Just(126), 65_530_usize..65_545]),
                0..6,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            together in any::<bool>(),
        ) {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
            // Payloads full of bytes that would pass for heads.
            let mut bytes = Vec::new();
            let mut boundaries = std::collections::BTreeSet::from([0]);
            let mut is_closed = false;
            for (opcode, mask, length) in frames {
                bytes.extend_from_slice(&frame(opcode, mask, &vec![0x88; length]));
                is_closed |= opcode == OPCODE_CLOSE;
                if !is_closed {
                    boundaries.insert(bytes.len());
                }
            }
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.extend([0, bytes.len()]);
            ends.sort_unstable();
            let mut outgoing = Outgoing::default();
            let mut from = 0;
            for (number, end) in ends.into_iter().enumerate() {
                if number == 0 && !together {
                    outgoing.passed(head);
                }
                if number == 0 && together {
                    outgoing.passed(&[&head[..], &bytes[..end]].concat());
                } else {
                    outgoing.passed(&bytes[from..end]);
                }
                from = end;
                let Outgoing::Frames(place) = outgoing else { panic!("{outgoing:?} after a 101") };
                prop_assert_eq!(place.takes_another(), boundaries.contains(&end), "after {} bytes", end);
            }
        }
    }

    #[test]
    fn every_byte_by_itself_and_lengths_that_nobody_sends() {
        let mut outgoing = Outgoing::default();
        outgoing.passed(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        let mut takes = |byte: u8| {
            outgoing.passed(&[byte]);
            matches!(outgoing, Outgoing::Frames(frames) if frames.takes_another())
        };
        // Text of two bytes; a ping of none; a length of all ones, of which nothing more than a start will ever come.
        let told: Vec<bool> = [0x81, 2, b'h', b'i', 0x89, 0].into_iter().map(&mut takes).collect();
        assert_eq!(told, [false, false, false, true, false, true]);
        assert!(![0x82, 127].into_iter().chain([0xFF; 8]).chain([0x88; 100]).any(takes));
    }

    #[test]
    fn interim_heads_are_no_answer() {
        const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n";
        const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
        const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let told = |parts: &[&[u8]]| {
            let mut outgoing = Outgoing::default();
            for part in parts {
                outgoing.passed(part);
            }
            outgoing
        };
        for (parts, expected) in [
            (&[][..], Outgoing::Nothing),
            (&[CONTINUE], Outgoing::Nothing),
            (&[HINTS, CONTINUE, HINTS], Outgoing::Nothing),
            (&[OK], Outgoing::Answer),
            (&[b"HTTP/1.0 200 OK\r\n\r\n"], Outgoing::Answer),
            (&[HINTS, OK, SWITCHING], Outgoing::Answer),
            (&[OK, CONTINUE], Outgoing::Answer),
            (&[SWITCHING], Outgoing::Frames(Frames::default())),
            (&[HINTS, SWITCHING], Outgoing::Frames(Frames::default())),
        ] {
            assert_eq!(told(parts), expected, "{parts:?}");
            assert_eq!(told(&[&parts.concat()]), expected, "{parts:?} in one");
        }
        // Heads in pieces: an answer of ours behind them could land inside one.
        assert_eq!(told(&[&HINTS[..20]]), Outgoing::Answer);
        assert_eq!(told(&[&SWITCHING[..20], &SWITCHING[20..]]), Outgoing::Answer);
    }
}
