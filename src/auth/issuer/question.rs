//! What somebody else must answer before a request can be decided.

use std::time::Duration;
use tokio::sync::watch;

/// A question under way. However many wait, it is asked once.
#[derive(Clone, Debug)]
pub struct Question {
    answered: watch::Receiver<()>,
    wait_max: Duration,
}

/// The other end of a [`Question`], for whoever asks it. Dropping it says that the answer is there, or that none will come.
#[derive(Debug)]
pub struct Asked {
    _dropped: watch::Sender<()>,
}

impl Question {
    /// A question for which nobody waits longer than `wait_max`.
    pub fn new(wait_max: Duration) -> (Asked, Self) {
        let (sender, answered) = watch::channel(());
        (Asked { _dropped: sender }, Self { answered, wait_max })
    }

    /// Waits until it is answered; what came of it shows when the request is decided again. Or long enough: then it is `false`.
    pub async fn answered(mut self) -> bool {
        // Nothing is ever sent: an end of the waiting means that the other end is gone.
        tokio::time::timeout(self.wait_max, self.answered.changed()).await.is_ok()
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        self.answered.same_channel(&other.answered)
    }
}

impl Eq for Question {}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(future: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(future);
    }

    #[test]
    fn everybody_who_waits_hears_of_the_answer() {
        run(async {
            let (asked, question) = Question::new(Duration::from_mins(1));
            assert!(question == question.clone());
            let waiting = [question.clone(), question].map(|question| tokio::spawn(question.answered()));
            tokio::task::yield_now().await;
            assert!(waiting.iter().all(|one| !one.is_finished()));
            drop(asked);
            for one in waiting {
                assert!(one.await.expect("it ends"));
            }
        });
    }

    #[test]
    fn nobody_waits_longer_than_the_bound_and_an_answered_question_is_over() {
        run(async {
            let (asked, question) = Question::new(Duration::from_millis(1));
            assert!(!question.clone().answered().await);
            drop(asked);
            assert!(question.answered().await);
        });
    }
}
