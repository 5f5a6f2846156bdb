//! `claudeq init`.

use super::stage::Stage;
use crate::helper::sql;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn it_creates_what_is_missing_and_says_what_to_do_next() {
    let stage = Stage::empty();
    assert_eq!(
        stage.ok(&["init"]),
        "created daemon.toml (your settings), created queue.db (the queue)\n\
         start:  export ANTHROPIC_API_KEY=…, then claudeq daemon\n\
         try:    claudeq add \"Say hi\" --wait"
    );
    let text = fs::read_to_string(stage.path().join("daemon.toml")).unwrap();
    assert!(text.lines().count() < 40 && text.contains("init --full"), "{text}");
    assert_eq!(fs::metadata(stage.database()).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn it_leaves_what_exists() {
    let stage = Stage::ready();
    stage.ok(&["add", "Say hi"]);
    let config = stage.path().join("daemon.toml");
    fs::write(&config, "[defaults]\nmodel = \"mine\"\n").unwrap();
    let said = stage.ok(&["init", "--full"]);
    assert!(said.starts_with("kept daemon.toml (your settings), kept queue.db (the queue)"));
    assert_eq!(fs::read_to_string(&config).unwrap(), "[defaults]\nmodel = \"mine\"\n");
    assert_eq!(stage.value("SELECT count(*) FROM jobs"), "1");
    fs::remove_file(&config).unwrap();
    assert!(stage.ok(&["init"]).starts_with("created daemon.toml (your settings), kept queue.db"));
}

#[test]
fn the_full_file_is_the_shipped_one() {
    let stage = Stage::empty();
    stage.ok(&["init", "--full"]);
    let text = fs::read_to_string(stage.path().join("daemon.toml")).unwrap();
    assert_eq!(text, claudeq::config::DEFAULTS);
}

#[test]
fn printing_the_file_creates_nothing() {
    let stage = Stage::empty();
    let text = stage.ok(&["init", "--full", "--print"]);
    assert_eq!(text, claudeq::config::DEFAULTS.trim_end());
    assert_eq!(fs::read_dir(stage.path()).unwrap().count(), 0);
}

#[test]
fn the_file_names_the_database_that_was_asked_for() {
    let stage = Stage::empty();
    stage.ok(&["init", "--db", "deep/er/jobs.db"]);
    assert!(stage.path().join("deep/er/jobs.db").exists());
    // From now on nobody has to say it again.
    stage.ok(&["add", "Say hi"]);
    assert_eq!(stage.run(&["list"]).out.lines().count(), 1);
}

#[test]
fn a_group_shares_the_database_and_its_directory() {
    let stage = Stage::empty();
    stage.ok(&["init", "--group", "--db", "shared/queue.db"]);
    let mode = |name: &str| fs::metadata(stage.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("shared"), mode("shared/queue.db")), (0o3770, 0o660));
    let home = Stage::empty();
    let mut at_home = home.command(&["init", "--group"]);
    at_home.env("HOME", home.path());
    let said = super::stage::said(at_home);
    assert_eq!(said.code, 2, "a home directory is not opened to the group: {said:?}");
}

#[test]
fn nobody_else_may_write_what_it_creates_whatever_the_umask() {
    let stage = Stage::empty();
    let mut command = crate::helper::with_claudeq("sh");
    command.args(["-c", "umask 0; exec claudeq init --config etc/d.toml --db var/queue.db"]);
    command.current_dir(stage.path());
    assert_eq!(super::stage::said(command).code, 0);
    let mode = |name: &str| fs::metadata(stage.path().join(name)).unwrap().mode() & 0o7777;
    for (name, expected) in
        [("etc", 0o755), ("etc/d.toml", 0o644), ("var", 0o755), ("var/queue.db", 0o600)]
    {
        assert_eq!(mode(name), expected, "{name}");
    }
}

#[test]
fn a_refused_directory_stays_as_it_was() {
    let home = Stage::empty();
    for args in [&["init", "--group"][..], &["init", "--group", "--full", "--config", "new/d.toml"]]
    {
        let mut command = home.command(args);
        command.env("HOME", home.path()).env("CLAUDEQ_DB", "queue.db");
        assert_eq!(super::stage::said(command).code, 2, "{args:?}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn what_it_says_to_type_can_be_typed() {
    let stage = Stage::empty();
    let said = stage.ok(&["init", "--config", "my settings.toml"]);
    assert!(said.contains("claudeq daemon --config 'my settings.toml'"), "{said}");
    let kept = stage.ok(&["init", "--config", "my settings.toml", "--db", "other.db"]);
    assert!(kept.contains("--config 'my settings.toml' --db other.db"), "{kept}");
    let odd = stage.ok(&["init", "--config", "odd.toml", "--db", "new\nline\u{1b}[31m.db"]);
    assert!(odd.lines().count() == 3 && odd.contains("new\\nline\\x1b[31m.db"), "{odd}");
}

#[test]
fn json_says_what_was_done() {
    let stage = Stage::empty();
    let line = stage.ok(&["init", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["database_created"], true);
    assert_eq!(value["config_created"], true);
}

/// SQLite would take the first for a URI, and the second for no file.
#[test]
fn a_name_is_a_name_and_nothing_else() {
    let stage = Stage::ready();
    for name in ["file:queue.db", ":memory:"] {
        assert!(stage.ok(&["init", "--db", name]).contains(&format!("created {name}")));
        stage.ok(&["add", "--db", name, "Say hi"]);
        let file = stage.path().join(name);
        assert_eq!(sql(&file, "SELECT count(*) FROM jobs"), "1", "{name}");
    }
    assert_eq!(stage.value("SELECT count(*) FROM jobs"), "0", "it is another file");
}
