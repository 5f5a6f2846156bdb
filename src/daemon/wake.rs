//! A producer's commit, noticed at once: the WAL file is watched, never opened.
//!
//! Invariant: a wake is a hint. Whether anything changed is asked of SQLite; a timer looks too.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Watches the files of a database for writes.
#[derive(Debug)]
pub(super) struct CommitWatch {
    events: Option<AsyncFd<OwnedFd>>,
    wal: OsString,
}

impl CommitWatch {
    /// Where inotify cannot be had, it never fires and the timer has to do.
    pub(super) fn new(database: &Path) -> CommitWatch {
        let mut wal = database.file_name().unwrap_or_default().to_owned();
        wal.push("-wal");
        let folder = match database.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let events = watch(folder)
            .inspect_err(|error| tracing::warn!(%error, "no inotify: looking once a second"))
            .ok();
        CommitWatch { events, wal }
    }

    /// Whether writes are announced at all.
    pub(super) fn works(&self) -> bool {
        self.events.is_some()
    }

    /// Returns after somebody wrote to the WAL.
    pub(super) async fn written(&self) {
        let Some(events) = &self.events else { return std::future::pending().await };
        loop {
            let Ok(mut guard) = events.readable().await else {
                return std::future::pending().await;
            };
            let ours = drain(events.get_ref(), &self.wal);
            guard.clear_ready();
            if ours {
                return;
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "AsyncFd::new is unsound for types that may lose their descriptor; an OwnedFd \
              cannot, and its successor is unsafe, which this crate forbids"
)]
fn watch(folder: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&fd, folder, WatchFlags::MODIFY | WatchFlags::CREATE)?;
    AsyncFd::new(fd)
}

/// Reads every event that is there; whether one was of the WAL.
fn drain(fd: &OwnedFd, wal: &OsString) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4_096];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    let mut ours = false;
    while let Ok(event) = reader.next() {
        ours |= event.file_name().is_some_and(|name| name.to_bytes() == wal.as_encoded_bytes());
    }
    ours
}
