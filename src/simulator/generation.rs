//! A generation in progress: billed exactly once, whatever becomes of its client.

use super::app::App;
use super::log::Entry;
use crate::domain::time::Millis;
use std::sync::Arc;
use std::time::Duration;

/// Holds the entry until it is noted; dropping it early means that the client has gone.
pub(super) struct Generation {
    app: Arc<App>,
    entry: Option<Entry>,
    /// Simulated time of its end.
    end: Duration,
}

impl Generation {
    /// Begins; `entry` is complete but for its end.
    pub(super) fn begin(app: Arc<App>, entry: Entry, end: Duration) -> Generation {
        app.witness.begin();
        Generation { app, entry: Some(entry), end }
    }

    /// Notes the end; returns when it is on disk.
    pub(super) async fn finish(&mut self) {
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        self.app.witness.end();
        entry.ended_ms = self.app.clock.now().0;
        self.app.witness.note_durably(entry).await;
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        // The provider goes on writing and bills it all.
        let left = self.app.real(self.end.saturating_sub(self.app.now()));
        entry.ended_ms = (self.app.clock.now() + Millis::from(left)).0;
        entry.client_gone = true;
        self.app.witness.end();
        self.app.witness.note(entry);
    }
}
