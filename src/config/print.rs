//! The file with every default filled in, for `check --print`: what is in force, written out, and a sound file again.
//!
//! What the file says stands as it says it, in its order, and what it leaves out comes behind. `${NAME}` stays a reference, as do
//! secrets: nothing is printed that the file does not hold. Defaults come from the schema, so that no key can be forgotten:
//! `default` is what editors see too, `x-default` what is meant where nothing stands although it is not right everywhere. A
//! section that has neither means something by its absence, and is not made up.

use super::node::{self, Node};
use super::problem::Problem;
use super::scalar::Span;
use super::{Config, schema};
use serde_json::{Map, Value as Json};
use serde_yaml::{Mapping, Value};

/// The top of what is printed.
const HEAD: &str = "\
# The file with every default filled in. Secrets and ${NAME} stay references; relative paths start at the file's folder.
";

/// The text of a file that loads as `config`, with every default filled in.
pub(super) fn filled_in(text: &str, config: &Config) -> Result<String, Problem> {
    let mut tree = node::parse(text)?;
    let schema = schema();
    Filler { root: &schema }.fill(&mut tree, &schema, None);
    reckon(&mut tree, config);
    let body = serde_yaml::to_string(&to_yaml(tree)).expect("maps, lists and scalars are YAML");
    Ok(format!("{HEAD}{body}"))
}

struct Filler<'a> {
    root: &'a Json,
}

impl<'a> Filler<'a> {
    /// `outer` is the default of the place itself, which may say more than the type that stands there.
    fn fill(&self, node: &mut Node, schema: &'a Json, outer: Option<&'a Json>) {
        let kind = match node {
            Node::Map(_) => "object",
            Node::List(_) => "array",
            _ => return,
        };
        let Some(schema) = self.branch(schema, kind) else { return };
        match node {
            Node::Map(pairs) => {
                let empty = Map::new();
                let settings = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
                for (name, setting) in settings {
                    let default = outer.and_then(|outer| outer.get(name)).or_else(|| default_of(setting));
                    if let Some(default) = default
                        && !pairs.iter().any(|(held, _)| held == name)
                    {
                        pairs.push((name.clone(), from_json(default)));
                    }
                }
                for (name, value) in pairs {
                    let setting = settings.get(name.as_str()).or_else(|| schema.get("additionalProperties"));
                    if let Some(setting) = setting {
                        self.fill(value, setting, default_of(setting));
                    }
                }
            }
            Node::List(items) => {
                let Some(schema) = schema.get("items") else { return };
                for item in items {
                    self.fill(item, schema, None);
                }
            }
            _ => {}
        }
    }

    /// What the schema says of values of this kind.
    fn branch(&self, schema: &'a Json, kind: &str) -> Option<&'a Json> {
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            return self.branch(self.root.pointer(reference.strip_prefix('#')?)?, kind);
        }
        let branches = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
        match branches {
            Some(branches) => branches.iter().find_map(|branch| self.branch(branch, kind)),
            None => (schema.get("type").and_then(Json::as_str) == Some(kind)).then_some(schema),
        }
    }
}

fn default_of(setting: &Json) -> Option<&Json> {
    setting.get("default").or_else(|| setting.get("x-default"))
}

/// What is reckoned from other settings where it is left out.
fn reckon(tree: &mut Node, config: &Config) {
    if let Some(sessions) = member(tree, "sessions")
        && member(sessions, "renew_after").is_none()
        && let Node::Map(pairs) = sessions
    {
        let renew_after = Span::default(config.sessions.clocks.renew_after);
        // A quarter of an odd lifetime has no words.
        if crate::domain::time::span(&renew_after.text) == Some(renew_after.length) {
            pairs.push(("renew_after".to_owned(), Node::Text(renew_after.text)));
        }
    }
    let Some(Node::List(listeners)) = member(tree, "listeners") else { return };
    for (listener, settings) in listeners.iter_mut().zip(&config.listeners) {
        if let (Some(Node::Map(pairs)), Some(outside)) = (member(listener, "external"), settings.external)
            && !pairs.iter().any(|(name, _)| name == "port")
        {
            pairs.push(("port".to_owned(), Node::Number(outside.port.into())));
        }
    }
}

fn member<'a>(node: &'a mut Node, name: &str) -> Option<&'a mut Node> {
    let Node::Map(pairs) = node else { return None };
    pairs.iter_mut().find(|(held, _)| held == name).map(|(_, value)| value)
}

/// Defaults of the schema; they hold nothing but these.
fn from_json(json: &Json) -> Node {
    match json {
        Json::Null => Node::Null,
        Json::Bool(value) => Node::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Node::Number(whole.into()),
            (None, broken) => Node::Number(broken.unwrap_or_default().into()),
        },
        Json::String(text) => Node::Text(text.clone()),
        Json::Array(items) => Node::List(items.iter().map(from_json).collect()),
        Json::Object(map) => {
            Node::Map(map.iter().map(|(name, value)| (name.clone(), from_json(value))).collect())
        }
    }
}

fn to_yaml(node: Node) -> Value {
    match node {
        Node::Null => Value::Null,
        Node::Bool(value) => Value::Bool(value),
        Node::Number(number) => Value::Number(number),
        Node::Text(text) => Value::String(text),
        Node::List(items) => Value::Sequence(items.into_iter().map(to_yaml).collect()),
        Node::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(name, value)| (Value::String(name), to_yaml(value)));
            Value::Mapping(pairs.collect::<Mapping>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Settings without a default, each with what its absence means.
    const MEANT_BY_ABSENCE: &[(&str, &str)] = &[
        ("acme_webroot", "none"),
        ("admin", "none"),
        ("all", "a rule of one key"),
        ("allow", "everybody, or all addresses"),
        ("anonymous", "none"),
        ("any", "a rule of one key"),
        ("assertion", "none, or that of all upstreams"),
        ("auth_age", "a rule of one key"),
        ("body", "any length"),
        ("burst", "reckoned from another"),
        ("ca", "the system's authorities"),
        ("audience", "the server alone decides"),
        ("claims", "a rule of one key"),
        ("client_ca", "nobody is asked"),
        ("client_certificate", "none is shown, or asked for"),
        ("client_key", "another proof"),
        ("client_secret", "another proof"),
        ("clients", "from everywhere"),
        ("connections", "those of its keys"),
        ("default", "what is not found is no claim"),
        ("email", "a rule of one key"),
        ("email_domain", "a rule of one key"),
        ("env", "a secret of one key"),
        ("external", "plain http, or external_url"),
        ("external_url", "none"),
        ("fetch", "as usual, where keys are fetched"),
        ("file", "a secret of one key"),
        ("fingerprint", "any certificate's"),
        ("forward_auth", "nobody asks"),
        ("format", "human on a terminal, else json"),
        ("groups", "a rule of one key"),
        ("headers", "those of all upstreams"),
        ("health", "only requests tell"),
        ("host", "any host"),
        ("hsts", "none"),
        ("identity", "that of all upstreams"),
        ("introspection", "a token of one kind"),
        ("issuer", "the entry's name is the source"),
        ("jwks_file", "a key of one kind"),
        ("jwks_url", "a key of one kind"),
        ("jwt", "a token of one kind"),
        ("key_id", "none is sent"),
        ("keys", "none"),
        ("limits", "none"),
        ("max", "as many as there is room for"),
        ("max_per_client", "reckoned from another"),
        ("max_requests", "no bound of its own"),
        ("methods", "any method"),
        ("not", "a rule of one key"),
        ("pages", "the built-in ones"),
        ("password", "a way of one kind"),
        ("policies", "none"),
        ("port", "reckoned from another"),
        ("prefix", "none"),
        ("probes", "on the admin address"),
        ("proof", "what a token itself asks for"),
        ("public_key", "a key of one kind"),
        ("rate", "as often as one likes"),
        ("redirect", "an upstream"),
        ("remember_me", "no such box"),
        ("renew_after", "reckoned from another"),
        ("scope", "a rule of one key"),
        ("secret", "a key of one kind"),
        ("server_name", "the host of the URL"),
        ("servers", "reached by another proxy"),
        ("sign_in", "none"),
        ("source", "a rule of one key"),
        ("status", "200 to 399"),
        ("subject", "a rule of one key"),
        ("table", "values as they stand"),
        ("tls", "plain http"),
        ("to", "each log has its own"),
        ("token", "a Unix socket"),
        ("tokens", "none"),
        ("unsafe_domain", "the host alone"),
        ("upgrade", "no other process takes over"),
        ("upstream", "a redirect"),
    ];

    fn each_setting(schema: &Json, visit: &mut impl FnMut(&str, &Json, bool)) {
        match schema {
            Json::Object(map) => {
                let required: Vec<&str> = map
                    .get("required")
                    .and_then(Json::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Json::as_str)
                    .collect();
                for (name, setting) in map.get("properties").and_then(Json::as_object).into_iter().flatten() {
                    visit(name, setting, required.contains(&name.as_str()));
                }
                map.values().for_each(|value| each_setting(value, visit));
            }
            Json::Array(list) => list.iter().for_each(|value| each_setting(value, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_setting_is_required_or_has_a_default_or_means_something_by_its_absence() {
        let by_absence: Vec<&str> = MEANT_BY_ABSENCE.iter().map(|(name, _)| *name).collect();
        let mut forgotten = Vec::new();
        let mut seen = Vec::new();
        each_setting(&schema(), &mut |name, setting, required| {
            if !required && default_of(setting).is_none() {
                seen.push(name.to_owned());
                if !by_absence.contains(&name) {
                    forgotten.push(name.to_owned());
                }
            }
        });
        assert_eq!(
            forgotten, [""; 0],
            "give it a default in the schema, or say above what its absence means"
        );
        let idle: Vec<&&str> =
            by_absence.iter().filter(|name| !seen.iter().any(|held| held == *name)).collect();
        assert!(idle.is_empty(), "no such settings, or they have a default: {idle:?}");
    }

    #[test]
    fn what_is_left_out_comes_behind_what_is_written() {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {
                "a": { "$ref": "#/$defs/A", "default": { "x": 9 } },
                "b": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "$ref": "#/$defs/A" } }] },
                "c": { "type": "object", "additionalProperties": { "$ref": "#/$defs/A" }, "default": { "n": {} } },
                "d": { "type": "string", "x-default": "1" },
                "e": { "type": "string" },
            },
            "$defs": { "A": {
                "type": "object",
                "properties": { "x": { "type": "integer", "default": 1 }, "y": { "type": "integer", "default": 2 } }
            } },
        });
        for (text, filled) in [
            ("d: ${D}\n", "d: ${D}\na:\n  x: 9\n  y: 2\nc:\n  n:\n    x: 1\n    y: 2\n"),
            ("b: x\na: { y: 3 }\nc: {}\n", "b: x\na:\n  y: 3\n  x: 9\nc: {}\nd: '1'\n"),
            (
                "b: [{ x: 0 }]\nc: { m: { y: 0 } }\n",
                "b:\n- x: 0\n  y: 2\nc:\n  m:\n    y: 0\n    x: 1\na:\n  x: 9\n  y: 2\nd: '1'\n",
            ),
        ] {
            let mut tree = node::parse(text).expect("YAML");
            Filler { root: &schema }.fill(&mut tree, &schema, None);
            assert_eq!(serde_yaml::to_string(&to_yaml(tree)).expect("YAML"), filled, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_read_again_as_it_was(text in "\\PC{0,20}|[-~!&*#|>%@`'\"{}\\[\\]:,? =0-9a-z\n\t]{0,12}|true|null|~|1e3|0x1F|on|= /x") {
            let yaml = serde_yaml::to_string(&to_yaml(Node::Map(vec![(text.clone(), Node::Text(text.clone()))])));
            let read = node::parse(&yaml.expect("YAML")).expect("what is written can be read");
            prop_assert_eq!(read, Node::Map(vec![(text.clone(), Node::Text(text))]));
        }
    }
}
