//! The loop: events come in, a synchronous `handle` decides, turns and calls go out.
//!
//! Invariant: one turn at a time, and the loop never waits for one: it goes on ticking while the
//! database is locked.

use super::books::{Books, Context};
use super::executor::{self, Call, Finished, Flight};
use super::forecast::Forecaster;
use super::notify::Notifier;
use super::pace::Pace;
use super::report::{Phase, Report};
use super::signals::Signals;
use super::spool::Spool;
use super::turn::{Done, Work, turn};
use super::wake::CommitWatch;
use super::{DaemonError, Ended, Options};
use crate::claude::Client;
use crate::config::Config;
use crate::domain::job::AttemptId;
use crate::domain::reason::Reason;
use crate::domain::time::{Millis, Timestamp};
use crate::store::Outlook;
use checkpoints::Checkpoints;
use peek::Peek;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod checkpoints;
mod peek;
mod reload;
mod stopping;
mod tempo;
mod trouble;

/// Watchdog, clock and everything that needs no event.
const TICK: Duration = Duration::from_secs(1);
/// An idle daemon says less often that it lives.
const IDLE_HEARTBEAT: Millis = Millis::from_secs(5);
/// Jobs are counted this often, for the status line and to see whether all is done.
const COUNT_EVERY: Millis = Millis::from_secs(5);
/// A write that is announced so soon after a turn is most likely the turn's own: it was there when
/// the turn ended.
const OWN_WRITE: Duration = Duration::from_millis(1);
/// The WAL is moved into the database this often.
const CHECKPOINT_EVERY: Millis = Millis::MINUTE;

/// What happens to the loop.
#[derive(Debug)]
pub(super) enum Event {
    /// A call is over.
    Ended(Box<Finished>),
    /// A turn is over.
    Turned(Box<Books>, Box<Done>),
    /// A turn panicked.
    Lost,
    /// Somebody wrote to the WAL.
    Written,
    /// What SQLite says of other connections' commits.
    Version(Option<i64>),
    /// Something is due.
    Due,
    /// A second passed.
    Tick,
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

pub(super) struct Scheduler {
    context: Arc<Context>,
    client: Client,
    config: Arc<Config>,
    options: Options,
    notifier: Notifier,
    spool: Spool,
    /// Whose results lie in the spool.
    spooled: HashSet<AttemptId>,
    books: Option<Box<Books>>,
    turn: Option<JoinHandle<(Box<Books>, Done)>>,
    flights: HashMap<AttemptId, Flight>,
    finished: Vec<Finished>,
    ended: (mpsc::UnboundedSender<Finished>, mpsc::UnboundedReceiver<Finished>),
    phase: Phase,
    /// Somebody has sent a signal: the next one is the second.
    asked_to_stop: bool,
    drain_until: Option<Instant>,
    look: bool,
    peek: Peek,
    wake_at: Option<Timestamp>,
    not_before: Instant,
    turned_at: Instant,
    /// Writes to the WAL are announced; where they are not, a look each second has to do.
    watched: bool,
    others_until: Instant,
    new_config: Option<Arc<Config>>,
    held_back: (Option<Reason>, BTreeMap<Reason, usize>),
    heartbeat_at: Timestamp,
    counted_at: Timestamp,
    checkpoints: Checkpoints,
    checkpoint_at: Timestamp,
    remaining: i64,
    pace: Pace,
    forecaster: Forecaster,
    /// Permits to take away as they come back.
    surplus: usize,
    /// What only a restart can recover from: no turn begins any more.
    fatal: Option<DaemonError>,
    trouble: Option<String>,
}

impl Scheduler {
    pub(super) fn new(
        context: Arc<Context>,
        client: Client,
        books: Books,
        spool: Spool,
        options: Options,
    ) -> Scheduler {
        let now = context.now();
        Scheduler {
            client,
            config: Arc::clone(&books.config),
            notifier: Notifier::new(options.notify_socket.as_deref()),
            options,
            spool,
            spooled: HashSet::new(),
            books: Some(Box::new(books)),
            turn: None,
            flights: HashMap::new(),
            finished: Vec::new(),
            ended: mpsc::unbounded_channel(),
            phase: Phase::Running,
            asked_to_stop: false,
            drain_until: None,
            look: true,
            peek: Peek::default(),
            wake_at: None,
            not_before: Instant::now(),
            turned_at: Instant::now(),
            watched: false,
            others_until: Instant::now(),
            new_config: None,
            held_back: (None, BTreeMap::new()),
            heartbeat_at: Timestamp(0),
            counted_at: Timestamp(0),
            checkpoints: Checkpoints::default(),
            checkpoint_at: now + CHECKPOINT_EVERY,
            remaining: 0,
            pace: Pace::default(),
            forecaster: Forecaster::new(),
            surplus: 0,
            fatal: None,
            trouble: None,
            context,
        }
    }

    /// Runs until the work is done or somebody stops it.
    pub(super) async fn run(mut self, mut signals: Signals) -> Result<Ended, DaemonError> {
        let watch = CommitWatch::new(self.context.store.real_path());
        self.watched = watch.works();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.notifier.ready();
        loop {
            self.begin_turn();
            if self.turn.is_none() {
                self.peek.ask(&self.context);
            }
            let due = self.due();
            let event = tokio::select! {
                biased;
                stop = signals.next() => stop,
                event = turned(&mut self.turn) => event,
                Some(finished) = self.ended.1.recv() => Event::Ended(Box::new(finished)),
                _ = tick.tick() => Event::Tick,
                version = self.peek.answer() => Event::Version(version),
                () = watch.written(), if self.turn.is_none() => Event::Written,
                () = tokio::time::sleep_until(due) => Event::Due,
            };
            if let Some(end) = self.handle(event)? {
                return self.finish(end).await;
            }
            if let Some(books) = &self.books {
                self.forecaster.go_on(&self.context, books, &self.config).await;
            }
        }
    }

    /// When the next turn is due, if nothing happens before.
    fn due(&self) -> Instant {
        if self.turn.is_some() || self.fatal.is_some() {
            return Instant::now() + TICK;
        }
        let wanted = self.look || !self.finished.is_empty();
        let at = match self.wake_at {
            _ if wanted => Instant::now(),
            Some(at) => Instant::now() + at.since(self.context.now()).to_duration(),
            None => Instant::now() + TICK,
        };
        at.max(self.not_before)
    }

    /// Whether that is news. During a turn nobody can say; it asks by itself, at its beginning.
    fn seen(&mut self, version: Option<i64>) {
        match &self.books {
            Some(books) if version.is_some() && version != books.data_version => {
                self.peek.end();
                self.look = true;
            }
            _ => self.peek.again(),
        }
    }

    fn begin_turn(&mut self) {
        let now = self.context.now();
        let due = self.wake_at.is_some_and(|at| at <= now);
        let wanted = self.look || due || !self.finished.is_empty() || self.new_config.is_some();
        let ready = self.turn.is_none() && self.fatal.is_none();
        if !ready || !wanted || Instant::now() < self.not_before {
            return;
        }
        let Some(books) = self.books.take() else { return };
        let busy = !self.flights.is_empty() || !self.finished.is_empty();
        let heartbeat_every = if busy { Millis::SECOND } else { IDLE_HEARTBEAT };
        let heartbeat = now.since(self.heartbeat_at) >= heartbeat_every;
        let idle = self.options.until_empty && !busy;
        let count = idle || now.since(self.counted_at) >= COUNT_EVERY;
        if heartbeat {
            self.heartbeat_at = now;
        }
        let work = Work {
            finished: self.next_group(),
            progress: self
                .flights
                .values()
                .filter_map(|flight| Some((flight.job, flight.sight.get()?)))
                .collect(),
            admit: self.phase == Phase::Running && self.spool.is_empty(),
            surplus: self.surplus,
            checkpoint: self.checkpoints.is_due(Instant::now() < self.others_until),
            report: heartbeat.then(|| self.report(now)),
            count,
            config: self.new_config.take(),
        };
        self.look = false;
        self.wake_at = None;
        self.turn = Some(tokio::spawn(turn(Arc::clone(&self.context), books, work)));
    }

    fn handle(&mut self, event: Event) -> Result<Option<Ended>, DaemonError> {
        match event {
            Event::Ended(finished) => {
                self.finished.push(*finished);
                while let Ok(more) = self.ended.1.try_recv() {
                    self.finished.push(more);
                }
                if self.fatal.is_some() {
                    self.salvage();
                }
            }
            Event::Turned(books, done) => return self.turned(books, *done),
            Event::Lost => {
                self.turn = None;
                self.give_up(DaemonError::Panicked);
            }
            Event::Written if self.turned_at.elapsed() < OWN_WRITE => self.peek.begin_late(),
            Event::Written => self.peek.begin(),
            Event::Version(version) => self.seen(version),
            Event::Due => {}
            Event::Tick => self.tick(),
            Event::Stop => self.stop(),
            Event::Reload => self.reload(),
        }
        self.drained()
    }

    fn turned(&mut self, books: Box<Books>, done: Done) -> Result<Option<Ended>, DaemonError> {
        let now = self.context.now();
        self.turn = None;
        self.turned_at = Instant::now();
        self.books = Some(books);
        self.not_before = Instant::now() + self.gap(&done);
        self.checkpoints.note(done.wal);
        self.checkpoints.begin(&self.context);
        for attempt in &done.settled {
            self.flights.remove(attempt);
        }
        self.surplus -= self.context.permits.forget_permits(self.surplus);
        self.pace.note(done.ended.len(), now);
        self.forecaster.note(done.ended.len());
        done.calls.into_iter().for_each(|call| self.begin_call(call));
        for flight in self.flights.values_mut().filter(|one| done.break_off.contains(&one.job)) {
            flight.break_off();
        }
        // The last call is settled: see at once whether that was all.
        self.look |= !done.settled.is_empty() && self.flights.is_empty();
        self.wake_at = done.wake_at;
        if let Some(config) = done.config {
            // Unless there is a newer one.
            self.new_config.get_or_insert(config);
        }
        if let Some(error) = done.trouble {
            self.in_trouble(error, done.unsettled, &done.rows);
            return self.drained();
        }
        self.well_again();
        if done.fenced {
            return Err(DaemonError::Fenced);
        }
        self.held_back = (done.first_held, done.held_back);
        if let Some(left) = done.left {
            self.counted_at = now;
            self.remaining = left.queued + left.running;
            if let Some(end) = self.all_done(left, done.all_looked_at) {
                return Ok(Some(end));
            }
        }
        self.drained()
    }

    fn begin_call(&mut self, call: Call) {
        let attempt = call.lease.attempt;
        let flight = if self.phase == Phase::Running {
            let (client, clock) = (self.client.clone(), self.context.clock().clone());
            executor::start(client, clock, call, self.ended.0.clone())
        } else {
            // Somebody stopped the daemon while the turn ran that leased it.
            let flight = Flight::of(&call);
            self.finished.push(executor::not_sent(call, self.context.now()));
            flight
        };
        self.flights.insert(attempt, flight);
    }

    /// `--until-empty`: whether nothing runs and nothing can become due without a person.
    /// Whether a job has failed is looked up at the very end.
    fn all_done(&self, left: Outlook, all_looked_at: bool) -> Option<Ended> {
        let busy = !self.flights.is_empty() || !self.finished.is_empty() || self.look;
        if !self.options.until_empty || busy || left.running > 0 {
            return None;
        }
        if left.queued == 0 {
            return Some(Ended::Empty { failed: false, stuck: left.held });
        }
        let waits: usize = self.held_back.1.values().sum();
        let stuck = !left.timed
            && waits > 0
            && all_looked_at
            && self.held_back.1.keys().all(|reason| reason.needs_a_person());
        stuck.then_some(Ended::Empty { failed: false, stuck: true })
    }

    fn tick(&mut self) {
        let now = self.context.now();
        let fresh = self.books.as_ref().is_some_and(|books| !books.stale);
        let idle = fresh && self.flights.is_empty() && self.held_back.1.is_empty();
        if !self.watched {
            self.peek.once();
        }
        self.look |= !idle || self.options.until_empty || self.trouble.is_some();
        self.look |= now.since(self.heartbeat_at) >= IDLE_HEARTBEAT;
        self.pace.note(0, now);
        let status = self.status_line();
        self.notifier.alive(&status);
        if now >= self.checkpoint_at && self.turn.is_none() {
            self.checkpoint_at = now + CHECKPOINT_EVERY;
            let context = Arc::clone(&self.context);
            let truncate = self.flights.is_empty();
            tokio::spawn(async move {
                if let Err(error) = context.store.checkpoint(truncate).await {
                    tracing::debug!(%error, "no checkpoint this time");
                }
            });
        }
        if self.drain_until.is_some_and(|until| Instant::now() >= until) {
            self.break_off_all();
        }
    }

    fn report(&self, now: Timestamp) -> Report {
        Report {
            as_of: now,
            phase: self.phase,
            base_url: self.config.provider.base_url.clone(),
            in_flight: u32::try_from(self.flights.len()).unwrap_or(u32::MAX),
            max_in_flight: self.config.max_in_flight,
            held_back_by: self.held_back.0,
            held_back: self.held_back.1.clone(),
            forecast: self.forecaster.latest().cloned(),
            jobs_per_minute: self.pace.per_minute(now),
            trouble: self.trouble.clone(),
        }
    }

    fn status_line(&self) -> String {
        let reason = self.held_back.0.map(|reason| format!(", held back by {}", reason.as_str()));
        let trouble = self.trouble.as_ref().map(|trouble| format!(", {trouble}"));
        format!(
            "{} in flight, {} to do{}{}",
            self.flights.len(),
            self.remaining,
            reason.unwrap_or_default(),
            trouble.unwrap_or_default()
        )
    }
}

async fn turned(turn: &mut Option<JoinHandle<(Box<Books>, Done)>>) -> Event {
    match turn {
        None => std::future::pending().await,
        Some(handle) => match handle.await {
            Ok((books, done)) => Event::Turned(books, Box::new(done)),
            Err(_) => Event::Lost,
        },
    }
}

#[cfg(test)]
mod tests;
