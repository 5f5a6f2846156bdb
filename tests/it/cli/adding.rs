//! `claudeq add`, without an answer.

use super::stage::{Stage, said};
use crate::helper::Said;
use std::io::Write;
use std::process::Stdio;

fn add_from_stdin(stage: &Stage, args: &[&str], input: &[u8]) -> Said {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(input).expect("it can be written");
    std::io::Seek::rewind(&mut file).expect("it can be rewound");
    let mut command = stage.command(args);
    command.stdin(Stdio::from(file));
    said(command)
}

#[test]
fn it_prints_the_id_alone() {
    let stage = Stage::ready();
    assert_eq!(stage.ok(&["add", "Say hi"]), "1");
    assert_eq!(stage.ok(&["add", "Say hi", "--json"]), "{\"id\":2}");
    assert_eq!(stage.ok(&["--db", "queue.db", "add", "Say hi"]), "3");
}

#[test]
fn every_column_can_be_given() {
    let stage = Stage::ready();
    stage.ok(&[
        "add",
        "Say hi",
        "--model",
        "m",
        "--max-tokens",
        "7",
        "--system",
        "s",
        "--queue",
        "q",
        "--batch",
        "b",
        "--key",
        "k",
        "--priority",
        "-5",
        "--run-at",
        "2h",
        "--expires-at",
        "2100-01-01T00:00:00Z",
        "--max-attempts",
        "3",
        "--metadata",
        "{\"mine\": 1}",
    ]);
    assert_eq!(
        stage.value(
            "SELECT prompt, model, max_tokens, system, queue, batch, key, priority, expires_at, \
             max_attempts, metadata, (run_at - created_at) / 60000 BETWEEN 119 AND 121 FROM jobs"
        ),
        "Say hi|m|7|s|q|b|k|-5|4102444800000|3|{\"mine\": 1}|1"
    );
    // The same queue and key: the same job.
    let again = stage.ok(&["add", "Say hi", "--queue", "q", "--key", "k"]);
    assert_eq!(again, "1");
}

#[test]
fn a_prompt_comes_from_standard_input_without_its_last_line_feed() {
    let stage = Stage::ready();
    add_from_stdin(&stage, &["add", "-"], b"two\nlines\n").unwrap();
    assert_eq!(stage.value("SELECT hex(prompt) FROM jobs"), "74776F0A6C696E6573");
    let said = add_from_stdin(&stage, &["add", "-"], b"no \xff text");
    assert_eq!(
        (said.code, said.err.as_str()),
        (65, "claudeq: standard input is not UTF-8 text (byte 4)")
    );
}

#[test]
fn a_request_is_stored_byte_for_byte() {
    let stage = Stage::ready();
    let body = "{\"max_tokens\": 9,\n \"messages\": [{\"role\": \"user\", \"content\": \"ü\"}]}\n";
    std::fs::write(stage.path().join("request.json"), body).unwrap();
    stage.ok(&["add", "--file", "request.json"]);
    add_from_stdin(&stage, &["add", "--file", "-"], body.as_bytes()).unwrap();
    assert_eq!(stage.value("SELECT count(*) FROM jobs WHERE prompt IS NULL"), "2");
    let stored = stage.value("SELECT request FROM jobs WHERE id = 1");
    assert_eq!(stored, body.trim_end());
}

#[test]
fn bad_input_is_refused_before_anything_is_inserted() {
    let stage = Stage::ready();
    let file = |name: &str, text: &str| std::fs::write(stage.path().join(name), text).unwrap();
    file("cut.json", "{\"messages\": [\n  {\"role\": \"user\",}\n]}");
    file("list.json", "[1, 2]");
    file("empty.json", "");
    for (args, code, message) in [
        (["--file", "cut.json"], 65, "claudeq: cut.json:2:19: no JSON: trailing comma"),
        (["--file", "list.json"], 65, "claudeq: list.json: a Messages API body is a JSON object"),
        (["--file", "empty.json"], 65, "claudeq: empty.json:1:0: no JSON: EOF"),
        (["--file", "gone.json"], 66, "claudeq: cannot read gone.json: No such file"),
        (["x", "--priority=500"], 65, "claudeq: jobs.priority must be an integer from -100 to 100"),
        (["x", "--max-attempts=0"], 65, "claudeq: jobs.max_attempts must be an integer from 1"),
        (["x", "--model="], 65, "claudeq: jobs.model must be text of 1 to 200 characters"),
        (["x", "--queue=*"], 65, "claudeq: jobs.queue must be text"),
        (["", "--queue=q"], 65, "claudeq: jobs.prompt must be text and not empty"),
        (["x", "--run-at=soon"], 2, "error: invalid value 'soon'"),
        (["x", "--max-tokens=many"], 2, "error: invalid value 'many'"),
        (["x", "--file=list.json"], 2, "error: "),
    ] {
        let said = stage.run(&[&["add"], &args[..]].concat());
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(said.err.starts_with(message), "{args:?}: {}", said.err);
    }
    assert_eq!(stage.run(&["add"]).code, 2);
    assert_eq!(stage.value("SELECT count(*) FROM jobs"), "0");
}

#[test]
fn the_same_key_with_another_prompt_is_refused() {
    let stage = Stage::ready();
    stage.ok(&["add", "one", "--key", "k"]);
    let said = stage.run(&["add", "another", "--key", "k"]);
    assert_eq!(said.code, 65);
    assert!(said.err.starts_with("claudeq: jobs.key: this queue has a job with the same key"));
}

#[test]
fn waiting_without_a_daemon_says_so_at_once_and_keeps_the_job() {
    let stage = Stage::ready();
    let said = stage.run(&["add", "Say hi", "--wait"]);
    assert_eq!((said.code, said.out.as_str()), (69, ""));
    assert!(said.err.starts_with("claudeq: job 1 is added, but no daemon runs"), "{}", said.err);
    assert_eq!(stage.value("SELECT state FROM job_state"), "queued");
}
