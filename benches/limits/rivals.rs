//! What people write otherwise, against the same provider in the same virtual time: a semaphore
//! with backoff, and a rolling window that reserves `max_tokens` and corrects it afterwards.
//!
//! They have no database, no turns and no way between them and the provider: all of that counts in
//! their favour.

use crate::cases::MODEL;
use crate::workload::Job;
use claudeq::clock::{Clock, Entropy};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::Offline;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How a client decides when to call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rival {
    /// So many at a time, so many retries, each after a longer while.
    Semaphore { permits: usize, retries: u32 },
    /// No more than the limits in any minute, by its own count.
    RollingWindow { input: u64, output: u64 },
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) took: Millis,
    pub(crate) refused: u64,
    pub(crate) lost: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready(usize, u32),
    Ended(usize),
}

/// A minute's use by the client's own count.
#[derive(Default)]
struct Window {
    entries: VecDeque<(Timestamp, usize, u64, u64)>,
}

impl Window {
    fn forget(&mut self, now: Timestamp) {
        while self.entries.front().is_some_and(|(at, ..)| now.since(*at) >= Millis::MINUTE) {
            self.entries.pop_front();
        }
    }

    fn used(&self) -> (u64, u64) {
        let sum =
            |(input, output), one: &(Timestamp, usize, u64, u64)| (input + one.2, output + one.3);
        self.entries.iter().fold((0, 0), sum)
    }

    fn correct(&mut self, job: usize, output: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|(_, one, ..)| *one == job) {
            entry.3 = output;
        }
    }
}

/// Offers all jobs at once and runs until none is left.
pub(crate) fn run(rival: Rival, provider: &Offline, clock: &Clock, work: &[Job]) -> Outcome {
    let bodies: Vec<String> = work.iter().map(body).collect();
    let begun = clock.now();
    let dice = Entropy::seeded(5);
    let mut waiting: VecDeque<(usize, u32)> = (0..work.len()).map(|job| (job, 0)).collect();
    let mut events: BinaryHeap<Reverse<(Timestamp, Event)>> = BinaryHeap::new();
    let (mut in_flight, mut window, mut outcome) = (0, Window::default(), Outcome::default());
    loop {
        let now = clock.now();
        while let Some(&(job, tries)) = waiting.front() {
            if !allows(rival, in_flight, &mut window, &work[job], now) {
                break;
            }
            waiting.pop_front();
            in_flight += 1;
            let answer = provider.arrive(bodies[job].as_bytes());
            let answered = answer.filter(|answer| answer.status == 200);
            let Some(answer) = answered else {
                outcome.refused += 1;
                in_flight -= 1;
                if matches!(rival, Rival::Semaphore { retries, .. } if tries >= retries) {
                    outcome.lost += 1;
                    continue;
                }
                // The official clients': 0.5 s, doubled up to 8 s, a quarter of it by chance.
                let longest = 0.5 * 2_f64.powi(tries.min(4) as i32);
                let wait = (longest.min(8.0) * (1.0 - dice.unit().get() / 4.0) * 1_000.0) as i64;
                events.push(Reverse((now + Millis(wait), Event::Ready(job, tries + 1))));
                continue;
            };
            window.entries.push_back((now, job, work[job].input, work[job].max_tokens));
            events.push(Reverse((now + Millis::from(answer.end), Event::Ended(job))));
        }
        let next = events.peek().map(|Reverse((at, _))| *at);
        let leaves = window.entries.front().map(|(at, ..)| *at + Millis::MINUTE);
        let by_window = matches!(rival, Rival::RollingWindow { .. }) && !waiting.is_empty();
        let wake = match (next, leaves.filter(|_| by_window)) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => match one.or(other) {
                Some(at) => at,
                None => return outcome,
            },
        };
        clock.advance(wake.since(now).to_duration());
        while let Some(Reverse((at, event))) = events.peek().copied()
            && at <= clock.now()
        {
            events.pop();
            match event {
                Event::Ready(job, tries) => waiting.push_back((job, tries)),
                Event::Ended(job) => {
                    in_flight -= 1;
                    window.correct(job, work[job].output);
                    outcome.took = at.since(begun);
                }
            }
        }
    }
}

fn body(job: &Job) -> String {
    let body = serde_json::json!({
        "model": MODEL,
        "max_tokens": job.max_tokens,
        "messages": [{ "role": "user", "content": job.prompt }],
    });
    body.to_string()
}

fn allows(rival: Rival, in_flight: usize, window: &mut Window, job: &Job, now: Timestamp) -> bool {
    match rival {
        Rival::Semaphore { permits, .. } => in_flight < permits,
        Rival::RollingWindow { input, output } => {
            window.forget(now);
            let (used_input, used_output) = window.used();
            used_input + job.input <= input && used_output + job.max_tokens <= output
        }
    }
}
