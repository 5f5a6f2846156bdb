//! `results` in every form, and `follow`: results as they come.

use super::stage::{Stage, said};
use crate::helper::{FlockHolder, sql};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What ends a job, as the daemon writes it: with the next number.
const ENDS: &str = "
UPDATE sequences SET value = value + 1 WHERE name = 'finished';
UPDATE job_state SET finished_seq = (SELECT value FROM sequences WHERE name = 'finished'),
  finished_at = 1790000004000, epoch = NULL, ";

fn end(stage: &Stage, job: i64, state: &str) {
    sql(&stage.database(), &format!("BEGIN;{ENDS} state = '{state}' WHERE id = {job};COMMIT;"));
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Its output can be read line by line.
fn spawned(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("there is a pipe"));
    (child, out)
}

fn next(out: &mut impl BufRead) -> Value {
    let mut line = String::new();
    out.read_line(&mut line).expect("the pipe can be read");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[test]
fn csv_has_a_head_and_quotes_what_needs_it() {
    let stage = Stage::with_every_state();
    sql(&stage.database(), "UPDATE responses SET text = 'one, \"two\"' || char(10) || 'three'");
    let all = stage.ok(&["results", "--format", "csv", "3", "5"]);
    let head = "seq,id,key,queue,batch,state,text,stop_reason,error_class,error,attempts,model,\
        input_tokens,output_tokens,cache_read_tokens,cache_write_tokens,cost_usd,created_at,\
        finished_at,metadata\n";
    assert!(all.starts_with(head), "{all}");
    let first = "1,3,k3,default,nightly,succeeded,\"one, \"\"two\"\"\nthree\",end_turn,,,1,\
        claude-sonnet-5-5,12,34,,,0.00155,";
    assert!(all[head.len()..].starts_with(first), "{all}");
    let some = ["results", "--format", "csv", "--columns", "id,error,response", "--no-header"];
    let expected = "3,,\"{\"\"type\"\": \"\"message\"\",\n \"\"content\"\": []}\"\n\
        4,messages: too many,\n5,cancelled before it ran,";
    assert_eq!(stage.ok(&some), expected);
    // Nothing but an empty field is no empty line.
    let one = ["export", "5", "--format", "csv", "--columns", "text"];
    assert_eq!(stage.ok(&one), "text\n\"\"");
    for bad in [
        &["results", "--columns", "id"][..],
        &["results", "--format", "csv", "--columns", "answer"],
        &["results", "--format", "csv", "--text"],
        &["results", "--format", "csv", "--json"],
    ] {
        assert_eq!(stage.run(bad).code, 2, "{bad:?}");
    }
}

#[test]
fn the_form_of_a_batch_is_the_providers() {
    let stage = Stage::with_every_state();
    sql(
        &stage.database(),
        &format!(
            "BEGIN;{ENDS} state = 'failed', error_class = 'expired' WHERE id = 1;
             INSERT INTO responses VALUES (9, '{{\"type\":\"message\",\"stop_reason\":\"refusal\"}}', '');
             {ENDS} state = 'failed', error_class = 'refusal', attempt_id = 9 WHERE id = 2;COMMIT;"
        ),
    );
    let batch = lines(&stage.ok(&["results", "--format", "batch"]));
    let error = json!({"type": "invalid_request_error", "message": "messages: too many"});
    let errored = json!({"type": "error", "error": error, "request_id": "req_4"});
    assert_eq!(
        batch,
        [
            json!({"custom_id": "k3", "result":
                {"type": "succeeded", "message": {"type": "message", "content": []}}}),
            json!({"custom_id": "4", "result": {"type": "errored", "error": errored}}),
            json!({"custom_id": "5", "result": {"type": "canceled"}}),
            json!({"custom_id": "1", "result": {"type": "expired"}}),
            json!({"custom_id": "2", "result": {"type": "succeeded",
                "message": {"type": "message", "stop_reason": "refusal"}}}),
        ]
    );
    // What the provider takes as input comes in under the same names.
    let line =
        r#"{"custom_id": "k-8", "params": {"messages": [{"role": "user", "content": "x"}]}}"#;
    std::fs::write(stage.path().join("batch.jsonl"), line).unwrap();
    stage.ok(&["import", "batch.jsonl"]);
    end(&stage, 7, "cancelled");
    let out = stage.ok(&["results", "--key", "k-8", "--format", "batch"]);
    assert_eq!(lines(&out)[0]["custom_id"], "k-8");
}

#[test]
fn the_order_is_that_of_the_ends_or_of_the_ids() {
    let stage = Stage::with_every_state();
    end(&stage, 2, "failed");
    end(&stage, 1, "succeeded");
    let ids = |args: &[&str]| -> Vec<i64> {
        let out = stage.ok(&[&["results"], args].concat());
        lines(&out).iter().map(|line| line["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [3, 4, 5, 2, 1]);
    assert_eq!(ids(&["--order", "id"]), [1, 2, 3, 4, 5]);
    assert_eq!(ids(&["--order", "id", "--after", "2", "--limit", "2"]), [1, 2]);
    assert_eq!(ids(&["--order", "id", "--state", "failed"]), [2, 4]);
    assert_eq!(ids(&["--stop-reason", "end_turn"]), [3]);
    assert_eq!(ids(&["--after", "last"]), [0; 0]);
    sql(
        &stage.database(),
        "WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < 1234)
           INSERT INTO jobs (prompt) SELECT 'p' || i FROM k;
         UPDATE job_state SET state = 'cancelled', finished_seq = 9000 - id, finished_at = 1
           WHERE id > 6;",
    );
    let all = ids(&["--order", "id", "--after", "5"]);
    assert_eq!(all, (7..=1240).collect::<Vec<i64>>());
}

#[test]
fn texts_alone_and_how_many_have_none() {
    let stage = Stage::with_every_state();
    let said = stage.run(&["results", "--text"]);
    assert_eq!((said.code, said.out.as_str()), (0, "The answer."));
    assert_eq!(said.err, "2 jobs have no text: 1 cancelled, 1 invalid_request");
    sql(
        &stage.database(),
        "UPDATE attempts SET stop_reason = 'tool_use' WHERE id = 1;
         UPDATE responses SET text = ''",
    );
    let said = stage.run(&["results", "3", "--format", "text"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    assert_eq!(said.err, "1 job has no text: 1 tool_use");
}

#[test]
fn a_person_sees_a_line_each() {
    let stage = Stage::with_every_state();
    let shown = stage.ok(&["results", "--table"]);
    let expected = "       3  succeeded  k3  The answer.\n       \
        4  failed     invalid_request: messages: too many\n       \
        5  cancelled  cancelled: cancelled before it ran";
    assert_eq!(format!("       {}", shown.trim_start()), expected);
    sql(&stage.database(), "UPDATE attempts SET stop_reason = 'max_tokens' WHERE id = 1");
    let shown = stage.ok(&["results", "--table", "3"]);
    assert!(shown.ends_with("3  succeeded  k3  (max_tokens) The answer."), "{shown}");
    assert!(stage.on_terminal(&["results"]).out.contains("\u{1b}[32msucceeded\u{1b}[0m"));
    assert!(stage.on_terminal(&["results", "3", "--json"]).out.starts_with("{\"seq\":1,"));
}

#[test]
fn follow_prints_what_comes_and_ends_with_the_last() {
    let stage = Stage::with_every_state();
    let _daemon = FlockHolder::of(&stage.database());
    let (child, mut out) = spawned(stage.command(&["follow", "1", "2", "3"]));
    assert_eq!(next(&mut out)["id"], 3);
    end(&stage, 2, "succeeded");
    let second = next(&mut out);
    assert_eq!((&second["id"], &second["seq"]), (&2.into(), &4.into()));
    end(&stage, 1, "succeeded");
    assert_eq!(next(&mut out)["id"], 1);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // From where another one was stopped.
    let rest = stage.ok(&["follow", "1", "2", "3", "--after", "4"]);
    assert_eq!(lines(&rest).len(), 1);
    assert_eq!(stage.ok(&["follow", "1", "--after", "last"]), "");
}

#[test]
fn follow_ends_as_wait_does() {
    let stage = Stage::with_every_state();
    for (args, code, ids) in [
        (&["3"][..], 0, &[3][..]),
        (&["--key", "k3"], 0, &[3]),
        (&["--batch", "nightly"], 1, &[3, 4]),
        (&["--batch", "nightly", "--state", "failed"], 1, &[4]),
        (&["6"], 8, &[]),
        (&["99"], 1, &[]),
        (&["--key", "nobody's"], 1, &[]),
        (&[], 69, &[3, 4, 5]),
    ] {
        let said = stage.run(&[&["follow"], args].concat());
        let seen: Vec<i64> =
            lines(&said.out).iter().map(|line| line["id"].as_i64().unwrap()).collect();
        assert_eq!((said.code, seen.as_slice()), (code, ids), "{args:?} {said:?}");
    }
    let _daemon = FlockHolder::of(&stage.database());
    let said = stage.run(&["follow", "1", "4", "--timeout", "10ms"]);
    assert_eq!((said.code, lines(&said.out).len()), (8, 1), "{said:?}");
    let said = stage.run(&["follow", "1", "4", "--fail-fast", "--timeout", "60s"]);
    assert_eq!((said.code, lines(&said.out).len()), (1, 1), "{said:?}");
    assert!(said.err.starts_with("1 failed, 0 cancelled, 1 job is not finished: "), "{said:?}");
}

#[test]
fn results_that_are_followed_go_on_until_somebody_ends_it() {
    let stage = Stage::with_every_state();
    // No daemon runs: there may be one later.
    let (child, mut out) = spawned(stage.command(&["results", "--follow", "--limit", "4"]));
    for id in [3, 4, 5] {
        assert_eq!(next(&mut out)["id"], id);
    }
    end(&stage, 1, "succeeded");
    assert_eq!(next(&mut out)["id"], 1);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    // All up to the fourth was looked at, though only the first was wanted.
    let said = stage.when_it_says("The answer.", "\u{3}", &["results", "--follow", "3"]);
    assert_eq!(said.code, 130, "{said:?}");
    assert!(said.out.contains("claudeq: stopped; --after 4 goes on from here"), "{said:?}");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let stage = Stage::with_every_state();
    let _daemon = FlockHolder::of(&stage.database());
    for args in [&["follow", "1", "3"][..], &["results", "--follow", "--format", "csv"]] {
        let (child, out) = spawned(stage.command(args));
        drop(out);
        // It finds out when it has something to say.
        end(&stage, 1, "succeeded");
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        sql(
            &stage.database(),
            "UPDATE job_state SET state = 'queued', finished_seq = NULL, finished_at = NULL
             WHERE id = 1",
        );
    }
}

const HOSTILE: &str = "
INSERT INTO responses VALUES (3, '{\"type\": \"m' || char(0x9b) || '\"}',
  'a' || char(27) || '[2J' || char(10) || char(0x202e) || 'b');
INSERT INTO jobs (prompt, key) VALUES ('x', 'k' || char(27) || ']0;x' || char(7));
UPDATE job_state SET state = 'succeeded', finished_seq = 9, finished_at = 1, attempt_id = 3
  WHERE id = 7;
UPDATE job_state SET error = 'e' || char(27) || 'c' WHERE id = 4;
UPDATE sequences SET value = 9 WHERE name = 'finished';
";

#[test]
fn nothing_hostile_reaches_a_terminal() {
    let stage = Stage::with_every_state();
    sql(&stage.database(), HOSTILE);
    for args in [
        &["results"][..],
        &["results", "--json"],
        &["results", "--text"],
        &["results", "--format", "csv", "--columns", "key,text,error,response"],
        &["results", "--format", "batch"],
        &["follow", "4", "7", "--fail-fast"],
    ] {
        let mut bare = stage.on_terminal(args).out;
        for code in ["0", "1", "2", "31", "32", "33", "36"] {
            bare = bare.replace(&format!("\u{1b}[{code}m"), "");
        }
        let bad = |c: char| {
            let is_ours = matches!(c, '\r' | '\n');
            !is_ours && (c.is_control() || matches!(u32::from(c), 0x202a..=0x202e))
        };
        assert!(!bare.contains(bad), "{args:?}: {bare:?}");
        assert!(bare.contains("\\x1b") || bare.contains("\\u001b"), "{args:?}: {bare:?}");
    }
    // A pipe gets what is there.
    assert_eq!(stage.ok(&["results", "7", "--text"]), "a\u{1b}[2J\n\u{202e}b");
    let mut narrow = stage.command(&["results", "--table"]);
    narrow.env("COLUMNS", "40");
    assert!(said(narrow).out.lines().all(|line| line.chars().count() <= 40));
}
