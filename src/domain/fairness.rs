//! Weighted fair shares among queues, by tokens.
//!
//! Start-time fair queuing (Goyal, Vin and Cheng 1996): a queue's tag is where its next call
//! starts in virtual time, tokens ÷ weight behind its last one; the smallest tag goes next, and
//! virtual time is the tag of what was served last. A queue that could not be served (idle,
//! paused, at its own bound) starts at that time: it gains nothing and loses nothing.
//!
//! Each pool and priority has a virtual time of its own, since only there do queues compete for
//! the same tokens: a fast pool must not make the queues of a slow one all look equally late. For
//! the permits pools compete as well; a pool that fell behind the others, because it was blocked,
//! is lifted as a whole when it is served again.
//!
//! Invariant: between queues that can be served all the time, the weighted difference of what
//! they got stays below a few calls, however they fared before.

use super::limit::PoolName;
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
    lines: BTreeMap<i64, BTreeMap<PoolName, Line>>,
    /// The virtual time of each priority as a whole: that of its foremost pool.
    clocks: BTreeMap<i64, i64>,
    /// What calls used less than was expected of them, not given back yet; negative when more.
    refunds: BTreeMap<Arc<str>, BTreeMap<PoolName, i64>>,
    in_flight: BTreeMap<Arc<str>, u32>,
    all_paused: bool,
}

/// The queues that compete in a pool at one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Line {
    /// Virtual time: the start of what was served last.
    time: i64,
    tags: BTreeMap<Arc<str>, i64>,
}

impl Line {
    /// Where the queue's next call starts. Who was not served starts at `time`; a refund counts
    /// from there, and a debt from where the queue was.
    fn start(&self, queue: &str, time: i64, refund: i64) -> i64 {
        let earliest = time.saturating_sub(refund.max(0));
        self.tags.get(queue).map_or(earliest.saturating_sub(refund.min(0)), |tag| {
            tag.saturating_sub(refund).max(earliest)
        })
    }
}

/// A queue's place among those that wait; the smallest goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    among_all: i64,
    in_the_pool: i64,
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

    /// Forgets queues without work that are not ahead of the others.
    pub fn set_active(&mut self, queues: &BTreeSet<Arc<str>>) {
        let in_flight = &self.in_flight;
        let stays = |queue: &Arc<str>| queues.contains(queue) || in_flight.contains_key(queue);
        for line in self.lines.values_mut().flat_map(BTreeMap::values_mut) {
            let time = line.time;
            line.tags.retain(|queue, tag| *tag > time || stays(queue));
        }
        self.refunds.retain(|queue, _| stays(queue));
        for (priority, lines) in &mut self.lines {
            let clock = self.clocks.get(priority).copied().unwrap_or(0);
            lines.retain(|_, line| line.time >= clock || !line.tags.is_empty());
        }
    }

    /// When a queue's next call of this pool and priority has its turn.
    pub fn turn(&self, queue: &str, pool: &PoolName, priority: i64) -> Turn {
        let clock = self.clocks.get(&priority).copied().unwrap_or(0);
        let refund = self.refund(queue, pool);
        let new = Line { time: clock, tags: BTreeMap::new() };
        let line = self.lines.get(&priority).and_then(|lines| lines.get(pool)).unwrap_or(&new);
        Turn {
            among_all: line.start(queue, line.time.max(clock), refund),
            in_the_pool: line.start(queue, line.time, refund),
        }
    }

    /// A call goes out for a queue.
    pub fn start(&mut self, queue: &Arc<str>, pool: &PoolName, priority: i64, tokens: i64) {
        *self.in_flight.entry(Arc::clone(queue)).or_insert(0) += 1;
        let cost = self.weighted(queue, tokens);
        let refund = self.refund(queue, pool);
        let clock = self.clocks.entry(priority).or_insert(0);
        let line = self.lines.entry(priority).or_default().entry(pool.clone());
        let line = line.or_insert_with(|| Line { time: *clock, tags: BTreeMap::new() });
        let behind = clock.saturating_sub(line.start(queue, line.time, refund.min(0)));
        if behind > 0 {
            line.time = line.time.saturating_add(behind);
            line.tags.values_mut().for_each(|tag| *tag = tag.saturating_add(behind));
        }
        let start = line.start(queue, line.time, refund);
        line.time = line.time.max(start);
        *clock = (*clock).max(start);
        // What is left of a refund is not in the tag, so that no later moment takes it away.
        let left = refund.saturating_sub(cost).max(0);
        line.tags.insert(Arc::clone(queue), start.saturating_add(cost).saturating_add(left));
        self.add_refund(queue, pool, left.saturating_sub(refund));
    }

    /// It came back, and used `tokens` instead of what was expected.
    pub fn end(&mut self, queue: &Arc<str>, pool: &PoolName, expected: i64, tokens: i64) {
        if let Some(count) = self.in_flight.get_mut(queue) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.in_flight.remove(queue);
            }
        }
        let unused = self.weighted(queue, expected.saturating_sub(tokens));
        self.add_refund(queue, pool, unused);
    }

    fn refund(&self, queue: &str, pool: &PoolName) -> i64 {
        self.refunds.get(queue).and_then(|pools| pools.get(pool)).copied().unwrap_or(0)
    }

    fn add_refund(&mut self, queue: &Arc<str>, pool: &PoolName, amount: i64) {
        let sum = self.refund(queue, pool).saturating_add(amount);
        let pools = self.refunds.entry(Arc::clone(queue)).or_default();
        if sum == 0 {
            pools.remove(pool);
        } else {
            pools.insert(pool.clone(), sum);
        }
        if pools.is_empty() {
            self.refunds.remove(queue);
        }
    }

    fn weighted(&self, queue: &str, tokens: i64) -> i64 {
        let weight = self.policy(queue).weight_milli.max(1);
        // weight is in thousandths: tokens × 1,000 ÷ (weight ÷ 1,000).
        tokens.saturating_mul(SCALE).saturating_mul(1_000) / weight
    }
}

#[cfg(test)]
#[path = "fairness_tests.rs"]
mod tests;
