//! Every test of claudeq that is not a unit test, as one binary.

mod cli;
mod contract;
mod crash;
mod faults;
mod helper;
mod house;
mod ledger;
mod schema_api;
