//! Status as JSON: the same facts, for programs.

use super::money;
use super::view::{LimitUse, View};
use crate::cli::budgets;
use crate::daemon::report::Report;
use crate::domain::price::in_usd;
use serde_json::{Value, json};

/// One object; times are Unix milliseconds, as everywhere in the database.
pub(super) fn value(view: &View) -> Value {
    let report = view.daemon.report.as_ref();
    let unfinished = view.remaining() > 0;
    let forecast = view.forecast();
    json!({
        "as_of": view.now,
        "database": { "path": view.database, "bytes": view.bytes },
        "daemon": daemon(view),
        "counts": view.counts,
        "scheduled": view.scheduled(),
        "retrying": {
            "jobs": view.timed.retrying, "next_at": view.timed.next_at, "classes": view.retries,
        },
        "held_back_by": report.and_then(|report| report.held_back_by).filter(|_| unfinished),
        "held_back": report.map(|report| &report.held_back),
        "finishes_at": forecast.and_then(|forecast| forecast.finishes_at),
        "bottleneck": forecast.and_then(|forecast| forecast.bottleneck),
        "stuck": forecast.map(|forecast| &forecast.stuck),
        "forecast_as_of": forecast.map(|forecast| forecast.as_of),
        "jobs_per_minute": report.map(|report| report.jobs_per_minute),
        "limits": view.limits.iter().map(limit).collect::<Vec<Value>>(),
        "closed": view.gates.iter().map(|gate| {
            json!({ "name": gate.name, "reason": gate.reason, "until": gate.until })
        }).collect::<Vec<Value>>(),
        "paused": view.paused,
        "cost": cost(view),
        "failures": view.failures,
        "held": view.held,
        "unknown_calls": view.unknown,
        "locked_by": view.locked_by,
    })
}

fn daemon(view: &View) -> Value {
    let daemon = &view.daemon;
    let row = daemon.row.as_ref();
    let report = daemon.report.as_ref();
    json!({
        "running": daemon.running,
        "pid": daemon.pid,
        "host": row.map(|row| &row.host),
        "version": row.map(|row| &row.version),
        "started_at": row.map(|row| row.started_at),
        "heartbeat_at": row.map(|row| row.heartbeat_at),
        "stopped_at": row.and_then(|row| row.stopped_at),
        "died": daemon.died().is_some(),
        "phase": report.map(|report| report.phase),
        "base_url": view.base_url,
        "in_flight": report.map(|report: &Report| report.in_flight),
        "max_in_flight": report.map(|report: &Report| report.max_in_flight),
        "trouble": report.and_then(|report| report.trouble.as_ref()),
    })
}

fn limit(limit: &LimitUse) -> Value {
    let snapshot = &limit.snapshot;
    json!({
        "pool": snapshot.pool,
        "dimension": snapshot.dimension,
        "per": snapshot.per,
        "amount": snapshot.amount,
        "used": limit.used,
        "available": snapshot.available,
        "capacity": snapshot.capacity,
        "source": snapshot.source,
        "as_of": snapshot.as_of,
    })
}

fn cost(view: &View) -> Value {
    let forecast = view.forecast();
    let budget = |budget| budgets::json(budget, forecast);
    json!({
        "usd_per_job": view.per_job.map(in_usd),
        "usd_for_the_rest": forecast.and_then(|forecast| forecast.rest_nanousd).map(in_usd),
        "usd_at_the_end": money::end(view).map(in_usd),
        "usd_today": if view.budgets.is_empty() { Some(in_usd(view.spent_today)) } else { None },
        "budgets": view.budgets.iter().map(budget).collect::<Vec<Value>>(),
    })
}
