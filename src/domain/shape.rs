//! How long answers are, as a part of their `max_tokens`.
//!
//! A survival function: of all answers, which part reaches at least this length. It tells the
//! mean length before a call is made, and what is still to come of an answer of which some is
//! already there.

use serde::{Deserialize, Serialize};

/// Edges between the bins are (i ÷ BINS)²: short answers under a generous `max_tokens` are the rule,
/// and they need the finer bins.
const BINS: usize = 48;
/// So many samples weigh as much as what is believed without them.
const PRIOR: f64 = 8.0;
/// Older samples fade: this many count at the most.
const MEMORY: f64 = 512.0;

/// Counted lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    counts: Vec<f64>,
    total: f64,
}

impl Default for Lengths {
    fn default() -> Self {
        Lengths { counts: vec![0.0; BINS], total: 0.0 }
    }
}

impl Lengths {
    /// One more answer, `ratio` of its `max_tokens` long.
    pub fn add(&mut self, ratio: f64) {
        // What was read back from a database may be anything.
        self.counts.resize(BINS, 0.0);
        if self.total >= MEMORY {
            let keep = 1.0 - 1.0 / MEMORY;
            self.counts.iter_mut().for_each(|count| *count *= keep);
            self.total *= keep;
        }
        let bin = (0..BINS).find(|bin| ratio <= edge(bin + 1)).unwrap_or(BINS - 1);
        self.counts[bin] += 1.0;
        self.total += 1.0;
    }

    /// How many samples it stands on.
    pub fn samples(&self) -> f64 {
        self.total
    }

    /// Whether it can have been made by [`Lengths::add`].
    pub fn is_sane(&self) -> bool {
        let sane = |count: &f64| count.is_finite() && *count >= 0.0;
        let sum: f64 = self.counts.iter().sum();
        self.counts.len() == BINS
            && self.counts.iter().all(sane)
            && (sum - self.total).abs() <= 1e-6 * sum.max(1.0)
    }
}

/// A survival function over 0 … 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// At the edges; falls from 1.
    survival: [f64; BINS + 1],
    /// Its integral up to each edge.
    area: [f64; BINS + 1],
}

impl Shape {
    /// Every answer takes all of its `max_tokens`: what is believed before any was seen.
    pub fn whole() -> Shape {
        Shape::from_survival([1.0; BINS + 1])
    }

    /// What was counted, mixed with what is believed without it, by the number of samples.
    pub fn of(lengths: &Lengths, prior: &Shape) -> Shape {
        let mut survival = [1.0; BINS + 1];
        let mut left = lengths.total;
        let weight = lengths.total / (lengths.total + PRIOR);
        for (at, slot) in survival.iter_mut().enumerate().skip(1) {
            left -= lengths.counts.get(at - 1).copied().unwrap_or(0.0);
            let counted = if lengths.total > 0.0 { (left / lengths.total).max(0.0) } else { 1.0 };
            *slot = weight * counted + (1.0 - weight) * prior.survival[at];
        }
        Shape::from_survival(survival)
    }

    fn from_survival(survival: [f64; BINS + 1]) -> Shape {
        let mut area = [0.0; BINS + 1];
        for at in 1..=BINS {
            let width = edge(at) - edge(at - 1);
            area[at] = area[at - 1] + width * (survival[at - 1] + survival[at]) / 2.0;
        }
        Shape { survival, area }
    }

    /// The mean length.
    pub fn mean(&self) -> f64 {
        self.area[BINS]
    }

    /// What is still to come of an answer that has reached `from`.
    pub fn rest(&self, from: f64) -> Rest<'_> {
        let (survives, before) = self.at(from);
        Rest { shape: self, from, survives, before }
    }

    /// Survival and area at a length.
    fn at(&self, ratio: f64) -> (f64, f64) {
        if ratio >= 1.0 {
            return (self.survival[BINS], self.area[BINS]);
        }
        let ratio = ratio.max(0.0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and BINS"
        )]
        let bin = ((ratio.sqrt() * BINS as f64) as usize).min(BINS - 1);
        let (low, high) = (edge(bin), edge(bin + 1));
        let part = ((ratio - low) / (high - low)).clamp(0.0, 1.0);
        let survival = self.survival[bin] + (self.survival[bin + 1] - self.survival[bin]) * part;
        let area = self.area[bin] + (ratio - low) * (self.survival[bin] + survival) / 2.0;
        (survival, area)
    }
}

/// An answer that has reached some length.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    shape: &'a Shape,
    from: f64,
    survives: f64,
    before: f64,
}

impl Rest<'_> {
    /// How much is to be expected until `to`; and of those answers alone that end before it, whole.
    pub fn until(&self, to: f64) -> (f64, f64) {
        let Rest { from, survives, before, .. } = *self;
        // Longer than all that were seen: it may go on to the end.
        if survives <= 1e-9 {
            let more = (to.min(1.0) - from).max(0.0);
            return (more, if to >= 1.0 { more + from } else { 0.0 });
        }
        let (goes_on, until) = self.shape.at(to);
        let more = if to <= from { 0.0 } else { ((until - before) / survives).max(0.0) };
        if to >= 1.0 {
            return (more, more + from);
        }
        (more, (from + ((until - before) - to * goes_on) / survives).max(0.0))
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most BINS")]
fn edge(at: usize) -> f64 {
    let part = at as f64 / BINS as f64;
    part * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 0.02
    }

    fn uniform() -> Shape {
        let mut lengths = Lengths::default();
        for number in 0..500 {
            lengths.add(f64::from(number) / 500.0);
        }
        Shape::of(&lengths, &Shape::whole())
    }

    #[test]
    fn nothing_seen_means_all_of_it() {
        let shape = Shape::of(&Lengths::default(), &Shape::whole());
        assert!(near(shape.mean(), 1.0));
        assert!(near(shape.rest(0.25).until(0.75).0, 0.5));
    }

    #[test]
    fn the_mean_is_that_of_the_samples() {
        assert!(near(uniform().mean(), 0.5));
        let mut lengths = Lengths::default();
        (0..500).for_each(|_| lengths.add(0.01));
        let mean = Shape::of(&lengths, &Shape::whole()).mean();
        assert!(mean > 0.01 && mean < 0.04, "few of the prior are left: {mean}");
    }

    #[test]
    fn what_is_still_to_come_depends_on_what_is_there() {
        let shape = uniform();
        // Of those that reach a half, the rest is a quarter on average.
        assert!(near(shape.rest(0.5).until(1.0).0, 0.25));
        assert!(near(shape.rest(0.0).until(1.0).0, 0.5));
        assert!(shape.rest(0.5).until(0.6).0 < 0.1);
    }

    #[test]
    fn longer_than_ever_seen_goes_on() {
        let mut lengths = Lengths::default();
        (0..100_000).for_each(|_| lengths.add(0.1));
        let shape = Shape::of(&lengths, &Shape::of(&lengths, &Shape::whole()));
        assert!(shape.rest(0.5).until(0.6).0 > 0.09);
    }

    #[test]
    fn old_samples_fade() {
        let mut lengths = Lengths::default();
        (0..1_000).for_each(|_| lengths.add(0.9));
        (0..3_000).for_each(|_| lengths.add(0.1));
        assert!(lengths.samples() <= MEMORY + 1.0);
        assert!(Shape::of(&lengths, &Shape::whole()).mean() < 0.15);
    }
}
