//! Proof that a password was right a moment ago: it lets a visitor choose which session to end without typing it again.
//!
//! The proof is a form token ([`crate::auth::form`]) whose purpose names way, user and credential, so it is tied to the browser
//! that typed the password, ends with the password, and counts for [`VALID_FOR`]. It opens one session: a second use is
//! refused, also after that session has ended. What was used is remembered as long as it could be used again; a restart
//! voids every proof, for the purpose holds a number drawn at start.

use crate::auth::form::{BrowserSecret, FormTokens};
use crate::domain::access::EntryId;
use crate::domain::time::Timestamp;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::time::Duration;

/// How long a visitor may think about which session to end.
pub const VALID_FOR: Duration = Duration::from_mins(5);

/// Each was paid for with a right password and its hash: nobody fills this in five minutes.
const SPENT_MAX: u64 = 100_000;

/// Who proved to be whom.
#[derive(Clone, Copy, Debug)]
pub struct Proved<'a> {
    /// The way to sign in.
    pub entry: EntryId,
    /// The name that was typed.
    pub user: &'a str,
    /// The fingerprint of the credential at that moment.
    pub stamp: u64,
}

/// Issues proofs and takes each once. One object for the life of the process: a reload makes no used proof good again.
pub struct Proofs {
    /// Proofs of another process are none.
    run: u64,
    spent: Cache<String, ()>,
}

impl Proofs {
    /// Nothing used yet.
    ///
    /// # Errors
    ///
    /// The system's random generator failed.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut run = [0; 8];
        getrandom::fill(&mut run)?;
        let spent = Cache::builder()
            .max_capacity(SPENT_MAX)
            .eviction_policy(EvictionPolicy::lru())
            // Twice: the cache's clock is not the one that proofs are checked by.
            .time_to_live(2 * VALID_FOR)
            .build();
        Ok(Self { run: u64::from_le_bytes(run), spent })
    }

    /// The hidden field of the form.
    pub fn issue(
        &self,
        forms: &FormTokens,
        browser: &BrowserSecret,
        proved: &Proved<'_>,
        now: Timestamp,
    ) -> String {
        forms.issue(browser, &self.purpose(proved), now)
    }

    /// Whether `proof` was issued to this browser for this, less than [`VALID_FOR`] ago, and has not been used.
    pub fn is_good(
        &self,
        forms: &FormTokens,
        proof: &str,
        browser: &BrowserSecret,
        proved: &Proved<'_>,
        now: Timestamp,
    ) -> bool {
        forms.check_within(VALID_FOR, proof, browser, &self.purpose(proved), now)
            && !self.spent.contains_key(proof)
    }

    /// Uses a proof that [`Self::is_good`]; of several at once one alone succeeds.
    pub fn spend(&self, proof: &str) -> bool {
        // Not `or_insert`: that looks and then writes, and two who look at once are both told that they wrote.
        self.spent.entry_by_ref(proof).or_insert_with(|| ()).is_fresh()
    }

    /// The name stands last: no two lists of parts read the same.
    fn purpose(&self, proved: &Proved<'_>) -> String {
        let Proved { entry, user, stamp } = proved;
        format!("choose {:016x} {:016x} {stamp:016x} {user}", self.run, entry.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;
    use std::sync::Barrier;

    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
    const ALICE: Proved<'_> = Proved { entry: EntryId(1), user: "alice", stamp: 7 };

    fn forms() -> FormTokens {
        FormTokens::new(&[Secret::new([1; 32])])
    }

    #[test]
    fn a_proof_is_for_one_browser_way_user_and_credential_and_five_minutes() {
        let (forms, proofs) = (forms(), Proofs::new().expect("random bytes"));
        let (browser, _) = forms.new_browser().expect("random bytes");
        let (other, _) = forms.new_browser().expect("random bytes");
        let proof = proofs.issue(&forms, &browser, &ALICE, NOON);
        let end = NOON.plus(VALID_FOR);
        for (browser, proved, now, good) in [
            (&browser, ALICE, NOON, true),
            (&browser, ALICE, end.minus(Duration::from_millis(1)), true),
            (&browser, ALICE, end, false),
            (&other, ALICE, NOON, false),
            (&browser, Proved { entry: EntryId(2), ..ALICE }, NOON, false),
            (&browser, Proved { user: "bob", ..ALICE }, NOON, false),
            (&browser, Proved { stamp: 8, ..ALICE }, NOON, false),
        ] {
            assert_eq!(proofs.is_good(&forms, &proof, browser, &proved, now), good, "{proved:?} {now}");
        }
        let login = forms.issue(&browser, "login", NOON);
        assert!(!proofs.is_good(&forms, &login, &browser, &ALICE, NOON), "another form's token is no proof");
        assert!(!forms.check(&proof, &browser, "login", NOON), "nor is a proof another form's token");
    }

    #[test]
    fn a_proof_is_used_once() {
        let (forms, proofs) = (forms(), Proofs::new().expect("random bytes"));
        let (browser, _) = forms.new_browser().expect("random bytes");
        let proof = proofs.issue(&forms, &browser, &ALICE, NOON);
        assert!(proofs.spend(&proof));
        assert!(!proofs.is_good(&forms, &proof, &browser, &ALICE, NOON));
        assert!(!proofs.spend(&proof));
        let next = proofs.issue(&forms, &browser, &ALICE, NOON.plus(Duration::from_millis(1)));
        assert!(proofs.is_good(&forms, &next, &browser, &ALICE, NOON.plus(Duration::from_millis(1))));
    }

    #[test]
    fn of_many_at_once_one_uses_a_proof() {
        let (proofs, start) = (Proofs::new().expect("random bytes"), Barrier::new(2));
        for round in 0..10_000 {
            let proof = format!("proof {round}");
            let spend = || {
                start.wait();
                proofs.spend(&proof)
            };
            let used = std::thread::scope(|scope| {
                let other = scope.spawn(spend);
                [spend(), other.join().expect("no panic")]
            });
            assert_ne!(used[0], used[1], "round {round}");
        }
    }

    #[test]
    fn a_proof_of_another_process_is_none() {
        let forms = forms();
        let (browser, _) = forms.new_browser().expect("random bytes");
        let proof = Proofs::new().expect("random bytes").issue(&forms, &browser, &ALICE, NOON);
        let restarted = Proofs::new().expect("random bytes");
        assert!(!restarted.is_good(&forms, &proof, &browser, &ALICE, NOON));
    }
}
