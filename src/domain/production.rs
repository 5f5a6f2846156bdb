//! Output that is being written: what the calls in flight have produced, and will.
//!
//! In realtime mode the provider counts tokens as they come. What matters for the next seconds is
//! how many calls write and how fast, not how long each will be in the end: so the level of a small
//! bucket is foreseen from the calls in flight, their speed and what is left of them.
//!
//! Invariant: what was once taken off a level as produced is never given back before the settlement.

use super::attempt::Progress;
use super::job::JobId;
use super::limit::Dimension;
use super::pace::{Pace, Speed};
use super::reservation::Reservation;
use super::shape::Shape;
use super::time::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Moments ahead at which levels are foreseen.
pub const AHEAD: [Millis; 16] = [
    Millis(250),
    Millis(500),
    Millis(1_000),
    Millis(1_500),
    Millis(2_000),
    Millis(3_000),
    Millis(4_000),
    Millis(6_000),
    Millis(8_000),
    Millis(12_000),
    Millis(16_000),
    Millis(24_000),
    Millis(32_000),
    Millis(48_000),
    Millis(64_000),
    Millis(128_000),
];

/// Seconds by which what is seen of an answer may be late.
const LATE: f64 = 0.25;
/// Nobody writes faster than this: what is foreseen of a model whose speed is not known yet.
const FAST: f64 = 200.0;

/// What is known beforehand of the answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Prospect {
    /// How long answers to such calls are.
    pub shape: Arc<Shape>,
    /// How fast the model writes, once that is known.
    pub speed: Option<Speed>,
}

impl Default for Prospect {
    fn default() -> Self {
        Prospect { shape: Arc::new(Shape::whole()), speed: None }
    }
}

/// Tokens to be expected up to each of the moments [`AHEAD`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Curve([f64; AHEAD.len()]);

impl Curve {
    /// Both together.
    pub fn plus(mut self, other: &Curve) -> Curve {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
        self
    }

    /// One that says so.
    pub fn of(tokens: impl Fn(Millis) -> f64) -> Curve {
        Curve(AHEAD.map(tokens))
    }

    /// The tokens, moment by moment.
    pub fn tokens(&self) -> impl Iterator<Item = (Millis, f64)> {
        AHEAD.into_iter().zip(self.0)
    }
}

/// What is foreseen of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Tokens written, as a provider counts that looks while it writes.
    pub written: Curve,
    /// Tokens of the answers that are whole, as a gateway counts that looks at the end.
    pub finished: Curve,
}

impl Outlook {
    /// Both together.
    pub fn plus(&self, other: &Outlook) -> Outlook {
        Outlook {
            written: self.written.plus(&other.written),
            finished: self.finished.plus(&other.finished),
        }
    }
}

/// One answer that is being written.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    queue: Arc<str>,
    model: Arc<str>,
    since: Timestamp,
    max_tokens: f64,
    expected: i64,
    /// Tokens already taken off the levels.
    taken: i64,
    first_token_at: Option<Timestamp>,
    /// Tokens that its stream has shown, and when.
    seen: Option<(f64, Timestamp)>,
    prospect: Prospect,
    /// What each level was when it was sent; see [`Bucket::mark`](super::bucket::Bucket::mark).
    marks: Vec<(Dimension, i64)>,
    /// Its headers were compared with the levels.
    compared: bool,
}

impl Flow {
    /// A call that starts now.
    pub fn new(call: &Reservation, prospect: Prospect) -> Flow {
        Flow {
            queue: Arc::clone(&call.queue),
            model: Arc::clone(&call.model),
            since: call.reserved_at,
            max_tokens: real(call.worst.output_tokens.max(1)),
            expected: call.expected.output_tokens,
            taken: 0,
            first_token_at: None,
            seen: None,
            prospect,
            marks: Vec::new(),
            compared: false,
        }
    }

    /// Remembers what the levels were when it was sent.
    pub fn marked(mut self, marks: Vec<(Dimension, i64)>) -> Flow {
        self.marks = marks;
        self
    }

    /// What it takes by each of the moments ahead.
    pub fn outlook(&self, now: Timestamp) -> Outlook {
        let there = self.produced(now);
        let rest = self.prospect.shape.rest(there / self.max_tokens);
        let untaken = (there - real(self.taken)).max(0.0);
        let mut outlook = Outlook::default();
        for (at, ahead) in AHEAD.into_iter().enumerate() {
            let to = (there + self.writes(now, ahead)) / self.max_tokens;
            let (more, whole) = rest.until(to);
            outlook.written.0[at] = self.max_tokens * more + untaken;
            outlook.finished.0[at] = self.max_tokens * whole;
        }
        outlook
    }

    /// Tokens it must have written by now.
    fn produced(&self, now: Timestamp) -> f64 {
        let Some(speed) = self.prospect.speed else {
            return self.seen.map_or(0.0, |(tokens, _)| tokens);
        };
        let by_time = |since: Timestamp| seconds(now.since(since)) * speed.tokens_per_second;
        let tokens = match self.seen {
            Some((tokens, at)) => tokens + by_time(at),
            None => by_time(self.begins(speed)),
        };
        tokens.min(self.max_tokens).max(real(self.taken))
    }

    /// When its first token came, as far as anybody knows.
    fn begun(&self) -> Timestamp {
        let by_speed = self.prospect.speed.map(|speed| self.begins(speed));
        by_speed.or(self.first_token_at).unwrap_or(self.since)
    }

    fn begins(&self, speed: Speed) -> Timestamp {
        self.first_token_at.unwrap_or(self.since + speed.first_token)
    }

    /// What it writes between now and then if it does not end.
    fn writes(&self, now: Timestamp, ahead: Millis) -> f64 {
        match self.prospect.speed {
            None => seconds(ahead) * FAST,
            Some(speed) => {
                let wait = self.begins(speed).since(now);
                seconds(Millis((ahead.0 - wait.0).max(0))) * speed.tokens_per_second
            }
        }
    }
}

/// Sums over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    expected: i64,
    taken: i64,
    held: i64,
    doubt: i64,
    margin: i64,
}

impl Sums {
    fn of(flow: &Flow) -> Sums {
        let held = (flow.expected - flow.taken).max(0);
        let late = flow.prospect.speed.map(late);
        Sums {
            expected: flow.expected,
            taken: flow.taken,
            held,
            doubt: late.unwrap_or(held),
            margin: late.unwrap_or(0),
        }
    }

    fn plus(self, other: Sums) -> Sums {
        Sums {
            expected: self.expected + other.expected,
            taken: self.taken + other.taken,
            held: self.held + other.held,
            doubt: self.doubt + other.doubt,
            margin: self.margin + other.margin,
        }
    }

    fn minus(self, other: Sums) -> Sums {
        Sums {
            expected: self.expected - other.expected,
            taken: self.taken - other.taken,
            held: self.held - other.held,
            doubt: self.doubt - other.doubt,
            margin: self.margin - other.margin,
        }
    }
}

/// Output that was written evenly over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// How much.
    pub tokens: i64,
}

/// All answers of a pool that are being written.
///
/// Invariant: to start or end one call takes no time that grows with the others in flight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Production {
    flows: BTreeMap<JobId, Flow>,
    outlook: Outlook,
    sums: Sums,
    /// When it was last asked what was written.
    advanced_at: Option<Timestamp>,
    /// Whether nothing can have come to light since.
    looked: bool,
    /// When it last looked ahead, unless something has changed since.
    foreseen_at: Option<Timestamp>,
}

impl Production {
    /// A call starts.
    pub fn begin(&mut self, job: JobId, flow: Flow, now: Timestamp) {
        self.outlook = self.outlook.plus(&flow.outlook(now));
        self.sums = self.sums.plus(Sums::of(&flow));
        if flow.since < now {
            self.looked = false;
        }
        if let Some(before) = self.flows.insert(job, flow) {
            self.sums = self.sums.minus(Sums::of(&before));
            self.foreseen_at = None;
        }
    }

    /// A call is over; gives the tokens that were already taken off for it.
    pub fn end(&mut self, job: JobId) -> i64 {
        let Some(flow) = self.flows.remove(&job) else { return 0 };
        self.sums = self.sums.minus(Sums::of(&flow));
        self.foreseen_at = None;
        flow.taken
    }

    /// A stream shows how far its answer is.
    pub fn see(
        &mut self,
        job: JobId,
        progress: &Progress,
        pace: impl Fn(&Arc<str>) -> Pace,
        now: Timestamp,
    ) {
        if let Some(flow) = self.flows.get_mut(&job) {
            self.looked = false;
            self.foreseen_at = None;
            flow.first_token_at = Some(progress.first_token_at);
            if let Some(tokens) = pace(&flow.model).tokens_in(progress.bytes) {
                flow.seen = Some((tokens.min(flow.max_tokens), now));
            }
        }
    }

    /// What was written since the last look, and when; it is to be taken off the levels.
    ///
    /// Between two looks minutes may pass, in which a bucket that is not drawn from would be full.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Draw> {
        let last = self.advanced_at.unwrap_or(now);
        if self.looked && last >= now {
            return Vec::new();
        }
        self.advanced_at = Some(last.max(now));
        self.looked = true;
        self.sums = Sums::default();
        let mut written: Vec<(Timestamp, i64)> = Vec::new();
        for flow in self.flows.values_mut() {
            #[expect(clippy::cast_possible_truncation, reason = "at most max_tokens")]
            let produced = flow.produced(now) as i64;
            let more = (produced - flow.taken).max(0);
            if more > 0 {
                written.push((flow.begun().max(last).min(now), more));
                flow.taken = produced;
            }
            self.sums = self.sums.plus(Sums::of(flow));
        }
        spread(written, now)
    }

    /// Looks ahead with what is known now; not twice for the same moment, unless a call has ended
    /// in between (which is when something is learned) or was seen.
    pub fn foresee(&mut self, now: Timestamp, prospect: impl Fn(&Arc<str>, &Arc<str>) -> Prospect) {
        if self.foreseen_at == Some(now) {
            return;
        }
        self.foreseen_at = Some(now);
        self.outlook = Outlook::default();
        self.sums = Sums::default();
        self.looked = false;
        for flow in self.flows.values_mut() {
            flow.prospect = prospect(&flow.queue, &flow.model);
            self.outlook = self.outlook.plus(&flow.outlook(now));
            self.sums = self.sums.plus(Sums::of(flow));
        }
    }

    /// What all of them take by each of the moments ahead.
    pub fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// Tokens already taken off for calls that are not settled.
    pub fn taken(&self) -> i64 {
        self.sums.taken
    }

    /// Tokens that the reservations still expect.
    pub fn held(&self) -> i64 {
        self.sums.held
    }

    /// Tokens that the reservations expected, also of what is written already.
    pub fn expected(&self) -> i64 {
        self.sums.expected
    }

    /// How far off `taken` may be: what is written while an event is on its way, or all that is
    /// expected of calls whose speed nobody knows.
    pub fn doubt(&self) -> i64 {
        self.sums.doubt
    }

    /// The level below which it may be empty already: what is written while an event is on its way.
    pub fn margin(&self) -> i64 {
        self.sums.margin
    }

    /// What the level of a limit was when a call was sent.
    pub fn mark(&self, job: JobId, dimension: Dimension) -> Option<i64> {
        let marks = &self.flows.get(&job)?.marks;
        marks.iter().find(|(one, _)| *one == dimension).map(|(_, mark)| *mark)
    }

    /// Whether the headers of a call are still to be compared with the levels; not a second time.
    pub fn may_compare(&mut self, job: JobId) -> bool {
        let flow = self.flows.get_mut(&job);
        flow.is_none_or(|flow| !std::mem::replace(&mut flow.compared, true))
    }

    /// How long ago a call was sent.
    pub fn age(&self, job: JobId, now: Timestamp) -> Millis {
        self.flows.get(&job).map_or(Millis::ZERO, |flow| now.since(flow.since))
    }

    /// Whether a call is in flight.
    pub fn has(&self, job: JobId) -> bool {
        self.flows.contains_key(&job)
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.flows.is_empty()
    }
}

/// What several wrote, each evenly from some time until now, as stretches one after another.
fn spread(mut written: Vec<(Timestamp, i64)>, now: Timestamp) -> Vec<Draw> {
    written.sort_by_key(|(from, _)| *from);
    let mut draws = Vec::new();
    let mut begun = 0;
    while let Some((from, _)) = written.get(begun).copied() {
        begun += written[begun..].iter().take_while(|(one, _)| *one == from).count();
        let to = written.get(begun).map_or(now, |(next, _)| *next);
        let (part, whole) = (to.since(from).0, now.since(from).0);
        let mut tokens = 0;
        for (_, left) in &mut written[..begun] {
            let taken = if to >= now { *left } else { *left * part / whole.max(1) };
            tokens += taken;
            *left -= taken;
        }
        draws.push(Draw { from, to, tokens });
    }
    draws
}

#[expect(clippy::cast_possible_truncation, reason = "a speed")]
fn late(speed: Speed) -> i64 {
    (speed.tokens_per_second * LATE) as i64
}

#[expect(clippy::cast_precision_loss, reason = "tokens lie far below 2^53")]
fn real(tokens: i64) -> f64 {
    tokens as f64
}

#[expect(clippy::cast_precision_loss, reason = "spans of a process lie far below 2^53")]
fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1_000.0
}

#[cfg(test)]
#[path = "production_tests.rs"]
mod tests;
