//! Results that the database cannot take just now, kept beside it.
//!
//! Invariant: the file's blocks are allocated beforehand, so that a full disk can still take
//! what was paid for.
//! Invariant: a line is only believed whole; what follows a torn one was never acknowledged.

use crate::store::Ending;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Allocated at the start; a longer spool grows like any file.
const ALLOCATED: u64 = 4 << 20;

/// The file beside the database.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    /// Where the next line goes.
    end: u64,
}

impl Spool {
    /// Opens `DATABASE-spool`, creating it when it is missing.
    pub(super) fn open(database: &Path) -> io::Result<Spool> {
        let mut path = database.as_os_str().to_owned();
        path.push("-spool");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path)?;
        if file.metadata()?.len() < ALLOCATED {
            // Where it cannot be had, the spool works all the same while there is space.
            let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, ALLOCATED);
        }
        Ok(Spool { path, file, end: 0 })
    }

    /// The endings in it, up to the first line that is not whole.
    pub(super) fn read(&mut self) -> Vec<Ending> {
        let Ok(bytes) = std::fs::read(&self.path) else { return Vec::new() };
        let mut endings = Vec::new();
        let mut end = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = line.last() == Some(&b'\n') && line.first() != Some(&0);
            let Some(ending) = whole.then(|| serde_json::from_slice(line).ok()).flatten() else {
                break;
            };
            endings.push(ending);
            end += line.len();
        }
        self.end = u64::try_from(end).unwrap_or(0);
        endings
    }

    /// Adds endings and returns when the disk has them.
    pub(super) fn append(&mut self, endings: &[Ending]) -> io::Result<()> {
        let mut lines = Vec::new();
        for ending in endings {
            serde_json::to_writer(&mut lines, ending)?;
            lines.push(b'\n');
        }
        self.file.write_all_at(&lines, self.end)?;
        self.file.sync_data()?;
        self.end += u64::try_from(lines.len()).unwrap_or(0);
        Ok(())
    }

    /// Empties it, after the database has taken everything.
    pub(super) fn clear(&mut self) {
        if self.end == 0 {
            return;
        }
        let zeros = vec![0_u8; usize::try_from(self.end).unwrap_or(0)];
        let wiped = self.file.write_all_at(&zeros, 0).and_then(|()| {
            self.file.set_len(ALLOCATED)?;
            self.file.sync_data()
        });
        match wiped {
            Ok(()) => self.end = 0,
            // Read again at the next start: settled attempts are not settled twice.
            Err(error) => tracing::warn!(%error, "cannot empty the spool"),
        }
    }

    /// Whether anything lies in it.
    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::Worst;
    use crate::domain::job::{AttemptId, Epoch, JobEvent, JobId};
    use crate::domain::limit::{OutputMode, PoolName};
    use crate::domain::reservation::{Amounts, Reservation, Settlement};
    use crate::domain::time::Timestamp;
    use crate::store::{Lease, Next};

    fn ending(attempt: i64) -> Ending {
        let reservation = Reservation {
            pool: PoolName("p".into()),
            mode: OutputMode::Realtime,
            queue: "q".into(),
            model: "m".into(),
            expected: Amounts { requests: 1, input_tokens: 2, output_tokens: 3 },
            worst: Worst { input_tokens: 4, output_tokens: 5, nanousd: Some(6) },
            reserved_at: Timestamp(7),
        };
        Ending {
            settlement: Settlement::assumed_spent(&reservation, Timestamp(8)),
            lease: Lease {
                attempt: AttemptId(attempt),
                epoch: Epoch(1),
                job: JobId(attempt),
                attempts: 0,
                counted_attempts: 0,
                reservation,
            },
            outcome: "succeeded".into(),
            http_status: Some(200),
            request_id: None,
            error_class: None,
            error: None,
            usage: None,
            stop_reason: None,
            sent_at: None,
            first_byte_at: None,
            done_at: Timestamp(9),
            headers: None,
            response: Some(("{\"a\":\"\\n\"}".into(), "two\nlines \u{0}".into())),
            next: Next {
                event: JobEvent::Succeed,
                at: None,
                counts: true,
                error_class: None,
                error: None,
            },
        }
    }

    #[test]
    fn what_was_appended_is_there_after_a_reopen() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let mut spool = Spool::open(&database).unwrap();
        spool.append(&[ending(1)]).unwrap();
        spool.append(&[ending(2), ending(3)]).unwrap();
        let mut again = Spool::open(&database).unwrap();
        assert_eq!(again.read(), [ending(1), ending(2), ending(3)]);
        again.clear();
        assert!(again.is_empty());
        assert_eq!(Spool::open(&database).unwrap().read(), []);
    }

    #[test]
    fn a_torn_line_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let mut spool = Spool::open(&database).unwrap();
        spool.append(&[ending(1), ending(2)]).unwrap();
        spool.file.write_all_at(&[0; 40], spool.end - 40).unwrap();
        let mut again = Spool::open(&database).unwrap();
        assert_eq!(again.read(), [ending(1)]);
        again.append(&[ending(4)]).unwrap();
        assert_eq!(Spool::open(&database).unwrap().read(), [ending(1), ending(4)]);
    }
}
