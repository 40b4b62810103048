//! JSON merge patches (RFC 7396) over one session's data.
//!
//! The data of a space is one JSON object, held and sent as a header's value: ASCII, compact, everything else `\u`-escaped.
//! Objects are merged member by member. Every other value is kept in the letters that it came in, so that integers beyond 2^53,
//! `1.0` and `1e400` come back as they went; only space around it goes, and what is not ASCII is escaped.
//!
//! A patch is taken whole or refused whole. Stricter than the RFC: the patch has to be an object, a name stands once in an
//! object (readers disagree about which of two counts), and nesting is bounded, because readers recurse.

use http::HeaderValue;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// How deep objects and lists may lie in one another; the patch itself is the first.
pub const DEPTH_MAX: usize = 32;

/// Why a patch was refused; nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not JSON, or JSON but no object.
    #[error("the patch is not one JSON object")]
    NotAnObject,
    /// A name stands twice in one object.
    #[error("a member stands twice in the patch")]
    MemberTwice,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("the patch is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// The data would become longer than its bound.
    #[error("the data would become longer than sessions.data.max_bytes")]
    TooLarge,
    /// What is held is no data that we wrote.
    #[error("the data is not readable")]
    DataUnreadable,
}

impl Refused {
    /// The reason as logs spell it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotAnObject => "patch_not_an_object",
            Self::MemberTwice => "patch_member_twice",
            Self::TooDeep => "patch_too_deep",
            Self::TooLarge => "patch_too_large",
            Self::DataUnreadable => "data_unreadable",
        }
    }
}

/// A patch that was read and found well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch(Vec<Member>);

impl Patch {
    /// Reads a patch: one JSON object in UTF-8.
    pub fn parse(text: &[u8]) -> Result<Self, Refused> {
        match read(std::str::from_utf8(text).map_err(|_| Refused::NotAnObject)?)? {
            Node::Object(members) => Ok(Self(members)),
            Node::List(_) | Node::Scalar(_) => Err(Refused::NotAnObject),
        }
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The data after the patch; `None` stands for the empty object on both sides.
    ///
    /// Members that stay keep their order, new ones follow in the patch's. Data that is longer than `bytes_max` already, because
    /// the bound was lowered, may shrink in several steps.
    pub fn apply(self, data: Option<&HeaderValue>, bytes_max: usize) -> Result<Option<HeaderValue>, Refused> {
        let held = match data {
            None => Vec::new(),
            Some(data) => match data.to_str().map(read) {
                Ok(Ok(Node::Object(members))) => members,
                _ => return Err(Refused::DataUnreadable),
            },
        };
        let merged = merge_members(held, self.0);
        if merged.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        Node::Object(merged).write(&mut text);
        if text.len() > bytes_max && text.len() > data.map_or(0, HeaderValue::len) {
            return Err(Refused::TooLarge);
        }
        let mut value = HeaderValue::try_from(text).expect("printable ASCII is a header value");
        // Whatever prints headers leaves it out.
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

type Member = (String, Node);

/// A JSON value whose objects and lists are taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Object(Vec<Member>),
    List(Vec<Node>),
    /// As it is to be written: a string with its quotes, a number, `true`, `false` or `null`.
    Scalar(String),
}

impl Node {
    fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(text) if text == "null")
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_name(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Scalar(text) => out.push_str(text),
        }
    }
}

/// RFC 7396 §2, `MergePatch`.
fn merge(target: Option<Node>, patch: Node) -> Node {
    let Node::Object(patch) = patch else { return patch };
    let held = match target {
        Some(Node::Object(members)) => members,
        _ => Vec::new(),
    };
    Node::Object(merge_members(held, patch))
}

fn merge_members(held: Vec<Member>, patch: Vec<Member>) -> Vec<Member> {
    let mut places: HashMap<String, usize> =
        held.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    // A place that is empty in the end was removed.
    let mut merged: Vec<(String, Option<Node>)> =
        held.into_iter().map(|(name, value)| (name, Some(value))).collect();
    for (name, value) in patch {
        let place = places.remove(&name);
        if value.is_null() {
            if let Some(at) = place {
                merged[at].1 = None;
            }
            continue;
        }
        match place {
            Some(at) => merged[at].1 = Some(merge(merged[at].1.take(), value)),
            None => merged.push((name, Some(merge(None, value)))),
        }
    }
    merged.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Reads one JSON value with nothing but space around it.
fn read(text: &str) -> Result<Node, Refused> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| Refused::NotAnObject)?;
    node(raw.get(), 1)
}

/// `text` is one JSON value without space around it: the parser has seen to that.
fn node(text: &str, depth: usize) -> Result<Node, Refused> {
    let first = text.as_bytes().first();
    if matches!(first, Some(b'{' | b'[')) && depth > DEPTH_MAX {
        return Err(Refused::TooDeep);
    }
    match first {
        Some(b'{') => {
            // Fails on a name with half a surrogate pair alone, which no string of ours can hold.
            let Members(members) = serde_json::from_str(text).map_err(|_| Refused::NotAnObject)?;
            let mut names = HashSet::new();
            if !members.iter().all(|(name, _)| names.insert(name)) {
                return Err(Refused::MemberTwice);
            }
            let nodes = members.into_iter().map(|(name, raw)| Ok((name, node(raw.get(), depth + 1)?)));
            nodes.collect::<Result<_, _>>().map(Node::Object)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Refused::NotAnObject)?;
            let nodes = items.into_iter().map(|raw| node(raw.get(), depth + 1));
            nodes.collect::<Result<_, _>>().map(Node::List)
        }
        _ => {
            let mut scalar = String::with_capacity(text.len());
            text.chars().for_each(|letter| push(letter, &mut scalar));
            Ok(Node::Scalar(scalar))
        }
    }
}

/// The members of an object in their order, a name as often as it stands there.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Writes a member's name with its quotes.
fn write_name(name: &str, out: &mut String) {
    out.push('"');
    for letter in name.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            _ => push(letter, out),
        }
    }
    out.push('"');
}

/// Writes a letter of a string: printable ASCII as it is, the rest as RFC 8259 §7 escapes it, in UTF-16.
fn push(letter: char, out: &mut String) {
    if matches!(letter, ' '..='~') {
        out.push(letter);
        return;
    }
    for unit in letter.encode_utf16(&mut [0; 2]) {
        out.push_str("\\u");
        for shift in [12, 8, 4, 0] {
            let digit = u32::from(*unit >> shift & 0xF);
            out.push(char::from_digit(digit, 16).expect("four bits are a hex digit"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn applied(data: &str, patch: &str, bytes_max: usize) -> Result<String, Refused> {
        let data =
            (data != "{}").then(|| HeaderValue::from_str(data).expect("the tests write header values"));
        let after = Patch::parse(patch.as_bytes())?.apply(data.as_ref(), bytes_max)?;
        Ok(after.map_or("{}".to_owned(), |value| value.to_str().expect("data is ASCII").to_owned()))
    }

    fn written(node: &Node) -> String {
        let mut text = String::new();
        node.write(&mut text);
        text
    }

    #[test]
    fn every_case_of_rfc_7396_appendix_a_holds() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let merged = merge(Some(read(target).expect("JSON")), read(patch).expect("JSON"));
            assert_eq!(written(&merged), result, "{target} with {patch}");
            // Data is an object, and so has to be its patch.
            let expected =
                if patch.starts_with('{') { Ok(result.to_owned()) } else { Err(Refused::NotAnObject) };
            if target.starts_with('{') {
                assert_eq!(applied(target, patch, 1000), expected, "{target} with {patch}");
            }
        }
    }

    #[test]
    fn values_come_back_in_the_letters_they_came_in() {
        for (value, kept) in [
            ("9007199254740993", "9007199254740993"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1.0", "1.0"),
            ("1", "1"),
            ("-0", "-0"),
            ("1e400", "1e400"),
            ("0.10", "0.10"),
            ("1E+2", "1E+2"),
            ("true", "true"),
            (r#""""#, r#""""#),
            (r#""\/\u0061\n""#, r#""\/\u0061\n""#),
            (r#""{ \" : [""#, r#""{ \" : [""#),
            ("\"é 中 \u{1F600}\"", r#""\u00e9 \u4e2d \ud83d\ude00""#),
            ("\"\u{7f}\u{80}\u{ffff}\"", r#""\u007f\u0080\uffff""#),
            (r#""\ud800""#, r#""\ud800""#),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            ("[1.0 , null,\t[\"a b\"] , { \"x\" : null } ]", r#"[1.0,null,["a b"],{"x":null}]"#),
            (
                r#"[{"title": "Faust", "pages": 1.50}, {"title": "\u5218", "year": 2008}]"#,
                r#"[{"title":"Faust","pages":1.50},{"title":"\u5218","year":2008}]"#,
            ),
            (r#"{ "b" : 1, "a" : { "é" : [] } }"#, r#"{"b":1,"a":{"\u00e9":[]}}"#),
        ] {
            let got = applied("{}", &format!(" {{ \"v\" : {value} }} "), 1000);
            assert_eq!(got.as_deref(), Ok(format!("{{\"v\":{kept}}}").as_str()), "{value}");
        }
    }

    #[test]
    fn members_keep_their_places_and_new_ones_follow() {
        let data = r#"{"a":1,"b":2,"c":3}"#;
        for (patch, result) in [
            (r#"{"b":9}"#, r#"{"a":1,"b":9,"c":3}"#),
            (r#"{"d":4,"a":null}"#, r#"{"b":2,"c":3,"d":4}"#),
            (r#"{"z":1,"y":2}"#, r#"{"a":1,"b":2,"c":3,"z":1,"y":2}"#),
            (r#"{"\u0061":7}"#, r#"{"a":7,"b":2,"c":3}"#),
            (r#"{"a":null,"b":null,"c":null}"#, "{}"),
            (r#"{"x":null}"#, data),
            ("{}", data),
        ] {
            assert_eq!(applied(data, patch, 1000).as_deref(), Ok(result), "{patch}");
        }
        assert_eq!(applied("{}", r#"{"a\"b\\c\u0001":1}"#, 99).as_deref(), Ok(r#"{"a\"b\\c\u0001":1}"#));
    }

    #[test]
    fn what_is_no_patch_is_refused_by_name() {
        let deep = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let lists = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let abyss = lists(100_000);
        for (patch, refused) in [
            ("", Refused::NotAnObject),
            ("null", Refused::NotAnObject),
            ("[{}]", Refused::NotAnObject),
            ("\"{}\"", Refused::NotAnObject),
            ("{", Refused::NotAnObject),
            ("{}{}", Refused::NotAnObject),
            ("{} ,", Refused::NotAnObject),
            ("{}, {}", Refused::NotAnObject),
            ("{a:1}", Refused::NotAnObject),
            ("{'a':1}", Refused::NotAnObject),
            (r#"{"a":1,}"#, Refused::NotAnObject),
            (r#"{"a":[1,]}"#, Refused::NotAnObject),
            (r#"{"a":NaN}"#, Refused::NotAnObject),
            (r#"{"a":01}"#, Refused::NotAnObject),
            (r#"{"a":+1}"#, Refused::NotAnObject),
            (r#"{"a":1}x"#, Refused::NotAnObject),
            (r#"{"\ud800":1}"#, Refused::NotAnObject),
            ("{\"a\":\"\t\"}", Refused::NotAnObject),
            (r#"{"a":1,"a":2}"#, Refused::MemberTwice),
            (r#"{"a":1,"\u0061":1}"#, Refused::MemberTwice),
            (r#"{"a":{"b":1,"b":1}}"#, Refused::MemberTwice),
            (r#"{"a":[0,{"b":1,"b":1}]}"#, Refused::MemberTwice),
            (&deep(DEPTH_MAX + 1), Refused::TooDeep),
            (&lists(DEPTH_MAX), Refused::TooDeep),
            (&abyss, Refused::TooDeep),
        ] {
            assert_eq!(applied("{}", patch, 1_000_000), Err(refused), "{patch:.40}");
        }
        assert_eq!(Patch::parse(b"{\"a\":\"\xff\"}"), Err(Refused::NotAnObject), "not UTF-8");
        assert!(applied("{}", &deep(DEPTH_MAX), 1000).is_ok());
        assert!(applied("{}", &lists(DEPTH_MAX - 1), 1000).is_ok());
    }

    #[test]
    fn the_bound_is_that_of_the_encoded_result() {
        // {"a":"é"} is 9 letters, and 14 bytes as it is sent.
        assert_eq!(applied("{}", "{\"a\":\"é\"}", 14).as_deref(), Ok(r#"{"a":"\u00e9"}"#));
        assert_eq!(applied("{}", "{\"a\":\"é\"}", 13), Err(Refused::TooLarge));
        assert_eq!(applied(r#"{"a":1,"b":2}"#, r#"{"c":3}"#, 18), Err(Refused::TooLarge));
        assert_eq!(applied(r#"{"a":1,"b":2}"#, r#"{"a":null,"c":3}"#, 13).as_deref(), Ok(r#"{"b":2,"c":3}"#));
        // A bound that was lowered under living data lets it shrink, or stay.
        assert_eq!(applied(r#"{"a":1,"b":22}"#, r#"{"b":2}"#, 5).as_deref(), Ok(r#"{"a":1,"b":2}"#));
        assert_eq!(applied(r#"{"a":1,"b":2}"#, r#"{"b":22}"#, 5), Err(Refused::TooLarge));
        assert_eq!(applied(r#"{"a":1,"b":2}"#, r#"{"a":null,"b":null}"#, 1).as_deref(), Ok("{}"));
    }

    #[test]
    fn what_was_never_data_is_not_patched() {
        for data in ["", "[]", "null", "{\"a\":1", "x"] {
            assert_eq!(applied(data, "{\"b\":1}", 100), Err(Refused::DataUnreadable), "{data}");
        }
    }

    #[test]
    fn thousands_of_members_merge_at_once() {
        let members = |from: usize, value: &str| {
            let list: Vec<String> = (from..from + 5_000).map(|n| format!("\"{n}\":{value}")).collect();
            format!("{{{}}}", list.join(","))
        };
        let data = applied("{}", &members(0, "1"), 1 << 20).expect("it fits");
        let after = applied(&data, &members(2_500, "null"), 1 << 20).expect("it fits");
        assert_eq!(
            serde_json::from_str::<Value>(&after).expect("JSON").as_object().map(serde_json::Map::len),
            Some(2_500)
        );
    }

    /// Any JSON value, with few names so that they meet.
    fn value() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b", "é", "\\u0061b", "\\ud83d\\ude00", ""]);
        let scalar = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            "[^\\x00-\\x1f\"\\\\]{0,6}".prop_map(|text| format!("\"{text}\"")),
        ];
        scalar.prop_recursive(4, 30, 4, move |inner| {
            let members = prop::collection::btree_map(name.clone(), inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
                members.prop_map(|members| {
                    let list: Vec<String> =
                        members.iter().map(|(name, value)| format!("\"{name}\" :{value}")).collect();
                    format!("{{{}}}", list.join(", "))
                }),
            ]
        })
    }

    fn object() -> impl Strategy<Value = String> {
        value().prop_filter("an object", |text| text.starts_with('{'))
    }

    /// RFC 7396 §2 over parsed values, for comparison; numbers are left to the letters' test.
    fn reference(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut merged = if let Value::Object(held) = target { held } else { serde_json::Map::new() };
        for (name, value) in patch {
            if value.is_null() {
                merged.remove(name);
            } else {
                let held = merged.remove(name).unwrap_or(Value::Null);
                merged.insert(name.clone(), reference(held, value));
            }
        }
        Value::Object(merged)
    }

    proptest! {
        #[test]
        fn the_laws_of_merge_patches_hold(before in object(), patch in object()) {
            let before = applied("{}", &before, 1 << 20).expect("well-formed");
            let once = applied(&before, &patch, 1 << 20).expect("well-formed");
            prop_assert!(once.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", once);
            prop_assert_eq!(&applied(&once, &patch, 1 << 20).expect("well-formed"), &once, "twice is once");
            prop_assert_eq!(&applied(&once, "{}", 1 << 20).expect("well-formed"), &once, "nothing changes nothing");
            prop_assert_eq!(&written(&read(&once).expect("JSON")), &once, "what is written is read back");
            let Node::Object(patched) = read(&patch).expect("JSON") else { unreachable!("an object") };
            let Node::Object(after) = read(&once).expect("JSON") else { unreachable!("an object") };
            for (name, value) in patched {
                let held = after.iter().find(|(held, _)| *held == name);
                prop_assert_eq!(held.is_none(), value.is_null(), "null removes, all else sets");
            }
            // A number such as 1e999 is beyond the comparison's reader, not beyond ours.
            let parsed = [&before, &patch, &once].map(|text| serde_json::from_str::<Value>(text));
            if let [Ok(before), Ok(patch), Ok(once)] = parsed {
                prop_assert_eq!(once, reference(before, &patch));
            }
        }

        #[test]
        fn no_bytes_panic_or_become_an_illegal_value(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(patch) = Patch::parse(&bytes) {
                drop(patch.apply(None, 1000));
            }
        }
    }
}
