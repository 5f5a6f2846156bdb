//! When the queue will be empty, what it will have cost by then, and what it waits for most.
//!
//! Admission, run forward in virtual time: not job by job but over classes of jobs, which flow
//! through limits, budgets and calls in flight as water does through pipes. Each step lets every
//! class take what priority, fair shares and what is stored up leave to it.
//!
//! Invariant: the work is steps × classes; how many jobs there are does not matter.
//! Invariant: nothing ends earlier than (demand − stored up) ÷ rate, in whatever dimension.

mod fluid;
mod resource;
mod scene;
mod share;

pub use scene::{Group, Sight, Size};

use super::limit::{Dimension, OutputMode};
use super::price::Nanousd;
use super::reason::Reason;
use super::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is foreseen at `as_of`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecast {
    /// When it was made.
    pub as_of: Timestamp,
    /// Jobs it is about: queued and in flight.
    pub jobs: i64,
    /// Input they are expected to take.
    pub input_tokens: i64,
    /// Output they are expected to write.
    pub output_tokens: i64,
    /// When the last job ends that can end by itself; `None`: none can.
    pub finishes_at: Option<Timestamp>,
    /// What jobs will wait for the longest, all waits added up; `None`: for nothing.
    pub bottleneck: Option<Reason>,
    /// What these jobs will cost, calls in flight included, whether they can end or not; `None`:
    /// some model has no price.
    pub rest_nanousd: Option<Nanousd>,
    /// Jobs that will not start unless somebody does something, and why.
    pub stuck: BTreeMap<Reason, i64>,
    /// Each budget, in the order of the configuration.
    pub budgets: Vec<BudgetEnd>,
}

/// How a budget will fare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetEnd {
    /// See [`BudgetSpec::key`](super::budget::BudgetSpec::key).
    pub key: String,
    /// When it stops calls for the first time; `None`: it never does.
    pub stops_at: Option<Timestamp>,
    /// How far what is spent and what all its jobs will cost lies above the cap, in its unit.
    pub exceeded_by: i64,
}

/// Everything a forecast is made of.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// Now.
    pub now: Timestamp,
    /// Calls that may be out at a time.
    pub max_in_flight: u32,
    /// The account is closed.
    pub account: Option<Closure>,
    /// Limits.
    pub pools: Vec<PoolState>,
    /// Walls.
    pub budgets: Vec<BudgetState>,
    /// Shares and bounds.
    pub queues: Vec<QueueState>,
    /// The work.
    pub classes: Vec<Class>,
}

/// Something is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closure {
    /// Why.
    pub reason: Reason,
    /// Until then; `None`: until somebody does something.
    pub until: Option<Timestamp>,
}

/// A pool as it is now.
#[derive(Clone, Debug)]
pub struct PoolState {
    /// How output counts.
    pub mode: OutputMode,
    /// It is closed.
    pub closed: Option<Closure>,
    /// Each with what is stored up.
    pub limits: Vec<LimitState>,
}

/// A limit as it is now.
#[derive(Clone, Debug)]
pub struct LimitState {
    /// What it counts.
    pub dimension: Dimension,
    /// What is stored up, and how it comes back.
    pub stock: Stock,
}

/// What a limit has, and how it comes back; amounts in its dimension.
#[derive(Clone, Debug)]
pub enum Stock {
    /// Continuous refill.
    Bucket {
        /// What may be given out now; negative in debt.
        level: f64,
        /// What it can hold.
        capacity: f64,
        /// Refill a millisecond.
        per_ms: f64,
    },
    /// What was used comes back when it is a period old.
    Window {
        /// Never more than this in a period.
        limit: f64,
        /// The period.
        period: Millis,
        /// What was used, and when it comes back.
        leaving: Vec<(Timestamp, f64)>,
    },
}

/// A budget as it is now; amounts in its unit.
#[derive(Clone, Debug)]
pub struct BudgetState {
    /// See [`BudgetSpec::key`](super::budget::BudgetSpec::key).
    pub key: String,
    /// In money; else in tokens.
    pub in_usd: bool,
    /// The ceiling.
    pub cap: f64,
    /// Settled in this period.
    pub spent: f64,
    /// Only this queue's calls.
    pub queue: Option<Arc<str>>,
    /// Lets calls of models without a price pass.
    pub allow_unbounded: bool,
    /// The ends of this period and of those after it; it never begins anew after the last.
    pub ends: Vec<Timestamp>,
}

/// A queue's share and bounds.
#[derive(Clone, Debug)]
pub struct QueueState {
    /// Its name.
    pub name: Arc<str>,
    /// Its share against others.
    pub weight: f64,
    /// Calls it may have out.
    pub max_in_flight: Option<u32>,
    /// Somebody paused it.
    pub paused: bool,
}

/// Jobs that are alike: of one queue, one priority and one model.
#[derive(Clone, Debug)]
pub struct Class {
    /// Index into the queues.
    pub queue: usize,
    /// Index into the pools.
    pub pool: usize,
    /// Higher first.
    pub priority: i64,
    /// Jobs that wait.
    pub jobs: f64,
    /// Calls that are out.
    pub in_flight: f64,
    /// They become ready evenly between the two; `None`: they are.
    pub due: Option<(Timestamp, Timestamp)>,
    /// One of them, on average.
    pub call: Call,
}

/// A call, on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Call {
    /// Input that counts.
    pub input_tokens: f64,
    /// Output that will be written.
    pub output_tokens: f64,
    /// The most it may write.
    pub max_tokens: f64,
    /// From its start to its last byte, in milliseconds.
    pub took_ms: f64,
    /// What it will cost; `None`: nobody knows the price.
    pub nanousd: Option<f64>,
    /// The most it can cost.
    pub worst_nanousd: Option<f64>,
    /// The most tokens it can use.
    pub worst_tokens: f64,
}

impl Call {
    /// Expected input and output together.
    pub fn tokens(&self) -> f64 {
        self.input_tokens + self.output_tokens
    }
}

/// Runs admission forward until nothing is left, or nothing moves any more.
pub fn forecast(scene: &Scene) -> Forecast {
    let sum = |part: fn(&Call) -> f64| {
        scene.classes.iter().map(|class| class.all() * part(&class.call)).sum::<f64>()
    };
    let run = fluid::run(scene);
    let mut stuck: BTreeMap<Reason, f64> = BTreeMap::new();
    for (reason, jobs) in &run.stuck {
        *stuck.entry(*reason).or_insert(0.0) += jobs;
    }
    let at = |ms: f64| scene.now + Millis(whole(ms));
    let priced = scene.classes.iter().all(|one| one.call.nanousd.is_some() || one.all() <= 0.0);
    Forecast {
        as_of: scene.now,
        jobs: whole(scene.classes.iter().map(Class::all).sum()),
        input_tokens: whole(sum(|call| call.input_tokens)),
        output_tokens: whole(sum(|call| call.output_tokens)),
        finishes_at: run.finish_ms.map(at),
        bottleneck: run.bottleneck,
        rest_nanousd: priced.then(|| whole(sum(|call| call.nanousd.unwrap_or(0.0)))),
        stuck: stuck.into_iter().map(|(reason, jobs)| (reason, whole(jobs))).collect(),
        budgets: scene
            .budgets
            .iter()
            .zip(&run.stops_ms)
            .map(|(budget, stops)| budget_end(scene, budget, stops.map(at)))
            .collect(),
    }
}

fn budget_end(scene: &Scene, budget: &BudgetState, stops_at: Option<Timestamp>) -> BudgetEnd {
    let covered = scene.classes.iter().filter(|class| {
        budget.queue.as_ref().is_none_or(|own| *own == scene.queues[class.queue].name)
    });
    let demand: f64 = covered
        .map(|class| {
            let call = &class.call;
            class.all() * if budget.in_usd { call.nanousd.unwrap_or(0.0) } else { call.tokens() }
        })
        .sum();
    let exceeded_by = whole((budget.spent + demand - budget.cap).max(0.0));
    BudgetEnd { key: budget.key.clone(), stops_at, exceeded_by }
}

impl Class {
    /// Waiting and in flight.
    fn all(&self) -> f64 {
        self.jobs + self.in_flight
    }
}

/// A forecast's number, rounded.
#[expect(clippy::cast_possible_truncation, reason = "saturates; a forecast that large says never")]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests;
