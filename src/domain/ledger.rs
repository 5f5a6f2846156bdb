//! The ledger in memory: every pool's limits, every budget, and the gates before them.
//!
//! Invariant: it is derived from the `attempts` rows and their snapshots; whatever it says was
//! committed first. A change is made on a copy, and the copy takes its place after the commit.

use super::attempt::{FailureKind, Outcome, Progress, Reply};
use super::budget::{Budget, Wall};
use super::estimate::{Estimator, Lesson};
use super::gate::{Closed, Gate, Passage};
use super::job::JobId;
use super::limit::{Algorithm, Dimension, LimitSource, LimitSpec, Per, PoolName, PoolSpec};
use super::pool::{Level, Meter, Pool};
use super::production::{Flow, Prospect};
use super::reason::Reason;
use super::reservation::{Amounts, Reservation, Settlement};
use super::time::{Millis, Timestamp, Unit};
use std::sync::Arc;

/// Why a call may not go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What holds it back.
    pub reason: Reason,
    /// When it is worth another look; `None`: when some call ends or somebody acts.
    pub ready_at: Option<Timestamp>,
}

/// The answer to "may this call go now?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Yes.
    Go,
    /// Not now, nor any other of its pool: enough calls are in flight for what this limit lets
    /// through.
    Enough(Dimension),
    /// Not now.
    Wait(Blocked),
    /// A budget stands before it and nobody can say what it costs: a person must decide.
    Unbounded,
}

/// Every limit and every budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// In the order in which they are matched.
    pub pools: Vec<Pool>,
    /// Each a wall.
    pub budgets: Vec<Budget>,
    /// Closed by spend limits and rejected keys: stops every call.
    pub account: Gate,
    /// How large calls are.
    pub sizes: Estimator,
}

impl Ledger {
    /// Untouched limits; budgets come with their sums.
    pub fn new(pools: Vec<PoolSpec>, budgets: Vec<Budget>, now: Timestamp) -> Ledger {
        let pools = pools.into_iter().map(|spec| Pool::new(spec, now)).collect();
        Ledger { pools, budgets, account: Gate::default(), sizes: Estimator::default() }
    }

    /// Takes over new limits and budgets. A limit that is the same keeps its level; one that
    /// changed lacks what the old one lacked. `open` are the calls in flight.
    pub fn reconfigure(
        &mut self,
        pools: Vec<PoolSpec>,
        budgets: Vec<Budget>,
        open: &[(JobId, &Reservation)],
        now: Timestamp,
    ) {
        let mut fresh = Ledger::new(pools, budgets, now);
        for (_, call) in open {
            for budget in fresh.budgets.iter_mut().filter(|one| one.spec.covers(&call.queue)) {
                budget.adopt(&call.worst, call.reserved_at);
            }
        }
        for pool in &mut fresh.pools {
            let old = self.pools.iter().find(|old| old.spec.name == pool.spec.name);
            if let Some(old) = old {
                pool.inherit(old, now);
            }
            let calls = open.iter().filter(|(_, call)| call.pool == pool.spec.name);
            pool.in_flight = u32::try_from(calls.clone().count()).unwrap_or(u32::MAX);
            for meter in &mut pool.meters {
                let known =
                    old.is_some_and(|old| old.meters.iter().any(|one| one.continues(meter)));
                if !known {
                    calls.clone().for_each(|(_, call)| meter.adopt(call));
                }
            }
        }
        fresh.sizes = std::mem::take(&mut self.sizes);
        fresh.account = self.account.clone();
        *self = fresh;
    }

    /// The pool of a model; a model nobody knows gets one of its own.
    pub fn pool_of(&mut self, model: &str, now: Timestamp) -> Arc<PoolSpec> {
        if let Some(pool) = self.pools.iter().find(|pool| pool.spec.covers(model)) {
            return Arc::clone(&pool.spec);
        }
        let spec = PoolSpec {
            name: PoolName(model.into()),
            models: vec![model.to_owned()],
            limits: Vec::new(),
            output_mode: super::limit::OutputMode::Realtime,
        };
        let pool = Pool::new(spec, now);
        let spec = Arc::clone(&pool.spec);
        self.pools.push(pool);
        spec
    }

    /// Whether a call may go now, and if not, what holds it back for longest.
    pub fn check(&self, call: &Reservation, unbounded: bool, now: Timestamp) -> Check {
        if let Some(blocked) = shut(&self.account, now) {
            return Check::Wait(blocked);
        }
        for budget in self.budgets.iter().filter(|budget| budget.spec.covers(&call.queue)) {
            match budget.admits(&call.worst, unbounded, now) {
                Ok(()) => {}
                Err(Wall::Unbounded) => return Check::Unbounded,
                Err(Wall::Full { until }) => {
                    let ready_at = (until.0 < i64::MAX).then_some(until);
                    return Check::Wait(Blocked { reason: Reason::Budget, ready_at });
                }
            }
        }
        let Some(pool) = self.pools.iter().find(|pool| pool.spec.name == call.pool) else {
            return Check::Go;
        };
        if let Some(blocked) = shut(&pool.gate, now) {
            return Check::Wait(blocked);
        }
        if pool.is_unknown() && pool.in_flight >= pool.trust {
            return Check::Wait(Blocked { reason: Reason::Concurrency, ready_at: None });
        }
        let ramp = pool.ramp.wait(now);
        if ramp > Millis::ZERO {
            let ready_at = Some(now + ramp);
            return Check::Wait(Blocked { reason: Reason::Provider, ready_at });
        }
        if let Some(dimension) = pool.has_enough(now) {
            return Check::Enough(dimension);
        }
        let prospect = self.sizes.prospect(&call.queue, &call.model);
        let outlook = Flow::new(call, prospect).outlook(now);
        let waits = pool
            .meters
            .iter()
            .map(|meter| (pool.wait(meter, call, &outlook, now), meter.spec.dimension));
        let length = |wait: &Option<Millis>| wait.unwrap_or(Millis(i64::MAX));
        let longest = waits
            .filter(|(wait, _)| *wait != Some(Millis::ZERO))
            .max_by_key(|(wait, _)| length(wait));
        match longest {
            None => Check::Go,
            Some((wait, dimension)) => Check::Wait(Blocked {
                reason: dimension.into(),
                ready_at: wait.map(|wait| now + wait),
            }),
        }
    }

    /// Whether a pool has a rolling window of a minute: what went at once leaves at once.
    pub fn comes_in_waves(&self, pool: &PoolName) -> bool {
        let pool = self.pools.iter().find(|one| one.spec.name == *pool);
        let mut meters = pool.iter().flat_map(|pool| &pool.meters);
        meters
            .any(|meter| meter.spec.per == Per::Minute && meter.spec.algorithm == Algorithm::Window)
    }

    /// How long the limits of a pool need for so much, when nothing is stored up.
    pub fn time_for(&self, pool: &PoolName, amounts: &Amounts) -> Millis {
        let pool = self.pools.iter().find(|one| one.spec.name == *pool);
        let spans = pool.iter().flat_map(|pool| &pool.meters).map(|meter| {
            let LimitSpec { dimension, per, amount, .. } = meter.spec;
            Millis(amounts.of(dimension).saturating_mul(per.span().0) / amount.max(1))
        });
        spans.max().unwrap_or(Millis::ZERO)
    }

    /// Takes a call's reservation.
    pub fn reserve(&mut self, job: JobId, call: &Reservation) {
        let now = call.reserved_at;
        if self.account.passage(now) == Passage::Probe {
            self.account.passed(now);
        }
        for budget in self.budgets.iter_mut().filter(|budget| budget.spec.covers(&call.queue)) {
            budget.reserve(&call.worst, now);
        }
        self.sizes.begin(job, call);
        let flow = Flow::new(call, self.sizes.prospect(&call.queue, &call.model));
        let Some(pool) = self.pool_mut(&call.pool) else {
            return;
        };
        if pool.gate.passage(now) == Passage::Probe {
            pool.gate.passed(now);
        }
        pool.reserve(job, call, flow, now);
    }

    /// Enters a reservation of an earlier daemon that restored levels do not show as in flight.
    pub fn adopt(&mut self, job: JobId, call: &Reservation, now: Timestamp) {
        for budget in self.budgets.iter_mut().filter(|budget| budget.spec.covers(&call.queue)) {
            budget.adopt(&call.worst, call.reserved_at);
        }
        let Some(pool) = self.pool_mut(&call.pool) else {
            return;
        };
        pool.adopt(job, call, Flow::new(call, Prospect::default()), now);
    }

    /// A call is over: what its headers say, its settlement, and what its end means.
    ///
    /// In this order: headers are compared with the level while the call still counts as in flight,
    /// and a limit that refused it stays empty although the call gives its own part back.
    pub fn end(
        &mut self,
        job: JobId,
        call: &Reservation,
        reply: &Reply,
        settlement: &Settlement,
        jitter: Unit,
        now: Timestamp,
    ) {
        if let Some(pool) = self.pool_mut(&call.pool) {
            pool.observe(job, &reply.limits, now);
        }
        self.settle(job, call, settlement, now);
        self.learn(call, reply, jitter, now);
    }

    /// Ends a call's reservation.
    pub fn settle(&mut self, job: JobId, call: &Reservation, end: &Settlement, now: Timestamp) {
        for budget in self.budgets.iter_mut().filter(|budget| budget.spec.covers(&call.queue)) {
            budget.settle(&call.worst, call.reserved_at, end.nanousd, end.tokens);
        }
        if let Some(pool) = self.pool_mut(&call.pool) {
            pool.settle(job, call, end, now);
        }
    }

    /// Learns how large a call was, of which there may be an answer to learn from.
    pub fn learn_size(
        &mut self,
        job: JobId,
        call: &Reservation,
        lesson: Option<&Lesson>,
        now: Timestamp,
    ) {
        self.sizes.end(job, call, lesson, now);
    }

    /// Streams show how far their answers are, and the headers before them what is left.
    pub fn see(&mut self, progress: &[(JobId, Progress)], now: Timestamp) {
        for (job, progress) in progress {
            let pool = self.pools.iter_mut().find(|pool| pool.production.has(*job));
            if let Some(pool) = pool {
                pool.production.see(*job, progress, |model| self.sizes.pace(model), now);
                pool.observe(*job, &progress.limits, now);
            }
        }
    }

    /// Takes off what was written until now, and looks ahead with what is known now.
    pub fn foresee(&mut self, now: Timestamp) {
        for pool in &mut self.pools {
            pool.advance(now);
            pool.production.foresee(now, |queue, model| self.sizes.prospect(queue, model));
        }
    }

    /// What a reply says about the provider, the account and the pool, beside its cost.
    fn learn(&mut self, call: &Reservation, reply: &Reply, jitter: Unit, now: Timestamp) {
        let sent_at = call.reserved_at;
        self.learn_account(reply, sent_at, now);
        let Some(pool) = self.pool_mut(&call.pool) else {
            return;
        };
        match &reply.outcome {
            Outcome::Completed(_) => {
                pool.trust = pool.trust.saturating_add(1);
                pool.gate.succeeded(sent_at, now);
            }
            Outcome::Unknown(failure) => match failure.kind {
                // Broken off by us, or answered at too great a length: no news of the provider.
                FailureKind::Interrupted => pool.gate.probe_lost(sent_at),
                FailureKind::Permanent => pool.gate.succeeded(sent_at, now),
                _ => pool.gate.failed(sent_at, jitter, now),
            },
            Outcome::Failed(failure) => match &failure.kind {
                FailureKind::RateLimited { retry_after, limit, ramp } => {
                    pool.refused(*limit, *ramp, sent_at, now);
                    pool.gate.rate_limited(*retry_after, jitter, now);
                }
                FailureKind::Overloaded { .. } | FailureKind::Transient { .. } => {
                    pool.gate.failed(sent_at, jitter, now);
                }
                FailureKind::Permanent => pool.gate.succeeded(sent_at, now),
                FailureKind::NotReached => pool.gate.not_reached(sent_at, jitter, now),
                FailureKind::AccountParked { .. }
                | FailureKind::KeyRejected
                | FailureKind::Interrupted => pool.gate.probe_lost(sent_at),
            },
        }
    }

    fn learn_account(&mut self, reply: &Reply, sent_at: Timestamp, now: Timestamp) {
        match &reply.outcome {
            Outcome::Failed(failure) => match &failure.kind {
                FailureKind::AccountParked { until } => {
                    let until = until.unwrap_or(now + Millis::HOUR);
                    self.account.shut(Closed::Account, now, Some(until));
                }
                // A call sent with the old key says nothing about the new one.
                FailureKind::KeyRejected if self.account.was_opened_after(sent_at) => {}
                FailureKind::KeyRejected => self.account.shut(Closed::Key, now, None),
                FailureKind::Interrupted | FailureKind::NotReached => {
                    self.account.probe_lost(sent_at);
                }
                // Any other answer came from behind the account's door.
                _ if reply.http_status.is_some() => self.account.succeeded(sent_at, now),
                _ => self.account.probe_lost(sent_at),
            },
            Outcome::Completed(_) => self.account.succeeded(sent_at, now),
            Outcome::Unknown(_) => self.account.probe_lost(sent_at),
        }
    }

    /// Widens unknown bursts after a quiet while.
    pub fn tick(&mut self, now: Timestamp) {
        for meter in self.pools.iter_mut().flat_map(|pool| &mut pool.meters) {
            if let Level::Bucket(bucket) = &mut meter.level {
                bucket.widen(now);
            }
        }
    }

    /// The gate of a pool.
    pub fn gate(&self, name: &PoolName) -> Option<&Gate> {
        self.pools.iter().find(|pool| pool.spec.name == *name).map(|pool| &pool.gate)
    }

    fn pool_mut(&mut self, name: &PoolName) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.spec.name == *name)
    }
}

fn shut(gate: &Gate, now: Timestamp) -> Option<Blocked> {
    match gate.passage(now) {
        Passage::Open | Passage::Probe => None,
        Passage::Shut { until, why } => Some(Blocked { reason: why.into(), ready_at: until }),
    }
}

/// A settled call from the durable ledger, for windows that outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past<'a> {
    /// What was asked.
    pub model: &'a str,
    /// What counted.
    pub amounts: Amounts,
    /// When.
    pub counted_at: Timestamp,
}

impl Ledger {
    /// Gives a pool without limits of its own those that were learned before.
    pub fn restore_learned(&mut self, pool: &str, spec: LimitSpec, now: Timestamp) {
        if let Some(pool) = self.pools.iter_mut().find(|one| &*one.spec.name.0 == pool) {
            let own = pool.spec.limits.iter().any(|limit| limit.source != LimitSource::Headers);
            if !own {
                Arc::make_mut(&mut pool.spec).limits.push(spec);
                pool.meters.push(Meter::new(spec, now));
            }
        }
    }

    /// The meter of a limit.
    pub fn meter_mut(&mut self, pool: &str, dimension: Dimension, per: Per) -> Option<&mut Meter> {
        let pool = self.pools.iter_mut().find(|one| &*one.spec.name.0 == pool)?;
        pool.meters
            .iter_mut()
            .find(|meter| meter.spec.dimension == dimension && meter.spec.per == per)
    }

    /// Enters settled calls into the windows that still count them, and into buckets that
    /// nobody has a level of: those begin as if they had been full a minute ago.
    pub fn remember(
        &mut self,
        past: Past<'_>,
        restored: impl Fn(&Pool, &Meter) -> bool,
        now: Timestamp,
    ) {
        let Some(at) = self.pools.iter().position(|pool| pool.spec.covers(past.model)) else {
            return;
        };
        let known: Vec<bool> =
            self.pools[at].meters.iter().map(|meter| restored(&self.pools[at], meter)).collect();
        for (meter, known) in self.pools[at].meters.iter_mut().zip(known) {
            if now.since(past.counted_at) >= meter.spec.per.span() {
                continue;
            }
            let amount = past.amounts.of(meter.spec.dimension);
            match &mut meter.level {
                Level::Window(window) => window.record(amount, past.counted_at),
                Level::Bucket(bucket) if !known => bucket.settle(0, amount, now),
                Level::Bucket(_) => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
