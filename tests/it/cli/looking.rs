//! `list`, `show`, `attempts`, `results`, `limits`, `cost`: shapes for programs, tables for people.

use super::stage::{Stage, said};
use crate::helper::sql;
use serde_json::Value;

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn ids(stage: &Stage, args: &[&str]) -> Vec<i64> {
    let listed = stage.ok(&[&["list"], args].concat());
    lines(&listed).iter().map(|line| line["id"].as_i64().expect("it has an id")).collect()
}

#[test]
fn selectors_must_all_hold() {
    let stage = Stage::with_every_state();
    for (args, expected) in [
        (&[][..], &[1, 2, 3, 4, 5, 6][..]),
        (&["--all"], &[1, 2, 3, 4, 5, 6]),
        (&["3", "1", "3"], &[1, 3]),
        (&["--batch", "nightly"], &[3, 4]),
        (&["--queue", "side"], &[4]),
        (&["--state", "held,running"], &[2, 6]),
        (&["--state", "held", "--state", "queued"], &[1, 6]),
        (&["--error-class", "invalid_request"], &[4]),
        (&["--key", "k3"], &[3]),
        (&["--batch", "nightly", "--state", "failed"], &[4]),
        (&["--batch", "nightly", "--state", "queued"], &[]),
        (&["--after", "4"], &[5, 6]),
        (&["--limit", "2"], &[5, 6]),
        (&["--limit", "2", "--after", "0"], &[1, 2]),
    ] {
        assert_eq!(ids(&stage, args), expected, "{args:?}");
    }
    assert_eq!(stage.run(&["list", "--state", "done"]).code, 2);
    assert_eq!(stage.run(&["list", "--all", "--queue", "a"]).code, 2);
}

#[test]
fn the_list_is_a_table_for_people() {
    let stage = Stage::with_every_state();
    let table = stage.ok(&["list", "--table", "3", "4"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[0].starts_with("ID  STATE      QUEUE    BATCH    KEY  TRIES  WHEN"), "{table}");
    assert!(rows[1].starts_with(" 3  succeeded  default  nightly  k3       1  "), "{table}");
    assert!(rows[2].ends_with("invalid_request: messages: too many"), "{table}");
}

#[test]
fn results_are_the_columns_of_the_view_in_the_order_of_the_ends() {
    let stage = Stage::with_every_state();
    let out = stage.ok(&["results"]);
    let first = out.lines().next().unwrap();
    let expected = "{\"seq\":1,\"id\":3,\"key\":\"k3\",\"queue\":\"default\",\
        \"batch\":\"nightly\",\"state\":\"succeeded\",\"text\":\"The answer.\",\
        \"response\":{\"type\": \"message\",  \"content\": []},\"stop_reason\":\"end_turn\",\
        \"error_class\":null,\"error\":null,\"attempts\":1,\"model\":\"claude-sonnet-5-5\",\
        \"input_tokens\":12,\"output_tokens\":34,\"cache_read_tokens\":null,\
        \"cache_write_tokens\":null,\"cost_usd\":0.00155,\"created_at\":";
    assert!(first.starts_with(expected), "{first}");
    let columns = stage.value("SELECT group_concat(name) FROM pragma_table_info('results')");
    let object: Value = serde_json::from_str(first).unwrap();
    assert!(columns.split(',').all(|column| object.get(column).is_some()), "{columns}");
    let seqs: Vec<i64> = lines(&out).iter().map(|line| line["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(lines(&stage.ok(&["results", "--after", "2"])).len(), 1);
    assert_eq!(lines(&stage.ok(&["results", "--limit", "1"])).len(), 1);
    assert_eq!(lines(&stage.ok(&["results", "--batch", "nightly"])).len(), 2);
    assert_eq!(stage.ok(&["results", "--text", "3"]), "The answer.");
}

#[test]
fn results_come_in_pages_without_gaps() {
    let stage = Stage::ready();
    sql(
        &stage.database(),
        "BEGIN;
         WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 1234)
           INSERT INTO jobs (prompt, batch) SELECT 'p' || i, CASE i % 3 WHEN 0 THEN 'b' END FROM k;
         UPDATE job_state SET state = 'cancelled', finished_seq = id, finished_at = 1;
         COMMIT;",
    );
    let out = lines(&stage.ok(&["results"]));
    assert_eq!(out.len(), 1234);
    assert!(out.iter().zip(1..).all(|(line, seq)| line["seq"] == seq));
    assert_eq!(lines(&stage.ok(&["results", "--batch", "b"])).len(), 411);
    assert_eq!(lines(&stage.ok(&["results", "--limit", "700"])).len(), 700);
}

#[test]
fn one_job_in_full() {
    let stage = Stage::with_every_state();
    let page = stage.ok(&["show", "3", "--table"]);
    for line in [
        "job 3  succeeded",
        "  batch       nightly",
        "  key         k3",
        "  model       claude-sonnet-5-5",
        "  attempts    1   claudeq attempts 3",
        "  cost        $0.00155",
        "    is answered",
        "    The answer.",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
    }
    assert_eq!(stage.ok(&["show", "3", "--text"]), "The answer.");
    assert_eq!(stage.ok(&["show", "--key", "k3", "--text"]), "The answer.");
    // Where there is no answer, a file it was to be written into does not look like one.
    for (id, code, words) in [
        ("1", 8, "job 1 is queued: it has no answer yet"),
        ("4", 1, "job 4 failed, it has no answer"),
    ] {
        let said = stage.run(&["show", id, "--text"]);
        assert!(said.code == code && said.err.contains(words) && said.out.is_empty(), "{said:?}");
    }
    let said = stage.run(&["results", "1", "--text"]);
    assert!(said.code == 8 && said.out.is_empty(), "{said:?}");
    let object: Value = serde_json::from_str(&stage.ok(&["show", "4"])).unwrap();
    assert_eq!(object["error"], "messages: too many");
    let missing = stage.run(&["show", "99"]);
    assert_eq!((missing.code, missing.err.as_str()), (1, "claudeq: there is no job 99"));
    let all = stage.run(&["show"]);
    assert_eq!(all.code, 2);
    assert!(all.err.contains("--all"), "{}", all.err);
}

#[test]
fn why_an_answer_stopped() {
    let stage = Stage::with_every_state();
    for (reason, shown) in [
        ("end_turn", "end_turn"),
        ("tool_use", "tool_use: the model calls a tool of yours; see .response.content"),
        ("max_tokens", "max_tokens: cut off; claudeq retry 3 --max-tokens N"),
        ("pause_turn", "pause_turn: the turn was not gone on with to its end"),
    ] {
        stage.value(&format!("UPDATE attempts SET stop_reason = '{reason}' WHERE id = 1"));
        let page = stage.ok(&["show", "3", "--table"]);
        assert!(page.contains(&format!("\n  stopped     {shown}\n")), "{reason}\n{page}");
        let object: Value = serde_json::from_str(&stage.ok(&["show", "3"])).unwrap();
        assert_eq!(object["stop_reason"], reason);
    }
    let waiting: Value = serde_json::from_str(&stage.ok(&["show", "1"])).unwrap();
    assert!(waiting["stop_reason"].is_null());
}

#[test]
fn the_calls_of_a_job() {
    let stage = Stage::with_every_state();
    let call: Value = serde_json::from_str(&stage.ok(&["attempts", "3"])).unwrap();
    assert_eq!((&call["number"], &call["request_id"]), (&1.into(), &"req_3".into()));
    let mut command = stage.command(&["attempts", "--batch", "nightly", "--table"]);
    command.env("COLUMNS", "160");
    let table = super::stage::said(command).out;
    assert!(table.contains("succeeded") && table.contains("1.5 s"), "{table}");
    assert!(table.contains("invalid_request: messages: too many"), "{table}");
    assert_eq!(stage.ok(&["attempts", "1"]), "");
    assert_eq!(stage.run(&["attempts", "99"]).code, 1);
}

#[test]
fn costs_by_model() {
    let stage = Stage::with_every_state();
    let value: Value = serde_json::from_str(&stage.ok(&["cost"])).unwrap();
    assert_eq!(value["total"]["usd"], 0.00155);
    assert_eq!(value["models"][0]["calls"], 2);
    let one: Value = serde_json::from_str(&stage.ok(&["cost", "--queue", "side"])).unwrap();
    assert_eq!(one["total"]["calls"], 1);
    let future = stage.ok(&["cost", "--since", "2100-01-01T00:00:00Z"]);
    let none: Value = serde_json::from_str(&future).unwrap();
    assert_eq!(none["total"]["calls"], 0);
    let table = stage.ok(&["cost", "--table"]);
    assert!(table.lines().nth(1).unwrap().starts_with("claude-sonnet-5-5      2"), "{table}");
}

#[test]
fn limits_of_the_configuration_until_the_daemon_knows_better() {
    let stage = Stage::ready();
    let config = stage.path().join("daemon.toml");
    std::fs::write(&config, "[[pool]]\nname = \"haiku-4-5\"\ntier = \"start\"\n").unwrap();
    let first = &lines(&stage.ok(&["limits"]))[0];
    assert_eq!((&first["pool"], &first["source"]), (&"haiku-4-5".into(), &"tier".into()));
    assert!(first["available"].is_null());
    sql(
        &stage.database(),
        "INSERT INTO limit_snapshots VALUES ('haiku-4-5', 'requests', 'minute', 50, 'headers', \
         'bucket', 5000, 1, 4, NULL, -1, 0, 0, 9000000000000);
         INSERT INTO gates VALUES ('haiku-4-5', 'pause', 9000000000000, 1)",
    );
    let known = lines(&stage.ok(&["limits"]));
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!((&known[0]["amount"], &known[0]["available"]), (&50.into(), &(-1).into()));
    assert_eq!(known[0]["closed_by"], "pause");
    let table = stage.ok(&["limits", "--table"]);
    assert!(table.contains("bucket of 5 s, learned") && table.contains("pause until"), "{table}");
    assert!(table.contains("learned from the first answer: fable-5"), "{table}");
}

const HOSTILE: &str = "
INSERT INTO jobs (prompt, queue, batch, key, metadata) VALUES (
  'say' || char(27) || '[2J' || char(10) || 'hi ' || char(0x202e) || 'txt.exe',
  'q', 'b' || char(27) || ']0;owned' || char(7) || char(0x9b) || '31m', 'k' || char(13) || 'x',
  'm' || char(0x200b));
UPDATE job_state SET error_class = 'c' || char(27) || 'c', error = 'e' || char(0x2066);
";

#[test]
fn nothing_hostile_reaches_a_terminal() {
    let stage = Stage::ready();
    sql(&stage.database(), HOSTILE);
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--table"],
        &["show", "1"],
        &["show", "1", "--json"],
        &["status"],
        &["status", "--json"],
        &["pause", "q\u{1b}]0;x\u{7}"],
        &["show", "--key", "\u{202e}"],
    ] {
        let said = stage.on_terminal(args);
        let mut bare = said.out.clone();
        // Our own colours.
        for code in ["0", "1", "2", "31", "32", "33", "36"] {
            bare = bare.replace(&format!("\u{1b}[{code}m"), "");
        }
        for c in bare.chars() {
            let is_ours = matches!(c, '\r' | '\n');
            let hidden =
                matches!(u32::from(c), 0x200b..=0x200f | 0x202a..=0x202e | 0x2066..=0x2069);
            assert!(is_ours || !(c.is_control() || hidden), "{args:?}: {bare:?}");
        }
    }
    // A pipe gets what is there.
    let object: Value = serde_json::from_str(&stage.ok(&["show", "1"])).unwrap();
    assert_eq!(object["key"], "k\rx");
}

/// On a narrow screen whole columns go, not what stands at its right edge.
#[test]
fn tables_fit_a_narrow_screen() {
    let stage = Stage::with_every_state();
    sql(
        &stage.database(),
        "INSERT INTO jobs (prompt, queue, batch, key, priority)
         VALUES ('x', 'a queue with a long name', 'a batch with a long name', 'a long key', 5)",
    );
    let run = |width: &str, args: &[&str]| {
        let mut command = stage.command(args);
        command.env("COLUMNS", width);
        said(command).out
    };
    for width in ["40", "60", "80"] {
        let most: usize = width.parse().unwrap();
        for args in [&["list", "--table"][..], &["attempts", "--all", "--table"], &["status"]] {
            for line in run(width, args).lines() {
                assert!(line.chars().count() <= most, "{width} {args:?}: {line}");
            }
        }
        let list = run(width, &["list", "--table"]);
        assert!(list.lines().next().unwrap().contains("WHEN"), "{width}\n{list}");
        let plan = run(width, &["plan", "--table", "--tier", "tier-1-split"]);
        assert!(plan.contains("\ntier tier-1-split"), "{width}\n{plan}");
    }
}

#[test]
fn colours_only_on_a_terminal_that_wants_them() {
    let stage = Stage::with_every_state();
    assert!(stage.on_terminal(&["list"]).out.contains("\u{1b}[32msucceeded\u{1b}[0m"));
    assert!(!stage.ok(&["list", "--table"]).contains('\u{1b}'));
    assert!(!stage.ok(&["status"]).contains('\u{1b}'));
}
