//! The commands: what they print and how they end.

use crate::support::command::{Outcome, vestibule};
use crate::support::gateway::Folder;
use crate::support::tokens::Key;
use crate::support::{Gateway, Setup, Upstream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

fn run(folder: &Folder, arguments: &[&str], input: &str) -> Outcome {
    vestibule(folder.path(), arguments, input)
}

#[test]
fn check_prints_who_may_go_where() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    let checked = run(&folder, &["check", "-c", "vestibule.yaml"], "");
    assert_eq!(checked.code, 0, "{checked:?}");
    for (path, who) in [("/public", "everybody, without identity"), ("/ops", "groups ops"), ("/", "everyone")]
    {
        let line = checked.out.lines().find(|line| line.split_whitespace().nth(2) == Some(path));
        let line = line.unwrap_or_else(|| panic!("no line for {path} in\n{}", checked.out));
        assert!(
            line.starts_with("wiki.example.com")
                && line.contains(who)
                && line.contains("app (http://127.0.0.1:"),
            "{line}"
        );
    }
}

#[test]
fn check_names_every_problem_with_its_line_and_remedy() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    folder.write(
        "vestibule.yaml",
        "version: 1\nlisteners:\n  - address: 127.0.0.1:8080\nsessions:\n  idle_timeout: 24h\n  absolute_lifetime: 8h\n\
         upstreams:\n  wiki:\n    servers: [10.0.0.7:3000]\nroutes:\n  - nam: wiki\n    path: /\n    access: public\n    upstream: wikki\n",
    );
    let checked = run(&folder, &["check", "-c", "vestibule.yaml"], "");
    assert_eq!(checked.code, 2, "{checked:?}");
    assert!(checked.out.is_empty(), "{checked:?}");
    for part in [
        "vestibule.yaml: ",
        "sessions.idle_timeout (line 5): `24h`",
        "write `http://10.0.0.7:3000`",
        "(line 11): `nam`",
        "(line 14): `wikki`",
    ] {
        assert!(checked.err.contains(part), "`{part}` is missing in\n{}", checked.err);
    }
    let started = run(&folder, &["run", "-c", "vestibule.yaml"], "");
    assert_eq!((started.code, &started.err), (2, &checked.err), "run says the same and does not start");
}

#[test]
fn a_missing_file_and_bad_arguments_are_2() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    for arguments in [
        &["check", "-c", "nothing.yaml"][..],
        &["run", "-c", "nothing.yaml"],
        &["check"],
        &["frobnicate"],
        &[],
        &["explain", "-c", "vestibule.yaml", "GET"],
        &["sessions", "list"],
        &["sessions", "end", "-c", "vestibule.yaml"],
    ] {
        let ended = run(&folder, arguments, "");
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["sessions", "end", "--help"]] {
        let ended = run(&folder, arguments, "");
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        assert!(ended.out.contains("vestibule"), "{ended:?}");
    }
}

#[test]
fn explain_says_route_decision_and_why() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    let explain = |url: &str, more: &[&str]| {
        let explained = run(&folder, &[&["explain", "-c", "vestibule.yaml", "GET", url], more].concat(), "");
        assert_eq!(explained.code, 0, "{explained:?}");
        explained.out
    };
    for (url, more, parts) in [
        ("https://wiki.example.com/public/x", &[][..], &["public"][..]),
        ("https://wiki.example.com/ops", &[], &["ops", "sign-in"]),
        (
            "https://wiki.example.com/ops",
            &["--subject", "alice", "--groups", "ops,dev"],
            &["ops", "groups ops"],
        ),
        ("https://wiki.example.com/ops", &["--subject", "bob", "--groups", "dev"], &["403"]),
        ("https://elsewhere.example/", &[], &["404"]),
        ("https://wiki.example.com/public/../ops", &[], &["400"]),
        ("https://wiki.example.com/%6fps", &[], &["/ops", "sign-in"]),
        ("https://wiki.example.com/_vestibule/login", &[], &["_vestibule"]),
    ] {
        let out = explain(url, more);
        for part in parts {
            assert!(out.contains(part), "`{part}` is missing for {url} {more:?}:\n{out}");
        }
    }
}

#[test]
fn explain_reads_a_token_from_its_input_and_shows_none_of_it() {
    let upstream = Upstream::recording();
    let key = Key::es256();
    let folder = Setup::before(&upstream)
        .set(
            "tokens",
            "{ api: { jwt: { issuer: \"https://id.example.com\", audience: [wiki], algorithms: [ES256], keys: { public_key: token.key } } } }",
        )
        .file("token.key", &key.file())
        .access("{ tokens: [api], allow: { groups: [ops] } }")
        .write();
    let arguments = ["explain", "-c", "vestibule.yaml", "GET", "https://wiki.example.com/x", "--token", "-"];
    let token = key.good("alice");
    let believed = run(&folder, &arguments, &format!("{token}\n"));
    assert_eq!(believed.code, 0, "{believed:?}");
    assert!(believed.out.contains("alice") && !believed.out.contains(&token), "{}", believed.out);
    let refused = run(&folder, &arguments, &Key::es256().good("alice"));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("api"), "{refused:?}");
}

#[test]
fn schema_is_a_json_schema_with_the_files_keys() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    let printed = run(&folder, &["schema"], "");
    assert_eq!(printed.code, 0);
    let schema: Value = serde_json::from_str(&printed.out).expect("it is JSON");
    for key in ["version", "listeners", "sign_in", "tokens", "routes", "upstreams", "keys", "sessions"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    assert!(schema["$schema"].as_str().is_some_and(|dialect| dialect.contains("json-schema.org")));
}

#[test]
fn a_generated_key_is_fresh_and_fit() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    let keys = [run(&folder, &["keys", "generate"], ""), run(&folder, &["keys", "generate"], "")];
    assert_ne!(keys[0].out, keys[1].out);
    for key in &keys {
        assert_eq!(STANDARD.decode(key.out.trim_end()).expect("base64").len(), 32);
    }
    folder.write("session.key", &keys[0].out);
    assert_eq!(run(&folder, &["check", "-c", "vestibule.yaml"], "").code, 0);
}

#[test]
fn a_hashed_password_signs_in() {
    let upstream = Upstream::recording();
    let setup = Setup::before(&upstream);
    let folder = Setup::before(&upstream).write();
    let hashed = run(&folder, &["password", "hash"], "a pass phrase, typed by hand\n");
    assert_eq!(hashed.code, 0, "{hashed:?}");
    assert!(
        hashed.out.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && hashed.out.lines().count() == 1,
        "{hashed:?}"
    );
    assert_ne!(
        hashed.out,
        run(&folder, &["password", "hash"], "a pass phrase, typed by hand\n").out,
        "salted"
    );
    let gateway = setup.file("users.yaml", &format!("carol:\n  password: {}", hashed.out)).start();
    assert_eq!(gateway.browser().try_sign_in("carol", "a pass phrase, typed by hand", "/").status(), 303);
    assert_eq!(run(&folder, &["password", "hash"], "\n").code, 2, "an empty password is none");
}

#[test]
fn sessions_are_listed_and_ended_from_the_command_line() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let folder = gateway.folder();
    let list =
        |more: &[&str]| run(folder, &[&["sessions", "list", "-c", "vestibule.yaml"], more].concat(), "");
    let empty = list(&[]);
    assert_eq!((empty.code, empty.out.lines().count()), (0, 1), "{empty:?}");
    let (alice, bob) = (gateway.browser(), gateway.browser());
    alice.sign_in("alice");
    bob.sign_in("bob");
    let listed = list(&[]);
    assert_eq!(listed.out.lines().count(), 3, "{}", listed.out);
    assert!(listed.out.starts_with("ID "), "{}", listed.out);
    assert_eq!(list(&["--subject", "bob"]).out.lines().count(), 2);
    for (filter, lines) in [
        (&["--sign-in", "local", "--client", "127.0.0.0/8"][..], 3),
        (&["--client", "10.0.0.7"], 1),
        (&["--idle-for", "2h"], 1),
        (&["--opened-before", "9998-01-01T00:00:00+01:00"], 3),
        (&["--opened-before", "2020-01-01T00:00:00Z"], 1),
        (&["--anonymous"], 1),
    ] {
        let listed = list(filter);
        assert_eq!((listed.code, listed.out.lines().count()), (0, lines), "{filter:?}: {listed:?}");
    }
    for bad in [&["--client", "wiki"][..], &["--idle-for", "2"], &["--opened-before", "today"]] {
        assert_eq!(list(bad).code, 2, "{bad:?}");
    }
    let lines = list(&["--json", "--subject", "bob"]).out;
    let bobs: Value = serde_json::from_str(lines.trim_end()).expect("one JSON object a line");
    let id = bobs["id"].as_str().expect("an id");
    for verb in ["show", "end"] {
        let unknown = run(folder, &["sessions", verb, "-c", "vestibule.yaml", "-eAAAAAAAAAAAAAAAAAAAA"], "");
        assert!(!unknown.err.contains("unexpected argument"), "an id may begin with a hyphen: {unknown:?}");
    }
    let shown = run(folder, &["sessions", "show", "-c", "vestibule.yaml", id], "");
    assert!(shown.code == 0 && shown.out.contains("bob"), "{shown:?}");
    assert_eq!(run(folder, &["sessions", "end", "-c", "vestibule.yaml", id], "").code, 0);
    assert!(!bob.is_signed_in() && alice.is_signed_in());
    assert_eq!(
        run(folder, &["sessions", "end", "-c", "vestibule.yaml", id], "").code,
        1,
        "there is none any more"
    );
    let end = |more: &[&str]| run(folder, &[&["sessions", "end", "-c", "vestibule.yaml"], more].concat(), "");
    let ended = end(&["--subject", "alice", "--idle-for", "2h"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "ended 0 sessions\n"), "{ended:?}");
    assert!(alice.is_signed_in());
    let ended = end(&["--opened-before", "9998-01-01T00:00:00Z"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "ended 1 session\n"), "{ended:?}");
    assert!(!alice.is_signed_in());
    assert_eq!(end(&[]).code, 2, "not everybody's by mistake");
    assert_eq!(end(&[id, "--subject", "alice"]).code, 2, "one or several");
    let address = gateway.port("admin").to_string();
    let with_file =
        run(folder, &["sessions", "list", "--admin", &address, "--token-file", "admin.token"], "");
    assert_eq!(with_file.code, 0, "{with_file:?}");
    assert_eq!(run(folder, &["sessions", "list", "--admin", &address], "").code, 1, "without the token");
    assert_eq!(
        run(folder, &["sessions", "list", "--admin", &Upstream::nobody().to_string()], "").code,
        1,
        "nobody there"
    );
}
