//! The pages that the gateway shows itself: sign in, sign out, and why something did not work.
//!
//! Each is a template of its own in `pages/`; those that only say something share `message.html`. An operator's
//! folder may replace any of them by a file of the same name, the frame (`layout.html`) and the looks
//! (`style.css`) too. Everything is checked when it is loaded: each page is rendered with sample values in each
//! language, so a folder that loads is one that renders.
//!
//! Values are escaped wherever they stand. A page needs no script and no other resource, and
//! [`Pages::content_security_policy`] holds the browser to that.

mod check;
mod language;
mod sessions;
mod texts;

pub use check::PageProblem;
pub use language::Language;
pub use sessions::Listed;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use std::path::Path;

/// The looks of the built-in pages.
pub const STYLE: &str = include_str!("pages/style.css");

/// The names of the fields in the forms' bodies.
pub mod field {
    /// Login: the name that was typed.
    pub const USER: &str = "user";
    /// Login: the password.
    pub const PASSWORD: &str = "password";
    /// Login: the name of the way to sign in.
    pub const WAY: &str = "way";
    /// Login: where to go afterwards.
    pub const RETURN_TO: &str = "return_to";
    /// Login: `1` to be kept signed in.
    pub const REMEMBER: &str = "remember";
    /// Login, logout and account: the proof that the form is ours.
    pub const FORM_TOKEN: &str = "form_token";
    /// Choice of sessions to end at sign-in: the proof that the password was right a moment ago.
    pub const PROOF: &str = "proof";
    /// Account and choice: the id of a session to end.
    pub const END: &str = "end";
    /// Account: `1` to end all sessions but this one; choice: all there are.
    pub const OTHERS: &str = "others";
    /// Logout: `1` to end all of the subject's sessions.
    pub const EVERYWHERE: &str = "everywhere";
}

/// A page with what it shows. Texts are plain: the templates escape them.
#[derive(Clone, Copy)]
pub enum Page<'a> {
    /// The form to sign in.
    Login(Login<'a>),
    /// The sessions of which one has to end before another can begin.
    Choose(Choose<'a>),
    /// 403: the subject has as many sessions as it may, and nobody can be asked which to end.
    SubjectFull,
    /// One's own sessions.
    Account(Account<'a>),
    /// The question whether to sign out.
    Logout(Logout<'a>),
    /// Signed out, or never signed in.
    SignedOut {
        /// Where to sign in again: a path of ours.
        login_url: Option<&'a str>,
    },
    /// 401 for a form that was sent without a session: sign in in a new tab, then send it again.
    SignInAgain {
        /// Where to sign in: a path of ours.
        login_url: &'a str,
    },
    /// 401 where no way to sign in exists.
    Unauthorized,
    /// 403.
    Forbidden {
        /// Who was refused; only where a session says so, since the page offers to sign out.
        subject: Option<&'a str>,
    },
    /// 404.
    NotFound,
    /// 400, and other requests that are not well-formed.
    BadRequest,
    /// 405.
    MethodNotAllowed,
    /// 413.
    TooLarge,
    /// 429.
    TooManyRequests {
        /// As in `Retry-After`.
        seconds: u64,
    },
    /// 500.
    Internal,
    /// 502.
    BadGateway,
    /// 503.
    Unavailable,
    /// 504.
    GatewayTimeout,
}

/// What the login page shows.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The ways in by password.
    pub ways: &'a [Way<'a>],
    /// The ways in that begin elsewhere. With those by password one or more.
    pub links: &'a [Link<'a>],
    /// Whether there is a box to be remembered, and whether it is checked.
    pub remember: Option<bool>,
    /// Where to go afterwards, checked (`ReturnTo`).
    pub return_to: &'a str,
    /// For the hidden field.
    pub form_token: &'a str,
    /// What was typed before, after a failure; empty at first.
    pub user: &'a str,
    /// What went wrong before.
    pub message: Option<Message>,
}

/// A way to sign in with a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Marked beforehand; of several exactly one.
    pub chosen: bool,
}

/// A way to sign in that begins on another page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Where: a path on this host.
    pub url: &'a str,
}

/// What the page shows on which a visitor makes room for another session.
#[derive(Clone, Copy)]
pub struct Choose<'a> {
    /// The subject's sessions.
    pub sessions: &'a [Listed],
    /// How many there are besides.
    pub more: usize,
    /// For the hidden field: the password was right a moment ago.
    pub proof: &'a str,
    /// The name of the way to sign in.
    pub way: &'a str,
    /// The name that was typed.
    pub user: &'a str,
    /// Where to go afterwards, checked (`ReturnTo`).
    pub return_to: &'a str,
    /// The box was checked.
    pub remember: bool,
    /// So many at least have to end; said where fewer were chosen.
    pub at_least: Option<usize>,
    /// The login page: a path of ours.
    pub login_url: &'a str,
}

/// What the account page shows.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    /// Who is signed in.
    pub subject: &'a str,
    /// The sessions, the marked one first.
    pub sessions: &'a [Listed],
    /// How many there are besides.
    pub more: usize,
    /// For the hidden field.
    pub form_token: &'a str,
}

/// What the logout page shows.
#[derive(Clone, Copy)]
pub struct Logout<'a> {
    /// Who is signed in.
    pub subject: &'a str,
    /// The name of the way by which.
    pub sign_in: &'a str,
    /// For the hidden field.
    pub form_token: &'a str,
}

/// Why a sign-in did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The user name or the password.
    Wrong,
    /// Throttled, for so many seconds.
    Wait(u64),
    /// The queue of password checks is full.
    Busy,
    /// The form token is missing, too old, or of another browser.
    Expired,
    /// The session table is full.
    Full,
}

impl Message {
    fn text(self, language: Language) -> String {
        match self {
            Self::Wrong => texts::text(language, "login_wrong").into(),
            Self::Wait(seconds) => {
                texts::text(language, "login_wait").replace("{wait}", &texts::wait(language, seconds))
            }
            Self::Busy => texts::text(language, "login_busy").into(),
            Self::Expired => texts::text(language, "login_expired").into(),
            Self::Full => texts::text(language, "login_full").into(),
        }
    }
}

/// Every name that [`Page::name`] gives.
const PAGES: &[&str] = &[
    "login",
    "choose",
    "subject_full",
    "account",
    "logout",
    "signed_out",
    "sign_in_again",
    "unauthorized",
    "forbidden",
    "not_found",
    "bad_request",
    "method_not_allowed",
    "too_large",
    "too_many_requests",
    "internal",
    "bad_gateway",
    "unavailable",
    "gateway_timeout",
];

impl Page<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Login(_) => "login",
            Self::Choose(_) => "choose",
            Self::SubjectFull => "subject_full",
            Self::Account(_) => "account",
            Self::Logout(_) => "logout",
            Self::SignedOut { .. } => "signed_out",
            Self::SignInAgain { .. } => "sign_in_again",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound => "not_found",
            Self::BadRequest => "bad_request",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::Internal => "internal",
            Self::BadGateway => "bad_gateway",
            Self::Unavailable => "unavailable",
            Self::GatewayTimeout => "gateway_timeout",
        }
    }

    fn explanation(&self, language: Language) -> String {
        let text = texts::of_page(language, self.name(), "text");
        match self {
            Self::TooManyRequests { seconds } => text.replace("{wait}", &texts::wait(language, *seconds)),
            _ => text.into(),
        }
    }

    /// The values that only this page has.
    fn values(&self, language: Language) -> Value {
        match self {
            Self::Login(login) => {
                let ways: Vec<Value> = login
                    .ways
                    .iter()
                    .map(|way| context! { name => way.name, chosen => way.chosen })
                    .collect();
                let links: Vec<Value> =
                    login.links.iter().map(|link| context! { name => link.name, url => link.url }).collect();
                let message = login.message.map(|message| message.text(language));
                let remember_me = login.remember.map(|checked| context! { checked });
                context! {
                    ways, links, message, remember_me,
                    return_to => login.return_to, form_token => login.form_token, user => login.user,
                }
            }
            Self::Choose(choose) => {
                let count = |count: usize| {
                    texts::text(language, "choose_more").replace("{count}", &count.to_string())
                };
                context! {
                    sessions => listed(choose.sessions, language), more => more(choose.more, language),
                    message => choose.at_least.map(count),
                    proof => choose.proof, way => choose.way, user => choose.user,
                    return_to => choose.return_to, remember => choose.remember, login_url => choose.login_url,
                }
            }
            Self::Account(account) => context! {
                sessions => listed(account.sessions, language), more => more(account.more, language),
                others => account.sessions.len() + account.more > 1,
                subject => account.subject, form_token => account.form_token,
            },
            Self::Logout(logout) => context! {
                subject => logout.subject, sign_in => logout.sign_in, form_token => logout.form_token,
            },
            Self::SignedOut { login_url } => context! { login_url },
            Self::SignInAgain { login_url } => context! { login_url => *login_url },
            Self::Forbidden { subject } => context! { subject },
            _ => context! {},
        }
    }
}

/// That there are more than are shown.
fn more(count: usize, language: Language) -> Option<String> {
    (count > 0).then(|| texts::text(language, "account_more").replace("{count}", &count.to_string()))
}

fn listed(sessions: &[Listed], language: Language) -> Vec<Value> {
    sessions.iter().map(|session| session.value(language)).collect()
}

/// The templates as they ship.
const BUILT_IN: &[(&str, &str)] = &[
    ("layout.html", include_str!("pages/layout.html")),
    ("message.html", include_str!("pages/message.html")),
    ("login.html", include_str!("pages/login.html")),
    ("choose.html", include_str!("pages/choose.html")),
    ("account.html", include_str!("pages/account.html")),
    ("logout.html", include_str!("pages/logout.html")),
    ("signed_out.html", include_str!("pages/signed_out.html")),
    ("sign_in_again.html", include_str!("pages/sign_in_again.html")),
    ("forbidden.html", include_str!("pages/forbidden.html")),
];

/// Work that one rendering may do: about one unit per step and per 64 bytes. The login page takes less than 250, a line of
/// the account page less than 80.
const FUEL: u64 = 50_000;

/// All pages, ready to render.
pub struct Pages {
    templates: Environment<'static>,
    built_in: Environment<'static>,
    style: Value,
    /// By `Language as usize`.
    texts: [Value; 2],
    content_security_policy: HeaderValue,
}

impl Pages {
    /// Makes the pages: the built-in ones, and from `folder`, if there is one, those that replace them.
    ///
    /// # Errors
    ///
    /// Every problem of the folder's files, each with file, line and remedy.
    pub fn load(folder: Option<&Path>) -> Result<Self, Vec<PageProblem>> {
        match folder {
            Some(folder) => check::load(folder),
            None => Ok(Self::new(environment(), STYLE)),
        }
    }

    fn new(templates: Environment<'static>, style: &str) -> Self {
        // Browsers hash the style after they have made every line end one LF (HTML §13.2.3.5).
        let style = style.replace("\r\n", "\n").replace('\r', "\n");
        Self {
            templates,
            built_in: environment(),
            content_security_policy: content_security_policy(&style),
            // Inside `style` nothing is escaped; the check at load has seen that it holds no end tag.
            style: Value::from_safe_string(style),
            texts: Language::ALL.map(texts::all),
        }
    }

    /// Renders a page. `request_id` is shown small, for a visitor to tell the operator.
    ///
    /// A template that fails in spite of the check at load is logged, and the built-in page takes its place.
    pub fn render(&self, page: &Page<'_>, language: Language, request_id: &str) -> String {
        self.render_with(&self.templates, page, language, request_id)
            .or_else(|error| {
                // The error itself may quote values; kind and place do not.
                tracing::error!(
                    template = error.name(),
                    line = error.line(),
                    "the page `{}` of the pages folder failed and the built-in one was shown: {}",
                    page.name(),
                    error.kind()
                );
                self.render_with(&self.built_in, page, language, request_id)
            })
            .unwrap_or_else(|_| texts::of_page(language, page.name(), "title").into())
    }

    /// The value of `Content-Security-Policy` that every page is sent with.
    ///
    /// It allows the pages' one inline style by its hash, images inside the page (a logo as `data:`), forms to
    /// ourselves, and nothing else; no site may frame a page.
    pub fn content_security_policy(&self) -> &HeaderValue {
        &self.content_security_policy
    }

    fn render_with(
        &self,
        templates: &Environment<'static>,
        page: &Page<'_>,
        language: Language,
        request_id: &str,
    ) -> Result<String, minijinja::Error> {
        let own = format!("{}.html", page.name());
        let template = templates.get_template(&own).or_else(|_| templates.get_template("message.html"))?;
        template.render(context! {
            page => page.name(),
            language => language.tag(),
            title => texts::of_page(language, page.name(), "title"),
            explanation => page.explanation(language),
            text => self.texts[language as usize].clone(),
            style => self.style.clone(),
            request_id,
            ..page.values(language)
        })
    }
}

/// The built-in templates under the rules for all of them.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // A misspelt value is an error, not a gap in the page.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Errors name the misspelt value, in release builds too.
    environment.set_debug(true);
    for (name, source) in BUILT_IN {
        environment.add_template(name, source).expect("the tests below render every built-in template");
    }
    environment
}

fn content_security_policy(style: &str) -> HeaderValue {
    let hash = BASE64.encode(digest::digest(&digest::SHA256, style.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).expect("the policy is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    const REQUEST: &str = "4f1d2c3b4a5968778695a4b3c2d1e0ff";

    fn built_in() -> Pages {
        Pages::load(None).expect("the built-in pages have no problem")
    }

    fn login<'a>(ways: &'a [Way<'a>]) -> Login<'a> {
        Login {
            ways,
            links: &[],
            remember: None,
            return_to: "/wiki/Start?a=1&b=2",
            form_token: "token",
            user: "",
            message: None,
        }
    }

    /// The page without its style, which would hide what a snapshot is to show.
    fn snapshot(page: &Page<'_>, language: Language) -> String {
        built_in().render(page, language, REQUEST).replace(STYLE, "…")
    }

    const LOCAL: &[Way<'_>] = &[Way { name: "local", chosen: true }];

    #[test]
    fn the_login_page_as_a_visitor_sees_it_first() {
        insta::assert_snapshot!(snapshot(&Page::Login(login(LOCAL)), Language::English));
    }

    #[test]
    fn the_login_page_after_a_failure_with_two_ways_in_chinese() {
        let ways = [Way { name: "staff", chosen: false }, Way { name: "partners", chosen: true }];
        let page = Login { user: "李雷", message: Some(Message::Wait(20)), ..login(&ways) };
        insta::assert_snapshot!(snapshot(&Page::Login(page), Language::Chinese));
    }

    #[test]
    fn the_login_page_with_a_box_to_be_remembered_and_another_way_in() {
        let links = [Link { name: "forum", url: "/login" }];
        let page = Login { links: &links, remember: Some(false), ..login(LOCAL) };
        insta::assert_snapshot!(snapshot(&Page::Login(page), Language::English));
    }

    #[test]
    fn the_login_page_without_a_password_has_no_form() {
        let page = Login { links: &[Link { name: "forum", url: "/login" }], ..login(&[]) };
        let html = snapshot(&Page::Login(page), Language::English);
        assert!(!html.contains("<form") && html.contains("href=\"&#x2f;login\""), "{html}");
    }

    fn session(number: u64) -> Listed {
        Listed {
            id: format!("session-{number}"),
            address: format!("203.0.113.{number}"),
            user_agent: "Mozilla/5.0 (Windows NT 10.0; rv:146.0) Gecko/20100101 Firefox/146.0".into(),
            since: Timestamp::from_secs(1_795_348_800 + number * 60),
            used: Timestamp::from_secs(1_795_352_400 + number * 60),
            sign_in: "local".into(),
            remembered: number == 2,
            marked: number == 1,
        }
    }

    fn account(sessions: &[Listed]) -> Account<'_> {
        Account { subject: "alice", sessions, more: 0, form_token: "token" }
    }

    #[test]
    fn the_account_page() {
        let sessions = [session(1), session(2)];
        insta::assert_snapshot!(snapshot(&Page::Account(account(&sessions)), Language::English));
    }

    #[test]
    fn the_account_page_in_chinese_where_there_is_more_than_fits() {
        let sessions = [session(1)];
        let page = Account { more: 7, ..account(&sessions) };
        insta::assert_snapshot!(snapshot(&Page::Account(page), Language::Chinese));
    }

    #[test]
    fn who_is_alone_has_no_others_to_end() {
        let html = snapshot(&Page::Account(account(&[session(1)])), Language::English);
        assert!(!html.contains("name=\"others\""), "{html}");
    }

    #[test]
    fn a_hundred_sessions_render() {
        let sessions: Vec<Listed> = (1..=100).map(session).collect();
        let pages = built_in();
        let page = Page::Account(account(&sessions));
        let html =
            pages.render_with(&pages.templates, &page, Language::English, REQUEST).expect("it renders");
        assert_eq!(html.matches("name=\"end\"").count(), 100);
        let page = Page::Choose(choose(&sessions));
        let html =
            pages.render_with(&pages.templates, &page, Language::English, REQUEST).expect("it renders");
        assert_eq!(html.matches("name=\"end\"").count(), 100);
    }

    fn choose(sessions: &[Listed]) -> Choose<'_> {
        Choose {
            sessions,
            more: 0,
            proof: "proof",
            way: "local",
            user: "alice",
            return_to: "/",
            remember: true,
            at_least: Some(2),
            login_url: "/_vestibule/login",
        }
    }

    #[test]
    fn the_page_on_which_a_visitor_makes_room() {
        let sessions = [session(1), session(2)];
        insta::assert_snapshot!(snapshot(&Page::Choose(choose(&sessions)), Language::English));
    }

    #[test]
    fn what_a_browser_calls_itself_is_text() {
        let hostile = "<script>alert(1)</script>\"'";
        let odd = Listed { user_agent: hostile.into(), address: hostile.into(), ..session(2) };
        let sessions = [session(1), odd];
        for page in [Page::Account(account(&sessions)), Page::Choose(choose(&sessions))] {
            let html = built_in().render(&page, Language::English, REQUEST);
            assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        }
    }

    #[test]
    fn the_logout_page() {
        let page = Logout { subject: "alice", sign_in: "local", form_token: "token" };
        insta::assert_snapshot!(snapshot(&Page::Logout(page), Language::English));
    }

    #[test]
    fn the_page_for_a_form_that_was_sent_without_a_session() {
        let page = Page::SignInAgain { login_url: "/_vestibule/login?return_to=/edit" };
        insta::assert_snapshot!(snapshot(&page, Language::English));
    }

    #[test]
    fn values_cannot_leave_their_place() {
        let hostile = "\"'><script>alert(1)</script>&amp;";
        let ways = [Way { name: hostile, chosen: true }, Way { name: "b", chosen: false }];
        let page = Login { user: hostile, return_to: hostile, form_token: hostile, ..login(&ways) };
        let html = built_in().render(&Page::Login(page), Language::English, hostile);
        assert!(!html.contains("<script"), "{html}");
        let escaped = "&quot;&#x27;&gt;&lt;script&gt;alert(1)&lt;&#x2f;script&gt;&amp;amp;";
        for field in ["user", "return_to", "form_token", "way"] {
            assert!(html.contains(&format!("name=\"{field}\" value=\"{escaped}\"")), "{field} in {html}");
        }
    }

    #[test]
    fn every_page_renders_in_both_languages_with_title_language_and_request() {
        let pages = built_in();
        let mut seen = Vec::new();
        let sessions = check::sample_sessions();
        for page in check::samples(&sessions) {
            for language in Language::ALL {
                let html = pages
                    .render_with(&pages.templates, &page, language, REQUEST)
                    .unwrap_or_else(|error| panic!("{}: {error}", page.name()));
                let title = texts::of_page(language, page.name(), "title");
                assert!(html.contains(&format!("<title>{title}</title>")), "{html}");
                assert!(html.contains(&format!("<html lang=\"{}\">", language.tag())), "{html}");
                assert!(html.contains(REQUEST), "{html}");
                assert!(!html.contains("{wait}"), "{html}");
            }
            if seen.last() != Some(&page.name()) {
                seen.push(page.name());
            }
        }
        assert_eq!(seen, PAGES, "a page has no sample");
    }

    #[test]
    fn the_forms_have_the_fields_that_are_read() {
        let pages = built_in();
        let html = pages.render(&Page::Login(login(LOCAL)), Language::English, REQUEST);
        for field in [field::USER, field::PASSWORD, field::WAY, field::RETURN_TO, field::FORM_TOKEN] {
            assert!(html.contains(&format!("name=\"{field}\"")), "{field}");
        }
        let page = Logout { subject: "alice", sign_in: "local", form_token: "token" };
        let html = pages.render(&Page::Logout(page), Language::English, REQUEST);
        for field in [field::EVERYWHERE, field::FORM_TOKEN] {
            assert!(html.contains(&format!("name=\"{field}\"")), "{field}");
        }
        let sessions = [session(1), session(2)];
        let html = pages.render(&Page::Account(account(&sessions)), Language::English, REQUEST);
        for field in [field::END, field::OTHERS, field::FORM_TOKEN] {
            assert!(html.contains(&format!("name=\"{field}\"")), "{field}");
        }
        let html = pages.render(&Page::Choose(choose(&sessions)), Language::English, REQUEST);
        for field in [
            field::PROOF,
            field::WAY,
            field::USER,
            field::RETURN_TO,
            field::REMEMBER,
            field::END,
            field::OTHERS,
        ] {
            assert!(html.contains(&format!("name=\"{field}\"")), "{field}");
        }
    }

    #[test]
    fn the_policy_allows_exactly_the_style_that_a_page_carries() {
        let pages = Pages::new(environment(), "body {\r\n  margin: 0\r}\n");
        // What a browser hashes: the text between the tags with every line end made one LF.
        let style = "body {\n  margin: 0\n}\n";
        let html = pages.render(&Page::NotFound, Language::English, REQUEST);
        assert!(html.contains(&format!("<style>{style}</style>")), "{html}");
        let hash = BASE64.encode(digest::digest(&digest::SHA256, style.as_bytes()));
        let policy = pages.content_security_policy().to_str().expect("the policy is ASCII");
        assert!(policy.contains(&format!("style-src 'sha256-{hash}';")), "{policy}");
    }

    #[test]
    fn a_page_that_fails_late_is_replaced_by_the_built_in_one() {
        let mut pages = built_in();
        pages.templates.add_template("not_found.html", "{{ gone }}").expect("it parses");
        let html = pages.render(&Page::NotFound, Language::English, REQUEST);
        assert_eq!(html, built_in().render(&Page::NotFound, Language::English, REQUEST));
    }
}
