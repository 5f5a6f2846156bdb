//! The pure core: vocabulary, ledger arithmetic, admission, retry policy, prices.
//!
//! Invariant: no I/O, no clock, no randomness, no other room of the house.

pub mod admission;
pub mod attempt;
pub mod bucket;
pub mod budget;
pub mod continuation;
pub mod estimate;
pub mod fairness;
pub mod forecast;
pub mod gate;
pub mod job;
pub mod ledger;
pub mod limit;
pub mod need;
pub mod pace;
pub mod pool;
pub mod price;
pub mod production;
pub mod ramp;
pub mod reason;
pub mod reservation;
pub mod retry;
pub mod shape;
pub mod size;
pub mod steady;
pub mod tier;
pub mod time;
pub mod window;
