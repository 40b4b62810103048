//! A proxy under measurement: the gateway in one of its jobs, or the bare one.

use super::load;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a contender does for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// A bare pingora proxy: nothing.
    Bare,
    /// The gateway on a public route.
    Public,
    /// The gateway with a live session and three identity headers.
    Session,
    /// The gateway with a believed token and three identity headers.
    Token,
}

impl Job {
    /// The bare one first: it is what the others are measured by.
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::Public, Self::Session, Self::Token];

    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare pingora",
            Self::Public => "gateway, public route",
            Self::Session => "gateway, live session",
            Self::Token => "gateway, believed token",
        }
    }
}

const CONFIG: &str = "
version: 1
listeners: [{ address: '127.0.0.1:LISTEN' }]
external_url: http://localhost:LISTEN
admin: { address: '127.0.0.1:ADMIN', token: { file: admin.token } }
keys: [{ file: session.key }]
sessions: { idle_timeout: 30m, absolute_lifetime: 12h }
sign_in: { local: { password: { users: users.yaml } } }
tokens:
  api: { jwt: { issuer: 'https://id.example.com', audience: [bench], keys: { secret: { file: jwt.secret } }, algorithms: [HS256] } }
identity: { headers: { X-Auth-User: subject, X-Auth-Email: email, X-Auth-Groups: groups } }
upstreams: { app: { servers: ['http://127.0.0.1:UPSTREAM'] } }
routes:
  - { name: public, path: /public, access: public, upstream: app }
  - { name: api, path: /api, access: { tokens: [api], allow: everyone }, upstream: app }
  - { name: app, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }
logs: { access: { to: 'off' }, audit: { to: 'off' } }
";

const USERS: &str = "
alice:
  password: $argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4
  email: alice@example.com
  groups: [ops, dev, staff]
";

const ADMIN_TOKEN: &str = "a-token-for-the-bench-alone-0123456789";
const JWT_SECRET: &[u8] = b"a secret for the bench alone, 32 bytes or more";

/// What Firefox sends, less the request line, the cookie and the credential.
const FIELDS: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nSec-Fetch-User: ?1\r\n\
    Upgrade-Insecure-Requests: 1\r\nPriority: u=0, i\r\n";

/// A running proxy.
pub(crate) struct Contender {
    job: Job,
    child: Child,
    port: u16,
    request: Vec<u8>,
    folder: PathBuf,
}

impl Contender {
    /// Starts the proxy for `job`, under callgrind if asked.
    pub(crate) fn start(job: Job, upstream: u16, counted: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("vestibule-bench-{}-{job:?}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let (port, admin) = (free_port(), free_port());
        write_files(&folder, port, admin, upstream);
        let mut command = if counted {
            let mut valgrind = Command::new("valgrind");
            valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out(&folder).display()));
            valgrind.arg(program(job));
            valgrind
        } else {
            Command::new(program(job))
        };
        match job {
            Job::Bare => {
                command.args(["bare", &format!("127.0.0.1:{port}"), &format!("127.0.0.1:{upstream}")]);
            }
            _ => {
                command.arg("run").arg("-c").arg(folder.join("vestibule.yaml"));
            }
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        wait_for(port);
        let request = request(job, admin);
        Self { job, child, port, request, folder }
    }

    /// Sends it so many requests over so many connections.
    pub(crate) fn load(&mut self, requests: u64, connections: u64) {
        load::send(self.port, &self.request, requests, connections);
    }

    /// User and system time of the process so far.
    pub(crate) fn cpu_micros(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a stat line").split_whitespace().collect();
        let ticks: f64 =
            fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
        // USER_HZ is 100 on every Linux that runs this.
        ticks * 10_000.0
    }

    /// Ends it and reads callgrind's total.
    pub(crate) fn instructions(mut self) -> u64 {
        let pid = self.child.id().to_string();
        // The bare proxy ends with its input, the gateway at SIGTERM.
        drop(self.child.stdin.take());
        if self.job != Job::Bare {
            Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        }
        self.child.wait().expect("it ends");
        let report = std::fs::read_to_string(out(&self.folder)).expect("callgrind wrote its file");
        let total =
            report.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        total.and_then(|total| total.trim().parse().ok()).expect("callgrind's total")
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn out(folder: &Path) -> PathBuf {
    folder.join("callgrind.out")
}

fn program(job: Job) -> PathBuf {
    match job {
        Job::Bare => std::env::current_exe().expect("this program has a path"),
        _ => PathBuf::from(env!("CARGO_BIN_EXE_vestibule")),
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

fn write_files(folder: &Path, listen: u16, admin: u16, upstream: u16) {
    let config = CONFIG
        .replace("LISTEN", &listen.to_string())
        .replace("ADMIN", &admin.to_string())
        .replace("UPSTREAM", &upstream.to_string());
    let files: [(&str, &[u8]); 5] = [
        ("vestibule.yaml", config.as_bytes()),
        ("users.yaml", USERS.as_bytes()),
        ("admin.token", ADMIN_TOKEN.as_bytes()),
        ("jwt.secret", JWT_SECRET),
        (
            "session.key",
            STANDARD.encode(std::array::from_fn::<u8, 32, _>(|at| (at * 37 + 11) as u8)).leak().as_bytes(),
        ),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), content).expect("the folder is writable");
    }
}

fn wait_for(port: u16) {
    // A minute in steps: under callgrind a start takes seconds.
    for _ in 0..1_200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("it does not listen");
}

fn request(job: Job, admin: u16) -> Vec<u8> {
    let (path, credential) = match job {
        Job::Bare | Job::Public => ("/public/page", String::new()),
        Job::Session => ("/page", format!("Cookie: theme=dark; {}\r\n", open_session(admin))),
        Job::Token => ("/api/page", format!("Authorization: Bearer {}\r\n", token())),
    };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{FIELDS}{credential}\r\n").into_bytes()
}

/// Opens a session through the operator's door and gives the cookie.
fn open_session(admin: u16) -> String {
    let body = json!({"subject": "alice"}).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).expect("the door is open");
    let length = body.len();
    write!(
        stream,
        "POST /sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .expect("the door reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the door answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let opened: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let text = |name: &str| opened["cookie"][name].as_str().expect("a cookie").to_owned();
    format!("{}={}", text("name"), text("value"))
}

/// In seconds since 1970. A token that is good for longer than the gateway takes any is refused.
fn in_an_hour() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec + 3_600
}

fn token() -> String {
    let claims = json!({
        "iss": "https://id.example.com", "aud": "bench", "sub": "alice", "exp": in_an_hour(),
        "email": "alice@example.com", "email_verified": true, "groups": ["ops", "dev", "staff"],
    });
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("claims encode")
}
