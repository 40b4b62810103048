//! Secrets by reference: read once, at the file's check; never printed.

use super::super::problem::At;
use super::super::raw::SecretRef;
use super::{Resolver, reason};
use crate::domain::secret::Secret;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// No key, token or PEM file is longer.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

impl Resolver<'_> {
    /// The bytes that a reference leads to: of a file without one newline at its end, of a variable as they are.
    pub(super) fn secret(&mut self, reference: &SecretRef, at: &At) -> Option<Secret<Vec<u8>>> {
        match (&reference.file, &reference.env) {
            (Some(path), None) => self.secret_file(path, &at.key("file")),
            (None, Some(name)) => {
                let value = (self.env)(name).filter(|value| !value.is_empty());
                if value.is_none() {
                    let wrong = "is not set in the environment, or empty";
                    self.notes.problem(&at.key("env"), name, wrong, format!("set `{name}`"));
                }
                value.map(|value| Secret::new(value.into_bytes()))
            }
            _ => {
                let name = at.steps().iter().rev().find_map(|step| match step {
                    super::super::problem::Step::Key(name) => Some(name.as_str()),
                    _ => None,
                });
                let remedy = "write `{ file: PATH }` or `{ env: NAME }`";
                self.notes.problem(
                    at,
                    name.unwrap_or("secret"),
                    "needs exactly one of `file` and `env`",
                    remedy,
                );
                None
            }
        }
    }

    fn secret_file(&mut self, path: &str, at: &At) -> Option<Secret<Vec<u8>>> {
        let mut bytes = self.read_file(path, at)?;
        let place = self.place(path);
        if std::fs::metadata(&place).is_ok_and(|found| found.mode() & 0o004 != 0) {
            let wrong = "can be read by every user of this machine";
            self.notes.warn(at, path, wrong, format!("run `chmod o-rwx {}`", place.display()));
        }
        if bytes.ends_with(b"\n") {
            bytes.truncate(bytes.len() - 1 - usize::from(bytes.ends_with(b"\r\n")));
        }
        if bytes.is_empty() {
            self.notes.problem(at, path, "is empty", "put the secret into the file");
            return None;
        }
        Some(Secret::new(bytes))
    }

    /// Reads a whole small file, and notes that it was read.
    pub(super) fn read_file(&mut self, path: &str, at: &At) -> Option<Vec<u8>> {
        let place = self.existing_file(path, at)?;
        let (wrong, remedy) = match read_bounded(&place, SECRET_BYTES_MAX) {
            Ok(bytes) if bytes.len() as u64 <= SECRET_BYTES_MAX => return Some(bytes),
            Ok(_) => ("is longer than 64 KiB".to_owned(), "name the right file"),
            Err(error) => (
                format!("cannot be read ({})", reason(&error)),
                "let the user that runs vestibule read it (`chown`, `chmod`)",
            ),
        };
        self.notes.problem(at, path, wrong, remedy);
        None
    }

    /// `keys`: newest first, each 32 bytes that look random. `needed` says what for.
    pub(super) fn keys(&mut self, needed: Option<&str>) -> Vec<Secret<[u8; 32]>> {
        let at = At::root().key("keys");
        let Some(raw) = &self.raw.keys else {
            if let Some(needed) = needed {
                let remedy =
                    "write `keys: [{ file: session.key }]`, the file made by `vestibule keys generate`";
                self.notes.missing(&At::root(), "keys", &format!("is missing, and {needed}"), remedy);
            }
            return Vec::new();
        };
        if let (true, Some(needed)) = (raw.is_empty(), needed) {
            let remedy = "write `[{ file: session.key }]`, the file made by `vestibule keys generate`";
            self.notes.problem(&at, "keys", format!("is empty, and {needed}"), remedy);
        }
        let mut keys: Vec<Secret<[u8; 32]>> = Vec::new();
        for (index, reference) in raw.iter().enumerate() {
            let at = at.item(index);
            let Some(text) = reference.as_ref().and_then(|reference| self.secret(reference, &at)) else {
                continue;
            };
            let culprit = format!("keys[{index}]");
            let remedy = "write one that `vestibule keys generate` made";
            match key(text.expose()) {
                Err(wrong) => self.notes.problem(&at, &culprit, wrong, remedy),
                Ok(key) if keys.iter().any(|other| other.expose() == key.expose()) => {
                    self.notes.problem(&at, &culprit, "is the same key as one before it", "remove it");
                }
                Ok(key) => keys.push(key),
            }
        }
        keys
    }
}

/// Reads a file to its end, or one byte past the bound, so that the caller can tell.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// 32 bytes in base64, in either alphabet, padded or not.
fn key(text: &[u8]) -> Result<Secret<[u8; 32]>, &'static str> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet| GeneralPurpose::new(alphabet, lenient).decode(text.trim_ascii()).map(Secret::new);
    let bytes =
        decode(&alphabet::STANDARD).or_else(|_| decode(&alphabet::URL_SAFE)).map_err(|_| "is not base64")?;
    let Ok(key) = <[u8; 32]>::try_from(bytes.expose().as_slice()).map(Secret::new) else {
        return Err("is not 32 bytes in base64");
    };
    // 32 random bytes hold about 30 different ones; fewer than 16 come from no generator.
    let mut seen = [false; 256];
    key.expose().iter().for_each(|byte| seen[usize::from(*byte)] = true);
    if seen.iter().filter(|seen| **seen).count() < 16 { Err("is not random") } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_random_bytes_in_base64() {
        for (text, expected) in [
            ("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=", Err("is not random")),
            ("3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=", Ok(())),
            ("3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs", Ok(())),
            (" 3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs \n", Ok(())),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", Err("is not random")),
            ("3q2+7wABAgMEBQYHCAkKCw==", Err("is not 32 bytes in base64")),
            ("hunter2!", Err("is not base64")),
            ("", Err("is not 32 bytes in base64")),
        ] {
            assert_eq!(key(text.as_bytes()).map(|_| ()), expected, "{text}");
        }
    }
}
