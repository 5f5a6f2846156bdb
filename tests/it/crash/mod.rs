//! The real binary against the simulator, killed at any moment, started again, and every promise
//! checked against the simulator's own log.

pub(crate) mod checker;
mod parts;
mod poison;
mod producer;
mod recovery;
mod rounds;
mod windows;
