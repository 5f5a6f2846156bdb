//! The command line as people and scripts meet it: the real binary in a directory of its own.

mod adding;
mod backup;
mod bulk;
mod exits;
mod importing;
mod initial;
mod looking;
mod planning;
mod results;
mod screens;
mod served;
mod stage;
mod waiting;
