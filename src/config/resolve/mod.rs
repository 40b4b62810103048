//! Raw → typed: what the words mean, every problem of meaning in one pass.
//!
//! Each part of the file has a file here that turns it into the settings of the floor that obeys them. A part that is
//! broken is left out and the pass goes on; names of broken entries still count as known, so that one mistake gives
//! one message. What only the whole can tell (who needs keys, which route hides another) comes last.

mod access;
mod assertion;
mod changes;
mod claims;
mod cookie;
mod edges;
mod forward_auth;
mod identity;
mod issuers;
mod limits;
mod routes;
mod secrets;
mod sessions;
mod tls;
mod token_terms;
mod upgrade;
mod upstream_care;
mod upstream_ways;
mod upstreams;
mod ways;

use super::problem::{At, Notes};
use super::raw::{self, File};
use super::scalar::{Entries, Span};
use super::{Config, StoreSettings};
use crate::domain::time::Timestamp;
use crate::telemetry::{Format, LogSettings, LogsSettings, Sink};
use changes::Reserved;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Long enough for a page or a download of some size, short enough for those who wait for the restart.
const DRAIN: Duration = Duration::from_secs(30);

/// What everything is resolved with.
pub(super) struct Resolver<'a> {
    raw: &'a File,
    file: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
    notes: &'a mut Notes,
    /// To judge certificates by; without, none is.
    now: Option<Timestamp>,
    /// Every file that was read.
    files: Vec<PathBuf>,
    /// Names that something refers to, by section.
    used: BTreeSet<(&'static str, String)>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        raw: &'a File,
        file: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
        notes: &'a mut Notes,
        now: Option<Timestamp>,
    ) -> Self {
        Self { raw, file, env, notes, now, files: vec![file.to_owned()], used: BTreeSet::new() }
    }

    /// The settings; they count only if no problem was noted.
    pub(super) fn resolve(mut self) -> Config {
        let external_url = self.external_url();
        let listeners = self.listeners(external_url.as_ref());
        let admin = self.admin(&listeners);
        let probes = self.probes(&listeners);
        let trusted_proxies = self.trusted_proxies();
        let forward_auth = self.forward_auth();
        let headers = self.identity();
        let assertion = self.assertion();
        let upstreams = self.upstreams(&headers, &listeners);
        let sign_in = self.sign_in();
        let tokens = self.tokens();
        let token_terms = self.token_terms(&tokens);
        let policies = self.policies(&sign_in, &tokens);
        let guarded_headers = self.guarded_headers(&headers, &upstreams, assertion.as_ref());
        let reserved = Reserved::new(&guarded_headers);
        let routes = self.routes(&policies, &sign_in, &tokens, &upstreams, external_url.as_ref(), &reserved);
        let token_terms = self.exchanges_lead_somewhere(token_terms);
        self.upstream_ways_lead_somewhere(&sign_in, &routes, &upstreams);
        self.hosts_have_certificates(&listeners, &routes);
        let sessions = self.sessions(&listeners, &sign_in, &routes);
        let with_sessions = routes.iter().any(|route| self.takes_sessions(route));
        let keys = self.keys(match sessions.store {
            _ if with_sessions => Some("a route takes sessions"),
            StoreSettings::Sqlite(_) => Some("sessions.store is sealed with them"),
            StoreSettings::Memory => None,
        });
        if with_sessions {
            self.plain_http_stays_at_home(&listeners, external_url.as_ref());
        }
        let logs = self.logs();
        let pages = self.pages();
        let drain = self.raw.drain.as_ref().map_or(DRAIN, |drain| drain.length);
        let drain_delay = self.raw.drain_delay.as_ref().map_or(Duration::ZERO, |delay| delay.length);
        let upgrade = self.upgrade(admin.as_ref().map(|admin| &admin.address));
        self.warn_of_unused();
        Config {
            file: self.file.to_owned(),
            listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
            admin,
            probes,
            external_url,
            trusted_proxies,
            keys,
            sessions,
            sign_in,
            tokens,
            token_terms,
            guarded_headers,
            assertion,
            forward_auth,
            upstreams,
            routes,
            logs,
            pages,
            drain,
            drain_delay,
            upgrade,
            files: self.files,
        }
    }

    /// A span that must not be zero.
    fn positive(&mut self, span: Option<&Span>, default: Duration, at: &At) -> Duration {
        let Some(span) = span else { return default };
        if span.length.is_zero() {
            let remedy = format!("write a longer time, such as `{}`", Span::default(default).text);
            self.notes.problem(at, &span.text, "leaves no time at all", remedy);
        }
        span.length
    }

    /// A path from the file: relative ones start at the file's folder.
    fn place(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// A path as the file would name it.
    fn as_named(&self, place: &Path) -> String {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        place.strip_prefix(folder).unwrap_or(place).display().to_string()
    }

    /// A file that must be there.
    fn existing_file(&mut self, path: &str, at: &At) -> Option<PathBuf> {
        let place = self.place(path);
        let found = std::fs::metadata(&place);
        let (wrong, remedy) = match found {
            Ok(found) if found.is_dir() => ("is a folder".to_owned(), "name a file"),
            Ok(_) => {
                self.files.push(place.clone());
                return Some(place);
            }
            Err(error) => (
                format!("cannot be read ({})", reason(&error)),
                "make the file, or mend the path (relative ones start at this file's folder)",
            ),
        };
        self.notes.problem(at, path, wrong, remedy);
        None
    }

    fn logs(&mut self) -> LogsSettings {
        let root = At::root().key("logs");
        let raw = self.raw.logs.as_ref();
        let access = self.log(raw.and_then(|logs| logs.access.as_ref()), &root.key("access"), Sink::Stdout);
        let audit = self.log(raw.and_then(|logs| logs.audit.as_ref()), &root.key("audit"), Sink::Stdout);
        let events = self.log(raw.and_then(|logs| logs.events.as_ref()), &root.key("events"), Sink::Stderr);
        LogsSettings { access, audit, events }
    }

    fn log(&mut self, raw: Option<&raw::Log>, at: &At, default: Sink) -> LogSettings {
        let format = raw.and_then(|log| log.format).map(|format| match format {
            raw::Format::Json => Format::Json,
            raw::Format::Human => Format::Human,
        });
        let to = match raw.and_then(|log| log.to.as_deref()) {
            None => default,
            Some("stdout") => Sink::Stdout,
            Some("stderr") => Sink::Stderr,
            Some("off") => Sink::Off,
            Some(path) => {
                let place = self.place(path);
                // `vestibule.yaml` alone has an empty parent: the folder in which the command runs.
                let parent = place.parent().map(|parent| if parent == "" { Path::new(".") } else { parent });
                if path.is_empty() || place.is_dir() || !parent.is_some_and(Path::is_dir) {
                    let remedy = "write `stdout`, `stderr`, `off`, or a file in a folder that exists";
                    self.notes.problem(&at.key("to"), path, "is no place for a log", remedy);
                }
                Sink::File(place)
            }
        };
        LogSettings { format, to }
    }

    fn pages(&mut self) -> Option<PathBuf> {
        let path = self.raw.pages.as_ref()?;
        let place = self.place(path);
        if !place.is_dir() {
            let remedy = "make the folder, or leave `pages` out for the built-in pages";
            self.notes.problem(&At::root().key("pages"), path, "is not a folder", remedy);
        }
        Some(place)
    }

    /// Notes that a route or a policy refers to an entry.
    fn use_name(&mut self, section: &'static str, name: &str) {
        self.used.insert((section, name.to_owned()));
    }

    fn warn_of_unused(&mut self) {
        let names = |section: &'static str| -> Vec<String> {
            let raw = self.raw;
            match section {
                "sign_in" => raw.sign_in.iter().flat_map(Entries::names).map(str::to_owned).collect(),
                "tokens" => raw.tokens.iter().flat_map(Entries::names).map(str::to_owned).collect(),
                "policies" => raw.policies.iter().flat_map(Entries::names).map(str::to_owned).collect(),
                _ => raw.upstreams.iter().flat_map(Entries::names).map(str::to_owned).collect(),
            }
        };
        // Where the routes themselves are broken, nobody can say what they would have used.
        if self.notes.spoilt(&At::root().key("routes")) {
            return;
        }
        for section in ["sign_in", "tokens", "policies", "upstreams"] {
            for name in names(section) {
                if !self.used.contains(&(section, name.clone())) {
                    let at = At::root().key(section).key(&name);
                    self.notes.warn(&at, &name, "is used by no route", "remove it, or name it in a route");
                }
            }
        }
    }

    /// Whether a name of the operator's may stand in logs, metrics and URLs.
    fn check_name(&mut self, name: &str, at: &At) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || name.starts_with('_') {
            let remedy = "write up to 64 letters, digits, `-`, `.` and `_`, not beginning with `_`";
            self.notes.problem(at, name, "is not a name", remedy);
        }
    }
}

/// Why the system refused, without its number.
pub(super) fn reason(error: &std::io::Error) -> String {
    let said = error.to_string();
    said.split(" (os error").next().unwrap_or_default().to_lowercase()
}
