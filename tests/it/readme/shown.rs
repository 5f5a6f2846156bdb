//! What the README shows of the screen is what the program prints.

use super::README;
use crate::helper::markdown::{block, blocks};
use crate::helper::{FlockHolder, Said, TempDb, claudeq, sql};
use claudeq::config::{Config, Overrides};
use std::fs;

/// The words of a line; numbers, bars and the size of a file are left out.
pub(super) fn words(line: &str) -> Vec<&str> {
    let words = line.split(|c: char| !c.is_alphabetic() && c != '_');
    words.filter(|word| !word.is_empty() && !["B", "kB", "MB", "GB"].contains(word)).collect()
}

/// Jobs in the states that the picture has, and calls within the last minute.
const JOBS: &str = "
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
INSERT INTO jobs (prompt) SELECT 'job ' || i FROM n;
UPDATE job_state SET state = 'running', epoch = 1 WHERE id = 4;
UPDATE job_state SET attempts = 1, next_attempt_at = :now + 14500, error_class = 'overloaded'
  WHERE id IN (5, 6);
UPDATE job_state SET attempts = 1, next_attempt_at = :now + 15500, error_class = 'timeout'
  WHERE id = 7;
UPDATE job_state SET finished_seq = id, finished_at = :now,
  state = CASE WHEN id < 17 THEN 'succeeded' WHEN id < 20 THEN 'failed' ELSE 'cancelled' END,
  error_class = CASE WHEN id < 17 THEN NULL WHEN id < 19 THEN 'invalid_request'
    WHEN id < 20 THEN 'refusal' ELSE 'cancelled' END
  WHERE id > 7;
INSERT INTO attempts (job_id, number, epoch, queue, pool, model, output_mode, body_bytes,
  reserved_at, reserved_requests, reserved_input_tokens, reserved_output_tokens,
  worst_input_tokens, worst_output_tokens, worst_nanousd, settlement, settled_at, counted_at,
  settled_requests, settled_input_tokens, settled_output_tokens, settled_tokens, settled_nanousd,
  outcome)
VALUES (8, 1, 1, 'default', 'sonnet-5-5', 'claude-sonnet-5-5', 'realtime', 9, :now, 1, 1, 1, 1, 1,
  1, 'actual', :now, :now, 2410, 1310000, 398200, 1708200, 1550000, 'succeeded');
INSERT INTO limit_snapshots (pool, dimension, per, amount, source, algorithm, capacity, available,
  held, as_of)
VALUES ('sonnet-5-5', 'requests', 'minute', 4000, 'tier', 'bucket', 4000, 1, 0, :now),
  ('sonnet-5-5', 'input_tokens', 'minute', 2000000, 'tier', 'bucket', 4000, 1, 0, :now),
  ('sonnet-5-5', 'output_tokens', 'minute', 400000, 'tier', 'bucket', 4000, 1, 0, :now);
INSERT INTO daemons (pid, host, version, started_at, heartbeat_at, report)
VALUES (:pid, 'host', '0.1.0', :now - 22320000, :now, '{\"base_url\":
  \"https://api.anthropic.com\", \"held_back_by\": \"output_tokens\",
  \"forecast\": {\"jobs\": 41784, \"bottleneck\": \"output_tokens\", \"rest_nanousd\": 64800000000,
    \"budgets\": [{\"key\": \"usd/day/UTC/*\"}], \"finishes_at\": ' || (:now + 7530000) || '}}');
";

#[test]
fn the_picture_of_status() {
    let picture = block(README, "See how it goes", "text");
    let db = TempDb::create_now();
    fs::write(db.dir().join("daemon.toml"), "[[budget]]\nusd = 300.0\nper = \"day\"\n").unwrap();
    let daemon = FlockHolder::of(db.path());
    let now = sql(db.path(), "SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000;");
    let jobs = JOBS.replace(":now", &now).replace(":pid", &daemon.pid().to_string());
    sql(db.path(), &jobs);
    let mut status = claudeq();
    status.arg("status").current_dir(db.dir()).env("COLUMNS", "100").env("LC_ALL", "C.UTF-8");
    let said = Said::of(&status.output().unwrap()).unwrap();
    let shown: Vec<Vec<&str>> = picture.lines().map(words).collect();
    let printed: Vec<Vec<&str>> = said.lines().map(words).collect();
    assert_eq!(shown, printed, "\n{picture}\n{said}");
    // As wide as it is printed at most.
    assert!(picture.lines().all(|line| line.chars().count() <= 100), "{picture}");
}

#[test]
fn the_picture_of_plan() {
    let picture = block(README, "Look ahead", "text");
    let db = TempDb::create_now();
    sql(db.path(), "INSERT INTO jobs (prompt) VALUES ('Say hi');");
    let mut plan = claudeq();
    plan.args(["plan", "--table", "--tier", "scale", "--max-in-flight", "1000"]);
    let said = Said::of(&plan.current_dir(db.dir()).output().unwrap());
    let printed: Vec<&str> = said.out.lines().collect();
    let shown: Vec<&str> = picture.lines().collect();
    assert_eq!(shown.len(), printed.len(), "\n{picture}\n{}", said.out);
    assert_eq!(words(shown[2]), words(printed[2]), "the head of the table");
    let first = |row: &str| row.split("  ").next().unwrap().to_owned();
    assert!((3..5).all(|row| first(shown[row]) == first(printed[row])), "{picture}\n{}", said.out);
}

/// The words of the demo's summary; an ignored test runs it.
#[test]
fn the_summary_of_the_demo() {
    let shown = block(README, "The first minute", "text");
    let source = include_str!("../../../src/cli/demo/summary.rs");
    for line in shown.lines() {
        let label: String = line.chars().take_while(|c| !c.is_ascii_digit() && *c != '$').collect();
        // `429s 0` begins with a number of its own.
        let label = if label.is_empty() { "429s " } else { &label };
        assert!(source.contains(&format!("\"{label}{{")), "{line}");
    }
    assert_eq!(shown.lines().count(), source.matches("        format!(").count(), "{shown}");
}

#[test]
fn the_mistake_in_the_configuration() {
    let shown = blocks(README).into_iter().find(|block| block.text.contains("max_in_fligt"));
    let shown = shown.expect("the README shows a mistake").text;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("daemon.toml"), "[executor]\nmax_in_fligt = 3\n").unwrap();
    let said = Said::of(&claudeq().arg("status").current_dir(folder.path()).output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (78, shown.trim_end()));
}

#[test]
fn the_configuration_is_accepted() {
    let text = block(README, "Configuration", "toml");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.toml");
    fs::write(&path, &text).unwrap();
    let config = Config::load(Some(&path), &Overrides::default()).unwrap();
    assert_eq!(config.database, folder.path().join("queue.db"));
    assert_eq!(&*config.pools[0].name.0, "sonnet-5-5");
    assert!(!config.pools[0].limits.is_empty(), "the tier is known");
    assert_eq!(config.budgets[0].timezone, "Europe/Berlin");
    assert_eq!(config.queues["interactive"].policy.max_in_flight, Some(16));
    // What stands there as another way to say it is one.
    let other = text.replace("tier = \"build\"             # or ", "").replace("= ...", "= 1000");
    let other = other.replace(", output_tokens_per_minute", "\noutput_tokens_per_minute");
    fs::write(&path, &other).unwrap();
    let config = Config::load(Some(&path), &Overrides::default()).unwrap();
    assert_eq!(config.pools[0].limits.len(), 2, "{other}");
}
