//! The secrets that a test used, and the search for them in places where none may stand.

use std::sync::Mutex;

/// Shorter ones would be found by chance.
const BYTES_MIN: usize = 8;

/// Every secret that the harness has handed out or received.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<Vec<Secret>>);

#[derive(Clone, Debug)]
struct Secret {
    what: String,
    value: String,
    /// May never reach an upstream either.
    is_ours: bool,
}

impl Secrets {
    /// A secret that no log may hold.
    pub(crate) fn note(&self, what: &str, value: &str) {
        self.add(what, value, false);
    }

    /// A secret between a browser and the gateway: no log and no upstream may see it.
    pub(crate) fn note_ours(&self, what: &str, value: &str) {
        self.add(what, value, true);
    }

    fn add(&self, what: &str, value: &str, is_ours: bool) {
        let mut held = self.0.lock().expect("nobody panics while holding the lock");
        if value.len() >= BYTES_MIN && !held.iter().any(|secret| secret.value == value) {
            held.push(Secret { what: what.to_owned(), value: value.to_owned(), is_ours });
        }
    }

    /// What stands in `text` and may not: one sentence for each.
    pub(crate) fn found_in(&self, text: &str, place: &str) -> Vec<String> {
        self.search(text.as_bytes(), place, |_| true)
    }

    /// What reached an upstream and may not.
    pub(crate) fn found_upstream(&self, bytes: &[u8]) -> Vec<String> {
        self.search(bytes, "a request to the upstream", |secret| secret.is_ours)
    }

    fn search(&self, bytes: &[u8], place: &str, counts: impl Fn(&Secret) -> bool) -> Vec<String> {
        let held = self.0.lock().expect("nobody panics while holding the lock");
        held.iter()
            .filter(|secret| counts(secret))
            .filter(|secret| {
                bytes.windows(secret.value.len()).any(|window| window == secret.value.as_bytes())
            })
            .map(|secret| format!("{} stands in {place}: {}", secret.what, String::from_utf8_lossy(bytes)))
            .collect()
    }
}

#[test]
fn a_leak_is_found() {
    let secrets = Secrets::default();
    secrets.note("a password", "correct horse");
    secrets.note_ours("a session cookie", "0123456789abcdef");
    assert_eq!(secrets.found_in("{\"path\":\"/correct horse\"}", "a log line").len(), 1);
    assert_eq!(secrets.found_in("{\"path\":\"/\"}", "a log line").len(), 0);
    assert_eq!(secrets.found_upstream(b"Cookie: a=0123456789abcdef").len(), 1);
    assert_eq!(secrets.found_upstream(b"user=correct horse").len(), 0);
}
