//! From a parsed JSON object to the claims that are told: whether a token's payload or a server's answer, it is the same.
//!
//! Without a mapping every plain value is a claim under its own name. A [`Mapping`] adds one, or takes the place of one, from
//! anywhere in the object. Nothing is guessed: what is not found, or is of a shape that no header has, is no claim, and
//! [`Missing`] where the mapping says that it must be there. Work is bounded by the object, which its reader has bounded, and
//! by [`MAPPINGS_MAX`] and [`DEPTH_MAX`].

use crate::domain::identity::{AUTH_TIME, ClaimValue, Claims, EMAIL, SCOPE, SOURCE, SUBJECT};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Mappings of one entry.
pub const MAPPINGS_MAX: usize = 64;
/// Members inside members on the way to a value.
pub const DEPTH_MAX: usize = 8;
/// The longest name of a claim in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Values of one table.
pub const TABLE_MAX: usize = 1000;
/// Names of claims that no mapping may make: they come from the subject's own claim, the issuer, and the sign-in itself.
pub const NOT_MAPPED: [&str; 3] = [SUBJECT, SOURCE, AUTH_TIME];

/// How one claim is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its name in headers and rules.
    pub name: String,
    /// The names of members from the outermost object inward: `["realm_access", "roles"]`.
    pub from: Vec<String>,
    /// What is told where nothing is found.
    pub default: Option<ClaimValue>,
    /// A token in which nothing is found is refused.
    pub required: bool,
    /// Which of the values count, and as what.
    pub values: Values,
}

/// What becomes of the values that are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// They count as they stand.
    All,
    /// Those with this at their front count.
    Prefix {
        /// The front.
        prefix: String,
        /// They count without it.
        strip: bool,
    },
    /// Those that stand here count, as what stands beside them.
    Table(BTreeMap<String, Vec<String>>),
}

/// A claim that the entry requires was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// Adds what `mappings` make of `object` to `told`, in place of claims of the same name.
///
/// A mapped e-mail address must be one string like any other, and the caller has said by `may_tell_email` whether the issuer
/// stands for it.
///
/// # Errors
///
/// [`Missing`]: a required claim was not found, or none of its values counts.
pub fn map(
    mappings: &[Mapping],
    object: &Map<String, Value>,
    may_tell_email: bool,
    told: &mut Claims,
) -> Result<(), Missing> {
    for mapping in mappings {
        let found = find(object, &mapping.from).and_then(plain).and_then(|value| mapping.values.of(value));
        let fits = |value: &ClaimValue| {
            mapping.name != EMAIL || may_tell_email && matches!(value, ClaimValue::Text(_))
        };
        match found.filter(fits).or_else(|| mapping.default.clone()) {
            Some(value) => drop(told.insert(mapping.name.clone(), value)),
            None if mapping.required => return Err(Missing),
            None => drop(told.remove(&mapping.name)),
        }
    }
    Ok(())
}

/// The scopes of a token as a list: `scope` (RFC 8693 §4.2), words between spaces, or `scp`, as some issuers write it.
pub fn scopes(object: &Map<String, Value>) -> Option<ClaimValue> {
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    match object.get(SCOPE).or_else(|| object.get("scp"))? {
        Value::String(text) => Some(ClaimValue::List(words(text))),
        Value::Array(items) => {
            let items = items.iter().map(|item| item.as_str().map(str::to_owned));
            items.collect::<Option<_>>().map(ClaimValue::List)
        }
        _ => None,
    }
}

/// A claim of one value or a list of such; nested ones, null and numbers that lose digits are none.
pub fn plain(value: &Value) -> Option<ClaimValue> {
    match value {
        Value::String(text) => Some(ClaimValue::Text(text.clone())),
        Value::Bool(value) => Some(ClaimValue::Bool(*value)),
        Value::Number(_) => digits(value).map(ClaimValue::Number),
        Value::Array(items) => items.iter().map(item).collect::<Option<_>>().map(ClaimValue::List),
        Value::Null | Value::Object(_) => None,
    }
}

fn item(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        _ => digits(value),
    }
}

/// A number that was read without loss; two that differ must not become one.
fn digits(value: &Value) -> Option<String> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let exact = value.is_u64() || value.is_i64() || value.as_f64().is_some_and(|number| number.abs() < EXACT);
    exact.then(|| value.to_string())
}

/// The value at the end of a path of member names.
fn find<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().take(DEPTH_MAX).try_fold(object.get(first)?, |value, name| value.as_object()?.get(name))
}

impl Values {
    /// What counts of a value; nothing where nothing does.
    fn of(&self, value: ClaimValue) -> Option<ClaimValue> {
        let kept = match (self, value) {
            (_, ClaimValue::List(items)) => {
                // A table may name one value twice; a list of groups has each once.
                let mut seen = BTreeSet::new();
                let mapped = items.iter().flat_map(|item| self.one(item));
                ClaimValue::List(mapped.filter(|item| seen.insert(item.clone())).collect())
            }
            (Self::All, value) => value,
            (Self::Prefix { .. }, value) => ClaimValue::Text(self.one(&text(value)).pop()?),
            (Self::Table(_), value) => ClaimValue::List(self.one(&text(value))),
        };
        match &kept {
            ClaimValue::Text(text) if text.is_empty() => None,
            ClaimValue::List(items) if items.iter().all(String::is_empty) => None,
            _ => Some(kept),
        }
    }

    fn one(&self, value: &str) -> Vec<String> {
        match self {
            Self::All => vec![value.to_owned()],
            Self::Prefix { prefix, strip } => {
                let rest = value.strip_prefix(prefix.as_str());
                rest.map(|rest| if *strip { rest } else { value }.to_owned()).into_iter().collect()
            }
            Self::Table(table) => table.get(value).cloned().unwrap_or_default(),
        }
    }
}

fn text(value: ClaimValue) -> String {
    match value {
        ClaimValue::Text(text) | ClaimValue::Number(text) => text,
        ClaimValue::Bool(value) => value.to_string(),
        ClaimValue::List(items) => items.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::Identity;
    use proptest::prelude::*;
    use serde_json::json;

    fn mapping(name: &str, from: &[&str]) -> Mapping {
        let from = from.iter().map(|&name| name.to_owned()).collect();
        Mapping { name: name.to_owned(), from, default: None, required: false, values: Values::All }
    }

    fn made(mapping: &Mapping, object: &Value) -> Result<Option<String>, Missing> {
        let mut told = Claims::new();
        map(std::slice::from_ref(mapping), object.as_object().expect("an object"), true, &mut told)?;
        let identity = Identity::new("alice", "api", &told).expect("it packs");
        Ok(identity.as_ref().claim(&mapping.name).map(|claim| claim.header_form().to_owned()))
    }

    #[test]
    fn a_claim_is_found_by_its_path_and_told_as_it_stands() {
        let object = json!({
            "realm_access": { "roles": ["ops", "a,b"], "deep": { "x": { "y": 7 } } },
            "realm_access.roles": "dotted", "https://example.com/groups": ["one"],
            "level": 3, "big": u64::MAX, "score": 1.5, "admin": false, "none": null, "object": {}, "mixed": [1, true, "x"],
        });
        for (path, expected) in [
            (&["realm_access", "roles"][..], Some("ops,a%2Cb")),
            (&["realm_access.roles"], Some("dotted")),
            (&["https://example.com/groups"], Some("one")),
            (&["realm_access", "deep", "x", "y"], Some("7")),
            (&["level"], Some("3")),
            (&["big"], Some("18446744073709551615")),
            (&["score"], Some("1.5")),
            (&["admin"], Some("false")),
            (&["mixed"], Some("1,true,x")),
            (&["none"], None),
            (&["object"], None),
            (&["realm_access"], None),
            (&["level", "more"], None),
            (&["mixed", "0"], None),
            (&["absent"], None),
            (&[], None),
        ] {
            assert_eq!(made(&mapping("x", path), &object), Ok(expected.map(str::to_owned)), "{path:?}");
        }
    }

    #[test]
    fn what_is_not_found_is_its_default_or_refused_or_nothing() {
        let default = Some(ClaimValue::Text("guest".into()));
        let wrong_shape = json!({ "role": { "a": 1 } });
        for (default, required, object, expected) in [
            (None, false, json!({}), Ok(None)),
            (None, true, json!({}), Err(Missing)),
            (default.clone(), false, json!({}), Ok(Some("guest"))),
            (default.clone(), false, wrong_shape.clone(), Ok(Some("guest"))),
            (None, true, wrong_shape, Err(Missing)),
            (None, true, json!({ "role": "" }), Err(Missing)),
            (None, true, json!({ "role": [] }), Err(Missing)),
            (None, true, json!({ "role": [""] }), Err(Missing)),
            (None, true, json!({ "role": null }), Err(Missing)),
            (None, true, json!({ "role": false }), Ok(Some("false"))),
            (default, true, json!({ "role": "ops" }), Ok(Some("ops"))),
        ] {
            let mapping = Mapping { default, required, ..mapping("role", &["role"]) };
            assert_eq!(made(&mapping, &object), expected.map(|value| value.map(str::to_owned)), "{object}");
        }
    }

    #[test]
    fn values_count_by_their_front_or_by_a_table() {
        let prefix = |strip| Values::Prefix { prefix: "wiki-".into(), strip };
        let table = || {
            Values::Table(BTreeMap::from([
                ("cn=admins".into(), vec!["ops".into()]),
                ("cn=all".into(), vec!["dev".into(), "ops".into()]),
            ]))
        };
        for (values, given, expected) in [
            (prefix(false), json!(["wiki-ops", "blog-ops", "wiki-dev"]), Some("wiki-ops,wiki-dev")),
            (prefix(true), json!(["wiki-ops", "blog-ops", "wiki-dev", "wiki-"]), Some("ops,dev")),
            (prefix(true), json!(["WIKI-ops", "awiki-ops"]), None),
            (prefix(true), json!("wiki-ops"), Some("ops")),
            (prefix(true), json!("wiki-"), None),
            (prefix(true), json!("blog-ops"), None),
            (table(), json!(["cn=admins", "cn=all", "cn=other"]), Some("ops,dev")),
            (table(), json!("cn=all"), Some("dev,ops")),
            (table(), json!(["ops"]), None),
            (table(), json!(["cn=Admins"]), None),
        ] {
            let mapping = Mapping { values, ..mapping("groups", &["g"]) };
            assert_eq!(made(&mapping, &json!({ "g": given })), Ok(expected.map(str::to_owned)), "{given}");
        }
    }

    #[test]
    fn a_mapping_takes_the_place_of_a_claim_of_its_name() {
        let mut told = Claims::from([("groups".into(), ClaimValue::Text("root".into()))]);
        let object = json!({ "other": 1 });
        map(&[mapping("groups", &["roles"])], object.as_object().expect("an object"), true, &mut told)
            .expect("not required");
        assert!(told.is_empty(), "the token's own groups do not stand in for what the file asks for");
    }

    #[test]
    fn a_mapped_address_is_one_string_and_only_where_the_issuer_stands_for_it() {
        for (may, value, expected) in [
            (true, json!("a@example.com"), true),
            (false, json!("a@example.com"), false),
            (true, json!(["a@example.com"]), false),
            (true, json!(7), false),
        ] {
            let object = json!({ "upn": value });
            let mut told = Claims::new();
            let object = object.as_object().expect("an object");
            map(&[mapping("email", &["upn"])], object, may, &mut told).expect("not required");
            assert_eq!(told.contains_key("email"), expected, "{may} {object:?}");
        }
    }

    #[test]
    fn scopes_are_words_or_a_list() {
        for (object, expected) in [
            (json!({ "scope": "read write" }), Some(vec!["read", "write"])),
            (json!({ "scope": " read  write " }), Some(vec!["read", "write"])),
            (json!({ "scope": "" }), Some(vec![])),
            (json!({ "scp": ["read", "write"] }), Some(vec!["read", "write"])),
            (json!({ "scp": "read" }), Some(vec!["read"])),
            (json!({ "scope": "read", "scp": ["admin"] }), Some(vec!["read"])),
            (json!({ "scope": 7, "scp": ["admin"] }), None),
            (json!({ "scp": ["read", 7] }), None),
            (json!({}), None),
        ] {
            let expected =
                expected.map(|words| ClaimValue::List(words.iter().map(|&w| w.to_owned()).collect()));
            assert_eq!(scopes(object.as_object().expect("an object")), expected, "{object}");
        }
    }

    proptest! {
        #[test]
        fn no_mapping_tells_what_the_object_does_not_say(
            given in prop::collection::vec("[a-c-]{0,4}", 0..5), prefix in "[a-c-]{1,2}", strip: bool,
        ) {
            let values = Values::Prefix { prefix: prefix.clone(), strip };
            let mapping = Mapping { values, ..mapping("groups", &["g"]) };
            let mut told = Claims::new();
            let object = json!({ "g": given });
            map(&[mapping], object.as_object().expect("an object"), true, &mut told).expect("not required");
            if let Some(ClaimValue::List(items)) = told.get("groups") {
                for item in items {
                    let whole = if strip { format!("{prefix}{item}") } else { item.clone() };
                    prop_assert!(given.contains(&whole));
                }
            }
        }
    }
}
