//! The demonstration's application: a few pages, no sign-in, no memory.
//!
//! It believes the identity headers, as applications behind the gateway do, and listens on a loopback port of its
//! own. Everything it shows is in the request; the page that counts keeps its number in a cookie.

use crate::proxy::pages::STYLE;
use async_trait::async_trait;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, context};
use pingora::apps::ServerApp;
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession as Exchange;
use pingora::protocols::l4::stream::Stream;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections served at once; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 256;

/// The cookie of the page that counts visits.
const VISITS: &str = "visits";

/// Serves the application until `shutdown` says `true` or its sender is gone.
///
/// Connections still open then are dropped: the gateway before it has finished its exchanges by that time.
pub(crate) async fn serve(listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
    let server = Arc::new(HttpServer::new_app(Application::new()));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let stopping = shutdown.clone();
    let accept = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
            // A connection that fails while it is accepted is its client's concern.
            let Ok((connection, _)) = listener.accept().await else { continue };
            let (server, stopping) = (Arc::clone(&server), stopping.clone());
            connections.spawn(async move {
                server.process_new(Box::new(Stream::from(connection)), &stopping).await;
                drop(place);
            });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accept => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

struct Application {
    templates: Environment<'static>,
    style: Value,
}

/// What an address shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    WhoAmI,
    Public,
    Ops,
    Visits,
    Nothing,
}

/// Path, name in the navigation, what it shows.
const LINKS: &[(&str, &str, View)] = &[
    ("/", "Who am I", View::WhoAmI),
    ("/public/", "Public", View::Public),
    ("/ops/", "Ops only", View::Ops),
    ("/visits", "Visits", View::Visits),
];

impl View {
    fn of_path(path: &str) -> Self {
        let page = |held: &str| held.trim_end_matches('/') == path.trim_end_matches('/');
        LINKS.iter().find(|(held, _, _)| page(held)).map_or(Self::Nothing, |(_, _, view)| *view)
    }

    /// The name in the template, and the title.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::WhoAmI => ("whoami", "Who am I"),
            Self::Public => ("public", "A public page"),
            Self::Ops => ("ops", "Ops only"),
            Self::Visits => ("visits", "Your visits"),
            Self::Nothing => ("nothing", "No such page"),
        }
    }
}

#[async_trait]
impl ServeHttp for Application {
    async fn response(&self, exchange: &mut Exchange) -> Response<Vec<u8>> {
        let head = exchange.req_header();
        self.answer(&head.method, head.uri.path(), &head.headers)
    }
}

impl Application {
    fn new() -> Self {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.add_template("page", include_str!("page.html")).expect("the tests below render it");
        let style = format!("{STYLE}{}", include_str!("page.css"));
        Self { templates, style: Value::from_safe_string(style) }
    }

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Vec<u8>> {
        if method != Method::GET && method != Method::HEAD {
            let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, Vec::new());
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let view = View::of_path(path);
        let visits = visits_before(headers).saturating_add(1);
        let html = self.render(view, visits, headers);
        let status = if view == View::Nothing { StatusCode::NOT_FOUND } else { StatusCode::OK };
        let mut answer = response(status, html.into_bytes());
        if view == View::Visits {
            let line = Cookie::build((VISITS, visits.to_string()))
                .path("/")
                .same_site(SameSite::Lax)
                .http_only(true);
            let line = HeaderValue::try_from(line.to_string()).expect("a name, digits and attributes");
            answer.headers_mut().insert(header::SET_COOKIE, line);
        }
        if method == Method::HEAD {
            answer.body_mut().clear();
        }
        answer
    }

    fn render(&self, view: View, visits: u32, headers: &HeaderMap) -> String {
        let (page, title) = view.names();
        let links: Vec<Value> = LINKS
            .iter()
            .map(|(path, name, shown)| context! { path => *path, name => *name, here => *shown == view })
            .collect();
        let user = first(headers, "x-auth-user");
        let identity: Vec<Value> =
            [("User", "x-auth-user"), ("E-mail", "x-auth-email"), ("Groups", "x-auth-groups")]
                .map(|(name, header)| context! { name, value => first(headers, header) })
                .into();
        let mut seen: Vec<(&str, String)> =
            headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        seen.sort();
        let headers: Vec<Value> =
            seen.iter().map(|(name, value)| context! { name => *name, value }).collect();
        let values =
            context! { page, title, links, user, identity, headers, visits, style => self.style.clone() };
        let template = self.templates.get_template("page").expect("`new` added it");
        template.render(values).unwrap_or_else(|error| error.to_string())
    }
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let length = HeaderValue::from(response.body().len());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, length);
    response
}

/// The count that the browser brought; anything but a number starts anew.
fn visits_before(headers: &HeaderMap) -> u32 {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == VISITS)
        .and_then(|cookie| cookie.value().parse().ok())
        .unwrap_or(0)
}

fn first(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(text)
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn get(path: &str, fields: &[(&'static str, &'static str)]) -> (StatusCode, HeaderMap, String) {
        let headers = fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answer = Application::new().answer(&Method::GET, path, &headers.collect());
        let (parts, body) = answer.into_parts();
        (parts.status, parts.headers, String::from_utf8(body).expect("pages are UTF-8"))
    }

    #[test]
    fn it_shows_who_the_headers_name_and_every_header_escaped() {
        let (status, _, html) = get(
            "/",
            &[
                ("x-auth-user", "alice"),
                ("x-auth-groups", "ops,staff"),
                ("user-agent", "<script>alert(1)</script>"),
            ],
        );
        assert_eq!(status, StatusCode::OK);
        insta::assert_snapshot!(html.replace(&format!("{STYLE}{}", include_str!("page.css")), "…"));
    }

    #[test]
    fn each_page_has_its_address_and_the_others_are_not_found() {
        for (path, status, title) in [
            ("/", 200, "Who am I"),
            ("/public", 200, "A public page"),
            ("/public/", 200, "A public page"),
            ("/ops/", 200, "Ops only"),
            ("/visits", 200, "Your visits"),
            ("/favicon.ico", 404, "No such page"),
            ("/ops/x", 404, "No such page"),
        ] {
            let (got, _, html) = get(path, &[]);
            assert_eq!(got, status, "{path}");
            assert!(html.contains(&format!("<h1>{title}</h1>")), "{path}: {html}");
        }
    }

    #[test]
    fn visits_are_counted_in_the_cookie_alone() {
        for (cookie, counted) in [
            ("a=b", "visits=1"),
            ("session=x; visits=41; c=d", "visits=42"),
            ("visits=many", "visits=1"),
            ("visits=4294967295", "visits=4294967295"),
        ] {
            let (_, headers, html) = get("/visits", &[("cookie", cookie)]);
            let line = headers[header::SET_COOKIE].to_str().expect("the line is ASCII");
            assert_eq!(line.split(';').next(), Some(counted), "{cookie}");
            assert!(html.contains(&format!("<strong>{}</strong>", &counted["visits=".len()..])), "{html}");
        }
        let (_, headers, _) = get("/", &[("cookie", "visits=41")]);
        assert!(!headers.contains_key(header::SET_COOKIE), "only one page counts");
    }

    #[test]
    fn it_changes_nothing_and_says_so() {
        let answer = Application::new().answer(&Method::POST, "/", &HeaderMap::new());
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()[header::ALLOW], "GET, HEAD");
    }

    #[tokio::test]
    async fn it_answers_over_one_kept_connection_and_stops_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, stopped));
        let mut connection = tokio::net::TcpStream::connect(address).await.expect("it listens");
        for (method, request) in [("HEAD", "/public/"), ("POST", "/"), ("GET", "/ops/")] {
            let request = format!("{method} {request} HTTP/1.1\r\nHost: demo\r\nContent-Length: 0\r\n\r\n");
            connection.write_all(request.as_bytes()).await.expect("it reads");
            let head = read_head(&mut connection).await;
            let length: usize = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or_else(|| panic!("a length in {head}"));
            let expected = if method == "POST" { "HTTP/1.1 405" } else { "HTTP/1.1 200" };
            assert!(head.starts_with(expected), "{head}");
            if method != "HEAD" {
                let mut body = vec![0; length];
                connection.read_exact(&mut body).await.expect("the whole body arrives");
            }
        }
        stop.send(true).expect("it listens to us");
        serving.await.expect("it does not panic");
        assert_eq!(connection.read(&mut [0; 1]).await.expect("a plain close"), 0, "the connection is closed");
    }

    async fn read_head(connection: &mut tokio::net::TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.expect("the head arrives"));
        }
        String::from_utf8(head).expect("the head is ASCII")
    }
}
