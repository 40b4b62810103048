//! The configuration from outside: what a broken file says, and that the shipped ones load.
//!
//! Each file in `bad/` has a snapshot of its message beside it; `cargo insta review`, or `INSTA_UPDATE=always cargo test`,
//! takes a changed one up. Files whose name begins with `warn_` load, with the warnings of their snapshot.

use http::Method;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use vestibule::admin::Claimed;
use vestibule::app::explain::{Said, Supposed, Who, explain};
use vestibule::config::{self, Config, Problems, Warning};
use vestibule::domain::access::{Access, EntryId};
use vestibule::domain::decision::{Believed, Credential, Facts, Presented, Rejection, decide};
use vestibule::domain::identity::{ClaimValue, Claims, Identity};
use vestibule::domain::session::{Cause, End, Kind, Opening, ScopeId, Session, SessionId, State};
use vestibule::domain::time::Timestamp;
use vestibule::domain::token::TokenDigest;
use vestibule::domain::token_facts::TokenFacts;

const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=";

const USERS: &str = "\
alice:
  password: $argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$VGhpcyBpcyBub3QgYSBwYXNzd29yZCBoYXNoLi4uLi4
  groups: [ops]
";

const RSA: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu3O0wsatIjuEqYXnlPgf
Qy0KNCGtjlxy6wuHul85AVFh6yGTXH0HlbEwvYUv5n+C3FM7B4Y0PWhLrOkiwCyh
i6lkQnBX85Re0MGfgp9B4KEexkOEycB2SfsZWQStu83BLnPMs8eMnp9hx9yaJQ+L
fvBD8aubX/8TqmzDp/ciSwMYvZPeEOroiU+mfGEv2ebkEYZ/X1lN+oE4oTq4ZBsH
NTq046LRL+obGIjWbMAPolcj6OQllESTXga2f8ih2RmNLRcB+x79kmSTnHrKcPP7
k7HGdy00MfI/D8Mz4y9tmbXJhw9x7qcqvkv3GX2CpViCnqf8SIY5etMPmij62WlW
/QIDAQAB
-----END PUBLIC KEY-----
";

const EC: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENALnYLBQcCL3L2nUaVhUDx7hsqNz
S7+bOwih6YXGjrfXWQMKQ5VIL21TX6J6RSCXHAdwkLvBWKOoxUFw0TNIQA==
-----END PUBLIC KEY-----
";

const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1",
"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "KEY" => KEY,
        "ZERO_KEY" => "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "SHORT_KEY" => "3q2+7wABAgMEBQYHCAkKCw==",
        "NO_BASE64" => "hunter2!",
        "TOKEN" => "an-admin-token-of-some-length",
        "SHORT" => "hunter2",
        "JWT_SECRET" => "0123456789abcdef0123456789abcdef",
        "HOST" => "wiki.example.com",
        "LISTEN" => "localhost:8080",
        _ => return None,
    };
    Some(value.to_owned())
}

/// A certificate with its key, and the key of another one.
fn certificates() -> &'static [(&'static str, String)] {
    static MADE: OnceLock<[(&str, String); 5]> = OnceLock::new();
    MADE.get_or_init(|| {
        let [key, other] = [(); 2].map(|()| KeyPair::generate().expect("a key can be made"));
        let params = CertificateParams::new(["wiki.example.com".to_owned()]).expect("a plain name");
        let certificate = params.self_signed(&key).expect("a certificate can be made");
        [
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
            ("stapled.crt", certificate.pem()),
            ("stapled.crt.ocsp", "-----BEGIN OCSP RESPONSE-----\n".to_owned()),
            ("other.key", other.serialize_pem()),
        ]
    })
}

/// A folder that goes away with its value, with every file that a configuration of these tests names.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vestibule-config-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        let folder = Self(path);
        for (name, text) in [
            ("users.yaml", USERS),
            ("other.yaml", USERS),
            ("rsa.pem", RSA),
            ("ec.pem", EC),
            ("private.pem", "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"),
            ("older.pem", "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n"),
            ("issuer.jwks", JWKS),
            ("secret.jwks", r#"{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}"#),
            ("session.key", KEY),
            ("admin.token", "an-admin-token-of-some-length\n"),
            ("jwt.secret", "0123456789abcdef0123456789abcdef\n"),
            ("empty.key", "\n"),
        ] {
            folder.write(name, text);
        }
        for (name, text) in certificates() {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        path
    }

    fn load(&self, text: &str) -> Result<(Config, Vec<Warning>), Problems> {
        config::load(&self.write("vestibule.yaml", text), &env)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn shipped(name: &str) -> String {
    fs::read_to_string(repository("config").join(name)).expect("the file is shipped")
}

#[test]
fn every_bad_file_says_what_is_wrong_where_and_what_to_write() {
    let mut files: Vec<PathBuf> = fs::read_dir(repository("tests/bad"))
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 40, "only {}", files.len());
    let folder = Folder::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("it can be read");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        let message = match folder.load(&text) {
            Err(problems) => problems.to_string(),
            Ok((_, warnings)) => {
                assert!(name.starts_with("warn_"), "`{name}` loads");
                warnings.iter().map(|warning| format!("warning: {warning}")).collect::<Vec<_>>().join("\n")
            }
        };
        for secret in ["hunter2", KEY, "0123456789abcdef"] {
            assert!(!message.contains(secret), "`{name}` prints a secret:\n{message}");
        }
        let message = message.replace(&folder.0.display().to_string(), "FOLDER");
        insta::with_settings!({
            snapshot_path => "bad", prepend_module_to_snapshot => false, omit_expression => true
        }, {
            insta::assert_snapshot!(name, message);
        });
    }
}

#[test]
fn the_shipped_files_load_without_a_word() {
    let folder = Folder::new();
    for name in ["vestibule.yaml", "minimal.yaml"] {
        let (_, warnings) =
            folder.load(&shipped(name)).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        assert_eq!(warnings, [], "{name}");
    }
}

#[test]
fn the_shipped_file_shows_every_setting() {
    let text = shipped("vestibule.yaml");
    let mut missing = Vec::new();
    each_setting(&config::schema(), &mut |name, _| {
        let shown = |before: &str| text.contains(&format!("{before}{name}:"));
        if !shown(" ") && !shown("\n") {
            missing.push(name.to_owned());
        }
    });
    // Secrets by variable are told in the head.
    missing.retain(|name| name != "env");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_shipped_file_says_the_defaults_that_are_in_force() {
    let folder = Folder::new();
    let (full, _) = folder.load(&shipped("vestibule.yaml")).expect("it loads");
    let (least, _) = folder.load(&shipped("minimal.yaml")).expect("it loads");
    let shown = |config: &Config| {
        let upstream = &config.upstreams[0];
        let route = config.routes.last().expect("it has one");
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            config.listeners[0].timeouts,
            config.trusted_proxies,
            config.sessions,
            config.logs,
            config.pages,
            config.drain,
            upstream.timeouts,
            upstream.host,
            upstream.identity,
            (upstream.balance, upstream.slow_start, upstream.retries, upstream.max_requests),
            (&upstream.health, &upstream.tls),
            (route.forward_authorization, route.session, &route.changes, &route.redirect),
        )
    };
    assert_eq!(shown(&full), shown(&least));
}

fn each_setting(schema: &serde_json::Value, visit: &mut impl FnMut(&str, &serde_json::Value)) {
    if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
        properties.iter().for_each(|(name, setting)| visit(name, setting));
    }
    match schema {
        serde_json::Value::Object(map) => map.values().for_each(|value| each_setting(value, visit)),
        serde_json::Value::Array(list) => list.iter().for_each(|value| each_setting(value, visit)),
        _ => {}
    }
}

#[test]
fn a_secret_that_others_can_read_is_a_warning() {
    let folder = Folder::new();
    let key = folder.write("session.key", KEY);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let (_, warnings) = folder.load(&shipped("minimal.yaml")).expect("it loads");
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert!(
        matches!(warnings.as_slice(), [one] if one.contains("every user of this machine")),
        "{warnings:?}"
    );
}

#[test]
fn a_file_that_is_not_there_or_is_none_is_one_problem() {
    let folder = Folder::new();
    let absent = config::load(&folder.0.join("absent.yaml"), &env).expect_err("there is none").to_string();
    assert!(absent.contains("cannot be read (no such file or directory)"), "{absent}");
    let long = folder.load(&"# comment\n".repeat(200_000)).expect_err("it is too long").to_string();
    assert!(long.contains("longer than 1 MiB"), "{long}");
    let path = folder.0.join("latin1.yaml");
    fs::write(&path, b"version: 1 # \xe9\n").expect("the folder is writable");
    let latin = config::load(&path, &env).expect_err("it is no UTF-8").to_string();
    assert!(latin.contains("not UTF-8"), "{latin}");
}

#[test]
fn every_file_that_was_read_is_watched() {
    let folder = Folder::new();
    let (config, _) = folder.load(&shipped("vestibule.yaml")).expect("it loads");
    let mut names: Vec<String> = config
        .files
        .iter()
        .map(|path| path.file_name().expect("a file").to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["admin.token", "jwt.secret", "session.key", "users.yaml", "vestibule.yaml"]);
}

#[test]
fn a_broken_users_file_is_told_line_by_line() {
    let folder = Folder::new();
    folder.write("users.yaml", "alice:\n  password: hunter2\nbob:\n  group: [ops]\n");
    let problems = folder.load(&shipped("minimal.yaml")).expect_err("the users file is broken");
    insta::assert_snapshot!(problems.to_string().replace(&folder.0.display().to_string(), "FOLDER"));
}

#[test]
fn a_session_outlives_a_reload_only_while_its_entry_is_what_it_was() {
    let folder = Folder::new();
    let id = |text: &str| folder.load(text).expect("it loads").0.sign_in[0].id;
    let text = shipped("minimal.yaml");
    assert_eq!(id(&text), id(&text.replace("path: /,", "path: /wiki,")));
    assert_ne!(id(&text), id(&text.replace("users.yaml", "other.yaml")));
    assert_ne!(id(&text), id(&text.replace("{ local:", "{ staff:").replace("[local]", "[staff]")));
}

#[test]
fn what_the_file_no_longer_says_of_sessions_holds_for_living_ones_too() {
    let folder = Folder::new();
    let text = shipped("minimal.yaml").replace("upstream: app }", "session: { data: true }, upstream: app }");
    let more = "sessions: { remember_me: {}, anonymous: {}, absolute_lifetime: 8h }\n";
    let clocks =
        |text: &str| folder.load(text).unwrap_or_else(|problems| panic!("{problems}")).0.sessions.clocks;
    let (with, without) = (clocks(&format!("{text}{more}")), clocks(&text));
    let hours = |hours: u64| Duration::from_hours(hours);
    assert_eq!((with.renew_after, without.renew_after), (hours(2), hours(3)), "a quarter of the life");
    assert_eq!(with.remembered.absolute_lifetime, hours(30 * 24));
    assert_eq!(with.anonymous.absolute_lifetime, hours(8), "as that of all sessions");
    assert_eq!(without.remembered, without.signed_in);
    let opened = Timestamp::from_secs(1_000_000);
    let identity = Identity::new("alice", "local", &Claims::new()).expect("it packs");
    for (kind, identity, after, expected) in [
        (Kind::Remembered, Some(&identity), hours(2), [State::Live, State::Ended(End::Idle)]),
        (Kind::Remembered, Some(&identity), Duration::from_mins(29), [State::Live, State::Live]),
        (Kind::Anonymous, None, Duration::from_mins(1), [State::Live, State::Ended(End::Lifetime)]),
        (Kind::Anonymous, None, Duration::ZERO, [State::Live, State::Ended(End::Lifetime)]),
    ] {
        let session = Session::open(Opening {
            digest: TokenDigest::of(&[1; 32]),
            id: SessionId::FIRST,
            kind,
            identity,
            entry: EntryId(0),
            scope: ScopeId(1),
            stamp: 0,
            sign_in: "",
            client_address: "192.0.2.1",
            user_agent: "",
            now: opened,
            lifetimes: with.of(kind),
        });
        let state = |clocks| session.state(opened.plus(after), clocks);
        assert_eq!([state(&with), state(&without)], expected, "{kind:?} after {after:?}");
    }
}

#[test]
fn own_external_settings_win_over_external_url() {
    let folder = Folder::new();
    let (config, _) = folder.load(&shipped("minimal.yaml")).expect("it loads");
    let external = config.listeners[0].external.expect("from external_url");
    assert_eq!((external.https, external.port), (false, 8080));
    let text =
        shipped("minimal.yaml").replace("127.0.0.1:8080 }", "127.0.0.1:8080, external: { scheme: https } }");
    let (config, _) = folder.load(&text).expect("it loads");
    let external = config.listeners[0].external.expect("its own");
    assert_eq!((external.https, external.port), (true, 443));
}

/// A configuration with a route of each kind.
const TABLE: &str = "\
version: 1
listeners: [{ address: 127.0.0.1:8080, external: { scheme: https } }]
external_url: https://any.example.com
keys: [{ env: KEY }]
sign_in:
  local: { password: { users: users.yaml } }
  forum: { upstream: { name: forum, paths: [= /login, /join], groups: [member] } }
tokens: { api: { jwt: { issuer: https://id.example.com, audience: wiki, keys: { secret: { env: JWT_SECRET } }, algorithms: [HS256] } } }
identity: { headers: { X-User: subject, X-Groups: groups, X-Name: { claim: name, encoding: utf8 } } }
upstreams:
  wiki: { servers: [http://127.0.0.1:3000, 'http://[::1]:3001'] }
  forum: { servers: [http://127.0.0.1:3002], paths: case_sensitive, identity: { headers: { X-User: subject, X-Session-Ends-At: ends_at } } }
  iis: { servers: [unix:/run/iis.sock], paths: case_insensitive }
policies:
  team:
    sign_in: [local]
    tokens: [api]
    same_people: true
    allow: { all: [{ any: [{ groups: [ops, dev] }, { email_domain: example.com }] }, { not: { subject: guest } }] }
routes:
  - { name: health, host: wiki.example.com, path: = /health, access: public, upstream: wiki }
  - { name: api, host: wiki.example.com, path: /api, methods: [GET, POST], access: { tokens: [api], allow: everyone }, upstream: wiki }
  - { name: wiki, host: [wiki.example.com, '*.wiki.example.com'], path: /, access: team, upstream: wiki }
  - { name: old, path: /old, access: { sign_in: [local], optional: true }, upstream: iis }
  - { name: moved, host: wiki2.example.com, path: /docs, access: { sign_in: [local] }, redirect: { to: https://docs.example.com/, status: 308, keep_path: true } }
  - { name: stage, host: stage.example.com, path: /app, access: public, prefix: { strip: /app, add: /v2 }, headers: { request: { remove: [X-Debug], set: { X-Stage: test } }, response: { add: { X-Via: edge }, security: true } }, upstream: wiki }
  - { name: form, host: forum.example.com, path: = /login, access: public, session: { data: true }, upstream: forum }
  - { name: poll, host: forum.example.com, path: /poll, access: { sign_in: [forum], allow: { groups: member } }, session: { activity: ignore }, upstream: forum }
  - { name: forum, host: forum.example.com, path: /, access: { sign_in: [forum], optional: true }, session: { data: true }, upstream: forum }
";

/// Everything that only some files have.
const MORE: &str = "\
admin: { address: 127.0.0.1:9901, token: { file: admin.token } }
probes: { address: 127.0.0.1:9902 }
sessions: { remember_me: {}, anonymous: { capacity: 7 }, idle_timeout: 10m, store: { sqlite: sessions.db }, cookie: { same_site: strict } }
logs: { access: { format: json }, events: { to: off } }
drain: 5s
";

/// Every setting, without the order of what has none: the schema's defaults are sorted.
fn meaning(mut config: Config) -> String {
    config.guarded_headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    for upstream in &mut config.upstreams {
        upstream.identity.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    }
    format!("{config:#?}")
}

#[test]
fn what_is_printed_is_a_sound_file_of_the_same_meaning() {
    let folder = Folder::new();
    let public = shipped("minimal.yaml").replace("{ sign_in: [local] }", "public");
    for text in [
        shipped("vestibule.yaml"),
        shipped("minimal.yaml"),
        TABLE.to_owned(),
        format!("{TABLE}{MORE}"),
        public,
        shipped("minimal.yaml").replace("path: /,", "path: '/${HOST}',"),
    ] {
        let (config, _) = folder.load(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let path = folder.0.join("vestibule.yaml");
        let printed = config::filled_in(&path, &env).expect("it loads");
        let (same, _) = folder.load(&printed).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
        assert_eq!(meaning(same), meaning(config), "{printed}");
        let again = config::filled_in(&path, &env).expect("what was printed loads");
        assert_eq!(again, printed, "printing it again changes nothing");
        for secret in [KEY, "an-admin-token", "0123456789abcdef", "$argon2id"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert_eq!(printed.contains("${HOST}"), text.contains("'/${HOST}'"), "{printed}");
    }
}

#[test]
fn what_is_printed_shows_every_default() {
    let folder = Folder::new();
    folder.write("vestibule.yaml", &shipped("minimal.yaml"));
    let printed = config::filled_in(&folder.0.join("vestibule.yaml"), &env).expect("it loads");
    insta::assert_snapshot!(printed);
    folder.write("vestibule.yaml", &format!("{}frob: 1\n", shipped("minimal.yaml")));
    let refused = config::filled_in(&folder.0.join("vestibule.yaml"), &env);
    assert!(refused.is_err_and(|problems| problems.to_string().contains("`frob`")));
}

#[test]
fn the_access_table_is_read_at_a_glance() {
    let folder = Folder::new();
    let (config, warnings) = folder.load(TABLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings, []);
    let unused = TABLE.replace("upstream: iis }", "upstream: wiki }");
    let (_, warnings) = folder.load(&unused).unwrap_or_else(|problems| panic!("{problems}"));
    insta::assert_snapshot!(vestibule::cli::check::table(&config, &warnings));
}

/// What becomes of a request over a connection on which no certificate is shown.
fn explained(config: &Config, method: &Method, url: &str, who: &Who) -> String {
    explain(config, &Supposed { method, url, who, certificate: None }).to_string()
}

#[test]
fn an_explanation_says_route_rule_and_reason() {
    let folder = Folder::new();
    let (config, _) = folder.load(TABLE).expect("it loads");
    let claimed = |subject: &str, groups: &[&str]| {
        let mut claims = Claims::from([("name".to_owned(), ClaimValue::Text("李 雷".to_owned()))]);
        if !groups.is_empty() {
            let groups = groups.iter().map(|&group| group.to_owned()).collect();
            claims.insert("groups".to_owned(), ClaimValue::List(groups));
        }
        Who::Claims(Claimed { subject: subject.to_owned(), source: None, claims })
    };
    let of_issuer = Who::Claims(Claimed {
        subject: "bob".to_owned(),
        source: Some("https://id.example.com".to_owned()),
        claims: Claims::from([("email".to_owned(), ClaimValue::Text("bob@example.com".to_owned()))]),
    });
    let strange = Who::Claims(Claimed {
        subject: "bob".to_owned(),
        source: Some("https://elsewhere.example.com".to_owned()),
        ..Claimed::default()
    });
    let mut text = String::new();
    for (method, url, who) in [
        ("GET", "https://wiki.example.com/health", Who::Nobody),
        ("GET", "https://wiki.example.com/health/x", Who::Nobody),
        ("GET", "https://wiki.example.com/%7Euser?x=1", claimed("alice", &["ops", "a,b"])),
        ("POST", "https://wiki.example.com/page", claimed("alice", &["dev"])),
        ("GET", "https://wiki.example.com/page", claimed("guest", &["dev"])),
        ("GET", "https://wiki.example.com/page", claimed("mallory", &[])),
        ("GET", "https://wiki.example.com/page", of_issuer),
        ("GET", "https://wiki.example.com/page", strange),
        ("GET", "https://wiki.example.com/page", claimed("", &[])),
        ("GET", "https://wiki.example.com/api/x", Who::Nobody),
        ("DELETE", "https://wiki.example.com/api/x", Who::Nobody),
        ("GET", "https://other.example.com/OLD/x", Who::Nobody),
        ("GET", "https://other.example.com/new", Who::Nobody),
        ("GET", "https://forum.example.com/login", Who::Nobody),
        ("POST", "https://forum.example.com/login", Who::Nobody),
        ("POST", "https://forum.example.com/join/now", claimed("alice", &["member"])),
        ("GET", "https://forum.example.com/poll", Who::Nobody),
        ("GET", "https://forum.example.com/poll", claimed("alice", &["member"])),
        ("GET", "https://forum.example.com/poll", claimed("alice", &["ops"])),
        ("GET", "https://wiki2.example.com/docs/a", Who::Nobody),
        ("POST", "https://wiki2.example.com/docs/a?q", claimed("alice", &[])),
        ("GET", "https://stage.example.com/app/x?q", Who::Nobody),
        ("GET", "https://wiki.example.com/_vestibule/login", Who::Nobody),
        ("GET", "https://wiki.example.com/api/../admin", Who::Nobody),
        ("GET", "https://wiki.example.com/a%2Fb", Who::Nobody),
        ("GET", "https://a b/", Who::Nobody),
        ("GET", "wiki.example.com/page", Who::Nobody),
    ] {
        let method = method.parse().expect("a method");
        text.push_str(&explained(&config, &method, url, &who));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_a_route_takes_stands_in_table_and_explanation() {
    let folder = Folder::new();
    let text = "\
version: 1
listeners: [{ address: 127.0.0.1:8080 }]
upstreams: { app: { servers: [http://127.0.0.1:3000] } }
limits: { body: 1MiB }
routes:
  - name: reports
    path: /reports
    access: public
    upstream: app
    clients: { allow: [10.0.0.0/8], deny: [10.0.0.7] }
    limits: { body: 10MiB, rate: { per: client_ip, limit: 600/m, burst: 20 } }
  - { name: all, path: /, access: public, upstream: app }
";
    let (config, warnings) = folder.load(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings, []);
    let table = vestibule::cli::check::table(&config, &warnings);
    assert!(table.contains("everybody, without identity; from 10.0.0.0/8, but not 10.0.0.7/32"), "{table}");
    let of = |path: &str| explained(&config, &Method::GET, &format!("http://any{path}"), &Who::Nobody);
    let reports = of("/reports");
    for line in [
        "clients:   403 unless from 10.0.0.0/8, but not 10.0.0.7/32",
        "body:      413 beyond 10485760 bytes",
        "rate:      429 beyond 600 in 60 s for each client address, 20 at once",
    ] {
        assert!(reports.lines().any(|said| said == line), "{line}\n{reports}");
    }
    let others = of("/");
    assert!(others.contains("413 beyond 1048576 bytes") && !others.contains("429"), "{others}");
}

/// A rule of `allow` in flow form.
fn rule() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "{ groups: ops }",
        "{ groups: [dev, member] }",
        "{ subject: [alice, bob] }",
        "{ email_domain: example.com }",
        "{ source: local }",
        "{ source: https://id.example.com }",
        "{ claims: { level: 3 } }",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|all| format!("{{ all: [{}] }}", all.join(", "))),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|any| format!("{{ any: [{}] }}", any.join(", "))),
            inner.prop_map(|not| format!("{{ not: {not} }}")),
        ]
    })
}

/// What a request brings: nothing, a session or a token, by the name of its entry.
const BROUGHT: [Option<&str>; 5] = [None, Some("local"), Some("forum"), Some("api"), Some("partner")];

/// The same request put to the gateway's own decision, in the words of `explain`.
fn decided(
    config: &Config,
    method: &Method,
    brought: Option<&str>,
    identity: &Identity,
) -> [&'static str; 2] {
    const NOTHING: Presented = Presented::Nothing(Cause::Absent);
    let Access::Protected(protected) = &config.routes[0].access else { panic!("the route is protected") };
    let way = config.sign_in.iter().find(|way| Some(way.name.as_str()) == brought);
    let token = config.tokens.iter().find(|token| Some(token.name.as_str()) == brought);
    let lifetimes = config.sessions.clocks.signed_in;
    let presented = match (way, token) {
        // A cookie is not looked at where no sessions are taken, a token not where none are.
        (Some(way), _) if !protected.sign_in.is_empty() => {
            Presented::Credential(Credential::Session(Session::open(Opening {
                digest: TokenDigest::of(&[1; 32]),
                id: SessionId::FIRST,
                kind: Kind::SignedIn,
                identity: Some(identity),
                entry: way.id,
                scope: ScopeId(1),
                stamp: 0,
                sign_in: &way.name,
                client_address: "192.0.2.1",
                user_agent: "",
                now: Timestamp::from_secs(1),
                lifetimes,
            })))
        }
        (_, Some(token)) if protected.tokens.contains(&token.id) => {
            let (entry, at) = (token.id, Timestamp::from_secs(1));
            let identity = identity.clone();
            Presented::Credential(Credential::Token(Arc::new(Believed {
                identity,
                expires_at: at,
                entry,
                verified_at: at,
                token: TokenFacts::default(),
            })))
        }
        (_, Some(_)) if !protected.tokens.is_empty() => Presented::BadBearer("no entry believes it"),
        _ => NOTHING,
    };
    let facts = Facts {
        method,
        upgrade: false,
        foreign: false,
        preflight: false,
        certificate: None,
        now: Timestamp::from_secs(0),
        wall: None,
        proved_key: None,
    };
    let sign_in = if protected.sign_in.is_empty() { "401 unauthorized" } else { "302 to sign-in" };
    match decide(&config.routes[0].access, facts, presented).map_err(|refused| refused.rejection) {
        Ok(admission) if admission.credential().is_some() => ["passes", "header:"],
        Ok(_) => ["passes", "nobody is known"],
        Err(Rejection::Unauthenticated(_)) => [sign_in, ""],
        Err(Rejection::BadBearer(_)) => ["401 unauthorized", ""],
        Err(Rejection::Forbidden) => ["403 forbidden", ""],
        Err(other) => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// One line of a good file replaced by another's value: it loads or it names problems, each with its line, and never
    /// the reader's own.
    #[test]
    fn a_damaged_file_is_told_and_never_breaks_the_reader(
        at in 0_usize..200,
        junk in "[a-z_]{1,8}|[0-9]{1,9}|\\[\\]|\\{\\}|\\[x, 1\\]|\\{ a: b \\}|~|true|-1|1e9|''|'\\$\\{X'|30m|http://x|'\\*'",
    ) {
        let folder = Folder::new();
        let text = shipped("vestibule.yaml");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = at % lines.len();
        if let Some((key, _)) = lines[at].clone().split_once(": ") {
            lines[at] = format!("{key}: {junk}");
        }
        if let Err(problems) = folder.load(&lines.join("\n")) {
            for problem in problems.iter() {
                prop_assert!(!problem.text().contains("mend that value"), "{}", problem);
                prop_assert!(problem.line().is_some() || problem.path() == "the file", "{}", problem);
            }
        }
    }

    /// `explain` is asked before anybody is locked out or let in: it says what the gateway does.
    #[test]
    fn an_explanation_is_what_the_gateway_decides(
        rule in rule(),
        sign_in in prop::sample::subsequence(vec!["local", "forum"], 0..=2),
        tokens in prop::sample::subsequence(vec!["api", "partner"], 0..=2),
        optional in any::<bool>(),
        brought in prop::sample::select(BROUGHT.to_vec()),
        subject in prop::sample::select(vec!["alice", "guest"]),
        groups in prop::sample::subsequence(vec!["ops", "dev", "member"], 0..=3),
        email in prop::sample::select(vec![None, Some("a@example.com"), Some("a@elsewhere.example")]),
        method in prop::sample::select(vec![Method::GET, Method::POST]),
    ) {
        prop_assume!(!(sign_in.is_empty() && tokens.is_empty()));
        let folder = Folder::new();
        let access = format!(
            "{{ sign_in: [{}], tokens: [{}], same_people: true, optional: {optional}, allow: {rule} }}",
            sign_in.join(", "),
            tokens.join(", "),
        );
        let jwt = |issuer: &str| format!(
            "{{ jwt: {{ issuer: {issuer}, audience: wiki, keys: {{ secret: {{ env: JWT_SECRET }} }}, algorithms: [HS256] }} }}"
        );
        let text = format!(
            "version: 1\n\
             listeners: [{{ address: 127.0.0.1:8080, external: {{ scheme: https }} }}]\n\
             keys: [{{ env: KEY }}]\n\
             sign_in:\n  local: {{ password: {{ users: users.yaml }} }}\n  forum: {{ upstream: {{ name: app, paths: [= /login] }} }}\n\
             tokens:\n  api: {}\n  partner: {}\n\
             upstreams: {{ app: {{ servers: [http://127.0.0.1:3000] }} }}\n\
             routes:\n  - {{ name: all, host: a.example.com, path: /all, access: {access}, upstream: app }}\n  \
             - {{ name: rest, host: a.example.com, path: /, access: public, upstream: app }}\n",
            jwt("https://id.example.com"),
            jwt("https://partner.example.com"),
        );
        let (config, _) = folder.load(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let way = config.sign_in.iter().find(|way| Some(way.name.as_str()) == brought);
        let token = config.tokens.iter().find(|token| Some(token.name.as_str()) == brought);
        let source = way.map(|way| way.source.clone()).or(token.map(|token| token.issuer.clone()));
        let mut claims = Claims::from([(
            "groups".to_owned(),
            ClaimValue::List(groups.iter().map(|&group| group.to_owned()).collect()),
        )]);
        claims.extend(email.map(|email| ("email".to_owned(), ClaimValue::Text(email.to_owned()))));
        let identity = Identity::new(subject, source.as_deref().unwrap_or("nobody"), &claims).expect("it packs");
        let who = match (way, token) {
            (Some(_), _) => Who::Claims(Claimed {
                subject: subject.to_owned(),
                source,
                claims: claims.clone(),
            }),
            (_, Some(token)) => {
                Who::Token(vec![Said { entry: token.name.clone(), whom: Ok(identity.clone()) }])
            }
            _ => Who::Nobody,
        };
        let explained = explained(&config, &method, "https://a.example.com/all/x", &who);
        let [decision, sign] = decided(&config, &method, brought, &identity);
        prop_assert!(
            explained.contains(&format!("decision:  {decision}")) && explained.contains(sign),
            "the gateway: {decision} {sign}\n{explained}"
        );
    }
}
