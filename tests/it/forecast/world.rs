//! A daemon and a provider in one virtual time, with nothing in between but two spans of way.

use claudeq::claude::given::reply_to;
use claudeq::clock::{Clock, Entropy};
use claudeq::config::Config;
use claudeq::daemon::Options;
use claudeq::daemon::stepper::{End, Started, Stepper};
use claudeq::domain::attempt::{Progress, Reply};
use claudeq::domain::job::{AttemptId, JobId};
use claudeq::domain::time::{Millis, Timestamp};
use claudeq::simulator::{Config as Sim, Offline};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// From a commit to the request's arrival, and from the provider back.
const WAY: Millis = Millis(25);
/// What a turn takes, and the least time between two.
const TURN: Millis = Millis(8);
/// A turn comes at least this often.
const TICK: Millis = Millis::SECOND;
/// Bytes of text a token of the simulator's answers has.
const BYTES_PER_TOKEN: i64 = 4;

/// When virtual time begins: 2026-10-01T00:00:00Z.
pub(super) fn first_moment() -> Timestamp {
    Timestamp(1_790_812_800_000)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(AttemptId),
    Ends(AttemptId),
}

struct Flight {
    started: Started,
    reply: Option<Reply>,
    /// When its first token comes to us, its end, and the tokens between.
    writes: Option<(Timestamp, Timestamp, i64)>,
}

/// The world.
pub(super) struct World {
    pub(super) daemon: Stepper,
    /// When the last answer came.
    pub(super) last_end: Timestamp,
    clock: Clock,
    provider: Offline,
    events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    flights: HashMap<AttemptId, Flight>,
    over: Vec<End>,
    next_turn: Timestamp,
    pub(super) ended: usize,
}

impl World {
    pub(super) async fn new(config: Config, simulator: Sim) -> World {
        let clock = Clock::manual(first_moment());
        let provider = Offline::new(simulator, clock.clone()).unwrap();
        let options = Options {
            config,
            key: "none".to_owned().into(),
            until_empty: true,
            clock: clock.clone(),
            entropy: Entropy::seeded(3),
            notify_socket: None,
            host: "virtual".into(),
            reload: None,
        };
        World {
            daemon: Stepper::start(&options).await.unwrap(),
            last_end: first_moment(),
            clock,
            provider,
            events: BinaryHeap::new(),
            flights: HashMap::new(),
            over: Vec::new(),
            next_turn: first_moment(),
            ended: 0,
        }
    }

    /// Goes on until nothing is left, or so many jobs have ended that `enough` is said.
    pub(super) async fn run(&mut self, enough: impl Fn(usize, Timestamp) -> bool) {
        while !enough(self.ended, self.clock.now()) {
            let next = self.events.peek().map_or(self.next_turn, |Reverse((at, _))| *at);
            self.move_to(next.min(self.next_turn));
            while let Some(Reverse((at, event))) = self.events.peek().copied()
                && at <= self.clock.now()
            {
                self.events.pop();
                match event {
                    Event::Arrives(attempt) => self.arrive(attempt, at),
                    Event::Ends(attempt) => self.end(attempt, at),
                }
            }
            if self.clock.now() >= self.next_turn && self.turn().await {
                return;
            }
        }
    }

    /// One turn; whether that was all.
    async fn turn(&mut self) -> bool {
        let now = self.clock.now();
        let seen = self.flights.values().filter(|flight| flight.started.stream);
        let mut progress: Vec<(JobId, Progress)> = seen
            .filter_map(|flight| Some((flight.started.job, shown(flight.writes?, now)?)))
            .collect();
        progress.sort_by_key(|(job, _)| *job);
        let step = self.daemon.step(std::mem::take(&mut self.over), progress).await.unwrap();
        self.move_to(now + TURN);
        let now = self.clock.now();
        self.ended += step.ended.len();
        self.next_turn = step.wake_at.map_or(now + TICK, |at| at.min(now + TICK)).max(now);
        for started in step.started {
            let attempt = started.attempt;
            self.events.push(Reverse((now + WAY, Event::Arrives(attempt))));
            self.flights.insert(attempt, Flight { started, reply: None, writes: None });
        }
        step.left == 0 && self.flights.is_empty()
    }

    fn arrive(&mut self, attempt: AttemptId, at: Timestamp) {
        let flight = self.flights.get_mut(&attempt).unwrap();
        let response = self.provider.arrive(&flight.started.body).unwrap();
        let first = at + response.first_token.into() + WAY;
        let end = at + response.end.into() + WAY;
        let head = if flight.started.stream { first } else { end };
        let tokens = i64::try_from(response.output_tokens).unwrap();
        flight.writes = (response.status == 200).then_some((first, end, tokens));
        let reply = reply_to(response.status, &response.headers, &response.body, head, end);
        flight.reply = Some(reply);
        self.events.push(Reverse((end, Event::Ends(attempt))));
    }

    fn end(&mut self, attempt: AttemptId, at: Timestamp) {
        let Flight { started, reply, writes } = self.flights.remove(&attempt).unwrap();
        let streamed = writes.filter(|_| started.stream);
        let streamed_bytes = streamed.map(|(_, _, tokens)| tokens * BYTES_PER_TOKEN);
        self.over.push(End { attempt, reply: reply.unwrap(), streamed_bytes });
        self.last_end = at;
        self.next_turn = self.next_turn.min(at);
    }

    fn move_to(&self, at: Timestamp) {
        self.clock.advance(at.since(self.clock.now()).to_duration());
    }
}

/// What a stream has shown of an answer by now.
fn shown((first, end, tokens): (Timestamp, Timestamp, i64), now: Timestamp) -> Option<Progress> {
    let whole = end.since(first).0.max(1);
    let tokens = tokens * now.since(first).0.min(whole) / whole;
    (now >= first).then_some(Progress { first_token_at: first, bytes: tokens * BYTES_PER_TOKEN })
}
