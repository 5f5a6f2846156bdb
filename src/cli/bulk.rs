//! `claudeq retry`, `cancel`, `hold`, `release`: a person's changes to selected jobs.
//!
//! Invariant: it must be said which jobs; many are counted and asked for before they change.
//! Invariant: large changes are written in small transactions, so that the daemon goes on.

use super::context::{Context, busy};
use super::exit::{Exit, failure};
use super::output;
use super::render::format;
use super::select::{SelectArgs, no_such};
use crate::domain::job::{JobEvent, JobId, JobState};
use crate::store::Store;
use clap::Args;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

/// Jobs changed in one transaction.
const CHUNK: usize = 500;
/// Between two of them, for the daemon and for producers.
const GAP: Duration = Duration::from_millis(5);

/// How a bulk change is carried out.
#[derive(Args, Clone, Debug)]
struct BulkArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only say how many jobs it would change
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Run finished jobs again; without ids or --state those that failed or were cancelled
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq retry 17\n  \
    claudeq retry --batch nightly --error-class timeout\n  \
    claudeq retry --batch nightly --max-tokens 8192\n\n\
    Without ids, --state and --stop-reason only jobs that failed or were cancelled are run again:\n\
    one that succeeded would be paid for twice. With --max-tokens it is those whose answer was cut\n\
    off (stop_reason max_tokens). What was answered and paid before stays on record.")]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    bulk: BulkArgs,
    /// Ask with this max_tokens, now and whenever they are run again
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=10_000_000))]
    max_tokens: Option<i64>,
}

/// Cancel jobs that are not finished; a running call ends first and its answer is kept
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq cancel 17\n  \
    claudeq cancel --batch nightly --dry-run\n  \
    claudeq cancel --all --now -y")]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    bulk: BulkArgs,
    /// Break running calls off as well; they are charged at their worst
    #[arg(long)]
    now: bool,
}

/// Hold queued jobs back until they are released
#[derive(Args, Debug)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    bulk: BulkArgs,
}

/// Let held jobs go on
#[derive(Args, Debug)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    bulk: BulkArgs,
}

/// A kind of change.
struct Change {
    verb: &'static str,
    past: &'static str,
    event: JobEvent,
    /// What is meant when neither ids, states nor stop reasons are given …
    usual: &'static [JobState],
    /// … and how their answers have stopped.
    usual_stop: Option<&'static str>,
    now_too: bool,
    max_tokens: Option<i64>,
}

impl Change {
    fn new(verb: &'static str, past: &'static str, event: JobEvent) -> Change {
        Change { verb, past, event, usual: &[], usual_stop: None, now_too: false, max_tokens: None }
    }
}

pub(crate) async fn retry(args: &RetryArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut change = Change::new("retry", "retried", JobEvent::Retry);
    change.usual = &[JobState::Failed, JobState::Cancelled];
    if args.max_tokens.is_some() {
        // More room is for those that had too little.
        change.usual = &[JobState::Succeeded];
        change.usual_stop = Some("max_tokens");
    }
    change.max_tokens = args.max_tokens;
    carry_out(&change, &args.bulk, context).await
}

pub(crate) async fn cancel(args: &CancelArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut change = Change::new("cancel", "cancelled", JobEvent::Cancel);
    change.usual = &[JobState::Queued, JobState::Running, JobState::Held];
    change.now_too = args.now;
    carry_out(&change, &args.bulk, context).await
}

pub(crate) async fn hold(args: &HoldArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut change = Change::new("hold", "held", JobEvent::Hold);
    change.usual = &[JobState::Queued];
    carry_out(&change, &args.bulk, context).await
}

pub(crate) async fn release(args: &ReleaseArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut change = Change::new("release", "released", JobEvent::Release);
    change.usual = &[JobState::Held];
    carry_out(&change, &args.bulk, context).await
}

/// Which jobs the change is for, and which of those that were named it is not for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fitting {
    jobs: Vec<(JobId, JobState)>,
    refused: Vec<(JobId, JobState)>,
    missing: Vec<JobId>,
}

async fn carry_out(change: &Change, bulk: &BulkArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut which = bulk.select.explicit(change.verb)?;
    if which.ids.is_empty() && which.states.is_empty() && which.stop_reason.is_none() {
        which.states = change.usual.to_vec();
        which.stop_reason = change.usual_stop.map(str::to_owned);
    }
    let store = context.store().await?;
    let found = store.select(&which).await?;
    let fitting = fitting(change, &which.ids, found);
    for sentence in fitting.complaints(change) {
        output::note(&sentence);
    }
    let ok = fitting.refused.is_empty() && fitting.missing.is_empty();
    let exit = if ok { Exit::Ok } else { Exit::Failed };
    if bulk.dry_run || fitting.jobs.is_empty() {
        report(change, &fitting, 0, bulk.dry_run, context)?;
        return Ok(exit);
    }
    if !bulk.yes && !bulk.select.only_ids() && !confirmed(change, &fitting)? {
        return Err(failure(Exit::Failed, "nothing was changed"));
    }
    let changed = write(change, &fitting, &store, context).await?;
    report(change, &fitting, changed, false, context)?;
    Ok(exit)
}

fn fitting(change: &Change, ids: &[JobId], found: Vec<(JobId, JobState)>) -> Fitting {
    let is_there = |id: &JobId| found.binary_search_by_key(id, |(there, _)| *there).is_ok();
    let missing = ids.iter().copied().filter(|id| !is_there(id)).collect();
    // A finished job has nothing left to cancel; the domain says what else fits.
    let fits = |state: JobState| match change.event {
        JobEvent::Hold => state == JobState::Queued,
        event => state.next(event).is_ok(),
    };
    let (jobs, refused) = found.into_iter().partition(|(_, state)| fits(*state));
    let refused = if ids.is_empty() { Vec::new() } else { refused };
    Fitting { jobs, refused, missing }
}

impl Fitting {
    fn complaints(&self, change: &Change) -> Vec<String> {
        let mut sentences = Vec::new();
        if !self.missing.is_empty() {
            sentences.push(no_such(&self.missing));
        }
        let shown = self.refused.iter().take(10);
        sentences.extend(shown.map(|(id, state)| {
            format!("job {id} is {state}: there is nothing to {}", change.verb)
        }));
        sentences
    }

    /// `4,312 jobs (4,300 queued, 12 running)`.
    fn counted(&self) -> String {
        let total = i64::try_from(self.jobs.len()).unwrap_or(i64::MAX);
        let parts: Vec<String> = JobState::ALL
            .into_iter()
            .filter_map(|state| {
                let jobs = self.jobs.iter().filter(|(_, found)| *found == state).count();
                (jobs > 0).then(|| {
                    format!("{} {state}", format::count(i64::try_from(jobs).unwrap_or(i64::MAX)))
                })
            })
            .collect();
        if parts.is_empty() {
            return format::jobs(total);
        }
        format!("{} ({})", format::jobs(total), parts.join(", "))
    }
}

/// Asks on a terminal; elsewhere the command line itself is the consent.
fn confirmed(change: &Change, fitting: &Fitting) -> anyhow::Result<bool> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(true);
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{} {}? [y/N] ", change.verb, fitting.counted())?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn write(
    change: &Change,
    fitting: &Fitting,
    store: &Store,
    context: &Context,
) -> anyhow::Result<u64> {
    let ids: Vec<JobId> = fitting.jobs.iter().map(|(id, _)| *id).collect();
    let mut changed = 0;
    for chunk in ids.chunks(CHUNK) {
        let edited = match change.event {
            JobEvent::Retry => store.retry(chunk, change.max_tokens).await,
            event => store.edit(chunk, event, change.now_too).await,
        };
        changed += edited.map_err(|error| busy(store, error))?.changed;
        if change.event == JobEvent::Cancel && !store.holder().held {
            sweep(store, context).await?;
        }
        tokio::time::sleep(GAP).await;
    }
    Ok(changed)
}

/// Does what a daemon would: ends the jobs that nobody wants any more.
async fn sweep(store: &Store, context: &Context) -> anyhow::Result<()> {
    let most = i64::try_from(CHUNK).unwrap_or(i64::MAX);
    loop {
        let swept = store.sweep(context.now(), most).await.map_err(|error| busy(store, error))?;
        if swept.ended == 0 {
            return Ok(());
        }
    }
}

fn report(
    change: &Change,
    fitting: &Fitting,
    changed: u64,
    dry_run: bool,
    context: &Context,
) -> anyhow::Result<()> {
    let matched = i64::try_from(fitting.jobs.len()).unwrap_or(i64::MAX);
    if context.global.json {
        let line = json!({ "matched": matched, "changed": changed, "dry_run": dry_run });
        return output::json_lines(&context.screen, &[line]);
    }
    if dry_run {
        return output::line(&format!("would {} {}", change.verb, fitting.counted()));
    }
    output::line(&format!("{} {}", change.past, fitting.counted()))?;
    let running = fitting.jobs.iter().filter(|(_, state)| *state == JobState::Running).count();
    if change.event == JobEvent::Cancel && running > 0 && !change.now_too {
        output::note("running calls end first; an answer that comes is kept (--now breaks off)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(event: JobEvent) -> Change {
        Change::new("cancel", "cancelled", event)
    }

    #[test]
    fn named_jobs_that_do_not_fit_are_complained_about() {
        let found = vec![(JobId(1), JobState::Queued), (JobId(2), JobState::Succeeded)];
        let ids = [JobId(1), JobId(2), JobId(9)];
        let fit = fitting(&change(JobEvent::Cancel), &ids, found.clone());
        assert_eq!(fit.jobs, [(JobId(1), JobState::Queued)]);
        assert_eq!(
            fit.complaints(&change(JobEvent::Cancel)),
            ["there is no job 9", "job 2 is succeeded: there is nothing to cancel"]
        );
        let by_batch = fitting(&change(JobEvent::Cancel), &[], found);
        assert!(by_batch.refused.is_empty() && by_batch.missing.is_empty());
    }

    #[test]
    fn running_jobs_are_not_held() {
        let found = vec![(JobId(1), JobState::Running), (JobId(2), JobState::Queued)];
        let fit = fitting(&change(JobEvent::Hold), &[], found);
        assert_eq!(fit.counted(), "1 job (1 queued)");
    }
}
