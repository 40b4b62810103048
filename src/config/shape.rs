//! Checks the tree against the schema: unknown keys, wrong types, missing keys, misspelt words, keys that stand twice.
//!
//! It gathers every such problem in one walk and gives back what is sound, with `null` where something was not, so
//! that [`super::resolve`] can look for problems of meaning in the rest. It knows the subset of JSON Schema that
//! [`super::schema`] writes: `$ref`, `anyOf`/`oneOf` of branches that differ in kind, `type`, `properties`,
//! `required`, `additionalProperties`, `items`, `enum`, `const`, `minimum`, `maximum`, and `x-kind` for what types cannot say.

use super::frequency::{frequency, frequency_meant};
use super::node::Node;
use super::problem::{At, Notes, Problem, Step, shown};
use super::{scalar, suggest};
use crate::domain::time::span;
use serde_json::{Map, Value as Json};
use serde_yaml::{Mapping, Value};

/// Checks `root` against `schema`; gives back what is sound.
pub(super) fn check(root: &Node, schema: &Json, notes: &mut Notes) -> Value {
    Checker { root: schema, notes }.value(root, schema, &At::root(), Hint::default())
}

struct Checker<'a> {
    root: &'a Json,
    notes: &'a mut Notes,
}

impl<'a> Checker<'a> {
    fn value(&mut self, node: &Node, schema: &'a Json, at: &At, outer: Hint<'a>) -> Value {
        let hint = Hint(Hint::of(schema).0.or(outer.0));
        let schema = self.follow(schema);
        match (schema.get("x-kind").and_then(Json::as_str), node) {
            (Some("duration"), _) => return self.duration(node, at, hint),
            (Some("size"), _) => return self.size(node, at, hint),
            (Some("frequency"), _) => return self.frequency(node, at, hint),
            (Some("secret"), Node::Map(_)) => {}
            (Some("secret"), Node::Null) => return self.wrong_type(node, at, "object", hint),
            (Some("secret"), _) => return self.literal_secret(at),
            _ => {}
        }
        if let Some(words) = self.words(schema) {
            return self.word(node, &words, at, hint);
        }
        if let Some(branches) = branches(schema) {
            let fits =
                branches.iter().map(|branch| self.follow(branch)).find(|branch| self.takes(branch, node));
            return match fits {
                Some(branch) => self.value(node, branch, at, hint),
                None => self.wrong_type(node, at, self.types_of(schema).join(" or ").as_str(), hint),
            };
        }
        if !self.takes(schema, node) {
            return self.wrong_type(node, at, &self.types_of(schema).join(" or "), hint);
        }
        match node {
            Node::Map(pairs) => self.mapping(pairs, schema, at),
            Node::List(items) => {
                let item_schema = schema.get("items").unwrap_or(&Json::Bool(true));
                let checked = |(index, item)| self.value(item, item_schema, &at.item(index), Hint::default());
                Value::Sequence(items.iter().enumerate().map(checked).collect())
            }
            Node::Text(text) => Value::String(text.clone()),
            Node::Bool(value) => Value::Bool(*value),
            Node::Number(number) => self.number(number, schema, at),
            Node::Null => Value::Null,
        }
    }

    fn mapping(&mut self, pairs: &[(String, Node)], schema: &'a Json, at: &At) -> Value {
        let properties = schema.get("properties").and_then(Json::as_object);
        let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
        let setting = |name: &str| properties.and_then(|properties| properties.get(name));
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let mut sound = Mapping::new();
        for (name, node) in pairs {
            let below = at.key(name);
            if sound.contains_key(name.as_str()) {
                let twice = at.with(Step::Again(name.clone()));
                self.notes.push(Problem::new(&twice, Some(name), "stands twice", "keep one of them"));
            } else if let Some(schema) = setting(name).or(others) {
                let value = self.value(node, schema, &below, Hint::default());
                sound.insert(Value::String(name.clone()), value);
            } else {
                let remedy = if name == "<<" {
                    "merge keys are not read; write the values out".to_owned()
                } else {
                    suggest::remedy(name, known.clone())
                };
                self.notes.problem(&below, name, "is not a setting here", remedy);
            }
        }
        for required in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            let name = required.as_str().unwrap_or_default();
            if !sound.contains_key(name) {
                let hint = setting(name).map_or(Hint::default(), Hint::of);
                self.notes.missing(at, name, "is missing", hint.line(name));
            }
        }
        Value::Mapping(sound)
    }

    fn number(&mut self, number: &serde_yaml::Number, schema: &Json, at: &At) -> Value {
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        let value = number.as_f64().unwrap_or(f64::NAN);
        let (least, most) = (bound("minimum"), bound("maximum"));
        if least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most) {
            return Value::Number(number.clone());
        }
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("write a number from {least} to {most}"),
            (Some(least), None) => format!("write {least} or more"),
            _ => format!("write {} or less", most.unwrap_or_default()),
        };
        self.notes.problem(at, &number.to_string(), "is out of range", range);
        Value::Null
    }

    fn duration(&mut self, node: &Node, at: &At, hint: Hint<'_>) -> Value {
        match node {
            Node::Text(text) if span(text).is_some() => return Value::String(text.clone()),
            Node::Text(text) => {
                let bare = text.replace(' ', "").to_ascii_lowercase();
                let remedy = match span(&bare) {
                    Some(_) => format!("write `{bare}`"),
                    None => {
                        format!("write {}", hint.example().unwrap_or("`30s`, `5m`, `12h` or `7d`".into()))
                    }
                };
                self.notes.problem(at, text, "is not a duration", remedy);
            }
            Node::Number(number) => {
                let remedy = format!("write `{number}s`, `{number}m` or `{number}h`");
                self.notes.problem(at, &number.to_string(), "has no unit", remedy);
            }
            _ => return self.wrong_type(node, at, "duration", hint),
        }
        Value::Null
    }

    fn size(&mut self, node: &Node, at: &At, hint: Hint<'_>) -> Value {
        match node {
            Node::Text(text) if scalar::size(text).is_some() => return Value::String(text.clone()),
            Node::Text(text) => {
                let remedy = match scalar::size_meant(text) {
                    Some(meant) => format!("write `{meant}`"),
                    None => format!("write {}", hint.example().unwrap_or("`512B`, `6KiB` or `10MiB`".into())),
                };
                self.notes.problem(at, text, "is not a size", remedy);
            }
            Node::Number(number) => {
                let remedy = format!("write `{number}B`, `{number}KiB` or `{number}MiB`");
                self.notes.problem(at, &number.to_string(), "has no unit", remedy);
            }
            _ => return self.wrong_type(node, at, "size", hint),
        }
        Value::Null
    }

    fn frequency(&mut self, node: &Node, at: &At, hint: Hint<'_>) -> Value {
        match node {
            Node::Text(text) if frequency(text).is_some() => return Value::String(text.clone()),
            Node::Text(text) => {
                let remedy = match frequency_meant(text) {
                    Some(meant) => format!("write `{meant}`"),
                    None => format!("write {}", hint.example().unwrap_or("`50/s` or `600/m`".into())),
                };
                self.notes.problem(at, text, "is not a frequency", remedy);
            }
            Node::Number(number) => {
                let remedy = format!("write `{number}/s`, `{number}/m` or `{number}/h`");
                self.notes.problem(at, &number.to_string(), "has no unit", remedy);
            }
            _ => return self.wrong_type(node, at, "frequency", hint),
        }
        Value::Null
    }

    /// The value is not printed: it is what must not be seen.
    fn literal_secret(&mut self, at: &At) -> Value {
        let name = at.steps().iter().rev().find_map(|step| match step {
            Step::Key(name) | Step::Again(name) => Some(name.as_str()),
            Step::Item(_) => None,
        });
        let remedy = "write `{ file: PATH }` or `{ env: NAME }`";
        self.notes.problem(at, name.unwrap_or("secret"), "holds a secret written into the file", remedy);
        Value::Null
    }

    fn word(&mut self, node: &Node, words: &[&'a Json], at: &At, hint: Hint<'_>) -> Value {
        let plain = |word: &Json| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
        let given = match node {
            Node::Text(text) => Json::from(text.as_str()),
            Node::Number(number) => number.as_i64().map_or(Json::Null, Json::from),
            Node::Bool(value) => Json::from(*value),
            _ => return self.wrong_type(node, at, "word", hint),
        };
        if words.contains(&&given) {
            return to_yaml(node);
        }
        let known: Vec<String> = words.iter().map(|word| plain(word)).collect();
        let remedy = match known.as_slice() {
            [only] => match hint.example() {
                Some(other) if other != format!("`{only}`") => format!("write `{only}`, or {other}"),
                _ => format!("write `{only}`"),
            },
            _ => suggest::remedy(&plain(&given), known.iter().map(String::as_str)),
        };
        self.notes.problem(at, &text_of(node), "is not known here", remedy);
        Value::Null
    }

    fn wrong_type(&mut self, node: &Node, at: &At, wanted: &str, hint: Hint<'_>) -> Value {
        let wanted_words: Vec<&str> = wanted.split(" or ").map(name_of_type).collect();
        let example = hint.example().map(|example| format!(", such as {example}")).unwrap_or_default();
        let general = format!("write {}{example}", wanted_words.join(" or "));
        if at.steps().is_empty() {
            let wrong = if *node == Node::Null { "is empty" } else { "is no mapping of settings" };
            self.notes.push(Problem::new(
                at,
                None,
                wrong,
                "begin with `version: 1`, then `listeners:` and so on",
            ));
            return Value::Null;
        }
        let (wrong, remedy) = match node {
            Node::Map(_) if wanted == "array" => (
                "is one entry, not a list",
                "write `- ` before its first key, and indent the others alike".to_owned(),
            ),
            Node::Null if matches!(at.steps().last(), Some(Step::Item(_))) => {
                ("is empty", format!("{general}, or remove the line"))
            }
            Node::Null => ("is empty", format!("{general}, or remove the key")),
            Node::Map(_) => ("is a mapping", general),
            Node::List(_) => ("is a list", general),
            Node::Bool(_) | Node::Number(_) if wanted.contains("string") => {
                ("is not text", format!("write it in quotes: `\"{}\"`", text_of(node)))
            }
            Node::Text(text) if wanted == "boolean" => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => ("is text", "write `true`".to_owned()),
                "no" | "off" | "n" => ("is text", "write `false`".to_owned()),
                _ => ("is text", general),
            },
            Node::Text(text) if wanted == "array" => {
                ("is not a list", format!("write `[{}]`", shown(text.trim_matches(['[', ']']))))
            }
            Node::Text(_) => ("is text", general),
            Node::Number(_) => ("is a number", general),
            Node::Bool(_) => ("is true or false", general),
        };
        let culprit = match node {
            Node::Null | Node::Map(_) | Node::List(_) => last_name(at),
            _ => text_of(node),
        };
        self.notes.problem(at, &culprit, wrong, remedy);
        Value::Null
    }

    /// Whether the schema's types include the node's.
    fn takes(&self, schema: &'a Json, node: &Node) -> bool {
        let kind = match node {
            Node::Null => "null",
            Node::Bool(_) => "boolean",
            Node::Number(number) if number.is_f64() => "number",
            Node::Number(_) => "integer",
            Node::Text(_) => "string",
            Node::List(_) => "array",
            Node::Map(_) => "object",
        };
        let types = self.types_of(schema);
        types.is_empty() || types.contains(&kind)
    }

    /// Every type that the schema names, those of its branches too; none for the schema that takes all.
    fn types_of(&self, schema: &'a Json) -> Vec<&'a str> {
        let schema = self.follow(schema);
        let mut types = match schema.get("type") {
            Some(Json::String(one)) => vec![one.as_str()],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        };
        for branch in branches(schema).into_iter().flatten() {
            types.extend(self.types_of(branch));
        }
        types.dedup();
        types
    }

    /// The words of an enumeration: `enum`, `const`, or branches that are nothing but these.
    fn words(&self, schema: &'a Json) -> Option<Vec<&'a Json>> {
        if let Some(word) = schema.get("const") {
            return Some(vec![word]);
        }
        if let Some(Json::Array(words)) = schema.get("enum") {
            return Some(words.iter().collect());
        }
        let mut words = Vec::new();
        for branch in branches(schema)? {
            words.extend(self.words(self.follow(branch))?);
        }
        Some(words)
    }

    fn follow(&self, mut schema: &'a Json) -> &'a Json {
        // Our own schema: references lead to definitions, never in circles of references alone.
        while let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            let found = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            schema = found.unwrap_or(&Json::Bool(true));
        }
        schema
    }
}

fn branches(schema: &Json) -> Option<&Vec<Json>> {
    schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array)
}

/// What the schema shows as an example of a setting.
#[derive(Clone, Copy, Default)]
struct Hint<'a>(Option<&'a Json>);

impl<'a> Hint<'a> {
    fn of(schema: &'a Json) -> Self {
        let example = schema.get("examples").and_then(|examples| examples.get(0));
        Self(example.or_else(|| schema.get("default")))
    }

    fn example(self) -> Option<String> {
        self.0.map(|example| format!("`{}`", flow(example)))
    }

    /// The whole line to write.
    fn line(self, name: &str) -> String {
        self.0.map_or_else(
            || format!("write `{name}:`"),
            |example| format!("write `{name}: {}`", flow(example)),
        )
    }
}

/// JSON as YAML's flow style, without needless quotes.
fn flow(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Json::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}: {}", flow(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

fn name_of_type(name: &str) -> &str {
    match name {
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "`true` or `false`",
        "array" => "a list (`[a, b]`)",
        "object" => "a mapping (`{ key: value }`)",
        "duration" => "a duration",
        "size" => "a size",
        "frequency" => "a frequency",
        "word" => "a word",
        other => other,
    }
}

fn last_name(at: &At) -> String {
    at.steps().last().map_or("the file".to_owned(), |step| match step {
        Step::Key(name) | Step::Again(name) => name.clone(),
        Step::Item(index) => format!("[{index}]"),
    })
}

fn text_of(node: &Node) -> String {
    match node {
        Node::Text(text) => text.clone(),
        Node::Number(number) => number.to_string(),
        Node::Bool(value) => value.to_string(),
        Node::Null => "null".to_owned(),
        Node::List(_) => "[…]".to_owned(),
        Node::Map(_) => "{…}".to_owned(),
    }
}

fn to_yaml(node: &Node) -> Value {
    match node {
        Node::Text(text) => Value::String(text.clone()),
        Node::Number(number) => Value::Number(number.clone()),
        Node::Bool(value) => Value::Bool(*value),
        _ => Value::Null,
    }
}
