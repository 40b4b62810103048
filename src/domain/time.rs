//! Instants and the clock they are read from.
//!
//! A [`Timestamp`] counts microseconds, fine enough to time an exchange with; spans are [`Duration`]s. Nothing here
//! reads a clock: `app.rs` holds the real one, tests move theirs by hand.

use std::fmt;
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
    fn instants_print_as_rfc_3339_and_arithmetic_stops_at_the_ends() {
        assert_eq!(Timestamp::from_secs(1_795_334_400).to_string(), "2026-11-22T08:00:00Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).plus(Duration::MAX), Timestamp::from_micros(u64::MAX));
        assert_eq!(Timestamp::from_secs(1).minus(Duration::from_secs(2)), Timestamp::default());
        assert_eq!(Timestamp::from_secs(1).since(Timestamp::from_secs(2)), Duration::ZERO);
    }
}
