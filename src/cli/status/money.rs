//! Money on the status screen: budgets, what a job costs, what the rest will.

use super::screen::{labelled, parts};
use super::view::View;
use crate::cli::budgets::{self, BudgetUse};
use crate::cli::render::{Line, Screen, Tone, format};
use crate::domain::budget::Cap;

/// The line `Cost`, and one more for each further budget.
pub(super) fn lines(view: &View, screen: &Screen) -> Vec<Line> {
    let mut pieces = Vec::new();
    let mut lines = Vec::new();
    match view.budgets.split_first() {
        None if view.spent_today == 0 && view.per_job.is_none() => return lines,
        None => pieces.push(Line::plain(format!("{} today", format::usd(view.spent_today)))),
        Some((first, further)) => {
            pieces.push(budgets::line(first));
            lines.extend(further.iter().map(|one| labelled("", budgets::line(one))));
        }
    }
    if let Some(per_job) = view.per_job {
        pieces.push(Line::plain(format!("{} a job", format::usd(per_job))));
    }
    pieces.extend(at_the_end(view));
    let reserved: i64 = dollars(view).map(|budget| budget.reserved).max().unwrap_or(0);
    if reserved > 0 {
        pieces.push(Line::plain(format!("{} set aside", format::usd_about(reserved))));
    }
    lines.insert(0, parts(labelled("Cost", Line::default()), "", &pieces, screen));
    lines
}

/// The budgets in money that cover every job.
fn dollars(view: &View) -> impl Iterator<Item = &BudgetUse> {
    view.budgets
        .iter()
        .filter(|budget| matches!(budget.spec.cap, Cap::Usd(_)) && budget.spec.queue.is_none())
}

/// What the remaining jobs will cost at the mean of the latest ones, nano-dollars.
pub(super) fn remaining(view: &View) -> Option<i64> {
    (view.remaining() > 0)
        .then(|| view.per_job.map(|cost| cost.saturating_mul(view.remaining())))?
}

/// `≈ $248 at the end, fits`
fn at_the_end(view: &View) -> Option<Line> {
    let rest = remaining(view)?;
    let Some(first) = dollars(view).next() else {
        return Some(Line::plain(format!("≈ {} for the rest", format::usd_about(rest))));
    };
    let end = first.spent.saturating_add(rest);
    let line = Line::plain(format!("≈ {} at the end, ", format::usd_about(end)));
    let fits = dollars(view).all(|budget| budget.spent.saturating_add(rest) <= budget.cap());
    Some(if fits { line.and(Tone::Good, "fits") } else { line.and(Tone::Warn, "does not fit") })
}
