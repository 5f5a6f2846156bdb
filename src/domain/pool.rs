//! A pool: its limits and how full each is, its gate, and what headers teach about both.

use super::attempt::ObservedLimit;
use super::bucket::Bucket;
use super::gate::Gate;
use super::limit::{Algorithm, Dimension, LimitSource, LimitSpec, Per, PoolSpec};
use super::reservation::Reservation;
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

    /// Sets aside again for a call in flight.
    pub(super) fn adopt(&mut self, call: &Reservation) {
        let charge = call.expected.charge(self.spec.dimension, call.mode);
        match &mut self.level {
            Level::Bucket(bucket) => bucket.adopt(charge),
            Level::Window(window) => window.reserve(charge, call.reserved_at),
        }
    }

    /// As for buckets and windows: `None` when a call in flight must end first.
    pub(super) fn wait(&self, amount: i64, now: Timestamp) -> Option<Millis> {
        match &self.level {
            Level::Bucket(bucket) => bucket.wait(amount, now),
            Level::Window(window) => window.wait(amount, now),
        }
    }
}

/// A pool, its meters and its gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// As configured, shipped or learned.
    pub spec: Arc<PoolSpec>,
    /// One for each limit.
    pub meters: Vec<Meter>,
    /// Closed by pauses and the breaker.
    pub gate: Gate,
    /// Calls out now.
    pub in_flight: u32,
    /// While no limit is known: how many calls may be out; grows by one with each success.
    pub(super) trust: u32,
}

impl Pool {
    pub(super) fn new(spec: PoolSpec, now: Timestamp) -> Pool {
        let meters = spec.limits.iter().map(|limit| Meter::new(*limit, now)).collect();
        Pool { spec: Arc::new(spec), meters, gate: Gate::default(), in_flight: 0, trust: 1 }
    }

    /// Takes over gate and levels from what this pool was before.
    pub(super) fn inherit(&mut self, old: &Pool, now: Timestamp) {
        self.gate = old.gate.clone();
        self.trust = old.trust;
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
    }

    /// Whether its limits are still to be taken from headers.
    pub fn is_unknown(&self) -> bool {
        self.meters.is_empty()
    }
}

impl Pool {
    /// Takes limits from headers where none are known; lowers levels where others use the key.
    pub(super) fn observe(&mut self, seen: &[ObservedLimit], now: Timestamp) {
        if self.spec.limits.iter().all(|limit| limit.source == LimitSource::Headers) {
            self.adopt_limits(seen, now);
        }
        for limit in seen {
            let Some(remaining) = limit.remaining else {
                continue;
            };
            for meter in &mut self.meters {
                let same = meter.spec.dimension == limit.dimension && meter.spec.per == Per::Minute;
                if let (true, Level::Bucket(bucket)) = (same, &mut meter.level) {
                    // Token counts are rounded to thousands; and the headers are as old as the
                    // way they came.
                    let rounding = if limit.dimension == Dimension::Requests { 1 } else { 500 };
                    let tolerance = rounding.max(bucket.capacity() / 50);
                    bucket.correct(remaining, tolerance, now);
                }
            }
        }
    }

    /// Takes over limits that are new, and those that the provider has changed since.
    ///
    /// `tokens` is only a sum when both halves are there, so it is not a limit of its own then.
    pub(super) fn adopt_limits(&mut self, seen: &[ObservedLimit], now: Timestamp) {
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
            let mut fresh = Meter::new(spec, now);
            match self.meters.iter_mut().find(|meter| meter.is_same(&fresh)) {
                Some(known) if known.spec.amount == spec.amount => {}
                Some(known) => {
                    if let (Level::Bucket(new), Level::Bucket(old)) =
                        (&mut fresh.level, &known.level)
                    {
                        new.inherit(old, now);
                    }
                    *known = fresh;
                }
                None => self.meters.push(fresh),
            }
        }
        let limits: Vec<LimitSpec> = self.meters.iter().map(|meter| meter.spec).collect();
        if self.spec.limits != limits {
            Arc::make_mut(&mut self.spec).limits = limits;
        }
    }

    /// A 429: the limit it named is empty. When it named none, all are, as far as we know.
    pub(super) fn refused(&mut self, named: Option<Dimension>, ramp: bool, now: Timestamp) {
        if ramp {
            return;
        }
        for meter in &mut self.meters {
            let meant = named.is_none_or(|dimension| dimension == meter.spec.dimension);
            // A 429's pause is minutes at most: a day's limit is not judged by it.
            if meant && meter.spec.per == Per::Minute {
                match &mut meter.level {
                    Level::Bucket(bucket) => bucket.empty(now),
                    Level::Window(window) => window.empty(now),
                }
            }
        }
    }
}
