//! A client: requests as a browser or a script would send them, and raw bytes where those would not.

use super::gateway::Gateway;
use super::message::{self, Message, read_body, read_head, response_body};
use super::tls::{self, Line};
use super::users::password_of;
use super::wait;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The host of the usual configuration.
pub(crate) const HOST: &str = "wiki.example.com";
/// Its origin as browsers see it.
pub(crate) const ORIGIN: &str = "https://wiki.example.com";
/// The session cookie's name over https.
pub(crate) const SESSION: &str = "__Host-session";
/// What a browser sends with a click on a link of the same site.
pub(crate) const NAVIGATION: [(&str, &str); 2] = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")];
/// What a browser sends with a form of ours.
pub(crate) const OWN_FORM: [(&str, &str); 3] =
    [("Origin", ORIGIN), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "navigate")];

/// One connection to the gateway.
pub(crate) struct Wire {
    stream: Line,
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(Line::Plain(tls::connect(address)))
    }

    /// From another address of this machine, such as 127.0.0.2.
    pub(crate) fn from(source: [u8; 4], address: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket can be made");
        bind(&socket, &SocketAddr::from((source, 0))).expect("all of 127.0.0.0/8 is this machine");
        connect(&socket, &address).expect("the gateway listens");
        Self::over(Line::Plain(tls::prepared(TcpStream::from(socket))))
    }

    /// The same over a connection that is open.
    pub(crate) fn over(stream: Line) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// The connection below.
    pub(crate) fn line(&self) -> &Line {
        &self.stream
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the gateway reads");
    }

    /// Writes as much as the gateway takes; it may have closed already.
    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next response, which may be a 1xx.
    pub(crate) fn response_to(&mut self, method: &str) -> Message {
        self.try_response_to(method)
            .expect("the gateway answers")
            .expect("the gateway answers before it closes")
    }

    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// The next response; nothing if the connection ends before one.
    pub(crate) fn try_response_to(&mut self, method: &str) -> io::Result<Option<Message>> {
        let Some(head) = read_head(&mut self.stream, &mut self.ahead)? else { return Ok(None) };
        let mut message = Message { head, ..Message::default() };
        let body = response_body(&message, method);
        read_body(&mut self.stream, &mut self.ahead, &mut message, body)?;
        Ok(Some(message))
    }

    /// Only the head; the body stays to be read with [`Self::read_exactly`].
    pub(crate) fn head(&mut self) -> Message {
        let head =
            read_head(&mut self.stream, &mut self.ahead).expect("the gateway answers").expect("a head comes");
        Message { head, ..Message::default() }
    }

    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            let read = message::fill(&mut self.stream, &mut self.ahead).expect("bytes come");
            assert!(read > 0, "the connection ended after {} of {count} bytes", self.ahead.len());
        }
        self.ahead.drain(..count).collect()
    }

    /// So many bytes; nothing if the connection ends before.
    pub(crate) fn try_read_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < count {
            message::fill(&mut self.stream, &mut self.ahead).ok().filter(|&read| read > 0)?;
        }
        Some(self.ahead.drain(..count).collect())
    }

    /// Everything until the gateway closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        // A reset after an answer is a close too.
        drop(self.stream.read_to_end(&mut self.ahead));
        std::mem::take(&mut self.ahead)
    }

    /// Everything until the gateway closes, and whether it did so without a reset.
    pub(crate) fn until_closed(&mut self) -> (Vec<u8>, io::Result<()>) {
        let end = self.stream.read_to_end(&mut self.ahead).map(drop);
        (std::mem::take(&mut self.ahead), end)
    }

    /// Whether the gateway closes within `span`, without a further byte.
    pub(crate) fn closes_within(&mut self, span: Duration) -> bool {
        assert!(self.ahead.is_empty(), "bytes were left: {}", String::from_utf8_lossy(&self.ahead));
        self.stream.set_read_timeout(Some(span)).expect("a timeout can be set");
        let read = self.stream.read(&mut [0; 1]);
        self.stream.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout can be set");
        match read {
            Ok(0) => true,
            Ok(_) => panic!("a byte came where none was due"),
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Whether within `span` the gateway closes or says something; what it says stays to be read.
    pub(crate) fn closes_or_answers(&mut self, span: Duration) -> bool {
        self.stream.set_read_timeout(Some(span)).expect("a timeout can be set");
        let read = message::fill(&mut self.stream, &mut self.ahead);
        self.stream.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout can be set");
        !matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// The same where the gateway may have closed already.
    pub(crate) fn try_finish_writing(&mut self) -> io::Result<()> {
        self.stream.finish_writing()
    }

    /// Tells the gateway that nothing more comes.
    pub(crate) fn finish_writing(&mut self) {
        self.try_finish_writing().expect("a side of a connection can be closed");
    }
}

/// A request in the making.
#[must_use = "nothing goes out before `send`"]
pub(crate) struct Request<'a> {
    gateway: &'a Gateway,
    browser: Option<&'a Browser<'a>>,
    method: String,
    target: String,
    host: Option<String>,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(gateway: &'a Gateway, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self {
            gateway,
            browser: None,
            method,
            target,
            host: Some(HOST.to_owned()),
            fields: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn headers(mut self, fields: &[(&str, &str)]) -> Self {
        self.fields.extend(fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// Asks an [`super::Upstream::prompted`] for this field in its answer.
    pub(crate) fn say(self, name: &str, value: &str) -> Self {
        self.header(&format!("Say-{name}"), value)
    }

    /// Asks such an upstream for this patch of the session's data.
    pub(crate) fn patch(self, patch: &str) -> Self {
        self.say("X-Session-Patch", patch)
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// With a token that no log may show.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.gateway.secrets().note("a bearer token", token);
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// As a browser sends a form.
    pub(crate) fn form(self, fields: &[(&str, &str)]) -> Self {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(fields);
        self.header("Content-Type", "application/x-www-form-urlencoded").body(encoded.finish())
    }

    /// The bytes as they go out.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if let Some(host) = &self.host {
            write!(head, "Host: {host}\r\n").expect("a string takes all");
        }
        for (name, value) in &self.fields {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
        if let Some(cookies) = self.browser.and_then(Browser::cookie_field) {
            write!(head, "Cookie: {cookies}\r\n").expect("a string takes all");
        }
        if let Some(body) = &self.body {
            write!(head, "Content-Length: {}\r\n", body.len()).expect("a string takes all");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it over a connection of its own and gives the answer.
    pub(crate) fn send(self) -> Message {
        let mut wire = self.gateway.connect();
        let response = self.send_over(&mut wire);
        assert!(response.is_whole, "the answer broke off: {}", String::from_utf8_lossy(&response.head));
        response
    }

    /// Sends it over this connection.
    pub(crate) fn send_over(self, wire: &mut Wire) -> Message {
        wire.write(self.bytes());
        let response = wire.response_to(&self.method);
        if let Some(browser) = self.browser {
            browser.take_cookies(&response);
        }
        response
    }
}

/// A visitor with a cookie jar of one host.
pub(crate) struct Browser<'a> {
    gateway: &'a Gateway,
    host: String,
    origin: String,
    /// What a trusted proxy says of where this browser is.
    address: Option<String>,
    /// Its User-Agent.
    name: Option<String>,
    cookies: RefCell<Vec<(String, String)>>,
    /// Names of those that outlive the browser.
    lasting: RefCell<BTreeSet<String>>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(gateway: &'a Gateway) -> Self {
        Self::at(gateway, HOST, ORIGIN)
    }

    /// One that sees the gateway under another name.
    pub(crate) fn at(gateway: &'a Gateway, host: &str, origin: &str) -> Self {
        Self {
            gateway,
            host: host.to_owned(),
            origin: origin.to_owned(),
            address: None,
            name: None,
            cookies: RefCell::default(),
            lasting: RefCell::default(),
        }
    }

    /// The same behind a trusted proxy that names this address.
    pub(crate) fn behind_proxy(self, address: &str) -> Self {
        Self { address: Some(address.to_owned()), ..self }
    }

    /// The same with this User-Agent.
    pub(crate) fn called(self, user_agent: &str) -> Self {
        Self { name: Some(user_agent.to_owned()), ..self }
    }

    pub(crate) fn request(&'a self, method: &str, target: &str) -> Request<'a> {
        let address = self.address.iter().map(|address| ("X-Forwarded-For".to_owned(), address.clone()));
        let name = self.name.iter().map(|name| ("User-Agent".to_owned(), name.clone()));
        let fields = address.chain(name).collect();
        Request { browser: Some(self), fields, ..Request::new(self.gateway, method, target).host(&self.host) }
    }

    pub(crate) fn get(&'a self, target: &str) -> Request<'a> {
        self.request("GET", target)
    }

    pub(crate) fn post(&'a self, target: &str) -> Request<'a> {
        self.request("POST", target)
    }

    /// A POST as a form of this origin sends it.
    pub(crate) fn own_post(&'a self, target: &str) -> Request<'a> {
        let proof = [
            ("Origin", self.origin.as_str()),
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Mode", "navigate"),
        ];
        self.post(target).headers(&proof)
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.borrow().iter().find(|(held, _)| held == name).map(|(_, value)| value.clone())
    }

    /// Puts a cookie into the jar.
    pub(crate) fn set_cookie(&self, name: &str, value: &str) {
        let mut cookies = self.cookies.borrow_mut();
        cookies.retain(|(held, _)| held != name);
        cookies.push((name.to_owned(), value.to_owned()));
    }

    /// Closes the browser: what has no `Max-Age` is gone.
    pub(crate) fn close(&self) {
        let lasting = self.lasting.borrow();
        self.cookies.borrow_mut().retain(|(name, _)| lasting.contains(name));
    }

    pub(crate) fn drop_cookie(&self, name: &str) {
        self.cookies.borrow_mut().retain(|(held, _)| held != name);
    }

    /// `__Host-session=…`, as somebody who copied it would send it.
    pub(crate) fn stolen_cookie(&self) -> String {
        format!("{SESSION}={}", self.cookie(SESSION).expect("this browser has a session cookie"))
    }

    fn cookie_field(&self) -> Option<String> {
        let cookies = self.cookies.borrow();
        let crumbs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!crumbs.is_empty()).then(|| crumbs.join("; "))
    }

    fn take_cookies(&self, response: &Message) {
        for line in response.all("set-cookie") {
            let mut parts = line.split("; ");
            let (name, value) =
                parts.next().and_then(|pair| pair.split_once('=')).expect("a cookie has a value");
            let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
            let is_cleared = value.is_empty() || attributes.iter().any(|part| part == "max-age=0");
            let mut lasting = self.lasting.borrow_mut();
            lasting.remove(name);
            if attributes.iter().any(|part| part.starts_with("max-age=")) {
                lasting.insert(name.to_owned());
            }
            if is_cleared {
                self.drop_cookie(name);
                continue;
            }
            // What the application sets may be logged by whom it likes; what we set is ours alone.
            if name == SESSION || name == "session" || name.contains("vestibule") {
                self.gateway.secrets().note_ours(&format!("the cookie {name}"), value);
            }
            self.set_cookie(name, value);
        }
    }

    /// Opens a page with a form of ours and gives its token.
    pub(crate) fn form_token(&'a self, path: &str) -> String {
        let page = self.get(path).headers(&NAVIGATION).send();
        assert_eq!(page.status(), 200, "{}", page.text());
        hidden_field(&page.text(), "form_token")
    }

    /// Signs in through the form and gives the answer, whatever it is.
    pub(crate) fn try_sign_in(&'a self, user: &str, password: &str, return_to: &str) -> Message {
        self.gateway.secrets().note_ours(&format!("the password of {user}"), password);
        let form_token = self.form_token("/_vestibule/login");
        let fields = [
            ("user", user),
            ("password", password),
            ("return_to", return_to),
            ("form_token", form_token.as_str()),
        ];
        self.own_post("/_vestibule/login").form(&fields).send()
    }

    /// Signs in as `user` with the usual password.
    pub(crate) fn sign_in(&'a self, user: &str) {
        let answer = self.try_sign_in(user, &password_of(user), "/");
        assert_eq!(answer.status(), 303, "{user} is let in: {}", answer.text());
    }

    /// Signs out through the form.
    pub(crate) fn sign_out(&'a self, everywhere: bool) -> Message {
        let form_token = self.form_token("/_vestibule/logout");
        let everywhere = if everywhere { "1" } else { "" };
        let fields = [("form_token", form_token.as_str()), ("everywhere", everywhere)];
        self.own_post("/_vestibule/logout").form(&fields).send()
    }

    /// What an [`super::Upstream::prompted`] is told of the session's data at this path; nothing where it is told none.
    pub(crate) fn data(&'a self, target: &str) -> Option<serde_json::Value> {
        let answer = self.get(target).send();
        assert_eq!(answer.status(), 200, "{}", answer.text());
        (answer.text() != "none").then(|| answer.json())
    }

    /// Lets the application patch the session's data.
    pub(crate) fn keep(&'a self, target: &str, patch: &str) {
        let answer = self.get(target).patch(patch).send();
        assert_eq!(answer.status(), 200, "{patch}: {}", answer.text());
    }

    /// Whether the page of everybody who is signed in can be seen.
    pub(crate) fn is_signed_in(&'a self) -> bool {
        match self.get("/page").send().status() {
            200 => true,
            401 => false,
            status => panic!("{status} says neither yes nor no"),
        }
    }
}

/// The value of a hidden field in a page.
pub(crate) fn hidden_field(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    let rest = page.split_once(&start).unwrap_or_else(|| panic!("no field {name} in {page}")).1;
    let value = rest.split_once('"').expect("a value ends with a quote").0;
    // What the templates escape.
    [("&#x2f;", "/"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&amp;", "&")]
        .into_iter()
        .fold(value.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
