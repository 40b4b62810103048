//! The field lines that a connection sends again and again.
//!
//! A browser's next request differs from its last in two or three lines. A line that is the same, byte for byte, means the same: what
//! [`head::check_each`] found out about it alone, and the value that was made of it, need not be found out and made once more. What
//! depends on the other lines (two Hosts, a length beside a transfer coding) is asked of each head anew, and so is every byte for control
//! characters. Where all lines are the same, as a script's are that asks every second or a browser's that fetches the pictures of a page,
//! they came to the same as a whole, and only the request line is new.
//!
//! [`head::check_each`]: crate::domain::head::check_each

use crate::domain::head::{self, Framing, Place};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// Lines that are known of one connection.
const LINES_MAX: usize = 24;
/// Bytes in all of them: an idle connection stays small. With what is beside each line, and what they came to as a whole, 15 KiB at
/// most, and 2 KiB more for each earlier lesson of which a value is remembered elsewhere: three at most.
const BYTES_MAX: usize = 2048;
/// How often a connection is learnt: behind another proxy each request may be somebody else's.
const LESSONS_MAX: u8 = 8;
/// How many lines may have gone or changed between two that are known.
const SKIPPED_MAX: usize = 3;
/// So many wholes more than were met again are kept: heads that take turns would only cost.
const FUTILE_MAX: u8 = 8;

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
    whole: Option<Box<Whole>>,
    /// How many wholes were kept that were not met again, less those that were met more than once.
    futile: u8,
}

/// All lines of a head, each of them known, and what they came to beside a usual request line.
struct Whole {
    /// From the first line to the blank one.
    lines: Box<[u8]>,
    fields: HeaderMap,
    framing: Framing,
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
            self.whole = None;
            self.room = BytesMut::with_capacity(BYTES_MAX);
        }
        (self.at, self.met, self.told) = (0, 0, 0);
    }

    /// What the fields of a head came to, if they are line for line those of one before and its request line says nothing that they would
    /// have to be weighed against. Their values are those of the known lines.
    ///
    /// In constant time, as far as it depends on what the lines say.
    pub(crate) fn again(&mut self, head: &[u8]) -> Option<(HeaderMap, Framing)> {
        let whole = self.whole.as_deref()?;
        let (first, lines) = head.split_at_checked(head.len().checked_sub(whole.lines.len())?)?;
        let is_same = verify_slices_are_equal(lines, &whole.lines).is_ok();
        if !is_same || !head::is_usual_start(first) || head.len() > head::HEAD_BYTES_MAX {
            return None;
        }
        self.futile = self.futile.saturating_sub(1);
        Some((whole.fields.clone(), whole.framing))
    }

    /// Keeps what the fields of a head that has passed came to, if each of its lines was known.
    pub(crate) fn keep(&mut self, head: &[u8], fields: &HeaderMap, framing: Framing) {
        // A tunnel's head is a connection's last, and to HTTP/1.0 the same fields mean something else.
        let is_usual = self.met == self.told && !framing.names_hops && !framing.version_10;
        if !is_usual || self.met == 0 || self.futile == FUTILE_MAX {
            return;
        }
        let Some(feed) = memchr(b'\n', head) else { return };
        self.futile += 1;
        self.whole =
            Some(Box::new(Whole { lines: head[feed + 1..].into(), fields: fields.clone(), framing }));
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

    const START: &str = "GET / HTTP/1.1\r\n";

    /// Reads a head of these lines as the wire does; whether all of them were met as one.
    fn met_as_one(known: &mut Known, lines: &[&str]) -> bool {
        let head = format!("{START}{}\r\n\r\n", lines.join("\r\n"));
        if known.again(head.as_bytes()).is_some() {
            return true;
        }
        known.begin();
        let mut reader = Reader { known, anew: Vec::new(), values: Vec::new() };
        let framing = head::check_each(head.as_bytes(), &mut reader).expect("the head is fine");
        known.keep(head.as_bytes(), &HeaderMap::new(), framing);
        false
    }

    #[test]
    fn lines_that_are_all_the_same_are_met_as_one() {
        let known = &mut Known::default();
        assert_eq!([(); 5].map(|()| met_as_one(known, &BROWSER)), [false, false, false, true, true]);
        for lines in [&BROWSER[..5], &["Host: a", "User-Agent: b", "Accept: */*", "Cookie:  d=e "]] {
            let mut changed = lines.to_vec();
            changed.push("X-New: h");
            assert!(!met_as_one(known, &changed), "a line that is not known");
            assert!(met_as_one(known, &BROWSER), "that one was not kept");
            assert!(!met_as_one(known, lines) && met_as_one(known, lines), "fewer lines, all known");
            assert!(!met_as_one(known, &BROWSER) && met_as_one(known, &BROWSER));
        }
        let others = ["Host: b", "User-Agent: c", "Accept: d", "Cookie: e=f"];
        assert_eq!([(); 2].map(|()| met_as_one(known, &others)), [false; 2], "a new lesson");
        assert!(!met_as_one(known, &BROWSER), "what was kept before is forgotten");
    }

    #[test]
    fn a_head_that_is_met_as_one_begins_with_one_usual_line() {
        let known = &mut Known::default();
        while !met_as_one(known, &BROWSER) {}
        let lines = format!("{}\r\n\r\n", BROWSER.join("\r\n"));
        for start in ["GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n"] {
            assert!(known.again(format!("{start}{lines}").as_bytes()).is_some(), "{start:?}");
        }
        for start in [
            "",
            "\r\n",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.0\r\n",
            "GET http://a/ HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "GET /\u{1} HTTP/1.1\r\n",
            "CONNECT / HTTP/1.1\r\n",
        ] {
            assert!(known.again(format!("{start}{lines}").as_bytes()).is_none(), "{start:?}");
        }
        let long = "A".repeat(head::HEAD_BYTES_MAX);
        assert!(known.again(format!("{long} / HTTP/1.1\r\n{lines}").as_bytes()).is_none());
    }

    #[test]
    fn heads_that_never_come_again_are_not_kept_for_ever() {
        let known = &mut Known::default();
        for _ in 0..2 {
            assert!(!met_as_one(known, &BROWSER));
        }
        // Each leaves out another two lines, or one.
        let pairs: Vec<_> = (1..6).flat_map(|one| (one..6).map(move |other| [one, other])).collect();
        let lines = |left_out: [usize; 2]| -> Vec<&str> {
            (0..6).filter(|line| !left_out.contains(line)).map(|line| BROWSER[line]).collect()
        };
        let futile = usize::from(FUTILE_MAX);
        assert!(pairs.len() > futile);
        for &pair in &pairs {
            assert!(!met_as_one(known, &lines(pair)));
        }
        assert_eq!(known.futile, FUTILE_MAX);
        assert!(met_as_one(known, &lines(pairs[futile - 1])), "the last one that was kept");
        assert!(
            !met_as_one(known, &lines(pairs[0])) && met_as_one(known, &lines(pairs[0])),
            "it gave one more chance"
        );
    }

    #[test]
    fn what_means_something_else_beside_another_line_is_not_kept() {
        for line in ["Connection: upgrade", "Upgrade: websocket", "Connection: close, x"] {
            let known = &mut Known::default();
            let lines = ["Host: a", "Accept: b", line];
            for _ in 0..4 {
                let head = format!("{START}{}\r\n\r\n", lines.join("\r\n"));
                if head::check(head.as_bytes()).is_ok() {
                    assert!(!met_as_one(known, &lines), "{line}");
                }
            }
            assert!(known.whole.is_none());
        }
    }
}
