//! Whether somebody else has committed: a cheap question, asked again until the answer changes.
//!
//! A write to the WAL is seen before its commit can be: with `synchronous=FULL` by the time of an
//! fsync. So one look after it is not enough. (Measured: with looks after 0, 1, 1, 2, 4 and 8 ms a
//! commit is seen after 1.3 ms, 1.5 ms at the 99th percentile; by the event alone not at all.)
//!
//! Invariant: what the daemon writes itself does not move the version, and asks for nothing.

use crate::daemon::books::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Milliseconds before each look after a write.
const LOOKS: [u64; 6] = [0, 1, 1, 2, 4, 8];

/// Looks that are still to come.
#[derive(Debug, Default)]
pub(super) struct Peek {
    /// Which comes next, and when.
    next: Option<(usize, Instant)>,
    asking: Option<JoinHandle<Option<i64>>>,
}

impl Peek {
    /// Somebody wrote, perhaps the daemon itself: looks from now on.
    pub(super) fn begin(&mut self) {
        self.next = Some((0, Instant::now()));
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.filter(|_| self.asking.is_none()).map(|(_, at)| at)
    }

    /// Looks, if it is time.
    pub(super) fn ask(&mut self, context: &Arc<Context>) {
        if self.due().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let context = Arc::clone(context);
        self.asking = Some(tokio::spawn(async move { context.store.data_version().await.ok() }));
    }

    /// The version that was seen; never, while nobody asks.
    pub(super) async fn answer(&mut self) -> Option<i64> {
        match &mut self.asking {
            None => std::future::pending().await,
            Some(asking) => {
                let version = asking.await.ok().flatten();
                self.asking = None;
                version
            }
        }
    }

    /// It has not moved: looks again, but not for ever.
    pub(super) fn again(&mut self) {
        self.next = self.next.and_then(|(step, _)| {
            let step = step + 1;
            LOOKS.get(step).map(|wait| (step, Instant::now() + Duration::from_millis(*wait)))
        });
    }

    /// It has moved.
    pub(super) fn end(&mut self) {
        self.next = None;
    }
}
