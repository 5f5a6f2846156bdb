//! A pool: its limits and how full each is, its gate, and what headers teach about both.

use super::attempt::ObservedLimit;
use super::bucket::{Bucket, Reading};
use super::gate::Gate;
use super::job::JobId;
use super::limit::{Algorithm, Dimension, LimitSource, LimitSpec, OutputMode, Per, PoolSpec};
use super::need::Need;
use super::production::{Flow, Outlook, Production};
use super::ramp::Ramp;
use super::reservation::{Reservation, Settlement, SettlementKind};
use super::size::FRESH;
use super::time::{Millis, Timestamp};
use super::window::Window;
use std::sync::Arc;

/// One limit and its level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The limit.
    pub spec: LimitSpec,
    /// How full it is.
    pub level: Level,
}

/// The level of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// Continuous refill.
    Bucket(Bucket),
    /// Rolling.
    Window(Window),
}

impl Meter {
    /// An untouched limit.
    pub fn new(spec: LimitSpec, now: Timestamp) -> Meter {
        let level = match (spec.per, spec.algorithm) {
            (Per::Minute, Algorithm::Bucket { burst }) => {
                Level::Bucket(Bucket::full(spec.amount, Millis::MINUTE, burst, now))
            }
            (Per::Minute, Algorithm::Window) => {
                Level::Window(Window::exact(spec.amount, Millis::MINUTE))
            }
            (per, _) => Level::Window(Window::slotted(spec.amount, per.span())),
        };
        Meter { spec, level }
    }

    /// What is free at `now`; negative in debt.
    pub fn available(&self, now: Timestamp) -> i64 {
        match &self.level {
            Level::Bucket(bucket) => bucket.available(now),
            Level::Window(window) => window.available(now),
        }
    }

    /// What fits at all.
    pub fn capacity(&self) -> i64 {
        match &self.level {
            Level::Bucket(bucket) => bucket.capacity(),
            Level::Window(window) => window.capacity(),
        }
    }

    /// The same thing counted over the same period.
    pub(super) fn is_same(&self, other: &Meter) -> bool {
        (self.spec.dimension, self.spec.per) == (other.spec.dimension, other.spec.per)
    }

    /// Whether another meter of the same thing goes on with this one's level.
    pub(super) fn continues(&self, other: &Meter) -> bool {
        let alike = matches!(
            (&self.level, &other.level),
            (Level::Bucket(_), Level::Bucket(_)) | (Level::Window(_), Level::Window(_))
        );
        self.is_same(other) && alike
    }

    /// The provider said that the limit is less than was stated.
    pub fn lower(&mut self, amount: i64, now: Timestamp) {
        if 0 < amount && amount < self.spec.amount {
            self.become_limit(LimitSpec { amount, source: LimitSource::Headers, ..self.spec }, now);
        }
    }

    /// The limit is another one by the provider's word; what is left of it stays.
    fn become_limit(&mut self, spec: LimitSpec, now: Timestamp) {
        if self.spec.amount != spec.amount {
            match &mut self.level {
                Level::Bucket(bucket) => bucket.set_rate(spec.amount, now),
                Level::Window(window) => *window = window.under(spec.amount),
            }
            self.spec = spec;
        }
    }

    /// Takes what a call takes.
    fn reserve(&mut self, call: &Reservation, now: Timestamp) {
        let debit = call.expected.debit(self.spec.dimension, call.mode);
        match &mut self.level {
            Level::Bucket(bucket) => bucket.reserve(debit, now),
            Level::Window(window) => window.reserve(debit, now),
        }
    }

    /// Sets aside again for a call in flight, whose debit is off the level already.
    pub(super) fn adopt(&mut self, call: &Reservation) {
        if let Level::Window(window) = &mut self.level {
            let debit = call.expected.debit(self.spec.dimension, call.mode);
            window.reserve(debit, call.reserved_at);
        }
    }

    /// Ends a call; `written` of its output is off the level already.
    fn settle(&mut self, call: &Reservation, end: &Settlement, written: i64, now: Timestamp) {
        let debit = call.expected.debit(self.spec.dimension, call.mode);
        let actual = end.amounts.of(self.spec.dimension);
        let with_output =
            matches!(self.spec.dimension, Dimension::OutputTokens | Dimension::Tokens);
        let counted_at = if with_output { end.counted_at } else { end.taken_in_at };
        let written = if self.counts_output(call.mode) { written } else { 0 };
        match &mut self.level {
            Level::Bucket(bucket) => bucket.settle(debit + written, actual, now),
            Level::Window(window) => window.settle(debit, actual, counted_at, now),
        }
    }

    /// Whether nothing is missing from it.
    fn is_untouched(&self, now: Timestamp) -> bool {
        match &self.level {
            Level::Bucket(bucket) => bucket.is_full(now),
            Level::Window(window) => window.is_empty(now),
        }
    }

    /// Whether output moves it while it is written.
    fn counts_output(&self, mode: OutputMode) -> bool {
        let output = matches!(self.spec.dimension, Dimension::OutputTokens | Dimension::Tokens);
        output && mode == OutputMode::Realtime
    }
}

/// A pool, its meters and its gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// As configured, shipped or learned.
    pub spec: Arc<PoolSpec>,
    /// One for each limit.
    pub meters: Vec<Meter>,
    /// Closed by pauses and the breaker.
    pub gate: Gate,
    /// Calls out now.
    pub in_flight: u32,
    /// What they write.
    pub production: Production,
    /// How many in flight are of use.
    pub need: Need,
    /// How fast calls may become more.
    pub ramp: Ramp,
    /// While no limit is known: how many calls may be out; grows by one with each success.
    pub(super) trust: u32,
    /// When a 429 was last taken for news.
    refused_at: Timestamp,
}

impl Pool {
    pub(super) fn new(spec: PoolSpec, now: Timestamp) -> Pool {
        let meters = spec.limits.iter().map(|limit| Meter::new(*limit, now)).collect();
        Pool {
            spec: Arc::new(spec),
            meters,
            gate: Gate::default(),
            in_flight: 0,
            production: Production::default(),
            need: Need::default(),
            ramp: Ramp::default(),
            trust: 1,
            refused_at: now,
        }
    }

    /// Takes over gate and levels from what this pool was before.
    pub(super) fn inherit(&mut self, old: &Pool, now: Timestamp) {
        self.gate = old.gate.clone();
        (self.trust, self.refused_at) = (old.trust, old.refused_at);
        self.production = old.production.clone();
        self.ramp = old.ramp.clone();
        self.need = old.need;
        if self.spec.limits.is_empty() {
            Arc::make_mut(&mut self.spec).limits.clone_from(&old.spec.limits);
            self.meters.clone_from(&old.meters);
        }
        for meter in &mut self.meters {
            let Some(before) = old.meters.iter().find(|before| before.is_same(meter)) else {
                continue;
            };
            match (&mut meter.level, &before.level) {
                (level, old) if before.spec == meter.spec => *level = old.clone(),
                (Level::Bucket(new), Level::Bucket(old)) => new.inherit(old, now),
                (Level::Window(new), Level::Window(old)) => *new = old.under(new.capacity()),
                // Another algorithm: the calls in flight are entered anew, the past is not known.
                _ => {}
            }
        }
        self.hold();
    }

    /// Takes a call's reservation.
    pub(super) fn reserve(&mut self, job: JobId, call: &Reservation, flow: Flow, now: Timestamp) {
        self.ramp.started(now);
        self.in_flight += 1;
        self.meters.iter_mut().for_each(|meter| meter.reserve(call, now));
        let marks = self.meters.iter().filter_map(|meter| match &meter.level {
            Level::Bucket(bucket) => Some((meter.spec.dimension, bucket.mark(now))),
            Level::Window(_) => None,
        });
        self.production.begin(job, flow.marked(marks.collect()), now);
        self.hold();
    }

    /// Enters a call that an earlier daemon, or an earlier configuration, has sent.
    pub(super) fn adopt(&mut self, job: JobId, call: &Reservation, flow: Flow, now: Timestamp) {
        self.in_flight += 1;
        self.meters.iter_mut().for_each(|meter| meter.adopt(call));
        self.production.begin(job, flow, now);
        self.hold();
    }

    /// Ends a call's reservation.
    pub(super) fn settle(
        &mut self,
        job: JobId,
        call: &Reservation,
        end: &Settlement,
        now: Timestamp,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if end.kind == SettlementKind::Actual {
            self.need.answered(&end.amounts, now.since(call.reserved_at));
        }
        self.advance(now);
        let written = self.production.end(job);
        self.meters.iter_mut().for_each(|meter| meter.settle(call, end, written, now));
        self.hold();
    }

    /// Takes off what was written since the last look.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let written = self.production.advance(now);
        let mode = self.spec.output_mode;
        for meter in self.meters.iter_mut().filter(|meter| meter.counts_output(mode)) {
            if let Level::Bucket(bucket) = &mut meter.level {
                written.iter().for_each(|draw| bucket.draw(*draw));
            }
        }
        self.hold();
    }

    fn hold(&mut self) {
        let (held, expected) = (self.production.held(), self.production.expected());
        let mode = self.spec.output_mode;
        for meter in self.meters.iter_mut().filter(|meter| meter.counts_output(mode)) {
            match &mut meter.level {
                Level::Bucket(bucket) => bucket.set_held(held),
                Level::Window(window) => window.set_held(expected),
            }
        }
    }

    /// How long a call must wait for a limit; `None` when a call in flight must end first.
    pub(super) fn wait(
        &self,
        meter: &Meter,
        call: &Reservation,
        outlook: &Outlook,
        now: Timestamp,
    ) -> Option<Millis> {
        let debit = call.expected.debit(meter.spec.dimension, call.mode);
        if !meter.counts_output(call.mode) {
            return match &meter.level {
                Level::Bucket(bucket) => Some(bucket.wait(debit, now)),
                Level::Window(window) => window.wait(debit, now),
            };
        }
        if let Level::Window(window) = &meter.level
            && meter.spec.per != Per::Minute
        {
            // Nothing worth foreseeing leaves an hour or a day while a call runs.
            return window.wait(call.expected.of(meter.spec.dimension), now);
        }
        // What would never fit goes alone, when nothing is missing.
        if meter.is_untouched(now) && self.production.is_idle() {
            return Some(Millis::ZERO);
        }
        let margin = self.production.margin();
        let together = self.production.outlook().plus(outlook);
        Some(match &meter.level {
            Level::Bucket(bucket) => bucket.wait(debit, now).max(bucket.wait_for_output(
                debit,
                &together.written,
                margin,
                now,
            )),
            Level::Window(window) => window.wait_for_output(debit, &together.finished, margin, now),
        })
    }

    /// The limit for which enough calls are in flight: a further one would be of no use.
    pub(super) fn has_enough(&self, now: Timestamp) -> Option<Dimension> {
        let (calls, dimension) = self.need.calls(&self.meters, now)?;
        (f64::from(self.in_flight) >= calls).then_some(dimension)
    }

    /// Tokens off a limit's level for calls that are not settled.
    pub fn taken_unsettled(&self, meter: &Meter) -> i64 {
        if meter.counts_output(self.spec.output_mode) { self.production.taken() } else { 0 }
    }

    /// Whether its limits are still to be taken from headers.
    pub fn is_unknown(&self) -> bool {
        self.meters.is_empty()
    }
}

impl Pool {
    /// Takes limits from headers where none are known; where others use the key, lowers levels
    /// and learns how much they use. `job` is the call whose headers these are.
    pub(super) fn observe(&mut self, job: JobId, seen: &[ObservedLimit], now: Timestamp) {
        if seen.is_empty() || !self.production.may_compare(job) {
            return;
        }
        self.advance(now);
        self.take_limits(seen, now);
        let doubt = self.production.doubt();
        let age = self.production.age(job, now);
        for limit in seen {
            let Some(remaining) = limit.remaining else {
                continue;
            };
            for meter in &mut self.meters {
                let output = meter.counts_output(self.spec.output_mode);
                let then = self.production.mark(job, meter.spec.dimension);
                let same = meter.spec.dimension == limit.dimension && meter.spec.per == Per::Minute;
                if let (true, Level::Bucket(bucket)) = (same, &mut meter.level) {
                    let reading = Reading {
                        remaining,
                        until_full: limit.until_full.filter(|_| age <= FRESH),
                        // Token counts are rounded to thousands.
                        rounding: if limit.dimension == Dimension::Requests { 1 } else { 500 },
                        unseen: if output { doubt } else { 0 },
                    };
                    bucket.correct(reading, then, now);
                }
            }
        }
    }

    /// Takes over limits that are new, and those that the provider has changed since. Limits that
    /// were stated are only lowered.
    ///
    /// `tokens` is only a sum when both halves are there, so it is not a limit of its own then.
    pub(super) fn take_limits(&mut self, seen: &[ObservedLimit], now: Timestamp) {
        let stated = self.spec.limits.iter().any(|limit| limit.source != LimitSource::Headers);
        let has = |dimension| seen.iter().any(|limit| limit.dimension == dimension);
        let halves = has(Dimension::InputTokens) && has(Dimension::OutputTokens);
        for limit in seen.iter().filter(|limit| limit.limit > 0) {
            if limit.dimension == Dimension::Tokens && halves {
                continue;
            }
            let spec = LimitSpec {
                dimension: limit.dimension,
                per: Per::Minute,
                amount: limit.limit,
                algorithm: Algorithm::Bucket { burst: None },
                source: LimitSource::Headers,
            };
            let same = |one: &LimitSpec| (one.dimension, one.per) == (spec.dimension, spec.per);
            let known = self.meters.iter_mut().find(|meter| same(&meter.spec));
            match (known, self.spec.limits.iter().find(|limit| same(limit))) {
                (Some(meter), Some(own)) if stated => {
                    let lower = LimitSpec { algorithm: own.algorithm, ..spec };
                    meter.become_limit(if lower.amount < own.amount { lower } else { *own }, now);
                }
                (Some(meter), _) => meter.become_limit(spec, now),
                (None, _) if stated => {}
                (None, _) => self.meters.push(Meter::new(spec, now)),
            }
        }
        if !stated {
            let limits: Vec<LimitSpec> = self.meters.iter().map(|meter| meter.spec).collect();
            if self.spec.limits != limits {
                Arc::make_mut(&mut self.spec).limits = limits;
            }
        }
    }

    /// A 429: the limit it named is empty. When it named none, all are, as far as we know.
    /// `sent_at` is when the refused call was sent: of many in flight each is refused, for one
    /// reason.
    pub(super) fn refused(
        &mut self,
        named: Option<Dimension>,
        ramp: bool,
        sent_at: Timestamp,
        now: Timestamp,
    ) {
        if sent_at >= self.refused_at {
            self.trust = (self.trust / 2).max(1);
            self.refused_at = now;
        }
        if ramp {
            return self.ramp.refused(sent_at, now);
        }
        for meter in &mut self.meters {
            let meant = named.is_none_or(|dimension| dimension == meter.spec.dimension);
            // A 429's pause is minutes at most: a day's limit is not judged by it.
            if meant && meter.spec.per == Per::Minute {
                match &mut meter.level {
                    Level::Bucket(bucket) => bucket.empty(sent_at, now),
                    Level::Window(window) => window.empty(now),
                }
            }
        }
    }
}
