//! `explain --token -`: every check of a token with its result, and what a request with it would meet. It asks nobody.

use crate::support::command::{Outcome, vestibule};
use crate::support::issuer::Issuer;
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::unix_now;
use crate::support::{Setup, Upstream};
use serde_json::json;

fn explain(setup: Setup, url: &str, token: &str) -> Outcome {
    let folder = setup.write();
    vestibule(folder.path(), &["explain", "-c", "vestibule.yaml", "GET", url, "--token", "-"], token)
}

fn setup(upstream: &Upstream, tokens: &str, routes: &[&str]) -> Setup {
    Setup::before(upstream).set("tokens", tokens).routes(routes).file("asking.secret", "s3cret")
}

fn jwt(key: &Key, audience: &str, keys: &str) -> String {
    format!(
        "jwt: {{ issuer: \"{ISSUER}\", audience: [{audience}], algorithms: [{}], keys: {keys} }}",
        key.algorithm()
    )
}

/// The result of a check of one entry, as it is printed.
fn outcome_of<'a>(out: &'a str, entry: &str, check: &str) -> &'a str {
    let lines = out.lines().skip_while(|line| !line.ends_with(&format!("as one of `{entry}`"))).skip(1);
    let mut checks = lines.map_while(|line| line.strip_prefix("check:")).map(str::split_whitespace);
    let found = checks.find_map(|mut words| {
        let outcome = words.next()?;
        (words.next() == Some(check)).then_some(outcome)
    });
    found.unwrap_or_else(|| panic!("no check `{check}` of `{entry}`:\n{out}"))
}

#[test]
fn every_check_is_told_with_its_result_and_not_only_the_first_that_fails() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let entry = format!("{{ api: {{ {} }} }}", jwt(&key, AUDIENCE, "{ public_key: token.key }"));
    let route = "{ name: api, host: wiki.example.com, path: /, upstream: app, access: { tokens: [api], allow: { groups: [ops] } } }";
    let asked = |token: &str| {
        let setup = setup(&upstream, &entry, &[route]).file("token.key", &key.file());
        explain(setup, "https://wiki.example.com/x", token)
    };
    let good = asked(&key.good("alice"));
    assert_eq!(good.code, 0, "{good:?}");
    for check in
        ["size", "header", "payload", "typ", "alg", "signature", "iss", "aud", "exp", "subject", "verdict"]
    {
        assert_eq!(outcome_of(&good.out, "api", check), "holds", "{check}");
    }
    assert!(
        good.out.contains("decision:  passes") && good.out.contains("x-auth-user: alice"),
        "{}",
        good.out
    );

    let late = key.token("alice", |_, claims| {
        claims["exp"] = json!(unix_now() - 3600);
        claims["aud"] = json!("blog");
    });
    let refused = asked(&late);
    assert_eq!(refused.code, 1, "{refused:?}");
    for (check, expected) in
        [("signature", "holds"), ("iss", "holds"), ("aud", "fails"), ("exp", "fails"), ("verdict", "fails")]
    {
        assert_eq!(outcome_of(&refused.err, "api", check), expected, "{check}");
    }
    assert!(!refused.err.contains(&late), "the token itself is not told");

    let none = asked("Bearer eyJ");
    assert_eq!(none.code, 1);
    assert!(none.err.contains("without `Bearer`"), "{none:?}");
}

#[test]
fn a_server_that_would_be_asked_is_named_and_not_asked() {
    let upstream = Upstream::recording();
    let issuer = Issuer::answering(|_| None);
    let key = Key::es256();
    let url = issuer.url("/introspect");
    let tokens = format!(
        "{{ partner: {{ introspection: {{ url: \"{url}\", client_id: gw, client_secret: {{ file: asking.secret }} }} }}, api: {{ {} }} }}",
        jwt(&key, AUDIENCE, "{ public_key: token.key }")
    );
    let routes = [
        "{ name: both, host: wiki.example.com, path: /both, upstream: app, access: { tokens: [partner, api], same_people: true, allow: { groups: [ops] } } }",
        "{ name: api, host: wiki.example.com, path: /api, upstream: app, access: { tokens: [api], allow: everyone } }",
    ];
    let asked = |path: &str, token: &str| {
        let setup = setup(&upstream, &tokens, &routes).file("token.key", &key.file());
        explain(setup, &format!("https://wiki.example.com{path}"), token)
    };
    let opaque = asked("/both", "2YotnFZFEjr1zCsicMWpAA");
    assert_eq!(opaque.code, 0, "{opaque:?}");
    assert_eq!(outcome_of(&opaque.out, "partner", "active"), "open");
    assert_eq!(outcome_of(&opaque.out, "api", "form"), "fails");
    for part in [&*url, "decision:  not to be said here", "groups ops"] {
        assert!(opaque.out.contains(part), "`{part}` is missing:\n{}", opaque.out);
    }
    // A signature proves this one, though the other entry is listed before.
    let signed = asked("/both", &key.good("alice"));
    assert!(signed.out.contains("decision:  passes"), "{}", signed.out);
    // Nobody is asked for a route that does not list the entry.
    let elsewhere = asked("/api", "2YotnFZFEjr1zCsicMWpAA");
    assert!(elsewhere.out.contains("decision:  401 unauthorized"), "{}", elsewhere.out);
    assert_eq!(issuer.requests().len(), 0, "explain asks nobody");
}

#[test]
fn keys_that_only_a_running_gateway_has_leave_the_signature_open() {
    let upstream = Upstream::recording();
    let issuer = Issuer::answering(|_| None);
    let key = Key::es256();
    let keys = format!("{{ jwks_url: \"{}\" }}", issuer.url("/jwks"));
    let tokens =
        format!("{{ api: {{ {} }}, blog: {{ {} }} }}", jwt(&key, AUDIENCE, &keys), jwt(&key, "blog", &keys));
    let route = "{ name: all, host: wiki.example.com, path: /, upstream: app, access: { tokens: [blog, api], allow: { groups: [ops] } } }";
    let asked =
        |token: &str| explain(setup(&upstream, &tokens, &[route]), "https://wiki.example.com/x", token);
    let good = asked(&key.good("alice"));
    assert_eq!(good.code, 0, "{good:?}");
    for (entry, check, expected) in [
        ("api", "signature", "open"),
        ("api", "aud", "holds"),
        ("api", "verdict", "open"),
        ("blog", "aud", "fails"),
        ("blog", "verdict", "fails"),
    ] {
        assert_eq!(outcome_of(&good.out, entry, check), expected, "{entry} {check}");
    }
    assert!(
        good.out.contains("decision:  not to be said here") && good.out.contains("`api`"),
        "{}",
        good.out
    );
    // What is wrong besides needs no keys.
    let foreign = asked(&key.token("alice", |_, claims| claims["iss"] = json!("https://evil.example")));
    assert_eq!(foreign.code, 1, "{foreign:?}");
    assert_eq!(outcome_of(&foreign.err, "api", "iss"), "fails");
    assert_eq!(issuer.requests().len(), 0, "explain asks nobody");
}

#[test]
fn of_several_entries_that_believe_the_route_s_first_counts() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let keys = "{ public_key: token.key }";
    let tokens = format!(
        "{{ wide: {{ {} }}, narrow: {{ {} }} }}",
        jwt(&key, AUDIENCE, keys),
        jwt(&key, AUDIENCE, keys)
    );
    let route = "{ name: one, host: wiki.example.com, path: /, upstream: app, access: { tokens: [narrow], allow: everyone } }";
    let setup = setup(&upstream, &tokens, &[route]).file("token.key", &key.file());
    let outcome = explain(setup, "https://wiki.example.com/x", &key.good("alice"));
    assert!(outcome.out.contains("decision:  passes"), "{}", outcome.out);
}
