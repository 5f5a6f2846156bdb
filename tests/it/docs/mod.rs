//! The pages in `docs/`: nothing in them may drift from the program.

mod contract;
mod guarantees;
mod operations;
mod pages;

const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");
const CONTRACT: &str = include_str!("../../../docs/contract.md");
const GUARANTEES: &str = include_str!("../../../docs/guarantees.md");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const README: &str = include_str!("../../../README.md");
