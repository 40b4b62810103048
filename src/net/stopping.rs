//! Whether nobody is to wait for another request.

use pingora::server::ShutdownWatch;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Ready once a watch has turned true, and from then on.
///
/// It is asked at each request of a connection, and nearly always by the same task: then one look at the watch is the answer, for
/// whoever waits is known to it already.
pub struct Stopping {
    watch: ShutdownWatch,
    /// Waits, from the first question on, in the watch's list.
    turned: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whom `turned` wakes.
    known: Option<Waker>,
}

impl Stopping {
    /// Asks this watch.
    pub fn new(watch: &ShutdownWatch) -> Self {
        let mut waiting = watch.clone();
        let turned = async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = waiting.wait_for(|stopped| *stopped).await;
        };
        Self { watch: watch.clone(), turned: Box::pin(turned), known: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if *self.watch.borrow() {
            return Poll::Ready(());
        }
        if self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let polled = self.turned.as_mut().poll(cx);
        if polled.is_pending() {
            self.known = Some(cx.waker().clone());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use tokio::sync::watch;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn whoever_asked_last_is_woken() {
        let (sender, watch) = watch::channel(false);
        let mut stopping = Stopping::new(&watch);
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        for waker in &woken {
            let waker = Waker::from(waker.clone());
            for _ in 0..3 {
                assert!(stopping.poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        sender.send(true).expect("it is watched");
        assert_eq!(woken.each_ref().map(|woken| woken.0.load(Ordering::SeqCst)), [0, 1]);
        for _ in 0..2 {
            assert!(stopping.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }

    #[test]
    fn a_stop_while_nobody_waits_is_seen_and_so_is_the_end_of_its_sender() {
        let (sender, watch) = watch::channel(false);
        let mut told = Stopping::new(&watch);
        let mut left = Stopping::new(&watch::channel(false).1);
        assert!(told.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        sender.send(true).expect("it is watched");
        assert!(told.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(left.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
