//! Commands of the binary: arguments and input in, exit code and output out.

use super::gateway::BINARY;
use super::wait;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `vestibule` with these arguments in a folder.
pub(crate) fn vestibule(folder: &Path, arguments: &[&str], input: &str) -> Outcome {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("the input is piped");
    // A command that reads nothing may be over already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    // Read beside the wait: a full pipe would keep the command from ending.
    let out = collect(child.stdout.take().expect("the output is piped"));
    let err = collect(child.stderr.take().expect("the output is piped"));
    let ended = wait::within(wait::PATIENCE, || child.try_wait().expect("a child can be asked"));
    let Some(status) = ended else {
        drop(child.kill());
        panic!("`vestibule {}` does not end", arguments.join(" "));
    };
    let text = |reader: JoinHandle<String>| reader.join().expect("the output is text");
    Outcome { code: status.code().expect("it ended by itself"), out: text(out), err: text(err) }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("the output is text");
        text
    })
}
