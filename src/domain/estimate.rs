//! How large a call will be, before it is made.
//!
//! Invariant: while nothing is known, the estimate errs on the large side: 2.0 bytes a token
//! (JSON rows are the densest common text) and all of `max_tokens`.

use super::limit::OutputMode;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of body a token is taken for before any answer was seen.
const BYTES_PER_TOKEN: f64 = 2.0;
/// Weight of the newest answer in the running mean.
const NEWEST: f64 = 0.1;
/// So many answers must be in before the mean is believed.
const ENOUGH: u32 = 8;
/// A queue may be new every day: no more than this many are remembered.
const MOST_KEYS: usize = 4_096;

/// What was learned of one queue and model.
#[derive(Clone, Copy, Debug)]
struct Seen {
    tokens_per_byte: f64,
    samples: u32,
}

/// Learns from `usage`, per queue and model.
#[derive(Clone, Debug, Default)]
pub struct Estimator {
    seen: HashMap<(Arc<str>, Arc<str>), Seen>,
}

impl Estimator {
    /// Input tokens that will count towards the limit.
    pub fn input_tokens(&self, queue: &Arc<str>, model: &Arc<str>, body_bytes: i64) -> i64 {
        let learned = self
            .seen
            .get(&(Arc::clone(queue), Arc::clone(model)))
            .filter(|seen| seen.samples >= ENOUGH)
            .map(|seen| seen.tokens_per_byte);
        let per_byte = learned.unwrap_or(1.0 / BYTES_PER_TOKEN);
        // Bodies are at most 32 MB: the product is far inside both types.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "see above"
        )]
        let tokens = (body_bytes as f64 * per_byte).ceil() as i64;
        tokens.max(1)
    }

    /// Output tokens that will be produced.
    pub fn output_tokens(&self, _mode: OutputMode, max_tokens: i64) -> i64 {
        max_tokens
    }

    /// Learns from one answer.
    pub fn observe(&mut self, queue: &Arc<str>, model: &Arc<str>, body_bytes: i64, tokens: i64) {
        let key = (Arc::clone(queue), Arc::clone(model));
        if body_bytes <= 0 || (self.seen.len() >= MOST_KEYS && !self.seen.contains_key(&key)) {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "both far below 2^53")]
        let ratio = tokens.max(0) as f64 / body_bytes as f64;
        let seen = self.seen.entry(key).or_insert(Seen { tokens_per_byte: ratio, samples: 0 });
        seen.samples = seen.samples.saturating_add(1);
        // A plain mean at first, then a running one.
        let weight = NEWEST.max(1.0 / f64::from(seen.samples));
        seen.tokens_per_byte += (ratio - seen.tokens_per_byte) * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_high_and_follows_usage() {
        let (queue, model): (Arc<str>, Arc<str>) = ("q".into(), "m".into());
        let mut estimator = Estimator::default();
        assert_eq!(estimator.input_tokens(&queue, &model, 1_000), 500);
        for _ in 0..ENOUGH {
            estimator.observe(&queue, &model, 1_000, 300);
        }
        assert_eq!(estimator.input_tokens(&queue, &model, 2_000), 600);
        assert_eq!(estimator.input_tokens(&"other".into(), &model, 1_000), 500);
    }
}
