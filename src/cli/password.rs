//! `password hash`: a line for the users file.
//!
//! On a terminal it asks twice and shows nothing of what is typed; else it reads one line of standard input. A password is
//! never an argument: those are seen by everybody on the machine.

use super::{Failure, print};
use crate::auth::hash::{Hash, PASSWORD_BYTES_MAX};
use crate::domain::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Stdin};
use zeroize::Zeroizing;

/// Prints the hash alone.
pub(super) fn hash() -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let password = if stdin.is_terminal() { ask_twice(&stdin)? } else { read_line(stdin.lock())? };
    if password.expose().is_empty() {
        return Err(Failure::refused(
            "the password is empty; type one, or send it as a line on standard input",
        ));
    }
    let hash =
        Hash::of(&password).map_err(|cause| Failure::failed(format!("no salt could be made: {cause}")))?;
    print(&format!("{hash}\n"))
}

fn ask_twice(stdin: &Stdin) -> Result<Secret<String>, Failure> {
    let password = ask(stdin, "Password: ")?;
    let again = ask(stdin, "Once more: ")?;
    if password.expose() != again.expose() {
        return Err(Failure::refused("the two differ; try again"));
    }
    Ok(password)
}

fn ask(stdin: &Stdin, prompt: &str) -> Result<Secret<String>, Failure> {
    let _quiet = Quiet::start(stdin)
        .map_err(|cause| Failure::failed(format!("the terminal's echo cannot be turned off: {cause}")))?;
    eprint!("{prompt}");
    let password = read_line(stdin.lock());
    // Enter was not shown either.
    eprintln!();
    password
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'t> {
    stdin: &'t Stdin,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn start(stdin: &'t Stdin) -> rustix::io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut quiet = before.clone();
        // Without signals from the keyboard: Ctrl-C would leave the terminal mute. It reads as a character instead.
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(stdin, OptionalActions::Flush, &quiet)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Fails only if the terminal is gone.
        let _gone = tcsetattr(self.stdin, OptionalActions::Flush, &self.before);
    }
}

/// Reads one line without its end, whatever stands behind it left alone.
fn read_line(input: impl BufRead) -> Result<Secret<String>, Failure> {
    // Room for a line and its end, and for one byte that shows it is too long; it never moves, so nothing stays behind.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 3));
    input
        .take(PASSWORD_BYTES_MAX as u64 + 3)
        .read_until(b'\n', &mut line)
        .map_err(|cause| Failure::failed(format!("standard input cannot be read: {cause}")))?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(Failure::refused(format!("the password is longer than {PASSWORD_BYTES_MAX} bytes")));
    }
    let text = std::str::from_utf8(text).map_err(|_| Failure::refused("the password is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(Failure::refused("the password holds a control character, which no form could send"));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Result<String, String> {
        match read_line(input) {
            Ok(password) => Ok(password.expose().clone()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn one_line_is_read_without_its_end() {
        for (input, expected) in [
            (&b"hunter2\n"[..], "hunter2"),
            (b"hunter2", "hunter2"),
            (b"hunter2\r\nnext\n", "hunter2"),
            (b" spaces stay \n", " spaces stay "),
            ("密码\n".as_bytes(), "密码"),
            (b"", ""),
        ] {
            assert_eq!(read(input).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_no_form_could_send_is_refused() {
        assert_eq!(read(&[b'x'; PASSWORD_BYTES_MAX]).map(|password| password.len()), Ok(PASSWORD_BYTES_MAX));
        for input in [&[b'x'; PASSWORD_BYTES_MAX + 1][..], b"a\x03b\n", b"\xff\n", b"a\rb\n"] {
            assert!(read(input).is_err());
        }
    }
}
