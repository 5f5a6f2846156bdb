//! The limits on the status screen: how full each is.

use super::view::{LimitUse, View};
use crate::cli::render::{Line, Screen, Tone, bar, format};
use crate::domain::limit::Per;

/// Pools shown one by one.
const POOLS: usize = 4;
const BAR_MOST: usize = 20;
const BAR_LEAST: usize = 5;
const USED: &str = "last minute";

/// The widths that all rows share.
struct Columns {
    label: usize,
    bar: usize,
    used: usize,
    amount: usize,
}

/// One row a limit, under a head for each pool; nothing when no limit is in use.
pub(super) fn block(view: &View, screen: &Screen) -> Vec<Line> {
    if !view.daemon.running {
        return Vec::new();
    }
    let mut pools: Vec<&str> = Vec::new();
    for limit in &view.limits {
        if !pools.contains(&limit.snapshot.pool.as_str()) {
            pools.push(&limit.snapshot.pool);
        }
    }
    let columns = columns(&view.limits, screen);
    let mut lines = Vec::new();
    for pool in pools.iter().take(POOLS) {
        lines.push(head(pool, &columns, lines.is_empty()));
        let own = view.limits.iter().filter(|limit| limit.snapshot.pool == **pool);
        lines.extend(own.map(|limit| row(limit, &columns, screen)));
    }
    if pools.len() > POOLS {
        let more = pools.len() - POOLS;
        let noun = if more == 1 { "pool" } else { "pools" };
        let more = format!("    {more} more {noun} in use: claudeq limits");
        lines.push(Line::default().and(Tone::Faint, more));
    }
    lines
}

fn columns(limits: &[LimitUse], screen: &Screen) -> Columns {
    let widest = |text: &dyn Fn(&LimitUse) -> String, least: usize| {
        let widths = limits.iter().map(|limit| text(limit).chars().count());
        widths.max().unwrap_or(0).max(least)
    };
    let label = widest(&label, 13) + 2;
    let used = widest(&|limit| format::short(limit.used), USED.len());
    let amount = widest(&|limit| format::short(limit.snapshot.amount), 5);
    // Indent, gaps, and `100 %`.
    let fixed = 4 + label + 2 + used + 3 + amount + 2 + 5;
    let bar = screen.width.saturating_sub(fixed).clamp(BAR_LEAST, BAR_MOST);
    Columns { label, bar, used, amount }
}

fn head(pool: &str, columns: &Columns, first: bool) -> Line {
    let name = Line::default().and(Tone::Faint, "  Limits ").and(Tone::Plain, format!("({pool})"));
    if !first {
        return name;
    }
    let heads = Line::default().and(Tone::Faint, USED).align_right(columns.used);
    let mut line = name.pad_to(4 + columns.label + columns.bar + 2);
    line.append(heads);
    line.and(Tone::Faint, "   limit")
}

fn row(limit: &LimitUse, columns: &Columns, screen: &Screen) -> Line {
    let amount = limit.snapshot.amount;
    let mut line = Line::plain(format!("    {}", label(limit))).pad_to(4 + columns.label);
    line.append(bar::level(limit.used, amount, columns.bar, screen));
    line.push(Tone::Plain, "  ");
    line.append(Line::plain(format::short(limit.used)).align_right(columns.used));
    line.push(Tone::Faint, " / ");
    line.append(Line::plain(format::short(amount)).pad_to(columns.amount));
    line.push(Tone::Plain, "  ");
    let share = format::percent(limit.used.max(0), amount);
    line.append(Line::default().and(bar::tone(limit.used, amount), share).align_right(5));
    line
}

fn label(limit: &LimitUse) -> String {
    let what = limit
        .dimension()
        .map_or_else(|| limit.snapshot.dimension.clone(), |dimension| dimension.label().to_owned());
    match limit.per() {
        Some(Per::Minute) => what,
        _ => format!("{what} a {}", limit.snapshot.per),
    }
}
