//! The worker that checks passwords: one thread of its own, so that a storm of sign-ins never stalls a request.
//!
//! Who waits, waits in a bounded queue with two lanes. Known devices come first, each subject with one place; strangers
//! come in turn, each client network with one place. After four known devices a stranger has a turn, so
//! neither lane can starve the other. A job whose asker has gone away is dropped before it is computed.

use crate::auth::hash::Hash;
use crate::domain::secret::Secret;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::hash::Hash as HashKey;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Places in each lane. With the recommended cost the last one waits about two seconds.
const PLACES: usize = 64;
/// So many known devices are served before a waiting stranger has a turn.
const KNOWN_IN_A_ROW: u32 = 4;

/// Whose turn a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A browser that has signed in before; the key is its subject's.
    Known {
        /// A fingerprint of source and subject: one place each.
        subject: u64,
        /// Where it waits when its subject's place is taken.
        network: u64,
    },
    /// Anybody else; the key is the client network's.
    Stranger {
        /// A fingerprint of the client's network: one place each.
        network: u64,
    },
}

/// The queue is full, or this client's place in it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many sign-ins at once; try again in a moment")]
pub struct Busy;

/// Hands passwords to the worker. Dropping the last one ends the thread after the job it is at.
pub struct Hasher {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    computed: AtomicU64,
}

struct Queue {
    lanes: Lanes<Job>,
    closed: bool,
}

struct Job {
    hash: Arc<Hash>,
    password: Secret<String>,
    answer: oneshot::Sender<bool>,
    started: Arc<AtomicBool>,
}

/// A place in the queue. Dropping it gives the job up, if it has not begun.
pub struct Turn {
    answered: oneshot::Receiver<bool>,
    started: Arc<AtomicBool>,
}

impl Turn {
    /// Whether the password had the hash.
    ///
    /// # Errors
    ///
    /// [`Busy`]: the worker is shutting down.
    pub async fn answer(&mut self) -> Result<bool, Busy> {
        (&mut self.answered).await.map_err(|_| Busy)
    }

    /// Whether the computation has begun, and so has cost something.
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }
}

impl Hasher {
    /// Starts the worker.
    ///
    /// # Errors
    ///
    /// The operating system gave no thread.
    pub fn start() -> std::io::Result<Self> {
        let hasher = Self::idle();
        let shared = Arc::clone(&hasher.shared);
        std::thread::Builder::new().name("password-hashing".into()).spawn(move || work(&shared))?;
        Ok(hasher)
    }

    /// A queue that nobody serves.
    pub(super) fn idle() -> Self {
        let queue = Mutex::new(Queue { lanes: Lanes::new(PLACES), closed: false });
        Self { shared: Arc::new(Shared { queue, arrived: Condvar::new(), computed: AtomicU64::new(0) }) }
    }

    /// Takes a place in the queue; then the worker computes whether `password` has `hash`.
    ///
    /// # Errors
    ///
    /// [`Busy`]: no place is free.
    pub fn queue(&self, lane: Lane, hash: Arc<Hash>, password: Secret<String>) -> Result<Turn, Busy> {
        let (answer, answered) = oneshot::channel();
        let started = Arc::new(AtomicBool::new(false));
        let job = Job { hash, password, answer, started: Arc::clone(&started) };
        self.shared.queue.lock().lanes.push(lane, job)?;
        self.shared.arrived.notify_one();
        Ok(Turn { answered, started })
    }

    /// Does one job of a queue that nobody serves.
    #[cfg(test)]
    pub(super) fn serve_one(&self) {
        let job = self.shared.queue.lock().lanes.pop().expect("a job waits");
        compute(&self.shared, job);
    }

    /// How many hashes were computed since the start.
    pub fn computed(&self) -> u64 {
        self.shared.computed.load(Ordering::Relaxed)
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.shared.queue.lock().lanes.len()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queue = shared.queue.lock();
            loop {
                if queue.closed {
                    return;
                }
                if let Some(job) = queue.lanes.pop() {
                    break job;
                }
                shared.arrived.wait(&mut queue);
            }
        };
        compute(shared, job);
    }
}

fn compute(shared: &Shared, job: Job) {
    if job.answer.is_closed() {
        return;
    }
    job.started.store(true, Ordering::Release);
    shared.computed.fetch_add(1, Ordering::Relaxed);
    // A panic would leave everybody waiting for ever; a dropped answer is one failed sign-in.
    if let Ok(matches) = catch_unwind(AssertUnwindSafe(|| job.hash.matches(&job.password))) {
        // The asker may have gone meanwhile; then nobody wants to know.
        let _ = job.answer.send(matches);
    }
}

/// Both lanes: pure, so that who comes when can be told without a thread.
struct Lanes<T> {
    known: Turns<T>,
    strangers: Turns<T>,
    known_in_a_row: u32,
}

impl<T> Lanes<T> {
    fn new(places: usize) -> Self {
        Self { known: Turns::new(places), strangers: Turns::new(places), known_in_a_row: 0 }
    }

    fn push(&mut self, lane: Lane, job: T) -> Result<(), Busy> {
        match lane {
            // A subject's place may be taken by a thief of its cookie; then its owner waits as a stranger would.
            Lane::Known { subject, network } => match self.known.push(subject, job) {
                Ok(()) => Ok(()),
                Err(job) => self.strangers.push(network, job).map_err(|_| Busy),
            },
            Lane::Stranger { network } => self.strangers.push(network, job).map_err(|_| Busy),
        }
    }

    fn pop(&mut self) -> Option<T> {
        let strangers_turn = self.known_in_a_row >= KNOWN_IN_A_ROW && self.strangers.len() > 0;
        if !strangers_turn && let Some(job) = self.known.pop() {
            self.known_in_a_row = self.known_in_a_row.saturating_add(1);
            return Some(job);
        }
        self.known_in_a_row = 0;
        self.strangers.pop()
    }

    fn len(&self) -> usize {
        self.known.len() + self.strangers.len()
    }
}

/// First come, first served, one place for each key.
struct Turns<T> {
    waiting: VecDeque<(u64, T)>,
    keys: HashSet<u64>,
    places: usize,
}

impl<T> Turns<T> {
    fn new(places: usize) -> Self {
        Self { waiting: VecDeque::with_capacity(places), keys: HashSet::with_capacity(places), places }
    }

    /// Gives the job back if there is no place for it.
    fn push(&mut self, key: u64, job: T) -> Result<(), T> {
        if self.waiting.len() >= self.places || !self.keys.insert(key) {
            return Err(job);
        }
        self.waiting.push_back((key, job));
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        let (key, job) = self.waiting.pop_front()?;
        self.keys.remove(&key);
        Some(job)
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// A number for a key of any shape, different in each process: the lanes and throttles hold no names.
pub(super) fn fingerprint(keys: &std::hash::RandomState, of: impl HashKey) -> u64 {
    std::hash::BuildHasher::hash_one(keys, of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::hash::Cost;

    fn known(subject: u64) -> Lane {
        Lane::Known { subject, network: 1000 + subject }
    }

    fn stranger(network: u64) -> Lane {
        Lane::Stranger { network }
    }

    fn drain(lanes: &mut Lanes<u64>) -> Vec<u64> {
        std::iter::from_fn(|| lanes.pop()).collect()
    }

    #[test]
    fn a_network_has_one_place_among_the_strangers() {
        let mut lanes = Lanes::new(8);
        assert_eq!(lanes.push(stranger(1), 1), Ok(()));
        assert_eq!(lanes.push(stranger(1), 2), Err(Busy));
        assert_eq!(lanes.push(stranger(2), 3), Ok(()));
        assert_eq!(drain(&mut lanes), [1, 3]);
        assert_eq!(lanes.push(stranger(1), 4), Ok(()), "served, so the place is free again");
    }

    #[test]
    fn a_known_device_passes_a_full_lane_of_strangers() {
        let mut lanes = Lanes::new(3);
        for network in 0..3 {
            lanes.push(stranger(network), network).expect("a place is free");
        }
        assert_eq!(lanes.push(stranger(3), 3), Err(Busy), "the lane is full");
        assert_eq!(lanes.push(known(9), 9), Ok(()));
        assert_eq!(drain(&mut lanes), [9, 0, 1, 2]);
    }

    #[test]
    fn a_stranger_has_a_turn_after_four_known_devices() {
        let mut lanes = Lanes::new(8);
        lanes.push(stranger(0), 0).expect("a place is free");
        for subject in 1..=6 {
            lanes.push(known(subject), subject).expect("a place is free");
        }
        assert_eq!(drain(&mut lanes), [1, 2, 3, 4, 0, 5, 6]);
    }

    #[test]
    fn a_second_known_device_of_a_subject_waits_among_the_strangers() {
        let mut lanes = Lanes::new(8);
        lanes.push(known(1), 1).expect("a place is free");
        lanes.push(known(1), 2).expect("the network's place is free");
        assert_eq!(lanes.push(known(1), 3), Err(Busy));
        lanes.push(known(2), 4).expect("a place is free");
        assert_eq!(drain(&mut lanes), [1, 4, 2]);
    }

    fn quick() -> Arc<Hash> {
        Arc::new(Hash::stand_in(Cost::Argon2id { memory_kib: 8, passes: 1, lanes: 1, output: 32 }))
    }

    fn password() -> Secret<String> {
        Secret::new("pass".into())
    }

    #[tokio::test]
    async fn the_worker_answers_and_counts() {
        let hasher = Hasher::start().expect("a thread starts");
        for lane in [stranger(1), known(1)] {
            let mut turn = hasher.queue(lane, quick(), password()).expect("a place is free");
            assert_eq!(turn.answer().await, Ok(false));
            assert!(turn.has_started());
        }
        assert_eq!((hasher.computed(), hasher.waiting()), (2, 0));
    }

    #[test]
    fn beyond_its_places_the_queue_says_busy_at_once() {
        let hasher = Hasher::idle();
        let queue = |network: usize| hasher.queue(stranger(network as u64), quick(), password());
        let turns: Vec<Turn> = (0..PLACES).map(|network| queue(network).expect("a place is free")).collect();
        assert_eq!(queue(PLACES).err(), Some(Busy));
        assert_eq!(hasher.waiting(), turns.len());
    }

    #[test]
    fn a_job_whose_asker_left_is_not_computed() {
        let hasher = Hasher::idle();
        drop(hasher.queue(stranger(1), quick(), password()).expect("a place is free"));
        hasher.serve_one();
        assert_eq!(hasher.computed(), 0);
    }

    #[tokio::test]
    async fn the_worker_ends_with_its_hasher() {
        let hasher = Hasher::start().expect("a thread starts");
        let shared = Arc::downgrade(&hasher.shared);
        let mut turn = hasher.queue(stranger(1), quick(), password()).expect("a place is free");
        turn.answer().await.expect("an answer");
        drop(hasher);
        // The thread holds the last reference until it has seen the end.
        while shared.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
