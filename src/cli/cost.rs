//! cost
use super::context::Context;
use super::exit::Exit;
use clap::Args;
/// x
#[derive(Args, Debug)]
pub(crate) struct CostArgs {}
pub(crate) async fn run(_args: &CostArgs, _context: &Context) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}
