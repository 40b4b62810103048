//! Sign-in with a name and a password against a users file.
//!
//! Every attempt walks the same way, whether or not the name exists: throttle, a place in the queue, one hash of the
//! same cost, one answer. Only fields that can be nobody's (empty, too long) are turned away before. A browser known
//! for the name takes the lane of known devices. The file may be read again at any time; who changed is told, and a
//! sign-in that was being computed meanwhile counts against the new file.

use crate::auth::SignInSettings;
use crate::auth::device::DeviceCookies;
use crate::auth::hash::Hash;
use crate::auth::hashing::{Hasher, Lane, Turn};
use crate::auth::proof::Proofs;
use crate::auth::throttle::{Attempt, Network, Throttle};
use crate::auth::users::{Change, User, Users, UsersProblem, is_plausible};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

/// What all password ways share for the life of the process: a reload forgets no count and starts no second worker.
pub struct PasswordDesk {
    /// The queue and its worker.
    pub hasher: Hasher,
    /// Who must wait.
    pub throttle: Throttle,
    /// Who had the right password and is to make room.
    pub proofs: Proofs,
}

impl PasswordDesk {
    /// Starts the worker.
    ///
    /// # Errors
    ///
    /// The operating system gave no thread or no random bytes.
    pub fn open() -> std::io::Result<Self> {
        let proofs = Proofs::new().map_err(std::io::Error::other)?;
        Ok(Self { hasher: Hasher::start()?, throttle: Throttle::new(), proofs })
    }
}

/// One way to sign in with a password.
pub struct PasswordWay {
    settings: SignInSettings,
    users: ArcSwap<Users>,
    desk: Arc<PasswordDesk>,
    devices: Arc<DeviceCookies>,
}

/// Why nobody was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such user, or not this password: it is not told which.
    #[error("name or password is wrong")]
    Wrong,
    /// Too many attempts; come again after this time (429 with `Retry-After`).
    #[error("too many attempts; try again in {} s", .0.as_secs().max(1))]
    Throttled(Duration),
    /// Too many sign-ins wait (503).
    #[error("too many sign-ins at once; try again in a moment")]
    Busy,
}

impl Refused {
    /// For the audit line and the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Wrong => "wrong_password",
            Self::Throttled(_) => "throttled",
            Self::Busy => "busy",
        }
    }
}

impl PasswordWay {
    /// A way over users that were read from the file that `settings` names.
    pub fn new(
        settings: SignInSettings,
        users: Users,
        desk: Arc<PasswordDesk>,
        devices: Arc<DeviceCookies>,
    ) -> Self {
        Self { settings, users: ArcSwap::from_pointee(users), desk, devices }
    }

    /// Its name, fingerprint and source.
    pub fn settings(&self) -> &SignInSettings {
        &self.settings
    }

    /// Proofs that a password was right, of all ways.
    pub fn proofs(&self) -> &Proofs {
        &self.desk.proofs
    }

    /// The users of now.
    pub fn users(&self) -> Arc<Users> {
        self.users.load_full()
    }

    /// Checks a name and a password; `device` is the value of the known-device cookie. The user is as the file had it at
    /// that moment: a session for it must not stand if it has changed since.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not. All but [`Refused::Wrong`] come at once.
    pub async fn sign_in(
        &self,
        user: &str,
        password: Secret<String>,
        network: Network,
        device: Option<&str>,
        now: Timestamp,
    ) -> Result<User, Refused> {
        if !is_plausible(user, &password) {
            return Err(Refused::Wrong);
        }
        let source = &self.settings.source;
        let device = device.and_then(|value| self.devices.opens_for(value, source, user, now));
        let attempt = self
            .desk
            .throttle
            .admit(source, user, network, device, now)
            .map_err(|early| Refused::Throttled(early.0))?;
        let hash = self.hash_of(user, attempt.subject());
        let lane = if attempt.is_known() {
            Lane::Known { subject: attempt.subject(), network: attempt.network() }
        } else {
            Lane::Stranger { network: attempt.network() }
        };
        let mut pending = Pending { throttle: &self.desk.throttle, attempt, turn: None };
        let turn = self.desk.hasher.queue(lane, Arc::clone(&hash), password).map_err(|_| Refused::Busy)?;
        let matches = pending.turn.insert(turn).answer().await.map_err(|_| Refused::Busy)?;
        // The file may have changed while the hash was computed: what stands there now decides.
        let users = self.users.load();
        let found = users.find(user).filter(|user| matches && *user.password() == hash);
        let found = found.cloned().ok_or(Refused::Wrong)?;
        self.desk.throttle.succeeded(&attempt, now);
        Ok(found)
    }

    /// Takes up a new text of the users file, and tells whose sessions it touches.
    ///
    /// # Errors
    ///
    /// Every problem of the text; then the old users stay.
    pub fn reload(&self, text: &str) -> Result<Vec<Change>, Vec<UsersProblem>> {
        let new = Arc::new(Users::parse(text, &self.settings.source)?);
        let old = self.users.swap(Arc::clone(&new));
        Ok(new.changed_since(&old))
    }

    fn hash_of(&self, user: &str, pick: u64) -> Arc<Hash> {
        let users = self.users.load();
        // The stand-in is made in either case: so little as an allocation shall not tell.
        let stand_in = Arc::new(users.stand_in(pick));
        users.find(user).map_or(stand_in, |user| Arc::clone(user.password()))
    }
}

/// An admitted attempt on its way. If it ends, by refusal or because the client left, before a hash was begun,
/// it is taken back: what stays counted has cost a hash, so nobody fills the throttle's caches for nothing.
struct Pending<'a> {
    throttle: &'a Throttle,
    attempt: Attempt,
    turn: Option<Turn>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.turn.as_ref().is_some_and(Turn::has_started) {
            self.throttle.take_back(&self.attempt);
        }
    }
}

/// Hashes a new password for a users file: Argon2id, m=19456, t=2, p=1.
///
/// # Errors
///
/// The system's random generator failed.
pub fn hash(password: &Secret<String>) -> Result<String, getrandom::Error> {
    Hash::of(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::SignInKind;
    use crate::auth::users::ChangeKind;
    use crate::domain::access::EntryId;
    use crate::domain::identity::Identity;
    use std::net::IpAddr;

    const ARGON: &str =
        "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$bnmgrs3A3xtycyObAnKOH5Kz1G9PWICfHVRHeXYZDJ4";
    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6";
    const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

    fn way(users: &str) -> PasswordWay {
        way_at(users, PasswordDesk::open().expect("a thread starts"))
    }

    /// Nobody computes until the test says so.
    fn unserved() -> PasswordWay {
        let desk = PasswordDesk { hasher: Hasher::idle(), ..PasswordDesk::open().expect("a thread starts") };
        way_at(&format!("alice: {{ password: '{ARGON}' }}"), desk)
    }

    fn poll<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> std::task::Poll<F::Output> {
        future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    fn way_at(users: &str, desk: PasswordDesk) -> PasswordWay {
        let settings = SignInSettings {
            name: "local".into(),
            id: EntryId(1),
            source: "local".into(),
            kind: SignInKind::Password { users: "users".into() },
        };
        let users = Users::parse(users, "local").expect("a good file");
        let desk = Arc::new(desk);
        let devices = Arc::new(DeviceCookies::new(&[Secret::new([1; 32])]));
        PasswordWay::new(settings, users, desk, devices)
    }

    fn alice() -> PasswordWay {
        way(&format!("alice: {{ password: '{ARGON}', groups: [ops] }}"))
    }

    fn network(n: u32) -> Network {
        Network::of(IpAddr::from((n << 8).to_be_bytes()))
    }

    async fn try_in(way: &PasswordWay, user: &str, password: &str, n: u32) -> Result<Identity, Refused> {
        way.sign_in(user, Secret::new(password.into()), network(n), None, NOON)
            .await
            .map(|user| user.identity().clone())
    }

    #[tokio::test]
    async fn the_right_password_gives_the_identity_of_the_file() {
        let way = alice();
        let identity = try_in(&way, "alice", "pass", 1).await.expect("the password is right");
        assert_eq!(Some(&identity), way.users().find("alice").map(super::super::users::User::identity));
        for (user, password) in [("alice", "Pass"), ("Alice", "pass"), ("bob", "pass"), ("alice ", "pass")] {
            assert_eq!(try_in(&way, user, password, 2).await, Err(Refused::Wrong), "{user} {password}");
        }
    }

    #[tokio::test]
    async fn an_unknown_name_costs_the_same_single_hash() {
        let way = way(&format!("alice: {{ password: '{BCRYPT}' }}"));
        for (user, password) in [("alice", "wrong"), ("nobody", "wrong"), ("alice", "pass")] {
            let before = way.desk.hasher.computed();
            let _ = try_in(&way, user, password, 1).await;
            assert_eq!(way.desk.hasher.computed() - before, 1, "{user} {password}");
        }
        let known = way.hash_of("alice", 5).cost();
        assert_eq!(way.hash_of("nobody", 5).cost(), known);
    }

    #[tokio::test]
    async fn unknown_names_are_throttled_like_known_ones() {
        let way = alice();
        for user in ["alice", "nobody"] {
            let mut answers = Vec::new();
            for _ in 0..7 {
                answers.push(try_in(&way, user, "wrong", 1).await.expect_err("it is wrong"));
            }
            let early = Refused::Throttled(Duration::from_secs(1));
            assert_eq!(answers[..5], [Refused::Wrong; 5], "{user}");
            assert_eq!(answers[5..], [early; 2], "{user}");
        }
    }

    #[tokio::test]
    async fn fields_that_are_nobodys_cost_nothing() {
        let way = alice();
        let long = "x".repeat(1025);
        for (user, password) in
            [("", "pass"), ("alice", ""), (&*"u".repeat(257), "pass"), ("alice", &*long), ("al\0ice", "pass")]
        {
            assert_eq!(try_in(&way, user, password, 1).await, Err(Refused::Wrong));
        }
        assert_eq!(way.desk.hasher.computed(), 0);
    }

    #[tokio::test]
    async fn attackers_cannot_lock_a_known_device_out() {
        let way = alice();
        let device = way.devices.seal("local", "alice", NOON).expect("it seals");
        for n in 0..40 {
            let _ = try_in(&way, "alice", "guess", n).await;
        }
        let stranger = try_in(&way, "alice", "pass", 999).await;
        assert!(matches!(stranger, Err(Refused::Throttled(_))), "{stranger:?}");
        let password = || Secret::new("pass".into());
        let owner = way.sign_in("alice", password(), network(999), Some(device.expose()), NOON).await;
        assert!(owner.is_ok(), "{owner:?}");
        let other = way.devices.seal("local", "bob", NOON).expect("it seals");
        let thief = way.sign_in("alice", password(), network(998), Some(other.expose()), NOON).await;
        assert!(
            matches!(thief, Err(Refused::Throttled(_))),
            "another subject's cookie opens no lane: {thief:?}"
        );
    }

    #[tokio::test]
    async fn a_network_whose_place_is_taken_is_told_busy_and_that_counts_for_nothing() {
        let way = unserved();
        let mut waiting = Box::pin(try_in(&way, "alice", "pass", 1));
        assert!(poll(&mut waiting).is_pending());
        for _ in 0..100 {
            assert_eq!(try_in(&way, "alice", "pass", 1).await, Err(Refused::Busy));
        }
        way.desk.hasher.serve_one();
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn an_attempt_whose_client_left_counts_once_it_has_cost_a_hash() {
        let way = unserved();
        for (computed, expected) in [(false, 0), (true, 5)] {
            let mut counted = 0;
            for _ in 0..10 {
                let mut leaving = Box::pin(try_in(&way, "alice", "guess", 1));
                if poll(&mut leaving).is_ready() {
                    break;
                }
                if computed {
                    way.desk.hasher.serve_one();
                    counted += 1;
                }
                drop(leaving);
                if !computed {
                    way.desk.hasher.serve_one();
                }
            }
            assert_eq!(counted, expected, "hash begun: {computed}");
        }
    }

    #[tokio::test]
    async fn a_password_that_was_changed_while_it_was_checked_opens_nothing() {
        let way = unserved();
        let mut waiting = Box::pin(try_in(&way, "alice", "pass", 1));
        assert!(poll(&mut waiting).is_pending());
        way.reload(&format!("alice: {{ password: '{BCRYPT}' }}")).expect("a good file");
        way.desk.hasher.serve_one();
        assert_eq!(waiting.await, Err(Refused::Wrong));
    }

    #[tokio::test]
    async fn a_reload_takes_effect_and_tells_who_changed() {
        let way = alice();
        let changes = way.reload(&format!("alice: {{ password: '{BCRYPT}' }}")).expect("a good file");
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].kind, ChangeKind::NewPassword);
        assert!(try_in(&way, "alice", "pass", 1).await.is_ok(), "the new hash is of the same password");
        assert!(way.reload("alice: nonsense").is_err());
        assert!(try_in(&way, "alice", "pass", 1).await.is_ok(), "a bad file changes nothing");
        way.reload("").expect("a good file");
        assert_eq!(try_in(&way, "alice", "pass", 1).await, Err(Refused::Wrong));
    }
}
