//! What the operator's door may do with the process.

use crate::admin::{
    Control, ExplainRequest, Explanation, OpenError, OpenRequest, Opened, RevokeError, RevokeRequest,
    RevokeWhich, RevokedView, ServerState,
};
use crate::app::explain::{Supposed, Who, explain};
use crate::app::reload::Reloader;
use crate::auth::users::User;
use crate::domain::identity::{Identity, encode_text};
use crate::domain::session::{End, Kind, Session};
use crate::domain::target::Host;
use crate::domain::time::Timestamp;
use crate::proxy::parts::{NewSession, NewlyOpened, NotOpened, Parts};
use crate::proxy::revocation::Revoked;
use crate::proxy::settings::External;
use crate::proxy::snapshot::{Snapshot, Way};
use crate::store::revoked::Which;
use crate::store::table::Table;
use crate::telemetry::{AuditEvent, AuditLine};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Implements [`Control`] over the running parts.
pub(super) struct OperatorControl {
    parts: Arc<Parts>,
    reloader: Arc<Reloader>,
}

impl OperatorControl {
    pub(super) fn new(parts: Arc<Parts>, reloader: Arc<Reloader>) -> Self {
        Self { parts, reloader }
    }
}

impl Control for OperatorControl {
    fn sessions(&self) -> &Table {
        &self.parts.sessions
    }

    fn open_session(&self, request: OpenRequest, now: Timestamp) -> Result<Opened, OpenError> {
        let snapshot = self.parts.snapshot.load_full();
        let way = way_of(&snapshot, request.sign_in.as_deref())?;
        let vouched = Vouched::by(&snapshot.ways[way], &request)?;
        let (host, outside) = host_of(&snapshot, request.host.as_deref())?;
        if request.remember_me && !snapshot.rules.remember_me {
            let text = "sessions.remember_me is not in the file; write it, or leave `remember_me` out";
            return Err(OpenError::Unfit(text.to_owned()));
        }
        let new = NewSession {
            entry: snapshot.ways[way].settings().id,
            sign_in: &snapshot.ways[way].settings().name,
            within: None,
            identity: vouched.identity(),
            scope: snapshot.scope(outside, &host),
            client: request.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            user_agent: "",
            request_id: "",
            kind: if request.remember_me { Kind::Remembered } else { Kind::SignedIn },
            stamp: vouched.stamp(),
            instead_of: &[],
        };
        let NewlyOpened { session, token, commit } = match self.parts.open_session(&snapshot, &new, now) {
            Ok(opened) => opened,
            Err(NotOpened::Full) => return Err(OpenError::Full),
            Err(NotOpened::SubjectFull(_)) => return Err(OpenError::SubjectFull),
            Err(NotOpened::Unavailable) => return Err(OpenError::Unavailable),
            Err(NotOpened::NoKeys) => {
                return Err(OpenError::Unfit("there are no `keys` to sign a token with".into()));
            }
        };
        // A reload that came in between ended the sessions of who is gone before this one stood in the table.
        if !vouched.still_holds(&self.parts.snapshot.load(), &snapshot.ways[way]) {
            let ended = self.parts.sessions.end(session.digest(), End::Credential);
            self.parts.note_ended(&ended.sessions, End::Credential, request.client, None, now);
            ended.commit.forget();
            let text = "the file was read again meanwhile, and says something else now; ask once more";
            return Err(OpenError::Unfit(text.to_owned()));
        }
        let cookie_name = snapshot.cookie_name(outside).to_owned();
        Ok(Opened { session, cookie_name, cookie_value: token, commit })
    }

    fn revoke_tokens(&self, request: RevokeRequest) -> Result<RevokedView, RevokeError> {
        let snapshot = self.parts.snapshot.load_full();
        let source = source_of(&snapshot, request.source.as_deref())?;
        let (which, issued_by) = match request.which {
            RevokeWhich::Named(jti) => (Which::Named(jti), self.parts.clock.wall()),
            RevokeWhich::Of(subject, by) => (Which::Of(encode_text(&subject)), by),
            RevokeWhich::All(by) => (Which::All, by),
        };
        let revoked = self
            .parts
            .revoke_tokens(&snapshot, (&source, which), issued_by, request.client)
            .map_err(|full| RevokeError::Full(full.to_string()))?;
        let Revoked { commits, until, sessions_ended } = revoked;
        Ok(RevokedView { source, until, sessions_ended, commits })
    }

    fn reload(&self) -> Result<String, String> {
        self.reloader.reload()
    }

    fn explain(&self, request: &ExplainRequest) -> Explanation {
        let who = request.who.clone().map_or(Who::Nobody, Who::Claims);
        let ExplainRequest { method, url, certificate, .. } = request;
        let supposed = Supposed { method, url, who: &who, certificate: certificate.as_ref() };
        explain(&self.reloader.in_force(), &supposed)
    }

    fn state(&self) -> ServerState {
        self.reloader.server_state()
    }

    fn metrics(&self) -> String {
        let metrics = &self.parts.metrics;
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.sessions_live.set(gauge(self.parts.sessions.live()));
        metrics.sessions_capacity.set(gauge(self.parts.sessions.limits().capacity));
        metrics.store_backlog.set(gauge(self.reloader.store_backlog()));
        metrics.revocations.held.set(gauge(self.parts.revoked.len()));
        metrics.password_queue.set(gauge(self.reloader.password_queue()));
        self.reloader.note_key_ages();
        for upstream in &self.parts.snapshot.load().upstreams {
            upstream.measure();
        }
        metrics.render()
    }

    fn withdraw(&self, session: &Session) {
        self.parts.withdraw(session);
    }

    fn ended(&self, sessions: &[Session], end: End, client: Option<IpAddr>) {
        self.parts.note_ended(sessions, end, client, None, self.parts.clock.now());
    }

    fn refused(&self, reason: &'static str, client: Option<IpAddr>) {
        let line = AuditLine::new(self.parts.clock.now(), AuditEvent::AdminRefused);
        self.parts.logs.audit(&AuditLine { client, reason: Some(reason), ..line });
    }
}

/// The source of tokens that is meant.
fn source_of(snapshot: &Snapshot, named: Option<&str>) -> Result<String, RevokeError> {
    let sources: BTreeSet<&str> = snapshot.token_terms.iter().map(|terms| terms.source.as_str()).collect();
    let only = || sources.first().filter(|_| sources.len() == 1).copied();
    match named.map_or_else(only, |named| sources.get(named).copied()) {
        Some(source) => Ok(source.to_owned()),
        None if sources.is_empty() => Err(RevokeError::Unfit("the file has no `tokens`".to_owned())),
        None => {
            let known: Vec<&str> = sources.into_iter().collect();
            let detail = format!("say of which source; `tokens` have {}", known.join(", "));
            Err(RevokeError::Unfit(detail))
        }
    }
}

fn way_of(snapshot: &Snapshot, name: Option<&str>) -> Result<usize, OpenError> {
    match (name, snapshot.ways.len()) {
        (Some(name), _) => snapshot
            .ways
            .iter()
            .position(|way| way.settings().name == name)
            .ok_or_else(|| OpenError::Unfit(format!("`{name}` is not a way to sign in"))),
        (None, 1) => Ok(0),
        (None, _) => Err(OpenError::Unfit(
            "there is more than one way to sign in, or none; name it in `sign_in`".into(),
        )),
    }
}

/// Whom a session is to name, and on whose word.
enum Vouched {
    /// The users file's.
    File { name: String, user: User },
    /// The operator's, where an application would say it.
    Operator(Identity),
}

impl Vouched {
    /// For a password way what stands in its file counts, not what the request claims.
    fn by(way: &Way, request: &OpenRequest) -> Result<Self, OpenError> {
        let Some(way) = way.password() else {
            let identity = Identity::new(&request.subject, &way.settings().source, &request.claims);
            return identity.map(Self::Operator).map_err(|error| OpenError::Unfit(error.to_string()));
        };
        let user = way.users().find(&request.subject).cloned().ok_or_else(|| {
            OpenError::Unfit(format!("`{}` is not in the users file of this way to sign in", request.subject))
        })?;
        Ok(Self::File { name: request.subject.clone(), user })
    }

    fn identity(&self) -> &Identity {
        match self {
            Self::File { user, .. } => user.identity(),
            Self::Operator(identity) => identity,
        }
    }

    fn stamp(&self) -> u64 {
        match self {
            Self::File { user, .. } => user.password().stamp(),
            Self::Operator(_) => 0,
        }
    }

    /// Whether the configuration in force, by the same way, says the same.
    fn still_holds(&self, in_force: &Snapshot, way: &Way) -> bool {
        let entry = way.settings().id;
        match self {
            Self::File { name, user } => in_force.knows(entry, name, user),
            Self::Operator(_) => in_force.ways.iter().any(|way| way.settings().id == entry),
        }
    }
}

/// The host that the cookie is for, and what browsers see of it.
fn host_of(snapshot: &Snapshot, named: Option<&str>) -> Result<(String, External), OpenError> {
    let first = snapshot.outside.first().copied().unwrap_or(External { https: true, port: 443 });
    if let Some(named) = named {
        let host = Host::parse(named.as_bytes())
            .map_err(|_| OpenError::Unfit(format!("`{named}` is not a host name")))?;
        if !snapshot.routes.knows_host(host.name()) {
            return Err(OpenError::Unfit(format!("no route matches the host `{named}`")));
        }
        return Ok((host.name().to_owned(), first));
    }
    if let Some((host, outside)) = &snapshot.external_url {
        return Ok((host.clone(), *outside));
    }
    match snapshot.hosts.as_slice() {
        [host] => Ok((host.clone(), first)),
        _ => Err(OpenError::Unfit("routes have more than one host, or none; name one in `host`".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::build::{self, Builder};
    use crate::app::clock::SystemClock;
    use crate::auth::issuer::Surroundings;
    use crate::domain::identity::Claims;
    use crate::telemetry::Metrics;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    const FILE: &str = "\
version: 1
listeners: [{ address: 127.0.0.1:8080, external: { scheme: https } }]
keys: [{ file: session.key }]
sign_in:
  local: { password: { users: users.yaml } }
  forum: { upstream: { name: app, paths: [= /login], groups: [member] } }
upstreams: { app: { servers: [http://127.0.0.1:3000], paths: case_sensitive } }
routes:
  - { name: form, host: a.example.com, path: = /login, access: public, upstream: app }
  - { name: app, host: a.example.com, path: /, access: { sign_in: [local, forum], same_people: true }, upstream: app }
";
    const HASH: &str =
        "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4";

    /// A folder with a configuration; gone when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("vestibule-control-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).expect("the temporary folder is writable");
            let folder = Self(path);
            folder.write("session.key", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=");
            folder
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).expect("the folder is writable");
        }

        /// What this users file and this configuration make.
        fn snapshot(&self, users: &str, file: &str) -> Snapshot {
            self.write("users.yaml", users);
            self.write("vestibule.yaml", file);
            let loaded = build::load(&self.0.join("vestibule.yaml")).expect("a good file");
            builder().build(loaded, None, 1)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// No entry of these files asks anybody: the runtime need not run.
    fn builder() -> Builder {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let surroundings =
            Surroundings { runtime: runtime.handle().clone(), clock: Arc::new(SystemClock::start()) };
        Builder::start(Arc::new(Metrics::new()), false, surroundings).expect("a thread starts")
    }

    fn request(subject: &str) -> OpenRequest {
        OpenRequest {
            subject: subject.to_owned(),
            claims: Claims::new(),
            sign_in: None,
            host: None,
            remember_me: false,
            client: None,
        }
    }

    #[test]
    fn what_was_vouched_for_holds_only_while_the_file_in_force_says_the_same() {
        let folder = Folder::new();
        let alice = format!("alice: {{ password: '{HASH}', groups: [ops] }}\n");
        let before = folder.snapshot(&alice, FILE);
        let by = |way: usize, subject: &str| Vouched::by(&before.ways[way], &request(subject));
        let from_file = by(0, "alice").unwrap_or_else(|error| panic!("{error}"));
        assert!(by(0, "bob").is_err(), "the file has no such user");
        let by_operator = by(1, "bob").unwrap_or_else(|error| panic!("{error}"));
        assert!(by(1, "").is_err());
        assert_eq!((from_file.identity().as_ref().source(), from_file.stamp() == 0), ("local", false));
        assert_eq!((by_operator.identity().as_ref().source(), by_operator.stamp()), ("forum", 0));

        let other_password = alice.replace("m=16", "m=32");
        let other_file = FILE.replace("users.yaml", "others.yaml");
        folder.write("others.yaml", &alice);
        for (users, file, expected) in [
            (alice.as_str(), FILE, [true, true]),
            (&alice.replace("ops", "dev"), FILE, [false, true]),
            (&other_password, FILE, [false, true]),
            ("", FILE, [false, true]),
            (&alice, &other_file, [false, true]),
            (&alice, &FILE.replace("[member]", "[member, ops]"), [true, false]),
        ] {
            let after = folder.snapshot(users, file);
            let holds = [
                from_file.still_holds(&after, &before.ways[0]),
                by_operator.still_holds(&after, &before.ways[1]),
            ];
            assert_eq!(holds, expected, "{users}\n{file}");
        }
    }

    #[test]
    fn a_renamed_cookie_leaves_its_names_behind_and_not_endlessly() {
        let folder = Folder::new();
        let builder = builder();
        let mut before: Option<Snapshot> = None;
        for (name, former) in [
            ("a", &[][..]),
            ("b", &["a"]),
            ("b", &["a"]),
            ("c", &["a", "b"]),
            ("a", &["b", "c"]),
            ("d", &["b", "c", "a"]),
            ("e", &["b", "c", "a", "d"]),
            ("f", &["c", "a", "d", "e"]),
        ] {
            folder.write("users.yaml", "");
            folder.write(
                "vestibule.yaml",
                &format!("{FILE}sessions: {{ cookie: {{ name: __Host-{name} }} }}\n"),
            );
            let loaded = build::load(&folder.0.join("vestibule.yaml")).expect("a good file");
            let snapshot = builder.build(loaded, before.as_ref(), 1);
            let expected: Vec<String> = former.iter().map(|name| format!("__Host-{name}")).collect();
            assert_eq!(snapshot.former_cookies, expected, "{name}");
            before = Some(snapshot);
        }
    }
}
