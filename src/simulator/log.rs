//! The ground truth: what was asked, answered and billed, in memory and on disk.
//!
//! Invariant: no key and no prompt gets in here.
//! Invariant: when `log_path` is set, the line of a billed answer is on disk before the
//! answer's last byte leaves.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Lines that one sync may cover.
const GROUP_MAX: usize = 4_096;

/// One request and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from 1 in the order of the ends.
    pub seq: u64,
    /// As in the `request-id` header.
    pub request_id: String,
    /// The `[[id=…]]` marker of the prompt.
    pub marker: Option<String>,
    /// The path asked for.
    pub path: String,
    /// The model asked for; empty when the request was not understood.
    pub model: String,
    /// The pool whose limits it met.
    pub pool: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// As asked for.
    pub max_tokens: u64,
    /// The status; 0 when the connection was cut instead.
    pub status: u16,
    /// The type of the error.
    pub error: Option<String>,
    /// The fault that was played.
    pub fault: Option<String>,
    /// Whether the tokens below were paid for.
    pub billed: bool,
    /// Uncached input.
    pub input_tokens: u64,
    /// Output, in full even when it did not arrive.
    pub output_tokens: u64,
    /// Input read from the cache.
    pub cache_read_tokens: u64,
    /// Input written to the cache.
    pub cache_write_tokens: u64,
    /// The client hung up before the answer was finished.
    pub client_gone: bool,
    /// It came before a `retry-after` promised to its pool had passed.
    pub early: bool,
    /// Unix milliseconds of the arrival.
    pub started_ms: i64,
    /// Unix milliseconds of the end; of the end to come, when the client hung up before.
    pub ended_ms: i64,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests to `/v1/messages` that were answered or cut off.
    pub requests: u64,
    /// Answers with status 200, whole or spoilt by a fault.
    pub ok: u64,
    /// 429s by a limit of the simulator, and those played as faults.
    pub refused_429: u64,
    /// Other errors.
    pub errors: u64,
    /// Requests that met a fault.
    pub faults: u64,
    /// Answers that were billed.
    pub billed: u64,
    /// Uncached input that was billed.
    pub input_tokens: u64,
    /// Output that was billed.
    pub output_tokens: u64,
    /// Billed reads from the cache.
    pub cache_read_tokens: u64,
    /// Billed writes to the cache.
    pub cache_write_tokens: u64,
    /// Generations running now.
    pub in_flight: u64,
    /// The most that ever ran together.
    pub max_concurrency: u64,
    /// Requests that came before a `retry-after` promised to their pool had passed.
    pub early_retries: u64,
    /// Clients that hung up during a generation.
    pub clients_gone: u64,
}

/// The log and its counters.
pub(super) struct Witness {
    inner: Mutex<Inner>,
    writer: Option<Sender<Line>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    entries: VecDeque<Entry>,
    entries_max: usize,
    seq: u64,
    stats: Stats,
}

/// A line for the file; whoever waits for it is told when it is on disk.
struct Line {
    text: String,
    synced: Option<oneshot::Sender<()>>,
}

impl Witness {
    /// Opens the file, when there is to be one, and appends to what it holds.
    pub(super) fn open(path: Option<&Path>, entries_max: usize) -> io::Result<Witness> {
        let (writer, thread) = match path {
            None => (None, None),
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                let (sender, lines) = mpsc::channel();
                let name = "simulator-log".to_owned();
                let write = move || write_lines(file, &lines);
                (Some(sender), Some(std::thread::Builder::new().name(name).spawn(write)?))
            }
        };
        let inner =
            Inner { entries: VecDeque::new(), entries_max, seq: 0, stats: Stats::default() };
        Ok(Witness { inner: Mutex::new(inner), writer, thread: Mutex::new(thread) })
    }

    /// Notes an end and does not wait for the disk.
    pub(super) fn note(&self, entry: Entry) {
        self.append(entry, None);
    }

    /// Notes an end; returns when it is on disk.
    pub(super) async fn note_durably(&self, entry: Entry) {
        if self.writer.is_none() {
            return self.note(entry);
        }
        let (synced, done) = oneshot::channel();
        self.append(entry, Some(synced));
        if done.await.is_err() {
            tracing::error!("the simulator's log could not be written; it is no witness any more");
        }
    }

    /// A generation begins.
    pub(super) fn begin(&self) {
        let stats = &mut self.lock().stats;
        stats.in_flight += 1;
        stats.max_concurrency = stats.max_concurrency.max(stats.in_flight);
    }

    /// A generation ends, or its client has gone.
    pub(super) fn end(&self) {
        let stats = &mut self.lock().stats;
        stats.in_flight = stats.in_flight.saturating_sub(1);
    }

    /// What is kept in memory, oldest first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.iter().cloned().collect()
    }

    /// The counters.
    pub(super) fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    fn append(&self, mut entry: Entry, synced: Option<oneshot::Sender<()>>) {
        let mut inner = self.lock();
        inner.seq += 1;
        entry.seq = inner.seq;
        inner.stats.count(&entry);
        if let Some(writer) = &self.writer
            && let Ok(mut text) = serde_json::to_string(&entry)
        {
            text.push('\n');
            // Sent under the lock, so that the file has the order of `seq`. A writer that
            // has ended drops the line and with it the promise of a sync.
            let _ = writer.send(Line { text, synced });
        }
        inner.entries.push_back(entry);
        if inner.entries.len() > inner.entries_max {
            inner.entries.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.writer = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the simulator's log writer has panicked");
        }
    }
}

impl Stats {
    fn count(&mut self, entry: &Entry) {
        self.requests += 1;
        match entry.status {
            200 => self.ok += 1,
            429 => self.refused_429 += 1,
            _ => self.errors += 1,
        }
        self.faults += u64::from(entry.fault.is_some());
        self.early_retries += u64::from(entry.early);
        self.clients_gone += u64::from(entry.client_gone);
        if entry.billed {
            self.billed += 1;
            self.input_tokens += entry.input_tokens;
            self.output_tokens += entry.output_tokens;
            self.cache_read_tokens += entry.cache_read_tokens;
            self.cache_write_tokens += entry.cache_write_tokens;
        }
    }
}

/// Writes what has gathered, syncs once, tells all who wait; until nobody can send any more.
fn write_lines(mut file: File, lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        let mut group = vec![first];
        group.extend(lines.try_iter().take(GROUP_MAX));
        let text: String = group.iter().map(|line| line.text.as_str()).collect();
        let durable = group.iter().any(|line| line.synced.is_some());
        let written = file.write_all(text.as_bytes()).and_then(|()| {
            // Refusals need no sync of their own: they cost nothing.
            if durable { file.sync_data() } else { Ok(()) }
        });
        if let Err(error) = written {
            tracing::error!(%error, "failed to write the simulator's log");
            return;
        }
        for line in group {
            if let Some(synced) = line.synced {
                // The request may have gone meanwhile.
                let _ = synced.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_counters_are_not() {
        let witness = Witness::open(None, 2).unwrap();
        for status in [200, 429, 500] {
            witness.note(Entry {
                status,
                billed: status == 200,
                output_tokens: 5,
                ..Entry::default()
            });
        }
        assert_eq!(witness.entries().iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 3]);
        let stats = witness.stats();
        assert_eq!((stats.requests, stats.ok, stats.refused_429, stats.errors), (3, 1, 1, 1));
        assert_eq!(stats.output_tokens, 5);
    }

    #[tokio::test]
    async fn lines_are_in_the_file_when_the_wait_ends() {
        let path = std::env::temp_dir().join(format!("claudeq-log-{}", std::process::id()));
        let witness = Witness::open(Some(&path), 10).unwrap();
        witness.note(Entry { status: 429, ..Entry::default() });
        witness.note_durably(Entry { status: 200, ..Entry::default() }).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Entry> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, witness.entries());
        std::fs::remove_file(&path).unwrap();
    }
}
