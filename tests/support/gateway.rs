//! One process of the binary, with a folder and ports of its own.

use super::client::{Browser, Request, Wire};
use super::message::{Message, read_body, read_head, response_body};
use super::secrets::Secrets;
use super::tls;
use super::upstream::{self, Upstream};
use super::users::{self, User};
use super::wait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The operator's token.
pub(crate) const ADMIN_TOKEN: &str = "operators-token-5e1d7a";
/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_vestibule");
/// Ports of ours lie below those that the kernel gives to outgoing connections: nobody takes one between our look and the
/// gateway's bind.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A configuration in the making: top-level keys with the YAML that stands behind them.
pub(crate) struct Setup {
    arguments: Vec<String>,
    sections: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    upstreams: Vec<Arc<upstream::State>>,
    secrets: Secrets,
    tls: Option<tls::Client>,
}

impl Setup {
    /// The usual configuration: https outside, a public path, one for the group `ops`, the rest for everybody in the users
    /// file.
    pub(crate) fn before(upstream: &Upstream) -> Self {
        let mut setup = Self::empty();
        setup.upstreams.push(upstream.state());
        setup
            .set("admin", "{ address: \"127.0.0.1:{admin}\", token: { file: admin.token } }")
            .set("keys", "[{ file: session.key }]")
            .set("sign_in", "{ local: { password: { users: users.yaml } } }")
            .set("upstreams", &format!("{{ app: {{ servers: [\"http://{}\"] }} }}", upstream.address()))
            .routes(&[
                "{ name: public, host: wiki.example.com, path: /public, access: public, upstream: app }",
                "{ name: ops, host: wiki.example.com, path: /ops, upstream: app,
                   access: { sign_in: [local], allow: { groups: [ops] } } }",
                "{ name: wiki, host: wiki.example.com, path: /, upstream: app,
                   access: { sign_in: [local], allow: everyone } }",
            ])
            .listener("external: { scheme: https, port: 443 }")
            .users(&users::usual())
    }

    /// The demonstration, which brings an application and two users of its own.
    pub(crate) fn demonstration() -> Self {
        let arguments = ["demo", "--folder", "demo", "--port", "{public}"];
        Self { arguments: arguments.map(str::to_owned).into(), ..Self::empty() }
    }

    fn empty() -> Self {
        let arguments = ["run", "-c", "vestibule.yaml"];
        let setup = Self {
            // A relative name, as people type it; paths in the file are relative to the file.
            arguments: arguments.map(str::to_owned).into(),
            sections: BTreeMap::new(),
            files: BTreeMap::new(),
            environment: Vec::new(),
            upstreams: Vec::new(),
            secrets: Secrets::default(),
            tls: None,
        };
        let key = session_key("the first");
        setup.secrets.note_ours("the session key", &key);
        setup.secrets.note_ours("the operator's token", ADMIN_TOKEN);
        setup
            .set("version", "1")
            .set(
                "logs",
                "{ access: { format: json, to: stdout }, audit: { format: json, to: stdout }, \
                 events: { format: json, to: stderr } }",
            )
            .file("session.key", &format!("{key}\n"))
            .file("admin.token", &format!("{ADMIN_TOKEN}\n"))
    }

    /// Sets a top-level key; `{public}`, `{admin}`, `{probes}` and `{second}` stand for free ports.
    pub(crate) fn set(mut self, key: &str, yaml: &str) -> Self {
        self.sections.insert(key.to_owned(), yaml.to_owned());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.sections.remove(key);
        self
    }

    /// One public listener with these further settings in flow form.
    pub(crate) fn listener(self, settings: &str) -> Self {
        self.set("listeners", &format!("[{{ address: \"127.0.0.1:{{public}}\", {settings} }}]"))
    }

    /// One public listener that speaks TLS with a certificate for the usual host; visitors speak it too.
    pub(crate) fn with_tls(self, authority: &tls::Authority) -> Self {
        let certificate = authority.server(&[super::HOST]);
        self.pair("server", &certificate).tls_listener("", "").speaking(tls::Client::trusting(authority))
    }

    /// The same listener with these further settings in `tls`, and beside it, in flow form.
    pub(crate) fn tls_listener(self, tls: &str, beside: &str) -> Self {
        self.set("listeners", &tls_listener(tls, beside))
    }

    /// How visitors speak TLS to the public listener.
    pub(crate) fn speaking(self, client: tls::Client) -> Self {
        Self { tls: Some(client), ..self }
    }

    /// A certificate and its key in the configuration's folder: `NAME.crt`, `NAME.key`.
    pub(crate) fn pair(self, name: &str, pair: &tls::Pair) -> Self {
        self.file(&format!("{name}.crt"), &pair.certificate).file(&format!("{name}.key"), &pair.key)
    }

    /// Routes in flow form, in order.
    pub(crate) fn routes(self, routes: &[&str]) -> Self {
        self.set("routes", &format!("[{}]", routes.join(",\n")))
    }

    /// One route for everything, with this access, in flow form.
    pub(crate) fn access(self, access: &str) -> Self {
        self.routes(&[&format!(
            "{{ name: all, host: wiki.example.com, path: /, access: {access}, upstream: app }}"
        )])
    }

    /// A file in the configuration's folder.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.insert(name.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn users(self, users: &[User]) -> Self {
        for user in users {
            self.secrets.note_ours(&format!("the password of {}", user.name), &user.password);
        }
        self.file("users.yaml", &users::file(users))
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the folder without starting anything.
    pub(crate) fn write(self) -> Folder {
        let ports: BTreeMap<&str, u16> =
            ["public", "second", "admin", "probes"].into_iter().map(|name| (name, free_port())).collect();
        let folder = Folder { path: fresh_folder(), ports };
        folder.write_config(&self.sections);
        for (name, text) in &self.files {
            folder.write(name, text);
        }
        folder
    }

    /// Starts the gateway and waits until it answers.
    pub(crate) fn start(self) -> Gateway {
        Gateway::start(self)
    }
}

/// The value of `listeners` for [`Setup::tls_listener`].
pub(crate) fn tls_listener(tls: &str, beside: &str) -> String {
    format!(
        "[{{ address: \"127.0.0.1:{{public}}\", external: {{ scheme: https, port: 443 }},
           tls: {{ certificates: [{{ certificate: server.crt, key: server.key }}], {tls} }}, {beside} }}]"
    )
}

/// A folder with a configuration; gone when dropped.
pub(crate) struct Folder {
    path: PathBuf,
    ports: BTreeMap<&'static str, u16>,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("vestibule.yaml")
    }

    /// Replaces a file in one step, as a careful editor does; nobody else may read it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let (target, fresh) = (self.path.join(name), self.path.join(format!("{name}.new")));
        fs::create_dir_all(target.parent().expect("a file lies in a folder"))
            .expect("the folder takes folders");
        fs::write(&fresh, text).expect("the folder takes files");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
        fs::rename(&fresh, &target).expect("a file can be renamed");
    }

    fn write_config(&self, sections: &BTreeMap<String, String>) {
        let mut text = String::new();
        for (key, yaml) in sections {
            writeln!(text, "{key}: {yaml}").expect("a string takes all");
        }
        self.write("vestibule.yaml", &self.with_ports(&text));
    }

    fn with_ports(&self, text: &str) -> String {
        let ports = self.ports.iter();
        ports.fold(text.to_owned(), |text, (name, port)| {
            text.replace(&format!("{{{name}}}"), &port.to_string())
        })
    }

    pub(crate) fn address(&self, port: &str) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[port]))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder hurts nobody.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// A key that looks random and is the same in every run.
pub(crate) fn session_key(label: &str) -> String {
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, label.as_bytes()))
}

fn fresh_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("vestibule-test-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).expect("the temporary folder takes folders");
    path
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Two runs at the same time begin at different places.
    let begin = (std::process::id() % u32::from(span)) as u16;
    for _ in 0..span {
        let offset = (u32::from(begin) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(span);
        let port = PORTS.start + offset as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

/// The lines that a process has written so far.
#[derive(Clone, Default)]
struct Output {
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
}

impl Output {
    /// Takes in what the process writes.
    fn read(&self, child: &mut Child) -> [JoinHandle<()>; 2] {
        let out = child.stdout.take().expect("the output is piped");
        let err = child.stderr.take().expect("the output is piped");
        [collect(out, self.out.clone()), collect(err, self.err.clone())]
    }
}

fn spawn(folder: &Folder, arguments: &[String], environment: &[(String, String)]) -> Child {
    Command::new(BINARY)
        .args(arguments.iter().map(|argument| folder.with_ports(argument)))
        .current_dir(folder.path())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// A running gateway. Dropping it ends the process, and fails the test if a log holds a secret.
pub(crate) struct Gateway {
    folder: Folder,
    sections: BTreeMap<String, String>,
    upstreams: Vec<Arc<upstream::State>>,
    secrets: Secrets,
    tls: Option<tls::Client>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Child,
    /// Processes from which another one took over, or was to.
    former: Vec<Child>,
    /// A process that this one has started itself, to take over.
    heir: Option<Pid>,
    output: Output,
    readers: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// The usual gateway before `upstream`.
    pub(crate) fn before(upstream: &Upstream) -> Self {
        Setup::before(upstream).start()
    }

    fn start(mut setup: Setup) -> Self {
        let (sections, upstreams) = (setup.sections.clone(), std::mem::take(&mut setup.upstreams));
        let arguments = std::mem::take(&mut setup.arguments);
        let tls = setup.tls.take();
        let (secrets, environment) = (std::mem::take(&mut setup.secrets), setup.environment.clone());
        let folder = setup.write();
        let mut child = spawn(&folder, &arguments, &environment);
        let output = Output::default();
        let readers = output.read(&mut child).into();
        let mut gateway = Self {
            folder,
            sections,
            upstreams,
            secrets,
            tls,
            arguments,
            environment,
            child,
            former: Vec::new(),
            heir: None,
            output,
            readers,
        };
        gateway.wait_until_it_answers();
        gateway
    }

    /// Ends the process as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Starts another process in the same folder, after the one before has ended, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        let served = self.started();
        self.start_unseen();
        self.wait_until_it_answers();
        if served > 0 {
            self.wait_until_told(served);
        }
    }

    /// Starts another process in the same folder, and does not look whether it comes to anything.
    pub(crate) fn start_unseen(&mut self) {
        self.child = spawn(&self.folder, &self.arguments, &self.environment);
        self.readers.extend(self.output.read(&mut self.child));
    }

    /// Starts another process that takes over from this one, and waits until it has.
    pub(crate) fn upgrade(&mut self) {
        // What the process before has written may still be on its way: it would be taken for the other's.
        self.wait_until_told(0);
        let served = self.started();
        self.start_upgrade();
        self.wait_until_told(served);
    }

    /// Waits until more processes than `served` have said that they serve.
    fn wait_until_told(&self, served: usize) {
        let told = wait::within(wait::PATIENCE, || (self.started() > served).then_some(()));
        assert!(told.is_some(), "nobody says that it serves:\n{}", self.everything().join("\n"));
    }

    /// Starts another process that is to take over, and does not look whether it does.
    pub(crate) fn start_upgrade(&mut self) {
        let arguments = [self.arguments.clone(), vec!["--upgrade".to_owned()]].concat();
        let child = spawn(&self.folder, &arguments, &self.environment);
        self.former.push(std::mem::replace(&mut self.child, child));
        self.readers.extend(self.output.read(&mut self.child));
    }

    /// The process of this number was started by the gateway to take over, and is ended with it.
    pub(crate) fn adopt(&mut self, process: i32) {
        self.heir = Pid::from_raw(process);
    }

    /// The process that was to take over has ended, and how; the one before is the gateway again.
    pub(crate) fn upgrade_failed(&mut self) -> ExitStatus {
        let status = self.wait_for_end(wait::PATIENCE).expect("the new process ends");
        // Until all is read that it wrote.
        for reader in self.readers.drain(self.readers.len() - 2..) {
            reader.join().expect("it reads to the end");
        }
        self.child = self.former.pop().expect("there was one before");
        status
    }

    /// Waits until every process has ended from which another one took over; `None`: some goes on.
    pub(crate) fn former_end(&mut self, span: Duration) -> Option<()> {
        let ended = wait::within(span, || {
            let ended = |child: &mut Child| child.try_wait().expect("a child can be asked");
            let ended: Option<Vec<ExitStatus>> = self.former.iter_mut().map(ended).collect();
            ended
        })?;
        assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
        self.former.clear();
        Some(())
    }

    /// Signals the first of those processes that have not ended.
    pub(crate) fn signal_former(&self, signal: Signal) {
        let former = self.former.first().expect("there was one before");
        kill_process(Pid::from_child(former), signal).expect("a child of ours takes signals");
    }

    /// How many processes have begun to serve.
    pub(crate) fn started(&self) -> usize {
        self.lines().iter().filter(|line| line["event"] == "started").count()
    }

    /// What stands behind a top-level key.
    pub(crate) fn section(&self, key: &str) -> String {
        self.sections[key].clone()
    }

    /// Ends the process in good order and starts another one.
    pub(crate) fn restart(&mut self) {
        self.signal(Signal::TERM);
        self.wait_for_end(wait::PATIENCE).expect("it ends");
        self.start_again();
    }

    /// Bounds the length of the files that the process writes; `None` takes the bound away.
    pub(crate) fn limit_file_bytes(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("a child can be limited");
    }

    fn wait_until_it_answers(&mut self) {
        let address = self.address();
        let answers = wait::within(wait::PATIENCE, || {
            let ended = self.child.try_wait().expect("a child can be asked");
            if ended.is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        });
        assert_eq!(answers, Some(true), "the gateway did not start:\n{}", self.everything().join("\n"));
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The public listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.folder.address("public")
    }

    /// The port that stands for `{name}` in the configuration.
    pub(crate) fn port(&self, name: &str) -> SocketAddr {
        self.folder.address(name)
    }

    pub(crate) fn connect(&self) -> Wire {
        match &self.tls {
            Some(client) => self.connect_as(client),
            None => Wire::to(self.address()),
        }
    }

    /// Connects to the public listener with TLS.
    pub(crate) fn connect_as(&self, client: &tls::Client) -> Wire {
        Wire::over(client.connect(self.address()).expect("the gateway settles TLS"))
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request<'_> {
        Request::new(self, method, target)
    }

    pub(crate) fn get(&self, target: &str) -> Request<'_> {
        self.request("GET", target)
    }

    pub(crate) fn post(&self, target: &str) -> Request<'_> {
        self.request("POST", target)
    }

    /// A browser without cookies.
    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser::new(self)
    }

    /// Sends these bytes and gives everything that comes until the gateway closes.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut wire = self.connect();
        // A refusal may come, and the connection close, before all is written.
        drop(wire.try_write(bytes));
        String::from_utf8_lossy(&wire.rest()).into_owned()
    }

    /// A call at the operator's door, with the token.
    pub(crate) fn admin(&self, method: &str, target: &str, body: &str) -> Message {
        let token = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
        self.admin_raw(method, target, &token, body)
    }

    /// A call at the operator's door with these header lines.
    pub(crate) fn admin_raw(&self, method: &str, target: &str, fields: &str, body: &str) -> Message {
        let address = self.port("admin");
        let host = if fields.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let mut stream = TcpStream::connect(address).expect("the operator's door is open");
        stream.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout can be set");
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\n{host}{fields}{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        exchange(&mut stream, &request, method)
    }

    /// The same over a Unix socket in the configuration's folder.
    pub(crate) fn admin_over_socket(&self, socket: &str, method: &str, target: &str) -> Message {
        let mut stream = UnixStream::connect(self.folder.path.join(socket)).expect("the socket is there");
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        exchange(&mut stream, &request, method)
    }

    /// The value of a metric, its labels as `name{label="value"}`; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.admin("GET", "/metrics", "").text();
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Every line of the access and the audit log so far, as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let out = self.output.out.lock().expect("no panic under the lock");
        out.iter()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|cause| panic!("`{line}` is no JSON: {cause}"))
            })
            .collect()
    }

    /// The first line of the access or the audit log for which `fits` is true.
    pub(crate) fn wait_for_line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = wait::within(wait::PATIENCE, || self.lines().into_iter().find(&fits));
        found.unwrap_or_else(|| panic!("no line {what} in\n{}", self.everything().join("\n")))
    }

    /// The access line of the exchange that this answer belongs to.
    pub(crate) fn access_line(&self, answer: &Message) -> Value {
        let id = answer.header("x-request-id").expect("every answer of ours has a request id");
        self.wait_for_line(&format!("with {id}"), |line| {
            line["request_id"] == id.as_str() && line["event"].is_null()
        })
    }

    /// The first audit line of this event.
    pub(crate) fn audit(&self, event: &str) -> Value {
        self.wait_for_line(event, |line| line["event"] == event)
    }

    /// How many lines of the audit log tell of this event, once all that happened before this call is written.
    pub(crate) fn lines_of(&self, event: &str) -> usize {
        self.access_line(&self.get("/_vestibule/session").send());
        self.lines().into_iter().filter(|line| line["event"] == event).count()
    }

    /// Everything that the process wrote.
    pub(crate) fn everything(&self) -> Vec<String> {
        let out = self.output.out.lock().expect("no panic under the lock");
        let err = self.output.err.lock().expect("no panic under the lock");
        out.iter().chain(err.iter()).cloned().collect()
    }

    /// How often the process has read from anything.
    pub(crate) fn system_calls_of_reading(&self) -> u64 {
        let told = fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("the process lives");
        let count = told.lines().find_map(|line| line.strip_prefix("syscr: "));
        count.and_then(|count| count.parse().ok()).expect("the kernel counts")
    }

    /// The memory that the process has in use.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let told =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process lives");
        let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kibibytes.expect("the kernel counts") * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a child of ours takes signals");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_for_end(&mut self, span: Duration) -> Option<ExitStatus> {
        wait::within(span, || self.child.try_wait().expect("a child can be asked"))
    }

    /// Writes the configuration again with one key changed.
    pub(crate) fn change(&mut self, key: &str, yaml: &str) {
        self.sections.insert(key.to_owned(), yaml.to_owned());
        self.folder.write_config(&self.sections);
    }

    /// Changes one key and waits until the new file is in force.
    pub(crate) fn reload_with(&mut self, key: &str, yaml: &str) {
        self.change(key, yaml);
        let answer = self.admin("POST", "/reload", "");
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }

    /// Ends the process and says what was found in its output and may not be there.
    fn leaks(&mut self) -> Vec<String> {
        // It may have ended by itself.
        if let Some(heir) = self.heir.take() {
            // It may have ended by itself.
            let _ = kill_process(heir, Signal::KILL);
        }
        for mut child in self.former.drain(..) {
            drop(child.kill());
            drop(child.wait());
        }
        drop(self.child.kill());
        drop(self.child.wait());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        // A demonstration greets with its passwords; that is no log line.
        let logged = self.everything().into_iter().filter(|line| line.starts_with('{'));
        let mut leaks: Vec<String> =
            logged.flat_map(|line| self.secrets.found_in(&line, "a log line")).collect();
        for request in self.upstreams.iter().flat_map(|upstream| upstream.requests()) {
            leaks.extend(self.secrets.found_upstream(&[request.head, request.raw_body].concat()));
        }
        leaks
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let leaks = self.leaks();
        if std::thread::panicking() {
            eprintln!("the gateway wrote:\n{}", self.everything().join("\n"));
            return;
        }
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    }
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().expect("no panic under the lock").push(line);
        }
    })
}

fn exchange(stream: &mut (impl Read + std::io::Write), request: &str, method: &str) -> Message {
    stream.write_all(request.as_bytes()).expect("the door takes requests");
    let mut ahead = Vec::new();
    let head =
        read_head(stream, &mut ahead).expect("the door answers").expect("the door answers before it closes");
    let mut message = Message { head, ..Message::default() };
    let body = response_body(&message, method);
    read_body(stream, &mut ahead, &mut message, body).expect("the answer is whole");
    message
}
