//! Forecasts of the real queue: its jobs in groups, the ledger, the configuration.
//!
//! The arithmetic is [`domain::forecast`](crate::domain::forecast)'s; here it is given what it
//! needs, by the daemon in the background and by commands from the file.

mod background;
mod file;

pub(super) use background::{Forecaster, once};
pub use file::{Basis, WhatIf};

use super::books::period;
use crate::config::Config;
use crate::domain::budget::Budget;
use crate::domain::fairness::QueuePolicy;
use crate::domain::forecast::{Forecast, Group, Scene, Sight, Size, forecast};
use crate::domain::job::JobId;
use crate::domain::ledger::Ledger;
use crate::domain::reservation::Reservation;
use crate::domain::time::Timestamp;
use crate::store::{Backlog, BacklogGroup, JobSample};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bytes around a prompt in the body that is sent.
const ENVELOPE: i64 = 100;
/// What the worst case of an input adds to the bytes of its body.
const WORST_INPUT_EXTRA: i64 = 1_024;
/// Periods of a budget that are looked ahead.
const PERIODS: usize = 400;
/// Where neither job nor configuration says.
const MAX_TOKENS: i64 = 4_096;

/// What is known beside the jobs.
struct View<'a> {
    now: Timestamp,
    ledger: &'a Ledger,
    policy: &'a dyn Fn(&str) -> QueuePolicy,
    max_in_flight: u32,
    as_model: Option<Arc<str>>,
}

fn foresee(view: View<'_>, groups: &[Group]) -> Forecast {
    let sight = Sight {
        now: view.now,
        ledger: view.ledger,
        policy: view.policy,
        ends: &ends,
        max_in_flight: view.max_in_flight,
        as_model: view.as_model,
    };
    forecast(&Scene::new(&sight, groups))
}

/// The ends of a budget's period and of those that follow.
fn ends(budget: &Budget) -> Vec<Timestamp> {
    let first = budget.current().end;
    let next = |end: &Timestamp| Some(period(&budget.spec, *end).1).filter(|next| next > end);
    std::iter::successors(Some(first), next)
        .take_while(|end| end.0 < i64::MAX)
        .take(PERIODS)
        .collect()
}

/// Queued jobs as groups of known sizes.
fn queued(backlog: &Backlog, config: &Config) -> Vec<Group> {
    let borrowed: Vec<(&str, Vec<Size>)> =
        backlog.groups.iter().map(|one| (one.queue.as_str(), sizes(one, config))).collect();
    let of_queue = |queue: &str| {
        let own = borrowed.iter().filter(|(name, _)| *name == queue);
        own.map(|(_, sizes)| sizes).find(|sizes| !sizes.is_empty()).cloned()
    };
    let any = borrowed.iter().map(|(_, sizes)| sizes).find(|sizes| !sizes.is_empty());
    let group = |(one, (_, own)): (&BacklogGroup, &(&str, Vec<Size>))| Group {
        queue: Arc::from(one.queue.as_str()),
        priority: one.priority,
        due: one.due,
        in_flight: false,
        jobs: one.jobs,
        sizes: match own.is_empty() {
            false => own.clone(),
            true => of_queue(&one.queue)
                .or_else(|| any.cloned())
                .unwrap_or_else(|| vec![size(&JobSample::default(), &one.queue, config)]),
        },
    };
    backlog.groups.iter().zip(&borrowed).map(group).collect()
}

/// What the jobs of a group are like; equal ones together.
fn sizes(group: &BacklogGroup, config: &Config) -> Vec<Size> {
    let mut by_kind: BTreeMap<(Arc<str>, i64, u32), Size> = BTreeMap::new();
    for sample in &group.samples {
        let one = size(sample, &group.queue, config);
        let bin = one.body_bytes.max(1).ilog2();
        match by_kind.get_mut(&(Arc::clone(&one.model), one.max_tokens, bin)) {
            Some(sum) => {
                // The mean of those of about this size.
                sum.weight += 1.0;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "bodies have at most 32 MB"
                )]
                let step = ((one.body_bytes - sum.body_bytes) as f64 / sum.weight).round() as i64;
                sum.body_bytes += step;
            }
            None => {
                by_kind.insert((Arc::clone(&one.model), one.max_tokens, bin), one);
            }
        }
    }
    by_kind.into_values().collect()
}

fn size(sample: &JobSample, queue: &str, config: &Config) -> Size {
    let defaults = config.defaults_for(queue);
    let system = defaults.system.as_ref().filter(|_| !sample.has_system);
    let added = match (sample.is_request, system) {
        (true, _) => 0,
        (false, system) => {
            ENVELOPE + i64::try_from(system.map_or(0, String::len)).unwrap_or(i64::MAX)
        }
    };
    Size {
        model: sample.model.clone().or(defaults.model).unwrap_or_default().into(),
        body_bytes: sample.bytes.saturating_add(added),
        max_tokens: sample.max_tokens.or(defaults.max_tokens).unwrap_or(MAX_TOKENS),
        weight: 1.0,
    }
}

/// Calls in flight, as their reservations say.
fn in_flight<'a, K: 'a>(
    open: impl Iterator<Item = (&'a K, &'a (JobId, Reservation))>,
) -> Vec<Group> {
    let mut groups: HashMap<Arc<str>, Group> = HashMap::new();
    for (_, (_, call)) in open {
        let group = groups.entry(Arc::clone(&call.queue)).or_insert_with(|| Group {
            queue: Arc::clone(&call.queue),
            in_flight: true,
            ..Group::default()
        });
        group.jobs += 1;
        group.sizes.push(Size {
            model: Arc::clone(&call.model),
            body_bytes: (call.worst.input_tokens - WORST_INPUT_EXTRA).max(0),
            max_tokens: call.worst.output_tokens,
            weight: 1.0,
        });
    }
    groups.into_values().collect()
}
