//! How fast a model writes: the time to its first token, and tokens a second from then on.
//!
//! Learned from answers by a straight line through (output tokens, seconds). A line is not misled
//! by short answers ending first, as a mean would be: it says how long an answer of this length takes.

use super::time::Millis;
use serde::{Deserialize, Serialize};

/// So many answers must be in before the line is believed.
const ENOUGH: f64 = 8.0;
/// Older answers fade: this many count at the most.
const MEMORY: f64 = 256.0;
/// Faster than this is no generation, but an answer from some cache.
const FASTEST: f64 = 10_000.0;
/// Slower than this is a stall.
const SLOWEST: f64 = 1.0;

/// Sums over the answers seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    answers: f64,
    tokens: f64,
    seconds: f64,
    tokens_squared: f64,
    tokens_seconds: f64,
    /// Bytes of text streamed, and the tokens they were.
    bytes: f64,
    streamed_tokens: f64,
}

/// What the sums say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Until the first token.
    pub first_token: Millis,
    /// From then on.
    pub tokens_per_second: f64,
}

impl Pace {
    /// Learns from one answer.
    pub fn add(&mut self, output_tokens: i64, took: Millis) {
        if self.answers >= MEMORY {
            let keep = 1.0 - 1.0 / MEMORY;
            self.answers *= keep;
            self.tokens *= keep;
            self.seconds *= keep;
            self.tokens_squared *= keep;
            self.tokens_seconds *= keep;
        }
        let (tokens, seconds) = (real(output_tokens), real(took.0) / 1_000.0);
        self.answers += 1.0;
        self.tokens += tokens;
        self.seconds += seconds;
        self.tokens_squared += tokens * tokens;
        self.tokens_seconds += tokens * seconds;
    }

    /// Learns how many bytes of a stream a token is.
    pub fn add_stream(&mut self, output_tokens: i64, bytes: i64) {
        if self.streamed_tokens > 1e6 {
            self.bytes /= 2.0;
            self.streamed_tokens /= 2.0;
        }
        self.bytes += real(bytes.max(0));
        self.streamed_tokens += real(output_tokens.max(0));
    }

    /// Tokens that so many bytes of a stream are; `None` until some were seen.
    pub fn tokens_in(&self, bytes: i64) -> Option<f64> {
        let known = self.streamed_tokens >= 100.0 && self.bytes > 0.0;
        known.then(|| real(bytes) * self.streamed_tokens / self.bytes)
    }

    /// Time to the first token, and tokens a second; `None` until enough answers were seen.
    pub fn speed(&self) -> Option<Speed> {
        if self.answers < ENOUGH {
            return None;
        }
        let n = self.answers;
        let variance = self.tokens_squared - self.tokens * self.tokens / n;
        let together = self.tokens_seconds - self.tokens * self.seconds / n;
        let mean = (self.tokens / n, self.seconds / n);
        // Answers of one length have no slope: all of the time is taken for writing then.
        let slope = if variance > n && together > 0.0 {
            together / variance
        } else {
            mean.1 / mean.0.max(1.0)
        };
        let per_token = slope.clamp(1.0 / FASTEST, 1.0 / SLOWEST);
        let first = (mean.1 - per_token * mean.0).max(0.0);
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a call")]
        let first_token = Millis((first * 1_000.0) as i64);
        Some(Speed { first_token, tokens_per_second: 1.0 / per_token })
    }

    /// Whether every number in it is one.
    pub fn is_sane(&self) -> bool {
        [
            self.answers,
            self.tokens,
            self.seconds,
            self.tokens_squared,
            self.tokens_seconds,
            self.bytes,
            self.streamed_tokens,
        ]
        .iter()
        .all(|number| number.is_finite() && *number >= 0.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "tokens and milliseconds lie far below 2^53")]
fn real(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_the_answers() {
        let mut pace = Pace::default();
        for tokens in [20_i64, 400, 90, 33, 1_200, 60, 250] {
            pace.add(tokens, Millis(1_000 + tokens * 1_000 / 80));
        }
        assert_eq!(pace.speed(), None, "seven are not enough");
        pace.add(10, Millis(1_125));
        let speed = pace.speed().unwrap();
        assert!((speed.tokens_per_second - 80.0).abs() < 0.5, "{speed:?}");
        assert!((speed.first_token.0 - 1_000).abs() < 10, "{speed:?}");
    }

    #[test]
    fn answers_of_one_length_have_no_first_token() {
        let mut pace = Pace::default();
        (0..20).for_each(|_| pace.add(100, Millis(2_000)));
        let speed = pace.speed().unwrap();
        assert_eq!(speed.first_token, Millis::ZERO);
        assert!((speed.tokens_per_second - 50.0).abs() < 0.1);
    }

    #[test]
    fn bytes_of_a_stream_are_tokens() {
        let mut pace = Pace::default();
        assert_eq!(pace.tokens_in(400), None);
        pace.add_stream(200, 900);
        assert_eq!(pace.tokens_in(450), Some(100.0));
    }
}
