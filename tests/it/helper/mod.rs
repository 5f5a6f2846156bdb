//! What the tests share: a database in a directory of its own, and the programs around it.

mod database;
mod program;

pub(crate) use database::TempDb;
pub(crate) use program::{FlockHolder, Said, claudeq, python, sql, sqlite3};
