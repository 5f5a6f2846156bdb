//! A limit with continuous refill, mirrored.
//!
//! The level is kept in *shares*: tokens × the period in milliseconds, so that a millisecond
//! refills exactly `rate` shares and nothing is lost to rounding.
//!
//! Invariant: a level is never clamped up to zero; debt stays until refill pays it.
//! Invariant: time that runs backwards refills nothing.
//! Invariant: the mirror never runs ahead of what it mirrors: a full bucket refills only once the
//! call that takes from it must have arrived.

use super::production::{Curve, Draw};
use super::size::Sizes;
use super::time::{Millis, Timestamp};

/// Where an unknown burst begins: as one who "enforces 60 a minute as one a second" would allow,
/// with a little room.
const FIRST_BURST: Millis = Millis::from_secs(5);
/// A burst that nobody states is never taken for more than the whole minute.
const LONGEST_BURST: Millis = Millis::MINUTE;
/// Nor for less than this.
const SHORTEST_BURST: Millis = Millis::SECOND;
/// How long no 429 must come before an unknown burst is doubled.
const WIDEN_AFTER: Millis = Millis::from_secs(20);
/// The same, where the provider's headers say that twice as much would be there.
const WIDEN_AFTER_SEEN: Millis = Millis::from_secs(5);
/// From the reservation of a call to its arrival: a commit, perhaps a connection, the way. A bucket
/// of less than four times this loses no more than a quarter to it.
const ON_THE_WAY: Millis = Millis(500);
/// Waiting for output to be written, it is not looked at more often.
const LOOK_AGAIN: Millis = Millis(25);
/// What others use is averaged over about this time.
const SMOOTH: Millis = Millis::from_secs(15);
/// Headers round tokens to thousands and say nothing near zero: twice as much is kept above it.
const ROUNDING: i64 = 2_000;
/// A drift that lasts is believed from this part of the bucket on.
const LASTING_PART: i64 = 400;
/// Each halving doubles the quiet before the next widening, up to so many times.
const HALVINGS_MAX: u32 = 5;
/// No more than this part of a bucket is kept as a margin.
const MARGIN_PART: i64 = 5;

/// The mirrored level of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    rate: i64,
    period: Millis,
    burst: Burst,
    level: i64,
    as_of: Timestamp,
    held: i64,
    /// What others use, in tokens a period.
    others: i64,
    /// Tokens taken off because others had used them.
    corrected: i64,
    observed_at: Timestamp,
    drift: Drift,
    sizes: Sizes,
    /// Tokens it holds at the most by the headers, where that is less than was told or thought.
    holds: Option<i64>,
}

/// What a response's headers say of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What is left.
    pub remaining: i64,
    /// How long until nothing is missing.
    pub until_full: Option<Millis>,
    /// How far off `remaining` may be.
    pub rounding: i64,
    /// What calls in flight may have written that was not taken off yet.
    pub unseen: i64,
}

/// How far headers were from the level lately: running means, in tokens × [`Drift::FINE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drift {
    now: i64,
    then: i64,
}

impl Drift {
    const FINE: i64 = 64;
    /// Weight of the newest: rounding to thousands is ± 70 after so many.
    const NEWEST: i64 = 16;

    /// One more; gives what both means agree on.
    fn add(&mut self, now: i64, then: i64) -> i64 {
        let mean = |mean: &mut i64, one: i64| {
            *mean += (one.saturating_mul(Drift::FINE) - *mean) / Drift::NEWEST;
        };
        mean(&mut self.now, now);
        mean(&mut self.then, then);
        closer(self.now, self.then) / Drift::FINE
    }

    fn corrected(&mut self, tokens: i64) {
        self.now += tokens.saturating_mul(Drift::FINE);
        self.then += tokens.saturating_mul(Drift::FINE);
    }
}

/// The one that says less, or nothing when they contradict each other.
fn closer(one: i64, other: i64) -> i64 {
    match (one.signum(), other.signum()) {
        (-1, -1) => one.max(other),
        (1, 1) => one.min(other),
        _ => 0,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Burst {
    Told(Millis),
    /// `seen` is the most that headers said was left, since the span was last changed.
    Learned {
        span: Millis,
        since: Timestamp,
        seen: i64,
        halvings: u32,
    },
}

impl Bucket {
    /// A full bucket. `rate` is tokens per `period`; without `burst` its size is learned.
    pub fn full(rate: i64, period: Millis, burst: Option<Millis>, now: Timestamp) -> Bucket {
        let burst = match burst {
            Some(span) => Burst::Told(span),
            None => {
                let span = FIRST_BURST.min(period);
                Burst::Learned { span, since: now, seen: 0, halvings: 0 }
            }
        };
        let mut bucket = Bucket {
            rate,
            period,
            burst,
            level: 0,
            as_of: now,
            held: 0,
            others: 0,
            corrected: 0,
            observed_at: now,
            drift: Drift::default(),
            sizes: Sizes::default(),
            holds: None,
        };
        bucket.level = bucket.capacity_shares();
        bucket
    }

    /// Puts back what a snapshot said: the level in shares at `as_of`, and a learned burst.
    ///
    /// A level below what this capacity allows is kept, debt included.
    pub fn restore(&mut self, level: i64, as_of: Timestamp, learned: Option<Millis>) {
        if let (Burst::Learned { span, .. }, Some(learned)) = (&mut self.burst, learned) {
            *span = learned.max(SHORTEST_BURST);
        }
        self.level = level.min(self.capacity_shares());
        self.as_of = as_of;
    }

    /// Begins lacking what another bucket of the same thing lacks, with its calls in flight.
    pub fn inherit(&mut self, old: &Bucket, now: Timestamp) {
        if let (Burst::Learned { .. }, Burst::Learned { .. }) = (self.burst, old.burst) {
            self.burst = old.burst;
        }
        let lacking = old.capacity_shares().saturating_sub(old.shares(now)) / old.period.0;
        self.level = self.capacity_shares().saturating_sub(self.in_shares(lacking));
        self.as_of = now;
        self.held = old.held;
        self.others = old.others.min(self.rate - self.rate / 20);
    }

    /// The provider says that it is another limit from now on: what is there stays there, as far
    /// as it fits.
    pub fn set_rate(&mut self, rate: i64, now: Timestamp) {
        self.touch(now);
        self.rate = rate;
        (self.sizes, self.holds, self.drift) = (Sizes::default(), None, Drift::default());
        self.others = self.others.min(rate - rate / 20);
        self.level = self.level.min(self.capacity_shares());
    }

    /// Tokens that fit at all.
    pub fn capacity(&self) -> i64 {
        self.capacity_shares() / self.period.0
    }

    /// The burst in force, and whether it was learned.
    pub fn burst(&self) -> (Millis, bool) {
        let (span, learned) = match self.burst {
            Burst::Told(span) => (span, false),
            Burst::Learned { span, .. } => (span, true),
        };
        let holds = self.holds.map(|tokens| Millis(self.in_shares(tokens) / self.rate));
        match holds.map(|least| least.max(SHORTEST_BURST)) {
            // Whole seconds and rounded tokens are no reason to doubt what was told.
            Some(least) if least.0 < span.0 / 10 * 9 => (least, true),
            _ => (span, learned),
        }
    }

    /// The level in shares at `now`, in-flight production not yet taken off.
    pub fn shares(&self, now: Timestamp) -> i64 {
        let refill = self.net_rate().saturating_mul(now.since(self.as_of).0);
        self.level.saturating_add(refill).min(self.capacity_shares())
    }

    /// The level to be written down: without the refill that has not begun yet, so that time
    /// alone makes it right again, and with what was `taken` for calls that are not settled:
    /// whoever reads it settles them in full.
    pub fn lasting_shares(&self, taken: i64, now: Timestamp) -> i64 {
        let level = self.shares(now).saturating_add(self.in_shares(taken));
        level.saturating_sub(self.net_rate().saturating_mul(self.as_of.since(now).0))
    }

    /// Whole tokens that may be given out now; negative in debt.
    pub fn available(&self, now: Timestamp) -> i64 {
        self.shares(now).div_euclid(self.period.0).saturating_sub(self.held)
    }

    /// Tokens set aside for calls in flight.
    pub fn held(&self) -> i64 {
        self.held
    }

    /// Whether a call of this size may go: it fits, or it never would and the bucket is full.
    pub fn fits(&self, debit: i64, now: Timestamp) -> bool {
        let level = self.shares(now);
        self.in_shares(debit) <= level || (debit > self.capacity() && self.is_full(now))
    }

    /// How long until refill alone lets a call of this size go.
    pub fn wait(&self, debit: i64, now: Timestamp) -> Millis {
        if self.fits(debit, now) {
            return Millis::ZERO;
        }
        let wanted = self.in_shares(debit).min(self.capacity_shares());
        self.refills(wanted.saturating_sub(self.shares(now)), now)
    }

    /// How long to wait until the level, after `debit`, stays at `margin` or above while output is
    /// written as foreseen. Zero: a call may go.
    pub fn wait_for_output(
        &self,
        debit: i64,
        curve: &Curve,
        margin: i64,
        now: Timestamp,
    ) -> Millis {
        // Somebody else shows in the headers alone, and near zero those say nothing.
        let rounding = if self.others > 0 { ROUNDING } else { 0 };
        let margin = margin.saturating_add(rounding).min(self.capacity() / MARGIN_PART);
        let lowest = self.lowest(debit, curve, now) - real(margin);
        if lowest >= 0.0 {
            return Millis::ZERO;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a number of tokens")]
        let missing = (-lowest).ceil() as i64;
        self.refills(self.in_shares(missing), now).max(LOOK_AGAIN)
    }

    /// The lowest level that is foreseen.
    fn lowest(&self, debit: i64, curve: &Curve, now: Timestamp) -> f64 {
        let per_ms = real(self.net_rate()) / real(self.period.0);
        let capacity = real(self.capacity_shares()) / real(self.period.0);
        let mut level = real(self.shares(now)) / real(self.period.0) - real(debit);
        let mut lowest = f64::INFINITY;
        let (mut before, mut taken) = (Millis::ZERO, 0.0);
        for (ahead, tokens) in curve.tokens() {
            level += per_ms * real(ahead.0 - before.0) - (tokens - taken);
            level = level.min(capacity);
            lowest = lowest.min(level);
            (before, taken) = (ahead, tokens);
        }
        lowest
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.shares(now) == self.capacity_shares()
    }

    fn refills(&self, shares: i64, now: Timestamp) -> Millis {
        let not_begun = self.as_of.since(now).0;
        let rate = self.net_rate();
        let refill = (shares.saturating_add(rate - 1) / rate).max(1);
        Millis(refill.saturating_add(not_begun))
    }

    /// Takes what a call takes when it is sent.
    pub fn reserve(&mut self, debit: i64, now: Timestamp) {
        self.touch(now);
        if debit > 0 {
            self.hold_refill_back(now);
        }
        self.level = self.level.saturating_sub(self.in_shares(debit));
    }

    /// Takes output that was written. What flowed in meanwhile is not lost at the brim: it was
    /// written out of it.
    pub fn draw(&mut self, draw: Draw) {
        self.touch(draw.from);
        let refill = self.net_rate().saturating_mul(draw.to.since(self.as_of).0);
        let change = refill.saturating_sub(self.in_shares(draw.tokens));
        self.level = self.level.saturating_add(change).min(self.capacity_shares());
        self.as_of = self.as_of.max(draw.to);
    }

    /// What the calls in flight will still take, as reserved.
    pub fn set_held(&mut self, tokens: i64) {
        self.held = tokens;
    }

    /// Ends a call of which `taken` is off the level already: `actual` is what it took in the end.
    pub fn settle(&mut self, taken: i64, actual: i64, now: Timestamp) {
        self.touch(now);
        let more = self.in_shares(actual.saturating_sub(taken));
        self.level = self.level.saturating_sub(more).min(self.capacity_shares());
    }

    /// The provider refused: nothing is left, whatever the mirror says.
    ///
    /// When the mirror thought otherwise, an unknown burst is halved.
    pub fn empty(&mut self, sent_at: Timestamp, now: Timestamp) {
        self.touch(now);
        // What the calls in flight may still write is no reason to have expected it.
        let surprised = self.level > 0;
        self.level = self.level.min(0);
        let half = Millis(self.burst().0.0 / 2).max(SHORTEST_BURST);
        if let Burst::Learned { span, since, seen, halvings } = &mut self.burst {
            // What was sent before the last change says nothing of the size since then.
            if surprised && sent_at >= *since {
                (*span, *halvings) = (half, (*halvings + 1).min(HALVINGS_MAX));
            }
            (*since, *seen) = (now, 0);
        }
    }

    /// The level now, to be compared with what the provider's headers will say of this moment.
    ///
    /// What is corrected in between is left out: the headers of all calls in flight show the same
    /// drift, and it must be corrected once.
    pub fn mark(&self, now: Timestamp) -> i64 {
        (self.shares(now) / self.period.0).saturating_add(self.corrected)
    }

    /// Compares the level with what the provider's headers say is left, and lowers it when somebody
    /// else has used the key; never raises it. What is used so again and again is a rate. A bucket
    /// that holds less than was thought is no use by others.
    ///
    /// Headers may be of the moment when the call arrived (`then`) or of the moment when they were
    /// written: only what both show is believed. A drift beyond `tolerance` (rounding, and what calls
    /// in flight may have written unseen) counts at once, a smaller one when it lasts.
    pub fn correct(&mut self, reading: Reading, then: Option<i64>, now: Timestamp) {
        self.touch(now);
        self.measure(reading, now);
        let remaining = reading.remaining;
        let tolerance = reading.rounding.saturating_add(reading.unseen);
        let then = then.map(|mark| mark.min(self.corrected.saturating_add(self.capacity())));
        if let Burst::Learned { seen, .. } = &mut self.burst {
            *seen = remaining.max(*seen);
        }
        let drift_now = remaining.saturating_sub(self.level / self.period.0);
        let drift_then = then.map_or(drift_now, |mark| {
            remaining.saturating_sub(mark.saturating_sub(self.corrected))
        });
        let passed = now.since(self.observed_at).min(SMOOTH);
        self.observed_at = self.observed_at.max(now);
        let lasting = self.drift.add(drift_now, drift_then);
        let least = (self.capacity() / LASTING_PART).max(2);
        let sudden = (closer(drift_now, drift_then) + tolerance).min(0);
        let missing = if lasting < -least { -lasting } else { 0 }.max(-sudden);
        let per_period = |tokens: i64| tokens.saturating_mul(self.period.0) / SMOOTH.0;
        // Where all but nothing is missing, nobody uses much: it holds less than was thought.
        let full = reading.until_full.is_some_and(|left| left <= Millis::SECOND);
        if full {
            self.others -= self.others.saturating_mul(passed.0) / SMOOTH.0;
        }
        if missing > 0 {
            let more = if full { 0 } else { per_period(missing) };
            self.others = (self.others + more).min(self.rate - self.rate / 20);
            self.level = self.level.saturating_sub(self.in_shares(missing));
            self.corrected = self.corrected.saturating_add(missing);
            self.drift.corrected(missing);
        } else if lasting > least {
            // They use less than was thought.
            let less = per_period(lasting).saturating_mul(passed.0) / SMOOTH.0;
            self.others = (self.others - less).max(0);
        }
    }

    /// What is left, and what flows in until it is full, is what it holds.
    fn measure(&mut self, reading: Reading, now: Timestamp) {
        // Near zero a rounded number says nothing, and a debt is not told.
        if let (Some(until_full), true) = (reading.until_full, reading.remaining > reading.rounding)
        {
            let missing = self.rate.saturating_mul(until_full.0.min(self.period.0)) / self.period.0;
            self.sizes.add(reading.remaining.saturating_add(missing), now);
        }
        let per_second = self.rate * Millis::SECOND.0 / self.period.0;
        self.holds = self.sizes.least(per_second, reading.rounding);
        self.level = self.level.min(self.capacity_shares());
    }

    /// Puts back what others used when it was written down.
    pub fn restore_others(&mut self, others: i64) {
        self.others = others.clamp(0, self.rate - self.rate / 20);
    }

    /// What others use of the limit, in tokens a period.
    pub fn others(&self) -> i64 {
        self.others
    }

    /// Doubles an unknown burst after a quiet while. Returns whether it did.
    pub fn widen(&mut self, now: Timestamp) -> bool {
        let Burst::Learned { span, since, seen, halvings } = self.burst else {
            return false;
        };
        let more_seen = seen >= self.capacity().saturating_mul(2);
        let quiet = if more_seen { WIDEN_AFTER_SEEN } else { WIDEN_AFTER };
        let longest = LONGEST_BURST.min(self.period);
        // By the headers it holds less.
        let known = self.burst().0 < span;
        if known || span >= longest || now.since(since).0 < quiet.0 << halvings {
            return false;
        }
        self.touch(now);
        let span = Millis(span.0 * 2).min(longest);
        self.burst = Burst::Learned { span, since: now, seen: 0, halvings };
        true
    }

    /// The provider's bucket stays full until the call arrives, and refill into a full bucket is
    /// lost: the level must not exceed what will be there right after the arrival.
    fn hold_refill_back(&mut self, now: Timestamp) {
        let on_the_way = ON_THE_WAY.0.min(self.burst().0.0 / 4);
        let full_after = self.capacity_shares().saturating_sub(self.level) / self.rate;
        if full_after < on_the_way {
            self.as_of = self.as_of.max(now + Millis(on_the_way - full_after));
        }
    }

    /// What is left of the rate by others.
    fn net_rate(&self) -> i64 {
        (self.rate - self.others).max(1)
    }

    fn touch(&mut self, now: Timestamp) {
        self.level = self.shares(now);
        self.as_of = self.as_of.max(now);
    }

    fn in_shares(&self, tokens: i64) -> i64 {
        tokens.saturating_mul(self.period.0)
    }

    fn capacity_shares(&self) -> i64 {
        let span = self.burst().0;
        // At least one token, else a tiny burst would stop everything for ever.
        self.rate.saturating_mul(span.0).max(self.period.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "forecasts may round; levels are kept exactly")]
fn real(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
