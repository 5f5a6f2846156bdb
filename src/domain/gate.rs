//! What closes a pool for a while: a 429's pause, an ailing provider, a spend limit, a bad key.
//!
//! After the while a single probe goes out; its success opens the gate, its failure closes it
//! for longer.
//!
//! Invariant: the breaker needs a share of the recent calls to fail, never a count alone.

use super::time::{Millis, Timestamp, Unit};
use serde::Serialize;
use std::collections::VecDeque;

/// The breaker looks at this many of the latest calls …
const RECENT: usize = 20;
/// … and of those at none that is older.
const RECENT_FOR: Millis = Millis::from_secs(30);
/// Fewer calls than this say nothing about a provider.
const ENOUGH: usize = 10;
/// The breaker's first cool-down; it doubles with each failed probe.
const COOL_DOWN: Millis = Millis::from_secs(5);
/// Its longest.
const COOL_DOWN_MAX: Millis = Millis::from_secs(120);
/// For so long it is believed to be the provider that fails the probes, and not the jobs.
const OUTAGE_MAX: Millis = Millis::from_secs(6 * 3_600);
/// A provider's wish to wait is taken for at most this.
pub const RETRY_AFTER_MAX: Millis = Millis::HOUR;
/// After a pause, the next probe waits this long for the first.
const PROBE_PATIENCE: Millis = Millis::from_secs(10);
/// When a 429 says nothing.
const PAUSE_DEFAULT: Millis = Millis::from_secs(2);

/// Why a gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// A 429 said wait.
    Pause,
    /// Too many of the last calls failed at the provider.
    Provider,
    /// A spend limit or a billing problem.
    Account,
    /// The key was rejected.
    Key,
}

impl Closed {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Closed::Pause => "pause",
            Closed::Provider => "provider",
            Closed::Account => "account",
            Closed::Key => "key",
        }
    }

    /// Reads the word in the database.
    pub fn parse(word: &str) -> Option<Closed> {
        [Closed::Pause, Closed::Provider, Closed::Account, Closed::Key]
            .into_iter()
            .find(|closed| closed.as_str() == word)
    }
}

/// Whether calls may pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Freely.
    Open,
    /// One probe, if none is under way.
    Probe,
    /// None before `until`; `None`: not before somebody does something.
    Shut {
        /// When a probe may go.
        until: Option<Timestamp>,
        /// Why.
        why: Closed,
    },
}

/// The gate of a pool or of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    shut: Option<Shut>,
    recent: VecDeque<(Timestamp, bool)>,
    failed_probes: u32,
    /// Since when the provider has given no answer, while it is shut for that.
    ailing_since: Option<Timestamp>,
    opened_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shut {
    since: Timestamp,
    until: Option<Timestamp>,
    why: Closed,
    /// Since when the probe is under way.
    probe_out: Option<Timestamp>,
}

impl Gate {
    /// Whether calls may pass.
    pub fn passage(&self, now: Timestamp) -> Passage {
        match self.shut {
            None => Passage::Open,
            Some(shut) => match shut.until {
                Some(until) if now >= until && shut.may_probe(now) => Passage::Probe,
                // A probe is under way: its end wakes the scheduler.
                Some(until) if now >= until => Passage::Shut { until: None, why: shut.why },
                until => Passage::Shut { until, why: shut.why },
            },
        }
    }

    /// Until when it is shut, and why; for status and the snapshots.
    pub fn closed(&self) -> Option<(Option<Timestamp>, Closed)> {
        self.shut.map(|shut| (shut.until, shut.why))
    }

    /// A call goes through: remembered when it is the probe.
    pub fn passed(&mut self, now: Timestamp) {
        if let Some(shut) = &mut self.shut {
            shut.probe_out = Some(now);
        }
    }

    /// Shuts it, or keeps it shut for longer. A later end wins.
    pub fn shut(&mut self, why: Closed, now: Timestamp, until: Option<Timestamp>) {
        let (until, why) = match self.shut {
            Some(old) if !ends_before(old.until, until) => (old.until, old.why),
            _ => (until, why),
        };
        self.shut = Some(Shut { since: now, until, why, probe_out: None });
    }

    /// A 429: pause for what it says, and a little longer, so that not everybody wakes at once.
    pub fn rate_limited(&mut self, retry_after: Option<Millis>, jitter: Unit, now: Timestamp) {
        let wait = retry_after.unwrap_or(PAUSE_DEFAULT).clamp(Millis(100), RETRY_AFTER_MAX);
        let until = now + wait + spread(Millis(wait.0 / 10).min(Millis::SECOND), jitter);
        self.shut(Closed::Pause, now, Some(until));
    }

    /// A call that was sent at `sent_at` got an answer (or a refusal that is its own fault):
    /// the provider works.
    pub fn succeeded(&mut self, sent_at: Timestamp, now: Timestamp) {
        if self.is_probe(sent_at) {
            self.shut = None;
            self.failed_probes = 0;
            self.ailing_since = None;
            self.recent.clear();
        }
        self.note(now, true);
    }

    /// A call failed at the provider: 529, 5xx, no answer.
    pub fn failed(&mut self, sent_at: Timestamp, jitter: Unit, now: Timestamp) {
        self.note(now, false);
        match self.shut {
            Some(_) if self.is_probe(sent_at) => {
                self.failed_probes = self.failed_probes.saturating_add(1);
                self.shut = None;
                self.cool(jitter, now);
            }
            Some(_) => {}
            None if self.is_ailing() => self.cool(jitter, now),
            None => {}
        }
    }

    /// A call did not reach the API, which is no fault of its own: the next one would fare the
    /// same. Only when one got through lately does it take a share of failures as else.
    pub fn not_reached(&mut self, sent_at: Timestamp, jitter: Unit, now: Timestamp) {
        let good = |(at, good): &(Timestamp, bool)| *good && now.since(*at) <= RECENT_FOR;
        if self.shut.is_none() && !self.recent.iter().any(good) {
            self.cool(jitter, now);
        } else {
            self.failed(sent_at, jitter, now);
        }
    }

    /// Whether a call that was sent then is the probe.
    pub fn is_probe(&self, sent_at: Timestamp) -> bool {
        self.shut.is_some_and(|shut| sent_at >= shut.since && shut.probe_out.is_some())
    }

    /// Whether a call that was sent then may fail at the provider without a word against its job:
    /// it is the probe of one that has ailed for some hours at the most.
    pub fn spares(&self, sent_at: Timestamp, now: Timestamp) -> bool {
        let ails = self.ailing_since.is_some_and(|since| now.since(since) < OUTAGE_MAX);
        ails && self.is_probe(sent_at)
    }

    /// A probe came back without news about the provider (broken off, never sent).
    pub fn probe_lost(&mut self, sent_at: Timestamp) {
        if let Some(shut) = &mut self.shut
            && sent_at >= shut.since
        {
            shut.probe_out = None;
        }
    }

    /// Shuts it as an earlier daemon left it.
    pub fn restore(&mut self, why: Closed, until: Option<Timestamp>, now: Timestamp) {
        self.shut = Some(Shut { since: now, until, why, probe_out: None });
        self.ailing_since = (why == Closed::Provider).then_some(now);
        self.ask_again(now);
    }

    /// Something was changed that may have been the cure: a probe goes at once, unless somebody
    /// said until when to wait.
    pub fn ask_again(&mut self, now: Timestamp) {
        if let Some(shut) = &mut self.shut
            && shut.why == Closed::Provider
        {
            shut.until = Some(now);
        }
    }

    /// Somebody says it is well again.
    pub fn open(&mut self, now: Timestamp) {
        *self = Gate { opened_at: Some(now), ..Gate::default() };
    }

    /// Whether somebody opened it after a call was sent.
    pub fn was_opened_after(&self, sent_at: Timestamp) -> bool {
        self.opened_at.is_some_and(|opened_at| opened_at > sent_at)
    }

    fn cool(&mut self, jitter: Unit, now: Timestamp) {
        let wait = self.cool_down(jitter);
        self.recent.clear();
        self.ailing_since.get_or_insert(now);
        self.shut(Closed::Provider, now, Some(now + wait));
    }

    fn cool_down(&self, jitter: Unit) -> Millis {
        let doubled = COOL_DOWN.0.saturating_mul(1 << self.failed_probes.min(5));
        let wait = Millis(doubled).min(COOL_DOWN_MAX);
        wait_plus(wait, spread(Millis(wait.0 / 4), jitter))
    }

    fn note(&mut self, now: Timestamp, good: bool) {
        self.recent.push_back((now, good));
        while self.recent.len() > RECENT
            || self.recent.front().is_some_and(|(at, _)| now.since(*at) > RECENT_FOR)
        {
            self.recent.pop_front();
        }
    }

    fn is_ailing(&self) -> bool {
        let bad = self.recent.iter().filter(|(_, good)| !good).count();
        self.recent.len() >= ENOUGH && bad * 2 >= self.recent.len()
    }
}

impl Shut {
    /// A 429 comes at once: a probe that is still under way after a while was let through, and
    /// may only have a long answer.
    fn may_probe(&self, now: Timestamp) -> bool {
        match self.probe_out {
            None => true,
            Some(since) => self.why == Closed::Pause && now.since(since) >= PROBE_PATIENCE,
        }
    }
}

fn ends_before(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn wait_plus(one: Millis, other: Millis) -> Millis {
    Millis(one.0.saturating_add(other.0))
}

/// `jitter` of `most`, in whole milliseconds.
pub(crate) fn spread(most: Millis, jitter: Unit) -> Millis {
    // Spans here are below 2^53 ms, so the product is exact enough and in range.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "see above")]
    let part = (most.0 as f64 * jitter.get()) as i64;
    Millis(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);
    const NO_JITTER: Unit = Unit::ZERO;

    fn at(secs: i64) -> Timestamp {
        T0 + Millis::from_secs(secs)
    }

    #[test]
    fn a_pause_ends_with_one_probe() {
        let mut gate = Gate::default();
        gate.rate_limited(Some(Millis::from_secs(10)), NO_JITTER, T0);
        assert!(matches!(gate.passage(at(9)), Passage::Shut { why: Closed::Pause, .. }));
        assert_eq!(gate.passage(at(10)), Passage::Probe);
        gate.passed(at(10));
        assert!(matches!(gate.passage(at(11)), Passage::Shut { until: None, .. }));
        gate.succeeded(at(10), at(12));
        assert_eq!(gate.passage(at(12)), Passage::Open);
    }

    #[test]
    fn a_probe_with_a_long_answer_does_not_keep_the_others() {
        let mut gate = Gate::default();
        gate.rate_limited(Some(Millis::SECOND), NO_JITTER, T0);
        gate.passed(at(1));
        assert!(matches!(gate.passage(at(10)), Passage::Shut { .. }));
        assert_eq!(gate.passage(at(11)), Passage::Probe);
    }

    #[test]
    fn an_answer_to_an_older_call_does_not_open_it() {
        let mut gate = Gate::default();
        gate.rate_limited(Some(Millis::from_secs(10)), NO_JITTER, T0);
        gate.succeeded(T0 - Millis::SECOND, at(1));
        assert!(matches!(gate.passage(at(2)), Passage::Shut { .. }));
    }

    #[test]
    fn absurd_waits_are_clamped_and_never_shortened() {
        let mut gate = Gate::default();
        gate.rate_limited(Some(Millis(i64::MAX)), NO_JITTER, T0);
        let Passage::Shut { until: Some(until), .. } = gate.passage(T0) else { panic!() };
        assert_eq!(until, T0 + RETRY_AFTER_MAX);
        gate.rate_limited(Some(Millis(0)), NO_JITTER, T0);
        assert!(
            matches!(gate.passage(T0), Passage::Shut { until: Some(same), .. } if same == until)
        );
    }

    #[test]
    fn one_in_twenty_never_opens_the_breaker() {
        let mut gate = Gate::default();
        for call in 0..2_000_i64 {
            let now = T0 + Millis(call * 10);
            if call % 20 == 0 {
                gate.failed(now, NO_JITTER, now);
            } else {
                gate.succeeded(now, now);
            }
            assert_eq!(gate.passage(now), Passage::Open);
        }
    }

    #[test]
    fn half_of_the_last_calls_do_and_failed_probes_wait_longer() {
        let mut gate = Gate::default();
        for call in 0..10 {
            assert_eq!(gate.passage(T0), Passage::Open, "{call}");
            gate.failed(T0, NO_JITTER, T0);
        }
        assert_eq!(gate.passage(T0), Passage::Shut { until: Some(at(5)), why: Closed::Provider });
        gate.passed(at(5));
        gate.failed(at(5), NO_JITTER, at(5));
        assert!(matches!(
            gate.passage(at(6)),
            Passage::Shut { until: Some(until), .. } if until == at(15)
        ));
    }

    #[test]
    fn what_does_not_reach_the_api_shuts_it_at_once_unless_others_got_through() {
        let mut gate = Gate::default();
        gate.not_reached(T0, NO_JITTER, T0);
        assert_eq!(gate.passage(T0), Passage::Shut { until: Some(at(5)), why: Closed::Provider });
        gate.not_reached(T0, NO_JITTER, at(1));
        assert_eq!(gate.passage(at(5)), Passage::Probe, "those under way do not lengthen it");
        gate.passed(at(5));
        gate.not_reached(at(5), NO_JITTER, at(5));
        assert_eq!(
            gate.passage(at(6)),
            Passage::Shut { until: Some(at(15)), why: Closed::Provider }
        );
        gate.passed(at(15));
        gate.succeeded(at(15), at(16));
        for call in 0..8 {
            gate.not_reached(at(17), NO_JITTER, at(17));
            assert_eq!(gate.passage(at(17)), Passage::Open, "{call}");
        }
        gate.not_reached(at(17), NO_JITTER, at(17));
        assert!(matches!(gate.passage(at(17)), Passage::Shut { .. }), "half and more of the last");
    }

    #[test]
    fn an_earlier_daemons_breaker_is_probed_at_once_and_a_pause_is_kept() {
        let (mut breaker, mut pause) = (Gate::default(), Gate::default());
        breaker.restore(Closed::Provider, Some(at(90)), T0);
        pause.restore(Closed::Pause, Some(at(90)), T0);
        assert_eq!(breaker.passage(T0), Passage::Probe);
        assert!(matches!(pause.passage(T0), Passage::Shut { .. }));
    }

    #[test]
    fn probes_of_an_ailing_provider_spare_their_jobs_for_some_hours() {
        let mut gate = Gate::default();
        for _ in 0..10 {
            assert!(!gate.spares(T0, T0), "no probe");
            gate.failed(T0, NO_JITTER, T0);
        }
        assert!(!gate.spares(T0, at(1)), "one that was under way");
        let mut now = at(5);
        while now.since(T0) < OUTAGE_MAX {
            gate.passed(now);
            assert!(gate.spares(now, now), "{now}");
            gate.failed(now, NO_JITTER, now);
            now = now + COOL_DOWN_MAX;
        }
        gate.passed(now);
        assert!(!gate.spares(now, now), "by now it may be the jobs");
        gate.succeeded(now, now);
        assert!(!gate.spares(now, now));

        // A 429's pause says that the provider works; a probe that fails otherwise ends that.
        let mut gate = Gate::default();
        gate.rate_limited(Some(Millis::SECOND), NO_JITTER, T0);
        gate.passed(at(1));
        assert!(!gate.spares(at(1), at(1)));
        gate.failed(at(1), NO_JITTER, at(1));
        gate.passed(at(20));
        assert!(gate.spares(at(20), at(20)));
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut gate = Gate::default();
        for _ in 0..9 {
            gate.failed(T0, NO_JITTER, T0);
        }
        gate.failed(at(31), NO_JITTER, at(31));
        assert_eq!(gate.passage(at(31)), Passage::Open);
    }
}
