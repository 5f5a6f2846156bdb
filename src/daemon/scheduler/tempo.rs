//! When the next turn comes, and how much is in it: writes are short, with gaps between them.

use super::Scheduler;
use crate::daemon::executor::Finished;
use crate::daemon::turn::Done;
use std::time::Duration;
use tokio::time::Instant;

/// Between two turns while other writers come, so that they get in: eight that insert row by row
/// wait 19 ms at the 99th percentile with 5 ms, 55 ms with 1 ms, 235 ms without a gap. The first of
/// them finds the lock free while a turn looks and plans, which is a third of its time.
const GAP: Duration = Duration::from_millis(5);
/// Other writers are expected for so long after one has come.
const OTHERS_FOR: Duration = Duration::from_secs(1);
/// Calls settled in one turn, so that a write stays short …
const SETTLED_MAX: usize = 256;
/// … also when answers are long; a single one may be longer.
const SETTLED_BYTES_MAX: usize = 4 << 20;
/// After a turn that failed.
const GAP_IN_TROUBLE: Duration = Duration::from_millis(250);

impl Scheduler {
    /// How long other writers have the database for themselves after a turn.
    pub(super) fn gap(&mut self, done: &Done) -> Duration {
        let now = Instant::now();
        if done.others_write {
            self.others_until = now + OTHERS_FOR;
        }
        match () {
            () if done.trouble.is_some() => GAP_IN_TROUBLE,
            () if now < self.others_until => GAP,
            () => Duration::ZERO,
        }
    }

    /// Calls that are settled together, in the order in which they ended.
    pub(super) fn next_group(&mut self) -> Vec<Finished> {
        if self.trouble.is_some() {
            // Should it fail again, all of them are to be spooled.
            return std::mem::take(&mut self.finished);
        }
        let mut bytes = 0;
        let fits = self.finished.iter().take(SETTLED_MAX).take_while(|one| {
            bytes += one.reply.answer_bytes();
            bytes <= SETTLED_BYTES_MAX
        });
        let count = fits.count().max(1).min(self.finished.len());
        self.finished.drain(..count).collect()
    }
}
