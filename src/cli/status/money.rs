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
            pieces.push(if said_at_the_end(first) {
                budgets::line(first)
            } else {
                full(first, view)
            });
            lines.extend(further.iter().map(|one| labelled("", full(one, view))));
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
    if let Some(text) = first_wall(view) {
        lines.insert(0, labelled("", Line::default().and(Tone::Warn, text)));
    }
    lines.insert(0, parts(labelled("Cost", Line::default()), "", &pieces, screen));
    lines
}

/// The budgets in money that cover every job.
fn dollars(view: &View) -> impl Iterator<Item = &BudgetUse> {
    view.budgets.iter().filter(|budget| said_at_the_end(budget))
}

fn said_at_the_end(budget: &BudgetUse) -> bool {
    matches!(budget.spec.cap, Cap::Usd(_)) && budget.spec.queue.is_none()
}

/// A budget and whether it will stop calls.
fn full(budget: &BudgetUse, view: &View) -> Line {
    let line = budgets::line(budget);
    match view.forecast().and_then(|forecast| budgets::wall(budget, forecast, view.now)) {
        Some((_, text)) => line.and(Tone::Warn, format!(", {text}")),
        None => line,
    }
}

/// What will have been spent at the end, nano-dollars, of the first such budget's period or of today.
pub(super) fn end(view: &View) -> Option<i64> {
    let rest = view.forecast()?.rest_nanousd?;
    let spent = match (dollars(view).next(), view.budgets.is_empty()) {
        (Some(first), _) => first.spent,
        (None, true) => view.spent_today,
        (None, false) => return None,
    };
    Some(spent.saturating_add(rest))
}

/// `≈ $248 at the end, fits`
fn at_the_end(view: &View) -> Option<Line> {
    let forecast = view.forecast()?;
    let Some(rest) = forecast.rest_nanousd else {
        return Some(Line::default().and(Tone::Faint, "a model without a price is to come"));
    };
    let (Some(end), Some(_)) = (end(view), dollars(view).next()) else {
        return Some(Line::plain(format!("≈ {} for the rest", format::usd_about(rest))));
    };
    let line = Line::plain(format!("≈ {} at the end", format::usd_about(end)));
    Some(match first_wall(view) {
        None => line.and(Tone::Plain, ", ").and(Tone::Good, "fits"),
        Some(_) => line,
    })
}

/// What the first of these budgets that stops calls has to say; a line of its own, never dropped.
fn first_wall(view: &View) -> Option<String> {
    let forecast = view.forecast()?;
    let walls = dollars(view).filter_map(|budget| budgets::wall(budget, forecast, view.now));
    walls.min_by_key(|wall| wall.0).map(|wall| wall.1)
}
