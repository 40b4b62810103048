//! The JSON Schema of the file: what editors complete by, and what [`super::shape`] checks by.

use super::raw::File;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn schema() -> Value {
    let mut schema =
        SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>().to_value();
    without_null(&mut schema);
    schema
}

/// Takes `null` out of every type: in the types of [`super::raw`] it marks what was wrong in shape, and in the file an
/// empty value is a mistake.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    map["type"] = only.clone();
                }
            }
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            drop_null_branch(map);
            map.values_mut().for_each(without_null);
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn drop_null_branch(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get_mut("anyOf") else { return };
    branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
    if let [Value::Object(only)] = branches.as_slice() {
        let only = only.clone();
        map.remove("anyOf");
        // The field's own words stand; the type's fill in.
        for (key, value) in only {
            map.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(schema: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
        match schema {
            Value::Object(map) => {
                visit(map);
                map.values().for_each(|value| walk(value, visit));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_setting_has_a_help_text_and_no_mapping_takes_unknown_keys() {
        let mut properties = 0;
        walk(&schema(), &mut |map| {
            if let Some(Value::Object(settings)) = map.get("properties") {
                assert_eq!(map.get("additionalProperties"), Some(&Value::Bool(false)), "{map:?}");
                for (name, setting) in settings {
                    assert!(setting.get("description").is_some(), "`{name}` has no help text: {setting}");
                    properties += 1;
                }
            }
        });
        assert!(properties > 60, "only {properties}");
    }

    #[test]
    fn null_is_no_value_of_any_setting() {
        walk(&schema(), &mut |map| {
            assert_ne!(map.get("type"), Some(&Value::from("null")), "{map:?}");
            assert!(!map.get("enum").is_some_and(|words| words.to_string().contains("null")), "{map:?}");
        });
    }
}
