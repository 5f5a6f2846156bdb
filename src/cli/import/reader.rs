//! Groups of rows, read and parsed on a thread of their own while the database writes the last
//! ones.
//!
//! Invariant: however long the file is, only a few groups of it are in memory.

use super::dry_run::Shape;
use super::rows::{BadLine, Next, RowReader};
use crate::store::{Column, Defaults, Incoming};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Rows of a group, so that a transaction is short …
const ROWS: usize = 512;
/// … also when they are long; a single one may be longer.
const BYTES: usize = 1 << 20;
/// Rows after which another thread may have the processor.
const TURN: usize = 16;
/// Groups that are ready beforehand.
const AHEAD: usize = 2;

/// Rows that go in together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) rows: Incoming,
    /// The line of each.
    pub(super) lines: Vec<u64>,
    /// What each is like, where somebody asked.
    pub(super) shapes: Vec<Shape>,
    /// Lines among them that are no jobs.
    pub(super) bad: Vec<BadLine>,
    /// Whether all of them have a key.
    pub(super) keyed: bool,
    /// The last line of the file that is dealt with when they are.
    pub(super) to_line: u64,
    /// Bytes of the file until there.
    pub(super) bytes: u64,
    /// Whether nothing comes behind them.
    pub(super) is_last: bool,
    /// Why that is, when it is not the end of the file.
    pub(super) broken: Option<anyhow::Error>,
}

/// How to read.
pub(super) struct Reading {
    pub(super) keep_going: bool,
    /// For the shapes of rows.
    pub(super) shapes: Option<Defaults>,
    /// Whether a row that is there should not wait for others that are not: of a pipe.
    pub(super) is_live: bool,
}

/// Begins to read; the groups come in the order of the file.
pub(super) fn start(rows: RowReader, reading: Reading) -> Receiver<Group> {
    let (sender, receiver) = channel(AHEAD);
    // Not one of the runtime's, which waits for its threads at the end: a read from a pipe may
    // never end.
    std::thread::spawn(move || {
        let mut reader = Reader { rows, reading, sender };
        while reader.group().is_some() {}
    });
    receiver
}

struct Reader {
    rows: RowReader,
    reading: Reading,
    sender: Sender<Group>,
}

impl Reader {
    /// Reads a group and sends it; nothing when it was the last.
    fn group(&mut self) -> Option<()> {
        let mut group = Group { keyed: true, ..Group::default() };
        group.is_last = !self.fill(&mut group);
        group.to_line = self.rows.line();
        group.bytes = self.rows.bytes();
        let is_last = group.is_last;
        self.sender.blocking_send(group).ok()?;
        (!is_last).then_some(())
    }

    /// Whether there may be more.
    fn fill(&mut self, group: &mut Group) -> bool {
        while group.rows.len() < ROWS && group.rows.bytes() < BYTES && group.bad.len() < ROWS {
            let has_some = !(group.rows.is_empty() && group.bad.is_empty());
            if has_some && self.should_send() {
                break;
            }
            // The system may put the thread that waits for the database behind this one although
            // another processor is idle: for all of a group, a fifth of the time of both.
            if group.rows.len().is_multiple_of(TURN) {
                std::thread::yield_now();
            }
            let defaults = self.reading.shapes.as_ref();
            let next = self.rows.next(|row| {
                group.rows.push(row);
                group.keyed &= row.get(Column::Key).is_some();
                group.shapes.extend(defaults.map(|defaults| Shape::of(row, defaults)));
            });
            match next {
                Ok(Next::Row(line)) => group.lines.push(line),
                Ok(Next::Bad(bad)) => {
                    group.bad.push(bad);
                    if !self.reading.keep_going {
                        return false;
                    }
                }
                Ok(Next::End) => return false,
                Err(error) => {
                    group.broken = Some(error);
                    return false;
                }
            }
        }
        true
    }

    /// Whether the next row may have to be waited for, and nobody has anything else to do.
    fn should_send(&self) -> bool {
        self.reading.is_live && self.rows.may_wait() && self.sender.capacity() == AHEAD
    }
}
