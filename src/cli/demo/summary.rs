//! What the demo showed, counted by the simulator and the database.

use super::super::exit::Exit;
use super::super::output;
use super::super::render::format;
use super::EVER;
use super::stage::{JOBS, SPEED, Stage, limits};
use crate::simulator::Entry;
use crate::store::{SpentRow, Store};
use std::collections::HashSet;
use std::time::Duration;

/// Prints it; whether everything was as promised.
pub(super) async fn print(
    stage: &Stage,
    store: &Store,
    killed_in_flight: i64,
    took: Duration,
) -> anyhow::Result<Exit> {
    let counts = store.counts().await?;
    let spent = SpentRow::sum(&store.spent_by_model(EVER, None, None).await?);
    let log = stage.simulator().log();
    let refused = stage.simulator().stats().refused_429;
    let billed: Vec<&Entry> = log.iter().filter(|entry| entry.billed).collect();
    let distinct: HashSet<&str> =
        billed.iter().filter_map(|entry| entry.marker.as_deref()).collect();
    let repeated = i64::try_from(billed.len() - distinct.len()).unwrap_or(i64::MAX);
    let (best, bound_by) = best(&log);
    let percent = best.as_secs_f64() * 100.0 / took.as_secs_f64().max(0.001);
    output::lines(&[
        String::new(),
        format!("answers {} of {}", format::count(counts.succeeded), format::count(JOBS)),
        format!("429s {refused}"),
        format!("repeated calls {} (in flight at the kill)", format::count(repeated)),
        format!("limit use {percent:.0} % of the theoretical best ({bound_by} bind)"),
        format!(
            "time {:.1} s against {:.1} s at best, kill and restart included",
            took.as_secs_f64(),
            best.as_secs_f64()
        ),
        format!("cost {} (had it been real)", format::usd(spent.nanousd)),
    ])?;
    let as_promised = counts.succeeded == JOBS && refused == 0 && repeated <= killed_in_flight;
    Ok(if as_promised { Exit::Ok } else { Exit::Failed })
}

/// The least time in which the provider could have given all of it: for each limit, what was
/// used beyond a full bucket, at the rate of the refill; the longest counts.
fn best(log: &[Entry]) -> (Duration, &'static str) {
    let answered: Vec<&Entry> = log.iter().filter(|entry| entry.billed).collect();
    let used = [
        i64::try_from(answered.len()).unwrap_or(i64::MAX),
        answered.iter().map(|entry| i64::try_from(entry.input_tokens).unwrap_or(0)).sum(),
        answered.iter().map(|entry| i64::try_from(entry.output_tokens).unwrap_or(0)).sum(),
    ];
    let times = limits().into_iter().zip(used).map(|((name, a_minute), used)| {
        let beyond = used.saturating_sub(a_minute).max(0);
        let millis = beyond.saturating_mul(60_000) / (a_minute * SPEED);
        (Duration::from_millis(u64::try_from(millis).unwrap_or(0)), name)
    });
    times.max().unwrap_or((Duration::ZERO, "nothing"))
}
