//! How often, in the words of the file: `50/s`, `600/m`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use std::borrow::Cow;
use std::time::Duration;

/// So many times in a span, and the words in which the file writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frequency {
    pub(super) times: u32,
    pub(super) span: Duration,
    pub(super) text: String,
}

/// Spans and what they are called.
const SPANS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];

/// Reads `50/s`, `600/m`, `1000/h`, `5000/d`: digits, a slash and one unit.
pub(super) fn frequency(text: &str) -> Option<(u32, Duration)> {
    let (times, unit) = text.split_once('/')?;
    let (_, secs) = SPANS.into_iter().find(|(name, _)| *name == unit)?;
    let is_plain = times.bytes().all(|byte| byte.is_ascii_digit());
    let times = if is_plain { times.parse().ok()? } else { return None };
    Some((times, Duration::from_secs(secs)))
}

/// The frequency that a slip of the hand may have meant: `50 per second`, `600r/min`.
pub(super) fn frequency_meant(text: &str) -> Option<String> {
    let bare = text.replace(' ', "").to_ascii_lowercase();
    let digits = bare.bytes().take_while(u8::is_ascii_digit).count();
    let (times, unit) = bare.split_at(digits);
    let unit = unit.trim_start_matches(['r', '/']).trim_start_matches("per");
    let unit = match unit {
        "s" | "sec" | "second" => "s",
        "m" | "min" | "minute" => "m",
        "h" | "hour" => "h",
        "d" | "day" => "d",
        _ => return None,
    };
    let meant = format!("{times}/{unit}");
    frequency(&meant).is_some().then_some(meant)
}

impl<'de> Deserialize<'de> for Frequency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (times, span) = frequency(&text).ok_or_else(|| D::Error::custom("not a frequency"))?;
        Ok(Self { times, span, text })
    }
}

impl JsonSchema for Frequency {
    fn schema_name() -> Cow<'static, str> {
        "Frequency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "How often: digits, `/`, and `s`, `m`, `h` or `d`.",
            "pattern": r"^[0-9]+/(s|m|h|d)$|\$\{",
            "x-kind": "frequency"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_digits_a_slash_and_a_unit() {
        for (text, expected, meant) in [
            ("50/s", Some((50, 1)), Some("50/s")),
            ("600/m", Some((600, 60)), Some("600/m")),
            ("0/h", Some((0, 3600)), Some("0/h")),
            ("5/d", Some((5, 86400)), Some("5/d")),
            ("50 / s", None, Some("50/s")),
            ("50r/s", None, Some("50/s")),
            ("50 per minute", None, Some("50/m")),
            ("50/sec", None, Some("50/s")),
            ("50", None, None),
            ("/s", None, None),
            ("+5/s", None, None),
            ("5/w", None, None),
            ("99999999999/s", None, None),
            ("", None, None),
        ] {
            let expected = expected.map(|(times, secs)| (times, Duration::from_secs(secs)));
            assert_eq!(frequency(text), expected, "{text}");
            assert_eq!(frequency_meant(text).as_deref(), meant, "{text}");
        }
    }
}
