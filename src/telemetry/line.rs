//! One log line, field by field, as JSON or for people.
//!
//! Every value is cut at a bound that its field states and stripped of what could forge a line or drive a terminal:
//! control characters (C0, DEL, C1), line separators and characters that turn the reading direction are escaped,
//! bytes that are not UTF-8 become U+FFFD. A field that is not written does not appear.

use super::Format;
use crate::domain::time::Timestamp;
use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Appends one line to a buffer; [`Line::end`] closes it.
pub(super) struct Line<'b> {
    out: &'b mut Vec<u8>,
    format: Format,
}

impl<'b> Line<'b> {
    /// Opens a line with its instant.
    pub(super) fn start(out: &'b mut Vec<u8>, format: Format, at: Timestamp) -> Self {
        // The last instant that humantime writes is in the year 9999.
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at.as_millis().min(253_402_300_799_999));
        let at = humantime::format_rfc3339_millis(at);
        match format {
            Format::Json => put(out, format_args!("{{\"at\":\"{at}\"")),
            Format::Human => put(out, format_args!("{at}")),
        }
        Self { out, format }
    }

    /// A string, or what stands for one.
    pub(super) fn text(&mut self, name: &str, value: &str, bytes_max: usize) {
        self.name(name);
        self.value(value.as_bytes(), bytes_max);
    }

    /// A string if there is one.
    pub(super) fn maybe(&mut self, name: &str, value: Option<&str>, bytes_max: usize) {
        if let Some(value) = value {
            self.text(name, value, bytes_max);
        }
    }

    /// Bytes from outside that are meant as a string.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8], bytes_max: usize) {
        self.name(name);
        self.value(value, bytes_max);
    }

    /// A value whose text is plain ASCII without quotes or spaces by its type: an address, an id.
    pub(super) fn plain(&mut self, name: &str, value: Option<&dyn Display>) {
        if let Some(value) = value {
            self.name(name);
            match self.format {
                Format::Json => put(self.out, format_args!("\"{value}\"")),
                Format::Human => put(self.out, format_args!("{value}")),
            }
        }
    }

    /// A count.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        put(self.out, format_args!("{value}"));
    }

    /// A span in milliseconds with three decimals.
    pub(super) fn millis(&mut self, name: &str, span: Duration) {
        self.name(name);
        let micros = span.as_micros();
        put(self.out, format_args!("{}.{:03}", micros / 1000, micros % 1000));
    }

    /// A value without its name, for the part of a human line that reads like a sentence; nothing in JSON.
    pub(super) fn word(&mut self, value: &str, bytes_max: usize) {
        if self.format == Format::Human {
            self.out.push(b' ');
            escape(self.out, value.as_bytes(), bytes_max, Quoting::Bare);
        }
    }

    /// Whether this line is for people.
    pub(super) fn is_human(&self) -> bool {
        self.format == Format::Human
    }

    /// Closes the line.
    pub(super) fn end(self) {
        if self.format == Format::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    /// Names are ours, with one exception that [`escape`] guards as well: fields of events from other crates.
    fn name(&mut self, name: &str) {
        match self.format {
            Format::Json => {
                self.out.extend_from_slice(b",\"");
                escape(self.out, name.as_bytes(), 64, Quoting::Inside);
                self.out.extend_from_slice(b"\":");
            }
            Format::Human => {
                self.out.push(b' ');
                escape(self.out, name.as_bytes(), 64, Quoting::Bare);
                self.out.push(b'=');
            }
        }
    }

    fn value(&mut self, value: &[u8], bytes_max: usize) {
        let quoted =
            self.format == Format::Json || value.is_empty() || value.iter().any(|b| b" \"=".contains(b));
        if quoted {
            self.out.push(b'"');
            escape(self.out, value, bytes_max, Quoting::Inside);
            self.out.push(b'"');
        } else {
            escape(self.out, value, bytes_max, Quoting::Bare);
        }
    }
}

/// Whether the text stands between quotes, where quotes need an escape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Inside,
    Bare,
}

fn escape(out: &mut Vec<u8>, value: &[u8], bytes_max: usize, quoting: Quoting) {
    let (kept, cut) = if value.len() > bytes_max { (&value[..bytes_max], true) } else { (value, false) };
    let mut chunks = kept.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        escape_text(out, chunk.valid(), quoting);
        // A character cut in two by the bound is left out rather than shown as broken.
        let cut_here = cut && chunks.peek().is_none();
        if !chunk.invalid().is_empty() && !cut_here {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
}

fn escape_text(out: &mut Vec<u8>, text: &str, quoting: Quoting) {
    let mut run = 0;
    for (at, c) in text.char_indices() {
        let quote = matches!(c, '"' | '\\') && quoting == Quoting::Inside;
        if quote || is_unsafe(c) {
            out.extend_from_slice(&text.as_bytes()[run..at]);
            run = at + c.len_utf8();
            if quote {
                out.extend_from_slice(&[b'\\', c as u8]);
            } else {
                // All of them lie below U+10000, so that four digits are enough for JSON too (RFC 8259 §7).
                put(out, format_args!("\\u{:04x}", u32::from(c)));
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[run..]);
}

/// Characters that end a line somewhere, move a cursor, or turn the reading direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec<u8> takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(format: Format, value: &[u8], bytes_max: usize) -> String {
        let mut out = Vec::new();
        let mut line = Line::start(&mut out, format, Timestamp::from_millis(1_795_334_400_007));
        line.bytes("v", value, bytes_max);
        line.end();
        String::from_utf8(out).expect("a line is UTF-8")
    }

    #[test]
    fn values_are_cut_and_cannot_forge_a_line() {
        // Value, bound, JSON, for people.
        for (value, bytes_max, json, human) in [
            (&b"plain"[..], 9, r#""plain""#, "plain"),
            (b"", 9, r#""""#, r#""""#),
            (b"two words", 9, r#""two words""#, r#""two words""#),
            (b"a\nb\x1b[2J", 9, r#""a\u000ab\u001b[2J""#, r"a\u000ab\u001b[2J"),
            (b"say \"hi\"\\", 20, r#""say \"hi\"\\""#, r#""say \"hi\"\\""#),
            (b"\x7f\xc2\x9b", 9, r#""\u007f\u009b""#, r"\u007f\u009b"),
            ("\u{202e}x\u{2028}".as_bytes(), 9, r#""\u202ex\u2028""#, r"\u202ex\u2028"),
            (b"a\xffb", 9, "\"a\u{FFFD}b\"", "a\u{FFFD}b"),
            (b"abcdef", 3, r#""abc…""#, "abc…"),
            ("ab李".as_bytes(), 3, r#""ab…""#, "ab…"),
        ] {
            let at = "2026-11-22T08:00:00.007Z";
            assert_eq!(line(Format::Json, value, bytes_max), format!("{{\"at\":\"{at}\",\"v\":{json}}}\n"));
            assert_eq!(line(Format::Human, value, bytes_max), format!("{at} v={human}\n"));
        }
    }

    proptest! {
        #[test]
        fn a_json_line_is_one_line_and_parses(value in proptest::collection::vec(any::<u8>(), 0..64), max in 0usize..70) {
            let line = line(Format::Json, &value, max);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
            prop_assert!(parsed["v"].as_str().expect("v is a string").len() <= 3 * max + 3);
        }

        #[test]
        fn a_human_line_has_no_control_character_but_its_end(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let line = line(Format::Human, &value, 64);
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
            prop_assert!(line.ends_with('\n'));
        }
    }
}
