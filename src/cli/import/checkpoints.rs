//! What was written is moved from the WAL into the database by another thread meanwhile.
//!
//! Invariant: the WAL does not grow with the file: now and then the writing waits for the rest to
//! be moved, and the WAL begins anew.

use crate::store::{Store, StoreError};
use anyhow::Context as _;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Bytes of rows after which a checkpoint begins …
const BEGIN: usize = 16 << 20;
/// … and after which it is waited for: the WAL is then below the size to which the store cuts it
/// back, so that it is written over, which is cheaper than to let it grow.
const WAIT: usize = 40 << 20;

/// The checkpoints of an import.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    running: Option<JoinHandle<Result<(), StoreError>>>,
    /// Bytes since the last one began.
    since: usize,
    /// Bytes since nothing was left to move.
    unmoved: usize,
}

impl Checkpoints {
    /// After so many bytes were committed.
    pub(super) async fn after(&mut self, bytes: usize, store: &Arc<Store>) -> anyhow::Result<()> {
        self.since += bytes;
        self.unmoved += bytes;
        if self.unmoved >= WAIT {
            self.wait().await?;
            store.checkpoint_beside().await?;
            (self.since, self.unmoved) = (0, 0);
            return Ok(());
        }
        if self.since >= BEGIN && self.running.as_ref().is_none_or(JoinHandle::is_finished) {
            self.wait().await?;
            let store = Arc::clone(store);
            self.running = Some(tokio::spawn(async move { store.checkpoint_beside().await }));
            self.since = 0;
        }
        Ok(())
    }

    async fn wait(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => Ok(running.await.context("a checkpoint ended without a word")??),
            None => Ok(()),
        }
    }
}
