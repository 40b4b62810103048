//! What is sent to another server, and what never twice.

use crate::support::{Answer, Gateway, Setup, Upstream};

fn before(upstreams: &[&Upstream], settings: &str) -> Gateway {
    let servers: Vec<String> =
        upstreams.iter().map(|upstream| format!("\"http://{}\"", upstream.address())).collect();
    let entry = format!("{{ app: {{ servers: [{}], {settings} }} }}", servers.join(", "));
    Setup::before(upstreams[0]).set("upstreams", &entry).start()
}

/// A server that closes without an answer where the target says `lost`.
fn losing() -> Upstream {
    Upstream::answering(|request| {
        if request.target().contains("lost") { Answer::ThenClose(Vec::new()) } else { Answer::ok(&[]) }
    })
}

fn seen(upstreams: &[&Upstream], target: &str) -> usize {
    let of = |upstream: &&Upstream| {
        upstream.requests().iter().filter(|request| request.target() == target).count()
    };
    upstreams.iter().map(of).sum()
}

#[test]
fn what_may_be_asked_twice_is_asked_of_another_server() {
    let (lossy, sound) = (losing(), Upstream::recording());
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
        let gateway = before(&[&lossy, &sound], "retries: 1");
        let target = format!("/public/lost/{method}");
        let answer = gateway.request(method, &target).send();
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!((seen(&[&lossy], &target), seen(&[&sound], &target)), (1, 1), "{method}");
        assert_eq!(gateway.metric("vestibule_upstream_retries_total{upstream=\"app\"}").to_string(), "1");
    }
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let (lossy, sound) = (losing(), Upstream::recording());
    for (method, body) in [("POST", ""), ("POST", "one"), ("PATCH", "one"), ("PUT", "one"), ("BUY", "")] {
        let gateway = before(&[&lossy, &sound], "retries: 5");
        let target = format!("/public/lost/{method}/{}", body.len());
        let answer = gateway.request(method, &target).body(body).send();
        assert_eq!(answer.status(), 502, "{method} {body}");
        assert_eq!(gateway.access_line(&answer)["reason"], "reset");
        assert_eq!(seen(&[&lossy, &sound], &target), 1, "{method} {body}");
    }
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let (lossy, sound) = (Upstream::recording(), Upstream::recording());
    let gateway = before(&[&lossy, &sound], "retries: 5");
    lossy.next(Answer::ThenClose(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()));
    let answer = gateway.get("/public/half").send();
    assert_eq!(seen(&[&lossy, &sound], "/public/half"), 1 + usize::from(answer.status() == 200));
    lossy.next(Answer::ThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()));
    sound.next(Answer::ThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()));
    let mut wire = gateway.connect();
    wire.write(gateway.get("/public/begun").bytes());
    drop(wire.until_closed());
    assert_eq!(seen(&[&lossy, &sound], "/public/begun"), 1);
}

#[test]
fn without_retries_nothing_is_asked_twice() {
    let (lossy, sound) = (losing(), Upstream::recording());
    let gateway = before(&[&lossy, &sound], "retries: 0");
    assert_eq!(gateway.get("/public/lost").send().status(), 502);
    assert_eq!(seen(&[&lossy, &sound], "/public/lost"), 1);
}

#[test]
fn an_old_connection_that_breaks_is_made_anew() {
    let upstream = Upstream::recording();
    let gateway = before(&[&upstream], "retries: 1");
    // One connection of ours, and so one worker with the connections that it keeps.
    let mut wire = gateway.connect();
    assert_eq!(gateway.get("/public/warm").send_over(&mut wire).status(), 200);
    upstream.next(Answer::ThenClose(Vec::new()));
    let again = gateway.get("/public/again").send_over(&mut wire);
    assert_eq!(again.status(), 200, "the same server, another connection");
    assert_eq!(seen(&[&upstream], "/public/again"), 2);
    let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    upstream.next(Answer::ThenClose(last.to_vec()));
    assert_eq!(gateway.get("/public/last").send_over(&mut wire).status(), 200);
    // A new one that breaks says something of the server.
    upstream.next(Answer::ThenClose(Vec::new()));
    assert_eq!(gateway.get("/public/fresh").send_over(&mut wire).status(), 502);
    assert_eq!(seen(&[&upstream], "/public/fresh"), 1);
}

#[test]
fn retries_do_not_multiply_an_outage() {
    let upstreams = [losing(), losing(), losing()];
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let gateway = before(&all, "retries: 2");
    let mut answered = 0;
    for _ in 0..30 {
        // Enough that no server counts as down.
        for _ in 0..3 {
            answered += usize::from(gateway.get("/public/found").send().status() == 200);
        }
        gateway.get("/public/lost").send();
    }
    let lost = seen(&all, "/public/lost");
    let retries = gateway.metric("vestibule_upstream_retries_total{upstream=\"app\"}");
    // Ten saved up, and one for five that were answered; sixty would be asked for.
    assert!(
        (30 + 10..=30 + 10 + answered / 5).contains(&lost),
        "{lost} requests for 30, {answered} answered"
    );
    assert_eq!(retries.to_string(), (lost - 30).to_string());
}
