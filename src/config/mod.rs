//! The YAML file → the settings of the floors below, or a list of problems.
//!
//! A file goes through four steps, and every one but the first gathers all problems that it finds: text → tree
//! ([`node`]), tree → its sound part ([`shape`], against the schema), sound part → settings ([`resolve`]), and last the
//! problems get their lines ([`position`]). Settings come out only where no step found a problem.

mod frequency;
mod node;
mod position;
mod print;
mod problem;
mod raw;
mod raw_routes;
mod resolve;
mod scalar;
mod schema;
mod shape;
mod suggest;

pub use problem::{Problem, Problems, Warning};
pub use schema::schema;

use crate::admin::{AdminSettings, ProbeSettings};
use crate::auth::assertion::AssertionSettings;
use crate::auth::terms::TokenTerms;
use crate::auth::{JwtSettings, SignInSettings};
use crate::domain::secret::Secret;
use crate::domain::session::Clocks;
use crate::domain::time::Timestamp;
use crate::proxy::settings::{
    CookieSettings, External, ForwardAuthSettings, ListenerSettings, RouteSettings, SessionRules,
    UpstreamSettings,
};
use crate::store::table::Limits;
use crate::telemetry::LogsSettings;
use http::HeaderName;
use ipnet::IpNet;
use problem::{At, Notes};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file of a thousand routes has some 200 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and checks the file at `path`. `env` gives environment variables.
///
/// Reads the files that it names too (keys, tokens, users), so that a configuration that loads can be put in force.
/// Writes nothing and opens no socket.
///
/// # Errors
///
/// Every problem that was found, in the order of the lines; never an empty list.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<(Config, Vec<Warning>), Problems> {
    load_at(path, env, None)
}

/// The same at an instant of the wall clock, by which certificates that have expired, or soon will, are warned of.
pub fn load_at(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    now: Option<Timestamp>,
) -> Result<(Config, Vec<Warning>), Problems> {
    let text = read(path).map_err(|problem| Problems::new(path, vec![problem]))?;
    load_text(&text, path, env, now)
}

/// The text of the file at `path` with every default filled in: a sound file of the same meaning, without any secret.
///
/// # Errors
///
/// Those of [`load`]: only what is sound has a meaning to print.
pub fn filled_in(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problems> {
    let text = read(path).map_err(|problem| Problems::new(path, vec![problem]))?;
    let (config, _) = load_text(&text, path, env, None)?;
    print::filled_in(&text, &config).map_err(|problem| Problems::new(path, vec![problem]))
}

fn load_text(
    text: &str,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    now: Option<Timestamp>,
) -> Result<(Config, Vec<Warning>), Problems> {
    let mut notes = Notes::default();
    let config =
        check(text, path, env, &mut notes, now).map_err(|problem| Problems::new(path, vec![problem]))?;
    notes.locate(text);
    if notes.problems.is_empty() {
        Ok((config, notes.warnings.into_iter().map(Warning).collect()))
    } else {
        Err(Problems::new(path, notes.problems))
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let problem = |wrong: String, remedy: &str| Problem::new(&At::root(), None, wrong, remedy);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(
        |error| {
            let wrong = format!("cannot be read ({})", resolve::reason(&error));
            problem(wrong, "name a file that is there with `-c FILE`")
        },
    )?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(problem("is longer than 1 MiB".to_owned(), "name the right file with `-c FILE`"));
    }
    String::from_utf8(bytes).map_err(|_| problem("is not UTF-8".to_owned(), "save it as UTF-8"))
}

/// The steps of the reading; what is wrong is in `notes`. Only what is no YAML ends it early.
fn check(
    text: &str,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    notes: &mut Notes,
    now: Option<Timestamp>,
) -> Result<Config, Problem> {
    let mut tree = node::parse(text)?;
    node::expand(&mut tree, &At::root(), env, notes);
    let sound = shape::check(&tree, &schema(), notes);
    let raw: raw::File = match serde_yaml::from_value(sound) {
        Ok(raw) => raw,
        Err(error) => {
            // The schema took what the types do not: a gap in ours, still told to the operator.
            if notes.problems.is_empty() {
                notes.push(Problem::new(
                    &At::root(),
                    None,
                    format!("cannot be read ({error})"),
                    "mend that value",
                ));
            }
            raw::File::default()
        }
    };
    Ok(resolve::Resolver::new(&raw, path, env, notes, now).resolve())
}

/// A checked configuration: every name resolved, every secret read.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Public listeners.
    pub listeners: Vec<ListenerSettings>,
    /// The operator's door.
    pub admin: Option<AdminSettings>,
    /// Probes for everybody.
    pub probes: Option<ProbeSettings>,
    /// The one host and scheme of `external_url`, canonical host first.
    pub external_url: Option<(String, External)>,
    /// Whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Newest first; 32 bytes each. Empty only where no route takes sessions.
    pub keys: Vec<Secret<[u8; 32]>>,
    /// Sessions.
    pub sessions: SessionsSettings,
    /// Ways to open one.
    pub sign_in: Vec<SignInSettings>,
    /// Bearer tokens that are believed.
    pub tokens: Vec<JwtSettings>,
    /// What is asked of them then.
    pub token_terms: Vec<TokenTerms>,
    /// Every name that is an identity header anywhere, and those of `identity.remove`.
    pub guarded_headers: Vec<HeaderName>,
    /// The signed statement about who asks.
    pub assertion: Option<AssertionSettings>,
    /// The other proxy for which the gateway answers.
    pub forward_auth: Option<ForwardAuthSettings>,
    /// Applications.
    pub upstreams: Vec<UpstreamSettings>,
    /// Routes in file order.
    pub routes: Vec<RouteSettings>,
    /// Logs.
    pub logs: LogsSettings,
    /// A folder with templates that replace built-in pages.
    pub pages: Option<PathBuf>,
    /// How long running exchanges may go on after SIGTERM.
    pub drain: Duration,
    /// How long connections are still accepted after SIGTERM.
    pub drain_delay: Duration,
    /// Where a process that is to take over finds this one; absent: none may.
    pub upgrade: Option<PathBuf>,
    /// Every file that was read, to watch for changes.
    pub files: Vec<PathBuf>,
}

/// `sessions` of the file.
#[derive(Clone, Debug)]
pub struct SessionsSettings {
    /// The cookie.
    pub cookie: CookieSettings,
    /// Their deadlines, by kind.
    pub clocks: Clocks,
    /// How many may live at once.
    pub limits: Limits,
    /// What exchanges must know.
    pub rules: SessionRules,
    /// Where they live.
    pub store: StoreSettings,
}

/// Where sessions live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// In the process alone.
    Memory,
    /// In this file too; an absolute path.
    Sqlite(PathBuf),
}
