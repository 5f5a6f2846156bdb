//! What the tests share: a database in a directory of its own, and the programs around it.

mod database;
mod lab;
pub(crate) mod markdown;
mod program;
pub(crate) mod schema;
mod stand_in;
mod terminal;

pub(crate) use database::TempDb;
pub(crate) use lab::{CANARY, Daemon, Lab, Limits, Settings, eventually, pause};
pub(crate) use program::{
    FlockHolder, NODE_LEAST, Said, claudeq, has, has_node, needs, python, sql, sqlite3, sqlite3_of,
    tools_are_required, updates_golden, with_claudeq, with_tools,
};
pub(crate) use terminal::Terminal;
