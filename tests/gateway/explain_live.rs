//! A running gateway says what it would do with a request, in the words in which the file is explained.

use crate::support::command::{Outcome, vestibule};
use crate::support::{Gateway, Setup, Upstream};

const ROUTES: [&str; 3] = [
    "{ name: public, host: wiki.example.com, path: /public, access: public, upstream: app }",
    "{ name: ops, host: wiki.example.com, path: /ops, upstream: app,
       access: { sign_in: [local], allow: { any: [{ groups: [ops] }, { claims: { level: 3 } }] } } }",
    "{ name: moved, host: wiki.example.com, path: /, access: { sign_in: [local] }, redirect: { to: \"https://new.example.com/\", keep_path: true } }",
];

fn explain(gateway: &Gateway, more: &[&str]) -> Outcome {
    let mut arguments = vec!["explain"];
    arguments.extend(more);
    vestibule(gateway.folder().path(), &arguments, "")
}

#[test]
fn the_running_gateway_says_what_the_file_says() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).routes(&ROUTES).start();
    for (question, part) in [
        (&["GET", "https://wiki.example.com/public/x"][..], "the route is public"),
        (&["GET", "https://wiki.example.com/ops"], "302 to sign-in"),
        (
            &["GET", "https://wiki.example.com/ops", "--subject", "bob", "--groups", "dev,ops"],
            "holds  groups ops",
        ),
        (
            &["GET", "https://wiki.example.com/ops", "--subject", "bob", "--claim", "level=3"],
            "holds  level 3",
        ),
        (
            &["POST", "https://wiki.example.com/ops", "--subject", "bob", "--email", "b@example.com"],
            "403 forbidden",
        ),
        (
            &["GET", "https://wiki.example.com/ops", "--subject", "bob", "--source", "elsewhere"],
            "no way of this route",
        ),
        (&["GET", "https://wiki.example.com/a/b", "--subject", "bob"], "302 to https://new.example.com/a/b"),
        (&["GET", "https://wiki.example.com/a/../b"], "400 bad request"),
        (&["GET", "https://elsewhere.example/"], "404 not found"),
    ] {
        let by_file = explain(&gateway, &[&["-c", "vestibule.yaml"], question].concat());
        let live = explain(&gateway, &[&["--live", "-c", "vestibule.yaml"], question].concat());
        assert_eq!((live.code, &live.err), (0, &String::new()), "{question:?}");
        assert!(live.out.contains(part), "`{part}` is missing for {question:?}:\n{}", live.out);
        assert_eq!(live.out, by_file.out, "{question:?}");
    }
    assert!(upstream.requests().is_empty());
    assert!(gateway.metric("vestibule_sessions_live") < 0.5, "nobody was signed in for it");
}

#[test]
fn what_is_in_force_counts_and_not_a_file_that_was_refused() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).routes(&ROUTES).start();
    let address = gateway.port("admin").to_string();
    let live = [
        "--live",
        "--admin",
        &address,
        "--token-file",
        "admin.token",
        "GET",
        "https://wiki.example.com/public",
    ];
    gateway.change("routes", "[{ name: public, path: /, access: nobody, upstream: app }]");
    assert_eq!(gateway.admin("POST", "/reload", "").status(), 422);
    assert!(explain(&gateway, &live).out.contains("the route is public"));
    let guarded =
        "[{ name: guarded, host: wiki.example.com, path: /, access: { sign_in: [local] }, upstream: app }]";
    gateway.reload_with("routes", guarded);
    let told = explain(&gateway, &live).out;
    assert!(told.contains("route:     guarded (/)") && told.contains("302 to sign-in"), "{told}");
}

#[test]
fn only_the_operator_is_told() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).routes(&ROUTES).start();
    let body = r#"{"method":"GET","url":"https://wiki.example.com/ops","subject":"alice","groups":["ops"]}"#;
    let told = gateway.admin("POST", "/explain", body);
    assert_eq!(told.status(), 200);
    let decision = &told.json()["explanation"][3];
    assert_eq!((&decision["name"], &decision["value"]), (&"decision".into(), &"passes".into()));
    assert_eq!(gateway.admin_raw("POST", "/explain", "", body).status(), 401);
    assert_eq!(
        gateway.post("/explain").body(body).send().status(),
        401,
        "it is no page of the public listener"
    );
    assert_eq!(gateway.admin("GET", "/explain", "").status(), 405);
    for bad in ["", "{}", r#"{"method":"GET","url":"/","groups":["ops"]}"#] {
        assert_eq!(gateway.admin("POST", "/explain", bad).status(), 400, "{bad}");
    }
    let address = gateway.port("admin").to_string();
    let question = ["GET", "https://wiki.example.com/"];
    let without = explain(&gateway, &[&["--live", "--admin", &address], &question[..]].concat());
    assert_eq!((without.code, without.out.as_str()), (1, ""));
    let unsaid = explain(&gateway, &[&["--admin", &address], &question[..]].concat());
    assert_eq!(unsaid.code, 2, "an address alone says neither what to read nor whom to ask");
}
