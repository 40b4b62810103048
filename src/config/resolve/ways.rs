//! `sign_in` and `tokens`: the ways to prove who one is.

use super::super::problem::At;
use super::super::raw::{self, Algorithm};
use super::secrets::read_bounded;
use super::{Resolver, reason};
use crate::auth::jwt::Verifier;
use crate::auth::users::{self, Users};
use crate::auth::{JwtKeys, JwtSettings, SignInKind, SignInSettings, jwks};
use crate::domain::access::EntryId;
use aws_lc_rs::digest;
use std::path::Path;
use std::time::Duration;

/// Clocks of machines that keep time differ by less.
const LEEWAY_MAX: Duration = Duration::from_mins(2);
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

impl Resolver<'_> {
    pub(super) fn sign_in(&mut self) -> Vec<SignInSettings> {
        let root = At::root().key("sign_in");
        let Some(raw) = &self.raw.sign_in else { return Vec::new() };
        let mut ways = Vec::new();
        for (name, entry) in &raw.0 {
            let at = root.key(name);
            self.check_name(name, &at);
            let Some(entry) = entry else { continue };
            let found = match (&entry.password, &entry.upstream) {
                (Some(password), None) => self.password(name, password, &at.key("password")),
                (None, Some(upstream)) => self.upstream_way(name, upstream, &at.key("upstream")),
                _ if self.notes.spoilt(&at) => None,
                _ => {
                    let wrong = "needs exactly one of `password` and `upstream`";
                    self.notes.problem(
                        &at,
                        name,
                        wrong,
                        "write `password: { users: users.yaml }`, for example",
                    );
                    None
                }
            };
            // The name space of its subjects is its own.
            ways.extend(found.map(|(id, kind)| SignInSettings {
                name: name.clone(),
                id,
                source: name.clone(),
                kind,
            }));
        }
        ways
    }

    fn password(&mut self, name: &str, raw: &raw::Password, at: &At) -> Option<(EntryId, SignInKind)> {
        let at = at.key("users");
        let users = self.existing_file(raw.users.as_ref()?, &at)?;
        self.users(&users, name, &at);
        let id = entry_id(name, &["password", &absolute(&users)]);
        Some((id, SignInKind::Password { users }))
    }

    pub(super) fn tokens(&mut self) -> Vec<JwtSettings> {
        let root = At::root().key("tokens");
        let Some(raw) = &self.raw.tokens else { return Vec::new() };
        let mut entries = Vec::new();
        for (name, entry) in &raw.0 {
            let at = root.key(name);
            self.check_name(name, &at);
            if self.raw.sign_in.iter().any(|ways| ways.names().any(|way| way == name)) {
                let wrong = "is a name of `sign_in` already";
                self.notes.problem(
                    &at,
                    name,
                    wrong,
                    "write another name: sessions and logs tell entries by it",
                );
            }
            let Some(entry) = entry else { continue };
            let found = match (&entry.jwt, &entry.introspection) {
                (Some(jwt), None) => self.jwt(name, jwt, &at.key("jwt")),
                (None, Some(asked)) => self.introspection(name, asked, &at.key("introspection")),
                _ if self.notes.spoilt(&at) => None,
                _ => {
                    let wrong = "needs exactly one of `jwt` and `introspection`";
                    let remedy = "write `jwt: …` for signed tokens, `introspection: …` for opaque ones";
                    self.notes.problem(&at, name, wrong, remedy);
                    None
                }
            };
            entries.extend(found.map(|settings| {
                let claims = self.claim_mappings(entry.claims.as_ref(), &at);
                JwtSettings { claims, ..settings }
            }));
        }
        entries
    }

    fn jwt(&mut self, name: &str, raw: &raw::Jwt, at: &At) -> Option<JwtSettings> {
        let issuer = raw.issuer.clone();
        if issuer.as_deref() == Some("") {
            self.notes.problem(&at.key("issuer"), "", "is empty", "write the `iss` of the tokens");
        }
        let audience = self.audience(raw, at);
        let algorithms = self.algorithms(raw, at);
        let keys = raw.keys.as_ref();
        let keys = keys.and_then(|keys| self.jwt_keys(keys, issuer.as_deref(), &algorithms, &at.key("keys")));
        let leeway = raw.leeway.as_ref().map_or(LEEWAY, |leeway| leeway.length);
        if let Some(written) = raw.leeway.as_ref().filter(|_| leeway > LEEWAY_MAX) {
            let wrong = "is more than clocks differ";
            self.notes.problem(&at.key("leeway"), &written.text, wrong, "write at most `2m`");
        }
        let subject = raw.subject.clone().unwrap_or_else(|| "sub".to_owned());
        if subject.is_empty() {
            self.notes.problem(
                &at.key("subject"),
                "",
                "is empty",
                "write a claim's name, or leave it out for `sub`",
            );
        }
        let types = self.types(raw, at);
        let issuer = issuer?;
        let mut definition = vec!["jwt", &issuer, &subject];
        definition.extend(audience.iter().map(String::as_str));
        let id = entry_id(name, &definition);
        let trust_email = raw.trust_email.unwrap_or(false);
        let algorithms = algorithms.into_iter().map(known).collect();
        let name = name.to_owned();
        let settings = JwtSettings {
            name,
            id,
            issuer,
            audience,
            keys: keys?,
            algorithms,
            subject,
            types,
            leeway,
            trust_email,
            access_tokens_only: raw.profile == Some(raw::Profile::AccessToken),
            claims: Vec::new(),
        };
        if !self.notes.spoilt(&at.key("keys")) && !self.notes.spoilt(&at.key("algorithms")) {
            self.jwt_keys_verify(&settings, at);
        }
        Some(settings)
    }

    fn audience(&mut self, raw: &raw::Jwt, at: &At) -> Vec<String> {
        let at = at.key("audience");
        let Some(raw) = &raw.audience else { return Vec::new() };
        let audience: Vec<String> = raw.iter().map(|(_, value)| value.clone()).collect();
        if raw.is_empty() || audience.iter().any(String::is_empty) {
            let remedy = "write the name under which the issuer knows this gateway or its applications";
            self.notes.problem(&at, "audience", "is empty: tokens for anybody would pass", remedy);
        }
        audience
    }

    fn types(&mut self, raw: &raw::Jwt, at: &At) -> Vec<String> {
        if raw.profile == Some(raw::Profile::AccessToken) {
            if raw.types.is_some() {
                let wrong = "stands beside `profile: at+jwt`, which says it already";
                self.notes.problem(&at.key("types"), "types", wrong, "leave it out");
            }
            return vec!["at+jwt".to_owned()];
        }
        let Some(raw) = &raw.types else { return vec!["jwt".to_owned(), "at+jwt".to_owned()] };
        if raw.is_empty() {
            let remedy = "write `[jwt, at+jwt]`, or leave it out";
            self.notes.problem(&at.key("types"), "types", "is empty", remedy);
        }
        let plain = |text: &String| text.to_ascii_lowercase().trim_start_matches("application/").to_owned();
        raw.iter().flatten().map(plain).collect()
    }

    fn algorithms(&mut self, raw: &raw::Jwt, at: &At) -> Vec<Algorithm> {
        let at = at.key("algorithms");
        let Some(raw) = &raw.algorithms else { return Vec::new() };
        if raw.is_empty() {
            let wrong = "is empty: no token would pass";
            self.notes.problem(
                &at,
                "algorithms",
                wrong,
                "write what the issuer signs with, such as `[RS256]`",
            );
        }
        raw.iter().flatten().copied().collect()
    }

    fn jwt_keys(
        &mut self,
        raw: &raw::JwtKeys,
        issuer: Option<&str>,
        algorithms: &[Algorithm],
        at: &At,
    ) -> Option<JwtKeys> {
        let is_published = raw.jwks_url.is_some() || raw.discovery == Some(true);
        if raw.fetch.is_some() && !is_published {
            let wrong = "says how keys are fetched, and none are";
            self.notes.problem(&at.key("fetch"), "fetch", wrong, "leave it out, or write `jwks_url`");
        }
        match (&raw.secret, &raw.public_key, &raw.jwks_file) {
            (None, None, None) if raw.jwks_url.is_some() != (raw.discovery == Some(true)) => {
                self.published_keys(raw, issuer, at)
            }
            _ if is_published => {
                self.one_kind_of_keys(at);
                None
            }
            (Some(secret), None, None) => self.jwt_secret(secret, algorithms, &at.key("secret")),
            (None, Some(path), None) => {
                self.existing_file(path, &at.key("public_key")).map(JwtKeys::PublicKey)
            }
            (None, None, Some(path)) => self.existing_file(path, &at.key("jwks_file")).map(JwtKeys::JwksFile),
            _ => {
                self.one_kind_of_keys(at);
                None
            }
        }
    }

    fn one_kind_of_keys(&mut self, at: &At) {
        let wrong =
            "needs exactly one of `secret`, `public_key`, `jwks_file`, `jwks_url` and `discovery: true`";
        self.notes.problem(at, "keys", wrong, "write `keys: { public_key: issuer.pem }`, for example");
    }

    fn jwt_secret(&mut self, raw: &raw::SecretRef, algorithms: &[Algorithm], at: &At) -> Option<JwtKeys> {
        let secret = self.secret(raw, at)?;
        let length = secret.expose().len();
        let hash = algorithms.iter().map(|algorithm| algorithm.hash_bytes()).max().unwrap_or(32);
        if (32..hash).contains(&length) {
            let wrong = format!("has {length} bytes, and the algorithm's hash {hash} (RFC 7518 §3.2)");
            self.notes.warn(at, "secret", wrong, format!("write {hash} bytes"));
        }
        Some(JwtKeys::Secret(secret))
    }

    /// The verifier itself reads the keys once, so that what it would refuse is told now.
    fn jwt_keys_verify(&mut self, settings: &JwtSettings, at: &At) {
        let read = |path: &Path| read_bounded(path, jwks::FILE_BYTES_MAX as u64);
        if let Err(error) = Verifier::new(settings, &read) {
            let mut said = error.to_string();
            if let JwtKeys::PublicKey(path) | JwtKeys::JwksFile(path) = &settings.keys {
                said = said.replace(&path.display().to_string(), &self.as_named(path));
            }
            self.notes.said(&at.key("keys"), &said);
        }
    }

    /// Checks the users file line by line.
    fn users(&mut self, path: &Path, name: &str, at: &At) {
        let said = match read_bounded(path, users::FILE_BYTES_MAX as u64).map(String::from_utf8) {
            Ok(Ok(text)) => match Users::parse(&text, name) {
                Ok(_) => return,
                Err(problems) => problems.iter().map(ToString::to_string).collect(),
            },
            Ok(Err(_)) => vec!["is not UTF-8; save it as UTF-8".to_owned()],
            Err(error) => {
                let reason = reason(&error);
                vec![format!("cannot be read ({reason}); let the user that runs vestibule read it")]
            }
        };
        for said in said {
            self.notes.said_again(at, &format!("`{}` {said}", self.as_named(path)));
        }
    }
}

impl Algorithm {
    fn hash_bytes(self) -> usize {
        match self {
            Self::HS512 => 64,
            Self::HS384 => 48,
            _ => 32,
        }
    }
}

fn known(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm as Known;
    match algorithm {
        Algorithm::HS256 => Known::HS256,
        Algorithm::HS384 => Known::HS384,
        Algorithm::HS512 => Known::HS512,
        Algorithm::RS256 => Known::RS256,
        Algorithm::RS384 => Known::RS384,
        Algorithm::RS512 => Known::RS512,
        Algorithm::PS256 => Known::PS256,
        Algorithm::PS384 => Known::PS384,
        Algorithm::PS512 => Known::PS512,
        Algorithm::ES256 => Known::ES256,
        Algorithm::ES384 => Known::ES384,
        Algorithm::EdDsa => Known::EdDSA,
    }
}

/// A file's place as part of an entry's definition. Not resolved further: where a mounted volume swaps links at each
/// change (Kubernetes), the file is the same all the while.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Name and definition in eight bytes; lengths keep `["ab", "c"]` and `["a", "bc"]` apart.
pub(super) fn entry_id(name: &str, definition: &[&str]) -> EntryId {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in std::iter::once(&name).chain(definition) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finish();
    let first = hash.as_ref().first_chunk::<8>().expect("SHA-256 has 32 bytes");
    EntryId(u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_known_by_its_name_and_its_definition() {
        let id = entry_id("local", &["password", "/etc/users.yaml"]);
        assert_eq!(id, entry_id("local", &["password", "/etc/users.yaml"]));
        for other in [
            entry_id("other", &["password", "/etc/users.yaml"]),
            entry_id("local", &["password", "/etc/other.yaml"]),
            entry_id("local", &["password/etc", "/users.yaml"]),
            entry_id("localpassword", &["", "/etc/users.yaml"]),
        ] {
            assert_ne!(id, other);
        }
    }
}
