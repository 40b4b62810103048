//! The scalars that the file writes in words of its own: spans of time, sizes, plain values.

use crate::domain::time::{SPAN_UNITS, span};
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

/// Writes a span the way the file does, in the largest unit that divides it.
fn written(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, unit): &&(&str, u64)| millis != 0 && millis.is_multiple_of(*unit);
    let (name, unit) = SPAN_UNITS.iter().find(fits).unwrap_or(&("s", 1_000));
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

/// A number of bytes, and the words in which the file writes it: `6KiB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: u64,
    pub(super) text: String,
}

/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1024), ("MiB", 1024 * 1024), ("GiB", 1024 * 1024 * 1024)];

/// Reads `512B`, `6KiB`, `10MiB`, `1GiB`: digits and one unit.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, bytes) = SIZES.into_iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

/// The size that a slip of the hand may have meant: `6 kb`, `6K`.
pub(super) fn size_meant(text: &str) -> Option<String> {
    let bare = text.replace(' ', "").to_ascii_lowercase();
    let digits = bare.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = bare.split_at(digits);
    let unit = match unit {
        "b" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return None,
    };
    let meant = format!("{number}{unit}");
    size(&meant).is_some().then_some(meant)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = size(&text).ok_or_else(|| D::Error::custom("not a size"))?;
        Ok(Self { bytes, text })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes: digits and a unit, `B`, `KiB`, `MiB` or `GiB`.",
            "pattern": r"^[0-9]+(B|KiB|MiB|GiB)$|\$\{",
            "x-kind": "size"
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
    fn sizes_are_digits_and_one_unit_of_powers_of_1024() {
        for (text, bytes, meant) in [
            ("0B", Some(0), Some("0B")),
            ("512B", Some(512), Some("512B")),
            ("6KiB", Some(6144), Some("6KiB")),
            ("10MiB", Some(10_485_760), Some("10MiB")),
            ("1GiB", Some(1_073_741_824), Some("1GiB")),
            ("6 KiB", None, Some("6KiB")),
            ("6kb", None, Some("6KiB")),
            ("6K", None, Some("6KiB")),
            ("6144", None, None),
            ("KiB", None, None),
            ("6.5KiB", None, None),
            ("-6KiB", None, None),
            ("6TiB", None, None),
            ("", None, None),
            ("99999999999999999999B", None, None),
            ("18446744073709551615KiB", None, None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
            assert_eq!(size_meant(text).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn spans_are_written_the_way_they_are_read() {
        for text in ["250ms", "10s", "90s", "30m", "12h", "7d", "0s"] {
            assert_eq!(written(span(text).expect("reads")), text);
        }
    }
}
