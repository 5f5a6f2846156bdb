//! limits
use super::context::Context;
use super::exit::Exit;
use clap::Args;
/// x
#[derive(Args, Debug)]
pub(crate) struct LimitsArgs {}
pub(crate) async fn run(_args: &LimitsArgs, _context: &Context) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}
