//! Finds the end of a chunked body, strictly (RFC 9112 §7.1).
//!
//! The parser behind this one takes an empty size line for a zero, spaces after a size, and a bare line feed in an extension. Another
//! server may not, and then the two disagree about where the next request starts. So the bytes pass here first: CRLF ends every
//! line, a size is one to sixteen hexadecimal digits and nothing else, extensions and trailers are bounded. Nothing is
//! decoded or kept.

use crate::domain::head::is_token_byte;

/// Most bytes in all extensions of a body together.
pub const EXTENSION_BYTES_MAX: usize = 8 * 1024;
/// Most bytes in all trailers of a body together.
pub const TRAILER_BYTES_MAX: usize = 64 * 1024;
/// Most digits in a chunk's size: those of a `u64`.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a body was refused. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkRejection {
    /// Not one to sixteen hexadecimal digits, then `;` or the line's end.
    #[error("a chunk's size is malformed")]
    Size,
    /// A control byte in an extension.
    #[error("a chunk's extension is malformed")]
    Extension,
    /// More than [`EXTENSION_BYTES_MAX`].
    #[error("the chunks' extensions are too long")]
    ExtensionsTooLong,
    /// A line, or a chunk's data, does not end with CRLF.
    #[error("a chunk does not end with its line end")]
    LineEnd,
    /// A trailer is no field line.
    #[error("a trailer is malformed")]
    Trailer,
    /// More than [`TRAILER_BYTES_MAX`].
    #[error("the trailers are too long")]
    TrailersTooLong,
}

impl ChunkRejection {
    /// For logs and counters.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Size => "chunk_size",
            Self::Extension => "chunk_extension",
            Self::ExtensionsTooLong => "chunk_extensions_too_long",
            Self::LineEnd => "chunk_line_end",
            Self::Trailer => "trailer",
            Self::TrailersTooLong => "trailers_too_long",
        }
    }
}

/// What one call of [`ChunkScanner::feed`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// How many of the bytes belong to this body; less than all only if it is done.
    pub consumed: usize,
    /// The body has ended.
    pub done: bool,
}

/// Where in a body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size { digits: u8 },
    Extension,
    SizeFeed,
    Data,
    DataReturn,
    DataFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerFeed,
    LastFeed,
    Done,
}

/// Follows one chunked body through reads of any length.
#[derive(Clone, Debug)]
pub struct ChunkScanner {
    place: Place,
    /// The size being read; then what is left of the chunk.
    left: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkScanner {
    /// Starts at a body's first byte.
    pub const fn new() -> Self {
        Self { place: Place::Size { digits: 0 }, left: 0, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// Takes the next bytes in. Data is skipped in one step, whatever its length.
    ///
    /// After a rejection the scanner must not be fed again; after the end it consumes nothing.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, ChunkRejection> {
        let mut at = 0;
        while at < bytes.len() && self.place != Place::Done {
            if self.place == Place::Data {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= skipped as u64;
                at += skipped;
                if self.left == 0 {
                    self.place = Place::DataReturn;
                }
            } else {
                self.place = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(Fed { consumed: at, done: self.place == Place::Done })
    }

    /// Where the byte after `byte` stands.
    fn step(&mut self, byte: u8) -> Result<Place, ChunkRejection> {
        match (self.place, byte) {
            (Place::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                Ok(Place::Size { digits: digits + 1 })
            }
            (Place::Size { digits: 1.. }, b';') => Ok(Place::Extension),
            (Place::Size { digits: 1.. } | Place::Extension, b'\r') => Ok(Place::SizeFeed),
            (Place::Size { .. }, _) => Err(ChunkRejection::Size),
            (Place::Extension, _) => self.extension(byte),
            (Place::SizeFeed, b'\n') if self.left == 0 => Ok(Place::TrailerStart),
            (Place::SizeFeed, b'\n') => Ok(Place::Data),
            (Place::DataReturn, b'\r') => Ok(Place::DataFeed),
            (Place::DataFeed, b'\n') => Ok(Place::Size { digits: 0 }),
            (Place::TrailerStart, b'\r') => Ok(Place::LastFeed),
            (Place::TrailerStart | Place::TrailerName | Place::TrailerValue, _) => self.trailer(byte),
            (Place::TrailerFeed, b'\n') => Ok(Place::TrailerStart),
            (Place::LastFeed, b'\n') => Ok(Place::Done),
            // `feed` steps neither through data nor past the end.
            (
                Place::SizeFeed
                | Place::Data
                | Place::DataReturn
                | Place::DataFeed
                | Place::TrailerFeed
                | Place::LastFeed
                | Place::Done,
                _,
            ) => Err(ChunkRejection::LineEnd),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<Place, ChunkRejection> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            Err(ChunkRejection::ExtensionsTooLong)
        } else if is_text(byte) {
            Ok(Place::Extension)
        } else {
            Err(ChunkRejection::Extension)
        }
    }

    /// A field line: a token, a colon, and text. A line that starts with a space would continue the one before: refused.
    fn trailer(&mut self, byte: u8) -> Result<Place, ChunkRejection> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkRejection::TrailersTooLong);
        }
        match (self.place, byte) {
            (Place::TrailerValue, b'\r') => Ok(Place::TrailerFeed),
            (Place::TrailerValue, _) if is_text(byte) => Ok(Place::TrailerValue),
            (Place::TrailerName, b':') => Ok(Place::TrailerValue),
            (Place::TrailerStart | Place::TrailerName, _) if is_token_byte(byte) => Ok(Place::TrailerName),
            _ => Err(ChunkRejection::Trailer),
        }
    }
}

/// A byte that may stand in a field's value: visible, a space, a tab, or above ASCII.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The whole at once.
    fn scan(body: &[u8]) -> Result<Fed, ChunkRejection> {
        ChunkScanner::new().feed(body)
    }

    /// In pieces of `step` bytes, until the end or a rejection.
    fn scan_by(body: &[u8], step: usize) -> Result<Fed, ChunkRejection> {
        let mut scanner = ChunkScanner::new();
        let mut consumed = 0;
        for piece in body.chunks(step) {
            let fed = scanner.feed(piece)?;
            consumed += fed.consumed;
            if fed.done {
                return Ok(Fed { consumed, done: true });
            }
            assert_eq!(fed.consumed, piece.len());
        }
        Ok(Fed { consumed, done: false })
    }

    #[test]
    fn a_body_ends_after_its_trailers_and_what_follows_is_left_alone() {
        for (body, rest) in [
            ("0\r\n\r\n", ""),
            ("0\r\n\r\n", "GET / HTTP/1.1"),
            ("5\r\nhello\r\n0\r\n\r\n", "\r\n"),
            ("1\r\n\n\r\n00\r\n\r\n", "x"),
            ("A;a=b;c=\"d e\"\r\n0123456789\r\n000;x\r\n\r\n", "0\r\n\r\n"),
            ("0\r\nX: 1\r\nY:\r\nZ: \ta\u{e9}\r\n\r\n", "x"),
            ("0000000000000001\r\na\r\n0\r\n\r\n", ""),
        ] {
            let all = format!("{body}{rest}");
            assert_eq!(scan(all.as_bytes()), Ok(Fed { consumed: body.len(), done: true }), "{all:?}");
            for cut in 0..body.len() {
                assert_eq!(
                    scan(&body.as_bytes()[..cut]),
                    Ok(Fed { consumed: cut, done: false }),
                    "{body:?} {cut}"
                );
            }
        }
        let mut scanner = ChunkScanner::new();
        assert_eq!(scanner.feed(b"0\r\n\r\n").map(|fed| fed.done), Ok(true));
        assert_eq!(scanner.feed(b"0"), Ok(Fed { consumed: 0, done: true }));
    }

    #[test]
    fn bodies_with_two_readings_are_refused() {
        use ChunkRejection as R;
        for (body, expected) in [
            ("\r\n", R::Size),
            ("\n", R::Size),
            (" 5\r\n", R::Size),
            ("5 \r\n", R::Size),
            ("5 ;a\r\n", R::Size),
            ("+5\r\n", R::Size),
            ("-5\r\n", R::Size),
            ("0x5\r\n", R::Size),
            ("g\r\n", R::Size),
            (";a\r\n", R::Size),
            ("5\n", R::Size),
            ("5_0\r\n", R::Size),
            ("00000000000000001\r\n", R::Size),
            ("5;a\nb\r\n", R::Extension),
            ("5;a\0\r\n", R::Extension),
            ("5;a\x7f", R::Extension),
            ("5;a\rb", R::LineEnd),
            ("5\rhello", R::LineEnd),
            ("1\r\nab", R::LineEnd),
            ("1\r\na\n", R::LineEnd),
            ("1\r\na\rb", R::LineEnd),
            ("0\r\n\rX", R::LineEnd),
            ("0\r\n\n", R::Trailer),
            ("0\r\nX\r\n", R::Trailer),
            ("0\r\nX : 1\r\n", R::Trailer),
            ("0\r\n: 1\r\n", R::Trailer),
            ("0\r\nX: 1\r\n folded\r\n", R::Trailer),
            ("0\r\nX: 1\n", R::Trailer),
            ("0\r\nX: \0", R::Trailer),
            ("0\r\nX: 1\rY", R::LineEnd),
        ] {
            assert_eq!(scan(body.as_bytes()), Err(expected), "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded_over_the_whole_body() {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(EXTENSION_BYTES_MAX / 2));
        assert!(scan(chunk.repeat(2).as_bytes()).is_ok());
        assert_eq!(
            scan(format!("{}1;x", chunk.repeat(2)).as_bytes()),
            Err(ChunkRejection::ExtensionsTooLong)
        );
        let trailer = format!("X:{}\r\n", "y".repeat(TRAILER_BYTES_MAX / 2 - 3));
        assert!(scan(format!("0\r\n{}\r\n", trailer.repeat(2)).as_bytes()).is_ok_and(|fed| fed.done));
        assert_eq!(
            scan(format!("0\r\n{}X", trailer.repeat(2)).as_bytes()),
            Err(ChunkRejection::TrailersTooLong)
        );
    }

    #[test]
    fn the_largest_chunk_does_not_overflow() {
        let mut scanner = ChunkScanner::new();
        assert_eq!(scanner.feed(b"ffffffffffffffff\r\nabc"), Ok(Fed { consumed: 21, done: false }));
        assert_eq!(scanner.left, u64::MAX - 3);
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_a_plain_encoder_under_any_split(
            chunks in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,5}(=[a-z]{1,5})?)?", 0_usize..4),
                0..5,
            ),
            trailers in prop::collection::vec("[A-Z][a-z-]{0,5}: ?[ -~]{0,10}", 0..3),
            rest in prop::collection::vec(any::<u8>(), 0..10),
            step in 1_usize..20,
        ) {
            let mut body = Vec::new();
            for (data, extension, zeros) in &chunks {
                body.extend(format!("{}{:X}{extension}\r\n", "0".repeat(*zeros), data.len()).bytes());
                body.extend(data);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n");
            for trailer in &trailers {
                body.extend(format!("{trailer}\r\n").bytes());
            }
            body.extend(b"\r\n");
            let consumed = body.len();
            body.extend(rest);
            prop_assert_eq!(scan_by(&body, step), Ok(Fed { consumed, done: true }));
            prop_assert_eq!(scan(&body), Ok(Fed { consumed, done: true }));
        }

        #[test]
        fn the_verdict_does_not_depend_on_the_split(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "0", "1", "2", "a", "\r\n", "\r\n", "\n", "\r", ";", ":", " ", "X: y", "5", "hello", "\0",
            ]), 0..12),
            step in 1_usize..6,
        ) {
            let body = pieces.concat();
            prop_assert_eq!(scan_by(body.as_bytes(), step), scan(body.as_bytes()));
        }
    }
}
