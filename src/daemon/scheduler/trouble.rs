//! When the database cannot take what was paid for: spool it, try again, or end in order.

use super::Scheduler;
use crate::daemon::executor::Finished;
use crate::daemon::report::Phase;
use crate::daemon::writer::ending;
use crate::daemon::{DaemonError, chain};
use crate::store::{Ending, StoreError, Trouble};
use tokio::time::Instant;

impl Scheduler {
    /// The database could not take it: keep what was paid for, and say why.
    pub(super) fn in_trouble(
        &mut self,
        error: StoreError,
        unsettled: Vec<Finished>,
        rows: &[Ending],
    ) {
        self.look = true;
        self.spool(rows);
        let mut back = unsettled;
        back.append(&mut self.finished);
        self.finished = back;
        let message = self.describe(&error);
        if self.trouble.as_deref() != Some(&message) {
            tracing::warn!("{message}");
            self.trouble = Some(message);
        }
        match error.trouble() {
            Trouble::Busy => {}
            // Full disks are emptied again; settling is idempotent, so it is tried again. Leases of
            // the same commit did not happen for this process, and the next commit overwrites what
            // an I/O error may have left of them in the WAL; should it die before, recovery finds
            // them.
            Trouble::Unwritable if !rows.is_empty() => {}
            // Anything else may have been committed or not: only a restart finds out.
            _ => self.give_up(DaemonError::Store(error)),
        }
    }

    /// Puts results beside the database, each once.
    fn spool(&mut self, rows: &[Ending]) {
        let new: Vec<Ending> =
            rows.iter().filter(|row| !self.spooled.contains(&row.lease.attempt)).cloned().collect();
        if new.is_empty() {
            return;
        }
        match self.spool.append(&new) {
            Ok(()) => self.spooled.extend(new.iter().map(|row| row.lease.attempt)),
            Err(error) => tracing::error!(%error, "cannot spool results; they are in memory only"),
        }
    }

    /// Stops leasing and writing; the calls in flight may end, and their results are spooled.
    pub(super) fn give_up(&mut self, error: DaemonError) {
        tracing::error!("{}; stopping, results are kept beside the database", chain(&error));
        self.fatal.get_or_insert(error);
        self.phase = Phase::Draining;
        self.drain_until.get_or_insert(Instant::now() + self.config.shutdown_grace);
        self.salvage();
    }

    pub(super) fn salvage(&mut self) {
        let now = self.context.now();
        let retry = &self.config.retry;
        let entropy = &self.context.entropy;
        let finished = std::mem::take(&mut self.finished);
        let row = |one| ending(one, false, retry, now, entropy.unit());
        let rows: Vec<Ending> = finished.iter().map(row).collect();
        self.spool(&rows);
        for one in &finished {
            self.flights.remove(&one.lease.attempt);
        }
    }

    fn describe(&self, error: &StoreError) -> String {
        match error.trouble() {
            Trouble::Busy => match self.context.store.write_lock_holder() {
                Some(pid) => format!("the database is locked by process {pid}"),
                None => "the database is locked by another process".into(),
            },
            _ => chain(error),
        }
    }

    pub(super) fn well_again(&mut self) {
        if !self.spool.is_empty() {
            self.spool.clear();
            self.spooled.clear();
        }
        if self.trouble.take().is_some() {
            tracing::info!("the database takes writes again");
        }
    }
}
