//! Whether somebody else has committed: a cheap question, asked again until the answer changes.
//!
//! A write to the WAL is seen before its commit can be: with `synchronous=FULL` by the time of an
//! fsync. So one look after it is not enough, and by the event alone it is never seen.
//!
//! Invariant: what the daemon writes itself does not move the version, and asks for nothing.

use crate::daemon::books::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Microseconds before each look after a write: an fsync takes from a tenth of a millisecond to ten.
const LOOKS: [u64; 10] = [0, 200, 200, 300, 300, 500, 500, 2_000, 4_000, 8_000];
/// The runtime's timers are late by up to two milliseconds; below this a thread sleeps.
const TIMER: Duration = Duration::from_millis(2);

/// Looks that are still to come.
#[derive(Debug, Default)]
pub(super) struct Peek {
    /// Which comes next.
    next: Option<usize>,
    asking: Option<JoinHandle<Option<i64>>>,
    /// Ends the wait before a look.
    hurry: Arc<Notify>,
}

impl Peek {
    /// Somebody wrote, perhaps the daemon itself: looks from now on.
    pub(super) fn begin(&mut self) {
        self.next = Some(0);
        if self.asking.is_some() {
            self.hurry.notify_one();
        }
    }

    /// One look, unless more are on their way.
    pub(super) fn once(&mut self) {
        self.next.get_or_insert(LOOKS.len() - 1);
    }

    /// Looks when it is time, if it is to.
    pub(super) fn ask(&mut self, context: &Arc<Context>) {
        let Some(wait) =
            self.next.and_then(|step| LOOKS.get(step)).filter(|_| self.asking.is_none())
        else {
            return;
        };
        let wait = Duration::from_micros(*wait);
        let (context, hurry) = (Arc::clone(context), Arc::clone(&self.hurry));
        self.asking = Some(tokio::spawn(async move {
            tokio::select! {
                () = pause(wait) => {}
                () = hurry.notified() => {}
            }
            context.store.data_version().await.ok()
        }));
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
        self.next = self.next.map(|step| step + 1).filter(|step| *step < LOOKS.len());
    }

    /// It has moved.
    pub(super) fn end(&mut self) {
        self.next = None;
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing can be waited for that would be finer")]
async fn pause(wait: Duration) {
    if wait.is_zero() {
        return;
    }
    if wait >= TIMER {
        return tokio::time::sleep(wait).await;
    }
    // Should the runtime end meanwhile, nobody waits for the answer either.
    let _ = tokio::task::spawn_blocking(move || std::thread::sleep(wait)).await;
}
