//! A file of users with their password hashes and claims: YAML of our own, or htpasswd lines.
//!
//! The form is told by the first line that says something: `name:hash` without a space is htpasswd (bcrypt and
//! Argon2id lines). Every problem is reported with its line, all at once; a file with one is refused whole. Each user's
//! [`Identity`] is packed at reading, so that a sign-in clones it and claims that do not fit are found then.
//! [`Users::changed_since`] tells what a newer file means for living sessions.

use crate::auth::hash::{Cost, Hash, PASSWORD_BYTES_MAX};
use crate::domain::identity::{self, ClaimValue, Claims, Identity};
use crate::domain::secret::Secret;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_yaml::{Mapping, Value};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// The longest user name, in a file and in a form.
pub const NAME_BYTES_MAX: usize = 256;
/// The largest file; some fifty thousand users.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One user. Names are compared byte by byte: `Alice` is not `alice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    password: Arc<Hash>,
    identity: Identity,
}

impl User {
    /// The hash that the password must have.
    pub fn password(&self) -> &Arc<Hash> {
        &self.password
    }

    /// Subject, source and claims.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// All users of one file.
#[derive(Clone, Debug, Default)]
pub struct Users {
    by_name: HashMap<Box<str>, User>,
    /// The cost of every user's hash, for stand-ins to be drawn from.
    costs: Vec<Cost>,
}

/// What is wrong in a users file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersProblem {
    /// Counted from one; zero when the whole file is meant.
    pub line: usize,
    /// Culprit, what is wrong, what to write. Never shows a hash or a password.
    pub text: String,
}

impl fmt::Display for UsersProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}: {}", self.text),
        }
    }
}

/// What a newer file means for the sessions of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name space, in header form.
    pub source: String,
    /// The subject, in header form.
    pub subject: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// See [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The user stands no longer in the file: the sessions end.
    Gone,
    /// The hash is another one: the sessions end.
    NewPassword,
    /// Only the claims differ: the sessions go on with these.
    NewClaims(Identity),
}

impl Users {
    /// Reads a file. `source` becomes the source of its subjects.
    ///
    /// # Errors
    ///
    /// Every problem of the file, in the order of its lines.
    pub fn parse(text: &str, source: &str) -> Result<Self, Vec<UsersProblem>> {
        let mut reading = Reading { text, source, users: Self::default(), problems: Vec::new() };
        if text.len() > FILE_BYTES_MAX {
            reading
                .problem(0, "the file is larger than 16 MiB; split it over several ways to sign in".into());
        } else if looks_like_htpasswd(text) {
            reading.htpasswd();
        } else {
            reading.yaml();
        }
        let Reading { mut users, mut problems, .. } = reading;
        if problems.is_empty() {
            users.costs = users.by_name.values().map(|user| user.password.cost()).collect();
            return Ok(users);
        }
        problems.sort_by_key(|problem| problem.line);
        Err(problems)
    }

    /// Looks a user up by exact name.
    pub fn find(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether the file names nobody.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// A hash to compute for a name that is not in the file.
    ///
    /// Its cost is that of some user's hash, always the same one for the same `pick`: by time, unknown names spread
    /// over the costs as known ones do, and asking twice tells no more than asking once.
    pub fn stand_in(&self, pick: u64) -> Hash {
        let at = pick.checked_rem(self.costs.len() as u64).unwrap_or(0);
        Hash::stand_in(self.costs.get(at as usize).copied().unwrap_or(Cost::RECOMMENDED))
    }

    /// What changed from `old` to this file. Users that are new in it are not listed: they have no sessions.
    pub fn changed_since(&self, old: &Self) -> Vec<Change> {
        let change = |(name, old): (&str, &User)| {
            let kind = match self.by_name.get(name) {
                None => ChangeKind::Gone,
                Some(new) if new.password != old.password => ChangeKind::NewPassword,
                Some(new) if new.identity != old.identity => ChangeKind::NewClaims(new.identity.clone()),
                Some(_) => return None,
            };
            let was = old.identity.as_ref();
            Some(Change { source: was.source().into(), subject: was.subject().into(), kind })
        };
        let mut changes: Vec<Change> =
            old.by_name.iter().map(|(name, user)| (&**name, user)).filter_map(change).collect();
        changes.sort_by(|a, b| a.subject.cmp(&b.subject));
        changes
    }
}

/// `name:hash`: a colon with no space behind it, which in YAML separates nothing.
fn looks_like_htpasswd(text: &str) -> bool {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let Some((name, rest)) = line.and_then(|line| line.split_once(':')) else { return false };
    !rest.is_empty() && !rest.starts_with([' ', '\t']) && !name.starts_with(['{', '"', '\'', '?'])
}

struct Reading<'a> {
    text: &'a str,
    source: &'a str,
    users: Users,
    problems: Vec<UsersProblem>,
}

impl Reading<'_> {
    fn problem(&mut self, line: usize, text: String) {
        self.problems.push(UsersProblem { line, text });
    }

    fn htpasswd(&mut self) {
        for (at, line) in self.text.lines().enumerate() {
            let (number, line) = (at + 1, line.trim_end());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, hash)) = line.split_once(':') else {
                self.problem(number, "the line has no `:`; write `NAME:HASH` as `htpasswd -B` does".into());
                continue;
            };
            self.add(name, hash, &Claims::new(), |_| number);
        }
    }

    fn yaml(&mut self) {
        if self.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return;
        }
        let file: File = match serde_yaml::from_str(self.text) {
            Ok(file) => file,
            Err(error) => {
                let line = error.location().map_or(0, |location| location.line());
                self.problem(line, format!("{}; write `NAME:` with `password:` under it", plain(&error)));
                return;
            }
        };
        for (name, entry) in &file.0 {
            let Value::Mapping(entry) = entry else {
                let line = line_of(self.text, &[name]);
                self.problem(line, format!("`{name}` is not a mapping; write `password: HASH` under it"));
                continue;
            };
            let before = self.problems.len();
            let claims = self.entry(name, entry);
            match entry.get("password") {
                Some(Value::String(hash)) => {
                    let text = self.text;
                    // Problems of an entry hide those of its whole: one cause, one line.
                    if self.problems.len() == before {
                        self.add(name, hash, &claims, |key| match key {
                            "" => line_of(text, &[name]),
                            key => line_of(text, &[name, key]),
                        });
                    }
                }
                Some(_) => self.wrong(name, "password", "is not a string; write a hash in quotes"),
                None => self.wrong(
                    name,
                    "",
                    "has no `password`; write `password: HASH`, where HASH is what `vestibule password hash` prints",
                ),
            }
        }
    }

    /// The claims of one entry. Every key that is not understood is a problem.
    fn entry(&mut self, name: &str, entry: &Mapping) -> Claims {
        let mut claims = Claims::new();
        let mut cut = false;
        for (key, value) in entry {
            let key = key.as_str().unwrap_or("(a key that is no string)");
            match (key, value) {
                ("password", _) | ("email" | "groups" | "claims", Value::Null) => {}
                ("email", Value::String(email)) if email.contains('@') => {
                    claims.insert(identity::EMAIL.into(), ClaimValue::Text(email.clone()));
                }
                ("email", _) => self.wrong(name, key, "is no address; write `email: someone@example.com`"),
                ("groups", Value::Sequence(_)) => match claim(value) {
                    Some(list) => drop(claims.insert(identity::GROUPS.into(), list)),
                    None => self.wrong(
                        name,
                        key,
                        "has an item that is no plain value; write `groups: [ops, dev]`",
                    ),
                },
                ("groups", _) => self.wrong(name, key, "is no list; write `groups: [ops, dev]`"),
                ("claims", Value::Mapping(more)) => self.more_claims(name, more, &mut claims),
                ("claims", _) => {
                    self.wrong(name, key, "is no mapping; write `claims: { department: support }`");
                }
                // An Argon2id hash has commas. Its pieces are secret and not shown.
                (key, _) if key.contains(['$', '=']) => cut = true,
                (key, _) => {
                    self.wrong(
                        name,
                        key,
                        "is not known here; write `password`, `email`, `groups` or `claims`",
                    );
                }
            }
        }
        if cut {
            self.wrong(name, "password", "is cut at a comma; inside `{ }` put the hash in single quotes");
        }
        claims
    }

    fn more_claims(&mut self, name: &str, more: &Mapping, claims: &mut Claims) {
        for (key, value) in more {
            let Some(key) = key.as_str() else {
                self.wrong(name, "claims", "has a key that is no string; put it in quotes");
                continue;
            };
            let wrong = match key {
                identity::SUBJECT | identity::SOURCE => {
                    Some("cannot be set; it is given by the sign-in itself")
                }
                identity::EMAIL | identity::GROUPS => {
                    Some("stands beside `claims`, not under it; move it up")
                }
                "" => Some("is an empty name; write one"),
                _ if key.len() > 255 => Some("is longer than 255 bytes; write a shorter name"),
                _ => None,
            };
            let line = line_of(self.text, &[name, "claims", key]);
            match (wrong, claim(value)) {
                (Some(wrong), _) => self.problem(line, format!("`{key}` of `{name}` {wrong}")),
                (None, Some(value)) => drop(claims.insert(key.into(), value)),
                (None, None) if value.is_null() => {}
                (None, None) => self.problem(
                    line,
                    format!("`{key}` of `{name}` is nested; write a string, a number, a truth value or a list of them"),
                ),
            }
        }
    }

    /// A problem with one key of a user, or with the user (`key` is empty).
    fn wrong(&mut self, name: &str, key: &str, what: &str) {
        if key.is_empty() {
            self.problem(line_of(self.text, &[name]), format!("`{name}` {what}"));
        } else {
            self.problem(line_of(self.text, &[name, key]), format!("`{key}` of `{name}` {what}"));
        }
    }

    /// Takes a user in. `line` tells where a key of the entry stands, or the entry (`""`).
    fn add(&mut self, name: &str, hash: &str, claims: &Claims, line: impl Fn(&str) -> usize) {
        if let Some(wrong) = wrong_name(name) {
            return self.problem(line(""), format!("`{}` {wrong}", name.escape_debug()));
        }
        let password = match Hash::parse(hash) {
            Ok(hash) => Arc::new(hash),
            Err(wrong) => return self.problem(line("password"), format!("the password of `{name}` {wrong}")),
        };
        let identity = match Identity::new(name, self.source, claims) {
            Ok(identity) => identity,
            Err(wrong) => {
                return self.problem(line(""), format!("`{name}`: {wrong}; write fewer or shorter claims"));
            }
        };
        if self.users.by_name.insert(name.into(), User { password, identity }).is_some() {
            self.problem(line(""), format!("`{name}` stands here twice; remove one"));
        }
    }
}

fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is no name; write one before the colon")
    } else if name.len() > NAME_BYTES_MAX {
        Some("is longer than 256 bytes; write a shorter name")
    } else if name.chars().any(char::is_control) || name.trim() != name {
        Some("has spaces at its edge or control characters in it, which nobody can type; write it without")
    } else {
        None
    }
}

/// Whether a form's fields can be a user's at all; nothing is looked up or computed for others.
pub fn is_plausible(name: &str, password: &Secret<String>) -> bool {
    let password = password.expose();
    wrong_name(name).is_none() && !password.is_empty() && password.len() <= PASSWORD_BYTES_MAX
}

/// A value that a header can carry.
fn claim(value: &Value) -> Option<ClaimValue> {
    match value {
        Value::String(text) => Some(ClaimValue::Text(text.clone())),
        Value::Number(number) => Some(ClaimValue::Number(number.to_string())),
        Value::Bool(value) => Some(ClaimValue::Bool(*value)),
        Value::Sequence(items) => items.iter().map(item).collect::<Option<_>>().map(ClaimValue::List),
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

fn item(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// `serde_yaml`'s words without its position, which we print ourselves, and without values.
fn plain(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid type") {
        return "the file is not a mapping of user names".into();
    }
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The whole file: entries by name, where `0123: …` is the name as written and a name comes once.
struct File(BTreeMap<String, Value>);

impl<'de> de::Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = File;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of user names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if entries.contains_key(&name) {
                        return Err(de::Error::custom(format_args!("`{name}` stands here twice")));
                    }
                    let entry = map.next_value()?;
                    entries.insert(name, entry);
                }
                Ok(File(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The line of the key at `path`; that of the last key on the way which exists, otherwise.
///
/// `serde_yaml` tells positions only in errors: the text is read again, and the reading fails on purpose at the key.
fn line_of(text: &str, path: &[&str]) -> usize {
    let line = |path| {
        let stopped = Find(path).deserialize(serde_yaml::Deserializer::from_str(text)).err();
        stopped.as_ref().and_then(serde_yaml::Error::location).map(|location| location.line())
    };
    (1..=path.len()).rev().find_map(|len| line(&path[..len])).unwrap_or(0)
}

struct Find<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else { return Ok(()) };
        while let Some(found) = map.next_key_seed(Key { wanted, last: rest.is_empty() })? {
            if found {
                return map.next_value_seed(Find(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Tells whether a key is the wanted one; fails there if it is the last of the path.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.last => Err(E::custom("found")),
            found => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::Claim;
    use proptest::prelude::*;

    const ARGON: &str =
        "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4";
    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6";

    fn users(text: &str) -> Users {
        Users::parse(text, "local").expect("a good file")
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = Users::parse(text, "local").expect_err("a bad file");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_yaml_file_gives_hashes_and_claims() {
        let users = users(&format!(
            "# people\nalice:\n  password: {ARGON}\n  email: alice@example.com\n  groups: [ops, \"a,b\"]\n  \
             claims: {{ department: support, level: 3, admin: false, tags: [x, 1, true], none: null }}\n\
             0123: {{ password: '{BCRYPT}' }}\n"
        ));
        assert_eq!(users.len(), 2);
        let alice = users.find("alice").expect("alice is there").identity().as_ref();
        assert_eq!((alice.subject(), alice.source()), ("alice", "local"));
        for (name, expected) in [
            ("email", Some(Claim::Text("alice@example.com"))),
            ("groups", Some(Claim::List("ops,a%2Cb"))),
            ("department", Some(Claim::Text("support"))),
            ("level", Some(Claim::Text("3"))),
            ("admin", Some(Claim::Text("false"))),
            ("tags", Some(Claim::List("x,1,true"))),
            ("none", None),
            ("password", None),
        ] {
            assert_eq!(alice.claim(name), expected, "{name}");
        }
        assert!(users.find("0123").is_some(), "a name of digits is the name as written");
        assert!(users.find("Alice").is_none() && users.find("83").is_none());
    }

    #[test]
    fn an_htpasswd_file_gives_hashes() {
        let users = users(&format!("# made by htpasswd -B\n\nalice:{BCRYPT}\nbob smith:{ARGON}\r\n"));
        assert_eq!(users.len(), 2);
        for name in ["alice", "bob smith"] {
            let user = users.find(name).expect("in the file");
            assert!(user.password().matches(&Secret::new("pass".into())), "{name}");
            assert_eq!(user.identity().as_ref().source(), "local");
        }
    }

    #[test]
    fn an_empty_file_has_nobody() {
        for text in ["", "\n\n", "# nobody yet\n", "{}"] {
            assert!(users(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn every_problem_of_a_yaml_file_is_named_with_its_line() {
        let found = problems(&format!(
            "alice:\n  password: hunter2\nbob:\n  email: nowhere\n  password: {ARGON}\n  group: [ops]\n\
             carol: {ARGON}\ndave:\n  groups: [ops]\nerin:\n  password: {ARGON}\n  claims:\n    a: 1\n    \
             subject: root\n    groups: [ops]\n    deep: {{ x: 1 }}\n\" frank\": {{ password: '{ARGON}' }}\n"
        ));
        let expected = [
            "line 2: the password of `alice` is no Argon2id or bcrypt hash; write what `vestibule password hash` or `htpasswd -B` prints",
            "line 4: `email` of `bob` is no address; write `email: someone@example.com`",
            "line 6: `group` of `bob` is not known here; write `password`, `email`, `groups` or `claims`",
            "line 7: `carol` is not a mapping; write `password: HASH` under it",
            "line 8: `dave` has no `password`; write `password: HASH`, where HASH is what `vestibule password hash` prints",
            "line 14: `subject` of `erin` cannot be set; it is given by the sign-in itself",
            "line 15: `groups` of `erin` stands beside `claims`, not under it; move it up",
            "line 16: `deep` of `erin` is nested; write a string, a number, a truth value or a list of them",
            "line 17: ` frank` has spaces at its edge or control characters in it, which nobody can type; write it without",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn every_problem_of_an_htpasswd_file_is_named_with_its_line() {
        let found = problems(&format!("alice:{BCRYPT}\nbob:$apr1$x$y\nnothing\n:{BCRYPT}\nalice:{ARGON}\n"));
        let expected = [
            "line 2: the password of `bob` is no Argon2id or bcrypt hash; write what `vestibule password hash` or `htpasswd -B` prints",
            "line 3: the line has no `:`; write `NAME:HASH` as `htpasswd -B` does",
            "line 4: `` is no name; write one before the colon",
            "line 5: `alice` stands here twice; remove one",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_name_given_twice_and_broken_yaml_are_refused() {
        for (text, line) in [
            (
                format!("alice: {{ password: '{ARGON}' }}\nalice: {{ password: '{ARGON}' }}\n"),
                "`alice` stands here twice",
            ),
            (format!("alice:\n  password: {ARGON}\n  password: {ARGON}\n"), "duplicate"),
            ("alice: [\n".into(), "line 2"),
            ("- alice\n".into(), "mapping"),
        ] {
            let found = problems(&text);
            assert!(found.len() == 1 && found[0].contains(line), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn no_problem_shows_a_hash_or_a_password() {
        let cut = &ARGON[..ARGON.len() - 60];
        for text in [
            String::from("alice: { password: hunter2 }"),
            "alice:hunter2".to_owned(),
            format!("alice:{cut}"),
            "hunter2".into(),
            format!("alice: {{ password: {ARGON} }}"),
        ] {
            let found = problems(&text).join("\n");
            assert!(
                !found.contains("hunter2") && !found.contains("c29tZXNhbHRz") && !found.contains("bnmgrs"),
                "{found}"
            );
        }
        let shown = format!("{:?}", users(&format!("alice:{BCRYPT}")));
        assert!(!shown.contains("$2y$"), "{shown}");
    }

    #[test]
    fn a_newer_file_tells_who_is_gone_and_whose_password_or_claims_are_new() {
        let old = users(&format!(
            "gone: {{ password: '{ARGON}' }}\nhashed: {{ password: '{ARGON}' }}\nboth: {{ password: '{ARGON}', groups: [a] }}\n\
             moved: {{ password: '{ARGON}', groups: [a] }}\nsame: {{ password: '{ARGON}', groups: [a, b] }}\n"
        ));
        let new = users(&format!(
            "hashed: {{ password: '{BCRYPT}' }}\nboth: {{ password: '{BCRYPT}', groups: [b] }}\nfresh: {{ password: '{ARGON}' }}\n\
             moved: {{ groups: [b], password: '{ARGON}' }}\nsame: {{ groups: [a, b], password: '{ARGON}' }}\n"
        ));
        let claims = new.find("moved").expect("in the file").identity().clone();
        let change = |subject: &str, kind| Change { source: "local".into(), subject: subject.into(), kind };
        assert_eq!(
            new.changed_since(&old),
            [
                change("both", ChangeKind::NewPassword),
                change("gone", ChangeKind::Gone),
                change("hashed", ChangeKind::NewPassword),
                change("moved", ChangeKind::NewClaims(claims)),
            ]
        );
        assert_eq!(new.changed_since(&new), []);
    }

    #[test]
    fn a_stand_in_has_the_cost_of_somebody_in_the_file() {
        let both = users(&format!("alice:{BCRYPT}\nbob:{ARGON}\n"));
        let costs = [0, 1].map(|pick| both.stand_in(pick).cost());
        assert_ne!(costs[0], costs[1]);
        assert!(costs.contains(&Cost::Bcrypt(4)));
        assert_eq!(both.stand_in(7).cost(), both.stand_in(7).cost());
        assert_eq!(users("").stand_in(7).cost(), Cost::RECOMMENDED);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([a-z:{}\\[\\]\"'$#&*! \\-\n]|password: |alice: ){0,60}") {
            let _ = Users::parse(&text, "local");
        }
    }
}
