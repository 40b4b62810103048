//! The field lines that a connection sends again and again.
//!
//! A browser's next request differs from its last in two or three lines. A line that is the same, byte for byte, means the same: what
//! [`head::check_each`] found out about it alone, and the value that was made of it, need not be found out and made once more. What
//! depends on the other lines (two Hosts, a length beside a transfer coding) is asked of each head anew, and so is every byte for control
//! characters.
//!
//! [`head::check_each`]: crate::domain::head::check_each

use crate::domain::head::Place;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};

/// Lines that are known of one connection.
const LINES_MAX: usize = 24;
/// Bytes in all of them: an idle connection stays small. With what is beside each line, 9 KiB at most, and
/// 2 KiB more for each earlier lesson of which a value is remembered elsewhere: three at most.
const BYTES_MAX: usize = 2048;
/// How often a connection is learnt: behind another proxy each request may be somebody else's.
const LESSONS_MAX: u8 = 8;
/// How many lines may have gone or changed between two that are known.
const SKIPPED_MAX: usize = 3;

/// What is known of a connection's lines. There are credentials among them, so that it has no `Debug`.
#[derive(Default)]
pub(crate) struct Known {
    lines: Vec<Line>,
    /// What is left of the one block of memory that all lines share: they lie side by side, and are counted in one place.
    room: BytesMut,
    /// Bytes of `lines`.
    bytes: usize,
    lessons: u8,
    /// The head that is being read is learnt: never a connection's first, for most ask once.
    learns: bool,
    /// Where in `lines` the next one is looked for.
    at: usize,
    met: usize,
    told: usize,
}

struct Line {
    bytes: Bytes,
    place: Place,
    name: HeaderName,
    value: HeaderValue,
}

impl Known {
    /// A head begins.
    pub(crate) fn begin(&mut self) {
        // As long as most of the lines are known, they stay.
        let is_new = !self.learns && self.met * 2 < self.told;
        self.learns = is_new && self.lessons < LESSONS_MAX;
        if self.learns {
            self.lessons += 1;
            self.bytes = 0;
            self.lines.clear();
            self.room = BytesMut::with_capacity(BYTES_MAX);
        }
        (self.at, self.met, self.told) = (0, 0, 0);
    }

    /// The name and value of a line, if it is one of those that are known.
    pub(crate) fn find(&mut self, line: &[u8]) -> Option<(Place, HeaderName, HeaderValue)> {
        self.told += 1;
        let ahead = self.lines.get(self.at..)?;
        let skipped = ahead.iter().take(SKIPPED_MAX + 1).position(|known| known.is(line))?;
        let Line { place, name, value, .. } = &ahead[skipped];
        self.at += skipped + 1;
        self.met += 1;
        Some((*place, name.clone(), value.clone()))
    }

    /// Learns a line that has passed its check, if it is time for that and there is room.
    pub(crate) fn learn(&mut self, line: &[u8], place: Place, name: &HeaderName) {
        if !self.learns || self.lines.len() == LINES_MAX || self.bytes + line.len() > BYTES_MAX {
            return;
        }
        // A copy, so that no head is held for the sake of one line.
        self.room.extend_from_slice(line);
        let bytes = self.room.split().freeze();
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes.slice_ref(place.value(&bytes))) {
            self.bytes += line.len();
            self.lines.push(Line { bytes, place, name: name.clone(), value });
            self.at = self.lines.len();
        }
    }
}

impl Line {
    /// Credentials are compared in constant time: the last ones may have been somebody else's.
    fn is(&self, line: &[u8]) -> bool {
        if self.bytes.len() != line.len() {
            return false;
        }
        if self.name == COOKIE || self.name == AUTHORIZATION {
            return verify_slices_are_equal(&self.bytes, line).is_ok();
        }
        self.bytes == line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::head::{self, HeadRejection, Listener};

    /// Reads heads one after the other and says which lines it was told anew.
    struct Reader<'a> {
        known: &'a mut Known,
        anew: Vec<String>,
        values: Vec<String>,
    }

    impl Listener for Reader<'_> {
        fn knows(&mut self, line: &[u8]) -> Option<Place> {
            let (place, _, value) = self.known.find(line)?;
            assert_eq!(value.as_bytes(), place.value(line));
            self.values.push(text(value.as_bytes()));
            Some(place)
        }

        fn hear(&mut self, line: &[u8], place: Place) {
            let name = HeaderName::from_bytes(place.name(line)).expect("a token");
            self.known.learn(line, place, &name);
            self.anew.push(text(line));
            self.values.push(text(place.value(line)));
        }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The lines that were told anew, and the values of all.
    fn read(known: &mut Known, lines: &[&str]) -> Result<(Vec<String>, Vec<String>), HeadRejection> {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        known.begin();
        let mut reader = Reader { known, anew: Vec::new(), values: Vec::new() };
        head::check_each(head.as_bytes(), &mut reader)?;
        Ok((reader.anew, reader.values))
    }

    const BROWSER: [&str; 6] =
        ["Host: a", "User-Agent: b", "Accept: */*", "Referer: /c", "Cookie:  d=e ", "X-F: g"];

    #[test]
    fn the_second_head_is_learnt_and_the_third_is_known() {
        let mut known = Known::default();
        let values = ["a", "b", "*/*", "/c", "d=e", "g"];
        for told in [6, 6, 0, 0] {
            let (anew, all) = read(&mut known, &BROWSER).expect("the head is fine");
            assert_eq!((anew.len(), all), (told, values.map(str::to_owned).to_vec()));
        }
    }

    #[test]
    fn changed_new_and_missing_lines_are_read() {
        let mut known = Known::default();
        for _ in 0..2 {
            read(&mut known, &BROWSER).expect("the head is fine");
        }
        for (lines, told) in [
            (&["Host: a", "User-Agent: b", "Accept: */*", "Cookie:  d=e ", "X-F: g"][..], &[][..]),
            (
                &["Host: a", "User-Agent: b", "Accept: h", "Referer: /i", "Cookie:  d=e ", "X-F: g"],
                &["Accept: h", "Referer: /i"],
            ),
            (
                &[
                    "Host: a",
                    "DNT: 1",
                    "User-Agent: b",
                    "Accept: */*",
                    "Referer: /c",
                    "Cookie:  d=f ",
                    "X-F: g",
                ],
                &["DNT: 1", "Cookie:  d=f "],
            ),
            (&BROWSER, &[]),
        ] {
            let (anew, values) = read(&mut known, lines).expect("the head is fine");
            assert_eq!(anew, told, "{lines:?}");
            let sent: Vec<_> =
                lines.iter().map(|line| line.split_once(':').expect("a field").1.trim()).collect();
            assert_eq!(values, sent);
        }
    }

    #[test]
    fn lines_that_are_known_are_weighed_against_the_others_again() {
        for (lines, rejection) in [
            (&["Host: a", "User-Agent: b", "Accept: */*", "Host: a"][..], HeadRejection::HostTwice),
            (&["User-Agent: b", "Accept: */*", "Referer: /c"], HeadRejection::HostMissing),
            (
                &["Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"],
                HeadRejection::LengthAndEncoding,
            ),
        ] {
            let mut known = Known::default();
            let usual =
                ["Host: a", "User-Agent: b", "Accept: */*", "Referer: /c", "Content-Length: 1", "X-G: h"];
            for _ in 0..3 {
                read(&mut known, &usual).expect("the head is fine");
            }
            assert_eq!(read(&mut known, lines), Err(rejection));
        }
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut known = Known::default();
        let long = format!("X-Long: {}", "y".repeat(BYTES_MAX));
        let many: Vec<String> = (0..40).map(|number| format!("X-{number}: z")).collect();
        let mut lines = vec!["Host: a", &long];
        lines.extend(many.iter().map(String::as_str));
        for _ in 0..3 {
            read(&mut known, &lines).expect("the head is fine");
        }
        assert_eq!((known.lines.len(), known.bytes < BYTES_MAX), (LINES_MAX, true));
        for round in 0..40 {
            let other = format!("X-Other: {round}");
            read(&mut known, &["Host: a", &other, &other, &other]).expect("the head is fine");
        }
        assert_eq!(known.lessons, LESSONS_MAX);
    }
}
