//! How many calls in flight are of use: what the limits let through within a call's time, twice;
//! of a rolling window all of it, since it lets calls go in waves.
//!
//! More would only pile up before a provider that has become slow.

use super::limit::Dimension;
use super::pool::{Level, Meter};
use super::reservation::Amounts;
use super::time::{Millis, Timestamp};

/// So many are never too many.
const LEAST: f64 = 8.0;
/// Little's law, and as much again for calls that take longer than others.
const TIMES: f64 = 2.0;
/// So many answers must be in before their mean is believed.
const ENOUGH: f64 = 8.0;
/// Weight of the newest answer in the running mean.
const NEWEST: f64 = 1.0 / 64.0;

/// The mean call of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    answers: f64,
    input_tokens: f64,
    output_tokens: f64,
    took_ms: f64,
}

impl Need {
    /// One more answer.
    pub fn answered(&mut self, amounts: &Amounts, took: Millis) {
        self.answers += 1.0;
        let weight = NEWEST.max(1.0 / self.answers);
        let mean = |mean: &mut f64, one: i64| *mean += (real(one) - *mean) * weight;
        mean(&mut self.input_tokens, amounts.input_tokens);
        mean(&mut self.output_tokens, amounts.output_tokens);
        mean(&mut self.took_ms, took.0);
    }

    /// Calls in flight that are of use under these limits, and the one that allows fewest; what is
    /// stored up may go at once. `None`: too little is known.
    pub fn calls(&self, meters: &[Meter], now: Timestamp) -> Option<(f64, Dimension)> {
        if self.answers < ENOUGH {
            return None;
        }
        let calls = meters.iter().map(|meter| {
            let dimension = meter.spec.dimension;
            let mean = match dimension {
                Dimension::Requests => 1.0,
                Dimension::InputTokens => self.input_tokens,
                Dimension::OutputTokens => self.output_tokens,
                Dimension::Tokens => self.input_tokens + self.output_tokens,
            };
            ((self.tokens(meter, now) / mean.max(1.0)).max(LEAST), dimension)
        });
        calls.min_by(|(one, _), (other, _)| one.total_cmp(other))
    }

    /// What calls in flight may take of a limit together.
    fn tokens(&self, meter: &Meter, now: Timestamp) -> f64 {
        let limit = real(meter.spec.amount);
        match meter.level {
            Level::Bucket(_) => {
                let refilled = limit * self.took_ms / real(meter.spec.per.span().0);
                real(meter.available(now).max(0)) + TIMES * refilled
            }
            // What was taken at once leaves at once: all of it may be wanted within a moment.
            Level::Window(_) => limit,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts lie far below 2^53")]
fn real(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::{Algorithm, LimitSource, LimitSpec, Per};

    const T0: Timestamp = Timestamp(1_700_000_000_000);

    fn output(amount: i64) -> Meter {
        counted(amount, Algorithm::Bucket { burst: Some(Millis::from_secs(6)) })
    }

    fn counted(amount: i64, algorithm: Algorithm) -> Meter {
        let spec = LimitSpec {
            dimension: Dimension::OutputTokens,
            per: Per::Minute,
            amount,
            algorithm,
            source: LimitSource::Configured,
        };
        Meter::new(spec, T0)
    }

    #[test]
    fn twice_what_the_limit_lets_through_in_a_calls_time() {
        let mut need = Need::default();
        assert_eq!(need.calls(&[output(60_000)], T0), None);
        let amounts = Amounts { requests: 1, input_tokens: 900, output_tokens: 100 };
        (0..50).for_each(|_| need.answered(&amounts, Millis::from_secs(4)));
        // 6,000 are stored, twice 4,000 come in four seconds, 100 a call.
        let (calls, dimension) = need.calls(&[output(60_000)], T0).unwrap();
        assert!((calls - 140.0).abs() < 1.0, "{calls}");
        assert_eq!(dimension, Dimension::OutputTokens);
        assert_eq!(need.calls(&[output(600)], T0), Some((LEAST, Dimension::OutputTokens)));
        assert_eq!(need.calls(&[], T0), None);
    }

    #[test]
    fn of_a_rolling_window_all_may_be_wanted_at_once() {
        let mut need = Need::default();
        let amounts = Amounts { requests: 1, input_tokens: 900, output_tokens: 100 };
        (0..50).for_each(|_| need.answered(&amounts, Millis::from_secs(4)));
        let mut window = counted(60_000, Algorithm::Window);
        let Level::Window(level) = &mut window.level else { unreachable!("made so") };
        level.record(60_000, T0);
        let (calls, _) = need.calls(&[window], T0).unwrap();
        assert!((calls - 600.0).abs() < 1.0, "{calls}");
    }

    #[test]
    fn a_slower_provider_needs_more_in_flight() {
        let mut need = Need::default();
        let amounts = Amounts { requests: 1, input_tokens: 900, output_tokens: 100 };
        (0..50).for_each(|_| need.answered(&amounts, Millis::from_secs(4)));
        let (before, _) = need.calls(&[output(60_000)], T0).unwrap();
        (0..200).for_each(|_| need.answered(&amounts, Millis::from_secs(40)));
        let (after, _) = need.calls(&[output(60_000)], T0).unwrap();
        assert!(after > 5.0 * before, "{before} and {after}");
    }
}
