//! The scalars that the file writes in words of its own: spans of time, plain values.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A span of time, and the words in which the file writes it: `30m`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) length: Duration,
    pub(super) text: String,
}

impl Span {
    /// A default, in the words in which the file would write it.
    pub(super) fn default(length: Duration) -> Self {
        Self { length, text: written(length) }
    }
}

/// Units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `250ms`, `10s`, `30m`, `12h`, `7d`: digits and one unit.
pub(super) fn span(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
}

/// Writes a span the way the file does, in the largest unit that divides it.
fn written(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, unit): &&(&str, u64)| millis != 0 && millis.is_multiple_of(*unit);
    let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("s", 1_000));
    format!("{}{name}", millis / unit)
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let length = span(&text).ok_or_else(|| D::Error::custom("not a duration"))?;
        Ok(Self { length, text })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A span of time: digits and a unit, `ms`, `s`, `m`, `h` or `d`.",
            "pattern": r"^[0-9]+(ms|s|m|h|d)$|\$\{",
            "x-kind": "duration"
        })
    }
}

/// A plain value of a claim: text, a whole number, true or false; held as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain(pub(super) String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Plain;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a whole number, true or false")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Plain, E> {
                Ok(Plain(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Plain, E> {
                Ok(Plain(number.to_string()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Plain, E> {
                Ok(Plain(number.to_string()))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Plain, E> {
                Ok(Plain(value.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Plain {
    fn schema_name() -> Cow<'static, str> {
        "Plain".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer", "boolean"],
            "description": "Text, a whole number, true or false."
        })
    }
}

/// `1`, the version of the file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            _ => Err(D::Error::custom("not a known version")),
        }
    }
}

impl JsonSchema for Version {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1 })
    }
}

/// A mapping whose keys are names of the operator's, in the order of the file.
///
/// A value that is wrong in shape is `None`: its name still counts as known.
#[derive(Clone, Debug)]
pub(super) struct Entries<T>(pub(super) Vec<(String, Option<T>)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Entries<T> {
    /// All names, those of broken entries too.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The entries that are sound in shape.
    pub(super) fn sound(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.as_ref()?)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Entries(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn spans_are_written_the_way_they_are_read() {
        for text in ["250ms", "10s", "90s", "30m", "12h", "7d", "0s"] {
            assert_eq!(written(span(text).expect("reads")), text);
        }
    }
}
