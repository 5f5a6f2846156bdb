//! The database as a file: what it is before SQLite touches it, and who holds it.
//!
//! Invariant: a descriptor of the database is opened before SQLite opens it and is closed by
//! nothing but the end of the process; so is one of the WAL index. Closing it would drop SQLite's
//! own POSIX locks (<https://www.sqlite.org/howtocorrupt.html>, 2.2).

use super::error::StoreError;
use std::fs::{File, OpenOptions, Permissions};
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// `application_id` in the header: "claq".
pub const APPLICATION_ID: u32 = 0x636c_6171;
/// Schema versions this program can work with: this major, up to this minor.
pub const SCHEMA_VERSION: i64 = 1_000;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// An open descriptor of the database file that is never closed.
#[derive(Debug)]
pub struct DatabaseFile {
    path: PathBuf,
    /// Without links: SQLite's other files lie beside this one.
    real: PathBuf,
    file: ManuallyDrop<File>,
    /// Whether the daemon's lock was taken through this descriptor.
    is_ours: AtomicBool,
    /// For a look at its locks.
    wal_index: OnceLock<ManuallyDrop<File>>,
}

/// Whether a daemon holds the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whether somebody holds the daemon's lock.
    pub held: bool,
    /// Who, when the system tells.
    pub pid: Option<u32>,
}

impl DatabaseFile {
    /// Opens an existing file and looks at its header; writes nothing.
    ///
    /// # Errors
    /// Missing, unreadable, not a database, another program's, newer than this program.
    pub fn open(path: &Path) -> Result<DatabaseFile, StoreError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => StoreError::Missing { path: path.to_owned() },
            _ => StoreError::Unreadable { path: path.to_owned(), source },
        })?;
        DatabaseFile::checked(path, file)
    }

    /// Opens the file, creating an empty one that only its owner (and, with `group`, its group)
    /// may use; an empty one that is there becomes such a file.
    ///
    /// # Errors
    /// As [`DatabaseFile::open`], and when it cannot be created.
    pub fn create(path: &Path, group: bool) -> Result<DatabaseFile, StoreError> {
        let unreadable = |source| StoreError::Unreadable { path: path.to_owned(), source };
        let mode = if group { 0o660 } else { 0o600 };
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(mode);
        let file = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => options.open(path),
            created => created,
        };
        let file = file.map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        if found.is_file() && found.len() == 0 && found.mode() & 0o777 != mode {
            // Whatever the umask.
            file.set_permissions(Permissions::from_mode(mode)).map_err(unreadable)?;
        }
        DatabaseFile::checked(path, file)
    }

    fn checked(path: &Path, file: File) -> Result<DatabaseFile, StoreError> {
        let this = DatabaseFile {
            path: path.to_owned(),
            real: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            file: ManuallyDrop::new(file),
            is_ours: AtomicBool::new(false),
            wal_index: OnceLock::new(),
        };
        this.check_header()?;
        this.check_file_system()?;
        Ok(this)
    }

    fn check_header(&self) -> Result<(), StoreError> {
        let unreadable = |source| StoreError::Unreadable { path: self.path.clone(), source };
        let metadata = self.file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(self.foreign("it is a directory"));
        }
        if metadata.len() == 0 {
            return Ok(());
        }
        let mut header = [0_u8; 100];
        if metadata.len() < 100 || self.file.read_exact_at(&mut header, 0).is_err() {
            return Err(self.foreign("it is too short for an SQLite database"));
        }
        if &header[..16] != MAGIC {
            return Err(self.foreign("it does not begin like an SQLite database"));
        }
        let at = |offset: usize| {
            u32::from_be_bytes([
                header[offset],
                header[offset + 1],
                header[offset + 2],
                header[offset + 3],
            ])
        };
        check_identity(&self.path, i64::from(at(68)), i64::from(at(60)))
    }

    /// Where it really lies, whatever links led to it.
    pub fn real_path(&self) -> &Path {
        &self.real
    }

    fn foreign(&self, found: &str) -> StoreError {
        StoreError::Foreign { path: self.path.clone(), found: found.to_owned() }
    }

    /// A WAL needs memory shared between all who open it: one host.
    fn check_file_system(&self) -> Result<(), StoreError> {
        const NETWORKS: [(i64, &str); 7] = [
            (0x6969, "NFS"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x517b, "SMB"),
            (0x0102_1997, "9p"),
            (0x0065_7335, "Ceph"),
            (0x5346_414f, "AFS"),
        ];
        let Ok(stat) = rustix::fs::fstatfs(&*self.file) else {
            return Ok(());
        };
        let kind = NETWORKS.iter().find(|(magic, _)| *magic == stat.f_type);
        kind.map_or(Ok(()), |(_, kind)| Err(StoreError::Network { path: self.path.clone(), kind }))
    }

    /// Takes the daemon's lock on the file; it ends with the process.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another daemon has it.
    pub fn lock(&self) -> Result<(), StoreError> {
        use rustix::fs::{FlockOperation, flock};
        match flock(&*self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.is_ours.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(StoreError::Locked { path: self.path.clone(), pid: self.holder().pid })
            }
            Err(errno) => {
                Err(StoreError::Unreadable { path: self.path.clone(), source: errno.into() })
            }
        }
    }

    /// Whether a daemon runs on this file; looks without taking anything.
    pub fn holder(&self) -> Holder {
        // To try for one's own lock would let it go.
        if self.is_ours.load(Ordering::Relaxed) {
            return Holder { held: true, pid: Some(std::process::id()) };
        }
        if let Some(pid) = self.listed(FileId::is) {
            return Holder { held: true, pid: (pid > 0).then_some(pid) };
        }
        // Locks of other PID namespaces are not listed: try for the smallest moment.
        use rustix::fs::{FlockOperation, flock};
        match flock(&*self.file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let _ = flock(&*self.file, FlockOperation::Unlock);
                Holder { held: false, pid: None }
            }
            Err(_) => {
                // A long list that changes while it is read may lack a line: look again. That
                // somebody has it is known by now, so the inode alone may say who.
                let listed = || self.listed(FileId::is).or_else(|| self.listed(FileId::may_be));
                let pid = (0..3).find_map(|_| listed());
                Holder { held: true, pid: pid.filter(|pid| *pid > 0) }
            }
        }
    }

    fn listed(&self, same: Same) -> Option<u32> {
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        flock_holder(&locks, FileId::of(&self.file.metadata().ok()?), same)
    }

    /// Who holds SQLite's write lock: the WAL index's byte 120, in `/proc/locks`
    /// (<https://www.sqlite.org/walformat.html#wal_locks>).
    pub fn writer(&self) -> Option<u32> {
        let file = FileId::of(&std::fs::metadata(self.wal_index_path()).ok()?);
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let holder = |same| posix_holder(&locks, file, 120, same);
        holder(FileId::is).or_else(|| holder(FileId::may_be))
    }

    /// Whether another process has the database open, wherever it runs: each holds byte 128 of
    /// the WAL index. Where that cannot be told there may be one.
    pub fn is_shared(&self) -> bool {
        use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
        let index = match self.wal_index.get() {
            Some(index) => index,
            None => {
                let Ok(file) = File::open(self.wal_index_path()) else { return true };
                // Never closed, not even when another thread was faster.
                let file = ManuallyDrop::new(file);
                self.wal_index.get_or_init(|| file)
            }
        };
        let mut all = Flock::from(FlockType::WriteLock);
        (all.start, all.length, all.offset_type) = (128, 1, FlockOffsetType::Set);
        // It looks and takes nothing.
        !matches!(fcntl_getlk(&**index, &all), Ok(None))
    }

    fn wal_index_path(&self) -> PathBuf {
        let mut path = self.real.clone().into_os_string();
        path.push("-shm");
        path.into()
    }
}

/// A file as the system names it in its list of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: (u32, u32),
    inode: u64,
}

/// How sure one is that a line of the list means a file.
type Same = fn(FileId, &str) -> bool;

impl FileId {
    fn of(metadata: &std::fs::Metadata) -> FileId {
        let device = metadata.dev();
        let device = (rustix::fs::major(device), rustix::fs::minor(device));
        FileId { device, inode: metadata.ino() }
    }

    /// Two file systems may give the same inode number to two databases.
    fn is(self, named: &str) -> bool {
        let (major, minor) = self.device;
        named == format!("{major:02x}:{minor:02x}:{}", self.inode)
    }

    /// Some file systems (btrfs, overlays) have another device there than `stat` tells.
    fn may_be(self, named: &str) -> bool {
        named.rsplit(':').next().and_then(|inode| inode.parse().ok()) == Some(self.inode)
    }
}

/// Tells our files from others by `application_id` and `user_version`.
pub(crate) fn check_identity(
    path: &Path,
    application_id: i64,
    user_version: i64,
) -> Result<(), StoreError> {
    let foreign = |found: String| StoreError::Foreign { path: path.to_owned(), found };
    match (application_id, user_version) {
        // Not yet migrated: `sqlite_schema` is looked at once it is open.
        (0, 0) => Ok(()),
        (id, version) if id == i64::from(APPLICATION_ID) => {
            if version > SCHEMA_VERSION {
                return Err(StoreError::Newer { path: path.to_owned(), found: version });
            }
            Ok(())
        }
        (id, version) => {
            Err(foreign(format!("its application_id is {id:#x}, its user_version {version}")))
        }
    }
}

/// Lines look like `1: FLOCK  ADVISORY  WRITE 4121 fe:00:131 0 EOF`.
fn flock_holder(locks: &str, file: FileId, same: Same) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found =
            *fields.get(1)? == "FLOCK" && *fields.get(3)? == "WRITE" && same(file, fields.get(5)?);
        if found { fields.get(4)?.parse().ok() } else { None }
    })
}

fn posix_holder(locks: &str, file: FileId, byte: u64, same: Same) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let first: u64 = fields.get(6)?.parse().ok()?;
        let last: u64 = fields.get(7)?.parse().ok()?;
        let found = *fields.get(1)? == "POSIX"
            && *fields.get(3)? == "WRITE"
            && same(file, fields.get(5)?)
            && (first..=last).contains(&byte);
        if found { fields.get(4)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "1: POSIX  ADVISORY  WRITE 78 08:01:42 120 120\n\
                         2: POSIX  ADVISORY  WRITE 77 fe:00:42 120 120\n\
                         3: FLOCK  ADVISORY  WRITE 4122 08:11:131 0 EOF\n\
                         4: FLOCK  ADVISORY  WRITE 4121 fe:00:131 0 EOF\n\
                         5: FLOCK  ADVISORY  READ 9 fe:00:132 0 EOF\n";

    fn on(major: u32, minor: u32, inode: u64) -> FileId {
        FileId { device: (major, minor), inode }
    }

    #[test]
    fn holders_are_read_from_proc_locks() {
        let flock = |file| flock_holder(LOCKS, file, FileId::is);
        assert_eq!(flock(on(0xfe, 0, 131)), Some(4121), "not that of another disk");
        assert_eq!(flock(on(8, 0x11, 131)), Some(4122));
        assert_eq!(flock(on(9, 0, 131)), None);
        assert_eq!(flock(on(0xfe, 0, 132)), None, "a reader is no daemon");
        let posix = |file, byte| posix_holder(LOCKS, file, byte, FileId::is);
        assert_eq!(posix(on(0xfe, 0, 42), 120), Some(77));
        assert_eq!(posix(on(0xfe, 0, 42), 121), None);
        // Where it is known that somebody has it, the inode alone may say who.
        assert_eq!(flock_holder(LOCKS, on(0, 0x2a, 131), FileId::may_be), Some(4122));
        assert_eq!(posix_holder(LOCKS, on(0, 0x2a, 43), 120, FileId::may_be), None);
    }

    #[test]
    fn foreign_and_newer_files_are_refused_untouched() {
        let path = Path::new("x.db");
        assert!(check_identity(path, i64::from(APPLICATION_ID), 1_000).is_ok());
        let newer = check_identity(path, i64::from(APPLICATION_ID), 1_001);
        assert!(matches!(newer, Err(StoreError::Newer { found: 1_001, .. })));
        assert!(matches!(check_identity(path, 7, 0), Err(StoreError::Foreign { .. })));
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("notes.txt");
        std::fs::write(&text, "x".repeat(200)).unwrap();
        assert!(matches!(DatabaseFile::open(&text), Err(StoreError::Foreign { .. })));
        let missing = DatabaseFile::open(&dir.path().join("none.db"));
        assert!(matches!(missing, Err(StoreError::Missing { .. })));
    }
}
