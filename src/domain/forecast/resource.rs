//! What jobs need to start: limits, calls in flight, budgets; of each there is so much.

use super::share::Use;
use super::{BudgetState, Class, LimitState, Scene, Stock};
use crate::domain::limit::{Dimension, OutputMode};
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use std::collections::VecDeque;

/// More than any budget has.
const NEVER: f64 = 1e30;

/// Something of which there is so much. Times are milliseconds from the scene's now.
pub(super) struct Resource {
    pub(super) reason: Reason,
    pub(super) kind: Kind,
    /// The budget it is.
    pub(super) budget: Option<usize>,
}

/// How it comes back.
pub(super) enum Kind {
    /// Continuously.
    Bucket { level: f64, capacity: f64, per_ms: f64 },
    /// When it is a period old.
    Window { limit: f64, period: f64, leaving: VecDeque<(f64, f64)> },
    /// When a call ends.
    Slots { most: f64 },
    /// When the budget's next period begins.
    Wall { cap: f64, spent: f64, ends: VecDeque<f64> },
}

/// Every resource, and who needs which.
pub(super) struct Pipes {
    pub(super) resources: Vec<Resource>,
    /// By pool.
    limits: Vec<Vec<(Dimension, usize)>>,
    /// By queue.
    bounds: Vec<Option<usize>>,
    /// By budget.
    walls: Vec<usize>,
}

impl Pipes {
    pub(super) fn new(scene: &Scene) -> Pipes {
        let slots = |most: u32| Resource {
            reason: Reason::Concurrency,
            kind: Kind::Slots { most: f64::from(most) },
            budget: None,
        };
        let mut resources = vec![slots(scene.max_in_flight)];
        let mut add = |resource: Resource| {
            resources.push(resource);
            resources.len() - 1
        };
        let limits = scene.pools.iter().map(|pool| {
            let limits = pool.limits.iter();
            limits.map(|one| (one.dimension, add(Resource::limit(one, scene.now)))).collect()
        });
        let limits = limits.collect();
        let bounds =
            scene.queues.iter().map(|queue| queue.max_in_flight.map(|most| add(slots(most))));
        let bounds = bounds.collect();
        let walls = scene.budgets.iter().enumerate();
        let walls = walls.map(|(at, budget)| add(Resource::wall(at, budget, scene.now))).collect();
        Pipes { resources, limits, bounds, walls }
    }

    /// What a job of a class takes of which resource.
    pub(super) fn uses(&self, scene: &Scene, class: &Class) -> Vec<Use> {
        let slot = |at| Use { at, take: 0.0, hold: 1.0, late: 0.0 };
        let mut uses = vec![slot(0)];
        let mode = scene.pools[class.pool].mode;
        let limits = self.limits[class.pool].iter();
        uses.extend(limits.map(|(dimension, at)| of_limit(class, *dimension, mode, *at)));
        uses.extend(self.bounds[class.queue].map(slot));
        let queue = &scene.queues[class.queue].name;
        for (at, budget) in self.walls.iter().zip(&scene.budgets) {
            if budget.queue.as_ref().is_none_or(|own| own == queue) {
                uses.extend(of_budget(class, budget, *at));
            }
        }
        uses
    }
}

impl Resource {
    fn limit(limit: &LimitState, now: Timestamp) -> Resource {
        let kind = match &limit.stock {
            Stock::Bucket { level, capacity, per_ms } => {
                Kind::Bucket { level: *level, capacity: *capacity, per_ms: *per_ms }
            }
            Stock::Window { limit, period, leaving } => Kind::Window {
                limit: *limit,
                period: real(period.0),
                leaving: leaving.iter().map(|(at, amount)| (after(*at, now), *amount)).collect(),
            },
        };
        Resource { reason: limit.dimension.into(), kind, budget: None }
    }

    fn wall(at: usize, budget: &BudgetState, now: Timestamp) -> Resource {
        let ends = budget.ends.iter().map(|end| after(*end, now)).collect();
        let kind = Kind::Wall { cap: budget.cap, spent: budget.spent, ends };
        Resource { reason: Reason::Budget, kind, budget: Some(at) }
    }

    /// About how long it needs for so much, and for calls that are out so long together.
    pub(super) fn rough_length(&self, taken: f64, busy: f64) -> f64 {
        match &self.kind {
            Kind::Bucket { level, per_ms, .. } => (taken - level) / per_ms.max(1e-12),
            Kind::Window { limit, period, .. } => taken / limit.max(1.0) * period,
            Kind::Slots { most } => busy / most.max(1.0),
            Kind::Wall { cap, ends, .. } => match (ends.front(), ends.get(1)) {
                (Some(first), Some(second)) => taken / cap.max(1.0) * (second - first),
                _ => 0.0,
            },
        }
    }

    /// What there is of it within the next `dt`, calls in flight not taken off; `credit` is how
    /// long before it is there it may be started on.
    pub(super) fn room(&self, now: f64, dt: f64, credit: f64) -> f64 {
        match &self.kind {
            Kind::Bucket { level, per_ms, .. } => {
                level + per_ms * (dt + if credit.is_finite() { credit } else { 0.0 })
            }
            Kind::Window { limit, period, leaving } => {
                let stays = leaving.iter().filter(|(at, _)| *at > now + dt);
                let used: f64 = stays.map(|(_, amount)| amount).sum();
                (limit - used).max(limit * (dt / period).floor())
            }
            Kind::Slots { most } => *most,
            Kind::Wall { cap, spent, .. } => cap - spent,
        }
    }

    /// A step of `dt` ends at `now`, in which so much was taken; calls in flight hold so much more.
    pub(super) fn advance(&mut self, now: f64, dt: f64, taken: f64, held: f64) {
        match &mut self.kind {
            Kind::Bucket { level, capacity, per_ms } => {
                *level = (*level + *per_ms * dt - taken).min(*capacity + held);
            }
            Kind::Window { period, leaving, .. } => {
                if taken > 0.0 {
                    // It counts from its headers on; what ends later was started before.
                    leaving.push_back((now + *period, taken));
                }
                while leaving.front().is_some_and(|(at, _)| *at <= now) {
                    leaving.pop_front();
                }
            }
            Kind::Slots { .. } => {}
            Kind::Wall { spent, ends, .. } => {
                *spent += taken;
                while ends.front().is_some_and(|end| *end <= now) {
                    ends.pop_front();
                    *spent = 0.0;
                }
            }
        }
    }
}

fn of_limit(class: &Class, dimension: Dimension, mode: OutputMode, at: usize) -> Use {
    let call = &class.call;
    let unused = (call.max_tokens - call.output_tokens).max(0.0);
    let (hold, late) = match mode {
        OutputMode::Reserve => (unused, 0.0),
        OutputMode::Realtime => (0.0, 1.0),
    };
    match dimension {
        Dimension::Requests => Use { at, take: 1.0, hold: 0.0, late: 0.0 },
        Dimension::InputTokens => Use { at, take: call.input_tokens, hold: 0.0, late: 0.0 },
        Dimension::OutputTokens => Use { at, take: call.output_tokens, hold, late },
        Dimension::Tokens => {
            let late = late * call.output_tokens / call.tokens().max(1.0);
            Use { at, take: call.tokens(), hold, late }
        }
    }
}

/// `None`: the budget lets it pass uncounted.
fn of_budget(class: &Class, budget: &BudgetState, at: usize) -> Option<Use> {
    let call = &class.call;
    let (take, worst) = match (budget.in_usd, call.nanousd, call.worst_nanousd) {
        (false, _, _) => (call.tokens(), call.worst_tokens),
        (true, Some(cost), Some(worst)) => (cost, worst),
        (true, _, _) if budget.allow_unbounded => return None,
        // Sent before the budget stood there.
        (true, _, _) if class.jobs <= 0.0 => return None,
        (true, _, _) => (0.0, NEVER),
    };
    Some(Use { at, take, hold: (worst - take).max(0.0), late: 0.0 })
}

fn after(at: Timestamp, now: Timestamp) -> f64 {
    real(at.0.saturating_sub(now.0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a forecast may round; spans and amounts are kept exactly elsewhere"
)]
pub(super) fn real(number: i64) -> f64 {
    number as f64
}
