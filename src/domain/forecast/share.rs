//! One priority's turn in one step: queues grow side by side, by weight and tokens, until a limit
//! or the end of their work stops them.

use super::super::reason::Reason;

/// What a job takes of a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Which resource.
    pub(super) at: usize,
    /// For good (until it refills or leaves).
    pub(super) take: f64,
    /// In addition, while the call is out.
    pub(super) hold: f64,
    /// The part of it that comes while the call runs, not at its start.
    pub(super) late: f64,
}

/// A class that may start jobs in this step.
pub(super) struct Taker<'a> {
    /// Jobs a unit of growth.
    pub(super) speed: f64,
    /// Jobs that are ready.
    pub(super) ready: f64,
    /// Part of a call that is still out when the step ends.
    pub(super) stays: f64,
    /// What each job takes.
    pub(super) uses: &'a [Use],
    /// Jobs given so far.
    pub(super) given: f64,
    /// The resource that stopped it.
    pub(super) stopped_by: Option<usize>,
}

impl Taker<'_> {
    fn takes(&self, one: &Use) -> f64 {
        one.take + self.stays * one.hold
    }
}

/// Gives each of the takers what there is room for; `room` is what is left afterwards.
pub(super) fn share(takers: &mut [Taker<'_>], room: &mut [f64]) {
    let mut active: Vec<usize> = (0..takers.len()).collect();
    let mut rate = vec![0.0; room.len()];
    loop {
        active.retain(|at| {
            let taker = &mut takers[*at];
            if taker.given >= taker.ready {
                return false;
            }
            let empty = |one: &&Use| taker.takes(one) > 0.0 && room[one.at] <= 0.0;
            taker.stopped_by = taker.uses.iter().find(empty).map(|one| one.at);
            taker.stopped_by.is_none()
        });
        if active.is_empty() {
            return;
        }
        rate.fill(0.0);
        let mut grow = f64::INFINITY;
        for at in &active {
            let taker = &takers[*at];
            grow = grow.min((taker.ready - taker.given) / taker.speed);
            for one in taker.uses {
                rate[one.at] += taker.speed * taker.takes(one);
            }
        }
        let mut full = None;
        for (at, (rate, room)) in rate.iter().zip(room.iter()).enumerate() {
            if *rate > 0.0 && room / rate < grow {
                (grow, full) = (room / rate, Some(at));
            }
        }
        for at in &active {
            let taker = &mut takers[*at];
            // Exactly, so that rounding never leaves a crumb for another round.
            let end = (taker.ready - taker.given) / taker.speed <= grow;
            taker.given = if end { taker.ready } else { taker.given + grow * taker.speed };
        }
        for (room, rate) in room.iter_mut().zip(&rate) {
            *room -= grow * rate;
        }
        if let Some(full) = full {
            room[full] = 0.0;
        }
    }
}

/// How long jobs wait for what, added up.
#[derive(Debug, Default)]
pub(super) struct Waits(std::collections::BTreeMap<Reason, f64>);

impl Waits {
    /// So many jobs wait for so long.
    pub(super) fn add(&mut self, reason: Reason, jobs_ms: f64) {
        *self.0.entry(reason).or_insert(0.0) += jobs_ms;
    }

    /// What is waited for the longest.
    pub(super) fn longest(&self) -> Option<Reason> {
        let longest = self.0.iter().max_by(|one, other| one.1.total_cmp(other.1))?;
        (*longest.1 > 0.0).then_some(*longest.0)
    }
}
