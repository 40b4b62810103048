//! What comes into the binary from elsewhere: licences, sources, libraries that must not be there.
//!
//! Reads `cargo metadata` and `Cargo.lock`; nothing is fetched. Advisories change daily and need a database: they are for
//! a job with network, not for this test. What is known to be unmaintained stands here with the reason it is kept.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences that ask for no more than their text: SPDX names.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come in, not even through others.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "a second TLS and crypto library, in C, with its own advisories"),
    ("openssl-sys", "a second TLS and crypto library, in C, with its own advisories"),
    ("native-tls", "chooses another TLS library on each system"),
    ("boring-sys", "a second crypto library beside aws-lc"),
    ("rsa", "RUSTSEC-2023-0071: its private key operations leak by their timing"),
    ("rust-crypto", "RUSTSEC-2016-0005: unmaintained"),
    ("sodiumoxide", "RUSTSEC-2021-0137: unmaintained"),
    ("md5", "not a hash to build on"),
    ("sha1", "not a hash to build on; htpasswd's {SHA} lines are refused"),
    ("pwhash", "old password hashes; `argon2` and `bcrypt` are ours"),
    ("serde_yml", "RUSTSEC-2025-0068: unsound"),
    ("pingora-openssl", "a second TLS library beside rustls"),
    ("pingora-boringssl", "a second TLS library beside rustls"),
    ("atty", "RUSTSEC-2021-0145; the standard library knows terminals"),
];

/// Crates that nobody maintains, and why they stay. An entry whose crate is gone must go too.
const UNMAINTAINED: &[(&str, &str, &str)] = &[
    ("derivative", "RUSTSEC-2024-0388", "pingora-core derives with it; runs at build time alone"),
    (
        "rustls-pemfile",
        "RUSTSEC-2025-0134",
        "pingora reads upstream certificates with it; nothing that came over a network",
    ),
    (
        "serde_yaml",
        "archived by its author",
        "ours and pingora's; strict about duplicate keys, behind a check of the shape",
    ),
    (
        "rustls-pemfile",
        "RUSTSEC-2025-0134",
        "pingora reads the system's authorities with it; what the file names is read by rustls-pki-types",
    ),
];

/// Of these the program shall hold one version: two would mean two implementations of the same promise.
const ONE_VERSION: &[&str] = &[
    "argon2",
    "aws-lc-rs",
    "aws-lc-sys",
    "bcrypt",
    "cookie",
    "http",
    "httparse",
    "jsonwebtoken",
    "pingora-core",
    "pingora-proxy",
    "rustls",
    "serde_yaml",
    "siphasher",
    "tokio",
    "zeroize",
];

/// A crate of `Cargo.lock`: of every platform, whether it is built here or not.
struct Locked<'a> {
    name: &'a str,
    version: &'a str,
    source: Option<&'a str>,
    checksum: Option<&'a str>,
}

fn lock_file() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("Cargo.lock is there")
}

fn locked(file: &str) -> Vec<Locked<'_>> {
    let crates: Vec<_> = file
        .split("[[package]]")
        .skip(1)
        .map(|entry| {
            let value = |key: &str| {
                let line = entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
                Some(line.trim_matches('"'))
            };
            let name = value("name").expect("a crate has a name");
            let version = value("version").expect("a crate has a version");
            Locked { name, version, source: value("source"), checksum: value("checksum") }
        })
        .collect();
    assert!(crates.len() > 100, "the lock file lists {} crates; is it read rightly?", crates.len());
    crates
}

fn versions<'a>(crates: &[Locked<'a>]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in crates {
        versions.entry(one.name).or_default().insert(one.version);
    }
    versions
}

/// What cargo knows of the crates that are built here. Those of other platforms need not have been downloaded.
fn built() -> Vec<Value> {
    let compiler = Command::new("rustc").arg("-vV").output().expect("rustc runs: it built this test");
    let told = String::from_utf8(compiler.stdout).expect("rustc writes text");
    let platform =
        told.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc says where it runs");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs: it runs this test");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {told}");
    let mut read: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let Value::Array(packages) = read["packages"].take() else { panic!("cargo lists packages") };
    packages
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

#[test]
fn every_crate_has_a_licence_that_we_may_pass_on() {
    let unfit: Vec<_> = built()
        .iter()
        .filter(|package| !is_allowed(text(package, "license")))
        .map(|package| {
            format!("{} {}: `{}`", text(package, "name"), text(package, "version"), text(package, "license"))
        })
        .collect();
    assert!(unfit.is_empty(), "not in the list of licences: {unfit:#?}");
}

#[test]
fn every_crate_comes_from_the_registry_with_a_checksum() {
    let file = lock_file();
    let all = locked(&file);
    let registry =
        all.iter().find(|one| one.name == "pingora").and_then(|one| one.source).expect("pingora is locked");
    assert!(registry.starts_with("registry+https://"), "{registry}");
    for one in all.iter().filter(|one| one.name != env!("CARGO_PKG_NAME")) {
        assert_eq!(one.source, Some(registry), "{}", one.name);
        assert!(one.checksum.is_some_and(|sum| sum.len() == 64), "{} has no SHA-256", one.name);
    }
}

#[test]
fn no_banned_crate_comes_in() {
    let file = lock_file();
    let names = versions(&locked(&file));
    let found: Vec<_> = BANNED.iter().filter(|(name, _)| names.contains_key(name)).collect();
    assert!(found.is_empty(), "find who brings it with `cargo tree -i NAME`: {found:#?}");
}

#[test]
fn what_nobody_maintains_is_known_and_still_needed() {
    let file = lock_file();
    let names = versions(&locked(&file));
    for (name, advisory, reason) in UNMAINTAINED {
        assert!(
            names.contains_key(name),
            "{name} ({advisory}) is gone; take its line out, which said: {reason}"
        );
    }
}

#[test]
fn what_promises_hang_on_is_there_once() {
    let file = lock_file();
    let names = versions(&locked(&file));
    for name in ONE_VERSION {
        let versions = names.get(name).unwrap_or_else(|| panic!("{name} is gone; take its line out"));
        assert_eq!(versions.len(), 1, "{name} comes in {versions:?}; see `cargo tree -d`");
    }
}

#[test]
fn pingora_is_pinned_to_the_version_that_the_tests_prove() {
    let packages = built();
    let ours = packages
        .iter()
        .find(|package| text(package, "name") == env!("CARGO_PKG_NAME"))
        .expect("we are in it");
    let dependencies = ours["dependencies"].as_array().expect("we have dependencies");
    let pingora = dependencies
        .iter()
        .find(|dependency| dependency["name"] == "pingora")
        .expect("pingora is one of them");
    assert!(pingora["req"].as_str().is_some_and(|wanted| wanted.starts_with('=')), "{}", pingora["req"]);
}

/// Whether an SPDX expression can be met with the licences listed: `OR` needs one side, `AND` both.
fn is_allowed(expression: &str) -> bool {
    // `/` is how `OR` was written before SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let allowed = any_of(&words, &mut at);
    allowed && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        allowed |= all_of(words, at);
    }
    allowed
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        allowed &= one(words, at);
    }
    allowed
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let allowed = any_of(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return allowed && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return LICENCES.contains(&format!("{word} WITH {exception}").as_str());
    }
    LICENCES.contains(word)
}

#[test]
fn a_licence_expression_is_met_by_what_is_listed() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-2.0 WITH Classpath-exception-2.0", false),
        ("MIT OR (Apache-2.0", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression), expected, "`{expression}`");
    }
}
