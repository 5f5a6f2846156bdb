//! When the WAL is moved into the database: beside the turns, not in their commits.
//!
//! SQLite's own way, after each commit that leaves a thousand pages in the WAL, takes a third of
//! the daemon's time under load. So a reader's connection moves them while turns go on, and only
//! the rest is moved between two turns: the WAL begins anew where nothing of it is left to move.
//!
//! Invariant: while others write the WAL stays below those thousand pages, since each of their
//! commits that finds more moves them itself, and waits for it.

use crate::daemon::books::Context;
use crate::store::Wal;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Pages (of 4 KiB) after which they are moved beside the turns.
const BESIDE: i64 = 2_000;
/// Pages after which a turn moves the rest, so that the WAL begins anew: below the size to which
/// the file is cut back, since to write it over is cheaper than to let it grow.
const ANEW: i64 = 8_000;
/// The same while others write.
const ANEW_WITH_OTHERS: i64 = 900;

/// What is moved, and when.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    wal: Wal,
    running: Option<JoinHandle<()>>,
    /// Pages at which a turn last tried to move the rest: somebody may still read them.
    tried_at: i64,
}

impl Checkpoints {
    /// A turn has looked.
    pub(super) fn note(&mut self, wal: Wal) {
        if wal.pages < self.wal.pages {
            self.tried_at = 0;
        }
        self.wal = wal;
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.running = None;
        }
    }

    /// Whether the next turn is to move what is left.
    pub(super) fn is_due(&mut self, others_write: bool) -> bool {
        let anew = if others_write { ANEW_WITH_OTHERS } else { ANEW };
        let due = self.running.is_none() && self.wal.pages >= self.tried_at + anew;
        if due {
            self.tried_at = self.wal.pages;
        }
        due
    }

    /// Begins to move pages beside the turns, if it is worth it.
    pub(super) fn begin(&mut self, context: &Arc<Context>) {
        if self.running.is_some() || self.wal.unmoved < BESIDE {
            return;
        }
        let context = Arc::clone(context);
        self.running = Some(tokio::spawn(async move {
            if let Err(error) = context.store.checkpoint_beside().await {
                tracing::debug!(%error, "no checkpoint this time");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pages: i64) -> Wal {
        Wal { pages, unmoved: pages }
    }

    #[test]
    fn the_rest_is_moved_when_the_wal_is_long() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.note(of(ANEW - 1));
        assert!(!checkpoints.is_due(false));
        checkpoints.note(of(ANEW));
        assert!(checkpoints.is_due(false));
        assert!(!checkpoints.is_due(false), "once");
    }

    #[test]
    fn while_others_write_it_stays_below_what_their_commits_would_move() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.note(of(ANEW_WITH_OTHERS));
        assert!(!checkpoints.is_due(false));
        assert!(checkpoints.is_due(true));
    }

    #[test]
    fn a_reader_that_keeps_the_wal_is_not_met_at_every_turn() {
        let mut checkpoints = Checkpoints::default();
        let mut tries = 0;
        for pages in 0..10 * ANEW {
            checkpoints.note(of(pages));
            tries += i64::from(checkpoints.is_due(false));
        }
        assert_eq!(tries, 9, "the WAL grew by so much again");
        checkpoints.note(of(5));
        checkpoints.note(of(ANEW));
        assert!(checkpoints.is_due(false), "it has begun anew");
    }
}
