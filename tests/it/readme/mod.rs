//! README.md, taken at its word: its blocks are run, its tables and pictures compared with the
//! program.

mod commands;
mod contract;
mod files;
mod first_use;
mod shown;
mod snippets;

use crate::helper::{Lab, Settings};
use claudeq::simulator;

const README: &str = include_str!("../../../README.md");

/// A queue and a simulator that answers at once.
fn lab() -> Lab {
    Lab::new(simulator::Config { speed: 500.0, ..Default::default() }, &Settings::default())
}
