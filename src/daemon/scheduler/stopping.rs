//! How it ends: no new calls, a wait for those that are out, and what is said at the end.

use super::Scheduler;
use crate::daemon::report::Phase;
use crate::daemon::{DaemonError, Ended};
use crate::store::Outlook;
use tokio::time::Instant;

impl Scheduler {
    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.asked_to_stop, true) {
            tracing::warn!("stopping at once: {} calls are broken off", self.flights.len());
            // Nor does it wait any longer for a database that is locked.
            self.drain_until = Some(Instant::now());
            self.break_off_all();
            return;
        }
        tracing::info!(in_flight = self.flights.len(), "stopping: no new calls");
        self.notifier.stopping();
        self.phase = Phase::Draining;
        self.drain_until.get_or_insert(Instant::now() + self.config.shutdown_grace);
    }

    pub(super) fn break_off_all(&mut self) {
        for flight in self.flights.values_mut() {
            flight.break_off();
        }
    }

    /// While draining: whether the last call is settled, or spooled.
    pub(super) fn drained(&mut self) -> Result<Option<Ended>, DaemonError> {
        if self.phase != Phase::Draining || self.turn.is_some() {
            return Ok(None);
        }
        if self.flights.is_empty()
            && let Some(fatal) = self.fatal.take()
        {
            return Err(fatal);
        }
        let over = self.drain_until.is_some_and(|until| Instant::now() >= until);
        let settled = self.flights.is_empty() && self.finished.is_empty();
        let spooled = over && self.trouble.is_some() && self.flights.len() == self.finished.len();
        if spooled {
            // Those that came between two failed turns are not in the spool yet.
            self.salvage();
        }
        Ok((settled || spooled).then_some(Ended::Stopped))
    }

    pub(super) async fn finish(mut self, end: Ended) -> Result<Ended, DaemonError> {
        let now = self.context.now();
        self.phase = Phase::Stopped;
        self.forecaster.stop();
        let json = serde_json::to_string(&self.report(now)).unwrap_or_else(|_| "{}".into());
        let store = &self.context.store;
        let end = self.verdict(end).await;
        let left = store.outlook().await;
        if let Err(error) = store.end_epoch(self.context.epoch, &json, now).await {
            tracing::warn!(%error, "the end was not written; the next start recovers");
        } else if let Err(error) = store.checkpoint(true).await {
            tracing::debug!(%error, "no checkpoint at the end");
        }
        store.close().await;
        match left {
            // What still runs has its end in the spool.
            Ok(Outlook { queued, held, running, .. }) => {
                tracing::info!(queued, held, running, "stopped");
            }
            Err(_) => tracing::info!("stopped"),
        }
        end
    }

    /// What the end means for `--until-empty`.
    async fn verdict(&self, end: Ended) -> Result<Ended, DaemonError> {
        if !self.options.until_empty {
            return Ok(end);
        }
        let store = &self.context.store;
        // Also those that failed without a call: expired, unreadable, given up at recovery.
        let failed = store.failed_since(self.context.finished_before).await?;
        if let Ended::Empty { stuck, .. } = end {
            return Ok(Ended::Empty { failed, stuck });
        }
        let counts = store.counts().await?;
        if counts.queued + counts.running > 0 {
            return Ok(Ended::Interrupted);
        }
        Ok(Ended::Empty { failed, stuck: counts.held > 0 })
    }
}
