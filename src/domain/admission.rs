//! Which jobs may start now: a pure function of time, candidates and ledger.
//!
//! Priority first; within it fair shares among queues, by tokens; within a queue first come,
//! first served. A job that does not fit for a while is passed over, but only for so long: then
//! its pool waits for it.
//!
//! Invariant: a plan takes from the (copied) ledger whatever it gives out, so no plan overdraws.

use super::estimate::Estimator;
use super::fairness::{Shares, Turn};
use super::job::JobId;
use super::ledger::{Blocked, Check, Ledger};
use super::limit::{PoolName, PoolSpec};
use super::reason::Reason;
use super::reservation::{Amounts, CallSize, Reservation};
use super::time::{Millis, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A job that fits within this time is waited for; nothing of its pool overtakes it.
const PATIENCE: Millis = Millis::from_secs(2);
/// A job that was passed over for this long is waited for, however long it takes.
const PASSED_OVER_MAX: Millis = Millis::from_secs(30);

/// When so much work is left of a pool, its long calls go first: the last answer comes sooner.
const TAIL: Millis = Millis::from_secs(30);
/// The same for rolling windows, which let calls go in waves: in the last wave but one.
const TAIL_OF_WINDOWS: Millis = Millis::from_secs(90);

/// A ready job, read and measured beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub queue: Arc<str>,
    /// −100 … 100, higher first.
    pub priority: i64,
    /// What it asks.
    pub model: Arc<str>,
    /// Size of its body.
    pub body_bytes: i64,
    /// Its `max_tokens`.
    pub max_tokens: i64,
    /// Its cost does not lie in its bytes.
    pub unbounded: bool,
    /// Since when others have been let past it.
    pub passed_over_since: Option<Timestamp>,
}

impl Candidate {
    fn size(&self, sizes: &Estimator) -> CallSize {
        CallSize {
            body_bytes: self.body_bytes,
            max_tokens: self.max_tokens,
            expected_input: sizes.input_tokens(&self.queue, &self.model, self.body_bytes),
            expected_output: sizes.output_tokens(&self.queue, &self.model, self.max_tokens),
        }
    }
}

/// A job that starts, and what it sets aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub job: JobId,
    /// What it sets aside.
    pub reservation: Reservation,
}

/// A candidate that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Which.
    pub job: JobId,
    /// For what.
    pub reason: Reason,
    /// Whether others may be let past it.
    pub passed_over: bool,
}

/// What to do now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they go out.
    pub starts: Vec<Start>,
    /// Jobs that a person must look at: their cost has no bound.
    pub unbounded: Vec<JobId>,
    /// Every candidate that waits.
    pub waits: Vec<Wait>,
    /// How many candidates wait, and for what.
    pub held_back: BTreeMap<Reason, usize>,
    /// What holds back the first that waits.
    pub first_held: Option<Reason>,
    /// When something is worth another look, unless a call ends before.
    pub wake_at: Option<Timestamp>,
}

/// Everything a plan is made of, beside the candidates.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Now.
    pub now: Timestamp,
    /// A copy that the plan writes on.
    pub ledger: &'a mut Ledger,
    /// A copy that the plan writes on.
    pub shares: &'a mut Shares,
    /// Calls that may go out at once.
    pub free_permits: usize,
    /// Whether the candidates are all that is ready.
    pub whole: bool,
}

/// Decides which of the candidates start.
pub fn plan(mut situation: Situation<'_>, candidates: &[Candidate]) -> Plan {
    let mut plan = Plan::default();
    situation.ledger.foresee(situation.now);
    let mut closed: HashMap<PoolName, Blocked> = HashMap::new();
    let tails = tails(&mut situation, candidates);
    let mut by_priority: BTreeMap<i64, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        by_priority.entry(-candidate.priority).or_default().push(candidate);
    }
    for class in by_priority.values() {
        plan_class(&mut situation, class, &tails, &mut closed, &mut plan);
    }
    plan
}

/// Expected output of the jobs whose pool has little work left.
fn tails(situation: &mut Situation<'_>, candidates: &[Candidate]) -> BTreeMap<JobId, i64> {
    let mut left: BTreeMap<PoolName, (Amounts, Vec<(JobId, i64)>)> = BTreeMap::new();
    if !situation.whole {
        return BTreeMap::new();
    }
    for candidate in candidates {
        let pool = situation.ledger.pool_of(&candidate.model, situation.now);
        let size = candidate.size(&situation.ledger.sizes);
        let (sum, jobs) = left.entry(pool.name.clone()).or_default();
        sum.requests += 1;
        sum.input_tokens = sum.input_tokens.saturating_add(size.expected_input);
        sum.output_tokens = sum.output_tokens.saturating_add(size.expected_output);
        jobs.push((candidate.job, size.expected_output));
    }
    let short = left
        .into_iter()
        .filter(|(pool, (sum, _))| {
            let ledger = &situation.ledger;
            let tail = if ledger.comes_in_waves(pool) { TAIL_OF_WINDOWS } else { TAIL };
            ledger.time_for(pool, sum) <= tail
        })
        .flat_map(|(_, (_, jobs))| jobs);
    short.collect()
}

/// The jobs of one queue and priority, first come, first served, and the pool of each.
struct Line<'a> {
    queue: Arc<str>,
    jobs: std::iter::Peekable<std::vec::IntoIter<(&'a Candidate, Arc<PoolSpec>)>>,
    turn: Option<Turn>,
}

impl Line<'_> {
    /// When the next of its jobs has its turn; `None` at its end.
    fn look(&mut self, shares: &Shares) {
        let next = self.jobs.peek();
        self.turn = next.map(|(job, pool)| shares.turn(&self.queue, &pool.name, job.priority));
    }
}

/// One priority: queues take turns, the one that is furthest behind first.
fn plan_class(
    situation: &mut Situation<'_>,
    class: &[&Candidate],
    tails: &BTreeMap<JobId, i64>,
    closed: &mut HashMap<PoolName, Blocked>,
    plan: &mut Plan,
) {
    let mut by_queue: BTreeMap<Arc<str>, Vec<(&Candidate, Arc<PoolSpec>)>> = BTreeMap::new();
    for candidate in class.iter().copied() {
        let pool = situation.ledger.pool_of(&candidate.model, situation.now);
        by_queue.entry(Arc::clone(&candidate.queue)).or_default().push((candidate, pool));
    }
    let line = |(queue, mut jobs): (Arc<str>, Vec<(_, _)>)| {
        jobs.sort_by_key(|(candidate, _): &(&Candidate, Arc<PoolSpec>)| {
            (-tails.get(&candidate.job).unwrap_or(&0), candidate.job)
        });
        Line { queue, jobs: jobs.into_iter().peekable(), turn: None }
    };
    let mut lines: Vec<Line> = by_queue.into_iter().map(line).collect();
    lines.iter_mut().for_each(|line| line.look(situation.shares));
    loop {
        // Of several with the same turn the first by name: lines are in that order.
        let waiting = lines.iter_mut().filter(|line| line.turn.is_some());
        let Some(line) = waiting.min_by_key(|line| line.turn) else { return };
        let Some((candidate, pool)) = line.jobs.next() else { return };
        let before = plan.starts.len();
        consider(situation, candidate, &pool, closed, plan);
        if plan.starts.len() > before {
            lines.iter_mut().for_each(|line| line.look(situation.shares));
        } else {
            line.look(situation.shares);
        }
    }
}

fn consider(
    situation: &mut Situation<'_>,
    candidate: &Candidate,
    pool: &Arc<PoolSpec>,
    closed: &mut HashMap<PoolName, Blocked>,
    plan: &mut Plan,
) {
    let now = situation.now;
    let policy = situation.shares.policy(&candidate.queue);
    if policy.paused {
        let blocked = Blocked { reason: Reason::Paused, ready_at: None };
        return plan.hold_back(candidate, blocked, false);
    }
    let busy = situation.shares.in_flight(&candidate.queue);
    let queue_full = policy.max_in_flight.is_some_and(|most| busy >= most);
    if let Some(blocked) = closed.get(&pool.name) {
        return plan.hold_back(candidate, *blocked, false);
    }
    let size = candidate.size(&situation.ledger.sizes);
    let call = Reservation::new(pool, &candidate.queue, &candidate.model, size, now);
    match situation.ledger.check(&call, candidate.unbounded, now) {
        Check::Unbounded => plan.unbounded.push(candidate.job),
        Check::Go if situation.free_permits == 0 => {
            let blocked = Blocked { reason: Reason::Concurrency, ready_at: None };
            closed.insert(pool.name.clone(), blocked);
            plan.hold_back(candidate, blocked, false);
        }
        Check::Go if queue_full => {
            let blocked = Blocked { reason: Reason::Concurrency, ready_at: None };
            plan.hold_back(candidate, blocked, false);
        }
        Check::Go => {
            situation.ledger.reserve(candidate.job, &call);
            let tokens = call.expected.input_tokens.saturating_add(call.expected.output_tokens);
            let (shares, priority) = (&mut *situation.shares, candidate.priority);
            shares.start(&candidate.queue, &pool.name, priority, tokens);
            situation.free_permits -= 1;
            plan.starts.push(Start { job: candidate.job, reservation: call });
        }
        Check::Enough(dimension) => {
            let blocked = Blocked { reason: dimension.into(), ready_at: None };
            closed.insert(pool.name.clone(), blocked);
            plan.hold_back(candidate, blocked, false);
        }
        Check::Wait(blocked) => {
            let waits = waits_for(candidate, blocked, now);
            if waits {
                closed.insert(pool.name.clone(), blocked);
            }
            plan.hold_back(candidate, blocked, !waits);
        }
    }
}

/// Whether the whole pool waits for this candidate.
fn waits_for(candidate: &Candidate, blocked: Blocked, now: Timestamp) -> bool {
    let aged = candidate.passed_over_since.is_some_and(|since| now.since(since) >= PASSED_OVER_MAX);
    let soon = blocked.ready_at.is_some_and(|at| at.since(now) <= PATIENCE);
    match blocked.reason {
        // Another call may be cheap enough, and nothing that is held back for others helps.
        Reason::Budget => false,
        Reason::Requests | Reason::InputTokens | Reason::OutputTokens | Reason::Tokens => {
            soon || aged
        }
        // Whatever stops this one stops all the others of the pool.
        _ => true,
    }
}

impl Plan {
    fn hold_back(&mut self, candidate: &Candidate, blocked: Blocked, passed_over: bool) {
        self.waits.push(Wait { job: candidate.job, reason: blocked.reason, passed_over });
        *self.held_back.entry(blocked.reason).or_insert(0) += 1;
        self.first_held.get_or_insert(blocked.reason);
        if let Some(at) = blocked.ready_at {
            self.wake_at = Some(self.wake_at.map_or(at, |wake| wake.min(at)));
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
