//! The daemon: loops, permits, timeouts, the order of shutdown.

pub mod report;
