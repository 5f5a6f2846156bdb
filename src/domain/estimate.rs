//! How large a call will be, before it is made: learned per queue and model.
//!
//! Invariant: while nothing is known, the estimate errs on the large side: 2.0 bytes a token
//! (JSON rows are the densest common text) and all of `max_tokens`.
//! Invariant: lengths are learned in the order of admission, from the prefix in which all calls
//! have ended. A mean over answers as they finish is too low, since short ones finish first.

use super::attempt::Usage;
use super::job::JobId;
use super::pace::Pace;
use super::production::Prospect;
use super::reservation::Reservation;
use super::shape::{Lengths, Shape};
use super::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Bytes of body a token is taken for before any answer was seen.
const BYTES_PER_TOKEN: f64 = 2.0;
/// So many answers must be in before what was learned is believed.
const ENOUGH: f64 = 8.0;
/// Older answers fade: this many count at the most.
const MEMORY: f64 = 256.0;
/// A queue may be new every day: no more than this many are remembered.
const MOST_KEYS: usize = 4_096;
/// Latencies kept for their 95th percentile.
const LATENCIES: usize = 64;
/// The prefix waits for a straggler at most so many times that percentile …
const PATIENCE: i64 = 3;
/// … and never less than this.
const PATIENCE_MIN: Millis = Millis::from_secs(30);

/// Tokens of input and the bytes they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Density {
    answers: f64,
    bytes: f64,
    tokens: f64,
}

impl Density {
    fn add(&mut self, bytes: f64, tokens: f64) {
        if self.answers >= MEMORY {
            let keep = 1.0 - 1.0 / MEMORY;
            self.answers *= keep;
            self.bytes *= keep;
            self.tokens *= keep;
        }
        self.answers += 1.0;
        self.bytes += bytes;
        self.tokens += tokens;
    }

    fn tokens_per_byte(&self) -> Option<f64> {
        (self.answers >= ENOUGH && self.bytes > 0.0).then(|| self.tokens / self.bytes)
    }

    fn is_sane(&self) -> bool {
        [self.answers, self.bytes, self.tokens].iter().all(|sum| sum.is_finite() && *sum >= 0.0)
    }
}

/// What was learned, in the form in which it is written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Output as a part of `max_tokens`.
    lengths: Lengths,
    /// Input by the bytes of the body.
    input: Density,
    /// How fast the model writes.
    pace: Pace,
}

impl Learned {
    /// Answers whose length it stands on.
    pub fn samples(&self) -> f64 {
        self.lengths.samples()
    }

    /// The speed, when it is known.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Bytes of body a token of input is, when that is known.
    pub fn bytes_per_token(&self) -> Option<f64> {
        self.input.tokens_per_byte().filter(|tokens| *tokens > 0.0).map(|tokens| 1.0 / tokens)
    }

    /// The mean length as a part of `max_tokens`.
    pub fn mean_length(&self) -> Option<f64> {
        let enough = self.samples() >= ENOUGH;
        enough.then(|| Shape::of(&self.lengths, &Shape::whole()).mean())
    }

    fn is_sane(&self) -> bool {
        self.lengths.is_sane() && self.input.is_sane() && self.pace.is_sane()
    }
}

/// A call in the order of admission.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    job: JobId,
    since: Timestamp,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Open,
    /// With an answer of this part of its `max_tokens`.
    Answered(f64),
    /// Without one: it says nothing of lengths.
    Nothing,
}

/// One queue and model, or one model over all queues.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    learned: Learned,
    cohort: VecDeque<Member>,
    latencies: VecDeque<Millis>,
    shape: Option<Arc<Shape>>,
}

impl Known {
    fn patience(&self) -> Millis {
        let mut sorted: Vec<Millis> = self.latencies.iter().copied().collect();
        sorted.sort();
        let p95 = sorted.get(sorted.len() * 95 / 100).copied().unwrap_or(Millis::ZERO);
        Millis(p95.0 * PATIENCE).max(PATIENCE_MIN)
    }

    /// Learns from the prefix in which all have ended; a straggler counts in full.
    fn learn_prefix(&mut self, now: Timestamp) {
        let patience = self.patience();
        while let Some(first) = self.cohort.front() {
            let ratio = match first.end {
                End::Open if now.since(first.since) > patience => Some(1.0),
                End::Open => break,
                End::Answered(ratio) => Some(ratio),
                End::Nothing => None,
            };
            if let Some(ratio) = ratio {
                self.learned.lengths.add(ratio);
                self.shape = None;
            }
            self.cohort.pop_front();
        }
    }

    fn latency(&mut self, took: Millis) {
        if self.latencies.len() >= LATENCIES {
            self.latencies.pop_front();
        }
        self.latencies.push_back(took);
    }
}

/// A queue and a model; an empty queue is the model over all queues.
type Key = (Arc<str>, Arc<str>);

/// How an answer ended, for what is to be learned from it.
#[derive(Clone, Copy, Debug)]
pub struct Lesson {
    /// Size of the body that was sent.
    pub body_bytes: i64,
    /// What the provider says it used.
    pub usage: Usage,
    /// From sending to the last byte.
    pub took: Millis,
    /// Bytes of text its stream showed, if it was streamed.
    pub streamed_bytes: Option<i64>,
}

/// Learns from `usage`, per queue and model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimator {
    known: BTreeMap<Key, Arc<Known>>,
}

impl Estimator {
    /// Input tokens that will count towards the limit.
    pub fn input_tokens(&self, queue: &Arc<str>, model: &Arc<str>, body_bytes: i64) -> i64 {
        let own = self.get(queue, model).and_then(|known| known.learned.input.tokens_per_byte());
        let all = || self.of_model(model).and_then(|known| known.learned.input.tokens_per_byte());
        let per_byte = own.or_else(all).unwrap_or(1.0 / BYTES_PER_TOKEN);
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
    pub fn output_tokens(&self, queue: &Arc<str>, model: &Arc<str>, max_tokens: i64) -> i64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "max_tokens is at most ten million"
        )]
        let tokens = (max_tokens as f64 * self.shape(queue, model).mean()).ceil() as i64;
        tokens.min(max_tokens)
    }

    /// What the answer to such a call will be like.
    pub fn prospect(&self, queue: &Arc<str>, model: &Arc<str>) -> Prospect {
        let speed = self.of_model(model).and_then(|known| known.learned.pace.speed());
        Prospect { shape: self.shape(queue, model), speed }
    }

    /// How fast a model writes, as far as it is known.
    pub fn pace(&self, model: &Arc<str>) -> Pace {
        self.of_model(model).map(|known| known.learned.pace).unwrap_or_default()
    }

    fn shape(&self, queue: &Arc<str>, model: &Arc<str>) -> Arc<Shape> {
        let shape = |known: &Arc<Known>| known.shape.clone();
        let own = self.known.get(&(Arc::clone(queue), Arc::clone(model))).and_then(shape);
        let all = || self.known.get(&(Arc::from(""), Arc::clone(model))).and_then(shape);
        own.or_else(all).unwrap_or_else(|| Arc::new(Shape::whole()))
    }

    fn get(&self, queue: &Arc<str>, model: &Arc<str>) -> Option<&Known> {
        self.known.get(&(Arc::clone(queue), Arc::clone(model))).map(AsRef::as_ref)
    }

    fn of_model(&self, model: &Arc<str>) -> Option<&Known> {
        self.get(&Arc::from(""), model)
    }

    /// The two entries of a call: its queue's with the model, and the model's.
    fn keys(call: &Reservation) -> [Key; 2] {
        [Arc::clone(&call.queue), Arc::from("")].map(|queue| (queue, Arc::clone(&call.model)))
    }

    fn entry(&mut self, key: Key) -> Option<&mut Known> {
        if self.known.len() >= MOST_KEYS && !self.known.contains_key(&key) {
            return None;
        }
        Some(Arc::make_mut(self.known.entry(key).or_default()))
    }

    /// A call is admitted.
    pub fn begin(&mut self, job: JobId, call: &Reservation) {
        for key in Estimator::keys(call) {
            if let Some(known) = self.entry(key) {
                known.cohort.push_back(Member { job, since: call.reserved_at, end: End::Open });
            }
        }
    }

    /// A call is over, with an answer to learn from or without one.
    pub fn end(&mut self, job: JobId, call: &Reservation, lesson: Option<&Lesson>, now: Timestamp) {
        for key in Estimator::keys(call) {
            let Some(known) = self.entry(key) else { continue };
            let end = match lesson {
                Some(lesson) if call.worst.output_tokens > 0 => {
                    End::Answered(real(lesson.usage.output_tokens) / real(call.worst.output_tokens))
                }
                _ => End::Nothing,
            };
            if let Some(member) = known.cohort.iter_mut().find(|member| member.job == job) {
                member.end = end;
            }
            if let Some(lesson) = lesson {
                known.teach(lesson);
            }
            known.learn_prefix(now);
        }
        self.reshape(call);
    }

    /// The shapes of a call's queue and model, made anew: each leans on the one above it.
    fn reshape(&mut self, call: &Reservation) {
        let [own, all] = Estimator::keys(call);
        let mut prior = Arc::new(Shape::whole());
        for key in [all, own] {
            let Some(known) = self.entry(key) else { return };
            if known.learned.samples() < ENOUGH {
                known.shape = Some(Arc::clone(&prior));
            } else if known.shape.is_none() {
                known.shape = Some(Arc::new(Shape::of(&known.learned.lengths, &prior)));
            }
            prior = known.shape.clone().unwrap_or(prior);
        }
    }

    /// What is to be written down of a queue and model (an empty queue: the model's).
    pub fn learned(&self, queue: &str, model: &str) -> Option<&Learned> {
        self.known.get(&(Arc::from(queue), Arc::from(model))).map(|known| &known.learned)
    }

    /// Puts back what was written down; what cannot be true is left out.
    pub fn restore(&mut self, queue: &str, model: &str, learned: Learned) {
        if !learned.is_sane() {
            return;
        }
        if let Some(known) = self.entry((Arc::from(queue), Arc::from(model))) {
            known.learned = learned;
            known.shape = None;
        }
    }

    /// Makes all shapes anew, after everything was put back.
    pub fn restored(&mut self) {
        let keys: Vec<Key> = self.known.keys().cloned().collect();
        let (models, queues): (Vec<Key>, Vec<Key>) =
            keys.into_iter().partition(|(queue, _)| queue.is_empty());
        for key in models.into_iter().chain(queues) {
            let whole = Arc::new(Shape::whole());
            let prior = if key.0.is_empty() { whole } else { self.shape(&Arc::from(""), &key.1) };
            let Some(known) = self.entry(key) else { continue };
            known.shape = Some(match known.learned.samples() < ENOUGH {
                true => prior,
                false => Arc::new(Shape::of(&known.learned.lengths, &prior)),
            });
        }
    }
}

impl Known {
    fn teach(&mut self, lesson: &Lesson) {
        let usage = lesson.usage;
        if lesson.body_bytes > 0 {
            self.learned.input.add(real(lesson.body_bytes), real(usage.limited_input()));
        }
        if usage.output_tokens > 0 {
            self.learned.pace.add(usage.output_tokens, lesson.took);
            if let Some(bytes) = lesson.streamed_bytes {
                self.learned.pace.add_stream(usage.output_tokens, bytes);
            }
        }
        self.latency(lesson.took);
    }
}

#[expect(clippy::cast_precision_loss, reason = "tokens and bytes lie far below 2^53")]
fn real(number: i64) -> f64 {
    number.max(0) as f64
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
