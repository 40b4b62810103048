//! The line of a path in the text.
//!
//! The parser keeps no positions, but its errors carry one. So the text is read once more along the path, and what
//! reads it fails there on purpose: the line of that failure is the line sought. Costs one parse per problem.

use super::problem::{At, Step};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The line, from 1, of the key or list item at `at`, or of the nearest place above it that stands in the text.
pub(super) fn line_of(text: &str, at: &At) -> Option<usize> {
    let steps = at.steps();
    (1..=steps.len()).rev().find_map(|depth| {
        let found = Seek(&steps[..depth]).deserialize(serde_yaml::Deserializer::from_str(text));
        let failure = found.err()?;
        failure.location().map(|location| location.line())
    })
}

/// Reads a key; fails at the one that is wanted.
struct KeySeek<'a> {
    wanted: Option<&'a str>,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for KeySeek<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeek<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.fail && self.wanted == Some(key) { Err(E::custom("here")) } else { Ok(key.to_owned()) }
    }
    fn visit_bool<E: Error>(self, key: bool) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }
    fn visit_i64<E: Error>(self, key: i64) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }
    fn visit_u64<E: Error>(self, key: u64) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }
    fn visit_f64<E: Error>(self, key: f64) -> Result<String, E> {
        self.visit_str(&key.to_string())
    }
    fn visit_unit<E: Error>(self) -> Result<String, E> {
        self.visit_str("null")
    }
}

/// Follows the steps; fails where they end and succeeds if they lead nowhere.
#[derive(Clone, Copy)]
struct Seek<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Seek<'_> {
    fn arrive<E: Error>(self) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom("here")) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return self.arrive() };
        let (wanted, mut before) = match step {
            Step::Key(wanted) => (Some(wanted.as_str()), 0),
            Step::Again(wanted) => (Some(wanted.as_str()), 1),
            Step::Item(_) => (None, 0),
        };
        while let Some(key) = map.next_key_seed(KeySeek { wanted, fail: rest.is_empty() && before == 0 })? {
            let same = Some(key.as_str()) == wanted;
            if same && before == 0 {
                map.next_value_seed(Seek(rest))?;
            } else {
                before -= usize::from(same);
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.0.is_empty() {
            return self.arrive();
        }
        let mut index = 0;
        loop {
            let more = match self.0 {
                [Step::Item(wanted), rest @ ..] if *wanted == index => {
                    seq.next_element_seed(Seek(rest))?.is_some()
                }
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.arrive()
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.arrive()
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.arrive()
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.arrive()
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.arrive()
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.arrive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version: 1
sessions:
  # a comment
  cookie: { name: a,
    same_site: lax }
  1: one
routes:
  - name: a
    path: /
  - path: /b
    hosts: [x,
      y]
    path: /c
shared: &s
  deep: 1
other: *s
";

    #[test]
    fn a_line_is_found_along_any_path() {
        let at = |steps: &[Step]| steps.iter().fold(At::root(), |at, step| at.with(step.clone()));
        let key = |name: &str| Step::Key(name.into());
        for (steps, expected) in [
            (vec![], None),
            (vec![key("version")], Some(1)),
            (vec![key("sessions")], Some(2)),
            (vec![key("sessions"), key("cookie"), key("same_site")], Some(5)),
            (vec![key("sessions"), key("1")], Some(6)),
            (vec![key("sessions"), key("absent")], Some(2)),
            (vec![key("routes"), Step::Item(0)], Some(8)),
            (vec![key("routes"), Step::Item(1)], Some(10)),
            (vec![key("routes"), Step::Item(1), key("path")], Some(10)),
            (vec![key("routes"), Step::Item(1), Step::Again("path".into())], Some(13)),
            (vec![key("routes"), Step::Item(1), key("hosts"), Step::Item(1)], Some(12)),
            (vec![key("routes"), Step::Item(9)], Some(7)),
            (vec![key("routes"), key("name")], Some(7)),
            (vec![key("version"), key("x")], Some(1)),
            (vec![key("other"), key("deep")], Some(15)),
        ] {
            let at = at(&steps);
            assert_eq!(line_of(TEXT, &at), expected, "{at}");
        }
    }
}
