//! `check --print`: the file with every default filled in, which is a file again.

use crate::support::command::{Outcome, vestibule};
use crate::support::gateway::{ADMIN_TOKEN, Folder};
use crate::support::{Gateway, HOST, Setup, Upstream};

/// A configuration with something of everything that a route may do.
fn setup(upstream: &Upstream) -> Setup {
    let server = upstream.address();
    let upstreams = format!(
        "{{ app: {{ servers: [\"http://{server}\"] }}, shop: {{ servers: [\"http://{server}\"] }} }}"
    );
    Setup::before(upstream).set("upstreams", &upstreams).routes(&[
        &format!(
            "{{ name: moved, host: {HOST}, path: /old, access: {{ sign_in: [local] }},
                redirect: {{ to: \"https://new.example.com/\", keep_path: true }} }}"
        ),
        &format!(
            "{{ name: shop, host: {HOST}, path: /shop, access: public, prefix: {{ strip: /shop }},
                headers: {{ response: {{ set: {{ X-Stage: test }} }} }}, upstream: shop }}"
        ),
        &format!("{{ name: wiki, host: {HOST}, path: /, access: {{ sign_in: [local] }}, upstream: app }}"),
    ])
}

fn check(folder: &Folder, arguments: &[&str]) -> Outcome {
    vestibule(folder.path(), &[&["check"], arguments].concat(), "")
}

#[test]
fn what_is_printed_can_be_checked_printed_and_served() {
    let upstream = Upstream::recording();
    let gateway = setup(&upstream).start();
    let folder = gateway.folder();
    let printed = check(folder, &["--print", "-c", "vestibule.yaml"]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{printed:?}");
    for part in ["idle_timeout: 30m", "keep_query: false", "add: /", "security: false", "- file: session.key"]
    {
        assert!(printed.out.contains(part), "`{part}` is missing in\n{}", printed.out);
    }
    let key = std::fs::read_to_string(folder.path().join("session.key")).expect("the key is there");
    for secret in [ADMIN_TOKEN, key.trim_end(), "$argon2id"] {
        assert!(!printed.out.contains(secret), "{}", printed.out);
    }
    folder.write("printed.yaml", &printed.out);
    assert_eq!(check(folder, &["--print", "-c", "printed.yaml"]).out, printed.out, "again the same");
    let [by_file, by_print] = ["vestibule.yaml", "printed.yaml"].map(|file| check(folder, &["-c", file]));
    assert_eq!((by_print.code, by_print.out), (0, by_file.out));

    let answers = |gateway: &Gateway| {
        let alice = gateway.browser();
        alice.sign_in("alice");
        let requests = [alice.get("/old/x"), alice.get("/shop/x"), alice.get("/page"), gateway.get("/page")];
        requests.map(|request| {
            let answer = request.send();
            let told = ["location", "x-stage", "cache-control", "vary"].map(|name| answer.header(name));
            (answer.status(), told)
        })
    };
    let before = answers(&gateway);
    folder.write("vestibule.yaml", &printed.out);
    let reloaded = gateway.admin("POST", "/reload", "");
    assert_eq!(reloaded.status(), 200, "{}", reloaded.text());
    assert!(!reloaded.text().contains("restart"), "{}", reloaded.text());
    assert_eq!(answers(&gateway), before);
}

#[test]
fn a_broken_file_is_told_and_not_printed() {
    let upstream = Upstream::recording();
    let folder = setup(&upstream).set("drain", "soon").write();
    let printed = check(&folder, &["--print", "-c", "vestibule.yaml"]);
    assert_eq!((printed.code, printed.out.as_str()), (2, ""));
    assert!(printed.err.contains("`soon` is not a duration"), "{}", printed.err);
}

#[test]
fn warnings_do_not_get_into_what_is_printed() {
    let upstream = Upstream::recording();
    let folder = setup(&upstream).set("policies", "{ unused: { sign_in: [local] } }").write();
    let printed = check(&folder, &["--print", "-c", "vestibule.yaml"]);
    assert_eq!(printed.code, 0);
    assert!(printed.err.contains("warning: policies.unused"), "{}", printed.err);
    assert!(!printed.out.contains("warning"), "{}", printed.out);
}
