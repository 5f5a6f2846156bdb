//! A pool: the models that share limits, and all checks of a request against them.
//!
//! Invariant: all limits are checked before any is debited; a refused request debits nothing.

use super::bucket::{Bucket, Charge};
use super::config::{Algorithm, LimitSet, OutputMode, Ramp};
use super::matching::glob;
use super::ramp::RampLimiter;
use super::window::Window;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Requests,
    InputTokens,
    OutputTokens,
    Tokens,
    DailyTokens,
}

impl Dimension {
    /// As 429s name it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Dimension::Requests => "requests per minute",
            Dimension::InputTokens => "input tokens per minute",
            Dimension::OutputTokens => "output tokens per minute",
            Dimension::Tokens => "tokens per minute",
            Dimension::DailyTokens => "tokens per day",
        }
    }
}

/// What one request needs, as the provider knows it at its start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    /// The provider's guess of `input`.
    pub(super) input_estimate: u64,
    /// Uncached input and cache writes.
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) max_tokens: u64,
    /// When the first token comes.
    pub(super) first_token: Duration,
    /// When the answer is finished.
    pub(super) end: Duration,
}

/// Why a request does not start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A limit is used up.
    Limit { dimension: Dimension, amount: u64, wait: Duration },
    /// The rate of requests grows too fast.
    Ramp { wait: Duration },
}

impl Refusal {
    /// Simulated time until the same request would fit.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Refusal::Limit { wait, .. } | Refusal::Ramp { wait } => *wait,
        }
    }
}

/// One limit as the headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) dimension: Dimension,
    pub(super) amount: u64,
    pub(super) remaining: u64,
    /// Simulated time until it is full.
    pub(super) until_full: Duration,
}

#[derive(Clone, Debug)]
enum Meter {
    Bucket(Bucket),
    Window(Window),
}

#[derive(Clone, Debug)]
struct Limit {
    dimension: Dimension,
    amount: u64,
    meter: Meter,
}

/// The limits that a set of models shares.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Patterns of the models in it.
    models: Vec<String>,
    limits: Vec<Limit>,
    output_mode: OutputMode,
    ramp: Option<RampLimiter>,
    /// Until when (simulated time) a 429 has told somebody to wait.
    pub(super) promised: Duration,
}

impl Pool {
    /// A pool that nobody has used yet.
    pub(super) fn new(name: &str, models: &[String], set: &LimitSet, ramp: Option<&Ramp>) -> Pool {
        let burst = Duration::from_secs_f64(set.burst_seconds);
        let minute = |dimension, amount: Option<u64>| {
            let amount = amount?;
            let meter = match set.algorithm {
                Algorithm::Bucket => Meter::Bucket(Bucket::new(amount, MINUTE, burst)),
                Algorithm::Window => Meter::Window(Window::new(amount, MINUTE)),
            };
            Some(Limit { dimension, amount, meter })
        };
        let day = set.tokens_per_day.map(|amount| Limit {
            dimension: Dimension::DailyTokens,
            amount,
            meter: Meter::Bucket(Bucket::new(amount, DAY, DAY)),
        });
        let limits = [
            minute(Dimension::Requests, set.requests_per_minute),
            minute(Dimension::InputTokens, set.input_tokens_per_minute),
            minute(Dimension::OutputTokens, set.output_tokens_per_minute),
            minute(Dimension::Tokens, set.tokens_per_minute),
            day,
        ];
        Pool {
            name: name.to_owned(),
            models: models.to_vec(),
            limits: limits.into_iter().flatten().collect(),
            output_mode: set.output_mode,
            ramp: ramp.map(RampLimiter::new),
            promised: Duration::ZERO,
        }
    }

    /// From now on `factor` times each bucket's limit, as when an account changes its tier.
    pub(super) fn scale(&mut self, now: Duration, factor: f64, burst: Duration) {
        for limit in &mut self.limits {
            if let Meter::Bucket(bucket) = &mut limit.meter {
                limit.amount = scaled(limit.amount, factor);
                let (period, burst) = match limit.dimension {
                    Dimension::DailyTokens => (DAY, DAY),
                    _ => (MINUTE, burst),
                };
                bucket.resize(now, limit.amount, period, burst);
            }
        }
    }

    /// Whether the model shares these limits.
    pub(super) fn takes(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| glob(pattern, model))
    }

    /// Debits every limit, or none and says which one is the last to allow the request.
    pub(super) fn admit(&mut self, now: Duration, demand: &Demand) -> Result<(), Refusal> {
        let mode = self.output_mode;
        let mut refusal: Option<Refusal> = None;
        for limit in &mut self.limits {
            let charge = charge(limit.dimension, mode, demand);
            let wait = limit.meter.wait(now, &charge);
            if wait > refusal.map_or(Duration::ZERO, |refusal| refusal.wait()) {
                let Limit { dimension, amount, .. } = *limit;
                refusal = Some(Refusal::Limit { dimension, amount, wait });
            }
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if let Some(ramp) = &mut self.ramp {
            let wait = ramp.wait(now);
            if wait > Duration::ZERO {
                return Err(Refusal::Ramp { wait });
            }
            ramp.take(now);
        }
        for limit in &mut self.limits {
            limit.meter.take(now, &charge(limit.dimension, mode, demand));
        }
        Ok(())
    }

    /// All limits as they stand now.
    pub(super) fn levels(&mut self, now: Duration) -> Vec<Level> {
        let level = |limit: &mut Limit| Level {
            dimension: limit.dimension,
            amount: limit.amount,
            remaining: u64::try_from(limit.meter.remaining(now)).unwrap_or(0),
            until_full: limit.meter.until_full(now),
        };
        self.limits.iter_mut().map(level).collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "limits lie far below 2^53 and are not negative"
)]
fn scaled(amount: u64, factor: f64) -> u64 {
    (amount as f64 * factor).round() as u64
}

/// What a request takes from the limit on `dimension`.
fn charge(dimension: Dimension, mode: OutputMode, demand: &Demand) -> Charge {
    let times = Charge { first_token: demand.first_token, end: demand.end, ..Charge::default() };
    let input = Charge {
        upfront: demand.input_estimate,
        at_end: difference(demand.input, demand.input_estimate),
        ..times
    };
    let output = match mode {
        OutputMode::Realtime => Charge { positive: true, produced: demand.output, ..times },
        OutputMode::Reserve => Charge {
            upfront: demand.max_tokens,
            at_end: difference(demand.output, demand.max_tokens),
            ..times
        },
    };
    match dimension {
        Dimension::Requests => Charge { upfront: 1, ..times },
        Dimension::InputTokens => input,
        Dimension::OutputTokens => output,
        Dimension::Tokens | Dimension::DailyTokens => Charge {
            upfront: input.upfront.saturating_add(output.upfront),
            positive: output.positive,
            at_end: input.at_end.saturating_add(output.at_end),
            produced: output.produced,
            ..times
        },
    }
}

fn difference(actual: u64, taken: u64) -> i64 {
    let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    signed(actual) - signed(taken)
}

impl Meter {
    fn wait(&mut self, now: Duration, charge: &Charge) -> Duration {
        match self {
            Meter::Bucket(bucket) => bucket.wait(now, charge),
            Meter::Window(window) => window.wait(now, charge),
        }
    }

    fn take(&mut self, now: Duration, charge: &Charge) {
        match self {
            Meter::Bucket(bucket) => bucket.take(now, charge),
            Meter::Window(window) => window.take(now, charge),
        }
    }

    fn remaining(&mut self, now: Duration) -> i64 {
        match self {
            Meter::Bucket(bucket) => bucket.remaining(now),
            Meter::Window(window) => window.remaining(now),
        }
    }

    fn until_full(&mut self, now: Duration) -> Duration {
        match self {
            Meter::Bucket(bucket) => bucket.until_full(now),
            Meter::Window(window) => window.until_full(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(set: &LimitSet) -> Pool {
        Pool::new("test", &[], set, None)
    }

    fn demand(input: u64, output: u64, max_tokens: u64) -> Demand {
        Demand {
            input_estimate: input,
            input,
            output,
            max_tokens,
            first_token: Duration::from_secs(1),
            end: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_refusal_debits_nothing_and_names_the_longest_wait() {
        let set = LimitSet {
            requests_per_minute: Some(60),
            input_tokens_per_minute: Some(600),
            output_tokens_per_minute: Some(100),
            output_mode: OutputMode::Reserve,
            ..LimitSet::default()
        };
        let mut pool = pool(&set);
        pool.admit(Duration::ZERO, &demand(550, 90, 90)).unwrap();
        let before = pool.levels(Duration::ZERO);
        let refusal = pool.admit(Duration::ZERO, &demand(100, 20, 20)).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::Limit {
                dimension: Dimension::OutputTokens,
                amount: 100,
                wait: Duration::from_secs(6),
            }
        );
        assert_eq!(pool.levels(Duration::ZERO), before);
    }

    #[test]
    fn combined_limits_count_input_and_output() {
        let set = LimitSet {
            tokens_per_minute: Some(1_000),
            tokens_per_day: Some(100_000),
            ..LimitSet::default()
        };
        let mut pool = pool(&set);
        pool.admit(Duration::ZERO, &demand(300, 400, 4_000)).unwrap();
        let levels = pool.levels(Duration::from_secs(2));
        let left: Vec<u64> = levels.iter().map(|level| level.remaining).collect();
        // Within two seconds 33 of the minute's came back, and two of the day's.
        assert_eq!(left, [333, 99_302]);
    }

    #[test]
    fn realtime_ignores_max_tokens_and_refuses_in_debt() {
        let set = LimitSet { output_tokens_per_minute: Some(100), ..LimitSet::default() };
        let mut pool = pool(&set);
        for _ in 0..3 {
            pool.admit(Duration::ZERO, &demand(10, 200, 100_000)).unwrap();
        }
        let refusal = pool.admit(Duration::from_secs(2), &demand(10, 1, 1)).unwrap_err();
        // The bucket was full until the first token, then 600 tokens came within a second.
        let wait = refusal.wait();
        assert!(wait > Duration::from_secs(295) && wait < Duration::from_secs(300), "{wait:?}");
    }
}
