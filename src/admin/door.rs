//! The walk of an admin request: who asks, for what, then the answer. Pure but for what [`Control`] does.

use super::Reply;
use super::answer::{Answer, method_not_allowed, metrics, problem, unauthenticated};
use super::auth::{Proof, host_is_allowed, is_own_form, prove};
use super::{AdminSettings, Control, api, console, explain, probes, tokens};
use crate::domain::secret::Secret;
use crate::domain::session::SessionId;
use crate::domain::time::{Clock, Timestamp};
use crate::net::Address;
use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;

/// A request's head, as far as the door cares.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// HEAD counts as GET; whoever writes the answer leaves out the body.
    pub method: &'a Method,
    /// The target's path.
    pub path: &'a str,
    /// The target's query, without `?`; empty if there is none.
    pub query: &'a str,
    /// `Host`, or `:authority`.
    pub host: Option<&'a [u8]>,
    /// `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`.
    pub sec_fetch_site: Option<&'a [u8]>,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// The peer; absent on a Unix socket.
    pub client: Option<IpAddr>,
}

/// What a request that was let in asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Health,
    Ready,
    Metrics,
    Console,
    ConsoleForm,
    List,
    Open,
    EndWhere,
    Show(SessionId),
    End(SessionId),
    Reload,
    Explain,
    RevokeTokens,
}

/// Why a path and a method are no call.
#[derive(Clone, Copy)]
enum Miss {
    Path,
    Method(&'static str),
}

impl Call {
    fn find(method: &Method, path: &str) -> Result<Self, Miss> {
        let get = matches!(*method, Method::GET | Method::HEAD);
        let only_get = |call| if get { Ok(call) } else { Err(Miss::Method("GET")) };
        match path {
            "/healthz" => only_get(Self::Health),
            "/readyz" => only_get(Self::Ready),
            "/metrics" => only_get(Self::Metrics),
            "/" if get => Ok(Self::Console),
            "/" if method == Method::POST => Ok(Self::ConsoleForm),
            "/" => Err(Miss::Method("GET, POST")),
            "/sessions" if get => Ok(Self::List),
            "/sessions" if method == Method::POST => Ok(Self::Open),
            "/sessions" if method == Method::DELETE => Ok(Self::EndWhere),
            "/sessions" => Err(Miss::Method("GET, POST, DELETE")),
            "/reload" if method == Method::POST => Ok(Self::Reload),
            "/explain" if method == Method::POST => Ok(Self::Explain),
            "/tokens/revoke" if method == Method::POST => Ok(Self::RevokeTokens),
            "/reload" | "/explain" | "/tokens/revoke" => Err(Miss::Method("POST")),
            _ => {
                let id = path.strip_prefix("/sessions/").and_then(|id| id.parse().ok()).ok_or(Miss::Path)?;
                match *method {
                    _ if get => Ok(Self::Show(id)),
                    Method::DELETE => Ok(Self::End(id)),
                    _ => Err(Miss::Method("GET, DELETE")),
                }
            }
        }
    }

    fn is_probe(self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Metrics)
    }

    /// The longest body that the call reads.
    pub(super) fn body_bytes_max(self) -> usize {
        match self {
            Self::Open | Self::ConsoleForm | Self::Explain | Self::RevokeTokens => 64 * 1024,
            _ => 0,
        }
    }
}

/// Who is let in.
enum Entrance {
    /// Everybody, for the probes alone.
    Probes,
    /// The operator; may change at a reload.
    Admin(ArcSwap<Rules>),
}

struct Rules {
    token: Option<Secret<String>>,
    hosts: Vec<String>,
    unix: bool,
}

impl Rules {
    fn new(settings: &AdminSettings) -> Self {
        Self {
            token: settings.token.clone(),
            hosts: settings.hosts.clone(),
            unix: matches!(settings.address, Address::Unix(_)),
        }
    }

    fn prove(&self, head: &Head<'_>, basic: bool) -> Proof {
        match &self.token {
            Some(token) => prove(head.authorization, token, basic),
            // The socket's mode lets nobody else in. On TCP a missing token lets nobody in at all.
            None if self.unix => Proof::Token,
            None => Proof::Wrong,
        }
    }
}

/// One admin or probes address.
pub struct Door {
    entrance: Entrance,
    pub(super) control: Arc<dyn Control>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Door {
    /// The door of the admin address.
    pub fn admin(settings: &AdminSettings, control: Arc<dyn Control>, clock: Arc<dyn Clock>) -> Self {
        Self { entrance: Entrance::Admin(ArcSwap::from_pointee(Rules::new(settings))), control, clock }
    }

    /// The door of the probes address.
    pub fn probes(control: Arc<dyn Control>, clock: Arc<dyn Clock>) -> Self {
        Self { entrance: Entrance::Probes, control, clock }
    }

    /// Takes up another token and other hosts, at a reload. The address itself needs a restart: what is bound stays
    /// the kind of socket that it was, so a file that moves the door to a Unix socket opens no TCP port to everybody.
    pub fn replace(&self, settings: &AdminSettings) {
        if let Entrance::Admin(rules) = &self.entrance {
            let unix = rules.load().unix;
            rules.store(Arc::new(Rules { unix, ..Rules::new(settings) }));
        }
    }

    /// Lets a request in, before its body is read, or answers it.
    pub(super) fn enter(&self, head: &Head<'_>) -> Result<Call, Box<Answer>> {
        let call = Call::find(head.method, head.path);
        match &self.entrance {
            Entrance::Probes => match call {
                Ok(call) if call.is_probe() => Ok(call),
                Err(Miss::Method("GET")) => Err(method_not_allowed("GET").into()),
                _ => Err(not_found().into()),
            },
            Entrance::Admin(rules) => self.enter_admin(&rules.load(), call, head),
        }
    }

    fn enter_admin(
        &self,
        rules: &Rules,
        call: Result<Call, Miss>,
        head: &Head<'_>,
    ) -> Result<Call, Box<Answer>> {
        if !rules.unix && !host_is_allowed(head.host, &rules.hosts) {
            let detail =
                "this Host is not answered here; call it by address, or list the name under admin.hosts";
            return Err(problem(StatusCode::MISDIRECTED_REQUEST, detail).into());
        }
        if let Ok(call) = call
            && call.is_probe()
        {
            return Ok(call);
        }
        let console = matches!(call, Ok(Call::Console | Call::ConsoleForm));
        let proof = rules.prove(head, console);
        if proof != Proof::Token {
            if proof == Proof::Wrong {
                self.control.refused("wrong_admin_token", head.client);
            }
            let basic = "Basic realm=\"vestibule: any name, the admin token as password\", charset=\"UTF-8\"";
            return Err(unauthenticated(if console { basic } else { "Bearer realm=\"vestibule\"" }).into());
        }
        match call {
            Ok(Call::ConsoleForm) if !is_own_form(head.sec_fetch_site, head.origin, head.host) => {
                self.control.refused("foreign_form", head.client);
                Err(problem(
                    StatusCode::FORBIDDEN,
                    "this form was not sent by the console page; open it and try again",
                )
                .into())
            }
            Ok(call) => Ok(call),
            Err(Miss::Method(allow)) => Err(method_not_allowed(allow).into()),
            Err(Miss::Path) => Err(not_found().into()),
        }
    }

    /// Does what was asked.
    pub(super) fn act(&self, call: Call, head: &Head<'_>, body: &[u8], now: Timestamp) -> Reply {
        let control = &*self.control;
        match call {
            Call::Health => probes::health().into(),
            Call::Ready => probes::ready(control.state()).into(),
            Call::Metrics => metrics(control.metrics()).into(),
            Call::Console => console::page(control, head.query, now).into(),
            Call::ConsoleForm => console::form(control, head.query, body, head.client, now),
            Call::List => api::list(control, head.query, now).into(),
            Call::Open => api::open(control, body, head.client, now),
            Call::EndWhere => api::end_where(control, head.query, head.client, now),
            Call::Show(id) => api::show(control, id, now).into(),
            Call::End(id) => api::end(control, id, head.client, now),
            Call::Reload => api::reloaded(control.reload()).into(),
            Call::Explain => explain::explain(control, body).into(),
            Call::RevokeTokens => tokens::revoke(control, body, head.client, self.clock.wall()),
        }
    }

    /// Answers one request whose body is at hand.
    pub fn handle(&self, head: &Head<'_>, body: &[u8], now: Timestamp) -> Answer {
        match self.enter(head) {
            Ok(call) => self.act(call, head, body, now).answer,
            Err(answer) => *answer,
        }
    }
}

fn not_found() -> Answer {
    problem(StatusCode::NOT_FOUND, "there is nothing at this path")
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Behind, NOON, TOKEN, door, probes, tokenless_door, unix_door};
    use super::*;
    use base64::Engine;
    use std::time::Duration;

    /// A head with a good Host and the token.
    fn head<'a>(method: &'a Method, path: &'a str, query: &'a str) -> Head<'a> {
        Head {
            method,
            path,
            query,
            host: Some(b"localhost:9901"),
            authorization: Some(TOKEN.as_bytes()),
            sec_fetch_site: None,
            origin: None,
            client: Some(IpAddr::from([127, 0, 0, 1])),
        }
    }

    fn ask(door: &Door, method: &Method, path: &str, query: &str) -> (u16, serde_json::Value) {
        ask_with(door, method, path, query, b"")
    }

    fn ask_with(
        door: &Door,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> (u16, serde_json::Value) {
        let answer = door.handle(&head(method, path, query), body, NOON);
        let body = serde_json::from_slice(answer.body()).unwrap_or(serde_json::Value::Null);
        (answer.status().as_u16(), body)
    }

    const EVERY_CALL: [(Method, &str); 13] = [
        (Method::GET, "/healthz"),
        (Method::GET, "/readyz"),
        (Method::GET, "/metrics"),
        (Method::GET, "/"),
        (Method::POST, "/"),
        (Method::GET, "/sessions"),
        (Method::POST, "/sessions"),
        (Method::DELETE, "/sessions"),
        (Method::GET, "/sessions/AQEBAQEBAQEBAQEBAQEBAQ"),
        (Method::DELETE, "/sessions/AQEBAQEBAQEBAQEBAQEBAQ"),
        (Method::POST, "/reload"),
        (Method::POST, "/explain"),
        (Method::POST, "/tokens/revoke"),
    ];

    #[test]
    fn only_the_probes_answer_without_the_token_and_nothing_under_a_foreign_name() {
        let behind = Arc::new(Behind::new());
        behind.open(1, "alice", "local");
        let (door, lost) = (door(Arc::clone(&behind)), tokenless_door(Arc::clone(&behind)));
        for (number, (method, path)) in EVERY_CALL.iter().enumerate() {
            let probe = number < 3;
            let expected = if probe { 200 } else { 401 };
            let good = head(method, path, "");
            for authorization in [None, Some(&b"Bearer operator-token"[..]), Some(b"Basic b3BlcmF0b3I6eA==")]
            {
                let asked = Head { authorization, ..good };
                assert_eq!(door.handle(&asked, b"", NOON).status(), expected, "{method} {path}");
            }
            assert_eq!(lost.handle(&good, b"", NOON).status(), expected, "{method} {path}: no token is set");
            for host in [None, Some(&b"evil.example.com"[..])] {
                assert_eq!(door.handle(&Head { host, ..good }, b"", NOON).status(), 421, "{method} {path}");
            }
        }
        assert_eq!(behind.table.live(), 1, "nobody got as far as to end a session");
        assert!(behind.refused.lock().iter().all(|reason| *reason == "wrong_admin_token"));
        assert_eq!(behind.refused.lock().len(), 10 * 3, "an absent token is no attack");
    }

    #[test]
    fn the_probes_address_knows_the_probes_alone() {
        let door = probes(Arc::new(Behind::new()));
        for (number, (method, path)) in EVERY_CALL.iter().enumerate() {
            let asked = Head { host: Some(b"anything.example.com"), ..head(method, path, "") };
            let expected = if number < 3 { 200 } else { 404 };
            assert_eq!(door.handle(&asked, b"", NOON).status(), expected, "{method} {path}");
        }
        assert_eq!(door.handle(&head(&Method::POST, "/healthz", ""), b"", NOON).status(), 405);
    }

    #[test]
    fn a_unix_socket_needs_no_token_and_answers_for_any_host() {
        let door = unix_door(Arc::new(Behind::new()));
        let asked = Head {
            authorization: None,
            host: Some(b"gw"),
            client: None,
            ..head(&Method::GET, "/sessions", "")
        };
        assert_eq!(door.handle(&asked, b"", NOON).status(), 200);
    }

    #[test]
    fn basic_opens_the_console_and_nothing_else() {
        let behind = Arc::new(Behind::new());
        let session = behind.open(1, "alice", "local");
        let door = door(Arc::clone(&behind));
        let basic =
            base64::engine::general_purpose::STANDARD.encode(format!("me:{}", &TOKEN["Bearer ".len()..]));
        let basic = format!("Basic {basic}");
        let with_basic =
            |method, path| Head { authorization: Some(basic.as_bytes()), ..head(method, path, "") };
        assert_eq!(door.handle(&with_basic(&Method::GET, "/"), b"", NOON).status(), 200);
        for (method, path) in EVERY_CALL.iter().skip(5) {
            assert_eq!(door.handle(&with_basic(method, path), b"", NOON).status(), 401, "{method} {path}");
        }
        let form = format!("end={}", session.id());
        let foreign = Head { sec_fetch_site: Some(b"cross-site"), ..with_basic(&Method::POST, "/") };
        assert_eq!(door.handle(&foreign, form.as_bytes(), NOON).status(), 403);
        assert_eq!(behind.table.live(), 1, "a form of another site ends nothing");
        let own = Head { sec_fetch_site: Some(b"same-origin"), ..foreign };
        let answer = door.handle(&own, form.as_bytes(), NOON);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (303, &"/".parse().expect("a path"))
        );
        assert_eq!(*behind.ended.lock(), ["alice revoked"]);
    }

    #[test]
    fn sessions_are_listed_in_pages_by_subject_and_source() {
        let behind = Arc::new(Behind::new());
        for (number, subject, source) in [(1, "alice", "local"), (2, "李", "staff"), (3, "alice", "staff")] {
            behind.open(number, subject, source);
        }
        let door = door(behind);
        let (status, body) = ask(&door, &Method::GET, "/sessions", "limit=2");
        assert_eq!(status, 200);
        assert_eq!(
            body["sessions"][0],
            serde_json::json!({
                "id": "AQEBAQEBAQEBAQEBAQEBAQ", "subject": "alice", "source": "local", "sign_in": "local",
                "remembered": false, "anonymous": false,
                "started_at": "2026-11-22T12:00:00Z", "last_used_at": "2026-11-22T12:00:00Z",
                "idle_until": "2026-11-22T12:30:00Z", "ends_at": "2026-11-23T00:00:00Z",
                "client": { "address": "192.0.2.1", "user_agent": "<b>Browser</b>" },
            })
        );
        assert_eq!(
            body["sessions"][1]["subject"], "李",
            "subjects are shown as they are, not as headers spell them"
        );
        let next = format!("limit=2&cursor={}", body["next"].as_str().expect("there is a second page"));
        let (_, body) = ask(&door, &Method::GET, "/sessions", &next);
        assert_eq!((body["sessions"].as_array().map(Vec::len), body["next"].is_null()), (Some(1), true));
        for (query, expected) in [
            ("subject=alice", 2),
            ("subject=alice&source=staff", 1),
            ("subject=%E6%9D%8E", 1),
            ("subject=bob", 0),
            ("subject=", 3),
            ("sign_in=staff", 2),
            ("client=192.0.2.1", 3),
            ("client=192.0.2.0/24&subject=alice", 2),
            ("client=198.51.100.0/24", 0),
            ("client=2001:db8::/32", 0),
            ("idle_for=0s", 3),
            ("idle_for=1s", 0),
            ("opened_before=2026-11-22T12:00:00Z", 0),
            ("opened_before=2026-11-22T12:00:01Z", 3),
            ("anonymous=true", 0),
            ("anonymous=false", 3),
        ] {
            let (_, body) = ask(&door, &Method::GET, "/sessions", query);
            assert_eq!(body["sessions"].as_array().map(Vec::len), Some(expected), "{query}");
        }
    }

    #[test]
    fn a_session_past_its_deadline_is_neither_shown_nor_ended() {
        let behind = Arc::new(Behind::new());
        behind.open(1, "alice", "local");
        let door = door(Arc::clone(&behind));
        let later = NOON.plus(Duration::from_mins(30));
        let answer = door.handle(&head(&Method::GET, "/sessions", ""), b"", later);
        assert_eq!(String::from_utf8_lossy(answer.body()), r#"{"next":null,"sessions":[]}"#);
        let path = "/sessions/AQEBAQEBAQEBAQEBAQEBAQ";
        assert_eq!(door.handle(&head(&Method::DELETE, path, ""), b"", later).status(), 404);
        assert!(behind.ended.lock().is_empty(), "it ended by its deadline, and is counted as that");
    }

    #[test]
    fn one_session_is_shown_and_ended_by_its_id() {
        let behind = Arc::new(Behind::new());
        let session = behind.open(1, "alice", "local");
        let door = door(Arc::clone(&behind));
        let path = format!("/sessions/{}", session.id());
        assert_eq!(ask(&door, &Method::GET, &path, "").1["subject"], "alice");
        assert_eq!(ask(&door, &Method::DELETE, &path, "").0, 204);
        assert_eq!(session.end(), Some(crate::domain::session::End::Revoked));
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(ask(&door, &method, &path, "").0, 404, "{method}");
        }
        assert_eq!(ask(&door, &Method::PUT, &path, "").0, 405);
        assert_eq!(ask(&door, &Method::GET, "/sessions/none", "").0, 404);
    }

    #[test]
    fn ending_several_needs_a_filter_spelt_right() {
        let behind = Arc::new(Behind::new());
        for (number, subject, source) in
            [(1, "alice", "local"), (2, "alice", "staff"), (3, "bob", "local"), (4, "carol", "local")]
        {
            behind.open(number, subject, source);
        }
        let door = door(Arc::clone(&behind));
        for query in [
            "",
            "subject=",
            "anonymous=false",
            "subjct=alice",
            "subject=alice&subject=bob",
            "subject=alice&x=1",
            "subject=alice&limit=1",
            "idle_for=2",
        ] {
            assert_eq!(ask(&door, &Method::DELETE, "/sessions", query).0, 400, "{query}");
        }
        assert_eq!(behind.table.live(), 4);
        let (status, body) = ask(&door, &Method::DELETE, "/sessions", "subject=alice");
        assert_eq!((status, body), (200, serde_json::json!({ "ended": 2 })));
        assert_eq!(*behind.ended.lock(), ["alice revoked", "alice revoked"]);
        for (query, ended) in [
            ("subject=bob&source=staff", 0),
            ("client=198.51.100.0/24", 0),
            ("anonymous=true", 0),
            ("client=192.0.2.1&subject=bob", 1),
            ("sign_in=local", 1),
            ("sign_in=local", 0),
        ] {
            assert_eq!(ask(&door, &Method::DELETE, "/sessions", query).1["ended"], ended, "{query}");
        }
        assert_eq!(behind.table.live(), 0);
    }

    #[test]
    fn the_console_filters_like_the_api_and_comes_back_to_the_same_page() {
        let behind = Arc::new(Behind::new());
        for (number, subject, source) in [(1, "alice", "local"), (2, "bob", "staff")] {
            behind.open(number, subject, source);
        }
        let door = door(Arc::clone(&behind));
        let query = "subject=alice&source=&sign_in=local&client=192.0.2.0%2F24&idle_for=&opened_before=";
        let answer = door.handle(&head(&Method::GET, "/", query), b"", NOON);
        let html = String::from_utf8_lossy(answer.body());
        assert!(html.contains("alice") && !html.contains("bob"), "{html}");
        let again = "/?subject=alice&amp;sign_in=local&amp;client=192.0.2.0%2F24";
        assert!(html.contains(&format!("action=\"{again}\"")), "{html}");
        assert!(html.contains("name=\"client\" value=\"192.0.2.0&#x2f;24\""), "{html}");
        assert_eq!(door.handle(&head(&Method::GET, "/", "idle_for=x"), b"", NOON).status(), 400);
        let form = b"end=AQEBAQEBAQEBAQEBAQEBAQ";
        let own = Head { sec_fetch_site: Some(b"same-origin"), ..head(&Method::POST, "/", query) };
        let answer = door.handle(&own, form, NOON);
        assert_eq!((answer.status().as_u16(), behind.table.live()), (303, 1));
        assert_eq!(answer.headers()["location"], "/?subject=alice&sign_in=local&client=192.0.2.0%2F24");
    }

    #[test]
    fn a_session_is_opened_with_what_the_body_says() {
        let behind = Arc::new(Behind::new());
        let door = door(Arc::clone(&behind));
        let body = br#"{"subject":"alice","email":"a@example.com","groups":["ops"],"claims":{"level":3},"sign_in":"local","remember_me":true}"#;
        let answer = door.handle(&head(&Method::POST, "/sessions", ""), body, NOON);
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let opened: serde_json::Value = serde_json::from_slice(answer.body()).expect("the answer is JSON");
        assert_eq!(opened["cookie"], serde_json::json!({ "name": "__Host-session", "value": "the-token" }));
        assert_eq!(opened["ends_at"], "2026-11-23T00:00:00Z");
        let location = format!("/sessions/{}", opened["id"].as_str().expect("it has an id"));
        assert_eq!(answer.headers()["location"], location);
        let asked = behind.asked.lock().pop().expect("the process was asked");
        assert!(asked.remember_me);
        assert_eq!(
            format!("{:?}", asked.claims),
            r#"{"email": Text("a@example.com"), "groups": List(["ops"]), "level": Number("3")}"#
        );
        for (body, status) in [
            (&br#"{"subject":"nobody"}"#[..], 422),
            (br#"{"subject":"one-too-many"}"#, 503),
            (br#"{"subject":"often-enough"}"#, 409),
            (br#"{"subject":"alice","remember_me":1}"#, 400),
            (br#"{"subject":""}"#, 400),
            (br"{}", 400),
            (br#"{"subject":"alice","gruops":[]}"#, 400),
            (br#"{"subject":"alice","claims":{"email":"x@example.com"}}"#, 400),
            (br#"{"subject":"alice","claims":{"x":{}}}"#, 400),
            (br#"{"subject":"alice","claims":{"x":[1]}}"#, 400),
            (b"subject=alice", 400),
        ] {
            assert_eq!(
                ask_with(&door, &Method::POST, "/sessions", "", body).0,
                status,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn a_reload_tells_the_problems() {
        let problems = "vestibule.yaml: 1 problem\n  routes (line 3): …".to_owned();
        for (result, status, member, text) in [
            (Ok("in force".to_owned()), 200, "message", "in force".to_owned()),
            (Err(problems.clone()), 422, "detail", problems),
        ] {
            let door = door(Arc::new(Behind { reload: result, ..Behind::new() }));
            let (answered, body) = ask(&door, &Method::POST, "/reload", "");
            assert_eq!((answered, body[member].as_str()), (status, Some(text.as_str())));
        }
    }

    #[test]
    fn the_console_escapes_what_visitors_sent() {
        let behind = Arc::new(Behind::new());
        behind.open(1, "<script>alert(1)</script>", "local");
        let door = door(behind);
        let answer = door.handle(&head(&Method::GET, "/", "source=%22%3E%3Cimg%3E"), b"", NOON);
        assert!(!String::from_utf8_lossy(answer.body()).contains("<img>"));
        let answer = door.handle(&head(&Method::GET, "/", ""), b"", NOON);
        let html = String::from_utf8_lossy(answer.body());
        assert!(html.contains("&lt;script&gt;") && html.contains("&lt;b&gt;Browser"), "{html}");
        assert!(!html.contains("<script>") && !html.contains("<b>Browser"), "{html}");
        assert!(html.contains(r#"name="end" value="AQEBAQEBAQEBAQEBAQEBAQ""#), "{html}");
        assert!(
            answer.headers()["content-security-policy"]
                .to_str()
                .expect("ASCII")
                .starts_with("default-src 'none'")
        );
        // With `no-referrer` browsers would send the page's own form with `Origin: null`, which is refused.
        assert_eq!(answer.headers()["referrer-policy"], "same-origin");
    }

    #[test]
    fn a_reload_may_change_the_token() {
        let door = door(Arc::new(Behind::new()));
        door.replace(&AdminSettings {
            address: Address::Tcp(([127, 0, 0, 1], 9901).into()),
            token: Some(Secret::new("another".to_owned())),
            hosts: vec!["localhost".to_owned()],
        });
        assert_eq!(ask(&door, &Method::GET, "/sessions", "").0, 401);
        let asked = Head { authorization: Some(b"Bearer another"), ..head(&Method::GET, "/sessions", "") };
        assert_eq!(door.handle(&asked, b"", NOON).status(), 200);
    }

    #[test]
    fn a_file_that_moves_the_door_to_a_unix_socket_does_not_open_the_tcp_port() {
        let door = door(Arc::new(Behind::new()));
        door.replace(&AdminSettings {
            address: Address::Unix("/run/vestibule/admin.sock".into()),
            token: None,
            hosts: vec!["localhost".to_owned()],
        });
        for authorization in [None, Some(TOKEN.as_bytes())] {
            let asked = Head { authorization, ..head(&Method::GET, "/sessions", "") };
            assert_eq!(door.handle(&asked, b"", NOON).status(), 401);
        }
        let rebound = Head { host: Some(b"evil.example.com"), ..head(&Method::GET, "/sessions", "") };
        assert_eq!(door.handle(&rebound, b"", NOON).status(), 421);
    }
}
