//! Keys that come again in a file, for a dry run: its groups are undone one by one, so the database
//! finds only those that come twice in the same group.
//!
//! Invariant: bounded, however long the file is. A key that is not remembered is not missed.

use super::dry_run::Mark;
use super::reader::Group;
use crate::store::{ImportRule, Imported, OnDuplicate, Refusal};
use std::collections::HashMap;

/// Keys that are remembered: some fifty megabytes of them.
const KEYS_MAX: usize = 1_800_000;

/// The keys of the lines so far.
pub(super) struct Seen {
    most: usize,
    /// What a job is called, and the line that it was first on and what that said.
    lines: HashMap<u64, (u64, u64)>,
    /// Whether some could not be remembered.
    pub(super) is_full: bool,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { most: KEYS_MAX, lines: HashMap::new(), is_full: false }
    }
}

impl Seen {
    /// Takes from what a group did the rows that would find the job of an earlier line there.
    pub(super) fn amend(&mut self, group: &Group, done: &mut Imported, rule: &ImportRule) {
        let shapes = group.shapes.iter().zip(&group.lines).enumerate().take(done.rows);
        let mut added = 0;
        for (row, (shape, line)) in shapes {
            let is_new = !done.left_out.contains(&row)
                && !done.refused.iter().any(|(refused, _)| *refused == row);
            let Some(mark) = shape.mark.filter(|_| is_new) else {
                added += usize::from(is_new);
                continue;
            };
            match (self.first(mark, *line), rule.on_duplicate) {
                (None, _) => added += 1,
                (Some((_, is_equal)), OnDuplicate::Skip) => leave_out(done, row, is_equal),
                (Some((_, true)), OnDuplicate::Replace) => leave_out(done, row, true),
                (Some(_), OnDuplicate::Replace) => {
                    self.lines.insert(mark.name, (*line, mark.content));
                    added += 1;
                    done.replaced += 1;
                    // It is no job more.
                    done.left_out.push(row);
                }
                (Some((first, is_equal)), OnDuplicate::Error) => {
                    let sentence = match is_equal {
                        true => format!("line {first} is the same"),
                        false => format!("line {first} has this key already"),
                    };
                    done.refused.push((row, Refusal::Sentence(sentence)));
                    if !rule.keep_going {
                        stop_at(done, row);
                        break;
                    }
                }
            }
        }
        done.added = added;
    }

    /// The line that had this name before, and whether it said the same.
    fn first(&mut self, mark: Mark, line: u64) -> Option<(u64, bool)> {
        if let Some((first, content)) = self.lines.get(&mark.name) {
            return Some((*first, *content == mark.content));
        }
        if self.lines.len() < self.most {
            self.lines.insert(mark.name, (line, mark.content));
        } else {
            self.is_full = true;
        }
        None
    }
}

fn leave_out(done: &mut Imported, row: usize, is_equal: bool) {
    done.skipped += 1;
    done.different += usize::from(!is_equal);
    done.left_out.push(row);
}

/// What lies behind a bad line is not dealt with.
fn stop_at(done: &mut Imported, row: usize) {
    done.rows = row + 1;
    done.refused.retain(|(other, _)| *other <= row);
    done.left_out.retain(|other| *other <= row);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_remembered() {
        let mut seen = Seen { most: 2, ..Seen::default() };
        let mark = |name, content| Mark { name, content };
        assert_eq!(seen.first(mark(1, 1), 1), None);
        assert_eq!(seen.first(mark(2, 1), 2), None);
        assert!(!seen.is_full);
        assert_eq!(seen.first(mark(3, 1), 3), None);
        assert!(seen.is_full && seen.lines.len() == 2);
        assert_eq!(seen.first(mark(1, 1), 4), Some((1, true)));
        assert_eq!(seen.first(mark(2, 9), 5), Some((2, false)));
    }
}
