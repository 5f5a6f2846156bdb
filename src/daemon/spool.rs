//! Results that the database cannot take just now, kept beside it.
//!
//! Invariant: the file's blocks are allocated beforehand, so that a full disk can still take
//! what was paid for.
//! Invariant: a line is only believed whole; what follows a torn one was never acknowledged.
//! Invariant: a result goes into the database it came from, or is kept in a file for a person.

use crate::store::Ending;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Allocated at the start; a longer spool grows like any file.
const ALLOCATED: u64 = 4 << 20;

/// The file beside the database.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    /// Whose results it takes.
    database: String,
    file: File,
    /// Where the next line goes.
    end: u64,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Record<'a> {
    database: Cow<'a, str>,
    ending: Cow<'a, Ending>,
}

impl Spool {
    /// Opens `DATABASE-spool`, creating it when it is missing; `id` is the database's own.
    pub(super) fn open(database: &Path, id: String) -> io::Result<Spool> {
        let path = path_of(database);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path)?;
        // What is there already costs nothing; its length would not tell.
        let plain = rustix::fs::FallocateFlags::empty();
        if let Err(error) = rustix::fs::fallocate(&file, plain, 0, ALLOCATED) {
            warn_of_space(&path, &error.into());
        }
        Ok(Spool { path, database: id, file, end: 0 })
    }

    /// The endings in it, up to the first line that is not whole. Those of another database, and
    /// those that another version wrote in its own way, are set aside.
    pub(super) fn read(&mut self) -> io::Result<Vec<Ending>> {
        let bytes = std::fs::read(&self.path)?;
        let mut endings = Vec::new();
        let mut foreign: Vec<&[u8]> = Vec::new();
        let mut end = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = line.last() == Some(&b'\n')
                && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
            if !is_whole {
                break;
            }
            match serde_json::from_slice::<Record<'static>>(line) {
                Ok(record) if record.database == self.database => {
                    endings.push(record.ending.into_owned());
                }
                _ => foreign.push(line),
            }
            end += line.len();
        }
        self.end = u64::try_from(end).unwrap_or(0);
        self.keep(&foreign.concat(), foreign.len())?;
        Ok(endings)
    }

    /// Keeps endings that this database knows nothing of where a person finds them.
    pub(super) fn set_aside(&self, endings: &[Ending]) -> io::Result<()> {
        let records: Vec<Record> = endings.iter().map(|ending| self.record(ending)).collect();
        self.keep(&lines(&records)?, records.len())
    }

    fn keep(&self, lines: &[u8], count: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let path = beside(&self.path, "-foreign");
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(lines)?;
        file.sync_all()?;
        tracing::warn!(
            "{count} results in {} belong to calls that this database does not know, or were \
             written by another version: was another one put in its place? They were not written, \
             and are kept in {}",
            self.path.display(),
            path.display()
        );
        Ok(())
    }

    fn record<'a>(&'a self, ending: &'a Ending) -> Record<'a> {
        Record { database: Cow::Borrowed(&self.database), ending: Cow::Borrowed(ending) }
    }

    /// Adds endings and returns when the disk has them.
    pub(super) fn append(&mut self, endings: &[Ending]) -> io::Result<()> {
        let records: Vec<Record> = endings.iter().map(|ending| self.record(ending)).collect();
        let lines = lines(&records)?;
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

/// Why the spool of a database cannot be used, and what to do about it.
pub(super) fn unusable(database: &Path, error: &io::Error) -> String {
    let path = path_of(database);
    let owner = std::fs::metadata(&path).ok().map(|file| file.uid());
    let cure = match (error.kind(), owner) {
        (io::ErrorKind::PermissionDenied, Some(owner)) => {
            of_another(owner, rustix::process::geteuid().as_raw())
        }
        _ => String::new(),
    };
    format!("cannot use the spool {}{cure}", path.display())
}

fn of_another(owner: u32, daemon: u32) -> String {
    if owner == daemon {
        return "; its owner must be able to read and write it (chmod 600)".to_owned();
    }
    format!(
        "; it belongs to user {owner} and this daemon runs as user {daemon}: run the daemon always \
         as the same user, or give the file to the new one with chown (it may have results in it)"
    )
}

/// The spool works all the same while there is space.
fn warn_of_space(path: &Path, error: &io::Error) {
    tracing::warn!(
        "cannot set {} MiB aside for {} ({error}): on a full disk, answers that the database \
         cannot take would be in memory alone, and lost with the daemon; make space on that disk \
         and start the daemon again",
        ALLOCATED >> 20,
        path.display()
    );
}

fn path_of(database: &Path) -> PathBuf {
    beside(database, "-spool")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

fn lines(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, record)?;
        lines.push(b'\n');
    }
    Ok(lines)
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
        let mut spool = Spool::open(&database, "one".into()).unwrap();
        spool.append(&[ending(1)]).unwrap();
        spool.append(&[ending(2), ending(3)]).unwrap();
        let mut again = Spool::open(&database, "one".into()).unwrap();
        assert_eq!(again.read().unwrap(), [ending(1), ending(2), ending(3)]);
        again.clear();
        assert!(again.is_empty());
        assert_eq!(Spool::open(&database, "one".into()).unwrap().read().unwrap(), []);
    }

    #[test]
    fn results_of_another_database_are_kept_and_not_given_to_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let open = |id: &str| Spool::open(&database, id.into()).unwrap();
        let mut old = open("old");
        old.append(&[ending(1), ending(2)]).unwrap();
        let mut new = open("new");
        assert_eq!(new.read().unwrap(), []);
        assert!(!new.is_empty(), "until it is cleared");
        new.set_aside(&[ending(3)]).unwrap();
        new.clear();
        // Put back, they are the old database's again.
        let kept = std::fs::read(folder.path().join("queue.db-spool-foreign")).unwrap();
        std::fs::write(folder.path().join("queue.db-spool"), kept).unwrap();
        assert_eq!(open("old").read().unwrap(), [ending(1), ending(2)]);
        assert_eq!(open("new").read().unwrap(), [ending(3)]);
    }

    #[test]
    fn a_spool_of_another_user_is_named_with_its_owner_and_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        Spool::open(&database, "one".into()).unwrap();
        let said = unusable(&database, &io::ErrorKind::PermissionDenied.into());
        assert!(said.contains("queue.db-spool; its owner must"), "{said}");
        let said = of_another(7, 8);
        assert!(said.contains("belongs to user 7 and this daemon runs as user 8"), "{said}");
        let said = unusable(&database, &io::ErrorKind::IsADirectory.into());
        assert!(said.ends_with("queue.db-spool"), "{said}");
    }

    #[test]
    fn what_another_version_wrote_hides_nothing_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let strange = b"{\"database\":\"one\",\"ending\":{\"as\":\"a later one\"}}\n";
        let mut spool = Spool::open(&database, "one".into()).unwrap();
        spool.file.write_all_at(strange, 0).unwrap();
        spool.end = strange.len() as u64;
        spool.append(&[ending(1)]).unwrap();
        let mut again = Spool::open(&database, "one".into()).unwrap();
        assert_eq!(again.read().unwrap(), [ending(1)]);
        let kept = std::fs::read(folder.path().join("queue.db-spool-foreign")).unwrap();
        assert_eq!(kept, strange);
    }

    #[test]
    fn a_torn_line_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let mut spool = Spool::open(&database, "one".into()).unwrap();
        spool.append(&[ending(1), ending(2)]).unwrap();
        spool.file.write_all_at(&[0; 40], spool.end - 40).unwrap();
        let mut again = Spool::open(&database, "one".into()).unwrap();
        assert_eq!(again.read().unwrap(), [ending(1)]);
        again.append(&[ending(4)]).unwrap();
        assert_eq!(
            Spool::open(&database, "one".into()).unwrap().read().unwrap(),
            [ending(1), ending(4)]
        );
    }
}
