//! The heads of the queues, read and measured before admission looks at them.
//!
//! Beyond the heads, where all of them wait for their pools, there are scouts.
//!
//! Invariant: bounded in jobs and in bytes, however long the queues are; nothing scans them.
//! Invariant: filled outside any write transaction.

use super::scout::{self, Place, Scout};
use crate::claude::Parts;
use crate::claude::request::{BODY_BYTES_MAX, Fallbacks, InvalidRequest, JobBody, prepare};
use crate::config::Config;
use crate::domain::admission::{Candidate, Plan, Wait};
use crate::domain::job::{JobEvent, JobId};
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use crate::store::{Head, JobRow, Store, StoreError, Terms, TurnSoFar, Unfit};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Jobs kept at the most.
const JOBS_MAX: usize = 1_024;
/// Bytes of bodies kept at the most; one job is always allowed, however large.
const BYTES_MAX: i64 = 64 << 20;
/// A job that is larger than this can never be called, whatever of it goes into the body: it is
/// not even read, lest a prompt as large as SQLite takes ends the daemon at every start.
#[expect(clippy::cast_possible_wrap, reason = "64 MiB")]
const READ_BYTES_MAX: i64 = 2 * BODY_BYTES_MAX as i64;
/// Queues looked at in one fill; when there are more, they take turns.
const QUEUES_MAX: usize = 64;
/// Names of queues read at the most.
const QUEUE_NAMES_MAX: i64 = 10_000;
/// Of a longer queue, with fewer in sight, more are read.
const FEW: usize = 64;
/// Bodies read by one query.
const BODIES_AT_ONCE: usize = 64;

/// A job that could start.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) candidate: Candidate,
    pub(super) body: Bytes,
    pub(super) max_attempts: Option<u32>,
    pub(super) wait_reason: Option<Reason>,
    /// Under which it was read.
    pub(super) terms: Terms,
    /// A turn that it goes on with.
    pub(super) parts: Option<Arc<Parts>>,
}

/// The jobs that could start, of every queue the first ones.
#[derive(Debug, Default)]
pub(super) struct HeadWindow {
    ready: HashMap<JobId, Ready>,
    bytes: i64,
    turn: usize,
    /// Queues with ready jobs at the last fill, paused ones aside.
    queues: usize,
    /// Paused queues with ready jobs.
    paused: usize,
    /// Queues looked at since a job last started.
    looked_at: usize,
    /// Jobs read of each queue at the last fill, at the most.
    most: usize,
    /// Some of them had to be left out for their size.
    too_large: bool,
    /// Queues that go on beyond their heads, and where those end.
    longer: HashMap<Arc<str>, Place>,
    scouts: HashMap<Arc<str>, Scout>,
}

impl HeadWindow {
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether some queue has more jobs than are in sight, and few of them are left there.
    pub(super) fn is_low(&self, free_permits: usize) -> bool {
        let few = free_permits.max(FEW);
        if self.too_large && self.ready.len() < few {
            return true;
        }
        let few = few.min(self.most / 2).max(1);
        let mut left: HashMap<&str, usize> = HashMap::new();
        for ready in self.ready.values() {
            *left.entry(&ready.candidate.queue).or_default() += 1;
        }
        self.longer.keys().any(|queue| left.get(&**queue).is_none_or(|count| *count < few))
    }

    /// Whether there are queues beyond it, so that it must move when nothing in it can start.
    pub(super) fn has_more(&self) -> bool {
        self.queues > QUEUES_MAX
    }

    /// Whether it holds every job that is ready.
    pub(super) fn is_whole(&self) -> bool {
        self.longer.is_empty() && !self.too_large && self.queues <= QUEUES_MAX
    }

    /// Whether every queue was looked at since a job last started.
    pub(super) fn all_looked_at(&self) -> bool {
        self.looked_at >= self.queues
    }

    /// Paused queues with ready jobs, which are not looked at.
    pub(super) fn paused(&self) -> usize {
        self.paused
    }

    /// A job has started: what was blocked before may not be so now.
    pub(super) fn started(&mut self) {
        self.looked_at = self.queues.min(QUEUES_MAX);
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.ready.values().map(|ready| ready.candidate.clone()).collect()
    }

    pub(super) fn queues(&self) -> BTreeSet<Arc<str>> {
        self.ready.values().map(|ready| Arc::clone(&ready.candidate.queue)).collect()
    }

    pub(super) fn get(&self, job: JobId) -> Option<&Ready> {
        self.ready.get(&job)
    }

    pub(super) fn remove(&mut self, job: JobId) -> Option<Ready> {
        let ready = self.ready.remove(&job)?;
        self.bytes -= ready.candidate.body_bytes;
        Some(ready)
    }

    /// Remembers what each job waits for, and since when others go past it.
    pub(super) fn note(&mut self, waits: &[Wait], now: Timestamp) {
        for wait in waits {
            if let Some(ready) = self.ready.get_mut(&wait.job) {
                ready.wait_reason = Some(wait.reason);
                if wait.passed_over {
                    ready.candidate.passed_over_since.get_or_insert(now);
                }
            }
        }
    }

    /// Sends scouts beyond the heads of queues in which every job in sight waits for its pool.
    /// Whether there is more to read now, and when it is worth another look.
    ///
    /// `has_room`: whether the queue itself could have another call out.
    pub(super) fn look_further(
        &mut self,
        outline: &Plan,
        has_room: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> (bool, Option<Timestamp>) {
        let mut free: HashSet<&str> = HashSet::new();
        let starts = outline.starts.iter().map(|start| start.job);
        let others = outline.waits.iter().filter(|wait| !scout::is_of_the_pool(wait.reason));
        for job in
            starts.chain(others.map(|wait| wait.job)).chain(outline.unbounded.iter().copied())
        {
            free.extend(self.ready.get(&job).map(|ready| &*ready.candidate.queue));
        }
        let (mut moved, mut wake_at) = (false, None);
        for (queue, end) in &self.longer {
            let blocked = !free.contains(&**queue) && has_room(queue);
            let scout = self.scouts.entry(Arc::clone(queue)).or_default();
            let (moves, at) = scout.note(blocked, *end, now);
            moved |= moves;
            wake_at = [wake_at, at].into_iter().flatten().min();
        }
        (moved, wake_at)
    }

    /// Drops everything, when the defaults that filled the bodies have changed.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.scouts.clear();
        self.bytes = 0;
    }

    /// Reads the heads of the queues; gives the jobs that cannot be called at all.
    pub(super) async fn fill(
        &mut self,
        store: &Store,
        config: &Config,
        paused: impl Fn(&str) -> bool,
    ) -> Result<Vec<Unfit>, StoreError> {
        let mut names = store.ready_queues(QUEUE_NAMES_MAX).await?;
        // What is paused would only be in the way of the others.
        let all = names.len();
        names.retain(|name| !paused(name));
        self.paused = all - names.len();
        self.queues = names.len();
        self.looked_at = self.looked_at.saturating_add(self.queues.min(QUEUES_MAX));
        let names: BTreeSet<String> = names.into_iter().collect();
        let queues = self.take_turns(names.iter().cloned().collect());
        self.most = JOBS_MAX / queues.len().max(1);
        let most = i64::try_from(self.most).unwrap_or(1);
        let mut wanted: Vec<(usize, Head)> = Vec::new();
        self.longer.clear();
        for queue in &queues {
            let heads = store.heads(queue, most).await?;
            if i64::try_from(heads.len()).is_ok_and(|count| count >= most)
                && let Some(last) = heads.last()
            {
                self.longer.insert(Arc::from(queue.as_str()), scout::place(last));
            }
            wanted.extend(heads.into_iter().enumerate());
        }
        self.scouts.retain(|queue, _| names.contains(&**queue));
        let beyond = self.read_further(store).await?;
        let mut seen: HashSet<JobId> = wanted.iter().map(|(_, head)| head.id).collect();
        // What the heads have reached meanwhile is among them already.
        let beyond: Vec<Head> = beyond.into_iter().filter(|head| seen.insert(head.id)).collect();
        // The urgent first, then the first of every queue, the second of every queue …
        wanted.sort_by_key(|(rank, head)| (-head.priority, *rank, head.id));
        // What is no longer at a head was taken, cancelled, or overtaken by more urgent jobs.
        let gone: Vec<JobId> = self.ready.keys().copied().filter(|id| !seen.contains(id)).collect();
        for job in gone {
            self.remove(job);
        }
        let mut unfit = Vec::new();
        let mut missing: Vec<JobId> = Vec::new();
        let mut bytes = self.bytes;
        self.too_large = false;
        for (rank, Head { id, bytes: size, .. }) in wanted {
            if self.ready.contains_key(&id) {
                continue;
            }
            if size > READ_BYTES_MAX {
                unfit.push(too_large(id, size));
                continue;
            }
            // The first of each queue is always taken, however large the others are.
            if rank > 0 && bytes + size > BYTES_MAX {
                self.too_large = true;
                continue;
            }
            bytes += size;
            missing.push(id);
        }
        for Head { id, bytes: size, .. } in beyond {
            if size > READ_BYTES_MAX {
                unfit.push(too_large(id, size));
            } else if !self.ready.contains_key(&id) {
                missing.push(id);
            }
        }
        for some in missing.chunks(BODIES_AT_ONCE) {
            for row in store.bodies(some).await? {
                let so_far = match row.terms.turn_from {
                    // Nobody knew how much of it there is.
                    Some(_) if self.bytes > BYTES_MAX => {
                        self.too_large = true;
                        continue;
                    }
                    Some(from) => store.turn_so_far(row.id, from).await?,
                    None => None,
                };
                match read(row, so_far, config) {
                    Ok(ready) => {
                        self.bytes += ready.candidate.body_bytes;
                        self.ready.insert(ready.candidate.job, ready);
                    }
                    Err(one) => unfit.push(one),
                }
            }
        }
        Ok(unfit)
    }

    /// The pages of the scouts.
    async fn read_further(&mut self, store: &Store) -> Result<Vec<Head>, StoreError> {
        let longer = &self.longer;
        let scouts = self.scouts.iter_mut().filter(|(queue, _)| longer.contains_key(*queue));
        let out: Vec<_> =
            scouts.filter_map(|(queue, scout)| Some((queue, scout.after()?, scout))).collect();
        let most = scout::JOBS_MAX / out.len().max(1);
        let most_rows = i64::try_from(most).unwrap_or(1);
        let bytes_max = scout::BYTES_MAX / i64::try_from(out.len().max(1)).unwrap_or(1);
        let mut beyond = Vec::new();
        for (queue, after, scout) in out {
            let page = store.heads_after(queue, after, most_rows).await?;
            beyond.extend(scout.see(page, most, bytes_max));
        }
        Ok(beyond)
    }

    fn take_turns(&mut self, mut queues: Vec<String>) -> Vec<String> {
        if queues.len() > QUEUES_MAX {
            let start = self.turn % queues.len();
            self.turn = start + QUEUES_MAX;
            queues.rotate_left(start);
            queues.truncate(QUEUES_MAX);
        }
        queues
    }
}

fn invalid(job: JobId, error: String) -> Unfit {
    Unfit { job, event: JobEvent::Fail, class: "invalid_request".into(), error }
}

fn too_large(job: JobId, bytes: i64) -> Unfit {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    invalid(job, InvalidRequest::TooLarge(bytes).to_string())
}

/// Measures a job, or says why it can never be called.
fn read(row: JobRow, so_far: Option<TurnSoFar>, config: &Config) -> Result<Ready, Unfit> {
    let job = row.id;
    let unfit = |error: String| invalid(job, error);
    let prompt = text(row.prompt.as_deref(), "prompt").map_err(unfit)?;
    let request = text(row.request.as_deref(), "request").map_err(unfit)?;
    let system = text(row.system.as_deref(), "system").map_err(unfit)?;
    let model = text(row.model.as_deref(), "model").map_err(unfit)?;
    let defaults = config.defaults_for(&row.queue);
    let parts = so_far.map(|so_far| Parts::of(&so_far.body, so_far.calls));
    let body = JobBody {
        prompt,
        request,
        system,
        model,
        max_tokens: row.max_tokens,
        asked_max_tokens: row.terms.max_tokens,
        parts: parts.as_ref(),
    };
    let fallbacks = Fallbacks {
        model: defaults.model.as_deref(),
        max_tokens: defaults.max_tokens,
        system: defaults.system.as_deref(),
    };
    let prepared = prepare(&body, &fallbacks).map_err(|error| unfit(error.to_string()))?;
    Ok(Ready {
        candidate: Candidate {
            job,
            queue: row.queue,
            priority: row.priority,
            model: prepared.model,
            body_bytes: i64::try_from(prepared.body.len()).unwrap_or(i64::MAX),
            max_tokens: prepared.max_tokens,
            unbounded: prepared.unbounded.is_some(),
            passed_over_since: None,
        },
        body: prepared.body,
        max_attempts: row.max_attempts,
        wait_reason: None,
        terms: row.terms,
        parts: parts.map(Arc::new),
    })
}

fn text<'a>(bytes: Option<&'a [u8]>, column: &str) -> Result<Option<&'a str>, String> {
    match bytes.map(std::str::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(error)) => {
            Err(format!("jobs.{column} is not valid UTF-8 after {} bytes", error.valid_up_to()))
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
