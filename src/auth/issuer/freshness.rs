//! How long an answer stays good by its own words (RFC 9111), within bounds of ours.

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};
use std::time::Duration;

/// How long published keys are good where the answer does not say.
const UNSAID: Duration = Duration::from_mins(15);
/// The first pause after a failure; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Between which bounds keys are fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Not sooner, whatever the answer says.
    pub min: Duration,
    /// Not later.
    pub max: Duration,
}

/// After how long an answer with these fields is to be asked for again: its `max-age` less its `Age`, within the bounds.
pub(super) fn lifetime(headers: &HeaderMap, bounds: Refresh) -> Duration {
    let said = max_age(headers).map(|age| age.saturating_sub(seconds(headers.get(AGE)).unwrap_or_default()));
    said.unwrap_or(UNSAID).clamp(bounds.min, bounds.max.max(bounds.min))
}

/// The pause after so many failures in a row; never longer than keys would stay unasked for anyway.
pub(super) fn pause(failures: u32, bounds: Refresh) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX).min(bounds.max)
}

/// What `Cache-Control` says (RFC 9111 §5.2.2): the least of several; `no-store` and `no-cache` are nothing at all.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = fields.flat_map(|value| value.split(',')).map(str::trim);
    let said = directives.filter_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim_end().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => Some(Duration::ZERO),
            // What cannot be read is old (RFC 9111 §4.2.1).
            "max-age" => Some(delta(value.trim().trim_matches('"')).unwrap_or_default()),
            _ => None,
        }
    });
    said.min()
}

fn seconds(value: Option<&http::HeaderValue>) -> Option<Duration> {
    delta(value?.to_str().ok()?.trim())
}

/// Seconds; more than fit are as many as fit (RFC 9111 §1.2.2).
fn delta(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const BOUNDS: Refresh = Refresh { min: Duration::from_mins(1), max: Duration::from_hours(1) };

    #[test]
    fn an_answer_is_good_as_long_as_it_says_within_bounds() {
        for (fields, expected) in [
            (&[][..], 900),
            (&[("cache-control", "max-age=600")], 600),
            (&[("cache-control", "public, max-age=600, must-revalidate")], 600),
            (&[("cache-control", "Max-Age = \"600\"")], 600),
            (&[("cache-control", "max-age=600"), ("age", "100")], 500),
            (&[("cache-control", "max-age=600"), ("age", "600")], 60),
            (&[("cache-control", "max-age=600"), ("age", "9999")], 60),
            (&[("cache-control", "max-age=600"), ("cache-control", "max-age=300")], 300),
            (&[("cache-control", "max-age=0")], 60),
            (&[("cache-control", "max-age=-5")], 60),
            (&[("cache-control", "max-age=soon")], 60),
            (&[("cache-control", "max-age")], 60),
            (&[("cache-control", "max-age=99999999999999999999999")], 3600),
            (&[("cache-control", "max-age=86400")], 3600),
            (&[("cache-control", "no-store")], 60),
            (&[("cache-control", "no-cache, max-age=600")], 60),
            (&[("cache-control", "s-maxage=70")], 900),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(lifetime(&headers, BOUNDS), Duration::from_secs(expected), "{fields:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        for (failures, expected) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (u32::MAX, 60)] {
            assert_eq!(pause(failures, BOUNDS), Duration::from_secs(expected), "{failures}");
        }
        let quick = Refresh { min: Duration::from_secs(1), max: Duration::from_secs(2) };
        assert_eq!(pause(9, quick), Duration::from_secs(2));
    }
}
