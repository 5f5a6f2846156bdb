//! The scene of a forecast, made of a ledger and of jobs counted in groups.

use super::resource::real;
use super::{BudgetState, Call, Class, Closure, LimitState, PoolState, QueueState, Scene, Stock};
use crate::domain::attempt::Usage;
use crate::domain::budget::{Budget, Cap};
use crate::domain::estimate::Estimator;
use crate::domain::fairness::QueuePolicy;
use crate::domain::gate::Gate;
use crate::domain::ledger::Ledger;
use crate::domain::pace::Speed;
use crate::domain::pool::{Level, Meter, Pool};
use crate::domain::price;
use crate::domain::reservation::{CallSize, Reservation};
use crate::domain::time::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More classes than this are merged, the smallest first.
const CLASSES: usize = 256;
/// What is assumed of a model that nobody has called yet.
const SPEED: Speed = Speed { first_token: Millis::SECOND, tokens_per_second: 60.0 };

/// Unfinished jobs of one queue and one priority.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Their queue.
    pub queue: Arc<str>,
    /// Their priority.
    pub priority: i64,
    /// They become ready evenly between the two; `None`: they are.
    pub due: Option<(Timestamp, Timestamp)>,
    /// Whether they are in flight.
    pub in_flight: bool,
    /// How many.
    pub jobs: i64,
    /// What they are like; their weights say how many are like this.
    pub sizes: Vec<Size>,
}

/// What some jobs of a group are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// What they ask.
    pub model: Arc<str>,
    /// Bytes of a body.
    pub body_bytes: i64,
    /// Their `max_tokens`.
    pub max_tokens: i64,
    /// How many of the group's jobs, in whatever unit its sizes share.
    pub weight: f64,
}

/// What a scene is made of beside the jobs.
pub struct Sight<'a> {
    /// Now.
    pub now: Timestamp,
    /// Limits, budgets, what was learned.
    pub ledger: &'a Ledger,
    /// How a queue is to be treated.
    pub policy: &'a dyn Fn(&str) -> QueuePolicy,
    /// The ends of a budget's period and of those after it.
    pub ends: &'a dyn Fn(&Budget) -> Vec<Timestamp>,
    /// Calls that may be out at a time.
    pub max_in_flight: u32,
    /// What if all of them asked this model: sizes stay, limits and prices are this one's.
    pub as_model: Option<Arc<str>>,
}

impl Scene {
    /// Everything as it is now.
    pub fn new(sight: &Sight<'_>, groups: &[Group]) -> Scene {
        let now = sight.now;
        // A model that no pool covers gets one of its own, as it will when its first job starts.
        let mut ledger = sight.ledger.clone();
        ledger.foresee(now);
        let mut scene = Scene {
            now,
            max_in_flight: sight.max_in_flight,
            account: closure(&ledger.account, now),
            budgets: ledger.budgets.iter().map(|budget| wall(budget, sight)).collect(),
            ..Scene::default()
        };
        let mut queues: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for group in groups.iter().filter(|group| group.jobs > 0) {
            let queue = *queues.entry(Arc::clone(&group.queue)).or_insert_with(|| {
                scene.queues.push(queue_state(&group.queue, &(sight.policy)(&group.queue)));
                scene.queues.len() - 1
            });
            scene.classes.extend(classes(group, queue, &mut ledger, sight));
        }
        scene.pools = ledger.pools.iter().map(|pool| pool_state(pool, now)).collect();
        scene.merge();
        scene
    }

    /// Keeps the work bounded where there are very many small queues.
    fn merge(&mut self) {
        if self.classes.len() <= CLASSES {
            return;
        }
        self.classes.sort_by(|one, other| other.all().total_cmp(&one.all()));
        let mut merged: BTreeMap<(usize, i64, bool, bool), Class> = BTreeMap::new();
        for class in self.classes.split_off(CLASSES / 2) {
            let paused = self.queues[class.queue].paused;
            let key = (class.pool, class.priority, class.due.is_some(), paused);
            match merged.get_mut(&key) {
                Some(sum) => sum.absorb(&class),
                None => drop(merged.insert(key, class)),
            }
        }
        for class in merged.into_values() {
            // A queue of its own: bounds of the small ones hardly matter together.
            let old = &self.queues[class.queue];
            let name = Arc::from("");
            let joint = QueueState { name, weight: 1.0, max_in_flight: None, paused: old.paused };
            self.queues.push(joint);
            self.classes.push(Class { queue: self.queues.len() - 1, ..class });
        }
    }
}

impl Class {
    fn absorb(&mut self, other: &Class) {
        let (own, theirs) = (self.all(), other.all());
        self.call = mean(&[(self.call, own), (other.call, theirs)]);
        self.jobs += other.jobs;
        self.in_flight += other.in_flight;
        if let (Some((from, to)), Some((other_from, other_to))) = (&mut self.due, other.due) {
            (*from, *to) = ((*from).min(other_from), (*to).max(other_to));
        }
    }
}

/// One class for each model of a group.
fn classes(group: &Group, queue: usize, ledger: &mut Ledger, sight: &Sight<'_>) -> Vec<Class> {
    let all: f64 = group.sizes.iter().map(|size| size.weight).sum();
    let mut by_model: BTreeMap<&Arc<str>, Vec<&Size>> = BTreeMap::new();
    for size in group.sizes.iter().filter(|size| size.weight > 0.0) {
        by_model.entry(&size.model).or_default().push(size);
    }
    let mut classes = Vec::with_capacity(by_model.len());
    for (model, sizes) in by_model {
        let asked = sight.as_model.as_ref().unwrap_or(model);
        let spec = ledger.pool_of(asked, sight.now);
        let pool = ledger.pools.iter().position(|pool| pool.spec.name == spec.name).unwrap_or(0);
        let of = |size: &&Size| {
            let call = CallSize {
                body_bytes: size.body_bytes,
                max_tokens: size.max_tokens,
                expected_input: ledger.sizes.input_tokens(&group.queue, model, size.body_bytes),
                expected_output: ledger.sizes.output_tokens(&group.queue, model, size.max_tokens),
            };
            let worst = Reservation::new(&spec, &group.queue, asked, call, sight.now).worst;
            let cost = expected_cost(asked, &call, sight.now);
            let worst_tokens = real(worst.tokens());
            let worst_nanousd = worst.nanousd.map(real);
            let took_ms = took(&ledger.sizes, [asked, model], call.expected_output);
            let (input_tokens, output_tokens) =
                (real(call.expected_input), real(call.expected_output));
            let max_tokens = real(call.max_tokens);
            let nanousd = cost.map(real);
            let call = Call {
                input_tokens,
                output_tokens,
                max_tokens,
                took_ms,
                nanousd,
                worst_nanousd,
                worst_tokens,
            };
            (call, size.weight)
        };
        let calls: Vec<(Call, f64)> = sizes.iter().map(of).collect();
        let weight: f64 = sizes.iter().map(|size| size.weight).sum();
        let jobs = real(group.jobs) * weight / all;
        let (jobs, in_flight) = if group.in_flight { (0.0, jobs) } else { (jobs, 0.0) };
        let (priority, due) = (group.priority, group.due);
        classes.push(Class { queue, pool, priority, jobs, in_flight, due, call: mean(&calls) });
    }
    classes
}

fn expected_cost(model: &str, call: &CallSize, now: Timestamp) -> Option<price::Nanousd> {
    let usage = Usage {
        input_tokens: call.expected_input,
        output_tokens: call.expected_output,
        ..Usage::default()
    };
    price::cost(model, &usage, None, now)
}

fn took(sizes: &Estimator, models: [&Arc<str>; 2], output_tokens: i64) -> f64 {
    let known = models.into_iter().find_map(|model| sizes.pace(model).speed());
    let speed = known.unwrap_or(SPEED);
    real(speed.first_token.0) + real(output_tokens) / speed.tokens_per_second * 1_000.0
}

/// The call in the middle of several.
fn mean(calls: &[(Call, f64)]) -> Call {
    let all: f64 = calls.iter().map(|(_, weight)| weight).sum::<f64>().max(f64::MIN_POSITIVE);
    let of = |part: &dyn Fn(&Call) -> f64| {
        calls.iter().map(|(call, weight)| part(call) * weight).sum::<f64>() / all
    };
    let price = |part: &dyn Fn(&Call) -> Option<f64>| {
        let known = calls.iter().all(|(call, _)| part(call).is_some());
        known.then(|| of(&|call| part(call).unwrap_or(0.0)))
    };
    Call {
        input_tokens: of(&|call| call.input_tokens),
        output_tokens: of(&|call| call.output_tokens),
        max_tokens: of(&|call| call.max_tokens),
        took_ms: of(&|call| call.took_ms),
        nanousd: price(&|call| call.nanousd),
        worst_nanousd: price(&|call| call.worst_nanousd),
        worst_tokens: of(&|call| call.worst_tokens),
    }
}

fn queue_state(name: &Arc<str>, policy: &QueuePolicy) -> QueueState {
    QueueState {
        name: Arc::clone(name),
        weight: real(policy.weight_milli.max(1)) / 1_000.0,
        max_in_flight: policy.max_in_flight,
        paused: policy.paused,
    }
}

fn pool_state(pool: &Pool, now: Timestamp) -> PoolState {
    PoolState {
        mode: pool.spec.output_mode,
        closed: closure(&pool.gate, now),
        limits: pool.meters.iter().map(|meter| limit_state(meter, now)).collect(),
    }
}

/// A bucket's output in flight counts as taken: it was started on.
fn limit_state(meter: &Meter, now: Timestamp) -> LimitState {
    let per = real(meter.spec.per.span().0);
    let stock = match &meter.level {
        Level::Bucket(bucket) => Stock::Bucket {
            level: real(bucket.available(now)),
            capacity: real(bucket.capacity()),
            per_ms: real((meter.spec.amount - bucket.others()).max(1)) / per,
        },
        Level::Window(window) => {
            let mut leaving: Vec<(Timestamp, f64)> =
                window.leaving(now).map(|(at, amount)| (at, real(amount))).collect();
            // What is in flight counts for a period from its end.
            let in_flight = window.in_flight();
            if in_flight > 0 {
                leaving.push((now + window.period(), real(in_flight)));
            }
            Stock::Window { limit: real(window.capacity()), period: window.period(), leaving }
        }
    };
    LimitState { dimension: meter.spec.dimension, stock }
}

fn closure(gate: &Gate, now: Timestamp) -> Option<Closure> {
    let (until, why) = gate.closed()?;
    // A probe is due, or under way: as good as open.
    let shut = until.is_none_or(|until| until > now);
    shut.then(|| Closure { reason: why.into(), until })
}

fn wall(budget: &Budget, sight: &Sight<'_>) -> BudgetState {
    BudgetState {
        key: budget.spec.key(),
        in_usd: matches!(budget.spec.cap, Cap::Usd(_)),
        cap: real(budget.cap()),
        spent: real(budget.current().spent),
        queue: budget.spec.queue.clone(),
        allow_unbounded: budget.spec.allow_unbounded,
        ends: (sight.ends)(budget),
    }
}
