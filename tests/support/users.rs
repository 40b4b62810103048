//! The users of the tests: their names, passwords, and lines in a users file.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::fmt::Write;

/// Cheap on purpose: what a hash costs is not what these tests are about.
const MEMORY_KIB: u32 = 8;

/// One user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
    /// Further lines of the entry: `groups: [ops]`.
    pub(crate) lines: Vec<String>,
}

impl User {
    pub(crate) fn new(name: &str, lines: &[&str]) -> Self {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Self { name: name.to_owned(), password: password_of(name), lines }
    }

    pub(crate) fn with_password(mut self, password: &str) -> Self {
        password.clone_into(&mut self.password);
        self
    }
}

/// The password that a user of this name has unless the test says otherwise.
pub(crate) fn password_of(name: &str) -> String {
    format!("{name}-knows-this-9f3c")
}

/// Alice of `ops` and example.com, Bob of `dev` and example.org.
pub(crate) fn usual() -> Vec<User> {
    vec![
        User::new(
            "alice",
            &["email: alice@example.com", "groups: [ops, \"a,b\"]", "claims: { department: support }"],
        ),
        User::new("bob", &["email: bob@example.org", "groups: [dev]"]),
    ]
}

/// A users file.
pub(crate) fn file(users: &[User]) -> String {
    let mut text = String::new();
    for User { name, password, lines } in users {
        let hash = argon2id(password);
        write!(text, "\"{name}\":\n  password: {hash}\n").expect("a string takes all");
        for line in lines {
            writeln!(text, "  {line}").expect("a string takes all");
        }
    }
    text
}

/// A hash in the form that `vestibule password hash` prints, at the lowest cost. The salt comes from the password, so that the
/// same user file comes out the same twice.
pub(crate) fn argon2id(password: &str) -> String {
    let salt = &digest::digest(&digest::SHA256, password.as_bytes()).as_ref()[..16].to_vec();
    let params = argon2::Params::new(MEMORY_KIB, 1, 1, Some(32)).expect("the lowest cost is one");
    let mut hash = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .expect("the password is short");
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m={MEMORY_KIB},t=1,p=1${salt}${hash}")
}
