//! status
use super::context::Context;
use super::exit::Exit;
use clap::Args;
/// x
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {}
pub(crate) async fn run(_args: &StatusArgs, _context: &Context) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}
