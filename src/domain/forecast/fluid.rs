//! The flow: steps of virtual time in which classes of jobs start and end.
//!
//! Calls in flight are a number that decays with the mean time a call takes: after a step, so many
//! of the older and so many of the new ones are out. That makes every constraint (a limit, what is
//! reserved in it, a budget's worst case, calls in flight) linear in the jobs that start.

use super::resource::{Kind, Pipes, Resource, real};
use super::share::{Taker, Use, Waits, share};
use super::{Class, Closure, Scene};
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;

/// The run is cut into about so many steps.
const STEPS: f64 = 400.0;
/// No step is shorter.
const SHORTEST_MS: f64 = 10.0;
/// After so many the steps become twice as long: an end is always reached.
const PATIENCE: usize = 2_000;
/// A window is cut into so many steps at least, or taken for a bucket in a run of many windows.
const WINDOW_STEPS: f64 = 24.0;
const MANY_WINDOWS: f64 = 30.0;
/// Nobody plans further ahead: ten years.
const HORIZON_MS: f64 = 315_360_000_000.0;
/// Less than this of a job is nothing.
const CRUMB: f64 = 1e-6;

/// What came of it.
pub(super) struct Run {
    /// When the last call ends; `None`: none ever will.
    pub(super) finish_ms: Option<f64>,
    pub(super) bottleneck: Option<Reason>,
    /// Jobs that never start.
    pub(super) stuck: Vec<(Reason, f64)>,
    /// When each budget stops calls for the first time.
    pub(super) stops_ms: Vec<Option<f64>>,
}

/// A class at work.
struct Line<'a> {
    class: &'a Class,
    uses: Vec<Use>,
    /// Not started yet.
    left: f64,
    in_flight: f64,
    due: Option<(f64, f64)>,
    last_start: f64,
    started_any: bool,
    /// What stopped it in the last step.
    waits_for: Option<Reason>,
}

struct Fluid<'a> {
    scene: &'a Scene,
    now: f64,
    resources: Vec<Resource>,
    lines: Vec<Line<'a>>,
    /// Lines of one priority each, the highest first.
    order: Vec<Vec<usize>>,
    waits: Waits,
    stops_ms: Vec<Option<f64>>,
}

pub(super) fn run(scene: &Scene) -> Run {
    let mut fluid = Fluid::new(scene);
    let rough = fluid.rough_length();
    let mut step = fluid.settle_windows(rough);
    let mut steps = 0;
    while fluid.is_unfinished() && fluid.now < HORIZON_MS {
        let until = fluid.next_event().map_or(f64::INFINITY, |at| at - fluid.now);
        let started = fluid.step(step.min(until.max(1.0)));
        if started <= CRUMB && fluid.is_unfinished() {
            match fluid.next_chance() {
                Some(at) if at < HORIZON_MS => fluid.pass((at - fluid.now).max(1.0)),
                _ => break,
            }
        }
        steps += 1;
        if steps % PATIENCE == 0 {
            step *= 2.0;
        }
    }
    fluid.end()
}

impl<'a> Fluid<'a> {
    fn new(scene: &'a Scene) -> Fluid<'a> {
        let pipes = Pipes::new(scene);
        let after = |at: Timestamp| real(at.0.saturating_sub(scene.now.0));
        let line = |class: &'a Class| Line {
            class,
            uses: pipes.uses(scene, class),
            left: class.jobs,
            in_flight: class.in_flight,
            due: class.due.map(|(from, to)| (after(from), after(to))),
            last_start: 0.0,
            started_any: class.in_flight > 0.0,
            waits_for: None,
        };
        let lines: Vec<Line<'_>> = scene.classes.iter().map(line).collect();
        let mut priorities: Vec<i64> = scene.classes.iter().map(|class| class.priority).collect();
        priorities.sort_unstable_by(|one, other| other.cmp(one));
        priorities.dedup();
        let of = |priority: i64| {
            (0..lines.len()).filter(|at| lines[*at].class.priority == priority).collect()
        };
        let mut fluid = Fluid {
            scene,
            now: 0.0,
            order: priorities.into_iter().map(of).collect(),
            resources: pipes.resources,
            lines,
            waits: Waits::default(),
            stops_ms: vec![None; scene.budgets.len()],
        };
        fluid.lift_reserved();
        fluid
    }

    /// What calls in flight hold in a bucket is off its level already, and comes back.
    fn lift_reserved(&mut self) {
        for line in self.lines.iter().filter(|line| line.in_flight > 0.0) {
            for one in &line.uses {
                if let Kind::Bucket { level, .. } = &mut self.resources[one.at].kind {
                    *level += line.in_flight * one.hold;
                }
            }
        }
    }

    /// At least so long it will take.
    fn rough_length(&self) -> f64 {
        let mut longest: f64 = 0.0;
        for (at, resource) in self.resources.iter().enumerate() {
            let demand = |part: fn(&Use, &Class) -> f64| -> f64 {
                let of = |line: &Line<'_>| {
                    let uses = line.uses.iter().filter(|one| one.at == at);
                    uses.map(|one| line.left * part(one, line.class)).sum::<f64>()
                };
                self.lines.iter().map(of).sum()
            };
            let taken = demand(|one, _| one.take);
            let busy = demand(|one, class| one.hold * class.call.took_ms);
            longest = longest.max(resource.rough_length(taken, busy));
        }
        let took = self.lines.iter().map(|line| line.class.call.took_ms).fold(0.0, f64::max);
        longest.min(HORIZON_MS) + took
    }

    /// The length of a step; windows that come and go often in such a run become buckets.
    fn settle_windows(&mut self, rough: f64) -> f64 {
        let mut step = (rough / STEPS).max(SHORTEST_MS);
        for resource in &mut self.resources {
            let Kind::Window { limit, period, leaving } = &mut resource.kind else { continue };
            if rough <= MANY_WINDOWS * *period {
                step = step.min((*period / WINDOW_STEPS).max(SHORTEST_MS));
                continue;
            }
            let used: f64 = leaving.iter().map(|(_, amount)| amount).sum();
            let (level, capacity, per_ms) = (*limit - used, *limit, *limit / *period);
            resource.kind = Kind::Bucket { level, capacity, per_ms };
        }
        step
    }

    fn is_unfinished(&self) -> bool {
        self.lines.iter().any(|line| line.left > CRUMB)
    }

    /// Why a line may not start anything now, whatever room there is.
    fn barred(&self, line: &Line<'_>) -> Option<Reason> {
        if self.scene.queues[line.class.queue].paused {
            return Some(Reason::Paused);
        }
        let pool = self.scene.pools[line.class.pool].closed;
        let shut = |one: &Closure| self.opens(one).is_none_or(|at| at > self.now);
        let closed = self.scene.account.iter().chain(pool.iter()).find(|one| shut(one));
        closed.map(|one| one.reason).or_else(|| self.walled(line).map(|_| Reason::Budget))
    }

    /// The budget that has no room for a single call of this line's.
    fn walled(&self, line: &Line<'_>) -> Option<usize> {
        line.uses.iter().find_map(|one| match &self.resources[one.at] {
            Resource { kind: Kind::Wall { cap, spent, .. }, budget, .. } => {
                (spent + one.take + one.hold > *cap).then_some((*budget)?)
            }
            _ => None,
        })
    }

    fn opens(&self, closure: &Closure) -> Option<f64> {
        closure.until.map(|until| real(until.since(self.scene.now).0))
    }

    /// Jobs of a line that are ready by then.
    fn ready(line: &Line<'_>, by: f64) -> f64 {
        let Some((from, to)) = line.due else { return line.left };
        let released = if to > from { ((by - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        let started = line.class.jobs - line.left;
        if by < from { 0.0 } else { (line.class.jobs * released - started).max(0.0) }
    }

    /// One step; gives the jobs that started.
    fn step(&mut self, dt: f64) -> f64 {
        let by = self.now + dt;
        let out: Vec<(f64, f64)> =
            self.lines.iter().map(|line| decay(dt, line.class.call.took_ms)).collect();
        let credit = self.credit();
        let mut room: Vec<f64> = self.rooms(dt, &credit);
        let mut room_at_once: Vec<f64> = self.rooms(0.0, &credit);
        for (line, (stay, _)) in self.lines.iter().zip(&out) {
            for one in &line.uses {
                room[one.at] -= line.in_flight * stay * one.hold;
                room_at_once[one.at] -= line.in_flight * one.hold;
            }
        }
        let mut starts = vec![0.0; self.lines.len()];
        for number in 0..self.order.len() {
            let lines = std::mem::take(&mut self.order[number]);
            self.serve(&lines, by, &out, &mut room, &mut starts);
            self.order[number] = lines;
        }
        self.note_waits(&starts, by);
        // How far into the step each resource is needed for what starts in it.
        for (line, jobs) in self.lines.iter().zip(&starts) {
            for one in &line.uses {
                room_at_once[one.at] -= jobs * (one.take + one.hold);
            }
        }
        let needed = |at: usize| {
            let (before, after) = (-room_at_once[at], -room[at]);
            if before <= 0.0 { 0.0 } else { (before / (before - after)).clamp(0.0, 1.0) }
        };
        for (line, jobs) in self.lines.iter_mut().zip(&starts).filter(|(_, jobs)| **jobs > 0.0) {
            let part = line.uses.iter().map(|one| needed(one.at)).fold(0.0, f64::max);
            let released = line.due.map_or(0.0, |(_, to)| to.min(by));
            line.last_start = (self.now + part * dt).max(released);
            line.started_any = true;
            line.left -= jobs;
        }
        self.advance(dt, &out, &starts);
        starts.iter().sum()
    }

    /// One priority's turn.
    fn serve(
        &mut self,
        lines: &[usize],
        by: f64,
        out: &[(f64, f64)],
        room: &mut [f64],
        starts: &mut [f64],
    ) {
        let mut able: Vec<(usize, f64)> = Vec::with_capacity(lines.len());
        let mut tokens = vec![0.0; self.scene.queues.len()];
        for at in lines {
            let line = &self.lines[*at];
            let ready = Fluid::ready(line, by).min(line.left);
            let barred = if line.left > CRUMB { self.barred(line) } else { None };
            if let (Some(Reason::Budget), true) = (barred, ready > CRUMB)
                && let Some(budget) = self.walled(line)
            {
                self.stops_ms[budget].get_or_insert(self.now);
            }
            self.lines[*at].waits_for = barred;
            if barred.is_none() && ready > 0.0 {
                tokens[self.lines[*at].class.queue] += ready * self.lines[*at].class.call.tokens();
                able.push((*at, ready));
            }
        }
        let mut takers: Vec<Taker<'_>> = able
            .iter()
            .map(|(at, ready)| {
                let line = &self.lines[*at];
                let queue = line.class.queue;
                let speed = self.scene.queues[queue].weight * ready / tokens[queue].max(1.0);
                let (uses, stays) = (line.uses.as_slice(), out[*at].1);
                Taker { speed, ready: *ready, stays, uses, given: 0.0, stopped_by: None }
            })
            .collect();
        share(&mut takers, room);
        let stopped: Vec<Option<usize>> = takers.iter().map(|taker| taker.stopped_by).collect();
        let given: Vec<f64> = takers.iter().map(|taker| taker.given).collect();
        for (((at, _), stopped), given) in able.iter().zip(stopped).zip(given) {
            self.lines[*at].waits_for = stopped.map(|resource| self.resources[resource].reason);
            starts[*at] = given;
        }
    }

    fn note_waits(&mut self, starts: &[f64], by: f64) {
        let mut scheduled = 0.0;
        let mut waiting = 0.0;
        for (line, started) in self.lines.iter().zip(starts) {
            let ready = (Fluid::ready(line, by).min(line.left) - started).max(0.0);
            scheduled += (line.left - started - ready).max(0.0);
            waiting += ready;
            if let Some(reason) = line.waits_for {
                self.waits.add(reason, ready * (by - self.now));
            }
        }
        if waiting <= CRUMB {
            self.waits.add(Reason::Schedule, scheduled * (by - self.now));
        }
    }

    /// What comes while calls run may be started on before it is there: no more than the shortest
    /// of them lasts.
    fn credit(&self) -> Vec<f64> {
        let mut credit = vec![f64::INFINITY; self.resources.len()];
        for line in self.lines.iter().filter(|line| line.left > CRUMB) {
            for one in &line.uses {
                credit[one.at] = credit[one.at].min(one.late * line.class.call.took_ms);
            }
        }
        credit
    }

    /// What there is of each resource within the next `dt`, calls in flight not taken off.
    fn rooms(&self, dt: f64, credit: &[f64]) -> Vec<f64> {
        let room = |(resource, credit): (&Resource, &f64)| resource.room(self.now, dt, *credit);
        self.resources.iter().zip(credit).map(room).collect()
    }

    /// Time passes in which nothing starts.
    fn pass(&mut self, dt: f64) {
        let out: Vec<(f64, f64)> =
            self.lines.iter().map(|line| decay(dt, line.class.call.took_ms)).collect();
        let starts = vec![0.0; self.lines.len()];
        self.note_waits(&starts, self.now + dt);
        self.advance(dt, &out, &starts);
    }

    /// Levels, windows, budgets and calls in flight after a step.
    fn advance(&mut self, dt: f64, out: &[(f64, f64)], starts: &[f64]) {
        let mut taken = vec![0.0; self.resources.len()];
        let mut held = vec![0.0; self.resources.len()];
        for ((line, (stay, new)), jobs) in self.lines.iter_mut().zip(out).zip(starts) {
            line.in_flight = line.in_flight * stay + jobs * new;
            for one in &line.uses {
                taken[one.at] += jobs * one.take;
                held[one.at] += line.in_flight * one.hold;
            }
        }
        self.now += dt;
        let now = self.now;
        for (at, resource) in self.resources.iter_mut().enumerate() {
            resource.advance(now, dt, taken[at], held[at]);
        }
    }

    /// The next moment at which something changes by itself; steps end there.
    fn next_event(&self) -> Option<f64> {
        let pools = self.scene.pools.iter().filter_map(|pool| pool.closed);
        let opens = self.scene.account.into_iter().chain(pools);
        let opens = opens.filter_map(|one| self.opens(&one));
        let ends = self.resources.iter().filter_map(|one| match &one.kind {
            Kind::Wall { ends, .. } => ends.front().copied(),
            _ => None,
        });
        let due = self.lines.iter().filter(|line| line.left > CRUMB).filter_map(|line| line.due);
        let due = due.flat_map(|(from, to)| [from, to]);
        opens.chain(ends).chain(due).filter(|at| *at > self.now).min_by(f64::total_cmp)
    }

    /// When something may start again after a step in which nothing did.
    fn next_chance(&self) -> Option<f64> {
        let mut chances: Vec<f64> = self.next_event().into_iter().collect();
        for line in self.lines.iter().filter(|line| line.in_flight > CRUMB) {
            chances.push(self.now + line.class.call.took_ms.max(1.0));
        }
        for line in
            self.lines.iter().filter(|line| line.left > CRUMB && self.barred(line).is_none())
        {
            for one in &line.uses {
                match &self.resources[one.at].kind {
                    Kind::Bucket { level, per_ms, .. } if *level <= 0.0 && *per_ms > 0.0 => {
                        chances.push(self.now - level / per_ms);
                    }
                    Kind::Window { leaving, .. } => {
                        chances.extend(leaving.front().map(|(at, _)| *at));
                    }
                    _ => {}
                }
            }
        }
        chances.into_iter().filter(|at| *at > self.now).min_by(f64::total_cmp)
    }

    fn end(self) -> Run {
        let stuck = self.lines.iter().filter(|line| line.left > CRUMB);
        let stuck = stuck.map(|line| (line.waits_for.unwrap_or(Reason::Schedule), line.left));
        let ended = self.lines.iter().filter(|line| line.started_any);
        let finish_ms = ended.map(|line| line.last_start + line.class.call.took_ms);
        Run {
            finish_ms: finish_ms.max_by(f64::total_cmp),
            bottleneck: self.waits.longest(),
            stuck: stuck.collect(),
            stops_ms: self.stops_ms,
        }
    }
}

/// Of the calls that are out, the part that still is after `dt`; and of those that start evenly
/// within it.
fn decay(dt: f64, took_ms: f64) -> (f64, f64) {
    if dt <= 0.0 || took_ms <= 0.0 {
        return (0.0, if took_ms > 0.0 { 1.0 } else { 0.0 });
    }
    let stay = (-dt / took_ms).exp();
    (stay, took_ms / dt * (1.0 - stay))
}
