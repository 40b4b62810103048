//! Logs and metrics: the lines' formats, the writer behind them, the registry of counters.
//!
//! Three logs: one line per exchange ([`AccessLine`]), one per change that somebody may have to answer for
//! ([`AuditLine`]), and the events of the process (`tracing`, see [`events`]). None of them makes a request wait.

pub mod access;
pub mod audit;
pub mod events;
pub mod issuers;
mod line;
pub mod metrics;
pub mod revocations;
pub mod upstreams;
mod writer;

pub use access::AccessLine;
pub use audit::{AuditEvent, AuditLine};
pub use metrics::Metrics;
pub use writer::OpenError;

use std::path::PathBuf;
use std::time::Duration;
use writer::Writer;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people: instant, what happened, then fields.
    Human,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to a file, opened again on reload.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// One log of `logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Absent: human lines on a terminal, JSON elsewhere.
    pub format: Option<Format>,
    /// Where it goes.
    pub to: Sink,
}

/// The three logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsSettings {
    /// One line per exchange.
    pub access: LogSettings,
    /// What changed: sign-ins, ends, refusals, configuration.
    pub audit: LogSettings,
    /// What the operator should know: warnings and errors of the process.
    pub events: LogSettings,
}

/// The three logs, open. One per process, shared by reference.
pub struct Logs(Writer<3>);

const ACCESS: usize = 0;
const AUDIT: usize = 1;
const EVENTS: usize = 2;

/// Pending bytes of the access log: two thousand lines and more, a twentieth of a second at full load.
const ACCESS_BYTES_MAX: usize = 1024 * 1024;
/// Pending bytes of the audit log: generous, for its lines are few and each matters.
const AUDIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Pending bytes of the events.
const EVENTS_BYTES_MAX: usize = 512 * 1024;

impl Logs {
    /// Opens the logs and starts the writer; lines that get lost are counted in `metrics`.
    pub fn start(settings: &LogsSettings, metrics: &Metrics) -> Result<Self, OpenError> {
        let dropped = |log| metrics.log_lines_dropped.with_label_values(&[log]);
        Ok(Self(Writer::start([
            (&settings.access, ACCESS_BYTES_MAX, dropped("access")),
            (&settings.audit, AUDIT_BYTES_MAX, dropped("audit")),
            (&settings.events, EVENTS_BYTES_MAX, dropped("events")),
        ])?))
    }

    /// Whether access lines are kept; where not, nothing needs to be gathered for them.
    pub fn access_is_on(&self) -> bool {
        self.0.is_on(ACCESS)
    }

    /// Appends an access line: one copy, never a wait.
    pub fn access(&self, line: &AccessLine<'_>) {
        self.0.append(ACCESS, |out, format| line.write(out, format));
    }

    /// Appends an audit line: one copy, never a wait.
    pub fn audit(&self, line: &AuditLine<'_>) {
        self.0.append(AUDIT, |out, format| line.write(out, format));
    }

    fn event(&self, build: impl FnOnce(&mut Vec<u8>, Format)) {
        self.0.append(EVENTS, build);
    }

    /// Opens files anew and takes up changed settings, at a reload. On an error everything stays as it was.
    pub fn reopen(&self, settings: &LogsSettings) -> Result<(), OpenError> {
        self.0.reopen([&settings.access, &settings.audit, &settings.events])
    }

    /// Waits until what was appended so far is written, at most `wait`; tells whether it was.
    pub fn flush(&self, wait: Duration) -> bool {
        self.0.flush(wait)
    }

    /// Writes what is pending and ends the writer, at most `wait`; tells whether all of it was written.
    pub fn stop(&self, wait: Duration) -> bool {
        self.0.stop(wait)
    }
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logs")
    }
}
