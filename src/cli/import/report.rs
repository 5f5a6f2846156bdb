//! What an import has done so far, in words.

use super::reader::Group;
use super::rows::BadLine;
use crate::cli::render::format;
use crate::domain::job::JobState;
use crate::store::{Imported, OnDuplicate, Refusal, Taken};
use serde_json::{Value, json};

/// What may be done about lines that are there already.
const ABOUT_DUPLICATES: &str = "--on-duplicate skip leaves out what is there already; \
    replace puts lines in the place of jobs that were not started";

/// Sums over the groups that are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows dealt with, bad lines not among them.
    pub(super) rows: u64,
    pub(super) added: u64,
    pub(super) replaced: u64,
    pub(super) skipped: u64,
    pub(super) different: u64,
    pub(super) bad: u64,
    /// Bytes of the file that are dealt with.
    pub(super) bytes: u64,
    /// The last line that is dealt with.
    pub(super) line: u64,
    /// Rows without a key.
    pub(super) unkeyed: bool,
}

impl Tally {
    /// Counts what became of a group; its bad lines and refused rows in their order.
    ///
    /// Where the first of them ends the import, what lies behind it is not dealt with.
    pub(super) fn add(
        &mut self,
        group: &Group,
        done: &Imported,
        on_duplicate: OnDuplicate,
        keep_going: bool,
    ) -> Vec<BadLine> {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.rows += wide(done.rows);
        self.added += wide(done.added);
        self.replaced += wide(done.replaced);
        self.skipped += wide(done.skipped);
        self.different += wide(done.different);
        self.unkeyed |= !group.keyed && done.rows > 0;
        let mut bad: Vec<BadLine> = done
            .refused
            .iter()
            .map(|(row, why)| BadLine {
                line: group.lines[*row],
                why: words(why, on_duplicate),
                is_duplicate: matches!(why, Refusal::Taken(_)),
            })
            .collect();
        let is_whole = done.rows == group.rows.len();
        if is_whole && (keep_going || bad.is_empty()) {
            bad.extend(group.bad.iter().cloned());
        }
        bad.sort_by_key(|bad| bad.line);
        match bad.first() {
            Some(first) if !keep_going => self.line = first.line - 1,
            _ if is_whole => {
                self.line = group.to_line;
                self.bytes = group.bytes;
            }
            _ => self.line = done.rows.checked_sub(1).map_or(self.line, |last| group.lines[last]),
        }
        self.bad += wide(bad.len());
        bad
    }

    /// How the rest comes in after an end before the end.
    pub(super) fn way_on(&self, on_duplicate: OnDuplicate) -> String {
        let jobs = |number: u64| format::jobs(signed(number));
        if self.added + self.skipped == 0 {
            return "nothing was added".to_owned();
        }
        let (number, are) = (jobs(self.added), if self.added == 1 { "is" } else { "are" });
        match (self.unkeyed, on_duplicate) {
            (true, _) => format!("{number} {are} in; go on with --skip-lines {}", self.line),
            (false, OnDuplicate::Error) => {
                format!("{number} {are} in; go on with --on-duplicate skip")
            }
            (false, _) => format!("{number} {are} in; go on with the same command"),
        }
    }

    /// The same after a bad line.
    pub(super) fn hint(&self, bad: &BadLine, on_duplicate: OnDuplicate) -> String {
        let way_on = self.way_on(on_duplicate);
        if bad.is_duplicate && on_duplicate == OnDuplicate::Error {
            return format!("{way_on}\n{ABOUT_DUPLICATES}");
        }
        format!("{way_on}\n--keep-going leaves bad lines out and names all of them")
    }

    /// `added 997 jobs, 2 of them in place of others; left out 3 that were there; 1 bad line`
    pub(super) fn sentence(&self, dry_run: bool) -> String {
        let count = |number: u64| format::count(signed(number));
        let verb = if dry_run { "would add" } else { "added" };
        let mut text = format!("{verb} {}", format::jobs(signed(self.added)));
        if self.replaced > 0 {
            text += &format!(", {} of them in place of others", count(self.replaced));
        }
        if self.skipped > 0 {
            let verb = if dry_run { "leave" } else { "left" };
            let were = if self.skipped == 1 { "was" } else { "were" };
            text += &format!("; {verb} out {} that {were} there", count(self.skipped));
            if self.different > 0 {
                text += &format!(", {} with another prompt or request", count(self.different));
            }
        }
        if self.bad > 0 {
            let noun = if self.bad == 1 { "line" } else { "lines" };
            text += &format!("; {} bad {noun}", count(self.bad));
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self, file: &str, dry_run: bool) -> Value {
        json!({
            "file": file,
            "dry_run": dry_run,
            "added": self.added,
            "replaced": self.replaced,
            "skipped": self.skipped,
            "different": self.different,
            "bad": self.bad,
            "lines": self.line,
        })
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Why a row did not go in.
fn words(why: &Refusal, on_duplicate: OnDuplicate) -> String {
    let Taken { job, state, attempts, by_id, is_same, .. } = match why {
        Refusal::Sentence(sentence) => return sentence.clone(),
        Refusal::Taken(taken) => *taken,
    };
    let what = if by_id { "id" } else { "key" };
    if on_duplicate == OnDuplicate::Replace {
        let where_it_is = match (state, attempts) {
            (JobState::Queued, _) => "was called already".to_owned(),
            (state, _) => format!("is {state}"),
        };
        return format!("job {job} has this {what} and {where_it_is}, so it is not replaced");
    }
    if is_same {
        return format!("it is there already: job {job}");
    }
    format!("job {job} has this {what} already, with another prompt or request")
}
