//! How things look: escaping, numbers, lines, tables, bars, and what the screen can show.
//!
//! Invariant: whatever came from a job or the provider reaches a terminal only through
//! [`escape`]; [`Line`] and [`Table`] do it themselves.

pub(crate) mod bar;
pub(crate) mod escape;
pub(crate) mod format;
mod line;
mod screen;
mod table;
mod wrap;

pub(crate) use line::Line;
pub(crate) use screen::{Screen, Tone};
pub(crate) use table::{Column, Table};
pub(crate) use wrap::wrap;
