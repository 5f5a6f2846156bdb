//! The daemon without its loop and its HTTP: turns are taken by hand, calls are made by whoever
//! holds it. Simulations drive it in virtual time.
//!
//! Invariant: everything between an event and its effects is the daemon's own: recovery, turns,
//! the ledger, the store.

use super::books::{Books, Context};
use super::executor::{Call, Finished};
use super::forecast::once;
use super::turn::{Done, Work, turn};
use super::{DaemonError, Options, begin};
use crate::domain::attempt::{Progress, Reply};
use crate::domain::forecast::Forecast;
use crate::domain::job::{AttemptId, JobId, JobState};
use crate::domain::reason::Reason;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A daemon at work; dropping it is as good as killing it.
pub struct Stepper {
    context: Arc<Context>,
    books: Option<Box<Books>>,
    flights: HashMap<AttemptId, (Call, Timestamp)>,
}

/// A call to be made; its lease and its reservation are committed.
#[derive(Clone, Debug)]
pub struct Started {
    /// To name it by.
    pub attempt: AttemptId,
    /// Whose.
    pub job: JobId,
    /// What is asked.
    pub body: Bytes,
    /// Whether it is streamed.
    pub stream: bool,
}

/// A call that is over.
#[derive(Clone, Debug)]
pub struct End {
    /// Which.
    pub attempt: AttemptId,
    /// What came back.
    pub reply: Reply,
    /// Bytes of text that its stream showed, if it was streamed.
    pub streamed_bytes: Option<i64>,
}

/// What a turn did.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Calls to make.
    pub started: Vec<Started>,
    /// Jobs that ended, by state.
    pub ended: Vec<JobState>,
    /// What waits, and for what.
    pub held_back: BTreeMap<Reason, usize>,
    /// When the next turn is due, unless something happens before.
    pub wake_at: Option<Timestamp>,
    /// Jobs that are neither finished nor held.
    pub left: i64,
}

impl Stepper {
    /// Starts, and recovers what an earlier daemon left.
    ///
    /// # Errors
    /// As [`run`](super::run).
    pub async fn start(options: &Options) -> Result<Stepper, DaemonError> {
        let (context, books, _spool) = begin(options).await?;
        let books = Some(Box::new(books));
        Ok(Stepper { context: Arc::new(context), books, flights: HashMap::new() })
    }

    /// Ends it as SIGKILL would: nothing is written any more, and the database's lock is free.
    pub async fn kill(self) {
        self.context.store.close().await;
    }

    /// One turn: `ended` are calls that are over, `progress` what is seen of those that are not.
    ///
    /// # Errors
    /// When the database fails. The daemon is not usable any more then.
    pub async fn step(
        &mut self,
        ended: Vec<End>,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<Step, StoreError> {
        let finished = ended.into_iter().filter_map(|End { attempt, reply, streamed_bytes }| {
            let (call, sent_at) = self.flights.remove(&attempt)?;
            Some(Finished::of(call, reply, Some(sent_at), streamed_bytes))
        });
        let work = Work {
            finished: finished.collect(),
            progress,
            admit: true,
            count: true,
            ..Work::default()
        };
        let Some(books) = self.books.take() else {
            return Ok(Step::default());
        };
        let (books, done) = turn(Arc::clone(&self.context), books, work).await;
        self.books = Some(books);
        self.note(done)
    }

    /// What the daemon would say of the end, now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn forecast(&self) -> Result<Forecast, StoreError> {
        match &self.books {
            Some(books) => once(&self.context, books).await,
            None => Ok(Forecast::default()),
        }
    }

    fn note(&mut self, done: Done) -> Result<Step, StoreError> {
        if let Some(error) = done.trouble {
            return Err(error);
        }
        let now = self.context.now();
        let mut started = Vec::with_capacity(done.calls.len());
        for call in done.calls {
            started.push(Started {
                attempt: call.lease.attempt,
                job: call.lease.job,
                body: call.body.clone(),
                stream: call.stream,
            });
            self.flights.insert(call.lease.attempt, (call, now));
        }
        let left = done.left.map_or(0, |left| left.queued + left.running);
        Ok(Step {
            started,
            ended: done.ended,
            held_back: done.held_back,
            wake_at: done.wake_at,
            left,
        })
    }
}
