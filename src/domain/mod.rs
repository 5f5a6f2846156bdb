//! The pure core: vocabulary, ledger arithmetic, admission, retry policy, prices.
//!
//! Invariant: no I/O, no clock, no randomness, no other room of the house.

pub mod time;
