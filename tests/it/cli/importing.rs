//! `claudeq import`: every format, what is wrong with a file, and what a stop leaves.

use super::stage::{Stage, said};
use crate::helper::{Said, eventually};
use claudeq::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::process::Stdio;

impl Stage {
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), bytes).expect("it can be written");
    }

    /// `import` of standard input.
    fn import_stdin(&self, input: &[u8], args: &[&str]) -> Said {
        self.file("stdin", input);
        let mut command = self.command(&[&["import", "-"], args].concat());
        let input = File::open(self.path().join("stdin")).expect("it can be read");
        command.stdin(Stdio::from(input));
        said(command)
    }

    /// A column of all jobs in their order.
    fn jobs(&self, column: &str) -> String {
        self.value(&format!(
            "SELECT group_concat({column}, '|') FROM (SELECT * FROM jobs ORDER BY id)"
        ))
    }
}

#[test]
fn each_kind_of_json_line() {
    let stage = Stage::ready();
    stage.file(
        "jobs.jsonl",
        "\u{feff}{\"prompt\": \"a\", \"key\": 7, \"queue\": \"side\", \"priority\": 3}\r\n\
         \n\
         {\"messages\": [],  \"model\": \"m\"}\n\
         \t \n\
         {\"custom_id\": \"c\", \"params\": {\"messages\": [ ]}}",
    );
    let args = ["import", "jobs.jsonl", "--batch", "b", "--priority", "-2", "--model", "n"];
    assert_eq!(stage.ok(&args), "added 3 jobs");
    assert_eq!(
        stage.value(
            "SELECT prompt, request, key, queue, priority, batch, model, run_at \
             FROM jobs ORDER BY id"
        ),
        "a||7|side|3|b|n|\n|{\"messages\": [],  \"model\": \"m\"}||default|-2|b|n|\n\
         |{\"messages\": [ ]}|c|default|-2|b|n|"
    );
}

#[test]
fn tables_and_plain_lines() {
    let stage = Stage::ready();
    let table = "\u{feff}id,the text,size\r\n1,\"one,\r\ntwo\",x\r\n\r\n2,it's \"3\",\r\n";
    stage.file("table.csv", table);
    let template = ["--template", "Sum {{size}}: {{ the text }}", "--key-col", "id"];
    assert_eq!(stage.ok(&[&["import", "table.csv"], &template[..]].concat()), "added 2 jobs");
    assert_eq!(stage.jobs("key || '=' || prompt"), "1=Sum x: one,\r\ntwo|2=Sum : it's \"3\"");

    let stage = Stage::ready();
    stage.file("jobs.tsv", "prompt\tmax_tokens\tkey\na, b\t9\t\nc\t\tk\n");
    assert_eq!(stage.ok(&["import", "jobs.tsv", "--max-tokens", "5"]), "added 2 jobs");
    assert_eq!(stage.jobs("prompt || max_tokens || ifnull(key, '-')"), "a, b9-|c5k");

    let stage = Stage::ready();
    stage.file("lines.txt", "one\r\n\n two\nthree");
    assert_eq!(stage.ok(&["import", "lines.txt"]), "added 3 jobs");
    let rows = "{\"name\": \"Ada\", \"nr\": 1}\n{\"name\": null, \"nr\": 2}\n";
    let template = ["--template", "Greet {{name}}", "--key-col", "nr", "--keep-going"];
    let said = stage.import_stdin(rows.as_bytes(), &template);
    assert_eq!((said.code, said.out.as_str()), (65, "added 1 job; 1 bad line"));
    assert_eq!(said.err, "standard input:2: `name` is null");
    assert_eq!(stage.value("SELECT prompt FROM jobs WHERE key = '1'"), "Greet Ada");
    stage.value("DELETE FROM jobs WHERE key = '1'");
    let said = stage.import_stdin(b"x\n", &["--format", "lines", "--template", "<{{line}}>"]);
    assert_eq!(said.unwrap(), "added 1 job");
    assert_eq!(stage.jobs("prompt"), "one| two|three|<x>");
}

#[test]
fn standard_input_says_its_format_by_its_first_byte() {
    let stage = Stage::ready();
    let json = stage.import_stdin(b"{\"prompt\": \"a\"}\n", &["--json"]).unwrap();
    let summary: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(summary["added"], 1);
    assert_eq!((&summary["file"], &summary["bad"]), (&"standard input".into(), &0.into()));
    assert_eq!(stage.import_stdin(b"", &[]).unwrap(), "added 0 jobs");
    let unknown = stage.import_stdin(b"Say hi\n", &[]);
    assert_eq!(unknown.code, 2);
    let said = "claudeq: which format has standard input? say it with --format jsonl, csv, tsv or \
                lines";
    assert_eq!(unknown.err, said);
}

/// More than a group, so that some of it is in when the bad line comes.
fn many(count: usize, last: &str, key: bool) -> String {
    let line = |row: usize| match key {
        true => format!("{{\"prompt\": \"p{row}\", \"key\": \"k{row}\"}}\n"),
        false => format!("{{\"prompt\": \"p{row}\"}}\n"),
    };
    (1..=count).map(line).collect::<String>() + last
}

#[test]
fn a_bad_line_at_the_end_loses_nothing_of_the_rest() {
    let stage = Stage::ready();
    for (row, last, why) in [
        (1_201, "{\"prompt\": \"cut", "no JSON object: the line ends while parsing a string"),
        (2_402, "{\"prompt\": \"\"}", "jobs.prompt must be text and not empty"),
    ] {
        stage.file("jobs.jsonl", many(1_200, last, false));
        let said = stage.run(&["import", "jobs.jsonl"]);
        assert_eq!((said.code, said.out.as_str()), (65, "added 1,200 jobs; 1 bad line"));
        let first = format!("claudeq: jobs.jsonl:1201: {why}");
        assert!(said.err.starts_with(&first), "{}", said.err);
        let rest: Vec<&str> = said.err.lines().skip(1).collect();
        let hints = [
            "1,200 jobs are in; go on with --skip-lines 1200",
            "--keep-going leaves bad lines out and names all of them",
        ];
        assert_eq!(rest, hints);
        assert_eq!(stage.value("SELECT count(*) + 1 FROM jobs"), (row - row / 2_402).to_string());
    }
    // Mended, and gone on with as it was said.
    stage.file("jobs.jsonl", many(1_200, "{\"prompt\": \"last\"}", false));
    assert_eq!(stage.ok(&["import", "jobs.jsonl", "--skip-lines", "1200"]), "added 1 job");
    assert_eq!(stage.value("SELECT prompt FROM jobs ORDER BY id DESC LIMIT 1"), "last");
}

#[test]
fn what_lies_behind_a_bad_line_waits() {
    let stage = Stage::ready();
    let text = many(700, "{\"prompt\": \"x\", \"key\": \"y\", \"priority\": 500}\n", true);
    stage.file("jobs.jsonl", text.clone() + &many(900, "", true).replace(": \"k", ": \"m"));
    let said = stage.run(&["import", "jobs.jsonl"]);
    assert_eq!((said.code, said.out.as_str()), (65, "added 700 jobs; 1 bad line"));
    let first = "claudeq: jobs.jsonl:701: jobs.priority must be an integer from -100 to 100; \
                 higher goes first\n700 jobs are in; go on with --on-duplicate skip\n";
    assert!(said.err.starts_with(first), "{}", said.err);
    assert_eq!(stage.value("SELECT count(*), max(key GLOB 'm*') FROM jobs"), "700|0");
    stage.file(
        "jobs.jsonl",
        text.replace("500}", "50}") + &many(900, "", true).replace(": \"k", ": \"m"),
    );
    let said = stage.ok(&["import", "jobs.jsonl", "--on-duplicate", "skip"]);
    assert_eq!(said, "added 901 jobs; left out 700 that were there");
}

#[test]
fn bad_lines_are_collected() {
    let stage = Stage::ready();
    let mut text = many(600, "", true).into_bytes();
    text.extend(b"nonsense\n{\"prompt\": \"a\", \"key\": \"k5\"}\n{\"prompt\": \"\xff\"}\n");
    text.extend(
        b"{\"prompt\": \"a\", \"max_tokens\": -1}\n{\"prompt\": \"p6\", \"key\": \"k6\"}\n",
    );
    text.extend(b"{\"prompt\": \"a\0\"}\n\n{\"prompt\": \"good\", \"key\": \"good\"}\n");
    stage.file("jobs.jsonl", text);
    let said = stage.run(&["import", "jobs.jsonl", "--keep-going"]);
    assert_eq!((said.code, said.out.as_str()), (65, "added 601 jobs; 6 bad lines"));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(
        lines,
        [
            "jobs.jsonl:601: no JSON object: expected ident (column 2)",
            "jobs.jsonl:602: job 5 has this key already, with another prompt or request",
            "jobs.jsonl:603: not UTF-8 text (byte 13)",
            "jobs.jsonl:604: jobs.max_tokens must be an integer from 0 to 10000000",
            "jobs.jsonl:605: it is there already: job 6",
            "jobs.jsonl:606: it has a NUL byte: is it text in UTF-8?",
        ]
    );
    // A person sees the first twenty; the bar is gone in the end.
    stage.file("bad.txt", "{\n".repeat(30));
    let args = ["import", "bad.txt", "--format", "jsonl", "--keep-going"];
    let seen = stage.on_terminal(&args).out;
    assert!(seen.contains("bad.txt:20: ") && !seen.contains("bad.txt:21: "), "{seen}");
    assert!(seen.contains("and 10 more bad lines; 2> FILE has all of them"), "{seen}");
}

#[test]
fn a_terminal_sees_how_far_it_is() {
    let stage = Stage::ready();
    stage.file("jobs.jsonl", many(600, "", true));
    let seen = stage.on_terminal(&["import", "jobs.jsonl"]);
    assert_eq!(seen.code, 0);
    assert!(seen.out.contains('━') && seen.out.contains(" %  512 rows"), "{:?}", seen.out);
    let last = seen.out.rsplit("\u{1b}[K").next().unwrap();
    let said = "added 600 jobs\r\nno daemon runs: they start when `claudeq daemon` does\r\n";
    assert_eq!(last, said);
    assert_eq!(stage.run(&["import", "jobs.jsonl", "--on-duplicate", "skip"]).err, "");
}

#[test]
fn duplicates_are_errors_or_left_out_or_take_the_place() {
    let stage = Stage::with_every_state();
    // Job 3 was answered, job 7 waits.
    stage.ok(&["add", "waits", "--key", "k7"]);
    let text = "{\"prompt\":\"new\",\"key\":\"k7\"}\n{\"prompt\":\"is answered\",\"key\":\"k3\"}\n";
    stage.file("jobs.jsonl", text);
    let said = stage.run(&["import", "jobs.jsonl"]);
    assert_eq!((said.code, said.out.as_str()), (65, "added 0 jobs; 1 bad line"));
    let lines: Vec<&str> = said.err.lines().collect();
    let first = "claudeq: jobs.jsonl:1: job 7 has this key already, with another prompt or request";
    assert_eq!(lines[..2], [first, "nothing was added"]);
    assert!(lines[2].starts_with("--on-duplicate skip leaves out what is there already"));

    let skipped = stage.ok(&["import", "jobs.jsonl", "--on-duplicate", "skip"]);
    assert_eq!(
        skipped,
        "added 0 jobs; left out 2 that were there, 1 with another prompt or request"
    );
    let args = ["import", "jobs.jsonl", "--on-duplicate", "replace"];
    // What is the same stays, whatever has become of it.
    let replaced = stage.run(&args);
    assert_eq!(replaced.out, "added 1 job, 1 of them in place of others; 1 bad line", "the batch");
    let said =
        "claudeq: jobs.jsonl:2: job 3 has this key and is succeeded, so it is not replaced\n";
    assert!(replaced.err.starts_with(said), "{}", replaced.err);
    assert_eq!(stage.ok(&[&args[..], &["--batch", "nightly"]].concat()).lines().count(), 1);
    assert_eq!(stage.value("SELECT id, prompt FROM jobs WHERE key = 'k7'"), "9|new");
}

#[test]
fn files_that_are_no_good() {
    let stage = Stage::ready();
    std::fs::create_dir(stage.path().join("folder.csv")).unwrap();
    stage.file("utf16.csv", b"\xff\xfei\0d\0\n\0");
    stage.file("packed.jsonl.gz", b"\x1f\x8b\x08\x00");
    stage.file("array.json", "[{\"prompt\": \"a\"}]\n");
    stage.file("empty.csv", "\r\n");
    stage.file("open.csv", "id,text\n1,a\n2,\"b\n3,c\n");
    stage.file("short.csv", "id,text\n1\n");
    stage.file("latin.csv", b"id,text\n1,gr\xfcn\n");
    stage.file("words", "a\n");
    let template = &["--template", "{{text}}"][..];
    for (file, args, code, said) in [
        ("gone.jsonl", &[][..], 66, "cannot read gone.jsonl: No such file"),
        ("folder.csv", &[], 65, "folder.csv is a directory"),
        ("utf16.csv", template, 65, "utf16.csv is UTF-16; write it as UTF-8 first (iconv)"),
        ("packed.jsonl.gz", &[], 65, "packed.jsonl.gz is compressed; unpack it first (gzip -dc)"),
        ("array.json", &[], 65, "array.json:1: a JSON array; one object a line is wanted"),
        ("empty.csv", template, 65, "empty.csv is empty: it has no head line"),
        (
            "open.csv",
            template,
            65,
            "stopped: 1 job is in; go on with --skip-lines 2\n\
             claudeq: open.csv: a quote on line 3 is not closed",
        ),
        ("short.csv", template, 65, "short.csv:2: 1 fields, but the head line has 2"),
        ("latin.csv", template, 65, "latin.csv:2: not UTF-8 text (byte 3)"),
        ("words", &[], 2, "which format has words?"),
        ("open.csv", &[], 2, "\"text\" is no column of jobs: say how"),
        ("open.csv", &["--template", "{{x}}"], 2, "there is no column \"x\"; there are: id, text"),
        ("open.csv", &["--template", "x"], 2, "the template has no {{column}}"),
        ("open.csv", &["--template", "{{text}}", "--key-col", "k"], 2, "there is no column \"k\""),
        ("open.csv", &["--key-col", "id"], 2, "--key-col goes with --template"),
        ("array.json", &["--template", "{{x"], 2, "the template has {{ without }}"),
        ("array.json", &["--key-col", "id"], 2, "--key-col goes with --template"),
        ("words", &["--format", "lines", "--key-col", "id"], 2, "--key-col is for jsonl, csv and"),
    ] {
        let answer = stage.run(&[&["import", file], args].concat());
        assert_eq!(answer.code, code, "{file} {args:?}: {answer:?}");
        assert!(answer.err.starts_with(&format!("claudeq: {said}")), "{file}: {}", answer.err);
    }
    assert_eq!(stage.jobs("prompt"), "a", "of open.csv alone");
    let said = stage.run(&["import", "words", "--format", "lines", "--db", "none.db"]);
    assert_eq!((said.code, said.out.as_str()), (66, ""));
}

#[test]
fn a_line_that_no_job_may_have_is_left_out() {
    let stage = Stage::ready();
    let mut file = BufWriter::new(File::create(stage.path().join("lines.txt")).unwrap());
    file.write_all(b"one\n").unwrap();
    io::copy(&mut io::repeat(b'x').take((64 << 20) + 1), &mut file).unwrap();
    file.write_all(b"\nthree\n").unwrap();
    drop(file);
    let said = stage.run(&["import", "lines.txt", "--keep-going"]);
    assert_eq!((said.code, said.out.as_str()), (65, "added 2 jobs; 1 bad line"));
    assert_eq!(said.err, "lines.txt:2: longer than 64 MiB, which no job may be");
}

#[test]
fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let stage = Stage::ready();
    stage.ok(&["add", "there", "--key", "k1"]);
    stage.file("jobs.jsonl", many(1_000, "", true));
    let args = ["import", "jobs.jsonl", "--dry-run", "--max-tokens", "100"];
    let refused = stage.run(&args);
    assert_eq!((refused.code, refused.err.lines().count()), (65, 1), "{refused:?}");
    assert!(refused.err.ends_with("job 1 has this key already, with another prompt or request"));

    let skip = [&args[..], &["--on-duplicate", "skip"]].concat();
    let text = stage.ok(&skip);
    let lines: Vec<&str> = text.lines().collect();
    let first =
        "would add 999 jobs; leave out 1 that was there, 1 with another prompt or request; ≈ ";
    assert!(lines[0].starts_with(first), "{text}");
    assert!(lines[0].contains(" input and 99.9k output tokens, $"), "{text}");
    assert!(lines[1].starts_with("with all that waits: done in "), "{text}");
    let json = stage.ok(&[&skip[..], &["--json"]].concat());
    let summary: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&summary["added"], &summary["dry_run"]), (&999.into(), &true.into()));
    assert_eq!(summary["output_tokens"], 99_900);
    assert!(summary["usd"].as_f64().unwrap() > 0.1 && summary["finishes_at"].is_i64(), "{json}");
    assert_eq!(stage.jobs("prompt"), "there");
}

/// Also of lines so far apart that they do not go in together.
#[test]
fn a_dry_run_finds_keys_that_come_twice() {
    let stage = Stage::ready();
    let mut rows = many(2_000, "", true);
    let eighth = rows.lines().nth(7).unwrap().to_owned();
    rows += "{\"prompt\": \"again\", \"key\": \"k7\"}\n";
    rows += &format!("{eighth}\n{{\"prompt\": \"new\", \"key\": \"other\"}}\n");
    stage.file("jobs.jsonl", rows);
    let run = |args: &[&str]| stage.run(&[&["import", "jobs.jsonl"], args].concat());
    let refused = run(&["--dry-run"]);
    assert_eq!(refused.code, 65, "{refused:?}");
    assert_eq!(
        refused.err.lines().last(),
        Some("claudeq: jobs.jsonl:2001: line 7 has this key already")
    );
    assert!(refused.out.starts_with("would add 2,000 jobs; 1 bad line; ≈ "), "{refused:?}");
    let all = run(&["--dry-run", "--keep-going"]);
    assert!(all.err.contains("jobs.jsonl:2002: line 8 is the same"), "{all:?}");
    for (rule, said) in [
        ("skip", "add 2,001 jobs; leave out 2 that were there, 1 with another prompt or request"),
        ("replace", "add 2,002 jobs, 1 of them in place of others; leave out 1 that was there"),
    ] {
        let dry = run(&["--dry-run", "--on-duplicate", rule]);
        assert!(dry.out.starts_with(&format!("would {said}; ≈ ")), "{dry:?}");
    }
    // What is done then is what was said.
    let done = run(&["--on-duplicate", "replace"]);
    assert_eq!(
        done.out,
        "added 2,002 jobs, 1 of them in place of others; left out 1 that was there"
    );
}

#[test]
fn an_interrupt_says_how_to_go_on_and_a_pipe_is_not_waited_for() {
    let stage = Stage::ready();
    let mut command = stage.command(&["import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let count = || stage.value("SELECT count(*) FROM jobs");
    // What has come goes in while the rest is still to come, and others can write meanwhile.
    pipe.write_all(b"{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n").unwrap();
    eventually("both are in", || (count() == "2").then_some(()));
    stage.ok(&["add", "from somebody else"]);
    pipe.write_all(b"{\"prompt\": \"three\"}\n").unwrap();
    eventually("the third is in", || (count() == "4").then_some(()));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = Said::of(&output);
    assert_eq!((said.code, said.out.as_str()), (130, "added 3 jobs"));
    assert_eq!(said.err, "claudeq: stopped: 3 jobs are in; go on with --skip-lines 3");
    drop(pipe);
}

#[tokio::test]
async fn a_database_that_is_busy_is_said_with_what_is_in() {
    let stage = Stage::ready();
    let mut command = stage.command(&["import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"{\"prompt\": \"one\"}\n").unwrap();
    let count = || stage.value("SELECT count(*) FROM jobs");
    eventually("it is in", || (count() == "1").then_some(()));
    let options = SqliteConnectOptions::new().filename(stage.database());
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    pipe.write_all(b"{\"prompt\": \"two\"}\n").unwrap();
    drop(pipe);
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (75, "added 1 job"));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines[0], "claudeq: stopped: 1 job is in; go on with --skip-lines 1");
    assert!(lines[1].starts_with("claudeq: queue.db is busy: "), "{}", said.err);
    other.close().await.unwrap();
}

/// How it knows that others are to get in between.
#[tokio::test]
async fn another_process_is_seen_as_long_as_it_has_the_database_open() {
    let stage = Stage::ready();
    let store = Store::open(&stage.database()).await.unwrap();
    assert!(!store.is_shared());
    let mut command = stage.command(&["import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("it has it open", || store.is_shared().then_some(()));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!store.is_shared());
    store.close().await;
}
