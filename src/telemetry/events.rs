//! What the operator should know: warnings and errors of the process, through `tracing`.
//!
//! Kept are our own events from `info` up and those of other crates from `warn` up. There is no way to ask for more:
//! pingora's `debug!` lines hold whole request heads, cookies and tokens among them.
//!
//! **pingora's texts are not kept either**, with few exceptions. Its warnings and errors quote what a client sent:
//! header values, the target with its query, the bytes of a head that it could not parse. Such an event appears as
//! its level, its module and its line of source, which is enough to look it up; what happened to the exchange
//! stands in the access line. The exceptions are the modules of [`PLAIN_MODULES`], which work before or beside any
//! request: accepting, starting, stopping. A module that is not listed is withheld, so that a new version's new
//! messages are too. The same holds for `h2`, whose messages show frames. One line of pingora's is not kept at all ([`HARMLESS`]).

use super::line::Line;
use super::{Format, Logs};
use crate::domain::time::{Clock, Timestamp};
use std::fmt;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Crates whose messages may quote a request.
const QUOTING_CRATES: [&str; 2] = ["pingora", "h2"];

/// Their modules whose messages cannot: they see no request.
const PLAIN_MODULES: [&str; 5] = [
    "pingora_core::listeners",
    "pingora_core::server",
    "pingora_core::services",
    "pingora_core::protocols::l4",
    "pingora_runtime",
];

/// It tells what peers did wrong in a handshake, a line for each. Those are counted, and told now and then by us.
const SILENT_CRATE: &str = "rustls";

/// What pingora says as an error where a kept connection to a server is asked for in the instant in which another thread puts it
/// by: it opens another one, and nobody notices.
const HARMLESS: (&str, &str) = ("pingora_core::connectors", "failed to acquire reusable stream");

/// Sends the events of this process, and what other crates write through `log`, to `logs`.
///
/// # Errors
///
/// Something else was installed before.
pub fn install(logs: &Arc<Logs>, clock: Arc<dyn Clock>) -> Result<(), TryInitError> {
    Registry::default().with(EventLayer::new(Arc::clone(logs), clock)).try_init()
}

/// The last stop of an event.
pub struct EventLayer {
    logs: Arc<Logs>,
    clock: Arc<dyn Clock>,
}

impl EventLayer {
    /// Writes events to `logs`, with instants of `clock`.
    pub fn new(logs: Arc<Logs>, clock: Arc<dyn Clock>) -> Self {
        Self { logs, clock }
    }
}

impl<S: Subscriber> Layer<S> for EventLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = in_crate(metadata.target(), "vestibule");
        *metadata.level() <= if ours { Level::INFO } else { Level::WARN }
            && !in_crate(metadata.target(), SILENT_CRATE)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields { target: metadata.target().to_owned(), ..Fields::default() };
        event.record(&mut fields);
        if (fields.target.as_str(), fields.message.as_str()) == HARMLESS {
            return;
        }
        fields.line = fields.line.or(metadata.line().map(u64::from));
        let at = self.clock.wall();
        self.logs.event(|out, format| fields.write(out, format, at, *metadata.level()));
    }
}

/// An event taken apart. Events are rare: this may allocate.
#[derive(Default)]
struct Fields {
    target: String,
    line: Option<u64>,
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn write(&self, out: &mut Vec<u8>, format: Format, at: Timestamp, level: Level) {
        let mut line = Line::start(out, format, at);
        if line.is_human() {
            line.word(level.as_str(), 8);
        } else {
            line.text("level", level.as_str(), 8);
        }
        if is_withheld(&self.target) {
            line.text("message", "text withheld: it may quote a request", 64);
            line.text("target", &self.target, 128);
            if let Some(number) = self.line {
                line.number("line", number);
            }
        } else {
            if line.is_human() {
                line.word(&self.message, 4096);
            } else {
                line.text("message", &self.message, 4096);
            }
            line.text("target", &self.target, 128);
            for (name, value) in &self.others {
                line.text(name, value, 1024);
            }
        }
        line.end();
    }

    fn note(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // What `log` records carry instead of metadata of their own.
            "log.target" => self.target = value,
            "log.module_path" | "log.file" => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = Some(value);
        } else {
            self.note(field, value.to_string());
        }
    }
}

fn is_withheld(target: &str) -> bool {
    QUOTING_CRATES.iter().any(|name| target.starts_with(name))
        && !PLAIN_MODULES.iter().any(|module| in_crate(target, module))
}

/// Whether a target is `module` or lies below it.
fn in_crate(target: &str, module: &str) -> bool {
    target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LogSettings, LogsSettings, Metrics, Sink};
    use std::time::Duration;

    struct Noon;

    impl Clock for Noon {
        fn ticks(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }

        fn now(&self) -> Timestamp {
            Timestamp::from_secs(1_795_348_800)
        }

        fn wall(&self) -> Timestamp {
            self.now()
        }
    }

    /// What the events log holds after `act`.
    fn written(name: &str, act: impl FnOnce()) -> String {
        let path = std::env::temp_dir().join(format!("vestibule-events-{}-{name}", std::process::id()));
        let off = LogSettings { format: None, to: Sink::Off };
        let events = LogSettings { format: Some(Format::Json), to: Sink::File(path.clone()) };
        let settings = LogsSettings { access: off.clone(), audit: off, events };
        let logs =
            Arc::new(Logs::start(&settings, &Metrics::new()).expect("the temporary folder is writable"));
        let layer = EventLayer::new(Arc::clone(&logs), Arc::new(Noon));
        tracing::subscriber::with_default(Registry::default().with(layer), act);
        assert!(logs.flush(Duration::from_secs(10)));
        let text = std::fs::read_to_string(&path).expect("the log is there");
        std::fs::remove_file(path).expect("the log is ours");
        text
    }

    #[test]
    fn an_event_is_its_message_and_its_fields() {
        let text = written("fields", || {
            tracing::info!(target: "vestibule::app", reason = "no_session", count = 3, "turned away from `{}`", "wiki");
        });
        assert_eq!(
            text,
            "{\"at\":\"2026-11-22T12:00:00.000Z\",\"level\":\"INFO\",\"message\":\"turned away from `wiki`\",\
             \"target\":\"vestibule::app\",\"reason\":\"no_session\",\"count\":\"3\"}\n"
        );
    }

    #[test]
    fn what_other_crates_say_below_warn_is_not_kept() {
        let text = written("levels", || {
            tracing::info!(target: "pingora_core::server", "starting");
            tracing::debug!(target: "vestibule::app", "detail");
            tracing::info!(target: "vestibule_plugin", "not ours");
        });
        assert_eq!(text, "");
    }

    #[test]
    fn no_text_of_pingora_that_may_quote_a_request_is_kept() {
        let secret = "GET /callback?code=s3cr3t, Cookie: __Host-session=s3cr3t";
        let text = written("withheld", || {
            tracing::error!(target: "pingora_proxy::proxy_h1", "Fail to proxy: {secret}");
            tracing::error!(target: "pingora_core::apps::http_app", summary = secret, "fails");
            tracing::warn!(target: "pingora_a_crate_to_come", "{secret}");
            tracing::warn!(target: "h2::codec", "{secret}");
            // As the bridge from `log` hands a record over.
            tracing::warn!(
                target: "log",
                { "log.target" = "pingora_core::protocols::http", "log.line" = 7u64 },
                "{secret}"
            );
        });
        assert!(!text.contains("s3cr3t"), "{text}");
        assert_eq!(text.matches("text withheld").count(), 5, "{text}");
        assert!(text.contains("\"target\":\"pingora_core::protocols::http\",\"line\":7"), "{text}");
    }

    #[test]
    fn what_harms_nobody_is_not_said() {
        let text = written("harmless", || {
            tracing::error!(
                target: "log",
                { "log.target" = HARMLESS.0, "log.line" = 293u64 },
                "failed to acquire reusable stream"
            );
        });
        assert_eq!(text, "");
    }

    #[test]
    fn pingora_may_say_that_it_cannot_accept() {
        let text = written("plain", || {
            tracing::error!(target: "pingora_core::services::listening", "Accept() failed: too many open files");
        });
        assert!(text.contains("too many open files"), "{text}");
    }
}
