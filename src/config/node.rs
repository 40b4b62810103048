//! The file as a tree: what the YAML says, before anybody asks what it means.
//!
//! Unlike `serde_yaml::Value` it keeps a key that stands twice, so that this is one problem among others and not the end
//! of the reading, and it has a budget, so that aliases of aliases cannot grow into memory.

use super::problem::{At, Notes, Problem};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_yaml::Number;
use std::cell::Cell;
use std::fmt;

/// Values in one file, aliases followed. A thousand routes come to some twenty thousand.
const VALUES_MAX: usize = 500_000;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; a name may stand twice.
    Map(Vec<(String, Node)>),
}

/// Reads the text; what is no YAML at all is the only problem then.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let budget = Cell::new(VALUES_MAX);
    let read = Reader { budget: &budget }.deserialize(serde_yaml::Deserializer::from_str(text));
    read.map_err(|error| {
        let line = error.location().map(|location| location.line());
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        let remedy = if said.contains("tab") || text.contains("\n\t") {
            "indent with spaces, never with tabs"
        } else if said.contains("more than one document") {
            "remove the line `---` and what follows"
        } else {
            "look at this line and the one above: indentation, quotes, brackets"
        };
        let mut problem = Problem::new(&At::root(), None, format!("is not YAML ({said})"), remedy);
        problem.set_line(line);
        problem
    })
}

/// Replaces `${NAME}` in every text by the environment variable; `$${` stands for `${`.
pub(super) fn expand(node: &mut Node, at: &At, env: &dyn Fn(&str) -> Option<String>, notes: &mut Notes) {
    match node {
        Node::Text(text) if text.contains("${") => match expanded(text, env) {
            Ok(replaced) => *text = replaced,
            Err(Gap::Unset(name)) => {
                let wrong = "is not set in the environment";
                notes.problem(
                    at,
                    &format!("${{{name}}}"),
                    wrong,
                    format!("set `{name}`, or write the value"),
                );
            }
            Err(Gap::Malformed) => {
                let wrong = "has a `${` that names no variable";
                notes.problem(at, text, wrong, "write `${NAME}`, or `$${` for the characters themselves");
            }
        },
        Node::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(item, &at.item(index), env, notes);
            }
        }
        Node::Map(pairs) => {
            for (name, value) in pairs {
                expand(value, &at.key(name), env, notes);
            }
        }
        _ => {}
    }
}

enum Gap {
    Unset(String),
    Malformed,
}

fn expanded(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Gap> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            whole.push_str(before);
            whole.push_str("${");
            rest = after;
            continue;
        }
        whole.push_str(before);
        let (name, after) = after.split_once('}').ok_or(Gap::Malformed)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Gap::Malformed);
        }
        whole.push_str(&env(name).ok_or_else(|| Gap::Unset(name.to_owned()))?);
        rest = after;
    }
    whole.push_str(rest);
    Ok(whole)
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    budget: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left = self.budget.get().checked_sub(1);
        self.budget.set(left.ok_or_else(|| D::Error::custom(format!("more than {VALUES_MAX} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value without a tag")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Number(number.into()))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key_seed(self)? {
            let name = match key {
                Node::Text(text) => text,
                Node::Number(number) => number.to_string(),
                Node::Bool(value) => value.to_string(),
                Node::Null => "null".to_owned(),
                Node::List(_) | Node::Map(_) => return Err(A::Error::custom("a key is a list or a mapping")),
            };
            pairs.push((name, map.next_value_seed(self)?));
        }
        Ok(Node::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("wiki.example.com".into()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("a: [${HOST}]".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_stand_for_their_values_and_are_never_read_as_yaml() {
        for (text, expected) in [
            ("https://${HOST}:8443", Some("https://wiki.example.com:8443")),
            ("${HOST}${HOST}", Some("wiki.example.comwiki.example.com")),
            ("${EMPTY}", Some("")),
            ("${YAML}", Some("a: [${HOST}]")),
            ("$${HOST}", Some("${HOST}")),
            ("$argon2id$v=19$", Some("$argon2id$v=19$")),
            ("${ABSENT}", None),
            ("${}", None),
            ("${A B}", None),
            ("${HOST", None),
        ] {
            assert_eq!(expanded(text, &env).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        for (text, line) in
            [("a: [1,\nb: 2\n", 2), ("a: 1\n\tb: 2\n", 2), ("a: b: c\n", 1), ("a: *nothing\n", 1)]
        {
            let problem = parse(text).expect_err(text);
            assert!(problem.line().is_some_and(|found| found.abs_diff(line) <= 1), "{text:?}: {problem}");
        }
    }

    #[test]
    fn aliases_of_aliases_do_not_grow_into_memory() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            text.extend([format!("a{level}: &a{level} ["), vec![alias; 10].join(", "), "]\n".to_owned()]);
        }
        let problem = parse(&text).expect_err("ten to the tenth values");
        assert!(problem.text().contains("more than") || problem.text().contains("repetition"), "{problem}");
    }

    #[test]
    fn a_name_that_stands_twice_is_kept_twice() {
        let Ok(Node::Map(pairs)) = parse("a: 1\na: 2\n1: x\n") else { panic!("reads") };
        assert_eq!(pairs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "a", "1"]);
    }

    proptest! {
        #[test]
        fn no_text_panics_the_reader(text in "\\PC*|[a-c:\\[\\]{}&*!#|>\\- \n\t\"']{0,80}") {
            let _ = parse(&text);
        }
    }
}
