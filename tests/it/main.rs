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
mod released;
mod schema_api;
mod simulation;

// What the benchmark of the limits is made of, too.
#[path = "../../benches/limits/workload.rs"]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of a workload, all small and positive"
)]
mod workload;
#[path = "../../benches/limits/world.rs"]
#[expect(dead_code, reason = "the benchmark asks for more")]
mod world;
