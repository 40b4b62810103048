//! Waiting with a condition and a deadline: the one place of the tests that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a condition that nobody signals.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Now, for measuring how long the gateway took.
#[expect(clippy::disallowed_methods, reason = "a black-box test measures the process by the machine's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for the claims of tokens.
#[expect(clippy::disallowed_methods, reason = "a token's `exp` is wall time")]
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    i64::try_from(since.as_secs()).expect("seconds fit")
}

/// Looks until `look` finds something.
///
/// # Panics
///
/// After [`PATIENCE`], saying `what` was waited for.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited in vain until {what}"))
}

/// Looks until `look` finds something or `span` is over.
pub(crate) fn within<T>(span: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if started.elapsed() > span {
            return None;
        }
        pause(BETWEEN_LOOKS);
    }
}

/// A pause inside a loop that has a deadline, or between bytes that a test sends slowly on purpose.
#[expect(clippy::disallowed_methods, reason = "the test plays a slow client, or looks again")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}
