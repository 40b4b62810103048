//! What a request says of the visitor's connection ends here, and everything else arrives as it was sent.

use crate::support::{Gateway, HOST, Message, Upstream};

/// Fields of one hop (RFC 9110 §7.6.1), in spellings of several kinds.
const OF_ONE_HOP: [(&str, &str); 7] = [
    ("Keep-Alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("TE", "trailers"),
    ("TRAILER", "X-Sum"),
    ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ("Proxy-Authorization", "Basic YTpi"),
    ("Proxy-Authenticate", "Basic"),
];

#[test]
fn fields_of_the_visitors_connection_end_here_whatever_it_names() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let alice = gateway.browser();
    alice.sign_in("alice");
    for connection in [
        &[][..],
        &[("Connection", "keep-alive")],
        &[("connection", "Keep-Alive, close")],
        &[("Connection", "keep-alive, X-Private")],
        &[("Connection", "close"), ("Connection", "x-private")],
        &[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c")],
        &[("Upgrade", "h2c")],
    ] {
        let answer =
            alice.get("/page").headers(connection).headers(&OF_ONE_HOP).header("X-Private", "1").send();
        assert_eq!(answer.status(), 200, "{connection:?}");
        let request = upstream.last();
        for (name, _) in
            OF_ONE_HOP.iter().chain(&[("Connection", ""), ("Upgrade", ""), ("Transfer-Encoding", "")])
        {
            assert_eq!(request.header(name), None, "{connection:?}: {name}");
        }
        let nominated = connection.iter().any(|(_, value)| value.to_ascii_lowercase().contains("x-private"));
        assert_eq!(request.header("x-private").is_none(), nominated, "{connection:?}");
        assert_eq!(request.header("x-auth-user").as_deref(), Some("alice"), "{connection:?}");
    }
}

#[test]
fn every_other_field_arrives_once_as_it_was_sent_and_in_no_other_request() {
    let upstream = Upstream::recording();
    let gateway = Gateway::before(&upstream);
    let mut wire = gateway.connect();
    let sent = [
        "x-empty:",
        "X-Odd!#$%&'*+.^_`|~Name:  inner  space\t",
        "Accept: a",
        "ACCEPT: b, c",
        "x-latin: caf\u{e9}",
        "Sec-Fetch-Site: none",
        "sec-fetch-mode: cors",
        "If-None-Match: \"x\"",
    ];
    let head = format!("GET /public/one HTTP/1.1\r\nhoST: {HOST}\r\n{}\r\n\r\n", sent.join("\r\n"));
    wire.write(head);
    assert_eq!(wire.response().status(), 200);
    let request = upstream.last();
    for (name, values) in [
        ("x-empty", &[""][..]),
        ("x-odd!#$%&'*+.^_`|~name", &["inner  space"]),
        ("accept", &["a", "b, c"]),
        ("x-latin", &["caf\u{e9}"]),
        ("sec-fetch-site", &["none"]),
        ("sec-fetch-mode", &["cors"]),
        ("if-none-match", &["\"x\""]),
        ("host", &[HOST]),
    ] {
        assert_eq!(request.all(name), values, "{name}");
    }
    wire.write(format!("GET http://{HOST}/public/%74wo HTTP/1.1\r\nHost: {HOST}\r\nX-Two: 2\r\n\r\n"));
    assert_eq!(wire.response().status(), 200);
    let request = upstream.last();
    assert_eq!((request.target(), request.header("x-two").as_deref()), ("/public/two".to_owned(), Some("2")));
    let names = |request: &Message| -> Vec<String> {
        let mut names: Vec<String> =
            request.fields().into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        names
    };
    let expected = [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
        "x-two",
    ];
    assert_eq!(names(&request), expected, "nothing of the request before");
}
