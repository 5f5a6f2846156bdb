//! Budgets: ceilings over calendar periods, in money or tokens.
//!
//! Invariant: spent + reserved at worst case + the next call's worst case ≤ the cap, or the
//! call does not go out. A period is that of the reservation, whenever the call ends.

use super::price::Nanousd;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a budget counts, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Money, in nano-dollars.
    Usd(Nanousd),
    /// Tokens of prompt and output together.
    Tokens(i64),
}

/// The calendar period of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetPer {
    /// A calendar day in the budget's zone.
    Day,
    /// A calendar month in the budget's zone.
    Month,
    /// All of time.
    Total,
}

impl BudgetPer {
    /// The word in configuration and database.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetPer::Day => "day",
            BudgetPer::Month => "month",
            BudgetPer::Total => "total",
        }
    }
}

/// A budget as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSpec {
    /// The ceiling.
    pub cap: Cap,
    /// Over what.
    pub per: BudgetPer,
    /// Only this queue's calls; `None`: everybody's.
    pub queue: Option<Arc<str>>,
    /// IANA name of the zone whose midnight counts.
    pub timezone: String,
    /// Whether calls whose cost does not lie in their bytes may go out.
    pub allow_unbounded: bool,
}

impl BudgetSpec {
    /// What makes it the same budget over restarts: everything but the size of the cap.
    pub fn key(&self) -> String {
        let unit = match self.cap {
            Cap::Usd(_) => "usd",
            Cap::Tokens(_) => "tokens",
        };
        let queue = self.queue.as_deref().unwrap_or("*");
        format!("{unit}/{}/{}/{queue}", self.per.as_str(), self.timezone)
    }

    /// Whether calls of this queue count.
    pub fn covers(&self, queue: &str) -> bool {
        self.queue.as_deref().is_none_or(|own| own == queue)
    }
}

/// The most a call can use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    /// Input tokens.
    pub input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// Money; `None` when the model has no price.
    pub nanousd: Option<Nanousd>,
}

impl Worst {
    /// Prompt and output together.
    pub fn tokens(&self) -> i64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// What was spent and reserved in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodSum {
    /// First moment of the period.
    pub start: Timestamp,
    /// First moment after it.
    pub end: Timestamp,
    /// Settled, in the budget's unit.
    pub spent: i64,
    /// Worst case of the calls in flight.
    pub reserved: i64,
}

/// A budget and its sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// As configured.
    pub spec: BudgetSpec,
    /// Oldest first; the last is the one that counts now.
    periods: Vec<PeriodSum>,
}

/// Why a budget stops a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// It would not fit any more; `until` is the end of the period.
    Full {
        /// When a new period begins.
        until: Timestamp,
    },
    /// Nobody can say what the call costs.
    Unbounded,
}

impl Budget {
    /// A budget in the period `start … end` in which `spent` was settled before.
    pub fn new(spec: BudgetSpec, start: Timestamp, end: Timestamp, spent: i64) -> Budget {
        Budget { spec, periods: vec![PeriodSum { start, end, spent, reserved: 0 }] }
    }

    /// The sums that count now.
    pub fn current(&self) -> PeriodSum {
        *self.periods.last().unwrap_or(&PeriodSum {
            start: Timestamp(i64::MIN),
            end: Timestamp(i64::MAX),
            spent: 0,
            reserved: 0,
        })
    }

    /// Every period with anything still in it, for the snapshots.
    pub fn periods(&self) -> &[PeriodSum] {
        &self.periods
    }

    /// Begins a new period unless the current one already covers it.
    pub fn roll(&mut self, start: Timestamp, end: Timestamp) {
        if start > self.current().start {
            self.periods.retain(|period| period.reserved > 0);
            self.periods.push(PeriodSum { start, end, spent: 0, reserved: 0 });
        }
    }

    /// Whether a call may go out at `at`.
    ///
    /// # Errors
    /// [`Wall`] when it may not: also when the period of that moment has not begun here, since
    /// nobody knows its bounds before [`Budget::roll`].
    pub fn admits(&self, worst: &Worst, unbounded: bool, at: Timestamp) -> Result<(), Wall> {
        if unbounded && !self.spec.allow_unbounded {
            return Err(Wall::Unbounded);
        }
        let amount = match (self.spec.cap, worst.nanousd) {
            (Cap::Usd(_), Some(nanousd)) => nanousd,
            (Cap::Usd(_), None) if self.spec.allow_unbounded => 0,
            (Cap::Usd(_), None) => return Err(Wall::Unbounded),
            (Cap::Tokens(_), _) => worst.tokens(),
        };
        let now = self.current();
        let sum = now.spent.saturating_add(now.reserved).saturating_add(amount);
        if at < now.start {
            // Ledger time never runs backwards; if it did, it would not be booked anywhere.
            return Err(Wall::Full { until: now.start });
        }
        let fits = at < now.end && sum <= self.cap();
        if fits { Ok(()) } else { Err(Wall::Full { until: now.end }) }
    }

    /// The ceiling in the budget's unit.
    pub fn cap(&self) -> i64 {
        match self.spec.cap {
            Cap::Usd(amount) | Cap::Tokens(amount) => amount,
        }
    }

    /// Sets the worst case aside, in the period of the reservation.
    pub fn reserve(&mut self, worst: &Worst, reserved_at: Timestamp) {
        let amount = self.in_unit(worst.nanousd, worst.tokens());
        if let Some(period) = self.period_mut(reserved_at) {
            period.reserved = period.reserved.saturating_add(amount);
        }
    }

    /// Replaces the worst case by what was used, in the period of the reservation.
    pub fn settle(
        &mut self,
        worst: &Worst,
        reserved_at: Timestamp,
        nanousd: Option<Nanousd>,
        tokens: i64,
    ) {
        let held = self.in_unit(worst.nanousd, worst.tokens());
        let used = self.in_unit(nanousd, tokens);
        if let Some(period) = self.period_mut(reserved_at) {
            period.reserved = period.reserved.saturating_sub(held).max(0);
            period.spent = period.spent.saturating_add(used);
        }
    }

    /// Enters a reservation made by an earlier daemon and not settled yet.
    pub fn adopt(&mut self, worst: &Worst, reserved_at: Timestamp) {
        self.reserve(worst, reserved_at);
    }

    fn period_mut(&mut self, at: Timestamp) -> Option<&mut PeriodSum> {
        self.periods.iter_mut().find(|period| period.start <= at && at < period.end)
    }

    fn in_unit(&self, nanousd: Option<Nanousd>, tokens: i64) -> i64 {
        match self.spec.cap {
            Cap::Usd(_) => nanousd.unwrap_or(0),
            Cap::Tokens(_) => tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;
    const T: Timestamp = Timestamp(5);

    fn budget(cap: Cap) -> Budget {
        let spec = BudgetSpec {
            cap,
            per: BudgetPer::Day,
            queue: None,
            timezone: "UTC".into(),
            allow_unbounded: false,
        };
        Budget::new(spec, Timestamp(0), Timestamp(DAY), 0)
    }

    fn worst(nanousd: i64) -> Worst {
        Worst { input_tokens: 0, output_tokens: 0, nanousd: Some(nanousd) }
    }

    #[test]
    fn the_wall_stands_at_the_cap() {
        let mut budget = budget(Cap::Usd(100));
        for _ in 0..10 {
            assert_eq!(budget.admits(&worst(10), false, T), Ok(()));
            budget.reserve(&worst(10), T);
        }
        let full = Err(Wall::Full { until: Timestamp(DAY) });
        assert_eq!(budget.admits(&worst(1), false, T), full);
        budget.settle(&worst(10), Timestamp(5), Some(3), 0);
        assert_eq!(budget.admits(&worst(7), false, T), Ok(()));
        assert_eq!(budget.admits(&worst(8), false, T), full);
    }

    #[test]
    fn a_late_end_counts_on_the_day_of_the_reservation() {
        let mut budget = budget(Cap::Usd(100));
        budget.reserve(&worst(60), T);
        budget.roll(Timestamp(DAY), Timestamp(2 * DAY));
        assert_eq!(budget.admits(&worst(100), false, Timestamp(DAY)), Ok(()));
        budget.settle(&worst(60), Timestamp(DAY - 1), Some(50), 0);
        assert_eq!(budget.current().spent, 0);
        assert_eq!(budget.periods()[0].spent, 50);
    }

    #[test]
    fn what_nobody_can_price_stops_at_the_wall() {
        let money = budget(Cap::Usd(100));
        let no_price = Worst { nanousd: None, ..worst(0) };
        assert_eq!(money.admits(&no_price, false, T), Err(Wall::Unbounded));
        assert_eq!(money.admits(&worst(1), true, T), Err(Wall::Unbounded));
        let tokens = budget(Cap::Tokens(100));
        assert_eq!(tokens.admits(&no_price, false, T), Ok(()));
    }

    #[test]
    fn a_day_that_has_not_begun_here_admits_nothing() {
        let mut budget = budget(Cap::Usd(100));
        let tomorrow = Timestamp(DAY);
        let later = Err(Wall::Full { until: tomorrow });
        assert_eq!(budget.admits(&worst(1), false, tomorrow), later);
        budget.roll(tomorrow, Timestamp(2 * DAY));
        assert_eq!(budget.admits(&worst(1), false, tomorrow), Ok(()));
    }

    proptest! {
        /// Each call counts on the day of its reservation, whenever the days are turned.
        #[test]
        fn every_day_holds_its_own_calls(
            calls in prop::collection::vec((0_i64..DAY, 1_i64..50, any::<bool>()), 1..100),
        ) {
            let mut budget = budget(Cap::Usd(200));
            let mut now = 0;
            let mut booked = std::collections::BTreeMap::<i64, i64>::new();
            for (passes, amount, turned) in calls {
                now += passes / 4;
                let day = now / DAY * DAY;
                if turned {
                    budget.roll(Timestamp(day), Timestamp(day + DAY));
                }
                if budget.admits(&worst(amount), false, Timestamp(now)).is_ok() {
                    budget.reserve(&worst(amount), Timestamp(now));
                    *booked.entry(day).or_default() += amount;
                }
                for period in budget.periods() {
                    let expected = booked.get(&period.start.0).copied().unwrap_or(0);
                    prop_assert_eq!(period.reserved, expected);
                    prop_assert!(period.reserved <= 200);
                }
            }
        }

        /// Calls that end at or below their worst case never push the sum over the cap.
        #[test]
        fn never_over_the_cap(
            calls in prop::collection::vec((1_i64..50, 0_i64..=100, any::<bool>()), 1..200),
        ) {
            let mut budget = budget(Cap::Usd(500));
            let mut open: Vec<i64> = Vec::new();
            for (amount, share, end_one) in calls {
                if budget.admits(&worst(amount), false, T).is_ok() {
                    budget.reserve(&worst(amount), T);
                    open.push(amount);
                }
                if end_one && !open.is_empty() {
                    let held = open.remove(0);
                    budget.settle(&worst(held), Timestamp(1), Some(held * share / 100), 0);
                }
                let now = budget.current();
                prop_assert!(now.spent + now.reserved <= 500);
                prop_assert_eq!(now.reserved, open.iter().sum::<i64>());
            }
        }
    }
}
