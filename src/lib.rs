//! claudeq: a durable queue for the Claude Messages API.
//!
//! One binary and one SQLite file. The rooms, from the inside out:
//!
//! - [`domain`]: what jobs, limits, budgets and admission *are*; pure.
//! - [`clock`]: wall time, monotonic time, jitter.
//! - [`config`]: the file, its defaults, and what both mean.
//! - [`store`]: the only SQL: every verb one transaction.
//! - [`claude`]: the only outgoing HTTP: one call of the Messages API and its fate.
//! - [`daemon`]: loops, permits, timeouts, the order of shutdown.
//! - [`simulator`]: a local Claude API with limits of its own; an independent witness.
//! - [`cli`]: the commands, and everything that is printed.
//! - [`telemetry`]: the log.

pub mod claude;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod simulator;
pub mod store;
pub mod telemetry;
