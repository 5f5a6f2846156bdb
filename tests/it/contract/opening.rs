//! Opening: what is refused and left untouched, and that there is only one daemon.

use super::{Desk, T0};
use crate::helper::{FlockHolder, TempDb, sql};
use claudeq::domain::time::Timestamp;
use claudeq::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const BUSY: Duration = Duration::from_secs(5);

/// Every file of a directory: its bytes and when they were last written.
type Contents = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

fn contents(dir: &Path) -> Contents {
    let entries = std::fs::read_dir(dir).expect("the directory can be listed");
    let files = entries.map(|entry| {
        let path = entry.expect("it can be listed").path();
        let written = path.metadata().and_then(|data| data.modified()).expect("it has a time");
        let bytes =
            if path.is_dir() { Vec::new() } else { std::fs::read(&path).expect("it can be read") };
        (path, (bytes, written))
    });
    files.collect()
}

fn assert_untouched(db: &TempDb, before: &Contents) {
    let after = contents(db.dir());
    let names: Vec<&PathBuf> = after.keys().collect();
    assert!(after == *before, "something was written: {names:?}");
}

/// All three ways to open it.
async fn every_refusal(path: &Path) -> [StoreError; 3] {
    [
        Store::create(path, false).await.expect_err("create"),
        Store::open(path).await.expect_err("open"),
        Store::open_for_daemon(path, BUSY).await.expect_err("open for the daemon"),
    ]
}

/// All three refuse it with the same variant, and nothing in the directory changes.
async fn refused_untouched(db: &TempDb, is_right: fn(&StoreError) -> bool) {
    let before = contents(db.dir());
    for error in every_refusal(db.path()).await {
        assert!(is_right(&error), "{error:?}");
        assert!(error.to_string().ends_with("nothing was written"), "{error}");
    }
    assert_untouched(db, &before);
}

fn is_foreign(error: &StoreError) -> bool {
    matches!(error, StoreError::Foreign { .. })
}

fn is_newer(error: &StoreError) -> bool {
    matches!(error, StoreError::Newer { found: 2_000, .. })
}

#[tokio::test]
async fn a_text_file_is_refused_untouched() {
    let db = TempDb::nothing();
    std::fs::write(db.path(), "dear diary\n".repeat(50)).unwrap();
    refused_untouched(&db, is_foreign).await;
    std::fs::write(db.path(), "dear diary").unwrap();
    refused_untouched(&db, is_foreign).await;
}

#[tokio::test]
async fn a_directory_is_refused() {
    let db = TempDb::nothing();
    std::fs::create_dir(db.path()).unwrap();
    let before = contents(db.dir());
    for error in every_refusal(db.path()).await {
        assert!(
            matches!(error, StoreError::Foreign { .. } | StoreError::Unreadable { .. }),
            "{error:?}"
        );
    }
    assert_untouched(&db, &before);
}

#[tokio::test]
async fn another_programs_database_is_refused_untouched() {
    let db = TempDb::nothing();
    sql(db.path(), "PRAGMA application_id = 7; CREATE TABLE notes (text);");
    refused_untouched(&db, is_foreign).await;
}

/// Most programs never set an application id.
#[tokio::test]
async fn an_unmarked_database_of_others_is_refused_untouched() {
    let db = TempDb::nothing();
    sql(db.path(), "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine');");
    refused_untouched(&db, is_foreign).await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let db = TempDb::create().await;
    sql(db.path(), "PRAGMA user_version = 2000; PRAGMA wal_checkpoint(TRUNCATE);");
    refused_untouched(&db, is_newer).await;
}

/// The version on disk may be older than the one in the WAL.
#[tokio::test]
async fn a_newer_schema_in_the_wal_is_refused() {
    let db = TempDb::create().await;
    // This connection stays, so that the WAL does too.
    let store = Store::open(db.path()).await.unwrap();
    sql(db.path(), "PRAGMA user_version = 2000;");
    let error = Store::open(db.path()).await.expect_err("it is newer");
    assert!(is_newer(&error), "{error:?}");
    store.close().await;
}

#[tokio::test]
async fn what_is_missing_is_not_created_by_opening() {
    let db = TempDb::nothing();
    for error in [
        Store::open(db.path()).await.expect_err("open"),
        Store::open_for_daemon(db.path(), BUSY).await.expect_err("open for the daemon"),
    ] {
        assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    }
    assert_untouched(&db, &Contents::new());
}

#[tokio::test]
async fn an_empty_file_is_no_database_and_stays_empty() {
    let db = TempDb::nothing();
    std::fs::write(db.path(), "").unwrap();
    let before = contents(db.dir());
    for error in [
        Store::open(db.path()).await.expect_err("open"),
        Store::open_for_daemon(db.path(), BUSY).await.expect_err("open for the daemon"),
    ] {
        assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    }
    assert_untouched(&db, &before);
}

#[tokio::test]
async fn create_marks_the_file_and_uses_a_wal() {
    let db = TempDb::create().await;
    let script = "PRAGMA application_id; PRAGMA user_version; PRAGMA journal_mode;";
    assert_eq!(sql(db.path(), script), format!("{}\n1000\nwal", 0x636c_6171));
}

#[tokio::test]
async fn create_leaves_what_exists() {
    let db = TempDb::create().await;
    sql(db.path(), "INSERT INTO jobs (prompt) VALUES ('Say hi');");
    Store::create(db.path(), false).await.unwrap().close().await;
    assert_eq!(sql(db.path(), "SELECT count(*) FROM jobs;"), "1");
}

#[tokio::test]
async fn two_may_create_it_at_once() {
    for _ in 0..5 {
        let db = TempDb::nothing();
        let (one, other) =
            tokio::join!(Store::create(db.path(), false), Store::create(db.path(), false));
        one.unwrap().close().await;
        other.unwrap().close().await;
    }
}

/// A crash between the migrator's own table and the schema leaves such a file.
#[tokio::test]
async fn create_goes_on_where_it_was_killed() {
    let db = TempDb::nothing();
    sql(
        db.path(),
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
           installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
           checksum BLOB NOT NULL, execution_time BIGINT NOT NULL);",
    );
    Store::create(db.path(), false).await.unwrap().close().await;
    assert_eq!(sql(db.path(), "SELECT count(*) FROM jobs;"), "0");
}

#[tokio::test]
async fn only_the_owner_may_use_it_or_with_group_its_group() {
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let own = TempDb::create().await;
    assert_eq!(mode(own.path()), 0o600);
    let shared = TempDb::nothing();
    Store::create(shared.path(), true).await.unwrap().close().await;
    assert_eq!(mode(shared.path()), 0o660, "whatever the umask");
    let empty = TempDb::nothing();
    std::fs::write(empty.path(), "").unwrap();
    std::fs::set_permissions(empty.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    Store::create(empty.path(), false).await.unwrap().close().await;
    assert_eq!(mode(empty.path()), 0o600, "an empty file was no database");
}

fn is_locked_by(error: &StoreError, by: u32) -> bool {
    matches!(error, StoreError::Locked { pid: Some(pid), .. } if *pid == by)
}

#[tokio::test]
async fn a_second_daemon_is_refused_whatever_name_it_uses() {
    let db = TempDb::create().await;
    let hard = db.dir().join("hard.db");
    let soft = db.dir().join("soft.db");
    std::fs::hard_link(db.path(), &hard).unwrap();
    std::os::unix::fs::symlink(db.path(), &soft).unwrap();
    let _first = Store::open_for_daemon(db.path(), BUSY).await.unwrap();
    for path in [db.path(), &hard, &soft] {
        let error = Store::open_for_daemon(path, BUSY).await.expect_err("it is taken");
        assert!(is_locked_by(&error, std::process::id()), "{error:?}");
    }
}

#[tokio::test]
async fn a_daemon_in_another_process_refuses_until_it_is_dead() {
    let db = TempDb::create().await;
    let link = db.dir().join("link.db");
    std::fs::hard_link(db.path(), &link).unwrap();
    let other = FlockHolder::of(&link);
    let error = Store::open_for_daemon(db.path(), BUSY).await.expect_err("it is taken");
    assert!(is_locked_by(&error, other.pid()), "{error:?}");
    drop(other);
    Store::open_for_daemon(db.path(), BUSY).await.unwrap();
}

#[tokio::test]
async fn the_lock_outlives_the_store_and_ends_with_the_process() {
    let db = TempDb::create().await;
    Store::open_for_daemon(db.path(), BUSY).await.unwrap().close().await;
    let error = Store::open_for_daemon(db.path(), BUSY).await.expect_err("this process lives");
    assert!(is_locked_by(&error, std::process::id()), "{error:?}");
}

#[tokio::test]
async fn commands_work_beside_a_daemon_and_know_who_it_is() {
    let db = TempDb::create().await;
    let command = Store::open(db.path()).await.unwrap();
    assert!(!command.holder().held);
    let daemon = FlockHolder::of(db.path());
    let holder = command.holder();
    assert_eq!((holder.held, holder.pid), (true, Some(daemon.pid())));
    let another = Store::open(db.path()).await.unwrap();
    another.begin_epoch(1, "h", "v", T0).await.unwrap();
}

#[tokio::test]
async fn to_ask_who_holds_the_lock_does_not_let_it_go() {
    let db = TempDb::create().await;
    let daemon = Store::open_for_daemon(db.path(), BUSY).await.unwrap();
    let holder = daemon.holder();
    assert_eq!((holder.held, holder.pid), (true, Some(std::process::id())));
    assert!(Store::open_for_daemon(db.path(), BUSY).await.is_err());
}

#[tokio::test]
async fn a_backup_is_a_database_and_overwrites_nothing() {
    let desk = Desk::open().await;
    desk.prompt("Say hi").await;
    let copy = desk.db.dir().join("copy.db");
    desk.store.backup(&copy).await.unwrap();
    let opened = Store::open(&copy).await.unwrap();
    assert_eq!(opened.counts().await.unwrap().queued, 1);
    assert_eq!(opened.integrity().await.unwrap(), Vec::<String>::new());
    assert!(desk.store.backup(&copy).await.is_err(), "the copy is there already");
}

#[tokio::test]
async fn damage_is_found() {
    let db = TempDb::create().await;
    let page = "PRAGMA wal_checkpoint(TRUNCATE);
         SELECT (rootpage - 1) * 4096 FROM sqlite_master WHERE name = 'job_state_ready';";
    let said = sql(db.path(), page);
    let at: u64 = said.lines().last().unwrap().parse().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(db.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 100], at).unwrap();
    drop(file);
    let store = Store::open(db.path()).await.unwrap();
    assert!(!store.integrity().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_checkpoint_moves_the_wal_into_the_file() {
    let desk = Desk::open().await;
    desk.prompts(20).await;
    let wal = desk.db.dir().join("queue.db-wal");
    assert!(wal.metadata().unwrap().len() > 0);
    desk.store.checkpoint(true).await.unwrap();
    assert_eq!(wal.metadata().unwrap().len(), 0);
}

#[tokio::test]
async fn who_holds_the_write_lock_is_known() {
    let desk = Desk::open().await;
    assert_eq!(desk.store.write_lock_holder(), None);
    let program = "import os, sqlite3, sys\n\
         db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
         db.execute('BEGIN IMMEDIATE')\n\
         locks = open('/proc/locks').read()\n\
         print(os.getpid() if f' {os.getpid()} ' in locks else locks)\n";
    let said = crate::helper::python(program, &[&desk.db.path().display().to_string()]);
    assert!(said.unwrap().parse::<u32>().is_ok(), "the system does not tell");
}

#[tokio::test]
async fn time_starts_at_nothing() {
    let db = TempDb::create().await;
    let store = Store::open(db.path()).await.unwrap();
    assert_eq!(store.last_time().await.unwrap(), Timestamp(0));
}
