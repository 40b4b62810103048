//! A visitor's sessions as pages list them: where, which browser, since when.

use super::{Language, texts};
use crate::domain::browser::Browser;
use crate::domain::session::{Kind, Session};
use crate::domain::time::Timestamp;
use minijinja::context;
use minijinja::value::Value;

/// One session in a list. Texts are plain: the templates escape them.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its public id: what a form names it by.
    pub id: String,
    /// From where it was opened.
    pub address: String,
    /// What the browser called itself when it was opened.
    pub user_agent: String,
    /// When it was opened.
    pub since: Timestamp,
    /// Its last use that was written down.
    pub used: Timestamp,
    /// The name of the way to sign in.
    pub sign_in: String,
    /// The visitor asked to be remembered.
    pub remembered: bool,
    /// The one that this request came with, or that was chosen before: marked.
    pub marked: bool,
}

impl Listed {
    /// A session as it is now.
    pub fn of(session: &Session, marked: bool) -> Self {
        Self {
            id: session.id().to_string(),
            address: session.client_address().to_owned(),
            user_agent: session.user_agent().to_owned(),
            since: session.opened_at(),
            used: session.last_used_at(),
            sign_in: session.sign_in().to_owned(),
            remembered: session.kind() == Kind::Remembered,
            marked,
        }
    }

    /// What the templates read.
    pub(super) fn value(&self, language: Language) -> Value {
        context! {
            id => self.id.clone(),
            address => self.address.clone(),
            browser => browser(&self.user_agent, language),
            since => time(self.since),
            used => time(self.used),
            sign_in => self.sign_in.clone(),
            remembered => self.remembered,
            marked => self.marked,
        }
    }
}

/// A short name where the browser is known, else what it called itself.
fn browser(user_agent: &str, language: Language) -> String {
    match Browser::of(user_agent) {
        Some(Browser { name, system: Some(system) }) => {
            texts::text(language, "session_on").replace("{browser}", name).replace("{system}", system)
        }
        Some(Browser { name, system: None }) => name.to_owned(),
        None => {
            // Characters without a shape could turn the line around.
            let shown: String = user_agent.chars().filter(|c| !is_invisible(*c)).collect();
            match shown.trim() {
                "" => texts::text(language, "session_nameless").to_owned(),
                shown => shown.to_owned(),
            }
        }
    }
}

/// Control characters, and those that order text or take no room (Unicode's general category Cf, as far as it matters here).
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `exact` for machines, `readable` for people: both UTC, for we do not know where the visitor's clock stands.
fn time(at: Timestamp) -> Value {
    let exact = at.to_string();
    let readable = match (exact.get(..10), exact.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => exact.clone(),
    };
    context! { exact, readable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_named_in_the_readers_language_or_as_it_calls_itself() {
        let firefox = "Mozilla/5.0 (Windows NT 10.0; rv:146.0) Gecko/20100101 Firefox/146.0";
        for (user_agent, english, chinese) in [
            (firefox, "Firefox on Windows", "Windows 上的 Firefox"),
            ("curl/8.15.0", "curl", "curl"),
            ("our-script <1>", "our-script <1>", "our-script <1>"),
            ("\u{202e}nwod\u{7}", "nwod", "nwod"),
            ("", "A browser without a name", "未知浏览器"),
            (" \u{200b}\t", "A browser without a name", "未知浏览器"),
        ] {
            assert_eq!(browser(user_agent, Language::English), english, "{user_agent:?}");
            assert_eq!(browser(user_agent, Language::Chinese), chinese, "{user_agent:?}");
        }
    }

    #[test]
    fn instants_are_told_to_the_minute_and_exactly() {
        let at = time(Timestamp::from_secs(1_795_348_799));
        let part = |name| at.get_attr(name).expect("a part").to_string();
        assert_eq!(part("exact"), "2026-11-22T11:59:59Z");
        assert_eq!(part("readable"), "2026-11-22 11:59 UTC");
    }
}
