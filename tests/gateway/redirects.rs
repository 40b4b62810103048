//! A route that leads elsewhere: after the decision, to where the file says, and nowhere else.

use crate::support::client::NAVIGATION;
use crate::support::{Gateway, HOST, Setup, Upstream};

fn gateway(upstream: &Upstream) -> Gateway {
    let route = |name: &str, path: &str, access: &str, redirect: &str| {
        format!("{{ name: {name}, host: {HOST}, path: {path}, access: {access}, redirect: {redirect} }}")
    };
    let ops = "{ sign_in: [local], allow: { groups: [ops] } }";
    Setup::before(upstream)
        .routes(&[
            &route("plain", "\"= /plain\"", "public", "{ to: \"https://new.example.com\" }"),
            &route(
                "kept",
                "/kept",
                "public",
                "{ to: \"https://new.example.com/wiki\", status: 308, keep_path: true, keep_query: true }",
            ),
            &route("here", "/here", "public", "{ to: /page, status: 303, keep_query: true }"),
            &route(
                "gone",
                "/gone",
                "public",
                "{ to: \"http://new.example.com:8080/?from=old\", status: 301 }",
            ),
            &route("ops", "/ops", ops, "{ to: \"https://ops.example.com/\", keep_path: true }"),
            &format!("{{ name: rest, host: {HOST}, path: /, access: public, upstream: app }}"),
        ])
        .start()
}

#[test]
fn a_redirect_leads_where_the_file_says_and_asks_no_application() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream);
    for (method, asked, status, location) in [
        ("GET", "/plain?q=1", 302, "https://new.example.com/"),
        ("GET", "/kept", 308, "https://new.example.com/wiki"),
        (
            "GET",
            "/kept/a/b?q=1&r=https://evil.example",
            308,
            "https://new.example.com/wiki/a/b?q=1&r=https://evil.example",
        ),
        ("POST", "/kept/%61", 308, "https://new.example.com/wiki/a"),
        ("HEAD", "/kept;x/@evil.example/", 308, "https://new.example.com/wiki/@evil.example/"),
        ("GET", "/here/x?q", 303, "/page?q"),
        ("DELETE", "/gone?q", 301, "http://new.example.com:8080/?from=old"),
    ] {
        let answer = gateway.request(method, asked).send();
        assert_eq!(answer.status(), status, "{method} {asked}");
        assert_eq!(answer.header("location").as_deref(), Some(location), "{method} {asked}");
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{method} {asked}");
        assert!(answer.body.is_empty() && answer.all("set-cookie").is_empty());
        let line = gateway.access_line(&answer);
        assert_eq!((&line["status"], &line["decision"]), (&status.into(), &"public".into()), "{line}");
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn no_request_makes_it_lead_elsewhere() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream);
    for asked in [
        "/kept//evil.example",
        "/kept/\\evil.example",
        "/kept/%5cevil.example",
        "/kept/../evil.example",
        "/kept/%0d%0aSet-Cookie:x",
    ] {
        let answer = gateway.get(asked).send();
        assert_eq!((answer.status(), answer.header("location")), (400, None), "{asked}");
    }
    let answer = gateway.get("/here").host("evil.example").header("X-Forwarded-Host", "evil.example").send();
    assert_eq!((answer.status(), answer.header("location")), (404, None));
}

#[test]
fn a_guarded_redirect_asks_for_a_sign_in_first() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream);
    let stranger = gateway.get("/ops/x").headers(&NAVIGATION).send();
    assert_eq!(stranger.header("location").as_deref(), Some("/_vestibule/login?return_to=%2Fops%2Fx"));
    assert_eq!(gateway.get("/ops/x").send().status(), 401);
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    let answer = alice.get("/ops/x?q").send();
    assert_eq!(
        (answer.status(), answer.header("location").as_deref()),
        (302, Some("https://ops.example.com/x"))
    );
    let refused = bob.get("/ops/x").send();
    assert_eq!((refused.status(), refused.header("location")), (403, None));
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_connection_goes_on_after_a_redirect() {
    let upstream = Upstream::recording();
    let gateway = gateway(&upstream);
    let mut wire = gateway.connect();
    assert_eq!(gateway.get("/plain").send_over(&mut wire).status(), 302);
    assert_eq!(gateway.get("/page").send_over(&mut wire).status(), 200);
    let form = gateway.post("/kept").body("a=b").send_over(&mut wire);
    assert_eq!(form.status(), 308);
    // Its body was not for us; nothing of it is taken for a request.
    assert_eq!(gateway.get("/page").send().status(), 200);
    assert_eq!(upstream.requests().len(), 2);
}
