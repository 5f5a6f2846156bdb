//! Exit codes, and the one line that says why.

use super::stage::{Stage, said};
use crate::helper::{FlockHolder, sql};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

#[test]
fn alone_it_shows_its_help_and_fails() {
    let stage = Stage::empty();
    let alone = stage.run(&[]);
    assert_eq!(alone.code, 2);
    assert!(alone.err.contains("Usage: claudeq") && alone.err.contains("First minute:"));
    let help = stage.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    let typo = stage.run(&["stauts"]);
    assert_eq!(typo.code, 2);
    assert!(typo.err.contains("status"), "{}", typo.err);
    assert!(stage.ok(&["--version"]).starts_with("claudeq "));
}

#[test]
fn without_a_database_the_way_to_one_is_named() {
    let stage = Stage::empty();
    for args in [&["status"][..], &["add", "x"], &["list"], &["wait"], &["results"], &["cost"]] {
        let said = stage.run(args);
        assert_eq!(said.code, 66, "{args:?}: {said:?}");
        assert_eq!(said.err, "claudeq: there is no database queue.db; `claudeq init` creates one");
    }
}

#[test]
fn what_is_not_ours_is_refused_untouched() {
    let stage = Stage::empty();
    let notes = stage.path().join("notes.txt");
    fs::write(&notes, "not a database ".repeat(20)).unwrap();
    let said = stage.run(&["status", "--db", "notes.txt"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.err.contains("notes.txt is not a claudeq database"), "{}", said.err);
    let newer = Stage::ready();
    sql(&newer.database(), "PRAGMA user_version = 2000");
    let said = newer.run(&["status"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.err.contains("schema version 2000"), "{}", said.err);
}

/// Where the numbers lie, and where they do not.
#[test]
fn a_damaged_file_is_called_so() {
    for (table, says) in [("attempts", "image is malformed (SQLite's code 11)"), ("jobs", "")] {
        let stage = Stage::ready();
        let place = "PRAGMA wal_checkpoint(TRUNCATE);
            SELECT (rootpage - 1) * 4096 FROM sqlite_master WHERE name = ";
        let place = sql(&stage.database(), &format!("{place}'{table}';"));
        let place: u64 = place.lines().last().unwrap().parse().unwrap();
        let file = fs::OpenOptions::new().write(true).open(stage.database()).unwrap();
        file.write_all_at(&[0xff; 1000], place).unwrap();
        let said = stage.run(&["status"]);
        assert_eq!(said.code, 65, "{said:?}");
        assert!(said.err.contains("queue.db is damaged. Start no daemon on it"), "{}", said.err);
        assert!(said.err.contains("docs/operations.md"), "{}", said.err);
        assert!(said.err.contains(says), "{}", said.err);
        assert!(said.err.matches("malformed").count() <= 1, "said once: {}", said.err);
    }
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_place() {
    let stage = Stage::ready();
    fs::write(stage.path().join("daemon.toml"), "[retry]\nmax_atempts = 3\n").unwrap();
    for args in [&["status"][..], &["daemon"], &["add", "x"]] {
        let said = stage.run(args);
        assert_eq!(said.code, 78, "{args:?}: {said:?}");
        assert!(said.err.starts_with("claudeq: daemon.toml:2:1: unknown key"), "{}", said.err);
        assert!(said.err.contains("  2 | max_atempts = 3\n      ^"), "{}", said.err);
    }
    let missing = stage.run(&["status", "--config", "gone.toml"]);
    assert_eq!(missing.code, 78, "{missing:?}");
    assert!(missing.err.contains("cannot read the configuration gone.toml"), "{missing:?}");
}

/// A budget that stands in a file out of reach is still a wall.
#[test]
fn a_configuration_that_leads_nowhere_is_no_leave_to_do_without() {
    let stage = Stage::ready();
    let config = stage.path().join("daemon.toml");
    fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("not-mounted/daemon.toml", &config).unwrap();
    for args in [&["daemon", "--until-empty"][..], &["status"]] {
        let mut command = stage.command(args);
        command.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
        let said = said(command);
        assert_eq!(said.code, 78, "{said:?}");
        assert!(said.err.contains("cannot read the configuration daemon.toml"), "{}", said.err);
    }
}

#[test]
fn settings_that_the_api_cannot_be_called_with_are_said_with_their_place() {
    let stage = Stage::ready();
    let key = "[provider]\nbase_url = \"not a url\"\n";
    fs::write(stage.path().join("daemon.toml"), key).unwrap();
    let run = |base_url: Option<&std::ffi::OsStr>| {
        let mut command = stage.command(&["daemon", "--until-empty"]);
        command.env("ANTHROPIC_API_KEY", "sk-canary");
        command.envs(base_url.map(|url| ("ANTHROPIC_BASE_URL", url)));
        said(command)
    };
    let by_file = run(None);
    assert_eq!((by_file.code, by_file.err.lines().count()), (78, 1), "{by_file:?}");
    assert!(by_file.err.starts_with("claudeq: daemon.toml: "), "{by_file:?}");
    assert!(by_file.err.contains("provider.base_url is not usable"), "{by_file:?}");
    // What is not UTF-8 does not count as absent: the calls would go somewhere else.
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(&b"\xff"[..]);
    for url in [std::ffi::OsStr::new("nowhere"), odd] {
        let by_variable = run(Some(url));
        assert_eq!(by_variable.code, 78, "{by_variable:?}");
        assert!(by_variable.err.contains("ANTHROPIC_BASE_URL, which comes before"));
        assert!(!by_variable.err.contains("canary"), "{by_variable:?}");
    }
}

#[test]
fn the_configuration_is_found_or_named_before_or_after_the_command() {
    let stage = Stage::ready();
    let other = stage.path().join("etc");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("c.toml"), "[database]\npath = \"../queue.db\"\n").unwrap();
    fs::remove_file(stage.path().join("daemon.toml")).unwrap();
    stage.ok(&["--config", "etc/c.toml", "add", "x"]);
    stage.ok(&["add", "x", "--config", "etc/c.toml"]);
    // Without any: the built-in defaults.
    assert_eq!(stage.ok(&["list"]).lines().count(), 2);
    let mut by_variable = Stage::empty().command(&["list"]);
    by_variable.env("CLAUDEQ_DB", stage.database());
    by_variable.current_dir("/");
    assert_eq!(said(by_variable).out.lines().count(), 2);
    let mut flag_wins = stage.command(&["list", "--db", "queue.db"]);
    flag_wins.env("CLAUDEQ_DB", "/nowhere.db");
    assert_eq!(said(flag_wins).code, 0);
}

#[test]
fn a_daemon_without_a_key_names_the_three_places() {
    let stage = Stage::ready();
    let said = stage.run(&["daemon", "--until-empty"]);
    assert_eq!(said.code, 78, "{said:?}");
    for place in ["ANTHROPIC_API_KEY", "provider.api_key_file", "anthropic-api-key"] {
        assert!(said.err.contains(place), "{}", said.err);
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_its_cure() {
    let stage = Stage::ready();
    let key = stage.path().join("key");
    fs::write(&key, "sk-canary").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(stage.path().join("daemon.toml"), "[provider]\napi_key_file = \"key\"\n").unwrap();
    let said = stage.run(&["daemon", "--until-empty"]);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.err.contains("chmod 600") && !said.err.contains("canary"), "{}", said.err);
}

#[test]
fn a_second_daemon_is_told_of_the_first() {
    let stage = Stage::ready();
    let first = FlockHolder::of(&stage.database());
    let mut command = stage.command(&["daemon", "--until-empty"]);
    command.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    let said = said(command);
    assert_eq!(said.code, 75, "{said:?}");
    let expected = format!("another claudeq daemon (pid {}) runs on queue.db", first.pid());
    assert!(said.err.contains(&expected), "{}", said.err);
}

#[test]
fn a_daemon_with_nothing_to_do_ends_when_asked() {
    let stage = Stage::ready();
    let mut command = stage.command(&["daemon", "--until-empty", "--log-format", "json"]);
    command.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    let said = said(command);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    for line in said.err.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let stage = Stage::ready();
    sql(
        &stage.database(),
        "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 5000) \
         INSERT INTO jobs (prompt) SELECT 'p' || i FROM k",
    );
    let mut command = stage.command(&["list"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
