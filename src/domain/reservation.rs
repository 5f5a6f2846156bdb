//! What a call sets aside before it is sent, and what ends that.
//!
//! Invariant: a reservation is settled exactly once; an unknown fate is counted as spent.

use super::attempt::{FailureKind, Outcome, Reply};
use super::budget::Worst;
use super::limit::PoolSpec;
use super::limit::{Dimension, OutputMode, PoolName};
use super::price::{self, Nanousd};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Tokens added to the bytes of a body for the worst case of its input: the provider's own
/// framing and system additions.
const WORST_INPUT_EXTRA: i64 = 1_024;

/// What counts towards the rate limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Calls: one, or none when the provider did not count it.
    pub requests: i64,
    /// Input and cache writes.
    pub input_tokens: i64,
    /// Output.
    pub output_tokens: i64,
}

impl Amounts {
    /// The amount in one dimension.
    pub fn of(&self, dimension: Dimension) -> i64 {
        match dimension {
            Dimension::Requests => self.requests,
            Dimension::InputTokens => self.input_tokens,
            Dimension::OutputTokens => self.output_tokens,
            Dimension::Tokens => self.input_tokens.saturating_add(self.output_tokens),
        }
    }

    /// What of it is taken when the call is sent; the rest comes while it runs.
    pub fn debit(&self, dimension: Dimension, mode: OutputMode) -> i64 {
        let at_once = match mode {
            OutputMode::Reserve => self.output_tokens,
            OutputMode::Realtime => 0,
        };
        match dimension {
            Dimension::Requests => self.requests,
            Dimension::InputTokens => self.input_tokens,
            Dimension::OutputTokens => at_once,
            Dimension::Tokens => self.input_tokens.saturating_add(at_once),
        }
    }
}

/// What a call sets aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Whose limits.
    pub pool: PoolName,
    /// How that pool's output is counted.
    pub mode: OutputMode,
    /// Whose share, and whose budget.
    pub queue: Arc<str>,
    /// What is asked.
    pub model: Arc<str>,
    /// For the limits.
    pub expected: Amounts,
    /// For the budgets.
    pub worst: Worst,
    /// Decides the budget period.
    pub reserved_at: Timestamp,
}

impl Reservation {
    /// The reservation of a call with a body of this many bytes.
    pub fn new(
        pool: &PoolSpec,
        queue: &Arc<str>,
        model: &Arc<str>,
        size: CallSize,
        now: Timestamp,
    ) -> Reservation {
        let worst_input = size.body_bytes.saturating_add(WORST_INPUT_EXTRA);
        let output_tokens = match pool.output_mode {
            OutputMode::Reserve => size.max_tokens,
            OutputMode::Realtime => size.expected_output,
        };
        Reservation {
            pool: pool.name.clone(),
            mode: pool.output_mode,
            queue: Arc::clone(queue),
            model: Arc::clone(model),
            expected: Amounts { requests: 1, input_tokens: size.expected_input, output_tokens },
            worst: Worst {
                input_tokens: worst_input,
                output_tokens: size.max_tokens,
                nanousd: price::worst(model, worst_input, size.max_tokens, now),
            },
            reserved_at: now,
        }
    }
}

/// What is known of a call's size before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSize {
    /// Bytes of the body.
    pub body_bytes: i64,
    /// Its `max_tokens`.
    pub max_tokens: i64,
    /// Estimated input tokens.
    pub expected_input: i64,
    /// Estimated output tokens.
    pub expected_output: i64,
}

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettlementKind {
    /// By what the provider said it used.
    Actual,
    /// Not billed.
    Released,
    /// Nobody knows: expected for the limits, worst for the budgets.
    AssumedSpent,
}

impl SettlementKind {
    /// The word in `attempts.settlement`.
    pub fn as_str(self) -> &'static str {
        match self {
            SettlementKind::Actual => "actual",
            SettlementKind::Released => "released",
            SettlementKind::AssumedSpent => "assumed_spent",
        }
    }
}

/// What ends a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// On what grounds.
    pub kind: SettlementKind,
    /// For the limits.
    pub amounts: Amounts,
    /// Prompt and output together, for token budgets.
    pub tokens: i64,
    /// Money; `None` when the model has no price.
    pub nanousd: Option<Nanousd>,
    /// The latest moment at which the provider may have counted the call, its output included.
    pub counted_at: Timestamp,
    /// The same for the call and its input, where headers told that it was taken in before.
    pub taken_in_at: Timestamp,
}

impl Settlement {
    /// Expected for the limits, worst for the budgets.
    pub fn assumed_spent(reservation: &Reservation, counted_at: Timestamp) -> Settlement {
        Settlement {
            kind: SettlementKind::AssumedSpent,
            amounts: reservation.expected,
            tokens: reservation.worst.tokens(),
            nanousd: reservation.worst.nanousd,
            counted_at,
            taken_in_at: counted_at,
        }
    }

    /// Not billed; `amounts` is what the provider may have counted all the same.
    pub fn released(
        reservation: &Reservation,
        amounts: Amounts,
        counted_at: Timestamp,
    ) -> Settlement {
        Settlement {
            kind: SettlementKind::Released,
            amounts,
            tokens: 0,
            nanousd: reservation.worst.nanousd.map(|_| 0),
            counted_at,
            taken_in_at: counted_at,
        }
    }

    /// What a reply says about its reservation.
    pub fn of(reply: &Reply, reservation: &Reservation) -> Settlement {
        let counted_at = reply.first_byte_at.unwrap_or(reply.done_at);
        match &reply.outcome {
            Outcome::Unknown(_) => Settlement::assumed_spent(reservation, reply.done_at),
            Outcome::Completed(answer) => match answer.usage {
                None => Settlement::assumed_spent(reservation, counted_at),
                Some(usage) => {
                    let model = reservation.model.as_ref();
                    let geo = answer.inference_geo.as_deref();
                    Settlement {
                        kind: SettlementKind::Actual,
                        amounts: Amounts {
                            requests: 1,
                            input_tokens: usage.limited_input(),
                            output_tokens: usage.output_tokens,
                        },
                        tokens: usage.all_tokens(),
                        nanousd: price::cost(model, &usage, geo, reservation.reserved_at),
                        counted_at: reply.done_at,
                        taken_in_at: counted_at,
                    }
                }
            },
            Outcome::Failed(failure) => {
                let expected = reservation.expected;
                let amounts = match failure.kind {
                    _ if reply.http_status.is_none() => Amounts::default(),
                    FailureKind::RateLimited { .. } | FailureKind::NotReached => Amounts::default(),
                    // The provider took the request in and failed later: its input may count.
                    FailureKind::Overloaded { .. } | FailureKind::Transient { .. } => {
                        Amounts { output_tokens: 0, ..expected }
                    }
                    _ => Amounts { input_tokens: 0, output_tokens: 0, ..expected },
                };
                Settlement::released(reservation, amounts, counted_at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::{Answer, Failure, Usage};

    fn reservation() -> Reservation {
        let pool = PoolSpec {
            name: PoolName("sonnet".into()),
            models: vec!["*".into()],
            limits: Vec::new(),
            output_mode: OutputMode::Realtime,
        };
        let size = CallSize {
            body_bytes: 1_000,
            max_tokens: 600,
            expected_input: 500,
            expected_output: 300,
        };
        Reservation::new(&pool, &"q".into(), &"claude-sonnet-5".into(), size, Timestamp(7))
    }

    fn reply(outcome: Outcome, http_status: Option<u16>) -> Reply {
        Reply {
            outcome,
            http_status,
            request_id: None,
            limits: Vec::new(),
            headers: None,
            first_byte_at: http_status.map(|_| Timestamp(8)),
            done_at: Timestamp(9),
        }
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure { kind, class: "x".into(), message: String::new() }
    }

    #[test]
    fn worst_is_bytes_and_all_of_max_tokens() {
        let worst = reservation().worst;
        assert_eq!((worst.input_tokens, worst.output_tokens), (2_024, 600));
        // 2,024 × 4,000 + 600 × 10,000 nano-dollars, and a tenth for the geography.
        assert_eq!(worst.nanousd, Some((2_024 * 4_000 + 600 * 10_000) * 11 / 10));
    }

    #[test]
    fn unknown_keeps_expected_and_worst() {
        let reservation = reservation();
        let outcome = Outcome::Unknown(failure(FailureKind::Transient { retry_after: None }));
        let settlement = Settlement::of(&reply(outcome, None), &reservation);
        assert_eq!(settlement.kind, SettlementKind::AssumedSpent);
        assert_eq!(settlement.amounts, reservation.expected);
        assert_eq!(settlement.nanousd, reservation.worst.nanousd);
    }

    #[test]
    fn an_answer_is_charged_as_used_and_without_usage_as_reserved() {
        let reservation = reservation();
        let usage = Usage {
            input_tokens: 10,
            output_tokens: 20,
            cache_read_tokens: 1_000,
            ..Usage::default()
        };
        let answer = |usage| {
            Outcome::Completed(Box::new(Answer {
                body: String::new(),
                text: String::new(),
                stop_reason: None,
                model: None,
                usage,
                inference_geo: None,
            }))
        };
        let known = Settlement::of(&reply(answer(Some(usage)), Some(200)), &reservation);
        assert_eq!(known.amounts.input_tokens, 10, "cache reads are free of the limit");
        assert_eq!(known.nanousd, Some(10 * 2_000 + 20 * 10_000 + 1_000 * 200));
        assert_eq!(known.tokens, 1_030);
        let silent = Settlement::of(&reply(answer(None), Some(200)), &reservation);
        assert_eq!(silent.kind, SettlementKind::AssumedSpent);
    }

    #[test]
    fn a_refused_call_costs_nothing_and_a_429_counts_nothing() {
        let reservation = reservation();
        let limited = FailureKind::RateLimited { retry_after: None, limit: None, ramp: false };
        let refused =
            Settlement::of(&reply(Outcome::Failed(failure(limited)), Some(429)), &reservation);
        assert_eq!((refused.amounts, refused.nanousd), (Amounts::default(), Some(0)));
        let wrong = Outcome::Failed(failure(FailureKind::Permanent));
        let wrong = Settlement::of(&reply(wrong, Some(400)), &reservation);
        assert_eq!((wrong.amounts.requests, wrong.amounts.input_tokens), (1, 0));
    }
}
