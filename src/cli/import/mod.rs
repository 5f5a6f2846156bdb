//! `claudeq import`: the jobs of a file.
//!
//! A thread reads and parses ahead; the database gets groups of rows, each in a short transaction
//! of its own, so that a daemon and other producers get in between.
//!
//! Invariant: what is in is in, whatever happens behind it, and it is said how the rest comes in.

mod checkpoints;
mod dry_run;
mod input;
mod json_line;
mod lines;
mod progress;
mod reader;
mod report;
mod rows;
mod seen;
mod table;
mod template;

use super::context::{Context, busy};
use super::exit::{Exit, failure};
use super::job_args::JobArgs;
use super::output;
use super::render::escape;
use crate::store::{ImportRule, Imported, OnDuplicate, Store};
use anyhow::anyhow;
use checkpoints::Checkpoints;
use clap::{Args, ValueEnum};
use dry_run::{Census, Outlook};
use input::{Format, Input};
use progress::Progress;
use reader::{Group, Reading};
use report::Tally;
use rows::{BadLine, RowReader};
use seen::Seen;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;

/// Between two groups while somebody else has the database open. Who wants to write polls SQLite's
/// lock, each tenth of a second in the end, so he is to find it free nearly every second time.
const GAP: Duration = Duration::from_millis(10);

/// Add the jobs of a file: JSON Lines, CSV, TSV or plain lines
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    claudeq import jobs.jsonl --batch nightly\n  \
    claudeq import texts.csv --template 'Summarise: {{text}}' --key-col id\n  \
    claudeq import rows.jsonl --template 'Translate: {{title}}' --key-col id\n  \
    claudeq import batch.jsonl --dry-run\n  \
    jq -c '{prompt: .question, key: .id}' all.json | claudeq import - --keep-going\n\n\
    A line of JSON is one of these:\n  \
    {\"prompt\": \"Say hi\", \"key\": \"a\"}       members are columns of the table jobs\n  \
    {\"messages\": […], \"max_tokens\": 9}      a body of the Messages API\n  \
    {\"custom_id\": \"a\", \"params\": {…}}       a line of a Message Batches file\n\n\
    A table begins with the names of its columns; without --template these are columns of jobs.\n\
    With --template members of a JSON object may have any names, too.\n\
    Options such as --model hold for lines that do not say. Rows go in by the hundred: what is in\n\
    stays, whatever happens behind it. Ends with 65 when a line was bad.")]
pub(crate) struct ImportArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How rows are written [default: by the file's name, else by its first byte]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The prompt, with {{column}} for a column's or a member's value; of plain lines {{line}}
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
    /// The column, or the member of a JSON object, that is the key; with --template
    #[arg(long, value_name = "COLUMN")]
    key_col: Option<String>,
    /// What to do with a line whose key or id a job has already
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    on_duplicate: Duplicate,
    /// Leave bad lines out, name them, and go on
    #[arg(long)]
    keep_going: bool,
    /// Leave the first lines out, as many as an import that stopped has dealt with
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    skip_lines: u64,
    /// Change nothing: say what would go in, what it would cost and when all would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Of lines that do not say")]
    job: JobArgs,
}

/// What to do with a line whose key or id a job has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Duplicate {
    /// The line is bad
    #[default]
    Error,
    /// The line is left out
    Skip,
    /// The job gives its place, as long as it was not started
    Replace,
}

impl From<Duplicate> for OnDuplicate {
    fn from(duplicate: Duplicate) -> OnDuplicate {
        match duplicate {
            Duplicate::Error => OnDuplicate::Error,
            Duplicate::Skip => OnDuplicate::Skip,
            Duplicate::Replace => OnDuplicate::Replace,
        }
    }
}

pub(crate) async fn run(args: &ImportArgs, context: &Context) -> anyhow::Result<Exit> {
    let store = Arc::new(context.store().await?);
    let input = Input::open(&args.file)?;
    let (name, size) = (input.name.clone(), input.size);
    let rows = RowReader::new(input, args)?;
    let rule = ImportRule {
        defaults: args.job.values(context.now()),
        on_duplicate: args.on_duplicate.into(),
        keep_going: args.keep_going,
        rehearse: args.dry_run,
        now: context.now(),
    };
    let reading = Reading {
        keep_going: args.keep_going,
        shapes: args.dry_run.then(|| rule.defaults.clone()),
        is_live: size.is_none(),
    };
    let mut import = Import {
        store: &store,
        checkpoints: Checkpoints::default(),
        context,
        name,
        progress: Progress::new(size, context),
        tally: Tally::default(),
        census: args.dry_run.then(Census::default),
        seen: Seen::default(),
        rule,
    };
    let groups = reader::start(rows, reading);
    let ended = import.work(groups).await;
    import.progress.end();
    let exit = import.finish(ended).await;
    // With nobody else there, this leaves one file of the database.
    store.close().await;
    exit
}

/// An import under way.
struct Import<'a> {
    store: &'a Arc<Store>,
    checkpoints: Checkpoints,
    context: &'a Context,
    name: String,
    rule: ImportRule,
    progress: Progress,
    tally: Tally,
    census: Option<Census>,
    seen: Seen,
}

/// How the reading ended.
enum Ended {
    /// All of it.
    Whole,
    /// At a line that is bad.
    AtBadLine(BadLine),
    /// By a signal.
    Interrupted,
    /// Something else was in the way.
    Failed(anyhow::Error),
}

impl Import<'_> {
    /// Takes groups in until there are no more, or something is in the way.
    async fn work(&mut self, mut groups: Receiver<Group>) -> Ended {
        let mut signals = match self.prepare().await {
            Ok(signals) => signals,
            Err(error) => return Ended::Failed(error),
        };
        loop {
            let group = tokio::select! {
                biased;
                () = signals.recv() => return Ended::Interrupted,
                group = groups.recv() => group,
            };
            let Some(group) = group else {
                return Ended::Failed(anyhow!("{} was not read to its end: a bug", self.name));
            };
            let (is_last, bytes) = (group.is_last, group.rows.bytes());
            match self.take(group).await {
                Ok(None) if is_last => return Ended::Whole,
                Ok(None) => {}
                Ok(Some(bad)) => return Ended::AtBadLine(bad),
                Err(error) => return Ended::Failed(error),
            }
            self.progress.show(&self.tally, self.context.clock.monotonic());
            if let Err(error) = self.make_room(bytes).await {
                return Ended::Failed(error);
            }
        }
    }

    async fn prepare(&self) -> anyhow::Result<Signals> {
        self.store.prepare_import().await?;
        Ok(Signals::new()?)
    }

    /// For others, and in the WAL.
    async fn make_room(&mut self, bytes: usize) -> anyhow::Result<()> {
        if !self.rule.rehearse {
            self.checkpoints.after(bytes, self.store).await?;
        }
        if self.store.is_shared() {
            tokio::time::sleep(GAP).await;
        }
        Ok(())
    }

    /// Takes one group in; the bad line that ends the import.
    async fn take(&mut self, mut group: Group) -> anyhow::Result<Option<BadLine>> {
        let mut done = Imported::default();
        let imported = self.store.import(&group.rows, &self.rule, &mut done).await;
        if self.rule.rehearse {
            self.seen.amend(&group, &mut done, &self.rule);
        }
        let (on_duplicate, keep_going) = (self.rule.on_duplicate, self.rule.keep_going);
        let bad = self.tally.add(&group, &done, on_duplicate, keep_going);
        self.count(&mut group, &done);
        if keep_going {
            bad.iter().for_each(|bad| self.progress.name_bad(&place(&self.name, bad)));
        }
        imported.map_err(|error| busy(self.store, error))?;
        if let Some(first) = bad.into_iter().next().filter(|_| !keep_going) {
            return Ok(Some(first));
        }
        group.broken.map_or(Ok(None), Err)
    }

    /// For a forecast: what would be new.
    fn count(&mut self, group: &mut Group, done: &Imported) {
        let Some(census) = &mut self.census else { return };
        let refused = |row: &usize| done.refused.iter().any(|(other, _)| other == row);
        for (row, shape) in group.shapes.drain(..).enumerate().take(done.rows) {
            if !refused(&row) && !done.left_out.contains(&row) {
                census.add(shape);
            }
        }
    }

    /// Says what was done, and how to go on where it is not all.
    async fn finish(mut self, ended: Ended) -> anyhow::Result<Exit> {
        let dry_run = self.rule.rehearse;
        let outlook = match self.census.take() {
            Some(census) => Some(Outlook::of(census, self.store, self.context).await?),
            None => None,
        };
        self.summary(outlook.as_ref())?;
        let unnamed = self.progress.unnamed();
        if unnamed > 0 {
            let more = if unnamed == 1 { "line" } else { "lines" };
            output::note(&format!("and {unnamed} more bad {more}; 2> FILE has all of them"));
        }
        if self.seen.is_full {
            output::note("keys behind the first 1,800,000 were not compared with each other");
        }
        match ended {
            Ended::Whole if self.tally.bad > 0 => Ok(Exit::BadInput),
            Ended::Whole => {
                if !dry_run && self.tally.added > 0 {
                    self.remind_of_the_daemon();
                }
                Ok(Exit::Ok)
            }
            Ended::AtBadLine(bad) => {
                let mut message = place(&self.name, &bad);
                if !dry_run {
                    message += &format!("\n{}", self.tally.hint(&bad, self.rule.on_duplicate));
                }
                Err(failure(Exit::BadInput, message))
            }
            Ended::Interrupted => {
                self.say_stopped();
                Ok(Exit::Interrupted)
            }
            Ended::Failed(error) => {
                self.say_stopped();
                Err(error)
            }
        }
    }

    fn say_stopped(&self) {
        let Tally { line, .. } = self.tally;
        let what = match self.rule.rehearse {
            true => format!("only {line} lines were looked at"),
            false => self.tally.way_on(self.rule.on_duplicate),
        };
        output::note(&format!("claudeq: stopped: {what}"));
    }

    fn summary(&self, outlook: Option<&Outlook>) -> anyhow::Result<()> {
        let (dry_run, now) = (self.rule.rehearse, self.context.now());
        if self.context.global.json {
            let mut line = self.tally.json(&self.name, dry_run);
            if let (Some(outlook), Some(line)) = (outlook, line.as_object_mut()) {
                line.extend(outlook.json(now));
            }
            return output::json_lines(&self.context.screen, &[line]);
        }
        let mut lines = vec![self.tally.sentence(dry_run)];
        if let Some(outlook) = outlook {
            lines[0] += &outlook.sizes();
            lines.extend(outlook.finish(now));
        }
        output::lines(&lines)?;
        if let Some(outlook) = outlook {
            outlook.remarks();
        }
        Ok(())
    }

    /// On a terminal: a script starts it by itself.
    fn remind_of_the_daemon(&self) {
        if self.context.screen.terminal && !self.store.holder().held {
            output::note("no daemon runs: they start when `claudeq daemon` does");
        }
    }
}

/// `jobs.jsonl:7: what is wrong`, on one line.
fn place(name: &str, bad: &BadLine) -> String {
    escape::line(&format!("{name}:{}: {}", bad.line, bad.why)).into_owned()
}

/// What ends an import between two groups.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Signals { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
