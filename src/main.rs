//! The binary: reads the command line, carries the command out, ends with its exit code.

use claudeq::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(cli::parse()).into()
}
