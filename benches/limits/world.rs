//! A daemon and a provider in one virtual time: the real turns, ledger and store on one side, the
//! simulator's limits on the other, and nothing in between but two spans of way.

use claudeq::claude::given::{broken_at, reply_to};
use claudeq::clock::{Clock, Entropy};
use claudeq::config::Config;
use claudeq::daemon::Options;
use claudeq::daemon::stepper::{End, Started, Step, Stepper};
use claudeq::domain::attempt::{Progress, Reply};
use claudeq::domain::job::{AttemptId, JobId};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::Offline;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::path::Path;
use std::time::Duration;

/// From a commit to the request's arrival, and from the provider back.
const WAY: Millis = Millis(25);
/// What a turn takes, and the least time between two.
const TURN: Millis = Millis(8);
/// A turn comes at least this often.
const TICK: Millis = Millis::SECOND;
/// Bytes of text a token of the simulator's answers has.
const BYTES_PER_TOKEN: i64 = 4;

/// When virtual time begins: 2026-10-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_790_812_800_000);

/// A client that is not ours and uses the same key.
pub(crate) struct Other {
    /// One request each so often.
    pub every: Millis,
    /// Its body.
    pub body: String,
}

/// Something that happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(AttemptId),
    Ends(AttemptId),
    Other,
}

struct Flight {
    job: JobId,
    started: Started,
    reply: Option<Reply>,
    /// When its first token comes to us, and how many follow until its end.
    writes: Option<(Timestamp, Timestamp, u64)>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From the first turn to the last answer.
    pub took: Millis,
    /// Calls made.
    pub calls: u64,
    /// Calls that were in flight at kills.
    pub killed: u64,
    /// Turns taken.
    pub turns: u64,
    /// From the first turn to the last call's start.
    pub last_start: Millis,
    /// Of the calls, those that were refused by a limit.
    pub refused: u64,
}

/// The world.
pub(crate) struct World {
    clock: Clock,
    options: Options,
    provider: Offline,
    daemon: Option<Stepper>,
    events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    flights: HashMap<AttemptId, Flight>,
    ended: Vec<End>,
    other: Option<Other>,
    outcome: Outcome,
}

impl World {
    /// Nothing has begun.
    pub(crate) fn new(config: Config, provider: Offline, clock: Clock, seed: u64) -> World {
        let options = Options {
            config,
            key: "none".to_owned().into(),
            until_empty: true,
            clock: clock.clone(),
            entropy: Entropy::seeded(seed),
            notify_socket: None,
            host: "virtual".into(),
            reload: None,
        };
        World {
            clock,
            options,
            provider,
            daemon: None,
            events: BinaryHeap::new(),
            flights: HashMap::new(),
            ended: Vec::new(),
            other: None,
            outcome: Outcome::default(),
        }
    }

    /// Lets another client use the key, for as long as the world turns.
    pub(crate) fn share_with(&mut self, other: Other) {
        self.events.push(Reverse((self.clock.now(), Event::Other)));
        self.other = Some(other);
    }

    /// Where its database is now.
    pub(crate) fn database(&self) -> &Path {
        &self.options.config.database
    }

    /// Runs until nothing is left, or until `kill_after` for the daemon to be killed and started
    /// again `pause` later.
    pub(crate) async fn run(
        &mut self,
        kill_after: Option<(Millis, Millis)>,
    ) -> anyhow::Result<Outcome> {
        let begun = self.clock.now();
        let mut kill = kill_after;
        self.daemon = Some(Stepper::start(&self.options).await?);
        let mut next_turn = begun;
        let mut last_end = begun;
        loop {
            if let Some((after, pause)) = kill
                && self.clock.now() >= begun + after
            {
                kill = None;
                self.kill().await?;
                self.pass(pause);
                self.daemon = Some(Stepper::start(&self.options).await?);
                next_turn = self.clock.now();
            }
            let at = self.events.peek().map_or(next_turn, |Reverse((at, _))| next_turn.min(*at));
            self.move_to(at);
            let mut urgent = false;
            while let Some(Reverse((at, event))) = self.events.peek().copied()
                && at <= self.clock.now()
            {
                self.events.pop();
                urgent |= self.happen(event, at);
            }
            let now = self.clock.now();
            if urgent {
                next_turn = next_turn.min(now);
                last_end = now;
            }
            if now < next_turn {
                continue;
            }
            let step = self.turn().await?;
            self.move_to(now + TURN);
            let now = self.clock.now();
            if step.left == 0 && self.flights.is_empty() {
                break;
            }
            next_turn = step.wake_at.map_or(now + TICK, |at| at.min(now + TICK)).max(now);
            if std::env::var_os("TRACE").is_some() {
                println!(
                    "{:>8} left {:>5} in flight {:>3} +{:<3} held {:?} wake {:?}",
                    now.since(begun).0,
                    step.left,
                    self.flights.len(),
                    step.started.len(),
                    step.held_back,
                    step.wake_at.map(|at| at.since(now).0)
                );
            }
            if !step.started.is_empty() {
                self.outcome.last_start = now.since(begun);
            }
            self.send(step);
        }
        self.outcome.took = last_end.since(begun);
        Ok(self.outcome.clone())
    }

    async fn turn(&mut self) -> anyhow::Result<Step> {
        let now = self.clock.now();
        let progress: BTreeMap<JobId, Progress> = self
            .flights
            .values()
            .filter(|flight| flight.started.stream)
            .filter_map(|flight| Some((flight.job, seen(flight.writes?, now)?)))
            .collect();
        let ended = std::mem::take(&mut self.ended);
        self.outcome.turns += 1;
        let daemon = self.daemon.as_mut().ok_or_else(|| anyhow::anyhow!("no daemon"))?;
        Ok(daemon.step(ended, progress.into_iter().collect()).await?)
    }

    fn send(&mut self, step: Step) {
        let arrival = self.clock.now() + WAY;
        for started in step.started {
            self.outcome.calls += 1;
            self.events.push(Reverse((arrival, Event::Arrives(started.attempt))));
            let flight = Flight { job: started.job, started, reply: None, writes: None };
            self.flights.insert(flight.started.attempt, flight);
        }
    }

    /// Whether it is a reason for a turn.
    fn happen(&mut self, event: Event, at: Timestamp) -> bool {
        match event {
            Event::Arrives(attempt) => {
                self.arrive(attempt, at);
                false
            }
            Event::Ends(attempt) => match self.flights.remove(&attempt) {
                Some(Flight { reply: Some(reply), started, writes, .. }) => {
                    let bytes = |tokens| i64::try_from(tokens).unwrap_or(0) * BYTES_PER_TOKEN;
                    let streamed = writes.filter(|_| started.stream);
                    let streamed_bytes = streamed.map(|(_, _, tokens)| bytes(tokens));
                    self.ended.push(End { attempt, reply, streamed_bytes });
                    true
                }
                _ => false,
            },
            Event::Other => {
                if let Some(other) = &self.other {
                    self.provider.arrive(other.body.as_bytes());
                    self.events.push(Reverse((at + other.every, Event::Other)));
                }
                false
            }
        }
    }

    fn arrive(&mut self, attempt: AttemptId, at: Timestamp) {
        let Some(flight) = self.flights.get_mut(&attempt) else { return };
        let response = self.provider.arrive(&flight.started.body);
        let span = |span: Duration| Millis::from(span);
        let (end, reply) = match response {
            None => (at + WAY, broken_at(at + WAY)),
            Some(response) => {
                let first = at + span(response.first_token) + WAY;
                let end = at + span(response.end) + WAY;
                self.outcome.refused += u64::from(response.status == 429);
                if response.status == 429 && std::env::var_os("TRACE").is_some() {
                    println!("429 at {}: {}", at.since(START).0, response.body);
                }
                let head = if flight.started.stream { first } else { end };
                flight.writes =
                    (response.status == 200).then_some((first, end, response.output_tokens));
                let reply = match response.lost {
                    true => broken_at(end),
                    false => {
                        reply_to(response.status, &response.headers, &response.body, head, end)
                    }
                };
                (end, reply)
            }
        };
        flight.reply = Some(reply);
        self.events.push(Reverse((end, Event::Ends(attempt))));
    }

    /// As SIGKILL would: what is in flight is lost to us, not to the provider.
    ///
    /// A process never gives back the lock of a database: the next daemon gets a copy.
    async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill().await;
        }
        let old = &mut self.options.config.database;
        let new = old.with_extension(format!("{}.db", self.outcome.turns));
        std::fs::copy(&old, &new)?;
        *old = new;
        self.outcome.killed += self.flights.len() as u64 + self.ended.len() as u64;
        self.flights.clear();
        self.ended.clear();
        Ok(())
    }

    /// Time without a daemon.
    fn pass(&mut self, span: Millis) {
        let until = self.clock.now() + span;
        while let Some(Reverse((at, event))) = self.events.peek().copied()
            && at <= until
        {
            self.events.pop();
            self.move_to(at);
            self.happen(event, at);
        }
        self.move_to(until);
    }

    fn move_to(&self, at: Timestamp) {
        self.clock.advance(at.since(self.clock.now()).to_duration());
    }
}

/// What a stream has shown of an answer by now.
fn seen((first, end, tokens): (Timestamp, Timestamp, u64), now: Timestamp) -> Option<Progress> {
    if now < first {
        return None;
    }
    let whole = end.since(first).0.max(1);
    let part = now.since(first).0.min(whole);
    let tokens = i64::try_from(tokens).unwrap_or(0) * part / whole;
    Some(Progress { first_token_at: first, bytes: tokens * BYTES_PER_TOKEN })
}
