//! What is seen of a streamed answer while it comes.

use crate::domain::attempt::{ObservedLimit, Progress};
use crate::domain::time::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by who reads the stream and who waits for its end.
#[derive(Clone, Debug, Default)]
pub struct Sight(Arc<Mutex<Option<Progress>>>);

impl Sight {
    /// What was seen so far; `None` before the first token, and of answers that are not streamed.
    pub fn get(&self) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// So many bytes of the answer are there now, behind headers with these limits.
    pub(super) fn saw(&self, bytes: i64, limits: &[ObservedLimit], now: Timestamp) {
        if bytes > 0 {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Progress { first_token_at: now, bytes, limits: limits.into() };
            seen.get_or_insert_with(new).bytes = bytes;
        }
    }
}
