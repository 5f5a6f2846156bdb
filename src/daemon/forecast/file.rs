//! Forecasts from the file alone, for commands: with a daemon or without, and what if.
//!
//! Levels are those of the last snapshots, sizes and speed as they were learned.

use super::{View, foresee, queued};
use crate::config::Config;
use crate::daemon::books::budgets;
use crate::daemon::snapshot::{restore, restore_estimates};
use crate::domain::fairness::Shares;
use crate::domain::forecast::{Forecast, Group, Size};
use crate::domain::ledger::Ledger;
use crate::domain::limit::{Algorithm, LimitSource, LimitSpec, Per, PoolSpec};
use crate::domain::retry::OnUnknown;
use crate::domain::tier::tier;
use crate::domain::time::{Millis, Timestamp};
use crate::store::{Backlog, Store, StoreError};
use std::sync::Arc;

/// What would be otherwise; nothing given: everything as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// The account's limits a minute were those of this tier.
    pub tier: Option<String>,
    /// So many calls could be in flight.
    pub max_in_flight: Option<u32>,
    /// Every job asked this model.
    pub model: Option<String>,
}

/// The queue as the file shows it, ready for forecasts.
#[derive(Debug)]
pub struct Basis {
    now: Timestamp,
    config: Config,
    groups: Vec<Group>,
    ledger: Ledger,
    shares: Shares,
    learned: bool,
}

impl Basis {
    /// Counts what is left, of one batch, of one queue, or all of it. Reads only.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(
        store: &Store,
        config: &Config,
        batch: Option<&str>,
        queue: Option<&str>,
        now: Timestamp,
    ) -> Result<Basis, StoreError> {
        let mut backlog = store.backlog(batch, now).await?;
        if let Some(queue) = queue {
            backlog.groups.retain(|group| group.queue == queue);
            backlog.open.retain(|group| group.queue == queue);
        }
        let mut groups = queued(&backlog, config);
        groups.extend(open(&backlog, config, store.holder().held));
        let shares = shares(config, store.paused().await?);
        let learned = !store.estimates().await?.is_empty();
        let ledger = ledger(store, config, now).await?;
        Ok(Basis { now, config: config.clone(), groups, ledger, shares, learned })
    }

    /// Whether answers were seen to learn sizes from; without any, sizes are upper bounds.
    pub fn has_learned(&self) -> bool {
        self.learned
    }

    /// The pools that jobs wait for and whose limits nobody knows yet.
    pub fn unknown_pools(&self) -> Vec<String> {
        let models = self.groups.iter().flat_map(|group| &group.sizes).map(|size| &size.model);
        let mut pools: Vec<String> = models
            .filter_map(|model| {
                let pool = self.ledger.pools.iter().find(|pool| pool.spec.covers(model));
                pool.map_or_else(
                    || Some(model.to_string()),
                    |pool| pool.is_unknown().then(|| pool.spec.name.to_string()),
                )
            })
            .collect();
        pools.sort();
        pools.dedup();
        pools
    }

    /// Looks ahead over jobs that are not there yet, as if there were no others.
    pub fn forecast_alone(&self, jobs: &Backlog) -> Forecast {
        self.look(&WhatIf::default(), &queued(jobs, &self.config))
    }

    /// Takes jobs in that are not there yet.
    pub fn add(&mut self, jobs: &Backlog) {
        self.groups.extend(queued(jobs, &self.config));
    }

    /// Looks ahead.
    pub fn forecast(&self, what_if: &WhatIf) -> Forecast {
        self.look(what_if, &self.groups)
    }

    fn look(&self, what_if: &WhatIf, groups: &[Group]) -> Forecast {
        let other = what_if.tier.as_deref().map(|name| {
            let pools = self.ledger.pools.iter().map(|pool| under_tier(&pool.spec, name)).collect();
            let mut ledger = Ledger::new(pools, self.ledger.budgets.clone(), self.now);
            ledger.sizes = self.ledger.sizes.clone();
            ledger
        });
        let view = View {
            now: self.now,
            ledger: other.as_ref().unwrap_or(&self.ledger),
            policy: &|queue| self.shares.policy(queue),
            max_in_flight: what_if.max_in_flight.unwrap_or(self.config.max_in_flight),
            as_model: what_if.model.as_deref().map(Arc::from),
        };
        foresee(view, groups)
    }
}

/// A pool whose limits a minute are a tier's; those an hour or a day stay.
fn under_tier(spec: &PoolSpec, name: &str) -> PoolSpec {
    let Some(preset) = tier(name, &spec.name.0) else { return spec.clone() };
    let told = spec.limits.iter().find(|limit| limit.per == Per::Minute);
    let algorithm = told.map_or(Algorithm::Bucket { burst: None }, |limit| limit.algorithm);
    let mut limits: Vec<LimitSpec> =
        spec.limits.iter().filter(|limit| limit.per != Per::Minute).copied().collect();
    limits.extend(preset.limits.into_iter().map(|(dimension, amount)| LimitSpec {
        dimension,
        per: Per::Minute,
        amount,
        algorithm,
        source: LimitSource::Tier,
    }));
    PoolSpec { limits, output_mode: preset.output_mode, ..spec.clone() }
}

/// Calls in flight; those of a daemon that was killed are to be made again.
fn open(backlog: &Backlog, config: &Config, running: bool) -> Vec<Group> {
    if !running && config.retry.on_unknown == OnUnknown::Hold {
        return Vec::new();
    }
    let group = |one: &crate::store::OpenGroup| Group {
        queue: Arc::from(one.queue.as_str()),
        in_flight: running,
        jobs: one.calls,
        sizes: vec![Size {
            model: Arc::from(one.model.as_str()),
            body_bytes: one.body_bytes,
            max_tokens: one.max_tokens,
            weight: 1.0,
        }],
        ..Group::default()
    };
    backlog.open.iter().map(group).collect()
}

fn shares(config: &Config, paused: Vec<String>) -> Shares {
    let all = paused.iter().any(|queue| queue == "*");
    let mut policies: std::collections::BTreeMap<Arc<str>, _> = config
        .queues
        .iter()
        .map(|(name, queue)| (Arc::clone(name), queue.policy.clone()))
        .collect();
    for queue in paused {
        policies.entry(Arc::from(queue)).or_default().paused = true;
    }
    let mut shares = Shares::default();
    shares.set_policies(policies, all);
    shares
}

/// The ledger as the last snapshots left it.
async fn ledger(store: &Store, config: &Config, now: Timestamp) -> Result<Ledger, StoreError> {
    let limits = store.limits().await?;
    let budgets = budgets(store, &config.budgets, now).await?;
    let mut ledger = Ledger::new(config.pools.clone(), budgets, now);
    for row in &limits {
        if !ledger.pools.iter().any(|pool| *pool.spec.name.0 == *row.pool) {
            ledger.pool_of(&row.pool, now);
        }
    }
    let specs = ledger.pools.iter().flat_map(|pool| &pool.spec.limits);
    let forgets =
        |limit: &&LimitSpec| limit.per != Per::Minute || limit.algorithm == Algorithm::Window;
    // Only what rolls needs the past; a bucket's snapshot says all.
    let span = specs.filter(forgets).map(|limit| limit.per.span()).max();
    let past = match span {
        None => Vec::new(),
        Some(span) => {
            let slot = if span > Millis::MINUTE { Millis::MINUTE } else { Millis::SECOND };
            store.past_calls(now - span, Timestamp(i64::MAX), slot).await?
        }
    };
    restore(&mut ledger, &limits, &past, &store.gates().await?, now);
    restore_estimates(&mut ledger.sizes, &store.estimates().await?);
    Ok(ledger)
}
