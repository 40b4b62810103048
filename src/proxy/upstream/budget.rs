//! How many requests of an upstream may be sent a second time: so few that retries do not multiply an outage.

use std::sync::atomic::{AtomicU32, Ordering};

/// What one retry takes.
const RETRY: u32 = 5;
/// What an answered request gives: a fifth of a retry.
const ANSWER: u32 = 1;
/// What can be saved up: ten retries.
const MAX: u32 = 10 * RETRY;

/// A purse that answered requests fill and retries empty. Full at the start; kept over reloads.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(MAX))
    }
}

impl Budget {
    /// A request was answered. Costs a load while the purse is full.
    pub(super) fn answered(&self) {
        if self.0.load(Ordering::Relaxed) < MAX {
            self.0.fetch_add(ANSWER, Ordering::Relaxed);
        }
    }

    /// Pays for a retry, if there is enough.
    pub(super) fn take(&self) -> bool {
        let paid = |left: u32| left.checked_sub(RETRY);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_retries_then_one_for_five_answers() {
        let budget = Budget::default();
        budget.answered();
        assert_eq!((0..20).filter(|_| budget.take()).count(), 10);
        for answers in 1..=10 {
            budget.answered();
            assert_eq!(budget.take(), answers % 5 == 0, "after {answers} answers");
        }
    }
}
