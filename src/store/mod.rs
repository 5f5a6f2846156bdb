//! The only SQL: verbs over the job database, each one transaction.
//!
//! Invariant: the store decides nothing. Where a decision must be atomic with a write
//! ([`Store::admit`]), a pure function is handed in.
//! Invariant: a write is never cancelled; nobody wraps these verbs in a timeout or a `select!`.
//! Invariant: everything that commits does so with `synchronous=FULL`.

mod error;
pub mod file;
mod incoming;
mod rows;
mod sqlite;
mod views;

pub use error::{StoreError, Trouble};
pub use incoming::{Column, Incoming, IncomingRow};
pub use rows::*;
pub use sqlite::{
    Admission, BudgetSpent, Defaults, Edited, Glance, ImportRule, Imported, NewJob, OnDuplicate,
    Recovered, Refusal, Selector, Store, Swept, Taken, Wal, Wishes,
};
pub use views::*;
