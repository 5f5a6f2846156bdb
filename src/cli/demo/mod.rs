//! `claudeq demo`: queue, daemon and simulator together in a directory that is thrown away.
//!
//! Nothing in it is staged: the daemon is this program in a process of its own, it is killed with
//! SIGKILL in the middle, and what the summary says is counted by the simulator and the database.

mod stage;
mod summary;

use super::context::Context;
use super::exit::{Exit, failure};
use super::output;
use super::render::format;
use super::status::Live;
use crate::config::{Config, Overrides};
use crate::domain::time::Timestamp;
use crate::store::Store;
use clap::Args;
use stage::{JOBS, Stage};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// Between two lines, where nothing can be redrawn.
const LINE_EVERY: u32 = 8;
/// It should be over in a quarter of this.
const PATIENCE: Duration = Duration::from_secs(180);

/// See it work: queue, daemon and simulator together, without a key and without cost
#[derive(Args, Debug)]
#[command(after_help = "Two thousand jobs go through the limits of an account (4,000 requests, \
    400,000 input and\n80,000 output tokens a minute) in time-lapse. In the middle the daemon is \
    killed with SIGKILL\nand started again. Takes less than a minute and leaves nothing behind.")]
pub(crate) struct DemoArgs {
    /// Keep the directory, to look at the database and the daemon's log
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: &DemoArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut stage = Stage::set(context)?;
    let config = Config::load(Some(&stage.config_file()), &Overrides::default())?;
    let store = Store::create(&config.database, false).await?;
    stage.introduce()?;
    store.insert_as_producer(stage::INSERT).await?;
    let began = context.clock.monotonic();
    let outcome = tokio::select! {
        played = play(&mut stage, &store, &config, context) => played,
        stopped = interrupted() => stopped,
    };
    let took = context.clock.monotonic().saturating_sub(began);
    let exit = match outcome? {
        Played::Whole { killed_in_flight } => {
            summary::print(&stage, &store, killed_in_flight, took).await?
        }
        Played::Interrupted => Exit::Interrupted,
    };
    stage.strike(args.keep).await?;
    Ok(exit)
}

/// How far it went.
enum Played {
    /// To the end.
    Whole {
        /// Calls that were out when the daemon was killed.
        killed_in_flight: i64,
    },
    /// Ctrl-C.
    Interrupted,
}

async fn interrupted() -> anyhow::Result<Played> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(Played::Interrupted)
}

/// First act up to the kill, second act to the end.
async fn play(
    stage: &mut Stage,
    store: &Store,
    config: &Config,
    context: &Context,
) -> anyhow::Result<Played> {
    let mut live = Live::new(LINE_EVERY);
    stage.start_daemon()?;
    let deadline = context.clock.monotonic() + PATIENCE;
    let mut killed_in_flight = None;
    loop {
        tokio::time::sleep(EVERY).await;
        live.show(store, config, context).await?;
        let counts = store.counts().await?;
        if killed_in_flight.is_none() && counts.succeeded >= JOBS * 2 / 5 && counts.running > 0 {
            stage.kill_daemon()?;
            let in_flight = store.counts().await?.running;
            killed_in_flight = Some(in_flight);
            live.pause();
            output::line(&format!(
                "\n-- SIGKILL: the daemon is gone, with {} calls in flight; starting it again --\n",
                format::count(in_flight)
            ))?;
            stage.start_daemon()?;
        }
        if let Some(code) = stage.daemon_ended()? {
            live.show(store, config, context).await?;
            return match (code, killed_in_flight) {
                (Some(0), Some(killed_in_flight)) => Ok(Played::Whole { killed_in_flight }),
                _ => Err(stage.broken(code)),
            };
        }
        if context.clock.monotonic() > deadline {
            return Err(failure(Exit::Unfinished, "the demo took far longer than it should"));
        }
    }
}

/// A moment before every other: all of the ledger.
const EVER: Timestamp = Timestamp(0);
