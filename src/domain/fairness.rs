//! Weighted fair shares among queues, by tokens.
//!
//! Each queue has a virtual time: tokens served ÷ weight. The queue that is furthest behind goes
//! next (start-time fair queuing, Goyal, Vin and Cheng 1996).
//!
//! Invariant: a queue that was idle gains nothing by having been idle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Virtual time is counted in tokens × this ÷ weight, so that small calls still count.
const SCALE: i64 = 1_000;

/// How one queue is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Its share against other queues, in thousandths; 1,000 is the default.
    pub weight_milli: i64,
    /// At most this many calls out at a time.
    pub max_in_flight: Option<u32>,
    /// Somebody paused it.
    pub paused: bool,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        QueuePolicy { weight_milli: 1_000, max_in_flight: None, paused: false }
    }
}

/// What every queue got so far, and has out now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    policies: BTreeMap<Arc<str>, QueuePolicy>,
    virtual_times: BTreeMap<Arc<str>, i64>,
    in_flight: BTreeMap<Arc<str>, u32>,
    active: BTreeSet<Arc<str>>,
    all_paused: bool,
}

impl Shares {
    /// Takes over new policies; what was served stays. `all_paused`: no queue may start.
    pub fn set_policies(&mut self, policies: BTreeMap<Arc<str>, QueuePolicy>, all_paused: bool) {
        self.policies = policies;
        self.all_paused = all_paused;
    }

    /// The policy of a queue, the default one when none was given.
    pub fn policy(&self, queue: &str) -> QueuePolicy {
        let mut policy = self.policies.get(queue).cloned().unwrap_or_default();
        policy.paused |= self.all_paused;
        policy
    }

    /// Calls of a queue that are out.
    pub fn in_flight(&self, queue: &str) -> u32 {
        self.in_flight.get(queue).copied().unwrap_or(0)
    }

    /// Says which queues have work now. One that had none before starts level with the one
    /// that is furthest behind.
    pub fn set_active(&mut self, queues: BTreeSet<Arc<str>>) {
        let floor = self.active.iter().filter_map(|queue| self.virtual_times.get(queue)).min();
        let floor = floor.copied().unwrap_or(0);
        for queue in queues.difference(&self.active) {
            let time = self.virtual_times.entry(Arc::clone(queue)).or_insert(0);
            *time = (*time).max(floor);
        }
        self.virtual_times.retain(|queue, _| queues.contains(queue) || self.active.contains(queue));
        self.active = queues;
    }

    /// How much a queue got, weighted; the smallest goes next.
    pub fn virtual_time(&self, queue: &str) -> i64 {
        self.virtual_times.get(queue).copied().unwrap_or(0)
    }

    /// A call goes out for a queue.
    pub fn start(&mut self, queue: &Arc<str>, tokens: i64) {
        *self.in_flight.entry(Arc::clone(queue)).or_insert(0) += 1;
        self.serve(queue, tokens);
    }

    /// It came back, and used `tokens` instead of what was expected.
    pub fn end(&mut self, queue: &Arc<str>, expected: i64, tokens: i64) {
        if let Some(count) = self.in_flight.get_mut(queue) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.in_flight.remove(queue);
            }
        }
        self.serve(queue, tokens.saturating_sub(expected));
    }

    fn serve(&mut self, queue: &Arc<str>, tokens: i64) {
        let weight = self.policy(queue).weight_milli.max(1);
        // weight is in thousandths: tokens × 1,000 ÷ (weight ÷ 1,000).
        let amount = tokens.saturating_mul(SCALE).saturating_mul(1_000) / weight;
        let time = self.virtual_times.entry(Arc::clone(queue)).or_insert(0);
        *time = time.saturating_add(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[(&str, i64)]) -> Shares {
        let mut shares = Shares::default();
        shares.set_policies(
            weights
                .iter()
                .map(|(name, weight)| {
                    let policy =
                        QueuePolicy { weight_milli: weight * 1_000, ..QueuePolicy::default() };
                    (Arc::from(*name), policy)
                })
                .collect(),
            false,
        );
        shares
    }

    #[test]
    fn tokens_follow_weights() {
        let mut shares = shares(&[("a", 3), ("b", 1)]);
        shares.set_active(["a".into(), "b".into()].into());
        let mut served = BTreeMap::from([("a", 0_i64), ("b", 0)]);
        for turn in 0..4_000_i64 {
            let next = if shares.virtual_time("a") <= shares.virtual_time("b") { "a" } else { "b" };
            let tokens = 50 + (turn * 37) % 400;
            shares.start(&next.into(), tokens);
            shares.end(&next.into(), tokens, tokens);
            *served.get_mut(next).unwrap() += tokens;
        }
        let share = served["a"] * 100 / (served["a"] + served["b"]);
        assert!((74..=76).contains(&share), "{share}");
    }

    #[test]
    fn idling_earns_nothing() {
        let mut shares = shares(&[]);
        shares.set_active(["busy".into()].into());
        shares.start(&"busy".into(), 1_000_000);
        shares.set_active(["busy".into(), "late".into()].into());
        assert_eq!(shares.virtual_time("late"), shares.virtual_time("busy"));
    }
}
