//! The demonstration's folder: a configuration with comments, two users, a key and the operator's token.
//!
//! Everything secret is made anew from the operating system's generator, and its files are for their owner alone.
//! A file that is there already is never touched. The passwords stand nowhere but in [`Folder::greeting`].

use crate::domain::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where the parts of the demonstration listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The gateway.
    pub(crate) listener: SocketAddr,
    /// The operator's door.
    pub(crate) admin: SocketAddr,
    /// The application.
    pub(crate) upstream: SocketAddr,
}

/// A user who may sign in to the demonstration.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// The name to type.
    pub(crate) name: &'static str,
    /// The password to type.
    pub(crate) password: Secret<String>,
}

/// The folder as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// The configuration file in it.
    pub(crate) config: PathBuf,
    /// alice, who is in the groups ops and staff.
    pub(crate) alice: User,
    /// bob, who is in the group staff.
    pub(crate) bob: User,
    url: String,
}

/// Why the folder could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// Something of that name stands there.
    #[error("`{}` is there already; name an empty folder, or remove it", .0.display())]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("`{path}` cannot be written: {error}; name a folder that you may write to", path = .0.display(), error = .1)]
    Unwritable(PathBuf, io::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}; try again")]
    Random(getrandom::Error),
}

/// Writes the demonstration's files into `folder`, which is made if it is missing.
///
/// `hash` turns a password into the line that `users.yaml` holds. Nothing is written if one of the files exists.
pub(crate) fn write(
    folder: &Path,
    addresses: Addresses,
    hash: impl Fn(&Secret<String>) -> String,
) -> Result<Folder, FilesError> {
    let alice = User { name: "alice", password: password()? };
    let bob = User { name: "bob", password: password()? };
    // The name, not the address: browsers count plain http://localhost among the safe origins.
    let url = format!("http://localhost:{}", addresses.listener.port());
    let config = include_str!("vestibule.yaml")
        .replace("{listener}", &addresses.listener.to_string())
        .replace("{url}", &url)
        .replace("{admin}", &addresses.admin.to_string())
        .replace("{upstream}", &addresses.upstream.to_string());
    let users = include_str!("users.yaml")
        .replace("{alice}", &hash(&alice.password))
        .replace("{bob}", &hash(&bob.password));
    let key = STANDARD.encode(random::<32>()?);
    let token = URL_SAFE_NO_PAD.encode(random::<32>()?);

    let files = [
        ("vestibule.yaml", 0o644, config),
        ("users.yaml", 0o600, users),
        ("keys/1.key", 0o600, key + "\n"),
        ("admin.token", 0o600, token + "\n"),
    ];
    if let Some((name, _, _)) = files.iter().find(|(name, _, _)| folder.join(name).symlink_metadata().is_ok())
    {
        return Err(FilesError::Exists(folder.join(name)));
    }
    let keys = folder.join("keys");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&keys);
    made.map_err(|error| FilesError::Unwritable(keys, error))?;
    for (name, mode, text) in &files {
        create(&folder.join(name), *mode, text)?;
    }
    Ok(Folder { config: folder.join("vestibule.yaml"), alice, bob, url })
}

impl Folder {
    /// What the person who started the demonstration reads; the passwords are in it.
    pub(crate) fn greeting(&self) -> String {
        let config = self.config.display();
        let folder = self.config.parent().unwrap_or(Path::new(".")).display();
        format!(
            "
  {url}/            open this, and sign in as one of

      {alice:<6} {alice_password}   groups ops, staff
      {bob:<6} {bob_password}   groups staff

  {url}/public/     open to everybody
  {url}/ops/        open to the group ops
  {url}/visits      counts in a cookie of the application's own

  The files are in {folder}: change vestibule.yaml or users.yaml and watch them taken up.
  The sessions:    vestibule sessions list -c {config}
  Ctrl-C ends the demonstration.
",
            url = self.url,
            alice = self.alice.name,
            alice_password = self.alice.password.expose(),
            bob = self.bob.name,
            bob_password = self.bob.password.expose(),
        )
    }
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), FilesError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FilesError::Exists(path.into()),
        _ => FilesError::Unwritable(path.into(), error),
    })
}

/// Sixteen letters and digits in groups of four, 80 bits; without `l` and `o`, `0` and `1`, which look alike.
fn password() -> Result<Secret<String>, FilesError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let characters = random::<16>()?.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    Ok(Secret::new(characters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join("-")))
}

fn random<const N: usize>() -> Result<[u8; N], FilesError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(FilesError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("vestibule-demo-{name}-{}", std::process::id())))
        }

        fn write(&self) -> Result<Folder, FilesError> {
            let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
            let addresses = Addresses { listener: local(8080), admin: local(9901), upstream: local(40_000) };
            write(&self.0, addresses, |password| format!("hash-of-{}-characters", password.expose().len()))
        }

        fn read(&self, file: &str) -> String {
            std::fs::read_to_string(self.0.join(file)).expect("the file was written")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_files_are_complete_and_the_secret_ones_for_their_owner_alone() {
        let place = Place::new("complete");
        let folder = place.write().expect("the place is free");
        insta::assert_snapshot!("vestibule.yaml", place.read("vestibule.yaml"));
        insta::assert_snapshot!("users.yaml", place.read("users.yaml"));
        let key = STANDARD.decode(place.read("keys/1.key").trim_end()).expect("the key is base64");
        assert_eq!(key.len(), 32);
        assert!(place.read("admin.token").trim_end().len() >= 32);
        for (file, mode) in [
            ("vestibule.yaml", 0o644),
            ("users.yaml", 0o600),
            ("keys/1.key", 0o600),
            ("keys", 0o700),
            ("admin.token", 0o600),
        ] {
            let found = place.0.join(file).metadata().expect("it was written").permissions().mode() & 0o777;
            // The umask may take more away.
            assert_eq!(found & !mode, 0, "{file}: {found:o}");
        }
        for user in [&folder.alice, &folder.bob] {
            let users = place.read("users.yaml");
            assert!(!users.contains(user.password.expose()), "only the hash is written");
        }
        assert_ne!(folder.alice.password.expose(), folder.bob.password.expose());
    }

    #[test]
    fn the_yaml_is_well_formed() {
        let place = Place::new("yaml");
        place.write().expect("the place is free");
        for file in ["vestibule.yaml", "users.yaml"] {
            let text = place.read(file);
            assert!(!text.contains("{listener}") && !text.contains("{url}"), "{text}");
            serde_yaml::from_str::<serde_yaml::Value>(&text)
                .unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    #[test]
    fn the_greeting_says_where_to_go_and_what_to_type() {
        let place = Place::new("greeting");
        let mut folder = place.write().expect("the place is free");
        folder.config = "demo/vestibule.yaml".into();
        let greeting = folder.greeting();
        for user in [&folder.alice, &folder.bob] {
            let password = user.password.expose();
            assert!(greeting.contains(&format!("{:<6} {password}", user.name)), "{greeting}");
            assert_eq!(password.len(), 19, "{password}");
        }
        let greeting = greeting
            .replace(folder.alice.password.expose(), "aaaa-aaaa-aaaa-aaaa")
            .replace(folder.bob.password.expose(), "bbbb-bbbb-bbbb-bbbb");
        insta::assert_snapshot!(greeting);
        assert!(!format!("{folder:?}").contains(folder.alice.password.expose()), "Debug shows no password");
    }

    #[test]
    fn a_file_that_is_there_is_kept_and_nothing_else_is_written() {
        let place = Place::new("kept");
        std::fs::create_dir(&place.0).expect("the place is free");
        std::fs::write(place.0.join("users.yaml"), "mine").expect("it can be written");
        let error = place.write().expect_err("users.yaml is there").to_string();
        assert!(
            error.ends_with("users.yaml` is there already; name an empty folder, or remove it"),
            "{error}"
        );
        assert_eq!(place.read("users.yaml"), "mine");
        assert!(!place.0.join("vestibule.yaml").exists());
    }
}
