//! `sessions`: their clocks, how many there may be, what they hold, where they live.

use super::super::problem::At;
use super::super::raw::{self, Sessions};
use super::super::scalar::Span;
use super::super::{SessionsSettings, StoreSettings};
use super::Resolver;
use super::edges::Placed;
use crate::auth::{SignInKind, SignInSettings};
use crate::domain::session::{Clocks, Lifetimes};
use crate::proxy::settings::{RouteSettings, SessionRules};
use crate::store::table::{Limits, PerSubject, WhenFull};
use std::path::Path;
use std::time::Duration;

const SIGNED_IN: Lifetimes =
    Lifetimes { idle_timeout: Duration::from_mins(30), absolute_lifetime: Duration::from_hours(12) };
const REMEMBERED: Lifetimes = Lifetimes {
    idle_timeout: Duration::from_hours(7 * 24),
    absolute_lifetime: Duration::from_hours(30 * 24),
};
const ANONYMOUS_IDLE_TIMEOUT: Duration = Duration::from_hours(1);
/// Where there are no anonymous sessions, one that lives is over.
const OVER: Lifetimes = Lifetimes { idle_timeout: Duration::ZERO, absolute_lifetime: Duration::ZERO };
/// Browsers cut a cookie's age at 400 days (RFC 6265bis §5.5), and deadlines must not leave the calendar.
const ABSOLUTE_LIFETIME_MAX: Duration = Duration::from_hours(400 * 24);
/// A token's age at its renewal, as a part of the absolute lifetime.
const RENEWALS_PER_LIFE: u32 = 4;
const RENEW_AFTER_MIN: Duration = Duration::from_secs(1);

const CAPACITY: usize = 1_000_000;
const ANONYMOUS_CAPACITY: usize = 100_000;
const PER_SUBJECT: PerSubject = PerSubject { max: 10, when_full: WhenFull::EndLeastRecent };

/// gunicorn and Apache take 8190 bytes a field, name included; some leave less.
const DATA_BYTES: u64 = 6 * 1024;
const DATA_BYTES_WISE: u64 = 7 * 1024;
const DATA_BYTES_MAX: u64 = 32 * 1024;
const DATA_BYTES_MIN: u64 = 64;

/// A span as it is in force, as it was written, and where.
struct Clock<'a> {
    at: At,
    written: Option<&'a Span>,
    length: Duration,
}

impl Clock<'_> {
    fn text(&self) -> String {
        self.written.cloned().unwrap_or_else(|| Span::default(self.length)).text
    }
}

impl Resolver<'_> {
    pub(super) fn sessions(
        &mut self,
        listeners: &[Placed],
        sign_in: &[SignInSettings],
        routes: &[RouteSettings],
    ) -> SessionsSettings {
        let default = Sessions::default();
        let raw = self.raw.sessions.as_ref().unwrap_or(&default);
        let at = At::root().key("sessions");
        let with_cookie: Vec<&RouteSettings> =
            routes.iter().filter(|route| self.takes_sessions(route)).collect();
        let cookie = self.cookie(raw.cookie.as_ref(), &at.key("cookie"), listeners, &with_cookie);
        let clocks = self.clocks(raw, &at);
        let limits = limits(raw);
        let rules = SessionRules {
            remember_me: raw.remember_me.is_some(),
            anonymous: raw.anonymous.is_some(),
            data_max_bytes: self.data_max_bytes(raw, &at),
        };
        let store = self.store(raw.store.as_ref(), &at.key("store"));
        self.remember_me_makes_sense(raw, sign_in, &clocks, &at);
        self.data_finds_a_session(raw, routes, &at);
        SessionsSettings { cookie, clocks, limits, rules, store }
    }

    /// Whether a visitor of the route may get a session: by signing in, or with the data that is kept for one.
    pub(super) fn takes_sessions(&self, route: &RouteSettings) -> bool {
        let anonymous = self.raw.sessions.as_ref().is_some_and(|sessions| sessions.anonymous.is_some());
        !route.sign_in.is_empty() || (anonymous && route.session.data.is_some())
    }

    fn clocks(&mut self, raw: &Sessions, at: &At) -> Clocks {
        let written = (raw.idle_timeout.as_ref(), raw.absolute_lifetime.as_ref());
        let signed_in = self.lifetimes(written, SIGNED_IN, at);
        let remembered = raw.remember_me.as_ref().map(|raw| {
            let written = (raw.idle_timeout.as_ref(), raw.absolute_lifetime.as_ref());
            self.lifetimes(written, REMEMBERED, &at.key("remember_me"))
        });
        let absolute = Clock {
            at: at.key("absolute_lifetime"),
            written: raw.absolute_lifetime.as_ref(),
            length: signed_in.absolute_lifetime,
        };
        let anonymous =
            raw.anonymous.as_ref().map(|raw| self.anonymous(raw, &at.key("anonymous"), &absolute));
        let renew_after = self.renew_after(raw.renew_after.as_ref(), &at.key("renew_after"), &absolute);
        Clocks {
            signed_in,
            // Without the box, whoever ticked it once is a visitor like others.
            remembered: remembered.unwrap_or(signed_in),
            anonymous: anonymous.unwrap_or(OVER),
            renew_after,
        }
    }

    /// Idle timeout and absolute lifetime below `at`; the first must not outlast the second.
    fn lifetimes(
        &mut self,
        (idle, absolute): (Option<&Span>, Option<&Span>),
        default: Lifetimes,
        at: &At,
    ) -> Lifetimes {
        let idle = self.clock(idle, default.idle_timeout, at.key("idle_timeout"));
        let absolute = self.clock(absolute, default.absolute_lifetime, at.key("absolute_lifetime"));
        if absolute.length > ABSOLUTE_LIFETIME_MAX {
            let wrong = "is longer than 400 days";
            self.notes.problem(&absolute.at, &absolute.text(), wrong, "write at most `400d`");
        }
        if self.idle_outlasts(&idle, &absolute) {
            if idle.written.is_some() {
                self.outlasts(&idle, &absolute);
            } else {
                let wrong = format!("is shorter than {} ({} by default)", idle.at, idle.text());
                let remedy = format!("write `idle_timeout: {}` or less too", absolute.text());
                self.notes.problem(&absolute.at, &absolute.text(), wrong, remedy);
            }
        }
        Lifetimes { idle_timeout: idle.length, absolute_lifetime: absolute.length }
    }

    fn anonymous(&mut self, raw: &raw::Anonymous, at: &At, absolute: &Clock<'_>) -> Lifetimes {
        let idle = self.clock(raw.idle_timeout.as_ref(), ANONYMOUS_IDLE_TIMEOUT, at.key("idle_timeout"));
        if self.idle_outlasts(&idle, absolute) {
            if idle.written.is_some() {
                self.outlasts(&idle, absolute);
            } else {
                let wrong = format!(
                    "has an idle timeout of {} by default, which outlasts {} ({})",
                    idle.text(),
                    absolute.at,
                    absolute.text()
                );
                let remedy = format!("write `idle_timeout: {}` or less in it", absolute.text());
                self.notes.problem(at, "anonymous", wrong, remedy);
            }
        }
        Lifetimes { idle_timeout: idle.length, absolute_lifetime: absolute.length }
    }

    fn renew_after(&mut self, written: Option<&Span>, at: &At, absolute: &Clock<'_>) -> Duration {
        let Some(written) = written else {
            return (absolute.length / RENEWALS_PER_LIFE).max(RENEW_AFTER_MIN);
        };
        if written.length < RENEW_AFTER_MIN {
            let wrong = "would give browsers a new token with every answer";
            self.notes.problem(at, &written.text, wrong, "write at least `1s`; hours are plenty");
        } else if written.length >= absolute.length && !self.notes.spoilt(&absolute.at) {
            let wrong = format!("is never reached: {} is {}", absolute.at, absolute.text());
            let remedy =
                format!("write less than `{}`, or leave it out for a quarter of that", absolute.text());
            self.notes.problem(at, &written.text, wrong, remedy);
        }
        written.length
    }

    fn clock<'a>(&mut self, written: Option<&'a Span>, default: Duration, at: At) -> Clock<'a> {
        let length = self.positive(written, default, &at);
        Clock { at, written, length }
    }

    fn idle_outlasts(&self, idle: &Clock<'_>, absolute: &Clock<'_>) -> bool {
        let spoilt = self.notes.spoilt(&idle.at) || self.notes.spoilt(&absolute.at);
        idle.length > absolute.length && !spoilt
    }

    fn outlasts(&mut self, idle: &Clock<'_>, absolute: &Clock<'_>) {
        let wrong = format!("outlasts {} ({})", absolute.at, absolute.text());
        let remedy = format!("write at most `{}`", absolute.text());
        self.notes.problem(&idle.at, &idle.text(), wrong, remedy);
    }

    /// The box stands on the login form of a password way; and ticking it must make a difference.
    fn remember_me_makes_sense(
        &mut self,
        raw: &Sessions,
        sign_in: &[SignInSettings],
        clocks: &Clocks,
        at: &At,
    ) {
        if raw.remember_me.is_none() {
            return;
        }
        let remember = at.key("remember_me");
        let has_form = sign_in.iter().any(|way| matches!(way.kind, SignInKind::Password { .. }));
        if !has_form && !self.notes.spoilt(&At::root().key("sign_in")) {
            let wrong = "has no effect: its box stands on the form of a password way, and there is none";
            self.notes.warn(&remember, "remember_me", wrong, "leave it out");
        }
        let persistent = raw.cookie.as_ref().and_then(|cookie| cookie.persistent) == Some(true);
        if persistent {
            let wrong = "lets the cookie outlive the browser for everybody, whether the box of sessions.remember_me was ticked or not";
            let remedy = "leave it out: that of a remembered session outlives the browser anyway";
            self.notes.warn(&at.key("cookie").key("persistent"), "true", wrong, remedy);
        }
        let (plain, remembered) = (clocks.signed_in, clocks.remembered);
        let longer = remembered.idle_timeout > plain.idle_timeout
            && remembered.absolute_lifetime >= plain.absolute_lifetime
            || remembered.idle_timeout >= plain.idle_timeout
                && remembered.absolute_lifetime > plain.absolute_lifetime;
        if !longer && !self.notes.spoilt(at) {
            let wrong = "remembers nobody for longer than the clocks of all sessions do";
            let remedy = "write longer ones than sessions.idle_timeout and sessions.absolute_lifetime, or leave it out";
            self.notes.warn(&remember, "remember_me", wrong, remedy);
        }
    }

    fn data_max_bytes(&mut self, raw: &Sessions, at: &At) -> usize {
        let Some(size) = raw.data.as_ref().and_then(|data| data.max_bytes.as_ref()) else {
            return DATA_BYTES as usize;
        };
        let at = at.key("data").key("max_bytes");
        if size.bytes > DATA_BYTES_MAX {
            let wrong = "is longer than servers take in a header";
            self.notes.problem(&at, &size.text, wrong, "write at most `32KiB`, and `6KiB` for most servers");
        } else if size.bytes > DATA_BYTES_WISE {
            let wrong = "is more than many servers take: gunicorn and Apache refuse headers above 8190 bytes";
            self.notes.warn(
                &at,
                &size.text,
                wrong,
                "write at most `7KiB`, unless the servers are set to more",
            );
        } else if size.bytes < DATA_BYTES_MIN {
            self.notes.problem(&at, &size.text, "has room for nothing", "write `6KiB`, for example");
        }
        usize::try_from(size.bytes).unwrap_or(usize::MAX)
    }

    fn data_finds_a_session(&mut self, raw: &Sessions, routes: &[RouteSettings], at: &At) {
        let routes_at = At::root().key("routes");
        if self.notes.spoilt(&routes_at) {
            return;
        }
        let with_data = routes.iter().position(|route| route.session.data.is_some());
        let Some(first) = with_data else {
            if raw.anonymous.is_some() {
                let wrong =
                    "has no effect: no route has `session: { data: … }`, so nothing is kept for anybody";
                self.notes.warn(
                    &at.key("anonymous"),
                    "anonymous",
                    wrong,
                    "write it in a route, or leave this out",
                );
            }
            return;
        };
        if !routes.iter().any(|route| self.takes_sessions(route)) {
            let wrong = "never finds a session: nobody can sign in, and there are no anonymous sessions";
            let remedy = "write `anonymous: {}` under `sessions`, or a route with `sign_in`";
            self.notes.warn(&routes_at.item(first).key("session").key("data"), "data", wrong, remedy);
        }
    }

    fn store(&mut self, raw: Option<&raw::Store>, at: &At) -> StoreSettings {
        let Some(raw::Store::Sqlite(raw::Sqlite { sqlite: Some(path) })) = raw else {
            return StoreSettings::Memory;
        };
        let at = at.key("sqlite");
        let place = self.place(path);
        // `vestibule.yaml` alone has an empty parent: the folder in which the command runs.
        let folder = place.parent().map(|parent| if parent == "" { Path::new(".") } else { parent });
        if path.is_empty() || place.is_dir() {
            self.notes.problem(&at, path, "is no file", "name the file itself, such as `sessions.db`");
        } else if !folder.is_some_and(Path::is_dir) {
            let remedy = "make the folder, or mend the path (relative ones start at this file's folder)";
            self.notes.problem(&at, path, "lies in a folder that is not there", remedy);
        }
        // Whole, so that no name in the file can mean anything else to SQLite than a file.
        StoreSettings::Sqlite(std::path::absolute(&place).unwrap_or(place))
    }
}

fn limits(raw: &Sessions) -> Limits {
    let count = |written: Option<u64>, default| {
        written.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    };
    let per_subject = raw.per_subject.as_ref().map_or(PER_SUBJECT, |raw| PerSubject {
        max: count(raw.max, PER_SUBJECT.max),
        when_full: match raw.when_full {
            None => PER_SUBJECT.when_full,
            Some(raw::WhenFull::EndLeastRecent) => WhenFull::EndLeastRecent,
            Some(raw::WhenFull::EndOldest) => WhenFull::EndOldest,
            Some(raw::WhenFull::Refuse) => WhenFull::Refuse,
        },
    });
    Limits {
        capacity: count(raw.capacity, CAPACITY),
        anonymous_capacity: raw.anonymous.as_ref().map_or(0, |raw| count(raw.capacity, ANONYMOUS_CAPACITY)),
        per_subject: Some(per_subject),
    }
}
