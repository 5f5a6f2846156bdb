//! What is seen of a streamed answer while it comes.

use crate::domain::attempt::Progress;
use crate::domain::time::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by who reads the stream and who waits for its end.
#[derive(Clone, Debug, Default)]
pub struct Sight(Arc<Mutex<Option<Progress>>>);

impl Sight {
    /// What was seen so far; `None` before the first token, and of answers that are not streamed.
    pub fn get(&self) -> Option<Progress> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes of the answer are there now.
    pub(super) fn saw(&self, bytes: i64, now: Timestamp) {
        if bytes > 0 {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let first_token_at = seen.map_or(now, |seen| seen.first_token_at);
            *seen = Some(Progress { first_token_at, bytes });
        }
    }
}
