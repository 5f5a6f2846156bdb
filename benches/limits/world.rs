//! A daemon and a provider in one virtual time: the real turns, ledger and store on one side, the
//! simulator's limits on the other, and nothing in between but two spans of way.
//!
//! The tests of `tests/it/simulation` and `tests/it/forecast` live in it, too.

use claudeq::claude::given::{broken_at, reply_to};
use claudeq::clock::{Clock, Entropy};
use claudeq::config::Config;
use claudeq::daemon::Options;
use claudeq::daemon::stepper::{End, Started, Step, Stepper};
use claudeq::domain::attempt::{Progress, Reply};
use claudeq::domain::job::{AttemptId, JobId};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::{Config as Sim, Offline};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::path::{Path, PathBuf};

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
    pub(crate) every: Millis,
    /// Its body.
    pub(crate) body: String,
}

/// Something that happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(AttemptId),
    Ends(AttemptId),
    Other,
}

struct Flight {
    started: Started,
    reply: Option<Reply>,
    /// When its first token comes to us, its end, and the tokens between.
    writes: Option<(Timestamp, Timestamp, i64)>,
}

/// What has come of it so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Jobs that have ended.
    pub(crate) ended: usize,
    /// Calls made.
    pub(crate) calls: u64,
    /// Of these, the ones that a limit refused.
    pub(crate) refused: u64,
    /// Calls that were in flight at kills.
    pub(crate) killed: u64,
    /// Turns taken.
    pub(crate) turns: u64,
    /// When the last call started.
    pub(crate) last_start: Timestamp,
    /// When the last answer came.
    pub(crate) last_end: Timestamp,
}

/// The world.
pub(crate) struct World {
    pub(crate) outcome: Outcome,
    clock: Clock,
    options: Options,
    provider: Offline,
    daemon: Stepper,
    events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    flights: HashMap<AttemptId, Flight>,
    over: Vec<End>,
    other: Option<Other>,
    next_turn: Timestamp,
}

impl World {
    /// A daemon has started, and nothing else has happened.
    pub(crate) async fn new(config: Config, simulator: Sim, seed: u64) -> anyhow::Result<World> {
        let clock = Clock::manual(START);
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
        Ok(World {
            outcome: Outcome { last_start: START, last_end: START, ..Outcome::default() },
            daemon: Stepper::start(&options).await?,
            provider: Offline::new(simulator, clock.clone())?,
            clock,
            options,
            events: BinaryHeap::new(),
            flights: HashMap::new(),
            over: Vec::new(),
            other: None,
            next_turn: START,
        })
    }

    /// Lets another client use the key, for as long as the world turns.
    pub(crate) fn share_with(&mut self, other: Other) {
        self.events.push(Reverse((self.clock.now(), Event::Other)));
        self.other = Some(other);
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The daemon at work.
    pub(crate) fn daemon(&self) -> &Stepper {
        &self.daemon
    }

    /// The provider's own figures.
    pub(crate) fn provider(&self) -> &Offline {
        &self.provider
    }

    /// Where the database is; a kill moves it.
    pub(crate) fn database(&self) -> &Path {
        &self.options.config.database
    }

    /// Goes on until nothing is left, which it says, or until `enough` says so after a turn.
    pub(crate) async fn run(
        &mut self,
        mut enough: impl FnMut(&World) -> bool,
    ) -> anyhow::Result<bool> {
        loop {
            let next = self.events.peek().map_or(self.next_turn, |Reverse((at, _))| *at);
            self.move_to(next.min(self.next_turn));
            self.happen_until(self.clock.now());
            if self.clock.now() < self.next_turn {
                continue;
            }
            if self.turn().await? {
                return Ok(true);
            }
            if enough(self) {
                return Ok(false);
            }
        }
    }

    /// One turn; whether that was all.
    async fn turn(&mut self) -> anyhow::Result<bool> {
        let now = self.clock.now();
        let streams = self.flights.values().filter(|flight| flight.started.stream);
        let progress: BTreeMap<JobId, Progress> =
            streams.filter_map(|flight| Some((flight.started.job, shown(flight, now)?))).collect();
        let over = std::mem::take(&mut self.over);
        let step = self.daemon.step(over, progress.into_iter().collect()).await?;
        self.outcome.turns += 1;
        self.outcome.ended += step.ended.len();
        self.move_to(now + TURN);
        let now = self.clock.now();
        self.next_turn = step.wake_at.map_or(now + TICK, |at| at.min(now + TICK)).max(now);
        let left = step.left;
        self.send(step);
        Ok(left == 0 && self.flights.is_empty())
    }

    fn send(&mut self, step: Step) {
        let now = self.clock.now();
        for started in step.started {
            let attempt = started.attempt;
            self.outcome.calls += 1;
            self.outcome.last_start = now;
            self.events.push(Reverse((now + WAY, Event::Arrives(attempt))));
            self.flights.insert(attempt, Flight { started, reply: None, writes: None });
        }
    }

    fn happen_until(&mut self, until: Timestamp) {
        while let Some(Reverse((at, event))) = self.events.peek().copied()
            && at <= until
        {
            self.events.pop();
            self.move_to(at);
            match event {
                Event::Arrives(attempt) => self.arrive(attempt, at),
                Event::Ends(attempt) => self.end(attempt, at),
                Event::Other => {
                    if let Some(other) = &self.other {
                        self.provider.arrive(other.body.as_bytes());
                        self.events.push(Reverse((at + other.every, Event::Other)));
                    }
                }
            }
        }
        self.move_to(until);
    }

    fn arrive(&mut self, attempt: AttemptId, at: Timestamp) {
        let Some(flight) = self.flights.get_mut(&attempt) else { return };
        let (end, reply) = match self.provider.arrive(&flight.started.body) {
            None => (at + WAY, broken_at(at + WAY)),
            Some(response) => {
                let first = at + response.first_token.into() + WAY;
                let end = at + response.end.into() + WAY;
                let head = if flight.started.stream { first } else { end };
                let tokens = i64::try_from(response.output_tokens).unwrap_or(i64::MAX);
                flight.writes = (response.status == 200).then_some((first, end, tokens));
                self.outcome.refused += u64::from(response.status == 429);
                let reply = reply_to(response.status, &response.headers, &response.body, head, end);
                (end, if response.lost { broken_at(end) } else { reply })
            }
        };
        flight.reply = Some(reply);
        self.events.push(Reverse((end, Event::Ends(attempt))));
    }

    /// A daemon that was killed has no flights: their ends reach nobody.
    fn end(&mut self, attempt: AttemptId, at: Timestamp) {
        let Some(Flight { started, reply: Some(reply), writes }) = self.flights.remove(&attempt)
        else {
            return;
        };
        let streamed = writes.filter(|_| started.stream);
        let streamed_bytes = streamed.map(|(_, _, tokens)| tokens * BYTES_PER_TOKEN);
        self.over.push(End { attempt, reply, streamed_bytes });
        self.outcome.last_end = at;
        self.next_turn = self.next_turn.min(at);
    }

    /// As SIGKILL would: what is in flight is lost to us, not to the provider. Another daemon starts
    /// after `pause`.
    ///
    /// A process never gives back the lock of a database, so the next daemon gets a copy of what is
    /// on disk now, the WAL included.
    pub(crate) async fn kill(&mut self, pause: Millis) -> anyhow::Result<()> {
        let old = self.options.config.database.clone();
        let new = old.with_extension(format!("{}.db", self.outcome.turns));
        let wal = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        std::fs::copy(&old, &new)?;
        if wal(&old).exists() {
            std::fs::copy(wal(&old), wal(&new))?;
        }
        self.options.config.database = new;
        self.outcome.killed += self.flights.len() as u64 + self.over.len() as u64;
        self.flights.clear();
        self.over.clear();
        self.happen_until(self.clock.now() + pause);
        let killed = std::mem::replace(&mut self.daemon, Stepper::start(&self.options).await?);
        killed.kill().await;
        self.next_turn = self.clock.now();
        Ok(())
    }

    fn move_to(&self, at: Timestamp) {
        self.clock.advance(at.since(self.clock.now()).to_duration());
    }
}

/// What a stream has shown of an answer by now.
fn shown(flight: &Flight, now: Timestamp) -> Option<Progress> {
    let (first, end, tokens) = flight.writes?;
    let limits = flight.reply.as_ref()?.limits.as_slice().into();
    let whole = end.since(first).0.max(1);
    let tokens = tokens * now.since(first).0.min(whole) / whole;
    let bytes = tokens * BYTES_PER_TOKEN;
    (now >= first).then_some(Progress { first_token_at: first, bytes, limits })
}
