//! What every start does first: end what dead epochs left in flight, and rebuild the ledger.
//!
//! Invariant: there is one recovery path, and every start takes it.

use super::books::{Context, budgets};
use super::snapshot::{restore, restore_estimates, snapshots};
use super::writer::abandoned;
use crate::config::Config;
use crate::domain::job::AttemptId;
use crate::domain::ledger::Ledger;
use crate::domain::time::Millis;
use crate::store::{Ending, StoreError};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The ledger as the last commit left it, with every open attempt settled; and those of the
/// spooled results that belong to no call of this database.
pub(super) async fn recover(
    context: &Context,
    config: &Config,
    spooled: &[Ending],
) -> Result<(Ledger, Vec<Ending>), StoreError> {
    let store = &context.store;
    let now = context.now();
    let found = store.recover(context.epoch, memory(config), now).await?;
    let budgets = budgets(store, &config.budgets, now).await?;
    let mut ledger = Ledger::new(config.pools.clone(), budgets, now);
    for row in &found.limits {
        // A model that no pool covers had a pool of its own, named like it.
        if !ledger.pools.iter().any(|pool| *pool.spec.name.0 == *row.pool) {
            ledger.pool_of(&row.pool, now);
        }
    }
    restore(&mut ledger, &found.limits, &found.past, &found.gates, now);
    restore_estimates(&mut ledger.sizes, &found.estimates);
    let known = store.known(spooled).await?;
    let places = spooled.iter().cloned().enumerate();
    let (spooled, strange): (Vec<_>, Vec<_>) = places.partition(|(at, _)| known.contains(at));
    let spooled: Vec<Ending> = spooled.into_iter().map(|(_, ending)| ending).collect();
    let strange = strange.into_iter().map(|(_, ending)| ending).collect();
    let kept: HashMap<AttemptId, &Ending> =
        spooled.iter().map(|ending| (ending.lease.attempt, ending)).collect();
    let mut endings: Vec<Ending> = Vec::with_capacity(found.open.len());
    for open in &found.open {
        ledger.adopt(open.lease.job, &open.lease.reservation, now);
        let jitter = context.entropy.unit();
        let ending = match kept.get(&open.lease.attempt) {
            Some(ending) => (*ending).clone(),
            None => abandoned(&open.lease, open.max_attempts, &config.retry, now, jitter),
        };
        ledger.settle(ending.lease.job, &ending.lease.reservation, &ending.settlement, now);
        endings.push(ending);
    }
    let unknown = endings.len().saturating_sub(kept.len());
    // Settled before, perhaps by a commit that seemed to fail: only the answer is kept.
    let open: HashSet<AttemptId> = endings.iter().map(|ending| ending.lease.attempt).collect();
    endings.extend(spooled.iter().filter(|one| !open.contains(&one.lease.attempt)).cloned());
    // Also for the gates: what a start opens must not look shut until the next call.
    if !endings.is_empty() || !found.gates.is_empty() {
        let pools: BTreeSet<&str> = endings.iter().map(|e| &*e.lease.reservation.pool.0).collect();
        store.settle(context.epoch, &endings, &snapshots(&ledger, &pools, now), now).await?;
    }
    if !endings.is_empty() {
        tracing::warn!(
            unknown,
            spooled = spooled.len(),
            "an earlier daemon ended with calls in flight; those of unknown fate stay charged"
        );
    }
    Ok((ledger, strange))
}

/// How far back calls still count in some limit. Limits that are learned from headers are of a
/// minute.
fn memory(config: &Config) -> Millis {
    let limits = config.pools.iter().flat_map(|pool| &pool.limits);
    limits.map(|limit| limit.per.span()).fold(Millis::MINUTE, Millis::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn remembered(limits: &str) -> Millis {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.toml");
        let text = format!("[[pool]]\nname = \"all\"\nmodels = [\"*\"]\n{limits}\n");
        std::fs::write(&path, text).unwrap();
        memory(&Config::load(Some(&path), &Overrides::default()).unwrap())
    }

    #[test]
    fn a_start_looks_back_as_far_as_its_longest_limit() {
        assert_eq!(remembered(""), Millis::MINUTE);
        assert_eq!(remembered("requests_per_minute = 50"), Millis::MINUTE);
        assert_eq!(remembered("requests_per_minute = 50\ntokens_per_day = 9000000"), Millis::DAY);
    }
}
