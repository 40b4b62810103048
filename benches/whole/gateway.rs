//! The built gateway, its files and what the system's accounting says of it.

use super::{clients, ticks};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vestibule::domain::secret::Secret;

/// The head of every configuration: `LISTEN`, `ADMIN` and `UPSTREAM` stand for ports, `IDLE` for a span. Routes follow.
const CONFIG: &str = "
version: 1
listeners: [{ address: '127.0.0.1:LISTEN', connections: { max_per_client: 20000 } }]
external_url: http://localhost:LISTEN
trusted_proxies: [127.0.0.1/32]
admin: { address: '127.0.0.1:ADMIN', token: { file: admin.token } }
keys: [{ file: session.key }]
sessions: { idle_timeout: IDLE, absolute_lifetime: 12h, capacity: 10000000, per_subject: { max: 1000000 } }
sign_in: { local: { password: { users: users.yaml } } }
tokens:
  api: { jwt: { issuer: 'https://id.example.com', audience: [bench], keys: { secret: { file: jwt.secret } }, algorithms: [HS256] } }
identity: { headers: { X-Auth-User: subject, X-Auth-Email: email, X-Auth-Groups: groups } }
upstreams: { app: { servers: ['http://127.0.0.1:UPSTREAM'] } }
logs: { access: { to: 'off' }, audit: { to: 'off' } }
routes:
  - { name: api, path: /api, access: { tokens: [api], allow: everyone }, upstream: app }
  - { name: app, path: /, access: { sign_in: [local], allow: everyone }, upstream: app }
";

/// People with sessions.
pub(crate) const USERS: usize = 1_000;
/// What everybody's password is; the hash is one of the weight that the gateway gives new ones.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
const ADMIN_TOKEN: &str = "a-token-for-the-bench-alone-0123456789";
const JWT_SECRET: &[u8] = b"a secret for the bench alone, 32 bytes or more";

/// A running gateway; ended, and its folder removed, with the value.
pub(crate) struct Gateway {
    child: Child,
    folder: PathBuf,
    pub(crate) port: u16,
    pub(crate) admin: u16,
    /// From the start of the process to the first answer of `/readyz`.
    pub(crate) started_in: Duration,
}

impl Gateway {
    /// Starts one before `upstream`; `more` are further lines of `routes`, which are looked at last.
    pub(crate) fn start(upstream: u16, more: &str) -> Self {
        Self::start_with(upstream, more, "30m")
    }

    /// The same with sessions that end when they were not used for so long.
    pub(crate) fn start_with(upstream: u16, more: &str, idle_timeout: &str) -> Self {
        let (port, admin) = (free_port(), free_port());
        let folder = std::env::temp_dir().join(format!("vestibule-whole-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let (first, last) = CONFIG.split_at(CONFIG.rfind("  - { name: app").expect("it stands there"));
        let config = format!("{first}{more}{last}")
            .replace("LISTEN", &port.to_string())
            .replace("ADMIN", &admin.to_string())
            .replace("UPSTREAM", &upstream.to_string())
            .replace("IDLE", idle_timeout);
        let key = STANDARD.encode(std::array::from_fn::<u8, 32, _>(|at| (at * 37 + 11) as u8));
        let users = users();
        let files: [(&str, &[u8]); 5] = [
            ("vestibule.yaml", config.as_bytes()),
            ("users.yaml", users.as_bytes()),
            ("admin.token", ADMIN_TOKEN.as_bytes()),
            ("jwt.secret", JWT_SECRET),
            ("session.key", key.as_bytes()),
        ];
        for (name, content) in files {
            std::fs::write(folder.join(name), content).expect("the folder is writable");
        }
        let began = ticks();
        let child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .arg("run")
            .arg("-c")
            .arg(folder.join("vestibule.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        wait_until_ready(admin);
        let started_in = ticks().saturating_sub(began);
        Self { child, folder, port, admin, started_in }
    }

    /// User and system time of the process so far, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a stat line").split_whitespace().collect();
        let spent = |at: usize| fields[at].parse::<f64>().expect("a count of ticks");
        // USER_HZ is 100 on every Linux that runs this.
        (spent(11) + spent(12)) * 10_000.0
    }

    /// `VmRSS`, in bytes.
    pub(crate) fn resident_bytes(&self) -> f64 {
        let told = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024.0
    }

    /// Opens so many sessions through the operator's door, spread over all people, and gives every `every`th cookie.
    pub(crate) fn open(&self, sessions: usize, every: usize) -> Vec<String> {
        const CALLERS: usize = 8;
        let calls = |caller: usize| {
            let mut door = clients::Connection::open(self.admin);
            let mut kept = Vec::new();
            for n in (caller..sessions).step_by(CALLERS) {
                let answer = door.exchange(&call(
                    "POST",
                    "/sessions",
                    &format!("{{\"subject\":\"user{}\"}}", n % USERS),
                ));
                assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
                if n % every == 0 {
                    let opened: serde_json::Value = serde_json::from_slice(answer.body).expect("JSON");
                    let text = |name: &str| opened["cookie"][name].as_str().expect("a cookie").to_owned();
                    kept.push(format!("{}={}", text("name"), text("value")));
                }
            }
            kept
        };
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || calls(caller))).collect();
            callers.into_iter().flat_map(|caller| caller.join().expect("the door answers")).collect()
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// So many lines of `routes`, over a hundred hosts.
pub(crate) fn routes(count: usize) -> String {
    let mut lines = String::new();
    for n in 0..count {
        let host = n % 100;
        let line = format_args!(
            "{{ name: r{n}, host: h{host}.example.com, path: /part{n}, access: public, upstream: app }}"
        );
        writeln!(lines, "  - {line}").expect("a string takes all");
    }
    lines
}

/// A GET as Firefox sends it, with a line of the credential.
pub(crate) fn request(path: &str, credential: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         Accept: application/json\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
         Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n{credential}\r\n\r\n"
    )
    .into_bytes()
}

/// A token that the gateway believes, whose `jti` is `n`.
pub(crate) fn token(n: usize) -> String {
    let claims = json!({
        "iss": "https://id.example.com", "aud": "bench", "sub": format!("user{}", n % USERS), "exp": super::expiry(),
        "jti": n.to_string(), "email": "user@example.com", "email_verified": true, "groups": ["ops", "dev", "staff"],
    });
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("claims encode")
}

/// A call to the operator's door.
pub(crate) fn call(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn users() -> String {
    let password = Secret::new(PASSWORD.to_owned());
    let hash = vestibule::auth::password::hash(&password).expect("a password can be hashed");
    let mut text = String::new();
    for n in 0..USERS {
        writeln!(
            text,
            "user{n}: {{ password: \"{hash}\", email: user{n}@example.com, groups: [ops, dev, staff] }}"
        )
        .expect("a string takes all");
    }
    text
}

fn wait_until_ready(admin: u16) {
    for _ in 0..60_000 {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", admin)) {
            let asked = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
            let mut answer = String::new();
            if stream.write_all(asked).and_then(|()| stream.read_to_string(&mut answer)).is_ok()
                && answer.starts_with("HTTP/1.1 200")
            {
                return;
            }
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it is not ready after a minute");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}
