//! Every exchange leaves one line, however it ended, and no line holds a secret.

use crate::support::wait::until;
use crate::support::{Answer, Gateway, HOST, Setup, Upstream};

#[test]
fn a_line_says_who_did_what_where_and_what_came_of_it() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    gateway.secrets().note("a query", "very-private-search");
    alice.get("/page?q=very-private-search").header("User-Agent", "test/1").send();
    let id = upstream.last().header("x-request-id").expect("an id");
    let line = gateway.wait_for_line("of the page", |line| line["request_id"] == id.as_str());
    for (field, value) in [
        ("method", "GET"),
        ("host", HOST),
        ("path", "/page"),
        ("subject", "alice"),
        ("route", "wiki"),
        ("decision", "admitted"),
        ("client", "127.0.0.1"),
        ("user_agent", "test/1"),
        ("version", "1.1"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert_eq!((&line["status"], &line["bytes_out"]), (&200.into(), &26.into()));
    assert_eq!(line["upstream"], upstream.address().to_string());
    assert!(line["total_ms"].is_number());
    let session = gateway.audit("sign_in")["session"].clone();
    assert_eq!(line["session"], session, "a session is named by its public id");
}

#[test]
fn a_visitor_who_leaves_half_way_leaves_a_line() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let (answer, gate) = Answer::held(b"");
    upstream.next(answer);
    let mut wire = gateway.connect();
    wire.write(format!("GET /public/left HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    upstream.wait_for(1);
    drop(wire);
    let line = gateway.wait_for_line("of the visitor who left", |line| line["path"] == "/public/left");
    assert!(line["status"].is_null() || line["reason"].is_string(), "{line}");
    drop(gate);
    until("nothing is in flight", || (gateway.metric("vestibule_exchanges_in_flight") < 1.0).then_some(()));
    until("no connection is open", || (gateway.metric("vestibule_connections") < 2.0).then_some(()));
}

#[test]
fn a_visitor_who_leaves_in_the_middle_of_a_head_leaves_a_line() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    wire.write("GET /public HTTP/1.1\r\nHo");
    drop(wire);
    let line = gateway.wait_for_line("of the half head", |line| line["reason"] == "head_broken");
    assert!(line["status"].is_null());
}

#[test]
fn what_a_client_writes_cannot_forge_a_line() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let agent = "a\",\"status\":999,\"x\":\"\u{1b}[31m";
    let answer = gateway.get("/page").header("User-Agent", &agent.replace('\u{1b}', "")).send();
    let line = gateway.access_line(&answer);
    assert_eq!(line["status"], 401);
    assert_eq!(line["user_agent"], agent.replace('\u{1b}', ""));
}

#[test]
fn logs_go_where_the_file_says() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set(
            "logs",
            "{ access: { format: human, to: access.log }, audit: { format: json, to: audit.jsonl }, events: { to: stderr } }",
        )
        .start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let read = |name: &str| std::fs::read_to_string(gateway.folder().path().join(name)).unwrap_or_default();
    let access = until("the access log is written", || {
        Some(read("access.log")).filter(|text| text.contains("POST wiki.example.com/_vestibule/login"))
    });
    let audit = until("the audit log is written", || {
        Some(read("audit.jsonl")).filter(|text| text.contains("\"event\":\"sign_in\""))
    });
    for (name, text) in [("access.log", access), ("audit.jsonl", audit)] {
        let leaks = gateway.secrets().found_in(&text, name);
        assert!(leaks.is_empty(), "{leaks:?}");
    }
}

#[test]
fn no_log_holds_a_secret_even_when_things_go_wrong() {
    // The search itself happens when the gateway is dropped; here everything secret passes once, in right and wrong places.
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream).environment("RUST_LOG", "trace").start();
    let alice = gateway.browser();
    alice.sign_in("alice");
    let value = alice.cookie("__Host-session").expect("a session cookie");
    let target = format!("/page?token={value}");
    gateway.get(&target).send();
    gateway.get("/page").header("Cookie", &format!("__Host-session={}", &value[..50])).send();
    gateway.get("/page").header("Authorization", &format!("Bearer {value}")).send();
    gateway
        .raw(format!("GET /page HTTP/1.1\r\nHost: {HOST}\r\nCookie: __Host-session={value}\nX: y\r\n\r\n"));
    gateway.raw(format!("GET /page?{value} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: x\r\n\r\n"));
    upstream.next(Answer::ThenClose(Vec::new()));
    alice.get("/page").send();
    gateway.admin_raw("GET", "/sessions", "Authorization: Bearer nearly-the-operators-token\r\n", "");
    gateway.secrets().note("a wrong admin token", "nearly-the-operators-token");
    gateway.audit("admin_refused");
    alice.sign_out(true);
}

#[test]
fn a_server_that_cannot_be_reached_leaves_the_line_of_the_exchange_alone() {
    let upstream = Upstream::recording();
    let nobody = Upstream::nobody();
    let gateway = Setup::before(&upstream)
        .set("upstreams", &format!("{{ app: {{ servers: [\"http://{nobody}\"] }} }}"))
        .start();
    for _ in 0..3 {
        assert_eq!(gateway.get("/public/refused").send().status() / 100, 5);
    }
    let lines = || {
        let lines = gateway.lines().into_iter().filter(|line| line["path"] == "/public/refused").count();
        (lines == 3).then_some(())
    };
    until("each exchange has its line", lines);
    let others: Vec<String> = gateway
        .everything()
        .into_iter()
        .filter(|line| line.contains("\"target\":\"pingora") || line.contains("\"level\":\"ERROR\""))
        .collect();
    assert!(others.is_empty(), "nothing besides: {others:?}");
}
