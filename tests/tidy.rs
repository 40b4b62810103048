//! The shape of the house: floors, what each floor may not name, and documents that tell the truth.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use vestibule::auth::assertion::KeyKind;

/// Each part of the library and its floor, as `src/lib.rs` lists them.
const FLOORS: &[(&str, u8)] = &[
    ("app", 5),
    ("cli", 5),
    ("config", 4),
    ("proxy", 3),
    ("admin", 3),
    ("auth", 2),
    ("net", 2),
    ("store", 1),
    ("telemetry", 1),
    ("domain", 0),
];

/// Imports between parts of one floor, each with its reason.
const NEIGHBOURS: &[(&str, &str, &str)] = &[("cli", "app", "`run` and `demo` start what app.rs builds")];

/// What code of a part must not name. Comments may.
const UNKNOWN_TO: &[(&str, &[&str])] = &[
    (
        "src/domain",
        &[
            "tokio::",
            "pingora::",
            "async ",
            "SystemTime::now",
            "Instant::",
            "std::fs",
            "std::env",
            "std::thread",
            "serde_yaml",
        ],
    ),
    ("src/store", &["tokio::", "pingora::", "SystemTime::now", "Instant::", "serde_yaml"]),
    ("src/auth", &["pingora::", "SystemTime::now", "Instant::"]),
    ("src/config", &["tokio::", "pingora::", "SystemTime::now", "Instant::"]),
    ("src/telemetry", &["pingora::", "SystemTime::now", "Instant::"]),
    ("src/proxy", &["serde_yaml", "clock_gettime", "SystemTime::now", "Instant::"]),
    ("src/net", &["serde_yaml", "clock_gettime", "SystemTime::now", "std::time::Instant"]),
    ("src/admin", &["serde_yaml", "clock_gettime", "SystemTime::now", "Instant::"]),
];

/// Words that say a thing is unfinished or switched off; with what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!(", "finish it, or leave it out"),
    ("unimplemented!(", "finish it, or leave it out"),
    ("FIXME", "fix it"),
    ("XXX", "say it in words"),
    ("dbg!(", "take it out"),
    ("#[ignore", "a test runs or is deleted"),
    ("#[allow(", "write #[expect(…, reason = …)]: it tells when it is not needed any more"),
    ("(arriving)", "finish it, or leave it out"),
    ("static mut", "share by Arc and atomics"),
    ("<<<<<<< ", "resolve the merge"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file under a folder, build output and version control aside, in a fixed order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "__pycache__" | "venv" | "node_modules") {
                    folders.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let single = root().join(format!("{folder}.rs"));
    if single.is_file() {
        return vec![single];
    }
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let found: Vec<_> = files(&root().join(folder)).into_iter().filter(rust).collect();
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines of a source that are code of the program, numbered from 1: no comments, and no tests, which stand last.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The parts of the library that a source imports, with the line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in code(text) {
        for (start, _) in line.match_indices("crate::") {
            let after = &line[start + "crate::".len()..];
            let group = after.strip_prefix('{').and_then(|rest| rest.split('}').next());
            for path in group.unwrap_or(after).split(',').take(if group.is_some() { usize::MAX } else { 1 }) {
                let part: String = path
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                found.push((at, part));
            }
        }
    }
    found
}

fn floor(part: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == part).map(|(_, floor)| *floor)
}

#[test]
fn imports_run_downward_only() {
    let mut wrong = Vec::new();
    for (part, own) in FLOORS {
        for path in sources(&format!("src/{part}")) {
            for (line, imported) in imports(&read(&path)) {
                let Some(other) = floor(&imported) else { continue };
                let neighbour = NEIGHBOURS.iter().any(|(from, to, _)| from == part && *to == imported);
                if imported != *part && other >= *own && !neighbour {
                    wrong.push(format!(
                        "{}:{line}: {part} (floor {own}) names {imported} (floor {other})",
                        shown(&path)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_part_stands_on_a_floor_and_lib_rs_lists_it() {
    let lib = read(&root().join("src/lib.rs"));
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, FLOORS.iter().map(|(part, _)| *part).collect());
    for (part, floor) in FLOORS {
        let listed = lib
            .lines()
            .any(|line| line.starts_with(&format!("//! {floor}.")) && line.contains(&format!("[`{part}`]")));
        assert!(listed, "src/lib.rs does not list `{part}` on floor {floor}");
    }
}

#[test]
fn no_part_names_what_it_must_not_know() {
    let mut wrong = Vec::new();
    for (part, words) in UNKNOWN_TO {
        for path in sources(part) {
            let text = read(&path);
            for (line, code) in code(&text) {
                for word in words.iter().filter(|word| code.contains(**word)) {
                    wrong.push(format!("{}:{line}: {}", shown(&path), word.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn one_file_reads_the_clocks() {
    let readers: Vec<_> = sources("src")
        .into_iter()
        .filter(|path| code(&read(path)).any(|(_, line)| line.contains("clock_gettime(")))
        .map(|path| shown(&path))
        .collect();
    assert_eq!(readers, ["src/app/clock.rs"]);
}

#[test]
fn every_source_begins_with_what_it_is() {
    let silent: Vec<_> = sources("src")
        .into_iter()
        .chain(sources("tests"))
        .filter(|path| !read(path).starts_with("//! "))
        .map(|path| shown(&path))
        .collect();
    assert!(silent.is_empty(), "no header in {silent:#?}");
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    let mut wrong = Vec::new();
    for path in files(root()) {
        // This file holds the words themselves; checksums hold any.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if path.ends_with("tests/tidy.rs") || path.ends_with("package-lock.json") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            for (word, remedy) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
                wrong.push(format!("{}:{}: `{word}`; {remedy}", shown(&path), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What stands between backticks in a document.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in ["ARCHITECTURE.md", "README.md", "SECURITY.md", "benches/README.md"] {
        let text = read(&root().join(document));
        // Fences would put the pairing of backticks out of step.
        let prose: String = text.split("```").step_by(2).collect();
        for word in quoted(&prose) {
            let path = word.trim_end_matches('/');
            let is_path = ["src/", "tests/", "benches/", "config/", "deploy/", ".ci/"]
                .iter()
                .any(|folder| word.starts_with(folder) && !word.contains([' ', '*', '…', '<']));
            if is_path {
                seen += 1;
                if !root().join(path).exists() {
                    wrong.push(format!("{document}: `{word}`"));
                }
            }
        }
        for (_, link) in
            text.match_indices("](").map(|(at, _)| (at, text[at + 2..].split(')').next().unwrap_or("")))
        {
            let path = link.split('#').next().unwrap_or("");
            let folder = root().join(document);
            let folder = folder.parent().expect("a file has a folder");
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                wrong.push(format!("{document}: link to {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these do not exist: {wrong:#?}");
    assert!(seen > 20, "only {seen} paths were found; are the documents read rightly?");
}

#[test]
fn the_map_names_every_part_and_every_folder() {
    let map = read(&root().join("ARCHITECTURE.md"));
    for (part, _) in FLOORS {
        assert!(map.contains(&format!("`src/{part}")), "ARCHITECTURE.md says nothing of src/{part}");
    }
    for folder in ["tests", "benches", "config", "deploy"] {
        assert!(map.contains(&format!("`{folder}/")), "ARCHITECTURE.md says nothing of {folder}");
    }
}

/// The fenced blocks of a document that are marked `yaml`.
fn yaml_blocks(text: &str) -> Vec<&str> {
    text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A folder with the files that shipped configurations name.
fn folder_with_secrets(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the build's folder takes files");
    for secret in ["session.key", "admin.token", "jwt.secret"] {
        let path = folder.join(secret);
        // 32 bytes in base64, and not all the same.
        fs::write(&path, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").expect("the folder takes files");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, private).expect("the file is ours");
    }
    let signs = vestibule::auth::assertion::generate(KeyKind::Es256).expect("there is randomness");
    let path = folder.join("assertion.pem");
    fs::write(&path, &*signs).expect("the folder takes files");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, private).expect("the file is ours");
    fs::write(folder.join("users.yaml"), "{}\n").expect("the folder takes files");
    folder
}

fn load(folder: &Path, text: &str) -> Result<(), String> {
    let file = folder.join("vestibule.yaml");
    fs::write(&file, text).expect("the folder takes files");
    vestibule::config::load(&file, &|_| None).map(drop).map_err(|problems| problems.to_string())
}

#[test]
fn the_configurations_in_the_documents_load() {
    let folder = folder_with_secrets("tidy-documents");
    let readme = read(&root().join("README.md"));
    let blocks = yaml_blocks(&readme);
    let files: Vec<_> = blocks.iter().filter(|block| block.contains("version: 1")).collect();
    assert!(!files.is_empty(), "README.md shows no whole file");
    for block in files {
        load(&folder, block).unwrap_or_else(|problems| panic!("README.md:\n{block}\n{problems}"));
    }
}

#[test]
fn the_examples_load() {
    let folder = folder_with_secrets("tidy-examples");
    let examples: Vec<_> =
        files(&root().join("deploy")).into_iter().filter(|path| path.ends_with("vestibule.yaml")).collect();
    assert!(!examples.is_empty(), "deploy holds no example");
    for example in examples {
        load(&folder, &read(&example)).unwrap_or_else(|problems| panic!("{}:\n{problems}", shown(&example)));
    }
}

#[test]
fn the_configuration_that_the_unit_file_suggests_loads() {
    let folder = folder_with_secrets("tidy-unit");
    let unit = read(&root().join("deploy/vestibule.service"));
    let suggested: String = unit
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .filter(|line| ["keys:", "sign_in:", "admin:"].iter().any(|key| line.starts_with(key)))
        .fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(suggested.lines().count(), 3, "{suggested}");
    let file = format!(
        "version: 1\nlisteners: [{{ address: 127.0.0.1:8080 }}]\nexternal_url: http://localhost:8080\n{suggested}\
         upstreams: {{ app: {{ servers: [http://127.0.0.1:3000] }} }}\n\
         routes: [{{ name: app, path: /, access: {{ sign_in: [local] }}, upstream: app }}]\n"
    );
    fs::write(folder.join("vestibule.yaml"), file).expect("the folder takes files");
    let credentials = folder.display().to_string();
    let environment = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone());
    vestibule::config::load(&folder.join("vestibule.yaml"), &environment)
        .unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn the_reader_of_imports_sees_single_paths_and_groups() {
    let text = "use crate::domain::time;\n// crate::app\nuse crate::{auth::jwt, net};\nlet x = crate::store::table::Table::new();\n";
    let expected =
        [(1, "domain"), (3, "auth"), (3, "net"), (4, "store")].map(|(line, part)| (line, part.to_owned()));
    assert_eq!(imports(text), expected);
}
