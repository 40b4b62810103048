//! What is wrong with a file: where, what, and what to write instead.
//!
//! Problems are gathered, never thrown one by one: an operator mends a file in one round. A line is found last,
//! by walking the text along the path ([`super::position`]), because the parser keeps none.

use std::fmt;
use std::path::{Path, PathBuf};

/// More than this many problems help nobody; the rest is counted.
const SHOWN_MAX: usize = 100;

/// More than this many are not even gathered: telling them apart costs a comparison with each one before.
const GATHERED_MAX: usize = 1_000;

/// A culprit longer than this is cut, in characters.
const CULPRIT_CHARS_MAX: usize = 80;

/// One step from the file's root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping, by name.
    Key(String),
    /// The same, at the second place where the name stands.
    Again(String),
    /// Into a list.
    Item(usize),
}

/// The way from the file's root to a value: `upstreams.wiki.servers[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct At(Vec<Step>);

impl At {
    /// The root.
    pub(super) const fn root() -> Self {
        Self(Vec::new())
    }

    /// One step into a mapping.
    pub(super) fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    /// One step into a list.
    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    /// One more step.
    pub(super) fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The steps in order.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `other` is this place or lies below it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the file");
        }
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Key(name) | Step::Again(name) => {
                    let dot = if depth == 0 { "" } else { "." };
                    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                    if !name.is_empty() && name.chars().all(plain) && name.len() <= CULPRIT_CHARS_MAX {
                        write!(f, "{dot}{name}")?;
                    } else {
                        write!(f, "{dot}\"{}\"", shown(name))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A text from the file made safe to print: control characters escaped, long ones cut.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == CULPRIT_CHARS_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() || c == '`' { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// One thing that is wrong, or for a warning: unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) at: At,
    line: Option<usize>,
    culprit: Option<String>,
    wrong: String,
    remedy: String,
}

impl Problem {
    /// A problem at a place in the file; the line follows.
    pub(super) fn new(
        at: &At,
        culprit: Option<&str>,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        // An empty text is named by its key.
        let culprit = culprit.map(|culprit| match at.0.last() {
            Some(Step::Key(name)) if culprit.is_empty() => shown(name),
            _ => shown(culprit),
        });
        Self { at: at.clone(), line: None, culprit, wrong: wrong.into(), remedy: remedy.into() }
    }

    /// Where in the file: `upstreams.wiki.servers[0]`.
    pub fn path(&self) -> String {
        self.at.to_string()
    }

    /// The line in the file, counted from 1; absent where the file could not be read.
    pub const fn line(&self) -> Option<usize> {
        self.line
    }

    /// What is wrong and what to write, without the place.
    pub fn text(&self) -> String {
        let culprit = self.culprit.as_ref().map_or(String::new(), |culprit| format!("`{culprit}` "));
        format!("{culprit}{}; {}", self.wrong, self.remedy)
    }

    pub(super) fn set_line(&mut self, line: Option<usize>) {
        self.line = line;
    }
}

/// ``path (line N): `culprit` what is wrong; what to write``
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}", self.text())
    }
}

/// Something that works and is unwise or unused; the file is in force all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub(super) Problem);

impl Warning {
    /// The same parts as a problem has.
    pub const fn as_problem(&self) -> &Problem {
        &self.0
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that keeps a file from being in force, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &Path, list: Vec<Problem>) -> Self {
        Self { file: file.to_owned(), list }
    }

    /// A problem that shows only when the parts are built (a port in use, a user file with a bad line), in the same form.
    ///
    /// `keys` is the way to the setting: `["sign_in", "local", "password", "users"]`.
    pub fn at(file: &Path, keys: &[&str], culprit: &str, wrong: &str, remedy: &str) -> Self {
        let at = keys.iter().fold(At::root(), |at, key| at.key(key));
        Self::new(file, vec![Problem::new(&at, Some(culprit), wrong, remedy)])
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// The block that `check` prints: file and count, then a line each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy();
        let plural = if self.list.len() == 1 { "" } else { "s" };
        write!(f, "{name}: {} problem{plural}", self.list.len())?;
        for problem in self.list.iter().take(SHOWN_MAX) {
            write!(f, "\n  {problem}")?;
        }
        if self.list.len() > SHOWN_MAX {
            write!(f, "\n  … and {} more", self.list.len() - SHOWN_MAX)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Gathers problems and warnings while a file is checked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Notes {
    /// Notes a problem, unless its place was already found wrong in shape: one mistake, one message.
    pub(super) fn problem(
        &mut self,
        at: &At,
        culprit: &str,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !self.spoilt(at) {
            self.push(Problem::new(at, Some(culprit), wrong, remedy));
        }
    }

    /// Notes a problem as it is.
    pub(super) fn push(&mut self, problem: Problem) {
        if self.problems.len() < GATHERED_MAX {
            self.problems.push(problem);
        }
    }

    /// Notes what another part says of its own: `what is wrong; what to write`, culprit included.
    pub(super) fn said(&mut self, at: &At, text: &str) {
        if !self.spoilt(at) {
            self.said_again(at, text);
        }
    }

    /// The same for one of several problems at one place.
    pub(super) fn said_again(&mut self, at: &At, text: &str) {
        let (wrong, remedy) = text.split_once("; ").unwrap_or((text, "mend it"));
        self.push(Problem::new(at, None, wrong, remedy));
    }

    /// Notes that `name` is missing below `at`, unless it stands there and is wrong.
    pub(super) fn missing(&mut self, at: &At, name: &str, wrong: &str, remedy: impl Into<String>) {
        if !self.spoilt(&at.key(name)) {
            self.push(Problem::new(at, Some(name), wrong, remedy));
        }
    }

    /// Notes a warning.
    pub(super) fn warn(
        &mut self,
        at: &At,
        culprit: &str,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.warnings.len() < GATHERED_MAX {
            self.warnings.push(Problem::new(at, Some(culprit), wrong, remedy));
        }
    }

    /// Whether something at or below this place is already known to be wrong.
    pub(super) fn spoilt(&self, at: &At) -> bool {
        self.problems.iter().any(|problem| at.covers(&problem.at))
    }

    /// Finds the lines in the text, and sorts by them. Work is bounded: what is not shown gets no line.
    pub(super) fn locate(&mut self, text: &str) {
        for list in [&mut self.problems, &mut self.warnings] {
            for problem in list.iter_mut().filter(|problem| problem.line.is_none()).take(SHOWN_MAX) {
                problem.line = super::position::line_of(text, &problem.at);
            }
            list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_prints_on_one_line_whatever_the_culprit_holds() {
        let at = At::root().key("routes").item(3).key("a b\n");
        let mut problem = Problem::new(&at, Some("x\r\n`y`"), "is wrong", "write z");
        problem.set_line(Some(7));
        assert_eq!(
            problem.to_string(),
            "routes[3].\"a b\\u{a}\" (line 7): `x\\u{d}\\u{a}\\u{60}y\\u{60}` is wrong; write z"
        );
        let long = Problem::new(&At::root(), Some(&"x".repeat(1000)), "is long", "cut it");
        assert!(long.to_string().len() < 200);
    }

    #[test]
    fn one_mistake_gives_one_message() {
        let mut notes = Notes::default();
        let at = At::root().key("sessions").key("idle_timeout");
        notes.problem(&at, "x", "is no duration", "write `30m`");
        notes.problem(&at, "x", "outlasts something", "write less");
        notes.missing(&At::root().key("sessions"), "idle_timeout", "is missing", "write it");
        assert_eq!(notes.problems.len(), 1);
        notes.problem(&at.key("elsewhere"), "y", "is wrong too", "mend it");
        assert_eq!(notes.problems.len(), 2);
    }

    #[test]
    fn endless_problems_are_counted_not_printed() {
        let problem = Problem::new(&At::root(), None, "is wrong", "mend it");
        let text = Problems::new(Path::new("/etc/v.yaml"), vec![problem; 250]).to_string();
        assert!(text.starts_with("v.yaml: 250 problems\n"), "{text}");
        assert!(text.ends_with("… and 150 more"), "{text}");
    }
}
