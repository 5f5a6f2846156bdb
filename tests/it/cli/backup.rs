//! `claudeq backup`.

use super::stage::{Stage, said};
use crate::helper::{sql, with_claudeq};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};

/// What lies in the stage's directory, but for what SQLite keeps beside the database.
fn names(stage: &Stage) -> Vec<String> {
    let entries = fs::read_dir(stage.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with("queue.db-"));
    names.sort();
    names
}

#[test]
fn it_writes_a_checked_copy_for_its_owner_alone() {
    for umask in ["000", "077"] {
        let stage = Stage::with_every_state();
        let mut command = with_claudeq("sh");
        let script = format!("umask {umask}; exec claudeq backup 'my copy.db'");
        command.args(["-c", &script]).current_dir(stage.path());
        let said = said(command);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert!(said.out.starts_with("wrote my copy.db (") && said.out.ends_with("), checked"));
        let copy = stage.path().join("my copy.db");
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o600, "{umask}");
        let header = fs::read(&copy).unwrap();
        assert_eq!(stage.run(&["list", "--db", "my copy.db"]).out.lines().count(), 6);
        let [writes, reads] = [header[18], header[19]];
        assert_eq!((writes, reads), (1, 1), "the check changes nothing in the copy");
        assert!(!names(&stage).iter().any(|name| name.starts_with('.')), "{:?}", names(&stage));
    }
}

#[test]
fn it_overwrites_nothing_and_leaves_nothing_behind() {
    let stage = Stage::ready();
    fs::write(stage.path().join("there"), "mine").unwrap();
    symlink("nowhere", stage.path().join("link")).unwrap();
    let before = names(&stage);
    for (file, code) in
        [("there", 1), ("link", 1), (".", 1), ("queue.db", 1), ("no/such/folder/b.db", 66)]
    {
        let said = stage.run(&["backup", file]);
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{file}: {said:?}");
        assert!(said.err.starts_with("claudeq: ") && said.err.contains(file), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    assert_eq!(names(&stage), before);
    assert_eq!(fs::read(stage.path().join("there")).unwrap(), b"mine");
    assert_eq!(stage.run(&["backup"]).code, 2);
    assert_eq!(Stage::empty().run(&["backup", "b.db"]).code, 66);
}

#[test]
fn names_are_taken_as_they_are() {
    let stage = Stage::ready();
    let line: serde_json::Value =
        serde_json::from_str(&stage.ok(&["backup", "file:a b?.db", "--json"])).unwrap();
    assert_eq!(line["file"], "file:a b?.db");
    let bytes = fs::metadata(stage.path().join("file:a b?.db")).unwrap().len();
    assert_eq!(line["bytes"], bytes);
    assert_eq!(stage.ok(&["backup", "two\nlines"]).lines().count(), 1);
    let odd = OsStr::from_bytes(b"odd\xff");
    fs::create_dir(stage.path().join(odd)).unwrap();
    // A name of its own may be anything, SQLite never sees it …
    let mut command = stage.command(&["backup"]);
    command.arg(OsStr::from_bytes(b"b\xff.db"));
    assert_eq!(said(command).code, 0);
    // … but it has to write into the folder.
    let mut command = stage.command(&["backup"]);
    command.arg(stage.path().join(odd).join("b.db"));
    let said = said(command);
    assert!(said.code == 65 && said.err.contains("UTF-8"), "{said:?}");
}

#[test]
fn a_damaged_database_gives_no_backup() {
    let stage = Stage::with_every_state();
    let root = "PRAGMA wal_checkpoint(TRUNCATE);
        SELECT (rootpage - 1) * 4096 FROM sqlite_master WHERE name = 'jobs';";
    let shown = sql(&stage.database(), root);
    let at: u64 = shown.lines().last().unwrap().parse().unwrap();
    let file = fs::File::options().write(true).open(stage.database()).unwrap();
    file.write_all_at(&[0xff; 4_096], at).unwrap();
    drop(file);
    let said = stage.run(&["backup", "b.db"]);
    assert_eq!(said.code, 65, "{said:?}");
    assert!(!names(&stage).iter().any(|name| name.contains("b.db") && name != "queue.db"));
    assert!(!names(&stage).iter().any(|name| name.starts_with('.')), "{:?}", names(&stage));
}
