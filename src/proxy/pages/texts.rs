//! What the pages say, in each language.
//!
//! One line per text: its name, English, Simplified Chinese. A page finds its title as `PAGE_title` and its
//! sentence as `PAGE_text`; templates read every text as `text.NAME`. `{wait}` stands for a span such as "20 seconds", other
//! names in braces for what they say.

use super::Language;
use minijinja::value::{Serde, Value};
use std::collections::BTreeMap;

/// Name, English, Simplified Chinese.
pub(super) const TEXTS: &[(&str, &str, &str)] = &[
    ("login_title", "Sign in", "登录"),
    ("login_text", "", ""),
    ("login_way", "Sign in with", "登录方式"),
    ("login_user", "User name", "用户名"),
    ("login_password", "Password", "密码"),
    ("login_button", "Sign in", "登录"),
    ("login_link", "Sign in", "登录"),
    ("login_wrong", "The user name or the password is not right.", "用户名或密码不正确。"),
    ("login_wait", "Too many attempts. Please try again in {wait}.", "尝试次数过多，请在{wait}后重试。"),
    (
        "login_busy",
        "Many people are signing in right now. Please try again in a few seconds.",
        "当前登录的人较多，请几秒后重试。",
    ),
    (
        "login_expired",
        "This page was open for too long, or the browser did not accept its cookie. Please try again.",
        "页面打开时间过长，或浏览器未接受 Cookie，请重试。",
    ),
    (
        "login_full",
        "No further sign-in is possible right now. Please try again later.",
        "暂时无法接受新的登录，请稍后重试。",
    ),
    ("login_remember", "Keep me signed in on this device", "在此设备上保持登录"),
    ("login_with", "Sign in with", "登录方式："),
    ("choose_title", "Too many places at once", "登录的地方过多"),
    (
        "choose_text",
        "Your password is right, but you are signed in at as many places as is allowed. End one of them to sign in here.",
        "密码正确，但您登录的地方已达上限。请退出其中一个，以便在此登录。",
    ),
    ("choose_which", "End these", "要退出的登录"),
    ("choose_button", "End these and sign in", "退出所选并登录"),
    ("choose_all", "End all and sign in", "全部退出并登录"),
    ("choose_cancel", "Do not sign in", "取消登录"),
    ("choose_more", "Please choose at least {count}.", "请至少选择 {count} 个。"),
    ("subject_full_title", "Too many places at once", "登录的地方过多"),
    (
        "subject_full_text",
        "You are signed in at as many places as is allowed. Sign out at one of them, then try again.",
        "您登录的地方已达上限。请先在其中一处退出登录，然后重试。",
    ),
    ("account_title", "Where you are signed in", "您登录的地方"),
    (
        "account_text",
        "Each line is a browser that is signed in as you. End those that you do not know.",
        "每一行是一个以您的身份登录的浏览器。如有您不认识的，请将其退出。",
    ),
    ("account_more", "And {count} more that are not shown.", "另有 {count} 个未显示。"),
    ("account_others", "End all others", "退出其他所有登录"),
    ("account_back", "Back to the start page", "返回首页"),
    ("session_browser", "Browser", "浏览器"),
    ("session_on", "{browser} on {system}", "{system} 上的 {browser}"),
    ("session_nameless", "A browser without a name", "未知浏览器"),
    ("session_address", "Address", "地址"),
    ("session_since", "Since", "登录时间"),
    ("session_used", "Last use", "最近使用"),
    ("session_this", "this one", "当前"),
    ("session_remembered", "(kept signed in)", "（保持登录）"),
    ("session_end", "End", "退出"),
    ("logout_title", "Sign out?", "要退出登录吗？"),
    ("logout_text", "", ""),
    ("logout_everywhere", "On all my devices", "同时退出我的所有设备"),
    ("logout_button", "Sign out", "退出登录"),
    ("logout_account", "Where else am I signed in?", "查看我登录的其他地方"),
    ("logout_stay", "Stay signed in", "保持登录"),
    ("signed_out_title", "You are signed out", "您已退出登录"),
    ("signed_out_text", "You may close this page.", "您可以关闭此页面。"),
    ("sign_in_again_title", "Please sign in again", "请重新登录"),
    (
        "sign_in_again_text",
        "You are not signed in any more, and what you just sent has not arrived. To send it again, keep this page open:",
        "您的登录已失效，刚才提交的内容尚未送达。如需重新提交，请不要关闭此页面：",
    ),
    ("again_sign_in", "Sign in in a new tab.", "在新标签页中登录。"),
    ("again_come_back", "Come back to this tab.", "返回此标签页。"),
    ("again_reload", "Reload the page, and confirm that it is sent again.", "刷新页面，并确认重新提交。"),
    ("unauthorized_title", "Not signed in", "未登录"),
    (
        "unauthorized_text",
        "There is no sign-in page for this address. Please ask its operator for access.",
        "此地址没有登录页面，请联系管理员获取访问权限。",
    ),
    ("forbidden_title", "No access", "无权访问"),
    ("forbidden_text", "This page is not open to you.", "您没有访问此页面的权限。"),
    ("forbidden_other", "Sign out, to sign in as somebody else", "退出登录并使用其他账号"),
    ("not_found_title", "No such page", "页面不存在"),
    ("not_found_text", "Please check the address.", "请检查网址是否正确。"),
    ("bad_request_title", "Request not understood", "无法理解此请求"),
    (
        "bad_request_text",
        "The address, or what was sent with it, is not well-formed.",
        "网址或随其发送的内容格式不正确。",
    ),
    ("method_not_allowed_title", "Not possible here", "不支持此操作"),
    (
        "method_not_allowed_text",
        "This page does not take requests of this kind.",
        "此页面不接受这种类型的请求。",
    ),
    ("unavailable_title", "Not available right now", "暂时不可用"),
    ("unavailable_text", "Please try again in a moment.", "请稍后重试。"),
    ("bad_gateway_title", "The application does not answer", "应用没有响应"),
    ("bad_gateway_text", "Please try again in a moment.", "请稍后重试。"),
    ("gateway_timeout_title", "The application takes too long", "应用响应超时"),
    (
        "gateway_timeout_text",
        "What you sent may have arrived all the same. Please look before you send it again.",
        "您提交的内容可能已经送达，重新提交前请先确认。",
    ),
    ("too_many_requests_title", "Too many requests", "请求过于频繁"),
    ("too_many_requests_text", "Please try again in {wait}.", "请在{wait}后重试。"),
    ("too_large_title", "Too large", "内容过大"),
    ("too_large_text", "What you sent is larger than this page takes.", "您提交的内容超出了此页面的上限。"),
    ("internal_title", "Something went wrong here", "出现错误"),
    (
        "internal_text",
        "Please try again. If it happens again, tell the operator the request number below.",
        "请重试。如果问题再次出现，请将下方的请求编号告知管理员。",
    ),
    ("user", "User", "用户"),
    ("way", "Signed in with", "登录方式"),
    ("request", "Request", "请求编号"),
];

/// Looks a text up.
pub(super) fn text(language: Language, name: &str) -> &'static str {
    let found = TEXTS.iter().find(|(held, _, _)| *held == name);
    let (_, english, chinese) = found.expect("the tests below ask for every name that the code asks for");
    match language {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

/// The `title` or the `text` of a page.
pub(super) fn of_page(language: Language, page: &str, part: &str) -> &'static str {
    text(language, &format!("{page}_{part}"))
}

/// Every text of a language by its name, for the templates.
pub(super) fn all(language: Language) -> Value {
    let by_name: BTreeMap<&str, &str> =
        TEXTS.iter().map(|(name, _, _)| (*name, text(language, name))).collect();
    Value::from(Serde(by_name))
}

/// A span for people, never shorter than what it stands for.
pub(super) fn wait(language: Language, seconds: u64) -> String {
    let (count, unit) = if seconds < 120 { (seconds, "second") } else { (seconds.div_ceil(60), "minute") };
    match (language, unit) {
        (Language::English, _) => format!("{count} {unit}{}", if count == 1 { "" } else { "s" }),
        (Language::Chinese, "second") => format!(" {count} 秒"),
        (Language::Chinese, _) => format!(" {count} 分钟"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::pages::{BUILT_IN, PAGES};
    use std::collections::BTreeSet;

    #[test]
    fn every_text_exists_once_and_in_both_languages() {
        let mut seen = BTreeSet::new();
        for (name, english, chinese) in TEXTS {
            assert!(seen.insert(*name), "`{name}` stands twice");
            assert_eq!(english.is_empty(), chinese.is_empty(), "`{name}` lacks a language");
            assert!(english.is_ascii(), "`{name}`: the English text stands first");
            let translated =
                chinese.is_empty() || chinese.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
            assert!(translated, "`{name}`: the Chinese text has no Chinese character");
            for value in ["{wait}", "{count}", "{browser}", "{system}"] {
                assert_eq!(english.contains(value), chinese.contains(value), "`{name}` loses `{value}`");
            }
        }
        for page in PAGES {
            for part in ["title", "text"] {
                let name = format!("{page}_{part}");
                assert!(seen.contains(name.as_str()), "`{name}` is missing");
            }
        }
    }

    #[test]
    fn every_text_is_used() {
        let templates: String = BUILT_IN.iter().map(|(_, source)| *source).collect();
        for (name, _, _) in TEXTS {
            let of_a_page = PAGES
                .iter()
                .any(|page| name.strip_prefix(page).is_some_and(|rest| matches!(rest, "_title" | "_text")));
            let of_a_message =
                matches!(*name, "login_wrong" | "login_wait" | "login_busy" | "login_expired" | "login_full");
            let with_values =
                matches!(*name, "choose_more" | "account_more" | "session_on" | "session_nameless");
            let shown = templates.contains(&format!("text.{name} }}}}"));
            assert!(of_a_page || of_a_message || with_values || shown, "`{name}` is not used");
        }
    }

    #[test]
    fn spans_are_told_in_words() {
        for (seconds, english, chinese) in [
            (1, "1 second", " 1 秒"),
            (119, "119 seconds", " 119 秒"),
            (120, "2 minutes", " 2 分钟"),
            (121, "3 minutes", " 3 分钟"),
        ] {
            assert_eq!(wait(Language::English, seconds), english);
            assert_eq!(wait(Language::Chinese, seconds), chinese);
        }
    }
}
