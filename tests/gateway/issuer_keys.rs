//! Keys that an issuer publishes: fetched ahead of need, kept while it is down, and never worth a flood of questions.

use crate::support::authority::Authority;
use crate::support::issuer::{Issuer, Reply};
use crate::support::tokens::{AUDIENCE, ISSUER, Key};
use crate::support::wait::{now, until};
use crate::support::{Gateway, HOST, Setup, Upstream};
use serde_json::{Value, json};
use std::time::Duration;

/// A gateway whose `/api` takes tokens of `ISSUER`, with these keys.
fn setup(upstream: &Upstream, keys: &str) -> Setup {
    let jwt = entry(ISSUER, keys);
    Setup::before(upstream)
        .set("tokens", &format!("{{ api: {{ jwt: {jwt} }} }}"))
        .access("{ tokens: [api], allow: everyone }")
}

fn entry(issuer: &str, keys: &str) -> String {
    format!("{{ issuer: \"{issuer}\", audience: [{AUDIENCE}], algorithms: [ES256, RS256], keys: {keys} }}")
}

/// Keys at the issuer's `/jwks`; fetched again as seldom as the file allows unless `more` says otherwise.
fn at(issuer: &Issuer, more: &str) -> String {
    format!("{{ jwks_url: \"{}\", fetch: {{ {more} }} }}", issuer.url("/jwks"))
}

fn token(key: &Key, kid: &str) -> String {
    key.token("alice", |header, _| header["kid"] = json!(kid))
}

fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.get("/api").bearer(token).send().status()
}

fn metric(gateway: &Gateway, name: &str) -> i64 {
    gateway.metric(&format!("vestibule_token_keys{name}")) as i64
}

fn wait_for_keys(gateway: &Gateway, count: i64) {
    until(&format!("{count} keys are held"), || (metric(gateway, "{entry=\"api\"}") == count).then_some(()));
}

#[test]
fn keys_are_fetched_once_and_before_anybody_needs_them() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let gateway = setup(&upstream, &at(&issuer, "")).start();
    wait_for_keys(&gateway, 1);
    assert_eq!(issuer.asked("/jwks"), 1, "nobody has brought a token yet");
    let request = issuer.requests().remove(0);
    assert_eq!(
        (request.method(), request.header("host")),
        ("GET".into(), Some(issuer.address().to_string()))
    );
    for field in ["cookie", "authorization", "if-none-match"] {
        assert_eq!(request.header(field), None, "{field}");
    }
    for _ in 0..3 {
        assert_eq!(status(&gateway, &token(&key, "a")), 200);
        assert_eq!(upstream.last().header("x-auth-user").as_deref(), Some("alice"));
    }
    assert_eq!(status(&gateway, &token(&Key::es256(), "a")), 401, "signed by another");
    assert_eq!(issuer.asked("/jwks"), 1);
    assert_eq!(metric(&gateway, "_fetches_total{entry=\"api\",result=\"new\"}"), 1);
    assert_eq!(metric(&gateway, "_forced_fetches_total{entry=\"api\"}"), 0);
}

#[test]
fn the_issuers_own_document_says_where_its_keys_lie() {
    for (path, document, known) in [
        ("", "/.well-known/openid-configuration", true),
        ("/realms/one/", "/realms/one/.well-known/openid-configuration", true),
        ("", "/.well-known/oauth-authorization-server", true),
        ("/realms/one", "/.well-known/oauth-authorization-server/realms/one", true),
        ("/realms/one", "/realms/one/.well-known/oauth-authorization-server", false),
    ] {
        let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
        let name = issuer.url(path);
        issuer.publishes(&[key.jwk("a")]);
        let metadata =
            json!({ "issuer": name, "jwks_uri": issuer.url("/jwks"), "other": [1, { "a": null }] });
        issuer.says(document, Reply::json(&metadata));
        let jwt = entry(&name, "{ discovery: true }");
        let gateway = setup(&upstream, "").set("tokens", &format!("{{ api: {{ jwt: {jwt} }} }}")).start();
        let token = key.token("alice", |header, claims| {
            (header["kid"], claims["iss"]) = (json!("a"), json!(name));
        });
        if known {
            wait_for_keys(&gateway, 1);
            assert_eq!(status(&gateway, &token), 200, "{document}");
            assert_eq!((issuer.asked(document), issuer.asked("/jwks")), (1, 1));
        } else {
            issuer.wait_for("/.well-known/oauth-authorization-server/realms/one", 1);
            assert_eq!(status(&gateway, &token), 503, "{document}");
            assert_eq!(issuer.asked("/jwks"), 0);
        }
    }
}

#[test]
fn a_document_that_names_another_issuer_or_leads_astray_is_not_believed() {
    let key = Key::es256();
    let elsewhere = Issuer::new();
    elsewhere.publishes(&[key.jwk("a")]);
    let document = "/.well-known/openid-configuration";
    for (change, said) in [
        (json!({ "issuer": "https://evil.example" }), "names another `issuer`"),
        (json!({ "issuer": null }), "names another `issuer`"),
        (json!({ "jwks_uri": null }), "names no `jwks_uri`"),
        (json!({ "jwks_uri": "http://id.example.com/jwks" }), "plain http"),
        (json!({ "jwks_uri": "file:///etc/passwd" }), "is not a URL"),
    ] {
        let (upstream, issuer) = (Upstream::recording(), Issuer::new());
        let name = issuer.url("");
        let mut metadata = json!({ "issuer": name, "jwks_uri": elsewhere.url("/jwks") });
        for (member, value) in change.as_object().expect("an object") {
            metadata[member] = value.clone();
        }
        issuer.says(document, Reply::json(&metadata));
        let jwt = entry(&name, "{ discovery: true }");
        let gateway = setup(&upstream, "").set("tokens", &format!("{{ api: {{ jwt: {jwt} }} }}")).start();
        until("the failure is told", || {
            gateway.everything().iter().any(|line| line.contains(said)).then_some(())
        });
        let token = key.token("alice", |header, claims| {
            (header["kid"], claims["iss"]) = (json!("a"), json!(name));
        });
        assert_eq!(status(&gateway, &token), 503, "{change}");
    }
    assert_eq!(elsewhere.asked("/jwks"), 0);
}

#[test]
fn a_start_waits_for_no_issuer_and_its_tokens_get_503_until_there_are_keys() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.says("/jwks", Reply::Silence);
    let gateway = setup(&upstream, &at(&issuer, "timeout: 1s")).start();
    assert_eq!(gateway.admin("GET", "/readyz", "").status(), 200);
    let answer = gateway.get("/api").bearer(&token(&key, "a")).send();
    assert_eq!(answer.status(), 503, "nobody can say that it is wrong");
    assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
    assert_eq!(gateway.access_line(&answer)["reason"], "token_keys_unavailable");
    let other = key.token("alice", |_, claims| claims["iss"] = json!("https://other.example"));
    assert_eq!(status(&gateway, &other), 401, "that it is another's can be said");
    assert_eq!(status(&gateway, "junk"), 401);
    assert_eq!(metric(&gateway, "{entry=\"api\"}"), 0);
    until("the failure is counted", || {
        (metric(&gateway, "_fetches_total{entry=\"api\",result=\"failed\"}") >= 1).then_some(())
    });
    assert!(gateway.everything().iter().any(|line| line.contains("keys cannot be fetched")));
    issuer.publishes(&[key.jwk("a")]);
    until("the token is believed", || (status(&gateway, &token(&key, "a")) == 200).then_some(()));
    assert!(upstream.requests().len() == 1);
}

#[test]
fn a_flood_of_unknown_keys_makes_one_fetch_and_holds_up_nobody_whose_key_is_known() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let gateway = setup(&upstream, &at(&issuer, "timeout: 30s")).start();
    wait_for_keys(&gateway, 1);
    // The fetch that the flood orders never ends.
    issuer.says("/jwks", Reply::Silence);
    let other = Key::es256();
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..8)
            .map(|thread| {
                let (gateway, other) = (&gateway, &other);
                scope.spawn(move || {
                    let made = (0..4).map(|n| token(other, &format!("random-{thread}-{n}")));
                    made.map(|token| status(gateway, &token)).collect::<Vec<_>>()
                })
            })
            .collect();
        issuer.wait_for("/jwks", 2);
        for n in 0..20 {
            let began = now();
            let known = key.token("alice", |header, claims| {
                (header["kid"], claims["n"]) = (json!("a"), json!(n));
            });
            assert_eq!(status(&gateway, &known), 200);
            assert!(began.elapsed() < Duration::from_secs(2), "it waits for nothing");
        }
        for statuses in flood {
            // Whether they are good is not known: the issuer has not answered.
            assert_eq!(statuses.join().expect("no panic"), [503; 4]);
        }
    });
    assert_eq!(issuer.asked("/jwks"), 2, "one ahead of need, one for all of them");
    assert_eq!(metric(&gateway, "_forced_fetches_total{entry=\"api\"}"), 1);
}

#[test]
fn a_flood_after_the_answer_is_refused_until_the_cool_down_is_over() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let gateway = setup(&upstream, &at(&issuer, "")).start();
    wait_for_keys(&gateway, 1);
    for n in 0..300 {
        assert_eq!(status(&gateway, &token(&key, &format!("random-{n}"))), 401);
    }
    assert_eq!(issuer.asked("/jwks"), 2);
    // Tokens that say they are another's make nobody ask.
    let gateway = setup(&upstream, &at(&issuer, "")).start();
    wait_for_keys(&gateway, 1);
    let other = key.token("alice", |header, claims| {
        (header["kid"], claims["iss"]) = (json!("b"), json!("https://other.example"));
    });
    assert_eq!(status(&gateway, &other), 401);
    assert_eq!(issuer.asked("/jwks"), 3);
}

#[test]
fn a_new_key_counts_with_its_first_token_and_a_vanished_one_no_more_at_once() {
    let (upstream, issuer) = (Upstream::recording(), Issuer::new());
    let (old, new) = (Key::es256(), Key::rs256());
    issuer.publishes(&[old.jwk("old")]);
    let gateway = setup(&upstream, &at(&issuer, "cool_down: 1s")).start();
    wait_for_keys(&gateway, 1);
    let (by_old, by_new) = (token(&old, "old"), token(&new, "new"));
    assert_eq!(status(&gateway, &by_old), 200);
    assert_eq!(status(&gateway, &by_new), 401, "asked for and not there");
    issuer.publishes(&[old.jwk("old"), new.jwk("new")]);
    // The refusal is remembered for ten seconds, but not beyond the keys that it was made with.
    until("the new key counts", || (status(&gateway, &by_new) == 200).then_some(()));
    assert_eq!(status(&gateway, &by_old), 200);
    issuer.publishes(&[new.jwk("new")]);
    until("the issuer is asked again", || {
        status(&gateway, &token(&new, "another"));
        (metric(&gateway, "{entry=\"api\"}") == 1).then_some(())
    });
    assert_eq!(status(&gateway, &by_old), 401, "it was believed a moment ago");
    assert_eq!(status(&gateway, &by_new), 200);
    issuer.publishes(&[]);
    until("the issuer has taken all back", || {
        status(&gateway, &token(&new, "another"));
        (metric(&gateway, "{entry=\"api\"}") == 0).then_some(())
    });
    assert_eq!(status(&gateway, &by_new), 401);
}

#[test]
fn a_connection_that_knows_a_token_forgets_it_with_its_key() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let gateway = setup(&upstream, &at(&issuer, "refresh_min: 1s, refresh_max: 1s")).start();
    wait_for_keys(&gateway, 1);
    let request =
        format!("GET /api HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\n\r\n", token(&key, "a"));
    let mut wire = gateway.connect();
    let mut ask = || {
        wire.write(&request);
        wire.response().status()
    };
    for _ in 0..6 {
        assert_eq!(ask(), 200);
    }
    issuer.publishes(&[Key::es256().jwk("b")]);
    let fetched = "_fetches_total{entry=\"api\",result=\"new\"}";
    until("the other key is held", || (metric(&gateway, fetched) == 2).then_some(()));
    assert_eq!(ask(), 401);
}

#[test]
fn unchanged_keys_are_not_sent_twice() {
    let (upstream, key) = (Upstream::recording(), Key::es256());
    let set = json!({ "keys": [key.jwk("a")] });
    let issuer = Issuer::answering(move |request| {
        let is_known = request.header("if-none-match").as_deref() == Some("\"v1\"");
        let reply = if is_known {
            Reply::status("304 Not Modified")
        } else {
            Reply::json(&set).with("ETag", "\"v1\"")
        };
        Some(reply.with("Cache-Control", "max-age=0"))
    });
    let gateway = setup(&upstream, &at(&issuer, "refresh_min: 1s")).start();
    wait_for_keys(&gateway, 1);
    issuer.wait_for("/jwks", 3);
    assert_eq!(issuer.requests()[1].header("if-none-match").as_deref(), Some("\"v1\""));
    until("they count as unchanged", || {
        (metric(&gateway, "_fetches_total{entry=\"api\",result=\"unchanged\"}") >= 2).then_some(())
    });
    assert_eq!(metric(&gateway, "_fetches_total{entry=\"api\",result=\"new\"}"), 1);
    assert!(metric(&gateway, "_age_seconds{entry=\"api\"}") < 10);
    assert_eq!(status(&gateway, &token(&key, "a")), 200);
}

#[test]
fn the_last_good_keys_count_while_the_issuer_is_down_but_not_for_ever() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let more = "refresh_min: 1s, refresh_max: 1s, max_stale: 4s";
    let gateway = setup(&upstream, &at(&issuer, more)).start();
    wait_for_keys(&gateway, 1);
    issuer.says("/jwks", Reply::status("503 Service Unavailable"));
    let failures = || metric(&gateway, "_fetches_total{entry=\"api\",result=\"failed\"}");
    until("it fails", || (failures() >= 1).then_some(()));
    assert_eq!(status(&gateway, &token(&key, "a")), 200, "the last good set counts");
    wait_for_keys(&gateway, 0);
    assert_eq!(status(&gateway, &token(&key, "a")), 503, "believed before, and nobody knows by now");
    issuer.publishes(&[key.jwk("a")]);
    until("it is believed again", || (status(&gateway, &token(&key, "a")) == 200).then_some(()));
}

#[test]
fn an_answer_that_is_no_set_changes_nothing() {
    let key = Key::es256();
    let elsewhere = Issuer::new();
    elsewhere.publishes(&[key.jwk("a")]);
    let huge = json!({ "keys": [key.jwk("a")], "padding": "x".repeat(600 * 1024) });
    let many = json!({ "keys": vec![key.jwk("a"); 101] });
    for (reply, said) in [
        (Reply::json(&huge), "longer than"),
        (Reply::json(&many), "101 keys"),
        (Reply::json(&json!({ "keys": { "a": 1 } })), "no JWK Set"),
        (Reply::Says("200 OK", Vec::new(), "<html>sign in</html>".into()), "no JWK Set"),
        (Reply::Says("200 OK", Vec::new(), "{\"keys\":[],\"keys\":[]}".into()), "no JWK Set"),
        (Reply::status("302 Found").with("Location", &elsewhere.url("/jwks")), "status 302"),
        (Reply::status("301 Moved Permanently").with("Location", &elsewhere.url("/jwks")), "status 301"),
        (Reply::status("304 Not Modified"), "status 304"),
        (Reply::status("401 Unauthorized"), "status 401"),
    ] {
        let (upstream, issuer) = (Upstream::recording(), Issuer::new());
        issuer.says("/jwks", reply);
        let gateway = setup(&upstream, &at(&issuer, "")).start();
        until(&format!("`{said}` is told"), || {
            gateway.everything().iter().any(|line| line.contains(said)).then_some(())
        });
        assert_eq!(status(&gateway, &token(&key, "a")), 503, "{said}");
    }
    assert!(elsewhere.requests().is_empty(), "no redirect is followed");
}

#[test]
fn a_worse_answer_takes_no_good_key_away() {
    let key = Key::es256();
    for (reply, said) in [
        (Reply::json(&json!({ "keys": vec![key.jwk("a"); 101] })), "101 keys"),
        (Reply::Says("200 OK", Vec::new(), "<html>sign in</html>".into()), "no JWK Set"),
        (Reply::status("500 Internal Server Error"), "status 500"),
    ] {
        let (upstream, issuer) = (Upstream::recording(), Issuer::new());
        issuer.publishes(&[key.jwk("a")]);
        let gateway = setup(&upstream, &at(&issuer, "")).start();
        wait_for_keys(&gateway, 1);
        issuer.says("/jwks", reply);
        assert_eq!(status(&gateway, &token(&Key::es256(), "b")), 401, "an unknown key makes a fetch");
        until(&format!("`{said}` is told"), || {
            gateway.everything().iter().any(|line| line.contains(said)).then_some(())
        });
        assert_eq!(metric(&gateway, "{entry=\"api\"}"), 1, "{said}");
        assert_eq!(status(&gateway, &token(&key, "a")), 200, "{said}");
    }
}

#[test]
fn one_bad_key_does_not_spoil_the_others() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    let weak = json!({ "kty": "RSA", "kid": "weak", "e": "AQAB", "n": "x".repeat(171) });
    let mut encrypts = Key::es256().jwk("encrypts");
    encrypts["use"] = json!("enc");
    issuer.publishes(&[weak, json!({ "kty": "EC", "crv": "P-999" }), encrypts, key.jwk("a")]);
    let gateway = setup(&upstream, &at(&issuer, "")).start();
    wait_for_keys(&gateway, 1);
    assert_eq!(status(&gateway, &token(&key, "a")), 200);
    let told = |said: &str| gateway.everything().iter().filter(|line| line.contains(said)).count();
    until("both are told", || {
        (told("a published key is not used: keys[0]") == 1 && told("keys[1]") == 1).then_some(())
    });
    assert_eq!(told("keys[2]"), 0, "a key for another purpose is nothing to tell of");
}

#[test]
fn keys_outlive_a_reload() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let mut gateway = setup(&upstream, &at(&issuer, "timeout: 30s")).start();
    wait_for_keys(&gateway, 1);
    // From now on nobody answers: what counts was there before.
    issuer.says("/jwks", Reply::Silence);
    let good = token(&key, "a");
    for drain in ["1s", "2s"] {
        gateway.reload_with("drain", drain);
        assert_eq!(status(&gateway, &good), 200);
    }
    assert_eq!(issuer.asked("/jwks"), 1, "nothing of it has changed");
    let tokens = |name: &str, keys: &str| format!("{{ {name}: {{ jwt: {} }} }}", entry(ISSUER, keys));
    gateway.reload_with("tokens", &tokens("api", &at(&issuer, "timeout: 30s, cool_down: 5s")));
    assert_eq!(status(&gateway, &good), 200, "the place is the same");
    issuer.wait_for("/jwks", 2);
    let elsewhere = Issuer::new();
    elsewhere.publishes(&[Key::es256().jwk("a")]);
    gateway.reload_with("tokens", &tokens("api", &at(&elsewhere, "")));
    until("the other keys are there", || (status(&gateway, &good) == 401).then_some(()));
}

#[test]
fn two_entries_of_one_issuer_fetch_once() {
    let (upstream, issuer, key) = (Upstream::recording(), Issuer::new(), Key::es256());
    issuer.publishes(&[key.jwk("a")]);
    let jwt = entry(ISSUER, &at(&issuer, ""));
    let blog = jwt.replace(AUDIENCE, "blog");
    let gateway = setup(&upstream, "")
        .set("tokens", &format!("{{ blog: {{ jwt: {blog} }}, api: {{ jwt: {jwt} }} }}"))
        .access("{ tokens: [blog, api], same_people: true, allow: everyone }")
        .start();
    wait_for_keys(&gateway, 1);
    assert_eq!(metric(&gateway, "{entry=\"blog\"}"), 1);
    assert_eq!(status(&gateway, &token(&key, "a")), 200);
    assert_eq!(status(&gateway, &token(&key, "b")), 401);
    assert_eq!(issuer.asked("/jwks"), 2, "one ahead of need, one for the unknown key");
}

#[test]
fn an_issuer_is_proved_by_its_certificate() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let key = Key::es256();
    for (authority, name, known) in
        [(&ours, "localhost", true), (&others, "localhost", false), (&ours, "other", false)]
    {
        let set: Value = json!({ "keys": [key.jwk("a")] });
        let issuer = Issuer::with_tls(&authority.signs(name), None, move |_| Some(Reply::json(&set)));
        let url = format!("https://localhost:{}/jwks", issuer.address().port());
        let upstream = Upstream::recording();
        let gateway = setup(&upstream, &format!("{{ jwks_url: \"{url}\", fetch: {{ ca: issuer.pem }} }}"))
            .file("issuer.pem", &ours.pem)
            // Neither a proxy nor other authorities out of the environment.
            .environment("HTTPS_PROXY", "http://127.0.0.1:1")
            .environment("ALL_PROXY", "http://127.0.0.1:1")
            .start();
        if known {
            wait_for_keys(&gateway, 1);
            assert_eq!(status(&gateway, &token(&key, "a")), 200);
        } else {
            until("the failure is told", || {
                gateway.everything().iter().any(|line| line.contains("TLS failed")).then_some(())
            });
            assert_eq!(status(&gateway, &token(&key, "a")), 503);
        }
    }
}
