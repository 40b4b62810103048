//! One line per change that somebody may have to answer for.

use super::Format;
use super::line::Line;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use std::net::IpAddr;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// A session was opened.
    SignIn,
    /// A sign-in was tried and refused.
    SignInFailed,
    /// An upstream said who signs in or out, and it does not count; `reason` says why.
    UpstreamIgnored,
    /// A visitor ended a session of theirs.
    SignOut,
    /// A session ended otherwise; `reason` says by what.
    SessionEnded,
    /// A session token came after a younger one had taken its place.
    TokenRefused,
    /// An upstream's patch of session data was refused, and the visitor got 502; `reason` says why.
    PatchRefused,
    /// An upstream's patch of session data was dropped, and the page went on; `reason` says why.
    PatchDropped,
    /// A call to the admin address was refused.
    AdminRefused,
    /// The process serves.
    Started,
    /// The process ends.
    Stopped,
    /// A new file is in force.
    ConfigLoaded,
    /// A new file was refused; the one before it stays.
    ConfigRejected,
    /// A file with users or keys was read again.
    FileReloaded,
    /// The session table was full and refused a sign-in.
    TableFull,
    /// A subject had as many sessions as it may, and a sign-in was refused or put off.
    SubjectFull,
    /// The wall clock was stepped.
    ClockStepped,
    /// The session store cannot be written; `detail` says why.
    StoreDown,
    /// The session store can be written again.
    StoreUp,
    /// An operator revoked bearer tokens; `detail` says which.
    TokensRevoked,
}

impl AuditEvent {
    /// The word in the line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::SignInFailed => "sign_in_failed",
            Self::UpstreamIgnored => "upstream_ignored",
            Self::SignOut => "sign_out",
            Self::SessionEnded => "session_ended",
            Self::TokenRefused => "token_refused",
            Self::PatchRefused => "patch_refused",
            Self::PatchDropped => "patch_dropped",
            Self::AdminRefused => "admin_refused",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::ConfigLoaded => "config_loaded",
            Self::ConfigRejected => "config_rejected",
            Self::FileReloaded => "file_reloaded",
            Self::TableFull => "table_full",
            Self::SubjectFull => "subject_full",
            Self::ClockStepped => "clock_stepped",
            Self::StoreDown => "store_down",
            Self::StoreUp => "store_up",
            Self::TokensRevoked => "tokens_revoked",
        }
    }
}

/// One change. [`AuditLine::new`] leaves out everything but the instant and the event.
#[derive(Clone, Copy, Debug)]
pub struct AuditLine<'a> {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: AuditEvent,
    /// Whose, in header form.
    pub subject: Option<&'a str>,
    /// In which name space.
    pub source: Option<&'a str>,
    /// The session's public id.
    pub session: Option<SessionId>,
    /// The way of signing in.
    pub sign_in: Option<&'a str>,
    /// From where; absent on a Unix socket and for what no client caused.
    pub client: Option<IpAddr>,
    /// In which exchange.
    pub request_id: Option<&'a str>,
    /// Why, as a word to search by.
    pub reason: Option<&'a str>,
    /// More, for people; never a secret, never what somebody typed into a password field.
    pub detail: Option<&'a str>,
}

impl AuditLine<'_> {
    /// A line that says only what happened, and when.
    pub const fn new(at: Timestamp, event: AuditEvent) -> Self {
        Self {
            at,
            event,
            subject: None,
            source: None,
            session: None,
            sign_in: None,
            client: None,
            request_id: None,
            reason: None,
            detail: None,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, format: Format) {
        let mut line = Line::start(out, format, self.at);
        if line.is_human() {
            line.word(self.event.as_str(), 32);
        } else {
            line.text("event", self.event.as_str(), 32);
        }
        line.maybe("subject", self.subject, 256);
        line.maybe("source", self.source, 256);
        line.plain("session", self.session.as_ref().map(|id| id as _));
        line.maybe("sign_in", self.sign_in, 128);
        line.plain("client", self.client.as_ref().map(|ip| ip as _));
        line.maybe("request_id", self.request_id, 64);
        line.maybe("reason", self.reason, 64);
        line.maybe("detail", self.detail, 4096);
        line.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_who_where_and_why() {
        let line = AuditLine {
            subject: Some("alice"),
            source: Some("local"),
            client: Some(IpAddr::from([192, 0, 2, 1])),
            reason: Some("wrong"),
            ..AuditLine::new(Timestamp::from_secs(1_795_334_400), AuditEvent::SignInFailed)
        };
        let mut out = Vec::new();
        line.write(&mut out, Format::Json);
        line.write(&mut out, Format::Human);
        assert_eq!(
            String::from_utf8(out).expect("lines are UTF-8"),
            "{\"at\":\"2026-11-22T08:00:00.000Z\",\"event\":\"sign_in_failed\",\"subject\":\"alice\",\
             \"source\":\"local\",\"client\":\"192.0.2.1\",\"reason\":\"wrong\"}\n\
             2026-11-22T08:00:00.000Z sign_in_failed subject=alice source=local client=192.0.2.1 reason=wrong\n"
        );
    }
}
