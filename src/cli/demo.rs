//! `claudeq demo`: queue, daemon and simulator together in a directory that is thrown away.

use super::context::Context;
use super::exit::{Exit, failure};
use clap::Args;

/// See it work: queue, daemon and simulator together, without a key and without cost
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {}

pub(crate) async fn run(_args: &DemoArgs, context: &Context) -> anyhow::Result<Exit> {
    play(context).await
}

/// The whole demo goes in here.
async fn play(_context: &Context) -> anyhow::Result<Exit> {
    Err(failure(Exit::Unavailable, "the demo is not part of this build"))
}
