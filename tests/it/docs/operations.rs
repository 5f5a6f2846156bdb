//! docs/operations.md: its commands are run, its numbers compared.

use super::OPERATIONS;
use crate::helper::markdown::{block, code, prose, rows, section};
use crate::helper::{Lab, Said, Settings, needs, with_claudeq};
use claudeq::simulator;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const UNIT: &str = include_str!("../../../contrib/claudeq.service");
const EXIT: &str = include_str!("../../../src/cli/exit.rs");

fn shell(folder: &Path, script: &str) -> Said {
    let mut command = with_claudeq("sh");
    Said::of(&command.args(["-euc", script]).current_dir(folder).output().expect("a shell"))
}

/// A backup, then a spool that fits no more, then the backup back in its place.
#[test]
fn backup_and_restore() {
    needs!("sqlite3");
    let config = simulator::Config { speed: 500.0, ..Default::default() };
    let lab = Lab::new(config, &Settings::default());
    lab.insert([("before", "")]);
    assert_eq!(lab.until_empty(), 0);
    let daemon = lab.start();
    shell(lab.dir(), &block(OPERATIONS, "Backup", "sh")).unwrap();
    lab.insert([("after", "")]);
    lab.until("SELECT count(*) = 2 FROM results");
    assert_eq!(daemon.stop(), 0);
    let said = shell(lab.dir(), &block(OPERATIONS, "Restore", "sh"));
    assert!(said.code == 0 && said.out.contains("1 ok"), "{said:?}");
    for name in ["queue.db", "queue.db-spool"] {
        assert!(lab.dir().join("damaged").join(name).exists(), "{name}");
    }
    lab.insert([("later", "")]);
    assert_eq!(lab.until_empty(), 0);
    let keys = lab.texts("SELECT key FROM results ORDER BY seq");
    assert_eq!(keys, ["before", "later"]);
}

/// A producer's leavings, and the daemon that clears them away.
#[test]
fn a_daemon_that_stops_leaves_one_file_of_the_database() {
    needs!("sqlite3");
    let lab = Lab::new(simulator::Config::default(), &Settings::default());
    let beside = ["queue.db-wal", "queue.db-shm"].map(|name| lab.dir().join(name));
    let (daemon, open) = (lab.start(), lab.watch());
    assert!(beside.iter().all(|file| file.exists()), "while it is open");
    drop(open);
    assert_eq!(daemon.stop(), 0);
    assert!(!beside.iter().any(|file| file.exists()), "after its end");
}

#[test]
fn a_group_has_the_modes_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("srv").display().to_string();
    let script = block(OPERATIONS, "Several producers and Unix users", "sh");
    let script = script.replace("/srv/claudeq", &here);
    assert!(script.contains(&here), "{script}");
    assert_eq!(shell(folder.path(), &script).code, 0);
    let part = section(OPERATIONS, "## Several producers and Unix users");
    for (path, words) in [("srv/queue.db", "the database mode "), ("srv", "its directory ")] {
        let mode = std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
        let said = part.split(words).nth(1).unwrap();
        let said = said.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        assert_eq!(u32::from_str_radix(said, 8).unwrap(), mode & 0o7777, "{path}");
    }
}

/// What the page says of the unit stands in it.
#[test]
fn the_unit_is_as_described() {
    let part = section(OPERATIONS, "## As a service");
    let settings = code(part).into_iter().filter(|code| code.contains('=') && !code.contains(' '));
    let settings: Vec<String> = settings.collect();
    assert!(settings.len() > 1, "{settings:?}");
    for setting in settings {
        assert!(UNIT.lines().any(|line| line == setting), "{setting}");
    }
    let units = block(OPERATIONS, "Exit codes of the daemon", "ini");
    let table = rows(part, "code");
    let hopeless = table.iter().filter(|row| row[2].starts_with("do not restart"));
    let hopeless: BTreeSet<&str> = hopeless.map(|row| row[0].as_str()).collect();
    for line in units.lines() {
        assert!(UNIT.lines().any(|setting| setting == line), "{line}");
    }
    let prevented = units.split("RestartPreventExitStatus=").nth(1).unwrap();
    let prevented: BTreeSet<&str> = prevented.split_whitespace().collect();
    assert_eq!(prevented, hopeless);
    for row in table {
        assert!(EXIT.contains(&format!(" => {},", row[0])), "{}", row[0]);
    }
}

/// Words that it quotes from the program's mouth.
#[test]
fn what_is_quoted_is_said() {
    let words = prose(OPERATIONS).split_whitespace().collect::<Vec<_>>().join(" ");
    let screen = include_str!("../../../src/cli/status/screen.rs");
    for label in ["Locked", "Trouble", "Unknown"] {
        assert!(words.contains(&format!("`{label}`")), "{label}");
        assert!(screen.contains(&format!("\"{label}\"")), "{label}");
    }
    let trouble = include_str!("../../../src/daemon/scheduler/trouble.rs");
    assert!(words.contains("`the database is locked by process PID`"));
    assert!(trouble.contains("the database is locked by process {pid}"));
}
