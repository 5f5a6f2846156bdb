//! Looking past the heads of a queue when all that is in sight waits for its pools.
//!
//! A queue may hold jobs of several models, and a thousand of one whose limit is used up must not
//! hide the next model's job behind them. Its scout then reads a page further on, and another one
//! when nothing of that can start either, as far as the queue goes. There it stays for a while,
//! so that what arrives is seen at once, and begins anew.
//!
//! Invariant: one page a queue and a step a while, whatever the length of the queue; the places
//! are those of the index, so that no step walks over what lies before.
//! Invariant: a queue that waits for itself (its own bound, a pause, a budget) is not scouted.

use crate::domain::job::JobId;
use crate::domain::reason::Reason;
use crate::domain::time::{Millis, Timestamp};
use crate::store::Head;

/// Jobs kept from beyond the heads at the most, of all queues together.
pub(super) const JOBS_MAX: usize = 512;
/// Bytes of their bodies at the most; one job a queue is always allowed.
pub(super) const BYTES_MAX: i64 = 16 << 20;
/// All in sight must have waited for so long before a step: a queue at the limit of its only
/// pool starts something most of the time, and gains nothing by reading on.
const STEP: Millis = Millis(500);
/// From the end of a queue back to its beginning: what was passed may have become possible.
const ANEW: Millis = Millis::from_secs(30);

/// A job's place in the order of its queue.
pub(super) type Place = (i64, JobId);

/// How far one queue was looked through.
#[derive(Debug, Default)]
pub(super) struct Scout {
    /// Since when nothing in sight could start.
    blocked_since: Option<Timestamp>,
    /// The page begins behind this one; `None`: only the heads are in sight.
    after: Option<Place>,
    /// The last job of the page.
    last: Option<Place>,
    /// Nothing lies beyond the page.
    at_end: bool,
    /// Since when it stays there.
    at_end_since: Option<Timestamp>,
}

impl Scout {
    /// Where the page begins, if one is to be read.
    pub(super) fn after(&self) -> Option<Place> {
        self.after
    }

    /// A page was read; gives as much of it as may be kept.
    pub(super) fn see(&mut self, mut page: Vec<Head>, most: usize, bytes_max: i64) -> Vec<Head> {
        let whole = page.len();
        let sums = page.iter().scan(0_i64, |sum, head| {
            *sum = sum.saturating_add(head.bytes);
            Some(*sum)
        });
        let fit = sums.take_while(|sum| *sum <= bytes_max).count();
        page.truncate(fit.max(1));
        self.at_end = whole < most && page.len() == whole;
        self.last = page.last().map(place).or(self.after);
        page
    }

    /// Whether all in sight of the queue wait for their pools, as the last plan found. Moves on
    /// when that has lasted; says so, and when it is worth another look.
    pub(super) fn note(
        &mut self,
        blocked: bool,
        heads_end: Place,
        now: Timestamp,
    ) -> (bool, Option<Timestamp>) {
        if !blocked {
            self.blocked_since = None;
            return (false, None);
        }
        let due = *self.blocked_since.get_or_insert(now) + STEP;
        if now < due {
            return (false, Some(due));
        }
        if self.after.is_some() && self.at_end {
            let again = *self.at_end_since.get_or_insert(now) + ANEW;
            if now < again {
                return (false, Some(again));
            }
            self.last = None;
        }
        self.after = self.last.or(Some(heads_end));
        self.at_end_since = None;
        self.blocked_since = Some(now);
        (true, Some(now))
    }
}

pub(super) fn place(head: &Head) -> Place {
    (head.priority, head.id)
}

/// Whether a job of another model may start all the same.
pub(super) fn is_of_the_pool(reason: Reason) -> bool {
    match reason {
        Reason::Requests
        | Reason::InputTokens
        | Reason::OutputTokens
        | Reason::Tokens
        | Reason::Concurrency
        | Reason::Pause
        | Reason::Provider => true,
        Reason::Budget | Reason::Paused | Reason::Account | Reason::Key | Reason::Schedule => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp(1_000_000);
    const HEADS_END: Place = (0, JobId(100));

    fn page(ids: std::ops::Range<i64>, bytes: i64) -> Vec<Head> {
        ids.map(|id| Head { id: JobId(id), priority: 0, bytes }).collect()
    }

    fn at(millis: i64) -> Timestamp {
        T0 + Millis(millis)
    }

    #[test]
    fn it_moves_on_only_while_nothing_can_start() {
        let mut scout = Scout::default();
        assert_eq!(scout.note(true, HEADS_END, at(0)), (false, Some(at(500))));
        assert_eq!(scout.note(false, HEADS_END, at(400)), (false, None));
        assert_eq!(scout.note(true, HEADS_END, at(600)), (false, Some(at(1_100))));
        assert_eq!(scout.after(), None);
        assert_eq!(scout.note(true, HEADS_END, at(1_100)), (true, Some(at(1_100))));
        assert_eq!(scout.after(), Some(HEADS_END));
        scout.see(page(101..111, 1), 10, BYTES_MAX);
        assert_eq!(scout.note(true, HEADS_END, at(1_200)), (false, Some(at(1_600))));
        assert!(scout.note(true, HEADS_END, at(1_600)).0);
        assert_eq!(scout.after(), Some((0, JobId(110))));
    }

    #[test]
    fn at_the_end_it_stays_for_what_arrives_and_then_begins_anew() {
        let mut scout = Scout::default();
        scout.note(true, HEADS_END, at(0));
        scout.note(true, HEADS_END, at(500));
        scout.see(page(101..104, 1), 10, BYTES_MAX);
        assert_eq!(scout.note(true, HEADS_END, at(1_000)), (false, Some(at(31_000))));
        assert_eq!(scout.after(), Some(HEADS_END));
        // More has come than fits on the page: it goes on.
        scout.see(page(101..111, 1), 10, BYTES_MAX);
        assert!(scout.note(true, HEADS_END, at(1_500)).0);
        assert_eq!(scout.after(), Some((0, JobId(110))));
        scout.see(Vec::new(), 10, BYTES_MAX);
        assert!(!scout.note(true, HEADS_END, at(2_000)).0);
        assert!(scout.note(true, HEADS_END, at(32_000)).0);
        assert_eq!(scout.after(), Some(HEADS_END));
    }

    #[test]
    fn large_bodies_make_a_short_page_and_none_is_left_out() {
        let mut scout = Scout::default();
        scout.note(true, HEADS_END, at(0));
        scout.note(true, HEADS_END, at(500));
        assert_eq!(scout.see(page(101..105, BYTES_MAX / 2), 10, BYTES_MAX).len(), 2);
        scout.note(true, HEADS_END, at(1_000));
        assert_eq!(scout.after(), Some((0, JobId(102))));
        assert_eq!(scout.see(page(103..105, BYTES_MAX * 2), 10, BYTES_MAX).len(), 1);
    }
}
