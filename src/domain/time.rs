//! Instants and the clock they are read from.
//!
//! A [`Timestamp`] counts microseconds, fine enough to time an exchange with; spans are [`Duration`]s. Nothing here
//! reads a clock: `app.rs` holds the real one, tests move theirs by hand.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// An instant, in microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// The instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The instant `secs` seconds after the Unix epoch, as `exp` and `nbf` count (RFC 7519 §2, `NumericDate`).
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This instant moved forward; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// This instant moved back; stops at the epoch.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC, whole seconds: `2026-11-22T08:00:00Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime writes years up to 9999; later instants are shown as the last one it can.
        let last = 253_402_300_799_000_000;
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(self.0.min(last));
        write!(f, "{}", humantime::format_rfc3339_seconds(at))
    }
}

/// The text is not an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an instant; write it like `2026-11-22T08:00:00Z`")]
pub struct NotAnInstant;

/// An RFC 3339 date and time, with `Z` or an offset. Not before the epoch.
impl FromStr for Timestamp {
    type Err = NotAnInstant;

    fn from_str(text: &str) -> Result<Self, NotAnInstant> {
        let (local, offset) = match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
            Some((local, offset)) if offset.starts_with(['+', '-']) => (local, Some(offset)),
            _ => (text.strip_suffix(['Z', 'z']).ok_or(NotAnInstant)?, None),
        };
        let utc = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_| NotAnInstant)?;
        let since = utc.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| NotAnInstant)?;
        let instant = Self(u64::try_from(since.as_micros()).map_err(|_| NotAnInstant)?);
        let Some(offset) = offset else { return Ok(instant) };
        let number = |digits: &str, end: u64| {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|number| plain && *number < end).ok_or(NotAnInstant)
        };
        let (hours, minutes) = offset[1..].split_once(':').ok_or(NotAnInstant)?;
        let ahead = Duration::from_secs(number(hours, 24)? * 3600 + number(minutes, 60)? * 60);
        Ok(if offset.starts_with('+') { instant.minus(ahead) } else { instant.plus(ahead) })
    }
}

/// Units of spans, largest first, in milliseconds.
pub const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a span the way the configuration and the commands write it: `250ms`, `10s`, `30m`, `12h`, `7d`.
pub fn span(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, millis) = SPAN_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The instant that session deadlines are measured by: never runs backward, counts time spent suspended,
    /// and is not moved by a step of the wall clock.
    fn now(&self) -> Timestamp;

    /// The wall clock, for `exp` and `nbf` of tokens issued elsewhere.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed instant, in nanoseconds: for measuring spans too short for a [`Timestamp`].
    fn ticks(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_every_zone_and_nothing_else_is() {
        let eight = Timestamp::from_secs(1_795_334_400);
        for (text, expected) in [
            ("2026-11-22T08:00:00Z", Some(eight)),
            ("2026-11-22T08:00:00.5Z", Some(eight.plus(Duration::from_millis(500)))),
            ("2026-11-22T10:30:00+02:30", Some(eight)),
            ("2026-11-22T01:00:00-07:00", Some(eight)),
            ("1970-01-01T00:00:00Z", Some(Timestamp::default())),
            ("2026-11-22T08:00:00", None),
            ("2026-11-22", None),
            ("2026-11-22T08:00:00 02:00", None),
            ("2026-11-22T08:00:00+2:000", None),
            ("2026-11-22T08:00:00+24:00", None),
            ("2026-11-22T08:00:00++1:00", None),
            ("2026-13-22T08:00:00Z", None),
            ("1960-01-01T00:00:00Z", None),
            ("1795334400", None),
            ("+02:00", None),
            ("é+02:0", None),
            ("Z", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn spans_are_digits_and_one_unit() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("30m", Some(1_800_000)),
            ("12h", Some(43_200_000)),
            ("7d", Some(604_800_000)),
            ("30", None),
            ("m", None),
            ("", None),
            ("1.5h", None),
            ("-1s", None),
            ("+1s", None),
            ("1h30m", None),
            ("30 m", None),
            ("30M", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(span(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn instants_print_as_rfc_3339_and_arithmetic_stops_at_the_ends() {
        assert_eq!(Timestamp::from_secs(1_795_334_400).to_string(), "2026-11-22T08:00:00Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).plus(Duration::MAX), Timestamp::from_micros(u64::MAX));
        assert_eq!(Timestamp::from_secs(1).minus(Duration::from_secs(2)), Timestamp::default());
        assert_eq!(Timestamp::from_secs(1).since(Timestamp::from_secs(2)), Duration::ZERO);
    }
}
