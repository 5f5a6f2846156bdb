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

/// Microseconds before each look after a write. An fsync takes from a tenth of a millisecond to
/// half a second on a slow disk: each look is late by no more than that commit itself took.
const LOOKS: [u64; 16] = [
    0, 200, 200, 300, 300, 500, 500, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000,
    512_000,
];
/// The same after a write of the daemon's own, since others may have written meanwhile: fewer, so
/// that an idle daemon sleeps.
const AFTER_OWN: [u64; 4] = [2_000, 10_000, 60_000, 400_000];
/// One look, at once.
const ONCE: [u64; 1] = [0];
/// The runtime's timers are late by up to two milliseconds; below this a thread sleeps.
const TIMER: Duration = Duration::from_millis(2);

/// Looks that are still to come.
#[derive(Debug, Default)]
pub(super) struct Peek {
    /// Waits before those that are still to come.
    next: &'static [u64],
    asking: Option<JoinHandle<Option<i64>>>,
    /// Ends the wait before a look.
    hurry: Arc<Notify>,
}

impl Peek {
    /// Somebody wrote: looks from now on.
    pub(super) fn begin(&mut self) {
        self.next = &LOOKS;
        if self.asking.is_some() {
            self.hurry.notify_one();
        }
    }

    /// Somebody wrote, most likely the daemon itself: looks, but less often.
    pub(super) fn begin_late(&mut self) {
        if self.next.is_empty() {
            self.next = &AFTER_OWN;
        }
    }

    /// One look, unless more are on their way.
    pub(super) fn once(&mut self) {
        if self.next.is_empty() {
            self.next = &ONCE;
        }
    }

    /// Looks when it is time, if it is to.
    pub(super) fn ask(&mut self, context: &Arc<Context>) {
        let Some(wait) = self.next.first().filter(|_| self.asking.is_none()) else { return };
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
        self.next = self.next.get(1..).unwrap_or_default();
    }

    /// It has moved.
    pub(super) fn end(&mut self) {
        self.next = &[];
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments of all looks after a write, in microseconds.
    fn moments() -> Vec<u64> {
        let mut peek = Peek::default();
        peek.begin();
        let (mut at, mut moments) = (0, Vec::new());
        while let Some(wait) = peek.next.first() {
            at += wait;
            moments.push(at);
            peek.again();
        }
        moments
    }

    #[test]
    fn a_commit_is_seen_soon_however_slow_the_disk() {
        let moments = moments();
        for fsync in (100..1_000_000).step_by(100) {
            let seen = moments.iter().find(|at| **at >= fsync);
            let seen = seen.unwrap_or_else(|| panic!("after {fsync} us nobody looks any more"));
            assert!(seen - fsync <= fsync.max(2_000), "{fsync} us: seen at {seen}");
        }
    }

    #[test]
    fn a_write_of_its_own_is_followed_by_few_looks_and_hides_nobody_elses() {
        let mut peek = Peek::default();
        peek.begin_late();
        assert_eq!(peek.next, AFTER_OWN);
        peek.begin();
        peek.begin_late();
        assert_eq!(peek.next, LOOKS, "what is on its way stays");
        peek.end();
        peek.once();
        assert_eq!(peek.next, ONCE);
        peek.again();
        assert!(peek.next.is_empty(), "one look");
    }
}
