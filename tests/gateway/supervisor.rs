//! What systemd, a log rotation and a balancer rely on.

use crate::support::command::vestibule;
use crate::support::gateway::BINARY;
use crate::support::wait::{now, until};
use crate::support::{Gateway, HOST, Setup, Upstream, Wire};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A datagram socket under a name of its own.
fn notifications(name: &str) -> (UnixDatagram, PathBuf) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    (socket, path)
}

fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut bytes = [0; 1024];
    let read = socket.recv(&mut bytes).expect("the supervisor is told");
    String::from_utf8_lossy(&bytes[..read]).lines().map(str::to_owned).collect()
}

#[test]
fn a_supervisor_is_told_how_far_it_is() {
    let upstream = Upstream::recording();
    let (socket, path) = notifications("notify");
    let mut gateway =
        Setup::before(&upstream).environment("NOTIFY_SOCKET", path.to_str().expect("text")).start();
    assert_eq!(told(&socket), ["READY=1"]);
    assert_eq!(gateway.get("/public").send().status(), 200, "what is ready answers");
    gateway.signal(Signal::HUP);
    let reloading = told(&socket);
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    assert_eq!(told(&socket), ["READY=1"]);
    gateway.signal(Signal::TERM);
    assert_eq!(told(&socket), ["STOPPING=1"]);
    assert!(gateway.wait_for_end(Duration::from_secs(5)).is_some());
}

#[test]
fn an_upgrade_is_a_command_and_the_supervisor_is_told_whom_to_watch() {
    let upstream = Upstream::recording();
    let (socket, path) = notifications("upgrade");
    let mut gateway = Setup::before(&upstream)
        .set("upgrade", "{ socket: run/upgrade.sock }")
        .environment("NOTIFY_SOCKET", path.to_str().expect("text"))
        .start();
    assert_eq!(told(&socket), ["READY=1"]);
    let cookie = {
        let alice = gateway.browser();
        alice.sign_in("alice");
        alice.stolen_cookie()
    };
    let asks = |gateway: &Gateway, arguments: &[&str]| {
        vestibule(gateway.folder().path(), &[&["upgrade"], arguments].concat(), "")
    };

    // Nothing is begun with a file that has a mistake; and what is begun all the same comes to nothing.
    let routes = gateway.section("routes");
    gateway.change("routes", "[{ name: broken }]");
    let refused = asks(&gateway, &["-c", "vestibule.yaml"]);
    assert!(refused.code == 2 && refused.err.contains("routes"), "{refused:?}");
    let refused = asks(&gateway, &["--socket", "run/upgrade.sock"]);
    assert!(refused.code == 1 && refused.err.contains("before it took over"), "{refused:?}");
    assert!(refused.err.contains("goes on"), "{refused:?}");
    gateway.change("routes", &routes);
    until("the file is taken up or left", || {
        (gateway.admin("GET", "/readyz", "").status() == 200).then_some(())
    });
    let page = gateway.get("/page").header("Cookie", &cookie).send();
    assert_eq!(page.status(), 200);

    let done = asks(&gateway, &["-c", "vestibule.yaml"]);
    assert_eq!(done.code, 0, "{done:?}");
    let process = done.out.split(' ').nth(1).and_then(|number| number.parse::<i32>().ok());
    let process = process.unwrap_or_else(|| panic!("it says which process has taken over: {done:?}"));
    gateway.adopt(process);
    let named = until("the new main process is named", || {
        told(&socket).iter().find_map(|line| line.strip_prefix("MAINPID=").map(str::to_owned))
    });
    assert_eq!(named, process.to_string());
    assert!(gateway.wait_for_end(Duration::from_secs(10)).is_some_and(|status| status.success()));
    let page = gateway.get("/page").header("Cookie", &cookie).send();
    assert_eq!(page.status(), 200);
    // From here on the new one alone speaks; whatever the old one had to say it has said.
    let mut rest = Vec::new();
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
    let mut bytes = [0; 1024];
    while let Ok(read) = socket.recv(&mut bytes) {
        rest.extend_from_slice(&bytes[..read]);
    }
    assert!(!String::from_utf8_lossy(&rest).contains("STOPPING"), "the service goes on");
}

/// A process whose descriptor 3 is this socket.
struct Passed(Child);

impl Passed {
    fn start(folder: &Path, socket: OwnedFd) -> Self {
        let script =
            format!("LISTEN_PID=$$ LISTEN_FDS=1 exec '{BINARY}' run -c vestibule.yaml 3<&0 </dev/null");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(folder);
        shell.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(shell.spawn().expect("a shell runs"))
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_socket_that_was_opened_for_it_is_used() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).write();
    let address = folder.address("public");
    let socket = TcpListener::bind(address).expect("the port is free");
    // Whoever comes early waits in the socket.
    let mut early = Wire::to(address);
    early.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let first = Passed::start(folder.path(), OwnedFd::from(socket.try_clone().expect("a second handle")));
    assert_eq!(early.response().status(), 200);
    // The next process finds it open as well: nobody was refused in between.
    drop(first);
    let mut between = Wire::to(address);
    between.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let _second = Passed::start(folder.path(), OwnedFd::from(socket));
    assert_eq!(between.response().status(), 200);
}

#[test]
fn a_socket_that_was_opened_for_it_goes_on_at_an_upgrade() {
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).set("upgrade", "{ socket: run/upgrade.sock }").write();
    let address = folder.address("public");
    let socket = TcpListener::bind(address).expect("the port is free");
    let mut first = Passed::start(folder.path(), OwnedFd::from(socket));
    let asks = || {
        let mut wire = Wire::to(address);
        wire.write(format!("GET /public HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"));
        wire.response().status()
    };
    assert_eq!(asks(), 200);
    let second = Command::new(BINARY)
        .args(["run", "--upgrade", "-c", "vestibule.yaml"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let _second = Passed(second.expect("the binary starts"));
    let status = until("the first one ends", || first.0.try_wait().expect("it can be asked"));
    assert!(status.success(), "{status}");
    assert_eq!(asks(), 200);
}

#[test]
fn a_passed_socket_that_lets_others_in_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::recording();
    let folder = Setup::before(&upstream).set("admin", "{ address: \"unix:admin.sock\" }").write();
    let path = folder.path().canonicalize().expect("it is there").join("admin.sock");
    let socket = UnixListener::bind(&path).expect("a socket can be bound");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
    let mut child = Passed::start(folder.path(), OwnedFd::from(socket));
    let status = until("it ends", || child.0.try_wait().expect("it can be asked"));
    let mut said = String::new();
    let errors = child.0.stderr.as_mut().expect("it is read");
    std::io::Read::read_to_string(errors, &mut said).expect("text");
    assert!(!status.success() && said.contains("SocketMode=0600"), "{said}");
}

#[test]
fn a_rotated_log_is_opened_anew() {
    let upstream = Upstream::recording();
    let gateway = Setup::before(&upstream)
        .set("logs", "{ access: { to: access.jsonl }, audit: { to: audit.jsonl } }")
        .start();
    let log = gateway.folder().path().join("access.jsonl");
    let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    assert_eq!(gateway.get("/public").send().status(), 200);
    until("a line is written", || (lines(&log) == 1).then_some(()));
    let rotated = log.with_extension("1");
    std::fs::rename(&log, &rotated).expect("it can be renamed");
    gateway.signal(Signal::USR1);
    until("there is a new file", || log.exists().then_some(()));
    assert_eq!(gateway.get("/public").send().status(), 200);
    until("the next line is in the new file", || (lines(&log) == 1).then_some(()));
    assert_eq!(lines(&rotated), 1);
    // Nothing but the logs was touched.
    let audit = std::fs::read_to_string(gateway.folder().path().join("audit.jsonl")).expect("it is there");
    assert!(!audit.contains("config_loaded"), "{audit}");
}

#[test]
fn for_a_while_after_the_signal_newcomers_are_still_served() {
    let upstream = Upstream::recording();
    let mut gateway = Setup::before(&upstream).set("drain_delay", "2s").start();
    let mut kept = gateway.connect();
    assert_eq!(gateway.get("/public").send_over(&mut kept).status(), 200);
    let started = now();
    gateway.signal(Signal::TERM);
    until("readyz is 503", || (gateway.admin("GET", "/readyz", "").status() == 503).then_some(()));
    let answer = gateway.get("/public").send_over(&mut kept);
    assert_eq!((answer.status(), answer.header("connection").as_deref()), (200, Some("close")));
    assert_eq!(gateway.get("/public").send().status(), 200);
    assert!(gateway.wait_for_end(Duration::from_secs(10)).is_some_and(|status| status.success()));
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}
