//! Reads an operator's folder of pages and refuses what would only fail in front of a visitor.
//!
//! Known file names only, each a template that parses; then every page is rendered with sample values, with and
//! without its optional parts, in each language. The samples contain markup, so that a template which switches
//! escaping off is found. What the content security policy would block is named where it stands.

use super::{
    Account, BUILT_IN, Choose, Language, Link, Listed, Login, Logout, Message, PAGES, Page, Pages, STYLE,
    Way, environment, field,
};
use crate::domain::time::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

/// What is wrong with a file in the pages folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct PageProblem {
    /// The file.
    pub file: String,
    /// The line in it, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// `pages/login.html (line 3): what is wrong; what to do`.
impl fmt::Display for PageProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

const STYLE_FILE: &str = "style.css";
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Loads the built-in pages with those of `folder` in their place.
pub(super) fn load(folder: &Path) -> Result<Pages, Vec<PageProblem>> {
    let mut problems = BTreeSet::new();
    let mut templates = environment();
    let mut style = String::from(STYLE);
    for (name, source) in read(folder, &mut problems) {
        let file = folder.join(&name);
        if name == STYLE_FILE {
            check_style(&file, &source, &mut problems);
            style = source;
            continue;
        }
        check_blocked(&file, &source, &mut problems);
        if let Err(error) = templates.add_template_owned(name, source) {
            problems.insert(of_template(folder, &error, "correct the template"));
        }
    }
    let pages = Pages::new(templates, &style);
    // A template that does not parse would make the trial repeat the same problem for every page.
    if problems.is_empty() {
        try_all(&pages, folder, &mut problems);
    }
    if problems.is_empty() { Ok(pages) } else { Err(problems.into_iter().collect()) }
}

/// Reads every file that has a known name. Names that start with a dot are not looked at: editors and
/// orchestrators keep things of their own there.
fn read(folder: &Path, problems: &mut BTreeSet<PageProblem>) -> Vec<(String, String)> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            problems.insert(unreadable(folder, &error, "name a readable folder, or leave `pages` out"));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = match entry {
            Ok(entry) => entry.file_name().to_string_lossy().into_owned(),
            Err(error) => {
                problems.insert(unreadable(folder, &error, "name a readable folder, or leave `pages` out"));
                continue;
            }
        };
        if name.starts_with('.') {
            continue;
        }
        let file = folder.join(&name);
        if !is_known(&name) {
            problems.insert(problem(&file, None, "no page has this name".into(), &known_names()));
            continue;
        }
        let mut source = String::new();
        let read = std::fs::File::open(&file)
            .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut source));
        match read {
            Err(error) => {
                problems.insert(unreadable(&file, &error, "make it a readable UTF-8 file, or remove it"));
            }
            Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
                let what = format!("the file is longer than {} KiB", FILE_BYTES_MAX / 1024);
                problems.insert(problem(&file, None, what, "make it smaller"));
            }
            Ok(_) => files.push((name, source)),
        }
    }
    files
}

fn is_known(name: &str) -> bool {
    let page = name.strip_suffix(".html").is_some_and(|page| PAGES.contains(&page));
    page || name == STYLE_FILE || BUILT_IN.iter().any(|(held, _)| *held == name)
}

fn known_names() -> String {
    let pages = PAGES.join(".html, ");
    format!("rename it to one of {STYLE_FILE}, layout.html, message.html, {pages}.html, or remove it")
}

fn check_style(file: &Path, source: &str, problems: &mut BTreeSet<PageProblem>) {
    for (number, line) in numbered(source) {
        if line.contains("</") {
            let what = "`</` would end the style inside the page".into();
            problems.insert(problem(file, Some(number), what, "write `<\\/` instead"));
        }
        if line.contains("@import") || line.contains("url(") && !line.contains("url(data:") {
            let what = "the browser loads nothing from elsewhere".into();
            problems.insert(problem(
                file,
                Some(number),
                what,
                "write it into the file itself, images as `url(data:…)`",
            ));
        }
    }
}

/// Names what the content security policy makes the browser leave out.
fn check_blocked(file: &Path, source: &str, problems: &mut BTreeSet<PageProblem>) {
    let own_style = "<style>{{ style }}</style>";
    for (number, line) in numbered(source) {
        let line = line.replace(own_style, "");
        let mut report = |what: &str, remedy| {
            let what = format!("the browser will not obey `{what}`");
            problems.insert(problem(file, Some(number), what, remedy));
        };
        if line.contains("<script") {
            report("<script", "pages work without scripts: remove it");
        }
        if line.contains("<style") {
            report(
                "<style",
                "write the rules into style.css and `<style>{{ style }}</style>` into layout.html",
            );
        }
        if line.contains(" style=") {
            report("style=", "use a class, and write its rules into style.css");
        }
        if line.contains("stylesheet") {
            report("stylesheet", "write the rules into style.css");
        }
        if line.contains(" src=") && !line.contains("src=\"data:") {
            report("src=", "put the image itself there, as `src=\"data:image/…\"`");
        }
    }
}

fn numbered(source: &str) -> impl Iterator<Item = (usize, String)> {
    source.lines().enumerate().map(|(index, line)| (index + 1, line.to_ascii_lowercase()))
}

/// Renders every sample in every language.
fn try_all(pages: &Pages, folder: &Path, problems: &mut BTreeSet<PageProblem>) {
    let sessions = sample_sessions();
    for page in samples(&sessions) {
        let file = folder.join(format!("{}.html", page.name()));
        for language in Language::ALL {
            match pages.render_with(&pages.templates, &page, language, MARKUP) {
                Err(error) => {
                    problems.insert(of_template(folder, &error, "compare with the built-in template"));
                }
                Ok(html) => {
                    if html.contains(RAW) {
                        let what = "a value is written without escaping".into();
                        problems.insert(problem(
                            &file,
                            None,
                            what,
                            "remove `|safe` and `{% autoescape false %}`",
                        ));
                    }
                    for name in required_fields(&page) {
                        if !html.contains(&format!("name=\"{name}\"")) {
                            let what = format!("the form has no field `{name}`");
                            problems.insert(problem(
                                &file,
                                None,
                                what,
                                "write one as the built-in template does",
                            ));
                        }
                    }
                }
            }
        }
    }
}

fn required_fields(page: &Page<'_>) -> &'static [&'static str] {
    match page {
        Page::Login(Login { ways: [], .. }) => &[],
        Page::Login(Login { remember: Some(_), .. }) => {
            &[field::USER, field::PASSWORD, field::WAY, field::RETURN_TO, field::FORM_TOKEN, field::REMEMBER]
        }
        Page::Login(_) => &[field::USER, field::PASSWORD, field::WAY, field::RETURN_TO, field::FORM_TOKEN],
        Page::Choose(_) => {
            &[field::PROOF, field::WAY, field::USER, field::RETURN_TO, field::REMEMBER, field::END]
        }
        Page::Account(_) => &[field::FORM_TOKEN, field::END, field::OTHERS],
        Page::Logout(_) => &[field::FORM_TOKEN],
        _ => &[],
    }
}

/// Stands in every sample value; its tag must never be seen in a page.
const MARKUP: &str = "\"'><x-raw>&amp;";
const RAW: &str = "<x-raw>";

/// A session that is marked, and one that is not.
pub(super) fn sample_sessions() -> [Listed; 2] {
    let session = |marked| Listed {
        id: MARKUP.into(),
        address: MARKUP.into(),
        user_agent: MARKUP.into(),
        since: Timestamp::from_secs(0),
        used: Timestamp::from_secs(60),
        sign_in: MARKUP.into(),
        remembered: marked,
        marked,
    };
    [session(true), session(false)]
}

/// Every page with its optional parts present, and absent. Pages stand in the order of [`PAGES`].
pub(super) fn samples(sessions: &[Listed]) -> Vec<Page<'_>> {
    const ONE: &[Way<'_>] = &[Way { name: MARKUP, chosen: true }];
    const TWO: &[Way<'_>] = &[Way { name: MARKUP, chosen: false }, Way { name: "other", chosen: true }];
    const LINKS: &[Link<'_>] = &[Link { name: MARKUP, url: MARKUP }];
    let first = Login {
        ways: ONE,
        links: &[],
        remember: None,
        return_to: MARKUP,
        form_token: MARKUP,
        user: "",
        message: None,
    };
    let choose = Choose {
        sessions,
        more: 0,
        proof: MARKUP,
        way: MARKUP,
        user: MARKUP,
        return_to: MARKUP,
        remember: true,
        at_least: None,
        login_url: MARKUP,
    };
    let account = Account { subject: MARKUP, sessions, more: 0, form_token: MARKUP };
    let again = |message| Page::Login(Login { ways: TWO, user: MARKUP, message: Some(message), ..first });
    vec![
        Page::Login(first),
        again(Message::Wrong),
        again(Message::Wait(1)),
        again(Message::Busy),
        again(Message::Expired),
        again(Message::Full),
        Page::Login(Login { links: LINKS, remember: Some(true), ..first }),
        Page::Login(Login { ways: &[], links: LINKS, ..first }),
        Page::Choose(choose),
        Page::Choose(Choose { at_least: Some(2), more: 3, ..choose }),
        Page::SubjectFull,
        Page::Account(account),
        Page::Account(Account { more: 3, ..account }),
        Page::Logout(Logout { subject: MARKUP, sign_in: MARKUP, form_token: MARKUP }),
        Page::SignedOut { login_url: Some(MARKUP) },
        Page::SignedOut { login_url: None },
        Page::SignInAgain { login_url: MARKUP },
        Page::Unauthorized,
        Page::Forbidden { subject: Some(MARKUP) },
        Page::Forbidden { subject: None },
        Page::NotFound,
        Page::BadRequest,
        Page::MethodNotAllowed,
        Page::TooLarge,
        Page::TooManyRequests { seconds: 5 },
        Page::Internal,
        Page::BadGateway,
        Page::Unavailable,
        Page::GatewayTimeout,
    ]
}

/// The engine's error; it names the template that failed, which need not be the page's own.
fn of_template(folder: &Path, error: &minijinja::Error, remedy: &str) -> PageProblem {
    let file = folder.join(error.name().unwrap_or("layout.html"));
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    problem(&file, error.line(), what, remedy)
}

fn unreadable(file: &Path, error: &std::io::Error, remedy: &str) -> PageProblem {
    problem(file, None, format!("cannot be read: {error}"), remedy)
}

fn problem(file: &Path, line: Option<usize>, what: String, remedy: &str) -> PageProblem {
    PageProblem { file: file.display().to_string(), line, what, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder with these files, gone when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("vestibule-pages-{name}-{}", std::process::id()));
            let folder = Self(path);
            std::fs::create_dir(&folder.0).expect("the folder is new");
            for (file, text) in files {
                std::fs::write(folder.0.join(file), text).expect("the folder takes files");
            }
            folder
        }

        /// The problems as printed, the folder's own path left out.
        fn problems(&self) -> Vec<String> {
            let prefix = format!("{}/", self.0.display());
            let problems = Pages::load(Some(&self.0)).err().unwrap_or_default();
            problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_in_the_folder_replaces_the_page_of_that_name_and_no_other() {
        let folder = Folder::with(
            "replace",
            &[
                ("not_found.html", "Nothing here for {{ request_id }}."),
                ("style.css", "body { color: #123456 }"),
                (".draft.html.swp", "{{"),
            ],
        );
        let pages = Pages::load(Some(&folder.0)).expect("the folder has no problem");
        assert_eq!(pages.render(&Page::NotFound, Language::Chinese, "<7>"), "Nothing here for &lt;7&gt;.");
        let other = pages.render(&Page::BadRequest, Language::English, "7");
        assert!(other.contains("<h1>Request not understood</h1>"), "{other}");
        assert!(other.contains("<style>body { color: #123456 }</style>"), "{other}");
        let built_in = Pages::load(None).expect("the built-in pages have no problem");
        assert_ne!(pages.content_security_policy(), built_in.content_security_policy());
    }

    #[test]
    fn a_layout_of_the_operator_frames_the_built_in_pages() {
        let layout = "<title>{{ title }}</title><h1>Example</h1>{% block content %}{% endblock %}";
        let folder = Folder::with("layout", &[("layout.html", layout)]);
        let pages = Pages::load(Some(&folder.0)).expect("the folder has no problem");
        let html = pages.render(&Page::NotFound, Language::English, "7");
        assert!(html.contains("<h1>Example</h1>") && html.contains("Please check the address."), "{html}");
    }

    #[test]
    fn every_problem_of_a_folder_is_told_with_file_line_and_remedy() {
        let folder = Folder::with(
            "broken",
            &[
                ("not_found.html", "<p>\n{% if page %}\n"),
                ("logout.html", "{{ subject }\n"),
                ("404.html", "gone"),
                ("style.css", "@import 'x';\na {}</style><script>\n"),
                ("message.html", "<p style='color: red'>\n<script src=\"/x.js\"></script>\n"),
            ],
        );
        insta::assert_snapshot!(folder.problems().join("\n"));
    }

    #[test]
    fn a_template_that_would_fail_or_harm_a_visitor_is_refused() {
        let login = "{% extends \"layout.html\" %}{% block content %}\n{{ form_token|safe }}{% endblock %}";
        let folder = Folder::with(
            "harmful",
            &[
                ("login.html", login),
                ("forbidden.html", "<p>\n{{ subjekt }}"),
                ("internal.html", "{% include \"header.html\" %}"),
                ("bad_gateway.html", "{% for i in range(100000) %}{{ i }}{% endfor %}"),
            ],
        );
        insta::assert_snapshot!(folder.problems().join("\n"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_problem() {
        let missing = Path::new("/nonexistent/pages");
        let problems = Pages::load(Some(missing)).err().expect("the folder is missing");
        assert_eq!(
            problems[0].to_string(),
            "/nonexistent/pages: cannot be read: No such file or directory (os error 2); \
             name a readable folder, or leave `pages` out"
        );
    }

    #[test]
    fn a_file_too_large_is_refused() {
        let folder = Folder::with("large", &[("message.html", &" ".repeat(256 * 1024 + 1))]);
        assert_eq!(folder.problems(), ["message.html: the file is longer than 256 KiB; make it smaller"]);
    }
}
