//! `tokens.X.claims`: claims that are made of others; and the rules that read scopes and ages.

use super::super::problem::At;
use super::super::raw::{self, Claim, ClaimFrom, OneOrMany};
use super::super::scalar::{Entries, Plain, Span};
use super::Resolver;
use crate::auth::claims::{DEPTH_MAX, MAPPINGS_MAX, Mapping, NAME_BYTES_MAX, NOT_MAPPED, TABLE_MAX, Values};
use crate::domain::identity::{ClaimValue, SCOPE};
use crate::domain::policy::Rule;
use std::collections::BTreeMap;

impl Resolver<'_> {
    pub(super) fn claim_mappings(&mut self, raw: Option<&Entries<Claim>>, at: &At) -> Vec<Mapping> {
        let at = at.key("claims");
        let Some(raw) = raw else { return Vec::new() };
        if raw.0.len() > MAPPINGS_MAX {
            let wrong = "makes more claims than any application reads";
            self.notes.problem(&at, "claims", wrong, format!("write at most {MAPPINGS_MAX}"));
        }
        raw.sound().filter_map(|(name, claim)| self.claim_mapping(name, claim, &at.key(name))).collect()
    }

    fn claim_mapping(&mut self, name: &str, raw: &Claim, at: &At) -> Option<Mapping> {
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
        if !is_name || NOT_MAPPED.contains(&name) {
            let wrong = if is_name { "is not made of other claims" } else { "is not a claim's name" };
            let remedy = "write another name; the claim that names the subject is `jwt.subject` or `introspection.subject`";
            self.notes.problem(at, name, wrong, remedy);
        }
        let written = match raw {
            Claim::From(path) => {
                let (name, from) = (name.to_owned(), self.claim_path(path, at)?);
                return Some(Mapping { name, from, default: None, required: false, values: Values::All });
            }
            Claim::Written(written) => written,
        };
        let from = match written.from.as_ref()? {
            ClaimFrom::Path(path) => self.claim_path(path, &at.key("from"))?,
            ClaimFrom::Names(names) if is_path(names) => names.clone(),
            ClaimFrom::Names(names) => {
                self.no_path(&names.join("."), &at.key("from"));
                return None;
            }
        };
        let required = written.required.unwrap_or(false);
        let default = written.default.as_ref().map(|raw| self.claim_default(raw, required, at));
        let values = self.claim_values(written, at);
        Some(Mapping { name: name.to_owned(), from, default, required, values })
    }

    fn claim_path(&mut self, text: &str, at: &At) -> Option<Vec<String>> {
        let names = split_path(text);
        if names.is_none() {
            self.no_path(text, at);
        }
        names
    }

    fn no_path(&mut self, text: &str, at: &At) {
        let remedy =
            format!("write names with dots between, such as `realm_access.roles`, at most {DEPTH_MAX}");
        self.notes.problem(at, text, "is no path to a claim", remedy);
    }

    fn claim_default(&mut self, raw: &OneOrMany<Plain>, required: bool, at: &At) -> ClaimValue {
        let at = at.key("default");
        let values: Vec<String> = raw.iter().map(|(_, Plain(text))| text.clone()).collect();
        if required {
            let wrong = "stands beside `required`, and a claim with a default never lacks";
            self.notes.problem(&at, "default", wrong, "keep one of them");
        }
        if values.is_empty() || values.iter().any(String::is_empty) {
            self.notes.problem(
                &at,
                "default",
                "is empty, which is no claim",
                "write a value, or leave it out",
            );
        }
        match raw {
            OneOrMany::One(Plain(text)) => ClaimValue::Text(text.clone()),
            OneOrMany::Many(_) => ClaimValue::List(values),
        }
    }

    fn claim_values(&mut self, written: &raw::ClaimWritten, at: &At) -> Values {
        let strip = written.strip.unwrap_or(false);
        if strip && written.prefix.is_none() {
            let remedy = "write `prefix: wiki-` beside it, or leave it out";
            self.notes.problem(&at.key("strip"), "strip", "has no `prefix` to take off", remedy);
        }
        match (&written.prefix, &written.table) {
            (Some(_), Some(_)) => {
                let wrong = "stands beside `prefix`, and it is not said which comes first";
                self.notes.problem(&at.key("table"), "table", wrong, "keep one of them");
                Values::All
            }
            (Some(prefix), None) => {
                if prefix.is_empty() {
                    let wrong = "is empty, which every value begins with";
                    self.notes.problem(
                        &at.key("prefix"),
                        "",
                        wrong,
                        "write what stands at the front, or leave it out",
                    );
                }
                Values::Prefix { prefix: prefix.clone(), strip }
            }
            (None, Some(table)) => Values::Table(self.claim_table(table, &at.key("table"))),
            (None, None) => Values::All,
        }
    }

    fn claim_table(&mut self, raw: &Entries<OneOrMany<Plain>>, at: &At) -> BTreeMap<String, Vec<String>> {
        if raw.0.is_empty() || raw.0.len() > TABLE_MAX {
            let wrong = if raw.0.is_empty() { "is empty: no value would count" } else { "is too long" };
            let remedy = format!("write `{{ VALUE: OTHER }}`, at most {TABLE_MAX} of them");
            self.notes.problem(at, "table", wrong, remedy);
        }
        let mut table = BTreeMap::new();
        for (value, others) in raw.sound() {
            let others: Vec<String> = others.iter().map(|(_, Plain(text))| text.clone()).collect();
            if others.is_empty() || others.iter().any(String::is_empty) {
                let remedy =
                    "write what it counts as, or leave the line out: what does not stand here does not count";
                self.notes.problem(&at.key(value), value, "counts as nothing", remedy);
            }
            table.insert(value.to_owned(), others);
        }
        table
    }

    /// The scopes of a rule; they stand in challenges, and so must be such as RFC 6749 §3.3 allows.
    pub(super) fn scope_rule(&mut self, raw: &OneOrMany<Plain>, at: &At) -> Rule {
        for (index, Plain(text)) in raw.iter().filter(|(_, value)| !value.0.is_empty()) {
            let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
            if !text.bytes().all(allowed) {
                let at = index.map_or(at.clone(), |index| at.item(index));
                let remedy = "write one scope, without spaces and quotes; several as a list";
                self.notes.problem(&at, text, "is not a scope", remedy);
            }
        }
        self.claim(SCOPE, raw, at)
    }

    pub(super) fn auth_age_rule(&mut self, raw: &Span, at: &At) -> Rule {
        if raw.length.as_secs() == 0 {
            let remedy = "write `15m`, for example";
            self.notes.problem(at, &raw.text, "is shorter than any sign-in takes", remedy);
        }
        Rule::AuthAge(raw.length)
    }

    /// An age that nobody knows would pass under `not`.
    pub(super) fn no_age_under_not(&mut self, rule: &Rule, at: &At) {
        if rule.auth_age().is_some() {
            let wrong = "stands under `not`, where somebody of whom nobody knows it would pass";
            self.notes.problem(at, "auth_age", wrong, "write what must hold, without `not`");
        }
    }
}

/// The names of a path with dots between.
fn split_path(path: &str) -> Option<Vec<String>> {
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    is_path(&names).then_some(names)
}

fn is_path(names: &[String]) -> bool {
    let is_name = |name: &String| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    (1..=DEPTH_MAX).contains(&names.len()) && names.iter().all(is_name)
}
