//! JSON objects, read strictly: a member name that stands twice, at any depth, is refused.
//!
//! RFC 8259 §4 leaves open which of two equal names counts, so two readers may see two tokens in one. RFC 7515 §4 and
//! RFC 7519 §4 allow to refuse, and we do. Nesting is bounded by `serde_json` (128).

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;

/// Why a text is no object for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAnObject {
    /// No JSON, or no object.
    Malformed,
    /// A member name stands twice in one object.
    Duplicate,
}

/// Reads one object and nothing behind it.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, NotAnObject> {
    let duplicate = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict(&duplicate).deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(Value::Object(object)) => Ok(object),
        Err(_) if duplicate.get() => Err(NotAnObject::Duplicate),
        _ => Err(NotAnObject::Malformed),
    }
}

/// Builds a value, and notes why it stopped if it was for a name that stands twice.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<bool>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if members.insert(name, value).is_some() {
                self.0.set(true);
                return Err(de::Error::custom("a name stands twice"));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_is_read_once_and_nothing_else_is() {
        for (text, expected) in [
            (r#"{"a":1,"b":{"a":2}}"#, None),
            (" {} ", None),
            (r#"{"a":1,"a":1}"#, Some(NotAnObject::Duplicate)),
            (r#"{"a":1,"\u0061":2}"#, Some(NotAnObject::Duplicate)),
            (r#"{"x":[{"a":1,"a":2}]}"#, Some(NotAnObject::Duplicate)),
            ("[]", Some(NotAnObject::Malformed)),
            ("null", Some(NotAnObject::Malformed)),
            ("{} {}", Some(NotAnObject::Malformed)),
            (r#"{"a":1"#, Some(NotAnObject::Malformed)),
            (r#"{"a":"x\ud800"}"#, Some(NotAnObject::Malformed)),
            ("", Some(NotAnObject::Malformed)),
        ] {
            assert_eq!(object(text.as_bytes()).err(), expected, "{text}");
        }
        assert_eq!(object(&[b'{', b'"', 0xFF, b'"', b':', b'1', b'}']), Err(NotAnObject::Malformed));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(object(deep.as_bytes()), Err(NotAnObject::Malformed));
    }

    proptest! {
        #[test]
        fn what_has_no_double_names_reads_as_serde_json_reads_it(text in r#"[\[\]{}:,"a-c0-9.eE+ \\-]{0,40}"#) {
            if let Ok(read) = object(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&text).ok(), Some(read));
            }
        }
    }
}
