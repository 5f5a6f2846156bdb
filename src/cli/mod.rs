//! The command line: one file per command, all printing, and the exit codes.
//!
//! Invariant: data goes to standard output, messages to standard error.
//! Invariant: every command reads the file itself, so all of them work with the daemon down.

mod add;
mod attempts;
mod backup;
mod budgets;
mod bulk;
mod context;
mod cost;
mod daemon;
mod demo;
mod environment;
mod exit;
mod follow;
mod import;
mod init;
mod job_args;
mod limits;
mod list;
mod output;
mod pause;
mod plan;
mod render;
mod results;
mod select;
mod show;
mod sim;
mod status;
mod wait;
mod when;

pub use exit::Exit;

use clap::{Parser, Subcommand};
use context::{Context, GlobalArgs};

/// A durable queue for the Claude Messages API: one binary, one SQLite file.
#[derive(Debug, Parser)]
#[command(
    name = "claudeq",
    version,
    arg_required_else_help = true,
    after_help = "First minute:\n  \
        claudeq init\n  \
        export ANTHROPIC_API_KEY=…\n  \
        claudeq daemon &\n  \
        claudeq add \"Say hi\" --wait"
)]
pub struct Arguments {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create what is missing: daemon.toml and the database
    Init(init::InitArgs),
    /// Run the queue: call the API as fast as the limits allow
    Daemon(daemon::DaemonArgs),
    /// Add a job
    Add(Box<add::AddArgs>),
    /// Add the jobs of a file: JSON Lines, CSV, TSV or plain lines
    Import(Box<import::ImportArgs>),
    /// What is going on, in one screen
    Status(status::StatusArgs),
    /// Wait until jobs are finished
    Wait(wait::WaitArgs),
    /// Print results as they come, until the jobs are finished
    Follow(follow::FollowArgs),
    /// Finished jobs with their answers: lines, JSON, CSV, texts
    #[command(visible_alias = "export")]
    Results(Box<results::ResultsArgs>),
    /// Jobs, one a line
    List(list::ListArgs),
    /// Everything about a job
    Show(show::ShowArgs),
    /// The calls made for a job
    Attempts(attempts::AttemptsArgs),
    /// Run finished jobs again
    Retry(bulk::RetryArgs),
    /// Cancel jobs that are not finished
    Cancel(bulk::CancelArgs),
    /// Hold queued jobs back until they are released
    Hold(bulk::HoldArgs),
    /// Let held jobs go on
    Release(bulk::ReleaseArgs),
    /// Start no new calls, of one queue or of all
    Pause(pause::PauseArgs),
    /// End a pause
    Resume(pause::ResumeArgs),
    /// The limits, how full they are, and who says so
    Limits(limits::LimitsArgs),
    /// What was spent, by model, and the budgets
    Cost(cost::CostArgs),
    /// How long the queue will take, what it will cost, and what would make it faster
    Plan(plan::PlanArgs),
    /// Write a consistent copy of the database to a new file
    Backup(backup::BackupArgs),
    /// See it work: queue, daemon and simulator together, without a key and without cost
    Demo(demo::DemoArgs),
    /// Serve a local Claude API with real limits, for tests and for trying out
    Sim(sim::SimArgs),
}

/// Reads the command line; ends the process for `--help`, `--version` and mistakes.
pub fn parse() -> Arguments {
    Arguments::parse()
}

/// Carries a command out; says on standard error why it cannot.
pub fn run(arguments: Arguments) -> Exit {
    let context = Context::new(arguments.global);
    match runtime(&arguments.command).block_on_command(&context, arguments.command) {
        Ok(exit) => exit,
        Err(error) if exit::is_broken_pipe(&error) => Exit::Ok,
        Err(error) => {
            output::note(&format!("claudeq: {}", exit::describe(&error)));
            if let (true, Ok(config)) = (exit::is_damage(&error), context.config()) {
                output::note(&format!("claudeq: {}", exit::damaged(&config.database)));
            }
            exit::exit_of(&error)
        }
    }
}

/// How many threads a command needs.
enum Threads {
    /// It waits for one thing at a time.
    One,
    /// It serves many.
    Many,
}

fn runtime(command: &Command) -> Threads {
    match command {
        Command::Daemon(_) | Command::Sim(_) | Command::Demo(_) => Threads::Many,
        _ => Threads::One,
    }
}

impl Threads {
    fn block_on_command(self, context: &Context, command: Command) -> anyhow::Result<Exit> {
        let mut builder = match self {
            Threads::One => tokio::runtime::Builder::new_current_thread(),
            Threads::Many => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.enable_all().build()?.block_on(dispatch(context, command))
    }
}

async fn dispatch(context: &Context, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init::run(&args, context).await,
        Command::Daemon(args) => daemon::run(&args, context).await,
        Command::Add(args) => add::run(&args, context).await,
        Command::Import(args) => import::run(&args, context).await,
        Command::Status(args) => status::run(&args, context).await,
        Command::Wait(args) => wait::run(&args, context).await,
        Command::Follow(args) => follow::run(&args, context).await,
        Command::Results(args) => results::run(&args, context).await,
        Command::List(args) => list::run(&args, context).await,
        Command::Show(args) => show::run(&args, context).await,
        Command::Attempts(args) => attempts::run(&args, context).await,
        Command::Retry(args) => bulk::retry(&args, context).await,
        Command::Cancel(args) => bulk::cancel(&args, context).await,
        Command::Hold(args) => bulk::hold(&args, context).await,
        Command::Release(args) => bulk::release(&args, context).await,
        Command::Pause(args) => pause::pause(&args, context).await,
        Command::Resume(args) => pause::resume(&args, context).await,
        Command::Limits(args) => limits::run(&args, context).await,
        Command::Cost(args) => cost::run(&args, context).await,
        Command::Plan(args) => plan::run(&args, context).await,
        Command::Backup(args) => backup::run(&args, context).await,
        Command::Demo(args) => demo::run(&args, context).await,
        Command::Sim(args) => sim::run(&args, context).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
    }
}
