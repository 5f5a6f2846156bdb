//! Every test of claudeq that is not a unit test, as one binary.

mod contract;
mod helper;
mod house;
mod schema_api;
