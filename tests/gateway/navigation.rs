//! How a refusal is shown: a redirect or a page to a browser, a problem document to everybody else; and caches.

use crate::support::client::NAVIGATION;
use crate::support::{Answer, Gateway, Setup, Upstream};
use serde_json::json;

#[test]
fn a_stranger_is_answered_as_befits_the_request() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let login = "/_vestibule/login?return_to=%2Fpage";
    for (name, method, fields, status, location) in [
        ("a click", "GET", &NAVIGATION[..], 302, Some(login)),
        ("a link check", "HEAD", &NAVIGATION, 302, Some(login)),
        (
            "an old browser",
            "GET",
            &[("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")],
            302,
            Some(login),
        ),
        ("a form", "POST", &NAVIGATION, 401, None),
        ("a script", "GET", &[("Sec-Fetch-Mode", "cors"), ("Accept", "text/html")], 401, None),
        ("a picture", "GET", &[("Sec-Fetch-Mode", "no-cors"), ("Accept", "image/*")], 401, None),
        ("a program", "GET", &[("Accept", "*/*")], 401, None),
        ("a bare program", "GET", &[], 401, None),
        ("a program that posts", "POST", &[("Accept", "application/json")], 401, None),
    ] {
        let answer = gateway.request(method, "/page").headers(fields).send();
        assert_eq!(answer.status(), status, "{name}");
        assert_eq!(answer.header("location").as_deref(), location, "{name}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{name}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{name}");
        assert!(answer.header("x-request-id").is_some(), "{name}");
        assert_eq!(answer.header("server"), None, "{name}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_program_gets_a_problem_document_that_names_the_way_in() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.get("/page?a=1").send();
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
    let id = answer.header("x-request-id");
    assert_eq!(
        answer.json(),
        json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "please sign in",
            "request_id": id, "login": "https://wiki.example.com/_vestibule/login?return_to=%2Fpage%3Fa%3D1",
        })
    );
}

#[test]
fn a_form_that_comes_too_late_is_not_lost_in_a_redirect() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.post("/page").headers(&NAVIGATION).form(&[("text", "an hour of typing")]).send();
    assert_eq!(answer.status(), 401);
    assert!(
        answer.text().contains("_vestibule&#x2f;login") && answer.text().contains("target=\"_blank\""),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("an hour of typing"));
}

#[test]
fn every_dead_token_reads_the_same_to_the_visitor() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    let dead = alice.stolen_cookie();
    alice.sign_out(false);
    let details: Vec<String> = [
        None,
        Some(dead),
        Some("__Host-session=junk".to_owned()),
        Some(format!("__Host-session={}", "A".repeat(54))),
    ]
    .into_iter()
    .map(|cookie| {
        let mut request = gateway.get("/page");
        if let Some(cookie) = &cookie {
            request = request.header("Cookie", cookie);
        }
        let mut answer = request.send().json();
        answer["request_id"] = json!(null);
        answer.to_string()
    })
    .collect();
    assert!(details.iter().all(|detail| *detail == details[0]), "{details:?}");
    // The operator sees why.
    gateway.wait_for_line("about the dead one", |line| line["status"] == 401 && line["reason"] == "sign_out");
}

#[test]
fn a_refused_visitor_may_sign_out_and_come_as_another() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let bob = gateway.browser();
    bob.sign_in("bob");
    let page = bob.get("/ops").headers(&NAVIGATION).send();
    assert_eq!(page.status(), 403);
    assert!(page.text().contains("bob") && page.text().contains("/_vestibule/logout"), "{}", page.text());
    let told = bob.get("/ops").send();
    assert_eq!(
        (told.status(), told.header("content-type").as_deref()),
        (403, Some("application/problem+json"))
    );
}

#[test]
fn pages_of_ours_allow_no_script_and_no_frame() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    for path in ["/_vestibule/login", "/_vestibule/logout", "/_vestibule/nothing"] {
        let page = gateway.get(path).headers(&NAVIGATION).send();
        let policy = page.header("content-security-policy").unwrap_or_else(|| panic!("{path} has a policy"));
        for wanted in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(wanted), "{path}: {policy}");
        }
        assert!(!policy.contains("script-src"), "{policy}");
        assert_eq!(page.header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(page.header("cache-control").as_deref(), Some("no-store"));
        assert!(page.header("referrer-policy").is_some());
    }
}

#[test]
fn answers_that_depend_on_the_visitor_stay_out_of_shared_caches() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    for (path, sent, cache_control, varies) in [
        ("/public", Some("public, max-age=60"), Some("public, max-age=60"), false),
        ("/public", None, None, false),
        ("/page", Some("public, max-age=60, s-maxage=600"), Some("private, max-age=60"), true),
        ("/page", Some("no-store"), Some("no-store"), true),
        ("/page", Some("PUBLIC"), Some("private"), true),
        ("/page", None, Some("private"), true),
    ] {
        let fields: Vec<(&str, &str)> =
            sent.into_iter().map(|value| ("Cache-Control", value)).chain([("Vary", "Accept")]).collect();
        upstream.next(Answer::ok(&fields));
        let answer = alice.get(path).send();
        assert_eq!(answer.header("cache-control").as_deref(), cache_control, "{path} {sent:?}");
        let vary = answer.all("vary").join(", ");
        assert_eq!(vary, if varies { "Accept, Cookie, Authorization" } else { "Accept" }, "{path} {sent:?}");
    }
}

#[test]
fn where_there_is_no_way_in_a_browser_gets_a_page_and_no_redirect() {
    let upstream = Upstream::recording();
    let key = crate::support::tokens::Key::es256();
    let gateway = Setup::before(&upstream)
        .set(
            "tokens",
            "{ api: { jwt: { issuer: \"https://id.example.com\", audience: [wiki], algorithms: [ES256], keys: { public_key: token.key } } } }",
        )
        .file("token.key", &key.file())
        .access("{ tokens: [api], allow: everyone }")
        .without("sign_in")
        .start();
    let answer = gateway.get("/page").headers(&NAVIGATION).send();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.header("location"), None);
    assert!(answer.header("content-type").expect("a type").starts_with("text/html"));
    assert!(answer.header("www-authenticate").expect("a challenge").starts_with("Bearer"));
    let program = gateway.get("/page").send().json();
    assert!(program["login"].is_null(), "{program}");
}

#[test]
fn the_way_in_is_named_by_the_host_of_the_route_and_never_by_the_request() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("external_url", "https://wiki.example.com")
        .set("listeners", "[{ address: \"127.0.0.1:{public}\" }]")
        .routes(&["{ name: all, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }"])
        .start();
    for host in ["wiki.example.com", "evil.example", "127.0.0.1"] {
        let answer = gateway.get("/page").host(host).header("X-Forwarded-Host", "evil.example").send().json();
        assert_eq!(answer["login"], "https://wiki.example.com/_vestibule/login?return_to=%2Fpage", "{host}");
    }
}
