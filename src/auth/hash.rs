//! One password hash, as a user file holds it: Argon2id (RFC 9106) or bcrypt.
//!
//! The text is taken apart once, when the file is read; a form that is weak, foreign or too dear to compute is refused
//! there. Checking costs what the hash says, tens of milliseconds, so only the worker of [`super::hashing`] does it.
//! A [`Hash::stand_in`] costs the same and matches nothing: it is computed for names that no file knows.

use crate::domain::secret::Secret;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

/// Longer passwords are not looked at.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// bcrypt reads no further; a longer password would be cut, so that its prefix sufficed.
const BCRYPT_BYTES_MAX: usize = 72;
/// 256 MiB: one hash must not take the memory that a thousand sessions need.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// About two seconds; the next step doubles it.
const BCRYPT_COST_MAX: u32 = 15;

/// What computing a hash takes: two hashes of equal cost take the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Argon2id with memory in KiB, passes and lanes.
    Argon2id {
        /// `m`
        memory_kib: u32,
        /// `t`
        passes: u32,
        /// `p`
        lanes: u32,
        /// Bytes of output.
        output: usize,
    },
    /// bcrypt, two to the power of this many rounds.
    Bcrypt(u32),
}

impl Cost {
    /// What [`Hash::of`] spends: the second recommendation of RFC 9106 §4 scaled to the memory that OWASP's Password
    /// Storage Cheat Sheet names first.
    pub const RECOMMENDED: Self =
        Self::Argon2id { memory_kib: 19_456, passes: 2, lanes: 1, output: Params::DEFAULT_OUTPUT_LEN };
}

/// Why a text is no hash that we check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashProblem {
    /// Neither form, or one that is broken today (MD5, SHA-1, crypt, plain text).
    #[error("is no Argon2id or bcrypt hash; write what `vestibule password hash` or `htpasswd -B` prints")]
    Unknown,
    /// It starts like one and is cut or misspelt.
    #[error(
        "is not a whole {0} hash; copy the line again, or write a new one with `vestibule password hash`"
    )]
    Malformed(&'static str),
    /// A single check would hold up everybody else's.
    #[error(
        "takes too long or too much memory to check ({0}); write a new one with `vestibule password hash`"
    )]
    TooDear(&'static str),
}

/// A password hash. `Debug` shows the kind alone; equality is that of the text it was read from.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2id { cost: Cost, salt: Box<[u8]>, output: Box<[u8]> },
    Bcrypt { cost: u32, salt: [u8; 16], text: Box<str> },
}

impl Hash {
    /// Reads `$argon2id$v=19$…`, `$2a$…`, `$2b$…` or `$2y$…`.
    pub fn parse(text: &str) -> Result<Self, HashProblem> {
        if text.starts_with("$argon2id$") {
            parse_argon2id(text)
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            parse_bcrypt(text)
        } else {
            Err(HashProblem::Unknown)
        }
    }

    /// Hashes a new password with a salt from the operating system.
    ///
    /// # Errors
    ///
    /// The system's random generator failed.
    pub fn of(password: &Secret<String>) -> Result<String, getrandom::Error> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        let phc = argon2::CustomizedPasswordHasher::hash_password_customized(
            &Argon2::default(),
            password.expose().as_bytes(),
            &salt,
            None,
            None,
            Params::DEFAULT,
        );
        let phc: PasswordHash = phc.expect("the default parameters and a salt of 16 bytes are in range");
        Ok(phc.to_string())
    }

    /// A hash of the given cost that no password has.
    pub fn stand_in(cost: Cost) -> Self {
        // Its output is empty, or no text at all: the comparison at the end fails whatever was computed.
        Self(match cost {
            Cost::Argon2id { .. } => Kind::Argon2id { cost, salt: [0; 16].into(), output: [].into() },
            Cost::Bcrypt(cost) => Kind::Bcrypt { cost, salt: [0; 16], text: "".into() },
        })
    }

    /// A fingerprint, never 0: another password has another one, for salts are random. A session remembers it, so that it
    /// can be told later whether the password is still the one by which somebody signed in.
    pub fn stamp(&self) -> u64 {
        let mut hasher = SipHasher24::new();
        match &self.0 {
            Kind::Argon2id { salt, output, .. } => {
                hasher.write(salt);
                hasher.write(output);
            }
            Kind::Bcrypt { text, .. } => hasher.write(text.as_bytes()),
        }
        hasher.finish().max(1)
    }

    /// What checking takes.
    pub fn cost(&self) -> Cost {
        match &self.0 {
            Kind::Argon2id { cost, .. } => *cost,
            Kind::Bcrypt { cost, .. } => Cost::Bcrypt(*cost),
        }
    }

    /// Computes the hash of `password` and compares in constant time. Takes the same time whatever the answer is.
    pub fn matches(&self, password: &Secret<String>) -> bool {
        let password = password.expose().as_bytes();
        match &self.0 {
            Kind::Argon2id { cost, salt, output } => {
                let Cost::Argon2id { memory_kib, passes, lanes, output: len } = *cost else { return false };
                let Ok(params) = Params::new(memory_kib, passes, lanes, Some(len)) else { return false };
                let mut computed = vec![0; len];
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon2.hash_password_into(password, salt, &mut computed).is_ok()
                    && verify_slices_are_equal(&computed, output).is_ok()
            }
            Kind::Bcrypt { cost, salt, text } => {
                let Ok(parts) = bcrypt::hash_with_salt(password, *cost, *salt) else { return false };
                let computed = parts.format_for_version(bcrypt::Version::TwoB);
                // The first four characters are the version: what differs there is not the hash.
                let same = verify_slices_are_equal(
                    computed.as_bytes().get(4..).unwrap_or_default(),
                    text.as_bytes().get(4..).unwrap_or_default(),
                );
                // bcrypt repeats the password with a NUL between; one inside would be another way to write it.
                same.is_ok() && password.len() <= BCRYPT_BYTES_MAX && !password.contains(&0)
            }
        }
    }
}

fn parse_argon2id(text: &str) -> Result<Hash, HashProblem> {
    const MALFORMED: HashProblem = HashProblem::Malformed("Argon2id");
    let phc = PasswordHash::new(text).map_err(|_| MALFORMED)?;
    let (Some(salt), Some(output)) = (phc.salt, phc.hash) else { return Err(MALFORMED) };
    if phc.version != Some(Version::V0x13.into())
        || phc.params.iter().any(|(name, _)| name.as_str().len() > 1)
    {
        return Err(MALFORMED);
    }
    let params = Params::from_str(phc.params.as_str()).map_err(|_| MALFORMED)?;
    if params.m_cost() > MEMORY_KIB_MAX {
        return Err(HashProblem::TooDear("m is above 262144"));
    }
    if params.t_cost() > PASSES_MAX {
        return Err(HashProblem::TooDear("t is above 16"));
    }
    if params.p_cost() > LANES_MAX {
        return Err(HashProblem::TooDear("p is above 16"));
    }
    let cost = Cost::Argon2id {
        memory_kib: params.m_cost(),
        passes: params.t_cost(),
        lanes: params.p_cost(),
        output: output.len(),
    };
    Ok(Hash(Kind::Argon2id { cost, salt: salt.as_ref().into(), output: output.as_bytes().into() }))
}

fn parse_bcrypt(text: &str) -> Result<Hash, HashProblem> {
    let parts = bcrypt::HashParts::from_str(text).map_err(|_| HashProblem::Malformed("bcrypt"))?;
    if parts.get_cost() < 4 {
        return Err(HashProblem::Malformed("bcrypt"));
    }
    if parts.get_cost() > BCRYPT_COST_MAX {
        return Err(HashProblem::TooDear("the cost is above 15"));
    }
    Ok(Hash(Kind::Bcrypt { cost: parts.get_cost(), salt: parts.get_salt_raw(), text: text.into() }))
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Argon2id { .. } => "Hash(Argon2id)",
            Kind::Bcrypt { .. } => "Hash(bcrypt)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pass` in Argon2id with the smallest parameters, computed by OpenSSL.
    const ARGON2ID: &str =
        "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4";
    /// `pass` in bcrypt, written by libxcrypt's `crypt`.
    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6";

    fn password(text: &str) -> Secret<String> {
        Secret::new(text.into())
    }

    #[test]
    fn hashes_written_by_other_programs_match_their_password_alone() {
        for text in [ARGON2ID, BCRYPT] {
            let hash = Hash::parse(text).expect("a whole hash");
            assert!(hash.matches(&password("pass")), "{text}");
            for wrong in ["", "Pass", "pass ", "pass\0", "passpass", "pass\0pass"] {
                assert!(!hash.matches(&password(wrong)), "{text} matches {wrong:?}");
            }
        }
    }

    #[test]
    fn a_new_hash_is_argon2id_of_the_recommended_cost_and_reads_back() {
        let text = Hash::of(&password("correct horse")).expect("the generator works");
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let hash = Hash::parse(&text).expect("our own hash reads back");
        assert_eq!(hash.cost(), Cost::RECOMMENDED);
        assert!(hash.matches(&password("correct horse")));
        assert!(!hash.matches(&password("correct horsf")));
        assert_ne!(
            text,
            Hash::of(&password("correct horse")).expect("the generator works"),
            "the salt is new"
        );
    }

    #[test]
    fn bcrypt_does_not_accept_a_password_that_it_would_cut() {
        let full = "x".repeat(72);
        let text = bcrypt::hash_with_salt(&full, 4, [7; 16]).expect("a cost in range").to_string();
        let hash = Hash::parse(&text).expect("a whole hash");
        assert!(hash.matches(&password(&full)));
        assert!(!hash.matches(&password(&format!("{full}y"))));
    }

    #[test]
    fn a_stand_in_costs_the_same_and_matches_nothing() {
        for text in [ARGON2ID, BCRYPT] {
            let hash = Hash::parse(text).expect("a whole hash");
            let stand_in = Hash::stand_in(hash.cost());
            assert_eq!(stand_in.cost(), hash.cost());
            assert!(!stand_in.matches(&password("pass")) && !stand_in.matches(&password("")));
        }
    }

    #[test]
    fn what_is_no_good_hash_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("", HashProblem::Unknown),
            ("hunter2", HashProblem::Unknown),
            ("$apr1$rqXexS6Z$HobahJRPZRxlLJCfpkNNQ1", HashProblem::Unknown),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", HashProblem::Unknown),
            ("$2x$04$7dfyHnoQTLtdkLc0yV0ApO", HashProblem::Unknown),
            ("$argon2i$v=19$m=16,t=2,p=1$MTIzNDU2Nzg$BeNXXp4nXs0", HashProblem::Unknown),
            ("$argon2id$v=19$m=16,t=2,p=1$MTIzNDU2Nzg", HashProblem::Malformed("Argon2id")),
            ("$argon2id$v=16$m=16,t=2,p=1$MTIzNDU2Nzg$Zm9vYmFyYmF6cXV4", HashProblem::Malformed("Argon2id")),
            (
                "$argon2id$v=19$m=16,t=2,p=1,data=YWJj$MTIzNDU2Nzg$Zm9vYmFyYmF6cXV4",
                HashProblem::Malformed("Argon2id"),
            ),
            (
                "$argon2id$v=19$m=999999999,t=2,p=1$MTIzNDU2Nzg$Zm9vYmFyYmF6cXV4",
                HashProblem::TooDear("m is above 262144"),
            ),
            (
                "$argon2id$v=19$m=16,t=99,p=1$MTIzNDU2Nzg$Zm9vYmFyYmF6cXV4",
                HashProblem::TooDear("t is above 16"),
            ),
            (&BCRYPT[..59], HashProblem::Malformed("bcrypt")),
            (&BCRYPT.replace("$04$", "$31$"), HashProblem::TooDear("the cost is above 15")),
        ] {
            assert_eq!(Hash::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_stamp_tells_passwords_apart_and_is_the_same_tomorrow() {
        let stamp = |text: &str| Hash::parse(text).expect("a whole hash").stamp();
        assert_eq!((stamp(ARGON2ID), stamp(BCRYPT)), (stamp(ARGON2ID), stamp(BCRYPT)));
        let fresh = || stamp(&Hash::of(&password("pass")).expect("the generator works"));
        let all = [stamp(ARGON2ID), stamp(BCRYPT), fresh(), fresh()];
        assert!(all.iter().collect::<std::collections::BTreeSet<_>>().len() == all.len(), "{all:?}");
        assert!(!all.contains(&0));
    }

    #[test]
    fn a_hash_does_not_print() {
        let hash = Hash::parse(BCRYPT).expect("a whole hash");
        assert_eq!(format!("{hash:?}"), "Hash(bcrypt)");
    }
}
