//! Every test of claudeq that is not a unit test, as one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where by panicking")]

mod cli;
mod contract;
mod crash;
mod docs;
mod examples;
mod faults;
mod forecast;
mod helper;
mod house;
mod ledger;
mod readme;
mod schema_api;
