//! Rings for one waiter, and remembers having rung. Knows no runtime: whoever drives the rules may
//! wait for it as a future, or look.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use atomic_waker::AtomicWaker;

/// A bell; a clone is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    has_rung: AtomicBool,
    waiter: AtomicWaker,
}

impl Bell {
    /// Rings; once more before anybody listened is the same.
    pub(crate) fn ring(&self) {
        self.0.has_rung.store(true, Ordering::Release);
        self.0.waiter.wake();
    }

    /// Whether it has rung since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.0.has_rung.swap(false, Ordering::AcqRel)
    }

    /// Waits until it rings, unless it has. One waiter; cancel safe.
    pub(crate) async fn rung(&self) {
        poll_fn(|context| {
            if self.take() {
                return Poll::Ready(());
            }
            self.0.waiter.register(context.waker());
            // It may have rung before the waiter was known.
            if self.take() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_one_ring() {
        let bell = Bell::default();
        assert!(!bell.take());
        bell.ring();
        bell.clone().ring();
        assert!(bell.take());
        assert!(!bell.take());
    }

    #[tokio::test]
    async fn who_waits_hears_it_whether_it_rings_before_or_after() {
        let bell = Bell::default();
        bell.ring();
        bell.rung().await;
        let waiter = tokio::spawn({
            let bell = bell.clone();
            async move { bell.rung().await }
        });
        tokio::task::yield_now().await;
        bell.ring();
        waiter.await.unwrap();
        assert!(!bell.take());
    }
}
