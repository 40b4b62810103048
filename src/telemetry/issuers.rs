//! Counters and gauges of what is asked of issuers. Their labels are names of the file's `tokens`, and words of this code.

use super::metrics::{floats, labelled_gauges, several};
use parking_lot::Mutex;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::time::Duration;

/// What came of a fetch of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum FetchResult {
    /// Other keys than before.
    New,
    /// The same.
    Unchanged,
    /// None.
    Failed,
}

const FETCHES: [(FetchResult, &str); 3] =
    [(FetchResult::New, "new"), (FetchResult::Unchanged, "unchanged"), (FetchResult::Failed, "failed")];

/// What came of a question about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum AskResult {
    /// It is believed.
    Believed,
    /// It is not.
    Refused,
    /// There was no answer that could be used.
    Failed,
    /// Too many questions waited already.
    Busy,
}

const ASKS: [(AskResult, &str); 4] = [
    (AskResult::Believed, "believed"),
    (AskResult::Refused, "refused"),
    (AskResult::Failed, "failed"),
    (AskResult::Busy, "busy"),
];

/// What is counted of an entry's published keys.
#[derive(Clone, Debug)]
pub struct KeySeries {
    held: IntGauge,
    age: Gauge,
    fetches: [IntCounter; FETCHES.len()],
    forced: IntCounter,
}

impl KeySeries {
    /// So many keys can be used.
    pub fn holds(&self, keys: usize) {
        self.held.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// So long ago the issuer said that they are good; none: there are none.
    pub fn is_old(&self, age: Option<Duration>) {
        self.age.set(age.unwrap_or_default().as_secs_f64());
    }

    /// Counts a fetch.
    pub fn fetched(&self, result: FetchResult) {
        self.fetches[result as usize].inc();
    }

    /// Counts a fetch out of turn, for a key that is not known.
    pub fn forced(&self) {
        self.forced.inc();
    }
}

/// What is counted of an entry that asks about single tokens.
#[derive(Clone, Debug)]
pub struct AskSeries {
    asked: [IntCounter; ASKS.len()],
}

impl AskSeries {
    /// Counts a question.
    pub fn asked(&self, result: AskResult) {
        self.asked[result as usize].inc();
    }
}

/// The series of all entries.
pub(super) struct Issuers {
    held: IntGaugeVec,
    age: GaugeVec,
    fetches: IntCounterVec,
    forced: IntCounterVec,
    asked: IntCounterVec,
    /// Names of entries whose series exist.
    known: Mutex<Vec<String>>,
}

impl Issuers {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            held: labelled_gauges(
                registry,
                "token_keys",
                "Published keys that can be used; 0: none came yet, or the last are too old",
                &["entry"],
            ),
            age: floats(
                registry,
                "token_keys_age_seconds",
                "Since the issuer last said that the published keys are good; 0 where there are none",
                &["entry"],
            ),
            fetches: several(
                registry,
                "token_keys_fetches_total",
                "Fetches of published keys, by what came of them",
                &["entry", "result"],
            ),
            forced: several(
                registry,
                "token_keys_forced_fetches_total",
                "Fetches out of turn, because a token named an unknown key",
                &["entry"],
            ),
            asked: several(
                registry,
                "introspections_total",
                "Questions about tokens, by what came of them",
                &["entry", "result"],
            ),
            known: Mutex::default(),
        }
    }

    /// Forgets the series of entries that are not among these.
    pub(super) fn keep(&self, names: &[&str]) {
        let mut known = self.known.lock();
        for gone in known.iter().filter(|name| !names.contains(&name.as_str())) {
            // Each fails where the series was never made.
            drop(self.held.remove_label_values(&[gone]));
            drop(self.age.remove_label_values(&[gone]));
            drop(self.forced.remove_label_values(&[gone]));
            for (_, result) in FETCHES {
                drop(self.fetches.remove_label_values(&[gone, result]));
            }
            for (_, result) in ASKS {
                drop(self.asked.remove_label_values(&[gone, result]));
            }
        }
        *known = names.iter().map(|name| (*name).to_owned()).collect();
    }

    pub(super) fn keys(&self, entry: &str) -> KeySeries {
        KeySeries {
            held: self.held.with_label_values(&[entry]),
            age: self.age.with_label_values(&[entry]),
            fetches: FETCHES.map(|(_, result)| self.fetches.with_label_values(&[entry, result])),
            forced: self.forced.with_label_values(&[entry]),
        }
    }

    pub(super) fn asks(&self, entry: &str) -> AskSeries {
        AskSeries { asked: ASKS.map(|(_, result)| self.asked.with_label_values(&[entry, result])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn every_result_stands_at_its_own_place() {
        for (place, (result, _)) in FETCHES.iter().enumerate() {
            assert_eq!(*result as usize, place, "{result:?}");
        }
        for (place, (result, _)) in ASKS.iter().enumerate() {
            assert_eq!(*result as usize, place, "{result:?}");
        }
    }

    #[test]
    fn entries_that_are_gone_are_forgotten_and_the_others_keep_their_counts() {
        let metrics = Metrics::new();
        metrics.keep_issuers(&["api", "old"]);
        metrics.key_series("api").fetched(FetchResult::New);
        metrics.ask_series("old").asked(AskResult::Busy);
        metrics.key_series("old").holds(3);
        metrics.keep_issuers(&["api"]);
        metrics.key_series("api").fetched(FetchResult::New);
        let text = metrics.render();
        assert!(
            text.contains("vestibule_token_keys_fetches_total{entry=\"api\",result=\"new\"} 2"),
            "{text}"
        );
        assert!(!text.contains("entry=\"old\""), "{text}");
    }
}
