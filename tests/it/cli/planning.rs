//! `plan`, and what `status` and `cost` say of the end.

use super::stage::{Stage, said};
use crate::helper::{FlockHolder, sql};
use claudeq::domain::pace::Pace;
use claudeq::domain::shape::Lengths;
use serde_json::Value;
use std::fs;

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// A queue of so many jobs of the same size, and an account of the tier `build`.
fn with_jobs(jobs: usize) -> Stage {
    let stage = Stage::ready();
    let pool = "[[pool]]\nname = \"sonnet-5-5\"\ntier = \"build\"\n";
    fs::write(stage.path().join("daemon.toml"), pool).expect("the configuration is written");
    sql(
        &stage.database(),
        &format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
             INSERT INTO jobs (prompt, max_tokens, batch)
             SELECT 'Say ' || i, 1000, CASE WHEN i % 10 = 0 THEN 'tenth' END FROM n;"
        ),
    );
    stage
}

fn row<'a>(rows: &'a [Value], tier: &str) -> &'a Value {
    rows.iter().find(|row| row["tier"] == tier).expect("the tier is there")
}

#[test]
fn a_hundred_thousand_jobs_under_every_tier() {
    let stage = with_jobs(100_000);
    let out = stage.run(&["plan"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.err.contains("no answers yet to learn sizes from"), "{}", out.err);
    let rows = lines(&out.out);
    assert_eq!(rows.len(), 13, "as it is, and twelve tiers");
    let now = &rows[0];
    assert!(now["tier"].is_null() && now["max_in_flight"] == 64);
    assert_eq!(now["jobs"], 100_000);
    assert_eq!(now["output_tokens"], 100_000_000);
    // 64 calls of about 18 s each; a million tokens a minute would allow ten times as much.
    let takes = now["takes_ms"].as_i64().expect("it ends");
    assert_eq!(now["bottleneck"], "concurrency");
    let alone = 100_000 * (1_000 + 1_000 * 1_000 / 60) / 64;
    assert!((takes - alone).abs() < alone / 50, "{takes} instead of {alone}");
    assert_eq!(row(&rows, "tier-1-split")["bottleneck"], "output_tokens");
    let slow = row(&rows, "tier-1-split")["takes_ms"].as_i64().expect("it ends");
    assert!((slow - 12_500 * 60_000).abs() < 10_000_000, "100M tokens at 8,000 a minute: {slow}");
    assert!(now["usd"].as_f64().expect("it has a price") > 1_000.0);

    let asked = lines(&stage.ok(&["plan", "--tier", "scale", "--max-in-flight", "2000"]));
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[1]["tier"], &asked[1]["max_in_flight"]), (&"scale".into(), &2_000.into()));
    let fast = asked[1]["takes_ms"].as_i64().expect("it ends");
    assert_eq!(asked[1]["bottleneck"], "output_tokens");
    assert!((fast - 50 * 60_000).abs() < 60_000, "100M tokens at 2M a minute: {fast}");
    let cheap = lines(&stage.ok(&["plan", "--model", "claude-haiku-4-5"]));
    assert!(cheap[1]["usd"].as_f64() < cheap[0]["usd"].as_f64());
    let batch = lines(&stage.ok(&["plan", "--batch", "tenth", "--queue", "default"]));
    assert_eq!(batch[0]["jobs"], 10_000);
    assert_eq!(lines(&stage.ok(&["plan", "--queue", "none"]))[0]["jobs"], 0);
}

/// Rows with the same figures would be a riddle; programs get them all the same.
#[test]
fn tiers_that_make_no_difference_are_named_in_a_sentence() {
    let out = with_jobs(3).run(&["plan", "--table"]).out;
    let tiers = |out: &str| out.lines().filter(|line| line.starts_with("tier ")).count();
    assert!(tiers(&out) > 0 && tiers(&out) < 6, "{out}");
    assert!(out.contains("\ntier free ") && !out.contains("\ntier scale"), "{out}");
    assert!(out.contains("\n\nThe same as it is under start, build, scale, tier-1, "), "{out}");

    let stage = with_jobs(1);
    sql(&stage.database(), "UPDATE job_state SET next_attempt_at = 9000000000000;");
    let out = stage.run(&["plan", "--table"]).out;
    assert_eq!(tiers(&out), 0, "{out}");
    assert!(
        out.ends_with("\n\nThe same under every tier: their limits are not what holds it back.")
    );
    assert_eq!(lines(&stage.run(&["plan"]).out).len(), 13);
    let asked = stage.run(&["plan", "--table", "--tier", "start"]).out;
    assert_eq!(tiers(&asked), 1, "{asked}");
}

#[test]
fn a_table_for_people() {
    let stage = with_jobs(1_000);
    sql(&stage.database(), "INSERT INTO pauses (queue, paused_at) VALUES ('side', 0);");
    sql(&stage.database(), "INSERT INTO jobs (prompt, queue) VALUES ('waits', 'side');");
    let out = stage.run(&["plan", "--table", "--tier", "start", "--max-in-flight", "128"]);
    assert_eq!(out.code, 0, "{out:?}");
    let rows: Vec<&str> = out.out.lines().collect();
    assert!(rows[0].starts_with("1,001 jobs left: ≈ "), "{}", out.out);
    assert!(rows[2].starts_with("LIMITS "), "{}", out.out);
    assert!(
        rows[3].starts_with("as it is ") && rows[3].contains("1: a paused queue"),
        "{}",
        out.out
    );
    assert!(rows[4].starts_with("tier start, 128 in flight "), "{}", out.out);
    let mut narrow = stage.command(&["plan", "--table"]);
    narrow.env("COLUMNS", "60");
    assert!(said(narrow).out.lines().all(|line| line.chars().count() <= 60));
    let empty = Stage::ready();
    assert_eq!(empty.ok(&["plan", "--table"]), "nothing is left to do");
}

#[test]
fn what_cannot_be_meant_is_said() {
    let stage = Stage::ready();
    let tier = stage.run(&["plan", "--tier", "gold"]);
    assert_eq!(tier.code, 2);
    assert!(tier.err.contains("build") && tier.err.contains("tier-4-split"), "{}", tier.err);
    assert_eq!(stage.run(&["plan", "--max-in-flight", "0"]).code, 2);
    let unknown = stage.run(&["plan", "--model", "gpt-9"]);
    assert_eq!(unknown.code, 0);
    assert!(unknown.err.contains("gpt-9 has no known price"), "{}", unknown.err);
    assert_eq!(Stage::empty().run(&["plan"]).code, 66);
}

#[test]
fn limits_that_nobody_knows_are_named() {
    let stage = Stage::with_every_state();
    let out = stage.run(&["plan"]);
    assert!(
        out.err.contains("limits not known yet") && out.err.contains("sonnet-5-5"),
        "{}",
        out.err
    );
    assert_eq!(lines(&out.out)[0]["jobs"], 1, "nothing held, nothing finished");
}

#[test]
fn what_was_answered_is_learned_from() {
    let stage = with_jobs(100);
    // 500 answers, each a tenth of its max_tokens long.
    let (mut lengths, pace) = (Lengths::default(), Pace::default());
    (0..500).for_each(|_| lengths.add(0.1));
    let learned = serde_json::json!({
        "lengths": lengths,
        "input": { "answers": 100.0, "bytes": 10_000.0, "tokens": 2_500.0 },
        "pace": pace,
    });
    let rows = ["", "default"].map(|queue| {
        format!("('{queue}', 'claude-sonnet-5-5', 500, 0.1, 4, NULL, NULL, '{learned}', 1)")
    });
    sql(&stage.database(), &format!("INSERT INTO estimates VALUES {}", rows.join(",")));
    let out = stage.run(&["plan"]);
    assert_eq!(out.err, "");
    let tokens = lines(&out.out)[0]["output_tokens"].as_i64().expect("a number");
    assert!((10_000..13_000).contains(&tokens), "a tenth of max_tokens: {tokens}");
}

#[test]
fn cost_looks_ahead_with_a_daemon_and_without() {
    let stage = with_jobs(10);
    let config = stage.path().join("daemon.toml");
    let pool = fs::read_to_string(&config).expect("it is there");
    fs::write(&config, format!("{pool}[[budget]]\nusd = 0.05\nper = \"day\"\n")).expect("written");
    let cost = || lines(&stage.ok(&["cost"])).remove(0);
    let value = cost();
    assert_eq!(value["rest"]["jobs"], 10);
    let rest = value["rest"]["usd"].as_f64().expect("a price");
    assert!((0.1..0.11).contains(&rest), "10,000 tokens of output at $10 a million: {rest}");
    assert_eq!(value["usd_at_the_end"], rest);
    assert_eq!(value["budgets"][0]["fits"], false);
    assert!(value["budgets"][0]["exceeded_by"].as_f64() > Some(0.05));
    let table = stage.ok(&["cost", "--table"]);
    assert!(table.contains("to do   10 jobs, ≈ $0.10"), "{table}");
    assert!(table.contains("exceeds the budget by about $0.05"), "{table}");
    assert_eq!(lines(&stage.ok(&["cost", "--batch", "tenth"]))[0]["rest"]["jobs"], 1);
    let text = stage.ok(&["status"]);
    assert!(text.contains("  Finishes  –   claudeq plan says how long"), "{text}");

    // While a daemon runs, what it says of a long queue is shown: a short one is looked at anew,
    // since what it said some seconds ago would be added to what was spent by now.
    let holder = FlockHolder::of(&stage.database());
    let says = |jobs: i64| {
        let report = format!(
            "INSERT OR REPLACE INTO daemons
               (epoch, pid, host, version, started_at, heartbeat_at, report)
             SELECT 9, {}, 'host', '0.1.0', now, now, '{{\"forecast\": {{\"jobs\": {jobs},
               \"rest_nanousd\": 1000000000, \"bottleneck\": \"requests\", \"budgets\":
               [{{\"key\": \"usd/day/UTC/*\", \"exceeded_by\": 950000000, \"stops_at\": ' ||
               (now + 3600000) || '}}], \"finishes_at\": ' || (now + 7500000) || '}}}}'
             FROM (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 AS now)",
            holder.pid()
        );
        sql(&stage.database(), &report);
    };
    says(7);
    assert_eq!(cost()["rest"]["jobs"], 10);
    says(70_000);
    assert_eq!((&cost()["rest"]["jobs"], &cost()["rest"]["usd"]), (&70_000.into(), &1.0.into()));
    let text = stage.ok(&["status"]);
    assert!(text.contains("  Finishes  in 2 h 0"), "{text}");
    assert!(text.contains("held back by: requests"), "{text}");
    assert!(text.contains("exceeds the budget by about $0.95, stops at "), "{text}");
}
